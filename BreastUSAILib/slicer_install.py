"""Python packages that BreastUSAI needs inside the Slicer application, installed after the user agreed.

Never called when a module is loaded or shown, only when work is about to start. PyTorch comes through the extension
PyTorch, which picks the build for the graphics card; the rest through Slicer's own pip functions. Packages that Slicer
bundles are pinned to what is there, so that no dependency can replace them.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from .errors import DependencyError
from .slicer_runtime import import_slicer

REQUIREMENTS = Path(__file__).parent / "requirements-slicer.txt"
TORCH = "torch>=2.4"
PYDICOM = "pydicom>=3.0"
_MODULES = {"scikit-image": "skimage"}  # packages whose modules have another name
BUNDLED = ("numpy", "scipy", "SimpleITK", "Pillow", "pydicom", "vtk", "requests")


class RestartNeeded(DependencyError):
    """Packages can be used only after a restart of Slicer.

    Attributes
    ----------
    installed : whether all is installed, so that a restart is all that is missing.
    """

    def __init__(self, text: str, installed: bool) -> None:
        super().__init__(text)
        self.installed = installed


def requirements() -> list[str]:
    """The lines of `REQUIREMENTS` that name a package."""
    lines = (line.split("#")[0].strip() for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def missing() -> list[str]:
    """The requirements, PyTorch first, that are not installed or too old. Imports none of them.

    An old pydicom is not among them: it came with Slicer, whose own DICOM modules use it, and is left as it is; `notes`
    says what that means. A Slicer that was built without pydicom lacks it, though, as it lacks any other package.
    """
    wanted = [requirement for requirement in (TORCH, *requirements()) if not _satisfied(requirement)]
    return wanted if _installed_version(PYDICOM) else [*wanted, PYDICOM]


def notes() -> list[str]:
    """What does not work in this Slicer, though nothing is missing; one sentence each."""
    version = _installed_version(PYDICOM)
    if not version or _satisfied(PYDICOM):
        return []
    return [
        f"This Slicer comes with pydicom {version}, which is left as it is; reading DICOM files in the batch needs "
        f"{PYDICOM}: use a newer Slicer, or run the batch with plain Python."
    ]


def ensure_dependencies(confirm: Callable[[str], bool]) -> None:
    """Install what is missing, when the user agrees.

    Parameters
    ----------
    confirm : asked once, with the text to show; returns whether the user agrees.

    Raises
    ------
    DependencyError : the user declined, or an installation failed.
    RestartNeeded : the extension PyTorch is not there; or what was installed cannot be used in this session, as an older one is loaded.
    """
    wanted = missing()
    if not wanted:
        return
    listed = ", ".join(wanted)
    agreed = confirm(
        f"BreastUSAI needs Python packages that are not in Slicer yet: {listed}. "
        "They are downloaded and installed into this Slicer, which may take several minutes. Install them now?"
    )
    if not agreed:
        raise DependencyError(f"BreastUSAI needs {listed}; start again and agree to the installation.")
    loaded, before = [_requirement(r).name for r in wanted if _is_loaded(r)], _versions_in_use()
    if TORCH in wanted:
        _install_torch()
    rest = [r for r in wanted if r != TORCH]
    if rest:
        _install(rest)
    importlib.invalidate_caches()
    still = missing()
    if still:
        raise DependencyError(f"{', '.join(still)} could not be installed; see the Python console, or restart Slicer.")
    # What the wanted ones brought along may have taken the place of something that is loaded as well.
    loaded += [name for name, version in before.items() if _installed_version(name) != version]
    if loaded:
        names = ", ".join(dict.fromkeys(loaded))
        raise RestartNeeded(f"A newer {names} was installed; restart Slicer, which still uses the one from before.", True)


def _is_loaded(requirement: str) -> bool:
    """Whether a package was imported in this Slicer: what is installed in its place is used after a restart only."""
    name = _requirement(requirement).name
    return _MODULES.get(name, name) in sys.modules


def _versions_in_use() -> dict[str, str]:
    """Name -> version of the installed packages of which a module was imported in this Slicer."""
    found = metadata.packages_distributions()
    names = dict.fromkeys(name for module, its in found.items() if module in sys.modules for name in its)
    return {name: version for name in names if (version := _installed_version(name))}


def _satisfied(requirement: str) -> bool:
    version = _installed_version(requirement)
    return bool(version) and _requirement(requirement).specifier.contains(version, prereleases=True)


def _installed_version(requirement: str) -> str:
    """Of the package that a requirement names; "" when it is not installed."""
    try:
        return metadata.version(_requirement(requirement).name)
    except metadata.PackageNotFoundError:
        return ""


def _requirement(text: str) -> Any:
    try:
        from packaging.requirements import Requirement
    except ImportError:  # Slicer before 5.11 does not bundle it
        from pip._vendor.packaging.requirements import Requirement
    return Requirement(text)


def _install_torch() -> None:
    try:
        import PyTorchUtils
    except ImportError as error:
        raise RestartNeeded(
            "BreastUSAI needs the extension PyTorch; install it in the Extensions Manager, restart Slicer, and try again.",
            False,
        ) from error
    try:
        torch = PyTorchUtils.PyTorchUtilsLogic().installTorch(
            askConfirmation=False, torchVersionRequirement=TORCH.removeprefix("torch")
        )
    except Exception as error:  # pip and light-the-torch raise many kinds
        raise DependencyError(f"PyTorch could not be installed ({error}); try it in the module PyTorch Utils.") from error
    if torch is None:
        raise DependencyError("PyTorch was not installed; try it in the module PyTorch Utils, then restart Slicer.")


def _install(names: list[str]) -> None:
    slicer = import_slicer()
    with tempfile.TemporaryDirectory(prefix="BreastUSAI-") as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("".join(f"{line}\n" for line in _pins()), encoding="utf-8")
        try:
            packaging = _slicer_packaging()
            if packaging is not None:
                packaging.pip_ensure(
                    [_requirement(n) for n in names],
                    constraints=constraints,
                    prompt_install=False,  # the user was asked already, for everything at once
                    requester="BreastUSAI",
                    **_without_restart(packaging.pip_ensure),
                )
            else:
                slicer.util.pip_install(["--constraint", str(constraints), *names])
        except Exception as error:  # CalledProcessError, RuntimeError; the sentence is the same for all
            raise DependencyError(
                f"{', '.join(names)} could not be installed ({error}); check the network and try again."
            ) from error


def _without_restart(pip_ensure: Callable[..., Any]) -> dict[str, bool]:
    """The argument that keeps Slicer's function from asking for a restart, where it takes it.

    Slicer is restarted at once when the user agrees there; here `RestartNeeded` says so, after which the panel first keeps what was
    about to be done.
    """
    taken = inspect.signature(pip_ensure).parameters
    return {"prompt_restart": False} if "prompt_restart" in taken else {}


def _slicer_packaging() -> Any | None:
    """``slicer.packaging`` (Slicer 5.11 and later) or None."""
    try:
        return importlib.import_module("slicer.packaging")
    except ImportError:
        return None


def _pins() -> list[str]:
    pins = []
    for name in BUNDLED:
        try:
            pins.append(f"{name}=={metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return pins
