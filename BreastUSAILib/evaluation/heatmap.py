"""The protocol of the weakly supervised system: ``breastusai evaluate heatmap --data DIR... --model DIR --output DIR``.

First what the paper reports (Table 2): AUC and accuracy at 0.5 of patches about points against as many from healthy volumes, of its three kinds.
Then what it leaves as future work, the maps of whole volumes: pointing game, distance from the hottest place to the point,
FROC by hit, overlap (`heatmap_metrics` says what each is). Every interval is a bootstrap over volumes.
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

from ..atomic import write_text
from ..errors import DataError
from ..phantom.seeds import SPLITS
from .bootstrap import SAMPLES
from .heatmap_metrics import point_hits, pointing
from .heatmap_patches import Patch, ask, cut, healthy_patches, region_about
from .heatmap_summary import LesionHeat, VolumeHeat, summarise
from .illustrated import illustrated
from .known_images import in_paragraphs, notes_on_known_volumes
from .tables import counted, stated
from .volume_data import VolumeCase
from .volume_options import cases_of, check_options

LESION_COLUMNS = (
    "data",
    "volume",
    "lesion",
    "malignant",
    "volume_ml",
    "pointed",
    "pointed_alone",
    "distance_mm",
    "spot",
    "dice",
    "slab_pointed",
)
SPOT_COLUMNS = ("data", "volume", "spot", "score", "heat", "z_mm", "y_mm", "x_mm", "lesion")


def measure(case: VolumeCase, model, slabs: int = 0) -> tuple[VolumeHeat, list[Patch]]:
    """What the map of one volume says of its lesions, and its patches.

    Parameters
    ----------
    model : a `models.zoo.LoadedModel` of the task "heatmap".
    slabs : slices a slab of the published way, which is measured as well; 0: it is not.

    Returns
    -------
    heat : see `heatmap_summary.VolumeHeat`.
    patches : about each point; of a healthy volume the whole.

    Raises
    ------
    DataError, ImageError : see `VolumeCase.read_labels`; a volume that has one value everywhere.
    """
    import SimpleITK as sitk

    from ..gradcam_3d import slab_map, window_logits
    from ..heatmap import look

    image, labels, lesions = case.read_labels()
    start = time.perf_counter()
    seen = look(image, model)
    if seen is None:
        raise DataError(f"{case.image} has one value everywhere; leave it out.")
    spots = seen.spots()
    seconds = time.perf_counter() - start

    fine, levels = seen.map.activation, seen.volume.levels
    known = _sampled(sitk.GetArrayViewFromImage(labels), np.multiply(seen.map.step, seen.volume.scale), fine.shape)
    points = np.array([seen.point_of(image, lesion.box.center) for lesion in lesions]).reshape(-1, 3)
    patch = seen.map.window(model.entry.preprocessing["patch"])
    of_slabs = None
    if slabs and lesions:
        of_slabs = _sampled(slab_map(model.network, levels, slabs, device=model.device.name), seen.map.step, fine.shape)
    measured = []
    for lesion, point in zip(lesions, points, strict=True):
        pointed = pointing(fine, known, lesion.label, point, patch)
        holding = [number for number, spot in enumerate(spots) if spot.holds(point)]
        measured.append(
            LesionHeat(
                lesion=lesion,
                pointed=pointed.hit,
                pointed_alone=pointed.alone,
                distance_mm=float(np.linalg.norm((np.array(pointed.place) + 0.5 - point) * seen.map.spacing)),
                spot=holding[0] if holding else None,
                dice=_dice(spots[holding[0]], known == lesion.label) if holding else None,
                slab_pointed=None if of_slabs is None else pointing(of_slabs, known, lesion.label, point, patch).hit,
            )
        )
    top = np.unravel_index(int(fine.argmax()), fine.shape)
    window = [max(1, round(n / s)) for n, s in zip(model.entry.preprocessing["crop"], model.network.scale, strict=True)]
    heat = VolumeHeat(
        case=case,
        lesions=tuple(measured),
        spots=tuple(spots),
        points=points,
        spacing=seen.map.spacing,
        full_heat=seen.rule.full_heat,
        hottest_in_lesion=bool(known[top]) if lesions else None,
        one_mean=float(seen.cells.mean()),
        surest_window=float(window_logits(seen.cells, window).max()),
        seconds=seconds,
    )
    name, shape = f"{case.source}/{case.id}", levels.shape
    if not lesions:
        return heat, [Patch(name, levels, (0, 0, 0), shape)]
    patches = []
    for point in points * seen.map.step:
        begin, size = region_about(point, model.entry.preprocessing["patch"], shape)
        patches.append(Patch(name, cut(levels, begin, size).copy(), begin, shape, tuple(point - begin)))
    return heat, patches


def _sampled(array: np.ndarray, step: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    """The nearest voxel for each of a coarser grid of `shape`, whose voxels are `step` of the array's wide."""
    places = [
        np.minimum(((np.arange(n) + 0.5) * s).astype(int), m - 1)
        for n, s, m in zip(shape, step, array.shape, strict=True)
    ]
    return array[np.ix_(*places)]


def _dice(spot, lesion: np.ndarray) -> float:
    """The Dice coefficient of a hot spot and a lesion (z, y, x) bool."""
    first = np.array(spot.box[:3], int)
    part = lesion[tuple(slice(a, a + n) for a, n in zip(first, spot.inside.shape, strict=True))]
    return 2 * float((part & spot.inside).sum()) / float(spot.inside.sum() + lesion.sum())


def evaluate(
    cases: Sequence[VolumeCase],
    model,
    slabs: int = 0,
    each: Callable[[VolumeHeat], None] = lambda heat: None,
) -> tuple[list[VolumeHeat], dict]:
    """The maps of all volumes measured, and the network's answers for their patches by kind (`heatmap_patches.ask`; empty without healthy volumes).

    Raises
    ------
    DataError : there are no volumes, or none has a lesion; see `measure`.
    """
    from ..gradcam_3d import patch_probability
    from ..heatmap import looks_of

    lesions = sum(len(case.lesions) for case in cases)
    healthy = sum(not case.lesions for case in cases)
    if not lesions:
        raise DataError("There are no lesions to measure on; choose other data or another split.")
    share = -(-lesions // max(healthy, 1))  # patches that each healthy volume gives
    preprocessing = model.entry.preprocessing
    results, patches, random = [], [], np.random.default_rng(0)
    for case in cases:
        heat, own = measure(case, model, slabs)
        patches += own if case.lesions else healthy_patches(own, share, preprocessing["patch"], random)
        results.append(heat)
        each(heat)
    if not healthy:
        return results, {}

    def judge(levels: np.ndarray) -> float:
        return patch_probability(model.network, levels, device=model.device.name, mirrors=looks_of(model.entry))

    return results, ask(judge, patches, preprocessing["patch"], preprocessing["crop"])


# ----------------------------------------------------------------------------------------------------------- output


def as_markdown(summary: Mapping[str, Any]) -> str:
    """The figures as a table."""
    text = [
        f"{counted(summary['volumes'], 'volume')} ({summary['healthy_volumes']} healthy), {counted(summary['lesions'], 'lesion')}.",
        "",
        "| figure | value (95 % interval) | published |",
        "|---|---|---|",
    ]
    for name, figure in summary["figures"].items():
        figures = stated(figure["value"], figure["low"], figure["high"])
        text.append(f"| {name.replace('_', ' ')} | {figures} | {stated(figure['published'])} |")
    return "\n".join([*text, ""])


def lesion_rows(results: Iterable[VolumeHeat]) -> list[dict[str, Any]]:
    """One row a lesion."""
    rows = []
    for r in results:
        for number, m in enumerate(r.lesions, 1):
            spot = None if m.spot is None else f"H{m.spot + 1}"
            slab = None if m.slab_pointed is None else int(m.slab_pointed)
            pointed = int(m.pointed), int(m.pointed_alone)
            values = (int(m.lesion.malignant), m.lesion.volume_ml, *pointed, m.distance_mm, spot, m.dice, slab)
            rows.append(dict(zip(LESION_COLUMNS, (r.case.source, r.case.id, number, *values), strict=True)))
    return rows


def spot_rows(results: Iterable[VolumeHeat]) -> list[dict[str, Any]]:
    """One row a hot spot; where it is in mm from the corner of its volume, and the number of the lesion whose point it hits."""
    rows = []
    for r in results:
        hits = point_hits([r.points], [r.spots]).lesion.tolist()  # of a spot that holds several points: the one that it hits in the FROC
        for number, (spot, hit) in enumerate(zip(r.spots, hits, strict=True)):
            place = np.multiply(spot.peak, r.spacing)
            values = (f"H{number + 1}", spot.score, spot.value / r.full_heat, *place.tolist(), hit + 1 if hit >= 0 else None)
            rows.append(dict(zip(SPOT_COLUMNS, (r.case.source, r.case.id, *values), strict=True)))
    return rows


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    return stream.getvalue()


def write(
    folder: Path,
    results: Sequence[VolumeHeat],
    answers: Mapping[str, Any],
    threshold: float,
    about: Mapping[str, Any],
    samples: int = SAMPLES,
) -> dict[str, Any]:
    """figures.json, figures.md, lesions.csv, spots.csv and the curves in `folder`; returns the figures. Raises `OutputError`."""
    from .heatmap_figures import draw

    summary = summarise(results, answers, threshold, samples)
    write_text(folder / "lesions.csv", _csv(LESION_COLUMNS, lesion_rows(results)))
    write_text(folder / "spots.csv", _csv(SPOT_COLUMNS, spot_rows(results)))
    pictures = draw(folder, results, answers, summary)
    write_text(folder / "figures.md", illustrated(as_markdown(summary) + in_paragraphs(about.get("notes", ())), pictures))
    write_text(folder / "figures.json", json.dumps({**about, **summary}, indent=2, allow_nan=False) + "\n")
    return summary


# ---------------------------------------------------------------------------------------------------------- command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        type=Path,
        metavar="DIR",
        help="phantoms, or data in the layout of TDSC-ABUS",
    )
    parser.add_argument("--split", choices=SPLITS, default="test", help="default: test")
    parser.add_argument(
        "--model", default="", metavar="ID|DIR", help="a heatmap model that ships, or the folder of your own"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument(
        "--slabs", type=int, metavar="N", help="measure the published way as well, slabs of N slices (paper: 9)"
    )
    parser.add_argument(
        "--pictures", type=int, default=6, metavar="N", help="lesions that are drawn with their maps (default: 6)"
    )
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

    from ..heatmap import HeatOptions
    from ..models.zoo import load
    from .heatmap_figures import draw_map

    check_options(args, (), ("--slabs", "--limit", "--bootstrap"))
    model = load(args.model, "heatmap", args.device)
    cases = cases_of(args)
    with tqdm(total=len(cases), unit="volume") as bar:
        results, answers = evaluate(cases, model, args.slabs or 0, lambda heat: bar.update())
    threshold = HeatOptions().threshold_of(model.entry)
    about = {
        "models": [model.provenance()],
        "data": [str(folder) for folder in args.data],
        "split": args.split,
        "limit": args.limit,
        "threshold": threshold,
        "slabs": args.slabs,
        "notes": notes_on_known_volumes([model.provenance()], cases),
    }
    summary = write(args.output, results, answers, threshold, about, args.bootstrap)
    ill = [result.case for result in results if result.lesions]
    for case in ill[:: max(1, len(ill) // max(args.pictures, 1))][: max(args.pictures, 0)]:
        draw_map(args.output / "maps" / f"{case.source}-{case.id}.png", case, model)
    print(as_markdown(summary))
    for note in about["notes"]:
        print(f"Note: {note}")
    print(f"Figures, tables and pictures are in {args.output}.")
    return 0
