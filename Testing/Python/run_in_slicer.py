"""Runs the panel's cases and the module's self-test in a real Slicer:

    Slicer --testing --python-script Testing/Python/run_in_slicer.py --additional-module-paths BreastUSAI/BreastUSAISegment

Ends Slicer with 0 when all passed and 1 otherwise. The self-test needs the packages of requirements-slicer.txt and PyTorch
in that Slicer; without them it is skipped, and said so.
"""

import sys
import traceback
import unittest
from pathlib import Path

import slicer

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1]), str(HERE.parents[1] / "BreastUSAI" / "BreastUSAISegment")]


def main() -> int:
    import BreastUSAISegment
    import segment_widget_cases

    from BreastUSAILib import slicer_install

    suite = unittest.defaultTestLoader.loadTestsFromModule(segment_widget_cases)
    passed = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite).wasSuccessful()
    missing = slicer_install.missing()
    if missing:
        print(f"self-test skipped: {', '.join(missing)} are not installed in this Slicer")
    else:
        BreastUSAISegment.BreastUSAISegmentTest().runTest()
        print("self-test passed")
    return 0 if passed else 1


try:
    status = main()
except BaseException:
    traceback.print_exc()
    status = 1
slicer.util.exit(status)
