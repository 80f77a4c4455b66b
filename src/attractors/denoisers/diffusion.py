"""The variance-preserving diffusion of DDPM: schedule, forward process, and what a network's output means.

Time is 0-based throughout: t in {0, ..., T-1}, and x_t = sqrt(alpha_bar_t) x_0 + sigma_t noise
with sigma_t = sqrt(1 - alpha_bar_t).
"""

import torch
from torch import nn

PREDICTIONS = ("noise", "velocity")


def linear_betas(steps=1000, beta_min=1e-4, beta_max=2e-2):
    """The paper's variances (B.4): [T] float64, linear from beta_min to beta_max. Raises ValueError."""
    if type(steps) is not int or not 2 <= steps <= 10**5:
        raise ValueError(f"diffusion.steps is {str(steps)[:80]}; it must be a whole number from 2 to 100,000")
    if not all(type(b) in (int, float) for b in (beta_min, beta_max)) or not 0 < beta_min <= beta_max < 1:
        raise ValueError(f"diffusion: betas from {str(beta_min)[:80]} to {str(beta_max)[:80]}; they must lie in (0, 1)")
    return torch.linspace(beta_min, beta_max, steps, dtype=torch.float64)


def noise_level(alpha_bar):
    """sigma_t / sqrt(alpha_bar_t): the noise in units of the image."""
    return ((1 - alpha_bar) / alpha_bar).sqrt()


def expand(coefficients, t, x):
    """coefficients[t] as float32, shaped to multiply x: [B, ...]. t: [B] or 0-dimensional, 0-based."""
    return coefficients[t].to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def forward_process(x_0, noise, t, alpha_bar):
    """The forward process, Eq. 41 integrated to time t: [B, ...] from x_0 and noise of that shape."""
    return expand(alpha_bar.sqrt(), t, x_0) * x_0 + expand((1 - alpha_bar).sqrt(), t, x_0) * noise


class Diffusion(nn.Module):
    """A network together with its noise schedule: every quantity the paper reads off a trained model.

    network: maps x: [B, ...] and t: [B] to a prediction shaped like x.
    betas: [T] float64.
    prediction: what the network returns: `noise` (Ho et al., the paper's) or `velocity`
        v = sqrt(alpha_bar) noise - sigma x_0 (Salimans and Ho), which is well conditioned at both ends.
    """

    def __init__(self, network, betas, prediction="noise"):
        super().__init__()
        if prediction not in PREDICTIONS:
            raise ValueError(f"prediction is {prediction!r}; it must be one of {', '.join(PREDICTIONS)}")
        self.network, self.prediction = network, prediction
        self.register_buffer("betas", betas.double(), persistent=False)
        self.register_buffer("alpha_bar", torch.cumprod(1 - betas.double(), 0), persistent=False)

    @property
    def steps(self):
        return len(self.betas)

    def sigma(self, t):
        """The standard deviation of the noise in x_t: float64, shaped like t."""
        return (1 - self.alpha_bar[t]).sqrt()

    def target(self, x_0, noise, t):
        """What the network is trained to return at x_t."""
        if self.prediction == "noise":
            return noise
        return expand(self.alpha_bar.sqrt(), t, x_0) * noise - expand((1 - self.alpha_bar).sqrt(), t, x_0) * x_0

    def noise_prediction(self, x, t):
        """The noise in x: [B, ...] at t: [B] or 0-dimensional, as the model sees it."""
        t = torch.as_tensor(t, device=x.device).expand(len(x))
        output = self.network(x, t)
        if self.prediction == "noise":
            return output
        return expand(self.alpha_bar.sqrt(), t, x) * output + expand((1 - self.alpha_bar).sqrt(), t, x) * x

    def denoised(self, x, t):
        """The model's estimate of x_0 given x: [B, ...] at t."""
        t = torch.as_tensor(t, device=x.device)
        noise = self.noise_prediction(x, t)
        return (x - expand((1 - self.alpha_bar).sqrt(), t, x) * noise) / expand(self.alpha_bar.sqrt(), t, x)

    def score(self, x, t):
        """grad log p_t(x) = -noise_prediction / sigma_t (D.1)."""
        t = torch.as_tensor(t, device=x.device)
        return -self.noise_prediction(x, t) / expand((1 - self.alpha_bar).sqrt(), t, x)
