"""Training from scratch on synthetic stacks: one visible, seeded loop that resumes bit for bit.

Each step draws its scenes from a generator seeded with the recipe's seed and the step, so nothing but
weights and optimiser need to be kept between sessions.
"""

from __future__ import annotations

import csv
import math
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from torch import Generator, Tensor

from hybridfusion_core import losses
from hybridfusion_core.blend import focus_posterior, fuse_soft, fusion_weights
from hybridfusion_core.checkpoint import ModelCard, save_model
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.intensity import field_statistics
from hybridfusion_core.network import HybridFusionNet, NetworkConfig
from hybridfusion_core.synthesis import NOISES, Scene, make_scene

_CALIBRATION_SEED = 1 << 40  # far from any training step and from the seeds of `evaluate`


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class LossWeights:
    """How much each term of `losses` counts."""

    l1: float = 1.0
    gradient: float = 1.0
    cross_entropy: float = 0.1
    height: float = 0.02
    total_variation: float = 0.01


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Recipe:
    """Everything that a training depends on; a TOML file holds one.

    Attributes:
        name: of the model.
        description: one sentence for its card.
        limits: what the model is not for.
        seed: of weights and scenes.
        steps: optimiser steps.
        slices: about how many slices of `size` × `size` pixels a step sees.
        size: of a scene, pixels.
        depth: fewest and most slices of a stack.
        learning_rate: at the start of the cosine.
        weight_decay: of AdamW.
        clip: largest gradient norm.
        haze: probability of haze in a scene.
        network: sizes.
        weights: of the loss terms.
    """

    name: str
    description: str = ""
    limits: str = ""
    seed: int = 0
    steps: int = 5_000
    slices: int = 16
    size: int = 96
    depth: tuple[int, int] = (2, 10)
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    clip: float = 1.0
    haze: float = 0.35
    network: NetworkConfig = field(default_factory=NetworkConfig)
    weights: LossWeights = field(default_factory=LossWeights)


@dataclass(frozen=True)
class Batch:
    """Scenes of equal depth, as the network and the losses take them; B first everywhere."""

    guide: Tensor  # B Z H W
    noise: Tensor  # B
    counts: Tensor  # B Z H W
    truth: Tensor  # B H W
    height: Tensor  # B H W
    structure: Tensor  # B H W
    weight: Tensor  # B; scenes with little noise would otherwise hardly count


def load_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        UserInputError: no such file, not TOML, or a field that is unknown or impossible.
    """
    try:
        return TypeAdapter(Recipe).validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise UserInputError(f"No recipe {str(path)!r}. Give the path of a TOML file as in recipes/.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserInputError(
            f"{path.name}: not a TOML file ({error}). Compare it with recipes/general.toml."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserInputError(
            f"{path.name}: {where}: {first['msg']}, found {first['input']!r}. Compare it with recipes/general.toml."
        ) from error


def train(
    recipe: Recipe,
    folder: Path,
    *,
    device: torch.device,
    report: Callable[[int, dict[str, float]], None] | None = None,
    checkpoint_seconds: float = 60.0,
) -> Path:
    """Train, or go on where an interrupted training in the same folder stopped.

    Args:
        recipe: what to train.
        folder: takes `state.pt` (to resume), `scalars.csv` and the model.
        device: where the network runs.
        report: called after each step with the step and the loss terms.
        checkpoint_seconds: time between two states on disk.

    Returns:
        Path of the model, `folder/NAME.safetensors`.

    Raises:
        UserInputError: the folder holds another training, or the loss is no longer finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    network = HybridFusionNet(recipe.network).to(device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    first = _resume(folder, recipe, network, optimiser)
    saved = time.monotonic()
    with _Scalars(folder / "scalars.csv", first) as scalars:
        for step in range(first, recipe.steps):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(recipe, step)
            batch = draw_batch(recipe, step, device)
            terms = loss_terms(network, batch)
            loss = torch.stack([getattr(recipe.weights, name) * term for name, term in terms.items()]).sum()
            if not bool(torch.isfinite(loss)):
                raise UserInputError(
                    f"The loss is not finite at step {step}. The last good state is in {folder}; "
                    "lower learning_rate and resume."
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
            optimiser.step()
            values = {name: float(term.detach()) for name, term in terms.items()}
            scalars.write(step, values)
            if report is not None:
                report(step, values)
            if time.monotonic() - saved > checkpoint_seconds:
                _keep(folder, recipe, network, optimiser, step + 1)
                saved = time.monotonic()
    _keep(folder, recipe, network, optimiser, recipe.steps)
    calibrate(network, recipe)
    path = folder / f"{recipe.name}.safetensors"
    training = f"{recipe.steps} steps of about {recipe.slices} slices of {recipe.size}² px, seed {recipe.seed}"
    save_model(path, network, ModelCard(recipe.name, recipe.description, training, recipe.limits, {}))
    return path


def learning_rate(recipe: Recipe, step: int) -> float:
    """Cosine from the recipe's rate to zero after a short linear warm-up."""
    warm_up = min(1.0, (step + 1) / max(1, recipe.steps // 50))
    return recipe.learning_rate * warm_up * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))


def draw_batch(recipe: Recipe, step: int, device: torch.device) -> Batch:
    """Draw the scenes of one step; the same step always draws the same."""
    generator = Generator().manual_seed((recipe.seed << 32) + step)
    depth = int(torch.randint(recipe.depth[0], recipe.depth[1] + 1, (), generator=generator))
    count = max(1, round(recipe.slices / depth))
    regimes = torch.randint(0, len(NOISES), (count,), generator=generator).tolist()
    scenes = [make_scene(depth, recipe.size, NOISES[regime], generator, recipe.haze) for regime in regimes]
    jitter = torch.exp(0.3 * (2 * torch.rand((2, count), generator=generator) - 1)).tolist()
    return collate(scenes, jitter, device)


def collate(scenes: list[Scene], jitter: list[list[float]], device: torch.device) -> Batch:
    """Stack scenes of equal depth and make their guides.

    Args:
        scenes: of one depth and size.
        jitter: factors on contrast and on the estimated noise, one per scene each: the statistics of a real
            field are never exact.
        device: where the batch goes.
    """
    guides, noises = [], []
    for scene, scale, noise in zip(scenes, *jitter, strict=True):
        statistics = field_statistics([scene.counts.numpy()])
        guides.append(torch.from_numpy(statistics.guide([scene.counts.numpy()]) * np.float32(scale)))
        noises.append(statistics.noise * scale * noise)
    return Batch(
        guide=torch.stack(guides).to(device),
        noise=torch.tensor(noises, dtype=torch.float32, device=device),
        counts=torch.stack([scene.counts for scene in scenes]).to(device),
        truth=torch.stack([scene.truth for scene in scenes]).to(device),
        height=torch.stack([scene.height for scene in scenes]).to(device),
        structure=torch.stack([scene.structure for scene in scenes]).to(device),
        weight=torch.tensor([(0.05 + scene.noise) ** -0.5 for scene in scenes], device=device),
    )


def loss_terms(network: HybridFusionNet, batch: Batch) -> dict[str, Tensor]:
    """Every supervised term, unweighted, by its name in `LossWeights`."""
    scores = network(batch.guide, batch.noise)
    posterior = focus_posterior(scores)
    fused = fuse_soft(fusion_weights(scores), batch.counts)
    weight = batch.weight[:, None, None]
    # Where nothing can be seen the height is still asked for, lightly: it continues what is sure.
    sure = 0.05 + batch.structure
    return {
        "l1": losses.l1(fused * weight, batch.truth * weight),
        "gradient": losses.gradient_l1(fused * weight, batch.truth * weight),
        "cross_entropy": losses.focus_cross_entropy(scores.focus, batch.height, sure),
        "height": losses.height_l1(posterior, batch.height, sure),
        "total_variation": losses.total_variation(posterior),
    }


def calibrate(network: HybridFusionNet, recipe: Recipe, scenes: int = 24) -> None:
    """Set the posterior's temperature to the one under which unseen heights are most likely.

    Cross-entropy over textured pixels is evaluated on a grid of temperatures (Guo et al. 2017,
    arXiv:1706.04599, with a grid instead of a line search).
    """
    device = network.temperature.device
    candidates = torch.exp(torch.linspace(math.log(0.5), math.log(3), 37))
    total = torch.zeros(len(candidates))
    for step in range(scenes):
        batch = draw_batch(recipe, _CALIBRATION_SEED + step, device)
        with torch.inference_mode():
            focus = network(batch.guide, batch.noise).focus
            for index, candidate in enumerate(candidates):
                total[index] += losses.focus_cross_entropy(focus / candidate, batch.height, batch.structure).cpu()
    network.temperature.fill_(candidates[int(total.argmin())])


class _Scalars:
    """`scalars.csv`: one row per step; rows of steps that are about to be repeated are dropped."""

    def __init__(self, path: Path, first: int) -> None:
        self._path, self._first = path, first

    def __enter__(self) -> _Scalars:
        rows = self._path.read_text(encoding="utf-8").splitlines()[: self._first + 1] if self._path.exists() else []
        self._file = self._path.open("w", encoding="utf-8", newline="")
        self._file.writelines(f"{row}\n" for row in rows)
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._headed = bool(rows)
        return self

    def write(self, step: int, values: dict[str, float]) -> None:
        if not self._headed:
            self._writer.writerow(["step", *values])
            self._headed = True
        self._writer.writerow([step, *(f"{value:.6g}" for value in values.values())])

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _resume(folder: Path, recipe: Recipe, network: HybridFusionNet, optimiser: torch.optim.Optimizer) -> int:
    path = folder / "state.pt"
    if not path.exists():
        return 0
    state = torch.load(path, map_location=network.temperature.device, weights_only=True)
    if state["recipe"] != repr(recipe):
        raise UserInputError(
            f"{folder} holds a training of another recipe ({state['recipe'][:60]}…). "
            "Give another folder with -o, or remove this one."
        )
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def _keep(folder: Path, recipe: Recipe, network: HybridFusionNet, optimiser: torch.optim.Optimizer, step: int) -> None:
    part = folder / ".state.pt.part"
    torch.save(
        {"recipe": repr(recipe), "network": network.state_dict(), "optimiser": optimiser.state_dict(), "step": step},
        part,
    )
    part.replace(folder / "state.pt")
