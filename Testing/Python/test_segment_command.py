"""``breastusai segment``: where the lesions are (boxes, points, findings), the way through a child process, what is written."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from BreastUSAILib import cli, files
from BreastUSAILib.child_detection import AbusPixels
from BreastUSAILib.child_segmentation import ChildSegmentation, SegmentationOrder, segmentation_arguments
from BreastUSAILib.errors import DataError
from BreastUSAILib.findings import Box, Finding, ImageInfo, Study
from BreastUSAILib.grid import index_box
from BreastUSAILib.markups import read_markups
from BreastUSAILib.models import catalog
from BreastUSAILib.workup import SegmentationOptions, SegmentationRequest

TURN = (0.36, 0.48, -0.8, -0.8, 0.60, 0.0, 0.48, 0.64, 0.60)
LESION = ((20, 16, 12), (34, 28, 24))  # first voxel and the one after the last, x, y, z


def an_image(direction=TURN):
    voxels = np.random.default_rng(3).normal(150, 8, (36, 44, 54))
    part = tuple(slice(a, b) for a, b in zip(LESION[0][::-1], LESION[1][::-1], strict=True))
    voxels[part] = np.random.default_rng(4).normal(40, 8, voxels[part].shape)
    image = sitk.GetImageFromArray(voxels.clip(0, 255).astype(np.uint8))
    image.SetSpacing((0.6, 0.5, 0.7))
    image.SetOrigin((-12.0, 30.0, 5.0))
    image.SetDirection(direction)
    return image


def lesion_box(image):
    return index_box(image, LESION[0], np.subtract(LESION[1], LESION[0]).tolist())


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    path = tmp_path_factory.mktemp("volumes") / "case.nrrd"
    sitk.WriteImage(an_image(), str(path))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    pytest.importorskip("torch")
    from small_models import outliner_folder

    return outliner_folder(tmp_path_factory.mktemp("models") / "joint")


# --- where -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), TURN, (1, 0, 0, 0, 1, 0, 0, 0, -1)])
def test_the_boxes_that_we_write_are_read_back(tmp_path, direction):
    image = an_image(direction)
    findings = (Finding("L1", lesion_box(image), 0.8), Finding("L2", index_box(image, (2, 3, 4), (9, 8, 7)), 0.5))
    study = Study(ImageInfo.of(image, "a.nrrd"), findings)
    (tmp_path / "boxes.mrk.json").write_text(json.dumps(files.boxes(study)))
    (tmp_path / "points.mrk.json").write_text(json.dumps(files.points(study)))
    read = read_markups(tmp_path / "boxes.mrk.json")
    assert (len(read.boxes), read.points) == (2, ())
    for oriented, finding in zip(read.boxes, findings, strict=True):
        box = oriented.along(image)
        assert box.center == pytest.approx(finding.box.center) and box.size == pytest.approx(finding.box.size)
    points = read_markups(tmp_path / "points.mrk.json").points
    np.testing.assert_allclose(points, [f.box.center for f in findings])


def test_ras_files_and_turned_boxes(tmp_path):
    image = an_image((1, 0, 0, 0, 1, 0, 0, 0, 1))
    turned = [0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]  # a quarter about z: its first axis is y
    markup = {"type": "ROI", "coordinateSystem": "RAS", "center": [1.0, -2.0, 3.0], "orientation": turned, "size": [4.0, 6.0, 8.0]}
    lost = {"type": "Fiducial", "coordinateSystem": "RAS", "controlPoints": [
        {"position": [5.0, 6.0, 7.0], "positionStatus": "defined"}, {"position": [0, 0, 0], "positionStatus": "undefined"},
    ]}  # fmt: skip
    path = tmp_path / "a.mrk.json"
    path.write_text(json.dumps({"markups": [markup, lost, {"type": "Line"}]}))
    read = read_markups(path)
    box = read.boxes[0].along(image)
    assert box.center == pytest.approx((-1.0, 2.0, 3.0)) and box.size == pytest.approx((6.0, 4.0, 8.0))
    assert read.points == ((-5.0, -6.0, 7.0),)


def test_slicers_own_roi_file_says_the_same(tmp_path):
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    import slicer

    from BreastUSAILib import mrml
    from BreastUSAILib.slicer_runtime import private_scene

    image = an_image()
    with private_scene() as scene:
        node = mrml.add_volume(scene, image, "abus")
        study = Study(ImageInfo.of(image, "abus"), (Finding("L1", lesion_box(image), 0.8),))
        (roi,) = mrml.show_detections(scene, study, node).boxes
        storage = slicer.vtkMRMLMarkupsROIJsonStorageNode()
        scene.AddNode(storage)
        storage.SetFileName(str(tmp_path / "R.mrk.json"))
        assert storage.WriteData(roi)
        inScene = mrml.box_of_roi(node, roi)
    box = read_markups(tmp_path / "R.mrk.json").boxes[0].along(image)
    for found in (box, inScene):
        assert found.center == pytest.approx(lesion_box(image).center, abs=1e-3)
        assert found.size == pytest.approx(lesion_box(image).size, abs=1e-3)


@pytest.mark.parametrize(
    "text, words",
    [
        ("nonsense", "no markups file"),
        ('{"markups": [{"type": "ROI", "size": [1, 2]}]}', "no markups file"),
        ('{"markups": [{"type": "ROI", "center": [0, 0, NaN], "size": [1, 2, 3]}]}', "no markups file"),
        ('{"markups": [{"type": "Line"}]}', "holds no ROI and no point"),
    ],
)
def test_files_that_say_no_place(tmp_path, text, words):
    path = tmp_path / "a.mrk.json"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_markups(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_markups(tmp_path / "none.mrk.json")


# --- the command -----------------------------------------------------------------------------------------------------


def test_without_a_model_the_command_says_what_to_do(tmp_path, capsys):
    if catalog.ships("segment-3d"):
        pytest.skip("a model for volumes is installed")
    arguments = ["segment", str(tmp_path / "a.nrrd"), "--output", str(tmp_path / "out"), "--point=1,2,3"]
    assert cli.main(arguments) == 1
    assert "No 3D segmentation model is installed; train one with breastusai train segment-3d" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_boxes_points_and_findings_are_all_outlined(model, volume, tmp_path, capsys):
    image = sitk.ReadImage(str(volume))
    box = lesion_box(image)
    info = ImageInfo.of(image, str(volume))
    far = index_box(image, (2, 3, 2), (8, 8, 8))
    found = Study(info, (Finding("A", far, 0.77, 0.4),))
    (tmp_path / "found.json").write_text(found.to_json())
    boxes = tmp_path / "boxes.mrk.json"
    boxes.write_text(json.dumps(files.boxes(Study(info, (Finding("drawn", box, 0.0),)))))
    numbers = ",".join(map(repr, (-box.center[0], -box.center[1], box.center[2])))
    arguments = ["segment", str(volume), "-o", str(tmp_path / "out"), "--model", str(model), "--device", "cpu", "--ras"]
    arguments += ["--boxes", str(boxes), "--findings", str(tmp_path / "found.json"), f"--point={numbers}"]
    assert cli.main([*arguments, "--no-uncertainty", "--progress", "json"]) == 0
    said = capsys.readouterr().out
    assert '{"progress": 1.0' in said and "not a medical device" in said
    study = files.read_study(tmp_path / "out" / "case")
    assert [f.id for f in study.findings] == ["A", "L1", "L2"]
    assert study.image == replace(info, path=study.image.path)
    assert study.provenance["models"][0]["id"] == "small-joint" and "segment-3d" in study.provenance["seconds"]
    for finding in study.findings:
        # The network has learnt nothing: what counts is that each was looked at, and says what came of it.
        assert finding.mask is not None or finding.notes
        if finding.mask is not None:
            assert finding.measurements["volume_ml"] > 0 and finding.models["segment"] == "small-joint"


def test_what_makes_no_sense_is_told(model, volume, tmp_path, capsys):
    other = tmp_path / "other.json"
    smaller = sitk.Image(5, 6, 7, sitk.sitkUInt8)
    other.write_text(Study(ImageInfo.of(smaller, "other.nrrd")).to_json())
    flat = tmp_path / "flat.png"
    sitk.WriteImage(sitk.GetImageFromArray(np.random.default_rng(1).integers(0, 255, (40, 60), dtype=np.uint8)), str(flat))
    own = ["--model", str(model), "-o", str(tmp_path / "out")]
    for more, code, words in (
        ([str(volume)], 2, "Say where the lesions are"),
        ([str(volume), "--point=1,2"], 2, "is not 3 numbers"),
        ([str(volume), "--box=1,2,3,4,5,x"], 2, "is not 6 numbers"),
        ([str(volume), "--box=1,2,3,-4,5,6"], 1, "extents must not be negative"),
        ([str(volume), "--point=900,2,3"], 2, "outside the volume"),
        ([str(volume), "--findings", str(other)], 1, "name the result of this image"),
        ([str(volume), "--findings", str(tmp_path / "none.json")], 1, "cannot be read"),
        ([str(volume), "--point=1,2,3", "--iterations", "9"], 2, "iterations"),
        ([str(volume), "--point=1,2,3", "--spacing", "0", "1", "1"], 2, "--spacing"),
        ([str(flat), "--point=1,2,3"], 1, "2D image"),
    ):
        assert cli.main(["segment", *more, *own]) == code, words
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# --- the child -------------------------------------------------------------------------------------------------------


def test_every_option_and_place_reaches_the_child(tmp_path):
    image = an_image()
    request = SegmentationRequest(
        (Finding("A", lesion_box(image), 0.7),), (Box((-1.5, 2e-7, 3.0), (4.0, 5.0, 6.0)),), ((-7.0, 8.0, 1e-9),)
    )
    options = SegmentationOptions("a-model", "cpu", 0.4, 1, False, True)
    order = SegmentationOrder(request, options, ImageInfo.of(image, "case"))
    arguments = segmentation_arguments(tmp_path / "a.nrrd", tmp_path / "out", order)
    parsed = cli.build_parser(arguments).parse_args(arguments)
    told = SegmentationOptions(
        parsed.model, parsed.device, parsed.threshold, parsed.iterations, parsed.uncertainty, parsed.refine
    )
    assert told == options and not parsed.ras
    assert parsed.box == [(-1.5, 2e-7, 3.0, 4.0, 5.0, 6.0)] and parsed.point == [(-7.0, 8.0, 1e-9)]
    assert Study.from_json(parsed.findings.read_text()).findings == request.findings
    few = segmentation_arguments(tmp_path / "b.nrrd", tmp_path, replace(order, options=SegmentationOptions()))
    parsed = cli.build_parser(few).parse_args(few)
    assert (parsed.threshold, parsed.iterations, parsed.uncertainty, parsed.refine) == (None, None, True, None)


def test_a_real_child_process_brings_the_outlines_back(model, volume):
    image = sitk.ReadImage(str(volume))
    request = SegmentationRequest(boxes=(lesion_box(image),))
    options = SegmentationOptions(str(model), "cpu", uncertainty=False)
    seen = []
    order = SegmentationOrder(request, options, ImageInfo.of(image, "case 7"))
    job = ChildSegmentation(AbusPixels(image, "case 7", True), order, lambda *p: seen.append(p))
    job._child.wait(180)
    study = job.result()
    assert study.image.path == "case 7" and len(study.findings) == 1 and seen[-1][0] == 1.0
    assert study.image == ImageInfo.of(image, "case 7")
