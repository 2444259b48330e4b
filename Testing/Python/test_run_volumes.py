"""``breastusai run`` on volumes, with real files, real networks and the real command line; the weights are not learnt."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk
from small_models import classifier_folder, detector_folder

from BreastUSAILib import cli
from BreastUSAILib.errors import ModelError
from BreastUSAILib.files import read_study
from BreastUSAILib.image import VOLUMES_KEEP_THEIR_SPACING, read_image
from BreastUSAILib.models import catalog
from BreastUSAILib.study_image import read_study_image
from BreastUSAILib.workup import DetectionOptions, WorkupOptions, first_task, run_detection, run_workup

TURN = (0.36, 0.48, -0.8, -0.8, 0.60, 0.0, 0.48, 0.64, 0.60)
LEFT = {"study.json", "findings.csv", "boxes.mrk.json", "points.mrk.json", "report.html", "preview.jpg"}


def write_volume(path, size=(60, 30, 50), spacing=(0.9, 0.7, 1.1), seed=1):
    array = np.random.default_rng(seed).integers(40, 200, size[::-1], dtype=np.uint8)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin((-10.0, 20.0, 5.0))
    image.SetDirection(TURN)
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return detector_folder(folder / "detector"), classifier_folder(folder / "classifier")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with a volume, and a 2D image as a volume of a single slice."""
    folder = tmp_path_factory.mktemp("inputs")
    write_volume(folder / "abus.nrrd")
    flat = np.random.default_rng(2).integers(0, 255, (40, 60), dtype=np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(flat[None]), str(folder / "slice.nrrd"))
    return folder


DETECTION_ALONE = ("--no-outlines", "--no-grades", "--no-heatmap")  # whatever ships; test_workup_chain.py has the chain


def run(*arguments):
    return cli.main(["run", *map(str, arguments), *DETECTION_ALONE, "--device", "cpu", "--jobs", "0"])


@pytest.fixture(scope="module")
def done(models, inputs, tmp_path_factory):
    """Both worked up with both models, every candidate reported, five at most; with scenes."""
    output = tmp_path_factory.mktemp("run") / "out"
    detector, classifier = models
    options = ["--detect-model", detector, "--classifier", classifier, "--detect-threshold", 0, "--detect-maximum", 5]
    assert run(inputs, "--output", output, *options) == 0
    return output


def test_a_volume_leaves_the_same_files_as_an_image(done):
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    assert {p.name for p in (done / "abus").iterdir()} == LEFT | {"scene.mrb"}
    assert {"run.json", "summary.csv", "index.html"} <= {p.name for p in done.iterdir()}


def test_the_study_of_a_volume_is_what_the_task_finds(done, models, inputs):
    study = read_study(done / "abus")
    options = DetectionOptions(*map(str, models), "cpu", 0.0, 5)
    direct = run_detection(read_image(inputs / "abus.nrrd"), options)
    assert 0 < len(study.findings) <= 5 and study.image == direct.image
    for one, other in zip(study.findings, direct.findings, strict=True):
        assert one.id == other.id and one.box.center == pytest.approx(other.box.center, abs=1e-4)
        assert (one.score, one.malignancy) == pytest.approx((other.score, other.malignancy), abs=1e-5)  # float32, rounded
    assert [m["task"] for m in study.provenance["models"]] == ["detect", "lesion-classifier"]
    assert study.provenance["operating_point"] == {"threshold": 0.0, "maximum": 5}
    first = study.findings[0]
    assert set(first.models) == {"detect", "lesion-classifier"} and first.mask is None and first.label is None
    assert first.measurements["length_mm"] == pytest.approx(first.box.size[2])
    # Each study keeps the options that it has to do with.
    assert study.provenance["options"]["maximum"] == 5 and "refine" not in study.provenance["options"]


def test_single_slices_keep_their_own_way(done):
    provenance = read_study(done / "slice").provenance
    assert [m["task"] for m in provenance["models"]] == ["segment"]
    assert provenance["options"]["refine"] is True and "classifier" not in provenance["options"]


def test_a_spacing_given_for_images_leaves_volumes_as_they_are(models, inputs, tmp_path, capsys):
    detector, classifier = models
    options = ["--detect-model", detector, "--classifier", classifier, "--spacing", 0.08, "--output", tmp_path / "out"]
    assert run(inputs, *options) == 0
    volume, image = (read_study(tmp_path / "out" / name) for name in ("abus", "slice"))
    assert volume.image.spacing == pytest.approx((0.9, 0.7, 1.1)) and VOLUMES_KEEP_THEIR_SPACING in volume.provenance["notes"]
    assert image.image.spacing[:2] == pytest.approx((0.08, 0.08)) and image.image.spacing_known
    assert VOLUMES_KEEP_THEIR_SPACING not in image.provenance["notes"]
    # Without it the image alone was done otherwise.
    capsys.readouterr()
    assert run(inputs, *options[:4], "--output", tmp_path / "out") == 0
    assert "2 inputs finished earlier and skipped; --overwrite redoes them. Done with other options: 1." in capsys.readouterr().out
    assert read_study_image(volume, inputs / "abus.nrrd").image.GetSpacing() == pytest.approx((0.9, 0.7, 1.1))


def test_the_overview_has_volumes_and_images(done):
    with (done / "summary.csv").open(encoding="utf-8", newline="") as stream:
        rows = [r for r in csv.DictReader(stream) if r["folder"] == "abus"]
    study = read_study(done / "abus")
    assert len(rows) == len(study.findings)
    assert float(rows[0]["malignancy"]) == pytest.approx(study.findings[0].malignancy, rel=1e-4)
    assert float(rows[0]["depth_mm"]) == pytest.approx(study.findings[0].measurements["depth_mm"], rel=1e-4)
    record = json.loads((done / "run.json").read_text())
    assert {m["task"] for m in record["models"]} == {"segment", "detect", "lesion-classifier"}
    index = (done / "index.html").read_text()
    assert "Highest malignancy" in index and "Longest side of the box" in index


def test_the_studies_follow_the_published_schema(done):
    jsonschema = pytest.importorskip("jsonschema")
    from BreastUSAILib.findings import study_schema

    jsonschema.validate(json.loads((done / "abus" / "study.json").read_text()), study_schema())


def test_another_operating_point_is_another_option_for_volumes_alone(done, models, inputs, capsys):
    detector, classifier = models
    common = (inputs, "--output", done, "--detect-model", detector, "--classifier", classifier)
    assert run(*common, "--detect-threshold", 0, "--detect-maximum", 5) == 0
    assert "other options" not in capsys.readouterr().out
    assert run(*common, "--detect-threshold", 0.2, "--detect-maximum", 5) == 0
    assert "Done with other options: 1" in capsys.readouterr().out
    # Another detector, too: of two, the one that was used is known by its checksum.
    assert run(inputs, "--output", done, "--detect-model", detector, "--detect-threshold", 0, "--detect-maximum", 5) == 0
    assert "Done with other options: 1" in capsys.readouterr().out


def test_the_models_own_operating_point_is_used_and_told(models, inputs, tmp_path, capsys):
    assert run(inputs / "abus.nrrd", "--output", tmp_path, "--detect-model", models[0], "--no-scene") == 0
    assert "No lesion found." in capsys.readouterr().out
    study = read_study(tmp_path / "abus")
    assert study.findings == () and study.provenance["operating_point"] == {"threshold": 0.5, "maximum": None}
    assert "No lesion found" in (tmp_path / "abus" / "report.html").read_text()


def test_without_a_detection_model_a_volume_says_what_to_do(inputs, tmp_path, capsys):
    if catalog.ships("detect"):
        pytest.skip("a detection model is installed")
    assert run(inputs / "abus.nrrd", "--output", tmp_path, "--no-scene") == 1
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        f"error: {inputs / 'abus.nrrd'} is a volume. No detection model is installed; train one with breastusai train "
        "detect, or choose a model folder (--detect-model DIR)."
    ]
    assert not (tmp_path / "abus").exists()
    with pytest.raises(ModelError, match="is a volume. No detection model"):
        run_workup(read_image(inputs / "abus.nrrd"), WorkupOptions(device="cpu"))


def test_options_for_volumes_are_checked_before_any_work(models, inputs, tmp_path, capsys):
    detector, classifier = models
    for more, code, words in (
        (("--detect-threshold", 1), 2, "threshold is 1.0; it must be 0 or more and below 1"),
        (("--detect-maximum", 0), 2, "number of findings is 0"),
        (("--detect-model", tmp_path), 1, "is not a model folder"),
        (("--detect-model", classifier), 1, "for the task 'lesion-classifier'"),
        (("--classifier", detector), 1, "for the task 'detect'"),
        (("--detect-model", "roi-cnn-compact"), 1, "for the task 'segment'"),
    ):
        assert run(inputs, "--output", tmp_path / "out", *more) == code
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_a_workup_begins_with():
    assert first_task(sitk.Image(4, 5, sitk.sitkUInt8)) == "segment"
    assert first_task(sitk.Image(4, 5, 1, sitk.sitkUInt8)) == first_task(sitk.Image(1, 5, 6, sitk.sitkUInt8)) == "segment"
    assert first_task(sitk.Image(4, 5, 2, sitk.sitkUInt8)) == "detect"
