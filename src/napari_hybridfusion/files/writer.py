"""Save fused images from napari, through the same outputs that the fusion writes.

Each layer becomes a channel of one image T C 1 Y X. A stack of many slices is no result: it is refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.create import create_output
from hybridfusion_core.io.result_spec import ResultSpec
from hybridfusion_core.io.suffixes import image_name
from hybridfusion_core.stack import Stack
from napari_hybridfusion.layers.depth import Depth
from napari_hybridfusion.layers.stacks import LayerData, layer_stack

# Rows and columns that are read and written at once.
_BLOCK = 1024


def write(path: str, layers: Sequence[LayerData]) -> list[str]:
    """Write fused image layers for napari, which drops every ValueError of a writer without a word.

    Raises:
        RuntimeError: as `write_layers` says.
    """
    try:
        return write_layers(path, layers)
    except UserInputError as error:
        raise RuntimeError(str(error)) from error


def write_layers(path: str, layers: Sequence[LayerData]) -> list[str]:
    """Write fused image layers as one image.

    Args:
        path: ends in .ome.zarr, .ome.tif, .tif or .png. An existing file is replaced, as napari's own writers do
            (its dialog has asked); an existing OME-Zarr, for which no dialog asks, is not.
        layers: image layers of one size, type and scale, one plane for each time point.

    Returns:
        What was written.

    Raises:
        UserInputError: the layers do not make one image, or the format cannot hold it.
    """
    about = [meta.get("metadata", {}).get("hybridfusion", {}) for _, meta, _ in layers]
    stacks = [_stack(data, meta, known) for (data, meta, _), known in zip(layers, about, strict=True)]
    _check(stacks)
    spec = _describe(Path(path), stacks, about[0].get("depth"))
    sources = [(stack, channel) for stack in stacks for channel in range(len(stack.channels))]
    with create_output(path, spec, block=_BLOCK, overwrite=Path(path).is_file()) as output:
        fused = output.arrays["fused"]
        for (c, (stack, channel)), t in itertools.product(enumerate(sources), range(spec.shape[0])):
            for y, x in _blocks(*spec.shape[2:]):
                fused[t, c, 0, y, x] = stack.read(t, channel, [0], y, x)[0]
        output.commit()
    return [path]


def _stack(data: Any, meta: Mapping[str, Any], known: Mapping[str, Any]) -> Stack:
    """Return a layer as a stack; one of a result has the Z step of what it was fused from."""
    stack, depth = layer_stack(data, meta, known.get("axes")), known.get("depth")
    if depth is None:
        return stack
    # One plane is as thick as all slices together; a layer without Z does not say how thick they were.
    z = replace(stack.z, step=stack.z.step / depth.slices) if "Z" in stack.axes else depth.axis
    return replace(stack, z=z)


def _describe(path: Path, stacks: Sequence[Stack], depth: Depth | None) -> ResultSpec:
    first = stacks[0]
    t, _, _, y, x = first.shape
    channels = tuple(channel for stack in stacks for channel in stack.channels)
    return ResultSpec(
        name=image_name(path),
        shape=(t, len(channels), y, x),
        dtype=first.dtype,
        channels=channels,
        rgb=first.rgb,
        t=first.t,
        z=first.z,
        y=first.y,
        x=first.x,
        slices=1 if depth is None else depth.slices,
        provenance={} if depth is None else depth.record(),
    )


def _check(stacks: Sequence[Stack]) -> None:
    """Refuse what is no fused image, and layers that do not belong together."""
    first = stacks[0]
    for stack in stacks:
        if stack.shape[2] > 1:
            raise UserInputError(
                f"The layer {stack.name!r} has {stack.shape[2]} slices; expected one plane for each time point. Fuse "
                f"it first, or, if that axis is time, say so in napari's console: viewer.layers[{stack.name!r}]"
                ".axis_labels = ('t', 'y', 'x')."
            )
        if stack.rgb and len(stacks) > 1:
            raise UserInputError(
                f"The layer {stack.name!r} is a colour image among {len(stacks)} layers; expected one colour image, or "
                "grey layers that become its channels. Save it alone."
            )
        if _likeness(stack) != _likeness(first):
            raise UserInputError(
                f"The layers {first.name!r} ({_summary(first)}) and {stack.name!r} ({_summary(stack)}) differ; "
                "expected layers of one size, type and scale, which become channels of one image. Save them one by one."
            )


def _likeness(stack: Stack) -> tuple[Any, ...]:
    return stack.shape, stack.dtype, stack.t, stack.z, stack.y, stack.x


def _summary(stack: Stack) -> str:
    t, _, _, y, x = stack.shape
    return f"T Y X = {t} {y} {x}, {stack.dtype}, {stack.y.step:g} × {stack.x.step:g} {stack.x.unit or 'pixel'}"


def _blocks(y: int, x: int) -> Iterator[tuple[slice, slice]]:
    rows, columns = ([slice(at, min(at + _BLOCK, n)) for at in range(0, n, _BLOCK)] for n in (y, x))
    return itertools.product(rows, columns)
