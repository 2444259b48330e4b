"""The odds of the lexicon's descriptors in benign and in malignant masses: figures, their sources, and what excludes what.

Sources
-------
- Hong et al. 2005 (AJR 184:1260, PMID 15788607), 403 solid masses, 141 malignant: spiculated 19/22 malignant, irregular 102/164, not parallel
  75/109; circumscribed 160/178 benign, oval 200/237, parallel 228/294. Orientation is taken as it stands. Hong's masses hold two round ones alone
  (no cysts were included); a share of round masses is made room for while the odds of malignancy of irregular and oval stay as
  published (solve irregular and oval counts for 24 round masses, 6 of them malignant). The margins between circumscribed and spiculated, which the
  abstract does not give, share Hong's remaining 99 benign and 104 malignant masses after BrEaST.
- BrEaST-Lesions-USG (Pawlowska et al. 2024, 10.1038/s41597-024-02984-z), 114 benign and 74 malignant lesions with every descriptor: echo
  pattern, posterior features, calcifications, halo and the order of the margins follow its counts, rounded. There: halo 5 % and 53 %, shadowing 11 % and
  32 %, enhancement 15 % and 12 %, calcifications 7 % and 19 %, hypoechoic 40 % and 74 %, anechoic 11 % and 0 (benign and malignant).
- The exclusions and the affinities are the lexicon's own words (ACR BI-RADS Atlas, 5th edition, ultrasound).
"""

from __future__ import annotations

# Hong et al. 2005: the prevalence at which the published odds of malignancy hold.
PUBLISHED_MALIGNANT, PUBLISHED_TOTAL = 141, 403

_ROUND_BENIGN, _ROUND_MALIGNANT = 18.0, 6.0
_IRREGULAR_ODDS = 102 / 62  # malignant : benign
_OVAL_ODDS = 37 / 200
# irregular_b + oval_b = 262 - 18 and _IRREGULAR_ODDS irregular_b + _OVAL_ODDS oval_b = 141 - 6
_IRREGULAR_BENIGN = (135.0 - _OVAL_ODDS * 244.0) / (_IRREGULAR_ODDS - _OVAL_ODDS)
_OVAL_BENIGN = 244.0 - _IRREGULAR_BENIGN

# field of Descriptors -> value -> (weight among benign, weight among malignant masses); every column is normalised when it is used.
SHARES: dict[str, dict[str, tuple[float, float]]] = {
    "shape": {
        "oval": (_OVAL_BENIGN, _OVAL_ODDS * _OVAL_BENIGN),
        "round": (_ROUND_BENIGN, _ROUND_MALIGNANT),
        "irregular": (_IRREGULAR_BENIGN, _IRREGULAR_ODDS * _IRREGULAR_BENIGN),
    },
    "orientation": {"parallel": (228, 66), "not parallel": (34, 75)},
    "margin": {
        "circumscribed": (160, 18),
        "indistinct": (58, 38),
        "angular": (14, 31),
        "microlobulated": (27, 35),
        "spiculated": (3, 19),
    },
    "echo_pattern": {
        "anechoic": (9, 0),
        "hyperechoic": (5, 1),
        "complex cystic and solid": (6, 6),
        "hypoechoic": (45, 68),
        "isoechoic": (13, 4),
        "heterogeneous": (22, 21),
    },
    "posterior_features": {"none": (67, 48), "enhancement": (20, 13), "shadowing": (11, 32), "combined": (2, 7)},
    "calcifications": {"none": (92, 79), "in mass": (5, 16), "outside mass": (2, 3), "intraductal": (1, 2)},
    "halo": {"absent": (94, 55), "present": (6, 45)},
}

# Pairs of values that do not occur together: (field, value, other field, its values that are allowed).
ONLY_WITH: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("shape", "irregular", "margin", ("indistinct", "angular", "microlobulated", "spiculated")),  # circumscribed masses are oval or round
    ("shape", "round", "orientation", ("not parallel",)),  # a round mass is as tall as wide: "not parallel" includes round
    ("echo_pattern", "anechoic", "margin", ("circumscribed",)),  # anechoic, circumscribed, oval or round, enhancement: a simple cyst
    ("echo_pattern", "anechoic", "posterior_features", ("enhancement",)),
    ("echo_pattern", "anechoic", "calcifications", ("none",)),
    ("echo_pattern", "anechoic", "halo", ("absent",)),
)

# Odds ratios between pairs of values, the same in benign and malignant masses, on top of what the shares bring about; pairs not named: 1.
AFFINITIES: tuple[tuple[str, str, str, str, float], ...] = (
    ("shape", "irregular", "margin", "spiculated", 8.0),
    ("shape", "irregular", "margin", "angular", 3.0),
    ("shape", "irregular", "margin", "indistinct", 2.0),
    ("shape", "irregular", "margin", "microlobulated", 1.5),
    ("shape", "irregular", "orientation", "not parallel", 1.5),
    ("margin", "circumscribed", "halo", "present", 0.1),  # an echogenic halo replaces the abrupt interface
    ("margin", "spiculated", "halo", "present", 3.0),
    ("margin", "indistinct", "halo", "present", 1.5),
    ("margin", "spiculated", "posterior_features", "shadowing", 2.5),
    ("margin", "circumscribed", "posterior_features", "shadowing", 0.5),
    ("halo", "present", "posterior_features", "shadowing", 1.5),
    ("echo_pattern", "complex cystic and solid", "posterior_features", "enhancement", 3.0),
    ("echo_pattern", "complex cystic and solid", "posterior_features", "shadowing", 0.3),
    ("echo_pattern", "hyperechoic", "margin", "spiculated", 0.3),
    ("echo_pattern", "isoechoic", "margin", "circumscribed", 2.0),
    ("echo_pattern", "isoechoic", "margin", "spiculated", 0.3),
)

# Volumes in cm3: log-normal, cut at the range (spec.py). Medians chosen so that half of all lesions lie under 0.8 cm3 and volume alone says little (AUC 0.62).
VOLUME_MEDIANS = (0.67, 1.12)  # benign, malignant
VOLUME_LOG_SD = 1.2

# Upper edges of categories 3, 4A, 4B, 4C on the probability of malignancy (ACR BI-RADS Atlas, 5th edition).
CATEGORY_EDGES = (0.02, 0.10, 0.50, 0.95)
