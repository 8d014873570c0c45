"""What fusing a selection of a plate would take: pixels, time and disk, before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hybridfusion_core.errors import HybridFusionError
from hybridfusion_core.fusion.doubtful_light import light_warnings
from hybridfusion_core.fusion.job import resolve
from hybridfusion_core.fusion.rate import measured_rate
from hybridfusion_core.fusion.request import FuseRequest
from hybridfusion_core.fusion.result import describe
from hybridfusion_core.io.zarr.chunk_files import Absent
from hybridfusion_core.plates.field_stack import defects_of, find_channels, open_field
from hybridfusion_core.plates.plate import PlateField

_PYRAMID = 4 / 3  # a level has a quarter of the pixels of the one below


@dataclass(frozen=True)
class Forecast:
    """What a selection holds and would take.

    Attributes:
        slices: fewest and most slices of a field that can be fused, (0, 0) if there is none.
        failing: why fields cannot be fused, as far as it is known before their files are opened, by field.
        single: how many fields have one slice, so that there is nothing to fuse.
        input_bytes: of the pixels that will be read, decoded; None if no header tells their size.
        output_bytes: of all results with their pyramids before compression; None if no field can be opened.
        seconds: on this machine, one field after the other; None if no field can be opened.
        settings: as they would be resolved, from the first field that can be opened.
        warnings: what that field makes doubtful.
    """

    slices: tuple[int, int]
    failing: tuple[tuple[PlateField, str], ...]
    single: int
    input_bytes: int | None
    output_bytes: int | None
    seconds: float | None
    settings: dict[str, object]
    warnings: tuple[str, ...] = ()


def forecast(
    fields: Sequence[PlateField],
    request: FuseRequest,
    *,
    z_step_um: float | None = None,
    pixel_size_um: float | None = None,
    absent: Absent = "refuse",
) -> Forecast:
    """Measure the speed of this machine on a small tile, and say what a selection would take.

    Args:
        fields: of one plate.
        request: how they would be fused.
        z_step_um: replaces the distance between slices.
        pixel_size_um: replaces the distance between pixels.
        absent: what to do about slices of which an OME-Zarr has no chunk.

    Raises:
        UserInputError: the request cannot be met by the plate, or by this machine.
    """
    channels = find_channels(fields[0], request.channels) if fields[0].imaging.channels else ()
    failing, sound, depths = [], [], []
    for field in fields:
        problems = defects_of(field, channels)
        if problems:
            failing.append((field, problems[0].message))
            continue
        sound.append(field)
        depths.append(max((field.frame.slices[each] for each in channels if each < len(field.frame.slices)), default=0))
    pixels = _plane_bytes(fields[0])
    read = None if pixels is None else sum(_slices(field, channels) for field in sound) * pixels
    slices = (min(depths), max(depths)) if depths else (0, 0)
    single = sum(depth < 2 for depth in depths)
    scale = {"z_step_um": z_step_um, "pixel_size_um": pixel_size_um}
    for field in sound:
        try:
            stack = open_field(field, channels=request.channels, absent=absent, **scale)
        except HybridFusionError:
            continue  # what is wrong with a file shows when it is opened; the next one may tell
        with stack:
            # The stack has no other channels than those that were chosen.
            job = resolve(replace(request, channels=None), stack)
            spec = describe(job, stack, [])
            result = sum(math.prod(shape) * dtype.itemsize for shape, dtype in spec.array_shapes().values())
            work = len(job.deciders) * math.prod(stack.shape[3:])
            chosen = [min(depth, len(job.slices)) if request.z else depth for depth in depths]
            seconds = work * sum(chosen) / measured_rate(job)
            doubts = light_warnings(job, replace(stack, name="The plate"))
            size = int(result * _PYRAMID) * len(sound)
            return Forecast(slices, tuple(failing), single, read, size, seconds, job.settings(), tuple(doubts))
    return Forecast(slices, tuple(failing), single, read, None, None, {})


def _plane_bytes(field: PlateField) -> int | None:
    imaging = field.imaging
    if imaging.plane is None or imaging.dtype is None:
        return None
    return math.prod(imaging.plane) * np.dtype(imaging.dtype).itemsize


def _slices(field: PlateField, channels: Sequence[int]) -> int:
    return sum(field.frame.slices[each] for each in channels if each < len(field.frame.slices))
