"""The records that flow through BreastUSAI: :class:`Finding` and :class:`Study`, and their JSON.

Physical space is LPS in millimetres throughout. Records are immutable: a task takes findings and returns richer
copies (``dataclasses.replace``). Pixel data (masks, heatmaps) travel with the records in memory and are written
beside the JSON as image files, never inside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import DataError, in_words

if TYPE_CHECKING:
    import SimpleITK as sitk

    from .acquisition import CurvedAcquisition

SCHEMA = "breastusai/study/1.0"
REVIEWS = "reviews"
"""In the provenance of what a reader looked through: finding -> verdict and note (`review.with_reviews`)."""
REJECTED = "rejected"
"""The verdict on a finding that a reader left out."""
EDITED = "The outline was edited by a person"
"""How the note of a finding begins whose outline a person changed (`review.with_edits`)."""
PEAK = ("peak_x", "peak_y", "peak_z")  # in a finding's evidence: where its heat is greatest, LPS mm
BIRADS_CATEGORIES = ("3", "4A", "4B", "4C", "5")
_SCHEMA_FILE = Path(__file__).parent / "schemas" / "study-1.0.schema.json"


def _check_probability(name: str, value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and 0.0 <= value <= 1.0):
        raise DataError(f"{name} is {value}; a probability must lie between 0 and 1.")


def _vector(name: str, values: Iterable[float], length: int | None = None) -> tuple[float, ...]:
    vector = tuple(float(v) for v in values)
    if length is not None and len(vector) != length:
        raise DataError(f"{name} has {len(vector)} components; {length} are needed.")
    if not all(math.isfinite(v) for v in vector):
        raise DataError(f"{name} is {vector}; all components must be finite.")
    return vector


@dataclass(frozen=True)
class Box:
    """A box along the axes of its image.

    Attributes
    ----------
    center : (x, y, z) of the centre, LPS, mm. For 2D images z = 0.
    size : extents along the image's first, second and third axis, mm, not negative. For 2D images the third is 0.
    """

    center: tuple[float, float, float]
    size: tuple[float, float, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "center", _vector("box center", self.center, 3))
        object.__setattr__(self, "size", _vector("box size", self.size, 3))
        if min(self.size) < 0:
            raise DataError(f"box size is {self.size}; extents must not be negative.")


@dataclass(frozen=True)
class Finding:
    """One suspected lesion.

    Attributes
    ----------
    id : unique within the study, e.g. ``"L1"``; findings are numbered by falling score.
    box : the lesion's bounding box.
    score : detection score, 0 to 1.
    malignancy, solid_nodule : probabilities, or None where not computed.
    birads : probability of each of 3, 4A, 4B, 4C, 5 (keys of `BIRADS_CATEGORIES`), or None.
    mask : uint8 ``SimpleITK.Image`` on the input's grid (1 inside, 0 outside), or None. Not part of the JSON.
    label : the lesion's value in ``lesions.seg.nrrd``, or None when there is no mask.
    measurements : figures with their units in the names (``area_mm2``); None for what could not be measured.
    evidence : figures behind the finding: statistics of the heatmap inside the box; what each task and system says by itself, and the
        probabilities of descriptors (`grade_terms`).
    models : task (``"segment"``) -> id of the model that said so.
    notes : sentences for the reader, e.g. that the refinement was not used and why.
    """

    id: str
    box: Box
    score: float
    malignancy: float | None = None
    birads: Mapping[str, float] | None = None
    solid_nodule: float | None = None
    mask: sitk.Image | None = field(default=None, compare=False, repr=False)
    label: int | None = None
    measurements: Mapping[str, float | None] = field(default_factory=dict)
    evidence: Mapping[str, float] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.id:
            raise DataError("a finding needs an id.")
        _check_probability(f"score of {self.id}", self.score)
        _check_probability(f"malignancy of {self.id}", self.malignancy)
        _check_probability(f"solid_nodule of {self.id}", self.solid_nodule)
        if self.birads is not None:
            unknown = set(self.birads) - set(BIRADS_CATEGORIES)
            if unknown:
                raise DataError(f"BI-RADS categories {sorted(unknown)} of {self.id} are not among {BIRADS_CATEGORIES}.")
            for category, value in self.birads.items():
                _check_probability(f"BI-RADS {category} of {self.id}", value)
        object.__setattr__(self, "notes", tuple(self.notes))

    @property
    def outline_edited(self) -> bool:
        """Whether a person changed the outline that a model drew."""
        return any(note.startswith(EDITED) for note in self.notes)

    def to_dict(self) -> dict[str, Any]:
        """The finding as it stands in study.json (without the mask)."""
        return {
            "id": self.id,
            "box": {"center": list(self.box.center), "size": list(self.box.size)},
            "score": self.score,
            "malignancy": self.malignancy,
            "birads": None if self.birads is None else dict(self.birads),
            "solid_nodule": self.solid_nodule,
            "label": self.label,
            "measurements": dict(self.measurements),
            "evidence": dict(self.evidence),
            "models": dict(self.models),
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Finding:
        fields = {k: v for k, v in data.items() if k not in ("box", "physical_box", "notes")}
        return cls(box=Box(**data["box"]), notes=tuple(data.get("notes", ())), **fields)


@dataclass(frozen=True)
class ImageInfo:
    """The identity and the physical grid of an image.

    Attributes
    ----------
    path : where the image was read from, or a name for images that came from memory.
    size : number of pixels along each axis (x, y[, z]).
    spacing : mm between pixel centres; 1 for all axes when `spacing_known` is False.
    origin : LPS position of the first pixel's centre, mm.
    direction : the direction cosines, row by row (4 numbers in 2D, 9 in 3D).
    spacing_known : whether the file says what a pixel measures; when False, "mm" are pixels.
    acquisition : where the voxels lie in the body, for volumes of a curved transducer, whose grid is not there; else None.
    laterality : "R", "L", "B" (both), or None where it is not known which breast it is.
    view : "AP", "LAT", "MED", "SUP", "INF", or None where it is not known from which side.
    """

    path: str
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    spacing_known: bool = True
    acquisition: CurvedAcquisition | None = None
    laterality: str | None = None
    view: str | None = None

    def __post_init__(self) -> None:
        dimension = len(tuple(self.size))
        if dimension not in (2, 3):
            raise DataError(f"image {self.path} has {dimension} dimensions; 2 or 3 are needed.")
        object.__setattr__(self, "size", tuple(int(v) for v in self.size))
        object.__setattr__(self, "spacing", _vector("spacing", self.spacing, dimension))
        object.__setattr__(self, "origin", _vector("origin", self.origin, dimension))
        object.__setattr__(self, "direction", _vector("direction", self.direction, dimension**2))

    @classmethod
    def of(cls, image: sitk.Image, path: str, spacing_known: bool = True) -> ImageInfo:
        """The record of a ``SimpleITK.Image``."""
        return cls(path, image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection(), spacing_known)

    @property
    def dimension(self) -> int:
        return len(self.size)

    def place(self, point: Sequence[float]) -> tuple[float, float, float]:
        """A point (x, y, z) as it is told to a person: LPS, mm; where the spacing is not known the index, in pixels from the first one's
        centre along the image's axes, as millimetres from where the file says that it lies and pixels make no sum."""
        point = tuple(float(v) for v in point)
        if self.spacing_known:
            return point
        d = self.dimension
        offset = [p - o for p, o in zip(point[:d], self.origin, strict=True)]
        return (*(sum(self.direction[row * d + axis] * offset[row] for row in range(d)) for axis in range(d)), *point[d:])

    def told_evidence(self, evidence: Mapping[str, Any]) -> dict[str, Any]:
        """A finding's evidence as it is told to a person: the peak of its heat, where it has one, by its `place`."""
        if any(evidence.get(name) is None for name in PEAK):
            return dict(evidence)
        return {**evidence, **dict(zip(PEAK, self.place([evidence[name] for name in PEAK]), strict=True))}

    def to_dict(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "size": list(self.size),
            "spacing": list(self.spacing),
            "origin": list(self.origin),
            "direction": list(self.direction),
            "spacing_known": self.spacing_known,
            "acquisition": None if self.acquisition is None else self.acquisition.to_dict(),
            "laterality": self.laterality,
            "view": self.view,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ImageInfo:
        plain = {k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in data.items()}
        curved = plain.pop("acquisition", None)  # absent from studies of versions before
        if curved is None:
            return cls(**plain)
        from .acquisition import CurvedAcquisition  # numpy, which the command line's help does without

        return cls(**plain, acquisition=CurvedAcquisition.from_dict(curved))


@dataclass(frozen=True)
class Study:
    """One image and everything that was found in it.

    Attributes
    ----------
    image : the image's identity and grid.
    findings : by falling score; empty when nothing was found, which is an ordinary result.
    heatmap : float32 ``SimpleITK.Image`` on the input's grid, or None. Not part of the JSON.
    provenance : JSON-serialisable record of how this came about: ``created`` (ISO 8601 with the offset from UTC), ``software`` (package ->
        version), ``models`` (list of id, version, sha256, task), ``device`` (name, reason), ``options``,
        ``seconds`` (step -> s), ``notes`` (sentences about the input).
    activation : where the grading networks looked: uint8 ``SimpleITK.Image`` on the input's grid, percent of each map's
        greatest value, 0 where none looked; or None. Not part of the JSON.
    uncertainty : of a volume, how far the mirror images of what the outlining network looked at differ: uint8 ``SimpleITK.Image`` on the input's grid,
        the standard deviation of its probability in percent, 0 to 50, 0 where it did not look; or None. Not part of the JSON.
    """

    image: ImageInfo
    findings: tuple[Finding, ...] = ()
    heatmap: sitk.Image | None = field(default=None, compare=False, repr=False)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    activation: sitk.Image | None = field(default=None, compare=False, repr=False)
    uncertainty: sitk.Image | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "findings", tuple(self.findings))
        ids = [f.id for f in self.findings]
        if len(set(ids)) != len(ids):
            raise DataError(f"the finding ids {ids} of {self.image.path} are not unique.")

    @property
    def summary(self) -> str:
        """One sentence for a person: what was found."""
        n = len(self.findings)
        if n == 0 and self.rejected:
            return f"No lesion left: the reader rejected {'the one' if self.rejected == 1 else f'all {self.rejected}'} that {'was' if self.rejected == 1 else 'were'} found."
        if n == 0:
            return "No lesion found."
        return f"{n} lesion{'s' if n > 1 else ''} found."

    @property
    def rejected(self) -> int:
        """How many findings a reader rejected, and are not among `findings` any more."""
        left = {finding.id for finding in self.findings}
        reviews = self.provenance.get(REVIEWS)
        if not isinstance(reviews, Mapping):
            return 0
        return sum(isinstance(r, Mapping) and r.get("verdict") == REJECTED for i, r in reviews.items() if i not in left)

    def physical_box(self, finding: Finding) -> Box:
        """Where a finding lies in the body, LPS mm, and how large it is there.

        The finding's own box, except in volumes of a curved transducer: see `CurvedAcquisition.physical_extent`.
        """
        acquisition = self.image.acquisition
        if acquisition is None:
            return finding.box
        center, size = acquisition.physical_extent(finding.box.center, finding.box.size)
        return Box(tuple(center), tuple(size))

    def _finding_dict(self, finding: Finding) -> dict[str, Any]:
        data = finding.to_dict()
        if self.image.acquisition is not None:
            box = self.physical_box(finding)
            data["physical_box"] = {"center": list(box.center), "size": list(box.size)}
        return data

    def label_image(self) -> sitk.Image | None:
        """All masks in one uint8 label image on the input's grid, or None when no finding has a mask.

        Where masks overlap the finding with the higher score, which stands first, wins.
        """
        import SimpleITK as sitk

        labels = None
        for finding in reversed(self.findings):
            if finding.mask is None or finding.label is None:
                continue
            if labels is None:
                labels = sitk.Image(finding.mask.GetSize(), sitk.sitkUInt8)
                labels.CopyInformation(finding.mask)
            inside = sitk.Cast(finding.mask != 0, sitk.sitkUInt8)
            labels = labels * (1 - inside) + inside * finding.label
        return labels

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "image": self.image.to_dict(),
            "findings": [self._finding_dict(f) for f in self.findings],
            "provenance": dict(self.provenance),
        }

    def to_json(self) -> str:
        """The study after the published schema (``schemas/study-1.0.schema.json``)."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, labels: sitk.Image | None = None, source: str = "study.json") -> Study:
        """Read a study back.

        Parameters
        ----------
        text : what `to_json` wrote.
        labels : the label image that belongs to it; each finding gets its mask from it.
        source : the file's name, for error messages.

        Raises
        ------
        DataError : not JSON, another schema, or values that are out of range.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{source} is not JSON ({error}); analyse the input again (breastusai run: with --overwrite).") from error
        found = data.get("schema") if isinstance(data, dict) else None
        if found != SCHEMA:
            raise DataError(f"{source} has the schema {found!r}; this version of BreastUSAI reads {SCHEMA!r}.")
        try:
            findings = [Finding.from_dict(f) for f in data["findings"]]
            image = ImageInfo.from_dict(data["image"])
            provenance = data["provenance"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{source} does not follow the schema {SCHEMA} ({in_words(error)}).") from error
        if labels is not None:
            from dataclasses import replace

            import SimpleITK as sitk

            findings = [
                f if f.label is None else replace(f, mask=sitk.Cast(labels == f.label, sitk.sitkUInt8))
                for f in findings
            ]
        return cls(image=image, findings=tuple(findings), provenance=provenance)


def study_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of study.json."""
    return json.loads(_SCHEMA_FILE.read_text(encoding="utf-8"))
