"""The section `sample` of a sweep."""

from typing import Literal

from pydantic import Field

from attractors.settings.section import Section


class Sampling(Section):
    """How many samples S' holds, max(ratio x K, floor), and how they are drawn."""

    ratio: float = Field(4.0, gt=0, description="|S'| / K; the paper uses 4 and 8.")
    floor: int = Field(1, ge=1, description="Draw at least this many samples, whatever K.")
    batch: int = Field(1024, ge=1, description="Samples drawn at a time.")
    sampler: Literal["ancestral", "ddim"] = Field(
        "ancestral", description="The 1,000 steps of B.4, or deterministic DDIM in fewer."
    )
    ddim_steps: int = Field(50, ge=1, le=10**5, description="Network evaluations of a sample drawn by DDIM.")
    synthetic_sets: str | None = Field(
        None, description="A folder of sets K.npz drawn elsewhere, which stand for samples of the model."
    )
