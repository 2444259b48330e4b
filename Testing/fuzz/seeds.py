"""Small valid files of every kind that BreastUSAI reads, made here; what `mutations` spoils."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

# A segmentation network of some hundred weights.
TINY = {"trunk": "vgg", "channels": [2, 2, 2, 2, 2], "convolutions": [1, 1, 1, 1, 1], "context_channels": 2}
RNG = np.random.default_rng(7)
PLANE = RNG.integers(0, 256, (14, 18), dtype=np.uint8)
CUBE = RNG.integers(0, 256, (4, 10, 12), dtype=np.uint8)


def image_files(folder: Path) -> dict[str, list[Path]]:
    """Kind -> files, written to `folder`; a second file of the same stem (.raw) belongs to the header before it."""
    folder.mkdir(parents=True, exist_ok=True)
    plane, cube = sitk.GetImageFromArray(PLANE), sitk.GetImageFromArray(CUBE)
    cube.SetSpacing((0.5, 0.25, 1.0))
    colour = sitk.GetImageFromArray(np.stack([PLANE, PLANE // 2, 255 - PLANE], -1), isVector=True)
    floats = sitk.Cast(cube, sitk.sitkFloat32)
    for name, image, compressed in (
        ("plane.nrrd", plane, False), ("cube.nrrd", floats, True), ("apart.nhdr", cube, False),
        ("plane.mha", plane, False), ("cube.mha", cube, True), ("apart.mhd", cube, False),
        ("cube.nii", floats, False), ("plane.nii.gz", plane, True),
        ("plane.png", plane, False), ("colour.png", colour, False), ("plane.jpg", plane, False),
        ("plane.tif", plane, False), ("colour.bmp", colour, False),
    ):  # fmt: skip
        sitk.WriteImage(image, str(folder / name), compressed)
    (folder / "text.nrrd").write_bytes(
        b"NRRD0005\ntype: uchar\ndimension: 2\nsizes: 4 3\nencoding: ascii\nspacings: 0.2 0.2\n\n"
        + b" ".join(str(n).encode() for n in range(12))
        + b"\n"
    )
    (folder / "pattern.nhdr").write_bytes(
        b"NRRD0005\ntype: uchar\ndimension: 3\nsizes: 4 3 2\nencoding: raw\ndata file: part%d.raw 1 2 1 2\n"
    )
    for number in (1, 2):
        (folder / f"part{number}.raw").write_bytes(bytes(range(12)))
    dicom_files(folder)
    kinds = {"nrrd": ["plane.nrrd", "cube.nrrd", "text.nrrd", "apart.nhdr", "pattern.nhdr"]}
    kinds |= {"meta": ["plane.mha", "cube.mha", "apart.mhd"], "nifti": ["cube.nii", "plane.nii.gz"]}
    kinds |= {"png": ["plane.png", "colour.png"], "jpeg": ["plane.jpg"], "tiff": ["plane.tif"], "bmp": ["colour.bmp"]}
    kinds |= {"dicom": sorted(p.name for p in folder.glob("*.dcm"))}
    return {kind: [folder / name for name in names] for kind, names in kinds.items()}


def dicom_files(folder: Path) -> None:
    from PIL import Image
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless

    def dataset(pixels: np.ndarray, syntax, sop: str) -> Dataset:
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = syntax
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = sop
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "1.2.826.0.1.3680043.8.498.1"
        ds.PatientName, ds.PatientID, ds.StudyID = "../../etc/passwd", "..\\..\\x", "/tmp/escape"
        ds.StudyInstanceUID = ds.SeriesInstanceUID = ds.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.2"
        ds.Modality = "US"
        if pixels.ndim == 3:
            ds.NumberOfFrames = pixels.shape[0]
        ds.Rows, ds.Columns = pixels.shape[-2:]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated = ds.BitsStored = 8
        ds.HighBit, ds.PixelRepresentation = 7, 0
        region = Dataset()
        region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
        region.RegionLocationMinX0, region.RegionLocationMinY0 = 2, 1
        region.RegionLocationMaxX1, region.RegionLocationMaxY1 = pixels.shape[-1] - 2, pixels.shape[-2] - 2
        region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
        region.PhysicalDeltaX = region.PhysicalDeltaY = 0.01
        ds.SequenceOfUltrasoundRegions = [region]
        ds.PixelData = pixels.tobytes()
        return ds

    single, cine, volume = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1", "1.2.840.10008.5.1.4.1.1.6.2"
    dataset(PLANE, ExplicitVRLittleEndian, single).save_as(folder / "single.dcm", enforce_file_format=True)
    dataset(PLANE, ImplicitVRLittleEndian, single).save_as(folder / "implicit.dcm", enforce_file_format=True)
    dataset(CUBE, ExplicitVRLittleEndian, cine).save_as(folder / "cine.dcm", enforce_file_format=True)
    stream = io.BytesIO()
    Image.fromarray(PLANE).save(stream, "JPEG")
    jpeg = dataset(PLANE, JPEGBaseline8Bit, single)
    jpeg.PixelData = encapsulate([stream.getvalue()])
    jpeg["PixelData"].VR = "OB"
    jpeg.save_as(folder / "jpeg.dcm", enforce_file_format=True)
    rle = dataset(PLANE, ExplicitVRLittleEndian, single)
    rle.compress(RLELossless)
    rle.save_as(folder / "rle.dcm", enforce_file_format=True)
    enhanced = dataset(CUBE, ExplicitVRLittleEndian, volume)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.25, 0.5], 1.0
    orientation.ImageOrientationVolume = orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationVolumeSequence = [measures], [orientation]
    shared.PlaneOrientationSequence = [orientation]
    enhanced.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for z in range(CUBE.shape[0]):
        frame, position = Dataset(), Dataset()
        position.ImagePositionVolume = position.ImagePositionPatient = [0, 0, float(z)]
        frame.PlanePositionVolumeSequence = frame.PlanePositionSequence = [position]
        frames.append(frame)
    enhanced.PerFrameFunctionalGroupsSequence = frames
    enhanced.save_as(folder / "enhanced.dcm", enforce_file_format=True)


def record_files(folder: Path) -> dict[str, list[Path]]:
    """Kind -> JSON files of ours: a study, a run, a journal."""
    from BreastUSAILib.findings import Box, Finding, ImageInfo, Study

    folder.mkdir(parents=True, exist_ok=True)
    box = Box(center=(1.0, 2.0, 0.0), size=(3.0, 4.0, 0.0))
    finding = Finding("L1", box, 0.9, measurements={"area_mm2": 3.5}, notes=("a note",))
    study = Study(
        ImageInfo.of(sitk.GetImageFromArray(PLANE), "a.png"), (finding,), provenance={"models": [], "options": {}}
    )
    (folder / "study.json").write_text(study.to_json())
    run = {
        "schema": "breastusai/run/1.0", "named": ["a.png"], "folder": "/in", "software": {"numpy": "2"}, "models": [],
        "options": {"workup": {"model": "", "detection": {"model": ""}}, "frame": None},
        "inputs": [{"input": "/in/a.png", "folder": "a", "status": "done"}, {"input": "/in/b.png", "folder": "../b", "status": "failed"}],
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(run))
    entry = {"input": "/in/a.png", "folder": "a", "status": "done", "shown": "a.png", "message": "", "run": ""}
    (folder / "journal.jsonl").write_text("\n" + json.dumps(entry) + "\n" + json.dumps({**entry, "input": "/in/b"}))
    return {"json": sorted(folder.iterdir())}


def model_folder(folder: Path) -> Path:
    """A tiny segmentation network with its config, as training writes it."""
    import torch
    from safetensors.torch import save

    from BreastUSAILib.models import catalog
    from BreastUSAILib.networks.roi_cnn import RoiCnn

    folder.mkdir(parents=True, exist_ok=True)
    config = next(e for e in catalog.entries() if e.task == "segment").to_dict()
    config["arguments"] = TINY
    torch.manual_seed(0)
    data = save({name: value.contiguous() for name, value in RoiCnn(**TINY).state_dict().items()})
    config |= {
        "id": "tiny",
        "file": "model.safetensors",
        "size_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    (folder / "model.safetensors").write_bytes(data)
    (folder / "config.json").write_text(json.dumps(config))
    return folder
