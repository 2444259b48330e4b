"""dicom_pixels.py: the values of pixels in every transfer syntax and kind, against ITK's own DICOM reader where it has one."""

import io

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_samples import item, save, speckle, us_cine, us_image
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from BreastUSAILib.errors import ImageError
from BreastUSAILib.image import read_image

VOXELS = speckle((4, 24, 32))
SMOOTH = np.add.outer(np.add.outer(np.arange(4) * 10, np.arange(24) * 4), np.arange(32) * 3).astype(
    np.uint8
)  # no noise: lossy is near
CODECS = {  # name in GDCM, and how far lossy values may be off
    JPEGBaseline8Bit: ("JPEGBaselineProcess1", 8),
    JPEGLosslessSV1: ("JPEGLosslessProcess14_1", 0),
    JPEGLSLossless: ("JPEGLSLossless", 0),
    JPEGLSNearLossless: ("JPEGLSNearLossless", 8),
    JPEG2000Lossless: ("JPEG2000Lossless", 0),
    JPEG2000: ("JPEG2000", 8),
    RLELossless: ("RLELossless", 0),
}


def compressed(ds, path, syntax):
    """`ds` written in a compressed transfer syntax by GDCM."""
    gdcm = pytest.importorskip("gdcm")
    plain = save(ds, path.with_suffix(".plain"))
    reader = gdcm.ImageReader()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, CODECS[syntax][0])))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(path))
    assert writer.Write()
    plain.unlink()
    return path


def voxels_of(loaded):
    return sitk.GetArrayFromImage(loaded.image)


def volume(pixels, **keys):
    ds = us_cine(pixels, **keys)
    ds.PixelSpacing, ds.SpacingBetweenSlices = [0.1, 0.2], 0.5
    return ds


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_uncompressed(tmp_path, syntax, dtype):
    pixels = VOXELS.astype(dtype) * (1 if dtype == np.uint8 else 150)
    stored = pixels.astype(">u2") if syntax == ExplicitVRBigEndian and dtype == np.uint16 else pixels
    path = save(volume(stored, syntax=syntax), tmp_path / "a.dcm")
    ours = voxels_of(read_image(path))
    assert ours.dtype == dtype
    np.testing.assert_array_equal(ours, pixels)


@pytest.mark.parametrize("syntax", CODECS, ids=lambda s: CODECS[s][0])
def test_compressed_volumes(tmp_path, syntax):
    path = compressed(volume(SMOOTH), tmp_path / "a.dcm", syntax)
    ours = voxels_of(read_image(path))
    assert np.abs(ours.astype(int) - SMOOTH).max() <= CODECS[syntax][1]
    # Decoders may round differently in the lossy kinds, by a grey value.
    itk = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(int)
    assert np.abs(ours - itk).max() <= (1 if CODECS[syntax][1] else 0)


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless])
def test_sixteen_bits(tmp_path, syntax):
    pixels = VOXELS.astype(np.uint16) * 200
    np.testing.assert_array_equal(voxels_of(read_image(compressed(volume(pixels), tmp_path / "a.dcm", syntax))), pixels)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless, RLELossless])
def test_compressed_colour(tmp_path, syntax):
    rgb = np.stack([SMOOTH[0], SMOOTH[0][::-1], SMOOTH[0][:, ::-1]], axis=-1)
    luma = np.rint(rgb @ np.array([0.299, 0.587, 0.114]))
    loaded = read_image(compressed(us_image(rgb), tmp_path / "a.dcm", syntax))
    assert np.abs(voxels_of(loaded) - luma).max() <= 1
    assert any("luminance" in note for note in loaded.notes)


def coloured(path, rgb, syntax):
    """(frames, rows, columns, 3) as a single image or a volume in a compressed transfer syntax."""
    ds = us_image(rgb[0]) if len(rgb) == 1 else volume(rgb)
    if syntax != JPEGBaseline8Bit:
        return compressed(ds, path, syntax)
    streams = [io.BytesIO() for _ in rgb]  # GDCM writes JPEG of RGB and calls it YBR
    for plane, stream in zip(rgb, streams, strict=True):
        Image.fromarray(plane).save(stream, "JPEG", quality=95, subsampling=0)
    ds.file_meta.TransferSyntaxUID, ds.PhotometricInterpretation = syntax, "YBR_FULL"
    ds.PixelData = encapsulate([stream.getvalue() for stream in streams])
    return save(ds, path)


@pytest.mark.parametrize("planar", [0, 1, None])
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("syntax", CODECS, ids=lambda s: CODECS[s][0])
def test_the_order_of_samples_in_a_compressed_stream_is_not_the_headers(tmp_path, syntax, frames, planar):
    """PS3.3 C.7.6.3.1.3: old consoles leave the Planar Configuration of the uncompressed image, and pictures were cut into thirds."""
    if planar is None and syntax == RLELossless:
        pytest.skip("the decoder of RLE sorts by what the header says, which therefore has to")
    rgb = np.stack([SMOOTH, SMOOTH[:, ::-1], SMOOTH[:, :, ::-1]], axis=-1)[:frames]
    ds = dcmread(coloured(tmp_path / "a.dcm", rgb, syntax))
    ds.PlanarConfiguration = planar
    if planar is None:
        del ds.PlanarConfiguration
    ours = voxels_of(read_image(save(ds, tmp_path / "b.dcm")))
    luma = np.rint(rgb @ np.array([0.299, 0.587, 0.114])).reshape(ours.shape)
    assert np.abs(ours - luma).max() <= CODECS[syntax][1] + 1


def jpeg2000(pixels, **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG2000", no_jp2=True, **options)
    return stream.getvalue()


@pytest.mark.parametrize(("photometric", "irreversible"), [("YBR_RCT", False), ("YBR_ICT", True)])
def test_jpeg2000_colour_transforms(tmp_path, photometric, irreversible):
    rgb = np.stack([SMOOTH[0], SMOOTH[0][::-1], SMOOTH[0][:, ::-1]], axis=-1)
    ds = us_image(rgb, photometric=photometric, syntax=JPEG2000 if irreversible else JPEG2000Lossless)
    ds.PixelData = encapsulate([jpeg2000(rgb, irreversible=irreversible, mct=1)])
    ours = voxels_of(read_image(save(ds, tmp_path / "a.dcm")))
    assert np.abs(ours - rgb @ np.array([0.299, 0.587, 0.114])).max() <= (2 if irreversible else 1)


def test_grey_stored_as_colour_keeps_its_values(tmp_path):
    loaded = read_image(save(us_image(np.stack([VOXELS[0]] * 3, axis=-1)), tmp_path / "a.dcm"))
    np.testing.assert_array_equal(voxels_of(loaded), VOXELS[0])
    assert not any("luminance" in note for note in loaded.notes)


def test_jpeg_baseline_colour_of_a_real_scanner():
    """A cine in YBR_FULL_422 that pydicom brings along, against ITK's decoder."""
    from pydicom.data import get_testdata_file

    path = get_testdata_file("examples_ybr_color.dcm")
    ours = voxels_of(read_image(path, frame=3)).astype(float)
    itk = sitk.GetArrayFromImage(sitk.ReadImage(path))[2] @ np.array([0.299, 0.587, 0.114])
    assert np.abs(ours - itk).max() <= 2


# ------------------------------------------------------------------------------------------------- look-up tables


def test_modality_lut(tmp_path):
    ds = us_image(VOXELS[0])
    table = (np.arange(256)[::-1] * 17 + 3).astype(np.uint16)
    lut = item(LUTDescriptor=[256, 0, 16], ModalityLUTType="US", LUTData=table.tobytes())
    lut["LUTData"].VR = "OW"
    ds.ModalityLUTSequence = Sequence([lut])
    np.testing.assert_array_equal(voxels_of(read_image(save(ds, tmp_path / "a.dcm"))), table[VOXELS[0]])


@pytest.mark.parametrize(
    ("center", "width", "told"),
    [
        (128, 256, False),
        (127, 254, False),
        (127.5, 255, False),
        (128, 1000, False),
        (60, 80, True),
        ([60, 128], [80, 256], True),
    ],
)
def test_windows_are_not_applied_and_that_is_told_where_it_matters(tmp_path, center, width, told):
    ds = us_image(VOXELS[0])
    ds.WindowCenter, ds.WindowWidth = center, width
    loaded = read_image(save(ds, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(voxels_of(loaded), VOXELS[0])
    assert any("display window" in note for note in loaded.notes) == told


def test_a_display_table_is_not_applied_and_that_is_told(tmp_path):
    ds = us_image(VOXELS[0])
    lut = item(LUTDescriptor=[256, 0, 16], LUTData=np.zeros(256, np.uint16).tobytes())
    lut["LUTData"].VR = "OW"
    ds.VOILUTSequence = Sequence([lut])
    loaded = read_image(save(ds, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(voxels_of(loaded), VOXELS[0])
    assert any("VOI LUT" in note for note in loaded.notes)


# --------------------------------------------------------------------------------------------------------- not read


def refusal(ds, path) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(save(ds, path))
    assert str(path) in str(caught.value) and str(caught.value).endswith(".")
    return str(caught.value)


def test_videos_are_refused(tmp_path):
    ds = us_cine(VOXELS, syntax=MPEG4HP41)
    ds.PixelData = encapsulate([b"\0\0\0\x01video"])
    assert "is a video (MPEG-4 AVC/H.264 High Profile" in refusal(ds, tmp_path / "a.dcm")


def test_twelve_bit_jpeg_is_refused():
    """No package under a permissive licence decodes it; ITK's decoder does not either."""
    from pydicom.data import get_testdata_file

    path = get_testdata_file("JPGExtended.dcm")
    with pytest.raises(ImageError, match="12 bit JPEG.*dcmdjpeg"):
        read_image(path)


def test_pixels_on_a_server_are_refused(tmp_path):
    ds = us_image(VOXELS[0], syntax="1.2.840.10008.1.2.4.94")
    del ds.PixelData
    ds.PixelDataProviderURL = "https://example.com/pixels"
    assert "the address of a server" in refusal(ds, tmp_path / "a.dcm")


def test_a_cine_that_ends_early(tmp_path):
    ds = volume(VOXELS)
    ds.NumberOfFrames = 9
    assert "damaged" in refusal(ds, tmp_path / "a.dcm")


@pytest.mark.parametrize("frames", ["0", "-3"])
def test_no_number_of_frames(tmp_path, frames):
    ds = volume(VOXELS)
    ds.NumberOfFrames = frames
    if frames == "0":  # as if it were not said
        with pytest.raises(ImageError):
            read_image(save(ds, tmp_path / "a.dcm"), frame=None, max_pixels=1)
    else:
        assert "-3 frames" in refusal(ds, tmp_path / "a.dcm")
