"""Training: batches by shuffled passes, learning rate, and resuming to the same bytes."""

import math

import pytest
import torch

from attractors.denoisers.diffusion import linear_betas
from attractors.denoisers.models import new_model, read_model, write_model
from attractors.denoisers.training import CHECK_EVERY, denoising_loss, learning_rate, noise_times, train
from attractors.settings.train import Training

SETTINGS = Training(iterations=3 * CHECK_EVERY, batch=8, learning_rate=1e-3, repeat=True, ema=0.99)


def images(count=5):
    return torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1


def model(prediction="velocity"):
    network = {"name": "mlp", "width": 16, "blocks": 1}
    return new_model(network, {"prediction": prediction}, (1, 4, 4), 3, images())


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_learning_rate_warms_up_linearly_and_ends_at_its_final_fraction():
    settings = Training(iterations=1000, batch=1, learning_rate=2.0, warmup=10, final_learning_rate=0.1)
    assert learning_rate(0, settings) == pytest.approx(0.2, rel=1e-4)
    assert learning_rate(1000, settings) == pytest.approx(0.2)
    assert learning_rate(500, settings) == pytest.approx(2 * 0.55)


def test_lognormal_times_have_the_stated_median_noise_level(random):
    alpha_bar = torch.cumprod(1 - linear_betas(), 0)
    t = noise_times(20_000, alpha_bar, Training(noise_levels="lognormal"), random)
    level = ((1 - alpha_bar) / alpha_bar).sqrt().log()[t]
    assert abs(level.median().item() + 1.2) < 0.05
    assert abs(level.std().item() - 1.4) < 0.05


def test_a_prediction_of_the_image_is_scored_as_the_velocity_it_stands_for():
    settings, x_0 = Training(noise_levels="lognormal"), images(64)
    trained = new_model({"name": "mlp", "width": 8, "blocks": 1}, {"prediction": "image"}, (1, 4, 4), 3, images(1))
    trained.network.output.bias.data.normal_(generator=torch.Generator().manual_seed(1))
    found = denoising_loss(trained, x_0, settings, torch.Generator().manual_seed(5))
    random = torch.Generator().manual_seed(5)
    t = noise_times(64, trained.alpha_bar, settings, random)
    noise, alpha_bar = torch.randn(x_0.shape, generator=random), trained.alpha_bar[t, None, None, None].float()
    x = alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * noise
    velocity = (alpha_bar.sqrt() * x - trained.denoised(x, t)) / (1 - alpha_bar).sqrt()
    squares = (velocity - velocity_of(alpha_bar, noise, x_0)).square().mean((1, 2, 3))
    scale = ((1 - alpha_bar) / 0.01).clamp(max=1).flatten()  # below sigma = .1 the weight stays that of .1
    assert 3 < (scale < 1).sum() < 61
    torch.testing.assert_close(found, (squares * scale).mean())


def velocity_of(alpha_bar, noise, x_0):
    return alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * x_0


@pytest.mark.parametrize("prediction", ["noise", "velocity", "image"])
def test_a_model_trained_on_one_image_recalls_it_from_noise_as_the_exact_denoiser_does(prediction):
    single = images(1)
    settings = Training(iterations=500, batch=64, learning_rate=5e-3, repeat=True, ema=0.9)
    trained = new_model({"name": "mlp", "width": 64, "blocks": 1}, {"prediction": prediction}, (1, 4, 4), 3, single)
    x = torch.randn(16, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    before = (trained.denoised(x, 300) - single).square().mean()
    train(trained, single, settings, 0)
    with torch.no_grad():
        after = (trained.denoised(x, 300) - single).square().mean()
    assert after < 0.03 < before


def test_training_resumed_from_any_checkpoint_ends_with_the_same_bytes():
    saved = []

    def keep(state):
        saved.append({k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in state.items()})
        saved[-1]["optimiser"] = torch.utils._pytree.tree_map_only(torch.Tensor, torch.clone, state["optimiser"])

    whole = train(model(), images(), SETTINGS, 0, save=keep)
    assert len(saved) == 3
    for state in saved[:2]:
        assert same(whole, train(model(), images(), SETTINGS, 0, state=state))


def test_weights_depend_on_the_seed_and_on_nothing_else():
    first = {name: value.clone() for name, value in train(model(), images(), SETTINGS, 0).items()}
    assert same(first, train(model(), images(), SETTINGS, 0))
    assert not same(first, train(model(), images(), SETTINGS, 1))


def test_a_loss_that_is_not_finite_stops_training_with_its_step():
    broken = images()
    broken[0, 0, 0, 0] = math.inf
    with pytest.raises(FloatingPointError, match="step 100: lower learning_rate"):
        train(model(), broken, SETTINGS, 0)


def test_a_model_file_gives_back_the_model(tmp_path):
    trained, path = model(), tmp_path / "m.safetensors"
    record = dict(network={"name": "mlp", "width": 16, "blocks": 1}, diffusion={"prediction": "velocity"},
                  image_shape=[1, 4, 4], size=5, seed=3)
    write_model(path, trained.state_dict(), **record)
    loaded, found = read_model(path)
    assert same(trained.state_dict(), loaded.state_dict())
    assert found == record
    write_model(tmp_path / "again.safetensors", trained.state_dict(), **record)
    assert path.read_bytes() == (tmp_path / "again.safetensors").read_bytes()
