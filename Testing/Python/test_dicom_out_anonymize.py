"""De-identified copies of results: what identifies a person stands in none of their files. `breastusai export` and `run`."""

from __future__ import annotations

import base64
import contextlib
import csv
import json
import re
import shutil
import stat
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("highdicom", reason="highdicom is not installed (extra `dicom`)")
pytest.importorskip("dicomanonymizer", reason="dicom-anonymizer is not installed (extra `dicom`)")
import dicom_samples as samples  # noqa: E402
import pydicom  # noqa: E402
from dicom_studies import dciodvfy, load, study_of, write_kind  # noqa: E402

from BreastUSAILib import cli, dicom_out, dicom_series, files, run_input  # noqa: E402
from BreastUSAILib.dicom_out import anonymize, export, source  # noqa: E402
from BreastUSAILib.errors import OutputError, UsageError  # noqa: E402
from BreastUSAILib.findings import REJECTED, Box, Finding, ImageInfo, Study  # noqa: E402
from BreastUSAILib.identity import identity, pixels_digest  # noqa: E402
from BreastUSAILib.review import Review, with_reviews  # noqa: E402

# All that could say whose the images are; each stands in the original's header, its path, or the study.
SECRETS = (
    "Meier Hanna Luise PID778899 Klinikum ACC4711 20260314 2026-03-14 19610203 Schwester ROOM7 Doktor Frauenstr "
    "Ostfriesland OTHER55 SN12345 hidden-note patient_meier 20261121 2026-11-21 PrivateMeierText"
).split()


def identified(folder: Path, kind: str = "image") -> Path:
    """A file whose header, name and folder are full of what identifies a person."""
    path = write_kind(kind, folder / "patient_meier")
    ds = pydicom.dcmread(path)
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = "Meier^Hanna Luise", "PID778899", "19610203"
    ds.OtherPatientIDsSequence = [samples.item(PatientID="OTHER55", TypeOfPatientID="TEXT")]
    ds.PatientAddress, ds.PatientComments, ds.EthnicGroup = "Frauenstr. 3", "hidden-note", "Ostfriesland"
    ds.InstitutionName, ds.OperatorsName, ds.StationName = "Klinikum Nord", "Schwester^Inge", "ROOM7"
    ds.ReferringPhysicianName, ds.AccessionNumber = "Doktor^Who", "ACC4711"
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = "20260314"
    ds.StudyDescription = ds.ProtocolName = "Mamma Meier"
    ds.DeviceSerialNumber = "SN12345"
    ds.RequestAttributesSequence = [
        samples.item(RequestedProcedureDescription="Meier", ScheduledProcedureStepID="ACC4711")
    ]
    ds.private_block(0x0019, "MEIER", create=True).add_new(1, "LO", "PrivateMeierText")
    ds.save_as(path)
    return path


def finished(path: Path, folder: Path):
    """A finished study of a file, whose text names the patient as well."""
    study = study_of(load(path))
    notes = [f"read from {path}", "Hanna Luise Meier was seen on 20260314"]
    provenance = {**study.provenance, "notes": notes, "input": identity(path), "run": "r1"}
    provenance["options"] = {"model": str(path.parent / "model"), "frame": None}
    finding = replace(study.findings[0], notes=(f"see {path.name}",))
    study = replace(study, findings=(finding, *study.findings[1:]), provenance=provenance)
    files.write_study(study, folder)
    return study


def everything(path: Path) -> bytes:
    """A file's bytes, with what is compressed in it unpacked (streams of a PDF, gzip data of an NRRD)."""
    data = path.read_bytes()
    found = [data]
    for match in re.finditer(rb"stream\r?\n(.*?)endstream", data, re.DOTALL):
        stream = match[1].strip()
        if stream.endswith(b"~>"):
            stream = base64.a85decode(stream[:-2])
        try:
            found.append(zlib.decompress(stream))
        except zlib.error:
            continue
    return b"\n".join(found)


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Kind -> (original's path, folder of its results, folder of the de-identified copy, what was printed)."""
    folder = tmp_path_factory.mktemp("identified")
    made = {}
    for kind in ("image", "ge_abus"):
        path = identified(folder, kind)
        results = folder / "results" / f"patient_meier_{kind}"
        finished(path, results)
        every = ["--dicom-seg", "--dicom-sr", "--dicom-report", "--fhir"]
        args = [
            "export",
            str(results),
            *every,
            "--anonymize",
            "-o",
            str(folder / "copy"),
            "--key-file",
            str(folder / "key"),
        ]
        before = set((folder / "copy").glob("*"))
        assert cli.main(args) == 0
        (copy,) = set((folder / "copy").glob("*")) - before
        made[kind] = path, results, copy
    return made


@pytest.mark.parametrize("kind", ["image", "ge_abus"])
def test_nothing_that_identifies_a_person_stands_in_a_copy(copies, kind):
    path, results, copy = copies[kind]
    original = pydicom.dcmread(path)
    secrets = [
        *SECRETS,
        str(path.parent),
        path.name,
        original.StudyInstanceUID,
        original.SeriesInstanceUID,
        original.SOPInstanceUID,
        identity(path)["sha256"],
    ]
    found = sorted(p for p in copy.rglob("*") if p.is_file())
    assert {"study.json", "report.html", "findings.csv", *dicom_out.FILES} <= {p.name for p in found}
    for file in found:
        content = everything(file).lower()
        leaked = [
            s
            for s in secrets
            if s.lower().encode() in content or s.lower() in str(file.relative_to(copy.parent)).lower()
        ]
        assert not leaked, f"{file.name}: {leaked}"
    # The test can fail: the results themselves are full of them.
    there = (results / "study.json").read_bytes()
    assert all(s.encode() in there for s in ("Meier", "patient_meier", "20260314"))


@pytest.mark.parametrize("kind", ["image", "ge_abus"])
def test_a_copy_is_valid_and_says_that_it_is_de_identified(copies, kind):
    _, results, copy = copies[kind]
    for name in (dicom_out.SEG, dicom_out.SR, dicom_out.REPORT):
        dciodvfy(copy / name)
        ds = pydicom.dcmread(copy / name)
        assert ds.PatientIdentityRemoved == "YES" and ds.LongitudinalTemporalInformationModified == "REMOVED"
        assert ds.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
        assert len(ds.DeidentificationMethod) <= 64
    copied, study = files.read_study(copy), files.read_study(results)
    assert [f.box for f in copied.findings] == [f.box for f in study.findings]
    for ours, theirs in zip(copied.findings, study.findings, strict=True):
        assert np.array_equal(sitk.GetArrayFromImage(ours.mask), sitk.GetArrayFromImage(theirs.mask))
    assert copied.provenance["models"] == study.provenance["models"] and "created" not in copied.provenance
    assert any("burned into" in note for note in copied.provenance["notes"])


def test_one_key_gives_one_patient_one_pseudonym_in_all_copies(copies, tmp_path):
    seen = [pydicom.dcmread(copies[k][2] / dicom_out.SEG) for k in ("image", "ge_abus")]
    assert seen[0].PatientID == seen[1].PatientID == str(seen[0].PatientName)
    assert seen[0].StudyInstanceUID != seen[1].StudyInstanceUID  # they were two studies
    report = pydicom.dcmread(copies["image"][2] / dicom_out.SR)
    assert report.StudyInstanceUID == seen[0].StudyInstanceUID and seen[0].SOPInstanceUID in str(report)
    headers = source.read_headers(copies["image"][0])
    one, two = (anonymize.deidentified_headers(headers, anonymize.read_key(None))[0] for _ in range(2))
    assert one.PatientID != two.PatientID and one.StudyInstanceUID != two.StudyInstanceUID
    assert headers[0].PatientID == "PID778899"  # the given ones stay


def test_the_key_is_made_once_for_its_owner_alone(tmp_path):
    key = anonymize.read_key(tmp_path / "deep" / "key")
    assert anonymize.read_key(tmp_path / "deep" / "key") == key
    assert stat.S_IMODE((tmp_path / "deep" / "key").stat().st_mode) & 0o077 == 0
    (tmp_path / "no").write_text("hello")
    with pytest.raises(UsageError, match="holds no key"):
        anonymize.read_key(tmp_path / "no")
    with pytest.raises(OutputError, match="key-file"):
        anonymize.read_key(tmp_path)


def test_elements_deep_in_sequences_are_cleaned_and_uids_stay_consistent(tmp_path):
    ds = samples.enhanced_volume(samples.speckle((2, 4, 5)), (1, 1, 1))
    ds.PerFrameFunctionalGroupsSequence[0].FrameContentSequence[0].FrameComments = "Meier"
    ds.SharedFunctionalGroupsSequence[0].add_new(0x00191001, "LO", "PrivateMeierText")
    ds.ReferencedImageSequence = [
        samples.item(ReferencedSOPClassUID=samples.US_IMAGE, ReferencedSOPInstanceUID=ds.SOPInstanceUID)
    ]
    (clean,) = anonymize.deidentified_headers([ds], anonymize.read_key(None))
    assert "Meier" not in str(clean)
    assert clean.ReferencedImageSequence[0].ReferencedSOPInstanceUID == clean.SOPInstanceUID
    assert clean.ReferencedImageSequence[0].ReferencedSOPClassUID == samples.US_IMAGE
    assert clean.SOPClassUID == samples.US_ENHANCED_VOLUME and clean.SOPInstanceUID != ds.SOPInstanceUID
    dates = [e for e in clean.iterall() if e.VR in ("DA", "DT") and str(e.value).startswith("2026")]
    assert not dates


@pytest.mark.parametrize(
    ("values", "secrets", "more"),
    [
        ({"SeriesDescription": "L AP  Hofweg 5 tel MRN777"}, ["Hofweg", "MRN777"], ()),
        ({"SeriesDescription": " L AP MRN777"}, ["MRN777"], ()),
        ({"SeriesDescription": "L AP\tMRN777"}, ["MRN777"], ()),
        ({"SeriesDescription": ["L AP", "MRN777 Eva"]}, ["MRN777", "Eva"], ()),
        ({"ViewPosition": "L  MRN777"}, ["MRN777"], ()),
        ({"ViewCodeSequence": [samples.code("X", "99L", "left Secretname")]}, ["Secretname"], ()),
        ({"StudyDescription": "Hofweg  5 c/o X1"}, ["Hofweg"], ["asked for as hofweg 5 c/o X1"]),
        ({"PatientName": "Ng^Kim"}, ["Kim", "Ng"], ["Mrs Kim Ng called", "by NG"]),
        ({"PatientName": "Müller-Schmidt^Anna,Eva"}, ["Schmidt", "Müller", "Eva"], ["Schmidt (Eva) was here", "MÜLLER"]),
        ({"PatientName": "金^正", "SpecificCharacterSet": "ISO_IR 192"}, ["金"], ["see 金 正"]),
    ],
)  # fmt: skip
def test_words_of_the_header_are_in_no_note_however_they_are_set(tmp_path, values, secrets, more):
    """Readers squeeze white space in what they quote, and names have short parts."""
    ds = samples.us_image(samples.speckle((12, 16)), mm=(0.2, 0.1), laterality="R")
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    path = samples.save(ds, tmp_path / "img.dcm")
    loaded = load(path)
    study = study_of(loaded)
    notes = [*loaded.notes, *more, "an ordinary note on 12 mm"]
    clean = anonymize.deidentified_study(
        replace(study, provenance={**study.provenance, "notes": notes}), anonymize.read_key(None), source.read_headers(path)
    )
    after = clean.provenance["notes"]
    left = [word for word in secrets if re.search(word, " ".join(after), re.IGNORECASE)]
    assert not left and after[-1] == notes[-1] and len(after) == len(notes)
    assert re.search("|".join(secrets), " ".join(notes), re.IGNORECASE)  # the test can fail


def test_the_words_of_reports_are_no_names(tmp_path):
    """Readers of results tell notes by how they begin; the names that look like these words go wherever else they stand."""
    ds = samples.us_image(samples.speckle((12, 16)), mm=(0.2, 0.1), laterality="R")
    ds.PatientName, ds.OperatorsName, ds.ReferringPhysicianName = "Bi^Xiaoming", "Not^An", "Net^The"
    ds.PatientComments = "malignancy"
    path = samples.save(ds, tmp_path / "img.dcm")
    study = study_of(load(path))
    kept = [
        "BI-RADS 2 (benign) is likelier than 3 to 5 together (0.61); the categories below are the chances if it is not.",
        "Not sure: Mt-Net and Sn-Net differ.",
        "Not graded: the region is too small.",
        "Malignancy 0.30 is below the operating point 0.40.",
        "The probabilities are not calibrated: these models were not chosen together on validation data.",
        "The outline was deleted by a person.",
        "Looks like BI-RADS 3, as to Sn-Net",
    ]
    names = ["Not sure: Bi, An and Not were here, not BI", "BI-RADSON", "Bi-RADS by BI_1", "The reader's note: Dr Net, The-Net, Not", "Accepted by the reader.", "Accepted by the reader: by Net.", "Not An", "BI 2 (benign)"]
    gone = ["Not sure: #, # and # were here, not #", "#-RADSON", "#-RADS by #_1", "The reader's note: #", "Accepted by the reader.", "Accepted by the reader: #", "# #", "# 2 (benign)"]
    finding = replace(study.findings[0], notes=(*kept, *names))
    notes = ["BI-RADS 4A of Bi", "a map of Mt-Net"]
    study = replace(study, findings=(finding,), provenance={**study.provenance, "notes": notes})
    clean = anonymize.deidentified_study(study, anonymize.read_key(None), source.read_headers(path))
    assert clean.findings[0].notes == (*kept, *(text.replace("#", anonymize.REMOVED) for text in gone))
    assert clean.provenance["notes"] == [f"BI-RADS 4A of {anonymize.REMOVED}", "a map of Mt-Net"]


def test_a_copy_has_no_more_of_the_patient_than_results_need(tmp_path):
    """The standard's table lists neither birth dates in other calendars nor what stands in items of codes."""
    path = write_kind("image", tmp_path)
    ds = pydicom.dcmread(path)
    ds.PatientBirthDateInAlternativeCalendar, ds.PatientAlternativeCalendar = "13391211", "PERSIAN"
    ds.PatientDeathDateInAlternativeCalendar = "14001001"
    ds.IssuerOfPatientIDQualifiersSequence = [samples.item(UniversalEntityID="1.2.3.HOSPITAL", UniversalEntityIDType="ISO")]
    ds.PatientSpeciesDescription = "Secretspecies"
    ds.ProcedureCodeSequence = [samples.code("P1", "99HOSPITAL", "Secretprocedure")]
    ds.ReferencedStudySequence = [
        samples.item(ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1", ReferencedSOPInstanceUID="1.2.3.4", StudyDescription="Secretstudy")
    ]
    ds.PositionReferenceIndicator = "Secretplace"
    ds.save_as(path)
    results = tmp_path / "results"
    finished(path, results)
    every = ["--dicom-seg", "--dicom-sr", "--dicom-report"]
    assert cli.main(["export", str(results), *every, "--anonymize", "-o", str(tmp_path / "copy")]) == 0
    for name in (dicom_out.SEG, dicom_out.SR, dicom_out.REPORT):
        (file,) = (tmp_path / "copy").glob(f"*/{name}")
        content = everything(file)
        assert not [s for s in ("13391211", "14001001", "HOSPITAL", "Secret") if s.encode() in content], name
        there = pydicom.dcmread(file)
        patient = {e.keyword for e in there if e.tag.group == 0x0010}
        assert patient == {"PatientName", "PatientID", "PatientBirthDate", "PatientSex"} and there.PatientBirthDate == ""
        assert there.PatientIdentityRemoved == "YES"
    assert cli.main(["export", str(results), *every]) == 0  # the results themselves are the patient's
    assert pydicom.dcmread(results / dicom_out.SEG).PatientBirthDateInAlternativeCalendar == "13391211"


def test_the_surroundings_of_the_ultrasound_picture_are_blackened_in_the_pictures():
    array = np.full((60, 80), 40, np.uint8)
    array[2:6, 3:40] = 255  # a name
    array[20:50, 10:70] = samples.speckle((30, 60))
    image = sitk.GetImageFromArray(array)
    clean, notes = anonymize.without_surroundings(image, (10, 20, 60, 30))
    after = sitk.GetArrayFromImage(clean)
    assert np.array_equal(after[20:50, 10:70], array[20:50, 10:70])
    after[20:50, 10:70] = after[0, 0]
    assert len(np.unique(after)) == 1 and "blackened" in notes[0]
    assert np.array_equal(sitk.GetArrayFromImage(image), array)  # the given one stays
    same, notes = anonymize.without_surroundings(image, (0, 0, 80, 60), [samples.item(BurnedInAnnotation="YES")])
    assert np.array_equal(sitk.GetArrayFromImage(same), array) and "burned" in notes[0]
    assert anonymize.without_surroundings(image, (0, 0, 80, 60), [samples.item(BurnedInAnnotation="NO")])[1] == ()


def screen() -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A screen with a name above the picture, and (x, y, width, height) of the picture."""
    array = np.full((300, 400), 5, np.uint8)
    array[5:25, 20:250] = 255
    array[50:290, 40:390] = samples.speckle((240, 350))
    return array, (40, 50, 350, 240)


@pytest.mark.parametrize("placed", [False, True])
def test_the_name_around_the_picture_is_in_no_file_of_a_copy_also_of_an_image_with_a_place(tmp_path, capsys, placed):
    """With Image Position an image is read as a volume of one slice, as is what Slicer saved."""
    from PIL import Image

    array, (x, y, width, height) = screen()
    ds = samples.us_image(array)
    ds.SequenceOfUltrasoundRegions = [samples.region((0.02, 0.01), (x, y, x + width - 1, y + height - 1))]
    if placed:
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [1, 2, 3], [1, 0, 0, 0, 0, -1]
    path = samples.save(ds, tmp_path / "screen.dcm")
    loaded = load(path)
    assert loaded.image.GetDimension() == (3 if placed else 2)
    clean, notes = anonymize.without_surroundings(loaded.image, loaded.area)
    assert clean.GetSize() == loaded.image.GetSize() and clean.GetOrigin() == loaded.image.GetOrigin()
    assert clean.GetSpacing() == loaded.image.GetSpacing() and clean.GetDirection() == loaded.image.GetDirection()
    after = sitk.GetArrayFromImage(clean).reshape(array.shape)
    assert np.array_equal(after[y : y + height, x : x + width], array[y : y + height, x : x + width])
    assert after[:y].max() == after.min() and "blackened" in notes[0]
    files.write_study(study_of(loaded, count=0), tmp_path / "results")
    command = ["export", str(tmp_path / "results"), "--dicom-report", "--anonymize", "-o", str(tmp_path / "copy")]
    assert cli.main(command) == 0 and "blackened" in capsys.readouterr().out
    (copy,) = (tmp_path / "copy").iterdir()
    with Image.open(copy / "preview.jpg") as picture:
        seen = np.asarray(picture.convert("L"))
    assert seen[: len(seen) // 8].max() < 50 < seen.max()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_picture_of_a_single_slice_is_looked_for_whichever_way_it_lies(axis):
    array, (x, y, width, height) = screen()
    image = sitk.GetImageFromArray(np.expand_dims(array, axis))
    clean, notes = anonymize.without_surroundings(image, None)
    after = np.squeeze(sitk.GetArrayFromImage(clean), axis)
    assert after[: y - 10].max() == after.min() and "blackened" in notes[0]
    inside = np.s_[y + 10 : y + height - 10, x + 10 : x + width - 10]
    assert np.array_equal(after[inside], array[inside])


def test_other_files_of_a_series_are_named_in_no_note(tmp_path):
    """A note on slices that are there twice names files, which are called after the patient."""
    for k, ds in enumerate(samples.slices(samples.speckle((6, 12, 16)), (0.2, 0.1, 0.5))):
        ds.PatientName = "MUELLER^ANNA"
        samples.save(ds, tmp_path / "in" / f"scan_MUELLER_ANNA_{k}.dcm")
        if k == 3:
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
            samples.save(ds, tmp_path / "in" / "holiday-in-1999.dcm")
    loaded = load(tmp_path / "in")
    study = study_of(loaded)
    provenance = {**study.provenance, "notes": [*loaded.notes, "see scan_anna_3 and holiday-in-1999"], "input": {"files": 7}}
    assert any("scan_MUELLER_ANNA_3.dcm" in note or "holiday" in note for note in loaded.notes)
    files.write_study(replace(study, provenance=provenance), tmp_path / "results")
    command = ["export", str(tmp_path / "results"), "--source", str(tmp_path / "in"), "--anonymize"]
    assert cli.main([*command, "-o", str(tmp_path / "copy")]) == 0
    (copy,) = (tmp_path / "copy").iterdir()
    notes = " ".join(files.read_study(copy).provenance["notes"])
    assert not re.search("mueller|anna|holiday", notes, re.IGNORECASE)
    assert "1 duplicate slice left out ([removed])" in notes and "see scan_[removed]_3 and [removed]" in notes


def test_a_copy_knows_that_the_reader_rejected_all_and_none_of_the_reader_s_words():
    path = "/archive/Muster Anna/b-mode.png"
    finding = Finding("L1", Box((1.0, 1.0, 0.0), (1.0, 1.0, 0.0)), 0.9)
    info = ImageInfo(path=path, size=(4, 4), spacing=(1.0, 1.0), origin=(0.0, 0.0), direction=(1.0, 0.0, 0.0, 1.0), spacing_known=True)
    study = with_reviews(Study(info, (finding,), {}), {"L1": Review(REJECTED, "Frau Muster hat eine Zyste")})
    copy = anonymize.deidentified_study(study, anonymize.Key(b"k" * 32))
    assert copy.summary == study.summary == "No lesion left: the reader rejected the one that was found."
    assert "rejected by the reader" in copy.to_json() and not {"Zyste", "Frau"} & set(re.findall(r"\w+", copy.to_json()))


def test_models_keep_their_record_where_a_folder_is_called_like_their_task(tmp_path):
    path = write_kind("image", tmp_path / "segment" / "roi-cnn-compact")
    study = study_of(load(path))
    provenance = {**study.provenance, "notes": ["read from the folder segment"], "options": {"model": "segment"}}
    clean = anonymize.deidentified_study(replace(study, provenance=provenance), anonymize.read_key(None))
    assert list(clean.provenance["models"]) == list(study.provenance["models"])
    assert clean.provenance["notes"] == ["read from the folder [removed]"]
    assert clean.provenance["options"] == {"model": "[removed]"}
    original = source.read_original(clean, source.read_headers(path))
    dataset = pydicom.dcmread(seg_of(clean, original, tmp_path))
    named = dataset.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmName
    assert named == "BreastUSAI roi-cnn-compact"


def seg_of(study, original, folder: Path) -> Path:
    from BreastUSAILib.dicom_out.seg import segmentation

    segmentation(study, original).save_as(folder / "s.dcm", enforce_file_format=True)
    return folder / "s.dcm"


# ------------------------------------------------------------------------------------------------------------ export


@pytest.mark.parametrize("anonymize_too", [False, True])
def test_results_that_would_take_one_folder_are_refused_before_anything_is_written(tmp_path, capsys, anonymize_too):
    path = write_kind("image", tmp_path)
    study = study_of(load(path))
    folders = [tmp_path / "run1" / "x", tmp_path / "run2" / "X"]
    for folder in folders:
        files.write_study(study, folder)
    out = tmp_path / "out"
    command = ["export", *map(str, folders), "--fhir", "-o", str(out), *(["--anonymize"] if anonymize_too else [])]
    assert cli.main(command) == 2
    told = capsys.readouterr().err
    assert f"{folders[0]} and {folders[1]} would both be written to {out}" in told and "with its own --output" in told
    assert not out.exists()
    # Beside the results each has its own place, and one that is named twice is one.
    assert cli.main(["export", *map(str, folders), "--fhir"]) == 0
    command[2] = str(folders[0]) + "/"
    assert cli.main(command) == 0 and len(list(out.glob("*/fhir.json"))) == 1


def test_export_writes_beside_the_study_or_elsewhere(tmp_path, capsys):
    path = write_kind("series", tmp_path / "in")
    folder = tmp_path / "results" / "series"
    study = study_of(load(path))
    files.write_study(replace(study, image=replace(study.image, path=str(tmp_path / "moved"))), folder)
    assert cli.main(["export", str(folder), "--dicom-seg"]) == 1  # the original is not where it was
    assert "--source" in capsys.readouterr().err
    assert cli.main(["export", str(folder), "--dicom-seg", "--dicom-sr", "--source", str(path)]) == 0
    assert {p.name for p in folder.iterdir()} >= {dicom_out.SEG, dicom_out.SR}
    assert (
        cli.main(
            ["export", str(folder), "--dicom-report", "--fhir", "R5", "--source", str(path), "-o", str(tmp_path / "o")]
        )
        == 0
    )
    assert {p.name for p in (tmp_path / "o" / "series").iterdir()} == {dicom_out.REPORT, dicom_out.FHIR}
    assert json.loads((tmp_path / "o" / "series" / dicom_out.FHIR).read_text())["resourceType"] == "Bundle"
    assert {p.name for p in folder.iterdir()} >= {dicom_out.SEG, dicom_out.SR}


def test_what_else_lies_in_the_folder_of_a_series_is_left(tmp_path):
    """A file of the desktop, thumbnails, the medium's table of contents, a report, another image: none is the original."""
    path = write_kind("series", tmp_path / "in")
    (tmp_path / "results").mkdir()
    folder = tmp_path / "results" / "series"
    study = study_of(load(path))
    files.write_study(replace(study, image=replace(study.image, path=str(tmp_path / "moved" / "0.dcm"))), folder)
    samples.write_dicomdir(path).rename(path / "DICOMDIR")
    (path / ".DS_Store").write_bytes(b"")
    (path / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    samples.save(samples.text_report(), path / "1-report")
    command = ["export", str(folder), "--source", str(path), "--dicom-report", "--dicom-sr", "-o", str(tmp_path / "o")]
    assert cli.main(command) == 0
    written = pydicom.dcmread(tmp_path / "o" / "series" / dicom_out.SR)
    images = {pydicom.dcmread(path / f"{k}.dcm").SOPInstanceUID for k in range(6)}
    (evidence,) = written.CurrentRequestedProcedureEvidenceSequence
    referred = {i.ReferencedSOPInstanceUID for s in evidence.ReferencedSeriesSequence for i in s.ReferencedSOPSequence}
    assert referred and referred <= images
    assert cli.main([*command[:4], "--anonymize", "-o", str(tmp_path / "share")]) == 0
    assert len(list((tmp_path / "share").glob("*/study.json"))) == 1
    samples.save(samples.us_image(np.zeros((30, 40), np.uint8)), path / "still.dcm")
    assert cli.main(command) == 0  # the series is the one with the name that the study knows


def test_a_folder_with_several_images_none_of_them_the_study_s_is_refused(tmp_path, capsys):
    path = write_kind("series", tmp_path / "in")
    folder = tmp_path / "results" / "series"
    study = study_of(load(path))
    files.write_study(replace(study, image=replace(study.image, path=str(tmp_path / "moved"))), folder)
    samples.save(samples.us_image(np.zeros((30, 40), np.uint8)), path / "still.dcm")
    assert cli.main(["export", str(folder), "--source", str(path), "--dicom-report", "-o", str(tmp_path / "o")]) == 1
    assert f"{path} is a folder with 2 images (0.dcm, still.dcm); give one of them." in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "options, words",
    [
        ([], "Say what to write"),
        (["--anonymize"], "--output"),
        (["--dicom-sr", "--key-file", "k"], "--anonymize"),
        (["OTHER", "--dicom-sr", "--source", "x"], "one STUDY_FOLDER"),
    ],
)
def test_options_without_a_meaning_are_refused(tmp_path, capsys, options, words):
    assert cli.main(["export", str(tmp_path), *[str(tmp_path) if o == "OTHER" else o for o in options]]) == 2
    assert words in capsys.readouterr().err


def test_a_result_never_overwrites_itself_with_its_copy(tmp_path):
    path = write_kind("image", tmp_path)
    key = anonymize.read_key(None)
    folder = tmp_path / key.name("image", str(path))
    finished(path, folder)
    with pytest.raises(UsageError, match="result itself"):
        export.export_anonymized(folder, tmp_path, dicom_out.DicomOptions(), key)


def test_a_run_writes_them_before_the_study_is_finished(tmp_path, monkeypatch):
    """The worker is real; the network's answer is not."""
    from BreastUSAILib import run_input, workup
    from BreastUSAILib.inputs import Source
    from BreastUSAILib.models import zoo

    path = write_kind("image", tmp_path)
    monkeypatch.setattr(zoo.ModelCache, "get", lambda *args, **keys: None)
    monkeypatch.setattr(workup, "run_workup", lambda loaded, *args, **keys: study_of(loaded))
    order = []
    monkeypatch.setattr(
        files,
        "write_study",
        lambda study, folder, real=files.write_study: (
            order.append(sorted(p.name for p in folder.iterdir())) or real(study, folder)
        ),
    )
    options = run_input.RunOptions(
        tmp_path / "out", workup.WorkupOptions(), scene=False, dicom=["seg", "sr", "fhir-R4"]
    )
    task = run_input.Task(Source(path, path.name, Path(path.name)), tmp_path / "making", tmp_path / "out" / "image")
    outcome = run_input.InputWorker(options)(task, lambda fraction, message: None)
    assert outcome.failure == ""
    written = {dicom_out.SEG, dicom_out.SR, dicom_out.FHIR}
    assert written <= set(order[0]) and written <= {p.name for p in task.folder.iterdir()}
    study = files.read_study(task.folder)
    assert study.provenance["options"]["dicom"] == ["seg", "sr", "fhir-R4"]
    # By which the file is known again, whatever becomes of its header.
    kept = {**identity(path), "pixels_sha256": pixels_digest(load(path).image)}
    assert kept.items() <= study.provenance["input"].items()


# ------------------------------------------------------------------------------------------------------------ a run


@pytest.fixture
def analysed(monkeypatch):
    """The network's answer is made up; everything else of a run is real."""
    from BreastUSAILib import workup
    from BreastUSAILib.models import zoo

    def run_workup(loaded, *args, **keys):
        study = study_of(loaded)
        notes = [f"read from {loaded.path}"]
        return replace(study, provenance={**study.provenance, "notes": notes, "options": {"model": str(loaded.path)}})

    monkeypatch.setattr(zoo.ModelCache, "get", lambda *args, **keys: None)
    monkeypatch.setattr(workup, "run_workup", run_workup)


def run_with_copies(folder: Path, names=None, **options):
    from BreastUSAILib import run, run_input, workup

    told = []
    names = names or [str(folder / "in")]
    written = {"output": folder / "out", "dicom": ("seg", "sr", "report", "fhir-R4"), "anonymize": folder / "share"}
    choices = run_input.RunOptions(workup=workup.WorkupOptions(), scene=False, **{**written, **options})
    result = run.run(names, choices, log=told.append)
    return result, told


def test_a_run_makes_copies_from_which_nobody_is_known(tmp_path, analysed):
    from PIL import Image

    identified(tmp_path / "in" / "a", "image"), identified(tmp_path / "in" / "b", "ge_abus")
    Image.fromarray(samples.speckle((30, 40))).save(tmp_path / "in" / "Meier Hanna.png")
    (tmp_path / "in" / "patient_meier.nrrd").write_bytes(b"no image")
    result, _ = run_with_copies(tmp_path)
    assert (result.counts.inputs, result.counts.failed) == (4, 1)
    share = tmp_path / "share"
    copies = sorted(p.name for p in share.iterdir() if p.is_dir())
    assert len(copies) == 3 and all(re.fullmatch("image-[0-9a-f]{10}", name) for name in copies)
    tables = {"index.html", "summary.csv", "studies.csv", "run.json"}
    assert {p.name for p in share.iterdir() if p.is_file()} == tables
    assert [len(list(share.glob(f"*/{name}"))) for name in (dicom_out.SR, dicom_out.FHIR, "study.json")] == [2, 3, 3]
    leaked = [
        (str(file.relative_to(share)), secret)
        for file in share.rglob("*")
        if file.is_file()
        for secret in (*SECRETS, "no image", str(tmp_path))
        if secret.lower().encode() in everything(file).lower() or secret.lower() in str(file.relative_to(share)).lower()
    ]
    assert not leaked
    assert "Meier" in (tmp_path / "out" / "run.json").read_text()  # the test can fail
    for file in share.glob("*/*.dcm"):
        dciodvfy(file)
    key = tmp_path / "out" / "pseudonyms.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    # Given again: nothing is done again, the pseudonyms stay; a copy that is not there is told, with the command that makes it.
    secret = key.read_text()
    (share / copies[0] / "study.json").unlink()
    result, told = run_with_copies(tmp_path)
    assert result.skipped == 3 and key.read_text() == secret
    (sentence,) = [text for text in told if "without a de-identified copy" in text]
    assert sentence.startswith("1 input finished") and f"--key-file {key}" in sentence
    result, _ = run_with_copies(tmp_path, overwrite=True)
    assert (
        copies == sorted(p.name for p in share.iterdir() if p.is_dir()) and (share / copies[0] / "study.json").exists()
    )
    # The folder of copies is not taken for images by another run.
    from BreastUSAILib.inputs import discover

    assert [f for found in discover([str(share)], tmp_path / "other") for f in found.sources] == []


def medium(folder: Path, who: str, seed: int) -> Path:
    """The image on a patient's CD; all of them have one path where they are read."""
    ds = samples.us_image(np.roll(samples.speckle((24, 32)), seed), mm=(0.2, 0.1))
    ds.PatientID = ds.PatientName = who
    return samples.save(ds, folder / f"{who}.dcm")


def patients(folder: Path, name: str) -> dict[str, str]:
    return {p.parent.name: str(pydicom.dcmread(p).PatientID) for p in folder.glob(f"*/{name}")}


def test_the_next_patient_s_cd_at_the_same_path_takes_nobody_s_place(tmp_path, analysed):
    discs = {who: medium(tmp_path / "shelf", who, n) for n, who in enumerate(("ADAMS", "BROWN"))}
    drive = tmp_path / "in" / "IM1.dcm"
    drive.parent.mkdir()

    def insert(who, **options):
        drive.write_bytes(discs[who].read_bytes())
        return run_with_copies(tmp_path, **options)

    insert("ADAMS")
    first = {p.name: p.read_bytes() for p in (tmp_path / "out" / "IM1").iterdir()}
    (copy,) = (p.parent for p in (tmp_path / "share").glob("*/study.json"))
    result, told = insert("BROWN")
    assert not result.failures and result.skipped == 0
    assert f"1 input has the path of another image that was finished earlier, whose results stay: {drive}." in told
    both = patients(tmp_path / "out", dicom_out.SR)
    assert sorted(both.values()) == ["ADAMS", "BROWN"] and both["IM1"] == "ADAMS"
    assert {p.name: p.read_bytes() for p in (tmp_path / "out" / "IM1").iterdir()} == first
    copies = patients(tmp_path / "share", dicom_out.SR)
    assert len(copies) == len(set(copies.values())) == 2 and copy.name in copies
    named = [json.loads(p.read_text())["image"]["path"] for p in (tmp_path / "share").glob("*/study.json")]
    assert sorted(named) == sorted(copies)
    # Each disc is known when it comes again, and both are told of; nothing of the record is needed for that.
    for who in ("ADAMS", "BROWN", "BROWN", "ADAMS"):
        if who == "ADAMS":
            (tmp_path / "out" / "run.json").unlink()
        result, told = insert(who)
        assert result.skipped == 1 and not result.failures and patients(tmp_path / "out", dicom_out.SR) == both
    with (tmp_path / "out" / "studies.csv").open(newline="") as stream:
        assert {row["folder"] for row in csv.DictReader(stream)} == both.keys()
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert sorted(item["folder"] for item in record["inputs"]) == sorted(both)
    # Nor does a redo touch the other's.
    insert("BROWN", overwrite=True)
    assert patients(tmp_path / "out", dicom_out.SR) == both and patients(tmp_path / "share", dicom_out.SR) == copies
    there = (tmp_path / "out" / "IM1" / "study.json").read_text()
    assert pydicom.dcmread(discs["ADAMS"]).SOPInstanceUID not in there  # but a digest of it


def test_a_series_whose_first_slices_come_late_is_told_once(tmp_path, analysed):
    """A series goes by its first file, which is another then."""
    arrived = [samples.save(ds, tmp_path / "late" / f"s{k}.dcm") for k, ds in enumerate(samples.slices(samples.speckle((7, 12, 16)), (0.9, 0.7, 1.1)))]
    (tmp_path / "in").mkdir()

    def come(*numbers, **options):
        for k in numbers:
            arrived[k].rename(tmp_path / "in" / arrived[k].name)
        result, told = run_with_copies(tmp_path, **options)
        assert not result.failures
        with (tmp_path / "out" / "studies.csv").open(newline="") as stream:
            listed = [(Path(row["input"]).name, row["folder"], row["pixels_3"]) for row in csv.DictReader(stream)]
        return result, " ".join(told), listed

    assert len(come(5, 6)[2]) == 2  # two files are two images
    _, told, listed = come(3, 4)
    assert listed == [("s3.dcm", "s3", "4")] and "2 results are of files that belong to a series now, and left out of the overview: s5, s6." in told
    assert (tmp_path / "out" / "s5" / "study.json").exists()
    _, told, listed = come(1, 2)
    assert listed == [("s1.dcm", "s3", "6")] and "1 input has files that came since it was finished and is done again" in told
    result, told, listed = come()
    assert result.skipped == 1 and listed == [("s1.dcm", "s3", "6")] and "came since" not in told
    _, told, listed = come(0)
    assert listed == [("s0.dcm", "s3", "7")]
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [(Path(i["input"]).name, i["folder"]) for i in record["inputs"]] == [("s0.dcm", "s3")]
    whole = [p for p in (tmp_path / "share").glob("*/study.json") if json.loads(p.read_text())["image"]["size"][2:] > [1]]
    assert len(whole) == 1  # nor do copies of parts stay


def test_a_series_that_was_being_done_anew_under_its_new_first_file_is_still_known(tmp_path, analysed, monkeypatch):
    from BreastUSAILib import run_input

    arrived = [samples.save(ds, tmp_path / ("in" if k else "late") / f"s{k}.dcm") for k, ds in enumerate(samples.slices(samples.speckle((6, 12, 16)), (0.9, 0.7, 1.1)))]
    run_with_copies(tmp_path)
    arrived[0].rename(tmp_path / "in" / "s0.dcm")

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_input, "move_results", interrupt)
        run_with_copies(tmp_path)
    assert json.loads((tmp_path / "out" / "s1" / "study.json").read_text())["image"]["size"][2] == 5
    run_with_copies(tmp_path)
    assert [p.parent.name for p in (tmp_path / "out").glob("*/study.json")] == ["s1"]
    assert json.loads((tmp_path / "out" / "s1" / "study.json").read_text())["image"]["size"][2] == 6


def test_the_former_cd_is_known_where_the_next_was_interrupted(tmp_path, analysed, monkeypatch):
    discs = {who: medium(tmp_path / "shelf", who, n) for n, who in enumerate(("ADAMS", "BROWN"))}
    drive = tmp_path / "in" / "IM1.dcm"
    drive.parent.mkdir()

    def insert(who):
        drive.write_bytes(discs[who].read_bytes())
        return run_with_copies(tmp_path)

    def interrupted(*_):
        raise KeyboardInterrupt

    insert("ADAMS")
    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(run_input, "move_results", interrupted)
        insert("BROWN")
    assert patients(tmp_path / "out", dicom_out.SR) == {"IM1": "ADAMS"}
    for _ in range(2):
        result, _told = insert("ADAMS")
        assert result.skipped == 1 and patients(tmp_path / "out", dicom_out.SR) == {"IM1": "ADAMS"}
        assert listed(tmp_path / "out") == (["IM1"],) * 2
    result, _told = insert("BROWN")
    assert result.skipped == 0 and sorted(patients(tmp_path / "out", dicom_out.SR).values()) == ["ADAMS", "BROWN"]
    assert [len(names) for names in listed(tmp_path / "out")] == [2, 2]


def disc(folder: Path, who: str, numbers, seed: int) -> None:
    """The slices of a volume on a patient's CD."""
    numbers = list(numbers)
    for number, ds in zip(numbers, samples.slices(samples.speckle((len(numbers), 12, 16), seed), (0.9, 0.7, 1.1)), strict=True):
        ds.PatientID = ds.PatientName = who
        samples.save(ds, folder / f"IM{number}.dcm")


def listed(folder: Path) -> tuple[list[str], list[str]]:
    """The folders that the table and the record of a run tell of."""
    with (folder / "studies.csv").open(newline="") as stream:
        table = sorted(row["folder"] for row in csv.DictReader(stream))
    return table, sorted(item["folder"] for item in json.loads((folder / "run.json").read_text())["inputs"])


def insert_disc(tmp_path: Path, who: str, **options):
    """A run over the images of a disc on the shelf; all discs have one path where they are read."""
    shutil.rmtree(tmp_path / "in", ignore_errors=True)
    shutil.copytree(tmp_path / "shelf" / who, tmp_path / "in")
    return run_with_copies(tmp_path, **options)


def test_a_series_of_the_next_cd_takes_no_other_s_place(tmp_path, analysed):
    """Its first file has another path; the former's was one of its files."""
    disc(tmp_path / "shelf" / "ADAMS", "ADAMS", range(2, 8), 0)
    disc(tmp_path / "shelf" / "BROWN", "BROWN", range(1, 8), 1)
    insert_disc(tmp_path, "ADAMS")
    first = {p.name: p.read_bytes() for p in (tmp_path / "out" / "IM2").iterdir()}
    for n, who in enumerate(("BROWN", "BROWN", "ADAMS")):
        result, told = insert_disc(tmp_path, who)
        assert not result.failures and not [line for line in told if "came since" in line or "belong" in line]
        assert result.skipped == (n > 0)  # each disc is known when it comes again
        assert patients(tmp_path / "out", dicom_out.SR) == {"IM1": "BROWN", "IM2": "ADAMS"}
        assert len(list((tmp_path / "share").glob("*/study.json"))) == 2
        assert listed(tmp_path / "out") == (["IM1", "IM2"],) * 2
        assert {p.name: p.read_bytes() for p in (tmp_path / "out" / "IM2").iterdir()} == first


def test_single_images_of_the_former_cd_stay_listed_beside_a_series_of_the_next(tmp_path, analysed):
    for number in (1, 2, 3):
        medium(tmp_path / "shelf" / "ADAMS", "ADAMS", number).rename(tmp_path / "shelf" / "ADAMS" / f"IM{number}.dcm")
    disc(tmp_path / "shelf" / "BROWN", "BROWN", range(1, 8), 1)
    insert_disc(tmp_path, "ADAMS")
    result, told = insert_disc(tmp_path, "BROWN")
    assert not result.failures and not [line for line in told if "came since" in line or "belong" in line]
    both = patients(tmp_path / "out", dicom_out.SR)
    assert sorted(both.values()) == ["ADAMS"] * 3 + ["BROWN"] and listed(tmp_path / "out") == (sorted(both),) * 2
    assert len(list((tmp_path / "share").glob("*/study.json"))) == 4


@pytest.mark.parametrize("instance", [True, False])
def test_a_finished_volume_whose_files_are_single_images_now_keeps_its_folder(tmp_path, analysed, monkeypatch, instance):
    """Earlier versions joined by few Slice Locations, too."""
    for number, ds in enumerate(samples.slices(samples.speckle((6, 12, 16)), (0.9, 0.7, 1.1))):
        del ds.ImagePositionPatient, ds.ImageOrientationPatient
        ds.SliceLocation = number / 2
        samples.save(ds, tmp_path / "in" / f"IM{number}.dcm")
    with monkeypatch.context() as before:
        before.setattr(dicom_series, "_LEAST_LOCATIONS", 3)
        run_with_copies(tmp_path)
    assert listed(tmp_path / "out")[0] == ["IM0"]
    study = tmp_path / "out" / "IM0" / "study.json"
    if not instance:
        data = json.loads(study.read_text())
        del data["provenance"]["input"]["instance_sha256"]
        study.write_text(json.dumps(data))
    volume = {p.name: p.read_bytes() for p in (tmp_path / "out" / "IM0").iterdir()}
    for n, more in enumerate(({}, {}, {"overwrite": True})):
        result, told = run_with_copies(tmp_path, **more)
        assert not result.failures and result.skipped == (6 if n == 1 else 0) and "changed" not in " ".join(told)
        assert {p.name: p.read_bytes() for p in (tmp_path / "out" / "IM0").iterdir()} == volume
        table, record = listed(tmp_path / "out")
        assert len(table) == 7 and table == record and {"IM0", *(f"IM{k}" for k in range(1, 6))} < set(table)


def test_results_of_earlier_versions_are_neither_redone_nor_told_twice(tmp_path, analysed):
    """They do not say which image they are of; their copies have other pseudonyms than they would have now."""
    medium(tmp_path / "in", "ADAMS", 0)
    run_with_copies(tmp_path)
    path = tmp_path / "out" / "ADAMS" / "study.json"
    data = json.loads(path.read_text())
    del data["provenance"]["input"]["instance_sha256"]
    path.write_text(json.dumps(data))
    (copy,) = (p.parent for p in (tmp_path / "share").glob("*/study.json"))
    key = anonymize.read_key(tmp_path / "out" / "pseudonyms.key")
    old = copy.rename(tmp_path / "share" / key.name("image", str(tmp_path / "in" / "ADAMS.dcm")))
    result, told = run_with_copies(tmp_path)
    assert result.skipped == 1 and "without a de-identified copy" not in " ".join(told) and old.exists()
    run_with_copies(tmp_path, overwrite=True)
    assert [p.parent for p in (tmp_path / "share").glob("*/study.json")] == [copy]


def of_slices(folder: Path) -> dict[str, int]:
    """How many slices each copy has; all copies are called as their folders."""
    studies = {p.parent.name: json.loads(p.read_text())["image"] for p in folder.glob("*/study.json")}
    assert all(image["path"] == name for name, image in studies.items())
    return {name: (*image["size"], 1)[2] for name, image in studies.items()}


@pytest.mark.parametrize("first", ["series", "file"])
@pytest.mark.parametrize("stated", [True, False])
def test_a_series_and_its_first_file_by_itself_have_a_copy_each(tmp_path, analysed, monkeypatch, first, stated):
    """Whichever comes first, and whether the files state a SOP Instance UID or not."""
    if not stated:
        monkeypatch.setattr(run_input, "instance_digest", lambda path: "")
    disc(tmp_path / "in", "ADAMS", range(1, 8), 1)
    key = tmp_path / "key"

    def work(what: str, share: str):
        named = [str(tmp_path / "in" / "IM1.dcm")] if what == "file" else None
        return run_with_copies(tmp_path, named, output=tmp_path / "out" / share / what, anonymize=tmp_path / share, key_file=key, dicom=())

    both = {}
    for what in (first, {"series": "file", "file": "series"}[first]):
        result, _told = work(what, "share")
        assert not result.failures
        work(what, f"{what} alone")
        both |= of_slices(tmp_path / f"{what} alone")
    assert sorted(both.values()) == [1, 7] and of_slices(tmp_path / "share") == both
    # Given again, each has its copy; made again, each takes the place of its own.
    for what in ("file", "series"):
        result, told = work(what, "share")
        assert result.skipped == 1 and "without a de-identified copy" not in " ".join(told)
        shutil.rmtree(tmp_path / "out" / "share" / what)
        work(what, "share")
        assert of_slices(tmp_path / "share") == both


def test_a_copy_of_a_series_by_an_earlier_version_keeps_its_name(tmp_path, analysed):
    """They called it as its first file by itself, which gets another name beside it and its own where there is none."""
    disc(tmp_path / "in", "ADAMS", range(1, 8), 1)
    run_with_copies(tmp_path, dicom=())
    study = files.read_study(tmp_path / "out" / "IM1")
    key = anonymize.read_key(tmp_path / "out" / "pseudonyms.key")
    old = anonymize.pseudonym(study, key, anonymize.ALONE)
    assert old == key.name("image", f"{tmp_path / 'in' / 'IM1.dcm'}\x1f{study.provenance['input']['instance_sha256']}")  # as 1.0 made it
    ((new, _slices),) = of_slices(tmp_path / "share").items()
    assert new != old

    data = json.loads((tmp_path / "share" / new / "study.json").read_text())
    (tmp_path / "share" / new).rename(tmp_path / "share" / old)
    (tmp_path / "share" / old / "study.json").write_text(json.dumps({**data, "image": {**data["image"], "path": old}}))
    for more in ({}, {"overwrite": True}):
        _result, told = run_with_copies(tmp_path, dicom=(), **more)
        assert of_slices(tmp_path / "share") == {old: 7} and "without a de-identified copy" not in " ".join(told)
    for _ in range(2):
        one = {"output": tmp_path / "one", "key_file": tmp_path / "out" / "pseudonyms.key", "dicom": (), "overwrite": True}
        run_with_copies(tmp_path, [str(tmp_path / "in" / "IM1.dcm")], **one)
        slices = of_slices(tmp_path / "share")
        assert slices.pop(old) == 7 and list(slices.values()) == [1] and new not in slices
    # It keeps that name when the series' copy is gone.
    shutil.rmtree(tmp_path / "share" / old)
    for more in ({}, {"overwrite": True}):
        _result, told = run_with_copies(tmp_path, [str(tmp_path / "in" / "IM1.dcm")], **{**one, "overwrite": False, **more})
        assert of_slices(tmp_path / "share") == slices and "without a de-identified copy" not in " ".join(told)


def test_the_copy_of_a_volume_in_one_file_keeps_its_name(tmp_path, analysed):
    """A file by itself, also where it is a volume: made again, it is no series that stands in its way."""
    identified(tmp_path / "in", "ge_abus")
    run_with_copies(tmp_path, dicom=())
    copies = of_slices(tmp_path / "share")
    assert [slices > 1 for slices in copies.values()] == [True]
    run_with_copies(tmp_path, dicom=(), overwrite=True)
    assert of_slices(tmp_path / "share") == copies


def test_a_copy_that_cannot_be_made_fails_its_input_and_leaves_nothing(tmp_path, analysed, monkeypatch):
    from BreastUSAILib import report

    def full(*args):
        raise OutputError("the disk is full.")

    identified(tmp_path / "in", "image")
    real = report.write_report
    monkeypatch.setattr(
        report,
        "write_report",
        lambda study, image, folder: full() if "share" in str(folder) else real(study, image, folder),
    )
    result, _ = run_with_copies(tmp_path)
    assert result.counts.failed == 1 and "disk is full" in result.failures[0].message
    assert not list((tmp_path / "out").glob("*/study.json"))
    assert not [p for p in (tmp_path / "share").iterdir() if p.is_dir()]
    monkeypatch.setattr(report, "write_report", real)
    result, _ = run_with_copies(tmp_path)
    assert result.counts.failed == 0 and len(list((tmp_path / "share").glob("*/study.json"))) == 1


@pytest.mark.parametrize(
    "options, words",
    [
        ({"anonymize": "out/share"}, "lie in each other"),
        ({"anonymize": "."}, "lie in each other"),
        ({"anonymize": None, "key_file": "key"}, "belongs to --anonymize"),
        ({"key_file": "share/key"}, "whose the copies are"),
    ],
)
def test_copies_lie_apart_from_the_results_and_from_the_key(tmp_path, options, words):
    options = {name: None if value is None else tmp_path / value for name, value in options.items()}
    with pytest.raises(UsageError, match=words):
        run_with_copies(tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_copies_and_results_of_runs_do_not_mix(tmp_path, analysed):
    identified(tmp_path / "in", "image")
    run_with_copies(tmp_path)
    with pytest.raises(UsageError, match="holds de-identified copies"):
        run_with_copies(tmp_path, output=tmp_path / "share", anonymize=tmp_path / "other")
    with pytest.raises(UsageError, match="holds the results of a run"):
        run_with_copies(tmp_path, output=tmp_path / "new", anonymize=tmp_path / "out")
    assert not (tmp_path / "new").exists() and not (tmp_path / "other").exists()
