"""The promises: any size, no seam, any Z, only measured light, photometric, nothing but numbers."""

from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from conftest import opinionated_network, textured_stack

import hybridfusion_core as hf
from hybridfusion_core.fusion import loop as fusion
from hybridfusion_core.fusion.job import Job, resolve
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.fusion.window import score_window
from hybridfusion_core.model.config import NetworkConfig
from hybridfusion_core.model.model_file import ModelCard, save_model
from hybridfusion_core.model.threads import blas
from hybridfusion_core.progress import run_to_end

EVERYTHING = ("fused", "decision", "height", "confidence", "noise_gain")


def fuse(stack: Any, model: str, **options: Any) -> hf.FuseResult:
    return hf.fuse(stack, model=model, device="cpu", **{"z_step_um": 1.5, "products": EVERYTHING, **options})


def assert_same(tiled: hf.FuseResult, whole: hf.FuseResult) -> None:
    scale = float(np.ptp(whole.fused.astype(float))) or 1.0
    tolerance = 1 if whole.fused.dtype.kind in "iu" else 1e-5 * scale
    difference = np.abs(tiled.fused.astype(float) - whole.fused.astype(float))
    assert difference.max() <= tolerance
    assert (tiled.decision == whole.decision).mean() > 0.999
    for name in ("confidence", "noise_gain", "height_um"):
        one, other = getattr(tiled, name), getattr(whole, name)
        close = np.isclose(one, other, atol=1e-4, equal_nan=True)
        assert close.mean() > 0.999, name


@pytest.mark.parametrize("tile", [64, 80, 128])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_tiles_leave_no_seam(tiny_model: str, tile: int, dtype: str) -> None:
    stack = textured_stack((3, 150, 203), dtype)
    assert_same(fuse(stack, tiny_model, tile=tile), fuse(stack, tiny_model, tile=1024))


def test_the_shipped_model_leaves_no_seam_either() -> None:
    stack = textured_stack((4, 200, 170), "float32")
    assert_same(fuse(stack, "auto", tile=64), fuse(stack, "auto", tile=1024))


@pytest.mark.parametrize(
    ("depth", "tile"),
    [(0, 64), (1, 96), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((0, 96), (1, 64)))],
)
def test_tiles_leave_no_seam_with_a_coarse_level(tmp_path: Path, tile: int, depth: int) -> None:
    """Neither in what is fused nor in what is in focus, of which half of the plane has nothing."""
    network = opinionated_network(NetworkConfig(channels=4, dim=8, heads=2, depth=depth, coarse_depth=2))
    torch.nn.init.normal_(network.coarse.expand.weight, std=0.3)
    stack = textured_stack((3, 220, 200), "float32")
    stack[:, :, 100:] = 1500 + np.random.default_rng(0).normal(0, 20, (3, 220, 100))
    model = tmp_path / "coarse.safetensors"
    for intercept in (0.0, 100.0):  # once as it happens to judge, once with everything in focus
        network.in_focus_line[1] = intercept
        save_model(model, network, ModelCard("coarse", "for tests", "none", "everything", {}))
        whole = fuse(stack, str(model), tile=1024)
        assert_same(fuse(stack, str(model), tile=tile), whole)
    assert (whole.decision > 0).all()


def test_tiles_leave_no_seam_in_the_weights(tiny_model: str) -> None:
    """float32 weights agree to 1e-5, decisions wherever the best two differ by more than 1e-4."""
    stack = textured_stack((5, 140, 150), "float32")
    posteriors = []
    for tile in (64, 1024):
        job = resolve(make_request(model=tiny_model, device="cpu", tile=tile), hf.Stack.from_array(stack))
        statistics = run_to_end(fusion.measure(job, hf.Stack.from_array(stack)), None)[0][0]
        posteriors.append(_posterior_by_tiles(job, statistics, stack))
    (tiled, weights), (whole, expected) = posteriors
    np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-5)
    *_, second, best = np.sort(whole, axis=0)
    clear = best - second > 1e-4
    np.testing.assert_array_equal(tiled.argmax(axis=0)[clear], whole.argmax(axis=0)[clear])


def _posterior_by_tiles(job: Any, statistics: Any, stack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from hybridfusion_core.fusion.tiles import blocks, reflected

    posterior, weights = np.empty(stack.shape), np.empty(stack.shape)
    for tile in blocks(stack.shape[1:], job.plan.tile, job.geometry):
        rows = reflected(tile.y.low, tile.y.high, stack.shape[1])
        columns = reflected(tile.x.low, tile.x.high, stack.shape[2])
        planes = {0: stack[:, rows][:, :, columns]}
        window = score_window(job, hf.Stack.from_array(stack), job.deciders[0], planes, statistics)
        window = window.part(tile.y.core_in_scores, tile.x.core_in_scores)
        posterior[:, tile.y.core, tile.x.core] = window.posterior()
        weights[:, tile.y.core, tile.x.core] = window.weights()
    return posterior, weights


@pytest.mark.parametrize("size", [(1, 1), (1, 37), (7, 3), (15, 17), (16, 16), (33, 250)])
@pytest.mark.parametrize("slices", [1, 2, 12])
def test_any_size_and_any_number_of_slices(tiny_model: str, size: tuple[int, int], slices: int) -> None:
    stack = textured_stack((slices, *size))
    result = fuse(stack, tiny_model)
    assert result.fused.shape == size
    assert result.fused.dtype == stack.dtype
    assert (result.fused >= stack.min(axis=0)).all()
    assert (result.fused <= stack.max(axis=0)).all()
    assert_same(fuse(stack, tiny_model, tile=64), result)


def test_a_plane_of_600_by_700_in_large_tiles(tiny_model: str) -> None:
    stack = textured_stack((2, 600, 700), "uint8")
    assert_same(fuse(stack, tiny_model, tile=256), fuse(stack, tiny_model, tile=1024))


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_nothing_and_are_put_back(tiny_model: str, threads: int) -> None:
    before = torch.get_num_threads(), blas().info()
    stack = textured_stack((3, 90, 100), "float32")
    assert_same(fuse(stack, tiny_model, threads=threads), fuse(stack, tiny_model))
    several, one = (hf.fuse(stack, method="tenengrad", threads=count) for count in (threads, 1))
    np.testing.assert_array_equal(several.fused, one.fused)
    assert (torch.get_num_threads(), blas().info()) == before


@pytest.mark.parametrize("method", ["tenengrad", "laplacian"])
def test_classical_methods_leave_no_seam(method: str) -> None:
    stack = textured_stack((3, 150, 160), "float32")
    options = {"z_step_um": 1.0, "products": EVERYTHING, "method": method}
    assert_same(hf.fuse(stack, tile=64, **options), hf.fuse(stack, tile=1024, **options))


def test_auto_precision_is_float32_and_bfloat16_only_when_asked_for() -> None:
    stack = textured_stack((4, 64, 80), "float32")
    exact, auto, low = (fuse(stack, "auto", precision=name) for name in ("float32", "auto", "bfloat16"))
    assert (auto.fused == exact.fused).all()
    assert (low.fused != exact.fused).any()
    np.testing.assert_allclose(low.fused, exact.fused, atol=0.05 * np.ptp(stack))
    assert (low.fused >= stack.min(axis=0)).all()
    assert (low.fused <= stack.max(axis=0)).all()


def test_one_slice_is_returned_as_it_is(tiny_model: str) -> None:
    stack = textured_stack((1, 40, 50))
    assert (fuse(stack, tiny_model).fused == stack[0]).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_soft_fusion_stays_within_what_was_measured(tiny_model: str, dtype: str) -> None:
    stack = textured_stack((5, 70, 90), dtype)
    fused = fuse(stack, tiny_model).fused
    assert (fused >= stack.min(axis=0)).all()
    assert (fused <= stack.max(axis=0)).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "uint32", "float16", "float32", "float64"])
@pytest.mark.parametrize("method", ["network", "tenengrad"])
def test_hard_selection_copies_bit_for_bit(tiny_model: str, dtype: str, method: str) -> None:
    stack = textured_stack((4, 60, 70), dtype)
    stack[:, 40:] = stack[:1, :1, :1]  # nothing in focus: the decision is 0, the pixel still a copy
    result = fuse(stack, tiny_model, select="hard", method=method)
    decided = result.decision > 0
    copied = np.take_along_axis(stack, result.decision.astype(int)[None].clip(1) - 1, axis=0)[0]
    assert decided.any()
    assert not decided.all()
    assert result.fused.dtype == stack.dtype
    assert (result.fused == copied)[decided].all()
    assert (result.fused == stack).any(axis=0).all()


@pytest.mark.parametrize("dtype", ["int32", "uint32"])
@pytest.mark.parametrize("select", ["soft", "hard"])
def test_large_counts_are_fused_to_the_last_unit(dtype: str, select: str) -> None:
    """Float32 holds no whole number above 2²⁴ for sure; what all slices agree on must come out."""
    plane = textured_stack((1, 40, 40))[0].astype(dtype) + np.iinfo(dtype).max - 5001
    fused = hf.fuse(np.stack([plane] * 3), method="tenengrad", select=select, device="cpu").fused
    np.testing.assert_array_equal(fused, plane)
    with pytest.raises(hf.UserInputError, match=r"int64.*Convert the image to int32.*2,147,483,647"):
        hf.fuse(np.stack([plane.astype(np.int64)] * 3), method="tenengrad")


@pytest.mark.parametrize(("factor", "shift"), [(2.0, 0.0), (0.25, 64.0), (37.0, -900.0)])
def test_fusion_is_affine_equivariant(tiny_model: str, factor: float, shift: float) -> None:
    stack = textured_stack((4, 64, 80), "float64")
    before, after = fuse(stack, tiny_model), fuse(factor * stack + shift, tiny_model)
    span = factor * np.ptp(stack)
    np.testing.assert_allclose(after.fused, factor * before.fused + shift, rtol=0, atol=1e-4 * span)
    assert (after.decision == before.decision).mean() > 0.999


def test_the_order_of_the_slices_does_not_matter(tiny_model: str) -> None:
    stack, order = textured_stack((5, 64, 64), "float32"), [2, 4, 0, 3, 1]
    straight, shuffled = fuse(stack, tiny_model), fuse(stack[order], tiny_model)
    np.testing.assert_allclose(shuffled.fused, straight.fused, atol=1e-5 * np.ptp(stack))
    np.testing.assert_allclose(shuffled.noise_gain, straight.noise_gain, atol=1e-5)


@pytest.mark.parametrize("value", [0, 255])
def test_constant_black_and_saturated_stacks_come_out_as_they_are(tiny_model: str, value: int) -> None:
    stack = np.full((3, 40, 50), value, dtype=np.uint8)
    result = fuse(stack, tiny_model)
    assert (result.fused == value).all()
    assert (result.decision == 0).all()
    assert np.isnan(result.height_um).all()
    assert np.isnan(result.confidence).all()


def test_nothing_is_in_focus_in_pure_noise(tiny_model: str) -> None:
    noise = np.random.default_rng(0).poisson(100, (6, 256, 256)).astype(np.uint16)
    assert (fuse(noise, tiny_model).decision > 0).mean() < 0.01


def test_texture_is_in_focus(tiny_model: str) -> None:
    assert (fuse(textured_stack((6, 128, 128)), tiny_model).decision > 0).mean() > 0.99


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_refused_with_its_place(tiny_model: str, bad: float) -> None:
    stack = textured_stack((3, 100, 120), "float32")
    stack[1, 77, 99] = bad
    with pytest.raises(hf.UserInputError, match=r"t=0, c=0, z=1, y=77, x=99 is (nan|inf).*--nan ignore"):
        fuse(stack, tiny_model, tile=64)


@pytest.mark.parametrize("select", ["soft", "hard"])
def test_ignored_pixels_get_no_weight(tiny_model: str, select: str) -> None:
    stack = textured_stack((3, 64, 64), "float32")
    stack[1, 10:20, 10:20] = np.nan
    stack[:, 40, 40] = np.nan
    fused = fuse(stack, tiny_model, nan="ignore", select=select).fused
    assert np.argwhere(np.isnan(fused)).tolist() == [[40, 40]]
    rest = np.isfinite(fused)
    assert (fused >= np.nanmin(np.where(np.isnan(stack), np.inf, stack), axis=0))[rest].all()
    assert (fused <= np.nanmax(np.where(np.isnan(stack), -np.inf, stack), axis=0))[rest].all()


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("mean", lambda stack: np.rint(stack.mean(axis=0)).astype(stack.dtype)),
        ("max", lambda stack: stack.max(axis=0)),
        ("sum", lambda stack: stack.sum(axis=0).astype(np.float32)),
    ],
)
def test_projections(method: str, expected: Any) -> None:
    stack = textured_stack((4, 70, 90))
    result = hf.fuse(stack, method=method, tile=64)
    assert result.decision is None
    np.testing.assert_array_equal(result.fused, expected(stack))


class Watched:
    """Pixels that remember where they were read, and say when they were read so many times."""

    def __init__(self, array: np.ndarray, expected: int = 0, broken: bool = False) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.reads: list[tuple] = []
        self.enough, self._expected, self._broken = Event(), expected, broken

    def __getitem__(self, key: tuple) -> np.ndarray:
        self.reads.append(key)
        if len(self.reads) == self._expected:
            self.enough.set()
            if self._broken:
                raise OSError("the disk is gone")
        return self.array[key]


def in_blocks(model: str, pixels: Watched) -> tuple[hf.Stack, Job, list, dict[str, np.ndarray]]:
    """A stack, how to fuse it in several blocks, its statistics, and what to fuse it into."""
    stack = hf.Stack(pixels, "ZYX")
    job = resolve(make_request(model=model, tile=64), stack)
    job = replace(job, plan=replace(job.plan, block=128))
    statistics = run_to_end(fusion.measure(job, stack), None)
    plane = pixels.shape[1:]
    arrays = {"fused": np.zeros((1, 1, 1, *plane), np.uint16), "decision": np.zeros((1, 1, 1, *plane), np.uint16)}
    arrays["maps"] = np.zeros((1, 2, 1, *plane), np.float32)
    return stack, job, statistics, arrays


def test_blocks_are_read_once_with_their_halo(tiny_model: str) -> None:
    pixels = Watched(textured_stack((2, 300, 520)))
    stack, job, statistics, arrays = in_blocks(tiny_model, pixels)
    measured = len(pixels.reads)
    run_to_end(fusion.run(job, stack, statistics, arrays), None)
    assert measured == len(pixels.reads) - measured == 3 * 5


def test_the_next_block_is_read_while_one_is_fused(tiny_model: str) -> None:
    whole = Watched(textured_stack((2, 300, 520)))
    in_blocks(tiny_model, whole)
    pixels = Watched(whole.array, expected=len(whole.reads) + 2)
    stack, job, statistics, arrays = in_blocks(tiny_model, pixels)
    steps = fusion.run(job, stack, statistics, arrays)
    next(steps)  # the first tile of the first block
    assert pixels.enough.wait(30)
    steps.close()
    assert not arrays["fused"].any()


@pytest.mark.parametrize("what", ["reading", "writing"])
def test_what_goes_wrong_beside_is_told(tiny_model: str, what: str) -> None:
    whole = Watched(textured_stack((2, 300, 520)))
    in_blocks(tiny_model, whole)
    pixels = Watched(whole.array, expected=len(whole.reads) + 2, broken=what == "reading")
    stack, job, statistics, arrays = in_blocks(tiny_model, pixels)
    if what == "writing":
        arrays["decision"].flags.writeable = False
    with pytest.raises((OSError, ValueError), match=r"the disk is gone|read-only"):
        run_to_end(fusion.run(job, stack, statistics, arrays), None)


def test_progress_reaches_its_total(tiny_model: str) -> None:
    seen = []
    fuse(textured_stack((2, 100, 130)), tiny_model, tile=64, progress=seen.append)
    for stage in ("measuring", "fusing"):
        steps = [step for step in seen if step.stage == stage]
        assert steps[-1].done == steps[-1].total == 2 * 100 * 130
        assert [step.done for step in steps] == sorted(step.done for step in steps)
