"""A focus measure is its function and its row: nothing else has to know it."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import textured_stack

import hybridfusion_core as hf
from hybridfusion_core.cli.parser import build_parser
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.job import resolve
from hybridfusion_core.fusion.methods import METHODS, Method
from hybridfusion_core.fusion.request import FuseRequest, make_request
from hybridfusion_core.model.focus_measures import laplacian_energy, tenengrad

CLASSICAL = [name for name, method in METHODS.items() if method.energy is not None]


def brightness(guide: np.ndarray) -> np.ndarray:
    return (guide + 10).clip(min=0) ** 4


@pytest.fixture
def invented(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(METHODS, "brightest", Method("Brightest slice", "the brightest one", brightness, reach=40))
    return "brightest"


def test_a_row_is_all_that_a_method_needs(invented: str, capsys: pytest.CaptureFixture[str]) -> None:
    stack = np.stack([np.full((48, 48), 100.0), np.full((48, 48), 300.0), np.full((48, 48), 200.0)])
    stack += np.random.default_rng(0).normal(0, 1, stack.shape)
    result = hf.fuse(stack, method=invented, select="hard", products=("fused",))
    np.testing.assert_array_equal(result.fused, stack[1])
    assert resolve(make_request(method=invented), hf.Stack.from_array(stack)).geometry.halo >= 40
    with pytest.raises(SystemExit):
        build_parser().parse_args(["fuse", "--help"])
    assert "brightest: the brightest one" in " ".join(capsys.readouterr().out.split())
    assert build_parser().parse_args(["batch", "in", "out", "--method", invented]).method == invented


def test_the_command_line_offers_the_methods_and_defaults_of_the_request() -> None:
    options = build_parser().parse_args(["fuse", "in.tif", "-o", "out.tif"])
    for each in dataclasses.fields(FuseRequest):
        if each.name != "stats":  # which means something else to each command
            assert getattr(options, each.name) == each.default, each.name
    for name in METHODS:
        assert build_parser().parse_args(["fuse", "in.tif", "-o", "out.tif", "--method", name]).method == name


@pytest.mark.parametrize(("name", "measure"), [("tenengrad", tenengrad), ("laplacian", laplacian_energy)])
def test_every_classical_method_runs_its_own_measure(name: str, measure: object) -> None:
    guide = torch.from_numpy(textured_stack((1, 40, 40), "float32"))
    energy = METHODS[name].energy
    assert energy is not None
    assert torch.equal(energy(guide), measure(guide))  # type: ignore[operator]


def test_an_unknown_method_is_refused_and_never_runs_as_another() -> None:
    with pytest.raises(UserInputError, match="Unknown method 'variance'; expected one of network, tenengrad"):
        FuseRequest(method="variance")


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_measure_looks_exactly_as_far_as_its_row_says(name: str) -> None:
    """What lies beyond `reach` changes nothing, what lies at it does: the halo is neither too small nor too large."""
    method = METHODS[name]
    assert method.energy is not None
    side = 2 * method.reach + 9
    guide = torch.zeros(1, side, side, dtype=torch.float64)
    middle, before = side // 2, method.energy(torch.zeros(1, side, side, dtype=torch.float64))
    for distance, changes in ((method.reach, True), (method.reach + 1, False)):
        guide.zero_()
        guide[0, middle, middle + distance] = 1.0
        assert bool((method.energy(guide) != before)[0, middle, middle]) == changes
