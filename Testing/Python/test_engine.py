"""OpenVINO beside PyTorch: the same answers, or not used."""

import importlib.util
import sys

import pytest
import torch
from small_models import classifier_folder, detector_folder
from torch import nn

from BreastUSAILib.cli import main
from BreastUSAILib.errors import DependencyError, ModelError, UsageError
from BreastUSAILib.models import engine, zoo
from BreastUSAILib.networks.vnet import VNet

VNET = {"channels": (2, 4, 4, 6, 6), "convolutions": (1, 1, 1, 1, 1), "hidden": 4}


@pytest.fixture
def openvino():
    # Not imported here: how it is imported is the engine's business.
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed (pip install breastusai[openvino])")


def test_a_detector_says_the_same_on_openvino_and_keeps_what_the_search_asks_of_it(openvino, tmp_path):
    folder = detector_folder(tmp_path)
    plain, fast = (zoo.load(folder, "detect", "cpu", name) for name in ("torch", "openvino"))
    assert (plain.engine, fast.engine) == ("torch", "openvino") and fast.provenance()["engine"] == "openvino"
    assert fast.network.anchors == plain.network.anchors and fast.network.scale == plain.network.scale
    with torch.inference_mode():
        for shape in ((24, 20, 28), (32, 32, 32), (24, 20, 28)):
            volume = torch.randn(1, 1, *shape).to(memory_format=torch.channels_last_3d)
            for one, other in zip(plain.network(volume), fast.network(volume), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_answers_outlive_the_next_call(openvino, tmp_path):
    model = zoo.load(detector_folder(tmp_path), "detect", "cpu", "openvino")
    first = model.network(torch.randn(1, 1, 16, 16, 16)).logits
    kept = first.clone()
    model.network(torch.randn(1, 1, 16, 16, 16))
    assert torch.equal(first, kept)


def test_arguments_that_are_no_tensors_and_answers_that_are_none(openvino):
    from BreastUSAILib.models.openvino_engine import OpenVinoNetwork

    network = VNet(**VNET).eval()
    fast = OpenVinoNetwork(network)
    volume, spacing = torch.randn(1, 1, 16, 16, 16), torch.ones(1)
    with torch.inference_mode():
        probability = torch.rand_like(volume)
        for call in ((volume, None, spacing), (volume, probability, spacing)):
            expected, found = network(*call, opinion=True), fast(*call, opinion=True)
            torch.testing.assert_close(found.outline, expected.outline, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(found.malignancy, expected.malignancy, rtol=1e-3, atol=1e-4)


def test_it_is_compiled_where_tasks_call_it_which_is_under_autocast(openvino):
    from BreastUSAILib.models.openvino_engine import OpenVinoNetwork

    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 3)).eval()
    image = torch.randn(1, 1, 16, 16)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = OpenVinoNetwork(network)(image)
    with torch.inference_mode():
        torch.testing.assert_close(found.float(), network(image), rtol=3e-2, atol=3e-2)


def test_another_answer_is_found_and_the_network_left_to_pytorch(openvino, tmp_path, monkeypatch):
    from BreastUSAILib.models.openvino_engine import OpenVinoNetwork

    run = OpenVinoNetwork.forward
    monkeypatch.setattr(OpenVinoNetwork, "forward", lambda self, *a, **k: tuple(t + 1 for t in run(self, *a, **k)))
    monkeypatch.setattr(engine, "worth_compiling", lambda entry, device: True)
    folder = detector_folder(tmp_path)
    assert zoo.load(folder, "detect", "cpu", "auto").engine == "torch"
    with pytest.raises(ModelError, match="differs from that of PyTorch"):
        zoo.load(folder, "detect", "cpu", "openvino")


def test_openvino_sends_no_telemetry(openvino, tmp_path):
    from BreastUSAILib.models.openvino_engine import import_openvino

    import_openvino()
    zoo.load(detector_folder(tmp_path), "detect", "cpu", "openvino")
    assert not [name for name, module in sys.modules.items() if name.split(".")[0] == "openvino_telemetry" and module is not None]


def test_without_openvino_auto_is_pytorch_and_asking_for_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(engine, "worth_compiling", lambda entry, device: True)
    folder = classifier_folder(tmp_path)
    assert zoo.load(folder, "lesion-classifier", "cpu", "auto").engine == "torch"
    with pytest.raises(DependencyError, match=r"pip install breastusai\[openvino\]"):
        zoo.load(folder, "lesion-classifier", "cpu", "openvino")
    with pytest.raises(UsageError, match="unknown"):
        zoo.load(folder, "lesion-classifier", "cpu", "tensorrt")


def test_a_command_says_the_engine_to_its_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("BREASTUSAI_ENGINE", "tensorrt")
    with pytest.raises(UsageError, match="tensorrt"):
        zoo.load(detector_folder(tmp_path), "detect", "cpu")
    from BreastUSAILib.cli import build_parser

    argv = ["detect", "volume.nrrd", "--output", "out", "--engine", "torch"]
    build_parser(argv).parse_args(argv)
    assert zoo.load(tmp_path, "detect", "cpu").engine == "torch"


def test_onnx_files_say_what_the_network_says(openvino, tmp_path, capsys):
    from BreastUSAILib.models.openvino_engine import import_openvino

    pytest.importorskip("onnx")
    folder = detector_folder(tmp_path / "model")
    path = tmp_path / "model.onnx"
    assert main(["models", "export", str(folder), str(path), "--shape", "16", "24", "16"]) == 0
    volume = torch.randn(1, 1, 16, 24, 16)
    core = import_openvino().Core()
    found = core.compile_model(core.read_model(path), "CPU")(volume.numpy())
    with torch.inference_mode():
        expected = zoo.load(folder, "detect", "cpu", "torch").network(volume)
    for place, one in enumerate(expected):
        torch.testing.assert_close(torch.from_numpy(found[place].copy()), one, rtol=1e-3, atol=1e-4)
