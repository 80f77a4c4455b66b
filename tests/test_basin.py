"""Alg. 1 against a literal transcription, and Eqs. 12 and 34 against areas and volumes known from school."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from builders import exact_model, images, learned_model

from attractors.denoisers.controls import ExactNoise
from attractors.denoisers.diffusion import Diffusion, forward_process, linear_betas
from attractors.denoisers.samplers import ddim
from attractors.landscape.critical_times import critical_times, evaluations, search_times
from attractors.landscape.summaries import log_volume
from attractors.randomness import BASIN, generator

SHAPE = (1, 3, 3)
BETAS = linear_betas(200, 1e-3, 5e-2)
SEARCH = {"delta_d": 0.8, "delta_p": 0.8, "trials": 5, "steps": 4, "stride": 30}


def literal_critical_time(model, x, random, *, delta_d, delta_p, trials, steps, stride):
    """Alg. 1 as printed, one pattern, one trial and one number at a time; also |x_{t_c} - x| of each trial."""
    t_c, radius, stopped, tried = [0] * trials, [0.0] * trials, [False] * trials, 0
    for t in range(1, model.steps - stride - 1 + 1, stride):
        epsilon = torch.from_numpy(random.standard_normal((trials, *x.shape), np.float32))
        x_t = [forward_process(x[None], epsilon[i : i + 1], torch.tensor(t), model.alpha_bar) for i in range(trials)]
        recovered = [ddim(model, x_t[i], t, steps) for i in range(trials)]
        r = [int((recovered[i] - x).norm().item() <= delta_d) for i in range(trials)]
        tried += 1
        if sum(r) / trials < delta_p:
            break
        for i in range(trials):
            stopped[i] = stopped[i] or not r[i]
            if not stopped[i]:
                t_c[i], radius[i] = t, (x_t[i].double() - x).norm().item()
    return t_c, radius, tried


@pytest.mark.parametrize("model, delta_d", [(exact_model(images(12), BETAS), 0.8), (learned_model(SHAPE, BETAS), 2.0)],
                         ids=["exact", "mlp"])
def test_alg_1_equals_its_literal_transcription(model, delta_d):
    patterns, settings = torch.cat([images(6), images(6, seed=1)]), SEARCH | {"delta_d": delta_d, "stride": 10}
    indices = [7, 3, 2**40, 0, 11, 5, 100, 101, 102, 103, 104, 105]
    found = critical_times(model, patterns, indices, 3407, **settings)
    for i, index in enumerate(indices):
        t_c, radius, tried = literal_critical_time(model, patterns[i], generator(3407, BASIN, index), **settings)
        assert found.t_c[i].tolist() == t_c
        assert found.searched[i] == tried
        np.testing.assert_allclose(found.radius[i], radius, rtol=1e-12)
    # The cases that matter occur: different ends, trials that fell behind the others.
    assert len(set(found.searched.tolist())) > 2
    assert (found.t_c != found.t_c.max(1, keepdim=True).values).any()


@pytest.mark.parametrize("batch", [1, 15, 35, 10_000])
def test_alg_1_does_not_depend_on_batch_composition(batch):
    model, patterns = exact_model(images(12), BETAS), torch.cat([images(6), images(9, seed=1)])
    together = critical_times(model, patterns, range(15), 1, **SEARCH)
    order = torch.randperm(15, generator=torch.Generator().manual_seed(2))
    other = critical_times(model, patterns[order], order, 1, **SEARCH, batch=batch)
    assert torch.equal(other.t_c, together.t_c[order])
    assert torch.equal(other.searched, together.searched[order])
    torch.testing.assert_close(other.radius, together.radius[order], rtol=1e-12, atol=0)


def test_a_single_memory_is_recovered_from_every_time_and_an_image_far_from_it_has_no_basin():
    memory, times = images(1), search_times(200, 30)
    found = critical_times(exact_model(memory, BETAS), memory, [0], 1, **SEARCH)
    assert (found.t_c == times[-1]).all() and found.searched == len(times)
    memory = torch.zeros(1, *SHAPE)
    found = critical_times(exact_model(memory, BETAS), memory + 1, [0], 1, **SEARCH)
    assert (found.t_c == 0).all() and (found.radius == 0).all() and found.searched == 1


def test_times_are_those_of_alg_1_for_the_paper_and_a_stride_beyond_the_schedule_is_refused():
    times = list(search_times(1000, 10))
    assert times[:3] == [1, 11, 21] and times[-1] == 981 <= 1000 - 10 - 1 < 991
    with pytest.raises(ValueError, match="stride is 199; it must be below 199"):
        critical_times(exact_model(images(1), BETAS), images(1), [0], 1, **(SEARCH | {"stride": 199}))


def test_log_volume_is_the_area_of_a_disc_and_the_volume_of_a_ball():
    radius = np.array([0.0, 0.5, 3.0])
    np.testing.assert_allclose(log_volume(radius, 2), [-np.inf, math.log(math.pi * 0.25), math.log(math.pi * 9)])
    ball = [-np.inf, math.log(4 / 3 * math.pi / 8), math.log(36 * math.pi)]
    np.testing.assert_allclose(log_volume(radius, 3), ball)
    # V_N(R) = 2 pi R^2 / N V_{N-2}(R), which overflows float64 long before N = 12,288.
    dimensions, radius = 12_288, 40.0
    expected = sum(math.log(2 * math.pi * radius**2 / n) for n in range(2, dimensions + 1, 2))
    assert log_volume(radius, dimensions) == pytest.approx(expected, rel=1e-12)


def test_evaluations_are_those_counted_by_the_network():
    class Counting(ExactNoise):
        rows = 0

        def forward(self, x, t):
            Counting.rows += len(x)
            return super().forward(x, t)

    model = Diffusion(Counting(SHAPE, torch.cumprod(1 - BETAS, 0), images(12)), BETAS)
    found = critical_times(model, images(14), range(14), 1, **SEARCH)
    used, together, full = evaluations(found.searched, 5, 4, len(search_times(200, 30)))
    assert used == Counting.rows
    assert used < together == 14 * 20 * max(found.searched) <= full == 14 * 20 * 6


def test_ddim_of_gaussian_data_approaches_the_probability_flow():
    # For x_0 ~ N(0, s^2) the flow keeps x_t / sqrt(alpha_bar_t s^2 + sigma_t^2) constant.
    s, betas = 0.5, linear_betas()

    class Gaussian(torch.nn.Module):
        def forward(self, x, t):
            alpha_bar = torch.cumprod(1 - betas, 0)[t].reshape(-1, 1, 1, 1)
            return (x * (1 - alpha_bar).sqrt() / (alpha_bar * s**2 + 1 - alpha_bar)).to(x.dtype)

    model, x = Diffusion(Gaussian(), betas), images(2).double()
    t = torch.tensor([400, 700])
    exact = x * s / (model.alpha_bar[t] * s**2 + 1 - model.alpha_bar[t]).sqrt().reshape(-1, 1, 1, 1)
    errors = [(ddim(model, x, t, steps) - exact).norm().item() for steps in (10, 20, 40, 80)]
    for coarse, fine in pairwise(errors):
        assert fine < 0.65 * coarse
    for row in range(2):  # each row at its own time is what it would be alone
        torch.testing.assert_close(ddim(model, x[row : row + 1], t[row], 10)[0], ddim(model, x, t, 10)[row])


def test_ddim_evaluates_at_equal_steps_of_time_the_last_one_ending_at_the_image():
    seen, betas = [], linear_betas()

    class Recording(torch.nn.Module):
        def forward(self, x, t):
            seen.append(t[0].item())
            return torch.zeros_like(x)

    model, x = Diffusion(Recording(), betas), images(1)
    result = ddim(model, x, 981, 10)
    assert seen == [981 * i // 10 for i in range(10, 0, -1)]
    torch.testing.assert_close(result, x / model.alpha_bar[981].sqrt().float())  # without noise, only the scale
