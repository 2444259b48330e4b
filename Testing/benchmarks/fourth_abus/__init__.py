"""A fourth generator of synthetic ABUS volumes, to measure on and never to train on: the acoustics first.

Tissue is described by what a scanner feels of it: mean backscatter (dB against fat), attenuation (dB/cm/MHz) and how clumped its scatterers are.
Shadows and enhancement come from attenuation along the beam (`beam`), grey levels from complex speckle under a point-spread function that widens away
from the focus, with noise behind a gain that rises with depth (`image`). It was written without a look at the other generators, so that detectors
are measured on what is strange to them; of the project it shares nothing but the files' layout.

Arrays are (slice, depth, lateral) throughout, called z, y, x; lengths are mm, levels dB. The coarse grid has every second voxel across and every voxel
in depth.
"""
