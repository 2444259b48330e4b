"""Runs the panels' cases and the modules' self-tests in a real Slicer:

    Slicer --testing --python-script Testing/Python/run_in_slicer.py \\
        --additional-module-paths BreastUSAI/BreastUSAISegment BreastUSAI/BreastUSAIDetect BreastUSAI/BreastUSAIGrade

Ends Slicer with 0 when all passed and 1 otherwise. The self-test needs the packages of requirements-slicer.txt and PyTorch
in that Slicer; without them it is skipped, and said so.
"""

import sys
import traceback
import unittest
from pathlib import Path

import slicer

HERE = Path(__file__).resolve().parent
MODULES = ("BreastUSAISegment", "BreastUSAIDetect", "BreastUSAIGrade")
sys.path[:0] = [str(HERE), str(HERE.parents[1]), *(str(HERE.parents[1] / "BreastUSAI" / name) for name in MODULES)]


def main() -> int:
    import BreastUSAIDetect
    import BreastUSAIGrade
    import BreastUSAISegment
    import detect_widget_cases
    import grade_widget_cases
    import segment_widget_cases

    from BreastUSAILib import slicer_install

    load = unittest.defaultTestLoader.loadTestsFromModule
    suite = unittest.TestSuite([load(segment_widget_cases), load(detect_widget_cases), load(grade_widget_cases)])
    BreastUSAIDetect.BreastUSAIDetectTest().runTest()
    BreastUSAIGrade.BreastUSAIGradeTest().runTest()
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
