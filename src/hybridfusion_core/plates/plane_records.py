"""What a reader of one layout finds, before anybody asks whether it is complete."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from hybridfusion_core.plates.plate import Acquisition
from hybridfusion_core.stack import Axis, Channel

_UNKNOWN = Axis()


class Record(NamedTuple):
    """One plane, as a name or an index states it.

    Attributes:
        row: of the well, from 0.
        column: of the well, from 0.
        field: name of the field, numbers without leading zeros.
        time: as numbered by the microscope.
        channel: key of the channel in `Findings.channels`.
        z: as numbered by the microscope.
        file: path in the listing, or None if there is no such file.
        named: what the index calls the file; "" if no index does.
        problem: why the plane is no good although it is listed, as "the microscope reports an error"; or "".
        z_um, y_um, x_um: position, or None.
        acquisition: id, or None.
    """

    row: int
    column: int
    field: str
    time: int
    channel: str
    z: int
    file: str | None
    named: str = ""
    problem: str = ""
    z_um: float | None = None
    y_um: float | None = None
    x_um: float | None = None
    acquisition: int | None = None


class Failure(NamedTuple):
    """Something that the microscope says went wrong; None where it does not say which."""

    row: int
    column: int
    field: str | None
    time: int | None
    channel: str | None
    reason: str


@dataclass(frozen=True)
class Findings:
    """Everything that the reader of a layout found in files of planes.

    Attributes:
        records: one per plane.
        channels: by the key that records use.
        name: of the plate.
        index: name of the file that lists the planes, or None if only the names of the files tell.
        rows, columns: of the plate, 0 if unknown.
        y, x, t, z: physical steps; z where heights of single planes do not say it.
        acquisitions: runs, if told apart.
        metadata: files that were read.
        warnings: what the user should know.
        wells: rows and columns as written, where they are not the usual letters and two digits.
        failures: what went wrong beside the planes that records name.
        promised: the index says in general what there is, not plane by plane; what no field has was not acquired.
        projections: that the microscope made along z; they are none of the planes.
        unlisted: files that look like planes and that the index does not list.
    """

    records: list[Record]
    channels: dict[str, Channel]
    name: str
    index: str | None = None
    rows: int = 0
    columns: int = 0
    y: Axis = _UNKNOWN
    x: Axis = _UNKNOWN
    t: Axis = _UNKNOWN
    z: Axis = _UNKNOWN
    acquisitions: tuple[Acquisition, ...] = ()
    metadata: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    wells: dict[tuple[int, int], tuple[str, str]] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    promised: bool = False
    projections: tuple[Record, ...] = ()
    unlisted: dict[tuple[int, int, str, int, str, int], str] = field(default_factory=dict)


def number_name(text: str) -> str:
    """Return the name of a field: numbers lose leading zeros, since "1" and "001" are one field."""
    return str(int(text)) if text.isdecimal() and text.isascii() else text
