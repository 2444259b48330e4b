"""What a study that goes on from another one's findings keeps of how these came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .breast_position import NIPPLE, with_positions
from .errors import UsageError
from .findings import Study

OPERATING_POINT = "operating_point"
"""In the provenance: from which score on findings were reported (`workup.run_detection`)."""
BY_USER = "chosen_by_user"
"""In an operating point of an earlier study: whether the user chose the threshold."""
_VERBS = {"segment-3d": "outlined", "grade": "graded"}
"""Task -> what a note says of findings in which it failed (`lesion_by_lesion.told_of_failures`)."""


def with_earlier(study: Study, earlier: Study) -> Study:
    """A study that keeps the findings of an earlier one, with the models that made these, and what else was said of them.

    Of the earlier record it has: models that a finding names (all but graders where there is no finding), notes (but those on failures of what was
    done anew, and on what a reader rejected, as a new finding may have its id), the operating point and, on the same grid, the nipple, from which
    positions in the breast are taken anew. What is no record of ours is left out.
    """
    now, before = study.provenance, earlier.provenance
    done = {str(model.get("task", "")) for model in now.get("models", ())}
    models = before.get("models")
    models = [m for m in models if isinstance(m, Mapping)] if isinstance(models, list | tuple) else []
    used = {(model.get("task"), model.get("id")) for model in now.get("models", ())}
    named = {model for finding in study.findings for model in finding.models.values()}

    def stays(model: Mapping[str, Any]) -> bool:
        task = str(model.get("task", ""))
        if (task, model.get("id")) in used:
            return False
        return model.get("id") in named or not (study.findings or task.startswith("grade-") or task in done)

    tasks = {"grade" if task.startswith("grade-") else task for task in done}
    failed = tuple(f" not {verb}: " for task, verb in _VERBS.items() if task in tasks)
    told = before.get("notes")
    told = [note for note in told if isinstance(note, str)] if isinstance(told, list | tuple) else []
    notes = [note for note in told if not any(words in note for words in (*failed, " was rejected by the reader"))]
    record = {
        **now,
        "models": [*filter(stays, models), *now.get("models", ())],
        "notes": list(dict.fromkeys((*notes, *now.get("notes", ())))),
    }
    point = before.get(OPERATING_POINT)
    if isinstance(point, Mapping) and OPERATING_POINT not in now:
        options = before.get("options")
        by_user = isinstance(options, Mapping) and options.get("threshold") is not None
        record[OPERATING_POINT] = {BY_USER: by_user, **point}
    study = replace(study, provenance=record)
    nipple = before.get(NIPPLE)
    same = replace(earlier.image, path="") == replace(study.image, path="")
    if not (same and isinstance(nipple, Mapping) and {"position", "laterality"} <= nipple.keys()):
        return study
    try:
        return with_positions(study, nipple["position"], nipple["laterality"])
    except UsageError:  # not one that could have been given
        return study
