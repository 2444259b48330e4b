"""The recipe of grading, the choice of how answers are pooled and the protocol, on a tiny data set and tiny networks."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from grade_cases import SIZE, SMALL_G, SMALL_MT, SMALL_SN, data_folder, grade_folder
from safetensors.torch import load_file, save_file
from scipy.stats import binom, norm

from BreastUSAILib.cli import main
from BreastUSAILib.errors import DataError, UsageError
from BreastUSAILib.evaluation import grade as protocol
from BreastUSAILib.evaluation.grade_outlines import FoundOutlines, largest_part, outline, prepare
from BreastUSAILib.evaluation.segmentation_data import read_cases
from BreastUSAILib.findings import Box, Finding
from BreastUSAILib.grade import GradeModels, grade
from BreastUSAILib.grade_pooling import Pooling
from BreastUSAILib.lesion_view import ViewRule
from BreastUSAILib.models.cards import card
from BreastUSAILib.models.publish import stated_figures
from BreastUSAILib.models.zoo import load
from BreastUSAILib.networks import g_cnn, mt_net, sn_net
from BreastUSAILib.training import grade_batches
from BreastUSAILib.training import grade_networks as networks_module
from BreastUSAILib.training import grade_run as run_module
from BreastUSAILib.training.detection_crops import generator_of
from BreastUSAILib.training.grade import _check_labels as check_labels
from BreastUSAILib.training.grade import train
from BreastUSAILib.training.grade_average import MEAN, check_parts, fold_of, is_worse_than_all, mean_weights
from BreastUSAILib.training.grade_batches import Lesions, draw_order, rate_steps, warped_outlines
from BreastUSAILib.training.grade_choice import (
    best_temperature,
    choose,
    marginal_loss,
    misses_allowed,
    operating_point,
    told_weight,
)
from BreastUSAILib.training.grade_recipe import COMPACT, MAIN, PAPER, GradeRecipe

OUTPUTS = {"malignancy": 2, "birads": 6}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return data_folder(tmp_path_factory.mktemp("set") / "breast")


@pytest.fixture
def small(monkeypatch):
    for module, arguments in ((mt_net, SMALL_MT), (sn_net, SMALL_SN), (g_cnn, SMALL_G)):
        monkeypatch.setattr(module, "COMPACT", {"in_channels": 1, **arguments})
        monkeypatch.setattr(module, "PAPER", {"in_channels": 1, **arguments})


def _recipe(system, **changes):
    values = {"epochs": 2, "batch": 6, "size": SIZE, "outlines": ("true",), "imagenet": False, "rate": 1e-3}
    return GradeRecipe(**{"system": system, **values, **changes})


# ---------------------------------------------------------------------------------------------------------- batches


def test_what_is_seen_plainly_is_what_inference_sees(data):
    from BreastUSAILib.evaluation.segmentation_data import load_pixels
    from BreastUSAILib.grade import GradeOptions, network_inputs

    case = read_cases(data)[0]
    rule = ViewRule(SIZE, mask=True)
    pixels, mask = load_pixels(case)
    wanted = network_inputs(pixels, largest_part(mask), rule, GradeOptions(several=False, mirror=False))
    seen = Lesions([case], rule, OUTPUTS, spare=1.0).plain(torch.tensor([0]))
    assert seen.shape == wanted.shape == (1, 2, SIZE, SIZE)
    assert float((seen[:, 0] - wanted[:, 0]).abs().max()) < 0.05  # 8-bit levels
    assert torch.equal(seen[:, 1], wanted[:, 1])


def test_variation_follows_the_generator_and_keeps_labels(data):
    lesions = Lesions(read_cases(data)[:4], ViewRule(SIZE, mask=True), OUTPUTS, ("true", "none"))
    indices = torch.tensor([0, 3])
    first, again, other = (lesions.varied(indices, generator_of(seed)) for seed in (1, 1, 2))
    assert first.shape == (2, 2, SIZE, SIZE) and torch.isfinite(first).all()
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert set(lesions.varied(indices, generator_of(1))[:, 1].unique().tolist()) <= {0.0, 1.0}
    plain = lesions.varied(indices, generator_of(1), paper=True)
    assert plain.shape == first.shape and torch.isfinite(plain).all()
    assert lesions.labels(indices)["birads"].shape == (2, 6)


def test_rough_outlines_are_outlines_of_much_the_same():
    mask = torch.zeros(40, 1, 64, 64)
    mask[:, :, 20:44, 16:48] = 1
    rough = warped_outlines(mask, generator_of(5))
    there = rough.sum((1, 2, 3)) > 0
    assert 25 <= int(there.sum()) <= 40
    overlap = 2 * (rough * mask).sum((1, 2, 3)) / (rough + mask).sum((1, 2, 3))
    assert float(overlap[there].min()) > 0.75 and float(overlap[there].max()) == 1


# ------------------------------------------------------------------------------------------------------ whole images


def _shown(monkeypatch, shape, pixel_aspect=1.0):
    """A data set's only picture: `shape` pixels of even grey with a square of 12 x 12 bright ones at its centre, which is the lesion."""
    from types import SimpleNamespace

    mask = np.zeros(shape, bool)
    mask[tuple(slice(n // 2 - 6, n // 2 + 6) for n in shape)] = True
    pixels = np.where(mask, 200, 50).astype(np.uint8)
    part = (slice(0, shape[0]), slice(0, shape[1]))
    picture = SimpleNamespace(pixels=pixels, mask=mask, part=part, pixel_aspect=pixel_aspect)
    monkeypatch.setattr(grade_batches, "load_picture", lambda case: picture)
    monkeypatch.setattr(grade_batches, "outline", lambda case, which, found: mask & (which != "none"))
    return picture


@pytest.mark.parametrize(
    ("view", "outlines"), [("image", ("none",)), ("image", ("true",)), ("lesion", ("none",))], ids=["paper", "outlined", "none"]
)
@pytest.mark.parametrize(("shape", "pixel_aspect"), [((60, 97), 1.0), ((90, 60), 1.0), ((40, 60), 2.0), ((60, 60), 1.0)])
def test_whole_images_are_judged_in_the_crops_of_inference(shape, pixel_aspect, view, outlines, data, monkeypatch):
    from BreastUSAILib.grade import GradeOptions, network_inputs

    seen = _shown(monkeypatch, shape, pixel_aspect)
    rule = ViewRule(SIZE, view, mask=True)
    lesions = Lesions(read_cases(data)[:2], rule, OUTPUTS, outlines, spare=1.0, several=True)
    mask = seen.mask & (outlines != ("none",))
    wanted = network_inputs(seen.pixels, mask, rule, GradeOptions(mirror=False), pixel_aspect)
    made = lesions.plain(torch.tensor([0, 1]))
    assert lesions.crops(torch.tensor([0, 1])) == [len(wanted)] * 2 and len(wanted) == (1 if shape == (60, 60) else 5)
    assert float((made - torch.cat([wanted, wanted])).abs().max()) < 0.06  # 8-bit levels
    # G-CNN's one crop holds all of the image.
    one = Lesions(read_cases(data)[:1], rule, OUTPUTS, outlines, spare=1.0)
    wanted = network_inputs(seen.pixels, mask, rule, GradeOptions(several=False, mirror=False), pixel_aspect)
    assert one.crops(torch.tensor([0])) == [1] and float((one.plain(torch.tensor([0])) - wanted).abs().max()) < 0.06


@pytest.mark.parametrize("paper", [True, False])
@pytest.mark.parametrize("shape", [(60, 120), (120, 60)])
def test_whole_images_are_learnt_as_large_as_they_are_judged(shape, paper, data, monkeypatch):
    """Their short side is the input's, and the squares lie anywhere along the long one."""
    _shown(monkeypatch, shape)
    lesions = Lesions(read_cases(data)[:1], ViewRule(SIZE, "image", mask=True), OUTPUTS, ("true",), several=True)
    monkeypatch.setattr(grade_batches, "warped_outlines", lambda masks, generator: masks)
    made = lesions.varied(torch.zeros(200, dtype=torch.long), generator_of(3), 0.0, paper)
    assert made.shape == (200, 2, SIZE, SIZE)
    rows, columns = made[:, 1].amax(2), made[:, 1].amax(1)
    across, along = (rows, columns) if shape[0] < shape[1] else (columns, rows)
    inside = (along[:, 0] + along[:, -1] == 0) & (along.sum(1) > 0) & (across[:, 0] + across[:, -1] == 0)
    sides = torch.stack([across, along])[:, inside].sum(2)
    side = 12 * SIZE / 60
    if paper:
        # All of the short side and nothing beyond the image: not one pixel is padding.
        assert float((sides - side).abs().max()) <= 1 and bool((made[:, 0] != 0).all())
        middle = (across.float().argmax(1) + side / 2)[inside]
        assert float((middle - SIZE / 2).abs().max()) <= 1
    else:
        # `geometric` shows 0.62 to 1 of 1.3 times the square, as of a lesion; stretched by 6 % and turned by 12 degrees at most.
        low, high = float(sides.float().min()), float(sides.float().max())
        assert side / 1.3 * 0.94 - 1.5 < low < side / 1.15 and side * 1.1 < high < side / 0.8 * 1.06 * 1.2 + 1.5
    first = along.float().argmax(1)[inside].float()
    assert float(first.min()) < 5 and float(first.max()) > SIZE - 5 - side
    # The long side is twice the short one: the squares begin in its first half, the lesion of a tenth of it lies in the middle.
    assert not paper or 0.1 < float((along.sum(1) < side - 1).float().mean()) < 0.3


def test_maps_are_of_the_crops_that_the_partner_sees(small, data, tmp_path, monkeypatch):
    """Training and validation of the published pair: no padding, and each map is of the very crops it goes with."""
    from BreastUSAILib.networks.two_pathway import TwoPathway

    size, looked, seen = 139, {}, []
    look, forward = TwoPathway.look, TwoPathway.forward

    def looking(self, image, maps=None):
        said = look(self, image, maps)
        looked[said.map.data_ptr()] = (type(self), image.clone(), said.map)  # the map is kept, so that its place is its own
        return said

    def going(self, image, maps=None):
        seen.append((type(self), image.clone(), maps))
        return forward(self, image, maps)

    monkeypatch.setattr(TwoPathway, "look", looking)
    monkeypatch.setattr(TwoPathway, "forward", going)
    recipe = replace(PAPER["pair"], size=size, epochs=2, batch=6)
    train([data], tmp_path / "m", recipe, device="cpu", validate_every=1)
    with_maps = [s for s in seen if s[2] is not None]
    assert with_maps and len(with_maps) < len(seen)
    for network, image, maps in with_maps:
        partner, of, _ = looked[maps.data_ptr()]
        assert partner is not network and torch.equal(of, image) and maps.shape == (len(image), 1, size, size)
    assert all(image.shape[1:] == (1, size, size) and bool((image != 0).any(3).all() and (image != 0).any(2).all()) for _, image, _ in seen)
    # The validation fold's four images in five crops each, in batches of twelve crops at most.
    judged = [len(image) for network, image, _ in seen if network is mt_net.MtNet and len(image) not in (6,)]
    assert judged == [12, 8, 12, 8]


def test_f_beta_is_of_what_inference_says(small, data, tmp_path):
    """Of the published pair, with maps and without: validation's answers are those of the same crops at work."""
    from BreastUSAILib.evaluation.segmentation_data import load_picture
    from BreastUSAILib.grade import GradeModels, GradeOptions, answers, network_inputs

    folder = train([data], tmp_path / "m", replace(PAPER["pair"], size=139, epochs=1, batch=6), device="cpu")
    models = GradeModels(mtnet=load(folder / "mtnet", "grade-mtnet", "cpu"), snnet=load(folder / "snnet", "grade-snnet", "cpu"))
    cases = [c for c in read_cases(data) if c.label != "normal"][:3]
    networks = {name: model.network for name, model in models.present.items()}
    rule = ViewRule.of(models.mtnet.entry.preprocessing)
    lesions = Lesions(cases, rule, {"malignancy": 2}, ("none",), spare=1.0, several=True)
    pictures = [load_picture(case) for case in cases]
    exact = [
        network_inputs(p.pixels[p.part], p.mask[p.part], rule, GradeOptions(mirror=False), p.pixel_aspect) for p in pictures
    ]
    inputs = torch.cat(exact)
    assert float((lesions.plain(torch.arange(3)) - inputs).abs().max()) < 0.06
    # Without the rounding to 8 bits, which networks that learnt nothing make much of.
    lesions.plain = lambda indices: torch.cat([exact[i] for i in indices])
    torch.manual_seed(1)
    for name, network in networks.items():  # so that answers differ from image to image
        network.load_state_dict((mt_net.MtNet(**SMALL_MT) if name == "mtnet" else sn_net.SnNet(**SMALL_SN)).state_dict())
        for layer in network.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = None  # the statistics of the one pass below
        head = network.heads.layers[network.main]
        with torch.no_grad():
            torch.nn.init.normal_(head.weight)
            network.train()(inputs, torch.rand_like(inputs))
            logits = network.eval()(inputs)[network.main]
            scale = 1 / (logits[:, 1] - logits[:, 0]).std()
            head.weight *= scale
            head.bias.copy_(-scale * logits.mean(0))
    for chosen in (networks, {"mtnet": networks["mtnet"]}):
        said = networks_module.answers_of(chosen, lesions, 4, "cpu")["mtnet"]["malignancy"]
        assert said.shape == (3, 2) and np.ptp(said[:, 1]) > 0.05
        for seen, chances in zip(pictures, said, strict=True):
            options = GradeOptions(mirror=False, enhance=len(chosen) > 1)
            at_work = answers(seen.pixels[seen.part], seen.mask[seen.part], models, options, seen.pixel_aspect)[0]
            assert np.exp(at_work["mtnet"]["malignancy"]) == pytest.approx(chances, abs=1e-4)


def test_order_sees_each_once_or_as_the_balance_says(data):
    cases = [c for c in read_cases(data) if c.label != "normal"]
    assert sorted(draw_order(cases, {}, generator_of(0)).tolist()) == list(range(20))
    # All are of one data set: there is nothing to balance.
    assert sorted(draw_order(cases, {"breast": 3.0}, generator_of(0)).tolist()) == list(range(20))
    others = [replace(c, source="other") for c in cases]
    drawn = torch.cat([draw_order([*cases, *others], {"breast": 3.0}, generator_of(s)) for s in range(50)])
    assert float((drawn < 20).float().mean()) == pytest.approx(0.75, abs=0.04)


def test_rates_of_the_paper():
    rates = [rate_steps(p, 4, 1.0) for p in (0, 0.2, 0.25, 0.5, 0.99)]
    assert rates == pytest.approx([1, 1, 0.9, 0.81, 0.729])


# --------------------------------------------------------------------------------------------------------- outlines


def test_outlines_that_were_found_are_kept_and_belong_to_a_model(data, tmp_path, monkeypatch):
    from types import SimpleNamespace

    case = read_cases(data)[0]
    model = SimpleNamespace(entry=SimpleNamespace(id="a", sha256="1", postprocessing={"threshold": 0.5}))
    calls = []

    def segment(self, case, refine):
        calls.append(refine)
        return np.pad(np.ones((10, 12), bool), ((20, 30), (30, 30)))

    monkeypatch.setattr(FoundOutlines, "_segment", segment)
    found = FoundOutlines(model, tmp_path / "kept")
    assert np.array_equal(
        outline(case, "refined", found), outline(case, "refined", FoundOutlines(model, tmp_path / "kept"))
    )
    assert outline(case, "unrefined", found).sum() == 120 and calls == [True, False]
    for changes in ({"sha256": "2"}, {"postprocessing": {"threshold": 0.4}}, {"id": "b"}):
        other = SimpleNamespace(entry=SimpleNamespace(**{**vars(model.entry), **changes}))
        with pytest.raises(UsageError, match="another segmentation model"):
            FoundOutlines(other, tmp_path / "kept")
    for damaged in (b"", b'{"model": "a", "sha', b"\xff\xfe"):
        (tmp_path / "damaged").mkdir(exist_ok=True)
        (tmp_path / "damaged/outlines.json").write_bytes(damaged)
        with pytest.raises(UsageError, match=r"damaged.outlines.json does not say whose outlines .*damaged holds \(.*\); delete the folder, or choose another"):
            FoundOutlines(model, tmp_path / "damaged")
    steps = []
    prepare(read_cases(data)[:3], ("true", "refined"), found, steps.append)
    assert steps == [1, 2, 3] and calls == [True, False, True, True]
    assert not outline(case, "none", None).any() and outline(case, "true", None).any()
    with pytest.raises(UsageError):
        outline(case, "refined", None)


def test_outlines_that_are_kept_are_of_the_very_image(tmp_path):
    """Another data set of the same name has images of the same names; and an image may be changed."""
    first, second = (data_folder(tmp_path / hospital / "test", 1, seed) for hospital, seed in (("a", 0), ("b", 3)))
    model = load("", "segment", "cpu")
    found = FoundOutlines(model, tmp_path / "kept")
    one, other = (read_cases(folder)[0] for folder in (first, second))
    assert (one.source, one.id) == (other.source, other.id)
    outlines = [found.of(case) for case in (one, other)]
    assert outlines[0].any() and outlines[1].any() and not np.array_equal(*outlines)
    assert np.array_equal(outlines[1], FoundOutlines(model).of(other))
    other.image.write_bytes(one.image.read_bytes())
    assert np.array_equal(found.of(other), outlines[0])
    assert len(list((tmp_path / "kept/refined/test").iterdir())) == 2


def test_outlines_of_something_else_teach_nothing_and_are_judged(data, monkeypatch):
    case = read_cases(data)[0]
    monkeypatch.setattr(FoundOutlines, "_segment", lambda *a: np.pad(np.ones((6, 6), bool), ((0, 54), (0, 66))))
    found, rule = FoundOutlines(None), ViewRule(SIZE, mask=True)
    true, learnt, judged = (
        Lesions([case], rule, OUTPUTS, (which,), found, spare=1.0, touching=touching).plain(torch.tensor([0]))
        for which, touching in (("true", True), ("refined", True), ("refined", False))
    )
    assert torch.equal(true, learnt) and not torch.equal(true, judged)


def test_largest_part_of_several():
    mask = np.zeros((9, 9), bool)
    mask[0, 0] = mask[4:7, 4:7] = True
    assert largest_part(mask).sum() == 9 and largest_part(mask & False).sum() == 0


# --------------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("system", ["gcnn", "pair"])
def test_training_leaves_models_that_load_and_goes_on_after_a_kill(system, small, data, tmp_path, capsys):
    recipe = _recipe(system)
    whole = train([data], tmp_path / "whole", recipe, device="cpu")
    folders = [whole] if system == "gcnn" else [whole / "mtnet", whole / "snnet"]
    names = [system] if system == "gcnn" else ["mtnet", "snnet"]
    for folder, name in zip(folders, names, strict=True):
        model = load(folder, f"grade-{name}", "cpu")
        assert model.entry.preprocessing["mask"] == (name == "gcnn") and "folds 2, 3, 4" in model.entry.trained_on
    lines = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2] and all(np.isfinite(line["loss"]) for line in lines)
    assert any(key.endswith("_auc") for key in lines[-1])

    class Killed(Exception):
        pass

    part = tmp_path / "part"
    with pytest.MonkeyPatch.context() as patch:
        epoch = run_module.GradeRun.epoch

        def killed(self, number):
            if number == 1:
                raise Killed
            return epoch(self, number)

        patch.setattr(run_module.GradeRun, "epoch", killed)
        with pytest.raises(Killed):
            train([data], part, recipe, device="cpu")
    train([data], part, recipe, device="cpu")
    assert "resuming after epoch 1" in capsys.readouterr().out
    for name in names:
        a, b = (
            load(f / name if system == "pair" else f, f"grade-{name}", "cpu").network.state_dict()
            for f in (whole, part)
        )
        assert all(torch.allclose(a[k].float(), b[k].float(), atol=1e-5) for k in a)
    with pytest.raises(UsageError, match="another recipe"):
        train([data], part, _recipe(system, seed=2), device="cpu")


def test_papers_settings_train_and_keep_the_best_f_beta(small, data, tmp_path):
    recipe = replace(PAPER["mtnet"], size=SIZE, epochs=2, batch=6)
    folder = train([data], tmp_path / "m", recipe, device="cpu", validate_every=1)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    config = json.loads((folder / "config.json").read_text())
    assert config["measured"]["validation"]["f_beta"] == max(line["mtnet_f_beta"] for line in lines)
    assert config["preprocessing"]["view"] == "image"


@pytest.mark.parametrize("system", ["gcnn", "mtnet"])
def test_papers_settings_leave_the_last_weights_and_whole_gradients(system, small, data, tmp_path, monkeypatch):
    """Neither averaged weights nor cut gradients are among the published settings; the compact recipes have both."""
    cut, ends = [], []
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *a: cut.append(a[1]))
    save = run_module.GradeRun.save

    def saved(self):
        ends.append([{k: v.clone() for k, v in n.state_dict().items()} for n in (self.learner.network, self.learner.average)])
        save(self)

    monkeypatch.setattr(run_module.GradeRun, "save", saved)
    changes = {"size": SIZE, "epochs": 2, "batch": 6, "outlines": ("true",), "imagenet": False}
    for number, recipes in enumerate((PAPER, COMPACT)):
        train([data], tmp_path / str(number), replace(recipes[system], **changes), device="cpu")
        last, kept = ends.pop()
        assert all(torch.equal(last[name], value) for name, value in kept.items()) == (recipes is PAPER)
        assert set(cut) == (set() if recipes is PAPER else {5.0})
    assert all(recipe.decay == 0 for recipe in PAPER.values()) and all(r.decay == 0.995 for r in COMPACT.values())


def _answering(monkeypatch, scores):
    """Validation says these F-betas, one after the other; None: that there is none."""
    from BreastUSAILib.evaluation import grade_metrics

    said = iter(scores)
    monkeypatch.setattr(grade_metrics, "validation_figures", lambda *a: {} if (f := next(said)) is None else {"f_beta": f})


def test_the_best_f_beta_is_kept_and_not_the_last_to_rise(small, data, tmp_path, monkeypatch):
    recipe = _recipe("mtnet", keep="f-beta", epochs=4)
    _answering(monkeypatch, [0.5, 0.9, 0.3, 0.4])
    folder = train([data], tmp_path / "m", recipe, device="cpu", validate_every=1)
    assert json.loads((folder / "config.json").read_text())["measured"]["validation"]["f_beta"] == 0.9


def test_a_run_without_f_beta_leaves_its_own_model(small, data, tmp_path, monkeypatch):
    """Not that of an earlier run in the folder: with --restart, and where it was killed and goes on."""
    recipe = _recipe("mtnet", keep="f-beta")
    _answering(monkeypatch, [0.9, 0.95, None, None, 0.2, 0.1])
    folder = train([data], tmp_path / "m", recipe, device="cpu", validate_every=1)
    first = (folder / "model.safetensors").read_bytes()
    train([data], folder, replace(recipe, seed=2), resume=False, device="cpu", validate_every=1)
    second = (folder / "model.safetensors").read_bytes()
    assert second != first and json.loads((folder / "config.json").read_text())["recipe"]["seed"] == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module.GradeRun, "save", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train([data], folder, replace(recipe, seed=3), resume=False, device="cpu", validate_every=1)
    _answering(monkeypatch, [0.1])
    train([data], folder, replace(recipe, seed=3), device="cpu", validate_every=1)
    config = json.loads((folder / "config.json").read_text())
    assert config["recipe"]["seed"] == 3 and config["measured"]["validation"]["f_beta"] == 0.2


def test_a_run_goes_on_about_the_same_outlines_alone(small, data, tmp_path, monkeypatch):
    from types import SimpleNamespace

    def found(**changes):
        entry = {"id": "roi", "sha256": "1", "postprocessing": {"sizes": (64,)}}
        return FoundOutlines(SimpleNamespace(entry=SimpleNamespace(**{**entry, **changes})))

    monkeypatch.setattr(FoundOutlines, "_segment", lambda self, case, refine: outline(case, "true", None))
    out, recipe = tmp_path / "out", _recipe("mtnet", epochs=1, outlines=("true", "refined"))
    train([data], out, recipe, found=found(), device="cpu")
    said = json.loads((out / "config.json").read_text())["recipe"]
    assert said["segmentation"] == {"model": "roi", "sha256": "1", "settings": {"sizes": [64]}}
    train([data], out, recipe, found=found(), device="cpu")
    for changes in ({"sha256": "2"}, {"postprocessing": {"sizes": (96,)}}):
        with pytest.raises(UsageError, match="belongs to another recipe or other data"):
            train([data], out, recipe, found=found(**changes), device="cpu")
    other = train([data], tmp_path / "other", replace(recipe, seed=2), found=found(sha256="2"), device="cpu")
    entries = [load(folder, "grade-mtnet", "cpu").entry for folder in (out, other)]
    with pytest.raises(UsageError, match=r"were not trained alike \(segmentation\)"):
        check_parts(entries, ["out", "other"])
    # Where no outline is found nothing depends on what would find it.
    train([data], tmp_path / "true", _recipe("mtnet", epochs=1), found=found(), device="cpu")
    train([data], tmp_path / "true", _recipe("mtnet", epochs=1), device="cpu")


def test_a_finished_run_leaves_models_anew_that_are_gone(small, data, tmp_path):
    out, recipe = tmp_path / "out", _recipe("pair", epochs=1)
    train([data], out, recipe, device="cpu")
    weights, config = (out / "mtnet/model.safetensors").read_bytes(), json.loads((out / "mtnet/config.json").read_text())
    other = out / "snnet/config.json"
    chosen = json.dumps({**json.loads(other.read_text()), "postprocessing": {"pooling": "chosen"}})
    other.write_text(chosen)
    shutil.rmtree(out / "mtnet")
    train([data], out, recipe, device="cpu")
    assert (out / "mtnet/model.safetensors").read_bytes() == weights and other.read_text() == chosen
    assert json.loads((out / "mtnet/config.json").read_text()) == config


def test_a_best_model_that_is_gone_is_not_replaced_by_the_last(small, data, tmp_path):
    out, recipe = tmp_path / "out", _recipe("mtnet", epochs=1, keep="f-beta")
    train([data], out, recipe, device="cpu")
    (out / "model.safetensors").unlink()
    with pytest.raises(DataError, match="is gone, and .* has the last weights, not those with the highest F-beta, .* begin anew with --restart"):
        train([data], out, recipe, device="cpu")


def test_labels_that_changed_are_other_data(small, tmp_path):
    folder = data_folder(tmp_path / "breast")
    out, recipe = tmp_path / "out", _recipe("mtnet", epochs=1)
    train([folder], out, recipe, device="cpu")
    table = folder / "labels.csv"
    said = table.read_text()
    for old, new in ((",benign,g2,", ",malignant,g2,"), (",4c,", ",5,")):
        table.write_text(said.replace(old, new))
        with pytest.raises(UsageError, match="or other data"):
            train([folder], out, recipe, device="cpu")
    table.write_text(said.replace(",oval,", ",round,"))  # which Mt-Net does not learn
    train([folder], out, recipe, device="cpu")


@pytest.mark.parametrize("system", ["mtnet", "snnet", "gcnn"])
def test_labels_that_teach_nothing_are_refused(system, small, data, tmp_path):
    folder = data_folder(tmp_path / "breast")
    table = (folder / "labels.csv").read_text()
    same = {"mtnet": ("malignant", "benign"), "snnet": ("anechoic", "hypoechoic"), "gcnn": (",4c,", ",4,")}
    changed = table.replace(*same[system])
    if system == "snnet":
        changed = changed.replace("not applicable", "Fibroadenoma")
    if system == "gcnn":  # 4 is 4A, 4B or 4C
        for other in (",2,", ",3,", ",5,"):
            changed = changed.replace(f"{other}oval", ",4a,oval").replace(f"{other}irregular", ",4,irregular")
    if system != "mtnet":  # whose malignancy alone is enough to learn from, as of data without categories and histology
        check_labels(*[[c for c in read_cases(folder) if c.label != "normal"]] * 2, {system: {MAIN[system]: 2, "malignancy": 2}}, tell=False)
        changed = changed.replace("malignant", "benign")
    (folder / "labels.csv").write_text(changed)
    output = {"mtnet": "malignancy", "snnet": "solid", "gcnn": "birads"}[system]
    with pytest.raises(DataError, match=f"training folds of breast never tell two answers for '{output}' apart, which {system} is to learn"):
        train([folder], tmp_path / "out", _recipe(system), device="cpu")


def test_labels_that_judge_nothing_are_told(data, capsys):
    cases = [c for c in read_cases(data) if c.label != "normal"]
    benign = [c for c in cases if c.label == "benign"]
    outputs = {"mtnet": {"malignancy": 2, "birads": 6}}
    check_labels(cases, benign, outputs, tell=True)
    told = capsys.readouterr().out
    assert told == "Note: the validation folds' labels do not tell answers apart for malignancy: nothing is judged of it there.\n"
    silent = [replace(c, row={**c.row, "birads": ""}) for c in cases]
    check_labels(silent, cases, outputs, tell=True)
    assert "the training folds' labels do not tell answers apart for birads: nothing is learnt of it there." in capsys.readouterr().out
    check_labels(cases, cases, outputs, tell=True)
    check_labels(silent, benign, outputs, tell=False)
    assert not capsys.readouterr().out


def test_a_fold_does_not_both_teach_and_validate(small, data, tmp_path):
    with pytest.raises(UsageError, match="fold 3 cannot both teach and validate"):
        train([data], tmp_path / "m", _recipe("mtnet", validation_fold=3), device="cpu")


def test_each_process_has_two_images_of_a_batch_or_none(small, data):
    """12 images in batches of 5 end in 2, which two processes cannot share: one image alone has no statistics."""
    from types import SimpleNamespace

    from BreastUSAILib.training.parallel import Team

    recipe = _recipe("gcnn", batch=5)
    networks, arguments = networks_module.build_networks(recipe, {})
    cases = [c for c in read_cases(data) if c.fold in recipe.train_folds and c.label != "normal"]
    lesions = Lesions(cases, ViewRule(SIZE, mask=True), arguments["gcnn"]["outputs"])
    steps = []
    learner = SimpleNamespace(network=networks, notes={}, step=lambda total, values, at: steps.append(at) or values.detach())
    run = run_module.GradeRun(recipe, learner, lesions, None, arguments, Path(), Team(1, 2, "cpu"), {})
    assert np.isfinite(run.epoch(0)["loss"]) and len(cases) == 12 and len(steps) == 2
    run.recipe = replace(recipe, batch=3)
    with pytest.raises(DataError, match="two for each process .2 here."):
        run.epoch(0)


def test_a_run_knows_which_weights_it_began_with(small, data, tmp_path):
    given, other = (grade_folder(tmp_path / name, "mtnet", seed) / "model.safetensors" for seed, name in enumerate("ab"))
    out, recipe = tmp_path / "out", _recipe("mtnet")
    began = {"mtnet": given}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module.GradeRun, "save", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train([data], out, recipe, start=began, device="cpu")
    for start in ({"mtnet": other}, {}):
        with pytest.raises(UsageError, match="began with other --weights than are given now"):
            train([data], out, recipe, start=start, device="cpu")
    digest = hashlib.sha256(given.read_bytes()).hexdigest()[:12]
    given.unlink()  # they are in the checkpoint
    train([data], out, recipe, start=began, device="cpu")
    trained_on = json.loads((out / "config.json").read_text())["trained_on"]
    assert trained_on.endswith(f"went on from model.safetensors, SHA-256 {digest}")


def test_all_names_of_what_was_taken_over_are_left_with_the_run(small, data, tmp_path, capsys):
    given = grade_folder(tmp_path / "given", "mtnet") / "model.safetensors"
    part = {k: v for k, v in load_file(given).items() if not k.startswith("heads.")}
    save_file({**part, "other": torch.zeros(3)}, tmp_path / "part.safetensors")
    out, recipe = tmp_path / "out", _recipe("mtnet", epochs=1)
    train([data], out, recipe, start={"mtnet": tmp_path / "part.safetensors"}, device="cpu")
    told = json.loads((out / "taken-over.json").read_text())["mtnet"]
    heads = {k for k in load_file(given) if k.startswith("heads.")}
    assert set(told["missing"]) == heads and set(told["taken"]) == set(part) and told["unused"] == ["other"]
    assert told["file"] == str(tmp_path / "part.safetensors") and "not found for the network: heads." in capsys.readouterr().out
    train([data], out, recipe, resume=False, device="cpu")
    assert not (out / "taken-over.json").exists()
    assert [json.loads(line)["epoch"] for line in (out / "log.jsonl").read_text().splitlines()] == [1]  # the second run's alone


def test_recipes_are_checked():
    with pytest.raises(UsageError, match="system"):
        GradeRecipe(system="other")
    with pytest.raises(UsageError, match="above 0"):
        GradeRecipe(rate=0)
    assert set(COMPACT) == set(PAPER) == {"gcnn", "mtnet", "snnet", "pair"}
    assert PAPER["gcnn"].optimiser == "sgd" and PAPER["pair"].batch == 10 and PAPER["pair"].weight_decay == 1e-4


@pytest.mark.parametrize("configuration", ["compact", "paper"])
def test_one_stage_looks_at_whole_images_and_never_at_an_outline(configuration, small, data, tmp_path, capsys, monkeypatch):
    """In training and validation, when it is pooled and measured; and no segmentation is asked."""
    from BreastUSAILib.evaluation.segmentation_data import load_pixels
    from BreastUSAILib.grade import GradeModels, GradeOptions, answers
    from BreastUSAILib.letterbox import Letterbox

    monkeypatch.setattr(FoundOutlines, "_segment", lambda *a: 1 / 0)
    seen = []
    forward = g_cnn.GCnn.forward
    monkeypatch.setattr(g_cnn.GCnn, "forward", lambda self, image: seen.append(image.clone()) or forward(self, image))
    out, common = tmp_path / "gcnn", ["--data", str(data), "--device", "cpu"]
    command = ["train", "grade", "--system", "gcnn", "--configuration", configuration, "--one-stage", "--from-scratch", *common]
    assert main([*command, "--size", "96", "--epochs", "1", "--batch", "6", "--output", str(out)]) == 0
    config = json.loads((out / "config.json").read_text())
    assert config["preprocessing"]["view"] == "image" and not config["preprocessing"]["mask"]
    assert config["arguments"]["in_channels"] == 1 and config["recipe"]["outlines"] == ["none"]
    # Two batches of the training folds, then the validation fold, each image letterboxed as one crop.
    box = Letterbox.fit((60, 72), 96).valid()[0, 0] > 0
    assert [len(image) for image in seen] == [6, 6, 4] and all(image.shape[1:] == (1, 96, 96) for image in seen)
    assert bool((seen[2][:, 0, 8:88] != 0).all()) and bool((seen[2][:, 0, ~box] == 0).all())
    # An outline changes nothing of what it says.
    model = load(out, "grade-gcnn", "cpu")
    pixels, mask = load_pixels(read_cases(data)[0])
    said = [answers(pixels, m, GradeModels(gcnn=model), GradeOptions())[0]["gcnn"]["birads"] for m in (mask, mask & False)]
    assert np.array_equal(*said)
    asked = ["--gcnn", str(out), "--outline", "none", *common]
    assert main(["train", "grade-pooling", *asked]) == 0
    assert main(["evaluate", "grade", *asked, "--output", str(tmp_path / "figures")]) == 0
    figures = json.loads((tmp_path / "figures/figures.json").read_text())
    assert figures["outline"] == "none" and figures["figures"]["breast"]["without_outline"] == 4
    capsys.readouterr()
    for more in (["--view", "lesion"], ["--outlines", "true"]):
        assert main([*command, *more, "--output", str(tmp_path / "other")]) == 2
        assert "--one-stage looks at whole images" in capsys.readouterr().err


def test_without_the_roi_cnn_the_same_network_is_asked_about_the_whole_image(small, data, tmp_path, monkeypatch):
    """Huang et al.'s No ROI-CNN: taught about outlines, and given none."""
    model = load(train([data], tmp_path / "m", _recipe("gcnn", epochs=1), device="cpu"), "grade-gcnn", "cpu")
    assert model.entry.preprocessing["view"] == "lesion" and model.entry.arguments["in_channels"] == 2
    seen = []
    forward = g_cnn.GCnn.forward
    monkeypatch.setattr(g_cnn.GCnn, "forward", lambda self, image: seen.append(image.clone()) or forward(self, image))
    for outline_asked in ("none", "true"):
        asked = ["--gcnn", str(tmp_path / "m"), "--outline", outline_asked, "--data", str(data), "--device", "cpu"]
        assert main(["evaluate", "grade", *asked, "--output", str(tmp_path / outline_asked)]) == 0
    without, about = torch.cat(seen[:4]), torch.cat(seen[4:])
    assert len(without) == len(about) == 8  # four images and their mirror images
    rows = round(SIZE * 60 / 72)
    first = (SIZE - rows) // 2 + 1
    assert not without[:, 1].any() and bool(about[:, 1].any(-1).any(-1).all())
    assert bool((without[:, 0, first : first + rows - 2] != 0).all()) and not without[:, 0, : first - 2].any()


def test_outlines_need_a_model_and_folds_need_images(small, data, tmp_path):
    with pytest.raises(UsageError, match="segmentation model"):
        train([data], tmp_path / "a", _recipe("mtnet", outlines=("refined",)), device="cpu")
    with pytest.raises(DataError, match="fold"):
        train([data], tmp_path / "b", _recipe("mtnet", train_folds=(7,)), device="cpu")
    with pytest.raises(DataError, match="fold 7 of .*breast has no image; give --train-folds that are in labels.csv"):
        train([data], tmp_path / "b", _recipe("mtnet", train_folds=(2, 3, 7)), device="cpu")


# ------------------------------------------------------------------------------------------------- the mean of several runs


def test_mean_of_weights_by_hand():
    parts = [
        {"w": torch.tensor([1.0, 4.0]), "n": torch.tensor(5)},
        {"w": torch.tensor([3.0, 0.0]), "n": torch.tensor(7)},
    ]
    parts.append({"w": torch.tensor([2.0, 2.0]), "n": torch.tensor(9)})
    mean = mean_weights(parts)
    assert torch.allclose(mean["w"], torch.tensor([2.0, 2.0])) and int(mean["n"]) == 9
    assert torch.equal(parts[0]["w"], torch.tensor([1.0, 4.0]))


def test_runs_become_one_network_that_is_judged_beside_them(small, data, tmp_path, capsys):
    runs = [train([data], tmp_path / f"s{seed}", _recipe("mtnet", seed=seed), device="cpu") for seed in (1, 2)]
    out = tmp_path / "mean"
    command = ["train", "grade-average", *map(str, runs), "--data", str(data), "--device", "cpu"]
    assert main([*command, "--output", str(out)]) == 0
    told = capsys.readouterr().out
    assert all(str(run) in told for run in runs) and "the mean" in told and "malignancy_auc" in told
    states = [load_file(folder / "model.safetensors") for folder in (*runs, out)]
    for name, value in states[2].items():
        if value.is_floating_point():
            assert torch.allclose(value, (states[0][name] + states[1][name]) / 2, atol=1e-6), name
    entry = load(out, "grade-mtnet", "cpu").entry
    assert (
        entry.preprocessing == load(runs[0], "grade-mtnet", "cpu").entry.preprocessing
        and entry.recipe["seed"] == [1, 2]
        and not entry.postprocessing
    )
    before = json.loads((runs[0] / "config.json").read_text())
    # What is told of a part is what training told of it at its end: the same images, the same crop.
    assert entry.measured["validation, part 1 (seed 1) alone"] == pytest.approx(before["measured"]["validation"])
    assert entry.measured["validation"].keys() == before["measured"]["validation"].keys()
    assert f"{entry.measured['validation']['malignancy_auc']:.3f}" in card(entry)
    # Into the folder of a part: refused, and the part is as it was.
    weights = (runs[0] / "model.safetensors").read_bytes()
    assert main([*command, "--output", str(runs[0] / ".." / runs[0].name)]) != 0
    assert "is a part of the mean" in capsys.readouterr().err and (runs[0] / "model.safetensors").read_bytes() == weights
    # On a fold that taught them: refused.
    assert main([*command, "--output", str(tmp_path / "other"), "--validation-fold", str(before["recipe"]["train_folds"][0])]) != 0
    assert "cannot judge them" in capsys.readouterr().err


def test_a_mean_is_its_own_model_and_its_parts_are_told_apart(small, data, tmp_path, capsys):
    """Two runs of one seed from two weights: both are told of, and what is said of how a part came is not said of the mean."""
    first = train([data], tmp_path / "first", _recipe("mtnet", seed=5), device="cpu")
    runs = []
    for number in (1, 2):
        folder = train([data], tmp_path / f"r{number}", _recipe("mtnet", seed=number), device="cpu")
        config = json.loads((folder / "config.json").read_text())
        config |= {"reproduce": "breastusai train grade", "version": "7.0.0", "postprocessing": {"threshold": 0.3}}
        config["recipe"]["seed"] = 1
        (folder / "config.json").write_text(json.dumps(config))
        runs.append(folder)
    command = ["train", "grade-average", *map(str, runs), "--data", str(data), "--device", "cpu", "--output"]
    assert main([*command, str(tmp_path / "mean")]) == 0
    config = json.loads((tmp_path / "mean" / "config.json").read_text())
    assert config["reproduce"] == "" and config["version"] == "unpublished" and config["postprocessing"] == {}
    assert {"validation, part 1 (seed 1) alone", "validation, part 2 (seed 1) alone"} < set(config["measured"])
    assert "2 runs" in config["description"]
    # A run that went on from other weights is not like one that did not.
    weights = first / "model.safetensors"
    on = train([data], tmp_path / "on", _recipe("mtnet", seed=2), start={"mtnet": weights}, device="cpu")
    trained_on = json.loads((on / "config.json").read_text())["trained_on"]
    assert trained_on.endswith(f"went on from model.safetensors, SHA-256 {hashlib.sha256(weights.read_bytes()).hexdigest()[:12]}")
    capsys.readouterr()
    assert main([*command[:2], str(first), str(on), *command[4:], str(tmp_path / "not")]) != 0
    assert "not trained alike (trained_on)" in capsys.readouterr().err


def test_runs_are_judged_on_their_own_validation_fold(small, data, tmp_path):
    entry = load(train([data], tmp_path / "run", _recipe("mtnet"), device="cpu"), "grade-mtnet", "cpu").entry
    moved = replace(entry, recipe={**entry.recipe, "validation_fold": 4, "train_folds": [2, 3]})
    assert fold_of(entry, None) == 1 and fold_of(moved, None) == 4 and fold_of(moved, 0) == 0
    with pytest.raises(UsageError, match="cannot judge"):
        fold_of(moved, 3)


def test_what_has_no_mean_is_refused(small, data, tmp_path, capsys):
    one = train([data], tmp_path / "one", _recipe("mtnet"), device="cpu")
    longer = train([data], tmp_path / "longer", _recipe("mtnet", seed=2, epochs=1), device="cpu")
    other = grade_folder(tmp_path / "other", "snnet")
    copy = shutil.copytree(one, tmp_path / "copy")
    command = ["--data", str(data), "--device", "cpu", "--output", str(tmp_path / "out")]
    for models, words in (
        ([one], "two models at least"),
        ([one, copy], f"{copy} has the weights of {one}"),
        ([one, longer], "not trained alike (epochs)"),
        ([one, other], "not trained alike (task"),
        (["roi-cnn-compact", one], "only grading models"),
        ([one, tmp_path / "nowhere"], "nowhere"),
    ):
        assert main(["train", "grade-average", *map(str, models), *command]) != 0
        told = capsys.readouterr().err
        assert words in told and told.count("\n") == 1, told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("mean", "worse"), [(0.6, True), (0.75, False), (0.9, False)])
def test_a_mean_that_is_none_is_told(mean, worse):
    figures = {"a": {"malignancy_auc": 0.7}, "b": {"malignancy_auc": 0.8}, MEAN: {"malignancy_auc": mean}}
    assert is_worse_than_all(figures) == worse


# ----------------------------------------------------------------------------------------------- pooling and protocol


def test_operating_point_holds_the_sensitivity():
    random = np.random.default_rng(0)
    truth = random.random(400) < 0.4
    probability = np.clip(random.normal(0.3 + 0.3 * truth, 0.2), 0, 1)
    for wanted in (0.9, 0.95, 1.0):
        threshold = operating_point(probability, truth, wanted)
        assert (probability[truth] >= threshold).mean() >= wanted - 1e-9
    with pytest.raises(DataError):
        operating_point(probability, np.zeros(400, bool))


def test_operating_point_holds_on_further_images_as_often_as_it_says():
    random = np.random.default_rng(1)
    truth = np.arange(250) < 150
    held = []
    for _ in range(400):
        probability = random.normal(truth * 1.5)
        # What further images have: the probabilities are normal, with deviation 1 about 1.5.
        held.append(norm.sf(operating_point(probability, truth), loc=1.5) >= 0.95)
    assert 0.92 <= np.mean(held) <= 1.0


@pytest.mark.parametrize("positives", [1, 30, 59, 104, 300])
def test_misses_allowed_are_the_most_that_the_bound_allows(positives):
    missed = misses_allowed(positives)

    def chance(most):  # of so few misses, if the sensitivity were 0.95
        return binom.cdf(most, positives, 0.05)

    assert chance(missed + 1) > 0.05 and (missed == 0 or chance(missed) <= 0.05)
    assert misses_allowed(positives, 1.0) == 0


def test_temperature_undoes_overconfidence(data):
    cases = [c for c in read_cases(data) if c.label != "normal"]
    truth = np.array([c.label == "malignant" for c in cases])
    # Seven of ten are right in each class: odds of 7 to 3 are fair, whatever is said.
    wrong = np.isin(np.cumsum(truth) * truth + np.cumsum(~truth) * ~truth, (2, 5, 8))
    logits = np.where(truth ^ wrong, 1.0, -1.0)
    labels = np.stack([~truth, truth], 1)

    def said(factor):
        log = [-np.logaddexp(0, np.array([x, -x]) * factor) for x in logits]
        return [{"mtnet": {"malignancy": v}} for v in log]

    (fair, loss), (hot, same) = (best_temperature(said(f), "malignancy", {"mtnet": 1.0}, labels) for f in (1.0, 3.0))
    assert fair == pytest.approx(1 / np.log(7 / 3), rel=0.05) and hot == pytest.approx(3 * fair, rel=0.05)
    assert same == pytest.approx(loss, abs=1e-3)


def test_choice_prefers_the_system_that_knows(data):
    random = np.random.default_rng(2)
    cases = [c for c in read_cases(data) if c.label != "normal"]
    said = []
    for case in cases:
        knows = (1.5 if case.label == "malignant" else -1.5) + random.normal(0, 1)
        answers = [-np.logaddexp(0, np.array([x, -x])) for x in (knows, random.normal(0, 2))]
        said.append({"gcnn": {"malignancy": answers[1]}, "mtnet": {"malignancy": answers[0]}})
    chosen, tried = choose(said, cases)
    assert chosen["weights"]["malignancy"]["mtnet"] >= 0.75 and 0 < chosen["threshold"] < 1
    assert tried["malignancy_at_operating_point"]["sensitivity"] >= 0.9 and chosen["disagreement"] > 0
    pooled = np.stack([Pooling(chosen["weights"], chosen["temperatures"]).pooled(a, "malignancy") for a in said])
    labels = np.array([[c.label == "benign", c.label == "malignant"] for c in cases])
    assert marginal_loss(pooled, labels) < np.log(2)


def test_of_choices_that_are_as_good_the_most_even_one_is_taken(data):
    random = np.random.default_rng(5)
    cases = [c for c in read_cases(data) if c.label != "normal"]
    said = []
    for case in cases:
        knows = (1.0 if case.label == "malignant" else -1.0) + random.normal(0, 1)
        answer = -np.logaddexp(0, np.array([knows, -knows]))
        grades = np.log([0.3, 0.1, 0.1, 0.2, 0.3][:: 1 if case.label == "benign" else -1])
        said.append({name: {"malignancy": answer, "birads": grades} for name in ("gcnn", "mtnet", "snnet")})
    chosen, tried = choose(said, cases)
    # All three say the same: nothing speaks for one of them, and in steps of a quarter one has half.
    assert sorted(chosen["weights"]["malignancy"].values()) == [0.25, 0.25, 0.5]
    malignant = np.mean([case.label == "malignant" for case in cases])
    if "birads" in chosen["weights"]:
        assert chosen["prevalence"] == pytest.approx(malignant) and str(chosen["told"]) in tried["told"]
        again = Pooling.of({**chosen, "models": {}})
        assert again.told == chosen["told"] and again.prevalence == pytest.approx(malignant)


def test_what_labels_do_not_tell_apart_is_left_uncalibrated(data):
    """Where all were solid the temperature ran to its bound, and cysts were called solid with 0.9966."""
    cases = [c for c in read_cases(data) if c.label != "normal"]
    # All lesions solid; the categories 3 and 4 (4A, 4B or 4C) exclude each other, 4 and 4A alone would not.
    one_thing = [replace(c, row={**c.row, "diagnosis": "Fibroadenoma", "echogenicity": "hypoechoic", "birads": ("4", "4a")[i % 2]}) for i, c in enumerate(cases)]
    answers = {"malignancy": np.log([0.4, 0.6]), "solid": np.log([0.3, 0.7]), "birads": np.log([0.2] * 5)}
    said = [{"mtnet": {**answers, "malignancy": np.log([0.4, 0.6] if c.label == "malignant" else [0.6, 0.4])}} for c in cases]
    chosen, tried = choose(said, one_thing)
    assert chosen["uncalibrated"] == ["solid", "birads"] and set(chosen["temperatures"]) == set(chosen["weights"]) == {"malignancy"}
    assert "told" not in chosen and "solid" not in tried
    pooling = Pooling.of(chosen)
    assert pooling.pooled(said[0], "solid")[1] == pytest.approx(0.7) and pooling.uncalibrated == ("solid", "birads")
    two = [replace(c, row={**c.row, "birads": ("4", "3")[i % 2]}) for i, c in enumerate(one_thing)]
    assert choose(said, two)[0]["uncalibrated"] == ["solid"] and "uncalibrated" not in choose(said, cases)[0]
    for kind, other in (("benign", "malignant"), ("malignant", "benign")):
        with pytest.raises(DataError, match=f"the validation fold has no {other} lesion, without which malignancy cannot be calibrated"):
            choose(said, [replace(c, label=kind) for c in cases])


def test_a_grade_says_which_probabilities_are_not_calibrated(data, tmp_path, capsys):
    folder = data_folder(tmp_path / "breast")
    text = (folder / "labels.csv").read_text()
    (folder / "labels.csv").write_text(text.replace("not applicable", "Fibroadenoma"))
    model = grade_folder(tmp_path / "snnet", "snnet")
    assert main(["train", "grade-pooling", "--data", str(folder), "--outline", "true", "--device", "cpu", "--snnet", str(model)]) == 0
    assert "Left uncalibrated, as the validation fold's labels do not tell their answers apart: solid." in capsys.readouterr().out
    models = GradeModels(snnet=load(model, "grade-snnet", "cpu"))
    case = read_cases(folder)[0]
    image = sitk.ReadImage(str(case.image))
    finding = Finding("L1", Box((36.0, 30.0, 0.0), (30.0, 20.0, 1.0)), 1.0)
    (graded,) = grade(image, [finding], models).findings
    assert graded.notes[-1].startswith("The probabilities are not calibrated for solid: the labels of the validation data")
    (again,) = grade(image, [graded], models).findings
    assert sum("not calibrated" in note for note in again.notes) == 1


def test_categories_are_told_of_malignancy_as_far_as_their_labels_allow():
    random = np.random.default_rng(3)
    truth = random.integers(0, 5, 300)
    labels = np.eye(5, dtype=bool)[truth]
    malignancy = np.clip(np.array([0.01, 0.06, 0.3, 0.725, 0.975])[truth] + random.normal(0, 0.05, 300), 0, 1)
    vague = np.full((300, 5), 0.2)
    assert told_weight(vague, malignancy, labels, 0.4)[0] == 1.0  # malignancy alone knows
    weight, tried = told_weight(0.05 + 0.75 * labels, 1 - malignancy, labels, 0.4)
    assert weight == 0.0 and tried["0.0"] < tried["0.25"] < tried["1.0"]  # it misleads
    assert told_weight(vague, np.full(300, 0.4), labels, 0.4)[0] == 1.0  # it says nothing: costs nothing


def test_a_fold_that_taught_a_model_does_not_calibrate_it(data, tmp_path, capsys):
    folder = grade_folder(tmp_path / "gcnn", "gcnn")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "recipe": {"train_folds": [1, 2]}}))
    assert main(["train", "grade-pooling", "--data", str(data), "--outline", "true", "--device", "cpu", "--gcnn", str(folder)]) == 2
    assert "fold 1 taught the model of --gcnn" in capsys.readouterr().err
    assert "pooling" not in json.loads((folder / "config.json").read_text())["postprocessing"]


def test_evaluation_sees_pixels_higher_than_wide_as_work_does(tmp_path):
    """The same picture, half of its rows left out, said 0.6 in the evaluation and 0.3 at work."""
    from BreastUSAILib.evaluation.grade_answers import answers_on
    from BreastUSAILib.grade import GradeModels, GradeOptions

    folder = data_folder(tmp_path / "breast", images=4)
    case = next(case for case in read_cases(folder) if case.mask is not None)
    halves = {}
    for name, path in (("image", case.image), ("mask", case.mask)):
        half = sitk.GetImageFromArray(np.repeat(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), 2, axis=0))
        half.SetSpacing((0.2, 0.1))
        halves[name] = tmp_path / f"{name}.nrrd"
        sitk.WriteImage(half, str(halves[name]))
    models = GradeModels(gcnn=load(grade_folder(tmp_path / "gcnn", "gcnn"), "grade-gcnn", "cpu"))
    options = GradeOptions(several=False, mirror=False)
    (plain, oblong), _ = answers_on([case, replace(case, **halves)], models, options, "true", None)
    np.testing.assert_allclose(oblong["gcnn"]["malignancy"], plain["gcnn"]["malignancy"], atol=1e-3)


def test_evaluation_without_models_takes_those_that_ship_and_pooling_asks_for_some(data, capsys):
    from types import SimpleNamespace

    from BreastUSAILib.evaluation.grade_answers import models_of
    from BreastUSAILib.models import catalog

    named = SimpleNamespace(gcnn=None, mtnet=None, snnet=None, device="cpu")
    assert models_of(named, shipped=True).names == {s: catalog.default_for(f"grade-{s}").id for s in ("gcnn", "mtnet", "snnet")}
    named.snnet = catalog.default_for("grade-snnet").id
    assert models_of(named, shipped=True).names == {"snnet": named.snnet}
    assert main(["train", "grade-pooling", "--data", str(data), "--device", "cpu"]) == 2
    assert "No grading model is named; give one or more of --gcnn, --mtnet, --snnet, each an id or a folder." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("label", "wrong", "told"), [(",g5,0,5,", ",g5,0,IV,", "BI-RADS 'iv'"), (",no,no,in a mass", ",no,maybe,in a mass", "halo 'maybe'")]
)
def test_a_label_that_is_not_known_ends_an_evaluation_before_its_work(tmp_path, capsys, monkeypatch, label, wrong, told):
    """All networks ran over all images, and then there were no figures."""
    folder = data_folder(tmp_path / "breast", images=6)
    table = folder / "labels.csv"
    assert table.read_text().count(label) == 1
    table.write_text(table.read_text().replace(label, wrong))
    monkeypatch.setattr(protocol, "models_of", lambda *args, **options: 1 / 0)
    assert main(["evaluate", "grade", "--data", str(folder), "--output", str(tmp_path / "out")]) == 1
    assert f"i5.png: {told} is unknown; labels.csv may say" in capsys.readouterr().err


def test_pooling_and_evaluation_by_the_command_line(data, tmp_path, capsys):
    models = []
    for system in ("gcnn", "mtnet", "snnet"):
        models += [f"--{system}", str(grade_folder(tmp_path / system, system))]
    assert main(["train", "grade-pooling", "--data", str(data), "--outline", "true", "--device", "cpu", *models]) == 0
    pooling = json.loads((tmp_path / "gcnn/config.json").read_text())["postprocessing"]["pooling"]
    assert pooling["models"] == {s: f"small-{s}" for s in ("gcnn", "mtnet", "snnet")}
    assert pooling["familiar"]["system"] == "mtnet" and pooling["familiar"]["limit"] > 0
    out = tmp_path / "out"
    arguments = ["--data", str(data), "--outline", "true", "--device", "cpu", "--output", str(out), *models]
    assert main(["evaluate", "grade", "--folds", "0", "1", *arguments]) == 0
    figures = json.loads((out / "figures.json").read_text())
    part = figures["figures"]["breast"]
    assert figures["calibrated"] and part["images"] == 8 and part["malignancy"]["positive"] == 4
    auc = part["malignancy"]["figures"]["auc"]
    assert auc["low"] <= auc["value"] <= auc["high"]
    stated = stated_figures(figures)["breast"]
    assert stated["malignancy_auc"] == auc and stated["images"] == 8 and "birads_2_to_5_quadratic_kappa" in stated
    entry = load(tmp_path / "gcnn", "grade-gcnn", "cpu").entry
    text = card(replace(entry, measured={"test": stated}))
    assert f"{auc['value']:.3f}" in text and "docs/grading.md" in text and "numbers)" in text and len(text) < 6000
    assert set(part["systems"]) == {"gcnn", "mtnet", "snnet"} and part["birads"]["2_to_5"]["images"] == 8
    for name in ("roc.png", "reliability.png", "birads.png", "birads-coarse.png", "rows.csv"):
        assert (out / name).stat().st_size > 100
    assert "Malignancy" in capsys.readouterr().out and "most frequent" in (out / "figures.md").read_text()


def test_figures_of_answers_that_are_right(data):
    cases = [c for c in read_cases(data) if c.label != "normal"]
    from BreastUSAILib.evaluation.grade_data import allowed

    said = []
    for case in cases:
        answer = {}
        for output in ("malignancy", "birads", "solid", "shape"):
            ok = np.array(allowed(case, output), float)
            answer[output] = np.log(np.clip(ok / ok.sum(), 1e-6, 1))
        said.append({"gcnn": answer})
    rows = protocol.rows_of(cases, said, [True] * len(cases), Pooling())
    figures = protocol.summaries(rows, 0.5)["breast"]
    assert (
        figures["malignancy"]["figures"]["auc"]["value"] == 1
        and figures["malignancy"]["figures"]["f_beta"]["value"] == 1
    )
    assert figures["malignancy"]["figures"]["calibration_error"]["value"] < 1e-4
    assert figures["birads"]["2_to_5"]["figures"]["quadratic_kappa"]["value"] == 1
    assert figures["birads"]["3_to_5"]["figures"]["exact"]["value"] == 1
    assert figures["descriptors"]["shape"]["figures"]["exact"]["value"] == 1
    with pytest.raises(DataError, match="--folds"):
        protocol.summaries([], 0.5)


def test_patients_of_two_data_sets_are_two_whatever_they_are_called(data):
    cases = [c for c in read_cases(data) if c.label != "normal"]
    random = np.random.default_rng(0)
    said = [{"gcnn": {"malignancy": random.normal(0, 1, 2)}} for _ in range(2 * len(cases))]

    def figures(prefix):
        both = [*cases, *(replace(c, source="other", group=f"{prefix}{c.group}") for c in cases)]
        return protocol.summaries(protocol.rows_of(both, said, [True] * len(both), Pooling()), 0.5)["all"]

    assert figures("") == figures("other-")


def test_sub_categories_are_measured_where_readers_told_them_apart(data):
    cases = [c for c in read_cases(data) if c.label != "normal"]
    coarse = [replace(c, source="coarse", row={**c.row, "birads": c.row["birads"][0]}) for c in cases]
    said = [{"gcnn": {"birads": np.log(np.full(6, 1 / 6))}}] * 40
    rows = protocol.rows_of([*cases, *coarse], said, [True] * 40, Pooling())
    fine = protocol.finely_labelled(rows)
    wanted = [c.row["birads"] in ("3", "4a", "4b", "4c", "5") for c in cases]
    assert fine.tolist() == [*wanted, *[False] * 20]
