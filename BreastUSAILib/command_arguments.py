"""The arguments that commands share, and what they mean: each option is described here once.

A command for one task calls an option ``--threshold``; ``breastusai run``, which chains the tasks, ``--detect-threshold``: that is what
`prefix` is for.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError
from .models.devices import NAMES as DEVICES
from .models.engine_names import ENGINE_VARIABLE, ENGINES
from .progress import add_progress_arguments

if TYPE_CHECKING:
    from .workup_options import DetectionOptions, GradingOptions, HeatmapOptions, SegmentationOptions

# What a parser and a group of its arguments have in common.
Arguments = Any
DETECT, SEGMENT_3D, GRADE = "detect-", "segment-3d-", "grade-"
"""What the options of the tasks begin with where one command chains them (``breastusai run``)."""
OWN_MODEL = "a model that ships, or the folder of your own"


def add_output(parser: Arguments) -> None:
    parser.add_argument("--output", "-o", required=True, type=Path, metavar="DIR", help="folder for the results")


def add_model(parser: Arguments, option: str = "--model", help: str = OWN_MODEL) -> None:
    parser.add_argument(option, default="", metavar="ID|DIR", help=help)


def add_device(parser: Arguments) -> None:
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where the networks run (default: auto)")
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        action=_ForProcesses,
        help="what runs them on a CPU; openvino: pip install breastusai[openvino] (default: auto)",
    )


class _ForProcesses(argparse.Action):
    """Keeps the engine in the environment, where the processes of a command find it: how a result is computed is no option of the result."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        setattr(namespace, self.dest, values)
        os.environ[ENGINE_VARIABLE] = values


def add_probability(parser: Arguments, option: str, help: str) -> None:
    parser.add_argument(option, type=float, metavar="P", help=help)


def add_one_image(parser: Arguments, metavar: str, help: str) -> None:
    """The arguments of commands for one image: `input`, `output`, `device`, `spacing`, `max_pixels`, and how progress is shown."""
    parser.add_argument("input", type=Path, metavar=metavar, help=help)
    add_output(parser)
    add_device(parser)
    parser.add_argument(
        "--spacing",
        nargs="+",
        type=_millimetres,
        metavar="MM",
        help="mm of a pixel, where the file is silent or wrong: one number for all axes, or one for each (X Y [Z])",
    )
    add_max_pixels(parser, "refuse a larger image")
    add_progress_arguments(parser)


def add_max_pixels(parser: Arguments, help: str) -> None:
    parser.add_argument(
        "--max-pixels", type=int, metavar="N", help=f"{help} (default: 67 million in 2D, 537 million in volumes)"
    )


def _millimetres(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        # All that follows the option is taken for its numbers.
        raise argparse.ArgumentTypeError(f"{text!r} is no number; name the image before --spacing") from None


def plane_spacing(text: str) -> float | tuple[float, ...]:
    """What a pixel of 2D images measures, in one word, as images may follow: one number of mm, or one across and one down."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of mm, nor one across and one down, as in 0.1,0.12") from None
    return values[0] if len(values) == 1 else values


def check_one_image(args: argparse.Namespace) -> None:
    """UsageError where the spacing or the limit of `add_one_image` is impossible, whatever the image."""
    if args.max_pixels is not None and args.max_pixels < 1:
        raise UsageError(f"--max-pixels is {args.max_pixels}; it must be 1 or more.")
    if args.spacing is None:
        return
    given = " ".join(f"{s:g}" for s in args.spacing)
    if len(args.spacing) > 3:
        raise UsageError(f"--spacing {given} has {len(args.spacing)} numbers; give 1, or 1 for each axis (X Y [Z]).")
    if not all(0 < s < float("inf") for s in args.spacing):
        raise UsageError(f"--spacing is {given}; each must be a positive number of millimetres.")


def check_models(names: Mapping[str, str]) -> None:
    """Tell at once, before PyTorch is imported and the input is read, where a model (task -> name) is not there or damaged: ModelError."""
    from .models.zoo import read_verified, resolve

    for task, name in names.items():
        read_verified(*resolve(name, task))


# --------------------------------------------------------------------------------------------------------- of the tasks


def add_detection(parser: Arguments, prefix: str = "") -> None:
    add_model(parser, f"--{prefix}model", "a detection model that ships, or the folder of your own")
    add_model(parser, "--classifier", "the second opinion on malignancy, likewise")
    add_probability(parser, f"--{prefix}threshold", "report findings that score at least this; 0: all candidates")
    parser.add_argument(f"--{prefix}maximum", type=int, metavar="N", help="report at most so many findings of a volume")


def detection_options(args: argparse.Namespace, prefix: str = "") -> DetectionOptions:
    """What `add_detection` was given. UsageError where it is impossible."""
    from .workup_options import DetectionOptions

    said = _said(args, prefix)
    options = DetectionOptions(said("model"), args.classifier, args.device, said("threshold"), said("maximum"))
    options.detect()
    return options


def add_segmentation(parser: Arguments, prefix: str = "") -> None:
    add_model(parser, f"--{prefix}model", "a 3D segmentation model that ships, or the folder of your own")
    add_probability(parser, f"--{prefix}threshold", "probability above which a voxel is lesion")
    parser.add_argument(
        f"--{prefix}iterations", type=int, metavar="N", help="passes of the network, 0 to 4 (default: the model's)"
    )
    parser.add_argument(
        f"--{prefix}no-uncertainty",
        dest=f"{_name(prefix)}uncertainty",
        action="store_false",
        help="one look instead of four mirror images: faster",
    )
    refine = parser.add_mutually_exclusive_group()
    name = f"{_name(prefix)}refine"
    refine.add_argument(
        f"--{prefix}refine", dest=name, action="store_true", default=None, help="let Chan-Vese follow the border"
    )
    refine.add_argument(f"--{prefix}no-refine", dest=name, action="store_false", help="keep the network's border")


def segmentation_options(args: argparse.Namespace, prefix: str = "") -> SegmentationOptions:
    """What `add_segmentation` was given. UsageError where it is impossible."""
    from .workup_options import SegmentationOptions

    said = _said(args, prefix)
    figures = (said("threshold"), said("iterations"), said("uncertainty"), said("refine"))
    options = SegmentationOptions(said("model"), args.device, *figures)
    options.segment()
    return options


def add_grading(parser: Arguments, prefix: str = "") -> None:
    for system, help_text in (
        ("gcnn", "G-CNN: BI-RADS category and descriptors"),
        ("mtnet", "Mt-Net: malignancy"),
        ("snnet", "Sn-Net: solid nodule or not"),
    ):
        parser.add_argument(f"--{prefix}{system}", metavar="ID|DIR", help=help_text)
    parser.add_argument(
        f"--{prefix}no-maps",
        dest=f"{_name(prefix)}maps",
        action="store_false",
        help="Mt-Net and Sn-Net without each other's activation maps",
    )
    parser.add_argument(
        f"--{prefix}one-crop",
        dest=f"{_name(prefix)}several",
        action="store_false",
        help="one look at each lesion instead of several: faster",
    )


def grading_options(args: argparse.Namespace, prefix: str = "", model: str = "") -> GradingOptions:
    """What `add_grading` was given; `model`: of the segmentation of 2D images."""
    from .workup_options import GradingOptions

    said = _said(args, prefix)
    systems = (said("gcnn"), said("mtnet"), said("snnet"))
    return GradingOptions(*systems, model, args.device, enhance=said("maps"), several=said("several"))


def add_heatmap(parser: Arguments) -> None:
    add_model(parser, help="a heatmap model that ships, or the folder of your own")
    add_probability(parser, "--threshold", "report hot spots that score at least this; 0: all")
    parser.add_argument("--maximum", type=int, metavar="N", help="report at most so many hot spots")


def heatmap_options(args: argparse.Namespace) -> HeatmapOptions:
    """What `add_heatmap` was given. UsageError where it is impossible."""
    from .workup_options import HeatmapOptions

    options = HeatmapOptions(args.model, args.device, args.threshold, args.maximum)
    options.heat()
    return options


# ------------------------------------------------------------------------------ and back: a command line for some options


def detection_words(options: DetectionOptions, prefix: str = "") -> list[str]:
    """What `detection_options` takes for these."""
    return [
        *_named(f"--{prefix}model", options.model),
        *_named("--classifier", options.classifier),
        *_figure(f"--{prefix}threshold", options.threshold),
        *_figure(f"--{prefix}maximum", options.maximum),
    ]


def segmentation_words(options: SegmentationOptions, prefix: str = "") -> list[str]:
    """What `segmentation_options` takes for these."""
    refine = {None: [], True: [f"--{prefix}refine"], False: [f"--{prefix}no-refine"]}
    return [
        *_named(f"--{prefix}model", options.model),
        *_figure(f"--{prefix}threshold", options.threshold),
        *_figure(f"--{prefix}iterations", options.iterations),
        *([] if options.uncertainty else [f"--{prefix}no-uncertainty"]),
        *refine[options.refine],
    ]


def grading_words(options: GradingOptions, prefix: str = "") -> list[str]:
    """What `grading_options` takes for these; the segmentation model apart."""
    return [
        *(word for name in ("gcnn", "mtnet", "snnet") for word in _named(f"--{prefix}{name}", getattr(options, name))),
        *([] if options.enhance else [f"--{prefix}no-maps"]),
        *([] if options.several else [f"--{prefix}one-crop"]),
    ]


def _named(option: str, name: str | None) -> list[str]:
    return [option, name] if name else []


def _figure(option: str, value: float | None) -> list[str]:
    return [] if value is None else [option, repr(value)]


def _name(prefix: str) -> str:
    return prefix.replace("-", "_")


def _said(args: argparse.Namespace, prefix: str):
    return lambda name: getattr(args, f"{_name(prefix)}{name}")
