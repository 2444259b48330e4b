"""BreastUSAI Grade: the panel and the Logic, the way to the child process and back, the nodes.

Panel and Logic run on the STAND-IN for Slicer's GUI side (slicer_standin) with the real scene below, and in a real Slicer
through run_in_slicer.py; everything else here is the real thing.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from grade_cases import grade_folder
from panel_on_standin import case_names, picture, run_case, standin_fixture

from BreastUSAILib import cli
from BreastUSAILib.child_grading import ChildGrading, GradePixels, GradingOrder, grading_arguments
from BreastUSAILib.child_process import ChildError
from BreastUSAILib.command_arguments import grading_options
from BreastUSAILib.errors import DataError, ImageError, ModelError, OtherSpacingError
from BreastUSAILib.files import read_study
from BreastUSAILib.findings import Finding, ImageInfo, Study
from BreastUSAILib.grid import box_of_mask, index_box
from BreastUSAILib.same_pixels import findings_on
from BreastUSAILib.workup_options import GradingOptions

CASES = "grade_widget_cases"
TURN = (0.36, 0.48, -0.8, -0.8, 0.60, 0.0, 0.48, 0.64, 0.60)


# --- the panel and the Logic, on the stand-in ------------------------------------------------------------------------


standin = standin_fixture("BreastUSAIGrade", CASES)


@pytest.mark.parametrize("name", case_names(CASES))
def test_on_the_standin(standin, name):
    run_case(standin[1], name)


def test_a_picture_of_the_panel(standin, tmp_path):
    slicer, cases = standin
    case = cases.PanelCase()
    case.setUp()
    try:
        case.readyWithVolume()
        case.apply()
        case.panel.onRow(cases.Row(1))
        picture(case.panel, slicer, "BreastUSAIGrade", tmp_path)
    finally:
        case.tearDown()


def test_the_self_test(standin):
    """With the models that ship, on the real image that is built in."""
    standin[1].module.BreastUSAIGradeTest().runTest()


def test_the_self_test_is_skipped_where_packages_are_missing(standin, monkeypatch):
    from BreastUSAILib import slicer_install

    monkeypatch.setattr(slicer_install, "missing", lambda: ["torch>=2.4"])
    said = []
    test = standin[1].module.BreastUSAIGradeTest()
    monkeypatch.setattr(test, "delayDisplay", lambda text, *_: said.append(text))
    test.runTest()
    assert len(said) == 3 and said[2] == "Skipped: torch>=2.4 are not installed in this Slicer."


def test_process_changes_nothing_when_the_grading_fails(standin):
    slicer, cases = standin

    def runner(loaded, findings, options, progress):
        raise ModelError("the model is damaged; train it again.")

    image = cases.picture()
    before = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(ModelError, match="damaged"):
        cases.module.BreastUSAIGradeLogic(runner=runner).process(image)
    assert slicer.mrmlScene.GetNumberOfNodes() == before


# --- nodes -----------------------------------------------------------------------------------------------------------


def test_maps_follow_oblique_grids_and_parent_transforms():
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    import vtk

    from BreastUSAILib import mrml, mrml_overlay
    from BreastUSAILib.slicer_runtime import private_scene

    with private_scene() as scene:
        image = sitk.Image(20, 16, 12, sitk.sitkUInt8)
        image.SetSpacing((0.8, 0.9, 1.1))
        image.SetOrigin((3.0, -7.5, 11.0))
        image.SetDirection(TURN)
        volume = mrml.add_volume(scene, image, "oblique")
        matrix = vtk.vtkMatrix4x4()
        matrix.DeepCopy((0, -1, 0, 10, 1, 0, 0, -20, 0, 0, 1, 30, 0, 0, 0, 1))
        transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
        transform.SetMatrixTransformToParent(matrix)
        volume.SetAndObserveTransformNodeID(transform.GetID())
        seen = sitk.Image(image)
        seen[5, 6, 7] = 70
        made = mrml_overlay.add_map(scene, seen, volume, "activation", 100)
        assert made.GetTransformNodeID() == transform.GetID() and mrml_overlay.is_map_of(made, volume)
        back = mrml.image_from_volume(made)
        assert back[5, 6, 7] == 70 and back.GetOrigin() == pytest.approx(image.GetOrigin())
        assert back.GetDirection() == pytest.approx(TURN)
        again = mrml_overlay.add_map(scene, seen, volume, "activation", 100)
        colors = {n.GetDisplayNode().GetColorNodeID() for n in (made, again)}
        assert len(colors) == 1  # one colour table in a scene
        with pytest.raises(DataError, match="choose the volume that was analysed"):
            mrml_overlay.add_map(scene, seen[:, :, :5], volume, "activation", 100)


# --- to the child and back -------------------------------------------------------------------------------------------


def _study(image, start, size):
    array = np.zeros(image.GetSize()[::-1], np.uint8)
    array[tuple(slice(a, a + n) for a, n in zip(start[::-1], size[::-1], strict=True))] = 1
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(image)
    return Study(ImageInfo.of(image, "a.nrrd"), (Finding("L1", box_of_mask(mask), 0.9, mask=mask, label=1),))


def test_every_option_and_the_findings_reach_the_child(tmp_path):
    image = sitk.Image(20, 16, 12, sitk.sitkUInt8)
    study = _study(image, (4, 3, 2), (6, 5, 4))
    options = GradingOptions("g", "m", "s", "roi", "cpu", enhance=False, several=False)
    arguments = grading_arguments(tmp_path / "a.nrrd", tmp_path / "out", GradingOrder(study, options))
    parsed = cli.build_parser(arguments).parse_args(arguments)
    assert grading_options(parsed, model=parsed.model) == options
    assert parsed.input == tmp_path / "a.nrrd" and parsed.output == tmp_path / "out"
    told = read_study(parsed.findings)
    assert int(sitk.GetArrayViewFromImage(told.findings[0].mask).sum()) == 120
    plain = grading_arguments(tmp_path / "a.nrrd", tmp_path / "out", GradingOrder(None, GradingOptions(mtnet="m")))
    parsed = cli.build_parser(plain).parse_args(plain)
    assert parsed.findings is None and grading_options(parsed) == GradingOptions(mtnet="m")


@pytest.mark.parametrize(
    "size, known, words",
    [((12, 1, 1), True, "single line"), ((12, 10, 8), False, "set its spacing in the module Volumes")],
)
def test_what_cannot_be_graded_never_starts(size, known, words):
    pixels = GradePixels(sitk.Image(size, sitk.sitkUInt8), "case 7", known)
    with pytest.raises(ImageError, match=words):
        ChildGrading(pixels, GradingOrder(None, GradingOptions(mtnet="m")))


def test_findings_made_on_another_spacing_are_refused_in_words_of_the_module(tmp_path):
    """The spacing was corrected in the module Volumes since: the child's cure names no option of a command line."""
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 200, (1, 80, 90), np.uint8))
    image.SetSpacing((0.08, 0.08, 1.0))
    study = _study(image, (20, 14, 0), (24, 18, 1))
    pixels = GradePixels(image, "case 7", True).with_spacing(0.1)
    model = str(grade_folder(tmp_path / "mtnet", "mtnet"))
    child = ChildGrading(pixels, GradingOrder(study, GradingOptions(mtnet=model, device="cpu")))
    while not child.poll():
        time.sleep(0.05)
    with pytest.raises(ChildError, match="case 7 has pixels of 0.1 x 0.1 x 1 mm, .* made on pixels of 0.08 x 0.08 x 1 mm; make them") as error:
        child.result()
    assert "--" not in str(error.value)


def test_findings_of_an_image_are_found_again_in_a_slice_of_space():
    """An image (2D) and the one-slice volume that Slicer keeps of it: the same pixels, whatever their coordinates."""
    flat = sitk.Image(20, 16, sitk.sitkUInt8)
    flat.SetSpacing((0.3, 0.3))
    study = _study(flat, (4, 3), (6, 5))
    study = replace(study, image=replace(study.image, spacing_known=False))  # goes by pixel, and so do its figures
    for size in ((20, 16, 1), (20, 1, 16), (1, 20, 16)):
        volume = sitk.Image(size, sitk.sitkUInt8)
        volume.SetSpacing((0.3, 0.4, 0.5))
        volume.SetOrigin((5.0, -3.0, 80.0))
        volume.SetDirection(TURN)
        (masked,) = findings_on(study, volume)
        assert masked.mask.GetSize() == size and masked.mask.GetOrigin() == volume.GetOrigin()
        pixels = sitk.GetArrayFromImage(masked.mask).reshape(16, 20)
        assert np.array_equal(pixels, sitk.GetArrayFromImage(study.findings[0].mask))
        (boxed,) = findings_on(replace(study, findings=(replace(study.findings[0], mask=None),)), volume)
        assert boxed.box.center == pytest.approx(masked.box.center) and boxed.box.size == pytest.approx(masked.box.size)
        emptied = replace(study.findings[0], mask=study.findings[0].mask * 0)
        (left,) = findings_on(replace(study, findings=(emptied,)), volume)
        assert left.mask.GetSize() == size and not sitk.GetArrayViewFromImage(left.mask).any()
        assert left.box.center == pytest.approx(masked.box.center) and left.box.size == pytest.approx(masked.box.size)
    with pytest.raises(DataError, match="20 x 16 pixels, b.png has 9 x 9; name the result of this image"):
        findings_on(study, sitk.Image(9, 9, sitk.sitkUInt8), "b.png")


def test_figures_in_other_millimetres_are_refused_in_a_slice_of_space():
    flat = sitk.Image(20, 16, sitk.sitkUInt8)
    flat.SetSpacing((0.3, 0.4))
    study = _study(flat, (4, 3), (6, 5))
    volume = sitk.Image(20, 1, 16, sitk.sitkUInt8)
    volume.SetSpacing((0.3001, 7.0, 0.4))
    assert len(findings_on(study, volume, spacing_known=True)) == 1
    with pytest.raises(OtherSpacingError, match="v.nrrd does not say what a pixel measures, .* made on pixels of 0.3 x 0.4 mm; make them again"):
        findings_on(study, volume, "v.nrrd", spacing_known=False)
    volume.SetSpacing((0.1, 7.0, 0.1))
    with pytest.raises(OtherSpacingError, match="v.nrrd has pixels of 0.1 x 0.1 mm, .* on pixels of 0.3 x 0.4 mm; make them again") as error:
        findings_on(study, volume, "v.nrrd")
    assert error.value.made_on == (0.3, 0.4)


def test_findings_follow_slices_that_slicer_reversed():
    image = sitk.Image(10, 8, 12, sitk.sitkUInt8)
    image.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, -1))
    study = _study(image, (2, 3, 1), (4, 3, 5))
    turned = sitk.Image(image.GetSize(), sitk.sitkUInt8)
    turned.SetOrigin(image.TransformIndexToPhysicalPoint((0, 0, 11)))
    (there,) = findings_on(study, turned)
    reversed_slices = sitk.GetArrayFromImage(study.findings[0].mask)[::-1]
    assert np.array_equal(sitk.GetArrayFromImage(there.mask), reversed_slices)
    assert there.box.center == pytest.approx(box_of_mask(there.mask).center)
    assert findings_on(study, image) == study.findings
    assert index_box(image, (2, 3, 1), (4, 3, 5)).center == pytest.approx(there.box.center)
