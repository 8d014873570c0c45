"""Write a result as TIFF or PNG, and stacks as OME-TIFF.

Compressed TIFF and PNG cannot be written by region. The blocks go into zarr arrays in a hidden
folder beside the output; committing streams them into the files.
"""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.io.disk.atomic import AtomicOutput, Delivery, explained
from hybridfusion_core.io.pyramid import build
from hybridfusion_core.io.result_spec import ResultSpec
from hybridfusion_core.io.suffixes import result_paths
from hybridfusion_core.io.tiff.pages import check_written, ome_metadata, write_imagej, write_ome
from hybridfusion_core.io.zarr.arrays import RecordedArray, create_array, open_array
from hybridfusion_core.stack import Axis, Channel

_IMAGEJ_BYTES = 2**32 - 2**25  # pixels; its offsets have 32 bit, and tifffile keeps 32 MiB for the rest


@dataclass(frozen=True)
class Unkept:
    """Stands for a product that the format has no place for; what is written to it is dropped."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __setitem__(self, key: Any, value: Any, /) -> None:
        pass


class ScratchZarrOutput(AtomicOutput):
    """A result whose blocks are collected in zarr arrays and written to files on commit.

    Args:
        path: the final name; its suffix says which arrays are kept: all that the format can hold.
        spec: everything but the pixels.
        block: what is written at once along Y and X.
        overwrite: replace an existing result.
    """

    def __init__(self, path: Path, spec: ResultSpec, *, block: int, overwrite: bool) -> None:
        self._paths = result_paths(path)
        # The scratch folder counts as a part, so that it goes whenever the parts go.
        self._scratch_name = path.with_name(f"{path.name}.scratch")
        super().__init__(Delivery((*self._paths.values(), self._scratch_name), overwrite=overwrite), spec)
        self._block = block
        self._scratch = self._delivery.part(self._scratch_name)
        try:
            zarr.create_group(LocalStore(self._scratch), zarr_format=3)
            self.arrays: Mapping[str, Any] = {
                name: RecordedArray(
                    self._scratch, f"{name}0", create_array(self._scratch, f"{name}0", *stored, block=block)
                )
                for name, stored in spec.array_shapes().items()
                if name in self._paths
            }
        except BaseException:
            self._close()
            raise

    @abstractmethod
    def _write(self, name: str, part: Path) -> None:
        """Write and verify the file of one array."""

    def _finish(self) -> None:
        for name, array in self.arrays.items():
            if isinstance(array, RecordedArray):
                array.verify()
                self._write(name, self._delivery.part(self._paths[name]))
        self._delivery.remove_part(self._scratch_name)

    def _channels(self, name: str) -> Sequence[Channel]:
        spec = self._spec
        if name == "decision":
            return [Channel(each) for each in spec.decision_channels]
        return spec.channels if name == "fused" else [Channel(each.name) for each in spec.maps]

    def _steps(self) -> Mapping[str, Axis]:
        return {"t": self._spec.t, "z": self._spec.z, "y": self._spec.y, "x": self._spec.x}

    def _provenance(self) -> dict[str, Any]:
        return dict(json.loads(json.dumps(dict(self._spec.provenance), sort_keys=True)))


class OmeTiffOutput(ScratchZarrOutput):
    """A result being written as pyramidal OME-TIFF: `X.ome.tif`, `X.decision.ome.tif`, `X.maps.ome.tif`."""

    def __init__(self, path: Path, spec: ResultSpec, *, block: int, overwrite: bool) -> None:
        if np.dtype(spec.dtype) == np.float16:
            raise UserInputError(
                f"The image is float16, which OME-TIFF cannot hold; expected another type or format for {path.name}. "
                "Write an .ome.zarr."
            )
        super().__init__(path, spec, block=block, overwrite=overwrite)

    def _write(self, name: str, part: Path) -> None:
        spec, rgb = self._spec, self._spec.rgb and name == "fused"
        count = build(self._scratch, method="nearest" if name == "decision" else "mean", block=self._block, prefix=name)
        levels = [open_array(self._scratch, f"{name}{level}") for level in range(count)]
        title = spec.name if name == "fused" else f"{spec.name} {name}"
        t, c = levels[0].shape[:2]
        metadata = ome_metadata(
            title,
            self._channels(name),
            self._steps(),
            self._provenance(),
            rgb=rgb,
            z_positions_um=spec.z_positions_um,
            planes=(t, 1 if rgb else c, spec.depth),
            start=spec.start,
        )
        write_ome(part, levels, metadata, rgb=rgb)
        check_written(part, levels)


class ImageJOutput(ScratchZarrOutput):
    """A result being written as ImageJ hyperstack: `X.tif`, `X.decision.tif`, `X.maps.tif`."""

    def __init__(self, path: Path, spec: ResultSpec, *, block: int, overwrite: bool) -> None:
        allowed = ("uint8",) if spec.rgb else ("uint8", "uint16", "float32")
        if np.dtype(spec.dtype).name not in allowed:
            raise UserInputError(
                f"The image is {'RGB ' if spec.rgb else ''}{spec.dtype}, which an ImageJ TIFF cannot hold; expected "
                f"{', '.join(allowed)} for {path.name}. Write an .ome.tif or .ome.zarr."
            )
        if spec.shape[3] < 2:
            raise UserInputError(
                f"The image is one pixel wide, which an ImageJ TIFF cannot hold; expected two for {path.name}. "
                "Write an .ome.tif or .ome.zarr."
            )
        largest = max(math.prod(shape) * dtype.itemsize for shape, dtype in spec.array_shapes().values())
        if largest > _IMAGEJ_BYTES:
            raise UserInputError(
                f"The result holds {largest / 2**30:.1f} GiB in one file, an ImageJ TIFF less than 4; expected that "
                f"for {path.name}. Write an .ome.tif or .ome.zarr."
            )
        super().__init__(path, spec, block=block, overwrite=overwrite)

    def _write(self, name: str, part: Path) -> None:
        array = open_array(self._scratch, f"{name}0")
        rgb = self._spec.rgb and name == "fused"
        write_imagej(part, array, self._channels(name), self._steps(), self._provenance(), rgb=rgb)
        check_written(part, [array])


class PngOutput(ScratchZarrOutput):
    """A fused image being written as PNG, values kept; decision and maps have no place in it."""

    def __init__(self, path: Path, spec: ResultSpec, *, block: int, overwrite: bool) -> None:
        t, c, _, _ = spec.shape
        if np.dtype(spec.dtype).name not in ("uint8", "uint16"):
            raise UserInputError(
                f"The image is {spec.dtype}, a PNG holds uint8 or uint16; expected one of these for {path.name}. "
                "Write an .ome.tif or .ome.zarr, which keep the values."
            )
        if t != 1 or not (c == 1 or (spec.rgb and c == 3)):
            raise UserInputError(
                f"The image has {t} time points and {c} channels, a PNG holds one grey or RGB plane; expected that "
                f"for {path.name}. Choose one with --channels, or write an .ome.tif or .ome.zarr."
            )
        if spec.depth != 1:
            raise UserInputError(
                f"The result has {spec.depth} planes along Z, a PNG holds one; expected that for {path.name}. Write an "
                ".ome.tif or .ome.zarr."
            )
        super().__init__(path, spec, block=block, overwrite=overwrite)
        unkept = {name: Unkept(*stored) for name, stored in spec.array_shapes().items() if name != "fused"}
        self.arrays = {**self.arrays, **unkept}

    def _write(self, name: str, part: Path) -> None:
        # C Y X -> Y X C
        pixels = np.moveaxis(np.asarray(open_array(self._scratch, f"{name}0")[0, :, 0]), 0, -1)
        pixels = np.ascontiguousarray(pixels if self._spec.rgb else pixels[..., 0])
        part.write_bytes(imagecodecs.png_encode(pixels))
        if not np.array_equal(imagecodecs.png_decode(part.read_bytes()), pixels):
            raise StoredDataError(
                f"{part.name} reads back differently from what was written; expected the same. The disk is failing: "
                "write to another place."
            )


def write_stack(
    path: Path,
    array: NDArray[Any],
    *,
    name: str | None = None,
    channels: Sequence[Channel] = (),
    t: Axis | None = None,
    z: Axis | None = None,
    y: Axis | None = None,
    x: Axis | None = None,
    z_positions_um: Sequence[float] | None = None,
    rgb: bool = False,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a focal stack as OME-TIFF: tiled, compressed, without a pyramid.

    Args:
        path: final name, ending in ".ome.tif".
        array: T C Z Y X, any type that OME-TIFF holds.
        name: of the image; default the file name.
        channels: one per C; default "0", "1", ….
        t: time step.
        z: distance between slices.
        y: distance between rows.
        x: distance between columns.
        z_positions_um: position of every slice, when they are not regular.
        rgb: C = 3 are the colours of one image.
        provenance: plain JSON values to keep with the stack.
        overwrite: replace an existing file.

    Raises:
        UserInputError: the file exists, or its folder does not.
        StoredDataError: what was read back is not what was written.
    """
    steps = {"t": t or Axis(), "z": z or Axis(), "y": y or Axis(), "x": x or Axis()}
    named = tuple(channels) or tuple(Channel(str(index)) for index in range(array.shape[1]))
    delivery = Delivery((path,), overwrite=overwrite)
    try:
        metadata = ome_metadata(
            name or path.name.removesuffix(".ome.tif"),
            named,
            steps,
            provenance or {},
            rgb=rgb,
            z_positions_um=z_positions_um,
            planes=(array.shape[0], 1 if rgb else array.shape[1], array.shape[2]),
        )
        with explained(path):
            write_ome(delivery.part(path), [array], metadata, rgb=rgb)
            check_written(delivery.part(path), [array])
            delivery.publish()
    finally:
        with suppress(OSError):
            delivery.discard()
