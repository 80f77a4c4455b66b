"""The sections of the 2-D toy model in params.yaml: toy_train, toy_evaluate and toy_minima."""

from typing import Annotated

from pydantic import Field

from attractors.settings.section import Section
from attractors.settings.train import Optimisation

Positive = Annotated[float, Field(gt=0)]


class Circle(Section):
    """The training data of the toy model and its process."""

    points: int = Field(60_000, ge=1, description="Points on the circle; the first K are S_K.")
    sigma: float = Field(1.0, gt=0, description="dx = sigma dw.")


class ScoreMLP(Section):
    """The score network of A.2."""

    width: int = Field(256, ge=1, description="Width of the network.")
    blocks: int = Field(4, ge=1, description="Residual blocks in the encoder and in the decoder.")
    scale: float = Field(4.0, gt=0, description="Scale of the Fourier frequencies of t.")


class ToyOptimisation(Optimisation):
    """How the toy model is trained; the defaults are those of A.2."""

    iterations: int = Field(800_000, ge=0, description="Steps of training.")
    batch: int = Field(500, ge=1, description="Points a step.")
    learning_rate: float = Field(1e-4, gt=0, description="Adam's step size.")


class ToyEvaluation(Section):
    """What is compared with the exact answer (Fig. 2)."""

    t: float = Field(0.15, gt=0, lt=1, description="The time looked at.")
    extent: float = Field(1.5, gt=0, description="The grid covers [-extent, extent]^2.")
    side: int = Field(20, ge=2, description="Points along a side of the grid.")
    samples: int = Field(1000, ge=2, description="Samples to draw.")
    steps: int = Field(1000, ge=1, description="Euler-Maruyama steps.")
    cluster_distance: float = Field(0.3, gt=0, description="Samples farther apart than this are in two clusters.")
    delta: float = Field(0.1, gt=0, description="A sample nearer to a training point than this is a copy of it.")
    times: tuple[Positive, ...] = Field((0.01, 0.05, 0.15), description="Times at which minima are counted.")


class Minima(Section):
    """For which K and at which times the minima of the exact energy are counted."""

    sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (*range(1, 11), 12, 16, 24, 32, 48, 64, 100, 200, 500, 1000), description="The K to look at."
    )
    times: tuple[Positive, ...] = Field((0.01, 0.05, 0.15), description="Times at which minima are counted.")
