"""The search of a volume by the detection network: windows, boxes, suppression. On the network's grid, without physical space."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import nn

from . import boxes as b
from .anchors import anchor_grid
from .axes import along_axes
from .mirrors import MIRRORS, mirrored
from .models.devices import autocast, is_out_of_memory
from .postprocessing import settings_of
from .volume_input import to_tensor

_LEAST_SCORE = 1e-4  # below it there are only anchors that never heard of a lesion
_LEAST_WINDOW, _LEAST_CELLS = 64, 8  # voxels, and cells of the coarsest map, along each axis: windows are not made smaller than either
_AXIS_SLACK = 1.1


@dataclass(frozen=True)
class Search:
    """How a volume is searched; a model's `postprocessing` says what validation chose.

    Attributes
    ----------
    window : (z, y, x) voxels of a window, for volumes that do not pass whole.
    whole_voxels : volumes of up to so many voxels pass whole; 0: never.
    shared : voxels that neighbouring windows have in common (along z, y, x, or one number along all), at least: the largest lesion lies whole in one of them. An axis
        that a window falls short of by a tenth or less is covered by longer windows, not by twice as many.
    candidates : boxes of each window that suppression looks at, the surest. A lesion of 40 mm has some thousand sure ones, of which one stays: where
        no more are looked at, there seems to be nothing else in the volume.
    boxes_a_window : of which so many are kept (paper: 3).
    suppression_iou : see `boxes.non_maximum_suppression`.
    vote_iou : see `boxes.vote`; None: no voting (paper).
    least_mm, most_mm : boxes with a side below or above are no lesions.
    maximum : boxes of a volume, the surest.
    mirrors : looks at each window, of which the mean counts: 1, 2 or 4, see `mirrors.MIRRORS`.
    scales : the grids that a volume is searched on, as voxel sizes in those that the network was trained on, of which the mean counts
        (`multi_scale`); the first is 1.
    finer_mirrors : looks on the grids after the first, which have more voxels; None: as on the first.
    """

    window: tuple[int, int, int] = (160, 96, 160)
    whole_voxels: int = 8_000_000
    shared: int | tuple[int, int, int] = 56
    candidates: int = 16_000
    boxes_a_window: int = 50
    suppression_iou: float = 0.1
    vote_iou: float | None = 0.5
    least_mm: float = 1.5
    most_mm: float = 80.0
    maximum: int = 50
    mirrors: int = 1
    scales: tuple[float, ...] = (1.0,)
    finer_mirrors: int | None = None

    @classmethod
    def of(cls, postprocessing: Mapping[str, Any]) -> Search:
        """The search that a model's `postprocessing` describes; what it does not name is as above."""
        return settings_of(cls, postprocessing)

    def on_grid(self, number: int) -> Search:
        """The search of one of the grids of `scales`, by its number from 0."""
        return replace(self, mirrors=self.finer_mirrors) if number and self.finer_mirrors else self


PAPER = Search(window=(320, 96, 320), whole_voxels=0, boxes_a_window=3, vote_iou=None)
"""As published: 4 regular patches of 320 x 96 x 320 voxels of a volume of 400 x 100 x 400, 3 best boxes of each after suppression,
boxes too small or too large removed, suppression once more. The limits and the IoU of suppression are not published."""


@dataclass(frozen=True)
class Candidates:
    """Boxes found: `boxes` (n, 6) (z1, y1, x1, z2, y2, x2) voxels, `scores` and `malignancy` (n,) 0 to 1, numpy, by falling score."""

    boxes: np.ndarray
    scores: np.ndarray
    malignancy: np.ndarray


def axis_windows(length: int, window: int, shared: int) -> list[tuple[int, int]]:
    """First voxel and length of the regular windows that cover an axis."""
    if length <= window * _AXIS_SLACK:
        return [(0, length)]
    shared = min(shared, window // 2)
    number = math.ceil((length - shared) / (window - shared))
    return [(round(i * (length - window) / (number - 1)), window) for i in range(number)]


def find_candidates(
    levels: np.ndarray,
    spacing: Sequence[float],
    network: nn.Module,
    search: Search = Search(),
    *,
    device: str = "cpu",
    progress: Callable[[float, str], None] | None = None,
) -> tuple[Candidates, tuple[str, ...]]:
    """Search a volume for lesions.

    Parameters
    ----------
    levels : (z, y, x) uint8, see `volume_input.VolumeInput`.
    spacing : mm along z, y, x.
    network : a `networks.detection.DetectionNetwork` on `device`.
    progress : called with a fraction 0 to 1 and what is being done.

    Returns
    -------
    candidates : all there are, however low their score.
    notes : sentences on how it was done (smaller windows because the memory was not enough).
    """
    whole = levels.size <= search.whole_voxels
    window = levels.shape if whole else search.window
    least = tuple(max(_LEAST_WINDOW, _LEAST_CELLS * m) for m in along_axes(network.multiple))
    notes: tuple[str, ...] = ()
    while True:
        try:
            return _search(levels, spacing, network, search, window, device, progress), notes
        except (RuntimeError, MemoryError) as error:
            smaller = tuple(max(n, math.ceil(w / 2)) if w > n else w for w, n in zip(window, least, strict=True))
            if not is_out_of_memory(error) or smaller == tuple(window):
                raise
            window = smaller
            size = " x ".join(map(str, window[::-1]))
            notes = (
                f"the memory of the {device} device was not enough; the volume was searched in windows of {size} voxels",
            )


def _search(levels, spacing, network, search: Search, window, device: str, progress) -> Candidates:
    return choose_boxes(look(levels, network, search, window, device, progress), levels.shape, spacing, search)


@dataclass(frozen=True)
class Seen:
    """The surest anchors of a window, decoded: `boxes` (n, 6) in voxels of the volume, `scores`, `malignancy` (n,); tensors on the CPU."""

    boxes: torch.Tensor
    scores: torch.Tensor
    malignancy: torch.Tensor


def look(
    levels: np.ndarray,
    network: nn.Module,
    search: Search = Search(),
    window: Sequence[int] | None = None,
    device: str = "cpu",
    progress: Callable[[float, str], None] | None = None,
) -> list[Seen]:
    """What the network says, window by window; `window` None: as `search` has it. The part of `find_candidates` that takes time."""
    return looks(levels, network, search, (search.mirrors,), window, device, progress)[search.mirrors]


def looks(
    levels: np.ndarray,
    network: nn.Module,
    search: Search,
    counts: Sequence[int],
    window: Sequence[int] | None = None,
    device: str = "cpu",
    progress: Callable[[float, str], None] | None = None,
) -> dict[int, list[Seen]]:
    """As `look`, with each of some numbers of looks (`mirrors`) in the time of the most."""
    if window is None:
        window = levels.shape if levels.size <= search.whole_voxels else search.window
    each = zip(levels.shape, window, along_axes(search.shared), strict=True)
    axes = [axis_windows(n, w, shared) for n, w, shared in each]
    places = list(product(*axes))
    seen: dict[int, list[Seen]] = {count: [] for count in counts}
    for number, place in enumerate(places):
        if progress is not None:
            of = f" ({number + 1} of {len(places)})" if len(places) > 1 else ""
            progress(number / len(places), f"looking for lesions{of}")
        part = levels[tuple(slice(start, start + length) for start, length in place)]
        volume = to_tensor(part)[None, None].to(device, memory_format=torch.channels_last_3d)
        for count, said in _said(volume, network, counts):
            seen[count].append(_surest(*said, part.shape, [start for start, _ in place], network, search))
    return seen


def _said(volume: torch.Tensor, network: nn.Module, counts: Sequence[int]):
    """What the network says of a window (1, 1, z, y, x), for each of `counts`, rising: class probabilities (n, K + 1) and box parameters (n, 6) of
    its anchors, means over so many looks, on the CPU; and the anchors' cells."""
    if max(counts) > 1:  # padded here, so that the mirrored window's cells are the mirrored cells
        volume = network.padded(volume)
    kinds = len(network.anchors)
    probability = parameters = 0.0
    for count, axes in enumerate(MIRRORS[: max(counts)], start=1):
        with torch.inference_mode(), autocast(volume.device.type):
            logits, shifts, features = network(mirrored(volume, axes))
        cells = tuple(features.shape[2:])
        chances = logits[0].float().softmax(-1).cpu().reshape(*cells, kinds, -1)
        shifts = shifts[0].float().cpu().reshape(*cells, kinds, 6)
        if axes:
            there = [axis - 2 for axis in axes]
            chances, shifts = chances.flip(there), shifts.flip(there)
            shifts[..., there] *= -1  # the first three are shifts of the centre
        probability, parameters = probability + chances, parameters + shifts
        if count in counts:
            means = probability / count, parameters / count
            yield count, (means[0].reshape(-1, chances.shape[-1]), means[1].reshape(-1, 6), cells)


def _surest(
    probability: torch.Tensor,
    parameters: torch.Tensor,
    cells: tuple[int, int, int],
    shape: Sequence[int],
    start: Sequence[int],
    network: nn.Module,
    search: Search,
) -> Seen:
    """The surest anchors of a window of `shape` that begins at the voxel `start` of its volume."""
    scores = 1 - probability[:, 0]
    most = search.candidates
    scores, index = scores.topk(min(most, len(scores)))
    sure = scores > _LEAST_SCORE
    scores, index = scores[sure], index[sure]
    anchors = anchor_grid(cells, network.scale, network.anchors)[index]
    boxes = b.decode(parameters[index], anchors)
    lesion = probability[index, 1:]
    malignancy = (lesion[:, -1] / lesion.sum(1)).clamp(0, 1)
    # What the padding at the window's end came up with is none.
    inside = (b.centres_and_sizes(boxes)[0] < torch.tensor(shape)).all(1)
    shift = torch.tensor([*start, *start], dtype=torch.float32)
    return Seen(boxes[inside] + shift, scores[inside].clamp(0, 1), malignancy[inside])


def choose_boxes(seen: Sequence[Seen], shape: Sequence[int], spacing: Sequence[float], search: Search) -> Candidates:
    """From what the network says in each window to one set of boxes; see `find_candidates`."""
    windows = [_sift(s.boxes, s.scores, s.malignancy, shape, spacing, search, search.boxes_a_window) for s in seen]
    boxes, scores, malignancy = (torch.cat(parts) for parts in zip(*windows, strict=True))
    if len(windows) > 1:
        boxes, scores, malignancy = _sift(boxes, scores, malignancy, shape, spacing, search, search.maximum)
    return Candidates(*(values[: search.maximum].numpy() for values in (boxes, scores, malignancy)))


def _sift(boxes, scores, malignancy, shape, spacing, search: Search, most: int):
    """Cut boxes off at the volume's edge, drop what is no lesion's size, suppress, vote."""
    boxes = b.clip(boxes, shape)
    sides = (boxes[:, 3:] - boxes[:, :3]) * torch.tensor([float(s) for s in spacing])
    fits = ((sides >= search.least_mm) & (sides <= search.most_mm)).all(1)
    boxes, scores, malignancy = boxes[fits], scores[fits], malignancy[fits]
    kept = b.non_maximum_suppression(boxes, scores, search.suppression_iou, most)
    if search.vote_iou is None or not len(kept):
        return boxes[kept], scores[kept], malignancy[kept]
    means = b.vote(boxes, scores, kept, search.vote_iou, torch.cat([boxes, malignancy[:, None]], dim=1))
    return means[:, :6], scores[kept], means[:, 6].clamp(0, 1)
