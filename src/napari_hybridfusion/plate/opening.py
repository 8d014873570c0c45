"""A click on a well: the layers of one of its fields, fused if it is, else its stack."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridfusion_core.batch.records.paths import BatchPaths, key_of
from hybridfusion_core.batch.records.store import unit_record
from hybridfusion_core.plates.plate import PlateField
from napari_hybridfusion.files.fields import field_layers
from napari_hybridfusion.files.reader import read
from napari_hybridfusion.job.worker import Steps
from napari_hybridfusion.layers.stacks import LayerData
from napari_hybridfusion.plate.job import Seen


@dataclass(frozen=True)
class Opened:
    """A field that was opened.

    Attributes:
        unit: which; None if the well has no images.
        fused: whether it is the fused one.
        layers: to show it.
    """

    unit: PlateField | None
    fused: bool
    layers: list[LayerData]


def opening(seen: Seen, well: str, field: str | None = None) -> Steps:
    """Open a field of a well, fused if it is; no pixels are read but a few for the contrast.

    Args:
        seen: the plate.
        well: its name.
        field: its name; None takes the first one that is fused, or else the first one.

    Returns:
        (on exhaustion) an `Opened`.

    Raises:
        HybridFusionError: the field cannot be opened, and why.
    """
    fused = seen.states.first_fused(well, field)
    unit = fused or seen.states.first(well, field)
    yield
    if unit is None:
        return Opened(None, False, [])
    whole = fused is not None and seen.paths is not None
    layers = _fused(seen.paths, unit) if whole and seen.paths is not None else field_layers(unit)
    return Opened(unit, whole, [_named(layer, unit) for layer in layers])


def _fused(paths: BatchPaths, unit: PlateField) -> list[LayerData]:
    if not paths.files:
        return read(str(paths.output.joinpath(*key_of(unit))))
    # The first time point: files hold one each. Records are files too, and anybody may have written into them.
    files = ((unit_record(paths, key_of(unit), unit.t) or {}).get("files") or {}).values()
    names = dict.fromkeys(str(name) for name in files if Path(str(name)).name == name)
    return [layer for name in names for layer in read(str(paths.output / name))]


def _named(layer: LayerData, unit: PlateField) -> LayerData:
    data, about, kind = layer
    named: dict[str, Any] = {**about, "name": f"{unit.well}/{unit.field} {about['name']}"}
    return data, named, kind
