"""The ways to fuse that are compared, and what each gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hybridfusion_core.evaluate.cases import Case, scored_planes
from hybridfusion_core.fusion.api import fuse
from hybridfusion_core.fusion.job import resolve
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.fusion.result import FuseResult
from hybridfusion_core.model.focus_measures import SMOOTHING, has_structure, tenengrad
from hybridfusion_core.model.noise import field_statistics, luminance
from hybridfusion_core.model.posterior import fuse_soft, height_map

NETWORK = "network"
NETWORK_HARD = "network, hard"
TENENGRAD = f"Tenengrad σ {SMOOTHING:g}"
CLASSICAL = "best classical (hindsight)"
MEAN = "mean"
NEAREST = "nearest true slice"

_WINDOWS = (1.0, 2.0, SMOOTHING, 6.0)
_SHARPNESS = (1.0, 4.0)  # exponents of the soft classical weights


@dataclass(frozen=True)
class Outcome:
    """What a method gives for one stack.

    Attributes:
        fused: C Y X, as scored.
        decision: Y X, slice counted from 1, 0 where nothing is in focus; None if the method says nothing.
        height: Y X, slices, NaN where nothing is in focus; None if the method says nothing.
        confidence: Y X, as `height`.
    """

    fused: NDArray[Any]
    decision: NDArray[Any] | None = None
    height: NDArray[Any] | None = None
    confidence: NDArray[Any] | None = None


def outcomes(case: Case, model: str, device: str) -> dict[str, Outcome]:
    """Fuse a stack in every way but the classical ones with hindsight.

    Raises:
        UserInputError: the stack cannot be fused.
    """
    network = {"model": model, "device": device}
    found = {
        NETWORK: _fused(case, **network),
        NETWORK_HARD: _fused(case, **network, select="hard"),
        TENENGRAD: _fused(case, method="tenengrad", select="hard", device=device),
        MEAN: _fused(case, method="mean"),
    }
    if case.height is not None:
        found[NEAREST] = _nearest(case, case.height)
    return found | {name: Outcome(fused) for name, fused in case.others.items()}


def classical_variants(case: Case) -> Iterator[Outcome]:
    """Every Tenengrad fusion among which hindsight may choose."""
    stack = case.stack
    counts = np.asarray(stack.array)  # C Z Y X
    fused: NDArray[Any] = np.empty((counts.shape[0], *counts.shape[2:]), dtype=np.float64)
    deciders = resolve(make_request(method="tenengrad"), stack).deciders
    guides, visible = [], []
    for decider in deciders:
        channels = [luminance(counts)] if stack.rgb else [counts[channel] for channel in decider.guide]
        statistics = field_statistics(channels)
        guides.append(torch.from_numpy(statistics.guide(channels))[None])  # 1 Z Y X
        # Heights are compared where the network gives one too.
        visible.append(has_structure(guides[-1], torch.tensor([statistics.noise], dtype=torch.float32)))
    for window in _WINDOWS:
        logs = [tenengrad(guide, window).clamp(min=1e-12).log() for guide in guides]
        for sharpness in (None, *_SHARPNESS):
            posteriors = [_posterior(log, sharpness) for log in logs]
            for decider, posterior in zip(deciders, posteriors, strict=True):
                for channel in decider.serves:
                    slices = torch.from_numpy(counts[channel].astype(np.float64))[None]
                    fused[channel] = fuse_soft(posterior.double(), slices)[0].numpy()
            height = height_map(posteriors[0], visible[0])[0].numpy()
            rounded = np.rint(fused) if counts.dtype.kind in "iu" else fused
            yield Outcome(scored_planes(rounded.astype(counts.dtype), stack.rgb), height=height)


def _posterior(log_energy: torch.Tensor, sharpness: float | None) -> torch.Tensor:
    """B Z Y X; a sharpness of None copies from the slice of most energy."""
    if sharpness is not None:
        return (sharpness * log_energy).softmax(dim=1)
    return torch.zeros_like(log_energy).scatter_(1, log_energy.argmax(dim=1, keepdim=True), 1)


def _fused(case: Case, **options: Any) -> Outcome:
    result: FuseResult = fuse(case.stack, **options)
    maps = [result.decision, result.height_slices, result.confidence]
    decision, height, confidence = (None if each is None else each[0, 0, 0] for each in maps)  # T C 1 Y X -> Y X
    return Outcome(scored_planes(result.fused[0, :, 0], case.stack.rgb), decision, height, confidence)


def _nearest(case: Case, height: NDArray[np.float64]) -> Outcome:
    """Copy from the slice nearest to the true height; where there is no surface, from the middle one."""
    middle = (case.slices - 1) / 2
    index = np.nan_to_num(height, nan=middle).round().astype(np.intp).clip(0, case.slices - 1)
    counts = np.asarray(case.stack.array)
    copied = np.take_along_axis(counts, index[np.newaxis, np.newaxis], axis=1)[:, 0]  # C Z Y X -> C Y X
    return Outcome(scored_planes(copied, case.stack.rgb))
