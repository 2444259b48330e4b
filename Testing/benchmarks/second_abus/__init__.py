"""A second generator of synthetic automated breast ultrasound (ABUS), which shares no code, tables or parameters with the project's own.

It exists to measure whether what was trained on `BreastUSAILib.phantom` works on volumes that another hand made. It must stay that: nothing
here may be imported by the package, nothing of the package's phantoms may be imported here, and no network may be trained on its volumes.

The chain, one module each: `noise` (smooth random fields), `tissue` (layers of a compressed breast as echogenicity and attenuation), `lesion`
(descriptors, shape, place), `ultrasound` (speckle, transmission, noise, log compression), `volume` (a seed in, a volume with its truth out),
`records` (the files that the evaluations read).

Arrays are (depth, slice, lateral) while a volume is made, float32; lengths are millimetres, levels decibels relative to glandular tissue.
"""
