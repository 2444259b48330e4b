"""The U-Nets that the detection network is compared with: masks, crops, components, training, and their place in the evaluation."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hand_made_phantom import generate
from hypothesis import given, settings
from hypothesis import strategies as st

from BreastUSAILib import cli
from BreastUSAILib.errors import DataError, ImageError, ModelError, UsageError
from BreastUSAILib.evaluation import unet_baseline as baseline
from BreastUSAILib.evaluation.unet_baseline import ComponentRule, components
from BreastUSAILib.models import zoo
from BreastUSAILib.networks import unet
from BreastUSAILib.phantom.grids import PhantomGrid
from BreastUSAILib.phantom.layouts import write_phantom, write_tables
from BreastUSAILib.phantom.seeds import volume_seed
from BreastUSAILib.phantom.spec import PhantomSpec
from BreastUSAILib.training import detect_baseline as recipes
from BreastUSAILib.training import detection_crops as crops
from BreastUSAILib.training import detection_data as data
from BreastUSAILib.training import lesion_masks
from BreastUSAILib.training.detect_baseline import BaselineRecipe
from BreastUSAILib.training.voxel_crops import VoxelCropSet, classes_at

GRID = PhantomGrid((40, 20, 36), (0.8, 1.0, 0.9), top=2.0, whole=False)
SMALL3D = {"dimension": 3, "channels": (6, 12), "strides": (2,)}
SMALL2D = {"dimension": 2, "channels": (6, 12), "strides": (2,)}
RECIPE = BaselineRecipe(crop=(24, 16, 24), epochs=3, crops=48, batch=4, rate=2e-2, decay=0.9)
TWO = replace(RECIPE, network="unet2d", every=2)


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    """What is tested here is the training, so the networks are ones that learn a ball in seconds."""
    monkeypatch.setattr(unet, "UNET3D", SMALL3D)
    monkeypatch.setattr(unet, "UNET2D", SMALL2D)


def make(folder, numbers, split, layout="native"):
    for index, number in enumerate(numbers):
        spec = PhantomSpec(grid=GRID, lesions=number)
        name = f"phantom-{split}-{index:010d}" if layout == "native" else f"{index + (0 if split == 'train' else 100):03d}"
        write_phantom(layout, folder, name, split, spec, generate(volume_seed(split, index=index), spec))
    write_tables(layout, folder)
    return folder


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    make(folder, [1, 2, 0, 2], "train")
    return make(folder, [2, 1], "validation")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def cases(phantoms, cache):
    cases = data.read_split([phantoms], "train")
    data.prepare(cases, cache, RECIPE.spacing)
    lesion_masks.prepare(cases, data.load(cases, cache, RECIPE.spacing), cache, RECIPE.spacing)
    return cases


@pytest.fixture
def volumes(cases, cache):
    return data.load(cases, cache, RECIPE.spacing)


@pytest.fixture
def masks(cases, cache):
    return lesion_masks.load(cases, cache, RECIPE.spacing)


# --- masks -----------------------------------------------------------------------------------------------------------


def test_masks_lie_on_the_dark_balls_and_in_their_boxes(volumes, masks):
    assert [len(m) for m in masks] == [1, 2, 0, 2]
    for volume, lesions in zip(volumes, masks, strict=True):
        for lesion, box in zip(lesions, volume.boxes, strict=True):
            place = tuple(slice(s, s + n) for s, n in zip(lesion.start, lesion.inside.shape, strict=True))
            edges = [*(side.start for side in place), *(side.stop for side in place)]
            assert np.abs(np.subtract(edges, box)).max() <= 1.0
            dark = np.asarray(volume.levels)[place] < 50
            assert dark[lesion.inside].mean() > 0.95 and dark[~lesion.inside].mean() < 0.3


def test_masks_do_not_touch_what_the_detection_network_keeps(phantoms, cases, cache, tmp_path):
    plain = tmp_path / "plain"
    data.prepare(cases, plain, RECIPE.spacing)
    names = {path.name for path in plain.iterdir()}
    assert names < {path.name for path in cache.iterdir()}
    assert all((plain / name).read_bytes() == (cache / name).read_bytes() for name in names)
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    lesion_masks.prepare(cases, data.load(cases, cache, RECIPE.spacing), cache, RECIPE.spacing)
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == before


def test_masks_are_made_anew_when_a_label_map_changes(tmp_path):
    case = data.read_split([make(tmp_path / "one", [1], "train")], "train")[0]
    data.prepare([case], tmp_path / "cache", RECIPE.spacing)
    volumes = data.load([case], tmp_path / "cache", RECIPE.spacing)
    labels = sitk.ReadImage(str(case.labels))
    for size in (1, 2):
        if size == 2:
            sitk.WriteImage(sitk.BinaryErode(labels), str(case.labels))
        lesion_masks.prepare([case], volumes, tmp_path / "cache", RECIPE.spacing)
        (mask,) = lesion_masks.load([case], tmp_path / "cache", RECIPE.spacing)[0]
        assert len(list((tmp_path / "cache").glob("*.npz"))) == size
    whole = lesion_masks.mask_on_grid(labels, 1, volumes[0].levels.shape)
    assert 0 < mask.inside.sum() < whole.inside.sum()


def test_a_mask_is_resampled_to_where_it_is():
    array = np.zeros((12, 10, 16), np.uint8)
    array[4:10, 2:6, 4:12] = 2
    labels = sitk.GetImageFromArray(array)
    labels.SetSpacing((0.5, 1.0, 0.5))
    labels.SetOrigin((7.0, -3.0, 2.0))
    labels.SetDirection((0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    half = lesion_masks.mask_on_grid(labels, 2, (6, 10, 8))
    assert half.start == (2, 2, 2) and half.inside.shape == (3, 4, 4) and half.inside.all()
    finer = lesion_masks.mask_on_grid(labels, 2, (24, 20, 32))
    assert finer.start == (8, 4, 8) and finer.inside.shape == (12, 8, 16) and finer.inside.all()


def test_a_lesion_between_the_voxels_is_not_lost():
    array = np.zeros((9, 9, 9), np.uint8)
    array[5, 3, 8] = 1
    mask = lesion_masks.mask_on_grid(sitk.GetImageFromArray(array), 1, (3, 3, 3))
    assert mask.start == (1, 1, 2) and mask.inside.tolist() == [[[True]]]


def test_damaged_and_missing_masks_are_told(phantoms, cases, cache, tmp_path):
    broken = tmp_path / "cache"
    data.prepare(cases[:1], broken, RECIPE.spacing)
    volumes = data.load(cases[:1], broken, RECIPE.spacing)
    with pytest.raises(DataError, match="missing or damaged.*delete the cache"):
        lesion_masks.load(cases[:1], broken, RECIPE.spacing)
    lesion_masks.prepare(cases[:1], volumes, broken, RECIPE.spacing)
    next(broken.glob("*.npz")).write_bytes(b"half")
    with pytest.raises(DataError, match="missing or damaged.*delete the cache"):
        lesion_masks.load(cases[:1], broken, RECIPE.spacing)


# --- crops -----------------------------------------------------------------------------------------------------------


def test_crops_are_those_of_the_detection_network_with_their_classes(volumes, masks):
    recipe = crops.CropRecipe(shape=(24, 16, 24), lesion_share=1.0)
    weights, places = crops.lesion_weights(volumes, recipe)
    kinds = set()
    for seed in range(20):
        generator = crops.generator_of(7, 0, seed)
        expected = crops.draw_crop(volumes, weights, places, recipe, generator)
        volume, classes = VoxelCropSet(volumes, masks, recipe, 20, 7)[seed]
        assert torch.equal(volume, expected.volume) and classes.shape == (1, 24, 16, 24)
        kinds |= set(classes.unique().tolist())
        for box, kind in zip(expected.lesions, expected.classes, strict=True):
            lesion = classes[0] == kind
            z1, y1, x1, z2, y2, x2 = box.round().int().tolist()
            # A ball fills pi / 6 of its box; at the crop's edge it is cut.
            assert 0.2 < lesion[z1:z2, y1:y2, x1:x2].float().mean() <= 1
    assert kinds == {0, 1, 2}


def test_classes_lie_on_the_balls_however_a_crop_is_turned(volumes, masks, monkeypatch):
    monkeypatch.setattr(crops, "vary_intensities", lambda levels, generator, spacing: levels)
    recipe = crops.CropRecipe(shape=(24, 16, 24), lesion_share=1.0, zoom=1.5, levelled=0.0)
    turned = set()
    for seed in range(20):
        generator = crops.generator_of(seed)
        place = crops.draw_place(volumes, *crops.lesion_weights(volumes, recipe), recipe, generator)
        turned.add(place.mirror)
        volume = volumes[place.volume]
        seen = crops.crop_at(volume, place, recipe, generator).volume[0]
        inside = classes_at(masks[place.volume], volume.malignant, place, recipe.shape) > 0
        # Nothing is as dark as the balls, whose edges lie halfway between.
        assert seen[inside].mean() < -2 and (seen[inside] < -1).float().mean() > 0.9
        assert ((seen < -2) & ~inside).sum() < 0.25 * inside.sum()
    assert len(turned) == 4


def test_slices_are_every_nth_from_one_of_the_first(volumes, masks):
    recipe = crops.CropRecipe(shape=(24, 16, 24))
    whole, some = (VoxelCropSet(volumes, masks, recipe, 30, 3, every) for every in (1, 4))
    firsts = set()
    for number in range(30):
        (all_slices, all_classes), (volume, classes) = whole[number], some[number]
        assert volume.shape == (1, 6, 16, 24)
        first = next(i for i in range(4) if torch.equal(all_slices[:, i], volume[:, 0]))
        assert torch.equal(all_classes[:, first::4], classes)
        firsts.add(first)
    assert firsts == {0, 1, 2, 3}


# --- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [SMALL2D, SMALL3D])
def test_networks_take_volumes_of_any_size(arguments):
    network = unet.SegmentationUNet(**arguments).eval()
    assert network(torch.zeros(2, 1, 9, 7, 11)).shape == (2, 3, 9, 7, 11)
    with pytest.raises(ValueError, match="must be 2 or 3"):
        unet.SegmentationUNet(dimension=4)


@torch.no_grad()
def test_the_2d_network_sees_one_slice_at_a_time():
    two, three = (unet.SegmentationUNet(**arguments).eval() for arguments in (SMALL2D, SMALL3D))
    volume = torch.randn(1, 1, 6, 8, 10, generator=torch.Generator().manual_seed(1))
    changed = volume.clone()
    changed[:, :, 3] += 1
    for network, alone in ((two, True), (three, False)):
        difference = (network(volume) - network(changed)).abs().amax((0, 1, 3, 4))
        assert difference[3] > 1e-4
        assert (difference[[0, 1, 2, 4, 5]].max() < 1e-6) == alone
    torch.testing.assert_close(two(volume)[:, :, 2:4], two(volume[:, :, 2:4]))


# --- components ------------------------------------------------------------------------------------------------------


def _probability(*blobs, shape=(20, 12, 24)):
    """(2, z, y, x): blobs of (slices z, y, x; benign, malignant) in nothing."""
    probability = np.zeros((2, *shape), np.float32)
    for place, benign, malignant in blobs:
        probability[0][place], probability[1][place] = benign, malignant
    return probability


def test_components_become_boxes_with_scores_and_malignancy():
    first = (slice(2, 6), slice(3, 7), slice(4, 10))
    second = (slice(10, 13), slice(1, 4), slice(12, 20))
    probability = _probability((first, 0.1, 0.4), (second, 0.6, 0.2))
    probability[1][2, 3, 4] += 0.4
    found = components(probability, (1.0, 1.0, 1.0), ComponentRule(inside=0.3, score="mean"))
    assert found.boxes.tolist() == [[10, 1, 12, 13, 4, 20], [2, 3, 4, 6, 7, 10]]
    voxels = 4 * 4 * 6
    assert found.scores == pytest.approx([0.8, (0.5 * voxels + 0.4) / voxels])
    assert found.malignancy == pytest.approx([0.25, (0.4 * voxels + 0.4) / (0.5 * voxels + 0.4)])
    found = components(probability, (1.0, 1.0, 1.0), ComponentRule(inside=0.3, score="maximum"))
    assert found.scores == pytest.approx([0.9, 0.8]) and found.boxes[0].tolist() == [2, 3, 4, 6, 7, 10]
    assert len(components(probability, (1.0, 1.0, 1.0), ComponentRule(inside=0.7)).boxes) == 1


def test_corners_connect_and_gaps_do_not():
    touching = _probability(((slice(2, 5), slice(2, 5), slice(2, 5)), 0.5, 0), ((slice(5, 8), slice(5, 8), slice(5, 8)), 0.5, 0))
    assert components(touching, (1, 1, 1), ComponentRule()).boxes.tolist() == [[2, 2, 2, 8, 8, 8]]
    apart = _probability(((slice(2, 5), slice(2, 5), slice(2, 5)), 0.5, 0), ((slice(6, 9), slice(2, 5), slice(2, 5)), 0.5, 0))
    assert len(components(apart, (1, 1, 1), ComponentRule()).boxes) == 2


def test_what_has_no_lesions_size_is_none():
    thin = (slice(2, 3), slice(2, 8), slice(2, 8))
    assert not len(components(_probability((thin, 0.9, 0)), (1, 1, 1), ComponentRule()).boxes)
    assert len(components(_probability((thin, 0.9, 0)), (2, 1, 1), ComponentRule()).boxes) == 1
    assert not len(components(_probability((thin, 0.9, 0)), (20, 20, 20), ComponentRule()).boxes)
    nothing = components(_probability(), (1, 1, 1), ComponentRule())
    assert nothing.boxes.shape == (0, 6) and nothing.scores.shape == nothing.malignancy.shape == (0,)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=0, max_size=6, unique=True), st.floats(0.31, 1))
def test_every_blob_is_one_box(cells, level):
    # Blobs of 2 voxels in cells of 4: they never touch.
    places = [tuple(slice(4 * c, 4 * c + 2) for c in cell) for cell in cells]
    found = components(_probability(*((p, level / 2, level / 2) for p in places), shape=(24, 24, 24)), (1, 1, 1), ComponentRule())
    expected = {tuple([*(4 * c for c in cell), *(4 * c + 2 for c in cell)]) for cell in cells}
    assert {tuple(box) for box in found.boxes.astype(int).tolist()} == expected
    assert found.scores == pytest.approx(level, rel=1e-5) and found.malignancy == pytest.approx(0.5)
    few = components(_probability(*((p, level, 0) for p in places), shape=(24, 24, 24)), (1, 1, 1), ComponentRule(maximum=2))
    assert len(few.boxes) == min(2, len(cells))


def test_windows_say_what_the_whole_volume_says():
    network = unet.SegmentationUNet(**SMALL3D).eval()
    levels = np.random.default_rng(2).integers(0, 200, (40, 16, 48), np.uint8)
    whole = baseline.probabilities(levels, network, ComponentRule())
    windows = baseline.probabilities(levels, network, ComponentRule(window=(32, 32, 32), whole_voxels=0))
    assert whole.shape == windows.shape == (2, 40, 16, 48) and (whole.sum(0) <= 1 + 1e-5).all()
    assert np.abs(whole - windows).mean() < 0.01


# --- learning --------------------------------------------------------------------------------------------------------


def _train(patch, phantoms, output, cache, recipe, **more):
    patch.setattr(unet, "UNET3D", SMALL3D)
    patch.setattr(unet, "UNET2D", SMALL2D)
    return recipes.train([phantoms], output, recipe, cache=cache, device="cpu", **more)


@pytest.fixture(scope="module", params=[RECIPE, TWO], ids=["unet3d", "unet2d"])
def trained(request, phantoms, cache, tmp_path_factory):
    patch = pytest.MonkeyPatch()
    try:
        return request.param, _train(patch, phantoms, tmp_path_factory.mktemp("baseline"), cache, request.param)
    finally:
        patch.undo()


def test_dark_balls_are_learnt_and_measured(trained, phantoms, tmp_path, capsys):
    recipe, folder = trained
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == [1, 2, 3] and log[-1]["loss"] < log[0]["loss"]
    config = json.loads((folder / "config.json").read_text())
    assert config["task"] == "detect-baseline" and config["recipe"]["network"] == recipe.network
    assert config["measured"]["validation"]["sensitivity_at_1_fp"] == 1.0
    assert len(json.loads((folder / "postprocessing.json").read_text())["tried"]["tried"]) == 14

    output = tmp_path / "figures"
    arguments = ["evaluate", "detect", "--data", str(phantoms), "--split", "validation", "--model", str(folder)]
    assert cli.main([*arguments, "--device", "cpu", "--bootstrap", "20", "--output", str(output)]) == 0
    about = json.loads((output / "figures.json").read_text())
    assert about["models"][0]["task"] == "detect-baseline" and len(about["models"]) == 1
    assert about["operating_point"]["least_score"] == pytest.approx(config["postprocessing"]["threshold"])
    figures = about["data_sets"][phantoms.name]["figures"]
    assert figures["sensitivity"]["value"] == 1 and figures["mean_iou"]["value"] > 0.4
    assert {"froc_mean", "malignancy_auc_found", "malignancy_best_auc_found"} <= set(figures)
    assert (output / "submission" / "detection.csv").is_file()


def test_a_baseline_is_no_detector_of_the_workup(trained, phantoms):
    with pytest.raises(ModelError, match="'detect-baseline', not 'detect'"):
        zoo.load(trained[1], "detect", "cpu")
    model = zoo.load(trained[1], "detect-baseline", "cpu")
    with pytest.raises(ImageError, match="single slice"):
        baseline.detect_components(sitk.Image(8, 8, sitk.sitkUInt8), model)
    assert baseline.detect_components(sitk.Image(20, 20, 20, sitk.sitkUInt8), model) == ()


def test_a_second_opinion_can_be_asked_for(trained, phantoms, tmp_path):
    from BreastUSAILib.models.folder import save_model
    from BreastUSAILib.networks.lesion_classifier import LesionClassifier

    arguments = {"stem_channels": 4, "stem_stride": 2, "channels": [4, 4], "strides": [2, 1]}
    config = {"id": "second", "task": "lesion-classifier", "version": "1", "network": "lesion_classifier.LesionClassifier"}
    config |= {"arguments": arguments, "preprocessing": {"dimension": 3, "shape": [8, 8, 8], "margin": 0.3}}
    save_model(tmp_path / "second", LesionClassifier(**arguments), {**config, "postprocessing": {"detection_weight": 0.0}})
    command = ["evaluate", "detect", "--data", str(phantoms), "--split", "validation", "--device", "cpu", "--bootstrap", "2"]
    command += ["--limit", "1", "--model", str(trained[1])]
    tables = []
    for name, more in (("one", []), ("two", ["--classifier", str(tmp_path / "second")])):
        assert cli.main([*command, *more, "--output", str(tmp_path / name)]) == 0
        tables.append((tmp_path / name / "candidates.csv").read_text().splitlines())
        models = json.loads((tmp_path / name / "figures.json").read_text())["models"]
        assert [m["task"] for m in models] == ["detect-baseline", *(["lesion-classifier"] if more else [])]
    one, two = ([line.split(",") for line in lines[1:]] for lines in tables)
    assert [line[:4] for line in one] == [line[:4] for line in two] and one != two


def test_a_killed_run_goes_on_to_the_same_result(trained, phantoms, cache, tmp_path, monkeypatch):
    from safetensors.torch import load_file

    class Killed(Exception):
        pass

    def kill(epoch, network):
        if epoch == 1:
            raise Killed

    recipe, folder = trained
    with pytest.raises(Killed):
        _train(monkeypatch, phantoms, tmp_path, cache, recipe, watch=kill)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1 and not (tmp_path / "model.safetensors").exists()
    _train(monkeypatch, phantoms, tmp_path, cache, recipe)
    assert [json.loads(line)["epoch"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 2, 3]
    again, straight = (load_file(path / "model.safetensors") for path in (tmp_path, folder))
    for name, value in straight.items():
        torch.testing.assert_close(again[name], value, rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="another recipe"):
        _train(monkeypatch, phantoms, tmp_path, cache, replace(recipe, rate=1e-3))


def test_the_challenges_layout_is_learnt_from(tmp_path):
    folder = make(tmp_path / "tdsc", [1, 1], "train", "tdsc-abus")
    make(folder, [1], "validation", "tdsc-abus")
    model = recipes.train([folder], tmp_path / "model", replace(RECIPE, epochs=1, crops=8), device="cpu")
    assert zoo.load(model, "detect-baseline", "cpu").entry.trained_on == "2 volumes of tdsc (split train)"


def test_the_command_line_says_what_the_recipe_is(tmp_path):
    common = ["train", "detect-baseline", "--data", "here", "--output", str(tmp_path / "model")]
    parse = cli.build_parser(common).parse_args
    assert recipes.recipe_of(parse(common)) == recipes.UNET3D == BaselineRecipe()
    assert recipes.recipe_of(parse([*common, "--network", "unet2d"])) == recipes.UNET2D
    changed = recipes.recipe_of(parse([*common, "--epochs", "3", "--crops", "8", "--seed", "5"]))
    assert changed == replace(recipes.UNET3D, epochs=3, crops=8, seed=5)
    with pytest.raises(UsageError, match="above 0"):
        recipes.recipe_of(parse([*common, "--batch", "0"]))
    with pytest.raises(UsageError, match="network 'vnet' is unknown"):
        recipes.train([tmp_path], tmp_path / "model", replace(RECIPE, network="vnet"), device="cpu")
    with pytest.raises(UsageError, match="choose another --batch"):
        recipes.train([tmp_path], tmp_path / "model", replace(RECIPE, crops=2), device="cpu")
