"""Folders of planes that are no one plate: they say the same wells, and nothing says which plate a file is of."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.plates.plane_records import Record

_STEPS = re.compile(r"(?:^|/)(?:TimePoint|ZStep)_\d+(?=/|$)", re.IGNORECASE)
_MOST_FOLDERS = 500  # that are compared with each other; a plate with more of them has one for each well or field
_Told = tuple[set[tuple[int, int]], set[str], set[int], set[str]]


def refuse_several_plates(records: Iterable[Record], name: str) -> None:
    """Refuse planes in folders that differ in no well, field, time or channel: they are plates beside each other.

    Args:
        records: of planes that their names alone describe.
        name: of the folder of them all.

    Raises:
        UserInputError: there are such folders.
    """
    folders: dict[str, _Told] = defaultdict(lambda: (set(), set(), set(), set()))
    for record in records:
        if record.file is not None:
            wells, fields, times, channels = folders[_STEPS.sub("", record.file.rpartition("/")[0])]
            wells.add(record[:2])
            fields.add(record.field)
            times.add(record.time)
            channels.add(record.channel)
    if len(folders) > _MOST_FOLDERS:
        return
    for one, other in combinations(sorted(folders), 2):
        pairs = zip(folders[one], folders[other], strict=True)
        if all(mine & theirs for mine, theirs in pairs):  # type: ignore[operator]
            raise UserInputError(
                f"{name} holds planes in {one or '.'!r} and in {other or '.'!r} that say the same wells, fields, times "
                "and channels; expected the planes of one plate. Name the folder of one plate."
            )
