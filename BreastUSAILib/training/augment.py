"""Augmentation of 2D breast ultrasound batches: what differs between patients, probes, settings and screen captures.

All functions work on whole batches of (N, 1, S, S) float32 tensors with intensities 0 to 1, draw from the generator
that they are given, and return new tensors.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional as F

CLOSEST = math.exp(-0.5)  # the smallest share of an image's width that is shown, unless wider variety is asked for
FARTHEST = math.exp(0.2)  # the largest


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(n, generator=generator) * (high - low) + low


def _chosen(n: int, probability: float, generator: torch.Generator) -> torch.Tensor:
    """(n, 1, 1, 1) float: 1 with the given probability."""
    return (torch.rand(n, generator=generator) < probability).float().view(n, 1, 1, 1)


def lesion_free_window(mask: np.ndarray, random: np.random.Generator, attempts: int = 20) -> tuple[float, ...] | None:
    """A square window of `mask` (S, S) that holds no lesion: (centre x, centre y, half side) in -1..1, or None."""
    size = mask.shape[0]
    for _ in range(attempts):
        side = int(size * random.uniform(0.4, 0.75))
        x, y = random.integers(0, size - side + 1, 2)
        if not mask[y : y + side, x : x + side].any():
            return (2 * (x + side / 2) / size - 1, 2 * (y + side / 2) / size - 1, side / size)
    return None


def geometric(
    images: torch.Tensor,
    masks: torch.Tensor,
    valid: torch.Tensor,
    size: int,
    generator: torch.Generator,
    lesion_free: float = 0.08,
    closest: float = CLOSEST,
    farthest: float = FARTHEST,
    stretch: float = 0.2,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mirrored, scaled, stretched, rotated, shifted and gently warped copies of (N, 1, C, C) tensors, `size` pixels wide.

    Never upside down: the beam comes from above, and shadows and enhancement lie below. A share `lesion_free` of the
    samples becomes a window without a lesion, as a network that has seen none finds one everywhere. `closest` is the
    smallest share of the image's width that is shown, `farthest` the largest; `stretch` the largest logarithm of how much higher, and
    less wide, a part is shown than it is.
    """
    n = images.shape[0]
    scale = torch.exp(_uniform(n, math.log(closest), math.log(farthest), generator))
    aspect = torch.exp(_uniform(n, -stretch, stretch, generator))
    angle = _uniform(n, -12, 12, generator) * math.pi / 180
    mirror = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    shift = torch.stack([_uniform(n, -0.2, 0.2, generator), _uniform(n, -0.2, 0.2, generator)], 1)
    sx, sy = scale * aspect * mirror, scale / aspect
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = sx * torch.cos(angle), -sy * torch.sin(angle)
    theta[:, 1, 0], theta[:, 1, 1] = sx * torch.sin(angle), sy * torch.cos(angle)
    theta[:, :, 2] = shift

    random = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
    for i in np.flatnonzero(random.random(n) < lesion_free):
        window = lesion_free_window(masks[i, 0].numpy() > 0, random)
        if window is not None:
            x, y, half = window
            theta[i] = torch.tensor([[half * float(mirror[i]), 0, x], [0, half, y]])

    grid = F.affine_grid(theta, [n, 1, size, size], align_corners=False)
    coarse = torch.randn(n, 2, 6, 6, generator=generator) * _uniform(n, 0, 0.035, generator).view(n, 1, 1, 1)
    grid = grid + F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    moved = F.grid_sample(torch.cat([images, masks, valid], 1), grid, mode="bilinear", align_corners=False)
    return moved[:, :1], (moved[:, 1:2] > 0.5).float(), moved[:, 2:]


def _depth_gain(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Time gain set otherwise: a smooth factor over depth, the same for a whole row."""
    knots = torch.randn(n, 1, 5, 1, generator=generator) * 0.3
    return torch.exp(F.interpolate(knots, size=(size, 1), mode="bicubic", align_corners=True))


def _column_shadow(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """A dark column below some depth: poor contact, or a ligament's shadow."""
    x = torch.linspace(-1, 1, size).view(1, 1, 1, size)
    y = torch.linspace(-1, 1, size).view(1, 1, size, 1)
    centre = _uniform(n, -1.2, 1.2, generator).view(n, 1, 1, 1)
    width = _uniform(n, 0.05, 0.3, generator).view(n, 1, 1, 1)
    top = _uniform(n, -1.2, 0.6, generator).view(n, 1, 1, 1)
    depth = _uniform(n, 0.2, 0.8, generator).view(n, 1, 1, 1)
    band = torch.exp(-(((x - centre) / width) ** 2)) * torch.sigmoid((y - top) * 12)
    return 1 - depth * band * _chosen(n, 0.25, generator)


def _gaussian_blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    radius = max(1, math.ceil(2.5 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    images = F.conv2d(F.pad(images, (radius, radius, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    return F.conv2d(F.pad(images, (0, 0, radius, radius), mode="replicate"), kernel.view(1, 1, -1, 1))


def intensity(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Other gain, dynamic range, time gain, focus and noise; a shadow now and then. Result clipped to 0..1."""
    n, _, size, _ = images.shape
    gamma = torch.exp(_uniform(n, -0.6, 0.6, generator)).view(n, 1, 1, 1)
    images = images.clamp(1e-4, 1) ** gamma
    gain = torch.exp(_uniform(n, -0.3, 0.3, generator)).view(n, 1, 1, 1)
    offset = _uniform(n, -0.1, 0.1, generator).view(n, 1, 1, 1)
    images = images * gain * _depth_gain(n, size, generator) * _column_shadow(n, size, generator) + offset
    blurred = _gaussian_blur(images, float(_uniform(1, 0.5, 1.3, generator)))
    amount = _chosen(n, 0.35, generator)
    images = images * (1 - amount) + blurred * amount
    speckle = torch.randn(n, 1, size, size, generator=generator)
    speckle = _gaussian_blur(speckle, float(_uniform(1, 0.5, 1.2, generator)))
    speckle = speckle / speckle.std()
    amount = _uniform(n, 0, 0.35, generator).view(n, 1, 1, 1) * _chosen(n, 0.5, generator)
    return (images * (1 + amount * speckle)).clamp(0, 1)


def _tone_curve(images: torch.Tensor, generator: torch.Generator, knots: int = 6) -> torch.Tensor:
    """Another grey-scale map: a random rising piecewise-linear curve from 0 to 1 for each image."""
    n = images.shape[0]
    steps = torch.exp(torch.randn(n, knots - 1, generator=generator) * 0.7)
    values = F.pad(torch.cumsum(steps / steps.sum(1, keepdim=True), 1), (1, 0))
    position = images.clamp(0, 1).view(n, -1) * (knots - 1)
    left = position.floor().clamp(max=knots - 2).long()
    low, high = values.gather(1, left), values.gather(1, left + 1)
    return (low + (high - low) * (position - left)).view_as(images)


def scanner(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """What another scanner's processing does: grey-scale map, smoothing, edge enhancement, local contrast, coarser pixels."""
    n, _, size, _ = images.shape
    amount = _chosen(n, 0.5, generator)
    images = images * (1 - amount) + _tone_curve(images, generator) * amount
    smooth = _gaussian_blur(images, float(_uniform(1, 1.0, 2.2, generator)))
    amount = _chosen(n, 0.25, generator)
    images = images * (1 - amount) + smooth * amount
    edges = _uniform(n, 0.3, 1.5, generator).view(n, 1, 1, 1) * _chosen(n, 0.2, generator)
    images = images + edges * (images - _gaussian_blur(images, 1.0))
    wide = _gaussian_blur(images, size / 12)
    local = 0.5 + (images - wide) / (4 * ((images - wide) ** 2).mean((2, 3), keepdim=True).sqrt().clamp_min(1e-3))
    amount = _uniform(n, 0.3, 1.0, generator).view(n, 1, 1, 1) * _chosen(n, 0.2, generator)
    images = images * (1 - amount) + local * amount
    coarse = F.interpolate(images, scale_factor=float(_uniform(1, 0.4, 0.8, generator)), mode="area")
    coarse = F.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)
    amount = _chosen(n, 0.2, generator)
    return (images * (1 - amount) + coarse * amount).clamp(0, 1)


@lru_cache(maxsize=1)
def _text_bank(count: int = 64) -> torch.Tensor:
    """(count, 1, 14, 96) pieces of burned-in text, 0 to 1."""
    from PIL import Image, ImageDraw, ImageFont

    random = np.random.default_rng(0)
    letters = np.array(list("ABCDEFGHIKLMNOPRSTUVX0123456789.+-:= "))
    pieces = []
    for _ in range(count):
        canvas = Image.new("L", (96, 14))
        text = "".join(random.choice(letters, random.integers(3, 14)))
        font = ImageFont.load_default(size=float(random.uniform(7, 12)))
        ImageDraw.Draw(canvas).text((1, 0), text, fill=int(random.integers(140, 256)), font=font)
        pieces.append(np.asarray(canvas, np.float32) / 255)
    return torch.from_numpy(np.stack(pieces))[:, None]


def overlays(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Burned-in text and caliper marks at random places.

    In many training images calipers sit on the lesion's border. Marks elsewhere teach the network not to lean on them.
    """
    images = images.clone()
    n, _, size, _ = images.shape
    bank = _text_bank()

    def integer(high: int) -> int:
        return int(torch.randint(max(1, high), (1,), generator=generator))

    for i in range(n):
        if torch.rand(1, generator=generator) < 0.25:
            for _ in range(1 + integer(3)):
                piece = bank[integer(len(bank)), 0]
                height, width = min(14, size), min(96, size)
                y, x = integer(size - height + 1), integer(size - width + 1)
                region = images[i, 0, y : y + height, x : x + width]
                torch.maximum(region, piece[:height, :width], out=region)
        if torch.rand(1, generator=generator) < 0.3:
            value, arm = float(_uniform(1, 0.7, 1, generator)), 2 + integer(3)
            for _ in range(1 + integer(4)):
                y, x = arm + integer(size - 2 * arm), arm + integer(size - 2 * arm)
                images[i, 0, y, x - arm : x + arm + 1] = value
                images[i, 0, y - arm : y + arm + 1, x] = value
    return images


def augment(
    images: torch.Tensor,
    masks: torch.Tensor,
    valid: torch.Tensor,
    size: int,
    generator: torch.Generator,
    *,
    wide: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """All of the above: (images, masks, valid), each (N, 1, size, size), not yet standardised.

    `wide` adds other scanners' processing and shows lesions up to 1.4 times larger, for scanners that are not in the data.
    """
    images, masks, valid = geometric(images, masks, valid, size, generator, closest=0.42 if wide else CLOSEST)
    if wide:
        images = scanner(images, generator)
    return overlays(intensity(images, generator), generator) * (valid > 0), masks, valid
