"""The lesion's outline in each labelled image, as the annotation has it or as the segmentation finds it; the latter is kept on disk.

Segmenting an image takes a quarter of a second and grading is trained, chosen and measured many times on the same outlines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atomic import atomic_path, output_error, write_text
from ..errors import UsageError, in_words
from ..identity import identity
from .segmentation_data import Case, load_pixels

if TYPE_CHECKING:
    from ..models.zoo import LoadedModel

OUTLINES = ("true", "refined", "unrefined", "none")
"""The annotation; what ROI-CNN finds with and without Chan-Vese; nothing, so that the whole image is looked at (the paper's
"Refined", "No Refined" and "No ROI-CNN"). A network of `train grade --one-stage` looks at the whole image whichever it is."""


def largest_part(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask (H, W) bool; an empty one stays."""
    from scipy import ndimage

    labels, count = ndimage.label(mask, np.ones((3, 3)))
    if count < 2:
        return mask
    return labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))


@dataclass
class FoundOutlines:
    """What a segmentation model finds, image by image, kept in `folder` as PNG files; those of another model, or of the same with other
    settings after it (threshold, refiner, ...), are refused. An image goes by its bytes, too: another data set's of the same name, or one
    that was changed, is segmented itself.

    Attributes
    ----------
    model : ROI-CNN.
    folder : where the masks lie; None: nothing is kept.
    """

    model: LoadedModel
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.folder is None:
            return
        about, said = self.folder / "outlines.json", self.about
        if about.is_file():
            try:
                kept = json.loads(about.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise UsageError(
                    f"{about} does not say whose outlines {self.folder} holds ({in_words(error)}); delete the folder, or choose another one."
                ) from error
            if kept != said:
                raise UsageError(
                    f"{self.folder} holds the outlines of another segmentation model, or of the same with other settings; choose another folder or delete it."
                )
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(self.folder, error) from error
        write_text(about, json.dumps(said) + "\n")

    @property
    def about(self) -> dict[str, Any]:
        """What the outlines depend on beside the image: the model, its weights' SHA-256 and what follows its network."""
        entry = self.model.entry
        return {"model": entry.id, "sha256": entry.sha256, "settings": json.loads(json.dumps(dict(entry.postprocessing)))}

    def of(self, case: Case, refine: bool = True) -> np.ndarray:
        """(H, W) bool; empty where nothing is found."""
        from PIL import Image

        path = None
        if self.folder is not None:
            name = f"{case.id}-{identity(case.image)['sha256'][:16]}.png"
            path = self.folder / ("refined" if refine else "unrefined") / case.source / name
            if path.is_file():
                return np.asarray(Image.open(path)) > 0
        mask = self._segment(case, refine)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                Image.fromarray(mask.astype(np.uint8) * 255).save(temporary, format="PNG")
        return mask

    def _segment(self, case: Case, refine: bool) -> np.ndarray:
        import SimpleITK as sitk

        from ..image import as_2d, read_image
        from ..segment import SegmentOptions, segment_2d

        loaded = read_image(case.image)
        plane = as_2d(loaded.image)
        findings, _ = segment_2d(
            plane, self.model, SegmentOptions(refine=refine), spacing_known=False, area=loaded.area
        )
        if not findings:
            return np.zeros(plane.GetSize()[::-1], bool)
        return sitk.GetArrayViewFromImage(findings[0].mask) > 0


def outline(case: Case, which: str, found: FoundOutlines | None) -> np.ndarray:
    """The outline (H, W) bool of one of `OUTLINES`; of several annotated lesions the largest, as the segmentation keeps one.

    `found` may be None for "true" and "none".
    """
    pixels, truth = load_pixels(case)
    if which == "true":
        return largest_part(truth)
    if which == "none":
        return np.zeros(pixels.shape, bool)
    if which not in OUTLINES or found is None:
        raise UsageError(
            f"outline {which!r} is unknown or has no segmentation model; choose one of {', '.join(OUTLINES)}."
        )
    return found.of(case, refine=which == "refined")


def prepare(
    cases: Sequence[Case], outlines: Iterable[str], found: FoundOutlines, progress: Callable[[int], None] | None = None
) -> None:
    """Have those of the cases' outlines that a model finds on disk; `progress` is called with the number of cases that are done."""
    kinds = [which for which in ("refined", "unrefined") if which in set(outlines)]
    for number, case in enumerate(cases, start=1):
        for which in kinds:
            found.of(case, refine=which == "refined")
        if progress is not None:
            progress(number)
