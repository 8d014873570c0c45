"""Which fields make one mosaic, and where the stage says that they lie."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from hybridfusion_core.batch.records.paths import FieldKey, field_key, safe_name
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.plates.plate import Field, Plate, PlateField, Well

Stitch = Literal["none", "stage", "register"]
NAME = "stitched"
_SHOWN = 5


@dataclass(frozen=True)
class Placed:
    """A fused field and where its first pixel lies on the stage.

    Attributes:
        key: of the field.
        name: as the plate names it.
        y: pixels, down.
        x: pixels, to the right.
        missing: indices of time points in its image that have no pixels.
    """

    key: FieldKey
    name: str
    y: float
    x: float
    missing: tuple[int, ...] = ()


@dataclass(frozen=True)
class Mosaic:
    """One image of a well that is made of several fields.

    Attributes:
        well: as written.
        key: where it stands: row, column and the name of the image.
        how: placed by the "stage", or the overlaps of neighbours are to "register" them.
        fields: that are fused, in the order of the plate.
        lacking: names of fields that are not.
        mark: equal for mosaics of equal fields at equal places.
    """

    well: str
    key: FieldKey
    how: Stitch
    fields: tuple[Placed, ...]
    lacking: tuple[str, ...] = ()
    mark: str = ""


def refuse_unplaceable(plate: Plate, units: tuple[PlateField, ...], pixel_size_um: float | None) -> None:
    """Refuse to stitch what nobody says the place of.

    Args:
        plate: all of it.
        units: that were chosen.
        pixel_size_um: given by the user in place of what the files say.

    Raises:
        UserInputError: fields have no positions or pixels no size, or no well has two fields.
    """
    chosen = {unit.well for unit in units}
    wells = [well for well in plate.wells if well.name in chosen]
    if not any(len(well.fields) > 1 for well in wells) and wells:
        raise UserInputError(
            "--stitch was given, and every well has one field; expected wells of several fields that lie side by side. "
            "Leave it out."
        )
    nowhere = [
        f"{well.name} field {field.name}" for well in wells for field in well.fields if field.position_um is None
    ]
    if nowhere:
        shown = ", ".join(nowhere[:_SHOWN]) + (", …" if len(nowhere) > _SHOWN else "")
        raise UserInputError(
            f"--stitch was given, and {len(nowhere)} fields have no position on the stage ({shown}); expected one for "
            "each. Name the index file of the microscope in place of its images, since names of files say nothing of "
            "positions, or leave --stitch out."
        )
    if pixel_size_um is None and None in (plate.imaging.y.step_um, plate.imaging.x.step_um):
        raise UserInputError(
            "--stitch was given, and the files do not say how large a pixel is; expected its size, to place fields by "
            "the micrometres of the stage. Add --pixel-size."
        )


def mosaics(
    plate: Plate,
    wells: set[str],
    how: Stitch,
    pixel_size_um: float | None,
    missing: Callable[[FieldKey], tuple[int, ...] | None],
) -> Iterator[Mosaic]:
    """Yield what is to be stitched: one mosaic for each acquisition of a well.

    Args:
        plate: all of it.
        wells: names of those that are asked for.
        how: to place fields.
        pixel_size_um: given by the user in place of what the files say.
        missing: indices of time points of a field that have no pixels; None if it has none at all.
    """
    several = len(plate.acquisitions) > 1
    for well in (each for each in plate.wells if each.name in wells):
        for acquisition in dict.fromkeys(field.acquisition for field in well.fields):
            fields = [field for field in well.fields if field.acquisition == acquisition]
            name = f"{NAME}{'' if acquisition is None else acquisition}" if several else NAME
            yield _mosaic(
                plate,
                well,
                fields,
                FieldKey(safe_name(well.row), safe_name(well.column), name),
                how,
                pixel_size_um,
                missing,
            )


def marked(mosaic: Mosaic, records: Callable[[FieldKey], list[Any]]) -> str:
    """Return a checksum of what a mosaic is made of.

    Args:
        mosaic: without one.
        records: fingerprints of the units of a field that are finished.
    """
    parts = [(placed.key, placed.y, placed.x, placed.missing, records(placed.key)) for placed in mosaic.fields]
    return hashlib.sha256(json.dumps([mosaic.key, mosaic.how, parts]).encode()).hexdigest()


def _mosaic(
    plate: Plate,
    well: Well,
    fields: list[Field],
    key: FieldKey,
    how: Stitch,
    pixel_size_um: float | None,
    missing: Callable[[FieldKey], tuple[int, ...] | None],
) -> Mosaic:
    steps = [pixel_size_um or axis.step_um or 1.0 for axis in (plate.imaging.y, plate.imaging.x)]
    placed, lacking = [], []
    for field in fields:
        field_at = field_key(well.row, well.column, field.name)
        holes = missing(field_at)
        if holes is None or field.position_um is None:
            lacking.append(field.name)
        else:
            y, x = (at / step for at, step in zip(field.position_um, steps, strict=True))
            placed.append(Placed(field_at, field.name, y, x, holes))
    return Mosaic(well.name, key, how, tuple(placed), tuple(lacking))
