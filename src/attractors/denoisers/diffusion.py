"""The variance-preserving diffusion of DDPM: schedule, forward process, and what a network's output means.

Time is 0-based throughout: t in {0, ..., T-1}, and x_t = sqrt(alpha_bar_t) x_0 + sigma_t noise
with sigma_t = sqrt(1 - alpha_bar_t).
"""

import math

import torch
from torch import nn

Time = int | torch.Tensor  # 0-based: one time for all images, or one for each


def linear_betas(steps: int = 1000, beta_min: float = 1e-4, beta_max: float = 2e-2) -> torch.Tensor:
    """Return the variances of B.4, linear from beta_min to beta_max: [T] float64.

    2 <= steps and 0 < beta_min <= beta_max < 1.
    """
    return torch.linspace(beta_min, beta_max, steps, dtype=torch.float64)


def cosine_betas(steps: int = 1000) -> torch.Tensor:
    """Return the variances of Nichol and Dhariwal, with alpha_bar_t = cos^2 of an angle, at most .999: [T] float64."""
    angle = (torch.linspace(0, 1, steps + 1, dtype=torch.float64) + 0.008) / 1.008 * (torch.pi / 2)
    alpha_bar = angle.cos().square()
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)


def noise_level(alpha_bar: torch.Tensor) -> torch.Tensor:
    """Return sigma_t / sqrt(alpha_bar_t), the noise's standard deviation in units of the image: like alpha_bar."""
    return ((1 - alpha_bar) / alpha_bar).sqrt()


def time_features(alpha_bar: torch.Tensor, dimension: int = 64) -> torch.Tensor:
    """Return sines and cosines of the logarithm of the noise level: [T, dimension].

    The frequencies are octaves from 1/16 up.
    """
    frequencies = 2.0 ** torch.linspace(-4, 4, dimension // 2, dtype=torch.float64)
    angles = noise_level(alpha_bar).log()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1).float() * math.sqrt(2)


def times(t: Time, x: torch.Tensor) -> torch.Tensor:
    """Return t as a time for each of x: [B, ...], on the device of x: [B] int64.

    The device itself fills in a number, because the host would have to wait for a copy.
    """
    return t.to(x.device).expand(len(x)) if isinstance(t, torch.Tensor) else torch.full((len(x),), t, device=x.device)


def expand(coefficients: torch.Tensor, t: Time, x: torch.Tensor) -> torch.Tensor:
    """Return coefficients[t] in the type of x, shaped to multiply x: [B, ...]. t: [B], 0-dimensional or a number."""
    if isinstance(t, torch.Tensor):
        t = t.reshape(-1)  # to index by a 0-dimensional tensor, the host would wait for its value
    return coefficients[t].to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def scale_and_sigma(t: Time, x: torch.Tensor, alpha_bar: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (sqrt(alpha_bar_t), sigma_t), the weights of image and noise in x_t, shaped to multiply x: [B, ...]."""
    return expand(alpha_bar.sqrt(), t, x), expand((1 - alpha_bar).sqrt(), t, x)


def forward_process(x_0: torch.Tensor, noise: torch.Tensor, t: Time, alpha_bar: torch.Tensor) -> torch.Tensor:
    """Return x_t of the forward process, Eq. 41 integrated to time t: [B, ...], from x_0 and noise of that shape."""
    scale, sigma = scale_and_sigma(t, x_0, alpha_bar)
    return scale * x_0 + sigma * noise


class Diffusion(nn.Module):
    """A network together with its noise schedule. It gives every quantity that the paper takes from a trained model.

    network maps x: [B, ...] and a level of noise: [B] to a prediction shaped like x. betas: [T] float64.
    prediction says what the network returns: `noise` (Ho et al., as in the paper); `image`, x_0 itself, from which the
    noise is ill determined where there is little of it; `velocity` v = sqrt(alpha_bar) noise - sigma x_0 (Salimans
    and Ho), which is well conditioned at both ends of the schedule; or `flow`, noise - x_0 (Lipman et al., Liu et al.).
    level says what it is given: `time`, x_t and t; `sigma`, x_0 + sigma noise and sigma (Karras et al.); or `flow`,
    (1 - tau) x_0 + tau noise and tau. These are one process up to the scale of x: here alone they become one another,
    and all else sees x_t and t.
    """

    network: nn.Module
    betas: torch.Tensor
    alpha_bar: torch.Tensor

    def __init__(
        self, network: nn.Module, betas: torch.Tensor, prediction: str = "noise", level: str = "time"
    ) -> None:
        super().__init__()
        self.network, self.prediction, self.level = network, prediction, level
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
        if self.prediction != "velocity":
            return {"noise": noise, "image": x_0, "flow": noise - x_0}[self.prediction]
        scale, sigma = scale_and_sigma(t, x_0, self.alpha_bar)
        return scale * noise - sigma * x_0

    def output(self, x: torch.Tensor, t: Time) -> torch.Tensor:
        """Return what the network returns for x_t: [B, ...], which it gets in its own scale, at t: [B] or a number."""
        if self.level == "time":
            return self.network(x, times(t, x))
        scale, sigma = scale_and_sigma(t, x, self.alpha_bar)
        whole = scale if self.level == "sigma" else scale + sigma
        return self.network(x / whole, (sigma / whole).flatten().expand(len(x)))

    def image(self, x: torch.Tensor, noise: torch.Tensor, t: Time) -> torch.Tensor:
        """Return x_0 = (x - sigma_t noise) / sqrt(alpha_bar_t), the image that x: [B, ...] holds beside this noise."""
        scale, sigma = scale_and_sigma(t, x, self.alpha_bar)
        return (x - sigma * noise) / scale

    def noise_prediction(self, x: torch.Tensor, t: Time) -> torch.Tensor:
        """Return the model's prediction of the noise in x: [B, ...] at t: [B] or a number, 0-based."""
        output = self.output(x, t)
        if self.prediction == "noise":
            return output
        scale, sigma = scale_and_sigma(t, x, self.alpha_bar)
        if self.prediction == "flow":
            return (x + scale * output) / (scale + sigma)
        return (x - scale * output) / sigma if self.prediction == "image" else scale * output + sigma * x

    def denoised(self, x: torch.Tensor, t: Time) -> torch.Tensor:
        """Return the model's estimate of x_0 from x: [B, ...] at t: [B] or a number, 0-based."""
        if self.prediction == "image":
            return self.output(x, t)
        return self.image(x, self.noise_prediction(x, t), t)

    def score(self, x: torch.Tensor, t: Time) -> torch.Tensor:
        """Return the score grad log p_t(x) = -noise_prediction / sigma_t (D.1) at x: [B, ...], t: [B] or a number."""
        return -self.noise_prediction(x, t) / scale_and_sigma(t, x, self.alpha_bar)[1]
