"""What people who live in napari do all day: select, look from the side, press keys, undo, and come back tomorrow."""

import json

import numpy as np
import pytest
from matplotlib.backend_bases import MouseEvent
from napari.components import ViewerModel
from napari.utils.action_manager import action_manager
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QMessageBox

from napari_hybridfusion import actions
from napari_hybridfusion.fuse.form import FuseForm
from napari_hybridfusion.job.meanwhile import meanwhile
from napari_hybridfusion.parts import settings
from napari_hybridfusion.parts.ink import inks

from .test_fuse_widget import PLACE, focal_stack, fuse, opened


@pytest.fixture
def widget(viewer):
    viewer.add_image(focal_stack(), name="DAPI", **PLACE)
    widget = opened(viewer)
    widget.form.method.value = "tenengrad"
    return widget


@pytest.fixture
def form(qtbot):
    """A form without a window, of two stacks that are no channels of each other."""
    viewer = ViewerModel()
    for name, side in (("first", 32), ("second", 48)):
        viewer.add_image(focal_stack(4, side), name=name, **PLACE)
    form = FuseForm(viewer)
    qtbot.addWidget(form.native)
    return form


def test_the_stack_that_is_selected_is_chosen_unless_another_is_held(form):
    layers = form._viewer.layers
    assert form.layer.value is layers["second"]
    layers.selection.active = layers["first"]
    form.refresh()
    assert form.layer.value is layers["first"]
    form.hold.value = True
    layers.selection.active = layers["second"]
    form.refresh()
    assert form.layer.value is layers["first"]
    form.hold.value = False
    form._viewer.add_image(focal_stack(4, 40), name="third", **PLACE)  # to add is not to select
    form.refresh()
    assert form.layer.value is layers["first"]


def test_slices_are_chosen_as_the_slider_counts_them(form):
    field = form.boxes.fields["z"]
    form._viewer.dims.set_current_step(0, 1)
    form.first.changed.emit(True)
    assert field.value == "1:"
    form._viewer.dims.set_current_step(0, 2)
    form.last.changed.emit(True)
    assert field.value == "1:3"
    field.value = "0:4:2"
    form.first.changed.emit(True)
    assert field.value == "2:4:2"


def test_nothing_is_red_before_something_was_asked_for(form):
    viewer = form._viewer
    viewer.layers.clear()
    viewer.add_image(np.zeros((20, 30)), name="alone")
    form.refresh()
    label = form._messages["layer"]
    assert "further images" in label.value
    assert inks().error not in label.native.styleSheet()
    viewer.layers.clear()
    form.refresh()
    assert not any(form.message(name) for name in form.fields)


def test_colours_that_came_as_an_axis_are_opened_as_colours(form):
    viewer = form._viewer
    viewer.layers.clear()
    pixels = np.random.default_rng(0).integers(0, 255, (5, 24, 32, 3)).astype(np.uint8)
    viewer.add_image(pixels, rgb=False, name="photo", scale=(2, 1, 1, 1))
    form.refresh()
    form.axes.value = "colours"
    assert form.layer.value.rgb
    assert form.layer.value.scale == pytest.approx((2, 1, 1))
    assert form.axes.choices == ("ZYX",)


def test_what_was_chosen_is_there_tomorrow_and_defaults_come_back(form, monkeypatch, tmp_path, qtbot):
    monkeypatch.setattr(settings, "_path", lambda: tmp_path / "hybridfusion.json")
    form.select.value, form.method.value, form.boxes.fields["z"].value = "hard", "tenengrad", "1:3"
    form.remember()
    assert json.loads((tmp_path / "hybridfusion.json").read_text())["fuse"]["pixels"] == "hard"
    again = FuseForm(ViewerModel())
    qtbot.addWidget(again.native)
    assert (again.select.value, again.method.value) == ("hard", "tenengrad")
    assert again.boxes.fields["z"].value == ""  # of one stack
    again.restore()
    assert (again.select.value, again.method.value) == ("soft", "network")
    (tmp_path / "hybridfusion.json").write_text('{"fuse": {"model": "gone", "pixels": 7, "tile": -1}}')
    damaged = FuseForm(ViewerModel())
    qtbot.addWidget(damaged.native)
    assert (damaged.model.value, damaged.select.value) == ("auto", "soft")


def test_a_result_is_asked_looked_at_from_the_side_replaced_and_removed(qtbot, viewer, widget, monkeypatch):
    fuse(qtbot, widget)
    panel, fused = widget.panel, viewer.layers["DAPI fused"]
    assert widget.state.value.startswith("Done: DAPI, by ")
    # From the side it would cover the stack.
    viewer.dims.order = (1, 0, 2)
    assert not fused.visible
    assert viewer.layers["DAPI"].visible
    viewer.dims.order = (0, 1, 2)
    assert fused.visible
    # A bar of the plot leads to its slice.
    canvas = panel.plot
    canvas.draw()
    x, y = canvas.figure.axes[0].transData.transform((4, 0.5))
    canvas.callbacks.process("button_press_event", MouseEvent("button_press_event", canvas, x, y, 1))
    assert viewer.dims.current_step[0] == 3
    assert not fused.visible
    panel.probe.toggle((0, 0, 0))
    assert fused.visible
    panel.about.native.click()
    text = panel.about_window.text.toPlainText()
    assert "Focal stacks of 5 slices were fused by" in text
    panel.about_window.copy.click()
    assert QApplication.clipboard().text() == text
    panel.about_window.close()
    count = len(viewer.layers)
    widget.replace.value = True
    fuse(qtbot, widget)
    assert len(viewer.layers) == count
    assert fused not in viewer.layers
    answers = [QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes]
    monkeypatch.setattr(QMessageBox, "question", lambda *_: answers.pop(0))
    panel.remove.native.click()
    assert len(viewer.layers) == count
    panel.remove.native.click()
    assert [each.name for each in viewer.layers] == ["DAPI"]
    assert not panel.visible


def test_keys_and_the_menu_of_layers_do_what_the_buttons_do(qtbot, viewer, widget):
    from napari._app_model import get_app_model

    shown = viewer.window._qt_window
    assert shown is not None
    for name, *_ in actions._KEYS:
        full = f"{actions.PLUGIN}:{name}"
        assert full in action_manager._actions  # what the preferences list
        assert action_manager._shortcuts[full]
    assert f"{actions.PLUGIN}.fuse_selected" in [
        item.command.id for item in get_app_model().menus.get_menu("napari/layers/context") if hasattr(item, "command")
    ]
    viewer.dims.set_current_step(0, 1)
    actions.next_slice(viewer)
    assert viewer.dims.current_step[0] == 2
    actions.previous_slice(viewer)
    assert viewer.dims.current_step[0] == 1
    actions.fuse(viewer)
    qtbot.waitUntil(lambda: not widget.jobs.running, timeout=60_000)
    fused = viewer.layers["DAPI fused"]
    viewer.cursor.position = fused.data_to_world((0, 30, 20))
    actions.reveal(viewer)
    assert not fused.visible
    actions.reveal(viewer)
    assert fused.visible


def test_the_window_lives_while_somebody_waits(qapp):  # noqa: ARG001 - a clock needs the application
    ticks = []
    timer = QTimer()
    timer.timeout.connect(lambda: ticks.append(1))
    timer.start(5)

    def work():
        while len(ticks) < 3:  # of the window's own clock
            pass
        return "made"

    assert meanwhile(work, "making something") == "made"
    timer.stop()
    assert len(ticks) >= 3
    with pytest.raises(ValueError, match="broken"):
        meanwhile(lambda: int("broken"), "making nothing")
