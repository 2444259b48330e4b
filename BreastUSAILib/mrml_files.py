"""Scenes as files."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import SimpleITK as sitk

from .atomic import atomic_path
from .errors import OutputError
from .findings import Study
from .mrml_study import open_at_finding, open_in_red_view, show_detections, show_study, shows_masks
from .mrml_volumes import add_acquisition_transform, add_volume
from .slicer_runtime import import_slicer, private_scene

if TYPE_CHECKING:
    from slicer import vtkMRMLScene


def save_scene(scene: vtkMRMLScene, path: str | os.PathLike) -> Path:
    """Write the scene and all its data as one ``.mrb`` file, whole or not at all.

    Raises
    ------
    OutputError : the name does not end in .mrb, or the file cannot be written.
    """
    slicer = import_slicer()
    path = Path(path)
    if path.suffix.lower() != ".mrb":
        raise OutputError(f"{path} cannot be written: a scene's file name must end in .mrb.")
    with atomic_path(path) as temporary, tempfile.TemporaryDirectory(dir=temporary.parent, prefix=".tmp-") as folder:
        # MRML names the folder inside the bundle after the file, so the file needs its final name while it is made.
        bundle = Path(folder).absolute() / path.name  # MRML takes no relative path
        messages = slicer.vtkMRMLMessageCollection()
        if not scene.WriteToMRB(str(bundle), None, messages) or not bundle.is_file():
            reason = " ".join(messages.GetAllMessagesAsString().split())
            raise OutputError(
                f"{path} cannot be written: the scene was not saved{f' ({reason})' if reason else ''}; "
                "check the free space and the permissions of its folder."
            )
        os.replace(bundle, temporary)
    return path


def write_scene(path: str | os.PathLike, image: sitk.Image, study: Study, name: str | None = None) -> Path:
    """A scene file of one image and its study, made in a scene of its own. A 2D image opens in the red view, a volume in
    three slice views and a 3D view at its first finding.

    Parameters
    ----------
    path : the ``.mrb`` file.
    image : what the study is about, on the study's grid.
    name : of the volume; by default the image's file name without its ending.

    Raises
    ------
    DependencyError : slicer-core is not installed.
    DataError, ImageError, OutputError : see `show_study`, `add_volume` and `save_scene`.
    """
    with private_scene() as scene:
        # Only an ending that begins with a letter is one: DICOM files are named 1.2.840.113619.2.5.
        name = name or re.sub(r"(\.nii)?\.[A-Za-z]\w*$", "", Path(study.image.path).name) or "image"
        volume = add_volume(scene, image, name, study.image.spacing_known)
        if study.image.acquisition is not None:
            add_acquisition_transform(scene, volume, study.image.acquisition)
        if shows_masks(study):
            show_study(scene, study, volume)
        else:
            show_detections(scene, study, volume)
        if min(image.GetSize()) > 1 and image.GetDimension() == 3:
            open_at_finding(scene, study, volume)
        else:
            open_in_red_view(scene, volume)
        if study.uncertainty is not None:
            from . import uncertainty_map
            from .mrml_overlay import add_map

            add_map(scene, study.uncertainty, volume, "uncertainty", uncertainty_map.PERCENT)
        if study.heatmap is not None:
            from .mrml_heatmap import FULL
            from .mrml_overlay import add_map, show_over

            show_over(volume, add_map(scene, study.heatmap, volume, "heatmap", FULL))
        if study.activation is not None:  # over the heatmap: where there are grades, these are asked about
            from .activation import PERCENT
            from .mrml_overlay import add_map, show_over

            show_over(volume, add_map(scene, study.activation, volume, "activation", PERCENT))
        return save_scene(scene, path)
