"""The segment task with the model that ships, on the real sample images: right place, any grid, any range of values."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from BreastUSAILib import segment as segment_module
from BreastUSAILib.detect import check_picture
from BreastUSAILib.errors import BreastUSAIError, ImageError, UsageError
from BreastUSAILib.evaluation.metrics import dice
from BreastUSAILib.image import LoadedImage, read_image
from BreastUSAILib.models.devices import Device
from BreastUSAILib.models.zoo import ModelCache, load
from BreastUSAILib.nearer import Again, mean_of_looks, square_about
from BreastUSAILib.processor import fast_bf16
from BreastUSAILib.segment import SegmentOptions, probability_map, segment_2d
from BreastUSAILib.workup import WorkupOptions, run_workup

DATA = Path(__file__).parents[1] / "Data"
with (DATA / "labels.csv").open(newline="") as _stream:
    SAMPLES = {row["id"]: row for row in csv.DictReader(_stream)}
WITH_LESION = [name for name, row in SAMPLES.items() if row["mask"]]


@pytest.fixture(scope="module")
def model():
    return load(device="cpu")


def _image(name):
    return read_image(DATA / SAMPLES[name]["file"]).image


def _truth(name):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(DATA / SAMPLES[name]["mask"]))) > 0


def _array(finding):
    return sitk.GetArrayFromImage(finding.mask) > 0


def test_the_lesions_of_the_sample_images_are_outlined(model):
    scores = {}
    for name in WITH_LESION:
        findings, _ = segment_2d(_image(name), model)
        assert len(findings) == 1
        scores[name] = dice(_array(findings[0]), _truth(name))
    assert np.mean(list(scores.values())) >= 0.84, scores
    assert min(scores.values()) > 0.5, scores


def test_a_finding_is_complete(model):
    image = _image("case067")
    (finding,), _ = segment_2d(image, model)
    mask = _array(finding)
    assert finding.id == "L1" and finding.label == 1 and finding.models == {"segment": model.entry.id}
    assert 0.5 < finding.score <= 1
    assert finding.mask.GetSize() == image.GetSize() and finding.mask.GetSpacing() == image.GetSpacing()
    rows, columns = np.nonzero(mask)
    spacing = image.GetSpacing()[0]
    assert finding.box.center == pytest.approx(
        ((columns.min() + columns.max()) / 2 * spacing, (rows.min() + rows.max()) / 2 * spacing, 0)
    )
    assert finding.box.size == pytest.approx((np.ptp(columns) * spacing + spacing, np.ptp(rows) * spacing + spacing, 0))
    assert finding.measurements["area_mm2"] == pytest.approx(mask.sum() * spacing**2, rel=1e-6)


def test_unknown_spacing_is_measured_in_pixels(model):
    (finding,), _ = segment_2d(_image("bus_0030-s"), model, spacing_known=False)
    assert not any(name.endswith(("_mm", "_mm2")) for name in finding.measurements)
    assert finding.measurements["area_px2"] == pytest.approx(_array(finding).sum())


def test_an_oblique_grid_changes_where_it_is_and_nothing_else(model):
    image = _image("case214")
    angle = np.radians(30)
    oblique = sitk.Image(image)
    oblique.SetDirection((np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)))
    oblique.SetOrigin((-31.5, 12.25))
    (plain,), _ = segment_2d(image, model)
    (moved,), _ = segment_2d(oblique, model)
    assert np.array_equal(_array(plain), _array(moved))
    centre = image.TransformPhysicalPointToContinuousIndex(plain.box.center[:2])
    assert oblique.TransformContinuousIndexToPhysicalPoint(centre) == pytest.approx(moved.box.center[:2])
    assert moved.box.size == pytest.approx(plain.box.size)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_single_slice_volume_is_a_2d_image(model, axis):
    image = _image("case067")
    (flat,), _ = segment_2d(image, model)
    volume = sitk.GetImageFromArray(np.expand_dims(sitk.GetArrayFromImage(image), axis))
    volume.SetSpacing(tuple(0.5 if volume.GetSize()[i] == 1 else image.GetSpacing()[0] for i in range(3)))
    volume.SetOrigin((1, 2, 3))
    (finding,), _ = segment_2d(volume, model)
    assert finding.mask.GetSize() == volume.GetSize() and finding.mask.GetOrigin() == volume.GetOrigin()
    assert np.array_equal(np.squeeze(_array(finding), axis), _array(flat))
    centroid = np.argwhere(_array(finding)).mean(0)[::-1]
    inside = volume.TransformPhysicalPointToIndex(finding.box.center)
    assert np.all(np.abs(np.array(inside) - centroid) < np.array(volume.GetSize()) / 4 + 1)


def test_a_volume_of_several_slices_is_refused(model):
    with pytest.raises(ImageError, match="volume of 64 x 64 x 3 voxels"):
        segment_2d(sitk.Image(64, 64, 3, sitk.sitkUInt8), model)


@pytest.mark.parametrize("pixel,scale,shift", [(sitk.sitkUInt16, 201, 0), (sitk.sitkFloat32, 1e-3, -7), (sitk.sitkInt16, 30, -4000)])
def test_the_range_of_values_does_not_matter(model, pixel, scale, shift):
    image = _image("bus_0030-s")
    other = sitk.GetImageFromArray(sitk.GetArrayFromImage(image).astype(np.float64) * scale + shift)
    (plain,), _ = segment_2d(image, model)
    (scaled,), _ = segment_2d(sitk.Cast(other, pixel), model)
    assert dice(_array(plain), _array(scaled)) > 0.99


def test_a_screen_capture_gives_the_same_lesion_in_its_place(model):
    image = sitk.GetArrayFromImage(_image("case067"))
    screen = np.zeros((768, 1024), np.uint8)
    top, left = 120, 210
    screen[top : top + image.shape[0], left : left + image.shape[1]] = image
    screen[20:32, 20:200:2] = 255
    screen[700:712, 800:1000:3] = 255
    (plain,), _ = segment_2d(_image("case067"), model)
    (found,), _ = segment_2d(sitk.GetImageFromArray(screen), model)
    part = _array(found)[top : top + image.shape[0], left : left + image.shape[1]]
    assert part.sum() == _array(found).sum()
    assert dice(part, _array(plain)) > 0.93


def test_the_mirror_image_has_the_mirrored_probability(model):
    pixels = sitk.GetArrayFromImage(_image("bus_0096-s"))[:300, :300].astype(np.float32)
    np.testing.assert_allclose(probability_map(pixels, model)[:, ::-1], probability_map(pixels[:, ::-1], model), atol=1e-2 if fast_bf16("cpu") else 1e-4)


def _with(model, **settings):
    return replace(model, entry=replace(model.entry, postprocessing={**model.entry.postprocessing, **settings}))


def test_what_was_found_is_looked_at_again_from_nearer(model, monkeypatch):
    image = _image("case067")
    (once,), _ = segment_2d(image, _with(model, nearer=[]), SegmentOptions(refine=False))
    seen, told = [], []
    see = segment_module.probability_map

    def seeing(pixels, *rest):
        seen.append((pixels, see(pixels, *rest)))
        return seen[-1][1]

    monkeypatch.setattr(segment_module, "probability_map", seeing)
    options = SegmentOptions(refine=False)
    (twice,), _ = segment_2d(image, model, options, progress=lambda fraction, message: told.append((fraction, message)))
    spacing = image.GetSpacing()
    (zoom,) = model.entry.postprocessing["nearer"]
    window = square_about(_array(once), zoom, spacing[1] / spacing[0])
    (whole, first), (part, second) = seen
    assert whole.shape == _array(once).shape and np.array_equal(part, whole[window])
    # What is reported lies where the mean of both looks says so.
    assert ((mean_of_looks(first, [(window, second)]) > model.entry.postprocessing["threshold"]) >= _array(twice)).all()
    assert 0.8 < dice(_array(once), _array(twice)) < 1
    assert "looking again from nearer" in [message for _, message in told]
    assert [fraction for fraction, _ in told] == sorted(fraction for fraction, _ in told)


def _disc(shape, y, x, radius, aspect=1.0):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return ((rows - y) * aspect) ** 2 + (columns - x) ** 2 < radius**2


def _seeing(monkeypatch, first, nearer):
    """Let the network see the map `first`, and of parts of the image those of the map `nearer`; returns the parts that it saw."""
    parts = []

    def see(pixels, *_):
        if pixels.shape == first.shape:
            return first.astype(np.float32)
        ((top, left),) = np.argwhere(codes == pixels[0, 0])
        parts.append((slice(top, top + pixels.shape[0]), slice(left, left + pixels.shape[1])))
        return nearer[parts[-1]].astype(np.float32)

    codes = np.arange(first.size, dtype=np.int32).reshape(first.shape)
    monkeypatch.setattr(segment_module, "probability_map", see)
    return sitk.GetImageFromArray(codes), parts


def test_all_lesions_are_looked_at_again(model, monkeypatch):
    shape = (200, 260)
    left, right = _disc(shape, 100, 60, 30), _disc(shape, 100, 190, 25)
    # From nearer the left one is wider, and what is too small beside the right one is no lesion.
    nearer = np.where(_disc(shape, 100, 60, 34) | right | _disc(shape, 60, 190, 8), 1.0, 0.0)
    image, parts = _seeing(monkeypatch, np.where(left | right, 0.8, 0.1), nearer)
    found, _ = segment_2d(
        image, model, SegmentOptions(refine=False, lesions="all", threshold=0.5), area=(0, 0, 260, 200)
    )
    assert len(found) == len(parts) == 2 and not any(f.notes for f in found)
    spots = sorted((_array(f) for f in found), key=lambda mask: np.argwhere(mask)[:, 1].mean())
    assert np.array_equal(spots[0], _disc(shape, 100, 60, 34)) and np.array_equal(spots[1], right)


def test_what_a_surer_lesion_cuts_off_is_not_joined(model, monkeypatch):
    """Refined outlines may meet: of a bar that another crosses the longer part is left, and not both as one."""
    shape = (120, 200)
    bar, post = np.zeros(shape, bool), np.zeros(shape, bool)
    bar[50:70, 20:180], post[10:110, 80:100] = True, True
    monkeypatch.setattr(segment_module.Look, "again", lambda self, *_: Again(np.where(post, 0.9, np.where(bar, 0.8, 0.0)), [bar, post], True))
    found, _ = segment_2d(sitk.GetImageFromArray(np.arange(24000, dtype=np.int32).reshape(shape)), model, SegmentOptions(refine=False, lesions="all"), area=(0, 0, 200, 120))
    assert [int(_array(f).sum()) for f in found] == [100 * 20, 20 * 80]


def test_what_a_look_from_nearer_does_not_confirm_is_told(model, monkeypatch):
    shape = (200, 260)
    only = _disc(shape, 100, 130, 20)
    image, parts = _seeing(monkeypatch, np.where(only, 0.75, 0.1), np.zeros(shape))
    options = SegmentOptions(refine=False, threshold=0.5)
    (found,), _ = segment_2d(image, model, options, area=(0, 0, 260, 200))
    assert len(parts) == 1 and np.array_equal(_array(found), only)
    assert found.notes == (segment_module.UNCONFIRMED,) and found.score == pytest.approx(0.375, abs=0.01)
    assert segment_2d(image, model, replace(options, minimum_score=0.5), area=(0, 0, 260, 200))[0] == ()


def test_a_lesion_gives_way_to_one_that_was_looked_at_as_well(model, monkeypatch):
    """The central one fades from nearer; the other, as sure at first sight, is looked at too before it takes its place."""
    shape = (200, 260)
    central, other = _disc(shape, 100, 130, 20), _disc(shape, 40, 40, 24)
    image, parts = _seeing(monkeypatch, np.where(central | other, 0.8, 0.1), np.where(other, 0.9, 0.3))
    options = SegmentOptions(refine=False, threshold=0.5)
    (found,), _ = segment_2d(image, model, options, area=(0, 0, 260, 200))
    assert len(parts) == 2 and np.array_equal(_array(found), other) and found.notes == ()
    assert found.score == pytest.approx(0.85, abs=0.01)


def test_pixels_higher_than_wide_are_looked_at_in_a_square_of_millimetres(model, monkeypatch):
    shape = (150, 400)
    disc = np.where(_disc(shape, 75, 200, 40, aspect=2.0), 0.9, 0.1)
    image, parts = _seeing(monkeypatch, disc, disc)
    image.SetSpacing((0.1, 0.2))
    segment_2d(image, model, SegmentOptions(refine=False), area=(0, 0, 400, 150))
    ((rows, columns),) = parts
    assert (rows.stop - rows.start) * 0.2 == pytest.approx((columns.stop - columns.start) * 0.1, abs=0.3)


def test_where_nothing_was_found_nothing_is_looked_at_again(model, monkeypatch):
    looks = []
    see = segment_module.probability_map
    monkeypatch.setattr(segment_module, "probability_map", lambda *a: looks.append(a) or see(*a))
    assert segment_2d(_image("case209"), model, SegmentOptions(threshold=0.9999))[0] == ()
    assert len(looks) == 1


def test_nothing_found_is_an_ordinary_result(model):
    findings, _ = segment_2d(_image("case209"), model, SegmentOptions(threshold=0.9999))
    assert findings == ()
    findings, _ = segment_2d(_image("case067"), model, SegmentOptions(minimum_score=0.9999))
    assert findings == ()


def test_refinement_moves_the_contour_a_little(model):
    image = _image("case067")
    (refined,), _ = segment_2d(image, model)
    (plain,), _ = segment_2d(image, model, SegmentOptions(refine=False))
    assert 0.8 < dice(_array(refined), _array(plain)) < 1
    assert refined.score == plain.score


def test_all_lesions_of_an_image_with_two(model):
    pixels = sitk.GetArrayFromImage(_image("bus_0030-s"))
    pair = sitk.GetImageFromArray(np.hstack([pixels, pixels[:, ::-1]]))
    findings, _ = segment_2d(pair, model, SegmentOptions(lesions="all"))
    assert [f.id for f in findings] == ["L1", "L2"] and [f.label for f in findings] == [1, 2]
    assert findings[0].score >= findings[1].score
    assert not (_array(findings[0]) & _array(findings[1])).any()
    assert len(segment_2d(pair, model)[0]) == 1


def test_options_that_make_no_sense():
    with pytest.raises(UsageError, match="choose one of central, all"):
        SegmentOptions(lesions="left")
    for value in (0, 1, -1, 2, float("nan")):
        with pytest.raises(UsageError, match="between 0 and 1"):
            SegmentOptions(threshold=value)


def test_workup_says_how_it_came_about(model):
    steps = []
    loaded = read_image(DATA / SAMPLES["case067"]["file"])
    study = run_workup(loaded, WorkupOptions(device="cpu", grading=None), lambda fraction, message: steps.append((fraction, message)), ModelCache())
    assert study.summary == "1 lesion found." and study.image.spacing_known
    assert study.provenance["models"] == [model.provenance()]
    assert study.provenance["device"] == {"name": "cpu", "reason": "asked for"}
    assert {"breastusai", "torch", "SimpleITK"} <= set(study.provenance["software"])
    fractions = [fraction for fraction, _ in steps]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == 1
    assert all(message for _, message in steps)


class _SmallGpu:
    """Stands in for a cache whose first model runs on a device without memory ("cpu:0" is not "cpu")."""

    def __init__(self, model, error):
        def network(images):
            raise error

        self.models = {"auto": replace(model, network=network, device=Device("cpu:0", "made")), "cpu": model}

    def get(self, name, task, device):
        return self.models[device]


def test_a_device_without_memory_gives_way_to_the_cpu_and_says_so(model):
    loaded = read_image(DATA / SAMPLES["bus_0030-s"]["file"])
    study = run_workup(loaded, WorkupOptions(grading=None), cache=_SmallGpu(model, torch.OutOfMemoryError("CUDA out of memory. Tried ...")))
    assert study.summary == "1 lesion found."
    assert "the memory of the cpu:0 device was not enough; the CPU was used" in study.provenance["notes"]
    assert study.provenance["device"]["name"] == "cpu"
    with pytest.raises(RuntimeError, match="something else"):
        run_workup(loaded, WorkupOptions(grading=None), cache=_SmallGpu(model, RuntimeError("something else")))


def test_the_published_refinement_can_be_asked_for_by_a_models_config(model):
    paper = replace(model, entry=replace(model.entry, postprocessing={"threshold": 0.5, "refiner": "paper"}))
    image = _image("case067")
    (published,), _ = segment_2d(image, paper)
    (ours,), _ = segment_2d(image, model)
    assert 0.5 < dice(_array(published), _array(ours)) < 1


@pytest.mark.parametrize("size, spacing, known, told", [
    ((60, 45), (4.0, 3.0), True, ""), ((60, 45), (4.0, 4.0), True, "measure 240 x 180 mm"), ((60, 45), (6.0, 1.0), True, "measure 360 x 45 mm"),
    ((600, 450), (1.0, 1.0), False, ""), ((600, 450), (1.0, 1.0), True, "measure 600 x 450 mm"),
])  # fmt: skip
def test_a_picture_larger_than_a_breast_ultrasound_is_told_of_once(model, size, spacing, known, told):
    """SimpleITK writes 1 x 1 mm into an NRRD file of a picture whose spacing nobody knew."""
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(60, 200, size[::-1]).astype(np.uint8))
    image.SetSpacing(spacing)
    study = run_workup(LoadedImage(image, Path("a.nrrd"), known, ()), WorkupOptions(device="cpu", grading=None))
    notes = [note for note in study.provenance["notes"] if "would measure" in note]
    assert [told in note and "probably not the true one" in note and "give --spacing" in note for note in notes] == [True] * bool(told)


def test_what_is_beside_the_ultrasound_does_not_count_for_its_size():
    assert check_picture((10, 10, 400, 140), (1.0, 1.0), False) == () == check_picture((200, 50, 290, 140), (1.0, 1.0))
    assert "290 x 160 mm" in check_picture((200, 50, 290, 160), (1.0, 1.0))[0]


def test_an_error_of_the_task_names_the_file():
    image = sitk.Image(64, 64, 3, sitk.sitkUInt8)
    image.SetSpacing((1.0, 1.0, 300.0))
    volume = LoadedImage(image, Path("some/volume.nrrd"), True, ())
    with pytest.raises(BreastUSAIError, match=r"some.volume\.nrrd.*900 mm"):
        run_workup(volume, WorkupOptions(device="cpu"))
