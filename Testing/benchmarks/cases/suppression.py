"""Non-maximum suppression of 3D boxes against MONAI's. Size: (boxes,)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from runner import Case, Contender

SIZES = ((1_000,), (10_000,), (100_000,))
QUICK = ((500,),)
OVERLAP = 0.1


def cases(size: tuple[int, ...], seed: int) -> Iterator[Case]:
    import torch
    from monai.data.box_utils import non_max_suppression

    from BreastUSAILib.suppression import suppress

    (number,) = size
    random = np.random.default_rng(seed)
    side = random.uniform(6, 40, (number, 3))
    # What a detector says: heaps of boxes about a few dozen places, and some anywhere.
    heaps = random.uniform(0, 400, (max(10, number // 50), 3))
    at = heaps[random.integers(0, len(heaps), number)] + random.normal(size=(number, 3)) * 4
    anywhere = random.uniform(size=number) < 0.2
    at[anywhere] = random.uniform(0, 400, (int(anywhere.sum()), 3))
    boxes = np.concatenate([at - side / 2, at + side / 2], axis=1).astype(np.float32)
    scores = random.uniform(size=number).astype(np.float32)
    tensors = torch.from_numpy(boxes), torch.from_numpy(scores)
    for most, goal in ((None, 7.0), (100, 35.0)):
        expected = non_max_suppression(*tensors, OVERLAP, most or -1).numpy()
        yield Case(
            f"NMS 3D, {number} boxes, {'all' if most is None else f'top {most}'}",
            Contender("ours", lambda most=most: suppress(boxes, scores, OVERLAP, most)),
            [Contender("MONAI", lambda most=most: non_max_suppression(*tensors, OVERLAP, most or -1).numpy())],
            lambda kept, expected=expected: float(np.array_equal(kept, expected)),
            "identical",
            {"MONAI": goal},
            bytes=28.0 * number,
        )
