"""What is scored: one focal stack with whatever is known about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator

from hybridfusion_core.evaluate.metrics.agreement import published_grey
from hybridfusion_core.evaluate.metrics.truth import boundary_band, textured
from hybridfusion_core.model.noise import field_statistics
from hybridfusion_core.scenes.camera import NOISES, Noise
from hybridfusion_core.scenes.scene import KINDS, Scene, SceneKind, make_scene
from hybridfusion_core.stack import Axis, Channel, Stack

_SEED = 7 << 50  # far from the seeds of any training
_SIZE = 160
_DEPTH = (2, 10)
# What a microscope's file would say of the light; nothing is known of the other kinds.
_TRANSMITTED = {"volume": False, "transmitted": True}


@dataclass(frozen=True)
class Case:
    """A stack in memory and what is known about it; planes C Y X, colour images by their luminance.

    Attributes:
        name: of the stack.
        stack: one time point, C Z Y X, in memory.
        truth: C Y X, counts; None if unknown.
        height: Y X, slices; None if unknown. NaN where there is no surface.
        labels: Y X, bodies whose mean intensity is compared; None if unknown.
        textured: Y X, where detail stands out of the noise; None if neither is known.
        boundary: Y X, near depth steps; None if heights are unknown.
        in_focus: Y X, 1 where something is in focus, 0 where nothing is, NaN where that is open; None if unknown.
        overlap: Y X, two surfaces are in focus at different heights: scored apart, because which one is right is a
            matter of definition; None if there are none.
        data_range: full scale for PSNR and SSIM, one number per channel.
        others: other programs' results, C Y X each.
    """

    name: str
    stack: Stack
    truth: NDArray[Any] | None = None
    height: NDArray[np.float64] | None = None
    labels: NDArray[Any] | None = None
    textured: NDArray[np.bool_] | None = None
    boundary: NDArray[np.bool_] | None = None
    overlap: NDArray[np.bool_] | None = None
    in_focus: NDArray[np.float64] | None = None
    data_range: tuple[float, ...] = ()
    others: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def slices(self) -> int:
        """Z."""
        return self.stack.shape[2]

    @property
    def bare(self) -> bool:
        """No detail stands out of the noise anywhere, as in a field without specimen."""
        return self.textured is not None and not self.textured.any()

    def planes(self, z: int) -> NDArray[Any]:
        """One slice as it is scored, C Y X."""
        _, channels, _, height, width = self.stack.shape
        whole = slice(0, height), slice(0, width)
        return scored_planes(
            np.stack([self.stack.read(0, channel, [z], *whole)[0] for channel in range(channels)]), self.stack.rgb
        )


@dataclass(frozen=True)
class Group:
    """Cases that share a table.

    Attributes:
        name: of the table.
        cases: each makes one case when it is called: only one stack is in memory at a time.
        truth: what the figures are measured against; empty if there is nothing.
    """

    name: str
    cases: tuple[Callable[[], Case], ...]
    truth: str = "truth"

    @property
    def count(self) -> int:
        """How many cases there are."""
        return len(self.cases)


def scored_planes(planes: NDArray[Any], rgb: bool) -> NDArray[Any]:
    """C Y X as it is scored: a colour image in grey, 1 Y X."""
    return published_grey(planes)[np.newaxis] if rgb else planes


def scene_groups(scenes: int, kinds: tuple[SceneKind, ...] = KINDS) -> list[Group]:
    """Unseen synthetic scenes of every kind and noise regime.

    Args:
        scenes: stacks per kind and regime; the same number always gives the same stacks.
        kinds: of scenes.
    """

    def group(kind: SceneKind, noise: Noise) -> Group:
        return Group(f"{kind}, {noise}", tuple(partial(scene_case, kind, noise, number) for number in range(scenes)))

    return [group(kind, noise) for kind in kinds for noise in NOISES]


def scene_case(kind: SceneKind, noise: Noise, number: int) -> Case:
    """Draw one unseen scene."""
    generator = Generator().manual_seed(_SEED + number)
    depth = int(torch.randint(_DEPTH[0], _DEPTH[1] + 1, (), generator=generator))
    scene: Scene = make_scene(depth, _SIZE, noise, generator, kind=kind)
    truth = scene.truth.numpy()
    span = float(np.ptp(truth))
    stack = Stack.from_array(scene.counts.numpy()[np.newaxis], axes="CZYX")
    return Case(
        name=f"{kind} {noise} {number}",
        stack=replace(stack, channels=(Channel("0", transmitted=_TRANSMITTED.get(kind)),)),
        truth=truth[np.newaxis],
        height=scene.height.numpy().astype(np.float64),
        textured=scene.structure.numpy() > 0.5,
        boundary=scene.boundary.numpy(),
        in_focus=np.where(scene.in_focus_weight > 0.5, scene.in_focus, np.nan).astype(np.float64),
        overlap=scene.overlap.numpy() if bool(scene.overlap.any()) else None,
        # A field without specimen has no range; its full scale of one takes its place.
        data_range=(span if span > 0.05 else 1.0,),
    )


def known_case(
    stack: Stack,
    *,
    truth: NDArray[Any] | None,
    height: NDArray[Any] | None,
    labels: NDArray[Any] | None,
    others: Mapping[str, NDArray[Any]],
) -> Case:
    """Read a stack's first time point and work out what follows from what is known about it.

    Args:
        stack: any.
        truth: C Y X as scored, or None.
        height: Y X, slices, or None.
        labels: Y X, or None.
        others: C Y X as scored, by method.
    """
    _, channels, slices, rows, columns = stack.shape
    counts = np.stack([stack.read(0, c, range(slices), slice(0, rows), slice(0, columns)) for c in range(channels)])
    held = replace(stack, array=counts, axes="CZYX", t=Axis(), decode_unit=None, closers=())
    case = Case(stack.name, held, truth, labels=labels, others=others)
    if truth is not None:
        case = replace(case, data_range=tuple(_full_scale(plane) for plane in truth))
    if height is None:
        return case
    heights = height.astype(np.float64)
    detail = None if truth is None else textured(truth[0], _noise(case, truth[0]), case.data_range[0])
    # Two slices are at most one slice apart.
    boundary = boundary_band(heights, least_step=min(1.0, (slices - 1) / 2))
    return replace(case, height=heights, textured=detail, boundary=boundary)


def _full_scale(truth: NDArray[Any]) -> float:
    """255 for 8-bit images, as published figures take it; the image's own range for all others."""
    return 255.0 if truth.dtype == np.uint8 else float(np.ptp(truth)) or 1.0


def _noise(case: Case, truth: NDArray[Any]) -> NDArray[np.float64]:
    """Standard deviation of the noise at the brightness of the truth, Y X, as estimated from the first channel."""
    counts = np.stack([case.planes(z)[0] for z in range(case.slices)])
    model = field_statistics([counts]).models[0]
    return np.sqrt(model.variance + model.gain * np.maximum(truth.astype(np.float64) - model.low, 0))
