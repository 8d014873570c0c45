"""One rule says how far a result depends on its surroundings: fusing, exported models and the live picture alike."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import opinionated_network, textured_stack

import hybridfusion_core as hf
from hybridfusion_core.fusion import bioimageio, window
from hybridfusion_core.fusion.job import resolve
from hybridfusion_core.fusion.plan import common_geometry
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.model import posterior
from hybridfusion_core.model.config import NetworkConfig
from hybridfusion_core.model.focus_measures import exceeds_noise, has_structure, structure_reach
from hybridfusion_core.model.model_file import ModelCard, save_model
from hybridfusion_core.model.network import HybridFusionNet
from hybridfusion_core.model.noise import field_statistics
from hybridfusion_core.train.finetune import live_preview
from hybridfusion_core.train.finetune.crops import Crop

SMALL = NetworkConfig(channels=4, dim=8, heads=2, depth=1, window=4, patch=2, dilations=(1,), focus_windows=())


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Sizes of the windows in which structure is looked for."""
    shapes: list[tuple[int, ...]] = []

    def watched(guide: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(guide.shape[2:]))
        return has_structure(guide, noise)

    def watched_window(energies: list[np.ndarray], noise: np.ndarray, slices: int) -> np.ndarray:
        shapes.append(energies[0].shape[1:])
        return exceeds_noise(energies, noise, slices)

    for module in (bioimageio, live_preview, posterior):
        monkeypatch.setattr(module, "has_structure", watched, raising=False)
    monkeypatch.setattr(window, "exceeds_noise", watched_window)
    return shapes


@pytest.fixture
def small() -> HybridFusionNet:
    network = opinionated_network(SMALL)
    assert network.config.halo < structure_reach()
    return network


def test_a_small_network_is_fused_with_the_surroundings_that_structure_needs(
    small: HybridFusionNet, seen: list, tmp_path: Path
) -> None:
    save_model(tmp_path / "small.safetensors", small, ModelCard("small", "for tests", "none", "everything", {}))
    hf.fuse(textured_stack((2, 64, 64)), model=str(tmp_path / "small.safetensors"), device="cpu")
    assert seen == [(64 + 2 * common_geometry([SMALL]).halo,) * 2]
    assert seen[0][0] >= 64 + 2 * structure_reach()


def test_so_is_an_exported_one(small: HybridFusionNet, seen: list) -> None:
    fusion = bioimageio.Fusion(**vars(SMALL)).eval()
    fusion.network.load_state_dict(small.state_dict())
    with torch.inference_mode():
        fusion(torch.from_numpy(textured_stack((1, 2, 64, 64)[1:], "float32"))[None])
    assert seen == [(64 + 2 * common_geometry([SMALL]).halo,) * 2]


def test_so_is_the_live_picture_of_a_fine_tuning(small: HybridFusionNet, seen: list) -> None:
    counts = textured_stack((2, 64, 64), "float32")
    statistics = field_statistics([counts])
    crop = Crop("a crop", "a group", counts, statistics, None, 1.0, (slice(0, 64), slice(0, 64)))
    live_preview.LivePicture(crop, small, torch.device("cpu"))
    assert seen == [(64 + 2 * common_geometry([SMALL]).halo,) * 2]


def test_the_memory_that_finding_surfaces_takes_is_counted_and_refused_if_there_is_less() -> None:
    stack = hf.Stack.from_array(np.broadcast_to(np.uint16(1), (60, 2048, 2048)))  # of no size in memory
    needed = []
    for options in ({}, {"surface_from": "posterior"}, {"surface_from": "posterior", "prefer": "top"}):
        asked = make_request(method="tenengrad", tile=128, memory=1 << 32, **options)
        needed.append(resolve(asked, stack).plan.bytes_needed)
    assert needed[0] < needed[1] <= needed[2]
    assert needed[1] >= 5 * 4 * 60 * 512 * 512  # cells of 4 px, of which five volumes are held
    with pytest.raises(
        hf.UserInputError, match="Finding the surface through 60 slices of 2048 × 2048 px needs 258 MiB"
    ):
        resolve(make_request(method="tenengrad", surface_from="posterior", memory=200 << 20), stack)
