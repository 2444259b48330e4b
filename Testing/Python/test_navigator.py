"""The navigator: what it shows, and that a click finds its way back into the volume, however the volume lies."""

import io
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from BreastUSAILib.breast_position import with_positions
from BreastUSAILib.errors import ImageError, UsageError
from BreastUSAILib.findings import Finding, ImageInfo, Study
from BreastUSAILib.grid import index_box, physical_to_index
from BreastUSAILib.navigator import navigate, paint, png

SIZE, SPACING = (60, 40, 50), (1.5, 1.0, 2.0)  # 90 mm across, 40 deep, 100 along the sweep
PLAIN = (1, 0, 0, 0, 1, 0, 0, 0, 1)
TURNED = (-1, 0, 0, 0, 1, 0, 0, 0, -1)
OBLIQUE = (0.36, 0.48, -0.8, -0.8, 0.60, 0.0, 0.48, 0.64, 0.60)
ACROSS = (0, 0, 1, 0, 1, 0, -1, 0, 0)  # slices from the right to the left: neither is the patient's left or head
DARK = ((8, 10, 30), (8, 6, 5)), ((40, 16, 6), (6, 8, 6))  # first voxel, number of voxels


def volume(direction=PLAIN, kind=np.uint8, size=SIZE, spacing=SPACING):
    """Bright tissue with two dark lesions; black ribs below 33 mm."""
    array = np.full(size[::-1], 180, kind)
    array[:, 33:] = 0
    for (x, y, z), (nx, ny, nz) in DARK:
        array[z : z + nz, y : y + ny, x : x + nx] = 40
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin((-12.0, 30.0, 7.0))
    image.SetDirection(direction)
    return image


def study_of(image, *more):
    findings = [Finding(f"L{i}", index_box(image, *region), 0.9) for i, region in enumerate((*DARK, *more), 1)]
    return Study(replace(ImageInfo.of(image, "v.nrrd"), laterality="L"), tuple(findings))


def dark_region(nav):
    """(left, top, right, bottom) of each dark spot, by its side of the picture."""
    rows, columns = np.nonzero(nav.pixels < 90)
    for side in (columns < nav.pixels.shape[1] / 2, columns >= nav.pixels.shape[1] / 2):
        yield columns[side].min(), rows[side].min(), columns[side].max() + 1, rows[side].max() + 1


@pytest.mark.parametrize("direction, kind", [(PLAIN, np.uint8), (TURNED, np.int16), (PLAIN, np.float32)])
def test_it_lies_as_the_reader_faces_the_patient(direction, kind):
    """Lesions are dark where they are marked, on a true scale; the patient's left is right, the head is up; ribs are not seen."""
    image = volume(direction, kind)
    nav = navigate(image, study_of(image), longest=200)
    assert nav.pixels.shape == (200, 180) and nav.mm == pytest.approx(0.5)
    assert nav.sides == ("R", "L", "S", "I") and nav.depths == (4, 24)
    assert nav.flipped == ((False, True) if direction == PLAIN else (True, False))
    assert np.median(nav.pixels) > 240
    first, second = nav.marks if direction == PLAIN else nav.marks[::-1]
    for mark, dark in zip((first, second), dark_region(nav), strict=True):
        assert mark.box == pytest.approx(dark, abs=4)  # smoothing moves an edge by less than 2 mm
    # By hand, axes as they are: the first lesion from 12 to 24 mm across, and from 60 to 70 mm up from the feet's end.
    if direction == PLAIN:
        assert first.box == pytest.approx((24, 200 - 140, 48, 200 - 120))


@pytest.mark.parametrize("direction", [PLAIN, TURNED, OBLIQUE, ACROSS])
def test_a_body_looks_the_same_in_whichever_order_its_slices_are_stored(direction):
    image = volume(direction)
    back = sitk.GetImageFromArray(sitk.GetArrayFromImage(image)[::-1].copy())
    back.SetSpacing(SPACING)
    back.SetOrigin(image.TransformIndexToPhysicalPoint((0, 0, SIZE[2] - 1)))
    back.SetDirection((np.reshape(direction, (3, 3)) * (1.0, 1.0, -1.0)).ravel())
    study = study_of(image)
    nav, other = navigate(image, study), navigate(back, replace(study, image=ImageInfo.of(back, "v.nrrd")))
    assert np.abs(nav.pixels.astype(int) - other.pixels).max() <= 2 and np.ptp(nav.pixels) > 100
    for mark, same in zip(nav.marks, other.marks, strict=True):
        assert mark.box == pytest.approx(same.box) and nav.position(100, 80) == pytest.approx(other.position(100, 80))


STORED = [
    np.array([a, b, np.cross(a, b) * hand]).T
    for axes in ([0, 1, 2], [1, 0, 2], [2, 1, 0], [0, 2, 1], [1, 2, 0], [2, 0, 1])
    for a, b in [(np.eye(3)[axes[0]] * s, np.eye(3)[axes[1]] * t) for s in (1, -1) for t in (1, -1)]
    for hand in (1, -1)
]
"""All 48 ways to store a volume along the patient's axes, half of them left-handed."""


@pytest.mark.parametrize("direction", STORED)
def test_it_is_never_a_mirror_image(direction):
    """In whichever way a volume is stored, it is what one sees along its depth axis: three places turn to the same side as in the body."""
    nav = navigate(image := volume(tuple(direction.ravel())), study_of(image))
    places = [(10.0, 5.0, 10.0), (45.0, 5.0, 12.0), (20.0, 5.0, 40.0)]
    points = [np.array(image.TransformContinuousIndexToPhysicalPoint(p)) for p in places]
    one, two, three = (np.array(nav.pixel(p)) for p in points)
    turn = np.cross(np.append(two - one, 0), np.append(three - one, 0))[2]  # y runs down: above 0 is clockwise
    into = direction[:, 1]
    assert np.sign(turn) == np.sign(np.dot(np.cross(points[1] - points[0], points[2] - points[0]), into))
    left, right, up, down = nav.sides
    for letter, at in ((right, (200, 80)), (left, (-200, 80)), (down, (80, 400)), (up, (80, -400))):
        if letter:
            moved = np.array(nav.position(*at)) - np.array(nav.position(80, 80))
            assert moved @ {"L": (1, 0, 0), "R": (-1, 0, 0), "S": (0, 0, 1), "I": (0, 0, -1)}[letter] > 0


def test_a_click_on_a_lesion_finds_its_voxels_and_its_finding():
    for direction in (PLAIN, TURNED, OBLIQUE):
        image = volume(direction)
        study = study_of(image)
        nav = navigate(image, study)
        for finding, ((x, y, z), (nx, ny, nz)) in zip(study.findings, DARK, strict=True):
            at = nav.pixel(finding.box.center)
            assert nav.finding_at(*at) == finding.id
            found = physical_to_index(image, nav.position(*at))
            assert x <= found[0] <= x + nx and z <= found[2] <= z + nz
            assert y - 1 <= found[1] <= y + ny  # as deep as the lesion
        assert nav.finding_at(0, 0) is None


@settings(max_examples=40, deadline=None)
@given(
    x=st.floats(0, 1),
    y=st.floats(0, 1),
    direction=st.sampled_from([PLAIN, TURNED, OBLIQUE]),
    longest=st.sampled_from([97, 200, 480]),
)
def test_to_the_body_and_back(x, y, direction, longest):
    image = volume(direction, size=(30, 40, 34), spacing=(3.0, 1.0, 2.9))
    nav = navigate(image, Study(ImageInfo.of(image, "v.nrrd")), longest=longest)
    height, width = nav.pixels.shape
    at = (x * width, y * height)
    assert nav.pixel(nav.position(*at)) == pytest.approx(at, abs=1e-6)
    assert nav.position(width + 50, -7) == pytest.approx(nav.position(width, 0))


def test_overlapping_boxes_give_the_smaller_and_tiny_ones_can_be_hit():
    image = volume()
    study = study_of(image, ((4, 5, 20), (30, 20, 25)), ((55, 20, 45), (1, 1, 1)))
    nav = navigate(image, study)
    assert nav.finding_at(*nav.pixel(study.findings[0].box.center)) == "L1"
    assert nav.finding_at(*nav.pixel(study.findings[2].box.center)) == "L3"
    x, y = nav.pixel(study.findings[3].box.center)
    assert nav.finding_at(x + 4, y - 4) == "L4"


def test_only_chosen_findings_are_marked_in_their_own_colours():
    image = volume()
    study = study_of(image)
    whole, one = navigate(image, study), navigate(image, study, shown=["L2"])
    assert [m.id for m in one.marks] == ["L2"] and one.marks[0] == whole.marks[1]
    assert navigate(image, Study(study.image)).marks == ()


def test_depths_can_be_chosen_and_shallow_volumes_have_some():
    image = volume()
    study = study_of(image)
    assert np.median(navigate(image, study, depths=(0, 40)).pixels) < 10  # all is above ribs
    below = navigate(image, study, depths=(19, 31))  # deeper than the first lesion
    at = [below.pixels[int(y), int(x)] for x, y in (below.pixel(f.box.center) for f in study.findings)]
    assert at[0] > 200 and at[1] < 50
    for depths in ((5, 5), (-1, 5), (40, 50), (float("nan"), 5)):
        with pytest.raises(UsageError, match="depths"):
            navigate(image, study, depths=depths)
    thin = sitk.RegionOfInterest(image, (60, 2, 50), (0, 12, 0))
    assert navigate(thin, Study(ImageInfo.of(thin, "thin"))).depths == (0, 2)


def test_the_heat_is_the_maximum_over_all_depths():
    image = volume()
    heat = np.zeros(SIZE[::-1], np.float32)
    heat[31:34, 36, 10:14] = 0.8  # among the ribs, which the grey picture leaves out
    heat = sitk.GetImageFromArray(heat)
    heat.CopyInformation(image)
    study = study_of(image)
    nav = navigate(image, study, heatmap=heat, longest=200)
    assert nav.heat.shape == nav.pixels.shape and nav.heat.max() == pytest.approx(0.8)
    rows, columns = np.nonzero(nav.heat > 0.79)
    assert abs(columns.mean() * 0.5 - 18) < 0.5 and abs((200 - rows.mean()) * 0.5 - 65) < 0.8
    assert navigate(image, replace(study, heatmap=heat), longest=200).heat.max() == nav.heat.max()
    hot, cold = paint(nav), paint(nav, heat=0)
    spot = int(rows.mean()), int(columns.mean())
    assert np.ptp(hot[spot].astype(int)) > 40 and np.ptp(cold[spot].astype(int)) == 0
    assert navigate(image, study, heatmap=heat * 5 - 1, longest=200).heat.max() == 1.0
    assert navigate(image, study, heatmap=heat * 5 - 1, longest=200).heat.min() == 0.0
    with pytest.raises(ImageError, match="heatmap"):
        navigate(image, study, heatmap=heat[:, :, :-1])


def test_the_painted_picture_has_boxes_in_the_findings_colours():
    image = volume()
    study = with_positions(study_of(image), (30.0, 30.0, 60.0))
    nav = navigate(image, study)
    assert nav.nipple == pytest.approx(nav.pixel((30, 30, 60)))
    plain, bold = paint(nav, letters=False), paint(nav, letters=False, selected="L1")
    assert plain.shape == (*nav.pixels.shape, 3) and plain.dtype == np.uint8
    for mark in nav.marks:
        colour = tuple(int(mark.color[i : i + 2], 16) for i in (1, 3, 5))
        rows, columns = np.nonzero((plain == colour).all(axis=2))
        assert (columns.min(), columns.max()) == pytest.approx((mark.box[0], mark.box[2]), abs=3)
        assert rows.max() == pytest.approx(mark.box[3], abs=3)
    first = tuple(int(nav.marks[0].color[i : i + 2], 16) for i in (1, 3, 5))
    assert (bold == first).all(axis=2).sum() > 1.5 * (plain == first).all(axis=2).sum()
    back = np.asarray(Image.open(io.BytesIO(png(plain))))
    np.testing.assert_array_equal(back, plain)


def test_axes_that_are_not_the_patients_have_no_letters():
    image = volume(OBLIQUE)
    nav = navigate(image, study_of(image))
    assert nav.sides == ("", "", "", "") and paint(nav).shape[2] == 3


def test_single_slices_and_2d_images_are_refused():
    for image in (volume()[:, :, 3], volume()[:, :, 3:4]):
        with pytest.raises(ImageError, match="no volume"):
            navigate(image, Study(ImageInfo.of(image, "a.png")))
