"""The protocol for detection in volumes: ``breastusai evaluate detect --data DIR... --output DIR``.

Every volume goes through the same code as in a workup, and all its candidates are kept for the FROC curve; what is
reported to a user is measured apart, at the operating point. `detection_summary.figures` says what each figure is. Any
detector can be measured: a model, a function, or the candidates that another program wrote as the challenge's CSV.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..atomic import write_text
from ..errors import DataError, UsageError
from ..findings import Finding
from ..phantom.seeds import SPLITS
from . import detection_metrics as dm
from . import tdsc_submission
from .bootstrap import SAMPLES
from .data_set_names import TOGETHER
from .detection_summary import MALIGNANT_FROM, Measured, OperatingPoint, VolumeResult, summarise
from .illustrated import illustrated
from .known_images import in_paragraphs, notes_on_known_volumes
from .tables import counted
from .volume_data import VolumeCase, failing_by_name
from .volume_options import cases_of, check_options

Detector = Callable[[sitk.Image, VolumeCase], Sequence[Finding]]
"""From a volume to findings with boxes in LPS mm and scores: all candidates, whatever would be reported of them."""

CANDIDATE_COLUMNS = ("data", "volume", "finding", "score", "malignancy", "reported", "iou", "lesion")
LESION_COLUMNS = (
    *("data", "volume", "lesion", "malignant", "volume_ml", "posterior"),
    *("found", "iou", "score", "judged_malignancy", "score_iou_0.3"),
)


def evaluate_case(case: VolumeCase, detector: Detector) -> tuple[VolumeResult, sitk.Image]:
    """Read one volume, detect, and bring both boxes into the volume's own axes; the time is that of detecting alone."""
    image, lesions = case.read()
    start = time.perf_counter()
    with failing_by_name(case):
        findings = tuple(detector(image, case))
    seconds = time.perf_counter() - start
    direction = image.GetDirection()
    boxes = dm.VolumeBoxes(
        lesions=dm.extents([lesion.box for lesion in lesions], direction),
        candidates=dm.extents([f.box for f in findings], direction),
        scores=np.array([f.score for f in findings], float),
    )
    return VolumeResult(case, lesions, findings, boxes, seconds), image


def evaluate(
    cases: Iterable[VolumeCase],
    detector: Detector,
    each: Callable[[VolumeResult, sitk.Image], None] = lambda result, image: None,
) -> list[VolumeResult]:
    """The results of all volumes, one after the other; `each` is called after every one, with its voxels.

    Raises
    ------
    DataError : there are no volumes.
    """
    results = []
    for case in cases:
        result, image = evaluate_case(case, detector)
        each(result, image)
        results.append(result)
    if not results:
        raise DataError("There are no volumes to measure on; choose other data or another split.")
    return results


def by_data_set(results: Sequence[VolumeResult]) -> dict[str, list[VolumeResult]]:
    """The results of each data set and, where there are several, of all together."""
    sources = list(dict.fromkeys(r.case.source for r in results))
    parts = {source: [r for r in results if r.case.source == source] for source in sources}
    return parts if len(sources) == 1 else {**parts, TOGETHER: list(results)}


# ----------------------------------------------------------------------------------------------------------- output


def as_markdown(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """One table a data set."""
    text = []
    for name, summary in summaries.items():
        text.append(
            f"## {name}\n\n{counted(summary['volumes'], 'volume')} ({summary['healthy_volumes']} healthy), "
            f"{counted(summary['lesions'], 'lesion')} ({summary['malignant']} malignant); {counted(summary['reported'], 'finding')} reported, "
            f"{counted(summary['lesions_found'], 'lesion')} found, {counted(summary['false_positives'], 'false positive')}."
            "\n\n| figure | value | 95 % interval |\n|---|---|---|"
        )
        for figure, stated in summary["figures"].items():
            lesions = summary["lesions_by_group"].get(figure.removeprefix("sensitivity: "))
            label = figure.replace("_", " ") + (f" (n = {lesions})" if lesions is not None else "")
            interval = "-" if stated["low"] is None else f"{stated['low']:.3f} to {stated['high']:.3f}"
            text.append(f"| {label} | {_number(stated['value'])} | {interval} |")
        text.append("")
    return "\n".join(text)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def candidate_rows(results: Sequence[VolumeResult], measured: Measured, point: OperatingPoint) -> list[dict[str, Any]]:
    """One row a candidate; `lesion` counts within the volume from 1, empty for a false positive (no overlap at all)."""
    rows, place, first = [], 0, 0
    for r in results:
        keep = dm.reported(r.boxes, point.least_score, point.most)
        for finding, kept in zip(r.findings, keep, strict=True):
            hit = int(measured.anywhere.lesion[place])
            values = (finding.id, finding.score, finding.malignancy, int(kept), measured.anywhere.iou[place])
            lesion = hit - first + 1 if hit >= 0 else None
            rows.append(dict(zip(CANDIDATE_COLUMNS, (r.case.source, r.case.id, *values, lesion), strict=True)))
            place += 1
        first += len(r.lesions)
    return rows


def lesion_rows(results: Sequence[VolumeResult], measured: Measured) -> list[dict[str, Any]]:
    """One row a lesion: what is true, whether it was found as reported, and the score with which it can be found."""
    rows, place = [], 0
    for r in results:
        for number, lesion in enumerate(r.lesions, 1):
            score, strict = measured.anywhere.lesion_scores[place], measured.challenge.lesion_scores[place]
            judged = measured.judged[place]
            values = (
                *(r.case.source, r.case.id, number, int(lesion.malignant), lesion.volume_ml, lesion.posterior),
                int(measured.paper.lesion_scores[place] > -np.inf),
                measured.paper.lesion_iou[place],
                None if score == -np.inf else score,
                None if np.isnan(judged) else judged,
                None if strict == -np.inf else strict,
            )
            rows.append({**dict(zip(LESION_COLUMNS, values, strict=True)), **lesion.descriptors})
            place += 1
    return rows


def write(
    folder: Path,
    results: Sequence[VolumeResult],
    point: OperatingPoint,
    about: Mapping[str, Any],
    malignant_from: float = MALIGNANT_FROM,
    samples: int = SAMPLES,
) -> dict[str, dict[str, Any]]:
    """figures.json, figures.md, candidates.csv, lesions.csv and the pictures in `folder`; returns the figures by data set.

    Raises
    ------
    OutputError : a file cannot be written.
    """
    from .detection_figures import draw

    summaries, measured = {}, None
    for name, part in by_data_set(results).items():  # the last holds all results
        summaries[name], measured = summarise(part, point, malignant_from, samples)
    last = list(summaries.values())[-1]
    write_text(folder / "candidates.csv", _csv(CANDIDATE_COLUMNS, candidate_rows(results, measured, point)))
    rows = lesion_rows(results, measured)
    write_text(folder / "lesions.csv", _csv(list(dict.fromkeys([*LESION_COLUMNS, *(k for r in rows for k in r)])), rows))
    pictures = draw(folder, last, measured)
    write_text(folder / "figures.md", illustrated(as_markdown(summaries) + in_paragraphs(about.get("notes", ())), pictures))
    write_text(folder / "figures.json", json.dumps({**about, "data_sets": summaries}, indent=2, allow_nan=False) + "\n")
    return summaries


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    return stream.getvalue()


SUBMISSION = "submission"
_MOST_NAMED = 10  # ids in a note


class Submission:
    """Gathers what the challenge's scorers read, volume by volume (its rows are in voxels, so they need the image)."""

    def __init__(self) -> None:
        self.detections: list[list[str]] = []
        self.classes: list[list[str]] = []
        self._judged = False

    def add(self, result: VolumeResult, image: sitk.Image) -> None:
        self.detections += tdsc_submission.detection_rows(result.case.id, result.findings, image)
        self.classes.append(tdsc_submission.classification_row(result.case.id, result.findings))
        self._judged |= any(f.malignancy is not None for f in result.findings)

    def write(self, folder: Path) -> list[Path]:
        """detection.csv, and classification.csv where malignancy was judged. Raises `OutputError`."""
        return tdsc_submission.write_submission(folder, self.detections, self.classes if self._judged else [])


# ---------------------------------------------------------------------------------------------------------- command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", nargs="+", required=True, type=Path, metavar="DIR", help="phantoms, or TDSC-ABUS (Train/, Validation/, Test/)"
    )
    parser.add_argument("--split", choices=SPLITS, default="test", help="default: test")
    parser.add_argument("--model", default="", metavar="ID|DIR", help="a model that ships, or the folder of your own (of train detect or detect-baseline)")
    parser.add_argument("--classifier", default="", metavar="ID|DIR", help="a lesion classifier for the second opinion")
    parser.add_argument("--detections", type=Path, metavar="CSV", help="measure these candidates (TDSC-ABUS form), no model")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--least-score", type=float, metavar="P", help="reported from this score on (default: the model's own)")
    parser.add_argument("--most", type=int, metavar="N", help="findings reported a volume (default: the model's own)")
    parser.add_argument(
        "--malignant-from", type=float, default=MALIGNANT_FROM, metavar="P", help="called malignant from here on (default: 0.5)"
    )
    parser.add_argument(
        "--spacing", nargs=3, type=float, metavar=("X", "Y", "Z"), help="mm of TDSC-ABUS voxels, lateral, depth, slice"
    )
    parser.add_argument("--bootstrap", type=int, default=SAMPLES, metavar="N", help="draws for the intervals (default: 1000)")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N volumes of each data set only")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR",
        help="for figures, tables, pictures and, where --data is one folder, submission/ (TDSC-ABUS)",
    )


def main(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    _check(args)
    cases = cases_of(args)
    notes: list[str] = []
    if args.detections is not None:
        _check_told_apart(cases, args.detections)
        detections = tdsc_submission.read_detections(args.detections)
        detector, point, models = _detector_of_file(detections, cases, args.detections), OperatingPoint(), []
        notes = _notes_on_unknown(detections, cases, args.detections)
    else:
        detector, point, models = _detector_of_model(args)
        notes = notes_on_known_volumes(models, cases)
    point = OperatingPoint(
        point.least_score if args.least_score is None else args.least_score, point.most if args.most is None else args.most
    )
    submission = Submission()
    with tqdm(total=len(cases), unit="volume") as bar:

        def each(result: VolumeResult, image: sitk.Image) -> None:
            submission.add(result, image)
            bar.update()

        results = evaluate(cases, detector, each)
    about = {
        "models": models,
        "detections": None if args.detections is None else str(args.detections),
        "data": [str(d) for d in args.data],
        "split": args.split,
        "limit": args.limit,
        "operating_point": {"least_score": point.least_score, "most": point.most},
        "malignant_from": args.malignant_from,
        "notes": notes,
    }
    summaries = write(args.output, results, point, about, args.malignant_from, args.bootstrap)
    if len(args.data) == 1:  # volumes of several data sets may share their ids
        submission.write(args.output / SUBMISSION)
    else:
        tdsc_submission.remove_submission(args.output / SUBMISSION)
        print("No submission/ (TDSC-ABUS) is written of several --data folders, whose volumes may share their names; give one for it.")
    print(as_markdown(summaries))
    for note in notes:
        print(f"Note: {note}")
    print(f"Figures, tables and pictures are in {args.output}.")
    return 0


def _check(args: argparse.Namespace) -> None:
    """Raises `UsageError` for options that have no meaning."""
    if args.detections is not None and (args.model or args.classifier):
        raise UsageError("a model and --detections cannot be given together; choose what is to be measured.")
    check_options(args, ("--least-score", "--malignant-from"), ("--most", "--limit", "--bootstrap"))
    written = args.output / SUBMISSION / tdsc_submission.DETECTION
    if args.detections is not None and args.detections.resolve() == written.resolve():
        raise UsageError(f"{args.detections} would be replaced by what is measured of it; choose another --output.")


def _check_told_apart(cases: Sequence[VolumeCase], path: Path) -> None:
    """Raises `UsageError` where volumes of several data sets have one public id: a row of the file would count in each of them."""
    first: dict[str, VolumeCase] = {}
    for case in cases:
        known = first.setdefault(tdsc_submission.public_id(case.id), case)
        if known.source != case.source:
            raise UsageError(
                f"{known.source} and {case.source} both have a volume {tdsc_submission.public_id(case.id)}, and {path} does not say which of the two "
                "it is about; measure one --data at a time, with its own --detections."
            )


def _detector_of_file(detections: Mapping[str, list], cases: Sequence[VolumeCase], path: Path) -> Detector:
    """A detector that says what a file says. Raises `DataError` where the file is about none of the volumes."""
    known = {tdsc_submission.public_id(case.id) for case in cases}
    if detections and not known & set(detections):
        raise DataError(f"{path} names none of these volumes; its public_id must be like {min(known, default='100')}.")
    return lambda image, case: tdsc_submission.findings_of(case.id, detections, image)


def _notes_on_unknown(detections: Mapping[str, list], cases: Sequence[VolumeCase], path: Path) -> list[str]:
    """A note on the ids of a file that are no volume here: of a whole challenge where a part of it is measured, or misspelt."""
    unknown = sorted(set(detections) - {tdsc_submission.public_id(case.id) for case in cases})
    if not unknown:
        return []
    names = ", ".join(unknown[:_MOST_NAMED]) + (", ..." if len(unknown) > _MOST_NAMED else "")
    volumes = "volume that is" if len(unknown) == 1 else "volumes that are"
    return [f"{path} names {len(unknown)} {volumes} not measured here ({names}), whose rows do not count."]


def _detector_of_model(args: argparse.Namespace) -> tuple[Detector, OperatingPoint, list[dict[str, str]]]:
    """A detector that gives all candidates of a model, the model's own operating point, and the record of what was used."""
    from ..detect import DEFAULT_THRESHOLD, DetectOptions, detect
    from ..models import catalog
    from ..models.zoo import load, resolve
    from .unet_baseline import TASK, detect_components

    baseline = bool(args.model) and resolve(args.model, None)[0].task == TASK
    model = load(args.model, TASK if baseline else "detect", args.device)
    # A baseline judges malignancy by itself, unless it is told otherwise: it is to be compared with the whole system.
    second = args.classifier or (not baseline and catalog.second_opinion(args.model))
    classifier = load(args.classifier, "lesion-classifier", args.device) if second else None

    def detector(image: sitk.Image, case: VolumeCase) -> Sequence[Finding]:
        if not baseline:
            findings, _ = detect(image, model, DetectOptions(threshold=0.0))
        else:
            findings = detect_components(image, model)
        if classifier is None or not findings:
            return findings
        from ..lesion_classification import classify

        return classify(image, findings, classifier, strict=True)

    point = OperatingPoint(float(model.entry.postprocessing.get("threshold", DEFAULT_THRESHOLD)))
    return detector, point, [m.provenance() for m in (model, classifier) if m is not None]
