"""Outlines and grades of a real image in bfloat16, which PyTorch emulates where the processor does not have it."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from BreastUSAILib.evaluation.metrics import dice
from BreastUSAILib.grade import GradeModels, GradeOptions, answers
from BreastUSAILib.grade_pooling import concluded
from BreastUSAILib.image import read_image
from BreastUSAILib.models import devices, inference
from BreastUSAILib.models.zoo import load
from BreastUSAILib.segment import SegmentOptions, segment_2d

IMAGE = Path(__file__).resolve().parents[1] / "Data" / "images" / "case067.nrrd"


def test_an_outline_and_a_grade_are_those_of_float32(monkeypatch):
    def graded(low):
        for module in (devices, inference):
            monkeypatch.setattr(module, "fast_bf16", lambda name: low)
        loaded = read_image(IMAGE)
        findings, _ = segment_2d(loaded.image, load("", "segment", "cpu"), SegmentOptions(), area=loaded.area)
        mask = sitk.GetArrayFromImage(findings[0].mask) > 0
        models = GradeModels(mtnet=load("", "grade-mtnet", "cpu"))
        assert any(p.dtype.itemsize == 2 for p in models.mtnet.network.parameters()) is low
        pixels = sitk.GetArrayFromImage(loaded.image)
        said, _ = answers(
            pixels.reshape(pixels.shape[-2:]), mask.reshape(pixels.shape[-2:]), models, GradeOptions(several=False)
        )
        assert all(np.isfinite(v).all() for each in said.values() for v in each.values())
        return mask, concluded(said, models.pooling)

    (mask, grade), (low_mask, low_grade) = graded(False), graded(True)
    assert dice(mask, low_mask) > 0.99
    assert low_grade.malignancy == pytest.approx(grade.malignancy, abs=0.03)
    assert low_grade.malignancy != grade.malignancy  # it was computed in bfloat16
