"""Names of wells: letters for the row, a number for the column, quadrants in plates of 1536."""

from __future__ import annotations

import re
from collections.abc import Collection

WELL = re.compile(r"([A-Za-z]{1,2})[ -]{0,3}(\d{1,3})(?:\.([ab])([12]))?")
UNUSUAL_ROW = "W"  # of wells that have a number or a name only, and no place on a plate
_PLATES = ((1, 1), (2, 3), (3, 4), (4, 6), (6, 8), (8, 12), (16, 24), (32, 48), (48, 72))


def row_letters(index: int) -> str:
    """Return the letters of a row: A for 0, Z for 25, AA for 26."""
    first, last = divmod(index, 26)
    return (chr(64 + first) if first else "") + chr(65 + last)


def row_index(letters: str) -> int:
    """Return the number of a row, from 0, of one or two letters in either case."""
    index = 0
    for letter in letters.upper():
        index = 26 * index + ord(letter) - 64
    return index - 1


def well_index(name: str) -> tuple[int, int] | None:
    """Return row and column of a well, each from 0, or None if it is no name of a well.

    A plate of 1536 wells may be named by the wells of a plate of 384 and their quarters, as "A01.a2".
    """
    match = WELL.fullmatch(name.strip())
    if match is None or int(match[2]) == 0:
        return None
    row, column = row_index(match[1]), int(match[2]) - 1
    if match[3] is None:
        return row, column
    return 2 * row + "ab".index(match[3]), 2 * column + int(match[4]) - 1


def plate_size(rows: int, columns: int) -> tuple[int, int]:
    """Return rows and columns of the smallest usual plate that holds as many, or the numbers themselves."""
    return next(((y, x) for y, x in _PLATES if rows <= y and columns <= x), (rows, columns))


def stated_size(wells: Collection[tuple[int, int]], rows: int = 0, columns: int = 0) -> tuple[int, int]:
    """Return rows and columns of a plate: as its metadata state, or the smallest usual plate that has all its wells.

    Args:
        wells: rows and columns that are used, from 0.
        rows: that the metadata state; 0 if they do not.
        columns: that the metadata state; 0 if they do not.
    """
    used = max((row + 1 for row, _ in wells), default=0), max((column + 1 for _, column in wells), default=0)
    if rows and columns:
        return max(rows, used[0]), max(columns, used[1])
    return plate_size(max(rows, used[0]), max(columns, used[1]))
