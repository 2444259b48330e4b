"""The protocol of detection: data sets in both layouts, any detector, the files that are written, the challenge's form."""

import csv
import json
import types
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from hand_made_phantom import generate
from hypothesis import given, settings
from hypothesis import strategies as st

from BreastUSAILib import cli
from BreastUSAILib.errors import DataError, UsageError
from BreastUSAILib.evaluation import detect as protocol
from BreastUSAILib.evaluation import detection_metrics as dm
from BreastUSAILib.evaluation import detection_summary, tdsc_submission
from BreastUSAILib.evaluation.detection_summary import OperatingPoint, groups, measure
from BreastUSAILib.evaluation.volume_data import read_volumes
from BreastUSAILib.evaluation.volume_options import cases_of, check_options
from BreastUSAILib.findings import Box, Finding
from BreastUSAILib.phantom.grids import PhantomGrid
from BreastUSAILib.phantom.layouts import write_phantom, write_tables
from BreastUSAILib.phantom.seeds import volume_seed
from BreastUSAILib.phantom.spec import PhantomSpec

FEW = 40  # bootstrap draws: enough to see that there are intervals
GRID = PhantomGrid((48, 24, 32), (0.8, 0.9, 1.1), top=2.0, whole=False)


def make(folder, layout, lesions, split="test"):
    """A data set of hand-made phantoms: one volume for each number of lesions."""
    for index, number in enumerate(lesions):
        spec = PhantomSpec(grid=GRID, lesions=number)
        name = f"{130 + index:03d}" if layout == "tdsc-abus" else f"phantom-{split}-{index:010d}"
        write_phantom(layout, folder, name, split, spec, generate(volume_seed(split, index=index), spec))
    write_tables(layout, folder)
    return folder


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    return make(tmp_path_factory.mktemp("data") / "native", "native", [1, 2, 0, 1])


@pytest.fixture(scope="module")
def challenge(tmp_path_factory):
    return make(tmp_path_factory.mktemp("data") / "challenge", "tdsc-abus", [1, 1, 1])


def summarise(results, point):
    return detection_summary.summarise(results, point, samples=FEW)


def perfect(image, case):
    """Finds every lesion a little off, judges it right, and adds one false alarm of low score."""
    found = [
        Finding(f"L{i}", Box(tuple(np.add(x.box.center, (0.4, 0, 0))), x.box.size), 0.9 - i / 100, 0.9 if x.malignant else 0.1)
        for i, x in enumerate(case.lesions, 1)
    ]
    corner = image.TransformContinuousIndexToPhysicalPoint((2.0, 2.0, 2.0))
    return [*found, Finding("L9", Box(corner, (3, 3, 3)), 0.2, 0.5)]


# --- data ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["native", "challenge"])
def test_boxes_and_volumes_are_those_of_the_mask(layout, request):
    folder = request.getfixturevalue(layout)
    cases = read_volumes(folder, ["test"])
    assert len(cases) == (4 if layout == "native" else 3)
    from BreastUSAILib.grid import box_of_mask

    for case in cases:
        image, lesions = case.read()
        assert image.GetSpacing() == pytest.approx(GRID.spacing) and image.GetSize() == GRID.size
        path = case.image.parents[1] / "labels" / case.image.name if case.challenge is None else case.challenge.mask
        labels = sitk.ReadImage(str(path))
        labels.CopyInformation(image)
        for number, lesion in enumerate(lesions, 1):
            mask = labels == number if case.challenge is None else labels != 0
            expected = box_of_mask(mask)
            assert lesion.box.center == pytest.approx(expected.center) and lesion.box.size == pytest.approx(expected.size)
            voxels = int(sitk.GetArrayViewFromImage(mask).sum())
            assert lesion.volume_ml == pytest.approx(voxels * np.prod(GRID.spacing) / 1000)
            assert lesion.posterior == (0.9 if lesion.malignant else 0.05) and lesion.descriptors["echo_pattern"] == "hypoechoic"


def test_data_that_are_not_there_are_told(native, tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        read_volumes(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no phantoms for validation; make some with breastusai phantom --split validation."):
        read_volumes(native, ["validation"])
    with pytest.raises(DataError, match="leave --spacing out"):
        read_volumes(native, ["test"], (1, 1, 1))


def test_phantoms_may_stand_beside_data_whose_spacing_is_given(native, challenge):
    """As weakly supervised training needs them: the challenge has no healthy volumes."""
    arguments = types.SimpleNamespace(data=[challenge, native], split="test", spacing=[0.3, 0.4, 0.5], limit=2)
    given = {case.source: case.read()[0].GetSpacing() for case in cases_of(arguments)}
    assert given == {challenge.name: (0.3, 0.4, 0.5), native.name: pytest.approx(GRID.spacing)}
    arguments.data = [native]
    with pytest.raises(DataError, match="leave --spacing out"):
        cases_of(arguments)


@pytest.mark.parametrize("layout", ["native", "challenge"])
def test_a_data_set_of_volumes_goes_by_its_folders_name_as_it_was_given(layout, request, tmp_path, monkeypatch):
    """Links are not followed, or two that have one name would be taken for one data set."""
    folder = request.getfixturevalue(layout)
    linked = [tmp_path / hospital / "tdsc" for hospital in ("x", "y")]
    for link, target in zip(linked, (folder, tmp_path), strict=True):
        link.parent.mkdir()
        link.symlink_to(target)
    monkeypatch.chdir(folder)
    named = [read_volumes(given, ["test"])[0].source for given in (".", linked[0])]
    assert named == [layout, "tdsc"]
    with pytest.raises(UsageError, match=r"the data sets .*x.tdsc and .*y.tdsc have one name.*give folders with different names"):
        check_options(types.SimpleNamespace(data=linked, spacing=None, output=tmp_path), (), ())
    check_options(types.SimpleNamespace(data=[folder, linked[0]], spacing=None, output=tmp_path), (), ())


def test_one_of_several_data_sets_of_volumes_is_not_called_all(tmp_path):
    """Its figures would be replaced by those of all together."""
    one, other = tmp_path / "native", tmp_path / "all"
    with pytest.raises(UsageError, match=r"the data set .*all has the name 'all', .*; rename its folder\."):
        check_options(types.SimpleNamespace(data=[one, other], spacing=None, output=tmp_path), (), ())
    check_options(types.SimpleNamespace(data=[other], spacing=None, output=tmp_path), (), ())


def test_axes_in_another_order_are_told(challenge, tmp_path):
    import shutil

    copy = tmp_path / "swapped"
    shutil.copytree(challenge, copy)
    table = copy / "Test" / "bbx_labels.csv"
    with table.open(newline="") as stream:
        rows = list(csv.reader(stream))
    # A lesion at the far end of the lateral axis, written as x, y, z: there are not so many slices.
    rows[1] = [rows[1][0], str(GRID.size[0] - 6), rows[1][2], rows[1][1], *rows[1][:3:-1]]
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    with pytest.raises(DataError, match="with its columns in the order x, y, z"):
        read_volumes(copy, ["test"])


@pytest.mark.parametrize("layout", ["native", "tdsc-abus"])
def test_a_phantom_is_one_also_where_its_posterior_is_open(layout, tmp_path):
    """As another program's records may leave it: what is recorded is no patient."""
    folder = make(tmp_path / "open", layout, [1, 1])
    for path in (folder / "records").glob("*.json"):
        record = json.loads(path.read_text())
        for lesion in record["lesions"]:
            lesion["posterior"] = lesion["category"] = None
        path.write_text(json.dumps(record))
    cases = read_volumes(folder, ["test"])
    assert [lesion.posterior for case in cases for lesion in case.lesions] == [None, None] and all(case.synthetic for case in cases)
    assert summarise(protocol.evaluate(cases, perfect), OperatingPoint())[0]["synthetic_volumes"] == 2
    if layout == "tdsc-abus":
        (folder / "records" / "131.json").unlink()
        assert [case.synthetic for case in read_volumes(folder, ["test"])] == [True, False]


@pytest.mark.parametrize("read", ["read", "read_labels"])
def test_a_mask_that_contradicts_its_box_is_told(read, tmp_path):
    """In the challenge's layout the two are files of their own; a small deviation is as people annotate."""
    (case,) = read_volumes(make(tmp_path / "masks", "tdsc-abus", [1]), ["test"])
    path, first, last = case.challenge.mask, case.challenge.first, case.challenge.last
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))

    def with_mask(mask):
        sitk.WriteImage(sitk.GetImageFromArray(mask), str(path))
        return getattr(case, read)()

    with_mask(np.roll(truth, 2, axis=2))
    # Around the box alone, as of a ring: nothing is in the box, and yet it is about this place.
    ring = np.zeros_like(truth)
    for corner in (np.subtract(first, 1), np.add(last, 1)):
        ring[tuple(corner[::-1])] = 1
    with_mask(ring)
    with pytest.raises(DataError, match=r"MASK_130\.nrrd shows no lesion; its annotation is incomplete"):
        with_mask(np.zeros_like(truth))
    for axis, length in enumerate(np.subtract(last, first)[::-1] + 1):
        with pytest.raises(DataError, match=r"MASK_130\.nrrd: the lesion lies nowhere in the box that bbx_labels\.csv has for volume 130; correct"):
            with_mask(np.roll(truth, int(length), axis=axis))


# --- the figures -----------------------------------------------------------------------------------------------------


def test_a_near_perfect_detector(native):
    results = protocol.evaluate(read_volumes(native, ["test"]), perfect)
    summary, _ = summarise(results, OperatingPoint(least_score=0.5))
    assert (summary["volumes"], summary["healthy_volumes"], summary["lesions"], summary["candidates"]) == (4, 1, 4, 8)
    assert (summary["lesions_found"], summary["false_positives"], summary["reported"]) == (4, 0, 4)
    value = {name: f["value"] for name, f in summary["figures"].items()}
    assert value["sensitivity"] == value["froc_mean"] == value["malignancy_auc_found"] == 1
    assert value["malignancy_best_auc_found"] == value["malignancy_accuracy_all"] == 1 and value["false_positives"] == 0
    expected = [(x.box.size[0] - 0.4) / (x.box.size[0] + 0.4) for r in results for x in r.lesions]
    assert value["mean_iou"] == pytest.approx(np.mean(expected))
    assert summary["figures"]["mean_iou"]["low"] <= value["mean_iou"] <= summary["figures"]["mean_iou"]["high"]
    everything, _ = summarise(results, OperatingPoint())
    assert everything["figures"]["false_positives"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    only_one, _ = summarise(results, OperatingPoint(most=1))
    assert only_one["figures"]["sensitivity"]["value"] == 0.75 and only_one["false_positives"] == 1


def test_missed_lesions_count_against_all_lesions_only(native):
    def half(image, case):
        return perfect(image, case)[: 1 if case.lesions else 0]

    cases = read_volumes(native, ["test"])
    summary, measured = summarise(protocol.evaluate(cases, half), OperatingPoint())
    truth = [x.malignant for c in cases for x in c.lesions]
    assert np.isnan(measured.judged).tolist() == [False, False, True, False]
    judged = [0.9 if m else 0.1 for m in truth]
    judged[2] = 0.0  # the second lesion of the second volume
    value = {name: f["value"] for name, f in summary["figures"].items()}
    assert value["sensitivity"] == 0.75 and value["malignancy_auc_found"] == 1
    pairs = [(judged[i] > judged[j]) + 0.5 * (judged[i] == judged[j]) for i in range(4) for j in range(4) if truth[i] and not truth[j]]
    assert value["malignancy_auc_all"] == pytest.approx(np.mean(pairs))
    assert value["malignancy_accuracy_all"] == (0.75 if truth[2] else 1.0)


def test_nothing_found_and_no_judgement_are_ordinary_results(native):
    cases = read_volumes(native, ["test"])
    summary, _ = summarise(protocol.evaluate(cases, lambda image, case: []), OperatingPoint())
    value = {name: f["value"] for name, f in summary["figures"].items()}
    assert value["sensitivity"] == value["froc_mean"] == value["false_positives"] == 0 and value["mean_iou"] is None
    assert not any(name.startswith("malignancy") for name in value)
    with pytest.raises(DataError, match="no volumes"):
        protocol.evaluate([], perfect)


def test_lesions_are_told_apart_by_volume_and_echo(native):
    lesions = [types.SimpleNamespace(volume_ml=v, descriptors=d) for v, d in [
        (0.1, {"echo_pattern": "isoechoic"}), (0.3, {}), (2.9, {"echo_pattern": "isoechoic"}), (None, {}), (5.0, {}),
    ]]  # fmt: skip
    found = {name: np.flatnonzero(among).tolist() for name, among in groups(lesions).items()}
    assert found == {
        "below 0.3 cm3": [0], "0.3 to 1 cm3": [1], "1 to 3 cm3": [2], "3 cm3 and more": [4], "isoechoic": [0, 2],
    }  # fmt: skip


def test_oblique_volumes_are_measured_along_their_own_axes(native):
    """The same finding in a turned volume gives the same IoU: physical boxes are compared along the image's axes."""
    case = read_volumes(native, ["test"])[0]
    straight, image = protocol.evaluate_case(case, perfect)
    turn = np.array([[0.36, 0.48, -0.8], [-0.8, 0.60, 0.0], [0.48, 0.64, 0.60]])

    class Turned:
        source, id = case.source, case.id
        lesions = tuple(
            types.SimpleNamespace(**{**vars(x), "box": Box(tuple(turn @ x.box.center), x.box.size)}) for x in case.lesions
        )

        def read(self):
            moved = sitk.Image(image)
            moved.SetDirection(turn.ravel())
            moved.SetOrigin(turn @ image.GetOrigin())
            return moved, self.lesions

    def moved(image, case_):
        return [Finding(f.id, Box(tuple(turn @ f.box.center), f.box.size), f.score) for f in perfect(straight_image, case)]

    straight_image = image
    turned, _ = protocol.evaluate_case(Turned(), moved)
    iou = [measure([r], OperatingPoint()).challenge.iou for r in (straight, turned)]
    np.testing.assert_allclose(iou[0], iou[1])


def test_a_box_outside_its_volume_is_refused_with_and_without_its_labels(native):
    case = read_volumes(native, ["test"])[0]
    box = case.lesions[0].box
    wrong = replace(case, lesions=(replace(case.lesions[0], box=replace(box, center=tuple(np.add(box.center, 60)))),))
    for read in (wrong.read, wrong.read_labels):
        with pytest.raises(DataError, match="a lesion's box lies outside the volume"):
            read()


# --- files -----------------------------------------------------------------------------------------------------------


def test_what_is_written(native, tmp_path):
    results = protocol.evaluate(read_volumes(native, ["test"]), perfect)
    protocol.write(tmp_path, results, OperatingPoint(least_score=0.5), {"split": "test"}, samples=FEW)
    record = json.loads((tmp_path / "figures.json").read_text())
    assert record["split"] == "test" and record["data_sets"]["native"]["figures"]["sensitivity"]["value"] == 1
    with (tmp_path / "candidates.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["reported"], r["lesion"]) for r in rows] == [
        ("1", "1"), ("0", ""), ("1", "1"), ("1", "2"), ("0", ""), ("0", ""), ("1", "1"), ("0", ""),
    ]  # fmt: skip
    with (tmp_path / "lesions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["lesion"], r["found"]) for r in rows] == [("1", "1"), ("1", "1"), ("2", "1"), ("1", "1")]
    assert {r["echo_pattern"] for r in rows} == {"hypoechoic"} and all(float(r["iou"]) > 0.5 for r in rows)
    assert "| sensitivity | 1.000 | 1.000 to 1.000 |" in (tmp_path / "figures.md").read_text()
    for name in ("froc", "sensitivity", "roc"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_one_volume_has_no_interval(native, tmp_path):
    """Its figures are written and drawn without one."""
    results = protocol.evaluate(read_volumes(native, ["test"])[1:2], perfect)
    summary = protocol.write(tmp_path, results, OperatingPoint(), {}, samples=FEW)["native"]
    assert summary["figures"]["sensitivity"] == {"value": 1.0, "low": None, "high": None}
    assert "| sensitivity | 1.000 | - |" in (tmp_path / "figures.md").read_text() and (tmp_path / "roc.png").is_file()


def test_one_of_each_is_told_in_the_singular(challenge, tmp_path):
    results = protocol.evaluate(read_volumes(challenge, ["test"])[:1], perfect)
    protocol.write(tmp_path, results, OperatingPoint(most=1), {}, samples=FEW)
    malignant = int(results[0].lesions[0].malignant)
    told = f"1 volume (0 healthy), 1 lesion ({malignant} malignant); 1 finding reported, 1 lesion found, 0 false positives."
    assert told in (tmp_path / "figures.md").read_text()


def test_what_an_earlier_run_left_is_not_shown_as_this_ones(native, challenge, tmp_path, capsys):
    cases = read_volumes(challenge, ["test"])
    submission = protocol.Submission()
    protocol.write(tmp_path, protocol.evaluate(cases, perfect, submission.add), OperatingPoint(), {}, samples=FEW)
    detections, classes = submission.write(tmp_path / "submission")
    assert "(roc.png)" in (tmp_path / "figures.md").read_text() and classes.is_file()
    command = ["evaluate", "detect", "--data", str(challenge), "--bootstrap", str(FEW), "--detections"]
    assert cli.main([*command, str(detections), "--output", str(tmp_path)]) == 2
    assert "submission/detection.csv would be replaced by what is measured of it; choose another --output" in capsys.readouterr().err
    moved = detections.rename(tmp_path / "mine.csv")
    assert cli.main([*command, str(moved), "--output", str(tmp_path)]) == 0
    text = (tmp_path / "figures.md").read_text()
    assert "(froc.png)" in text and "roc.png)" not in text.replace("froc.png)", "") and (tmp_path / "roc.png").is_file()
    assert detections.is_file() and not classes.exists()
    assert cli.main([*command, str(moved), "--data", str(challenge), str(native), "--output", str(tmp_path)]) == 0
    assert not detections.exists() and moved.is_file()


def test_what_fails_is_not_measured_as_missed(native, tmp_path, capsys, monkeypatch):
    """The detection that ships, and a second opinion that fails on its second lesion."""
    from BreastUSAILib import lesion_classification

    calls, whole = [], lesion_classification.malignancies

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise ValueError("a bug")
        return whole(*arguments)

    monkeypatch.setattr(lesion_classification, "malignancies", failing)
    command = ["evaluate", "detect", "--data", str(native), "--device", "cpu", "--bootstrap", str(FEW), "--output", str(tmp_path / "out")]
    assert cli.main(command) == 1
    said = capsys.readouterr().err
    assert "phantom-test-0000000000.nrrd: L2 could not be given a second opinion on malignancy: ValueError: a bug. No figures are written" in said
    assert not (tmp_path / "out" / "figures.json").exists()


def test_several_data_sets_are_told_apart_and_together(native, challenge, tmp_path):
    cases = [*read_volumes(native, ["test"]), *read_volumes(challenge, ["test"])]
    summaries = protocol.write(tmp_path, protocol.evaluate(cases, perfect), OperatingPoint(), {}, samples=FEW)
    assert {name: s["lesions"] for name, s in summaries.items()} == {"native": 4, "challenge": 3, "all": 7}


# --- the challenge's form --------------------------------------------------------------------------------------------


def test_the_boxes_of_the_labels_are_written_as_the_labels_have_them(challenge):
    """A box that is exactly right gives exactly the numbers of bbx_labels.csv: the scorer compares these two."""
    with (challenge / "Test" / "bbx_labels.csv").open(newline="") as stream:
        truth = {row["id"]: [float(v) for k, v in row.items() if k != "id"] for row in csv.DictReader(stream)}
    for case in read_volumes(challenge, ["test"]):
        image, lesions = case.read()
        (row,) = tdsc_submission.detection_rows(case.id, [Finding("L1", lesions[0].box, 0.8)], image)
        assert [float(v) for v in row[1:7]] == pytest.approx(truth[row[0]], abs=1e-4)
        assert float(row[7]) == pytest.approx(0.8 * 0.99)


positive = st.floats(0.3, 2.0)


@settings(max_examples=40, deadline=None)
@given(st.tuples(positive, positive, positive), st.tuples(*[st.floats(-20, 20)] * 3), st.tuples(*[st.floats(2, 30)] * 3))
def test_boxes_come_back_from_the_challenges_form(spacing, centre, size):
    image = sitk.Image(10, 12, 14, sitk.sitkUInt8)
    image.SetSpacing(spacing)
    image.SetOrigin((1.0, -2.0, 3.0))
    image.SetDirection((0.36, 0.48, -0.8, -0.8, 0.60, 0.0, 0.48, 0.64, 0.60))
    back = tdsc_submission.voxels_to_box(tdsc_submission.box_to_voxels(Box(centre, size), image), image)
    assert back.center == pytest.approx(centre, abs=1e-6) and back.size == pytest.approx(size, abs=1e-6)


def test_the_submission_measures_the_same_when_it_is_read_back(challenge, native, tmp_path, capsys):
    cases = read_volumes(challenge, ["test"])
    submission = protocol.Submission()
    results = protocol.evaluate(cases, perfect, submission.add)
    written = submission.write(tmp_path)
    assert [p.name for p in written] == ["detection.csv", "classification.csv"]
    assert written[0].read_text().splitlines()[0] == "public_id,coordX,coordY,coordZ,x_length,y_length,z_length,probability"
    with written[1].open(newline="") as stream:
        classes = {row["case"]: float(row["prob"]) for row in csv.DictReader(stream)}
    assert classes == {str(int(c.id)): 0.9 if c.lesions[0].malignant else 0.1 for c in cases}
    code = cli.main(
        ["evaluate", "detect", "--data", str(challenge), "--detections", str(written[0]), "--output", str(tmp_path / "again")]
        + ["--bootstrap", str(FEW)]
    )
    assert code == 0
    again = json.loads((tmp_path / "again" / "figures.json").read_text())["data_sets"]["challenge"]["figures"]
    direct, _ = summarise(results, OperatingPoint())
    for name in ("sensitivity", "false_positives", "mean_iou", "froc_mean", "froc_any_overlap_0.5"):
        assert again[name]["value"] == pytest.approx(direct["figures"][name]["value"], abs=1e-5)
    assert (tmp_path / "again" / "submission" / "detection.csv").is_file()
    assert not (tmp_path / "again" / "submission" / "classification.csv").exists()
    assert "No submission" not in capsys.readouterr().out
    both = ["--data", str(challenge), str(native), "--output", str(tmp_path / "both")]
    assert cli.main(["evaluate", "detect", *both, "--detections", str(written[0]), "--bootstrap", str(FEW)]) == 0
    assert "No submission/ (TDSC-ABUS) is written of several --data folders" in capsys.readouterr().out
    assert not (tmp_path / "both" / "submission").exists()


def test_nothing_found_is_benign_and_has_no_row(challenge, tmp_path):
    submission = protocol.Submission()
    protocol.evaluate(read_volumes(challenge, ["test"])[:2], lambda i, c: perfect(i, c) if c.id == "130" else [], submission.add)
    submission.write(tmp_path)
    assert [line.split(",")[0] for line in (tmp_path / "detection.csv").read_text().splitlines()] == ["public_id", "130", "130"]
    assert (tmp_path / "classification.csv").read_text().splitlines()[2] == "131,0.000000"


def scorer(truth, rows):
    """What the challenge's scorer does, from its description alone: voxel boxes c +- len / 2, thresholds 0.005 apart, a
    candidate counts for the box that it overlaps most when the IoU is above 0.3, linear interpolation."""

    def iou(a, b):
        common, sizes = 1.0, [1.0, 1.0]
        for axis in range(3):
            low = max(a[axis] - a[axis + 3] / 2, b[axis] - b[axis + 3] / 2)
            high = min(a[axis] + a[axis + 3] / 2, b[axis] + b[axis + 3] / 2)
            common *= max(0.0, high - low)
            sizes = [sizes[0] * a[axis + 3], sizes[1] * b[axis + 3]]
        return common / (sum(sizes) - common)

    points = []
    for threshold in np.arange(0, 1, 0.005):
        hit, alarms = set(), 0
        for public_id, *numbers, probability in rows:
            if probability < threshold:
                continue
            if iou(numbers, truth[public_id]) > 0.3:
                hit.add(public_id)
            else:
                alarms += 1
        points.append((alarms / len(truth), len(hit) / len(truth)))

    def recall_at(key):
        before = max(p for p in points if p[0] <= key)
        after = min((p for p in points if p[0] >= key), default=None)
        if after is None or after[0] == before[0]:
            return before[1]
        return before[1] + (after[1] - before[1]) * (key - before[0]) / (after[0] - before[0])

    return np.mean([recall_at(k) for k in dm.FALSE_POSITIVES])


def test_the_challenges_scorer_agrees_with_our_figure(challenge, tmp_path):
    random = np.random.default_rng(5)

    def unsure(image, case):
        (lesion,) = case.lesions
        return [
            Finding(f"L{i}", Box(tuple(np.add(lesion.box.center, random.normal(0, 2.0, 3))), lesion.box.size), float(score))
            for i, score in enumerate(random.permutation(np.arange(0.02, 1.0, 0.07)))
        ]

    submission = protocol.Submission()
    results = protocol.evaluate(read_volumes(challenge, ["test"]), unsure, submission.add)
    path = submission.write(tmp_path)[0]
    with path.open(newline="") as stream:
        rows = [(r[0], *map(float, r[1:])) for r in list(csv.reader(stream))[1:]]
    with (challenge / "Test" / "bbx_labels.csv").open(newline="") as stream:
        truth = {r["id"]: [float(v) for k, v in r.items() if k != "id"] for r in csv.DictReader(stream)}
    # On the very boxes of both files, which are a voxel shorter than what was found: len is last - first.
    boxes = {public_id: dm.VolumeBoxes(edges([numbers]), edges([]), np.zeros(0)) for public_id, numbers in truth.items()}
    volumes = [
        dm.VolumeBoxes(box.lesions, edges([r[1:7] for r in rows if r[0] == i]), np.array([r[7] for r in rows if r[0] == i]))
        for i, box in boxes.items()
    ]
    expected = scorer(truth, rows)
    assert 0.2 < expected < 1 and dm.froc(dm.match(volumes, dm.CHALLENGE_IOU)).score == pytest.approx(expected)
    # In millimetres, from edge to edge, the figure is the same but for candidates right at the limit.
    ours = measure(results, OperatingPoint()).challenge
    assert (ours.lesion >= 0).sum() == pytest.approx((dm.match(volumes, dm.CHALLENGE_IOU).lesion >= 0).sum(), rel=0.2)


def edges(rows):
    """Centres and lengths as low and high edges."""
    rows = np.array(rows, float).reshape(-1, 6)
    return np.c_[rows[:, :3] - rows[:, 3:] / 2, rows[:, :3] + rows[:, 3:] / 2]


def test_detections_of_two_data_sets_with_the_same_ids_are_refused(challenge, tmp_path, capsys):
    """One row would be counted in each of the data sets."""
    other = make(tmp_path / "other", "tdsc-abus", [1, 1])
    (tmp_path / "d.csv").write_text(f"{','.join(tdsc_submission.COLUMNS)}\n130,10,12,8,15,15,7,0.9\n")
    command = ["evaluate", "detect", "--detections", str(tmp_path / "d.csv"), "--bootstrap", str(FEW), "--output", str(tmp_path / "out")]
    assert cli.main([*command, "--data", str(challenge), str(other)]) == 2
    said = capsys.readouterr().err
    assert "challenge and other both have a volume 130, and " in said and "measure one --data at a time" in said
    assert not (tmp_path / "out").exists()
    assert cli.main([*command, "--data", str(other)]) == 0


def test_ids_that_are_no_volume_are_told(challenge, tmp_path, capsys):
    """A misspelt id would be a lesion that was missed."""
    title, numbers = ",".join(tdsc_submission.COLUMNS), "10,12,8,15,15,7,0.9"

    def run(*ids):
        (tmp_path / "d.csv").write_text("\n".join([title, *(f"{i},{numbers}" for i in ids)]))
        command = ["evaluate", "detect", "--data", str(challenge), "--detections", str(tmp_path / "d.csv"), "--bootstrap", str(FEW)]
        assert cli.main([*command, "--output", str(tmp_path / "out")]) == 0
        return capsys.readouterr().out, *((tmp_path / "out" / name).read_text() for name in ("figures.md", "figures.json"))

    for told in run("130", "131", "999", "999"):
        assert "d.csv names 1 volume that is not measured here (999), whose rows do not count." in told
    for told in run("130", *range(140, 160)):
        assert "d.csv names 20 volumes that are not measured here (140, 141, " in told and "149, ...), whose rows do not count." in told
    said, text, kept = run("130", "131")
    assert "Note:" not in said and "Note:" not in text and json.loads(kept)["notes"] == []


def test_detections_that_cannot_be_meant_are_told(challenge, tmp_path, capsys):
    def run(text, *more):
        (tmp_path / "d.csv").write_text(text)
        command = ["evaluate", "detect", "--data", str(challenge), "--detections", str(tmp_path / "d.csv"), "--bootstrap", str(FEW)]
        code = cli.main([*command, "--output", str(tmp_path / "out"), *more])
        return code, capsys.readouterr().err

    title = ",".join(tdsc_submission.COLUMNS)
    assert run("a,b\n1,2\n")[1].rstrip().endswith("lacks the columns " + ", ".join(tdsc_submission.COLUMNS) + ".")
    for row, words in (("130,1,2,3,4,5,x,0.5", "line 2"), ("130,1,2,3,4,5,6,1.5", "line 2"), ("7,1,2,3,4,5,6,0.5", "names none")):
        code, said = run(f"{title}\n{row}\n")
        assert code == 1 and words in said
    assert "d.csv does not read as a table" in run(f'{title}\n"130' + 140000 * "x")[1]
    assert run(title + "\n")[0] == 0  # a detector that found nothing
    for more in (["--model", "x"], ["--most", "0"], ["--least-score", "2"], ["--spacing", "0", "1", "1"], ["--limit", "0"]):
        assert run(title + "\n", *more)[0] == 2
    assert not [p for p in tmp_path.rglob("*") if ".tmp" in p.name]


def test_a_model_folder_goes_through_the_command(native, tmp_path, capsys):
    """The real network with the weights that training begins with: it finds little, but every step is the real one."""
    torch = pytest.importorskip("torch")
    from BreastUSAILib.models.folder import save_model
    from BreastUSAILib.networks.detection import COMPACT, DetectionNetwork

    torch.manual_seed(0)
    config = {"id": "untrained", "version": "1", "task": "detect", "network": "detection.DetectionNetwork"}
    config |= {"arguments": COMPACT, "preprocessing": {"dimension": 3, "spacing": [1.0, 1.0, 1.0]}}
    model = save_model(tmp_path / "model", DetectionNetwork(**COMPACT), {**config, "postprocessing": {"threshold": 0.6}})
    command = ["evaluate", "detect", "--data", str(native), "--model", str(model), "--device", "cpu"]
    assert cli.main([*command, "--output", str(tmp_path / "out"), "--bootstrap", str(FEW), "--limit", "2"]) == 0
    record = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert record["operating_point"] == {"least_score": 0.6, "most": None} and record["models"][0]["id"] == "untrained"
    summary = record["data_sets"]["native"]
    assert (summary["volumes"], summary["lesions"], summary["reported"]) == (2, 3, 0) and summary["candidates"] > 0
    assert "| sensitivity | 0.000 |" in capsys.readouterr().out
    assert record["notes"] == []
    note = "untrained has learnt from the split test of nothing."
    with pytest.MonkeyPatch.context() as patch:  # what it says is tested where it is made
        patch.setattr(protocol, "notes_on_known_volumes", lambda models, cases: [note] if [m["id"] for m in models] == ["untrained"] and cases else [])
        code = cli.main([*command, "--output", str(tmp_path / "more"), "--bootstrap", str(FEW), "--limit", "2", "--least-score", "0"])
    assert code == 0 and f"Note: {note}" in capsys.readouterr().out
    assert f"Note: {note}" in (tmp_path / "more" / "figures.md").read_text()
    record = json.loads((tmp_path / "more" / "figures.json").read_text())
    assert record["data_sets"]["native"]["reported"] == record["data_sets"]["native"]["candidates"] == summary["candidates"]


def test_without_a_model_the_command_says_what_to_do(native, tmp_path, capsys):
    from BreastUSAILib.models import catalog

    if any(entry.task == "detect" for entry in catalog.entries()):
        pytest.skip("a detection model is installed")
    assert cli.main(["evaluate", "detect", "--data", str(native), "--output", str(tmp_path)]) == 1
    assert "No detection model is installed; train one" in capsys.readouterr().err
