"""Take the pictures of docs/napari.md: a real window, the samples, every step that the page describes.

    python benchmarks/napari_pictures.py docs/pictures/napari

Needs the extra `napari` and a display (without one: xvfb-run -a -s "-screen 0 1600x1000x24").
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

from hybridfusion_core.model.model_folder import VARIABLE
from napari_hybridfusion.result.shown import explaining

_SIZE = (1400, 900)
_STEPS, _SHOWN_AT = 60, 40  # of the fine-tuning; and after which of them its picture is taken


def main(folder: Path) -> None:
    """Go through the page step by step."""
    folder.mkdir(parents=True, exist_ok=True)
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*_SIZE)
    viewer.open_sample("napari-hybridfusion", "organoid")
    widget = viewer.window.add_plugin_dock_widget("napari-hybridfusion", "Fuse focal stack")[1]

    def take(name: str) -> None:
        settle(0.5)
        viewer.window.screenshot(str(folder / f"{name}.png"), canvas_only=False, flash=False)

    def wait(busy: Callable[[], bool]) -> None:
        settle(0.2)
        while busy():
            settle(0.05)

    take("opened")
    widget.live.value = True
    wait(lambda: widget.preview.busy)
    take("preview")
    widget.fuse.native.click()
    wait(lambda: widget.jobs.running)
    point_at(viewer)
    wait(lambda: widget.panel.posterior.busy)
    take("fused")
    decision = next(layer for layer in viewer.layers if layer.name.endswith("decision"))
    decision.visible = True
    take("decision")
    decision.visible = False
    viewer.dims.set_current_step(0, 2)  # the label that is painted follows
    widget.panel.paint.native.click()
    painted = viewer.layers.selection.active
    middle = np.array(painted.data.shape) // 2
    for offset in range(-60, 61, 8):
        painted.paint((*middle[:-1], middle[-1] + offset), 3)
    take("painted")
    widget.panel.refuse.native.click()
    wait(lambda: widget.jobs.running)
    take("corrected")
    widget.compare.native.click()
    wait(lambda: widget.jobs.running)
    take("compare")
    widget.compare.native.click()
    widget.panel.surface.native.click()
    take("surface")
    viewer.close()
    take_plate(folder / "plate.png")
    take_finetune(folder)


def take_plate(path: Path) -> None:
    """Fuse the sample plate and open one of its wells."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*_SIZE)
    viewer.open_sample("napari-hybridfusion", "plate")
    widget = viewer.window.add_plugin_dock_widget("napari-hybridfusion", "Fuse plate")[1]
    with tempfile.TemporaryDirectory() as folder:
        widget.form.output.value = Path(folder) / "organoids_fused.ome.zarr"
        settle(1)
        while widget.looks.running:
            settle(0.05)
        widget.fuse.native.click()
        while widget.jobs.running:
            settle(0.05)
        widget.open_well("B3", keep=True)
        settle(0.5)
        viewer.window.screenshot(str(path), canvas_only=False, flash=False)
        viewer.close()


def take_finetune(folder: Path) -> None:
    """Fine-tune on the sample plate, briefly, and compare blind; the model goes with the program."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*_SIZE)
    viewer.open_sample("napari-hybridfusion", "plate")
    widget = viewer.window.add_plugin_dock_widget("napari-hybridfusion", "Fine-tune model")[1]

    def take(name: str, lowest: Any) -> None:
        settle(0.5)
        widget.scroll.ensureWidgetVisible(lowest)
        settle(0.5)
        viewer.window.screenshot(str(folder / f"{name}.png"), canvas_only=False, flash=False)

    with tempfile.TemporaryDirectory() as models:
        os.environ[VARIABLE] = models
        widget.form.inputs.more.native.click()
        widget.form.steps.value = _STEPS
        widget.train.native.click()
        while widget.jobs.running and widget.step < _SHOWN_AT:
            settle(0.05)
        take("finetune", widget.view)
        while widget.jobs.running:
            settle(0.05)
        widget.compare.native.click()
        take("finetune_blind", widget.blind)
        viewer.close()


def point_at(viewer: Any) -> None:
    """Put the pointer where the decision is surest."""
    layer = viewer.layers.selection.active
    confidence = explaining(viewer, layer)["confidence"].data
    y, x = np.unravel_index(np.nanargmax(confidence), confidence.shape)[-2:]
    viewer.cursor.position = layer.data_to_world((0,) * (layer.ndim - 2) + (y, x))


def settle(seconds: float) -> None:
    """Let the window live for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
