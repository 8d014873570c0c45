"""The loop of a fine-tuning: visible, seeded, resumed bit for bit, and stopped before it does harm.

Each step sees scenes of the laboratory's microscope, scenes like those that the start was trained on, and patches of
the laboratory's own stacks; and is pulled to the weights that it started from (L2-SP: Li et al. 2018,
arXiv:1802.01483). All of it follows from the seed and the step.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.disk.access import guarded
from hybridfusion_core.model.model_file import ModelCard, load_model, save_model
from hybridfusion_core.model.network import HybridFusionNet
from hybridfusion_core.progress import Progress
from hybridfusion_core.scenes.lab import ANY_LAB, Lab
from hybridfusion_core.train.curves import draw_curves
from hybridfusion_core.train.field_stream import FieldStream
from hybridfusion_core.train.finetune.corrections import Painted, painted_term
from hybridfusion_core.train.finetune.live_preview import LivePicture
from hybridfusion_core.train.finetune.pace import Pace
from hybridfusion_core.train.finetune.run_folder import RunFolder
from hybridfusion_core.train.finetune.training_mix import Lessons
from hybridfusion_core.train.finetune.training_state import Course, rate
from hybridfusion_core.train.loop import starting_network, training_steps
from hybridfusion_core.train.losses import presets
from hybridfusion_core.train.objective import loss_terms, moved_lattice, unlabelled_terms, window_offset
from hybridfusion_core.train.optimiser import Learner
from hybridfusion_core.train.patches import UnlabelledStack, draw_patches
from hybridfusion_core.train.recipe import Recipe
from hybridfusion_core.train.scene_batches import Batch, draw_batch
from hybridfusion_core.train.training_log import Scalars
from hybridfusion_core.train.validation import validate, validation_batches

PULL = 0.05  # of ½ Σ (w − w₀)² in the loss
_JITTER = 0.3  # natural logarithm, of the contrast of real patches; scenes have it too
_VALIDATED_AT = 1 << 41  # steps whose patches are never trained on
_VALIDATED_ON = 8  # batches of the laboratory's scenes
_OWN_DRAWS = 4  # batches of held-out patches


@dataclass(frozen=True)
class TrainingProgress(Progress):
    """How far a training has come and what it shows; `done` and `total` are steps.

    Attributes:
        terms: loss terms of the step, unweighted.
        validation: the latest: decibels and slices on unseen scenes of the laboratory ("psnr", "height") and of the
            start ("familiar_psnr", "familiar_height"), and the unsupervised loss of held-out stacks ("own").
        picture: a held-out stack as it is fused now, a PNG.
        seconds_left: of the training; None while its speed is measured.
    """

    terms: dict[str, float] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    picture: Path | None = None
    seconds_left: float | None = None


@dataclass(frozen=True)
class Trained:
    """How a training ended.

    Attributes:
        steps: that were taken.
        best_step: after which the best weights were found; 0: the start was never surpassed.
        stopped_early: nothing had become better for long.
        before: validation of the start.
        after: validation of the weights that the model has.
        share: how far these lie on the way from the start to the best weights; 0: nothing was gained.
    """

    steps: int
    best_step: int
    stopped_early: bool
    before: dict[str, float]
    after: dict[str, float]
    share: float = 1.0


@dataclass
class Training:
    """What a training is made of.

    Attributes:
        lessons: what steps are drawn from.
        stream: of real fields to train on.
        held_out: real fields that are only validated on.
        painted: decisions that people corrected.
        folder: keeps everything.
        card: of the model so far.
        live: draws the picture.
        device: where the network runs.
        steps: how many; None measures the speed and fills `seconds`.
        seconds: from the beginning of the training to its end.
    """

    lessons: Lessons
    stream: FieldStream
    held_out: tuple[UnlabelledStack, ...]
    painted: tuple[Painted, ...]
    folder: RunFolder
    card: ModelCard
    live: LivePicture
    device: torch.device
    steps: int | None
    seconds: float

    def run(self, state: dict[str, Any] | None) -> Generator[TrainingProgress, None, Trained]:
        """Train, yielding after each step; closed early, the state stays and can be gone on from.

        Raises:
            UserInputError: the loss is NaN or explodes; says at which step, why, and where the best weights are.
        """
        own, folder = self.lessons.own, self.folder.path
        learner = Learner.of(starting_network(own).to(self.device), own)
        start = [part.detach().to(self.device) for part in load_model(own.start).network.parameters()]
        course = Course(self.steps)
        if state is not None:
            with guarded(f"{self.folder.state} does not fit", "the state of this fine-tuning. Use --overwrite."):
                course = Course.of(state["course"])
                for name, part in learner.parts().items():
                    part.load_state_dict(state["parts"][name])
        pace = Pace(self.seconds, course.step)
        with (
            Scalars(folder / "scalars.csv", course.step) as scalars,
            Scalars(folder / "validation.csv", course.step) as validation,
        ):
            _ = self._unseen  # drawn before validations are timed
            if not course.before:
                with pace.judging():
                    self._judge(learner, course, validation)
            for step, values in training_steps(
                learner,
                lambda step: self._loss(learner.network, start, step),
                first=course.step,
                ended=lambda _: course.ended,
                rate=lambda step: rate(own.learning_rate, step, course.steps),
                clip=own.clip,
                check=lambda _, terms, loss: self._check(terms, loss, course),
                scalars=scalars,
            ):
                course.step = step + 1
                pace.note(course)
                if course.judged_now:
                    with pace.judging():
                        self._judge(learner, course, validation)
                        draw_curves(folder)
                elif pace.keep_due:
                    self._keep(learner, course)
                    pace.kept()
                try:
                    yield self._progress(course, values, pace)
                except GeneratorExit:
                    self._keep(learner, course)
                    raise
        return Trained(course.step, course.best_step, course.stopped_early, course.before, course.best)

    def _loss(self, network: HybridFusionNet, start: Sequence[Tensor], step: int) -> tuple[dict[str, Tensor], Tensor]:
        """Draw a step and add up what is asked of it; the terms have their names in `scalars.csv`."""
        terms: dict[str, Tensor] = {}
        total: list[Tensor] = []
        for prefix, recipe, lab in self._scenes():
            batch = draw_batch(recipe, step, self.device, lab)
            offset = window_offset(recipe, step, moved_lattice(recipe, network))
            found = loss_terms(network, batch, offset)
            total += [getattr(recipe.weights, name) * term for name, term in found.items()]
            terms |= {f"{prefix}{name}": term for name, term in found.items()}
        own = self.lessons.own
        if self.lessons.unsupervised:
            patches = draw_patches(self.stream.at(step), self.lessons.patches, step, self.device, _JITTER)
            found = unlabelled_terms(network, patches, own)
            total.append(own.unlabelled.weight * presets.PRESETS[own.unlabelled.preset].total(found))
            terms |= {f"unlabelled_{name}": term for name, term in found.items()}
        if self.painted:
            terms["painted"] = painted_term(network, self.painted, own, step, self.device)
            total.append(own.weights.cross_entropy * terms["painted"])
        pull = torch.stack([(now - then).square().sum() for now, then in zip(network.parameters(), start, strict=True)])
        terms["pull"] = 0.5 * pull.sum()
        return terms, torch.stack(total).sum() + PULL * terms["pull"]

    def _check(self, terms: dict[str, Tensor], loss: Tensor, course: Course) -> None:
        """Stop at a loss that is NaN, or far above the last ones."""
        value, usual = float(loss.detach()), course.usual()
        if course.remember(value):
            return
        broken = [name for name, term in terms.items() if not bool(torch.isfinite(term))]
        cause = f"the term {broken[0]!r} is NaN or infinite" if broken else f"far above the usual {usual:.3g}"
        raise UserInputError(
            f"The training stopped at step {course.step}: its loss is {value:.3g}, {cause}; expected one that stays "
            f"small. The best weights so far, after {course.best_step} steps, are {self.folder.best}, a model that can "
            "be used. Begin anew with --overwrite and another --seed, or leave out the stacks that were added last."
        )

    def _judge(self, learner: Learner, course: Course, kept: Scalars) -> None:
        """Validate, draw the picture, keep the weights if they are the best so far, and the state."""
        found = self.validated(learner.result)
        kept.write(course.step - 1, found)
        if course.judge(found):
            save_model(self.folder.best, learner.result, self.card)
        self.live.draw(learner.result, self.folder.picture)
        self._keep(learner, course)

    def validated(self, network: HybridFusionNet) -> dict[str, float]:
        """Figures of a network on unseen scenes and, if they are learnt from, on held-out stacks."""
        found: dict[str, float] = {}
        for prefix, unseen in self._unseen.items():
            found |= {f"{prefix}{name}": value for name, value in validate(network, unseen).items()}
        if self.lessons.unsupervised:
            found["own"] = self._on_held_out(network)
        return found

    @cached_property
    def _unseen(self) -> dict[str, list[Batch]]:
        """Scenes to validate on, by what their figures' names begin with; as many slices of both."""
        slices = _VALIDATED_ON * self.lessons.own.slices
        return {
            prefix: validation_batches(recipe, self.device, lab, round(slices / recipe.slices))
            for prefix, recipe, lab in self._scenes()
        }

    def _scenes(self) -> tuple[tuple[str, Recipe, Lab], ...]:
        """What scenes are drawn from, and what their terms' names begin with."""
        return ("", self.lessons.own, self.lessons.lab), ("familiar_", self.lessons.familiar, ANY_LAB)

    def _on_held_out(self, network: HybridFusionNet) -> float:
        recipe, totals = self.lessons.own, []
        for step in range(_OWN_DRAWS):
            patches = draw_patches(self.held_out, self.lessons.patches, _VALIDATED_AT + step, self.device)
            with torch.inference_mode():
                terms = unlabelled_terms(network, patches, recipe)
            totals.append(float(presets.PRESETS[recipe.unlabelled.preset].total(terms)))
        return sum(totals) / len(totals)

    def _keep(self, learner: Learner, course: Course) -> None:
        parts = {name: part.state_dict() for name, part in learner.parts().items()}
        self.folder.keep({"course": vars(course), "parts": parts})

    def _progress(self, course: Course, terms: dict[str, float], pace: Pace) -> TrainingProgress:
        return TrainingProgress(
            "training",
            course.step,
            course.steps or course.step + 1,
            terms,
            course.latest,
            self.folder.picture,
            pace.seconds_left(course),
        )
