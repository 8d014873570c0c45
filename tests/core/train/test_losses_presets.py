"""Presets: equal to the written-out pair formulas, blind to slice order, gain and offset; and what each gets wrong."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from scipy import ndimage

from hybridfusion_core.model.noise import field_statistics
from hybridfusion_core.train.losses import image, mask, targets
from hybridfusion_core.train.losses.presets import PRESETS, Preset, TermWeights, unsupervised_terms

EVERYTHING = Preset(TermWeights(**{part.name: 1.0 for part in fields(TermWeights)}))
NAMES = sorted(PRESETS)


def random_case(slices: int, side: int = 20, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    guide = torch.randn(2, slices, side, side, generator=generator, dtype=torch.float64)
    posterior = torch.randn(2, slices, side, side, generator=generator, dtype=torch.float64).softmax(dim=1)
    return guide, posterior, torch.tensor([0.1, 0.4], dtype=torch.float64)


def texture(side: int, seed: int = 0) -> np.ndarray:
    sharp = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((side, side)), 1.0)
    return sharp / sharp.std()


def choose(slices: int, z: int, like: torch.Tensor) -> torch.Tensor:
    """B Z H W: slice z everywhere."""
    mask = torch.zeros_like(like)
    assert like.shape[1] == slices
    mask[:, z] = 1
    return mask


def cost(preset: Preset, guide: torch.Tensor, mask: torch.Tensor, noise: torch.Tensor) -> float:
    return float(preset.total(unsupervised_terms(preset, guide, mask, noise)))


def test_a_preset_computes_the_terms_that_it_weights_and_no_other() -> None:
    for name in NAMES:
        weights = PRESETS[name].weights
        asked = {part.name for part in fields(TermWeights) if getattr(weights, part.name)}
        terms = unsupervised_terms(PRESETS[name], *random_case(3))
        assert set(terms) == asked
        expected = sum(getattr(weights, key) * float(value) for key, value in terms.items())
        assert float(PRESETS[name].total(terms)) == pytest.approx(expected)


def test_mask_terms_of_a_pair_are_the_pair_formulas() -> None:
    _, posterior, _ = random_case(2)
    m = posterior[:, 0]
    assert float(mask.ambiguity(posterior)) == pytest.approx(float((m * (1 - m)).mean()))
    imbalance = (2 * m.mean(dim=(1, 2)) - 1).square().mean()
    assert float(mask.imbalance(posterior)) == pytest.approx(float(imbalance))
    variation = m.diff(dim=-1).abs().mean() + m.diff(dim=-2).abs().mean()
    assert float(mask.total_variation(posterior)) == pytest.approx(float(variation))


@pytest.mark.parametrize("slices", [2, 5])
def test_mask_terms_at_their_extremes(slices: int) -> None:
    equal = torch.full((1, slices, 10, 10), 1 / slices)
    one = choose(slices, 1, equal)
    assert float(mask.imbalance(one)) == pytest.approx(1)
    assert float(mask.imbalance(equal)) == pytest.approx(0, abs=1e-6)
    assert float(mask.ambiguity(one)) == 0
    assert float(mask.ambiguity(equal)) == pytest.approx(0.5 * (1 - 1 / slices))
    rows = torch.nn.functional.one_hot(torch.arange(10) * slices // 10, slices).T[None, :, :, None]
    assert float(mask.imbalance(rows.expand(1, slices, 10, 10).float())) == pytest.approx(0, abs=1e-6)


def test_a_pair_s_presets_are_the_written_out_formulas() -> None:
    guide, posterior, noise = random_case(2)
    a, b, m = guide[:, 0], guide[:, 1], posterior[:, 0]
    fused = m * a + (1 - m) * b
    share = targets.focus_weights(guide, noise)[:, 0]
    target = share * a + (1 - share) * b
    base = torch.minimum(a.amin(dim=(1, 2)), b.amin(dim=(1, 2)))[:, None, None]
    span = torch.maximum(a.amax(dim=(1, 2)), b.amax(dim=(1, 2))) - base[:, 0, 0]
    binary, variation = (m * (1 - m)).mean(), m.diff(dim=-1).abs().mean() + m.diff(dim=-2).abs().mean()
    written = {
        "baseline": {
            "gradient_max": image.gradient_max(fused, guide),
            "intensity_max": (fused - torch.maximum(a, b)).abs().mean(),
            "imbalance": (2 * m.mean(dim=(1, 2)) - 1).square().mean(),
        },
        "natural": {
            "log_max": image.log_max(fused, guide, 1.0),
            "ssim": 1 - image.ssim(fused - base, target - base, span).mean(),
            "ambiguity": binary,
            "total_variation": variation,
        },
        "organoid": {
            "laplacian": image.charbonnier_laplacian(fused, target),
            "low_frequency": image.low_frequency(fused, torch.stack([(a + b) / 2], dim=1)),
            "ambiguity": binary,
            "total_variation": variation,
        },
    }
    for name in NAMES:
        terms = unsupervised_terms(PRESETS[name], guide, posterior, noise)
        assert set(terms) == set(written[name])
        for key, value in terms.items():
            torch.testing.assert_close(value, written[name][key], msg=f"{name}: {key}")


def test_no_term_knows_the_order_of_the_slices() -> None:
    guide, posterior, noise = random_case(5)
    order = torch.tensor([3, 0, 4, 1, 2])
    straight = unsupervised_terms(EVERYTHING, guide, posterior, noise)
    shuffled = unsupervised_terms(EVERYTHING, guide[:, order], posterior[:, order], noise)
    assert len(straight) == 9
    for name, value in straight.items():
        torch.testing.assert_close(shuffled[name], value, msg=name)


def test_equal_and_opposite_details_are_chosen_in_no_order() -> None:
    slices = torch.zeros(1, 2, 9, 9, dtype=torch.float64)
    slices[0, 0, 4, 4], slices[0, 1, 4, 4] = 1, -1
    fused = torch.randn(1, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(image.log_max(fused, slices), image.log_max(fused, slices.flip(1)))


@pytest.mark.parametrize("name", [part.name for part in fields(TermWeights)])
@pytest.mark.parametrize("slices", [2, 3])
def test_gradients_agree_with_finite_differences(name: str, slices: int) -> None:
    guide, posterior, noise = random_case(slices, side=6)
    preset = replace(EVERYTHING, weights=TermWeights(**{name: 1.0}), low_sigma=1.5)
    logits = posterior.log().requires_grad_()

    def term(scores: torch.Tensor) -> torch.Tensor:
        return unsupervised_terms(preset, guide, scores.softmax(dim=1), noise)[name]

    assert torch.autograd.gradcheck(term, logits)
    (gradient,) = torch.autograd.grad(term(logits), logits)
    assert float(gradient.abs().max()) > 0


def test_fusion_weights_apart_from_the_posterior_reach_the_image_terms_alone() -> None:
    guide, posterior, noise = random_case(3)
    other = random_case(3, seed=1)[1]
    together = unsupervised_terms(EVERYTHING, guide, posterior, noise)
    apart = unsupervised_terms(EVERYTHING, guide, posterior, noise, other)
    for name, value in together.items():
        assert (name in {"imbalance", "ambiguity", "total_variation"}) == torch.equal(apart[name], value), name


@pytest.mark.parametrize("name", NAMES)
def test_gain_and_offset_of_the_counts_change_nothing(name: str) -> None:
    random = np.random.default_rng(0)
    counts = random.poisson(np.stack([300 + 60 * texture(64), 500 + 20 * texture(64)])).astype(np.float32)
    posterior = torch.rand(1, 2, 64, 64, generator=torch.Generator().manual_seed(0)).softmax(dim=1)

    def terms(stack: np.ndarray) -> dict[str, torch.Tensor]:
        statistics = field_statistics([stack])
        guide = torch.from_numpy(statistics.guide([stack]))[None]
        return unsupervised_terms(PRESETS[name], guide, posterior, torch.tensor([statistics.noise]))

    straight, changed = terms(counts), terms(3 * counts + 700)
    for key, value in straight.items():
        torch.testing.assert_close(changed[key], value, rtol=1e-3, atol=1e-5, msg=key)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("slices", [2, 4])
def test_an_empty_field_has_a_finite_loss_and_gradient(name: str, slices: int) -> None:
    logits = torch.zeros(1, slices, 16, 16, requires_grad=True)
    preset = PRESETS[name]
    loss = preset.total(unsupervised_terms(preset, torch.zeros(1, slices, 16, 16), logits.softmax(1), torch.ones(1)))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", ["natural", "organoid"])
def test_the_sharp_slice_costs_less_than_the_blurred_one_and_than_their_mean(name: str) -> None:
    sharp = texture(64)
    guide = torch.from_numpy(np.stack([ndimage.gaussian_filter(sharp, 3), sharp]))[None]
    noise = torch.tensor([0.02])
    right = cost(PRESETS[name], guide, choose(2, 1, guide), noise)
    assert right < cost(PRESETS[name], guide, choose(2, 0, guide), noise)
    assert right < cost(PRESETS[name], guide, torch.full_like(guide, 0.5), noise)


def test_unknown_terms_and_negative_weights_are_refused() -> None:
    adapter = TypeAdapter(Preset)
    assert adapter.validate_python({"weights": {"laplacian": 1}, "window": 2}).weights.laplacian == 1
    with pytest.raises(ValidationError, match="sharpness"):
        adapter.validate_python({"weights": {"sharpness": 1}})
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        adapter.validate_python({"weights": {"ssim": -1}})
    with pytest.raises(ValidationError, match="greater than 0"):
        adapter.validate_python({"exponent": 0})


# The known weaknesses of `baseline`, and that `organoid` has neither.


def dim_sharp_and_bright_defocused() -> np.ndarray:
    """Counts of two slices: a sharp one of few photons, and a defocused one under bright haze; flat light beside."""
    specimen = 100 * (np.arange(128) >= 40)
    expected = np.stack([600 + specimen * texture(128), 20_000 + specimen * ndimage.gaussian_filter(texture(128), 4)])
    return np.random.default_rng(0).poisson(expected).astype(np.float32)


def test_sobel_max_takes_shot_noise_for_detail_and_organoid_does_not() -> None:
    counts = dim_sharp_and_bright_defocused()
    raw = torch.from_numpy(counts)[None]
    assert image.gradient_max(raw[:, 1], raw) < image.gradient_max(raw[:, 0], raw)  # noisier and wrong, yet cheaper
    statistics = field_statistics([counts])
    guide = torch.from_numpy(statistics.guide([counts]))[None]
    noise = torch.tensor([statistics.noise])
    sharp, defocused = choose(2, 0, guide), choose(2, 1, guide)
    assert cost(PRESETS["organoid"], guide, sharp, noise) < cost(PRESETS["organoid"], guide, defocused, noise)


def test_where_there_is_noise_alone_sobel_max_wants_it_kept_and_organoid_averages() -> None:
    guide = torch.randn(1, 4, 96, 96, generator=torch.Generator().manual_seed(0))
    noise, mean = torch.ones(1), torch.full_like(guide, 0.25)
    one = choose(4, 2, guide)
    terms = [unsupervised_terms(PRESETS["baseline"], guide, mask, noise)["gradient_max"] for mask in (one, mean)]
    assert terms[0] < terms[1]
    assert cost(PRESETS["organoid"], guide, mean, noise) < cost(PRESETS["organoid"], guide, one, noise)


def test_intensity_max_brightens_a_dark_texture_and_organoid_does_not() -> None:
    """Dark detail on bright ground: defocus fills it with light."""
    sharp = 1 - 0.8 * (texture(96) > 1.2)
    sharp = ndimage.gaussian_filter(sharp, 0.7)
    guide = torch.from_numpy(np.stack([sharp, ndimage.gaussian_filter(sharp, 3) + 0.1]))[None] * 4
    noise = torch.tensor([0.05])
    right, wrong = choose(2, 0, guide), choose(2, 1, guide)
    assert image.intensity_max(guide[:, 1], guide) < image.intensity_max(guide[:, 0], guide)
    assert float((guide.amax(dim=1) - guide[:, 0]).mean()) > 0.3  # what it asks for is brighter than the specimen
    assert cost(PRESETS["organoid"], guide, right, noise) < cost(PRESETS["organoid"], guide, wrong, noise)
