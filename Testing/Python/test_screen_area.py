"""screen_area.py: the ultrasound picture of a screen is found, and no tissue is ever cut off.

The figures over all images are printed by ``python Testing/Python/synthetic_screens.py ../shared/data``.
"""

import csv
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from synthetic_screens import make_screen, overlap

from BreastUSAILib.image import read_image
from BreastUSAILib.screen_area import find_screen_area

SAMPLES = Path(__file__).resolve().parents[1] / "Data"


def rows(folder: Path) -> list[dict]:
    with (folder / "labels.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def grey(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(read_image(path, allow_constant=True).image)


def area_of(array: np.ndarray):
    area = find_screen_area(sitk.GetImageFromArray(array))
    return area, (*area.start, *area.size)


def lesion_pixels_outside(mask: np.ndarray, rectangle) -> int:
    x, y, w, h = rectangle
    return int(np.count_nonzero(mask)) - int(np.count_nonzero(mask[y : y + h, x : x + w]))


def on_screen(mask: np.ndarray, truth, shape) -> np.ndarray:
    x, y, w, h = truth
    large = np.zeros(shape, bool)
    large[y : y + h, x : x + w] = np.asarray(Image.fromarray(mask > 0).resize((w, h)))
    return large


@pytest.mark.parametrize("row", rows(SAMPLES), ids=lambda row: row["id"])
def test_samples_stay_whole_and_are_found_on_screens(row):
    picture = grey(SAMPLES / row["file"])
    mask = grey(SAMPLES / row["mask"]) if row["mask"] else np.zeros_like(picture)
    area, rectangle = area_of(picture)
    assert rectangle == (0, 0, *picture.shape[::-1])
    assert not area.confident
    for seed in range(3):
        screen, truth = make_screen(picture, seed)
        area, rectangle = area_of(screen)
        assert area.confident
        assert overlap(rectangle, truth) >= 0.9
        assert lesion_pixels_outside(on_screen(mask, truth, screen.shape), rectangle) == 0


def test_real_images(shared_data):
    overlaps = []
    for name in ("breast", "busbra", "busi"):
        for seed, row in enumerate([r for r in rows(shared_data / name) if r["fold"] == "0" and r["mask"]][::10]):
            picture, mask = grey(shared_data / name / row["file"]), grey(shared_data / name / row["mask"])
            assert lesion_pixels_outside(mask, area_of(picture)[1]) == 0
            screen, truth = make_screen(picture, seed)
            rectangle = area_of(screen)[1]
            overlaps.append(overlap(rectangle, truth))
            assert lesion_pixels_outside(on_screen(mask, truth, screen.shape), rectangle) == 0
    assert len(overlaps) > 30
    assert np.mean(np.array(overlaps) >= 0.95) >= 0.95


def speckle(shape, seed=0) -> np.ndarray:
    return np.clip(np.random.default_rng(seed).rayleigh(40, shape), 0, 255).astype(np.uint8)


def test_a_sector_gives_the_rectangle_around_it():
    y, x = np.mgrid[0:500, 0:700]
    radius, angle = np.hypot(x - 350, y + 150), np.abs(np.arctan2(x - 350, y + 150))
    sector = np.where((radius > 160) & (radius < 620) & (angle < 0.6), speckle((500, 700)), 0).astype(np.uint8)
    ys, xs = np.nonzero((radius > 160) & (radius < 620) & (angle < 0.6))
    screen = np.zeros((768, 1024), np.uint8)
    screen[100:600, 150:850] = sector
    truth = (150 + xs.min(), 100 + ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1)
    area, rectangle = area_of(screen)
    assert area.confident
    assert overlap(rectangle, truth) >= 0.95


@pytest.mark.parametrize("gap", [3, 12, 60])
def test_of_two_pictures_the_larger_is_taken(gap):
    screen = np.zeros((700, 1000), np.uint8)
    screen[100:500, 80:400] = speckle((400, 320))
    screen[100:500, 400 + gap : 850] = speckle((400, 450 - gap), 1)
    area, rectangle = area_of(screen)
    assert overlap(rectangle, (400 + gap, 100, 450 - gap, 400)) >= 0.97
    assert "more than one" in area.notes[0]


def test_dim_depths_are_kept():
    depth = np.linspace(1, 0.02, 450)[:, None] ** 2
    picture = (speckle((450, 500)) * depth).astype(np.uint8)
    screen = np.zeros((700, 900), np.uint8)
    screen[100:550, 200:700] = picture
    last = 100 + int(np.flatnonzero((picture > 0).mean(axis=1) > 0.2)[-1])
    area, (_, y, _, h) = area_of(screen)
    assert area.confident
    assert y + h >= last - 10


def test_tissue_behind_a_black_shadow_is_kept():
    screen = np.zeros((700, 900), np.uint8)
    screen[100:300, 200:700] = speckle((200, 500))
    screen[380:480, 450:700] = speckle((100, 250), 1)
    _, rectangle = area_of(screen)
    assert overlap(rectangle, (200, 100, 500, 380)) >= 0.97


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, np.float64])
def test_other_pixel_types_give_the_same(dtype):
    screen, _ = make_screen(speckle((300, 400)), 4)
    assert area_of((screen.astype(dtype)) * 100)[1] == area_of(screen)[1]


def test_values_beyond_float32_give_the_same():
    screen, _ = make_screen(speckle((300, 400)), 4)
    assert area_of((screen - 127.5) * 1e306)[1] == area_of(screen)[1]


@pytest.mark.parametrize("array", [speckle((20, 30)), np.zeros((300, 300), np.uint8), speckle((300, 3))])
def test_tiny_and_empty_images_are_returned_whole(array):
    area, rectangle = area_of(array)
    assert rectangle == (0, 0, *array.shape[::-1])
    assert not area.confident
