"""Which of the images that a model is measured on it has learnt from, or was chosen by: their figures are too good."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .segmentation_data import Case

if TYPE_CHECKING:
    from ..models.entry import ModelEntry

# What training writes, and what the cards of the models that ship say.
_OWN = re.compile(r"\d+ images of (?P<names>.+?) \(folds (?P<folds>\d+(?:, \d+)*)\)")
_SHIPPED = re.compile(r"folds (?P<folds>\d+(?:, \d+)*) of (?P<names>[\w-]+(?:(?:, | and )[\w-]+)*)")


def _taught(entry: ModelEntry) -> Iterator[tuple[set[str], set[int]]]:
    """Names of data sets and the folds of them that taught a model, or the one that it went on from."""
    for pattern in (_OWN, _SHIPPED):
        for found in pattern.finditer(entry.trained_on):
            yield {_plain(n) for n in re.split(", " if pattern is _OWN else ", | and ", found["names"])}, {int(f) for f in found["folds"].split(", ")}


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()


def notes_on_known(entries: Iterable[ModelEntry], cases: Iterable[Case]) -> list[str]:
    """Sentences on the images of `cases` that models learnt from, or that their post-processing was chosen by; none where there are none.

    Data sets are known by their folders' names, or by the name in the column ``source`` of labels.csv.
    """
    asked = {(case.source, case.row.get("source") or "", case.fold) for case in cases}
    notes = []
    for entry in entries:
        taught: dict[str, set[int]] = {}
        judged: dict[str, set[int]] = {}
        for place, (names, folds) in enumerate(_taught(entry)):
            for folder, source, fold in asked:
                if not names & {_plain(folder), _plain(source)}:
                    continue
                if fold in folds:
                    taught.setdefault(folder, set()).add(fold)
                elif place == 0 and fold == entry.recipe.get("validation_fold"):
                    judged.setdefault(folder, set()).add(fold)
        notes += [f"{entry.id} has learnt from {_words(folds)} of {name}: these figures are of images that it knows, and too good." for name, folds in sorted(taught.items())]
        notes += [
            f"{entry.id} was chosen by {_words(folds)} of {name}: these figures are better than on other images."
            for name, folds in sorted(judged.items())
            if not folds <= taught.get(name, set())
        ]
    return notes


def in_paragraphs(notes: Iterable[str]) -> str:
    """Notes for the end of a page in Markdown."""
    return "".join(f"\nNote: {note}\n" for note in notes)


def _words(folds: set[int]) -> str:
    return f"fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, sorted(folds)))}"
