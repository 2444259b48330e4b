"""Lesions as grading networks see them in training: cut out once, with room to vary, and varied each time they are seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional as F

from ..evaluation.grade_data import allowed
from ..evaluation.grade_outlines import FoundOutlines, largest_part, outline
from ..evaluation.segmentation_data import Case, load_picture
from ..lesion_view import ViewRule, cut, network_input
from ..letterbox import to_unit_range
from .augment import geometric, intensity, overlays, scanner

SPARE = 1.3
"""What waits is so much larger on each side than what is seen, so that a part of it can be taken elsewhere or larger."""
_FINEST = 1.15  # pixels of what waits, in those of what is seen


def answers_allowed(cases: Sequence[Case], outputs: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """Output -> (N, K) bool, which classes each case's labels allow; the last K of the output's classes.

    A label that allows none of them (category 2, of a network that knows 3 to 5) says nothing: it allows all.
    """
    tables = {}
    for name, count in outputs.items():
        table = np.array([allowed(case, name)[-count:] for case in cases], bool).reshape(len(cases), count)
        table[~table.any(1)] = True
        tables[name] = torch.from_numpy(table)
    return tables


class Lesions:
    """Cases, cut out and in memory.

    Parameters
    ----------
    cases : see `evaluation.grade_data.gradable`.
    rule : what a network sees.
    outputs : of the network, output -> number of classes.
    outlines : which outlines are looked at (`OUTLINES`), each a version of the lesion; an empty one falls back on the true one.
    found : finds the outlines that are not the truth.
    spare : see `SPARE`; 1 for lesions that are not varied.
    touching : whether a found outline that does not touch the annotated one falls back on it as well: a picture of something else
        teaches nothing of this lesion, but is what is judged at work.

    Attributes
    ----------
    allowed : output -> (N, K) bool.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        rule: ViewRule,
        outputs: Mapping[str, int],
        outlines: Sequence[str] = ("true",),
        found: FoundOutlines | None = None,
        spare: float = SPARE,
        touching: bool = True,
    ) -> None:
        self.cases, self.rule, self.spare = list(cases), rule, spare
        self.versions = len(outlines)
        self.allowed = answers_allowed(self.cases, outputs)
        side = round(rule.size * spare * _FINEST) if spare > 1 else rule.size
        rows = len(self.cases) * self.versions
        self._images = torch.empty(rows, 1, side, side, dtype=torch.uint8)
        self._marks = torch.empty_like(self._images)  # 1: within the outline, 2: within the image
        for number, case in enumerate(self.cases):
            seen = load_picture(case)
            part = seen.part
            unit, truth = to_unit_range(seen.pixels[part]), seen.mask[part]
            for version, which in enumerate(outlines):
                mask = outline(case, which, found)[part]
                if which != "none" and (not mask.any() or (touching and not (mask & truth).any())):
                    mask = largest_part(truth)
                window = rule.window(mask).square(seen.pixel_aspect).larger(spare)
                image, inside = cut(unit, window, (side, side))
                shape, _ = cut(mask, window, (side, side))
                row = number * self.versions + version
                self._images[row] = (image[0] * 255).round().to(torch.uint8)
                self._marks[row] = ((shape[0] > 0.5).int() + 2 * (inside[0] > 0.5).int()).to(torch.uint8)

    def __len__(self) -> int:
        return len(self.cases)

    def _read(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        marks = self._marks[rows]
        return self._images[rows].float() / 255, (marks & 1).float(), (marks >> 1).float()

    def labels(self, indices: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: table[indices] for name, table in self.allowed.items()}

    def plain(self, indices: torch.Tensor, version: int = -1) -> torch.Tensor:
        """Inputs (N, C, S, S) of these cases as at inference, of lesions without spare; `version`: which of the outlines, the last
        by default."""
        images, masks, valid = self._read(indices * self.versions + version % self.versions)
        return network_input(images, valid, masks if self.rule.mask else None)

    def varied(
        self, indices: torch.Tensor, generator: torch.Generator, wide: float = 0.5, paper: bool = False
    ) -> torch.Tensor:
        """Inputs (N, C, S, S) of these cases, varied, each with an outline drawn from its versions.

        wide : share of the batches that other scanners' processing is added to (`augment.scanner`).
        paper : translation and mirroring only, as the papers have it.
        """
        versions = torch.randint(self.versions, (len(indices),), generator=generator)
        images, masks, valid = self._read(indices * self.versions + versions)
        size = self.rule.size
        if paper:
            images, masks, valid = translated(images, masks, valid, size, self.spare, generator)
        else:
            # The lesion's place and size in the square differ by more than the outlines of a reader and of the segmentation do; its
            # shape hardly does, as height against width tells benign from malignant.
            images, masks, valid = geometric(
                images, masks, valid, size, generator, lesion_free=0.0, closest=0.62, farthest=1.0, stretch=0.06
            )
            masks = warped_outlines(masks, generator) if self.rule.mask else masks
            if torch.rand(1, generator=generator) < wide:
                images = scanner(images, generator)
            images = overlays(intensity(images, generator), generator)
        valid = (valid > 0.5).float()
        return network_input(images * valid, valid, (masks > 0.5).float() if self.rule.mask else None)


def translated(images, masks, valid, size: int, spare: float, generator: torch.Generator):
    """Squares of `size` pixels at random places of what waits, each as large as what inference sees, mirrored half of the time."""
    n = len(images)
    theta = torch.zeros(n, 2, 3)
    mirror = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    theta[:, 0, 0], theta[:, 1, 1] = mirror / spare, 1 / spare
    theta[:, :, 2] = (torch.rand(n, 2, generator=generator) * 2 - 1) * (1 - 1 / spare)
    grid = F.affine_grid(theta, [n, 1, size, size], align_corners=False)
    moved = F.grid_sample(torch.cat([images, masks, valid], 1), grid, mode="bilinear", align_corners=False)
    return moved[:, :1], moved[:, 1:2], moved[:, 2:]


def warped_outlines(masks: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Outlines (N, 1, S, S) that are a little wrong: moved, grown or shrunk here and there, and sometimes not there at all."""
    n, _, size, _ = masks.shape
    smooth = F.avg_pool2d(masks, 2 * (size // 24) + 1, 1, size // 24)
    wave = torch.randn(n, 1, 5, 5, generator=generator) * 0.15
    wave = F.interpolate(wave, size=(size, size), mode="bicubic", align_corners=True)
    level = 0.5 + wave + (torch.rand(n, 1, 1, 1, generator=generator) - 0.5) * 0.3
    rough = torch.rand(n, 1, 1, 1, generator=generator) < 0.5
    kept = torch.rand(n, 1, 1, 1, generator=generator) >= 0.1
    return torch.where(rough, (smooth > level.clamp(0.05, 0.95)).float(), masks) * kept


def draw_order(cases: Sequence[Case], balance: Mapping[str, float], generator: torch.Generator) -> torch.Tensor:
    """Which cases an epoch sees, (n,) int: each once, or drawn with the weights that `balance` gives to data sets."""
    weights = torch.tensor([float(balance.get(case.source, 1.0)) for case in cases])
    if bool((weights == weights[0]).all()):
        return torch.randperm(len(cases), generator=generator)
    return torch.multinomial(weights, len(cases), replacement=True, generator=generator)


def rate_steps(progress: float, epochs: int, rate: float, factor: float = 0.9) -> float:
    """The paper's rate: `factor` times as high after each epoch."""
    return rate * factor ** math.floor(progress * epochs + 1e-9)
