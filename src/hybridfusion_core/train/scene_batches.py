"""Synthetic scenes as the network and the losses take them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hybridfusion_core.model.noise import field_statistics
from hybridfusion_core.scenes.camera import NOISES
from hybridfusion_core.scenes.lab import ANY_LAB, Lab
from hybridfusion_core.scenes.scene import Scene, make_scene
from hybridfusion_core.train.recipe import Recipe

_JITTER = 0.3  # natural logarithm: the statistics of a real field are never exact


@dataclass(frozen=True)
class Batch:
    """Scenes of equal depth; B first everywhere."""

    guide: Tensor  # B Z H W
    noise: Tensor  # B
    counts: Tensor  # B Z H W
    truth: Tensor  # B H W
    truth_guide: Tensor  # B H W, the truth on the guide's scale, where glow on dark ground shows
    height: Tensor  # B H W
    structure: Tensor  # B H W
    in_focus: Tensor  # B H W, 0 or 1
    in_focus_weight: Tensor  # B H W, 0 where it is ambiguous
    weight: Tensor  # B; scenes with little noise would otherwise hardly count

    def to(self, device: torch.device) -> Batch:
        """Copy to a device."""
        return Batch(**{each.name: getattr(self, each.name).to(device) for each in fields(self)})


class _Steps(Dataset[Batch]):
    """The batches of a recipe's steps from `first` on."""

    def __init__(self, recipe: Recipe, first: int) -> None:
        self._recipe, self._first = recipe, first

    def __len__(self) -> int:
        return max(0, self._recipe.steps - self._first)

    def __getitem__(self, index: int) -> Batch:
        return draw_batch(self._recipe, self._first + index, torch.device("cpu"))


def draw_batches(recipe: Recipe, first: int, device: torch.device, processes: int = 0) -> Generator[Batch]:
    """Draw the scenes of every step that is left, each the same whichever process draws it.

    Args:
        recipe: what is trained.
        first: step to begin with.
        device: where the batches go.
        processes: that draw ahead, in parallel; 0 draws here, when a batch is asked for.
    """
    ahead: DataLoader[Batch] = DataLoader(
        _Steps(recipe, first),
        batch_size=None,
        num_workers=processes,
        # Scenes are drawn on the CPU, and a process that holds a GPU must not be forked.
        multiprocessing_context="spawn" if processes else None,
    )
    for batch in ahead:
        yield batch.to(device)


def draw_batch(recipe: Recipe, step: int, device: torch.device, lab: Lab = ANY_LAB) -> Batch:
    """Draw the scenes of one step, as a laboratory's microscope shows them; the same step always draws the same."""
    generator = torch.Generator().manual_seed((recipe.seed << 32) + step)
    depth = int(torch.randint(recipe.depth[0], recipe.depth[1] + 1, (), generator=generator))
    count = max(1, round(recipe.slices / depth))
    kinds, shares = tuple(recipe.scenes), torch.tensor(list(recipe.scenes.values()))
    drawn = torch.multinomial(shares, count, replacement=True, generator=generator).tolist()
    regimes = torch.randint(0, len(NOISES), (count,), generator=generator).tolist()
    scenes = [
        make_scene(depth, recipe.size, NOISES[regime], generator, recipe.haze, kind=kinds[kind], lab=lab)
        for kind, regime in zip(drawn, regimes, strict=True)
    ]
    jitter = torch.exp(_JITTER * (2 * torch.rand((2, count), generator=generator) - 1)).tolist()
    return collate(scenes, jitter, device)


def collate(scenes: list[Scene], jitter: list[list[float]], device: torch.device) -> Batch:
    """Stack scenes of equal depth and make their guides.

    Args:
        scenes: of one depth and size.
        jitter: factors on contrast and on the estimated noise, one per scene each.
        device: where the batch goes.
    """
    guides, truths, noises = [], [], []
    for scene, scale, noise in zip(scenes, *jitter, strict=True):
        statistics = field_statistics([scene.counts.numpy()])
        guides.append(torch.from_numpy(statistics.guide([scene.counts.numpy()]) * np.float32(scale)))
        truths.append(torch.from_numpy(statistics.guide([scene.truth.numpy()]) * np.float32(scale)))
        noises.append(statistics.noise * scale * noise)
    return Batch(
        guide=torch.stack(guides).to(device),
        noise=torch.tensor(noises, dtype=torch.float32, device=device),
        counts=torch.stack([scene.counts for scene in scenes]).to(device),
        truth=torch.stack([scene.truth for scene in scenes]).to(device),
        truth_guide=torch.stack(truths).to(device),
        height=torch.stack([scene.height for scene in scenes]).to(device),
        structure=torch.stack([scene.structure for scene in scenes]).to(device),
        in_focus=torch.stack([scene.in_focus for scene in scenes]).to(device),
        in_focus_weight=torch.stack([scene.in_focus_weight for scene in scenes]).to(device),
        # About the error that is left: each regime's decibels count alike (3 at 2 % of noise).
        weight=torch.tensor([0.15 / (0.03 + scene.noise) for scene in scenes], device=device),
    )
