"""Time points at which some of the channels that are to be fused were not acquired at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hybridfusion_core.plates.field_stack import find_channels
from hybridfusion_core.plates.plate import Frame, Plate


def with_acquired_times(plate: Plate, channels: Sequence[str] | None) -> Plate:
    """Leave out the time points at which a channel that is to be fused was acquired in no field.

    What only some fields lack is missing and stays, as a defect.

    Args:
        plate: as it was opened.
        channels: names or indices of the channels to fuse; None means all.

    Returns:
        The plate, with a warning for what was left out; as it was if every time point would be left out.

    Raises:
        UserInputError: no such channel.
    """
    first = next(plate.fields(), None)
    if first is None or not plate.imaging.channels:
        return plate
    chosen = find_channels(first, channels)
    frames = [frame for well in plate.wells for field in well.fields for frame in field.frames if frame.planes]
    taken = {(frame.time, channel) for frame in frames for channel in chosen if _has(frame, channel)}
    times = dict.fromkeys(frame.time for frame in frames)
    lacking = {time: [each for each in chosen if (time, each) not in taken] for time in times}
    absent = {time: lacks for time, lacks in lacking.items() if lacks}
    if not absent or len(absent) == len(times):
        return plate
    wells = tuple(
        replace(
            well,
            fields=tuple(
                replace(field, frames=tuple(frame for frame in field.frames if frame.time not in absent))
                for field in well.fields
            ),
        )
        for well in plate.wells
    )
    names = sorted({plate.imaging.channels[each].name for lacks in absent.values() for each in lacks})
    warning = (
        f"{len(absent)} of {len(times)} time points are left out, because {', '.join(map(repr, names))} was not "
        f"acquired then: {', '.join(list(absent)[:8])}{', …' if len(absent) > 8 else ''}. Choose other channels with "
        "--channels to fuse them."
    )
    return replace(plate, wells=wells, warnings=(*plate.warnings, warning))


def _has(frame: Frame, channel: int) -> bool:
    return bool(frame.planes[channel]) or any(each.channel == channel for each in frame.defects)
