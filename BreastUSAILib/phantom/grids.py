"""Grids of phantom volumes: how many voxels, how large, and which part of the breast they cover."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

from ..errors import PhantomError

_LEAST, _MOST = 16, 2048  # voxels along an axis
_MOST_VOXELS = 2**28  # 1.6 times a full volume
_FINEST, _COARSEST = 0.02, 2.0  # mm: the wavelength at 15 MHz is 0.1 mm; a lesion of 0.026 cm3 is 3.7 mm thick
_LEAST_MM, _MOST_MM = 8.0, 250.0
_DEEPEST = 80.0  # mm; no ABUS scanner shows more than 60



@dataclass(frozen=True)
class PhantomGrid:
    """A volume's sampling.

    Axes are those of ABUS volumes: x = lateral (along the probe), y = depth from the skin, z = slice (the probe's sweep).
    In numpy order an array is (z, y, x); while a volume is being made it is (y, z, x), depth first.

    Attributes
    ----------
    size : voxels along x, y, z.
    spacing : millimetres along x, y, z.
    top : depth of the first voxel in mm; 0 for whole volumes, more for cubes cut from below the skin.
    whole : whether the volume is a whole scan, with contact border and dark corners, or a piece from its middle.

    Raises
    ------
    PhantomError : no volume can be made on such a grid; the sentence names the limits.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    top: float = 0.0
    whole: bool = True

    def __post_init__(self) -> None:
        try:
            size = tuple(operator.index(n) for n in self.size)
            spacing = tuple(float(s) for s in self.spacing)
            top = float(self.top)
        except (TypeError, ValueError):
            size = spacing = ()
            top = 0.0
        if len(size) != 3 or len(spacing) != 3 or not math.isfinite(top):
            raise PhantomError(
                f"A grid of size {self.size!r}, spacing {self.spacing!r}, top {self.top!r} cannot be; give three whole "
                "numbers of voxels, three spacings and the top in mm."
            )
        # Plain numbers from here on, also where numpy's were given.
        for name, value in (("size", size), ("spacing", spacing), ("top", top), ("whole", bool(self.whole))):
            object.__setattr__(self, name, value)
        if not all(_LEAST <= n <= _MOST for n in size) or math.prod(size) > _MOST_VOXELS:
            raise PhantomError(
                f"A grid of {_by(size)} voxels cannot be made; it must have {_LEAST} to {_MOST} along each axis and no "
                f"more than {_MOST_VOXELS // 10**6} million in all."
            )
        if not all(_FINEST <= s <= _COARSEST for s in spacing):
            raise PhantomError(
                f"A grid's spacing is {_by(spacing)} mm; it must be from {_FINEST:g} to {_COARSEST:g} mm along each axis."
            )
        if not all(_LEAST_MM <= e <= _MOST_MM for e in self.extent):
            raise PhantomError(
                f"A grid of {_by(self.extent)} mm cannot be made; it must measure {_LEAST_MM:g} to {_MOST_MM:g} mm along "
                "each axis."
            )
        if not 0 <= top or top + self.extent[1] > _DEEPEST:
            raise PhantomError(
                f"A grid from {top:g} to {top + self.extent[1]:g} mm below the skin cannot be made; it must lie between "
                f"0 and {_DEEPEST:g} mm."
            )
        if self.whole and top > 0:
            raise PhantomError(f"A whole scan begins at the skin; with top {top:g} mm, set whole to False.")

    @property
    def extent(self) -> tuple[float, float, float]:
        """Millimetres along x, y, z."""
        return tuple(n * s for n, s in zip(self.size, self.spacing, strict=True))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(depth, slices, lateral): the order in which volumes are made."""
        x, y, z = self.size
        return y, z, x


GRIDS: dict[str, PhantomGrid] = {
    # GE Invenia: 15.3 x 5 x 17 cm; the sizes lie within those of TDSC-ABUS (843-865 x 546-682 x 270-354).
    "full": PhantomGrid((768, 624, 340), (0.2, 0.08, 0.5)),
    # Siemens S2000 ABVS: 15.4 x 16.8 x 6 cm as the scanner's slices are laid out, sampled more coarsely in depth.
    "siemens": PhantomGrid((736, 480, 318), (0.21, 0.125, 0.526)),
    # The grid that the detection paper works on (400 x 100 x 400), over the same 15 x 5 x 17 cm.
    "half": PhantomGrid((400, 100, 400), (0.384, 0.5, 0.425)),
    # A lesion's surroundings as the segmentation paper crops them: 64 x 32 x 64 mm, 0.5 mm isotropic.
    "cube": PhantomGrid((128, 64, 128), (0.5, 0.5, 0.5), top=3.0, whole=False),
}


def _by(values) -> str:
    return " x ".join(f"{v:g}" for v in values)
