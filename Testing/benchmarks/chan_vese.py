"""The refiner against scikit-image's Chan-Vese, alternating in one process: ``python Testing/benchmarks/chan_vese.py``.

Synthetic dark lesions with an irregular outline under speckle, started from a shifted and disturbed outline, all with
the plain energy and at most 50 iterations. scikit-image works on the whole image, as it is called in practice, and once
more on just the region that ours looks at. For each: median time of ours and theirs, the median of the ratios of
neighbouring runs, and the mean Dice of the start, ours and theirs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.segmentation import chan_vese, morphological_chan_vese

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from BreastUSAILib.chan_vese import ChanVeseParameters, refine  # noqa: E402
from BreastUSAILib.evaluation.metrics import dice  # noqa: E402

PARAMETERS = ChanVeseParameters.paper()


def scene(shape: tuple[int, ...], radius: float, noise: float, seed: int) -> tuple[np.ndarray, ...]:
    """Image (uint8), start and truth."""
    random = np.random.default_rng(seed)

    def smooth(sigma: float) -> np.ndarray:
        field = ndimage.gaussian_filter(random.normal(size=shape), sigma)
        return field / field.std()

    grid = np.indices(shape)
    distance = radius - np.sqrt(sum((g - n / 2) ** 2 for g, n in zip(grid, shape, strict=True)))
    distance = distance + 0.12 * radius * smooth(radius / 3)
    labels, _ = ndimage.label(distance > 0)
    truth = labels == labels[tuple(n // 2 for n in shape)]
    start = ndimage.shift(distance + 0.06 * radius * smooth(radius / 3), 0.06 * radius, order=1) > 0
    speckle = ndimage.gaussian_filter(random.rayleigh(size=shape), 0.7)
    speckle = (speckle - speckle.mean()) / speckle.std()
    image = np.clip(np.where(truth, 70, 130) * (1 + noise * speckle), 0, 255).astype(np.uint8)
    return image, start, truth


def morphological(image: np.ndarray, start: np.ndarray) -> np.ndarray:
    return morphological_chan_vese(image / 255.0, 50, init_level_set=start.astype(np.int8)).astype(bool)


def level_set(image: np.ndarray, start: np.ndarray) -> np.ndarray:
    signed = ndimage.distance_transform_edt(start) - ndimage.distance_transform_edt(~start)
    found = chan_vese(image / 255.0, mu=0.25, max_num_iter=50, init_level_set=signed)
    return found if dice(found, start) >= dice(~found, start) else ~found  # it does not say which side is inside


def cropped(method: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def run(image: np.ndarray, start: np.ndarray) -> np.ndarray:
        (box,) = ndimage.find_objects(start.astype(int))
        extra = [int(PARAMETERS.margin * (s.stop - s.start)) + 2 for s in box]
        box = tuple(slice(max(0, s.start - e), s.stop + e) for s, e in zip(box, extra, strict=True))
        found = np.zeros_like(start)
        found[box] = method(image[box], start[box])
        return found

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="scenes of each kind")
    repeats = parser.parse_args().repeats
    print(f"{'scene':<26}{'against':<38}{'ours ms':>9}{'theirs ms':>11}{'ratio':>8}{'start':>8}{'ours':>8}{'theirs':>8}")
    for shape, radius in (((288, 288), 55), ((64, 128, 128), 24)):
        methods = {
            "morphological_chan_vese": morphological,
            "morphological_chan_vese, region": cropped(morphological),
        }
        if len(shape) == 2:
            methods |= {"chan_vese": level_set, "chan_vese, region": cropped(level_set)}
        for noise in (0.3, 0.5):
            for name, method in methods.items():
                times, scores = [], []
                for seed in range(repeats):
                    image, start, truth = scene(shape, radius, noise, seed)
                    refine(image, start, (1.0,) * len(shape), PARAMETERS)  # warm caches for ours as for theirs
                    clock = [time.perf_counter()]
                    ours = refine(image, start, (1.0,) * len(shape), PARAMETERS).mask
                    clock.append(time.perf_counter())
                    theirs = method(image, start)
                    clock.append(time.perf_counter())
                    times.append(np.diff(clock) * 1e3)
                    scores.append([dice(m, truth) for m in (start, ours, theirs)])
                ours_ms, theirs_ms = np.median(times, axis=0)
                ratio = statistics.median(b / a for a, b in times)
                print(
                    f"{'x'.join(map(str, shape)) + f', speckle {noise}':<26}{name:<38}{ours_ms:>9.1f}{theirs_ms:>11.1f}"
                    f"{ratio:>8.1f}" + "".join(f"{s:>8.3f}" for s in np.mean(scores, axis=0)),
                    flush=True,
                )


if __name__ == "__main__":
    main()
