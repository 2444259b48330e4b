"""Two examinations of a breast: who is matched with whom, what grew how fast, and where a place is in another volume."""

import csv
import io
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from BreastUSAILib.acquisition import CurvedAcquisition
from BreastUSAILib.breast_position import with_positions
from BreastUSAILib.comparison import (
    COLUMNS,
    FOLLOWED,
    GONE,
    NEW,
    NOT_IMAGED,
    compare,
    comparison_csv,
    comparison_rows,
    days_between,
    place_in,
)
from BreastUSAILib.errors import UsageError
from BreastUSAILib.findings import Box, Finding, ImageInfo, Study

PLAIN = (1, 0, 0, 0, 1, 0, 0, 0, 1)
OBLIQUE = (0.36, 0.48, -0.8, -0.8, 0.60, 0.0, 0.48, 0.64, 0.60)
SIZES = {"major_diameter_mm": 12.0, "second_diameter_mm": 10.0, "third_diameter_mm": 8.0, "volume_ml": 0.5}


def info(name="v.nrrd", **about):
    about = {"size": (150, 50, 160), "spacing": (1, 1, 1), "origin": (-75, 0, -80), "direction": PLAIN, **about}
    return ImageInfo(name, **about)


def study(*centers, outlines=False, name="v.nrrd", nipple=None, side="R", **about):
    findings = []
    for number, center in enumerate(centers, 1):
        outlined = {"label": number, "measurements": SIZES} if outlines else {}
        findings.append(Finding(f"L{number}", Box(center, (8, 6, 10)), 0.9, 0.2, **outlined))
    made = Study(info(name, **about), tuple(findings), provenance={})
    return made if nipple is None else with_positions(made, nipple, side)


def ids(comparison, status):
    return [(p.earlier and p.earlier.id, p.later and p.later.id) for p in comparison.of(status)]


# ---------------------------------------------------------------------------------------------------------- matching


def test_each_finding_is_followed_or_new_or_gone_or_outside():
    earlier = study((10, 20, 0), (-40, 20, 40), (60, 20, -60))
    later = study((-38, 22, 41), (12, 20, 3), (0, 20, 60), size=(120, 50, 150))
    found = compare(earlier, later)
    assert ids(found, FOLLOWED) == [("L2", "L1"), ("L1", "L2")]  # in the later list's order
    assert found.pairs[0].distance_mm == pytest.approx(3) and found.pairs[1].distance_mm == pytest.approx(math.sqrt(13))
    assert ids(found, NEW) == [(None, "L3")] and ids(found, GONE) == []
    # x = 60 is outside the smaller later volume, which ends at -75 + 119.5 mm.
    assert ids(found, NOT_IMAGED) == [("L3", None)] and not found.pairs[-1].place.inside
    assert found.summary == "2 followed, 1 new, 0 gone, 1 outside one of the volumes."
    assert [p.name for p in found.pairs] == ["L2 -> L1", "L1 -> L2", "L3 (new)", "L3 (not imaged later)"]


def test_the_sum_of_the_distances_counts_not_the_nearest_first():
    """Two lesions in a row that both moved by 9 mm: the nearest neighbours are the wrong ones."""
    earlier, later = study((0, 20, 0), (10, 20, 0)), study((9, 20, 0), (19, 20, 0))
    assert ids(compare(earlier, later), FOLLOWED) == [("L1", "L1"), ("L2", "L2")]


def test_beyond_the_limit_nothing_is_followed():
    earlier, later = study((0, 20, 0)), study((15, 20, 0))
    assert ids(compare(earlier, later), FOLLOWED) == [("L1", "L1")]
    found = compare(earlier, later, limit_mm=15)
    assert ids(found, NEW) == [(None, "L1")] and ids(found, GONE) == [("L1", None)]


def test_nothing_found_is_an_ordinary_result():
    assert compare(study(), study()).pairs == ()
    assert compare(study(), study()).summary == "0 followed, 0 new, 0 gone."
    assert ids(compare(study(), study((0, 20, 0))), NEW) == [(None, "L1")]
    assert comparison_csv(compare(study(), study())) == ",".join(COLUMNS) + "\r\n"


positions = st.lists(st.tuples(*[st.integers(-30, 30)] * 3), max_size=4)


@settings(max_examples=60, deadline=None)
@given(positions, positions, st.integers(1, 60))
def test_the_matching_is_the_best_of_all_and_the_same_both_ways(before, after, limit):
    earlier, later = (
        study(*[(x, y + 35, z) for x, y, z in c], size=(300, 300, 300), origin=(-150,) * 3) for c in (before, after)
    )
    found = compare(earlier, later, limit_mm=limit)
    cost = sum(p.distance_mm - limit for p in found.of(FOLLOWED))
    assert all(p.distance_mm < limit for p in found.of(FOLLOWED))
    few, many = sorted((before, after), key=len)
    best = 0.0
    for chosen in itertools.permutations(many, len(few)):
        best = min(best, sum(min(0.0, math.dist(a, b) - limit) for a, b in zip(few, chosen, strict=True)))
    assert cost == pytest.approx(best, abs=1e-6)
    everyone = [f for p in found.pairs for f in (p.earlier, p.later) if f is not None]
    assert len(everyone) == len(before) + len(after) == len({id(f) for f in everyone})
    back = compare(later, earlier, limit_mm=limit)
    assert sum(p.distance_mm - limit for p in back.of(FOLLOWED)) == pytest.approx(cost, abs=1e-6)
    assert len(back.of(NEW)) == len(found.of(GONE))


def test_nipples_are_laid_over_each_other():
    earlier = study((10, 20, 0), nipple=(0, 0, 0))
    later = study((45, 24, 30), nipple=(35, 4, 30))
    found = compare(earlier, later)
    assert found.aligned and found.shift == (35, 4, 30)
    assert found.pairs[0].distance_mm == pytest.approx(0)
    assert not compare(earlier, study((45, 24, 30))).aligned
    assert ids(compare(earlier, study((45, 24, 30))), FOLLOWED) == []


# ------------------------------------------------------------------------------------------------------------ places


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-60, 60), min_size=3, max_size=3), st.booleans(), st.booleans())
def test_a_place_leads_there_and_back(point, bent, shifted):
    """Through oblique grids and curved sweeps; what is the same point of the body is the same place."""
    curve = CurvedAcquisition(440.0, (3.0, -2.0, 1.0)) if bent else None
    here, there = info(acquisition=curve), info(direction=OBLIQUE, origin=(5, 6, 7), spacing=(0.4, 0.5, 0.6))
    shift = (4.0, -3.0, 2.0) if shifted else (0.0, 0.0, 0.0)
    to = place_in(there, here, point, shift)
    back = place_in(here, there, to.point, [-v for v in shift])
    assert back.point == pytest.approx(tuple(point), abs=1e-6)
    body = np.array(point) if curve is None else curve.to_physical(point)
    assert to.point == pytest.approx(tuple(body + shift), abs=1e-9)
    lattice = np.array((5, 6, 7)) + np.reshape(OBLIQUE, (3, 3)) @ (np.array(to.index) * (0.4, 0.5, 0.6))
    assert lattice == pytest.approx(np.array(to.point), abs=1e-6)


def test_a_place_by_hand():
    target = info(size=(10, 10, 10), origin=(100, 0, 0), spacing=(2, 1, 1))
    place = place_in(target, info(), (104, 3, 9.5))
    assert place.index == pytest.approx((2, 3, 9.5)) and place.inside
    assert not place_in(target, info(), (104, 3, 9.6)).inside  # half a voxel behind the last one's middle
    assert not place_in(target, info(), (98.9, 3, 5)).inside


# ------------------------------------------------------------------------------------------------------------ growth


def grown(volume_factor, diameter_factor):
    """Two studies of one outlined lesion, the later of so many times its volume and diameters."""
    earlier = study((0, 20, 0), outlines=True)
    factors = {name: volume_factor if name == "volume_ml" else diameter_factor for name in SIZES}
    larger = {name: value * factors[name] for name, value in SIZES.items()}
    return earlier, replace(earlier, findings=(replace(earlier.findings[0], measurements=larger),))


def test_a_lesion_of_twice_the_volume_doubled_in_the_time_between():
    found = compare(*grown(2, 2 ** (1 / 3)), days=180)
    growth = found.growth(found.pairs[0])
    assert growth.outlined and growth.volumes_ml == (0.5, 1.0)
    assert growth.volume_change_percent == pytest.approx(100) and growth.doubling_days == pytest.approx(180)
    assert growth.diameter_change_percent == pytest.approx(25.992, abs=1e-3)
    # By hand: eight times the volume is three doublings; half of it is minus one; 0.5 to 0.75 ml in 100 days: 170.95 days.
    for factor, days, doubling in ((8, 90, 30), (0.5, 90, -90), (1.5, 100, 170.951)):
        found = compare(*grown(factor, 1), days=days)
        assert found.growth(found.pairs[0]).doubling_days == pytest.approx(doubling, abs=1e-3)


def test_without_dates_or_change_there_is_no_doubling_time():
    found = compare(*grown(2, 1.2))
    assert found.growth(found.pairs[0]).doubling_days is None
    for unchanged in (1, 1.003, 0.998):  # 0 %: a time of centuries would come from the rounding
        found = compare(*grown(unchanged, 1), days=100)
        assert found.growth(found.pairs[0]).doubling_days is None


def test_boxes_are_measured_where_one_of_the_two_has_no_outline():
    earlier, later = study((0, 20, 0), outlines=True), study((0, 20, 0))
    found = compare(earlier, later)
    growth = found.growth(found.pairs[0])
    assert not growth.outlined and growth.diameters_mm == ((10, 10), (8, 8), (6, 6))
    assert growth.volumes_ml[0] == growth.volumes_ml[1] == pytest.approx(math.pi / 6 * 0.48)
    flat = replace(later, findings=(replace(later.findings[0], box=Box((0, 20, 0), (8, 0, 10))),))
    found = compare(earlier, flat)
    assert found.growth(found.pairs[0]) is None  # a box without a volume did not shrink by 100 %


def test_the_table_has_a_row_a_pair():
    earlier, later = grown(2, 1.26)
    later = replace(later, findings=(*later.findings, Finding("L2", Box((50, 20, 0), (8, 6, 10)), 0.4)))
    found = compare(earlier, later, days=365)
    rows = list(csv.DictReader(io.StringIO(comparison_csv(found))))
    assert [r["status"] for r in rows] == ["followed", "new"]
    first, second = rows
    assert (first["earlier_finding"], first["later_finding"], first["distance_mm"], first["size_of"]) == (
        "L1",
        "L1",
        "0",
        "outline",
    )
    assert float(first["volume_change_percent"]) == 100 and float(first["doubling_days"]) == pytest.approx(365)
    assert (first["earlier_longest_mm"], first["later_longest_mm"], first["later_third_mm"]) == ("12", "15.12", "10.08")
    assert second["earlier_finding"] == second["doubling_days"] == second["volume_change_percent"] == ""
    assert (second["earlier_x_mm"], second["later_x_mm"], second["size_of"], second["later_longest_mm"]) == (
        "50",
        "50",
        "box",
        "10",
    )
    assert all(set(row) <= set(COLUMNS) for row in comparison_rows(found))


def test_positions_of_curved_sweeps_are_the_bodys():
    curve = CurvedAcquisition(400.0, (0.0, 0.0, 0.0))
    flat = study((360 * math.sin(0.1), 400 - 360 * math.cos(0.1), 0))
    bent = study((40, 40, 0), acquisition=curve)
    (pair,) = compare(bent, flat, limit_mm=1).pairs
    assert pair.status == FOLLOWED and pair.distance_mm == pytest.approx(0, abs=1e-9)
    (row,) = comparison_rows(compare(bent, flat))
    assert row["earlier_x_mm"] == pytest.approx(row["later_x_mm"])
    (alone,) = compare(study(acquisition=curve), flat).pairs
    assert alone.place.point == pytest.approx((40, 40, 0))  # on the other's grid, where its pictures are cut


def test_a_curved_transducers_grid_is_no_growth():
    """On it what lies deep is wider than in the body: volumes are told as there, and lengths of the boxes there."""
    curve = CurvedAcquisition(400.0, (0.0, 0.0, 0.0))
    place = (360 * math.sin(0.1), 400 - 360 * math.cos(0.1), 0)
    flat, bent = study(place, outlines=True), study((40, 40, 0), outlines=True, acquisition=curve)
    wide = replace(bent.findings[0], measurements={**SIZES, "volume_ml": 0.5 / 0.9}, box=Box((40, 40, 0), (8 / 0.9, 6, 10)))
    found = compare(flat, replace(bent, findings=(wide,)), days=100, limit_mm=1)
    growth = found.growth(found.pairs[0])
    assert growth.volumes_ml == pytest.approx((0.5, 0.5)) and growth.outlined and growth.sides
    assert growth.diameters_mm == (pytest.approx((10, 10)), pytest.approx((8, 8)), pytest.approx((6, 6)))
    (row,) = comparison_rows(found)
    assert row["size_of"] == "outline, sides of the box" and row["later_volume_ml"] == pytest.approx(0.5)
    plain = compare(flat, flat, days=100)
    assert not plain.growth(plain.pairs[0]).sides and comparison_rows(plain)[0]["size_of"] == "outline"


# ----------------------------------------------------------------------------------------------------------- refusals


def test_what_cannot_be_compared_is_refused_in_a_sentence():
    flat = Study(ImageInfo("a.png", (10, 10), (1, 1), (0, 0), (1, 0, 0, 1)))
    single = Study(info("one.nrrd", size=(10, 10, 1)))
    for one, other, says in (
        (flat, study(), "a.png is no volume"),
        (study(), single, "one.nrrd is no volume"),
        (study(), study(spacing_known=False), "what a voxel measures"),
        (study(laterality="R"), study(laterality="L"), "of the right breast"),
    ):
        with pytest.raises(UsageError, match=says):
            compare(one, other)
    compare(study(laterality="R"), study(laterality="B"))
    for limit in (0, -1, math.inf, math.nan):
        with pytest.raises(UsageError, match="limit"):
            compare(study(), study(), limit_mm=limit)
    with pytest.raises(UsageError, match="earlier one first"):
        compare(study(), study(), days=-1)


def test_the_breast_is_known_from_the_nipple_where_the_volume_does_not_say_it():
    """As in NRRD files, whose side a person stated with the nipple."""
    right, left = (study((10, 20, 0), nipple=(0, 0, 0), side=side) for side in "RL")
    for one, other in ((right, left), (right, study(laterality="L")), (study(laterality="R"), left)):
        with pytest.raises(UsageError, match="v.nrrd is of the right breast and v.nrrd of the left one"):
            compare(one, other)
    assert compare(left, left).pairs[0].status == FOLLOWED
    compare(left, study(laterality="B"))


def test_days_between_two_dates():
    from datetime import date

    assert days_between(date(2024, 2, 28), date(2024, 3, 1)) == 2
    assert days_between(None, date(2024, 3, 1)) is None
    with pytest.raises(UsageError, match="earlier one first"):
        days_between(date(2024, 3, 2), date(2024, 3, 1))


def test_two_volumes_of_one_day_are_compared_without_a_doubling_time():
    from datetime import date

    assert days_between(date(2024, 3, 1), date(2024, 3, 1)) == 0
    found = compare(*grown(2, 1), days=0)
    growth = found.growth(found.pairs[0])
    assert growth.doubling_days is None and growth.volume_change_percent == pytest.approx(100)


def test_volumes_in_two_views_are_compared_by_the_nipple_alone():
    """The volumes of each view begin at 0 for themselves."""
    one, other = (study(view=view) for view in ("AP", "LAT"))
    with pytest.raises(UsageError, match="in the view AP.*in the view LAT.*--earlier-nipple"):
        compare(one, other)
    assert compare(one, study()).notes == compare(one, one).notes == ()
    (note,) = compare(*(study(view=view, nipple=(1, 2, 3)) for view in ("AP", "LAT"))).notes
    assert "view AP" in note and "view LAT" in note
