"""What comes after the grading networks, chosen on the validation fold: ``breastusai train grade-pooling``.

For each output whose labels tell its answers apart the weights of the systems and one temperature by the likelihood of the labels (which is what both calibration and
ranking gain from, and which unlike the AUC has no steps); then the operating point, and how much disagreement is unusual.
The choice is recorded in the first model's config, with the ids of all models it holds for. Nothing here sees the test fold.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import write_text
from ..errors import DataError, UsageError
from ..evaluation.grade_answers import add_model_arguments, answers_on, models_of, options_of, outlines_for
from ..evaluation.grade_data import allowed, labels_of, tell_apart
from ..evaluation.grade_metrics import single_class, yes_no_figures
from ..evaluation.grade_outlines import FoundOutlines
from ..evaluation.segmentation_data import VALIDATION_FOLD, Case
from ..grade import GradeModels, GradeOptions
from ..grade_pooling import FEATURES, SYSTEMS, Answers, Pooling, told_categories
from ..grade_terms import ANSWERS
from ..models.folder import CONFIG

SENSITIVITY, CONFIDENCE = 0.95, 0.95
"""At the operating point: what the sensitivity on further images like those of the validation shall be at least, and how sure that is to
be. A point that merely has this sensitivity on a hundred malignant images has less on every second set of others."""
_STEP = 0.25
TOLD = (0.0, 0.25, 0.5, 0.75, 1.0)
"""What is tried: how much the category is told of malignancy; see `grade_pooling.told_categories`."""
_COSTS_NOTHING = 0.005  # of the mean logarithm of the labels' probability; a sixth of its standard error on 317 images
_UNLIKE = 0.99  # the share of validation images that count as like those of the training
_UNUSUAL = 0.95  # the share of validation images on which systems differ less than what counts as disagreement


def marginal_loss(pooled: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log of the probability of what labels (N, K) bool allow, over those that say something; probabilities (N, K)."""
    told = ~labels.all(1)
    return float(-np.log(np.clip((pooled * labels).sum(1)[told], 1e-9, 1)).mean()) if told.any() else float("nan")


def _weight_choices(systems: Sequence[str]) -> list[dict[str, float]]:
    """All weights in steps of a quarter that sum to 1."""
    steps = [i * _STEP for i in range(int(1 / _STEP) + 1)]
    rows = [row for row in product(steps, repeat=len(systems)) if abs(sum(row) - 1) < 1e-9]
    return [dict(zip(systems, row, strict=True)) for row in rows]


def _pooled(said: Sequence[Answers], output: str, weights: dict[str, float], temperature: float) -> np.ndarray:
    pooling = Pooling({output: weights}, {output: temperature})
    return np.stack([pooling.pooled(a, output) for a in said])


def best_temperature(
    said: Sequence[Answers], output: str, weights: dict[str, float], labels: np.ndarray
) -> tuple[float, float]:
    """The temperature with the least loss, 0.2 to 5, and that loss."""
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return marginal_loss(_pooled(said, output, weights, float(np.exp(log_temperature))), labels)

    found = minimize_scalar(loss, bounds=(np.log(0.2), np.log(5.0)), method="bounded", options={"xatol": 1e-2})
    return float(np.exp(found.x)), float(found.fun)


def misses_allowed(positives: int, sensitivity: float = SENSITIVITY, confidence: float = CONFIDENCE) -> int:
    """How many of so many positives may be missed for the sensitivity to be this at least, with this confidence: the most of which the
    one-sided bound of Clopper and Pearson (1934) still says so. 0 where there are too few positives to say anything (below 59 for 0.95).

    >>> [misses_allowed(n) for n in (20, 59, 104, 300)]
    [0, 0, 1, 8]
    """
    from scipy.stats import beta

    missed = 0
    while missed + 1 < positives and 1 - beta.ppf(confidence, missed + 2, positives - missed - 1) >= sensitivity:
        missed += 1
    return missed


def operating_point(
    probability: np.ndarray, truth: np.ndarray, sensitivity: float = SENSITIVITY, confidence: float = CONFIDENCE
) -> float:
    """The highest threshold that misses no more positives than `misses_allowed`; between it and the next value below.

    Raises DataError where there are no positives.
    """
    positives = np.sort(probability[truth])
    if not len(positives):
        raise DataError("the validation fold has no malignant lesion to choose the operating point by.")
    lowest = positives[misses_allowed(len(positives), sensitivity, confidence)]
    below = probability[probability < lowest]
    return float((lowest + below.max()) / 2) if len(below) else float(lowest)


def familiar_images(said: Sequence[Answers]) -> dict[str, Any] | None:
    """What these images look like to Mt-Net, or else to Sn-Net, as `grade_pooling.Familiar` has it; None where neither is there."""
    system = next((name for name in ("mtnet", "snnet") if FEATURES in said[0].get(name, {})), None)
    if system is None:
        return None
    features = np.stack([a[system][FEATURES] for a in said])
    mean, deviation = features.mean(0), np.maximum(features.std(0), 1e-3)
    distances = np.sqrt((((features - mean) / deviation) ** 2).mean(1))
    rounded = {"mean": np.round(mean, 5).tolist(), "deviation": np.round(deviation, 5).tolist()}
    return {"system": system, **rounded, "limit": float(np.quantile(distances, _UNLIKE))}


def told_weight(
    categories: np.ndarray, malignancy: np.ndarray, labels: np.ndarray, prevalence: float
) -> tuple[float, dict[str, float]]:
    """How much the categories are told of malignancy: as much as costs their labels nothing, so that a report contradicts itself the least.

    Parameters
    ----------
    categories, labels : (N, K), the pooled probabilities, and bool, what the labels allow.
    malignancy : (N,), pooled.

    Returns
    -------
    float, and the loss with each weight that was tried.
    """
    losses = {w: marginal_loss(told_categories(categories, malignancy, w, prevalence), labels) for w in TOLD}
    enough = min(losses.values()) + _COSTS_NOTHING
    return max(w for w, loss in losses.items() if loss <= enough), {str(w): loss for w, loss in losses.items()}


def _check_both_kinds(cases: Sequence[Case]) -> None:
    """DataError where there are no benign or no malignant lesions to calibrate malignancy by."""
    labels = {case.label for case in cases}
    missing = [kind for kind in ANSWERS["malignancy"] if kind not in labels]
    if missing:
        raise DataError(
            f"the validation fold has no {' and no '.join(missing)} lesion, without which malignancy cannot be calibrated; give another --validation-fold, or "
            "--data that have both."
        )


def choose(
    said: Sequence[Answers], cases: Sequence[Case], sensitivity: float = SENSITIVITY
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pooling for these answers on the validation images, as a model's `postprocessing` has it, and what was tried.

    Outputs whose labels only ever say one thing are left as they are: the likeliest temperature would be the one that makes the networks
    say it always. Raises DataError where that is malignancy.
    """
    uncalibrated: list[str] = []
    weights: dict[str, dict[str, float]] = {}
    temperatures: dict[str, float] = {}
    tried: dict[str, Any] = {}
    for output in ANSWERS:
        systems = [name for name in SYSTEMS if output in said[0].get(name, {})]
        if not systems:
            continue
        count = min(len(said[0][name][output]) for name in systems)
        labels = labels_of(cases, output, count)
        if output == "malignancy":
            _check_both_kinds(cases)
        elif not tell_apart(labels):
            uncalibrated.append(output)
            continue
        rows = []
        for choice in _weight_choices(systems):
            temperature, loss = best_temperature(said, output, choice, labels)
            rows.append((loss, choice, temperature))
        # Of choices that are as good the one that leans the least on one system: it owes the least to these images.
        enough = min(r[0] for r in rows) + _COSTS_NOTHING
        good = [r for r in rows if r[0] <= enough]
        loss, weights[output], temperatures[output] = min(good, key=lambda r: (sum(w * w for w in r[1].values()), r[0]))
        tried[output] = [
            {"loss": r[0], "weights": r[1], "temperature": r[2]} for r in sorted(rows, key=lambda r: r[0])[:5]
        ]
    pooling = Pooling(weights, temperatures)
    labels = np.array([allowed(case, "malignancy") for case in cases], bool)
    known = single_class(labels)
    threshold, disagreement = 0.5, None
    if any("malignancy" in a for a in said[0].values()):
        chances = np.array([pooling.pooled(a, "malignancy")[1] for a in said])
        truth = labels[:, 1]
        threshold = operating_point(chances[known], truth[known], sensitivity)
        tried["malignancy_at_operating_point"] = yes_no_figures(chances[known], truth[known], threshold)
        each = [[p[1] for p in pooling.of_each(a, "malignancy").values()] for a in said]
        if len(each[0]) > 1:
            disagreement = float(np.quantile([max(e) - min(e) for e in each], _UNUSUAL))
    chosen = {"weights": weights, "temperatures": temperatures, "threshold": threshold, "disagreement": disagreement}
    if {"malignancy", "birads"} <= weights.keys():
        categories = np.stack([pooling.pooled(a, "birads") for a in said])
        kinds = labels_of(cases, "birads", categories.shape[1])
        chosen["prevalence"] = float(np.clip(truth[known].mean(), 0.01, 0.99))
        chosen["told"], tried["told"] = told_weight(categories, chances, kinds, chosen["prevalence"])
    if uncalibrated:
        chosen["uncalibrated"] = uncalibrated
    chosen["familiar"] = familiar_images(said)
    return chosen, tried


def choose_and_record(
    cases: Sequence[Case],
    models: GradeModels,
    folder: Path,
    found: FoundOutlines | None,
    options: GradeOptions = GradeOptions(),
    which: str = "refined",
    sensitivity: float = SENSITIVITY,
) -> dict[str, Any]:
    """Choose on `cases` and write the choice into the config of the model in `folder`, and what was tried beside it."""
    from tqdm import tqdm

    if any("malignancy" in model.entry.arguments["outputs"] for model in models.present.values()):
        _check_both_kinds(cases)  # before the networks look at every image
    with tqdm(total=len(cases), unit="image") as bar:
        said, _ = answers_on(cases, models, options, which, found, lambda n: bar.update(n - bar.n))
    chosen, tried = choose(said, cases, sensitivity)
    chosen |= {"models": models.names, "sha256": models.sha256}
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config["postprocessing"] = {**config["postprocessing"], "pooling": chosen}
    write_text(folder / "pooling.json", json.dumps(tried, indent=2) + "\n")
    write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    return chosen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", nargs="+", required=True, type=Path, metavar="DIR", help="folders with images/, masks/, labels.csv"
    )
    add_model_arguments(parser, "one or more of the three are needed, one of them a folder")
    parser.add_argument(
        "--sensitivity",
        type=float,
        default=SENSITIVITY,
        help=f"at the operating point, on further images like these, at least and with a confidence of {CONFIDENCE} (default: {SENSITIVITY})",
    )
    parser.add_argument("--validation-fold", type=int, default=VALIDATION_FOLD, metavar="FOLD")


def main(args: argparse.Namespace) -> int:
    from .grade import cases_of

    if not 0 < args.sensitivity <= 1:
        raise UsageError("--sensitivity must lie between 0 and 1.")
    models = models_of(args)
    folders = [Path(name) for s in SYSTEMS if (name := getattr(args, s))]
    folder = next((f for f in folders if (f / CONFIG).is_file()), None)
    if folder is None:
        raise UsageError("The choice is written into a model's folder; give one of the models as a folder.")
    for system, model in models.present.items():
        taught = model.entry.recipe.get("train_folds", ())
        if args.validation_fold in taught:
            raise UsageError(
                f"fold {args.validation_fold} taught the model of --{system}, which would be calibrated on what it knows by heart; give a --validation-fold "
                f"other than {', '.join(map(str, taught))}."
            )
    found = outlines_for((args.outline,), args.segmentation, args.outline_cache, args.device)
    cases = cases_of(args.data, (args.validation_fold,))
    chosen = choose_and_record(cases, models, folder, found, options_of(args), args.outline, args.sensitivity)
    print(json.dumps({name: value for name, value in chosen.items() if name != "familiar"}, indent=2))
    if chosen.get("uncalibrated"):
        print(f"Left uncalibrated, as the validation fold's labels do not tell their answers apart: {', '.join(chosen['uncalibrated'])}.")
    print(f"Written to {folder / CONFIG}.")
    return 0
