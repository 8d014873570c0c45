"""What the docks have in common: one job at a time, a bar and a line that say how it goes, and *Cancel*."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from magicgui.widgets import Container, Label, ProgressBar, PushButton

from hybridfusion_core.errors import HybridFusionError
from napari_hybridfusion.job.task import FieldError, in_this_window
from napari_hybridfusion.job.worker import Jobs
from napari_hybridfusion.parts.activity import Activity
from napari_hybridfusion.parts.field_form import FieldForm, scroll_area, text_label
from napari_hybridfusion.parts.help import help_link

if TYPE_CHECKING:
    import napari.viewer

PARTS = 1000  # of the progress bar
_MARGIN = 5  # px; with Qt's own, three docks in a large font are wider than a laptop's window has room for


class Dock(Container):  # type: ignore[misc]
    """Runs one job at a time beside the window.

    Args:
        napari_viewer: whose dock it is.
        title: of the bar in the activity dock.
        form: what is chosen.
        cancelling: what the line says from the press on *Cancel* until the job has stopped.
        chapter: heading of the documentation that explains the form.

    Attributes:
        jobs: runs the dock's main job.
        state: the line.
    """

    def __init__(
        self, napari_viewer: napari.viewer.Viewer, title: str, form: FieldForm, cancelling: str, chapter: str
    ) -> None:
        super().__init__(labels=False)
        self.viewer = napari_viewer
        self.jobs = Jobs()
        self.form: Any = form
        self.cancel = PushButton(text="Cancel", enabled=False)
        self.bar = ProgressBar(value=0, max=PARTS)
        self.state: Label = text_label("")
        self._cancelling = cancelling
        self._activity = Activity(title, PARTS)
        self._help = help_link(chapter)
        self.cancel.changed.connect(self._cancel)
        # To close the dock takes the widget out of it; Qt destroys it with the window, or when nobody refers to it.
        self.native_parent_changed.connect(self._on_parent)
        # Not a lambda: the garbage collector may empty it before Qt calls it. Methods are held weakly.
        self.native.destroyed.connect(self._leave)

    def _show_inside(self, inside: Container) -> None:
        """Show a container in an area that scrolls, under the link to the documentation."""
        self._inside = inside
        inside.margins = (_MARGIN,) * 4
        inside.native.layout().insertWidget(0, self._help)
        inside.native.layout().addStretch()
        self.native.layout().setContentsMargins(0, 0, 0, 0)
        self.scroll = scroll_area(inside.native)
        self.native.layout().addWidget(self.scroll)

    def _begin(self, state: str = "starting") -> None:
        self._activity.open()
        self._show_running(True)
        self.state.value = state

    def _fill(self, stage: str, parts: int, state: str) -> None:
        """Say how far a job has come, unless it is being cancelled."""
        self.bar.value = parts
        if self.cancel.enabled:
            self.state.value = state
        if self._activity.show(stage, parts):
            self._cancel()

    def _cancel(self) -> None:
        """Say at once that it was heard: the step at hand is finished first."""
        if self.jobs.running:
            self.cancel.enabled = False
            self.state.value = self._cancelling
            self.jobs.cancel()

    def _end(self, state: str) -> None:
        self.bar.value = 0
        self.state.value = state
        self._show_running(False)
        self._activity.close()

    def _fail(self, error: Exception) -> None:
        """Say what went wrong, once: beside its field, in the line, or, if it is our bug, as a notification too."""
        self._end("" if isinstance(error, FieldError) else f"Failed: {in_this_window(str(error))}")
        if isinstance(error, FieldError) or not isinstance(error, HybridFusionError):
            self.form.explain(error)

    def _show_running(self, running: bool) -> None:
        """Let the form be changed, or the job be cancelled."""
        self.form.enabled = not running
        self.cancel.enabled = self.bar.visible = running

    def _on_parent(self, parent: object) -> None:
        if parent is None:
            self.jobs.cancel()

    def _leave(self) -> None:
        with suppress(RuntimeError):  # when the process ends, Qt may have destroyed the timers before
            self._on_destroyed()

    def _on_destroyed(self) -> None:
        self.jobs.close()
        self._activity.close()
