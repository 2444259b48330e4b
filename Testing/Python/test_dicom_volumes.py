"""Volumes in one DICOM file (Siemens ABVS, Enhanced US Volume) and in a series of files: geometry, gaps, duplicates, refusals."""

import subprocess
from shutil import which

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_samples import abvs, enhanced_volume, one_of_each, save, slices, speckle, us_cine
from hypothesis import given
from hypothesis import strategies as st
from slicer_dicom_reader import read_with_slicer

from BreastUSAILib.dicom_geometry import stack_frames
from BreastUSAILib.errors import ImageError, UsageError
from BreastUSAILib.image import read_image

SPACING = (0.2, 0.3, 0.5)
VOXELS = speckle((6, 12, 16))
SIZE = VOXELS.shape[::-1]
ORIGIN = (10.0, -20.0, 30.0)
X, Y = (0.8, 0.6, 0.0), (0.0, 0.0, -1.0)
OBLIQUE = {"origin": ORIGIN, "x": X, "y": Y}


def voxels_of(loaded):
    return sitk.GetArrayFromImage(loaded.image)


def matrix_of(image) -> np.ndarray:
    """(i, j, k, 1) to LPS."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return matrix


def sentence(path, **options) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(path, **options)
    text = str(caught.value)
    assert str(path) in text and text.endswith(".") and "\n" not in text
    return text


# ------------------------------------------------------------------------------------------------- the samples themselves


@pytest.mark.skipif(which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
def test_the_samples_are_valid_dicom(tmp_path):
    for name, path in one_of_each(tmp_path).items():
        said = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
        errors = [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]
        assert errors == [], name


# --------------------------------------------------------------------------------------------------- Siemens ABVS


def test_abvs_is_slicers_volume(tmp_path):
    pytest.importorskip("slicer")
    path = save(abvs(VOXELS, SPACING), tmp_path / "a.dcm")
    loaded = read_image(path)
    voxels, matrix = read_with_slicer([path], "DCMTK")
    np.testing.assert_array_equal(voxels_of(loaded), voxels)
    np.testing.assert_allclose(matrix_of(loaded.image), matrix, atol=1e-6)
    # Slicer's other reader does not look at the distance between the frames, and agrees in the rest.
    voxels, matrix = read_with_slicer([path], "GDCM")
    np.testing.assert_array_equal(voxels_of(loaded), voxels)
    np.testing.assert_allclose(matrix_of(loaded.image)[:, [0, 1, 3]], matrix[:, [0, 1, 3]], atol=1e-6)


def test_abvs_says_what_it_shows(tmp_path):
    loaded = read_image(save(abvs(VOXELS, SPACING, description="L MED", laterality="L"), tmp_path / "a.dcm"))
    assert (loaded.laterality, loaded.view, loaded.acquisition) == ("L", "MED", None)
    assert loaded.spacing_known


def test_frames_without_time_or_distance_need_three_spacings(tmp_path):
    ds = us_cine(VOXELS)
    del ds.FrameTime
    path = save(ds, tmp_path / "a.dcm")
    cine = read_image(path)
    assert cine.image.GetSize() == SIZE[:2]
    assert any("neither the time nor the distance" in note for note in cine.notes)
    volume = read_image(path, spacing_mm=SPACING)
    np.testing.assert_array_equal(voxels_of(volume), VOXELS)
    assert volume.image.GetSpacing() == SPACING


# ---------------------------------------------------------------------------------------------- Enhanced US Volume


def test_enhanced_volume_is_slicers_volume(tmp_path):
    pytest.importorskip("slicer")
    path = save(enhanced_volume(VOXELS, SPACING, in_patient=True, **OBLIQUE), tmp_path / "a.dcm")
    loaded = read_image(path)
    voxels, matrix = read_with_slicer([path], "DCMTK")
    np.testing.assert_array_equal(voxels_of(loaded), voxels)
    np.testing.assert_allclose(matrix_of(loaded.image), matrix, atol=1e-6)


@pytest.mark.parametrize("in_patient", [False, True])
def test_enhanced_volume_with_its_frames_in_any_order(tmp_path, in_patient):
    order = np.array([3, 0, 5, 4, 1, 2])
    ds = enhanced_volume(VOXELS[order], SPACING, places=order * 0.5, in_patient=in_patient, **OBLIQUE)
    loaded = read_image(save(ds, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(voxels_of(loaded), VOXELS)
    expected = np.eye(4)
    expected[:3, :3] = np.stack([X, Y, np.cross(X, Y)], axis=1) * SPACING
    expected[:3, 3] = ORIGIN
    np.testing.assert_allclose(matrix_of(loaded.image), expected, atol=1e-9)
    assert any("not to the patient" in note for note in loaded.notes) != in_patient
    assert (loaded.laterality, loaded.view) == ("R", "LAT")


def test_frames_against_the_normal_are_put_in_its_direction(tmp_path):
    ds = enhanced_volume(VOXELS, SPACING, places=-0.5 * np.arange(6), **OBLIQUE)
    loaded = read_image(save(ds, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(voxels_of(loaded), VOXELS[::-1])
    np.testing.assert_allclose(loaded.image.TransformIndexToPhysicalPoint((0, 0, 5)), ORIGIN, atol=1e-9)


def test_a_missing_frame_is_interpolated_and_named(tmp_path):
    kept = [0, 1, 3, 4, 5]
    ds = enhanced_volume(VOXELS[kept], SPACING, places=0.5 * np.array(kept), **OBLIQUE)
    loaded = read_image(save(ds, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(voxels_of(loaded)[kept], VOXELS[kept])
    between = np.rint((VOXELS[1].astype(float) + VOXELS[3]) / 2)
    np.testing.assert_array_equal(voxels_of(loaded)[2], between)
    assert any("1 of 6 slices is missing (slice 3)" in note for note in loaded.notes)


def test_many_missing_frames_are_refused_by_name(tmp_path):
    kept = [0, 1, 5]
    path = save(enhanced_volume(VOXELS[kept], SPACING, places=0.5 * np.array(kept)), tmp_path / "a.dcm")
    assert "uneven" in sentence(path)  # nobody can know which of the two distances is the step
    kept = [0, 1, 2, 5]
    path = save(enhanced_volume(VOXELS[kept], SPACING, places=0.5 * np.array(kept)), tmp_path / "b.dcm")
    assert "lacks 2 of 6 slices (slice 4-5, 0.5 mm apart)" in sentence(path)


def test_the_same_frame_twice_is_left_out_and_named(tmp_path):
    order = [0, 1, 2, 2, 3, 4, 5]
    ds = enhanced_volume(VOXELS[order], SPACING, places=0.5 * np.array(order), times=[1] * 7)
    loaded = read_image(save(ds, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(voxels_of(loaded), VOXELS)
    assert "1 duplicate slice left out (frame 4)" in loaded.notes


def test_two_frames_in_one_place_are_refused(tmp_path):
    ds = enhanced_volume(VOXELS, SPACING, places=[0, 0.5, 1, 1.5, 1.5, 2], times=[1] * 6)
    assert "two different slices in one place (frame 4 and frame 5)" in sentence(save(ds, tmp_path / "a.dcm"))


def test_a_time_series_is_refused(tmp_path):
    ds = enhanced_volume(VOXELS, SPACING, places=[0, 0.5, 1] * 2, times=[1, 1, 1, 2, 2, 2])
    assert "time series" in sentence(save(ds, tmp_path / "a.dcm"))


def test_only_frames_of_tissue_are_taken(tmp_path):
    places, types = [0, 0, 0.5, 0.5, 1, 1], ["TISSUE_INTENSITY", "FLOW_POWER"] * 3
    loaded = read_image(save(enhanced_volume(VOXELS, SPACING, places=places, types=types), tmp_path / "a.dcm"))
    np.testing.assert_array_equal(voxels_of(loaded), VOXELS[::2])
    assert "3 frames of FLOW_POWER left out" in loaded.notes
    flow = save(enhanced_volume(VOXELS, SPACING, types=["FLOW_POWER"] * 6), tmp_path / "b.dcm")
    assert "FLOW_POWER but no B-mode" in sentence(flow)


def test_frames_that_are_no_volume(tmp_path):
    tilted = enhanced_volume(VOXELS, SPACING)
    axes = tilted.SharedFunctionalGroupsSequence[0].PlaneOrientationVolumeSequence
    del tilted.SharedFunctionalGroupsSequence[0].PlaneOrientationVolumeSequence
    from copy import deepcopy

    for k, frame in enumerate(tilted.PerFrameFunctionalGroupsSequence):
        frame.PlaneOrientationVolumeSequence = deepcopy(axes)
        angle = 0.05 * k
        frame.PlaneOrientationVolumeSequence[0].ImageOrientationVolume = [1, 0, 0, 0, np.cos(angle), np.sin(angle)]
    assert "not parallel" in sentence(save(tilted, tmp_path / "a.dcm"))

    zoomed = enhanced_volume(VOXELS, SPACING)
    measures = zoomed.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    del zoomed.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    for k, frame in enumerate(zoomed.PerFrameFunctionalGroupsSequence):
        frame.PixelMeasuresSequence = deepcopy(measures)
        frame.PixelMeasuresSequence[0].PixelSpacing = [0.3 + 0.1 * k, 0.2]
    assert "different pixel spacing" in sentence(save(zoomed, tmp_path / "b.dcm"))


# ------------------------------------------------------------------------------------------------ a series of files


def write_series(folder, files, names=None):
    names = names or [f"IM{k:04}" for k in range(len(files))]
    return tuple(save(ds, folder / name) for ds, name in zip(files, names, strict=True))


def test_a_series_is_slicers_volume(tmp_path):
    pytest.importorskip("slicer")
    paths = write_series(tmp_path, slices(VOXELS, SPACING, **OBLIQUE))
    loaded = read_image(paths[0], files=paths)
    voxels, matrix = read_with_slicer(
        list(paths), "GDCM"
    )  # its other reader takes rows for columns in Pixel Spacing here
    np.testing.assert_array_equal(voxels_of(loaded), voxels)
    np.testing.assert_allclose(matrix_of(loaded.image), matrix, atol=1e-5)


def test_the_names_of_the_files_do_not_matter(tmp_path):
    paths = write_series(tmp_path, slices(VOXELS, SPACING, **OBLIQUE), ["d", "a", "f", "b", "c", "e"])
    loaded = read_image(paths[1], files=paths)
    np.testing.assert_array_equal(voxels_of(loaded), VOXELS)
    np.testing.assert_allclose(loaded.image.GetSpacing(), SPACING)
    assert loaded.files == paths
    assert (loaded.laterality, loaded.view) == ("L", "AP")
    assert "6 files of one series put together" in loaded.notes


def test_gaps_and_duplicates_of_a_series_are_named(tmp_path):
    files = slices(VOXELS, SPACING)
    paths = write_series(tmp_path, [files[k] for k in (0, 1, 3, 4, 4, 5)])
    loaded = read_image(paths[0], files=paths)
    assert any("(slice 3) and interpolated" in note for note in loaded.notes)
    assert "1 duplicate slice left out (IM0004)" in loaded.notes
    np.testing.assert_array_equal(voxels_of(loaded)[[0, 1, 3, 4, 5]], VOXELS[[0, 1, 3, 4, 5]])


def test_slices_placed_by_slice_location_alone(tmp_path):
    files = slices(VOXELS, SPACING)
    for k, ds in enumerate(files):
        del ds.ImagePositionPatient, ds.ImageOrientationPatient
        ds.SliceLocation = 2.5 - 0.5 * k
    paths = write_series(tmp_path, files)
    loaded = read_image(paths[0], files=paths)
    np.testing.assert_array_equal(voxels_of(loaded), VOXELS[::-1])
    np.testing.assert_allclose(loaded.image.GetSpacing(), SPACING)


def test_files_that_do_not_fit_together(tmp_path):
    files = slices(VOXELS, SPACING)
    files[2].PixelSpacing = [1, 1]
    paths = write_series(tmp_path / "a", files)
    with pytest.raises(ImageError, match="IM0002 differs from IM0000"):
        read_image(paths[0], files=paths)
    files = slices(VOXELS, SPACING)
    del files[1].ImagePositionPatient
    paths = write_series(tmp_path / "b", files)
    with pytest.raises(ImageError, match="IM0001 does not say where"):
        read_image(paths[0], files=paths)
    files = slices(VOXELS, SPACING)
    for ds in files:
        ds.ImagePositionPatient = [0, 0, 0]
    paths = write_series(tmp_path / "c", files)
    with pytest.raises(ImageError, match="lie in one place"):
        read_image(paths[0], files=paths)


def test_a_series_is_no_cine(tmp_path):
    paths = write_series(tmp_path, slices(VOXELS, SPACING))
    with pytest.raises(UsageError, match="no frame 2"):
        read_image(paths[0], files=paths, frame=2)


# --------------------------------------------------------------------------------------------------------- stacks


@given(
    count=st.integers(3, 60),
    step=st.floats(0.05, 5),
    order=st.randoms(use_true_random=False),
    offset=st.tuples(*[st.floats(-100, 100)] * 3),
    digits=st.integers(4, 8),
)
def test_an_even_stack_is_found_in_any_order(tmp_path_factory, count, step, order, offset, digits):
    direction = np.stack([X, Y, np.cross(X, Y)], axis=1)
    ranks = list(range(count))
    order.shuffle(ranks)
    points = np.round(np.add(offset, np.outer(ranks, step * direction[:, 2])), digits)
    stack = stack_frames("a.dcm", points, direction)
    assert [frames for frames in stack.slices] == [(ranks.index(k),) for k in range(count)]
    assert stack.step == pytest.approx(step, abs=2e-4)
    assert stack.notes == ()


@given(missing=st.sets(st.integers(1, 98), min_size=1, max_size=5), step=st.floats(0.05, 5))
def test_every_gap_is_found(missing, step):
    kept = [k for k in range(100) if k not in missing]
    points = np.outer(kept, [0, 0, step])
    runs = max(len(run) for run in "".join("x" if k in missing else " " for k in range(100)).split())
    if runs > 2:
        with pytest.raises(ImageError, match=f"lacks {len(missing)} of 100"):
            stack_frames("a.dcm", points, np.eye(3))
    else:
        stack = stack_frames("a.dcm", points, np.eye(3))
        assert {k for k, frames in enumerate(stack.slices) if not frames} == missing
        assert f"{len(missing)} of 100" in stack.notes[0]


def test_frames_of_which_some_lie_nowhere_are_refused(tmp_path):
    ds = enhanced_volume(VOXELS, SPACING)
    del ds.PerFrameFunctionalGroupsSequence[2].PlanePositionVolumeSequence
    assert "says of 1 of 6 frames not where they lie" in sentence(save(ds, tmp_path / "a.dcm"))
    ds = enhanced_volume(VOXELS, SPACING)
    del ds.PerFrameFunctionalGroupsSequence[4]
    assert "1 of 6 frames" in sentence(save(ds, tmp_path / "b.dcm"))
