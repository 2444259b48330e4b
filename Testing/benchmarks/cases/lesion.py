"""A large lesion of a volume: from its box to the finding with the shipped model, and its figures alone. Size: (z, y, x), voxels of 0.5 x 0.08 x 0.2 mm."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from runner import Case, Contender

SIZES = ((320, 600, 800),)
QUICK = ((40, 110, 110),)
SPACING = (0.5, 0.08, 0.2)
SHARES = (0.009, 0.0245)  # of the volume that is the lesion: 11 and 30 ml in one of a whole breast


def cases(size: tuple[int, ...], seed: int) -> Iterator[Case]:
    import SimpleITK as sitk

    from BreastUSAILib.grid import box_of_mask
    from BreastUSAILib.measurements_3d import measure_3d
    from BreastUSAILib.models import zoo
    from BreastUSAILib.segment_3d import segment_3d

    model = zoo.load("segmentation-3d-compact", "segment-3d", device="cpu")
    random = np.random.default_rng(seed)
    for share in SHARES:
        echoes = random.integers(60, 140, size, dtype=np.uint8)
        extent = np.multiply(size, SPACING)
        radius = (share * extent.prod() * 3 / 4 / math.pi) ** (1 / 3)  # of the ball of this volume
        half_axes = np.multiply((1.25, 0.62, 1.29), radius)  # wider than tall
        axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(size, SPACING, strict=True)]
        near = [np.flatnonzero(np.abs(axis) <= half) for axis, half in zip(axes, half_axes, strict=True)]
        place = tuple(slice(int(n[0]), int(n[-1]) + 1) for n in near)
        parts = [(axis[n] / half) ** 2 for axis, n, half in zip(axes, near, half_axes, strict=True)]
        inside = parts[0][:, None, None] + parts[1][:, None] + parts[2] <= 1
        truth = np.zeros(size, np.uint8)
        truth[place] = inside
        echoes[place] //= np.where(inside, 3, 1).astype(np.uint8)
        image, mask = (_image(sitk, array) for array in (echoes, truth))
        box, crop = box_of_mask(mask), mask[place[::-1]]
        text = f"{int(inside.sum()) * math.prod(SPACING) / 1000:.1f} ml in {'x'.join(map(str, size))}"

        def outlined(image=image, box=box):
            findings, _ = segment_3d(image, model, boxes=[box])
            return findings[0].mask

        def agreement(found, truth=truth):
            if found is None:
                return 0.0
            inside = sitk.GetArrayViewFromImage(found) != 0
            return 2 * int(np.count_nonzero(inside & (truth != 0))) / (int(np.count_nonzero(inside)) + int(truth.sum()))

        yield Case(
            f"Lesion of {text}, box to finding (shipped)",
            Contender("ours", outlined),
            [],
            agreement,
            "Dice",
            bytes=float(inside.size),
            note="goal: less than 2 s on two cores. Noise with a dark ellipsoid, which no model has learnt from; memory includes the mask of the whole volume.",
        )

        def shape_statistics(crop=crop):
            found = sitk.LabelShapeStatisticsImageFilter()
            found.Execute(crop)
            return found.GetPerimeter(1)

        area = _area(*half_axes)
        yield Case(
            f"Figures of a lesion of {text}",
            Contender("ours", lambda crop=crop, image=image: measure_3d(crop, image)["surface_mm2"]),
            [Contender("SimpleITK LabelShapeStatistics", shape_statistics)],
            lambda found, area=area: abs(found / area - 1),
            "relative error of the surface",
            bytes=float(inside.size),
            note="the peer has moments and the surface alone: no diameters (it offers one, of all pairs of voxels of the border), roughness or echoes.",
        )


def _image(sitk, array: np.ndarray):
    """On an oblique grid."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING[::-1])
    image.SetDirection((0.36, 0.48, -0.8, -0.8, 0.60, 0.0, 0.48, 0.64, 0.60))
    return image


def _area(a: float, b: float, c: float) -> float:
    """Of an ellipsoid, by the sum of its elements over the sphere."""
    u, v = np.meshgrid((np.arange(400) + 0.5) / 400 * np.pi, (np.arange(800) + 0.5) / 800 * 2 * np.pi, indexing="ij")
    element = np.sin(u) * np.sqrt(
        (b * c * np.sin(u) * np.cos(v)) ** 2 + (a * c * np.sin(u) * np.sin(v)) ** 2 + (a * b * np.cos(u)) ** 2
    )
    return float(element.sum() * np.pi / 400 * 2 * np.pi / 800)
