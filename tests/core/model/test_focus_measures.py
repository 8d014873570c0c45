import numpy as np
import pytest
import torch
from scipy import ndimage

from hybridfusion_core.model import focus_measures as measures
from hybridfusion_core.model.blur import gaussian_blur, kernel_radius

KINDS = pytest.mark.parametrize("made", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])


@KINDS
def test_gradients_and_laplacian_are_scipy_s(made) -> None:
    image = np.random.default_rng(0).standard_normal((17, 23))
    along_y, along_x = measures.gradients(made(image))
    np.testing.assert_allclose(along_y, ndimage.sobel(image, axis=0, mode="nearest") / 8, atol=1e-12)
    np.testing.assert_allclose(along_x, ndimage.sobel(image, axis=1, mode="nearest") / 8, atol=1e-12)
    np.testing.assert_allclose(measures.laplacian(made(image)), ndimage.laplace(image, mode="nearest"))


@KINDS
@pytest.mark.parametrize("sigma", [0.8, 2.0, 4.0])
def test_the_blur_is_scipy_s(sigma: float, made) -> None:
    image = np.random.default_rng(0).standard_normal((40, 51))
    theirs = ndimage.gaussian_filter(image, sigma, mode="nearest", radius=kernel_radius(sigma))
    np.testing.assert_allclose(gaussian_blur(made(image), sigma), theirs, atol=1e-12)


@pytest.mark.parametrize("noise", [0.05, 1.0])
def test_numpy_finds_the_structure_that_torch_finds(noise: float) -> None:
    guide = np.random.default_rng(0).standard_normal((1, 3, 64, 80)).astype(np.float32)
    guide[..., 20:40, 30:50] += 40 * np.indices((20, 20)).sum(axis=0) % 7
    level = np.full(1, noise, np.float32)
    theirs = measures.has_structure(torch.from_numpy(guide), torch.from_numpy(level)).numpy()
    assert 0 < theirs.mean() <= 1
    np.testing.assert_array_equal(measures.has_structure(guide, level), theirs)


@pytest.mark.parametrize("measure", [measures.tenengrad, measures.laplacian_energy])
def test_energy_is_highest_for_the_sharpest_slice(measure) -> None:
    texture = np.random.default_rng(0).standard_normal((64, 64))
    slices = [ndimage.gaussian_filter(texture, sigma) for sigma in (3.0, 1.0, 2.0)]
    energy = measure(torch.from_numpy(np.stack(slices))[None])
    assert (energy.argmax(dim=1) == 1).all()


@pytest.mark.parametrize("slices", [1, 12, 60])
def test_however_many_slices_noise_hardly_ever_passes_for_structure(slices: int) -> None:
    """The promised rate is one in a million; at the rim, where the window sees pixels twice, it is not kept."""
    torch.manual_seed(1)
    noise = torch.randn(1, slices, 512, 512)
    assert measures.has_structure(noise, torch.ones(1))[..., 16:-16, 16:-16].float().mean() < 1e-4


@pytest.mark.parametrize("slices", [2, 12])
@pytest.mark.parametrize("sd", [0.01, 1.0])
def test_noise_is_no_structure_and_texture_is(slices: int, sd: float) -> None:
    torch.manual_seed(0)
    noise = sd * torch.randn(1, slices, 256, 256)
    level = torch.tensor([sd])
    assert measures.has_structure(noise, level).float().mean() < 0.02
    y, x = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    texture = 4 * sd * torch.sin(y / 2) * torch.sin(x / 2)
    assert measures.has_structure(noise + texture, level).float().mean() > 0.99


def test_structure_is_what_fills_the_window_and_never_a_speck() -> None:
    """A clear bead is found in noise; a detection of a few pixels, as heavy-tailed noise leaves them, is not."""
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    bead = torch.exp(-((y - 32) ** 2 + (x - 32) ** 2) / 4)
    for strength, seen in ((0.0, 0), (12.0, 1)):
        found = measures.has_structure(torch.randn(1, 3, 64, 64) + strength * bead, torch.ones(1))
        assert int(found[0, 32, 32]) == seen
    heavy = torch.distributions.StudentT(4.0).sample((1, 8, 256, 256))
    found = measures.has_structure(heavy / heavy.std(), torch.ones(1))[0].numpy()
    inner = (slice(4, -4), slice(4, -4))  # what lies beyond a border is unknown to both
    assert np.array_equal(found[inner], ndimage.binary_opening(found, np.ones((5, 5)))[inner])


def test_what_is_structure_depends_on_no_pixel_beyond_its_reach() -> None:
    torch.manual_seed(0)
    guide = torch.randn(1, 2, 96, 96)
    changed = guide.clone()
    changed[..., 48, 48] += 1e3
    before, after = (measures.has_structure(each, torch.full((1,), 0.6)) for each in (guide, changed))
    y, x = torch.nonzero((before != after)[0], as_tuple=True)
    reach = torch.maximum((y - 48).abs(), (x - 48).abs())
    assert 0 < reach.max() <= measures.structure_reach()


def test_slow_haze_is_no_structure() -> None:
    torch.manual_seed(0)
    y = torch.arange(256.0)[:, None].expand(256, 256)
    haze = 10 * torch.sin(y / 80)
    assert measures.has_structure(haze + torch.randn(1, 5, 256, 256), torch.ones(1)).float().mean() < 0.02


@pytest.mark.parametrize("brightness", [10.0, 60.0])
def test_the_haze_around_something_bright_is_no_structure_and_its_edge_is(brightness: float) -> None:
    """Light from 15 px out of the plane of focus, in noise of one unit."""
    torch.manual_seed(0)
    disc = torch.zeros(256, 256)
    y, x = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    radius = torch.hypot(y - 128, x - 128)
    disc[radius < 60] = brightness
    haze = gaussian_blur(disc, 15.0)
    noise = torch.randn(1, 4, 256, 256)
    assert measures.has_structure(haze + noise, torch.ones(1)).float().mean() < 0.02
    edge = measures.has_structure(disc + noise, torch.ones(1))[0]
    assert edge[(radius - 60).abs() < 3].float().mean() > 0.95
    assert edge[(radius > 90) & (radius < 120)].float().mean() < 0.02


def test_smoothed_white_noise_leaves_the_stated_energy() -> None:
    torch.manual_seed(0)
    noise = torch.randn(8, 512, 512)
    smoothed = gaussian_blur(noise, measures.COARSE) - gaussian_blur(noise, measures.DETECTION_SCALE)
    energy = measures.gradient_energy(smoothed)[..., 24:-24, 24:-24].mean()
    assert float(energy) == pytest.approx(measures.COARSE_NOISE_ENERGY, rel=0.02)


def test_in_much_noise_what_is_coarser_than_a_pixel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chromosomes that a person sees and no pixel shows; in little noise the same detection finds nothing more."""
    torch.manual_seed(0)
    coarse = gaussian_blur(torch.randn(256, 256), 3.0)
    coarse = coarse / coarse.std()
    noise = torch.randn(1, 8, 256, 256)
    assert measures.has_structure(1.5 * coarse + noise, torch.ones(1)).float().mean() > 0.9
    little = torch.tensor([measures.COARSE_FROM])
    rim = little * (1.5 * coarse + noise)
    usual = measures.has_structure(rim, little)
    monkeypatch.setattr(measures, "COARSE_FROM", 0.0)
    assert measures.has_structure(rim, little).float().mean() > usual.float().mean() + 0.1
    monkeypatch.setattr(measures, "COARSE_FROM", torch.inf)
    assert torch.equal(measures.has_structure(rim, little), usual)
    assert measures.has_structure(1.5 * coarse + noise, torch.ones(1)).float().mean() < 0.1
