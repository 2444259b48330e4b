"""A network's input beside its definition: levels, and samples of parts that leave the volume."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from BreastUSAILib.lesion_crop import Region
from BreastUSAILib.volume_input import LEVELS_A_DEVIATION, MEAN_LEVEL, averaging, levels_of, network_input, sampled

OBLIQUE = (0.36, 0.48, -0.8, -0.8, 0.60, 0.0, 0.48, 0.64, 0.60)


def speckle(kind, scale=1.0, offset=0.0, shape=(12, 15, 18)):
    """Grains, with a tenth of the lowest value where the probe does not touch."""
    array = np.random.default_rng(7).rayleigh(40, shape)
    array[:, :, :2] = 0
    return (np.clip(array, 0, 255) * scale + offset).astype(kind)


@pytest.mark.parametrize(
    ("kind", "scale", "offset"),
    [
        (np.uint8, 1, 0),
        (np.int16, 100, -9000),
        (np.int32, 5e6, -1e9),
        (np.float32, 1e-6, 0),
        (np.float64, 1e300, -1e302),
    ],
)
def test_levels_are_deviations_from_the_mean_of_what_is_above_the_lowest_value(kind, scale, offset):
    array = speckle(kind, scale, offset)
    values = array.astype(float) / scale
    seen = values[values > values.min()]
    expected = MEAN_LEVEL + LEVELS_A_DEVIATION * (values - seen.mean()) / seen.std()
    found = levels_of(array)
    assert found.dtype == np.uint8 and np.ptp(found) > 100
    # Half a level is rounded, either way.
    assert np.abs(found - np.clip(expected, 0, 255)).max() <= 0.5 + 1e-3


def test_levels_of_what_is_not_finite_are_those_of_the_lowest():
    array = speckle(np.float32)
    array[:, :, :2] = [np.nan, -np.inf]
    clean = speckle(np.float32)
    clean[:, :, :2] = array[:, :, 2:].min()
    assert np.array_equal(levels_of(array), levels_of(clean))


@pytest.mark.parametrize("value", [0, 7, 255])
def test_levels_of_one_value_are_the_mean(value):
    assert np.all(levels_of(np.full((3, 4, 5), value, np.uint8)) == MEAN_LEVEL)
    assert np.all(levels_of(np.full((3, 4, 5), np.nan)) == MEAN_LEVEL)
    image = sitk.GetImageFromArray(np.full((3, 4, 5), value, np.uint8))
    assert np.all(network_input(image, (2.0, 2.0, 2.0)).levels == MEAN_LEVEL)


@pytest.mark.parametrize("size", [(3, 40, 5), (40, 4, 70), (17, 15, 18)])
def test_samples_are_the_products_of_three_matrices(size):
    array = speckle(np.uint8, shape=(21, 15, 37))
    matrices = [averaging(n, 0.0, n, k) for n, k in zip(array.shape, size, strict=True)]
    expected = np.einsum("zyx,cz,by,ax->cba", array.astype(float), *(m.double().numpy() for m in matrices))
    found = sampled(array, lambda part: part.astype(np.float32), matrices)
    assert np.allclose(found.numpy(), expected, atol=1e-3)
    # Rows that weigh nothing at all, as of a crop that leaves the volume.
    matrices[1] = torch.cat([torch.zeros(40, array.shape[1]), matrices[1]])
    assert not sampled(array, lambda part: part.astype(np.float32), matrices)[:, :40].any()


@pytest.mark.parametrize("corner", [(-9.0, 3.5, -10.0), (5.0, -20.0, 6.0), (14.0, 10.0, 9.0)])
def test_a_crop_that_leaves_the_volume_is_that_of_a_volume_with_a_border(corner):
    """The border has the label 0; in the echoes it counts as the mean level of what is seen."""
    array = (speckle(np.uint8) > 30).astype(np.uint8)
    plain, bordered = (sitk.GetImageFromArray(a) for a in (array, np.pad(array, 60)))
    for image in (plain, bordered):
        image.SetSpacing((0.4, 0.3, 0.5))
        image.SetDirection(OBLIQUE)
    bordered.SetOrigin(bordered.TransformIndexToPhysicalPoint((-60, -60, -60)))
    centre = plain.TransformContinuousIndexToPhysicalPoint(corner)
    there = Region.about(plain, centre, 0.7, (24, 20, 20))
    found = there.read_share(plain, 1)
    assert found.max() > 0.1 and np.any(found == 0)
    assert np.allclose(found, Region.about(bordered, centre, 0.7, (24, 20, 20)).read_share(bordered, 1), atol=1e-5)
    read = there.read(plain)
    beyond = Region.about(bordered, centre, 0.7, (24, 20, 20)).read_share(sitk.Cast(bordered >= 0, sitk.sitkUInt8), 1)
    assert beyond.min() > 0.999  # the bordered volume holds all of the region
    whole = sitk.GetImageFromArray(np.ones_like(array))
    whole.CopyInformation(plain)
    assert np.allclose(read[there.read_share(whole, 1) == 0], MEAN_LEVEL, atol=1e-3)
