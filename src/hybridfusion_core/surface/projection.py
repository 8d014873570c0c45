"""Channels of a stack along a height map, block by block: in memory, or from disk to disk."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.api import as_stack
from hybridfusion_core.fusion.job import find_channel
from hybridfusion_core.fusion.projections import to_dtype
from hybridfusion_core.fusion.provenance import identify
from hybridfusion_core.fusion.result import FuseResult, start_of
from hybridfusion_core.fusion.slab import Slab, along_heights
from hybridfusion_core.fusion.tiles import Geometry, blocks
from hybridfusion_core.io.create import create_output, refuse_input_as_output
from hybridfusion_core.io.decode_cache import decoded_once
from hybridfusion_core.io.result_spec import ResultSpec
from hybridfusion_core.io.zarr.ngff_writing import Ngff
from hybridfusion_core.progress import Progress, run_to_end
from hybridfusion_core.stack import Axis, Stack
from hybridfusion_core.surface.heights import Heights, open_heights
from hybridfusion_core.surface.request import ProjectRequest, make_project_request

ALGORITHM_VERSION = 1  # raised whenever equal settings would give other pixels
_BLOCK = 512  # px
_ROOM = 1 << 28  # bytes for planes that are decoded as a whole


@dataclass(frozen=True)
class Projection:
    """A request resolved against a stack and its heights.

    Attributes:
        request: as it was asked.
        heights: that are followed.
        channels: indices of C.
        slabs: where each of them is read.
        levels: distances from the surface at which each of them is read.
        block: pixels along Y and X that are done at once; it changes no pixel.
    """

    request: ProjectRequest
    heights: Heights
    channels: tuple[int, ...]
    slabs: tuple[Slab, ...]
    levels: tuple[NDArray[np.float64], ...]
    block: int = _BLOCK

    @property
    def depth(self) -> int:
        """Planes along Z of the result."""
        return len(self.levels[0]) if self.slabs[0].how == "stack" else 1


def project(
    source: Any,
    surface: Any,
    *,
    axes: str | None = None,
    z_step_um: float | None = None,
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> FuseResult:
    """Read the channels of a stack along a height map, in memory.

    Args:
        source: as for `hybridfusion_core.fuse`.
        surface: a maps file or a result of ours, a float TIFF, a `FuseResult`, or an array Y X.
        axes: as for `fuse`.
        z_step_um: as for `fuse`.
        progress: called after each block.
        **options: as `make_project_request` takes them: offset_um, thickness_um, how, by_channel, channels, fill, …

    Returns:
        A result whose `fused` is the projection, T C Z Y X (of a ZYX array Y X, or Z Y X of a thin stack).

    Raises:
        UserInputError: the heights do not fit the stack, or an option is unfit.
        StoredDataError: a file is damaged.
    """
    request = make_project_request(**options)
    with (
        as_stack(source, axes=axes, z_step_um=z_step_um) as stack,
        _heights(surface, stack, request) as heights,
        decoded_once(stack, _BLOCK, room=_ROOM) as decoded,
    ):
        planes = heights.placed(decoded)
        made = resolved(request, planes, heights)
        spec = describe(made, planes)
        arrays = {name: np.zeros(shape, dtype) for name, (shape, dtype) in spec.array_shapes().items()}
        run_to_end(into_array(made, planes, arrays["fused"]), progress)
        planar = not isinstance(source, str | Path | list | tuple | Stack) and set(stack.axes) <= set("ZYX")
    return FuseResult(arrays, spec, tuple(range(stack.shape[2])), spec.z_positions_um, planar)


def project_to(
    source: Any,
    surface: Any,
    path: str | Path,
    *,
    axes: str | None = None,
    z_step_um: float | None = None,
    overwrite: bool = False,
    ngff: Ngff = "0.5",
    checksum: bool = False,
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> ResultSpec:
    """As `project`, from disk to disk; memory stays bounded however large the plane is.

    Args:
        source: as for `fuse`.
        surface: as for `project`.
        path: output; its suffix chooses the format, as for `fuse`.
        axes: as for `fuse`.
        z_step_um: as for `fuse`.
        overwrite: replace an existing output, once the new one is complete.
        ngff: version of an OME-Zarr.
        checksum: record the sha256 of the input files.
        progress: called after each block.
        **options: as for `project`.

    Returns:
        What was written.
    """
    request = make_project_request(**options)
    with as_stack(source, axes=axes, z_step_um=z_step_um) as stack, _heights(surface, stack, request) as heights:
        made = resolved(request, stack, heights)
        return run_to_end(steps_to_disk(made, stack, Path(path), overwrite, ngff, checksum=checksum), progress)


def steps_to_disk(
    made: Projection, stack: Stack, path: Path, overwrite: bool = False, ngff: Ngff = "0.5", *, checksum: bool = False
) -> Generator[Progress, None, ResultSpec]:
    """Project into a file, yielding after each block; closing the iterator early removes what was written.

    Returns:
        (on exhaustion) the `ResultSpec` of what was written.
    """
    refuse_input_as_output(path, [*stack.source, *made.heights.array.source])
    spec = describe(made, made.heights.placed(stack), checksum=checksum)
    with (
        create_output(path, spec, block=made.block, overwrite=overwrite, ngff=ngff) as output,
        decoded_once(stack, made.block, room=_ROOM, folder=path.parent) as planes,
    ):
        yield from into_array(made, made.heights.placed(planes), output.arrays["fused"])
        output.commit()
    return spec


def resolved(request: ProjectRequest, stack: Stack, heights: Heights) -> Projection:
    """Check a request against a stack.

    Raises:
        UserInputError: it cannot be done.
    """
    wanted = request.channels or tuple(str(index) for index in range(stack.shape[1]))
    channels = (
        tuple(dict.fromkeys(find_channel(each, stack) for each in wanted))
        if request.channels
        else tuple(range(stack.shape[1]))
    )
    own = {find_channel(name, stack): slab for name, slab in request.by_channel.items()}
    for index in own:
        if index not in channels:
            raise UserInputError(
                f"Channel {stack.channels[index].name!r} has an offset of its own and is not among those that are "
                "projected; expected it there. Name it with --channels, too."
            )
    slabs = tuple(own.get(index, request.slab) for index in channels)
    levels = tuple(slab.levels(heights.step(stack)) for slab in slabs)
    if any(slab.how == "stack" for slab in slabs) and (
        len({slab.how for slab in slabs}) > 1 or len({len(each) for each in levels}) > 1
    ):
        raise UserInputError(
            "Some channels would have more planes than others; expected the same of all. Give every channel how "
            '"stack" and the same thickness, or project them one by one (--channels).'
        )
    return Projection(request, heights, channels, slabs, levels)


def describe(made: Projection, stack: Stack, *, checksum: bool = False) -> ResultSpec:
    """Say what a projection is, before its pixels exist."""
    t, _, slices, y, x = stack.shape
    summed = any(slab.how == "sum" for slab in made.slabs)
    dtype = stack.dtype if made.request.fill == "0" and not summed else np.dtype(np.float32)
    if stack.dtype == np.float64 and not summed:
        dtype = stack.dtype
    known = made.heights.unit == "um" and made.depth > 1
    step = float(made.levels[0][1] - made.levels[0][0]) if made.depth > 1 else 0.0
    return ResultSpec(
        name=stack.name,
        shape=(t, len(made.channels), y, x),
        dtype=dtype,
        channels=tuple(stack.channels[index] for index in made.channels),
        rgb=stack.rgb and len(made.channels) == 3,
        start=start_of(stack),
        t=stack.t,
        z=Axis(step, "micrometer") if known else stack.z,
        y=stack.y,
        x=stack.x,
        slices=slices,
        depth=made.depth,
        z_positions_um=tuple(float(each) for each in made.levels[0]) if known else None,
        provenance=_provenance(made, stack, checksum=checksum),
    )


def project_region(made: Projection, stack: Stack, t: int, channel: int, y: slice, x: slice) -> NDArray[np.float64]:
    """Project a rectangle of one channel.

    Args:
        made: what to do.
        stack: what to read; only the slices that the surface meets there.
        t: time point.
        channel: index along `made.channels`.
        y: rows.
        x: columns.

    Returns:
        D Y X, float64; NaN where there is no height, or no slice.
    """
    index, slab = made.channels[channel], made.slabs[channel]
    heights = made.heights.read(t, index, y, x)

    def read(number: int) -> NDArray[Any]:
        return np.asarray(stack.read(t, index, [number], y, x)[0])

    z_um = stack.z_um if made.heights.unit == "um" else None
    return along_heights(slab, read, heights, z_um, stack.shape[2], made.heights.step(stack))


def into_array(made: Projection, stack: Stack, target: Any) -> Generator[Progress]:
    """Project block by block into an array of `describe`, T C Z Y X, yielding after each block."""
    dtype = np.dtype(target.dtype)
    frames, plane = stack.shape[0], stack.shape[3:]
    done, total = 0, frames * len(made.channels) * plane[0] * plane[1]
    cores = list(blocks(plane, made.block, Geometry(1, 0)))
    for t, channel, core in itertools.product(range(frames), range(len(made.channels)), cores):
        y, x = core.y.core, core.x.core
        found = project_region(made, stack, t, channel, y, x)
        if made.request.fill == "0":
            found = np.where(np.isfinite(found), found, 0)
        for z, values in enumerate(found):
            target[t, channel, z, y, x] = to_dtype(values, dtype)
        done += found[0].size
        yield Progress("projecting", done, total)


def _heights(surface: Any, stack: Stack, request: ProjectRequest) -> AbstractContextManager[Heights]:
    return open_heights(
        surface,
        stack,
        unit=request.height_unit,
        chosen=request.map,
        other_stack=request.other_stack,
        sheet=request.sheet,
    )


def _provenance(made: Projection, stack: Stack, *, checksum: bool) -> dict[str, Any]:
    heights = made.heights
    of: list[Mapping[str, Any]] = [identify(each, checksum=checksum) for each in heights.array.source]
    return {
        "software": f"napari-hybridfusion {version('napari-hybridfusion')}",
        "algorithm_version": ALGORITHM_VERSION,
        "input": [identify(each, checksum=checksum) for each in stack.source],
        "slices": stack.shape[2],
        "z_positions_um": None if stack.z_positions_um is None else [float(each) for each in stack.z_positions_um],
        "surface": {"input": of, "unit": heights.unit, "made_by": heights.provenance.get("software")},
        **({} if not stack.treatment else {"treatment": dict(stack.treatment)}),
        "settings": {
            **asdict(replace(made.request, by_channel={})),
            "by_channel": {
                stack.channels[index].name: asdict(slab) | {"levels": [float(each) for each in levels]}
                for index, slab, levels in zip(made.channels, made.slabs, made.levels, strict=True)
            },
            "products": ["fused"],
            "channels": list(made.channels),
        },
        "warnings": [],
    }
