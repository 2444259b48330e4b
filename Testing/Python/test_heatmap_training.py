"""The patch classifier on hand-made phantoms: its network, the patches that are kept, the crops, learning, and how a run survives."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from heatmap_cases import RECIPE, SMALL, data_set, make, small

from BreastUSAILib.errors import DataError, UsageError
from BreastUSAILib.evaluation import heatmap_patches as patches_module
from BreastUSAILib.evaluation.heatmap_patches import Patch
from BreastUSAILib.models import zoo
from BreastUSAILib.networks import resnet_3d as networks
from BreastUSAILib.training import detection_data, patch_store
from BreastUSAILib.training import heatmap as recipe_module
from BreastUSAILib.training import heatmap_crops as crops_module
from BreastUSAILib.training.heatmap_crops import CropRule, CropSet
from BreastUSAILib.training.heatmap_losses import at_points, point_loss
from BreastUSAILib.training.patch_store import PatchStore


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    monkeypatch.setattr(networks, "COMPACT", SMALL)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    return data_set(tmp_path_factory.mktemp("phantoms"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def store_of(folder, **changes):
    return replace(PatchStore(folder, RECIPE.spacing, RECIPE.patch, healthy=16), **changes)


@pytest.fixture
def patches(phantoms, cache):
    cases = detection_data.read_split([phantoms], "train")
    store = store_of(cache)
    store.prepare(cases)
    return store.load(cases)


# --- the network -----------------------------------------------------------------------------------------------------


def test_the_published_network_is_a_resnet_18():
    network = networks.ResNet3d(**networks.PAPER).eval()
    with torch.inference_mode():
        features = network.features(torch.zeros(1, 1, 16, 33, 32))
        logits = network.head(features.mean((2, 3, 4)))
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(33e6, rel=0.02)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv3d) and m.kernel_size != (1, 1, 1)]
    assert len(convolutions) + 1 == 18
    assert network.scale == (16, 32, 32) and features.shape == (1, 512, 1, 2, 1) and logits.shape == (1, 1)


@pytest.mark.parametrize(
    "arguments", [SMALL, {**SMALL, "stem_pool": True, "stem_kernel": 7, "stem_stride": (1, 2, 2), "strides": (1, 2)}]
)
def test_scale_and_reach_are_what_a_cell_sees(arguments):
    torch.manual_seed(1)
    network = networks.ResNet3d(**arguments).eval()
    for block in network.stages:
        torch.nn.init.ones_(block.second[1].weight)
    side = [2 * r + 4 * s + 1 for r, s in zip(network.reach, network.scale, strict=True)]
    volume = torch.randn(1, 1, *side, requires_grad=True)
    features = network.features(volume)
    cell = [n // 2 for n in features.shape[2:]]
    features[0, :, cell[0], cell[1], cell[2]].sum().backward()
    seen = torch.nonzero(volume.grad[0, 0])
    for axis in range(3):
        at = cell[axis] * network.scale[axis]
        assert (
            int(seen[:, axis].max()) - at <= network.reach[axis]
            and at - int(seen[:, axis].min()) <= network.reach[axis]
        )
        # ReLU and the maximum let the outermost voxels through by chance only.
        assert int(seen[:, axis].max()) - at >= network.reach[axis] // 2
    assert features.shape[2:] == tuple(-(-n // s) for n, s in zip(side, network.scale, strict=True))


def test_stages_need_one_number_each():
    with pytest.raises(ValueError, match="one number a stage"):
        networks.ResNet3d(channels=(4, 8), blocks=(1,), strides=(1, 2))


# --- the patches -----------------------------------------------------------------------------------------------------


def test_patches_lie_about_the_points_and_healthy_volumes_stay_whole(patches):
    shown = [p for p in patches if p.point is not None]
    healthy = [p for p in patches if p.point is None]
    assert len(shown) == 4 and len(healthy) == 2
    for patch in shown:
        assert patch.levels.shape == RECIPE.patch
        # The ball is dark at its centre.
        z, y, x = (int(v) for v in patch.point)
        assert np.asarray(patch.levels)[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2].mean() < 30
    for patch in healthy:  # 32 x 20 x 32 voxels are less than 16 patches
        assert patch.levels.shape == patch.volume == (32, 20, 32) and patch.start == (0, 0, 0)


def test_of_large_healthy_volumes_patches_are_kept(phantoms, tmp_path):
    cases = detection_data.read_split([phantoms], "train")
    store = store_of(tmp_path, healthy=3, patch=(10, 8, 10))
    store.prepare(cases)
    healthy = [p for p in store.load(cases) if p.point is None]
    assert len(healthy) == 6 and all(p.levels.shape == (10, 8, 10) for p in healthy)
    assert len({p.start for p in healthy}) > 3
    again = store_of(tmp_path / "again", healthy=3, patch=(10, 8, 10))
    again.prepare(cases)
    assert patch_store.fingerprint(again.load(cases)) == patch_store.fingerprint(store.load(cases))
    first, *others = store.load(cases)
    changed = replace(first, levels=255 - first.levels)
    assert patch_store.fingerprint([changed, *others]) != patch_store.fingerprint([first, *others])


def test_what_lies_far_from_all_lesions_serves_as_healthy(phantoms, tmp_path, monkeypatch):
    monkeypatch.setattr(crops_module, "FAR_MM", 5.0)
    cases = [c for c in detection_data.read_split([phantoms], "train") if c.lesions]
    store = store_of(tmp_path, whole=True)
    assert store.name_of(cases[0]) != store_of(tmp_path).name_of(cases[0])
    store.prepare(cases)
    patches = store.load(cases)
    whole = [p for p in patches if p.point is None]
    assert len(whole) == len(cases) and all(p.levels.shape == p.volume for p in whole)
    for patch in whole:
        shown = [np.add(p.point, p.start) for p in patches if p.name == patch.name and p.point is not None]
        np.testing.assert_allclose(sorted(patch.lesions), sorted(map(tuple, shown)), atol=1e-3)
    # The lesions are dark balls: no healthy crop shows one.
    crops = CropSet(patches, CropRule((8, 8, 8)), 60, 1)
    darkest = {True: [], False: []}
    for crop, lesion, _ in (crops[i] for i in range(60)):
        darkest[bool(lesion)].append(float(torch.nn.functional.avg_pool3d(crop, 3, 1).min()))
    assert len(darkest[False]) > 20 and min(darkest[False]) > max(darkest[True]) + 0.5
    monkeypatch.setattr(crops_module, "FAR_MM", 1e3)
    with pytest.raises(DataError, match="far enough"):
        [crops[i] for i in range(60)]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_where_no_place_is_far_from_lesions_healthy_volumes_serve(share):
    """Volumes smaller than the distance, of which one in forty is healthy: the tries may all meet others, again on every resume."""

    def whole(name, level, **about):
        return Patch(name, np.full((8, 8, 8), level, np.uint8), (0, 0, 0), (8, 8, 8), **about)

    ill = [whole(f"ill {i}", 200, lesions=((4.0, 4.0, 4.0),)) for i in range(40)]
    shown = whole("shown", 200, point=(4.0, 4.0, 4.0))
    crops = CropSet([shown, *ill, whole("well", 90)], CropRule((4, 4, 4), same_places=share), 400, 1)
    drawn = [float(crop.mean()) for crop, lesion, _ in (crops[i] for i in range(400)) if not lesion]
    healthy = float(crops_module.to_tensor(np.full((4, 4, 4), 90, np.uint8)).mean())
    assert len(drawn) > 100 and drawn == pytest.approx([healthy] * len(drawn))


def test_healthy_volumes_are_drawn_as_often_as_each_other():
    def patch(name, level, point=None):
        return Patch(name, np.full((8, 8, 8), level, np.uint8), (0, 0, 0), (8, 8, 8), point)

    many = [patch("many", 10) for _ in range(30)]
    crops = CropSet([patch("shown", 200, (4.0, 4.0, 4.0)), *many, patch("one", 90)], CropRule((4, 4, 4)), 400, 1)
    drawn = [float(crop.mean()) for crop, lesion, _ in (crops[i] for i in range(400)) if not lesion]
    low, high = min(drawn), max(drawn)
    assert 0.4 < np.mean(np.isclose(drawn, low)) < 0.6 and high > low


def test_the_store_is_used_again_and_made_anew_when_it_must(phantoms, cache, patches, monkeypatch):
    cases = detection_data.read_split([phantoms], "train")
    before = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    store_of(cache).prepare(cases)
    assert {path.name: path.stat().st_mtime_ns for path in cache.iterdir()} == before
    names = {
        store_of(cache, **c).name_of(cases[0])
        for c in ({}, {"patch": (20, 16, 22)}, {"healthy": 5}, {"spacing": (1.0, 1.0, 2.0)})
    }
    assert len(names) == 4


def test_a_damaged_store_and_points_outside_are_told(phantoms, tmp_path):
    case = next(c for c in detection_data.read_split([phantoms], "train") if c.lesions)
    store = store_of(tmp_path)
    lesion = case.lesions[0]
    far = replace(case, lesions=(replace(lesion, box=replace(lesion.box, center=(0.0, 0.0, 99.0))),), challenge=None)
    with pytest.raises(DataError, match=f"{case.image.name}.*outside"):
        store.prepare([far])
    store.prepare([case])
    next(tmp_path.glob("*.npy")).write_bytes(b"half")
    with pytest.raises(DataError, match="damaged.*delete the cache"):
        store.load([case])


def test_patches_at_the_edge_are_moved_into_the_volume():
    start, size = patches_module.region_about((1.0, 10.0, 31.0), (12, 30, 12), (32, 20, 32))
    assert start == (0, 0, 20) and size == (12, 20, 12)


def test_the_kinds_of_the_paper_show_the_point():
    levels = np.zeros((28, 56, 56), np.uint8)
    levels[3, 28, 50] = 255  # a point far from the middle, as at a volume's edge
    patch = Patch("a", levels, (0, 0, 0), (28, 56, 56), (3.5, 28.5, 50.5))
    random = np.random.default_rng(1)
    assert patches_module.of_kind(patch, "centre-patch", (16, 32, 32), random).shape == (28, 56, 56)
    places = set()
    for _ in range(30):
        for kind in ("centre-crop", "random-crop"):
            crop = patches_module.of_kind(patch, kind, (16, 32, 32), random)
            assert crop.shape == (16, 32, 32) and crop.max() == 255
            places.add((kind, *np.unravel_index(crop.argmax(), crop.shape)))
    assert len([p for p in places if p[0] == "centre-crop"]) == 1 and len(places) > 10


def test_asking_takes_as_many_healthy_patches_from_healthy_volumes_alone():
    dark = [Patch(f"v{i}", np.full((8, 8, 8), 10, np.uint8), (0, 0, 0), (8, 8, 8), (4.0, 4.0, 4.0)) for i in range(5)]
    light = [Patch(f"h{i}", np.full((12, 9, 12), 200, np.uint8), (0, 0, 0), (12, 9, 12)) for i in range(2)]
    answers = patches_module.ask(lambda levels: 1 - levels.mean() / 255, dark + light, (8, 8, 8), (4, 4, 4))
    for answer in answers.values():
        assert answer.figures() == {"auc": 1.0, "accuracy": 1.0}
        assert answer.lesion.tolist() == [True] * 5 + [False] * 5
        assert sorted(answer.volumes[5:]) in (["h0"] * 3 + ["h1"] * 2, ["h0"] * 2 + ["h1"] * 3)
    backwards = patches_module.ask(lambda levels: levels.mean() / 255, dark + light, (8, 8, 8), (4, 4, 4))
    assert all(answer.figures()["auc"] == 0.0 for answer in backwards.values())


# --- the crops -------------------------------------------------------------------------------------------------------


def test_crops_show_a_ball_where_they_say_so(patches):
    crops = CropSet(patches, CropRule(shape=RECIPE.crop), 60, seed=3)
    lesions = 0
    for number in range(60):
        crop, lesion, point = crops[number]
        assert crop.shape == (1, *RECIPE.crop) and crop.dtype == torch.float32
        darkest = float(torch.nn.functional.avg_pool3d(crop, 3, 1).min())
        assert (darkest < -1.8) == bool(lesion)
        assert bool(lesion) == bool(torch.isfinite(point).all())
        lesions += int(lesion)
    assert 18 < lesions < 42


def test_a_crop_is_its_number_alone_and_others_are_others(patches):
    rule = CropRule(shape=RECIPE.crop, zoom=1.2, stretch=1.1, vary=True, same_places=1.0)
    first, again = CropSet(patches, rule, 8, seed=3), CropSet(patches, rule, 8, seed=3)
    assert torch.equal(first[5][0], again[5][0]) and not torch.equal(first[5][0], first[6][0])
    again.epoch = 1
    assert not torch.equal(first[5][0], again[5][0])
    assert all(torch.isfinite(crop).all() for crop, *_ in (first[i] for i in range(8)))


@pytest.mark.parametrize("changes", [{}, {"zoom": 1.4, "stretch": 1.2}])
def test_the_point_moves_with_the_crop(changes):
    """However a crop is placed, mirrored and magnified, the brightest voxel is at its point."""
    levels = np.zeros((24, 24, 24), np.uint8)
    levels[10:13, 13:16, 7:10] = 255
    patches = [
        Patch("lesion", levels, (0, 0, 0), (24, 24, 24), (11.5, 14.5, 8.5)),
        Patch("healthy", np.zeros((24, 24, 24), np.uint8), (0, 0, 0), (24, 24, 24)),
    ]
    crops = CropSet(patches, CropRule(shape=(16, 16, 16), **changes), 60, seed=2)
    places = set()
    for crop, lesion, point in (crops[i] for i in range(60)):
        if lesion:
            weight = (crop[0] - crop.min()).double()
            middle = [
                float((weight.sum([a for a in range(3) if a != axis]) * (torch.arange(16) + 0.5)).sum() / weight.sum())
                for axis in range(3)
            ]
            assert middle == pytest.approx(point.tolist(), abs=0.1)
            places.add(tuple(np.rint(middle).tolist()))
    assert len(places) > 10


def test_maps_are_asked_between_their_cells():
    z, y, x = np.meshgrid(*(np.arange(n) * 4.0 for n in (8, 8, 7)), indexing="ij")
    plane = torch.from_numpy(z + 10 * y + 100 * x)  # cell i lies at the centre of voxel 4 i, which is 4 i + 0.5 from the edge
    points = torch.tensor([[8.5, 12.5, 8.5], [10.1, 6.4, 17.3], [0.2, 5.0, 31.9]])
    for degree in (1, 2):  # both are exact on planes
        said = at_points(torch.stack([plane] * 3).float(), points, (4, 4, 4), degree).tolist()
        assert said[:2] == pytest.approx([8 + 120 + 800, 9.6 + 59 + 1680], rel=1e-5)
    assert at_points(plane[None].float(), points[2:], (4, 4, 4), 1).tolist() == pytest.approx([45 + 2400], rel=1e-5)  # edges go on


def test_the_point_loss_asks_the_cell_at_the_point_and_all_of_healthy_crops():
    evidence = torch.zeros(2, 2, 2, 2)
    lesion, points = torch.tensor([1.0, 0.0]), torch.tensor([[0.5, 0.5, 4.5], [torch.nan] * 3])
    p = 1 / (1 + np.exp(4.0))  # every cell begins at a logit of -4
    by_hand = -np.log(p) * (1 - p) ** 2 - 8 * np.log(1 - p) * p**2
    assert float(point_loss(evidence, lesion, points, (4, 4, 4), 8.0)) == pytest.approx(by_hand, rel=1e-5)
    known = evidence.clone()
    known[0, 0, 0, 1] = 8 * 4.0  # the cell at the point, now at a logit of 0
    by_hand = np.log(2) / 4 - 8 * np.log(1 - p) * p**2
    assert float(point_loss(known, lesion, points, (4, 4, 4), 8.0)) == pytest.approx(by_hand, rel=1e-5)
    known[0, 1] = 1e3  # elsewhere about a point nothing is known
    assert float(point_loss(known, lesion, points, (4, 4, 4), 8.0)) == pytest.approx(by_hand, rel=1e-5)
    known[1, 1, 1, 1] = 8 * 4.0
    assert float(point_loss(known, lesion, points, (4, 4, 4), 8.0)) == pytest.approx(by_hand + np.log(2) / 4, rel=1e-2)
    healthy = point_loss(evidence, torch.zeros(2), points, (4, 4, 4), 8.0)
    assert float(healthy) == pytest.approx(-16 * np.log(1 - p) * p**2, rel=1e-4)


def test_the_point_loss_draws_the_maximum_to_the_point():
    """Evidence learnt for one point alone, by plain descent: the quadratic map has its maximum near the point, the linear one at a cell's centre."""
    from BreastUSAILib.gradcam_3d import spot_map

    random, far = np.random.default_rng(0), {1: [], 2: []}
    for place in random.uniform(8, 24, (15, 3)):
        point = torch.from_numpy(place[None]).float()
        for degree, found in far.items():
            cells = torch.zeros(1, 8, 8, 8, requires_grad=True)
            for _ in range(20):
                (slope,) = torch.autograd.grad(point_loss(cells, torch.ones(1), point, (4, 4, 4), 8.0, degree), cells)
                cells = (cells - 50 * slope).detach().requires_grad_()
            fine = spot_map(cells[0].detach().numpy(), (4, 4, 4), (32, 32, 32), (1.0, 1.0, 1.0), degree).activation
            found.append(float(np.linalg.norm(np.array(np.unravel_index(fine.argmax(), fine.shape)) + 0.5 - place)))
    assert np.median(far[2]) < 1.2 < 1.6 < np.median(far[1])


def test_units_of_evidence_begin_mostly_silent():
    torch.manual_seed(4)
    network = networks.ResNet3d(**{**SMALL, "evidence": 16, "gain": 64.0})
    features = network.features(torch.randn(2, 1, 24, 24, 24))
    assert features.shape[1] == 16 and 0.05 < float((features > 0).float().mean()) < 0.3


def test_a_patch_is_judged_by_the_mean_of_its_cells():
    torch.manual_seed(4)
    network = networks.ResNet3d(**{**SMALL, "evidence": 16, "gain": 64.0}).eval()
    torch.nn.init.normal_(network.head.bias)
    with torch.inference_mode():
        volume = torch.randn(2, 1, 12, 10, 14)
        evidence = network.activation(network.features(volume))
        torch.testing.assert_close(network(volume), evidence.mean((1, 2, 3)) + network.head.bias)


def test_healthy_crops_lie_where_the_others_do():
    """A volume that is brighter the deeper it is: place alone must not tell lesions from health."""
    deep = np.broadcast_to(np.arange(40, dtype=np.uint8)[None, :, None] * 5, (40, 40, 40))
    patches = [
        Patch("lesion", np.ascontiguousarray(deep[8:32, :24, 8:32]), (8, 0, 8), (40, 40, 40), (12.0, 6.0, 12.0)),
        Patch("healthy", np.ascontiguousarray(deep), (0, 0, 0), (40, 40, 40)),
    ]

    def depths(**changes):
        crops = CropSet(patches, CropRule(shape=(8, 8, 8), **changes), 200, seed=1)
        seen = {0.0: [], 1.0: []}
        for crop, lesion, _ in (crops[i] for i in range(200)):
            seen[float(lesion)].append(float(crop.mean()))
        return np.mean(seen[0.0]), np.mean(seen[1.0])

    healthy, lesion = depths(same_places=1.0)
    assert healthy == pytest.approx(lesion, abs=0.15)
    healthy, lesion = depths()
    assert healthy > lesion + 1
    # The same where a volume with lesions gives what is far from them.
    patches.append(Patch("shown", np.ascontiguousarray(deep), (0, 0, 0), (40, 40, 40), lesions=((-60.0, 20.0, 20.0),)))
    healthy, lesion = depths(same_places=1.0)
    assert healthy == pytest.approx(lesion, abs=0.15)


# --- learning --------------------------------------------------------------------------------------------------------


def _weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def trained(phantoms, cache, tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(networks, "COMPACT", SMALL)
    try:
        return recipe_module.train([phantoms], tmp_path_factory.mktemp("heat"), RECIPE, cache=cache, device="cpu")
    finally:
        patch.undo()


def test_dark_balls_are_learnt_from_their_points(trained):
    log = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"] and log[-1]["centre_crop_auc"] > 0.95
    config = json.loads((trained / "config.json").read_text())
    assert config["task"] == "heatmap" and "(split train, one central point a lesion)" in config["trained_on"]
    assert config["preprocessing"]["crop"] == list(RECIPE.crop)
    choice = config["postprocessing"]
    assert choice["full_heat"] > 0 and 0 < choice["threshold"] < 1 and choice["scored_by"] in ("patch", "peak")
    assert np.isfinite(choice["floor"])
    assert config["measured"]["validation"]["warm_points"] == 1.0
    assert config["measured"]["validation"]["random_crop_auc"] == log[-1]["random_crop_auc"]
    assert zoo.load(trained, "heatmap", "cpu").network.scale == (2, 2, 2)


def test_a_killed_run_goes_on_to_the_same_result(phantoms, cache, tmp_path, trained):
    class Killed(Exception):
        pass

    def kill(epoch, network):
        if epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        recipe_module.train([phantoms], tmp_path, RECIPE, cache=cache, device="cpu", watch=kill)
    assert not (tmp_path / "model.safetensors").exists()
    recipe_module.train([phantoms], tmp_path, RECIPE, cache=cache, device="cpu")
    for name, value in _weights(trained).items():
        torch.testing.assert_close(_weights(tmp_path)[name], value, rtol=1e-5, atol=1e-6)
    with pytest.raises(UsageError, match="another recipe"):
        recipe_module.train([phantoms], tmp_path, small(rate=1e-3), cache=cache, device="cpu")


def test_training_goes_on_from_a_models_weights(phantoms, cache, tmp_path, trained, monkeypatch):
    recipe = small(start=str(trained), epochs=1, rate=1e-7)
    folder = recipe_module.train([phantoms], tmp_path / "further", recipe, cache=cache, device="cpu")
    told = json.loads((folder / "config.json").read_text())["trained_on"]
    assert "went on from heatmap-compact unpublished, which had learnt from" in told
    before, further = _weights(trained), _weights(folder)
    learnt = [name for name in before if name.endswith("weight") and before[name].dim() > 1]
    assert learnt and all(torch.allclose(further[name].float(), before[name].float(), atol=1e-3) for name in learnt)
    monkeypatch.setattr(networks, "COMPACT", {**SMALL, "evidence": 3})
    with pytest.raises(UsageError, match="another network"):
        recipe_module.train([phantoms], tmp_path / "other", recipe, cache=cache, device="cpu")


def test_folds_are_not_measured_on_what_their_start_learnt_from(capsys):
    from BreastUSAILib import cli

    arguments = ["train", "heatmap", "--data", "x", "--output", "y", "--start", "heatmap-compact", "--folds", "5"]
    assert cli.main(arguments) == 2 and "--start with --folds" in capsys.readouterr().err


def test_the_published_recipe_trains_with_adam_at_one_rate(phantoms, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "PAPER", SMALL)
    changes = {name: getattr(RECIPE, name) for name in ("spacing", "patch", "crop")}
    recipe = replace(recipe_module.PAPER, epochs=1, batch=2, **changes)
    seen = {}
    from BreastUSAILib.training.learner import Learner

    step = Learner.step

    def watched(self, *args):
        result = step(self, *args)
        seen.update(kind=type(self.optimiser).__name__, rate=self.optimiser.param_groups[0]["lr"])
        seen["same"] = all(
            torch.equal(a, b) for a, b in zip(self.network.parameters(), self.average.parameters(), strict=True)
        )
        return result

    monkeypatch.setattr(Learner, "step", watched)
    recipe_module.train([phantoms], tmp_path, recipe, cache=cache, device="cpu")
    assert seen == {"kind": "Adam", "rate": 1e-3, "same": True}
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])["point_loss"] == 0
    assert json.loads((tmp_path / "config.json").read_text())["recipe"]["crops"] == 8  # twice the 4 lesions


def test_folds_share_the_volumes_out(phantoms):
    cases = [c for split in ("train", "validation") for c in detection_data.read_split([phantoms], split)]
    held = []
    for fold in (1, 2, 3):
        training, validation = recipe_module.split_into_folds(cases, fold, 3)
        assert not {c.id for c in training} & {c.id for c in validation} and len(training) + len(validation) == 8
        assert any(not c.lesions for c in validation) and any(c.lesions for c in validation)
        held += [c.id for c in validation]
    assert sorted(held) == sorted(c.id for c in cases)
    for fold, folds in ((4, 3), (1, 1), (1, 9)):
        with pytest.raises(UsageError, match=f"fold {fold} of {folds}"):
            recipe_module.split_into_folds(cases, fold, folds)


def test_a_volume_is_dealt_out_once(phantoms, tmp_path):
    """The same data set twice, also by another path, or another of its name: folds would be judged on what they learnt from."""
    (tmp_path / "linked").symlink_to(phantoms)
    make(tmp_path / phantoms.name, [1, 0], "train")
    for other in (phantoms, tmp_path / "linked", tmp_path / phantoms.name):
        cases = detection_data.read_split([phantoms, other], "train")
        with pytest.raises(UsageError, match="for folds give each data set once, in folders with different names"):
            recipe_module.split_into_folds(cases, 1, 2)


def test_cross_validation_needs_two_folds(capsys):
    from BreastUSAILib import cli

    for folds in ("0", "-3", "1"):
        assert cli.main(["train", "heatmap", "--data", "x", "--output", "y", "--folds", folds]) == 2
        assert f"--folds is {folds}; a cross-validation needs 2 folds or more" in capsys.readouterr().err


def test_a_run_does_not_go_on_from_the_model_that_it_leaves(phantoms, tmp_path, trained):
    for output in (trained, trained / ".." / trained.name):
        with pytest.raises(UsageError, match="is the folder of --output"):
            recipe_module.train([phantoms], output, small(start=str(trained)), resume=False, device="cpu")


def test_cross_validation_sums_up_its_folds(phantoms, cache, tmp_path):
    recipe_module.cross_validate([phantoms], tmp_path, small(epochs=1, crops=16), 2, cache=cache, device="cpu")
    summary = json.loads((tmp_path / "cross-validation.json").read_text())["centre_patch_auc"]
    own = [
        json.loads((tmp_path / f"fold-{k}" / "config.json").read_text())["measured"]["validation"]["centre_patch_auc"]
        for k in (1, 2)
    ]
    assert summary["folds"] == own and summary["mean"] == pytest.approx(np.mean(own))
    for k in (1, 2):
        told = json.loads((tmp_path / f"fold-{k}" / "config.json").read_text())["trained_on"]
        assert told.endswith(f"(all but fold {k} of 2 of the splits train and validation, one central point a lesion)")
    assert summary["sd"] == pytest.approx(abs(own[0] - own[1]) / np.sqrt(2))


def test_data_without_health_or_lesions_are_refused(tmp_path):
    make(tmp_path / "ill", [1, 1], "train")
    make(tmp_path / "ill", [1, 0], "validation")
    with pytest.raises(DataError, match="no volume without lesions"):
        recipe_module.train([tmp_path / "ill"], tmp_path / "out", RECIPE)
    make(tmp_path / "well", [0, 0], "train")
    make(tmp_path / "well", [1, 0], "validation")
    with pytest.raises(DataError, match="split train .* has no lesion"):
        recipe_module.train([tmp_path / "well"], tmp_path / "out", RECIPE)


def test_the_command_line_prepares_and_refuses(phantoms, tmp_path):
    from BreastUSAILib.cli import main

    arguments = ["train", "heatmap", "--data", str(phantoms), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--prepare-only", "--cache", str(tmp_path / "cache")]) == 0
    assert list((tmp_path / "cache").glob("*.npy")) and not (tmp_path / "out" / "model.safetensors").exists()
    assert main([*arguments, "--epochs", "0"]) == 2
    assert main([*arguments, "--batch", "4", "--crops", "2", "--cache", str(tmp_path / "cache")]) == 2


SCRIPT = """
import sys, torch
from BreastUSAILib.networks import resnet_3d as networks
from BreastUSAILib.training.heatmap import train
import heatmap_cases as t
networks.COMPACT = t.SMALL
torch.set_num_threads(1)
phantoms, cache, output = sys.argv[1:]
def watch(epoch, network):
    torch.save(network.state_dict(), f"{output}/rank{torch.distributed.get_rank()}.pt")
train([phantoms], output, t.small(epochs=1, crops=16), cache=cache, device="cpu", watch=watch)
"""


def test_two_processes_train_in_step(phantoms, cache, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    repository = Path(__file__).resolve().parents[2]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(repository), str(Path(__file__).parent)]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(
        [*command, str(phantoms), str(cache), str(tmp_path)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (tmp_path / "model.safetensors").is_file()


@pytest.mark.parametrize(("gain", "mirrors"), [(0.005, 1), (0.015, 4)])
def test_more_looks_are_chosen_where_they_help(gain, mirrors, monkeypatch):
    from BreastUSAILib.training import heatmap_choice

    def chosen(volumes, network, crop, rule, device, looks, degree):
        at = 0.5 + (gain if looks == 4 else 0)
        return {"mirrors": looks}, {"sensitivity_at_1_fp": at, "sensitivity_at_2_fp": at}

    monkeypatch.setattr(heatmap_choice, "_choose", chosen)
    choice, figures = heatmap_choice.choose([], None, (1, 1, 1), None, "cpu")
    assert choice == {"mirrors": mirrors}
    assert figures["sensitivity_at_1_fp_by_4_looks"] == 0.5 + gain
    choice, figures = heatmap_choice.choose([], None, (1, 1, 1), None, "cpu", looks=(1,))
    assert choice == {"mirrors": 1} and "sensitivity_at_1_fp_by_1_looks" not in figures
