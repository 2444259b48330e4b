"""The refiner: moves the outline of a mask to where the image's intensities change (Chan-Vese, 2D and 3D).

The energy is that of Chan & Vese [1]_, as Huang et al. [2]_ put it behind their network,

    E(u, c1, c2) = mu1 * int u |I - c1|^2 + mu2 * int (1 - u) |I - c2|^2 + alpha * Length(u)

with u = 1 inside and 0 outside. It is minimised by the iterative convolution-thresholding method (ICTM) [3]_: the
length is written with a heat kernel G of standard deviation s as ``sqrt(2 pi) / s * int (1 - u) G*u`` (their
``sqrt(pi / tau)`` with ``s^2 = 2 tau``), which makes one step a convolution and a threshold,

    u <- [ mu1 |I - c1|^2 - mu2 |I - c2|^2 + alpha * sqrt(2 pi) / s * G*(1 - 2 u) <= 0 ],

and never raises the energy. There is no time step and no level-set function to keep regular; a few dozen steps on a
coarse grid and a few on the image's own settle the outline. The Gaussian is a dense matrix product along each axis:
on the small region around a lesion that beats an FFT. Processors that multiply matrices of bfloat16 in hardware (AMX) do it so in volumes:
u is 0 or 1, which bfloat16 holds exactly.

Two extensions of ours, each switched off by :meth:`ChanVeseParameters.paper`, make the energy fit for ultrasound, where
shadows, enhancement and the falling gain along the depth make two means for the whole region wrong:

- ``window``: c1 and c2 become smooth functions, the means of the inside and the outside near each pixel (the
  region-scalable energy of Li et al. [4]_, which ICTM minimises the same way);
- ``prior``: with the network's probability p of each pixel the energy gains ``prior * int u (1 - 2 p)``, the
  expected cost of a wrong label: the outline moves where the image says so and the network was unsure. Where the network's
  border is not at 0.5, p is moved in its odds until it is (``neutral``).

References
----------
.. [1] Chan T., Vese L., Active contours without edges, IEEE Trans. Image Processing 10(2), 2001, eq. 3.
.. [2] Huang Y. et al., BioMedical Engineering OnLine 18:8, 2019, doi:10.1186/s12938-019-0626-5.
.. [3] Wang D., Wang X.-P., The iterative convolution-thresholding method (ICTM) for image segmentation, 2019,
   arXiv:1904.10917; Wang D., Li H., Wei X., Wang X.-P., J. Comput. Phys. 350, 2017.
.. [4] Li C. et al., Minimization of region-scalable fitting energy, IEEE Trans. Image Processing 17(10), 2008.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .axis_products import along_axes, gaussian, interpolation, smoothing
from .chan_vese_fit import GlobalFit, LocalFit
from .components import check_spacing, keep_components
from .errors import ImageError, UsageError
from .pixels import without_overflow
from .pooling import block_means

_COARSEST = 6.0  # the coarsest grid still has this many pixels on a radius of the lesion
_KERNEL_PIXELS = 0.8  # a narrower kernel than this many pixels pins the outline to the grid
_SMOOTHING_PIXELS = 0.3  # a Gaussian narrower than this many pixels changes nothing
_SMALL = 20_000  # pixels below which a mask's bounding box takes longer to find than it saves
_DISTANCE_PIXELS = 100_000  # above this the distance to the start outline is computed on a coarser grid


@dataclass(frozen=True)
class ChanVeseParameters:
    """What the refiner may do. Every length is relative to R, the radius of the disc (ball) as large as the mask.

    Intensities are normalised inside :func:`refine`: clipped to the 1st and 99th percentile of the region around the
    mask, smoothed against speckle, less their mean, divided by twice their standard deviation. Dark and bright tissue
    then differ by about 1. Lengths are counted in units of ``length_scale * R``. So mu1, mu2, alpha and prior have no
    units, and the result depends neither on the image's grey levels, nor its size, nor the units of its spacing.

    Attributes
    ----------
    mu1, mu2 : weights of the inside and the outside, not negative; 1 in the paper.
    alpha : weight of the length, not negative; 1 in the paper. With alpha = 1 parts of the outline with a radius of
        curvature below about `length_scale` * R are smoothed away at full contrast.
    max_iterations : steps over all levels together; 50 in the paper.
    length_scale : unit of length and standard deviation of the heat kernel, in R (ours).
    smoothing : standard deviation of the Gaussian against speckle, in R (ours); 0 is the paper's.
    window : standard deviation of the window of the local means, in R (ours); ``inf`` is the paper's: two means.
    prior : weight of the network's probability map, where one is given (ours); 0 is the paper's.
    max_change : how far the outline may move from that of the start mask, in R (ours); ``inf`` is the paper's.
    margin : what is looked at: the mask's bounding box and this share of its extent more on each side (ours).
    settled : the evolution on a grid ends with the step that changes no more than this share of the mask's pixels (ours); 0: with
        the one that changes none. In volumes the last half of the steps moves about one voxel in a thousand.
    levels : grids, each half as fine as the one before (ours); fewer for small lesions.
    max_size_factor : degenerate when the area (volume) grows or shrinks by more than this factor (ours).
    min_dice : degenerate when the Dice between the start mask and the result falls below (ours).
    max_border : degenerate when more than this share of the region's border (where that is not the image's
        border too) ends up inside: the outline floods (ours).
    """

    mu1: float = 1.0
    mu2: float = 1.0
    alpha: float = 1.0
    max_iterations: int = 50
    length_scale: float = 0.08
    smoothing: float = 0.02
    window: float = 0.4
    prior: float = 1.0
    max_change: float = 0.15
    margin: float = 0.3
    settled: float = 0.0
    levels: int = 3
    max_size_factor: float = 2.0
    min_dice: float = 0.7
    max_border: float = 0.5

    def __post_init__(self) -> None:
        for name in ("mu1", "mu2", "alpha", "prior", "smoothing"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"the refiner's {name} is {value}; it must be a number that is not negative.")
        for name in ("length_scale", "margin"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"the refiner's {name} is {value}; it must be a positive number.")
        for name in ("window", "max_change"):
            if not getattr(self, name) > 0:
                raise UsageError(f"the refiner's {name} is {getattr(self, name)}; it must be positive (or inf).")
        for name in ("max_iterations", "levels"):
            if not (isinstance(getattr(self, name), int) and getattr(self, name) >= 1):
                raise UsageError(f"the refiner's {name} is {getattr(self, name)}; it must be a whole number from 1 up.")
        if not self.max_size_factor > 1:
            raise UsageError(f"the refiner's max_size_factor is {self.max_size_factor}; it must be greater than 1.")
        for name in ("min_dice", "max_border", "settled"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UsageError(f"the refiner's {name} is {getattr(self, name)}; it must lie between 0 and 1.")

    @classmethod
    def paper(cls) -> ChanVeseParameters:
        """The plain energy: mu1 = mu2 = alpha = 1, two means, no smoothing, no prior, and an outline that may go anywhere."""
        return cls(smoothing=0.0, window=math.inf, prior=0.0, max_change=math.inf)


@dataclass(frozen=True)
class Refinement:
    """What :func:`refine` made of a mask.

    Attributes
    ----------
    mask : bool, the shape of the input; the input mask when `refined` is False.
    refined : whether the evolution was used.
    iterations : steps over all levels.
    reason : one sentence why the input mask was kept, empty when `refined`.
    """

    mask: np.ndarray
    refined: bool
    iterations: int
    reason: str


def refine(
    image: np.ndarray,
    mask: np.ndarray,
    spacing: Sequence[float],
    parameters: ChanVeseParameters = ChanVeseParameters(),
    probability: np.ndarray | None = None,
    neutral: float = 0.5,
) -> Refinement:
    """Refine the outline of one lesion.

    Parameters
    ----------
    image : (y, x) or (z, y, x), any real type.
    mask : the same shape, not zero inside: where the outline starts. Should hold one lesion
        (:func:`.components.keep_components`); the result is one connected component.
    spacing : distance between pixel centres, one an axis, in the order of the axes. Any unit, only ratios count.
    parameters : see :class:`ChanVeseParameters`.
    probability : the network's probability of lesion, 0 to 1, the same shape; used with ``parameters.prior``.
    neutral : the probability that speaks for neither side, above 0 and below 1: the threshold that `mask` was made with, as
        the prior alone would else move the outline from there to where the probability is 0.5.

    Returns
    -------
    Refinement : the new mask; or the old one with the reason, when it is empty, tiny or full, the image is flat or
        not finite around it, or the evolution was degenerate (vanished, flooded, or went too far).

    Raises
    ------
    ImageError : the image is not a 2D or 3D array of real numbers.
    UsageError : shapes differ, spacing is not positive, or probabilities or `neutral` are not between 0 and 1.
    """
    if not 0 < neutral < 1:
        raise UsageError(f"the neutral probability is {neutral}; it must lie between 0 and 1.")
    image, mask = np.asarray(image), np.asarray(mask) != 0
    if image.ndim not in (2, 3) or image.dtype.kind not in "buif":
        raise ImageError(f"the image is {image.ndim}D of type {image.dtype}; a 2D or 3D one of real numbers is needed.")
    if mask.shape != image.shape:
        raise UsageError(f"the mask {mask.shape} and the image {image.shape} differ in shape; give both on one grid.")
    steps = np.array(check_spacing(spacing, image.ndim))
    steps = steps / steps.min()  # only ratios count; this keeps every unit within the range of the numbers below

    def kept(reason: str, iterations: int = 0) -> Refinement:
        return Refinement(mask.copy(), False, iterations, f"The outline was not refined: {reason}.")

    count = int(np.count_nonzero(mask))
    if count == 0:
        return kept("the mask is empty")
    if count == mask.size:
        return kept("the mask fills the image")
    if count < 3**image.ndim:
        return kept(f"the mask has only {count} pixels")
    radius = _equivalent_radius(count, steps)
    region = _region(mask, parameters.margin)
    start = mask[region]
    intensity = _normalised(image[region], parameters.smoothing * radius / steps)
    if intensity is None:
        return kept("the image has values that are not finite around the mask")
    if not intensity.any():
        return kept("the image is flat around the mask")
    if start.all():
        return kept("the mask leaves nothing outside to compare with")
    prior = None
    if probability is not None and parameters.prior > 0:
        prior = parameters.prior * (
            1.0 - 2.0 * _centred(_checked_probability(probability, mask.shape)[region], neutral)
        )

    inside, iterations = _evolve(intensity, start, prior, steps / radius, parameters)
    if not inside.any():
        return kept("the outline vanished", iterations)
    box = _box_of(inside)
    largest = keep_components(inside[box], steps, keep="largest")[0]
    inside = np.zeros_like(inside)
    inside[box] = largest
    size = int(np.count_nonzero(inside))
    if _border_share(inside, region, mask.shape) > parameters.max_border:
        return kept("the outline flooded the region around the mask", iterations)
    if not 1 / parameters.max_size_factor <= size / count <= parameters.max_size_factor:
        return kept(f"its size changed by a factor of {size / count:.2f}", iterations)
    dice = 2 * int(np.count_nonzero(inside & start)) / (size + count)
    if dice < parameters.min_dice:
        return kept(f"the outline moved too far (Dice {dice:.2f} to the start)", iterations)
    result = np.zeros(mask.shape, dtype=bool)
    result[region] = inside
    return Refinement(result, True, iterations, "")


def _equivalent_radius(count: int, steps: np.ndarray) -> float:
    """Radius of the disc (ball) of as much area (volume) as `count` pixels, in the unit of `steps`."""
    size = count * float(np.prod(steps))
    return math.sqrt(size / math.pi) if len(steps) == 2 else (3 * size / (4 * math.pi)) ** (1 / 3)


def _region(mask: np.ndarray, margin: float) -> tuple[slice, ...]:
    """The mask's bounding box and `margin` of its extent (two pixels at least) more on each side, within the image."""
    box = _box_of(mask)
    return _widened(box, [math.ceil(margin * (part.stop - part.start)) + 2 for part in box], mask.shape)


def _box_of(mask: np.ndarray) -> tuple[slice, ...]:
    """The bounding box of a mask that is not empty."""
    box, part = [], mask
    for length in mask.shape:
        # What is left of the mask is seen along its first axis, cut to where it is, and seen along the next from above.
        along = np.flatnonzero(part.reshape(length, -1).any(axis=1))
        low, high = int(along[0]), int(along[-1]) + 1
        part = part[low:high].any(axis=0)
        box.append(slice(low, high))
    return tuple(box)


def _widened(box: tuple[slice, ...], extra: Sequence[int], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """A box with `extra` pixels (one number an axis) more on each side, within the image."""
    sides = zip(box, extra, shape, strict=True)
    return tuple(slice(max(0, part.start - more), min(length, part.stop + more)) for part, more, length in sides)


def _normalised(values: np.ndarray, sigma: np.ndarray) -> np.ndarray | None:
    """Clipped to the 1st and 99th percentile, smoothed by `sigma` pixels, less the mean, over twice the standard deviation.

    Returns float32; None when a value is not finite, all zeros when all are the same.
    """
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            return None
        # Their greatest difference may be more than their type holds.
        values = without_overflow(values.astype(np.result_type(values.dtype, np.float32), copy=False))
    sample = values.ravel()[:: 1 + values.size // 50_000]  # percentiles need no more, and sorting is slow
    low, high = _percentiles(sample)
    values = values.astype(np.result_type(values.dtype, np.float32))
    if not high > low:
        low, high = values.min(), values.max()
    if not high > low:
        return np.zeros(values.shape, dtype=np.float32)
    # To 0..1 before anything is squared: whatever the range of the image, nothing overflows.
    np.clip(values, low, high, out=values)
    values -= low
    values /= high - low
    values = values.astype(np.float32, copy=False)
    values -= values.mean()
    blur = [gaussian(n, max(width, _SMOOTHING_PIXELS)) for n, width in zip(values.shape, sigma, strict=True)]
    values = along_axes(values, blur)
    values /= max(2 * float(values.std()), 1e-3)
    return values


def _percentiles(sample: np.ndarray) -> tuple[float, float]:
    """The 1st and 99th percentile, as numpy's; of 8 bits by counting, in a fifth of the time."""
    if sample.dtype != np.uint8:
        low, high = np.percentile(sample.astype(np.result_type(sample.dtype, np.float32), copy=False), [1, 99])
        return low, high
    upto = np.cumsum(np.bincount(sample, minlength=256))
    at = np.array([0.01, 0.99]) * (sample.size - 1)
    below = np.searchsorted(upto, np.floor(at), side="right")
    above = np.searchsorted(upto, np.minimum(np.floor(at) + 1, sample.size - 1), side="right")
    low, high = below + (at - np.floor(at)) * (above - below)
    return float(low), float(high)


def _centred(probability: np.ndarray, neutral: float) -> np.ndarray:
    """The probabilities with their odds divided by those of the neutral one, which becomes 0.5; 0 and 1 stay."""
    if neutral == 0.5:
        return probability
    inside, outside = probability * (1 - neutral), (1 - probability) * neutral
    return inside / np.maximum(inside + outside, np.float32(1e-12))


def _checked_probability(probability: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    probability = np.asarray(probability, dtype=np.float32)
    if probability.shape != shape:
        raise UsageError(f"the probability map {probability.shape} and the image {shape} differ in shape.")
    if not (probability.min() >= -1e-6 and probability.max() <= 1 + 1e-6):  # False for NaN as well
        raise UsageError("the probability map has values that do not lie between 0 and 1.")
    return probability


def _border_share(inside: np.ndarray, region: tuple[slice, ...], shape: tuple[int, ...]) -> float:
    """Share of the region's faces that lie within the image which is inside; 0 when there is no such face."""
    touched = total = 0
    for axis, (part, length) in enumerate(zip(region, shape, strict=True)):
        for index, is_image_border in ((0, part.start == 0), (-1, part.stop == length)):
            if not is_image_border:
                face = inside.take(index, axis=axis)
                touched, total = touched + int(face.sum()), total + face.size
    return touched / total if total else 0.0


def _evolve(
    intensity: np.ndarray,
    start: np.ndarray,
    prior: np.ndarray | None,
    steps: np.ndarray,
    parameters: ChanVeseParameters,
) -> tuple[np.ndarray, int]:
    """Minimise the energy from coarse to fine; `steps` is the spacing in R. The new mask and the number of steps."""
    allowed = None if math.isinf(parameters.max_change) else _signed_distance(start, steps, parameters)
    first = start.astype(np.float32)
    u, taken = None, 0
    grids = _pyramid(start.shape, steps, parameters.levels)
    for level, factors in reversed(list(enumerate(grids))):
        values = block_means(intensity, factors)
        if u is None:
            u = (block_means(first, factors) >= 0.5).astype(np.float32)
        else:
            u = _refine_grid(u, grids[level + 1], factors, values.shape)
        bias = None if prior is None else block_means(prior, factors)
        distance = None if allowed is None else block_means(allowed, factors)
        # A coarse level leaves half of the remaining steps to the finer ones.
        left = parameters.max_iterations - taken
        budget = left if level == 0 else left // 2
        u, used = _descend(values, u, bias, distance, steps * factors, parameters, budget)
        taken += used
    return u > 0.5, taken


def _descend(
    values: np.ndarray,
    u: np.ndarray,
    bias: np.ndarray | None,
    distance: np.ndarray | None,
    steps: np.ndarray,
    parameters: ChanVeseParameters,
    budget: int,
) -> tuple[np.ndarray, int]:
    """At most `budget` steps of ICTM on one grid; ends when nothing changes."""
    width = max(parameters.length_scale, _KERNEL_PIXELS * float(steps.max()))
    smooth = smoothing([gaussian(n, width / s) for n, s in zip(u.shape, steps, strict=True)])
    # Lengths are in units of length_scale; the kernel may be wider than that on a coarse grid.
    stiffness = parameters.alpha * parameters.length_scale * math.sqrt(2 * math.pi) / width
    fit = (GlobalFit if math.isinf(parameters.window) else LocalFit)(values, steps, parameters.window)
    inside = u > 0.5
    for used in range(1, budget + 1):
        part = _part(inside)
        cost = fit(values, u, part, parameters.mu1, parameters.mu2)
        rounded = smooth(u, part)
        rounded *= -2 * stiffness  # G*(1 - 2 u) is 1 - 2 G*u
        cost += rounded
        if bias is not None:
            cost += bias
        new = cost <= -stiffness
        if distance is not None:
            new |= distance > parameters.max_change
            new &= distance > -parameters.max_change
        changed, inside = np.count_nonzero(new != inside), new
        if not changed:
            return u, used
        u = new.astype(np.float32)
        size = np.count_nonzero(new)
        if not size or changed <= parameters.settled * size:
            return u, used
    return u, budget


def _part(inside: np.ndarray) -> tuple[slice, ...]:
    """Beyond what products need not look: the bounding box of a mask; all of its grid where it is empty, or too small to be worth it."""
    if inside.size < _SMALL:
        return (slice(None),) * inside.ndim
    if not inside.any():
        return (slice(None),) * inside.ndim
    return _box_of(inside)


def _pyramid(shape: tuple[int, ...], steps: np.ndarray, levels: int) -> list[np.ndarray]:
    """Pooling factors a level, the image's own grid first. The finest axes are pooled first, towards isotropic."""
    factors = [np.ones(len(shape), dtype=int)]
    while len(factors) < levels:
        now = steps * factors[-1]
        doubled = np.where(now <= 1.5 * now.min(), 2, 1) * factors[-1]
        if (steps * doubled).max() > max(1 / _COARSEST, now.max()) or (steps * doubled).min() > 1 / _COARSEST:
            break
        factors.append(doubled)
    return factors


def _refine_grid(u: np.ndarray, coarse: np.ndarray, fine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`u` of a coarse level on the next finer one."""
    for axis, repeat in enumerate(coarse // fine):
        if repeat > 1:
            u = np.repeat(u, repeat, axis=axis)
    return u[tuple(slice(n) for n in shape)]


def _signed_distance(mask: np.ndarray, steps: np.ndarray, parameters: ChanVeseParameters) -> np.ndarray:
    """Distance to the outline of `mask`, positive inside, in the unit of `steps`; float32. Where the outline may not go outside, it is
    some distance that is too far.

    Large regions are done on a grid half as fine and interpolated, exact to a fraction of a pixel.
    """
    from scipy import ndimage

    thin = np.array([2 if mask.size > _DISTANCE_PIXELS and n >= 16 else 1 for n in mask.shape])
    places = [np.arange(0, n, t) for n, t in zip(mask.shape, thin, strict=True)]
    coarse = mask[np.ix_(*places)]
    if not coarse.any() or coarse.all():
        thin, places, coarse = np.ones_like(thin), [np.arange(n) for n in mask.shape], mask
    sampling = steps * thin
    # What is inside is nearest to a pixel beside the mask's box. Outside, a block of the coarsest grid that reaches to where the
    # outline may go is measured whole.
    limit, box = parameters.max_change, _box_of(coarse)
    beside = _widened(box, (1,) * coarse.ndim, coarse.shape)
    around = _widened(box, [math.ceil(limit / s) + 2**parameters.levels for s in sampling], coarse.shape)
    distance = np.full(coarse.shape, -limit - 1, np.float32)
    distance[around] = -ndimage.distance_transform_edt(~coarse[around], sampling)
    distance[beside] += ndimage.distance_transform_edt(coarse[beside], sampling)
    # The transform measures to the nearest pixel of the other side; the outline lies half a pixel before it.
    distance -= np.sign(distance) * 0.5 * float(sampling.min())
    if (thin == 1).all():
        return distance
    return along_axes(distance, [interpolation(n, p) for n, p in zip(mask.shape, places, strict=True)])
