"""What the headers of NRRD, MetaImage and NIfTI files say, read before ITK touches them.

ITK decides how pixels are decoded; this module looks at what ITK does not tell or mends in silence: whether a spacing
is stated at all, spacings that are not positive, pixel data outside the header's folder, and NIfTI files that end too
early (ITK fills them up) or hold values that are not finite (ITK makes them 0).
"""

from __future__ import annotations

import gzip
import math
import os
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import ImageError

# Bytes of a line of a NRRD header. Over longer ones, and over fields that it does not know, ITK's reader may end the process.
_FIELD, _LONG_FIELD = 500, 2000
_META_DIMENSIONS, _META_FILES = 10, 100_000
# How many values a field has: the number of dimensions to this power.
_META_COUNTS = dict.fromkeys(("DimSize", "ElementSpacing", "ElementSize", "Offset", "Position", "Origin", "CenterOfRotation"), 1)
_META_COUNTS |= dict.fromkeys(("TransformMatrix", "Rotation", "Orientation"), 2)
_NRRD_FIELDS = set(
    "content number type blocksize dimension space spacedimension sizes spacings thicknesses axismins axismaxs centers centerings "
    "labels units kinds min max oldmin oldmax endian encoding lineskip byteskip sampleunits spaceunits spaceorigin "
    "measurementframe spacedirections datafile".split()
)
_NRRD_ENCODINGS = ("raw", "txt", "text", "ascii", "hex", "gz", "gzip")  # that ITK decodes
# Spaces with time of other directions than LPS.
_NRRD_TO_LPS = dict.fromkeys(("right-anterior-superior-time", "rast"), (-1, -1, 1))
_NRRD_TO_LPS |= dict.fromkeys(("left-anterior-superior-time", "last"), (1, -1, 1))
_NIFTI_TYPES = (2, 4, 8, 16, 64, 128, 256, 512, 768, 1024, 1280, 2304)  # of pixels that ITK reads
_NIFTI_FLOAT128 = 1536
_PATTERN = re.compile(r"[^%]*%0?\d{0,2}d[^%]*")  # of file names, which ITK's reader hands to sprintf
_OFFSET_LIMIT = 1 << 48  # bytes; no file is as long
_HEADER_LIMIT = 4 << 20  # bytes; longer text headers do not occur (a LIST of 10,000 long file names is 1 MB)
# Both characters in use for micro: the micro sign and the Greek letter.
_MM = {"m": 1e3, "cm": 10.0, "mm": 1.0, "um": 1e-3, "\u00b5m": 1e-3, "\u03bcm": 1e-3, "nm": 1e-6, "in": 25.4}
_MM |= {"micron": 1e-3, "microns": 1e-3, "inch": 25.4, "inches": 25.4}
for _prefix, _mm in (("", 1e3), ("centi", 10.0), ("milli", 1.0), ("micro", 1e-3), ("nano", 1e-6)):
    _MM |= {f"{_prefix}{word}": _mm for word in ("meter", "meters", "metre", "metres")}

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
"""Of files that are DICOM though they leave out the preamble by which it is known."""


@dataclass(frozen=True)
class Header:
    """size: pixels along each axis, without those of 1 that come last after the third. components: values a pixel. spacing: mm as
    stated, or None where the file states none, or in a unit that is not known. notes: sentences for the reader. to_mm: what ITK's
    spacing and origin, which are the bare numbers of the file, must be multiplied by to be in mm. to_lps: the sign of each axis of
    space by which ITK's positions become LPS, where ITK sees to that in 3D alone. not_read: why ITK will not read a file that may
    well be whole, and the cure; None where nothing stands against it."""

    size: tuple[int, ...]
    spacing: tuple[float, ...] | None
    components: int = 1
    notes: tuple[str, ...] = ()
    to_mm: float = 1.0
    data_files: tuple[Path, ...] = ()
    to_lps: tuple[int, int, int] = (1, 1, 1)
    not_read: str | None = None


def data_files(path: Path) -> tuple[Path, ...]:
    """The files that hold the pixels of a header (.nhdr, .mhd), in their order; empty for every other file.

    Raises
    ------
    ImageError : the header makes no sense.
    OSError : it cannot be read.
    """
    readers = {".nhdr": (read_nrrd_header, r"NRRD\d"), ".nrrd": (read_nrrd_header, r"NRRD\d"), ".mhd": (read_meta_header, r"[^\0]*?^\s*NDims\s*=")}
    reader, begins = readers.get(path.suffix.lower(), (None, ""))
    # An image of another kind under such a name is read by its content, and holds its pixels itself.
    return () if reader is None or not re.match(begins, _text(path), re.MULTILINE) else reader(path).data_files


def _malformed(path: Path, what: str) -> ImageError:
    return ImageError(f"{path} has a header that makes no sense ({what}); export the image again.")


def _text(path: Path) -> str:
    with path.open("rb") as stream:
        return stream.read(_HEADER_LIMIT).decode("latin-1")


def _numbers(path: Path, key: str, text: str, kind=float) -> tuple:
    try:
        return tuple(kind(word) for word in text.split())
    except ValueError:
        raise _malformed(path, f"{key}: {text[:60]}") from None


def _data_files(path: Path, names: list[str], numbers: Sequence[int] = ()) -> tuple[Path, ...]:
    """The files with its pixels that a header names; one from a stranger must not make us read elsewhere.

    numbers : first, last and step of the numbers that a pattern of names stands for.
    """
    folder = path.parent.resolve()
    for name in names:
        if "\0" in name or len(name) > _LONG_FIELD or ("%" in name and not _PATTERN.fullmatch(name)):
            raise _malformed(path, f"data file: {name[:60]!r}")
        target = (folder / name.replace("\\", "/")).resolve()
        if not target.is_relative_to(folder) or re.match(r"[A-Za-z]:", name):
            raise ImageError(
                f"{path} takes its pixels from {name}, which lies outside its folder; "
                "for safety that is refused: put both files into one folder and correct the name in the header."
            )
        if "%" not in name and not os.path.isfile(target):  # Path.is_file raises where a name is too long
            raise ImageError(f"{path} takes its pixels from {name}, which does not exist; put it beside the header.")
    if numbers and numbers[2] and len(names) == 1 and "%" in names[0]:
        first, last, step = numbers[:3]
        count = min((last - first) // step + 1, _META_FILES)
        names = [names[0] % (first + i * step) for i in range(count)]
    return tuple(path.parent / name.replace("\\", "/") for name in names)


def _to_mm(units: list[str]) -> tuple[float | None, tuple[str, ...]]:
    """The mm in the unit of a header's lengths, and notes; None for a unit that is not known, or several of them.

    No unit at all, or one left open, is mm, as everywhere in medical imaging.
    """
    stated = set()
    for unit in units:
        try:
            unit = unit.encode("latin-1").decode("utf-8")  # headers are taken for Latin-1, of which all bytes are
        except UnicodeError:
            pass
        stated.add(unit.strip())
    stated -= {"", "?", "???"}
    factors = {_MM.get(unit, _MM.get(unit.lower())) for unit in stated} or {1.0}
    listed = ", ".join(sorted(stated))
    if len(factors) > 1 or None in factors:
        return None, (f"the file gives lengths in {listed}, which is not understood",)
    factor = factors.pop()
    return factor, () if factor == 1 else (f"the file gives lengths in {listed}; they are converted to mm",)


def _without_last_ones(size: Sequence[int]) -> tuple[int, ...]:
    """Sizes without the axes of 1 that come last after the third, which hold no further pixels."""
    kept = len(size)
    while kept > 3 and size[kept - 1] == 1:
        kept -= 1
    return tuple(size[:kept])


def _list_after(text: str, position: int) -> list[str]:
    return [line.strip() for line in text[position:].splitlines() if line.strip()]


def _check_nrrd_lines(path: Path, text: str) -> None:
    """Refuse what ITK's reader might not survive: lines that are no fields, and fields that are far too long."""
    for line in text.split("\n")[1:]:  # not splitlines: bytes that it splits at may be letters
        if line.startswith("#") or ":=" in line or not line.strip():
            continue
        name = line.partition(":")[0].strip().lower().replace(" ", "")
        limit = _LONG_FIELD if name in ("content", "labels", "datafile") else _FIELD
        if ":" not in line or name not in _NRRD_FIELDS or len(line) > limit:
            raise _malformed(path, f"the line {line[:60]!r}")
        if name == "datafile":
            return  # what follows are names of files, which have a check of their own


def _check_no_series(path: Path, text: str, sizes: Sequence[int], kinds: Sequence[str]) -> None:
    """Refuse images one after the other in one NRRD, which must not be taken for the colours of one, or for slices.

    Slicer writes sequences, and layers of overlapping segments, with an axis of the kind "list". The colours of its volumes have the
    kinds "RGB-color" and "RGBA-color", those of SimpleITK "vector".
    """
    count = math.prod(n for n, kind in zip(sizes, kinds, strict=True) if kind.lower() in ("list", "time"))
    if count <= 1:
        return
    if re.search(r"^Segment\w*:=", text, re.MULTILINE):
        raise ImageError(
            f"{path} is a segmentation of {count} layers, whose segments overlap; save each segment by itself (in 3D Slicer: export it to a labelmap)."
        )
    raise ImageError(
        f'{path} holds {count} images one after the other, as a sequence of 3D Slicer does (an axis of the kind "list" or "time"); save the one '
        "that you want by itself (in 3D Slicer: choose it in the sequence browser and export its volume)."
    )


def _nrrd_not_read(encoding: str, axes: int, vectors: Sequence[str]) -> str | None:
    """Why ITK will not read a NRRD, by its encoding, and by its axes of pixels and the vectors of them."""
    if encoding and encoding.lower() not in _NRRD_ENCODINGS:
        return f"has its pixels in the encoding {encoding[:60]}, which is not read; save it as gzip or raw"
    space = next((len(v.split(",")) for v in vectors if v != "none"), axes)
    if axes != space:
        return f"has {axes} axes of pixels in a space of {space} dimensions, which is not read; save it as a 3D volume"
    return None


def read_nrrd_header(path: Path) -> Header:
    """The header of a .nrrd, .nhdr or .seg.nrrd file (NRRD0001 to NRRD0005)."""
    text = re.split(r"\r?\n\r?\n", _text(path), maxsplit=1)[0]
    _check_nrrd_lines(path, text)
    fields: dict[str, str] = {}
    names: list[str] = []
    numbers: tuple[int, ...] = ()
    for match in re.finditer(r"^([A-Za-z][\w ()-]*?)\s*: ([^\r\n]*)", text, re.MULTILINE):
        key, value = match[1].lower().replace("datafile", "data file"), match[2].strip()
        fields[key] = value
        if key == "data file":
            if "%" in value and not re.fullmatch(r"\S+( -?\d{1,6}){3}( \d)?", value):
                raise _malformed(path, f"data file: {value[:60]!r}")
            # A list of names follows; or one pattern with its numbers ("slice%03d.raw 1 20 1"); or one name.
            if value.split()[:1] == ["LIST"]:
                names = _list_after(text, match.end())
                break
            names = [value.split()[0] if "%" in value else value]
            numbers = tuple(map(int, value.split()[1:4])) if "%" in value else ()
    files = _data_files(path, names, numbers)
    if "sizes" not in fields:
        raise _malformed(path, "no sizes")
    sizes = _numbers(path, "sizes", fields["sizes"], int)
    kinds = fields.get("kinds", "").split() or ["domain"] * len(sizes)
    vectors = re.findall(r"none|\([^)]*\)", fields.get("space directions", ""))
    if len(kinds) != len(sizes) or (vectors and len(vectors) != len(sizes)):
        raise _malformed(path, "fields of different lengths")
    if any("complex" in kind for kind in kinds):
        raise ImageError(f"{path} holds complex numbers; save their magnitude as an image.")
    _check_no_series(path, text, sizes, kinds)
    spatial = [a for a, kind in enumerate(kinds) if kind in ("domain", "space", "time", "???", "none")]
    not_read = _nrrd_not_read(fields.get("encoding", ""), len(spatial), vectors)
    spatial = [a for a in spatial if not (vectors and vectors[a] == "none" and kinds[a] == "???")]
    size = _without_last_ones([sizes[a] for a in spatial])
    spacing = None
    if vectors:
        rows = [
            _numbers(path, "space directions", vectors[a].strip("()").replace(",", " ").replace("none", "nan"))
            for a in spatial
        ]
        spacing = tuple(math.hypot(*row) for row in rows)
    elif "spacings" in fields:
        values = _numbers(path, "spacings", fields["spacings"])
        if len(values) != len(sizes):
            raise _malformed(path, "fields of different lengths")
        spacing = tuple(values[a] for a in spatial)
    if spacing is not None and any(math.isnan(s) for s in spacing[: len(size)]):
        spacing = None
    # One of an axis that is left out may be missing, but must not be impossible, as ITK looks at it.
    spacing = spacing and tuple(s for s in spacing if not math.isnan(s))
    if "space units" in fields:  # of the axes of space
        units = re.findall(r'"([^"]*)"', fields["space units"])[: len(size)]
    else:  # of the axes of the array
        units = re.findall(r'"([^"]*)"', fields.get("units", ""))
        units = [units[a] for a in spatial[: len(size)]] if len(units) == len(sizes) else units
    to_mm, notes = _to_mm(units)
    spacing = None if spacing is None or to_mm is None else tuple(s * to_mm for s in spacing)
    return Header(
        size=size,
        spacing=spacing,
        components=math.prod(n for a, n in enumerate(sizes) if a not in spatial),
        notes=notes,
        to_mm=to_mm or 1.0,
        data_files=files,
        to_lps=_NRRD_TO_LPS.get(fields.get("space", "").lower(), (1, 1, 1)),
        not_read=not_read,
    )


def _check_meta_fields(path: Path, fields: dict[str, str]) -> None:
    """Refuse what ITK's reader does not survive: numbers of values that do not go with the number of dimensions."""
    (dimensions,) = _numbers(path, "NDims", fields.get("NDims", ""), int) or (0,)
    if not 1 <= dimensions <= _META_DIMENSIONS:
        raise _malformed(path, f"{fields.get('NDims', 'no')[:60]} dimensions")
    for name, value in fields.items():
        power = _META_COUNTS.get(name)
        if power is not None and len(_numbers(path, name, value)) != dimensions**power:
            raise _malformed(path, f"{name}: {value[:60]!r}")
        if len(value) > _FIELD and name not in ("Name", "Comment", "ElementDataFile"):
            raise _malformed(path, f"a field of {len(value)} characters")
    data = fields["ElementDataFile"].split()
    if "%" in fields["ElementDataFile"]:
        numbers = _numbers(path, "ElementDataFile", " ".join(data[1:4]), int)
        if len(data) != 4 or numbers[2] < 1 or not 0 <= numbers[1] - numbers[0] < _META_FILES:
            raise _malformed(path, f"ElementDataFile: {fields['ElementDataFile'][:60]!r}")


def _check_zlib(path: Path, file: Path, offset: int) -> None:
    """Refuse a damaged stream of compressed pixels, over which ITK's reader never comes to an end."""
    inflate = zlib.decompressobj(wbits=47)  # zlib or gzip, as ITK's reader
    try:
        with file.open("rb") as stream:
            stream.seek(offset)
            while not inflate.eof and (chunk := stream.read(1 << 18)):
                while chunk and not inflate.eof:
                    inflate.decompress(chunk, 1 << 24)  # a piece at a time, however much it would become
                    chunk = inflate.unconsumed_tail
    except (OSError, zlib.error):
        raise ImageError(f"{path} is damaged or incomplete; copy or export it again.") from None
    if not inflate.eof:
        raise ImageError(f"{path} is damaged or incomplete; copy or export it again.")


def read_meta_header(path: Path) -> Header:
    """The header of a .mha or .mhd file."""
    text = _text(path)
    fields: dict[str, str] = {}
    for match in re.finditer(r"^\s*(\w+)[ \t]*=[ \t]*([^\r\n]*)", text, re.MULTILINE):
        fields[match[1]] = match[2].strip()
        if match[1] == "ElementDataFile":
            break
    if "DimSize" not in fields or "ElementDataFile" not in fields:
        raise _malformed(path, "no DimSize or ElementDataFile")
    _check_meta_fields(path, fields)
    data = fields["ElementDataFile"]
    files: tuple[Path, ...] = ()
    if data.split()[:1] == ["LIST"]:
        files = _data_files(path, _list_after(text, match.end()))
    elif data.upper() != "LOCAL":
        pattern = data.split()
        numbers = tuple(map(int, pattern[1:4])) if "%" in data else ()
        files = _data_files(path, [pattern[0] if "%" in data else data], numbers)
    if fields.get("CompressedData", "").lower().startswith("t"):
        local = data.upper() == "LOCAL"
        _check_zlib(path, path if local else path.parent / data, text.find("\n", match.end()) + 1 if local else 0)
    size = _numbers(path, "DimSize", fields["DimSize"], int)
    stated = fields.get("ElementSpacing", fields.get("ElementSize"))
    spacing = None if stated is None else _numbers(path, "ElementSpacing", stated)
    to_mm, notes = _to_mm([fields.get("DistanceUnits", "")])
    return Header(
        size=_without_last_ones(size),
        spacing=None if spacing is None or to_mm is None else tuple(s * to_mm for s in spacing),
        components=(_numbers(path, "channels", fields.get("ElementNumberOfChannels", "1"), int) or (1,))[0],
        notes=notes,
        to_mm=to_mm or 1.0,
        data_files=files,
    )


@dataclass(frozen=True)
class _Nifti:
    order: str
    dim: tuple[int, ...]
    datatype: int
    bits: int
    pixdim: tuple[float, ...]
    offset: int


def _open(path: Path):
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else path.open("rb")


def _nifti_fields(path: Path) -> _Nifti:
    # Byte positions after nifti1.h (348 bytes) and nifti2.h (540 bytes).
    try:
        with _open(path) as stream:
            raw = stream.read(540)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ImageError(f"{path} is damaged or incomplete; copy or export it again.") from error
    for order in "<>":
        length = struct.unpack_from(order + "i", raw)[0] if len(raw) >= 4 else 0
        if length == 348 and len(raw) >= 348:
            dim = struct.unpack_from(order + "8h", raw, 40)
            datatype, bits = struct.unpack_from(order + "2h", raw, 70)
            pixdim = struct.unpack_from(order + "8f", raw, 76)
            offset = struct.unpack_from(order + "f", raw, 108)[0]
        elif length == 540 and len(raw) >= 540:
            datatype, bits = struct.unpack_from(order + "2h", raw, 12)
            dim = struct.unpack_from(order + "8q", raw, 16)
            pixdim = struct.unpack_from(order + "8d", raw, 104)
            offset = struct.unpack_from(order + "q", raw, 168)[0]
        else:
            continue
        if not 1 <= dim[0] <= 7:
            raise _malformed(path, f"{dim[0]} dimensions")
        if not -_OFFSET_LIMIT < offset < _OFFSET_LIMIT:  # False for NaN as well
            raise _malformed(path, f"pixels from byte {offset:g} on")
        return _Nifti(order, dim[1 : dim[0] + 1], datatype, bits, pixdim[1 : dim[0] + 1], int(offset))
    raise ImageError(f"{path} is damaged or incomplete; copy or export it again.")


def read_nifti_header(path: Path) -> Header:
    """The header of a .nii or .nii.gz file (NIfTI-1 and NIfTI-2); axes of size 1 after the third are dropped."""
    fields = _nifti_fields(path)
    size, pixdim = list(fields.dim), list(fields.pixdim)
    components = 1
    if len(size) == 5 and size[3] == 1 and size[4] > 1:  # the fifth axis holds the components of vectors
        components = size.pop()
    size = _without_last_ones(size)
    if fields.datatype in (32, 1792, 2048):
        raise ImageError(f"{path} holds complex numbers; save their magnitude as an image.")
    spacing = tuple(pixdim[: len(size)])
    not_read = None
    if fields.datatype not in _NIFTI_TYPES:
        named = " (128-bit floats)" if fields.datatype == _NIFTI_FLOAT128 else ""
        not_read = f"has pixels of the NIfTI datatype {fields.datatype}{named}, which is not read; save them as 32-bit floats"
    elif len(size) == 2:
        not_read = "is a 2D image that does not lie in the plane of x and y, which is not read; save it as a volume of one slice"
    return Header(size, None if all(s == 0 for s in spacing) else spacing, components, not_read=not_read)


def nifti_not_finite(path: Path) -> np.ndarray | None:
    """Check that all pixels of a NIfTI file are there, and find those that are not finite.

    Returns
    -------
    bool array (z, y, x), True where a value is NaN or infinite, in the file's order; None when all are finite (always,
    for integer pixels).

    Raises
    ------
    ImageError : the file ends before its last pixel.
    """
    fields = _nifti_fields(path)
    expected = math.prod(fields.dim) * fields.bits // 8
    floats = {16: "f4", 64: "f8"}.get(fields.datatype)
    try:
        with _open(path) as stream:
            stream.seek(max(fields.offset, 0))
            if floats:
                data = stream.read(expected)
                found = len(data)
            else:
                data, found = b"", 0
                while found < expected and (chunk := stream.read(min(1 << 24, expected - found))):
                    found += len(chunk)
            stream.read(1)  # a gzip stream checks its sum at the end
    except (EOFError, zlib.error, gzip.BadGzipFile):
        found = -1
    if found < expected:
        raise ImageError(f"{path} is damaged or incomplete; copy or export it again.")
    if not floats:
        return None
    bad = ~np.isfinite(np.frombuffer(data, dtype=fields.order + floats))
    return bad.reshape(fields.dim[::-1]) if bad.any() else None
