"""OpenVINO gives what PyTorch gives, is chosen where it is installed, and is missed by nobody where it is not."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import opinionated_network, textured_stack
from numpy.typing import NDArray

import hybridfusion_core as hf
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.job import resolve
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.model import devices
from hybridfusion_core.model import posterior as blend
from hybridfusion_core.model.config import NetworkConfig
from hybridfusion_core.model.model_file import ModelCard, load_model, model_names, save_model
from hybridfusion_core.model.network import HybridFusionNet, parameters_of

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


NOISE = 0.3


def guide_of(slices: int, height: int, width: int) -> NDArray[np.float32]:
    stack = textured_stack((slices, height, width), "float32")
    return ((stack - stack.mean()) / stack.std())[None].astype(np.float32)


def core_difference(network: HybridFusionNet, guide: NDArray[np.float32], threads: int = 1) -> float:
    """Greatest difference of posterior and weights in the core."""
    runtime = pytest.importorskip("hybridfusion_core.model.openvino.runtime")
    halo = network.config.halo
    with torch.inference_mode():
        reference = network(torch.from_numpy(guide), torch.tensor([NOISE]))
    found = runtime.compiled(parameters_of(network), "float32", threads)(guide, NOISE, halo)
    core = (slice(None), slice(None), slice(halo, -halo), slice(halo, -halo))
    differences = [
        np.abs(of(reference)[core].numpy() - of(found)).max() for of in (blend.focus_posterior, blend.fusion_weights)
    ]
    if reference.in_focus is not None:
        said = reference.in_focus[:, halo:-halo, halo:-halo].sigmoid().numpy()
        differences.append(np.abs(said - 1 / (1 + np.exp(-found.in_focus))).max())
    return float(max(differences))


@pytest.mark.parametrize("name", model_names())
def test_the_shipped_networks_give_the_weights_that_pytorch_gives(name: str) -> None:
    assert core_difference(load_model(name).network, guide_of(5, 192, 160)) < 1e-5


def test_scores_do_not_depend_on_the_number_of_threads() -> None:
    runtime = pytest.importorskip("hybridfusion_core.model.openvino.runtime")
    weights, guide = load_model("fluorescence").parameters, guide_of(5, 192, 160)
    one, *more = (
        runtime.CompiledNetwork(weights, "f32", count)(guide, NOISE, weights.config.halo) for count in (1, 2, 3)
    )
    for scores in more:
        assert np.array_equal(scores.focus, one.focus)
        assert np.array_equal(scores.spread, one.spread)


@pytest.mark.parametrize(
    "config",
    [
        NetworkConfig(channels=4, dim=8, heads=2),
        NetworkConfig(channels=3, dim=12, heads=3, depth=3, window=4, dilations=(1, 3)),
        NetworkConfig(channels=4, dim=8, heads=1, patch=4, window=4, mlp_ratio=1.0),
        NetworkConfig(channels=4, dim=8, heads=2, focus_windows=()),
        NetworkConfig(channels=4, dim=8, heads=2, focus_windows=(1.0, 8.0)),
        NetworkConfig(channels=4, dim=8, heads=2, window=4, depth=0, coarse_depth=2),
        NetworkConfig(channels=4, dim=8, heads=2, window=4, depth=0, coarse_depth=3, coarse_bin=1, focus_windows=()),
        NetworkConfig(channels=4, dim=8, heads=2, window=2, depth=0, coarse_depth=1, coarse_bin=4, patch=1),
    ],
)
def test_networks_of_other_sizes_do_too(config: NetworkConfig) -> None:
    side = 2 * config.halo + 2 * config.lattice
    network = opinionated_network(config)
    assert core_difference(network, guide_of(3, side, side + config.lattice)) < 1e-5


def test_several_threads_may_run_one_network() -> None:
    network, guide = load_model("fluorescence").network, guide_of(3, 160, 160)
    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(lambda _: core_difference(network, guide), range(8))) < 1e-5


def test_a_tile_s_scores_are_its_own() -> None:
    """Working memory is used again: neither does what is in it matter, nor does the next tile change what was given."""
    runtime = pytest.importorskip("hybridfusion_core.model.openvino.runtime")
    weights, halo = load_model("fluorescence").parameters, load_model("fluorescence").config.halo
    tiles = [guide_of(slices, height, width) for slices, height, width in ((3, 160, 192), (5, 192, 160), (2, 160, 160))]
    alone = [runtime.CompiledNetwork(weights, "f32", 1)(tile, NOISE, halo).focus for tile in tiles]
    run = runtime.CompiledNetwork(weights, "f32", 1)
    kept = [run(tile, NOISE, halo).focus for tile in (*tiles, *tiles)]
    run.release()
    kept += [run(tile, NOISE, halo).focus for tile in tiles]
    assert all(np.array_equal(found, expected) for found, expected in zip(kept, 3 * alone, strict=True))


def test_working_memory_is_given_back_after_the_last_tile(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = pytest.importorskip("hybridfusion_core.model.openvino.runtime")
    released: list[object] = []

    def release(run: object) -> None:
        released.append(run)

    monkeypatch.setattr(runtime.CompiledNetwork, "release", release)
    hf.fuse(textured_stack((2, 64, 64)), model=tiny_model, device="openvino", z_step_um=1.0)
    assert len(released) == 1


def test_float32_is_not_left_to_the_processor() -> None:
    runtime = pytest.importorskip("hybridfusion_core.model.openvino.runtime")
    graphs = runtime.compiled(load_model("natural").parameters, "auto", 1).graphs(96, 96)
    assert {graph.get_property("INFERENCE_PRECISION_HINT").to_string() for graph in graphs} == {"f32"}


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_fused_images_agree(tiny_model: str, dtype: str) -> None:
    pytest.importorskip("openvino")
    stack = textured_stack((4, 150, 131), dtype)
    options = {"model": tiny_model, "z_step_um": 1.0, "tile": 64}
    ours, reference = (hf.fuse(stack, device=device, **options) for device in ("openvino", "cpu"))
    difference = np.abs(ours.fused.astype(float) - reference.fused.astype(float))
    assert difference.max() <= (1 if dtype == "uint8" else 1e-5 * float(np.ptp(reference.fused)))
    assert (ours.decision == reference.decision).mean() > 0.999
    assert np.isclose(ours.confidence, reference.confidence, atol=1e-4, equal_nan=True).mean() > 0.999


def test_auto_takes_it_for_networks_on_a_cpu_and_provenance_says_so(tiny_model: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    stack = textured_stack((2, 64, 64))
    spec = hf.fuse_to(stack, tmp_path / "a.ome.zarr", model=tiny_model, z_step_um=1.0)
    assert spec.provenance["runtime"].startswith("openvino 20")
    assert spec.provenance["settings"]["device"] == "openvino"
    numpy, pytorch = f"numpy {np.__version__}", f"torch {torch.__version__}"
    for stated, options in ((numpy, {"method": "tenengrad"}), (pytorch, {"model": tiny_model, "device": "cpu"})):
        job = resolve(make_request(**options), hf.Stack.from_array(stack))
        assert (str(job.runtime), job.device_name) == (stated, "cpu")


def test_without_it_auto_is_pytorch(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "find_spec", lambda name: None if name == "openvino" else object())
    job = resolve(make_request(model=tiny_model), hf.Stack.from_array(textured_stack((2, 64, 64))))
    assert (str(job.runtime), job.device_name) == (f"torch {torch.__version__}", "cpu")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """An OpenVINO that is installed and cannot be imported."""
    monkeypatch.setattr(devices, "find_spec", lambda _: object())
    monkeypatch.delitem(sys.modules, "hybridfusion_core.model.openvino.runtime", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)


@pytest.mark.usefixtures("broken")
def test_one_that_cannot_be_imported_is_noted_and_not_insisted_on(tiny_model: str) -> None:
    stack = hf.Stack.from_array(textured_stack((2, 64, 64)))
    assert "(not openvino: it cannot be imported" in str(resolve(make_request(model=tiny_model), stack).runtime)
    with pytest.raises(UserInputError, match="OpenVINO cannot run this network here"):
        resolve(make_request(model=tiny_model, device="openvino"), stack)


def test_a_network_that_it_refuses_runs_in_pytorch(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    network, model = opinionated_network(NetworkConfig(channels=4, dim=8, coarse_depth=1)), tmp_path / "w.safetensors"
    save_model(model, network, ModelCard("both", "for tests", "none", "everything", {}))
    stack = hf.Stack.from_array(textured_stack((2, 64, 64)))
    assert "tokens on two levels" in str(resolve(make_request(model=str(model)), stack).runtime)
    with pytest.raises(UserInputError, match="tokens on two levels"):
        resolve(make_request(model=str(model), device="openvino"), stack)
