"""The section `basin` of a sweep and of params.yaml."""

from typing import Literal

from pydantic import Field

from attractors.settings.patterns import Patterns
from attractors.settings.section import Section


class Search(Section):
    """The search for critical times (Alg. 1)."""

    trials: int = Field(20, ge=1, description="M, perturbations of each pattern at each time.")
    steps: int = Field(10, ge=1, description="N', DDIM steps of each recovery.")
    stride: int = Field(10, ge=1, description="s, between the times that are tried.")
    delta_p: float = Field(0.8, ge=0, le=1, description="Stop where a smaller share is recovered.")
    delta_d: float = Field(ge=0, description="Recovered at or below this distance.")
    batch: int = Field(1000, ge=1, description="Network evaluations at a time.")


class Basin(Patterns):
    """Which patterns are searched for, and by which distance they count as recovered."""

    training_limit: int = Field(512, ge=1, description="Training images.")
    distance: Literal["l2", "lpips_vgg"] = Field("lpips_vgg", description="L2 of pixels in [-1, 1], or LPIPS.")
