"""One synthetic focal stack and everything that is true about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from hybridfusion_core.scenes.additive import crowded_light, isolated_light
from hybridfusion_core.scenes.camera import Camera, Noise, draw_camera
from hybridfusion_core.scenes.contrast import neighbourhood_maximum
from hybridfusion_core.scenes.disturbances import disturb, expose_hard, lose_slice
from hybridfusion_core.scenes.draw import Draw
from hybridfusion_core.scenes.lab import ANY_LAB, Lab
from hybridfusion_core.scenes.layers import layered_light
from hybridfusion_core.scenes.light import MARGIN, Light, near_step
from hybridfusion_core.scenes.photographic import photographic_light
from hybridfusion_core.scenes.transmitted import transmitted_light
from hybridfusion_core.scenes.volume import volume_light

SceneKind = Literal["layers", "volume", "transmitted", "photographic", "isolated", "crowded"]
KINDS: tuple[SceneKind, ...] = ("layers", "volume", "transmitted", "photographic", "isolated", "crowded")

_UNSURE = 0.15, 0.55  # in focus between these: neither, and asked of nobody
_BLANK = 9  # px without detail around a surface that shows nothing
_FAINT = 1e-4  # of the contrast: glow that no longer matters
_UNNOTICED = 0.3  # of the noise's standard deviation: the same


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
            things with sharp edges; "volume", fluorescence that adds up; "transmitted", brightfield and phase;
            "isolated", lonely fluorescent things on dark ground; "crowded", tissue of low contrast.
        lab: whose microscope it is: its cameras take the place of `noise`, and its optics are those of the
            fluorescent kinds and "transmitted"; the others have no optics that a microscope's could replace.
    """
    light = draw_light(Draw(generator), size, slices, haze, kind, lab)
    draw = Draw(generator)
    camera = lab.draw_camera(draw) if lab.cameras else draw_camera(draw, noise, kind)
    return _recorded(draw, light, camera, hard=kind in ("isolated", "crowded") and not lab.cameras)


def draw_light(
    draw: Draw, size: int, slices: int, haze: float = 0.35, kind: SceneKind = "layers", lab: Lab = ANY_LAB
) -> Light:
    """Draw the light of a scene, before anything goes wrong and any camera; arguments as for `make_scene`."""
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


def _recorded(draw: Draw, light: Light, camera: Camera, hard: bool = False) -> Scene:
    light, camera = disturb(draw, light, camera)
    if hard:
        camera = expose_hard(draw, camera, light)
    blank = lose_slice(draw, light) if hard else None
    seen = light if blank is None else light.without(blank)  # what the truth can be made of
    deviation = camera.deviation(seen.at_height())
    structure = _visibility(seen, deviation)
    shown = structure if light.focus is not None else _near_detail(structure, light.everywhere)
    truth = seen.truth(structure, _FAINT * light.contrast + _UNNOTICED * deviation)
    known = (shown < _UNSURE[0]) | (shown > _UNSURE[1])
    counts = camera.record(draw, light.image)
    if blank is not None:
        counts[blank] = draw.choice((0.0, float(counts[blank].mean()), float(counts.max())))
        known = known & ((shown < _UNSURE[0]) | ((light.height - blank).abs() > 1))
    if camera.limits:
        shown = shown * (truth > camera.black)
        truth, structure = camera.limit(truth), structure * _within(camera, truth)
    return Scene(
        counts=counts,
        truth=truth,
        height=light.height.clamp(0, light.image.shape[0] - 1),
        structure=structure,
        boundary=_boundary(light, structure),
        noise=float(deviation.median()),
        overlap=light.overlap,
        in_focus=(shown > sum(_UNSURE) / 2).float(),
        in_focus_weight=known.float(),
    )


def _visibility(light: Light, deviation: Tensor) -> Tensor:
    """In [0, 1], Y X: one half where the detail is as strong as half the noise, or 1 % of the contrast.

    Of light that adds up, however faint beside the brightest; and as far as it comes from what is in focus.
    """
    power = light.detail.square()
    if light.focus is not None:
        return light.focus.share * power / (power + 0.25 * deviation.square() + 1e-12)
    return power / (power + 0.25 * deviation.square() + (0.01 * light.contrast) ** 2)


def _near_detail(structure: Tensor, everywhere: bool) -> Tensor:
    """How surely a surface or a body is in focus: where it shows detail, and open near that or everywhere. Y X."""
    if everywhere:
        return structure.clamp(min=_UNSURE[1])
    return torch.maximum(structure, neighbourhood_maximum(structure, 2 * _BLANK + 1).clamp(max=_UNSURE[1]))


def _boundary(light: Light, structure: Tensor) -> Tensor:
    """Near a step in height; of light that adds up, only near something seen: empty depth has no edges."""
    steps = near_step(light.height)
    if light.sharp is not None:
        return steps
    return steps & (neighbourhood_maximum((structure > 0.1).float(), 9) > 0)


def _within(camera: Camera, light: Tensor) -> Tensor:
    """Where the detector is neither full nor empty: elsewhere detail is cut off."""
    return ((light > camera.black) & (light < camera.black + camera.ceiling)).to(torch.float32)
