"""What the slices tell: drift between them, and intensities that fusing changed. Measured, never corrected."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from hybridfusion_core.batch.figures.drift import SliceFigures, slice_figures
from hybridfusion_core.batch.figures.flags import BIAS_ABOVE, DRIFT_ABOVE, figures
from hybridfusion_core.fusion.api import fuse
from hybridfusion_core.fusion.job import resolve
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.fusion.result import describe
from hybridfusion_core.stack import Stack


def specimen(side: int = 192, slices: int = 6, seed: int = 0) -> np.ndarray:
    """Blobs at all depths, each blurred by its distance from the slice, with the noise of a camera."""
    random = np.random.default_rng(seed)
    depth = random.integers(0, slices, (side, side))
    points = (random.random((side, side)) < 0.01) * random.uniform(500, 3000, (side, side))
    stack = [
        100 + sum(gaussian_filter(np.where(depth == at, points, 0) * 20, 1.5 + abs(at - z)) for at in range(slices))
        for z in range(slices)
    ]
    return np.stack(stack)


def noisy(stack: np.ndarray, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(stack, 3).clip(0, 65535).astype(np.uint16)


def moved(stack: np.ndarray, steps: Sequence[tuple[float, float]]) -> np.ndarray:
    return np.stack([shift(plane, step, order=1, mode="nearest") for plane, step in zip(stack, steps, strict=True)])


def seen(counts: np.ndarray, method: str = "tenengrad") -> SliceFigures:
    stack = Stack.from_array(counts, z_step_um=1)
    result = fuse(stack, method=method, device="cpu")
    return slice_figures(resolve(make_request(method=method, device="cpu"), stack), stack, result.arrays)


@pytest.mark.parametrize("seed", range(4))
def test_slices_that_stand_still_do_not_drift(seed: int) -> None:
    found = seen(noisy(specimen(seed=seed)))
    assert found.drift_px is not None
    assert found.drift_px < 0.6


@pytest.mark.parametrize(("step", "least", "most"), [(0.5, 1.0, 2.6), (1.0, 3.0, 5.2), (2.0, 7.0, 10.3)])
def test_drift_is_measured_to_the_part_of_a_pixel(step: float, least: float, most: float) -> None:
    paths = [(0.6 * step * z, 0.8 * step * z) for z in range(6)]
    found = seen(noisy(moved(specimen(), paths)))
    assert found.drift_px is not None
    assert least < found.drift_px < most  # five steps


def test_one_jump_and_back_is_found_too() -> None:
    paths = [(0, 0), (0, 0), (0, 3), (0, 3), (0, 0), (0, 0)]
    found = seen(noisy(moved(specimen(), paths)))
    assert found.drift_px == pytest.approx(3, abs=0.8)


@pytest.mark.parametrize("shape", [(2, 1, 1), (3, 5, 7), (4, 16, 400), (2, 300, 3)])
def test_planes_of_any_size_can_be_looked_at(shape: tuple[int, int, int]) -> None:
    found = seen(np.random.default_rng(0).poisson(200, shape).astype(np.uint16), "max")
    assert found.drift_px is None or found.drift_px >= 0


def test_what_cannot_be_told_is_not_told() -> None:
    noise = np.random.default_rng(0).poisson(200, (6, 256, 256)).astype(np.uint16)
    assert seen(noise).drift_px is None
    assert seen(np.full((4, 64, 64), 7, np.uint16)).drift_px == 0
    assert seen(noisy(specimen()), "sum").bias is None  # of another unit


def test_the_maximum_is_brighter_than_the_slices_and_the_mean_is_not() -> None:
    counts = noisy(specimen())
    largest, mean = seen(counts, "max").bias, seen(counts, "mean").bias
    assert largest is not None
    assert mean is not None
    assert largest == pytest.approx(counts.max(axis=0).mean() / counts.mean() - 1, rel=0.3)
    assert abs(mean) < 0.01


def test_intensities_are_compared_where_nothing_is_in_focus() -> None:
    flat = np.random.default_rng(0).poisson(400, (5, 128, 128)).astype(np.uint16)
    stack = Stack.from_array(flat, z_step_um=1)
    result = fuse(stack, method="tenengrad", device="cpu")
    job = resolve(make_request(method="tenengrad", device="cpu"), stack)
    assert abs(slice_figures(job, stack, result.arrays).bias or 1) < 0.01
    brighter = {**result.arrays, "fused": (result.arrays["fused"] * 1.2).astype(np.uint16)}
    assert slice_figures(job, stack, brighter).bias == pytest.approx(0.2, abs=0.01)
    decided = {**brighter, "decision": np.ones_like(result.arrays["decision"])}
    assert slice_figures(job, stack, decided).bias is None


def test_flags_say_what_the_slices_told() -> None:
    stack = Stack.from_array(np.zeros((4, 32, 32), np.uint16), z_step_um=1)
    job = resolve(make_request(method="tenengrad", device="cpu", products=("fused", "decision")), stack)
    spec = describe(job, stack, [])
    board = np.where(np.indices((32, 32)).sum(axis=0) % 8 < 4, 900, 400).astype(np.uint16)
    copies = {"fused": board[np.newaxis], "decision": np.full((1, 32, 32), 2, np.uint16)}
    flags = {
        (drift, bias): figures(job, spec, copies, SliceFigures(drift, bias))["flags"]
        for drift in (None, DRIFT_ABOVE, DRIFT_ABOVE + 0.1)
        for bias in (None, -BIAS_ABOVE, -BIAS_ABOVE - 0.01)
    }
    assert flags[None, None] == flags[DRIFT_ABOVE, -BIAS_ABOVE] == []
    assert flags[DRIFT_ABOVE + 0.1, None] == ["drift"]
    assert flags[None, -BIAS_ABOVE - 0.01] == ["intensity bias"]
    empty = copies | {"decision": np.zeros((1, 32, 32), np.uint16)}
    assert figures(job, spec, empty, SliceFigures(9.0, None))["flags"] == ["empty"]


def test_what_assess_would_warn_of_follows_from_what_was_measured() -> None:
    stack = Stack.from_array(np.zeros((5, 32, 32), np.uint16), z_step_um=1)
    job = resolve(make_request(method="tenengrad", device="cpu", products=("fused", "decision")), stack)
    spec = describe(job, stack, [])
    board = np.where(np.indices((32, 32)).sum(axis=0) % 8 < 4, 900, 400).astype(np.uint16)

    def said(decision: np.ndarray, seen: SliceFigures | None = None) -> list[str]:
        copies = {"fused": board[np.newaxis], "decision": decision[np.newaxis]}
        return list(figures(job, spec, copies, seen)["assess"])

    inside = np.full((32, 32), 3, np.uint16)
    cut, glow = inside.copy(), inside.copy()
    cut[:, :8], cut[:, -8:] = 1, 5
    glow[:2], glow[2:] = 0, 3
    assert said(inside) == said(glow) == []
    assert said(cut) == ["cut_at_start", "cut_at_end"]
    assert said(inside, SliceFigures(2.0, None, 0.01, 0.1)) == ["drift", "saturated", "clipped"]
    assert said(np.zeros_like(inside), SliceFigures(2.0)) == ["nothing_in_focus"]


def test_heaped_counts_are_seen_in_the_slices_and_not_in_corrected_ones() -> None:
    counts = np.random.default_rng(0).normal(1000, 200, (4, 64, 64)).clip(800, 1200).astype(np.uint16)
    stack = Stack.from_array(counts, z_step_um=1)
    job = resolve(make_request(method="tenengrad", device="cpu", products=("fused", "decision")), stack)
    arrays = {"fused": counts[:1, np.newaxis, np.newaxis], "decision": np.zeros((1, 1, 1, 64, 64), np.uint16)}
    seen = slice_figures(job, stack, arrays)
    assert seen.saturated == pytest.approx(np.mean(counts == 1200), abs=0.02)
    assert seen.clipped == pytest.approx(np.mean(counts == 800), abs=0.02)
    moved = replace(job, request=replace(job.request, align="shift"))
    assert slice_figures(moved, stack, arrays).saturated is None
