"""What is done with an output that is there already: resumed, checked, or replaced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hybridfusion_core.batch.records.finished import with_stored_name
from hybridfusion_core.batch.records.paths import BatchPaths
from hybridfusion_core.plates.plate import Plate, PlateField


@dataclass(frozen=True)
class Handling:
    """What is done with an output that is there already.

    Attributes:
        overwrite: begin anew: the plate, its maps and the folder of records are removed, if a batch made them, once the
            first field of the new one is fused; until then a run that fails gives them back.
        recheck: read what was fused before, and fuse again what is damaged.
    """

    overwrite: bool = False
    recheck: bool = False


RESUME = Handling()


def as_stored(plate: Plate, units: Sequence[PlateField], paths: BatchPaths) -> tuple[Plate, Sequence[PlateField]]:
    """Call a plate as it was called when the batch began, if only its folder was renamed."""
    renamed = with_stored_name(plate, paths)
    if renamed is plate:
        return plate, units
    chosen = {(unit.well, unit.field, unit.t) for unit in units}
    return renamed, [unit for unit in renamed.fields() if (unit.well, unit.field, unit.t) in chosen]
