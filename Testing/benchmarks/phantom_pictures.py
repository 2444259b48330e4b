"""The pictures of docs/phantom.md, made anew: ``python Testing/benchmarks/phantom_pictures.py [DIR]`` (default: docs/phantom)."""

from __future__ import annotations

import sys
from pathlib import Path

from BreastUSAILib.phantom import LesionRequest, PhantomSpec, bmode_slice, generate
from BreastUSAILib.phantom.contact_sheet import lesion_picture, save, sheet, slice_picture, volume_picture
from BreastUSAILib.phantom.grids import PhantomGrid
from BreastUSAILib.phantom.seeds import volume_seed

# As fine as a scanner's own voxels, so that strands and microlobules are seen.
FINE = PhantomGrid((224, 288, 112), (0.2, 0.11, 0.4), top=3.0, whole=False)

# One a margin, then echo patterns, posterior features and calcifications: descriptor -> value, and cm3.
LESIONS = (
    ({"margin": "circumscribed", "shape": "oval", "echo_pattern": "hypoechoic"}, 1.2),
    ({"margin": "indistinct", "echo_pattern": "hypoechoic"}, 1.2),
    ({"margin": "angular", "echo_pattern": "hypoechoic"}, 1.2),
    ({"margin": "microlobulated", "echo_pattern": "hypoechoic"}, 1.2),
    ({"margin": "spiculated", "halo": "present", "posterior_features": "shadowing"}, 1.2),
    ({"echo_pattern": "anechoic"}, 1.2),
    ({"echo_pattern": "complex cystic and solid"}, 2.0),
    ({"echo_pattern": "hyperechoic"}, 1.2),
    ({"echo_pattern": "isoechoic", "margin": "circumscribed"}, 1.2),
    ({"calcifications": "in mass", "echo_pattern": "hypoechoic"}, 1.2),
    ({"calcifications": "intraductal"}, 0.8),
    ({"shape": "round", "posterior_features": "combined"}, 1.2),
)


def volumes(folder: Path, sizes: dict[str, str]) -> None:
    """One picture a density, of test seeds."""
    for number, (density, grid) in enumerate(sizes.items()):
        seed = volume_seed("test", 9_999, number)
        phantom = generate(seed, PhantomSpec(grid=grid, density=density, lesions=2))
        title = f"grid {grid}, density {density}, seed {seed}"
        save(volume_picture(phantom.image, phantom.labels, phantom.lesions, title), folder / f"density-{density}.png")


def lesions(folder: Path) -> None:
    """Sheets of lesions, cut out of small volumes."""
    pictures = []
    for number, (descriptors, volume_ml) in enumerate(LESIONS):
        request = LesionRequest(volume_ml=volume_ml, descriptors=descriptors)
        phantom = generate(volume_seed("test", 9_999, 100 + number), PhantomSpec(grid=FINE, lesions=(request,)))
        pictures.append(lesion_picture(phantom.image, phantom.labels, phantom.lesions[0], margin_mm=6, scale=4.4))
    half = len(pictures) // 2
    for number, part in enumerate((pictures[:half], pictures[half:]), start=1):
        save(sheet(part, columns=3), folder / f"lesions-{number}.png", greys=32)


def bmode(folder: Path) -> None:
    """B-mode images of six lesions, as drawn."""
    pictures = [slice_picture(bmode_slice(volume_seed("test", 9_999, 200 + number))) for number in range(6)]
    save(sheet(pictures, columns=2), folder / "bmode.png", greys=32)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "docs" / "phantom"
    volumes(target, {"a": "half", "b": "half", "c": "half", "d": "half"})
    lesions(target)
    bmode(target)
