"""Settings of every stage, at the top level of params.yaml or in the stage's own section."""

from pydantic import Field

from attractors.settings.section import Section


class Common(Section):
    """The seed of a study, and the CPU threads of each of its stages."""

    seed: int = Field(3407, ge=0, le=2**62, description="Seed of every random stream.")
    threads: int = Field(
        1,
        ge=1,
        description="CPU threads: more are rarely faster for small networks, and each number rounds sums differently.",
    )
