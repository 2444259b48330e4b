"""The protocol of the heatmap system: figures on cases whose answer is known, and on a model that has learnt balls."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from heatmap_cases import heat_model_folder

from BreastUSAILib.cli import main
from BreastUSAILib.errors import DataError
from BreastUSAILib.evaluation import detection_metrics as dm
from BreastUSAILib.evaluation import heatmap as protocol
from BreastUSAILib.evaluation.heatmap import spot_rows
from BreastUSAILib.evaluation.heatmap_metrics import Pointing, point_hits, pointing
from BreastUSAILib.evaluation.heatmap_patches import PatchAnswers
from BreastUSAILib.evaluation.heatmap_summary import LesionHeat, VolumeHeat, summarise
from BreastUSAILib.evaluation.volume_data import TrueLesion, VolumeCase, read_volumes
from BreastUSAILib.findings import Box
from BreastUSAILib.hot_spots import HotSpot
from BreastUSAILib.models import zoo


def spot(centre, half, score):
    box = (*(c - half for c in centre), *(c + half for c in centre))
    inside = np.ones((2 * half,) * 3, bool)
    return HotSpot(tuple(map(float, centre)), 2.0, score, tuple(map(float, box)), tuple(map(float, centre)), inside)


def test_a_spot_hits_the_point_that_it_holds():
    points = [np.array([[10.0, 10, 10], [14.0, 10, 10]]), np.zeros((0, 3)), np.array([[5.0, 5, 5]])]
    spots = [[spot((11, 10, 10), 5, 0.9), spot((30, 10, 10), 3, 0.8)], [spot((4, 4, 4), 3, 0.7)], []]
    hits = point_hits(points, spots)
    assert hits.lesion.tolist() == [0, -1, -1] and hits.lesion_volume.tolist() == [0, 0, 2]
    assert dm.sensitivity(hits) == pytest.approx(1 / 3) and dm.false_positives(hits) == pytest.approx(2 / 3)


def test_a_hit_lies_on_any_lesion_and_a_neighbours_warm_border_is_told_apart():
    """Zhang et al. count a hit on any annotated instance; without the others' masks what they warm beyond these still counts."""
    heat, labels = np.zeros((20, 20, 20)), np.zeros((20, 20, 20), int)
    labels[8:12, 8:12, 4:7], labels[8:12, 8:12, 12:16] = 1, 2
    heat[9, 9, 5], heat[9, 9, 13], heat[9, 9, 16] = 0.5, 1.0, 0.8  # in 1, in 2, and a voxel beyond 2
    one, two = (pointing(heat, labels, label, (10, 10, x), (20, 20, 20)) for label, x in ((1, 5.5), (2, 14)))
    assert one == Pointing(hit=True, alone=False, place=(9, 9, 16))
    assert two == Pointing(hit=True, alone=True, place=(9, 9, 13))
    assert pointing(heat, labels, 1, (10, 10, 5.5), (8, 8, 8)) == Pointing(
        True, True, (9, 9, 5)
    )  # a patch that holds 1 alone
    heat[1, 1, 1] = 2.0  # in no lesion
    assert pointing(heat, labels, 2, (10, 10, 14), (20, 20, 20)) == Pointing(False, False, (1, 1, 1))


def lesion_heat(volume_ml, pointed, distance, number=None, dice=None, slab=None, alone=None):
    lesion = TrueLesion(Box((0.0, 0.0, 0.0), (5.0, 5.0, 5.0)), False, volume_ml)
    return LesionHeat(lesion, pointed, pointed if alone is None else alone, distance, number, dice, slab)


def volume_heat(name, lesions, spots, points, hottest, mean, window):
    case = VolumeCase(name, "data", "test", None, tuple(m.lesion for m in lesions))
    points = np.array(points, float).reshape(-1, 3)
    return VolumeHeat(case, tuple(lesions), tuple(spots), points, (1.0, 1.0, 1.0), 2.0, hottest, mean, window, 0.5)


def test_figures_are_those_of_a_case_counted_by_hand():
    results = [
        volume_heat(
            "a",
            [lesion_heat(0.5, True, 1.0, 0, 0.8, False, alone=False), lesion_heat(0.05, False, 9.0)],
            [spot((10, 10, 10), 3, 0.9), spot((30, 10, 10), 3, 0.2)],
            [[10, 10, 10], [20, 20, 20]],
            True,
            -1.0,
            3.0,
        ),
        volume_heat(
            "b", [lesion_heat(2.0, False, 5.0, 0, 0.4, True)], [spot((5, 5, 5), 3, 0.6)], [[5, 5, 5]], False, -3.0, 1.0
        ),
        volume_heat("h", [], [spot((9, 9, 9), 3, 0.7)], [], None, -2.0, -1.0),
    ]
    answers = {
        "centre-crop": PatchAnswers(
            np.array([0.9, 0.4, 0.3, 0.6]), np.array([1, 1, 0, 0], bool), ("data/a", "data/b", "data/h", "data/h")
        )
    }
    summary = summarise(results, answers, threshold=0.5, samples=20)
    value = {name: figure["value"] for name, figure in summary["figures"].items()}
    assert summary["lesions"] == 3 and summary["healthy_volumes"] == 1 and summary["lesions_above_0.1_ml"] == 2
    assert value["centre-crop_auc"] == 0.75 and value["centre-crop_accuracy"] == 0.5
    assert value["pointing_game"] == 0.5 and value["pointing_game_all_sizes"] == pytest.approx(1 / 3)
    assert value["pointing_game_others_left_out"] == 0.0
    assert value["pointing_game_by_slabs"] == 0.5 and value["hottest_place_in_a_lesion"] == 0.5
    assert value["distance_mm_median"] == 5.0 and value["distance_mm_mean"] == 5.0
    assert value["sensitivity"] == pytest.approx(2 / 3) and value["false_positives"] == pytest.approx(1 / 3)
    assert value["dice_of_hits"] == pytest.approx(0.6)
    # By score: hit (0.9), healthy (0.7), hit (0.6), miss (0.2).
    assert value["froc_0.5"] == pytest.approx(2 / 3) and value["froc_0.125"] < 2 / 3
    assert value["volume_auc_surest_window"] == 1.0 and value["volume_auc_one_mean"] == 0.5
    assert all(f["low"] <= f["value"] <= f["high"] for f in summary["figures"].values())
    assert summary["figures"]["centre-crop_auc"]["published"] == 0.936


def test_the_table_of_spots_names_the_lesion_that_each_hits():
    """Two points in one spot: the nearer one to its hottest voxel is hit, as in the FROC."""
    found = [spot((10, 10, 10), 5, 0.9), spot((40, 40, 40), 3, 0.5)]
    heat = volume_heat("a", [lesion_heat(0.5, True, 1.0, 0, 0.8), lesion_heat(0.5, True, 1.0, 0, 0.1)], found, [[10, 10, 10], [10, 10, 14]], True, 0.0, 0.0)
    assert point_hits([heat.points], [heat.spots]).lesion.tolist() == [0, -1]
    assert [row["lesion"] for row in spot_rows([heat])] == [1, None]


def test_without_slabs_or_health_their_figures_are_absent():
    results = [volume_heat("a", [lesion_heat(0.5, True, 1.0)], [], [[1, 1, 1]], True, 0.0, 0.0)]
    figures = summarise(results, {}, 0.5, samples=5)["figures"]
    assert not {"pointing_game_by_slabs", "dice_of_hits", "volume_auc_one_mean", "centre-crop_auc"} & set(figures)
    json.dumps(figures, allow_nan=False)


def test_one_volume_has_no_interval(tmp_path):
    """Its figures are written and drawn without one."""
    results = [volume_heat("a", [lesion_heat(0.5, True, 1.0)], [spot((1, 1, 1), 3, 0.9)], [[1, 1, 1]], True, 0.0, 0.0)]
    summary = protocol.write(tmp_path, results, {}, 0.5, {}, samples=5)
    assert summary["figures"]["sensitivity"] == {"value": 1.0, "low": None, "high": None, "published": None}
    assert "| sensitivity | 1.000 | - |" in (tmp_path / "figures.md").read_text() and (tmp_path / "froc.png").is_file()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heat")
    return heat_model_folder(folder), folder / "data"


def test_a_model_that_has_learnt_balls_points_at_them(folders):
    model_folder, data = folders
    model = zoo.load(model_folder, "heatmap", "cpu")
    cases = read_volumes(data, ("test",))
    results, answers = protocol.evaluate(cases, model, slabs=9)
    lesions = [m for r in results for m in r.lesions]
    assert len(lesions) == 3 and all(m.pointed for m in lesions) and all(m.distance_mm < 3 for m in lesions)
    assert all(m.spot is not None and 0 < m.dice <= 1 for m in lesions)
    assert all(m.slab_pointed is not None for m in lesions) and all(m.lesion.volume_ml for m in lesions)
    assert {kind: len(a.lesion) for kind, a in answers.items()} == dict.fromkeys(
        ("centre-patch", "centre-crop", "random-crop"), 6
    )
    assert answers["centre-crop"].figures()["auc"] > 0.9
    assert [r.hottest_in_lesion for r in results] == [True, None, True]
    with pytest.raises(DataError, match="no lesions"):
        protocol.evaluate([replace(c, lesions=()) for c in cases], model)


def test_the_command_leaves_figures_tables_and_pictures(folders, tmp_path, capsys):
    model, data = folders
    arguments = ["evaluate", "heatmap", "--data", str(data), "--model", str(model), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--bootstrap", "20", "--slabs", "9", "--pictures", "1"]) == 0
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert figures["split"] == "test" and figures["figures"]["pointing_game_all_sizes"]["value"] == 1.0
    rows = list(csv.DictReader((tmp_path / "out" / "lesions.csv").open()))
    assert len(rows) == 3 and {row[name] for row in rows for name in ("pointed", "pointed_alone")} == {"1"}
    held = [row["lesion"] for row in csv.DictReader((tmp_path / "out" / "spots.csv").open()) if row["lesion"]]
    assert len(held) == 3
    for picture in ("froc.png", "roc.png", "distances.png"):
        assert (tmp_path / "out" / picture).read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "out" / "maps").glob("*.png"))) == 1
    assert "pointing game" in capsys.readouterr().out and figures["notes"] == []
    note = "m has learnt from the split test of nothing."
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "notes_on_known_volumes", lambda models, cases: [note] if [m["task"] for m in models] == ["heatmap"] and cases else [])
        assert main([*arguments, "--bootstrap", "2", "--pictures", "0"]) == 0
    assert f"Note: {note}" in capsys.readouterr().out and f"Note: {note}" in (tmp_path / "out" / "figures.md").read_text()
    assert main([*arguments, "--slabs", "0"]) == 2
