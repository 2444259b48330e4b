"""The models that ship: ``catalog.json`` and the folder ``weights`` beside it."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import ModelError
from .entry import ModelEntry

FOLDER = Path(__file__).parent
CATALOG = FOLDER / "catalog.json"
WEIGHTS = FOLDER / "weights"
# Tasks that may be without a model here: what it is called, and the recipe that trains one.
_NOT_SHIPPED = {
    "detect": ("detection", "detect"),
    "lesion-classifier": ("lesion classification", "lesion-classifier"),
    "segment-3d": ("3D segmentation", "segment-3d"),
    "heatmap": ("heatmap", "heatmap"),
    "grade-gcnn": ("BI-RADS grading", "grade"),
    "grade-mtnet": ("malignancy grading", "grade"),
    "grade-snnet": ("solid nodule", "grade"),
}


def entries() -> list[ModelEntry]:
    """All models that ship, in the catalogue's order (the first of a task is its default)."""
    try:
        data = json.loads(CATALOG.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"The model catalogue {CATALOG} cannot be read ({error}); install BreastUSAI again.") from error
    return [ModelEntry.from_dict(item, str(CATALOG)) for item in data["models"]]


def entry(model_id: str) -> ModelEntry:
    """The model with this id. ModelError names the ones there are when it is unknown."""
    found = {e.id: e for e in entries()}
    if model_id not in found:
        raise ModelError(
            f"Model {model_id!r} is unknown; there are {', '.join(found)}, or give the folder of a model of your own."
        )
    return found[model_id]


def default_for(task: str) -> ModelEntry:
    """The first model of a task. ModelError when the catalogue has none."""
    for candidate in entries():
        if candidate.task == task:
            return candidate
    if task in _NOT_SHIPPED:
        raise ModelError(no_model(task))
    raise ModelError(f"The model catalogue {CATALOG} has no model for the task {task!r}; install BreastUSAI again.")


def ships(task: str) -> bool:
    """Whether the catalogue has a model for a task."""
    return any(candidate.task == task for candidate in entries())


def second_opinion(detector: str) -> bool:
    """Whether the lesion classifier that ships goes with a detection model, an id or a folder or "" for the one that ships: with one
    that ships. It was chosen and weighed with that; one's own may have learnt from patients, and is not to be overruled by it unasked."""
    return ships("lesion-classifier") and (not detector or any(e.id == detector for e in entries()))


def no_model(task: str, option: str = "") -> str:
    """What to tell a user where no model of a task is installed; `option` is how a command is given a folder."""
    name, recipe = _NOT_SHIPPED[task]
    folder = f"choose a model folder{f' ({option})' if option else ''}"
    return f"No {name} model is installed; train one with breastusai train {recipe}, or {folder}."
