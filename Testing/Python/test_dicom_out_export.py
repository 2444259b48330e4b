"""`breastusai export`: the results of one patient never go to another, and what was not asked for stays."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("highdicom", reason="highdicom is not installed (extra `dicom`)")
import dicom_samples as samples  # noqa: E402
import pydicom  # noqa: E402
from dicom_studies import load, study_of, volume, write_kind  # noqa: E402

from BreastUSAILib import analysed, cli, dicom_out, files  # noqa: E402
from BreastUSAILib.dicom_out import anonymize, pdf, seg, source, sr  # noqa: E402
from BreastUSAILib.identity import identity, pixels_digest  # noqa: E402

LATER = "2026-11-22T10:00:00+00:00"


def finished(path: Path, folder: Path, *, pixels: bool = True, **provenance) -> Path:
    """A finished study of a file or a series, with the checksums that a run keeps; without that of the pixels as older versions made it."""
    loaded = load(path)
    kept = identity(loaded.path, loaded.files) | ({"pixels_sha256": pixels_digest(loaded.image)} if pixels else {})
    study = study_of(loaded)
    files.write_study(replace(study, provenance={**study.provenance, "input": kept, **provenance}), folder)
    return folder


def another(path: Path, target: Path, *, same_pixels: bool = False, **header) -> Path:
    """A file with another header, as a PACS or another patient's has it; and other pixels, unless it shows the same image."""
    ds = pydicom.dcmread(path)
    for keyword, value in header.items():
        setattr(ds, keyword, value)
    if not same_pixels:
        ds.PixelData = np.ascontiguousarray(ds.pixel_array[..., ::-1, ::-1]).tobytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(target)
    return target


def exported(folder: Path, *options: object) -> int:
    return cli.main(["export", str(folder), *map(str, options)])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} & set(dicom_out.FILES)


# ------------------------------------------------------------------------------------------------- the analysed file


@pytest.mark.parametrize("option", ["--dicom-sr", "--dicom-seg", "--dicom-report", "--fhir", "--anonymize"])
@pytest.mark.parametrize("kind", ["image", "abvs"])
@pytest.mark.parametrize("pixels", [True, False])
def test_another_patient_s_file_of_the_same_size_is_refused(tmp_path, capsys, kind, option, pixels):
    path = write_kind(kind, tmp_path)
    folder = finished(path, tmp_path / "results" / kind, pixels=pixels)
    other = another(path, tmp_path / "other.dcm", PatientID="OTHER", SOPInstanceUID="1.2.3")
    assert exported(folder, "--source", other, option, "-o", tmp_path / "o") == 1
    told = capsys.readouterr().err
    for word in (str(other), identity(other)["sha256"][:12], str(path), identity(path)["sha256"][:12], "--source", "--other-file"):
        assert word in told
    assert told.count("\n") == 1 and not (tmp_path / "o").exists()
    shutil.copyfile(other, path)  # the next CD has files of the same names
    assert exported(folder, option, "-o", tmp_path / "o") == 1
    told = capsys.readouterr().err
    assert f"{path} was changed or replaced since it was analysed" in told and "--source" in told and not (tmp_path / "o").exists()


def test_what_the_user_vouches_for_is_taken_and_noted(tmp_path, capsys):
    path = write_kind("cine", tmp_path)
    folder = finished(path, tmp_path / "cine", pixels=False)
    copy = another(path, tmp_path / "copy.dcm", same_pixels=True, PatientID="X7")
    assert exported(folder, "--source", copy, "--dicom-report") == 1  # made by an older version: nobody knows
    assert exported(folder, "--source", copy, "--dicom-report", "--other-file") == 0
    assert f"Note: {analysed.OTHER_FILE}." in capsys.readouterr().out
    written = pydicom.dcmread(folder / dicom_out.REPORT)
    assert written.PatientID == "X7"
    assert exported(folder, "--source", copy, "--other-file", "--anonymize", "-o", tmp_path / "share") == 0
    (made,) = (tmp_path / "share").iterdir()
    assert analysed.OTHER_FILE in files.read_study(made).provenance["notes"]
    assert analysed.OTHER_FILE not in files.read_study(folder).provenance["notes"]
    capsys.readouterr()
    assert exported(folder, "--source", path, "--dicom-report", "--other-file", "-o", tmp_path / "o") == 0  # it is the file
    assert analysed.OTHER_FILE not in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["image", "cine", "abvs", "ge_abus", "enhanced", "screen"])
def test_a_copy_with_another_header_is_known_by_its_pixels(tmp_path, capsys, kind):
    path = write_kind(kind, tmp_path)
    folder = finished(path, tmp_path / "results" / kind)
    copy = another(path, tmp_path / "archive" / "1.dcm", same_pixels=True, InstitutionName="PACS", PatientID="NEW")
    assert identity(copy)["sha256"] != identity(path)["sha256"]
    assert exported(folder, "--source", copy, "--dicom-sr", "--fhir") == 0, capsys.readouterr().err
    assert "Note:" not in capsys.readouterr().out
    assert pydicom.dcmread(folder / dicom_out.SR).PatientID == "NEW"
    assert exported(folder, "--source", copy, "--anonymize", "-o", tmp_path / "share") == 0


def test_the_files_of_a_series_are_known_wherever_they_lie_and_whatever_they_are_called(tmp_path, capsys):
    path = write_kind("series", tmp_path)
    folder = finished(path, tmp_path / "results" / "series")
    assert exported(folder, "--dicom-sr") == 0
    moved = path.rename(tmp_path / "elsewhere")
    assert exported(folder, "--dicom-sr") == 1 and "--source" in capsys.readouterr().err
    assert exported(folder, "--dicom-sr", "--source", moved) == 0
    assert exported(folder, "--dicom-sr", "--source", moved / "0.dcm") == 0
    for file in list(moved.iterdir()):
        file.rename(moved / f"IM{9 - int(file.stem)}")  # in another order
    assert exported(folder, "--dicom-sr", "--source", moved) == 0
    assert "Note:" not in capsys.readouterr().out
    another(moved / "IM5", moved / "IM5", PatientID="P1")
    assert exported(folder, "--dicom-sr", "--source", moved) == 1


def test_a_file_that_is_named_from_where_one_stands(tmp_path, monkeypatch):
    path = write_kind("image", tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    folder = finished(path.relative_to(tmp_path), Path("results") / "image")
    shutil.move(tmp_path / "in", tmp_path / "there")
    assert exported(folder, "--dicom-sr", "--source", Path("there") / path.name) == 0


@pytest.mark.parametrize("option", ["--dicom-sr", "--anonymize"])
def test_a_study_without_a_checksum_is_exported_and_says_so(tmp_path, capsys, option):
    path = write_kind("image", tmp_path)
    files.write_study(study_of(load(path)), tmp_path / "image")
    assert exported(tmp_path / "image", option, "-o", tmp_path / "o") == 0
    assert f"Note: {analysed.not_checked(path)}." in capsys.readouterr().out


@pytest.mark.parametrize("checksum", [True, False])
@pytest.mark.parametrize("kind", ["abvs", "ge_abus", "enhanced", "series"])
def test_a_volume_is_not_the_original_of_an_image_nor_an_image_that_of_a_volume(tmp_path, capsys, kind, checksum):
    image, other = write_kind("image", tmp_path), write_kind(kind, tmp_path)
    options = ["--dicom-sr", "--other-file"]
    for analysed_file, wrong in ((image, other), (other, image)):
        folder = finished(analysed_file, tmp_path / f"of-{analysed_file.stem}", **({} if checksum else {"input": {}}))
        assert exported(folder, *options, "--source", wrong) == 1, capsys.readouterr().out
        told = capsys.readouterr().err
        assert str(wrong) in told and "the DICOM file that the result was made from" in told
        assert not names(folder)


def test_a_frame_of_a_cine_has_the_cine_for_its_original(tmp_path, capsys):
    path = write_kind("cine", tmp_path)
    folder = finished(path, tmp_path / "cine", input={})
    assert exported(folder, "--dicom-sr") == 0, capsys.readouterr().err


def test_a_file_is_hashed_once_and_a_run_hashes_none_for_its_exports(tmp_path, monkeypatch):
    path = write_kind("image", tmp_path)
    folder = finished(path, tmp_path / "image")
    counted = []
    monkeypatch.setattr("BreastUSAILib.identity.identity", lambda *given, real=identity: counted.append(given) or real(*given))
    assert exported(folder, "--dicom-sr", "--dicom-report", "--fhir") == 0 and len(counted) == 1
    loaded = load(path)
    dicom_out.write(study_of(loaded), loaded, tmp_path / "run", dicom_out.DicomOptions(sr=True))
    assert len(counted) == 1


# --------------------------------------------------------------------------------------------- what was not asked for


@pytest.mark.parametrize("kind", ["image", "series"])
def test_exports_of_one_analysis_add_up(tmp_path, capsys, kind):
    path = write_kind(kind, tmp_path)
    folder = finished(path, tmp_path / "results" / kind)
    for target in (folder, tmp_path / "o" / kind):
        where = [] if target == folder else ["-o", target.parent]
        asked = [["--dicom-seg", "--dicom-sr"], ["--fhir", "R5"], ["--dicom-report"], ["--dicom-sr"]]
        before: dict[str, bytes] = {}
        for options in asked:
            assert exported(folder, *options, *where) == 0
            now = {name: (target / name).read_bytes() for name in names(target)}
            assert before.keys() <= now.keys()
            assert all(now[name] == before[name] for name in before if name != dicom_out.SR)
            before = now
        assert before.keys() == set(dicom_out.FILES)
    assert "Note:" not in capsys.readouterr().out


def test_a_study_is_named_by_its_file_or_its_run_as_well(tmp_path, capsys):
    path = write_kind("image", tmp_path)
    folder = finished(path, tmp_path / "results" / "image")
    for name in (folder / "study.json", tmp_path / "results"):
        assert exported(name, "--fhir", "-o", tmp_path / "out") == 0
        assert names(tmp_path / "out" / "image") == {dicom_out.FHIR}
        (tmp_path / "out" / "image" / dicom_out.FHIR).unlink()
    finished(path, tmp_path / "results" / "other")
    capsys.readouterr()
    assert exported(tmp_path / "results", "--fhir") == 1
    assert "holds the results of 2 inputs; give one of them: image, other" in capsys.readouterr().err
    assert exported(tmp_path / "nothing", "--fhir") == 1 and "holds no study.json" in capsys.readouterr().err


def test_what_a_run_wrote_is_of_the_analysis_that_is_read_again(tmp_path, capsys):
    """From memory and from study.json the same UIDs follow."""
    path = write_kind("image", tmp_path)
    folder = finished(path, tmp_path / "image")
    loaded = load(path)
    study = study_of(loaded)
    dicom_out.write(study, loaded, folder, dicom_out.DicomOptions(True, True, True, "R4"))
    assert exported(folder, "--fhir", "R5") == 0
    assert names(folder) == set(dicom_out.FILES) and "Note:" not in capsys.readouterr().out


def test_what_another_version_wrote_stays(tmp_path, capsys):
    path = write_kind("image", tmp_path)
    folder = finished(path, tmp_path / "image")
    assert exported(folder, "--dicom-seg", "--dicom-sr", "--dicom-report") == 0
    study = files.read_study(folder)
    original = source.read_original(study, source.read_headers(path))
    outlines = seg.identity(study, original, version="0.0.1")
    for name, made in (
        (dicom_out.SEG, outlines),
        (dicom_out.SR, sr.identity(study, original, outlines.instance_uid, version="0.0.1")),
        (dicom_out.REPORT, pdf.identity(study, original, version="0.0.1")),
    ):
        ds = pydicom.dcmread(folder / name)
        assert ds.SOPInstanceUID != made.instance_uid
        ds.SoftwareVersions, ds.SOPInstanceUID = "0.0.1", made.instance_uid
        ds.save_as(folder / name)
    assert exported(folder, "--fhir") == 0
    assert names(folder) == set(dicom_out.FILES) and "Note:" not in capsys.readouterr().out


@pytest.mark.parametrize("same", [True, False])
def test_a_copy_s_report_with_a_uid_of_before_stays_where_its_figures_are_this_study_s(tmp_path, capsys, same):
    """A copy says no time, and such a UID said nothing of the content."""
    pytest.importorskip("dicomanonymizer", reason="dicom-anonymizer is not installed (extra `dicom`)")
    path = write_kind("image", tmp_path)
    folder = finished(path, tmp_path / "image")
    copy = ["--anonymize", "--key-file", tmp_path / "key", "-o", tmp_path / "share"]
    assert exported(folder, "--dicom-sr", *copy) == 0
    (file,) = (tmp_path / "share").glob(f"*/{dicom_out.SR}")
    study = files.read_study(file.parent)
    headers = anonymize.deidentified_headers(source.read_headers(path), anonymize.read_key(tmp_path / "key"))
    ds = pydicom.dcmread(file)
    ds.SOPInstanceUID = sr.identity_before(study, source.read_original(study, headers), "", str(ds.SoftwareVersions)).instance_uid
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    if not same:
        numeric = next(e for e in ds.iterall() if e.keyword == "NumericValue")
        numeric.value = "12.125"
    ds.save_as(file)
    assert exported(folder, "--fhir", *copy) == 0
    assert file.exists() is same and ("Note: measurements.dcm" in capsys.readouterr().out) is not same


@pytest.mark.parametrize("what", ["analysis", "original", "patient"])
def test_what_is_of_another_analysis_or_original_is_removed_and_named(tmp_path, capsys, what):
    path = write_kind("image", tmp_path)
    folder = finished(path, tmp_path / "results" / "image")
    every = ["--dicom-seg", "--dicom-sr", "--dicom-report", "--fhir"]
    assert exported(folder, *every, "-o", tmp_path / "o") == 0
    target, source = tmp_path / "o" / "image", []
    if what == "analysis":
        finished(path, folder, created=LATER)
    else:
        changed = {"PatientID": "OTHER"} if what == "patient" else {"SOPInstanceUID": "1.2.3"}
        other = another(path, tmp_path / "other.dcm", **changed)
        source = ["--source", other, "--other-file"]
    capsys.readouterr()
    assert exported(folder, "--dicom-sr", *source, "-o", tmp_path / "o") == 0
    told = capsys.readouterr().out
    assert names(target) == {dicom_out.SR}
    for name in (dicom_out.SEG, dicom_out.REPORT, dicom_out.FHIR):
        assert f"Note: {name}, which was there from an earlier export, was removed" in told
    (target / dicom_out.FHIR).write_text("[]")
    (target / dicom_out.SEG).write_bytes(b"x")
    assert exported(folder, "--dicom-sr", *source, "-o", tmp_path / "o") == 0  # what cannot be read is of none
    assert names(target) == {dicom_out.SR}


def test_without_the_original_nobody_knows_and_nothing_is_lost(tmp_path, capsys):
    path = write_kind("image", tmp_path)
    folder = finished(path, tmp_path / "image")
    assert exported(folder, "--dicom-sr", "--fhir") == 0
    path.rename(tmp_path / "moved.dcm")
    assert exported(folder, "--fhir", "R5") == 0
    assert f"Note: {dicom_out.SR} was left as it was" in capsys.readouterr().out
    assert "subject" not in json.loads((folder / dicom_out.FHIR).read_text())["entry"][0]["resource"]
    assert exported(folder, "--dicom-seg", "--source", tmp_path / "moved.dcm") == 0
    assert names(folder) == {dicom_out.SEG, dicom_out.SR, dicom_out.FHIR} and "Note:" not in capsys.readouterr().out


def test_copies_add_up_as_well(tmp_path, capsys):
    path = write_kind("image", tmp_path)
    folder = finished(path, tmp_path / "results" / "image")
    copy = ["--anonymize", "--key-file", tmp_path / "key", "-o", tmp_path / "share"]
    for options in (["--dicom-seg", "--dicom-sr"], ["--fhir"], ["--dicom-report"]):
        assert exported(folder, *options, *copy) == 0
    (made,) = (tmp_path / "share").iterdir()
    assert names(made) == set(dicom_out.FILES)
    assert "removed" not in capsys.readouterr().out
    # Another analysis: other findings, as copies do not say when they were made.
    study = files.read_study(folder)
    files.write_study(replace(study, findings=study.findings[:1]), folder)
    assert exported(folder, "--dicom-sr", *copy) == 0
    assert names(made) == {dicom_out.SR} and f"{dicom_out.FHIR}, which was there" in capsys.readouterr().out


def test_the_examples_of_the_page_go_one_after_the_other(tmp_path):
    path = write_kind("image", tmp_path / "scans")
    folder = finished(path, tmp_path / "results" / "scan1")
    assert exported(folder, "--dicom-seg", "--dicom-sr") == 0
    moved = another(path, tmp_path / "archive" / "scan1.dcm", same_pixels=True, InstitutionName="Archive")
    path.unlink()
    assert exported(folder, "--source", moved, "--fhir", "R5") == 0
    assert names(folder) == {dicom_out.SEG, dicom_out.SR, dicom_out.FHIR}
    shutil.copyfile(moved, path)
    assert exported(folder, "--anonymize", "-o", tmp_path / "share", "--dicom-seg") == 0
    (made,) = (tmp_path / "share").iterdir()
    assert names(made) == {dicom_out.SEG}


# ----------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize("command", ["export", "run"])
def test_a_name_after_fhir_is_told_from_its_version(tmp_path, capsys, command):
    assert cli.main([command, "--fhir", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"{str(tmp_path)!r} is no version of FHIR (R4 or R5); name what is read before --fhir" in said


def test_pixels_are_told_apart_whatever_file_they_stand_in(tmp_path):
    image = load(write_kind("image", tmp_path)).image
    placed = samples.slices(volume()[:1], (0.1, 0.2, 1.0))[0]
    slice_ = load(samples.save(placed, tmp_path / "placed.dcm")).image
    assert slice_.GetDimension() == 3 and pixels_digest(slice_) == pixels_digest(image)
    assert pixels_digest(image[::-1, :]) != pixels_digest(image) != pixels_digest(image[:-1, :])
