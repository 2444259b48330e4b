"""What a run writes for one input, read back by ourselves and by Slicer's own storage nodes."""

import csv
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from BreastUSAILib import files
from BreastUSAILib.errors import DataError, OutputError
from BreastUSAILib.findings import Finding, ImageInfo, Study
from BreastUSAILib.grid import box_of_mask, index_box
from BreastUSAILib.measurements import measure_2d
from BreastUSAILib.measurements_3d import measure_3d
from BreastUSAILib.report_parts import scores
from BreastUSAILib.slicer_runtime import private_scene
from BreastUSAILib.terminology import lesion_color, segment_tags

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def rotation(*degrees):
    """Rotations about x, y and z, one after the other."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        a, b = [i for i in range(3) if i != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def grid_2d():
    image = sitk.Image(40, 30, sitk.sitkUInt8)
    image.SetSpacing((0.07, 0.09))
    return image


def grid_oblique_2d():
    image = sitk.Image(40, 30, sitk.sitkUInt8)
    image.SetSpacing((0.07, 0.09))
    image.SetOrigin((-12.5, 31.25))
    image.SetDirection(rotation(0, 0, 30)[:2, :2].ravel())
    return image


def grid_oblique_3d():
    image = sitk.Image(40, 30, 12, sitk.sitkUInt8)
    image.SetSpacing((0.2, 0.073, 0.475674))
    image.SetOrigin((-80.5, 12.25, 33.0))
    image.SetDirection(rotation(20, -35, 50).ravel())
    return image


def mask_on(image, start, size):
    array = np.zeros(image.GetSize()[::-1], np.uint8)
    array[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))[::-1]] = 1
    array[tuple(start)[::-1]] = 0  # not a plain box
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(image)
    return mask


def study_on(image, n=2, path="/data/ärzte/bus 1 #2.png"):
    places = [((5, 4, 2), (9, 7, 5)), ((20, 12, 6), (11, 13, 4))][:n]
    findings = []
    for i, (start, size) in enumerate(places):
        d = image.GetDimension()
        mask = mask_on(image, start[:d], size[:d])
        findings.append(
            Finding(
                id=f"L{i + 1}",
                box=box_of_mask(mask),
                score=0.9 - 0.2 * i,
                mask=mask,
                label=i + 1,
                measurements={"area_mm2": 12.5 + i, "odd_figure": None},
                models={"segment": "roi-cnn"},
                notes=("not refined",),
            )
        )
    return Study(ImageInfo.of(image, path), tuple(findings), provenance={"notes": ["a note"]})


GRIDS = pytest.mark.parametrize("image", [grid_2d(), grid_oblique_2d(), grid_oblique_3d()], ids=["2d", "oblique2d", "oblique3d"])


@GRIDS
@pytest.mark.parametrize("n", [0, 1, 2])
def test_study_reads_back_the_same(tmp_path, image, n):
    study = study_on(image, n)
    written = files.write_study(study, tmp_path)
    back = files.read_study(tmp_path)

    assert back == study
    assert written[-1].name == "study.json"
    assert (tmp_path / "lesions.seg.nrrd").exists() == (n > 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in written)
    for finding, original in zip(back.findings, study.findings, strict=True):
        assert finding.mask.GetPixelID() == sitk.sitkUInt8
        assert finding.mask.GetDirection() == original.mask.GetDirection()
        assert finding.mask.GetSpacing() == original.mask.GetSpacing()
        assert finding.mask.GetOrigin() == original.mask.GetOrigin()
        assert not finding.mask.GetMetaDataKeys()
        np.testing.assert_array_equal(sitk.GetArrayFromImage(finding.mask), sitk.GetArrayFromImage(original.mask))


def test_heatmap_reads_back(tmp_path):
    heat = sitk.GetImageFromArray(np.random.default_rng(0).random((30, 40), np.float32))
    heat.CopyInformation(grid_oblique_2d())
    study = replace(study_on(grid_oblique_2d()), heatmap=heat)
    files.write_study(study, tmp_path)
    back = files.read_study(tmp_path).heatmap
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(heat))
    assert back.GetDirection() == heat.GetDirection()


def test_writing_again_removes_what_the_study_no_longer_has(tmp_path):
    heat = sitk.Cast(grid_2d(), sitk.sitkFloat32)
    files.write_study(replace(study_on(grid_2d()), heatmap=heat), tmp_path)
    files.write_study(study_on(grid_2d(), 0), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["boxes.mrk.json", "findings.csv", "points.mrk.json", "study.json"]
    assert files.read_study(tmp_path).findings == ()


def test_overlap_belongs_to_the_higher_score_and_masks_read_back_so(tmp_path):
    image = grid_2d()
    study = study_on(image)
    second = replace(study.findings[1], mask=mask_on(image, (10, 8), (10, 10)))
    study = replace(study, findings=(study.findings[0], second))
    files.write_study(study, tmp_path)
    first, second = (sitk.GetArrayFromImage(f.mask) for f in files.read_study(tmp_path).findings)
    np.testing.assert_array_equal(first, sitk.GetArrayFromImage(study.findings[0].mask))
    assert not (first & second).any()
    np.testing.assert_array_equal(first | second, np.maximum(first, sitk.GetArrayFromImage(study.findings[1].mask)))


# ------------------------------------------------------------------------------------------------------------- CSV


def test_csv_has_the_same_header_when_nothing_was_found():
    full = list(csv.reader(files.findings_csv([study_on(grid_2d())]).splitlines()))
    empty = list(csv.reader(files.findings_csv([study_on(grid_2d(), 0)]).splitlines()))
    assert len(empty) == 1 and len(full) == 3
    assert [c for c in full[0] if c != "odd_figure"] == empty[0]


@pytest.mark.parametrize("spacing_known", [True, False])
def test_all_measurements_have_a_column(spacing_known):
    mask = mask_on(grid_2d(), (5, 4), (9, 7))
    volume = files.as_volume(mask)
    other = r"_px[23]?$" if spacing_known else r"_(mm2?|ml)$"
    expected = {name for name in files.MEASUREMENTS if not re.search(other, name)}
    measured = {*measure_2d(mask, mask, spacing_known), *measure_3d(volume, volume, spacing_known)}
    assert measured | {"outline_uncertainty"} == expected  # the last one is the network's


def test_csv_values():
    rows = list(csv.DictReader(files.findings_csv([study_on(grid_2d())]).splitlines()))
    assert rows[0]["finding"] == "L1" and rows[0]["image"] == "/data/ärzte/bus 1 #2.png"
    assert float(rows[1]["score"]) == pytest.approx(0.7)
    assert rows[0]["area_mm2"] == "12.5" and rows[0]["odd_figure"] == "" and rows[0]["malignancy"] == ""
    assert rows[0]["spacing_known"] == "true" and rows[0]["models"] == "segment: roi-cnn"
    assert float(rows[0]["size_1_mm"]) == pytest.approx(9 * 0.07)
    # A model of one's own may have the name of one that ships; the version tells them apart.
    told = replace(study_on(grid_2d()), provenance={"models": [{"id": "roi-cnn", "version": "unpublished"}]})
    assert "segment: roi-cnn unpublished" in files.findings_csv([told])


def test_csv_keeps_all_digits_of_whole_numbers():
    assert files.to_csv(["a", "b", "c"], [{"a": 1234567.0, "b": 0.123456789, "c": -3.0}]).splitlines()[1] == "1234567,0.123457,-3"


@pytest.mark.parametrize("known", [True, False])
def test_csv_tells_millimetres_from_pixels(known):
    study = study_on(grid_2d())
    study = replace(study, image=replace(study.image, spacing_known=known))
    row = next(csv.DictReader(files.findings_csv([study]).splitlines()))
    names = ("center_x", "center_y", "center_z", "size_1", "size_2", "size_3")
    values = {unit: [row[f"{name}_{unit}"] for name in names] for unit in ("mm", "px")}
    box = study.findings[0].box
    center = box.center if known else study.image.place(box.center)
    assert values["mm" if known else "px"] == [f"{v:.6g}" for v in (*center, *box.size)]
    assert values["px" if known else "mm"] == [""] * 6


def test_a_centre_in_pixels_is_counted_from_the_image_s_first_pixel(tmp_path):
    """Where the file says where the image lies, and not what a pixel measures: millimetres and pixels make no sum."""
    image = sitk.Image(40, 30, 20, sitk.sitkUInt8)
    image.SetOrigin((-500.0, 20.0, 632.5))
    image.SetDirection((0, 0, 1, 1, 0, 0, 0, 1, 0))
    box = index_box(image, (4, 6, 8), (3, 5, 7))
    evidence = dict(zip(("peak_x", "peak_y", "peak_z"), image.TransformContinuousIndexToPhysicalPoint((5.0, 7.0, 9.0)), strict=True))
    study = Study(ImageInfo.of(image, "a.mha", False), (Finding("L1", box, 0.5, evidence=evidence),))
    row = next(csv.DictReader(files.findings_csv([study]).splitlines()))
    assert [row[f"center_{axis}_px"] for axis in "xyz"] == ["5", "8", "11"]
    assert [row[f"evidence_peak_{axis}"] for axis in "xyz"] == ["5", "7", "9"]
    rows = {r["name"]: r for r in scores(study.findings[0], study.image)}
    assert (rows["Box centre"]["value"], rows["Box centre"]["unit"]) == ("5.00, 8.00, 11.00", "pixels")
    files.write_study(study, tmp_path)
    assert files.read_study(tmp_path).findings[0].box == box  # study.json keeps where it lies
    known = replace(study, image=replace(study.image, spacing_known=True))
    assert known.image.place(box.center) == box.center
    flat = ImageInfo("a.png", (9, 9), (1, 1), (3, -4), (0, -1, 1, 0), False)
    assert flat.place((1, 3, 0)) == (7, 2, 0)


def test_measurements_that_have_no_value_are_empty_cells():
    study = study_on(grid_2d(), 1)
    study = replace(study, findings=(replace(study.findings[0], measurements=dict.fromkeys(files.MEASUREMENTS)),))
    row = next(csv.DictReader(files.findings_csv([study]).splitlines()))
    assert all(row[name] == "" for name in files.MEASUREMENTS)


@given(text=st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=20))
@settings(max_examples=50, deadline=None)
def test_csv_survives_any_text(text):
    parsed = list(csv.DictReader(io.StringIO(files.to_csv(["a", "b"], [{"a": text, "b": 1}]), newline="")))
    # A spreadsheet would run cells that start like a formula; they are set apart by an apostrophe.
    assert parsed[0]["a"].removeprefix("'") == text.removeprefix("'") and parsed[0]["b"] == "1"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-2.png", "@x", "\t=1"])
def test_csv_text_is_never_a_formula(text):
    assert next(csv.DictReader(files.to_csv(["a"], [{"a": text}]).splitlines()))["a"] == "'" + text
    assert next(csv.DictReader(files.to_csv(["a"], [{"a": -2.5}]).splitlines()))["a"] == "-2.5"


# ---------------------------------------------------------------------------------------------------------- Slicer


@pytest.fixture
def scene():
    pytest.importorskip("slicer", reason="slicer-core is not installed (pip install breastusai[slicer])")
    with private_scene() as scene:
        yield scene


def read_node(scene, node_class, storage_class, path):
    node = scene.AddNewNodeByClass(node_class)
    storage = scene.AddNewNodeByClass(storage_class)
    storage.SetFileName(str(path))
    assert storage.ReadData(node) == 1
    return node


def matrix_of(vtk_matrix):
    return np.array([[vtk_matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


@GRIDS
def test_slicer_reads_the_segmentation(tmp_path, scene, image):
    import slicer
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    study = study_on(image)
    path = files.write_segmentation(study, tmp_path / "lesions.seg.nrrd")
    node = read_node(scene, "vtkMRMLSegmentationNode", "vtkMRMLSegmentationStorageNode", path)
    segmentation = node.GetSegmentation()
    assert [segmentation.GetNthSegmentID(i) for i in range(segmentation.GetNumberOfSegments())] == ["L1", "L2"]

    volume = files.as_volume(image)
    for i, finding in enumerate(study.findings):
        segment = segmentation.GetSegment(finding.id)
        assert segment.GetName() == finding.id and not segment.GetNameAutoGenerated()
        np.testing.assert_allclose(segment.GetColor(), lesion_color(i), atol=1e-5)
        assert segment.GetLabelValue() == finding.label
        for name, value in segment_tags("roi-cnn").items():
            found = vtk.reference("")
            assert segment.GetTag(name, found) and str(found) == value

        part = slicer.vtkOrientedImageData()
        node.GetBinaryLabelmapRepresentation(finding.id, part)
        points = sitk.GetArrayFromImage(files.as_volume(finding.mask))
        indices = np.argwhere(points)[:, ::-1]
        expected = sorted(map(tuple, np.round([volume.TransformIndexToPhysicalPoint(i.tolist()) for i in indices], 3)))
        to_world = vtk.vtkMatrix4x4()
        part.GetImageToWorldMatrix(to_world)
        x0, x1, y0, y1, z0, z1 = part.GetExtent()
        voxels = vtk_to_numpy(part.GetPointData().GetScalars()).reshape(z1 - z0 + 1, y1 - y0 + 1, x1 - x0 + 1)
        inside = np.argwhere(voxels)[:, ::-1] + [x0, y0, z0]
        world = np.c_[inside, np.ones(len(inside))] @ matrix_of(to_world).T
        found = sorted(map(tuple, np.round(world[:, :3] @ LPS_TO_RAS, 3)))
        np.testing.assert_allclose(found, expected, atol=2e-3)


@GRIDS
def test_slicer_reads_the_boxes(tmp_path, scene, image):
    import slicer

    study = study_on(image)
    files.write_study(study, tmp_path)
    logic = slicer.vtkSlicerMarkupsLogic()
    logic.SetMRMLScene(scene)
    logic.LoadMarkups(str(tmp_path / "boxes.mrk.json"), "boxes")
    nodes = list(scene.GetNodesByClass("vtkMRMLMarkupsROINode"))
    logic.SetMRMLScene(None)
    assert len(nodes) == 2
    axes = np.eye(3)
    d = image.GetDimension()
    axes[:d, :d] = np.reshape(image.GetDirection(), (d, d))
    for i, (node, finding) in enumerate(zip(nodes, study.findings, strict=True)):
        size = list(finding.box.size) if d == 3 else [*finding.box.size[:2], 1.0]
        np.testing.assert_allclose(node.GetCenterWorld(), LPS_TO_RAS @ finding.box.center, atol=1e-6)
        np.testing.assert_allclose(node.GetSize(), size, atol=1e-6)
        np.testing.assert_allclose(matrix_of(node.GetObjectToWorldMatrix())[:3, :3], LPS_TO_RAS @ axes, atol=1e-6)
        np.testing.assert_allclose(node.GetDisplayNode().GetSelectedColor(), lesion_color(i), atol=1e-3)
        assert node.GetName() == finding.id


@pytest.mark.parametrize("image", [grid_oblique_2d(), grid_oblique_3d()], ids=["2d", "3d"])
def test_boxes_of_left_handed_images_are_right_handed(tmp_path, scene, image):
    """As those of the scene: tools that take an ROI's matrix for a rotation would turn a left-handed one inside out."""
    from BreastUSAILib import mrml
    from BreastUSAILib.markups import read_markups

    d = image.GetDimension()
    image.SetDirection((np.reshape(image.GetDirection(), (d, d)) * ([1] * (d - 1) + [-1])).ravel())  # the last axis, reversed
    study = study_on(image)
    files.write_study(study, tmp_path)
    data = json.loads((tmp_path / "boxes.mrk.json").read_text(encoding="utf-8"))
    nodes = mrml.add_boxes(scene, study, mrml.add_volume(scene, image, "image"))
    for markup, node, box in zip(data["markups"], nodes, read_markups(tmp_path / "boxes.mrk.json").boxes, strict=True):
        axes = np.reshape(markup["orientation"], (3, 3))
        assert np.linalg.det(axes) == pytest.approx(1)
        np.testing.assert_allclose(LPS_TO_RAS @ axes, matrix_of(node.GetObjectToNodeMatrix())[:3, :3], atol=1e-6)
        np.testing.assert_allclose((*markup["center"][:d], *markup["size"]), (*(LPS_TO_RAS @ node.GetCenter())[:d], *node.GetSize()), atol=1e-5)
        if d == 3:
            finding = study.findings[data["markups"].index(markup)]
            np.testing.assert_allclose((*box.along(image).center, *box.along(image).size), (*finding.box.center, *finding.box.size), atol=1e-6)


@pytest.mark.parametrize("n", [0, 2])
def test_slicer_reads_the_points(tmp_path, scene, n):
    study = study_on(grid_oblique_3d(), n)
    files.write_study(study, tmp_path)
    path = tmp_path / "points.mrk.json"
    node = read_node(scene, "vtkMRMLMarkupsFiducialNode", "vtkMRMLMarkupsJsonStorageNode", path)
    assert node.GetNumberOfControlPoints() == n
    for i, finding in enumerate(study.findings):
        assert node.GetNthControlPointLabel(i) == finding.id
        np.testing.assert_allclose(node.GetNthControlPointPosition(i), LPS_TO_RAS @ finding.box.center, atol=1e-6)


# ---------------------------------------------------------------------------------------------------------- errors


def test_damaged_results_say_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"analyse the input again \(breastusai run: with --overwrite\)"):
        files.read_study(tmp_path)
    files.write_study(study_on(grid_2d()), tmp_path)
    (tmp_path / "lesions.seg.nrrd").unlink()
    with pytest.raises(DataError, match="lesions.seg.nrrd.*--overwrite"):
        files.read_study(tmp_path)
    files.write_segmentation(study_on(grid_oblique_3d()), tmp_path / "lesions.seg.nrrd")
    with pytest.raises(DataError, match="pixels"):
        files.read_study(tmp_path)


def test_nothing_is_written_where_nothing_can_be(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        files.write_study(study_on(grid_2d()), tmp_path / "file" / "sub")
    with pytest.raises(DataError, match="no finding with a mask"):
        files.write_segmentation(study_on(grid_2d(), 0), tmp_path / "x.seg.nrrd")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_markups_follow_the_schema_in_shape(tmp_path):
    files.write_study(study_on(grid_2d()), tmp_path)
    data = json.loads((tmp_path / "boxes.mrk.json").read_text(encoding="utf-8"))
    assert data["@schema"].endswith("markups-schema-v1.0.3.json#")
    assert {m["coordinateSystem"] for m in data["markups"]} == {"LPS"}
