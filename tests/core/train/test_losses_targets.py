"""Soft targets: sharpness decides, noise does not, however bright the slice."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from hybridfusion_core.model.focus_measures import laplacian_energy, tenengrad
from hybridfusion_core.model.noise import field_statistics
from hybridfusion_core.train.losses import targets
from hybridfusion_core.train.losses.targets import focus_weights, soft_target

MEASURES = ["tenengrad", "laplacian"]


def texture(side: int, blur: float, seed: int = 0) -> np.ndarray:
    sharp = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((side, side)), 1.0)
    return ndimage.gaussian_filter(sharp, blur) / sharp.std()


@pytest.mark.parametrize(("measure", "function"), [("tenengrad", tenengrad), ("laplacian", laplacian_energy)])
def test_energy_of_noise_and_its_spread_are_as_stated(measure: str, function) -> None:
    torch.manual_seed(0)
    window = 3.0
    energy = function(torch.randn(8, 256, 256), window)[:, 16:-16, 16:-16]
    assert float(energy.mean()) == pytest.approx(targets._NOISE_ENERGY[measure], rel=0.01)
    relative = math.sqrt(targets._NOISE_SPREAD[measure] / (4 * math.pi * window**2))
    assert float(energy.std() / energy.mean()) == pytest.approx(relative, rel=0.1)


@pytest.mark.parametrize("measure", MEASURES)
def test_noise_alone_gives_every_slice_the_same_share(measure: str) -> None:
    torch.manual_seed(0)
    share = focus_weights(0.3 * torch.randn(1, 4, 128, 128), torch.tensor([0.3]), measure)
    assert ((share - 0.25).abs() < 1e-4).float().mean() > 0.93


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("exponent", [1.0, 4.0])
def test_the_sharpest_slice_gets_the_largest_share(measure: str, exponent: float) -> None:
    slices = np.stack([texture(96, blur) for blur in (3.0, 0.0, 1.5)])
    share = focus_weights(torch.from_numpy(slices)[None], torch.tensor([0.05]), measure, exponent=exponent)
    torch.testing.assert_close(share.sum(dim=1), torch.ones_like(share[:, 0]))
    assert (share.argmax(dim=1) == 1).float().mean() > 0.99


def test_a_larger_exponent_is_sharper_and_a_larger_window_is_smoother() -> None:
    slices = torch.from_numpy(np.stack([texture(96, blur) for blur in (2.0, 1.0)]))[None]
    noise = torch.tensor([0.05])
    certainty = [float(focus_weights(slices, noise, exponent=exponent).amax(dim=1).mean()) for exponent in (1, 2, 4)]
    assert certainty[0] < certainty[1] < certainty[2]
    rough = [float(focus_weights(slices, noise, window=window).diff(dim=-1).abs().mean()) for window in (1.0, 2.0, 4.0)]
    assert rough[0] > rough[1] > rough[2]


@pytest.mark.parametrize("measure", MEASURES)
def test_shot_noise_of_a_bright_slice_is_no_sharpness(measure: str) -> None:
    """A dim sharp slice beside a bright defocused one: counts are fooled, the stabilised guide is not."""
    random = np.random.default_rng(0)
    specimen = 130 * (np.arange(192) >= 64)  # beside it there is only light, which shows how strong the noise is
    expected = np.stack([500 + specimen * texture(192, 0.0), 50_000 + specimen * texture(192, 4.0)])
    counts = random.poisson(expected.clip(min=0)).astype(np.float32)
    statistics = field_statistics([counts])
    guide, noise = torch.from_numpy(statistics.guide([counts]))[None], torch.tensor([statistics.noise])
    share = focus_weights(guide, noise, measure)[..., 80:]
    assert (share[:, 0] > share[:, 1]).float().mean() > 0.95
    fooled = focus_weights(torch.from_numpy(counts)[None], torch.tensor([1e-3]), measure)[..., 80:]
    assert (fooled[:, 1] > fooled[:, 0]).float().mean() > 0.95


def test_slices_without_any_noise_or_detail_share_equally() -> None:
    share = focus_weights(torch.zeros(1, 3, 16, 16), torch.zeros(1))
    torch.testing.assert_close(share, torch.full_like(share, 1 / 3))


def test_the_target_mixes_the_slices_and_carries_no_gradient() -> None:
    guide = torch.rand(1, 3, 24, 24, requires_grad=True)
    share = focus_weights(guide, torch.tensor([0.01]))
    assert not share.requires_grad
    target = soft_target(guide.detach(), share)
    assert ((target >= guide.amin(dim=1) - 1e-6) & (target <= guide.amax(dim=1) + 1e-6)).all()
    one = torch.nn.functional.one_hot(torch.tensor(1), 3)[None, :, None, None]
    assert torch.equal(soft_target(guide, one), guide[:, 1])
