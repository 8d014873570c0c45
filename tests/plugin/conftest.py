"""Files as `hybridfusion fuse` and microscopes leave them, small, written through the core's own writers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from conftest import models_of_one_test, tiny_model

from hybridfusion_core.io.create import create_output
from hybridfusion_core.io.result_spec import MapChannel, ResultSpec
from hybridfusion_core.io.tiff.writer import write_stack
from hybridfusion_core.stack import Axis, Channel

__all__ = ["models_of_one_test", "tiny_model"]  # fixtures of tests/core that hold here too

Z_STEP = Axis(2.0, "micrometer")
PIXEL = Axis(0.25, "micrometer")
CHANNELS = (Channel("DAPI", "0000FF", window=(10, 4000)), Channel("membrane", "FF8000", window=(20, 3000)))
SLICES = 5


@dataclass(frozen=True)
class Written:
    """An image on disk and the pixels that were written into it: T C 1 Y X each, by product."""

    path: Path
    pixels: dict[str, np.ndarray]


def write_result(path: Path, t: int = 1, y: int = 700, x: int = 530) -> Written:
    spec = ResultSpec(
        name=path.name,
        shape=(t, 2, y, x),
        dtype=np.dtype(np.uint16),
        channels=CHANNELS,
        t=Axis(30.0, "second") if t > 1 else Axis(),
        z=Z_STEP,
        y=PIXEL,
        x=PIXEL,
        slices=SLICES,
        decision_channels=("DAPI",),
        maps=(MapChannel("height_um", (0.0, 8.0)), MapChannel("confidence", (0.0, 1.0))),
    )
    random = np.random.default_rng(1)
    with create_output(path, spec) as output:
        pixels = {}
        for name, array in output.arrays.items():
            top = {"fused": 4000, "decision": SLICES + 1, "maps": 2}[name]
            pixels[name] = random.integers(0, top, array.shape).astype(array.dtype)
            if name == "maps":
                pixels[name][..., :100] = np.nan
            array[...] = pixels[name]
        output.commit()
    return Written(path, pixels)


@pytest.fixture
def stack_file(tmp_path: Path) -> Written:
    pixels = np.random.default_rng(2).integers(0, 4000, (1, 2, SLICES, 60, 70)).astype(np.uint16)
    path = tmp_path / "organoid.ome.tif"
    write_stack(path, pixels, channels=CHANNELS, z=Z_STEP, y=PIXEL, x=PIXEL)
    return Written(path, {"stack": pixels})


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer(show=True)
