"""Training on synthetic stacks, and on real ones without truth: one visible, seeded loop that resumes bit for bit.

Each step draws its scenes and patches from generators seeded with the recipe's seed and the step, so nothing but
weights, their average and the optimiser need to be kept between sessions.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.model.model_file import ModelCard, load_model, save_model
from hybridfusion_core.model.network import HybridFusionNet, NetworkConfig, Scores
from hybridfusion_core.model.posterior import (
    confidence_map,
    focus_posterior,
    fuse_soft,
    fusion_weights,
    most_probable,
    where_in_focus,
)
from hybridfusion_core.scenes.lab import ANY_LAB, Lab
from hybridfusion_core.train.curves import draw_curves
from hybridfusion_core.train.losses import mask, presets, supervised
from hybridfusion_core.train.optimiser import Learner
from hybridfusion_core.train.patches import Patches, draw_patches, load_unlabelled
from hybridfusion_core.train.recipe import Recipe
from hybridfusion_core.train.scene_batches import Batch, draw_batch, draw_batches
from hybridfusion_core.train.training_log import Scalars
from hybridfusion_core.train.transplant import transplanted

# Scenes of these steps are far from those of any training and from those of `evaluate`.
_CALIBRATION = 1 << 40
_VALIDATION = 1 << 41
_RIDGE = 1.0  # pixels' worth of trust in the logit as it is
_BEST_ERROR = 1e-6  # mean square; beyond 60 dB a scene is empty
_VALIDATIONS = 40  # in a whole training
_VALIDATION_BATCHES = 6


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
    with Scalars(folder / "scalars.csv", first) as scalars, Scalars(folder / "validation.csv", first) as validation:
        for step, batch in enumerate(draw_batches(recipe, first, device, processes), first):
            terms = loss_terms(learner.network, batch, window_offset(recipe, step, lattice))
            loss = torch.stack([getattr(recipe.weights, name) * term for name, term in terms.items()]).sum()
            if unlabelled:
                own = unlabelled_terms(learner.network, draw_patches(unlabelled, recipe, step, device), recipe)
                loss = loss + recipe.unlabelled.weight * presets.PRESETS[recipe.unlabelled.preset].total(own)
                terms |= {f"unlabelled_{name}": term for name, term in own.items()}
            if not bool(torch.isfinite(loss)):
                raise UserInputError(
                    f"The loss is not finite at step {step}. The last good state is in {folder}; "
                    "lower learning_rate and resume."
                )
            learner.learn(loss, learning_rate(recipe, step), recipe.clip)
            # Read together: one wait for the device.
            values = dict(zip(terms, torch.stack(list(terms.values())).tolist(), strict=True))
            scalars.write(step, values)
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


def learning_rate(recipe: Recipe, step: int) -> float:
    """The recipe's rate after a short linear warm-up, or a cosine from there to zero."""
    warm_up = min(1.0, (step + 1) / max(1, recipe.steps // 50))
    fall = 0.5 * (1 + math.cos(math.pi * step / recipe.steps)) if recipe.schedule == "cosine" else 1.0
    return recipe.learning_rate * warm_up * fall


def loss_terms(network: HybridFusionNet, batch: Batch, offset: tuple[int, int] | None = None) -> dict[str, Tensor]:
    """Every supervised term, unweighted, by its name in `LossWeights`.

    Args:
        network: whatever scores a batch.
        batch: scenes.
        offset: pixels along y and x by which the windows are moved to see what that changes; None leaves
            `lattice` out.
    """
    scores = network(batch.guide, batch.noise)
    posterior = focus_posterior(scores)
    weights = fusion_weights(scores)
    fused = fuse_soft(weights, batch.counts)
    weight = batch.weight[:, None, None]
    # Where nothing is in focus the height is still asked for, lightly: it continues what is sure.
    sure = 0.05 + batch.in_focus * batch.in_focus_weight
    terms = {
        "l1": supervised.l1(fused * weight, batch.truth * weight),
        "gradient": supervised.gradient_l1(fused * weight, batch.truth * weight),
        "cross_entropy": supervised.focus_cross_entropy(scores.focus, batch.height, sure),
        "height": supervised.height_l1(posterior, batch.height, sure),
        "total_variation": mask.total_variation(posterior),
        "local_mean": supervised.local_mean_l1(fused * weight, batch.truth * weight),
        "glow": supervised.glow(fuse_soft(weights, batch.guide), batch.truth_guide, batch.noise),
    }
    if scores.in_focus is not None:
        terms["in_focus"] = supervised.in_focus_cross_entropy(scores.in_focus, batch.in_focus, batch.in_focus_weight)
    return terms if offset is None else {**terms, "lattice": _lattice_term(network, batch, posterior, offset)}


def _lattice_term(network: HybridFusionNet, batch: Batch, posterior: Tensor, offset: tuple[int, int]) -> Tensor:
    """How much the posterior, B Z H W, depends on where the windows fall: asked of half of the scenes."""
    half, lattice = -(-len(batch.noise) // 2), network.config.lattice
    y, x = (slice(start, start - lattice) for start in offset)  # one lattice cell is left for the move
    moved = focus_posterior(network(batch.guide[:half, :, y, x], batch.noise[:half]))
    inner = slice(lattice, -lattice)  # beside a border there is less to see
    return mask.disagreement(moved[..., inner, inner], posterior[:half, :, y, x][..., inner, inner])


def unlabelled_terms(network: HybridFusionNet, patches: Patches, recipe: Recipe) -> dict[str, Tensor]:
    """Every term of the recipe's preset, unweighted, by its name in `TermWeights`.

    The image terms judge what the fusion weights fuse, because that is what a user gets; the weights contain the focus
    scores, which so learn from those terms too.
    """
    scores = network(patches.guide, patches.noise)
    preset = presets.PRESETS[recipe.unlabelled.preset]
    posterior, weights = focus_posterior(scores), fusion_weights(scores)
    return presets.unsupervised_terms(preset, patches.guide, posterior, patches.noise, weights)


def moved_lattice(recipe: Recipe, network: HybridFusionNet) -> int:
    """The lattice by less than which windows are moved; 0 if the recipe does not ask what that changes."""
    lattice = network.config.lattice
    if recipe.weights.lattice and recipe.size < 4 * lattice:
        raise UserInputError(
            f"The recipe {recipe.name!r} asks for the term `lattice` on scenes of {recipe.size} px; expected at least "
            f"{4 * lattice}, four lattice cells, since one moves and two lie beside borders. Raise size."
        )
    return lattice if recipe.weights.lattice else 0


def window_offset(recipe: Recipe, step: int, lattice: int) -> tuple[int, int] | None:
    """By how much windows are moved at a step, y and x in pixels; None if `lattice` is 0."""
    if not lattice:
        return None
    random = torch.Generator().manual_seed((recipe.seed << 32) + step)
    y, x = torch.randint(1, lattice, (2,), generator=random).tolist()
    return y, x


def validation_batches(recipe: Recipe, device: torch.device, lab: Lab = ANY_LAB, count: int = 0) -> list[Batch]:
    """Draw scenes that are never trained on, always the same; a count of 0 draws as many as pretraining does."""
    steps = range(count or _VALIDATION_BATCHES)
    return [draw_batch(recipe, _VALIDATION + step, device, lab) for step in steps]


def validate(network: HybridFusionNet, unseen: Sequence[Batch]) -> dict[str, float]:
    """Means over scenes that are never trained on: PSNR of the fused image in dB, height error in slices."""
    ratios, errors = [], []
    for batch in unseen:
        with torch.inference_mode():
            scores = network(batch.guide, batch.noise)
        ratios.append(_decibels(scores, batch))
        errors.append(supervised.height_l1(focus_posterior(scores), batch.height, (batch.structure > 0.5).float()))
    return {"psnr": float(torch.cat(ratios).mean()), "height": float(torch.stack(errors).mean())}


def decibels(network: HybridFusionNet, batch: Batch) -> Tensor:
    """PSNR of each scene's fused image; B."""
    with torch.inference_mode():
        return _decibels(network(batch.guide, batch.noise), batch)


def _decibels(scores: Scores, batch: Batch) -> Tensor:
    fused = fuse_soft(fusion_weights(scores), batch.counts)
    ratio: Tensor = -10 * ((fused - batch.truth).square().mean(dim=(1, 2)) + _BEST_ERROR).log10()
    return ratio


def calibrate(network: HybridFusionNet, recipe: Recipe, scenes: int = 48, lab: Lab = ANY_LAB) -> None:
    """Set what makes probabilities of scores, so that confidence and "in focus" keep their word best.

    The confidence claims how probable it is that the decision is right to within one slice. Its Brier score (Brier
    1950, Monthly Weather Review 78, 1) over unseen pixels that a fusion would decide about and whose height is known
    is evaluated on a grid of temperatures (temperature scaling: Guo et al. 2017, arXiv:1706.04599). "In focus" gets a
    line on its logit (Platt 1999, Advances in Large Margin Classifiers), fitted on the same scenes first, because it
    says about which pixels a fusion decides.
    """
    device = network.temperature.device
    batches = [draw_batch(recipe, _CALIBRATION + step, device, lab) for step in range(scenes)]
    if network.config.coarse_depth:
        calibrate_in_focus(network, batches)
    candidates = torch.exp(torch.linspace(math.log(0.5), math.log(6), 51))
    total = torch.zeros(len(candidates))
    for batch in batches:
        with torch.inference_mode():
            scores = network(batch.guide, batch.noise)
            asked = where_in_focus(network, scores, batch.guide, batch.noise) & (batch.structure > 0.5)
            right = (most_probable(scores.focus) - batch.height).abs() <= 1
            for index, candidate in enumerate(candidates):
                sure = confidence_map(focus_posterior(scores, candidate), asked)[asked]
                total[index] += (sure - right[asked].float()).square().sum().cpu()
    network.temperature.fill_(candidates[int(total.argmin())])


def calibrate_in_focus(network: HybridFusionNet, batches: Sequence[Batch]) -> None:
    """Fit the line under which "in focus" is a probability: by Newton's method, where scenes are sure."""
    logits, truths = [], []
    for batch in batches:
        with torch.inference_mode():
            said = network(batch.guide, batch.noise).in_focus
        assert said is not None  # noqa: S101 - narrows the type
        sure = batch.in_focus_weight > 0.5
        logits.append(said[sure].double().cpu())
        truths.append((batch.in_focus[sure] > 0.5).double().cpu())
    network.in_focus_line.copy_(_logistic_line(torch.cat(logits), torch.cat(truths)))


def _logistic_line(logit: Tensor, truth: Tensor) -> Tensor:
    """Slope and intercept under which a logit fits the truth best; Newton's method, with steps that never climb.

    Args:
        logit: n, float64.
        truth: n, 0 or 1.
    """
    inputs = torch.stack([logit, torch.ones_like(logit)], dim=1)
    as_it_is = torch.tensor([1.0, 0.0], dtype=torch.float64)

    def loss(line: Tensor) -> Tensor:
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(inputs @ line, truth, reduction="sum")
        return entropy + 0.5 * _RIDGE * (line - as_it_is).square().sum()

    line = torch.zeros(2, dtype=torch.float64)
    for _ in range(20):
        probability = torch.sigmoid(inputs @ line)
        gradient = inputs.T @ (probability - truth) + _RIDGE * (line - as_it_is)
        curvature = (inputs * (probability * (1 - probability))[:, None]).T @ inputs
        step = torch.linalg.solve(curvature + _RIDGE * torch.eye(2, dtype=torch.float64), gradient)
        while loss(line - step) > loss(line) and bool(step.abs().max() > 1e-9):
            step = step / 2
        line = line - step
    return line


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
