"""Ducts that run to the nipple, and vessels: hypoechoic tubes without labels."""

from __future__ import annotations

import numpy as np

from .anatomy import Breast
from .tissue import Tissue


def add_tubes(rng: np.random.Generator, breast: Breast, tissue: Tissue) -> None:
    """Ducts from the nipple outwards through the gland's zone, and a few vessels anywhere in the breast."""
    z, y, x = tissue.axes
    mouth = np.array([breast.nipple[0], 3.0, breast.nipple[1]])
    wide = rng.random() < 0.2  # ectasia
    for _ in range(rng.poisson(rng.choice([2, 7, 12]))):
        angle = rng.uniform(0, 2 * np.pi)
        heading = np.array([np.sin(angle), rng.uniform(0.2, 0.7), np.cos(angle)])
        _tube(
            rng,
            tissue,
            breast,
            mouth,
            heading,
            rng.uniform(12, 45),
            rng.uniform(0.3, 0.8) * (1 + wide),
            rng.uniform(6, 14),
        )
    for _ in range(rng.poisson(rng.choice([1, 4]))):
        start = np.array([rng.uniform(0, z[-1]), rng.uniform(4, 0.6 * y[-1]), rng.uniform(0, x[-1])])
        heading = rng.normal(size=3) * (1, 0.35, 1)
        _tube(rng, tissue, breast, start, heading, rng.uniform(10, 40), rng.uniform(0.5, 1.2), rng.uniform(10, 20))


def _tube(rng, tissue: Tissue, breast: Breast, start, heading, length: float, radius: float, dark: float) -> None:
    """A winding tube of `radius` mm, `dark` dB below fat, stamped ball by ball on the coarse grid."""
    z, y, x = tissue.axes
    steps = np.array([z[1], y[1], x[1]])
    place, heading = start.astype(float), heading / np.linalg.norm(heading)
    reach = np.ceil((radius + 0.9) / steps).astype(int)
    for walked in np.arange(0, length, 0.7):
        heading = heading + rng.normal(size=3) * (0.09, 0.05, 0.09)
        heading /= np.linalg.norm(heading)
        place = place + 0.7 * heading
        mid = np.rint(place / steps).astype(int)
        if np.any(mid - reach < 0) or np.any(mid + reach + 1 > tissue.db.shape):
            continue
        if not breast.skin[mid[0], mid[2]] + 1 < place[1] < breast.pectoral[mid[0], mid[2]] - 1:
            break
        box = tuple(slice(m - r, m + r + 1) for m, r in zip(mid, reach, strict=True))
        dz, dy, dx = (a[b] - p for a, b, p in zip(tissue.axes, box, place, strict=True))
        far = np.sqrt(dz[:, None, None] ** 2 + dy[None, :, None] ** 2 + dx[None, None, :] ** 2)
        here = radius * (1 - 0.5 * walked / length)
        inside = np.clip((here + 0.35 - far) / 0.7, 0, 1)
        db = tissue.db[box]
        np.minimum(db, db + inside * (-dark - db), out=db)
