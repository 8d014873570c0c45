"""`hybridfusion batch`: what a plate holds, which of it is chosen, and what fusing it would take."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hybridfusion_core.errors import printable
from hybridfusion_core.plates import Plate, Selection, Unit, open_plate, read_failures, select
from hybridfusion_core.plates.forecast import Forecast, forecast
from hybridfusion_core.plates.layouts import layout
from hybridfusion_core.plates.well_names import row_letters
from hybridfusion_core.request import FuseRequest
from hybridfusion_core.store.creating import refuse_input_as_output

_SHOWN = 10  # failures, in the text
_LARGEST_MAP = (48, 72)


def dry_run(
    plate: Plate, units: Sequence[Unit], request: FuseRequest, options: argparse.Namespace
) -> tuple[dict[str, Any], str]:
    """Say what a batch would do, as a summary and as text.

    Args:
        plate: as it was opened.
        units: that were chosen.
        request: how they would be fused.
        options: for the output and the scale.
    """
    found = forecast(units, request, z_step_um=options.z_step, pixel_size_um=options.pixel_size)
    summary = _summary(plate, units, found, Path(options.output))
    summary |= {f"{name}_um": value for name in ("z_step", "pixel_size") if (value := getattr(options, name))}
    return summary, "\n".join([*_table(plate, summary), "", *plate_map(plate, units, found), *_failures(found)])


def open_selection(options: argparse.Namespace) -> tuple[Plate, tuple[Unit, ...]]:
    """Open the plate that was named and choose from it; what is odd about it goes to stderr."""
    only = None if options.only is None else read_failures(Path(options.only))
    plate = open_plate(options.input, pattern=options.pattern)
    refuse_input_as_output(Path(options.output), [plate.folder])
    kind = layout(plate.layout)
    warnings = list(plate.warnings)
    if kind.experimental:
        warnings.append(
            f"{kind.title} is experimental: no files of the vendor have been read with it yet. Check the table."
        )
    for warning in warnings:
        print(f"hybridfusion: warning: {warning}", file=sys.stderr)
    chosen = Selection(options.wells, options.fields, options.times, options.pilot, only)
    return plate, select(plate, chosen)


def _summary(plate: Plate, units: Sequence[Unit], found: Forecast, output: Path) -> dict[str, Any]:
    imaging = plate.imaging
    per_well = Counter(well for well, _ in {(unit.well, unit.field) for unit in units})
    times = Counter((unit.well, unit.field) for unit in units)
    return {
        "plate": printable(plate.name),  # a name that is no text cannot be printed, in JSON either
        "layout": plate.layout,
        "experimental": layout(plate.layout).experimental,
        "rows": plate.rows,
        "columns": plate.columns,
        "wells": len(per_well),
        "fields_per_well": _range(per_well.values()),
        "times_per_field": _range(times.values()),
        "units": len(units),
        "channels": [printable(channel.name) for channel in imaging.channels],
        "slices": list(found.slices),
        "plane": None if imaging.plane is None else list(imaging.plane),
        "dtype": imaging.dtype,
        "pixel_size_um": imaging.y.step_um,
        "z_step_um": imaging.z.step_um,
        "input_bytes": found.input_bytes,
        "output_bytes_at_most": found.output_bytes,
        "disk_free_bytes": _free(output),
        "seconds_expected": None if found.seconds is None else round(found.seconds, 1),
        "settings": found.settings,
        "single_slice": found.single,
        "failing": [
            {"well": unit.well, "field": printable(unit.field), "time": unit.t, "reason": printable(reason)}
            for unit, reason in found.failing
        ],
        "warnings": list(plate.warnings),
    }


def _range(values: Any) -> list[int]:
    counts = list(values)
    return [min(counts), max(counts)]


def _free(output: Path) -> int:
    """Return what is free on the disk that the output would go to."""
    folder = output.absolute().parent
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _table(plate: Plate, summary: dict[str, Any]) -> Iterator[str]:
    title = layout(plate.layout).title + (", experimental" if summary["experimental"] else "")
    plane, settings = summary["plane"], summary["settings"]
    failing, single = len(summary["failing"]), summary["single_slice"]
    rows = {
        "plate": f"{plate.name} ({title})",
        "wells": f"{summary['wells']} of {plate.rows} × {plate.columns}",
        "fields per well": _span(summary["fields_per_well"]),
        "times per field": _span(summary["times_per_field"]),
        "to fuse": f"{summary['units']} fields × times" + (f", {failing} of them will fail" if failing else ""),
        "channels": ", ".join(summary["channels"]) or "not stated",
        "slices": _span(summary["slices"]) + (f"; {single} fields have only one" if single else ""),
        "plane": "not stated" if plane is None else f"{plane[0]} × {plane[1]} {summary['dtype']}",
        "pixel size": _um(summary["pixel_size_um"]),
        "z step": _um(summary["z_step_um"]),
        "model": settings.get("model") or "none",
        "input": _bytes(summary["input_bytes"]),
        "output": f"at most {_bytes(summary['output_bytes_at_most'])} before compression; "
        f"{_bytes(summary['disk_free_bytes'])} are free",
        "time": f"{_time(summary['seconds_expected'])} on this computer, one field after the other",
    }
    return (f"{key:>18}: {printable(str(value))}" for key, value in rows.items())


def plate_map(plate: Plate, units: Sequence[Unit], found: Forecast) -> Iterator[str]:
    """Draw the plate: the number of chosen fields in each well, with "!" where some of them will fail."""
    at = {well.name: (well.row_index, well.column_index) for well in plate.wells}
    counts = Counter(at[well] for well, _ in {(unit.well, unit.field) for unit in units})
    broken = {at[unit.well] for unit, _ in found.failing}
    rows, columns = range(plate.rows), range(plate.columns)
    if plate.rows > _LARGEST_MAP[0] or plate.columns > _LARGEST_MAP[1]:
        rows, columns = (sorted({place[axis] for place in at.values()}) for axis in (0, 1))  # type: ignore[assignment]
    width = max(3, 2 + max(len(str(count)) for count in counts.values()))
    yield "   " + "".join(f"{column + 1:>{width - 1}} " for column in columns).rstrip()
    for row in rows:
        cells = ((counts.get((row, column)), (row, column) in broken) for column in columns)
        line = "".join(f"{count or '.':>{width - 1}}{'!' if bad else ' '}" for count, bad in cells)
        yield f"{row_letters(row):>2} {line}".rstrip()
    yield f"fields to fuse in each well{'; ! some of them will fail' if broken else ''}"


def _failures(found: Forecast) -> Iterator[str]:
    if found.failing:
        yield ""
        for unit, reason in found.failing[:_SHOWN]:
            yield printable(f"{unit.name}: {reason}")
        if len(found.failing) > _SHOWN:
            yield f"… and {len(found.failing) - _SHOWN} more"


def _span(values: Sequence[int]) -> str:
    return str(values[0]) if values[0] == values[1] else f"{values[0]} to {values[1]}"


def _um(value: float | None) -> str:
    return "not stated" if value is None else f"{value:.4g} µm"


def _bytes(count: int | None) -> str:
    if count is None:
        return "an unknown number of bytes"
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB")):
        if count >= 1 << power:
            return f"{count / (1 << power):,.1f} {unit}"
    return f"{count / 1024:,.0f} KiB"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "an unknown time"
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
