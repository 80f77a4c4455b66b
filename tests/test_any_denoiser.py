"""Denoisers of any parametrisation: controls in closed form in each, diffusers' own models, and one's own code."""

import json

import numpy as np
import pytest
import torch
from builders import images, refused, run

import attractors
from attractors.arrays import read_arrays, write_arrays
from attractors.commands.import_checkpoint import main as import_checkpoint
from attractors.denoisers.diffusion import Diffusion, cosine_betas, linear_betas
from attractors.denoisers.dit import Block, DiT
from attractors.denoisers.models import new_model, read_model
from attractors.landscape.critical_times import critical_times
from attractors.landscape.curvature import central_difference, jacobian
from attractors.landscape.potential import energy
from attractors.stages import basin, curvature, neighbours, sample
from attractors.stages import energy as energy_stage

SHAPE, K = (1, 4, 4), 6
BETAS = linear_betas(100, 1e-3, 0.2)
WAYS = [("noise", "time"), ("velocity", "time"), ("image", "sigma"), ("noise", "sigma"), ("flow", "flow"),
        ("image", "flow"), ("flow", "time")]


def closed_form(kind, memories, prediction, level):
    """E[x_0 | x] of the exact or the linear denoiser as what a network returns, in the coordinates that it is given."""
    xi = memories.flatten(1).double()
    mean, alpha_bar = xi.mean(0), torch.cumprod(1 - BETAS, 0)
    covariance = (xi - mean).T @ (xi - mean) / len(xi)

    def network(x, given):
        s = given.double()[:, None] if level != "time" else (1 - alpha_bar[given, None]).sqrt()
        scale = {"time": (1 - s**2).sqrt(), "sigma": torch.ones_like(s), "flow": 1 - s}[level]
        y = x.flatten(1).double()
        if kind == "exact":
            weights = torch.softmax(-(y[:, None] - scale[:, None] * xi).square().sum(2) / (2 * s**2), 1)
            x_0 = weights @ xi
        else:
            gain = scale[..., None] * covariance
            inverse = torch.linalg.inv(scale[..., None] ** 2 * covariance + s[..., None] ** 2 * torch.eye(len(mean)))
            x_0 = mean + (gain @ inverse @ (y - scale * mean)[..., None])[..., 0]
        noise = (y - scale * x_0) / s
        length = (scale**2 + s**2).sqrt()
        answers = {"noise": noise, "image": x_0, "flow": noise - x_0, "velocity": (scale * noise - s * x_0) / length}
        return answers[prediction].to(x.dtype).reshape(x.shape)

    return network


@pytest.mark.parametrize("kind", ["exact", "linear"])
@pytest.mark.parametrize(("prediction", "level"), WAYS)
def test_every_measurement_of_a_closed_form_is_the_same_in_every_parametrisation(kind, prediction, level):
    memories = images(K, SHAPE)
    ours = new_model({"name": kind}, {"steps": 100, "beta_min": 1e-3, "beta_max": 0.2}, SHAPE, 0, memories)
    theirs = attractors.denoiser(closed_form(kind, memories, prediction, level), SHAPE, prediction, level, BETAS)
    times = [critical_times(model, memories, range(K), 1, delta_d=0.5, trials=8, steps=5, stride=4)
             for model in (ours, theirs)]
    assert torch.equal(times[0].t_c, times[1].t_c) and (kind == "linear" or times[0].t_c.max() > 0)
    torch.testing.assert_close(times[0].radius, times[1].radius, rtol=1e-6, atol=0)
    for t in (4, 50):
        for one, other in zip(*(jacobian(model, memories.double(), t) for model in (ours, theirs)), strict=True):
            torch.testing.assert_close(one, other, rtol=2e-4, atol=2e-3)
    spectra = [central_difference(model, memories, range(K), 1, 20) for model in (ours, theirs)]
    torch.testing.assert_close(*spectra, rtol=1e-2, atol=0.05)
    energies = [energy(model, memories[1:], memories[:1], 2) for model in (ours, theirs)]
    torch.testing.assert_close(*energies, rtol=1e-3, atol=1e-5)


def test_a_wrong_mapping_changes_what_is_measured():
    memories = images(K, SHAPE)
    right, wrong = (attractors.denoiser(closed_form("exact", memories, "flow", "flow"), SHAPE, "flow", level, BETAS)
                    for level in ("flow", "sigma"))
    assert not torch.allclose(right.denoised(memories, 20), wrong.denoised(memories, 20), atol=0.01)


@pytest.mark.parametrize("prediction", ["noise", "velocity", "image", "flow"])
def test_what_a_network_learns_is_what_its_prediction_means(prediction):
    x_0, noise, t = images(5), images(5, seed=1), torch.tensor([0, 9, 30, 60, 99])
    model = Diffusion(torch.nn.Identity(), BETAS, prediction)
    model.network.forward = lambda x, t: model.target(x_0, noise, t)
    x = model.alpha_bar[t].sqrt()[:, None, None, None] * x_0 + model.sigma(t)[:, None, None, None] * noise
    torch.testing.assert_close(model.noise_prediction(x.float(), t), noise, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(model.denoised(x.float(), t), x_0, rtol=1e-3, atol=5e-3)


def test_cosine_betas_have_the_alpha_bar_of_nichol_and_dhariwal():
    t = np.arange(1, 1001) / 1000
    f = [np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2 for u in (t, np.zeros(1))]
    assert np.allclose(torch.cumprod(1 - cosine_betas(1000), 0).numpy()[:-1], (f[0] / f[1])[:-1])


def test_a_block_is_attention_and_an_mlp_that_the_time_modulates():
    torch.manual_seed(0)
    block, h, time = Block(16, 4), torch.randn(3, 5, 16), torch.randn(3, 16)
    assert torch.equal(block(h, time), h)  # adaLN-Zero
    torch.nn.init.normal_(block.modulation.weight)
    attention = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    attention.load_state_dict({
        "in_proj_weight": block.query_key_value.weight, "in_proj_bias": block.query_key_value.bias,
        "out_proj.weight": block.mixed.weight, "out_proj.bias": block.mixed.bias})
    shift, scale, gate, *rest = block.modulation(torch.nn.functional.silu(time))[:, None].chunk(6, -1)
    norm = torch.nn.LayerNorm(16, 1e-6, elementwise_affine=False)
    x = norm(h) * (1 + scale) + shift
    y = h + gate * attention(x, x, x, need_weights=False)[0]
    expected = y + rest[2] * block.mlp(norm(y) * (1 + rest[1]) + rest[0])
    torch.testing.assert_close(block(h, time), expected, rtol=1e-4, atol=1e-4)


def test_a_transformer_learns_what_flows_to_one_image_and_refuses_other_sides():
    model = new_model({"name": "dit", "width": 32, "blocks": 2, "heads": 2, "patch": 2}, {"prediction": "flow"},
                      (2, 4, 6), 0, torch.empty(0))
    x, t = torch.randn(64, 2, 4, 6, generator=torch.Generator().manual_seed(1)), torch.arange(64) * 15
    assert model.network(x, t).abs().max() == 0
    x_0 = images(1, (2, 4, 6)).expand(64, -1, -1, -1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (model.network(model.alpha_bar[t].sqrt()[:, None, None, None].float() * x_0
                              + model.sigma(t)[:, None, None, None].float() * x, t) - (x - x_0)).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.3
    with pytest.raises(ValueError, match="4 x 5 pixels; their sides must be multiples of patch, 2"):
        DiT((2, 4, 5), model.alpha_bar, 32, 2, 2, 2)


@pytest.mark.parametrize("name", ["UNet2DModel", "DiTTransformer2DModel"])
def test_a_model_that_is_not_the_u_net_of_b_4_gives_the_outputs_of_diffusers(name, tmp_path):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    torch.manual_seed(0)
    if name == "UNet2DModel":  # its default blocks, in fewer channels
        theirs = diffusers.UNet2DModel(sample_size=16, block_out_channels=(32, 32, 64, 64), norm_num_groups=8)
    else:
        theirs = diffusers.DiTTransformer2DModel(
            num_attention_heads=2, attention_head_dim=8, in_channels=3, out_channels=6, num_layers=2, sample_size=16,
            patch_size=4, num_embeds_ada_norm=10)
    theirs.eval().save_pretrained(tmp_path / "folder")
    said = run(import_checkpoint, tmp_path / "folder", "--size", "7", "--no-check", "--out", tmp_path / "m")
    assert "computed by diffusers" in said or name.startswith("DiT")
    model, _ = read_model(tmp_path / "m")
    x, t = images(2, (3, 16, 16)), torch.tensor([3, 700])
    with torch.no_grad():
        label = {} if name == "UNet2DModel" else {"class_labels": torch.full((2,), 10)}
        expected = theirs(x, t, **label).sample[:, :3]
    torch.testing.assert_close(model.noise_prediction(x, t), expected)
    config = json.loads((tmp_path / "folder/config.json").read_text())
    (tmp_path / "folder/config.json").write_text(json.dumps(config | {"num_layers": 3, "layers_per_block": 3}))
    assert "weights other than its config.json claims" in refused(
        import_checkpoint, tmp_path / "folder", "--size", "7", "--out", tmp_path / "n")


CODE = """
import torch
import attractors

S = torch.load({path!r})

class Flow(torch.nn.Module):
    def __init__(self, s):
        super().__init__()
        self.register_buffer("s", s)

    def forward(self, x, tau):  # the exact flow of S: noise - x_0 at (1 - tau) x_0 + tau noise
        tau = tau[:, None, None, None]
        squares = (x[:, None] - (1 - tau[:, None]) * self.s).square().sum((2, 3, 4))
        x_0 = torch.einsum("bk,kchw->bchw", torch.softmax(-squares / (2 * tau[:, :, 0, 0] ** 2), 1), self.s)
        return (x - x_0) / tau

def build(size):
    return attractors.denoiser(Flow(S[:size]), (1, 4, 4), prediction="flow", level="flow")

def other():
    return Flow(S)

def wrong():
    return attractors.denoiser(Flow(S), (3, 5, 5), prediction="flow", level="flow")
"""


def test_a_denoiser_of_ones_own_code_is_measured_from_end_to_end(tmp_path):
    s = images(8, SHAPE)
    torch.save(s, tmp_path / "s.pt")
    code, model = tmp_path / "mine.py", tmp_path / "model.safetensors"
    code.write_text(CODE.format(path=str(tmp_path / "s.pt")))
    said = run(import_checkpoint, f"{code}:build", "--size", K, "--out", model)
    assert "it predicts flow, and is given flow" in said
    exact = new_model({"name": "exact"}, {}, SHAPE, 0, s[:K])
    mine, _ = read_model(model)
    x = images(3, SHAPE, seed=4)
    for t in (3, 200, 900):
        torch.testing.assert_close(mine.denoised(x, t), exact.denoised(x, t), rtol=1e-3, atol=1e-3)
    write_arrays(tmp_path / "subset.safetensors", {"images": s.numpy()})
    paths = {name: tmp_path / f"{name}.safetensors" for name in ("samples", "near", "basin", "curvature", "energy")}
    run(sample.main, "--model", model, "--floor", 16, "--ratio", 1, "--out", paths["samples"])
    run(neighbours.main, "--synthetic", paths["samples"], "--training", tmp_path / "subset.safetensors", "--size", K,
        "--out", paths["near"])
    assert read_arrays(paths["near"])[0]["training_distances"][:, 0].max() < 0.5  # all are copies
    few = [option for kind in ("nearest", "repeating", "uniform", "training-limit") for option in (f"--{kind}", 2)]
    for command, more in ((basin.main, ["--distance", "l2", "--delta-d", 0.5]), (curvature.main, []),
                          (energy_stage.main, [])):
        name = command.name
        run(command, "--model", model, "--neighbours", paths["near"], "--synthetic", paths["samples"], "--subset",
            tmp_path / "subset.safetensors", *few, *more, "--out", paths[name])
    assert read_arrays(paths["basin"])[0]["t_c"].max() > 100
    assert "returns a Flow; it must return attractors.denoiser" in refused(
        import_checkpoint, f"{code}:other", "--size", K, "--out", model)
    assert "does not take images of (3, 5, 5) and flow" in refused(
        import_checkpoint, f"{code}:wrong", "--size", K, "--out", model)
    assert "has no attribute 'absent'" in refused(import_checkpoint, f"{code}:absent", "--size", K, "--out", model)
    assert "--size does" in refused(import_checkpoint, f"{code}:build", "--out", model)
    code.write_text(code.read_text() + "\n")
    with pytest.raises(ValueError, match=r"mine\.py is not the file that was imported; run import_checkpoint"):
        read_model(model)


def test_what_is_no_denoiser_is_refused_in_one_line():
    with pytest.raises(ValueError, match="'score'; it must be one of noise, velocity, image, flow"):
        attractors.denoiser(lambda x, t: x, SHAPE, "score")
    with pytest.raises(ValueError, match=r"it returns \(2, 16\) for images of \(2, 1, 4, 4\)"):
        attractors.denoiser(lambda x, t: x.flatten(1), SHAPE)
