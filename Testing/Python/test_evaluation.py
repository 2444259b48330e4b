"""Figures of merit against hand-worked numbers and independent implementations; the protocol on made cases."""

import csv
import json
import re
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from PIL import Image

from BreastUSAILib import cli
from BreastUSAILib.errors import DataError
from BreastUSAILib.evaluation import segment as protocol
from BreastUSAILib.evaluation.known_images import notes_on_known, notes_on_known_volumes
from BreastUSAILib.evaluation.metrics import bootstrap_interval, dice, hausdorff95, jaccard
from BreastUSAILib.evaluation.segmentation_data import Case, check_masks, load_pixels, read_cases
from BreastUSAILib.evaluation.volume_data import VolumeCase
from BreastUSAILib.models.catalog import default_for
from BreastUSAILib.models.zoo import load
from BreastUSAILib.segment import SegmentOptions

DATA = Path(__file__).parents[1] / "Data"

masks = arrays(bool, (9, 7))


def _square(top, left, side, shape=(40, 50)):
    mask = np.zeros(shape, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_dice_and_jaccard_by_hand():
    a, b = _square(0, 0, 10), _square(0, 5, 10)
    assert dice(a, b) == pytest.approx(2 * 50 / 200) and jaccard(a, b) == pytest.approx(50 / 150)


@settings(max_examples=60)
@given(masks, masks)
def test_dice_and_jaccard_agree_as_they_must(a, b):
    d, j = dice(a, b), jaccard(a, b)
    assert 0 <= j <= d <= 1 and d == pytest.approx(2 * j / (1 + j)) and d == dice(b, a) and dice(a, a) == 1


def test_hausdorff95_of_a_shifted_square_is_the_shift_in_mm():
    assert hausdorff95(_square(5, 5, 20), _square(5, 8, 20), (0.5, 2.0)) == pytest.approx(6.0)
    assert hausdorff95(_square(5, 5, 20), _square(8, 5, 20), (0.5, 2.0)) == pytest.approx(1.5)
    assert hausdorff95(_square(5, 5, 20), np.zeros((40, 50), bool), (1, 1)) is None


def test_measuring_a_distance_warns_of_nothing():
    """What MONAI says of its own calls stood within the user's progress bar."""
    import monai.metrics  # noqa: F401, as to import it may warn of anything

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert hausdorff95(_square(5, 5, 20), _square(5, 8, 20), (1, 1)) == 3


def test_bootstrap_draws_groups_not_images():
    random = np.random.default_rng(0)
    per_group = random.normal(0.8, 0.1, 60)
    groups = [f"g{i}" for i in range(60)]
    low, high = bootstrap_interval(per_group, groups)
    # The textbook interval of a mean of 60 independent values; a bootstrap agrees to a tenth of its width.
    half = 1.96 * per_group.std() / np.sqrt(60)
    assert low == pytest.approx(per_group.mean() - half, abs=0.2 * half)
    assert high == pytest.approx(per_group.mean() + half, abs=0.2 * half)
    # Copies of the same patients carry no information: the interval must not shrink.
    copies = bootstrap_interval(np.repeat(per_group, 10), np.repeat(groups, 10))
    assert copies[1] - copies[0] == pytest.approx(high - low, rel=0.15)
    assert np.isnan(bootstrap_interval([], [])).all()


def _row(**changes):
    values = {
        "id": "a", "source": "set", "label": "benign", "group": "g", "has_lesion": True, "n_findings": 1, "score": 0.9, "dice": 0.8,
        "dice_unrefined": 0.7, "jaccard": 2 / 3, "hausdorff95": 2.0, "unit": "mm",
    }  # fmt: skip
    return protocol.Row(**values | changes)


def test_summary_counts_misses_and_false_alarms():
    rows = [
        _row(id="a", dice=0.8, group="g1"),
        _row(id="b", dice=0.0, n_findings=0, score=None, group="g2", hausdorff95=None),
        _row(id="c", dice=0.9, group="g3", unit="px", hausdorff95=5.0),
        _row(id="d", has_lesion=False, dice=None, dice_unrefined=None, jaccard=None, hausdorff95=None),
        _row(id="e", has_lesion=False, n_findings=0, dice=None, dice_unrefined=None, jaccard=None, hausdorff95=None),
    ]
    figures = protocol.summarise(rows)
    assert figures["images"] == 5 and figures["with_lesion"] == 3
    assert figures["mean_dice"] == pytest.approx(1.7 / 3) and figures["median_dice"] == 0.8
    assert figures["nothing_reported"] == 1 and figures["not_touched"] == 1
    assert figures["healthy"] == 2 and figures["healthy_with_finding"] == 1
    assert figures["median_hausdorff95_mm"] == 2.0 and figures["median_hausdorff95_px"] == 5.0
    table = protocol.as_markdown({"set": figures, "healthy": protocol.summarise(rows[3:])})
    assert figures["hausdorff95_mm_images"] == figures["hausdorff95_px_images"] == 1  # of the three with a lesion one has no finding
    assert "| 2.00 mm (1 of 3); 5.00 px (1 of 3) |" in table
    assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "0.567" in table and "1 of 2" in table and len(table.splitlines()) == 4


def test_patients_of_two_data_sets_are_two_whatever_they_are_called():
    values = np.random.default_rng(0).uniform(0.5, 1, 20)

    def interval(prefix):
        sets = (("a", ""), ("b", prefix))
        rows = [_row(source=s, group=f"{p}{i}", dice=v) for s, p in sets for i, v in enumerate(values)]
        return protocol.summarise(rows)["mean_dice_interval"]

    assert interval("") == interval("b")


def test_the_share_at_or_below_a_dice_is_that_of_the_images():
    rows = [_row(dice=d) for d in (0.8, 0.2, 0.6, 0.4)] + [_row(source="one", dice=0.5)]
    lines = {line.get_label(): line for line in protocol._figure(rows).axes[0].lines}
    assert lines["one (n = 1)"].get_xydata().tolist() == [[0.5, 0], [0.5, 1]]
    steps = lines["set (n = 4)"]
    assert steps.get_drawstyle() == "steps-post"
    assert steps.get_xydata().tolist() == [[0.2, 0], [0.2, 0.25], [0.4, 0.5], [0.6, 0.75], [0.8, 1]]


def test_an_image_saved_as_one_slice_is_measured_as_the_image(tmp_path):
    """As 3D Slicer saves them."""
    row = next(csv.DictReader((DATA / "labels.csv").open(newline="")))
    for name in ("file", "mask"):
        plane = sitk.ReadImage(str(DATA / row[name]))
        row[name] = f"{name}.nrrd"
        sitk.WriteImage(sitk.JoinSeries(plane), str(tmp_path / row[name]))
    with (tmp_path / "labels.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(row))
        writer.writeheader()
        writer.writerow({**row, "group": "p"})
    model = load("", "segment", "cpu")
    slice_, plane = (protocol.evaluate_case(read_cases(d)[0], model, SegmentOptions()) for d in (tmp_path, DATA))
    assert slice_.dice > 0.7
    assert slice_ == replace(plane, source=tmp_path.name, group="p")


@pytest.mark.parametrize(
    ("suffix", "spacing", "pixel_mm", "expected"),
    [
        ("nrrd", (0.1, 0.2), "", (2.0, "mm")),
        ("nrrd", (0.1, 0.2), "0.1", (2.0, "mm")),
        ("nrrd", (1, 1), "", (10.0, "px")),  # as writers put it where nobody measured
        ("png", (1, 1), "0.1", (1.0, "mm")),
        ("png", (1, 1), "", (10.0, "px")),
    ],
)
def test_distances_are_those_of_pixels_as_the_file_has_them(tmp_path, monkeypatch, suffix, spacing, pixel_mm, expected):
    """A finding 10 rows off."""
    truth = _square(20, 50, 40, (100, 150)).astype(np.uint8)
    pixels = np.random.default_rng(0).integers(0, 255, truth.shape, np.uint8)
    images = [sitk.GetImageFromArray(array) for array in (pixels, truth, np.roll(truth, 10, 0))]
    for image in images:
        image.SetSpacing(spacing)
    for name, image in zip(("image", "mask"), images[:2], strict=True):
        sitk.WriteImage(image, str(tmp_path / f"{name}.{suffix}"))
    found = [SimpleNamespace(mask=images[2], score=0.9)]
    monkeypatch.setattr("BreastUSAILib.segment.segment_2d", lambda *args, **options: (found, ()))
    case = Case("i", tmp_path / f"image.{suffix}", tmp_path / f"mask.{suffix}", "benign", "g", 0, {"pixel_mm": pixel_mm}, "set")
    row = protocol.evaluate_case(case, None, SegmentOptions())
    assert (row.hausdorff95, row.unit) == (pytest.approx(expected[0]), expected[1])


def _with_mask(folder, picture, name="mask.png", **options):
    """A case whose mask is this picture, of any format."""
    Image.fromarray(np.random.default_rng(0).integers(0, 255, picture.size[::-1], np.uint8)).save(folder / "image.png")
    picture.save(folder / name, **options)
    return Case("i", folder / "image.png", folder / name, "benign", "g", 0, {}, "set")


def _disc(shape=(300, 400)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return ((y - 150) / 50) ** 2 + ((x - 200) / 80) ** 2 < 1


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_the_noise_of_a_jpeg_is_no_lesion(tmp_path, quality):
    mask = load_pixels(_with_mask(tmp_path, Image.fromarray(_disc().astype(np.uint8) * 255), "mask.jpg", quality=quality))[1]
    assert dice(mask, _disc()) > 0.995
    black = _with_mask(tmp_path, Image.new("L", (400, 300)), "black.jpg")
    assert not load_pixels(black)[1].any()


def _palette(indices, *colours):
    picture = Image.fromarray(indices.astype(np.uint8))
    picture = Image.frombytes("P", picture.size, picture.tobytes())
    picture.putpalette([level for colour in colours for level in colour])
    return picture


@pytest.mark.parametrize(
    ("inverted", "colours"),
    [
        (False, [(10, 10, 10), (255, 0, 0)]),  # a background that is nearly black
        (False, [(0, 0, 0), (0, 0, 0)]),
        (False, [(0, 0, 0), (128, 0, 0)]),
        (True, [(255, 255, 255), (0, 0, 0)]),  # the colours say it, whichever comes first
    ],
)
def test_masks_with_a_palette_show_their_lesions(tmp_path, inverted, colours):
    mask = load_pixels(_with_mask(tmp_path, _palette(_disc() ^ inverted, *colours)))[1]
    assert np.array_equal(mask, _disc())


def test_a_mask_of_one_black_of_a_palette_is_empty(tmp_path):
    assert not load_pixels(_with_mask(tmp_path, _palette(np.ones((30, 40)), (0, 0, 0), (0, 0, 0))))[1].any()


def test_labels_of_lesions_count_whatever_their_numbers(tmp_path):
    labels = np.zeros((60, 80), np.uint8)
    labels[10:20, 10:20], labels[30:40, 30:40] = 1, 2
    assert np.array_equal(load_pixels(_with_mask(tmp_path, Image.fromarray(labels)))[1], labels > 0)


@pytest.mark.parametrize("picture", [Image.new("L", (40, 30), 10), Image.fromarray(~_disc()), _palette(_disc(), (10, 10, 10), (0, 0, 0))])
def test_masks_that_are_lesion_all_along_the_border_are_refused(tmp_path, picture):
    """Inverted, or with a background that is not black."""
    with pytest.raises(DataError, match=r"mask.png marks its whole border as lesion; save it with a background of 0 \(black\) and lesions above 0"):
        check_masks([_with_mask(tmp_path, picture)])


def test_a_picture_that_is_cut_to_its_lesion_may_be_graded(tmp_path):
    assert load_pixels(_with_mask(tmp_path, Image.new("L", (40, 30), 255)))[1].all()


def _one_image(folder, **row):
    """A data set of a dark disc in speckle, in fold 0 unless the row says otherwise."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    disc = (np.add.outer((np.arange(60) - 30) ** 2, (np.arange(80) - 40) ** 2) < 144).astype(np.uint8)
    pixels = np.random.default_rng(0).normal(120, 20, disc.shape) * np.where(disc, 0.3, 1)
    sitk.WriteImage(sitk.GetImageFromArray(np.clip(pixels, 0, 255).astype(np.uint8)), str(folder / "images/1.png"))
    sitk.WriteImage(sitk.GetImageFromArray(disc * 255), str(folder / "masks/1.png"))
    row = {"id": 1, "file": "images/1.png", "mask": "masks/1.png", "class": "benign", "group": "g", "fold": 0, **row}
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(row))
        writer.writeheader()
        writer.writerow(row)
    return folder


@pytest.mark.parametrize("what", ["segment", "grade"])
@pytest.mark.parametrize("folds", [["0", "7"], ["7"]])
def test_folds_that_have_no_image_are_told(tmp_path, capsys, what, folds):
    """One that was mistyped was left out without a word."""
    data = str(_one_image(tmp_path / "set"))
    assert cli.main(["evaluate", what, "--data", data, "--folds", *folds, "--output", str(tmp_path / "out"), "--device", "cpu"]) == 1
    assert capsys.readouterr().err == f"error: fold 7 of {data} has no image; give --folds that are in labels.csv.\n"


@pytest.mark.parametrize(
    ("label", "mask", "told"),
    [
        ("malignant", "", r"1.png is malignant after labels.csv but has no mask, so that it would count as healthy; outline the lesion, or call"),
        ("benign", "masks/empty.png", r"1.png is benign after labels.csv but has no lesion in its mask .*empty.png, so that"),
        ("normal", "masks/1.png", r"1.png shows a lesion, but labels.csv calls its image normal; correct the class or the mask"),
    ],
)
def test_classes_that_contradict_the_masks_are_refused_before_the_work(tmp_path, capsys, label, mask, told):
    """Lesions without an outline counted as healthy, and what was found there as a false alarm."""
    folder = _one_image(tmp_path / "set", **{"class": label, "mask": mask})
    Image.new("L", (80, 60)).save(folder / "masks/empty.png")
    out = tmp_path / "out"
    assert cli.main(["evaluate", "segment", "--data", str(folder), "--output", str(out), "--device", "cpu"]) == 1
    assert re.search(told, capsys.readouterr().err) and not out.exists()


@pytest.mark.parametrize(("label", "mask"), [("normal", ""), ("", ""), ("", "masks/1.png"), ("benign", "masks/1.png")])
def test_classes_that_agree_with_the_masks_or_say_nothing_are_taken(tmp_path, label, mask):
    check_masks(read_cases(_one_image(tmp_path, **{"class": label, "mask": mask})))


def test_data_sets_of_one_name_are_refused(tmp_path, capsys):
    folders = [str(tmp_path / hospital / "test") for hospital in ("a", "b")]
    assert cli.main(["evaluate", "segment", "--data", *folders, "--output", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == (
        f"error: the data sets {folders[0]} and {folders[1]} have one name, by which figures tell them apart; "
        "give folders with different names.\n"
    )


@pytest.mark.parametrize("what", ["segment", "grade"])
def test_one_of_several_data_sets_is_not_called_all(what, tmp_path, capsys):
    """Its figures would be replaced by those of all together."""
    folders = [str(tmp_path / name) for name in ("hospital", "all")]
    assert cli.main(["evaluate", what, "--data", *folders, "--output", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == (
        f"error: the data set {folders[1]} has the name 'all', which is what all data sets together are called; rename its folder.\n"
    )


def test_figures_of_images_that_a_model_knows_say_so():
    def case(source, fold, named=""):
        return Case("i", Path("i.png"), None, "benign", "g", fold, {"source": named}, source)

    def entry(trained_on, **recipe):
        return replace(default_for("segment"), id="m", trained_on=trained_on, recipe=recipe)

    own = entry("12 images of made, other set (folds 2, 3, 4)", train_folds=[2, 3, 4], validation_fold=1)
    assert notes_on_known([own], [case("made", 0), case("unknown", 2)]) == []
    assert notes_on_known([own], [case(name, fold) for name in ("made", "other set") for fold in (0, 1, 2, 3)]) == [
        "m has learnt from folds 2, 3 of made: these figures are of images that it knows, and too good.",
        "m has learnt from folds 2, 3 of other set: these figures are of images that it knows, and too good.",
        "m was chosen by fold 1 of made: these figures are better than on other images.",
        "m was chosen by fold 1 of other set: these figures are better than on other images.",
    ]
    on = entry("3 images of mine (folds 0); went on from m 1, which had learnt from: 12 images of made (folds 2, 3)", validation_fold=5)
    assert [note.partition(":")[0] for note in notes_on_known([on], [case("made", 3), case("mine", 0)])] == ["m has learnt from fold 3 of made", "m has learnt from fold 0 of mine"]
    for task in ("segment", "grade-gcnn", "grade-mtnet", "grade-snnet"):
        ships = default_for(task)
        assert notes_on_known([ships], [case("copy", 4, "BUS-BRA")])[0].startswith(f"{ships.id} has learnt from fold 4 of copy")
        assert notes_on_known([ships], [case("busbra", 1)])[0].startswith(f"{ships.id} was chosen by fold 1 of busbra")
        assert notes_on_known([ships], [case("busbra", 0), case("busi", 2, "BUSI")]) == []


def test_figures_of_volumes_that_a_model_knows_say_so():
    def case(source, split):
        return VolumeCase("v", source, split, Path("v.nrrd"), ())

    def notes(trained_on, *cases):
        return [note.partition(":")[0] for note in notes_on_known_volumes([{"id": "m", "trained_on": trained_on}], cases)]

    every = [case(source, split) for source in ("made", "other set", "unknown") for split in ("train", "validation", "test")]
    both = [f"m {what} of {name}" for name in ("made", "other set") for what in ("has learnt from the split train", "was chosen by the split validation")]
    for kind in ("phantoms", "volumes", "volumes (3 of them phantoms)"):
        described = f"9 {kind} of made, other set"
        assert notes(f"{described} (split train)", *every) == notes(f"lesions of {described} (split train)", *every) == both
        assert notes(f"{described} (split train, one central point a lesion); went on from m 1, which had learnt from: 4 phantoms of unknown (split train)", *every) == [
            *both,
            "m has learnt from the split train of unknown",
        ]
    # Of folds either split taught, as far as it did not choose.
    told = notes("9 volumes of made (all but fold 1 of 5 of the splits train and validation, one central point a lesion)", *every)
    assert told == notes("lesions of 9 volumes of made (all but fold 0 of 4)", *every) == [f"m has learnt from the split {split} of made" for split in ("train", "validation")]
    for task in ("segment-3d", "heatmap", "detect"):  # no data set of a user's
        assert notes(default_for(task).trained_on, *every) == []


@pytest.mark.parametrize("what", ["segment", "grade"])
def test_the_note_on_known_images_stands_on_the_screen_and_in_the_files(what, tmp_path, capsys):
    folder = _one_image(tmp_path / "busbra", fold=2)
    out = tmp_path / "out"
    command = ["evaluate", what, "--data", str(folder), "--folds", "2", "--output", str(out), "--device", "cpu"]
    assert cli.main(command + (["--mtnet", "grade-mtnet-compact"] if what == "grade" else [])) == 0
    told = "roi-cnn-compact has learnt from fold 2 of busbra: these figures are of images that it knows, and too good."
    notes = json.loads((out / "figures.json").read_text())["notes"]
    assert told in notes and len(notes) == (1 if what == "segment" else 2)
    said = capsys.readouterr().out
    assert f"Note: {told}" in said and f"Note: {told}" in (out / "figures.md").read_text()
    # One benign image without a category: nothing that a grade could be drawn against.
    assert f"{'Rows, figures and a plot' if what == 'segment' else 'Rows and figures'} are in {out}." in said


def test_results_are_written(tmp_path):
    rows = [_row(), _row(id="b", dice=0.5)]
    protocol.write(tmp_path, rows, {"set": protocol.summarise(rows)}, {"folds": [0]})
    with (tmp_path / "rows.csv").open(newline="") as stream:
        assert [r["dice"] for r in csv.DictReader(stream)] == ["0.8", "0.5"]
    assert json.loads((tmp_path / "figures.json").read_text())["figures"]["set"]["images"] == 2
    assert (tmp_path / "dice.png").read_bytes().startswith(b"\x89PNG") and "![dice](dice.png)" in (tmp_path / "figures.md").read_text()


def test_no_plot_is_promised_where_none_is_drawn(tmp_path, capsys):
    folder, out = _one_image(tmp_path / "data", **{"class": "normal", "mask": "", "fold": 2}), tmp_path / "out"
    assert cli.main(["evaluate", "segment", "--data", str(folder), "--folds", "2", "--output", str(out), "--device", "cpu"]) == 0
    assert f"Rows and figures are in {out}." in capsys.readouterr().out and not (out / "dice.png").exists()


def test_images_of_one_patient_have_no_interval(tmp_path):
    rows = [_row(), _row(id="b", dice=0.5)]
    assert np.isnan(bootstrap_interval([0.8, 0.5], ["g", "g"])).all()
    protocol.write(tmp_path, rows, {"set": protocol.summarise(rows)}, {})

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    figures = json.loads((tmp_path / "figures.json").read_text(), parse_constant=refuse)["figures"]["set"]
    assert figures["mean_dice_interval"] == figures["median_dice_interval"] == [None, None]
    assert "| 2 | 0.650 | 0.650 | 0.700 |" in (tmp_path / "figures.md").read_text()


def test_no_images_in_the_folds_is_said():
    with pytest.raises(DataError, match="no images in the chosen folds"):
        protocol.evaluate([], None, None)
