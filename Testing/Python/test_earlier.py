"""What a study that goes on from another one's findings keeps of how these came about."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from BreastUSAILib.earlier import with_earlier
from BreastUSAILib.findings import Box, Finding, ImageInfo, Study
from BreastUSAILib.workup import _before_outlines, _or_as_they_were

INFO = ImageInfo("v", (30, 20, 10), (1.0,) * 3, (0.0,) * 3, (1.0, 0, 0, 0, 1, 0, 0, 0, 1))
DETECTOR, OLD, NEW = ({"id": name, "task": task, "version": "1"} for name, task in (("d", "detect"), ("old", "segment-3d"), ("new", "segment-3d")))


def finding(name, **more):
    return Finding(name, Box((9, 9, 5), (6, 6, 4)), 0.9, **more)


def mask(x):
    array = np.zeros((10, 20, 30), np.uint8)
    array[2:5, 5:9, x : x + 4] = 1
    return sitk.GetImageFromArray(array)


def test_models_that_findings_name_stay_and_what_was_rejected_does_not():
    earlier = Study(INFO, provenance={
        "models": [DETECTOR, OLD], "reviews": {"L1": {"verdict": "rejected", "note": ""}}, "operating_point": {"threshold": 0.5},
        "notes": ["thin", "L1 (score 0.80) was rejected by the reader", "1 finding was not outlined: L2 (no memory)"],
    })  # fmt: skip
    study = Study(INFO, (finding("L1", models={"detect": "d", "segment": "old"}),), provenance={"models": [NEW], "notes": ["thin"]})
    kept = with_earlier(study, earlier).provenance
    assert kept["models"] == [DETECTOR, OLD, NEW] and kept["notes"] == ["thin"] and "reviews" not in kept
    assert kept["operating_point"] == {"chosen_by_user": False, "threshold": 0.5}
    again = replace(study, findings=(finding("L1", models={"detect": "d", "segment": "new"}),))
    assert with_earlier(again, earlier).provenance["models"] == [DETECTOR, NEW]


@pytest.mark.parametrize("loose", [
    {"notes": None}, {"models": None}, {"notes": [3]}, {"notes": "abc"}, {"models": [3]}, {"nipple": {"position": [0, 0, 0]}}, {"operating_point": 3},
    {"options": None, "operating_point": {"threshold": 0.5}}, {"nipple": {"position": [999, 0, 0], "laterality": "R"}},
])  # fmt: skip
def test_a_record_of_another_program_does_no_harm(loose):
    study = Study(INFO, (finding("L1"),), provenance={"models": [NEW], "notes": ["thin"]})
    kept = with_earlier(study, Study(INFO, provenance=loose)).provenance
    assert kept["models"] == [NEW] and kept["notes"] == ["thin"]


def test_an_outline_that_stays_beside_new_ones_has_a_label_of_its_own():
    earlier = tuple(finding(f"L{n}", mask=mask(9 * n), label=n, models={"segment": "old"}, malignancy=0.7) for n in (1, 2))
    asked = _before_outlines(earlier)
    assert [f.models for f in asked] == [{}, {}] and asked[0].malignancy is None
    failed = replace(asked[0], notes=("not outlined: a bug",))
    new = replace(asked[1], mask=mask(3), label=1, models={"segment": "new"})
    first, second = _or_as_they_were((failed, new), asked, earlier)
    assert (first.label, second.label) == (1, 2) and first.malignancy == 0.7 and first.models == {"segment": "old"}
    assert first.notes == ("not outlined: a bug",) and _before_outlines((first,))[0].notes == ()
    (bare,) = _or_as_they_were((replace(failed, mask=None),), asked[:1], (replace(earlier[0], mask=None),))
    assert bare.label is None  # of a study.json without its masks
