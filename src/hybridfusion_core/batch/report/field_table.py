"""How every unit of a plate ended, as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from hybridfusion_core.batch.records.failure_list import guarded_cell
from hybridfusion_core.batch.records.paths import BatchPaths, FieldKey, key_of
from hybridfusion_core.batch.records.store import unit_record
from hybridfusion_core.plates.plate import Plate, PlateField

COLUMNS = (
    *("well", "field", "time", "status", "reason", "seconds", "tile", "median_confidence", "in_focus"),
    *(
        "height_low",
        "height_high",
        "height_unit",
        "sharpest_slice",
        "slices",
        "drift_px",
        "drift_taken_px",
        "bias",
        "flags",
        "assess",  # kinds of the warnings of `assess` that a batch can tell; "none" where it found none
    ),
    *("dropped_slices", "not_acquired"),
    *("best_slice", "focus_first", "focus_last"),  # of each channel that decides, in their order
)


@with_config(ConfigDict(extra="ignore"))
@dataclass(frozen=True)
class FocusFigures:
    """In which slices a channel is in focus, counted from 1; see `fusion.focus_range`."""

    channel: str = ""
    best_slice: int | None = None
    first_slice: int | None = None
    last_slice: int | None = None


@with_config(ConfigDict(extra="ignore"))
@dataclass(frozen=True)
class Figures:
    """What `quality.figures` gave."""

    in_focus: float | None = None
    median_confidence: float | None = None
    height: tuple[float, float] | None = None
    height_unit: str | None = None
    sharpest_slice: int | None = None
    slices: int | None = None
    drift_px: float | None = None
    drift_taken_px: float | None = None
    bias: float | None = None
    dropped: tuple[int, ...] = ()
    flags: tuple[str, ...] = ()
    assess: tuple[str, ...] | None = None
    focus: tuple[FocusFigures, ...] = ()


@dataclass(frozen=True)
class Row:
    """How a unit ended.

    Attributes:
        unit: which one.
        status: "done", "failed", or "missing" because it has not been fused yet, or its input changed since.
        reason: of a failure.
        seconds: that it took, or None.
        tile: core of the tiles, pixels, or None.
        figures: of the result.
        files: names of the fused images, where results are files.
        not_acquired: names of channels that read as zeros at this time.
    """

    unit: PlateField
    status: Literal["done", "failed", "missing"]
    reason: str = ""
    seconds: float | None = None
    tile: int | None = None
    figures: Figures = Figures()
    files: tuple[str, ...] = ()
    not_acquired: tuple[str, ...] = ()


_FIGURES = TypeAdapter(Figures)


def field_rows(plate: Plate, paths: BatchPaths, missing: Mapping[FieldKey, set[int]]) -> Iterator[Row]:
    """Yield how every unit of a plate ended.

    Args:
        plate: all of it.
        paths: of the batch.
        missing: time points of fields that are not in the plate; fields that are left out are none of the batch's.
    """
    for unit in plate.fields():
        key = key_of(unit)
        if key not in missing:
            continue
        record = unit_record(paths, key, unit.t) or {}
        if unit.t in missing[key]:
            failed = record.get("status") == "failed"
            yield Row(unit, "failed" if failed else "missing", str(record.get("reason", "")) if failed else "")
        else:
            yield _done(unit, record)


def _done(unit: PlateField, record: Mapping[str, Any]) -> Row:
    try:
        figures = _FIGURES.validate_python(record["figures"])
        files = tuple(str(each) for each in record.get("files", {}).values())
        absent = tuple(str(each) for each in record.get("not_acquired", ()))
        return Row(unit, "done", "", float(record["seconds"]), int(record["settings"]["tile"]), figures, files, absent)
    except (LookupError, TypeError, ValueError, AttributeError, ValidationError):  # another program wrote into it
        return Row(unit, "done")


def report_csv(rows: Sequence[Row]) -> str:
    """Return the table as CSV; what a spreadsheet would take for a formula has an apostrophe before it."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        found = row.figures
        low, high = found.height or (None, None)
        cells = (
            *(row.unit.well, row.unit.field, row.unit.t, row.status, row.reason, row.seconds, row.tile),
            *(found.median_confidence, found.in_focus, low, high, found.height_unit, found.sharpest_slice),
            *(
                found.slices,
                found.drift_px,
                found.drift_taken_px,
                found.bias,
                "; ".join(found.flags),
                told(found.assess),
            ),
            *(" ".join(map(str, found.dropped)), "; ".join(row.not_acquired)),
            *(_by_channel(found.focus, name) for name in ("best_slice", "first_slice", "last_slice")),
        )
        writer.writerow(guarded_cell(cell) if isinstance(cell, str) else _number(cell) for cell in cells)
    return stream.getvalue()


def told(kinds: Sequence[str] | None) -> str:
    """Say which warnings there are; nothing where nobody looked, as in records of earlier versions."""
    return "" if kinds is None else "; ".join(kinds) or "none"


def _by_channel(focus: Sequence[FocusFigures], name: str) -> str:
    """Say something of every channel: a number alone if there is one, else with the channels' names."""
    values = ["" if getattr(each, name) is None else str(getattr(each, name)) for each in focus]
    if len(focus) < 2:
        return "".join(values)
    return "; ".join(f"{each.channel}: {value}" for each, value in zip(focus, values, strict=True))


def _number(cell: float | None) -> str:
    return "" if cell is None else f"{cell:.6g}"
