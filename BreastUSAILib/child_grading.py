"""Grades in one image in a child process: `child_workup` for ``breastusai grade``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .child_detection import reason_against_volume
from .child_workup import ChildWorkup, VolumePixels, reason_against_size
from .command_arguments import grading_words
from .files import write_study

if TYPE_CHECKING:
    from .findings import Study
    from .workup_options import GradingOptions

FINDINGS = "findings"


@dataclass(frozen=True)
class GradePixels(VolumePixels):
    """What an image or a volume of several slices holds."""

    def reason_against(self) -> str:
        return reason_against_image(self.image.GetSize(), self.spacing_known, self.name)


def reason_against_image(size: Sequence[int], spacing_known: bool, name: str) -> str:
    """Why nothing can be graded in a volume node of so many voxels along each axis, with the cure; "" when it can."""
    if min(size, default=0) > 1:
        return reason_against_volume(size, spacing_known, name)
    return reason_against_size(size, name)


@dataclass(frozen=True)
class GradingOrder:
    """What is to be graded, and how: the findings of a study with their masks; None: what is found in a 2D image."""

    study: Study | None
    options: GradingOptions


def grading_arguments(source: Path, output: Path, order: GradingOrder) -> list[str]:
    """The command line of ``breastusai grade`` for an order; findings are written as a result beside the image."""
    options = order.options
    arguments = ["grade", str(source), "--output", str(output), "--progress", "json", "--device", options.device]
    if order.study is not None:
        write_study(order.study, source.with_name(FINDINGS))
        arguments += ["--findings", str(source.with_name(FINDINGS))]
    arguments += ["--model", options.model] if options.model else []
    return [*arguments, *grading_words(options)]


class ChildGrading(ChildWorkup):
    """Grades made in a child process: a `ChildWorkup` with `GradePixels` and a `GradingOrder`."""

    arguments = staticmethod(grading_arguments)
