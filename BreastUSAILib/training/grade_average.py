"""One network out of several runs of the same recipe: ``breastusai train grade-average MODEL MODEL ... --data DIR... --output DIR``.

Runs that start at the same weights and differ in their seed may end so near each other that the mean of their weights is a network too, no
larger or slower than one of them (Wortsman et al., Model soups, ICML 2022, arXiv:2203.05482; the uniform soup, section 3). Whether they do
shows at once: the parts and the mean are judged on the validation fold, and the figures of all are told and kept. A seed fixes the first
weights of the layers that ImageNet's do not fill, too: Mt-Net's runs had a mean in spite of it, G-CNN's had none (docs/grading.md).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import output_error
from ..errors import UsageError
from ..evaluation.segmentation_data import VALIDATION_FOLD, Case
from ..lesion_view import ViewRule
from ..models.folder import UNPUBLISHED
from .start import check_output, check_start

if TYPE_CHECKING:
    import torch

    from ..evaluation.grade_outlines import FoundOutlines
    from ..models.entry import ModelEntry

_ALIKE = ("task", "network", "arguments", "preprocessing", "trained_on")
_BATCH = 32
MEAN = "the mean"
_JUDGED = "malignancy_auc"  # which every grading network has


def check_parts(entries: Sequence[ModelEntry], names: Sequence[str]) -> None:
    """UsageError where models cannot be parts of one mean: fewer than two, one twice, no grading networks, or of different recipes."""
    if len(entries) < 2:
        raise UsageError("a mean needs two models at least; give the folders of runs that differ in their --seed.")
    first = entries[0]
    if not first.task.startswith("grade-"):
        raise UsageError(
            f"{names[0]} is for the task {first.task!r}; only grading models are averaged; give "
            "folders that `breastusai train grade` wrote."
        )
    for number, (entry, name) in enumerate(zip(entries, names, strict=True)):
        same = next((n for e, n in zip(entries[:number], names, strict=False) if e.sha256 == entry.sha256), None)
        if same is not None:
            raise UsageError(f"{name} has the weights of {same}; give runs that differ in their --seed.")
        differs = [key for key in _ALIKE if getattr(entry, key) != getattr(first, key)]
        recipes = [{k: v for k, v in e.recipe.items() if k != "seed"} for e in (first, entry)]
        differs += sorted(k for k in recipes[0].keys() | recipes[1].keys() if recipes[0].get(k) != recipes[1].get(k))
        if differs:
            raise UsageError(
                f"{name} and {names[0]} were not trained alike ({', '.join(dict.fromkeys(differs))}); a mean is of runs that differ in "
                "their --seed alone: leave it out, or train it anew with the same settings."
            )


def outline_of(entry: ModelEntry) -> str:
    """The outline that a grading model was judged about in training, of `evaluation.grade_outlines.OUTLINES`."""
    return ["refined", *entry.recipe.get("outlines", ())][-1]


def mean_weights(states: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The mean of networks' weights by name, batch-normalisation statistics too; counters are the last one's."""
    from .loop import WeightMean

    mean = WeightMean()
    for state in states:
        mean = mean.with_weights(state)
    return mean.mean


def average(
    models: Sequence[Path | str],
    cases: Sequence[Case],
    output: Path | str,
    *,
    found: FoundOutlines | None = None,
    device: str = "auto",
) -> dict[str, dict[str, float]]:
    """Average models' weights, judge parts and mean, and leave the mean as a model folder.

    Parameters
    ----------
    models : folders of runs that differ in their seed alone.
    cases : of the validation fold.
    found : finds the outlines, where the runs were judged on found ones.

    Returns
    -------
    The name of each part, as it was given, and `MEAN` -> figures (`evaluation.grade_metrics.validation_figures`), with one crop of each
    lesion (of whole images the crops of `training.grade_batches.Lesions`) and without maps.

    Raises
    ------
    ModelError : a folder that is no model's.
    UsageError : see `check_parts`; or `output` is the folder of a part.
    OutputError : `output` cannot be written.
    """
    from tqdm import tqdm

    from ..evaluation.grade_metrics import validation_figures
    from ..models.devices import choose_device
    from ..models.folder import save_model
    from ..models.zoo import network_of, read_state, resolve
    from .grade_batches import Lesions, takes_several
    from .grade_networks import answers_of

    names = [str(name) for name in models]
    entries, weights = zip(*(resolve(name, None) for name in names), strict=True)
    check_parts(entries, names)
    output = Path(output)
    if any(output.resolve() == file.parent.resolve() for file in weights):
        raise UsageError(f"--output {output} is a part of the mean, whose weights would be lost; choose another folder.")
    states = dict(zip(names, map(read_state, entries, weights), strict=True))
    states[MEAN] = mean_weights([*states.values()])
    first, chosen = entries[0], choose_device(device).name
    system = first.task.removeprefix("grade-")
    rule, outputs = ViewRule.of(first.preprocessing), first.arguments["outputs"]
    lesions = Lesions(
        cases,
        rule,
        outputs,
        (outline_of(first),),
        found,
        spare=1.0,
        touching=False,
        several=takes_several(system),
    )
    figures: dict[str, dict[str, float]] = {}
    # The mean comes last, and its network is what is saved.
    for name, state in tqdm(states.items(), unit="model", desc="validation"):
        network = network_of(first, state, name).to(chosen)
        said = answers_of({system: network}, lesions, _BATCH, chosen)
        figures[name] = validation_figures(said[system], lesions.allowed)
    seeds = [entry.recipe.get("seed") for entry in entries]
    parts = enumerate(zip(seeds, names, strict=True), start=1)
    # What is said of the parts, how they are pooled and made again among it, does not hold for the mean.
    config = first.to_dict() | {
        "version": UNPUBLISHED,
        "description": f"The mean of the weights of {len(names)} runs of one recipe.",
        "reproduce": "",
        "postprocessing": {},
        "recipe": {**first.recipe, "seed": seeds},
        "measured": {"validation": figures[MEAN]}
        | {f"validation, part {number} (seed {seed}) alone": figures[name] for number, (seed, name) in parts},
    }
    try:
        output.mkdir(parents=True, exist_ok=True)
        save_model(output, network, json.loads(json.dumps(config)))
    except OSError as error:
        raise output_error(output, error) from error
    return figures


def is_worse_than_all(figures: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether each part ranks the validation images better by malignancy than the mean does; see `average`."""
    mean = figures[MEAN].get(_JUDGED, 0.0)
    return all(row.get(_JUDGED, 0.0) > mean for name, row in figures.items() if name != MEAN)


def fold_of(entry: ModelEntry, asked: int | None) -> int:
    """The fold that parts and mean are judged on: what was asked for, else the recipe's own. UsageError where it taught them."""
    fold = asked if asked is not None else int(entry.recipe.get("validation_fold", VALIDATION_FOLD))
    if fold in entry.recipe.get("train_folds", ()):
        raise UsageError(f"fold {fold} taught these models and cannot judge them; give another one as --validation-fold.")
    return fold


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", metavar="MODEL", help="folders of runs that differ in their --seed alone")
    parser.add_argument(
        "--data", nargs="+", required=True, type=Path, metavar="DIR", help="folders with images/, masks/, labels.csv"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="where the model folder goes")
    parser.add_argument("--outline-cache", type=Path, metavar="DIR", help="keeps what the segmentation finds")
    parser.add_argument(
        "--segmentation", default="", metavar="ID|DIR", help="segmentation model; default: the one that ships"
    )
    parser.add_argument(
        "--validation-fold", type=int, metavar="FOLD", help="what parts and mean are judged on (default: the parts' own)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")


def main(args: argparse.Namespace) -> int:
    from ..evaluation.grade_answers import outlines_for
    from ..models.zoo import resolve
    from .grade import cases_of

    first = resolve(args.models[0], None)[0]
    check_start(args.segmentation, args.output, "--segmentation")
    check_output(args.output, first.task, True, "choose another --output")
    which, fold = outline_of(first), fold_of(first, args.validation_fold)
    found = outlines_for((which,), args.segmentation, args.outline_cache, args.device)
    cases = cases_of(args.data, (fold,))
    figures = average(args.models, cases, args.output, found=found, device=args.device)
    names = sorted({name for row in figures.values() for name in row})
    for model, row in figures.items():
        print(model, *(f"{name} {row[name]:.3f}" for name in names if name in row), sep="  ")
    if is_worse_than_all(figures):
        print("The mean ranks worse than each of its parts: these runs ended too far apart to have one. Take a part.")
    print(
        f"The mean is in {args.output}; choose how the systems are pooled with: breastusai train grade-pooling --help"
    )
    return 0
