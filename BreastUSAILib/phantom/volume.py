"""A phantom volume from a seed: `generate(seed, spec)`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from ..errors import PhantomError
from .acoustics import render
from .acquisition import draw_acquisition
from .anatomy import Anatomy, build_anatomy
from .grids import PhantomGrid
from .lesion import LesionPatch, build_lesion
from .lexicon import LesionSpec, draw_lesion
from .mass_effect import make_room
from .placement import Box, apart, at_centre, bounding_box, find_place, fits, visibility
from .randomness import Stream, open_stream
from .scene import Placed, Scene, contrast_db
from .seeds import check_seed
from .spec import DENSITIES, LesionRequest, PhantomSpec
from .truth import LesionTruth, Phantom

if TYPE_CHECKING:
    import SimpleITK as sitk

# Shares of the four compositions among women who are screened (BI-RADS Atlas, 5th edition).
DENSITY_SHARES = (0.1, 0.4, 0.4, 0.1)
# Shares of whole volumes with no, one, two and three lesions; a fifth are healthy.
LESION_SHARES = (0.2, 0.45, 0.22, 0.13)
# A drawn lesion that does not fit the volume (a large one in a small piece) is drawn again, and built
# again, so often at most.
_REDRAWS, _REBUILDS = 200, 12


def generate(
    seed: int, spec: PhantomSpec | None = None, progress: Callable[[float, str], None] | None = None
) -> Phantom:
    """Make a phantom volume and all that is known of it.

    Parameters
    ----------
    seed : 0 to 2**32 - 1; the same seed and specification give the same volume on every machine. `seeds` says which belong to which split.
    spec : what is asked for; None: the defaults.
    progress : called with a fraction (0 to 1) and a message.

    Raises
    ------
    PhantomError : a seed that is none, lesions that do not fit, or descriptors that exclude each other.

    Examples
    --------
    >>> phantom = generate(1, PhantomSpec(grid="cube"))
    >>> phantom.image.GetSize(), len(phantom.lesions)
    ((128, 64, 128), 1)
    """
    seed = check_seed(seed)
    spec = spec or PhantomSpec()
    progress = progress or (lambda fraction, message: None)
    grid = spec.sampling
    general = open_stream(seed, Stream.VOLUME)
    density_draw, number_draw = float(general.random()), float(general.random())
    density = spec.density or DENSITIES[choose(density_draw, DENSITY_SHARES)]
    acquisition = draw_acquisition(open_stream(seed, Stream.ACQUISITION), spec.acquisition)
    requests = _requests(spec, grid, number_draw)

    progress(0.0, "Building the breast")
    anatomy = build_anatomy(grid, density, spec.hard_negatives, open_stream(seed, Stream.ANATOMY))
    progress(0.1, "Building the lesions")
    lesions = [
        _lesion(request, spec, grid, open_stream(seed, Stream.LESIONS, number))
        for number, request in enumerate(requests)
    ]
    placing = open_stream(seed, Stream.PLACEMENT)
    placed = _place([patch for _, patch in lesions], requests, anatomy, grid, placing)
    make_room(anatomy, placed, grid)
    scene = Scene(anatomy, placed, grid)

    # Made in the order of the image (slice, depth, lateral), so that no transposed copy is needed.
    depth, nz, nx = grid.shape
    voxels = np.empty((nz, depth, nx), np.uint8)
    render(
        scene,
        anatomy.contact,
        acquisition,
        grid,
        open_stream(seed, Stream.SPECKLE),
        out=voxels.transpose(1, 0, 2),
        progress=lambda fraction, message: progress(0.15 + 0.79 * fraction, message),
    )
    image = _image(voxels, grid)
    del voxels
    progress(0.95, "Writing the label map")
    labels = np.zeros((nz, depth, nx), np.uint8)
    truths = []
    for number, (lesion, place) in enumerate(zip((s for s, _ in lesions), placed, strict=True)):
        here, there = place.overlap(grid.shape)
        labels.transpose(1, 0, 2)[here][place.patch.mask[there]] = number + 1
        truths.append(lesion_truth(number + 1, lesion, place, scene.background_echo[number], grid))
    label_image = _image(labels, grid)
    progress(1.0, "Done")
    facts = {"density": density, "acquisition": asdict(acquisition)}
    return Phantom(int(seed), image, label_image, tuple(truths), facts)


def choose(draw: float, shares: Sequence[float]) -> int:
    """Index of the share that a uniform draw falls into."""
    for index, share in enumerate(shares[:-1]):
        if draw < share:
            return index
        draw -= share
    return len(shares) - 1


def _requests(spec: PhantomSpec, grid: PhantomGrid, draw: float) -> tuple[LesionRequest, ...]:
    if isinstance(spec.lesions, tuple):
        return spec.lesions
    number = spec.lesions
    if number is None:
        number = choose(draw, LESION_SHARES) if grid.whole else 1
    return (LesionRequest(),) * number


def _lesion(
    request: LesionRequest, spec: PhantomSpec, grid: PhantomGrid, generator: np.random.Generator
) -> tuple[LesionSpec, LesionPatch]:
    """Draw and build a lesion that fits into the volume."""
    drawn = draw_fitting(generator, spec.malignant_share, request, grid, lambda size: fits(size, grid))
    if drawn is None:
        raise PhantomError(
            f"The lesion that is asked for does not fit in a volume of {' x '.join(f'{e:g}' for e in grid.extent)} mm; ask "
            "for a smaller volume_ml or a larger grid."
        )
    return drawn


def draw_fitting(
    generator: np.random.Generator,
    malignant_share: float,
    request: LesionRequest | None,
    grid: PhantomGrid,
    fitting: Callable[[tuple[int, int, int]], bool],
) -> tuple[LesionSpec, LesionPatch] | None:
    """Draw lesions until the box of one (voxels along depth, slice, lateral) is `fitting`; None where none is.

    Whether it fits depends on its descriptors and volume alone, so drawing again leaves the posterior as it is.
    """
    built = 0
    for _ in range(_REDRAWS):
        lesion = draw_lesion(generator, malignant_share, request)
        diameter = (6000.0 * lesion.volume_ml / math.pi) ** (1.0 / 3.0)
        if diameter / 2.0 > grid.extent[1]:  # no mass is flatter than that; not worth building
            continue
        patch = build_lesion(lesion, grid.spacing, generator)
        if fitting(bounding_box(patch.mask)[1]):
            return lesion, patch
        built += 1
        if built == _REBUILDS:
            break
    return None


def _place(
    patches: Sequence[LesionPatch],
    requests: Sequence[LesionRequest],
    anatomy: Anatomy,
    grid: PhantomGrid,
    generator: np.random.Generator,
) -> list[Placed]:
    """Places for all lesions: first those whose centre is asked for, then the others, the largest first."""
    boxes = [bounding_box(patch.mask) for patch in patches]
    places: dict[int, Box] = {}
    for number, request in enumerate(requests):
        if request.centre is not None:
            place = at_centre(boxes[number][1], request.centre, grid)
            if not all(apart(place, other, grid) for other in places.values()):
                raise PhantomError(f"Lesion {number + 1} would lie within 3 mm of another; move its centre.")
            places[number] = place
    visible = visibility(anatomy, grid)
    free = [n for n in range(len(patches)) if n not in places]
    for number in sorted(free, key=lambda n: -int(np.prod(boxes[n][1]))):
        places[number] = find_place(boxes[number][1], places.values(), anatomy.lesion_zone, visible, grid, generator)
    return [
        Placed(patch, tuple(p - b for p, b in zip(places[n][0], boxes[n][0], strict=True)))
        for n, patch in enumerate(patches)
    ]


def lesion_truth(
    label: int, lesion: LesionSpec, place: Placed, background_echo: float, grid: PhantomGrid
) -> LesionTruth:
    """The record of a lesion, measured on its voxels; `background_echo` is the mean echo around it."""
    first, size = bounding_box(place.patch.mask)
    # From (depth, slice, lateral) to (x, y, z).
    first = tuple(first[axis] + place.corner[axis] for axis in (2, 0, 1))
    size = tuple(size[axis] for axis in (2, 0, 1))
    extent = tuple(n * s for n, s in zip(size, grid.spacing, strict=True))
    corner = tuple(f * s for f, s in zip(first, grid.spacing, strict=True))
    x, y, z = (c + e / 2.0 for c, e in zip(corner, extent, strict=True))
    return LesionTruth(
        label=label,
        descriptors=lesion.descriptors,
        malignant=lesion.malignant,
        posterior=lesion.posterior,
        category=lesion.category,
        centre=(x, y + grid.top, z),
        size=extent,
        first=first,
        last=tuple(f + n - 1 for f, n in zip(first, size, strict=True)),
        volume_ml=int(np.count_nonzero(place.patch.mask)) * float(np.prod(grid.spacing)) / 1000.0,
        contrast_db=contrast_db(place.patch, background_echo),
    )


def _image(voxels: np.ndarray, grid: PhantomGrid) -> sitk.Image:
    """The image of an array (slice, depth, lateral), the corner of its first voxel at (0, top, 0)."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(grid.spacing)
    dx, dy, dz = grid.spacing
    image.SetOrigin((dx / 2.0, grid.top + dy / 2.0, dz / 2.0))
    return image
