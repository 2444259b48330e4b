"""Figures of merit for boxes of lesions in volumes: who hit what, the FROC curve, and what is reported at an operating point.

Boxes here are arrays (n, 6): the low and then the high edge along three axes, in any unit and any order of axes that
lesions and candidates share. Every figure takes `weights`, how often each volume counts (`bootstrap.weights_of`); None
means once.

A candidate belongs to the one lesion that it overlaps most, and hits it when their IoU is above the limit; otherwise it
is a false positive. A lesion that is hit again adds nothing, neither right nor wrong. Two limits are in use:

- above 0: the detection paper (Yu et al., MICCAI 2020) counts as a false positive what has IoU 0 with every lesion;
- above 0.3: TDSC-ABUS, whose score is the mean sensitivity at 0.125, 0.25, 0.5, 1, 2, 4 and 8 false positives a volume,
  interpolated linearly between the points of the FROC curve; beyond its end the sensitivity stays what it is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..findings import Box
from .metrics import falling_steps

PAPER_IOU, CHALLENGE_IOU = 0.0, 0.3
FALSE_POSITIVES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class VolumeBoxes:
    """What lies in one volume and what was found there: `lesions` (m, 6), `candidates` (n, 6), their `scores` (n,)."""

    lesions: np.ndarray
    candidates: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Hits:
    """Candidates and lesions of several volumes, matched at one IoU.

    Attributes
    ----------
    volumes : how many there are.
    candidate_volume, lesion_volume : (n,), (m,) int, the volume in which each lies.
    scores : (n,) of the candidates.
    lesion : (n,) int, the lesion that each candidate hits, counted through all volumes; -1 for a false positive.
    iou : (n,) with that lesion, or the largest with any where none is hit.
    """

    volumes: int
    candidate_volume: np.ndarray
    lesion_volume: np.ndarray
    scores: np.ndarray
    lesion: np.ndarray
    iou: np.ndarray

    @property
    def lesions(self) -> int:
        return len(self.lesion_volume)

    @cached_property
    def lesion_scores(self) -> np.ndarray:
        """(m,) The highest score that hits each lesion; -inf where none does."""
        return self._best(self.scores, -np.inf)

    @cached_property
    def lesion_iou(self) -> np.ndarray:
        """(m,) The largest IoU with which each lesion is hit; 0 where it is not."""
        return self._best(self.iou, 0.0)

    def surest(self) -> np.ndarray:
        """(m,) int, the candidate of the highest score that hits each lesion, the first of equals; -1 where none does."""
        best = np.full(self.lesions, -1)
        for candidate in np.argsort(self.scores, kind="stable"):  # upwards, so that the surest comes last
            if self.lesion[candidate] >= 0:
                held = best[self.lesion[candidate]]
                if held < 0 or self.scores[candidate] > self.scores[held]:
                    best[self.lesion[candidate]] = candidate
        return best

    def _best(self, values: np.ndarray, nothing: float) -> np.ndarray:
        best = np.full(self.lesions, nothing)
        hit = self.lesion >= 0
        np.maximum.at(best, self.lesion[hit], values[hit])
        return best


def extents(boxes: Sequence[Box], direction: Sequence[float]) -> np.ndarray:
    """Boxes of findings as arrays (n, 6), mm along the axes of their image.

    Parameters
    ----------
    boxes : LPS mm, along the image's axes.
    direction : the image's direction cosines, 9 numbers row by row (``image.GetDirection()``).
    """
    centres = np.array([box.center for box in boxes], float).reshape(-1, 3) @ np.reshape(direction, (3, 3))
    half = np.array([box.size for box in boxes], float).reshape(-1, 3) / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def iou_matrix(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union (n, m) of boxes (n, 6) with boxes (m, 6); 0 where both are empty.

    The numpy twin of `boxes.iou_matrix`, which is torch's: figures must be had without it.
    """
    low = np.maximum(first[:, None, :3], second[None, :, :3])
    high = np.minimum(first[:, None, 3:], second[None, :, 3:])
    common = np.clip(high - low, 0, None).prod(-1)
    sizes = [np.clip(boxes[:, 3:] - boxes[:, :3], 0, None).prod(-1) for boxes in (first, second)]
    union = sizes[0][:, None] + sizes[1][None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def match(volumes: Sequence[VolumeBoxes], above: float) -> Hits:
    """Which candidate hits which lesion, with an IoU above a limit (`PAPER_IOU`, `CHALLENGE_IOU`)."""
    lesion, iou, first = [], [], 0
    for volume in volumes:
        overlap = iou_matrix(volume.candidates, volume.lesions)
        if overlap.shape[1]:
            best = overlap.argmax(axis=1)
            largest = overlap[np.arange(len(best)), best]
        else:
            best, largest = np.zeros(len(overlap), int), np.zeros(len(overlap))
        lesion.append(np.where(largest > above, best + first, -1))
        iou.append(largest)
        first += len(volume.lesions)
    numbers = np.arange(len(volumes))
    return Hits(
        volumes=len(volumes),
        candidate_volume=np.repeat(numbers, [len(v.candidates) for v in volumes]),
        lesion_volume=np.repeat(numbers, [len(v.lesions) for v in volumes]),
        scores=np.concatenate([np.zeros(0), *(np.asarray(v.scores, float) for v in volumes)]),
        lesion=np.concatenate([np.zeros(0, int), *lesion]),
        iou=np.concatenate([np.zeros(0), *iou]),
    )


def reported(volume: VolumeBoxes, least_score: float, most: int | None = None) -> np.ndarray:
    """(n,) bool: the candidates that an operating point reports: at least this score, and no more than `most` a volume."""
    keep = np.asarray(volume.scores, float) >= least_score
    if most is not None:
        order = np.argsort(-np.asarray(volume.scores, float), kind="stable")
        keep[order[most:]] = False
    return keep


def at_operating_point(volume: VolumeBoxes, least_score: float, most: int | None = None) -> VolumeBoxes:
    """The volume with the candidates that are `reported` alone."""
    keep = reported(volume, least_score, most)
    return replace(volume, candidates=volume.candidates[keep], scores=np.asarray(volume.scores)[keep])


# ---------------------------------------------------------------------------------------------------------- figures


def sensitivity(hits: Hits, weights: np.ndarray | None = None, among: np.ndarray | None = None) -> float:
    """Share of the lesions that are hit. `among` (m,) bool takes some lesions only. NaN without lesions."""
    counts = _of_lesions(hits, weights, among)
    return _share(counts @ (hits.lesion_scores > -np.inf), counts.sum())


def false_positives(hits: Hits, weights: np.ndarray | None = None) -> float:
    """False positives a volume, on average. NaN without volumes."""
    counts = _of_volumes(hits, weights)
    return _share(counts[hits.candidate_volume] @ (hits.lesion < 0), counts.sum())


def mean_iou(hits: Hits, weights: np.ndarray | None = None) -> float:
    """Mean over the lesions that are hit of the largest IoU with a candidate. NaN where none is hit."""
    counts = _of_lesions(hits, weights, hits.lesion_iou > 0)
    return _share(counts @ hits.lesion_iou, counts.sum())


@dataclass(frozen=True)
class Froc:
    """A FROC curve: at score `thresholds` (falling, the first is infinite) the `false_positives` a volume and the
    `sensitivity`, all (k,)."""

    thresholds: np.ndarray
    false_positives: np.ndarray
    sensitivity: np.ndarray

    def at(self, false_positives: Sequence[float] | float) -> np.ndarray:
        """Sensitivity at so many false positives a volume (see the head of this file)."""
        return np.interp(false_positives, self.false_positives, self.sensitivity)

    @property
    def score(self) -> float:
        """The mean sensitivity at `FALSE_POSITIVES`."""
        return float(self.at(FALSE_POSITIVES).mean())


def froc(hits: Hits, weights: np.ndarray | None = None, among: np.ndarray | None = None) -> Froc:
    """The curve over all thresholds; candidates of equal score come in together.

    `among` (m,) bool asks for the sensitivity to some lesions only. NaN sensitivity without lesions.
    """
    found = hits.lesion_scores > -np.inf
    lesion_counts = _of_lesions(hits, weights, among)
    volume_counts = _of_volumes(hits, weights)
    alarm = hits.lesion < 0
    scores = np.concatenate([hits.lesion_scores[found], hits.scores[alarm]])
    hit = np.concatenate([lesion_counts[found], np.zeros(alarm.sum())])
    missed = np.concatenate([np.zeros(found.sum()), volume_counts[hits.candidate_volume[alarm]]])
    order, last = falling_steps(scores)
    with np.errstate(invalid="ignore"):
        return Froc(
            thresholds=np.append(np.inf, scores[order][last]),
            false_positives=np.append(0.0, np.cumsum(missed[order])[last]) / volume_counts.sum(),
            sensitivity=np.append(0.0, np.cumsum(hit[order])[last]) / lesion_counts.sum(),
        )


def _of_volumes(hits: Hits, weights: np.ndarray | None) -> np.ndarray:
    return np.ones(hits.volumes) if weights is None else np.asarray(weights, float)


def _of_lesions(hits: Hits, weights: np.ndarray | None, among: np.ndarray | None = None) -> np.ndarray:
    """(m,) how often each lesion counts."""
    counts = _of_volumes(hits, weights)[hits.lesion_volume]
    return counts if among is None else counts * np.asarray(among, bool)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
