"""grid.py: what leaves a grid comes back to it exactly, on oblique and anisotropic grids, in 2D and 3D."""

import math

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from BreastUSAILib.errors import ImageError, UsageError
from BreastUSAILib.findings import Box
from BreastUSAILib.grid import (
    as_2d,
    box_of_mask,
    box_region,
    crop_to_box,
    from_2d,
    image_box,
    index_box,
    paste_back,
    physical_to_index,
    resample_like,
    resample_to_spacing,
)

_finite = st.floats(-500, 500)
_spacing = st.floats(0.03, 5)
_angle = st.floats(-math.pi, math.pi)


def _rotation(angles) -> np.ndarray:
    if len(angles) == 1:
        c, s = math.cos(angles[0]), math.sin(angles[0])
        return np.array([[c, -s], [s, c]])
    transform = sitk.Euler3DTransform()
    transform.SetRotation(*angles)
    return np.array(transform.GetMatrix()).reshape(3, 3)


@st.composite
def grids(draw, dimension=None, smallest=1):
    """An oblique anisotropic image, possibly with a mirrored axis, of random content."""
    d = dimension or draw(st.sampled_from([2, 3]))
    size = [draw(st.integers(smallest, 12)) for _ in range(d)]
    pixels = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).integers(0, 256, size[::-1])
    image = sitk.GetImageFromArray(pixels.astype(draw(st.sampled_from([np.uint8, np.int16, np.float32]))))
    direction = _rotation([draw(_angle) for _ in range(1 if d == 2 else 3)])
    direction[:, 0] *= draw(st.sampled_from([1, -1]))
    image.SetDirection(direction.ravel())
    image.SetSpacing([draw(_spacing) for _ in range(d)])
    image.SetOrigin([draw(_finite) for _ in range(d)])
    return image


@st.composite
def grids_with_region(draw):
    image = draw(grids())
    start = [draw(st.integers(0, n - 1)) for n in image.GetSize()]
    size = [draw(st.integers(1, n - s)) for n, s in zip(image.GetSize(), start, strict=True)]
    return image, start, size


def _region(start, size):
    return tuple(slice(s, s + n) for s, n in reversed(list(zip(start, size, strict=True))))


@given(grids_with_region())
@settings(deadline=None)
def test_crop_and_paste_back_are_exact(case):
    image, start, size = case
    crop = crop_to_box(image, index_box(image, start, size))
    pixels = sitk.GetArrayFromImage(image)
    assert crop.GetSize() == tuple(size)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(crop), pixels[_region(start, size)])
    np.testing.assert_allclose(crop.GetOrigin(), image.TransformIndexToPhysicalPoint(start), atol=1e-9)

    back = paste_back(crop, image, background=7)
    expected = np.full_like(pixels, 7)
    expected[_region(start, size)] = pixels[_region(start, size)]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), expected)
    assert back.GetPixelID() == image.GetPixelID()
    assert (back.GetOrigin(), back.GetSpacing(), back.GetDirection()) == (
        image.GetOrigin(),
        image.GetSpacing(),
        image.GetDirection(),
    )


@given(grids_with_region())
@settings(deadline=None)
def test_box_of_a_mask_is_its_region_from_edge_to_edge(case):
    image, start, size = case
    array = np.zeros(image.GetSize()[::-1], np.uint8)
    array[_region(start, size)] = 1
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(image)
    box = box_of_mask(mask)
    assert box_region(mask, box) == (tuple(start), tuple(size))
    np.testing.assert_allclose(box.size[: len(size)], np.multiply(size, image.GetSpacing()))
    if len(size) == 2:
        assert box.center[2] == box.size[2] == 0
    # Both outer corners are half a pixel outside the outermost pixel centres.
    d = image.GetDimension()
    axes = np.array(image.GetDirection()).reshape(d, d)
    corner = np.array(box.center[:d]) - axes @ (np.array(box.size[:d]) / 2)
    np.testing.assert_allclose(
        corner, image.TransformContinuousIndexToPhysicalPoint([s - 0.5 for s in start]), atol=1e-6
    )


def test_box_of_an_empty_mask_is_none():
    assert box_of_mask(sitk.Image(4, 5, sitk.sitkUInt8)) is None


@given(grids(smallest=2), st.lists(_spacing, min_size=3, max_size=3))
@settings(deadline=None)
def test_resampling_keeps_the_physical_extent(image, factors):
    spacing = [min(s * f, 5) for s, f in zip(image.GetSpacing(), factors, strict=False)]
    result = resample_to_spacing(image, [max(s, e / 3) for s, e in zip(spacing, image.GetSpacing(), strict=True)])
    np.testing.assert_allclose(image_box(result).center, image_box(image).center, atol=1e-6)
    np.testing.assert_allclose(image_box(result).size, image_box(image).size, rtol=1e-9)
    assert result.GetDirection() == image.GetDirection()
    assert result.GetPixelID() == image.GetPixelID()


@given(grids(smallest=5), st.sampled_from([2, 3, 4]))
@settings(deadline=None)
def test_linear_ramp_survives_resampling_there_and_back_inside(image, factor):
    d = image.GetDimension()
    ramp = sum((i + 1) * g for i, g in enumerate(np.indices(image.GetSize()[::-1]))).astype(np.float64)
    source = sitk.GetImageFromArray(ramp)
    source.CopyInformation(image)
    fine = resample_to_spacing(source, [s / factor for s in image.GetSpacing()])
    assert fine.GetSize() == tuple(n * factor for n in image.GetSize())
    back = resample_like(fine, source)
    inner = (slice(1, -1),) * d
    np.testing.assert_allclose(sitk.GetArrayFromImage(back)[inner], ramp[inner], atol=1e-6)


def test_interpolated_integers_are_rounded_not_cut_off():
    image = sitk.GetImageFromArray(np.array([[0, 1, 2, 3]] * 2, np.uint8))
    fine = resample_to_spacing(image, (0.2, 1))
    values = sitk.GetArrayFromImage(fine)[0]
    exact = np.clip((np.arange(20) + 0.5) / 5 - 0.5, 0, 3)
    assert np.abs(values - exact).max() <= 0.5 + 1e-6
    assert values.dtype == np.uint8


def test_overshoot_of_splines_does_not_wrap_around():
    image = sitk.GetImageFromArray(np.repeat([[0] * 8 + [255] * 8], 8, axis=0).astype(np.uint8))
    fine = sitk.GetArrayFromImage(resample_to_spacing(image, 0.25, interpolator=sitk.sitkBSpline))
    assert fine[:, :20].max() < 60
    assert fine[:, -20:].min() > 200


def test_labels_stay_labels():
    image = sitk.GetImageFromArray(np.random.default_rng(0).choice([0, 3, 9], (9, 9)).astype(np.uint8))
    fine = resample_to_spacing(image, 0.37, interpolator=sitk.sitkNearestNeighbor)
    assert set(np.unique(sitk.GetArrayFromImage(fine))) == {0, 3, 9}


def test_default_outside():
    image = sitk.Image(4, 4, sitk.sitkUInt8) + 1
    reference = sitk.Image(8, 4, sitk.sitkUInt8)
    result = sitk.GetArrayFromImage(resample_like(image, reference, default=9))
    assert (result[:, :4] == 1).all()
    assert (result[:, 5:] == 9).all()


def test_margin_adds_whole_pixels_and_stops_at_the_edge():
    image = sitk.Image(20, 20, sitk.sitkUInt8)
    image.SetSpacing((0.5, 1.0))
    box = index_box(image, (2, 10), (4, 4))
    assert box_region(image, box, margin_mm=1.0) == ((0, 9), (8, 6))
    assert box_region(image, box, margin_mm=1.2) == ((0, 8), (9, 8))
    assert box_region(image, box, margin_mm=1000) == ((0, 0), (20, 20))


def test_a_point_box_takes_one_pixel_and_a_partial_one_all_it_touches():
    image = sitk.Image(10, 10, sitk.sitkUInt8)
    assert box_region(image, Box((4.2, 5.0, 0), (0, 0, 0))) == ((4, 5), (1, 1))
    assert box_region(image, Box((4.0, 5.0, 0), (1.2, 1, 0))) == ((3, 5), (3, 1))


@pytest.mark.parametrize("center", [(-5, 5, 0), (5, 15, 0)])
def test_a_box_outside_the_image_is_an_error(center):
    with pytest.raises(ImageError, match="outside the image"):
        crop_to_box(sitk.Image(10, 10, sitk.sitkUInt8), Box(center, (4, 4, 0)))


def test_paste_back_refuses_what_is_not_on_the_lattice():
    image = sitk.Image(10, 10, sitk.sitkUInt8)
    crop = image[2:5, 2:5]
    crop.SetOrigin((2.4, 2))
    with pytest.raises(ImageError, match="resample_like"):
        paste_back(crop, image)
    crop = image[2:5, 2:5]
    crop.SetSpacing((1.1, 1))
    with pytest.raises(ImageError, match="resample_like"):
        paste_back(crop, image)
    crop.SetSpacing((1, 1))
    crop.SetOrigin((50, 50))
    with pytest.raises(ImageError, match="outside the image"):
        paste_back(crop, image)


def test_paste_back_drops_what_lies_outside():
    image = sitk.Image(4, 4, sitk.sitkUInt8)
    crop = sitk.GetImageFromArray(np.arange(9, dtype=np.uint8).reshape(3, 3))
    crop.SetOrigin((-1, 3))
    expected = np.zeros((4, 4), np.uint8)
    expected[3, :2] = [1, 2]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(paste_back(crop, image)), expected)


@given(grids(dimension=3, smallest=2), st.sampled_from([0, 1, 2]), st.integers(0, 11))
@settings(deadline=None)
def test_single_slices_go_to_2d_and_back(volume, axis, index):
    index %= volume.GetSize()[axis]
    cut = [slice(None)] * 3
    cut[axis] = slice(index, index + 1)
    single = volume[tuple(cut)]
    plane = as_2d(single)
    others = [a for a in range(3) if a != axis]
    assert plane.GetSize() == tuple(single.GetSize()[a] for a in others)
    assert plane.GetSpacing() == tuple(single.GetSpacing()[a] for a in others)
    back = from_2d(plane, single)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(single))
    assert (back.GetOrigin(), back.GetSpacing(), back.GetDirection()) == (
        single.GetOrigin(),
        single.GetSpacing(),
        single.GetDirection(),
    )
    assert as_2d(volume) is None


def test_from_2d_refuses_another_size():
    with pytest.raises(ImageError, match="does not fit"):
        from_2d(sitk.Image(3, 4, sitk.sitkUInt8), sitk.Image(4, 3, 1, sitk.sitkUInt8))


@pytest.mark.parametrize("spacing", [0, -1, float("nan"), (1, 0), (1, 1, 1)])
def test_impossible_spacings(spacing):
    with pytest.raises(UsageError, match="spacing"):
        resample_to_spacing(sitk.Image(4, 4, sitk.sitkUInt8), spacing)


def test_a_direction_that_itk_cannot_invert_is_as_good_as_any():
    # Found by the test above: with components this small ITK's singular value decomposition fails, and resampling with it.
    tiny = 2.225073858507203e-309
    ramp = sum((i + 1) * g for i, g in enumerate(np.indices((6, 7, 5)))).astype(np.float64)
    image = sitk.GetImageFromArray(ramp)
    image.SetDirection((1.0, -tiny, 0.0, tiny, 1.0, 0.0, 0.0, 0.0, 1.0))
    for index in ((0, 0, 0), (3, 2, 4)):
        np.testing.assert_allclose(physical_to_index(image, index), index, atol=1e-9)
    back = resample_like(resample_to_spacing(image, 0.5), image)
    np.testing.assert_allclose(sitk.GetArrayFromImage(back)[1:-1, 1:-1, 1:-1], ramp[1:-1, 1:-1, 1:-1], atol=1e-6)
    assert back.GetDirection() == image.GetDirection() and back.GetOrigin() == image.GetOrigin()
