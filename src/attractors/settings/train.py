"""The section `train` of a sweep, which `toy_train` of params.yaml shares."""

from typing import Literal

from pydantic import Field

from attractors.settings.section import Section


class Optimisation(Section):
    """How a network is trained. The defaults are the paper's (B.4, Table 3), for CIFAR-10 and MNIST."""

    iterations: int = Field(400_000, ge=0, description="Steps of training.")
    batch: int = Field(128, ge=1, description="Images a step.")
    repeat: bool = Field(False, description="Fill a batch larger than K by repeating images, each with fresh noise.")
    learning_rate: float = Field(2e-4, gt=0, description="Adam's step size.")
    warmup: int = Field(0, ge=0, description="Steps of linear warm-up.")
    final_learning_rate: float = Field(1.0, ge=0, le=1, description="Cosine decay to this fraction.")
    ema: float = Field(0.9999, ge=0, lt=1, description="Decay of the average of the weights.")
    clip: float = Field(1.0, gt=0, description="Bound on the gradient's norm.")


class Release(Section):
    """A released model in place of a trained one: files K.pt of a repository of the Hugging Face hub."""

    released: str | None = Field(
        None, pattern=r"^[\w.-]+/[\w.-]+$", description="Download a model from OWNER/NAME in place of training."
    )
    revision: str = Field("main", description="The branch, tag or commit of that repository.")
    keep_download: bool = Field(True, description="Leave K.pt in the hub's cache once it is converted.")
    check: bool = Field(True, description="Refuse a released model that does not recognise pure noise.")


class Training(Optimisation):
    """How a denoiser is trained: the optimisation, and at which noise levels."""

    noise_levels: Literal["uniform", "lognormal"] = Field(
        "uniform", description="How times are drawn: all alike (Ho et al.), or by the logarithm of their noise level."
    )
    noise_mean: float = Field(
        -1.2, description="Mean of ln(sigma / sqrt(alpha_bar)) where noise levels are lognormal (Karras et al.)."
    )
    noise_deviation: float = Field(1.4, gt=0, description="Its standard deviation; Karras et al. have 1.2.")
