"""Files as `hybridfusion fuse` and microscopes leave them, small, written through the core's own writers."""

import gc
from dataclasses import dataclass
from pathlib import Path

import napari
import numpy as np
import pytest
from conftest import models_of_one_test, tiny_model
from napari.settings import get_settings
from qtpy.QtWidgets import QWidget

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


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    """Forms neither begin with what whoever runs the tests has chosen, nor change it."""
    monkeypatch.setattr("napari_hybridfusion.parts.settings._path", lambda: None)


@pytest.fixture(scope="session")
def shared_window(qapp):  # noqa: ARG001 - a window needs the application
    """Return one window for all tests: to make a window, and to see that it is gone, takes five seconds."""
    from napari._qt.qt_viewer import QtViewer

    with pytest.MonkeyPatch.context() as patch:
        # As napari's own fixture has it: no thread that reads the pointer, and no console.
        patch.setattr("napari._qt.threads.status_checker.StatusChecker.start", lambda *_: None)
        patch.setattr("napari._qt.qt_viewer.QtViewer._get_console", _no_console)
        get_settings().reset()
        viewer = napari.Viewer(show=True, show_welcome_screen=False)
        QtViewer._instances.clear()  # `make_napari_viewer` would take it for a leak
        yield viewer
        viewer.window._qt_window._save_current_window_settings = lambda: None
        viewer.close()


@pytest.fixture
def viewer(request, qtbot):
    """Return a window with nothing in it; what a test leaves there is taken out.

    A test that is marked `own_window` gets one of its own and may close it; napari sees to it that nothing keeps it
    alive.
    """
    if request.node.get_closest_marker("own_window"):
        yield request.getfixturevalue("make_napari_viewer")(show=True)
        return
    viewer = request.getfixturevalue("shared_window")
    size = viewer.window._qt_window.size()
    yield viewer
    for dock in list(viewer.window._wrapped_dock_widgets.values()):
        viewer.window.remove_dock_widget(dock)
    viewer.layers.clear()
    viewer.dims.ndisplay = 2
    viewer.dims.order = range(viewer.dims.ndim)
    viewer.canvas.grid.enabled = False
    viewer.status = "Ready"
    viewer.cursor.position = (-1e6,) * viewer.dims.ndim
    get_settings().reset()
    viewer.window._qt_window.resize(size)
    gc.collect(1)
    qtbot.wait(1)  # what was taken out is deleted in the event loop


def _no_console(*_args):
    widget = QWidget()
    widget._update_theme = lambda *_: None
    return widget
