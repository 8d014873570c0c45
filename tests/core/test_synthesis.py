import pytest
import torch
from torch import Generator

from hybridfusion_core.synthesis import NOISES, Draw, make_scene
from hybridfusion_core.synthesis.layers import layered_light


def scene(seed: int, noise: str = "clean", slices: int = 7, haze: float = 0.0):
    return make_scene(slices, 96, noise, Generator().manual_seed(seed), haze)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("slices", [2, 5])
def test_every_part_has_its_shape_and_range(noise: str, slices: int) -> None:
    made = scene(0, noise, slices, haze=1.0)
    assert made.counts.shape == (slices, 96, 96)
    assert made.counts.dtype == torch.float32
    for plane in (made.truth, made.height, made.structure, made.boundary):
        assert plane.shape == (96, 96)
    assert made.height.min() >= 0
    assert made.height.max() <= slices - 1
    assert made.structure.min() >= 0
    assert made.structure.max() <= 1
    assert all(torch.isfinite(part).all() for part in (made.counts, made.truth, made.height, made.structure))


def test_a_seed_is_a_data_set() -> None:
    assert torch.equal(scene(4, "starved").counts, scene(4, "starved").counts)
    assert not torch.equal(scene(4, "starved").counts, scene(5, "starved").counts)


def test_the_slice_at_the_true_height_is_nearest_to_the_truth() -> None:
    """Over many scenes: copying from the true slice beats copying from the next but one."""
    right = wrong = 0.0
    for seed in range(20):
        made = scene(seed)
        at = made.height.round().long()
        beside = torch.where(at + 2 < 7, at + 2, at - 2)
        sure = made.structure > 0.5
        errors = [(made.counts.gather(0, z[None])[0] - made.truth).abs()[sure].sum() for z in (at, beside)]
        right, wrong = right + float(errors[0]), wrong + float(errors[1])
    assert right < 0.6 * wrong


def test_regimes_differ_in_noise_as_they_say() -> None:
    levels = [sum(scene(seed, noise).noise for seed in range(12)) / 12 for noise in NOISES]
    assert levels[0] < 0.2 * levels[1]
    assert levels[1] < 0.5 * levels[2]


def test_haze_raises_the_truth_by_light_that_some_slice_has() -> None:
    for seed in range(10):
        plain, hazy = (layered_light(Draw(Generator().manual_seed(seed)), 96, 5, haze) for haze in (0.0, 1.0))
        added = hazy.image - plain.image
        for structure in (torch.zeros(64, 64), torch.ones(64, 64)):
            raised = hazy.truth(structure) - plain.truth(structure)
            assert (raised >= added.amin(dim=0) - 1e-5).all()
            assert (raised <= added.amax(dim=0) + 1e-5).all()
        assert added.max() > 0.01
