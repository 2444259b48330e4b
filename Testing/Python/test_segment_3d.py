"""Lesions of volumes outlined: the crop and the way back, the task on easy volumes of any grid, and what is refused.

The network here is a stand-in of a few lines that marks what is dark, so that where masks land can be known exactly.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import nn

from BreastUSAILib.errors import ImageError, ModelError, UsageError
from BreastUSAILib.findings import Box, Finding, ImageInfo, Study
from BreastUSAILib.grid import box_within, image_box, physical_to_index
from BreastUSAILib.lesion_crop import CropRule, Region
from BreastUSAILib.models import zoo
from BreastUSAILib.networks.vnet import Joint
from BreastUSAILib.outline_3d import Outline, shows_anything
from BreastUSAILib.outline_owners import one_owner_each
from BreastUSAILib.segment_3d import Segment3dOptions, segment_3d
from BreastUSAILib.uncertainty_map import UncertaintyMap

RULE = {"shape": [48, 32, 48], "finest": 0.4, "coarsest": 1.5, "margin": 1.8}


class Dark(nn.Module):
    """Says lesion where a crop is dark, as sure as it is dark; malignant when the dark part is large."""

    segmentation, iterative, answers = True, True, 1

    def __init__(self):
        super().__init__()
        self.passes = 0
        self.crops = 0

    def forward(self, volume, probability=None, spacing=None, opinion=True):
        self.passes += 1
        self.crops += len(volume)
        outline = -4 * (volume[:, 0] + 0.9)
        return Joint(outline, (torch.sigmoid(outline).mean((1, 2, 3)) - 0.2)[:, None])


def model_of(network, rule=None, **postprocessing):
    entry = SimpleNamespace(id="dark", preprocessing=rule or RULE, postprocessing={"iterations": 2, **postprocessing})
    return SimpleNamespace(entry=entry, network=network, device=SimpleNamespace(name="cpu"))


def rotation(*angles):
    turn = sitk.Euler3DTransform()
    turn.SetRotation(*angles)
    return turn.GetMatrix()


def scene(size, spacing, balls, origin=(0, 0, 0), direction=None, seed=0):
    """A bright volume in noise with dark balls: (centre in voxels x, y, z; radius mm). Returns it and each ball's true mask."""
    random = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.arange(n) for n in size[::-1]), indexing="ij")
    array = random.normal(150, 6, size[::-1])
    masks = []
    for centre, radius in balls:
        away = [(a - c) * s for a, c, s in zip((x, y, z), centre, spacing, strict=True)]
        mask = sum(d**2 for d in away) < radius**2
        array[mask] = random.normal(40, 6, int(mask.sum()))
        masks.append(mask)
    image = sitk.GetImageFromArray(np.clip(array, 0, 255).astype(np.uint8))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(direction)
    return image, masks


def box_of(image, centre, radius):
    return Box(image.TransformContinuousIndexToPhysicalPoint(centre), (2 * radius,) * 3)


def dice(mask, truth):
    found = sitk.GetArrayFromImage(mask) != 0
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


GRIDS = {
    "half-millimetre": ((80, 60, 70), (0.5, 0.5, 0.5), (0, 0, 0), None),
    "fine in depth, coarse in slices": ((70, 240, 24), (0.4, 0.12, 1.5), (5, -3, 8), None),
    "oblique": ((64, 60, 40), (0.45, 0.5, 0.8), (-40, 12, 7), rotation(0.4, -0.3, 0.9)),
    "left-handed": ((64, 60, 40), (0.5, 0.5, 0.8), (3, 3, 3), (1, 0, 0, 0, 1, 0, 0, 0, -1)),
}


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_masks_land_on_the_lesion_within_half_a_voxel(grid):
    size, spacing, origin, direction = GRIDS[grid]
    centre = (size[0] * 0.52, size[1] * 0.47, size[2] * 0.5)
    image, (truth,) = scene(size, spacing, [(centre, 5.0)], origin, direction)
    (finding,), _ = segment_3d(image, model_of(Dark()), [Finding("L1", box_of(image, centre, 5.0), 0.8)])
    mask = finding.mask
    assert mask.GetSize() == image.GetSize() and mask.GetPixelID() == sitk.sitkUInt8
    for get in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(mask, get)() == getattr(image, get)()
    assert dice(mask, truth) > 0.9
    found = np.argwhere(sitk.GetArrayFromImage(mask)).mean(0)
    error = np.abs(found - np.argwhere(truth).mean(0))
    assert error.max() < 0.5
    # The same in the body: the centre of the mask's box is that of the ball.
    away = physical_to_index(image, finding.box.center) - np.array(centre)
    assert np.abs(away).max() < 1.5
    assert finding.score == 0.8 and finding.label == 1 and finding.models["segment"] == "dark"
    assert 0 <= finding.malignancy <= 1
    assert finding.measurements["volume_ml"] == pytest.approx(truth.sum() * np.prod(spacing) / 1000, rel=0.12)
    assert 0 <= finding.measurements["outline_uncertainty"] < 0.5


def test_the_result_is_a_study_that_reads_back():
    image, _ = scene((60, 50, 60), (0.5, 0.5, 0.5), [((30, 25, 30), 4.0)])
    findings, _ = segment_3d(image, model_of(Dark()), boxes=[box_of(image, (30, 25, 30), 4.0)])
    study = Study(ImageInfo.of(image, "x.nrrd"), findings)
    again = Study.from_json(study.to_json(), study.label_image())
    assert again.findings[0].label == 1
    assert np.array_equal(sitk.GetArrayFromImage(again.findings[0].mask), sitk.GetArrayFromImage(findings[0].mask))


@settings(max_examples=25, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 2.0)] * 3),
    shift=st.tuples(*[st.floats(-6, 6)] * 3),
    side=st.floats(0.3, 1.2),
)
def test_what_is_read_and_put_back_stays_where_it_was(angles, spacing, shift, side):
    """A linear ramp along each axis is the same after both ways, wherever crop and image meet."""
    size = (24, 20, 16)
    ramp = np.stack(np.meshgrid(*(np.arange(n) for n in size[::-1]), indexing="ij"), -1)
    for axis in range(3):
        image = sitk.GetImageFromArray(ramp[..., axis].astype(np.float32))
        image.SetSpacing(spacing)
        image.SetDirection(rotation(*angles))
        centre = image.TransformContinuousIndexToPhysicalPoint([n / 2 + s for n, s in zip(size, shift, strict=True)])
        region = Region.about(image, centre, side, (16, 16, 16))
        # Where each voxel of the region lies along this axis, in voxels of the image.
        i = 2 - axis
        along = region.corner[i] + (np.arange(16) + 0.5) * region.scale[i] - 0.5
        values = np.moveaxis(np.broadcast_to(along, (16, 16, 16)), 2, axis).astype(np.float32)
        back, place = region.put_back(values, image)
        if not back.size:
            continue
        truth = ramp[..., axis][place]
        # The outermost samples are clamped: at most half a voxel of the region, or of the image where that is coarser.
        inner = (truth > along[0] + region.scale[i]) & (truth < along[-1] - region.scale[i])
        step = max(1.0, region.scale[i])
        deep = (truth > along[0] + step) & (truth < along[-1] - step) & inner
        # The mean of few voxels that do not lie symmetrically about its middle is off by a little: a tenth of a voxel, a mask's
        # centre by less, as its two borders are off by the same.
        assert np.abs(back - truth)[deep].max(initial=0) < 0.1
        assert np.abs(back - truth).max() <= step


@pytest.mark.parametrize("x", [3.0, 14.0, 30.0])
def test_a_cyst_without_echoes_has_a_wall(x):
    """Also where the volume's edge cuts it."""
    z, y, x_ = np.meshgrid(*(np.arange(n) * 0.5 for n in (60, 60, 120)), indexing="ij")
    ball = (x_ - x) ** 2 + (y - 15) ** 2 + (z - 15) ** 2 < 8.0**2
    array = np.where(ball, 0, np.random.default_rng(0).integers(40, 160, ball.shape)).astype(np.uint8)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.5, 0.5, 0.5))
    places = [np.flatnonzero(ball.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    place = tuple(slice(int(p[0]), int(p[-1]) + 1) for p in places)
    exact = Outline(ball[place], ball[place].astype(np.float32), place, None, None)
    assert shows_anything(exact, image)
    exact.inside[:] = ndimage.binary_erosion(exact.inside, iterations=3)  # within the cyst: its wall is near
    assert shows_anything(exact, image)


def test_where_the_volume_holds_nothing_no_lesion_is_outlined():
    """A blanked part of a volume, or a probe without contact: the network outlines what it expects in the middle of a box (0.67 ml, once)."""
    model = zoo.load("segmentation-3d-compact", "segment-3d", "cpu")
    image, _ = scene((120, 60, 60), (0.5, 0.5, 0.5), [((85, 30, 30), 4.0)])
    array = sitk.GetArrayFromImage(image)
    array[:, :, :60] = 0
    blanked = sitk.GetImageFromArray(array)
    blanked.CopyInformation(image)
    empty, there = box_of(image, (25, 30, 30), 3.0), box_of(image, (85, 30, 30), 4.0)
    (nothing, lesion, click), _ = segment_3d(blanked, model, boxes=[empty, there], points=[empty.center])
    assert lesion.mask is not None
    for told in (nothing, click):
        assert told.mask is None and "one and the same value" in told.notes[-1]


def test_neighbours_are_not_merged():
    image, (left, right) = scene((100, 50, 60), (0.5, 0.5, 0.5), [((34, 25, 30), 5.0), ((60, 25, 30), 5.0)])
    boxes = [box_of(image, (34, 25, 30), 5.0), box_of(image, (60, 25, 30), 5.0)]
    findings, _ = segment_3d(image, model_of(Dark()), [Finding(f"L{i + 1}", b, 0.5) for i, b in enumerate(boxes)])
    for finding, own, other in zip(findings, (left, right), (right, left), strict=True):
        assert dice(finding.mask, own) > 0.9
        assert not (sitk.GetArrayFromImage(finding.mask)[other] != 0).any()
    assert [f.label for f in findings] == [1, 2]


def test_touching_outlines_share_no_voxel():
    """Where the network cannot tell two apart, each voxel still belongs to one finding, and one lesion is told once."""
    image, (first, second) = scene((90, 50, 50), (0.5, 0.5, 0.5), [((36, 25, 25), 5.0), ((54, 25, 25), 5.0)])
    boxes = [box_of(image, (36, 25, 25), 5.0), box_of(image, (54, 25, 25), 5.0)]
    findings, _ = segment_3d(image, model_of(Dark()), boxes=boxes)
    total = sum(sitk.GetArrayFromImage(f.mask).astype(int) for f in findings if f.mask is not None)
    assert total.max() == 1
    again, _ = segment_3d(image, model_of(Dark()), boxes=[boxes[0], boxes[0]])
    assert again[0].mask is not None and again[1].mask is None
    assert "that of L1" in again[1].notes[0]


def _block(first, last, probability):
    shape = (10, 10, last - first)
    place = (slice(5, 15), slice(5, 15), slice(first, last))
    return Outline(np.ones(shape, bool), np.full(shape, probability, np.float32), place, None, None)


def test_neighbours_are_compared_as_they_came():
    """The one in the middle loses half to the first; what it shares with the third is half of it all the same, and not all that is left."""
    outlines = [_block(5, 25, 0.9), _block(20, 30, 0.7), _block(25, 45, 0.6)]
    assert one_owner_each(outlines) == [None, None, None]
    assert [o.inside.sum() for o in outlines] == [2000, 1000 - 500, 2000 - 500]


@pytest.mark.parametrize(("order", "expected"), [((0, 1, 2), [1, None, None]), ((1, 0, 2), [None, 0, None]), ((2, 0, 1), [None, 2, None])])
def test_a_part_does_not_stand_for_the_whole_whichever_comes_first(order, expected):
    """A surer box about a piece of a lesion took the whole of it away: 0.1 of 6.6 ml were left. The third outline is another lesion."""
    blocks = [_block(10, 14, 0.9), _block(5, 25, 0.8), _block(40, 50, 0.7)]
    outlines = [blocks[i] for i in order]
    assert one_owner_each(outlines) == expected
    assert [o.inside.sum() for o in blocks] == [400, 2000, 1000]


def test_what_a_neighbour_cuts_off_is_not_joined():
    """Its longest diameter was measured across the neighbour: 40 instead of 27 mm."""
    across = (10, 40, 4)
    crossing = Outline(np.ones(across, bool), np.full(across, 0.9, np.float32), (slice(5, 15), slice(0, 40), slice(20, 24)), None, None)
    outlines = [_block(5, 40, 0.6), crossing]
    assert one_owner_each(outlines) == [None, None]
    assert crossing.inside.all() and outlines[0].inside[:, :, 19:].all() and outlines[0].inside.sum() == 1600


@pytest.mark.parametrize(("order", "expected"), [((0, 1, 2), [None, None, 1]), ((1, 0, 2), [None, None, 0])])
def test_what_is_not_left_takes_no_others_place(order, expected):
    """The third runs over both others and is the second's; the first, which shares no voxel with the second, stays."""
    blocks = [_block(40, 44, 0.95), _block(10, 34, 0.9), _block(16, 44, 0.6)]
    outlines = [blocks[i] for i in order]
    assert one_owner_each(outlines) == expected
    assert [o.inside.sum() for o in blocks[:2]] == [400, 2400]


@settings(max_examples=200, deadline=None)
@example([(0, 1, 0, 1, 0.9), (0, 5, 0, 1, 0.8), (2, 24, 0, 12, 0.7)])  # a part of a part, beside the whole
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 24), st.integers(0, 10), st.integers(1, 12), st.floats(0.1, 1)), min_size=2, max_size=5))
def test_the_same_lesion_is_one_that_is_left_and_shares_voxels(boxes):
    outlines = []
    for x, width, y, height, probability in boxes:
        shape = (10, height, width)
        place = (slice(5, 15), slice(y, y + height), slice(x, x + width))
        outlines.append(Outline(np.ones(shape, bool), np.full(shape, probability, np.float32), place, None, None))
    places = [o.place for o in outlines]
    same = one_owner_each(outlines)
    for number, other in enumerate(same):
        if other is not None:
            assert same[other] is None and outlines[other].inside.any()
            assert all(p.start < q.stop and q.start < p.stop for p, q in zip(places[number], places[other], strict=True))


def test_of_two_parts_and_a_whole_the_whole_is_left():
    outlines = [_block(10, 14, 0.9), _block(18, 22, 0.9), _block(5, 25, 0.8), _block(6, 24, 0.7)]
    assert one_owner_each(outlines) == [2, 2, None, 2]


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
def test_an_outline_of_which_nothing_is_left_is_told(order):
    blocks = [_block(5, 25, 0.9), _block(20, 32, 0.6), _block(25, 45, 0.8)]
    outlines = [blocks[i] for i in order]
    same = one_owner_each(outlines)
    assert [None if i is None else order[i] for i in same] == [2 if i == 1 else None for i in order]
    assert [o.inside.sum() for o in blocks] == [2000, 0, 2000]


class Middle(nn.Module):
    """Says lesion in the middle half of every crop, the surer the coarser the crop is."""

    segmentation, iterative, answers = True, True, 1

    def forward(self, volume, probability=None, spacing=None, opinion=True):
        outline = torch.full_like(volume[:, 0], -9.0)
        _, z, y, x = outline.shape
        middle = outline[:, z // 4 : -z // 4, y // 4 : -y // 4, x // 4 : -x // 4]
        middle[:] = 2 * spacing[:, None, None, None]
        return Joint(outline, spacing[:, None])


def test_a_lesion_between_two_surer_ones_names_one_of_them():
    """Nothing is left of its outline, half of which is each other's; they come after it."""
    image, _ = scene((90, 50, 50), (1.0, 1.0, 1.0), [])
    boxes = [Box((45.0, 25.0, 25.0), (8.0,) * 3), *(Box((45.0 + x, 25.0, 25.0), (20.0,) * 3) for x in (-13.0, 13.0))]
    findings, notes = segment_3d(image, model_of(Middle()), boxes=boxes)
    assert notes == () and [f.mask is not None for f in findings] == [False, True, True]
    assert findings[0].notes == ("the outline found here is that of L2; the lesion is outlined there",)


def test_the_maps_of_each_lesion_can_be_had():
    image, (truth,) = scene((60, 50, 60), (0.5, 0.6, 0.7), [((30, 25, 30), 4.0)], direction=rotation(0.2, 0.1, 0.3))
    seen = {}
    segment_3d(image, model_of(Dark()), boxes=[box_of(image, (30, 25, 30), 4.0)], watch=seen.__setitem__)
    look = seen["L1"]
    values, place = look.region.put_back(look.probability, image)
    part = truth[place]
    assert part.sum() == truth.sum() and values[part].mean() > 0.7 > 0.3 > values[~part].mean()
    unsure = UncertaintyMap(image)
    unsure.add("L1", look)
    deviation, _ = look.region.put_back(look.deviation, image)
    np.testing.assert_allclose(sitk.GetArrayFromImage(unsure.image)[place], 100 * deviation, atol=0.5001)


@pytest.mark.parametrize("off", [(0, 0, 0), (6, -4, 5)])
def test_a_click_anywhere_in_a_lesion_is_enough(off):
    image, (truth,) = scene((100, 60, 90), (0.5, 0.5, 0.5), [((52, 30, 44), 6.0)])
    point = image.TransformContinuousIndexToPhysicalPoint([c + o for c, o in zip((52, 30, 44), off, strict=True)])
    (finding,), _ = segment_3d(image, model_of(Dark()), points=[point])
    assert finding.id == "L1" and dice(finding.mask, truth) > 0.9 and 0.5 < finding.score <= 1


def test_a_click_on_a_large_lesion_and_on_nothing():
    image, (truth,) = scene((100, 60, 90), (0.8, 0.8, 0.8), [((50, 30, 44), 17.0)])
    point = image.TransformContinuousIndexToPhysicalPoint([50, 30, 44])
    (finding,), _ = segment_3d(image, model_of(Dark()), points=[point])
    assert dice(finding.mask, truth) > 0.85
    nothing = image.TransformContinuousIndexToPhysicalPoint([8, 6, 8])
    (finding,), _ = segment_3d(image, model_of(Dark(), rule={**RULE, "coarsest": 0.5}), points=[nothing])
    assert finding.mask is None and "no lesion was outlined about the point" in finding.notes[0]


def test_new_findings_take_free_ids():
    image, _ = scene((60, 50, 60), (0.5, 0.5, 0.5), [((30, 25, 30), 4.0)])
    box = box_of(image, (30, 25, 30), 4.0)
    findings, _ = segment_3d(image, model_of(Dark()), [Finding("L2", box, 0.4)], boxes=[box], points=[box.center])
    assert [f.id for f in findings] == ["L2", "L1", "L3"]


def test_a_lesion_larger_than_the_crop_is_tiled():
    image, (truth,) = scene((90, 70, 90), (0.6, 0.6, 0.6), [((45, 35, 45), 16.0)])
    network = Dark()
    rule = {"shape": [32, 16, 32], "finest": 0.5, "coarsest": 0.5, "margin": 1.0}
    (finding,), _ = segment_3d(image, model_of(network, rule), boxes=[box_of(image, (45, 35, 45), 16.0)])
    assert network.crops > 8
    assert dice(finding.mask, truth) > 0.9


def test_a_lesion_cut_by_the_border_is_outlined_and_told():
    image, (truth,) = scene((60, 50, 60), (0.5, 0.5, 0.5), [((2, 25, 30), 5.0)])
    (finding,), _ = segment_3d(image, model_of(Dark()), boxes=[box_of(image, (2, 25, 30), 5.0)])
    assert dice(finding.mask, truth) > 0.85
    assert any("reaches the edge" in note for note in finding.notes)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_a_box_larger_than_the_volume_is_cut_to_it(grid):
    """A metre of empty space about the volume was searched window by window, for days."""
    size, spacing, origin, direction = GRIDS[grid]
    centre = tuple(n / 2 for n in size)
    image, _ = scene(size, spacing, [(centre, 6.0)], origin, direction)
    network, whole = Dark(), Dark()
    huge = Box(image.TransformContinuousIndexToPhysicalPoint([n / 3 for n in size]), (1000.0, 1000.0, 1000.0))
    (finding,), _ = segment_3d(image, model_of(network), boxes=[huge])
    (expected,), _ = segment_3d(image, model_of(whole), boxes=[image_box(image)])
    assert network.crops == whole.crops and finding.box == expected.box
    assert np.array_equal(*(sitk.GetArrayFromImage(f.mask) for f in (finding, expected)))
    assert "cut at its edge" in finding.notes[0] and not any("cut at its edge" in note for note in expected.notes)


def test_only_what_reaches_far_beyond_the_volume_is_cut():
    """And only at the face that it passes; on the axis of an oblique grid that runs there."""
    for _, spacing, origin, direction in GRIDS.values():
        image, _ = scene((40, 30, 20), spacing, [], origin, direction)
        at = image.TransformContinuousIndexToPhysicalPoint
        size = tuple(10 * s for s in spacing)
        for centre in ((20, 15, 10), (4.5, 15, 10), (35.4, 24.4, 14.4), (3, 15, 10)):  # inside, up to faces, by 0.15 of its side beyond one
            box = Box(at([float(c) for c in centre]), size)
            assert box_within(image, box, 0.2) is box
        across = box_within(image, Box(at([0.0, 27.0, 10.0]), size), 0.2)  # by 4.5 voxels beyond x, by 2.5 beyond y
        assert across.size == pytest.approx((5.5 * spacing[0], 7.5 * spacing[1], size[2]))
        assert physical_to_index(image, across.center) == pytest.approx((2.25, 25.75, 10), abs=1e-6)


def test_nothing_there_is_an_ordinary_result():
    image, _ = scene((60, 50, 60), (0.5, 0.5, 0.5), [])

    class Never(Dark):
        def forward(self, volume, probability=None, spacing=None, opinion=True):
            return Joint(torch.full_like(volume[:, 0], -5), volume.new_zeros(len(volume), 1))

    before = Finding("L1", box_of(image, (30, 25, 30), 4.0), 0.6, malignancy=0.3)
    (finding,), _ = segment_3d(image, model_of(Never()), [before])
    assert (finding.mask, finding.label, finding.malignancy, finding.box) == (None, None, 0.3, before.box)
    assert finding.notes == ("no lesion was outlined in the box: the network's probability stays below 0.5",)
    assert segment_3d(image, model_of(Never()))[0] == ()


def test_values_that_are_not_finite_count_as_the_lowest():
    image, (truth,) = scene((60, 50, 60), (0.5, 0.5, 0.5), [((30, 25, 30), 4.0)])
    array = sitk.GetArrayFromImage(image).astype(np.float32)
    array[2:4, 3, 4:9] = np.nan
    array[28:31, 25, 30] = -np.inf
    broken = sitk.GetImageFromArray(array)
    broken.CopyInformation(image)
    (finding,), notes = segment_3d(broken, model_of(Dark()), boxes=[box_of(image, (30, 25, 30), 4.0)])
    assert dice(finding.mask, truth) > 0.9
    assert "13 voxels of the volume are not finite" in notes[-1]
    assert all(v is None or math.isfinite(v) for v in finding.measurements.values())


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"boxes": [Box((15, 12, 15), (0, 5, 5))]}, "measures 0 x 5 x 5 mm"),
        ({"boxes": [Box((500, 12, 15), (5, 5, 5))]}, "The box of L1 at \\(500.0, 12.0, 15.0\\) mm lies outside"),
        ({"points": [(-30.0, 12, 15)]}, "The point of L1 .* lies outside"),
        ({"points": [(float("nan"), 12, 15)]}, "three finite numbers"),
    ],
)
def test_impossible_places_are_told_in_words(request_, words):
    image, _ = scene((60, 50, 60), (0.5, 0.5, 0.5), [])
    with pytest.raises(UsageError, match=words):
        segment_3d(image, model_of(Dark()), **request_)


def test_what_cannot_be_outlined_is_refused():
    flat = sitk.Image(30, 30, sitk.sitkUInt8)
    with pytest.raises(ImageError, match="2D"):
        segment_3d(flat, model_of(Dark()))
    judge = Dark()
    judge.segmentation = False
    image, _ = scene((20, 20, 20), (1, 1, 1), [])
    with pytest.raises(ModelError, match="without outlining"):
        segment_3d(image, model_of(judge))
    for wrong in ({"threshold": 1.0}, {"iterations": 5}, {"iterations": -1}):
        with pytest.raises(UsageError):
            Segment3dOptions(**wrong)


def test_passes_and_mirror_images_are_as_asked_for():
    image, _ = scene((60, 50, 60), (0.5, 0.5, 0.5), [((30, 25, 30), 4.0)])
    for iterations, passes in ((0, 1), (1, 1), (2, 2), (4, 4)):
        network = Dark()
        options = Segment3dOptions(iterations=iterations, uncertainty=iterations != 2)
        (finding,), _ = segment_3d(image, model_of(network), boxes=[box_of(image, (30, 25, 30), 4.0)], options=options)
        assert network.passes == passes
        assert network.crops == passes * (1 if iterations == 2 else 4)
        assert ("outline_uncertainty" in finding.measurements) == (iterations != 2)


def test_mirror_images_are_turned_back():
    """A network that marks one side only: its answers to four mirror images mark four corners alike."""

    class OneSide(Dark):
        def forward(self, volume, probability=None, spacing=None, opinion=True):
            outline = torch.full_like(volume[:, 0], -8.0)
            outline[:, 16:32, 8:24, 24:36] = 8.0
            outline[:, 24:40, 8:24, 20:30] = 8.0
            return Joint(outline, volume.new_zeros(len(volume), 1))

    from BreastUSAILib.lesion_look import look
    from BreastUSAILib.segment_3d_options import Settings

    image, _ = scene((100, 70, 100), (0.5, 0.5, 0.5), [])
    model = model_of(OneSide())
    seen = look(image, (25, 17, 25), (10, 10, 10), model, Settings.of(model, Segment3dOptions()))
    for axis in (0, 2):
        assert np.allclose(seen.probability, np.flip(seen.probability, axis), atol=1e-5)
        assert np.allclose(seen.deviation, np.flip(seen.deviation, axis), atol=1e-5)
    assert seen.deviation.max() > 0.3


def test_the_rule_scales_crops_within_limits():
    rule = CropRule()
    assert rule.spacing((4, 3, 4)) == rule.finest and rule.spacing((100, 40, 80)) == rule.coarsest
    assert rule.spacing((20, 10, 24)) == pytest.approx(24 * 1.8 / 48)
    assert rule.canvas((20, 10, 24)) == rule.shape
    assert rule.canvas((90, 20, 24)) == (48, 32, math.ceil(1.3 * 90 / 1.5))
    paper = CropRule((128, 64, 128), 0.5, 0.5, 1.0)
    assert paper.spacing((7, 3, 9)) == paper.spacing((60, 30, 60)) == 0.5


def test_refinement_is_asked_for_or_left(monkeypatch):
    from BreastUSAILib import refinement_3d

    calls = []

    def refine(probability, echoes, spacing, *, threshold, mask, parameters):
        calls.append((probability.shape, echoes.shape, tuple(spacing), threshold))
        smaller = mask.copy()
        smaller[: mask.shape[0] // 2] = False
        return SimpleNamespace(mask=smaller, reason="")

    monkeypatch.setattr(refinement_3d, "refine_3d", refine)
    image, (truth,) = scene((60, 50, 60), (0.5, 0.6, 0.7), [((30, 25, 30), 4.0)])
    boxes = [box_of(image, (30, 25, 30), 4.0)]
    (plain,), _ = segment_3d(image, model_of(Dark()), boxes=boxes)
    assert not calls
    (refined,), _ = segment_3d(image, model_of(Dark()), boxes=boxes, options=Segment3dOptions(refine=True))
    assert calls[0][0] == calls[0][1] and calls[0][2] == (0.7, 0.6, 0.5)
    assert refined.measurements["volume_ml"] < 0.7 * plain.measurements["volume_ml"]
