"""Laws of the optics: what a pupil must do whatever the microscope."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from hybridfusion_core.scenes import transmitted as transmitted_module
from hybridfusion_core.scenes import volume as volume_module
from hybridfusion_core.scenes.camera import Camera
from hybridfusion_core.scenes.draw import Draw, radial_frequency, smooth_field
from hybridfusion_core.scenes.lab import Lab
from hybridfusion_core.scenes.optics import Microscope, likely_objectives
from hybridfusion_core.scenes.planes import Planes, in_focus
from hybridfusion_core.scenes.scene import KINDS, make_scene
from hybridfusion_core.scenes.transmitted import transmitted_image
from hybridfusion_core.scenes.volume import Widefield

AIR = Microscope(na=0.75, index=1.0, wavelength=0.52, pixel=0.325, condenser=0.5)
LOW = Microscope(na=0.3, index=1.0, wavelength=0.52, pixel=0.65, condenser=0.3)
WATER = Microscope(na=1.2, index=1.33, wavelength=0.52, pixel=0.108, condenser=0.7)
SCOPES = (LOW, AIR, WATER)
PLANES = Planes(slices=7, step=5.0, each=2)


def field(seed: int, side: int = 64) -> Tensor:
    return 0.2 * smooth_field(Draw(Generator().manual_seed(seed)), side, 1.0, 1.0)


def one_plane(texture: Tensor, height: float) -> Tensor:
    return PLANES.splat(texture, torch.full_like(texture, height))


@pytest.mark.parametrize("scope", SCOPES)
def test_in_focus_the_transfer_is_that_of_a_circular_pupil(scope: Microscope) -> None:
    v = (radial_frequency(64) * scope.wavelength / scope.pixel / (2 * scope.na)).clamp(max=1)
    expected = 2 / math.pi * (torch.acos(v) - v * torch.sqrt(1 - v * v))
    torch.testing.assert_close(scope.incoherent(torch.zeros(1), 64)[0], expected, atol=0.007, rtol=0)


@pytest.mark.parametrize("scope", SCOPES)
def test_defocus_takes_detail_and_no_light(scope: Microscope) -> None:
    transfer = scope.incoherent(torch.tensor([0.0, 4.0, 8.0, -8.0]), 64)
    torch.testing.assert_close(transfer[:, 0, 0], torch.ones(4))
    assert torch.equal(transfer[2], transfer[3])
    power = transfer.square().sum(dim=(1, 2))
    assert power[0] > power[1] > power[2]
    assert transfer.abs().max() < 1 + 1e-5


def test_blur_far_from_focus_is_as_wide_as_the_cone_of_light() -> None:
    """The radius that holds the light of a defocused point is distance × tan α, within the diffraction's share."""
    distance = 24.0
    spread = torch.fft.irfft2(LOW.incoherent(torch.tensor([distance]), 128)[0], s=(128, 128))
    near = torch.fft.fftfreq(128) * 128
    radius = torch.sqrt(near[:, None] ** 2 + near**2)
    mean = float((spread.abs() * radius).sum() / spread.abs().sum())
    assert mean == pytest.approx(2 / 3 * distance * LOW.spread, rel=0.25)  # of an even disc


def test_emission_adds() -> None:
    optics = Widefield(AIR, PLANES, aberration=0.02)
    first, second = one_plane(field(0).abs(), 1.5), one_plane(field(1).abs(), 4.0)
    both = optics.image(first + second)[0]
    torch.testing.assert_close(both, optics.image(first)[0] + optics.image(second)[0], atol=1e-5, rtol=1e-4)


def test_every_slice_records_all_the_light() -> None:
    texture = field(0).abs()
    image = Widefield(LOW, PLANES).image(one_plane(texture, 3.0))[0]
    torch.testing.assert_close(image.mean(dim=(1, 2)), texture.mean().expand(7), rtol=0.01, atol=0)


def test_a_slice_at_a_plane_is_the_plane_in_focus() -> None:
    texture = field(0).abs()
    slices = Widefield(AIR, PLANES).image(one_plane(texture, 2.0))[0]
    expected = torch.fft.irfft2(torch.fft.rfft2(texture) * AIR.incoherent(torch.zeros(1), 64)[0], s=(64, 64))
    torch.testing.assert_close(slices[2], expected, atol=1e-5, rtol=1e-5)


def test_height_of_a_thin_surface_is_found_between_planes() -> None:
    y = torch.arange(64.0)[:, None]
    height = 1.2 + 2.5 * y.expand(64, 64) / 63
    found, _, overlap = in_focus(PLANES, PLANES.splat(torch.ones(64, 64), height), AIR.depth_of_field())
    error = (found - height).abs()[12:-12]  # fields are periodic: its ends meet
    assert error.max() < 0.12
    assert not overlap[12:-12].any()


def test_a_second_layer_as_bright_is_overlap() -> None:
    left = (torch.arange(64) < 32).float().expand(64, 64)
    light = one_plane(torch.ones(64, 64), 1.0) + one_plane(0.8 * left, 5.0)
    height, _, overlap = in_focus(PLANES, light, AIR.depth_of_field())
    assert overlap[:, 8:24].all()
    assert not overlap[:, 40:56].any()
    torch.testing.assert_close(height[:, 40:56], torch.ones(64, 16), atol=0.05, rtol=0)


@pytest.mark.parametrize("scope", SCOPES)
def test_phase_contrast_vanishes_in_focus_and_inverts_through_it(scope: Microscope) -> None:
    planes = Planes(slices=5, step=1.0 / scope.defocus(torch.ones(1)).item(), each=1)  # one depth unit a slice
    phase = planes.splat(field(0), torch.full((64, 64), 2.0))
    image = transmitted_image(scope, planes, phase, torch.zeros_like(phase)) - 1
    assert image[2].std() < 0.01 * image[3].std()
    for away in (1, 2):
        pair = torch.stack([image[2 - away].flatten(), image[2 + away].flatten()])
        assert torch.corrcoef(pair)[0, 1] < -0.7
    assert image[3].std() > 0.02 * phase.std()


def test_absorption_is_the_same_on_both_sides_of_focus_and_strongest_there() -> None:
    absorption = PLANES.splat(field(0), torch.full((64, 64), 3.0))
    image = transmitted_image(AIR, PLANES, torch.zeros_like(absorption), absorption)
    torch.testing.assert_close(image[1], image[5], atol=1e-5, rtol=0)
    contrast = image.std(dim=(1, 2))
    assert contrast.argmax() == 3
    # An even absorber takes 2 μ of the light.
    even = transmitted_image(
        AIR, PLANES, torch.zeros_like(absorption), PLANES.splat(torch.full((64, 64), 0.05), torch.full((64, 64), 3.0))
    )
    torch.testing.assert_close(even, torch.full_like(even, 0.9), atol=2e-3, rtol=0)


def test_in_the_coherent_limit_phase_shows_as_the_textbook_says() -> None:
    """I = 1 + 2 sin(2π/λ Δz (1 − √(1 − λ²f²))) φ̂, up to the sign convention, where the condenser is all but shut."""
    scope = Microscope(na=0.75, index=1.0, wavelength=0.52, pixel=0.325, condenser=0.1)
    away = 3.0 / scope.pixel  # 3 µm
    _, phase = scope.weak_object(torch.tensor([away]), 128)
    frequency = radial_frequency(128) / scope.pixel  # 1/µm
    seen = frequency < 0.6 * scope.na / scope.wavelength
    depth = 1 - torch.sqrt((1 - (scope.wavelength * frequency) ** 2).clamp(min=0))
    expected = 2 * torch.sin(math.tau / scope.wavelength * 3.0 * depth)
    pair = torch.stack([phase[0][seen], expected[seen]])
    assert torch.corrcoef(pair)[0, 1].abs() > 0.97


LAB = Lab((Microscope(1.4, 1.518, 0.52, 0.1),), z_step=0.3, slices=9, cameras=(Camera(200, 0.02),))


@pytest.mark.parametrize("kind", ["volume", "transmitted"])
def test_scenes_of_a_laboratory_have_its_optics_distances_and_noise(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = {"volume": volume_module, "transmitted": transmitted_module}[kind]
    drawn, plan = [], module.plan_planes
    monkeypatch.setattr(module, "plan_planes", lambda slices, step: drawn.append(step) or plan(slices, step))
    noises = []
    for seed in range(24):
        scene = make_scene(5, 48, "clean", Generator().manual_seed(seed), kind=kind, lab=LAB)
        noises.append(scene.noise)
    steps = np.array(drawn) / (0.3 / 0.1)  # neighbours, or as far apart as nine slices allow
    assert ((np.abs(steps - 1) < 0.12) | (np.abs(steps - 2) < 0.24)).all()
    assert (steps < 1.2).mean() > 0.5
    assert (steps > 1.2).any()
    assert 0.015 < np.median(noises) < 0.09  # √(0.02² + light / 200), light in [0, 1]; "clean" has 0.005 at most


def test_a_laboratory_of_which_nothing_is_known_draws_what_any_draws() -> None:
    for kind in KINDS:
        plain = make_scene(4, 48, "ordinary", Generator().manual_seed(3), kind=kind)
        same = make_scene(4, 48, "ordinary", Generator().manual_seed(3), kind=kind, lab=Lab())
        assert torch.equal(plain.counts, same.counts)
        assert torch.equal(plain.truth, same.truth)


# Means of counts: a recipe means the same scenes for ever. `volume` was drawn anew once, when it was first told what of
# its light is in focus, by which its full scale is set.
DRAWN = {
    "layers": (0.8490, 1.1937, 0.5138),
    "volume": (0.2024, 0.4620, 0.0859),
    "transmitted": (0.4157, 0.5359, 0.8796),
    "photographic": (0.3513, 0.2727, 0.4711),
    "isolated": (0.0461, 0.1740, 0.0089),
    "crowded": (0.1331, 0.4062, 0.1621),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_still_draws_what_it_always_drew(kind: str) -> None:
    drawn = [make_scene(4, 48, "ordinary", Generator().manual_seed(seed), kind=kind) for seed in (1, 2, 3)]
    assert [float(scene.counts.mean()) for scene in drawn] == pytest.approx(DRAWN[kind], abs=2e-3)


def test_a_phase_ring_shows_in_focus_what_brightfield_hides() -> None:
    def contrast(ring: bool) -> float:
        lab = replace(LAB, phase_contrast=ring, cameras=(Camera(1e7, 1e-4),))
        seeds = (Generator().manual_seed(seed) for seed in range(30))
        scenes = [make_scene(5, 64, "clean", seed, kind="transmitted", lab=lab) for seed in seeds]
        return float(np.mean([float(scene.truth.std() / scene.counts.std()) for scene in scenes]))

    assert contrast(True) > contrast(False) + 0.03


@pytest.mark.parametrize(("pixel", "aperture"), [(1.3, 0.15), (0.325, 0.75), (0.16, 0.95), (0.1, 1.2), (30.0, 0.15)])
def test_a_pixel_goes_with_the_objectives_that_are_used_with_it(pixel: float, aperture: float) -> None:
    found = likely_objectives(pixel)
    assert aperture in {na for na, _ in found}
    assert all(na < index for na, index in found)
