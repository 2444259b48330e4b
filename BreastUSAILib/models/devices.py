"""On which device a network runs, and why."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UsageError

NAMES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class Device:
    """`name` is what torch calls it ("cpu", "cuda", "mps"); `reason` is a phrase for the report."""

    name: str
    reason: str


def choose_device(name: str = "auto") -> Device:
    """The device asked for, or the best there is for "auto": CUDA, then MPS, then CPU.

    Raises
    ------
    UsageError : an unknown name, or a device that this machine or this PyTorch does not have.
    """
    if name not in NAMES:
        raise UsageError(f"Device {name!r} is unknown; choose one of {', '.join(NAMES)}.")
    if name == "cpu":
        return Device("cpu", "asked for")
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name != "auto":
        if not present[name]:
            raise UsageError(f"Device {name!r} was asked for and PyTorch {torch.__version__} sees none; use --device auto.")
        return Device(name, "asked for")
    for candidate, available in present.items():
        if available:
            label = torch.cuda.get_device_name() if candidate == "cuda" else "Apple GPU"
            return Device(candidate, f"chosen automatically: {label} found")
    return Device("cpu", "chosen automatically: no CUDA or Apple GPU found")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's memory is used up (CUDA and MPS say it differently)."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error).lower()
