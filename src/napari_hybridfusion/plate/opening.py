"""A click on a well: the layers of its first field, fused if it is, else its stack."""

from __future__ import annotations

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


def opening(seen: Seen, well: str) -> Steps:
    """Open the first field of a well that is fused, or else the first one; no pixels but a few for the contrast.

    Returns:
        (on exhaustion) layers; empty if the well has no images.

    Raises:
        HybridFusionError: the field cannot be opened, and why.
    """
    fused = seen.states.first_fused(well)
    unit = fused or seen.states.first(well)
    yield
    if unit is None:
        return []
    layers = _fused(seen.paths, unit) if fused is not None and seen.paths is not None else field_layers(unit)
    return [_named(layer, unit) for layer in layers]


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
