"""2D B-mode images with masks, cut through a phantom as a hand-held probe would: `bmode_slice(seed)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..errors import PhantomError, UsageError
from .acoustics import render
from .acquisition import draw_handheld
from .anatomy import Anatomy, build_anatomy
from .grids import PhantomGrid
from .lesion import LesionPatch
from .lexicon import LesionSpec
from .mass_effect import make_room
from .placement import bounding_box, find_place, fits, visibility
from .randomness import Stream, open_stream
from .scene import Placed, Scene, contrast_db
from .seeds import check_seed
from .spec import DENSITIES, LesionRequest
from .truth import Descriptors
from .volume import DENSITY_SHARES, choose, draw_fitting

if TYPE_CHECKING:
    import SimpleITK as sitk

# The slab around the image plane, from which the beam's thickness is filled: slices and mm between them.
_SLICES, _SLICE_MM = 16, 0.5


@dataclass(frozen=True)
class SliceTruth:
    """The lesion of a B-mode image, exactly as its mask has it.

    Attributes
    ----------
    descriptors, malignant, posterior, category : as in `truth.LesionTruth`; of the lesion, not of the one slice.
    first, last : first and last pixel (x, y) of the bounding box, both included.
    area_mm2 : pixels x pixel area.
    volume_ml : of the whole lesion, as drawn.
    contrast_db : mean echo of the whole lesion against its surroundings before shadowing, dB.
    """

    descriptors: Descriptors
    malignant: bool
    posterior: float
    category: str
    first: tuple[int, int]
    last: tuple[int, int]
    area_mm2: float
    volume_ml: float
    contrast_db: float


@dataclass(frozen=True)
class BModeImage:
    """A B-mode image, its mask and all that is known of it.

    `image` uint8 and `mask` uint8 (0, 1) are 2D and share a grid: x lateral, y depth; the skin is at y = 0.
    """

    seed: int
    image: sitk.Image
    mask: sitk.Image
    lesion: SliceTruth | None
    facts: dict = field(default_factory=dict)


def bmode_slice(
    seed: int,
    request: LesionRequest | None = None,
    *,
    healthy: bool = False,
    size: tuple[int, int] = (400, 400),
    spacing_mm: float = 0.1,
    density: str | None = None,
    malignant_share: float = 0.35,
    acquisition: Mapping[str, float] | None = None,
    hard_negatives: bool = True,
) -> BModeImage:
    """Make a B-mode image of a lesion (or of none) as a hand-held linear probe shows it.

    Parameters
    ----------
    seed : 0 to 2**32 - 1; the same seed and settings give the same image on every machine.
    request : what the lesion must be; its centre is not looked at.
    healthy : no lesion.
    size : pixels along x, y; the default shows 40 x 40 mm.
    spacing_mm : of the pixels.
    density, malignant_share, hard_negatives : as in `spec.PhantomSpec`.
    acquisition : field of `acquisition.Acquisition` -> value instead of the drawn one.

    Raises
    ------
    PhantomError : a lesion that does not fit into the image. UsageError : a grid or density that cannot be.
    """
    if density is not None and density not in DENSITIES:
        raise UsageError(f"The density is {density!r}; it must be one of: {', '.join(DENSITIES)}.")
    grid = PhantomGrid((*size, _SLICES), (spacing_mm, spacing_mm, _SLICE_MM), whole=False)
    seed = check_seed(seed)
    drawn_density = DENSITIES[choose(float(open_stream(seed, Stream.VOLUME).random()), DENSITY_SHARES)]
    density = density or drawn_density
    scan = draw_handheld(open_stream(seed, Stream.ACQUISITION), acquisition)
    anatomy = build_anatomy(grid, density, hard_negatives, open_stream(seed, Stream.ANATOMY))
    plane = _SLICES // 2
    lesion, placed = None, []
    if not healthy:
        drawn = draw_fitting(
            open_stream(seed, Stream.LESIONS),
            malignant_share,
            request,
            grid,
            lambda size: fits((size[0], 1, size[2]), grid),
        )
        if drawn is None:
            raise PhantomError(
                f"The lesion that is asked for does not fit in an image of {size[0] * spacing_mm:g} x "
                f"{size[1] * spacing_mm:g} mm; ask for a smaller volume_ml or a larger size."
            )
        lesion, patch = drawn
        placed = [_place(patch, anatomy, plane, grid, open_stream(seed, Stream.PLACEMENT))]
    make_room(anatomy, placed, grid)
    scene = Scene(anatomy, placed, grid)
    pixels = render(scene, anatomy.contact, scan, grid, open_stream(seed, Stream.SPECKLE))[:, plane]
    mask = np.zeros(pixels.shape, np.uint8)
    truth = None
    if lesion is not None:
        (depth, slices, lateral), there = placed[0].overlap(grid.shape)
        mask[depth, lateral] = placed[0].patch.mask[there][:, plane - slices.start]
        truth = _truth(lesion, mask, contrast_db(patch, scene.background_echo[0]), spacing_mm)
    facts = {"density": density, "acquisition": asdict(scan)}
    return BModeImage(int(seed), _image(pixels, spacing_mm), _image(mask, spacing_mm), truth, facts)


def _place(
    patch: LesionPatch,
    anatomy: Anatomy,
    plane: int,
    grid: PhantomGrid,
    generator: np.random.Generator,
) -> Placed:
    """Near the image's middle, cut through the middle half of the lesion's thickness."""
    (top, near, left), (height, thickness, width) = bounding_box(patch.mask)
    first, _ = find_place((height, 1, width), (), anatomy.lesion_zone, visibility(anatomy, grid), grid, generator)
    cut = near + int((0.25 + 0.5 * float(generator.random())) * thickness)
    return Placed(patch, (first[0] - top, plane - cut, first[2] - left))


def _truth(lesion: LesionSpec, mask: np.ndarray, contrast: float, spacing_mm: float) -> SliceTruth:
    (top, _, left), (height, _, width) = bounding_box(mask[:, None] > 0)
    return SliceTruth(
        descriptors=lesion.descriptors,
        malignant=lesion.malignant,
        posterior=lesion.posterior,
        category=lesion.category,
        first=(left, top),
        last=(left + width - 1, top + height - 1),
        area_mm2=int(np.count_nonzero(mask)) * spacing_mm**2,
        volume_ml=lesion.volume_ml,
        contrast_db=contrast,
    )


def _image(pixels: np.ndarray, spacing_mm: float) -> sitk.Image:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(pixels))
    image.SetSpacing((spacing_mm, spacing_mm))
    image.SetOrigin((spacing_mm / 2.0, spacing_mm / 2.0))
    return image
