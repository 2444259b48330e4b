"""image.py: every format in, the same grid out, and one clear sentence for everything that is not an image."""

import bz2
import gzip
import os
import struct
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from BreastUSAILib.errors import ImageError, OutputError, UsageError
from BreastUSAILib.image import is_image_file, read_image, write_image

RNG = np.random.default_rng(5)
GREY = RNG.integers(0, 256, (6, 8), dtype=np.uint8)
VOLUME = RNG.integers(0, 256, (4, 6, 8), dtype=np.uint8)


def oblique(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.2, 0.37, 1.4)[: array.ndim])
    image.SetOrigin((-31.5, 12.25, 7.125)[: array.ndim])
    if array.ndim == 3:
        turn = sitk.Euler3DTransform()
        turn.SetRotation(0.3, -0.7, 1.1)
        image.SetDirection(turn.GetMatrix())
    else:
        image.SetDirection((0.8, -0.6, 0.6, 0.8))
    return image


def assert_same_image(a: sitk.Image, b: sitk.Image, tolerance: float) -> None:
    assert a.GetSize() == b.GetSize()
    np.testing.assert_array_equal(sitk.GetArrayViewFromImage(a), sitk.GetArrayViewFromImage(b))
    for name in ("Spacing", "Origin", "Direction"):
        get = "Get" + name
        np.testing.assert_allclose(getattr(a, get)(), getattr(b, get)(), rtol=tolerance, atol=tolerance * 10)


def nrrd(path, header: str, data: bytes = bytes(range(64))):
    path.write_bytes(b"NRRD0004\n" + textwrap.dedent(header).strip().encode() + b"\n\n" + data)
    return path


def meta(path, header: str, data: bytes = bytes(range(64)), element="MET_UCHAR", where="LOCAL"):
    lines = textwrap.dedent(header).strip()
    path.write_bytes(
        f"ObjectType = Image\n{lines}\nElementType = {element}\nElementDataFile = {where}\n".encode() + data
    )
    return path


# ------------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("suffix", [".nrrd", ".seg.nrrd", ".mha", ".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("array", [GREY, VOLUME], ids=["2d", "3d"])
def test_formats_with_a_grid_keep_pixels_and_grid(tmp_path, suffix, dtype, array):
    image = oblique((array.astype(float) * 37 - (0 if dtype in (np.uint8, np.uint16) else 999)).astype(dtype))
    path = write_image(image, tmp_path / f"Läsion 1{suffix}")
    loaded = read_image(path)
    # NIfTI holds the grid in single precision.
    assert_same_image(loaded.image, image, 1e-6 if ".nii" in suffix else 1e-12)
    assert loaded.image.GetPixelID() == image.GetPixelID()
    assert loaded.spacing_known
    assert loaded.notes == ()
    assert loaded.path == path
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@given(
    spacing=st.lists(st.floats(0.03, 5), min_size=3, max_size=3),
    origin=st.lists(st.floats(-500, 500), min_size=3, max_size=3),
    angles=st.lists(st.floats(-3, 3), min_size=3, max_size=3),
    suffix=st.sampled_from([".nrrd", ".mha", ".nii.gz"]),
)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_grid_survives_writing_and_reading(tmp_path, spacing, origin, angles, suffix):
    image = sitk.GetImageFromArray(VOLUME)
    turn = sitk.Euler3DTransform()
    turn.SetRotation(*angles)
    image.SetDirection(turn.GetMatrix())
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    back = read_image(write_image(image, tmp_path / f"grid{suffix}")).image
    assert_same_image(back, image, 1e-5 if suffix == ".nii.gz" else 1e-9)


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [
        (".png", "uint8"),
        (".png", "uint16"),
        (".bmp", "uint8"),
        (".tif", "uint8"),
        (".tiff", "uint16"),
        (".tif", "float32"),
    ],
)
def test_pictures_keep_pixels_and_have_no_spacing(tmp_path, suffix, dtype):
    array = (GREY.astype(dtype)) * (1 if dtype == "uint8" else 200)
    loaded = read_image(write_image(oblique(array), tmp_path / f"a{suffix}"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(loaded.image), array)
    assert not loaded.spacing_known
    assert loaded.image.GetSpacing() == (1.0, 1.0)
    assert "does not say what a pixel measures" in loaded.notes[-1]


def test_jpeg(tmp_path):
    ramp = np.tile(np.arange(0, 250, 5, dtype=np.uint8), (40, 1))
    loaded = read_image(write_image(sitk.GetImageFromArray(ramp), tmp_path / "a.jpg"))
    assert np.abs(sitk.GetArrayFromImage(loaded.image).astype(int) - ramp).max() <= 3


def test_a_single_slice_volume_stays_3d_and_can_be_written_as_picture(tmp_path):
    volume = oblique(VOLUME[:1])
    loaded = read_image(write_image(volume, tmp_path / "a.nrrd"))
    assert loaded.image.GetSize() == (8, 6, 1)
    flat = read_image(write_image(volume, tmp_path / "a.png"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(flat.image), VOLUME[0])


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("a.png", VOLUME, "cannot hold a volume"),
        ("a.png", GREY.astype(np.float32), "cannot hold pixels of type float32"),
        ("a.jpg", GREY.astype(np.uint16), "cannot hold pixels of type uint16"),
        ("a.mhd", GREY, "choose .nrrd or .mha"),
        ("a.dcm", GREY, "choose .nrrd"),
        ("a", GREY, "without suffix"),
    ],
)
def test_formats_that_cannot_hold_the_image(tmp_path, name, array, words):
    with pytest.raises(OutputError, match=words):
        write_image(sitk.GetImageFromArray(array), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_disk_that_fills_up_is_noticed_in_every_format(tmp_path):
    # A limit on the size of files fails in the middle of a write, as a full disk does. In a process of its own.
    names = ["a.nrrd", "a.mha", "a.nii", "a.nii.gz", "a.png", "a.tif", "a.bmp", "a.jpg"]
    code = f"""
import resource, signal, numpy as np, SimpleITK as sitk
from pathlib import Path
from BreastUSAILib.image import write_image
from BreastUSAILib.errors import OutputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))
noise = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 256, (400, 400)).astype(np.uint8))
for name in {names}:
    try:
        write_image(noise, Path({str(tmp_path)!r}) / name)
    except OutputError as error:
        print(error)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    lines = done.stdout.splitlines()
    assert len(lines) == len(names), done
    for name, line in zip(names, lines, strict=True):
        assert f"{name} cannot be written: " in line
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------------------------- spacing


def test_nrrd_and_meta_without_spacing_have_none(tmp_path):
    a = nrrd(tmp_path / "a.nrrd", "type: uchar\ndimension: 2\nsizes: 8 8\nencoding: raw")
    b = meta(tmp_path / "b.mha", "NDims = 2\nDimSize = 8 8")
    c = nrrd(tmp_path / "c.nrrd", "type: uchar\ndimension: 2\nsizes: 8 8\nspacings: nan nan\nencoding: raw")
    for path in (a, b, c):
        loaded = read_image(path)
        assert not loaded.spacing_known
        assert loaded.image.GetSpacing() == (1, 1)


def test_stated_spacing_is_known(tmp_path):
    a = nrrd(tmp_path / "a.nrrd", "type: uchar\ndimension: 2\nsizes: 8 8\nspacings: 0.2 0.3\nencoding: raw")
    b = meta(tmp_path / "b.mha", "NDims = 2\nDimSize = 8 8\nElementSpacing = 0.2 0.3")
    for path in (a, b):
        loaded = read_image(path)
        assert loaded.spacing_known
        assert loaded.image.GetSpacing() == (0.2, 0.3)


def nrrd_in(path, unit, third=None):
    return nrrd(
        path,
        f"""
        type: uchar
        dimension: 3
        space: left-posterior-superior
        sizes: 4 4 4
        space directions: (2,0,0) (0,3,0) (0,0,4)
        space origin: (10,-20,30)
        space units: "{unit}" "{unit}" "{third or unit}"
        encoding: raw
        """,
    )


@pytest.mark.parametrize(
    ("unit", "mm"),
    [("mm", 1), ("", 1), ("cm", 10), ("m", 1000), ("um", 1e-3), ("\u00b5m", 1e-3), ("nm", 1e-6), ("microns", 1e-3)],
)
def test_lengths_of_an_nrrd_in_other_units_become_mm(tmp_path, unit, mm):
    path = nrrd_in(tmp_path / "a.nrrd", unit)
    loaded = read_image(path)
    assert loaded.spacing_known
    np.testing.assert_allclose(loaded.image.GetSpacing(), (2 * mm, 3 * mm, 4 * mm))
    np.testing.assert_allclose(loaded.image.GetOrigin(), (10 * mm, -20 * mm, 30 * mm))
    assert [f"in {unit}; they are converted to mm" in note for note in loaded.notes] == [True] * (mm != 1)


def test_units_of_the_axes_of_an_nrrd_count_too(tmp_path):
    header = 'type: uchar\ndimension: 2\nsizes: 8 8\nspacings: 0.02 0.03\nunits: "cm" "cm"\nencoding: raw'
    np.testing.assert_allclose(read_image(nrrd(tmp_path / "a.nrrd", header)).image.GetSpacing(), (0.2, 0.3))


@pytest.mark.parametrize(("unit", "third"), [("furlong", "furlong"), ("mm", "cm")])
def test_a_unit_that_is_not_understood_leaves_the_spacing_unknown(tmp_path, unit, third):
    loaded = read_image(nrrd_in(tmp_path / "a.nrrd", unit, third))
    assert not loaded.spacing_known
    assert loaded.image.GetSpacing() == (1, 1, 1)
    assert "not understood" in loaded.notes[0]


def test_meta_states_its_unit_too(tmp_path):
    header = "NDims = 2\nDistanceUnits = {}\nDimSize = 8 8\nOffset = 5 6\nElementSpacing = 0.02 0.03"
    for unit, mm in (("cm", 10), ("um", 1e-3), ("mm", 1), ("?", 1)):
        image = read_image(meta(tmp_path / "a.mha", header.format(unit))).image
        np.testing.assert_allclose(image.GetSpacing(), (0.02 * mm, 0.03 * mm))
        np.testing.assert_allclose(image.GetOrigin(), (5 * mm, 6 * mm))


@pytest.mark.parametrize("spacing", [0.1, (0.1, 0.2)])
def test_given_spacing_wins_and_is_known(tmp_path, spacing):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    loaded = read_image(tmp_path / "a.png", spacing_mm=spacing)
    assert loaded.spacing_known
    assert loaded.image.GetSpacing() == ((0.1, 0.1) if spacing == 0.1 else spacing)
    assert "given by the user" in loaded.notes[-1]


@pytest.mark.parametrize("spacing", [0, -1, float("nan"), float("inf"), (1, 1, 1)])
def test_impossible_given_spacing(tmp_path, spacing):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="spacing"):
        read_image(tmp_path / "a.png", spacing_mm=spacing)


def test_dots_per_inch_are_not_a_spacing_but_imagej_is(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png", dpi=(300, 300))
    assert not read_image(tmp_path / "a.png").spacing_known
    Image.fromarray(GREY).save(
        tmp_path / "b.tif", description="ImageJ=1.53t\nunit=mm\n", x_resolution=5.0, y_resolution=4.0
    )
    loaded = read_image(tmp_path / "b.tif")
    assert loaded.spacing_known
    np.testing.assert_allclose(loaded.image.GetSpacing(), (0.2, 0.25))
    assert "ImageJ" in loaded.notes[0]


@pytest.mark.parametrize("unit", ["\\u00b5m", "\\u00B5m", "\u00b5m", "um", "micron"])
def test_imagej_may_calibrate_in_micrometres(tmp_path, unit):
    description = f"ImageJ=1.53t\nunit={unit}\n".encode("latin-1")
    Image.fromarray(GREY).save(tmp_path / "a.tif", tiffinfo={270: description}, x_resolution=0.02, y_resolution=0.01)
    loaded = read_image(tmp_path / "a.tif")
    assert loaded.spacing_known
    np.testing.assert_allclose(loaded.image.GetSpacing(), (0.05, 0.1))


def test_every_page_of_an_imagej_stack_has_its_calibration(tmp_path):
    tifffile = pytest.importorskip("tifffile", reason="tifffile, which comes with scikit-image, is not installed")
    pages = np.stack([np.roll(GREY, k) for k in range(3)])
    tifffile.imwrite(tmp_path / "a.tif", pages, imagej=True, resolution=(5.0, 4.0), metadata={"unit": "mm", "axes": "ZYX"})
    for frame in (None, 1, 3):
        loaded = read_image(tmp_path / "a.tif", frame=frame)
        assert loaded.spacing_known
        np.testing.assert_allclose(loaded.image.GetSpacing(), (0.2, 0.25))


def test_a_page_with_its_own_calibration_has_that(tmp_path):
    pages = [Image.fromarray(np.roll(GREY, k)) for k in range(2)]
    pages[1].encoderinfo = {"description": "ImageJ=1.53t\nunit=cm\n", "x_resolution": 20.0, "y_resolution": 50.0}
    about = {"description": "ImageJ=1.53t\nunit=mm\n", "x_resolution": 5.0, "y_resolution": 4.0}
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], **about)
    np.testing.assert_allclose(read_image(tmp_path / "a.tif", frame=1).image.GetSpacing(), (0.2, 0.25))
    np.testing.assert_allclose(read_image(tmp_path / "a.tif", frame=2).image.GetSpacing(), (0.5, 0.2))


# ------------------------------------------------------------------------------------------------ pixels of all kinds


RGB = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
LUMA = np.rint(RGB @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)


def assert_luma(loaded, tolerance=1):
    values = sitk.GetArrayFromImage(loaded.image).astype(int)
    assert np.abs(values - LUMA).max() <= tolerance
    assert any("luminance" in note for note in loaded.notes)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_colour_pictures_become_luminance(tmp_path, name):
    Image.fromarray(RGB).save(tmp_path / name)
    assert_luma(read_image(tmp_path / name))


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.nii"])
def test_colour_images_become_luminance_on_their_grid(tmp_path, name):
    image = sitk.GetImageFromArray(RGB, isVector=True)
    image.SetSpacing((0.5, 0.25))
    sitk.WriteImage(image, str(tmp_path / name))
    loaded = read_image(tmp_path / name)
    assert_luma(loaded)
    assert loaded.image.GetSpacing() == (0.5, 0.25)


@pytest.mark.parametrize("kind", ["vector", "RGB-color", "3-color"])
def test_kinds_of_colour_in_an_nrrd(tmp_path, kind):
    header = f"""
        type: uchar
        dimension: 3
        space dimension: 2
        sizes: 3 8 6
        space directions: none (0.5,0) (0,0.25)
        kinds: {kind} domain domain
        encoding: raw
        """
    loaded = read_image(nrrd(tmp_path / "a.nrrd", header, RGB.tobytes()))
    assert_luma(loaded)
    assert loaded.image.GetSpacing() == (0.5, 0.25)


def vtk_image(array):
    """Of (slices, rows, columns) or (slices, rows, columns, colours)."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    image = vtk.vtkImageData()
    image.SetDimensions(array.shape[2::-1])
    values = array.reshape(-1, array.shape[3]) if array.ndim == 4 else array.ravel()
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(values), deep=1))
    return image


@pytest.mark.parametrize("storage", ["vtkMRMLVolumeArchetypeStorageNode", "vtkMRMLNRRDStorageNode"])
@pytest.mark.parametrize("colours", [3, 4])
def test_colour_volumes_of_slicer_become_luminance(tmp_path, storage, colours):
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    array = np.concatenate([RGB, np.full((6, 8, 1), 255, np.uint8)], axis=-1)[None, ..., :colours]
    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode")
    node.SetAndObserveImageData(vtk_image(array))
    writer = scene.AddNewNodeByClass(storage)
    writer.SetFileName(str(tmp_path / "a.nrrd"))
    assert writer.WriteData(node)
    assert_luma(read_image(tmp_path / "a.nrrd"))


def test_grey_stored_as_colour_is_kept_exactly_and_without_a_note(tmp_path):
    Image.fromarray(np.stack([GREY] * 3, axis=-1)).save(tmp_path / "a.png")
    loaded = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(loaded.image), GREY)
    assert not any("luminance" in note for note in loaded.notes)


def test_palette_cmyk_bilevel_and_transparency(tmp_path):
    picture = Image.fromarray(np.repeat(np.repeat(RGB, 8, 0), 8, 1))
    picture.quantize(48).save(tmp_path / "palette.png")
    palette = read_image(tmp_path / "palette.png")
    assert np.abs(sitk.GetArrayFromImage(palette.image)[4::8, 4::8].astype(int) - LUMA).max() <= 12

    picture.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100, subsampling=0)
    cmyk = read_image(tmp_path / "cmyk.jpg")
    assert np.abs(sitk.GetArrayFromImage(cmyk.image)[4::8, 4::8].astype(int) - LUMA).max() <= 12

    Image.fromarray(GREY > 99).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(tmp_path / "bits.png").image), (GREY > 99) * 255)

    alpha = np.full((6, 8, 1), 255, np.uint8)
    Image.fromarray(np.concatenate([RGB, alpha], axis=2)).save(tmp_path / "opaque.png")
    opaque = read_image(tmp_path / "opaque.png")
    assert_luma(opaque)
    assert not any("transparent" in note for note in opaque.notes)
    alpha[:3] = 0
    Image.fromarray(np.concatenate([RGB, alpha], axis=2)).save(tmp_path / "half.png")
    half = read_image(tmp_path / "half.png")
    assert not sitk.GetArrayFromImage(half.image)[:3].any()
    assert np.abs(sitk.GetArrayFromImage(half.image)[3:].astype(int) - LUMA[3:]).max() <= 1
    assert any("transparent" in note for note in half.notes)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_the_transparent_level_of_a_grey_png_is_laid_over_black(tmp_path, dtype):
    array = GREY.astype(dtype) * (1 if dtype == "uint8" else 200)
    level = int(array[2, 3])
    assert level
    Image.fromarray(array).save(tmp_path / "a.png", transparency=level)
    loaded = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(loaded.image), np.where(array == level, 0, array))
    assert any("transparent" in note for note in loaded.notes)
    Image.fromarray(array).save(tmp_path / "b.png", transparency=next(v for v in range(256) if v not in array))
    opaque = read_image(tmp_path / "b.png")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(opaque.image), array)
    assert not any("transparent" in note for note in opaque.notes)


def test_exif_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=exif)
    loaded = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(loaded.image), np.rot90(GREY, -1))
    assert any("EXIF" in note for note in loaded.notes)


UPRIGHT = {1: GREY, 2: GREY[:, ::-1], 3: GREY[::-1, ::-1], 4: GREY[::-1]}
UPRIGHT |= {5: GREY.T, 6: np.rot90(GREY, -1), 7: GREY[::-1, ::-1].T, 8: np.rot90(GREY)}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_tiff_is_turned_upright_with_its_spacing(tmp_path, orientation, compression, dtype):
    path = tmp_path / "a.tif"
    about = {"description": "ImageJ=1.53t\nunit=mm\n", "x_resolution": 5.0, "y_resolution": 4.0}
    Image.fromarray(GREY.astype(dtype) * 200).save(path, compression=compression, tiffinfo={274: orientation}, **about)
    loaded = read_image(path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(loaded.image), UPRIGHT[orientation].astype(dtype) * 200)
    np.testing.assert_allclose(loaded.image.GetSpacing(), (0.2, 0.25) if orientation < 5 else (0.25, 0.2))
    assert any("EXIF" in note for note in loaded.notes) == (orientation != 1)


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_a_tiff_of_other_modes_is_turned_upright(tmp_path, mode):
    Image.fromarray(GREY).convert("RGB").convert(mode).save(tmp_path / "a.tif", tiffinfo={274: 6})
    Image.fromarray(GREY).convert("RGB").convert(mode).save(tmp_path / "b.tif")
    turned, plain = (sitk.GetArrayFromImage(read_image(tmp_path / name).image) for name in ("a.tif", "b.tif"))
    np.testing.assert_array_equal(turned, np.rot90(plain, -1))


def test_pages_of_a_tiff_are_frames(tmp_path):
    pages = [Image.fromarray(np.roll(GREY, k)) for k in range(5)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    for frame, index in ((None, 2), (1, 0), (5, 4)):
        loaded = read_image(tmp_path / "a.tif", frame=frame)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(loaded.image), np.roll(GREY, index))
        assert loaded.notes[0].startswith(f"frame {index + 1} of 5")
    for frame in (0, 6, -1):
        with pytest.raises(UsageError, match="1 to 5"):
            read_image(tmp_path / "a.tif", frame=frame)


def test_of_several_images_in_a_jpeg_the_first_is_read(tmp_path):
    whole, *previews = (Image.fromarray(np.eye(n, dtype=np.uint8) * 200) for n in (64, 32, 16))
    whole.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=previews)
    loaded = read_image(tmp_path / "a.jpg")
    assert loaded.image.GetSize() == (64, 64)
    assert loaded.notes[0].startswith("frame 1 of 3")
    assert read_image(tmp_path / "a.jpg", frame=2).image.GetSize() == (32, 32)


def tiff(path, array, *, white_is_zero=False, order="<", bits=None):
    """A TIFF of one strip, as its tags say: Pillow writes few kinds of them."""
    kind = {"u": 1, "i": 2, "f": 3}[array.dtype.kind]
    height, width = array.shape
    data = array.astype(array.dtype.newbyteorder(order)).tobytes()
    shorts = {256: width, 257: height, 258: bits or 8 * array.dtype.itemsize, 259: 1, 262: int(not white_is_zero)}
    shorts |= {277: 1, 278: height, 339: kind}
    fields = [(tag, 3, struct.pack(order + "HH", value, 0)) for tag, value in shorts.items()]
    fields += [(273, 4, struct.pack(order + "I", 8)), (279, 4, struct.pack(order + "I", len(data)))]
    entries = b"".join(struct.pack(order + "HHI", tag, code, 1) + value for tag, code, value in sorted(fields))
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(data))
    path.write_bytes(start + data + struct.pack(order + "H", len(fields)) + entries + bytes(4))
    return path


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("uint8", 0, 255),
        ("int8", -128, 127),
        ("uint16", 0, 65535),
        ("int16", -30000, 30000),
        ("uint32", 0, 2**32 - 1),
        ("int32", -(2**31), 2**31 - 1),
        ("float32", -3e38, 3e38),
    ],
)
def test_numbers_of_a_tiff_are_what_its_tags_say(tmp_path, dtype, low, high):
    array = np.linspace(low, high, 48).reshape(6, 8).astype(dtype)
    array.flat[[0, -1]] = low, high  # as float32 rounds
    for order in "<>" if dtype != "uint32" else "<":  # Pillow does not read all kinds in this order
        loaded = read_image(tiff(tmp_path / "a.tif", array, order=order))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(loaded.image), array)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_tiff_whose_white_is_zero_is_turned_round(tmp_path, dtype):
    array = np.clip(GREY, 20, 200).astype(dtype)
    loaded = read_image(tiff(tmp_path / "a.tif", array, white_is_zero=True))
    top = {"uint8": 255, "uint16": 65535, "float32": 200}[dtype]  # of floats the highest that there is
    pixels = sitk.GetArrayFromImage(loaded.image)
    assert pixels.dtype == dtype
    np.testing.assert_array_equal(pixels, top - array)
    turned = read_image(tiff(tmp_path / "b.tif", array)).image
    np.testing.assert_array_equal(sitk.GetArrayFromImage(turned), array)


def test_a_float_tiff_whose_white_is_zero_may_have_holes(tmp_path):
    array = GREY.astype(np.float32)
    array[2, 3], array[0, 0], array[0, 1] = np.nan, 0, 255
    loaded = read_image(tiff(tmp_path / "a.tif", array, white_is_zero=True))
    expected = np.where(np.isnan(array), 0, 255 - array)  # a hole is as dark as the darkest
    np.testing.assert_array_equal(sitk.GetArrayFromImage(loaded.image), expected)


@pytest.mark.parametrize(
    ("array", "options"),
    [
        (GREY.astype(np.int8), {"white_is_zero": True}),
        (GREY.astype(np.uint32), {"white_is_zero": True}),
        (GREY.astype(np.uint16), {"white_is_zero": True, "order": ">"}),
        (GREY.astype(np.float64), {}),
    ],
    ids=["int8", "uint32", "big-endian", "float64"],
)
def test_kinds_of_tiff_that_are_not_read_are_refused(tmp_path, array, options):
    assert "save it as PNG" in sentence(tiff(tmp_path / "a.tif", array, **options))


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.nii", "a.nii.gz"])
def test_values_that_are_not_finite_become_the_minimum(tmp_path, name):
    array = VOLUME.astype(np.float32) + 10
    array[1, 2, :3] = np.nan
    array[2, 2, 1] = np.inf
    array[2, 3, 1] = -np.inf
    sitk.WriteImage(oblique(array), str(tmp_path / name))
    loaded = read_image(tmp_path / name)
    finite = np.isfinite(array)
    expected = np.where(finite, array, array[finite].min())
    np.testing.assert_array_equal(sitk.GetArrayFromImage(loaded.image), expected)
    assert loaded.notes[0].startswith("5 pixels without a finite value")
    np.testing.assert_allclose(loaded.image.GetSpacing(), (0.2, 0.37, 1.4), rtol=1e-6)


def test_64_bit_integers_become_types_that_are_worked_with(tmp_path):
    for array, kind in ((GREY.astype(np.int64) - 5, sitk.sitkInt32), (GREY.astype(np.int64) << 40, sitk.sitkFloat64)):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "a.nrrd"))
        loaded = read_image(tmp_path / "a.nrrd")
        assert loaded.image.GetPixelID() == kind
        np.testing.assert_array_equal(sitk.GetArrayFromImage(loaded.image), array)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.nii"])
def test_signed_bytes_become_a_type_that_slicer_saves(tmp_path, name):
    image = oblique(VOLUME.view(np.int8))
    sitk.WriteImage(image, str(tmp_path / name))
    loaded = read_image(tmp_path / name)
    assert loaded.image.GetPixelID() == sitk.sitkInt16
    assert_same_image(loaded.image, image, 1e-6)


def test_nifti_with_a_last_axis_of_one_is_a_volume(tmp_path):
    sitk.WriteImage(sitk.JoinSeries([oblique(VOLUME)]), str(tmp_path / "a.nii.gz"))
    loaded = read_image(tmp_path / "a.nii.gz")
    assert_same_image(loaded.image, oblique(VOLUME), 1e-6)


@pytest.mark.parametrize(
    ("space", "sign"),
    [("left-posterior-superior-time", (1, 1)), ("right-anterior-superior-time", (-1, -1)), ("LAST", (1, -1))],
)
def test_nrrd_with_a_last_axis_of_one_is_a_volume(tmp_path, space, sign):
    header = f"""
        type: uchar
        dimension: 4
        space: {space}
        sizes: 4 8 2 1
        space directions: (1,0,0,0) (0,0,2,0) (0,3,0,0) (0,0,0,4)
        space origin: (10,-20,30,5)
        space units: "mm" "mm" "mm" "s"
        encoding: raw
        """
    loaded = read_image(nrrd(tmp_path / "a.nrrd", header))
    image = loaded.image
    assert loaded.spacing_known
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), np.arange(64).reshape(2, 8, 4))
    assert (image.GetSpacing(), image.GetOrigin()) == ((1, 2, 3), (10 * sign[0], -20 * sign[1], 30))
    assert image.GetDirection() == (sign[0], 0, 0, 0, 0, sign[1], 0, 1, 0)


@pytest.mark.parametrize("spacings", ["0.5 0.4 0.3 1", "0.5 0.4 0.3 nan"])
def test_the_spacing_of_a_last_axis_of_one_is_not_looked_for(tmp_path, spacings):
    header = f'type: uchar\ndimension: 4\nsizes: 4 8 2 1\nspacings: {spacings}\nunits: "mm" "mm" "mm" "s"\nencoding: raw'
    loaded = read_image(nrrd(tmp_path / "a.nrrd", header))
    assert loaded.spacing_known
    assert loaded.image.GetSpacing() == (0.5, 0.4, 0.3)


def test_meta_with_last_axes_of_one_is_a_volume(tmp_path):
    grid = "ElementSpacing = 1 2 3 1 1\nOffset = 10 -20 30 5 6"
    turned = "TransformMatrix = 1 0 0 0 0  0 0 1 0 0  0 1 0 0 0  0 0 0 1 0  0 0 0 0 1"
    image = read_image(meta(tmp_path / "a.mha", f"NDims = 5\nDimSize = 4 8 2 1 1\n{grid}\n{turned}")).image
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), np.arange(64).reshape(2, 8, 4))
    assert (image.GetSpacing(), image.GetOrigin()) == ((1, 2, 3), (10, -20, 30))
    assert image.GetDirection() == (1, 0, 0, 0, 0, 1, 0, 1, 0)


def test_a_volume_across_the_fourth_dimension_is_refused(tmp_path):
    across = "TransformMatrix = 0 1 0 0  0 0 1 0  0 0 0 1  1 0 0 0"
    text = sentence(meta(tmp_path / "a.mha", f"NDims = 4\nDimSize = 4 8 2 1\nElementSpacing = 1 2 3 1\n{across}"))
    assert "do not lie in the three dimensions of space" in text
    sheared = "TransformMatrix = 1 0 0 0  1 0.1 0 0  0 0 1 0  0 0 0 1"
    text = sentence(meta(tmp_path / "b.mha", f"NDims = 4\nDimSize = 4 8 2 1\nElementSpacing = 1 2 3 1\n{sheared}"))
    assert "not at right angles" in text


def test_metadata_of_the_file_do_not_travel_on(tmp_path):
    image = oblique(VOLUME)
    image.SetMetaData("PatientName", "Doe")
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    assert read_image(tmp_path / "a.nrrd").image.GetMetaDataKeys() == ()


def test_content_decides_not_the_name(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(tmp_path / "a.nrrd").image), GREY)
    sitk.WriteImage(oblique(VOLUME), str(tmp_path / "b.nrrd"))
    (tmp_path / "b.nrrd").rename(tmp_path / "b.dat")
    assert_same_image(read_image(tmp_path / "b.dat").image, oblique(VOLUME), 1e-12)


# --------------------------------------------------------------------------------------------------------- bad input


def sentence(path, **options) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(path, **options)
    text = str(caught.value)
    assert str(path) in text
    assert text.endswith(".")
    assert "\n" not in text
    return text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_rather_than_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="pipe.png is a pipe or a device, not a file; give an image file"):
        read_image(tmp_path / "pipe.png")


def test_missing_folder_empty_and_no_image(tmp_path):
    assert "does not exist" in sentence(tmp_path / "missing.png")
    assert "is a folder" in sentence(tmp_path)
    (tmp_path / "empty.png").touch()
    assert "is empty" in sentence(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("I am not an image")
    assert "not an image" in sentence(tmp_path / "text.png")
    (tmp_path / "file.gz").write_bytes(gzip.compress(b"hello"))
    assert "not an image" in sentence(tmp_path / "file.gz")


def test_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.fromarray(GREY).save(path)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(path), "open", refuse)
    assert "Permission denied" in sentence(path)


@pytest.mark.parametrize(
    "name", ["a.png", "a.jpg", "a.bmp", "a.tif", "a.nrrd", "a.mha", "a.nii", "a.nii.gz", "raw.nrrd"]
)
@pytest.mark.parametrize("part", [0.05, 0.5, 0.97])
def test_truncated_files(tmp_path, name, part, capfd):
    noise = RNG.integers(0, 256, (200, 200), dtype=np.uint8)
    path = tmp_path / name
    if name == "raw.nrrd":
        sitk.WriteImage(sitk.GetImageFromArray(noise), str(path), False)
    else:
        write_image(sitk.GetImageFromArray(noise), path)
    data = path.read_bytes()
    path.write_bytes(data[: max(int(len(data) * part), 40)])
    assert "damaged or incomplete" in sentence(path)
    assert capfd.readouterr().err == ""


def test_truncated_colour_and_float_nifti(tmp_path):
    sitk.WriteImage(oblique(VOLUME.astype(np.float32)), str(tmp_path / "a.nii"))
    data = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii").write_bytes(data[:-8])
    assert "damaged or incomplete" in sentence(tmp_path / "a.nii")
    (tmp_path / "b.nii").write_bytes(data[:300])
    assert "not an image" in sentence(tmp_path / "b.nii")


def test_whole_files_that_are_not_read_are_not_called_damaged(tmp_path):
    header = "type: uchar\ndimension: 2\nsizes: 8 8\nencoding: bzip2"
    text = sentence(nrrd(tmp_path / "a.nrrd", header, bz2.compress(bytes(range(64)))))
    assert "in the encoding bzip2, which is not read; save it as gzip or raw" in text

    grid = "space: left-posterior-superior\nspace directions: (1,0,0) (0,0,1)\nspace origin: (1,2,3)"
    text = sentence(nrrd(tmp_path / "b.nrrd", f"type: uchar\ndimension: 2\nsizes: 8 8\n{grid}\nencoding: raw"))
    assert "has 2 axes of pixels in a space of 3 dimensions, which is not read; save it as a 3D volume" in text

    sitk.WriteImage(sitk.GetImageFromArray(GREY.astype(np.float64)), str(tmp_path / "c.nii"))
    data = bytearray((tmp_path / "c.nii").read_bytes())
    struct.pack_into("<2h", data, 70, 1536, 128)
    (tmp_path / "c.nii").write_bytes(bytes(data) + bytes(GREY.size * 8))
    assert "NIfTI datatype 1536 (128-bit floats), which is not read; save them as 32-bit" in sentence(tmp_path / "c.nii")

    coronal = (0.2, 0, 0, 10, 0, 0, 0.3, 20, 0, 0.2, 0, 30)
    sitk.WriteImage(sitk.GetImageFromArray(GREY), str(tmp_path / "d.nii"))
    data = bytearray((tmp_path / "d.nii").read_bytes())
    struct.pack_into("<2h", data, 252, 0, 1)  # no qform, but an sform
    struct.pack_into("<12f", data, 280, *coronal)
    (tmp_path / "d.nii").write_bytes(bytes(data))
    assert "2D image that does not lie in the plane of x and y, which is not read" in sentence(tmp_path / "d.nii")


def test_wrong_numbers_of_dimensions(tmp_path):
    one = nrrd(tmp_path / "one.nrrd", "type: uchar\ndimension: 1\nsizes: 64\nencoding: raw")
    assert "1 dimension;" in sentence(one)
    assert "1 dimension;" in sentence(meta(tmp_path / "one.mha", "NDims = 1\nDimSize = 64"))
    four = nrrd(tmp_path / "four.nrrd", "type: uchar\ndimension: 4\nsizes: 4 4 2 2\nencoding: raw")
    assert "time series" in sentence(four)
    sitk.WriteImage(sitk.JoinSeries([oblique(VOLUME)] * 3), str(tmp_path / "four.nii.gz"))
    assert "4 dimensions" in sentence(tmp_path / "four.nii.gz")


@pytest.mark.parametrize("count", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["list", "time"])
def test_images_one_after_the_other_are_not_colours(tmp_path, count, kind):
    first = f"sizes: {count} 4 4 2\nspace directions: none (1,0,0) (0,1,0) (0,0,1)\nkinds: {kind} domain domain domain"
    last = f"sizes: 4 4 2 {count}\nspace directions: (1,0,0) (0,1,0) (0,0,1) none\nkinds: domain domain domain {kind}"
    flat = f"sizes: 4 8 {count}\nkinds: domain domain {kind}"
    for number, axes in enumerate((first, last, flat)):
        space = "space: left-posterior-superior\n" * ("space" in axes)
        header = f"type: uchar\ndimension: {3 + bool(space)}\n{space}{axes}\nencoding: raw"
        text = sentence(nrrd(tmp_path / f"{number}.seq.nrrd", header, bytes(range(32 * count))))
        assert f"holds {count} images one after the other" in text
        assert "save the one that you want" in text


@pytest.mark.parametrize("count", [3, 4])
def test_a_sequence_that_slicer_wrote_is_refused(tmp_path, count):
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    scene = slicer.vtkMRMLScene()
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode")
    for time in range(count):
        node = slicer.vtkMRMLScalarVolumeNode()
        node.SetAndObserveImageData(vtk_image(VOLUME // (time + 1)))
        sequence.SetDataNodeAtValue(node, str(time))
    writer = scene.AddNewNodeByClass("vtkMRMLVolumeSequenceStorageNode")
    writer.SetFileName(str(tmp_path / "a.seq.nrrd"))
    assert writer.WriteData(sequence)
    assert f"holds {count} images one after the other" in sentence(tmp_path / "a.seq.nrrd")


def test_a_sequence_of_one_image_is_that_image(tmp_path):
    header = """
        type: uchar
        dimension: 4
        space: left-posterior-superior
        sizes: 4 4 4 1
        space directions: (1,0,0) (0,2,0) (0,0,3) none
        kinds: domain domain domain list
        encoding: raw
        """
    loaded = read_image(nrrd(tmp_path / "a.nrrd", header))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(loaded.image).ravel(), np.arange(64))
    assert loaded.image.GetSpacing() == (1, 2, 3)


@pytest.mark.parametrize("first", [True, False])
def test_a_sequence_of_one_image_is_no_vector_image(tmp_path, first):
    header = """
        type: uchar
        dimension: 4
        space: left-posterior-superior
        sizes: {}
        space directions: {}
        space origin: (10,-20,30)
        kinds: {}
        encoding: raw
        """
    sizes, kinds, directions = ["4 4 4"], ["domain domain domain"], ["(1,0,0) (0,0,2) (0,3,0)"]
    for words, of_list in ((sizes, "1"), (directions, "none"), (kinds, "list")):
        words.insert(0 if first else 1, of_list)
    image = read_image(nrrd(tmp_path / "a.nrrd", header.format(*map(" ".join, (sizes, directions, kinds))))).image
    assert image.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).ravel(), np.arange(64))
    assert (image.GetSpacing(), image.GetOrigin()) == ((1, 2, 3), (10, -20, 30))
    assert image.GetDirection() == (1, 0, 0, 0, 0, 1, 0, 1, 0)


def test_layers_of_a_segmentation_are_not_colours(tmp_path):
    header = "type: uchar\ndimension: 4\nsizes: 3 4 4 2\nkinds: list domain domain domain\nencoding: raw\nSegment0_Layer:=0"
    text = sentence(nrrd(tmp_path / "a.seg.nrrd", header, bytes(range(96))), allow_constant=True)
    assert "segmentation of 3 layers" in text


def test_no_pixels(tmp_path):
    path = nrrd(tmp_path / "a.nrrd", "type: uchar\ndimension: 2\nsizes: 0 8\nencoding: raw", b"")
    assert "has no pixels" in sentence(path)
    assert "has no pixels" in sentence(meta(tmp_path / "a.mha", "NDims = 2\nDimSize = 0 8", b""))


def test_nothing_to_see(tmp_path):
    Image.fromarray(GREY * 0 + 7).save(tmp_path / "a.png")
    assert "same value (7) everywhere" in sentence(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", allow_constant=True).image.GetSize() == (8, 6)
    for name in ("a.nrrd", "a.nii"):
        sitk.WriteImage(sitk.GetImageFromArray(np.full((4, 4), np.nan, np.float32)), str(tmp_path / name))
        assert "no finite value" in sentence(tmp_path / name)


@pytest.mark.parametrize("spacing", ["0 0.5", "-1 0.5", "inf 1"])
def test_impossible_spacing_in_the_file(tmp_path, spacing):
    header = f"type: uchar\ndimension: 2\nsizes: 8 8\nspacings: {spacing}\nencoding: raw"
    assert "pixel spacing" in sentence(nrrd(tmp_path / "a.nrrd", header))
    assert "pixel spacing" in sentence(
        meta(tmp_path / "a.mha", f"NDims = 2\nDimSize = 8 8\nElementSpacing = {spacing}")
    )


@pytest.mark.parametrize("value", [0.0, -0.5, float("nan")])
def test_impossible_spacing_in_nifti(tmp_path, value):
    path = tmp_path / "a.nii"
    sitk.WriteImage(oblique(VOLUME), str(path))
    data = bytearray(path.read_bytes())
    struct.pack_into("<f", data, 80, value)
    path.write_bytes(data)
    assert "pixel spacing" in sentence(path)


def test_axes_that_are_not_at_right_angles(tmp_path):
    header = """
        type: uchar
        dimension: 3
        space: left-posterior-superior
        sizes: 4 4 4
        space directions: (1,0,0) (0.5,1,0) (0,0,1)
        encoding: raw
        """
    assert "right angles" in sentence(nrrd(tmp_path / "a.nrrd", header))
    sheared = meta(tmp_path / "a.mha", "NDims = 2\nDimSize = 8 8\nTransformMatrix = 1 0 0.5 1\nElementSpacing = 1 1")
    assert "right angles" in sentence(sheared)


def test_huge_images_are_refused_by_their_header(tmp_path):
    # The pixels do not exist: only who looks at the header first can say this.
    header = "type: uchar\ndimension: 3\nsizes: 100000 100000 1000\nencoding: raw"
    assert "more than the limit" in sentence(nrrd(tmp_path / "a.nrrd", header, b""))
    assert "more than the limit" in sentence(meta(tmp_path / "a.mha", "NDims = 3\nDimSize = 100000 100000 1000", b""))
    path = tmp_path / "a.nii"
    sitk.WriteImage(oblique(VOLUME), str(path))
    data = bytearray(path.read_bytes())
    struct.pack_into("<3h", data, 42, 30000, 30000, 30000)
    path.write_bytes(data)
    assert "more than the limit" in sentence(path)
    Image.fromarray(GREY).save(tmp_path / "a.png")
    assert "limit of 40" in sentence(tmp_path / "a.png", max_pixels=40)
    assert read_image(tmp_path / "a.png", max_pixels=48)


def test_2d_images_have_a_lower_limit_than_volumes(tmp_path):
    limit_2d, limit_3d = "more than the limit of 67,108,864", "more than the limit of 536,870,912"

    def refused(sizes, **options):
        header = f"type: uchar\ndimension: {len(sizes.split())}\nsizes: {sizes}\nencoding: raw"
        return sentence(nrrd(tmp_path / "a.nrrd", header, b""), **options)

    assert limit_2d in refused("20000 20000")
    assert limit_2d in refused("20000 20000 1")
    assert limit_3d in refused("20000 20000 2")
    # What is not refused by its size is, here, for want of its pixels. A limit that is given counts for all.
    assert "damaged" in refused("8192 8192")
    assert "damaged" in refused("1024 1024 512")
    assert "damaged" in refused("16385 8192", max_pixels=2**29)
    assert "limit of 1,000;" in refused("100 100 10", max_pixels=1000)


def test_a_decompression_bomb(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    header = b"IHDR" + struct.pack(">2I5B", 20000, 20000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 99) + b"IDAT")
    assert "400,000,000 pixels (20000 x 20000), more than the limit of 67,108,864" in sentence(tmp_path / "bomb.png")
    # Who allows more gets more: Pillow's limit of its own does not stand in the way, nor is it lost.
    assert "damaged" in sentence(tmp_path / "bomb.png", max_pixels=2**29)
    assert Image.MAX_IMAGE_PIXELS == before


def test_vectors_and_complex_numbers(tmp_path):
    pairs = nrrd(
        tmp_path / "a.nrrd", "type: uchar\ndimension: 3\nsizes: 2 4 8\nkinds: vector domain domain\nencoding: raw"
    )
    assert "2 values a pixel" in sentence(pairs)
    field = sitk.GetImageFromArray(RNG.normal(size=(4, 4, 4, 3)), isVector=True)
    for name in ("f.nrrd", "f.mha", "f.nii"):
        sitk.WriteImage(field, str(tmp_path / name))
        assert "vectors" in sentence(tmp_path / name)
    waves = sitk.GetImageFromArray(RNG.normal(size=(4, 4)) + 1j)
    for name in ("c.nrrd", "c.nii"):
        sitk.WriteImage(waves, str(tmp_path / name))
        assert "complex" in sentence(tmp_path / name)


def test_headers_that_make_no_sense(tmp_path):
    assert "makes no sense" in sentence(
        nrrd(tmp_path / "a.nrrd", "type: uchar\ndimension: 2\nsizes: 8 x\nencoding: raw")
    )
    assert "makes no sense" in sentence(nrrd(tmp_path / "b.nrrd", "type: uchar\nencoding: raw"))
    assert "makes no sense" in sentence(meta(tmp_path / "a.mha", "NDims = 2\nDimSize = 8 x"))


# ------------------------------------------------------------------------------------------- headers with their files


def test_detached_headers_beside_their_pixels(tmp_path):
    for name in ("a.nhdr", "b.mhd"):
        sitk.WriteImage(oblique(VOLUME), str(tmp_path / name))
        assert_same_image(read_image(tmp_path / name).image, oblique(VOLUME), 1e-12)


@pytest.mark.parametrize(
    "target", ["../secret.raw", "/etc/passwd", "sub/../../secret.raw", "..\\secret.raw", "C:\\x.raw"]
)
def test_pixels_outside_the_folder_are_refused(tmp_path, target):
    (tmp_path / "secret.raw").write_bytes(bytes(range(64)))
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    header = f"type: uchar\ndimension: 2\nsizes: 8 8\nencoding: raw\ndata file: {target}"
    assert "outside its folder" in sentence(nrrd(folder / "a.nhdr", header, b""))
    listed = f"type: uchar\ndimension: 3\nsizes: 8 8 2\nencoding: raw\ndata file: LIST\na.raw\n{target}"
    (folder / "a.raw").write_bytes(bytes(64))
    assert "outside its folder" in sentence(nrrd(folder / "b.nhdr", listed, b""))
    assert "outside its folder" in sentence(meta(folder / "a.mhd", "NDims = 2\nDimSize = 8 8", b"", where=target))
    many = f"LIST\na.raw\n{target}"
    assert "outside its folder" in sentence(meta(folder / "b.mhd", "NDims = 3\nDimSize = 8 8 2", b"", where=many))


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need rights on Windows")
def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "secret.raw").write_bytes(bytes(range(64)))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.raw").symlink_to(tmp_path / "secret.raw")
    assert "outside its folder" in sentence(
        meta(tmp_path / "folder" / "a.mhd", "NDims = 2\nDimSize = 8 8", b"", where="a.raw")
    )


def test_pixels_that_are_not_there(tmp_path):
    assert "gone.raw, which does not exist" in sentence(
        meta(tmp_path / "a.mhd", "NDims = 2\nDimSize = 8 8", b"", where="gone.raw")
    )


# -------------------------------------------------------------------------------------------------- files in a folder


def test_which_files_are_images(tmp_path):
    images = ["a.png", "B.PNG", "c.nii.gz", "d.nrrd", "e.dcm", "IM_0001", "1.2.840.113619"]
    others = ["a.seg.nrrd", ".hidden.png", "labels.csv", "x.raw", "README", "study.json"]
    for name in images + others:
        (tmp_path / name).write_bytes(b"x" * 200)
    for name in images[-2:]:
        (tmp_path / name).write_bytes(bytes(128) + b"DICM")
    (tmp_path / "folder.png").mkdir()
    found = {p.name for p in tmp_path.iterdir() if is_image_file(p)}
    assert found == set(images)


# ---------------------------------------------------------------------------------------------------------- real data


@pytest.mark.parametrize(
    ("name", "size"),
    [("plus_f2_phantom_330x267x543.mha", (330, 267, 543)), ("plus_spine_phantom_147x106x104.mha", (147, 106, 104))],
)
def test_real_3d_ultrasound(shared_data, name, size):
    loaded = read_image(shared_data / "us3d" / name)
    assert loaded.image.GetSize() == size
    assert loaded.image.GetSpacing() == (0.5, 0.5, 0.5)
    assert loaded.spacing_known
    assert loaded.image.GetPixelID() == sitk.sitkUInt8


def test_a_name_that_is_not_utf8_is_refused_and_not_a_crash(tmp_path):
    with pytest.raises(ImageError, match="not valid UTF-8; rename the file"):
        read_image(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.nrrd"))


@pytest.mark.parametrize("size", [(1, 7, 5), (7, 1, 5), (7, 5, 1)])
def test_the_spacing_of_a_slices_plane_leaves_its_thickness(tmp_path, size):
    image = sitk.GetImageFromArray(np.arange(35, dtype=np.uint8).reshape(size[::-1]))
    image.SetSpacing((0.3, 0.4, 0.5))
    sitk.WriteImage(image, str(tmp_path / "slice.nrrd"))
    along = iter((0.1, 0.2))
    wanted = [image.GetSpacing()[axis] if n == 1 else next(along) for axis, n in enumerate(size)]
    for options in ({"plane_spacing_mm": (0.1, 0.2)}, {"spacing_mm": (0.1, 0.2)}):
        assert read_image(tmp_path / "slice.nrrd", **options).image.GetSpacing() == pytest.approx(wanted)


@pytest.mark.parametrize("size", [(1, 7, 5), (7, 1, 5), (7, 5, 1)])
@pytest.mark.parametrize("spacing", [0.1, [0.1]])
def test_one_number_for_a_slices_plane_leaves_its_thickness_too(tmp_path, size, spacing):
    image = sitk.GetImageFromArray(np.arange(35, dtype=np.uint8).reshape(size[::-1]))
    image.SetSpacing((0.3, 0.4, 0.5))
    sitk.WriteImage(image, str(tmp_path / "slice.nrrd"))
    wanted = [image.GetSpacing()[axis] if n == 1 else 0.1 for axis, n in enumerate(size)]
    assert read_image(tmp_path / "slice.nrrd", plane_spacing_mm=spacing).image.GetSpacing() == pytest.approx(wanted)
    with pytest.raises(UsageError, match="must be a positive number"):
        read_image(tmp_path / "slice.nrrd", plane_spacing_mm=0)
