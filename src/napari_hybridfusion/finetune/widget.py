"""The dock widget "Fine-tune model": it hands what the form says to the same function as `hybridfusion finetune`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING
from weakref import ref

from magicgui.widgets import Container, ProgressBar, PushButton
from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices

from hybridfusion_core.errors import printable
from hybridfusion_core.progress import Progress
from napari_hybridfusion.finetune.blind_view import BlindView
from napari_hybridfusion.finetune.form import FinetuneForm
from napari_hybridfusion.finetune.training_view import TrainingView
from napari_hybridfusion.job.task import FieldError
from napari_hybridfusion.job.worker import Jobs, Listener
from napari_hybridfusion.parts.activity import Activity
from napari_hybridfusion.parts.field_form import scroll_area, text_label
from napari_hybridfusion.parts.model_box import offer_models
from napari_hybridfusion.parts.throughput import Pace

if TYPE_CHECKING:
    import napari.viewer

    from hybridfusion_core.train.finetune.blind import Answer, BlindCrop, BlindScore
    from hybridfusion_core.train.finetune.run import FinetuneResult
    from hybridfusion_core.train.finetune.training import TrainingProgress

_PARTS = 1000  # of the progress bar


class FinetuneWidget(Container):  # type: ignore[misc]
    """Trains a model for the chosen stacks, shows how it goes, and asks which is better.

    Attributes:
        result: of the last fine-tuning that ended here.
        step: that the training has come to; 0 before the first one.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(labels=False)
        self.viewer = napari_viewer
        self.jobs = Jobs()
        self.result: FinetuneResult | None = None
        self._pace = Pace()
        self.step = self._before = 0  # the latter: what was done when this job began
        self._activity = Activity("Fine-tune model", _PARTS)
        self.form = FinetuneForm(napari_viewer)
        self.train = PushButton(
            text="Train", tooltip="Check everything, then train. A training that was cancelled goes on where it was."
        )
        self.cancel = PushButton(
            text="Cancel",
            enabled=False,
            tooltip="Stop after this step. Train, with the same choices, goes on from there.",
        )
        self.bar = ProgressBar(value=0, max=_PARTS)
        self.state = text_label("")
        self.view = TrainingView()
        self.verdict = text_label("")
        self.report = PushButton(
            text="Open report", tooltip="Open the report in the browser: what changed, in pictures."
        )
        self.compare = PushButton(
            text="Compare blind",
            tooltip="See up to 20 places of held-out stacks, fused by both models, without knowing which is which,\n"
            "and say which one is better. The score goes into the report.",
        )
        self.blind = BlindView(self._score)
        self._lay_out()
        self.train.changed.connect(self.start)
        self.cancel.changed.connect(self.jobs.cancel)
        self.report.changed.connect(self.open_report)
        self.compare.changed.connect(self.start_comparing)
        # To close the dock takes the widget out of it; Qt destroys it with the window, or when nobody refers to it.
        self.native_parent_changed.connect(self._on_parent)
        itself = ref(self)
        self.native.destroyed.connect(lambda: None if (widget := itself()) is None else widget._on_destroyed())
        self._show_result(None)
        self._show_running(False)

    def _lay_out(self) -> None:
        buttons = Container(widgets=[self.train, self.cancel], layout="horizontal", labels=False)
        self._after = Container(widgets=[self.report, self.compare], layout="horizontal", labels=False)
        self._inside = Container(labels=False)
        self._inside.extend([self.form, buttons, self.bar, self.state, self.verdict, self._after])
        layout = self._inside.native.layout()
        layout.insertWidget(layout.indexOf(self.verdict.native), self.view)
        layout.addWidget(self.blind)
        layout.addStretch()
        self.scroll = scroll_area(self._inside.native)
        self.native.layout().addWidget(self.scroll)

    def start(self) -> None:
        """Train; what is wrong is said beside its field, before anything is trained."""
        if self.jobs.running:
            return
        from napari_hybridfusion.finetune.job import finetuning  # noqa: PLC0415 - after the form has loaded Triton

        self.form.say(None)
        self.view.clear()
        self._show_result(None)
        self.step = self._before = 0
        self._begin("starting")
        listener = Listener(self._show_progress, self._finish, self._show_stopped, self._fail)
        self.jobs.start(finetuning(self.form.choices()), listener)

    def start_comparing(self) -> None:
        """Show the first pair of a blind comparison."""
        if self.result is None or self.jobs.running:
            return
        from napari_hybridfusion.finetune.job import crops_of  # noqa: PLC0415 - as above

        crops = crops_of(self.result)
        if not crops:
            self.state.value = "The two models give the same everywhere: there is nothing to compare."
            return
        self.compare.enabled = False
        self.blind.ask(crops)

    def open_report(self) -> None:
        """Open the report in the browser."""
        if self.result is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.result.report)))

    def _score(self, crops: Sequence[BlindCrop], answers: Sequence[Answer]) -> None:
        from hybridfusion_core.train.finetune.blind import score_answers  # noqa: PLC0415 - as above
        from napari_hybridfusion.finetune.job import writing_score  # noqa: PLC0415

        if self.result is None:
            return
        self._begin("writing the report")
        score = score_answers(crops, answers)
        done = partial(self._show_score, score)
        listener = Listener(self._show_progress, done, partial(self._end, "cancelled"), self._fail)
        self.jobs.start(writing_score(self.result, score), listener)

    def _show_score(self, score: BlindScore, result: FinetuneResult) -> None:
        self._end(f"Blind comparison of {score.shown} places: {score.sentence}")
        self._show_result(result)

    def _show_progress(self, step: Progress) -> None:
        if step.stage == "training":
            self._show_training(step)  # type: ignore[arg-type]
        else:
            self.state.value = f"{step.stage} …"
            self._fill(step.stage, _PARTS * step.done // max(step.total, 1))

    def _show_training(self, step: TrainingProgress) -> None:
        if not self.step:
            self._before = step.done - 1
        self.step = step.done
        self.view.show_step(step.done, step.terms, step.validation, step.picture)
        if step.seconds_left is None and step.total == step.done + 1:
            self.state.value = f"training: measuring the speed, {step.done} steps"
            self._fill(step.stage, 0)
        else:
            self.state.value = self._pace.describe(step, self._before)
            self._fill(step.stage, _PARTS * step.done // max(step.total, 1))

    def _fill(self, stage: str, parts: int) -> None:
        self.bar.value = parts
        if self._activity.show(stage, parts):
            self.jobs.cancel()

    def _finish(self, result: FinetuneResult) -> None:
        trained = result.trained
        early = ", stopped early because nothing became better" if trained.stopped_early else ""
        self._end(f"{trained.steps} steps{early}; the best weights are those after {trained.best_step}")
        self._show_result(result)
        offer_models()

    def _show_stopped(self) -> None:
        at = f" after {self.step} steps; Train, with the same choices, goes on from there" if self.step else ""
        self._end(f"cancelled{at}")

    def _fail(self, error: Exception) -> None:
        self._end("" if isinstance(error, FieldError) else f"failed: {error}")
        self.form.explain(error)

    def _begin(self, state: str) -> None:
        self._pace = Pace(rate_text=lambda rate: f"{rate:.2f} steps/s")
        self._activity.open()
        self._show_running(True)
        self.state.value = state

    def _end(self, state: str) -> None:
        self.bar.value = 0
        self.state.value = state
        self._show_running(False)
        self._activity.close()

    def _show_running(self, running: bool) -> None:
        self.train.enabled = self.form.enabled = self._after.enabled = not running
        self.cancel.enabled = self.bar.visible = running

    def _show_result(self, result: FinetuneResult | None) -> None:
        self.result = result
        self.blind.stop()
        self.compare.enabled = True
        self.verdict.value = "" if result is None else _in_words(result)
        self.verdict.visible = self._after.visible = result is not None

    def _on_parent(self, parent: object) -> None:
        if parent is None:
            self.jobs.cancel()

    def _on_destroyed(self) -> None:
        self.jobs.close()
        self._activity.close()


def _in_words(result: FinetuneResult) -> str:
    from hybridfusion_core.model.model_file import local_model_names, new_model_path  # noqa: PLC0415 - as above

    name = result.model.stem
    listed = name in local_model_names() and new_model_path(name) == result.model
    use = f"It is listed as {name!r}" if listed else f"It is the file {result.model}"
    lines = [
        f"Verdict: {result.verdict.word}",
        *(f"· {reason}" for reason in result.verdict.reasons),
        *(f"Left out: {each}" for each in result.warnings),
        f"{use}; nothing uses it unless you choose it.",
    ]
    return "\n".join(printable(line) for line in lines)
