"""Measurements against shapes whose figures are known."""

import math
from unittest import mock

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from BreastUSAILib import measurements
from BreastUSAILib.errors import ImageError, UsageError
from BreastUSAILib.measurements import measure_2d

UNIT_FREE = {
    "orientation_deg",
    "height_to_width_ratio",
    "circularity",
    "solidity",
    "aspect_ratio",
    "eccentricity",
    "contrast_ratio",
    "posterior_ratio",
    "echo_heterogeneity",
}
LENGTHS = {"perimeter", "equivalent_diameter", "major_diameter", "minor_diameter", "width", "height", "depth"}


def images(inside, echoes=None, spacing=(1.0, 1.0), direction=None):
    """Mask and image on a grid; spacing (x, y)."""
    pair = sitk.GetImageFromArray(inside.astype(np.uint8)), sitk.GetImageFromArray(
        np.where(inside, 50.0, 100.0) if echoes is None else echoes
    )
    for image in pair:
        image.SetSpacing(spacing)
        image.SetOrigin((12.0, -7.0))
        if direction is not None:
            image.SetDirection(direction)
    return pair


def ellipse(a, b, degrees=0.0, spacing=(1.0, 1.0), extent=(200.0, 160.0)):
    """Ellipse with half axes a and b mm, its long axis turned from x towards depth; grid of `extent` (x, y) mm."""
    nx, ny = (round(e / s) for e, s in zip(extent, spacing, strict=True))
    y, x = np.indices((ny, nx), float)
    x, y = (x + 0.5) * spacing[0] - extent[0] / 2, (y + 0.5) * spacing[1] - extent[1] / 2
    t = math.radians(degrees)
    along, across = x * math.cos(t) + y * math.sin(t), -x * math.sin(t) + y * math.cos(t)
    return (along / a) ** 2 + (across / b) ** 2 <= 1


def test_a_rectangle_is_measured_exactly():
    inside = np.zeros((50, 60), bool)
    inside[10:22, 20:50] = True
    found = measure_2d(*images(inside, spacing=(0.1, 0.2)), True)
    assert found["area_mm2"] == pytest.approx(12 * 0.2 * 30 * 0.1)
    assert found["width_mm"] == pytest.approx(3.0)
    assert found["height_mm"] == pytest.approx(2.4)
    assert found["depth_mm"] == pytest.approx(2.0)
    assert found["height_to_width_ratio"] == pytest.approx(0.8)
    assert found["equivalent_diameter_mm"] == pytest.approx(2 * math.sqrt(7.2 / math.pi))
    assert found["major_diameter_mm"] == pytest.approx(math.hypot(3.0, 2.4), abs=0.2)
    # A chord at a right angle to the diagonal d, from the upper to the lower side: h d / w.
    assert found["minor_diameter_mm"] == pytest.approx(2.4 * math.hypot(3.0, 2.4) / 3.0, abs=0.2)
    assert found["perimeter_mm"] == pytest.approx(2 * (3.0 + 2.4), rel=0.08)  # corners are rounded
    assert found["solidity"] == pytest.approx(1.0)
    assert found["aspect_ratio"] == pytest.approx(1.25)
    assert found["eccentricity"] == pytest.approx(math.sqrt(1 - 0.8**2))
    assert found["orientation_deg"] == pytest.approx(0.0, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    a=st.floats(25, 60),
    ratio=st.floats(0.35, 0.9),
    degrees=st.floats(-85, 85),
    spacing=st.sampled_from([(1.0, 1.0), (0.5, 1.0), (1.0, 0.4)]),
)
def test_ellipses_of_any_angle_and_spacing(a, ratio, degrees, spacing):
    b = a * ratio
    found = measure_2d(*images(ellipse(a, b, degrees, spacing), spacing=spacing), True)
    pixel = max(spacing)
    assert found["area_mm2"] == pytest.approx(math.pi * a * b, rel=0.02)
    assert found["equivalent_diameter_mm"] == pytest.approx(2 * math.sqrt(a * b), rel=0.01)
    assert found["major_diameter_mm"] == pytest.approx(2 * a, abs=1.5 * pixel)
    # The longest diameter of a pixelated ellipse may lean away from the axis by a few degrees.
    assert found["minor_diameter_mm"] == pytest.approx(2 * b, rel=0.04, abs=1.5 * pixel)
    t = math.radians(degrees)
    assert found["width_mm"] == pytest.approx(2 * math.hypot(a * math.cos(t), b * math.sin(t)), abs=2 * spacing[0])
    assert found["height_mm"] == pytest.approx(2 * math.hypot(a * math.sin(t), b * math.cos(t)), abs=2 * spacing[1])
    assert found["orientation_deg"] == pytest.approx(degrees, abs=3 if ratio > 0.8 else 1.5)
    assert found["aspect_ratio"] == pytest.approx(1 / ratio, rel=0.04)
    assert found["eccentricity"] == pytest.approx(math.sqrt(1 - ratio**2), abs=0.03)
    h = ((a - b) / (a + b)) ** 2  # Ramanujan
    perimeter = math.pi * (a + b) * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h)))
    assert found["perimeter_mm"] == pytest.approx(perimeter, rel=0.015)
    assert found["circularity"] == pytest.approx(min(1, 4 * math.pi**2 * a * b / perimeter**2), abs=0.03)
    assert 0.92 < found["solidity"] <= 1


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 1.0), (0.25, 0.25)])
def test_a_disc_is_round(spacing):
    found = measure_2d(*images(ellipse(30, 30, spacing=spacing), spacing=spacing), True)
    assert found["circularity"] > 0.98
    assert found["aspect_ratio"] == pytest.approx(1, abs=0.01)
    assert found["major_diameter_mm"] == pytest.approx(60, abs=1)
    assert found["minor_diameter_mm"] == pytest.approx(60, abs=1.5)
    assert found["height_to_width_ratio"] == pytest.approx(1, abs=0.03)


def _with_strands(width, degrees=0.0, radius=12, reach=40):
    """A disc with eight strands, `width` pixels wide, out to `reach` pixels from its middle."""
    y, x = np.indices((101, 101)) - 50
    inside = x**2 + y**2 <= radius**2
    for k in range(8):
        t = math.radians(45 * k + degrees)
        for r in range(reach + 1):
            row, column = 50 + round(r * math.sin(t)), 50 + round(r * math.cos(t))
            inside[row : row + width, column : column + width] = True
    return inside


@pytest.mark.parametrize("degrees", [0, 11])
@pytest.mark.parametrize("spacing", [(0.1, 0.1), (1.0, 1.0)])
def test_strands_of_one_pixel_belong_to_the_outline(degrees, spacing):
    """They are what makes a lesion spiculated; without them the perimeter was shorter than the longest diameter, and the lesion a disc."""
    thin, wide = (measure_2d(*images(_with_strands(w, degrees), spacing=spacing), True) for w in (1, 2))
    assert thin["perimeter_mm"] == pytest.approx(spacing[0] * (2 * math.pi * 12 + 16 * 28), rel=0.1)
    assert thin["perimeter_mm"] == pytest.approx(wide["perimeter_mm"], rel=0.1)
    assert thin["circularity"] < 0.1 and thin["perimeter_mm"] > 2 * thin["major_diameter_mm"]


def test_a_line_through_a_blob_is_as_long_as_it_is():
    inside = np.zeros((120, 220), bool)
    inside[60, 30:180] = True
    inside[56:64, 100:108] = True
    assert measure_2d(*images(inside), True)["perimeter_mm"] == pytest.approx(2 * 142 + 4 * 8, rel=0.03)
    speck = ellipse(20, 20)
    alone = measure_2d(*images(speck), True)["perimeter_mm"]
    speck[10, 10] = True  # a pixel far away has an outline as well
    assert measure_2d(*images(speck), True)["perimeter_mm"] == pytest.approx(alone + 4 * math.sqrt(0.5))


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 0.25)])
@pytest.mark.parametrize("star", [False, True])
def test_outlines_without_strands_are_measured_as_smoothed(monkeypatch, star, spacing):
    y, x = np.indices((200, 200)) - 100
    radius = 60 * (0.7 + 0.3 * np.cos(12 * np.arctan2(y, x))) if star else np.where(abs(y) < 40, 70, 0)  # round spicules; sharp corners
    pair = images(np.hypot(x, y) < radius, spacing=spacing)
    found = measure_2d(*pair, True)
    monkeypatch.setattr(measurements, "_strands", lambda inside, held, spacing: np.zeros_like(inside))
    assert measure_2d(*pair, True) == found


def test_a_round_mask_has_no_direction_and_an_upright_one_stands_at_ninety():
    square = np.zeros((40, 40), bool)
    square[10:20, 10:20] = True
    assert measure_2d(*images(square), True)["orientation_deg"] is None
    bar = np.zeros((40, 40), bool)
    bar[5:30, 10:13] = True
    assert measure_2d(*images(bar), True)["orientation_deg"] == pytest.approx(90)


def test_positive_orientation_dips_to_the_right():
    inside = np.zeros((50, 50), bool)
    for i in range(30):
        inside[10 + i // 2, 10 + i] = inside[11 + i // 2, 10 + i] = True  # falls to the right by one in two
    assert measure_2d(*images(inside), True)["orientation_deg"] == pytest.approx(math.degrees(math.atan(0.5)), abs=1.5)


def test_concave_shapes_are_less_solid():
    inside = np.zeros((60, 60), bool)
    inside[10:50, 10:50] = True
    inside[10:40, 20:40] = False  # a U
    assert measure_2d(*images(inside), True)["solidity"] == pytest.approx((1600 - 600) / 1600, abs=0.01)


def test_unknown_spacing_counts_in_pixels_and_says_so():
    inside = ellipse(30, 20)
    known = measure_2d(*images(inside, spacing=(0.1, 0.1)), True)
    unknown = measure_2d(*images(inside, spacing=(0.1, 0.1)), False)
    assert set(known) == UNIT_FREE | {"area_mm2"} | {f"{n}_mm" for n in LENGTHS}
    assert set(unknown) == UNIT_FREE | {"area_px2"} | {f"{n}_px" for n in LENGTHS}
    assert unknown["area_px2"] == inside.sum()
    for name in LENGTHS:
        assert known[f"{name}_mm"] == pytest.approx(0.1 * unknown[f"{name}_px"])
    for name in UNIT_FREE:
        assert known[name] == pytest.approx(unknown[name])
    assert all(isinstance(v, float) for v in known.values())


def test_direction_cosines_change_nothing():
    inside = ellipse(30, 20, 25)
    turned = measure_2d(*images(inside, direction=(0.8, -0.6, 0.6, 0.8)), True)
    assert turned == measure_2d(*images(inside), True)


def test_contrast_and_heterogeneity():
    inside = ellipse(20, 20)
    echoes = np.where(inside, 30.0, 120.0)
    found = measure_2d(*images(inside, echoes), True)
    assert found["contrast_ratio"] == pytest.approx(0.25)
    assert found["echo_heterogeneity"] == pytest.approx(0)
    checker = np.where(np.indices(inside.shape).sum(0) % 2 == 0, 0.5, 1.5)
    found = measure_2d(*images(inside, echoes * checker), True)
    assert found["echo_heterogeneity"] == pytest.approx(0.5, abs=0.01)
    assert found["contrast_ratio"] == pytest.approx(0.25, rel=0.02)
    # The ring is local: what lies far away does not count. 0.2 diameters = 8 px beyond 20.
    far = ellipse(30, 30)
    assert measure_2d(*images(inside, np.where(far, echoes, 5000.0)), True)["contrast_ratio"] == pytest.approx(0.25)


@pytest.mark.parametrize("factor", [1e154, 1e305, 1e-300])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_ratios_of_huge_and_tiny_echoes_are_those_of_any_others(factor):
    inside = ellipse(30, 20)
    echoes = np.where(inside, 30.0, 120.0) * np.where(np.indices(inside.shape).sum(0) % 2 == 0, 0.5, 1.5)
    found = measure_2d(*images(inside, echoes * factor), True)
    usual = measure_2d(*images(inside, echoes), True)
    assert all(found[name] == pytest.approx(value, rel=1e-6) for name, value in usual.items())


def test_posterior_shadow_and_enhancement():
    inside = np.zeros((100, 100), bool)
    inside[20:40, 40:60] = True
    for value, expected in ((50.0, 0.5), (200.0, 2.0)):
        echoes = np.full((100, 100), 100.0)
        echoes[40:60, 40:60] = value
        echoes[62:] = 9999.0  # deeper than the lesion's height below it: not looked at
        assert measure_2d(*images(inside, echoes), True)["posterior_ratio"] == pytest.approx(expected)


def test_no_posterior_ratio_where_the_image_ends():
    inside = np.zeros((42, 100), bool)
    inside[20:40, 40:60] = True
    assert measure_2d(*images(inside), True)["posterior_ratio"] is None
    wide = np.zeros((100, 40), bool)
    wide[20:40] = True
    assert measure_2d(*images(wide), True)["posterior_ratio"] is None
    one_side = np.zeros((100, 60), bool)
    one_side[20:40, :20] = True
    assert measure_2d(*images(one_side), True)["posterior_ratio"] == pytest.approx(1.0)


@pytest.mark.parametrize("known", [True, False])
def test_what_a_scanner_draws_around_the_picture_is_no_echo(known):
    """The same figures, depth as well, whether the picture comes alone or on the scanner's screen."""
    rng = np.random.default_rng(4)
    picture = rng.uniform(60, 140, (70, 90))
    inside = np.zeros(picture.shape, bool)
    inside[25:45, 5:35] = True  # what lies below reaches beyond the picture's edges at the left and below
    screen, on_screen = np.zeros((150, 170)), np.zeros((150, 170), bool)
    screen[40:110, 30:120], on_screen[40:110, 30:120] = picture, inside
    alone = measure_2d(*images(inside, picture, (0.2, 0.1)), known)
    assert measure_2d(*images(on_screen, screen, (0.2, 0.1)), known, (30, 40, 90, 70)) == alone
    assert measure_2d(*images(on_screen, screen, (0.2, 0.1)), known)["posterior_ratio"] != alone["posterior_ratio"]
    # A mask that a person drew beyond it is measured whole.
    on_screen[36:40, 40:60] = True
    beyond = measure_2d(*images(on_screen, screen, (0.2, 0.1)), known, (30, 40, 90, 70))
    unit = "mm" if known else "px"
    assert beyond[f"depth_{unit}"] == 0 and beyond[f"height_{unit}"] == pytest.approx(49 * (0.1 if known else 1))


def test_an_empty_mask_has_no_figures_and_one_pixel_has():
    empty = np.zeros((20, 20), bool)
    assert set(measure_2d(*images(empty), True).values()) == {None}
    empty[7, 9] = True
    found = measure_2d(*images(empty, spacing=(0.5, 0.5)), True)
    assert found["area_mm2"] == pytest.approx(0.25)
    assert found["major_diameter_mm"] == pytest.approx(0.5)
    assert found["orientation_deg"] is None
    assert found["aspect_ratio"] == pytest.approx(1)


@pytest.mark.parametrize("spacing", [(0.1, 0.1), (0.5, 0.07), (0.5, 0.05), (1.0, 0.05), (0.05, 1.0)])
def test_the_side_along_the_images_edge_counts_however_oblong_its_pixels_are(spacing):
    """Half of an ellipse of 8 x 6 mm half axes that the image's upper edge cuts; `spacing` is (x, y)."""
    y, x = np.mgrid[: int(12 / spacing[1]), : int(24 / spacing[0])]
    inside = ((y + 0.5) * spacing[1] / 6) ** 2 + (((x + 0.5) * spacing[0] - 12) / 8) ** 2 <= 1
    found = measure_2d(*images(inside, spacing=spacing), True)
    h = (2 / 14) ** 2  # Ramanujan
    expected = 16 + math.pi * 7 * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h)))
    assert found["perimeter_mm"] == pytest.approx(expected, rel=0.08)  # corners are rounded
    assert found["circularity"] == pytest.approx(4 * math.pi * (math.pi * 24) / expected**2, abs=0.12)


def test_a_mask_that_fills_a_black_image_leaves_ratios_open():
    found = measure_2d(*images(np.ones((20, 30), bool), np.zeros((20, 30))), True)
    assert found["contrast_ratio"] is None and found["echo_heterogeneity"] is None and found["posterior_ratio"] is None
    assert found["area_mm2"] == 600 and found["perimeter_mm"] == pytest.approx(100, rel=0.1)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    spacing=st.sampled_from([(1.0, 1.0), (0.1, 0.3), (0.5, 0.07)]),
    shape=st.sampled_from(["ellipse", "bar", "column", "dots"]),
)
def test_a_large_image_around_changes_nothing(seed, spacing, shape):
    """Only the surroundings of the lesion are computed on; all that counts must lie in them."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((200, 240))
    height, width = {"bar": (3, 50), "column": (40, 3)}.get(shape, rng.integers(4, 40, 2))
    inside = ((y - 100) / height) ** 2 + ((x - 120) / width) ** 2 <= 0.5
    if shape == "dots":
        inside &= rng.random(inside.shape) < 0.2
        inside[100, 120] = True
    echoes = rng.random(inside.shape) * 200 + 1
    everything = (slice(0, 200), slice(0, 240))
    with mock.patch.object(measurements, "_surroundings", lambda *_: everything):
        small = measure_2d(*images(inside, echoes, spacing), True)
    border = ((40, 60), (70, 50))
    large = measure_2d(*images(np.pad(inside, border), np.pad(echoes, border, constant_values=1e4), spacing), True)
    assert large.pop("depth_mm") == pytest.approx(small.pop("depth_mm") + 40 * spacing[1])
    turned = small.pop("orientation_deg"), large.pop("orientation_deg")  # upright may come as 90 or just above -90
    assert turned == (None, None) or abs(math.sin(math.radians(turned[0] - turned[1]))) < 1e-6
    assert {name for name, value in small.items() if value is None} == {n for n, v in large.items() if v is None}
    for name, value in small.items():
        assert value is None or large[name] == pytest.approx(value, rel=1e-9, abs=1e-9), name


def test_the_surroundings_are_all_that_is_copied():
    import tracemalloc

    inside = np.zeros((3000, 3000), bool)
    inside[1000:1040, 1500:1560] = True
    mask, image = images(inside, np.full(inside.shape, 9, np.uint8))
    measure_2d(mask, image, True)  # imports
    tracemalloc.start()
    measure_2d(mask, image, True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * inside.size  # the mask as booleans, and little else; a float copy alone is 8


def test_wrong_inputs_are_refused():
    mask, image = images(ellipse(20, 20))
    with pytest.raises(UsageError):
        measure_2d(mask, image[:50, :50], True)
    with pytest.raises(UsageError):
        measure_2d(sitk.JoinSeries([mask]), sitk.JoinSeries([image]), True)
    with pytest.raises(ImageError):
        measure_2d(mask, sitk.Compose([image] * 3), True)
    with pytest.raises(ImageError):
        measure_2d(mask, image / 0.0, True)
