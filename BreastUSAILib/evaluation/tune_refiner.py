"""Choose the refiner's parameters on validation images: the change of Dice by refinement for each setting of a grid.

``python -m BreastUSAILib.evaluation.tune_refiner --data DIR... --model ID --output refiner.csv`` runs the network once an
image of the validation fold and then every setting. Never run it on the test fold.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..chan_vese import ChanVeseParameters, refine
from ..components import keep_components
from ..errors import DataError
from .metrics import dice


class Case(NamedTuple):
    """An image whose outlines are refined: arrays (y, x) or (z, y, x) of one shape, and the spacing in the same order.

    `starts` are the outlines that refinement starts from, None: each component of ``probability > threshold`` that `keep_components`
    keeps; `source` is the data set that it comes from.
    """

    image: np.ndarray
    probability: np.ndarray
    truth: np.ndarray
    spacing: Sequence[float]
    starts: Sequence[np.ndarray] | None = None
    source: str = ""


GRID: dict[str, Sequence[float]] = {
    "prior": (0.35, 0.7, 1.0, 1.4, 2.8),
    "max_change": (0.1, 0.15),
    "length_scale": (0.05, 0.08, 0.12),
    "window": (0.3, 0.4, 0.6),
}


def settings(grid: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    """Every combination of a grid's values."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def tune(
    cases: Iterable[Case],
    grid: Mapping[str, Sequence[float]] | Sequence[Mapping[str, float]],
    *,
    threshold: float = 0.5,
    lesions: str = "central",
) -> list[dict[str, Any]]:
    """The change of Dice by refinement for each setting.

    Parameters
    ----------
    cases : see `Case`; plain tuples will do. Cases without a lesion in the truth or in the start are left out: there is nothing to refine.
    grid : values of each field of `ChanVeseParameters` to combine, or a list of settings. ``{}`` is the defaults.
    threshold, lesions : as in `segment.SegmentOptions`.

    Returns
    -------
    list of dict, the best first: the setting, and over the cases ``cases``, ``dice_before``, ``dice_after`` and
    ``mean_change`` (each data set counts alike, however many cases it has), ``median_change``, ``p10_change`` (10th percentile),
    ``worse`` and ``kept`` (shares of the cases with a lower Dice, of the lesions with an outline that was kept as it was), ``seconds`` a case.

    Raises
    ------
    DataError : no case has a lesion in both.
    UsageError : a setting that is out of range.
    """
    rows = settings(grid) if isinstance(grid, Mapping) else [dict(s) for s in grid]
    parameters = [ChanVeseParameters(**row) for row in rows]
    before: list[float] = []
    after: list[list[float]] = [[] for _ in rows]
    kept, seconds, starts_seen = [0] * len(rows), [0.0] * len(rows), 0
    sources: list[str] = []
    for case in cases:  # cases outermost: they may be a generator that runs a network
        image, probability, truth, spacing, starts, source = Case(*case)
        if starts is None:
            starts = keep_components(probability > threshold, spacing, keep=lesions)
        truth = np.asarray(truth) != 0
        if not starts or not truth.any():
            continue
        sources.append(source)
        starts_seen += len(starts)
        before.append(dice(np.logical_or.reduce(starts), truth))
        for k, setting in enumerate(parameters):
            clock = time.perf_counter()
            results = [refine(image, start, spacing, setting, probability, threshold) for start in starts]
            seconds[k] += time.perf_counter() - clock
            kept[k] += sum(not r.refined for r in results)
            after[k].append(dice(np.logical_or.reduce([r.mask for r in results]), truth))
    if not before:
        raise DataError("There is no case with a lesion both in the truth and in the probability map; nothing to tune on.")
    report = []
    groups = [np.flatnonzero(np.array(sources) == source) for source in dict.fromkeys(sources)]

    def mean(values: np.ndarray) -> float:
        return float(np.mean([values[group].mean() for group in groups]))

    for k, row in enumerate(rows):
        change = np.array(after[k]) - np.array(before)
        report.append(
            {
                **row,
                "cases": len(before),
                "dice_before": mean(np.array(before)),
                "dice_after": mean(np.array(after[k])),
                "mean_change": mean(change),
                "median_change": float(np.median(change)),
                "p10_change": float(np.percentile(change, 10)),
                "worse": float((change < 0).mean()),
                "kept": kept[k] / starts_seen,
                "seconds": seconds[k] / len(before),
            }
        )
    return sorted(report, key=lambda r: -r["mean_change"])


def main(arguments: Sequence[str] | None = None) -> int:
    from tqdm import tqdm

    from ..atomic import atomic_path
    from ..models.zoo import load
    from ..segment import DEFAULT_THRESHOLD, probability_map
    from .segmentation_data import VALIDATION_FOLD, in_folds, load_picture, read_data_sets

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", required=True, type=Path, metavar="DIR")
    parser.add_argument("--model", default="")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", required=True, type=Path, metavar="CSV")
    options = parser.parse_args(arguments)

    model = load(options.model, "segment", options.device)
    listed = in_folds(read_data_sets(options.data), [VALIDATION_FOLD])

    def cases():
        for case in tqdm(listed, unit="image"):
            seen = load_picture(case)
            image, truth = np.asarray(seen.pixels[seen.part], np.float32), seen.mask[seen.part]
            probability = probability_map(image, model, seen.pixel_aspect)
            yield Case(image, probability, truth, (seen.pixel_aspect, 1.0), source=case.source)

    # The plain energy and the defaults stand beside the grid.
    paper = ChanVeseParameters.paper()
    grid = [{}, {k: getattr(paper, k) for k in ("smoothing", "window", "prior", "max_change")}, *settings(GRID)]
    threshold = model.entry.postprocessing.get("threshold", DEFAULT_THRESHOLD)
    report = tune(cases(), grid, threshold=threshold)
    names = dict.fromkeys(name for row in report for name in row)
    with atomic_path(options.output) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(names), restval="")
        writer.writeheader()
        writer.writerows(report)
    for row in report[:10]:
        print(row)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
