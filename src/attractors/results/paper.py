"""Tables 1-3 of the paper, and the settings that its text adds to them."""

from typing import NamedTuple


class Points(NamedTuple):
    """The points A and B of Table 1. Widths other than 128 have those of B.5, or of Table 1 where B.5 gives none."""

    a: int
    b: int
    total: int


class Thresholds(NamedTuple):
    """Table 2: the least and the greatest of the paper's thresholds over all K, in the units of the distance of B.2."""

    delta_m: tuple[float, float]
    delta_s: tuple[float, float]


class Configuration(NamedTuple):
    """Table 3, whose numbers of parameters are cut off, not rounded. Dropout is from B.4, and delta_d from C.2."""

    multipliers: tuple[int, ...]
    parameters: str
    batch: int
    iterations: int
    dropout: float
    delta_d: float


# fmt: off
TABLE_1 = {  # sweep              A      B  total
    "mnist-128":         Points(4000, 32000,  60000),
    "fashion_mnist-128": Points(4000, 16000,  60000),
    "cifar10-64":        Points( 500,  8000,  50000),
    "cifar10-96":        Points(2000, 16000,  50000),
    "cifar10-128":       Points(2000, 16000,  50000),
    "lsun_church-64":    Points(1000,  8000, 126227),
    "lsun_church-96":    Points(2000, 16000, 126227),
    "lsun_church-128":   Points(2000, 16000, 126227),  # B.5 says A = 4000, which misses the K = 4896 of Fig. 10
}
TABLE_2 = {  # sweep                      delta_m         delta_s
    "mnist-128":         Thresholds((2,      4.5),   (2,     4)),
    "fashion_mnist-128": Thresholds((2,      2.5),   (2.5,   3)),
    "cifar10-64":        Thresholds((0.01,   0.04),  (0.015, 0.025)),
    "cifar10-96":        Thresholds((0.015,  0.04),  (0.015, 0.025)),
    "cifar10-128":       Thresholds((0.015,  0.035), (0.015, 0.025)),
    "lsun_church-64":    Thresholds((0.06,   0.15),  (0.01,  0.1)),
    "lsun_church-96":    Thresholds((0.1,    0.125), (0.05,  0.06)),
    "lsun_church-128":   Thresholds((0.1,    0.12),  (0.04,  0.06)),
}
TABLE_3 = {  # sweep                    multipliers         parameters batch iterations dropout delta_d
    "mnist-128":         Configuration((1, 2, 2),            "24.5M",  128,  400_000,   0.1,   0.1),
    "fashion_mnist-128": Configuration((1, 2, 2),            "24.5M",  128,  400_000,   0.1,   0.1),
    "cifar10-64":        Configuration((1, 2, 2, 2),          "8.9M",  128,  500_000,   0.1,   0.03),
    "cifar10-96":        Configuration((1, 2, 2, 2),         "20.1M",  128,  500_000,   0.1,   0.03),
    "cifar10-128":       Configuration((1, 2, 2, 2),         "35.7M",  128,  500_000,   0.1,   0.03),
    "lsun_church-64":    Configuration((1, 1, 2, 2, 4, 4),   "27.4M",   64,  800_000,   0.0,   0.12),
    "lsun_church-96":    Configuration((1, 1, 2, 2, 4, 4),   "61.7M",   64,  800_000,   0.0,   0.12),
    "lsun_church-128":   Configuration((1, 1, 2, 2, 4, 4),  "109.7M",   64,  800_000,   0.0,   0.12),
}
# fmt: on
