"""MRML nodes of images and studies, on the real MRML of slicer-core."""

from __future__ import annotations

import itertools
import math
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from BreastUSAILib import (
    child_workup,
    mrml,
    mrml_masks,
    mrml_names,
    mrml_nodes,
    mrml_other_view,
    mrml_overlay,
    mrml_workup,
)
from BreastUSAILib.errors import DataError, ImageError, OtherSpacingError, OutputError
from BreastUSAILib.findings import Box, Finding, ImageInfo, Study
from BreastUSAILib.grid import box_of_mask
from BreastUSAILib.identity import pixels_digest
from BreastUSAILib.image import read_image
from BreastUSAILib.mrml_grid import Frame, object_to_node
from BreastUSAILib.review import Review
from BreastUSAILib.slicer_runtime import import_slicer, private_scene
from BreastUSAILib.terminology import segment_tags

pytest.importorskip("slicer", reason="slicer-core is not installed")
import vtk  # noqa: E402
from vtk.util.numpy_support import vtk_to_numpy  # noqa: E402

# A turn about a skew axis; its determinant is 1.
TURN = (0.36, 0.48, -0.8, -0.8, 0.60, 0.0, 0.48, 0.64, 0.60)
MIRRORED = (0.36, 0.48, 0.8, -0.8, 0.60, 0.0, 0.48, 0.64, -0.60)
SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def scene():
    with private_scene() as fresh:
        yield fresh


def _image(size, spacing=None, origin=None, direction=None, seed=0, dtype=np.uint8) -> sitk.Image:
    rng = np.random.default_rng(seed)
    image = sitk.GetImageFromArray(rng.integers(0, 255, size[::-1]).astype(dtype))
    image.SetSpacing(spacing or (0.08, 0.12, 0.5)[: len(size)])
    image.SetOrigin(origin or (3.0, -7.5, 11.0)[: len(size)])
    if direction is not None:
        image.SetDirection(direction)
    return image


def _mask(image: sitk.Image, start, stop) -> sitk.Image:
    array = np.zeros(image.GetSize()[::-1], np.uint8)
    array[tuple(slice(a, b) for a, b in zip(start[::-1], stop[::-1], strict=True))] = 1
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(image)
    return mask


def _box(image: sitk.Image, start, stop) -> Box:
    """The box around the pixels start <= index < stop."""
    d = image.GetDimension()
    middle = [(a + b - 1) / 2 for a, b in zip(start, stop, strict=True)]
    center = image.TransformContinuousIndexToPhysicalPoint(middle)
    size = [(b - a) * s for a, b, s in zip(start, stop, image.GetSpacing(), strict=True)]
    return Box(tuple([*center, 0.0][:3]), tuple([*size, 0.0][:3])) if d == 2 else Box(center, tuple(size))


def _study(image: sitk.Image, *regions, path="/data/case 7.png", known=True) -> Study:
    findings = tuple(
        Finding(
            id=f"L{i}",
            box=_box(image, *region),
            score=0.9 / i,
            malignancy=0.25,
            mask=_mask(image, *region),
            label=i,
            measurements={"area_mm2": 12.5 * i, "orientation_deg": 30.0 if i == 1 else None, "volume_mm3": None},
            models={"segment": "roi-cnn-compact"},
            notes=("Refined.",),
        )
        for i, region in enumerate(regions, 1)
    )
    return Study(ImageInfo.of(image, path, known), findings, provenance={"device": {"name": "cpu"}, "notes": ["ä|:;~"]})


CASE_2D = ((40, 30), ((5, 6), (15, 12)), ((20, 10), (30, 25)))
CASE_3D = ((20, 16, 12), ((2, 3, 4), (8, 9, 7)), ((10, 2, 1), (19, 12, 11)))


def _case(kind: str) -> tuple[sitk.Image, Study]:
    size, *regions = CASE_2D if kind.startswith("2D") else CASE_3D
    direction = {
        "2D": None,
        "2D turned": (0.6, -0.8, 0.8, 0.6),
        "3D": None,
        "3D oblique": TURN,
        "3D mirrored": MIRRORED,
    }[kind]
    image = _image(size, direction=direction)
    return image, _study(image, *regions)


KINDS = ("2D", "2D turned", "3D", "3D oblique", "3D mirrored")


def _parent(scene):
    """A transform that turns, scales, shears and moves."""
    matrix = vtk.vtkMatrix4x4()
    values = (0.6, -0.8, 0.1, 12, 0.9, 0.5, 0, -4, 0, 0.2, 1.3, 30, 0, 0, 0, 1)
    matrix.DeepCopy(values)
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "probe")
    node.SetMatrixTransformToParent(matrix)
    return node, np.reshape(values, (4, 4))


def _same_image(a: sitk.Image, b: sitk.Image) -> None:
    assert a.GetSize() == b.GetSize()
    assert a.GetSpacing() == b.GetSpacing()
    assert a.GetOrigin() == pytest.approx(b.GetOrigin(), abs=1e-12)
    assert a.GetDirection() == pytest.approx(b.GetDirection(), abs=1e-12)
    np.testing.assert_array_equal(sitk.GetArrayViewFromImage(a), sitk.GetArrayViewFromImage(b))


def _same_study(found: Study, expected: Study) -> None:
    assert found.image == expected.image and found.provenance == expected.provenance
    assert [f.id for f in found.findings] == [f.id for f in expected.findings]
    for a, b in zip(found.findings, expected.findings, strict=True):
        assert a.box.center == pytest.approx(b.box.center, abs=1e-6)
        assert a.box.size == pytest.approx(b.box.size, abs=1e-6)
        assert replace(a, box=b.box) == b
        _same_image(a.mask, b.mask)


# --- volumes ---------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.tuples(*[st.integers(1, 7)] * 3),
    spacing=st.tuples(*[st.floats(0.01, 5)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    angles=st.tuples(*[st.floats(-math.pi, math.pi)] * 3),
    dtype=st.sampled_from(["uint8", "int16", "uint16", "int32", "float32", "float64"]),
)
def test_any_image_comes_back_as_it_was(scene, size, spacing, origin, angles, dtype):
    turn = sitk.Euler3DTransform((0, 0, 0), *angles).GetMatrix()
    image = _image(size, spacing, origin, turn, dtype=dtype)
    node = mrml.add_volume(scene, image, "image")
    back = mrml.image_from_volume(node)
    assert back.GetPixelID() == image.GetPixelID()
    _same_image(back, image)
    # Where a voxel lies in the scene: the same point, with the first two axes the other way round.
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    last = [n - 1 for n in size]
    x, y, z = image.TransformIndexToPhysicalPoint(last)
    assert matrix.MultiplyPoint((*last, 1))[:3] == pytest.approx((-x, -y, z), abs=1e-9)


def test_a_2d_image_is_one_slice(scene):
    image = _image((6, 4), (0.1, 0.2), (3, 5), (0.6, -0.8, 0.8, 0.6))
    back = mrml.image_from_volume(mrml.add_volume(scene, image, "image"))
    assert back.GetSize() == (6, 4, 1) and back.GetSpacing() == (0.1, 0.2, 1.0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back)[0], sitk.GetArrayFromImage(image))
    point = image.TransformIndexToPhysicalPoint((5, 2))
    assert back.TransformIndexToPhysicalPoint((5, 2, 0)) == pytest.approx((*point, 0.0))


@pytest.mark.parametrize(
    "values, kind", [([0, 7], "int32"), ([-1, 2**31 - 1], "int32"), ([0, 2**40], "float64"), ([], "int32")]
)
def test_64_bit_integers_are_converted_without_loss(scene, values, kind):
    array = np.zeros((2, 3), np.int64)
    array.flat[: len(values)] = values
    back = mrml.image_from_volume(mrml.add_volume(scene, sitk.GetImageFromArray(array), "image"))
    assert sitk.GetArrayFromImage(back).dtype == kind
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back)[0], array)


def test_images_that_are_no_volume_are_refused(scene):
    grey = _image((4, 4))
    for bad, reason in (
        (sitk.Compose(grey, grey, grey), "several components"),
        (sitk.Image((2, 2, 2, 2), sitk.sitkUInt8), "4 dimensions"),
        (sitk.RealAndImaginaryToComplex(sitk.Cast(grey, sitk.sitkFloat32), sitk.Cast(grey, sitk.sitkFloat32)), "complex"),
    ):
        with pytest.raises(ImageError, match=f"bad.png .*{reason}"):
            mrml.add_volume(scene, bad, "bad.png")
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0


def test_an_empty_volume_node_is_refused(scene):
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")
    with pytest.raises(ImageError, match="nothing holds no voxels"):
        mrml.image_from_volume(node)


def test_a_colour_volume_keeps_its_components(scene):
    array = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
    node = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colour")
    data = vtk.vtkImageData()
    data.SetDimensions(4, 2, 1)
    data.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    vtk_to_numpy(data.GetPointData().GetScalars())[:] = array.reshape(-1, 3)
    node.SetAndObserveImageData(data)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mrml.image_from_volume(node)), array)


def test_a_cropped_volume_keeps_its_place(scene):
    image = _image((8, 6, 5), direction=TURN)
    node = mrml.add_volume(scene, image, "image")
    crop = vtk.vtkExtractVOI()
    crop.SetInputData(node.GetImageData())
    crop.SetVOI(2, 6, 1, 4, 3, 4)
    crop.Update()
    node.SetAndObserveImageData(crop.GetOutput())
    _same_image(mrml.image_from_volume(node), image[2:7, 1:5, 3:5])


def test_display_shows_b_mode_whole_and_other_ranges_without_outliers(scene):
    display = mrml.add_volume(scene, _image((9, 9)), "b-mode").GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0, 255)
    assert not display.GetAutoWindowLevel() and display.GetColorNode().GetName() == "Grey"
    array = np.linspace(0, 1, 10_000, dtype=np.float32).reshape(100, 100)
    array[0, 0], array[0, 1] = np.nan, 1e9
    display = mrml.add_volume(scene, sitk.GetImageFromArray(array), "float").GetDisplayNode()
    assert display.GetWindowLevelMax() == pytest.approx(1, abs=0.01)


def test_spacing_known_and_set(scene):
    image = _image((5, 5), (1, 1))
    unknown = mrml.add_volume(scene, image, "png", spacing_known=False)
    assert not mrml.spacing_known(unknown)
    assert mrml.spacing_known(mrml.add_volume(scene, image, "real millimetres"))
    loaded = mrml.add_volume(scene, image, "loaded by Slicer")
    loaded.RemoveAttribute(mrml.SPACING_KNOWN)
    assert not mrml.spacing_known(loaded)
    loaded.SetSpacing(0.1, 0.1, 1)
    assert mrml.spacing_known(loaded)

    assert mrml.spacing_by_user(loaded) == 0

    scene.SetUndoOn()
    mrml.set_pixel_spacing(unknown, 0.07)
    assert unknown.GetSpacing() == (0.07, 0.07, 1.0) and mrml.spacing_known(unknown)
    assert mrml.spacing_by_user(unknown) == 0.07
    assert scene.GetNumberOfUndoLevels() == 1
    mrml.set_pixel_spacing(unknown, 0)
    assert unknown.GetSpacing() == (1, 1, 1) and not mrml.spacing_known(unknown)
    assert mrml.spacing_by_user(unknown) == 0
    for bad in (-1, math.nan, math.inf):
        with pytest.raises(ImageError, match="png is .*positive"):
            mrml.set_pixel_spacing(unknown, bad)


@pytest.mark.parametrize("ending, known", [("JPG", False), ("tiff", False), ("png", False), ("nrrd", True)])
def test_the_dots_an_inch_of_a_picture_are_no_spacing(scene, ending, known):
    volume = mrml.add_volume(scene, _image((5, 5), (25.4 / 96, 25.4 / 96)), "photo")
    volume.RemoveAttribute(mrml.SPACING_KNOWN)
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(f"/data/photo.{ending}")
    volume.SetAndObserveStorageNodeID(storage.GetID())
    assert mrml.spacing_known(volume) is known
    mrml.set_pixel_spacing(volume, 0.05)
    assert mrml.spacing_known(volume)


@pytest.mark.parametrize("size", [(1, 40, 30), (40, 1, 30)])
def test_a_2d_study_fits_a_slice_along_any_axis(scene, size):
    flat = _image((40, 30), (1, 1), (0, 0))
    study = _study(flat, *CASE_2D[1:], known=False)
    whole = _image(size, (0.5, 0.4, 0.3), direction=TURN)
    volume = mrml.add_volume(scene, whole, "sagittal", spacing_known=False)
    nodes = mrml.show_study(scene, study, volume)
    for a, b in zip(mrml.study_from_nodes(volume, nodes.segmentation).findings, study.findings, strict=True):
        _same_image(a.mask, b.mask)
        assert a.box.center == pytest.approx(b.box.center, abs=1e-4)  # pixels, here; the node rounds its mm to float
        assert a.box.size == pytest.approx(b.box.size, abs=1e-4)
    # The centre of the box lies where its pixel is in the volume.
    column, row = flat.TransformPhysicalPointToContinuousIndex(study.findings[0].box.center[:2])
    x, y, z = whole.TransformContinuousIndexToPhysicalPoint((0, column, row) if size[0] == 1 else (column, 0, row))
    assert list(nodes.boxes[0].GetCenter()) == pytest.approx([-x, -y, z], abs=1e-5)
    mrml.set_pixel_spacing(volume, 0.1)
    assert volume.GetSpacing() == ((0.5, 0.1, 0.1) if size[0] == 1 else (0.1, 0.4, 0.1))


@pytest.mark.parametrize("size", [(1, 40, 30), (40, 1, 30), (40, 30, 1)])
def test_a_2d_study_on_a_slice_along_any_axis_is_about_the_same_pixels(size):
    flat = _image((40, 30), (0.5, 0.4), (7, -3), (0.6, -0.8, 0.8, 0.6))
    study = _study(flat, *CASE_2D[1:])
    whole = _image(size, (0.2, 0.3, 0.7), direction=TURN)
    across = size.index(1)
    there = mrml.on_grid(study, ImageInfo.of(whole, "slice"))
    for moved, finding in zip(there.findings, study.findings, strict=True):
        index = list(flat.TransformPhysicalPointToContinuousIndex(finding.box.center[:2]))
        index.insert(across, 0)
        assert moved.box.center == pytest.approx(whole.TransformContinuousIndexToPhysicalPoint(index))
        pixels = [finding.box.size[0] / 0.5, finding.box.size[1] / 0.4]
        pixels.insert(across, 1)
        assert moved.box.size == pytest.approx(np.array(pixels) * whole.GetSpacing())
    back = mrml.on_grid(there, study.image)
    for moved, finding in zip(back.findings, study.findings, strict=True):
        assert (*moved.box.center, *moved.box.size) == pytest.approx((*finding.box.center, *finding.box.size))
    assert mrml.on_grid(study, ImageInfo.of(_image((40, 31, 1)), "another")) == study


# --- studies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parent", [False, True])
def test_a_study_comes_back_from_its_nodes(scene, kind, parent):
    image, study = _case(kind)
    volume = mrml.add_volume(scene, image, "image")
    if parent:
        volume.SetAndObserveTransformNodeID(_parent(scene)[0].GetID())
    nodes = mrml.show_study(scene, study, volume)
    _same_study(mrml.study_from_nodes(volume, nodes.segmentation), study)


@pytest.mark.parametrize("kind", KINDS)
def test_everything_lies_where_the_image_lies_under_a_transform(scene, kind):
    image, study = _case(kind)
    volume = mrml.add_volume(scene, image, "image")
    transform, to_world = _parent(scene)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    nodes = mrml.show_study(scene, study, volume)
    for node in (nodes.segmentation, nodes.points, *nodes.boxes):
        assert node.GetParentTransformNode() is transform
    for index, (finding, roi) in enumerate(zip(study.findings, nodes.boxes, strict=True)):
        x, y, z = finding.box.center
        expected = (to_world @ (-x, -y, z, 1))[:3]
        world = [0.0] * 3
        nodes.points.GetNthControlPointPositionWorld(index, world)
        assert world == pytest.approx(expected, abs=1e-5)
        roi.GetCenterWorld(world)
        assert world == pytest.approx(expected, abs=1e-5)
        assert nodes.points.GetNthControlPointLabel(index) == finding.id
        # the segment's centre, too, is the box's: both are blocks of the same pixels
        center = nodes.segmentation.GetSegmentCenterRAS(nodes.segmentation.GetSegmentation().GetNthSegmentID(index))
        assert center == pytest.approx(expected, abs=0.9 * max(image.GetSpacing()))


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_stand_along_the_images_axes(scene, kind):
    image, study = _case(kind)
    nodes = mrml.show_study(scene, study, mrml.add_volume(scene, image, "image"))
    d = image.GetDimension()
    axes = np.eye(3)
    axes[:d, :d] = np.reshape(image.GetDirection(), (d, d))
    for finding, roi in zip(study.findings, nodes.boxes, strict=True):
        matrix = roi.GetObjectToNodeMatrix()
        found = np.array([[matrix.GetElement(r, c) for c in range(3)] for r in range(3)])
        assert np.linalg.det(found) == pytest.approx(1)
        np.testing.assert_allclose(np.abs((np.diag([-1, -1, 1]) @ axes).T @ found), np.eye(3), atol=1e-9)
        size = finding.box.size if d == 3 else (*finding.box.size[:2], 1.0)
        assert roi.GetSize() == pytest.approx(size)


def test_a_single_slice_anywhere_in_space_takes_a_2d_study(scene):
    """The module's case: the volume node was loaded by Slicer and stands obliquely, the study is two-dimensional."""
    volume = mrml.add_volume(scene, _image((40, 30, 1), (0.08, 0.12, 2.5), direction=TURN), "image")
    image, study = _case("2D")
    nodes = mrml.show_study(scene, study, volume)
    three = mrml.image_from_volume(volume)
    for finding, roi in zip(study.findings, nodes.boxes, strict=True):
        index = image.TransformPhysicalPointToContinuousIndex(finding.box.center[:2])
        x, y, z = three.TransformContinuousIndexToPhysicalPoint((*index, 0))
        assert list(roi.GetCenter()) == pytest.approx([-x, -y, z], abs=1e-5)
        assert roi.GetSize() == pytest.approx((*finding.box.size[:2], 2.5))
    _same_study(mrml.study_from_nodes(volume, nodes.segmentation), study)


def test_segments_carry_terminology_names_colours_and_exact_voxels(scene):
    image, study = _case("3D oblique")
    nodes = mrml.show_study(scene, study, mrml.add_volume(scene, image, "image"))
    segmentation = nodes.segmentation.GetSegmentation()
    assert [segmentation.GetNthSegment(i).GetName() for i in range(2)] == ["L1", "L2"]
    assert segmentation.GetNumberOfLayers() == 2  # each has voxels of its own; Slicer joins what does not overlap when it saves
    colors = set()
    for finding in study.findings:
        segment = segmentation.GetSegment(finding.id)
        colors.add(segment.GetColor())
        assert segment.GetLabelValue() == 1
        for key, value in segment_tags("roi-cnn-compact").items():
            found = vtk.reference("")
            assert segment.GetTag(key, found) and found == value
    assert len(colors) == 2
    geometry = segmentation.GetConversionParameter("Reference image geometry")
    assert geometry.endswith("0;19;0;15;0;11;")


def test_segments_hold_no_more_voxels_than_they_need(scene):
    """Surfaces and overlays are made from them in the main thread, and cost by the voxel."""
    image = _image((60, 50, 40))
    study = _study(image, ((5, 6, 7), (12, 16, 18)), ((40, 30, 20), (44, 41, 33)))
    nodes = mrml.show_study(scene, study, mrml.add_volume(scene, image, "image"), crops=mrml.mask_crops(study))
    for finding in study.findings:
        voxels = sitk.GetArrayViewFromImage(finding.mask)
        filled = np.argwhere(voxels)
        segment = nodes.segmentation.GetSegmentation().GetSegment(finding.id)
        needed = filled.max(axis=0) - filled.min(axis=0) + 1
        assert segment.GetRepresentation("Binary labelmap").GetDimensions() == tuple(needed[::-1])
        assert segment.GetRepresentation("Closed surface").GetNumberOfPoints() > 0
    _same_study(mrml.study_from_nodes(nodes.volume, nodes.segmentation), study)


def test_masks_that_overlap_are_both_kept_whole(scene):
    image = _image((20, 20))
    study = _study(image, ((2, 2), (12, 12)), ((6, 6), (18, 18)))
    volume = mrml.add_volume(scene, image, "image")
    nodes = mrml.show_study(scene, study, volume)
    assert nodes.segmentation.GetSegmentation().GetNumberOfLayers() == 2
    _same_study(mrml.study_from_nodes(volume, nodes.segmentation), study)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), count=st.integers(0, 5))
def test_any_set_of_masks_comes_back(scene, data, count):
    image = _image((9, 7, 3), direction=TURN)
    bits = st.binary(min_size=9 * 7 * 3, max_size=9 * 7 * 3)
    study = _study(image, *[((0, 0, 0), (9, 7, 3))] * count)
    findings = []
    for finding in study.findings:
        array = (np.frombuffer(data.draw(bits), np.uint8) % 2).reshape(3, 7, 9)
        mask = sitk.GetImageFromArray(array)
        mask.CopyInformation(image)
        findings.append(replace(finding, mask=mask))
    study = replace(study, findings=tuple(findings))
    volume = mrml.add_volume(scene, image, "image")
    _same_study(mrml.study_from_nodes(volume, mrml.show_study(scene, study, volume).segmentation), study)


def test_nothing_found_is_an_empty_segmentation_and_an_empty_table(scene):
    image = _image((8, 8))
    study = _study(image)
    volume = mrml.add_volume(scene, image, "image")
    nodes = mrml.show_study(scene, study, volume)
    assert nodes.segmentation.GetSegmentation().GetNumberOfSegments() == 0
    assert (nodes.boxes, nodes.points, nodes.table.GetNumberOfRows()) == ((), None, 0)
    assert mrml.study_from_nodes(volume, nodes.segmentation) == study


def test_the_table_has_a_row_a_finding_and_units(scene):
    image, study = _case("2D")
    table = mrml.show_study(scene, study, mrml.add_volume(scene, image, "image")).table
    names = [table.GetColumnName(i) for i in range(table.GetNumberOfColumns())]
    assert names == ["id", "score", "malignancy", "area_mm2", "orientation_deg", "notes"]
    assert [table.GetCellText(row, 0) for row in range(2)] == ["L1", "L2"]
    assert table.GetColumnUnitLabel("area_mm2") == "mm2" and table.GetColumnTitle("area_mm2") == "Area (mm2)"
    assert float(table.GetCellText(1, 3)) == 25.0
    assert math.isnan(float(table.GetCellText(1, 4)))


def test_nodes_stand_beside_the_volume_in_the_data_tree(scene):
    image, study = _case("2D")
    volume = mrml.add_volume(scene, image, "image")
    tree = scene.GetSubjectHierarchyNode()
    folder = tree.CreateFolderItem(tree.GetSceneItemID(), "patient")
    tree.SetItemParent(tree.GetItemByDataNode(volume), folder)
    nodes = mrml.show_study(scene, study, volume)
    for node, plugin in (
        (nodes.segmentation, "Segmentations"),
        (nodes.points, "Markups"),
        (nodes.boxes[0], "Markups"),
        (nodes.table, "Tables"),
    ):
        item = tree.GetItemByDataNode(node)
        assert tree.GetItemParent(item) == folder and tree.GetItemOwnerPluginName(item) == plugin


def test_a_chosen_segmentation_keeps_the_users_segments_and_replaces_ours(scene):
    image, study = _case("2D")
    volume = mrml.add_volume(scene, image, "image")
    chosen = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "chosen")
    chosen.CreateDefaultDisplayNodes()
    chosen.GetSegmentation().AddEmptySegment("L1", "drawn by hand")
    first = mrml.show_study(scene, study, volume, chosen)
    assert first.segmentation is chosen
    second = mrml.show_study(scene, replace(study, findings=study.findings[:1]), volume, chosen)
    segmentation = chosen.GetSegmentation()
    names = [segmentation.GetNthSegment(i).GetName() for i in range(segmentation.GetNumberOfSegments())]
    assert names == ["drawn by hand", "L1"]
    for kind, count in (("MarkupsROI", 1), ("MarkupsFiducial", 1), ("Table", 1), ("Segmentation", 1)):
        assert scene.GetNumberOfNodesByClass(f"vtkMRML{kind}Node") == count
    back = mrml.study_from_nodes(volume, chosen)
    _same_study(back, replace(study, findings=study.findings[:1]))
    assert second.segmentation is chosen


def test_a_chosen_segmentation_under_another_transform_is_not_moved(scene):
    image, study = _case("2D")
    volume = mrml.add_volume(scene, image, "image")
    chosen = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "chosen")
    chosen.GetSegmentation().AddEmptySegment("mine")
    chosen.SetAndObserveTransformNodeID(_parent(scene)[0].GetID())
    with pytest.raises(OutputError, match="chosen stands under another transform than the image"):
        mrml.show_study(scene, study, volume, chosen)
    assert chosen.GetSegmentation().GetNumberOfSegments() == 1


def test_a_refusal_leaves_all_as_it_was(scene):
    image, study = _case("2D")
    volume = mrml.add_volume(scene, image, "image", spacing_known=False)
    nodes = mrml.show_study(scene, study, volume)
    chosen = nodes.segmentation
    chosen.GetSegmentation().AddEmptySegment("mine")
    volume.SetAndObserveTransformNodeID(_parent(scene)[0].GetID())
    scene.SetUndoOn()
    before = scene.GetNumberOfNodes(), list(chosen.GetSegmentation().GetSegmentIDs()), chosen.GetAttribute(mrml.STUDY)
    with pytest.raises(OutputError, match="another transform"):
        mrml.show_study(scene, replace(study, findings=study.findings[:1]), volume, chosen, pixel_spacing=0.3)
    with pytest.raises(ImageError, match="positive"):
        mrml.show_study(scene, study, volume, None, pixel_spacing=-1)
    now = scene.GetNumberOfNodes(), list(chosen.GetSegmentation().GetSegmentIDs()), chosen.GetAttribute(mrml.STUDY)
    assert now == before and before[1] == ["L1", "L2", "mine"]
    assert volume.GetSpacing() == (0.08, 0.12, 1.0) and not mrml.spacing_known(volume)
    assert scene.GetNumberOfUndoLevels() == 0
    volume.SetAndObserveTransformNodeID(None)
    _same_study(mrml.study_from_nodes(volume, chosen), study)


def test_what_a_person_drew_stays_when_a_study_is_removed(scene):
    image, study = _case("3D")
    volume = mrml.add_volume(scene, image, "image")
    shown = mrml.show_study(scene, study, volume).segmentation
    shown.GetSegmentation().AddEmptySegment("mine")
    mrml.remove_study(shown)
    assert shown.GetSegmentation().GetSegmentIDs() == ("mine",) and not mrml.shows_other_image(shown, mrml.add_volume(scene, image, "b"))
    with pytest.raises(DataError, match="not made by BreastUSAI"):
        mrml.study_from_nodes(volume, shown)
    mrml.remove_study(mrml.show_study(scene, study, volume).segmentation)
    mrml.remove_study(mrml.show_detections(scene, study, volume).table)
    left = [scene.GetNumberOfNodesByClass(f"vtkMRML{kind}Node") for kind in ("Segmentation", "MarkupsROI", "MarkupsFiducial", "Table")]
    assert left == [1, 0, 0, 0]


# --- volumes that are moved ------------------------------------------------------------------------------------------


def _ijk_to_ras_of(volume) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


@pytest.mark.parametrize("kind", ["3D", "3D oblique", "3D mirrored"])
def test_findings_go_along_with_a_volume_that_is_moved(scene, kind):
    image, study = _case(kind)
    nipple = {"nipple": {"position": list(study.findings[1].box.center), "laterality": "R"}}
    peaks = dict(zip(("peak_x", "peak_y", "peak_z"), study.findings[0].box.center, strict=True))
    first = replace(study.findings[0], evidence={**peaks, "heat_peak": 0.5})
    study = replace(study, findings=(first, study.findings[1]), provenance={**study.provenance, **nipple})
    volume = mrml.add_volume(scene, image, "image")
    before = _ijk_to_ras_of(volume)
    turn = vtk.vtkTransform()
    turn.Translate(30, -10, 5)
    turn.RotateWXYZ(70, 1, 2, 3)
    matrix = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Multiply4x4(turn.GetMatrix(), _matrix(before), matrix)
    volume.SetIJKToRASMatrix(matrix)  # as a transform that is hardened does
    nodes = mrml.show_study(scene, study, volume)
    detected = mrml.show_detections(scene, study, volume)
    for finding, *boxes in zip(study.findings, nodes.boxes, detected.boxes, strict=True):
        expected = turn.TransformPoint(*np.multiply(finding.box.center, (-1, -1, 1)))
        for box in boxes:
            assert box.GetCenter() == pytest.approx(expected, abs=1e-4)
            assert sorted(box.GetSize()) == pytest.approx(sorted(finding.box.size), abs=1e-5)
    back = mrml.study_from_nodes(volume, nodes.segmentation)
    assert back.image == replace(mrml.info_of(volume), path=study.image.path)
    for a, b in zip(back.findings, study.findings, strict=True):
        np.testing.assert_array_equal(sitk.GetArrayViewFromImage(a.mask), sitk.GetArrayViewFromImage(b.mask))
        assert a.box.size == pytest.approx(b.box.size, abs=1e-5)
        assert a.mask.GetOrigin() == pytest.approx(mrml.info_of(volume).origin)
    assert [back.findings[0].evidence[name] for name in peaks] == pytest.approx(back.findings[0].box.center, abs=1e-4)
    assert back.findings[0].evidence["heat_peak"] == 0.5
    assert back.provenance["nipple"]["position"] == pytest.approx(back.findings[1].box.center, abs=1e-4)
    # Its map lies on it, too.
    heat = mrml.add_volume_beside(scene, sitk.Cast(image, sitk.sitkFloat32), volume, "heat")
    np.testing.assert_allclose(_ijk_to_ras_of(heat), _ijk_to_ras_of(volume), atol=1e-6)


def _matrix(values: np.ndarray) -> vtk.vtkMatrix4x4:
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(values.ravel())
    return matrix


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_in_the_other_order_are_no_move(scene, axis):
    image, study = _case("3D oblique")
    volume = mrml.add_volume(scene, sitk.Flip(image, [a == axis for a in range(3)]), "as Slicer reads it")
    assert mrml.placed(study, volume) is study


def test_results_that_are_hardened_with_their_volume_come_back_whole(scene):
    image, study = _case("3D")
    volume = mrml.add_volume(scene, image, "image")
    nodes = mrml.show_study(scene, study, volume)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    transform.SetMatrixTransformToParent(_matrix(np.array([[0, -1, 0, 30], [1, 0, 0, 0], [0, 0, 1, 5], [0, 0, 0, 1.0]])))
    for node in (volume, nodes.segmentation, *nodes.boxes, nodes.points):
        node.SetAndObserveTransformNodeID(transform.GetID())
        node.HardenTransform()
    placed = mrml.placed(study, volume)
    for a, b in zip(mrml.study_from_nodes(volume, nodes.segmentation).findings, placed.findings, strict=True):
        np.testing.assert_array_equal(sitk.GetArrayViewFromImage(a.mask), sitk.GetArrayViewFromImage(b.mask))
        assert (*a.box.center, *a.box.size) == pytest.approx((*b.box.center, *b.box.size), abs=1e-4)


def _under(scene, *nodes):
    """A transform that turns and moves above some nodes."""
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    turn = [[0.8, -0.6, 0, 7], [0.6, 0.8, 0, -3], [0, 0, 1, 2.5], [0, 0, 0, 1.0]]
    transform.SetMatrixTransformToParent(_matrix(np.array(turn)))
    for node in nodes:
        node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def _shown(scene, study, volume):
    """All that shows a study, as segmentation or table, and the nodes that were made."""
    nodes = mrml.show_study(scene, study, volume)
    yield nodes.segmentation, nodes
    if study.image.dimension == 3:
        nodes = mrml.show_detections(scene, study, volume)
        yield nodes.table, nodes


def _parts(nodes):
    return [node for node in (getattr(nodes, "segmentation", None), *nodes.boxes, nodes.points) if node is not None]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alone", ["image", "results", "image, then results"])
def test_a_transform_that_is_hardened_on_one_of_them_leaves_outlines_and_boxes_on_their_pixels(scene, kind, alone):
    image, study = _case(kind)
    volume = mrml.add_volume(scene, image, "image")
    _under(scene, volume)
    for shown, nodes in _shown(scene, study, volume):
        hardened = {"image": [volume], "results": _parts(nodes), "image, then results": [volume, *_parts(nodes)]}
        for node in hardened[alone]:
            if node.GetTransformNodeID():
                node.HardenTransform()
        placed = mrml.placed(study, volume)
        for a, b in zip(mrml.study_from_nodes(volume, shown).findings, placed.findings, strict=True):
            assert (*a.box.center, *a.box.size) == pytest.approx((*b.box.center, *b.box.size), abs=1e-4)
            if shown.IsA("vtkMRMLSegmentationNode"):
                np.testing.assert_array_equal(sitk.GetArrayViewFromImage(a.mask), sitk.GetArrayViewFromImage(b.mask))
        _under(scene, volume)  # once more


def test_a_correction_after_a_transform_was_hardened_on_the_image_alone_is_read_where_it_is_seen(scene):
    image, study = _case("3D")
    volume = mrml.add_volume(scene, image, "image")
    _under(scene, volume)
    nodes = mrml.show_study(scene, study, volume)
    volume.HardenTransform()
    box, world = nodes.boxes[0], [0.0, 0.0, 0.0]
    box.GetCenterWorld(world)
    box.SetCenterWorld(world[0] + 2.0, world[1], world[2])
    now, placed = mrml.study_from_nodes(volume, nodes.segmentation).findings[0], mrml.placed(study, volume).findings[0]
    assert now.box.center == pytest.approx(np.add(placed.box.center, (-2.0, 0, 0)), abs=1e-4)
    np.testing.assert_array_equal(sitk.GetArrayViewFromImage(now.mask), sitk.GetArrayViewFromImage(placed.mask))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["image under", "results under", "image hardened", "image out", "image centred"])
def test_a_result_that_lies_on_its_image_no_more_is_refused_and_taken_again_where_it_is_put_back(scene, kind, how):
    image, study = _case(kind)
    volume = mrml.add_volume(scene, image, "image")
    transform = _under(scene, *([volume] if how == "image out" else ())).GetID()
    for shown, nodes in _shown(scene, study, volume):
        before, above = _ijk_to_ras_of(volume), volume.GetTransformNodeID()
        if how == "image centred":
            volume.SetOrigin(*np.add(volume.GetOrigin(), (0.3, 0.5, 1.7)))
        else:
            for node in _parts(nodes) if how == "results under" else [volume]:
                node.SetAndObserveTransformNodeID(None if how == "image out" else transform)
        if how == "image hardened":
            volume.HardenTransform()
        said = "does not lie on the image image as it was made, .*; take that back, or repeat the analysis"
        with pytest.raises(DataError, match=said):
            mrml.study_from_nodes(volume, shown)
        for node in (volume, *_parts(nodes)):
            node.SetAndObserveTransformNodeID(above)
        volume.SetIJKToRASMatrix(_matrix(before))
        back = mrml.study_from_nodes(volume, shown).findings
        assert [f.box.center for f in back] == [pytest.approx(f.box.center, abs=1e-4) for f in study.findings]


@pytest.mark.parametrize("kind", ["2D", "3D"])
def test_where_nothing_was_found_nothing_can_lie_wrong(scene, kind):
    """It could not be reported, nor could the other images of the same export."""
    image, study = _case(kind)
    volume = mrml.add_volume(scene, image, "image")
    study = replace(study, findings=())
    shown = mrml.show_study(scene, study, volume).segmentation
    _under(scene, volume)
    assert mrml.study_from_nodes(volume, shown).findings == ()


@pytest.mark.parametrize("kind", ["2D", "3D"])
def test_outlines_may_be_drawn_on_the_grid_of_another_image_of_the_same_size(scene, kind):
    """As the Segment Editor lets a person choose it; all images of a scanner have one size."""
    image, study = _case(kind)
    volume = mrml.add_volume(scene, image, "image")
    shown = mrml.show_study(scene, study, volume).segmentation
    beside = sitk.Image(image)
    beside.SetOrigin([o + 1 for o in image.GetOrigin()])
    shown.SetReferenceImageGeometryParameterFromVolumeNode(mrml.add_volume(scene, beside, "another"))
    found = mrml.study_from_nodes(volume, shown).findings
    assert [f.box.center for f in found] == [pytest.approx(f.box.center, abs=1e-4) for f in study.findings]


@pytest.mark.parametrize("kind", ["2D", "2D turned"])
def test_pixels_get_a_size_after_a_transform_was_hardened_on_the_image_alone(scene, kind):
    image, study = _case(kind)
    study = replace(study, image=replace(study.image, spacing_known=False))
    volume = mrml.add_volume(scene, image, "image", spacing_known=False)
    _under(scene, volume)
    nodes = mrml.show_study(scene, study, volume)
    heat = mrml_overlay.add_map(scene, sitk.Cast(image, sitk.sitkFloat32), volume, "heat", 1.0)
    volume.HardenTransform()
    mrml.set_pixel_spacing(volume, 0.4)
    for a, b in zip(mrml.study_from_nodes(volume, nodes.segmentation).findings, study.findings, strict=True):
        np.testing.assert_array_equal(sitk.GetArrayViewFromImage(a.mask), sitk.GetArrayViewFromImage(b.mask))
        assert (*a.box.center, *a.box.size) == pytest.approx((*b.box.center, *b.box.size), abs=1e-4)
    for index in ((0, 0, 0), (3, 7, 0)):
        there = [_world(n, (_ijk_to_ras_of(n) @ [*index, 1])[:3]) for n in (volume, heat)]
        assert there[0] == pytest.approx(there[1], abs=1e-6)


def test_a_bent_transform_above_the_image_alone_is_refused(scene):
    image, study = _case("3D")
    volume = mrml.add_volume(scene, image, "image")
    nodes = mrml.show_study(scene, study, volume)
    points = vtk.vtkPoints(), vtk.vtkPoints()
    for number, place in enumerate(itertools.product((-30.0, 30.0), repeat=3)):
        points[0].InsertNextPoint(place)
        points[1].InsertNextPoint(np.add(place, (number, 0, 0)))
    bent = vtk.vtkThinPlateSplineTransform()
    bent.SetBasisToR()
    bent.SetSourceLandmarks(points[0])
    bent.SetTargetLandmarks(points[1])
    transform = scene.AddNewNodeByClass("vtkMRMLTransformNode", "bent")
    transform.SetAndObserveTransformToParent(bent)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    said = "that is not linear lies between .* and the image image; put both under the same transform"
    with pytest.raises(DataError, match=said):
        mrml.study_from_nodes(volume, nodes.segmentation)
    for node in _parts(nodes):
        node.SetAndObserveTransformNodeID(transform.GetID())
    _same_study(mrml.study_from_nodes(volume, nodes.segmentation), study)


def test_voxels_of_another_size_and_mirrored_volumes_are_refused(scene):
    image, study = _case("3D")
    volume = mrml.add_volume(scene, image, "image")
    before = scene.GetNumberOfNodes()
    volume.SetSpacing(0.16, 0.12, 0.5)
    with pytest.raises(DataError, match=r"image had voxels of 0.08 x 0.12 x 0.5 mm .* voxels of 0.16 x 0.12 x 0.5 mm now; repeat"):
        mrml.show_study(scene, study, volume)
    volume.SetSpacing(*image.GetSpacing())
    volume.SetOrigin(40.0, 0.0, 0.0)
    volume.SetIJKToRASDirections(1, 0, 0, 0, -1, 0, 0, 0, 1)
    with pytest.raises(DataError, match="image was mirrored since it was analysed"):
        mrml.show_detections(scene, study, volume)
    assert scene.GetNumberOfNodes() == before


# --- other pixels than were analysed ---------------------------------------------------------------------------------


def _show_others(volume) -> None:
    """Another frame of a sequence, say: the same node, of the same size."""
    other = vtk.vtkImageData()
    other.DeepCopy(volume.GetImageData())
    vtk_to_numpy(other.GetPointData().GetScalars())[5] += 1
    volume.SetAndObserveImageData(other)


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_of_other_pixels_is_refused_until_its_own_are_back(scene, kind):
    image, study = _case(kind)
    volume = mrml.add_volume(scene, image, "cine")
    analysed = volume.GetImageData()
    for shown, _nodes in _shown(scene, study, volume):
        _show_others(volume)
        said = f"cine shows other pixels than those in which the .* {shown.GetName()} was found .* repeat the analysis"
        with pytest.raises(DataError, match=said):
            mrml.study_from_nodes(volume, shown)
        volume.SetAndObserveImageData(analysed)
        mrml.study_from_nodes(volume, shown)
        _show_others(volume)
        shown.RemoveAttribute(mrml.ANALYSED)  # as in scenes of earlier versions
        mrml.study_from_nodes(volume, shown)
        volume.SetAndObserveImageData(analysed)


@pytest.mark.parametrize("dtype, told", [(np.uint8, True), (np.uint16, True), (np.float32, False)])
def test_pixels_that_changed_while_they_were_analysed_are_told(scene, dtype, told):
    """A study of the command line keeps which pixels its file had; those of floating-point numbers may be converted on the way."""
    image, study = _case("2D")
    image = sitk.GetImageFromArray(sitk.GetArrayFromImage(image).astype(dtype))
    volume = mrml.add_volume(scene, image, "cine")
    study = replace(study, provenance={**study.provenance, "input": {"pixels_sha256": pixels_digest(image)}})
    mrml.study_from_nodes(volume, mrml.show_study(scene, study, volume).segmentation)
    _show_others(volume)
    shown = mrml.show_study(scene, study, volume).segmentation
    if told:
        with pytest.raises(DataError, match="shows other pixels"):
            mrml.study_from_nodes(volume, shown)
    else:
        mrml.study_from_nodes(volume, shown)


@pytest.mark.parametrize("size", [(30, 20, 1), (30, 1, 20), (1, 30, 20), (30, 20, 10)])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_the_pixels_of_a_childs_file_are_those_of_the_image(scene, tmp_path, size, known, dtype):
    image = _image(size, dtype=dtype)
    volume = mrml.add_volume(scene, image, "image", spacing_known=known)
    if min(size) == 1:
        pixels = child_workup.VolumePixels(mrml.image_from_volume(volume), "image", known)
        path = child_workup.write_input(pixels, tmp_path)
    else:
        path = tmp_path / "image.nrrd"
        sitk.WriteImage(mrml.image_from_volume(volume), str(path))
    loaded = read_image(path)
    kept = {"input": {"pixels_sha256": pixels_digest(loaded.image)}}
    shown = mrml.show_study(scene, Study(loaded.info, provenance=kept), volume).segmentation
    assert mrml.study_from_nodes(volume, shown).findings == ()


def test_a_volume_whose_slices_come_back_in_the_other_order_shows_the_same_pixels(scene):
    image, study = _case("3D mirrored")
    volume = mrml.add_volume(scene, image, "image")
    shown = mrml.show_detections(scene, study, volume).table
    again = mrml.add_volume(scene, sitk.Flip(image, (False, False, True)), "image")  # as Slicer reads it
    assert np.linalg.det(_ijk_to_ras_of(again)[:3, :3]) * np.linalg.det(_ijk_to_ras_of(volume)[:3, :3]) < 0
    shown.SetNodeReferenceID(mrml.ABOUT, again.GetID())
    assert len(mrml.study_from_nodes(again, shown).findings) == len(study.findings)


def test_a_files_result_is_shown_on_a_left_handed_volume_that_slicer_read(scene):
    """Slicer reverses the slices of such a file, and the file's checksum is of the others' order: every report was refused."""
    image, study = _case("3D mirrored")
    study = replace(study, provenance={**study.provenance, "input": {"pixels_sha256": pixels_digest(image)}})
    volume = mrml.add_volume(scene, sitk.Flip(image, (False, False, True)), "image")
    shown = mrml.show_detections(scene, study, volume).table
    assert len(mrml.study_from_nodes(volume, shown).findings) == len(study.findings)
    _show_others(volume)
    with pytest.raises(DataError, match="shows other pixels"):
        mrml.study_from_nodes(volume, shown)


# --- pixels that get a size ------------------------------------------------------------------------------------------


def _world(node, point) -> list[float]:
    world = [0.0] * 3
    node.TransformPointToWorld(list(point), world)
    return world


def _place_of(volume, image: sitk.Image, center) -> list[float]:
    """World RAS of a place of a 2D image whose study is about the slice in a volume."""
    index = [*image.TransformPhysicalPointToContinuousIndex(center[:2])]
    size = volume.GetImageData().GetDimensions()
    index.insert(size.index(1) if 1 in size else 2, 0.0)
    return _world(volume, (_ijk_to_ras_of(volume) @ [*index, 1.0])[:3])


@pytest.mark.parametrize("size", [(40, 30, 1), (1, 40, 30), (40, 1, 30)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.2646, 0.2646, 1.0), (0.5, 0.4, 0.3)])
@pytest.mark.parametrize("parent", [False, True])
def test_results_stay_on_their_pixels_when_these_get_a_size(scene, size, spacing, parent):
    flat = _image((40, 30), (1, 1), (0, 0))
    study = _study(flat, *CASE_2D[1:], known=False)
    whole = _image(size, spacing, direction=TURN)
    volume = mrml.add_volume(scene, whole, "picture", spacing_known=False)
    if parent:
        volume.SetAndObserveTransformNodeID(_parent(scene)[0].GetID())
    first, second, listed = mrml.show_study(scene, study, volume), mrml.show_study(scene, study, volume), mrml.show_detections(scene, study, volume)
    heat = mrml_overlay.add_map(scene, flat, volume, "heat", 255)
    drawn = first.segmentation.GetSegmentation()
    drawn.CopySegmentFromSegmentation(second.segmentation.GetSegmentation(), "L1", False)  # as a person's own
    own = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "a person's")
    own.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    own.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    own.GetSegmentation().CopySegmentFromSegmentation(second.segmentation.GetSegmentation(), "L2", False)
    first.segmentation.CreateClosedSurfaceRepresentation()

    def is_on_the_pixels():
        for shown, boxes, points in ((first.segmentation, first.boxes, first.points), (listed.table, listed.boxes, listed.points)):
            back = mrml.study_from_nodes(volume, shown)
            assert back.image == study.image and not back.image.spacing_known  # figures in pixels stay what they are
            for number, (a, b) in enumerate(zip(back.findings, study.findings, strict=True)):
                assert a.measurements == b.measurements
                assert (*a.box.center, *a.box.size) == pytest.approx((*b.box.center, *b.box.size), abs=1e-4)
                if a.mask is not None:
                    _same_image(a.mask, b.mask)
                expected = pytest.approx(_place_of(volume, flat, b.box.center), abs=1e-4)
                world = [0.0] * 3
                boxes[number].GetCenterWorld(world)
                assert world == expected
                points.GetNthControlPointPositionWorld(number, world)
                assert world == expected
        frame = Frame.of(study.image, volume)
        for node in (first.segmentation, second.segmentation, own):
            for segment in node.GetSegmentation().GetSegmentIDs():
                (finding,) = (f for f in study.findings if f.id == segment[:2])
                voxels = mrml_masks._own_voxels(node.GetSegmentation().GetSegment(segment), frame, (1, 30, 40))
                np.testing.assert_array_equal(voxels[0], sitk.GetArrayViewFromImage(finding.mask))
            new = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
            new.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
            new.SetReferenceImageGeometryParameterFromVolumeNode(volume)
            assert _drawn_on(node) == pytest.approx(_drawn_on(new), abs=1e-6)
            scene.RemoveNode(new)
        again = mrml_overlay.add_map(scene, flat, volume, "heat", 255)
        np.testing.assert_allclose(_ijk_to_ras_of(heat), _ijk_to_ras_of(again), atol=1e-6)
        assert heat.GetAttribute(mrml.SPACING_KNOWN) == again.GetAttribute(mrml.SPACING_KNOWN)
        scene.RemoveNode(again)
        surface = drawn.GetSegment("L1").GetRepresentation("Closed surface")
        middle = np.reshape(surface.GetBounds(), (3, 2)).mean(axis=1)
        assert _world(first.segmentation, middle) == pytest.approx(_place_of(volume, flat, study.findings[0].box.center), abs=0.1)

    is_on_the_pixels()
    for mm in (0.25, 0.08, 1.0, 0):
        mrml.set_pixel_spacing(volume, mm)
        assert mrml.spacing_by_user(volume) == mm
        is_on_the_pixels()


def _drawn_on(segmentation_node) -> list[float]:
    """The grid on which a person goes on drawing."""
    name = import_slicer().vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    text = segmentation_node.GetSegmentation().GetConversionParameter(name)
    return [float(v) for v in text.strip(";").split(";")]


def test_an_earlier_outline_stays_on_its_pixels_when_another_is_made_with_a_spacing(scene):
    flat = _image((40, 30), (1, 1), (0, 0))
    study = _study(flat, *CASE_2D[1:], known=False)
    volume = mrml.add_volume(scene, flat, "picture", spacing_known=False)
    earlier = mrml.show_study(scene, study, volume)
    sized = _image((40, 30), (0.25, 0.25), (0, 0))
    later = _study(sized, *CASE_2D[1:])
    mrml.show_study(scene, later, volume, pixel_spacing=0.25)
    for a, b in zip(mrml.study_from_nodes(volume, earlier.segmentation).findings, study.findings, strict=True):
        _same_image(a.mask, b.mask)
        assert a.box.center == pytest.approx(b.box.center, abs=1e-4)
    # Into the same segmentation: what a person drew there stays on its pixels as well.
    earlier.segmentation.GetSegmentation().AddEmptySegment("mine")
    mine = earlier.segmentation.GetSegmentation().GetSegment("mine")
    mine.DeepCopy(earlier.segmentation.GetSegmentation().GetSegment("L1"))
    mine.RemoveTag(mrml.FINDING)
    for name in segment_tags("x"):
        mine.RemoveTag(name)
    again = _image((40, 30), (0.1, 0.1), (0, 0))
    mrml.show_study(scene, _study(again, *CASE_2D[1:]), volume, earlier.segmentation, pixel_spacing=0.1)
    voxels = mrml_masks._own_voxels(mine, Frame.of(study.image, volume), (1, 30, 40))
    np.testing.assert_array_equal(voxels[0], sitk.GetArrayViewFromImage(study.findings[0].mask))


def test_figures_in_millimetres_of_another_spacing_are_refused(scene):
    """What was measured on the slice with 0.08 mm is not told of one of 0.1 mm; the outlines in the scene go along all the same."""
    whole = _image((40, 30, 1), (0.08, 0.08, 1))
    study = _study(whole, ((5, 6, 0), (15, 12, 1)))
    volume = mrml.add_volume(scene, sitk.Image(40, 30, 1, sitk.sitkUInt8), "picture", spacing_known=False)
    volume.SetOrigin(*mrml.info_of(mrml.add_volume(scene, whole, "other")).origin)
    mrml.set_pixel_spacing(volume, 0.08)
    volume.SetOrigin(-3.0, 7.5, 11.0)
    shown = mrml.show_study(scene, study, volume)
    mrml.set_pixel_spacing(volume, 0.1)
    with pytest.raises(DataError, match=r"picture had voxels of 0.08 x 0.08 x 1 mm .* voxels of 0.1 x 0.1 x 1 mm now; repeat the analysis"):
        mrml.study_from_nodes(volume, shown.segmentation)
    frame = Frame.of(mrml.info_of(volume), volume)
    voxels = mrml_masks._own_voxels(shown.segmentation.GetSegmentation().GetSegment("L1"), frame, (1, 30, 40))
    np.testing.assert_array_equal(voxels, sitk.GetArrayViewFromImage(study.findings[0].mask))
    mrml.set_pixel_spacing(volume, 0.08)  # a slip, corrected
    (back,) = mrml.study_from_nodes(volume, shown.segmentation).findings
    assert back.box.center == pytest.approx(study.findings[0].box.center, abs=1e-4)
    np.testing.assert_array_equal(sitk.GetArrayViewFromImage(back.mask), sitk.GetArrayViewFromImage(study.findings[0].mask))


def test_results_beside_their_pixels_are_refused_and_brought_back(scene):
    """A spacing that is corrected in the module Volumes does not take anything along."""
    flat = _image((40, 30), (1, 1), (0, 0))
    study = _study(flat, *CASE_2D[1:], known=False)
    volume = mrml.add_volume(scene, flat, "picture", spacing_known=False)
    nodes, listed = mrml.show_study(scene, study, volume), mrml.show_detections(scene, study, volume)
    volume.SetSpacing(0.25, 0.25, 1.0)
    for node, kind in ((nodes.segmentation, "segmentation picture lesions"), (listed.table, "table picture findings_1")):
        words = f"the {kind} was laid over pixels of 1 x 1 mm, and the image picture has pixels of 0.25 x 0.25 mm now; make it again with this"
        with pytest.raises(OtherSpacingError, match=words):
            mrml.study_from_nodes(volume, node)
    mrml.set_pixel_spacing(volume, 0.25)  # said here, it does
    for node in (nodes.segmentation, listed.table):
        for a, b in zip(mrml.study_from_nodes(volume, node).findings, study.findings, strict=True):
            assert a.box.center == pytest.approx(b.box.center, abs=1e-4)
            if a.mask is not None:
                _same_image(a.mask, b.mask)


def test_an_outline_outside_its_image_is_refused_and_an_emptied_one_is_not(scene):
    image, study = _case("2D")
    volume = mrml.add_volume(scene, image, "picture")
    shown = mrml.show_study(scene, study, volume).segmentation
    shown.RemoveAttribute(mrml.PIXELS)  # as in scenes of earlier versions, whose images got a spacing since
    volume.SetSpacing(0.008, 0.012, 1.0)
    with pytest.raises(DataError, match="picture lesions does not lie on the image picture as it was made"):
        mrml.study_from_nodes(volume, shown)
    # Nor is the grid known on which it was drawn.
    shown.GetSegmentation().SetConversionParameter("Reference image geometry", "")
    with pytest.raises(DataError, match="the outline L1 of the segmentation picture lesions lies outside the image picture; make it again"):
        mrml.study_from_nodes(volume, shown)
    volume.SetSpacing(0.08, 0.12, 1.0)
    labelmap = shown.GetSegmentation().GetSegment("L1").GetRepresentation("Binary labelmap")
    vtk_to_numpy(labelmap.GetPointData().GetScalars())[:] = 0
    first, second = mrml.study_from_nodes(volume, shown).findings
    assert not sitk.GetArrayViewFromImage(first.mask).any() and sitk.GetArrayViewFromImage(second.mask).any()


@pytest.mark.parametrize("kind", ["3D", "3D oblique", "3D mirrored"])
@pytest.mark.parametrize("hardened", [False, True])
def test_outlines_that_a_person_made_surfaces_are_read_as_voxels(scene, kind, hardened):
    image, study = _case(kind)
    volume = mrml.add_volume(scene, image, "abus")
    _under(scene, volume)
    shown = mrml.show_study(scene, study, volume).segmentation
    if hardened:  # on the image alone
        volume.HardenTransform()
    segmentation = shown.GetSegmentation()
    segmentation.SetConversionParameter("Smoothing factor", "0")
    segmentation.CreateRepresentation("Closed surface", True)
    shown.SetSourceRepresentationToClosedSurface()
    assert not segmentation.ContainsRepresentation("Binary labelmap")
    for found, finding in zip(mrml.study_from_nodes(volume, shown).findings, study.findings, strict=True):
        one, other = (sitk.GetArrayViewFromImage(f.mask) for f in (found, finding))
        assert np.count_nonzero(one != other) <= 0.02 * other.sum()  # rounding where a voxel's middle lies on the surface
    assert not segmentation.ContainsRepresentation("Binary labelmap")  # nobody asked for one
    segment = segmentation.GetSegment("L1")
    segment.AddRepresentation("Closed surface", vtk.vtkPolyData())
    assert not sitk.GetArrayViewFromImage(mrml.study_from_nodes(volume, shown).findings[0].mask).any()


def test_small_outlines_of_a_picture_that_were_made_surfaces_keep_their_pixels(scene):
    """Slicer's own smoothing took a tenth of them."""
    image = _image((120, 90), (0.1, 0.1), (0, 0))
    y, x = np.mgrid[:90, :120]
    mask = sitk.GetImageFromArray(((((x - 60) / 25) ** 2 + ((y - 45) / 15) ** 2) < 1).astype(np.uint8))
    mask.CopyInformation(image)
    study = replace(_study(image), findings=(Finding("L1", box_of_mask(mask), 0.9, mask=mask, label=1),))
    volume = mrml.add_volume(scene, image, "picture")
    shown = mrml.show_study(scene, study, volume).segmentation
    shown.GetSegmentation().CreateRepresentation("Closed surface", True)
    shown.SetSourceRepresentationToClosedSurface()
    (found,) = mrml.study_from_nodes(volume, shown).findings
    assert np.array_equal(sitk.GetArrayViewFromImage(found.mask), sitk.GetArrayViewFromImage(mask))


@pytest.mark.parametrize("kept, said", [("Closed surface", "lies outside the image abus; make it again"), ("Contours", "is kept as Contours alone")])
def test_a_segment_of_which_no_voxels_come_is_told_and_not_taken_for_emptied(scene, kept, said):
    image, study = _case("3D")
    volume = mrml.add_volume(scene, image, "abus")
    shown = mrml.show_study(scene, study, volume).segmentation
    shown.GetSegmentation().SetSourceRepresentationName(kept)
    line = vtk.vtkPolyData()  # encloses nothing
    line.SetPoints(vtk.vtkPoints())
    line.GetPoints().InsertNextPoint(0, 0, 0)
    segment = shown.GetSegmentation().GetSegment("L2")
    segment.RemoveRepresentation("Binary labelmap")
    segment.AddRepresentation(kept, line)
    with pytest.raises(DataError, match=f"outline L2 of the segmentation abus lesions {said}"):
        mrml.study_from_nodes(volume, shown)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 0.4)])
@pytest.mark.parametrize("axis", "XZ")
def test_a_turned_box_covers_the_same_pixels_when_these_get_a_size(scene, spacing, axis):
    flat = _image((40, 30), spacing, (0, 0), (0.6, -0.8, 0.8, 0.6))
    study = _study(flat, *CASE_2D[1:], known=False)
    volume = mrml.add_volume(scene, flat, "picture", spacing_known=False)
    nodes = mrml.show_study(scene, study, volume)
    turn = vtk.vtkTransform()
    turn.SetMatrix(nodes.boxes[0].GetObjectToNodeMatrix())
    getattr(turn, f"Rotate{axis}")(25)
    nodes.boxes[0].SetAndObserveObjectToNodeMatrix(turn.GetMatrix())
    before = mrml.study_from_nodes(volume, nodes.segmentation).findings[0].box
    mrml.set_pixel_spacing(volume, 0.05)
    after = mrml.study_from_nodes(volume, nodes.segmentation).findings[0].box
    assert (*after.center, *after.size) == pytest.approx((*before.center, *before.size), abs=1e-4)
    axes = object_to_node(nodes.boxes[0])[:3, :3]
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    assert np.linalg.det(axes) == pytest.approx(1)


def test_all_frames_of_a_sequence_get_the_spacing_that_a_person_says(scene):
    """Another frame takes the volume's place with what it has itself: the spacing was gone, and outlines lay in a corner."""
    slicer = import_slicer()
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLScene(scene)
    cine = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "cine")
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    flat, study = _case("2D")
    for index, spacing in enumerate(((1, 1), (1, 1), (0.2, 0.2))):
        flat.SetSpacing(spacing)
        frame = mrml.add_volume(scene, flat, "frame", spacing_known=False)
        frame.RemoveAttribute(mrml.SPACING_KNOWN)  # as Slicer loads it
        cine.SetDataNodeAtValue(frame, str(index))
        scene.RemoveNode(frame)
    browser.SetAndObserveMasterSequenceNodeID(cine.GetID())

    def show(index):
        browser.SetSelectedItemNumber(index)
        logic.UpdateProxyNodesFromSequences(browser)
        return browser.GetProxyNode(cine)

    volume = show(0)
    flat.SetSpacing((0.08, 0.08))
    study = _study(flat, *CASE_2D[1:])
    shown = mrml.show_study(scene, study, volume, None, 0.08).segmentation
    for index in (1, 0):
        assert show(index) is volume and volume.GetSpacing() == (0.08, 0.08, 1.0) and mrml.spacing_by_user(volume) == 0.08
    _same_study(mrml.study_from_nodes(volume, shown), study)
    assert show(2).GetSpacing() == (0.2, 0.2, 1.0) and mrml.spacing_by_user(volume) == 0  # it says another one itself
    for spacing in (0.2, 0.08):  # the same number, said by a person
        show(1)
        mrml.set_pixel_spacing(volume, spacing)
    assert show(2).GetSpacing() == (0.2, 0.2, 1.0) and mrml.spacing_by_user(volume) == 0
    show(1)
    mrml.set_pixel_spacing(volume, 0)  # taken back
    for index in (1, 0):
        assert show(index).GetSpacing() == (1, 1, 1) and not mrml.spacing_known(volume)
    logic.SetMRMLScene(None)


def test_undo_takes_a_spacing_back_with_all_that_went_along(scene):
    flat = _image((40, 30), (1, 1), (0, 0))
    study = _study(flat, *CASE_2D[1:], known=False)
    volume = mrml.add_volume(scene, flat, "picture", spacing_known=False)
    nodes = mrml.show_study(scene, study, volume)
    heat = mrml_overlay.add_map(scene, flat, volume, "heat", 255)
    for node in (volume, nodes.segmentation, *nodes.boxes, nodes.points, nodes.table, heat):
        node.SetUndoEnabled(True)  # as an application may switch it on
    scene.SetUndoOn()
    before = _ijk_to_ras_of(heat)
    mrml.set_pixel_spacing(volume, 0.25)
    assert scene.GetNumberOfUndoLevels() == 1 and not np.allclose(_ijk_to_ras_of(heat), before)
    scene.Undo()
    assert (volume.GetSpacing(), mrml.spacing_known(volume)) == ((1.0, 1.0, 1.0), False)
    np.testing.assert_allclose(_ijk_to_ras_of(heat), before)
    _same_study(mrml.study_from_nodes(volume, nodes.segmentation), study)
    position = [0.0] * 3
    nodes.points.GetNthControlPointPosition(0, position)
    assert position == pytest.approx(_place_of(volume, flat, study.findings[0].box.center), abs=1e-4)


def test_whose_result_a_segmentation_holds(scene):
    image, study = _case("2D")
    volume, other = (mrml.add_volume(scene, image, name) for name in ("image", "other"))
    empty = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "empty")
    empty.SetReferenceImageGeometryParameterFromVolumeNode(other)
    assert not mrml.shows_other_image(empty, volume)
    for findings in (study.findings, ()):
        segmentation = mrml.show_study(scene, replace(study, findings=findings), volume).segmentation
        assert not mrml.shows_other_image(segmentation, volume)
        assert mrml.shows_other_image(segmentation, other)


def test_two_runs_make_two_sets_of_nodes_with_their_own_names(scene):
    image, study = _case("2D")
    volume = mrml.add_volume(scene, image, "image")
    first, second = (mrml.show_study(scene, study, volume) for _ in range(2))
    assert first.segmentation.GetName() != second.segmentation.GetName()
    scene.RemoveNode(second.boxes[0])
    _same_study(mrml.study_from_nodes(volume, first.segmentation), study)


@pytest.mark.parametrize("masks", [True, False])
def test_boxes_and_points_are_shown_and_taken_by_no_click(scene, masks):
    """As Slicer's own widget sees it: an ROI without handles still has its centre to take, where slice views look after a jump."""
    slicer = import_slicer()
    image, study = _case("3D")
    volume = mrml.add_volume(scene, image, "image")
    nodes = (mrml.show_study if masks else mrml.show_detections)(scene, study, volume)
    view, renderer, window = slicer.vtkMRMLSliceNode(), vtk.vtkRenderer(), vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.AddRenderer(renderer)
    view.SetLayoutName("Red")
    view = scene.AddNode(view)
    center = [0.0] * 3
    nodes.boxes[0].GetCenterWorld(center)
    view.JumpSliceByCentering(*center)
    view.UpdateMatrices()
    for node, kind in ((nodes.boxes[0], "ROI"), (nodes.points, "Points")):
        taken = []
        for locked in (node.GetLocked(), False):
            node.SetLocked(locked)
            seen = getattr(slicer, f"vtkSlicer{kind}Representation2D")()
            seen.SetViewNode(view)
            seen.SetRenderer(renderer)
            seen.SetMarkupsDisplayNode(node.GetDisplayNode())
            seen.UpdateFromMRML(None, 0)
            matrix = vtk.vtkMatrix4x4()
            matrix.DeepCopy(view.GetXYToRAS())
            matrix.Invert()
            event = slicer.vtkMRMLInteractionEventData()
            event.SetDisplayPosition([round(v) for v in matrix.MultiplyPoint((*center, 1))[:2]])
            event.SetWorldPosition(center, True)
            component, index, distance = vtk.reference(0), vtk.reference(0), vtk.reference(0.0)
            seen.CanInteract(event, component, index, distance)
            assert seen.GetVisibility()
            taken.append(int(component) != slicer.vtkMRMLMarkupsDisplayNode.ComponentNone)
        assert taken == [False, True], kind


@pytest.mark.parametrize("begun", [True, False])
def test_results_leave_the_next_click_to_what_is_being_placed(scene, begun):
    image, study = _case("3D")
    volume = mrml.add_volume(scene, image, "image")
    selection, nipple = scene.GetNodeByID("vtkMRMLSelectionNodeSingleton"), None
    if begun:
        nipple = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "nipple")
        mrml.start_placing(nipple)
    before = selection.GetActivePlaceNodeClassName(), selection.GetActivePlaceNodeID()
    assert before[1] == (nipple.GetID() if begun else None)
    mrml.show_study(scene, study, volume)
    mrml.show_detections(scene, study, volume)
    mrml_other_view.mark(volume, mrml_other_view.place_there(volume, volume, (0, 0, 0)), "L1", "L1")
    assert (selection.GetActivePlaceNodeClassName(), selection.GetActivePlaceNodeID()) == before


@pytest.mark.parametrize("kind", ["2D turned", "3D", "3D oblique", "3D mirrored"])
def test_views_turn_to_a_curved_sweep_without_an_error_at_each_click(scene, kind, capfd):
    """As Slicer turns them, which logs an error, and into the same planes."""
    slicer = import_slicer()
    volumes = [mrml.add_volume(scene, _case(kind)[0], name) for name in ("sweep", "other")]
    bend = scene.AddNewNodeByClass("vtkMRMLTransformNode", "bend")
    bend.SetAndObserveTransformToParent(_bent())
    for volume in volumes:
        volume.SetAndObserveTransformNodeID(bend.GetID())
    logics, expected = [], []
    for name in ("Red", "Yellow"):
        view = scene.AddNode(_view(name))
        logics.append(slicer.vtkMRMLSliceLogic())
        logics[-1].SetMRMLScene(scene)
        logics[-1].SetSliceNode(view)
        logics[-1].GetSliceCompositeNode().SetSingletonTag(name)
        view.RotateToVolumePlane(volumes[0])
        expected.append(_plane(view))
        view.GetSliceToRAS().Identity()
        view.UpdateMatrices()
    assert "non-linear" in capfd.readouterr().err
    assert mrml_workup.show_image(volumes[0])
    views = [logic.GetSliceNode() for logic in logics]
    np.testing.assert_allclose([_plane(view) for view in views], expected, atol=1e-9)
    assert mrml_other_view.show_side_by_side(*volumes, (0, 0, 0), (0, 0, 0))
    said = capfd.readouterr()
    assert "non-linear" not in said.err + said.out
    for logic in logics:
        logic.SetMRMLScene(None)


def _view(name: str):
    view = import_slicer().vtkMRMLSliceNode()
    view.SetLayoutName(name)
    view.SetSingletonTag(name)
    return view


def _plane(view) -> list[list[float]]:
    return [[view.GetSliceToRAS().GetElement(r, c) for c in range(3)] for r in range(3)]


def _bent():
    """A transform that is not linear."""
    bend = vtk.vtkThinPlateSplineTransform()
    before, after = vtk.vtkPoints(), vtk.vtkPoints()
    for x, y, z in itertools.product((-50, 50), repeat=3):
        before.InsertNextPoint(x, y, z)
        after.InsertNextPoint(x, y, z + x * y / 500)
    bend.SetBasisToR()
    bend.SetSourceLandmarks(before)
    bend.SetTargetLandmarks(after)
    return bend


# --- copies that a person makes --------------------------------------------------------------------------------------


def _clone(node):
    """A node as Clone in the data tree of Slicer 5.13 makes it: with attributes, without references."""
    slicer, scene = import_slicer(), node.GetScene()
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    before = {n.GetID() for n in mrml_nodes.nodes_of_class(scene, node.GetClassName())}
    slicer.vtkSlicerSubjectHierarchyModuleLogic.CloneSubjectHierarchyItem(tree, tree.GetItemByDataNode(node))
    (copy,) = (n for n in mrml_nodes.nodes_of_class(scene, node.GetClassName()) if n.GetID() not in before)
    return copy


def _copy_of(node):
    """A node as Clone of earlier versions makes it: with all attributes and references."""
    copy = node.GetScene().CreateNodeByClass(node.GetClassName())
    copy.UnRegister(None)
    node.GetScene().AddNode(copy)
    copy.Copy(node)
    copy.SetName(f"{node.GetName()} Copy")
    return copy


def _pixels_of(shown, finding: str) -> int:
    (found,) = (f for f in mrml_workup.current(shown)()[0].findings if f.id == finding)
    return int(sitk.GetArrayViewFromImage(found.mask).sum())


def _clear(shown, finding: str) -> None:
    """Take away half of what a segment of a result covers, as a person corrects it."""
    segment = shown.GetSegmentation().GetSegment(finding)
    labelmap = segment.GetRepresentation(import_slicer().vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName())
    voxels = vtk_to_numpy(labelmap.GetPointData().GetScalars())
    voxels[: len(voxels) // 2] = 0


@pytest.mark.parametrize("made", [_clone, _copy_of])
@pytest.mark.parametrize("kind", ["2D", "3D"])
def test_a_copy_of_the_outlines_stays_a_backup(scene, kind, made):
    image, study = _case(kind)
    volume = mrml.add_volume(scene, image, "image")
    shown = mrml_workup.show_workup(scene, study, volume)
    whole = _pixels_of(shown, "L1")
    backup = made(shown)
    _clear(shown, "L1")
    mrml_workup.set_review(shown, "L1", Review("rejected"))
    assert mrml_workup.workup_of(volume) is shown
    assert _pixels_of(mrml_workup.workup_of(volume), "L1") < whole
    again = mrml_workup.show_workup(scene, replace(study, findings=study.findings[:1]), volume)
    assert again is shown is mrml_workup.workup_of(volume) and set(mrml_workup.reviews_of(again)) == {"L1"}
    assert backup.GetSegmentation().GetSegmentIDs() == ("L1", "L2")
    if made is _copy_of:
        assert _pixels_of(backup, "L1") == whole
    scene.RemoveNode(shown)
    assert mrml_workup.workup_of(volume) is (backup if made is _copy_of else None)  # all that is left of the result, where it knows its image
    shown = mrml_workup.show_workup(scene, study, volume)
    assert shown is not backup and mrml_workup.workup_of(volume) is shown
    assert backup.GetSegmentation().GetSegmentIDs() == ("L1", "L2")


def test_copies_are_known_in_scenes_that_are_opened_twice_and_earlier_versions_scenes_open_as_before(scene, tmp_path):
    image, study = _case("3D")
    with private_scene() as saved:
        volume = mrml.add_volume(saved, image, "image")
        shown = mrml_workup.show_workup(saved, study, volume)
        _copy_of(shown)
        _copy_of(mrml.parts_of(shown).boxes["L1"]).SetCenter(0, 0, 0)
        mrml.save_scene(saved, tmp_path / "two.mrb")
        saved.RemoveNode(mrml.parts_of(shown).boxes["L1"])
        mrml.save_scene(saved, tmp_path / "removed.mrb")
    for _ in range(2):  # Slicer gives what comes second other ids
        _open(scene, tmp_path / "two.mrb", tmp_path / "unzipped")
    volumes = [scene.GetNthNodeByClass(i, "vtkMRMLScalarVolumeNode") for i in range(2)]
    results = [mrml_workup.workup_of(volume) for volume in volumes]
    assert [r.GetName() for r in results] == ["image lesions"] * 2 and results[0] is not results[1]
    for volume, shown in zip(volumes, results, strict=True):
        _same_study(mrml.study_from_nodes(volume, shown), study)
    with private_scene() as other:
        _open(other, tmp_path / "removed.mrb", tmp_path / "removed")
        shown = mrml_workup.workup_of(other.GetFirstNodeByClass("vtkMRMLScalarVolumeNode"))
        assert list(mrml.parts_of(shown).boxes) == ["L2"]
    with private_scene() as earlier:
        volume = mrml.add_volume(earlier, image, "image")
        shown = mrml_workup.show_workup(earlier, study, volume)
        for node in (shown, *mrml.parts_of(shown).boxes.values()):
            node.RemoveAttribute(mrml_names.ORIGINAL)
            node.RemoveNodeReferenceIDs(mrml_names.ITSELF)
        for segment in ("L1", "L2"):
            shown.GetSegmentation().GetSegment(segment).RemoveTag(mrml_names.SEGMENT)
        assert mrml_workup.workup_of(volume) is shown
        _same_study(mrml.study_from_nodes(volume, shown), study)


@pytest.mark.parametrize("made", [_clone, _copy_of])
@pytest.mark.parametrize("masks", [True, False])
def test_a_copied_box_is_drawn_by_the_person_and_no_findings(scene, masks, made):
    image, study = _case("3D")
    volume = mrml.add_volume(scene, image, "image")
    show = mrml.show_study if masks else mrml.show_detections
    nodes = show(scene, study, volume)
    shown = nodes.segmentation if masks else nodes.table
    copy = made(nodes.boxes[0])
    copy.SetCenter(0, 0, 0)
    back = mrml.study_from_nodes(volume, shown)
    for found, finding in zip(back.findings, study.findings, strict=True):
        assert found.box.center == pytest.approx(finding.box.center, abs=1e-5)
    assert mrml.parts_of(shown).boxes["L1"] is nodes.boxes[0] and mrml.drawn_boxes(scene) == (copy,)
    assert show(scene, study, volume, shown) and mrml.drawn_boxes(scene) == (copy,)  # another run leaves it
    scene.RemoveNode(mrml.parts_of(shown).boxes["L1"])
    assert set(mrml.parts_of(shown).boxes) == {"L2"}


def test_a_box_that_is_copied_in_an_earlier_versions_scene_moves_no_finding(scene):
    image, study = _case("3D")
    volume = mrml.add_volume(scene, image, "image")
    nodes = mrml.show_study(scene, study, volume)
    nodes.boxes[0].RemoveAttribute(mrml_names.ORIGINAL)
    _copy_of(nodes.boxes[0]).SetCenter(0, 0, 0)
    back = mrml.study_from_nodes(volume, nodes.segmentation).findings[0]
    assert back.box.center == pytest.approx(study.findings[0].box.center, abs=1e-5)


def test_a_locked_box_is_not_editable_whatever_handles_it_has(scene):
    image, study = _case("3D")
    volume = mrml.add_volume(scene, image, "image")
    shown = mrml_workup.show_workup(scene, study, volume)
    assert mrml_workup.set_box_editable(shown, "L1", True) and mrml_workup.box_is_editable(shown, "L1")
    box = mrml.parts_of(shown).boxes["L1"]
    box.SetLocked(True)
    assert not mrml_workup.box_is_editable(shown, "L1")


def test_a_copied_segment_is_the_persons(scene):
    image, study = _case("3D")
    volume = mrml.add_volume(scene, image, "image")
    shown = mrml.show_study(scene, study, volume).segmentation
    segmentation, copy = shown.GetSegmentation(), import_slicer().vtkSegment()
    copy.DeepCopy(segmentation.GetSegment("L1"))
    segmentation.AddSegment(copy, "L1 Copy", "L1")
    assert segmentation.GetSegmentIDs()[0] == "L1 Copy"  # the first is no finding's for that
    assert mrml.parts_of(shown).segments == {"L1": "L1", "L2": "L2"}
    segmentation.RemoveSegment("L1")  # spoilt, as the copy was made before
    assert mrml.parts_of(shown).segments == {"L1": "L1 Copy", "L2": "L2"}
    _same_study(mrml.study_from_nodes(volume, shown), study)
    mrml.show_study(scene, replace(study, findings=study.findings[1:]), volume, shown)
    assert segmentation.GetSegmentIDs() == ("L1 Copy", "L2")


def test_a_copied_table_of_findings_comes_last(scene):
    image, study = _case("3D")
    volume = mrml.add_volume(scene, image, "image")
    tables = [mrml.show_detections(scene, study, volume).table for _ in range(2)]
    copy = _copy_of(tables[1])
    assert mrml.detections_of(volume) == (tables[1], tables[0], copy)


def test_edits_in_the_scene_are_read_back(scene):
    image, study = _case("3D oblique")
    volume = mrml.add_volume(scene, image, "image")
    nodes = mrml.show_study(scene, study, volume)
    roi = nodes.boxes[0]
    x, y, z = roi.GetCenter()
    roi.SetCenter(x + 1, y, z)
    nodes.segmentation.RemoveSegment("L1")
    scene.RemoveNode(nodes.boxes[1])
    nodes.segmentation.GetSegmentation().AddEmptySegment("mine")
    back = mrml.study_from_nodes(volume, nodes.segmentation)
    first, second = back.findings
    cx, cy, cz = study.findings[0].box.center
    assert first.box.center == pytest.approx((cx - 1, cy, cz), abs=1e-6)
    assert first.mask is None and first.label is None
    assert second.box == study.findings[1].box and second.mask is not None
    scene.RemoveNode(roi)
    assert [f.id for f in mrml.study_from_nodes(volume, nodes.segmentation).findings] == ["L2"]


def test_a_turned_box_is_read_as_the_box_around_it(scene):
    image = _image((40, 40, 40), (0.5, 0.5, 0.5), (0, 0, 0))
    study = _study(image, ((10, 10, 10), (20, 20, 20)))
    volume = mrml.add_volume(scene, image, "image")
    nodes = mrml.show_study(scene, study, volume)
    turn = vtk.vtkTransform()
    turn.SetMatrix(nodes.boxes[0].GetObjectToNodeMatrix())
    turn.RotateZ(45)
    nodes.boxes[0].SetAndObserveObjectToNodeMatrix(turn.GetMatrix())
    box = mrml.study_from_nodes(volume, nodes.segmentation).findings[0].box
    assert box.size == pytest.approx((5 * math.sqrt(2), 5 * math.sqrt(2), 5), abs=1e-6)
    assert box.center == pytest.approx(study.findings[0].box.center, abs=1e-6)


def test_a_cropped_slice_takes_a_2d_study(scene):
    image, study = _case("2D")
    whole = _image((50, 45, 1))
    volume = mrml.add_volume(scene, whole, "image")
    crop = vtk.vtkExtractVOI()
    crop.SetInputData(volume.GetImageData())
    crop.SetVOI(4, 43, 7, 36, 0, 0)
    crop.Update()
    volume.SetAndObserveImageData(crop.GetOutput())
    nodes = mrml.show_study(scene, study, volume)
    _same_study(mrml.study_from_nodes(volume, nodes.segmentation), study)
    index = image.TransformPhysicalPointToContinuousIndex(study.findings[0].box.center[:2])
    x, y, z = whole.TransformContinuousIndexToPhysicalPoint((index[0] + 4, index[1] + 7, 0))
    assert list(nodes.boxes[0].GetCenter()) == pytest.approx([-x, -y, z], abs=1e-5)


def test_the_wrong_nodes_are_refused(scene):
    image, study = _case("2D")
    volume = mrml.add_volume(scene, image, "image")
    other = mrml.add_volume(scene, _image((11, 13)), "other")
    with pytest.raises(DataError, match="case 7.png with 40 x 30 pixels, the volume other has 11 x 13 x 1"):
        mrml.show_study(scene, study, other)
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    strange = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "strange")
    with pytest.raises(DataError, match="strange was not made by BreastUSAI"):
        mrml.study_from_nodes(volume, strange)


def test_undo_state_is_saved_before_nodes_change(scene):
    image, study = _case("2D")
    volume = mrml.add_volume(scene, image, "image")
    mrml.show_study(scene, study, volume)
    assert scene.GetNumberOfUndoLevels() == 0  # undo is off
    scene.SetUndoOn()
    mrml.show_study(scene, study, volume)
    assert scene.GetNumberOfUndoLevels() == 1


# --- scene files -----------------------------------------------------------------------------------------------------


def _open(scene, path, folder):
    """Unzip and import, as ReadFromMRB fails on slicer-core."""
    with zipfile.ZipFile(path) as bundle:
        assert bundle.testzip() is None
        bundle.extractall(folder)
    (file,) = Path(folder).glob("*/*.mrml")
    scene.SetURL(str(file))
    assert scene.Import()
    return file


@pytest.mark.parametrize("kind", ["2D", "3D oblique", "3D mirrored"])
def test_a_saved_scene_opens_with_everything_in_place(tmp_path, kind):
    image, study = _case(kind)
    path = tmp_path / "out" / "scène 1.mrb"
    with private_scene() as scene:
        volume = mrml.add_volume(scene, image, "image")
        transform, to_world = _parent(scene)
        volume.SetAndObserveTransformNodeID(transform.GetID())
        mrml.show_study(scene, study, volume)
        assert mrml.save_scene(scene, path) == path
    assert [p.name for p in path.parent.iterdir()] == ["scène 1.mrb"]

    with private_scene() as scene:
        file = _open(scene, path, tmp_path / "unzipped")
        assert str(tmp_path) not in file.read_text(encoding="utf-8")  # all paths are relative
        volume = scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
        segmentation = scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
        points = scene.GetFirstNodeByClass("vtkMRMLMarkupsFiducialNode")
        table = scene.GetFirstNodeByClass("vtkMRMLTableNode")
        rois = [scene.GetNthNodeByClass(i, "vtkMRMLMarkupsROINode") for i in range(2)]

        expected = image if image.GetDimension() == 3 else sitk.JoinSeries(image)
        loaded = mrml.image_from_volume(volume)
        if kind == "3D mirrored":  # Slicer's reader reverses the slices of left-handed volumes
            loaded = sitk.Resample(loaded, expected, sitk.Transform(), sitk.sitkNearestNeighbor)
        _same_image(loaded, expected)
        _same_study(mrml.study_from_nodes(volume, segmentation), study)
        for index, finding in enumerate(study.findings):
            segment = segmentation.GetSegmentation().GetSegment(finding.id)
            for key, value in segment_tags("roi-cnn-compact").items():
                found = vtk.reference("")
                assert segment.GetTag(key, found) and found == value
            x, y, z = finding.box.center
            world = [0.0] * 3
            rois[index].GetCenterWorld(world)
            assert world == pytest.approx((to_world @ (-x, -y, z, 1))[:3], abs=1e-6)
            points.GetNthControlPointPositionWorld(index, world)
            assert world == pytest.approx((to_world @ (-x, -y, z, 1))[:3], abs=1e-6)
            assert rois[index].GetNodeReferenceID(mrml.BELONGS_TO) == segmentation.GetID()
        assert table.GetNumberOfRows() == 2 and table.GetColumnUnitLabel("area_mm2") == "mm2"
        parent = scene.GetFirstNodeByClass("vtkMRMLLinearTransformNode")
        tree = scene.GetSubjectHierarchyNode()
        for node in (volume, segmentation, points, *rois):
            assert node.GetParentTransformNode() is parent
            assert node.GetDisplayNode() is not None
        for node in (volume, segmentation, points, table, *rois):
            item = tree.GetItemByDataNode(node)
            assert item and tree.GetItemParent(item) == tree.GetSceneItemID()
        assert volume.GetDisplayNode().GetWindowLevelMax() == 255


def test_write_scene_shows_the_image_upright_in_the_red_view(tmp_path):
    image, study = _case("2D")
    mrml.write_scene(tmp_path / "scene.mrb", image, study)
    with private_scene() as scene:
        _open(scene, tmp_path / "scene.mrb", tmp_path / "unzipped")
        volume = scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
        assert volume.GetName() == "case 7"
        composite = scene.GetSingletonNode("Red", "vtkMRMLSliceCompositeNode")
        assert composite.GetBackgroundVolumeID() == volume.GetID()
        view = scene.GetSingletonNode("Red", "vtkMRMLSliceNode")
        to_ras = view.GetSliceToRAS()
        # the screen's up is against the image's rows, and the whole image is seen
        assert [to_ras.GetElement(r, 1) for r in range(3)] == pytest.approx([0, 1, 0])
        assert view.GetFieldOfView()[0] >= 40 * 0.08 and view.GetFieldOfView()[1] >= 30 * 0.12
        layout = scene.GetSingletonNode("vtkMRMLLayoutNode", "vtkMRMLLayoutNode")
        assert layout.GetViewArrangement() == layout.SlicerLayoutOneUpRedSliceView


@pytest.mark.parametrize(
    "path, name",
    [("/a/case 1.PNG", "case 1"), ("b.nii.gz", "b"), ("1.2.840.5", "1.2.840.5"), ("/a/x.1.dcm", "x.1"), ("", "image")],
)
def test_the_volume_is_named_after_its_file(tmp_path, path, name):
    image = _image((8, 8))
    mrml.write_scene(tmp_path / "scene.mrb", image, _study(image, path=path))
    with private_scene() as scene:
        _open(scene, tmp_path / "scene.mrb", tmp_path / "unzipped")
        assert scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode").GetName() == name


def test_a_scene_that_cannot_be_written_says_so_and_leaves_nothing(scene, tmp_path):
    image, study = _case("2D")
    mrml.show_study(scene, study, mrml.add_volume(scene, image, "image"))
    with pytest.raises(OutputError, match="must end in .mrb"):
        mrml.save_scene(scene, tmp_path / "scene.zip")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="scene.mrb cannot be written"):
        mrml.save_scene(scene, tmp_path / "file" / "scene.mrb")
    old = tmp_path / "scene.mrb"
    old.write_text("old")

    class Full:
        def WriteToMRB(self, *_):
            return False

    with pytest.raises(OutputError, match="scene.mrb cannot be written: the scene was not saved"):
        mrml.save_scene(Full(), old)
    assert old.read_text() == "old" and sorted(p.name for p in tmp_path.iterdir()) == ["file", "scene.mrb"]


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="../shared/data is not here")
def test_a_real_image_and_its_mask_come_back_from_a_scene_file(tmp_path):
    image_file = next(iter(sorted(SHARED_DATA.glob("*/images/*.png"))))
    mask_file = image_file.parents[1] / "masks" / image_file.name
    image, mask = sitk.ReadImage(str(image_file)), sitk.ReadImage(str(mask_file))
    if image.GetNumberOfComponentsPerPixel() > 1:
        image = sitk.VectorIndexSelectionCast(image, 0)
    mask = sitk.Cast(mask > 0, sitk.sitkUInt8)
    mask.CopyInformation(image)
    stats = sitk.LabelShapeStatisticsImageFilter()
    stats.Execute(mask)
    x, y, w, h = stats.GetBoundingBox(1)
    finding = Finding("L1", _box(image, (x, y), (x + w, y + h)), 0.8, mask=mask, label=1)
    study = Study(ImageInfo.of(image, str(image_file), False), (finding,))
    mrml.write_scene(tmp_path / "scene.mrb", image, study)
    with private_scene() as scene:
        _open(scene, tmp_path / "scene.mrb", tmp_path / "unzipped")
        volume = scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
        assert not mrml.spacing_known(volume)
        back = mrml.study_from_nodes(volume, scene.GetFirstNodeByClass("vtkMRMLSegmentationNode"))
        _same_study(back, study)
