"""Studies on small DICOM files, with findings whose masks are known, for the tests of what goes out as DICOM."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import dicom_samples as samples
import numpy as np
import pytest
import SimpleITK as sitk

from BreastUSAILib.findings import Finding, ImageInfo, Study
from BreastUSAILib.grid import box_of_mask
from BreastUSAILib.image import LoadedImage, read_image

MODELS = [
    {"id": "roi-cnn-compact", "version": "2.0.0", "sha256": "a" * 64, "task": "segment"},
    {"id": "detector", "version": "1.5.0", "sha256": "b" * 64, "task": "detect"},
]
BIRADS = {"3": 0.1, "4A": 0.5, "4B": 0.2, "4C": 0.1, "5": 0.1}
SPACING = (0.2, 0.073, 0.475674)


def rotation(*degrees: float) -> np.ndarray:
    """Rotations about x, y and z, one after the other."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        a, b = (i for i in range(3) if i != axis)
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


OBLIQUE = rotation(20, -35, 50)


def volume(shape=(6, 12, 16)) -> np.ndarray:
    return samples.speckle(shape)


def write_kind(kind: str, folder: Path) -> Path:
    """One file of a kind, or the folder of a series."""
    pixels, place = volume(), {"origin": (-80.5, 12.25, 33.0), "x": OBLIQUE[:, 0], "y": OBLIQUE[:, 1]}
    if kind == "series":
        files = samples.slices(pixels, SPACING, **place)
        order = [3, 0, 5, 1, 4, 2]  # names are no order
        for k, ds in zip(order, files, strict=True):
            samples.save(ds, folder / "series" / f"{k}.dcm")
        return folder / "series"
    made = {
        "image": lambda: samples.us_image(pixels[0], mm=(0.2, 0.1)),
        "cine": lambda: samples.us_cine(pixels, mm=(0.2, 0.1)),
        "abvs": lambda: samples.abvs(pixels, SPACING),
        "ge_abus": lambda: samples.ge_abus(pixels, SPACING),
        "enhanced": lambda: samples.enhanced_volume(
            pixels[[2, 0, 1, 5, 4, 3]], SPACING, places=[SPACING[2] * k for k in (2, 0, 1, 5, 4, 3)], **place
        ),
        "screen": lambda: samples.secondary_capture(pixels[0]),
    }[kind]()
    return samples.save(made, folder / f"{kind}.dcm")


KINDS = ("image", "cine", "abvs", "ge_abus", "enhanced", "series", "screen")


def load(path: Path) -> LoadedImage:
    if path.is_dir():
        files = tuple(sorted(path.iterdir()))
        return read_image(files[0], files=files)
    return read_image(path)


def mask_on(image: sitk.Image, seed: int) -> sitk.Image:
    """A mask without symmetries: a random subset of a block; no two seeds give the same."""
    rng = np.random.default_rng(seed)
    array = np.zeros(image.GetSize()[::-1], np.uint8)
    first = [int(rng.integers(0, max(1, n // 2))) for n in array.shape]
    block = tuple(slice(a, a + max(2, n // 3)) for a, n in zip(first, array.shape, strict=True))
    array[block] = rng.random(array[block].shape) < 0.7
    array[tuple(first)] = 1
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(image)
    return mask


def study_of(loaded: LoadedImage, count: int = 2, masks: bool = True) -> Study:
    """A study with `count` findings; the first has all that a finding may have."""
    unit = "mm" if loaded.spacing_known else "px"
    findings = []
    for n in range(count):
        mask = mask_on(loaded.image, n + 1)
        finding = Finding(
            f"L{n + 1}",
            box_of_mask(mask),
            0.9 - 0.2 * n,
            mask=mask if masks else None,
            label=n + 1 if masks else None,
            measurements={
                f"major_diameter_{unit}": 4.25,
                f"area_{unit}2": 12.5,
                "height_to_width_ratio": 0.7,
                "solidity": None,
            },
            models={"segment": "roi-cnn-compact"} if masks else {"detect": "detector"},
        )
        if n == 0:
            finding = replace(finding, malignancy=0.3, birads=BIRADS, solid_nodule=0.8, notes=("A note.",))
        findings.append(finding)
    image = (
        loaded.info if hasattr(loaded, "info") else ImageInfo.of(loaded.image, str(loaded.path), loaded.spacing_known)
    )
    provenance = {"created": "2026-11-21T10:00:00+00:00", "models": MODELS, "options": {"frame": None}, "notes": []}
    return Study(image, tuple(findings), provenance=provenance)


def dciodvfy(path: Path) -> None:
    """Fail where dicom3tools' dciodvfy finds an error; skip where it is not installed."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian: apt install dicom3tools)")
    done = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, timeout=60)
    errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
    assert not errors, "\n".join(errors)
