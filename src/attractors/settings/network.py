"""The sections `network` and `diffusion` of a sweep: which denoiser, and what its output means."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from attractors.settings.section import Section, check

Prediction = Literal["noise", "velocity", "image", "flow"]
Level = Literal["time", "sigma", "flow"]


class MLP(Section):
    """The residual MLP of A.2, on images of any shape."""

    name: Literal["mlp"] = Field("mlp", description="The residual MLP of A.2.")
    width: int = Field(256, ge=1, le=2**16, description="Units of each layer.")
    blocks: int = Field(3, ge=1, le=256, description="Residual blocks.")


class UNet(Section):
    """The U-Net of DDPM (B.4, Table 3)."""

    name: Literal["unet"] = Field("unet", description="The U-Net of B.4.")
    width: int = Field(128, ge=1, le=2**16, description="The initial latent dimension of Table 3.")
    multipliers: tuple[Annotated[int, Field(ge=0, le=64)] | Annotated[float, Field(ge=0, le=64)], ...] = Field(
        (1, 2, 2, 2), max_length=16, description="Channels of each level in units of the width (Table 3)."
    )
    blocks: int = Field(2, ge=1, le=256, description="Residual blocks of each level on the way down.")
    attention: tuple[Annotated[int, Field(ge=1, le=2**14)], ...] = Field(
        (16,), max_length=16, description="Resolutions whose levels have self-attention."
    )
    dropout: float = Field(0.0, ge=0, le=1, description="Share of the activations that training sets to zero.")
    patch: int = Field(1, ge=1, le=64, description="Side of the squares of pixels that become channels of one pixel.")


class DiT(Section):
    """The diffusion transformer of Peebles and Xie, without labels."""

    name: Literal["dit"] = Field("dit", description="The diffusion transformer.")
    width: int = Field(128, ge=1, le=2**16, description="Features of each patch.")
    blocks: int = Field(4, ge=1, le=256, description="Transformer blocks.")
    heads: int = Field(4, ge=1, le=256, description="Heads of attention, which share the width.")
    patch: int = Field(4, ge=1, le=64, description="Side of the squares of pixels that become one token.")

    @model_validator(mode="after")
    def _divisible(self) -> "DiT":
        if self.width % (4 * self.heads):
            raise ValueError(f"width is {self.width}; it must be a multiple of 4 and of 4 heads, {4 * self.heads}")
        return self


class Diffusers(Section):
    """A model of diffusers, by its config.json, computed by diffusers itself (pip install diffusers)."""

    name: Literal["diffusers"] = Field("diffusers", description="A UNet2DModel or DiTTransformer2DModel.")
    config: dict[str, Any] = Field(description="The content of its config.json.")


class Exact(Section):
    """The closed-form optimal denoiser of a training set (Eqs. 3-5), which has nothing to set."""

    name: Literal["exact"] = Field("exact", description="The optimal denoiser in closed form.")


class Linear(Section):
    """The optimal linear denoiser of a training set, that of a Gaussian with its mean and covariance."""

    name: Literal["linear"] = Field("linear", description="The optimal linear denoiser in closed form.")


class Smoothed(Section):
    """The exact denoiser smoothed by a Gaussian kernel of one width: a control without learning."""

    name: Literal["smoothed"] = Field("smoothed", description="The optimal denoiser smoothed by a kernel.")
    width: float = Field(0.0, ge=0, description="h, the width of the kernel in units of pixels.")
    kernel: Literal["input", "images"] = Field("input", description="Smooth over the input, or the training images.")
    draws: int = Field(64, ge=1, description="Displacements of the input over which the denoiser is averaged.")


class Local(Section):
    """The denoiser that compares patches with those of the training images: a control without learning."""

    name: Literal["local"] = Field("local", description="The optimal denoiser of patches.")
    side: int = Field(3, ge=1, description="The smallest side of a patch, in pixels.")
    per_noise: float = Field(0.0, ge=0, description="Side of a patch in units of the noise level, where that is more.")
    place: Literal["same", "any"] = Field("same", description="Compare patches at the same place, or at any place.")


NETWORKS: dict[str, type[Section]] = {
    "mlp": MLP, "unet": UNet, "dit": DiT, "diffusers": Diffusers, "exact": Exact, "linear": Linear,
    "smoothed": Smoothed, "local": Local,
}
CLOSED_FORM = ("exact", "linear", "smoothed", "local")  # networks that are not trained: controls


def network_settings(values: object, where: str = "network") -> Section:
    """Return the settings of the network that `values` names. Raises ValueError for an unknown name or setting."""
    if not isinstance(values, dict):
        raise ValueError(f"{where} is {str(values)[:80]}; it must be a mapping of settings")
    name = values.get("name")
    if not isinstance(name, str) or name not in NETWORKS:
        raise ValueError(f"{where}.name is {str(name)[:80]!r}; it must be one of {', '.join(NETWORKS)}")
    (settings,) = check(values, f"{where} {name}", NETWORKS[name])
    return settings


class Process(Section):
    """The diffusion process of DDPM (B.4) and what the network predicts of it."""

    prediction: Prediction = Field("noise", description="What the network returns.")
    steps: int = Field(1000, ge=2, le=10**5, description="T, the number of times.")
    beta_min: float = Field(1e-4, gt=0, lt=1, description="Variance of the first step.")
    beta_max: float = Field(2e-2, gt=0, lt=1, description="Variance of the last step; linear in between.")

    @model_validator(mode="after")
    def _ascending(self) -> "Process":
        if self.beta_min > self.beta_max:
            raise ValueError(f"beta_min is {self.beta_min}; it must be at most beta_max, {self.beta_max}")
        return self


def diffusion_settings(values: object, where: str = "diffusion") -> Process:
    """Return the settings of the section `diffusion`. Raises ValueError for what is unknown or out of range."""
    if not isinstance(values, dict):
        raise ValueError(f"{where} is {str(values)[:80]}; it must be a mapping of settings")
    (settings,) = check(values, where, Process)
    assert isinstance(settings, Process)
    return settings


def model_settings(sweep: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the sections network and diffusion of a sweep, defaults included. Raises ValueError naming the sweep."""
    where = f"sweep {sweep['name']}: "
    network = network_settings(sweep.get("network"), f"{where}network")
    diffusion = diffusion_settings(sweep.get("diffusion") or {}, f"{where}diffusion")
    return {"network": network.model_dump(mode="json"), "diffusion": diffusion.model_dump(mode="json")}
