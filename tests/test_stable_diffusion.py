"""The case study on a random Stable Diffusion pipeline of the real classes: against diffusers' own sampler, a literal
Alg. 3, the full Jacobian and brute force; resuming; the pixel models of this repository; one line for each mistake."""

import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT

pytest.importorskip("diffusers", reason="needs diffusers: pip install -e '.[stable-diffusion]'")
pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[stable-diffusion]'")

from builders import killed, lpips_file, model_file, processed
from ruamel.yaml import YAML
from safetensors.torch import load_file
from tiny_pipeline import SIDE, build

from attractors.arrays import read_arrays
from attractors.commands.scale import runs_of
from attractors.data.images import read_images
from attractors.data.prompts import prompts_of
from attractors.denoisers import latent
from attractors.denoisers.diffusion import Diffusion
from attractors.denoisers.latent import Prompted, generate, read_pipeline, start_noise
from attractors.distances.lpips_embedding import read_embedding
from attractors.files import file_hash
from attractors.landscape.curvature import jacobian, one_sided, one_sided_resumable
from attractors.landscape.derivatives import forward_products, reverse_products
from attractors.landscape.linearised import (
    hutchinson,
    leading_singular_values,
    rounding,
)
from attractors.landscape.quadrature import spectrum
from attractors.randomness import CURVATURE, generator

PROMPT, SEED, T, N = "Galaxy Women's Leather Boots", 3407, 5, 4 * SIDE * SIDE


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny"
    build(path)
    return path


@pytest.fixture(scope="module")
def tiny(folder):
    return read_pipeline(folder)


@pytest.fixture(scope="module")
def x_0(tiny):
    """An image's latent, made in ten steps from noise 0 of the seed."""
    return generate(tiny.diffusion("guided", PROMPT, 7.5), start_noise(SEED, [0], tiny.shape), 10, tiny.offset)


@pytest.fixture(scope="module")
def conditional(tiny):
    return tiny.diffusion("conditional", PROMPT)


# Predictions and generation


def test_generation_equals_the_pipelines_own_with_its_ddim_scheduler(tiny, x_0):
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    config = tiny.pipeline.scheduler.config
    parts = {**tiny.pipeline.components, "scheduler": DDIMScheduler.from_config(config, clip_sample=False)}
    pipeline = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    noise = start_noise(SEED, [0], tiny.shape)
    settings = {"num_inference_steps": 10, "guidance_scale": 7.5}
    theirs = pipeline(PROMPT, latents=noise, output_type="latent", **settings).images
    assert (theirs - x_0).abs().max() < 1e-5 * x_0.abs().max()
    images = pipeline(PROMPT, latents=noise, output_type="np", **settings).images  # [1, H, W, 3] in [0, 1]
    assert np.abs(images.transpose(0, 3, 1, 2) * 2 - 1 - tiny.decode(x_0).numpy()).max() < 1e-3


def test_guided_noise_is_the_unconditional_one_plus_guidance_times_the_difference(tiny):
    x, t = start_noise(SEED, [0, 1], tiny.shape), torch.tensor([5, 700])
    noise = {kind: tiny.diffusion(kind, PROMPT, 3.0).noise_prediction(x, t) for kind in latent.KINDS}
    expected = noise["unconditional"] + 3.0 * (noise["conditional"] - noise["unconditional"])
    assert (noise["guided"] - expected).abs().max() < 1e-5
    assert (noise["conditional"] - noise["unconditional"]).abs().max() > 1e-4  # the text matters
    unet, texts = tiny.pipeline.unet, tiny.embed(PROMPT, "cpu").expand(2, -1, -1)
    assert (unet(x, t, texts).sample - noise["conditional"]).abs().max() < 1e-5


def test_score_is_minus_the_noise_over_sigma_of_the_pipelines_schedule(tiny, conditional):
    x = start_noise(SEED, [0], tiny.shape)
    alpha_bar = tiny.pipeline.scheduler.alphas_cumprod[T]
    expected = -conditional.noise_prediction(x, T) / (1 - alpha_bar).sqrt()
    assert torch.allclose(conditional.score(x, T), expected, rtol=1e-4)


def test_a_velocity_pipeline_has_the_noise_that_its_scheduler_derives(tiny):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler.from_config(tiny.pipeline.scheduler.config, prediction_type="v_prediction",
                                          clip_sample=False)
    network = Prompted(tiny.pipeline.unet, tiny.embed(PROMPT, "cpu"))
    model = Diffusion(network, tiny.betas, "velocity").requires_grad_(False)
    x, t = start_noise(SEED, [0], tiny.shape), torch.tensor(400)
    scheduler.set_timesteps(10)
    step = scheduler.step(network(x, t.expand(1)), t, x)
    assert torch.allclose(model.denoised(x, t), step.pred_original_sample, atol=1e-4)


def test_an_unconditional_latent_pipeline_is_read_too(tmp_path, tiny):
    from diffusers import DDIMScheduler, LDMPipeline, UNet2DModel, VQModel

    torch.manual_seed(0)
    vae = VQModel(block_out_channels=(8,), norm_num_groups=4, latent_channels=3)
    unet = UNet2DModel(sample_size=8, in_channels=3, out_channels=3, block_out_channels=(8, 8), norm_num_groups=4,
                       layers_per_block=1, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)
    LDMPipeline(vae, unet, DDIMScheduler()).save_pretrained(tmp_path / "ldm")
    pipeline = read_pipeline(tmp_path / "ldm")
    noise = start_noise(SEED, [0], pipeline.shape)
    model = pipeline.diffusion("unconditional", None)
    assert torch.allclose(model.noise_prediction(noise, 3), unet(noise, 3).sample, atol=1e-6)
    assert pipeline.decode(generate(model, noise, 2, pipeline.offset)).shape == (1, 3, 8, 8)
    with pytest.raises(ValueError, match="it has no text"):
        pipeline.diffusion("guided", PROMPT, 7.5)


# Curvature


def test_streamed_alg_3_equals_a_literal_alg_3_with_the_whole_matrix(conditional, x_0):
    random, columns = generator(SEED, CURVATURE, 0), []
    with torch.inference_mode():
        for _ in range(4 * N):
            noise = torch.from_numpy(random.standard_normal(x_0.shape, np.float32))
            alpha_bar = conditional.alpha_bar[T]
            x_plus = alpha_bar.sqrt().float() * x_0 + (1 - alpha_bar).sqrt().float() * noise
            columns.append(conditional.score(x_plus, T).flatten())
    expected = torch.linalg.svdvals(torch.stack(columns, 1).double())
    found = one_sided_resumable(conditional, x_0, 0, SEED, T, batch=100)
    assert found.shape == (N,)
    assert ((found - expected).abs() < 1e-4 * expected + 1e-3 * expected[1]).all()
    assert torch.equal(found, one_sided(conditional, x_0, [0], SEED, T, batch=100)[0])


def test_alg_3_resumed_from_half_way_has_the_same_bytes_and_evaluates_only_the_rest(conditional, x_0):
    states, evaluated = [], []

    class Counting:
        alpha_bar = conditional.alpha_bar

        def score(self, x, t):
            evaluated.append(len(x))
            return conditional.score(x, t)

    def save(state):
        states.append({"columns": state["columns"], "gram": state["gram"].clone()})

    whole = one_sided_resumable(Counting(), x_0, 0, SEED, T, 96, None, save)
    assert sum(evaluated) == 4 * N
    half = states[len(states) // 2]
    evaluated.clear()
    assert torch.equal(one_sided_resumable(Counting(), x_0, 0, SEED, T, 96, half), whole)
    assert sum(evaluated) == 4 * N - half["columns"]
    assert 0 < half["columns"] < 4 * N


@pytest.mark.parametrize("kind", ["conditional", "guided"])
def test_lanczos_finds_the_leading_singular_values_of_the_full_jacobian(tiny, x_0, kind):
    model = tiny.diffusion(kind, PROMPT, 7.5)
    full, _ = jacobian(model, x_0, T, batch=N)
    found, products = leading_singular_values(model, x_0, 8, SEED, t=T)
    error = ((found - full[0, :8]) / full[0, :8]).abs().max()
    print(f"{kind}: {products} products, relative error {error:.1e}")
    assert error < 1e-3
    assert products < 4 * N


def test_products_with_the_jacobian_are_each_others_transpose_and_match_differences(conditional, x_0):
    u, v = start_noise(SEED, [10, 11], x_0.shape[1:]).chunk(2)
    x = conditional.alpha_bar[T].sqrt().float() * x_0
    forward = forward_products(lambda x: conditional.score(x, T), x, v)
    value, (reverse,) = reverse_products(lambda x: conditional.score(x, T), x, u[None])
    assert torch.allclose(value, conditional.score(x, T), rtol=1e-5, atol=1e-5)
    assert torch.allclose((u * forward).sum(), (reverse * v).sum(), rtol=1e-3, atol=1e-3)
    difference = (conditional.score(x + 0.05 * v, T) - conditional.score(x - 0.05 * v, T)) / 0.1
    assert (difference - forward).norm() < 0.02 * forward.norm()


def test_hutchinsons_estimates_lie_within_four_errors_of_the_full_jacobians_moments(conditional, x_0):
    full, trace = jacobian(conditional, x_0, T, batch=N)
    found = hutchinson(conditional, x_0, 256, SEED, t=T, batch=64)
    rms = full[0].square().mean().sqrt().item()
    assert abs(found.trace - trace.item()) < 4 * found.trace_se
    assert abs(found.rms - rms) < 4 * found.rms_se
    assert found.rms_se < 0.02 * rms
    again = hutchinson(conditional, x_0, 256, SEED, t=T, batch=50)
    assert np.allclose(found, again, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("precision", "largest"), [("bfloat16", 2e-2), ("float16", 2e-3)])
def test_low_precision_moves_the_spectrum_by_no_more_than_is_stated(tiny, conditional, x_0, precision, largest):
    low = tiny.diffusion("conditional", PROMPT, precision=precision)
    error, bound = rounding(low, conditional, x_0, SEED, t=T)
    moved = one_sided_resumable(low, x_0, 0, SEED, T, 256) - one_sided_resumable(conditional, x_0, 0, SEED, T, 256)
    print(f"{precision}: score {error:.1e}; values move by {moved[1:].abs().max():.2g}, bound {bound:.2g}")
    assert 0 < error < largest
    assert moved[1:].abs().max() < 1.25 * bound  # the first is of the mean score, whose error is no independent noise


def test_lanczos_refuses_as_many_values_as_there_are(conditional, x_0):
    with pytest.raises(ValueError, match=f"--leading is {N}; .* allows 1 to {N - 1}"):
        leading_singular_values(conditional, x_0, N, SEED, t=T)


# The stages


def study(path, model, **sections):
    content = {
        "model": str(model),
        "sd_generate": {"noises": 3, "steps": 4},
        "sd_curvature": {"methods": ["one_sided", "lanczos", "hutchinson", "quadrature"], "leading": 2, "probes": 8,
                         "batch": 16, "starts": 2, "nodes": 5},
        "prompts": {
            "hippo": {"type": "memorized", "prompt": "Mothers influence on her young hippo", "source": "Webster"},
            "boots": {"type": "spurious", "prompt": PROMPT, "source": "Webster"},
        },
    } | sections
    with path.open("w") as file:
        YAML().dump(content, file)
    return path


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    """A folder with a study and all that its stages wrote."""
    root = tmp_path_factory.mktemp("study")
    file, lpips = study(root / "study.yaml", folder), lpips_file(root / "alex.safetensors")
    for name in ("hippo", "boots"):
        latents = root / "latents" / f"{name}.safetensors"
        processed("sd_generate", "--study", file, "--prompt", name, "--out", latents)
        methods = ["--method", "one_sided"] if name == "hippo" else []
        processed("sd_curvature", "--study", file, "--prompt", name, *methods, "--latents", latents, "--metrics",
                  root / "curvature" / f"{name}.csv", "--out", root / "spectra" / f"{name}.safetensors")
    processed("sd_stability", root / "latents", "--study", file, "--lpips", lpips, "--out", root / "stability.csv")
    processed("figure_stable_diffusion", file, "--latents", root / "latents", "--spectra", root / "spectra",
              "--stability", root / "stability.csv", "--out", root / "figure.png")
    return root


def test_stages_write_what_the_functions_return(made, tiny):
    arrays, record = read_arrays(made / "latents" / "boots.safetensors")
    model = tiny.diffusion("guided", PROMPT, 7.5)
    x = generate(model, start_noise(SEED, [2], tiny.shape), 4, tiny.offset)
    assert np.array_equal(arrays["latents"][2], x[0].numpy())
    assert np.abs(read_images(made / "latents" / "boots.safetensors")[2] - tiny.decode(x)[0].numpy()).max() < 1 / 255
    spectra, _ = read_arrays(made / "spectra" / "boots.safetensors")
    x_0 = torch.from_numpy(arrays["latents"][:1])
    expected = one_sided_resumable(tiny.diffusion("conditional", PROMPT), x_0, 0, SEED, T, 16)
    assert np.array_equal(spectra["conditional_one_sided"], expected.numpy())
    assert spectra["conditional_lanczos"].shape == (2,)
    distribution = spectrum(tiny.diffusion("conditional", PROMPT), x_0, 2, 5, SEED, t=T)
    np.testing.assert_allclose(spectra["conditional_spectrum"], torch.stack(distribution), rtol=1e-6)
    table = pd.read_csv(made / "curvature" / "boots.csv", index_col="method")
    assert table.evaluations["one_sided"] == 4 * N and table.evaluations["quadrature"] == 2 * 9
    assert table.loc["quadrature", ["median", "median_error"]].tolist() == pytest.approx(distribution.quantile(0.5))
    assert table.largest["one_sided"] == pytest.approx(expected[0].item(), rel=1e-5)
    assert (table.type == "spurious").all() and record["type"] == "spurious"
    assert (made / "figure.png").stat().st_size > 10_000


def test_stability_equals_lpips_and_distances_of_all_pairs_one_by_one(made):
    embedding = read_embedding(made / "alex.safetensors")
    table = pd.read_csv(made / "stability.csv", index_col="prompt")
    images = {n: torch.from_numpy(read_images(made / "latents" / f"{n}.safetensors")) for n in ("hippo", "boots")}
    pairs = [embedding.distance(images["hippo"][i : i + 1], images["hippo"][j : j + 1]).item() for i, j in ((0, 1), (0, 2), (1, 2))]  # noqa: E501
    other = [embedding.distance(images["hippo"][i : i + 1], images["boots"][j : j + 1]).item() for i, j in ((0, 2), (1, 0), (2, 1))]  # noqa: E501
    row = table.loc["hippo"]
    assert [row.lpips, row.lpips_min, row.lpips_max] == pytest.approx([np.mean(pairs), min(pairs), max(pairs)],
                                                                      rel=1e-3)
    assert row.lpips_repetition == pytest.approx(1 - np.mean(pairs) / np.mean(other), abs=1e-3)
    latents = read_arrays(made / "latents" / "hippo.safetensors")[0]["latents"].astype(np.float64)
    distances = [np.sqrt(((latents[i] - latents[j]) ** 2).sum()) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert [row.l2, row.l2_min, row.l2_max] == pytest.approx([np.mean(distances), min(distances), max(distances)],
                                                             rel=1e-5)


def test_curvature_killed_with_sigkill_resumes_to_the_same_bytes(made, tmp_path):
    arguments = ["--study", made / "study.yaml", "--prompt", "hippo", "--method", "one_sided", "--latents",
                 made / "latents" / "hippo.safetensors", "--metrics", tmp_path / "hippo.csv", "--out",
                 tmp_path / "hippo.safetensors"]
    state = killed(tmp_path / ".resume", "sd_curvature", *arguments, wait=0)
    assert not (tmp_path / "hippo.safetensors").exists()
    assert 0 < torch.load(state, weights_only=True)["columns"] < 4 * N
    processed("sd_curvature", *arguments)
    assert file_hash(tmp_path / "hippo.safetensors") == file_hash(made / "spectra" / "hippo.safetensors")
    assert file_hash(tmp_path / "hippo.csv") == file_hash(made / "curvature" / "hippo.csv")
    assert list((tmp_path / ".resume").iterdir()) == []


def test_pixel_models_of_this_repository_go_through_the_same_stages(tmp_path):
    network, diffusion = {"name": "mlp", "width": 16, "blocks": 1}, {"prediction": "velocity"}
    path = tmp_path / "4.safetensors"
    model = model_file(path, network, (1, 4, 4), 2, diffusion, SEED, change=lambda model: torch.nn.init.normal_(
        model.network.output.weight, std=0.1, generator=torch.Generator().manual_seed(0)))
    file = study(tmp_path / "pixels.yaml", path,
                 prompts={"digits": {"type": "memorized", "prompt": None, "source": "K = 2"}},
                 sd_curvature={"kinds": ["unconditional"], "methods": ["one_sided", "lanczos"], "leading": 2})
    latents, out = tmp_path / "latents.safetensors", tmp_path / "out.safetensors"
    processed("sd_generate", "--study", file, "--prompt", "digits", "--out", latents)
    arguments = ["--study", file, "--prompt", "digits", "--latents", latents, "--metrics", tmp_path / "m.csv"]
    processed("sd_curvature", *arguments, "--out", out)
    x_0 = torch.from_numpy(read_arrays(latents)[0]["latents"][:1])
    model = model.eval().requires_grad_(False)
    found, _ = read_arrays(out)
    expected = one_sided(model, x_0, [0], SEED, T, 64)[0]
    assert np.allclose(found["unconditional_one_sided"], expected, rtol=1e-5)
    assert np.allclose(found["unconditional_lanczos"], jacobian(model, x_0, T)[0][0, :2], rtol=1e-3)
    errors = processed("sd_curvature", *arguments, "--kind", "guided", "--out", out, code=1)
    assert "it has no text" in errors


# Mistakes


def one_line(*arguments, **settings):
    line, *others = processed(*arguments, code=1, **settings).strip().splitlines()
    assert not others and line.startswith("Error: "), others
    return line


def test_missing_weights_are_one_line_offline(tmp_path):
    out = ["--prompt", "hippo", "--out", tmp_path / "x.safetensors"]
    real = ROOT / "prompts" / "stable_diffusion.yaml"
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    line = one_line("sd_generate", "--study", real, *out, **offline)
    assert "CompVis/stable-diffusion-v1-4: cannot be downloaded; offline, give a downloaded folder" in line
    line = one_line("sd_generate", "--study", study(tmp_path / "s.yaml", "./nowhere"), *out)
    assert "./nowhere: neither a folder nor an id" in line
    assert not (tmp_path / "x.safetensors").exists()


def test_a_folder_without_a_pipeline_or_with_pickled_weights_is_refused(tmp_path, folder, capfd):
    with pytest.raises(ValueError, match=r"holds no model_index\.json"):
        read_pipeline(tmp_path)
    shutil.copytree(folder, tmp_path / "pickled")
    weights = tmp_path / "pickled" / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(ValueError, match="pickled: not a whole pipeline with safetensors weights") as caught:
        read_pipeline(tmp_path / "pickled")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_gated_model_says_what_to_do(monkeypatch):
    import httpx2 as httpx
    from diffusers import DiffusionPipeline
    from huggingface_hub.errors import GatedRepoError

    def gated(*_, **__):
        try:
            raise GatedRepoError("401", response=httpx.Response(401, request=httpx.Request("GET", "https://x")))
        except GatedRepoError as error:
            raise OSError("There was a specific connection error\nwith many lines") from error

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", gated)
    with pytest.raises(ValueError, match=r"owner/name: gated; accept its licence on its page, then `hf auth login`"):
        read_pipeline("owner/name")


def test_without_the_extra_the_line_says_what_to_install(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ValueError, match=r"needs diffusers and transformers; pip install -e '\.\[stable-diffusion"):
        read_pipeline(folder)


def test_tf32_is_refused_where_there_is_no_cuda(tiny):
    with pytest.raises(ValueError, match="--precision tf32 is a mode of CUDA devices; this one is cpu"):
        tiny.diffusion("conditional", PROMPT, precision="tf32").score(start_noise(SEED, [0], tiny.shape), T)


@pytest.mark.parametrize(("change", "message"), [
    ({"prompts": {}}, "no prompts"),
    ({"prompts": {"a": {"type": "spurios", "prompt": "x", "source": "y"}}},
     "of type spurios; it must be one of memorized"),
    ({"prompts": {"a": {"type": "spurious", "prompt": "x"}}}, "prompt a must have type, prompt and source"),
    ({"prompts": {"a": {"type": "spurious", "prompt": 3, "source": "y"}}}, "prompt a is 3; it must be text"),
    ({"model": None}, "no model"),
])
def test_a_study_is_checked(change, message):
    good = {"model": "a/b", "prompts": {"a": {"type": "spurious", "prompt": "x", "source": "y"}}}
    assert prompts_of(good, "f.yaml") == good["prompts"]
    with pytest.raises(ValueError, match=f"f.yaml: .*{message}"):
        prompts_of(good | change, "f.yaml")


def test_the_scale_switch_lists_prompts_of_studies_only_when_asked():
    assert runs_of(["laptop"])["prompts"] == {}
    content = runs_of(["stable_diffusion"])
    assert len(content["prompts"]) == 9
    assert content["prompts"]["stable_diffusion-hippo"] == {"study": "stable_diffusion", "prompt": "hippo"}
    assert content["runs"] == runs_of(["laptop"])["runs"]
    assert set(runs_of(["mnist", "stable_diffusion_tiny"])["sweeps"]) == {"mnist-128"}
