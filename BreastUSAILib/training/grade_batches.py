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
from ..lesion_view import ViewRule, Window, crop_places, cut, network_input
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
    several : whether the network looks at several crops at work (`takes_several`). An image that it looks at as a whole is then seen at
        the size at which those show it, its short side as long as the input's, a square of it at a time: at a random place along its
        long side where it is varied, in the crops of `lesion_view.crop_places` where it is not. Otherwise all of it is one input, padded.

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
        several: bool = False,
    ) -> None:
        self.cases, self.rule, self.spare = list(cases), rule, spare
        self.versions = len(outlines)
        self.allowed = answers_allowed(self.cases, outputs)
        self._side = side = round(rule.size * spare * _FINEST) if spare > 1 else rule.size
        # Each row is a square of `side` pixels, or, of a whole image of which squares are seen, as high and wide as it is.
        self._images: list[torch.Tensor] = []
        self._marks: list[torch.Tensor] = []  # 1: within the outline, 2: within the image
        self._starts: list[list[int]] = []  # of the squares that are seen plainly, along the long side
        self._whole: list[bool] = []  # whether it is a whole image of which squares are seen
        for case in self.cases:
            seen = load_picture(case)
            part = seen.part
            unit, truth = to_unit_range(seen.pixels[part]), seen.mask[part]
            for which in outlines:
                mask = outline(case, which, found)[part]
                if which != "none" and (not mask.any() or (touching and not (mask & truth).any())):
                    mask = largest_part(truth)
                whole = several and (rule.view == "image" or not mask.any())
                if whole:
                    window = with_border(rule.window(mask), spare, seen.pixel_aspect)
                    rows_columns, starts = crop_places(window, side, seen.pixel_aspect)
                else:
                    window = rule.window(mask).square(seen.pixel_aspect).larger(spare)
                    rows_columns, starts = (side, side), [0]
                image, inside = cut(unit, window, rows_columns)
                shape, _ = cut(mask, window, rows_columns)
                self._images.append((image[0] * 255).round().to(torch.uint8))
                self._marks.append(((shape[0] > 0.5).int() + 2 * (inside[0] > 0.5).int()).to(torch.uint8))
                self._starts.append(starts)
                self._whole.append(whole)

    def __len__(self) -> int:
        return len(self.cases)

    def _read(self, rows: Sequence[int], starts: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Images, outlines and what lies within the image, (n, 1, side, side) each, of squares that begin at `starts` along the long side."""
        places = list(zip(rows, starts, strict=True))
        images, marks = (
            torch.stack([self._square(kept[row], at) for row, at in places]) for kept in (self._images, self._marks)
        )
        return images.float() / 255, (marks & 1).float(), (marks >> 1).float()

    def _square(self, kept: torch.Tensor, start: int) -> torch.Tensor:
        return kept.narrow(1 if kept.shape[1] > kept.shape[2] else 2, start, self._side)

    def labels(self, indices: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: table[indices] for name, table in self.allowed.items()}

    def crops(self, indices: torch.Tensor, version: int = -1) -> list[int]:
        """How many inputs `plain` has of each of these cases: one, or of a whole image those that are averaged at inference."""
        return [len(self._starts[row]) for row in self._rows(indices, version)]

    def plain(self, indices: torch.Tensor, version: int = -1) -> torch.Tensor:
        """Inputs (n, C, S, S) of these cases as at inference, of lesions without spare, the crops of each case one after the other; `version`:
        which of the outlines, the last by default."""
        places = [(row, start) for row in self._rows(indices, version) for start in self._starts[row]]
        images, masks, valid = self._read(*zip(*places, strict=True))
        return network_input(images, valid, masks if self.rule.mask else None)

    def _rows(self, indices: torch.Tensor, version: int) -> list[int]:
        return (indices * self.versions + version % self.versions).tolist()

    def varied(
        self, indices: torch.Tensor, generator: torch.Generator, wide: float = 0.5, paper: bool = False
    ) -> torch.Tensor:
        """Inputs (N, C, S, S) of these cases, varied, each with an outline drawn from its versions.

        wide : share of the batches that other scanners' processing is added to (`augment.scanner`).
        paper : translation and mirroring only, as the papers have it.
        """
        versions = torch.randint(self.versions, (len(indices),), generator=generator)
        rows = (indices * self.versions + versions).tolist()
        whole = torch.tensor([self._whole[row] for row in rows])
        starts = [0] * len(rows)
        if bool(whole.any()):
            spans = [max(self._images[row].shape) - self._side + 1 for row in rows]
            starts = [
                int(place * n)
                for place, n in zip(torch.rand(len(rows), generator=generator).tolist(), spans, strict=True)
            ]
        images, masks, valid = self._read(rows, starts)
        size = self.rule.size
        if paper:
            # A square of a whole image has its place already, and its short side is all of the image's.
            images, masks, valid = translated(images, masks, valid, size, self.spare, generator, ~whole)
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


def takes_several(system: str) -> bool:
    """Whether a system looks at several crops at work (`grade.answers`): Mt-Net and Sn-Net do; G-CNN's paper has one."""
    return system != "gcnn"


def with_border(window: Window, spare: float, pixel_aspect: float = 1.0) -> Window:
    """The window with a border, equally wide all around, that makes its short side `spare` times as long."""
    height, width = window.sides[0] * pixel_aspect, window.sides[1]
    border = min(height, width) * (spare - 1)
    return Window(window.centre, ((height + border) / pixel_aspect, width + border))


def translated(images, masks, valid, size: int, spare: float, generator: torch.Generator, moving: torch.Tensor):
    """Squares of `size` pixels at random places of what waits, each as large as what inference sees, mirrored half of the time.

    moving : (N,) bool; the others are taken at the centre.
    """
    n = len(images)
    theta = torch.zeros(n, 2, 3)
    mirror = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    theta[:, 0, 0], theta[:, 1, 1] = mirror / spare, 1 / spare
    theta[:, :, 2] = (torch.rand(n, 2, generator=generator) * 2 - 1) * (1 - 1 / spare) * moving[:, None]
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
