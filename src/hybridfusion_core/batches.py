"""Synthetic scenes as the network and the losses take them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from hybridfusion_core.intensity import field_statistics
from hybridfusion_core.recipe import Recipe
from hybridfusion_core.synthesis import ANY_LAB, NOISES, Lab, Scene, make_scene

_JITTER = 0.3  # natural logarithm: the statistics of a real field are never exact


@dataclass(frozen=True)
class Batch:
    """Scenes of equal depth; B first everywhere."""

    guide: Tensor  # B Z H W
    noise: Tensor  # B
    counts: Tensor  # B Z H W
    truth: Tensor  # B H W
    height: Tensor  # B H W
    structure: Tensor  # B H W
    weight: Tensor  # B; scenes with little noise would otherwise hardly count


def draw_batch(recipe: Recipe, step: int, device: torch.device, lab: Lab = ANY_LAB) -> Batch:
    """Draw the scenes of one step, as a laboratory's microscope shows them; the same step always draws the same."""
    generator = Generator().manual_seed((recipe.seed << 32) + step)
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
        # About the error that is left: each regime's decibels count alike (3 at 2 % of noise).
        weight=torch.tensor([0.15 / (0.03 + scene.noise) for scene in scenes], device=device),
    )
