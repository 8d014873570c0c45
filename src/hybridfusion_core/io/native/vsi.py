"""Olympus cellSens VSI by the library `bioio-vsi`, which reads files of one image and refuses what it does not know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bioio_vsi import open_vsi
from numpy.typing import NDArray

from hybridfusion_core.io.description import RGB_CHANNELS, Description
from hybridfusion_core.io.native.scene import Scene
from hybridfusion_core.io.units import axis
from hybridfusion_core.stack import Channel


class VsiReader:
    """A VSI file, with its folder of pixels.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = open_vsi(str(path))
        self.companions: tuple[str, ...] = (str(self._file.ets_path),)
        self.scenes: tuple[Scene, ...] = (_scene(self._file),)

    def read(self, scene: int, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        """Read a region of one slice; see `NativeReader`."""
        place = (y.start, x.start, y.stop - y.start, x.stop - x.start)
        if self.scenes[scene].rgb:
            return np.array(np.moveaxis(self._file.read_region(*place, t=t, z=z), -1, 0)[list(channels)])
        return np.stack([self._file.read_region(*place, t=t, c=c, z=z) for c in channels])

    def close(self) -> None:
        """Nothing stays open between two reads."""


def _scene(file: Any) -> Scene:
    times, count, slices, rows, columns = file.level_shape()
    sample = file.read_region(0, 0, 1, 1)
    rgb = sample.ndim == 3
    pixel = file.pixel_size_um
    step = file.z_step_um
    names, emitted = file.channel_names, file.emission_wavelengths_nm
    channels: tuple[Channel, ...] = ()
    if rgb:
        channels = RGB_CHANNELS
    elif len(names) == len(emitted) == count:
        channels = tuple(
            Channel(name or str(index), None, False if wavelength else None)
            for index, (name, wavelength) in enumerate(zip(names, emitted, strict=True))
        )
    down = step is not None and step < 0 and 1 < slices <= 1_000_000
    return Scene(
        about=Description(
            name=file.image_name or "",
            z=axis(abs(step or 0), "micrometer"),
            y=axis(None if pixel is None else pixel.y, "micrometer"),
            x=axis(None if pixel is None else pixel.x, "micrometer"),
            channels=channels,
            z_positions_um=tuple(step * index for index in range(slices)) if down else None,
        ),
        shape=(times, 3 if rgb else count, slices, rows, columns),
        dtype=file.dtype.name,
        rgb=rgb,
        problem="it has several colour images as channels; expected one" if rgb and count > 1 else "",
    )
