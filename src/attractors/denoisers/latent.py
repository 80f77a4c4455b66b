"""Latent pipelines of `diffusers` (4.2, D.2) as a Diffusion on latents, which all measures of pixel models accept.

A latent is x: [B, C, h, w], for Stable Diffusion 1.4 [B, 4, 64, 64]; t is 0-based, as in the pipeline's own schedule.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attractors.denoisers.diffusers_folder import check_scheduler, hub_snapshot
from attractors.denoisers.diffusion import Diffusion, forward_process
from attractors.denoisers.models import read_model
from attractors.denoisers.unet_diffusers import sides_of
from attractors.devices import arithmetic
from attractors.randomness import LATENT, generator

EXTRA = "pip install -e '.[stable-diffusion]'"
KINDS = ("conditional", "unconditional", "guided")


class Prompted(nn.Module):
    """A text-conditioned U-Net with a fixed text. It maps x: [B, C, h, w] and t: [B], 0-based, to its prediction.

    texts: [1 or 2, tokens, D] are embedded texts, or None for an unconditional U-Net. The prediction is
    sum_i w_i unet(x, t, texts_i). Guidance g corresponds to the weights (g, 1 - g) of (prompt, no prompt), which gives
    no prompt + g (prompt - no prompt). precision is that of the arithmetic; weights and result are float32.
    """

    texts: torch.Tensor | None

    def __init__(
        self, unet: nn.Module, texts: torch.Tensor | None = None, weights: Sequence[float] = (1.0,),
        precision: str = "float32",
    ) -> None:
        super().__init__()
        self.unet, self.weights, self.precision = unet, weights, precision
        self.register_buffer("texts", texts, persistent=False)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return the prediction: [B, C, h, w], at x of that shape and t: [B], 0-based."""
        with arithmetic(self.precision, x.device):
            if self.texts is None:
                return self.unet(x, t).sample.to(x.dtype)
            count = len(self.texts)
            texts = self.texts.to(x.dtype).repeat_interleave(len(x), 0)
            parts = self.unet(x.repeat(count, 1, 1, 1), t.repeat(count), encoder_hidden_states=texts).sample
        return sum(w * part for w, part in zip(self.weights, parts.to(x.dtype).chunk(count), strict=True))


@dataclass(frozen=True)
class Pixels:
    """A pixel model of this repository, which has neither text nor decoder."""

    model: Diffusion
    shape: tuple
    source: str
    offset: int = 0

    def diffusion(self, kind: str, prompt: str | None, guidance: float = 1.0, precision: str = "float32") -> Diffusion:
        """Return the model.

        Raises ValueError for a kind other than unconditional, for a prompt, and for a precision other than float32.
        """
        if kind != "unconditional" or prompt:
            raise ValueError(f"{self.source}: it has no text; its prompt is empty and its kind unconditional")
        if precision != "float32":
            raise ValueError(f"{self.source}: --precision {precision} is for latent pipelines; this takes float32")
        return self.model

    @torch.inference_mode()
    def decode(self, x: torch.Tensor) -> torch.Tensor:
        """Return the images in [-1, 1]: [B, C, H, W]."""
        return x.clamp(-1, 1)


@dataclass(frozen=True)
class Latents:
    """A loaded latent pipeline: a U-Net, an autoencoder, a schedule and, for models with text, a text encoder."""

    pipeline: Any
    betas: torch.Tensor
    prediction: str
    shape: tuple
    source: str
    offset: int

    def embed(self, prompt: str, device: torch.device) -> torch.Tensor:
        """Return the text encoder's output for a prompt: [1, tokens, D].

        The prompt is padded or cut to the tokenizer's length.
        """
        return self.pipeline.encode_prompt(prompt, device, 1, do_classifier_free_guidance=False)[0]

    @torch.no_grad()
    def diffusion(self, kind: str, prompt: str | None, guidance: float = 1.0, precision: str = "float32") -> Diffusion:
        """Return a Diffusion on latents whose noise_prediction and score are those of `kind`.

        kind is conditional (on the prompt), unconditional (the empty prompt) or guided (between both, by `guidance`).
        Raises ValueError for another kind, and for a prompt or another kind where the pipeline has no text.
        """
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}")
        unet, device = self.pipeline.unet, self.pipeline.unet.device
        if not hasattr(self.pipeline, "encode_prompt"):
            if kind != "unconditional" or prompt:
                raise ValueError(f"{self.source}: it has no text; its prompt is empty and its kind unconditional")
            network = Prompted(unet, precision=precision)
        elif kind == "guided":
            texts = torch.cat([self.embed(prompt or "", device), self.embed("", device)])
            network = Prompted(unet, texts, (guidance, 1 - guidance), precision)
        else:
            text = "" if kind == "unconditional" else prompt or ""
            network = Prompted(unet, self.embed(text, device), precision=precision)
        return Diffusion(network, self.betas, self.prediction).to(device).eval().requires_grad_(False)

    @torch.inference_mode()
    def decode(self, x: torch.Tensor) -> torch.Tensor:
        """Return the images of latents: [B, 3, H, W] in [-1, 1]. Each is decoded by itself, whatever its batch."""
        vae = getattr(self.pipeline, "vae", None) or self.pipeline.vqvae
        scaled = x / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0)
        return torch.cat([vae.decode(latent[None]).sample for latent in scaled]).clamp(-1, 1)


def read_pipeline(source: str | Path, device: torch.device | str = "cpu") -> Pixels | Latents:
    """Read a latent pipeline by id (owner/name) or folder, or a pixel model by file, onto `device`, ready to evaluate.

    Weights are read from safetensors only, never from a pickle. Raises ValueError whose message says what to do.
    """
    if str(source).endswith(".safetensors"):
        model, record = read_model(source, device)
        return Pixels(model, tuple(record["image_shape"]), str(source))
    pipeline = _load(str(source)).to(device)
    unet, scheduler = pipeline.unet, _schedule(pipeline, str(source))
    pipeline.set_progress_bar_config(disable=True)
    for part in (unet, getattr(pipeline, "vae", None), getattr(pipeline, "vqvae", None)):
        if part is not None:
            part.eval().requires_grad_(False)
    try:
        side = sides_of(unet.config.sample_size, None)
    except ValueError as error:
        raise ValueError(f"{source}: unet/config.json: {error}") from None
    prediction = {"epsilon": "noise", "v_prediction": "velocity"}[scheduler.config.prediction_type]
    shape, offset = (unet.config.in_channels, *side), scheduler.config.steps_offset
    return Latents(pipeline, scheduler.betas, prediction, shape, str(source), offset)


def _schedule(pipeline: Any, source: str) -> Any:
    """Return the pipeline's schedule as a DDIMScheduler, whatever sampler it came with.

    Raises ValueError where the U-Net takes other inputs than a latent and a text, or predicts neither noise nor
    velocity.
    """
    from diffusers import DDIMScheduler

    config = pipeline.unet.config
    text = hasattr(pipeline, "encode_prompt")
    if (text and getattr(config, "addition_embed_type", None)) or config.in_channels != config.out_channels:
        raise ValueError(f"{source}: a {type(pipeline).__name__}, whose U-Net takes more than a latent and a text")
    scheduler = dict(pipeline.scheduler.config)
    check_scheduler({"_class_name": type(pipeline.scheduler).__name__, **scheduler}, source)
    if pipeline.scheduler.config.get("prediction_type", "epsilon") not in ("epsilon", "v_prediction"):
        predicted = pipeline.scheduler.config.prediction_type
        raise ValueError(f"{source}: it predicts {predicted}; epsilon or v_prediction is needed")
    return DDIMScheduler.from_config(pipeline.scheduler.config)


def _load(source: str) -> Any:
    """Load the diffusers pipeline in a folder or of an id. Raises ValueError with one line where this fails."""
    try:
        from diffusers import DiffusionPipeline
        from diffusers.utils import logging as diffusers_logging
        from huggingface_hub.errors import GatedRepoError
        from transformers.utils import logging as transformers_logging
    except ImportError:
        raise ValueError(f"{source}: needs diffusers and transformers; {EXTRA}") from None
    for logging in (diffusers_logging, transformers_logging):
        logging.disable_progress_bar()
        logging.set_verbosity(logging.CRITICAL)  # errors are reported once, below
    folder = hub_snapshot(Path(source))
    if not folder.is_dir() and (source.count("/") != 1 or source[0] in "/.~"):
        raise ValueError(f"{source}: neither a folder nor an id, which is owner/name")
    if folder.is_dir() and not (folder / "model_index.json").is_file():
        raise ValueError(f"{source}: not a diffusers pipeline: it holds no model_index.json")
    place = folder if folder.is_dir() else source
    try:
        pipeline = DiffusionPipeline.from_pretrained(place, use_safetensors=True, safety_checker=None)
    except Exception as error:  # diffusers, transformers and huggingface_hub each raise kinds of their own
        reasons: list[BaseException] = [error]
        while (reason := reasons[-1].__cause__ or reasons[-1].__context__) is not None:
            reasons.append(reason)
        if any(isinstance(reason, GatedRepoError) for reason in reasons):
            raise ValueError(
                f"{source}: gated; accept its licence on its page, then `hf auth login`, or give a downloaded folder"
            ) from None
        first = " ".join(str(error).split())[:200] or type(error).__name__
        if folder.is_dir():
            raise ValueError(f"{source}: not a whole pipeline with safetensors weights ({first})") from None
        raise ValueError(f"{source}: cannot be downloaded; offline, give a downloaded folder ({first})") from None
    if not hasattr(pipeline, "unet") or not (hasattr(pipeline, "vae") or hasattr(pipeline, "vqvae")):
        raise ValueError(f"{source}: a {type(pipeline).__name__}; a U-Net on an autoencoder's latents is needed")
    return pipeline


def start_noise(
    seed: int, indices: Iterable[int], shape: tuple[int, ...], device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Return x_T of the samples numbered `indices`: [B, *shape]. Each has its own generator (`seed`, LATENT, index)."""
    drawn = [generator(seed, LATENT, int(i)).standard_normal(shape, dtype="float32") for i in indices]
    return torch.stack([torch.from_numpy(noise) for noise in drawn]).to(device)


def ddim_times(total: int, steps: int, offset: int = 1) -> list[int]:
    """Return the times of generation, descending: i floor(T / N') + offset, spaced as in the paper's package.

    total is T and steps is N'. Raises ValueError unless 1 <= steps <= total.
    """
    if not 1 <= steps <= total:
        raise ValueError(f"--steps is {steps}; the schedule allows 1 to {total}")
    return [min(i * (total // steps) + offset, total - 1) for i in reversed(range(steps))]


@torch.inference_mode()
def generate(
    model: Diffusion, noise: torch.Tensor, steps: int, offset: int = 1,
    progress: Callable[[list[int]], Iterable[int]] = lambda times: times,
) -> torch.Tensor:
    """Generate from x_T = noise: [B, ...] by DDIM (D.2), on the time grid of Stable Diffusion's release; return x_0.

    This differs from `samplers.ddim`, which serves Alg. 1, in three ways: the last step ends at alpha_bar_0 rather than
    at the estimate of x_0, the length of a step is the distance between times, and a time before 0 counts as 0.
    """
    stride, x = model.steps // steps, noise
    for t in progress(ddim_times(model.steps, steps, offset)):
        predicted = model.noise_prediction(x, t)
        x = forward_process(model.image(x, predicted, t), predicted, max(t - stride, 0), model.alpha_bar)
    return x
