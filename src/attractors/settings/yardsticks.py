"""The sections `yardsticks`, `train_snapshots` and `training_time` of a sweep and of params.yaml."""

from pydantic import Field

from attractors.settings.section import Section
from attractors.settings.train import Training


class Yardsticks(Section):
    """How other definitions of memorization are measured. Where numbers were published, they are the defaults."""

    nearest: int = Field(50, ge=1, description="n of the adaptive distance (Carlini et al. 2023).")
    factor: float = Field(0.5, gt=0, description="alpha of the adaptive distance.")
    samples: int = Field(256, ge=2, description="Samples whose dimension is measured, and whose paths are followed.")
    images: int = Field(256, ge=2, description="Training images, and as many others, that are denoised.")
    levels: int = Field(16, ge=2, description="Noise levels, evenly spaced in their logarithm.")
    t0: int = Field(50, ge=0, description="The time of FLIPD, 0-based (Kamkari et al. 2024: a twentieth of T).")
    full: int = Field(1024, ge=1, description="Pixels up to which the score's Jacobian is computed as a whole.")
    probes: int = Field(32, ge=2, description="Random directions of its trace beyond.")
    batch: int = Field(1024, ge=1, description="Network evaluations at a time.")


class Snapshots(Training):
    """A training of which averages of the weights are kept along the way."""

    snapshots: int = Field(12, ge=2, description="Averages of the weights, at steps evenly spaced in their logarithm.")


class Drawing(Section):
    """The samples that are drawn from every snapshot."""

    samples: int = Field(512, ge=2, description="Samples of each snapshot.")
    batch: int = Field(1024, ge=1, description="Samples drawn at a time.")
