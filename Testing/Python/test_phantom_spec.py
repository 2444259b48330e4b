"""What may be asked of a phantom, and which seeds belong to what."""

import json
import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from BreastUSAILib.errors import PhantomError
from BreastUSAILib.phantom import seeds
from BreastUSAILib.phantom.grids import GRIDS, PhantomGrid
from BreastUSAILib.phantom.spec import DESCRIPTORS, LesionRequest, PhantomSpec
from BreastUSAILib.phantom.truth import Descriptors


def test_every_descriptor_can_be_asked_for():
    assert list(DESCRIPTORS) == [f.name for f in fields(Descriptors)]
    for name, values in DESCRIPTORS.items():
        for value in values:
            assert LesionRequest(descriptors={name: value}).descriptors == {name: value}


@pytest.mark.parametrize("name", GRIDS)
def test_specifications_become_json_that_is_equal_for_equal_ones(name):
    spec = PhantomSpec(
        grid=name,
        lesions=[LesionRequest(True, np.float32(0.5), {"margin": "spiculated"}, (30, 14, 30))],
        density="c",
        acquisition={"gain_db": 2},
    )
    assert json.loads(json.dumps(spec.to_dict())) == spec.to_dict()
    assert spec.sampling is GRIDS[name] and isinstance(spec.lesions, tuple)
    by_hand = PhantomSpec(grid=GRIDS[name]).to_dict()
    assert {**PhantomSpec(grid=name).to_dict(), "grid": None} == by_hand


def test_a_checked_specification_cannot_be_changed_from_outside():
    wanted = {"margin": "spiculated"}
    request = LesionRequest(descriptors=wanted)
    wanted["margin"] = "nonsense"
    assert request.descriptors == {"margin": "spiculated"}


def test_numpy_numbers_are_numbers():
    grid = PhantomGrid(tuple(np.array([64, 32, 64])), tuple(np.array([0.5, 0.5, 0.5], np.float32)))
    assert grid == PhantomGrid((64, 32, 64), (0.5, 0.5, 0.5)) and type(grid.size[0]) is int
    assert PhantomSpec(lesions=np.int64(2)).lesions == 2
    assert grid.extent == (32, 16, 32) and grid.shape == (32, 64, 64)


GRID_ERRORS = [
    (((0, 32, 32), (0.5, 0.5, 0.5)), "0 x 32 x 32 voxels cannot be made; it must have 16 to 2048 along each axis"),
    (((-64, 32, 32), (0.5, 0.5, 0.5)), "16 to 2048"),
    (((2048, 2048, 2048), (0.1, 0.1, 0.1)), "no more than 268 million in all"),
    (((10**30, 32, 32), (0.5, 0.5, 0.5)), "16 to 2048"),
    (((64.5, 32, 32), (0.5, 0.5, 0.5)), "give three whole numbers of voxels"),
    (((64, 32), (0.5, 0.5)), "give three whole numbers"),
    ((64, 0.5), "give three whole numbers"),
    ((("a", "b", "c"), (1, 1, 1)), "give three whole numbers"),
    (((64, 32, 32), (0.5, 0, 0.5)), "spacing is 0.5 x 0 x 0.5 mm; it must be from 0.02 to 2 mm"),
    (((64, 32, 32), (0.5, math.nan, 0.5)), "from 0.02 to 2 mm"),
    (((64, 32, 32), (0.5, math.inf, 0.5)), "from 0.02 to 2 mm"),
    (((16, 16, 16), (0.1, 0.1, 0.1)), "1.6 x 1.6 x 1.6 mm cannot be made; it must measure 8 to 250 mm"),
    (((512, 512, 64), (0.5, 0.5, 0.5)), "from 0 to 256 mm|8 to 250 mm"),
    (((64, 200, 64), (0.5, 0.5, 0.5)), "from 0 to 100 mm below the skin cannot be made; it must lie between 0 and 80 mm"),
    (((64, 64, 64), (0.5, 0.5, 0.5), 60, False), "from 60 to 92 mm below the skin"),
    (((64, 64, 64), (0.5, 0.5, 0.5), -1, False), "between 0 and 80 mm"),
    (((64, 64, 64), (0.5, 0.5, 0.5), math.nan, False), "give three whole numbers"),
    (((64, 64, 64), (0.5, 0.5, 0.5), 3), "begins at the skin"),
]


@pytest.mark.parametrize(("values", "message"), GRID_ERRORS)
def test_impossible_grids(values, message):
    with pytest.raises(PhantomError, match=message):
        PhantomGrid(*values)


SPEC_ERRORS = [
    ({"grid": "huge"}, "no grid 'huge'; choose one of: full, siemens, half, cube"),
    ({"grid": None}, "no grid None"),
    ({"density": "e"}, "density is 'e'; it must be one of: a, b, c, d"),
    ({"density": 1}, "density is 1"),
    ({"malignant_share": 1.2}, "share is 1.2; it must be from 0 to 1"),
    ({"malignant_share": -0.1}, "from 0 to 1"),
    ({"malignant_share": math.nan}, "share is nan; it must be a finite number"),
    ({"malignant_share": "half"}, "a finite number"),
    ({"malignant_share": "0.5"}, "a finite number"),
    ({"lesions": -1}, "number of lesions is -1; it must be from 0 to 8"),
    ({"lesions": 9}, "number of lesions is 9"),
    ({"lesions": 1.5}, "number of lesions is 1.5; it must be a whole number"),
    ({"lesions": "two"}, "must be a whole number"),
    ({"lesions": (1, 2)}, "lesions holds 1; it must be a number or LesionRequests"),
    ({"lesions": (LesionRequest(),) * 9}, "from 0 to 8"),
    ({"acquisition": {"colour": 1}}, "'colour' is no setting of the acquisition; there are: frequency_mhz,"),
    ({"acquisition": {"gain_db": "loud"}}, "gain_db is 'loud'; it must be a finite number"),
    ({"acquisition": {"frequency_mhz": 100}}, "frequency_mhz is 100; it must be a number from 4 to 20"),
    ({"acquisition": 3}, "must be a mapping"),
]


@pytest.mark.parametrize(("settings", "message"), SPEC_ERRORS)
def test_impossible_specifications(settings, message):
    with pytest.raises(PhantomError, match=message):
        PhantomSpec(**settings)


REQUEST_ERRORS = [
    ({"malignant": "yes"}, "must be True, False or None"),
    ({"volume_ml": 0.025}, "volume_ml is 0.025; it must be from 0.026 to 18 cm3"),
    ({"volume_ml": 18.1}, "from 0.026 to 18 cm3"),
    ({"volume_ml": -1}, "from 0.026 to 18 cm3"),
    ({"volume_ml": math.inf}, "a finite number"),
    ({"volume_ml": "big"}, "a finite number"),
    ({"descriptors": {"colour": "red"}}, "'colour' is no descriptor of a lesion; there are: shape, orientation, margin"),
    ({"descriptors": {"shape": "square"}}, "shape is 'square'; it must be one of: oval, round, irregular"),
    ({"descriptors": ("oval",)}, "must be a mapping"),
    ({"centre": (1, 2)}, "must be three numbers"),
    ({"centre": "abc"}, "must be three numbers"),
    ({"centre": (1, 2, math.nan)}, "a finite number"),
]


@pytest.mark.parametrize(("settings", "message"), REQUEST_ERRORS)
def test_impossible_lesions(settings, message):
    with pytest.raises(PhantomError, match=message):
        LesionRequest(**settings)


def test_a_lesion_that_cannot_fit():
    with pytest.raises(PhantomError, match="of 18 cm3 cannot fit around 10 x 20 x 20 mm in a volume of 64 x 32 x 64 mm"):
        PhantomSpec("cube", (LesionRequest(volume_ml=18, centre=(10, 20, 20)),))
    with pytest.raises(PhantomError, match="centre is 70 x 20 x 20 mm; it must lie inside the volume"):
        PhantomSpec("cube", (LesionRequest(centre=(70, 20, 20)),))
    small = PhantomGrid((32, 32, 32), (0.5, 0.5, 0.5), whole=False)
    with pytest.raises(PhantomError, match="of 5 cm3 cannot fit in a volume of 16 x 16 x 16 mm; ask for one below 2.1 cm3"):
        PhantomSpec(small, (LesionRequest(volume_ml=5),))
    assert PhantomSpec(small, (LesionRequest(volume_ml=2),)).sampling is small
    for name in ("full", "siemens", "half"):
        PhantomSpec(name, (LesionRequest(volume_ml=18),))


@given(
    st.builds(
        lambda size, spacing, lesion: (size, spacing, lesion),
        st.tuples(*[st.one_of(st.integers(-5, 3000), st.floats())] * 3),
        st.tuples(*[st.floats()] * 3),
        st.fixed_dictionaries({"volume_ml": st.floats(), "centre": st.tuples(*[st.floats()] * 3)}),
    )
)
def test_whatever_is_asked_for_is_taken_or_told_in_a_sentence(asked):
    size, spacing, lesion = asked
    try:
        spec = PhantomSpec(PhantomGrid(size, spacing, whole=False), (LesionRequest(**lesion),))
    except PhantomError as error:
        assert str(error).endswith(".") and "\n" not in str(error)
    else:
        assert all(0 < c < e for c, e in zip(spec.lesions[0].centre, spec.sampling.extent, strict=True))


# ------------------------------------------------------------------------------------------------------------- seeds


def test_the_documented_seeds():
    assert seeds.volume_seed("train") == 0 and seeds.volume_seed("train", 1, 3) == 100_003
    assert seeds.volume_seed("validation") == 1_000_000_000 and seeds.volume_seed("test") == 2_000_000_000
    assert seeds.volume_seed("test", 9_999, 99_999) == 2_999_999_999
    assert seeds.split_of(3_000_000_000) is None


block, index = st.integers(0, seeds.BLOCKS - 1), st.integers(0, seeds.BLOCK - 1)
place = st.tuples(st.sampled_from(seeds.SPLITS), block, index)


@given(place, place)
def test_no_volume_belongs_to_two(one, other):
    first, second = seeds.volume_seed(*one), seeds.volume_seed(*other)
    assert (first == second) == (one == other)
    assert seeds.split_of(first) == one[0] and 0 <= first < seeds.LIMIT


@given(st.integers(0, seeds.LIMIT - 1), st.integers(0, 2**20), st.integers(0, seeds.LIMIT - 1), st.integers(0, 2**20))
def test_no_two_volumes_draw_the_same_numbers(seed, stream, other_seed, other_stream):
    """Below 2**32 what SeedSequence mixes differs where seed or stream do."""

    def state(*words):
        return tuple(np.random.SeedSequence(list(words)).generate_state(4))

    assert (state(seed, stream) == state(other_seed, other_stream)) == ((seed, stream) == (other_seed, other_stream))


def test_above_the_limit_seeds_are_others_again():
    """Why there is a limit: numpy takes a larger seed apart into words and pads with zeros."""
    same = [np.random.SeedSequence(words).generate_state(4).tolist() for words in ([7 + (5 << 32), 0], [7, 5])]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("training",), "no split 'training'; choose one of: train, validation, test"),
        (("train", -1), "seed is -1; it must be from 0 to 9999"),
        (("train", 10_000), "seed is 10000"),
        (("train", 0, 100_000), "beyond what a seed holds"),
    ],
)
def test_seeds_that_are_none(arguments, message):
    with pytest.raises(PhantomError, match=message):
        seeds.volume_seed(*arguments)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "1", None])
def test_volume_seeds_that_are_none(seed):
    with pytest.raises(PhantomError, match="A volume's seed is"):
        seeds.check_seed(seed)
