"""What is known of a labelled image, as the sets of answers that its labels allow (docs/grading.md has the mapping).

Every label is a set: BUS-BRA's category 4 allows 4A, 4B and 4C, an unknown one allows all. A marginalised likelihood
(`training.grade_losses`) learns from each set what it says, and nothing from one that allows everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import DataError
from ..grade_terms import ANSWERS, CATEGORIES, DESCRIPTORS, SUBTYPES
from .segmentation_data import Case

# Diagnoses and histologies are compared in lower case, by how they begin; BrEaST joins several by "&".
SOLID = (
    "adenocarcinoma",
    "complex sclerosing lesion",
    "cribriform carcinoma",
    "ductal carcinoma in situ",
    "encapsulated papillary carcinoma",
    "fibroadenoma",
    "hamartoma",
    "intraductal papilloma",
    "intramammary lymph node",
    "invasive",
    "lactating adenoma",
    "lipoma",
    "lobular carcinoma in situ",
    "lymph node",
    "lymphoma",
    "medullary carcinoma",
    "mucinous carcinoma",
    "papillary carcinoma",
    "papilloma",
    "pash",
    "phyllodes tumor",
    "phyllodes tumour",
    "pseudoangiomatous stromal hyperplasia",
    "solid papillary carcinoma",
    "tubular carcinoma",
)
NOT_SOLID = ("cyst", "simple cyst", "galactocele", "duct ectasia")
# The rest say nothing of it: fibrocystic changes, adenosis, hyperplasia, dysplasia, fat necrosis, mastitis, metaplasia ...

# A papilloma, papillomas, a papilloma with atypia; not papillomatosis, which is none.
_MASS = re.compile(rf"(?:{'|'.join(SOLID)})s?\b")

_BIRADS = {
    "2": ("2",),
    "3": ("3",),
    "4": ("4A", "4B", "4C"),
    "4a": ("4A",),
    "4b": ("4B",),
    "4c": ("4C",),
    "5": ("5",),
}
_WORDS = {  # BrEaST's words, where they differ from the lexicon's
    "echogenicity": {"complex cystic/solid": "complex cystic and solid"},
    "posterior": {"no": "none"},
    "calcifications": {"in a mass": "yes", "intraductal": "yes", "indefinable": "yes"},
}
_COLUMNS = {"posterior": "posterior_features"}
_UNKNOWN = ("", "not applicable", "not available")


def gradable(case: Case) -> bool:
    """Whether the image shows a lesion with an outline: grading is of lesions; "no lesion" is what segmentation says."""
    return case.label != "normal" and case.mask is not None


def _said(case: Case, column: str) -> str:
    """What labels.csv says in a column, without white space about it; "" where there is no such column."""
    return (case.row.get(column) or "").strip()


def _solid(case: Case) -> bool | None:
    if case.label == "malignant":
        return True
    told = (_said(case, name) for name in ("histology", "diagnosis"))
    said = next((words for words in told if words.lower() not in _UNKNOWN), "")
    terms = [term.strip().lower() for term in said.split("&")]
    if any(_MASS.match(term) for term in terms):
        return True
    if any(term in NOT_SOLID for term in terms):
        return False
    # Without pathology: what holds no echo is fluid.
    return False if _said(case, "echogenicity") == "anechoic" else None


def _descriptor(case: Case, name: str) -> str | None:
    """The class of a descriptor that labels.csv states, or None."""
    margin = _said(case, "margin")
    if name == "margin":
        return None if margin in _UNKNOWN else margin.partition(" - ")[0]
    if name in SUBTYPES:
        return None if margin in _UNKNOWN else ("yes" if name in margin.partition(" - ")[2].split("&") else "no")
    value = _said(case, _COLUMNS.get(name, name))
    return None if value in _UNKNOWN else _WORDS.get(name, {}).get(value, value)


def allowed(case: Case, output: str) -> tuple[bool, ...]:
    """Which classes of an output (`grade_terms.ANSWERS`) the image's labels allow; all where they say nothing.

    Raises DataError for a label that the mapping does not know.
    """
    classes = ANSWERS[output]
    everything = (True,) * len(classes)
    if output == "malignancy":
        return tuple(c == case.label for c in classes) if case.label in classes else everything
    if output == "solid":
        solid = _solid(case)
        return everything if solid is None else (not solid, solid)
    if output == "birads":
        said = _said(case, "birads").lower()
        if said in ("", "0", "1", "6", *_UNKNOWN):
            return everything
        if said not in _BIRADS:
            raise DataError(
                f"{case.image}: BI-RADS {said!r} is unknown; labels.csv may say {', '.join(_BIRADS)}, or nothing."
            )
        return tuple(c in _BIRADS[said] for c in CATEGORIES)
    if output not in DESCRIPTORS:
        raise KeyError(output)
    value = _descriptor(case, output)
    if value is None:
        return everything
    if value not in classes:
        raise DataError(
            f"{case.image}: {output} {value!r} is unknown; labels.csv may say {', '.join(classes)}, or nothing."
        )
    return tuple(c == value for c in classes)


def check_labels_known(cases: Iterable[Case]) -> None:
    """DataError for the first label of any output that the mapping does not know, see `allowed`: before the work, which would be lost."""
    for case in cases:
        for output in ANSWERS:
            allowed(case, output)


def labels_of(cases: Sequence[Case], output: str, count: int) -> np.ndarray:
    """What the cases' labels allow of the last `count` classes of an output, (N, count) bool; everything where they allow none of these."""
    labels = np.array([allowed(case, output)[-count:] for case in cases], bool).reshape(-1, count)
    labels[~labels.any(1)] = True
    return labels


def tell_apart(labels: np.ndarray) -> bool:
    """Whether two of these labels (N, K) bool exclude each other, as benign and malignant do: of labels that could all mean one and the same
    answer nothing is learnt but to give it always."""
    kinds = np.unique(labels, axis=0).astype(int)
    return bool((kinds @ kinds.T == 0).any())
