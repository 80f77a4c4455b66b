"""The section `sample` of a sweep."""

from pydantic import Field

from attractors.settings.section import Section


class Sampling(Section):
    """How many samples S' holds: max(ratio x K, floor)."""

    ratio: float = Field(4.0, gt=0, description="|S'| / K; the paper uses 4 and 8.")
    floor: int = Field(1, ge=1, description="Draw at least this many samples, whatever K.")
    batch: int = Field(1024, ge=1, description="Samples drawn at a time.")
