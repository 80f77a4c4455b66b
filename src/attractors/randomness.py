"""Random streams addressed by integers, so that no result depends on the order in which work is done."""

import numpy as np

# One constant per consumer: two stages never read the same stream.
INITIALISATION, SHUFFLING, TRAINING, SAMPLING, BOOTSTRAP, BASIN, CURVATURE, REFERENCE, CIRCLE, DROPOUT = range(10)
LATENT, PROBES, LANCZOS, SELECTION, YARDSTICKS, REPLICATES, CENSUS, QUALITY = range(10, 18)


def generator(seed: int, stream: int, index: int = 0) -> np.random.Generator:
    """Return the numpy generator number `index` of a stream.

    seed, stream and index are whole numbers from 0, with index below 2^56. The generator is counter-based (Philox), so
    streams that differ in any of the three integers never overlap. Among 200,000 samples with 32-bit seeds of a
    Mersenne twister, some two would have the same seed.
    """
    return np.random.Generator(np.random.Philox(key=[seed, (stream << 56) | index]))


def integer(seed: int, stream: int, index: int = 0) -> int:
    """Return a 63-bit seed for a torch generator, determined by the three integers."""
    return int(np.random.SeedSequence([seed, stream, index]).generate_state(1, np.uint64)[0] >> 1)
