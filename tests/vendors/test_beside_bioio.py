"""The same files through bioio's readers: pixels, scale and channel names must agree."""

from pathlib import Path

import numpy as np
import pytest
from native_makers import pixels, write_czi

from hybridfusion_core.io.open import open_stack

ROOT = Path(__file__).parents[2]


def assert_same(path, reader, scenes=(None,)):
    image = reader.Reader(str(path))
    for index, scene in enumerate(scenes):
        if scene is not None:
            image.set_scene(index)
        with open_stack(path, series=scene) as stack:
            t, c, z, y, x = stack.shape
            read = [[stack.read(at, i, range(z), slice(0, y), slice(0, x)) for i in range(c)] for at in range(t)]
            np.testing.assert_array_equal(read, image.get_image_data("TCZYX"))
            size = image.physical_pixel_sizes
            assert (stack.z.step_um, stack.y.step_um, stack.x.step_um) == pytest.approx((size.Z, size.Y, size.X))
            assert [each.name for each in stack.channels] == [str(name) for name in image.channel_names]


def test_nd2():
    reader = pytest.importorskip("bioio_nd2")
    names = [ROOT / up / "shared/data/vendor/cluster_t3_z10_c2.nd2" for up in ("..", "../..")]
    path = next((each for each in names if each.exists()), None)
    if path is None:
        pytest.skip("the real file is not here")
    assert_same(path, reader)


def test_czi(tmp_path):
    reader = pytest.importorskip("bioio_czi")
    scenes = [pixels((2, 2, 3, 40, 30), seed) for seed in range(2)]
    assert_same(write_czi(tmp_path / "a.czi", scenes, wells=("", "")), reader, scenes=(0, 1))
