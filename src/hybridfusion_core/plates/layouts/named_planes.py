"""Planes that only their names describe: an expression with named groups tells row, column, field, time, z, channel."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from natsort import natsorted

from hybridfusion_core.plates.listing import Listing
from hybridfusion_core.plates.plane_records import Findings, Record, number_name
from hybridfusion_core.plates.well_names import UNUSUAL_ROW, row_letters, well_index
from hybridfusion_core.stack import Channel

Groups = Mapping[str, str | None]


def matches(files: re.Pattern[str], paths: Iterable[str]) -> Iterator[tuple[str, dict[str, str | None]]]:
    """Yield the paths that an expression fits, with its groups.

    Args:
        files: fits the whole path if it has a "/" in it, else the whole name.
        paths: inside the folder of the plate.
    """
    whole = "/" in files.pattern
    for path in sorted(paths):
        match = files.fullmatch(path if whole else path.rpartition("/")[2])
        if match is not None:
            groups = match.groupdict()
            # A name may have the number of a well and, before it, what the well is called.
            named = groups.pop("named", None)
            yield path, groups | {"well": named} if named else groups


def record(path: str, groups: Groups, wells: WellNames | None = None) -> Record | None:
    """Make a record of what a name says, or None if it names no well of a plate.

    A name without a field, time, z or channel means the first one.

    Args:
        path: of the file.
        groups: what its name says.
        wells: what all names together say of the wells, where they are not called as usual.
    """
    at = place(groups) if wells is None else wells.place(groups)
    if at is None:
        return None
    return Record(
        *at,
        field=number_name(groups.get("field") or "1"),
        time=int(groups.get("time") or 0),
        channel=number_name(groups.get("channel") or "1"),
        z=int(groups.get("z") or 0),
        file=path,
    )


def place(groups: Groups) -> tuple[int, int] | None:
    """Return row and column, each from 0, that the groups of a name say."""
    well, row, column = (groups.get(name) for name in ("well", "row", "column"))
    if well is not None:
        return well_index(well)
    if row is None or column is None:
        return None
    return well_index(f"{row_letters(int(row) - 1) if row.isdecimal() and 0 < int(row) < 100 else row}{column}")


class WellNames:
    """Wells as the names of all files together tell them: usual ones, counted from 0, or any numbers or names.

    Attributes:
        written: row and column as they are to be called, where they have no usual name.
        warnings: what was concluded.
    """

    def __init__(self, names: Iterable[Groups]) -> None:
        groups = list(names)
        wells = {str(each["well"]) for each in groups if each.get("well") is not None}
        self._order: dict[str, int] = {}
        self.warnings: tuple[str, ...] = ()
        if any(well_index(each) is None for each in wells):
            self._order = {name: index for index, name in enumerate(natsorted({number_name(each) for each in wells}))}
        # A row or column 0 exists only where they are counted from 0.
        self._from = {
            name: int(any(str(each.get(name)).isdecimal() and int(str(each[name])) == 0 for each in groups))
            for name in ("row", "column")
        }
        zero = [name for name, shift in self._from.items() if shift]
        if zero:
            self.warnings = (
                f"The {' and '.join(zero)}s in the names are counted from 0: 0 is taken for the first one.",
            )

    @property
    def written(self) -> dict[tuple[int, int], tuple[str, str]]:
        """Row and column of each well that has no usual name; it stands alone in a row called W."""
        return {(0, index): (UNUSUAL_ROW, name) for name, index in self._order.items()}

    def place(self, groups: Groups) -> tuple[int, int] | None:
        """Return row and column, each from 0, that the groups of one name say."""
        if self._order:
            well = groups.get("well")
            return None if well is None else (0, self._order[number_name(well)])
        counted = {
            name: str(int(value) + self._from[name])
            for name in ("row", "column")
            if (value := groups.get(name)) is not None and value.isdecimal()
        }
        return place({**groups, **counted})


def read_names(listing: Listing, files: re.Pattern[str], name: str, prefix: str = "") -> Findings:
    """Find planes by their names alone.

    Args:
        listing: of the folder.
        files: expression with named groups.
        name: of the plate.
        prefix: stands before a number in the name of a channel, as "w" in "w1".
    """
    found = list(matches(files, (*listing.images, *listing.refused)))
    wells = WellNames(groups for _, groups in found)
    made = (record(path, groups, wells) for path, groups in found)
    records = [each for each in made if each is not None]
    keys = {each.channel for each in records}
    channels = {key: Channel(f"{prefix}{key}" if key.isdecimal() else key) for key in keys}
    size = (1, len(wells.written)) if wells.written else (0, 0)
    return Findings(
        records, channels, name, rows=size[0], columns=size[1], wells=wells.written, warnings=wells.warnings
    )


def unlisted(
    listing: Listing, files: re.Pattern[str], records: Iterable[Record]
) -> dict[tuple[int, int, str, int, str, int], str]:
    """Return the files that look like planes and that no record uses, by the plane that they look like."""
    used = {each.file for each in records}
    strays = (record(path, groups) for path, groups in matches(files, listing.images) if path not in used)
    return {each[:6]: str(each.file) for each in strays if each is not None}
