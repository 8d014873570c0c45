"""What to say of a folder in which no layout finds a field: what lies in it, and a pattern that its names would fit."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import PurePosixPath

from hybridfusion_core.errors import HybridFusionError, UserInputError
from hybridfusion_core.io.suffixes import TIFF_SUFFIXES
from hybridfusion_core.plates.layouts.pattern import parse_pattern
from hybridfusion_core.plates.layouts.table import LAYOUTS
from hybridfusion_core.plates.listing import Listing
from hybridfusion_core.plates.well_names import well_index

_TOKEN = re.compile(r"\d+|[A-Za-z]+|[^A-Za-z0-9]")
_MOST_NAMES = 2000  # that are compared to propose a pattern
_SHOWN = 6
# What stands before a number, as far as names of files agree; "p" is a position, a plane or a plate and tells nothing.
_MARKS = {
    "z": "z", "zstep": "z", "slice": "z", "plane": "z", "stack": "z", "focus": "z",
    "t": "time", "time": "time", "tp": "time", "timepoint": "time",
    "f": "field", "fld": "field", "fov": "field", "field": "field", "s": "field", "site": "field", "pos": "field",
    "position": "field", "xy": "field",
    "c": "channel", "ch": "channel", "channel": "channel", "w": "channel", "wv": "channel",
    "well": "well", "r": "row", "row": "row", "col": "column", "column": "column",
}  # fmt: skip


def nothing_found(listing: Listing) -> UserInputError:
    """Say that a folder holds no plate that is known, and what it holds instead.

    Args:
        listing: of the folder.
    """
    every = (*listing.images, *listing.refused, *listing.others)
    name = listing.root.name
    if not every:
        return UserInputError(f"{name} is empty; expected a plate or images. Name another folder.")
    counts = Counter(_suffix(path) for path in every).most_common()
    held = ", ".join(f"{count} {suffix}" for suffix, count in counts[:_SHOWN]) + (", …" if len(counts) > _SHOWN else "")
    titles = "; ".join(each.title for each in LAYOUTS if each.name != "pattern")
    found = f"No field was found in {name}, which holds {held}; expected one of these layouts: {titles}."
    if not listing.images:
        return UserInputError(
            f"{found} None of the files is an image that can be read: export the plate as TIFF, OME-TIFF or OME-Zarr, "
            "or convert it with bioformats2raw."
        )
    first = min(listing.images)
    proposed = proposed_pattern(listing)
    cure = (
        f"Say what the names mean, as in --pattern {proposed!r}."
        if proposed
        else "Say what the names mean with --pattern: {well}, or {row} and {column}, {field}, {z}, {channel}, {time}."
    )
    return UserInputError(
        f"{found} The first image is {first!r}. {cure} If there are no wells, put every stack into a file or a "
        "folder of its own and name the folder of them all; or fuse a single stack with `hybridfusion fuse`."
    )


def proposed_pattern(listing: Listing) -> str | None:
    """Return a pattern that the names of most images fit and that tells them apart, or None if there is none.

    Args:
        listing: of the folder.
    """
    names = sorted({path.rpartition("/")[2] for path in listing.images})[:_MOST_NAMES]
    if not names:
        return None
    rows = [_TOKEN.findall(name) for name in names]
    usual = Counter(len(row) for row in rows).most_common(1)[0][0]
    alike = [row for row in rows if len(row) == usual]
    proposed = _template(alike)
    if proposed is None:
        return None
    try:
        fits = parse_pattern(proposed).match(names)
    except HybridFusionError:
        return None
    told = {tuple(sorted(groups.items())) for groups in fits.values()}
    return proposed if len(fits) >= len(alike) and len(told) == len(fits) else None


def _template(rows: list[list[str]]) -> str | None:
    """Replace the parts of the first name that vary by what they mean, as far as that can be told."""
    first = rows[0]
    varying = {column for column in range(len(first)) if len({row[column] for row in rows}) > 1}
    meanings: dict[int, str] = {}
    for column, mark in _well_columns(rows, varying).items():
        meanings[column] = mark
    for column in sorted(varying - set(meanings)):
        before = first[column - 1].lower() if column else ""
        mark = _MARKS.get(before, "") if first[column].isdecimal() else ""
        if mark and mark not in meanings.values():
            meanings[column] = mark
    left = sorted(varying - set(meanings))
    # What is not marked: a word is a channel, one number beside a known well is z.
    for column in left:
        kind = "z" if all(row[column].isdecimal() for row in rows) else "channel"
        if kind not in meanings.values():
            meanings[column] = kind
    if not ({"well"} <= set(meanings.values()) or {"row", "column"} <= set(meanings.values())):
        return None
    parts = [
        f"{{{meanings[column]}}}" if column in meanings else "*" if column in varying else token
        for column, token in enumerate(first)
    ]
    return re.sub(r"\*+", "*", "".join(parts).replace("}{column", "}{column"))


def _well_columns(rows: list[list[str]], varying: set[int]) -> dict[int, str]:
    """Return which columns tell the well: letters before a number, with or without something between; or marks."""
    first = rows[0]
    for column in range(len(first) - 1):
        pairs = {(row[column], row[column + 1]) for row in rows}
        named = all(letters.isupper() and well_index(letters + digits) for letters, digits in pairs)
        if named and {column, column + 1} & varying and not first[column].lower().startswith("well"):
            return {column: "row", column + 1: "column"}
    for column in range(len(first) - 4):
        cells = {"".join(row[column : column + 5]) for row in rows}
        if all(re.fullmatch(r"[A-Z]{1,2} - \d{1,2}", cell) for cell in cells) and {column, column + 4} & varying:
            return {column: "row", column + 4: "column"}
    marks = {
        mark: column
        for column in range(1, len(first))
        if first[column].isdecimal()
        and (mark := _LEICA.get(first[column - 1], _MARKS.get(first[column - 1].lower()))) in ("row", "column", "well")
    }
    if {"row", "column"} <= set(marks) and {marks["row"], marks["column"]} & varying:
        return {marks["row"]: "row", marks["column"]: "column"}
    if "well" in marks and marks["well"] in varying:
        return {marks["well"]: "well"}
    return {}


_LEICA = {"U": "column", "V": "row"}  # of MatrixScreener


def _suffix(path: str) -> str:
    name = PurePosixPath(path).name.lower()
    longest = next((suffix for suffix in TIFF_SUFFIXES if name.endswith(suffix)), None)
    return longest or PurePosixPath(name).suffix or "files without a suffix"
