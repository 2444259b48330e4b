"""The benign kinds of lesion, as a teacher would tell them apart."""

from __future__ import annotations

from .kind import BRIGHT, CLEAR, SAME, Kind

_C, _I, _A, _M = "circumscribed", "indistinct", "angular", "microlobulated"

BENIGN = {
    "simple cyst": Kind(4, "smooth", (_C,), "anechoic", CLEAR, "plain", (0.6, 1), (-1.0, -0.4), capsule=0.4, size=0.8),
    "debris cyst": Kind(1.5, "smooth", (_C,), "hypoechoic", (-15, -9), "level", (0.6, 1), (-0.6, -0.1), capsule=0.4),
    "microcysts": Kind(1, "lobed", (_C, _M), "complex cystic and solid", (-9, -5), "foam", (0.5, 0.9), (-0.4, 0)),
    "cystic solid": Kind(
        1, "smooth", (_C,), "complex cystic and solid", (-26, -18), "nodule", (0.6, 1), (-0.6, -0.1), capsule=0.6
    ),
    "fibroadenoma": Kind(
        5,
        "oval",
        (_C,),
        "hypoechoic",
        (-11, -5),
        "plain",
        (0.4, 0.75),
        (-0.35, 0.1),
        capsule=0.5,
        calcified=(("in mass", 0.08),),
    ),
    "pale fibroadenoma": Kind(1.5, "oval", (_C,), "isoechoic", SAME, "plain", (0.45, 0.75), (-0.2, 0.1), capsule=1.0),
    "phyllodes": Kind(
        0.8, "lobed", (_C,), "heterogeneous", (-10, -5), "clefts", (0.6, 0.95), (-0.6, 0), capsule=0.4, size=2.5
    ),
    "papilloma": Kind(1, "smooth", (_C, _M), "hypoechoic", (-9, -5), "duct", (0.5, 0.9), (-0.2, 0.1), size=0.4),
    "fat necrosis": Kind(
        0.8,
        "smooth",
        (_C, _I),
        "complex cystic and solid",
        (-20, -6),
        "oil",
        (0.6, 1),
        (0.0, 0.7),
        (0.3, 1.0),
        calcified=(("in mass", 0.3),),
        capsule=0.7,
    ),
    "hyperechoic": Kind(1.2, "oval", (_C, _I), "hyperechoic", BRIGHT, "plain", (0.4, 0.8), (-0.1, 0.2), (0.3, 1.2)),
    "hamartoma": Kind(
        0.6, "oval", (_C,), "heterogeneous", (-3, 4), "islands", (0.4, 0.7), (-0.1, 0.2), capsule=1.0, size=2.0
    ),
    "scarred adenosis": Kind(
        0.6, "rough", (_I, _A), "hypoechoic", (-10, -5), "plain", (0.5, 1), (0.0, 0.6), (0.5, 1.2), distortion=0.5
    ),
}
