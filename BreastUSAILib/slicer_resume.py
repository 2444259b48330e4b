"""What a person was about to do when Slicer had to be restarted for an installation, offered again after it.

Imported by the Slicer modules only: it needs Slicer's Qt. One record lies in Slicer's settings, on this computer; it is gone once it was
offered, or once the work began without a restart.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

KEY = "BreastUSAI/Resume"


@dataclass(frozen=True)
class Intention:
    """A press on Apply that had to wait.

    Attributes
    ----------
    module : the module's name.
    image : the name of the chosen image.
    scene : the scene's file; "" where it was never saved.
    file : the image's file; "" where it has none.
    parameters : the module's parameters as its node keeps them, without references to nodes, which stand in the scene.
    """

    module: str
    image: str
    scene: str = ""
    file: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


def intention(module, parameter_node, volume):
    """What a press on Apply means now: with this (unwrapped) parameter node, on this volume."""
    storage = volume.GetStorageNode()
    scene = volume.GetScene().GetURL() or ""
    file = (storage.GetFullNameFromFileName() if storage is not None else "") or ""
    names = [n for n in parameter_node.GetParameterNames() if not parameter_node.GetNodeReferenceID(n)]
    parameters = {name: parameter_node.GetParameter(name) for name in names}
    return Intention(module, volume.GetName(), _if_there(scene), _if_there(file), parameters)


def remember(what, settings=None):
    """Keep an intention for the next start of Slicer, instead of the one before."""
    settings = settings if settings is not None else qt.QSettings()
    settings.setValue(KEY, json.dumps(asdict(what)))
    settings.sync()


def take(module, settings=None):
    """The intention that is kept for a module, which is kept no longer; None where there is none."""
    settings = settings if settings is not None else qt.QSettings()
    try:
        what = Intention(**json.loads(settings.value(KEY)))
    except (TypeError, ValueError):  # none, or one of another version
        return None
    if what.module != module:
        return None
    settings.remove(KEY)
    settings.sync()
    return what


def offer_after_start(module, title):
    """Offer what is kept for a module as soon as Slicer has started; called when the module is loaded."""
    if not slicer.app.testingEnabled():
        slicer.app.connect("startupCompleted()", lambda: offer_in_window(module, title))


def offer_in_window(module, title):
    """`offer` where there is a main window. A Slicer without one works for a script: it keeps the offer for the next that has one."""
    return slicer.util.mainWindow() is not None and offer(module, title)


def offer(module, title, settings=None):
    """Ask whether to go on with what is kept for a module, and do it; whether it was begun."""
    what = take(module, settings)
    if what is None:
        return False
    source = what.scene or what.file
    question = _("Before the restart, {module} was about to work on {image}. Go on with it?").format(
        module=title, image=what.image
    )
    if source:
        question += " " + _("{file} is opened for it.").format(file=source)
    if not slicer.util.confirmOkCancelDisplay(question, _("BreastUSAI: go on after the restart")):
        return False
    return resume(what)


def resume(what):
    """Open the image and the module with its parameters and press Apply; whether the work was begun."""
    volume = _open(what)
    slicer.util.selectModule(what.module)
    panel = slicer.util.getModuleWidget(what.module)
    parameters = panel.logic.getParameterNode()
    if volume is not None:  # first: a panel forgets some choices with another image, such as its pixel spacing
        parameters.inputVolume = volume
    with slicer.util.NodeModify(parameters.parameterNode):
        for name, value in what.parameters.items():
            parameters.parameterNode.SetParameter(name, value)
    if volume is None:
        button = panel.ui.applyButton.text  # the Workup's is called otherwise
        panel.showStatus(_("Load {image} again, then press {button}.").format(image=what.image, button=button))
        return False
    if not panel.ui.applyButton.enabled:
        return False  # the panel says why
    panel.onApplyButton()
    return True


def _open(what):
    """The image that was chosen, from its scene, or from its file where that does not hold it; None where it cannot be had."""
    volume = None
    if what.scene:
        _load(slicer.util.loadScene, what.scene)
        volume = slicer.mrmlScene.GetFirstNode(what.image, "vtkMRMLScalarVolumeNode")
    if volume is None and what.file:  # loaded after the scene was saved, for one
        volume = _load(slicer.util.loadVolume, what.file)
    return volume


def _load(load, path):
    """What one of Slicer's functions loads from a file; None where it cannot."""
    try:
        return load(path)
    except RuntimeError as error:  # moved or broken since: the person loads it
        logging.warning("BreastUSAI: %s", error)
        return None


def _if_there(path):
    return path if path and Path(path).is_file() else ""
