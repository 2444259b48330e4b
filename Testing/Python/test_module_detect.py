"""BreastUSAI Detect: the panel and the Logic, the way to the child process and back, the nodes, ``breastusai detect``.

Panel and Logic run on the STAND-IN for Slicer's GUI side (slicer_standin) with the real scene below, and in a real Slicer
through run_in_slicer.py; everything else here is the real thing.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
from panel_on_standin import case_names, picture, run_case, standin_fixture

from BreastUSAILib import child_detection, cli
from BreastUSAILib.child_workup import load_input, write_input
from BreastUSAILib.errors import DataError, ImageError, ModelError
from BreastUSAILib.findings import Finding, ImageInfo, Study
from BreastUSAILib.grid import index_box
from BreastUSAILib.models import catalog
from BreastUSAILib.workup import DetectionOptions, run_detection

CASES = "detect_widget_cases"
TURN = (0.36, 0.48, -0.8, -0.8, 0.60, 0.0, 0.48, 0.64, 0.60)


# --- the panel and the Logic, on the stand-in ------------------------------------------------------------------------


standin = standin_fixture("BreastUSAIDetect", CASES)


@pytest.mark.parametrize("name", case_names(CASES))
def test_on_the_standin(standin, name):
    run_case(standin[1], name)


def test_a_picture_of_the_panel(standin, tmp_path):
    slicer, cases = standin
    case = cases.PanelCase()
    case.setUp()
    try:
        case.ready()
        case.apply()
        case.panel._parameterNode.minimumScore = 0.2
        picture(case.panel, slicer, "BreastUSAIDetect", tmp_path)
    finally:
        case.tearDown()


def test_the_self_test(standin):
    standin[1].module.BreastUSAIDetectTest().runTest()


def test_a_model_that_learnt_from_phantoms_is_named_so_in_the_status(standin):
    logic = standin[1].module.BreastUSAIDetectLogic()
    _, study = _study()
    model = {"id": "d1", "version": "1", "sha256": "0" * 64, "task": "detect", "trained_on": "100 volumes of a clinic"}
    said = {}
    for words in ("100 volumes of a clinic", "400 phantoms of DATA"):
        made = dataclasses.replace(study, provenance={"models": [{**model, "trained_on": words}]})
        said[words] = logic.summary(made, (True, False))
    real, phantoms = said.values()
    assert real == "1 lesion found. Hidden below, for their lower score: 1."
    assert phantoms == f"{real} The model was trained on phantoms, not on patients."


def test_process_changes_nothing_when_the_detection_fails(standin):
    slicer, cases = standin

    def runner(loaded, options, progress):
        raise ModelError("the model is damaged; train it again.")

    volume = cases.volume()
    before = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(ModelError, match="damaged"):
        cases.module.BreastUSAIDetectLogic(runner=runner).process(volume)
    assert slicer.mrmlScene.GetNumberOfNodes() == before


# --- nodes -----------------------------------------------------------------------------------------------------------


def _study(direction=TURN, findings=2) -> tuple[sitk.Image, Study]:
    image = sitk.Image(20, 16, 12, sitk.sitkUInt8)
    image.SetSpacing((0.8, 0.9, 1.1))
    image.SetOrigin((3.0, -7.5, 11.0))
    image.SetDirection(direction)
    boxes = [index_box(image, start, (4, 6, 5)) for start in ((1, 2, 3), (12, 8, 6))]
    made = tuple(Finding(f"L{i}", b, s, 0.5) for i, b, s in zip((1, 2), boxes, (0.9, 0.3), strict=True))[:findings]
    return image, Study(ImageInfo.of(image, "oblique.nrrd"), made)


@pytest.fixture
def scene():
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    from BreastUSAILib.slicer_runtime import private_scene

    with private_scene() as fresh:
        yield fresh


def test_boxes_and_jumps_follow_oblique_grids_and_parent_transforms(scene):
    import vtk

    from BreastUSAILib import mrml

    image, study = _study()
    volume = mrml.add_volume(scene, image, "oblique")
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy((0, -1, 0, 10, 1, 0, 0, -20, 0, 0, 1, 30, 0, 0, 0, 1))
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    transform.SetMatrixTransformToParent(matrix)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    view = scene.AddNewNodeByClass("vtkMRMLSliceNode", "view")
    nodes = mrml.show_detections(scene, study, volume)
    assert nodes.table.GetNumberOfRows() == 2 and mrml.detected_in(nodes.table) == study
    for row, (finding, roi) in enumerate(zip(study.findings, nodes.boxes, strict=True)):
        assert tuple(roi.GetSize()) == pytest.approx(finding.box.size)
        x, y, z = finding.box.center
        expected = matrix.MultiplyPoint((-x, -y, z, 1.0))[:3]
        assert mrml.jump_to_finding(nodes.table, row) == pytest.approx(expected)
        slice_to_ras = view.GetSliceToRAS()
        assert [slice_to_ras.GetElement(i, 3) for i in range(3)] == pytest.approx(expected, abs=1e-6)
    tree = scene.GetSubjectHierarchyNode()
    items = [tree.GetItemByDataNode(n) for n in (volume, *nodes.boxes, nodes.points, nodes.table)]
    assert len({tree.GetItemParent(item) for item in items}) == 1


def test_boxes_that_a_person_moved_or_deleted_come_back_so(scene):
    from BreastUSAILib import mrml

    image, study = _study()
    volume = mrml.add_volume(scene, image, "oblique")
    nodes = mrml.show_detections(scene, study, volume)
    back = mrml.study_from_nodes(volume, nodes.table)
    for found, made in zip(back.findings, study.findings, strict=True):
        assert found.box.center == pytest.approx(made.box.center) and found.box.size == pytest.approx(made.box.size)
    x, y, z = study.findings[1].box.center
    nodes.boxes[1].SetCenter(-(x + 2.0), -y, z - 3.0)
    scene.RemoveNode(nodes.boxes[0])
    (moved,) = mrml.study_from_nodes(volume, nodes.table).findings
    assert moved.id == "L2" and moved.score == 0.3 and moved.box.center == pytest.approx((x + 2.0, y, z - 3.0))
    with pytest.raises(DataError, match="the table other was not made by BreastUSAI"):
        mrml.study_from_nodes(volume, scene.AddNewNodeByClass("vtkMRMLTableNode", "other"))


def test_a_study_of_another_image_is_refused_before_anything_changes(scene):
    from BreastUSAILib import mrml

    _, study = _study()
    volume = mrml.add_volume(scene, sitk.Image(9, 9, 9, sitk.sitkUInt8), "other")
    before = scene.GetNumberOfNodes()
    with pytest.raises(DataError, match="choose the volume that was analysed"):
        mrml.show_detections(scene, study, volume)
    assert scene.GetNumberOfNodes() == before


def test_a_table_of_another_origin_has_nothing_to_show_or_hide(scene):
    from BreastUSAILib import mrml

    image, study = _study()
    volume = mrml.add_volume(scene, image, "oblique")
    other = scene.AddNewNodeByClass("vtkMRMLTableNode", "other")
    assert mrml.show_from_score(other, 0.5) == () and mrml.detected_in(other) is None
    assert not mrml.holds_other_detections(other, volume)  # empty: it may be filled
    filled = mrml.show_detections(scene, study, volume, other).table
    assert filled is other and not mrml.holds_other_detections(filled, volume)
    assert mrml.holds_other_detections(filled, mrml.add_volume(scene, image, "again"))
    assert mrml.holds_other_detections(mrml.add_table(scene, study, volume), volume)
    empty = mrml.show_detections(scene, _study(findings=0)[1], volume, filled)
    assert (empty.points, empty.boxes, empty.table.GetNumberOfRows()) == (None, (), 0)
    assert scene.GetNumberOfNodesByClass("vtkMRMLMarkupsNode") == 0


# --- to the child and back -------------------------------------------------------------------------------------------


def _pixels(size=(12, 10, 8), known=True) -> child_detection.AbusPixels:
    voxels = np.random.default_rng(5).integers(0, 200, size[::-1]).astype(np.uint8)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.3, 0.2, 0.5))
    image.SetOrigin((4.0, -5.0, 6.0))
    image.SetDirection(TURN)
    return child_detection.AbusPixels(image, "case 7", known)


def test_the_child_reads_the_volume_that_the_scene_holds():
    pixels = _pixels()
    loaded = load_input(pixels)
    assert (str(loaded.path), loaded.spacing_known) == ("case 7", True)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(loaded.image), sitk.GetArrayFromImage(pixels.image))
    assert loaded.image.GetDirection() == pytest.approx(TURN) and loaded.image.GetOrigin() == pytest.approx((4.0, -5.0, 6.0))


@pytest.mark.parametrize(
    "pixels, words",
    [(_pixels((12, 10, 1)), "use BreastUSAI Segment"), (_pixels(known=False), "set its spacing in the module Volumes")],
)
def test_what_cannot_be_searched_is_never_written(pixels, words, tmp_path):
    for work in (lambda: write_input(pixels, tmp_path), lambda: child_detection.ChildDetection(pixels, DetectionOptions())):
        with pytest.raises(ImageError, match=words):
            work()
    assert list(tmp_path.iterdir()) == []


def test_every_option_reaches_the_child(tmp_path):
    options = DetectionOptions("a-model", "a-classifier", "cpu", 0.25, 3)
    arguments = child_detection.detection_arguments(tmp_path / "a.nrrd", tmp_path / "out", options)
    parsed = cli.build_parser(arguments).parse_args(arguments)
    told = DetectionOptions(parsed.model, parsed.classifier, parsed.device, parsed.threshold, parsed.maximum)
    assert told == options and parsed.input == tmp_path / "a.nrrd" and parsed.output == tmp_path / "out"


# --- breastusai detect -----------------------------------------------------------------------------------------------


def test_without_a_model_the_command_says_what_to_do(tmp_path, capsys):
    if any(entry.task == "detect" for entry in catalog.entries()):
        pytest.skip("a detection model is installed")
    assert cli.main(["detect", str(tmp_path / "a.nrrd"), "--output", str(tmp_path / "out")]) == 1
    said = "error: No detection model is installed; train one with breastusai train detect, or choose a model folder.\n"
    assert capsys.readouterr().err == said and not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """The real network with the weights that training begins with, as a model folder."""
    torch = pytest.importorskip("torch")
    from BreastUSAILib.models.folder import save_model
    from BreastUSAILib.networks.detection import COMPACT, DetectionNetwork

    torch.manual_seed(1)
    config = {"id": "untrained", "version": "1", "task": "detect", "network": "detection.DetectionNetwork"}
    config |= {"arguments": COMPACT, "preprocessing": {"dimension": 3, "spacing": [1.0, 1.0, 1.0]}}
    return save_model(tmp_path_factory.mktemp("models") / "untrained", DetectionNetwork(**COMPACT), config)


@pytest.fixture(scope="module")
def small_volume(tmp_path_factory):
    path = tmp_path_factory.mktemp("volumes") / "case.nrrd"
    image = sitk.GetImageFromArray(np.random.default_rng(2).integers(40, 200, (30, 40, 50), dtype=np.uint8))
    image.SetSpacing((0.6, 0.5, 0.9))
    image.SetDirection(TURN)
    sitk.WriteImage(image, str(path))
    return path


def test_the_command_writes_what_the_task_finds(untrained, small_volume, tmp_path, capsys):
    from BreastUSAILib.files import read_study
    from BreastUSAILib.image import read_image

    arguments = ["detect", str(small_volume), "--output", str(tmp_path), "--model", str(untrained), "--device", "cpu"]
    assert cli.main([*arguments, "--threshold", "0", "--maximum", "4", "--progress", "json"]) == 0
    said = capsys.readouterr().out
    assert '{"progress": 1.0' in said and "not a medical device" in said
    study = read_study(tmp_path / "case")
    direct = run_detection(read_image(small_volume), DetectionOptions(str(untrained), "", "cpu", 0.0, 4))
    assert 0 < len(study.findings) <= 4 and study.findings == direct.findings and study.image == direct.image
    assert study.provenance["models"][0]["id"] == "untrained" and study.provenance["options"]["maximum"] == 4
    assert {"load_model", "detect"} <= set(study.provenance["seconds"])
    assert {p.name for p in (tmp_path / "case").iterdir()} == {"study.json", "findings.csv", "boxes.mrk.json", "points.mrk.json"}
    assert cli.main(arguments) == 0  # nothing reaches the threshold
    assert read_study(tmp_path / "case").summary == "No lesion found." in capsys.readouterr().out


def test_a_real_child_process_brings_the_study_back(untrained, small_volume):
    from BreastUSAILib.image import read_image

    seen = []
    pixels = child_detection.AbusPixels(read_image(small_volume).image, "case 7", True)
    options = DetectionOptions(str(untrained), "", "cpu", 0.0, 3)
    job = child_detection.ChildDetection(pixels, options, lambda *p: seen.append(p))
    job._child.wait(120)
    study = job.result()
    assert study.image.path == "case 7" and 0 < len(study.findings) <= 3 and seen[-1][0] == 1.0


def test_what_the_command_cannot_do_is_told(untrained, small_volume, tmp_path, capsys):
    flat = tmp_path / "flat.png"
    sitk.WriteImage(sitk.GetImageFromArray(np.random.default_rng(1).integers(0, 255, (40, 60), dtype=np.uint8)), str(flat))
    for more, code, words in (
        ([str(flat), "--model", str(untrained)], 1, "flat.png: The image has a single slice"),
        ([str(small_volume), "--model", str(tmp_path)], 1, "is not a model folder"),
        ([str(small_volume), "--model", "roi-cnn-compact"], 1, "for the task 'segment'"),
        ([str(small_volume), "--model", str(untrained), "--classifier", str(untrained)], 1, "for the task 'detect'"),
        ([str(small_volume), "--model", str(untrained), "--threshold", "1"], 2, "threshold"),
        ([str(small_volume), "--model", str(untrained), "--spacing", "0", "1", "1"], 2, "--spacing"),
        ([str(tmp_path / "no.nrrd"), "--model", str(untrained)], 1, "no.nrrd does not exist"),
    ):
        assert cli.main(["detect", *more, "--output", str(tmp_path / "out")]) == code
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
