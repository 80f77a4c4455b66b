"""Random streams addressed by integers, so that no result depends on the order in which work is done."""

import numpy as np

# One constant per consumer: two stages never read the same stream.
INITIALISATION, SHUFFLING, TRAINING, SAMPLING, BOOTSTRAP, BASIN, CURVATURE, REFERENCE, CIRCLE, DROPOUT = range(10)
LATENT, PROBES, LANCZOS, SELECTION = range(10, 14)


def generator(seed, stream, index=0):
    """The numpy generator number `index` of a `stream`.

    Counter-based (Philox): streams that differ in any of the three integers never overlap, unlike
    the 32-bit seeds of a Mersenne twister, of which two among 200,000 samples would collide.
    """
    return np.random.Generator(np.random.Philox(key=[seed, (stream << 56) | index]))


def integer(seed, stream, index=0):
    """A 63-bit seed for a torch generator, a function of the three integers."""
    return int(np.random.SeedSequence([seed, stream, index]).generate_state(1, np.uint64)[0] >> 1)
