"""BreastUSAI Heatmap: the panel and the Logic on the STAND-IN for Slicer's GUI side (slicer_standin) with the real scene below; in a real
Slicer through run_in_slicer.py."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
from panel_on_standin import case_names, picture, run_case, standin_fixture

from BreastUSAILib.errors import DataError, ModelError
from BreastUSAILib.findings import Finding, ImageInfo, Study
from BreastUSAILib.grid import index_box

CASES = "heatmap_widget_cases"


standin = standin_fixture("BreastUSAIHeatmap", CASES)


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
        picture(case.panel, slicer, "BreastUSAIHeatmap", tmp_path)
    finally:
        case.tearDown()


def test_the_self_test(standin):
    standin[1].module.BreastUSAIHeatmapTest().runTest()


def test_a_model_that_learnt_from_phantoms_is_named_so(standin):
    logic = standin[1].module.BreastUSAIHeatmapLogic()
    image = sitk.Image(20, 16, 12, sitk.sitkUInt8)
    model = {"id": "h1", "version": "1", "sha256": "0" * 64, "task": "heatmap", "trained_on": "400 phantoms of DATA"}
    study = Study(ImageInfo.of(image, "v.nrrd"), (), provenance={"models": [model]})
    assert logic.summary(study, ()) == "No hot spot found. The model was trained on phantoms, not on patients."
    real = dataclasses.replace(study, provenance={"models": [{**model, "trained_on": "100 volumes"}]})
    assert logic.summary(real, (True, True, False)) == "2 hot spots found. Hidden below, for their lower score: 1."


def test_process_changes_nothing_when_it_fails(standin):
    slicer, cases = standin

    def runner(loaded, options, progress):
        raise ModelError("the model is damaged; train it again.")

    volume = cases.volume()
    before = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(ModelError, match="damaged"):
        cases.module.BreastUSAIHeatmapLogic(runner=runner).process(volume)
    assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_the_map_lies_on_oblique_volumes_and_under_their_transforms():
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    import vtk

    from BreastUSAILib import mrml, mrml_heatmap
    from BreastUSAILib.slicer_runtime import private_scene

    image = sitk.GetImageFromArray(np.random.default_rng(1).integers(0, 200, (12, 16, 20), dtype=np.uint8))
    image.SetSpacing((0.8, 0.9, 1.1))
    image.SetOrigin((3.0, -7.5, 11.0))
    image.SetDirection((0.36, 0.48, -0.8, -0.8, 0.60, 0.0, 0.48, 0.64, 0.60))
    heat = sitk.Cast(image, sitk.sitkFloat32) / 100
    box = index_box(image, (4, 5, 3), (6, 4, 5))
    peak = dict(zip(("peak_x", "peak_y", "peak_z"), image.TransformIndexToPhysicalPoint((5, 6, 4)), strict=True))
    study = Study(ImageInfo.of(image, "oblique.nrrd"), (Finding("H1", box, 0.9, evidence=peak),), heat)
    with private_scene() as scene:
        volume = mrml.add_volume(scene, image, "oblique")
        matrix = vtk.vtkMatrix4x4()
        matrix.DeepCopy((0, -1, 0, 10, 1, 0, 0, -20, 0, 0, 1, 30, 0, 0, 0, 1))
        transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
        transform.SetMatrixTransformToParent(matrix)
        volume.SetAndObserveTransformNodeID(transform.GetID())
        nodes = mrml_heatmap.show_heatmap(scene, study, volume)
        assert nodes.map.GetParentTransformNode() is transform
        ijk = [vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()]
        for node, to_ras in zip((volume, nodes.map), ijk, strict=True):
            node.GetIJKToRASMatrix(to_ras)
        for row in range(4):
            for column in range(4):
                assert ijk[1].GetElement(row, column) == pytest.approx(ijk[0].GetElement(row, column))
        local = np.array(ijk[0].MultiplyPoint((5, 6, 4, 1)))
        world = np.array(matrix.MultiplyPoint(local))[:3]
        place = [0.0, 0.0, 0.0]
        nodes.points.GetNthControlPointPositionWorld(0, place)
        np.testing.assert_allclose(place, world, atol=1e-4)
        other = Study(ImageInfo.of(sitk.Image(4, 4, 4, sitk.sitkUInt8), "other.nrrd"), (Finding("H1", box, 0.9),), heat)
        before = scene.GetNumberOfNodes()
        with pytest.raises(DataError):
            mrml_heatmap.show_heatmap(scene, other, volume)
        assert scene.GetNumberOfNodes() == before
