"""Stacks as napari layers, and layers as stacks: the only file that knows napari's axis conventions.

Axes that a layer does not need are left out: a fused plane has two axes, and napari shows it at every
position of the sliders. With several time points all four axes stay, so that the sliders keep their
meaning beside the stack that the planes came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.description import RGB_CHANNELS
from hybridfusion_core.stack import UNITS_UM, Axis, Channel, Stack
from napari_hybridfusion.layers.depth import Depth

LayerData = tuple[Any, dict[str, Any], str]

# What napari takes for "unknown"; each other unit must be a name that its unit registry knows.
NO_UNIT = "pixel"
_TIMES = ("nanosecond", "microsecond", "millisecond", "second", "minute", "hour", "day")
_UNITS = (*UNITS_UM, *_TIMES)

# napari's own choices for channels without a colour.
_PAIR_OF_COLORS = ("magenta", "green")
_MORE_COLORS = ("cyan", "yellow", "magenta", "red", "green", "blue")
# Enough to judge brightness by, and small enough that opening a huge image stays quick.
_SAMPLED = 512


def stack_layers(stack: Stack, levels: Sequence[Any] = ()) -> list[LayerData]:
    """Show a stack: one layer per channel, or one colour layer.

    Args:
        stack: what to show.
        levels: its pixels and smaller copies of them, largest first, axes as in the stack; NumPy or dask.
            Default: the stack's own array.

    Returns:
        Layers with axes (T) (Z) Y X. Pixels are read only to choose the contrast of channels without a
        display window: the chunks under the central 512 × 512 of one plane of the smallest copy.
    """
    pixels = tuple(levels) or (stack.array,)
    if stack.rgb:
        about = {**_geometry(stack), "name": stack.name, "rgb": True}
        return [image_layer([channel_view(each, stack, None) for each in pixels], about)]
    return [
        image_layer(
            views := [channel_view(each, stack, index) for each in pixels],
            {
                **_geometry(stack),
                "name": layer_name(stack, channel, index),
                "colormap": _colormap(channel, index, len(stack.channels)),
                "contrast_limits": channel.window or sampled_limits(views[-1]),
                "blending": "additive" if index else "translucent_no_depth",
                **_facts(stack, channel),
            },
        )
        for index, channel in enumerate(stack.channels)
    ]


def map_layers(stack: Stack, levels: Sequence[Any]) -> list[LayerData]:
    """Show the maps of a result, one per channel: viridis, and transparent where a map is NaN.

    They start hidden, since they would cover the fused image.
    """
    return [
        image_layer(
            views := [channel_view(each, stack, index) for each in levels],
            {
                **_geometry(stack),
                "name": layer_name(stack, channel, index),
                "colormap": "viridis",
                "contrast_limits": channel.window or sampled_limits(views[-1]),
                "visible": False,
            },
        )
        for index, channel in enumerate(stack.channels)
    ]


def decision_layers(stack: Stack, levels: Sequence[Any], colors: NDArray[np.floating[Any]]) -> list[LayerData]:
    """Show a decision mask: one colour per slice in slice order, nothing where nothing is in focus.

    Args:
        stack: the decision, one channel per decision.
        levels: its pixels and smaller copies.
        colors: RGBA in [0, 1], one row for 0 and for each slice.
    """
    names = ["decision"] if len(stack.channels) == 1 else [f"decision {each.name}" for each in stack.channels]
    look = decision_look(colors)
    return [
        image_layer(
            [channel_view(each, stack, index) for each in levels],
            {**_geometry(stack), **look, "name": name, "visible": False},
        )
        for index, name in enumerate(names)
    ]


def decision_look(colors: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """Return colours and contrast of a decision: RGBA in [0, 1], one row for 0 and for each slice."""
    from napari.utils import Colormap  # noqa: PLC0415  (slow, and useless to who only asks whether a file is ours)

    edges = np.linspace(0, 1, len(colors) + 1)
    colormap = Colormap(colors, name=f"{len(colors) - 1} slices", interpolation="zero", controls=edges)
    # Whole numbers lie in the middle of their colour.
    return {"colormap": colormap, "contrast_limits": (-0.5, len(colors) - 0.5)}


def layer_stack(data: Any, meta: Mapping[str, Any], axes: str | None = None) -> Stack:
    """Return what an image layer shows as a stack; nothing is read.

    Args:
        data: pixels of the layer; a sequence of arrays if it is multiscale.
        meta: as in napari's layer data tuples.
        axes: one letter of "TCZYX" per axis, colours not counted; None takes the layer's labels or, if they say
            nothing, the axes' places.

    Raises:
        UserInputError: the layer has more axes than T, Z, Y and X, or a type that is no intensity.
    """
    rgb = bool(meta.get("rgb"))
    array = data[0] if meta.get("multiscale") else data
    # An alpha channel stands last; it is no light.
    array = array[..., :3] if rgb else array
    name = str(meta.get("name") or "layer")
    axes = axes or _letters(meta.get("axis_labels") or (), len(array.shape) - rgb, name)
    scale = meta.get("scale")
    scale = [1.0] * len(axes) if scale is None else [float(step) for step in scale]
    units = [str(unit) for unit in meta.get("units") or [NO_UNIT] * len(axes)]
    steps = {
        axis: Axis(step, unit if unit in _UNITS else None) for axis, step, unit in zip(axes, scale, units, strict=True)
    }
    t, z, y, x = (steps.get(axis, Axis()) for axis in "TZYX")
    channels: tuple[Channel, ...] = RGB_CHANNELS if rgb else (_channel(name, meta),)
    if "C" in axes:
        channels = tuple(replace(channels[0], name=str(index)) for index in range(array.shape[axes.index("C")]))
    return Stack(array, axes + "C" * rgb, name, channels, t=t, z=z, y=y, x=x, rgb=rgb)


def channel_view(array: Any, stack: Stack, channel: int | None) -> Any:
    """Return one channel of an array with the stack's axes, or all of them behind the others.

    Args:
        array: NumPy or dask, axes as in the stack.
        stack: says what the axes are.
        channel: index, or None for colours.

    Returns:
        (T) (Z) Y X (C), same kind of array.
    """
    shown = _shown(stack) + ("C" if channel is None else "")
    index = tuple(slice(None) if axis in shown else channel if axis == "C" else 0 for axis in stack.axes)
    left = [axis for axis in stack.axes if axis in shown]
    view = array[index].transpose([left.index(axis) for axis in shown if axis in left])
    return view[tuple(slice(None) if axis in left else None for axis in shown)]


def layer_name(stack: Stack, channel: Channel, index: int) -> str:
    """Return the channel's name, or the stack's if the file does not name its channels."""
    if channel.name != str(index):
        return channel.name
    return stack.name if len(stack.channels) == 1 else f"{stack.name} {channel.name}"


def sampled_limits(view: Any) -> tuple[float, float]:
    """Choose contrast limits from the centre of the middle plane.

    Args:
        view: … Y X, NumPy or dask.

    Returns:
        Low and high, low < high; 0 and 1 if there is no finite value.
    """
    *others, y, x = view.shape
    centre = (_central(y), _central(x))
    pixels = np.asarray(view[(*(length // 2 for length in others), *centre)], dtype=np.float64)
    finite = pixels[np.isfinite(pixels)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(finite, (0.1, 99.9)))
    return (low, high) if low < high else (low, low + 1.0)


def image_layer(levels: list[Any], about: dict[str, Any]) -> LayerData:
    """Make an image layer of its pixels and, if there are any, smaller copies of them."""
    if len(levels) == 1:
        return levels[0], about, "image"
    return levels, {**about, "multiscale": True}, "image"


def shown_unit(axis: Axis) -> str:
    """Return the unit of an axis in a name that napari knows."""
    return axis.unit if axis.unit in _UNITS else NO_UNIT


def _central(length: int) -> slice:
    start = max(0, (length - _SAMPLED) // 2)
    return slice(start, min(length, start + _SAMPLED))


def _facts(stack: Stack, channel: Channel) -> dict[str, Any]:
    """Return as metadata what a fusion must know of a stack and no layer can say; nothing if there is nothing."""
    facts: dict[str, Any] = {}
    if channel.transmitted is not None:
        facts["transmitted"] = channel.transmitted
    if stack.z_positions_um is not None:
        facts["z_positions_um"] = stack.z_positions_um
    return {"metadata": {"hybridfusion": facts}} if facts else {}


def _shown(stack: Stack) -> str:
    t, _, z, _, _ = stack.shape
    return "TZYX" if t > 1 else "ZYX" if z > 1 else "YX"


def _geometry(stack: Stack) -> dict[str, Any]:
    depth = Depth(stack.shape[2], stack.z, stack.z_positions_um)
    axes = {"T": stack.t, "Z": depth.axis, "Y": stack.y, "X": stack.x}
    shown = _shown(stack)
    return {
        "axis_labels": tuple(shown.lower()),
        "scale": tuple(axes[letter].step for letter in shown),
        "units": tuple(shown_unit(axes[letter]) for letter in shown),
    }


def _colormap(channel: Channel, index: int, count: int) -> str:
    if channel.color is not None:
        return "gray" if channel.color.upper() == "FFFFFF" else f"#{channel.color}"
    if count == 1:
        return "gray"
    colors = _PAIR_OF_COLORS if count == 2 else _MORE_COLORS
    return colors[index % len(colors)]


def _letters(labels: Sequence[str], ndim: int, name: str) -> str:
    """Return one letter per axis: as the layer names them, or by their place."""
    named = "".join(label.upper() for label in labels)
    if len(named) == ndim == len(set(named)) and {"Y", "X"} <= set(named) <= set("TZYX"):
        return named
    if 2 <= ndim <= 4:
        return "TZYX"[-ndim:]
    raise UserInputError(
        f"The layer {name!r} has {ndim} axes; expected two to four of T, Z, Y and X. "
        "Split it: one layer per channel, without further axes."
    )


def _channel(name: str, meta: Mapping[str, Any]) -> Channel:
    limits = meta.get("contrast_limits")
    window = None if limits is None else (float(limits[0]), float(limits[1]))
    return Channel(name, color=_hex_color(meta.get("colormap")), window=window)


def _hex_color(colormap: Any) -> str | None:
    """Return the colour of a colormap that runs from black to one colour; None for grey and all others."""
    colors = colormap.get("colors") if isinstance(colormap, Mapping) else None
    if colors is None or len(colors) != 2 or np.any(np.asarray(colors)[0, :3] > 0):
        return None
    red, green, blue = (round(float(value) * 255) for value in np.asarray(colors)[1, :3])
    return None if red == green == blue else f"{red:02X}{green:02X}{blue:02X}"
