"""Names under which MRML nodes keep what BreastUSAI knows of them, and by which they refer to each other."""

from __future__ import annotations

SPACING_KNOWN = "BreastUSAI.SpacingKnown"  # attribute of a volume: "1", "0", or "user" where a person said it
FINDING = "BreastUSAI.Finding"  # attribute of an ROI, tag of a segment: the finding's id
STUDY = "BreastUSAI.Study"  # attribute of a segmentation, or of the table of a study without masks: the study's JSON
PIXELS = "BreastUSAI.PixelSpacing"  # attribute beside STUDY, of a 2D image: the spacing of its volume when it was laid over that, mm
ANALYSED = "BreastUSAI.AnalysedPixels"  # attribute beside STUDY: a checksum of the pixels in which the study was found
BELONGS_TO = "BreastUSAISegmentation"  # node reference from ROI, points and table to the segmentation
HEATMAP = "BreastUSAI.Heatmap"  # attribute of a table of hot spots (`mrml_heatmap`), which are no findings
SHOWN_WITH = "BreastUSAITable"  # where there is no segmentation: from ROI and points to the table
ORIGINAL = "BreastUSAI.Original"  # attribute of all of these nodes: it refers to itself (ITSELF), and a copy of it does not
ITSELF = "BreastUSAIItself"  # such a node reference, which follows where the scene gives another id
SEGMENT = "BreastUSAI.Segment"  # tag of a segment: its own id, which a copy of it does not have
ABOUT = "BreastUSAIVolume"  # node reference from such a table to the volume that was analysed
