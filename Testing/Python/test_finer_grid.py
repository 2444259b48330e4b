"""A model that learnt on coarse voxels goes on learning on finer ones from where it stood."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from BreastUSAILib.anchors import anchor_grid
from BreastUSAILib.boxes import decode
from BreastUSAILib.errors import UsageError
from BreastUSAILib.training.detection_crops import generator_of, vary_intensities
from BreastUSAILib.training.finer_grid import on_finer_grid, taps
from BreastUSAILib.volume_input import averaging


def test_taps_by_hand():
    """Twice as fine: the middle of a coarse voxel lies half a fine one beyond its first; weights fall to nothing at two."""
    column = [0.125, 0.375, 0.375, 0.125]
    wanted = np.zeros((9, 3))
    for k in range(3):
        wanted[2 * k + 1 : 2 * k + 5, k] = column
    assert taps(3, 2, 9) == pytest.approx(wanted)
    # Where the kernel ends a tap earlier, its last has what would lie beyond.
    assert taps(3, 2, 7)[-1].tolist() == [0, 0, 0.5]
    assert taps(5, 1, 5) == pytest.approx(np.eye(5))


@given(st.sampled_from([1, 3, 5]), st.integers(1, 4), st.sampled_from([1, 3, 7, 11]))
@settings(max_examples=40, deadline=None)
def test_no_tap_is_lost(kernel, finer, size):
    assert taps(kernel, finer, size).sum(0) == pytest.approx(np.ones(kernel))


def _network(kernel, stride):
    network = nn.Sequential(nn.Conv3d(1, 3, kernel, stride, [k // 2 for k in kernel], bias=False), nn.ReLU(), nn.Conv3d(3, 2, 1))
    return network.double()


@given(st.integers(0, 2**32 - 1), st.tuples(*[st.sampled_from([1, 2, 3])] * 3))
@settings(max_examples=20, deadline=None)
def test_a_network_answers_as_it_did(seed, finer):
    """Coarse voxels are means of fine ones as the program makes them; where the edges are far the answers are the same."""
    generator = torch.Generator().manual_seed(seed)
    fine = torch.randn([16 * f for f in finer], generator=generator, dtype=torch.float64)
    coarse = fine
    for axis, f in enumerate(finer):
        matrix = averaging(16 * f, 0.0, 16 * f, 16).double()
        coarse = torch.tensordot(matrix, coarse, ([1], [axis])).movedim(0, axis)
    before = _network((3, 3, 3), (2, 2, 2))
    # Large enough for every tap: the outermost lies at 1.5 coarse voxels and one more of its triangle.
    after = _network([4 * f + 3 for f in finer], [2 * f for f in finer])
    spacing = [0.9, 0.6, 1.5]  # x, y, z
    after.load_state_dict(on_finer_grid(before.state_dict(), after, spacing, np.divide(spacing, finer[::-1]), (2, 2, 2)))
    said, says = before(coarse[None, None])[0], after(fine[None, None])[0]
    assert said.shape == says.shape
    inner = (slice(None), *[slice(2, -2)] * 3)
    assert torch.allclose(said[inner], says[inner], atol=1e-5)  # the program's means are float32


def test_a_detection_network_finds_the_same_boxes_on_the_finer_grid():
    """Anchors are in voxels, so those of the finer grid are as many millimetres; what is said of each of them stays."""
    from BreastUSAILib.networks.detection import COMPACT, DetectionNetwork

    mm = np.array([1.0, 0.5, 0.5])
    torch.manual_seed(3)
    small = {**COMPACT, "channels": (4, 4, 6, 8, 8), "head_channels": 6, "embedding": 3}
    anchors = [tuple(side / step for side, step in zip(a, mm, strict=True)) for a in COMPACT["anchors"]]
    finer = {**small, "stem_kernel": (3, 7, 7), "stem_stride": (2, 4, 4), "anchors": anchors}
    before, after = DetectionNetwork(**small).eval(), DetectionNetwork(**finer).eval()
    nn.init.normal_(before.scores.weight, std=0.5)
    nn.init.normal_(before.boxes.weight, std=0.3)
    after.load_state_dict(on_finer_grid(before.state_dict(), after, (1.0, 1.0, 1.0), mm[::-1], (2, 2, 2)))

    # Tissue, not white noise, of which a kernel of 7 taps hears a little less than the coarse one's triangles (`taps`).
    noise = torch.randn(1, 1, 42, 100, 164, generator=torch.Generator().manual_seed(4))
    fine = 5 * nn.functional.avg_pool3d(noise, (3, 5, 5), 1)[0, 0]
    coarse = fine
    for axis in (1, 2):
        length = fine.shape[axis]
        coarse = torch.tensordot(averaging(length, 0.0, length, length // 2), coarse, ([1], [axis])).movedim(0, axis)
    with torch.inference_mode():
        said, says = before(coarse[None, None]), after(fine[None, None])
    assert said.features.shape == says.features.shape
    cells = said.features.shape[2:]
    first, second = (anchor_grid(cells, n.scale, n.anchors) * torch.tensor(np.tile(step, 2)).float() for n, step in ((before, np.ones(3)), (after, mm)))
    assert torch.allclose(first, second)
    inner = (slice(2, -2), slice(1, -1), slice(2, -2))
    for one, other in ((said.logits, says.logits), (said.parameters, says.parameters)):
        # What differs from place to place, without what each output says everywhere.
        each = [values.reshape(*cells, -1)[inner] for values in (one, other)]
        each = [(values - values.mean((0, 1, 2))).ravel() for values in each]
        assert torch.corrcoef(torch.stack(each))[0, 1] > 0.97
    boxes = [decode(p[0], anchor_grid(cells, n.scale, n.anchors)) * torch.tensor(np.tile(step, 2)).float() for p, n, step in ((said.parameters, before, np.ones(3)), (says.parameters, after, mm))]
    boxes = [edges.reshape(*cells, -1)[inner] for edges in boxes]
    assert (boxes[0] - boxes[1]).abs().median() < 0.2  # mm


def test_the_same_grid_changes_nothing():
    before, after = _network((3, 3, 3), (2, 2, 2)), _network((3, 3, 3), (2, 2, 2))
    same = on_finer_grid(before.state_dict(), after, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (2, 2, 2))
    assert all(torch.equal(value, before.state_dict()[name]) for name, value in same.items())


@pytest.mark.parametrize(
    ("new", "kernel", "stride", "why"),
    [
        ((0.7, 0.7, 0.7), (3, 3, 3), (2, 2, 2), "whole parts"),
        ((2.0, 1.0, 1.0), (3, 3, 3), (2, 2, 2), "whole parts"),
        ((0.5, 0.5, 1.0), (3, 7, 7), (2, 2, 2), "strides further or less far"),
        ((0.5, 0.5, 1.0), (3, 3, 3), (2, 4, 4), "sees less"),
        ((1.0, 1.0, 1.0), (1, 3, 3), (2, 2, 2), "sees less"),
    ],
)
def test_grids_that_do_not_fit_are_refused(new, kernel, stride, why):
    before, after = _network((3, 3, 3), (2, 2, 2)), _network(kernel, stride)
    with pytest.raises(ValueError, match=why):
        on_finer_grid(before.state_dict(), after, (1.0, 1.0, 1.0), new, (2, 2, 2))


def test_a_model_of_coarse_voxels_is_gone_on_from(tmp_path, monkeypatch):
    """Trained at 1 mm by the recipe, gone on from at 0.5 mm; and a first convolution of other channels is told."""
    from heatmap_cases import SMALL, data_set, small

    from BreastUSAILib.networks import resnet_3d
    from BreastUSAILib.training.heatmap import train

    monkeypatch.setattr(resnet_3d, "COMPACT", SMALL)
    data = data_set(tmp_path / "data")
    coarse = train([data], tmp_path / "coarse", small(epochs=2, crops=16), device="cpu", validate_every=9)
    finer = {"spacing": (0.5, 0.5, 1.0), "patch": (20, 32, 40), "crop": (12, 20, 24)}
    monkeypatch.setattr(resnet_3d, "COMPACT", {**SMALL, "stem_kernel": (3, 7, 7), "stem_stride": (2, 4, 4)})
    recipe = small(epochs=1, crops=16, start=str(coarse), **finer)
    gone_on = train([data], tmp_path / "fine", recipe, device="cpu", validate_every=9)
    assert (gone_on / "model.safetensors").is_file()
    monkeypatch.setattr(
        resnet_3d, "COMPACT", {**SMALL, "stem_channels": 8, "stem_kernel": (3, 7, 7), "stem_stride": (2, 4, 4)}
    )
    with pytest.raises(UsageError, match="is another network than this configuration's"):
        train([data], tmp_path / "other", recipe, device="cpu", validate_every=9)
    # A model of finer voxels is none for coarser ones.
    monkeypatch.setattr(resnet_3d, "COMPACT", SMALL)
    with pytest.raises(UsageError, match="cannot be gone on from on this grid: its voxels are not whole parts"):
        train([data], tmp_path / "back", small(epochs=1, crops=16, start=str(gone_on)), device="cpu", validate_every=9)


def test_what_varies_intensities_is_about_as_wide_on_a_finer_grid():
    """The same draw on a grid twice as fine: the same picture, but for the noise of single voxels."""
    coarse, fine = torch.zeros(24, 20, 28), torch.zeros(24, 40, 56)
    compared = 0
    for number in range(60):
        first = vary_intensities(coarse.clone(), generator_of(5, number))
        second = vary_intensities(fine.clone(), generator_of(5, number), (1.0, 0.5, 0.5))
        if first.diff(dim=0).abs().mean() > 0.05 or float(first.std()) < 1e-3:  # noise, of which other numbers are drawn; or nothing
            continue
        mean = nn.functional.avg_pool3d(second[None], (1, 2, 2))[0]
        compared += 1
        assert torch.corrcoef(torch.stack([first.ravel(), mean.ravel()]))[0, 1] > 0.98
    assert compared > 10


@pytest.mark.parametrize("shape", [(9, 8, 7), (1, 2, 30)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 0.5, 0.5), (0.4, 3.0, 0.2)])
def test_a_wider_pulse_is_the_mean_of_what_there_is(shape, spacing):
    from BreastUSAILib.training.detection_crops import _smeared

    levels = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float32)
    reach = [max(1, round(1.5 / mm - 0.5)) for mm in spacing]
    wanted = np.empty(shape)
    for place in np.ndindex(shape):
        part = levels[tuple(slice(max(0, p - r), p + r + 1) for p, r in zip(place, reach, strict=True))]
        wanted[place] = part.double().mean()
    assert _smeared(levels, spacing).numpy() == pytest.approx(wanted, abs=1e-5)
