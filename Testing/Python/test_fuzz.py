"""A sample of Testing/fuzz, and the files with which it found faults, as they were."""

import gzip
import random
import struct
import sys
import zlib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))

import fuzz_inputs  # noqa: E402
import mutations  # noqa: E402
import seeds  # noqa: E402

from BreastUSAILib.errors import ImageError  # noqa: E402
from BreastUSAILib.headers import read_nifti_header  # noqa: E402
from BreastUSAILib.image import read_image  # noqa: E402


def test_spoiled_files_are_read_or_refused():
    kinds = tuple(kind for kind in fuzz_inputs.KINDS if kind != "safetensors")
    counts, faults = fuzz_inputs.fuzz(kinds, 15, 11, 1)
    assert faults == [] and sum(counts.values()) == 15 * len(kinds)
    outcomes = {outcome for _, outcome in counts}
    assert {"read", "refused (ImageError)", "refused (DataError)"} <= outcomes


def test_a_case_follows_from_its_seed():
    data, others = bytes(range(200)), [b"other" * 20]
    spoiled = [mutations.spoil(data, random.Random(f"1-{i}"), others) for i in range(50)]
    assert spoiled == [mutations.spoil(data, random.Random(f"1-{i}"), others) for i in range(50)]
    assert sum(one != data for one in spoiled) > 40


def nrrd(*lines, data=bytes(range(12))):
    return (
        b"NRRD0005\ntype: uchar\ndimension: 2\nsizes: 4 3\n" + b"\n".join([*lines, b"encoding: raw", b"", b""]) + data
    )


def meta(*lines, data=bytes(range(12))):
    fields = {b"NDims": b"2", b"DimSize": b"4 3", b"ElementType": b"MET_UCHAR", b"ElementDataFile": b"LOCAL"}
    fields |= dict(line.split(b" = ") for line in lines)
    last = fields.pop(b"ElementDataFile")
    text = [b"ObjectType = Image", *(k + b" = " + v for k, v in fields.items()), b"ElementDataFile = " + last, b""]
    return b"\n".join(text) + data


def png(width, height):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def bomb():
    """A NIfTI-1 file that states 60000 x 60000 floats and is all zeros, a few kilobytes zipped."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 2, 30000, 30000, 1, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 16, 32)
    struct.pack_into("<8f", header, 76, *[1.0] * 8)
    struct.pack_into("<f", header, 108, 352.0)
    header[344:348] = b"n+1\0"
    return gzip.compress(bytes(header) + bytes(1 << 22))


def nifti(offset, second=False):
    """A NIfTI file of 4 x 3 bytes whose pixels begin at `offset`; of the second version, where that is an integer."""
    header = bytearray(544 if second else 352)
    struct.pack_into("<i", header, 0, 540 if second else 348)
    if second:
        header[4:12] = b"n+2\0\r\n\x1a\n"
        struct.pack_into("<2h", header, 12, 2, 8)
        struct.pack_into("<8q", header, 16, 2, 4, 3, 1, 1, 1, 1, 1)
        struct.pack_into("<8d", header, 104, *[1.0] * 8)
        struct.pack_into("<q", header, 168, offset)
    else:
        struct.pack_into("<8h", header, 40, 2, 4, 3, 1, 1, 1, 1, 1)
        struct.pack_into("<2h", header, 70, 2, 8)
        struct.pack_into("<8f", header, 76, *[1.0] * 8)
        struct.pack_into("<f", header, 108, offset)
        header[344:348] = b"n+1\0"
    return bytes(header) + bytes(range(12))


# What ended the process, hung, or gave an exception of the reader's, by name.
FAULTS = {
    "long-garbage.nrrd": nrrd(b"\x7f\xff\xff\xff" * 300),
    "long-field.nrrd": nrrd(b"spaci" + b"\xff" * 900 + b": 1 1"),
    "long-value.nrrd": nrrd(b"spacings: " + b"\xff" * 900),
    "format.nhdr": nrrd(b"data file: %s%n%s%n 1 2 1"),
    "pattern.nhdr": nrrd(b'data file: part%d.raw ,"shape":[2],' + b"x" * 400),
    "zero-byte.nhdr": nrrd(b"data file: pa\0B.raw"),
    "long-name.mhd": meta(b"ElementDataFile = " + b"a" * 5000),
    "dimensions.mha": meta(b"NDims = 65536"),
    "dimensions-huge.mha": meta(b"NDims = 9223372036854775807"),
    "dimensions-negative.mha": meta(b"NDims = -1"),
    "counts.mha": meta(b"DimSize = 4"),
    "step.mhd": meta(b"ElementDataFile = part%d.raw 0 10 0"),
    "stream.mha": meta(b"CompressedData = True", data=zlib.compress(bytes(12))[:-6] + b"\xff" * 40),
    "large.png": png(100_000, 100_000),
    "bomb.nii.gz": bomb(),
    "offset.nii": nifti(1e30),
    "offset-infinite.nii": nifti(float("inf")),
    "offset-no-number.nii": nifti(float("nan")),
    "offset-huge.nii": nifti(2**62, second=True),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_was_a_fault_is_refused(name, tmp_path):
    (tmp_path / name).write_bytes(FAULTS[name])
    with pytest.raises(ImageError, match=name):
        read_image(tmp_path / name)


@pytest.mark.parametrize("spoil", ["byte too many", "another size", "no end", "no start"])
def test_a_damaged_jpeg_in_dicom_is_refused_and_ends_nothing(tmp_path, spoil):
    from pydicom import dcmread
    from pydicom.encaps import encapsulate, get_frame

    seeds.dicom_files(tmp_path)
    dataset = dcmread(tmp_path / "jpeg.dcm")
    data = get_frame(dataset.PixelData, 0)
    table, size = data.index(b"\xff\xdb"), data.index(b"\xff\xc0")
    spoiled = {
        "byte too many": data[: table + 20] + b"\x07" + data[table + 20 :],  # GDCM ended the process
        "another size": data[: size + 5] + b"\x7f\xff" + data[size + 7 :],
        "no end": data[: size + 4],
        "no start": b"\0" + data,
    }[spoil]
    dataset.PixelData = encapsulate([spoiled])
    dataset.save_as(tmp_path / "spoiled.dcm")
    with pytest.raises(ImageError, match="damaged"):
        read_image(tmp_path / "spoiled.dcm")
    assert read_image(tmp_path / "jpeg.dcm").image.GetSize() == (18, 14)


def test_an_identifier_that_is_no_name_stays_one_short_line(tmp_path):
    from pydicom.dataset import Dataset, FileMetaDataset

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    dataset.SOPClassUID = "1.2.84gin: (0,0,0)\ndata file" + "x" * 300
    dataset.SOPInstanceUID = "1.2"
    dataset.save_as(tmp_path / "uid.dcm", enforce_file_format=False)
    with pytest.raises(ImageError, match="no DICOM image") as refusal:
        read_image(tmp_path / "uid.dcm")
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize(
    "target", ["../canary.raw", "/etc/passwd", "..\\canary.raw", "sub/../../canary.raw", "link.raw"]
)
@pytest.mark.parametrize("kind", ["nhdr", "mhd"])
def test_pixels_come_from_beside_the_header_only(tmp_path, target, kind):
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "canary.raw").write_bytes(bytes(range(12)))
    (folder / "link.raw").symlink_to(tmp_path / "canary.raw")
    name = target.encode()
    data = nrrd(b"data file: " + name, data=b"") if kind == "nhdr" else meta(b"ElementDataFile = " + name, data=b"")
    (folder / f"x.{kind}").write_bytes(data)
    with pytest.raises(ImageError, match="outside its folder|does not exist"):
        read_image(folder / f"x.{kind}")


def test_what_the_spoiled_nifti_files_are_made_of_is_right(tmp_path):
    (tmp_path / "first.nii").write_bytes(nifti(352))
    assert read_image(tmp_path / "first.nii").image.GetSize() == (4, 3)
    (tmp_path / "second.nii").write_bytes(nifti(544, second=True))
    assert read_nifti_header(tmp_path / "second.nii").size == (4, 3)


def test_a_key_of_metadata_that_is_no_text_is_left_behind(tmp_path):
    (tmp_path / "key.mha").write_bytes(meta(b"\xff\xfeKey = 1"))
    assert read_image(tmp_path / "key.mha").image.GetSize() == (4, 3)
