"""The anatomy of a synthetic ABUS volume: layers, tissues and small structures, given out as depth rows of tissue."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .chest_wall import ChestWallPainter
from .contact import draw_contact
from .fat import FatPainter
from .gland import GlandPainter
from .grids import PhantomGrid
from .inclusions import draw_lobules, draw_nodes, inclusion_stamp
from .layers import Layers, draw_layers, voxel_centres
from .muscle import MusclePainter
from .nipple import Nipple, NipplePainter, draw_nipple
from .noise import streams
from .skin import SkinPainter
from .stamps import Stamp
from .strip import Painter, Strip
from .tissue import Tissue
from .tubes import draw_ducts, draw_vessels, tube_stamp

# Voxels that are painted at a time: about a dozen buffers of them stay in the processor's cache.
STRIP_VOXELS = 12_000
SCRATCH = 8
# A mass presses the muscle to 0.4 of its thickness, and not below this, mm.
_PRESSED_MUSCLE_MM = 2.0


@dataclass
class Anatomy:
    """A breast without lesions on a grid; made by `build_anatomy`.

    Depths and places are in mm from the first voxel's corner; maps are (slice, lateral), one value a column of voxels.

    Attributes
    ----------
    grid, density : what it was made for.
    layers : depth maps of the layers' borders.
    nipple : where the nipple is; perhaps outside the volume.
    contact : coupling of the probe, 0 to 1, float32; ones for pieces.
    gland_fraction : share of gland in the fibroglandular zone, 0 to 1, float64 on a coarse map over the whole face (slice, lateral).
    """

    grid: PhantomGrid
    density: str
    layers: Layers
    nipple: Nipple
    contact: np.ndarray
    gland_fraction: np.ndarray
    _painters: list[Painter]
    _chest: tuple[MusclePainter, ChestWallPainter]
    _stamps: list[Stamp]
    _buffers: dict = field(default_factory=dict)

    @property
    def lesion_zone(self) -> tuple[np.ndarray, np.ndarray]:
        """Depths between which lesions may lie: from 1 mm below the skin (the volume's top in pieces) to the retromammary fat or the volume's end."""
        top = np.maximum(self.layers.skin + np.float32(1.0), np.float32(0.0))
        bottom = np.minimum(self.layers.retromammary, np.float32(self.grid.extent[1]))
        return top, np.maximum(bottom, top)

    def give_way(self, push: np.ndarray) -> None:
        """Move the muscle's fascia down by `push` (mm, float32 (slice, lateral)), and what lies below it as far as it must.

        The muscle is pressed thinner first; then wall, ribs and pleura move with it. The layers' maps change in place.
        """
        layers = self.layers
        muscle = layers.wall - layers.fascia
        deeper = push - np.maximum(muscle - np.maximum(np.float32(0.4) * muscle, np.float32(_PRESSED_MUSCLE_MM)), np.float32(0.0))
        np.maximum(deeper, np.float32(0.0), out=deeper)
        for layer in (layers.retromammary, layers.fascia):
            layer += push
        for layer in (layers.wall, layers.pleura):
            layer += deeper
        muscle_painter, wall_painter = self._chest
        muscle_painter.follow()
        wall_painter.give_way(deeper)

    def rows(self, first: int, last: int) -> Tissue:
        """Tissue of the depth rows `first` to `last` (not included).

        What a row holds does not depend on which rows are asked for, nor in which order; ascending order is fast.
        The arrays are overwritten by the next call.
        """
        _, slices, lateral = self.grid.shape
        if not 0 <= first <= last <= self.grid.size[1]:
            raise ValueError(f"Rows {first} to {last} are not within the volume's {self.grid.size[1]} rows.")
        tissue = self._tissue(last - first, slices, lateral)
        count = max(1, min(slices, STRIP_VOXELS // lateral))
        scratch = self._scratch(count, lateral)
        for row in range(first, last):
            at = row - first
            for start in range(0, slices, count):
                part = slice(start, min(start + count, slices))
                strip = Strip(
                    depth=(row + 0.5) * self.grid.spacing[1],
                    thickness=self.grid.spacing[1],
                    slices=part,
                    echo=tissue.echo[at, part],
                    attenuation=tissue.attenuation[at, part],
                    specular=tissue.specular[at, part],
                    scratch=[buffer[: part.stop - part.start] for buffer in scratch],
                )
                for painter in self._painters:
                    painter.paint(strip)
            for stamp in self._stamps:
                stamp.paint(row, tissue, at)
        return tissue

    def _tissue(self, rows: int, slices: int, lateral: int) -> Tissue:
        held = self._buffers.get("tissue")
        if held is None or held.echo.shape[0] < rows:
            held = Tissue(*(np.empty((rows, slices, lateral), np.float32) for _ in range(3)))
            self._buffers["tissue"] = held
        return Tissue(held.echo[:rows], held.attenuation[:rows], held.specular[:rows])

    def _scratch(self, slices: int, lateral: int) -> list[np.ndarray]:
        if "scratch" not in self._buffers:
            self._buffers["scratch"] = [np.empty((slices, lateral), np.float32) for _ in range(SCRATCH)]
        return self._buffers["scratch"]


def build_anatomy(grid: PhantomGrid, density: str, hard_negatives: bool, generator: np.random.Generator) -> Anatomy:
    """Draw a breast on a grid.

    Parameters
    ----------
    grid : any; in pieces (`grid.whole` false) the layers are drawn such that gland and fat are mostly seen, the muscle sometimes.
    density : composition of the breast, a to d (ACR).
    hard_negatives : whether there are vessels, ducts, lymph nodes, fat lobules in the gland, lobules that look like cysts, ligaments that
        cast shadows, bubbles under the probe and reverberation.
    generator : what everything is drawn from; the same state gives the same anatomy, bit for bit, on every machine.
    """
    seeds = streams(generator, 12)
    nipple = draw_nipple(grid, seeds[0])
    layers = draw_layers(grid, density, nipple, seeds[1])
    z, x = voxel_centres(grid)
    gland = GlandPainter(grid, layers, density, nipple, seeds[2])
    chest = MusclePainter(grid, layers, seeds[4]), ChestWallPainter(grid, layers, seeds[5])
    painters = [
        FatPainter(grid, layers, hard_negatives, seeds[3]),
        gland,
        *chest,
        SkinPainter(grid, layers, hard_negatives, seeds[6]),
        NipplePainter(grid, nipple, z, x, seeds[7]),
    ]
    stamps = []
    if hard_negatives:
        inclusions = draw_lobules(grid, layers, density, seeds[8]) + draw_nodes(grid, layers, seeds[9])
        stamps += [inclusion_stamp(grid, inclusion, seeds[8]) for inclusion in inclusions]
        tubes = draw_ducts(grid, layers, nipple, seeds[10]) + draw_vessels(grid, layers, seeds[10])
        stamps += [tube_stamp(grid, tube) for tube in tubes]
    return Anatomy(
        grid=grid,
        density=density,
        layers=layers,
        nipple=nipple,
        contact=draw_contact(grid, hard_negatives, seeds[11]),
        gland_fraction=gland.fraction,
        _painters=painters,
        _chest=chest,
        _stamps=[stamp for stamp in stamps if stamp is not None],
    )
