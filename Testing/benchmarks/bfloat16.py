"""What bfloat16 changes in outlines and grades of images: ``python Testing/benchmarks/bfloat16.py --data DIR ... [--images 60]``.

Every n-th image of the validation fold goes through the shipped networks twice, in float32 and in bfloat16 (which PyTorch emulates,
slowly, where the processor does not have it); both are compared with the annotation and with each other.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from unittest import mock

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]
SYSTEMS = ("gcnn", "mtnet", "snnet")


def results(cases, precise: bool) -> list[tuple[float, float, float, np.ndarray]]:
    """Of each case Dice, the probability of malignancy, the distance from the known, and the mask."""
    from BreastUSAILib.evaluation.grade_answers import answers
    from BreastUSAILib.evaluation.grade_outlines import FoundOutlines
    from BreastUSAILib.evaluation.metrics import dice
    from BreastUSAILib.evaluation.segmentation_data import load_pixels
    from BreastUSAILib.grade import GradeModels, GradeOptions
    from BreastUSAILib.grade_pooling import concluded
    from BreastUSAILib.image import read_image
    from BreastUSAILib.models import devices, inference
    from BreastUSAILib.models.zoo import load

    rows = []
    with (
        mock.patch.object(devices, "fast_bf16", lambda name: not precise),
        mock.patch.object(inference, "fast_bf16", lambda name: not precise),
    ):
        outlines = FoundOutlines(load("", "segment", "cpu"))
        models = GradeModels(**{s: load("", f"grade-{s}", "cpu") for s in SYSTEMS})
        for case in cases:
            pixels, truth = load_pixels(case)
            mask = outlines.of(case)
            area = read_image(case.image).area
            x, y, width, height = area if area is not None else (0, 0, pixels.shape[1], pixels.shape[0])
            part = (slice(y, y + height), slice(x, x + width))
            said = answers(pixels[part], mask[part], models, GradeOptions())[0]
            pooling = models.pooling
            grade = concluded(said, pooling)
            rows.append((dice(mask, truth), grade.malignancy, pooling.familiar.distance(said), mask))
            print(f"\r{len(rows)} of {len(cases)} in {'float32' if precise else 'bfloat16'}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, type=Path, metavar="DIR")
    parser.add_argument("--images", type=int, default=60)
    args = parser.parse_args()
    from BreastUSAILib.evaluation.grade_data import gradable
    from BreastUSAILib.evaluation.metrics import dice
    from BreastUSAILib.evaluation.segmentation_data import VALIDATION_FOLD, in_folds, read_cases

    cases = [c for folder in args.data for c in in_folds(read_cases(folder), [VALIDATION_FOLD]) if gradable(c)]
    cases = cases[:: max(1, len(cases) // args.images)]
    precise, low = results(cases, True), results(cases, False)
    between = np.array([dice(a[3], b[3]) for a, b in zip(precise, low, strict=True)])
    truth, malignancy, distance = (np.array([(a[i], b[i]) for a, b in zip(precise, low, strict=True)]) for i in range(3))
    print(f"{len(cases)} images; float32, bfloat16")
    print(f"mean Dice with the annotation: {truth[:, 0].mean():.4f}, {truth[:, 1].mean():.4f}")
    print(f"Dice of both outlines: mean {between.mean():.4f}, least {between.min():.4f}")
    change = np.abs(np.diff(malignancy, axis=1))
    print(f"probability of malignancy: changed by {change.mean():.4f} in the mean, {change.max():.4f} at most")
    for name, column in (("malignancy", malignancy), ("distance from the known", distance)):
        order = np.corrcoef(*column.argsort(0).argsort(0).T)[0, 1]
        print(f"{name}: rank correlation {order:.5f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
