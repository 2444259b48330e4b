"""What the two Chan-Vese cases share: the peers, and the case of a scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from runner import Case, Contender
from scenes import Scene, lesion

ITERATIONS = 50


def outline_case(size: tuple[int, ...], seed: int, shadowed: bool, goals: dict[str, float]) -> Case:
    """Ours: with the published energy where two means are enough, as shipped (local means, the network's map) under shadow."""
    from BreastUSAILib.blas import one_thread
    from BreastUSAILib.chan_vese import ChanVeseParameters, refine
    from BreastUSAILib.evaluation.metrics import dice
    from BreastUSAILib.refinement_3d import VOLUME

    scene = lesion(size, seed, shadowed=shadowed)
    if shadowed:
        parameters = VOLUME if len(size) == 3 else ChanVeseParameters()
    else:
        parameters = replace(ChanVeseParameters.paper(), smoothing=ChanVeseParameters.smoothing, settled=0.001)
    probability = scene.probability if shadowed else None

    def ours() -> np.ndarray:
        with one_thread():  # as `segment` and `refinement_3d` call it
            return refine(scene.image, scene.start, (1.0,) * len(size), parameters, probability).mask

    kind = "shadowed" if shadowed else "plain"
    return Case(
        f"Chan-Vese {len(size)}D, {'x'.join(map(str, size))}, {kind}",
        Contender("ours", ours),
        peers(scene),
        lambda mask: dice(mask, scene.truth),
        "Dice",
        goals,
        flops=_flops(scene, parameters, ours),
        bytes=float(scene.image.nbytes + 2 * scene.start.nbytes),
        note=f"the start has Dice {dice(scene.start, scene.truth):.4f}.",
    )


def peers(scene: Scene) -> Sequence[Contender]:
    import SimpleITK as sitk
    from scipy import ndimage
    from skimage.segmentation import chan_vese, morphological_chan_vese

    unit = scene.image / 255.0

    def signed() -> np.ndarray:
        return ndimage.distance_transform_edt(scene.start) - ndimage.distance_transform_edt(~scene.start)

    def turned(found: np.ndarray) -> np.ndarray:
        """They do not say which side is inside: the one that is more like the start."""
        return found if (found & scene.start).sum() >= (~found & scene.start).sum() else ~found

    def level_set() -> np.ndarray:
        return turned(chan_vese(unit, mu=0.25, max_num_iter=ITERATIONS, init_level_set=signed()))

    def morphological() -> np.ndarray:
        return morphological_chan_vese(unit, ITERATIONS, init_level_set=scene.start.astype(np.int8)).astype(bool)

    def dense() -> np.ndarray:
        initial = sitk.GetImageFromArray(-signed().astype(np.float32))
        feature = sitk.GetImageFromArray(scene.image.astype(np.float32))
        found = sitk.ScalarChanAndVeseDenseLevelSet(
            initial, feature, numberOfIterations=ITERATIONS, curvatureWeight=1.0, useImageSpacing=False
        )
        return turned(sitk.GetArrayFromImage(found) > 0)

    all_peers: list[tuple[str, Callable[[], np.ndarray]]] = [
        ("scikit-image morphological_chan_vese", morphological),
        ("SimpleITK dense", dense),
    ]
    if scene.image.ndim == 2:
        all_peers.insert(0, ("scikit-image chan_vese", level_set))
    return [Contender(name, run) for name, run in all_peers]


def _flops(scene: Scene, parameters, run: Callable) -> float:
    """Of the matrix products: 2 n a voxel and axis of n voxels. All steps counted as on the finest grid's eighth, but for the last few."""
    from BreastUSAILib.chan_vese import _region, refine

    sides = [part.stop - part.start for part in _region(scene.start, parameters.margin)]
    steps = refine(scene.image, scene.start, (1.0,) * len(sides), parameters).iterations
    # A third of the steps, about, are on the finest grid; a step on the next costs a sixteenth (3D) of one there.
    return 2.0 * np.prod(sides) * sum(sides) * steps / 3
