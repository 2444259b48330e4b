"""Detection in one volume in a child process: `child_workup` for ``breastusai detect``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .child_workup import ChildWorkup, VolumePixels
from .command_arguments import detection_words

if TYPE_CHECKING:
    from .workup import DetectionOptions


@dataclass(frozen=True)
class AbusPixels(VolumePixels):
    """What a volume of several slices holds."""

    def reason_against(self) -> str:
        return reason_against_volume(self.image.GetSize(), self.spacing_known, self.name)


def reason_against_volume(size: Sequence[int], spacing_known: bool, name: str) -> str:
    """Why no lesions can be looked for in a volume of so many voxels along each axis, with the cure; "" when they can."""
    if min(size, default=0) < 1:
        return f"{name} holds no voxels; load an ABUS volume into it or choose another one."
    if min(size) == 1:
        return f"{name} is a 2D image. Lesions are found in ABUS volumes here; use BreastUSAI Segment for 2D images."
    if not spacing_known:
        return (
            f"{name} does not say what a voxel measures, and lesions are looked at by their size; set its spacing in the "
            "module Volumes."
        )
    return ""


def detection_arguments(source: Path, output: Path, options: DetectionOptions) -> list[str]:
    """The command line of ``breastusai detect`` for these options."""
    arguments = ["detect", str(source), "--output", str(output), "--progress", "json", "--device", options.device]
    return [*arguments, *detection_words(options)]


class ChildDetection(ChildWorkup):
    """A detection that runs in a child process: a `ChildWorkup` with `AbusPixels` and `workup.DetectionOptions`."""

    arguments = staticmethod(detection_arguments)
