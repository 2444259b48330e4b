"""What this machine's processors are good at."""

from __future__ import annotations

import os


def cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def fast_bf16(name: str) -> bool:
    """Whether a device computes in bfloat16 faster than in float32, rather than merely at all.

    On CPUs that is AMX. AVX512-BF16 alone is not: on a Xeon with AMX masked it multiplies at half of float32's rate, and all networks
    but one took as long or up to 1.8 times as long in it (docs/performance.md).
    """
    import torch

    name = name.partition(":")[0]
    if name == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if name != "cpu":
        return False
    try:
        return bool(torch.cpu.get_capabilities().get("amx_bf16"))
    except AttributeError:  # PyTorch before 2.10
        return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())
