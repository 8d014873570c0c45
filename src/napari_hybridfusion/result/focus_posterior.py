"""Follows the pointer over results, and works out beside the window how sure the decision under it is."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Layer
from napari.utils.notifications import notification_manager
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from hybridfusion_core.errors import HybridFusionError
from hybridfusion_core.fusion.loop import posterior_at
from hybridfusion_core.fusion.provenance import statistics_of
from napari_hybridfusion.job.worker import Jobs, Listener
from napari_hybridfusion.result.shown import Place, ShownResult, ShownResults, decision_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

_PAUSE = 80  # ms for which the pointer rests before anything is computed

Posterior = NDArray[np.float32]


class FocusPosterior:
    """Finds the posterior over the slices under the pointer.

    Args:
        viewer: whose pointer it follows.
        results: of that window.
        show: is told of which result, and the posterior there; None where the pointer is beside it.
    """

    def __init__(
        self, viewer: ViewerModel, results: ShownResults, show: Callable[[ShownResult, Posterior | None], None]
    ) -> None:
        self._viewer, self._results, self._show = viewer, results, show
        self.jobs = Jobs()
        self._held = False
        self._last: tuple[ShownResult, int, Place] | None = None
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PAUSE)
        self._timer.timeout.connect(self._look)
        viewer.cursor.events.position.connect(self._on_move)

    @property
    def busy(self) -> bool:
        """Whether there is more to come."""
        return self._timer.isActive() or self.jobs.running

    def hold(self, *, on: bool) -> None:
        """Compute nothing while something else needs the machine."""
        self._held = on

    def close(self) -> None:
        """Follow no longer."""
        self._timer.stop()
        self.jobs.close()
        self._viewer.cursor.events.position.disconnect(self._on_move)

    def _on_move(self, _event: object = None) -> None:
        if not self._held:
            self._timer.start()

    def _look(self) -> None:
        active = self._results.active()
        if active is None or self._held or self.jobs.running:  # its end comes back here
            return
        result, layer = active
        if not result.fused.job.method.decides:
            return
        place = result.pixel(layer, self._viewer.cursor.position)
        if not result.holds(place):
            self._last = None
            self._show(result, None)
            return
        wanted = (result, decision_of(layer), place)
        if self._last is not None and self._last[0] is result and self._last[1:] == wanted[1:]:
            return
        self._last = wanted
        found = _finding(result, layer, place)
        self.jobs.start(found, Listener(lambda _: None, lambda value: self._found(result, value), self._look, _fail))

    def _found(self, result: ShownResult, posterior: Posterior) -> None:
        self._show(result, posterior)
        self._look()


def _finding(result: ShownResult, layer: Layer, place: Place) -> Generator[None, None, Posterior]:
    yield
    fused = result.fused
    statistics = statistics_of(fused.spec, fused.job, place[0])
    return posterior_at(fused.job, result.source.stack, statistics, decision_of(layer), place)


def _fail(error: Exception) -> None:
    if not isinstance(error, HybridFusionError):
        notification_manager.receive_error(type(error), error, error.__traceback__)
