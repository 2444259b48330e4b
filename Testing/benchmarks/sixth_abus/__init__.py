"""Synthetic ABUS volumes drawn as a sonographer would sketch a breast: objects first, then one of several scanners that looks at them.

To train on, never to measure on. Nothing of the project's phantoms nor of the other generators is used. What holds throughout:

- arrays are (slice, depth, lateral), lengths are mm, echoes are dB against subcutaneous fat;
- anatomy lives on a half grid (every second voxel along slice and lateral, all along depth), lesions and speckle on the full one.
"""
