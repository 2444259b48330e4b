"""On which device a network runs, and why."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from ..errors import UsageError
from ..processor import fast_bf16

NAMES = ("auto", "cpu", "cuda", "mps")
_MEMORY_IS_FULL = (
    "out of memory",  # CUDA, MPS
    "allocate memory",  # PyTorch's allocator on Linux and macOS
    "not enough memory",  # on Windows
    "bad_alloc",  # C++, by GCC and Clang
    "bad allocation",  # by MSVC
    "could not create a memory object",  # oneDNN: what PyTorch asks for is well described, so that it is the room which lacks
)


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
    """Whether an error says that the device's memory is used up; CUDA, MPS and the CPU say it differently, and the CPU on Windows again."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(words in str(error).lower() for words in _MEMORY_IS_FULL)


def autocast(name: str) -> AbstractContextManager:
    """A context in which networks run in bfloat16 where the device is fast at it, and as they are elsewhere."""
    import torch

    kind = name.partition(":")[0]
    return torch.autocast(kind if kind in ("cpu", "cuda") else "cpu", torch.bfloat16, enabled=fast_bf16(name))
