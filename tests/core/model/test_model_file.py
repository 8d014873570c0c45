import json
import struct
from dataclasses import asdict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import opinionated_network

from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.model.config import NetworkConfig
from hybridfusion_core.model.model_file import ModelCard, load_model, model_names, save_model
from hybridfusion_core.model.network import HybridFusionNet
from hybridfusion_core.model.parameters import parameter_shapes

CARD = ModelCard("mine", "for tests", "none", "everything", {"psnr": 1.5})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    save_model(path, opinionated_network(NetworkConfig(channels=4, dim=8, heads=2, depth=3)), CARD)
    return path


@pytest.mark.parametrize(
    "config",
    [
        NetworkConfig(channels=3, dim=12, heads=3, depth=3, window=4, dilations=(1, 3)),
        NetworkConfig(focus_windows=(), mlp_ratio=1.3),
        NetworkConfig(depth=0, coarse_depth=3, coarse_bin=4, patch=1),
    ],
)
def test_what_a_file_must_hold_is_what_the_network_has(config: NetworkConfig) -> None:
    weights = HybridFusionNet(config).state_dict()
    assert parameter_shapes(config) == {name: tuple(weight.shape) for name, weight in weights.items()}


def test_save_then_load_gives_identical_outputs(saved: Path) -> None:
    network = opinionated_network(NetworkConfig(channels=4, dim=8, heads=2, depth=3))
    model = load_model(str(saved))
    guide, noise = torch.randn(1, 3, 32, 32), torch.tensor([0.2])
    with torch.inference_mode():
        assert torch.equal(network(guide, noise).focus, model.network(guide, noise).focus)
    assert model.card == CARD
    assert model.network.config == network.config


def test_equal_models_give_equal_bytes(saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    model = load_model(str(saved))
    save_model(again, model.network, model.card)
    assert again.read_bytes() == saved.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_model_that_changed_on_disk_is_read_again(saved: Path) -> None:
    before = load_model(str(saved))
    save_model(saved, before.network, ModelCard("other", "", "", "", {}))
    assert load_model(str(saved)).card.name == "other"


def test_every_shipped_model_loads_and_is_small() -> None:
    assert model_names() == ("fluorescence", "natural", "transmitted")
    for name in model_names():
        model = load_model(name)
        assert model.card.name == name
        assert model.card.limits
        assert sum(parameter.numel() for parameter in model.network.parameters()) * 4 < 2 << 20


def test_a_file_of_before_loads_and_its_network_does_not_say_what_is_in_focus(saved: Path, tmp_path: Path) -> None:
    """Files of before name windows of two sizes, which none of them uses, and know no coarse level."""
    model = load_model(str(saved))
    described = {"config": asdict(model.network.config), "card": asdict(CARD)}
    for name in ("coarse_depth", "coarse_bin"):
        del described["config"][name]
    for wide_below, opens in ((0.0, True), (1.5, False)):
        described["config"]["wide_below"] = wide_below
        old = tmp_path / f"{wide_below}.safetensors"
        metadata = {"hybridfusion": json.dumps(described)}
        old.write_bytes(safetensors.torch.save(model.network.state_dict(), metadata=metadata))
        if opens:
            network = load_model(str(old)).network
            assert network.config == model.network.config
            assert network(torch.randn(1, 2, 32, 32), torch.tensor([0.2])).in_focus is None
        else:
            with pytest.raises(StoredDataError, match="no valid HybridFusionNet configuration"):
                load_model(str(old))


def test_organoid_is_another_name_of_fluorescence() -> None:
    assert load_model("organoid") is load_model("fluorescence")


def test_an_unknown_model_is_named_with_what_there_is() -> None:
    with pytest.raises(
        UserInputError, match=r"No model 'best': neither shipped \(fluorescence, natural, transmitted\) nor a file"
    ):
        load_model("best")


def _with_header(path: Path, header: bytes, body: bytes = b"") -> str:
    path.write_bytes(struct.pack("<Q", len(header)) + header + body)
    return str(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no model of ours"),
        (b"hello", "no model of ours"),
        (b"\xff" * 64, "not a safetensors file"),
        (struct.pack("<Q", 1 << 60) + b"{}", "not a safetensors file"),
        (b"\x80\x04\x95" + b"a pickle is never loaded" * 9, "not a safetensors file"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(StoredDataError, match=message):
        load_model(str(path))


def _metadata(config: dict, card: dict) -> bytes:
    return json.dumps({"__metadata__": {"hybridfusion": json.dumps({"config": config, "card": card})}}).encode()


GOOD_CARD = {"name": "x", "description": "", "training": "", "limits": "", "metrics": {}}


@pytest.mark.parametrize(
    ("config", "card", "message"),
    [
        ({"channels": 4, "surprise": 1}, GOOD_CARD, "no valid HybridFusionNet configuration"),
        ({"dim": 32, "heads": 5}, GOOD_CARD, "no valid HybridFusionNet configuration"),
        ({}, {**GOOD_CARD, "code": "rm"}, "no valid HybridFusionNet configuration"),
        ({"dim": 1_000_000_000}, GOOD_CARD, "larger than any model of ours"),
        ({"depth": 1_000_000_000}, GOOD_CARD, "larger than any model of ours"),
        ({}, GOOD_CARD, "do not fit its own configuration"),
    ],
)
def test_the_configuration_is_checked_before_a_tensor_is_allocated(
    tmp_path: Path, config: dict, card: dict, message: str
) -> None:
    with pytest.raises(StoredDataError, match=message):
        load_model(_with_header(tmp_path / "bad.safetensors", _metadata(config, card)))


def test_truncated_weights_are_refused(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-10])
    with pytest.raises(StoredDataError, match=r"mine\.safetensors"):
        load_model(str(saved))
