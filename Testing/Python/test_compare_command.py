"""``breastusai compare``: two result folders in, a table and a page with pictures out."""

import base64
import csv
import io
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_samples import abvs, save, slices, speckle, text_report
from PIL import Image
from test_report import Page

from BreastUSAILib import RESEARCH_USE, analysed, cli, same_person
from BreastUSAILib.breast_position import with_positions
from BreastUSAILib.comparison import compare
from BreastUSAILib.comparison_page import MOST_PICTURED, comparison_html
from BreastUSAILib.errors import DataError
from BreastUSAILib.files import read_study, write_study
from BreastUSAILib.findings import REJECTED, Box, Finding, ImageInfo, Study
from BreastUSAILib.grid import index_box
from BreastUSAILib.identity import identity, pixels_digest
from BreastUSAILib.image import read_image, write_image
from BreastUSAILib.review import Review, with_reviews
from BreastUSAILib.study_image import examination_date

NASTY = "<img src=x onerror=alert(1)>.png"
PHANTOM = {"id": "d1", "version": "2", "task": "detect", "sha256": "cd" * 32, "trained_on": "400 phantom volumes"}


def examination(folder, name, *regions, outlined=True, nipple=None, models=(PHANTOM,), **about):
    """A volume with dark boxes, and its results: each region is (first voxel, number of voxels)."""
    array = np.full((40, 30, 50), 150, np.uint8)
    array[::2] += 3
    image = sitk.GetImageFromArray(array)
    findings = []
    for number, (start, size) in enumerate(regions, 1):
        part = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))[::-1]
        array[part] = 40
        inside = np.zeros_like(array)
        inside[part] = 1
        mask = sitk.GetImageFromArray(inside)
        mask.CopyInformation(image)
        sizes = {"volume_ml": float(inside.sum()) / 1000}
        sizes |= dict(
            zip(
                ("major_diameter_mm", "second_diameter_mm", "third_diameter_mm"),
                sorted(map(float, size))[::-1],
                strict=True,
            )
        )
        drawn = {"mask": mask, "label": number, "measurements": sizes} if outlined else {}
        findings.append(Finding(f"L{number}", index_box(image, start, size), 0.9 - number / 10, 0.25, **drawn))
    image = sitk.GetImageFromArray(array)
    path = write_image(image, folder / f"{name}.nrrd")
    study = Study(
        replace(ImageInfo.of(image, str(path)), **about),
        tuple(findings),
        provenance={"models": list(models), "notes": []},
    )
    study = study if nipple is None else with_positions(study, nipple, "R")
    write_study(study, folder / name)
    return folder / name, study, image


SMALL, LARGE, FAR = ((10, 8, 12), (6, 6, 6)), ((9, 8, 11), (12, 6, 6)), ((38, 12, 30), (5, 5, 5))


def pair(tmp_path, **kwargs):
    return examination(tmp_path, "a", SMALL, **kwargs)[0], examination(tmp_path, "b", FAR, LARGE, **kwargs)[0]


def test_a_table_and_a_page(tmp_path, capsys):
    earlier, later = pair(tmp_path)
    assert cli.main(["compare", str(earlier), str(later), "-o", str(tmp_path / "out"), "--days", "100"]) == 0
    said = capsys.readouterr().out
    assert "L1 -> L2  longest 6.0 -> 12.0 mm, volume +100 %" in said and "L1 (new)" in said and RESEARCH_USE in said
    rows = list(csv.DictReader((tmp_path / "out" / "comparison.csv").open(newline="")))
    assert [(r["status"], r["earlier_finding"], r["later_finding"]) for r in rows] == [
        ("followed", "L1", "L2"),
        ("new", "", "L1"),
    ]
    assert rows[0]["doubling_days"] == "100" and rows[0]["volume_change_percent"] == "100"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["comparison.csv", "comparison.html"]
    page = Page((tmp_path / "out" / "comparison.html").read_text())
    assert "1 followed, 1 new, 0 gone" in page.text and RESEARCH_USE in page.text and "Trained on phantoms" in page.text
    assert "100 days" in page.text and "nothing was found at this place" in page.text
    assert not [link for link in page.links if not link.startswith(("data:", "#"))]
    targets = {a["id"] for _, a in page.tags if "id" in a}
    assert all(link[1:] in targets for link in page.links if link.startswith("#"))
    # Two overviews, and three cuts of both examinations for each of two pairs.
    assert len(page.attributes("img", "src")) == 2
    assert len([t for t, a in page.tags if t == "image"]) == 12


def test_both_examinations_are_cut_through_their_own_lesion_on_one_scale(tmp_path):
    _, earlier, one = examination(tmp_path, "a", SMALL)
    _, later, other = examination(tmp_path, "b", LARGE)
    page = Page(comparison_html(compare(earlier, later), one, other))
    drawings = [a for t, a in page.tags if t == "image"]
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(a["href"].partition(",")[2])))) for a in drawings]
    for before, after in zip(pictures[:3], pictures[3:], strict=True):
        assert before.shape == after.shape and before.min() == after.min() == 40
    # In the transverse cut, across and down: 6 x 6 and 12 x 6 dark voxels.
    assert [(p == 40).sum() for p in (pictures[0], pictures[3])] == [36, 72]


def test_without_the_volumes_the_page_says_so(tmp_path, capsys):
    earlier, later = pair(tmp_path)
    (tmp_path / "a.nrrd").unlink()
    out = str(tmp_path / "out")
    assert cli.main(["compare", str(earlier), str(later), "-o", out, "-q"]) == 0
    page = Page((tmp_path / "out" / "comparison.html").read_text())
    assert "a.nrrd is not there as it was, so there are no pictures of it." in page.text
    assert len(page.attributes("img", "src")) == 1
    moved = (tmp_path / "b.nrrd").rename(tmp_path / "moved.nrrd")
    assert cli.main(["compare", str(earlier), str(later), "-o", out, "-q", "--later-image", str(moved)]) == 0
    assert len(Page((tmp_path / "out" / "comparison.html").read_text()).attributes("img", "src")) == 1
    assert capsys.readouterr().out == ""
    write_image(sitk.Image(5, 5, 5, sitk.sitkUInt8) + 3, moved)
    assert cli.main(["compare", str(earlier), str(later), "-o", out, "--later-image", str(moved)]) == 1


def known(folder, study, *, pixels=True):
    """The study with the checksums that a run keeps; without that of the pixels as older versions made it."""
    path = Path(study.image.path)
    kept = identity(path) | ({"pixels_sha256": pixels_digest(read_image(path).image)} if pixels else {})
    write_study(replace(study, provenance={**study.provenance, "input": kept}), folder)


@pytest.mark.parametrize("pixels", [True, False])
def test_a_volume_of_another_examination_is_refused_or_left_out(tmp_path, capsys, pixels):
    """Volumes of one scanner have one size: the size does not tell that the file is another one."""
    sides = [examination(tmp_path, name, region) for name, region in (("a", SMALL), ("b", LARGE))]
    for folder, study, _ in sides:
        known(folder, study, pixels=pixels)
    first, second = tmp_path / "a.nrrd", tmp_path / "b.nrrd"
    page, out = tmp_path / "out" / "comparison.html", ["-o", str(tmp_path / "out")]
    command = ["compare", *(str(folder) for folder, _, _ in sides), *out]
    assert cli.main(command) == 0 and "Note:" not in capsys.readouterr().out
    for side, other, own in (("--later-image", first, second), ("--earlier-image", second, first)):
        page.unlink()
        assert cli.main([*command, side, str(other)]) == 1 and not page.exists()
        told = capsys.readouterr().err
        for word in (f"{other} (SHA-256 {identity(other)['sha256'][:12]}", str(own), identity(own)["sha256"][:12], side, "--other-file"):
            assert word in told
        assert cli.main([*command, side, str(other), "--other-file"]) == 0
        assert f"Note: {other}: {analysed.OTHER_FILE}." in capsys.readouterr().out
    # The file under the name of the study is another one by now.
    first.rename(tmp_path / "moved.nrrd")
    shutil.copyfile(second, first)
    assert cli.main(command) == 0
    assert f"Note: {first} was changed or replaced" in (told := capsys.readouterr().out) and "neither its pictures nor its date are used" in told
    assert len(Page(page.read_text()).attributes("img", "src")) == 1 and "a.nrrd is not there as it was" in Page(page.read_text()).text
    # A copy of the same pixels is known by them, where the study keeps their checksum.
    assert cli.main([*command, "--earlier-image", str(tmp_path / "moved.nrrd")]) == 0
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "moved.nrrd")), str(tmp_path / "copy.mha"))
    assert cli.main([*command, "--earlier-image", str(tmp_path / "copy.mha")]) == (0 if pixels else 1)


@pytest.mark.parametrize("pixels", [True, False])
def test_one_image_is_not_compared_with_itself(tmp_path, capsys, pixels):
    folder, study, _ = examination(tmp_path, "a", SMALL)
    known(folder, study, pixels=pixels)
    shutil.copytree(folder, tmp_path / "copy")
    assert cli.main(["compare", str(folder), str(tmp_path / "copy"), "-o", str(tmp_path / "out"), "--days", "365"]) == 2
    assert "are results of the very same image; give the results of two examinations." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def of_patient(tmp_path, name, patient="ADAMS", born="19500101", day="20260102", voxels=None):
    """Results of a DICOM volume."""
    dataset = abvs(speckle((40, 30, 50), seed=ord(name[0])) if voxels is None else voxels, (1, 1, 1))
    dataset.PatientID, dataset.PatientBirthDate, dataset.AcquisitionDate = patient, born, day
    path = save(dataset, tmp_path / f"{name}.dcm")
    loaded = read_image(path)
    study = Study(loaded.info, (Finding("L1", index_box(loaded.image, *SMALL), 0.9),), provenance={"models": [], "notes": []})
    known(tmp_path / name, study)
    return tmp_path / name


@pytest.mark.parametrize(
    ("later", "says"),
    [
        ({"patient": "BROWN"}, "another Patient ID, so"),
        ({"born": "19800101"}, "another birth date, so"),
        ({"patient": "BROWN", "born": "19800101"}, "another Patient ID and another birth date, so"),
        ({"patient": "adams"}, ""),
        ({"patient": "", "born": ""}, ""),
    ],
)
def test_two_patients_are_not_compared(tmp_path, capsys, later, says):
    folders = of_patient(tmp_path, "a"), of_patient(tmp_path, "b", day="20260202", **later)
    command = ["compare", *map(str, folders), "-o", str(tmp_path / "out")]
    page = tmp_path / "out" / "comparison.html"
    assert cli.main(command) == (1 if says else 0) and page.exists() is not bool(says)
    told = capsys.readouterr()
    if not says:
        assert "Note:" not in told.out
        return
    assert says in told.err and "--same-person" in told.err and "ADAMS" not in told.err
    assert cli.main([*command, "--same-person"]) == 0
    assert f"Note: {same_person.SAID}." in capsys.readouterr().out
    assert "of one person was said by the user" in Page(page.read_text()).text
    # What is not at hand says nothing.
    (tmp_path / "b.dcm").unlink()
    assert cli.main(command) == 0


@pytest.mark.parametrize("big_endian", [False, True])
def test_two_patients_in_files_without_preamble_are_refused(tmp_path, big_endian):
    """The reader takes such files, so what they state of the patient counts."""
    paths = []
    for name, patient in (("a", "ADAMS"), ("b", "BROWN")):
        of_patient(tmp_path, name, patient)
        bare = pydicom.Dataset({element.tag: element for element in pydicom.dcmread(tmp_path / f"{name}.dcm")})
        paths.append(tmp_path / "bare" / f"{name}.dcm")
        paths[-1].parent.mkdir(exist_ok=True)
        pydicom.dcmwrite(paths[-1], bare, implicit_vr=False, little_endian=not big_endian)
        assert read_image(paths[-1]).image.GetSize() == (50, 30, 40)
    assert examination_date(paths[0]) == date(2026, 1, 2)
    with pytest.raises(DataError, match="another Patient ID, so"):
        same_person.check(*paths)
    assert same_person.check(paths[0], paths[0]) == ()


@pytest.mark.parametrize("content", [b"", b"no image", b"NRRD0004\n" + bytes(200)])
def test_what_is_called_dicom_and_is_none_states_nothing(tmp_path, content):
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    assert examination_date(path) is None and same_person.check(path, path) == ()


def test_two_volumes_of_one_day_are_compared(tmp_path, capsys):
    folders = of_patient(tmp_path, "a"), of_patient(tmp_path, "b")
    assert cli.main(["compare", *map(str, folders), "-o", str(tmp_path / "out")]) == 0
    assert "the same day" in Page((tmp_path / "out" / "comparison.html").read_text()).text


def without(folder, *ids):
    """Results of which a reader rejected these findings, as they are reported."""
    study = read_study(folder)
    write_study(with_reviews(study, {i: Review(REJECTED) for i in ids}), folder)


def test_what_a_reader_rejected_is_not_called_unfound(tmp_path, capsys):
    earlier, later = pair(tmp_path)
    command = ["compare", str(earlier), str(later), "-o", str(tmp_path / "out")]

    def compared():
        assert cli.main(command) == 0
        return capsys.readouterr().out, Page((tmp_path / "out" / "comparison.html").read_text()).text

    without(earlier, "L1")
    said, page = compared()
    note = "he reader rejected 1 of the earlier findings; what is new may be among them."
    assert f"Note: t{note}" in said and f"T{note}" in page and "L2 (new)" in page
    assert "Earlier: nothing is reported at this place" in page and "nothing was found" not in page
    without(later, "L1", "L2")
    said, page = compared()
    assert "of the earlier findings" not in said and "(new)" not in page  # nothing is left that is new
    assert "No lesion is reported in either examination; the reader rejected what was found." in page
    shutil.rmtree(earlier)
    examination(tmp_path, "a", SMALL)
    said, page = compared()
    assert "Note: the reader rejected 2 of the later findings; what is gone may be among them." in said
    assert "Later: nothing is reported at this place" in page and "L1 (gone)" in page


def test_given_days_do_not_hide_what_the_dates_say(tmp_path, capsys):
    folders = [str(f) for f in (of_patient(tmp_path, "a"), of_patient(tmp_path, "b", day="20260202"))]  # 31 days later
    out = ["-o", str(tmp_path / "out")]
    assert cli.main(["compare", *folders[::-1], *out, "--days", "31"]) == 2
    assert "give the earlier one first" in capsys.readouterr().err and not (tmp_path / "out").exists()
    for days, noted in ((31, False), (32, False), (365, True), (1, True)):
        assert cli.main(["compare", *folders, *out, "--days", str(days)]) == 0
        said = f"--days says {days} between the examinations and the dates in their files 31; {days} was taken."
        assert (f"Note: {said}" in capsys.readouterr().out) is noted
        page = Page((tmp_path / "out" / "comparison.html").read_text()).text
        assert ("1 day" if days == 1 else f"{days} days") in page and "1 days" not in page.replace("31 days", "") and (said in page) is noted


def test_a_file_that_was_replaced_gives_no_date(tmp_path, capsys):
    earlier, _ = pair(tmp_path)
    voxels = speckle((40, 30, 50))
    path = save(abvs(voxels, (1, 1, 1)), tmp_path / "later.dcm")
    loaded = read_image(path)
    known(tmp_path / "later", Study(loaded.info, (Finding("L1", index_box(loaded.image, *SMALL), 0.9),), provenance={"models": [], "notes": []}))
    command = ["compare", str(earlier), str(tmp_path / "later"), "-o", str(tmp_path / "out"), "--limit", "500"]
    assert cli.main(command) == 0
    assert "2026-01-02" in (tmp_path / "out" / "comparison.html").read_text()
    save(abvs(voxels[::-1], (1, 1, 1)), path)
    assert cli.main(command) == 0
    assert "2026-01-02" not in (tmp_path / "out" / "comparison.html").read_text()
    assert "nor its date" in capsys.readouterr().out


def test_a_study_without_a_checksum_is_compared_and_says_so(tmp_path, capsys):
    earlier, later = pair(tmp_path)
    assert cli.main(["compare", str(earlier), str(later), "-o", str(tmp_path / "out")]) == 0
    assert f"Note: {analysed.not_checked(tmp_path / 'b.nrrd')}." in capsys.readouterr().out


def test_the_folder_of_a_series_is_sorted_out(tmp_path, capsys):
    earlier, _ = pair(tmp_path)
    voxels = speckle((40, 30, 50))
    for k, dataset in enumerate(slices(voxels, (1, 1, 1))):
        save(dataset, tmp_path / "series" / f"IM{k:03}")
    loaded = read_image(tmp_path / "series")
    box = index_box(loaded.image, *SMALL)
    study = Study(replace(loaded.info, path=str(tmp_path / "gone")), (Finding("L1", box, 0.9),), provenance={"models": [], "notes": []})
    write_study(study, tmp_path / "later")
    (tmp_path / "series" / ".DS_Store").write_bytes(b"")
    (tmp_path / "series" / "Thumbs.db").write_bytes(b"no image")
    save(text_report(), tmp_path / "series" / "A-report")
    command = ["compare", str(earlier), str(tmp_path / "later"), "-o", str(tmp_path / "out"), "--limit", "500"]
    assert cli.main([*command, "--later-image", str(tmp_path / "series")]) == 0, capsys.readouterr().err
    assert len(Page((tmp_path / "out" / "comparison.html").read_text()).attributes("img", "src")) == 2


def test_nipples_on_the_command_line_and_from_the_results(tmp_path, capsys):
    earlier, later = pair(tmp_path)
    command = ["compare", str(earlier), str(later), "-o", str(tmp_path / "out")]
    assert cli.main([*command, "--earlier-nipple", "20", "0", "20"]) == 2  # which breast?
    assert "give the laterality" in capsys.readouterr().err
    assert cli.main([*command, "--earlier-nipple", "20", "0", "20", "--laterality", "R"]) == 2
    assert "in one of the two volumes only" in capsys.readouterr().err
    nipples = ["--earlier-nipple", "20", "0", "20", "--later-nipple", "60", "0", "20", "--laterality", "R"]
    assert cli.main([*command, *nipples, "--limit", "10"]) == 0
    assert "0 followed" in capsys.readouterr().out  # 40 mm further from the nipple
    text = Page((tmp_path / "out" / "comparison.html").read_text()).text
    assert "nipple to nipple: shifted by 40.0, 0.0, 0.0 mm" in text
    (tmp_path / "marked").mkdir()
    earlier, later = pair(tmp_path / "marked", nipple=(20, 0, 20))
    assert cli.main(["compare", str(earlier), str(later), "-o", str(tmp_path / "out"), "-q"]) == 0
    assert "shifted by 0.0" in Page((tmp_path / "out" / "comparison.html").read_text()).text


@pytest.mark.parametrize("known", [{"laterality": "R"}, {"nipple": (20, 0, 20)}])
def test_a_laterality_that_contradicts_the_results_is_refused(tmp_path, capsys, known):
    """Also without a nipple on the command line, and in either of the two."""
    earlier, later = pair(tmp_path / "known", **known)
    unknown, _ = pair(tmp_path / "unknown")
    out = ["-o", str(tmp_path / "out"), "-q"]
    for folders, named in (((earlier, later), "a.nrrd"), ((unknown, later), "b.nrrd")):
        assert cli.main(["compare", *map(str, folders), *out, "--laterality", "L"]) == 2
        assert f"{named} is of the right breast, and L was given" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert cli.main(["compare", str(earlier), str(later), *out, "--laterality", "R"]) == 0
    # A nipple that is marked anew is of the breast that is known already.
    nipples = ["--earlier-nipple", "20", "0", "20", "--later-nipple", "20", "0", "20"]
    assert cli.main(["compare", str(earlier), str(later), *out, *nipples]) == 0


def test_folders_are_found_or_refused_in_a_sentence(tmp_path, capsys):
    earlier, later = pair(tmp_path)
    alone = tmp_path / "run"
    alone.mkdir()
    later = later.rename(alone / "b")
    out = ["-o", str(tmp_path / "out"), "-q"]
    assert cli.main(["compare", str(earlier / "study.json"), str(alone), *out]) == 0
    for one, other, code, says in (
        (tmp_path / "none", later, 1, "holds no study.json"),
        (earlier, earlier, 2, "given twice"),
    ):
        assert cli.main(["compare", str(one), str(other), *out]) == code
        assert says in capsys.readouterr().err
    examination(alone, "c", FAR)
    assert cli.main(["compare", str(earlier), str(alone), *out]) == 1
    assert "results of 2 inputs; give one of them: b, c" in capsys.readouterr().err


def test_the_date_of_the_examination_is_the_dicom_files(tmp_path):
    dataset = abvs(speckle((4, 5, 6)), (1, 1, 1))
    for keyword in ("AcquisitionDate", "ContentDate", "SeriesDate"):
        if keyword in dataset:
            del dataset[keyword]
    dataset.StudyDate = "20240131"
    assert str(examination_date(save(dataset, tmp_path / "a.dcm"))) == "2024-01-31"
    dataset.AcquisitionDate = "20240201"
    (tmp_path / "series").mkdir()
    save(dataset, tmp_path / "series" / "b.dcm")
    (tmp_path / "series" / ".DS_Store").write_bytes(b"")
    report = text_report()
    report.StudyDate = report.ContentDate = "20230101"
    save(report, tmp_path / "series" / "a-report")
    assert str(examination_date(tmp_path / "series")) == "2024-02-01"
    dataset.AcquisitionDate, dataset.StudyDate = "19000101", "19000101"  # as de-identified copies have it
    assert examination_date(save(dataset, tmp_path / "f.dcm")) is None
    dataset.AcquisitionDate, dataset.StudyDate = "", ""
    assert examination_date(save(dataset, tmp_path / "c.dcm")) is None
    (tmp_path / "d.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    write_image(sitk.Image(4, 4, 4, sitk.sitkUInt8), tmp_path / "e.nrrd")
    assert [examination_date(tmp_path / n) for n in ("d.dcm", "e.nrrd", "none")] == [None] * 3


def test_names_are_escaped_and_many_pairs_are_cut_short():
    info = ImageInfo(NASTY, (50, 30, 40), (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    findings = tuple(Finding(f"L{i}", Box((1 + 2 * i % 40, 10, 1 + 3 * i % 37), (2, 2, 2)), 0.5) for i in range(1, 26))
    study = Study(info, findings)
    text = comparison_html(compare(study, study), None, None, ("<b>then</b>", ""))
    assert NASTY not in text and "<b>then</b>" not in text
    page = Page(text)
    assert len(page.attributes("section", "aria-labelledby")) == 1 + MOST_PICTURED
    assert all(f.id in page.text for f in findings)
    empty = Page(comparison_html(compare(Study(info), Study(info)), None, None))
    assert "No lesion was found in either examination." in empty.text
