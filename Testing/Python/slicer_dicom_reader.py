"""3D Slicer's own DICOM readers, for tests that compare: its C++ reader as PyPI's slicer-core has it, and the geometry that its
DICOMGeAbusPlugin puts on a volume, written anew here from what the plugin does (the plugin itself is not in slicer-core)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS to LPS and back


def matrix_of(vtk_matrix) -> np.ndarray:
    return np.array([[vtk_matrix.GetElement(i, j) for j in range(4)] for i in range(4)])


def read_with_slicer(paths: list[Path], approach: str) -> tuple[np.ndarray, np.ndarray]:
    """(slices, rows, columns) voxels, and the 4x4 matrix from (i, j, k, 1) to LPS. approach: "GDCM" or "DCMTK"."""
    import slicer  # noqa: F401  makes slicer_core importable
    import vtk
    from slicer_core import vtkITK
    from vtk.util.numpy_support import vtk_to_numpy

    reader = vtkITK.vtkITKArchetypeImageSeriesScalarReader()
    reader.SetArchetype(str(paths[0]))
    for path in paths:
        reader.AddFileName(str(path))
    reader.SetSingleFile(len(paths) == 1)
    reader.SetOutputScalarTypeToNative()
    reader.SetDesiredCoordinateOrientationToNative()
    reader.SetUseNativeOriginOn()
    getattr(reader, f"SetDICOMImageIOApproachTo{approach}")()
    reader.Update()
    assert reader.GetErrorCode() == 0
    ijk_to_ras = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(reader.GetRasToIjkMatrix(), ijk_to_ras)
    image = reader.GetOutput()
    voxels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    return voxels, LPS @ matrix_of(ijk_to_ras)


class GeAbusPlugin:
    """What the plugin makes of a volume: its IJK to RAS matrix, and the grid transform above it, in MRML and VTK.

    size, spacing : of the volume, (x, y, z).
    radius : of the probe, mm.
    """

    def __init__(self, size, spacing, radius: float) -> None:
        import slicer
        import vtk
        from vtk.util.numpy_support import vtk_to_numpy

        self.radius, self.spacing, self.size = radius, np.array(spacing, float), tuple(size)
        node = slicer.vtkMRMLScalarVolumeNode()
        matrix = vtk.vtkMatrix4x4()
        matrix.SetElement(0, 0, -1)
        matrix.SetElement(1, 1, -1)
        node.SetIJKToRASMatrix(matrix)
        node.SetSpacing(*spacing)
        node.SetOrigin(size[0] * 0.5 * spacing[0], 0, -size[2] * 0.5 * spacing[2])
        directions = vtk.vtkMatrix4x4()
        node.GetIJKToRASDirectionMatrix(directions)
        ijk_to_ras = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(ijk_to_ras)
        self.ijk_to_ras = matrix_of(ijk_to_ras)
        # A control point at every twentieth voxel or so, along each axis, and one beyond the end.
        apart = np.floor(self.spacing.mean() * 20 / self.spacing).astype(int)
        self.control = [list(range(0, n - 1 + a, a)) for n, a in zip(size, apart, strict=True)]
        grid = vtk.vtkImageData()
        grid.SetOrigin(*node.GetOrigin())
        grid.SetDimensions([len(c) for c in self.control])
        grid.SetSpacing(*(apart * self.spacing))
        grid.AllocateScalars(vtk.VTK_DOUBLE, 3)
        displacements = vtk_to_numpy(grid.GetPointData().GetScalars())
        displacements = displacements.reshape(*grid.GetDimensions()[::-1], 3)
        for at in np.ndindex(displacements.shape[:3]):
            ijk = [self.control[axis][at[2 - axis]] for axis in range(3)]
            displacements[at] = self.target_ras(ijk) - (self.ijk_to_ras @ [*ijk, 1])[:3]
        self.transform = slicer.vtkOrientedGridTransform()
        self.transform.SetGridDirectionMatrix(directions)
        self.transform.SetDisplacementGridData(grid)

    def target_ras(self, ijk) -> np.ndarray:
        """Where the plugin puts a voxel, RAS mm."""
        i, j, k = ijk
        distance = self.radius - j * self.spacing[1]
        angle = (i - (self.size[0] - 1) / 2) * self.spacing[0] / self.radius
        return np.array(
            [
                -distance * math.sin(angle),
                distance * math.cos(angle) - self.radius,
                self.spacing[2] * (k - (self.size[2] - 1) / 2),
            ]
        )

    def through_transform(self, ijk) -> np.ndarray:
        """The same through the grid transform that Slicer would show it with, LPS mm."""
        source = (self.ijk_to_ras @ [*ijk, 1])[:3]
        return LPS[:3, :3] @ np.array(self.transform.TransformPoint(source))
