"""What follows the network is chosen by what it does to the Dice of validation images, and by nothing else."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from BreastUSAILib.chan_vese import ChanVeseParameters
from BreastUSAILib.components import keep_components
from BreastUSAILib.evaluation.segmentation_data import read_cases
from BreastUSAILib.models.folder import CONFIG, save_model
from BreastUSAILib.models.zoo import load
from BreastUSAILib.networks.roi_cnn import RoiCnn
from BreastUSAILib.training.postprocessing import (
    REFINERS,
    Seen,
    choose,
    choose_and_record,
    see,
    see_nearer,
    size_choices,
    standard_error,
)

SIZE = 192
SMALL, LARGE = 160, 224


def _seen(level, good=SIZE, source="a"):
    """A dark disc; at the size `good` the map says `level` inside it, at the others it says so of a shifted disc."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:90, :110]
    truth = (y - 45) ** 2 + (x - 55) ** 2 < 20**2
    shifted = (y - 45) ** 2 + (x - 80) ** 2 < 20**2
    pixels = (random.rayleigh(50, truth.shape) * np.where(truth, 0.3, 1)).astype(np.float32)
    maps = {s: np.where(truth if s == good else shifted, level, 0.05).astype(np.float16) for s in (SMALL, SIZE, LARGE)}
    return Seen(source, pixels, (1.0, 1.0), maps, truth)


def test_sizes_are_multiples_of_the_stride_about_the_trained_one():
    assert size_choices(192) == [(192,), (224,), (160, 192), (192, 224), (160, 192, 224)]
    assert all(s % 16 == 0 for size in (64, 128, 288) for choice in size_choices(size) for s in choice if s != size)


@pytest.mark.parametrize("good,expected", [(SIZE, [SIZE]), (LARGE, [LARGE])])
def test_the_size_that_sees_best_is_chosen(good, expected):
    choice, tried = choose([_seen(0.9, good)] * 3, SIZE)
    assert choice["sizes"] == expected
    assert tried["sizes"][str(expected[0])] == 1.0


def test_of_sizes_within_a_standard_error_the_most_are_taken():
    # Three images on which all sizes see the lesion, one on which only SIZE sees anything, beside it.
    clear = _seen(0.9)
    clear = [replace(clear, maps=dict.fromkeys(clear.maps, clear.maps[SIZE]))] * 3
    hard = _seen(0.9, LARGE)
    hard = replace(hard, maps=hard.maps | dict.fromkeys((SMALL, LARGE), np.full_like(hard.maps[SIZE], 0.05)))
    low = _dice_of_shifted()
    choice, tried = choose([*clear, hard], SIZE)
    error = np.std([1, 1, 1, low], ddof=1) / 2
    assert tried["sizes_standard_error"] == pytest.approx(error)
    assert max(tried["sizes"].values()) == tried["sizes"][str(SIZE)] == pytest.approx((3 + low) / 4)
    assert choice["sizes"] == ([SMALL, SIZE, LARGE] if low / 4 < error else [SIZE])
    assert len(choose([*clear, *clear, *clear, hard], SIZE)[0]["sizes"]) == 3


def test_standard_error_of_the_mean_of_groups():
    # Variances 1 and 4 of two values each: sqrt(1/2 + 4/2) / 2.
    groups = [np.array([0.0, 2**0.5]), np.array([0.0, 2 * 2**0.5])]
    assert standard_error(groups) == pytest.approx((0.5 + 2.0) ** 0.5 / 2)
    assert standard_error([np.array([3.0])]) == 0


def test_the_threshold_fits_what_the_network_says():
    choice, _ = choose([_seen(0.42)] * 3, SIZE)
    assert choice["threshold"] in (0.35, 0.4)


def test_a_small_data_set_counts_as_much_as_a_large_one():
    # Two of "a" see best at SIZE; the one of "b" at LARGE.
    seen = [_seen(0.9, SIZE), _seen(0.9, SIZE), _seen(0.9, LARGE, "b")]
    _, tried = choose(seen, SIZE)
    alone = tried["sizes"][str(SIZE)]
    assert alone == pytest.approx((1 + _dice_of_shifted()) / 2)


@pytest.mark.parametrize(("better", "expected"), [((2.2,), [2.2]), ((), [])])
def test_looks_from_nearer_are_taken_where_they_help(better, expected):
    """The first look sees a lesion of half the size; the looks of one choice see all of it and outdo it, others see nothing."""
    first = _seen(0.9)
    half = first.truth & (np.arange(first.truth.shape[1]) < 55)
    plain = first.truth if not better else half
    first = replace(first, maps=dict.fromkeys(first.maps, np.where(plain, 0.6, 0.05).astype(np.float16)))
    asked = []

    def again(seen, sizes, threshold):
        asked.append((tuple(sizes), threshold))
        window = (slice(10, 80), slice(20, 90))
        sees = {z: np.where(seen.truth, 1.0, 0.0) if z in better else np.zeros(seen.truth.shape) for z in (1.8, 2.2, 2.7)}
        return replace(seen, nearer={z: (window, m[window].astype(np.float16)) for z, m in sees.items()})

    choice, tried = choose([first] * 2, SIZE, again)
    assert choice["nearer"] == expected and len(asked) == 2 and all(row == asked[0] for row in asked)
    # Asked for at what was chosen before there were further looks.
    before, _ = choose([first] * 2, SIZE)
    assert asked[0] == (tuple(before["sizes"]), before["threshold"]) and before["nearer"] == []
    assert set(tried["nearer"]) == {"none", "1.8", "2.2", "2.7", "1.8 + 2.7"}
    assert ("threshold_with_nearer" in tried) == bool(better)


def test_the_refiner_is_told_the_data_sets_and_the_outlines_that_were_found(monkeypatch):
    import BreastUSAILib.evaluation.tune_refiner as tuner

    tune, given = tuner.tune, []

    def watched(cases, grid, threshold):
        given.extend(tuner.Case(*case) for case in cases)
        return tune(given, grid, threshold=threshold)

    monkeypatch.setattr(tuner, "tune", watched)
    nothing = replace(_seen(0.9), maps=dict.fromkeys((SMALL, SIZE, LARGE), np.zeros((90, 110), np.float16)))
    clear = _seen(0.9)
    clear = replace(clear, maps=dict.fromkeys(clear.maps, clear.maps[SIZE]))
    choose([clear, replace(clear, source="b"), nothing], SIZE)
    assert [case.source for case in given] == ["a", "b", "a"]
    assert [len(case.starts) for case in given] == [1, 1, 0]
    assert np.array_equal(given[0].starts[0], given[0].truth)


def test_what_is_seen_from_nearer_is_what_inference_sees():
    from pathlib import Path

    from BreastUSAILib.image import read_image
    from BreastUSAILib.segment import look

    model = load(device="cpu")
    case = next(c for c in read_cases(Path(__file__).parents[1] / "Data") if c.id == "case067")
    settings = model.entry.postprocessing
    sizes, threshold, zooms = settings["sizes"], settings["threshold"], settings["nearer"]
    (seen,) = see([case], model, sizes)
    mean = see_nearer(seen, model, sizes, threshold).mean(sizes, zooms)
    first = look(read_image(case.image).image, model)

    def kept(probability):
        return keep_components(probability > threshold, first.spacing, probability=probability, min_confidence=0.95)

    assert np.abs(first.again(kept, zooms, model).probability - mean).max() < 0.01  # half precision
    nothing = see_nearer(seen, model, sizes, 1.0)
    assert nothing.nearer == {} and np.array_equal(nothing.mean(sizes, zooms), nothing.mean(sizes))


def _dice_of_shifted():
    seen = _seen(0.9)
    shifted = seen.maps[SMALL] > 0.5
    return 2 * (shifted & seen.truth).sum() / (shifted.sum() + seen.truth.sum())


def test_the_refiner_that_is_chosen_is_the_best_of_those_tried_and_loads():
    choice, tried = choose([_seen(0.9), _seen(0.8)], SIZE)
    rows = tried["refiner"]
    assert len(rows) == 1 + len(REFINERS)
    paper = next(r for r in rows if r["window"] is None)
    ours = [r for r in rows if r is not paper]
    chosen = next(r for r in ours if r.items() >= choice["refiner"].items())
    assert paper["prior"] == 0 and chosen["mean_change"] == max(r["mean_change"] for r in ours)
    json.dumps(tried, allow_nan=False)
    ChanVeseParameters(**choice["refiner"])


def test_the_choice_is_written_to_the_models_config(tmp_path):
    from pathlib import Path

    torch.manual_seed(0)
    arguments = {"channels": [4] * 5, "convolutions": [1] * 5, "context_channels": 4, "decoder_channels": [4], "batch_norm": True}
    config = {
        "id": "tiny", "task": "segment", "version": "0", "network": "roi_cnn.RoiCnn", "arguments": arguments,
        "preprocessing": {"dimension": 2, "size": 64}, "trained_on": "nothing",
    }  # fmt: skip
    folder = save_model(tmp_path / "tiny", RoiCnn(**arguments), config)
    cases = read_cases(Path(__file__).parents[1] / "Data")[:2]
    choose_and_record(folder, cases)
    written = json.loads((folder / CONFIG).read_text())["postprocessing"]
    assert load(folder, device="cpu").entry.postprocessing == written
    assert json.loads((folder / "postprocessing.json").read_text())["tried"]["images"] == 2
    first = (folder / CONFIG).read_text()
    choose_and_record(folder, cases)
    assert (folder / CONFIG).read_text() == first
