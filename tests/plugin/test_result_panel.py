"""What a result can be asked, and how a person overrules it; in a real window."""

import numpy as np
import pytest
from napari.layers import Labels, Surface
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QFileDialog

import hybridfusion_core as hf
from hybridfusion_core.io.verify import verify
from napari_hybridfusion.files.reader import read

from .conftest import SLICES, write_result
from .test_fuse_widget import PLACE, focal_stack, fuse, is_drawn, wait
from .test_fuse_widget import opened as opened_with_network


def opened(viewer):
    """Open the form; the network, which takes its time, is not the subject here."""
    widget = opened_with_network(viewer)
    widget.form.method.value = "tenengrad"
    return widget


@pytest.fixture
def widget(viewer):
    viewer.add_image(focal_stack(), name="DAPI", colormap="magenta", **PLACE)
    return opened(viewer)


def paint(viewer, widget, number, rows, columns):
    """Press the button, and paint a rectangle."""
    widget.panel.paint.native.click()
    layer = viewer.layers.selection.active
    assert isinstance(layer, Labels), widget.panel.said.value
    assert layer.mode == "paint"
    layer.data[..., rows, columns] = number
    layer.refresh()
    return layer


def refuse(qtbot, widget):
    widget.panel.refuse.native.click()
    assert widget.jobs.running, widget.panel.said.value
    wait(qtbot, widget)


def world(z, y, x):
    return np.array((z, y, x)) * PLACE["scale"] + PLACE["translate"]


def test_the_probe_reads_what_the_layers_hold(qtbot, viewer, widget):
    fuse(qtbot, widget)
    assert viewer.layers.selection.active is viewer.layers["DAPI fused"]
    arrays = {"decision": "DAPI decision", "height_um": "DAPI height (µm)", "confidence": "DAPI confidence"}
    for z, y, x in ((0, 5, 7), (4, 50, 60), (2, 31, 32)):
        position = np.array((z, y, x)) * PLACE["scale"] + PLACE["translate"]
        expected = {name: float(viewer.layers[layer].data[0, y, x]) for name, layer in arrays.items()}
        assert widget.panel.probe.values(position) == pytest.approx(expected, nan_ok=True)
        viewer.cursor.position = position
        viewer.status = "napari's own"
        number = int(expected["decision"])
        assert ("nothing in focus" if number == 0 else f"slice {number} (slider {number - 1}), height") in viewer.status
        widget.panel.probe.jump(position)
        assert number == 0 or viewer.dims.current_step[0] == number - 1
    assert widget.panel.probe.values((10.0, -500.0, 0.0)) == {}


def test_the_probe_forgets_results_that_were_taken_out(qtbot, viewer, widget):
    fuse(qtbot, widget)
    gone = widget.panel.results.active()[0]
    for layer in [each for each in viewer.layers if each.name != "DAPI"]:
        viewer.layers.remove(layer)
    fuse(qtbot, widget)
    assert widget.panel.results.active() is not None
    assert widget.panel.results.active()[0] is not gone


def test_a_click_reveals_the_slice_and_the_next_brings_the_result_back(qtbot, viewer, widget):
    fuse(qtbot, widget)
    canvas = viewer.window._qt_viewer.canvas.native
    left, right = (QPoint(int(canvas.width() * share), canvas.height() // 2) for share in (0.35, 0.65))
    fused = viewer.layers["DAPI fused"]
    for place, number in ((left, 2), (right, 4)):
        viewer.dims.set_current_step(0, 0)
        viewer.mouse_over_canvas = True  # only a real pointer enters
        qtbot.mouseMove(canvas, place)
        viewer.update_status_from_cursor()  # napari's tests run without the thread that does it
        assert f"slice {number} (slider {number - 1}), height" in viewer.status["coordinates"]
        with_result = viewer.screenshot(flash=False)
        qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=place)
        assert viewer.dims.current_step[0] == number - 1
        assert not fused.visible  # it would cover the slice
        assert viewer.layers["DAPI"].visible
        assert (viewer.screenshot(flash=False) != with_result).any()
        qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=place)
        assert fused.visible
        assert viewer.dims.current_step[0] == number - 1
    np.testing.assert_array_equal(viewer.screenshot(flash=False), with_result)


def test_the_plot_is_what_the_confidence_says(qtbot, viewer, widget):
    fuse(qtbot, widget)
    panel = widget.panel
    assert panel.plot.shown is None  # the colours of the slices alone
    confidence, decision = (viewer.layers[f"DAPI {name}"].data[0] for name in ("confidence", "decision"))
    for y, x in ((5, 7), (50, 60), (31, 40)):
        viewer.cursor.position = world(1, y, x)
        qtbot.waitUntil(lambda: not panel.posterior.busy, timeout=60_000)
        chosen = int(panel.plot.shown.argmax())
        assert panel.plot.shown.sum() == pytest.approx(1, abs=1e-5)
        if decision[y, x]:
            assert chosen + 1 == decision[y, x]
            around = panel.plot.shown[max(0, chosen - 1) : chosen + 2].sum()
            assert around == pytest.approx(confidence[y, x], abs=1e-4)
    viewer.cursor.position = world(1, -500, 0)
    qtbot.waitUntil(lambda: not panel.posterior.busy)
    assert panel.plot.shown is None


def test_painted_places_come_from_the_painted_slice(qtbot, viewer, widget):
    fuse(qtbot, widget)
    before = {layer.name: np.array(layer.data) for layer in viewer.layers[1:]}
    rows, columns = slice(10, 30), slice(12, 22)
    layer = paint(viewer, widget, 5, rows, columns)
    np.testing.assert_allclose(layer.extent.world, viewer.layers["DAPI fused"].extent.world)
    refuse(qtbot, widget)
    assert not layer.visible
    corrected = {name: viewer.layers[f"corrected DAPI {name}"] for name in ("fused", "decision", "confidence")}
    np.testing.assert_array_equal(corrected["fused"].data[0][rows, columns], focal_stack()[4, rows, columns])
    assert np.all(corrected["decision"].data[0][rows, columns] == 5)
    assert np.all(np.isnan(corrected["confidence"].data[0][rows, columns]))
    assert np.all(viewer.layers["corrected DAPI by hand"].data[0][rows, columns] == 1)
    for name, pixels in before.items():
        np.testing.assert_array_equal(viewer.layers[name].data, pixels)  # the first result stays
    assert corrected["fused"].metadata["hybridfusion"]["provenance"]["corrections"]["painted"][0]["slices"] == [5]
    values = widget.panel.probe.values(world(0, 15, 15))
    assert values["decision"] == 5
    assert values["corrected"] == 1
    viewer.layers.clear()
    viewer.screenshot(flash=False)  # Mesa's software renderer would end the program if something of the brush were left


def test_who_paints_sees_the_slices_and_paints_the_one_that_is_shown(viewer, widget, qtbot):
    fuse(qtbot, widget)
    fused = viewer.layers["DAPI fused"]
    viewer.dims.set_current_step(0, 3)
    layer = paint(viewer, widget, 5, slice(0, 5), slice(0, 5))
    assert not fused.visible
    assert viewer.layers["DAPI"].visible
    for step in (3, 1):
        viewer.dims.set_current_step(0, step)
        assert layer.selected_label == step + 1
        assert f"slice {step + 1} (slider {step})" in widget.panel.said.value
    widget.panel.follow.value = False
    viewer.dims.set_current_step(0, 4)
    assert layer.selected_label == 2
    refuse(qtbot, widget)
    assert fused.visible


def test_corrections_can_be_painted_on_and_replace_the_last_ones(qtbot, viewer, widget):
    fuse(qtbot, widget)
    paint(viewer, widget, 5, slice(0, 10), slice(0, 10))
    refuse(qtbot, widget)
    count = len(viewer.layers)
    paint(viewer, widget, 4, slice(40, 50), slice(0, 10))
    assert len(viewer.layers) == count  # the same layer again
    refuse(qtbot, widget)
    assert len(viewer.layers) == count
    decision = viewer.layers["corrected DAPI decision"].data[0]
    assert np.all(decision[:10, :10] == 5)
    assert np.all(decision[40:50, :10] == 4)


def test_a_correction_belongs_to_its_time(qtbot, viewer):
    times = np.stack([focal_stack(4, 32, seed) for seed in range(3)])
    viewer.add_image(times, name="movie", axis_labels=tuple("tzyx"), scale=(3.0, 3.0, 0.5, 0.5))
    widget = opened(viewer)
    fuse(qtbot, widget)
    viewer.dims.set_current_step(0, 1)
    layer = paint(viewer, widget, 3, slice(0, 32), slice(0, 32))
    for t in range(3):
        viewer.dims.set_current_step(0, t)
        assert is_drawn(layer) == (t == 1)
    refuse(qtbot, widget)
    fused, before = (viewer.layers[name].data for name in ("corrected movie fused", "movie fused"))
    changed = viewer.layers["movie decision"].data[1, 0] != 3
    np.testing.assert_array_equal(fused[1, 0][changed], times[1, 2][changed])
    np.testing.assert_array_equal(fused[[0, 2]], before[[0, 2]])


def test_each_channel_has_its_own_decision_to_correct(qtbot, viewer):
    stacks = [focal_stack(4, 32, seed) for seed in range(2)]
    for name, pixels in zip(("DAPI", "membrane"), stacks, strict=True):
        viewer.add_image(pixels, name=name, **PLACE)
    widget = opened(viewer)
    widget.form.layer.value = viewer.layers["DAPI"]
    widget.form.others.value = [viewer.layers["membrane"]]
    widget.form.focus_from.value = "each"
    fuse(qtbot, widget)
    viewer.layers.selection.active = viewer.layers["membrane fused"]
    paint(viewer, widget, 1, slice(0, 32), slice(0, 32))
    refuse(qtbot, widget)
    changed = viewer.layers["membrane decision"].data[0] != 1
    corrected = viewer.layers["corrected membrane fused"].data[0]
    np.testing.assert_array_equal(corrected[changed], stacks[1][0][changed])
    np.testing.assert_array_equal(viewer.layers["corrected DAPI fused"].data, viewer.layers["DAPI fused"].data)


def test_a_corrected_result_on_disk_stands_beside_the_first(qtbot, viewer, widget, tmp_path):
    widget.form.output.value = "disk"
    widget.form.path.value = tmp_path / "out.ome.zarr"
    fuse(qtbot, widget)
    paint(viewer, widget, 5, slice(0, 20), slice(0, 64))
    refuse(qtbot, widget)
    path = tmp_path / "out.corrected.ome.zarr"
    verify(path)
    kinds = ("fused", "height (µm)", "confidence", "by hand", "decision")
    layers = read(str(path))
    assert [about["name"] for _, about, _ in layers] == [f"corrected DAPI {kind}" for kind in kinds]
    data, about, _ = layers[0]
    fused = data[0] if about.get("multiscale") else data
    np.testing.assert_array_equal(np.squeeze(np.asarray(fused))[:20], focal_stack()[4, :20])


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("name", ["fused.ome.zarr", "fused.ome.tif"])
def test_a_result_that_is_opened_again_can_be_asked_too(viewer, tmp_path, name, times):
    written = write_result(tmp_path / name, t=times, y=60, x=200)
    widget = opened(viewer)
    viewer.open(str(written.path), plugin="napari-hybridfusion")
    fused = viewer.layers["membrane fused"]
    viewer.layers.selection.active = fused
    assert widget.form.layer.value is None  # it is no stack
    for t in range(times):
        for y, x in ((5, 7), (30, 150)):
            index = (t, 0, y, x) if times > 1 else (y, x)
            values = widget.panel.probe.values(fused.data_to_world(index))
            assert values["decision"] == written.pixels["decision"][t, 0, 0, y, x]
            for channel, product in enumerate(("height_um", "confidence")):
                expected = written.pixels["maps"][t, channel, 0, y, x]
                assert values[product] == pytest.approx(expected, nan_ok=True)


def test_a_result_that_is_opened_again_leads_to_the_slices_of_an_open_stack(viewer, tmp_path):
    written = write_result(tmp_path / "fused.ome.zarr", y=60, x=200)
    widget = opened(viewer)
    decision = written.pixels["decision"][0, 0, 0]
    y, x = (int(at) for at in np.argwhere(decision > 1)[0])
    viewer.open(str(written.path), plugin="napari-hybridfusion")
    fused = viewer.layers["membrane fused"]
    viewer.layers.selection.active = fused
    widget.panel.probe.jump(fused.data_to_world((y, x)))  # there is no stack to show a slice of
    place = {"scale": (2.0, *fused.scale), "translate": (6.0, 0, 0), "axis_labels": ("z", "y", "x")}
    viewer.add_image(np.zeros((SLICES, 30, 30)), name="another", **place)
    viewer.add_image(np.zeros((SLICES, 60, 200)), name="stack", **place)
    viewer.layers.selection.active = fused
    widget.panel.probe.jump((0.0, *fused.data_to_world((y, x))))
    assert viewer.dims.current_step[0] == decision[y, x] - 1


@pytest.mark.parametrize("name", ["kept.ome.zarr", "kept.ome.tif"])
def test_a_corrected_result_in_memory_is_saved_whole(qtbot, viewer, widget, tmp_path, monkeypatch, name):
    fuse(qtbot, widget)
    paint(viewer, widget, 5, slice(0, 20), slice(0, 64))
    refuse(qtbot, widget)
    path = tmp_path / name
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_args, **_kwargs: (str(path), ""))
    widget.panel.keep.native.click()
    wait(qtbot, widget)
    assert widget.panel.said.value == f"Saved: {path}"
    verify(path)
    shown = widget.panel.results.active()[0].fused.levels
    with hf.open_stack(path.with_name(path.name.replace("kept", "kept.maps"))) as maps:
        assert [channel.name for channel in maps.channels] == ["height_um", "confidence", "corrected"]
        stored = np.stack([maps.read(0, channel, [0], slice(None), slice(None))[0] for channel in range(3)])
    np.testing.assert_array_equal(stored, shown["maps"][0][0, :, 0])


def test_what_cannot_be_corrected_is_said(qtbot, viewer, widget):
    fuse(qtbot, widget)
    widget.panel.refuse.native.click()
    assert "nothing painted" in widget.panel.said.value
    paint(viewer, widget, 9, slice(0, 5), slice(0, 5))
    count = len(viewer.layers)
    refuse(qtbot, widget)
    assert "Slice 9 was painted; expected" in widget.state.value
    assert len(viewer.layers) == count
    viewer.layers.selection.active = viewer.layers["DAPI"]
    widget.panel.paint.native.click()
    assert "No result is selected" in widget.panel.said.value


def test_the_height_is_a_surface_with_the_image_on_it(qtbot, viewer, widget):
    fuse(qtbot, widget)
    widget.panel.surface.native.click()
    surface = viewer.layers.selection.active
    assert isinstance(surface, Surface), widget.panel.said.value
    assert viewer.dims.ndisplay == 3
    assert [layer for layer in viewer.layers if layer.visible] == [surface]
    heights = hf.fuse(focal_stack(), z_step_um=2.0, method="tenengrad").height_slices
    vertices, faces = surface.data[:2]
    used = np.unique(faces)
    y, x = np.round(vertices[used, 1:]).astype(int).T
    np.testing.assert_allclose(vertices[used, 0], heights[y, x], atol=1e-3)
    world_y = surface.data_to_world(vertices[used[0]])[1]
    assert world_y == pytest.approx(y[0] * 0.25 + 3.0)
    known = np.isfinite(heights)
    corners = known[:-1, :-1] & known[1:, 1:] & known[:-1, 1:] & known[1:, :-1]
    assert len(faces) >= 2 * corners.sum()  # a hole only where a corner is missing


@pytest.mark.own_window
def test_the_window_can_close_while_somebody_paints(qtbot, viewer, widget):
    fuse(qtbot, widget)
    paint(viewer, widget, 5, slice(0, 20), slice(0, 64))
    viewer.close()


def test_two_sliders_show_the_stack_along_the_height_and_project_it(qtbot, viewer, widget):
    fuse(qtbot, widget)
    panel, before = widget.panel.along, len(viewer.layers)
    panel.live.value = True
    assert not widget.panel.said.value
    (shown,) = viewer.layers[before:]
    shown_first = np.array(shown.data)
    panel.offset.value = panel.offset.max / 4
    assert not np.array_equal(shown.data, shown_first)
    panel.thickness.value = panel.thickness.max / 2
    result = widget.panel.results.active() or (widget.panel.results._results[-1],)
    stack = result[0].source.stack
    heights = viewer.layers["DAPI height (µm)"].data[0]
    asked = {"offset_um": panel.offset.value, "thickness_um": panel.thickness.value, "how": "max"}
    wanted = hf.project(stack, np.asarray(heights), **asked).fused[0, 0]
    np.testing.assert_array_equal(shown.data, wanted)
    panel.make.native.click()
    wait(qtbot, widget)
    assert len(viewer.layers) == before + 1  # the coarse one has gone
    np.testing.assert_array_equal(viewer.layers[-1].data, wanted)
