"""A training while it runs: loss terms and validation as curves, and a held-out stack as it is fused now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from imagecodecs import imread
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_hybridfusion.parts.field_form import text_label
from napari_hybridfusion.parts.ink import inks
from napari_hybridfusion.parts.picture import PictureView

_HEIGHT = 260  # px
_POINTS = 400  # of a curve; twice as many are thinned out to these
_EVERY = 0.02  # of the steps so far; more often nothing new is seen
_SOURCES = {  # of loss terms: what their names begin with, the most special first
    "familiar_": ("scenes that the start knows", "tab:orange"),
    "unlabelled_": ("your stacks", "tab:green"),
    "painted": ("corrections", "tab:red"),
    "pull": ("distance from the start", "tab:gray"),
    "": ("scenes of this microscope", "tab:blue"),
}
_CAPTION = "held-out stack:  slice  ·  fused before  ·  fused now  ·  decision"


class Curve:
    """Values by step, of bounded number: means of as many steps as it takes."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.values: list[float] = []
        self._each, self._waiting = 1, list[tuple[float, float]]()

    def add(self, step: float, value: float) -> None:
        """Take in a value; steps only grow."""
        self._waiting.append((step, value))
        if len(self._waiting) == self._each:
            step, value = np.mean(self._waiting, axis=0)
            self.steps.append(float(step))
            self.values.append(float(value))
            self._waiting = []
        if len(self.steps) == 2 * _POINTS:
            self.steps, self.values = (list(np.reshape(each, (-1, 2)).mean(1)) for each in (self.steps, self.values))
            self._each *= 2


class TrainingView(QWidget):  # type: ignore[misc]
    """Shows what a training reports.

    Attributes:
        losses: curve of each loss term.
        validation: curve of each figure of the validation, a point for each.
        picture: of a held-out stack.
        figures: the last validation in words.
    """

    def __init__(self) -> None:
        super().__init__()
        self.losses: dict[str, Curve] = {}
        self.validation: dict[str, Curve] = {}
        self.picture = PictureView("A held-out stack: slice, fused before, fused now, decision", largest=1)
        self.caption = QLabel(_CAPTION)
        self.caption.setWordWrap(True)
        self.figures = text_label("")
        self._figure = Figure(figsize=(3, 3), layout="constrained", facecolor="none")
        self._canvas = FigureCanvasQTAgg(self._figure)  # type: ignore[no-untyped-call]
        self._canvas.setStyleSheet("background: transparent")
        self._canvas.setFixedHeight(_HEIGHT)
        self._canvas.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._last: Mapping[str, float] = {}
        self._first: Mapping[str, float] = {}
        self._drawn_at = 0
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self._canvas, self.figures.native, self.caption, self.picture):
            layout.addWidget(widget)
        self.clear()

    def clear(self) -> None:
        """Forget a training, and take no room until the next one reports."""
        self.losses, self.validation = {}, {}
        self._last, self._first, self._drawn_at = {}, {}, 0
        self.picture.show_pixels(None)
        self.setVisible(False)

    def show_step(
        self, step: int, terms: Mapping[str, float], validation: Mapping[str, float], picture: Path | None
    ) -> None:
        """Take in a step; the picture is read again with each validation, when it is drawn anew."""
        _extend(self.losses, step, terms)
        judged = bool(validation) and validation != self._last
        if judged:
            self._first, self._last = self._first or dict(validation), dict(validation)
            _extend(self.validation, step, validation)
            self.figures.value = _in_words(validation, self._first)
            if picture is not None:
                self.picture.show_pixels(np.asarray(imread(picture)))
        if judged or step >= (1 + _EVERY) * self._drawn_at:
            self._drawn_at = step
            self._draw()
            self.setVisible(True)

    def _draw(self) -> None:
        self._figure.clear()
        losses, gains = self._figure.subplots(2, 1, sharex=True)
        seen: set[str] = set()
        for name, curve in self.losses.items():
            source, color = _source(name)
            losses.plot(curve.steps, curve.values, color=color, linewidth=0.7, label="" if source in seen else source)
            seen.add(source)
        # The pull begins at nothing, which would leave the others no room on a logarithmic axis.
        lowest = [value for name, curve in self.losses.items() if name != "pull" for value in curve.values if value > 0]
        losses.set_yscale("log", nonpositive="mask")
        losses.set_ylim(bottom=0.5 * min(lowest) if lowest else None)
        losses.set_ylabel("loss terms", color=inks().plain, fontsize=8)
        for name in ("psnr", "familiar_psnr"):
            if (found := self.validation.get(name)) is not None:
                gained = np.array(found.values) - found.values[0]
                gains.plot(found.steps, gained, color=_source(name)[1], marker=".", linewidth=1)
        gains.axhline(0, color=inks().plain, linewidth=0.5)
        gains.set_ylabel("PSNR gained, dB", color=inks().plain, fontsize=8)
        gains.set_xlabel("step", color=inks().plain, fontsize=8)
        for axes in (losses, gains):
            _tint(axes)
        self._figure.legend(loc="outside upper left", ncols=2, fontsize=7, labelcolor=inks().plain, frameon=False)
        self._canvas.draw_idle()  # type: ignore[no-untyped-call]


def _tint(axes: Any) -> None:
    axes.set_facecolor("none")
    axes.tick_params(which="both", colors=inks().plain, labelsize=7)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(inks().plain)


def _source(name: str) -> tuple[str, str]:
    return next(found for start, found in _SOURCES.items() if name.startswith(start))


def _extend(curves: dict[str, Curve], step: int, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        curves.setdefault(name, Curve()).add(step, value)


def _in_words(now: Mapping[str, float], first: Mapping[str, float]) -> str:
    def gained(name: str, form: str) -> str:
        return f"{now[name]:{form}} ({now[name] - first[name]:+{form}})"

    own = f"\nheld-out stacks, loss without a truth: {gained('own', '.4f')}" if "own" in now else ""
    return (
        f"scenes of this microscope: {gained('psnr', '.2f')} dB, height error {gained('height', '.3f')} slices\n"
        f"scenes that the start knows: {gained('familiar_psnr', '.2f')} dB{own}"
    )
