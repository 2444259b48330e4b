"""What goes out as DICOM and FHIR: written from real files, read back by other readers, checked by dciodvfy."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("highdicom", reason="highdicom is not installed (extra `dicom`)")
import dicom_samples as samples  # noqa: E402
import pydicom  # noqa: E402
from dicom_studies import BIRADS, KINDS, SPACING, dciodvfy, load, mask_on, rotation, study_of, volume, write_kind  # noqa: E402

from BreastUSAILib import dicom_out  # noqa: E402
from BreastUSAILib.dicom_out import anonymize, codes, equipment, fhir, pdf, seg, source, sr  # noqa: E402
from BreastUSAILib.errors import DataError, DependencyError, ImageError, UsageError  # noqa: E402
from BreastUSAILib.findings import EDITED, Box, Finding, ImageInfo, Study  # noqa: E402
from BreastUSAILib.grade_terms import stated_category  # noqa: E402
from BreastUSAILib.grid import box_of_mask  # noqa: E402
from BreastUSAILib.image import read_image  # noqa: E402


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """Kind -> (path, image, study with two lesions, original)."""
    folder, made = tmp_path_factory.mktemp("kinds"), {}
    for kind in KINDS:
        path = write_kind(kind, folder)
        loaded = load(path)
        study = study_of(loaded)
        made[kind] = path, loaded, study, source.read_original(study, source.read_headers(path))
    return made


def saved(dataset, tmp_path):
    """Written and read again: what a receiver has."""
    dataset.save_as(tmp_path / "result.dcm", enforce_file_format=True)
    dciodvfy(tmp_path / "result.dcm")
    return pydicom.dcmread(tmp_path / "result.dcm")


def group(dataset, frame, name):
    own, shared = dataset.PerFrameFunctionalGroupsSequence[frame], dataset.SharedFunctionalGroupsSequence[0]
    return (own if name in own else shared)[name].value[0]


def masks_by_position(dataset, image):
    """Segment number -> bool array (z, y, x) on the image's grid, by the frames' positions alone, as dcmqi and Slicer read."""
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image, 0.0, 1.0)
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    found = {s.SegmentNumber: np.zeros(image.GetSize()[::-1], bool) for s in dataset.SegmentSequence}
    axes = np.reshape(image.GetDirection(), (3, 3))
    for k, frame in enumerate(frames):
        orientation = np.array(group(dataset, k, "PlaneOrientationSequence").ImageOrientationPatient, float)
        assert np.allclose(orientation, axes[:, :2].T.ravel(), atol=1e-6)
        measures = group(dataset, k, "PixelMeasuresSequence")
        assert np.allclose([*measures.PixelSpacing][::-1], image.GetSpacing()[:2], rtol=1e-6)
        position = [float(v) for v in group(dataset, k, "PlanePositionSequence").ImagePositionPatient]
        index = np.array(image.TransformPhysicalPointToContinuousIndex(position))
        assert np.allclose(index, np.rint(index), atol=1e-3) and tuple(np.rint(index[:2])) == (0, 0)
        number = group(dataset, k, "SegmentIdentificationSequence").ReferencedSegmentNumber
        found[number][round(index[2])] |= frame.astype(bool)
    return found


# ------------------------------------------------------------------------------------------------------- segmentation


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "screen"])
def test_a_segmentation_reads_back_voxel_for_voxel_on_the_image_s_grid(kinds, kind, tmp_path):
    _, loaded, study, original = kinds[kind]
    dataset = saved(seg.segmentation(study, original), tmp_path)
    found = masks_by_position(dataset, loaded.image)
    assert list(found) == [1, 2]
    for number, finding in enumerate(study.findings, 1):
        assert np.array_equal(found[number], source.mask_array(finding.mask))


def dcmqi(name):
    """A program of dcmqi, with which 3D Slicer reads segmentations; skip where it is not installed."""
    beside = Path(sys.executable).with_name(name)
    program = shutil.which(name) or (str(beside) if beside.exists() else None)
    if program is None:
        pytest.skip(f"{name} is not installed (pip install dcmqi)")
    return program


@pytest.mark.parametrize("kind", KINDS)
def test_dcmqi_the_reader_of_slicer_has_the_same_voxels_in_the_same_places(kinds, kind, tmp_path):
    program = dcmqi("segimage2itkimage")
    _, loaded, study, original = kinds[kind]
    seg.segmentation(study, original).save_as(tmp_path / "s.dcm", enforce_file_format=True)
    command = [program, "--inputDICOM", tmp_path / "s.dcm", "--outputDirectory", tmp_path, "--outputType", "nrrd"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=60)
    if kind == "screen":  # no known pixel size, no positions: what the docs say
        assert done.returncode != 0
        return
    assert done.returncode == 0, done.stderr
    image = loaded.image if loaded.image.GetDimension() == 3 else sitk.JoinSeries(loaded.image, 0.0, 1.0)
    for number, finding in enumerate(study.findings, 1):
        read, wanted = sitk.ReadImage(str(tmp_path / f"{number}.nrrd")), source.mask_array(finding.mask)
        found = np.zeros_like(wanted)
        for index in np.argwhere(sitk.GetArrayFromImage(read))[:, ::-1].tolist():
            found[image.TransformPhysicalPointToIndex(read.TransformIndexToPhysicalPoint(index))[::-1]] = True
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize("kind", ["image", "abvs", "series"])
def test_dcmqi_reads_the_report(kinds, kind, tmp_path):
    program = dcmqi("tid1500reader")
    _, _, study, original = kinds[kind]
    segmentation = seg.segmentation(study, original)
    sr.report(study, original, segmentation).save_as(tmp_path / "r.dcm", enforce_file_format=True)
    command = [program, "--inputDICOM", str(tmp_path / "r.dcm"), "--outputMetadata", str(tmp_path / "r.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    read = json.loads((tmp_path / "r.json").read_text())["Measurements"]
    assert {m["TrackingIdentifier"] for m in read} == {"L1", "L2"}


@pytest.mark.parametrize("kind", ["series", "enhanced", "abvs", "image"])
def test_highdicom_reads_the_same_voxels_and_the_same_affine(kinds, kind, tmp_path):
    import highdicom as hd

    _, loaded, study, original = kinds[kind]
    seg.segmentation(study, original).save_as(tmp_path / "s.dcm")
    read = hd.seg.segread(tmp_path / "s.dcm").get_volume(combine_segments=False)
    image = loaded.image if loaded.image.GetDimension() == 3 else sitk.JoinSeries(loaded.image, 0.0, 1.0)
    for number, finding in enumerate(study.findings):
        array = source.mask_array(finding.mask)
        for z, y, x in np.argwhere(read.array[..., number]):
            place = read.map_indices_to_reference(np.array([[z, y, x]]))[0]
            assert array[image.TransformPhysicalPointToIndex([float(v) for v in place])[::-1]]
        assert read.array[..., number].sum() == array.sum()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.03, 3)] * 3),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    seed=st.integers(0, 1000),
)
def test_any_grid_and_any_mask_survive(tmp_path, angles, spacing, origin, seed):
    axes = rotation(*angles)
    files = samples.slices(samples.speckle((3, 5, 7)), spacing, origin=origin, x=axes[:, 0], y=axes[:, 1])
    image = sitk.Image(7, 5, 3, sitk.sitkUInt8)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(np.stack([axes[:, 0], axes[:, 1], np.cross(axes[:, 0], axes[:, 1])], axis=1).ravel().tolist())
    mask = mask_on(image, seed)
    study = Study(ImageInfo.of(image, "x"), (Finding("L1", box_of_mask(mask), 0.5, mask=mask, label=1),))
    original = source.read_original(study, tuple(files))
    seg.segmentation(study, original).save_as(tmp_path / "s.dcm")
    found = masks_by_position(pydicom.dcmread(tmp_path / "s.dcm"), image)
    assert np.array_equal(found[1], source.mask_array(mask))


def check_references(loaded, study, original):
    """Each frame of the SEG names the frame of the original with the pixels that it was drawn on."""
    dataset = seg.segmentation(study, original)
    pixels = {}  # what each frame of the original shows, by the original's own pixels
    for header in original.headers:
        full = pydicom.dcmread(header.filename)
        for n, frame in enumerate(full.pixel_array.reshape(-1, full.Rows, full.Columns), 1):
            pixels[full.SOPInstanceUID, n if "NumberOfFrames" in full else None] = frame
    array = sitk.GetArrayFromImage(loaded.image).reshape(-1, dataset.Rows, dataset.Columns)
    masks = [source.mask_array(f.mask) for f in study.findings]
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    for k, drawn in enumerate(frames):
        item = group(dataset, k, "DerivationImageSequence").SourceImageSequence[0]
        shown = pixels[item.ReferencedSOPInstanceUID, item.get("ReferencedFrameNumber")]
        number = group(dataset, k, "SegmentIdentificationSequence").ReferencedSegmentNumber
        slices = [z for z in range(len(array)) if np.array_equal(array[z], shown)]
        assert len(slices) == 1 and np.array_equal(masks[number - 1][slices[0]], drawn)
    named = {i.ReferencedSOPInstanceUID for s in dataset.ReferencedSeriesSequence for i in s.ReferencedInstanceSequence}
    assert named <= {h.SOPInstanceUID for h in original.headers}
    assert [s.SeriesInstanceUID for s in dataset.ReferencedSeriesSequence] == [original.header.SeriesInstanceUID]


@pytest.mark.parametrize("kind", KINDS)
def test_each_frame_names_the_frame_of_the_original_that_it_was_drawn_on(kinds, kind):
    check_references(*kinds[kind][1:])


def write_series(folder: Path, place: str, missing=()) -> Path:
    """A series whose names are in another order than its slices, as IM1, IM10, IM2 are.

    place : "position", "one frame stated" (and Number of Frames 1), "no pixel size" (the position alone), "location" (Slice Location
        alone).
    missing : slices that were not sent.
    """
    pixels = volume((12, 12, 16))
    for k, ds in enumerate(samples.slices(pixels, SPACING, origin=(-80.5, 12.25, 33.0))):
        if place == "one frame stated":
            ds.NumberOfFrames = 1
        if place == "no pixel size":
            del ds.PixelSpacing
        if place == "location":
            del ds.ImagePositionPatient, ds.ImageOrientationPatient
            ds.SliceLocation = 5 + k * SPACING[2]
        if k not in missing:
            samples.save(ds, folder / f"IM{k + 1}.dcm")
    return folder


@pytest.mark.parametrize("place", ["position", "one frame stated", "no pixel size", "location"])
def test_references_of_a_series_follow_its_places_not_the_names_of_its_files(tmp_path, place):
    folder = write_series(tmp_path / "series", place)
    loaded = read_image(folder)
    study = study_of(loaded)
    headers = source.read_headers(Path(loaded.path), loaded.files)
    original = source.read_original(study, headers)
    names = [Path(headers[frame.file].filename).name for frame in original.frames]
    assert names == [f"IM{k + 1}.dcm" for k in range(12)]
    if place != "no pixel size":
        check_references(loaded, study, original)
    for header in headers:  # files that do not say where they lie are not counted off
        for keyword in ("ImagePositionPatient", "SliceLocation"):
            header.pop(keyword, None)
    with pytest.raises(DataError, match="give the DICOM file that the result was made from"):
        source.read_original(study, headers)


def test_a_volume_that_lies_elsewhere_is_not_the_original(tmp_path):
    folder = write_series(tmp_path / "series", "position")
    loaded = read_image(folder)
    headers = source.read_headers(Path(loaded.path), loaded.files)
    for header in headers:
        header.ImagePositionPatient = [-80.5, 12.25, float(header.ImagePositionPatient[2]) + SPACING[2]]
    with pytest.raises(DataError, match="12 frames, which are not the 12 slices of the result"):
        source.read_original(study_of(loaded), headers)


def test_a_volume_without_a_known_pixel_size_has_all_but_a_segmentation(tmp_path):
    """highdicom, and all readers, tell the frames of a SEG apart by their positions."""
    loaded = read_image(write_series(tmp_path / "series", "no pixel size"))
    assert not loaded.spacing_known
    out = tmp_path / "out"
    study = dicom_out.write(study_of(loaded), loaded, out, dicom_out.DicomOptions(True, True, True, "R4"))
    assert study.provenance["notes"] == [dicom_out.NO_PLACES]
    assert {path.name for path in out.iterdir()} == {dicom_out.SR, dicom_out.REPORT, dicom_out.FHIR}
    dciodvfy(out / dicom_out.SR)
    regions = [roi for g in groups_of(pydicom.dcmread(out / dicom_out.SR)) for roi in g.roi]
    assert regions and {roi.ValueType for roi in regions} == {"SCOORD"}


def in_slices(image, *slices):
    """A mask of a block in some slices."""
    array = np.zeros(image.GetSize()[::-1], np.uint8)
    array[list(slices), 3:8, 4:11] = 1
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(image)
    return mask


def referred(dataset):
    """The UIDs that stand as references anywhere in an object."""
    return {e.value for e in dataset.iterall() if e.keyword == "ReferencedSOPInstanceUID"}


@pytest.mark.parametrize("place", ["position", "location"])
def test_a_series_with_an_interpolated_slice_is_written_and_names_real_files_only(tmp_path, place):
    import highdicom as hd

    folder = write_series(tmp_path / "series", place, missing=(5,))
    loaded = read_image(folder)
    assert loaded.image.GetSize()[2] == 12 and any("interpolated" in note for note in loaded.notes)
    masks = in_slices(loaded.image, 4, 5, 6), in_slices(loaded.image, 5)
    study = study_of(loaded)
    found = [replace(f, mask=m, box=box_of_mask(m)) for f, m in zip(study.findings, masks, strict=True)]
    study = replace(study, findings=tuple(found))
    out = tmp_path / "out"
    dicom_out.write(study, loaded, out, dicom_out.DicomOptions(True, True, True, "R4"))
    for name in (dicom_out.SEG, dicom_out.SR, dicom_out.REPORT):
        dciodvfy(out / name)
    assert json.loads((out / dicom_out.FHIR).read_text())["resourceType"] == "Bundle"
    there = {k: pydicom.dcmread(folder / f"IM{k + 1}.dcm").SOPInstanceUID for k in range(12) if k != 5}
    dataset = pydicom.dcmread(out / dicom_out.SEG)
    for number, voxels in masks_by_position(dataset, loaded.image).items():
        assert np.array_equal(voxels, source.mask_array(masks[number - 1]))
    hd.seg.segread(out / dicom_out.SEG).get_volume(combine_segments=False)
    image, named = loaded.image, {}
    for k, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        position = [float(v) for v in group(dataset, k, "PlanePositionSequence").ImagePositionPatient]
        z = image.TransformPhysicalPointToIndex(position)[2]
        named.setdefault(z, set()).update(s.ReferencedSOPInstanceUID for d in frame.DerivationImageSequence for s in d.SourceImageSequence)
    assert named == {4: {there[4]}, 5: set(), 6: {there[6]}}
    assert referred(dataset) == {there[4], there[6]}
    # The report names the slices on both sides of the one that was made of them, with segments and with boxes alone.
    boxes = replace(study, findings=tuple(replace(f, mask=None, label=None) for f in found))
    original = source.read_original(study, source.read_headers(Path(loaded.path), loaded.files))
    for report in (pydicom.dcmread(out / dicom_out.SR), saved(sr.report(boxes, original), tmp_path)):
        shown = {uid for g in groups_of(report) for item in g for uid in referred(item)}
        assert shown - {dataset.SOPInstanceUID} == {there[4], there[6]}


def test_a_segment_says_what_it_is_where_and_who_drew_it(kinds):
    _, _, study, original = kinds["enhanced"]
    dataset = seg.segmentation(study, original)
    segment = dataset.SegmentSequence[0]
    assert segment.SegmentLabel == "L1" and segment.SegmentAlgorithmType == "AUTOMATIC"
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "4147007"
    region = segment.AnatomicRegionSequence[0]
    assert region.CodeValue == "76752008" and region.AnatomicRegionModifierSequence[0].CodeMeaning == "Right"
    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("BreastUSAI roi-cnn-compact", "2.0.0")
    assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"
    assert segment.TrackingUID == original.tracking_uid("L1") != dataset.SegmentSequence[1].TrackingUID
    assert dataset.StudyInstanceUID == original.header.StudyInstanceUID and dataset.PatientID == "P1"
    # Positions of an Enhanced US Volume are in the volume's own frame of reference.
    assert dataset.FrameOfReferenceUID == original.header.VolumeFrameOfReferenceUID


def test_a_segment_says_that_a_person_helped_to_draw_it(kinds):
    _, _, study, original = kinds["enhanced"]
    first, *others = study.findings
    edited = replace(first, notes=(f"{EDITED} and measured again.",))
    written = seg.segmentation(replace(study, findings=(edited, *others)), original).SegmentSequence
    assert [s.SegmentAlgorithmType for s in written] == ["SEMIAUTOMATIC", *["AUTOMATIC"] * len(others)]
    assert written[0].SegmentAlgorithmName == "BreastUSAI roi-cnn-compact"


def test_the_original_s_header_stays_as_it_was(kinds):
    path, _, study, original = kinds["abvs"]
    seg.segmentation(study, original)
    assert original.header.SOPInstanceUID == pydicom.dcmread(path).SOPInstanceUID


def test_overlapping_lesions_keep_all_their_voxels(kinds, tmp_path):
    _, loaded, study, original = kinds["series"]
    first, second = study.findings
    both = sitk.Or(first.mask, second.mask)
    study = replace(study, findings=(first, replace(second, mask=both, box=box_of_mask(both))))
    dataset = saved(seg.segmentation(study, original), tmp_path)
    found = masks_by_position(dataset, loaded.image)
    assert np.array_equal(found[2], source.mask_array(both)) and np.array_equal(found[1], source.mask_array(first.mask))
    assert dataset.SegmentsOverlap == "YES"


def test_nothing_found_boxes_alone_and_empty_masks_give_no_segmentation(kinds):
    _, loaded, study, original = kinds["abvs"]
    assert seg.segmentation(replace(study, findings=()), original) is None
    assert seg.segmentation(study_of(loaded, masks=False), original) is None
    empty = replace(study.findings[0], mask=study.findings[0].mask * 0)
    assert seg.segmentation(replace(study, findings=(empty,)), original) is None
    one = seg.segmentation(replace(study, findings=(empty, study.findings[1])), original)
    assert [s.SegmentLabel for s in one.SegmentSequence] == ["L2"]


def test_probabilities_become_a_fractional_segmentation(kinds, tmp_path):
    _, _, study, original = kinds["abvs"]
    maps = {}
    for finding in study.findings:
        values = np.random.default_rng(1).random(finding.mask.GetSize()[::-1]).astype(np.float32)
        values[sitk.GetArrayViewFromImage(finding.mask) == 0] = 0
        maps[finding.id] = sitk.GetImageFromArray(values)
    dataset = saved(seg.segmentation(study, original, maps), tmp_path)
    assert (dataset.SegmentationType, dataset.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    for k, frame in enumerate(dataset.pixel_array):
        number = group(dataset, k, "SegmentIdentificationSequence").ReferencedSegmentNumber
        z = group(dataset, k, "DerivationImageSequence").SourceImageSequence[0].ReferencedFrameNumber - 1
        wanted = sitk.GetArrayFromImage(maps[f"L{number}"])[z]
        assert np.abs(frame / dataset.MaximumFractionalValue - wanted).max() <= 0.5 / 255 + 1e-6
    with pytest.raises(DataError, match="0 to 1"):
        seg.segmentation(study, original, {k: v * 2 for k, v in maps.items()})
    with pytest.raises(DataError, match="no map"):
        seg.segmentation(study, original, {"L1": maps["L1"]})


def test_without_a_known_pixel_size_no_millimetre_is_made_up(kinds, tmp_path):
    _, _, study, original = kinds["screen"]
    assert not study.image.spacing_known
    dataset = saved(seg.segmentation(study, original), tmp_path)
    assert (
        "FrameOfReferenceUID" not in dataset
        and "PixelMeasuresSequence" not in dataset.SharedFunctionalGroupsSequence[0]
    )
    assert np.array_equal(
        dataset.pixel_array.reshape(-1, *dataset.pixel_array.shape[-2:])[0],
        source.mask_array(study.findings[0].mask)[0],
    )


def test_the_same_analysis_has_the_same_uids_and_another_has_others(kinds):
    _, _, study, original = kinds["abvs"]
    again = replace(study, provenance={**study.provenance, "created": "2026-11-22T10:00:00+00:00"})
    first, same, other = (seg.segmentation(s, original) for s in (study, study, again))
    assert first.SOPInstanceUID == same.SOPInstanceUID != other.SOPInstanceUID
    assert first.SeriesInstanceUID == same.SeriesInstanceUID != other.SeriesInstanceUID
    assert first.SegmentSequence[0].TrackingUID == other.SegmentSequence[0].TrackingUID
    fewer = seg.segmentation(replace(study, findings=study.findings[:1]), original)
    assert fewer.SOPInstanceUID != first.SOPInstanceUID


def of_frame(study, frame):
    return replace(study, provenance={**study.provenance, "options": {"frame": frame}})


@pytest.mark.parametrize("timed", [True, False])
def test_reports_that_say_different_things_have_different_uids(kinds, timed):
    """Also of two analyses of one second, and of copies, which say no time."""
    path, loaded, study, _ = kinds["cine"]
    provenance = {k: v for k, v in study.provenance.items() if timed or k != "created"}
    study, headers = replace(study, provenance=provenance), source.read_headers(path)
    worse = replace(study.findings[0], malignancy=0.9)
    studies = [of_frame(s, f) for f in (2, 5) for s in (study, replace(study, findings=(worse,)), replace(study, findings=()))]
    originals = [source.read_original(s, headers) for s in studies]
    reports = [sr.report(s, o) for s, o in zip(studies, originals, strict=True)]
    assert len({r.SOPInstanceUID for r in reports}) == len({r.SeriesInstanceUID for r in reports}) == len(reports)
    # Not those that versions before gave to all of them.
    assert not {sr.identity_before(s, o, "", "0").instance_uid for s, o in zip(studies, originals, strict=True)} & {r.SOPInstanceUID for r in reports}
    documents = {pdf.identity(s, o).instance_uid for s, o in zip(studies, originals, strict=True) if not s.findings}
    assert len(documents) == 2


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this system's time zone cannot be set for a process")
@pytest.mark.parametrize("stated", ["", "+0530"])
def test_an_export_gives_the_same_bytes_in_every_time_zone(kinds, tmp_path, monkeypatch, stated):
    path, loaded, study, _ = kinds["image"]
    headers = source.read_headers(path)
    if stated:
        headers[0].TimezoneOffsetFromUTC = stated
    every = dicom_out.DicomOptions(True, True, True, "R4")
    try:
        for zone in ("UTC", "Asia/Tokyo", "America/New_York"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            dicom_out.write_files(study, loaded.image, headers, tmp_path / zone[:2], every)
    finally:
        monkeypatch.undo()
        time.tzset()
    for name in dicom_out.FILES:
        assert len({(tmp_path / zone / name).read_bytes() for zone in ("UT", "As", "Am")}) == 1, name
    report = pydicom.dcmread(tmp_path / "As" / dicom_out.SR)
    assert (report.ContentDate, report.ContentTime) == ("20261121", "153000" if stated else "100000")
    assert report.get("TimezoneOffsetFromUTC", "") == stated  # which is of the study's times as well


def test_another_file_than_the_analysed_one_is_refused(kinds, tmp_path):
    study = kinds["abvs"][2]
    for other, words in (("image", "frames"), ("series", "frames")):
        if other == "image":
            with pytest.raises(DataError, match=words):
                source.read_original(study, source.read_headers(kinds["image"][0]))
    small = samples.save(samples.us_image(samples.speckle((5, 5))), tmp_path / "small.dcm")
    with pytest.raises(DataError, match="5 x 5 pixels and the result 16 x 12"):
        source.read_original(study, source.read_headers(small))
    (tmp_path / "x.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match="not a DICOM file"):
        source.read_headers(tmp_path / "x.png")
    with pytest.raises(ImageError, match="does not exist"):
        source.read_headers(tmp_path / "nothing.dcm")
    mixed = tmp_path / "mixed"
    for n in range(2):
        samples.save(samples.us_image(samples.speckle((5, 5))), mixed / f"{n}.dcm")
    with pytest.raises(DataError, match="several series"):
        source.read_headers(mixed)
    damaged = samples.us_image(samples.speckle((5, 5)))
    del damaged.StudyInstanceUID
    samples.save(damaged, tmp_path / "damaged.dcm")
    with pytest.raises(DataError, match="StudyInstanceUID"):
        source.read_headers(tmp_path / "damaged.dcm")


@pytest.mark.parametrize(
    "values, kept",
    [
        ({"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jürgen"}, {"PatientName": "Müller^Jürgen"}),
        (
            {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada=山田"},
            {"PatientName": "Yamada=山田"},
        ),
        ({"PatientSex": "W", "PatientBirthDate": "unknown", "StudyTime": "25:00"}, {"PatientSex": "", "StudyTime": ""}),
        ({"PatientID": "X" * 80, "SeriesNumber": None}, {"PatientID": "X" * 80}),
        ({"SpecificCharacterSet": "ISO_IR 6", "PatientName": "Mueller^J"}, {"PatientName": "Mueller^J"}),
        ({"SpecificCharacterSet": "ISO 2022 IR 100", "PatientName": "Müller^J"}, {"PatientName": "Müller^J"}),
        ({"SpecificCharacterSet": "ISO 2022 IR 87", "PatientName": "Yamada=山田"}, {"PatientName": "Yamada=山田"}),
        ({"SpecificCharacterSet": "ISO-IR 100", "PatientName": "Müller^J"}, {"PatientName": "Müller^J"}),
        ({"SpecificCharacterSet": "UTF-8", "PatientName": "Mueller^J"}, {"PatientName": "Mueller^J"}),
        ({"SpecificCharacterSet": "GARBAGE", "PatientName": "Mueller^J"}, {"PatientName": "Mueller^J"}),
        ({"PatientName": ["Adams^Eve", "Adams-Smith^Eve"]}, {"PatientName": "Adams^Eve"}),
    ],
)
def test_patients_as_people_type_them_are_carried_on_or_left_empty(tmp_path, values, kept):
    ds = samples.us_image(samples.speckle((12, 16)), mm=(0.2, 0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, on what the standard does not allow
        for keyword, value in values.items():
            setattr(ds, keyword, value)
        loaded = load(samples.save(ds, tmp_path / "odd.dcm"))
    study = dicom_out.write(study_of(loaded), loaded, tmp_path, dicom_out.DicomOptions(True, True, True, "R4"))
    assert not study.provenance["notes"]
    for name in (dicom_out.SEG, dicom_out.SR, dicom_out.REPORT):
        read = pydicom.dcmread(tmp_path / name)
        assert {k: str(read.get(k) or "") for k in kept} == kept


def test_an_identifier_with_a_backslash_stands_as_it_was_typed(kinds, tmp_path):
    _, loaded, study, _ = kinds["image"]
    (header,) = source.read_headers(Path(loaded.path))
    header.PatientID = "12\\3  45"
    dicom_out.write_files(study, loaded.image, (header,), tmp_path, dicom_out.DicomOptions(sr=True, fhir="R4"))
    report = json.loads((tmp_path / dicom_out.FHIR).read_text())["entry"][0]["resource"]
    assert report["subject"]["identifier"] == {"value": "12\\3  45"}
    assert b"12\\3  45" in (tmp_path / dicom_out.SR).read_bytes()


def test_a_series_number_that_is_none_counts_as_0(tmp_path):
    ds = samples.us_image(samples.speckle((12, 16)), mm=(0.2, 0.1))
    ds.SeriesNumber = "7788"
    path = samples.save(ds, tmp_path / "odd.dcm")
    path.write_bytes(path.read_bytes().replace(b"7788", b"AA  "))
    loaded = load(path)
    study = dicom_out.write(study_of(loaded), loaded, tmp_path, dicom_out.DicomOptions(True, True, True, "R4"))
    assert not study.provenance["notes"]
    numbers = [pydicom.dcmread(tmp_path / name).SeriesNumber for name in (dicom_out.SEG, dicom_out.SR, dicom_out.REPORT)]
    assert numbers == [91, 92, 93]


def test_images_of_several_patients_are_no_original(tmp_path):
    """Careless software gives one Series Instance UID to all that it writes."""
    for k, ds in enumerate(samples.slices(samples.speckle((4, 12, 16)), (0.2, 0.1, 0.5))):
        ds.PatientID, ds.PatientName = ("A1", "Adams^Eve") if k < 2 else ("B2", "Brown^Sue")
        samples.save(ds, tmp_path / f"{k}.dcm")
    with pytest.raises(DataError, match="several patients"):
        source.read_headers(tmp_path)


@pytest.mark.parametrize("first", [0, 1])
def test_what_some_files_do_not_state_of_the_patient_keeps_no_result(tmp_path, first):
    """The reader joins such files, so results must refer to them: to the patient that some of them state."""
    for k, ds in enumerate(samples.slices(samples.speckle((6, 12, 16)), (0.9, 0.7, 1.1))):
        stated = (k + first) % 2
        ds.PatientID, ds.PatientBirthDate = ("p1" if k > 3 else "P1", "19700101") if stated else ("", "")
        ds.PatientName = ("Jön^Eve", "", "JÖN EVE")[(k + first) % 3]
        ds.SpecificCharacterSet = "ISO_IR 192" if ds.PatientName else "ISO_IR 6"
        ds.Laterality = "R" if stated else ""
        samples.save(ds, tmp_path / "in" / f"{k}.dcm")
    loaded = load(tmp_path / "in")
    headers = source.read_headers(Path(loaded.path), loaded.files)
    assert {str(h.PatientID).casefold() for h in headers} == {"p1"} and {h.PatientBirthDate for h in headers} == {"19700101"}
    assert {str(h.PatientName) for h in headers} == {"Jön^Eve", "JÖN EVE"}
    told = dicom_out.write(study_of(loaded), loaded, tmp_path / "out", dicom_out.DicomOptions(True, True, True, "R4"))
    assert not told.provenance["notes"]
    for name in (dicom_out.SEG, dicom_out.SR, dicom_out.REPORT):
        made = pydicom.dcmread(tmp_path / "out" / name)
        assert (made.PatientID, made.PatientBirthDate) == ("P1", "19700101") and "EVE" in str(made.PatientName).upper()
    assert source.read_original(study_of(loaded), headers).laterality == ("24028007", "Right")
    clean = anonymize.deidentified_headers(headers, anonymize.read_key(None))
    assert len({str(h.PatientID) for h in clean[:4]}) == 1  # one person is one in copies, whichever files state it


def test_a_result_that_cannot_be_made_is_left_out_of_a_run_and_noted(kinds, tmp_path, monkeypatch):
    """The analysis is not lost for what stands in a header; an export, which was asked for it alone, says what is wrong."""
    _, loaded, study, _ = kinds["image"]
    every = dicom_out.DicomOptions(True, True, True, "R4")

    def fail(*args, **keys):
        raise ValueError("'Adams^Eve' is no name")

    monkeypatch.setattr(seg, "segmentation", fail)
    told = dicom_out.write(study, loaded, tmp_path / "a", every)
    assert {p.name for p in (tmp_path / "a").iterdir()} == {dicom_out.SR, dicom_out.REPORT, dicom_out.FHIR}
    (note,) = told.provenance["notes"]
    assert "lesions.seg.dcm was not written" in note and "ValueError" in note and "Adams" not in note
    with pytest.raises(ValueError, match="no name"):
        dicom_out.write_files(study, loaded.image, source.read_headers(Path(loaded.path)), tmp_path / "b", every)
    assert not (tmp_path / "b").exists()


def test_an_image_that_no_result_can_refer_to_is_analysed_all_the_same(tmp_path):
    ds = samples.us_image(samples.speckle((12, 16)), mm=(0.2, 0.1))
    del ds.StudyInstanceUID
    loaded = load(samples.save(ds, tmp_path / "in" / "x.dcm"))
    told = dicom_out.write(study_of(loaded), loaded, tmp_path / "out", dicom_out.DicomOptions(True, True, True, "R4"))
    assert [p.name for p in (tmp_path / "out").iterdir()] == [dicom_out.FHIR]
    (note,) = told.provenance["notes"]
    assert note.startswith("no DICOM results were written: ") and "StudyInstanceUID" in note


@pytest.mark.parametrize(
    ("kind", "orientation", "used"),
    [
        ("image", [0, 1, 0, 0, 0, -1], True),
        ("image", [0] * 6, False),
        ("image", [1, 0, 0, 1, 0, 0], False),
        ("abvs", [0] * 6, False),
        ("ge_abus", [1, 0, 0, 0, 1, 0], False),
    ],
)
@pytest.mark.parametrize("clean", [False, True])
def test_results_are_in_the_original_s_frame_of_reference_only_where_the_reader_used_its_place(tmp_path, kind, orientation, used, clean):
    """Axes of zeros place nothing, and a curved volume's grid does not lie where its file says."""
    path = write_kind(kind, tmp_path)
    ds = pydicom.dcmread(path)
    ds.FrameOfReferenceUID, ds.ImagePositionPatient, ds.ImageOrientationPatient = "1.2.3.99", [100, -50, 30], orientation
    ds.save_as(path)
    loaded = load(path)
    headers = source.read_headers(path)
    if clean:
        anonymize = pytest.importorskip("BreastUSAILib.dicom_out.anonymize")
        headers = anonymize.deidentified_headers(headers, anonymize.Key(b"k" * 32))
    study = study_of(loaded)
    original = source.read_original(study, headers)
    named = str(headers[0].FrameOfReferenceUID)
    assert (original.frame_of_reference == named) is used and original.own_frame is not used
    dataset = seg.segmentation(study, original)
    assert (str(dataset.FrameOfReferenceUID) == named) is used
    report = sr.report(study, original)
    assert used or named not in str(report)
    # What versions before put there is not taken for this.
    before = equipment.result(original, study, "seg", False, *seg._shape_of([source.mask_array(f.mask) for f in study.findings]))
    assert (dataset.SOPInstanceUID == before.instance_uid) is used


# ------------------------------------------------------------------------------------------------- structured report


def groups_of(dataset):
    from highdicom.sr import MeasurementReport

    report = MeasurementReport.from_sequence([dataset])
    return [*report.get_planar_roi_measurement_groups(), *report.get_volumetric_roi_measurement_groups()]


def values_of(measurements):
    return {m.name.value: m.value for m in measurements.get_measurements()}


def test_the_malignancy_names_whose_word_it_is_and_an_outline_who_drew_it(kinds):
    """In a volume: the detection's opinion, then the 3D segmentation's, then the graders'."""
    _, _, study, original = kinds["abvs"]
    tasks = ("detect", "lesion-classifier", "segment-3d", "grade-gcnn", "grade-mtnet", "grade-snnet")
    models = [{"id": f"{task}-x", "version": f"{n}.0", "sha256": str(n) * 64, "task": task} for n, task in enumerate(tasks)]
    study = replace(study, provenance={**study.provenance, "models": models})
    found = {"detect": "detect-x", "lesion-classifier": "lesion-classifier-x"}
    outlined = {**found, "segment": "segment-3d-x"}
    graded = {**outlined, "grade-mtnet": "grade-mtnet-x", "grade-gcnn": "grade-gcnn-x", "grade-snnet": "grade-snnet-x"}
    both = {"malignancy_detect": 0.8, "malignancy_gcnn": 0.2, "malignancy_mtnet": 0.4}
    for named, evidence, judges in (
        (found, {}, ["lesion-classifier-x"]),
        (outlined, {"malignancy_detect": 0.8}, ["segment-3d-x"]),
        (outlined, {"malignancy_detect": 0.3}, ["lesion-classifier-x"]),  # a network that outlines alone left it as it was
        ({"segment": "segment-3d-x"}, {}, ["segment-3d-x"]),
        (graded, both, ["grade-mtnet-x", "grade-gcnn-x"]),
    ):
        first = replace(study.findings[0], malignancy=0.3, models=named, evidence=evidence)
        assert [m["id"] for m in equipment.judges_of(study, first)] == judges
        one = replace(study, findings=(first,))
        (group,) = [g for g in groups_of(sr.report(one, original)) if "111047" in values_of(g)]
        measured = next(m for m in group.get_measurements() if m.name.value == "111047")
        told = {item.ConceptNameCodeSequence[0].CodeValue: item.TextValue for item in measured[0].ContentSequence if "TextValue" in item}
        assert told["111001"] == " + ".join(f"BreastUSAI {judge}" for judge in judges)
        drawn = seg.segmentation(one, original).SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmName
        assert drawn == "BreastUSAI segment-3d-x"


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_sides_of_a_single_slice_are_those_that_it_shows(axis):
    size, sides = [60, 50, 40], [6.0, 5.0, 4.0]
    size[axis], sides[axis] = 1, 0.8
    info = ImageInfo("v", tuple(size), (1.0,) * 3, (0.0,) * 3, (1.0, 0, 0, 0, 1, 0, 0, 0, 1))
    named = {code.meaning: extent for code, extent, _ in codes.box_extents(Study(info), Finding("L1", Box((9, 9, 9), tuple(sides)), 0.9))}
    del sides[axis]
    assert list(named.values()) == sides and [name.split()[0] for name in named] == ["Width", "Height"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["segments", "outlines", "boxes", "nothing"])
def test_a_report_is_valid_and_has_a_group_for_each_finding(kinds, kind, what, tmp_path):
    _, loaded, study, original = kinds[kind]
    study = {"boxes": study_of(loaded, masks=False), "nothing": replace(study, findings=())}.get(what, study)
    segmentation = seg.segmentation(study, original) if what == "segments" else None
    dataset = saved(sr.report(study, original, segmentation), tmp_path)
    assert dataset.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    groups = groups_of(dataset)
    if what == "nothing":
        from highdicom.sr import MeasurementReport

        (none,) = MeasurementReport.from_sequence([dataset]).get_image_measurement_groups()
        assert values_of(none) == {"246206008": 0.0} and not groups
        return
    tracked = [(g.tracking_identifier, g.tracking_uid) for g in groups]
    assert set(tracked) == {(f.id, original.tracking_uid(f.id)) for f in study.findings}
    first = next(g for g in groups if g.tracking_identifier == "L1" and "111012" in values_of(g))
    figures = values_of(first)
    unit = "mm" if loaded.spacing_known else "px"
    assert figures["111012"] == pytest.approx(90) and figures["111047"] == pytest.approx(30)
    assert figures["103339001"] == 4.25 and figures["42798000"] == 12.5 and figures["BIRADS_4A"] == pytest.approx(50)
    assert "SOLIDITY" not in figures  # was not measured
    major = next(m for m in first.get_measurements() if m.name.value == "103339001")
    assert major.unit.value == ("mm" if unit == "mm" else "{pixels}")
    said = {e.name.value: (e.value.scheme_designator, e.value.value) for e in first.get_qualitative_evaluations()}
    assert said["111005"] == ("BI", "MA.II.A.5.4A") and said["111354"] == ("DCM", "111355")
    second = next(g for g in groups if g.tracking_identifier == "L2" and "111012" in values_of(g))
    assert "111005" not in {e.name.value for e in second.get_qualitative_evaluations()}  # no BI-RADS was computed
    named = {
        i.ReferencedSOPInstanceUID
        for s in dataset.CurrentRequestedProcedureEvidenceSequence
        for r in s.ReferencedSeriesSequence
        for i in r.ReferencedSOPSequence
    }
    assert (segmentation is not None) == (segmentation is not None and segmentation.SOPInstanceUID in named)


@pytest.mark.parametrize("kind", KINDS)
def test_the_box_in_the_report_is_the_finding_s_box(kinds, kind):
    _, loaded, _, original = kinds[kind]
    study = study_of(loaded, masks=False)
    image = loaded.image if loaded.image.GetDimension() == 3 else sitk.JoinSeries(loaded.image, 0.0, 1.0)
    for measured, finding in zip(groups_of(sr.report(study, original)), study.findings, strict=True):
        figures = values_of(measured)
        sides = ("103355008", "121207", "410668003")[: loaded.image.GetDimension()]  # width, height, length
        assert [figures[side] for side in sides] == pytest.approx(
            study.physical_box(finding).size[: loaded.image.GetDimension()], rel=1e-6
        )
        centre = np.array(finding.box.center)
        if kind in ("series", "enhanced"):
            points = np.concatenate(measured.roi.graphic_data)
            half = (points - centre) @ np.reshape(image.GetDirection(), (3, 3))
            assert np.allclose(np.abs(half), np.array(finding.box.size) / 2, atol=1e-4)
            assert measured.roi.frame_of_reference_uid == original.frame_of_reference
            continue
        regions = [measured.roi] if original.grid.size[2] == 1 else measured.roi
        corners, frames = [], []
        for roi in regions:
            (item,) = roi.ContentSequence
            frames.append(item.ReferencedSOPSequence[0].get("ReferencedFrameNumber"))
            corners.append(np.array(roi.GraphicData, float).reshape(-1, 2) - 0.5)
        assert all(np.allclose(c, corners[0]) for c in corners) and np.allclose(corners[0][0], corners[0][-1])
        index = np.array(image.TransformPhysicalPointToContinuousIndex([float(v) for v in centre]))
        half = np.array(finding.box.size[:2]) / image.GetSpacing()[:2] / 2
        assert np.allclose(corners[0].min(axis=0), index[:2] - half, atol=1e-3)
        assert np.allclose(corners[0].max(axis=0), index[:2] + half, atol=1e-3)
        if original.grid.size[2] > 1:
            slices = [k for k, f in enumerate(original.frames) if f.number in frames]
            low, high = (
                index[2] - finding.box.size[2] / image.GetSpacing()[2] / 2,
                index[2] + finding.box.size[2] / image.GetSpacing()[2] / 2,
            )
            assert (slices[0] - 0.5, slices[-1] + 0.5) == pytest.approx((low, high), abs=1e-3)


def test_the_outline_in_the_report_encloses_the_mask(kinds):
    from skimage.draw import polygon2mask

    _, loaded, study, original = kinds["image"]
    array = np.zeros(loaded.image.GetSize()[::-1], np.uint8)
    array[3:9, 4:12] = 1
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(loaded.image)
    study = replace(study, findings=(replace(study.findings[0], mask=mask, box=box_of_mask(mask)),))
    outline = groups_of(sr.report(study, original))[0].roi
    points = np.array(outline.GraphicData, float).reshape(-1, 2) - 0.5
    assert np.array_equal(polygon2mask(array.shape, points[:, ::-1]), array.astype(bool))


def test_a_report_beside_a_segmentation_refers_to_its_segments(kinds):
    for kind in ("image", "series"):
        _, _, study, original = kinds[kind]
        segmentation = seg.segmentation(study, original)
        dataset = sr.report(study, original, segmentation)
        text = str(dataset)
        assert segmentation.SOPInstanceUID in text
        purposes = [g.get_measurements() for g in groups_of(dataset)]
        assert len(purposes) == 2 * len(study.findings)  # the mask, and its box


def test_a_curved_volume_s_report_has_the_positions_in_the_body(kinds, tmp_path):
    _, _, study, original = kinds["ge_abus"]
    acquisition = study.image.acquisition
    finding = replace(study.findings[0], measurements={"volume_ml": 1.0, "width_mm": 99.0})
    dataset = saved(sr.report(replace(study, findings=(finding,)), original), tmp_path)
    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"  # Comprehensive 3D SR
    (measured,) = groups_of(dataset)
    points = [item for item in sr._items(dataset) if item.ValueType == "SCOORD3D"]
    assert {p.ReferencedFrameOfReferenceUID for p in points} == {original.body} != {original.frame_of_reference}
    (centre,) = [p.GraphicData for p in points if p.GraphicType == "POINT"]
    assert np.allclose(centre, acquisition.to_physical(finding.box.center), atol=1e-4)
    assert np.allclose(acquisition.from_physical(centre), finding.box.center, atol=1e-4)
    figures = values_of(measured)  # the width of the mask, which is the grid's, gives way
    sides = [figures[code] for code in ("103355008", "121207", "410668003")]
    assert sides == pytest.approx(study.physical_box(finding).size, rel=1e-6)
    first, last = (np.reshape(p.GraphicData, (-1, 3)) for p in points if p.GraphicType == "POLYGON")
    on_grid = acquisition.from_physical(np.concatenate([first, last])) - finding.box.center
    assert np.allclose(np.abs(on_grid[:, 1:]), np.array(finding.box.size[1:]) / 2, atol=1e-3)
    assert np.abs(on_grid[:, 0]).max() == pytest.approx(finding.box.size[0] / 2, abs=1e-3)
    assert np.ptp(first[:, 2]) < 1e-4 and np.ptp(last[:, 2]) < 1e-4 and np.array_equal(first[0], first[-1])  # planes
    said = [i.TextValue for i in sr._items(dataset) if i.ValueType == "TEXT" and "curved" in i.TextValue]
    scale = float(acquisition.lateral_scale(finding.box.center))
    assert len(said) == 1 and f"{scale:.3f} times" in said[0]


def test_all_figures_of_a_volume_are_in_a_valid_report(kinds, tmp_path):
    from BreastUSAILib.measurements_3d import measure_3d

    cube = sitk.Image(12, 12, 12, sitk.sitkUInt8)
    cube[3:9, 3:9, 3:9] = 1
    measured = {**measure_3d(cube, cube), "outline_uncertainty": 0.1}
    _, _, study, original = kinds["abvs"]
    finding = replace(study.findings[0], measurements=measured)
    dataset = saved(sr.report(replace(study, findings=(finding,)), original), tmp_path)
    figures = values_of(groups_of(dataset)[0])
    there = [name for name, value in measured.items() if value is not None and codes.measurement(name) is not None]
    assert len(there) > 15 and {codes.measurement(name, True)[0].value for name in there} <= set(figures)
    assert figures["121243"] == pytest.approx(measured["depth_mm"]) and figures["C0JK"] == pytest.approx(
        measured["surface_mm2"], rel=1e-6
    )


def test_notes_on_a_finding_are_in_the_report(kinds):
    _, _, study, original = kinds["image"]
    comments = [i.TextValue for i in sr._items(sr.report(study, original)) if i.ValueType == "TEXT"]
    assert comments.count("A note.") == 1


def test_codes_are_those_of_the_standard():
    from pydicom.sr._concepts_dict import concepts

    plain = [v for v in vars(codes).values() if isinstance(v, codes.Code)]
    used = [*plain, *codes.BIRADS.values(), *codes._CONCEPTS.values(), *codes._CONCEPTS_3D.values(), sr.OUTLINE]
    known = {(scheme, value) for scheme, names in concepts.items() for meanings in names.values() for value in meanings}
    known |= {("IBSI", "7TET")}  # IBSI's own, in no context group: standard deviation / mean of the intensities
    checked = [c for c in used if c.scheme in ("SCT", "DCM", "IBSI")]
    assert len(checked) > 15 and not [c for c in checked if (c.scheme, c.value) not in known]
    assert {c.scheme for c in used} <= {"SCT", "DCM", "IBSI", "UCUM", "BI", codes.SCHEME}


def test_the_assessment_is_the_category_that_report_and_table_state():
    """The likeliest is 4A here, the median of the distribution 4B."""
    birads = {"3": 0.2, "4A": 0.28, "4B": 0.1, "4C": 0.2, "5": 0.22}
    assert codes.assessment(birads) == stated_category(birads) == "4B"
    assert codes.assessment(BIRADS) == stated_category(BIRADS) and codes.assessment(None) is None and codes.assessment({}) is None


@pytest.mark.parametrize("volume", [False, True])
def test_names_of_measurements_have_codes_that_fit_and_differ(volume):
    from BreastUSAILib.measurements import measure_2d
    from BreastUSAILib.measurements_3d import measure_3d

    cube = sitk.Image(9, 9, 9, sitk.sitkUInt8)
    cube[3:6, 3:6, 3:6] = 1
    plane = cube[:, :, 4]
    names = measure_3d(cube, cube) if volume else measure_2d(plane, plane, True)
    names = [*names, "outline_uncertainty", "an_unknown_name_of_a_version_to_come"]
    coded = {name: codes.measurement(name, volume) for name in names}
    assert {name for name, code in coded.items() if code is None} == ({"parallel_to_skin"} if volume else set())
    concepts = [code[0] for code in coded.values() if code is not None]
    assert len({(c.scheme, c.value) for c in concepts}) == len(concepts)
    assert all(len(c.value) <= 16 and len(c.meaning) <= 64 and len(c.scheme) <= 16 for c in concepts)
    own = {c.value for c in concepts if c.scheme == codes.SCHEME}
    assert "AN_UNKN_NAME_OF_" in own  # and all others have a name that was chosen
    assert own - {"AN_UNKN_NAME_OF_"} <= {c.value for c in codes._CONCEPTS.values()}
    for unit in ("mm", "mm2", "px", "px2", "px3", "ml", "deg"):
        assert codes.measurement(f"anything_{unit}")[0].value == "ANYTHING"


# ---------------------------------------------------------------------------------------------------- PDF and FHIR


@pytest.mark.parametrize("kind", ["image", "ge_abus", "screen"])
def test_the_report_as_pdf_is_valid_and_the_same_each_time(kinds, kind, tmp_path):
    _, loaded, study, original = kinds[kind]
    dataset = saved(pdf.encapsulated_pdf(study, original, loaded.image), tmp_path)
    document = dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength]
    assert document.startswith(b"%PDF-") and document.rstrip().endswith(b"%%EOF")
    assert dataset.MIMETypeOfEncapsulatedDocument == "application/pdf" and dataset.BurnedInAnnotation == "YES"
    again = pdf.encapsulated_pdf(study, original, loaded.image)
    assert again.EncapsulatedDocument == dataset.EncapsulatedDocument
    assert pdf._shown("10 o’clock, Ω") == "10 o’clock, ?"  # what the font has stays
    nothing = pdf.pdf(replace(study, findings=()), loaded.image, [("Patient", "Ω & <b>")])
    assert nothing.startswith(b"%PDF-")


@pytest.mark.parametrize(
    "name, shown",
    [
        ("Mueller^Anna", "Anna Mueller"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Tarou Yamada"),
        ("=山田^太郎", "太郎 山田"),
        ("==", None),
    ],
)
def test_fhir_shows_a_name_once_whichever_ways_it_is_written(kinds, name, shown):
    _, _, study, original = kinds["image"]
    header = pydicom.Dataset()
    header.update(original.header)
    header.SpecificCharacterSet, header.PatientName = "ISO_IR 192", name
    report = fhir.bundle(study, replace(original, headers=(header,)))["entry"][0]["resource"]
    assert report["subject"].get("display") == shown


@pytest.mark.parametrize("version", ["R4", "R5"])
@pytest.mark.parametrize("kind", ["image", "ge_abus", "none"])
def test_fhir_follows_the_published_resources(kinds, kind, version):
    pytest.importorskip("fhir.resources", reason="fhir.resources is not installed")
    if version == "R4":  # the package has R4B, which does not differ from R4 in these resources
        from fhir.resources.R4B.bundle import Bundle
    else:
        from fhir.resources.bundle import Bundle
    _, _, study, original = kinds["image" if kind == "none" else kind]
    original = None if kind == "none" else original
    for each in (study, replace(study, findings=())):
        data = fhir.bundle(each, original, version)
        Bundle.model_validate(json.loads(json.dumps(data)))
        report, *observations, device = (e["resource"] for e in data["entry"])
        assert report["status"] == "preliminary" and report["conclusion"].startswith(each.summary)
        assert [o["code"]["text"] for o in observations] == [f"Lesion {f.id}" for f in each.findings]
        assert device["resourceType"] == "Device"
        urls = {e["fullUrl"] for e in data["entry"]}
        assert len(urls) == len(data["entry"]) and {r["reference"] for r in report.get("result", ())} <= urls
    assert ("subject" in report) == (original is not None)
    first = fhir.bundle(study, original, version)["entry"][1]["resource"]
    figures = {c["code"]["text"]: c for c in first["component"]}
    assert figures["Probability of cancer"]["valueQuantity"]["value"] == pytest.approx(30)
    assert figures["Assessment Category"]["valueCodeableConcept"]["text"] == "BI-RADS 4A - Low suspicion"
    with pytest.raises(UsageError, match="R3"):
        fhir.bundle(study, original, "R3")


# --------------------------------------------------------------------------------------------------- beside a study


def test_write_leaves_what_was_asked_for_and_nothing_older(kinds, tmp_path):
    _, loaded, study, _ = kinds["series"]
    every = dicom_out.DicomOptions(seg=True, sr=True, report=True, fhir="R4")
    assert dicom_out.write(study, loaded, tmp_path, every) == study  # no notes
    assert {p.name for p in tmp_path.iterdir()} == set(dicom_out.FILES)
    dicom_out.write(study, loaded, tmp_path, dicom_out.DicomOptions(seg=True))
    assert {p.name for p in tmp_path.iterdir()} == {dicom_out.SEG}
    boxes = dicom_out.write(study_of(loaded, masks=False), loaded, tmp_path, every)
    assert boxes.provenance["notes"] == [dicom_out.NO_OUTLINES]
    assert dicom_out.SEG not in {p.name for p in tmp_path.iterdir()}
    assert dicom_out.write(study, loaded, tmp_path / "no", dicom_out.DicomOptions()) is study
    assert not (tmp_path / "no").exists()


def test_an_input_that_is_not_dicom_has_fhir_alone_and_a_note(tmp_path):
    from PIL import Image

    Image.fromarray(samples.speckle((30, 40))).save(tmp_path / "a.png")
    loaded = read_image(tmp_path / "a.png")
    study = study_of(loaded)
    told = dicom_out.write(study, loaded, tmp_path / "out", dicom_out.DicomOptions(True, True, True, "R4"))
    assert told.provenance["notes"] == [dicom_out.NOT_DICOM]
    assert [p.name for p in (tmp_path / "out").iterdir()] == [dicom_out.FHIR]


def test_options_go_to_names_and_back():
    for options in (dicom_out.DicomOptions(), dicom_out.DicomOptions(True, False, True, "R5")):
        assert dicom_out.DicomOptions.of(options.names) == options
    with pytest.raises(UsageError, match="pdf"):
        dicom_out.DicomOptions.of(["pdf"])
    with pytest.raises(UsageError, match="R3"):
        dicom_out.DicomOptions.of(["fhir-R3"])


def test_missing_packages_are_told(kinds, monkeypatch, tmp_path):
    _, loaded, study, original = kinds["image"]
    monkeypatch.setitem(sys.modules, "reportlab.pdfbase", None)
    with pytest.raises(DependencyError, match="reportlab.*pip install"):
        pdf.pdf(study, loaded.image)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(DependencyError, match="highdicom.*pip install"):
        dicom_out.write(study, loaded, tmp_path, dicom_out.DicomOptions(sr=True))


def test_dicom_validator_finds_no_errors(kinds, tmp_path):
    """Where the standard's DocBook files lie in ~/dicom-validator, as that program fetches them; nothing is fetched here."""
    pytest.importorskip("dicom_validator", reason="dicom-validator is not installed")
    editions = sorted((Path.home() / "dicom-validator").glob("20*/docbook/part03.xml"))
    if not editions:
        pytest.skip("dicom-validator needs the standard's DocBook files in ~/dicom-validator, which are not there")
    _, loaded, study, _ = kinds["series"]
    dicom_out.write(study, loaded, tmp_path, dicom_out.DicomOptions(True, True, True))
    command = ["-m", "dicom_validator.validate_iods", "--edition", editions[-1].parents[1].name, str(tmp_path)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
