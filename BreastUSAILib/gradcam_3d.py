"""Class activation maps of volumes, without a backward pass. On a network's grid, without physical space.

Grad-CAM (Selvaraju et al. 2017, equations 1 and 2) weighs channel k of the last map A by the mean over its n cells of dY / dA_k, and keeps
what is positive: ReLU(sum_k a_k A_k). Where Y = b + sum_k w_k mean(A_k), as in `networks.resnet_3d`, that derivative is w_k / n in
every cell, so that a_k = w_k / n: the map is ReLU(sum_k w_k A_k) / n, which one pass forward gives.

What is kept here is `activation` = sum_k w_k A_k + b, for which there is another way to read it: its mean over the cells of a patch is that
patch's logit. The published map of a volume is that of one patch as large as the volume. Of windows as large as the patches
the network learnt from, each with a mean of its own, the map is the same in every cell, whichever window holds it, as n
and w are: the windows join without seams, no window is scaled by itself, and a small lesion in a large volume is not one
part in n of the evidence but of what its own window is judged by (`window_logits`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .mirrors import MIRRORS, mirrored
from .models.devices import autocast, is_out_of_memory
from .networks.resnet_3d import ResNet3d
from .volume_input import to_tensor

WHOLE_VOXELS = 16_000_000
_LEAST_SLAB = 16


def activation(network: ResNet3d, levels: np.ndarray, *, device: str = "cpu", slab: int | None = None, mirrors: int = 1) -> np.ndarray:
    """What each cell of the last map says for a lesion (or against, below 0): the head's unit applied to that cell alone.

    Parameters
    ----------
    levels : (z, y, x) uint8; see `volume_input`.
    device : on which `network` is.
    slab : slices that pass at a time, with as many more on either side as a cell sees, so that the map is that of the whole volume;
        None: all where there are no more than `WHOLE_VOXELS` voxels, else as many as make that. Halved where memory does not suffice.
    mirrors : looks, of which the mean counts: 1, 2 or 4, see `mirrors.MIRRORS`.

    Returns
    -------
    (z / s, y / s, x / s, rounded up) float32, `s` being the network's scale. Cell i lies at voxel i s.
    """
    total = None
    for seen, back in _looks(network, levels, mirrors):
        if slab is None:
            slab = max(_LEAST_SLAB, min(len(seen), WHOLE_VOXELS // max(1, int(np.prod(seen.shape[1:])))))
        while True:
            try:
                cells = back(_in_slabs(network, seen, device, slab))
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or slab <= _LEAST_SLAB:
                    raise
                slab = max(_LEAST_SLAB, slab // 2)
        total = cells if total is None else total + cells
    return total if mirrors == 1 else total / np.float32(mirrors)


def _looks(network: ResNet3d, levels: np.ndarray, mirrors: int) -> Iterator[tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]]:
    """Mirror images of a volume, each with what takes its cells back to the volume's.

    Cells lie at every s-th voxel from the first on. So that they lie on the same voxels in a mirror image, its last voxel must be one of them:
    edges are repeated for up to s - 1 voxels.
    """
    if mirrors == 1:
        yield levels, lambda cells: cells
        return
    cut = tuple(slice(-(-n // s)) for n, s in zip(levels.shape, network.scale, strict=True))
    wide = np.pad(levels, [(0, (1 - n) % s) for n, s in zip(levels.shape, network.scale, strict=True)], mode="edge")
    for axes in MIRRORS[:mirrors]:
        there = tuple(axis - 2 for axis in axes)
        yield np.ascontiguousarray(np.flip(wide, there)), lambda cells, there=there: np.flip(cells, there)[cut]


@torch.inference_mode()
def _in_slabs(network: ResNet3d, levels: np.ndarray, device: str, slab: int) -> np.ndarray:
    step = network.scale[0]
    slab = -(-slab // step) * step
    halo = -(-network.reach[0] // step) * step
    bias = network.head.bias[0].float()
    parts = []
    for first in range(0, len(levels), slab):
        begin, end = max(0, first - halo), min(len(levels), first + slab + halo)
        volume = to_tensor(levels[begin:end])[None, None].to(device, memory_format=torch.channels_last_3d)
        with autocast(device):
            features = network.features(volume)
        said = network.activation(features.float())[0] + bias
        cells = -(-(min(len(levels), first + slab) - first) // step)
        parts.append(said[(first - begin) // step :][:cells].cpu())
    return torch.cat(parts).numpy()


@torch.inference_mode()
def patch_probability(network: ResNet3d, levels: np.ndarray, *, device: str = "cpu", mirrors: int = 1) -> float:
    """The network's answer for a patch (z, y, x) uint8: the probability that it shows a lesion, by the mean logit of 1, 2 or 4 looks (`mirrors.MIRRORS`)."""
    volume = to_tensor(levels)[None, None].to(device, memory_format=torch.channels_last_3d)
    with autocast(device):
        logits = [network(mirrored(volume, axes)).float() for axes in MIRRORS[:mirrors]]
    return float(torch.sigmoid(torch.cat(logits).mean()))


def window_logits(activation: np.ndarray, window: Sequence[int]) -> np.ndarray:
    """The logit of every window of `window` cells (z, y, x) within a map of `activation`: local pooling instead of one mean over all.

    Where the map is smaller than a window, the window is as large as the map. Returns (z - w + 1, y - w + 1, x - w + 1) float32.
    """
    size = [min(w, n) for w, n in zip(window, activation.shape, strict=True)]
    return F.avg_pool3d(torch.from_numpy(activation)[None, None], size, 1)[0, 0].numpy()


def covering_logits(logits: np.ndarray, cells: Sequence[int]) -> np.ndarray:
    """For every cell the highest of the `window_logits` of the windows that hold it; `cells` (z, y, x) is the map's size."""
    size = [n - k + 1 for n, k in zip(cells, logits.shape, strict=True)]
    padding = [p for n in reversed(size) for p in (n - 1, n - 1)]
    padded = F.pad(torch.from_numpy(logits)[None, None], padding, value=-torch.inf)
    return F.max_pool3d(padded, size, 1)[0, 0].numpy()


@torch.inference_mode()
def slab_map(network: ResNet3d, levels: np.ndarray, slices: int = 9, *, device: str = "cpu") -> np.ndarray:
    """The published way through a volume, to compare with: slab by slab of so many slices, each a patch of its own.

    Each slab's Grad-CAM is resized to it and divided by its own maximum, so that every slab has a hottest place, whether there is a lesion
    or not. Returns (z, y, x) float32 of the size of `levels`, 0 to 1.
    """
    parts = []
    for first in range(0, len(levels), slices):
        slab = levels[first : first + slices]
        volume = to_tensor(slab)[None, None].to(device, memory_format=torch.channels_last_3d)
        with autocast(device):
            features = network.features(volume)
        heat = F.relu(network.activation(features.float()))[None]
        heat = F.interpolate(heat, size=slab.shape, mode="trilinear", align_corners=False)[0, 0]
        parts.append((heat / heat.max().clamp_min(1e-6)).cpu())
    return torch.cat(parts).numpy()


def published_map(activation: np.ndarray, bias: float) -> np.ndarray:
    """Grad-CAM's own map, ReLU(sum_k w_k A_k) / n, from `activation`; same shape."""
    return np.maximum(activation - bias, 0) / activation.size


def grad_cam(network: nn.Module, layer: nn.Module, inputs: torch.Tensor, output) -> torch.Tensor:
    """Grad-CAM of any network by a backward pass, in 2D or 3D: for networks whose head is no mean and one unit.

    Parameters
    ----------
    layer : of `network`, the one whose map is read; its output is one tensor (N, C, ...).
    inputs : for the network.
    output : from what the network returns to the number (or one for each of N, summed) that is to be explained.

    Returns
    -------
    (N, ...) float32, one number a cell of the layer's map; not negative.
    """
    kept: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda module, arguments, result: kept.append(result))
    try:
        with torch.enable_grad():
            value = output(network(inputs.detach().requires_grad_())).sum()
            (gradient,) = torch.autograd.grad(value, kept[-1])
    finally:
        hook.remove()
    with torch.no_grad():
        weights = gradient.flatten(2).mean(2)
        return F.relu(torch.einsum("nc,nc...->n...", weights, kept[-1])).float()


def interpolation(cells: int, scale: float, places: np.ndarray, degree: int = 1) -> np.ndarray:
    """The matrix (len(places), cells) that takes a map's axis to `places` (voxels from the first voxel's centre).

    Cell i lies at voxel i `scale`: that is where convolutions with padding and strides centre it. Resizing alone, which
    takes a cell for the middle of its voxels, moves a map by half a cell.

    degree : 1: linearly. A linear map has its maxima at cells' centres and nowhere else; 2: with the cells as coefficients of a uniform
        quadratic B-spline (Unser 1999), whose maxima lie where the cells about them say. It smooths a little (cells lose a quarter
        of their own value to their neighbours along each axis) and, as its weights are positive, never overshoots. The outermost cells go on beyond the edges.
    """
    at = np.clip(np.asarray(places, float) / scale, 0, cells - 1)
    first = np.ceil(at - (degree + 1) / 2).astype(int)  # of the cells whose basis function reaches here
    matrix = np.zeros((len(at), cells), np.float32)
    rows = np.arange(len(at))
    for cell in (first + k for k in range(degree + 1)):
        np.add.at(matrix, (rows, np.clip(cell, 0, cells - 1)), _b_spline(at - cell, degree))
    return matrix


def _b_spline(t: np.ndarray, degree: int) -> np.ndarray:
    """The centred uniform B-spline of degree 1 or 2, for |t| up to (degree + 1) / 2."""
    t = np.abs(t)
    if degree == 1:
        return np.maximum(1 - t, 0)
    return np.where(t < 0.5, 0.75 - t**2, np.maximum(1.5 - t, 0) ** 2 / 2)


def resized(values: np.ndarray, matrices: Sequence[np.ndarray]) -> np.ndarray:
    """A map (z, y, x) resampled along each axis by a matrix of `interpolation`; (Z, Y, X) float32."""
    along_z, along_y, along_x = (torch.from_numpy(m) for m in matrices)
    planes = along_y @ torch.from_numpy(np.ascontiguousarray(values, np.float32)) @ along_x.T
    return (along_z @ planes.flatten(1)).reshape(len(along_z), *planes.shape[1:]).numpy()


@dataclass(frozen=True)
class SpotMap:
    """The activation of a volume on a grid of about a millimetre, on which hot spots are looked for.

    Attributes
    ----------
    activation : (z, y, x) float32.
    spacing : mm along z, y, x.
    step : voxels of the network's grid a voxel here.
    """

    activation: np.ndarray
    spacing: tuple[float, float, float]
    step: tuple[float, float, float]

    def window(self, patch: Sequence[int]) -> tuple[int, ...]:
        """The (z, y, x) voxels here of a patch of the network's grid."""
        return tuple(max(1, round(n / s)) for n, s in zip(patch, self.step, strict=True))


def spot_map(
    cells: np.ndarray, scale: Sequence[int], shape: Sequence[int], spacing: Sequence[float], degree: int = 1
) -> SpotMap:
    """An `activation` of cells, resampled.

    Parameters
    ----------
    cells : (z, y, x) float32, of a volume of `shape` voxels with `spacing` mm along z, y, x.
    scale : the network's.
    degree : see `interpolation`.
    """
    size = [max(1, round(n * s)) for n, s in zip(shape, spacing, strict=True)]
    step = [n / k for n, k in zip(shape, size, strict=True)]
    places = [(np.arange(k) + 0.5) * s - 0.5 for k, s in zip(size, step, strict=True)]
    matrices = [interpolation(*args, degree) for args in zip(cells.shape, scale, places, strict=True)]
    mm = tuple(float(s * k) for s, k in zip(spacing, step, strict=True))
    return SpotMap(resized(cells, matrices), mm, tuple(float(s) for s in step))
