"""A product is its function and its row: help, files, `verify`, corrections and results find it there."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import textured_stack

import hybridfusion_core as hf
from hybridfusion_core.cli.parser import build_parser
from hybridfusion_core.fusion.corrections import UNTOUCHED, Correction, correct, corrected_spec
from hybridfusion_core.fusion.job import resolve
from hybridfusion_core.fusion.products import PRODUCTS, Product, default_products
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.io.result_spec import MapChannel, array_of, product_of
from hybridfusion_core.io.verify import verify
from hybridfusion_core.model.network import HybridFusionNet
from hybridfusion_core.model.parameters import Parameters
from hybridfusion_core.model.posterior import Scores
from hybridfusion_core.progress import run_to_end

KINDS = {"image": "fused", "labels": "decision", "map": "maps"}


@pytest.fixture
def invented(monkeypatch: pytest.MonkeyPatch) -> str:
    row = Product("surprise", "How flat the posterior is.", compute=lambda found: 1 - found.posterior.max(axis=1))
    monkeypatch.setitem(PRODUCTS, "surprise", row)
    return "surprise"


def test_a_row_is_all_that_a_product_needs(
    invented: str, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["fuse", "--help"])
    assert invented in capsys.readouterr().out
    stack = hf.Stack.from_array(textured_stack((3, 60, 70)), z_step_um=1.0)
    options = {"model": tiny_model, "device": "cpu", "products": ("fused", "decision", invented)}
    made = hf.fuse(stack, **options).product(invented)
    assert made is not None
    assert made.shape == (1, 1, 1, 60, 70)
    assert 0 <= made.min() < made.max() < 1
    path = tmp_path / "r.ome.zarr"
    hf.fuse_to(stack, path, **options)
    assert verify(path) == []
    with hf.open_stack(tmp_path / "r.maps.ome.zarr") as maps:
        assert [channel.name for channel in maps.channels] == [invented]
    shutil.rmtree(tmp_path / "r.maps.ome.zarr")
    assert any("r.maps.ome.zarr is missing" in finding for finding in verify(path))


def test_what_a_person_decided_has_no_figure_unless_the_row_says_which(invented: str, tiny_model: str) -> None:
    stack = hf.Stack.from_array(textured_stack((3, 60, 70)), z_step_um=1.0)
    job = resolve(make_request(model=tiny_model, device="cpu", products=tuple(PRODUCTS)), stack)
    result = hf.fuse(stack, model=tiny_model, device="cpu", products=tuple(PRODUCTS))
    painted = np.full((60, 70), UNTOUCHED)
    painted[20:30, 20:30], painted[40:45, 40:45] = 2, 0
    said = [Correction(0, 0, 0, 0, painted)]
    spec = corrected_spec(job, result.spec, said)
    into = {name: np.zeros(shape, dtype) for name, (shape, dtype) in spec.array_shapes().items()}
    run_to_end(correct(job, stack, result.spec, result.arrays, said, into), None)
    corrected = dataclasses.replace(result, arrays=into, spec=spec)
    here, nothing = np.s_[0, 0, 0, 20:30, 20:30], np.s_[0, 0, 0, 40:45, 40:45]
    expected = {
        "height": (1.0, np.nan),
        "confidence": (np.nan, np.nan),
        "in_focus": (1.0, 0.0),
        invented: (np.nan,) * 2,
    }
    for name, (sliced, none) in expected.items():
        values = corrected.product(name)
        assert values is not None
        np.testing.assert_array_equal(values[here], np.float32(sliced), name)
        np.testing.assert_array_equal(values[nothing], np.float32(none), name)


def test_every_product_is_in_the_array_of_its_kind() -> None:
    assert {name: KINDS[product.kind] for name, product in PRODUCTS.items()} == {
        name: array_of(name) for name in PRODUCTS
    }
    assert all(product.compute is not None for name, product in PRODUCTS.items() if name != "fused")
    assert default_products() == ("fused", "decision", "height", "confidence")


@pytest.mark.parametrize("name", ["height_um", "height_slices (GFP)", "noise_gain (a (b))", "in_focus"])
def test_a_map_is_known_again_by_what_a_file_calls_it(name: str) -> None:
    quantity, _, of = name.partition(" (")
    channel = MapChannel(quantity, (0.0, 1.0), of=of[:-1] or None)
    assert channel.name == name
    assert product_of(name) == channel.product
    assert channel.product in PRODUCTS


def test_in_focus_is_what_decision_0_comes_from(tiny_model: str) -> None:
    stack = textured_stack((3, 64, 128), "float32")
    stack[:, :, 64:] = 1500 + np.random.default_rng(0).normal(0, 20, (3, 64, 64))
    result = hf.fuse(stack, model=tiny_model, device="cpu", products=("decision", "in_focus"))
    assert result.in_focus.dtype == np.float32
    np.testing.assert_array_equal(result.in_focus > 0.5, result.decision > 0)
    assert 0 < result.in_focus.mean() < 1


def test_a_network_that_says_whether_anything_is_in_focus_is_believed(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = HybridFusionNet.forward

    def saying(self: HybridFusionNet, guide: torch.Tensor, noise: torch.Tensor, z_chunk: int | None = None) -> Scores:
        left = torch.arange(guide.shape[3]) < guide.shape[3] // 2
        said = torch.where(left, 1.0, -1.0).expand(guide[:, 0].shape)
        return forward(self, guide, noise, z_chunk)._replace(in_focus=said)

    monkeypatch.setattr(HybridFusionNet, "forward", saying)
    monkeypatch.setattr(Parameters, "in_focus_line", np.array([2.0, 1.0], np.float32))
    result = hf.fuse(textured_stack((3, 64, 64)), model=tiny_model, device="cpu", products=("decision", "in_focus"))
    np.testing.assert_allclose(result.in_focus[:, :32], 1 / (1 + np.exp(-3)), rtol=1e-6)
    np.testing.assert_allclose(result.in_focus[:, 32:], 1 / (1 + np.exp(1)), rtol=1e-6)
    assert (result.decision[:, :32] > 0).all()
    assert (result.decision[:, 32:] == 0).all()
