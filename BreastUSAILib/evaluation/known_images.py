"""Which of the images or volumes that a model is measured on it has learnt from, or was chosen by: their figures are too good."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from .segmentation_data import Case

if TYPE_CHECKING:
    from ..models.entry import ModelEntry
    from .volume_data import VolumeCase

# What training writes, and what the cards of the models that ship say.
_OWN = re.compile(r"\d+ images of (?P<names>.+?) \(folds (?P<folds>\d+(?:, \d+)*)\)")
_SHIPPED = re.compile(r"folds (?P<folds>\d+(?:, \d+)*) of (?P<names>[\w-]+(?:(?:, | and )[\w-]+)*)")

# What training on volumes writes (`volume_data.described`); folds are of the splits train and validation together. Cards of models that ship name no data set.
_VOLUMES = re.compile(r"(?:volumes|phantoms\)?) of (?P<names>[^;]+?) \((?P<part>split train|all but fold \d+ of \d+)")


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


def notes_on_known_volumes(models: Iterable[Mapping[str, str]], cases: Iterable[VolumeCase]) -> list[str]:
    """As `notes_on_known`, of the splits train and validation of volumes; no model learns from the split test.

    Parameters
    ----------
    models : the records of the models (`models.zoo.LoadedModel.provenance`).
    cases : what they are measured on; data sets are known by their folders' names.
    """
    asked = sorted({(case.source, case.split) for case in cases if case.split != "test"})
    notes = []
    for model in models:
        taught, judged = set(), set()
        for place, found in enumerate(_VOLUMES.finditer(model["trained_on"])):
            names = {_plain(name) for name in found["names"].split(", ")}
            for source, split in asked:
                if _plain(source) not in names:
                    continue
                if split == "train" or found["part"] != "split train":
                    taught.add((source, split))
                elif place == 0:
                    judged.add((source, split))
        for source, split in asked:
            if (source, split) in taught:
                notes.append(f"{model['id']} has learnt from the split {split} of {source}: these figures are of volumes that it knows, and too good.")
            elif (source, split) in judged:
                notes.append(f"{model['id']} was chosen by the split {split} of {source}: these figures are better than on other volumes.")
    return notes


def in_paragraphs(notes: Iterable[str]) -> str:
    """Notes for the end of a page in Markdown."""
    return "".join(f"\nNote: {note}\n" for note in notes)


def _words(folds: set[int]) -> str:
    return f"fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, sorted(folds)))}"
