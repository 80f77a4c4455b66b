"""The sections of a case study in prompts/: sd_generate and sd_curvature."""

from typing import Literal

from pydantic import Field

from attractors.settings.section import Section


class Generation(Section):
    """How the images of a prompt are generated (D.2)."""

    noises: int = Field(8, ge=1, description="Images, each from its own noise.")
    steps: int = Field(50, ge=1, description="DDIM steps.")
    guidance: float = Field(7.5, ge=0, description="Scale of classifier-free guidance; 1 is the conditional model.")


class LatentCurvature(Section):
    """Which singular values of the latent score are found, and how (Figs. 5B, 24)."""

    sample: int = Field(0, ge=0, description="Number of the image, and of its noise.")
    kinds: tuple[Literal["conditional", "unconditional", "guided"], ...] = Field(
        ("conditional",), description="Whose score."
    )
    methods: tuple[Literal["one_sided", "lanczos", "hutchinson", "quadrature"], ...] = Field(
        ("one_sided", "lanczos", "hutchinson"),
        description="one_sided is Alg. 3; the others are of its Jacobian, and not in the paper.",
    )
    t0: int = Field(5, ge=0, description="The time of the score, 0-based.")
    guidance: float | None = Field(None, ge=0, description="Of the guided score.  [default: as generated]")
    leading: int = Field(64, ge=1, description="Singular values by Lanczos.")
    probes: int = Field(128, ge=2, description="Random vectors of Hutchinson's estimates.")
    starts: int = Field(4, ge=1, description="Random starts of the quadrature, which are taken together.")
    nodes: int = Field(64, ge=2, description="Nodes of the quadrature from each start.")
    batch: int = Field(64, ge=1, description="Columns of Alg. 3 at a time.")
    products: int = Field(8, ge=1, description="Hutchinson's products at a time.")
    precision: Literal["float32", "tf32", "bfloat16", "float16"] = Field(
        "float32", description="Arithmetic of Alg. 3; its error is measured and recorded. Derivatives are in float32."
    )
