"""A fifth, independent generator of ABUS volumes: random pictures of tissue, widely drawn, with nothing simulated.

It is what somebody who tests a detector would write in a day: smooth random fields for tissue, multiplied speckle, painted lesions, shadows and
artefacts, and a grey map. Nothing in it follows the physics of a scanner; its worth is its width, so that volumes of a generator or scanner nobody
has seen lie within its range. To train on and never to measure on.

Arrays are (slice, depth, lateral); lengths mm; echo dB. Tissue is drawn on a half grid, with every second voxel of slice and lateral (`fields`).
"""
