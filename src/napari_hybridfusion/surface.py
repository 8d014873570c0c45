"""The height of a result as a surface in three dimensions, with the fused image on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Layer, Surface
from numpy.typing import NDArray

from hybridfusion_core.errors import UserInputError
from napari_hybridfusion.shown import ShownResult, decision_of

_POINTS = 512  # along the longer side: half a million triangles, which any graphics card turns smoothly
_TEXTURE = 2048  # px along the longer side


def height_surface(result: ShownResult, layer: Layer, t: int) -> Surface:
    """Make a surface of a result's heights at one time point; where nothing is in focus it has a hole.

    Args:
        result: with a height.
        layer: one of its layers; says which decision's height it is.
        t: time point.

    Raises:
        UserInputError: the result has no height, or its stack no Z axis to put it on.
    """
    spec, levels, frame = result.fused.spec, result.fused.levels, result.source.frame
    kinds = [each.name.split(" ")[0] for each in spec.maps]
    names = [name for name in ("height_um", "height_slices") if name in kinds]
    if not names:
        raise UserInputError("This result has no height; expected one. Tick height, and fuse the stack again.")
    if not frame.axes.endswith("ZYX"):
        raise UserInputError(
            f"The axes of {result.source.stack.name} are {' '.join(frame.axes)}; expected Z, Y and X last, to show a "
            "height on. Open the images as one stack."
        )
    channel = kinds.index(names[0]) + min(decision_of(layer), len(spec.decision_channels or (0,)) - 1)
    heights, rows, columns = _sampled(levels["maps"], (t, channel, 0), _POINTS)
    index = _slice_index(heights, result) if names[0] == "height_um" else heights
    vertices = np.stack([index, *np.meshgrid(rows, columns, indexing="ij")], axis=-1).reshape(-1, 3)
    faces = _triangles(np.isfinite(index))
    if not len(faces):
        raise UserInputError("Nothing is in focus anywhere; expected heights to show. Look at the stack itself.")
    plane = np.array(spec.shape[2:])
    return Surface(
        (np.nan_to_num(vertices).astype(np.float32), faces),
        texture=_texture(result, t),
        texcoords=((vertices[:, :0:-1] + 0.5) / plane[::-1]).astype(np.float32),
        scale=frame.scale[-3:],
        translate=frame.translate[-3:],
        units=tuple(frame.others["units"])[-3:] if "units" in frame.others else None,
        axis_labels=tuple(frame.others["axis_labels"])[-3:] if "axis_labels" in frame.others else None,
        name=f"{result.source.stack.name} surface",
        shading="none",  # light and shade would pass for contrast of the specimen
    )


def _sampled(
    levels: Sequence[Any], at: tuple[int, ...], longest: int
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Read a plane with at most so many rows and columns, and where they lie in pixels of the largest level."""
    whole = levels[0].shape[-2:]
    level = next((each for each in reversed(levels) if max(each.shape[-2:]) >= min(longest, max(whole))), levels[0])
    step = -(-max(level.shape[-2:]) // longest)
    plane = np.asarray(level[(*at, slice(None, None, step), slice(None, None, step))], dtype=np.float32)
    places = [
        (np.arange(0, length, step) + 0.5) * size / length - 0.5
        for length, size in zip(level.shape[-2:], whole, strict=True)
    ]
    return plane, places[0], places[1]


def _slice_index(heights: NDArray[np.float32], result: ShownResult) -> NDArray[np.float32]:
    """Turn µm into indices of slices, which the layers' scale places in the world."""
    positions = np.asarray(result.source.stack.z_um)
    order = np.argsort(positions)
    return np.asarray(np.interp(heights, positions[order], order), dtype=np.float32)


def _triangles(known: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return two triangles for each four neighbours of a grid, without those that have an unknown corner."""
    corner = np.arange(known.size).reshape(known.shape)
    a, b, c, d = corner[:-1, :-1], corner[:-1, 1:], corner[1:, :-1], corner[1:, 1:]
    faces = np.concatenate([np.stack(each, axis=-1).reshape(-1, 3) for each in ((a, b, c), (b, d, c))])
    return np.asarray(faces[known.ravel()[faces].all(axis=1)])


def _texture(result: ShownResult, t: int) -> NDArray[np.float32]:
    """Return the fused image as it is shown now, Y X RGB in [0, 1]."""
    fused = result.fused.levels["fused"]
    if result.fused.spec.rgb:
        planes = [_sampled(fused, (t, channel, 0), _TEXTURE)[0] for channel in range(3)]
        top = np.iinfo(fused[0].dtype).max if fused[0].dtype.kind in "iu" else 1
        return np.clip(np.stack(planes, axis=-1) / top, 0, 1)
    layers = [each for each in result.layers if each.metadata["hybridfusion"]["product"] == "fused"]
    mixed = np.zeros(1, dtype=np.float32)
    for channel, layer in enumerate(layers):
        plane = _sampled(fused, (t, channel, 0), _TEXTURE)[0]
        low, high = layer.contrast_limits
        mixed = mixed + layer.colormap.map(np.clip((plane - low) / (high - low), 0, 1) ** layer.gamma)[..., :3]
    return np.clip(mixed, 0, 1).astype(np.float32)
