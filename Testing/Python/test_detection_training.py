"""The recipes of the detection system on hand-made phantoms: what is learnt from, what is learnt, and how a run survives."""

import json
import math
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hand_made_phantom import generate

from BreastUSAILib import boxes as b
from BreastUSAILib.anchors import AnchorRule
from BreastUSAILib.detect import DetectOptions, detect
from BreastUSAILib.errors import DataError, ModelError, UsageError
from BreastUSAILib.evaluation.volume_data import read_volumes
from BreastUSAILib.models import zoo
from BreastUSAILib.networks import detection as networks
from BreastUSAILib.networks import lesion_classifier as classifiers
from BreastUSAILib.phantom.grids import PhantomGrid
from BreastUSAILib.phantom.layouts import write_phantom, write_tables
from BreastUSAILib.phantom.seeds import volume_seed
from BreastUSAILib.phantom.spec import DESCRIPTORS, PhantomSpec
from BreastUSAILib.training import detect as recipe_module
from BreastUSAILib.training import detection_choice, lesion_classifier, parallel
from BreastUSAILib.training import detection_crops as crops
from BreastUSAILib.training import detection_data as data
from BreastUSAILib.training.descriptor_heads import UNKNOWN
from BreastUSAILib.training.detect import DetectRecipe
from BreastUSAILib.training.lesion_classifier_crops import CropRun, batch_of
from BreastUSAILib.training.parallel import Team

GRID = PhantomGrid((40, 20, 36), (0.8, 1.0, 0.9), top=2.0, whole=False)
SMALL = {
    "stem_channels": 8, "stem_stride": 2, "channels": (8, 8, 8, 8, 8), "strides": (1, 2, 1, 2, 1), "top_down": 2,
    "head_channels": 8, "head_convolutions": 1, "anchors": ((6.0, 6.0, 6.0),), "embedding": 4,
}  # fmt: skip
RECIPE = DetectRecipe(spacing=(1.0, 1.0, 1.0), crop=(24, 16, 24), epochs=4, crops=48, batch=4, rate=1e-2, best=2, decay=0.9)
CLASSIFIER = {
    "stem_channels": 4,
    "stem_stride": 2,
    "channels": (4, 8, 8, 8, 8),
    "strides": (2, 1, 1, 1, 1),
    "dropout": 0.1,
}


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    """What is tested here is the training, so the networks are ones that learn a ball in seconds."""
    monkeypatch.setattr(networks, "COMPACT", SMALL)
    monkeypatch.setattr(classifiers, "COMPACT", CLASSIFIER)


def make(folder, numbers, split):
    for index, number in enumerate(numbers):
        spec = PhantomSpec(grid=GRID, lesions=number)
        write_phantom(
            "native",
            folder,
            f"phantom-{split}-{index:010d}",
            split,
            spec,
            generate(volume_seed(split, index=index), spec),
        )
    write_tables("native", folder)
    return folder


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    make(folder, [1, 2, 0, 2], "train")
    return make(folder, [2, 1], "validation")


@pytest.fixture(scope="module")
def cache(tmp_path_factory, phantoms):
    folder = tmp_path_factory.mktemp("cache")
    for split in ("train", "validation"):
        data.prepare(data.read_split([phantoms], split), folder, RECIPE.spacing)
    return folder


@pytest.fixture
def volumes(phantoms, cache):
    return data.load(data.read_split([phantoms], "train"), cache, RECIPE.spacing)


# --- the volumes -----------------------------------------------------------------------------------------------------


def test_prepared_boxes_lie_on_the_lesions(volumes):
    assert [len(v.boxes) for v in volumes] == [1, 2, 0, 2]
    for volume in volumes:
        assert volume.levels.shape == (32, 20, 32) and volume.spacing == pytest.approx((32.4 / 32, 1.0, 1.0))
        dark = np.asarray(volume.levels) < 5
        outside = dark.copy()
        for z1, y1, x1, z2, y2, x2 in volume.boxes:
            inside = tuple(slice(int(np.floor(a)), int(np.ceil(z))) for a, z in ((z1, z2), (y1, y2), (x1, x2)))
            # A ball fills pi / 6 of its box.
            assert 0.3 < dark[inside].mean() < 0.7
            outside[inside] = False
        assert outside.sum() == 0


def test_the_cache_is_used_and_made_anew_when_a_file_changes(phantoms, cache, monkeypatch):
    cases = data.read_split([phantoms], "train")
    before = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    data.prepare(cases, cache, RECIPE.spacing)
    assert {path.name: path.stat().st_mtime_ns for path in cache.iterdir()} == before
    assert (
        data.cache_name(cases[0], RECIPE.spacing)
        == data.cache_name(cases[0], [1, 1, 1])
        != data.cache_name(cases[0], (2, 1, 1))
    )
    assert data.cache_name(cases[0], RECIPE.spacing) != data.cache_name(replace(cases[0], lesions=()), RECIPE.spacing)


def test_what_is_wrong_with_data_is_told(phantoms, cache, tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        data.read_split([tmp_path / "nothing"], "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no phantoms"):
        data.read_split([phantoms, tmp_path / "empty"], "train")
    make(tmp_path / "other", [1], "validation")
    assert len(data.read_split([phantoms, tmp_path / "other"], "train")) == 4
    with pytest.raises(DataError, match="no phantoms for train"):
        data.read_split([tmp_path / "other"], "train")
    case = read_volumes(phantoms, ("train",))[0]
    lesion = case.lesions[0]
    far = replace(case, lesions=(replace(lesion, box=replace(lesion.box, center=(0.0, 0.0, 99.0))),))
    with pytest.raises(DataError, match=f"{case.image.name}.*outside the volume"):
        data.prepare([far], tmp_path / "cache", RECIPE.spacing)
    data.prepare([case], tmp_path / "cache", RECIPE.spacing)
    next((tmp_path / "cache").glob("*.npy")).write_bytes(b"half")
    with pytest.raises(DataError, match="missing or damaged.*delete the cache"):
        data.load([case], tmp_path / "cache", RECIPE.spacing)


# --- the crops -------------------------------------------------------------------------------------------------------


def _crop(volumes, recipe, seed):
    return crops.draw_crop(volumes, *crops.lesion_weights(volumes, recipe), recipe, crops.generator_of(seed))


def test_crops_about_lesions_hold_one_and_its_box_fits(volumes):
    recipe = crops.CropRecipe(shape=(24, 16, 24), lesion_share=1.0)
    plain = replace(recipe, vary=False)
    for seed in range(20):
        crop = _crop(volumes, recipe, seed)
        assert crop.volume.shape == (1, 24, 16, 24) and torch.isfinite(crop.volume).all()
        assert len(crop.lesions) >= 1 and set(crop.classes.tolist()) <= {1, 2}
        crop = _crop(volumes, plain, seed)
        for z1, y1, x1, z2, y2, x2 in crop.lesions.round().int().tolist():
            assert (crop.volume[0, z1:z2, y1:y2, x1:x2] < -2).float().mean() > 0.3


def test_magnified_and_mirrored_crops_have_their_boxes_on_the_lesions(volumes, monkeypatch):
    monkeypatch.setattr(crops, "vary_intensities", lambda levels, generator, spacing: levels)
    recipe = crops.CropRecipe(shape=(24, 16, 24), lesion_share=1.0, shown=1.0, zoom=1.5)
    sizes = set()
    for seed in range(30):
        crop = _crop(volumes, recipe, seed)
        dark = crop.volume[0] < -2
        for z1, y1, x1, z2, y2, x2 in crop.lesions.tolist():
            sizes.add(round(x2 - x1))
            found = torch.nonzero(dark[int(z1) : int(z2) + 1, int(y1) : int(y2) + 1, int(x1) : int(x2) + 1]).float()
            middle = (found.min(0).values + found.max(0).values) / 2 + torch.tensor([int(z1), int(y1), int(x1)]) + 0.5
            true = torch.tensor([z1 + z2, y1 + y2, x1 + x2]) / 2
            assert (middle - true).abs().max() < 1.1
    assert max(sizes) - min(sizes) > 2


def test_a_crop_in_two_steps_keeps_the_lesion_near_its_middle(volumes):
    """The paper's: within a first crop about the lesion, which does not leave the volume, anywhere."""
    shape, around = np.array((12, 10, 12)), np.array((16, 11, 18))
    recipe = crops.CropRecipe(shape=tuple(shape), around=tuple(around), lesion_share=1.0, vary=False)
    weights, places = crops.lesion_weights(volumes, recipe)
    shifts = []
    for seed in range(60):
        only = places[seed % len(places) :][:1]
        place = crops.draw_place(volumes, weights[:1], only, recipe, crops.generator_of(seed))
        number, lesion = only[0].tolist()
        box, size = volumes[number].boxes[lesion], np.array(volumes[number].levels.shape)
        first = np.clip((box[:3] + box[3:] - around) / 2, 0, size - around)
        start = place.start.numpy()
        assert (start >= first - 0.5).all() and (start + shape <= first + around + 0.5).all()
        shifts.append(start - np.round(first))
    assert (np.ptp(shifts, axis=0) == around - shape).all()


def test_a_crop_is_its_number_alone(volumes):
    recipe = crops.CropRecipe(shape=(24, 16, 24))
    first, again, other = (_crop(volumes, recipe, seed) for seed in (5, 5, 6))
    assert torch.equal(first.volume, again.volume) and torch.equal(first.lesions, again.lesions)
    assert not torch.equal(first.volume, other.volume)


def test_volumes_smaller_than_a_crop_are_padded(volumes):
    recipe = crops.CropRecipe(shape=(48, 32, 48), lesion_share=1.0, vary=False)
    starts = set()
    for seed in range(10):
        crop = _crop(volumes, recipe, seed)
        # Where the volume ends its edge is repeated: as many planes as it lacks are like their neighbours.
        for axis, (size, whole) in enumerate(zip((48, 32, 48), (32, 20, 32), strict=True)):
            steps = crop.volume[0].diff(dim=axis).abs().amax([a for a in range(3) if a != axis])
            assert int((steps == 0).sum()) == size - whole
        assert not len(crop.unsure)
        starts.add(tuple(crop.lesions[0, :3].tolist()))
    assert len(starts) > 5


def test_a_volume_may_end_early_but_not_above_a_lesion():
    levels = torch.arange(50.0)[None, :, None].expand(4, 50, 5)
    ends = set()
    for seed in range(40):
        early = crops.ended_early(levels, torch.tensor([[0, 30.0, 0, 4, 38.4, 5]]), torch.Generator().manual_seed(seed))
        assert early.shape == levels.shape
        last = int(early.max())
        assert 38 <= last < 50 and torch.equal(early[:, : last + 1], levels[:, : last + 1])
        assert bool((early[:, last:] == last).all())
        ends.add(last)
    assert len(ends) > 6
    cut = torch.tensor([[0, 40.0, 0, 4, 55.0, 5]])  # a lesion that leaves the crop
    assert torch.equal(crops.ended_early(levels, cut, torch.Generator().manual_seed(1)), levels)


def test_levelling_brings_depths_to_one_brightness():
    random = torch.Generator().manual_seed(1)
    levels = torch.randn((8, 6, 9), generator=random) * torch.linspace(1.2, 0.6, 6)[None, :, None]
    levels = levels - torch.linspace(0, 3, 6)[None, :, None]
    full = crops.levelled(levels, 1.0)
    assert torch.allclose(full.mean((0, 2)), levels.mean().expand(6), atol=1e-5)
    assert torch.equal(crops.levelled(levels, 0.0), levels)
    half = crops.levelled(levels, 0.5).mean((0, 2))
    assert torch.allclose(half, (levels.mean((0, 2)) + levels.mean()) / 2, atol=1e-5)
    silent = torch.cat([levels, torch.full((8, 1, 9), -5.0)], 1)  # nothing heard at one depth
    assert bool(torch.isfinite(crops.levelled(silent, 1.0)).all())


def test_what_a_crop_cuts_through_is_neither_lesion_nor_background(volumes):
    volume = volumes[0]
    z1, y1, x1, z2, y2, x2 = volume.boxes[0]
    # All crops of 8 voxels about the lesion's edge: learnt from half of it on.
    recipe = crops.CropRecipe(shape=(8, 8, 8), lesion_share=0.0, vary=False)
    learnt = unsure = 0
    for seed in range(300):
        crop = _crop([volume], recipe, seed)
        learnt, unsure = learnt + len(crop.lesions), unsure + len(crop.unsure)
        assert len(crop.lesions) + len(crop.unsure) <= 1
        if len(crop.lesions):
            share = float(b.volumes(crop.lesions)[0]) / float((z2 - z1) * (y2 - y1) * (x2 - x1))
            assert share >= 0.5 - 1e-4
    assert learnt and unsure


def test_small_and_isoechoic_lesions_come_more_often(volumes):
    changed = [
        replace(v, volume_ml=np.where(np.arange(len(v.boxes)) == 0, 0.1, 1.0), isoechoic=np.arange(len(v.boxes)) == 0)
        for v in volumes
    ]
    weights, places = crops.lesion_weights(changed, crops.CropRecipe(small_weight=2.0, isoechoic_weight=1.5))
    assert weights.tolist() == [3.0, 3.0, 1.0, 3.0, 1.0]
    assert places.tolist() == [[0, 0], [1, 0], [1, 1], [3, 0], [3, 1]]


def test_an_epochs_crops_are_labelled(volumes):
    network = networks.DetectionNetwork(**SMALL)
    anchors = crops.crop_anchors(network, RECIPE.crop)
    assert len(anchors) == 6 * 4 * 6
    epoch = crops.CropSet(
        volumes, crops.CropRecipe(shape=RECIPE.crop, lesion_share=1.0), anchors, AnchorRule(best=2), 3, 7
    )
    volumes_, lesions, labels = crops.collate([epoch[i] for i in range(len(epoch))])
    assert volumes_.shape == (3, 1, 24, 16, 24)
    assert all(int((each.state > 0).sum()) >= 1 and len(boxes) for each, boxes in zip(labels, lesions, strict=True))


# --- learning --------------------------------------------------------------------------------------------------------


def _weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def trained(phantoms, cache, tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(networks, "COMPACT", SMALL)
    try:
        output = tmp_path_factory.mktemp("detector")
        return recipe_module.train([phantoms], output, RECIPE, cache=cache, device="cpu")
    finally:
        patch.undo()


def test_dark_balls_are_learnt_in_seconds(trained, phantoms):
    log = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"] and log[-1]["sensitivity_at_1_fp"] == 1.0
    config = json.loads((trained / "config.json").read_text())
    assert config["task"] == "detect" and 0 < config["postprocessing"]["threshold"] < 1
    assert config["measured"]["validation"]["sensitivity_at_1_fp"] == 1.0
    model = zoo.load(trained, "detect", "cpu")
    for case in read_volumes(phantoms, ("validation",)):
        image, lesions = case.read()
        findings, _ = detect(image, model, DetectOptions(maximum=len(lesions)))
        assert len(findings) == len(lesions)
        for lesion in lesions:
            offs = [np.abs(np.subtract(f.box.center, lesion.box.center)).max() for f in findings]
            assert min(offs) < 2.5


def test_training_goes_on_from_a_models_weights(trained, phantoms, cache, tmp_path):
    recipe = replace(RECIPE, start=str(trained), epochs=1, crops=4, rate=1e-7)
    folder = recipe_module.train([phantoms], tmp_path / "further", recipe, cache=cache, device="cpu")
    further = _weights(folder)
    told = json.loads((folder / "config.json").read_text())["trained_on"]
    assert "went on from detection-compact unpublished, which had learnt from" in told
    before = _weights(trained)
    learnt = [name for name in before if name.endswith("weight") and before[name].dim() > 1]
    assert learnt and all(torch.allclose(further[name].float(), before[name].float(), atol=1e-3) for name in learnt)
    fresh = _weights(
        recipe_module.train([phantoms], tmp_path / "fresh", replace(recipe, start=""), cache=cache, device="cpu")
    )
    assert not all(torch.allclose(fresh[name].float(), before[name].float(), atol=1e-3) for name in learnt)


def test_what_validation_sees_through_is_a_copy(phantoms, cache, tmp_path, monkeypatch):
    """Inference folds batch normalisation into the convolutions; the averaged network in training keeps it."""
    seen = []
    see = detection_choice.see
    monkeypatch.setattr(detection_choice, "see", lambda volumes, network, *rest: seen.append(network) or see(volumes, network, *rest))
    output = recipe_module.train([phantoms], tmp_path, replace(RECIPE, epochs=1, crops=4), cache=cache, device="cpu")

    def normalised(network):
        return sum(isinstance(module, torch.nn.BatchNorm3d) for module in network.modules())

    assert len(seen) > 2 and len({normalised(network) for network in seen}) == 1
    state = torch.load(output / "checkpoint.pt", weights_only=False)
    assert normalised(seen[0]) < normalised(networks.DetectionNetwork(**SMALL)) and any("running_mean" in name for name in state["average"])


def test_a_model_of_coarse_voxels_goes_on_on_finer_ones_and_says_when_it_cannot(trained, phantoms, tmp_path, monkeypatch):
    fine = {**SMALL, "stem_kernel": (3, 7, 7), "stem_stride": (2, 4, 4), "anchors": ((6.0, 12.0, 12.0),)}
    monkeypatch.setattr(networks, "COMPACT", fine)
    recipe = replace(RECIPE, spacing=(0.5, 0.5, 1.0), crop=(24, 32, 48), start=str(trained), epochs=1, crops=4, rate=1e-7)
    folder = recipe_module.train([phantoms], tmp_path / "fine", recipe, device="cpu")
    model = zoo.load(folder, "detect", "cpu")
    assert model.network.scale == (4, 8, 8) and model.entry.preprocessing["spacing"] == [0.5, 0.5, 1.0]
    # It finds the balls that it had learnt to find, where they are.
    image, lesions = read_volumes(phantoms, ("validation",))[0].read()
    found, _ = detect(image, model)
    for lesion in lesions:
        assert min(np.abs(np.subtract(f.box.center, lesion.box.center)).max() for f in found[: len(lesions) + 1]) < 2.5
    with pytest.raises(UsageError, match="sees voxels of 1 x 1 x 1 mm and this configuration's network of 0.5 x 0.5 x 1 mm, so that its weights cannot stay"):
        recipe_module.train([phantoms], tmp_path / "stays", replace(recipe, epochs=0), device="cpu")
    monkeypatch.setattr(networks, "COMPACT", {**fine, "stem_channels": 5})
    with pytest.raises(UsageError, match="is another network than this configuration's"):
        recipe_module.train([phantoms], tmp_path / "other", recipe, device="cpu")


def test_without_epochs_the_weights_stay_and_what_follows_them_is_chosen_anew(trained, phantoms, cache, tmp_path):
    folder = recipe_module.train([phantoms], tmp_path / "anew", replace(RECIPE, start=str(trained), epochs=0), cache=cache, device="cpu")
    before, after = _weights(trained), _weights(folder)
    assert all(torch.equal(after[name], before[name]) for name in before)
    config = json.loads((folder / "config.json").read_text())
    assert config["trained_on"].startswith("the weights of detection-compact unpublished, which had learnt from: 4 phantoms")
    assert 0 < config["postprocessing"]["threshold"] < 1
    tried = json.loads((folder / "postprocessing.json").read_text())["tried"]["tried"]
    assert tried[-1]["scales"] == [1.0, 0.8]


def test_volumes_made_anew_under_their_names_are_other_data(phantoms, cache):
    cases = data.read_split([phantoms], "train")
    volumes = data.load(cases, cache, RECIPE.spacing)
    assert data.fingerprint(volumes) == data.fingerprint(data.load(cases, cache, RECIPE.spacing))
    levels = volumes[0].levels.copy()
    levels[0, 0, 0] ^= 1  # boxes, shape and name stay
    assert data.fingerprint([replace(volumes[0], levels=levels), *volumes[1:]]) != data.fingerprint(volumes)


def test_a_run_whose_start_is_gone_ends_well(trained, phantoms, cache, tmp_path):
    start = shutil.copytree(trained, tmp_path / "start")
    recipe = replace(RECIPE, start=str(start), epochs=2, crops=4)

    def lost(epoch, network):
        shutil.rmtree(start, ignore_errors=True)

    folder = recipe_module.train([phantoms], tmp_path / "run", recipe, cache=cache, device="cpu", watch=lost)
    assert "no longer there" in json.loads((folder / "config.json").read_text())["trained_on"]


def test_a_run_does_not_go_on_from_the_model_that_it_leaves(trained, phantoms, cache):
    with pytest.raises(UsageError, match="is the folder of --output"):
        recipe_module.train([phantoms], trained, replace(RECIPE, start=str(trained)), cache=cache, device="cpu")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn"])
def test_a_damaged_checkpoint_is_one_sentence(content, phantoms, cache, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(DataError, match=r"checkpoint.pt cannot be read .*delete it or give --restart"):
        recipe_module.train([phantoms], tmp_path, RECIPE, cache=cache, device="cpu")


def test_a_start_of_another_kind_is_told(trained, phantoms, cache, tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="nowhere"):
        recipe_module.train([phantoms], tmp_path, replace(RECIPE, start="nowhere"), cache=cache, device="cpu")
    monkeypatch.setattr(networks, "COMPACT", {**SMALL, "embedding": 5})
    with pytest.raises(UsageError, match="another network"):
        recipe_module.train([phantoms], tmp_path, replace(RECIPE, start=str(trained)), cache=cache, device="cpu")


@pytest.mark.parametrize("variant", ["rpn", "rpn-iou"])
def test_ablations_leave_their_losses_out(variant, phantoms, cache, tmp_path):
    recipe = replace(RECIPE, variant=variant, epochs=1, crops=8)
    log = recipe_module.train([phantoms], tmp_path, recipe, cache=cache, device="cpu") / "log.jsonl"
    assert json.loads(log.read_text())["similarity"] == 0


def test_a_killed_run_goes_on_to_the_same_result(phantoms, cache, tmp_path, trained):
    class Killed(Exception):
        pass

    def kill(epoch, network):
        if epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        recipe_module.train([phantoms], tmp_path, RECIPE, cache=cache, device="cpu", watch=kill)
    done = [json.loads(line)["epoch"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert done == [1, 2] and not (tmp_path / "model.safetensors").exists()
    recipe_module.train([phantoms], tmp_path, RECIPE, cache=cache, device="cpu")
    for name, value in _weights(trained).items():
        torch.testing.assert_close(_weights(tmp_path)[name], value, rtol=1e-5, atol=1e-6)
    # A finished run learns no more, but chooses anew what follows its network.
    config, weights = (tmp_path / "config.json").read_text(), _weights(tmp_path)
    (tmp_path / "config.json").unlink()
    recipe_module.train([phantoms], tmp_path, RECIPE, cache=cache, device="cpu")
    assert (tmp_path / "config.json").read_text() == config
    assert all(torch.equal(weights[name], value) for name, value in _weights(tmp_path).items())
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == RECIPE.epochs
    with pytest.raises(UsageError, match="another recipe"):
        recipe_module.train([phantoms], tmp_path, replace(RECIPE, rate=1e-3), cache=cache, device="cpu")


SCRIPT = """
import sys, torch
from BreastUSAILib.networks import detection as networks
import test_detection_training as t
from dataclasses import replace
networks.COMPACT = t.SMALL
torch.set_num_threads(1)
phantoms, cache, output = sys.argv[1:]
def watch(epoch, network):
    torch.save(network.state_dict(), f"{output}/rank{torch.distributed.get_rank()}.pt")
t.recipe_module.train([phantoms], output, replace(t.RECIPE, epochs=2, crops=16), cache=cache, device="cpu", watch=watch)
"""


def test_two_processes_train_in_step(phantoms, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    here = Path(__file__).parent
    output, cache = tmp_path / "model", tmp_path / "cache"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
        str(phantoms),
        str(cache),
        str(output),
    ]
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parents[1]}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (torch.load(output / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert len(list(cache.glob("*.npy"))) == 6 + 2  # the two validation volumes on a finer grid, too
    # One process wrote the log and the model, and the same volumes were learnt from.
    assert len((output / "log.jsonl").read_text().splitlines()) == 2
    assert zoo.load(output, "detect", "cpu").entry.trained_on.startswith("4 phantoms of ")


def test_torchrun_hands_our_options_on_as_the_documents_call_it():
    """Of what follows the module's name torchrun takes --start for a short form of its own options, unless a -- comes before."""
    from torch.distributed.run import parse_args

    for document in ("docs/detection.md", "docs/reliability.md", "examples/train-on-slurm.sh"):
        text = (Path(__file__).parents[2] / document).read_text(encoding="utf-8")
        assert "-m -- BreastUSAILib train" in text and "-m BreastUSAILib train" not in text.replace("python -m", ""), document
    ours = ["train", "detect", "--data", "DIR", "--start", "detection-compact", "--output", "MODEL"]
    asked = parse_args(["--nproc-per-node", "2", "-m", "--", "BreastUSAILib", *ours])
    assert (asked.training_script, asked.training_script_args) == ("BreastUSAILib", ours)


def test_the_published_recipe(phantoms, tmp_path, monkeypatch):
    # Its rules and its search with a network of its kind, whose widths and number of anchors this machine can pay for.
    few = {**SMALL, "stem_stride": 1, "strides": (2, 2, 2, 1, 1), "top_down": None, "anchors": ((8, 8, 8), (16, 8, 16))}
    monkeypatch.setattr(networks, "PAPER", few)
    recipe = replace(recipe_module.PAPER, spacing=(1.0, 1.0, 1.0), crop=(24, 16, 24), epochs=1, crops=3)
    output = recipe_module.train([phantoms], tmp_path, recipe, device="cpu")
    model = zoo.load(output, "detect", "cpu")
    chosen = model.entry.postprocessing
    assert (chosen["boxes_a_window"], chosen["vote_iou"], chosen["window"]) == (3, None, [320, 96, 320])
    assert model.network.scale == (8, 8, 8) and json.loads((output / "log.jsonl").read_text())["similarity"] >= 0
    tried = json.loads((output / "postprocessing.json").read_text())["tried"]
    assert len(tried["tried"]) == 1  # nothing but the threshold is chosen


def test_the_command_line_says_what_the_recipe_is(phantoms, tmp_path, capsys):
    from BreastUSAILib import cli

    common = ["train", "detect", "--data", str(phantoms), "--output", str(tmp_path / "model")]
    parse = cli.build_parser(common).parse_args
    assert recipe_module.recipe_of(parse(common)) == DetectRecipe()
    changed = recipe_module.recipe_of(
        parse([*common, "--variant", "rpn", "--epochs", "3", "--negatives", "focal", "--seed", "5"])
    )
    assert (changed.variant, changed.epochs, changed.seed, changed.loss["negatives"]) == ("rpn", 3, 5, "focal")
    assert recipe_module.recipe_of(parse([*common, "--configuration", "paper"])) == recipe_module.PAPER
    for option, number in (("--epochs", "0"), ("--rate", "nan"), ("--rate", "inf"), ("--batch", "-4")):
        with pytest.raises(UsageError, match=f"{option} must be above 0"):
            recipe_module.recipe_of(parse([*common, option, number]))
    assert recipe_module.recipe_of(parse([*common, "--epochs", "0", "--start", "detection-compact"])).epochs == 0
    for wrong in ("-1", "nan", "x"):
        with pytest.raises(SystemExit):
            parse([*common, "--spacing", "1", wrong, "1"])
        assert "is not a positive number of mm" in capsys.readouterr().err
    assert cli.main([*common, "--prepare-only", "--cache", str(tmp_path / "cache")]) == 0
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 6 and "The volumes are in" in capsys.readouterr().out
    assert not (tmp_path / "model").exists()
    second = [
        "train",
        "lesion-classifier",
        "--data",
        str(phantoms),
        "--output",
        str(tmp_path / "model"),
        "--epochs",
        "7",
    ]
    assert lesion_classifier.recipe_of(
        cli.build_parser(second).parse_args(second)
    ) == lesion_classifier.LesionClassifierRecipe(epochs=7)


def test_a_batch_that_cannot_be_shared_is_refused(phantoms, cache, tmp_path):
    with pytest.raises(UsageError, match="choose another --batch"):
        recipe_module.train([phantoms], tmp_path, replace(RECIPE, crops=2), cache=cache, device="cpu")
    with pytest.raises(UsageError, match="variant"):
        recipe_module.train([phantoms], tmp_path, replace(RECIPE, variant="rpn-sim"), cache=cache, device="cpu")
    with pytest.raises(UsageError, match="configuration"):
        recipe_module.train([phantoms], tmp_path, replace(RECIPE, configuration="large"), cache=cache, device="cpu")


def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_no_model(phantoms, cache, tmp_path):
    """It went on to the end, and left a model of NaN that found nothing in anything."""
    with pytest.raises(DataError, match=r"the loss is not finite in epoch \d; begin anew with a lower --rate"):
        recipe_module.train([phantoms], tmp_path / "out", replace(RECIPE, rate=1e30), cache=cache, device="cpu")
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_healthy_volumes_alone_are_refused(tmp_path):
    make(tmp_path / "healthy", [0, 0], "train")
    make(tmp_path / "healthy", [0], "validation")
    with pytest.raises(DataError, match="split train .* has no lesion"):
        recipe_module.train([tmp_path / "healthy"], tmp_path / "model", RECIPE, device="cpu")


# --- the second opinion ----------------------------------------------------------------------------------------------


def test_the_classifier_learns_resumes_and_weighs_opinions(phantoms, trained, tmp_path):
    recipe = lesion_classifier.LesionClassifierRecipe(shape=(16, 16, 16), epochs=2, batch=4)
    make(tmp_path / "more", [2, 2], "train")
    folders = [phantoms, tmp_path / "more"]
    output = lesion_classifier.train(folders, tmp_path / "model", recipe, detector=trained, device="cpu")
    config = json.loads((output / "config.json").read_text())
    assert config["task"] == "lesion-classifier" and 0 <= config["postprocessing"]["detection_weight"] <= 1
    tried = json.loads((output / "postprocessing.json").read_text())
    assert tried["lesions"] == 3 and len(tried["detection_weight"]) == 11
    # Going on after the last epoch trains nothing.
    before = (output / "model.safetensors").read_bytes()
    lesion_classifier.train(folders, output, recipe, detector=trained, device="cpu")
    assert (output / "model.safetensors").read_bytes() == before
    # Another's weights stay where no epochs are asked for; only the weight of the two opinions is chosen.
    anew = replace(recipe, start=str(output), epochs=0)
    other = lesion_classifier.train([phantoms], tmp_path / "anew", anew, detector=trained, device="cpu")
    stays, was = zoo.load(other, "lesion-classifier", "cpu"), zoo.load(output, "lesion-classifier", "cpu")
    assert all(torch.equal(a, b) for a, b in zip(stays.network.parameters(), was.network.parameters(), strict=True))
    assert stays.entry.postprocessing["detection_weight"] == was.entry.postprocessing["detection_weight"]
    assert stays.entry.trained_on.startswith("the weights of lesion-classifier-compact unpublished, which had learnt from: 9 lesions")
    # Without a detector it is the other's, too, and not one half.
    chosen = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(chosen | {"postprocessing": {"detection_weight": 0.3, "detector": "small"}}))
    kept = lesion_classifier.train([phantoms], tmp_path / "kept", replace(anew, start=str(other)), device="cpu")
    assert zoo.load(kept, "lesion-classifier", "cpu").entry.postprocessing == {"detection_weight": 0.3, "detector": "small"}
    with pytest.raises(UsageError, match="is the folder of --output"):
        lesion_classifier.train([phantoms], other, replace(recipe, start=str(other)), device="cpu")
    with pytest.raises(UsageError, match="looks at crops of 16 x 16 x 16 voxels and 1.8 times a lesion's box, this configuration at 16 x 16 x 24 and 1.8"):
        lesion_classifier.train(["never read"], tmp_path / "wide", replace(anew, shape=(16, 16, 24)), device="cpu")

    model, classifier = zoo.load(trained, "detect", "cpu"), zoo.load(output, "lesion-classifier", "cpu")
    image, _ = read_volumes(phantoms, ("validation",))[0].read()
    alone, _ = detect(image, model)
    both, _ = detect(image, model, classifier=classifier)
    from BreastUSAILib.lesion_classification import malignancies

    weight = config["postprocessing"]["detection_weight"]
    second = malignancies(image, [f.box for f in alone], classifier)
    assert config["postprocessing"]["detector_sha256"] == model.published_sha256
    for one, two, answer in zip(alone, both, second, strict=True):
        assert two.malignancy == pytest.approx(weight * one.malignancy + (1 - weight) * answer, abs=1e-5)
        assert (two.box, two.score) == (one.box, one.score) and set(two.models) == {"detect", "lesion-classifier"}


def test_a_weight_that_nothing_chose_stays_that_of_the_start(phantoms, trained, tmp_path, monkeypatch, capsys):
    """A detector that finds too little made 0.5 of the 0.2 of --start, without a word."""
    from BreastUSAILib import detect as detecting

    monkeypatch.setattr(detecting, "detect", lambda image, model: ((), ()))
    detector = zoo.load(trained, "detect", "cpu")
    for said in ({"detection_weight": 0.2, "detector": "small", "detector_sha256": "1"}, {}):
        (tmp_path / "config.json").write_text(json.dumps({"postprocessing": said}))
        lesion_classifier._record_weight(tmp_path, read_volumes(phantoms, ("validation",)), detector, None)
        assert json.loads((tmp_path / "config.json").read_text())["postprocessing"] == said
        assert json.loads((tmp_path / "postprocessing.json").read_text()) == {"lesions": 0, "detection_weight": {}}
        told = capsys.readouterr().out
        assert "there was nothing to choose the weight of the two opinions by" in told and f"it stays {said.get('detection_weight', 0.5)}." in told


def test_a_weight_that_was_chosen_with_another_detector_is_told(trained, phantoms):
    from BreastUSAILib.lesion_classification import other_detector

    ours, shipped = zoo.load(trained, "detect", "cpu"), zoo.load("", "detect", "cpu")
    second = zoo.load("", "lesion-classifier", "cpu")
    assert other_detector(shipped, second) is None

    def chosen(**said):
        return replace(second, entry=replace(second.entry, postprocessing=said))

    told = "the weight of the second opinion on malignancy was chosen with another detection model (small) than this"
    assert other_detector(ours, chosen(detector="small", detector_sha256=ours.published_sha256)) is None
    assert other_detector(shipped, chosen(detector="small", detector_sha256=ours.published_sha256)).startswith(told)
    assert other_detector(shipped, chosen(detector="small")).startswith(told)
    assert other_detector(ours, chosen(detection_weight=0.3)) is None
    image, _ = read_volumes(phantoms, ("validation",))[0].read()
    assert [note[: len(told)] for note in detect(image, ours, classifier=chosen(detector="small"))[1]] == [told]
    assert detect(image, ours, classifier=chosen(detector="small", detector_sha256=ours.published_sha256))[1] == ()


def test_a_phantom_is_told_by_how_malignant_a_perfect_reader_finds_it(phantoms):
    from BreastUSAILib.training.detection_data import read_split

    cases = read_split([phantoms], "train")
    lesions = [lesion for case in cases for lesion in case.lesions]
    recipe = lesion_classifier.LesionClassifierRecipe(shape=(16, 16, 16))
    soft = lesion_classifier._lesions(cases, recipe)
    hard = lesion_classifier._lesions(cases, replace(recipe, soft=False))
    assert soft.told.tolist() == pytest.approx([lesion.posterior for lesion in lesions])
    assert hard.told.tolist() == hard.malignant.tolist() == soft.malignant.tolist() == [float(x.malignant) for x in lesions]
    assert soft.fingerprint() != hard.fingerprint()
    # Of patients nobody knows more than pathology.
    unknown = [replace(c, lesions=tuple(replace(x, posterior=None) for x in c.lesions)) for c in cases]
    assert lesion_classifier._lesions(unknown, recipe).told.tolist() == hard.told.tolist()


def test_hard_labels_can_be_asked_for():
    from BreastUSAILib import cli

    command = ["train", "lesion-classifier", "--data", "D", "--output", "M", "--hard-labels"]
    recipe = lesion_classifier.recipe_of(cli.build_parser(command).parse_args(command))
    assert recipe == lesion_classifier.LesionClassifierRecipe(soft=False)
    with pytest.raises(UsageError, match="--batch must be 2 or more"):
        lesion_classifier.train(["D"], "M", replace(recipe, batch=1))


CLASSIFIER_SCRIPT = """
import os, sys, torch
import test_detection_training as t
from BreastUSAILib.models import folder
phantoms, detector, output, killed = sys.argv[1:]
torch.set_num_threads(1)
torch.nn.BatchNorm3d = t.WithoutStatistics
t.networks.COMPACT, t.classifiers.COMPACT = t.SMALL, t.PLAIN_CLASSIFIER
rank = int(os.environ["RANK"])
if rank:  # the first process writes the files
    folder.save_model = t.lesion_classifier.write_text = None
def watch(epoch, network):
    if epoch == int(killed) and not rank:
        os._exit(9)
    torch.save(network.state_dict(), f"{output}/rank{rank}.pt")
t.lesion_classifier.train([phantoms], output, t.UNEVEN, detector=detector, device="cpu", watch=watch)
"""
PLAIN_CLASSIFIER = {**CLASSIFIER, "dropout": 0.0}
UNEVEN = lesion_classifier.LesionClassifierRecipe(shape=(16, 16, 16), epochs=3, batch=5)
"""One batch of the five lesions of `phantoms`, of which two processes take three and two."""


class WithoutStatistics(torch.nn.BatchNorm3d):
    """Batch normalisation that measures nothing: each process would measure its own part of a batch."""

    def train(self, mode=True):
        return super().train(False)


def test_two_processes_train_the_classifier_as_one_does(phantoms, trained, tmp_path, monkeypatch):
    """Killed in the second epoch and begun again, they come to the weights of one process that saw the same batches."""
    script, output = tmp_path / "script.py", tmp_path / "model"
    script.write_text(CLASSIFIER_SCRIPT)
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parents[1]}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]

    def run(killed):
        arguments = [*command, str(phantoms), str(trained), str(output), str(killed)]
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=300)

    assert run(1).returncode != 0
    assert len((output / "log.jsonl").read_text().splitlines()) == 1 and not (output / "model.safetensors").exists()
    done = run(-1)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("resuming after epoch 1 of 3") == 1

    monkeypatch.setattr(torch.nn, "BatchNorm3d", WithoutStatistics)
    monkeypatch.setattr(classifiers, "COMPACT", PLAIN_CLASSIFIER)
    seen = {}
    lesion_classifier.train(
        [phantoms], tmp_path / "one", UNEVEN, device="cpu", watch=lambda _, network: seen.update(network.state_dict())
    )
    first, second = (torch.load(output / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in seen)
    for name in seen:
        torch.testing.assert_close(first[name], seen[name], rtol=1e-4, atol=1e-5)
    logs = [
        [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (output, tmp_path / "one")
    ]
    assert len(logs[0]) == len(logs[1]) == 3
    for name in ("loss", "loss_descriptors"):
        assert [line[name] for line in logs[0]] == pytest.approx([line[name] for line in logs[1]], rel=1e-4)
    config = zoo.load(output, "lesion-classifier", "cpu").entry
    assert config.trained_on.startswith("5 lesions of 4 phantoms") and "detector" in config.postprocessing


def test_descriptors_are_learnt_beside_malignancy_where_the_data_say_them(phantoms, tmp_path):
    from BreastUSAILib.training.detection_data import read_split

    said = lesion_classifier._lesions(read_split([phantoms], "train"), UNEVEN)
    unsaid = replace(said, descriptors=torch.full_like(said.descriptors, UNKNOWN))

    def logs(name, lesions, weight, epochs=2):
        torch.manual_seed(0)
        network = classifiers.LesionClassifier(**PLAIN_CLASSIFIER)
        recipe = replace(UNEVEN, descriptors=weight, epochs=epochs)
        with parallel.team("cpu") as group:
            run = CropRun(tmp_path / name, recipe, network, lesions, lesions, group, lambda *_: None, resume=False)
            return [run.epoch(epoch) for epoch in range(epochs)], run.average

    learnt, average = logs("said", said, 1.0, epochs=25)
    # At first each word is as likely as any other of its descriptor; five lesions are soon known by heart.
    guessed = sum(math.log(len(words)) for words in DESCRIPTORS.values())
    assert learnt[0]["loss_descriptors"] == pytest.approx(guessed, abs=0.2) and learnt[-1]["loss_descriptors"] < 0.7 * guessed
    assert type(average) is classifiers.LesionClassifier
    for log, _ in (logs("unsaid", unsaid, 1.0), logs("not asked for", said, 0.0)):
        assert all(set(line) == {"loss"} for line in log)


def test_the_parts_of_several_processes_are_the_batch_of_one(phantoms):
    from BreastUSAILib.training.detection_data import read_split

    waiting = lesion_classifier._lesions(read_split([phantoms], "train"), UNEVEN)
    order = torch.tensor([3, 0, 4, 2, 1])
    generators = [crops.generator_of(7) for _ in range(4)]
    whole, sizes = batch_of(waiting, order, UNEVEN, generators[0])
    for rank in range(3):
        own = slice(rank, None, 3)
        part, told = batch_of(waiting, order, UNEVEN, generators[1 + rank], own)
        torch.testing.assert_close(part, whole[own])
        assert torch.equal(told, sizes[own])
    # They go on with the same numbers.
    assert all(torch.equal(g.get_state(), generators[0].get_state()) for g in generators)


def test_each_process_needs_two_lesions(phantoms, tmp_path, monkeypatch):
    @contextmanager
    def four(device):
        yield Alone(0, 4, device)

    class Alone(Team):
        """The first of several whose others find nothing."""

        def gather(self, own):
            return own

    monkeypatch.setattr(parallel, "team", four)
    with pytest.raises(UsageError, match="--batch must be 8 or more for 4 processes"):
        lesion_classifier.train([phantoms], tmp_path / "model", replace(UNEVEN, batch=7), device="cpu")
    monkeypatch.setattr(Alone, "part", lambda self, items: items)
    with pytest.raises(DataError, match="has 5 lesions, too few for 4 processes"):
        lesion_classifier.train([phantoms], tmp_path / "model", replace(UNEVEN, batch=8), device="cpu")


def test_lesions_of_one_kind_alone_are_refused(tmp_path):
    make(tmp_path / "one", [1], "train")
    make(tmp_path / "one", [1], "validation")
    with pytest.raises(DataError, match="benign and malignant"):
        lesion_classifier.train([tmp_path / "one"], tmp_path / "model", device="cpu")
