"""Which part of a name is the well and which the field: the part that tells the files apart.

"H9_mitotracker_B02_f1" has two parts that look like a well. A part that is the same in every name says what all files
have in common, a cell line or a day, while another one varies. Where several parts vary, or none does, nothing but the
user knows: that is a question, not a guess.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.plates.plane_records import number_name
from hybridfusion_core.plates.well_names import row_letters, well_index

_WELL = re.compile(r"(?P<prefix>[Ww]ell)?(?P<well>(?(prefix)[A-Za-z]{1,2}|[A-Z]{1,2})\d{1,2})")
# As Harmony and others write it, "r02c03f01": row and column by their numbers.
_BY_NUMBER = re.compile(r"(?<![A-Za-z0-9])r0*(\d{1,2})[_-]?c0*(\d{1,2})(?![0-9])[_-]?", re.I)
_LOWER = re.compile(r"[a-z]{1,2}\d{1,2}")
_FIELD = re.compile(r"(?P<prefix>fov|field|site|position|pos|xy|[fsp])?(?P<number>\d{1,6})", re.IGNORECASE)
# "Site_0" and "Well B02" are one part each, although a separator stands inside.
_GLUE = re.compile(
    r"(?<![A-Za-z0-9])(?:(well)[ _-](?=[A-Za-z]{1,2}\d)|(fov|field|site|position|pos|xy|[fsp])[ _-](?=\d))", re.I
)
_DOUBTFUL = ("s", "p")  # also how genes and samples are called: p53, S6
_LARGEST = (48, 72)  # rows and columns of the largest plate that is made
_SHOWN = 3

Place = tuple[tuple[int, int], str]  # row and column from 0; name of the field


@dataclass(frozen=True)
class NamedPlaces:
    """What names tell.

    Attributes:
        places: well and field of every name, in their order.
        warnings: what was taken for granted.
    """

    places: tuple[Place, ...]
    warnings: tuple[str, ...] = ()


def places_of(names: Sequence[str], how: str) -> NamedPlaces | None:
    """Find wells and fields in names.

    Args:
        names: without suffix, folders before them with "/"; all of them different.
        how: what the user can do if the names leave a choice, as a whole sentence.

    Returns:
        Well and field of each name, all of them different; or None if no name has a part like a well.

    Raises:
        UserInputError: several parts could be the well, or only some names have one.
    """
    rows = _as_wells([_parts(name) for name in names])
    wells = _wells(names, rows, how)
    if wells is None:
        return None
    chosen, warnings = wells
    at = [well_index(_well(row[index]) or "") for row, index in zip(rows, chosen, strict=True)]
    others = [[part for index, part in enumerate(row) if index != well] for row, well in zip(rows, chosen, strict=True)]
    found = [place for place in at if place is not None]
    fields, more = _fields(found, others)
    return NamedPlaces(tuple(zip(found, fields, strict=True)), (*warnings, *more))


def varying_wells(names: Sequence[str]) -> list[str]:
    """Return what looks like a well in the first name and differs between names that are built alike."""
    rows = [_parts(name) for name in names]
    if len({len(row) for row in rows}) != 1:
        return []
    columns = (column for column in range(len(rows[0])) if all(_well(row[column]) for row in rows))
    return [rows[0][column] for column in columns if len({row[column] for row in rows}) > 1]


def _as_wells(rows: list[list[str]]) -> list[list[str]]:
    """Write wells in small letters in large ones, where no name has a well: b02 and c03 are wells, f01 and f02 fields.

    What counts up behind one letter is a field, a slice or a time; only a part whose letter differs too is a well.
    """
    if any(_well(part) for row in rows for part in row) or len({len(row) for row in rows}) != 1:
        return rows
    columns = [
        column
        for column in range(len(rows[0]))
        if all(_LOWER.fullmatch(row[column]) and _well(row[column].upper()) for row in rows)
        and len({row[column].rstrip("0123456789") for row in rows}) > 1
    ]
    return [[part.upper() if at in columns else part for at, part in enumerate(row)] for row in rows]


def _by_letters(match: re.Match[str]) -> str:
    row, column = int(match[1]), int(match[2])
    inside = 0 < row <= _LARGEST[0] and 0 < column <= _LARGEST[1]
    return f"{row_letters(row - 1)}{column:02d}_" if inside else match[0]


def _parts(name: str) -> list[str]:
    glued = _GLUE.sub(lambda match: match[1] or match[2], _BY_NUMBER.sub(_by_letters, name))
    return [part for part in re.split(r"[^A-Za-z0-9]+", glued) if part]


def _well(part: str) -> str | None:
    """Return the well that a part names, if a plate has it: HT29 and p53 are in no plate."""
    match = _WELL.fullmatch(part)
    at = well_index(match["well"]) if match is not None else None
    return match["well"] if match and at and at[0] < _LARGEST[0] and at[1] < _LARGEST[1] else None


def _wells(names: Sequence[str], rows: list[list[str]], how: str) -> tuple[list[int], list[str]] | None:
    """Return which part of each name is the well, and what was taken for granted."""
    candidates = [[index for index, part in enumerate(row) if _well(part)] for row in rows]
    explicit = [
        [index for index in found if row[index][:4].lower() == "well"]
        for row, found in zip(rows, candidates, strict=True)
    ]
    if all(len(each) == 1 for each in explicit):
        return [each[0] for each in explicit], []
    if not any(candidates):
        return None
    silent = [name for name, found in zip(names, candidates, strict=True) if not found]
    if silent:
        telling = next(name for name, found in zip(names, candidates, strict=True) if found)
        raise UserInputError(
            f"{len(silent)} of {len(names)} names have no part that looks like a well, such as {silent[0]!r}; others "
            f"have one, such as {telling!r}; expected a well in all names, or in none. {how}"
        )
    if len({len(row) for row in rows}) == 1:
        return _by_column(rows, set.intersection(*map(set, candidates)), candidates, how)
    return _by_difference(rows, candidates, how)


def _by_column(
    rows: list[list[str]], columns: set[int], candidates: list[list[int]], how: str
) -> tuple[list[int], list[str]]:
    varying = [column for column in sorted(columns) if len({row[column] for row in rows}) > 1]
    if len(varying) == 1:
        return varying * len(rows), []
    if not varying and len(columns) == 1 and all(len(each) == 1 for each in candidates):
        return _lone([*columns] * len(rows), rows, how)
    if varying or len(columns) > 1:
        raise _question(
            [rows[0][column] for column in varying or sorted(columns)], rows, varying or sorted(columns), how
        )
    return _by_difference(rows, candidates, how)


def _by_difference(rows: list[list[str]], candidates: list[list[int]], how: str) -> tuple[list[int], list[str]]:
    """Choose among parts of names that are built differently: what all of them have says nothing."""
    words = [[row[index] for index in found] for row, found in zip(rows, candidates, strict=True)]
    shared = set.intersection(*map(set, words))
    rest = [[index for index in found if row[index] not in shared] for row, found in zip(rows, candidates, strict=True)]
    chosen = candidates if not any(rest) else rest
    odd = next((index for index, each in enumerate(chosen) if len(each) != 1), None)
    if odd is not None:
        raise _question([rows[odd][index] for index in candidates[odd]], rows, [], how)
    found = [each[0] for each in chosen]
    return (found, []) if any(rest) else _lone(found, rows, how)


def _lone(found: list[int], rows: list[list[str]], how: str) -> tuple[list[int], list[str]]:
    """Take a part that is the same in all names for the well only where its place leaves no doubt.

    A cell line or a day stands in all names, too; Micro-Manager calls positions "A1-Site_0" and nothing else.
    """
    sites = all(len(row) == 2 and _marked(row[1]) == "site" for row in rows)
    if len(rows) == 1 or sites:
        return found, []
    part = rows[0][found[0]]
    raise UserInputError(
        f"{part!r} stands in all {len(rows)} names: it is their well, or something else that they have in common, such "
        f"as a cell line or a day; expected a well that tells the files apart. {how}"
    )


def _question(found: Sequence[str], rows: list[list[str]], columns: Sequence[int], how: str) -> UserInputError:
    shown = " or ".join(
        f"{part!r}" + (f" (also {_some({row[column] for row in rows} - {part})})" if len(rows) > 1 and columns else "")
        for part, column in zip(found, columns or range(len(found)), strict=False)
    )
    return UserInputError(
        f"The names have more than one part that could be the well: {shown}; expected one that tells the files apart. "
        f"{how}"
    )


def _some(words: set[str]) -> str:
    ordered = sorted(words)
    return ", ".join(ordered[:_SHOWN]) + (", …" if len(ordered) > _SHOWN else "") if ordered else "nothing else"


def _fields(wells: Sequence[tuple[int, int]], rows: list[list[str]]) -> tuple[list[str], list[str]]:
    """Name the fields by the part that tells the files of a well apart."""
    if len({len(row) for row in rows}) > 1:
        whole, rows = rows, [[part for part in row if _marked(part)] for row in rows]
        if len({len(row) for row in rows}) > 1:
            return _joined(wells, whole, ())
    columns = range(len(rows[0]))
    varying = [column for column in columns if len({row[column] for row in rows}) > 1]
    marked = [column for column in columns if all(_marked(row[column]) for row in rows)]
    apart = [column for column in varying if _unique(wells, [row[column] for row in rows])]
    # A part that varies and is marked as a field comes first, then one whose mark is no gene's and no sample's.
    sure = [column for column in marked if _marked(rows[0][column]) not in _DOUBTFUL]
    preferred = [
        *(column for column in apart if column in marked and column in sure),
        *(column for column in apart if column in marked),
        *(column for column in apart if rows[0][column].isdecimal()),
        *apart,
    ]
    if len(set(wells)) == len(wells):
        named = (
            [column for column in sure if column in varying]
            or sure
            or [column for column in marked if column in varying]
        )
        return ([_number(row[named[0]]) for row in rows], []) if len(named) == 1 else (["1"] * len(rows), [])
    if preferred:
        return [_number(row[preferred[0]]) for row in rows], []
    return _joined(wells, rows, varying)


def _joined(
    wells: Sequence[tuple[int, int]], rows: list[list[str]], varying: Sequence[int]
) -> tuple[list[str], list[str]]:
    """Name fields by everything in which their names differ, where no part alone tells them apart."""
    names = ["-".join(_number(row[column]) for column in varying) or "-".join(row) for row in rows]
    if not _unique(wells, names):
        names = ["-".join(row) for row in rows]
    if not _unique(wells, names):
        names = [f"{name}-{index + 1}" for index, name in enumerate(names)]
    warning = (
        "No single part of the names tells the files of a well apart; every file is a field of its own, called "
        f"{names[0]!r} and so on. If they are times or channels of one field, say so with --pattern."
    )
    return names, [warning]


def _unique(wells: Sequence[tuple[int, int]], names: Sequence[str]) -> bool:
    return len({(well, _number(name)) for well, name in zip(wells, names, strict=True)}) == len(wells)


def _marked(part: str) -> str | None:
    """Return the mark of a field before a number, such as "f" or "site", in lower case."""
    match = _FIELD.fullmatch(part)
    return match["prefix"].lower() if match is not None and match["prefix"] else None


def _number(part: str) -> str:
    match = _FIELD.fullmatch(part)
    return number_name(match["number"]) if match is not None else part
