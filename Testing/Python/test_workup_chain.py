"""The workup as a chain, by ``breastusai run`` with real files, real networks and weights that were not learnt: volumes are searched,
outlined and graded, images outlined and graded; what each task leaves behind, and what one lesion's failure leaves of the others.
"""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import SimpleITK as sitk
from grade_cases import grade_folder
from small_models import classifier_folder, detector_folder, outliner_folder
from test_run_volumes import write_volume

from BreastUSAILib import cli, lesion_classification, outline_3d, workup
from BreastUSAILib.errors import Cancelled
from BreastUSAILib.files import read_study
from BreastUSAILib.image import read_image
from BreastUSAILib.run_input import RunOptions
from BreastUSAILib.run_manifest import read_manifest, used_models
from BreastUSAILib.workup import DetectionOptions, GradingOptions, SegmentationOptions, WorkupOptions

TASKS = ["detect", "lesion-classifier", "segment-3d", "grade-gcnn", "grade-mtnet"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Options of the command line that name a model for each task but that of images, which ships."""
    folder = tmp_path_factory.mktemp("models")
    made = {
        "detect-model": detector_folder(folder / "detector"),
        "classifier": classifier_folder(folder / "classifier"),
        "segment-3d-model": outliner_folder(folder / "joint"),
        "grade-gcnn": grade_folder(folder / "gcnn", "gcnn"),
        "grade-mtnet": grade_folder(folder / "mtnet", "mtnet", size=139),
    }
    return [part for name, model in made.items() for part in (f"--{name}", str(model))]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A volume, and an image with something dark in it."""
    folder = tmp_path_factory.mktemp("inputs")
    write_volume(folder / "abus.nrrd")
    y, x = np.mgrid[:120, :160]
    pixels = np.random.default_rng(3).normal(140, 20, (120, 160))
    pixels[((x - 80) / 36) ** 2 + ((y - 55) / 22) ** 2 < 1] -= 100
    image = sitk.GetImageFromArray(pixels.clip(0, 255).astype(np.uint8))
    image.SetSpacing((0.3, 0.3))
    sitk.WriteImage(image, str(folder / "flat.nrrd"))
    return folder


def run(*arguments):
    return cli.main(["run", *map(str, arguments), "--device", "cpu", "--jobs", "0"])


POINT = ("--no-heatmap", "--detect-threshold", 0, "--detect-maximum", 2, "--grade-one-crop", "--minimum-score", 0.01)


@pytest.fixture(scope="module")
def done(models, inputs, tmp_path_factory):
    """Both inputs, with every task."""
    output = tmp_path_factory.mktemp("run") / "out"
    assert run(inputs, "--output", output, *models, *POINT) == 0
    return output


@pytest.fixture(scope="module")
def options(models):
    """The same, for the library."""
    detector, classifier, joint, gcnn, mtnet = models[1::2]
    return WorkupOptions(
        device="cpu",
        detection=DetectionOptions(detector, classifier, threshold=0.0, maximum=2),
        segmentation=SegmentationOptions(joint),
        grading=GradingOptions(gcnn, mtnet, several=False),
        heatmap=None,
    )


def rows(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_volume_is_searched_outlined_and_graded(done):
    study = read_study(done / "abus")
    provenance = study.provenance
    assert [m["task"] for m in provenance["models"]] == TASKS
    assert {"read", "load_model", "detect", "segment-3d", "grade"} == set(provenance["seconds"])
    assert provenance["operating_point"] == {"maximum": 2, "threshold": 0.0}
    assert provenance["options"]["segment_3d_uncertainty"] is True and provenance["options"]["grade_several"] is False
    assert len(study.findings) == 2
    first = study.findings[0]
    assert set(first.models) == {"detect", "lesion-classifier", "segment", "grade-gcnn", "grade-mtnet"}
    assert first.label == 1 and first.mask is not None and first.measurements["volume_ml"] > 0
    assert sum(first.birads.values()) == pytest.approx(1) and "shape_oval" in first.evidence
    # Each task's opinion is kept; the grade's is the finding's.
    opinions = {name: first.evidence[f"malignancy_{name}"] for name in ("detect", "segment_3d", "gcnn", "mtnet")}
    assert len(set(opinions.values())) == 4 and first.malignancy not in (opinions["detect"], opinions["segment_3d"])
    seen = sitk.GetArrayFromImage(study.activation)
    assert study.activation.GetSize() == study.image.size and seen.max() > 50
    assert 1 <= sum(bool(part.any()) for part in seen) <= 6  # three sections a finding


def test_how_unsure_outlines_are_lies_on_the_volume(done):
    """A map in percent, whose values about an outline are what the finding's mean comes from."""
    study = read_study(done / "abus")
    unsure, first = sitk.GetArrayFromImage(study.uncertainty), study.findings[0]
    assert study.uncertainty.GetSize() == study.image.size and study.uncertainty.GetPixelID() == sitk.sitkUInt8
    assert 0 < unsure.max() <= 50
    part = sitk.GetArrayFromImage(first.mask) != 0
    assert unsure[part].mean() / 100 == pytest.approx(first.measurements["outline_uncertainty"], abs=0.05)


def test_what_a_volume_leaves_behind(done):
    folder = done / "abus"
    names = {p.name for p in folder.iterdir()}
    assert {"lesions.seg.nrrd", "activation.nrrd", "report.html", "findings.csv", "boxes.mrk.json"} <= names
    study = read_study(folder)
    header = sitk.ReadImage(str(folder / "lesions.seg.nrrd"))
    assert header.GetMetaData("Segment0_ID") == "L1"
    assert int(header.GetMetaData("Segment0_LabelValue")) == study.findings[0].label
    row = rows(folder / "findings.csv")[0]
    assert row["birads_category"] in study.findings[0].birads and row["birads_shape"] in ("oval", "round", "irregular")
    assert row["not_sure"] == "false" and float(row["volume_ml"]) > 0
    assert float(row["evidence_malignancy_detect"]) == pytest.approx(
        study.findings[0].evidence["malignancy_detect"], rel=1e-4
    )
    page = (folder / "report.html").read_text()
    assert page.count('class="grade"') == 2 and "Where the networks looked, slice" in page and "Volume, ml" in page
    assert "by the 3D segmentation" in page and "Probabilities are not calibrated." in page


def test_the_scene_shows_segments(done):
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    del slicer
    import zipfile

    with zipfile.ZipFile(done / "abus" / "scene.mrb") as bundle:
        text = next(bundle.read(n).decode() for n in bundle.namelist() if n.endswith(".mrml"))
    assert "<Segmentation" in text and "<MarkupsROI" in text


def test_an_image_is_outlined_and_graded(done):
    study = read_study(done / "flat")
    assert [m["task"] for m in study.provenance["models"]] == ["segment", "grade-gcnn", "grade-mtnet"]
    (finding,) = study.findings
    assert finding.mask is not None and finding.malignancy is not None and finding.birads
    assert "malignancy_detect" not in finding.evidence and finding.models.keys() >= {"segment", "grade-mtnet"}
    percent = sitk.GetArrayFromImage(study.activation)
    mask = sitk.GetArrayFromImage(finding.mask) > 0
    assert percent.shape == mask.shape and percent[mask].max() > 50
    assert not percent[-1].any()  # far from the lesion nothing was looked at
    page = (done / "flat" / "report.html").read_text()
    assert page.count('class="grade"') == 1 and "Where the networks looked:" in page and 'class="bar' in page


def test_the_studies_follow_the_published_schema(done):
    jsonschema = pytest.importorskip("jsonschema")
    from BreastUSAILib.findings import study_schema

    for name in ("abus", "flat"):
        jsonschema.validate(json.loads((done / name / "study.json").read_text()), study_schema())


def test_the_overview_and_the_manifest_know_all_models(done):
    record = json.loads((done / "run.json").read_text())
    assert {m["task"] for m in record["models"]} == {*TASKS, "segment"}
    assert {"birads_category", "evidence_malignancy_mtnet", "volume_ml"} <= set(rows(done / "summary.csv")[0])
    repeated = read_manifest(done).run_options(output=done)
    assert repeated.workup.grading.several is False and repeated.workup.segmentation.model.endswith("joint")
    assert {m["task"] for m in used_models(repeated)} == {*TASKS, "segment"}
    assert json.loads(json.dumps(asdict(repeated.workup))) == json.loads(json.dumps(record["options"]["workup"]))


def test_a_run_of_an_earlier_version_can_be_repeated():
    before = {"model": "", "device": "cpu", "refine": True, "detection": {"model": "d", "maximum": 3}}
    assert WorkupOptions.from_dict(before) == WorkupOptions(device="cpu", detection=DetectionOptions("d", maximum=3))
    without = WorkupOptions(segmentation=None, grading=None)
    assert WorkupOptions.from_dict(json.loads(json.dumps(asdict(without)))) == without


def test_finished_inputs_are_known_by_their_models_and_options(done, models, inputs, capsys):
    common = (inputs, "--output", done, *models)
    assert run(*common, *POINT) == 0
    assert "other options" not in capsys.readouterr().out
    assert run(*common, *POINT, "--no-outlines") == 0
    assert "Done with other options: 1" in capsys.readouterr().out  # the volume alone has outlines of that kind
    assert run(*common, *POINT, "--no-grades") == 0
    assert "Done with other options: all of them" in capsys.readouterr().out


def test_tasks_without_a_model_are_left_out():
    plain = WorkupOptions()
    assert "segment" in plain.models("segment") and plain.models("detect")["detect"] == ""
    named = WorkupOptions(grading=GradingOptions(mtnet="x"), segmentation=SegmentationOptions("y"), heatmap=None)
    assert list(named.models("detect"))[-2:] == ["segment-3d", "grade-mtnet"]
    assert named.models("segment") == {"segment": "", "grade-mtnet": "x"}
    off = replace(named, grading=None, segmentation=None)
    assert off.models("segment") == {"segment": ""} and "segment-3d" not in off.models("detect")
    assert RunOptions("out", off).of_results("detect").keys().isdisjoint({"segment_3d_refine", "grade_several"})


@pytest.mark.parametrize(
    "chosen",
    [
        WorkupOptions(),
        WorkupOptions(segmentation=None, grading=None),
        WorkupOptions(segmentation=SegmentationOptions(refine=True), grading=GradingOptions(mtnet="m")),
        WorkupOptions(
            "roi", "cpu", False, "all", 0.4, 0.2, DetectionOptions("d", "c", threshold=0.3, maximum=4),
            SegmentationOptions("s", threshold=0.4, iterations=3, uncertainty=False, refine=False),
            GradingOptions("g", "m", "s", enhance=False, several=False),
        ),
    ],
)  # fmt: skip
def test_every_option_reaches_a_child(chosen, tmp_path):
    """What a child process is told (`child_workup`) is what the command line understands."""
    from BreastUSAILib import run_command
    from BreastUSAILib.child_workup import cli_arguments

    arguments = cli_arguments(tmp_path / "a.nrrd", tmp_path / "out", chosen)
    assert run_command._options(cli.build_parser(arguments).parse_args(arguments)).workup == chosen


def test_one_lesion_that_cannot_be_outlined_costs_no_other(inputs, options, monkeypatch):
    loaded = read_image(inputs / "abus.nrrd")
    whole = outline_3d.look
    asked = []

    def failing(*args):
        asked.append(args)
        if len(asked) == 1:
            raise RuntimeError("something in the network broke")
        return whole(*args)

    monkeypatch.setattr(outline_3d, "look", failing)
    study = workup.run_workup(loaded, replace(options, grading=None))
    first, second = study.findings
    assert first.mask is None and first.box.size != second.box.size
    assert first.notes == ("not outlined: RuntimeError: something in the network broke",)
    assert second.mask is not None and second.label == 1
    assert any("1 finding was not outlined: L1 (RuntimeError" in note for note in study.provenance["notes"])


def test_one_second_opinion_that_fails_costs_no_lesion(inputs, options, monkeypatch):
    whole = lesion_classification.lesion_crop
    asked = []

    def failing(*args):
        asked.append(args)
        if len(asked) == 2:
            raise ValueError("a crop without voxels")
        return whole(*args)

    monkeypatch.setattr(lesion_classification, "lesion_crop", failing)
    alone = replace(options, grading=None, segmentation=None)
    first, second = workup.run_workup(read_image(inputs / "abus.nrrd"), alone).findings
    assert "lesion-classifier" in first.models and first.notes == ()
    assert second.malignancy is not None and "lesion-classifier" not in second.models
    assert second.notes == ("without a second opinion on malignancy: ValueError: a crop without voxels",)


def test_cancelling_ends_it_wherever_it_is(inputs, options):
    loaded = read_image(inputs / "abus.nrrd")
    for words in ("outlining", "grading"):

        def stop(fraction, message, words=words):
            if words in message:
                raise Cancelled("cancelled.")

        with pytest.raises(Cancelled):
            workup.run_workup(loaded, options, stop)


def test_progress_only_rises(inputs, options):
    seen = []
    workup.run_workup(
        read_image(inputs / "flat.nrrd"), replace(options, minimum_score=0.01), lambda *told: seen.append(told)
    )
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions) and fractions[-1] == pytest.approx(1.0)
    assert any("grading" in message for _, message in seen)


def test_models_for_other_tasks_are_refused_before_any_work(models, inputs, tmp_path, capsys):
    joint = models[models.index("--segment-3d-model") + 1]
    for more, words in (
        (("--segment-3d-model", tmp_path), "is not a model folder"),
        (("--grade-mtnet", joint), "for the task 'segment-3d'"),
        (("--grade-gcnn", "roi-cnn-compact"), "for the task 'segment'"),
    ):
        assert run(inputs, "--output", tmp_path / "out", *more) == 1
        assert words in capsys.readouterr().err
    assert run(inputs, "--output", tmp_path / "out", "--segment-3d-iterations", 9) == 2
    assert "must be from 0 to 4" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_classifier_that_ships_goes_with_the_detector_that_ships():
    """One's own detector may have learnt from patients; what learnt from phantoms does not overrule it unasked."""
    from BreastUSAILib.models import catalog

    if not catalog.ships("lesion-classifier"):
        pytest.skip("no lesion classifier ships")
    shipped = catalog.default_for("detect").id
    for model, classifier, used in (("", "", True), (shipped, "", True), ("a folder", "", False), ("a folder", "another", True)):
        assert ("lesion-classifier" in DetectionOptions(model, classifier).models()) is used
