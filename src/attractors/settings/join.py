"""The section `join` of params.yaml."""

from pydantic import Field

from attractors.settings.section import Section


class Joining(Section):
    """Which samples of a type count as the nearest, and which types are left out (C.2)."""

    limit: int = Field(512, ge=1, description="Samples of a type in means over the nearest (C.2).")
    rare: float = Field(0.001, ge=0, le=1, description="Leave out types below this share (C.2).")
