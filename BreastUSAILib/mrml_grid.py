"""Where the pixels of images lie, between LPS, in which everything else in BreastUSAI speaks, and the RAS of MRML nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .breast_position import NIPPLE
from .errors import DataError
from .findings import PEAK, Box, Finding, ImageInfo, Study

if TYPE_CHECKING:
    from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_NEAR = 0.1  # of a voxel, by which grids may differ that went through files of few digits


def on_grid(study: Study, info: ImageInfo) -> Study:
    """A study on another grid of as many voxels, about the same voxels as before. Masks and maps, which count by voxel here, stay as they are;
    on a grid of another size, so does all. A 2D image and a volume of one slice of its size are as large."""
    before, after = _slice_last(study.image), _slice_last(info)
    if info == study.image or _size_along(study.image, before) != _size_along(info, after):
        return study
    move = index_to_lps(info)[:, [*after, 3]] @ np.linalg.inv(index_to_lps(study.image)[:, [*before, 3]])
    scale = grid_3d(info)[0][after] / grid_3d(study.image)[0][before]

    def there(point: Sequence[float]) -> tuple[float, ...]:
        return tuple(float(v) for v in (move @ [*point, 1.0])[:3])

    def moved(finding: Finding) -> Finding:
        size = np.zeros(3)
        size[after] = np.array(finding.box.size)[before] * scale
        if info.dimension != study.image.dimension:  # a box has no thickness in a 2D image, that of the slice in a volume
            size[after[-1]] = 0 if info.dimension == 2 else grid_3d(info)[0][after[-1]]
        box = Box(there(finding.box.center), tuple(size.tolist()))
        peak = [finding.evidence.get(name) for name in PEAK]
        evidence = {} if None in peak else dict(zip(PEAK, there(peak), strict=True))
        return replace(finding, box=box, evidence={**finding.evidence, **evidence})

    provenance, nipple = study.provenance, study.provenance.get(NIPPLE)
    if nipple:
        provenance = {**provenance, NIPPLE: {**nipple, "position": list(there(nipple["position"]))}}
    return replace(study, image=info, findings=tuple(map(moved, study.findings)), provenance=provenance)


def same_voxels(one: ImageInfo, other: ImageInfo) -> bool:
    """Whether the voxels of two 3D grids of one size are at the same places, in the same order or reversed along some axes."""
    return same_places(index_to_lps(one), index_to_lps(other), one.size)


def same_places(one: np.ndarray, other: np.ndarray, size: Sequence[int], near: float = _NEAR) -> bool:
    """Whether two 4x4 matrices lead from the indices of `size` voxels to the same places, in the same order or reversed along some axes; `near`:
    by which part of a voxel these may differ."""
    last = np.array(size) - 1
    corners = np.array([np.zeros(3), *np.diag(last)])  # the first voxel, and the one at the end of each axis
    between = np.linalg.inv(other) @ one
    index = corners @ between[:3, :3].T + between[:3, 3]
    reverse = index[0] > last / 2
    return bool(np.abs(index - np.where(reverse, last - corners, corners)).max() < near)


@dataclass(frozen=True)
class Frame:
    """How a study's coordinates lie in a volume node's own space.

    A 3D study and its volume share physical space (`placed`); the order of the voxels may differ, as Slicer reverses the slices
    of left-handed images when it reads them. A 2D study and its slice share the pixels; the slice may lie along any
    axis of the volume, and its own two axes come first here.

    Attributes
    ----------
    pixel_to_ras : 4x4, index of a pixel of the study's image -> node RAS mm.
    to_ras : 4x4, study LPS mm -> node RAS mm.
    axes : 3x3, the image's axes as columns, RAS.
    scale : node mm per study mm along each axis.
    thickness : of the one slice of a 2D image, mm; None in 3D.
    """

    pixel_to_ras: np.ndarray
    to_ras: np.ndarray
    axes: np.ndarray
    scale: np.ndarray
    thickness: float | None

    @classmethod
    def of(cls, info: ImageInfo, volume_node: vtkMRMLScalarVolumeNode) -> Frame:
        data = volume_node.GetImageData()
        size = (0, 0, 0) if data is None else data.GetDimensions()
        order = plane_first(volume_node) if info.dimension == 2 else (0, 1, 2)
        if tuple(size[axis] for axis in order) != (*info.size, 1)[:3]:
            raise DataError(
                f"the study is about {info.path} with {' x '.join(map(str, info.size))} pixels, the volume "
                f"{volume_node.GetName()} has {' x '.join(map(str, size))}; choose the volume that was analysed."
            )
        spacing, _origin, axes = grid_3d(info)
        pixel_to_lps = index_to_lps(info)
        if info.dimension == 3:
            return cls(
                pixel_to_ras=LPS_TO_RAS @ pixel_to_lps,
                to_ras=LPS_TO_RAS,
                axes=LPS_TO_RAS[:3, :3] @ axes,
                scale=np.ones(3),
                thickness=None,
            )
        first = np.eye(4)
        first[:3, 3] = data.GetExtent()[::2]  # a cropped volume may start at another index than 0
        pixel_to_ras = (ijk_to_ras(volume_node) @ first)[:, [*order, 3]]
        node_spacing = np.array(volume_node.GetSpacing())[[*order]]
        return cls(
            pixel_to_ras=pixel_to_ras,
            to_ras=pixel_to_ras @ np.linalg.inv(pixel_to_lps),
            axes=axes_of(volume_node)[:, [*order]],
            scale=node_spacing / spacing,
            thickness=float(node_spacing[2]),
        )

    @property
    def box_axes(self) -> np.ndarray:
        """The image's axes as an ROI needs them."""
        return right_handed(self.axes)

    def to_node(self, box: Box) -> tuple[np.ndarray, np.ndarray]:
        """Centre (RAS) and size of a study's box in the node's space."""
        center = (self.to_ras @ [*box.center, 1.0])[:3]
        size = np.array(box.size) * self.scale
        if self.thickness is not None:
            size[2] = self.thickness
        return center, size

    def from_node(self, roi: vtkMRMLMarkupsROINode, way: np.ndarray | None = None) -> Box:
        """The study's box of an ROI node; `way`: 4x4, from the ROI's space to the volume's (`mrml_moved.way_to_volume`), None where it is one."""
        way = np.eye(4) if way is None else way
        center = np.linalg.inv(self.to_ras) @ way @ [*roi.GetCenter(), 1.0]
        roi_axes = way[:3, :3] @ object_to_node(roi)[:3, :3]
        # The smallest box along the image's axes around an oriented one: project its half edges on each axis.
        size = np.abs(np.linalg.inv(self.axes) @ roi_axes) @ np.array(roi.GetSize()) / self.scale
        if self.thickness is not None:
            center[2], size[2] = 0.0, 0.0
        return Box(tuple(center[:3]), tuple(size))


def grid_3d(info: ImageInfo) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spacing (3), origin (3, LPS) and axes (3x3, columns) of an image; 2D images lie at z = 0, 1 mm thick."""
    d = info.dimension
    spacing, origin, axes = np.ones(3), np.zeros(3), np.eye(3)
    spacing[:d], origin[:d] = info.spacing, info.origin
    axes[:d, :d] = np.reshape(info.direction, (d, d))
    return spacing, origin, axes


def index_to_lps(info: ImageInfo) -> np.ndarray:
    """4x4, index of a pixel -> LPS mm; see `grid_3d`."""
    spacing, origin, axes = grid_3d(info)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = axes * spacing, origin
    return matrix


def _slice_last(info: ImageInfo) -> list[int]:
    """The three axes of an image, that of a single slice last; a 2D image's third is across it."""
    across = max((axis for axis, n in enumerate(info.size) if n == 1), default=2) if info.dimension == 3 else 2
    return [*(axis for axis in range(3) if axis != across), across]


def _size_along(info: ImageInfo, axes: Sequence[int]) -> tuple[int, ...]:
    """Voxels along these axes; a 2D image has one across it."""
    return tuple((*info.size, 1)[axis] for axis in axes)


def plane_first(node: Any) -> tuple[int, int, int]:
    """A volume's axes, those of its one slice first and the one across it last (see `grid.as_2d`)."""
    data = node.GetImageData()
    size = (0, 0, 0) if data is None else data.GetDimensions()
    across = max((axis for axis in range(3) if size[axis] == 1), default=2)
    return (*(axis for axis in range(3) if axis != across), across)


def ijk_to_ras(node: Any) -> np.ndarray:
    """4x4, index of a voxel of a volume node -> RAS mm, without its parent transform."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


def axes_of(node: Any) -> np.ndarray:
    """The volume's axes as columns, RAS, without its parent transform."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASDirectionMatrix(matrix)
    return np.array([[matrix.GetElement(r, c) for c in range(3)] for r in range(3)])


def right_handed(axes: np.ndarray) -> np.ndarray:
    """Axes (columns) as an ROI needs them; a box looks the same with an axis reversed."""
    return axes * (1, 1, -1) if np.linalg.det(axes) < 0 else axes


def object_to_node(roi: Any) -> np.ndarray:
    """4x4, a box's own coordinates -> node RAS mm."""
    matrix = roi.GetObjectToNodeMatrix()
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


def vtk_matrix(values: np.ndarray) -> Any:
    """A 4x4 array as vtkMatrix4x4."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(np.asarray(values, float).ravel())
    return matrix
