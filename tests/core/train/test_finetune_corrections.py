"""Decisions corrected by hand are learnt from, if they are what they say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import opinionated_network
from finetune_makers import quick, request_for, write_stacks

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion import api as predict
from hybridfusion_core.fusion.corrections import UNTOUCHED, Correction, correct, corrected_spec
from hybridfusion_core.fusion.job import resolve
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.model.config import NetworkConfig
from hybridfusion_core.progress import run_to_end
from hybridfusion_core.train.finetune.corrections import load_painted, painted_term
from hybridfusion_core.train.finetune.run import finetune_steps
from hybridfusion_core.train.finetune.sources import find_sources
from hybridfusion_core.train.finetune.training import TrainingProgress
from hybridfusion_core.train.recipe import Recipe

PLACE = (slice(20, 40), slice(30, 44))


def corrected(stack_path: Path, output: Path, number: int) -> Path:
    """Fuse a stack, paint a rectangle, and save, as the widget does."""
    with open_stack(stack_path) as stack:
        job = resolve(make_request(method="tenengrad", device="cpu"), stack)
        result = run_to_end(predict.steps_in_memory(job, stack), None)
        painted = np.full(stack.shape[3:], UNTOUCHED)
        painted[PLACE] = number
        corrections = [Correction(0, 0, 0, 0, painted)]
        spec = corrected_spec(job, result.spec, corrections)
        into = {name: np.zeros(shape, dtype) for name, (shape, dtype) in spec.array_shapes().items()}
        run_to_end(correct(job, stack, result.spec, result.arrays, corrections, into), None)
    predict.save(replace(result, arrays=into, spec=spec), output)
    return output


@pytest.fixture
def stacks(tmp_path: Path) -> Path:
    return write_stacks(tmp_path / "stacks")


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif"])
def test_what_was_painted_is_asked_for_there_and_nowhere_else(stacks: Path, tmp_path: Path, suffix: str) -> None:
    result = corrected(stacks / "s1.ome.tif", tmp_path / f"fused{suffix}", number=4)
    sources = find_sources(request_for(stacks, tmp_path / "m.safetensors", "x"))
    (part,) = load_painted([str(result)], sources)
    expected = np.full((64, 64), -1)
    expected[PLACE] = 3
    np.testing.assert_array_equal(part.slices, expected)
    assert part.guide.shape == (5, 64, 64)


def test_the_term_falls_when_the_network_learns_the_painted_slice(stacks: Path, tmp_path: Path) -> None:
    result = corrected(stacks / "s1.ome.tif", tmp_path / "fused.ome.zarr", number=4)
    painted = load_painted([str(result)], find_sources(request_for(stacks, tmp_path / "m.safetensors", "x")))
    network = opinionated_network(NetworkConfig(channels=4, dim=8, heads=2)).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    values = []
    for step in range(12):
        term = painted_term(network, painted, Recipe("r", size=32), step, torch.device("cpu"))
        optimiser.zero_grad()
        term.backward()
        optimiser.step()
        values.append(float(term.detach()))
    assert np.mean(values[-3:]) < 0.7 * np.mean(values[:3])


def test_a_result_that_nobody_corrected_or_of_another_stack_is_refused(stacks: Path, tmp_path: Path) -> None:
    sources = find_sources(request_for(stacks, tmp_path / "m.safetensors", "x"))
    plain = tmp_path / "plain.ome.zarr"
    predict.fuse_to(stacks / "s0.ome.tif", plain, method="tenengrad", device="cpu")
    with pytest.raises(
        UserInputError, match=r"not corrected by hand.*expected a result with a map.*Correct its decision"
    ):
        load_painted([str(plain)], sources)
    erased = corrected(stacks / "s1.ome.tif", tmp_path / "erased.ome.zarr", number=0)
    with pytest.raises(UserInputError, match=r"not corrected by hand"):
        load_painted([str(erased)], sources)
    elsewhere = write_stacks(tmp_path / "elsewhere", 1)
    (elsewhere / "s0.ome.tif").rename(elsewhere / "other.ome.tif")
    strange = corrected(elsewhere / "other.ome.tif", tmp_path / "strange.ome.zarr", number=2)
    with pytest.raises(
        UserInputError, match=r"made of a stack 'other.*0 of the inputs.*expected exactly one.*Name that"
    ):
        load_painted([str(strange)], sources)


def test_a_fine_tuning_learns_from_corrections(
    stacks: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    result = corrected(stacks / "s1.ome.tif", tmp_path / "fused.ome.zarr", number=4)
    request = request_for(stacks, tmp_path / "m.safetensors", tiny_model, corrections=(str(result),))
    steps = finetune_steps(request)
    first = next(step for step in steps if isinstance(step, TrainingProgress))
    steps.close()
    assert first.terms["painted"] > 0
