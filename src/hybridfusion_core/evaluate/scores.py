"""Every figure of every method for one stack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.evaluate.cases import Case
from hybridfusion_core.evaluate.methods import CLASSICAL, TENENGRAD, Outcome, classical_variants, outcomes
from hybridfusion_core.evaluate.metrics.agreement import (
    edge_preservation,
    mutual_information,
)
from hybridfusion_core.evaluate.metrics.calibration import (
    TOLERANCE,
    Reliability,
    auroc,
    reliability,
)
from hybridfusion_core.evaluate.metrics.isolated_bodies import around_bodies, bright_kept, dark_field
from hybridfusion_core.evaluate.metrics.traces import (
    dark_ring,
    speckle,
    window_edges,
)
from hybridfusion_core.evaluate.metrics.truth import (
    body_bias,
    height_error,
    psnr,
    ssim,
)

CALIBRATED_FROM = 5  # slices; with fewer, one slice beside the right one is most of the stack


@dataclass(frozen=True)
class Figure:
    """One column of a table.

    Attributes:
        key: name in machine-readable output.
        heading: name in tables.
        digits: after the decimal point.
        more_is_better: None for what only describes.
        gain: differences between methods are worth a table.
    """

    key: str
    heading: str
    digits: int
    more_is_better: bool | None
    gain: bool = True


FIGURES = (
    Figure("psnr", "PSNR, dB", 2, True),
    Figure("ssim", "SSIM", 4, True),
    Figure("psnr_boundary", "boundary band, dB", 2, True),
    Figure("psnr_overlap", "two surfaces, dB", 2, True),
    Figure("height", "height error, slices", 3, False),
    Figure("height_um", "height error, µm", 3, False),
    Figure("height_weak", "height error where weak", 3, False),
    Figure("bias", "worst body, %", 2, False),
    Figure("psnr_bare", "without detail, dB", 2, True),
    Figure("q_abf", "Q^AB/F", 4, True),
    Figure("nmi", "NMI", 4, True),
    Figure("auroc", "AUROC of mistakes", 3, True, gain=False),
    Figure("unknown", "nothing in focus", 3, None, gain=False),
    Figure("missed", "in focus and missed", 3, False, gain=False),
    Figure("invented", "in focus and invented", 4, False, gain=False),
    Figure("edges_fused", "window edges, fused", 3, None, gain=False),
    Figure("edges_height", "…, height", 3, None, gain=False),
    Figure("edges_confidence", "…, confidence", 3, None, gain=False),
    Figure("dark_ring", "dark ring", 4, None, gain=False),
    Figure("speckle", "speckle", 4, None, gain=False),
    Figure("false_ring", "false ring", 4, False, gain=False),
    Figure("false_ring_sure", "…, sure", 4, False, gain=False),
    Figure("glow", "glow around bodies", 3, None, gain=False),
    Figure("far_decided", "decided far from bodies", 4, False, gain=False),
    Figure("bright_kept", "brightest structure kept", 3, True, gain=False),
)

Scores = dict[str, dict[str, float]]  # method -> key of a figure -> value


@dataclass(frozen=True)
class Scored:
    """One stack's figures, and what a page needs to show it.

    Attributes:
        scores: by method; NaN for what cannot be measured.
        reliability: by method.
        outcomes: by method; the classical one is the variant that was best over the whole image.
    """

    scores: Scores
    reliability: dict[str, Reliability]
    outcomes: dict[str, Outcome]


def score_case(case: Case, model: str, device: str) -> Scored:
    """Fuse one stack in every way and measure what came out.

    Raises:
        UserInputError: the stack cannot be fused.
    """
    found = outcomes(case, model, device)
    ground = np.asarray(np.mean([case.planes(z)[0] for z in range(case.slices)], axis=0, dtype=np.float64))
    scores = {name: _against_truth(case, outcome) | _traces(outcome, case, ground) for name, outcome in found.items()}
    scores[CLASSICAL], found[CLASSICAL] = _with_hindsight(case, found[TENENGRAD])
    sure = {name: part for name, outcome in found.items() if (part := _reliability(case, outcome)) is not None}
    return Scored(scores, sure, found)


def _against_truth(case: Case, outcome: Outcome) -> dict[str, float]:
    """Figures that hindsight may choose by."""
    found: dict[str, float] = {}
    if case.truth is not None and case.bare:
        # There averaging gains tens of decibels, which would drown what the other stacks say about sharpness.
        found["psnr_bare"] = _over_channels(case, outcome, psnr)
    elif case.truth is not None:
        found["psnr"] = _over_channels(case, outcome, psnr)
        found["ssim"] = _over_channels(case, outcome, ssim)
        for key, where in (("psnr_boundary", case.boundary), ("psnr_overlap", case.overlap)):
            if where is not None:
                measure = partial(psnr, where=where)
                found[key] = _over_channels(case, outcome, measure)
        if case.labels is not None and case.labels.any():
            bias = body_bias(case.truth[0], outcome.fused[0], case.labels)
            found["bias"] = float(100 * np.abs(bias).max())
    else:
        found |= _agreement(case, outcome)
    if case.height is not None and outcome.height is not None:
        surface = np.ones(case.height.shape, dtype=bool) if case.overlap is None else ~case.overlap
        visible = surface if case.textured is None else surface & case.textured
        found["height"] = height_error(case.height, outcome.height, visible)
        found["height_um"] = height_error(_in_um(case, case.height), _in_um(case, outcome.height), visible)
        found["height_weak"] = height_error(case.height, outcome.height, surface & ~visible)
    return found


def _in_um(case: Case, height: NDArray[Any]) -> NDArray[np.float64]:
    """Heights in slices as heights in µm, Y X; all NaN if the stack does not say where its slices lie."""
    positions = case.stack.z_um
    if positions is None:
        return np.full(height.shape, np.nan)
    return np.asarray(np.interp(height, np.arange(len(positions)), positions), dtype=np.float64)


def _over_channels(
    case: Case, outcome: Outcome, measure: Callable[[NDArray[Any], NDArray[Any], float], float]
) -> float:
    assert case.truth is not None  # noqa: S101 - asked for only where it is known
    planes = zip(case.truth, outcome.fused, case.data_range, strict=True)
    return float(np.mean([measure(truth, image, span) for truth, image, span in planes]))


def _agreement(case: Case, outcome: Outcome) -> dict[str, float]:
    """Agreement with the inputs; it prefers copies, so it is measured only where no truth is known."""
    slices = [case.planes(z) for z in range(case.slices)]
    found = {
        "q_abf": float(
            np.mean([edge_preservation([each[c] for each in slices], plane) for c, plane in enumerate(outcome.fused)])
        )
    }
    if case.slices == 2:
        pairs = zip(slices[0], slices[1], outcome.fused, strict=True)
        found["nmi"] = float(np.mean([mutual_information(*pair) for pair in pairs]))
    return found


def _traces(outcome: Outcome, case: Case, ground: NDArray[np.float64]) -> dict[str, float]:
    """What a method leaves in its maps, and, where no truth is known, in its image."""
    found: dict[str, float] = {}
    if outcome.decision is not None:
        found["unknown"] = float((outcome.decision == 0).mean())
        if case.in_focus is not None:
            found |= _in_focus(case.in_focus, outcome.decision)
    if case.truth is not None:
        if case.height is not None and outcome.confidence is not None and case.slices >= CALIBRATED_FROM:
            found["auroc"] = auroc(*_mistakes(case, outcome))
        return found
    stack = np.stack([case.planes(z)[0] for z in range(case.slices)])
    if outcome.decision is not None:
        found["bright_kept"] = bright_kept(stack, outcome.decision)
    if (field := dark_field(stack)) is not None:
        around = around_bodies(field, stack, outcome.fused[0], outcome.decision, outcome.confidence)
        found |= {name: value for name, value in around.items() if name != "bodies_kept"}
    found["edges_fused"] = window_edges(outcome.fused[0])
    found["dark_ring"] = dark_ring(outcome.fused[0], ground)
    if outcome.decision is not None:
        found["speckle"] = speckle(outcome.decision, case.slices)
    if outcome.height is not None and case.slices > 2:
        found["edges_height"] = window_edges(outcome.height)
    if outcome.confidence is not None and case.slices > 3:
        found["edges_confidence"] = window_edges(outcome.confidence)
    return found


def _in_focus(truth: NDArray[np.float64], decision: NDArray[Any]) -> dict[str, float]:
    """Shares of what is in focus without a decision, and of what is not with one. Y X each; the truth may be NaN."""
    shares = {"missed": (decision == 0)[truth > 0.5], "invented": (decision > 0)[truth < 0.5]}
    return {name: float(wrong.mean()) for name, wrong in shares.items() if wrong.size}


def _mistakes(case: Case, outcome: Outcome) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Confidence, and whether the decision is wrong by more than a slice, where there is a surface to decide about."""
    assert case.height is not None  # noqa: S101 - asked for only where it is known
    assert outcome.decision is not None  # noqa: S101 - a confidence comes with a decision
    assert outcome.confidence is not None  # noqa: S101
    asked = (outcome.decision > 0) & np.isfinite(case.height)
    if case.textured is not None:
        asked &= case.textured
    if case.overlap is not None:
        asked &= ~case.overlap
    wrong = np.abs(outcome.decision.astype(np.float64) - 1 - case.height) > TOLERANCE
    return outcome.confidence[asked], wrong[asked]


def _reliability(case: Case, outcome: Outcome) -> Reliability | None:
    if case.height is None or outcome.confidence is None or case.slices < CALIBRATED_FROM:
        return None
    return reliability(*_mistakes(case, outcome))


def _with_hindsight(case: Case, shipped: Outcome) -> tuple[dict[str, float], Outcome]:
    """Best value of every figure over the classical variants, and the variant that is best over the whole image.

    The shipped Tenengrad is one of them: its heights come from a posterior of its own.
    """
    best: dict[str, float] = {}
    shown: Outcome | None = None
    leading = ("psnr", "psnr_bare", "q_abf")
    for variant in chain((shipped,), classical_variants(case)):
        found = _against_truth(case, variant)
        for figure in FIGURES:
            value = found.get(figure.key, np.nan)
            if np.isnan(value):
                continue
            sign = 1 if figure.more_is_better else -1
            if figure.key not in best or sign * value > sign * best[figure.key]:
                best[figure.key] = value
                shown = variant if figure.key in leading else shown
        shown = shown or variant
    assert shown is not None  # noqa: S101 - there are always variants
    return best, shown
