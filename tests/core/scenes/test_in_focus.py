"""Laws of what is in focus: a thing is, its glow is not, and beside a thing the truth is that thing's own slice."""

from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from hybridfusion_core.scenes.additive import crowded_light, isolated_light
from hybridfusion_core.scenes.camera import Camera
from hybridfusion_core.scenes.contrast import local_contrast, neighbourhood_maximum
from hybridfusion_core.scenes.disturbances import expose_hard
from hybridfusion_core.scenes.draw import Draw
from hybridfusion_core.scenes.focus import Focus, focus_of
from hybridfusion_core.scenes.isolated import body
from hybridfusion_core.scenes.light import Light, at_height
from hybridfusion_core.scenes.mounting import EVEN, Mounting, mounted_transfer
from hybridfusion_core.scenes.optics import Microscope
from hybridfusion_core.scenes.planes import Planes
from hybridfusion_core.scenes.scene import _recorded, make_scene

SCOPE = Microscope(na=0.75, index=1.0, wavelength=0.52, pixel=0.325)
PLANES = Planes(slices=7, step=4.0, each=2, beyond=5)
SIDE = 128
QUIET = Camera(1e7, 1e-5)


def imaged(*beads: tuple[float, float, float, float], radius: float = 3.0, waves: float = 0.0) -> Light:
    """Beads at (y, x, height in slices, brightness)."""
    emission = torch.zeros(PLANES.count, SIDE, SIDE)
    for y, x, height, bright in beads:
        body(Draw(Generator()), emission, PLANES, [y, x, height * PLANES.step], radius, bright, None)
    transfer = mounted_transfer(SCOPE, Mounting(1.33, 0, 20, waves).waves(SCOPE), PLANES.offsets(), SIDE)
    image, focus = focus_of(PLANES, emission, transfer, SCOPE.depth_of_field(), SCOPE.core())
    return Light(image, None, None, focus.height, focus.bright, focus.overlap, focus=focus)


def distance(y: float, x: float) -> Tensor:
    line = torch.arange(SIDE, dtype=torch.float32)
    return torch.sqrt((line[:, None] - y) ** 2 + (line - x) ** 2)


def recorded(light: Light, camera: Camera = QUIET):
    undisturbed = next(seed for seed in range(9) if not Draw(Generator().manual_seed(seed)).chance(0.42))
    return _recorded(Draw(Generator().manual_seed(undisturbed)), light, camera)


def test_a_bead_is_in_focus_and_its_rim_in_no_slice_is() -> None:
    scene = recorded(imaged((64, 64, 3.0, 1.0)))
    away = distance(64, 64)
    assert scene.in_focus[away < 2.5].min() == 1
    assert scene.in_focus_weight[away < 2].min() == 1
    assert scene.in_focus[away > 6].max() == 0
    assert scene.in_focus_weight[away > 6].min() == 1
    glow = scene.counts.amax(dim=0)[(away > 8) & (away < 14)]
    assert glow.min() > 50 * scene.noise  # although light is far above the noise there


@pytest.mark.parametrize("height", [-2.0, -1.5, 7.5, 8.0])
def test_what_lies_beyond_both_ends_is_in_focus_nowhere_and_leaves_the_mean(height: float) -> None:
    light = imaged((64, 64, height, 1.0), radius=1.0)
    scene = recorded(light)
    assert scene.in_focus.max() == 0
    assert scene.in_focus_weight.min() == 1
    torch.testing.assert_close(scene.truth, light.image.mean(dim=0), rtol=0.01, atol=1e-5)


def test_glow_over_even_ground_is_within_a_hundredth_of_the_mean() -> None:
    light = imaged((20, 90, -2.0, 1.0), (90, 30, 8.2, 0.5)).scaled(1.0, 0.2)
    light = light.plus(torch.linspace(0, 0.3, 7)[:, None, None].expand(7, SIDE, SIDE))
    scene = recorded(light, Camera(500, 0.01))
    torch.testing.assert_close(scene.truth, light.image.mean(dim=0), rtol=0.01, atol=0)
    assert scene.in_focus.max() == 0


def test_beside_a_bead_the_truth_is_its_own_slice() -> None:
    light = imaged((64, 64, 2.0, 1.0)).scaled(1.0, 0.001)
    scene = recorded(light)
    away = distance(64, 64)
    beside = (away > 5) & (away < 16)
    ratio = (scene.truth / light.image[2])[beside]
    assert ratio.max() < 1.05
    assert ratio.min() > 0.95
    assert (light.image.mean(dim=0) / light.image[2])[beside].min() > 1.5  # where the mean would glow
    assert (scene.height[away < 16] - 2).abs().max() < 0.2


def test_between_two_beads_each_keeps_its_own_surroundings() -> None:
    light = imaged((64, 40, 1.0, 1.0), (64, 88, 5.0, 0.3))
    scene = recorded(light)
    for x, height in ((40, 1), (88, 5)):
        ring = (distance(64, x) > 5) & (distance(64, x) < 10)
        torch.testing.assert_close(scene.truth[ring], light.image[height][ring], rtol=0.05, atol=2e-4)
        assert (scene.height[ring] - height).abs().max() < 0.3


def test_height_is_known_between_slices() -> None:
    for height in (1.25, 2.5, 3.75):
        scene = recorded(imaged((64, 64, height, 1.0), radius=1.0))
        on = (scene.in_focus * scene.in_focus_weight) > 0
        assert on.any()
        assert float((scene.height[on] - height).abs().max()) < 0.15, height


def test_a_faint_thing_beside_a_bright_one_is_in_focus_and_noise_hides_it() -> None:
    light = imaged((64, 30, 3.0, 1.0), (64, 100, 3.0, 1 / 400))
    assert recorded(light).in_focus[64, 100] == 1
    hidden = recorded(light, Camera(1e7, 0.05))
    assert hidden.in_focus[64, 100] == 0
    assert hidden.in_focus[64, 30] == 1


@pytest.mark.parametrize("gain", [0.01, 30.0])
def test_other_units_of_light_change_no_label(gain: float) -> None:
    light = imaged((40, 40, 2.0, 1.0), (80, 90, 4.4, 0.1), (100, 30, 7.4, 0.5))
    plain = recorded(light, Camera(1e7, 1e-3))
    other = recorded(light.scaled(gain, 0.5), Camera(1e13, 1e-3 * gain))
    for name in ("in_focus", "in_focus_weight"):
        assert (getattr(plain, name) != getattr(other, name)).float().mean() < 1e-3
    on = plain.in_focus > 0
    torch.testing.assert_close(plain.height[on], other.height[on], atol=1e-3, rtol=0)


def test_even_light_of_a_plane_in_focus_is_left_open() -> None:
    emission = torch.zeros(PLANES.count, SIDE, SIDE)
    emission[int(PLANES.position(3.0))] = 1.0
    transfer = mounted_transfer(SCOPE, EVEN.waves(SCOPE), PLANES.offsets(), SIDE)
    image, focus = focus_of(PLANES, emission, transfer, SCOPE.depth_of_field(), SCOPE.core())
    scene = recorded(Light(image, None, None, focus.height, focus.bright, focus.overlap, focus=focus))
    assert scene.in_focus_weight.max() == 0


def test_spherical_aberration_makes_one_side_of_focus_brighter_and_takes_no_light() -> None:
    distances = torch.tensor([-16.0, -8.0, 0.0, 8.0, 16.0])
    even = mounted_transfer(SCOPE, EVEN.waves(SCOPE), distances, SIDE)
    bent = mounted_transfer(SCOPE, Mounting(1.33, 0, 30).waves(SCOPE), distances, SIDE)
    turned = mounted_transfer(SCOPE, Mounting(1.33, 0, -30).waves(SCOPE), distances, SIDE)
    torch.testing.assert_close(even, even.flip(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(bent, turned.flip(0), atol=1e-3, rtol=0)  # the other way round
    torch.testing.assert_close(bent[:, 0, 0], torch.ones(5))
    peaks = torch.fft.irfft2(bent, s=(SIDE, SIDE)).amax(dim=(1, 2))
    assert peaks[0] > 1.3 * peaks[4]
    assert bent.abs().max() < 1 + 1e-5


def test_without_aberration_the_transfer_is_the_microscope_s_own() -> None:
    distances = torch.tensor([0.0, 5.0, 10.0])
    made = mounted_transfer(SCOPE, EVEN.waves(SCOPE), distances, SIDE)
    assert (made - SCOPE.incoherent(distances, SIDE)).abs().max() < 0.03


@pytest.mark.parametrize("light_of", [isolated_light, crowded_light])
def test_a_choice_of_slices_can_give_the_truth_of_what_adds_up(light_of) -> None:
    for seed in range(6):
        light = light_of(Draw(Generator().manual_seed(seed)), 64, 5)
        truth = light.truth(torch.rand(64, 64, generator=Generator().manual_seed(seed)), 1e-3)
        assert (truth >= light.image.amin(dim=0) - 1e-5).all()
        assert (truth <= light.image.amax(dim=0) + 1e-5).all()


def test_lonely_things_are_rare_and_bright_and_tissue_is_crowded() -> None:
    shares = {
        kind: torch.stack(
            [
                make_scene(5, 96, "ordinary", Generator().manual_seed(seed), kind=kind).in_focus.mean()
                for seed in range(24)
            ]
        )
        for kind in ("isolated", "crowded")
    }
    assert shares["isolated"].median() < 0.1
    assert shares["crowded"].mean() > 0.25
    assert (shares["crowded"] > 0.05).float().mean() > 0.7


def test_bright_structure_of_tissue_is_in_focus() -> None:
    """Of the pixels where the light of the sharpest slice varies most, hardly any are labelled out of focus."""
    kept = asked = 0.0
    for seed in range(16):
        light = crowded_light(Draw(Generator().manual_seed(seed)), 96, 6)
        if light.focus is None or light.focus.share.mean() < 0.2:
            continue
        scene = recorded(light, Camera(1e7, 1e-3))
        detail = local_contrast(at_height(light.image, light.height))
        bright = (detail > detail.quantile(0.9)) & (light.focus.share > 0) & (scene.in_focus_weight > 0)
        kept, asked = kept + float(scene.in_focus[bright].sum()), asked + float(bright.sum())
    assert asked > 2_000
    assert kept / asked > 0.95


def test_photographs_are_in_focus_wherever_they_are_asked_about() -> None:
    for seed in range(6):
        scene = make_scene(2, 96, "ordinary", Generator().manual_seed(seed), kind="photographic")
        assert (scene.in_focus[scene.in_focus_weight > 0] == 1).all()


def test_an_empty_field_is_in_focus_nowhere() -> None:
    light = Light(torch.full((4, SIDE, SIDE), 0.3), *[None] * 2, *[torch.zeros(SIDE, SIDE)] * 3)
    scene = recorded(replace(light, overlap=torch.zeros(SIDE, SIDE, dtype=torch.bool)), Camera(300, 0.01))
    assert scene.in_focus.max() == 0
    assert scene.in_focus_weight.min() == 1


def test_a_lost_slice_is_in_no_truth() -> None:
    light = imaged((64, 64, 3.0, 1.0))
    white = replace(light, image=light.image.clone())
    white.image[5] = 65_535
    without = white.without(5)
    assert without.truth(torch.zeros(SIDE, SIDE)).max() < 2
    assert without.image.amax() <= light.image.amax()
    assert white.image[5].min() == 65_535  # and what was recorded stays as it was


def test_hard_exposure_cuts_off_ground_and_cores() -> None:
    light = imaged((64, 64, 3.0, 1.0)).scaled(1.0, 0.01)
    cameras = [expose_hard(Draw(Generator().manual_seed(seed)), Camera(1e5, 1e-4), light) for seed in range(200)]
    assert 0.1 < sum(camera.black > 0 for camera in cameras) / 200 < 0.3
    assert 0.05 < sum(camera.ceiling < 1 for camera in cameras) / 200 < 0.2
    clipped = next(camera for camera in cameras if camera.black > 0.01)
    counts = clipped.record(Draw(Generator().manual_seed(0)), light.image)
    assert (counts == 0).float().mean() > 0.3


def test_columns_repeat_in_every_slice_and_rows_do_not() -> None:
    dark = torch.zeros(6, 64, 64)
    columns = Camera(1e7, 0.0, columns=0.1).record(Draw(Generator().manual_seed(0)), dark)
    torch.testing.assert_close(columns, columns[:1, :1].expand_as(columns), atol=1e-6, rtol=0)
    rows = Camera(1e7, 0.0, rows=0.1).record(Draw(Generator().manual_seed(0)), dark)
    torch.testing.assert_close(rows, rows[:, :, :1].expand_as(rows), atol=1e-6, rtol=0)
    assert (rows[0] - rows[1]).abs().mean() > 0.05
    assert columns.std() == pytest.approx(0.1, rel=0.25)


def test_the_largest_of_a_neighbourhood_is_that_of_pooling() -> None:
    image = torch.rand(3, 21, 34, generator=Generator().manual_seed(0))
    for width in (3, 9, 17):
        pooled = torch.nn.functional.max_pool2d(image[:, None], width, stride=1, padding=width // 2)[:, 0]
        assert torch.equal(neighbourhood_maximum(image, width), pooled)


def test_slices_chosen_beside_structures_sum_to_one() -> None:
    focus = imaged((64, 64, 2.0, 1.0), (30, 30, 8.0, 1.0)).focus
    assert isinstance(focus, Focus)
    chosen = focus.choice(1e-4)
    torch.testing.assert_close(chosen.sum(dim=0), torch.ones(SIDE, SIDE))
    assert chosen.min() >= 0
