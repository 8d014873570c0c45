"""Samples of napari's File menu, made in memory; a plate needs files, in a folder that goes with the process."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from hybridfusion_core.scenes.samples.organoid import organoid_stack
from hybridfusion_core.scenes.samples.pair import pair_stack
from hybridfusion_core.scenes.samples.write import write_sample
from napari_hybridfusion.job.meanwhile import meanwhile
from napari_hybridfusion.layers.stacks import LayerData, stack_layers

_GAP = 1.05  # from one well to the next, in widths of a field


def organoid() -> list[LayerData]:
    """Return a synthetic organoid: a focal stack of two channels."""
    return stack_layers(meanwhile(organoid_stack, "making the organoid"))


def pair() -> list[LayerData]:
    """Return two images of one scene, focused near and far, as a stack of two slices."""
    return stack_layers(meanwhile(pair_stack, "making the pair"))


def plate() -> list[LayerData]:
    """Return the first field of every well of a synthetic plate, side by side as on the plate.

    Every layer's metadata say under "hybridfusion", "plate" where the plate lies until the process ends, and under
    "well" which well it shows.
    """
    from hybridfusion_core.plates.open import open_plate  # noqa: PLC0415 - with it come the libraries of all layouts
    from napari_hybridfusion.files.fields import field_layers  # noqa: PLC0415 - and those of a batch

    opened = open_plate(meanwhile(_written_plate, "making the plate"))
    first = {unit.well: unit for unit in reversed(list(opened.fields()))}
    top, left = (min(getattr(well, name) for well in opened.wells) for name in ("row_index", "column_index"))
    return [
        _placed(layer, well.name, opened.folder, (well.row_index - top, well.column_index - left))
        for well in opened.wells
        for layer in field_layers(first[well.name])
    ]


def _placed(layer: LayerData, well: str, folder: str, at: tuple[int, int]) -> LayerData:
    data, about, kind = layer
    shape = (data[0] if about.get("multiscale") else data).shape
    moves = [
        _GAP * place * length * step for place, length, step in zip(at, shape[-2:], about["scale"][-2:], strict=True)
    ]
    metadata = about.get("metadata", {})
    known = {**metadata, "hybridfusion": {**metadata.get("hybridfusion", {}), "plate": folder, "well": well}}
    translate = (*(0.0 for _ in shape[:-2]), *moves)
    return data, {**about, "name": f"{well} {about['name']}", "translate": translate, "metadata": known}, kind


@functools.cache
def _written_plate() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="hybridfusion-", ignore_cleanup_errors=True)
    _KEPT.append(folder)
    return write_sample("plate", Path(folder.name) / "organoids.ome.zarr")[0]


_KEPT: list[tempfile.TemporaryDirectory[str]] = []  # deleted when the process ends
