"""What a study that goes on from another one's findings keeps of how these came about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .breast_position import NIPPLE, with_positions
from .findings import REVIEWS, Study

OPERATING_POINT = "operating_point"
"""In the provenance: from which score on findings were reported (`workup.run_detection`)."""
BY_USER = "chosen_by_user"
"""In an operating point of an earlier study: whether the user chose the threshold."""
_VERBS = {"segment-3d": "outlined", "grade": "graded"}
"""Task -> what a note says of findings in which it failed (`lesion_by_lesion.told_of_failures`)."""


def with_earlier(study: Study, earlier: Study) -> Study:
    """A study that keeps the findings of an earlier one, with the models that made these, and what else was said of them.

    Of the earlier record it has: models whose tasks were not done anew and that a finding names (all but graders where there is no finding), notes
    (but those on failures of what was done anew), the operating point, reviews and, on the same grid, the nipple, from which positions in the breast are
    taken anew.
    """
    now, before = study.provenance, earlier.provenance
    done = {str(model.get("task", "")) for model in now.get("models", ())}
    named = {model for finding in study.findings for model in finding.models.values()}

    def stays(model: dict[str, Any]) -> bool:
        task = str(model.get("task", ""))
        return task not in done and (model.get("id") in named or not (study.findings or task.startswith("grade-")))

    tasks = {"grade" if task.startswith("grade-") else task for task in done}
    failed = tuple(f" not {verb}: " for task, verb in _VERBS.items() if task in tasks)
    notes = [note for note in before.get("notes", ()) if not any(words in note for words in failed)]
    record = {
        **now,
        "models": [*filter(stays, before.get("models", ())), *now.get("models", ())],
        "notes": list(dict.fromkeys((*notes, *now.get("notes", ())))),
    }
    point = before.get(OPERATING_POINT)
    if point and OPERATING_POINT not in now:
        record[OPERATING_POINT] = {BY_USER: before.get("options", {}).get("threshold") is not None, **point}
    if REVIEWS in before:
        record[REVIEWS] = before[REVIEWS]
    study = replace(study, provenance=record)
    nipple = before.get(NIPPLE)
    same = replace(earlier.image, path="") == replace(study.image, path="")
    return with_positions(study, nipple["position"], nipple["laterality"]) if nipple and same else study
