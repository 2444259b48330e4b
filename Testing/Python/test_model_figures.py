"""What a published model says of itself: figures of every protocol in its card, and phantoms named as such."""

from dataclasses import replace
from pathlib import Path

from BreastUSAILib.evaluation.volume_data import TrueLesion, VolumeCase, described
from BreastUSAILib.findings import Box
from BreastUSAILib.models import catalog
from BreastUSAILib.models.cards import card
from BreastUSAILib.models.publish import stated_figures
from BreastUSAILib.workup import says_phantoms

STATED = {"value": 0.9766, "low": 0.95, "high": 0.99}


def test_figures_of_every_protocol_are_read():
    images = {"data": ["x"], "figures": {"busi": {"mean_dice": 0.75, "interval": [0.72, 0.78]}}}
    assert stated_figures(images) == images["figures"]
    detection = {"split": "test", "data_sets": {"DATA": {"volumes": 100, "median_seconds": 3.1, "lesions_by_group": {"a": 3}, "figures": {"sensitivity": STATED}}}}
    assert stated_figures(detection) == {"DATA": {"volumes": 100, "sensitivity": STATED}}
    outlines = {"figures": {"true boxes": {"lesions": 7, "figures": {"dice": STATED}}}}
    assert stated_figures(outlines) == {"true boxes": {"lesions": 7, "dice": STATED}}


def test_a_card_shows_intervals_and_what_is_undefined():
    entry = replace(
        catalog.entries()[0],
        task="detect",
        measured={"test": {"volumes": 100, "sensitivity": STATED, "auc": {"value": None, "low": None, "high": None}}},
        postprocessing={"threshold": 0.4},
    )
    text = card(entry)
    assert "| sensitivity | 0.977 (0.950 to 0.990) |" in text and "| auc | - |" in text and "| volumes | 100 |" in text
    assert "docs/detection.md" in text and "docs/segmentation.md" not in text
    assert (Path(__file__).parents[2] / "docs" / "detection.md").is_file()


def test_phantoms_are_named_as_such_in_what_a_model_was_trained_on():
    box = Box((0, 0, 0), (1, 1, 1))
    phantom = VolumeCase("a", "DATA", "train", Path("a.nrrd"), ())
    real = VolumeCase("1", "TDSC", "train", Path("1.nrrd"), (TrueLesion(box, True),), challenge=object())
    in_layout = VolumeCase("2", "TDSC", "train", Path("2.nrrd"), (TrueLesion(box, True, posterior=0.4),), challenge=object())
    assert described([phantom, phantom]) == "2 phantoms of DATA" and described([real]) == "1 volumes of TDSC"
    assert described([in_layout]) == "1 phantoms of TDSC"
    assert described([phantom, real, in_layout]) == "3 volumes (2 of them phantoms) of DATA, TDSC"


def test_who_learnt_from_phantoms_is_told_apart_from_who_learnt_from_none():
    for entry in catalog.entries():
        assert says_phantoms(entry.trained_on) == (entry.preprocessing["dimension"] == 3), entry.id
    assert says_phantoms("2 phantoms of DATA") and says_phantoms("3 volumes (2 of them phantoms) of DATA")
    assert says_phantoms("200 images (no phantoms); went on from a model that had learnt from 500 phantoms")
    assert not says_phantoms("967 images of patients (no phantoms)") and not says_phantoms("")


def test_figures_of_heatmaps_are_one_part():
    heatmap = {"split": "test", "volumes": 80, "slabs": None, "figures": {"pointing_game": STATED}}
    assert stated_figures(heatmap) == {"test": {"volumes": 80, "pointing_game": STATED}}
