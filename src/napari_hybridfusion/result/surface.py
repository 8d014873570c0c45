"""The height of a result as a surface in three dimensions, with the fused image on it.

It is made from the result's layers, so that it is the same for one that was just fused and one that was opened again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Layer, Surface
from numpy.typing import NDArray

from hybridfusion_core.errors import UserInputError
from napari_hybridfusion.layers.depth import Depth
from napari_hybridfusion.layers.stacks import shown_unit
from napari_hybridfusion.result.height_mesh import relief_of, sampled
from napari_hybridfusion.result.shown import explaining, fused_beside

if TYPE_CHECKING:
    from napari.components import ViewerModel

_POINTS = 512  # along the longer side: half a million triangles, which any graphics card turns smoothly
_TEXTURE = 2048  # px along the longer side
_NAMES = ("height_um", "height_slices")


def height_surface(viewer: ViewerModel, layer: Layer) -> Surface:
    """Make a surface of a result's heights where the sliders stand; where nothing is in focus it has a hole.

    Args:
        viewer: holds the result's layers.
        layer: one of them; says which decision's height it is.

    Returns:
        Z Y X in the steps and units of the stack: Z counts its slices from 0, Y and X the pixels of the plane.

    Raises:
        UserInputError: the result has no height or no fused image in the window, or its stack no Z axis to put it on.
    """
    layers, fused = explaining(viewer, layer), fused_beside(viewer, layer)
    name = next((each for each in _NAMES if each in layers), None)
    if name is None:
        raise UserInputError(
            "This result has no height among the layers; expected one. Open its file together with its maps, or tick "
            "height, and fuse the stack again."
        )
    if not fused:
        raise UserInputError(
            "The fused image is not among the layers; expected it, to lay it on the height. Open or fuse it again."
        )
    height: Image = layers[name]
    about = height.metadata["hybridfusion"]
    if about["axes"] != "YX" and not about["axes"].endswith("ZYX"):
        raise UserInputError(
            f"The axes of {fused[0].name} are {' '.join(about['axes'])}; expected Z, Y and X last, to show a height "
            "on. Open the images as one stack."
        )
    heights = sampled(_levels(height), _plane_at(viewer, height), _POINTS)
    if name == "height_um":
        heights = replace(heights, values=about["depth"].index(heights.values))
    relief = relief_of(heights)
    if not len(relief.faces):
        raise UserInputError("Nothing is in focus anywhere; expected heights to show. Look at the stack itself.")
    return Surface(
        (relief.vertices, relief.faces),
        texture=_texture(viewer, fused),
        texcoords=relief.texcoords,
        **_placed(height, about["depth"]),
        name=f"{fused[0].name} surface",
        shading="none",  # light and shade would pass for contrast of the specimen
    )


def _placed(height: Image, depth: Depth) -> dict[str, Any]:
    """Return where slices, rows and columns lie; a layer without a Z axis begins at its first slice."""
    scale, translate, units = list(height.scale[-3:]), list(height.translate[-3:]), list(height.units[-3:])
    if len(scale) < 3:
        scale, translate = [depth.axis.step, *scale], [0.0, *translate]
        units = [shown_unit(depth.axis), *units]
    else:
        # The one element along Z is as thick as all slices, and lies in their middle.
        scale[0] /= depth.slices
        translate[0] -= (depth.slices - 1) / 2 * scale[0]
    return {"scale": scale, "translate": translate, "units": units, "axis_labels": ("z", "y", "x")}


def _plane_at(viewer: ViewerModel, layer: Image) -> tuple[int, ...]:
    """Return the index of the plane of a layer that lies nearest to where the sliders stand."""
    whole = _levels(layer)[0].shape[: layer.ndim - 2]
    index = np.rint(layer.world_to_data(np.asarray(viewer.dims.point)[-layer.ndim :]))[:-2]
    return tuple(int(min(max(0, at), length - 1)) for at, length in zip(index, whole, strict=True))


def _levels(layer: Image) -> Sequence[Any]:
    return list(layer.data) if layer.multiscale else [layer.data]


def _texture(viewer: ViewerModel, fused: Sequence[Image]) -> NDArray[np.float32]:
    """Return the fused image as it is shown now, Y X RGB in [0, 1]."""
    mixed: NDArray[Any] = np.zeros(1, dtype=np.float32)
    for layer in fused:
        levels, at = _levels(layer), _plane_at(viewer, layer)
        if layer.rgb:
            planes = [sampled([each[..., color] for each in levels], at, _TEXTURE).values for color in range(3)]
            top = np.iinfo(levels[0].dtype).max if levels[0].dtype.kind in "iu" else 1
            mixed = mixed + np.stack(planes, axis=-1) / top
            continue
        plane = sampled(levels, at, _TEXTURE).values
        low, high = layer.contrast_limits
        mixed = mixed + layer.colormap.map(np.clip((plane - low) / (high - low), 0, 1) ** layer.gamma)[..., :3]
    return np.asarray(np.clip(mixed, 0, 1), dtype=np.float32)
