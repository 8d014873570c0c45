"""Open, preview and fuse a stack in napari that is far larger than its memory may be, and say what it took.

    python benchmarks/napari_memory.py FOLDER [--side 16384] [--slices 4] [--budget 1024] [--method tenengrad]

Prints the resident memory of the window before the stack is opened, and its peak after each step above that. The stack
is made in FOLDER, and the result goes there. Needs the extra `napari` and a display.
"""

import argparse
import itertools
import threading
import time
from pathlib import Path

import napari
import numpy as np
import psutil
import zarr
from qtpy.QtWidgets import QApplication
from scipy.ndimage import uniform_filter

_BLOCK = 1024
_MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=16384)
    parser.add_argument("--slices", type=int, default=4)
    parser.add_argument("--budget", type=int, default=1024, help="MiB")
    parser.add_argument("--method", default="tenengrad")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / f"stack_{options.side}_{options.slices}.ome.zarr"
    if not path.exists():
        make_stack(path, options.side, options.slices)
    viewer = napari.Viewer(show=True)
    widget = viewer.window.add_plugin_dock_widget("napari-hybridfusion", "Fuse focal stack")[1]
    settle(1)
    peak = Peak()
    print(f"window alone: {peak.base / _MIB:.0f} MiB; budget {options.budget} MiB", flush=True)
    viewer.open(str(path), plugin="napari-hybridfusion")
    settle(3)
    peak.say("opened")
    widget.form.method.value = options.method
    widget.form.boxes.fields["memory"].value = options.budget
    widget.live.value = True
    settle(0.5)
    while widget.preview.busy:
        settle(0.05)
    peak.say(f"previewed ({widget.preview_state.value})")
    widget.live.value = False
    widget.form.output.value = "disk"
    widget.form.path.value = options.folder / "fused.ome.zarr"
    widget.form.overwrite.value = True
    started = time.monotonic()
    widget.fuse.native.click()
    while widget.jobs.running:
        settle(0.05)
    settle(2)
    peak.say(f"fused to disk in {time.monotonic() - started:.0f} s; {widget.state.value or 'done'}")
    for layer in viewer.layers:
        layer.visible = True
        settle(1)
    peak.say("all layers shown")
    viewer.close()


class Peak:
    """Watches the resident memory of this process."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.base = self._highest = self._process.memory_info().rss
        threading.Thread(target=self._watch, daemon=True).start()

    def say(self, step: str) -> None:
        """Print the highest since the last time."""
        print(f"{step}: peak {(self._highest - self.base) / _MIB:.0f} MiB above the window", flush=True)
        self._highest = 0

    def _watch(self) -> None:
        while True:
            self._highest = max(self._highest, self._process.memory_info().rss)
            time.sleep(0.02)


def make_stack(path: Path, side: int, slices: int) -> None:
    """Write an OME-Zarr with a pyramid: one texture, sharp in another slice in each block."""
    group = zarr.open_group(path, mode="w", zarr_format=3)
    factors = [2**level for level in range(max(1, (side // 1024).bit_length()))]
    arrays = [
        group.create_array(
            str(level), shape=(slices, side // factor, side // factor), chunks=(1, 512, 512), dtype="uint8"
        )
        for level, factor in enumerate(factors)
    ]
    texture = np.random.default_rng(0).integers(0, 255, (_BLOCK, _BLOCK)).astype(np.uint8)
    blurred = uniform_filter(texture, 3)
    for z, y, x in itertools.product(range(slices), range(0, side, _BLOCK), range(0, side, _BLOCK)):
        tile = texture if z == (x // _BLOCK) % slices else blurred
        for array, factor in zip(arrays, factors, strict=True):
            small = tile[::factor, ::factor]
            place = (slice(at // factor, at // factor + len(small)) for at in (y, x))
            array[(z, *place)] = small
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    datasets = [
        {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": [2.0, factor / 2, factor / 2]}]}
        for level, factor in enumerate(factors)
    ]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"name": "noise", "axes": axes, "datasets": datasets}]}


def settle(seconds: float) -> None:
    """Let the window live for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.005)


if __name__ == "__main__":
    main()
