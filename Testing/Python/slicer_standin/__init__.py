"""A small stand-in for Slicer's GUI side, so that module panels run without Slicer, offscreen, on PySide6.

The scene and all nodes are the real ones of slicer-core, and so is ``slicer.util``. Stand-ins are: PythonQt's habits (`qt`), the few CTK
and qMRML widgets that the panels use (`widgets`), and the parts of Slicer's Python base that the modules import
(`ScriptedLoadableModule`, `parameterNodeWrapper`, `i18n`). Where the variable BREASTUSAI_SLICER_SOURCE names a checkout of Slicer's
source, those parts are Slicer's own, from there (`slicer_layer`). What it cannot show: PythonQt's quirks, the real qMRML widgets,
module discovery, views. So the same cases also run in a real Slicer, see ``run_in_slicer.py``.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from . import slicer_layer

_WIDGETS = {"qt": "qt", "ctk": "widgets"}
_LAYER = {
    "slicer.ScriptedLoadableModule": "scripted",
    "slicer.parameterNodeWrapper": "parameters",
    "slicer.i18n": "translation",
}


@contextmanager
def slicer_application(module_file: Path) -> Iterator[types.ModuleType]:
    """The package ``slicer`` with an application, a scene and one scripted module; all is undone afterwards.

    Parameters
    ----------
    module_file : the module's .py file; ``slicer.modules.<name>.path`` will say it.
    """
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    import slicer
    import slicer.util

    from BreastUSAILib.slicer_runtime import private_scene

    from . import qt, widgets

    application = widgets.application()
    module = types.SimpleNamespace(name=module_file.stem, path=str(module_file))
    attributes = {
        "app": application,
        "modules": types.SimpleNamespace(**{module_file.stem.lower(): module}),
        **{name: getattr(widgets, name) for name in dir(widgets) if name.startswith("qMRML")},
    }
    before = dict(sys.modules)
    with private_scene() as scene:
        for name, value in {**attributes, "mrmlScene": scene}.items():
            setattr(slicer, name, value)
        sys.modules.update({name: import_module(f".{file}", __name__) for name, file in _WIDGETS.items()})
        source = slicer_layer.source()
        if source is None:
            sys.modules.update({name: import_module(f".{file}", __name__) for name, file in _LAYER.items()})
        else:
            slicer_layer.load(source, list(_LAYER))
        sys.path.insert(0, str(module_file.parent))
        try:
            yield slicer
        finally:
            sys.path.remove(str(module_file.parent))
            for name in (*attributes, "mrmlScene"):
                delattr(slicer, name)
            replaced = (*_WIDGETS, *_LAYER, module_file.stem)
            for name in [n for n in sys.modules if n in replaced or n.startswith("slicer.parameterNodeWrapper.")]:
                sys.modules.pop(name)
                if name in before:
                    sys.modules[name] = before[name]
            qt.QApplication.processEvents()
