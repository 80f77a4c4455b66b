"""The section `quality` of a sweep: how many images of each kind are compared."""

from pydantic import Field

from attractors.settings.section import Section


class Quality(Section):
    """How the samples of photographs are compared with real ones, and by which distances they get their types."""

    samples: int = Field(1024, ge=4, description="Samples of each S', the first.")
    images: int = Field(512, ge=4, description="Real images that no network of the sweep was trained on.")
    largest: int = Field(2048, ge=1, description="K above which models are left out; features of S stay in memory.")
