"""Saved from napari and opened again, an image is the same; what is no fused image is refused with the cure."""

import imagecodecs
import numpy as np
import pytest
from napari.layers import Image

from hybridfusion_core.errors import UserInputError
from napari_hybridfusion.files.reader import read
from napari_hybridfusion.files.writer import write, write_layers

from .conftest import write_result


def layer(shape, dtype=np.uint16, name="DAPI", **about) -> Image:
    pixels = np.random.default_rng(len(name)).integers(0, 250, shape).astype(dtype)
    geometry = {"scale": (0.5, 0.25), "units": ("nanometer", "nanometer"), "axis_labels": ("y", "x")}
    return Image(pixels, name=name, **{**geometry, "contrast_limits": (0, 200), **about})


def save(path, *layers: Image) -> list[str]:
    return write_layers(str(path), [each.as_layer_data_tuple() for each in layers])


def reopened(path) -> list[Image]:
    return [Image(data, **meta) for data, meta, _ in read(str(path))]


@pytest.mark.parametrize("name", ["image.ome.zarr", "image.ome.tif"])
def test_what_was_saved_opens_the_same(tmp_path, name):
    # Larger than a block in one direction, and no multiple of anything.
    saved = (layer((1100, 130), colormap="#0099FF"), layer((1100, 130), name="membrane", colormap="#FF33CC"))
    assert save(tmp_path / name, *saved) == [str(tmp_path / name)]
    for before, after in zip(saved, reopened(tmp_path / name), strict=True):
        assert (after.name, after.axis_labels, after.units) == (before.name, before.axis_labels, before.units)
        assert after.scale.tolist() == before.scale.tolist()
        np.testing.assert_array_equal(np.asarray(after.data[0]), before.data)
        np.testing.assert_allclose(after.colormap.colors, before.colormap.colors, atol=1e-3)


def test_contrast_is_kept_where_the_format_can(tmp_path):
    save(tmp_path / "image.ome.zarr", layer((20, 30)))
    assert reopened(tmp_path / "image.ome.zarr")[0].contrast_limits == [0, 200]


def test_imagej_files_keep_pixels_and_scale(tmp_path):
    before = layer((20, 30), units=("um", "um"))
    save(tmp_path / "image.tif", before)
    (after,) = reopened(tmp_path / "image.tif")
    np.testing.assert_array_equal(np.asarray(after.data), before.data)
    np.testing.assert_allclose(after.scale, before.scale)
    assert after.units == before.units


@pytest.mark.parametrize(("shape", "rgb"), [((20, 30), False), ((20, 30, 3), True)])
def test_png_keeps_the_values(tmp_path, shape, rgb):
    before = layer(shape, np.uint8, rgb=rgb)
    save(tmp_path / "image.png", before)
    np.testing.assert_array_equal(imagecodecs.png_decode((tmp_path / "image.png").read_bytes()), before.data)


def test_colour_images_stay_colour_images(tmp_path):
    before = layer((20, 30, 4), np.uint8, rgb=True)
    save(tmp_path / "image.ome.zarr", before)
    (after,) = reopened(tmp_path / "image.ome.zarr")
    assert after.rgb
    np.testing.assert_array_equal(np.asarray(after.data), before.data[..., :3])


def test_a_time_series_is_saved_with_its_steps(tmp_path):
    before = layer(
        (3, 1, 20, 30),
        scale=(30, 2, 0.5, 0.25),
        units=("second", "um", "um", "um"),
        axis_labels=("t", "z", "y", "x"),
    )
    save(tmp_path / "image.ome.zarr", before)
    (after,) = reopened(tmp_path / "image.ome.zarr")
    np.testing.assert_array_equal(np.asarray(after.data), before.data)
    assert (after.axis_labels, after.units) == (before.axis_labels, before.units)
    assert after.scale.tolist() == before.scale.tolist()


def test_an_opened_result_is_saved_at_full_resolution(tmp_path):
    written = write_result(tmp_path / "fused.ome.zarr")
    save(tmp_path / "again.ome.zarr", *reopened(written.path)[:2])
    for index, after in enumerate(reopened(tmp_path / "again.ome.zarr")):
        np.testing.assert_array_equal(np.asarray(after.data[0]), written.pixels["fused"][0, index, 0])


def test_a_stack_is_refused(tmp_path):
    stack = Image(np.zeros((4, 20, 30), np.uint8), name="stack")
    with pytest.raises(UserInputError, match=r"'stack' has 4 slices; expected one plane .* Fuse it first"):
        save(tmp_path / "image.ome.zarr", stack)


def test_napari_hears_why_it_is_refused(tmp_path):
    """Of a ValueError it would only say that this is no valid writer."""
    stack = Image(np.zeros((4, 20, 30), np.uint8), name="stack")
    with pytest.raises(RuntimeError, match="'stack' has 4 slices"):
        write(str(tmp_path / "image.ome.zarr"), [stack.as_layer_data_tuple()])


@pytest.mark.parametrize(
    "other",
    [
        layer((20, 31), name="wider"),
        layer((20, 30), np.float32, name="floats"),
        layer((20, 30), name="finer", scale=(0.1, 0.1)),
    ],
)
def test_layers_that_are_not_alike_are_refused(tmp_path, other):
    with pytest.raises(UserInputError, match=rf"'DAPI' \(.*\) and '{other.name}' \(.*\) differ; .* one by one"):
        save(tmp_path / "image.ome.zarr", layer((20, 30)), other)
    assert list(tmp_path.iterdir()) == []


def test_a_colour_image_among_others_is_refused(tmp_path):
    with pytest.raises(UserInputError, match="colour image among 2 layers"):
        save(tmp_path / "image.ome.zarr", layer((20, 30), np.uint8), layer((20, 30, 3), np.uint8, "photo", rgb=True))


def test_pixels_that_are_no_intensities_are_refused(tmp_path):
    with pytest.raises(UserInputError, match="pixels are bool"):
        save(tmp_path / "image.ome.zarr", Image(np.zeros((4, 5), bool)))


def test_files_are_replaced_and_stores_are_not(tmp_path):
    for path in (tmp_path / "image.ome.tif", tmp_path / "image.ome.zarr"):
        save(path, layer((20, 30)))
    save(tmp_path / "image.ome.tif", layer((40, 30)))
    assert reopened(tmp_path / "image.ome.tif")[0].data.shape == (40, 30)
    with pytest.raises(UserInputError, match="exists already"):
        save(tmp_path / "image.ome.zarr", layer((40, 30)))
