"""Grading as a task: what a network sees, what becomes of several answers, findings with grades."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from grade_cases import SIZE, grade_folder, image_of
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_screens import make_screen

from BreastUSAILib.activation import PERCENT, Activation, ActivationImage
from BreastUSAILib.cli import main
from BreastUSAILib.errors import Cancelled, ImageError, UsageError
from BreastUSAILib.files import read_study, write_study
from BreastUSAILib.findings import Box, Finding, ImageInfo, Study
from BreastUSAILib.grade import (
    GradeModels,
    GradeOptions,
    answers,
    grade,
    graded_categories,
    network_inputs,
    ungraded,
    with_grade,
)
from BreastUSAILib.grade_3d import grade_3d, mean_answers, sections
from BreastUSAILib.grade_pooling import FEATURES, Familiar, Grade, Pooling, concluded, told_categories
from BreastUSAILib.grid import box_of_mask
from BreastUSAILib.image import LoadedImage, read_image
from BreastUSAILib.lesion_view import ViewRule, Window, cut, several
from BreastUSAILib.models import catalog
from BreastUSAILib.models.zoo import load
from BreastUSAILib.screen_area import find_screen_area
from BreastUSAILib.workup import GradingOptions, run_grading

DATA = Path(__file__).parents[1] / "Data"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    names = ("gcnn", "mtnet", "snnet")
    return GradeModels(**{s: load(grade_folder(folder / s, s), f"grade-{s}", "cpu") for s in names})


@pytest.fixture(scope="module")
def lesion():
    pixels, mask = image_of(True, np.random.default_rng(3))
    image = sitk.GetImageFromArray(pixels)
    image.SetSpacing((0.2, 0.2))
    shape = sitk.GetImageFromArray(mask.astype(np.uint8))
    shape.CopyInformation(image)
    finding = Finding("L1", box_of_mask(shape), 0.9, mask=shape, label=1, measurements={"height_to_width_ratio": 1.6})
    return image, finding


# ------------------------------------------------------------------------------------------------------ what is seen


def test_cut_takes_what_the_window_says():
    array = np.arange(12 * 10, dtype=np.float32).reshape(12, 10)
    values, valid = cut(array, Window((6.0, 5.0), (4.0, 6.0)), (4, 6))
    assert np.array_equal(values[0, 0].numpy(), array[4:8, 2:8]) and bool((valid == 1).all())


def test_cut_says_what_lies_outside():
    array = np.full((8, 8), 5.0, np.float32)
    values, valid = cut(array, Window((0.0, 4.0), (8.0, 8.0)), (8, 8))
    assert not valid[0, 0, :4].any() and bool((valid[0, 0, 4:] == 1).all())
    assert not values[0, 0, :4].any() and bool((values[0, 0, 4:] == 5).all())
    nothing, valid = cut(array, Window((-50.0, 4.0), (8.0, 8.0)), (8, 8))
    assert not nothing.any() and not valid.any()


@settings(max_examples=40, deadline=None)
@given(st.integers(-20, 30), st.integers(-20, 30), st.floats(3, 60), st.floats(3, 60))
def test_cut_of_a_constant_is_that_constant_wherever_it_is_valid(y, x, height, width):
    values, valid = cut(np.full((20, 24), 7.0, np.float32), Window((y, x), (height, width)), (9, 11))
    inside = valid > 1e-3
    assert torch.allclose(values[inside], torch.tensor(7.0), atol=1e-3) and not values[~inside].any()


def test_several_crops_are_spread_evenly_along_the_long_side():
    array = np.tile(np.arange(60, dtype=np.float32), (20, 1))
    values, valid = several(array, Window.whole(array.shape), 20)
    assert values.shape == valid.shape == (5, 1, 20, 20)
    assert np.allclose([v[0, 0, 0].item() for v in values], [0, 10, 20, 30, 40])
    assert len(several(array[:, :20], Window.whole((20, 20)), 20)[0]) == 1
    tall, _ = several(array.T, Window.whole((60, 20)), 20)
    assert tall.shape == (5, 1, 20, 20) and np.allclose([v[0, 0, 0].item() for v in tall], [0, 10, 20, 30, 40])


def test_window_is_square_in_millimetres():
    window = Window.of_mask(np.pad(np.ones((20, 40), bool), 5)).square(pixel_aspect=2.0)
    assert window.sides == (20.0, 40.0) and window.centre == (15.0, 25.0)


def test_without_an_outline_all_of_the_image_is_looked_at():
    rule = ViewRule(SIZE)
    assert rule.window(np.zeros((30, 50), bool)) == Window.whole((30, 50))
    assert replace(rule, view="image").window(np.ones((30, 50), bool)) == Window.whole((30, 50))


def test_several_crops_of_a_lesion_all_hold_it(lesion):
    pixels, mask = sitk.GetArrayFromImage(lesion[0]), sitk.GetArrayFromImage(lesion[1].mask) > 0
    crops = network_inputs(pixels, mask, ViewRule(SIZE, margin=1.6, mask=True), GradeOptions(mirror=False))
    one = network_inputs(pixels, mask, ViewRule(SIZE, margin=1.6, mask=True), GradeOptions(several=False, mirror=False))
    areas = crops[:, 1].sum((1, 2))
    assert crops.shape == (5, 2, SIZE, SIZE) and torch.allclose(areas, one[0, 1].sum(), rtol=0.05)


def test_activation_maps_come_back_where_they_were_seen(lesion):
    mask = sitk.GetArrayFromImage(lesion[1].mask) > 0
    rule = ViewRule(SIZE, margin=1.5)
    seen = network_inputs(mask.astype(np.float32), mask, rule, GradeOptions(several=False, mirror=False))[0, 0] > 0
    back = Activation(seen.float().numpy(), rule.window(mask).square()).on(mask.shape)
    assert back.shape == mask.shape and not back[0].any()
    overlap = 2 * ((back > 0.5) & mask).sum() / ((back > 0.5).sum() + mask.sum())
    assert overlap > 0.95


def test_inputs_do_not_depend_on_gain_and_offset(lesion):
    pixels, mask = sitk.GetArrayFromImage(lesion[0]).astype(np.float32), sitk.GetArrayFromImage(lesion[1].mask) > 0
    rule, options = ViewRule(SIZE), GradeOptions()
    assert torch.allclose(
        network_inputs(pixels, mask, rule, options), network_inputs(pixels * 3 - 40, mask, rule, options), atol=1e-3
    )


# ------------------------------------------------------------------------------------------------------ what is said


def _log(*chances):
    return np.log(np.array(chances, float))


def test_pooling_by_hand():
    said = {"mtnet": {"malignancy": _log(0.2, 0.8)}, "gcnn": {"malignancy": _log(0.5, 0.5)}}
    assert Pooling({"malignancy": {"mtnet": 1.0, "gcnn": 0.0}}).pooled(said, "malignancy") == pytest.approx([0.2, 0.8])
    # Half of each: odds sqrt(4 x 1) = 2.
    assert Pooling().pooled(said, "malignancy")[1] == pytest.approx(2 / 3)
    # A temperature of 1/2 squares the odds.
    assert Pooling({}, {"malignancy": 0.5}).pooled(said, "malignancy")[1] == pytest.approx(0.8)
    assert Pooling().pooled(said, "solid") is None


def test_pooling_of_a_scale_with_and_without_category_2_speaks_of_3_to_5():
    said = {"gcnn": {"birads": _log(*[1 / 6] * 6)}, "mtnet": {"birads": _log(*[0.2] * 5)}}
    assert Pooling().pooled(said, "birads") == pytest.approx([0.2] * 5)


@pytest.mark.parametrize(
    "two, says", [(0.6, "likelier than 3 to 5 together (0.60)"), (0.3, "the likeliest single category (0.30)"), (0.2, "")]
)
def test_category_2_is_said_as_likely_as_it_is(models, lesion, two, says):
    rest = dict.fromkeys(("3", "4A", "4B", "4C", "5"), (1 - two) / 5) | ({"3": 0.4, "4A": 0.1} if two == 0.2 else {})
    grade = Grade(0.2, None, {"2": two, **rest}, {}, {}, None, ())
    notes = [note for note in with_grade(lesion[1], grade, models, Pooling(calibrated=True)).notes if "BI-RADS 2" in note]
    assert notes == ([f"BI-RADS 2 (benign) is {says}; the categories below are the chances if it is not."] if says else [])


def test_systems_that_disagree_are_not_sure():
    said = {"mtnet": {"malignancy": _log(0.1, 0.9)}, "gcnn": {"malignancy": _log(0.8, 0.2)}}
    unsure = concluded(said, Pooling(disagreement=0.5))
    assert "disagree" in unsure.doubts[0] and "0.90" in unsure.doubts[0]
    assert not concluded(said, Pooling(disagreement=0.75)).doubts
    same_side = {"mtnet": {"malignancy": _log(0.1, 0.9)}, "gcnn": {"malignancy": _log(0.8, 0.2)}}
    assert not concluded(same_side, Pooling(disagreement=0.5, threshold=0.1)).doubts


def test_categories_are_reported_among_3_to_5():
    among, two = graded_categories({"2": 0.5, "3": 0.25, "4A": 0.25, "4B": 0.0, "4C": 0.0, "5": 0.0})
    assert two == 0.5 and among["3"] == among["4A"] == 0.5 and sum(among.values()) == 1
    assert graded_categories({"2": 1.0, "3": 0.0, "4A": 0.0, "4B": 0.0, "4C": 0.0, "5": 0.0})[0]["5"] == 0.2


def test_findings_come_back_graded_and_keep_what_they_had(models, lesion):
    image, finding = lesion
    steps = []
    (graded,), notes, activation = grade(image, [finding], models, progress=lambda f, m: steps.append((f, m)))
    assert notes == () and activation.GetSize() == image.GetSize() and activation.GetSpacing() == image.GetSpacing()
    assert sitk.GetArrayViewFromImage(activation).max() <= PERCENT
    assert graded.box == finding.box and graded.mask is finding.mask and graded.score == finding.score
    assert 0 <= graded.malignancy <= 1 and 0 <= graded.solid_nodule <= 1
    assert sum(graded.birads.values()) == pytest.approx(1)
    assert graded.evidence["shape_oval"] + graded.evidence["shape_round"] + graded.evidence[
        "shape_irregular"
    ] == pytest.approx(1)
    assert {"malignancy_gcnn", "malignancy_mtnet", "malignancy_snnet", "birads_2"} <= set(graded.evidence)
    assert graded.models == {f"grade-{s}": f"small-{s}" for s in ("gcnn", "mtnet", "snnet")}
    assert any("not calibrated" in note for note in graded.notes)
    assert any("not parallel" in note for note in graded.notes)
    assert steps[-1] == (1.0, "done")
    study = Study(ImageInfo.of(image, "a.png"), (graded,))
    assert Study.from_json(study.to_json()).findings[0].birads == dict(graded.birads)


def test_a_second_grade_takes_the_place_of_the_first(models, lesion):
    image, finding = lesion
    options = GradeOptions(several=False, mirror=False)
    before = replace(finding, malignancy=0.2, evidence={"malignancy_detect": 0.2, "hottest": 0.7}, notes=("a note",))
    (first,), _, _ = grade(image, [before], models, options)
    (again,), _, _ = grade(image, [first], models, options)
    assert again == first
    (other,), _, _ = grade(image, [first], GradeModels(snnet=models.snnet), options)
    assert set(other.models) == {"grade-snnet"} and other.birads is None and "shape_oval" not in other.evidence
    assert other.evidence["hottest"] == 0.7 and ungraded(first) == before


def test_no_findings_no_grades(models, lesion):
    assert grade(lesion[0], [], models) == ((), (), None)


def test_box_alone_is_enough_in_2d_and_in_a_volume_of_one_slice(models, lesion):
    image, finding = lesion
    options = GradeOptions(several=False)
    flat = grade(image, [replace(finding, mask=None)], models, options).findings[0].malignancy
    array = sitk.GetArrayFromImage(image)
    volume = sitk.GetImageFromArray(array[None])
    volume.SetSpacing((0.2, 0.2, 1.0))
    volume.SetOrigin((11.0, -7.0, 40.0))
    mask = sitk.GetImageFromArray(sitk.GetArrayFromImage(finding.mask)[None])
    mask.CopyInformation(volume)
    there = Finding("L1", box_of_mask(mask), 0.9)
    result = grade(volume, [there], models, options)
    assert result.findings[0].malignancy == pytest.approx(flat, abs=1e-5)
    assert result.activation.GetSize() == volume.GetSize() and result.activation.GetOrigin() == volume.GetOrigin()


def test_ultrasound_area_is_what_is_looked_at(models, lesion):
    image, finding = lesion
    width, height = image.GetSize()
    framed = sitk.ConstantPad(image, (30, 10), (20, 5), 255)
    mask = sitk.ConstantPad(finding.mask, (30, 10), (20, 5), 0)
    framed.SetOrigin((0, 0))
    mask.SetOrigin((0, 0))
    inside = grade(framed, [replace(finding, mask=mask)], models, area=(30, 10, width, height))
    alone = grade(image, [finding], models)
    assert inside.findings[0].malignancy == pytest.approx(alone.findings[0].malignancy, abs=1e-6)
    there = sitk.GetArrayFromImage(inside.activation)
    assert np.array_equal(there[10 : 10 + height, 30 : 30 + width], sitk.GetArrayFromImage(alone.activation))
    assert not there[:10].any() and not there[:, :30].any()


def test_a_screen_is_graded_as_its_picture(models):
    """Where no file says which part is ultrasound it is found, as for outlines."""
    array = sitk.GetArrayFromImage(read_image(DATA / "images" / "bus_0030-s.png").image)
    screen, area = make_screen(array, 5)
    x, y, width, height = area
    mask = np.zeros(screen.shape, np.uint8)
    mask[y + height // 3 : y + height // 2, x + width // 3 : x + width // 2] = 1
    image, shape = sitk.GetImageFromArray(screen), sitk.GetImageFromArray(mask)
    finding = Finding("L1", box_of_mask(shape), 0.9, mask=shape, label=1)
    found = find_screen_area(image)
    assert found.confident
    stated = grade(image, [finding], models, area=(*found.start, *found.size)).findings[0]
    whole = grade(image, [finding], models, area=(0, 0, *image.GetSize())).findings[0]
    assert grade(image, [finding], models).findings[0].evidence == stated.evidence != whole.evidence
    options = GradingOptions(**{system: str(model.file.parent) for system, model in models.present.items()})
    study = run_grading(LoadedImage(image, Path("screen.png"), False), [finding], options)
    assert study.findings[0].evidence == stated.evidence
    assert study.provenance["ultrasound_area"] == [*found.start, *found.size]
    outside = np.zeros_like(mask)
    outside[: y - 20, :10] = 1
    there = replace(finding, mask=sitk.GetImageFromArray(outside))
    (alone,), notes, _ = grade(image, [there], models)
    assert alone.malignancy is None and notes == ("1 finding was not graded: L1 (its outline lies outside of the ultrasound picture)",)


def test_an_emptied_outline_is_not_graded(models, lesion):
    """Not the whole image in its place."""
    image, finding = lesion
    (graded,), notes, _ = grade(image, [replace(finding, mask=finding.mask * 0)], models)
    assert graded.malignancy is None and notes == ("1 finding was not graded: L1 (its outline is empty)",)


def test_volumes_and_masks_of_other_grids_are_refused(models, lesion):
    image, finding = lesion
    with pytest.raises(ImageError, match="several slices"):
        grade(sitk.Image(8, 8, 3, sitk.sitkUInt8), [finding], models)
    with pytest.raises(ImageError, match="L1"):
        grade(image, [replace(finding, mask=sitk.Image(5, 5, sitk.sitkUInt8))], models)


def test_a_model_is_needed():
    with pytest.raises(UsageError, match="needs a model"):
        GradeModels()


def test_each_model_works_alone(models, lesion):
    image, finding = lesion
    (alone,), _, activation = grade(image, [finding], GradeModels(gcnn=models.gcnn))
    assert (
        activation is None and alone.solid_nodule is None and alone.birads is not None and alone.malignancy is not None
    )


def test_switches_change_what_is_seen(models, lesion):
    pixels, mask = sitk.GetArrayFromImage(lesion[0]), sitk.GetArrayFromImage(lesion[1].mask) > 0
    basic, maps = answers(pixels, mask, models, GradeOptions(enhance=False, several=False))
    enhanced, _ = answers(pixels, mask, models, GradeOptions(enhance=True, several=False))
    crops, wide = answers(pixels, mask, models, GradeOptions(enhance=False, several=True))
    assert not np.array_equal(basic["mtnet"]["malignancy"], enhanced["mtnet"]["malignancy"])
    assert not np.array_equal(basic["mtnet"]["malignancy"], crops["mtnet"]["malignancy"])
    assert np.array_equal(basic["gcnn"]["birads"], crops["gcnn"]["birads"])
    assert set(maps) == set(wide) == {"mtnet", "snnet"} and maps["mtnet"].values.shape == (SIZE, SIZE)
    # Several crops reach further along one axis.
    assert min(wide["mtnet"].values.shape) == SIZE < max(wide["mtnet"].values.shape)
    assert max(wide["mtnet"].window.sides) > max(maps["mtnet"].window.sides)


def test_pooling_counts_only_for_the_models_that_it_was_chosen_for(tmp_path, lesion):
    chosen = {
        "models": {"mtnet": "small-mtnet"},
        "weights": {},
        "temperatures": {"malignancy": 2.0},
        "threshold": 0.3,
        "disagreement": None,
    }
    folder = grade_folder(tmp_path / "m", "mtnet")
    config = json.loads((folder / "config.json").read_text())

    def with_pooling(about):
        config["postprocessing"] = {"pooling": {**chosen, **about}}
        (folder / "config.json").write_text(json.dumps(config))
        return load(folder, "grade-mtnet", "cpu")

    # Another model may have the same name; its weights it has not.
    for about in ({}, {"sha256": {"mtnet": "0" * 64}}):
        assert not GradeModels(mtnet=with_pooling(about)).pooling.calibrated
    known = load(folder, "grade-mtnet", "cpu").published_sha256
    mtnet = with_pooling({"sha256": {"mtnet": known}})
    assert GradeModels(mtnet=mtnet).pooling.threshold == 0.3
    gcnn = load(grade_folder(tmp_path / "g", "gcnn"), "grade-gcnn", "cpu")
    assert not GradeModels(mtnet=mtnet, gcnn=gcnn).pooling.calibrated
    (graded,), _, _ = grade(lesion[0], [lesion[1]], GradeModels(mtnet=mtnet))
    assert graded.evidence["malignancy_threshold"] == 0.3
    assert any("operating point 0.30" in note for note in graded.notes) and not any(
        "calibrated" in n for n in graded.notes
    )


def test_a_box_at_the_image_border_is_graded(models, lesion):
    image, _ = lesion
    corner = Finding("L1", Box((0.0, 0.0, 0.0), (4.0, 4.0, 0.0)), 0.5)
    assert 0 <= grade(image, [corner], models).findings[0].malignancy <= 1


def _with_pixels(image, pixels):
    made = sitk.GetImageFromArray(pixels)
    made.CopyInformation(image)
    return made


def test_where_the_image_holds_nothing_nothing_is_graded(models, lesion):
    """A blanked part of an image: a box in it got a malignancy, a category and a shape."""
    image, finding = lesion
    before = replace(finding, mask=None, malignancy=0.3)
    blank = _with_pixels(image, np.full((60, 72), 9, np.uint8))
    for there in (finding, before):
        (nothing,), notes, activation = grade(blank, [there], models)
        assert nothing.malignancy == there.malignancy and nothing.birads is None and "one and the same value" in nothing.notes[-1]
        assert notes[0].startswith("1 finding was not graded") and activation is None
    # Tissue at the far side of what is looked at tells nothing of the lesion either.
    random = np.random.default_rng(0).integers(40, 160, (60, 72)).astype(np.uint8)
    random[:, 20:] = 0
    beside = Finding("L1", Box((6.8, 5.8, 0.0), (4.0, 4.0, 0.0)), 0.5)  # from pixel 24 on
    (nothing,) = grade(_with_pixels(image, random), [beside], models).findings
    assert nothing.malignancy is None and "one and the same value" in nothing.notes[-1]
    # What was known of a finding before it was graded stays, an earlier grade does not.
    (graded,) = grade(image, [replace(before, evidence={"malignancy_detect": 0.3})], models).findings
    (again,) = grade(blank, [graded], models).findings
    assert (again.malignancy, again.birads) == (0.3, None)


@pytest.mark.parametrize("cut", [0, 34])
@pytest.mark.parametrize("side", [4.6, 3.6, 2.6])
def test_a_cyst_without_echoes_is_graded(models, lesion, side, cut):
    """By its outline, by its box, and by one that lies within it; also where the image's border cuts it."""
    image, _ = lesion
    y, x = np.mgrid[:60, :72]
    ball = (y - 30) ** 2 + (x - 36) ** 2 < 11.5**2  # 4.6 mm wide
    pixels = np.where(ball, 0, np.random.default_rng(0).integers(40, 160, ball.shape)).astype(np.uint8)[:, cut:]
    black = sitk.GetImageFromArray(pixels)
    black.SetSpacing(image.GetSpacing())
    mask = _with_pixels(black, ball[:, cut:].astype(np.uint8))
    found = [Finding("L1", Box((7.2 - 0.2 * cut, 6.0, 0.0), (side, side, 0.0)), 0.5), Finding("L2", box_of_mask(mask), 0.5, mask=mask)]
    assert all(f.malignancy is not None for f in grade(black, found, models).findings)


def test_the_category_is_told_of_malignancy():
    even = np.full(5, 0.2)
    # By hand, at a prevalence of 0.5: 2 [m l + (1 - m) (1 - l)] with m = 0.9 and l = 0.01, 0.06, 0.3, 0.725, 0.975.
    agreement = np.array([0.216, 0.296, 0.68, 1.36, 1.76])
    assert told_categories(even, 0.9, 1.0, 0.5) == pytest.approx(agreement / agreement.sum())
    assert told_categories(even, 0.9, 0.5, 0.5) == pytest.approx(np.sqrt(agreement) / np.sqrt(agreement).sum())
    assert told_categories(np.full(6, 1 / 6), 1.0, 1.0, 0.5)[0] == 0  # a malignant lesion is no category 2
    # With a malignancy that is the prevalence nothing is told, whatever the prevalence.
    assert told_categories(even, 0.3, 1.0, 0.3) == pytest.approx(even)
    said = {"mtnet": {"malignancy": _log(0.1, 0.9), "birads": _log(*[0.2] * 5)}}
    assert list(concluded(said, Pooling(told=1.0)).birads.values()) == pytest.approx(agreement / agreement.sum())
    assert list(concluded(said, Pooling()).birads.values()) == pytest.approx(even)


@given(
    chances=st.lists(st.floats(0.001, 1), min_size=5, max_size=6),
    malignancies=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    weight=st.floats(0, 1),
    prevalence=st.floats(0.05, 0.95),
)
def test_the_more_malignant_the_higher_the_category(chances, malignancies, weight, prevalence):
    low, high = sorted(malignancies)
    chances = np.array(chances) / np.sum(chances)
    told = told_categories(np.stack([chances, chances]), np.array([low, high]), weight, prevalence)
    assert told.sum(1) == pytest.approx([1, 1])
    # What lies at or below any category is no more, the more malignant.
    assert np.all(np.cumsum(told[1]) <= np.cumsum(told[0]) + 1e-9)


def test_images_unlike_the_others_are_told():
    data = {"system": "mtnet", "mean": [0.0, 1.0], "deviation": [1.0, 2.0], "limit": 2.0}
    pooling = Pooling(familiar=Familiar.of(data))
    chances = {"malignancy": _log(0.1, 0.9)}
    usual = {"mtnet": {**chances, FEATURES: np.array([1.0, 3.0])}}
    strange = {"mtnet": {**chances, FEATURES: np.array([4.0, 1.0])}}
    assert pooling.familiar.distance(usual) == pytest.approx(1.0)
    assert not concluded(usual, pooling).doubts
    (doubt,) = concluded(strange, pooling).doubts
    assert "unlike" in doubt and "2.83" in doubt
    assert not concluded({"gcnn": chances}, pooling).doubts
    other = {"mtnet": {**chances, FEATURES: np.zeros(3)}}  # of a network that is larger there
    assert pooling.familiar.distance(other) is None and not concluded(other, pooling).doubts


@pytest.fixture(scope="module")
def shipped():
    systems = ("gcnn", "mtnet", "snnet")
    return GradeModels(**{s: load(catalog.default_for(f"grade-{s}").id, f"grade-{s}", "cpu") for s in systems})


@pytest.mark.parametrize("name", ["camera", "chelsea", "coins", "text"])
def test_what_is_no_ultrasound_is_told_to_be_unlike(shipped, name):
    from skimage import color, data

    picture = getattr(data, name)()
    picture = color.rgb2gray(picture) if picture.ndim == 3 else picture
    said, _ = answers(picture.astype(np.float32), np.zeros(picture.shape, bool), shipped)
    assert any("unlike" in doubt for doubt in concluded(said, shipped.pooling).doubts)


def test_breast_ultrasound_is_not_told_to_be_unlike(shipped):
    told = []
    masks = sorted(DATA.glob("masks/*.png"))
    for path in masks:
        image = read_image(next(DATA.glob(f"images/{path.stem}.*"))).image
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(path))) > 0
        said, _ = answers(sitk.GetArrayViewFromImage(image), mask, shipped)
        told += [d for d in concluded(said, shipped.pooling).doubts if "unlike" in d]
    assert len(masks) == 6 and len(told) <= 1  # one of a hundred is expected to be


def test_maps_of_other_regions_are_refused(models, tmp_path, lesion):
    folder = grade_folder(tmp_path / "s", "snnet")
    config = json.loads((folder / "config.json").read_text())
    config["preprocessing"]["margin"] = 2.5
    (folder / "config.json").write_text(json.dumps(config))
    other = GradeModels(mtnet=models.mtnet, snnet=load(folder, "grade-snnet", "cpu"))
    with pytest.raises(UsageError, match="different regions"):
        grade(lesion[0], [lesion[1]], other)
    alone = grade(lesion[0], [lesion[1]], other, GradeOptions(enhance=False))
    assert alone.findings[0].solid_nodule is not None


# --------------------------------------------------------------------------------------------------------- in volumes


def test_one_lesion_that_fails_costs_no_other(models, lesion, monkeypatch):
    import BreastUSAILib.grade as module

    image, finding = lesion
    seen = []

    def failing(*args):
        seen.append(args)
        if len(seen) == 1:
            raise RuntimeError("a tensor of an odd shape")
        return answers(*args)

    monkeypatch.setattr(module, "answers", failing)
    (first, second), notes, _ = grade(image, [finding, replace(finding, id="L2")], models)
    assert first.malignancy is None and first.notes == ("Not graded: RuntimeError: a tensor of an odd shape.",)
    assert second.malignancy is not None
    # A grade that could be made takes the note away; one that could not takes an earlier grade away.
    (regraded,) = grade(image, [first], models).findings
    assert regraded.malignancy is not None and not any(n.startswith("Not graded") for n in regraded.notes)
    seen.clear()
    (failed,) = grade(image, [regraded], models).findings
    assert failed.malignancy is None and failed.birads is None and failed.notes == first.notes and failed.models == first.models
    assert notes == ("1 finding was not graded: L1 (RuntimeError: a tensor of an odd shape)",)
    monkeypatch.setattr(module, "answers", lambda *args: (_ for _ in ()).throw(Cancelled("cancelled.")))
    with pytest.raises(Cancelled):
        grade(image, [finding], models)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 5), st.integers(4, 9), st.booleans())
def test_maps_of_crops_join_without_seams(number, side, vertical):
    """Crops of one smooth map give that map back, whatever part they share."""
    starts = [i * (side // 2) for i in range(number)]
    whole = np.linspace(0, 1, (starts[-1] + side) * side, dtype=np.float32).reshape(-1, side)
    whole = whole if vertical else whole.T
    parts = np.stack([whole[s : s + side] if vertical else whole[:, s : s + side] for s in starts])
    joined = Activation.of_crops(parts, starts, vertical, Window.whole(whole.shape))
    assert np.allclose(joined.values, whole, atol=1e-6) and np.allclose(joined.on(whole.shape), whole, atol=1e-5)


def test_maps_of_several_lesions_keep_the_higher():
    image = sitk.Image(6, 4, sitk.sitkUInt8)
    maps = ActivationImage(image)
    assert maps.image is None
    maps.add(np.full((2, 3), 0.5), (1, 1))
    maps.add(np.full((2, 2), 0.25), (3, 2))
    expected = [[0] * 6, [0, 50, 50, 50, 0, 0], [0, 50, 50, 50, 25, 0], [0, 0, 0, 25, 25, 0]]
    assert sitk.GetArrayFromImage(maps.image).tolist() == expected


def test_sections_are_the_largest_and_its_neighbours():
    mask = np.zeros((7, 9, 9), bool)
    mask[2, 4, 4] = mask[3, 2:7, 2:7] = mask[4, 3:6, 3:6] = True
    assert sections(mask) == [2, 3, 4] and sections(mask[3:]) == [0, 1] and sections(mask & False) == []
    assert sections(np.ones((7, 3, 3), bool)) == [2, 3, 4]  # of a box alone, its middle


def test_mean_of_sections_is_of_probabilities():
    parts = [{"gcnn": {"malignancy": _log(0.2, 0.8)}}, {"gcnn": {"malignancy": _log(0.6, 0.4)}}]
    assert np.exp(mean_answers(parts)["gcnn"]["malignancy"]) == pytest.approx([0.4, 0.6])


def test_a_volume_of_equal_sections_is_graded_as_one_of_them(models, lesion):
    image, finding = lesion
    options = GradeOptions(several=False, mirror=False)
    (flat,), _, seen = grade(image, [finding], models, options)
    volume = sitk.JoinSeries([image] * 5, 0.0, 0.5)
    mask = sitk.JoinSeries([finding.mask * 0, finding.mask, finding.mask, finding.mask, finding.mask * 0], 0.0, 0.5)
    deep = Finding("L1", box_of_mask(mask), 0.9, mask=mask, label=1)
    (graded,), _, activation = grade_3d(volume, [deep], models, options)
    assert activation.GetSize() == volume.GetSize() and seen.GetSize() == image.GetSize()
    assert graded.malignancy == pytest.approx(flat.malignancy, abs=1e-5) and graded.birads == pytest.approx(
        dict(flat.birads), abs=1e-5
    )
    (boxed,) = grade_3d(volume, [replace(deep, mask=None)], models, options).findings
    assert 0 <= boxed.malignancy <= 1
    away = Finding("L2", Box((500.0, 0.0, 0.0), (2.0, 2.0, 2.0)), 0.5)
    (outside, kept), notes, _ = grade_3d(volume, [away, deep], models, options)
    assert outside.malignancy is None and "lies outside the image" in outside.notes[0]
    assert kept.malignancy == graded.malignancy and notes[0].startswith("1 finding was not graded: L2 (the box at")
    with pytest.raises(ImageError, match="not a volume"):
        grade_3d(image, [finding], models)


def test_sections_that_show_nothing_are_passed_over(models, lesion):
    image, finding = lesion
    options = GradeOptions(several=False, mirror=False)
    blank = image * 0
    mask = sitk.JoinSeries([finding.mask] * 3, 0.0, 0.5)
    deep = Finding("L1", box_of_mask(mask), 0.9, mask=mask, label=1)
    (flat,) = grade(image, [finding], models, options).findings
    (graded,) = grade_3d(sitk.JoinSeries([blank, image, blank], 0.0, 0.5), [deep], models, options).findings
    assert graded.malignancy == flat.malignancy
    (nothing,), notes, activation = grade_3d(sitk.JoinSeries([blank] * 3, 0.0, 0.5), [deep], models, options)
    assert nothing.malignancy is None and nothing.birads is None and "one and the same value" in nothing.notes[-1]
    assert len(notes) == 1 and activation is None
    (empty,) = grade_3d(sitk.JoinSeries([image] * 3, 0.0, 0.5), [replace(deep, mask=mask * 0)], models, options).findings
    assert empty.notes == ("Not graded: its outline is empty.",)


def test_maps_of_a_volume_lie_in_the_sections_that_were_looked_at(tmp_path, lesion):
    image, finding = lesion
    graders = GradeModels(mtnet=load(grade_folder(tmp_path / "m", "mtnet", size=139), "grade-mtnet", "cpu"))
    options = GradeOptions(several=False, mirror=False)
    flat = sitk.GetArrayFromImage(grade(image, [finding], graders, options).activation)
    volume = sitk.JoinSeries([image] * 4, 0.0, 0.5)
    mask = sitk.JoinSeries([finding.mask * 0, finding.mask, finding.mask, finding.mask * 0], 0.0, 0.5)
    deep = Finding("L1", box_of_mask(mask), 0.9, mask=mask, label=1)
    seen = sitk.GetArrayFromImage(grade_3d(volume, [deep], graders, options).activation)
    assert flat.max() > 50 and not seen[[0, 3]].any()
    assert np.array_equal(seen[1], flat) and np.array_equal(seen[2], flat)


# ---------------------------------------------------------------------------------------------------- the command line


def test_command_grades_what_an_earlier_run_found_and_what_it_finds_itself(tmp_path, lesion, capsys, monkeypatch):
    image, finding = lesion
    path = tmp_path / "case.nrrd"
    sitk.WriteImage(image, str(path))
    folders = {s: str(grade_folder(tmp_path / s, s)) for s in ("gcnn", "mtnet", "snnet")}
    models = [part for s, folder in folders.items() for part in (f"--{s}", folder)]
    before = tmp_path / "before"
    write_study(Study(ImageInfo.of(image, str(path)), (finding,), provenance={"models": [], "notes": []}), before)
    common = [str(path), "--device", "cpu", "--one-crop", "--quiet", "--output"]
    assert main(["grade", *common, str(tmp_path / "out"), "--findings", str(before), *models]) == 0
    study = read_study(next((tmp_path / "out").iterdir()))
    assert study.findings[0].malignancy is not None and study.findings[0].label == 1
    assert [m["task"] for m in study.provenance["models"]] == ["grade-gcnn", "grade-mtnet", "grade-snnet"]
    assert study.activation.GetSize() == image.GetSize()
    assert main(["grade", *common, str(tmp_path / "own"), *models]) == 0
    own = read_study(next((tmp_path / "own").iterdir()))
    assert all(f.malignancy is not None and f.mask is not None for f in own.findings)
    assert own.provenance["models"][0]["task"] == "segment" and {"segment", "grade"} <= set(own.provenance["seconds"])
    small = tmp_path / "small.nrrd"
    sitk.WriteImage(image[:40, :40], str(small))
    capsys.readouterr()
    assert main(["grade", str(small), *common[1:], str(tmp_path / "bad"), "--findings", str(before), *models]) == 1
    assert "name the result of this image" in capsys.readouterr().err
    monkeypatch.setattr(catalog, "ships", lambda task: False)  # as it is where no grading model is installed
    assert main(["grade", *common, str(tmp_path / "none")]) == 2
    assert "needs a model" in capsys.readouterr().err


def test_volumes_need_findings(models, tmp_path):
    path = tmp_path / "volume.nrrd"
    sitk.WriteImage(
        sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 255, (6, 20, 24)).astype(np.uint8)), str(path)
    )
    with pytest.raises(UsageError, match="give the findings.*breastusai grade: --findings DIR, a result of detect, segment or run"):
        run_grading(read_image(path), None, GradingOptions(mtnet="x"))
