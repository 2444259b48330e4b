"""Reading and writing images. The grid functions of `grid` are offered here as well.

An image is a scalar ``SimpleITK.Image`` on its physical grid (LPS, mm). `read_image` takes every supported format to
that, or says in one sentence why it cannot.
"""

from __future__ import annotations

import errno
import math
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from . import headers
from .acquisition import CurvedAcquisition
from .atomic import atomic_path
from .errors import ImageError, OutputError, UsageError
from .findings import ImageInfo
from .grid import (
    as_2d,
    box_of_mask,
    box_region,
    crop_to_box,
    from_2d,
    image_box,
    index_box,
    paste_back,
    resample_like,
    resample_to_spacing,
    spacing_vector,
)
from .native import quiet
from .pixels import (
    COLOUR_NOTE,
    check_size,
    choose_frame,
    clean_values,
    in_grey,
    not_orthonormal,
    refuse_frame,
    with_grid_of,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "LoadedImage",
    "as_2d",
    "box_of_mask",
    "box_region",
    "crop_to_box",
    "from_2d",
    "image_box",
    "index_box",
    "is_image_file",
    "paste_back",
    "read_image",
    "resample_like",
    "resample_to_spacing",
    "write_image",
]

IMAGE_SUFFIXES = (
    (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")
    + (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
    + (".dcm", ".dicom", ".ima")
)
_FORMATS = "NRRD, NIfTI, MetaImage, PNG, JPEG, BMP, TIFF or DICOM"
VOLUMES_KEEP_THEIR_SPACING = "the spacing that was given is for 2D images; this volume has what its file says"
UNKNOWN_SPACING = "the file does not say what a pixel measures; lengths are in pixels"
_ASPECT = 0.02  # part by which pixels may be higher or wider than the file's Pixel Aspect Ratio: nobody sees it, and spacings have few digits


@dataclass(frozen=True)
class LoadedImage:
    """An image as it was read.

    Attributes
    ----------
    image : 2D or 3D, one number a pixel, all finite and not all the same. The spacing is 1 where it is not known.
    path : where it was read from.
    spacing_known : whether the file (or the caller) says what a pixel measures.
    notes : sentences for the reader on what was done to the image or should be known of it.
    area : (x, y, width, height) in pixels of the ultrasound picture inside a screen capture, where the file itself
        says so (DICOM ultrasound regions); None otherwise.
    acquisition : where the voxels lie in the body, for volumes of a curved transducer, whose grid is not there; None otherwise.
    laterality : "R", "L", "B" (both), where the file says which breast it is.
    view : "AP", "LAT", "MED", "SUP" or "INF", where the file says from which side.
    files : all files that it was read from, where they are several.
    """

    image: sitk.Image
    path: Path
    spacing_known: bool
    notes: tuple[str, ...] = ()
    area: tuple[int, int, int, int] | None = None
    acquisition: CurvedAcquisition | None = None
    laterality: str | None = None
    view: str | None = None
    files: tuple[Path, ...] = ()

    @property
    def info(self) -> ImageInfo:
        """The image's record, as a study keeps it."""
        return replace(
            ImageInfo.of(self.image, str(self.path), self.spacing_known),
            acquisition=self.acquisition,
            laterality=self.laterality,
            view=self.view,
        )


# ---------------------------------------------------------------------------------------------------------- reading


START = 4096
"""The first bytes of a file, by which its kind is known."""


def _start(path: Path) -> bytes:
    """The first bytes of an existing file; an `ImageError` for whatever is not a readable file with content."""
    try:
        if path.is_dir():
            raise ImageError(f"{path} is a folder; give an image file.")
        if path.exists() and not path.is_file():  # which would be waited for without an end
            raise ImageError(f"{path} is a pipe or a device, not a file; give an image file.")
        with path.open("rb") as stream:
            start = stream.read(START)
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist; check the name.") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{path} cannot be read ({reason}); check its permissions.") from error
    if not start:
        raise ImageError(f"{path} is empty (0 bytes); copy or export it again.")
    return start


def kind_of(path: Path, start: bytes) -> str | None:
    """Which reader a file needs ("dicom", "nrrd", "picture", "meta", "nifti"), by its first `START` bytes; None when it is no image."""
    if start[128:132] == b"DICM":
        return "dicom"
    if start.startswith(b"NRRD000"):
        return "nrrd"
    if start.startswith((b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "picture"
    if re.match(rb"[^\0]*?^\s*NDims\s*=", start, re.MULTILINE):
        return "meta"
    if start.startswith(b"\x1f\x8b"):
        try:
            # A small file may be whole in these bytes, a cut one shorter than a header; take what there is.
            start = zlib.decompressobj(wbits=31).decompress(start)
        except zlib.error:
            start = b""
    if start[344:348] in (b"n+1\0", b"ni1\0") or start[4:8] in (b"n+2\0", b"ni2\0"):
        return "nifti"
    if path.suffix.lower() in headers.DICOM_SUFFIXES:  # DICOM without its preamble
        return "dicom"
    return None


def _read_itk(path: Path, kind: str, frame: int | None, max_pixels: int | None) -> tuple[sitk.Image, bool, tuple[str, ...]]:
    """NRRD, MetaImage and NIfTI: the image, whether its spacing is stated, notes."""
    parse, reader_name = {
        "nrrd": (headers.read_nrrd_header, "NrrdImageIO"),
        "meta": (headers.read_meta_header, "MetaImageIO"),
        "nifti": (headers.read_nifti_header, "NiftiImageIO"),
    }[kind]
    header = parse(path)
    notes = list(header.notes)
    check_size(path, header.size, max_pixels)
    if header.spacing is not None and not all(math.isfinite(s) and s > 0 for s in header.spacing):
        raise ImageError(
            f"{path} states a pixel spacing of {' x '.join(f'{s:g}' for s in header.spacing)} mm, which is not "
            "possible; correct its header."
        )
    colour = header.components in (3, 4)
    if header.components != 1 and not colour:
        raise ImageError(
            f"{path} has {header.components} values a pixel; an image with 1 (grey) or 3 (colour) is needed."
        )
    if len(header.size) > 2 and 1 not in header.size[:3]:
        refuse_frame(path, frame)  # before the voxels are read, as callers read the volume again without it
    not_finite = headers.nifti_not_finite(path) if kind == "nifti" else None
    reader = sitk.ImageFileReader()
    reader.SetImageIO(reader_name)
    reader.SetFileName(str(path))
    try:
        with quiet():
            image = reader.Execute()
    except RuntimeError as error:
        if "orthonormal" in str(error):
            raise not_orthonormal(path) from error
        if header.not_read:
            raise ImageError(f"{path} {header.not_read}.") from error
        raise ImageError(f"{path} is damaged or incomplete; copy or export it again.") from error
    if image.GetDimension() > 3:
        image = _volume_of(path, image, header.to_lps)
    if "complex" in image.GetPixelIDTypeAsString():
        raise ImageError(f"{path} holds complex numbers; save their magnitude as an image.")
    if image.GetNumberOfComponentsPerPixel() > 1:
        if sitk.GetArrayViewFromImage(image).dtype.kind != "u":
            raise ImageError(f"{path} holds vectors, not colours or grey values; save one component as an image.")
        image, coloured = in_grey(image)
        notes += [COLOUR_NOTE] * coloured
    elif "vector" in image.GetPixelIDTypeAsString():  # of one number a pixel, as a sequence of one image has
        image = sitk.VectorIndexSelectionCast(image, 0)
    if not_finite is not None:
        array = sitk.GetArrayFromImage(image)
        array[not_finite.reshape(array.shape)] = np.nan
        image = with_grid_of(image, array)
    if header.to_mm != 1:
        image.SetSpacing([s * header.to_mm for s in image.GetSpacing()])
        image.SetOrigin([o * header.to_mm for o in image.GetOrigin()])
    return image, header.spacing is not None, tuple(notes)


def _volume_of(path: Path, image: sitk.Image, to_lps: Sequence[int]) -> sitk.Image:
    """The volume in an image of more than three axes, of which the others have one pixel. to_lps : see `headers.Header`."""
    dimension = image.GetDimension()
    axes = np.reshape(image.GetDirection(), (dimension, dimension))
    if not np.allclose(axes[:3, 3:], 0, atol=1e-3):
        raise ImageError(f"{path} has axes that do not lie in the three dimensions of space; export it again as a 3D volume.")
    axes = axes[:3, :3]
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):  # which a volume may not even be given
        raise not_orthonormal(path)
    volume = sitk.Extract(image, [*image.GetSize()[:3], *[0] * (dimension - 3)])
    signs = np.array(to_lps)
    volume.SetOrigin((signs * image.GetOrigin()[:3]).tolist())
    volume.SetDirection((signs[:, None] * axes).ravel().tolist())
    return volume


def _without_metadata(image: sitk.Image) -> sitk.Image:
    """What a file says besides pixels belongs to the file, not to what is computed from it (patient's name, ...)."""
    try:
        for key in image.GetMetaDataKeys():
            image.EraseMetaData(key)
    except TypeError:  # a key that is no text cannot be named
        return with_grid_of(image, sitk.GetArrayFromImage(image))
    return image


def _on_slice(plane_spacing_mm: Sequence[float], image: sitk.Image) -> Sequence[float]:
    """The spacing of a 2D image or a single slice, whose thickness stays, from that along the axes of its plane."""
    if image.GetDimension() == 2:
        return plane_spacing_mm
    along = iter(plane_spacing_mm)
    across = max(axis for axis, n in enumerate(image.GetSize()) if n == 1)
    return [image.GetSpacing()[axis] if axis == across else next(along) for axis in range(3)]


def _aspect_note(aspect: float, spacing: Sequence[float], known: bool) -> str | None:
    """A sentence where pixels are not of the form that the file states; None where they are.

    A spacing of 1 by the ratio would not do where none is known: figures, tables and Slicer's volumes count such pixels as 1 by 1,
    or take any other number for mm.

    Parameters
    ----------
    aspect : the height of a pixel divided by its width, after the file.
    spacing : of the image, x and y first. known : whether it was given.
    """
    if abs(spacing[1] / spacing[0] - aspect) <= _ASPECT * aspect:
        return None
    stated = f"the file says that a pixel is {aspect:.3g} times as high as wide (Pixel Aspect Ratio)"
    if known:
        return f"{stated}, the spacing given says {spacing[1] / spacing[0]:.3g} times; shapes are wrong if the file is right"
    return f"{stated} but not what it measures; pixels are taken for square, so shapes are wrong until the spacing along each axis is given"


def read_image(
    path: str | os.PathLike,
    *,
    spacing_mm: float | Sequence[float] | None = None,
    plane_spacing_mm: float | Sequence[float] | None = None,
    frame: int | None = None,
    max_pixels: int | None = None,
    allow_constant: bool = False,
    files: Sequence[Path] = (),
) -> LoadedImage:
    """Read an image: NRRD, NIfTI, MetaImage, PNG, JPEG, BMP, TIFF or DICOM, told apart by content, not by name.

    Colour becomes luminance; values that are not finite become the minimum; a palette, transparency, EXIF orientation,
    rescale slope, MONOCHROME1 and TIFF's WhiteIsZero are applied. The number of dimensions stays what the file says: a volume with one
    slice is 3D (see `as_2d`), and only axes of one pixel that come last after the third are dropped. A cine of several frames is not a
    volume: one frame is taken; where three spacings are given it is taken for one.

    Parameters
    ----------
    path : the file; or a folder with the DICOM files of one image or volume.
    spacing_mm : what a pixel measures, mm; overrides the file. One number, or one for each axis (x, y[, z]); for the slice of a volume of one
        also one for each axis of its plane.
    plane_spacing_mm : the same for 2D images and single slices, whose thickness stays, alone, one number or one across and one down: a
        volume keeps what its file says, with a note.
    frame : which frame of a cine or page of a TIFF, 1 is the first; the middle one when None, of several images in a JPEG the first. A single
        image is read whatever it is.
    max_pixels : the largest image (pixels in all) that is read; checked before the pixels are. None: 2**26 (67 million)
        for 2D images and single slices, 2**29 (537 million) for volumes.
    allow_constant : accept an image with one value everywhere, such as an empty mask.
    files : all files of a volume that is a series of DICOM files, `path` among them (`dicom_series`); else empty.

    Raises
    ------
    ImageError : there is no such file, or it cannot be worked on.
    UsageError : `spacing_mm` or `frame` is impossible; `NoFramesError` where a frame of a volume is asked for.
    DependencyError : a DICOM file, and pydicom is not installed.
    """
    path = Path(path)
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError:  # ITK would end the whole process
        name = os.fsencode(path).decode("utf-8", "replace")
        raise ImageError(f"{name} has a name that is not valid UTF-8; rename the file.") from None
    if os.path.isdir(path):  # Path.is_dir raises where it may not look
        from .dicom_series import only_input

        series = only_input(path)
        path, files = series.path, series.files
    kind = kind_of(path, _start(path))
    dicom = None
    if kind is None:
        raise ImageError(f"{path} is not an image that can be read; give a {_FORMATS} file.")
    if kind == "dicom":
        from .dicom import read_dicom

        volume = spacing_mm is not None and np.size(spacing_mm) == 3
        dicom = read_dicom(path, frame=frame, max_pixels=max_pixels, volume=volume, files=files)
        image, known, notes = dicom.image, dicom.spacing_known, dicom.notes
    elif kind == "picture":
        from .picture import read_picture

        image, known, notes = read_picture(path, frame=frame, max_pixels=max_pixels)
    else:
        choose_frame(path, 1, frame)
        image, known, notes = _read_itk(path, kind, frame, max_pixels)
        if as_2d(image) is None:
            refuse_frame(path, frame)

    image = _without_metadata(image)
    dimension = image.GetDimension()
    axes = np.array(image.GetDirection()).reshape(dimension, dimension)
    if not np.allclose(axes.T @ axes, np.eye(dimension), atol=1e-3):
        raise not_orthonormal(path)
    image, value_notes = clean_values(path, image, allow_constant)
    if image.GetPixelID() == sitk.sitkInt8:  # of which Slicer writes no volumes
        image = sitk.Cast(image, sitk.sitkInt16)
    notes = [*notes, *value_notes]
    if spacing_mm is None and plane_spacing_mm is not None:
        if as_2d(image) is not None:
            # One number stands for both axes of the plane, not for the thickness.
            spacing_mm = np.broadcast_to(plane_spacing_mm, 2) if np.size(plane_spacing_mm) == 1 else plane_spacing_mm
        else:
            notes.append(VOLUMES_KEEP_THEIR_SPACING)
    if spacing_mm is not None:
        if np.size(spacing_mm) == 2 and as_2d(image) is not None:
            spacing_mm = _on_slice(spacing_mm, image)
        if np.size(spacing_mm) not in (1, dimension):
            raise UsageError(
                f"{path} is {dimension}D and its spacing is given by {np.size(spacing_mm)} numbers; give 1 for all axes, or "
                f"{dimension}, one for each."
            )
        image.SetSpacing(spacing_vector(spacing_mm, dimension))
        known = True
        notes.append(f"pixel spacing {' x '.join(f'{s:g}' for s in image.GetSpacing())} mm given by the user")
    elif not known:
        image.SetSpacing([1.0] * dimension)
        notes.append(UNKNOWN_SPACING)
    if dicom is not None and dicom.aspect != 1:
        aspect_note = _aspect_note(dicom.aspect, image.GetSpacing(), known)
        notes += [aspect_note] if aspect_note else []
    loaded = LoadedImage(image=image, path=path, spacing_known=known, notes=tuple(notes), files=tuple(files))
    if dicom is None:
        return loaded
    if spacing_mm is not None and dicom.acquisition is not None:
        raise ImageError(
            f"{path} states its geometry, a curved transducer's, which another spacing would break; leave out the spacing."
        )
    return replace(loaded, area=dicom.area, acquisition=dicom.acquisition, laterality=dicom.laterality, view=dicom.view)


def is_image_file(path: str | os.PathLike) -> bool:
    """Whether a file in a folder of inputs should be read: by its name, or as DICOM by its content.

    Hidden files, and segmentations (``.seg.nrrd``), which lie beside the images that they belong to, are none.
    """
    path = Path(path)
    name = path.name.lower()
    if name.startswith(".") or name.endswith((".seg.nrrd", ".seg.nhdr")) or not path.is_file():
        return False
    if name.endswith(IMAGE_SUFFIXES):
        return True
    # DICOM files are called anything: IM_0001, 1.2.840.113619.2.5, scan.img.
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


# ---------------------------------------------------------------------------------------------------------- writing


def _check_nifti_written(path: Path) -> None:
    """ITK's NIfTI writer does not say when the disk is full; look whether all is there. Raises `OSError`."""
    try:
        headers.nifti_not_finite(path)
    except ImageError:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None


def write_image(image: sitk.Image, path: str | os.PathLike) -> Path:
    """Write an image; the suffix of the name says the format. The file is there whole or not at all.

    NRRD (.nrrd, .seg.nrrd), MetaImage (.mha) and NIfTI (.nii, .nii.gz) hold every image with its grid (NIfTI: to seven
    digits). PNG, BMP, TIFF and JPEG hold the pixels of a 2D image or single slice, no grid: PNG and TIFF uint8 or
    uint16, TIFF also float32, BMP and JPEG uint8.

    Raises
    ------
    OutputError : the format cannot hold the image, or the file cannot be written.
    """
    path = Path(path)
    name = path.name.lower()
    if name.endswith((".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg")):
        from .picture import write_picture

        return write_picture(image, path)
    if not name.endswith((".nrrd", ".mha", ".nii", ".nii.gz")):
        cure = "choose .nrrd, .mha, .nii.gz, or .png for a 2D image"
        if name.endswith((".nhdr", ".mhd")):
            cure = "a header apart from its pixels is not written; choose .nrrd or .mha"
        raise OutputError(f"{path} cannot be written as {path.suffix or 'a file without suffix'}; {cure}.")
    with atomic_path(path) as temporary:
        try:
            with quiet():
                sitk.WriteImage(image, str(temporary), name.endswith((".nrrd", ".mha", ".gz")))
        except RuntimeError as error:
            # ITK does not pass on what the system said; a plain write of as many bytes finds out.
            _raise_system_error(temporary, image)
            reason = str(error).strip().splitlines()[-1]
            raise OutputError(f"{path} cannot be written ({reason}); choose another format or folder.") from error
        if name.endswith((".nii", ".nii.gz")):
            _check_nifti_written(temporary)
    return path


def _raise_system_error(temporary: Path, image: sitk.Image) -> None:
    """Raise the `OSError` that stands against a file of this size at this place, if there is one."""
    with temporary.open("wb") as stream:
        chunk = bytes(1 << 20)
        for _ in range(image.GetNumberOfPixels() * image.GetSizeOfPixelComponent() // len(chunk) + 1):
            stream.write(chunk)
        stream.flush()
        os.fsync(stream.fileno())
