"""What this machine's processors are good at."""

from __future__ import annotations

import os


def cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def fast_bf16(name: str) -> bool:
    """Whether a device computes in bfloat16 faster than in float32, rather than merely at all."""
    import torch

    name = name.partition(":")[0]
    if name == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if name != "cpu":
        return False
    try:
        capabilities = torch.cpu.get_capabilities()
    except AttributeError:  # PyTorch before 2.10
        return any(getattr(torch.cpu, f"_is_{unit}_supported", bool)() for unit in ("avx512_bf16", "amx_tile"))
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
