"""The real image of the self-tests: it lies in the scene as its file says, and what is wrong with a finding is told."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="slicer-core is not installed")

from BreastUSAILib import mrml, mrml_sample, sample_data
from BreastUSAILib.errors import DataError
from BreastUSAILib.findings import Finding
from BreastUSAILib.grid import box_of_mask
from BreastUSAILib.image import read_image
from BreastUSAILib.slicer_runtime import import_slicer


@pytest.fixture
def scene():
    return import_slicer().vtkMRMLScene()


def finding(mask: np.ndarray, spacing) -> Finding:
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(spacing)
    area = float(mask.sum() * spacing[0] * spacing[1])
    return Finding("L1", box_of_mask(image), 0.9, mask=image, label=1, measurements={"area_mm2": area})


@pytest.fixture
def reference() -> Finding:
    truth = sitk.ReadImage(str(sample_data.truth_path("breast-2d")))
    return finding(sitk.GetArrayFromImage(truth) > 0, truth.GetSpacing())


def test_slicers_reader_and_ours_agree_on_it(scene):
    volume, loaded = mrml_sample.add_real_image(scene), read_image(sample_data.sample_path("breast-2d"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mrml.image_from_volume(volume))[0], sitk.GetArrayFromImage(loaded.image))
    assert volume.GetSpacing()[:2] == pytest.approx(loaded.image.GetSpacing()) and mrml.spacing_known(volume)


def test_nothing_speaks_against_the_reference_itself_where_the_scene_shows_it(scene, reference):
    volume = mrml_sample.add_real_image(scene)
    nodes = mrml.show_study(scene, replace(mrml_study(volume), findings=(reference,)), volume)
    place = [0.0, 0.0, 0.0]
    nodes.points.GetNthControlPointPositionWorld(0, place)
    assert mrml_sample.disagreements(reference, place) == []


def mrml_study(volume):
    from BreastUSAILib.findings import ImageInfo, Study

    image = mrml.image_from_volume(volume)
    return Study(ImageInfo(volume.GetName(), image.GetSize()[:2], image.GetSpacing()[:2], (0.0, 0.0), (1.0, 0.0, 0.0, 1.0), True))


def test_a_finding_that_is_not_the_lesion_is_told(reference):
    mask, spacing = sitk.GetArrayFromImage(reference.mask) > 0, reference.mask.GetSpacing()
    right, here = mrml_sample.disagreements, mrml_sample.reference_center()
    assert right(reference, here) == []
    for other in (np.roll(mask, 30, 0), np.roll(mask, -30, 1), mask[::-1], mask[:, ::-1]):
        (said,) = right(finding(other, spacing), here)
        assert "Dice coefficient of L1" in said
    for grown in (1.3, 0.7, 1 / spacing[0] ** 2):
        (said,) = right(replace(reference, measurements={"area_mm2": grown * reference.measurements["area_mm2"]}), here)
        assert "area of L1" in said
    x, y, z = here
    for place in (None, (-x, y, z), (x, -y, z), (y, x, z), (x + 2, y, z), (x / spacing[0], y / spacing[1], z)):
        (said,) = right(reference, place)
        assert "is shown at" in said
    (said,) = right(replace(reference, mask=None, label=None), here)
    assert "no outline" in said
    assert "no outline" in right(finding(mask.T, spacing), here)[0]


def test_a_file_that_cannot_be_read_is_told(scene, tmp_path, monkeypatch):
    monkeypatch.setattr(sample_data, "FILES", tmp_path)
    with pytest.raises(DataError, match="install BreastUSAI again"):
        mrml_sample.add_real_image(scene)
    (tmp_path / "a.nrrd").write_bytes(b"NRRD0004")
    monkeypatch.setattr(sample_data, "sample_path", lambda name: tmp_path / "a.nrrd")
    with pytest.raises(DataError, match="was not read as a volume"):
        mrml_sample.add_real_image(scene)
