"""The variance-preserving diffusion of DDPM: schedule, forward process, and what a network's output means.

Time is 0-based throughout: t in {0, ..., T-1}, and x_t = sqrt(alpha_bar_t) x_0 + sigma_t noise
with sigma_t = sqrt(1 - alpha_bar_t).
"""

import torch
from torch import nn

Time = int | torch.Tensor  # 0-based: one time for all images, or one for each


def linear_betas(steps: int = 1000, beta_min: float = 1e-4, beta_max: float = 2e-2) -> torch.Tensor:
    """Return the variances of B.4, linear from beta_min to beta_max: [T] float64.

    2 <= steps and 0 < beta_min <= beta_max < 1.
    """
    return torch.linspace(beta_min, beta_max, steps, dtype=torch.float64)


def noise_level(alpha_bar: torch.Tensor) -> torch.Tensor:
    """Return sigma_t / sqrt(alpha_bar_t), the standard deviation of the noise in units of the image: shaped like
    alpha_bar.
    """
    return ((1 - alpha_bar) / alpha_bar).sqrt()


def times(t: Time, x: torch.Tensor) -> torch.Tensor:
    """Return t as a time for each of x: [B, ...], on the device of x: [B] int64.

    A number is written there by the device itself: copying it from the host would make the host wait.
    """
    if isinstance(t, torch.Tensor):
        return t.to(x.device).expand(len(x))
    return torch.full((len(x),), t, device=x.device)


def expand(coefficients: torch.Tensor, t: Time, x: torch.Tensor) -> torch.Tensor:
    """Return coefficients[t] in the type of x, shaped to multiply x: [B, ...]. t: [B], 0-dimensional or a number,
    0-based.
    """
    if isinstance(t, torch.Tensor):
        t = t.reshape(-1)  # to index by a 0-dimensional tensor, the host would wait for its value
    return coefficients[t].to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def forward_process(x_0: torch.Tensor, noise: torch.Tensor, t: Time, alpha_bar: torch.Tensor) -> torch.Tensor:
    """Return x_t of the forward process, Eq. 41 integrated to time t: [B, ...], from x_0 and noise of that shape."""
    return expand(alpha_bar.sqrt(), t, x_0) * x_0 + expand((1 - alpha_bar).sqrt(), t, x_0) * noise


class Diffusion(nn.Module):
    """A network together with its noise schedule. It gives every quantity that the paper takes from a trained model.

    network maps x: [B, ...] and t: [B] to a prediction shaped like x. betas: [T] float64.
    prediction says what the network returns: `noise` (Ho et al., as in the paper); `image`, x_0 itself, from which the
    noise is ill determined where there is little of it; or `velocity` v = sqrt(alpha_bar) noise - sigma x_0 (Salimans
    and Ho), which is well conditioned at both ends of the schedule.
    """

    network: nn.Module
    betas: torch.Tensor
    alpha_bar: torch.Tensor

    def __init__(self, network: nn.Module, betas: torch.Tensor, prediction: str = "noise") -> None:
        super().__init__()
        self.network, self.prediction = network, prediction
        self.register_buffer("betas", betas.double(), persistent=False)
        self.register_buffer("alpha_bar", torch.cumprod(1 - betas.double(), 0), persistent=False)

    @property
    def steps(self) -> int:
        """T, the number of times."""
        return len(self.betas)

    def sigma(self, t: Time) -> torch.Tensor:
        """Return sigma_t, the standard deviation of the noise in x_t: float64, shaped like t."""
        return (1 - self.alpha_bar[t]).sqrt()

    def target(self, x_0: torch.Tensor, noise: torch.Tensor, t: Time) -> torch.Tensor:
        """Return what the network should predict at x_t, given x_0 and noise: [B, ...] and t: [B]."""
        if self.prediction == "noise":
            return noise
        if self.prediction == "image":
            return x_0
        return expand(self.alpha_bar.sqrt(), t, x_0) * noise - expand((1 - self.alpha_bar).sqrt(), t, x_0) * x_0

    def noise_prediction(self, x: torch.Tensor, t: Time) -> torch.Tensor:
        """Return the model's prediction of the noise in x: [B, ...] at t: [B] or a number, 0-based."""
        output = self.network(x, times(t, x))
        if self.prediction == "noise":
            return output
        scale, sigma = expand(self.alpha_bar.sqrt(), t, x), expand((1 - self.alpha_bar).sqrt(), t, x)
        return (x - scale * output) / sigma if self.prediction == "image" else scale * output + sigma * x

    def denoised(self, x: torch.Tensor, t: Time) -> torch.Tensor:
        """Return the model's estimate of x_0 from x: [B, ...] at t: [B] or a number, 0-based."""
        if self.prediction == "image":
            return self.network(x, times(t, x))
        noise = self.noise_prediction(x, t)
        return (x - expand((1 - self.alpha_bar).sqrt(), t, x) * noise) / expand(self.alpha_bar.sqrt(), t, x)

    def score(self, x: torch.Tensor, t: Time) -> torch.Tensor:
        """Return the score grad log p_t(x) = -noise_prediction / sigma_t (D.1) at x: [B, ...] and t: [B] or a
        number.
        """
        return -self.noise_prediction(x, t) / expand((1 - self.alpha_bar).sqrt(), t, x)
