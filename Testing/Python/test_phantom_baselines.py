"""Simple methods and figures on phantoms made by hand, where the right answers are known; pictures of them."""

import json
import math
from dataclasses import replace

import hand_made_phantom
import numpy as np
import pytest
from PIL import Image

from BreastUSAILib import cli
from BreastUSAILib.evaluation import blob_detector, phantom_baselines
from BreastUSAILib.evaluation.blob_detector import (
    BlobSettings,
    SmallVolume,
    detect,
    hits,
    judged,
    sensitivity,
    shrink,
    tune,
)
from BreastUSAILib.evaluation.metrics import roc_auc, sensitivity_at
from BreastUSAILib.phantom import contact_sheet, statistics
from BreastUSAILib.phantom.grids import PhantomGrid
from BreastUSAILib.phantom.spec import PhantomSpec

GRID = PhantomGrid((64, 32, 48), (0.5, 0.5, 0.6), top=3.0, whole=False)
SPEC = PhantomSpec(grid=GRID, lesions=2)
ACQUISITION = {"dynamic_range_db": 51.0, "grey_curve": 1.0, "looks": 1.0, "gain_db": 0.0}
EASY = BlobSettings(smoothing_mm=1.0, threshold=1.0, deepest_mm=60, compactness=0.3)


def made(seed=1, spec=SPEC):
    phantom = hand_made_phantom.generate(seed, spec)
    return hand_made_phantom.Phantom(seed, phantom.image, phantom.labels, phantom.lesions, {"acquisition": ACQUISITION})


# --------------------------------------------------------------------------------------------------------- detector


def test_shrinking_keeps_the_place_and_the_mean():
    phantom = made()
    small = shrink(phantom)
    assert small.voxels.shape == (24, 16, 32) and small.spacing == (1.2, 1.0, 1.0)
    assert small.corner == pytest.approx((0, GRID.top, 0), abs=1e-9)
    import SimpleITK as sitk

    first = sitk.GetArrayViewFromImage(phantom.image)[:2, :2, :2]
    assert small.voxels[0, 0, 0] == pytest.approx(first.mean())


def test_dark_balls_are_found_where_they_are():
    volume = shrink(made())
    found = detect(volume, EASY)
    assert [label for _, label in judged(volume, EASY)[:2]] in ([1, 2], [2, 1])
    assert found[0][0] >= found[1][0]
    for _, centre, size in found[:2]:
        nearest = min(volume.lesions, key=lambda lesion: math.dist(lesion.centre, centre))
        assert math.dist(nearest.centre, centre) < 1.2
        np.testing.assert_allclose(size, nearest.size, atol=3.0)
    assert sensitivity([judged(volume, EASY)], [2], 5) == 1.0


def test_nothing_is_found_where_nothing_is_asked_for():
    volume = shrink(made())
    for nothing in (BlobSettings(smallest_ml=50, largest_ml=60), BlobSettings(deepest_mm=1), BlobSettings(threshold=99)):
        assert detect(volume, nothing) == [] and judged(volume, nothing) == []


def test_what_counts_as_found():
    lesion = made().lesions[0]
    volume = SmallVolume(1, np.zeros((1, 1, 1), np.float32), (1, 1, 1), (0, 0, 0), (lesion,))
    centre, size = np.array(lesion.centre), np.array(lesion.size)
    boxes = [
        (centre, size),  # the lesion's own
        (centre, size / 10),  # inside, hardly any overlap
        (centre + (size[0] * 0.5 + 2, 0, 0), np.array([3.9, *size[1:]])),  # outside; does not touch
        (centre + (size[0] * 0.8, 0, 0), size),  # touches; centre outside
        (centre, size * 9),  # overlaps by 1/729
    ]
    places, sizes = (np.array(values) for values in zip(*boxes, strict=True))
    assert hits(volume, places, sizes, None) == [1, 1, -1, -1, 1]
    assert hits(volume, places, sizes, 0.0) == [1, 1, -1, 1, 1]
    assert hits(volume, places, sizes, 0.3) == [1, -1, -1, -1, -1]


def test_a_candidate_belongs_to_the_lesion_that_it_overlaps_most():
    one, other = made().lesions[:2]
    other = replace(other, label=2, centre=tuple(np.add(one.centre, (one.size[0] * 0.9, 0, 0))), size=one.size)
    place, size = np.array([one.centre]), np.array([one.size])
    for lesions in ((one, other), (other, one)):
        volume = SmallVolume(1, np.zeros((1, 1, 1), np.float32), (1, 1, 1), (0, 0, 0), lesions)
        assert hits(volume, place, size, 0.0) == hits(volume, place, size, None) == [1]


def test_sensitivity_counts_lesions_once_and_alarms_a_volume():
    detections = [(0.9, "a"), (0.8, None), (0.7, "a"), (0.6, None), (0.5, "b"), (0.4, None)]
    assert [sensitivity_at(detections, 4, 1, n) for n in (0, 1, 2, 3)] == [0.25, 0.25, 0.5, 0.5]
    assert sensitivity_at(detections, 4, 2, 1) == 0.5  # two alarms in two volumes
    # Of equal scores none comes first.
    assert sensitivity_at([(0.5, "a"), (0.5, None)], 1, 1, 0) == 0 and math.isnan(sensitivity_at([], 0, 1, 1))
    # A volume that a bootstrap draws twice counts twice.
    once = [[(0.9, 1), (0.8, None)], [(0.7, None)]]
    assert sensitivity([once[0], once[0], once[1]], [1, 1, 1], 1) == pytest.approx(2 / 3)


def test_auc_against_all_pairs():
    random = np.random.default_rng(0)
    scores, positive = random.integers(0, 6, 60), random.random(60) < 0.4
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[positive] for n in scores[~positive]]
    assert roc_auc(scores, positive) == pytest.approx(np.mean(pairs))
    assert math.isnan(roc_auc([1, 2], [True, True]))


def test_what_has_no_figure_is_no_number_in_json():
    """Where all lesions are benign there is no AUC."""
    record = phantom_baselines._without_nan({"auc": math.nan, "of": [np.float64("nan"), 1.5, "nan"], "n": 3})
    assert json.loads(json.dumps(record, allow_nan=False)) == {"auc": None, "of": [None, 1.5, "nan"], "n": 3}
    assert (phantom_baselines._cell(math.nan), phantom_baselines._cell(0.5)) == ("-", "0.500")


def test_one_volume_has_no_interval(monkeypatch):
    monkeypatch.setattr(phantom_baselines, "lexicon_auc", lambda descriptors=True: 0.9)  # of all lesions that can be drawn: slow
    figures = phantom_baselines.baselines(EASY, [shrink(made())])
    assert figures["sensitivity"] == 1 and np.isnan(figures["sensitivity_interval"]).all()
    assert "5 false positives a volume | 1.000 | - |" in phantom_baselines.as_markdown(figures)


def test_settings_are_chosen_that_find_what_others_miss():
    volumes = [shrink(made(seed)) for seed in range(3)]
    search = {name: (value,) for name, value in vars(EASY).items()}
    chosen = tune(volumes, 5, {**search, "threshold": (99.0, 1.0), "deepest_mm": (1.0, 60.0)})
    assert (chosen.threshold, chosen.deepest_mm) == (1.0, 60.0)
    assert set(blob_detector.SEARCH) == set(vars(EASY)) - {"largest_ml"}


# -------------------------------------------------------------------------------------------------------- statistics


def test_log_compression_is_undone():
    levels = statistics.levels_db(60, 1.0)
    assert levels[0] == 0 and levels[255] == 60 and levels[51] == pytest.approx(12)
    # A curve of 2 shows half of the range at a quarter of the greys.
    assert statistics.levels_db(60, 2.0)[64] == pytest.approx(60 * math.sqrt(64 / 255))


def test_theory_of_speckle():
    assert statistics.compounded_snr(1) == pytest.approx(statistics.RAYLEIGH_SNR)
    random = np.random.default_rng(1)
    for looks in (1, 2, 3):
        amplitude = np.sqrt(random.exponential(size=(looks, 400_000)).mean(axis=0))
        assert statistics.compounded_snr(looks) == pytest.approx(amplitude.mean() / amplitude.std(), rel=0.01)


def test_figures_of_a_volume_that_was_made_by_hand():
    """A third of the grey level inside: 0.2 dB a level, so 2/3 of 124.5 levels less."""
    figures = statistics.measure(made())
    assert figures.histogram.sum() == np.prod(GRID.size) and figures.histogram[200:].sum() == 0
    for contrast in figures.lesions:
        assert contrast.grey == pytest.approx(124.5 / 3, abs=2) and contrast.surroundings == pytest.approx(124.5, abs=2)
        assert contrast.contrast_db == pytest.approx(-0.2 * 124.5 * 2 / 3, abs=1)
        assert contrast.posterior_db == pytest.approx(0, abs=0.5)


def test_a_shadow_is_seen_below_the_lesion():
    import SimpleITK as sitk

    phantom = made()
    lesion = phantom.lesions[0]
    voxels = sitk.GetArrayFromImage(phantom.image)
    (x0, _, z0), (x1, y1, z1) = lesion.first, lesion.last
    voxels[z0 : z1 + 1, y1 + 1 :, x0 : x1 + 1] -= 50  # 10 dB
    dark = hand_made_phantom.on_grid(voxels, GRID)
    shadowed = hand_made_phantom.Phantom(1, dark, phantom.labels, phantom.lesions, phantom.facts)
    assert statistics.measure(shadowed).lesions[0].posterior_db == pytest.approx(-10, abs=0.7)


def test_tables_and_figure(tmp_path):
    volumes = [statistics.measure(made(seed)) for seed in range(2)]
    summary = json.loads(json.dumps(statistics.summarise(volumes)))
    assert summary["volumes"] == 2 and summary["lesions"] == 4
    assert sum(row["n"] for row in summary["contrast"]["margin"].values()) == 4
    assert sum(summary["histogram"]) == pytest.approx(1)
    text = statistics.as_markdown(summary)
    assert "| echo pattern | hypoechoic | 4 |" in text and "| margin | angular" not in text
    statistics.figure(volumes, tmp_path / "figure.png")
    assert Image.open(tmp_path / "figure.png").size[0] == 1200


# ---------------------------------------------------------------------------------------------------------- pictures


def test_pictures_show_what_is_there(tmp_path):
    phantom = made()
    picture = np.asarray(contact_sheet.volume_picture(phantom.image, phantom.labels, phantom.lesions, "title")).astype(int)
    red, green, blue = picture[..., 0], picture[..., 1], picture[..., 2]
    # One lesion is malignant, the other benign: both outlines are there, and only in the outlined planes.
    assert ((red - blue) > 100).sum() > 20 and ((green - red) > 100).sum() > 20
    path = contact_sheet.save(contact_sheet.lesion_picture(phantom.image, phantom.labels, phantom.lesions[0]), tmp_path / "l.png")
    small = Image.open(path)
    assert small.mode == "P" and min(small.size) > 150
    healthy = made(spec=PhantomSpec(grid=GRID, lesions=0))
    assert contact_sheet.volume_picture(healthy.image, healthy.labels, ()).width > 300


def test_the_planes_are_undistorted_and_cut_through_the_lesion():
    """A ball is as wide as high in every plane."""
    phantom = made(spec=PhantomSpec(grid=GRID, lesions=1))
    lesion = phantom.lesions[0]
    at = [(a + b) // 2 for a, b in zip(lesion.first, lesion.last, strict=True)]
    for name in ("transverse", "sagittal", "coronal"):
        plane = contact_sheet._plane(phantom.image, phantom.labels, [lesion], at, name, 8.0, False).convert("L")
        dark = np.argwhere(np.asarray(plane) < 70)
        height, width = np.quantile(dark, 0.95, axis=0) - np.quantile(dark, 0.05, axis=0)
        assert height == pytest.approx(width, rel=0.15), name


def test_a_caption_says_what_a_lesion_is():
    text = contact_sheet.caption(made().lesions[1])
    assert text.startswith("2: malignant, BI-RADS 4C (P = 0.90), ") and "spiculated" in text and "shadowing" in text
    stranger = replace(made().lesions[1], posterior=None, category=None)
    assert contact_sheet.caption(stranger) == text.replace("BI-RADS 4C (P = 0.90), ", "")


# ----------------------------------------------------------------------------------------------------------- command


def test_the_command_measures_on_test_seeds(tmp_path, capsys, monkeypatch):
    pytest.importorskip("monai", reason="the extra train is not installed")
    from BreastUSAILib import phantom

    seeds = []

    def generate(seed, spec):
        seeds.append(seed)
        return made(seed)

    monkeypatch.setattr(phantom, "generate", generate, raising=False)
    monkeypatch.setattr(blob_detector, "SEARCH", {name: (value,) for name, value in vars(EASY).items()})
    assert cli.main(["evaluate", "phantom", "--output", str(tmp_path), "--validation", "2", "--test", "3"]) == 0
    assert seeds == [10**9, 10**9 + 1, 2 * 10**9, 2 * 10**9 + 1, 2 * 10**9 + 2]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["baselines"]["volumes"] == 3 and figures["baselines"]["sensitivity"] == 1.0
    assert 0.5 < figures["baselines"]["auc_volume_alone_expected"] < 0.75 < figures["baselines"]["auc_best_possible_expected"] < 1
    assert {p.name for p in tmp_path.iterdir()} == {"figures.json", "figures.md", "lesions.csv", "statistics.png"}
    assert len((tmp_path / "lesions.csv").read_text().splitlines()) == 7
    assert "| volume alone |" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--validation", "--test", "--jobs"])
def test_impossible_numbers_are_wrong_usage(tmp_path, capsys, option):
    pytest.importorskip("monai", reason="the extra train is not installed")
    assert cli.main(["evaluate", "phantom", "--output", str(tmp_path), option, "0"]) == 2
    assert f"error: {option} is 0; it must be 1 or more." in capsys.readouterr().err


def test_processes_give_the_same_samples():
    spec = PhantomSpec(grid=PhantomGrid((48, 32, 48), (0.6, 0.6, 0.6), top=3.0, whole=False))
    here, there = (phantom_baselines.samples(spec, [5, 6], jobs) for jobs in (1, 2))
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one.small.voxels, other.small.voxels)
        assert one.small.lesions == other.small.lesions and one.statistics.snr == other.statistics.snr
