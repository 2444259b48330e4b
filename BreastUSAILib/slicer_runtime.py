"""A MRML scene, inside the Slicer application and outside of it.

Outside, the PyPI package `slicer-core` holds Slicer's own C++ MRML and logic libraries without Qt and without an
application. Much of MRML works only when the right *logics* watch the scene (a segmentation without the segmentations
logic takes no segments and says nothing); `private_scene` makes a scene that has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from .errors import DependencyError

# Slicer warns when it opens a scene that another application or a newer Slicer saved. The scenes made here use
# nothing newer than the oldest Slicer that BreastUSAI supports, and say so in its own notation.
SCENE_VERSION = "Slicer 5.10.0 0"

# The logics a scene needs, with the wrapper that each comes from where `slicer` does not have it yet (PythonSlicer, which
# starts without an application, has MRML but not the loadable modules). The application logic comes before all of them.
_LOGICS = {
    "vtkMRMLColorLogic": None,  # the grey colour table that display nodes of volumes refer to
    "vtkSlicerUnitsLogic": "vtkSlicerUnitsModuleLogicPython",  # millimetres, for the labels of markups
    "vtkSlicerVolumesLogic": "vtkSlicerVolumesModuleLogicPython",  # display nodes of volumes
    # Registers segmentations; without it segments are dropped silently.
    "vtkSlicerSegmentationsModuleLogic": "vtkSlicerSegmentationsModuleLogicPython",
    "vtkSlicerMarkupsLogic": "vtkSlicerMarkupsModuleLogicPython",  # registers ROI and point lists
    "vtkSlicerTablesLogic": "vtkSlicerTablesModuleLogicPython",  # registers tables
}


def import_slicer() -> Any:
    """The package ``slicer``: Slicer's own inside the application, ``slicer-core`` elsewhere.

    Raises
    ------
    DependencyError : neither is there.
    """
    try:
        import slicer
    except ImportError as error:
        raise DependencyError(
            "MRML scenes need 3D Slicer or its library; install it with: pip install breastusai[slicer]"
        ) from error
    if not hasattr(slicer, "vtkMRMLScene"):
        raise DependencyError(
            "a package named slicer is installed that is not 3D Slicer's; "
            "remove it and run: pip install breastusai[slicer]"
        )
    return slicer


def application_scene() -> Any | None:
    """``slicer.mrmlScene`` inside the Slicer application, None elsewhere."""
    return getattr(import_slicer(), "mrmlScene", None)


@contextmanager
def private_scene() -> Iterator[Any]:
    """A fresh ``vtkMRMLScene`` of its own, inside and outside the application, emptied when the block ends.

    Nothing of it is seen in Slicer's windows: it is what files are written from.

    Raises
    ------
    DependencyError : slicer-core is not installed.
    """
    slicer = import_slicer()
    scene = slicer.vtkMRMLScene()
    scene.SetVersion(SCENE_VERSION)
    logics = _attach(slicer, scene)
    try:
        yield scene
    finally:
        # A logic holds its scene and the scene's observers hold the logic: without this, neither is ever freed.
        scene.Clear(True)
        _detach(slicer, logics)


@contextmanager
def scene() -> Iterator[Any]:
    """The application's scene in Slicer, left as it is afterwards; a `private_scene` elsewhere."""
    existing = application_scene()
    if existing is not None:
        yield existing
        return
    with private_scene() as fresh:
        yield fresh


def _attach(slicer: Any, mrml_scene: Any) -> list[Any]:
    # The application logic makes the selection and interaction nodes; the markups logic complains without them.
    application = slicer.vtkMRMLApplicationLogic()
    application.SetMRMLScene(mrml_scene)
    logics = [application]
    for name, wrapper in _LOGICS.items():
        logic = _logic_class(slicer, name, wrapper)()
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(mrml_scene)
        logics.append(logic)
    return logics


def _logic_class(slicer: Any, name: str, wrapper: str | None) -> Any:
    if hasattr(slicer, name):
        return getattr(slicer, name)
    try:
        return getattr(import_module(wrapper), name)
    except (ImportError, AttributeError, TypeError) as error:
        raise DependencyError(
            f"this Slicer has no {name} here, which scenes need; run BreastUSAI inside the Slicer application, or in "
            "plain Python after: pip install breastusai[slicer]"
        ) from error


def _detach(slicer: Any, logics: list[Any]) -> None:
    # The segmentations logic looks for a subject hierarchy in the scene it no longer has and warns that there is none.
    display = slicer.vtkMRMLScene.GetGlobalWarningDisplay()
    slicer.vtkMRMLScene.SetGlobalWarningDisplay(0)
    try:
        for logic in reversed(logics):
            logic.SetMRMLScene(None)
    finally:
        slicer.vtkMRMLScene.SetGlobalWarningDisplay(display)
