"""The section `curvature` of a sweep and of params.yaml."""

from typing import Literal

from pydantic import Field

from attractors.settings.patterns import Patterns


class Curvature(Patterns):
    """Where the score's singular values are measured, and by which methods (Algs. 2 and 3)."""

    methods: tuple[Literal["central", "one_sided", "jacobian"], ...] = Field(
        ("central",), description="Alg. 2, Alg. 3, or the Jacobian without noise, which is not in the paper."
    )
    t0: int = Field(2, ge=0, description="The time of the score, 0-based.")
    batch: int = Field(1024, ge=1, description="Network evaluations at a time.")
