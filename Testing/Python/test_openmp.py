"""How OpenMP's threads wait: said once, before PyTorch is there, and never against a user's word."""

import os
import subprocess
import sys

import pytest

from BreastUSAILib.child_process import library_environment
from BreastUSAILib.openmp import SPINS, wait_briefly


def test_they_wait_briefly_unless_the_user_said_how():
    environment = {}
    wait_briefly(environment)
    assert environment == {"GOMP_SPINCOUNT": SPINS}
    for said in ({"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "5"}):
        environment = dict(said)
        wait_briefly(environment)
        assert environment == said


def test_children_of_slicer_are_told():
    assert library_environment({})["GOMP_SPINCOUNT"] == SPINS


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP comes with PyTorch on Linux")
def test_a_command_says_so_before_pytorch_is_imported():
    code = (
        "import os, sys, runpy\n"
        "class Seen:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'torch': print('torch after', os.environ.get('GOMP_SPINCOUNT'))\n"
        "sys.meta_path.insert(0, Seen())\n"
        "from BreastUSAILib.cli import main\n"
        "main(['models', 'verify', 'roi-cnn-compact'])\n"
        "import torch\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert f"torch after {SPINS}" in done.stdout, done.stdout + done.stderr
