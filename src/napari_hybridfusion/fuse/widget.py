"""The dock widget "Fuse focal stack": it hands what the form says to the same functions as the command line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import CheckBox, Container, PushButton
from napari.utils.notifications import show_info
from qtpy.QtCore import QTimer

from hybridfusion_core.fusion.methods import METHODS
from hybridfusion_core.progress import Progress
from napari_hybridfusion.fuse.assessment import assessing, assessment_text
from napari_hybridfusion.fuse.compare import ShownComparison, comparing, show_comparison
from napari_hybridfusion.fuse.drift import Drift, DriftPlot, as_fused, drift_text, measuring_drift
from napari_hybridfusion.fuse.form import FuseForm
from napari_hybridfusion.fuse.live_preview import LivePreview
from napari_hybridfusion.job.run import Fused, fusing
from napari_hybridfusion.job.task import FieldError, Task, prepare
from napari_hybridfusion.job.worker import Listener, Steps
from napari_hybridfusion.parts.dock import PARTS, Dock
from napari_hybridfusion.parts.field_form import text_label
from napari_hybridfusion.parts.throughput import Pace
from napari_hybridfusion.result.panel import ResultPanel

if TYPE_CHECKING:
    import napari.viewer


class FuseWidget(Dock):
    """Fuses the chosen stack, and adds what comes out as layers."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        form = FuseForm(napari_viewer)
        super().__init__(napari_viewer, "Fuse focal stack", form, "cancelling after this tile …", "Open a stack")
        self.live = CheckBox(
            text="Preview",
            tooltip="Show the middle of the view as it would be fused, again whenever view, time or options change.",
        )
        self.preview_state = text_label("")
        self.preview = LivePreview(napari_viewer, self.form.choices, self._say_of_preview)
        self.fuse = PushButton(text="Fuse", tooltip="Fuse the stack; the result is added as layers.")
        self.cancel.tooltip = "Stop after the tile at hand; layers and files stay as they were."
        self.compare = PushButton(
            text="Compare",
            tooltip="Add the sharpest slice, the maximum projection and a classical fusion (Tenengrad), side by side.",
        )
        self.replace = CheckBox(
            text="Replace the last result of this stack",
            tooltip="Take its layers out of the window when the new result is there. Files stay.",
        )
        self.drift = PushButton(
            text="Drift", tooltip="Measure how the slices lie to each other, and what alignment leaves of it."
        )
        self.drift_plot = DriftPlot()
        self.assess = PushButton(
            text="Assess", tooltip="Say whether fusing is right for this stack, by figures measured on it."
        )
        self._comparison: ShownComparison | None = None
        self.panel = ResultPanel(napari_viewer, self._run)
        # In one row they would be wider than a laptop's window has room for, in a large font.
        rows = [[self.fuse, self.cancel], [self.compare, self.drift, self.assess]]
        main, looks = (Container(widgets=each, layout="horizontal", labels=False) for each in rows)
        main.margins = looks.margins = (0, 0, 0, 0)
        parts = [self.form, self.live, self.preview_state, main, looks, self.replace, self.bar, self.state, self.panel]
        inside = Container(widgets=parts, labels=False)
        inside.native.layout().addWidget(self.drift_plot)
        self._show_inside(inside)
        self.panel.visible = False
        self.panel.follow_selection()  # a result may be open already
        self.live.changed.connect(lambda: self.preview.switch(on=self.live.value))
        self.form.changed.connect(self.preview.refresh)
        self.fuse.changed.connect(self.start)
        self.compare.changed.connect(self.start_comparing)
        self.drift.changed.connect(self.start_measuring_drift)
        self.assess.changed.connect(self.start_assessing)
        # After the event: to show or hide a field draws the canvas, in the midst of what napari does to its layers.
        self._refresh = QTimer()
        self._refresh.setSingleShot(True)
        self._refresh.setInterval(0)
        self._refresh.timeout.connect(self.form.refresh)
        for event in self._layer_events():
            event.connect(self._on_layers)
        self._show_running(False)
        self._say_of_preview("")

    def start(self) -> None:
        """Check what was chosen, and fuse; what is wrong is said beside its field."""
        if self.jobs.running:  # a key may be pressed at any time
            return
        if (task := self._prepared()) is not None:
            self.form.remember()
            self._run(fusing(task), lambda fused: self._show(task, fused))

    def start_comparing(self) -> None:
        """Show what else could be done with the stack, side by side with what has been fused; or end that."""
        if self._comparison is not None:
            self._comparison.close(self.viewer)
            self._compared(None)
            return
        if (task := self._prepared()) is not None:
            self._run(comparing(task), lambda found: self._compared(show_comparison(self.viewer, found, task.source)))

    def start_measuring_drift(self) -> None:
        """Measure how the slices lie to each other, and draw it."""
        if (task := self._prepared()) is not None:
            self._run(measuring_drift(task), self._show_drift)

    def _show_drift(self, drift: Drift) -> None:
        self.drift_plot.show_drift(drift)
        self.state.value = drift_text(drift)

    def start_assessing(self) -> None:
        """Measure whether fusing is right for the stack, and say it."""
        if (task := self._prepared()) is not None:
            self._run(assessing(task), lambda found: setattr(self.state, "value", assessment_text(found)))

    def _compared(self, comparison: ShownComparison | None) -> None:
        self._comparison = comparison
        self.compare.text = "Compare" if comparison is None else "End comparison"

    def _prepared(self) -> Task | None:
        if self._refresh.isActive():
            self._refresh.stop()
            self.form.refresh()
        self.form.say(None)
        try:
            return prepare(self.form.choices())
        except FieldError as error:
            self.form.say(error)
            return None

    def _run(self, steps: Steps, show: Callable[[Any], object]) -> None:
        pace = Pace()
        self._begin()

        def done(value: Any) -> None:
            self._end("done")
            show(value)

        on_progress = partial(self._show_progress, pace)
        self.jobs.start(steps, Listener(on_progress, done, partial(self._end, "cancelled"), self._fail))

    def _show(self, task: Task, fused: Fused) -> None:
        self.live.value = False  # it would cover what it was a preview of
        treatment = fused.spec.provenance.get("treatment")
        self.panel.show_result(as_fused(task, treatment), fused, replace=self.replace.value)
        self.state.value = ended(fused)
        if fused.job.plan.tile < task.job.plan.tile:
            show_info(f"The GPU's memory was full: fused in tiles of {fused.job.plan.tile} px, with the same result.")

    def _say_of_preview(self, state: str) -> None:
        self.preview_state.value = state
        self.preview_state.visible = bool(state)

    def _show_progress(self, pace: Pace, step: Progress) -> None:
        self._fill(step.stage, PARTS * step.done // max(step.total, 1), pace.describe(step))

    def _show_running(self, running: bool) -> None:
        super()._show_running(running)
        self.fuse.enabled = self.compare.enabled = self.drift.enabled = self.assess.enabled = not running
        self.preview.hold(on=running)
        self.panel.hold(on=running)

    def _on_layers(self, _event: object = None) -> None:
        self._refresh.start()

    def _layer_events(self) -> tuple[Any, ...]:
        events, selected = self.viewer.layers.events, self.viewer.layers.selection.events.active
        return events.inserted, events.removed, events.reordered, events.renamed, selected

    def _on_parent(self, parent: object) -> None:
        super()._on_parent(parent)
        if parent is None:
            self.live.value = self.panel.follow.value = False  # another dock may be opened in its place

    def _on_destroyed(self) -> None:
        super()._on_destroyed()
        self._refresh.stop()
        self.preview.close()
        self.panel.close()
        for event in self._layer_events():
            event.disconnect(self._on_layers)


def ended(fused: Fused) -> str:
    """Say in one line that a fusion is done, and by what it was made."""
    request = fused.job.request
    models = " and ".join(dict.fromkeys(model.card.name for model in fused.job.models))
    said = f"Done: {fused.spec.name}, by {f'the model {models}' if models else METHODS[request.method].title}."
    decision = fused.levels.get("decision")
    if decision and not np.any(np.asarray(decision[-1])):
        return f"{said} Nothing is in focus anywhere in it: it is the mean of the slices."
    return said
