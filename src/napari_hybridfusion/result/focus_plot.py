"""A small plot: how probable each slice is to be the sharpest under the pointer, in the colours of the decision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hybridfusion_core.io.palette import slice_colors
from napari_hybridfusion.parts.ink import inks

_HEIGHT = 150  # px
_STRIP = 0.12  # of the axis, for the colours of the decision


class FocusPlot(FigureCanvasQTAgg):
    """Shows the posterior of one pixel over a strip with the colour of every slice; without a pixel, the strip alone.

    Attributes:
        chosen: is told the number of a slice whose bar was clicked.
        shown: the probabilities that are shown, one for each slice that was fused; None without a pixel.
    """

    def __init__(self) -> None:
        self.figure = Figure(figsize=(3, 1.5), layout="constrained", facecolor="none")
        super().__init__(self.figure)  # type: ignore[no-untyped-call]
        self.setStyleSheet("background: transparent")
        self.setFixedHeight(_HEIGHT)
        self.shown: np.ndarray | None = None
        self.chosen: Callable[[int], object] = lambda _: None
        self._numbers: Sequence[int] = ()
        self.setToolTip("A click on a bar shows that slice.")
        self.mpl_connect("button_press_event", self._on_press)

    def show_posterior(self, numbers: Sequence[int], slices: int, posterior: np.ndarray | None) -> None:
        """Draw.

        Args:
            numbers: of the slices that were fused, counted from 1.
            slices: how many the stack has; the colours of the decision count them.
            posterior: one number in [0, 1] for each of `numbers`, or None.
        """
        self.shown, self._numbers = posterior, numbers
        ink = inks().plain
        colors = np.array(slice_colors(slices))[list(numbers)] / 255
        self.figure.clear()
        axes = self.figure.add_subplot(facecolor="none")
        axes.bar(numbers, -_STRIP, width=1, color=colors)
        if posterior is not None:
            axes.bar(numbers, posterior, width=0.9, color=colors, edgecolor=ink, linewidth=0.5)
        axes.set(xlim=(numbers[0] - 0.5, numbers[-1] + 0.5), ylim=(-_STRIP, 1), yticks=[0, 0.5, 1])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
        axes.set_xlabel("slice (the slider shows one less)", color=ink, fontsize=8)
        axes.set_ylabel("probability", color=ink, fontsize=8)
        axes.tick_params(colors=ink, labelsize=8)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(ink)
        self.draw_idle()  # type: ignore[no-untyped-call]

    def _on_press(self, event: Any) -> None:
        if event.xdata is not None and (number := round(event.xdata)) in self._numbers:
            self.chosen(number)
