"""Records: invariants, JSON that follows its published schema and reads back the same."""

import json
import math
from dataclasses import FrozenInstanceError, replace

import jsonschema
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from BreastUSAILib.errors import DataError, in_words
from BreastUSAILib.findings import BIRADS_CATEGORIES, Box, Finding, ImageInfo, Study, study_schema
from BreastUSAILib.measurements import measure_2d
from BreastUSAILib.report import report_html
from BreastUSAILib.review import REJECTED, Review, carried_over, with_edits, with_reviews

number = st.floats(-1e6, 1e6)
probability = st.floats(0, 1)
vector = st.tuples(number, number, number)
boxes = st.builds(Box, vector, st.tuples(*[st.floats(0, 1e4)] * 3))
names = st.text("abcdefghijk_", min_size=1, max_size=8)


@st.composite
def studies(draw):
    count = draw(st.integers(0, 4))
    findings = [
        Finding(
            id=f"L{i + 1}",
            box=draw(boxes),
            score=draw(probability),
            malignancy=draw(st.none() | probability),
            birads=draw(st.none() | st.fixed_dictionaries({c: probability for c in BIRADS_CATEGORIES})),
            solid_nodule=draw(st.none() | probability),
            label=draw(st.none() | st.just(i + 1)),
            measurements=draw(st.dictionaries(names, st.none() | number, max_size=3)),
            evidence=draw(st.dictionaries(names, number, max_size=2)),
            models={"segment": "roi-cnn-compact"},
            notes=tuple(draw(st.lists(st.text(max_size=20), max_size=2))),
        )
        for i in range(count)
    ]
    info = ImageInfo(draw(st.text(min_size=1, max_size=30)), (4, 5), (0.1, 0.2), (1.0, 2.0), (1, 0, 0, 1), draw(st.booleans()))
    return Study(info, tuple(findings), provenance={"seconds": {"segment": 0.5}, "notes": ["a note"]})


@given(studies())
def test_json_follows_the_schema_and_reads_back_the_same(study):
    text = study.to_json()
    jsonschema.validate(json.loads(text), study_schema(), cls=jsonschema.Draft202012Validator)
    assert Study.from_json(text) == study


def test_schema_is_itself_valid():
    jsonschema.Draft202012Validator.check_schema(study_schema())


def test_schema_refuses_a_probability_above_one():
    data = Study(ImageInfo("a", (1, 1), (1, 1), (0, 0), (1, 0, 0, 1)), (Finding("L1", Box((0, 0, 0), (1, 1, 0)), 0.5),)).to_dict()
    data["findings"][0]["malignancy"] = 1.5
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, study_schema())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is not JSON"),
        ("[]", "has the schema None"),
        ('{"schema": "breastusai/study/9"}', "this version of BreastUSAI reads"),
        ('{"schema": "breastusai/study/1.0", "findings": [{}], "image": {}, "provenance": {}}', "does not follow the schema"),
    ],
)
def test_unreadable_json_names_the_file(text, sentence):
    with pytest.raises(DataError, match=sentence) as error:
        Study.from_json(text, source="somewhere/study.json")
    assert "somewhere/study.json" in str(error.value)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf])
def test_probabilities_must_be_probabilities(value):
    with pytest.raises(DataError, match="between 0 and 1"):
        Finding("L1", Box((0, 0, 0), (1, 1, 1)), value)


def test_bad_boxes_categories_and_ids_are_refused():
    box = Box((0, 0, 0), (1, 1, 1))
    with pytest.raises(DataError, match="not be negative"):
        Box((0, 0, 0), (1, -1, 1))
    with pytest.raises(DataError, match="finite"):
        Box((0, 0, math.nan), (1, 1, 1))
    with pytest.raises(DataError, match="3 are needed"):
        Box((0, 0), (1, 1, 1))
    with pytest.raises(DataError, match="not among"):
        Finding("L1", box, 0.5, birads={"6": 0.5})
    info = ImageInfo("a", (1, 1), (1, 1), (0, 0), (1, 0, 0, 1))
    with pytest.raises(DataError, match="not unique"):
        Study(info, (Finding("L1", box, 0.5), Finding("L1", box, 0.4)))
    with pytest.raises(DataError, match="2 or 3 are needed"):
        ImageInfo("a", (1,), (1,), (0,), (1,))


def test_records_do_not_change_in_place():
    with pytest.raises(FrozenInstanceError):
        Finding("L1", Box((0, 0, 0), (1, 1, 1)), 0.5).score = 0.7


def test_a_review_is_not_carried_to_a_neighbour():
    """The boxes of both overlap by half; only one lesion is found again, and it is the one of which nothing was said."""
    info = ImageInfo("v", (100, 100, 100), (1,) * 3, (0,) * 3, (1, 0, 0, 0, 1, 0, 0, 0, 1))
    first, second = (Finding(f"L{i + 1}", Box((30 + 6 * i, 30, 30), (20, 20, 20)), 0.9) for i in range(2))
    said = {"L1": Review(REJECTED, "artefact")}
    again = Finding("L1", second.box, 0.9)
    assert carried_over(Study(info, (first, second)), said, Study(info, (again,))) == {}
    assert carried_over(Study(info, (first,)), said, Study(info, (again,))) == said
    both = Study(info, (again, Finding("L2", first.box, 0.8)))
    assert carried_over(Study(info, (first, second)), said, both) == {"L2": said["L1"]}


def test_an_outline_that_was_edited_is_measured_where_the_models_looked():
    """On a scanner's screen: depth counts from the picture's upper edge, after an edit as before."""
    screen = np.zeros((60, 80), np.uint8)
    screen[20:50, 10:70] = np.random.default_rng(0).integers(60, 140, (30, 60))
    image = sitk.GetImageFromArray(screen)
    shape = np.zeros((60, 80), np.uint8)
    shape[30:40, 30:50] = 1
    mask = sitk.GetImageFromArray(shape)
    info = ImageInfo.of(image, "s.png", False)
    found = Finding("L1", Box((0, 0, 0), (1, 1, 0)), 0.9, mask=mask, label=1)
    made = Study(info, (found,), provenance={"ultrasound_area": [10, 20, 60, 30]})
    (edited,) = with_edits(made, made, image, {"L1": "another"}).findings
    assert edited.measurements == measure_2d(mask, image, False, (10, 20, 60, 30)) and edited.measurements["depth_px"] == 10


def test_an_edited_outline_takes_its_measured_word_along():
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(60, 140, (60, 80)).astype(np.uint8))
    shape = np.zeros((60, 80), np.uint8)
    shape[10:50, 30:40] = 1
    mask = sitk.GetImageFromArray(shape)
    notes = ("Predicted descriptors: oval shape (80 %).", "Measured from the outline: parallel orientation.")
    found = Finding("L1", Box((0, 0, 0), (1, 1, 0)), 0.9, mask=mask, label=1, notes=notes)
    made = Study(ImageInfo.of(image, "s.png", False), (found,))
    (edited,) = with_edits(made, made, image, {"L1": "another"}).findings
    assert edited.notes[:2] == (notes[0], "Measured from the outline: not parallel orientation.") and len(edited.notes) == 3
    for gone in (replace(found, mask=mask * 0), replace(found, mask=None)):
        (left,) = with_edits(made, replace(made, findings=(gone,)), image, {"L1": "another"}).findings
        assert left.notes[0] == notes[0] and "Measured" not in " ".join(left.notes)


def test_a_report_whose_findings_were_all_rejected_says_so():
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(60, 140, (60, 80)).astype(np.uint8))
    found = tuple(Finding(f"L{n}", Box((9.0 * n, 20, 0), (8, 8, 0)), 0.9) for n in (1, 2))
    study = Study(ImageInfo.of(image, "s.png", False), found)
    one = with_reviews(study, {"L1": Review(REJECTED, "artefact.")})
    assert one.summary == "1 lesion found." and one.rejected == 1
    assert one.provenance["notes"] == ["L1 (score 0.90) was rejected by the reader: artefact"]  # reports end it
    none = with_reviews(study, {"L1": Review(REJECTED), "L2": Review(REJECTED)})
    assert none.summary == "No lesion left: the reader rejected all 2 that were found."
    page = report_html(none, image)
    assert "rejected all 2 regions" in page and "outlined no region" not in page
    assert "outlined no region" in report_html(replace(study, findings=()), image)


@pytest.mark.parametrize(
    "raised, says",
    [
        (KeyError("data_sets"), "it lacks 'data_sets'"),
        (FileNotFoundError(2, "No such file or directory"), "No such file or directory"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "it is no text in UTF-8"),
        (ValueError("3 rows"), "3 rows"),
        (TypeError(), "TypeError"),
    ],
)
def test_errors_of_python_are_told_in_words(raised, says):
    assert in_words(raised) == says


def test_nothing_found_has_its_own_words():
    study = Study(ImageInfo("a", (1, 1), (1, 1), (0, 0), (1, 0, 0, 1)))
    assert study.summary == "No lesion found."
    assert study.label_image() is None
    assert json.loads(study.to_json())["findings"] == []


def _mask(rows, columns):
    array = np.zeros((8, 9), np.uint8)
    array[rows, columns] = 1
    mask = sitk.GetImageFromArray(array)
    mask.SetSpacing((0.1, 0.3))
    mask.SetOrigin((5, -7))
    return mask


def test_label_image_and_masks_round_trip_and_the_better_finding_wins_an_overlap():
    box = Box((0, 0, 0), (1, 1, 0))
    first = Finding("L1", box, 0.9, mask=_mask(slice(1, 4), slice(1, 4)), label=1)
    second = Finding("L2", box, 0.6, mask=_mask(slice(3, 6), slice(3, 6)), label=2)
    study = Study(ImageInfo.of(first.mask, "a"), (first, second))
    labels = study.label_image()
    array = sitk.GetArrayFromImage(labels)
    assert array[3, 3] == 1 and array[5, 5] == 2 and array[0, 0] == 0
    assert (array > 0).sum() == 9 + 9 - 1
    assert labels.GetSpacing() == first.mask.GetSpacing() and labels.GetOrigin() == first.mask.GetOrigin()
    again = Study.from_json(study.to_json(), labels)
    assert np.array_equal(sitk.GetArrayFromImage(again.findings[0].mask), sitk.GetArrayFromImage(first.mask))
    assert sitk.GetArrayFromImage(again.findings[1].mask).sum() == 8
