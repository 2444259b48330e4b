"""dicom.py: ultrasound images, cines and volumes as scanners write them, made here with pydicom."""

import io

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from BreastUSAILib.dicom_geometry import SEVERAL_PICTURES
from BreastUSAILib.dicom_series import find
from BreastUSAILib.errors import DependencyError, ImageError, UsageError
from BreastUSAILib.image import read_image
from BreastUSAILib.screen_area import find_screen_area

ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"
MULTIFRAME = "1.2.840.10008.5.1.4.1.1.3.1"
ENHANCED_VOLUME = "1.2.840.10008.5.1.4.1.1.6.2"
RNG = np.random.default_rng(3)
GREY = RNG.integers(0, 256, (12, 16), dtype=np.uint8)
RGB = RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)
LUMA = np.rint(RGB @ np.array([0.299, 0.587, 0.114])).astype(int)
X, Y = np.array([0.8, 0.6, 0.0]), np.array([0.0, 0.0, -1.0])
NORMAL = np.cross(X, Y)


def dataset(
    pixels, *, sop=ULTRASOUND, photometric="MONOCHROME2", syntax=ExplicitVRLittleEndian, frames=None, **elements
):
    """A file's content; `pixels` is (frames, rows, columns) with `frames`, (rows, columns[, 3]) without."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = sop
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.Modality = "US"
    shape = pixels.shape[1:] if frames else pixels.shape
    ds.Rows, ds.Columns = shape[:2]
    ds.SamplesPerPixel = 3 if len(shape) == 3 else 1
    if ds.SamplesPerPixel == 3:
        ds.PlanarConfiguration = 0
    if frames:
        ds.NumberOfFrames = frames
    ds.PhotometricInterpretation = photometric
    ds.BitsAllocated = ds.BitsStored = pixels.dtype.itemsize * 8
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in elements.items():
        setattr(ds, name, value)
    ds.HighBit = ds.BitsStored - 1
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    return ds


def save(ds, path, **options):
    ds.save_as(path, enforce_file_format=options.pop("enforce_file_format", True), **options)
    return path


def region(delta=(0.02, 0.03), units=(3, 3), where=(2, 1, 13, 10), data_type=1, spatial=1):
    ds = Dataset()
    ds.RegionSpatialFormat, ds.RegionDataType = spatial, data_type
    ds.PhysicalUnitsXDirection, ds.PhysicalUnitsYDirection = units
    ds.PhysicalDeltaX, ds.PhysicalDeltaY = delta
    ds.RegionLocationMinX0, ds.RegionLocationMinY0, ds.RegionLocationMaxX1, ds.RegionLocationMaxY1 = where
    return ds


def item(**elements):
    ds = Dataset()
    for name, value in elements.items():
        setattr(ds, name, value)
    return ds


def pixels_of(loaded):
    return sitk.GetArrayFromImage(loaded.image)


# ----------------------------------------------------------------------------------------------------- single images


def test_grey_image(tmp_path):
    loaded = read_image(save(dataset(GREY), tmp_path / "Brust ä.dcm"))
    np.testing.assert_array_equal(pixels_of(loaded), GREY)
    assert loaded.image.GetPixelID() == sitk.sitkUInt8
    assert not loaded.spacing_known
    assert loaded.area is None


def test_no_suffix_and_no_preamble(tmp_path):
    np.testing.assert_array_equal(pixels_of(read_image(save(dataset(GREY), tmp_path / "IM_0001"))), GREY)
    path = save(dataset(GREY), tmp_path / "full.dcm")
    (tmp_path / "bare.dcm").write_bytes(path.read_bytes()[132:])
    np.testing.assert_array_equal(pixels_of(read_image(tmp_path / "bare.dcm")), GREY)


@pytest.mark.parametrize("implicit, little", [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_no_preamble_and_no_meta_header(tmp_path, implicit, little, dtype):
    """As devices before DICOM Part 10 wrote files: nothing states the transfer syntax."""
    ds = dataset(GREY.astype(dtype))
    stored = ds.PixelData if little or dtype == np.uint8 else GREY.astype(">u2").tobytes()
    bare = Dataset({element.tag: element for element in ds})
    bare.PixelData = stored
    path = tmp_path / "bare.dcm"
    dcmwrite(path, bare, implicit_vr=implicit, little_endian=little)
    assert path.read_bytes()[:2] == (b"\x08\0" if little else b"\0\x08")
    np.testing.assert_array_equal(pixels_of(read_image(path)), GREY)
    assert [i.path for i in find(tmp_path).inputs] == [path] or not little


def test_compressed_pixels_without_a_meta_header_are_refused_in_words(tmp_path):
    ds = dataset(GREY, syntax=JPEGBaseline8Bit)
    ds.PixelData = encapsulate([encoded(GREY, "JPEG")])
    ds["PixelData"].is_undefined_length = True
    path = tmp_path / "bare.dcm"
    dcmwrite(path, Dataset({element.tag: element for element in ds}), implicit_vr=False, little_endian=True)
    with pytest.raises(ImageError, match="Transfer Syntax UID"):
        read_image(path)


def test_regions_give_spacing_and_area(tmp_path):
    ds = dataset(GREY, SequenceOfUltrasoundRegions=Sequence([region()]), PixelSpacing=[9, 9])
    loaded = read_image(save(ds, tmp_path / "a.dcm"))
    assert loaded.spacing_known
    np.testing.assert_allclose(loaded.image.GetSpacing(), (0.2, 0.3))
    assert loaded.area == (2, 1, 12, 10)
    assert loaded.notes == ()


def test_the_largest_tissue_region_in_cm_counts(tmp_path):
    regions = [
        region(delta=(0.05, 0.05), where=(0, 0, 4, 4)),
        region(delta=(-0.02, 0.03)),
        region(delta=(7, 7), where=(0, 0, 15, 11), units=(4, 3)),  # a spectrum: seconds
        region(delta=(8, 8), where=(0, 0, 15, 11), data_type=2),  # colour flow
        region(delta=(9, 9), where=(0, 0, 15, 11), spatial=2),  # M-mode
    ]
    loaded = read_image(save(dataset(GREY, SequenceOfUltrasoundRegions=Sequence(regions)), tmp_path / "a.dcm"))
    np.testing.assert_allclose(loaded.image.GetSpacing(), (0.2, 0.3))
    assert "different scale" in loaded.notes[0]


def test_regions_of_no_use_leave_the_spacing_unknown(tmp_path):
    regions = [region(units=(4, 3)), region(delta=(0, 0.1)), item(RegionSpatialFormat=1, RegionDataType=1)]
    loaded = read_image(save(dataset(GREY, SequenceOfUltrasoundRegions=Sequence(regions)), tmp_path / "a.dcm"))
    assert not loaded.spacing_known
    assert loaded.image.GetSpacing() == (1, 1)


LEFT, RIGHT = (0, 0, 6, 11), (8, 0, 15, 11)  # with a column between them
TOUCHING = (7, 0, 15, 11)


def measured_from(ds, pixel, value=(0.0, 0.0)):
    """The region with its reference pixel, which is counted from the region's own corner."""
    ds.ReferencePixelX0, ds.ReferencePixelY0 = pixel
    ds.ReferencePixelPhysicalValueX, ds.ReferencePixelPhysicalValueY = value
    return ds


def with_regions(tmp_path, *regions):
    return read_image(save(dataset(GREY, SequenceOfUltrasoundRegions=Sequence(regions)), tmp_path / "a.dcm"))


@pytest.mark.parametrize(
    "regions",
    [
        [region(where=LEFT), region(where=RIGHT)],
        [region(where=LEFT), region(where=RIGHT), region(where=(0, 0, 15, 11), data_type=2)],  # no tissue, it joins nothing
        [region(where=(0, 0, 15, 4)), region(where=(0, 6, 15, 11))],
        [measured_from(region(where=LEFT), (3, 0)), measured_from(region(where=TOUCHING), (4, 0))],
        [measured_from(region(where=(0, 0, 7, 11)), (3, 0)), measured_from(region(where=TOUCHING), (4, 0))],
    ],
    ids=["beside", "colour of both", "below", "touching", "one column in both"],
)
def test_a_second_picture_on_the_screen_is_told_of(tmp_path, regions):
    assert with_regions(tmp_path, *regions).notes == (SEVERAL_PICTURES,)


@pytest.mark.parametrize(
    "regions",
    [
        [region(where=(0, 0, 15, 11)), region(where=(4, 4, 9, 9))],
        [measured_from(region(where=(0, 0, 15, 11)), (8, 0)), measured_from(region(where=(4, 4, 9, 9)), (3, 0))],
        [region(where=(0, 0, 9, 11)), region(where=(5, 3, 15, 11))],
        [region(where=LEFT), region(where=TOUCHING)],
        [region(where=(4, 0, 11, 3)), region(where=(2, 4, 13, 6)), region(where=(0, 7, 15, 11))],
        [
            measured_from(region(where=(4, 0, 11, 5)), (4, 0)),
            measured_from(region(where=(0, 6, 15, 11)), (9, 0), (0.02, 0.18)),
        ],
        [region(where=(0, 0, 15, 11)), region(where=(0, 0, 15, 11))],
    ],
    ids=["inside", "inside, from its corner", "overlapping", "touching", "trapezoid", "touching, one zero", "twice"],
)
def test_regions_of_one_picture_are_not_taken_for_several(tmp_path, regions):
    assert with_regions(tmp_path, *regions).notes == ()
    assert with_regions(tmp_path, *regions[::-1]).notes == ()


def test_a_picture_in_several_regions_is_looked_at_whole(tmp_path):
    """Where they share scale and coordinates; what only touches may be anything."""
    upper = measured_from(region(where=(4, 0, 11, 5)), (4, 0))
    lower = measured_from(region(where=(0, 6, 15, 11)), (9, 0), (0.02, 0.18))
    assert with_regions(tmp_path, upper, lower).area == with_regions(tmp_path, lower, upper).area == (0, 0, 16, 12)
    assert with_regions(tmp_path, region(where=(4, 0, 11, 5)), region(where=(0, 6, 15, 11))).area == (0, 6, 16, 6)
    other_scale = measured_from(region(where=(4, 0, 11, 5), delta=(0.01, 0.01)), (4, 0))
    assert with_regions(tmp_path, other_scale, lower).area == (0, 6, 16, 6)


def test_a_second_picture_of_another_scale_is_told_of_twice(tmp_path):
    scale, several = with_regions(tmp_path, region(where=LEFT, delta=(0.05, 0.05)), region(where=RIGHT)).notes
    assert "different scale" in scale
    assert several == SEVERAL_PICTURES


def test_a_second_picture_is_told_of_in_the_words_of_screens_without_regions():
    screen = np.zeros((600, 800), np.uint8)
    screen[100:500, 60:390] = screen[100:500, 410:740] = RNG.normal(110, 30, (400, 330)).clip(20, 255)
    assert find_screen_area(sitk.GetImageFromArray(screen)).notes == (SEVERAL_PICTURES,)


@pytest.mark.parametrize(("ratio", "words"), [([2, 1], "is 2 times as high as wide"), ([10, 11], "is 0.909 times")])
def test_pixels_that_are_not_square_are_told_of(tmp_path, ratio, words):
    path = save(dataset(GREY, PixelAspectRatio=ratio), tmp_path / "a.dcm")
    loaded = read_image(path)
    assert not loaded.spacing_known
    assert loaded.image.GetSpacing() == (1, 1)
    assert words in loaded.notes[-1] and "taken for square" in loaded.notes[-1]


def test_a_spacing_for_pixels_that_are_not_square(tmp_path):
    path = save(dataset(GREY, PixelAspectRatio=[6, 5]), tmp_path / "a.dcm")  # vertical size first
    loaded = read_image(path, spacing_mm=(0.25, 0.3))
    assert loaded.image.GetSpacing() == (0.25, 0.3)
    assert not any("Aspect" in note for note in loaded.notes)
    for spacing in (0.25, (0.3, 0.25)):  # which make them square, or broad
        assert "shapes are wrong if the file is right" in read_image(path, spacing_mm=spacing).notes[-1]
    assert "the spacing given says 1 times" in read_image(path, plane_spacing_mm=0.25).notes[-1]


def test_frames_of_pixels_that_are_not_square(tmp_path):
    frames = np.stack([GREY, GREY // 2, GREY // 3])
    ds = dataset(frames, sop=MULTIFRAME, frames=3, SpacingBetweenSlices=0.5, PixelAspectRatio=[2, 1])
    path = save(ds, tmp_path / "a.dcm")
    assert "is 2 times as high as wide" in read_image(path).notes[-1]
    assert not any("Aspect" in note for note in read_image(path, spacing_mm=(0.1, 0.2, 0.5)).notes)


@pytest.mark.parametrize("ratio", [[1, 1], [101, 100], [0, 1], [1, 0], [-2, 1], [2]])
def test_a_pixel_aspect_ratio_that_says_nothing_changes_nothing(tmp_path, ratio):
    loaded = read_image(save(dataset(GREY, PixelAspectRatio=ratio), tmp_path / "a.dcm"))
    assert loaded.notes == ("the file does not say what a pixel measures; lengths are in pixels",)


def test_a_stated_spacing_goes_before_a_pixel_aspect_ratio(tmp_path):
    path = save(dataset(GREY, PixelAspectRatio=[2, 1], PixelSpacing=[0.2, 0.2]), tmp_path / "a.dcm")
    assert not any("Aspect" in note for note in read_image(path).notes)
    ds = dataset(GREY, PixelAspectRatio=[2, 1], SequenceOfUltrasoundRegions=Sequence([region()]))
    assert read_image(save(ds, tmp_path / "b.dcm")).notes == ()


@pytest.mark.parametrize("keyword", ["PixelSpacing", "NominalScannedPixelSpacing"])
def test_other_spacings_are_used_with_a_note(tmp_path, keyword):
    loaded = read_image(save(dataset(GREY, **{keyword: [0.3, 0.2]}), tmp_path / "a.dcm"))  # row distance first
    assert loaded.image.GetSpacing() == (0.2, 0.3)
    assert loaded.spacing_known
    assert "pixel spacing from" in loaded.notes[0]


def test_a_place_in_the_patient_makes_a_volume_of_one_slice(tmp_path):
    ds = dataset(
        GREY,
        PixelSpacing=[0.3, 0.2],
        SliceThickness=2.5,
        ImagePositionPatient=[10, -20, 30],
        ImageOrientationPatient=[*X, *Y],
    )
    image = read_image(save(ds, tmp_path / "a.dcm")).image
    assert image.GetSize() == (16, 12, 1)
    assert image.GetSpacing() == (0.2, 0.3, 2.5)
    np.testing.assert_allclose(
        image.TransformIndexToPhysicalPoint((5, 7, 0)), [10, -20, 30] + 5 * 0.2 * X + 7 * 0.3 * Y, atol=1e-9
    )


def test_monochrome1_is_inverted(tmp_path):
    loaded = read_image(save(dataset(GREY, photometric="MONOCHROME1"), tmp_path / "a.dcm"))
    np.testing.assert_array_equal(pixels_of(loaded), 255 - GREY)
    signed = GREY.astype(np.int16) - 100
    ds = dataset(signed, photometric="MONOCHROME1", BitsStored=12)
    np.testing.assert_array_equal(pixels_of(read_image(save(ds, tmp_path / "b.dcm"))), -1 - signed)


def test_rescale_slope(tmp_path):
    ds = dataset(GREY, RescaleSlope=0.5, RescaleIntercept=-10)
    np.testing.assert_allclose(pixels_of(read_image(save(ds, tmp_path / "a.dcm"))), GREY * 0.5 - 10)


def test_bits_that_are_not_stored_are_ignored(tmp_path):
    ds = dataset((GREY.astype(np.uint16) << 2) | 0xF000, BitsStored=10)
    np.testing.assert_array_equal(pixels_of(read_image(save(ds, tmp_path / "a.dcm"))), GREY.astype(np.uint16) << 2)


def test_big_endian(tmp_path):
    ds = dataset((GREY.astype(np.uint16) * 50).astype(">u2"), syntax=ExplicitVRBigEndian)
    path = save(ds, tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(pixels_of(read_image(path)), GREY.astype(np.uint16) * 50)


# ------------------------------------------------------------------------------------------------------------ colour


def assert_luma(loaded, tolerance):
    assert np.abs(pixels_of(loaded).astype(int) - LUMA).max() <= tolerance
    assert any("luminance" in note for note in loaded.notes)


def test_rgb(tmp_path):
    assert_luma(read_image(save(dataset(RGB, photometric="RGB"), tmp_path / "a.dcm")), 1)


def test_rgb_plane_by_plane(tmp_path):
    ds = dataset(RGB, photometric="RGB", PlanarConfiguration=1)
    ds.PixelData = np.moveaxis(RGB, -1, 0).tobytes()
    assert_luma(read_image(save(ds, tmp_path / "a.dcm")), 1)


def test_ybr_full(tmp_path):
    ybr = np.asarray(Image.fromarray(RGB).convert("YCbCr"))
    assert_luma(read_image(save(dataset(ybr, photometric="YBR_FULL"), tmp_path / "a.dcm")), 3)


def test_ybr_full_422(tmp_path):
    smooth = np.asarray(Image.fromarray(RGB[:6, :8]).resize((16, 12)))
    ybr = np.asarray(Image.fromarray(np.repeat(smooth[:, ::2], 2, axis=1)).convert("YCbCr"))
    ds = dataset(ybr, photometric="YBR_FULL_422")
    # Two pixels share their colour differences: Y1 Y2 Cb Cr.
    pairs = np.stack([ybr[:, ::2, 0], ybr[:, 1::2, 0], ybr[:, ::2, 1], ybr[:, ::2, 2]], axis=-1)
    ds.PixelData = pairs.tobytes()
    loaded = read_image(save(ds, tmp_path / "a.dcm"))
    assert np.abs(pixels_of(loaded).astype(int) - ybr[..., 0]).max() <= 3


def test_palette_color(tmp_path):
    ds = dataset(GREY % 4, photometric="PALETTE COLOR")
    colours = np.array([[0, 0, 0], [200, 0, 0], [0, 200, 0], [10, 20, 200]], np.uint16) << 8
    for channel, name in enumerate(("Red", "Green", "Blue")):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [4, 0, 16])
        setattr(ds, f"{name}PaletteColorLookupTableData", colours[:, channel].tobytes())
    loaded = read_image(save(ds, tmp_path / "a.dcm"))
    expected = (colours @ np.array([0.299, 0.587, 0.114]))[GREY % 4]
    assert np.abs(pixels_of(loaded) - expected).max() <= 1


# ------------------------------------------------------------------------------------------------------- compression


def encoded(pixels, image_format, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, image_format, **options)
    return stream.getvalue()


def test_jpeg_grey_and_colour(tmp_path):
    ramp = np.tile(np.arange(0, 240, 5, dtype=np.uint8), (48, 1))
    ds = dataset(ramp, syntax=JPEGBaseline8Bit)
    ds.PixelData = encapsulate([encoded(ramp, "JPEG", quality=95)])
    loaded = read_image(save(ds, tmp_path / "a.dcm"))
    assert np.abs(pixels_of(loaded).astype(int) - ramp).max() <= 3

    colour = np.stack([ramp, ramp[::-1, ::-1], ramp.T[:48, :48]], axis=-1)
    ds = dataset(colour, photometric="YBR_FULL_422", syntax=JPEGBaseline8Bit)
    ds.PixelData = encapsulate([encoded(colour, "JPEG", quality=95)])
    loaded = read_image(save(ds, tmp_path / "b.dcm"))
    expected = colour @ np.array([0.299, 0.587, 0.114])
    assert np.abs(pixels_of(loaded) - expected).mean() <= 2


def test_jpeg2000_and_rle(tmp_path):
    ds = dataset(GREY, syntax=JPEG2000Lossless)
    ds.PixelData = encapsulate([encoded(GREY, "JPEG2000", no_jp2=True, irreversible=False)])
    np.testing.assert_array_equal(pixels_of(read_image(save(ds, tmp_path / "a.dcm"))), GREY)
    ds = dataset(GREY)
    ds.compress(RLELossless)
    np.testing.assert_array_equal(pixels_of(read_image(save(ds, tmp_path / "b.dcm"))), GREY)


# ---------------------------------------------------------------------------------------------------- several frames

CINE = RNG.integers(0, 256, (5, 12, 16), dtype=np.uint8)


def test_a_cine_is_one_frame(tmp_path):
    ds = dataset(CINE, sop=MULTIFRAME, frames=5, FrameTime=33.3, SequenceOfUltrasoundRegions=Sequence([region()]))
    path = save(ds, tmp_path / "a.dcm")
    for frame, index in ((None, 2), (1, 0), (5, 4)):
        loaded = read_image(path, frame=frame)
        np.testing.assert_array_equal(pixels_of(loaded), CINE[index])
        assert f"frame {index + 1} of 5" in loaded.notes
        np.testing.assert_allclose(loaded.image.GetSpacing(), (0.2, 0.3))
    with pytest.raises(UsageError, match="1 to 5"):
        read_image(path, frame=6)


def test_a_compressed_cine(tmp_path):
    ramps = np.stack([np.roll(np.tile(np.arange(0, 240, 5, dtype=np.uint8), (48, 1)), 9 * k, 0) + k for k in range(3)])
    ds = dataset(ramps, sop=MULTIFRAME, frames=3, syntax=JPEGBaseline8Bit)
    ds.PixelData = encapsulate([encoded(f, "JPEG", quality=95) for f in ramps])
    loaded = read_image(save(ds, tmp_path / "a.dcm"), frame=3)
    assert np.abs(pixels_of(loaded).astype(int) - ramps[2]).max() <= 3


def test_abus_with_a_distance_between_frames_is_a_volume(tmp_path):
    ds = dataset(CINE, sop=MULTIFRAME, frames=5, PixelSpacing=[0.073, 0.2], SpacingBetweenSlices=0.475)
    loaded = read_image(save(ds, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(pixels_of(loaded), CINE)
    assert loaded.image.GetSpacing() == (0.2, 0.073, 0.475)
    assert loaded.spacing_known
    with pytest.raises(UsageError, match="no frame 3"):
        read_image(tmp_path / "a.dcm", frame=3)


def enhanced(positions, volume_frame=False, **elements):
    position, orientation = ("PlanePositionVolumeSequence", "ImagePositionVolume"), "PlaneOrientationVolumeSequence"
    where = "ImageOrientationVolume"
    if not volume_frame:
        position, orientation = ("PlanePositionSequence", "ImagePositionPatient"), "PlaneOrientationSequence"
        where = "ImageOrientationPatient"
    frames = [item(**{position[0]: Sequence([item(**{position[1]: list(p)})])}) for p in positions]
    shared = item(
        PixelMeasuresSequence=Sequence([item(PixelSpacing=[0.3, 0.2])]),
        **{orientation: Sequence([item(**{where: [*X, *Y]})])},
    )
    return dataset(
        CINE[: len(frames)],
        sop=ENHANCED_VOLUME,
        frames=len(frames),
        PerFrameFunctionalGroupsSequence=Sequence(frames),
        SharedFunctionalGroupsSequence=Sequence([shared]),
        **elements,
    )


@pytest.mark.parametrize("volume_frame", [False, True])
def test_enhanced_volume_is_placed_by_its_frames(tmp_path, volume_frame):
    origin = np.array([1.0, 2.0, 3.0])
    order = [3, 0, 4, 1, 2]  # frames need not be stored in their order in space
    ds = enhanced([origin + 0.5 * k * NORMAL for k in order], volume_frame)
    loaded = read_image(save(ds, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(pixels_of(loaded), CINE[np.argsort(order)])
    np.testing.assert_allclose(loaded.image.GetSpacing(), (0.2, 0.3, 0.5))
    np.testing.assert_allclose(
        loaded.image.TransformIndexToPhysicalPoint((5, 7, 3)),
        origin + 5 * 0.2 * X + 7 * 0.3 * Y + 3 * 0.5 * NORMAL,
        atol=1e-9,
    )
    assert any("not to the patient" in note for note in loaded.notes) == volume_frame


def test_frames_that_are_no_even_stack(tmp_path):
    uneven = save(enhanced([k * NORMAL for k in (0, 1, 2.5, 3, 4)]), tmp_path / "a.dcm")
    with pytest.raises(ImageError, match="uneven"):
        read_image(uneven)
    sheared = save(enhanced([k * (NORMAL + 0.3 * X) for k in range(5)]), tmp_path / "b.dcm")
    with pytest.raises(ImageError, match="uneven"):
        read_image(sheared)
    series = save(enhanced([k * NORMAL for k in (0, 1, 0, 1)]), tmp_path / "c.dcm")
    with pytest.raises(ImageError, match="time series"):
        read_image(series)
    nowhere = save(dataset(CINE, sop=ENHANCED_VOLUME, frames=5), tmp_path / "d.dcm")
    with pytest.raises(ImageError, match="does not say where"):
        read_image(nowhere)


# --------------------------------------------------------------------------------------------------------- bad input


def sentence(path, **options) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(path, **options)
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("compressed", [False, True])
def test_truncated(tmp_path, part, compressed, capfd):
    noise = RNG.integers(0, 256, (100, 100), dtype=np.uint8)
    ds = dataset(noise, syntax=JPEG2000Lossless if compressed else ExplicitVRLittleEndian)
    if compressed:
        ds.PixelData = encapsulate([encoded(noise, "JPEG2000", no_jp2=True)])
    path = save(ds, tmp_path / "a.dcm")
    data = path.read_bytes()
    header = len(data) - len(ds.PixelData)
    path.write_bytes(data[: header + int(len(ds.PixelData) * part)])
    assert "damaged" in sentence(path)
    assert capfd.readouterr().err == ""


def test_cut_in_the_header(tmp_path):
    path = save(dataset(GREY), tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes()[:300])
    sentence(path)


def test_files_without_an_image(tmp_path):
    report = dataset(GREY, sop="1.2.840.10008.5.1.4.1.1.88.33")
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(report, keyword)
    assert "Comprehensive SR Storage" in sentence(save(report, tmp_path / "a.dcm"))
    directory = dataset(GREY, sop="1.2.840.10008.1.3.10", DirectoryRecordSequence=Sequence([]))
    assert "DICOMDIR" in sentence(save(directory, tmp_path / "DICOMDIR"))
    empty = dataset(GREY)
    del empty.PixelData
    assert "damaged" in sentence(save(empty, tmp_path / "b.dcm"))
    (tmp_path / "c.dcm").write_text("not DICOM at all, but called so " * 20)
    sentence(tmp_path / "c.dcm")


def test_huge_images_are_refused_by_their_header(tmp_path):
    ds = dataset(GREY, sop=MULTIFRAME, SpacingBetweenSlices=1.0, NumberOfFrames=90000)
    ds.Rows = ds.Columns = 30000
    assert "more than the limit" in sentence(save(ds, tmp_path / "a.dcm"))


def test_without_pydicom_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    import sys

    path = save(dataset(GREY), tmp_path / "a.dcm")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DependencyError, match="pydicom is not installed.*pip install"):
        read_image(path)


def test_a_pydicom_without_decoders_is_too_old(tmp_path, monkeypatch):
    import sys

    path = save(dataset(GREY), tmp_path / "a.dcm")
    monkeypatch.setitem(sys.modules, "pydicom.pixels", None)  # came with pydicom 3
    with pytest.raises(DependencyError, match='too old.*pip install "pydicom>=3.0"'):
        read_image(path)


def test_a_missing_decoder_is_not_a_damaged_file(tmp_path, monkeypatch):
    from pydicom.pixels import get_decoder

    ds = dataset(GREY, syntax=JPEGLSLossless)
    ds.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
    path = save(ds, tmp_path / "a.dcm")
    monkeypatch.setattr(get_decoder(JPEGLSLossless), "_available", {})
    with pytest.raises(DependencyError, match="JPEG-LS.*python-gdcm"):
        read_image(path)


@pytest.mark.parametrize("where", ["dcmread", "pixels.pixel_array"])
def test_too_little_memory_is_not_a_damaged_file(tmp_path, monkeypatch, where):
    def full(*_, **__):
        raise MemoryError

    path = save(dataset(GREY), tmp_path / "a.dcm")
    monkeypatch.setattr(f"pydicom.{where}", full)
    with pytest.raises(MemoryError):
        read_image(path)


@pytest.mark.parametrize(
    ("syntax", "kind"), [(JPEGLosslessSV1, "JPEGLosslessProcess14_1"), (JPEGLSLossless, "JPEGLSLossless")]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lossless_jpeg_of_scanners(tmp_path, syntax, kind, dtype):
    gdcm = pytest.importorskip("gdcm")
    pixels = GREY.astype(dtype) * (1 if dtype == np.uint8 else 200)
    plain = save(dataset(pixels), tmp_path / "plain.dcm")
    reader = gdcm.ImageReader()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, kind)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(tmp_path / "a.dcm"))
    assert writer.Write()
    from pydicom import dcmread

    assert dcmread(tmp_path / "a.dcm").file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(pixels_of(read_image(tmp_path / "a.dcm")), pixels)


def test_real_ultrasound_of_pydicom():
    """A 30-frame colour cine (JPEG, YBR_FULL_422) and a PALETTE COLOR image that pydicom brings along."""
    from pydicom.data import get_testdata_file

    cine = read_image(get_testdata_file("examples_ybr_color.dcm"))
    assert cine.image.GetSize() == (320, 240)
    assert cine.spacing_known
    assert "frame 15 of 30" in cine.notes
    palette = read_image(get_testdata_file("examples_palette.dcm"))
    assert palette.image.GetSize() == (800, 350)
    assert palette.area == (120, 60, 680, 290)
