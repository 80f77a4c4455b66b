"""The section `energy` of a sweep and of params.yaml."""

from pydantic import Field

from attractors.settings.patterns import Patterns


class Energy(Patterns):
    """The energies of patterns relative to reference images (Alg. 4)."""

    t0: int = Field(0, ge=0, description="The time of the energy, 0-based.")
    nodes: int = Field(20, ge=2, description="Points on the path from the target to a reference.")
    references: int = Field(4, ge=1, description="Reference images, drawn from the whole dataset.")
    batch: int = Field(1024, ge=1, description="Network evaluations at a time.")
