"""What tells an input from every other: all bytes that its pixels come from."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import SimpleITK as sitk

from BreastUSAILib.errors import ImageError
from BreastUSAILib.headers import data_files
from BreastUSAILib.identity import identity
from BreastUSAILib.image import read_image


def written(path, value):
    """A volume of one value, as header and pixels side by side where the suffix asks for it."""
    path.parent.mkdir(exist_ok=True)
    image = sitk.GetImageFromArray(np.full((3, 4, 5), value, np.uint8))
    image[0, 0, 0] = 9
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("name", ["v.mhd", "v.nhdr"])
def test_volumes_with_the_same_header_are_told_apart_by_their_pixels(tmp_path, name):
    a, b, same = (written(tmp_path / folder / name, value) for folder, value in (("a", 1), ("b", 2), ("c", 1)))
    assert a.read_bytes() == b.read_bytes()  # the header says nothing of the pixels
    (pixels,) = data_files(a)
    assert pixels.parent == a.parent and pixels != a
    assert identity(a) == identity(same) != identity(b)
    both = a.read_bytes() + pixels.read_bytes()
    assert identity(a) == {"bytes": len(both), "sha256": hashlib.sha256(both).hexdigest()}
    pixels.unlink()
    with pytest.raises(ImageError, match="does not exist"):
        identity(a)


@pytest.mark.parametrize("name", ["v.mha", "v.nrrd", "v.nii"])
def test_a_file_with_pixels_of_its_own_is_all_there_is(tmp_path, name):
    path = written(tmp_path / name, 1)
    assert data_files(path) == ()
    assert identity(path)["bytes"] == path.stat().st_size


@pytest.mark.parametrize("name", ["v.nrrd", "v.nhdr", "v.mhd"])
def test_an_image_under_the_name_of_another_kind_is_known_by_its_content(tmp_path, name):
    picture = tmp_path / "picture.png"
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(48, dtype=np.uint8).reshape(6, 8)), str(picture))
    path = picture.rename(tmp_path / name)
    assert data_files(path) == ()
    assert identity(path)["bytes"] == path.stat().st_size
    assert read_image(path).image.GetSize()[:2] == (8, 6)


@pytest.mark.parametrize(
    "header, names",
    [
        ("s%03d.raw 1 3 1", ["s001.raw", "s002.raw", "s003.raw"]),
        ("s%03d.raw 3 1 -1", ["s003.raw", "s002.raw", "s001.raw"]),
        ("LIST\ns003.raw\ns001.raw\ns002.raw", ["s003.raw", "s001.raw", "s002.raw"]),
    ],
    ids=["pattern", "backwards", "list"],
)
def test_slices_in_files_of_their_own(tmp_path, header, names):
    for number in (1, 2, 3):
        (tmp_path / f"s00{number}.raw").write_bytes(bytes([number] * 20))
    path = tmp_path / "v.nhdr"
    path.write_text(f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 5 4 3\nencoding: raw\ndata file: {header}\n")
    files = data_files(path)
    assert [file.name for file in files] == names
    read = sitk.GetArrayFromImage(read_image(path).image)
    assert [int(plane[0, 0]) for plane in read] == [int(name[3]) for name in names]
    before = identity(path)
    (tmp_path / "s002.raw").write_bytes(bytes([7] * 20))
    assert identity(path) != before


def test_slices_of_a_meta_image(tmp_path):
    for number in (1, 3, 5):
        (tmp_path / f"s{number}.raw").write_bytes(bytes([number] * 20))
    path = tmp_path / "v.mhd"
    path.write_text("NDims = 3\nDimSize = 5 4 3\nElementType = MET_UCHAR\nElementDataFile = s%d.raw 1 5 2\n")
    assert [file.name for file in data_files(path)] == ["s1.raw", "s3.raw", "s5.raw"]
    read = sitk.GetArrayFromImage(read_image(path).image)
    assert [int(plane[0, 0]) for plane in read] == [1, 3, 5]
