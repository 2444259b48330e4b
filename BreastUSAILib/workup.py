"""The workup: the tasks one after the other on one image, with a record of how the result came about."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from typing import TYPE_CHECKING

from . import __version__
from .errors import BreastUSAIError
from .findings import ImageInfo, Study
from .segment import SegmentOptions, segment_2d

if TYPE_CHECKING:
    from .image import LoadedImage
    from .models.zoo import ModelCache

SOFTWARE = ("torch", "SimpleITK", "numpy", "scikit-image", "slicer-core")


@dataclass(frozen=True)
class WorkupOptions:
    """Choices of the user for a whole workup.

    Attributes
    ----------
    model : segmentation model: an id of the catalogue, a model folder, or "" for the default.
    device : "auto", "cpu", "cuda" or "mps".
    refine, lesions, threshold, minimum_score : see `segment.SegmentOptions`.
    """

    model: str = ""
    device: str = "auto"
    refine: bool = True
    lesions: str = "central"
    threshold: float | None = None
    minimum_score: float | None = None

    def segment(self) -> SegmentOptions:
        return SegmentOptions(self.refine, self.lesions, self.threshold, self.minimum_score)


def software_versions() -> dict[str, str]:
    """BreastUSAI's version and those of the packages that the result depends on, as far as they are installed."""
    versions = {"breastusai": __version__}
    for package in SOFTWARE:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def run_workup(
    loaded: LoadedImage,
    options: WorkupOptions = WorkupOptions(),
    progress: Callable[[float, str], None] | None = None,
    cache: ModelCache | None = None,
) -> Study:
    """Find, outline and measure the lesions of one image.

    Parameters
    ----------
    loaded : from `image.read_image`.
    options : see `WorkupOptions`.
    progress : called with a fraction 0 to 1 and what is being done; may raise `errors.Cancelled`.
    cache : keeps models between images; None loads them for this image alone.

    Raises
    ------
    ImageError, ModelError, UsageError : see `segment.segment_2d` and `models.zoo.load`; the file is named.
    """
    from .models.devices import is_out_of_memory
    from .models.zoo import ModelCache

    def tell(fraction: float, message: str) -> None:
        if progress is not None:
            progress(fraction, message)

    segment_options = options.segment()
    cache = cache if cache is not None else ModelCache()
    seconds: dict[str, float] = {}

    tell(0.0, "loading the model")
    start = time.perf_counter()
    model = cache.get(options.model, "segment", options.device)
    seconds["load_model"] = round(time.perf_counter() - start, 4)

    def segment():
        return segment_2d(
            loaded.image,
            model,
            segment_options,
            spacing_known=loaded.spacing_known,
            area=loaded.area,
            progress=lambda fraction, message: tell(0.1 + 0.9 * fraction, message),
        )

    notes = list(loaded.notes)
    start = time.perf_counter()
    try:
        try:
            findings, more = segment()
        except RuntimeError as error:
            if model.device.name == "cpu" or not is_out_of_memory(error):
                raise
            notes.append(f"the memory of the {model.device.name} device was not enough; the CPU was used")
            tell(0.1, notes[-1])
            model = cache.get(options.model, "segment", "cpu")
            findings, more = segment()
    except BreastUSAIError as error:
        raise type(error)(f"{loaded.path}: {error}") from error
    seconds["segment"] = round(time.perf_counter() - start, 4)

    provenance = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "software": software_versions(),
        "models": [model.provenance()],
        "device": asdict(model.device),
        "options": asdict(options),
        "seconds": seconds,
        "notes": [*notes, *more],
    }
    return Study(ImageInfo.of(loaded.image, str(loaded.path), loaded.spacing_known), findings, provenance=provenance)
