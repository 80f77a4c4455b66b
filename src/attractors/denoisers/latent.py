"""Latent pipelines of `diffusers` (4.2, D.2) as a Diffusion on latents, so that all that measures one measures both.

A latent is x: [B, C, h, w], for Stable Diffusion 1.4 [B, 4, 64, 64]; t is 0-based, as in the pipeline's own schedule.
"""

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from attractors.denoisers.diffusion import Diffusion, expand, forward_process
from attractors.denoisers.models import read_model
from attractors.randomness import LATENT, generator

EXTRA = "pip install -r requirements-stable-diffusion.txt"
KINDS = ("conditional", "unconditional", "guided")
PRECISIONS = ("float32", "tf32", "bfloat16", "float16")


@contextmanager
def arithmetic(precision, device):
    """Compute in a precision: float32, tf32 (CUDA's products of 10-bit mantissas), or bfloat16, float16 (autocast).

    Raises ValueError for tf32 elsewhere than on CUDA.
    """
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(f"--precision tf32 is a mode of CUDA devices; this one is {device}")
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = precision == "tf32"
        half = precision in ("bfloat16", "float16")
        with torch.autocast(device.type, getattr(torch, precision) if half else None, enabled=half):
            yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


class Prompted(nn.Module):
    """A text-conditioned U-Net with its text fixed: maps x: [B, C, h, w] and t: [B] to its prediction.

    texts: [1 or 2, tokens, D], embedded; with weights w_i the prediction is sum_i w_i unet(x, t, texts_i).
    Guidance g is the weights (g, 1 - g) of (prompt, no prompt): no prompt + g (prompt - no prompt).
    texts is None for an unconditional U-Net. precision: of the arithmetic; weights and result are float32.
    """

    def __init__(self, unet, texts=None, weights=(1.0,), precision="float32"):
        super().__init__()
        self.unet, self.weights, self.precision = unet, weights, precision
        self.register_buffer("texts", texts, persistent=False)

    def forward(self, x, t):
        with arithmetic(self.precision, x.device):
            if self.texts is None:
                return self.unet(x, t).sample.to(x.dtype)
            count = len(self.texts)
            texts = self.texts.to(x.dtype).repeat_interleave(len(x), 0)
            parts = self.unet(x.repeat(count, 1, 1, 1), t.repeat(count), encoder_hidden_states=texts).sample
        return sum(w * part for w, part in zip(self.weights, parts.to(x.dtype).chunk(count), strict=True))


@dataclass(frozen=True)
class Pixels:
    """A pixel model of this repository: no text, no decoder."""

    model: Diffusion
    shape: tuple
    source: str
    offset: int = 0

    def diffusion(self, kind, prompt, guidance=1.0, precision="float32"):
        """The model, whose only kind is unconditional. Raises ValueError for another, for a prompt, for a precision."""
        if kind != "unconditional" or prompt:
            raise ValueError(f"{self.source}: a model without text; its prompt is empty and its kind unconditional")
        if precision != "float32":
            raise ValueError(
                f"{self.source}: --precision {precision} is for latent pipelines; pixel models take float32"
            )
        return self.model

    @torch.inference_mode()
    def decode(self, x):
        """Images: [B, C, H, W] in [-1, 1]."""
        return x.clamp(-1, 1)


@dataclass(frozen=True)
class Latents:
    """A loaded latent pipeline: a U-Net, an autoencoder, a schedule and, where there is text, its encoder."""

    pipeline: object
    betas: torch.Tensor
    prediction: str
    shape: tuple
    source: str
    offset: int

    def embed(self, prompt, device):
        """The text encoder's output for a prompt: [1, tokens, D]; padded and cut to the tokenizer's length."""
        return self.pipeline.encode_prompt(prompt, device, 1, do_classifier_free_guidance=False)[0]

    @torch.no_grad()
    def diffusion(self, kind, prompt, guidance=1.0, precision="float32"):
        """A Diffusion of latents: conditional on the prompt, unconditional (the empty prompt), or guided between both.

        Its noise_prediction and its score = -noise / sigma_t are those of `kind`. Raises ValueError.
        """
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}")
        unet, device = self.pipeline.unet, self.pipeline.unet.device
        if not hasattr(self.pipeline, "encode_prompt"):
            if kind != "unconditional" or prompt:
                raise ValueError(
                    f"{self.source}: a pipeline without text; its prompt is empty and its kind unconditional"
                )
            network = Prompted(unet, precision=precision)
        elif kind == "guided":
            texts = torch.cat([self.embed(prompt or "", device), self.embed("", device)])
            network = Prompted(unet, texts, (guidance, 1 - guidance), precision)
        else:
            text = "" if kind == "unconditional" else prompt or ""
            network = Prompted(unet, self.embed(text, device), precision=precision)
        return Diffusion(network, self.betas, self.prediction).to(device).eval().requires_grad_(False)

    @torch.inference_mode()
    def decode(self, x):
        """Images: [B, 3, H, W] in [-1, 1] from latents, one at a time: an image must not depend on its neighbours."""
        vae = getattr(self.pipeline, "vae", None) or self.pipeline.vqvae
        scaled = x / vae.config.scaling_factor
        return torch.cat([vae.decode(latent[None]).sample for latent in scaled]).clamp(-1, 1)


def read_pipeline(source, device="cpu"):
    """A latent pipeline by id (owner/name) or folder, or a pixel model by file, on `device`, ready to evaluate.

    Weights are read from safetensors only, never from a pickle. Raises ValueError with one line that says what to do.
    """
    if str(source).endswith(".safetensors"):
        model, record = read_model(source, device)
        return Pixels(model, tuple(record["image_shape"]), str(source))
    pipeline = _load(str(source)).to(device)
    unet, scheduler = pipeline.unet, _schedule(pipeline, source)
    pipeline.set_progress_bar_config(disable=True)
    for part in (unet, getattr(pipeline, "vae", None), getattr(pipeline, "vqvae", None)):
        if part is not None:
            part.eval().requires_grad_(False)
    side = unet.config.sample_size
    side = (side, side) if isinstance(side, int) else tuple(side)
    prediction = {"epsilon": "noise", "v_prediction": "velocity"}[scheduler.config.prediction_type]
    shape, offset = (unet.config.in_channels, *side), scheduler.config.steps_offset
    return Latents(pipeline, scheduler.betas, prediction, shape, str(source), offset)


def _schedule(pipeline, source):
    """The pipeline's schedule as a DDIMScheduler, whatever sampler it came with; ValueError for an unfit pipeline."""
    from diffusers import DDIMScheduler

    config = pipeline.unet.config
    text = hasattr(pipeline, "encode_prompt")
    if (text and getattr(config, "addition_embed_type", None)) or config.in_channels != config.out_channels:
        raise ValueError(f"{source}: a {type(pipeline).__name__}, whose U-Net takes more than a latent and a text")
    if pipeline.scheduler.config.get("prediction_type", "epsilon") not in ("epsilon", "v_prediction"):
        raise ValueError(
            f"{source}: predicts {pipeline.scheduler.config.prediction_type}; epsilon or v_prediction needed"
        )
    return DDIMScheduler.from_config(pipeline.scheduler.config)


def _load(source):
    """The diffusers pipeline in a folder or at an id; ValueError in one line for whatever stands against it."""
    try:
        from diffusers import DiffusionPipeline
        from diffusers.utils import logging as diffusers_logging
        from huggingface_hub.errors import GatedRepoError
        from transformers.utils import logging as transformers_logging
    except ImportError:
        raise ValueError(f"{source}: needs diffusers and transformers; {EXTRA}") from None
    for logging in (diffusers_logging, transformers_logging):
        logging.disable_progress_bar()
        logging.set_verbosity(logging.CRITICAL)  # what goes wrong is told once, below
    folder = Path(source)
    if not folder.is_dir() and (source.count("/") != 1 or source[0] in "/.~"):
        raise ValueError(f"{source}: no such folder, and no id either, which is owner/name")
    if folder.is_dir() and not (folder / "model_index.json").is_file():
        raise ValueError(f"{source}: holds no model_index.json, so no diffusers pipeline")
    try:
        pipeline = DiffusionPipeline.from_pretrained(source, use_safetensors=True, safety_checker=None)
    except Exception as error:  # of a dozen kinds, by the library that finds out
        reasons = [error]
        while (reason := reasons[-1].__cause__ or reasons[-1].__context__) is not None:
            reasons.append(reason)
        if any(isinstance(reason, GatedRepoError) for reason in reasons):
            raise ValueError(
                f"{source}: gated; accept its licence on its page, then `hf auth login`, or give a downloaded folder"
            ) from None
        first = " ".join(str(error).split())[:200] or type(error).__name__
        if folder.is_dir():
            raise ValueError(f"{source}: not a whole pipeline with safetensors weights ({first})") from None
        raise ValueError(f"{source}: not to be had; offline, give a downloaded folder instead ({first})") from None
    if not hasattr(pipeline, "unet") or not (hasattr(pipeline, "vae") or hasattr(pipeline, "vqvae")):
        raise ValueError(f"{source}: a {type(pipeline).__name__}; a U-Net on an autoencoder's latents is needed")
    return pipeline


def start_noise(seed, indices, shape, device="cpu"):
    """x_T of the samples numbered `indices`, each from its own generator (`seed`, LATENT, index): [B, *shape]."""
    drawn = [generator(seed, LATENT, int(i)).standard_normal(shape, dtype="float32") for i in indices]
    return torch.stack([torch.from_numpy(noise) for noise in drawn]).to(device)


def ddim_times(total, steps, offset=1):
    """Times of generation, descending: i floor(T / N') + offset, as the paper's package spaces them for this model."""
    if not 1 <= steps <= total:
        raise ValueError(f"--steps is {steps}; the schedule allows 1 to {total}")
    return [min(i * (total // steps) + offset, total - 1) for i in reversed(range(steps))]


@torch.inference_mode()
def generate(model, noise, steps, offset=1, progress=lambda times: times):
    """DDIM (D.2) from x_T = noise: [B, ...]: the deterministic sampler on the time grid of Stable Diffusion's release.

    Unlike `samplers.ddim`, which serves Alg. 1, the last step ends at alpha_bar_0, not at the estimate of x_0; the
    steps are as long as the distance of times, and a time before 0 counts as 0.
    """
    stride, x = model.steps // steps, noise
    for t in progress(ddim_times(model.steps, steps, offset)):
        predicted = model.noise_prediction(x, t)
        now, later = torch.tensor(t, device=x.device), torch.tensor(max(t - stride, 0), device=x.device)
        scale, sigma = expand(model.alpha_bar.sqrt(), now, x), expand((1 - model.alpha_bar).sqrt(), now, x)
        x = forward_process((x - sigma * predicted) / scale, predicted, later, model.alpha_bar)
    return x
