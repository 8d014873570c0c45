"""One synthetic focal stack and everything that is true about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from hybridfusion_core.scenes.camera import Camera, Noise, draw_camera
from hybridfusion_core.scenes.disturbances import disturb
from hybridfusion_core.scenes.draw import Draw
from hybridfusion_core.scenes.lab import ANY_LAB, Lab
from hybridfusion_core.scenes.layers import layered_light
from hybridfusion_core.scenes.light import MARGIN, Light, near_step
from hybridfusion_core.scenes.photographic import photographic_light
from hybridfusion_core.scenes.transmitted import transmitted_light
from hybridfusion_core.scenes.volume import volume_light

SceneKind = Literal["layers", "volume", "transmitted", "photographic"]
KINDS: tuple[SceneKind, ...] = ("layers", "volume", "transmitted", "photographic")


@dataclass(frozen=True)
class Scene:
    """One synthetic stack and everything that is true about it.

    Attributes:
        counts: Z Y X, what the camera recorded, float32, about 0 … 1; below 0 by read noise alone.
        truth: Y X, the noise-free image that a choice of slices should give, in the same counts.
        height: Y X, position of the surface in slices, clipped to [0, Z − 1].
        structure: Y X in [0, 1], how far the detail in focus there stands out of the noise.
        boundary: Y X, bool, within 8 px of a step in height.
        noise: typical standard deviation of the noise in counts.
        overlap: Y X, bool, a second layer is in focus at another height, about as bright: which one is the
            right one is a matter of definition there (it is the brighter one).
    """

    counts: Tensor
    truth: Tensor
    height: Tensor
    structure: Tensor
    boundary: Tensor
    noise: float
    overlap: Tensor


def make_scene(
    slices: int,
    size: int,
    noise: Noise,
    generator: Generator,
    haze: float = 0.35,
    *,
    kind: SceneKind = "layers",
    lab: Lab = ANY_LAB,
) -> Scene:
    """Draw one scene.

    Args:
        slices: Z.
        size: Y and X in pixels.
        noise: "clean" 0.05–0.5 % of full scale; "ordinary" 300–5,000 photons at full scale;
            "starved" 20–100 photons. `draw_camera` says what photographs and transmitted light have instead.
        generator: source of all randomness.
        haze: probability of out-of-focus haze that differs from slice to slice; of layers alone, volumes have
            the haze that their optics make.
        kind: "layers" of all textures on smooth or stepped heights under incoherent light; "photographic", opaque
            things with sharp edges; "volume", fluorescence that adds up; "transmitted", brightfield and phase.
        lab: whose microscope it is: its cameras take the place of `noise`, and its optics are those of "volume" and
            "transmitted"; the others have no optics that a microscope's could replace.
    """
    light = _light(Draw(generator), size + 2 * MARGIN, slices, haze, kind, lab)
    draw = Draw(generator)
    return _recorded(draw, light, lab.draw_camera(draw) if lab.cameras else draw_camera(draw, noise, kind))


def _light(draw: Draw, side: int, slices: int, haze: float, kind: SceneKind, lab: Lab) -> Light:
    if kind == "layers":
        return layered_light(draw, side, slices, haze)
    if kind == "photographic":
        return photographic_light(draw, side, slices)
    if kind == "transmitted":
        return transmitted_light(draw, side, slices, lab)
    return volume_light(draw, side, slices, lab)


def _recorded(draw: Draw, light: Light, camera: Camera) -> Scene:
    light, camera = disturb(draw, light, camera)
    deviation = camera.deviation(light.at_height())
    structure = _visibility(light, deviation)
    truth = light.truth(structure)
    if camera.limits:
        truth, structure = camera.limit(truth), structure * _within(camera, truth)
    return Scene(
        counts=camera.record(draw, light.image),
        truth=truth,
        height=light.height.clamp(0, light.image.shape[0] - 1),
        structure=structure,
        boundary=_boundary(light, structure),
        noise=float(deviation.median()),
        overlap=light.overlap,
    )


def _visibility(light: Light, deviation: Tensor) -> Tensor:
    """In [0, 1], Y X: one half where the detail is as strong as half the noise, or 1 % of the contrast."""
    power = light.detail.square()
    return power / (power + 0.25 * deviation.square() + (0.01 * light.contrast) ** 2)


def _boundary(light: Light, structure: Tensor) -> Tensor:
    """Near a step in height; of light that adds up, only near something seen: empty depth has no edges."""
    steps = near_step(light.height)
    if light.sharp is not None:
        return steps
    seen = torch.nn.functional.max_pool2d((structure > 0.1)[None, None].float(), 9, stride=1, padding=4)[0, 0] > 0
    return steps & seen


def _within(camera: Camera, light: Tensor) -> Tensor:
    """Where the detector is neither full nor empty: elsewhere detail is cut off."""
    return ((light > camera.black) & (light < camera.black + camera.ceiling)).to(torch.float32)
