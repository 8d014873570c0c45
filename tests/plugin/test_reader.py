"""What was written is what napari shows: pixels, scale, units, names, colours; and nothing is read too early."""

import gc
import json
import os
import shutil

import numpy as np
import psutil
import pytest
import tifffile
import zarr
from napari.layers import Image
from plate_makers import write_zarr_plate

from hybridfusion_core.errors import HybridFusionError, UserInputError
from hybridfusion_core.io.region import RegionView
from hybridfusion_core.io.tiff.writer import write_stack
from hybridfusion_core.plates.field_stack import open_field
from hybridfusion_core.plates.open import open_plate
from hybridfusion_core.stack import Axis, Channel
from napari_hybridfusion.files import reader
from napari_hybridfusion.files.reader import get_reader

from .conftest import CHANNELS, PIXEL, SLICES, Z_STEP, write_result

RESULT = [
    *("DAPI fused", "membrane fused"),
    *("DAPI + membrane height (µm)", "DAPI + membrane confidence", "DAPI + membrane decision"),
]
FORMATS = ("fused.ome.zarr", "fused.ome.tif", "fused.tif")


def opened(path) -> dict[str, Image]:
    """Layers as napari makes them, by name; without a window."""
    path = str(path)
    read = get_reader(path)
    assert read is not None
    layers = [Image(data, **meta) for data, meta, kind in read(path) if kind == "image"]
    return {layer.name: layer for layer in layers}


def levels_of(layer: Image) -> list[np.ndarray]:
    return [np.asarray(level) for level in layer.data] if layer.multiscale else [np.asarray(layer.data)]


def assert_geometry(layer: Image, axes: dict[str, Axis]) -> None:
    assert layer.axis_labels == tuple(axes)
    assert layer.scale.tolist() == [axis.step for axis in axes.values()]
    assert [str(unit) for unit in layer.units] == [axis.unit or "pixel" for axis in axes.values()]


@pytest.mark.parametrize("name", FORMATS)
def test_a_result_opens_with_everything_that_belongs_to_it(tmp_path, name):
    written = write_result(tmp_path / name)
    layers = list(opened(written.path).values())
    expected = [
        *written.pixels["fused"][0, :, 0],
        *written.pixels["maps"][0, :, 0],
        written.pixels["decision"][0, 0, 0],
    ]
    assert len(layers) == len(expected)
    for layer, plane in zip(layers, expected, strict=True):
        assert layer.dtype == plane.dtype
        np.testing.assert_array_equal(levels_of(layer)[0], plane)
        assert_geometry(layer, {"y": PIXEL, "x": PIXEL})


@pytest.mark.parametrize("name", FORMATS[:2])
def test_names_and_colours_are_those_of_the_channels(tmp_path, name):
    layers = opened(write_result(tmp_path / name).path)
    assert list(layers) == RESULT
    np.testing.assert_allclose(layers["membrane fused"].colormap.colors[-1], (1, 128 / 255, 0, 1), atol=1e-3)
    assert [layers[each].visible for each in layers] == [True, True, False, False, False]


def test_contrast_is_the_display_window_of_the_file(tmp_path):
    layers = opened(write_result(tmp_path / "fused.ome.zarr").path)
    assert layers["DAPI fused"].contrast_limits == [10, 4000]
    assert layers[RESULT[2]].contrast_limits == [0, 8]


@pytest.mark.parametrize("name", FORMATS[:2])
def test_every_level_of_the_pyramid_is_the_stored_one(tmp_path, name):
    path = write_result(tmp_path / name).path
    layer = opened(path)["membrane fused"]
    if path.is_dir():
        stored = [zarr.open_array(path / level, mode="r")[0, 1, 0] for level in "01"]
    else:
        with tifffile.TiffFile(path) as file:
            stored = [level.asarray()[1] for level in file.series[0].levels]
    shown = levels_of(layer)
    assert [level.shape for level in shown] == [(700, 530), (350, 265)]
    for level, expected in zip(shown, stored, strict=True):
        np.testing.assert_array_equal(level, expected)


def test_opening_a_result_reads_no_pixel(tmp_path, monkeypatch):
    path = write_result(tmp_path / "fused.ome.zarr").path
    monkeypatch.setattr(RegionView, "__getitem__", lambda *_: pytest.fail("pixels were read"))
    assert len(reader.read(str(path))) == 5


def test_contrast_that_no_file_states_costs_one_plane_of_each_channel(tmp_path, monkeypatch):
    path = tmp_path / "plain.ome.tif"
    write_stack(path, np.zeros((1, 2, SLICES, 900, 800), np.uint16), z=Z_STEP, y=PIXEL, x=PIXEL)
    sizes, read = [], RegionView.__getitem__
    monkeypatch.setattr(RegionView, "__getitem__", lambda view, key: sizes.append(read(view, key)) or sizes[-1])
    reader.read(str(path))
    assert [region.size for region in sizes] == [900 * 800, 900 * 800]


@pytest.mark.parametrize("name", ["fused.ome.zarr", "fused.ome.tif"])
def test_time_series_keep_all_slider_axes_and_cover_their_slices(tmp_path, name):
    written = write_result(tmp_path / name, t=3, y=40, x=50)
    layers = opened(written.path)
    layer = layers["DAPI fused"]
    assert layer.data.shape == (3, 1, 40, 50)
    np.testing.assert_array_equal(np.asarray(layer.data), written.pixels["fused"][:, 0])
    thick = Axis(SLICES * Z_STEP.step, Z_STEP.unit)
    for each in layers.values():
        assert_geometry(each, {"t": Axis(30.0, "second"), "z": thick, "y": PIXEL, "x": PIXEL})
        for z in range(SLICES):
            inside = each.world_to_data((0, z * Z_STEP.step, 0, 0))[1]
            assert -0.5 < inside < 0.5


def test_a_fused_time_series_is_seen_at_every_slice_of_its_stack(tmp_path, viewer):
    stack = np.ones((3, SLICES, 40, 50), np.uint16)
    axes = {"axis_labels": tuple("tzyx"), "units": ("second", *("micrometer",) * 3)}
    viewer.add_image(stack, scale=(30, 2, 0.25, 0.25), visible=False, **axes)
    written = write_result(tmp_path / "fused.ome.zarr", t=3, y=40, x=50)
    viewer.open(written.path, plugin="napari-hybridfusion")
    viewer.dims.set_current_step(0, 0)
    for z in range(SLICES):
        viewer.dims.set_current_step(1, z)
        np.testing.assert_array_equal(viewer.layers["DAPI fused"]._slice.image.view, written.pixels["fused"][0, 0, 0])
    assert viewer.dims.nsteps[:2] == (3, SLICES)


def test_a_stack_opens_as_one_layer_per_channel(stack_file):
    layers = opened(stack_file.path)
    assert list(layers) == [channel.name for channel in CHANNELS]
    for index, layer in enumerate(layers.values()):
        np.testing.assert_array_equal(np.asarray(layer.data), stack_file.pixels["stack"][0, index])
        assert_geometry(layer, {"z": Z_STEP, "y": PIXEL, "x": PIXEL})


def test_planes_are_read_one_by_one(stack_file):
    data, _, _ = reader.read(str(stack_file.path))[0]
    assert data.chunksize == (1, 60, 70)


def test_older_stores_open_with_scale_and_pyramid(tmp_path):
    path = tmp_path / "old.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2)
    pixels = np.random.default_rng(3).integers(0, 100, (3, 64, 48)).astype(">u2")
    for level, data in enumerate((pixels, pixels[:, ::2, ::2])):
        group.create_array(str(level), data=data, chunks=(1, 16, 16))
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    scales = [[500.0, 100.0 * factor, 100.0 * factor] for factor in (1, 2)]
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": axes,
            "datasets": [
                {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
                for level, scale in enumerate(scales)
            ],
        }
    ]
    (layer,) = opened(path).values()
    assert layer.name == "old"
    assert_geometry(
        layer, {"z": Axis(500.0, "nanometer"), "y": Axis(100.0, "nanometer"), "x": Axis(100.0, "nanometer")}
    )
    for level, expected in zip(levels_of(layer), (pixels, pixels[:, ::2, ::2]), strict=True):
        np.testing.assert_array_equal(level, expected)


def test_colour_images_open_as_one_layer(tmp_path):
    path = tmp_path / "photo.tif"
    pixels = np.random.default_rng(4).integers(0, 255, (30, 40, 3)).astype(np.uint8)
    tifffile.imwrite(path, pixels, photometric="rgb")
    (layer,) = opened(path).values()
    assert layer.rgb
    assert layer.axis_labels == ("y", "x")
    np.testing.assert_array_equal(np.asarray(layer.data), pixels)


def test_irregular_slices_get_their_mean_distance(tmp_path):
    path = tmp_path / "irregular.ome.tif"
    pixels = np.zeros((1, 1, 4, 20, 20), np.uint8)
    write_stack(path, pixels, y=PIXEL, x=PIXEL, z=Axis(1.0, "micrometer"), z_positions_um=(9.0, 5.0, 4.0, 0.0))
    (layer,) = opened(path).values()
    assert_geometry(layer, {"z": Axis(3.0, "micrometer"), "y": PIXEL, "x": PIXEL})


def test_a_list_of_images_is_one_stack(tmp_path):
    planes = np.random.default_rng(5).integers(0, 200, (3, 24, 32)).astype(np.uint8)
    paths = [str(tmp_path / f"slice{index}.tif") for index in range(3)]
    for path, plane in zip(paths, planes, strict=True):
        tifffile.imwrite(path, plane)
    read = get_reader(paths)
    ((data, meta, kind),) = read(paths)
    np.testing.assert_array_equal(np.asarray(data), planes)
    assert (meta["axis_labels"], kind) == (("z", "y", "x"), "image")


def test_a_list_of_stores_is_all_their_layers(tmp_path):
    paths = [str(write_result(tmp_path / name, y=40, x=40).path) for name in ("one.ome.zarr", "two.ome.zarr")]
    assert len(get_reader(paths)(paths)) == 10


def test_what_is_no_image_of_ours_is_left_to_others(tmp_path):
    (tmp_path / "text.tif").write_text("no TIFF")
    (tmp_path / "empty.tif").touch()
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "broken.ome.zarr").mkdir()
    (tmp_path / "broken.ome.zarr" / "zarr.json").write_text('{"attributes": [')
    zarr.create_array(tmp_path / "bare.zarr", shape=(4, 4), dtype="u1")
    for path in (*tmp_path.iterdir(), tmp_path, tmp_path / "missing.ome.tif", "s3://bucket/image.ome.zarr"):
        assert get_reader(str(path)) is None, path
    assert get_reader([]) is None


def test_a_folder_of_slices_is_one_stack(tmp_path):
    planes = np.random.default_rng(6).integers(0, 200, (3, 24, 32)).astype(np.uint8)
    for index, plane in enumerate(planes):
        tifffile.imwrite(tmp_path / f"slice{index}.tif", plane)
    ((data, meta, _),) = get_reader(str(tmp_path))(str(tmp_path))
    np.testing.assert_array_equal(np.asarray(data), planes)
    assert meta["axis_labels"] == ("z", "y", "x")


def test_of_a_plate_the_first_field_opens_and_a_note_says_where_the_others_are(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("napari.utils.notifications.show_warning", shown.append)
    path = write_zarr_plate(tmp_path / "p.zarr", shape=(1, 2, 3))
    first = next(iter(open_plate(path).fields()))
    with open_field(first) as stack:
        expected = stack.read(0, 0, range(stack.shape[2]), slice(None), slice(None))
    data, _, _ = get_reader(str(path))(str(path))[0]
    np.testing.assert_array_equal(np.asarray(data[0] if isinstance(data, list) else data), expected)
    assert any("Fuse plate" in line for line in shown)


def test_a_plate_without_fields_says_so(tmp_path):
    path = tmp_path / "plate.ome.zarr"
    zarr.open_group(path, mode="w").attrs["ome"] = {"plate": {"wells": []}}
    with pytest.raises(HybridFusionError):
        get_reader(str(path))(str(path))


def test_a_list_is_ours_only_as_a_whole(tmp_path, stack_file):
    (tmp_path / "text.tif").write_text("no TIFF")
    assert get_reader([str(stack_file.path), str(tmp_path / "text.tif")]) is None


def test_errors_say_what_to_do(tmp_path):
    path = tmp_path / "two.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(np.zeros((8, 8), np.uint8))
        file.write(np.zeros((9, 9), np.uint8))
    with pytest.raises(UserInputError, match="holds 2 images"):
        get_reader(str(path))(str(path))


def test_levels_that_lead_out_of_the_store_are_not_followed(tmp_path):
    path = write_result(tmp_path / "fused.ome.zarr").path
    shutil.copytree(path / "1", tmp_path / "secret")
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["attributes"]["ome"]["multiscales"][0]["datasets"][1]["path"] = "../secret"
    (path / "zarr.json").write_text(json.dumps(metadata))
    assert not opened(path)["DAPI fused"].multiscale


def test_a_damaged_map_does_not_hide_the_image(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("napari.utils.notifications.show_warning", shown.append)
    path = write_result(tmp_path / "fused.ome.zarr", y=40, x=40).path
    shutil.rmtree(tmp_path / "fused.maps.ome.zarr" / "0")
    assert list(opened(path)) == [RESULT[0], RESULT[1], RESULT[4]]
    assert "fused.maps.ome.zarr is left out" in shown[0]


def test_what_the_user_should_know_about_a_file_is_shown(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("napari.utils.notifications.show_warning", shown.append)
    path = tmp_path / "alpha.tif"
    tifffile.imwrite(path, np.zeros((8, 8, 4), np.uint8), photometric="rgb", extrasamples=["unassalpha"])
    opened(path)
    assert any("alpha" in line for line in shown)


@pytest.mark.parametrize("name", FORMATS[1:])
def test_files_are_closed_with_their_layers(tmp_path, name):
    path = write_result(tmp_path / name).path
    layers = opened(path)
    layers.clear()
    gc.collect()
    assert [file.path for file in psutil.Process().open_files() if file.path.startswith(os.fspath(tmp_path))] == []


def test_the_decision_has_one_colour_for_each_slice(tmp_path):
    layer = opened(write_result(tmp_path / "fused.ome.zarr").path)[RESULT[4]]
    low, high = layer.contrast_limits
    values = np.arange(SLICES + 1)
    colors = layer.colormap.map((values - low) / (high - low))
    assert colors[0][3] == 0
    assert len(np.unique(colors[1:], axis=0)) == SLICES
    # The eye follows the order: each slice is brighter than the one before.
    assert np.all(np.diff(colors[1:, :3].sum(axis=1)) > 0)


def test_maps_are_transparent_where_nothing_is_known(tmp_path):
    layer = opened(write_result(tmp_path / "fused.ome.zarr").path)[RESULT[3]]
    assert layer.colormap.map(np.array([np.nan]))[0][3] == 0


def test_channels_without_colour_differ(tmp_path):
    path = tmp_path / "three.ome.tif"
    channels = tuple(Channel(name) for name in ("a", "b", "c"))
    write_stack(path, np.zeros((1, 3, 2, 20, 20), np.uint8), channels=channels)
    layers = opened(path)
    assert len({layer.colormap.name for layer in layers.values()}) == 3
    assert_geometry(layers["a"], {"z": Axis(), "y": Axis(), "x": Axis()})
