"""Write a result as OME-Zarr 0.5 or 0.4: `X.ome.zarr` with the decision as labels, `X.maps.ome.zarr` beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import LocalStore

from hybridfusion_core.io.disk.atomic import AtomicOutput, Delivery
from hybridfusion_core.io.pyramid import build
from hybridfusion_core.io.result_spec import ResultSpec
from hybridfusion_core.io.suffixes import result_paths
from hybridfusion_core.io.zarr import ngff_writing
from hybridfusion_core.io.zarr.arrays import RecordedArray, ZarrFormat, create_array, open_array
from hybridfusion_core.io.zarr.ngff_writing import Ngff
from hybridfusion_core.stack import Channel


class OmeZarrOutput(AtomicOutput):
    """A result being written as OME-Zarr.

    Args:
        path: the final name, ending in ".ome.zarr".
        spec: everything but the pixels.
        block: what is written at once along Y and X; rounded up to whole chunks it is one shard, so
            that writers of different blocks never meet in one file.
        overwrite: replace an existing result.
        ngff: "0.5" (zarr 3, sharded), or "0.4" (zarr 2, one file per chunk) for older readers.
    """

    def __init__(self, path: Path, spec: ResultSpec, *, block: int, overwrite: bool, ngff: Ngff = "0.5") -> None:
        maps = result_paths(path)["maps"]
        super().__init__(Delivery((path, maps), overwrite=overwrite), spec)
        self._block = block
        self._ngff: Ngff = ngff
        self._zarr_format: ZarrFormat = 2 if ngff == "0.4" else 3
        root, maps_root = self._delivery.part(path), self._delivery.part(maps)
        self._folders = {"fused": root, "decision": root / "labels" / "decision", "maps": maps_root}
        try:
            self.arrays = {name: self._create(name) for name in spec.array_shapes()}
        except BaseException:
            self._close()
            raise

    def _create(self, name: str) -> RecordedArray:
        folder = self._folders[name]
        shape, dtype = self._spec.array_shapes()[name]
        zarr.create_group(LocalStore(folder), zarr_format=self._zarr_format)
        fill = np.nan if name == "maps" else 0
        array = create_array(folder, "0", shape, dtype, block=self._block, fill=fill, zarr_format=self._zarr_format)
        return RecordedArray(folder, "0", array)

    def _finish(self) -> None:
        for name, array in self.arrays.items():
            array.verify()
            build(self._folders[name], method="nearest" if name == "decision" else "mean", block=self._block)
        self._describe()

    def _describe(self) -> None:
        """Write the metadata; last, since display windows come from the finished pyramid."""
        spec, root, ngff = self._spec, self._folders["fused"], self._ngff
        provenance = {"hybridfusion": json.loads(json.dumps(dict(spec.provenance), sort_keys=True))}
        channels = _with_windows(spec, root)
        _set(root, ngff_writing.image_attributes(spec, spec.name, channels, spec.dtype, ngff) | provenance)
        if "decision" in self.arrays:
            zarr.create_group(LocalStore(root / "labels"), zarr_format=self._zarr_format)
            _set(root / "labels", ngff_writing.labels_group_attributes(ngff))
            _set(self._folders["decision"], ngff_writing.label_attributes(spec, "decision", ngff) | provenance)
        if "maps" in self.arrays:
            maps = [Channel(each.name, window=each.window) for each in spec.maps]
            float32 = np.dtype(np.float32)
            described = ngff_writing.image_attributes(spec, f"{spec.name} maps", maps, float32, ngff)
            _set(self._folders["maps"], described | provenance)


def _set(folder: Path, attributes: dict[str, Any]) -> None:
    zarr.open_group(LocalStore(folder), mode="r+").attrs.update(attributes)


def _with_windows(spec: ResultSpec, folder: Path) -> Sequence[Channel]:
    """Give every channel a display window; without one viewers show 16-bit images black."""
    if spec.rgb and spec.dtype.kind != "f":
        return [replace(channel, window=ngff_writing.value_range(spec.dtype)) for channel in spec.channels]
    smallest = open_array(folder, str(len(list(folder.glob("[0-9]*"))) - 1))
    return [
        channel if channel.window else replace(channel, window=_window(np.asarray(smallest[:, index])))
        for index, channel in enumerate(spec.channels)
    ]


def _window(pixels: Any) -> tuple[float, float]:
    known = pixels[np.isfinite(pixels)]
    if not known.size:
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    return low, high if high > low else low + 1.0
