"""Data sets of phantoms on disk, in both layouts, with phantoms made by hand."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import hand_made_phantom
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from BreastUSAILib.errors import BreastUSAIError, DataError, OutputError, PhantomError
from BreastUSAILib.phantom import layouts, seeds, tdsc_abus
from BreastUSAILib.phantom.batch import Batch, make_batch, share
from BreastUSAILib.phantom.grids import PhantomGrid
from BreastUSAILib.phantom.records import GENERATOR, VolumeRecord, read_records, voxel_sum
from BreastUSAILib.phantom.spec import LesionRequest, PhantomSpec

GRID = PhantomGrid((64, 24, 32), (0.5, 0.5, 0.6), top=3.0, whole=False)
SPEC = PhantomSpec(grid=GRID, lesions=2)
ONE = PhantomSpec(grid=GRID)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def make(folder, generate=hand_made_phantom.generate, **options):
    settings = {"numbers": {"train": 3}, "seed": 1, "spec": SPEC, **options}
    return make_batch(Batch(folder, **settings), generate=generate)


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    folder = tmp_path_factory.mktemp("native") / "set"
    make(folder, numbers={"train": 2, "test": 1})
    return folder


@pytest.fixture(scope="module")
def challenge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tdsc") / "set"
    make(folder, layout="tdsc-abus", numbers={"train": 2, "validation": 1, "test": 1}, spec=ONE)
    return folder


# ----------------------------------------------------------------------------------------------------------- native


def test_a_native_data_set_has_these_files(native):
    names = ["phantom-test-2000100000", "phantom-train-0000100000", "phantom-train-0000100001"]
    expected = {"phantom.json", "labels.csv", "lesions.csv"}
    expected |= {f"{folder}/{n}.nrrd" for folder in ("volumes", "labels") for n in names}
    expected |= {f"records/{n}.json" for n in names}
    assert {p.relative_to(native).as_posix() for p in native.rglob("*") if p.is_file()} == expected


def test_records_are_what_was_made(native):
    records = layouts.read_native(native)
    assert [r.split for r in records] == ["test", "train", "train"]
    for record in records:
        phantom = hand_made_phantom.generate(record.seed, SPEC)
        assert record.lesions == phantom.lesions and record.facts == phantom.facts
        assert seeds.split_of(record.seed) == record.split
        image, labels = sitk.ReadImage(str(record.image)), sitk.ReadImage(str(record.labels))
        assert (record.size, record.spacing) == (GRID.size, GRID.spacing)
        for read, made in ((image, phantom.image), (labels, phantom.labels)):
            assert read.GetPixelID() == sitk.sitkUInt8
            assert read.GetSize() == made.GetSize() and read.GetDirection() == made.GetDirection()
            np.testing.assert_allclose(read.GetSpacing() + read.GetOrigin(), made.GetSpacing() + made.GetOrigin())
            np.testing.assert_array_equal(sitk.GetArrayViewFromImage(read), sitk.GetArrayViewFromImage(made))
        assert record.sha256 == {"image": voxel_sum(image), "labels": voxel_sum(labels)}
        assert VolumeRecord.from_json(record.to_json(native), native, "it") == record
    assert [r.name for r in layouts.read_native(native, ["test"])] == ["phantom-test-2000100000"]


def test_another_generators_lesions_need_no_posterior(tmp_path):
    make(tmp_path)
    path = sorted((tmp_path / "records").glob("*.json"))[0]
    values = json.loads(path.read_text())
    values["lesions"] = [{**lesion, "posterior": None, "category": None} for lesion in values["lesions"]]
    path.write_text(json.dumps(values))
    record = layouts.read_native(tmp_path)[0]
    assert [(lesion.posterior, lesion.category) for lesion in record.lesions] == [(None, None)] * 2
    assert VolumeRecord.from_json(record.to_json(tmp_path), tmp_path, "it") == record
    layouts.write_tables("native", tmp_path)
    assert [bool(row["posterior"] or row["category"]) for row in rows(tmp_path / "lesions.csv")] == [False] * 2 + [True] * 4


def test_volumes_are_compressed(native):
    assert all(b"encoding: gzip" in p.read_bytes()[:2000] for p in native.glob("*/*.nrrd"))


def test_tables_say_the_same_as_the_records(native):
    records = {r.name: r for r in read_records(native)}
    volumes = rows(native / "labels.csv")
    assert [v["name"] for v in volumes] == sorted(records)
    for row in volumes:
        record = records[row["name"]]
        assert native / row["image"] == record.image and native / row["labels"] == record.labels
        assert int(row["seed"]) == record.seed and int(row["lesions"]) == len(record.lesions) == 2
        assert row["density"] == "b" and float(row["acquisition_dynamic_range_db"]) == 60
    lesions = rows(native / "lesions.csv")
    assert len(lesions) == 6
    for row in lesions:
        lesion = records[row["name"]].lesions[int(row["label"]) - 1]
        assert tuple(float(row[f"centre_mm_{a}"]) for a in "xyz") == lesion.centre
        assert tuple(float(row[f"size_mm_{a}"]) for a in "xyz") == lesion.size
        assert tuple(int(row[f"first_{a}"]) for a in "xyz") == lesion.first
        assert tuple(int(row[f"last_{a}"]) for a in "xyz") == lesion.last
        assert (row["malignant"] == "1") == lesion.malignant and row["category"] == lesion.category
        assert float(row["volume_ml"]) == lesion.volume_ml and row["margin"] == lesion.descriptors.margin
    about = json.loads((native / "phantom.json").read_text())
    assert about["volumes"] == {"train": 2, "validation": 0, "test": 1} and about["lesions"] == 6
    assert about["settings"] == [json.loads(json.dumps(SPEC.to_dict()))] and about["layout"] == "native"
    assert "never for clinical use" in about["about"]


def test_damaged_records_and_missing_files_are_told(tmp_path):
    make(tmp_path)
    with pytest.raises(DataError, match="no phantoms for test"):
        layouts.read_native(tmp_path, ["test"])
    record = tmp_path / "records" / "phantom-train-0000100000.json"
    for damage in ("", "{", "[]", '{"schema": "other"}', record.read_text().replace('"size"', '"sise"')):
        record.write_text(damage)
        with pytest.raises(DataError, match="000100000.json is no record of a phantom"):
            layouts.read_native(tmp_path)
    assert make(tmp_path).made == 1
    (tmp_path / "labels" / "phantom-train-0000100002.nrrd").unlink()
    with pytest.raises(DataError, match="000100002.nrrd is missing"):
        layouts.read_native(tmp_path)
    assert make(tmp_path).made == 1 and len(layouts.read_native(tmp_path)) == 3


# ------------------------------------------------------------------------------------------------------ the challenge


def test_a_data_set_like_the_challenges_has_these_files(challenge):
    cases = {"Train": (0, 1), "Validation": (100,), "Test": (130,)}
    expected = {"phantom.json", "lesions.csv"}
    for part, ids in cases.items():
        expected |= {f"{part}/labels.csv", f"{part}/bbx_labels.csv"}
        expected |= {f"{part}/{kind}/{kind}_{i:03d}.nrrd" for i in ids for kind in ("DATA", "MASK")}
        expected |= {f"records/{i:03d}.json" for i in ids}
    assert {p.relative_to(challenge).as_posix() for p in challenge.rglob("*") if p.is_file()} == expected
    for split, part in tdsc_abus.FOLDERS.items():
        assert {int(i) in tdsc_abus.IDS[split] for i in cases[part]} == {True}


def test_its_tables_are_the_challenges(challenge):
    text = (challenge / "Train" / "labels.csv").read_text().splitlines()
    assert text[0] == "case_id,label,data_path,mask_path"
    assert text[1:] == [r"0,M,DATA\DATA_000.nrrd,MASK\MASK_000.nrrd", r"1,B,DATA\DATA_001.nrrd,MASK\MASK_001.nrrd"] or (
        text[1:] == [r"0,B,DATA\DATA_000.nrrd,MASK\MASK_000.nrrd", r"1,M,DATA\DATA_001.nrrd,MASK\MASK_001.nrrd"]
    )
    for part in tdsc_abus.FOLDERS.values():
        for row in rows(challenge / part / "bbx_labels.csv"):
            assert list(row) == ["id", "c_x", "c_y", "c_z", "len_x", "len_y", "len_z"]
            # As its scorer reads it: numpy order, both ends included.
            mask = sitk.ReadImage(str(challenge / part / "MASK" / f"MASK_{int(row['id']):03d}.nrrd"))
            assert mask.GetSpacing() == (1.0, 1.0, 1.0) and mask.GetOrigin() == (0.0, 0.0, 0.0)
            assert mask.GetPixelID() == sitk.sitkUInt8
            where = np.argwhere(sitk.GetArrayViewFromImage(mask))
            for axis, name in enumerate("xyz"):
                centre, length = float(row[f"c_{name}"]), float(row[f"len_{name}"])
                assert (centre - length / 2, centre + length / 2) == (where[:, axis].min(), where[:, axis].max())


def test_reading_it_gives_the_truth_in_the_files_axes(challenge):
    cases = tdsc_abus.read_tdsc_abus(challenge)
    records = {int(r.name): r for r in read_records(challenge)}
    assert [c.case_id for c in cases] == [0, 1, 100, 130]
    for case in cases:
        (lesion,) = records[case.case_id].lesions
        assert (case.first, case.last, case.malignant) == (lesion.first, lesion.last, lesion.malignant)
        assert case.spacing == GRID.spacing and case.size == GRID.size
        np.testing.assert_allclose(case.size_mm, lesion.size)
        image, mask = case.read()
        assert image.GetSpacing() == GRID.spacing == mask.GetSpacing()
        # As `read` places it the first voxel's corner is at 0; the phantom was cut from 3 mm below the skin.
        np.testing.assert_allclose(case.centre_mm, np.array(lesion.centre) - (0, GRID.top, 0))
        where = sitk.LabelShapeStatisticsImageFilter()
        where.Execute(mask)
        assert tuple(where.GetBoundingBox(1)[:3]) == case.first
        centre = mask.TransformContinuousIndexToPhysicalPoint([(a + b) / 2 for a, b in zip(case.first, case.last, strict=True)])
        np.testing.assert_allclose(centre, case.centre_mm)


def test_the_challenges_own_example():
    """Case 100 as published: lateral 163-465, depth 58-426, slice 153-225."""
    assert tdsc_abus.row_to_box((189, 242, 314), (72, 368, 302)) == ((163, 58, 153), (465, 426, 225))
    assert tdsc_abus.box_to_row((163, 58, 153), (465, 426, 225)) == (189, 242, 314, 72, 368, 302)


voxel = st.tuples(*[st.integers(0, 900)] * 3)


@given(voxel, st.tuples(*[st.integers(0, 400)] * 3))
def test_boxes_come_back_from_the_table_also_with_rounded_centres(first, length):
    last = tuple(a + n for a, n in zip(first, length, strict=True))
    row = [float(f"{value:g}") for value in tdsc_abus.box_to_row(first, last)]
    assert tdsc_abus.row_to_box(row[:3], row[3:]) == (first, last)
    assert tdsc_abus.row_to_box([int(c) for c in row[:3]], row[3:]) == (first, last)


@given(st.data())
def test_tables_equal_the_label_maps_box(data):
    """Any label map, through the files' text, gives the box that numpy finds in it."""
    shape = data.draw(st.tuples(*[st.integers(1, 12)] * 3))
    voxels = data.draw(st.sets(st.tuples(*[st.integers(0, n - 1) for n in shape]), min_size=1, max_size=8))
    array = np.zeros(shape, np.uint8)
    array[tuple(zip(*voxels, strict=True))] = 1
    labels = hand_made_phantom.on_grid(array, GRID)
    truth = hand_made_phantom.truth_of(labels, 1, True)
    folder = Path("folder").absolute()
    image, mask = (folder / p for p in tdsc_abus.file_names("test", 131))
    grid = (labels.GetSize(), labels.GetSpacing(), labels.GetOrigin())
    record = VolumeRecord("131", 0, "test", image, mask, *grid, (truth,), {}, {}, {})
    tables = tdsc_abus.tables([record])
    assert tables["labels.csv"][1] == ["131", "M", r"DATA\DATA_131.nrrd", r"MASK\MASK_131.nrrd"]
    centre_and_length = np.array([float(text) for text in tables["bbx_labels.csv"][1][1:]])
    where = np.argwhere(array)
    np.testing.assert_array_equal(centre_and_length[:3] - centre_and_length[3:] / 2, where.min(axis=0))
    np.testing.assert_array_equal(centre_and_length[:3] + centre_and_length[3:] / 2, where.max(axis=0))


def test_real_data_has_no_records_and_a_placeholder_for_spacing(challenge, tmp_path):
    """Without our records the challenge's spacing holds; a header that was mended is believed; the caller has the last word."""
    import shutil

    shutil.copytree(challenge / "Validation", tmp_path / "Validation")
    (case,) = tdsc_abus.read_tdsc_abus(tmp_path)
    assert case.spacing == tdsc_abus.SPACING and case.split == "validation"
    (given_,) = tdsc_abus.read_tdsc_abus(tmp_path, spacing_mm=(0.3, 0.1, 0.5))
    assert given_.spacing == (0.3, 0.1, 0.5)
    image = sitk.ReadImage(str(case.image))
    image.SetSpacing((0.2, 0.08, 0.5))
    sitk.WriteImage(image, str(case.image), True)
    (mended,) = tdsc_abus.read_tdsc_abus(tmp_path)
    np.testing.assert_allclose(mended.spacing, (0.2, 0.08, 0.5))
    assert mended.read()[0].GetSpacing() == mended.spacing
    # One copy of the data has its titles in capitals.
    table = tmp_path / "Validation" / "labels.csv"
    table.write_text(table.read_text().replace("case_id,label,data_path", "Case_id,Label,Data_path"))
    assert tdsc_abus.read_tdsc_abus(tmp_path) == [mended]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("bbx_labels.csv", "c_x", "cx", "lacks the columns c_x"),
        ("labels.csv", ",M,", ",X,", "line 2: the label is 'X'; it must be M or B"),
        ("labels.csv", "DATA_100", "DATA_101", "DATA_101.nrrd is missing"),
        ("bbx_labels.csv", "\n100,", "\n101,", "no box for case 100"),
        ("bbx_labels.csv", "\n100,", "\n1e2,-", "does not lie in the volume"),
        ("bbx_labels.csv", "\n100,", "\n100,x", "is not a number"),
        ("bbx_labels.csv", "\n100,", "\n100\n", "line 2: there are 1 values for 7 columns"),
        ("labels.csv", "\n100,", "\n100.5,", "not a whole number"),
        ("bbx_labels.csv", "\n100,", '\n"100,' + 140000 * "x", "bbx_labels.csv does not read as a table"),
        ("bbx_labels.csv", "\n100,", "\n100,9,9,9,2,2,2\n100,", "bbx_labels.csv, line 3: case 100 has a box already"),
        ("labels.csv", "\n100,", "\n100,B,DATA\\DATA_100.nrrd,MASK\\MASK_100.nrrd\n100,", "labels.csv, line 3: case 100 is listed already"),
    ],
)
def test_tables_that_do_not_read_are_told(challenge, tmp_path, file, old, new, message):
    import shutil

    shutil.copytree(challenge / "Validation", tmp_path / "Validation")
    table = tmp_path / "Validation" / file
    text = table.read_text().replace(",B,", ",M,")
    assert old in text
    table.write_text(text.replace(old, new))
    with pytest.raises(DataError, match=message):
        tdsc_abus.read_tdsc_abus(tmp_path)


def test_a_table_in_another_encoding_is_told_as_such(challenge, tmp_path):
    import shutil

    shutil.copytree(challenge / "Validation", tmp_path / "Validation")
    table = tmp_path / "Validation" / "bbx_labels.csv"
    table.write_bytes(table.read_text().encode("utf-16"))
    with pytest.raises(DataError, match=r"bbx_labels.csv is not in UTF-8 \(byte 0\); save it as CSV UTF-8"):
        tdsc_abus.read_tdsc_abus(tmp_path)


def test_axes_in_another_order_are_told_as_such(challenge, tmp_path):
    import shutil

    shutil.copytree(challenge / "Validation", tmp_path / "Validation")
    table = tmp_path / "Validation" / "bbx_labels.csv"
    table.write_text("id,c_x,c_y,c_z,len_x,len_y,len_z\n100,50,12,10,6,6,6\n")
    with pytest.raises(DataError, match="it would with its columns in the order x, y, z, but TDSC-ABUS has them as slice"):
        tdsc_abus.read_tdsc_abus(tmp_path)


def test_what_is_no_challenge_is_told(tmp_path):
    with pytest.raises(DataError, match="holds no case of train, validation, test"):
        tdsc_abus.read_tdsc_abus(tmp_path)
    with pytest.raises(DataError, match="has no split 'Train'"):
        tdsc_abus.read_tdsc_abus(tmp_path, ["Train"])
    (tmp_path / "Test").mkdir()
    with pytest.raises(DataError, match=r"bbx_labels\.csv is missing"):
        tdsc_abus.read_tdsc_abus(tmp_path)


@pytest.mark.parametrize("lesions", [0, 2, (), (LesionRequest(), LesionRequest())])
def test_the_challenge_has_one_lesion_a_volume(tmp_path, lesions):
    with pytest.raises(PhantomError, match="exactly one lesion, not [02]"):
        Batch(tmp_path, {"train": 1}, spec=replace(ONE, lesions=lesions), layout="tdsc-abus")
    assert not any(tmp_path.iterdir())


def test_the_challenge_has_two_hundred_volumes(tmp_path):
    assert share(200, "tdsc-abus", None) == {"train": 100, "validation": 30, "test": 70}
    assert share(1, "tdsc-abus", None) == {"train": 1}
    assert share(31, "tdsc-abus", "test") == {"test": 31} and share(7, "native", None) == {"train": 7}
    with pytest.raises(PhantomError, match="200 volumes, not 201"):
        share(201, "tdsc-abus", None)
    with pytest.raises(PhantomError, match="30 volumes for validation, ids 100 to 129, not 31"):
        Batch(tmp_path, {"validation": 31}, layout="tdsc-abus")


@given(st.integers(1, 200))
def test_all_are_dealt_out_and_no_split_gets_more_than_it_has(number):
    parts = share(number, "tdsc-abus", None)
    assert sum(parts.values()) == number
    assert all(0 < n <= len(tdsc_abus.IDS[split]) for split, n in parts.items())


# ------------------------------------------------------------------------------------------------------------ resume


def stamps(folder):
    return {p: p.stat().st_mtime_ns for p in folder.glob("*/*") if p.is_file()}


def test_what_is_there_is_not_made_again(tmp_path):
    make(tmp_path)
    before = stamps(tmp_path)
    log = []
    result = make_batch(Batch(tmp_path, {"train": 4}, 1, SPEC), log=log.append, generate=hand_made_phantom.generate)
    assert (result.made, result.skipped, len(result.records)) == (1, 3, 4)
    assert log == ["3 of 4 volumes are there already; --overwrite makes them again."]
    assert before.items() <= stamps(tmp_path).items() and len(rows(tmp_path / "labels.csv")) == 4
    again = make(tmp_path, overwrite=True)
    assert (again.made, again.skipped) == (3, 0) and stamps(tmp_path) != before


def test_other_settings_in_the_same_folder_are_refused(tmp_path):
    make(tmp_path)
    before = stamps(tmp_path)
    with pytest.raises(PhantomError, match=r"0000100000\.nrrd was made with another density; choose another folder"):
        make(tmp_path, spec=replace(SPEC, density="d"))
    with pytest.raises(PhantomError, match="holds phantoms in the layout native"):
        make(tmp_path, spec=ONE, layout="tdsc-abus")
    assert stamps(tmp_path) == before
    assert make(tmp_path, spec=replace(SPEC, density="d"), overwrite=True).records[0].facts["density"] == "d"
    # Other volumes may have other settings; phantom.json lists both.
    make(tmp_path, seed=2)
    assert len(json.loads((tmp_path / "phantom.json").read_text())["settings"]) == 2


def test_volumes_of_different_versions_are_not_mixed(tmp_path):
    make(tmp_path)
    path = min((tmp_path / "records").glob("*.json"))
    record = json.loads(path.read_text())
    assert record.pop("generator") == GENERATOR  # the first version did not say which it was
    path.write_text(json.dumps(record))
    assert [r.generator for r in read_records(tmp_path)] == [1, GENERATOR, GENERATOR]
    for more in ({}, {"seed": 2}, {"seed": 2, "overwrite": True}):
        with pytest.raises(PhantomError, match="holds phantoms of another version of the generator"):
            make(tmp_path, **more)
    assert {r.generator for r in make(tmp_path, overwrite=True).records} == {GENERATOR}
    assert json.loads((tmp_path / "phantom.json").read_text())["generators"] == [GENERATOR]


def test_another_seed_under_the_same_case_id_is_refused(tmp_path):
    make(tmp_path, spec=ONE, layout="tdsc-abus")
    with pytest.raises(PhantomError, match="made with another seed"):
        make(tmp_path, spec=ONE, layout="tdsc-abus", seed=2)


def test_several_processes_make_the_same(tmp_path, native):
    result = make(tmp_path, numbers={"train": 2, "test": 1}, jobs=2)
    assert result.made == 3 and not result.failures
    assert [r.sha256 for r in result.records] == [r.sha256 for r in read_records(native)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_that_cannot_be_made_does_not_stop_the_others(tmp_path, jobs):
    result = make(tmp_path, hand_made_phantom.generate_but_odd_seeds, jobs=jobs)
    assert result.made == 2 and len(result.records) == 2
    assert result.failures == (
        "phantom-train-0000100001 (seed 100001): A lesion of 18 cm3 cannot fit; ask for a smaller one.",
    )


@pytest.mark.parametrize("jobs, cure", [(1, "close other programs, or make smaller volumes."), (2, "run with fewer --jobs, or make smaller volumes.")])
def test_too_little_memory_is_told_with_what_helps(tmp_path, jobs, cure):
    result = make(tmp_path, hand_made_phantom.generate_without_memory, numbers={"train": 2}, jobs=jobs)
    assert sorted(result.failures) == [f"phantom-train-000010000{n} needs more memory than there is; {cure}" for n in (0, 1)]


def test_cancel_keeps_what_was_made(tmp_path):
    def cancel(fraction, message):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_batch(Batch(tmp_path, {"train": 3}, 1, SPEC), cancel, generate=hand_made_phantom.generate)
    assert len(rows(tmp_path / "labels.csv")) == len(layouts.read_native(tmp_path)) == 1
    assert make(tmp_path).skipped == 1


def test_progress_rises_to_one(tmp_path):
    told = []
    make_batch(Batch(tmp_path, {"train": 3}, 1, SPEC), lambda *p: told.append(p), generate=hand_made_phantom.generate)
    assert [f for f, _ in told] == pytest.approx([1 / 3, 2 / 3, 1]) and told[0][1] == "phantom-train-0000100000: made"


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_a_killed_run_loses_one_volume_at_most(tmp_path):
    code = f"""
import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[2])!r}]
from test_phantom_layouts import make
make({str(tmp_path)!r}, numbers={{"train": 1000}})
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        for _ in range(600):
            time.sleep(0.05)
            if len(list(tmp_path.glob("records/[!.]*.json"))) >= 3:
                break
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    (tmp_path / "records" / ".tmp-0123456789ab.json").write_text('{"half a rec')  # where the kill may strike
    done = len(read_records(tmp_path))
    assert done >= 3 and len(list(tmp_path.glob("volumes/phantom*"))) - done in (0, 1)
    result = make(tmp_path, numbers={"train": done + 1})
    assert (result.made, result.skipped) == (1, done)
    assert all(voxel_sum(sitk.ReadImage(str(r.image))) == r.sha256["image"] for r in result.records)


# ------------------------------------------------------------------------------------------------------------- disks


def test_a_file_in_the_way_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a part of the path is a file"):
        make(tmp_path / "file" / "set")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "volumes").write_text("")
    with pytest.raises(OutputError, match="a part of the path is a file|folder of that name"):
        make(tmp_path / "set")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of resources are POSIX")
def test_a_full_disk_ends_the_run_with_one_sentence(tmp_path):
    """What was finished before stays, and nothing half is left."""
    with pytest.raises(OutputError, match=r"phantom-train-0000\d+\.nrrd cannot be written: "):
        make(tmp_path, hand_made_phantom.generate_until_the_disk_is_full, numbers={"train": 9}, jobs=2)
    assert all(voxel_sum(sitk.ReadImage(str(r.image))) == r.sha256["image"] for r in read_records(tmp_path))
    assert not list(tmp_path.rglob(".tmp-*")) and (tmp_path / "labels.csv").is_file()
    assert len(make(tmp_path, numbers={"train": 9}).records) == 9


@pytest.mark.skipif(sys.platform == "win32", reason="names of files are text there")
def test_a_folder_whose_name_is_no_text_is_told(tmp_path):
    with pytest.raises(PhantomError, match="not valid UTF-8"):
        Batch(tmp_path / os.fsdecode(b"\xff"), {"train": 1})


def test_a_damaged_phantom_json_is_told(tmp_path):
    make(tmp_path)
    (tmp_path / "phantom.json").write_text("{")
    with pytest.raises(BreastUSAIError, match=r"phantom\.json does not read as a data set"):
        make(tmp_path)
