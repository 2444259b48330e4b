"""The map of a volume: closed form against the backward pass, without seams, hot spots, evidence, and what stands on them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from heatmap_cases import SMALL, heat_model_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline
from torch import nn

from BreastUSAILib import gradcam_3d, heatmap
from BreastUSAILib.errors import ImageError, UsageError
from BreastUSAILib.files import read_study
from BreastUSAILib.findings import Box, Finding
from BreastUSAILib.grid import index_box
from BreastUSAILib.heatmap import HeatOptions
from BreastUSAILib.hot_spots import SpotRule, hot_spots
from BreastUSAILib.image import read_image
from BreastUSAILib.models import zoo
from BreastUSAILib.networks.resnet_3d import ResNet3d
from BreastUSAILib.volume_input import levels_of, to_tensor


def network_of(seed=1, **changes):
    """A network whose weights are all drawn, as those of a trained one: fresh blocks do nothing."""
    torch.manual_seed(seed)
    network = ResNet3d(**{**SMALL, **changes}).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
    nn.init.normal_(network.head.weight)
    return network


def levels_like(shape=(23, 14, 19), seed=2):
    return np.random.default_rng(seed).integers(30, 200, shape, dtype=np.uint8)


# --- the closed form -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"stem_pool": True, "stem_stride": (1, 2, 2), "stem_kernel": 7}])
def test_the_closed_form_is_what_a_backward_pass_gives(float32, changes):
    network, levels = network_of(**changes), levels_like()
    volume = to_tensor(levels)[None, None]
    backward = gradcam_3d.grad_cam(network, network.stages[-1], volume, lambda logits: logits)[0]
    said = gradcam_3d.activation(network, levels)
    closed = gradcam_3d.published_map(said, float(network.head.bias.detach()))
    assert backward.max() > 0
    np.testing.assert_allclose(closed, backward.numpy(), rtol=1e-4, atol=1e-6)
    # And its mean is the logit.
    assert said.mean() == pytest.approx(float(network(volume)), abs=1e-4)
    assert gradcam_3d.patch_probability(network, levels) == pytest.approx(
        float(torch.sigmoid(network(volume))), abs=1e-5
    )


def test_the_closed_form_is_monais_map(float32):
    visualize = pytest.importorskip("monai.visualize")
    network, levels = network_of(), levels_like()
    cam = visualize.GradCAM(
        nn_module=network_with_classes(network),
        target_layers="inner.stages.1",
        upsampler=lambda shape: lambda values: values,
        postprocessing=lambda values: values,
    )
    theirs = cam(to_tensor(levels)[None, None], class_idx=0)[0, 0]
    ours = gradcam_3d.published_map(gradcam_3d.activation(network, levels), float(network.head.bias))
    np.testing.assert_allclose(ours, np.asarray(theirs.detach()), rtol=1e-4, atol=1e-6)


def network_with_classes(network):
    """MONAI asks for (N, classes)."""

    class WithClasses(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network

        def forward(self, volume):
            return self.inner(volume)[:, None]

    return WithClasses().eval()


def test_windows_with_means_of_their_own_join_without_seams(float32):
    """Grad-CAM of the head over each window of the map is, cell by cell, the volume's own map times what a window is smaller."""
    network, levels = network_of(), levels_like()
    features = network.features(to_tensor(levels)[None, None]).detach()
    whole = gradcam_3d.published_map(gradcam_3d.activation(network, levels), float(network.head.bias))
    window = (4, 4, 5)
    for start in ((0, 0, 0), (3, 2, 1), (8, 3, 5)):
        part = tuple(slice(a, a + n) for a, n in zip(start, window, strict=True))
        local = features[(0, slice(None), *part)].clone().requires_grad_()
        logit = network.head(local.mean((1, 2, 3)))[0]
        (gradient,) = torch.autograd.grad(logit, local)
        weights = gradient.mean((1, 2, 3))
        cam = torch.relu(torch.einsum("c,czyx->zyx", weights, local)).detach().numpy()
        np.testing.assert_allclose(cam, whole[part] * whole.size / np.prod(window), rtol=1e-4, atol=1e-6)


def test_slabs_join_to_the_map_of_the_whole_volume():
    network, levels = network_of(), levels_like((61, 10, 12))
    whole = gradcam_3d.activation(network, levels)
    assert whole.shape == (31, 5, 6)
    for slab in (16, 17, 40):
        np.testing.assert_allclose(gradcam_3d.activation(network, levels, slab=slab), whole, rtol=1e-4, atol=1e-5)


def test_memory_that_does_not_suffice_makes_smaller_slabs(monkeypatch):
    network, levels = network_of(), levels_like((61, 10, 12))
    whole, real, asked = gradcam_3d.activation(network, levels), gradcam_3d._in_slabs, []

    def stingy(network, levels, device, slab):
        asked.append(slab)
        if slab > 20:
            raise RuntimeError("CUDA out of memory")
        return real(network, levels, device, slab)

    monkeypatch.setattr(gradcam_3d, "_in_slabs", stingy)
    np.testing.assert_allclose(gradcam_3d.activation(network, levels), whole, rtol=1e-4, atol=1e-5)
    assert asked == [61, 30, 16]


def test_a_small_lesion_does_not_drown_in_a_large_volume():
    """One mean over a volume loses it; windows of the patches' size do not."""
    cells = np.full((20, 20, 20), -0.5, np.float32)
    cells[9:12, 9:12, 9:12] = 20.0
    logits = gradcam_3d.window_logits(cells, (8, 8, 8))
    assert cells.mean() < -0.4 and logits.shape == (13, 13, 13) and logits.max() > 0
    covering = gradcam_3d.covering_logits(logits, cells.shape)
    assert (
        covering.shape == cells.shape
        and covering[10, 10, 10] == logits.max()
        and covering[0, 0, 0] == pytest.approx(-0.5)
    )
    by_hand = max(logits[z, y, x] for z in range(4, 5) for y in range(0, 9) for x in range(12, 13) if z <= 4 <= z + 7)
    assert covering[4, 8, 19] >= by_hand
    assert gradcam_3d.window_logits(cells, (50, 4, 4)).shape == (1, 17, 17)


@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 40), st.sampled_from([1, 2]))
@settings(max_examples=60, deadline=None)
def test_interpolation_is_by_splines_whose_outermost_cells_go_on(cells, scale, size, degree):
    matrix = gradcam_3d.interpolation(cells, scale, np.arange(size), degree)
    assert matrix.min() >= 0
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-6)
    spline = BSpline(np.arange(cells + 5 + degree) - (degree + 1) / 2, np.eye(cells + 4)[:, 2:-2], degree)  # with two cells more at either end
    inner = np.arange(size) / scale
    inner = inner[(inner >= degree) & (inner <= cells - 1 - degree)]
    np.testing.assert_allclose(
        gradcam_3d.interpolation(cells, 1, inner, degree), spline(inner + 2), atol=1e-6
    )


@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_interpolation_keeps_what_is_constant_and_cells_where_they_are(cells, scale, size):
    matrix = gradcam_3d.interpolation(cells, scale, np.arange(size))
    assert matrix.shape == (size, cells)
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-6)
    for cell in range(cells):
        if cell * scale < size:
            assert matrix[cell * scale, cell] == pytest.approx(1)


def test_a_map_lies_where_its_cells_look():
    """A bright voxel in nothing: the cells that see it lie about it, so the map's middle is where the voxel is."""
    network = network_of(stem_stride=(2, 2, 2))
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv3d):
                module.weight.fill_(0.1)  # symmetric kernels
        network.head.weight.fill_(1.0)
    dark = np.full((41, 33, 37), 96, np.uint8)
    bright = dark.copy()
    bright[20, 14, 22] = 255
    cells = gradcam_3d.activation(network, bright) - gradcam_3d.activation(network, dark)
    places = [gradcam_3d.interpolation(n, 2, np.arange(m)) for n, m in zip(cells.shape, dark.shape, strict=True)]
    fine = np.abs(gradcam_3d.resized(cells, places))
    middle = [
        float((fine.sum(tuple(b for b in range(3) if b != a)) * np.arange(n)).sum() / fine.sum())
        for a, n in enumerate(fine.shape)
    ]
    assert middle == pytest.approx([20, 14, 22], abs=0.3)


# --- sanity (Adebayo et al. 2018) ------------------------------------------------------------------------------------


def test_the_map_depends_on_the_weights_layer_by_layer(heat_model, ball_volume):
    levels = levels_of(sitk.GetArrayViewFromImage(ball_volume))
    trained = gradcam_3d.activation(heat_model.network, levels)
    network = zoo.load(heat_model.folder, "heatmap", "cpu").network
    generator = torch.Generator().manual_seed(5)
    alike = []
    for layer in (
        network.head,
        *reversed(network.stages),
        network.stem,
    ):  # from the top down, each on top of the others
        with torch.no_grad():
            for parameter in layer.parameters():
                values = parameter.flatten()
                parameter.copy_(values[torch.randperm(len(values), generator=generator)].reshape(parameter.shape))
        changed = gradcam_3d.activation(network, levels)
        alike.append(float(np.corrcoef(trained.ravel(), changed.ravel())[0, 1]))
    assert all(a < 0.9 for a in alike) and abs(alike[-1]) < 0.6


def test_the_map_of_a_mirror_image_is_the_mirrored_map(heat_model, ball_volume):
    levels = levels_of(sitk.GetArrayViewFromImage(ball_volume))[:31, :19, :31]  # cells lie on both ends of odd sizes
    straight = np.maximum(gradcam_3d.activation(heat_model.network, levels), 0)
    for axis in (0, 2):  # those along which it has seen mirror images
        turned = gradcam_3d.activation(heat_model.network, np.ascontiguousarray(np.flip(levels, axis)))
        back = np.maximum(np.flip(turned, axis), 0)
        assert np.corrcoef(straight.ravel(), back.ravel())[0, 1] > 0.8
        peaks = [np.unravel_index(heat.argmax(), heat.shape) for heat in (straight, back)]
        assert np.abs(np.subtract(*peaks)).max() <= 1


def looks_by_hand(network, levels):
    """The mean of the maps of four volumes, each mirrored and taken back: where a cell lies is counted, not taken for granted."""
    step = network.scale[0]
    wide = np.pad(levels, [(0, -(n - 1) % step) for n in levels.shape], mode="edge")
    maps = []
    for z, x in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        cells = gradcam_3d.activation(network, np.ascontiguousarray(wide[::z, :, ::x]))
        places = [np.arange(0, n, step) for n in wide.shape]  # of the cells in the mirrored volume
        own = [len(wide) - 1 - places[0] if z < 0 else places[0], places[1], wide.shape[2] - 1 - places[2] if x < 0 else places[2]]
        back = np.empty_like(cells)
        back[np.ix_(*(at // step for at in own))] = cells
        maps.append(back)
    return np.mean(maps, 0)[tuple(slice(-(-n // step)) for n in levels.shape)]


@pytest.mark.parametrize("shape", [(31, 19, 29), (30, 18, 31), (32, 20, 28)])
@pytest.mark.parametrize("slab", [None, 16])
@pytest.mark.parametrize(("strides", "scale"), [((1, 1), 2), ((1, 2), 4)])
def test_looks_are_the_mean_of_the_mirror_images_maps(shape, slab, strides, scale):
    network, levels = network_of(strides=strides), levels_like(shape)
    assert network.scale[0] == scale
    four = gradcam_3d.activation(network, levels, slab=slab, mirrors=4)
    np.testing.assert_allclose(four, looks_by_hand(network, levels), rtol=1e-4, atol=1e-5)


def test_memory_that_ends_in_the_third_look_costs_slabs_only(monkeypatch):
    network, levels = network_of(), levels_like((61, 10, 12))
    whole, real, asked = gradcam_3d.activation(network, levels, mirrors=4), gradcam_3d._in_slabs, []

    def small(network, levels, device, slab):
        asked.append(slab)
        if len(asked) == 3:
            raise torch.OutOfMemoryError("no more")
        return real(network, levels, device, slab)

    monkeypatch.setattr(gradcam_3d, "_in_slabs", small)
    np.testing.assert_allclose(gradcam_3d.activation(network, levels, mirrors=4), whole, rtol=1e-4, atol=1e-5)
    first = asked[0]
    assert first >= len(levels)  # of what passes, edges repeated, all at once
    assert asked == [first, first, first, max(16, first // 2), max(16, first // 2)]


def test_a_patchs_answer_by_four_looks_is_that_of_its_mirror_image(heat_model, ball_volume):
    levels = levels_of(sitk.GetArrayViewFromImage(ball_volume))[:32, :20, :32]
    turned = np.ascontiguousarray(levels[::-1])
    one, other = (gradcam_3d.patch_probability(heat_model.network, part, mirrors=4) for part in (levels, turned))
    assert one == pytest.approx(other, abs=1e-4)
    assert gradcam_3d.patch_probability(heat_model.network, levels) != pytest.approx(one, abs=1e-6)


# --- hot spots -------------------------------------------------------------------------------------------------------


def hill(shape, centre, height, width):
    at = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    return (height * np.exp(-((at - centre) ** 2).sum(-1) / (2 * width**2))).astype(np.float32)


def test_two_hills_are_two_spots_with_places_boxes_and_scores_of_their_own():
    heat = hill((40, 30, 40), (10, 15, 10), 6.0, 3) + hill((40, 30, 40), (28, 12, 30), 3.0, 2) - 0.2
    spots = hot_spots(heat, (1.0, 1.0, 1.0), (16, 16, 16))
    assert [s.peak for s in spots] == [(10.5, 15.5, 10.5), (28.5, 12.5, 30.5)]
    assert spots[0].score > spots[1].score
    for spot, width in zip(spots, (3, 2), strict=True):
        # Half the height lies 1.18 widths from the top.
        np.testing.assert_allclose(np.subtract(spot.box[3:], spot.box[:3]), 2 * 1.18 * width, atol=1.2)
        np.testing.assert_allclose(spot.centroid, spot.peak, atol=0.3)
        assert spot.holds(spot.peak) and not spot.holds(np.add(spot.peak, 3 * width))
        assert not spot.holds((-5, 0, 0))
    # What is said of one spot does not depend on another in its window.
    alone = hot_spots(
        np.where(heat > 0, hill((40, 30, 40), (28, 12, 30), 3.0, 2) - 0.2, heat), (1.0, 1.0, 1.0), (40, 30, 40)
    )
    both = hot_spots(heat, (1.0, 1.0, 1.0), (40, 30, 40))
    assert alone[0].score == pytest.approx(both[1].score, abs=0.01)


def test_spots_follow_their_rule():
    heat = hill((30, 30, 30), (15, 15, 15), 4.0, 6) + hill((30, 30, 30), (15, 15, 19), 0.5, 1)
    assert len(hot_spots(heat, (1, 1, 1), (16, 16, 16))) == 1  # a shoulder is a part of the hill
    assert hot_spots(np.full((9, 9, 9), -1, np.float32), (1, 1, 1), (4, 4, 4)) == []
    many = sum(hill((60, 20, 60), (10 + 20 * i, 10, 10 + 20 * j), 2.0 + i + j, 2) for i in range(3) for j in range(3))
    assert len(hot_spots(many, (1, 1, 1), (16, 16, 16))) == 9
    fewer = hot_spots(many, (1, 1, 1), (16, 16, 16), SpotRule(maximum=4))
    assert len(fewer) == 4 and max(s.value for s in fewer) == pytest.approx(float(many.max()))
    wide = hot_spots(hill((50, 50, 50), (25, 25, 25), 5.0, 12), (1, 1, 1), (16, 16, 16), SpotRule(fraction=0.3))
    assert wide[0].inside.shape[0] > 33  # larger than the part of the map that was looked at first
    assert SpotRule.of({"fraction": 0.4, "threshold": 0.7}) == SpotRule(fraction=0.4)
    # By its peak a spot as hot as heat 1 scores one half, one three times as hot three quarters.
    by_peak = SpotRule(scored_by="peak", full_heat=2.0)
    assert [s.score for s in hot_spots(hill((30, 30, 30), (15, 15, 15), 6.0, 3), (1, 1, 1), (16, 16, 16), by_peak)] == [
        pytest.approx(0.75)
    ]


def test_heat_begins_above_what_ordinary_tissue_reaches(heat_model, ball_volume):
    def seen(floor):
        settings = {**heat_model.entry.postprocessing, "floor": floor}
        return heatmap.look(
            ball_volume, replace(heat_model, entry=replace(heat_model.entry, postprocessing=settings))
        )

    plain, raised = seen(0.0), seen(0.25)
    np.testing.assert_array_equal(raised.cells, plain.cells)  # what the network says is the same
    full = plain.rule.full_heat
    np.testing.assert_allclose(raised.heat(raised.cells), plain.heat(plain.cells) - 0.25 / full, atol=1e-5)
    # The floor that validation chose: most of a volume shows no heat.
    chosen = heatmap.look(ball_volume, heat_model)
    assert float((chosen.heat(chosen.cells) > 0).mean()) < 0.4


def test_the_probability_of_a_spot_does_not_depend_on_where_heat_begins(heat_model, ball_volume):
    seen = heatmap.look(ball_volume, heat_model)
    activation, spacing, window = seen.map.activation, seen.map.spacing, seen.map.window(seen.crop)
    shifted = np.where(activation > 1, activation, np.minimum(activation, 0))  # nothing between the floors

    def first(floor):
        rule = replace(seen.rule, scored_by="patch", floor=floor, fraction=0.01)
        return hot_spots(shifted, spacing, window, rule)[0]

    assert first(0.5).score == pytest.approx(first(0.0).score)
    assert first(0.5).value == pytest.approx(first(0.0).value - 0.5)


# --- the task --------------------------------------------------------------------------------------------------------


def test_a_ball_is_found_on_an_oblique_grid(heat_model, ball_volume, ball_centre):
    found = heatmap.heatmap(ball_volume, heat_model)
    assert found.image.GetSize() == ball_volume.GetSize() and found.image.GetDirection() == ball_volume.GetDirection()
    assert found.image.GetSpacing() == ball_volume.GetSpacing() and found.image.GetPixelID() == sitk.sitkFloat32
    heat = sitk.GetArrayViewFromImage(found.image)
    assert heat.min() >= 0
    first = found.findings[0]
    assert first.id == "H1" and first.models == {"heatmap": "heatmap-compact"} and 0 < first.score <= 1
    peak = [first.evidence[f"peak_{axis}"] for axis in "xyz"]
    assert np.linalg.norm(np.subtract(peak, ball_centre)) < 3
    assert first.evidence["heat_peak"] == pytest.approx(float(heat.max()), rel=0.1)
    assert first.evidence["heat_inside"] > 2 * first.evidence["heat_around"]
    # The map's hottest voxel is where the finding says.
    z, y, x = np.unravel_index(heat.argmax(), heat.shape)
    hottest = ball_volume.TransformIndexToPhysicalPoint((int(x), int(y), int(z)))
    assert np.linalg.norm(np.subtract(peak, hottest)) < 1.5


def test_options_choose_what_is_reported(heat_model, ball_volume):
    everything = heatmap.heatmap(ball_volume, heat_model, HeatOptions(threshold=0.0)).findings
    assert [f.score for f in everything] == sorted((f.score for f in everything), reverse=True)
    assert heatmap.heatmap(ball_volume, heat_model, HeatOptions(0.0, 1)).findings == everything[:1]
    assert heatmap.heatmap(ball_volume, heat_model, HeatOptions(threshold=0.9999)).findings == ()
    for wrong in ({"threshold": 1.0}, {"threshold": -0.1}, {"maximum": 0}):
        with pytest.raises(UsageError):
            HeatOptions(**wrong)


def test_images_that_have_no_map(heat_model):
    with pytest.raises(ImageError, match="single slice"):
        heatmap.heatmap(sitk.Image([40, 30, 1], sitk.sitkUInt8), heat_model)
    empty = heatmap.heatmap(sitk.Image([40, 30, 20], sitk.sitkUInt8), heat_model)
    assert empty.findings == () and empty.image is None and "one value" in empty.notes[-1]


def test_evidence_is_what_lies_inside_a_box_and_around_it():
    array = np.zeros((30, 20, 40), np.float32)
    array[10:14, 6:10, 18:24] = 2.0
    array[10, 6, 18] = 5.0
    heat = sitk.GetImageFromArray(array)
    heat.SetSpacing((0.5, 1.0, 2.0))
    box = index_box(heat, (18, 6, 10), (6, 4, 4))
    said = heatmap.evidence_of(heat, box)
    assert (
        said["heat_highest"] == 5.0
        and said["heat_inside"] == pytest.approx(2.0 + 3.0 / 96)
        and said["heat_around"] == 0
    )
    beside = heatmap.evidence_of(heat, index_box(heat, (25, 6, 10), (3, 4, 4)))
    assert beside["heat_inside"] == 0 and beside["heat_above_surroundings"] == -beside["heat_around"] < 0
    findings = [
        Finding("L1", box, 0.9, evidence={"own": 1.0}),
        Finding("L2", Box((0.0, 900.0, 0.0), (1.0, 1.0, 1.0)), 0.5),
    ]
    richer = heatmap.with_evidence(findings, heat)
    assert richer[0].evidence == {"own": 1.0, **said} and richer[1] == findings[1]


# --- the command line and the workup ---------------------------------------------------------------------------------


def test_the_command_writes_map_and_findings(heat_model, ball_volume, tmp_path, capsys):
    from BreastUSAILib.cli import main

    sitk.WriteImage(ball_volume, str(tmp_path / "volume.nrrd"))
    code = main(
        ["heatmap", str(tmp_path / "volume.nrrd"), "--output", str(tmp_path / "out"), "--model", str(heat_model.folder)]
    )
    said = capsys.readouterr()
    assert code == 0 and "H1  score" in said.out + said.err
    (folder,) = (tmp_path / "out").iterdir()
    study = read_study(folder)
    assert study.findings[0].id == "H1" and study.heatmap.GetSize() == ball_volume.GetSize()
    assert study.provenance["models"][0]["task"] == "heatmap" and study.provenance["seconds"]["heatmap"] > 0
    assert 0 <= study.provenance["operating_point"]["threshold"] < 1
    assert json.loads((folder / "study.json").read_text())["findings"][0]["evidence"]["heat_peak"] > 0
    assert (
        main(
            [
                "heatmap",
                "nothing.nrrd",
                "--output",
                str(tmp_path),
                "--model",
                str(heat_model.folder),
                "--threshold",
                "2",
            ]
        )
        == 2
    )
    assert main(["heatmap", "nothing.nrrd", "--output", str(tmp_path), "--model", str(tmp_path)]) == 1


def test_a_workup_gives_findings_the_evidence_of_the_map(heat_model, ball_volume, tmp_path):
    from small_models import detector_folder

    from BreastUSAILib.workup import DetectionOptions, HeatmapOptions, WorkupOptions, run_workup

    sitk.WriteImage(ball_volume, str(tmp_path / "volume.nrrd"))
    loaded = read_image(tmp_path / "volume.nrrd")
    detector = detector_folder(tmp_path / "detector", threshold=0.0)
    options = WorkupOptions(
        device="cpu",
        detection=DetectionOptions(str(detector), threshold=0.0, maximum=3),
        segmentation=None,
        grading=None,
        heatmap=HeatmapOptions(str(heat_model.folder)),
    )
    study = run_workup(loaded, options)
    assert len(study.findings) == 3 and all("heat_inside" in f.evidence for f in study.findings)
    assert all(f.models["heatmap"] == "heatmap-compact" and f.models["detect"] for f in study.findings)
    assert study.heatmap.GetSize() == ball_volume.GetSize()
    assert {m["task"] for m in study.provenance["models"]} == {"detect", "heatmap"}
    without = run_workup(loaded, replace(options, heatmap=None))
    assert without.heatmap is None and [f.box for f in without.findings] == [f.box for f in study.findings]


def test_the_child_process_is_told_everything(tmp_path):
    from BreastUSAILib.child_heatmap import heatmap_arguments
    from BreastUSAILib.cli import build_parser
    from BreastUSAILib.command_arguments import heatmap_options
    from BreastUSAILib.workup import HeatmapOptions

    for options in (HeatmapOptions(), HeatmapOptions("a model", "cpu", 0.25, 7), HeatmapOptions(threshold=0.0)):
        arguments = heatmap_arguments(tmp_path / "in.nrrd", tmp_path, options)
        assert heatmap_options(build_parser(arguments).parse_args(arguments)) == options


# --- fixtures --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heat_model(tmp_path_factory):
    folder = heat_model_folder(tmp_path_factory.mktemp("model"))
    model = zoo.load(folder, "heatmap", "cpu")
    object.__setattr__(model, "folder", folder)
    return model


@pytest.fixture(scope="module")
def ball_volume():
    """A dark ball in noise, on a grid that lies oblique in space."""
    array = np.random.default_rng(7).integers(90, 160, (32, 20, 32)).astype(np.uint8)
    at = np.stack(np.meshgrid(*(np.arange(n) for n in array.shape), indexing="ij"), -1)
    array[((at - (20, 9, 11)) ** 2).sum(-1) < 10] //= 3
    image = sitk.GetImageFromArray(array)
    image.SetOrigin((5.0, -3.0, 12.0))
    image.SetDirection((0.0, 0.0, 1.0, 0.8, -0.6, 0.0, 0.6, 0.8, 0.0))
    return image


@pytest.fixture(scope="module")
def ball_centre(ball_volume):
    return ball_volume.TransformIndexToPhysicalPoint((11, 9, 20))
