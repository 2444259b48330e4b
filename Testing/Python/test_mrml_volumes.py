"""Outlines of lesions in volumes as MRML nodes: voxels, terms, surfaces, figures, and back. The scene is a real one."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="slicer-core is not installed")

from BreastUSAILib import mrml
from BreastUSAILib.files import read_study, write_study
from BreastUSAILib.findings import Finding, ImageInfo, Study
from BreastUSAILib.grid import box_of_mask
from BreastUSAILib.measurements_3d import measure_3d
from BreastUSAILib.mrml_grid import Frame
from BreastUSAILib.mrml_masks import labelmap_of
from BreastUSAILib.slicer_runtime import private_scene
from BreastUSAILib.terminology import terminology_entry

OBLIQUE = (0.36, 0.48, -0.8, -0.8, 0.60, 0.0, 0.48, 0.64, 0.60)
RADII = (4.0, 2.5)


def two_balls(direction):
    """A volume with two dark balls on an oblique, anisotropic grid, and the study that outlines them."""
    spacing = (0.5, 0.4, 0.7)
    z, y, x = np.meshgrid(*((np.arange(n) * s) for n, s in zip((36, 50, 60), spacing[::-1], strict=True)), indexing="ij")
    centres = ((10.0, 8.0, 9.0), (22.0, 14.0, 17.0))
    balls = [
        (x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 <= r * r for (a, b, c), r in zip(centres, RADII, strict=True)
    ]
    image = sitk.GetImageFromArray(np.where(balls[0] | balls[1], 40, 120).astype(np.uint8))
    image.SetSpacing(spacing)
    image.SetOrigin((12.0, -30.0, 5.0))
    image.SetDirection(direction)
    findings = []
    for number, ball in enumerate(balls, start=1):
        mask = sitk.GetImageFromArray(ball.astype(np.uint8))
        mask.CopyInformation(image)
        figures = {**measure_3d(mask, image), "outline_uncertainty": 0.07}
        findings.append(
            Finding(
                f"L{number}", box_of_mask(mask), 1 - 0.1 * number, 0.2 * number, mask=mask, label=number,
                measurements=figures, models={"segment": "joint"},
            )  # fmt: skip
        )
    return image, Study(ImageInfo.of(image, "abus.nrrd"), tuple(findings))


@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), OBLIQUE, (1, 0, 0, 0, 1, 0, 0, 0, -1)])
def test_segments_surfaces_and_figures_of_a_volume(direction):
    import slicer
    import vtk

    image, study = two_balls(direction)
    with private_scene() as scene:
        volume = mrml.add_volume(scene, image, "abus")
        nodes = mrml.show_study(scene, study, volume)
        segmentation = nodes.segmentation.GetSegmentation()
        assert segmentation.GetNumberOfSegments() == 2
        display = nodes.segmentation.GetDisplayNode()
        converter = slicer.vtkSegmentationConverter
        assert display.GetVisibility3D()
        assert display.GetDisplayRepresentationName3D() == converter.GetSegmentationClosedSurfaceRepresentationName()
        assert display.GetDisplayRepresentationName2D() == converter.GetSegmentationBinaryLabelmapRepresentationName()
        for finding, radius in zip(study.findings, RADII, strict=True):
            segment = segmentation.GetSegment(finding.id)
            value = vtk.reference("")
            assert segment.GetTag("TerminologyEntry", value) and str(value) == terminology_entry()
            surface = vtk.vtkPolyData()
            nodes.segmentation.GetClosedSurfaceRepresentation(finding.id, surface)
            mass = vtk.vtkMassProperties()
            mass.SetInputData(surface)
            assert mass.GetVolume() == pytest.approx(finding.measurements["volume_ml"] * 1000, rel=0.2)
            center = np.mean(np.reshape(surface.GetBounds(), (3, 2)), axis=1)
            np.testing.assert_allclose(center * (-1, -1, 1), finding.box.center, atol=0.3)
            assert np.ptp(np.reshape(surface.GetBounds(), (3, 2)), axis=1) == pytest.approx([2 * radius] * 3, abs=1.0)
        table = nodes.table
        columns = {table.GetColumnName(i): i for i in range(table.GetNumberOfColumns())}
        assert table.GetNumberOfRows() == 2
        assert table.GetColumnUnitLabel("volume_ml") == "ml" and table.GetColumnUnitLabel("surface_mm2") == "mm2"
        shown = float(table.GetCellText(0, columns["volume_ml"]))
        assert shown == pytest.approx(study.findings[0].measurements["volume_ml"], rel=1e-3)
        back = mrml.study_from_nodes(volume, nodes.segmentation)
        for before, after in zip(study.findings, back.findings, strict=True):
            np.testing.assert_array_equal(sitk.GetArrayFromImage(before.mask), sitk.GetArrayFromImage(after.mask))
            assert after.measurements == before.measurements and after.malignancy == before.malignancy


def test_an_edited_segment_comes_back_and_its_surface_follows():
    import slicer

    image, study = two_balls(OBLIQUE)
    with private_scene() as scene:
        volume = mrml.add_volume(scene, image, "abus")
        node = mrml.show_study(scene, study, volume).segmentation
        half = sitk.GetArrayFromImage(study.findings[0].mask)
        half[:13] = 0
        edited = sitk.GetImageFromArray(half)
        edited.CopyInformation(image)
        # What the Segment Editor does to a segment: other voxels in its labelmap.
        frame = Frame.of(study.image, volume)
        labelmap = labelmap_of(half, frame)
        before = node.GetClosedSurfaceInternalRepresentation("L1").GetNumberOfPoints()
        slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(labelmap, node, "L1")
        node.CreateClosedSurfaceRepresentation()
        assert node.GetClosedSurfaceInternalRepresentation("L1").GetNumberOfPoints() < 0.8 * before
        back = mrml.study_from_nodes(volume, node)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(back.findings[0].mask), half)
        measured = measure_3d(back.findings[0].mask, image)
        assert measured["volume_ml"] == pytest.approx(measure_3d(edited, image)["volume_ml"])
        assert replace(back.findings[1], box=study.findings[1].box) == study.findings[1]


def test_a_volume_without_outlines_has_no_surface():
    image, study = two_balls(OBLIQUE)
    with private_scene() as scene:
        volume = mrml.add_volume(scene, image, "abus")
        node = mrml.show_study(scene, Study(study.image), volume).segmentation
        assert node.GetSegmentation().GetNumberOfSegments() == 0


def test_files_of_a_volume_read_back_the_same(tmp_path):
    image, study = two_balls(OBLIQUE)
    write_study(study, tmp_path)
    back = read_study(tmp_path)
    assert back == study
    for before, after in zip(study.findings, back.findings, strict=True):
        assert after.mask.GetSpacing() == before.mask.GetSpacing() and after.mask.GetOrigin() == before.mask.GetOrigin()
        np.testing.assert_array_equal(sitk.GetArrayFromImage(before.mask), sitk.GetArrayFromImage(after.mask))
    rows = (tmp_path / "findings.csv").read_text().splitlines()
    titles = rows[0].split(",")
    assert len(rows) == 3
    assert titles.index("volume_ml") < titles.index("major_diameter_mm") < titles.index("sphericity")
    value = float(rows[1].split(",")[titles.index("volume_ml")])
    assert value == pytest.approx(study.findings[0].measurements["volume_ml"], rel=1e-4)
