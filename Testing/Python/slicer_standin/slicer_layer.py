"""The Python layer of Slicer's own source in place of the stand-ins for it, where a checkout of that source is at hand.

Slicer is under a licence of its own; nothing of it is kept here.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

VARIABLE = "BREASTUSAI_SLICER_SOURCE"


def source() -> Path | None:
    """Where the variable says that Slicer's source lies; None where it is not set.

    Raises
    ------
    FileNotFoundError : it is set, and there is no source of Slicer.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    folder = Path(named) / "Base" / "Python" / "slicer"
    if not (folder / "ScriptedLoadableModule.py").is_file():
        raise FileNotFoundError(
            f"{VARIABLE} is {named}, where there is no Base/Python/slicer/ScriptedLoadableModule.py"
        )
    return folder


def load(folder: Path, names: list[str]) -> None:
    """Import modules of the package slicer from a folder instead of from where they were. `qt`, `ctk` and ``slicer`` must be there."""
    sys.modules.update(_modules(folder, tuple(names)))


@cache
def _modules(folder: Path, names: tuple[str, ...]) -> dict[str, ModuleType]:
    # Once a process: BreastUSAILib stays imported, with base classes from here.
    loaded = {}
    for name in names:
        stem = name.removeprefix("slicer.")
        package = folder / stem
        file = package / "__init__.py" if package.is_dir() else folder / f"{stem}.py"
        spec = spec_from_file_location(
            name, file, submodule_search_locations=[str(package)] if package.is_dir() else None
        )
        sys.modules[name] = module = module_from_spec(spec)
        spec.loader.exec_module(module)
        loaded[name] = module
    loaded |= {name: module for name, module in sys.modules.items() if name.startswith("slicer.parameterNodeWrapper.")}
    return loaded
