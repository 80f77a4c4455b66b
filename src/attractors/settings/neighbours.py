"""The section `neighbours` of a sweep."""

from typing import Literal

from pydantic import Field

from attractors.settings.section import Section


class Neighbours(Section):
    """Which neighbours of a sample are looked for, and by which distance (B.2)."""

    k: int = Field(5, ge=1, description="Neighbours of each sample.")
    distance: Literal["l2", "lpips_alex", "lpips_vgg"] = Field(
        "l2", description="L2 of pixels in [-1, 1], or LPIPS with the network named (B.2)."
    )
    memory: int | None = Field(
        None, ge=1, description="MiB for intermediates.  [default: 512; a quarter of what a GPU has free]"
    )
