"""What users would otherwise run: published algorithms and usual loops, transcribed literally."""

import copy

import numpy as np
import torch
from scipy.integrate import solve_ivp

from attractors.denoisers.diffusion import forward_process
from attractors.denoisers.samplers import ddim
from attractors.randomness import BASIN, CURVATURE, generator


def feature_maps(embedding, images):
    """The weighted feature maps of LPIPS, layer by layer: [n, C_l, H_l, W_l], from an `Embedding`'s own network."""
    flat, maps = embedding(images), []
    for head, (channels, side) in zip(embedding.heads, _shapes(embedding, images), strict=True):
        size = channels * side**2
        maps.append(flat[:, :size].reshape(-1, channels, side, side))
        flat = flat[:, size:]
        assert len(head) == channels
    return maps


def _shapes(embedding, images):
    """(channels, side) of each compared layer."""
    side = max(images.shape[-1], 32)
    for (stride, padding, pool, compared), weight in zip(embedding.layers, embedding.weights, strict=True):
        side = (side - pool) // 2 + 1 if pool else side
        side = (side + 2 * padding - weight.shape[-1]) // stride + 1
        if compared:
            yield len(weight), side


def broadcast_lpips(x_maps, y_maps, x_rows=8, y_rows=16):
    """LPIPS of all pairs as the authors compute it: maps of a block of queries minus those of a block of references.

    x_maps, y_maps: lists of [n, C, H, W] and [m, C, H, W]; returns [n, m].
    """
    n, m = len(x_maps[0]), len(y_maps[0])
    distances = torch.empty(n, m)
    for i in range(0, n, x_rows):
        for j in range(0, m, y_rows):
            total = 0
            for x, y in zip(x_maps, y_maps, strict=True):
                difference = x[i : i + x_rows, None] - y[None, j : j + y_rows]  # [x_rows, y_rows, C, H, W]
                total = total + (difference**2).sum((2, 3, 4))
            distances[i : i + x_rows, j : j + y_rows] = total
    return distances


@torch.inference_mode()
def batch_global_search(model, patterns, indices, seed, *, delta_d, delta_p=0.8, trials=20, steps=10, stride=10):
    """Alg. 1 over a batch whose search ends for all patterns at once, when the last of them has stopped.

    A batch that breaks when its *mean* falls below delta_p, the shorter way, gives patterns other t_c than
    they have alone. Returns (t_c: [P, trials], network evaluations).
    """
    generators = [generator(seed, BASIN, int(i)) for i in indices]
    t_c = torch.zeros(len(patterns), trials, dtype=torch.int64)
    on, contiguous = torch.ones(len(patterns), dtype=torch.bool), torch.ones_like(t_c, dtype=torch.bool)
    x_0, evaluations = patterns.repeat_interleave(trials, 0), 0
    for t in range(1, model.steps - stride, stride):
        noise = np.stack([random.standard_normal((trials, *patterns.shape[1:]), np.float32) for random in generators])
        x_t = forward_process(x_0, torch.from_numpy(noise).flatten(0, 1), torch.tensor(t), model.alpha_bar)
        r = ((ddim(model, x_t, t, steps) - x_0).flatten(1).norm(dim=1) <= delta_d).reshape(-1, trials)
        evaluations += len(x_0) * steps
        on &= r.sum(1).double() / trials >= delta_p
        contiguous &= r
        t_c[contiguous & on[:, None]] = t
        if not on.any():
            break
    return t_c, evaluations


@torch.inference_mode()
def materialised(model, pattern, index, seed, t=2, batch=1024):
    """M of Alg. 2: [N, 4N], every column of it held. pattern: [C, H, W]."""
    random, count = generator(seed, CURVATURE, index), 4 * pattern.numel()
    noise = torch.from_numpy(random.standard_normal((count, *pattern.shape), np.float32))
    columns = []
    for epsilon in noise.split(batch):
        plus, minus = (forward_process(pattern, sign * epsilon, t, model.alpha_bar) for sign in (1, -1))
        columns.append(((model.score(plus, t) - model.score(minus, t)) / 2).flatten(1).T)
    return torch.cat(columns, 1)


def plain_training(network, images, iterations, batch, rate, ema, alpha_bar, call=lambda network, x, t: network(x, t)):
    """The usual loop for Ho et al.'s simple loss: torch.optim.Adam, clipping, an average of each weight in turn."""
    optimiser, average = torch.optim.Adam(network.parameters(), lr=rate), copy.deepcopy(network)
    network.train()
    for _ in range(iterations):
        x_0 = images[torch.randint(len(images), (batch,), device=images.device)]
        noise, t = torch.randn_like(x_0), torch.randint(len(alpha_bar), (batch,), device=images.device)
        loss = (call(network, forward_process(x_0, noise, t, alpha_bar), t) - noise).square().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1)
        optimiser.step()
        with torch.no_grad():
            for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
                mean.lerp_(weight, 1 - ema)
    return average


def log_likelihood_of_a_point(score, x, t, sigma=1.0, T=1.0, rtol=1e-6, atol=1e-8):
    """(x_T: [2], integral) of one point x: [2] by Eqs. 21 and 24 as in A.3: solve_ivp, the divergence by autograd."""

    def derivative(time, state):
        place = torch.tensor(state[None, :-1], dtype=torch.float64)
        value = score(place, time)[0].detach().numpy()
        jacobian = torch.autograd.functional.jacobian(lambda y: score(y, time)[0], place)[:, 0]
        return -(sigma**2) / 2 * np.append(value, jacobian.trace().item())

    solution = solve_ivp(derivative, (t, T), np.append(x, 0.0), "RK45", rtol=rtol, atol=atol)
    return solution.y[:-1, -1], solution.y[-1, -1]
