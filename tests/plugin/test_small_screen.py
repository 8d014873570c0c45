"""The docks on a laptop's screen: nothing is cut off, and no message makes the window larger."""

import numpy as np
import pytest
from napari.settings import get_settings
from napari.utils.theme import get_theme
from qtpy.QtCore import QPoint
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_hybridfusion.parts.ink import inks

from .test_fuse_widget import fuse, opened, widget

__all__ = ["widget"]

SCREEN = (1280, 720)
LONG = "Nobody can read this in one line, and nobody needs to. " * 20


def size(qtbot, viewer) -> tuple[int, int]:
    window = viewer.window._qt_window
    qtbot.wait(50)  # layouts are made anew in the event loop
    return window.width(), window.height()


@pytest.fixture
def small(qtbot, viewer, widget):
    viewer.window.resize(*SCREEN)
    assert size(qtbot, viewer) == SCREEN
    return widget


def test_messages_and_unfolded_options_leave_the_window_as_it_is(qtbot, viewer, small):
    small.form.folded.value = True
    small.form.output.value = "disk"
    assert size(qtbot, viewer) == SCREEN
    small.fuse.native.click()  # without a name: said under its field
    assert small.form.message("path")
    assert size(qtbot, viewer) == SCREEN
    small.form.output.value = "memory"
    fuse(qtbot, small)
    for label in (small.state, small.preview_state, small.panel.said):
        label.value, label.visible = LONG, True
        assert size(qtbot, viewer) == SCREEN
        assert label.native.height() > 3 * label.native.fontMetrics().height()  # it wraps, and is seen whole
    small.state.value = ""
    assert size(qtbot, viewer) == SCREEN


def test_a_message_is_seen_whole_in_the_folded_part(qtbot, small):
    small.form.boxes.fields["camera"].value = "0.5"
    small.fuse.native.click()
    label = small.form._messages["camera"].native
    qtbot.wait(100)
    assert label.isVisible()
    assert label.height() >= label.heightForWidth(label.width())


def test_fields_begin_at_one_place_and_nothing_widens_the_window_in_any_font(qtbot, viewer, small):
    """Also where options are unfolded and a layer has a long name."""
    viewer.layers["DAPI"].name = "a long name that a microscope gave to this stack"
    small.form.folded.value = True
    fields = [small.form.layer, small.form.device, small.form.z_step_um, *small.form.boxes.fields.values()]
    for font in (10, 16):
        get_settings().appearance.font_size = font
        qtbot.wait(100)
        assert len({each.native.mapTo(small.form.native, QPoint(0, 0)).x() for each in fields}) == 1
        assert small.scroll.viewport().width() >= small._inside.native.minimumSizeHint().width()
        assert viewer.window._qt_window.width() <= SCREEN[0]


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_words_can_be_read_on_the_theme(monkeypatch, theme):
    monkeypatch.setattr(get_settings().appearance, "theme", theme)
    ground = luminance(get_theme(theme).background.as_rgb_tuple(alpha=False))
    for color in (inks().error, inks().plain):
        lights = sorted((ground, luminance(tuple(int(color[at : at + 2], 16) for at in (1, 3, 5)))))
        assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 4.5  # WCAG 2.1, 1.4.3


def luminance(rgb: tuple[int, ...]) -> float:
    """Relative luminance of sRGB as WCAG 2.1 defines it."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (each / 255 for each in rgb)]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))


def test_a_stack_that_fails_says_so_in_the_dock(qtbot, viewer):
    stack = np.ones((3, 40, 40), np.float32)
    stack[1, 5, 5] = np.nan
    viewer.add_image(stack, name="holes", contrast_limits=(0, 1))
    widget = opened(viewer)
    viewer.window.resize(*SCREEN)
    fuse(qtbot, widget)
    assert widget.state.value.startswith("Failed: ")
    assert "Advanced options" in widget.state.value  # what to do about it, in this window
    assert "--" not in widget.state.value
    assert size(qtbot, viewer) == SCREEN


def test_saving_takes_the_suffix_of_the_filter_and_replaces_after_a_yes(qtbot, widget, tmp_path, monkeypatch):
    fuse(qtbot, widget)
    proposed, answers = [], []

    def chosen(_parent, _title, proposal, kinds):
        proposed.append(proposal)
        return str(tmp_path / "mine"), kinds.split(";;")[1]

    monkeypatch.setattr(QFileDialog, "getSaveFileName", chosen)
    monkeypatch.setattr(QMessageBox, "question", lambda *_: answers.pop(0))
    save = widget.panel.keep.native.click
    save()
    qtbot.waitUntil(lambda: not widget.jobs.running, timeout=60_000)
    path = tmp_path / "mine.ome.tif"
    assert widget.panel.said.value == f"Saved: {path}"
    assert proposed[0].endswith("DAPI_fused.ome.zarr")
    path.write_bytes(b"something else")
    answers.append(QMessageBox.StandardButton.No)
    save()
    assert not widget.jobs.running
    assert path.read_bytes() == b"something else"
    answers.append(QMessageBox.StandardButton.Yes)
    save()
    qtbot.waitUntil(lambda: not widget.jobs.running, timeout=60_000)
    assert widget.panel.said.value == f"Saved: {path}"
    assert path.stat().st_size > 1000
    assert not answers


def test_results_outlive_the_dock_and_are_those_of_their_copies_too(qtbot, viewer, widget, tmp_path, monkeypatch):
    fuse(qtbot, widget)
    viewer.window.remove_dock_widget(widget.native)
    again = opened(viewer)
    fused = viewer.layers["DAPI fused"]
    copy = type(fused)(fused.data.copy(), name="my copy", metadata=dict(fused.metadata), scale=fused.scale)
    viewer.add_layer(copy)
    for layer in (fused, copy):
        viewer.layers.selection.active = layer
        path = tmp_path / f"{layer.name}.ome.zarr"
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, path=path: (str(path), ""))
        again.panel.keep.native.click()
        qtbot.waitUntil(lambda: not again.jobs.running, timeout=60_000)
        assert again.panel.said.value == f"Saved: {path}"
    again.panel.paint.native.click()
    assert viewer.layers.selection.active.mode == "paint"
