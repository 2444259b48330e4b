"""From backscatter to grey levels: complex speckle, point-spread function, noise, log compression."""

from __future__ import annotations

import numpy as np

from .scanner import Scanner

SLAB = 10  # slices at a time: what fits a processor's cache


def _kernel(sd: np.ndarray) -> np.ndarray:
    """Weights (3, depth, 1) of a five-tap kernel, middle first, of sd voxels (depth,), with unit energy."""
    taps = np.exp(-(np.arange(3)[:, None] ** 2) / (2 * np.maximum(sd, 0.15) ** 2))
    taps /= np.sqrt(taps[0] ** 2 + 2 * taps[1] ** 2 + 2 * taps[2] ** 2)
    return taps[:, :, None].astype(np.float32)


def render(rng: np.random.Generator, db: np.ndarray, noise_db: np.ndarray, scanner: Scanner, spacing) -> np.ndarray:
    """Grey levels, uint8 (z, y, x).

    Parameters
    ----------
    db : mean echo with gain and losses, dB against fat, (z, y, x); it is used up. `noise_db` is noise by depth, (y,).
    spacing : mm, (x, y, z).
    """
    nz, ny, nx = db.shape
    off = np.abs(np.arange(ny) * spacing[1] - scanner.focus_mm) / scanner.f_number / 6
    kx = _kernel(np.clip(np.hypot(scanner.lateral_mm, off) / spacing[0], 0, 1.7))
    kz = _kernel(np.clip(np.hypot(scanner.slice_mm, 0.5 * off) / spacing[2], 0, 1.6))
    hiss = 10 ** (noise_db / 20).astype(np.float32)[:, None]
    share = np.float32(scanner.axial)
    amplitude = np.multiply(db, np.float32(np.log(10) / 20), out=db)
    np.clip(amplitude, -12, 9, out=amplitude)
    np.exp(amplitude, out=amplitude)
    amplitude *= np.float32(1 / np.sqrt(1 + scanner.coherent**2 * 4) / np.sqrt(1 + share**2))
    curve = _curve(scanner)
    grey = np.empty(db.shape, np.uint8)
    tail = None  # of the last slab's speckle: slabs share two slices on either side
    for start in range(0, nz, SLAB):
        stop = min(start + SLAB, nz)
        fresh = stop - start + (4 if tail is None else 0)
        speckle = rng.standard_normal((2, fresh, ny, nx), dtype=np.float32)
        if tail is not None:
            speckle = np.concatenate([tail, speckle], axis=1)
        tail = speckle[:, -4:].copy()
        which = np.clip(np.arange(start - 2, stop + 2), 0, nz - 1)
        around = (
            amplitude[which[0] : which[-1] + 1] if which[0] == start - 2 and which[-1] == stop + 1 else amplitude[which]
        )
        power = np.zeros((stop - start, ny, nx), np.float32)
        for part, steady in zip(speckle, (scanner.coherent, 0), strict=True):
            hum = part[2:-2, :, ::-1] * hiss
            part += np.float32(steady)
            part *= around
            if share > 0.05:
                part[:, 1:] += share * part[:, :-1]
            echo = _blur(part, kz, kx)
            echo += hum
            power += np.square(echo, out=echo)
        np.log(power + np.float32(1e-7), out=power)
        power *= np.float32(10 / np.log(10))
        power += (scanner.slice_gain_db[start:stop, None, None] + scanner.column_gain_db).astype(np.float32)
        if scanner.sharpen:
            _sharpen(power, np.float32(scanner.sharpen))
        power *= np.float32(1023 / scanner.range_db)
        power += np.float32(1023 * scanner.fat_grey)
        np.clip(power, 0, 1023, out=power)
        grey[start:stop] = curve[power.astype(np.uint16)]
    return grey


def _blur(field: np.ndarray, kz: np.ndarray, kx: np.ndarray) -> np.ndarray:
    """(n + 4, y, x) blurred by depth-dependent taps along z (which drops two at either end) and x (mirrored there)."""
    out = field[2:-2] * kz[0]
    for step in (1, 2):
        pair = field[2 - step : -2 - step] + field[2 + step : field.shape[0] - 2 + step]
        pair *= kz[step]
        out += pair
    padded = np.empty((*out.shape[:2], out.shape[2] + 4), np.float32)
    padded[..., 2:-2], padded[..., :2], padded[..., -2:] = out, out[..., 2:0:-1], out[..., -2:-4:-1]
    out *= kx[0]
    for step in (1, 2):
        pair = padded[..., 2 - step : -2 - step] + padded[..., 2 + step : padded.shape[2] - 2 + step]
        pair *= kx[step]
        out += pair
    return out


def _sharpen(db: np.ndarray, weight: np.float32) -> None:
    """Edge enhancement within slices (weight above 0), or smoothing (below), in place."""
    around = db[:, :-2, 1:-1] + db[:, 2:, 1:-1]
    around += db[:, 1:-1, :-2]
    around += db[:, 1:-1, 2:]
    around *= 0.25 * weight
    db[:, 1:-1, 1:-1] *= 1 + weight
    db[:, 1:-1, 1:-1] -= around


def _curve(scanner: Scanner) -> np.ndarray:
    """Grey levels (1024,) of the dynamic range's steps."""
    t = np.linspace(0, 1, 1024) ** scanner.gamma
    t = (1 - scanner.s_curve) * t + scanner.s_curve * t * t * (3 - 2 * t)
    return np.rint(scanner.white * t).astype(np.uint8)
