"""What comes after the network, chosen on the validation fold: input sizes, looks from nearer, threshold, refiner.

The last step of the ROI-CNN recipe. Nothing here sees the test fold. Each choice is made with the ones before it fixed, by the
Dice of the kept component over the validation images with a lesion. Each data set counts alike, however many images it has, as the
model is for scanners of all kinds. Of the sets of sizes that are within a standard error of the best, the one with the most
sizes is taken: a mean of several looks is steadier on images unlike these. A least score is not chosen: it can only lower the Dice on
images with a lesion, and how sure a network is differs from scanner to scanner, so that is left to the user.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.segmentation_data import Case, load_pixels
from ..nearer import Window, mean_of_looks, square_about

THRESHOLDS = (0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
REFINERS: tuple[dict[str, float], ...] = tuple(
    {"prior": prior, "length_scale": length, "window": window}
    for prior, length, window in product((1.0, 2.0, 4.0, 8.0), (0.1, 0.2), (0.3, 0.6))
)
NEARER: tuple[tuple[float, ...], ...] = ((), (1.8,), (2.2,), (2.7,), (1.8, 2.7))
"""From how near what was found is looked at again (`nearer.square_about`)."""
MIN_CONFIDENCE = 0.95
"""Fixed, not chosen: on the validation fold, where hardly an image has two large components, the Dice hangs on one or two images. On
fold 1 of BUSI, another hospital's, the Dice of an earlier network was 0.698 without, 0.712 at 0.8, 0.724 at 0.9 and 0.730 at 0.95."""

PAPER_NAMES = ("prior", "length_scale", "smoothing", "window", "max_change")

@dataclass(frozen=True)
class Seen:
    """A validation image after the network: maps by input size, and the truth, within the ultrasound area.

    `source` is the data set that it comes from; `nearer` are maps of parts of the area by zoom, each with the part.
    """

    source: str
    pixels: np.ndarray
    spacing: tuple[float, float]
    maps: dict[int, np.ndarray]
    truth: np.ndarray
    nearer: dict[float, tuple[Window, np.ndarray]] = field(default_factory=dict)

    def mean(self, sizes: Sequence[int], zooms: Sequence[float] = ()) -> np.ndarray:
        """The mean map (H, W) float32 of these sizes, and of looks from nearer where there were any."""
        first = np.mean([self.maps[s] for s in sizes], axis=0, dtype=np.float32)
        return mean_of_looks(first, [self.nearer[zoom] for zoom in zooms if zoom in self.nearer])


def size_choices(size: int) -> list[tuple[int, ...]]:
    """The sets of input sizes to try for a network trained at `size`: alone, and with a smaller and a larger one."""
    smaller, larger = round(size * 5 / 6 / 16) * 16, round(size * 7 / 6 / 16) * 16
    return [(size,), (larger,), (smaller, size), (size, larger), (smaller, size, larger)]


def see(cases: Iterable[Case], model, sizes: Iterable[int], progress: Callable[[int], None] | None = None) -> list[Seen]:
    """Run the network over the cases that show a lesion, once a size."""
    from ..image import as_2d, read_image
    from ..segment import look

    seen = []
    for case in cases:
        _, truth = load_pixels(case)
        if not truth.any():
            continue
        loaded = read_image(case.image)
        plane = as_2d(loaded.image)  # 3D Slicer saves images as volumes of one slice
        looks = {size: look(plane, model, (size,), loaded.area) for size in sizes}
        first = next(iter(looks.values()))
        (x, y), (height, width) = first.start, first.pixels.shape
        # What lies outside the area is lost to every choice alike, so it does not count here.
        area = truth[y : y + height, x : x + width]
        maps = {size: found.probability.astype(np.float16) for size, found in looks.items()}
        seen.append(Seen(case.source, first.pixels, first.spacing, maps, area))
        if progress is not None:
            progress(len(seen))
    return seen


def see_nearer(seen: Seen, model, sizes: Sequence[int], threshold: float) -> Seen:
    """The image with looks at what is found in it at this threshold, from each distance in `NEARER`."""
    from ..segment import probability_map

    aspect = seen.spacing[0] / seen.spacing[1]
    region = _kept(seen.mean(sizes), seen.spacing, threshold)
    looks = {}
    for zoom in sorted({zoom for zooms in NEARER for zoom in zooms}) if region.any() else ():
        window = square_about(region, zoom, aspect)
        looks[zoom] = window, probability_map(seen.pixels[window], model, aspect, sizes).astype(np.float16)
    return replace(seen, nearer=looks)


def _kept(probability: np.ndarray, spacing: Sequence[float], threshold: float) -> np.ndarray:
    from ..components import keep_components

    kept = keep_components(probability > threshold, spacing, probability=probability, min_confidence=MIN_CONFIDENCE)
    return kept[0] if kept else np.zeros(probability.shape, bool)


def _found(seen: Seen, sizes: Sequence[int], threshold: float, zooms: Sequence[float]) -> np.ndarray:
    """The lesion (H, W) bool that is found before refinement, empty where there is none: as `nearer.looked_again` finds it, but that a
    region which only the second look brings up is not looked at itself."""
    region = _kept(seen.mean(sizes, zooms), seen.spacing, threshold)
    return region if region.any() or not zooms else _kept(seen.mean(sizes), seen.spacing, threshold)


def standard_error(groups: Sequence[np.ndarray]) -> float:
    """Standard error of the mean of the groups' means; 0 where no group has two values."""
    variances = [float(np.var(g, ddof=1)) / len(g) for g in groups if len(g) > 1]
    return math.sqrt(sum(variances)) / len(groups)


def choose(
    seen: Sequence[Seen], size: int, again: Callable[[Seen, Sequence[int], float], Seen] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The choices for the model's config, and the table of what was tried.

    again : adds looks from nearer for the sizes and the threshold that were chosen without (`see_nearer`); None: there are none.
    """
    from ..chan_vese import ChanVeseParameters
    from ..evaluation.metrics import dice
    from ..evaluation.tune_refiner import tune

    def values(sizes: Sequence[int], threshold: float, zooms: Sequence[float] = ()) -> list[np.ndarray]:
        found: dict[str, list[float]] = {}
        for s in seen:
            found.setdefault(s.source, []).append(dice(_found(s, sizes, threshold, zooms), s.truth))
        return [np.array(v) for v in found.values()]

    def score(sizes: Sequence[int], threshold: float, zooms: Sequence[float] = ()) -> float:
        return float(np.mean([np.mean(v) for v in values(sizes, threshold, zooms)]))

    def best_threshold(sizes: Sequence[int], zooms: Sequence[float]) -> tuple[float, dict[str, float]]:
        scores = {str(t): score(sizes, t, zooms) for t in THRESHOLDS}
        return float(max(scores, key=scores.get)), scores

    tried: dict[str, Any] = {"images": len(seen)}
    by_sizes = {sizes: values(sizes, 0.5) for sizes in size_choices(size)}
    means_of = {sizes: float(np.mean([np.mean(v) for v in found])) for sizes, found in by_sizes.items()}
    error = standard_error(by_sizes[max(means_of, key=means_of.get)])
    tried["sizes"] = {" + ".join(map(str, sizes)): mean for sizes, mean in means_of.items()}
    tried["sizes_standard_error"] = error
    near = [sizes for sizes, mean in means_of.items() if mean >= max(means_of.values()) - error]
    sizes = max(near, key=lambda sizes: (len(sizes), means_of[sizes]))
    threshold, tried["threshold"] = best_threshold(sizes, ())
    zooms: tuple[float, ...] = ()
    if again is not None:
        seen = [again(s, sizes, threshold) for s in seen]
        by_zooms = {choice: score(sizes, threshold, choice) for choice in NEARER}
        tried["nearer"] = {" + ".join(map(str, choice)) or "none": mean for choice, mean in by_zooms.items()}
        zooms = max(by_zooms, key=by_zooms.get)
        if zooms:
            threshold, tried["threshold_with_nearer"] = best_threshold(sizes, zooms)

    regions = [_found(s, sizes, threshold, zooms) for s in seen]
    choice = {"sizes": list(sizes), "nearer": list(zooms), "threshold": threshold, "min_confidence": MIN_CONFIDENCE}
    if not any(region.any() for region in regions):
        # A network that has not learnt anything yet: there is nothing to refine.
        return choice, tried
    paper = asdict(ChanVeseParameters.paper())
    table = tune(
        (
            (s.pixels, s.mean(sizes, zooms), s.truth, s.spacing, [region] if region.any() else [], s.source)
            for s, region in zip(seen, regions, strict=True)
        ),
        [{name: paper[name] for name in PAPER_NAMES}, *REFINERS],
        threshold=threshold,
    )
    # JSON has no infinity.
    tried["refiner"] = [{k: None if v == math.inf else v for k, v in row.items()} for row in table]
    best = next(row for row in table if any(row.items() >= setting.items() for setting in REFINERS))
    refiner = {name: best[name] for name in REFINERS[0]}

    return choice | {"refiner": refiner}, tried


def choose_and_record(folder: Path, cases: Sequence[Case], progress: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Choose for the model in `folder`, write the choices to its config and the table to ``postprocessing.json``."""
    from ..atomic import write_text
    from ..models.folder import CONFIG
    from ..models.zoo import load

    model = load(folder, "segment", "auto")
    size = int(model.entry.preprocessing["size"])
    sizes = sorted({s for choice in size_choices(size) for s in choice})
    # Area and maps do not depend on earlier choices: forget them, so that choosing twice gives the same.
    model = replace(model, entry=replace(model.entry, postprocessing={}))
    choice, tried = choose(see(cases, model, sizes, progress), size, lambda s, chosen, t: see_nearer(s, model, chosen, t))
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config["postprocessing"] = choice
    write_text(folder / "postprocessing.json", json.dumps({"choice": choice, "tried": tried}, indent=2) + "\n")
    write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    return tried
