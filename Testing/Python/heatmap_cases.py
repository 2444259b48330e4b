"""What the tests of the heatmap system share: small volumes of dark balls, a network that learns them in seconds, a trained model."""

from dataclasses import replace

from hand_made_phantom import generate

from BreastUSAILib.phantom.grids import PhantomGrid
from BreastUSAILib.phantom.layouts import write_phantom, write_tables
from BreastUSAILib.phantom.seeds import volume_seed
from BreastUSAILib.phantom.spec import PhantomSpec
from BreastUSAILib.training.heatmap import HeatmapRecipe

GRID = PhantomGrid((40, 20, 36), (0.8, 1.0, 0.9), top=2.0, whole=False)
SMALL = {
    "stem_channels": 6, "stem_kernel": 3, "stem_stride": (2, 2, 2), "stem_pool": False,
    "channels": (6, 8), "blocks": (1, 1), "strides": (1, 1),
}  # fmt: skip
RECIPE = HeatmapRecipe(
    spacing=(1.0, 1.0, 1.0),
    patch=(20, 16, 20),
    crop=(12, 10, 12),
    epochs=8,
    crops=48,
    batch=8,
    rate=1e-2,
    decay=0.9,
    vary=False,
)


def make(folder, numbers, split):
    """Hand-made phantoms with so many balls each, in the native layout."""
    for index, number in enumerate(numbers):
        spec = PhantomSpec(grid=GRID, lesions=number)
        phantom = generate(volume_seed(split, index=index), spec)
        write_phantom("native", folder, f"phantom-{split}-{index:010d}", split, spec, phantom)
    write_tables("native", folder)
    return folder


def data_set(folder):
    """Training, validation and test volumes, healthy ones among each."""
    for split, numbers in (("train", [1, 0, 2, 0, 1]), ("validation", [1, 0, 2]), ("test", [1, 0, 2])):
        make(folder, numbers, split)
    return folder


def small(**changes):
    return replace(RECIPE, **changes)


def heat_model_folder(folder):
    """A model that has learnt dark balls, in seconds: real training on hand-made phantoms."""
    import pytest

    from BreastUSAILib.networks import resnet_3d
    from BreastUSAILib.training.heatmap import train

    patch = pytest.MonkeyPatch()
    patch.setattr(resnet_3d, "COMPACT", SMALL)
    try:
        return train([data_set(folder / "data")], folder / "model", RECIPE, device="cpu", validate_every=9)
    finally:
        patch.undo()
