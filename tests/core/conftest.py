"""Parts that several test files need: a small network with decided opinions, and stacks with structure."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from hybridfusion_core.model.config import NetworkConfig
from hybridfusion_core.model.model_file import ModelCard, save_model
from hybridfusion_core.model.model_folder import VARIABLE
from hybridfusion_core.model.network import HybridFusionNet

settings.register_profile("laws", deadline=None, max_examples=50)  # no test reads the clock
settings.load_profile("laws")


def opinionated_network(config: NetworkConfig, seed: int = 0) -> HybridFusionNet:
    """Random weights whose scores differ enough between slices that mistakes show."""
    torch.manual_seed(seed)
    network = HybridFusionNet(config)
    torch.nn.init.normal_(network.head.weight, std=0.5)
    return network.eval()


@pytest.fixture(autouse=True)
def models_of_one_test(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own folder of models is neither read nor written."""
    monkeypatch.setenv(VARIABLE, str(tmp_path_factory.mktemp("models") / "folder"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    network = opinionated_network(NetworkConfig(channels=4, dim=8, heads=2))
    save_model(path, network, ModelCard("tiny", "for tests", "none", "everything", {}))
    return str(path)


def textured_stack(shape: tuple[int, ...], dtype: str = "uint16", seed: int = 0) -> np.ndarray:
    """Blocks of different brightness with noise: structure everywhere, at every size."""
    random = np.random.default_rng(seed)
    z, y, x = np.indices(shape)
    waves = 500 * np.sin((y + 3 * z) / 3) * np.cos((x - 2 * z) / 4)
    counts = 1500 + waves * (1 + z) + random.normal(0, 20, shape)
    return (counts / 16 if dtype == "uint8" else counts).clip(0, 255 if dtype == "uint8" else None).astype(dtype)
