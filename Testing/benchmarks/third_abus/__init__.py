"""A third generator of synthetic automated breast ultrasound (ABUS), independent of the project's own and of the second one.

It exists to train on: what has seen two hands' phantoms should depend less on the habits of one. It draws as widely as it can (domain
randomisation): amounts of gland, layers, lesions, gains, speckle and compression go further than any one scanner or breast does. Nothing may be
measured on it; for that there are `second_abus` and `fourth_abus`. What it draws was written, and finished, without sight of the code or pictures of
the first two; whoever put it into this form afterwards had seen them, and changed no bit of any volume. Nothing of `BreastUSAILib.phantom` or of
another generator may be imported here.

The chain, a few modules each: `noise`, `filters`, `grid`, `stamps` (tools); `layers`, `gland`, `tissue`, `vessels`, `chest`, `attenuation`,
`contact`, put together in `anatomy` (a breast as maps of echo and attenuation); `lesion_plan`, `lesion_place`, `lesion_shape`, `lesion_render` (what
a lesion is, where it lies, its form, its echoes); `scanner` and `scan` (speckle, noise, compression, post-processing); `volume` (a seed in, a
volume with its truth out); `records` (the files that training reads).

Arrays are (slice z, depth y from the skin, lateral x), float32 where nothing else is said. Lengths are mm. Echoes are dB relative to glandular
tissue, which has 0. Anatomy is made on every second voxel along z and x, and doubled with `filters.upsample`. Random numbers are drawn in the order
in which the code reads: whoever moves a draw changes every volume.
"""
