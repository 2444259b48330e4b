r"""Runs the panels' cases and the modules' self-tests in a real Slicer:

    Slicer --testing --python-script Testing/Python/run_in_slicer.py --additional-module-paths \
        BreastUSAI/BreastUSAI{Segment,Detect,Grade,Heatmap,Workup}

(not BreastUSAIBatch, a script that Slicer would take for a module).

Ends Slicer with 0 when all passed and 1 otherwise. What needs PyTorch and the packages of requirements-slicer.txt is skipped
where they are not in that Slicer, and said so.
"""

import importlib
import sys
import traceback
import unittest
from pathlib import Path

import slicer

HERE = Path(__file__).resolve().parent
MODULES = sorted(p.parent for p in (HERE.parents[1] / "BreastUSAI").glob("*/Resources"))
sys.path[:0] = [str(HERE), str(HERE.parents[1]), *map(str, MODULES)]


def main() -> int:
    from BreastUSAILib import slicer_install

    missing = slicer_install.missing()
    if missing:
        print(f"skipped where they are needed: {', '.join(missing)} are not installed in this Slicer")
    for module in MODULES:
        getattr(importlib.import_module(module.name), f"{module.name}Test")().runTest()
        print(f"self-test of {module.name} passed")
    load = unittest.defaultTestLoader.loadTestsFromModule
    cases = sorted(path.stem for path in HERE.glob("*_widget_cases.py"))
    suite = unittest.TestSuite([load(importlib.import_module(name)) for name in cases])
    return 0 if unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite).wasSuccessful() else 1


try:
    status = main()
except BaseException:
    traceback.print_exc()
    status = 1
slicer.util.exit(status)
