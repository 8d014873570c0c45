"""Two surfaces of synthetic hollow organoids: how far heights are off, and how often sides are swapped inside a cell.

Usage: python benchmarks/surfaces.py [--scenes 4] [--size 256] [--slices 16] [--method network]
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

import hybridfusion_core as hf
from hybridfusion_core.scenes.hollow import HollowScene, hollow_scene


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--slices", type=int, default=16)
    parser.add_argument("--method", default="network")
    parser.add_argument("--smooth", type=float, default=1.0)
    options = parser.parse_args()
    print("seed  side    covered  median   90 %     within 0.5   swapped cells")
    for seed in range(options.scenes):
        scene = hollow_scene(options.size, options.slices, torch.Generator().manual_seed(seed))
        result = hf.fuse(
            (scene.counts.numpy() * 20_000 + 100).clip(0, 65_535).astype(np.uint16),
            method=options.method,
            device="cpu",
            surface_from="posterior",
            surfaces=2,
            smooth=options.smooth,
        )
        for side, (found, swapped) in enumerate(judged(scene, result.height_slices)):
            known = np.isfinite(found)
            error = np.abs(found[known])
            print(
                f"{seed:4}  {('upper', 'lower')[side]}  {known.mean():8.1%}  {np.median(error):6.3f}  "
                f"{np.quantile(error, 0.9):6.3f}  {np.mean(error <= 0.5):10.1%}   {swapped}"
            )


def judged(scene: HollowScene, heights: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Height errors of each side where both are, and in how many cells a side has pixels of the other one.

    Args:
        scene: with its truth.
        heights: 2 Y X, in slices, the upper one first.
    """
    inside, truth = scene.inside.numpy(), (scene.upper.numpy(), scene.lower.numpy())
    cells, found = scene.cells.numpy(), []
    for own, other, height in zip(truth, truth[::-1], heights, strict=True):
        wrong = np.abs(height - other) < np.abs(height - own)
        number = cells[inside & (cells > 0) & np.isfinite(height)]
        share = np.bincount(number, wrong[inside & (cells > 0) & np.isfinite(height)]) / np.maximum(
            np.bincount(number), 1
        )
        found.append(((height - own)[inside], int(np.sum((share > 0) & (share < 1)) + np.sum(share == 1))))
    return found


if __name__ == "__main__":
    main()
