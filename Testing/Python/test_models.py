"""The model zoo: what ships is whole, what is damaged is refused before a byte is used."""

import json
import pickle
from pathlib import Path

import pytest
import torch

from BreastUSAILib.errors import DataError, ModelError, UsageError
from BreastUSAILib.models import catalog, zoo
from BreastUSAILib.models.cards import card
from BreastUSAILib.models.devices import choose_device
from BreastUSAILib.models.folder import CONFIG, WEIGHTS, save_model, sha256
from BreastUSAILib.networks.roi_cnn import RoiCnn

TINY = {"channels": [4, 4, 8, 8, 8], "convolutions": [1] * 5, "context_channels": 8, "decoder_channels": [8, 8], "batch_norm": True}
CONFIG_OF_TINY = {
    "id": "tiny",
    "task": "segment",
    "version": "0",
    "network": "roi_cnn.RoiCnn",
    "arguments": TINY,
    "preprocessing": {"dimension": 2, "size": 64},
    "trained_on": "nothing: random weights",
}


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    return save_model(tmp_path / "tiny", RoiCnn(**TINY), CONFIG_OF_TINY)


def _edit(folder, **changes):
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    network = RoiCnn(**TINY)
    with torch.no_grad():
        next(network.parameters())[0] = float("nan")
    with pytest.raises(DataError, match="the training diverged: 1 of the network's weights are no finite numbers.*begin anew with a lower --rate"):
        save_model(tmp_path / "new", network, CONFIG_OF_TINY)
    assert not (tmp_path / "new").exists()


def test_every_model_that_ships_is_whole_and_described():
    entries = catalog.entries()
    assert entries
    for entry in entries:
        zoo.verify(entry)
        path = catalog.WEIGHTS / entry.file
        assert path.stat().st_size == entry.size_bytes and sha256(path) == entry.sha256
        assert entry.trained_on and entry.licence != "unspecified" and entry.measured and entry.reproduce
    listed = {entry.file for entry in entries}
    assert {p.name for p in catalog.WEIGHTS.glob("*")} == listed, "weights that the catalogue does not know"
    assert sum(entry.size_bytes for entry in entries) < 40e6


def test_every_model_that_ships_loads_and_says_what_it_was_trained_on():
    for entry in catalog.entries():
        model = zoo.load(entry.id, entry.task, "cpu")
        assert not model.network.training
        assert all(torch.isfinite(p).all() for p in model.network.parameters())
        text = card(entry)
        assert text.splitlines()[2] == f"**Trained on {entry.trained_on}.**"
        assert "not a medical device" in text and entry.sha256 in text


def test_a_folder_of_ones_own_loads(float32, folder):
    model = zoo.load(folder, "segment", "cpu")
    assert model.entry.id == "tiny" and model.device.name == "cpu"
    torch.manual_seed(0)
    expected, image = RoiCnn(**TINY).eval(), torch.randn(1, 1, 64, 64)
    with torch.inference_mode():  # the weights themselves have the batch normalisation folded in
        torch.testing.assert_close(model.network(image), expected(image), rtol=1e-3, atol=1e-4)


def test_cache_loads_once(folder):
    cache = zoo.ModelCache()
    assert cache.get(folder, "segment", "cpu") is cache.get(folder, "segment", "cpu")


def test_damaged_weights_are_refused(folder):
    path = folder / WEIGHTS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ModelError, match="damaged or were exchanged") as error:
        zoo.load(folder)
    assert str(path) in str(error.value)


def test_missing_weights_name_the_file(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelError, match="cannot be read") as error:
        zoo.load(folder)
    assert WEIGHTS in str(error.value)


def test_a_pickle_is_never_loaded(folder, tmp_path):
    ran = tmp_path / "ran"

    class Bomb:
        def __reduce__(self):
            return (open, (str(ran), "w"))

    (folder / WEIGHTS).write_bytes(pickle.dumps(Bomb()))
    _edit(folder, sha256=sha256(folder / WEIGHTS))
    with pytest.raises(ModelError, match="do not fit"):
        zoo.load(folder)
    assert not ran.exists()


def test_weights_of_another_network_do_not_fit(folder):
    _edit(folder, arguments=TINY | {"context_channels": 16})
    with pytest.raises(ModelError, match="do not fit the network"):
        zoo.load(folder)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"network": "os.system"}, "names the network 'os.system'"),
        ({"task": "grade"}, "is for the task 'grade'"),
    ],
)
def test_configs_that_ask_for_something_else(folder, changes, sentence):
    _edit(folder, **changes)
    with pytest.raises(ModelError, match=sentence):
        zoo.load(folder)


def test_weights_outside_the_folder_are_not_followed(folder, tmp_path):
    outside = tmp_path / "outside.safetensors"
    (folder / WEIGHTS).rename(outside)
    _edit(folder, file="../outside.safetensors")
    with pytest.raises(ModelError, match="cannot be read"):
        zoo.load(folder)


def test_config_without_what_is_needed(folder):
    (folder / CONFIG).write_text('{"id": "x"}')
    with pytest.raises(ModelError, match="lacks arguments"):
        zoo.load(folder)
    (folder / CONFIG).write_text("{")
    with pytest.raises(ModelError, match="is not JSON"):
        zoo.load(folder)
    (folder / CONFIG).unlink()
    with pytest.raises(ModelError, match="config.json is missing"):
        zoo.load(folder)


HEAT = {
    **CONFIG_OF_TINY, "task": "heatmap", "file": WEIGHTS, "sha256": "0",
    "preprocessing": {"dimension": 3, "spacing": [1.0, 1.0, 1.0], "patch": [8, 8, 8], "crop": [4, 4, 4]},
    "postprocessing": {"mirrors": 4, "spline": 2, "scored_by": "peak", "full_heat": 1.0, "threshold": 0.5},
}  # fmt: skip


@pytest.mark.parametrize(
    ("part", "name", "value", "sentence"),
    [
        ("postprocessing", "mirrors", 8, "mirrors is 8; it must be 1, 2 or 4"),
        ("postprocessing", "mirrors", 0, "mirrors is 0; it must be 1, 2 or 4"),
        ("postprocessing", "shared", [24, 48], "shared is \\[24, 48\\]; it must be a whole number from 0, or three of them"),
        ("postprocessing", "shared", 1.5, "shared is 1.5; it must be a whole number from 0, or three of them"),
        ("postprocessing", "mirrors", True, "mirrors is true; it must be 1, 2 or 4"),
        ("postprocessing", "finer_mirrors", 3, "finer_mirrors is 3; it must be 1, 2, 4 or null"),
        ("postprocessing", "spline", 3, "spline is 3; it must be 1 or 2"),
        ("postprocessing", "spline", 0, "spline is 0; it must be 1 or 2"),
        ("postprocessing", "scales", [0.8, 1], r"scales is .0.8, 1.; it must be a list of numbers above 0 that begins with 1"),
        ("postprocessing", "scored_by", "Peak", 'scored_by is "Peak"; it must be "patch" or "peak"'),
        ("postprocessing", "threshold", None, "threshold is null; it must be a number from 0 to 1"),
        ("postprocessing", "full_heat", 0, "full_heat is 0; it must be a number above 0"),
        ("preprocessing", "spacing", 1.0, "spacing is 1.0; it must be three numbers above 0"),
        ("preprocessing", "crop", [4, 4], "crop is .4, 4.; it must be three numbers above 0"),
        ("", "postprocessing", None, "postprocessing is null; it must be settings by name"),
        ("", "preprocessing", {"spacing": [1, 1, 1]}, "lacks patch, crop in preprocessing"),
        ("", "sha256", None, "sha256 is null; it must be text"),
        ("", "trained_on", None, "trained_on is null; it must be text"),
        ("", "references", None, "references is null; it must be a list of texts"),
        ("", "size_bytes", None, "size_bytes is null; it must be a whole number"),
    ],
)
def test_configs_that_were_edited_by_hand(tmp_path, part, name, value, sentence):
    config = json.loads(json.dumps(HEAT))
    (tmp_path / CONFIG).write_text(json.dumps(config))
    assert zoo.resolve(tmp_path, "heatmap")[0].postprocessing == HEAT["postprocessing"]
    (config[part] if part else config)[name] = value
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ModelError, match=sentence) as error:
        zoo.resolve(tmp_path, "heatmap")
    assert str(tmp_path / CONFIG) in str(error.value)


def test_unknown_model_names_the_known_ones():
    with pytest.raises(ModelError, match=catalog.entries()[0].id):
        zoo.load("no-such-model")


def test_a_folder_that_happens_to_have_a_models_id_is_not_taken_for_it(tmp_path, folder, monkeypatch):
    entry = catalog.default_for("segment")
    monkeypatch.chdir(tmp_path)
    (tmp_path / entry.id).mkdir()
    for name in (entry.id, Path(entry.id)):
        assert zoo.resolve(name, "segment") == (entry, catalog.WEIGHTS / entry.file)
    with pytest.raises(ModelError, match="is not a model folder"):
        zoo.resolve(f"./{entry.id}", "segment")
    (tmp_path / entry.id).rmdir()
    folder.rename(tmp_path / entry.id)
    assert zoo.resolve(entry.id, "segment")[0].id == "tiny", "a model of one's own is one, whatever its folder is called"


def test_devices():
    assert choose_device("cpu").reason == "asked for"
    automatic = choose_device("auto")
    assert automatic.name in ("cpu", "cuda", "mps") and "automatically" in automatic.reason
    with pytest.raises(UsageError, match="choose one of"):
        choose_device("tpu")
    for name, present in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())):
        if not present:
            with pytest.raises(UsageError, match="use --device auto"):
                choose_device(name)
