"""What the reports and tables show of grades: bars, words, doubts, and the map over the image."""

import base64
import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_report import PROVENANCE, Page

from BreastUSAILib import report
from BreastUSAILib.files import findings_csv, read_study, write_study
from BreastUSAILib.findings import Finding, ImageInfo, Study
from BreastUSAILib.grade_report import colored, grade_card, other_notes
from BreastUSAILib.grade_terms import (
    ANSWERS,
    DESCRIPTORS,
    descriptors_of,
    evidence_key,
    is_of_grade,
    likeliest_words,
    orientation,
)
from BreastUSAILib.grid import index_box

SHARE = {"3": 0.1, "4A": 0.2, "4B": 0.3, "4C": 0.25, "5": 0.15}
EVIDENCE = {
    "malignancy_threshold": 0.3, "not_sure": 1.0, "grade_calibrated": 1.0, "malignancy_mtnet": 0.8, "birads_2": 0.05,
    "shape_irregular": 0.7, "shape_oval": 0.3, "margin_not_circumscribed": 0.9, "margin_circumscribed": 0.1,
    "spiculated_no": 0.2, "spiculated_yes": 0.8, "hottest": 0.4,
}  # fmt: skip
NOTES = (
    "Malignancy 0.63 is at or above the operating point 0.30.",
    "Predicted descriptors: irregular shape (70 %).",
    "Not sure: the systems disagree about <malignancy>.",
    "the refined outline was not used",
)


def graded(shape=(40, 60), spacing=(0.2, 0.2), section=None):
    """An image, or a volume of noise, with one graded finding that was outlined, and a map over its left half."""
    image = sitk.GetImageFromArray(np.random.default_rng(1).integers(60, 200, shape, dtype=np.uint8))
    image.SetSpacing(spacing)
    start, size = ((20, 10), (16, 12)) if section is None else ((20, 10, section - 2), (16, 12, 5))
    inside = np.zeros(shape, np.uint8)
    inside[tuple(slice(a, a + n) for a, n in zip(start[::-1], size[::-1], strict=True))] = 1
    seen = np.zeros(shape, np.uint8)
    seen[(*([] if section is None else [section]), slice(8, 24), slice(16, 28))] = 60
    mask, activation = sitk.GetImageFromArray(inside), sitk.GetImageFromArray(seen)
    for picture in (mask, activation):
        picture.CopyInformation(image)
    finding = Finding(
        "L1", index_box(image, start, size), 0.9, 0.63, SHARE, 0.9, mask, 1, {"height_to_width_ratio": 0.75}, EVIDENCE,
        {"segment": "roi", "grade-mtnet": "m"}, NOTES,
    )  # fmt: skip
    return image, Study(ImageInfo.of(image, "/in/a.nrrd"), (finding,), provenance=PROVENANCE, activation=activation)


def rgba(card):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(card["map"]["picture"]["over"]))))


def test_the_card_says_what_the_grade_says():
    image, study = graded()
    card = grade_card(study, image, study.findings[0], "1", None if image.GetDimension() == 3 else _view(image, study))
    assert (card["category"], card["malignancy"], card["threshold"], card["suspicious"]) == ("4B", "63.0", "30.0", True)
    assert [c["percent"] for c in card["categories"]] == ["10.0", "20.0", "30.0", "25.0", "15.0"]
    assert (
        card["solid"] == "90.0"
        and card["calibrated"]
        and card["doubts"] == ["the systems disagree about <malignancy>."]
    )
    assert [(d["name"], d["word"], d["by"]) for d in card["descriptors"]] == [
        ("Shape", "irregular", "predicted"),
        ("Margin", "not circumscribed", "predicted"),
        ("Margin, not circumscribed", "spiculated", "predicted"),
        ("Orientation", "parallel", "measured from the outline"),
    ]
    assert [f["name"] for f in card["figures"]][0] == "Operating point: malignant from"
    assert other_notes(study.findings[0]) == ["the refined outline was not used"]
    plain = replace(study.findings[0], models={"segment": "roi"})
    assert grade_card(study, image, plain, "1") is None and other_notes(plain) == list(NOTES)


def _view(image, study):
    from BreastUSAILib import pictures

    return pictures.view(image, study)


def test_the_map_lies_over_the_very_pixels_that_were_looked_at():
    image, study = graded()
    card = grade_card(study, image, study.findings[0], "1", _view(image, study))
    over = rgba(card)
    opaque = over[..., 3] > 0
    rows, columns = np.flatnonzero(opaque.any(1)), np.flatnonzero(opaque.any(0))
    # The picture begins 0.6 x 16 = 10 pixels to the left of the lesion and above it.
    assert (columns[0], columns[-1] + 1, rows[0], rows[-1] + 1) == (16 - 10, 28 - 10, 8, 24)
    assert len(np.unique(over[opaque], axis=0)) == 1
    assert (
        grade_card(replace(study, activation=None), image, study.findings[0], "1", _view(image, study))["map"] is None
    )


def test_the_map_of_a_slice_in_space_outlives_its_2d_image():
    """As Slicer keeps 2D images: volumes with one slice, whose 2D image is gone once its pixels were asked for."""
    image, study = graded()
    flat = replace(study, activation=sitk.JoinSeries(study.activation))
    card, seen = (grade_card(s, image, study.findings[0], "1", _view(image, study)) for s in (flat, study))
    assert card["map"]["where"] == "" and np.array_equal(rgba(card), rgba(seen))
    from BreastUSAILib import grade_report

    # A view of the pixels would point to memory that was given back: filled anew here, and sometimes gone.
    large = sitk.JoinSeries(sitk.Image(2000, 2000, sitk.sitkUInt8) + 7)
    looked = grade_report.slice_percent(large)
    others = [sitk.Image(2000, 2000, sitk.sitkUInt8) + 9 for _ in range(4)]
    assert int(looked.min()) == int(looked.max()) == 7 and len(others) == 4


def test_of_a_volume_the_slice_that_was_looked_at_is_shown():
    image, study = graded((14, 40, 60), (0.4, 0.4, 0.9), section=5)
    card = grade_card(study, image, study.findings[0], "1")
    assert card["map"]["where"] == "slice 6 of 14"
    assert int((rgba(card)[..., 3] > 0).sum()) == 16 * 12


def test_colours_rise_in_lightness_and_nothing_is_transparent():
    ramp = colored(np.arange(101, dtype=np.uint8)[None])[0].astype(int)
    assert ramp.shape == (101, 4) and ramp[0, 3] == 0 and ramp[-1, 3] == 153
    lightness = ramp[:, :3] @ (0.2126, 0.7152, 0.0722)
    assert np.all(np.diff(lightness) > 0) and np.all(np.diff(ramp[:, 3]) >= 1)


def test_the_pages_hold_the_card_and_escape_what_it_says():
    for image, study in (graded(), graded((14, 40, 60), (0.4, 0.4, 0.9), section=5)):
        text = report.report_html(study, image)
        page = Page(text)
        assert (
            "Where the networks looked" in page.text
            and text.count('class="grade"') == 1
            and "disagree about &lt;malignancy&gt;" in text
        )
        assert re.search(r'class="mark-at" style="left:30.0%"', text) and 'style="width:63.0%"' in text
        assert "not sure" in text and "calibrated on validation images" in text
        assert text.count("Predicted descriptors") == 0 and "the refined outline was not used" in text
        # What the card shows is not said again among the scores; other evidence is.
        assert "Shape irregular" not in text and "Hottest" in text
        assert "http://" not in text and "https://" not in text


def test_tables_say_it_in_words_and_figures():
    _, study = graded()
    (row,) = csv.DictReader(io.StringIO(findings_csv([study])))
    assert (row["birads_category"], row["birads_shape"], row["birads_margin_kinds"]) == (
        "4B",
        "irregular",
        "spiculated",
    )
    assert row["not_sure"] == "true" and float(row["evidence_malignancy_mtnet"]) == 0.8 and row["birads_halo"] == ""
    ungraded = replace(study, findings=(replace(study.findings[0], evidence={}, birads=None),))
    (row,) = csv.DictReader(io.StringIO(findings_csv([ungraded])))
    assert row["birads_category"] == row["not_sure"] == "" and "evidence_malignancy_mtnet" not in row


def test_the_map_is_written_and_read_with_the_study(tmp_path):
    for name, (_, study) in {"flat": graded(), "deep": graded((14, 40, 60), (0.4, 0.4, 0.9), section=5)}.items():
        write_study(study, tmp_path / name)
        back = read_study(tmp_path / name)
        assert np.array_equal(sitk.GetArrayFromImage(back.activation), sitk.GetArrayFromImage(study.activation))
        assert back.activation.GetSpacing() == study.activation.GetSpacing()
        write_study(replace(study, activation=None), tmp_path / name)
        assert not (tmp_path / name / "activation.nrrd").exists() and read_study(tmp_path / name).activation is None


@given(st.dictionaries(st.sampled_from(DESCRIPTORS), st.integers(0, 100), min_size=1))
def test_descriptors_come_back_from_evidence(chosen):
    given_ = {
        name: dict.fromkeys(ANSWERS[name], (100 - percent) / 100 / len(ANSWERS[name]))
        | {ANSWERS[name][0]: percent / 100}
        for name, percent in chosen.items()
    }
    evidence = {evidence_key(n, word): chance for n, chances in given_.items() for word, chance in chances.items()}
    assert descriptors_of({**evidence, "other": 0.3}) == given_
    assert all(is_of_grade(key) for key in evidence) and not is_of_grade("other")
    assert set(likeliest_words(given_)) <= {*DESCRIPTORS, "margin_kinds"}


@pytest.mark.parametrize(
    "measured, words",
    [({}, None), ({"height_to_width_ratio": 1.2}, "not parallel"), ({"parallel_to_skin": 1.0}, "parallel"),
     ({"parallel_to_skin": 0.0, "height_to_width_ratio": 0.5}, "not parallel"), ({"parallel_to_skin": None}, None),
     ({"height_to_width_ratio": 0.3 / (3 * 0.1)}, "not parallel"), ({"height_to_width_ratio": 199 / 200}, "parallel")],
)  # fmt: skip
def test_orientation_of_images_and_volumes(measured, words):
    assert orientation(measured) == words
