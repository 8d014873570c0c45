"""Training on synthetic stacks, and on real ones without truth: one visible, seeded loop that resumes bit for bit.

Each step draws its scenes and patches from generators seeded with the recipe's seed and the step, so nothing but
weights, their average and the optimiser need to be kept between sessions.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.model.config import NetworkConfig
from hybridfusion_core.model.model_file import ModelCard, load_model, save_model
from hybridfusion_core.model.network import HybridFusionNet
from hybridfusion_core.train.calibration import calibrate
from hybridfusion_core.train.curves import draw_curves
from hybridfusion_core.train.losses import presets
from hybridfusion_core.train.objective import loss_terms, moved_lattice, unlabelled_terms, window_offset
from hybridfusion_core.train.optimiser import Learner
from hybridfusion_core.train.patches import draw_patches, load_unlabelled
from hybridfusion_core.train.recipe import Recipe
from hybridfusion_core.train.scene_batches import draw_batches
from hybridfusion_core.train.training_log import Scalars
from hybridfusion_core.train.transplant import transplanted
from hybridfusion_core.train.validation import validate, validation_batches

_VALIDATIONS = 40  # in a whole training

# Loss terms of a step, unweighted, by their names in `scalars.csv`; and the loss, a scalar.
Objective = Callable[[int], tuple[dict[str, Tensor], Tensor]]


def train(
    recipe: Recipe,
    folder: Path,
    *,
    device: torch.device,
    stacks: Path | None = None,
    processes: int = 0,
    report: Callable[[int, dict[str, float]], None] | None = None,
    checkpoint_seconds: float = 60.0,
    build: Callable[[Recipe], HybridFusionNet] | None = None,
) -> Path:
    """Train, or go on where an interrupted training in the same folder stopped.

    Args:
        recipe: what to train.
        folder: takes `state.pt` (to resume), `scalars.csv`, `validation.csv`, `curves.png` and the model.
        device: where the network runs.
        stacks: folder of the unlabelled stacks that the recipe names.
        processes: that draw scenes ahead; a GPU trains faster than one process draws. They change no weight.
        report: called after each step with the step and the loss terms.
        checkpoint_seconds: time between two states on disk.
        build: makes the network to train; by default the recipe's own, or the one it starts from.

    Returns:
        Path of the model, `folder/NAME.safetensors`.

    Raises:
        UserInputError: the folder holds another training, a stack is missing, or the loss is no longer finite.
    """
    unlabelled = load_unlabelled(recipe, stacks)
    torch.manual_seed(recipe.seed)
    learner = Learner.of((build or starting_network)(recipe).to(device), recipe)
    folder.mkdir(parents=True, exist_ok=True)
    first = _resume(folder, recipe, learner)
    lattice = moved_lattice(recipe, learner.network)
    saved = time.monotonic()
    every = max(1, recipe.steps // _VALIDATIONS)
    unseen = validation_batches(recipe, device)
    with (
        Scalars(folder / "scalars.csv", first) as scalars,
        Scalars(folder / "validation.csv", first) as validation,
        closing(draw_batches(recipe, first, device, processes)) as batches,
    ):

        def objective(step: int) -> tuple[dict[str, Tensor], Tensor]:
            terms = loss_terms(learner.network, next(batches), window_offset(recipe, step, lattice))
            loss = torch.stack([getattr(recipe.weights, name) * term for name, term in terms.items()]).sum()
            if unlabelled:
                own = unlabelled_terms(learner.network, draw_patches(unlabelled, recipe, step, device), recipe)
                loss = loss + recipe.unlabelled.weight * presets.PRESETS[recipe.unlabelled.preset].total(own)
                terms |= {f"unlabelled_{name}": term for name, term in own.items()}
            return terms, loss

        def check(step: int, _: dict[str, Tensor], loss: Tensor) -> None:
            if not bool(torch.isfinite(loss)):
                raise UserInputError(
                    f"The loss is not finite at step {step}. The last good state is in {folder}; "
                    "lower learning_rate and resume."
                )

        for step, values in training_steps(
            learner,
            objective,
            first=first,
            ended=lambda step: step >= recipe.steps,
            rate=lambda step: learning_rate(recipe, step),
            clip=recipe.clip,
            check=check,
            scalars=scalars,
        ):
            if (step + 1) % every == 0:
                validation.write(step, validate(learner.result, unseen))
                draw_curves(folder)
            if report is not None:
                report(step, values)
            if time.monotonic() - saved > checkpoint_seconds:
                _keep(folder, recipe, learner, step + 1)
                saved = time.monotonic()
    _keep(folder, recipe, learner, recipe.steps)
    calibrate(learner.result, recipe)
    path = folder / f"{recipe.name}.safetensors"
    save_model(path, learner.result, ModelCard(recipe.name, recipe.description, _training(recipe), recipe.limits, {}))
    return path


def training_steps(
    learner: Learner,
    objective: Objective,
    *,
    first: int,
    ended: Callable[[int], bool],
    rate: Callable[[int], float],
    clip: float,
    check: Callable[[int, dict[str, Tensor], Tensor], None],
    scalars: Scalars,
) -> Iterator[tuple[int, dict[str, float]]]:
    """The loop of both trainings, from scratch and of a model's adaptation: draw, check, learn, write down.

    Args:
        learner: takes the steps.
        objective: draws what a step learns from, and says how far from it the network is.
        first: step to begin with.
        ended: whether no step of this number is to be taken any more; asked after each step.
        rate: learning rate of a step.
        clip: largest norm of a gradient.
        check: called with step, terms and loss; raises if the training must stop.
        scalars: take the terms of each step.

    Yields:
        Each step that was taken, and its terms.
    """
    step = first
    while not ended(step):
        terms, loss = objective(step)
        check(step, terms, loss)
        learner.learn(loss, rate(step), clip)
        # Read together: one wait for the device.
        values = dict(zip(terms, torch.stack([term.detach() for term in terms.values()]).tolist(), strict=True))
        scalars.write(step, values)
        yield step, values
        step += 1


def learning_rate(recipe: Recipe, step: int) -> float:
    """The recipe's rate after a short linear warm-up, or a cosine from there to zero."""
    warm_up = min(1.0, (step + 1) / max(1, recipe.steps // 50))
    fall = 0.5 * (1 + math.cos(math.pi * step / recipe.steps)) if recipe.schedule == "cosine" else 1.0
    return recipe.learning_rate * warm_up * fall


def starting_network(recipe: Recipe) -> HybridFusionNet:
    """Make the network to train: the one that the recipe starts from, ready to learn, or a new one."""
    if not recipe.start:
        return HybridFusionNet(recipe.network or NetworkConfig())
    network = copy.deepcopy(load_model(recipe.start).network)  # loaded models are shared
    if recipe.network is not None and recipe.network != network.config:
        network = transplanted(network, recipe.network)
    network.temperature.fill_(1)
    if network.config.coarse_depth:
        network.in_focus_line.copy_(torch.tensor([1.0, 0.0]))
    return network.train()


def _training(recipe: Recipe) -> str:
    """How the model was made, for its card."""
    made = f"{recipe.steps} steps of about {recipe.slices} slices of {recipe.size}² px, seed {recipe.seed}"
    own = recipe.unlabelled
    if not own.weight:
        return made
    return f"{made}; unsupervised loss {own.preset} of weight {own.weight:g} on {', '.join(own.stacks)}"


def _resume(folder: Path, recipe: Recipe, learner: Learner) -> int:
    path = folder / "state.pt"
    if not path.exists():
        return 0
    state = torch.load(path, map_location=learner.network.temperature.device, weights_only=True)
    if state["recipe"] != repr(recipe):
        raise UserInputError(
            f"{folder} holds a training of another recipe ({state['recipe'][:60]}…). "
            "Give another folder with -o, or remove this one."
        )
    for name, part in learner.parts().items():
        part.load_state_dict(state[name])
    return int(state["step"])


def _keep(folder: Path, recipe: Recipe, learner: Learner, step: int) -> None:
    part = folder / ".state.pt.part"
    states = {name: each.state_dict() for name, each in learner.parts().items()}
    torch.save({"recipe": repr(recipe), "step": step, **states}, part)
    part.replace(folder / "state.pt")
