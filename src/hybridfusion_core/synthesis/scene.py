"""One synthetic focal stack and everything that is true about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from hybridfusion_core.synthesis.additive import crowded_light, isolated_light
from hybridfusion_core.synthesis.camera import Camera, Noise, draw_camera
from hybridfusion_core.synthesis.disturbances import disturb
from hybridfusion_core.synthesis.draw import Draw
from hybridfusion_core.synthesis.lab import ANY_LAB, Lab
from hybridfusion_core.synthesis.layers import layered_light
from hybridfusion_core.synthesis.light import MARGIN, Light, near_step
from hybridfusion_core.synthesis.photographic import photographic_light
from hybridfusion_core.synthesis.transmitted import transmitted_light
from hybridfusion_core.synthesis.volume import volume_light

SceneKind = Literal["layers", "volume", "transmitted", "photographic", "isolated", "crowded"]
KINDS: tuple[SceneKind, ...] = ("layers", "volume", "transmitted", "photographic", "isolated", "crowded")

_SEEN = 0.5  # of the noise's standard deviation: what is so bright is seen half
_UNSURE = 0.15, 0.55  # in focus between these: neither, and asked of nobody
_BLANK = 9  # px without detail around a surface that shows nothing
_FAINT = 3e-4  # of the contrast: glow that no longer matters


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
        in_focus: Y X, 0 or 1, whether the light or the local contrast there comes from something that is in focus in
            some slice and shows above the noise.
        in_focus_weight: Y X in [0, 1], 0 where that is ambiguous; the height is known where both are 1, and beside
            structures it is that of the structure whose light reaches furthest.
    """

    counts: Tensor
    truth: Tensor
    height: Tensor
    structure: Tensor
    boundary: Tensor
    noise: float
    overlap: Tensor
    in_focus: Tensor
    in_focus_weight: Tensor


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
    light = _light(Draw(generator), size, slices, haze, kind, lab)
    draw = Draw(generator)
    return _recorded(draw, light, lab.draw_camera(draw) if lab.cameras else draw_camera(draw, noise, kind))


def _light(draw: Draw, size: int, slices: int, haze: float, kind: SceneKind, lab: Lab) -> Light:
    side = size + 2 * MARGIN
    if kind == "isolated":
        return isolated_light(draw, size, slices, lab)
    if kind == "crowded":
        return crowded_light(draw, size, slices, lab)
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
    shown = _shown(light, structure, deviation)
    truth = light.truth(structure if light.focus is None else shown, 0.5 * deviation + _FAINT * light.contrast)
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
        in_focus=(shown > sum(_UNSURE) / 2).float(),
        in_focus_weight=((shown < _UNSURE[0]) | (shown > _UNSURE[1])).float(),
    )


def _visibility(light: Light, deviation: Tensor) -> Tensor:
    """In [0, 1], Y X: one half where the detail is as strong as half the noise, or 1 % of the contrast."""
    power = light.detail.square()
    return power / (power + 0.25 * deviation.square() + (0.01 * light.contrast) ** 2)


def _shown(light: Light, structure: Tensor, deviation: Tensor) -> Tensor:
    """How surely something is in focus, in [0, 1], Y X."""
    if light.focus is not None:
        power = light.focus.bright.square()
        return light.focus.share * power / (power + (_SEEN * deviation).square()).clamp(min=1e-12)
    if light.sharp is None:
        return structure
    # A surface is in focus somewhere: where it has detail, and unknown to what is near it.
    near = torch.nn.functional.max_pool2d(structure[None, None], 2 * _BLANK + 1, stride=1, padding=_BLANK)[0, 0]
    return torch.where(structure > _UNSURE[1], structure, torch.maximum(structure, near.clamp(max=_UNSURE[1])))


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
