"""Reading a volume and halving it. Size: (z, y, x)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from runner import Case, Contender

SIZES = ((800, 200, 800),)
QUICK = ((40, 20, 60),)


def cases(size: tuple[int, ...], seed: int) -> Iterator[Case]:
    import SimpleITK as sitk

    from BreastUSAILib.pooling import block_means
    from BreastUSAILib.volume_input import network_input

    array = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.5, 0.5, 0.5))
    half = [n // 2 for n in size]

    def resampled(source: sitk.Image = image) -> np.ndarray:
        # Linear interpolation half way between voxels is their mean: SimpleITK's exact way.
        found = sitk.Resample(
            source,
            half[::-1],
            sitk.Transform(),
            sitk.sitkLinear,
            [0.25] * 3,
            [1.0] * 3,
            source.GetDirection(),
            0.0,
            sitk.sitkFloat32,
        )
        return sitk.GetArrayFromImage(found)

    def shrunken() -> np.ndarray:
        return sitk.GetArrayFromImage(sitk.BinShrink(image, [2, 2, 2]))

    exact = (
        array[: 2 * half[0], : 2 * half[1], : 2 * half[2]].reshape(half[0], 2, half[1], 2, half[2], 2).mean((1, 3, 5))
    )
    traffic = float(array.nbytes + 4 * np.prod(half))
    text = "x".join(map(str, size))
    yield Case(
        f"halve {text}",
        Contender("ours", lambda: block_means(array, (2, 2, 2))),
        [Contender("SimpleITK Resample", resampled), Contender("SimpleITK BinShrink", shrunken)],
        lambda found: float(np.abs(found - exact).max()),
        "largest error (grey levels)",
        {"SimpleITK Resample": 8.0},
        bytes=traffic,
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = str(Path(folder) / "volume.mha")
        sitk.WriteImage(image, path)

        def smoothed() -> np.ndarray:
            # What the network's input asks for: triangular weights over twice the distance, [1 3 3 1] / 8, are a mean after a mean.
            return resampled(sitk.Cast(sitk.BinomialBlur(sitk.ReadImage(path, sitk.sitkFloat32), 1), sitk.sitkFloat32))

        yield Case(
            f"read {text}, as the network's input of half the size",
            Contender("ours", lambda: network_input(sitk.ReadImage(path), (1.0, 1.0, 1.0)).levels),
            [Contender("SimpleITK read, blur, Resample", smoothed)],
            None,
            bytes=traffic,
            note="ours with triangular weights and standardised levels, which are the models' input; the peer without standardisation.",
        )
