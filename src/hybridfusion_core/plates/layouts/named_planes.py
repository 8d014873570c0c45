"""Planes that only their names describe: an expression with named groups tells row, column, field, time, z, channel."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from hybridfusion_core.plates.listing import Listing
from hybridfusion_core.plates.plane_records import Findings, Record, number_name
from hybridfusion_core.plates.well_names import row_letters, well_index
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
            yield path, match.groupdict()


def record(path: str, groups: Groups) -> Record | None:
    """Make a record of what a name says, or None if it names no well of a plate.

    A name without a field, time, z or channel means the first one.
    """
    at = place(groups)
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


def read_names(listing: Listing, files: re.Pattern[str], name: str, prefix: str = "") -> Findings:
    """Find planes by their names alone.

    Args:
        listing: of the folder.
        files: expression with named groups.
        name: of the plate.
        prefix: stands before a number in the name of a channel, as "w" in "w1".
    """
    found = [record(path, groups) for path, groups in matches(files, (*listing.images, *listing.refused))]
    records = [each for each in found if each is not None]
    keys = {each.channel for each in records}
    channels = {key: Channel(f"{prefix}{key}" if key.isdecimal() else key) for key in keys}
    return Findings(records, channels, name)


def unlisted(
    listing: Listing, files: re.Pattern[str], records: Iterable[Record]
) -> dict[tuple[int, int, str, int, str, int], str]:
    """Return the files that look like planes and that no record uses, by the plane that they look like."""
    used = {each.file for each in records}
    strays = (record(path, groups) for path, groups in matches(files, listing.images) if path not in used)
    return {each[:6]: str(each.file) for each in strays if each is not None}
