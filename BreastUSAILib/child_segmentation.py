"""Outlines in one volume in a child process: `child_workup` for ``breastusai segment``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .atomic import write_text
from .child_workup import ChildWorkup
from .command_arguments import segmentation_words
from .findings import ImageInfo, Study

if TYPE_CHECKING:
    from .workup import SegmentationOptions, SegmentationRequest

REQUEST = "findings.json"


@dataclass(frozen=True)
class SegmentationOrder:
    """What is to be outlined in a volume of this grid, and how."""

    request: SegmentationRequest
    options: SegmentationOptions
    image: ImageInfo


def segmentation_arguments(source: Path, output: Path, order: SegmentationOrder) -> list[str]:
    """The command line of ``breastusai segment`` for an order; findings are written as a file beside the volume."""
    request, options = order.request, order.options
    arguments = ["segment", str(source), "--output", str(output), "--progress", "json", "--device", options.device]
    if request.findings:
        file = write_text(source.with_name(REQUEST), Study(order.image, request.findings).to_json())
        arguments += ["--findings", str(file)]
    # With an equals sign, as a coordinate may begin with a minus.
    arguments += [f"--box={_numbers((*box.center, *box.size))}" for box in request.boxes]
    arguments += [f"--point={_numbers(point)}" for point in request.points]
    return [*arguments, *segmentation_words(options)]


def _numbers(values: tuple[float, ...]) -> str:
    return ",".join(repr(float(v)) for v in values)


class ChildSegmentation(ChildWorkup):
    """Outlines made in a child process: a `ChildWorkup` with `child_detection.AbusPixels` and a `SegmentationOrder`."""

    arguments = staticmethod(segmentation_arguments)
