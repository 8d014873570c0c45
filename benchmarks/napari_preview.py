"""How long the live preview takes, and whether the window turns meanwhile.

    python benchmarks/napari_preview.py                  # 12 × 512², as the preview of a larger stack is
    python benchmarks/napari_preview.py --side 2048

Opens a real window and switches the preview on, then pans. Prints, for each, when the first pixels came, when the
network's preview was complete, and the longest gap between two turns of the event loop. The first row holds what a
session pays once: libraries, weights, compilation. Needs the extra `napari` and a display (without one: xvfb-run -a).
"""

import argparse
import time
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QEventLoop, QTimer
from qtpy.QtWidgets import QApplication

from hybridfusion_core.scenes.samples.organoid import organoid_stack
from napari_pictures import settle

_TURN = 5  # ms between two looks at the clock


class Gaps:
    """Looks at the clock in every turn of the event loop, and keeps the longest time between two."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.timeout.connect(self._look)
        self._timer.start(_TURN)

    def restart(self) -> None:
        """Forget what was before."""
        self.longest, self._last = 0.0, time.perf_counter()

    def _look(self) -> None:
        now = time.perf_counter()
        self.longest, self._last = max(self.longest, now - self._last), now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--slices", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5, help="of panning and back")
    options = parser.parse_args()
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1400, 900)
    viewer.add_image(
        organoid_stack(size=options.side, slices=options.slices).array[0], name="stack", scale=(2.0, 0.325, 0.325)
    )
    widget = viewer.window.add_plugin_dock_widget("napari-hybridfusion", "Fuse focal stack")[1]
    gaps = Gaps()
    print("| what | first pixels, s | complete, s | longest gap, s |\n|---|---|---|---|")

    def show(what: str, change: Any) -> None:
        settle(1)
        first: list[float] = []
        original = widget.preview._show

        def shown(picture: Any) -> None:
            original(picture)
            first.append(time.perf_counter())

        widget.preview._show = shown
        gaps.restart()
        started = time.perf_counter()
        change()
        while not first or widget.preview.busy:
            # Sleeps between events, as napari does: a loop without pause would keep a core from the preview.
            QApplication.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)
        del widget.preview._show
        print(f"| {what} | {first[0] - started:.2f} | {first[-1] - started:.2f} | {gaps.longest:.3f} |", flush=True)

    show("switched on, the first of a session", lambda: setattr(widget.live, "value", True))
    middle = np.array(viewer.scene.camera.center)
    for turn in range(options.rounds):
        if options.side > 512:
            away = middle + np.array((0, 0, 0.325 * 200 * (1 if turn % 2 == 0 else -1)))
            show("panned", lambda away=away: setattr(viewer.scene.camera, "center", tuple(away)))
        else:
            show("another option", lambda turn=turn: setattr(widget.form.select, "value", ("hard", "soft")[turn % 2]))
    widget.live.value = False
    show("switched on again", lambda: setattr(widget.live, "value", True))
    viewer.close()


if __name__ == "__main__":
    main()
