"""Images as volume nodes, and back: voxels, grids, and whether millimetres are known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from .acquisition import CurvedAcquisition
from .errors import DataError, ImageError
from .findings import ImageInfo, Study
from .grid import as_2d
from .mrml_grid import LPS_TO_RAS, Frame, axes_of, grid_3d, ijk_to_ras, index_to_lps, on_grid, plane_first, same_voxels
from .mrml_names import SPACING_KNOWN
from .mrml_nodes import item_of, place_beside
from .pixels import in_grey
from .slicer_runtime import import_slicer

if TYPE_CHECKING:
    from slicer import vtkMRMLGridTransformNode, vtkMRMLScalarVolumeNode, vtkMRMLScene

# Pictures state a resolution for printing, if any: 72 or 96 dots an inch, whatever is seen in them.
_PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
_CONTROL_MM = 5.0


def add_volume(scene: vtkMRMLScene, image: sitk.Image, name: str, spacing_known: bool = True) -> Any:
    """A scalar volume node of an image, with a display node.

    Parameters
    ----------
    scene : where the node goes.
    image : 2D or 3D, one component. A 2D image becomes one slice, 1 mm thick, at z = 0. 64-bit integers, which VTK in
        Slicer refuses, become int32 where the values fit and float64 where not.
    name : the node's name.
    spacing_known : False when nobody knows what a pixel measures; kept as the attribute `SPACING_KNOWN`.

    Returns
    -------
    vtkMRMLScalarVolumeNode

    Raises
    ------
    ImageError : more than one component, complex values, or neither 2 nor 3 dimensions.
    """
    import vtk

    voxels = _voxels(image, name)
    spacing, origin, axes = grid_3d(ImageInfo.of(image, name))
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))
    node.SetSpacing(*spacing)
    node.SetOrigin(*(LPS_TO_RAS[:3, :3] @ origin))
    node.SetIJKToRASDirections(*(LPS_TO_RAS[:3, :3] @ axes).ravel())
    node.SetAndObserveImageData(image_data_of(voxels, vtk.vtkImageData()))
    node.SetAttribute(SPACING_KNOWN, "1" if spacing_known else "0")
    node.CreateDefaultDisplayNodes()
    low, high = _display_range(voxels)
    display = node.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(low, high)
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    item_of(scene, node)
    return node


def add_volume_beside(
    scene: vtkMRMLScene, image: sitk.Image, volume_node: vtkMRMLScalarVolumeNode, name: str
) -> vtkMRMLScalarVolumeNode:
    """A volume node of a picture that lies on the grid of another's image: at its place, under its transform, beside it in the tree.

    Raises
    ------
    DataError : the picture is of another size than the volume, or see `placed`.
    ImageError : see `add_volume`.
    """
    import vtk

    frame = Frame.of(_grid_now(ImageInfo.of(image, name), volume_node), volume_node)
    node = add_volume(scene, image, name, spacing_known(volume_node))
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(frame.pixel_to_ras.ravel())
    node.SetIJKToRASMatrix(matrix)
    place_beside(scene, node, volume_node)
    return node


def add_acquisition_transform(
    scene: vtkMRMLScene, volume_node: vtkMRMLScalarVolumeNode, acquisition: CurvedAcquisition
) -> vtkMRMLGridTransformNode:
    """Put a volume of a curved transducer where it lies in the body: under a grid transform, as Slicer's DICOMGeAbusPlugin does.

    The volume's own grid stays what it is. What is shown with it afterwards (`show_study`, `show_detections`) comes under the
    same transform. Between its control points, some `_CONTROL_MM` apart, Slicer interpolates linearly.
    """
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    slicer = import_slicer()
    size, spacing = np.array(volume_node.GetImageData().GetDimensions()), np.array(volume_node.GetSpacing())
    apart = np.maximum(1, np.floor(_CONTROL_MM / spacing)).astype(int)
    counts = -(-(size - 1) // apart) + 1 + (size == 1)  # up to the last voxel, or one behind it
    voxels = np.stack(np.meshgrid(*(np.arange(n) * a for n, a in zip(counts, apart, strict=True)), indexing="ij"), axis=-1)
    matrix = LPS_TO_RAS @ ijk_to_ras(volume_node)
    points = voxels @ matrix[:3, :3].T + matrix[:3, 3]
    displacements = (acquisition.to_physical(points) - points) @ LPS_TO_RAS[:3, :3]
    grid = vtk.vtkImageData()
    grid.SetDimensions([int(n) for n in counts])
    grid.SetOrigin(*volume_node.GetOrigin())
    grid.SetSpacing(*(apart * spacing))
    in_vtk_order = np.ascontiguousarray(displacements.transpose(2, 1, 0, 3)).reshape(-1, 3)
    grid.GetPointData().SetScalars(numpy_to_vtk(in_vtk_order, deep=True))
    directions = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASDirectionMatrix(directions)
    transform = slicer.vtkOrientedGridTransform()
    transform.SetGridDirectionMatrix(directions)
    transform.SetDisplacementGridData(grid)
    name = scene.GenerateUniqueName(f"{volume_node.GetName()} acquisition transform")
    node = scene.AddNewNodeByClass("vtkMRMLGridTransformNode", name)
    node.SetAndObserveTransformToParent(transform)
    node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    volume_node.SetAndObserveTransformNodeID(node.GetID())
    tree = scene.GetSubjectHierarchyNode()
    tree.SetItemParent(item_of(scene, node), tree.GetItemParent(item_of(scene, volume_node)))
    return node


def image_from_volume(node: vtkMRMLScalarVolumeNode) -> sitk.Image:
    """The voxels of a volume node on its own grid (LPS), without its parent transform.

    Parameters
    ----------
    node : scalar or vector (colour) volume.

    Returns
    -------
    SimpleITK.Image : always 3D, with as many components as the node has; a 2D image has one slice.

    Raises
    ------
    ImageError : the node has no voxels.
    """
    from vtk.util.numpy_support import vtk_to_numpy

    data = node.GetImageData()
    scalars = None if data is None else data.GetPointData().GetScalars()
    if scalars is None or min(data.GetDimensions()) < 1:
        raise ImageError(f"the volume {node.GetName()} holds no voxels; load an image into it or choose another volume.")
    columns, rows, slices = data.GetDimensions()
    components = scalars.GetNumberOfComponents()
    shape = (slices, rows, columns) if components == 1 else (slices, rows, columns, components)
    image = sitk.GetImageFromArray(vtk_to_numpy(scalars).reshape(shape), isVector=components > 1)
    info = info_of(node)
    image.SetSpacing(info.spacing)
    image.SetDirection(info.direction)
    image.SetOrigin(info.origin)
    return image


def image_for(info: ImageInfo, node: vtkMRMLScalarVolumeNode) -> sitk.Image:
    """The voxels of a volume node as a study of them takes them, in grey as `image.read_image` has colours: of a 2D study, the slice on the study's own
    grid, where a pixel may count as 1 while the volume has a spacing. Raises `ImageError`, see `image_from_volume`."""
    image, _ = in_grey(image_from_volume(node))
    plane = as_2d(image) if info.dimension == 2 else None
    if plane is None or plane.GetSize() != info.size:
        return image
    plane.SetSpacing(info.spacing)
    plane.SetOrigin(info.origin)
    plane.SetDirection(info.direction)
    return plane


def info_of(node: vtkMRMLScalarVolumeNode) -> ImageInfo:
    """Name and grid (LPS) of a volume node, without its parent transform; of one without voxels the size is 0. Reads no voxel."""
    data = node.GetImageData()
    # A cropped vtkImageData may start at another index than 0.
    first = np.zeros(3) if data is None else np.array(data.GetExtent()[::2], float)
    return ImageInfo(
        node.GetName(),
        (0, 0, 0) if data is None else data.GetDimensions(),
        node.GetSpacing(),
        tuple((LPS_TO_RAS @ ijk_to_ras(node) @ [*first, 1.0])[:3]),
        tuple((LPS_TO_RAS[:3, :3] @ axes_of(node)).ravel()),
        volume_spacing_known(node),
    )


def spacing_known(node: vtkMRMLScalarVolumeNode) -> bool:
    """Whether the volume's millimetres are real.

    Where BreastUSAI read the image or a person gave the spacing, the attribute `SPACING_KNOWN` says it. Of other volumes
    it is guessed: what Slicer read from a picture (PNG, JPEG, BMP, TIFF) has the spacing of a print (0.2646 mm at 96 dots
    an inch) or 1 mm, and so it is unknown; elsewhere 1 mm in both directions of the plane, which no ultrasound image
    has, means unknown. A picture that was saved from Slicer as NRRD before BreastUSAI saw it no longer shows its origin:
    a print's spacing counts as known there.
    """
    attribute = node.GetAttribute(SPACING_KNOWN)
    if attribute is not None:
        return attribute in ("1", "user")
    storage = node.GetStorageNode()
    if storage is not None and (storage.GetFileName() or "").lower().endswith(_PICTURE_ENDINGS):
        return False
    return any(node.GetSpacing()[axis] != 1.0 for axis in plane_first(node)[:2])


def spacing_by_user(node: vtkMRMLScalarVolumeNode) -> float:
    """The pixel spacing that a person gave with `set_pixel_spacing`, mm; 0 when none did."""
    if node.GetAttribute(SPACING_KNOWN) != "user":
        return 0.0
    return node.GetSpacing()[plane_first(node)[0]]


def is_volume(node: vtkMRMLScalarVolumeNode) -> bool:
    """Whether a volume node has several slices along each axis; a 2D image has one slice."""
    data = node.GetImageData()
    return data is not None and min(data.GetDimensions()) > 1


def volume_spacing_known(node: vtkMRMLScalarVolumeNode) -> bool:
    """Whether the millimetres of a volume of several slices may be real. 1 mm along all axes may be, unless the file was known
    to be silent; what would be larger than any breast is refused by the tasks."""
    return node.GetAttribute(SPACING_KNOWN) != "0" or tuple(node.GetSpacing()) != (1.0, 1.0, 1.0)


def placed(study: Study, volume_node: vtkMRMLScalarVolumeNode, pixel_spacing: float | None = None) -> Study:
    """A study where its volume is now: one that was moved since it was analysed (centred, a transform hardened) takes its findings along.

    Studies with two-dimensional coordinates follow their pixels anyway, and come back as they are.

    Parameters
    ----------
    pixel_spacing : see `add_segmentation`.

    Raises
    ------
    DataError : the voxels are of another spacing now, so that figures and boxes would be wrong, or the volume was mirrored.
    """
    return on_grid(study, _grid_now(study.image, volume_node, pixel_spacing))


def _grid_now(info: ImageInfo, volume_node: Any, pixel_spacing: float | None = None) -> ImageInfo:
    """The grid of an image where its volume is now, see `placed`; another one's as it is. A curved sweep lies in the body where its own grid
    says, and stays there."""
    here = info_of(volume_node)
    if info.dimension == 2 or info.acquisition is not None or info.size != here.size:
        return info
    if pixel_spacing:  # which the volume is about to get
        here = replace(here, spacing=info.spacing)
    if same_voxels(info, here):
        return info
    if not np.allclose(info.spacing, here.spacing, rtol=1e-3):
        before, now = (" x ".join(f"{s:g}" for s in grid.spacing) for grid in (info, here))
        raise DataError(
            f"{here.path} had voxels of {before} mm when it was analysed and has voxels of {now} mm now; repeat the analysis."
        )
    if np.linalg.det(index_to_lps(info)) * np.linalg.det(index_to_lps(here)) < 0:
        raise DataError(
            f"{here.path} was mirrored since it was analysed, or moved with its slices in the other order; repeat the analysis."
        )
    return replace(info, origin=here.origin, direction=here.direction)


def _voxels(image: sitk.Image, name: str) -> np.ndarray:
    """The pixels (z, y, x) in a type that VTK in Slicer takes."""
    if image.GetDimension() not in (2, 3):
        raise ImageError(f"{name} has {image.GetDimension()} dimensions; a volume needs 2 or 3.")
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise ImageError(f"{name} has several components a pixel; convert it to grey values first.")
    voxels = sitk.GetArrayFromImage(image)
    if np.iscomplexobj(voxels):
        raise ImageError(f"{name} has complex values; convert it to magnitudes first.")
    if voxels.dtype in (np.int64, np.uint64):
        limits = np.iinfo(np.int32)
        fits = voxels.size == 0 or (limits.min <= voxels.min() and voxels.max() <= limits.max)
        voxels = voxels.astype(np.int32 if fits else np.float64)
    return voxels if voxels.ndim == 3 else voxels[np.newaxis]


def image_data_of(voxels: np.ndarray, data: Any) -> Any:
    """Fill a new VTK image with voxels (z, y, x)."""
    from vtk.util.numpy_support import get_vtk_array_type, numpy_to_vtk

    data.SetDimensions(*voxels.shape[::-1])
    array = numpy_to_vtk(np.ascontiguousarray(voxels).ravel(), deep=True, array_type=get_vtk_array_type(voxels.dtype))
    array.SetName("ImageScalars")
    data.GetPointData().SetScalars(array)
    return data


def _display_range(voxels: np.ndarray) -> tuple[float, float]:
    """Grey values shown as black and white. B-mode images are log-compressed to 8 bits already: all of it."""
    if voxels.dtype == np.uint8:
        return 0.0, 255.0
    finite = voxels[np.isfinite(voxels)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(finite, (0.1, 99.9)))
    return (low, high) if high > low else (low, low + 1.0)
