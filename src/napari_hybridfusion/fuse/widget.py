"""The dock widget "Fuse focal stack": it hands what the form says to the same functions as the command line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

from magicgui.widgets import CheckBox, Container, ProgressBar, PushButton
from napari.utils.notifications import show_info
from qtpy.QtCore import QTimer

from hybridfusion_core.errors import HybridFusionError
from hybridfusion_core.fusion.methods import METHODS
from hybridfusion_core.progress import Progress
from napari_hybridfusion.fuse.compare import ShownComparison, comparing, show_comparison
from napari_hybridfusion.fuse.drift import Drift, DriftPlot, as_fused, drift_text, measuring_drift
from napari_hybridfusion.fuse.form import FuseForm
from napari_hybridfusion.fuse.live_preview import LivePreview
from napari_hybridfusion.job.run import Fused, fusing
from napari_hybridfusion.job.task import FieldError, Task, in_this_window, prepare
from napari_hybridfusion.job.worker import Jobs, Listener, Steps
from napari_hybridfusion.parts.activity import Activity
from napari_hybridfusion.parts.field_form import scroll_area, text_label
from napari_hybridfusion.parts.throughput import Pace
from napari_hybridfusion.result.panel import ResultPanel

if TYPE_CHECKING:
    import napari.viewer

_PARTS = 1000  # of the progress bar


class FuseWidget(Container):  # type: ignore[misc]
    """Fuses the chosen stack, and adds what comes out as layers."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(labels=False)
        self.viewer = napari_viewer
        self.jobs = Jobs()
        self.form = FuseForm(napari_viewer)
        self.live = CheckBox(
            text="Preview",
            tooltip="Show the middle of the view as it would be fused, again whenever view, time or options change.",
        )
        self.preview_state = text_label("")
        self.preview = LivePreview(napari_viewer, self.form.choices, self._say_of_preview)
        self.fuse = PushButton(text="Fuse", tooltip="Fuse the stack; the result is added as layers.")
        self.cancel = PushButton(text="Cancel", enabled=False, tooltip="Stop; layers and files stay as they were.")
        self.compare = PushButton(
            text="Compare",
            tooltip="Add the sharpest slice, the maximum projection and a classical fusion (Tenengrad), side by side.",
        )
        self.drift = PushButton(
            text="Drift", tooltip="Measure how the slices lie to each other, and what alignment leaves of it."
        )
        self.drift_plot = DriftPlot()
        self.bar = ProgressBar(value=0, max=_PARTS)
        self.state = text_label("")
        self._comparison: ShownComparison | None = None
        self.panel = ResultPanel(napari_viewer, self._run)
        self._activity = Activity("Fuse focal stack", _PARTS)
        buttons = Container(
            widgets=[self.fuse, self.cancel, self.compare, self.drift], layout="horizontal", labels=False
        )
        self._inside = Container(
            widgets=[self.form, self.live, self.preview_state, buttons, self.bar, self.state, self.panel], labels=False
        )
        self._inside.native.layout().addWidget(self.drift_plot)
        self._inside.native.layout().addStretch()
        self.native.layout().setContentsMargins(0, 0, 0, 0)
        self.native.layout().addWidget(scroll_area(self._inside.native))
        self.panel.visible = False
        self.panel.follow_selection()  # a result may be open already
        self.live.changed.connect(lambda: self.preview.switch(on=self.live.value))
        self.form.changed.connect(self.preview.refresh)
        self.fuse.changed.connect(self.start)
        self.compare.changed.connect(self.start_comparing)
        self.drift.changed.connect(self.start_measuring_drift)
        self.cancel.changed.connect(self._cancel)
        # After the event: to show or hide a field draws the canvas, in the midst of what napari does to its layers.
        self._refresh = QTimer()
        self._refresh.setSingleShot(True)
        self._refresh.setInterval(0)
        self._refresh.timeout.connect(self.form.refresh)
        for event in self._layer_events():
            event.connect(self._on_layers)
        # To close the dock takes the widget out of it; Qt destroys it with the window, or when nobody refers to it.
        self.native_parent_changed.connect(self._on_parent)
        itself = ref(self)
        self.native.destroyed.connect(lambda: None if (widget := itself()) is None else widget._on_destroyed())
        self._show_running(False)
        self._say_of_preview("")

    def start(self) -> None:
        """Check what was chosen, and fuse; what is wrong is said beside its field."""
        if (task := self._prepared()) is not None:
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
        self._activity.open()
        self._show_running(True)
        self.state.value = "starting"

        def done(value: Any) -> None:
            self._end("done")
            show(value)

        on_progress = partial(self._show_progress, pace)
        self.jobs.start(steps, Listener(on_progress, done, partial(self._end, "cancelled"), self._fail))

    def _cancel(self) -> None:
        """Say at once that it was heard: the tile at hand is finished first."""
        if self.jobs.running:
            self.cancel.enabled = False
            self.state.value = "cancelling after this tile …"
            self.jobs.cancel()

    def _show(self, task: Task, fused: Fused) -> None:
        self.live.value = False  # it would cover what it was a preview of
        self.panel.show_result(as_fused(task, fused.spec.provenance.get("treatment")), fused)
        self.state.value = ended(fused)
        if fused.job.plan.tile < task.job.plan.tile:
            show_info(f"The GPU's memory was full: fused in tiles of {fused.job.plan.tile} px, with the same result.")

    def _say_of_preview(self, state: str) -> None:
        self.preview_state.value = state
        self.preview_state.visible = bool(state)

    def _show_progress(self, pace: Pace, step: Progress) -> None:
        parts = _PARTS * step.done // max(step.total, 1)
        self.bar.value = parts
        if self.cancel.enabled:  # else it is being cancelled
            self.state.value = pace.describe(step)
        if self._activity.show(step.stage, parts):
            self.jobs.cancel()

    def _fail(self, error: Exception) -> None:
        self._end("" if isinstance(error, FieldError) else f"Failed: {in_this_window(str(error))}")
        if isinstance(error, FieldError) or not isinstance(error, HybridFusionError):
            self.form.explain(error)

    def _end(self, state: str) -> None:
        self.bar.value = 0
        self.state.value = state
        self._show_running(False)
        self._activity.close()

    def _show_running(self, running: bool) -> None:
        self.fuse.enabled = self.compare.enabled = self.drift.enabled = self.form.enabled = not running
        self.cancel.enabled = running
        self.preview.hold(on=running)
        self.panel.hold(on=running)
        self.bar.visible = running

    def _on_layers(self, _event: object = None) -> None:
        self._refresh.start()

    def _layer_events(self) -> tuple[Any, ...]:
        events = self.viewer.layers.events
        return events.inserted, events.removed, events.reordered, events.renamed

    def _on_parent(self, parent: object) -> None:
        if parent is None:
            self.live.value = False
            self.jobs.cancel()

    def _on_destroyed(self) -> None:
        self._refresh.stop()
        self.jobs.close()
        self.preview.close()
        self.panel.close()
        self._activity.close()
        for event in self._layer_events():
            event.disconnect(self._on_layers)


def ended(fused: Fused) -> str:
    """Say in one line that a fusion is done, and by what it was made."""
    request = fused.job.request
    models = " and ".join(dict.fromkeys(model.card.name for model in fused.job.models))
    return f"Done: {fused.spec.name}, by {f'the model {models}' if models else METHODS[request.method].title}."
