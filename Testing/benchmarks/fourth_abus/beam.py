"""The beam's way down: attenuation adds up, shadows soften, and the gain makes up for the mean."""

from __future__ import annotations

import numpy as np

from .scanner import Scanner


def losses(alpha: np.ndarray, contact_db: np.ndarray, scanner: Scanner, dy_mm: float) -> np.ndarray:
    """Two-way loss in dB on the way to each voxel, (z, y, x) as `alpha` (dB/cm/MHz).

    Step by step, as sound goes: each step's loss comes on top of what was lost so far, and neighbours share a little of it, as the beams of an aperture
    cross. So shadows soften with the distance from what throws them.
    """
    steps = alpha * np.float32(2 * scanner.mhz * dy_mm / 10)
    lost = contact_db.astype(np.float32)
    s = np.float32(scanner.spread)
    for row in range(alpha.shape[1]):
        here = lost + 0.5 * steps[:, row]
        lost = here + 0.5 * steps[:, row]
        steps[:, row] = here
        lost[:, 1:-1] += s * (lost[:, 2:] - 2 * lost[:, 1:-1] + lost[:, :-2])
        lost[1:-1] += (0.3 * s) * (lost[2:] - 2 * lost[1:-1] + lost[:-2])
    return steps


def time_gain(lost: np.ndarray, contact_db: np.ndarray, scanner: Scanner) -> np.ndarray:
    """Gain in dB by depth, (y,): the scanner's share of the mean loss where there is contact, smoothed, and its error."""
    fine = contact_db < 3
    mean = lost.transpose(1, 0, 2)[:, fine].mean(1) if fine.sum() > 50 else lost.mean((0, 2))
    places = np.linspace(-1, 1, len(mean))
    typical = np.minimum(mean, 1.15 * np.median(mean) * (1 + places))  # bone and lung are not made up for
    return np.polynomial.Polynomial.fit(places, typical, 3)(places) * scanner.tgc + scanner.tgc_error_db


def noise_level(gain_db: np.ndarray, scanner: Scanner) -> np.ndarray:
    """Electronic noise in the picture against fat, dB by depth, (y,)."""
    return np.minimum(scanner.noise_db + gain_db, scanner.noise_top_db)


def heard(lost: np.ndarray, gain_db: np.ndarray, scanner: Scanner) -> np.ndarray:
    """Gain less losses, dB, (z, y, x), where stray sound and crossing beams fill the deepest shadows."""
    level = gain_db.astype(np.float32)[None, :, None] - lost
    below = np.minimum(level, 0)
    level -= below
    level += below / (1 - below * np.float32(1 / scanner.fill_db))
    return level
