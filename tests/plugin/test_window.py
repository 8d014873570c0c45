"""The plugin in a real window: what a user opens, sees and saves."""

import gc

import numpy as np
import pytest
from magicgui.widgets import Container

from hybridfusion_core.scenes.samples.organoid import organoid_stack
from napari_hybridfusion.files import samples as sample_data
from napari_hybridfusion.parts.dock import Dock
from napari_hybridfusion.parts.field_form import FieldForm
from napari_hybridfusion.parts.model_box import model_box, offer_models

from .conftest import CHANNELS, SLICES, write_result

PLUGIN = "napari-hybridfusion"
RESULT = [
    "DAPI fused",
    "membrane fused",
    *(f"DAPI + membrane {each}" for each in ("height (µm)", "confidence", "decision")),
]


def picture(viewer) -> np.ndarray:
    return viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(float)


def small_organoid():
    return organoid_stack(size=96, slices=SLICES)


def test_the_organoid_opens_as_a_stack_of_two_channels(viewer, monkeypatch):
    monkeypatch.setattr(sample_data, "organoid_stack", small_organoid)
    layers = viewer.open_sample(PLUGIN, "organoid")
    assert [layer.ndim for layer in layers] == [3, 3]
    assert all(str(unit) == "micrometer" for layer in layers for unit in layer.units)
    assert picture(viewer).std() > 5
    assert viewer.dims.nsteps[0] == SLICES


def test_the_pair_opens_as_two_slices(viewer):
    viewer.open_sample(PLUGIN, "pair")
    assert viewer.dims.nsteps[0] == 2
    near = picture(viewer)
    viewer.dims.set_current_step(0, 0 if viewer.dims.current_step[0] else 1)
    assert near.std() > 5
    assert np.abs(near - picture(viewer)).max() > 20


@pytest.mark.parametrize("name", ["fused.ome.zarr", "fused.ome.tif"])
def test_a_result_is_seen_and_its_decision_and_maps_wait_hidden(viewer, tmp_path, name):
    viewer.open(str(write_result(tmp_path / name).path), plugin=PLUGIN)
    assert [layer.name for layer in viewer.layers] == RESULT
    assert picture(viewer).std() > 5
    for layer in viewer.layers:
        layer.visible = layer.name == RESULT[4]
    # As many colours as slices, and black where nothing is in focus.
    colors = np.unique(picture(viewer).reshape(-1, 3), axis=0)
    assert len(colors) >= SLICES + 1


def test_a_map_shows_what_lies_below_where_it_is_unknown(viewer, tmp_path):
    viewer.open(str(write_result(tmp_path / "fused.ome.zarr").path), plugin=PLUGIN)
    viewer.layers[RESULT[3]].visible = True
    covered = picture(viewer)
    viewer.layers[RESULT[3]].visible = False
    bare = picture(viewer)
    changed = np.abs(covered - bare).sum(axis=2) > 0
    columns = changed.mean(axis=0)
    # The image fills the canvas's height; its left 100 of 530 columns are unknown.
    known = np.flatnonzero(columns > 0.5)
    shown = np.flatnonzero(bare.sum(axis=2).mean(axis=0) > 1)
    assert known[0] - shown[0] == pytest.approx(100 / 530 * len(shown), abs=4)


def test_a_result_lies_on_its_stack(viewer, tmp_path, stack_file):
    viewer.open(str(stack_file.path), plugin=PLUGIN)
    viewer.open(str(write_result(tmp_path / "fused.ome.zarr", y=60, x=70).path), plugin=PLUGIN)
    stack, fused = viewer.layers[0], viewer.layers[2]
    np.testing.assert_allclose(stack.extent.world[:, 1:], fused.extent.world)
    for z in range(SLICES):
        viewer.dims.set_current_step(0, z)
        assert fused._slice.image.view.size > 1


def test_layers_are_saved_from_the_window(viewer, tmp_path):
    viewer.open(str(write_result(tmp_path / "fused.ome.zarr").path), plugin=PLUGIN)
    viewer.layers.selection = set(viewer.layers[:2])
    path = str(tmp_path / "saved.ome.tif")
    assert viewer.layers.save(path, selected=True, plugin=PLUGIN) == [path]
    saved = viewer.open(path, plugin=PLUGIN)
    assert [layer.name.split(" ")[0] for layer in saved] == [channel.name for channel in CHANNELS]


@pytest.mark.own_window
def test_the_window_closes_while_layers_are_lazy(viewer, tmp_path):
    viewer.open(str(write_result(tmp_path / "fused.ome.zarr").path), plugin=PLUGIN)
    viewer.window.close()


@pytest.mark.parametrize(
    "part", [lambda: model_box("model", ""), lambda: Dock(None, "Fuse", FieldForm(), "", "Open a stack")]
)
def test_nothing_dies_when_the_garbage_collector_destroys_a_window(qapp, part):  # noqa: ARG001 - Qt must run
    """What Qt calls while a widget is destroyed must not be a closure, which the collector may have emptied."""
    for _ in range(20):
        window = Container(widgets=[part()])
        window.native.itself = window[0].native.itself = window
    del window
    gc.collect()
    offer_models()
