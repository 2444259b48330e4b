"""What lesions are: published odds, the exact posterior, categories, requests."""

import itertools

import numpy as np
import pytest

from BreastUSAILib.errors import BreastUSAIError, PhantomError
from BreastUSAILib.phantom.ideal import best_auc, lexicon_auc
from BreastUSAILib.phantom.lexicon import (
    FIELDS,
    LesionSpec,
    category,
    draw_lesion,
    joint_table,
    posterior,
    volume_density,
    volume_quantile,
)
from BreastUSAILib.phantom.lexicon_tables import ONLY_WITH, PUBLISHED_MALIGNANT, PUBLISHED_TOTAL, SHARES
from BreastUSAILib.phantom.spec import DESCRIPTORS, MAXIMUM_ML, MINIMUM_ML, LesionRequest
from BreastUSAILib.phantom.truth import CATEGORIES, Descriptors

PREVALENCE = PUBLISHED_MALIGNANT / PUBLISHED_TOTAL
EDGES = {"3": (0, 0.02), "4A": (0.02, 0.10), "4B": (0.10, 0.50), "4C": (0.50, 0.95), "5": (0.95, 1.0)}


def share(malignant, **wanted):
    """P(these descriptors | malignancy), added up over the joint table."""
    index = tuple(
        slice(None) if f not in wanted else slice(k := DESCRIPTORS[f].index(wanted[f]), k + 1) for f in FIELDS
    )
    return float(joint_table(malignant)[index].sum())


def odds_of_malignancy(**wanted):
    malignant, benign = PREVALENCE * share(True, **wanted), (1 - PREVALENCE) * share(False, **wanted)
    return malignant / (malignant + benign)


@pytest.fixture(scope="module")
def many():
    generator = np.random.default_rng(5)
    return [draw_lesion(generator) for _ in range(6000)]


@pytest.mark.parametrize(
    "field, value, malignant, total",
    [
        ("margin", "spiculated", 19, 22),
        ("shape", "irregular", 102, 164),
        ("orientation", "not parallel", 75, 109),
        ("margin", "circumscribed", 178 - 160, 178),
        ("shape", "oval", 237 - 200, 237),
        ("orientation", "parallel", 294 - 228, 294),
    ],
)
def test_the_joint_table_has_the_odds_of_hong_2005(field, value, malignant, total):
    assert odds_of_malignancy(**{field: value}) == pytest.approx(malignant / total, abs=1e-6)


@pytest.mark.parametrize("malignant", [False, True])
def test_every_share_of_the_tables_holds_in_the_joint_table(malignant):
    assert joint_table(malignant).sum() == pytest.approx(1, abs=1e-9)
    for field, values in SHARES.items():
        assert tuple(values) == DESCRIPTORS[field]
        total = sum(v[malignant] for v in values.values())
        for value, weights in values.items():
            assert share(malignant, **{field: value}) == pytest.approx(weights[malignant] / total, abs=1e-8)


@pytest.mark.parametrize("malignant", [False, True])
def test_what_the_lexicon_excludes_has_no_probability(malignant):
    for field, value, other, allowed in ONLY_WITH:
        for excluded in set(DESCRIPTORS[other]) - set(allowed):
            assert share(malignant, **{field: value, other: excluded}) == 0


def test_what_belongs_together_comes_together():
    for malignant in (False, True):
        def given(field, value, _malignant=malignant, **condition):
            return share(_malignant, **{field: value}, **condition) / share(_malignant, **condition)

        assert given("shape", "irregular", margin="spiculated") > 0.6 > 0.5 * given("shape", "irregular")
        assert given("halo", "present", margin="spiculated") > given("halo", "present")
        assert given("posterior_features", "shadowing", margin="spiculated") > given("posterior_features", "shadowing")
    assert share(True, echo_pattern="anechoic") == 0
    assert odds_of_malignancy(halo="present") > 0.7 and odds_of_malignancy(posterior_features="shadowing") > 0.5


@pytest.mark.parametrize("prior", [0.05, 0.35, 0.9])
def test_the_posterior_is_bayes_rule_spelled_out(prior):
    generator = np.random.default_rng(8)
    for _ in range(40):
        lesion = draw_lesion(generator, prior)
        joint = {}
        for malignant in (False, True):
            density = volume_density(lesion.volume_ml, malignant)
            given = share(malignant, **{f: getattr(lesion.descriptors, f) for f in FIELDS})
            joint[malignant] = (prior if malignant else 1 - prior) * given * density
        assert lesion.posterior == pytest.approx(joint[True] / sum(joint.values()), abs=1e-8)
        assert lesion.category == category(lesion.posterior)


def test_posteriors_are_calibrated_within_every_category(many):
    truth = np.array([lesion.malignant for lesion in many], float)
    probability = np.array([lesion.posterior for lesion in many])
    for name in CATEGORIES:
        here = np.array([lesion.category == name for lesion in many])
        expected, found = probability[here].mean(), truth[here].mean()
        error = np.sqrt((probability[here] * (1 - probability[here])).sum()) / here.sum()
        assert EDGES[name][0] <= expected <= EDGES[name][1]
        assert abs(found - expected) < 4 * error + 1e-9, name


def test_shares_of_a_seeded_draw_are_those_asked_for(many):
    malignant = np.array([lesion.malignant for lesion in many])
    assert malignant.mean() == pytest.approx(0.35, abs=4 * np.sqrt(0.35 * 0.65 / len(many)))
    for field, value in itertools.chain.from_iterable(((f, v) for v in DESCRIPTORS[f]) for f in FIELDS):
        found = np.array([getattr(lesion.descriptors, field) == value for lesion in many])
        for kind in (False, True):
            p, n = share(kind, **{field: value}), (malignant == kind).sum()
            assert abs(found[malignant == kind].mean() - p) <= 4.5 * np.sqrt(p * (1 - p) / n) + 1e-9, (field, value, kind)
    for name in CATEGORIES:
        assert np.mean([lesion.category == name for lesion in many]) > 0.06, name


def test_volumes(many):
    volumes = np.array([lesion.volume_ml for lesion in many])
    malignant = np.array([lesion.malignant for lesion in many])
    assert volumes.min() >= MINIMUM_ML and volumes.max() <= MAXIMUM_ML
    assert 0.7 < np.median(volumes) < 0.95
    assert np.median(volumes[malignant]) > np.median(volumes[~malignant])
    for kind in (False, True):  # the density is that of what is drawn: its integral is the share below a volume
        line = np.linspace(np.log(MINIMUM_ML), np.log(MAXIMUM_ML), 20001)
        density = np.array([volume_density(float(np.clip(np.exp(t), MINIMUM_ML, MAXIMUM_ML)), kind) for t in line[::10]])
        area = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2 * 10 * (line[1] - line[0]))])
        assert area[-1] == pytest.approx(1, abs=1e-5)
        for fraction in (0.05, 0.5, 0.95):
            at = np.interp(np.log(volume_quantile(fraction, kind)), line[::10], area)
            assert at == pytest.approx(fraction, abs=1e-3)
    assert volume_density(0.02, True) == 0 == volume_density(19.0, False)


@pytest.mark.parametrize(
    "probability, expected",
    [(0, "3"), (0.02, "3"), (0.0201, "4A"), (0.1, "4A"), (0.1001, "4B"), (0.5, "4B"), (0.5001, "4C"), (0.9499, "4C"), (0.95, "5"), (1, "5")],
)
def test_category_edges(probability, expected):
    assert category(probability) == expected


def test_the_best_auc(many):
    from scipy.stats import mannwhitneyu

    drawn, expected = best_auc(many)
    truth = np.array([lesion.malignant for lesion in many])
    scores = np.array([lesion.posterior for lesion in many])
    assert drawn == pytest.approx(mannwhitneyu(scores[truth], scores[~truth]).statistic / truth.sum() / (~truth).sum())
    assert drawn == pytest.approx(lexicon_auc(), abs=0.015) and expected == pytest.approx(lexicon_auc(), abs=0.01)
    assert 0.85 < lexicon_auc() < 0.95
    # Size alone says little, and something.
    assert 0.55 < lexicon_auc(descriptors=False) < 0.70
    volumes = np.array([lesion.volume_ml for lesion in many])
    alone = mannwhitneyu(volumes[truth], volumes[~truth]).statistic / truth.sum() / (~truth).sum()
    assert alone == pytest.approx(lexicon_auc(descriptors=False), abs=0.03)


def test_the_expected_auc_is_the_mean_over_draws_of_malignancy():
    lesion = draw_lesion(np.random.default_rng(1))
    p = np.array([0.1, 0.4, 0.4, 0.8])
    truths = [LesionSpec(bool(k % 2), lesion.descriptors, 1.0, q, "4B") for k, q in enumerate(p)]
    above = total = 0.0
    for i, j in itertools.permutations(range(4), 2):  # i malignant, j benign
        total += p[i] * (1 - p[j])
        above += p[i] * (1 - p[j]) * (1.0 if p[i] > p[j] else 0.5 if p[i] == p[j] else 0.0)
    assert best_auc(truths)[1] == pytest.approx(above / total)
    with pytest.raises(PhantomError, match="benign and malignant"):
        best_auc(truths[:1])


def test_requests_are_honoured_by_conditioning():
    generator = np.random.default_rng(3)
    request = LesionRequest(volume_ml=2.5, descriptors={"margin": "spiculated", "halo": "present"})
    lesions = [draw_lesion(generator, 0.35, request) for _ in range(1500)]
    assert {(s.descriptors.margin, s.descriptors.halo, s.volume_ml) for s in lesions} == {("spiculated", "present", 2.5)}
    m, b = (
        w * share(k, margin="spiculated", halo="present") * volume_density(2.5, k) for k, w in ((True, 0.35), (False, 0.65))
    )
    assert np.mean([s.malignant for s in lesions]) == pytest.approx(m / (m + b), abs=4 * 0.5 / np.sqrt(1500))
    assert np.mean([s.posterior for s in lesions]) == pytest.approx(m / (m + b), abs=0.02)
    benign = [draw_lesion(generator, 0.35, LesionRequest(malignant=False)) for _ in range(50)]
    assert not any(s.malignant for s in benign)
    assert all(s.posterior == posterior(s.descriptors, s.volume_ml, 0.35) for s in benign)


def test_a_draw_takes_three_numbers_whatever_is_asked_for():
    after = []
    for request in (None, LesionRequest(volume_ml=1.0), LesionRequest(malignant=True, descriptors={"shape": "oval"})):
        generator = np.random.default_rng(4)
        draw_lesion(generator, 0.35, request)
        after.append(generator.random())
    assert len(set(after)) == 1


def test_the_shares_at_the_ends():
    generator = np.random.default_rng(2)
    assert not any(draw_lesion(generator, 0.0).malignant for _ in range(30))
    certain = [draw_lesion(generator, 1.0) for _ in range(30)]
    assert all(s.malignant and s.posterior == 1 and s.category == "5" for s in certain)


@pytest.mark.parametrize(
    "descriptors, malignant, prior, words",
    [
        ({"shape": "irregular", "margin": "circumscribed"}, None, 0.35, "irregular.*circumscribed.*exclude"),
        ({"shape": "round", "orientation": "parallel"}, None, 0.35, "round.*parallel"),
        ({"echo_pattern": "anechoic"}, True, 0.35, "no malignant lesion is echo_pattern anechoic"),
        ({"echo_pattern": "anechoic"}, None, 1.0, "malignant_share is 1"),
        ({}, True, 0.0, "malignant_share is 0"),
        ({}, None, 1.5, "between 0 and 1"),
        ({}, None, float("nan"), "between 0 and 1"),
    ],
)
def test_what_no_lesion_can_be_is_one_clear_sentence(descriptors, malignant, prior, words):
    with pytest.raises(PhantomError, match=words) as caught:
        draw_lesion(np.random.default_rng(0), prior, LesionRequest(malignant=malignant, descriptors=descriptors))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [{"descriptors": {"shape": "square"}}, {"descriptors": {"form": "oval"}}, {"volume_ml": 0.01}, {"volume_ml": 20.0}]
)
def test_unknown_words_and_sizes_are_refused_when_they_are_asked_for(wrong):
    with pytest.raises(BreastUSAIError):
        LesionRequest(**wrong)


def test_the_same_seed_gives_the_same_lesion():
    first, second = (draw_lesion(np.random.default_rng(77)) for _ in range(2))
    assert first == second and isinstance(first.descriptors, Descriptors)
