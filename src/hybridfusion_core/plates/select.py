"""Which fields of a plate: wells, fields and times by name, a few wells spread over the plate, or those that failed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.plates.plane_records import number_name
from hybridfusion_core.plates.plate import Plate, PlateField, Well
from hybridfusion_core.plates.well_names import UNUSUAL_ROW, well_index

FieldTime = tuple[str, str, int]  # well, field, time


@dataclass(frozen=True)
class Selection:
    """Which fields to fuse; None leaves a choice open.

    Attributes:
        wells: such as "B02:C05,D07"; a range is a rectangle of wells.
        fields: names as the plate has them, such as "1,3-5".
        times: indices from 0 among the time points of each field, such as "0:10" or "0,5".
        pilot: how many wells, spread over the plate.
        only: well, field and time of what failed before.
    """

    wells: str | None = None
    fields: str | None = None
    times: str | None = None
    pilot: int | None = None
    only: frozenset[FieldTime] | None = None


def select(plate: Plate, selection: Selection) -> tuple[PlateField, ...]:
    """Choose fields of a plate; all conditions must hold, and the pilot is taken from what is left.

    Returns:
        At least one field, in order of wells, fields and times.

    Raises:
        UserInputError: a condition cannot be understood, or names what the plate has not, or nothing is left.
    """
    left = list(plate.fields())
    if selection.wells is not None:
        chosen = frozenset(well.name for well in select_wells(plate.wells, selection.wells))
        left = [field for field in left if field.well in chosen]
    if selection.fields is not None:
        names = {each.name for well in plate.wells for each in well.fields}
        chosen = select_fields(names, selection.fields)
        left = [field for field in left if field.field in chosen]
    if selection.times is not None:
        times = select_times(_most_times(plate), selection.times)
        left = [field for field in left if field.t in times]
    if selection.only is not None:
        left = _only(left, plate, selection.only)
    if selection.pilot is not None:
        wells = {field.well for field in left}
        chosen = frozenset(
            well.name for well in spread([well for well in plate.wells if well.name in wells], selection.pilot)
        )
        left = [field for field in left if field.well in chosen]
    if not left:
        raise UserInputError(
            f"Nothing of plate {plate.name!r} is left by what was chosen; expected at least one field. Ask for more "
            "with --wells, --fields, --times or --only."
        )
    return tuple(left)


def select_wells(wells: Sequence[Well], text: str) -> tuple[Well, ...]:
    """Choose wells by name and by rectangle.

    Args:
        wells: of the plate.
        text: names and ranges, such as "B02:C05,D07"; leading zeros make no difference. Wells that are called
            otherwise go by their own names.

    Returns:
        The wells, in their own order.

    Raises:
        UserInputError: a part is no well or range, or the plate has none of what it names.
    """
    chosen: set[tuple[int, int]] = set()
    at = {(well.row_index, well.column_index) for well in wells}
    written = {name: (well.row_index, well.column_index) for well in wells for name in _names(well)}
    for part in _parts(text, "wells"):
        corners = [written[part]] if part in written else [_corner(name, written) for name in part.split(":")]
        if len(corners) > 2 or None in corners:
            raise UserInputError(f"--wells has {part!r}; expected wells and ranges of wells, such as B02:C05,D07.")
        (top, left), (bottom, right) = (corner for corner in (corners[0], corners[-1]) if corner is not None)
        rows, columns = sorted((top, bottom)), sorted((left, right))
        found = {(y, x) for y, x in at if rows[0] <= y <= rows[1] and columns[0] <= x <= columns[1]}
        if not found:
            raise UserInputError(
                f"--wells has {part!r}, and the plate has images of none of these wells; expected some of "
                f"{', '.join(well.name for well in wells[:8])}{', …' if len(wells) > 8 else ''}."
            )
        chosen |= found
    return tuple(well for well in wells if (well.row_index, well.column_index) in chosen)


def _names(well: Well) -> tuple[str, ...]:
    return (well.name, well.column) if well.row == UNUSUAL_ROW else (well.name,)


def _corner(name: str, written: Mapping[str, tuple[int, int]]) -> tuple[int, int] | None:
    """Return the place of a well as the plate writes its name, or as wells are usually called."""
    return written.get(name.strip()) or well_index(name)


def select_fields(names: Iterable[str], text: str) -> frozenset[str]:
    """Choose fields by name.

    Args:
        names: of all fields of the plate.
        text: names, and ranges of numbers that include both ends, such as "1,3-5"; leading zeros make no difference.

    Raises:
        UserInputError: a name or range is none of the plate's.
    """
    known = {number_name(name): name for name in names}
    chosen: set[str] = set()
    for part in _parts(text, "fields"):
        match = re.fullmatch(r"(\d{1,9})-(\d{1,9})", part, re.ASCII)
        if number_name(part) in known:
            chosen.add(known[number_name(part)])
        elif match is not None and (
            found := {
                name for key, name in known.items() if key.isdecimal() and int(match[1]) <= int(key) <= int(match[2])
            }
        ):
            chosen |= found
        else:
            raise UserInputError(
                f"--fields has {part!r}, which no well has; expected some of {', '.join(sorted(known)[:8])}"
                f"{', …' if len(known) > 8 else ''}, or a range such as 3-5."
            )
    return frozenset(chosen)


def select_times(count: int, text: str) -> frozenset[int]:
    """Choose time points by index.

    Args:
        count: of time points.
        text: indices and half-open ranges as in Python, such as "0:10", "0:10:2" or "0,5".

    Raises:
        UserInputError: a part is no index or range, or leaves nothing.
    """
    chosen: set[int] = set()
    for part in _parts(text, "times"):
        match = re.fullmatch(r"(\d{0,9})(?::(\d{0,9})(?::([1-9]\d{0,8}))?)?", part, re.ASCII)
        found: range | None = None
        if match is not None and part != ":" and (":" in part or match[1]):
            start, stop, step = (int(each) if each else None for each in match.groups())
            found = range(count)[slice(start, stop, step)] if ":" in part else range(count)[int(part) : int(part) + 1]
        if not found:
            raise UserInputError(
                f"--times has {part!r}, of {count} time points that are counted from 0; expected an index or a range "
                "such as 0:10."
            )
        chosen.update(found)
    return frozenset(chosen)


def chosen_times(plate: Plate, text: str | None) -> tuple[int, ...] | None:
    """Return the indices of the time points of a plate that a text chooses, in order; None for all of them.

    Raises:
        UserInputError: as for `select_times`.
    """
    if text is None:
        return None
    return tuple(sorted(select_times(_most_times(plate), text)))


def spread(wells: Sequence[Well], count: int) -> tuple[Well, ...]:
    """Choose wells that lie far from each other: first the one in the middle, then always the furthest.

    Args:
        wells: in order of rows and columns.
        count: how many, at least 1; all if there are no more.

    Returns:
        In the order of `wells`; for a larger count the same wells and some more.

    Raises:
        UserInputError: the count is below 1.
    """
    if count < 1:
        raise UserInputError(f"--pilot is {count}; expected at least one well. Ask for more.")
    if not wells:
        return ()
    at = {well.name: (well.row_index, well.column_index) for well in wells}
    middle = tuple(sum(place[axis] for place in at.values()) / len(at) for axis in (0, 1))
    first = min(wells, key=lambda well: _distance(at[well.name], middle))
    chosen = [first.name]
    nearest = {name: _distance(place, at[first.name]) for name, place in at.items()}
    while len(chosen) < min(count, len(at)):
        furthest = max((name for name in at if name not in chosen), key=lambda name: nearest[name])
        chosen.append(furthest)
        nearest = {name: min(nearest[name], _distance(place, at[furthest])) for name, place in at.items()}
    return tuple(well for well in wells if well.name in chosen)


def _only(fields: list[PlateField], plate: Plate, only: frozenset[FieldTime]) -> list[PlateField]:
    known = {(field.well, field.field, field.t) for field in plate.fields()}
    unknown = sorted(only - known)
    if unknown:
        well, field, time = unknown[0]
        raise UserInputError(
            f"{len(unknown)} of {len(only)} failures are none of plate {plate.name!r}, the first well {well!r} field "
            f"{field!r} time {time}; expected failures of this plate. Name its own failures.csv."
        )
    return [field for field in fields if (field.well, field.field, field.t) in only]


def _most_times(plate: Plate) -> int:
    return max((len(field.frames) for well in plate.wells for field in well.fields), default=0)


def _parts(text: str, option: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UserInputError(f"--{option} is {text!r}, with an empty part; expected names between commas.")
    return parts


def _distance(one: Sequence[float], other: Sequence[float]) -> float:
    return (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2
