"""PyTorch imported without two parts of it that inference never looks at, until something does.

`import torch` is the longest step of a command's start. A third of it is the Python side of tensors without data and of exported programs
(`torch._meta_registrations`, and `torch.export` with the decompositions that it brings), and another part the garbage collector, which goes
through all that has been made so far time and again (docs/performance.md has the figures). Commands that only use networks put both off: the
names stand there and are filled when first asked for, or when any module imports them. Calculations are those of the same kernels.

This leans on how one version of PyTorch begins, so it is done with versions that it was tried with, and with no other.
"""

from __future__ import annotations

import gc
import importlib
import importlib.abc
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

PUT_OFF = ("torch.export", "torch._meta_registrations")
"""What `import torch` imports by itself and is put off, in its order."""
_BROUGHT = ("torch._decomp", "torch._export", "torch._prims", "torch._refs")
"""Parts of `torch` that are there after them."""
TRIED = ("2.13",)
"""Versions (major.minor) of builds without CUDA, ROCm or XPU."""


def import_torch_briefly() -> None:
    """From now on PyTorch, where it was not imported yet, is imported without `PUT_OFF`; nothing changes with versions other than `TRIED`."""
    if "torch" not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _PutOff(ModuleType):
    """Stands for a module, as an attribute of `torch`, until something asks for what is in it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # `inspect` asks every module for such
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        _take_away()
        return getattr(importlib.import_module(self.__name__), name)


def _take_away() -> None:
    """Let imports find the modules themselves. An import then puts its module in the place of what stood for it in `torch`."""
    for name in PUT_OFF:
        if isinstance(sys.modules.get(name), _PutOff):
            del sys.modules[name]


class _CatchUp(importlib.abc.MetaPathFinder):
    """Imports what was put off as soon as any further part of PyTorch is imported, as the parts lean on each other and on their order."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith("torch."):
            return None
        _remove(_CatchUp)
        for wanted in PUT_OFF:
            importlib.import_module(wanted)
        module = sys.modules.get(name)
        if module is None:
            return None
        spec = ModuleSpec(name, _Imported(module))
        module.__spec__ = spec  # the import system would otherwise take the module's own, and run it again
        return spec


class _Imported(importlib.abc.Loader):
    """Gives a module that has been imported in the meantime, as it is."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


def _remove(kind: type) -> None:
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, kind)]


class _Finder(importlib.abc.MetaPathFinder):
    """Finds `torch` as the other finders do, and has it loaded by `_Loader`."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "torch":
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None else None
            if spec is not None:
                if spec.loader is not None and _tried(spec):
                    spec.loader = _Loader(spec.loader)
                return spec
        return None


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__.loader = module.__loader__ = self._loader
        for name in PUT_OFF:
            sys.modules.setdefault(name, _PutOff(name))
        collecting = gc.isenabled()
        gc.disable()
        try:
            self._loader.exec_module(module)
        finally:
            if collecting:
                gc.enable()
            _take_away()
            _remove(_Finder)
        if not any(name in sys.modules for name in PUT_OFF):
            sys.meta_path.insert(0, _CatchUp())
            for name in (*PUT_OFF, *_BROUGHT):
                setattr(module, name.partition(".")[2], _PutOff(name))


def _tried(spec: ModuleSpec) -> bool:
    """Whether this is a build that the above was tried with, by what it says of itself in torch/version.py."""
    told: dict[str, str] = {}
    with suppress(OSError, TypeError, ValueError):
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
        told = dict(re.findall(r"^(\w+)(?:: [^=]*)? = (.*)$", text, re.MULTILINE))
    version = re.match(r"'(\d+\.\d+)\.", told.get("__version__", ""))
    plain = all(told.get(name, "None") == "None" for name in ("cuda", "hip", "rocm", "xpu"))
    return version is not None and version[1] in TRIED and plain
