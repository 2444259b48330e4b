"""PyTorch imported without what inference never looks at: the same calculations, and all of it there as soon as somebody asks."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from BreastUSAILib.torch_import import TRIED

BRIEFLY = "from BreastUSAILib.torch_import import import_torch_briefly, _PutOff; import_torch_briefly()\nimport sys, torch\n"
META = (
    "image, grid = torch.empty(1, 1, 2, 2, device='meta'), torch.empty(1, 3, 3, 2, device='meta')\n"
    "print(torch.nn.functional.grid_sample(image, grid, align_corners=False).shape)\n"
)


def said(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_version_that_tests_run_with_was_tried():
    import torch

    if torch.version.cuda is None:
        assert re.match(r"\d+\.\d+", torch.__version__)[0] in TRIED, "try it (this file), and add it to TRIED"


def test_networks_calculate_the_same_without_it():
    network = (
        "torch.manual_seed(0)\n"
        "from BreastUSAILib.models.zoo import load\n"
        "network = load('detection-compact', 'detect', 'cpu').network\n"
        "with torch.inference_mode():\n"
        "    made = network(torch.randn(1, 1, 16, 16, 16))\n"
        "print([float(part.double().sum()) for part in made])\n"
    )
    briefly = said(BRIEFLY + network + "print('torch._refs' in sys.modules, 'torch.export' in sys.modules)").splitlines()
    wholly = said("import sys, torch\n" + network).splitlines()
    assert briefly == [*wholly, "False False"]


@pytest.mark.parametrize(
    "asking",
    [
        "torch._decomp.core_aten_decompositions()",
        "from torch.export import Dim",
        "import torch._refs.nn.functional, torch._prims.rng_prims",
        "import torch._dynamo",
    ],
)
def test_all_of_it_is_there_as_soon_as_somebody_asks(asking):
    whole = (
        "names = ('export', '_meta_registrations', '_decomp', '_export', '_prims', '_refs')\n"
        "assert all(isinstance(getattr(torch, n), _PutOff) for n in names)\n"
        f"{asking}\n"
        "assert all(getattr(torch, n) is sys.modules['torch.' + n] and getattr(torch, n).__spec__.loader.__class__.__name__ == 'SourceFileLoader' for n in names)\n"
        "assert not any('torch_import' in type(finder).__module__ for finder in sys.meta_path)\n"
        "exported = torch.export.export(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.GELU()), (torch.randn(2, 3),))\n"
        "assert exported.module()(torch.zeros(2, 3)).shape == (2, 4)\n"
    )
    assert said(BRIEFLY + whole + META) == "torch.Size([1, 1, 3, 3])\n"


@pytest.mark.parametrize(
    ("version", "more", "briefly"),
    [("2.13.1", "cuda: Optional[str] = None\n", True), ("2.13.0+cu130", "cuda: Optional[str] = '13.0'\n", False), ("2.99.0", "cuda = None\n", False)],
)
def test_versions_that_were_not_tried_are_imported_as_ever(tmp_path, version, more, briefly):
    package = tmp_path / "torch"
    package.mkdir()
    (package / "version.py").write_text(f"__version__ = '{version}'\n{more}")
    (package / "export.py").write_text("SEEN = 'export'\n")
    (package / "_meta_registrations.py").write_text("")
    (package / "__init__.py").write_text("import gc\nfrom . import export, _meta_registrations\nCOLLECTS = gc.isenabled()\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + BRIEFLY + (
        "print(isinstance(torch.export, _PutOff), torch.COLLECTS, torch.export.SEEN, torch.__spec__.loader.__class__.__name__)\n"
        "import gc; print(gc.isenabled())\n"
    )
    assert said(code) == f"{briefly} {not briefly} export SourceFileLoader\nTrue\n"


def test_a_missing_pytorch_is_missing_as_ever():
    code = BRIEFLY.replace("import sys, torch", "import sys") + (
        "import importlib.machinery\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if f is not importlib.machinery.PathFinder]\n"
        "try:\n"
        "    import torch\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error)\n"
    )
    assert said(code) == "No module named 'torch'\n"


def test_commands_that_use_networks_import_it_so(tmp_path):
    image = next((Path(__file__).parents[1] / "Data").rglob("*.png"))
    code = "import sys\nfrom BreastUSAILib.cli import main\nmain(sys.argv[1:])\nprint('torch' in sys.modules, 'torch._refs' in sys.modules)"
    assert said(code, "grade", str(image), "--output", str(tmp_path / "o")).splitlines()[-1] == "True False"
