"""Clock position and distance from the nipple, against positions worked out by hand."""

import json
import math

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from BreastUSAILib.acquisition import CurvedAcquisition
from BreastUSAILib.breast_position import breast_position, finding_position, position_of, with_positions
from BreastUSAILib.errors import UsageError
from BreastUSAILib.findings import Box, Finding, ImageInfo, Study, study_schema

# (towards the patient's left, towards the head), hour, quadrant of the right and of the left breast. The viewer faces the patient,
# whose left is on the viewer's right: 3 o'clock is outer in the left breast, inner in the right one.
CLOCK = [
    ((0, 40), 12, "upper outer", "upper outer"),
    ((20, 34.641), 1, "upper inner", "upper outer"),
    ((34.641, 20), 2, "upper inner", "upper outer"),
    ((40, 0), 3, "upper inner", "upper outer"),
    ((34.641, -20), 4, "lower inner", "lower outer"),
    ((20, -34.641), 5, "lower inner", "lower outer"),
    ((0, -40), 6, "lower outer", "lower outer"),
    ((-20, -34.641), 7, "lower outer", "lower inner"),
    ((-34.641, -20), 8, "lower outer", "lower inner"),
    ((-40, 0), 9, "upper outer", "upper inner"),
    ((-34.641, 20), 10, "upper outer", "upper inner"),
    ((-20, 34.641), 11, "upper outer", "upper inner"),
]


@pytest.mark.parametrize("offset, hour, right, left", CLOCK)
def test_every_hour_of_both_breasts(offset, hour, right, left):
    nipple = (-61.0, 12.0, 5.0)
    point = (nipple[0] + offset[0], 47.0, nipple[2] + offset[1])
    for side, quadrant in (("R", right), ("L", left)):
        place = breast_position(point, nipple, side)
        assert place.clock_h == pytest.approx(hour, abs=1e-4) and place.hour == hour
        assert place.distance_mm == pytest.approx(40, abs=1e-3)
        assert place.quadrant == quadrant


def test_sentences_of_a_report():
    # Upper outer right: 30 mm towards the patient's right, 30 mm up: half past ten, reported as 11 (halves go up), 42.4 mm.
    assert (
        str(breast_position((-30, 15, 30), (0, 0, 0), "R"))
        == "Right breast, 11 o’clock, 4 cm from the nipple (upper outer)"
    )
    assert (
        str(breast_position((24.9, 80, 0), (0, 0, 0), "L"))
        == "Left breast, 3 o’clock, 2 cm from the nipple (upper outer)"
    )
    assert (
        str(breast_position((25, 0, -1), (0, 0, 0), "L"))
        == "Left breast, 3 o’clock, 3 cm from the nipple (lower outer)"
    )
    # A quarter to twelve and a quarter past are 12.
    assert breast_position((-5, 0, 38), (0, 0, 0), "R").hour == breast_position((5, 0, 38), (0, 0, 0), "R").hour == 12


def test_behind_the_nipple_there_is_no_hour():
    exact = breast_position((3, 30, 4), (3, 0, 4), "R")
    assert (exact.clock_h, exact.distance_mm, exact.hour, exact.quadrant) == (None, 0.0, None, "central")
    near = breast_position((0, 30, 4.9), (0, 0, 0), "R")
    assert near.clock_h == 12 and near.hour is None and str(near) == "Right breast, behind the nipple"
    assert breast_position((0, 0, 5), (0, 0, 0), "R").hour == 12


@given(st.floats(-100, 100), st.floats(-100, 100), st.floats(-50, 50))
def test_the_clock_tells_the_way_back_to_the_finding(x, z, y):
    place = breast_position((x, y, z), (0, -3, 0), "L")
    if place.clock_h is None:
        assert math.hypot(x, z) < 1e-3
        return
    assert 0 < place.clock_h <= 12
    angle = math.radians(30 * place.clock_h)
    assert place.distance_mm * math.sin(angle) == pytest.approx(x, abs=1e-5)
    assert place.distance_mm * math.cos(angle) == pytest.approx(z, abs=1e-5)
    mirrored = breast_position((-x, y, z), (0, -3, 0), "R")  # the other breast is its mirror image
    assert mirrored.quadrant == place.quadrant and mirrored.distance_mm == place.distance_mm


def info(laterality="R", acquisition=None, known=True, size=(100, 50, 100)):
    axes = (1, 0, 0, 0, 1, 0, 0, 0, 1)
    return ImageInfo("v.nrrd", size, (1, 1, 1), (-50, 0, -50), axes, known, acquisition, laterality)


def study(*centers, **about):
    findings = (
        Finding(f"L{i}", Box(c, (8, 6, 8)), 0.9, measurements={"depth_mm": c[1]}) for i, c in enumerate(centers, 1)
    )
    return Study(info(**about), tuple(findings), provenance={"created": "2026-01-01"})


def test_a_study_keeps_positions_among_the_measurements_and_its_schema():
    given_ = study((-34.641, 20, 20), (0, 25, 0))
    found = with_positions(given_, (0, 0, 0))
    assert found.findings[0].measurements == pytest.approx(
        {"depth_mm": 20, "clock_position_h": 10, "nipple_distance_mm": 40}, abs=1e-3
    )
    assert found.findings[1].measurements == {"depth_mm": 25, "clock_position_h": None, "nipple_distance_mm": 0}
    assert "clock_position_h" not in given_.findings[0].measurements
    jsonschema.validate(found.to_dict(), study_schema())
    back = Study.from_json(found.to_json())
    assert str(position_of(back, back.findings[0])) == "Right breast, 10 o’clock, 4 cm from the nipple (upper outer)"
    assert str(position_of(back, back.findings[1])) == "Right breast, behind the nipple"
    assert position_of(given_, given_.findings[0]) is None
    assert json.loads(found.to_json())["provenance"]["nipple"] == {"position": [0, 0, 0], "laterality": "R"}


def test_a_curved_sweep_is_measured_in_the_body():
    curve = CurvedAcquisition(400.0, (0.0, 0.0, 0.0))
    # 40 mm to the side on the grid, 40 mm deep: nine tenths of the arc's angle of a tenth, (400 - 40) sin(0.1) mm.
    flat, bent = study((40, 40, 0), laterality="L"), study((40, 40, 0), laterality="L", acquisition=curve)
    assert finding_position(flat, flat.findings[0], (0, 0, 0)).distance_mm == pytest.approx(40)
    place = finding_position(bent, bent.findings[0], (0, 0, 0))
    assert place.distance_mm == pytest.approx(360 * math.sin(0.1)) and place.clock_h == 3
    # The nipple, too, is given on the grid.
    aside = finding_position(bent, bent.findings[0], (-40, 0, 0))
    assert aside.distance_mm == pytest.approx(360 * math.sin(0.1) + 400 * math.sin(0.1))


@pytest.mark.parametrize(
    "about, side, nipple, says",
    [
        ({"laterality": None}, "", (0, 0, 0), "does not say which breast"),
        ({"laterality": "B"}, "", (0, 0, 0), "does not say which breast"),
        ({"laterality": "R"}, "L", (0, 0, 0), "is of the right breast"),
        ({"laterality": None}, "left", (0, 0, 0), "give the laterality"),
        ({"known": False}, "R", (0, 0, 0), "in millimetres"),
        ({}, "R", (0, 0), "three finite numbers"),
        ({}, "R", (0, np.nan, 0), "three finite numbers"),
        ({}, "R", (0, 0, 400), "LPS millimetres"),
    ],
)
def test_what_cannot_be_said_is_refused_in_a_sentence(about, side, nipple, says):
    of = study((10, 20, 10), **about)
    with pytest.raises(UsageError, match=says):
        with_positions(of, nipple, side)
    with pytest.raises(UsageError, match=says):
        finding_position(of, of.findings[0], nipple, side)


def test_a_given_laterality_may_agree_or_add():
    for own in ("R", "B", None):
        assert (
            with_positions(study((10, 20, 10), laterality=own), (0, 0, 0), "R").provenance["nipple"]["laterality"]
            == "R"
        )


def test_the_report_says_it_in_words():
    from BreastUSAILib.report_parts import measurement_rows, physical_rows

    found = with_positions(study((-34.641, 20, 20)), (0, 0, 0))
    (row,) = physical_rows(found, found.findings[0])
    assert row["value"] == "Right breast, 10 o’clock, 4 cm from the nipple (upper outer)"
    shown = {r["name"]: (r["value"], r["unit"]) for r in measurement_rows(found.findings[0].measurements)}
    assert shown["Clock position about the nipple, from the front"] == ("10.00", "o’clock")
    assert shown["Distance from the nipple, along the breast"] == ("40.00", "mm")
    assert physical_rows(study((0, 20, 0)), study((0, 20, 0)).findings[0]) == []


def test_archives_get_the_standards_code_for_the_distance():
    from BreastUSAILib.dicom_out.codes import figures

    found = with_positions(study((-34.641, 20, 20), (0, 25, 0)), (0, 0, 0))
    coded = {str(code.value): (round(value, 3), str(unit.value)) for code, value, unit in figures(found, found.findings[0])}
    assert coded["121242"] == (40.0, "mm") and coded["CLOCK_POSITION"] == (10.0, "1")
    assert "CLOCK_POSITION" not in {code.value for code, *_ in figures(found, found.findings[1])}
