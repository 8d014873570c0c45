"""What each part of the network is worth: short trainings that differ in one thing, scored on the same unseen scenes.

    python benchmarks/ablation.py runs/ablation                    # all variants: half an hour of one core
    python benchmarks/ablation.py runs/ablation --only "depth 4" "heads 8" --seeds 3

Each variant trains in a folder of its own and resumes there; finished ones are not trained again. Prints rows for
docs/ablation.md: parameters, million pixel·slices per CPU second, and PSNR and height error as paired differences to
the base, with a 95 % bootstrap interval over scenes.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hybridfusion_core.evaluate.metrics.interval import paired_gain
from hybridfusion_core.model.config import NetworkConfig
from hybridfusion_core.model.model_file import load_model
from hybridfusion_core.model.network import HybridFusionNet, Scores
from hybridfusion_core.model.posterior import focus_posterior, fuse_soft, fusion_weights
from hybridfusion_core.train.loop import train
from hybridfusion_core.train.losses.supervised import expected_height
from hybridfusion_core.train.recipe import Recipe, load_recipe
from hybridfusion_core.train.scene_batches import draw_batch

_SCENES = 1 << 42  # steps of these scenes are far from those that train, validate or calibrate
_BATCHES = 40
_BEST_ERROR = 1e-6
_TILE = 320  # px, as a tile of 256 with its halo


class OneOutput(HybridFusionNet):
    """The focus posterior fuses too."""

    def forward(self, guide: Tensor, noise: Tensor, z_chunk: int | None = None) -> Scores:
        """As the network's, with a spread of 0."""
        scores = super().forward(guide, noise, z_chunk)
        return scores._replace(spread=torch.zeros_like(scores.spread))


class NoExchange(HybridFusionNet):
    """Slices learn nothing of each other, but for their energies, which are relative to the sharpest slice's."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        for exchange in self.exchanges:
            _silence(exchange)

    def mixing(self) -> tuple[Tensor, ...]:  # noqa: D102
        own, mean, maximum, tokens = super().mixing()
        return own, torch.zeros_like(mean), torch.zeros_like(maximum), tokens


class NoMean(HybridFusionNet):
    """The head is told the maximum over Z of its pixel's features, but not their mean."""

    def mixing(self) -> tuple[Tensor, ...]:  # noqa: D102
        own, mean, maximum, tokens = super().mixing()
        return own, torch.zeros_like(mean), maximum, tokens


class NoShift(HybridFusionNet):
    """Every block's windows fall on the same pixels."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        for block in self.blocks:
            block.margin = 0


class NoNoise(HybridFusionNet):
    """The convolutions are not told how strong the noise is."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        _silence(self.noise)


@dataclass(frozen=True)
class Variant:
    """What differs from the base."""

    name: str
    sizes: dict[str, object] = field(default_factory=dict)
    network: type[HybridFusionNet] = HybridFusionNet
    training: dict[str, object] = field(default_factory=dict)


VARIANTS = (
    Variant("base"),
    Variant("no exchange", network=NoExchange),
    Variant("no dilations", {"dilations": (1, 1, 1)}),
    Variant("patch 4", {"patch": 4}),
    Variant("depth 4", {"depth": 4}),
    Variant("heads 8", {"heads": 8}),
    Variant("no shift", network=NoShift),
    Variant("one output", network=OneOutput),
    Variant("coarse tokens", {"depth": 0, "coarse_depth": 2}),
    Variant("coarse tokens beside fine ones", {"coarse_depth": 2}),
    Variant("coarse tokens, depth 1", {"depth": 0, "coarse_depth": 1}),
    Variant("coarse tokens, bin 4", {"depth": 0, "coarse_depth": 2, "coarse_bin": 4, "patch": 1}),
    Variant("no energies", {"focus_windows": ()}),
    Variant("windows of 1 and 2 px", {"focus_windows": (1.0, 2.0)}),
    Variant("no mean at full resolution", network=NoMean),
    Variant("no noise", network=NoNoise),
    Variant("channels 16", {"channels": 16}),
    Variant("tokens 16", {"dim": 16}),
    Variant("constant rate, average of 0.99", training={"schedule": "constant", "ema": 0.99}),
    Variant("cosine, average of 0.99", training={"ema": 0.99}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="takes a folder for each training")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/ablation.toml"))
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each variant (default: 1)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="variants; the base is always among them")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    names = {"base", *(chosen.only or (variant.name for variant in VARIANTS))}
    print(
        "| variant | parameters | Mpx·slices per CPU s | PSNR, dB | height error, slices |\n|---|---|---|---|---|",
        flush=True,
    )
    recipe = load_recipe(chosen.recipe)
    found = {}
    for variant in VARIANTS:
        if variant.name not in names:
            continue
        scores = [measured(variant, recipe, seed, chosen.folder, chosen.device) for seed in range(chosen.seeds)]
        found[variant.name] = [np.stack(values) for values in zip(*scores, strict=True)]  # seeds × scenes each
        print(as_row(variant, found, recipe), flush=True)


def measured(
    variant: Variant, recipe: Recipe, seed: int, folder: Path, device: torch.device
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """PSNR and height error of every unseen scene after training a variant."""
    name = f"{variant.name.replace(' ', '_')}_{seed}"
    network = replace(recipe.network or NetworkConfig(), **variant.sizes)
    own = replace(recipe, name=name, seed=recipe.seed + seed, network=network, **variant.training)

    def build(recipe: Recipe) -> HybridFusionNet:
        return variant.network(recipe.network)

    path = folder / name / f"{name}.safetensors"
    if not path.exists():
        train(own, folder / name, device=device, build=build)
    network = build(own)
    network.load_state_dict(load_model(str(path)).network.state_dict())
    return score(network.to(device), recipe, device)


def score(
    network: HybridFusionNet, recipe: Recipe, device: torch.device
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """PSNR in dB and height error in slices, one value for each of the scenes that follow from the recipe's seed."""
    ratios, errors = [], []
    scenes = replace(recipe, slices=16, size=96)
    for step in range(_BATCHES):
        batch = draw_batch(scenes, _SCENES + step, device)
        with torch.inference_mode():
            scores = network(batch.guide, batch.noise)
        fused = fuse_soft(fusion_weights(scores), batch.counts)
        ratios += (-10 * ((fused - batch.truth).square().mean(dim=(1, 2)) + _BEST_ERROR).log10()).tolist()
        away = (expected_height(focus_posterior(scores)) - batch.height).abs()
        for error, visible in zip(away, batch.structure > 0.5, strict=True):
            errors.append(float(error[visible].mean()))
    return np.array(ratios), np.array(errors)


def as_row(variant: Variant, found: dict[str, list[NDArray[np.float64]]], recipe: Recipe) -> str:
    """One line of the table."""
    network = variant.network(replace(recipe.network or NetworkConfig(), **variant.sizes)).eval()
    size = sum(parameter.numel() for parameter in network.parameters())
    cells = [variant.name, f"{size:,}", f"{_rate(network):.2f}"]
    for values, base in zip(found[variant.name], found["base"], strict=True):
        if variant.name == "base":
            cells.append(f"{np.nanmean(values):.3f}")
            continue
        gain = paired_gain(values.mean(axis=0), base.mean(axis=0))
        assert gain is not None
        spread = f", seeds ± {np.nanmean(values - base, axis=1).std(ddof=1):.3f}" if len(values) > 1 else ""
        cells.append(f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]{spread}")
    return "| " + " | ".join(cells) + " |"


def _rate(network: HybridFusionNet, slices: int = 6) -> float:
    """Million pixel·slices per CPU second, the best of three."""
    guide, noise = torch.randn(1, slices, _TILE, _TILE), torch.tensor([0.1])
    seconds = []
    for _ in range(3):
        started = time.process_time()
        with torch.inference_mode():
            network(guide, noise, 1)
        seconds.append(time.process_time() - started)
    return slices * _TILE**2 / 1e6 / min(seconds)


def _silence(layer: torch.nn.Module) -> None:
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
        parameter.requires_grad_(False)


if __name__ == "__main__":
    main()
