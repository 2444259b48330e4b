"""Folders and DICOMDIRs: what is taken, what belongs together, what is left and why."""

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_samples import (
    abvs,
    ge_abus,
    instance,
    item,
    mr_image,
    one_of_each,
    region,
    save,
    secondary_capture,
    slices,
    speckle,
    text_report,
    us_image,
    write_dicomdir,
)
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from BreastUSAILib.dicom_series import _File, _join, find, is_dicom, sort_out
from BreastUSAILib.dicom_view import parse_name
from BreastUSAILib.errors import ImageError
from BreastUSAILib.image import read_image
from BreastUSAILib.inputs import discover

SPACING = (0.2, 0.3, 0.5)
VOXELS = speckle((5, 12, 16))


def names(found):
    return [i.path.name for i in found.inputs]


def reasons(found):
    return {path.name: reason for path, reason in found.skipped}


# ------------------------------------------------------------------------------------------------------------ folders


def test_a_folder_with_many_kinds(tmp_path):
    one_of_each(tmp_path)
    found = find(tmp_path)
    assert names(found) == [
        "abvs.dcm",
        "enhanced_volume.dcm",
        "ge_abus.dcm",
        "secondary_capture.dcm",
        "slice.dcm",
        "us_cine.dcm",
        "us_image.dcm",
        "us_image_rgb.dcm",
    ]
    assert all(i.files == () for i in found.inputs)
    assert reasons(found) == {
        "mr_image.dcm": "not an ultrasound image: MR Image Storage",
        "text_report.dcm": "not an ultrasound image: Basic Text SR Storage",
    }


def test_a_whole_examination(tmp_path):
    """Three views of each breast in one folder, names that say nothing: each volume knows which it is."""
    study = generate_uid()
    views = [(side, view) for side in "RL" for view in ("AP", "LAT", "MED")]
    for number, (side, view) in enumerate(views):
        save(
            ge_abus(VOXELS, SPACING, description=side + view, laterality=side, study=study),
            tmp_path / f"{9 - number}.dcm",
        )
    found = find(tmp_path)
    loaded = [read_image(i.path, files=i.files) for i in found.inputs]
    assert sorted((image.laterality, image.view) for image in loaded) == sorted(views)


def test_slices_of_several_series_are_told_apart(tmp_path):
    """Two series of slices and a still in one folder, their files mixed."""
    other = speckle((4, 12, 16), seed=5)
    study = generate_uid()
    first, second = slices(VOXELS, SPACING, study=study), slices(other, SPACING, study=study, description="R MED")
    for k, ds in enumerate(first):
        save(ds, tmp_path / f"{k}a")
    for k, ds in enumerate(second):
        save(ds, tmp_path / f"{k}b")
    save(us_image(VOXELS[0], study=study, series=first[0].SeriesInstanceUID), tmp_path / "still")
    found = find(tmp_path)
    assert [(i.path.name, len(i.files)) for i in found.inputs] == [("0a", 5), ("0b", 4), ("still", 0)]
    for series, expected in zip(found.inputs, (VOXELS, other), strict=False):
        np.testing.assert_array_equal(
            sitk.GetArrayFromImage(read_image(series.path, files=series.files).image), expected
        )


def test_two_placed_images_are_no_volume(tmp_path):
    for k, ds in enumerate(slices(VOXELS[:2], SPACING)):
        save(ds, tmp_path / f"{k}.dcm")
    assert [(i.path.name, i.files) for i in find(tmp_path).inputs] == [("0.dcm", ()), ("1.dcm", ())]


def test_images_that_lie_anywhere_are_no_volume(tmp_path):
    files = slices(VOXELS, SPACING)
    for k, ds in enumerate(files):
        ds.ImagePositionPatient = [30 * k, 0, 2 * k]
        save(ds, tmp_path / f"{k}.dcm")
    assert all(i.files == () for i in find(tmp_path).inputs)
    assert len(find(tmp_path).inputs) == 5


def series(folder, edit, count=6):
    """Slices of one series, written after `edit(k, dataset)`; (first file's name, number of files) of the inputs found."""
    for k, ds in enumerate(slices(speckle((count, 12, 16)), SPACING)):
        edit(k, ds)
        save(ds, folder / f"{k:02}.dcm")
    return [(i.path.name, len(i.files)) for i in find(folder).inputs]


def without_uids(ds):
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        delattr(ds, keyword)


HALVES = [("00.dcm", 3), ("03.dcm", 3)]


@pytest.mark.parametrize("uids", [True, False])
@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("PatientID", ("P1", "P2")),
        ("PatientName", ("Adams^Eve", "Brown^Sue")),
        ("Laterality", ("R", "L")),
        ("ImageLaterality", ("R", "L")),
        ("SeriesDescription", ("R AP", "L AP")),
        ("SeriesDescription", ("R AP", "R MED")),
    ],
)
def test_patients_breasts_and_views_are_not_joined(tmp_path, keyword, values, uids):
    """Careless de-identification gives one Series Instance UID to all files, or none."""

    def edit(k, ds):
        del ds.Laterality
        setattr(ds, keyword, values[k // 3])
        if not uids:
            without_uids(ds)

    assert series(tmp_path, edit) == HALVES
    files = sorted(tmp_path.iterdir())
    with pytest.raises(ImageError, match="several patients, breasts or views"):
        read_image(files[0], files=files)


@pytest.mark.parametrize("uids", [True, False])
@pytest.mark.parametrize("value", ["", None])
def test_slices_of_nobody_are_one_volume(tmp_path, value, uids):
    """De-identified: names, numbers and side emptied or left out."""

    def edit(k, ds):
        ds.PatientID = ds.PatientName = ds.Laterality = ds.SeriesDescription = value
        if value is None:
            del ds.PatientID, ds.PatientName, ds.Laterality, ds.SeriesDescription
        if not uids:
            without_uids(ds)

    assert series(tmp_path, edit) == [("00.dcm", 6)]


def test_what_some_files_do_not_state_parts_no_series(tmp_path):
    def edit(k, ds):
        ds.Laterality = ds.SeriesDescription = ""
        if k == 4:
            ds.Laterality = "R"
        ds.PatientID = "P1" if k % 2 else ""
        ds.PatientName = ("Adams^Eve", "ADAMS^EVE^^ ", "")[k % 3]
        ds.AcquisitionNumber, ds.AcquisitionTime = k + 1, f"10150{k}"

    assert series(tmp_path, edit) == [("00.dcm", 6)]
    assert read_image(tmp_path).laterality == "R"


def test_a_file_that_may_be_of_either_breast_comes_by_itself(tmp_path):
    def edit(k, ds):
        ds.Laterality, ds.SeriesDescription = "RRRLLL"[k] if k != 1 else "", ""

    # Two slices of the right breast are too few for a volume.
    assert series(tmp_path, edit) == [("00.dcm", 0), ("01.dcm", 0), ("02.dcm", 0), ("03.dcm", 3)]


def test_without_a_series_uid_a_slice_location_joins_nothing(tmp_path):
    def edit(k, ds):
        without_uids(ds)
        del ds.ImagePositionPatient, ds.ImageOrientationPatient
        ds.SliceLocation = k / 2

    assert series(tmp_path, edit, 12) == [(f"{k:02}.dcm", 0) for k in range(12)]


def located(locations, depths=None):
    """An edit of `series`: places by Slice Location alone, and a calibrated region of its own for each depth (mm a pixel)."""

    def edit(k, ds):
        del ds.ImagePositionPatient, ds.ImageOrientationPatient
        ds.SliceLocation = locations[k]
        if depths:
            ds.SequenceOfUltrasoundRegions = Sequence([region([depths[k] / 10] * 2, (0, 0, 15, 11))])

    return edit


@pytest.mark.parametrize(
    ("locations", "depths"),
    [
        ([1, 2, 3, 4], [0.1, 0.12, 0.1, 0.08]),
        ([1, 2, 3, 4], None),
        ([1, 2.3, 9, 30], None),
        (list(range(12)), [0.1, 0.12] * 6),  # each depth alone lies at even steps, and is too little for a volume
        ([0, 1, 2.3, 2.6, 5, 9, 9.5, 14, 20, 31, 32, 40], None),
        ([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3], None),
    ],
)
def test_images_of_a_2d_examination_with_a_slice_location_are_each_read(tmp_path, locations, depths):
    found = series(tmp_path, located(locations, depths), len(locations))
    assert found == [(f"{k:02}.dcm", 0) for k in range(len(locations))]
    for path in sorted(tmp_path.iterdir()):
        read_image(path)


@pytest.mark.parametrize("left_out", [[], [4], [4, 9]])
def test_slices_by_their_location_alone(tmp_path, left_out):
    """Two slices that are missing, and one that was sent twice, leave a volume what it is."""
    locations = [k / 2 for k in range(40) if k not in left_out]
    assert series(tmp_path, located(locations), len(locations)) == [("00.dcm", len(locations))]
    twice = save(slices(VOXELS, SPACING)[0], tmp_path / "x" / "00.dcm")
    found = series(twice.parent, located([0, *locations]), len(locations) + 1)
    assert found == [("00.dcm", len(locations) + 1)]


@pytest.mark.parametrize("aside", [0, 2, 29])
def test_an_image_that_lies_aside_dissolves_no_volume(tmp_path, aside):
    """A scout, wherever it comes: sideways by 50 mm; it is read by itself."""

    def edit(k, ds):
        if k == aside:
            ds.ImagePositionPatient = [50, 0, k / 2]

    first = "01.dcm" if aside == 0 else "00.dcm"
    assert sorted(series(tmp_path, edit, 30)) == sorted([(first, 29), (f"{aside:02}.dcm", 0)])
    depths = {i.path.name: read_image(i.path, files=i.files).image.GetSize()[2] for i in find(tmp_path).inputs}
    # Within the sweep its place is filled from the neighbours, as that of any slice that is missing.
    assert depths == {first: 30 if aside == 2 else 29, f"{aside:02}.dcm": 1}


def test_few_images_of_which_some_lie_in_a_row_are_no_volume(tmp_path):
    def edit(k, ds):
        ds.ImagePositionPatient = [[0, 0, 0], [0, 0, 1], [0, 0, 9], [40, 0, 3]][k]

    assert series(tmp_path, edit, 4) == [(f"{k:02}.dcm", 0) for k in range(4)]


def test_copies_are_taken_once(tmp_path):
    ds = us_image(VOXELS[0])
    save(ds, tmp_path / "a.dcm")
    save(ds, tmp_path / "b.dcm")
    found = find(tmp_path)
    assert names(found) == ["a.dcm"]
    assert reasons(found) == {"b.dcm": "a copy of a.dcm"}


def test_captures_only_of_ultrasound(tmp_path):
    save(secondary_capture(VOXELS[0]), tmp_path / "a.dcm")
    save(secondary_capture(VOXELS[0], modality="OT"), tmp_path / "b.dcm")
    found = find(tmp_path)
    assert names(found) == ["a.dcm"]
    assert reasons(found) == {"b.dcm": "not an ultrasound image: Secondary Capture Image Storage (OT)"}


def test_photographs_of_ultrasound_are_no_captures(tmp_path):
    for name, sop in (("a.dcm", "1.2.840.10008.5.1.4.1.1.77.1.4"), ("b.dcm", "1.2.840.10008.5.1.4.1.1.7.4")):
        ds = secondary_capture(VOXELS[0])
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop
        save(ds, tmp_path / name)
    found = find(tmp_path)
    assert names(found) == ["b.dcm"]
    assert reasons(found) == {"a.dcm": "not an ultrasound image: VL Photographic Image Storage (US)"}


def test_our_own_results_are_no_inputs(tmp_path):
    ds = secondary_capture(VOXELS[0])
    ds.Manufacturer = "BreastUSAI"
    save(ds, tmp_path / "a.dcm")
    assert "a result of BreastUSAI" in reasons(find(tmp_path))["a.dcm"]


def test_an_ultrasound_object_without_pixels(tmp_path):
    save(instance("1.2.840.10008.5.1.4.1.1.6.1"), tmp_path / "a.dcm")
    assert reasons(find(tmp_path)) == {"a.dcm": "an ultrasound object without pixels"}


def test_damaged_files_come_through_to_be_told_when_they_are_read(tmp_path):
    path = save(us_image(VOXELS[0]), tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes()[:140])
    save(text_report(), tmp_path / "b.dcm")
    (tmp_path / "c.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 300)
    found = find(tmp_path)
    told = {*names(found), *reasons(found)}
    assert told == {"a.dcm", "b.dcm", "c.dcm"}
    for i in found.inputs:
        with pytest.raises(ImageError, match=str(i.path)):
            read_image(i.path)


def test_what_is_not_dicom_comes_through(tmp_path):
    png = tmp_path / "a.png"
    png.write_bytes(b"\x89PNG")
    assert [i.path for i in sort_out([png]).inputs] == [png]
    assert find(tmp_path).inputs == ()


def test_no_such_folder(tmp_path):
    with pytest.raises(ImageError, match="is no folder"):
        find(tmp_path / "nowhere")


# ----------------------------------------------------------------------------------------------------------- DICOMDIR


def test_a_dicomdir_names_its_files(tmp_path):
    for k, ds in enumerate(slices(VOXELS, SPACING)):
        save(ds, tmp_path / f"{k}.dcm")
    save(mr_image(VOXELS[0]), tmp_path / "mr.dcm")
    dicomdir = write_dicomdir(tmp_path)
    found = find(dicomdir)
    assert [len(i.files) for i in found.inputs] == [5]
    assert list(reasons(found).values()) == ["not an ultrasound image: MR Image Storage"]
    found.inputs[0].files[0].unlink()
    found = find(dicomdir)
    assert [len(i.files) for i in found.inputs] == [4]
    assert "listed in DICOMDIR, but not there; copy the whole medium" in reasons(found).values()


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
@pytest.mark.parametrize(
    "name", [["..", "secret"], ["A", "..", "..", "secret"], ["/etc/passwd"], "../secret", ["LINK"], ["A\0B"]]
)
def test_a_dicomdir_cannot_name_files_elsewhere(tmp_path, name):
    medium = tmp_path / "medium"
    (medium / "A").mkdir(parents=True)
    secret = save(us_image(VOXELS[0]), tmp_path / "secret")
    (medium / "LINK").symlink_to(secret)
    directory = instance("1.2.840.10008.1.3.10")
    directory.DirectoryRecordSequence = Sequence([item(DirectoryRecordType="IMAGE", ReferencedFileID=name)])
    found = find(save(directory, medium / "DICOMDIR"))
    assert found.inputs == ()
    assert len(found.skipped) == 1


def test_a_medium_that_was_copied_without_capitals(tmp_path):
    for k, ds in enumerate(slices(VOXELS, SPACING)):
        save(ds, tmp_path / f"{k}.dcm")
    dicomdir = write_dicomdir(tmp_path)
    for path in sorted(dicomdir.parent.rglob("*"), reverse=True):
        path.rename(path.with_name(path.name.lower()))
    assert [len(i.files) for i in find(dicomdir.with_name("dicomdir")).inputs] == [5]


def test_not_a_dicomdir(tmp_path):
    with pytest.raises(ImageError, match="is no DICOMDIR"):
        find(save(us_image(VOXELS[0]), tmp_path / "DICOMDIR"))


# --------------------------------------------------------------------------------------------------- breastusai run


def test_a_run_takes_the_series_of_a_folder(tmp_path):
    for k, ds in enumerate(slices(VOXELS, SPACING)):
        save(ds, tmp_path / "in" / "s" / f"{k}.dcm")
    save(abvs(VOXELS, SPACING), tmp_path / "in" / "v")
    save(mr_image(VOXELS[0]), tmp_path / "in" / "mr.dcm")
    (tmp_path / "in" / "notes.txt").write_text("x")
    parts = list(discover([str(tmp_path / "in")], tmp_path / "out"))
    sources = [source for part in parts for source in part.sources]
    assert [(str(s.within), len(s.files)) for s in sources] == [("v", 0), ("s/0.dcm", 5)]
    left = [path.name for part in parts for path in part.left]
    assert sorted(left) == ["mr.dcm", "notes.txt"]
    why = dict(pair for part in parts for pair in part.reasons)
    assert why == {tmp_path / "in" / "mr.dcm": "not an ultrasound image: MR Image Storage"}
    named = list(discover([str(tmp_path / "in" / "mr.dcm")], tmp_path / "out"))
    assert [s.path.name for s in named[0].sources] == ["mr.dcm"]  # what is named is an input, whatever it is


def test_a_series_and_its_first_file_in_one_command_are_told(tmp_path):
    """Both have the path of that file, so the later one of them was passed over without a word."""
    folder = tmp_path / "s"
    paths = [save(ds, folder / f"IM{k}.dcm") for k, ds in enumerate(slices(VOXELS, SPACING))]
    for names in ([str(paths[0]), str(folder)], [str(folder), str(paths[0])], [f"{folder}/IM0*", f"{folder}/IM*"]):
        found = list(discover(names, tmp_path / "out"))
        assert sum(len(f.sources) for f in found) == 1
        ((_, sentence),) = [failure for f in found for failure in f.failures]
        assert f"first of a series of {len(paths)} files" in sentence and "an image by itself" in sentence
    twice = list(discover([str(folder), str(folder)], tmp_path / "out"))
    assert [len(s.files) for f in twice for s in f.sources] == [len(paths)] and not any(f.failures for f in twice)


def test_a_series_without_preambles_is_one_volume(tmp_path):
    folder = tmp_path / "s"
    paths = [save(ds, folder / f"IM{k}.dcm") for k, ds in enumerate(slices(VOXELS, SPACING))]
    for path in paths:
        content = path.read_bytes()
        assert content[128:132] == b"DICM"
        path.write_bytes(content[132:])
    ((source,),) = (found.sources for found in discover([str(folder)], tmp_path / "out"))
    assert source.files == tuple(paths)
    assert read_image(source.path, files=source.files).image.GetSize()[2] == len(paths)
    paths[0].rename(tmp_path / "IM0.txt")
    assert not is_dicom(tmp_path / "IM0.txt")  # neither content nor name say so


def test_a_run_takes_a_dicomdir(tmp_path):
    for k, ds in enumerate(slices(VOXELS, SPACING)):
        save(ds, tmp_path / f"{k}.dcm")
    dicomdir = write_dicomdir(tmp_path)
    (part,) = discover([str(dicomdir)], tmp_path / "out")
    assert [len(s.files) for s in part.sources] == [5]
    assert part.failures == ()
    dicomdir.write_bytes(b"no")
    (part,) = discover([str(dicomdir)], tmp_path / "out")
    assert part.failures[0][0] == str(dicomdir)


# -------------------------------------------------------------------------------------------------- breast and view


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("RAP", ("R", "AP")),
        ("LLAT", ("L", "LAT")),
        ("RMED", ("R", "MED")),
        ("LATR", ("R", "LAT")),
        ("L LAT", ("L", "LAT")),
        ("Breast right, antero-posterior", ("R", "AP")),
        ("LEFT_MEDIAL", ("L", "MED")),
        ("rt sup 2", ("R", "SUP")),
        ("lat", (None, "LAT")),
        ("ABUS left and right", (None, None)),
        ("R AP LAT", ("R", None)),
        ("Lateral", (None, "LAT")),
        ("Mapping", (None, None)),
        ("", (None, None)),
        # A letter is a side where it stands alone, ...
        ("Breast L", ("L", None)),
        ("US_R_BREAST", ("R", None)),
        ("R-AP", ("R", "AP")),
        ("US-L-Breast", ("L", None)),
        ("Breast (R)", ("R", None)),
        ("Breast L.", ("L", None)),
        ("Mamma R, 2", ("R", None)),
        ("R 12 o'clock", ("R", None)),
        ("both breasts R+L", (None, None)),
        ("R/LAT", ("R", "LAT")),
        ("LAT/R", ("R", "LAT")),
        ("US R/lateral 2", ("R", "LAT")),
        ("R.MED", ("R", "MED")),
        ("Med.L", ("L", "MED")),
        ("R|AP", ("R", "AP")),
        ("L=AP", ("L", "AP")),
        ("*R*", ("R", None)),
        ("anteroposterior/L", ("L", "AP")),
        ("L 10-11 Uhr", ("L", None)),
        ("Mamma L 1-2h", ("L", None)),
        ("R 1-2 o'clock", ("R", None)),
        ("R 10-11 o’clock", ("R", None)),
        ("APR", ("R", "AP")),
        ("APL", ("L", "AP")),
        (" SUPR_", ("R", "SUP")),
        ("INFL", ("L", "INF")),
        # ... not in the names of probes, in abbreviations and before apostrophes.
        ("Breast L12-5", (None, None)),
        ("Breast L 12-5", (None, None)),
        ("Philips L12-3 SUP", (None, "SUP")),
        ("AP-T L15-7io", (None, "AP")),
        ("Siemens 14L5", (None, None)),
        ("GE 9L-D", (None, None)),
        ("12-L", (None, None)),
        ("US BREAST R/O MASS", (None, None)),
        ("BREAST LIMITED R/O ABSCESS LEFT", ("L", None)),
        ("US breast w/ Doppler l/s", (None, None)),
        ("LAT R/O MASS", (None, "LAT")),
        ("LAT/R/O", (None, "LAT")),
        ("R/L LAT", (None, "LAT")),
        ("R/Latex", (None, None)),
        ("Plat/R", (None, None)),
        ("R/MEDIAN", (None, None)),
        ("L*12-5", (None, None)),
        ("L |12-5 Hz", (None, None)),
        ("L 12-5 AP", (None, "AP")),
        ("L 17-5 HD", (None, None)),
        ("L 12-5 H", (None, None)),
        ("Probe=L", (None, None)),
        ("L.A. MED", (None, "MED")),
        ("APR 2", (None, None)),
        ("supr. LAT", (None, "LAT")),
        ("infl.", (None, None)),
        ("R2 Breast", (None, None)),
        ("L.S. Breast", (None, None)),
        ("Breast RT L12-5", ("R", None)),
        ("Breast APR 2024", (None, None)),
        ("Mamma infl.", (None, None)),
        # Other languages.
        ("Écho de l'aisselle droite", ("R", None)),
        ("Écho de l’aisselle gauche", ("L", None)),
        ("Mamma L17-5 rechts", ("R", None)),
        ("linke Brust", ("L", None)),
        ("mammella destra", ("R", None)),
        ("mama izquierda", ("L", None)),
        ("ho\u0308ger bröst", ("R", None)),  # the letter and its dots apart
        ("Правая молочная железа", ("R", None)),
        ("左乳房", ("L", None)),
        ("右侧乳腺 AP", ("R", "AP")),
        ("左右乳腺", (None, None)),
        ("우측 유방", ("R", None)),
    ],
)
def test_names_of_views(name, expected):
    assert parse_name(name) == expected


def named(path, **elements):
    """What is read of an image that states no laterality and has these names."""
    ds = us_image(VOXELS[0], laterality="")
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return read_image(save(ds, path))


def test_a_side_from_a_single_letter_of_a_name_is_noted(tmp_path):
    note = "that this is the left breast comes from a single letter of the series' name alone"
    loaded = named(tmp_path / "a.dcm", SeriesDescription="L MED", ProtocolName="Breast L12-5")
    assert (loaded.laterality, loaded.view) == ("L", "MED") and note in loaded.notes
    for name in ("LMED", "Breast left"):  # a scanner's own name of a view, a word
        loaded = named(tmp_path / "a.dcm", SeriesDescription=name)
        assert loaded.laterality == "L" and note not in loaded.notes
    loaded = named(tmp_path / "a.dcm", Laterality="L", SeriesDescription="L MED")
    assert loaded.laterality == "L" and note not in loaded.notes


def test_a_word_counts_more_than_a_letter(tmp_path):
    loaded = named(tmp_path / "a.dcm", SeriesDescription="Breast L", ProtocolName="right breast")
    assert loaded.laterality == "R"
    assert any('right breast, and its name "Breast L" the left one' in note for note in loaded.notes)


def test_no_contradiction_with_the_name_of_a_probe(tmp_path):
    assert not any("its name" in note for note in named(tmp_path / "a.dcm", Laterality="R", ProtocolName="L12-5").notes)


def test_elements_count_more_than_names_and_contradictions_are_told(tmp_path):
    loaded = read_image(save(abvs(VOXELS, SPACING, description="L AP", laterality="R"), tmp_path / "a.dcm"))
    assert (loaded.laterality, loaded.view) == ("R", "AP")
    assert any('right breast, and its name "L AP" the left one' in note for note in loaded.notes)


# ------------------------------------------------------------------------------------------- a folder as one input


def test_a_folder_with_one_volume_is_read_as_such(tmp_path):
    for k, ds in enumerate(slices(VOXELS, SPACING)):
        save(ds, tmp_path / f"{k}.dcm")
    save(mr_image(VOXELS[0]), tmp_path / "mr.dcm")
    loaded = read_image(tmp_path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(loaded.image), VOXELS)
    assert (loaded.path, len(loaded.files)) == (tmp_path / "0.dcm", 5)
    save(us_image(VOXELS[0]), tmp_path / "still.dcm")
    with pytest.raises(ImageError, match=r"folder with 2 images \(0.dcm, still.dcm\); give one of them"):
        read_image(tmp_path)


def test_dicom_files_are_found_whatever_they_are_called(tmp_path):
    path = save(abvs(VOXELS, SPACING), tmp_path / "in" / "scan.img")
    (part,) = discover([str(tmp_path / "in")], tmp_path / "out")
    assert [source.path for source in part.sources] == [path]


def test_one_uid_for_all_files_loses_none(tmp_path):
    """As careless de-identification leaves them."""
    for k in range(3):
        ds = us_image(VOXELS[k])
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        save(ds, tmp_path / f"{k}.dcm")
    assert names(find(tmp_path)) == ["0.dcm", "1.dcm", "2.dcm"]


def test_a_run_keeps_what_was_read_of_a_series(tmp_path):
    import hashlib

    from BreastUSAILib.run_input import identity

    paths = tuple(save(ds, tmp_path / f"{k}.dcm") for k, ds in enumerate(slices(VOXELS, SPACING)))
    together = b"".join(path.read_bytes() for path in paths)
    expected = {"bytes": len(together), "sha256": hashlib.sha256(together).hexdigest(), "files": 5}
    assert identity(paths[0], paths) == expected


def test_long_series_are_joined_in_time_that_grows_with_them(tmp_path):
    """Each path is hashed a few times, not once for each of the others."""
    hashed = []

    class Counted(type(tmp_path)):
        def __hash__(self):
            hashed.append(self)
            return super().__hash__()

    count = 300
    members = [
        _File(Counted(tmp_path / f"{k:04}.dcm"), str(k), (np.array([0.0, 0.0, k]), np.eye(3)), marks=("",) * 5)
        for k in range(count)
    ]
    (joined,) = _join(members)
    assert len(joined.files) == count and len(hashed) <= 10 * count
