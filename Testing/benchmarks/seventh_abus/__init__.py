"""A seventh, independent generator of ABUS volumes: a reading-room teacher's cases of several makes of scanner,
lesions and what is taken for them.

To train on, never to measure on. Echoes are in dB against fat at the same place; arrays are (slice, depth, lateral)
throughout, lengths mm.
"""
