"""What the cases of all panels share, on the stand-in and in a real Slicer: a panel with a fake child process, and waiting."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
import traceback
import unittest
from pathlib import Path

import qt
import SimpleITK as sitk
import slicer

from BreastUSAILib import mrml, mrml_overlay
from BreastUSAILib.child_process import python_executable

STANDIN_CLI = [python_executable(), str(Path(__file__).resolve().parent / "standin_cli.py")]


def count(kind: str) -> int:
    return slicer.mrmlScene.GetNumberOfNodesByClass(f"vtkMRML{kind}Node")


class PanelCase(unittest.TestCase):
    """Cases of one panel, of the class `widget`."""

    widget = None

    def logic(self):
        """A Logic whose child process is `STANDIN_CLI`."""
        raise NotImplementedError

    def setUp(self):
        self._watchCallbacks()
        slicer.mrmlScene.Clear(False)
        self.errors = []
        self._errorDisplay = slicer.util.errorDisplay
        slicer.util.errorDisplay = lambda text, *_, **__: self.errors.append(text)
        self.panel = self.openPanel()

    def tearDown(self):
        slicer.util.errorDisplay = self._errorDisplay
        self.closePanel(self.panel)
        slicer.mrmlScene.Clear(False)

    def _watchCallbacks(self):
        """What is raised in a callback of Qt or VTK is printed and forgotten; here it fails the case."""
        problems, hook = [], sys.excepthook
        sys.excepthook = lambda *problem: problems.append("".join(traceback.format_exception(*problem)))

        def check():
            sys.excepthook = hook
            self.assertEqual(problems, [])

        self.addCleanup(check)

    def openPanel(self):
        parent = slicer.qMRMLWidget()
        parent.setLayout(qt.QVBoxLayout())
        panel = self.widget(parent)
        panel.setup()
        panel.logic = self.logic()
        panel.logic.ensureDependencies = lambda confirm: None
        return panel

    def closePanel(self, panel):
        slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", panel._onModuleAboutToBeUnloaded)
        panel.cleanup()
        panel.parent.deleteLater()

    def until(self, condition, timeout=30.0):
        end = time.monotonic() + timeout
        while not condition():
            self.assertLess(time.monotonic(), end, "it never happened")
            slicer.app.processEvents()
            time.sleep(0.01)

    def child(self):
        """The child of the job that runs, as soon as its input is written."""
        self.until(lambda: self.panel._job.child is not None)
        return self.panel._job.child

    def apply(self, wait=True):
        self.panel.ui.applyButton.click()
        if wait:
            self.until(lambda: self.panel._job is None)

    def refusesMapsOver(self, image):
        """A map over an image is neither chosen by itself nor taken where a person or a selector chooses it, also when its image is gone."""
        heat = sitk.Cast(mrml.image_from_volume(image), sitk.sitkFloat32)
        over = mrml_overlay.add_map(slicer.mrmlScene, heat, image, "heatmap", 1.0)
        self.panel._parameterNode.inputVolume = over
        self.assertFalse(self.panel.ui.applyButton.enabled)
        said = f"{over.GetName()} is a map of where networks looked; choose the ultrasound image itself."
        self.assertEqual(self.panel.ui.statusLabel.text, said)
        self.assertEqual(self.panel.logic.firstImage(), image)
        slicer.mrmlScene.RemoveNode(image)
        self.assertEqual((self.panel.logic.firstImage(), self.panel.logic.reasonAgainst(over)), (None, said))
        self.saveAndOpenScene()
        kind = "vtkMRMLScalarVolumeNode"
        found = [slicer.mrmlScene.GetNthNodeByClass(i, kind) for i in range(count("ScalarVolume"))]
        self.assertEqual(([v.GetName() for v in found], self.panel.logic.firstImage()), ([over.GetName()], None))

    def saveAndOpenScene(self, meanwhile=lambda: None):
        """The scene as text, closed, and read again."""
        slicer.mrmlScene.SetSaveToXMLString(True)
        slicer.mrmlScene.Commit()
        text = slicer.mrmlScene.GetSceneXMLString()
        slicer.mrmlScene.SetSaveToXMLString(False)
        slicer.mrmlScene.Clear(False)
        meanwhile()
        slicer.mrmlScene.SetLoadFromXMLString(True)
        slicer.mrmlScene.SetSceneXMLString(text)
        slicer.mrmlScene.Import()
        slicer.mrmlScene.SetLoadFromXMLString(False)
        self.panel.enter()


class FolderCase(PanelCase):
    """Cases with a folder of their own."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        super().setUp()

    def tearDown(self):
        super().tearDown()
        shutil.rmtree(self.folder)


class Row:
    """What a click on a table gives: an index of Qt's model."""

    def __init__(self, row):
        self._row = row

    def row(self):
        return self._row


if __name__ == "__main__":
    sys.exit("run by the tests of the panels, or by run_in_slicer.py")
