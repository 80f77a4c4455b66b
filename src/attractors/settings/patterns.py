"""Which patterns the sections `basin`, `curvature` and `energy` measure."""

from pydantic import Field

from attractors.settings.section import Section


class Patterns(Section):
    """How many samples of S' are measured, chosen by their distances alone, and how many training images."""

    nearest: int = Field(512, ge=0, description="Samples nearest to S.")
    repeating: int = Field(512, ge=0, description="Samples that repeat each other.")
    uniform: int = Field(512, ge=0, description="Samples drawn from all of S'.")
    training_limit: int = Field(2048, ge=1, description="Training images.")
    standard_error: float = Field(
        0.0,
        ge=0,
        description="End a group where its mean has this relative standard error; 0: only at the numbers above.",
    )
