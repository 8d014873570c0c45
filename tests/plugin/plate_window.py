"""A small plate on disk, and how a person uses the plate widget on it."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from distributed import LocalCluster
from plate_makers import places as plane_places
from plate_makers import write_harmony
from qtpy.QtCore import Qt


def a_plate(folder: Path, **which: object) -> Path:
    """Two wells of two fields, B03 and B04, with noise in them."""
    images = write_harmony(folder, plane_places(**which))
    random = np.random.default_rng(0)
    for file in sorted(images.glob("*.tiff")):
        pixels = random.integers(100, 4000, (24, 32)).astype("uint16")
        tifffile.imwrite(file, pixels, photometric="minisblack", metadata=None)
    return images


@pytest.fixture(autouse=True)
def workers_that_are_threads(request, monkeypatch):
    """Let workers be threads: a process of its own takes ten seconds to start. A `real_cluster` has processes."""

    def cluster(**options):
        return LocalCluster(**options | {"processes": False, "host": None})

    if not request.node.get_closest_marker("real_cluster"):
        monkeypatch.setattr("hybridfusion_core.batch.scheduler.LocalCluster", cluster)


def settled(qtbot, widget):
    def idle():
        return not (widget.looks.running or widget._timer.isActive() or widget.jobs.running or widget.openings.running)

    qtbot.waitUntil(idle, timeout=120_000)


def choose(qtbot, widget, folder, output):
    widget.form.folder.value = folder
    widget.form.output.value = output
    settled(qtbot, widget)


def messages(widget) -> dict[str, str]:
    return {name: text for name in widget.form.fields if (text := widget.form.message(name))}


def fuse(qtbot, widget):
    widget.fuse.native.click()
    assert widget.jobs.running
    settled(qtbot, widget)


def statuses(widget) -> dict[str, dict[str, int]]:
    return {each.name: dict(each.counts) for each in widget.seen.states.wells()}


def click(qtbot, widget, well, modifier=Qt.KeyboardModifier.NoModifier):
    qtbot.mouseClick(widget.map, Qt.MouseButton.LeftButton, modifier, widget.map.cell(well).center().toPoint())
    settled(qtbot, widget)
