"""Score the network on synthetic stacks whose truth is known and which no training has seen.

Classical methods are given what no user has: for each stack the best of several smoothing windows, hard or
soft, chosen with the truth in hand. A lead over that is a lead over all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio
from torch import Generator

from hybridfusion_core import artefacts
from hybridfusion_core.blend import fuse_soft
from hybridfusion_core.focus_measures import SMOOTHING, tenengrad
from hybridfusion_core.intensity import field_statistics
from hybridfusion_core.predict import fuse
from hybridfusion_core.synthesis import NOISES, Scene, make_scene

_SEED = 7 << 50  # far from the seeds of any training
_SIZE = 160
_DEPTH = (2, 10)
_WINDOWS = (1.0, 2.0, SMOOTHING, 6.0)
_SHARPNESS = (1.0, 4.0)  # exponents of the soft classical weights
_RESAMPLES = 2_000

Figures = dict[str, NDArray[np.float64]]  # name -> one value per stack


@dataclass(frozen=True)
class Evaluation:
    """Figures by noise regime, and the measures of artefacts."""

    regimes: dict[str, Figures]
    artefacts: dict[str, dict[str, float]]

    def as_json(self) -> dict[str, Any]:
        """Every figure, as plain JSON values."""
        regimes = {
            noise: {
                name: [None if np.isnan(value) else float(value) for value in values] for name, values in of.items()
            }
            for noise, of in self.regimes.items()
        }
        return {"regimes": regimes, "artefacts": self.artefacts}

    def metrics(self) -> dict[str, float]:
        """Means for a model's card."""
        found = {}
        for noise, of in self.regimes.items():
            found[f"{noise}: PSNR, dB"] = _mean(of["network"])
            found[f"{noise}: lead over Tenengrad, dB"] = _mean(of["network"] - of["tenengrad"])
            found[f"{noise}: lead over the best classical with hindsight, dB"] = _mean(
                of["network"] - of["best_classical"]
            )
            found[f"{noise}: height error, slices"] = _mean(of["network_height"])
        return found | {name: round(of_method["network"], 3) for name, of_method in self.artefacts.items()}

    def as_text(self) -> str:
        """Tables in Markdown."""
        lines = [
            "| noise | network, dB | − Tenengrad σ 4 | − best classical (hindsight) | − nearest true slice | "
            "worst decile − Tenengrad | boundary band − Tenengrad | height error, slices | of Tenengrad |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for noise, of in self.regimes.items():
            lead = of["network"] - of["tenengrad"]
            cells = [
                f"{of['network'].mean():.2f}",
                _with_interval(lead),
                _with_interval(of["network"] - of["best_classical"]),
                _with_interval(of["network"] - of["nearest_slice"]),
                f"{np.quantile(lead, 0.1):+.2f}",
                _with_interval(of["network_boundary"] - of["tenengrad_boundary"]),
                f"{np.nanmean(of['network_height']):.3f}",
                f"{np.nanmean(of['tenengrad_height']):.3f}",
            ]
            lines.append(f"| {noise} | " + " | ".join(cells) + " |")
        lines += ["", "| artefact | network | Tenengrad σ 4 |", "|---|---|---|"]
        for name, of_method in self.artefacts.items():
            lines.append(f"| {name} | {of_method['network']:.3g} | {of_method['tenengrad']:.3g} |")
        return "\n".join(lines)


def evaluate_methods(
    model: str,
    *,
    scenes: int,
    device: str = "auto",
    report: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Fuse unseen scenes of every noise regime and compare with their truth.

    Args:
        model: as for `fuse`.
        scenes: stacks per regime; the same number always gives the same stacks.
        device: as for `fuse`.
        report: called after each stack with how many are done and how many there are.
    """
    regimes: dict[str, Figures] = {}
    for index, noise in enumerate(NOISES):
        rows = []
        for number in range(scenes):
            generator = Generator().manual_seed(_SEED + number)
            depth = int(torch.randint(_DEPTH[0], _DEPTH[1] + 1, (), generator=generator))
            rows.append(_score(make_scene(depth, _SIZE, noise, generator), model, device))
            if report is not None:
                report(index * scenes + number + 1, scenes * len(NOISES))
        regimes[noise] = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    ways = {"network": {"model": model}, "tenengrad": {"method": "tenengrad", "select": "hard"}}
    measured = {way: artefacts.measure_artefacts(options) for way, options in ways.items()}
    return Evaluation(regimes, {name: {way: measured[way][name] for way in ways} for name in measured["network"]})


def _score(scene: Scene, model: str, device: str) -> dict[str, float]:
    counts, truth = scene.counts.numpy(), scene.truth.numpy()
    ours = fuse(counts, model=model, device=device)
    theirs = fuse(counts, method="tenengrad", select="hard", device=device)
    nearest = scene.counts.gather(0, scene.height.round().long()[None])[0].numpy()
    band, visible = scene.boundary.numpy(), scene.structure.numpy() > 0.5

    def psnr(image: NDArray[Any], where: NDArray[np.bool_] | None = None) -> float:
        if where is None:
            return _psnr(truth, image)
        return _psnr(truth[where], image[where], float(np.ptp(truth))) if where.any() else np.nan

    return {
        "network": psnr(ours.fused),
        "tenengrad": psnr(theirs.fused),
        "best_classical": max(psnr(image) for image in _classical(scene)),
        "nearest_slice": psnr(nearest),
        "network_boundary": psnr(ours.fused, band),
        "tenengrad_boundary": psnr(theirs.fused, band),
        "network_height": _height_error(ours.height_slices, scene, visible),
        "tenengrad_height": _height_error(theirs.height_slices, scene, visible),
    }


def _psnr(truth: NDArray[Any], image: NDArray[Any], data_range: float | None = None) -> float:
    # A field without specimen has no range; its full scale of one takes its place.
    span = data_range or float(np.ptp(truth))
    return float(peak_signal_noise_ratio(truth, image, data_range=span if span > 0.05 else 1.0))


def _height_error(height: NDArray[np.float32] | None, scene: Scene, visible: NDArray[np.bool_]) -> float:
    if height is None:
        return np.nan
    known = visible & np.isfinite(height)
    return float(np.abs(height - scene.height.numpy())[known].mean()) if known.any() else np.nan


def _classical(scene: Scene) -> list[NDArray[Any]]:
    """Every Tenengrad fusion among which hindsight may choose."""
    statistics = field_statistics([scene.counts.numpy()])
    guide = torch.from_numpy(statistics.guide([scene.counts.numpy()]))[None]
    images = []
    for window in _WINDOWS:
        energy = tenengrad(guide, window).clamp(min=1e-12)
        images.append(scene.counts.gather(0, energy.argmax(dim=1))[0].numpy())
        for sharpness in _SHARPNESS:
            weights = (sharpness * energy.log()).softmax(dim=1)
            images.append(fuse_soft(weights, scene.counts[None])[0].numpy())
    return images


def _mean(values: NDArray[np.float64]) -> float:
    return round(float(np.nanmean(values)), 3)


def _with_interval(differences: NDArray[np.float64]) -> str:
    """Mean of paired differences with a 95 % bootstrap interval over stacks."""
    known = differences[np.isfinite(differences)]
    if not known.size:
        return "–"
    draws = np.random.default_rng(0).choice(known, (_RESAMPLES, known.size)).mean(axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return f"{known.mean():+.2f} [{low:+.2f}, {high:+.2f}]"
