"""Colour pictures are volumes of three or four components in Slicer: a study of one, its report and its overview take them in grey, as files are read."""

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="slicer-core is not installed")

import vtk
from vtk.util.numpy_support import numpy_to_vtk

from BreastUSAILib import mrml
from BreastUSAILib.findings import Study
from BreastUSAILib.navigator import navigate
from BreastUSAILib.pixels import luminance
from BreastUSAILib.report import report_html
from BreastUSAILib.slicer_runtime import private_scene


@pytest.fixture
def scene():
    with private_scene() as scene:
        yield scene


def colour_node(scene, slices, components=3):
    """A vector volume node of colours (slices, 30, 40, components), and these."""
    colours = np.random.default_rng(3).integers(0, 256, (slices, 30, 40, components), dtype=np.uint8)
    data = vtk.vtkImageData()
    data.SetDimensions(40, 30, slices)
    data.GetPointData().SetScalars(numpy_to_vtk(colours.reshape(-1, components), deep=True))
    node = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colours")
    node.SetAndObserveImageData(data)
    node.SetSpacing(0.1, 0.1, 1.0)
    return node, colours


@pytest.mark.parametrize("components", [3, 4])
@pytest.mark.parametrize("slices", [1, 5])
def test_a_study_takes_colours_in_grey(scene, slices, components):
    node, colours = colour_node(scene, slices, components)
    image = mrml.image_for(mrml.info_of(node), node)
    assert image.GetNumberOfComponentsPerPixel() == 1 and image.GetSpacing() == pytest.approx((0.1, 0.1, 1.0))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), luminance(colours)[0])


@pytest.mark.parametrize("slices", [1, 30])
def test_a_report_and_an_overview_can_be_made_of_them(scene, slices):
    """Of every colour picture there was "too many values to unpack" instead of a report."""
    node, _ = colour_node(scene, slices)
    study = Study(mrml.info_of(node))
    image = mrml.image_for(study.image, node)
    assert "colours" in report_html(study, image)
    if slices > 1:
        assert navigate(image, study, longest=200) is not None
