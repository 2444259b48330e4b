"""Classes of markups for the parameters of Slicer modules, which are named where a module's file is read.

Imported by the Slicer modules only.
"""

try:
    from slicer import vtkMRMLMarkupsFiducialNode, vtkMRMLMarkupsROINode
except ImportError:
    # Modules are read by their names' order, and `slicer` has the classes of loadable modules only when the first of those was read: usually
    # Annotations, which Slicer may be started without. This is the file that they come from.
    from vtkSlicerMarkupsModuleMRMLPython import vtkMRMLMarkupsFiducialNode, vtkMRMLMarkupsROINode

__all__ = ["vtkMRMLMarkupsFiducialNode", "vtkMRMLMarkupsROINode"]
