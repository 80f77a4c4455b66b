"""The settings of the stages that ask what a spurious state is: `census`, `states_table`, `controls` and `phase`."""

from pydantic import Field

from attractors.settings.section import Section


class Controls(Section):
    """Controls without learning: how many samples, of which denoisers."""

    samples: int = Field(512, ge=2, description="Samples of each control.")
    steps: int = Field(50, ge=1, description="DDIM steps of each sample.")
    batch: int = Field(256, ge=1, description="Samples drawn at a time.")


class Census(Section):
    """The search for fixed points of x <- E[x_0 | sqrt(alpha_bar_t) x]."""

    t: int = Field(20, ge=0, description="The time of the map, 0-based.")
    starts: int = Field(256, ge=1, description="Samples of S' from which the map is iterated.")
    tolerance: float = Field(1e-3, gt=0, description="A point that moves by less is fixed.")
    steps: int = Field(1000, ge=1, description="Steps after which a point that moves is given up.")
    trials: int = Field(10, ge=1, description="Noisings of each state, to see how often it is reached again.")
    states: int = Field(32, ge=1, description="The most frequent states, whose stability and return are measured.")
    batch: int = Field(1024, ge=1, description="Network evaluations at a time.")


class StatesTable(Section):
    """How many samples are compared with blends of training images."""

    blends: int = Field(64, ge=1, description="Samples of each type whose blend of training images is sought.")


class Phase(Section):
    """What is measured of every snapshot of a training."""

    samples: int = Field(1024, ge=2, description="Samples of each snapshot.")
    images: int = Field(256, ge=1, description="Images that are denoised, of S and as many others.")
    levels: int = Field(8, ge=2, description="Noise levels of denoising, evenly spaced in their logarithm.")
    batch: int = Field(1024, ge=1, description="Network evaluations at a time.")
