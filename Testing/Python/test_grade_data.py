"""Labels as sets of answers; figures of grades against hand-worked numbers; the likelihood that sums over what a label leaves open."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from BreastUSAILib.errors import DataError
from BreastUSAILib.evaluation.grade import _title as picture_title
from BreastUSAILib.evaluation.grade_data import allowed, gradable
from BreastUSAILib.evaluation.grade_metrics import (
    calibration_error,
    confusion,
    exact,
    f_beta,
    quadratic_kappa,
    reliability,
    stated_classes,
    within_one,
)
from BreastUSAILib.evaluation.segmentation_data import Case, read_cases
from BreastUSAILib.grade_terms import ANSWERS, description, measured_again, orientation, stated_category
from BreastUSAILib.training.grade_batches import answers_allowed
from BreastUSAILib.training.grade_losses import grade_loss, marginal_nll


def _case(label="benign", **row):
    return Case("a", Path("a.png"), Path("m.png"), label, "g", 2, {k: str(v) for k, v in row.items()}, "set")


def _words(case, output):
    return {word for word, ok in zip(ANSWERS[output], allowed(case, output), strict=True) if ok}


@pytest.mark.parametrize(
    ("said", "categories"),
    [("2", {"2"}), ("3", {"3"}), ("4", {"4A", "4B", "4C"}), ("4b", {"4B"}), ("4C", {"4C"}), ("5", {"5"})],
)
def test_birads_labels_are_sets(said, categories):
    assert _words(_case(birads=said), "birads") == categories


@pytest.mark.parametrize("said", ["", "1", "0", "6"])
def test_categories_that_grade_no_lesion_say_nothing(said):
    assert all(allowed(_case(birads=said), "birads"))


def test_unknown_categories_are_an_error_that_names_the_image():
    with pytest.raises(DataError, match="a.png"):
        allowed(_case(birads="seven"), "birads")
    with pytest.raises(DataError, match="a.png"):
        allowed(_case(shape="square"), "shape")


def test_white_space_about_a_label_says_nothing():
    spaced = {"birads": " 4a ", "shape": "oval ", "margin": " circumscribed ", "echogenicity": "anechoic\t", "posterior_features": " no"}
    plain = {name: value.strip() for name, value in spaced.items()}
    for output in ANSWERS:
        assert allowed(_case(**spaced), output) == allowed(_case(**plain), output)


@pytest.mark.parametrize(
    ("case", "solid"),
    [
        (_case("malignant"), True),
        (_case(histology="fibroadenoma"), True),
        (_case(histology="cyst"), False),
        (_case(histology="galactocele"), False),
        (_case(histology="fibrocystic changes"), None),
        (_case(histology="Not available", diagnosis="fibroadenoma"), True),
        (_case(histology="not applicable", diagnosis="not applicable", echogenicity="anechoic"), False),
        (_case(diagnosis="Usual ductal hyperplasia (UDH)&Fibrocystic change"), None),
        (_case(diagnosis="Fibroadenoma&Phyllodes tumor"), True),
        (_case(diagnosis="not applicable", echogenicity="anechoic"), False),
        (_case(diagnosis="Benign mammary dysplasia", echogenicity="hypoechoic"), None),
        *((_case(histology=words), True) for words in ("papilloma", "phyllodes tumour", "PASH", "Intramammary lymph node", "lymph node")),
        (_case(histology="Fibroadenomas, multiple"), True),
        *((_case(histology=words), None) for words in ("papillomatosis", "intraductal papillomatosis", "fibroadenomatoid change", "lipomatosis")),
        (_case(), None),
    ],
)
def test_solid_or_not(case, solid):
    expected = {None: {"not solid", "solid"}, True: {"solid"}, False: {"not solid"}}[solid]
    assert _words(case, "solid") == expected


def test_margins_have_several_subtypes():
    case = _case(margin="not circumscribed - spiculated&indistinct")
    assert _words(case, "margin") == {"not circumscribed"}
    assert [_words(case, name) for name in ("spiculated", "indistinct", "angular")] == [{"yes"}, {"yes"}, {"no"}]
    assert all(allowed(_case(margin="not applicable"), "spiculated"))


def test_normal_images_are_not_graded():
    assert not gradable(_case("normal")) and gradable(_case())


def test_category_2_says_nothing_to_a_network_that_knows_3_to_5():
    table = answers_allowed([_case(birads="2"), _case(birads="4")], {"birads": 5})["birads"]
    assert table[0].all() and table[1].tolist() == [False, True, True, True, False]


def test_all_labels_of_the_shared_data_are_understood(shared_data):
    for name in ("breast", "busbra", "busi"):
        cases = [case for case in read_cases(shared_data / name) if gradable(case)]
        for case in cases:
            for output in ANSWERS:
                assert any(allowed(case, output))
        known = sum(not all(allowed(case, "solid")) for case in cases)
        assert known > len(cases) / 4


# -------------------------------------------------------------------------------------------------------- the loss


def test_marginal_likelihood_by_hand():
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.3, 0.4]]))
    sets = torch.tensor([[False, True, True, False]])
    assert float(marginal_nll(logits, sets)) == pytest.approx(-np.log(0.5))


@settings(max_examples=40)
@given(arrays(np.float32, (3, 5), elements=st.floats(-30, 30, width=32)), arrays(bool, (3, 5)))
def test_marginal_likelihood_of_an_open_label_teaches_nothing(values, sets):
    sets[:, 0] = True
    sets[0] = True
    logits = torch.tensor(values, requires_grad=True)
    nll = marginal_nll(logits, torch.tensor(sets))
    assert float(nll[0].detach()) == 0 and (nll > -1e-5).all()
    nll.sum().backward()
    assert torch.isfinite(logits.grad).all() and not logits.grad[0].any()


def test_more_precise_labels_cost_at_least_as_much():
    logits = torch.randn(6, 6)
    wide = torch.tensor([[False, False, True, True, True, False]] * 6)
    narrow = torch.tensor([[False, False, False, True, False, False]] * 6)
    assert (marginal_nll(logits, narrow) >= marginal_nll(logits, wide)).all()


def test_loss_weighs_outputs():
    answers = {"malignancy": torch.tensor([[0.0, 1.0]]), "shape": torch.tensor([[1.0, 0.0, 0.0]])}
    sets = {"malignancy": torch.tensor([[False, True]]), "shape": torch.tensor([[False, True, False]])}
    total, parts = grade_loss(answers, sets, {"shape": 0.5})
    assert float(total) == pytest.approx(float(parts["malignancy"] + 0.5 * parts["shape"]))


# ------------------------------------------------------------------------------------------------------- the figures


def test_f_beta_by_hand():
    truth, said = np.array([1, 1, 1, 0, 0], bool), np.array([1, 1, 0, 1, 0], bool)
    assert f_beta(said, truth) == pytest.approx(5 * 2 / (5 * 2 + 4 * 1 + 1))
    assert f_beta(said, truth, beta=1) == pytest.approx(4 / 6)


def test_calibration_error_by_hand():
    probability, truth = np.array([0.15, 0.15, 0.85, 0.85]), np.array([0, 1, 1, 1], bool)
    said, true, count = reliability(probability, truth.astype(float))
    assert (said[1], true[1], count[1]) == pytest.approx((0.15, 0.5, 2)) and count.sum() == 4
    assert calibration_error(probability, truth) == pytest.approx((2 * 0.35 + 2 * 0.15) / 4)
    assert calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0


def test_weights_count_as_repetition_does():
    probability, truth = np.array([0.2, 0.7, 0.9]), np.array([False, False, True])
    repeated = np.array([0, 1, 1, 2])
    assert calibration_error(probability, truth, np.array([1, 2, 1])) == pytest.approx(
        calibration_error(probability[repeated], truth[repeated])
    )


def test_kappa_and_nearness_by_hand():
    table = confusion(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0]), 3)
    assert exact(table) == 0.75 and within_one(table) == 0.75
    # Disagreement 4 observed, 1/4 (1 x 2 x ... ) expected: worked from Cohen's definition with an independent double sum.
    rows, columns = table.sum(1), table.sum(0)
    expected = sum((i - j) ** 2 * rows[i] * columns[j] / 4 for i in range(3) for j in range(3))
    assert quadratic_kappa(table) == pytest.approx(1 - 4 / expected)
    assert quadratic_kappa(np.diag([3.0, 2.0, 1.0])) == 1
    assert np.isnan(quadratic_kappa(np.diag([3.0, 0.0])))
    assert picture_title(np.diag([3.0, 0.0])) == "exact 1.00, within one 1.00, quadratic kappa -"
    assert picture_title(np.diag([3.0, 1.0])) == "exact 1.00, within one 1.00, quadratic kappa 1.00"


@given(arrays(np.float64, (5, 6), elements=st.floats(0.01, 1)))
def test_stated_category_is_the_median(values):
    chances = values / values.sum(1, keepdims=True)
    for row, place in zip(chances, stated_classes(chances), strict=True):
        assert row[:place].sum() < 0.5 + 1e-9 and row[: place + 1].sum() >= 0.5 - 1e-9
        if np.abs(row.cumsum() - 0.5).min() > 1e-9:  # exact ties fall as rounding has it
            assert stated_category(dict(zip(ANSWERS["birads"], row.tolist(), strict=True))) == ANSWERS["birads"][place]


def test_description_in_the_lexicons_words():
    sentences = description(
        {
            "shape": {"oval": 0.1, "round": 0.1, "irregular": 0.8},
            "margin": {"circumscribed": 0.3, "not circumscribed": 0.7},
            "spiculated": {"no": 0.4, "yes": 0.6},
            "posterior": {"none": 0.2, "shadowing": 0.8},
            "calcifications": {"no": 0.9, "yes": 0.1},
        },
        {"height_to_width_ratio": 1.2},
    )
    assert sentences == (
        "Predicted descriptors: irregular shape (80 %); not circumscribed margin (70 %), spiculated; posterior shadowing (80 %).",
        "Measured from the outline: not parallel orientation.",
    )
    assert description({}, {}) == ()


def test_what_is_as_high_as_wide_is_not_parallel_wherever_it_is_said():
    from BreastUSAILib.dicom_out import codes

    for ratio, word in ((0.99, "parallel"), (1.0, "not parallel"), (1.2, "not parallel")):
        measured = {"height_to_width_ratio": ratio}
        assert orientation(measured) == word and codes.descriptors(measured)[0][1].meaning.lower() == word
    assert orientation({"height_to_width_ratio": float("nan")}) is None


def test_a_measured_word_follows_the_outline():
    notes = ("Predicted descriptors: oval shape (80 %). Measured from the outline: parallel orientation.", "Seen twice.")
    now = measured_again(notes, {"height_to_width_ratio": 2.0})
    assert now == ("Predicted descriptors: oval shape (80 %). Measured from the outline: not parallel orientation.", "Seen twice.")
    assert measured_again(now, {}) == ("Predicted descriptors: oval shape (80 %).", "Seen twice.")
    assert measured_again(("Measured from the outline: parallel orientation.",), {}) == ()
