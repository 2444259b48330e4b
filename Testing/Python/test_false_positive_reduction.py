"""False-positive reduction: which candidates are learnt from, how two scores become one, and what detection does with them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from BreastUSAILib.false_positive_reduction import combined_scores
from BreastUSAILib.training.false_positive_reduction import FalsePositiveRecipe, draw_order, sort_candidates


def box(low, high):
    return [low] * 3 + [high] * 3


def test_candidates_are_sorted_by_their_overlap():
    lesions = np.array([box(0, 10), box(50, 60)], float)
    candidates = np.array(
        [
            box(0, 9.5),  # of the first: kept
            box(1, 10),  # of the first: kept
            box(0, 9),  # of the first, a third: left out
            box(100, 110),  # none: kept
            box(5, 15),  # an eighth of the first: neither
            box(51, 60),  # of the second
            box(200, 210),  # none: kept
            box(300, 310),  # none, a third: left out
        ],
        float,
    )
    recipe = FalsePositiveRecipe(hits=2, misses=2)
    assert sort_candidates(lesions, candidates, recipe) == ([0, 1, 5], [3, 6])
    # In a healthy volume all are false positives, and where nothing was found there is nothing.
    assert sort_candidates(np.zeros((0, 6)), candidates, recipe) == ([], [0, 1])
    assert sort_candidates(lesions, np.zeros((0, 6)), recipe) == ([], [])


def test_an_epoch_sees_all_lesions_and_other_false_positives_each_time():
    positive = torch.tensor([1.0, 0, 0, 1, 0, 0, 0, 0, 0, 0])
    first, second = (draw_order(positive, 1.5, torch.Generator().manual_seed(i)).tolist() for i in (1, 2))
    for order in (first, second):
        assert {0, 3} <= set(order) and len(order) == len(set(order)) == 5
    assert set(first) != set(second)
    assert len(draw_order(positive, 100.0, torch.Generator())) == 10


probability = st.floats(0.001, 0.999)


@given(probability, probability, st.floats(0, 1))
def test_the_score_of_both_lies_between_theirs(first, second, weight):
    value = float(combined_scores(np.array([first]), np.array([second]), weight)[0])
    assert min(first, second) - 1e-9 <= value <= max(first, second) + 1e-9


def test_the_weight_says_whose_score_counts():
    detection, reduction = np.array([0.9, 0.2]), np.array([0.1, 0.7])
    assert combined_scores(detection, reduction, 0.0) == pytest.approx(detection)
    assert combined_scores(detection, reduction, 1.0) == pytest.approx(reduction)
    assert combined_scores(detection, reduction, 0.5)[0] == pytest.approx(0.5)
    assert np.isfinite(combined_scores(np.array([1.0, 0.0]), np.array([0.0, 1.0]), 0.5)).all()
