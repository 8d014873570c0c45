from dataclasses import replace

import pytest
import torch
from torch import Generator

from hybridfusion_core.scenes.additive import crowded_light, isolated_light
from hybridfusion_core.scenes.blur import Blur, defocus, draw_blur
from hybridfusion_core.scenes.camera import NOISES, Camera, draw_camera
from hybridfusion_core.scenes.contrast import local_contrast
from hybridfusion_core.scenes.disturbances import disturb, drift, dust, shift, vignette
from hybridfusion_core.scenes.draw import Draw
from hybridfusion_core.scenes.layers import layered_light
from hybridfusion_core.scenes.light import MARGIN, Light
from hybridfusion_core.scenes.photographic import photographic_light
from hybridfusion_core.scenes.scene import KINDS, Scene, make_scene
from hybridfusion_core.scenes.transmitted import transmitted_light
from hybridfusion_core.scenes.volume import volume_light


def scene(seed: int, noise: str = "clean", slices: int = 7, haze: float = 0.0, kind: str = "layers") -> Scene:
    return make_scene(slices, 96, noise, Generator().manual_seed(seed), haze, kind=kind)


LIGHTS = {
    "layers": lambda draw, side, slices: layered_light(draw, side, slices, 0.5),
    "photographic": photographic_light,
    "volume": volume_light,
    "transmitted": transmitted_light,
    "isolated": lambda draw, side, slices: isolated_light(draw, side - 2 * MARGIN, slices),
    "crowded": lambda draw, side, slices: crowded_light(draw, side - 2 * MARGIN, slices),
}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("slices", [2, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_every_part_has_its_shape_and_range(noise: str, slices: int, kind: str) -> None:
    made = scene(slices, noise, slices, haze=1.0, kind=kind)
    assert made.counts.shape == (slices, 96, 96)
    assert made.counts.dtype == torch.float32
    for plane in (made.truth, made.height, made.structure, made.boundary, made.overlap):
        assert plane.shape == (96, 96)
    assert made.height.min() >= 0
    assert made.height.max() <= slices - 1
    assert made.structure.min() >= 0
    assert made.structure.max() <= 1
    assert all(torch.isfinite(part).all() for part in (made.counts, made.truth, made.height, made.structure))


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_is_a_data_set(kind: str) -> None:
    first, again, other = (scene(seed, "starved", kind=kind) for seed in (4, 4, 5))
    for name, part in vars(first).items():
        assert torch.equal(torch.as_tensor(part), torch.as_tensor(getattr(again, name))), name
    assert not torch.equal(first.counts, other.counts)


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


@pytest.mark.parametrize("kind", KINDS)
def test_regimes_differ_in_noise_as_they_say(kind: str) -> None:
    levels = [sum(scene(seed, noise, 3, kind=kind).noise for seed in range(16)) / 16 for noise in NOISES]
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


@pytest.mark.parametrize("kind", ["volume", "transmitted"])
@pytest.mark.parametrize("harm", [None, vignette, drift, shift, dust])
def test_a_choice_of_slices_can_give_the_truth(kind: str, harm) -> None:
    for seed in range(6):
        draw = Draw(Generator().manual_seed(seed))
        light = LIGHTS[kind](draw, 96, 5)
        light = harm(draw, light) if harm else light
        for structure in (torch.zeros(64, 64), torch.rand(64, 64), torch.ones(64, 64)):
            truth = light.truth(structure)
            assert (truth >= light.image.amin(dim=0) - 1e-5).all()
            assert (truth <= light.image.amax(dim=0) + 1e-5).all()


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_noise_is_as_strong_as_the_scene_says(kind: str) -> None:
    """Where no detector cuts light off."""
    for seed in range(4):
        draw = Draw(Generator().manual_seed(seed))
        light = LIGHTS[kind](draw, 96, 40)
        camera = replace(draw_camera(draw, "starved", kind), hot=0.0)
        counts = camera.record(draw, light.image.clamp(min=0))
        ratio = (counts - light.image.clamp(min=0)).square().mean().sqrt() / camera.deviation(
            light.image
        ).square().mean().sqrt()
        assert ratio == pytest.approx(1, abs=0.03)


def test_most_scenes_are_undisturbed_and_each_disturbance_is_rare() -> None:
    light = layered_light(Draw(Generator().manual_seed(0)), 96, 3, 0.0)
    camera = Camera(1000.0, 0.0)
    results = [disturb(Draw(Generator().manual_seed(seed)), light, camera) for seed in range(300)]
    untouched = sum(made is light and used == camera for made, used in results)
    assert 0.5 < untouched / 300 < 0.68
    for name in ("pattern", "hot", "levels", "black"):
        assert 0.02 < sum(getattr(used, name) > 0 for _, used in results) / 300 < 0.15, name


def test_dust_lies_in_all_slices_alike_and_is_no_structure() -> None:
    plain = Light(
        0.5 + 0.2 * torch.rand(4, 64, 64, generator=Generator().manual_seed(0)),
        None,
        None,
        torch.ones(64, 64),
        torch.ones(64, 64),
        torch.zeros(64, 64, dtype=torch.bool),
    )
    dusty = dust(Draw(Generator().manual_seed(3)), plain)
    shade = dusty.image / plain.image
    torch.testing.assert_close(shade, shade[:1].expand_as(shade))
    assert shade.min() < 0.95
    assert dusty.detail[local_contrast(shade[0]) > 0.05].max() < 0.2
    torch.testing.assert_close(dusty.truth(torch.ones(64, 64)), dusty.image[1])


def test_a_detector_saturates_and_ends_at_zero() -> None:
    draw = Draw(Generator().manual_seed(0))
    camera = Camera(1e7, 0.01, ceiling=0.5, black=0.1, levels=255)
    counts = camera.record(draw, torch.linspace(0, 1, 64).expand(2, 64, 64))
    assert counts.min() == 0
    assert counts.max() == pytest.approx(round(0.5 * 255) / 255, abs=1e-6)
    torch.testing.assert_close(counts * 255, (counts * 255).round(), atol=1e-3, rtol=0)
    assert camera.limit(torch.tensor([0.05, 0.3, 0.9])).tolist() == pytest.approx([0, 0.2, 0.5])


def test_blur_between_two_levels_has_the_variance_that_its_distance_asks_for() -> None:
    """A point's second moment grows with the square of the distance, near focus too."""
    draw = Draw(Generator().manual_seed(1))
    blur: Blur = draw_blur(draw, 64, 1.3, ("gaussian",))
    at_rest = _variance(defocus(_point(), torch.zeros(64, 64), 1, blur)[0])
    for away in (0.2, 0.5, 1.0, 1.7, 3.0):
        seen = defocus(_point(), torch.full((64, 64), away), 1, blur)[0]
        assert _variance(seen) - at_rest == pytest.approx((1.3 * away) ** 2, rel=0.02, abs=1e-3)


def test_a_pixel_of_a_pasted_or_composed_scene_at_its_slice_is_the_truth() -> None:
    """Far from any edge in height, a surface exactly on a slice is recorded there as it is."""
    close = far = 0.0
    for seed in range(12):
        light = photographic_light(Draw(Generator().manual_seed(seed)), 128, 3)
        on = (light.height - light.height.round()).abs() < 1e-3
        index = light.height.round().long().clamp(0, 2)
        sure = on & (light.detail > 0.05)
        for z in (index, (index + 1) % 3):
            error = (light.image.gather(0, z[None])[0] - light.at_height()).abs()[sure].sum()
            close, far = (close + float(error), far) if z is index else (close, far + float(error))
    assert close < 0.4 * far


def _point() -> torch.Tensor:
    point = torch.zeros(64, 64)
    point[32, 32] = 1
    return point


def _variance(spot: torch.Tensor) -> float:
    y = torch.arange(64.0) - 32
    return float((spot.sum(dim=1) * y * y).sum() / spot.sum())
