"""What is to be fused: one image layer or several as one `Stack`, and the frame that its results must fit into.

Several layers with a Z axis are channels of one stack; several without are its slices. Nothing is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.suffixes import image_name
from hybridfusion_core.stack import Stack
from napari_hybridfusion.layers.stacks import layer_stack
from napari_hybridfusion.layers.whole_numbers import as_floats, lazy

if TYPE_CHECKING:
    from napari.layers import Image, Layer

_WORDS = {"TIME": "T", "FRAME": "T", "CHANNEL": "C", "DEPTH": "Z", "SLICE": "Z"}
_NAMES = {"T": "time", "C": "channel", "Z": "Z", "Y": "Y", "X": "X"}
_LOOK = ("colormap", "contrast_limits", "gamma", "interpolation2d", "opacity")
_TURNS = ("units", "axis_labels", "rotate", "shear", "affine")


@dataclass(frozen=True)
class Frame:
    """Where a layer lies in the world, one entry per axis of it (colours are no axis).

    Attributes:
        axes: letters of "TCZYX".
        lengths: elements along each axis.
        scale: step along each axis.
        translate: world position of the first element.
        others: what napari knows of the axes besides; it stays as it is.
    """

    axes: str
    lengths: tuple[int, ...]
    scale: tuple[float, ...]
    translate: tuple[float, ...]
    others: Mapping[str, Any]

    def place(self, shape: Sequence[int]) -> dict[str, Any]:
        """Return the geometry of a layer of the same axes, some of them with one element for all of the frame's.

        Such an element is as thick as the whole axis and lies in its middle: napari shows it at every position of
        the slider. (At the first position it would be empty everywhere else.)
        """
        scale, middle = list(self.scale), [0.0] * len(self.axes)
        for axis, (whole, length) in enumerate(zip(self.lengths, shape, strict=True)):
            if length == 1 < whole:
                scale[axis] = whole * self.scale[axis]
                middle[axis] = (whole - 1) / 2
        return {**self.others, "scale": tuple(scale), "translate": self._translated(middle)}

    def part(self, **ends: tuple[int, int]) -> Frame:
        """Return the frame of a part of what this one frames.

        Args:
            **ends: by axis, the first element of the part and the one behind its last; other axes stay whole.
        """
        cut = [ends.get(letter, (0, length)) for letter, length in zip(self.axes, self.lengths, strict=True)]
        lengths = tuple(stop - start for start, stop in cut)
        return replace(self, lengths=lengths, translate=self._translated([start for start, _ in cut]))

    def _translated(self, index: Sequence[float]) -> tuple[float, ...]:
        """Return the translation of a layer that begins at an element of this one, be it turned or sheared."""
        from napari.utils.transforms import Affine  # noqa: PLC0415 - slow, and useless to who only asks for a reader

        turns = {name: self.others[name] for name in ("rotate", "shear") if name in self.others}
        return tuple(float(at) for at in Affine(scale=self.scale, translate=self.translate, **turns)(index))


@dataclass(frozen=True)
class Source:
    """What is to be fused.

    Attributes:
        stack: its pixels.
        frame: of the layers.
        looks: colours and contrast, one for each channel that is a layer of its own; one for colours and for
            channels along an axis.
        layers: what it was made of; empty if it does not stand in a window.
    """

    stack: Stack
    frame: Frame
    looks: tuple[Mapping[str, Any], ...]
    layers: tuple[Layer, ...] = ()

    @property
    def name(self) -> str:
        """What it is called in the layer list now; of several channels what the stack is called."""
        return str(self.layers[0].name) if len(self.layers) == 1 else self.stack.name


def axis_choices(layer: Image) -> list[str]:
    """Return what the axes of a layer may be, as letters of "TCZYX"; what its labels say comes first.

    One choice means that there is no doubt. Layers that name no axis are not guessed at from four axes on, where a
    slider may be time, depth or channel.
    """
    labels = [label.strip().upper() for label in layer.axis_labels]
    named = "".join(_WORDS.get(label, label if label in _NAMES else "?") for label in labels)
    known = [letter for letter in named if letter != "?"]
    orders = ["".join(order) + "YX" for order in permutations("TCZ", layer.ndim - 2) if "Z" in order or layer.ndim < 3]
    fitting = [order for order in orders if all(a in ("?", b) for a, b in zip(named, order, strict=True))]
    if len(known) == layer.ndim == len(set(known)) and {"Y", "X"} <= set(known):
        # A layer without Z is taken at its word, unless the user knows better.
        return [named] if "Z" in named else [named, *(order for order in orders if order != named)]
    return fitting or orders


def are_named(layer: Image) -> bool:
    """Say whether a layer leaves no doubt about its axes."""
    choices = axis_choices(layer)
    return len(choices) == 1 or (bool(choices) and "Z" not in choices[0])


def axes_text(axes: str, layer: Image) -> str:
    """Describe a choice of axes with the lengths of this layer, for example "time 3 · Z 12 · Y 512 · X 512"."""
    return " · ".join(f"{_NAMES[letter]} {length}" for letter, length in zip(axes, _lengths(layer), strict=True))


def check_axes(layer: Image, axes: str | None) -> str:
    """Return the axes of a layer.

    Raises:
        UserInputError: nobody has said which one is Z.
    """
    if axes is not None:
        return axes
    if not 2 <= layer.ndim <= 5:
        raise UserInputError(
            f"The layer {layer.name!r} has {layer.ndim} axes; expected two to five: time, channel, Z, Y and X. "
            "Take out the others first, for example by fusing one position at a time."
        )
    if not are_named(layer):
        lengths = " × ".join(map(str, _lengths(layer)))
        raise UserInputError(
            f"The layer {layer.name!r} ({lengths}) does not say which of its axes is Z. Choose under axes what "
            "they are."
        )
    return axis_choices(layer)[0]


def source_of(layers: Sequence[Image], axes: str, z_step_um: float | None = None) -> Source:
    """Make one stack of one layer or several.

    Args:
        layers: alike; with Z they are channels, without Z slices in this order.
        axes: letters of every layer's axes.
        z_step_um: distance between slices where the layers do not know it.

    Raises:
        UserInputError: there is nothing to fuse, or the layers do not belong together.
    """
    stacks = [_stack(layer, axes) for layer in layers]
    _refuse_unlike(layers, axes)
    stack = stacks[0] if len(stacks) == 1 else _joined(stacks, axes)
    if stack.shape[2] < 2:
        raise UserInputError(
            f"The layer {stack.name!r} has one slice ({axes_text(axes, layers[0])}); expected two or more along Z. "
            "Say which axis is Z, or open further images of the same scene, focused elsewhere, to fuse it with."
        )
    frame = _frame(layers[0], axes)
    # The slices of a pair make one image, in the look of the first.
    looks = tuple(_look(layer) for layer in (layers if "Z" in axes else layers[:1]))
    return Source(stack.with_z_step(z_step_um), frame, looks, tuple(layers))


def companions(layer: Image, others: Sequence[Image]) -> list[Image]:
    """Return the layers that can be fused together with a layer."""
    return [each for each in others if each is not layer and _unlike(layer, each) is None]


def siblings(layer: Image, others: Sequence[Image]) -> list[Image]:
    """Return the other channels of the file or sample that a layer came from."""
    origin = layer.source.path or layer.source.sample
    alike = companions(layer, others)
    return [each for each in alike if origin and origin == (each.source.path or each.source.sample)]


def _stack(layer: Image, axes: str) -> Stack:
    data, meta, _ = layer.as_layer_data_tuple()
    largest = as_floats(data[0] if layer.multiscale else data, layer.name)
    stack = layer_stack(largest, meta | {"multiscale": False}, axes)
    paths = [path for path in [layer.source.path] if path and Path(path).exists()]
    facts = layer.metadata.get("hybridfusion", {})
    channels = tuple(replace(each, transmitted=facts.get("transmitted")) for each in stack.channels)
    positions = facts.get("z_positions_um")
    known = positions if positions is not None and len(positions) == stack.shape[2] else None
    return replace(stack, source=tuple(paths), channels=channels, z_positions_um=known)


def _joined(stacks: Sequence[Stack], axes: str) -> Stack:
    first = stacks[0]
    joined = da.stack([lazy(each.array) for each in stacks])  # type: ignore[no-untyped-call]
    paths = tuple(dict.fromkeys(path for each in stacks for path in each.source))
    one_file = len(paths) == 1 and all(each.source for each in stacks)
    name = image_name(Path(paths[0])) if one_file else " + ".join(each.name for each in stacks)
    if "Z" not in axes:
        one = first.channels if first.rgb else (replace(first.channels[0], name=name),)
        return replace(first, array=joined, axes=f"Z{first.axes}", name=name, source=paths, channels=one)
    channels = tuple(each.channels[0] for each in stacks)
    return replace(first, array=joined, axes=f"C{first.axes}", name=name, source=paths, channels=channels)


def _refuse_unlike(layers: Sequence[Image], axes: str) -> None:
    first = layers[0]
    for other in layers[1:]:
        if (difference := _unlike(first, other)) is not None:
            raise UserInputError(
                f"The layers {first.name!r} and {other.name!r} differ in {difference}; expected images of one scene, "
                "of the same size, type and place. Choose others, or fuse them one by one."
            )
    if len(layers) > 1 and ("C" in axes or (first.rgb and "Z" in axes)):
        raise UserInputError(
            f"The layer {first.name!r} holds several channels already; expected one per layer to join them. "
            "Fuse it alone."
        )


def _unlike(first: Image, other: Image) -> str | None:
    """Return what keeps two layers from being channels or slices of one stack."""
    if _lengths(first) != _lengths(other) or first.rgb != other.rgb:
        return "size"
    if first.dtype != other.dtype:
        return "pixel type"
    same = np.allclose(first.scale, other.scale) and np.allclose(first.translate, other.translate)
    return None if same else "scale or position"


def _frame(layer: Image, axes: str) -> Frame:
    meta = layer.as_layer_data_tuple()[1]
    others = {name: meta[name] for name in _TURNS if name in meta}
    scale, translate = (tuple(float(value) for value in values) for values in (layer.scale, layer.translate))
    return Frame(axes, _lengths(layer), scale, translate, others)


def _look(layer: Image) -> dict[str, Any]:
    meta = layer.as_layer_data_tuple()[1]
    return {name: meta[name] for name in _LOOK if name in meta and not (layer.rgb and name != "opacity")}


def _lengths(layer: Image) -> tuple[int, ...]:
    shape = (layer.data[0] if layer.multiscale else layer.data).shape
    return tuple(int(length) for length in (shape[:-1] if layer.rgb else shape))
