"""BI-RADS descriptors learnt beside malignancy (`training.descriptor_heads`)."""

import math

import pytest
import torch

from BreastUSAILib import cli
from BreastUSAILib.errors import UsageError
from BreastUSAILib.networks.lesion_classifier import LesionClassifier
from BreastUSAILib.phantom.spec import DESCRIPTORS
from BreastUSAILib.training import lesion_classifier
from BreastUSAILib.training.descriptor_heads import UNKNOWN, WithDescriptors, codes, descriptor_loss

SMALL = {"stem_channels": 4, "stem_stride": 1, "channels": (4, 6), "strides": (2, 2), "dropout": 0.0}
KNOWN = {name: words[-1] for name, words in DESCRIPTORS.items()}


def test_codes_are_places_among_the_lexicons_words():
    assert codes(KNOWN) == tuple(len(words) - 1 for words in DESCRIPTORS.values())
    assert codes({}) == (UNKNOWN,) * len(DESCRIPTORS)
    some = dict(zip(DESCRIPTORS, codes({"shape": DESCRIPTORS["shape"][1], "margin": "smudged", "category": "4A"}), strict=True))
    assert some.pop("shape") == 1 and set(some.values()) == {UNKNOWN}


def test_the_loss_is_that_worked_by_hand():
    """Two lesions, two descriptors: ln 2 where two words are as likely, ln(1 + e^-1) where the right one leads by one; the fourth is unknown."""
    logits = [torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.0], [5.0, 1.0, 2.0]])]
    told = torch.tensor([[1, 2], [0, UNKNOWN]])
    expected = (math.log(2) + math.log(1 + math.exp(-1)) + math.log(3)) / 2
    assert float(descriptor_loss(logits, told)) == pytest.approx(expected, rel=1e-6)


def test_lesions_whose_descriptors_nobody_knows_teach_the_heads_nothing():
    torch.manual_seed(0)
    network = WithDescriptors(LesionClassifier(**SMALL))
    answer, read = network(torch.randn(3, 1, 16, 16, 16), torch.randn(3, 3))
    assert answer.shape == (3,) and [part.shape[1] for part in read] == [len(words) for words in DESCRIPTORS.values()]
    loss = descriptor_loss(read, torch.full((3, len(DESCRIPTORS)), UNKNOWN))
    loss.backward()
    assert float(loss.detach()) == 0 and all(float(p.grad.abs().sum()) == 0 for p in network.parameters() if p.grad is not None)


def test_the_classifier_within_answers_as_it_does_alone():
    torch.manual_seed(0)
    alone = LesionClassifier(**SMALL)
    within = WithDescriptors(alone).eval()
    crops, sizes = torch.randn(2, 1, 16, 16, 16), torch.randn(2, 3)
    with torch.inference_mode():
        assert torch.equal(within(crops, sizes)[0], alone.eval()(crops, sizes))


@pytest.mark.parametrize(
    ("said", "weight"),
    [((), 0.1), (("--configuration", "paper"), 0.0), (("--descriptors", "0"), 0.0), (("--configuration", "paper", "--descriptors", "0.2"), 0.2)],
)
def test_the_paper_learns_malignancy_alone(said, weight):
    command = ["train", "lesion-classifier", "--data", "D", "--output", "M", *said]
    assert lesion_classifier.recipe_of(cli.build_parser(command).parse_args(command)).descriptors == weight


@pytest.mark.parametrize("weight", ["-1", "nan", "inf"])
def test_a_weight_that_is_none_is_refused(weight):
    command = ["train", "lesion-classifier", "--data", "D", "--output", "M", f"--descriptors={weight}"]
    with pytest.raises(UsageError, match="--descriptors is .*; give a finite number, 0 or more"):
        lesion_classifier.recipe_of(cli.build_parser(command).parse_args(command))
