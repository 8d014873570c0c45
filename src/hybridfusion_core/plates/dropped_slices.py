"""Fields whose missing planes are given up: the slices that all channels have are left, at the heights they had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from hybridfusion_core.plates.field_stack import find_channels
from hybridfusion_core.plates.plate import Frame, Plate

_MOST_SLICES = 100_000  # that numbers in names can stand for
_SHOWN = 5


def without_missing_slices(plate: Plate, channels: Sequence[str] | None) -> Plate:
    """Leave out the slices of which some planes are missing, as long as two slices are left.

    Only missing planes are given up: planes that the microscope calls failed, duplicates and files outside the plate
    stay defects, and so does a channel of which nothing is there.

    Args:
        plate: as it was opened.
        channels: names or indices of the channels to fuse; None means all.

    Returns:
        The plate, whose frames say what was dropped, with a warning that names the fields.

    Raises:
        UserInputError: no such channel.
    """
    first = next(plate.fields(), None)
    if first is None or not plate.imaging.channels:
        return plate
    chosen = find_channels(first, channels)
    hurt: list[str] = []
    wells = []
    for well in plate.wells:
        fields = []
        for field in well.fields:
            frames = tuple(_complete(frame, chosen) for frame in field.frames)
            if any(frame.dropped for frame in frames):
                hurt.append(f"{well.name} field {field.name}")
            fields.append(replace(field, frames=frames))
        wells.append(replace(well, fields=tuple(fields)))
    if not hurt:
        return plate
    shown = ", ".join(hurt[:_SHOWN]) + (", …" if len(hurt) > _SHOWN else "")
    warning = f"{len(hurt)} fields are fused without slices of which planes are missing: {shown}."
    return replace(plate, wells=tuple(wells), warnings=(*plate.warnings, warning))


def _complete(frame: Frame, channels: Sequence[int]) -> Frame:
    known = [each for each in frame.defects if each.channel is None or each.channel in channels]
    if not known or not frame.planes or any(each.kind != "missing" or each.channel is None for each in known):
        return frame
    runs = {each: frame.planes[each] for each in channels}
    deep = {channel: {plane.z for plane in run} for channel, run in runs.items() if len(run) > 1}
    common = set.intersection(*deep.values()) if deep else set[int]()
    if len(common) < 2 or not all(runs.values()):
        return frame
    kept = tuple(
        tuple(plane for plane in run if plane.z in common) if channel in deep else run
        for channel, run in enumerate(frame.planes)
    )
    others = tuple(each for each in frame.defects if each not in known)
    dropped = _dropped([*deep.values()], common)
    return replace(frame, planes=kept, slices=tuple(map(len, kept)), defects=others, dropped=dropped)


def _dropped(found: Sequence[set[int]], common: set[int]) -> tuple[int, ...]:
    """Return the numbers of slices that some channels have and others lack, or that are absent in between."""
    every = sorted(set.union(*found))
    step = min((after - before for before, after in pairwise(every)), default=1)
    span = range(every[0], every[-1] + 1, step) if (every[-1] - every[0]) // step < _MOST_SLICES else every
    absent = tuple(z for z in span if z not in common)
    return absent or (every[-1] + step,)  # what is missing lies before the first or behind the last one
