"""Phantoms made by hand in a millisecond, for tests of what is done with phantoms: boxes and balls in noise.

Importable by name, as processes that make phantoms get their generator by name.
"""

import numpy as np
import SimpleITK as sitk

from BreastUSAILib.errors import PhantomError
from BreastUSAILib.phantom.spec import PhantomSpec
from BreastUSAILib.phantom.truth import Descriptors, LesionTruth, Phantom

OVAL = Descriptors("oval", "parallel", "circumscribed", "hypoechoic", "enhancement", "none", "absent")
SPICULATED = Descriptors("irregular", "not parallel", "spiculated", "hypoechoic", "shadowing", "in mass", "present")


def truth_of(labels: sitk.Image, label: int, malignant: bool) -> LesionTruth:
    """The truth of one label, taken from the label map by definition."""
    array = sitk.GetArrayViewFromImage(labels) == label
    index = np.argwhere(array)[:, ::-1]
    first, last = index.min(axis=0), index.max(axis=0)
    spacing, origin = np.array(labels.GetSpacing()), np.array(labels.GetOrigin())
    return LesionTruth(
        label=label,
        descriptors=SPICULATED if malignant else OVAL,
        malignant=malignant,
        posterior=0.9 if malignant else 0.05,
        category="4C" if malignant else "4A",
        centre=tuple(float(v) for v in origin + (first + last) / 2 * spacing),
        size=tuple(float(v) for v in (last - first + 1) * spacing),
        first=tuple(int(v) for v in first),
        last=tuple(int(v) for v in last),
        volume_ml=float(len(index) * spacing.prod() / 1000),
        contrast_db=-9.0,
    )


def on_grid(array: np.ndarray, grid) -> sitk.Image:
    """(z, y, x) voxels as an image on a phantom's grid."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing)
    x, y, z = grid.spacing
    image.SetOrigin((x / 2, grid.top + y / 2, z / 2))
    return image


def generate(seed: int, spec: PhantomSpec) -> Phantom:
    """As many balls as asked for (one where that is open), dark in noise; each seed its own."""
    random = np.random.default_rng(seed)
    grid = spec.sampling
    x, y, z = grid.size
    voxels = random.integers(90, 160, (z, y, x), dtype=np.uint8)
    labels = np.zeros_like(voxels)
    number = 1 if spec.lesions is None else spec.lesions if isinstance(spec.lesions, int) else len(spec.lesions)
    at = np.stack(np.meshgrid(np.arange(z), np.arange(y), np.arange(x), indexing="ij"), -1) * grid.spacing[::-1]
    for label in range(1, number + 1):
        centre = np.array([z / 2, y / 2, label * x / (number + 1)]) * grid.spacing[::-1] + random.uniform(-2, 2, 3)
        ball = ((at - centre) ** 2).sum(-1) < random.uniform(2.5, 3.5) ** 2
        labels[ball] = label
        voxels[ball] //= 3
    image = on_grid(labels, grid)
    truths = tuple(truth_of(image, label, bool((seed + label) % 2)) for label in range(1, number + 1))
    facts = {"density": spec.density or "b", "acquisition": {"dynamic_range_db": 60.0, "gain_db": 0.0}}
    return Phantom(seed, on_grid(voxels, grid), image, truths, facts)


def generate_but_odd_seeds(seed: int, spec: PhantomSpec) -> Phantom:
    """Cannot make every other volume."""
    if seed % 2:
        raise PhantomError("A lesion of 18 cm3 cannot fit; ask for a smaller one.")
    return generate(seed, spec)


def generate_until_the_disk_is_full(seed: int, spec: PhantomSpec) -> Phantom:
    """From the second volume on, files of this process cannot grow: as on a full disk. For processes of their own."""
    import resource

    if seed % 100:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
    return generate(seed, spec)


def generate_without_memory(seed, spec):
    raise MemoryError
