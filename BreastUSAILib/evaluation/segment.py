"""The protocol for 2D segmentation: ``breastusai evaluate segment --data DIR... --output DIR``.

Every image of the chosen folds goes through the same code as in a workup, from the file to the mask. The figure of an
image is the Dice of the union of its findings' masks with the union of the annotated lesions, on the image's own
pixels; an image without an annotated lesion has no Dice and is counted by whether a lesion was reported in it. What is
reported is the mean and the median over images, with bootstrap intervals drawn by group.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from .data_set_names import TOGETHER
from .illustrated import illustrated
from .known_images import in_paragraphs, notes_on_known
from .metrics import bootstrap_interval, dice, hausdorff95, jaccard
from .segmentation_data import TEST_FOLD, Case, check_folds_filled, check_masks, in_folds, load_pixels, read_data_sets
from .tables import stated

if TYPE_CHECKING:
    import SimpleITK as sitk
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Row:
    """The result of one image. Distances in mm where `labels.csv` gives `pixel_mm` or the image's file states its spacing, else in pixels (`unit`)."""

    id: str
    source: str
    label: str
    group: str
    has_lesion: bool
    n_findings: int
    score: float | None
    dice: float | None
    dice_unrefined: float | None
    jaccard: float | None
    hausdorff95: float | None
    unit: str


def _union(findings, shape) -> np.ndarray:
    import SimpleITK as sitk

    union = np.zeros(shape, bool)
    for finding in findings:
        union |= sitk.GetArrayViewFromImage(finding.mask) > 0
    return union


def _pixel(case: Case, plane: sitk.Image, spacing_known: bool) -> tuple[tuple[float, float], str]:
    """A pixel's height and width, and their unit: "mm" after `pixel_mm`, which is the width, else after the file; "px" where neither says it.

    The shape of pixels is that of the file, which is 1 by 1 where it states none. So do writers of volumes whose pixels nobody measured: 1 by 1 is
    not taken for mm.
    """
    across, down = plane.GetSpacing()
    stated = case.row.get("pixel_mm")
    width = float(stated) if stated else across
    return (width * (down / across), width), "mm" if stated or (spacing_known and (across, down) != (1.0, 1.0)) else "px"


def evaluate_case(case: Case, model, options) -> Row:
    """Segment one image, refined as `options` say and unrefined, and compare both with its annotation."""
    from ..image import as_2d, read_image
    from ..segment import segment_2d

    _, truth = load_pixels(case)
    loaded = read_image(case.image)
    plane = as_2d(loaded.image)  # 3D Slicer saves images as volumes of one slice
    findings, _ = segment_2d(plane, model, options, spacing_known=False, area=loaded.area)
    plain, _ = segment_2d(plane, model, replace(options, refine=False), spacing_known=False, area=loaded.area)
    pixel, unit = _pixel(case, plane, loaded.spacing_known)
    found, unrefined = _union(findings, truth.shape), _union(plain, truth.shape)
    has_lesion = bool(truth.any())
    return Row(
        id=case.id,
        source=case.source,
        label=case.label,
        group=case.group,
        has_lesion=has_lesion,
        n_findings=len(findings),
        score=max((f.score for f in findings), default=None),
        dice=dice(found, truth) if has_lesion else None,
        dice_unrefined=dice(unrefined, truth) if has_lesion else None,
        jaccard=jaccard(found, truth) if has_lesion else None,
        hausdorff95=hausdorff95(found, truth, pixel) if has_lesion else None,
        unit=unit,
    )


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures of some rows: counts, Dice with intervals, the gain by refinement, misses and false alarms."""
    lesion = [r for r in rows if r.has_lesion]
    healthy = [r for r in rows if not r.has_lesion]
    # Patients of two data sets may have one name.
    values, groups = [r.dice for r in lesion], [(r.source, r.group) for r in lesion]
    figures: dict[str, Any] = {"images": len(rows), "with_lesion": len(lesion)}
    if lesion:
        figures |= {
            "mean_dice": float(np.mean(values)),
            "mean_dice_interval": _known(bootstrap_interval(values, groups)),
            "median_dice": float(np.median(values)),
            "median_dice_interval": _known(bootstrap_interval(values, groups, np.median)),
            "mean_dice_unrefined": float(np.mean([r.dice_unrefined for r in lesion])),
            "mean_jaccard": float(np.mean([r.jaccard for r in lesion])),
            "nothing_reported": sum(r.n_findings == 0 for r in lesion),
            "not_touched": sum(r.dice == 0 for r in lesion),
        }
        for unit in ("mm", "px"):
            distances = [r.hausdorff95 for r in lesion if r.unit == unit and r.hausdorff95 is not None]
            if distances:  # of images in which something was found
                figures[f"median_hausdorff95_{unit}"] = float(np.median(distances))
                figures[f"hausdorff95_{unit}_images"] = len(distances)
    if healthy:
        figures |= {"healthy": len(healthy), "healthy_with_finding": sum(r.n_findings > 0 for r in healthy)}
    return figures


def _known(interval: tuple[float, float]) -> tuple[float | None, float | None]:
    """None for what is not a number, as of one patient's images: JSON has no word for it."""
    return tuple(None if np.isnan(end) else end for end in interval)


def evaluate(
    cases: Iterable[Case], model, options, progress: Callable[[int], None] | None = None
) -> tuple[list[Row], dict[str, dict[str, Any]]]:
    """Rows of all cases, and the figures of each data set and, where there are several, of all together."""
    rows = []
    for case in cases:
        rows.append(evaluate_case(case, model, options))
        if progress is not None:
            progress(len(rows))
    if not rows:
        raise DataError("There are no images in the chosen folds; choose others with --folds.")
    sources = sorted({r.source for r in rows})
    figures = {s: summarise([r for r in rows if r.source == s]) for s in sources}
    if len(sources) > 1:
        figures[TOGETHER] = summarise(rows)
    return rows, figures


def _distances(figures: dict[str, Any]) -> str:
    """The median distances in mm and in pixels, with the number of images that each is of."""
    return "; ".join(
        f"{figures[f'median_hausdorff95_{unit}']:.2f} {unit} ({figures[f'hausdorff95_{unit}_images']} of {figures['with_lesion']})"
        for unit in ("mm", "px")
        if f"median_hausdorff95_{unit}" in figures
    ) or "-"


def as_markdown(figures: dict[str, dict[str, Any]]) -> str:
    """The figures as a table."""
    lines = [
        "| data | images | mean Dice (95 % interval) | median Dice (95 % interval) | unrefined mean | lesions missed | median 95 % Hausdorff distance (of images with a finding) | healthy with a finding |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, f in figures.items():
        if "mean_dice" in f:
            middle = (
                f"{stated(f['mean_dice'], *f['mean_dice_interval'])} | {stated(f['median_dice'], *f['median_dice_interval'])} "
                f"| {f['mean_dice_unrefined']:.3f} | {f['not_touched']} of {f['with_lesion']} | {_distances(f)}"
            )
        else:
            middle = "- | - | - | - | -"
        healthy = f"{f['healthy_with_finding']} of {f['healthy']}" if "healthy" in f else "-"
        lines.append(f"| {name} | {f['images']} | {middle} | {healthy} |")
    return "\n".join(lines) + "\n"


def _figure(rows: Sequence[Row]) -> Figure:
    """The share of images at or below a Dice, by data set."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for source in sorted({r.source for r in rows if r.has_lesion}):
        values = [r.dice for r in rows if r.source == source and r.has_lesion]
        axes.ecdf(values, label=f"{source} (n = {len(values)})")
    axes.set(xlabel="Dice", ylabel="share of images at or below", xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    return figure


def write(folder: Path, rows: Sequence[Row], figures: dict[str, dict[str, Any]], about: dict[str, Any]) -> list[Path]:
    """rows.csv, figures.json, figures.md and, where there is a lesion, dice.png in `folder`; returns the pictures."""
    from ..atomic import atomic_path, write_text

    with atomic_path(folder / "rows.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(asdict(r) for r in rows)
    write_text(folder / "figures.json", json.dumps({**about, "figures": figures}, indent=2) + "\n")
    pictures = [folder / "dice.png"] if any(r.has_lesion for r in rows) else []
    for picture in pictures:
        with atomic_path(picture) as temporary:
            _figure(rows).savefig(temporary, dpi=150)
    write_text(folder / "figures.md", illustrated(as_markdown(figures) + in_paragraphs(about.get("notes", ())), pictures))
    return pictures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", nargs="+", required=True, type=Path, metavar="DIR", help="folders with images/, masks/, labels.csv")
    parser.add_argument("--folds", nargs="+", type=int, default=[TEST_FOLD], metavar="FOLD", help="default: 0, the test fold")
    parser.add_argument("--all-folds", action="store_true", help="every image, for data that nothing was trained on")
    parser.add_argument("--model", default="", help="a catalogue id or a model folder; default: the one that ships")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--lesions", choices=("central", "all"), default="central")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where rows.csv, figures.json/.md and dice.png go")


def main(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ..atomic import check_writable
    from ..models.zoo import load
    from ..segment import SegmentOptions

    check_writable(args.output)
    cases = read_data_sets(args.data)
    if not args.all_folds:
        check_folds_filled(cases, args.folds, args.data, "--folds")
        cases = in_folds(cases, args.folds)
    check_masks(cases)
    model = load(args.model, "segment", args.device)
    with tqdm(total=len(cases), unit="image") as bar:
        rows, figures = evaluate(cases, model, SegmentOptions(lesions=args.lesions), lambda n: bar.update(n - bar.n))
    about = {
        "model": model.provenance(),
        "data": [str(d) for d in args.data],
        "folds": "all" if args.all_folds else args.folds,
        "lesions": args.lesions,
        "notes": notes_on_known([model.entry], cases),
    }
    pictures = write(args.output, rows, figures, about)
    print(as_markdown(figures))
    for note in about["notes"]:
        print(f"Note: {note}")
    print(f"{'Rows, figures and a plot' if pictures else 'Rows and figures'} are in {args.output}.")
    return 0
