"""Names of the files of fused fields: the user's template, filled with names from untrusted files.

What is filled in is letters, digits, "-" and "_" only, so that a name stays one name in one folder; and every name of
a plate is made before anything is computed, so that no two results meet in one file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from string import Formatter

from hybridfusion_core.batch.records.paths import safe_name
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.plates.field_stack import find_channels
from hybridfusion_core.plates.plane_records import number_name
from hybridfusion_core.plates.plate import PlateField

FIELDS = ("plate", "well", "row", "column", "field", "t", "channel", "channel_name")
_OF_CHANNELS = {"channel", "channel_name"}
_FORBIDDEN = re.compile(r'[/\\<>:"|?*]')  # by some system, or a way out of the folder
_PADDING = re.compile("(0[1-9])?")
_LONGEST = 200  # bytes; 255 fit on most disks, with what stands before and after it while it is written
_EXAMPLE = "'{plate}_{well}_T{t:04}F{field:03}C{channel:02}"


class NameTemplate:
    """A name with {fields} in it.

    Args:
        text: such as "{plate}_{well}_T{t:04}F{field:03}C{channel:02}.tif"; ":04" pads numbers with zeros.
        suffix: that it must end in, ".tif" or ".ome.tif".

    Raises:
        UserInputError: it cannot be understood, or would be no name of a file.
    """

    def __init__(self, text: str, suffix: str) -> None:
        self._text = text
        self._expected = f"a name such as {_EXAMPLE}{suffix}', of text and {{{'}, {'.join(FIELDS)}}}"
        try:
            self._parts = list(Formatter().parse(text))
        except ValueError as error:
            raise self._wrong(f"cannot be understood ({error})") from error
        for literal, field, padding, conversion in self._parts:
            if _FORBIDDEN.search(literal) or not literal.isprintable():
                raise self._wrong(f"has {literal!r} in it, which is no part of a file's name everywhere")
            if field is not None and (field not in FIELDS or conversion):
                raise self._wrong(f"has the field {{{field}}}, which is unknown")
            if not _PADDING.fullmatch(padding or ""):
                raise self._wrong(f"has {padding!r} after {{{field}}}; only :02 to :09 are known")
        if not text.endswith(suffix) or (suffix == ".tif" and text.endswith(".ome.tif")):
            raise self._wrong(f"does not end in {suffix}")
        if text.startswith((".", "-", " ")):
            raise self._wrong(f"begins with {text[0]!r}")
        self.fields = frozenset(field for _, field, _, _ in self._parts if field is not None)

    @property
    def by_channel(self) -> bool:
        """Whether every channel has a file of its own."""
        return bool(_OF_CHANNELS & self.fields)

    def names(self, unit: PlateField, channels: Sequence[int]) -> tuple[str, ...]:
        """Return the names of the files of a unit: one for each channel, or one for all.

        Args:
            unit: a field at one time point.
            channels: indices of those that are fused.
        """
        known = _values(unit)
        if not self.by_channel:
            return (self._filled(known),)
        return tuple(
            self._filled({**known, "channel": index + 1, "channel_name": _plain(unit.imaging.channels[index].name)})
            for index in channels
        )

    def labels(self, unit: PlateField, channels: Sequence[int]) -> tuple[str, ...]:
        """Return what tells the files of a unit apart in a table: letters, digits and "_", all different.

        Args:
            unit: a field at one time point.
            channels: indices of those that are fused.
        """
        if not self.by_channel:
            return ("fused",)
        names = [_plain(unit.imaging.channels[index].name).replace("-", "_") for index in channels]
        return tuple(
            name if names.count(name) == 1 else f"{name}_{index + 1}"
            for name, index in zip(names, channels, strict=True)
        )

    def check(self, units: Iterable[PlateField], channels: Sequence[str] | None) -> None:
        """Make all names, and see that they are different and short enough.

        Args:
            units: all of the plate that may ever be fused.
            channels: names or indices of those that are fused; None means all.

        Raises:
            UserInputError: two results would have one name, or a name is too long.
        """
        owners: dict[str, tuple[PlateField, int]] = {}
        for unit in units:
            for index, name in enumerate(self.names(unit, find_channels(unit, channels))):
                if len(name.encode("utf-8", "replace")) > _LONGEST:
                    raise self._wrong(f"gives {name!r}, of more than {_LONGEST} bytes")
                # Some disks take upper and lower case for the same.
                owner = owners.setdefault(name.casefold(), (unit, index))
                if owner[0] is not unit or owner[1] != index:
                    whose = f"two channels of {unit.name}" if owner[0] is unit else f"{owner[0].name} and {unit.name}"
                    raise self._wrong(f"gives {whose} one name, {name!r}")

    def _filled(self, known: Mapping[str, int | str]) -> str:
        return "".join(
            literal + ("" if field is None else _text(known[field], padding or ""))
            for literal, field, padding, _ in self._parts
        )

    def _wrong(self, found: str) -> UserInputError:
        return UserInputError(f"--name {self._text!r} {found}; expected {self._expected}.")


def _values(unit: PlateField) -> dict[str, int | str]:
    """Return what stands for each field; numbers where they are some, so that they can be padded."""
    column, field = number_name(unit.column), number_name(unit.field)
    return {
        "plate": _plain(unit.plate),
        "well": padded_well(unit),
        "row": safe_name(unit.row),
        "column": _number(column),
        "field": _number(field),
        "t": unit.t,
    }


def padded_well(unit: PlateField) -> str:
    """Return the name of a well with a column of two digits, such as "B03", so that names sort; letters and digits."""
    column = number_name(unit.column)
    return safe_name(unit.row + (f"{int(column):02d}" if column.isdecimal() and column.isascii() else column))


def _number(name: str) -> int | str:
    return int(name) if name.isdecimal() and name.isascii() and len(name) < 10 else safe_name(name)


def _text(value: int | str, padding: str) -> str:
    return format(value, padding) if isinstance(value, int) else value


def _plain(name: str) -> str:
    """Return a name for people: what is no letter, digit or "-" becomes "_"."""
    return re.sub("[^A-Za-z0-9-]+", "_", name)[:60].lstrip("-") or "_"
