"""Synthetic captures of scanner screens around real ultrasound images, and the figures of `find_screen_area` on them.

``python Testing/Python/synthetic_screens.py DATA`` prints the figures on ../shared/data (fold 0, and all images as they
are); the tests use the generator on a few images.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image, ImageDraw, ImageFont

from BreastUSAILib.screen_area import find_screen_area

_WORDS = ["GE", "MI 0.7", "TIS 0.1", "12L-RS", "FR 24 Hz", "Gn 52", "Breast", "MAMA ESQ", "L 11.3 mm", "2024-05-17"]
_WORDS += [
    "10:42:07",
    "D 3.5 cm",
    "XRes",
    "DR 69",
    "HOSPITAL",
    "Map F/0",
    "AO% 100",
    "RIGHT 10H",
    "1 L 0.93 cm",
    "HGen",
]


def make_screen(picture: np.ndarray, seed: int, size=(1024, 768)) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A screen with `picture` (uint8, (height, width)) in it: the screen and (x, y, width, height) of the picture."""
    rng = np.random.default_rng(seed)
    width, height = size
    # Scanners show the picture at a large part of the screen.
    room = rng.uniform(0.55, 0.8) * width, rng.uniform(0.6, 0.82) * height
    scale = min(room[0] / picture.shape[1], room[1] / picture.shape[0])
    shape = int(picture.shape[1] * scale), int(picture.shape[0] * scale)
    shown = Image.fromarray(picture).resize(shape, Image.Resampling.BICUBIC)
    background = int(rng.choice([0, 0, 0, 8, 24, 48]))
    screen = Image.new("L", size, background)
    draw = ImageDraw.Draw(screen)
    x = int(rng.integers(60, width - shape[0] - 60))
    y = int(rng.integers(50, height - shape[1] - 40))
    fonts = [ImageFont.load_default(s) for s in (11, 14, 18, 26)]

    def text(px, py, lines):
        font = fonts[int(rng.integers(0, len(fonts)))]
        for k in range(lines):
            place, words = (px, py + k * int(font.size * 1.3)), str(rng.choice(_WORDS))
            left, top, right, bottom = draw.textbbox(place, words, font=font)
            beside = right < x - 6 or left > x + shape[0] + 6 or bottom < y - 6 or top > y + shape[1] + 6
            if beside:  # scanners do not push text under the picture
                draw.text(place, words, fill=int(rng.integers(120, 256)), font=font)

    if rng.random() < 0.4:  # a side panel of another grey
        draw.rectangle((0, 0, max(x - 30, 10), height), fill=int(rng.integers(15, 80)))
    if rng.random() < 0.4:  # a title bar
        draw.rectangle((0, 0, width, 30), fill=int(rng.integers(30, 120)))
    for _ in range(3):  # above, beside and below the picture
        text(int(rng.integers(5, width - 150)), int(rng.integers(2, 12)), 1)
        text(int(rng.integers(2, 20)), int(rng.integers(40, height - 150)), int(rng.integers(1, 6)))
        if width - (x + shape[0]) > 110:
            text(x + shape[0] + 45, int(rng.integers(40, height - 150)), int(rng.integers(1, 6)))
        if height - (y + shape[1]) > 36:
            text(int(rng.integers(5, width - 150)), y + shape[1] + 10, 1)
    # Grey scale bar, depth ticks, focus mark, logo.
    bar_x = x - 28 if rng.random() < 0.5 else x + shape[0] + 12
    for k in range(int(shape[1] * 0.35)):
        draw.line((bar_x, y + k, bar_x + 12, y + k), fill=255 - int(255 * k / (shape[1] * 0.35)))
    tick_x = x + shape[0] + 4
    for k in range(0, shape[1], int(rng.integers(18, 60))):
        draw.line((tick_x, y + k, tick_x + 6, y + k), fill=200)
    draw.polygon([(x - 10, y + 60), (x - 4, y + 65), (x - 10, y + 70)], fill=220)
    draw.ellipse((width - 50, height - 50, width - 8, height - 8), outline=180, width=3)
    screen.paste(shown, (x, y))
    for _ in range(int(rng.integers(0, 3))):  # calipers and text inside the picture
        cx, cy = x + int(rng.integers(10, shape[0] - 10)), y + int(rng.integers(10, shape[1] - 10))
        draw.line((cx - 6, cy, cx + 6, cy), fill=255)
        draw.line((cx, cy - 6, cx, cy + 6), fill=255)
    array = np.asarray(screen)
    if rng.random() < 0.3:  # saved as JPEG on the way
        import io

        stream = io.BytesIO()
        screen.save(stream, "JPEG", quality=int(rng.integers(75, 96)))
        array = np.asarray(Image.open(stream))
    return array, (x, y, *shape)


def overlap(a, b) -> float:
    """Intersection over union of two rectangles (x, y, width, height)."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / (a[2] * a[3] + b[2] * b[3] - w * h)


def _rectangle(area):
    return (*area.start, *area.size)


def _cut_off(mask: np.ndarray, rectangle) -> int:
    x, y, w, h = rectangle
    return int(np.count_nonzero(mask)) - int(np.count_nonzero(mask[y : y + h, x : x + w]))


def _main(data: Path, folds: set[str]) -> None:
    for name in ("breast", "busbra", "busi"):
        rows = list(csv.DictReader((data / name / "labels.csv").open(encoding="utf-8")))
        cut, lesion, kept, changed, overlaps, screen_cut, screen_lesion, seconds = 0, 0, [], [], [], 0, 0, []
        for seed, row in enumerate(rows):
            picture = np.asarray(Image.open(data / name / row["file"]).convert("L"))
            mask = np.asarray(Image.open(data / name / row["mask"]).convert("L")) > 0 if row["mask"] else picture * 0
            area = find_screen_area(sitk.GetImageFromArray(picture))
            lost = _cut_off(mask, _rectangle(area))
            cut, lesion = cut + lost, lesion + int(np.count_nonzero(mask))
            kept.append(area.size[0] * area.size[1] / picture.size)
            if area.confident:
                changed.append((row["id"], round(kept[-1], 3), lost))
            if row["fold"] not in folds:
                continue
            screen, truth = make_screen(picture, seed)
            began = time.perf_counter()
            found = find_screen_area(sitk.GetImageFromArray(screen))
            seconds.append(time.perf_counter() - began)
            overlaps.append((overlap(_rectangle(found), truth), row["id"], seed))
            large = np.zeros(screen.shape, bool)
            x, y, w, h = truth
            large[y : y + h, x : x + w] = np.asarray(Image.fromarray(mask).resize((w, h)))
            screen_lesion += int(np.count_nonzero(large))
            screen_cut += _cut_off(large, _rectangle(found))
        good = sum(o[0] >= 0.95 for o in overlaps)
        print(f"{name}: {len(rows)} images as they are: {cut} of {lesion} lesion pixels cut off; cropped: {changed}")
        print(
            f"  screens (folds {sorted(folds)}): IoU >= 0.95 in {good} of {len(overlaps)} = {good / len(overlaps):.3f}, "
            f"median {np.median([o[0] for o in overlaps]):.4f}; {screen_cut} of {screen_lesion} lesion pixels cut off; "
            f"{1000 * np.median(seconds):.0f} ms; worst {[(round(o[0], 2), *o[1:]) for o in sorted(overlaps)[:8]]}"
        )


if __name__ == "__main__":
    _main(Path(sys.argv[1]), set(sys.argv[2]) if len(sys.argv) > 2 else {"0"})
