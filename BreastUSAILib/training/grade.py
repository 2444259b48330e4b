"""The recipe of grading: ``breastusai train grade --system gcnn|mtnet|snnet|pair --data DIR... --output DIR``.

G-CNN (Huang et al. 2019), Mt-Net and Sn-Net (Qi et al. 2019). "pair" trains the latter two together (Algorithm 1): at each step each
gets, with probability p, the other's class activation map of the same images, and none otherwise, so that each also works alone. What
Mt-Net and Sn-Net say is learnt of the same images, so their steps are independent and can be made as one.

A lesion is cut out about the annotated outline and about the one that the segmentation finds, as at work it is the latter.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import output_error
from ..errors import DataError, UsageError
from ..evaluation.grade_data import gradable, labels_of, tell_apart
from ..evaluation.segmentation_data import VALIDATION_FOLD, Case, check_folds_filled, in_folds, read_data_sets
from ..lesion_view import ViewRule
from ..models.folder import WEIGHTS, is_there
from .command_line import add_image_arguments, check_folds, check_positive, folds_of
from .grade_networks import build_networks
from .grade_recipe import COMPACT, MAIN, NETWORKS, PAPER, GradeRecipe
from .grade_run import GradeRun, folders_of
from .start import alone_in, check_output, check_start

if TYPE_CHECKING:
    from ..evaluation.grade_outlines import FoundOutlines
    from .learner import Learner

TAKEN_OVER = "taken-over.json"
"""File of a run: what became of the weights that it was given (`grade_networks.build_networks`)."""


def _optimiser(recipe: GradeRecipe):
    """What `Learner` takes: a maker of the optimiser and the schedule, or None for its own."""
    import torch

    from .grade_batches import rate_steps

    if recipe.optimiser == "sgd":
        return (
            lambda parameters: torch.optim.SGD(
                parameters, lr=recipe.rate, momentum=0.9, weight_decay=recipe.weight_decay
            ),
            lambda progress: rate_steps(progress, recipe.epochs, recipe.rate),
        )
    if recipe.optimiser == "adadelta":
        return (
            lambda parameters: torch.optim.Adadelta(parameters, lr=recipe.rate, weight_decay=recipe.weight_decay),
            lambda progress: recipe.rate,
        )
    return None, None


def cases_of(data: Sequence[Path | str], folds: Sequence[int]) -> list[Case]:
    """The images with a lesion of these folds. DataError where there are none, or a fold has no image at all."""
    found = read_data_sets(data)
    cases = [case for case in in_folds(found, folds) if gradable(case)]
    if cases:
        check_folds_filled(found, folds, data)
    else:
        raise DataError(
            f"the folds {', '.join(map(str, folds))} of {', '.join(map(str, data))} hold no image with a lesion."
        )
    return cases


def _check_labels(training: Sequence[Case], validation: Sequence[Case], outputs: Mapping[str, Mapping[str, int]], tell: bool) -> None:
    """DataError where there is nothing to learn for a system: no two labels of the training exclude each other for its main answer, nor for malignancy,
    which data without categories and histology have. Where the validation's do not, or those for another answer, that is said (where to `tell`).

    outputs : system -> output -> number of classes.
    """
    poor: dict[str, list[str]] = {"training": [], "validation": []}
    for name, cases in (("training", training), ("validation", validation)):
        for system, counts in outputs.items():
            for output, count in counts.items():
                if tell_apart(labels_of(cases, output, count)):
                    continue
                other = output != "malignancy" and "malignancy" in counts and tell_apart(labels_of(cases, "malignancy", counts["malignancy"]))
                if name == "training" and output == MAIN[system] and not other:
                    raise DataError(
                        f"the labels of the training folds of {', '.join(sorted({c.source for c in cases}))} never tell two answers for {output!r} apart, which "
                        f"{system} is to learn; add images with other labels, or other --train-folds."
                    )
                if output not in poor[name]:
                    poor[name].append(output)
    for name, what in (("training", "is learnt"), ("validation", "is judged")):
        if poor[name] and tell:
            print(f"Note: the {name} folds' labels do not tell answers apart for {', '.join(poor[name])}: nothing {what} of it there.", flush=True)


def train(
    data: Sequence[Path | str],
    output: Path | str,
    recipe: GradeRecipe,
    *,
    found: FoundOutlines | None = None,
    start: Mapping[str, Path] | None = None,
    resume: bool = True,
    validate_every: int = 2,
    device: str = "auto",
) -> Path:
    """Train one system, or the pair, and leave model folders in `output` (for the pair `output`/mtnet and `output`/snnet).

    A run that was killed goes on at its last finished epoch when called again; one that is finished leaves the models anew that are gone.

    Parameters
    ----------
    found : finds the outlines that the recipe asks for beside the annotated ones.
    start : see `grade_networks.build_networks`.

    Raises
    ------
    DataError : a data folder's layout is wrong, two folders have one name or one of several is called "all", a fold that is needed is empty, one image both
        teaches and validates, the training's labels leave nothing to learn (`_check_labels`), the checkpoint is damaged, or a model is gone that had
        the best F-beta before the run's end.
    UsageError : unknown settings; a checkpoint of another recipe, other data, other outlines or another start, or the model of another task, in `output`; `start` is of
        the model that is left there; outlines without a model for them;
        the validation fold is one of the training's.
    OutputError : `output` cannot be written, or another run is writing to it.
    """
    import torch

    from ..models.devices import choose_device
    from .apart import check_images_apart
    from .fingerprint import fingerprint_of_cases
    from .grade_batches import Lesions, takes_several
    from .learner import LONGEST_GRADIENT, Learner, run_epochs
    from .parallel import team

    output, start = Path(output), start or {}
    if not set(recipe.outlines) & {"refined", "unrefined"}:
        found = None  # nothing is asked of it
    for system, folder in folders_of(recipe, output).items():
        check_output(folder, f"grade-{system}", resume)
        for file in map(Path, start.values()):
            if file.name == WEIGHTS:  # which the run would write over
                check_start(file.parent, folder, "--weights")
    if found is None and set(recipe.outlines) & {"refined", "unrefined"}:
        raise UsageError("outlines that are found need a segmentation model; give --segmentation, or --outlines true.")
    check_folds(recipe.train_folds, recipe.validation_fold)
    training, validation = cases_of(data, recipe.train_folds), cases_of(data, (recipe.validation_fold,))
    check_images_apart(training, validation)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(output, error) from error
    with team(choose_device(device).name) as group, alone_in(output, group.first):
        torch.manual_seed(recipe.seed)
        checkpoint = output / "checkpoint.pt"
        networks, arguments = build_networks(
            recipe,
            start,
            fresh=not (resume and checkpoint.is_file()),
            told=output / TAKEN_OVER if group.first else None,
        )
        networks = networks.to(group.device).to(memory_format=torch.channels_last)
        channels = next(iter(arguments.values()))["in_channels"]
        rule = ViewRule(recipe.size, recipe.view, recipe.margin, mask=channels > 1)
        _check_labels(training, validation, {system: values["outputs"] for system, values in arguments.items()}, group.first)
        outputs = {name: count for values in arguments.values() for name, count in values["outputs"].items()}
        optimiser, schedule = _optimiser(recipe)
        learner = Learner(
            networks,
            checkpoint,
            recipe,
            fingerprint_of_cases(training, outputs) + (f", about the outlines of {found.about}" if found is not None else ""),
            group,
            resume=resume,
            optimiser=optimiser,
            schedule=schedule,
            longest_gradient=LONGEST_GRADIENT if recipe.optimiser == "adamw" else None,
        )
        sources = ", ".join(sorted({case.source for case in training}))
        images = f"{len(training)} images of {sources} (folds {', '.join(map(str, recipe.train_folds))})"
        started = _started(learner, start)
        about = {system: images + started.get(system, "") for system in recipe.systems}
        # A run that is finished has only the models to leave anew that are gone: what was chosen for those that are there would be lost.
        gone = learner.first_epoch >= recipe.epochs and not all(map(is_there, folders_of(recipe, output).values()))
        if learner.first_epoch < recipe.epochs or gone:
            if found is not None and found.folder is not None:
                if group.first:
                    _prepare([*training, *validation], recipe.outlines, found)
                group.wait()
            several = takes_several(recipe.systems[0])
            lesions = Lesions(training, rule, outputs, recipe.outlines, found, several=several)
            judged = Lesions(
                validation, rule, outputs, recipe.outlines[-1:], found, spare=1.0, touching=False, several=several
            )
            run_epochs(
                GradeRun(recipe, learner, lesions, judged, arguments, output, group, about, found and found.about), output, validate_every
            )
    return output


def _started(learner: Learner, start: Mapping[str, Path]) -> dict[str, str]:
    """System -> which weights it went on from, as words. A run that goes on says what it began with, which its checkpoint knows.

    UsageError where it began with others than it is given now; they need not be there any more.
    """
    from ..models.folder import sha256

    def words(file: Path) -> str:
        return f"; went on from {file.name}, SHA-256 {sha256(file)[:12]}"

    if not learner.first_epoch:
        learner.notes["started"] = {system: words(Path(file)) for system, file in start.items()}
    before = learner.notes.get("started", {})
    given = {system: words(Path(file)) for system, file in start.items() if Path(file).is_file()}
    if before.keys() != start.keys() or any(before[system] != said for system, said in given.items()):
        raise UsageError(
            f"{learner.path} began with other --weights than are given now; give the same ones, choose another --output or give --restart."
        )
    return before


def _prepare(cases: Sequence[Case], outlines: Sequence[str], found: FoundOutlines) -> None:
    """Segment the images, with a bar: it is the longest wait before the first epoch."""
    from tqdm import tqdm

    from ..evaluation.grade_outlines import prepare

    with tqdm(total=len(cases), unit="image", desc="outlines") as bar:
        prepare(cases, outlines, found, lambda n: bar.update(n - bar.n))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--system",
        choices=(*NETWORKS, "pair"),
        required=True,
        help="which network; pair: Mt-Net and Sn-Net together, with each other's maps",
    )
    add_image_arguments(parser, GradeRecipe.seed, GradeRecipe.train_folds, VALIDATION_FOLD)
    parser.add_argument(
        "--outline-cache",
        type=Path,
        metavar="DIR",
        help="keeps what the segmentation finds, for all systems (default: OUTPUT/outlines)",
    )
    parser.add_argument(
        "--segmentation",
        default="",
        metavar="ID|DIR",
        help="segmentation model whose outlines are looked at; default: the one that ships",
    )
    parser.add_argument(
        "--outlines",
        nargs="+",
        choices=("true", "refined", "unrefined", "none"),
        help="about which outlines lesions are cut out",
    )
    parser.add_argument(
        "--one-stage",
        action="store_true",
        help="no stage before the network: it looks at whole images and never sees an outline (as --view image --outlines none)",
    )
    parser.add_argument(
        "--trunk", help="another trunk than the configuration's, e.g. vgg16 or resnet50 in G-CNN's place"
    )
    parser.add_argument(
        "--weights",
        nargs="*",
        default=[],
        metavar="SYSTEM=FILE",
        help="weights to start from: ImageNet's in the usual layouts, or a model's model.safetensors; what fits by name and shape is taken",
    )
    parser.add_argument("--view", choices=("lesion", "image"), help="the lesion's surroundings or the whole image")
    parser.add_argument("--size", type=int, help="side of the network's input in pixels")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--rate", type=float)


def recipe_of(args: argparse.Namespace) -> GradeRecipe:
    """The configuration's recipe with what the command line says otherwise. Raises `UsageError`."""
    recipe = (PAPER if args.configuration == "paper" else COMPACT)[args.system]
    names = ("trunk", "view", "size", "epochs", "batch", "rate")
    check_positive({f"--{name}": getattr(args, name) for name in ("size", "epochs", "batch", "rate")})
    changes = {name: value for name in names if (value := getattr(args, name)) is not None}
    if args.outlines:
        changes["outlines"] = tuple(args.outlines)
    if args.one_stage:
        if args.view == "lesion" or set(args.outlines or ("none",)) != {"none"}:
            raise UsageError("--one-stage looks at whole images without an outline; leave --view and --outlines out.")
        changes |= {"view": "image", "outlines": ("none",)}
    if args.from_scratch:
        changes["imagenet"] = False
    return replace(recipe, seed=args.seed, **folds_of(args), **changes)


def start_of(items: Sequence[str], systems: Sequence[str]) -> dict[str, Path]:
    """``SYSTEM=FILE`` as a dictionary. Raises `UsageError`."""
    start = {}
    for item in items:
        system, separator, file = item.partition("=")
        if not separator or system not in systems:
            raise UsageError(
                f"--weights {item!r} must read SYSTEM=FILE, with a system that is trained: {', '.join(systems)}."
            )
        start[system] = Path(file)
    return start


def main(args: argparse.Namespace) -> int:
    from ..evaluation.grade_answers import outlines_for

    recipe = recipe_of(args)
    for folder in folders_of(recipe, args.output).values():
        check_start(args.segmentation, folder, "--segmentation")  # before outlines are kept there
    found = outlines_for(
        recipe.outlines, args.segmentation, args.outline_cache or args.output / "outlines", args.device
    )
    folder = train(
        args.data,
        args.output,
        recipe,
        found=found,
        start=start_of(args.weights, recipe.systems),
        resume=not args.restart,
        device=args.device,
    )
    print(f"The model is in {folder}; choose how the systems are pooled with: breastusai train grade-pooling --help")
    return 0
