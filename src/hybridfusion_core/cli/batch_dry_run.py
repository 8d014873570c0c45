"""`hybridfusion batch --dry-run`: what a plate holds, which of it is chosen, and what fusing it would take."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hybridfusion_core.batch.api import BatchPlan
from hybridfusion_core.errors import printable
from hybridfusion_core.plates.forecast import Forecast, forecast
from hybridfusion_core.plates.plate import Plate, PlateField
from hybridfusion_core.plates.summary import summary, table
from hybridfusion_core.plates.well_names import row_letters

_SHOWN = 10  # failures, in the text
_LARGEST_MAP = (48, 72)


def dry_run(plan: BatchPlan) -> tuple[dict[str, Any], str]:
    """Say what a batch would do, as a summary and as text.

    Args:
        plan: what `plan_batch` gave.
    """
    plate, units, choices = plan.plate, plan.units, plan.choices
    choices.check_names(plate)
    scale = {"z_step_um": choices.z_step_um, "pixel_size_um": choices.pixel_size_um}
    if not units:
        return {
            "plate": printable(plate.name),
            "units": 0,
            "warnings": [],
        }, "Nothing is chosen: there is nothing to do."
    found = forecast(units, choices.request, absent=choices.absent, **scale)
    about = summary(plate, units, found, choices.output)
    about |= {name: value for name, value in scale.items() if value}
    warnings = [*found.warnings, *hindrances(choices.output, about)]
    about["warnings"] = [*about["warnings"], *warnings]
    rows = (f"{key:>18}: {value}" for key, value in table(plate, about).items())
    said = [f"warning: {each}" for each in warnings]
    return about, "\n".join([*rows, *said, "", *plate_map(plate, units, found), *_failures(found)])


def hindrances(output: Path, about: dict[str, Any]) -> Iterator[str]:
    """Yield why an output could not be written, as far as that shows before it is.

    Args:
        output: of the batch.
        about: what `summary` gave.
    """
    folder = output.parent
    if not folder.is_dir():
        yield f"the folder {folder} does not exist; create it, or choose another output"
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield f"{folder} may not be written; change its permissions, or choose another output"
    wanted, free = about["output_bytes_at_most"], about["disk_free_bytes"]
    if wanted is not None and wanted > free:
        yield (
            f"the results may need {wanted / (1 << 20):,.0f} MiB before compression, and {free / (1 << 20):,.0f} MiB "
            "are free; make room, or choose another disk"
        )


def plate_map(plate: Plate, units: Sequence[PlateField], found: Forecast) -> Iterator[str]:
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
