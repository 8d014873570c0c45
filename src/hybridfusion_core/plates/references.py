"""What a microscope made of a stack itself, as a reference beside what is fused: its projections along z."""

from __future__ import annotations

from pathlib import Path

from hybridfusion_core.plates.plate import Plate, PlateField


def vendor_projections(plate: Plate, field: PlateField) -> dict[int, Path]:
    """Return the projections that the microscope wrote of a field at one time point.

    Args:
        plate: as it was opened.
        field: one of its fields.

    Returns:
        Files of single planes by the index of the channel; empty if it wrote none.
    """
    at = next(((well.row_index, well.column_index) for well in plate.wells if well.name == field.well), None)
    return {
        each.channel: Path(plate.folder) / each.file
        for each in plate.projections
        if ((each.row_index, each.column_index), each.field, each.time) == (at, field.field, field.frame.time)
    }
