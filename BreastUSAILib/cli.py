"""The command line: ``breastusai run``, ``detect``, ``models``, ``phantom``, ``train``, ``evaluate``.

Exit codes: 0 all was done, 1 something failed (the other inputs were done), 2 wrong usage, 130 cancelled. What is
imported here is light, so that ``--help`` answers at once; each command imports what it needs.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import RESEARCH_USE, __version__
from .errors import BreastUSAIError, Cancelled, DependencyError, UsageError
from .openmp import wait_briefly
from .progress import on_terminal, to_nowhere
from .torch_import import import_torch_briefly

if TYPE_CHECKING:
    from .models.entry import ModelEntry

OK, FAILED, USAGE, CANCELLED = 0, 1, 2, 130

# Command -> its sub-commands: name, module with add_arguments(parser) and main(args), and what it does.
_LAZY = {
    "train": {
        "roi-cnn": ("BreastUSAILib.training.roi_cnn", "the lesion segmentation of 2D images"),
        "detect": ("BreastUSAILib.training.detect", "the detection of lesions in ABUS volumes"),
        "detect-baseline": ("BreastUSAILib.training.detect_baseline", "the U-Nets that the detection is compared with"),
        "lesion-classifier": ("BreastUSAILib.training.lesion_classifier", "the second opinion on detected lesions"),
        "segment-3d": ("BreastUSAILib.training.segment_3d", "the outline and malignancy of lesions in ABUS volumes"),
        "heatmap": ("BreastUSAILib.training.heatmap", "the heatmaps of ABUS volumes, from one point a lesion"),
        "grade": ("BreastUSAILib.training.grade", "malignancy, BI-RADS category and solid nodules in 2D images"),
        "grade-average": ("BreastUSAILib.training.grade_average", "one network out of several runs of the same recipe"),
        "grade-pooling": ("BreastUSAILib.training.grade_choice", "how the grading systems' answers become one, by validation images"),
    },
    "evaluate": {
        "segment": ("BreastUSAILib.evaluation.segment", "Dice and distances on annotated 2D images"),
        "detect": ("BreastUSAILib.evaluation.detect", "sensitivity, false positives, FROC and malignancy on annotated volumes"),
        "detect-table": ("BreastUSAILib.evaluation.detect_table", "several measured detectors side by side, and the published figures"),
        "segment-3d": ("BreastUSAILib.evaluation.segment_3d", "outlines and malignancy of lesions in annotated volumes"),
        "grade": ("BreastUSAILib.evaluation.grade", "malignancy, BI-RADS category and solid nodules against pathology and readers"),
        "heatmap": ("BreastUSAILib.evaluation.heatmap", "patches, hot spots and distances on annotated volumes"),
        "segment-3d-table": ("BreastUSAILib.evaluation.segment_3d_table", "several measured joint networks side by side"),
        "phantom": ("BreastUSAILib.evaluation.phantom_baselines", "how far simple methods come on synthetic volumes"),
    },
}
# Commands without sub-commands: the same.
_PLAIN = {
    "run": ("BreastUSAILib.run_command", "find, outline and measure lesions in images and volumes"),
    "detect": ("BreastUSAILib.detect_command", "find lesions in an ABUS volume"),
    "segment": ("BreastUSAILib.segment_command", "outline and measure lesions of an ABUS volume"),
    "heatmap": ("BreastUSAILib.heatmap_command", "map what in an ABUS volume speaks for a lesion"),
    "grade": ("BreastUSAILib.grade_command", "say how suspicious the lesions of an image are"),
    "compare": ("BreastUSAILib.compare_command", "compare the findings of two examinations of a breast"),
    "export": ("BreastUSAILib.dicom_out.export", "finished results as DICOM and FHIR, or a de-identified copy of them"),
    "samples": ("BreastUSAILib.sample_data.command", "list the sample images that are built in, or copy them"),
    "phantom": ("BreastUSAILib.phantom.command", "make synthetic ABUS volumes with exact ground truth"),
}
_USE_NETWORKS = ("run", "detect", "segment", "heatmap", "grade")  # and do no more with PyTorch
_SEVERAL = ("inputs", "studies")  # arguments of commands for many
_EXTRA = ("monai", "matplotlib")  # what the extra `train` brings
_NEEDED = {"train": (), "evaluate": _EXTRA}  # without which a command cannot come to its end


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code. Errors are one sentence each on standard error."""
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # A file name that the terminal cannot show is no reason to stop.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    wait_briefly(os.environ)
    if argv[:1] and argv[0] in _USE_NETWORKS:
        import_torch_briefly()
    debug = "--debug" in argv
    try:
        args = _parsed(build_parser(argv), argv)
    except SystemExit as end:  # argparse has said what is wrong, or printed the help
        return end.code if isinstance(end.code, int) else USAGE
    except UsageError as error:
        _error(str(error))
        return USAGE
    try:
        with _terminate_as_interrupt():
            return args.main(args)
    except (KeyboardInterrupt, Cancelled):
        _error("cancelled.")
        return CANCELLED
    except BrokenPipeError:  # the reader of our output (`head`) has gone
        to_nowhere(sys.stdout)
        return FAILED
    except BreastUSAIError as error:
        if debug:
            traceback.print_exc()
        _error(str(error))
        return USAGE if isinstance(error, UsageError) else FAILED
    except Exception as error:
        if debug:
            traceback.print_exc()
        _error(f"unexpected {type(error).__name__}: {error}" + ("" if debug else "; --debug shows where."))
        return FAILED


def _parsed(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command line. UsageError where inputs stand on both sides of an option: argparse takes those before it alone."""
    args, rest = parser.parse_known_args(argv)
    if rest and any(hasattr(args, name) for name in _SEVERAL) and not any(word.startswith("-") for word in rest):
        raise UsageError(f"{rest[0]} stands apart from what was named before; name all inputs together, then the options.")
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return args


def build_parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser for this command line; only the sub-command that `argv` names has its module imported."""
    parser = argparse.ArgumentParser(
        prog="breastusai",
        description="Finds, outlines, measures and grades lesions in 2D breast ultrasound images and ABUS volumes.",
        epilog=RESEARCH_USE,
    )
    parser.add_argument("--version", action="version", version=f"BreastUSAI {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_models(commands)
    for command, (module, help_text) in _PLAIN.items():
        plain = commands.add_parser(command, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}.")
        if list(argv[:1]) == [command]:
            _load(plain, module)
    for command, title in (("train", "train a model on your own data"), ("evaluate", "measure a model")):
        names = commands.add_parser(command, help=title, description=title.capitalize() + ".")
        chosen = names.add_subparsers(dest="name", required=True, metavar="WHAT")
        for name, (module, help_text) in _LAZY[command].items():
            sub = chosen.add_parser(name, help=help_text, description=f"{title.capitalize()}: {help_text}.")
            if list(argv[:2]) == [command, name]:
                _load(sub, module)
                sub.set_defaults(main=_with_extra(command, name, sub.get_default("main")))
    return parser


def _load(parser: argparse.ArgumentParser, module: str) -> None:
    """Let a command's module say what its arguments are and what it does."""
    loaded = importlib.import_module(module)
    loaded.add_arguments(parser)
    _refuse_empty_paths(parser)
    if not any("--debug" in action.option_strings for action in parser._actions):
        _add_debug(parser)
    parser.set_defaults(main=loaded.main)


def _add_debug(parser: argparse.ArgumentParser, **more: Any) -> None:
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors", **more)


def _refuse_empty_paths(parser: argparse.ArgumentParser) -> None:
    """Let options that name a file or a folder, and the image of a command, refuse an empty text, which a script gives whose variable is not
    set: `Path` takes it for the folder that one is in, and results would be written there."""
    for action in parser._actions:
        if action.type is Path and (action.option_strings or action.dest == "input"):
            action.type = _path_of(action.option_strings[0] if action.option_strings else str(action.metavar))


def _path_of(name: str) -> Callable[[str], Path]:
    def path(text: str) -> Path:
        if not text:
            raise UsageError(f"{name} is empty; give a path (. is the folder that you are in).")
        return Path(text)

    return path


def _with_extra(command: str, name: str, function: Callable[[argparse.Namespace], int]) -> Callable[..., int]:
    """Let a command say what to install, before any work is done, where packages of the extra `train` are missing."""

    def missing(package: str) -> DependencyError:
        return DependencyError(
            f"breastusai {command} {name} needs {package}; install it with: pip install breastusai[train]"
        )

    def checked(args: argparse.Namespace) -> int:
        for package in _NEEDED[command]:
            if importlib.util.find_spec(package) is None:
                raise missing(package)
        try:
            return function(args)
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in _EXTRA:
                raise
            raise missing(package) from error

    return checked


# ---------------------------------------------------------------------------------------------------------- models


def _add_models(commands) -> None:
    parser = commands.add_parser("models", help="the models that ship", description="The models that ship.")
    _add_debug(parser)
    actions = parser.add_subparsers(dest="action", required=True, metavar="WHAT")
    actions.add_parser("list", help="one line a model").set_defaults(main=_models_list)
    for name, help_text, function in (
        ("show", "all that the catalogue holds about a model, as JSON", _models_show),
        ("card", "the model card (Markdown)", _models_card),
    ):
        action = actions.add_parser(name, help=help_text)
        action.add_argument("model", metavar="ID|DIR")
        action.set_defaults(main=function)
    export = actions.add_parser("export", help="write a model's network as an ONNX file, for inputs of one shape, or a model as a MONAI bundle")
    export.add_argument("model", metavar="ID|DIR")
    export.add_argument("file", type=Path, metavar="FILE.onnx|FOLDER", help="the ONNX file, or the folder of the bundle")
    export.add_argument("--format", choices=("onnx", "monai-bundle"), default="onnx", help="what is written (default: onnx)")
    export.add_argument("--shape", nargs="+", type=int, metavar="N", help="of an ONNX file's input: Z Y X voxels, or Y X pixels (default: a small example)")
    export.set_defaults(main=_models_export)
    verify = actions.add_parser("verify", help="check the files of one model or of all against their checksums")
    verify.add_argument("model", nargs="?", metavar="ID|DIR")
    verify.set_defaults(main=_models_verify)
    for action in actions.choices.values():  # it is given behind `models` or at the end; what was said before stays
        _add_debug(action, default=argparse.SUPPRESS)


def _models_list(args: argparse.Namespace) -> int:
    from .models import catalog

    rows = [("ID", "VERSION", "TASK", "SIZE", "DESCRIPTION")]
    rows += [(e.id, e.version, e.task, f"{e.size_bytes / 1e6:.1f} MB", e.description) for e in catalog.entries()]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        print("  ".join([*(cell.ljust(w) for cell, w in zip(row[:4], widths, strict=True)), row[4]]).rstrip())
    return OK


def _entry(name: str) -> tuple[ModelEntry, Path]:
    """A model that ships or one in a folder, and its weight file."""
    from .models import zoo

    return zoo.resolve(name, None)


def _models_show(args: argparse.Namespace) -> int:
    print(json.dumps(_entry(args.model)[0].to_dict(), indent=2, ensure_ascii=False))
    return OK


def _models_card(args: argparse.Namespace) -> int:
    from .models.cards import card

    print(card(_entry(args.model)[0]))
    return OK


def _models_export(args: argparse.Namespace) -> int:
    entry, weights = _entry(args.model)
    if args.format == "monai-bundle":
        if args.shape is not None:
            raise UsageError("--shape is for ONNX files; leave it out: a bundle says itself what its network takes.")
        from .models.monai_bundle import export_bundle

        export_bundle(entry, weights, args.file)
        print(f"{entry.id} {entry.version} as a MONAI bundle: {args.file}")
        return OK
    dimension = int(entry.preprocessing.get("dimension", 2))
    if args.shape is not None and (len(args.shape) != dimension or min(args.shape) < 1):
        raise UsageError(f"--shape is {args.shape}; model {entry.id!r} needs {dimension} positive numbers.")
    from .models.onnx_export import export_onnx

    export_onnx(entry, weights, args.file, None if args.shape is None else tuple(args.shape))
    print(f"{entry.id} {entry.version} as ONNX: {args.file}")
    return OK


def _models_verify(args: argparse.Namespace) -> int:
    from .models import catalog, zoo

    names = [args.model] if args.model else [e.id for e in catalog.entries()]
    code = OK
    for name in names:
        entry, weights = _entry(name)
        try:
            zoo.read_verified(entry, weights)
        except BreastUSAIError as error:
            _error(str(error))
            code = FAILED
        else:
            print(f"{entry.id} {entry.version}: the checksum is right ({entry.sha256}).")
    return code


# ---------------------------------------------------------------------------------------------------------- common


def _error(sentence: str) -> None:
    # Errors come after what was printed before, also where both streams are one file.
    sys.stdout.flush()
    print(f"error: {on_terminal(sentence, lines=True)}", file=sys.stderr, flush=True)


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, and SIGHUP where the terminal or the connection is lost, end the work as Ctrl-C does: temporary files are removed, what is
    finished is kept. Under nohup, which ignores SIGHUP, the work goes on."""
    signals = [signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # Windows has none
        signals.append(signal.SIGHUP)

    def interrupt(number, frame) -> None:
        if number != signal.SIGTERM:  # the shell and the system both send it: the second must not end what the first began
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {}
    try:
        # A handler that was not installed from Python (None) could not be put back afterwards.
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.signal(number, interrupt) for number in signals if signal.getsignal(number) is not None}
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is interrupt:  # what came once and may come again stays ignored
                signal.signal(number, handler)


if __name__ == "__main__":
    raise SystemExit(main())
