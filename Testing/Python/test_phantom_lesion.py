"""Lesions as voxels: exact volumes, one piece, orientation, margins, echo patterns, shadows, dots."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from BreastUSAILib.errors import PhantomError
from BreastUSAILib.phantom.lesion import build_lesion
from BreastUSAILib.phantom.lexicon import LesionSpec, draw_lesion
from BreastUSAILib.phantom.spec import LesionRequest
from BreastUSAILib.phantom.truth import MARGINS, Descriptors

PLAIN = Descriptors("oval", "parallel", "circumscribed", "hypoechoic", "none", "none", "absent")
FINE = (0.25, 0.25, 0.25)
HALF = (0.384, 0.5, 0.425)


def build(seed=1, volume_ml=1.0, spacing=FINE, **descriptors):
    spec = LesionSpec(False, replace(PLAIN, **descriptors), volume_ml, 0.0, "3")
    return build_lesion(spec, spacing, np.random.default_rng(seed))


def box_ratio(mask, spacing):
    """Extent along depth over that along lateral; spacing along x, y, z as grids have it."""
    depth, lateral = (np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 1)))
    return (np.ptp(depth) + 1) * spacing[1] / ((np.ptp(lateral) + 1) * spacing[0])


def level(patch):
    """Mean echo within the mass's core, dB against fat (hyperechoic: the surroundings)."""
    core = ndimage.binary_erosion(patch.mask, iterations=3)
    return 20 * np.log10(float(patch.echo[core].mean()))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    volume=st.floats(0.026, 18.0) | st.floats(0.026, 0.2),
    spacing=st.tuples(st.floats(0.15, 0.6), st.floats(0.08, 0.6), st.floats(0.3, 0.6)),
)
def test_every_lesion_has_its_volume_in_one_piece_and_lies_as_it_is_called(seed, volume, spacing):
    voxel = np.prod(spacing)
    volume = min(volume, 120_000 * voxel / 1000)
    if volume * 1000 / voxel < 150:
        spacing, voxel = (0.4, 0.4, 0.4), 0.064
    lesion = draw_lesion(np.random.default_rng(seed), 0.5, LesionRequest(volume_ml=max(volume, 0.026)))
    patch = build_lesion(lesion, spacing, np.random.default_rng(seed))

    error = abs(np.count_nonzero(patch.mask) - lesion.volume_ml * 1000 / voxel)
    assert error <= max(0.01 * lesion.volume_ml * 1000 / voxel, 1.0)
    assert ndimage.label(patch.mask)[1] == 1
    assert ndimage.label(np.pad(~patch.mask, 1, constant_values=True))[1] == 1
    ratio = box_ratio(patch.mask, spacing)
    assert ratio < 0.96 if lesion.descriptors.orientation == "parallel" else ratio > 1.02

    for name in ("weight", "echo", "attenuation", "specular", "edge"):
        values = getattr(patch, name)
        assert values.shape == patch.mask.shape and values.dtype == np.float32
        assert np.isfinite(values).all() and values.min() >= 0, name
    assert patch.weight.max() <= 1 and patch.weight[patch.mask].mean() > 0.6
    assert 0.01 < patch.attenuation[patch.mask].min() and patch.attenuation.max() <= 5
    first, last = np.argwhere(patch.mask).min(0), np.argwhere(patch.mask).max(0)
    assert patch.anchor == tuple((first + last) // 2)


def test_tiny_lesions_on_coarse_voxels_still_lie_as_they_are_called():
    for seed in range(20):
        lesion = draw_lesion(np.random.default_rng(seed), 0.5, LesionRequest(volume_ml=0.026))
        for spacing in (HALF, (0.5, 0.5, 0.5)):
            patch = build_lesion(lesion, spacing, np.random.default_rng(seed))
            ratio = box_ratio(patch.mask, spacing)
            assert ratio < 0.96 if lesion.descriptors.orientation == "parallel" else ratio > 1.02


def test_malignancy_is_not_looked_at_and_a_seed_is_a_lesion():
    lesion = draw_lesion(np.random.default_rng(6))
    twins = [
        build_lesion(replace(lesion, malignant=kind, posterior=0.1, category="4A"), HALF, np.random.default_rng(2))
        for kind in (False, True)
    ]
    other = build_lesion(lesion, HALF, np.random.default_rng(3))
    for name in ("mask", "weight", "echo", "attenuation", "specular", "edge"):
        first, second = (getattr(twin, name) for twin in twins)
        assert first.tobytes() == second.tobytes()
    assert other.mask.shape != twins[0].mask.shape or (other.mask != twins[0].mask).any()


@pytest.mark.parametrize("margin", MARGINS)
def test_a_lesion_is_the_same_on_another_grid(margin):
    shape = "oval" if margin == "circumscribed" else "irregular"
    coarse, fine = (build(4, 2.0, (step,) * 3, margin=margin, shape=shape) for step in (0.5, 0.25))
    # Both grids have a node in the lesion's middle: every second fine voxel is a coarse one, up to a shift that the boxes tell.
    best = 0.0
    for start in np.ndindex(2, 2, 2):
        thinned = fine.mask[tuple(slice(s, None, 2) for s in start)]
        a, b = (m[ndimage.find_objects(m.astype(np.uint8))[0]] for m in (coarse.mask, thinned))
        size = np.maximum(a.shape, b.shape)
        a, b = (np.pad(m, [(0, int(n - k)) for n, k in zip(size, m.shape, strict=True)]) for m in (a, b))
        best = max(best, 2 * np.count_nonzero(a & b) / (a.sum() + b.sum()))
    assert best > 0.93


def solidity(mask):
    from scipy.spatial import ConvexHull

    surface = mask & ~ndimage.binary_erosion(mask)
    corners = np.argwhere(surface)[:, None, :] + np.array(list(np.ndindex(2, 2, 2)))[None]
    return np.count_nonzero(mask) / ConvexHull(corners.reshape(-1, 3)).volume


def opened_away(mask, radius_mm, step):
    """Share of the mass that a ball of that radius cannot reach from inside."""
    inside = ndimage.distance_transform_edt(np.pad(mask, 1)) * step > radius_mm
    reached = ndimage.distance_transform_edt(~inside) * step <= radius_mm
    return 1 - np.count_nonzero(reached & np.pad(mask, 1)) / np.count_nonzero(mask)


def test_margins_are_geometry():
    """Roughness and concavity rise from circumscribed to spiculated; angular masses are convex with sharp corners."""
    solid, lost, faces = {}, {}, {}
    for margin in MARGINS:
        masks = [build(seed, 2.0, (0.35,) * 3, margin=margin).mask for seed in range(4)]
        solid[margin] = np.mean([solidity(m) for m in masks])
        lost[margin] = np.mean([opened_away(m, 1.5, 0.35) for m in masks])
        faces[margin] = np.mean([opened_away(m, 4.0, 0.35) for m in masks])
    assert solid["circumscribed"] > 0.90 and solid["angular"] > 0.88
    assert solid["circumscribed"] > solid["indistinct"] > solid["spiculated"]
    assert solid["circumscribed"] > solid["microlobulated"] > solid["spiculated"]
    assert lost["circumscribed"] < 0.012
    assert lost["indistinct"] > 2 * lost["circumscribed"] and lost["microlobulated"] > 2 * lost["circumscribed"]
    assert lost["spiculated"] > 2 * max(lost["indistinct"], lost["circumscribed"])
    assert faces["angular"] > 1.5 * faces["circumscribed"]
    assert lost["microlobulated"] > lost["angular"]


def test_irregular_is_less_convex_than_oval_and_round_is_round():
    for margin in ("indistinct", "microlobulated", "angular"):
        oval, irregular = (
            np.mean([solidity(build(seed, 2.0, (0.4,) * 3, margin=margin, shape=shape).mask) for seed in range(5)])
            for shape in ("oval", "irregular")
        )
        assert irregular < oval - 0.04
    for seed in range(4):
        patch = build(seed, 1.5, shape="round", orientation="not parallel")
        size = [np.ptp(axis) + 1 for axis in np.nonzero(patch.mask)]
        assert max(size) / min(size) < 1.25
        oval = build(seed, 1.5)
        assert box_ratio(oval.mask, FINE) < 1 / 1.1


def test_only_indistinct_masses_give_way_slowly():
    """Width of the border: how much of the weight lies between a tenth and nine tenths, per surface."""
    soft = {}
    for margin in ("circumscribed", "indistinct", "angular"):
        patch = build(2, 3.0, margin=margin)
        between = np.count_nonzero((patch.weight > 0.1) & (patch.weight < 0.9)) * 0.25**3
        soft[margin] = between / (np.count_nonzero(patch.mask & ~ndimage.binary_erosion(patch.mask)) * 0.25**2)
    assert soft["indistinct"] > 3 * soft["circumscribed"]
    assert 0.6 < soft["indistinct"] < 3.0 and soft["angular"] < 0.5


def far_tissue(patch, beyond_mm, step=0.25):
    """Volume in mm3 of what is replaced further than that from the mask."""
    away = ndimage.distance_transform_edt(~patch.mask) * step
    return np.count_nonzero((away > beyond_mm) & (patch.weight > 0.4)) * step**3


def test_strands_leave_the_mass_and_halos_surround_it():
    strands, halo = build(3, margin="spiculated"), build(3, margin="indistinct", halo="present")
    assert far_tissue(build(3), 0.5) == 0 == far_tissue(build(3, margin="angular"), 0.5)
    assert far_tissue(strands, 2.0) > 10
    reach = ndimage.distance_transform_edt(~strands.mask) * 0.25 * (strands.weight > 0.4)
    assert 3 < reach.max() < 15
    rim = ndimage.distance_transform_edt(~halo.mask) * 0.25
    rim = (rim > 1.2) & (rim < 2.0) & (halo.weight > 0.4)
    covered = np.count_nonzero(rim)
    assert covered > 300
    assert 20 * np.log10(halo.echo[rim].mean()) > 3 and level(halo) < -4
    assert far_tissue(halo, 5.0) == 0


def test_echo_patterns_have_their_levels():
    levels = {
        pattern: [level(build(seed, 2.0, HALF, echo_pattern=pattern)) for seed in range(12)]
        for pattern in ("anechoic", "hyperechoic", "hypoechoic", "isoechoic", "heterogeneous", "complex cystic and solid")
    }
    assert max(levels["anechoic"]) < -18
    assert min(levels["hyperechoic"]) > 3
    assert max(np.abs(levels["isoechoic"])) < 2.2
    assert -14 < min(levels["hypoechoic"]) and max(levels["hypoechoic"]) < -3
    assert -9 < np.mean(levels["heterogeneous"]) < -2


def test_masses_that_look_malignant_are_darker_on_average_but_overlap():
    plain = [level(build(seed, 2.0, HALF)) for seed in range(15)]
    suspicious = [
        level(build(seed, 2.0, HALF, shape="irregular", margin="spiculated", halo="present", posterior_features="shadowing"))
        for seed in range(15)
    ]
    assert np.mean(suspicious) < np.mean(plain) - 2.5
    assert max(suspicious) > min(plain)


def test_complex_masses_have_fluid_and_solid_parts_and_heterogeneous_ones_patches():
    for seed in range(6):
        patch = build(seed, 2.0, echo_pattern="complex cystic and solid")
        inside = patch.echo[patch.mask]
        assert 0.05 < np.mean(inside < 0.12) < 0.85 and np.mean(inside > 0.25) > 0.1
        even, uneven = (build(seed, 2.0, echo_pattern=p) for p in ("hypoechoic", "heterogeneous"))
        spread = [float(np.std(20 * np.log10(p.echo[p.mask]))) for p in (even, uneven)]
        assert spread[1] > 3 and spread[1] > 2 * spread[0]


def test_posterior_features_come_from_attenuation():
    through = {}
    for feature in ("none", "enhancement", "shadowing", "combined"):
        patch = build(5, 1.0, HALF, margin="indistinct", posterior_features=feature)
        column = (patch.attenuation - 0.85) * patch.weight * 0.05 * 2 * 8.0  # dB at 8 MHz there and back, against tissue
        through[feature] = column.sum(axis=0)[patch.anchor[1]]
        middle = through[feature][patch.mask.any(axis=0)[patch.anchor[1]]]
        through[feature] = np.quantile(middle, [0.1, 0.5, 0.9])
    assert abs(through["none"][1]) < 2
    assert through["enhancement"][1] < -3
    assert through["shadowing"][1] > 7
    assert through["combined"][0] < -1.5 and through["combined"][2] > 4
    haloed = build(5, 1.0, HALF, margin="indistinct", posterior_features="shadowing", halo="present")
    outside = ndimage.distance_transform_edt(~haloed.mask, sampling=(0.5, 0.425, 0.384)) > 1.6
    excess = (haloed.attenuation - 0.85) * haloed.weight
    assert excess[outside].max() < 0.65  # the halo itself casts no shadow


def test_smooth_masses_have_a_capsule_where_it_lies_flat_and_refract_at_their_sides():
    patch = build(2, 2.0)
    depth, _, lateral = np.nonzero(patch.mask)
    bright = np.argwhere(patch.specular > 0.5 * patch.specular.max())
    assert len(bright) and np.abs(bright[:, 2] - patch.anchor[2]).max() < 0.45 * np.ptp(lateral)
    tops = np.abs(bright[:, 0] - patch.anchor[0]) > 0.3 * np.ptp(depth)
    assert tops.mean() > 0.95
    loss = patch.edge.sum(axis=0)[patch.anchor[1]]
    assert 1 < loss.max() < 8 and loss[patch.anchor[2]] < 1e-6
    sides = np.flatnonzero(loss > 0.5 * loss.max())
    shadow = np.flatnonzero(patch.mask[:, patch.anchor[1]].any(axis=0))
    assert min(abs(sides[0] - shadow[0]), abs(sides[-1] - shadow[-1])) * 0.25 < 1.0
    rough = build(2, 2.0, margin="spiculated")
    assert not rough.edge.any() and not rough.specular.any()


@pytest.mark.parametrize("spacing", [HALF, (0.2, 0.08, 0.5)])
@pytest.mark.parametrize("kind", ["in mass", "outside mass", "intraductal"])
def test_calcifications_lie_where_they_are_said_to(kind, spacing):
    patch = build(7, 0.8, spacing, margin="indistinct", calcifications=kind)
    dots, count = ndimage.label(patch.specular > 0)
    assert count >= 2
    sizes = np.array([np.ptp(i) + 1 for o in ndimage.find_objects(dots) for i in np.nonzero(dots[o])]).reshape(-1, 3)
    assert (sizes * (spacing[1], spacing[2], spacing[0])).mean(axis=0).max() < 1.3
    inside = patch.mask[patch.specular > 0].mean()
    assert inside == 1 if kind == "in mass" else inside == 0 if kind == "outside mass" else inside < 0.6
    if kind == "intraductal":
        assert patch.weight[patch.specular > 0].mean() > 0.5
        assert far_tissue(build(7, 0.8, margin="indistinct", calcifications=kind), 3.0) > 2


def test_voxels_that_hold_no_shape_are_refused():
    with pytest.raises(PhantomError, match="26 voxels.*finer grid"):
        build(1, 0.026, (1.0, 1.0, 1.0))
