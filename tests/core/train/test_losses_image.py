"""Terms that compare the fused image with its slices: pair formulas, minima, borders, and SSIM against skimage."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.metrics import structural_similarity

from hybridfusion_core.train.losses import image as image_losses


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def steepness(image: np.ndarray) -> np.ndarray:
    return sum(np.abs(ndimage.sobel(image, axis=axis, mode="nearest")) / 8 for axis in (0, 1))


def log(image: np.ndarray, sigma: float) -> np.ndarray:
    smooth = ndimage.gaussian_filter(image, sigma, mode="nearest", radius=int(np.ceil(3 * sigma)))
    return ndimage.laplace(smooth, mode="nearest")


def test_terms_of_a_pair_are_the_published_formulas() -> None:
    pair, fused = images(1, 2, 16, 17), images(1, 16, 17, seed=1)
    a, b, f = pair[0, 0].numpy(), pair[0, 1].numpy(), fused[0].numpy()
    expected = np.abs(steepness(f) - np.maximum(steepness(a), steepness(b))).mean()
    assert float(image_losses.gradient_max(fused, pair)) == pytest.approx(expected)
    assert float(image_losses.intensity_max(fused, pair)) == pytest.approx(np.abs(f - np.maximum(a, b)).mean())
    of_a, of_b = log(a, 1.2), log(b, 1.2)
    larger = np.where(np.abs(of_a) >= np.abs(of_b), of_a, of_b)
    assert float(image_losses.log_max(fused, pair, 1.2)) == pytest.approx(np.abs(log(f, 1.2) - larger).mean())
    blurred = ndimage.gaussian_filter(f - (a + b) / 2, 2, mode="nearest", radius=6)
    assert float(image_losses.low_frequency(fused, pair, 2.0)) == pytest.approx(np.abs(blurred).mean())
    difference = ndimage.laplace(f - a, mode="nearest")
    expected = (np.sqrt(difference**2 + 0.1**2) - 0.1).mean()
    assert float(image_losses.charbonnier_laplacian(fused, pair[:, 0], 0.1)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "term", [image_losses.gradient_max, image_losses.intensity_max, image_losses.log_max, image_losses.low_frequency]
)
def test_fusing_equal_slices_to_themselves_costs_nothing(term) -> None:
    slices = images(2, 1, 20, 20).expand(2, 5, 20, 20)
    assert float(term(slices[:, 0], slices)) == pytest.approx(0, abs=1e-12)
    assert float(term(slices[:, 0] + images(2, 20, 20, seed=1), slices)) > 0.01


def test_each_term_is_least_for_the_image_it_asks_for() -> None:
    slices = images(1, 4, 24, 24)
    mean, target = slices.mean(dim=1), images(1, 24, 24, seed=7)
    for term, best in (
        (lambda f: image_losses.intensity_max(f, slices), slices.amax(dim=1)),
        (lambda f: image_losses.low_frequency(f, slices), mean),
        (lambda f: image_losses.charbonnier_laplacian(f, target), target),
        (lambda f: (1 - image_losses.ssim(f, target, 1.0)).mean(), target),
    ):
        assert float(term(best)) == pytest.approx(0, abs=1e-12)
        for seed in range(5):
            assert float(term(best + 0.01 * (images(1, 24, 24, seed=seed) - 0.5))) > 0


def test_detail_is_asked_of_the_slice_that_has_it() -> None:
    """One slice is textured and the others are flat: both terms for detail are zero for that slice alone."""
    slices = torch.full((1, 3, 32, 32), 0.5, dtype=torch.float64)
    slices[:, 1] = images(1, 32, 32)
    for term in (image_losses.gradient_max, image_losses.log_max):
        costs = [float(term(slices[:, z], slices)) for z in range(3)]
        assert costs[1] == pytest.approx(0, abs=1e-12)
        assert min(costs[0], costs[2]) > 0.05
        assert float(term(slices.mean(dim=1), slices)) > 0.05


def test_the_laplacian_is_blind_to_brightness() -> None:
    target = images(1, 16, 16)
    assert float(image_losses.charbonnier_laplacian(target + 5, target)) == pytest.approx(0, abs=1e-12)


def test_small_differences_do_not_cancel_in_float32() -> None:
    target = torch.zeros(1, 8, 8)
    fused = target.clone()
    fused[0, 4, 4] = 1e-6
    squares = (16 + 4) * 1e-12  # of the Laplacian of one pixel; far below ε the penalty is d² / 2ε
    assert float(image_losses.charbonnier_laplacian(fused, target)) == pytest.approx(
        squares / 2e-3 / 64, rel=1e-3, abs=0
    )


@pytest.mark.parametrize("value_range", [1.0, 255.0])
def test_ssim_is_that_of_skimage(value_range: float) -> None:
    image = images(2, 40, 33) * value_range
    other = 0.6 * image + 0.3 * value_range * images(2, 40, 33, seed=1)
    ours = image_losses.ssim(image, other, value_range)
    for found, a, b in zip(ours.numpy(), image.numpy(), other.numpy(), strict=True):
        _, theirs = structural_similarity(
            a, b, data_range=value_range, gaussian_weights=True, use_sample_covariance=False, full=True
        )
        np.testing.assert_allclose(found[5:-5, 5:-5], theirs[5:-5, 5:-5], rtol=1e-9)
    assert 0.3 < float(ours.mean()) < 0.95  # neither trivial


def test_ssim_of_a_batch_takes_a_range_each() -> None:
    image, other = images(2, 16, 16), images(2, 16, 16, seed=1)
    scale = torch.tensor([1.0, 40.0], dtype=torch.float64)
    scaled = image_losses.ssim(image * scale[:, None, None], other * scale[:, None, None], scale)
    torch.testing.assert_close(scaled, image_losses.ssim(image, other, 1.0))


def test_ssim_of_constants_is_a_number() -> None:
    flat = torch.zeros(1, 12, 12)
    assert float(image_losses.ssim(flat, flat, 1e-6).mean()) == 1
