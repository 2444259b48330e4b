"""The task: a volume in, findings in millimetres out, on any grid, and clear words where that cannot be."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from BreastUSAILib import candidates
from BreastUSAILib.candidates import Candidates, Search, axis_windows, find_candidates, look
from BreastUSAILib.detect import DetectOptions, detect
from BreastUSAILib.errors import Cancelled, ImageError, UsageError
from BreastUSAILib.findings import Box
from BreastUSAILib.grid import physical_to_index
from BreastUSAILib.lesion_classification import combined, lesion_crop
from BreastUSAILib.mirrors import MIRRORS
from BreastUSAILib.models import zoo
from BreastUSAILib.models.devices import Device
from BreastUSAILib.models.entry import ModelEntry
from BreastUSAILib.models.folder import save_model
from BreastUSAILib.networks.detection import COMPACT, DetectionNetwork, Predictions
from BreastUSAILib.networks.lesion_classifier import LesionClassifier
from BreastUSAILib.volume_input import MEAN_LEVEL, network_input, to_tensor

STRIDE, SIDE = 4, 12.0


class DarkCentres(torch.nn.Module):
    """In place of a trained network: each cell says how dark its 4 mm are, by hand, and its anchor is its box.

    Everything about it is the real thing's (`DetectionNetwork`), the weights alone are not learnt.

    spacing : mm along x, y, z of the voxels that it is given.
    """

    def __init__(self, spacing=(1.0, 1.0, 1.0)):
        super().__init__()
        self.seen = []
        self.scale = tuple(round(STRIDE / mm) for mm in reversed(spacing))
        self.multiple = tuple(2 * s for s in self.scale)
        self.anchors = (tuple(SIDE / mm for mm in reversed(spacing)),)

    padded = DetectionNetwork.padded

    def forward(self, volume):
        self.seen.append(tuple(volume.shape[2:]))
        pad = [(-n) % s for n, s in zip(volume.shape[2:], self.scale, strict=True)]
        volume = torch.nn.functional.pad(volume, (0, pad[2], 0, pad[1], 0, pad[0]))
        cells = torch.nn.functional.avg_pool3d(volume, self.scale)
        dark = (-cells[:, 0] * 4 - 6).reshape(len(volume), -1)
        logits = torch.stack([torch.zeros_like(dark), dark - 1, dark], dim=-1)
        return Predictions(logits, torch.zeros(*dark.shape, 6), cells)


def model_of(network, spacing=(1.0, 1.0, 1.0), **postprocessing):
    entry = ModelEntry.from_dict(
        {
            "id": "standin", "task": "detect", "version": "1", "network": "detection.DetectionNetwork", "arguments": {}, "file": "",
            "preprocessing": {"dimension": 3, "spacing": list(spacing)}, "postprocessing": postprocessing, "sha256": "",
        },
        "test",
    )  # fmt: skip
    return zoo.LoadedModel(entry, network, Device("cpu", "asked for"))


def rotation(*angles):
    transform = sitk.Euler3DTransform()
    transform.SetRotation(*angles)
    return transform.GetMatrix()


def scene(size, spacing, origin=(0, 0, 0), direction=None, balls=(), seed=0):
    """Noise with dark balls; `balls` are (centre as a share of the extent along x, y, z; radius in mm)."""
    random = np.random.default_rng(seed)
    array = random.normal(120, 10, size[::-1])
    at = np.stack(np.meshgrid(*((np.arange(n) + 0.5) * s for n, s in zip(size[::-1], spacing[::-1], strict=True)), indexing="ij"), -1)
    extent = np.multiply(size, spacing)
    for share, radius in balls:
        array[((at - (share * extent)[::-1]) ** 2).sum(-1) < radius**2] -= 110
    image = sitk.GetImageFromArray(array.clip(0, 255).astype(np.uint8))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction or np.eye(3).ravel().tolist())
    return image


GRIDS = {
    "isotropic": ((64, 40, 56), (1.0, 1.0, 1.0), (0, 0, 0), None),
    "anisotropic": ((160, 130, 70), (0.4, 0.3, 0.8), (3, -5, 9), None),
    "oblique": ((100, 80, 70), (0.6, 0.5, 0.8), (-20, 30, 100), rotation(0.4, -0.3, 0.9)),
    "mirrored": ((64, 40, 56), (1.0, 1.0, 1.0), (50, 0, -9), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
    "coarse": ((40, 30, 30), (1.6, 1.4, 1.9), (0, 0, 0), rotation(0, 0.2, 0)),
}


FINE = (0.5, 0.5, 1.0)
"""mm along x, y, z of the voxels of a network with finer ones in each slice: other steps, anchors and windows along each axis."""


@pytest.mark.parametrize("network_spacing", [(1.0, 1.0, 1.0), FINE, (0.8, 2.0, 0.4)])
@pytest.mark.parametrize("grid", GRIDS)
def test_boxes_lie_on_the_lesions_in_millimetres(grid, network_spacing):
    size, spacing, origin, direction = GRIDS[grid]
    shares = [np.array([0.3, 0.35, 0.4]), np.array([0.75, 0.6, 0.7])]
    image = scene(size, spacing, origin, direction, [(share, 6.0) for share in shares])
    found, notes = detect(image, model_of(DarkCentres(network_spacing), network_spacing), DetectOptions(maximum=2))
    assert [f.id for f in found] == ["L1", "L2"] and notes == ()
    # Worked out apart from the library: physical points of continuous indices, as ITK has them.
    truths = [np.array(image.TransformContinuousIndexToPhysicalPoint((share * size - 0.5).tolist())) for share in shares]
    for finding in found:
        distance = [np.abs(np.array(direction or np.eye(3)).reshape(3, 3).T @ (finding.box.center - truth)).max() for truth in truths]
        # The middle of the cell that holds the ball's middle, or of its neighbour where both are as dark, drawn to each other by voting.
        assert min(distance) <= STRIDE / 2 + 1.5
        assert finding.box.size == pytest.approx((SIDE,) * 3, rel=0.05)
        assert 0 < finding.score <= 1 and finding.malignancy == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-4)
    assert {int(np.argmin([np.linalg.norm(f.box.center - t) for t in truths])) for f in found} == {0, 1}


@given(
    st.tuples(*[st.integers(20, 60)] * 3),
    st.tuples(*[st.floats(0.4, 1.7)] * 3),
    st.tuples(*[st.floats(-3, 3)] * 3),
    st.tuples(*[st.floats(0.1, 0.9)] * 6),
)
@settings(max_examples=30, deadline=None)
def test_box_corners_go_to_the_grid_and_back(size, spacing, angles, shares):
    image = sitk.Image(size, sitk.sitkUInt8)
    image.SetSpacing(spacing)
    image.SetOrigin((5, -7, 11))
    image.SetDirection(rotation(*angles))
    volume = network_input(image, (1.0, 1.0, 1.0))
    low, high = np.minimum(shares[:3], shares[3:]), np.maximum(shares[:3], shares[3:])
    box = volume.physical_box(image, np.concatenate([low, high]) * np.tile(volume.levels.shape, 2))
    # Its eight corners are the same shares of the image's extent.
    axes = np.array(image.GetDirection()).reshape(3, 3)
    for sign in ((-1, low), (1, high)):
        corner = np.array(box.center) + axes @ (sign[0] * np.array(box.size) / 2)
        index = physical_to_index(image, corner) + 0.5
        assert index / size == pytest.approx(sign[1][::-1], abs=1e-5)
    assert volume.grid_box(image, box) == pytest.approx(np.concatenate([low, high]) * np.tile(volume.levels.shape, 2), abs=1e-4)


def test_windows_find_what_the_whole_volume_shows():
    image = scene((150, 40, 150), (1, 1, 1), balls=[(np.array([0.2, 0.5, 0.2]), 6), (np.array([0.5, 0.5, 0.5]), 6), (np.array([0.9, 0.5, 0.7]), 6)])
    whole, windows = DarkCentres(), DarkCentres()
    one, _ = detect(image, model_of(whole))
    other, _ = detect(image, model_of(windows, window=[80, 80, 80], whole_voxels=0, shared=24))
    assert len(whole.seen) == 1 and len(windows.seen) == 9 and set(windows.seen) == {(80, 40, 80)}
    assert len(one) == len(other) == 3
    for finding in one:
        assert min(np.linalg.norm(np.subtract(f.box.center, finding.box.center)) for f in other) < STRIDE
    # On finer voxels in each slice windows and what they share are as many millimetres, said for each axis, as JSON has them.
    windows = DarkCentres(FINE)
    fine, _ = detect(image, model_of(windows, FINE, window=[80, 160, 160], whole_voxels=0, shared=[24, 48, 48]))
    assert len(windows.seen) == 9 and set(windows.seen) == {(80, 80, 160)} and len(fine) == 3
    for finding in one:
        assert min(np.linalg.norm(np.subtract(f.box.center, finding.box.center)) for f in fine) < STRIDE


def test_the_papers_four_patches():
    shape, window = (400, 100, 400), candidates.PAPER.window
    axes = [axis_windows(n, w, candidates.PAPER.shared) for n, w in zip(shape, window, strict=True)]
    assert axes == [[(0, 320), (80, 320)], [(0, 100)], [(0, 320), (80, 320)]]
    assert candidates.PAPER.boxes_a_window == 3


@given(st.integers(1, 500), st.integers(8, 200), st.integers(0, 80))
@settings(max_examples=200, deadline=None)
def test_windows_cover_an_axis_and_share_enough(length, window, shared):
    windows = axis_windows(length, window, shared)
    assert windows[0][0] == 0 and sum(windows[-1]) == length
    for (first, size), (second, _) in zip(windows, windows[1:], strict=False):
        assert first + size - second >= min(shared, window // 2) - 1
    assert all(size <= window * 1.1 for _, size in windows)


def test_windows_become_smaller_when_memory_is_not_enough():
    class Small(DarkCentres):
        def forward(self, volume):
            if volume.numel() > 100 * 40 * 100:
                raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().forward(volume)

    image = scene((150, 40, 150), (1, 1, 1), balls=[(np.array([0.5, 0.5, 0.5]), 6)])
    found, notes = detect(image, model_of(Small()))
    assert len(found) == 1
    assert notes == ("the memory of the cpu device was not enough; the volume was searched in windows of 75 x 40 x 75 voxels",)

    class SmallFine(DarkCentres):
        def forward(self, volume):
            if volume.numel() > 100 * 80 * 200:
                raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().forward(volume)

    # As many millimetres on finer voxels, and the depth stays whole.
    found, notes = detect(image, model_of(SmallFine(FINE), FINE))
    assert len(found) == 1
    assert notes == ("the memory of the cpu device was not enough; the volume was searched in windows of 150 x 80 x 75 voxels",)

    class Never(DarkCentres):
        def forward(self, volume):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        detect(image, model_of(Never()))


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """The compact network as it begins, saved and loaded like a user's own model."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    config = {
        "id": "begins", "task": "detect", "version": "1", "network": "detection.DetectionNetwork", "arguments": json.loads(json.dumps(COMPACT)),
        "preprocessing": {"dimension": 3, "spacing": [1, 1, 1]}, "postprocessing": {"threshold": 0.5},
    }  # fmt: skip
    return zoo.load(save_model(folder, DetectionNetwork(**COMPACT), config), "detect", "cpu")


@pytest.mark.parametrize("size", [(20, 9, 17), (2, 2, 2), (33, 50, 3), (96, 48, 96)])
def test_any_size_of_volume_goes_through_the_real_network(size, untrained):
    image = scene(size, (1, 1, 1))
    found, _ = detect(image, untrained, DetectOptions(threshold=0))
    extent = np.multiply(size, 1.0)
    for finding in found:
        first, last = (np.array(finding.box.center) + s * np.array(finding.box.size) / 2 + 0.5 for s in (-1, 1))
        assert (first >= -1e-4).all() and (last <= extent + 1e-4).all()
    assert [f.score for f in found] == sorted((f.score for f in found), reverse=True)
    assert detect(image, untrained)[0] == ()  # it begins at p = 0.01


def test_black_and_constant_volumes_have_nothing_in_them(untrained):
    for value in (0, 77):
        image = sitk.Image(40, 30, 40, sitk.sitkUInt8) + value
        found, notes = detect(image, untrained, DetectOptions(threshold=0))
        assert found == () and notes == ("the volume has one value everywhere; there is nothing to look at",)


def test_values_that_are_no_numbers_count_as_black():
    image = scene((60, 40, 60), (1, 1, 1), balls=[(np.array([0.5, 0.45, 0.5]), 3)])  # in one cell: no two are as sure
    broken = sitk.GetArrayFromImage(image).astype(np.float32)
    broken[0, 0, :] = (np.nan, np.inf, -np.inf) * 20
    other = sitk.GetImageFromArray(broken)
    (one,), _ = detect(image, model_of(DarkCentres()))
    (two,), _ = detect(other, model_of(DarkCentres()))
    assert two.box.center == pytest.approx(one.box.center, abs=1.0)
    nothing = sitk.GetImageFromArray(np.full((20, 20, 20), np.nan, np.float32))
    assert detect(nothing, model_of(DarkCentres()))[1][-1].startswith("the volume has one value")


def test_scale_and_type_of_values_do_not_matter():
    image = scene((60, 40, 60), (0.9, 1.1, 1.0), balls=[(np.array([0.4, 0.5, 0.6]), 6)])
    base = network_input(image, (1, 1, 1)).levels.astype(int)
    for other in (
        sitk.Cast(image, sitk.sitkInt16) * 100 - 9000,
        sitk.Cast(image, sitk.sitkFloat64) * 1e300,
        sitk.Cast(image, sitk.sitkFloat32) * 1e-30,
        sitk.Cast(image, sitk.sitkInt32) * 1_000_000 - 2_000_000_000 + sitk.Cast(image, sitk.sitkInt32),
    ):
        assert np.abs(network_input(other, (1, 1, 1)).levels.astype(int) - base).max() <= 1


def test_resampling_is_that_of_an_average():
    # 0.5 mm to 1 mm: weights 1, 3, 3, 1 eighths of the four voxels around; a ramp stays a ramp.
    array = np.broadcast_to(np.arange(40, dtype=np.float32), (8, 8, 40)).copy()
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.5, 1, 1))
    volume = network_input(image, (1, 1, 1))
    assert volume.levels.shape == (8, 8, 20) and volume.scale == (1, 1, 2)
    ramp = to_tensor(volume.levels)[4, 4]
    steps = ramp[1:] - ramp[:-1]
    assert steps[2:-2].std() < 0.02 and float(steps[5]) > 0
    speckle = np.random.default_rng(0).normal(size=(60, 60, 60)).astype(np.float32)
    image = sitk.GetImageFromArray(speckle)
    image.SetSpacing((0.25, 0.25, 0.25))
    # Standardised after averaging, whatever it was before.
    levels = to_tensor(network_input(image, (1, 1, 1)).levels)
    assert abs(float(levels.mean())) < 0.05 and float(levels.std()) == pytest.approx(1, abs=0.05)


def test_padding_does_not_make_lesions(untrained):
    # The network pads to a multiple of 8 by itself; the same volume padded by hand gives the same boxes.
    levels = network_input(scene((30, 20, 28), (1, 1, 1), seed=3), (1, 1, 1)).levels
    by_hand = np.pad(levels, ((0, 4), (0, 4), (0, 2)), mode="edge")
    search = Search(vote_iou=None)
    one, _ = find_candidates(levels, (1, 1, 1), untrained.network, search)
    seen = candidates.look(by_hand, untrained.network, search)
    other = candidates.choose_boxes(seen, levels.shape, (1, 1, 1), search)
    assert len(one.scores) > 3
    centres = (other.boxes[:, :3] + other.boxes[:, 3:]) / 2
    kept = (centres < levels.shape).all(1)
    assert set(np.round(one.scores, 5)) >= set(np.round(other.scores[kept], 5)[:3])


def test_fewer_looks_are_part_of_more(untrained):
    levels = network_input(scene((60, 40, 52), (1, 1, 1), seed=5), (1, 1, 1)).levels
    search = Search(window=(64, 40, 40), whole_voxels=0, shared=16)
    together = candidates.looks(levels, untrained.network, search, (1, 2, 4))
    alone = {n: look(levels, untrained.network, replace(search, mirrors=n)) for n in (1, 2, 4)}
    for n, windows in alone.items():
        assert len(windows) == len(together[n]) == 2
        for one, other in zip(windows, together[n], strict=True):
            assert all(torch.allclose(getattr(one, name), getattr(other, name), atol=1e-5) for name in ("boxes", "scores", "malignancy"))
    assert not torch.equal(together[1][0].scores, together[4][0].scores)


def test_boxes_of_impossible_size_are_left_out(untrained):
    levels = network_input(scene((60, 40, 60), (1, 1, 1)), (1, 1, 1)).levels
    found, _ = find_candidates(levels, (1, 1, 1), untrained.network, Search(least_mm=6, most_mm=15, vote_iou=None))
    sides = found.boxes[:, 3:] - found.boxes[:, :3]
    assert len(sides) and sides.min() >= 6 and sides.max() <= 15
    assert len(find_candidates(levels, (1, 1, 1), untrained.network, Search(maximum=2))[0].scores) == 2


class ManyKinds(DarkCentres):
    """With nine anchors a cell, as many as the networks that ship have, of about the size of a large lesion."""

    KINDS = 9

    def __init__(self):
        super().__init__()
        self.anchors = tuple((30.0 + i, 30.0, 30.0) for i in range(self.KINDS))

    def forward(self, volume):
        said = super().forward(volume)
        return Predictions(*(part.repeat_interleave(self.KINDS, 1) for part in said[:2]), said.features)


def test_a_large_lesion_does_not_hide_a_small_one():
    large, small = (np.array([0.25, 0.5, 0.25]), 20), (np.array([0.85, 0.5, 0.85]), 5)
    levels = network_input(scene((160, 44, 160), (1, 1, 1), balls=[large, small]), (1, 1, 1)).levels
    network, there = ManyKinds(), np.array([136, 22, 136])

    def nearest(search):
        found, _ = find_candidates(levels, (1, 1, 1), network, search)
        return np.abs((found.boxes[:, :3] + found.boxes[:, 3:]) / 2 - there).max(1).min()

    assert nearest(Search()) < STRIDE
    # About the large one there are more boxes, all of them surer, than are looked at here.
    assert nearest(Search(candidates=1500)) > 30


def test_voting_gives_the_mean_of_boxes_alike():
    rows = torch.tensor([[0.0, 0, 0, 10, 10, 10], [0, 0, 1, 10, 10, 11], [30, 30, 30, 40, 40, 40]])
    scores, malignancy = torch.tensor([0.9, 0.3, 0.5]), torch.tensor([0.2, 0.6, 0.7])
    seen = [candidates.Seen(rows, scores, malignancy)]
    found = candidates.choose_boxes(seen, (50, 50, 50), (1, 1, 1), Search(vote_iou=0.5))
    assert isinstance(found, Candidates) and found.scores.tolist() == pytest.approx([0.9, 0.5])
    assert found.boxes[0].tolist() == pytest.approx([0, 0, 0.25, 10, 10, 10.25])
    assert found.malignancy.tolist() == pytest.approx([0.3, 0.7])


def test_the_operating_point_is_the_users():
    balls = [(np.array([0.2 + 0.3 * i, 0.5, 0.5]), 5.0 + i) for i in range(3)]
    image = scene((100, 40, 60), (1, 1, 1), balls=balls)
    model = model_of(DarkCentres(), threshold=0.2)
    everything, _ = detect(image, model, DetectOptions(threshold=0))
    assert len(everything) > 3
    scores = [f.score for f in everything]
    limit = (scores[1] + scores[2]) / 2
    assert detect(image, model, DetectOptions(threshold=limit))[0] == everything[:2]
    assert detect(image, model, DetectOptions(threshold=0, maximum=1))[0] == everything[:1]
    assert detect(image, model)[0] == tuple(f for f in everything if f.score >= 0.2)
    for wrong in ({"threshold": 1.0}, {"threshold": -0.1}, {"maximum": 0}):
        with pytest.raises(UsageError):
            DetectOptions(**wrong)


def test_what_is_no_volume_is_told(untrained):
    for flat in (sitk.Image(40, 30, sitk.sitkUInt8), sitk.Image(40, 30, 1, sitk.sitkUInt8), sitk.Image(40, 1, 30, sitk.sitkUInt8)):
        with pytest.raises(ImageError, match="single slice.*2D images with breastusai run"):
            detect(flat, untrained)
    with pytest.raises(ImageError, match="843 x 60 x 50 mm.*give the true spacing \\(breastusai detect VOLUME --spacing X Y Z\\), or correct the file's header"):
        detect(sitk.Image(843, 60, 50, sitk.sitkUInt8), untrained)


def test_suspicious_volumes_are_told(untrained):
    _, notes = detect(scene((40, 100, 30), (1, 1, 1)), untrained)
    assert len(notes) == 1 and "lateral, depth, slice" in notes[0]
    _, notes = detect(scene((40, 30, 40), (1, 1, 1)), untrained, spacing_known=False)
    assert len(notes) == 1 and "does not say its spacing" in notes[0]


def test_cancelling_ends_the_search(untrained):
    def cancel(fraction, message):
        if fraction > 0.1:
            raise Cancelled("")

    with pytest.raises(Cancelled):
        detect(scene((40, 30, 40), (1, 1, 1)), untrained, progress=cancel)
    told = []
    detect(scene((40, 30, 40), (1, 1, 1)), untrained, progress=lambda fraction, message: told.append(fraction))
    assert told == sorted(told) and told[0] == 0 and told[-1] == 1


# --- the second opinion ----------------------------------------------------------------------------------------------


def test_a_crop_shows_its_box_in_the_middle():
    for size, spacing, origin, direction in GRIDS.values():
        share = np.array([0.4, 0.5, 0.55])
        image = scene(size, spacing, origin, direction, [(share, 6.0)])
        centre = image.TransformContinuousIndexToPhysicalPoint((share * size - 0.5).tolist())
        crop = lesion_crop(image, Box(centre, (12, 12, 12)), (36, 24, 48), 2.0)
        assert crop.shape == (36, 24, 48) and crop.dtype == np.uint8
        dark = np.argwhere(crop < 60)
        middle = (dark.min(0) + dark.max(0) + 1) / 2 / crop.shape
        length = (dark.max(0) - dark.min(0) + 1) / crop.shape
        assert middle == pytest.approx([0.5] * 3, abs=0.06)
        assert length == pytest.approx([0.5] * 3, abs=0.1)


def test_crops_at_the_edge_are_padded_and_outside_are_empty():
    image = scene((40, 30, 40), (1, 1, 1))
    crop = lesion_crop(image, Box((0, 0, 0), (10, 10, 10)), (16, 16, 16), 2.0)
    assert (crop[:7, :7, :7] == MEAN_LEVEL).all() and crop[9:, 9:, 9:].std() > 3
    assert (lesion_crop(image, Box((500, 0, 0), (10, 10, 10)), (16, 16, 16), 2.0) == MEAN_LEVEL).all()


def test_opinions_are_weighted():
    assert combined(0.8, 0.2, 0.25) == pytest.approx(0.35)
    assert combined(None, 0.2, 0.9) == 0.2 and combined(1.0, 1.0, 0.3) == 1.0


def test_the_classifier_takes_its_crops_and_sizes():
    network = LesionClassifier(stem_channels=4, channels=(4, 4), strides=(2, 2)).eval()
    logits = network(torch.randn(3, 1, 16, 16, 16), torch.zeros(3, 3))
    assert logits.shape == (3,)
    with torch.no_grad():
        network.answer.weight[0, -3:] = 1.0
    crop = torch.zeros(1, 1, 16, 16, 16)
    with torch.no_grad():
        larger, smaller = network(crop, torch.ones(1, 3)), network(crop, torch.zeros(1, 3))
    assert float(larger - smaller) == pytest.approx(3.0, abs=1e-5)


@pytest.mark.parametrize(("mirrors", "axes"), [(2, (2,)), (4, (0,)), (4, (0, 2))])
def test_mirrored_looks_find_mirrored_boxes_where_they_lie(untrained, mirrors, axes):
    """Whatever a network says, the mean over its mirrored looks is the mirror image in a mirrored volume."""
    network = untrained.network
    torch.nn.init.normal_(network.boxes.weight, std=0.3, generator=torch.Generator().manual_seed(3))
    levels = np.random.default_rng(5).integers(1, 255, (32, 24, 48), np.uint8)
    search = Search(mirrors=mirrors, candidates=200)
    (seen,) = look(levels, network, search)
    (mirrored,) = look(np.ascontiguousarray(np.flip(levels, axes)), network, search)
    (once,) = look(np.ascontiguousarray(np.flip(levels, axes)), network, Search(candidates=200))
    back = mirrored.boxes.clone()
    for axis in axes:
        back[:, axis], back[:, axis + 3] = levels.shape[axis] - mirrored.boxes[:, axis + 3], levels.shape[axis] - mirrored.boxes[:, axis]

    # Scores that are equal but for rounding come in any order, and the last may be among the surest or not.
    far = (seen.boxes[:50, None] - back[None]).abs().amax(-1)
    nearest = far.argmin(1)
    assert far.amin(1).max() < 1e-2
    assert torch.allclose(seen.scores[:50], mirrored.scores[nearest], atol=1e-5)
    both = min(len(once.scores), len(mirrored.scores))
    assert both > 9 and not torch.allclose(once.scores[:both], mirrored.scores[:both], atol=1e-6)
    assert len(MIRRORS[:mirrors]) == mirrors
