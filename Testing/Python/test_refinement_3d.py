"""The refiner on probability maps of volumes: what it may change, and that it mends degraded masks on phantoms."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from BreastUSAILib.chan_vese import ChanVeseParameters
from BreastUSAILib.errors import ImageError, UsageError
from BreastUSAILib.phantom import LesionRequest, PhantomSpec, generate
from BreastUSAILib.phantom.grids import PhantomGrid
from BreastUSAILib.refinement_3d import refine_3d

SPACING = (0.8, 0.5, 0.6)
SHAPE = (26, 32, 30)


def ball(radius=6.0, centre=(0.0, 0.0, 0.0)):
    """(z, y, x) bool; radius and centre in mm."""
    axes = [(np.arange(n) - (n - 1) / 2) * s - c for n, s, c in zip(SHAPE, SPACING, centre, strict=True)]
    return sum(a**2 for a in np.meshgrid(*axes, indexing="ij")) < radius**2


def blurred(mask, mm=1.0):
    return ndimage.gaussian_filter(mask.astype(np.float32), [mm / s for s in SPACING])


def picture(mask, seed=0):
    """Speckle, darker inside."""
    grey = np.where(mask, 40.0, 120.0) * np.random.default_rng(seed).gamma(5.0, 0.2, mask.shape)
    return grey.clip(0, 255).astype(np.uint8)


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("wrong", [{"radius": 5.2}, {"radius": 6.7}, {"centre": (0.0, 0.9, 0.9)}])
def test_a_border_beside_the_edge_moves_onto_it(wrong):
    truth = ball()
    start = ball(**{"radius": 6.0, **wrong})
    refined = refine_3d(blurred(start), picture(truth), SPACING)
    assert refined.refined
    assert dice(refined.mask, truth) > 0.87
    assert dice(refined.mask, truth) > dice(start, truth) + 0.05


def test_degraded_masks_of_phantoms_are_mended():
    """Maps whose border wanders by a sixth of the radius, as unsure networks draw them."""
    grid = PhantomGrid(size=(48, 36, 48), spacing=(0.7, 0.6, 0.7), top=4.0, whole=False)
    request = LesionRequest(descriptors={"margin": "circumscribed", "echo_pattern": "hypoechoic"}, volume_ml=1.2)
    gains = []
    for seed in (981_000_000, 981_000_001):
        phantom = generate(seed, PhantomSpec(grid=grid, lesions=(request,)))
        image, truth = sitk.GetArrayFromImage(phantom.image), sitk.GetArrayFromImage(phantom.labels) == 1
        spacing = np.array(phantom.image.GetSpacing()[::-1])
        radius = (3 * truth.sum() * spacing.prod() / (4 * np.pi)) ** (1 / 3)
        distance = ndimage.distance_transform_edt(truth, spacing) - ndimage.distance_transform_edt(~truth, spacing)
        wander = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=truth.shape), 0.5 * radius / spacing)
        distance = ndimage.gaussian_filter(distance, 0.1 * radius / spacing) + wander / wander.std() * radius / 6
        map_ = 1 / (1 + np.exp(-distance / (0.12 * radius)))
        refined = refine_3d(map_, image, spacing)
        gains.append(dice(refined.mask, truth) - dice(map_ > 0.5, truth))
    assert min(gains) > 0 and np.mean(gains) > 0.02


def test_an_image_that_says_nothing_leaves_the_networks_border():
    start = ball()
    flat = np.full(SHAPE, 90, np.uint8)
    refined = refine_3d(blurred(start), flat, SPACING)
    assert not refined.refined and "flat" in refined.reason
    np.testing.assert_array_equal(refined.mask, blurred(start) > 0.5)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_the_prior_is_neutral_at_the_threshold(threshold):
    """The map alone (no image, no length) gives back the mask of its own threshold."""
    truth = ball()
    map_ = blurred(truth, 1.5)
    alone = ChanVeseParameters(
        mu1=0, mu2=0, alpha=0, prior=1.0, max_change=10.0, levels=1, min_dice=0.0, max_size_factor=9
    )
    refined = refine_3d(map_, picture(truth), SPACING, threshold=threshold, mask=ball(5.5), parameters=alone)
    assert refined.refined
    assert dice(refined.mask, map_ > threshold) > 0.999


def test_the_start_is_the_largest_component_without_holes_or_the_mask_that_is_given():
    truth = ball(5.0)
    map_ = blurred(truth, 0.5)
    map_[13, 16, 15] = 0.1  # a hole
    map_[1:3, 1:3, 1:3] = 0.9  # a crumb
    kept = refine_3d(map_, np.zeros(SHAPE, np.uint8), SPACING).mask
    assert kept[13, 16, 15] and not kept[:4, :4, :4].any()
    given = ball(3.0)
    np.testing.assert_array_equal(refine_3d(map_, np.zeros(SHAPE), SPACING, mask=given).mask, given)


def test_an_empty_map_is_an_ordinary_result():
    refined = refine_3d(np.zeros(SHAPE), picture(ball()), SPACING)
    assert not refined.refined and not refined.mask.any() and "empty" in refined.reason


def test_what_makes_no_sense_is_refused():
    map_, image = blurred(ball()), picture(ball())
    with pytest.raises(UsageError, match="one shape"):
        refine_3d(map_[1:], image, SPACING)
    with pytest.raises(UsageError, match="3D"):
        refine_3d(map_[0], image[0], SPACING[1:])
    with pytest.raises(UsageError, match="between 0 and 1"):
        refine_3d(np.where(ball(), np.nan, 0), image, SPACING)
    with pytest.raises(UsageError, match="threshold"):
        refine_3d(map_, image, SPACING, threshold=1.0)
    with pytest.raises(UsageError, match="spacing"):
        refine_3d(map_, image, (1.0, 0.0, 1.0))
    with pytest.raises(ImageError):
        refine_3d(map_, image.astype(complex), SPACING)
