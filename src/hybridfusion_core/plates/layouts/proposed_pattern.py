"""A pattern for names that no layout knows: what varies between them, and what stands before it, tells its meaning."""

from __future__ import annotations

import re
from collections import Counter

from hybridfusion_core.errors import HybridFusionError
from hybridfusion_core.plates.layouts.pattern import parse_pattern
from hybridfusion_core.plates.listing import Listing
from hybridfusion_core.plates.well_names import well_index

_TOKEN = re.compile(r"\d+|[A-Za-z]+|[^A-Za-z0-9]")
_MOST_NAMES = 2000  # that are compared to propose a pattern
# What stands before a number, as far as names of files agree; "p" is a position, a plane or a plate and tells nothing.
_MARKS = {
    "z": "z", "zstep": "z", "slice": "z", "plane": "z", "stack": "z", "focus": "z",
    "t": "time", "time": "time", "tp": "time", "timepoint": "time",
    "f": "field", "fld": "field", "fov": "field", "field": "field", "s": "field", "site": "field", "pos": "field",
    "position": "field", "xy": "field",
    "c": "channel", "ch": "channel", "channel": "channel", "w": "channel", "wv": "channel",
    "well": "well", "r": "row", "row": "row", "col": "column", "column": "column",
}  # fmt: skip
_LEICA = {"U": "column", "V": "row"}  # of MatrixScreener


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
    if "row" in marks and "column" not in marks:  # r01c02: beside a row, c is no channel
        beside = [at for at in range(1, len(first)) if first[at].isdecimal() and first[at - 1].lower() == "c"]
        marks |= {"column": beside[0]} if beside else {}
    if {"row", "column"} <= set(marks) and {marks["row"], marks["column"]} & varying:
        return {marks["row"]: "row", marks["column"]: "column"}
    if "well" in marks and marks["well"] in varying:
        return {marks["well"]: "well"}
    return {}
