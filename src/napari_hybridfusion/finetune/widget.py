"""The dock widget "Fine-tune model": it hands what the form says to the same function as `hybridfusion finetune`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from magicgui.widgets import Container, PushButton
from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices

from hybridfusion_core.errors import printable
from hybridfusion_core.progress import Progress, duration
from napari_hybridfusion.finetune.blind_view import BlindView
from napari_hybridfusion.finetune.form import FinetuneForm
from napari_hybridfusion.finetune.training_view import TrainingView
from napari_hybridfusion.job.worker import Listener
from napari_hybridfusion.parts.dock import PARTS, Dock
from napari_hybridfusion.parts.field_form import text_label
from napari_hybridfusion.parts.model_box import offer_models
from napari_hybridfusion.parts.throughput import Pace

if TYPE_CHECKING:
    import napari.viewer

    from hybridfusion_core.train.finetune.blind import Answer, BlindCrop, BlindScore
    from hybridfusion_core.train.finetune.run import FinetuneResult
    from hybridfusion_core.train.finetune.training import TrainingProgress


class FinetuneWidget(Dock):
    """Trains a model for the chosen stacks, shows how it goes, and asks which is better.

    Attributes:
        result: of the last fine-tuning that ended here.
        step: that the training has come to; 0 before the first one.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        chapter = "A model for your own microscope"
        form = FinetuneForm(napari_viewer)
        super().__init__(napari_viewer, "Fine-tune model", form, "cancelling after this step …", chapter)
        self.result: FinetuneResult | None = None
        self._pace = Pace()
        self.step = self._before = 0  # the latter: what was done when this job began
        self.train = PushButton(
            text="Train", tooltip="Check everything, then train. A training that was cancelled goes on where it was."
        )
        self.cancel.tooltip = "Stop after this step. Train, with the same choices, goes on from there."
        self.view = TrainingView()
        self.verdict = text_label("")
        self.report = PushButton(
            text="Open report", tooltip="Open the report in the browser: what changed, in pictures."
        )
        self.compare = PushButton(
            text="Compare blind",
            tooltip="See up to 20 places of held-out stacks, fused by both models, without knowing which is which,\n"
            "and say which one is better. The score goes into the report. Once only: who knows the score is not blind.",
        )
        self.blind = BlindView(self._score)
        self._lay_out()
        self.train.changed.connect(self.start)
        self.report.changed.connect(self.open_report)
        self.compare.changed.connect(self.start_comparing)
        self._show_result(None)
        self._show_running(False)

    def _lay_out(self) -> None:
        buttons = Container(widgets=[self.train, self.cancel], layout="horizontal", labels=False)
        self._after = Container(widgets=[self.report, self.compare], layout="horizontal", labels=False)
        for row in (buttons, self._after):
            row.margins = (0, 0, 0, 0)
        inside = Container(labels=False)
        inside.extend([self.form, buttons, self.bar, self.state, self.verdict, self._after])
        layout = inside.native.layout()
        layout.insertWidget(layout.indexOf(self.verdict.native), self.view)
        layout.addWidget(self.blind)
        self._show_inside(inside)

    def start(self) -> None:
        """Train; what is wrong is said beside its field, before anything is trained."""
        if self.jobs.running:
            return
        from napari_hybridfusion.finetune.job import finetuning  # noqa: PLC0415 - after the form has loaded Triton

        self.form.say(None)
        self.view.clear()
        self._show_result(None)
        self.step = self._before = 0
        self.form.remember()
        self._start_job("starting")
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
        self._start_job("writing the report")
        score = score_answers(crops, answers)
        done = partial(self._show_score, score)
        listener = Listener(self._show_progress, done, partial(self._end, "cancelled"), self._fail)
        self.jobs.start(writing_score(self.result, score), listener)

    def _show_score(self, score: BlindScore, result: FinetuneResult) -> None:
        places = "one place" if score.shown == 1 else f"{score.shown} places"
        self._end(f"Blind comparison of {places}: {score.sentence}")
        self._show_result(result)
        self.compare.enabled = False  # who knows the score is not blind any more

    def _show_progress(self, step: Progress) -> None:
        if step.stage == "training":
            self._show_training(step)  # type: ignore[arg-type]
        else:
            self._fill(step.stage, PARTS * step.done // max(step.total, 1), f"{step.stage} …")

    def _show_training(self, step: TrainingProgress) -> None:
        if not self.step:
            self._before = step.done - 1
        self.step = step.done
        self.view.show_step(step.done, step.terms, step.validation, step.picture)
        if step.seconds_left is None and not self.form.steps.value:
            # How many steps fit into the minutes is not known yet.
            self._fill(step.stage, 0, f"training: measuring the speed, {step.done} steps")
            return
        said = self._pace.describe(step, self._before)
        if step.seconds_left is not None:  # validations are in it
            share = f"training {100 * step.done // max(step.total, 1)} %, step {step.done} of {step.total}"
            said = f"{share}, about {duration(step.seconds_left)} left, and then the report"
        self._fill(step.stage, PARTS * step.done // max(step.total, 1), said)

    def _finish(self, result: FinetuneResult) -> None:
        trained = result.trained
        early = ", stopped early because nothing became better" if trained.stopped_early else ""
        self._end(f"{trained.steps} steps{early}; the best weights are those after {trained.best_step}")
        self._show_result(result)
        offer_models()

    def _show_stopped(self) -> None:
        at = f" after {self.step} steps; Train, with the same choices, goes on from there" if self.step else ""
        self._end(f"cancelled{at}")

    def _start_job(self, state: str) -> None:
        self._pace = Pace(rate_text=lambda rate: f"{rate:.2f} steps/s")
        self._begin(state)

    def _show_running(self, running: bool) -> None:
        super()._show_running(running)
        self.train.enabled = self._after.enabled = not running

    def _show_result(self, result: FinetuneResult | None) -> None:
        self.result = result
        self.blind.stop()
        self.compare.enabled = True
        self.verdict.value = "" if result is None else _in_words(result)
        self.verdict.visible = self._after.visible = result is not None


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
