"""The joint network and its recipe: what the paper says of each part, learning on balls, resuming, the command line, the evaluation."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hand_made_phantom import generate
from torch import nn
from torch.nn import functional as F

from BreastUSAILib.errors import DataError, UsageError
from BreastUSAILib.evaluation import segment_3d as protocol
from BreastUSAILib.evaluation.segment_3d_summary import Columns, LesionResult, figures, summarise
from BreastUSAILib.evaluation.segment_3d_table import table
from BreastUSAILib.evaluation.volume_data import read_volumes
from BreastUSAILib.findings import Box
from BreastUSAILib.lesion_crop import CropRule
from BreastUSAILib.networks import vnet
from BreastUSAILib.phantom.grids import PhantomGrid
from BreastUSAILib.phantom.layouts import write_phantom, write_tables
from BreastUSAILib.phantom.seeds import volume_seed
from BreastUSAILib.phantom.spec import PhantomSpec
from BreastUSAILib.training import segment_3d as recipe_module
from BreastUSAILib.training.segment_3d import Segment3dRecipe, build_network, recipe_of, train
from BreastUSAILib.training.segment_3d_crops import NONE, CropSet, Variation, draw_crop
from BreastUSAILib.training.segment_3d_data import LesionPatch, folds, patch_shape
from BreastUSAILib.training.segment_3d_losses import Balance, class_weights, dice_loss, focal_loss, outline_loss

SMALL = {"channels": (4, 4, 8, 8, 8), "convolutions": (1, 1, 1, 1, 1), "hidden": 8}
OPINION = {"stem_channels": 4, "stem_stride": 2, "channels": (4, 8), "strides": (2, 2)}


def small(configuration="paper", **more):
    base = vnet.PAPER if configuration == "paper" else vnet.COMPACT
    arguments = {**base, **SMALL, **more}
    if arguments.get("opinion"):
        arguments["opinion"] = OPINION
    torch.manual_seed(0)
    return vnet.VNet(**arguments)


# ---------------------------------------------------------------------------------------------------------- network


def test_the_published_network_has_nine_stages_and_three_in_its_branch():
    network = small()
    assert len(network.encoder) + (network.enter is not None) + len(network.decoder) == vnet.STAGES
    assert network.branch.first.in_features == 8 + 8 + 8  # channels of stages 4, 5 and 6
    said = network(torch.randn(2, 1, 16, 16, 32))
    assert said.outline.shape == (2, 16, 16, 32) and said.malignancy.shape == (2, 1)
    for layer in network.down:
        assert layer[0].kernel_size == layer[0].stride == (2, 2, 2)


def test_the_published_branch_normalises_each_stage_over_its_channels():
    branch = vnet.GlobalBranch([3, 5], 7, 0.0)
    maps = [torch.rand(2, 3, 4, 4, 4), torch.rand(2, 5, 2, 2, 2)]
    louder = [maps[0] * 10, maps[1] * 0.1]
    assert torch.allclose(branch(maps), branch(louder), atol=1e-5)
    pooled = [F.normalize(m.mean((2, 3, 4)), dim=1) for m in maps]
    two = branch.second(F.relu(branch.first(torch.cat(pooled, 1))))
    assert torch.allclose(torch.softmax(two, 1)[:, 1], torch.sigmoid(branch(maps)), atol=1e-6)


def test_the_published_branch_learns_at_its_own_rate():
    for rate, share in ((2e-3, 0.1), (1e-4, 1.0)):
        network = nn.ModuleDict({"network": small("compact", **vnet.ABLATIONS["CVNet"])})
        rest, branch = recipe_module._groups(network, Segment3dRecipe(rate=rate))
        assert branch["share"] == pytest.approx(share) and "share" not in rest
        known = {id(p) for p in network["network"].branch.parameters()}
        assert {id(p) for p in branch["params"]} == known
        assert len(rest["params"]) + len(known) == len(list(network.parameters()))


def test_every_ablation_is_a_network_of_either_configuration():
    assert tuple(vnet.ABLATIONS) == recipe_module.ABLATIONS
    volume = torch.randn(1, 1, 16, 16, 16)
    for base in (vnet.PAPER, vnet.COMPACT):
        for name, changes in vnet.ABLATIONS.items():
            network = vnet.VNet(**{**base, **SMALL, **changes}).eval()
            said = vnet.passes(network, volume, iterations=2)
            assert (said.outline is None) == (name == "ClsNet")
            assert said.malignancy.shape == (1, 0 if name == "VNet" else 1)
            assert network.iterative == ("Iter" in name or "stages" in name)


def test_numbers_that_are_no_network_are_refused():
    for wrong in (
        {"channels": (4, 4, 4)},
        {"stages": ()},
        {"stages": (0, 5)},
        {"full_ends": False, "stages": (1, 5)},
        {"segmentation": False, "iterative": False, "stages": (6,)},
        {"segmentation": False, "iterative": True, "stages": (5,)},
        {"normalisation": "layer"},
    ):
        with pytest.raises(ValueError):
            vnet.VNet(**{**vnet.PAPER, **SMALL, **wrong})


def test_the_second_pass_is_given_the_map_of_the_first():
    network = small().eval()
    volume = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        first = network(volume)
        second = network(volume, torch.sigmoid(first.outline)[:, None])
        assert torch.equal(vnet.passes(network, volume, iterations=2).outline, second.outline)
        assert torch.equal(vnet.passes(network, volume, iterations=0).outline, first.outline)
        assert not torch.equal(first.outline, second.outline)


def test_the_region_branch_sees_the_lesion_and_not_the_rest_of_the_crop():
    torch.manual_seed(0)
    branch = vnet.RegionBranch([3], 8, 0.0)
    nn.init.normal_(branch.second.weight)
    mask = torch.zeros(1, 1, 16, 16, 16)
    mask[:, :, 6:10, 4:8, 6:10] = 1
    shape = vnet.shape_figures(mask, torch.ones(1))
    features = torch.rand(1, 3, 16, 16, 16)
    before = branch([features], mask, shape)
    away, under = features.clone(), features.clone()
    away[:, :, :4], away[:, :, 12:], away[:, :, :, :2] = 9.0, -9.0, 5.0
    under[:, :, 6:10, 12:, 6:10] = 9.0
    assert torch.allclose(branch([away], mask, shape), before, atol=1e-5)
    assert not torch.allclose(branch([under], mask, shape), before, atol=1e-3)
    # Nothing outlined is no division by zero.
    assert torch.isfinite(branch([features], mask * 0, shape)).all()


def test_figures_are_standardised_by_what_training_saw():
    norm, generator = vnet.Standardise(2, momentum=0.05), torch.Generator().manual_seed(1)
    draw = lambda n: torch.randn(n, 2, generator=generator) * torch.tensor([0.1, 2.0]) + torch.tensor([5.0, -1.0])  # noqa: E731
    for _ in range(200):
        norm(draw(4))
    norm.eval()
    seen, before = norm(draw(2000)), norm.mean.clone()
    assert seen.mean(0).abs().max() < 0.3 and seen.std(0).tolist() == pytest.approx([1, 1], abs=0.25)
    assert torch.equal(norm.mean, before)  # looking is not learning
    assert norm(torch.tensor([[1e9, -1e9]])).tolist() == [[5.0, -5.0]]


def test_the_region_branch_goes_on_learning_after_a_push_that_would_kill_rectified_units():
    """What happened: every hidden unit was pushed below zero for every lesion, and had no gradient any more."""
    branch = vnet.RegionBranch([4], 8, 0.0)
    with torch.no_grad():
        branch.first.bias.fill_(-100.0)
    mask = torch.zeros(2, 1, 8, 8, 8)
    mask[:, :, 2:5, 2:5, 2:5] = 1
    branch([torch.rand(2, 4, 8, 8, 8)], mask, torch.zeros(2, 3)).sum().backward()
    assert branch.first.weight.grad.abs().sum() > 0


def test_shape_figures_of_a_ball_and_a_plate():
    z, y, x = torch.meshgrid(*[torch.arange(48.0) - 23.5] * 3, indexing="ij")
    ball = ((z**2 + y**2 + x**2) < 15**2).float()[None, None]
    plate = ((z.abs() < 20) & (y.abs() < 1) & (x.abs() < 20)).float()[None, None]
    volume, spacing, surface = vnet.shape_figures(ball, torch.tensor([0.5]))[0].tolist()
    assert volume == pytest.approx(math.log(4 / 3 * math.pi * 7.5**3 / 1000) / 3, abs=0.02)
    assert spacing == pytest.approx(math.log(0.5))
    assert abs(surface) < 0.1 < vnet.shape_figures(plate, torch.tensor([0.5]))[0, 2]


def test_the_opinion_is_taught_by_its_own_answer_alone():
    network = small("compact", opinion=True)
    said = network(torch.randn(2, 1, 16, 16, 16), None, torch.ones(2))
    assert said.malignancy.shape == (2, 2)
    said.malignancy[:, 1].sum().backward()
    others = [p.grad for n, p in network.named_parameters() if not n.startswith("opinion")]
    assert all(g is None or not g.any() for g in others)
    assert all(p.grad.any() for n, p in network.opinion.named_parameters() if n.endswith("answer.weight"))
    assert network(torch.randn(1, 1, 16, 16, 16), None, torch.ones(1), opinion=False).malignancy.shape == (1, 1)


# ----------------------------------------------------------------------------------------------------------- losses


def test_focal_loss_is_the_papers():
    logits, truth = torch.tensor([0.3, -1.2, 2.0]), torch.tensor([True, False, False])
    p = torch.sigmoid(logits)
    right = torch.where(truth, p, 1 - p)
    weight = torch.where(truth, 2.0, 0.5)
    expected = -(weight * (1 - right) ** 2 * right.log()).mean()
    assert focal_loss(logits, truth, (0.5, 2.0)) == pytest.approx(float(expected))
    plain = F.binary_cross_entropy_with_logits(logits, truth.float())
    assert focal_loss(logits, truth, gamma=0.0) == pytest.approx(float(plain))
    both = focal_loss(torch.stack([logits, logits], 1), truth, (0.5, 2.0))
    assert both == pytest.approx(float(expected))


def test_class_weights_balance_the_kinds():
    benign, malignant = class_weights([True] * 3 + [False] * 9)
    assert benign * 9 == pytest.approx(malignant * 3) and (benign * 9 + malignant * 3) / 12 == pytest.approx(1)
    assert class_weights([True, True]) == (1.0, 1.0)


def test_dice_loss_is_the_papers_and_takes_an_empty_truth():
    truth = torch.zeros(2, 2, 2, 2)
    truth[0, 0] = 1
    sure = torch.where(truth > 0, 50.0, -50.0)
    assert dice_loss(sure, truth) == pytest.approx(0, abs=1e-6)
    half = torch.zeros(2, 2, 2, 2)
    assert dice_loss(half, truth) == pytest.approx(1 - (5 / 9 + 1 / 5) / 2)
    assert outline_loss(half, truth, 0.5) == pytest.approx(float(dice_loss(half, truth)) + 0.5 * math.log(2))


def test_the_balance_is_lambda_or_learnt():
    c, s = torch.tensor(2.0), torch.tensor(0.5)
    assert Balance()(c, s) == pytest.approx(0.3 * 2 + 0.7 * 0.5)
    assert Balance()(None, s) == s and Balance()(c, None) == c
    learnt = Balance(learnt=True)
    optimiser = torch.optim.SGD(learnt.parameters(), lr=0.1)
    for _ in range(300):
        optimiser.zero_grad()
        learnt(c, s).backward()
        optimiser.step()
    # Where d/ds (exp(-s) L + s / 2) is 0: exp(-s) = 1 / (2 L).
    assert learnt.shares() == pytest.approx([1 / 4, 1.0], rel=0.02)


# ------------------------------------------------------------------------------------------------------------ crops


def ball_patch(rule, radius=5.0, off=(0.0, 0.0, 0.0), malignant=False, seed=0, number=0):
    """A patch with a dark ball in noise, `off` (z, y, x) mm from its middle; another bright one beside it is no lesion."""
    shape, spacing = patch_shape(rule, (2 * radius,) * 3)
    at = np.stack(np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * spacing for n in shape], indexing="ij"), -1)
    inside = ((at - off) ** 2).sum(-1) < radius**2
    levels = np.random.default_rng(seed).normal(110, 10, shape)
    levels[inside] -= 45 if not malignant else 70
    voxels = np.stack([levels.clip(0, 255), inside * 255.0]).astype(np.uint8)
    size = (2 * radius,) * 3
    ml = 4 / 3 * math.pi * radius**3 / 1000
    return LesionPatch(f"x/{number}/1", f"x/{number}", voxels, spacing, size, malignant, ml, float("nan"))


def test_an_unvaried_crop_is_the_one_that_inference_takes():
    from BreastUSAILib.lesion_crop import Region, crop_input
    from BreastUSAILib.volume_input import levels_of

    rule = CropRule()
    random = np.random.default_rng(0)
    array = sitk.GetArrayFromImage(
        sitk.SmoothingRecursiveGaussian(
            sitk.GetImageFromArray(random.normal(100, 40, (90, 70, 90)).astype(np.float32)), 2
        )
    )
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.5, 0.5, 0.5))
    centre, size = (23.0, 17.0, 22.0), (12.0, 9.0, 11.0)
    shape, spacing = patch_shape(rule, size)
    wide = Region.about(image, centre, spacing, shape)
    voxels = np.stack([np.rint(wide.read(image)), np.zeros(shape)]).astype(np.uint8)
    drawn = draw_crop(LesionPatch("a", "a", voxels, spacing, size, False, 1.0, 0.5), rule, NONE)
    near = Region.about(image, centre, rule.spacing(size), rule.shape)
    taken = crop_input(torch.from_numpy(near.read(image))[None])[0]
    assert drawn.spacing == pytest.approx(rule.spacing(size))
    assert float((drawn.volume - taken).abs().mean()) < 0.1
    assert float(torch.corrcoef(torch.stack([drawn.volume.flatten(), taken.flatten()]))[0, 1]) > 0.99
    assert levels_of(array).shape == array.shape


def test_crops_are_turned_mirrored_and_off_the_mark_but_keep_their_lesion():
    rule = CropRule((32, 32, 32), 0.4, 1.5, 1.8)
    patch = ball_patch(rule, off=(1.5, 0, 0))
    still = draw_crop(patch, rule, NONE)
    share = float(still.outline.float().sum())
    places = []
    for number in range(24):
        crop = draw_crop(patch, rule, Variation(intensities=False), torch.Generator().manual_seed(number))
        assert crop.volume.shape == (1, 32, 32, 32) and torch.isfinite(crop.volume).all()
        found = float(crop.outline.float().sum()) * crop.spacing**3 / still.spacing**3
        assert 0.6 * share < found < 1.6 * share
        assert crop.volume[0][crop.outline].mean() < crop.volume[0][~crop.outline].mean() - 1
        places.append(crop.outline.nonzero().float().mean(0) - 15.5)
    places = torch.stack(places)
    assert places[:, [0, 2]].std(0).min() > 0.8 and places.abs().max() < 9
    again = draw_crop(patch, rule, Variation(), torch.Generator().manual_seed(3))
    assert torch.equal(again.volume, draw_crop(patch, rule, Variation(), torch.Generator().manual_seed(3)).volume)


def test_every_lesion_comes_before_any_comes_again():
    rule = CropRule((16, 16, 16), 1, 1, 1)
    patches = [ball_patch(rule, number=n) for n in range(5)]
    crops = CropSet(patches, rule, NONE, 13, seed=3)
    order = crops.order()
    assert sorted(order[:5]) == sorted(order[5:10]) == list(range(5)) and len(order) == 13
    crops.epoch = 1
    assert crops.order() != order


def test_folds_hold_every_volume_out_once():
    cases = [SimpleNamespace(source="d", id=str(i)) for i in range(11)]
    held = []
    for fold in range(4):
        learnt, out = folds(cases, 4, fold)
        assert not {c.id for c in learnt} & {c.id for c in out} and len(learnt) + len(out) == 11
        assert len(out) in (2, 3)
        held += [c.id for c in out]
        assert [c.id for c in folds(cases[::-1], 4, fold)[1]][::-1] == [c.id for c in out]
    assert sorted(held) == sorted(c.id for c in cases)


# ----------------------------------------------------------------------------------------------------------- recipe


GRID = PhantomGrid((48, 32, 48), (0.75, 0.75, 0.75))
RECIPE = Segment3dRecipe(
    rule=CropRule((16, 16, 16), 0.5, 1.0, 1.8),
    epochs=8,
    crops=48,
    batch=4,
    rate=1e-2,
    vary={"intensities": False, "stretch": 1.0, "bend": 0.0},
    decay=0.9,
)


def make(folder, split, numbers, layout="native"):
    for index, number in enumerate(numbers):
        spec = PhantomSpec(grid=GRID, lesions=number)
        name = (
            f"phantom-{split}-{index:010d}"
            if layout == "native"
            else f"{index + (200 if split == 'validation' else 0):03d}"
        )
        write_phantom(layout, folder, name, split, spec, generate(volume_seed(split, index=index), spec))
    write_tables(layout, folder)
    return folder


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Volumes with up to two dark balls, every other one malignant."""
    folder = tmp_path_factory.mktemp("balls")
    make(folder, "train", [2, 1, 0, 2, 1])
    return make(folder, "validation", [2, 1])


@pytest.fixture(scope="module")
def trained(phantoms, tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(vnet, "COMPACT", {**vnet.COMPACT, **SMALL, "opinion": OPINION})
    try:
        return train([phantoms], tmp_path_factory.mktemp("joint"), RECIPE, device="cpu")
    finally:
        patch.undo()


@pytest.fixture
def small_networks(monkeypatch):
    monkeypatch.setattr(vnet, "COMPACT", {**vnet.COMPACT, **SMALL, "opinion": OPINION})
    monkeypatch.setattr(vnet, "PAPER", {**vnet.PAPER, **SMALL})


def test_dark_balls_are_learnt_in_seconds(trained):
    log = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert len(log) == RECIPE.epochs and log[-1]["outline"] < 0.6 * log[0]["outline"]
    assert log[-1]["dice"] > 0.75
    assert {"auc_1", "auc_2", "malignancy"} <= set(log[-1])


def test_what_is_left_says_how_it_was_made_and_chosen(trained):
    from BreastUSAILib.models import zoo

    model = zoo.load(trained, "segment-3d", "cpu")
    entry = model.entry
    assert entry.network == "vnet.VNet" and entry.preprocessing["shape"] == [16, 16, 16]
    chosen = entry.postprocessing
    assert 0.3 <= chosen["threshold"] <= 0.7 and 1 <= chosen["iterations"] <= 4
    assert sum(chosen["opinions"]) == pytest.approx(1) and len(chosen["opinions"]) == model.network.answers == 2
    assert 0 < chosen["malignant_from"] < 1
    tried = json.loads((trained / "postprocessing.json").read_text())["tried"]
    assert set(tried["dice"]) == {f"{n} passes" for n in (1, 2, 3, 4)} and tried["lesions"] == 3
    assert (chosen.get("refiner") == {}) == (tried["refiner"]["with"] >= tried["refiner"]["without"] + 0.002)
    assert "5 phantoms" in entry.trained_on and "train" in entry.trained_on


def test_a_killed_run_goes_on_to_the_very_same_weights(float32, phantoms, tmp_path, small_networks):
    recipe = replace(RECIPE, epochs=2, crops=8)

    def kill(epoch, network):
        if epoch == 1:
            raise KeyboardInterrupt

    cache = tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        train([phantoms], tmp_path / "a", recipe, cache=cache, device="cpu", watch=kill)
    assert not (tmp_path / "a" / "model.safetensors").exists()
    train([phantoms], tmp_path / "a", recipe, cache=cache, device="cpu")
    train([phantoms], tmp_path / "b", recipe, cache=cache, device="cpu")
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
    with pytest.raises(UsageError, match="another recipe"):
        train([phantoms], tmp_path / "a", replace(recipe, seed=2), cache=cache, device="cpu")


@pytest.mark.parametrize("ablation", ["VNet", "ClsNet", "C_MS VNet_Iter"])
def test_ablations_train(ablation, phantoms, trained, tmp_path, small_networks, monkeypatch, capsys):
    recipe = replace(RECIPE, ablation=ablation, epochs=1, crops=4, uncertainty=True)
    train([phantoms], tmp_path, recipe, cache=trained / "cache", device="cpu")
    config = json.loads((tmp_path / "config.json").read_text())
    measured = config["measured"]["validation"]
    assert ("dice" in measured) == (ablation != "ClsNet") and ("auc_1" in measured) == (ablation != "VNet")
    assert config["recipe"]["ablation"] == ablation and "auc_2" not in measured
    if ablation == "ClsNet":
        from BreastUSAILib.cli import main

        command = ["evaluate", "segment-3d", "--data", str(phantoms), "--split", "validation", "--model", str(tmp_path)]
        assert main([*command, "--output", str(tmp_path / "e"), "--bootstrap", "5", "--device", "cpu"]) == 0
        found = json.loads((tmp_path / "e" / "figures.json").read_text())["figures"]["true"]["figures"]
        assert found["dsc"]["value"] is None and 0 <= found["auc"]["value"] <= 1
        assert "| ClsNet |" in table({"ClsNet": tmp_path / "e"})

        def failing(*arguments):
            raise ValueError("a bug")

        monkeypatch.setattr("BreastUSAILib.segment_3d.look", failing)
        assert main([*command, "--output", str(tmp_path / "f"), "--bootstrap", "5", "--device", "cpu"]) == 1
        assert ".nrrd: L1 could not be judged: ValueError: a bug. No figures are written" in capsys.readouterr().err
        assert not (tmp_path / "f" / "figures.json").exists()


def test_folds_and_the_challenges_layout_train(tmp_path, small_networks):
    folder = tmp_path / "tdsc"
    make(folder, "train", [1, 1, 1, 1], "tdsc-abus")
    make(folder, "validation", [1, 1], "tdsc-abus")
    recipe = replace(RECIPE, epochs=1, crops=4, fold=1, folds=3)
    train([folder], tmp_path / "m", recipe, device="cpu")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert "4 phantoms" in config["trained_on"] and "fold 1 of 3" in config["trained_on"]


def test_what_cannot_be_trained_is_refused(phantoms, tmp_path, small_networks):
    for wrong, words in (
        ({"iterations": 5}, "iterations"),
        ({"fold": 4}, "fold 4 of 4"),
        ({"batch": 100}, "batch"),
        ({"configuration": "huge"}, "configuration"),
        ({"ablation": "WNet"}, "ablation"),
    ):
        with pytest.raises(UsageError, match=words):
            train([phantoms], tmp_path / "m", replace(RECIPE, **wrong), cache=tmp_path / "c", device="cpu")
    with pytest.raises(DataError, match="folds"):
        train([phantoms], tmp_path / "m", replace(RECIPE, fold=1, folds=9), cache=tmp_path / "c", device="cpu")


def test_a_volume_is_dealt_out_once(phantoms, tmp_path):
    with pytest.raises(UsageError, match="for folds give each data set once"):
        recipe_module.split_cases([phantoms, phantoms], replace(RECIPE, fold=0, folds=2))
    assert len(recipe_module.split_cases([phantoms], replace(RECIPE, fold=0, folds=2))) == 2


def test_processes_leave_out_what_none_of_them_has_learnt(monkeypatch):
    """As one process does: the optimiser passes over parameters without a gradient, which zeros would move on and decay."""
    from BreastUSAILib.training import parallel

    def gradients(first, second, size):
        network = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(2)) for _ in range(3)])
        messages = []

        def reduce(message):  # what comes of this process and one that has `second`
            if len(messages) == 1:
                message += messages[0]
            messages.append(message.clone())

        monkeypatch.setattr(parallel.distributed, "all_reduce", reduce)
        for said in (second, first):
            for parameter, gradient in zip(network, said, strict=True):
                parameter.grad = None if gradient is None else torch.tensor(gradient)
            figures = parallel.Team(0, size, "cpu").average(network, torch.tensor([1.0, 3.0]))
        assert figures.tolist() == [1.0, 3.0]
        return [None if p.grad is None else p.grad.tolist() for p in network]

    one, other = ([1.0, 2.0], None, None), ([3.0, 6.0], [4.0, 8.0], None)
    assert gradients(one, other, 2) == [[2.0, 4.0], [2.0, 4.0], None]
    assert gradients(one, one, 1) == [[1.0, 2.0], None, None]


def arguments(*argv):
    import argparse

    parser = argparse.ArgumentParser()
    recipe_module.add_arguments(parser)
    return parser.parse_args(["--data", "d", "--output", "o", *argv])


def test_the_command_line_says_the_recipe():
    assert recipe_of(arguments()) == Segment3dRecipe()
    assert recipe_of(arguments("--configuration", "paper")) == recipe_module.PAPER
    said = recipe_of(
        arguments("--ablation", "C_MS VNet", "--iterations", "0", "--lambda", "0.5", "--fold", "2", "--epochs", "3")
    )
    assert (said.ablation, said.iterations, said.weight, said.fold, said.epochs) == ("C_MS VNet", 0, 0.5, 2, 3)
    assert build_network(replace(Segment3dRecipe(), iterations=0))[0].iterative is False
    assert recipe_of(arguments("--fold", "0", "--folds", "3")).folds == 3
    for wrong in (("--epochs", "0"), ("--lambda", "1.5")):
        with pytest.raises(UsageError):
            recipe_of(arguments(*wrong))
    with pytest.raises(UsageError, match="--folds 3 says nothing without --fold"):
        recipe_of(arguments("--folds", "3"))


# ------------------------------------------------------------------------------------------------------- evaluation


def perfect(image, finding):
    """Marks the dark voxels of the box; sure of malignancy where it is large."""
    from dataclasses import replace as change

    from BreastUSAILib.grid import box_region

    start, size = box_region(image, finding.box, margin_mm=1.5)
    place = tuple(slice(a, a + n) for a, n in zip(start[::-1], size[::-1], strict=True))
    array = np.zeros(image.GetSize()[::-1], np.uint8)
    array[place] = sitk.GetArrayViewFromImage(image)[place] < 60
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(image)
    return change(finding, mask=mask, malignancy=0.4, measurements={"outline_uncertainty": 0.1})


def test_a_perfect_outline_scores_perfectly_and_a_missed_lesion_nothing(phantoms):
    cases = read_volumes(phantoms, ["train"])
    ways = {
        "true": protocol.true_boxes,
        "jittered": protocol.jittered_boxes(0),
        "detected": protocol.detected_boxes(lambda image: []),
    }
    results = protocol.evaluate(cases, ways, perfect)
    assert [len(part) for part in results.values()] == [6, 6, 6]
    assert all(r.dice == r.jaccard == 1 and r.hd95 == 0 and r.volume_error_ml == 0 for r in results["true"])
    missed = summarise(results["detected"], samples=20)
    assert (
        missed["found"] == 0
        and missed["figures"]["dsc"]["value"] == 0
        and missed["figures"]["dsc_found"]["value"] is None
    )
    summary = summarise(results["true"], malignant_from=0.5, samples=50)
    assert summary["volumes"] == 4 and summary["figures"]["dsc"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert summary["figures"]["auc"]["value"] == 0.5 and summary["figures"]["best_auc"]["value"] == 1.0
    assert summary["figures"]["rec"]["value"] == 0 and summary["figures"]["fpr"]["value"] == 0


def test_jittered_boxes_are_off_within_limits_and_the_same_again(phantoms):
    case = next(c for c in read_volumes(phantoms, ["train"]) if len(c.lesions) == 2)
    image, _, lesions = case.read_labels()
    boxes = protocol.jittered_boxes(1)(image, case, lesions)
    assert boxes == protocol.jittered_boxes(1)(image, case, lesions) != protocol.jittered_boxes(2)(image, case, lesions)
    for box, lesion in zip(boxes, lesions, strict=True):
        size = np.array(lesion.box.size)
        assert (np.abs(np.array(box.center) - lesion.box.center) <= protocol.SHIFT * size).all()
        assert (np.abs(np.log(np.array(box.size) / size)) <= math.log(protocol.STRETCH)).all()


def test_a_detectors_box_goes_to_the_lesion_that_it_overlaps_most(phantoms):
    from BreastUSAILib.findings import Finding

    case = next(c for c in read_volumes(phantoms, ["train"]) if len(c.lesions) == 2)
    image, _, lesions = case.read_labels()
    near = Box(tuple(c + 0.5 for c in lesions[1].box.center), lesions[1].box.size)
    found = [
        Finding("L1", near, 0.3),
        Finding("L2", lesions[1].box, 0.9),
        Finding("L3", Box((1, 1, 1), (1, 1, 1)), 0.95),
    ]
    assert protocol.detected_boxes(lambda image: found)(image, case, lesions) == [None, lesions[1].box]


def result(volume, dice, malignant, malignancy, ml=0.5, **more):
    facts = dict(
        source="s", volume=volume, lesion=1, malignant=malignant, volume_ml=ml, posterior=None, found=True, dice=dice
    )
    return LesionResult(
        **{
            **facts,
            "jaccard": dice,
            "hd95": 2.0,
            "malignancy": malignancy,
            "volume_error_ml": 0.0,
            "uncertainty": None,
            "seconds": 1.0,
            **more,
        }
    )


def test_figures_are_those_of_the_definitions():
    results = [
        result("a", 0.9, True, 0.8),
        result("a", 0.7, False, 0.6, ml=2.0),
        result("b", 0.8, False, 0.1, ml=1.0),
        result("c", 0.0, True, None, ml=3.0, found=False, hd95=None, volume_error_ml=None),
    ]
    f = figures(Columns.of(results), 0.5)
    assert f["dsc"] == pytest.approx(0.6) and f["dsc_found"] == pytest.approx(0.8)
    assert f["dsc_small"] == pytest.approx(0.85) and f["dsc_large"] == pytest.approx(0.35)
    assert f["hd95_mm"] == 2.0 and f["found"] == 0.75
    assert f["acc"] == pytest.approx(2 / 3) and f["rec"] == 1 and f["pre"] == 0.5 and f["fpr"] == 0.5
    assert f["f1"] == pytest.approx(2 / 3) and f["auc"] == 1.0 and "best_auc" not in f


def test_what_fails_is_not_measured_as_missed(trained, phantoms, tmp_path, capsys, monkeypatch):
    from BreastUSAILib import segment_3d
    from BreastUSAILib.cli import main

    def failing(*arguments):
        raise ValueError("a bug")

    monkeypatch.setattr(segment_3d, "outline_at", failing)
    command = ["evaluate", "segment-3d", "--data", str(phantoms), "--split", "validation", "--model", str(trained), "--device", "cpu"]
    assert main([*command, "--output", str(tmp_path / "e"), "--bootstrap", "5"]) == 1
    assert ".nrrd: L1 could not be outlined: ValueError: a bug. No figures are written" in capsys.readouterr().err
    assert not (tmp_path / "e" / "figures.json").exists()


def test_the_evaluation_leaves_figures_pictures_and_a_table(trained, phantoms, tmp_path, capsys):
    from BreastUSAILib.cli import main

    out = tmp_path / "e"
    command = ["evaluate", "segment-3d", "--data", str(phantoms), "--split", "validation", "--model", str(trained)]
    detector = ["--detector", "detection-compact", "--least-score", "0.2"]
    assert main([*command, *detector, "--output", str(out), "--bootstrap", "20", "--device", "cpu"]) == 0
    kept = json.loads((out / "figures.json").read_text())
    assert kept["split"] == "validation" and set(kept["figures"]) == {"true", "jittered", "detected"}
    assert kept["detector"]["id"] == "detection-compact" and kept["detector"]["least_score"] == 0.2
    assert [m["task"] for m in kept["models"]] == ["segment-3d", "detect"]
    assert kept["figures"]["true"]["figures"]["dsc"]["value"] > 0.6
    note = f"segmentation-3d-compact was chosen by the split validation of {phantoms.name}: these figures are better than on other volumes."
    assert kept["notes"] == [note] and f"Note: {note}" in capsys.readouterr().out and f"Note: {note}" in (out / "figures.md").read_text()
    for name in ("figures.md", "lesions.csv", "outlines.png", "volumes.png", "roc.png"):
        assert (out / name).stat().st_size > 100
    text = table({"C_MS VNet_Iter": out, "compact": out})
    assert "## Outlines" in text and "## Other networks" in text and "| C_MS VNet_Iter | 0." in text
    # Another set of lesions is not put side by side.
    other = tmp_path / "other"
    other.mkdir()
    kept["figures"]["true"]["lesions"] += 1
    (other / "figures.json").write_text(json.dumps(kept))
    (other / "lesions.csv").write_text((out / "lesions.csv").read_text())
    with pytest.raises(DataError, match="does not say which lesions"):
        table({"a": out, "b": other})


def test_lesions_of_one_volume_have_no_interval(tmp_path):
    results = [result("a", 0.9, True, 0.8), result("a", 0.7, False, 0.1, lesion=2)]
    summary = protocol.write(tmp_path / "e", {"true": results}, ABOUT, samples=20)["true"]
    assert summary["figures"]["dsc"] == {"value": pytest.approx(0.8), "low": None, "high": None}
    assert "| dsc | 0.800 |" in (tmp_path / "e" / "figures.md").read_text()
    text = table({"one|two": tmp_path / "e"})
    assert "| one\\|two | 0.800 | - |" in text and "2 lesions of 1 volume (1 malignant" in text


ABOUT = {"split": "test", "limit": None, "data": ["phantoms"], "jitter": {"shift": 0.1, "stretch": 1.2, "seed": 0}}


def _measured(folder, results, **about):
    """What `evaluate segment-3d` leaves of them, with true boxes, jittered ones and, where there is a detector, detected ones."""
    ways = ("true", "jittered", *(("detected",) if about.get("detector") else ()))
    protocol.write(folder, {way: results for way in ways}, ABOUT | about, samples=20)
    return folder


def test_rows_of_a_table_have_the_very_same_lesions_wherever_their_data_lay(tmp_path):
    results = [result(name, 0.9, malignant, 0.5) for name, malignant in (("a", True), ("b", False))]
    first = _measured(tmp_path / "first", results)
    again = _measured(tmp_path / "again", results[::-1], data=["/data/phantoms"], limit=2)
    assert "| again | 0.900" in table({"first": first, "again": again}, "jittered")
    others = [replace(r, volume=f"other {r.volume}") for r in results]
    # Those of every TDSC-ABUS have the same names.
    larger = [results[0], replace(results[1], volume_ml=0.6)]
    exchanged = [replace(r, malignant=not r.malignant) for r in results]
    alike = {"others": others, "larger": larger, "exchanged": exchanged}
    for unlike in (*(_measured(tmp_path / n, r) for n, r in alike.items()), _measured(tmp_path / "split", results, split="train")):
        with pytest.raises(DataError, match="the rows first, unlike were not measured on the same lesions"):
            table({"first": first, "unlike": unlike})


def test_a_table_of_an_earlier_version_may_lack_what_is_known_of_a_lesion(tmp_path):
    folder = _measured(tmp_path / "first", [result("a", 0.9, True, 0.5)])
    old = _measured(tmp_path / "old", [result("a", 0.9, True, 0.5)])
    lesions = old / "lesions.csv"
    lesions.write_text(lesions.read_text().replace(",volume_ml,posterior,", ",x,y,"))
    assert "| old | 0.900" in table({"first": folder, "old": old})


def test_rows_of_a_table_have_the_same_jittered_boxes(tmp_path):
    results = [result("a", 0.9, True, 0.5)]
    rows = {str(seed): _measured(tmp_path / str(seed), results, jitter=ABOUT["jitter"] | {"seed": seed}) for seed in (0, 1)}
    assert "| 1 | 0.900" in table(rows)
    with pytest.raises(DataError, match="the rows 0, 1 were not measured with the same jittered boxes"):
        table(rows, "jittered")


def test_rows_of_a_table_have_the_boxes_of_one_detector(tmp_path):
    results = [result("a", 0.9, True, 0.5)]
    one = {"id": "detection-compact", "version": "1.4.2", "sha256": "0", "least_score": None, "postprocessing": {"threshold": 0.5}}
    rows = {
        name: _measured(tmp_path / name, results, detector=one | other)
        for name, other in (("a", {}), ("b", {}), ("c", {"least_score": 0.1}), ("d", {"version": "1.4.1"}))
    }
    assert "| b | 0.900" in table({name: rows[name] for name in ("a", "b")}, "detected") and "| d | 0.900" in table(rows)
    for other in ("c", "d"):
        with pytest.raises(DataError, match=f"the rows a, {other} were not measured with the same detected boxes; .* --detector"):
            table({name: rows[name] for name in ("a", other)}, "detected")
    with pytest.raises(DataError, match="has no figures with detected boxes"):
        table({"a": _measured(tmp_path / "none", results)}, "detected")


def test_a_row_of_a_table_whose_lesions_are_not_known_is_refused(tmp_path):
    folder = _measured(tmp_path / "old", [result("a", 0.9, True, 0.5)])
    lesions = folder / "lesions.csv"
    lesions.write_text(lesions.read_text().replace("source", "data"))
    with pytest.raises(DataError, match=r"lesions\.csv lacks the columns source, so it does not say .*; make it again with"):
        table({"old": folder})
    lesions.unlink()
    with pytest.raises(DataError, match=r"lesions\.csv does not say which lesions were measured \(.*; make it again with"):
        table({"old": folder})
