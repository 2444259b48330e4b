"""Fixtures that several test files use."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Test processes that run side by side (`make test`) share the cores: with two threads each, they wait for one another.
if os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest.register_assert_rewrite("generator_cases")  # its checks say what was compared, as those of tests do

# In CI the same examples every time, so that a submission is judged by its own change; elsewhere new ones at each run.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")



@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real ultrasound images beside the checkout; the test is skipped where there is none."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the shared data are not at {folder}")
    return folder


@pytest.fixture
def float32(monkeypatch):
    """Networks compute in float32 also where the processor is fast at bfloat16: what a test compares is exact there alone."""
    from BreastUSAILib.models import devices, inference

    for module in (devices, inference):
        monkeypatch.setattr(module, "fast_bf16", lambda name: False)
