"""The map of one volume in a child process: `child_workup` for ``breastusai heatmap``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .child_workup import ChildWorkup

if TYPE_CHECKING:
    from .workup import HeatmapOptions


def heatmap_arguments(source: Path, output: Path, options: HeatmapOptions) -> list[str]:
    """The command line of ``breastusai heatmap`` for these options."""
    arguments = ["heatmap", str(source), "--output", str(output), "--progress", "json", "--device", options.device]
    arguments += ["--model", options.model] if options.model else []
    for name in ("threshold", "maximum"):
        value = getattr(options, name)
        arguments += [f"--{name}", repr(value)] if value is not None else []
    return arguments


class ChildHeatmap(ChildWorkup):
    """A map that is made in a child process: a `ChildWorkup` with `child_detection.AbusPixels` and `workup.HeatmapOptions`."""

    arguments = staticmethod(heatmap_arguments)
