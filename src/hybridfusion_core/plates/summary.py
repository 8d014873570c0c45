"""What a plate holds and what fusing a selection of it would take, in words: the same for terminals and windows."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hybridfusion_core.errors import printable
from hybridfusion_core.plates.forecast import Forecast
from hybridfusion_core.plates.layouts.table import layout
from hybridfusion_core.plates.plate import Plate, PlateField


def plate_warnings(plate: Plate) -> list[str]:
    """Return what the user should know about a plate before it is fused."""
    kind = layout(plate.layout)
    if not kind.experimental:
        return list(plate.warnings)
    experimental = f"{kind.title} is experimental: no real export has been read with it yet. Check the table."
    return [*plate.warnings, experimental]


def summary(plate: Plate, fields: Sequence[PlateField], found: Forecast, output: Path) -> dict[str, Any]:
    """Summarise a plate and a selection of it.

    Args:
        plate: as it was opened.
        fields: that were chosen.
        found: what fusing them would take.
        output: where the result would stand.

    Returns:
        Plain JSON values.
    """
    imaging = plate.imaging
    per_well = Counter(well for well, _ in {(field.well, field.field) for field in fields})
    times = Counter((field.well, field.field) for field in fields)
    return {
        "plate": printable(plate.name),  # a name that is no text cannot be printed, in JSON either
        "layout": plate.layout,
        "experimental": layout(plate.layout).experimental,
        "rows": plate.rows,
        "columns": plate.columns,
        "wells": len(per_well),
        "fields_per_well": _range(per_well.values()),
        "times_per_field": _range(times.values()),
        "units": len(fields),
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
            {"well": field.well, "field": printable(field.field), "time": field.t, "reason": printable(reason)}
            for field, reason in found.failing
        ],
        "warnings": list(plate.warnings),
    }


def table(plate: Plate, about: Mapping[str, Any]) -> dict[str, str]:
    """Return what a person wants to know of a summary, as names and printable values.

    Args:
        plate: as it was opened.
        about: what `summary` gave.
    """
    title = layout(plate.layout).title + (", experimental" if about["experimental"] else "")
    plane, settings = about["plane"], about["settings"]
    failing, single = len(about["failing"]), about["single_slice"]
    rows = {
        "plate": f"{plate.name} ({title})",
        "wells": f"{about['wells']} of {plate.rows} × {plate.columns}",
        "fields per well": _span(about["fields_per_well"]),
        "times per field": _span(about["times_per_field"]),
        "to fuse": f"{about['units']} focal stacks" + (f", {failing} of them will fail" if failing else ""),
        "channels": ", ".join(about["channels"]) or "not stated",
        "slices": _span(about["slices"]) + (f"; {single} fields have only one" if single else ""),
        "plane": "not stated" if plane is None else f"{plane[0]} × {plane[1]} {about['dtype']}",
        "pixel size": _um(about["pixel_size_um"]),
        "z step": _um(about["z_step_um"]),
        "model": settings.get("model") or "none",
        "input": _bytes(about["input_bytes"]),
        "output": f"at most {_bytes(about['output_bytes_at_most'])} before compression; "
        f"{_bytes(about['disk_free_bytes'])} are free",
        "time": f"{_time(about['seconds_expected'])} on this computer, one field after the other",
    }
    return {key: printable(str(value)) for key, value in rows.items()}


def _range(values: Iterable[int]) -> list[int]:
    counts = list(values)
    return [min(counts), max(counts)]


def _free(output: Path) -> int:
    """Return what is free on the disk that the output would go to."""
    folder = output.absolute().parent
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _span(values: Sequence[int]) -> str:
    return str(values[0]) if values[0] == values[1] else f"{values[0]} to {values[1]}"


def _um(value: float | None) -> str:
    return "not stated" if value is None else f"{value:.4g} µm"


def _bytes(count: int | None) -> str:
    if count is None:
        return "an unknown number of bytes"
    for power, field in ((40, "TiB"), (30, "GiB"), (20, "MiB")):
        if count >= 1 << power:
            return f"{count / (1 << power):,.1f} {field}"
    return f"{count / 1024:,.0f} KiB"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "an unknown time"
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
