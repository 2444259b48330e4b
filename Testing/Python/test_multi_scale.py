"""A volume searched on several grids: one set of candidates, in the first grid's voxels, on any image."""

import numpy as np
import pytest
from test_detect import FINE, GRIDS, DarkCentres, model_of, scene

from BreastUSAILib.candidates import Candidates, Search
from BreastUSAILib.detect import DetectOptions, detect
from BreastUSAILib.multi_scale import merged, scaled
from BreastUSAILib.training import detection_choice
from BreastUSAILib.training.detection_data import TrainingVolume


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 6)


def candidates(*rows):
    """(box, score, malignancy) each."""
    values = [[row[k] for row in rows] for k in range(3)]
    return Candidates(boxes(*values[0]), *(np.array(v, np.float32) for v in values[1:]))


HERE, NEAR, FAR = (0, 0, 0, 10, 10, 10), (0, 0, 2, 10, 10, 12), (40, 40, 40, 50, 50, 50)


def test_the_mean_of_the_grids_counts():
    coarse = candidates((HERE, 0.9, 0.2), (FAR, 0.6, 0.7))
    fine = candidates((NEAR, 0.5, 0.6), ((0, 0, 5, 10, 10, 15), 0.4, 1.0))
    found = merged([coarse, fine], Search(suppression_iou=0.1))
    # HERE and NEAR overlap by 2/3: both have the mean of 0.9 and 0.5, and the mean box.
    assert found.scores.tolist() == pytest.approx([0.7, 0.3])
    shift = 0.5 * 2 / 1.4
    np.testing.assert_allclose(found.boxes, [[0, 0, shift, 10, 10, 10 + shift], FAR], rtol=1e-6)
    assert found.malignancy.tolist() == pytest.approx([(0.9 * 0.2 + 0.5 * 0.6) / 1.4, 0.7])


def test_one_grid_is_left_as_it_is_and_an_empty_one_halves():
    alone = candidates((HERE, 0.9, 0.2), (FAR, 0.6, 0.7))
    assert merged([alone], Search()) is alone
    halved = merged([alone, candidates()], Search())
    assert halved.scores.tolist() == pytest.approx([0.45, 0.3]) and halved.malignancy.tolist() == pytest.approx([0.2, 0.7])
    assert len(merged([candidates(), candidates()], Search()).scores) == 0


def test_grids_that_agree_change_nothing_but_duplicates():
    alone = candidates((FAR, 0.8, 0.7), (HERE, 0.3, 0.2))
    twice = merged([alone, alone], Search())
    for name in ("boxes", "scores", "malignancy"):
        np.testing.assert_allclose(getattr(twice, name), getattr(alone, name), rtol=1e-6)
    assert len(merged([alone, alone], Search(maximum=1)).scores) == 1


def test_boxes_are_taken_to_the_first_grid():
    found = scaled(candidates(((0, 5, 10, 20, 25, 30), 0.5, 0.5)), (0.8, 0.5, 1.0))
    assert found.boxes.tolist() == [[0, 2.5, 10, 16, 12.5, 30]]


@pytest.mark.parametrize("network_spacing", [(1.0, 1.0, 1.0), FINE])
@pytest.mark.parametrize("grid", GRIDS)
def test_lesions_are_found_where_they_are_on_two_grids(grid, network_spacing):
    """The second grid alone holds a lesion's box as well, so a mistake in taking it to the first would halve the score or move the box."""
    size, spacing, origin, direction = GRIDS[grid]
    share = np.array([0.35, 0.5, 0.6])
    image = scene(size, spacing, origin, direction, [(share, 6.0)])
    once, _ = detect(image, model_of(DarkCentres(network_spacing), network_spacing), DetectOptions(maximum=1))
    network = DarkCentres(network_spacing)
    told = []
    twice, _ = detect(
        image, model_of(network, network_spacing, scales=[1.0, 0.8]), DetectOptions(maximum=1), progress=lambda done, _: told.append(done)
    )
    assert len(network.seen) == 2 and np.prod(network.seen[1]) > 1.5 * np.prod(network.seen[0])
    assert told == sorted(told) and told[-1] == 1.0
    assert np.abs(np.subtract(once[0].box.center, twice[0].box.center)).max() < 4.5  # a cell and its neighbour
    assert twice[0].score > 0.7 * once[0].score


@pytest.mark.parametrize(("finer", "looks"), [(None, 4), (2, 2), (1, 1)])
def test_a_finer_grid_may_be_looked_at_less_often(finer, looks):
    image = scene(*GRIDS["isotropic"], [(np.array([0.35, 0.5, 0.6]), 6.0)])
    network = DarkCentres()
    settings = {} if finer is None else {"finer_mirrors": finer}
    found, _ = detect(image, model_of(network, mirrors=4, scales=[1.0, 0.8], **settings), DetectOptions(maximum=1))
    sizes = [np.prod(shape) for shape in network.seen]
    assert len(sizes) == 4 + looks and set(sizes[:4]) == {sizes[0]} and min(sizes[4:]) > 1.5 * sizes[0]
    assert len(found) == 1


def test_validation_takes_a_second_grid_where_it_helps(monkeypatch):
    """One lesion that the finer grid alone finds; the coarse one is surer of something else."""

    def volume(step):
        shape = tuple(round(40 / step) for _ in range(3))
        box = boxes((10, 10, 10, 20, 20, 20)) / np.float32(step)
        return TrainingVolume("a", np.zeros(shape, np.uint8), (step,) * 3, box, np.array([True]), np.array([1.0]), np.array([False]))

    coarse, fine = [volume(1.0)] * 4, [volume(0.8)] * 4
    monkeypatch.setattr(detection_choice, "see", lambda volumes, network, search, device, counts: {n: [v.spacing[0] for v in volumes] for n in counts})

    def found(volumes, seen, search):
        sure = {1.0: candidates(((30, 30, 30, 38, 38, 38), 0.9, 0.5)), 0.8: candidates(((12.5, 12.5, 12.5, 25, 25, 25), 0.95, 0.5))}
        return [sure[step] for step in seen]

    monkeypatch.setattr(detection_choice, "candidates_of", found)
    alone, _ = detection_choice.choose(coarse, None, Search(), "cpu")
    assert alone["scales"] == [1.0]
    choice, tried = detection_choice.choose(coarse, None, Search(), "cpu", finer={0.8: fine})
    assert choice["scales"] == [1.0, 0.8] and tried["figures"]["sensitivity_at_1_fp"] == 1.0
    assert tried["figures"]["mean_iou"] == pytest.approx(1.0, abs=1e-6)  # in mm, on the first grid
    assert tried["tried"][-1]["scales"] == [1.0, 0.8]
    assert choice["threshold"] == pytest.approx(0.45 / 2)  # the means are 0.475 and 0.45, and one false positive a volume is allowed
    same, _ = detection_choice.choose(fine, None, Search(), "cpu", finer={0.8: fine})
    assert same["scales"] == [1.0]  # nothing gained


@pytest.mark.parametrize(("needed", "off", "chosen"), [(2, 0.0, 2), (2, 0.1, 2), (2, 1.0, 4), (4, 0.0, 4), (8, 0.0, None)])
def test_validation_takes_half_the_looks_at_a_second_grid_where_they_do(needed, off, chosen, monkeypatch):
    """Four looks at the first grid, and a lesion that the second finds with so many, with two of them in a box that lies so many mm beside it."""
    step, box = 0.8, (10, 10, 10, 20, 20, 20)
    volumes = {
        s: [TrainingVolume("a", np.zeros((round(40 / s),) * 3, np.uint8), (s,) * 3, boxes(box) / np.float32(s), np.array([True]), np.array([1.0]), np.array([False]))] * 4
        for s in (1.0, step)
    }
    asked = []

    def see(volumes, network, search, device, counts):
        asked.append((volumes[0].spacing[0], tuple(counts)))
        return {n: [(v.spacing[0], n) for v in volumes] for n in counts}

    def found(volumes, seen, search):
        other = candidates(((30, 30, 30, 38, 38, 38), 0.9, 0.5))
        lesion = candidates((tuple(b / step for b in box), 0.95, 0.5))
        # On the first grid four looks find it in half of the volumes, so that there are four.
        first = [candidates((box, 0.95, 0.5)) if n == 4 and number < 2 else other for number, (_, n) in enumerate(seen)]
        beside = candidates((tuple((b + (off if k in (2, 5) else 0)) / step for k, b in enumerate(box)), 0.95, 0.5))
        second = {n: candidates() if n < needed else beside if n < 4 else lesion for n in (2, 4)}
        return [second[n] if s == step else f for f, (s, n) in zip(first, seen, strict=True)]

    monkeypatch.setattr(detection_choice, "see", see)
    monkeypatch.setattr(detection_choice, "candidates_of", found)
    choice, tried = detection_choice.choose(volumes[1.0], None, Search(), "cpu", finer={step: volumes[step]})
    assert asked == [(1.0, (1, 4)), (step, (2, 4))]  # each number of looks is part of the most: nothing is seen twice
    assert choice["mirrors"] == 4 and choice["finer_mirrors"] == chosen and (choice["scales"] == [1.0, step]) == (chosen is not None)
    assert [row["finer_mirrors"] for row in tried["tried"][-2:]] == [2, 4]

