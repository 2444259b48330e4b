"""Echo patterns in the breast: relative to subcutaneous fat, as the lexicon has them, whatever lies around the mass."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from BreastUSAILib.phantom import PhantomSpec, generate
from BreastUSAILib.phantom.interiors import amplitude
from BreastUSAILib.phantom.lesion import build_lesion
from BreastUSAILib.phantom.lexicon import LesionSpec
from BreastUSAILib.phantom.scene import absolute_echo, contrast_db
from BreastUSAILib.phantom.spec import LesionRequest
from BreastUSAILib.phantom.tissue import GLAND
from BreastUSAILib.phantom.truth import Descriptors

PLAIN = Descriptors("oval", "parallel", "circumscribed", "hypoechoic", "none", "none", "absent")
SPACING = (0.384, 0.5, 0.425)
surroundings = st.floats(0.1, 5.0)


def build(seed=1, **descriptors):
    spec = LesionSpec(False, replace(PLAIN, **descriptors), 1.0, 0.0, "3")
    return build_lesion(spec, SPACING, np.random.default_rng(seed))


def db(echo):
    return 20 * np.log10(float(np.mean(echo)))


@given(surroundings, st.booleans())
def test_echo_grows_without_a_step(background, hyperechoic):
    echo = np.linspace(0.0, 4.0, 4001, dtype=np.float32)
    absolute = absolute_echo(echo, hyperechoic, background)
    steps = np.diff(absolute)
    assert absolute.dtype == np.float32 and absolute[0] == 0
    assert steps.min() >= 0 and steps.max() < 0.001 * 20 * max(background, 1.0)


@given(surroundings)
def test_dark_tissue_is_measured_against_fat_and_bright_tissue_against_the_surroundings(background):
    low, high = min(background, 1.0), max(background, 1.0)
    at = lambda db_, hyperechoic=False: float(  # noqa: E731
        absolute_echo(np.array([amplitude(db_)], np.float32), hyperechoic, background)[0]
    )
    for level in (-20.0, -6.0, 0.0, 4.0):
        assert at(level) == pytest.approx(amplitude(level) * low, rel=1e-5)
    for level in (5.0, 8.0):
        assert at(level) == pytest.approx(amplitude(level) * high, rel=1e-5)
    assert at(3.6, hyperechoic=True) == pytest.approx(amplitude(3.6) * high, rel=1e-5)


@pytest.mark.parametrize("background", [0.7, 1.0, 1.6, GLAND.echo])
def test_echo_patterns_against_fat_whatever_is_around(background):
    for seed in range(6):
        levels = {}
        for pattern in ("hypoechoic", "isoechoic", "hyperechoic", "anechoic"):
            patch = build(seed, echo_pattern=pattern)
            levels[pattern] = db(absolute_echo(patch.echo[patch.mask], patch.hyperechoic, background))
        fat = db(min(background, 1.0))
        assert levels["anechoic"] < fat - 15 and levels["hypoechoic"] < fat - 2.5
        assert abs(levels["isoechoic"] - fat) < 2.5
        assert levels["hyperechoic"] > max(db(background), 0.0) + 2.5


@pytest.mark.parametrize("background", [1.0, GLAND.echo])
def test_halos_are_brighter_than_what_they_lie_in(background):
    patch = build(3, margin="indistinct", halo="present")
    rim = ~patch.mask & (patch.weight > 0.4) & (patch.echo > amplitude(5.0))
    assert np.count_nonzero(rim) > 30
    assert db(absolute_echo(patch.echo[rim], patch.hyperechoic, background)) > db(background) + 4.5


def test_the_contrast_that_is_recorded_is_that_to_the_surroundings():
    patch = build()
    in_fat, in_gland = (contrast_db(patch, echo) for echo in (1.0, GLAND.echo))
    assert -12 < in_fat < -3
    weight, own = patch.weight[patch.mask], patch.echo[patch.mask]
    assert in_gland == pytest.approx(db((1 - weight) + weight * own / GLAND.echo), abs=0.01)
    assert in_gland < in_fat - 6


def test_hypoechoic_masses_of_dense_breasts_are_far_darker_than_their_surroundings():
    """By the gland's 10 dB above fat, as far as gland is around them, and by their own contrast to fat."""
    request = LesionRequest(descriptors={"echo_pattern": "hypoechoic", "posterior_features": "none"}, volume_ml=1.5)
    spec = PhantomSpec(grid="cube", density="d", lesions=(request,))
    contrasts = [generate(seed, spec).lesions[0].contrast_db for seed in range(4)]
    assert np.mean(contrasts) < -9 and max(contrasts) < -4
