"""Grids of phantom volumes: how many voxels, how large, and which part of the breast they cover."""

from __future__ import annotations

from dataclasses import dataclass


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
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    top: float = 0.0
    whole: bool = True

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
