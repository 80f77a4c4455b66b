"""The score of a model around images: its norm, the trace of its Jacobian and, for few pixels, its singular values."""

import math

import numpy as np
import torch

from attractors.denoisers.diffusion import Diffusion
from attractors.landscape.curvature import centre
from attractors.landscape.derivatives import jacobian
from attractors.landscape.linearised import hutchinson


def score_geometry(
    model: Diffusion, images: torch.Tensor, t: int, seed: int, probes: int, full: int = 1024, batch: int = 1024
) -> dict[str, np.ndarray]:
    """Return {"trace", "squared_norm": [n] float64, "singular_values": [n, N]} of the score at sqrt(alpha_bar_t) x_0.

    images: [n, C, H, W] are the x_0; t is 0-based. Up to N = `full` pixels the whole Jacobian is computed. Beyond, its
    trace is Hutchinson's estimate from `probes` random directions (`seed`), and the result has no singular values.
    batch is the number of network evaluations at a time.
    """
    dimensions = math.prod(images.shape[1:])
    norms, traces, spectra = [], [], []
    for start in range(0, len(images), max(1, batch // min(dimensions, full))):
        x_0 = images[start : start + max(1, batch // min(dimensions, full))]
        x = centre(model, x_0, t)
        with torch.inference_mode():
            norms.append(model.score(x, t).double().flatten(1).square().sum(1))
        if dimensions <= full:
            J = jacobian(lambda y: model.score(y, t), x, batch).double()
            traces.append(J.diagonal(dim1=1, dim2=2).sum(1))
            spectra.append(torch.linalg.svdvals(J))
        else:
            estimates = [hutchinson(model, x_0[i : i + 1], probes, seed, start + i, t).trace for i in range(len(x_0))]
            traces.append(torch.tensor(estimates, dtype=torch.float64))
    parts_of = {"trace": traces, "squared_norm": norms} | ({"singular_values": spectra} if spectra else {})
    return {name: torch.cat(parts).cpu().numpy() for name, parts in parts_of.items()}
