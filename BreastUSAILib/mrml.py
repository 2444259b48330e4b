"""Images, findings and studies as MRML nodes, and back. All that the files `mrml_*.py` below it do.

Everything else in BreastUSAI speaks LPS millimetres; MRML speaks RAS. A node's own coordinates are meant throughout:
outputs are made in the local space of the input volume and put under the input's parent transform, so they stay with
it under any transform, linear or not.

A 2D image is a volume of one slice. Its study keeps two-dimensional coordinates; they are carried over by pixel index,
so the slice may stand anywhere in space.
"""

from __future__ import annotations

from .mrml_files import save_scene, write_scene
from .mrml_grid import on_grid
from .mrml_masks import MaskCrop, mask_crops
from .mrml_names import ABOUT, ANALYSED, BELONGS_TO, FINDING, HEATMAP, PIXELS, SHOWN_WITH, SPACING_KNOWN, STUDY
from .mrml_nodes import place_beside
from .mrml_parts import add_boxes, add_points, add_segmentation, add_table, may_hold, shows_other_image
from .mrml_pointing import box_of_roi, detections_of, drawn_boxes, points_of, shown_findings, start_placing
from .mrml_shown import (
    ShownParts,
    detected_in,
    finding_position,
    holds_other_detections,
    jump_to_finding,
    parts_of,
    show_from_score,
    study_from_nodes,
)
from .mrml_spacing import set_pixel_spacing
from .mrml_study import DetectionNodes, StudyNodes, remove_study, show_detections, show_study, shows_masks
from .mrml_volumes import (
    add_acquisition_transform,
    add_volume,
    add_volume_beside,
    image_for,
    image_from_volume,
    info_of,
    is_volume,
    placed,
    spacing_by_user,
    spacing_known,
    volume_spacing_known,
)

__all__ = [
    "ABOUT",
    "ANALYSED",
    "BELONGS_TO",
    "FINDING",
    "HEATMAP",
    "PIXELS",
    "SHOWN_WITH",
    "SPACING_KNOWN",
    "STUDY",
    "DetectionNodes",
    "MaskCrop",
    "ShownParts",
    "StudyNodes",
    "add_acquisition_transform",
    "add_boxes",
    "add_points",
    "add_segmentation",
    "add_table",
    "add_volume",
    "add_volume_beside",
    "box_of_roi",
    "detected_in",
    "detections_of",
    "drawn_boxes",
    "finding_position",
    "holds_other_detections",
    "image_for",
    "image_from_volume",
    "info_of",
    "is_volume",
    "jump_to_finding",
    "mask_crops",
    "may_hold",
    "on_grid",
    "parts_of",
    "place_beside",
    "placed",
    "points_of",
    "remove_study",
    "save_scene",
    "set_pixel_spacing",
    "show_detections",
    "show_from_score",
    "show_study",
    "shown_findings",
    "shows_masks",
    "shows_other_image",
    "spacing_by_user",
    "spacing_known",
    "start_placing",
    "study_from_nodes",
    "volume_spacing_known",
    "write_scene",
]
