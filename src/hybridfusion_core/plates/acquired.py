"""Time points at which some of the channels that are to be fused were not acquired at all."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from hybridfusion_core.plates.field_stack import find_channels
from hybridfusion_core.plates.plate import Field, Frame, Plate

_SHOWN = 8


def with_acquired_times(plate: Plate, channels: Sequence[str] | None, decides: str | None = None) -> Plate:
    """Say of every time point which channels that are to be fused were acquired in no field.

    What was acquired is fused; a channel that was not reads as zeros then. A time point without any of the channels,
    or without the one that decides for all, is left out. What only some fields lack is missing and stays, as a defect.

    Args:
        plate: as it was opened.
        channels: names or indices of the channels to fuse; None means all.
        decides: name or index of the channel that decides for all of them, if one does.

    Returns:
        The plate, with a warning for what was not acquired; as it was if no time point would be left.

    Raises:
        UserInputError: no such channel.
    """
    first = next(plate.fields(), None)
    if first is None or not plate.imaging.channels:
        return plate
    chosen = find_channels(first, channels)
    needed = set() if decides is None else set(find_channels(first, [decides]))
    frames = [
        frame for well in plate.wells for field in well.fields for frame in field.frames if frame.planes or frame.images
    ]
    taken = {(frame.time, channel) for frame in frames for channel in (*chosen, *needed) if _has(frame, channel)}
    times = dict.fromkeys(frame.time for frame in frames)
    absent = {time: lacks for time in times if (lacks := [each for each in chosen if (time, each) not in taken])}
    without = {
        time
        for time in times
        if not set(chosen) - set(absent.get(time, ())) or any((time, n) not in taken for n in needed)
    }
    if not (absent or without) or len(without) == len(times):
        return plate
    wells = tuple(
        replace(well, fields=tuple(_of_times(field, absent, without) for field in well.fields)) for well in plate.wells
    )
    names = [channel.name for channel in plate.imaging.channels]
    warnings = _warnings(absent, without, list(times), {each: names[each] for each in (*chosen, *needed)})
    return replace(plate, wells=wells, warnings=(*plate.warnings, *warnings))


def _of_times(field: Field, absent: Mapping[str, Sequence[int]], without: Collection[str]) -> Field:
    kept = (frame for frame in field.frames if frame.time not in without)
    return replace(
        field, frames=tuple(replace(frame, not_acquired=tuple(absent.get(frame.time, ()))) for frame in kept)
    )


def _warnings(
    absent: Mapping[str, Sequence[int]], without: Collection[str], times: Sequence[str], names: Mapping[int, str]
) -> Iterator[str]:
    if without:
        yield (
            f"{len(without)} of {len(times)} time points are left out, because none of the channels to fuse, or not "
            f"the one that decides, was acquired then: {_some([time for time in times if time in without])}."
        )
    for channel, name in names.items():
        lacking = [time for time in times if channel in absent.get(time, ()) and time not in without]
        if lacking:
            yield (
                f"{name!r} was not acquired at {len(lacking)} of {len(times)} time points ({_some(lacking)}): it reads "
                "as zeros then, the other channels are fused without it, and the records name it."
            )


def _some(times: Sequence[str]) -> str:
    return ", ".join(times[:_SHOWN]) + (", …" if len(times) > _SHOWN else "")


def _has(frame: Frame, channel: int) -> bool:
    there = frame.images[channel].path if frame.images else frame.planes[channel]
    return bool(there) or any(each.channel == channel for each in frame.defects)
