"""DICOM files as breast ultrasound scanners write them, small, made with pydicom, valid after PS3.3.

One function for each kind; each returns a `pydicom.Dataset` that `save` writes. Pixels are (frames, rows, columns[, 3]) or
(rows, columns[, 3]). Nothing in them belongs to a person. `python Testing/Python/dicom_samples.py FOLDER` writes one file of each
kind, to look at with other programs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence as Numbers
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

US_IMAGE = "1.2.840.10008.5.1.4.1.1.6.1"
US_MULTIFRAME = "1.2.840.10008.5.1.4.1.1.3.1"
US_ENHANCED_VOLUME = "1.2.840.10008.5.1.4.1.1.6.2"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"

INVENIA_RADIUS_MM = 442.11  # of real Invenia volumes


def item(**elements) -> Dataset:
    ds = Dataset()
    for name, value in elements.items():
        setattr(ds, name, value)
    return ds


def code(value: str, scheme: str, meaning: str) -> Dataset:
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


BREAST = code("76752008", "SCT", "Breast")


def speckle(shape: Numbers[int], seed: int = 0) -> np.ndarray:
    """uint8 noise with a dark ball in the middle, so that no two frames, rows or columns are the same."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(60, 200, shape)
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return np.where(sum(g**2 for g in grid) < 0.3, noise // 3, noise).astype(np.uint8)


# ----------------------------------------------------------------------------------------------------------- modules


def instance(
    sop: str, *, syntax: str = ExplicitVRLittleEndian, study: str = "", series: str = "", number: int = 1
) -> Dataset:
    """What every file has: patient, study, series, equipment and SOP common modules.

    study, series : UIDs; new ones when empty.
    number : Instance Number.
    """
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Phantom^Anna", "P1", "", "F"
    ds.StudyInstanceUID, ds.StudyID = study or generate_uid(), "1"
    ds.StudyDate, ds.StudyTime = "20260102", "101500"
    ds.ReferringPhysicianName = ds.AccessionNumber = ""
    ds.Modality, ds.SeriesInstanceUID, ds.SeriesNumber = "US", series or generate_uid(), 1
    ds.Manufacturer, ds.ManufacturerModelName = "Phantom Works", "Sample"
    ds.InstanceNumber = number
    ds.ContentDate, ds.ContentTime = "20260102", "101501"
    return ds


def add_pixels(ds: Dataset, pixels: np.ndarray, *, frames: int | None = None, photometric: str = "") -> Dataset:
    """The image pixel module; with `frames` the first axis is theirs."""
    shape = pixels.shape[1:] if frames else pixels.shape
    colour = len(shape) == 3
    ds.SamplesPerPixel = 3 if colour else 1
    ds.PhotometricInterpretation = photometric or ("RGB" if colour else "MONOCHROME2")
    if colour:
        ds.PlanarConfiguration = 0
    if frames:
        ds.NumberOfFrames = frames
    ds.Rows, ds.Columns = shape[:2]
    ds.BitsAllocated = ds.BitsStored = pixels.dtype.itemsize * 8
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = 0
    data = pixels.tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    return ds


def region(
    delta_cm: Numbers[float], where: Numbers[int], *, units: Numbers[int] = (3, 3), data_type: int = 1
) -> Dataset:
    """One item of the Sequence of Ultrasound Regions. where: first column, first row, last column, last row."""
    ds = item(RegionSpatialFormat=1, RegionDataType=data_type, RegionFlags=0)
    ds.PhysicalUnitsXDirection, ds.PhysicalUnitsYDirection = units
    ds.PhysicalDeltaX, ds.PhysicalDeltaY = delta_cm
    ds.RegionLocationMinX0, ds.RegionLocationMinY0, ds.RegionLocationMaxX1, ds.RegionLocationMaxY1 = where
    return ds


# ------------------------------------------------------------------------------------------------------------- kinds


def us_image(
    pixels: np.ndarray, *, mm: Numbers[float] | None = None, laterality: str = "L", photometric: str = "", **keys
) -> Dataset:
    """A single ultrasound image (6.1). mm: (x, y) of a pixel, as one calibrated region over the whole picture."""
    ds = instance(US_IMAGE, **keys)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "BREAST", "0001"]
    ds.Laterality = laterality
    ds.PatientOrientation = ""
    ds.LossyImageCompression = "00"
    ds.AnatomicRegionSequence = Sequence([BREAST])
    if mm is not None:
        rows, columns = pixels.shape[:2]
        ds.SequenceOfUltrasoundRegions = Sequence([region([v / 10 for v in mm], (0, 0, columns - 1, rows - 1))])
    return add_pixels(ds, pixels, photometric=photometric)


def us_cine(pixels: np.ndarray, *, mm: Numbers[float] | None = None, frame_ms: float = 33.3, **keys) -> Dataset:
    """A cine (3.1): frames of one place after the other in time."""
    ds = us_image(pixels[0], mm=mm, **keys)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = US_MULTIFRAME
    ds.FrameTime = frame_ms
    ds.FrameIncrementPointer = 0x00181063
    return add_pixels(ds, pixels, frames=len(pixels))


def abvs(
    pixels: np.ndarray, spacing: Numbers[float], *, description: str = "R LAT", laterality: str = "R", **keys
) -> Dataset:
    """A volume of the Siemens ACUSON S2000 ABVS: multi-frame, 8 bit, a frame a slice. spacing: (x, y, z) mm."""
    ds = us_cine(pixels, laterality=laterality, **keys)
    ds.Manufacturer, ds.ManufacturerModelName = "SIEMENS", "ACUSON S2000"
    ds.SeriesDescription = description
    ds.PixelSpacing = [spacing[1], spacing[0]]
    ds.SpacingBetweenSlices = spacing[2]
    return ds


def ge_abus(
    pixels: np.ndarray,
    spacing: Numbers[float],
    *,
    radius: float = INVENIA_RADIUS_MM,
    track: float = 0.0,
    creator: str = "U-Systems",
    description: str = "RLAT",
    laterality: str = "R",
    block: int = 0x10,
    **keys,
) -> Dataset:
    """A volume of the GE Invenia ABUS. spacing: (x, y, z) mm, lateral, depth, slice. block: of the private elements."""
    ds = abvs(pixels, spacing, description=description, laterality=laterality, **keys)
    ds.Manufacturer, ds.ManufacturerModelName = "GE Healthcare", "Invenia"
    ds.add_new((0x0021, block), "LO", creator)
    element = block << 8
    ds.add_new((0x0021, element + 0x20), "DS", ["12.5", "0", "30.0"])  # nipple position
    ds.add_new((0x0021, element + 0x21), "DS", "0")  # first element
    ds.add_new((0x0021, element + 0x40), "FD", float(radius))
    ds.add_new((0x0021, element + 0x41), "FD", float(track))
    ds.add_new((0x0021, element + 0x62), "DS", "1.0")  # line density
    ds.add_new((0x0021, element + 0x63), "DS", f"{pixels.shape[1] * spacing[1] / 10:.4g}")  # scan depth, cm
    return ds


def enhanced_volume(
    pixels: np.ndarray,
    spacing: Numbers[float],
    *,
    origin: Numbers[float] = (0, 0, 0),
    x: Numbers[float] = (1, 0, 0),
    y: Numbers[float] = (0, 1, 0),
    places: Numbers[float] | None = None,
    times: Numbers[int] | None = None,
    types: Numbers[str] | None = None,
    laterality: str = "R",
    in_patient: bool = False,
    **keys,
) -> Dataset:
    """An Enhanced US Volume (6.2).

    Parameters
    ----------
    pixels : (frames, rows, columns) in the order in which they are stored.
    spacing : (x, y, z) mm.
    origin, x, y : of the first frame; directions of its rows and columns.
    places : of each stored frame along the normal, mm from `origin`; evenly, in order, when None.
    times : Temporal Position Index of each stored frame.
    types : Data Type of each stored frame, TISSUE_INTENSITY when None.
    in_patient : give places in the patient, which PS3.3 does not allow here and some writers do; else in the volume's own frame
        of reference.
    """
    ds = instance(US_ENHANCED_VOLUME, **keys)
    count = len(pixels)
    normal = np.cross(x, y)
    places = spacing[2] * np.arange(count) if places is None else places
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = generate_uid(), ""
    ds.SynchronizationFrameOfReferenceUID = generate_uid()
    ds.SynchronizationTrigger, ds.AcquisitionTimeSynchronized = "NO TRIGGER", "N"
    ds.DeviceSerialNumber, ds.SoftwareVersions = "1", "1.0"
    ds.VolumeFrameOfReferenceUID = generate_uid()
    ds.UltrasoundAcquisitionGeometry, ds.ApexPosition = "APEX", [0, 0, 0]
    ds.VolumeToTransducerMappingMatrix = np.eye(4).ravel().tolist()
    ds.AnatomicRegionSequence, ds.ImageLaterality, ds.PatientOrientation = Sequence([BREAST]), laterality, ""
    ds.ViewCodeSequence = Sequence([code("399067008", "SCT", "lateral projection")])
    ds.TransducerScanPatternCodeSequence = Sequence([code("125242", "DCM", "Volume scan pattern")])
    ds.TransducerGeometryCodeSequence = Sequence([code("125252", "DCM", "Linear ultrasound transducer geometry")])
    ds.TransducerBeamSteeringCodeSequence = Sequence([code("125258", "DCM", "Mechanical beam steering")])
    ds.TransducerApplicationCodeSequence = Sequence([code("125261", "DCM", "External Transducer")])
    ds.MechanicalIndex = ds.BoneThermalIndex = ds.CranialThermalIndex = ds.SoftTissueThermalIndex = 0.5
    ds.DepthsOfFocus, ds.DepthOfScanField = [20.0], 50
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.PositionMeasuringDeviceUsed = "RIGID"
    ds.DimensionOrganizationType = "3D"
    organization = generate_uid()
    ds.DimensionOrganizationSequence = Sequence([item(DimensionOrganizationUID=organization)])
    pointers = [(0x0020930D, 0x00209310), (0x00209301, 0x0020930E), (0x00189808, 0x00189807)]
    ds.DimensionIndexSequence = Sequence(
        [
            item(DimensionOrganizationUID=organization, DimensionIndexPointer=p, FunctionalGroupPointer=g)
            for p, g in pointers
        ]
    )
    ds.AcquisitionDateTime, ds.AcquisitionDuration = "20260102101501", 1.0
    ds.ContentQualification, ds.BurnedInAnnotation = "RESEARCH", "NO"
    ds.LossyImageCompression, ds.PresentationLUTShape = "00", "IDENTITY"
    ds.AcquisitionContextSequence = Sequence([])
    ds.RescaleIntercept, ds.RescaleSlope = 0, 1
    ranks = {p: n for n, p in enumerate(sorted({round(float(p), 6) for p in places}), 1)}
    kinds = list(dict.fromkeys(types or ["TISSUE_INTENSITY"]))
    frames = []
    for index, place in enumerate(places):
        time = 1 if times is None else int(times[index])
        kind = "TISSUE_INTENSITY" if types is None else types[index]
        frames.append(
            item(
                FrameContentSequence=Sequence(
                    [
                        item(
                            FrameAcquisitionDateTime="20260102101501",
                            FrameReferenceDateTime="20260102101501",
                            FrameAcquisitionDuration=10.0,
                            DimensionIndexValues=[time, ranks[round(float(place), 6)], kinds.index(kind) + 1],
                            StackID="1",
                            InStackPositionNumber=ranks[round(float(place), 6)],
                        )
                    ]
                ),
                PlanePositionVolumeSequence=Sequence(
                    [item(ImagePositionVolume=[float(v) for v in np.asarray(origin, float) + place * normal])]
                ),
                TemporalPositionSequence=Sequence([item(TemporalPositionTimeOffset=float(time - 1))]),
                ImageDataTypeSequence=Sequence([item(DataType=kind, AliasedDataType="NO", ZeroVelocityPixelValue=0)]),
            )
        )
        if kind == "TISSUE_INTENSITY":
            del frames[-1].ImageDataTypeSequence[0].ZeroVelocityPixelValue
    ds.PerFrameFunctionalGroupsSequence = Sequence(frames)
    ds.SharedFunctionalGroupsSequence = Sequence(
        [
            item(
                PixelMeasuresSequence=Sequence(
                    [
                        item(
                            PixelSpacing=[spacing[1], spacing[0]],
                            SliceThickness=spacing[2],
                            SpacingBetweenSlices=spacing[2],
                        )
                    ]
                ),
                PlaneOrientationVolumeSequence=Sequence([item(ImageOrientationVolume=[float(v) for v in (*x, *y)])]),
                FrameVOILUTSequence=Sequence([item(WindowCenter=128, WindowWidth=256)]),
                USImageDescriptionSequence=Sequence(
                    [
                        item(
                            FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
                            VolumetricProperties="VOLUME",
                            VolumeBasedCalculationTechnique="NONE",
                        )
                    ]
                ),
            )
        ]
    )
    if in_patient:
        for frame in ds.PerFrameFunctionalGroupsSequence:
            (place,) = frame.PlanePositionVolumeSequence
            frame.PlanePositionSequence = Sequence([item(ImagePositionPatient=place.ImagePositionVolume)])
            del frame.PlanePositionVolumeSequence
        (shared,) = ds.SharedFunctionalGroupsSequence
        axes = shared.PlaneOrientationVolumeSequence[0].ImageOrientationVolume
        shared.PlaneOrientationSequence = Sequence([item(ImageOrientationPatient=axes)])
        del shared.PlaneOrientationVolumeSequence
    return add_pixels(ds, pixels, frames=count)


def slices(
    pixels: np.ndarray,
    spacing: Numbers[float],
    *,
    origin: Numbers[float] = (0, 0, 0),
    x: Numbers[float] = (1, 0, 0),
    y: Numbers[float] = (0, 1, 0),
    description: str = "L AP",
    laterality: str = "L",
    study: str = "",
) -> list[Dataset]:
    """A volume as one series of single images (6.1), each with its place in the patient."""
    series, study, frame = generate_uid(), study or generate_uid(), generate_uid()
    normal = np.cross(x, y)
    files = []
    for k, plane in enumerate(pixels):
        ds = us_image(plane, laterality=laterality, study=study, series=series, number=k + 1)
        ds.SeriesDescription = description
        ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = frame, ""
        ds.PixelSpacing = [spacing[1], spacing[0]]
        ds.SliceThickness = spacing[2]
        ds.ImageOrientationPatient = [float(v) for v in (*x, *y)]
        ds.ImagePositionPatient = [float(v) for v in np.asarray(origin, float) + k * spacing[2] * normal]
        files.append(ds)
    return files


def secondary_capture(pixels: np.ndarray, *, modality: str = "US", **keys) -> Dataset:
    """A screen as a Secondary Capture."""
    ds = instance(SECONDARY_CAPTURE, **keys)
    ds.Modality, ds.ConversionType, ds.PatientOrientation = modality, "WSD", ""
    ds.Laterality = "R"
    return add_pixels(ds, pixels)


def mr_image(pixels: np.ndarray, **keys) -> Dataset:
    """A slice of a magnetic resonance image, which is not ours to read."""
    ds = instance(MR_IMAGE, **keys)
    ds.Modality, ds.ImageType = "MR", ["ORIGINAL", "PRIMARY", "OTHER"]
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = "SE", "NONE", "", "2D"
    ds.EchoTime, ds.RepetitionTime, ds.EchoTrainLength, ds.PatientPosition = 10, 500, 1, "HFP"
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = generate_uid(), ""
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [1, 1], 1
    ds.Laterality = "R"
    return add_pixels(ds, pixels.astype(np.uint16))


def text_report(**keys) -> Dataset:
    """A structured report: DICOM without pixels."""
    ds = instance(BASIC_TEXT_SR, **keys)
    ds.Modality, ds.ValueType, ds.ContinuityOfContent = "SR", "CONTAINER", "SEPARATE"
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    ds.ReferencedPerformedProcedureStepSequence = ds.PerformedProcedureCodeSequence = Sequence([])
    ds.ConceptNameCodeSequence = Sequence([code("18748-4", "LN", "Diagnostic imaging report")])
    text = item(RelationshipType="CONTAINS", ValueType="TEXT", TextValue="Nothing to see.")
    text.ConceptNameCodeSequence = Sequence([code("121071", "DCM", "Finding")])
    ds.ContentSequence = Sequence([text])
    return ds


# ------------------------------------------------------------------------------------------------------------- files


def save(ds: Dataset, path: Path, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True, **options)
    return path


def write_dicomdir(folder: Path) -> Path:
    """A DICOMDIR over the files below a folder; copies of them lie where it says."""
    from pydicom.fileset import FileSet

    files = FileSet()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        files.add(path)
    files.write(folder / "media")
    return folder / "media" / "DICOMDIR"


def one_of_each(folder: Path) -> dict[str, Path]:
    """One file of each kind."""
    volume, spacing = speckle((6, 12, 16)), (0.2, 0.073, 0.475674)
    kinds = {
        "us_image": us_image(volume[0], mm=(0.2, 0.1)),
        "us_image_rgb": us_image(np.stack([volume[0]] * 3, axis=-1), mm=(0.2, 0.1)),
        "us_cine": us_cine(volume, mm=(0.2, 0.1)),
        "abvs": abvs(volume, spacing),
        "ge_abus": ge_abus(volume, spacing),
        "enhanced_volume": enhanced_volume(volume, spacing),
        "slice": slices(volume, spacing)[0],
        "secondary_capture": secondary_capture(volume[0]),
        "mr_image": mr_image(volume[0]),
        "text_report": text_report(),
    }
    return {name: save(ds, folder / f"{name}.dcm") for name, ds in kinds.items()}


if __name__ == "__main__":
    for name, path in one_of_each(Path(sys.argv[1])).items():
        print(f"{name}: {path}")
