"""The protocol for outlines in volumes: ``breastusai evaluate segment-3d --data DIR --split test --model M --output E``.

Every lesion goes through the same code as a user's, on the volume's own grid, three times: with its true box, with a box that is off as
a detector's is (drawn from the lesion's name and a seed), and, where a detector is given, with the box of its surest finding
there. A lesion that the detector missed counts with Dice 0. `segment_3d_summary.figures` says what each figure is.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..atomic import write_text
from ..errors import DataError
from ..findings import Box, Finding
from ..phantom.seeds import SPLITS
from . import metrics
from .bootstrap import SAMPLES
from .illustrated import illustrated
from .known_images import in_paragraphs, notes_on_known_volumes
from .segment_3d_summary import MALIGNANT_FROM, LesionResult, summarise
from .tables import counted, stated
from .volume_data import TrueLesion, VolumeCase, failing_by_name
from .volume_options import cases_of, check_options

Segmenter = Callable[[sitk.Image, Finding], Finding]
"""From a volume and a finding with a box to the same with a mask, or without one where nothing was outlined."""
BoxesOf = Callable[[sitk.Image, VolumeCase, Sequence[TrueLesion]], Sequence[Box | None]]
"""The boxes from which the lesions of a volume are outlined, one each; None for a lesion that has none."""

SHIFT, STRETCH = 0.1, 1.2
"""Of a box that is off: its centre by up to a tenth of its sides, its sides by a factor of up to 1.2, each axis by itself."""
WAYS = {"true": "true boxes", "jittered": "jittered boxes", "detected": "a detector's boxes"}


def true_boxes(image: sitk.Image, case: VolumeCase, lesions: Sequence[TrueLesion]) -> list[Box | None]:
    return [lesion.box for lesion in lesions]


def jittered_boxes(seed: int) -> BoxesOf:
    """Boxes that are off; the same for the same lesion and seed, whatever else is measured."""

    def boxes(image: sitk.Image, case: VolumeCase, lesions: Sequence[TrueLesion]) -> list[Box | None]:
        axes = np.reshape(image.GetDirection(), (3, 3))
        found: list[Box | None] = []
        for lesion in lesions:
            digest = hashlib.sha256(f"{seed}/{case.id}/{lesion.label}".encode()).digest()
            random = np.random.default_rng(int.from_bytes(digest[:8], "little"))
            size = np.array(lesion.box.size)
            shift = axes @ (random.uniform(-SHIFT, SHIFT, 3) * size)
            wrong = size * STRETCH ** random.uniform(-1, 1, 3)
            found.append(Box(tuple((np.array(lesion.box.center) + shift).tolist()), tuple(wrong.tolist())))
        return found

    return boxes


def detected_boxes(detector: Callable[[sitk.Image], Sequence[Finding]]) -> BoxesOf:
    """For each lesion the box of the surest finding that overlaps it more than any other lesion; None where there is none."""
    from . import detection_metrics as dm

    def boxes(image: sitk.Image, case: VolumeCase, lesions: Sequence[TrueLesion]) -> list[Box | None]:
        direction = image.GetDirection()
        found = sorted(detector(image), key=lambda f: -f.score)
        matched: list[Box | None] = [None] * len(lesions)
        if not lesions or not found:
            return matched
        overlap = dm.iou_matrix(
            dm.extents([f.box for f in found], direction), dm.extents([x.box for x in lesions], direction)
        )
        for finding, row in zip(found, overlap, strict=True):
            best = int(row.argmax())
            if row[best] > 0 and matched[best] is None:
                matched[best] = finding.box
        return matched

    return boxes


def evaluate_volume(
    case: VolumeCase, boxes: Mapping[str, BoxesOf], segmenter: Segmenter
) -> dict[str, list[LesionResult]]:
    """Read one volume and outline its lesions in each way."""
    image, labels, lesions = case.read_labels()
    truth = sitk.GetArrayViewFromImage(labels)
    results: dict[str, list[LesionResult]] = {}
    for way, boxes_of in boxes.items():
        results[way] = []
        for lesion, box in zip(lesions, boxes_of(image, case, lesions), strict=True):
            start = time.perf_counter()
            with failing_by_name(case):
                finding = None if box is None else segmenter(image, Finding(f"L{lesion.label}", box, 1.0))
            seconds = time.perf_counter() - start if box is not None else 0.0
            results[way].append(measure(case, lesion, finding, truth == lesion.label, image.GetSpacing(), seconds))
    return results


def measure(
    case: VolumeCase,
    lesion: TrueLesion,
    finding: Finding | None,
    truth: np.ndarray,
    spacing: Sequence[float],
    seconds: float,
) -> LesionResult:
    """Compare one outline with the true mask (z, y, x), on the volume's voxels.

    `finding` None: there was no box. A finding without a mask and with a malignancy is what a network says that does not outline; one with neither
    was not outlined.
    """
    outlined = finding is not None and finding.mask is not None
    judged = finding is not None and finding.malignancy is not None
    nothing = math.nan if judged else 0.0
    dice, jaccard, hd95, error = nothing, nothing, None, None
    if outlined:
        mask = sitk.GetArrayViewFromImage(finding.mask) != 0
        voxel = float(np.prod(spacing)) / 1000
        error = (int(mask.sum()) - int(truth.sum())) * voxel
        place = _about(mask | truth)
        mask, part = mask[place], truth[place]
        dice, jaccard = metrics.dice(mask, part), metrics.jaccard(mask, part)
        hd95 = metrics.hausdorff95(mask, part, spacing[::-1])
    return LesionResult(
        source=case.source,
        volume=case.id,
        lesion=lesion.label,
        malignant=lesion.malignant,
        volume_ml=float(lesion.volume_ml or 0.0),
        posterior=lesion.posterior,
        found=outlined,
        dice=dice,
        jaccard=jaccard,
        hd95=hd95,
        malignancy=finding.malignancy if judged else None,
        volume_error_ml=error,
        uncertainty=finding.measurements.get("outline_uncertainty") if outlined else None,
        seconds=seconds,
    )


def _about(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """The part of an array that holds all of a mask, with a voxel around it: distances there are those in the whole."""
    place = []
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        place.append(slice(max(int(filled[0]) - 1, 0), int(filled[-1]) + 2))
    return tuple(place)


def evaluate(
    cases: Sequence[VolumeCase],
    boxes: Mapping[str, BoxesOf],
    segmenter: Segmenter,
    each: Callable[[VolumeCase], None] = lambda case: None,
) -> dict[str, list[LesionResult]]:
    """The results of all lesions, by way. Raises `DataError` where there is no lesion."""
    results: dict[str, list[LesionResult]] = {way: [] for way in boxes}
    for case in cases:
        if case.lesions:
            for way, part in evaluate_volume(case, boxes, segmenter).items():
                results[way] += part
        each(case)
    if not any(results.values()):
        raise DataError("There is no lesion to measure on; choose other data or another split.")
    return results


# ----------------------------------------------------------------------------------------------------------- output


def as_markdown(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """One table, a column a way."""
    first = next(iter(summaries.values()))
    names = list(dict.fromkeys(name for s in summaries.values() for name in s["figures"]))
    text = [
        f"{counted(first['volumes'], 'volume')}, {counted(first['lesions'], 'lesion')} "
        f"({first['malignant']} malignant, {first['small']} of up to 1 cm3).",
        "",
        "| figure | " + " | ".join(WAYS.get(way, way) for way in summaries) + " |",
        "|---|" + "---|" * len(summaries),
    ]
    for name in names:
        cells = [stated(**s["figures"].get(name) or {}) for s in summaries.values()]
        text.append(f"| {name.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(text) + "\n"


def write(
    folder: Path,
    results: Mapping[str, Sequence[LesionResult]],
    about: Mapping[str, Any],
    malignant_from: float = MALIGNANT_FROM,
    samples: int = SAMPLES,
) -> dict[str, dict[str, Any]]:
    """figures.json, figures.md, lesions.csv and the pictures in `folder`; returns the figures by way. Raises `OutputError`."""
    from .segment_3d_figures import draw

    summaries = {way: summarise(part, malignant_from, samples) for way, part in results.items()}
    stream = io.StringIO()
    columns = ["boxes", *(f.name for f in fields(LesionResult))]
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    for way, part in results.items():
        for r in part:
            row = {"boxes": way, **asdict(r)}
            writer.writerow(
                {
                    k: int(v) if isinstance(v, bool) else f"{v:.6g}" if isinstance(v, float) else v
                    for k, v in row.items()
                }
            )
    write_text(folder / "lesions.csv", stream.getvalue())
    pictures = draw(folder, results, summaries)
    write_text(folder / "figures.md", illustrated(as_markdown(summaries) + in_paragraphs(about.get("notes", ())), pictures))
    text = json.dumps({**about, "figures": summaries}, indent=2, allow_nan=False)
    write_text(folder / "figures.json", text + "\n")
    return summaries


# ---------------------------------------------------------------------------------------------------------- command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        type=Path,
        metavar="DIR",
        help="phantoms, or TDSC-ABUS (Train/, Validation/, Test/)",
    )
    parser.add_argument("--split", choices=SPLITS, default="test", help="default: test")
    parser.add_argument("--model", default="", metavar="ID|DIR", help="a model that ships, or the folder of your own")
    parser.add_argument(
        "--detector", metavar="ID|DIR", help="measure with the boxes of this detector, too ('' for the one that ships)"
    )
    parser.add_argument(
        "--least-score", type=float, metavar="P", help="the detector's findings from this score on (default: its own)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--threshold", type=float, metavar="P", help="probability above which a voxel is lesion")
    parser.add_argument(
        "--iterations", type=int, metavar="N", help="passes of the network, 0 to 4 (default: the model's)"
    )
    parser.add_argument("--no-uncertainty", dest="uncertainty", action="store_false", help="one look, no mirror images")
    refine = parser.add_mutually_exclusive_group()
    refine.add_argument("--refine", action="store_true", default=None, help="with 3D Chan-Vese")
    refine.add_argument("--no-refine", dest="refine", action="store_false", help="without it")
    parser.add_argument(
        "--malignant-from",
        type=float,
        metavar="P",
        help="called malignant from here on (default: the model's own, else 0.5)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the jittered boxes (default: 0)")
    parser.add_argument(
        "--spacing", nargs=3, type=float, metavar=("X", "Y", "Z"), help="mm of TDSC-ABUS voxels, lateral, depth, slice"
    )
    parser.add_argument(
        "--bootstrap", type=int, default=SAMPLES, metavar="N", help="draws for the intervals (default: 1000)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="the first N volumes of each data set only")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="for figures, tables and pictures")


def main(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ..models.zoo import load
    from ..segment_3d import Segment3dOptions, judge_3d, segment_3d

    check_options(args, ("--least-score", "--malignant-from"), ("--limit", "--bootstrap"))
    options = Segment3dOptions(args.threshold, args.iterations, args.uncertainty, args.refine)
    model = load(args.model, "segment-3d", args.device)
    models = [model.provenance()]
    boxes: dict[str, BoxesOf] = {"true": true_boxes, "jittered": jittered_boxes(args.seed)}
    detector: dict[str, Any] | None = None
    if args.detector is not None:
        boxes["detected"], used, detector = _detector(args)
        models.append(used)

    def segmenter(image: sitk.Image, finding: Finding) -> Finding:
        if not model.network.segmentation:
            return judge_3d(image, model, [finding], options)[0]
        return segment_3d(image, model, [finding], options, strict=True)[0][0]

    cases = cases_of(args)
    with tqdm(total=len(cases), unit="volume") as bar:
        results = evaluate(cases, boxes, segmenter, lambda case: bar.update())
    chosen = model.entry.postprocessing.get("malignant_from", MALIGNANT_FROM)
    malignant_from = float(chosen if args.malignant_from is None else args.malignant_from)
    about = {
        "models": models,
        "data": [str(d) for d in args.data],
        "split": args.split,
        "limit": args.limit,
        "options": asdict(options),
        "postprocessing": dict(model.entry.postprocessing),
        "ablation": dict(model.entry.recipe).get("ablation", ""),
        "malignant_from": malignant_from,
        "jitter": {"shift": SHIFT, "stretch": STRETCH, "seed": args.seed},
        "detector": detector,
        "notes": notes_on_known_volumes(models, cases),
    }
    summaries = write(args.output, results, about, malignant_from, args.bootstrap)
    print(as_markdown(summaries))
    for note in about["notes"]:
        print(f"Note: {note}")
    print(f"Figures, tables and pictures are in {args.output}.")
    return 0


def _detector(args: argparse.Namespace) -> tuple[BoxesOf, dict[str, str], dict[str, Any]]:
    """Boxes as the detector finds them, which model that is, and all that says where its boxes are."""
    from ..detect import DetectOptions, detect
    from ..models.zoo import load

    detector = load(args.detector, "detect", args.device)
    options = DetectOptions(threshold=args.least_score)
    used = detector.provenance()
    how = {
        **{name: used[name] for name in ("id", "version", "sha256")},
        "least_score": args.least_score,
        "postprocessing": dict(detector.entry.postprocessing),
    }
    return detected_boxes(lambda image: detect(image, detector, options)[0]), used, how
