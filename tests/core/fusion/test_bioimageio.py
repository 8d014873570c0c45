import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import textured_stack

import hybridfusion_core as hf
from hybridfusion_core.cli import main
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.bioimageio import Fusion, export_bioimageio
from hybridfusion_core.model.model_file import load_model


def opened(path: Path) -> tuple[dict, dict[str, bytes]]:
    with zipfile.ZipFile(path) as package:
        members = {name: package.read(name) for name in package.namelist()}
    return json.loads(members["rdf.yaml"]), members


@pytest.mark.parametrize("shape", [(2, 40, 56), (7, 33, 47)])
def test_a_package_fuses_as_the_program_does(shape: tuple[int, int, int], tiny_model: str, tmp_path: Path) -> None:
    export_bioimageio(tiny_model, tmp_path / "p.zip")
    description, members = opened(tmp_path / "p.zip")
    architecture = description["weights"]["pytorch_state_dict"]["architecture"]
    assert (architecture["import_from"], architecture["callable"]) == ("hybridfusion_core.fusion.bioimageio", "Fusion")
    fusion = Fusion(**architecture["kwargs"]).eval()
    fusion.load_state_dict(torch.load(io.BytesIO(members["weights.pt"]), weights_only=True))
    counts = textured_stack(shape).astype(np.float32)
    with torch.inference_mode():
        fused, decision, confidence = (each[0].numpy() for each in fusion(torch.from_numpy(counts)[None]))
    expected = hf.fuse(counts, model=tiny_model)
    np.testing.assert_allclose(fused, expected.fused, atol=1e-5 * np.ptp(counts))
    assert (decision != expected.decision).mean() < 0.01
    np.testing.assert_allclose(confidence, np.nan_to_num(expected.confidence), atol=1e-3)


def test_test_tensors_are_what_the_model_gives_and_the_card_is_inside(tiny_model: str, tmp_path: Path) -> None:
    export_bioimageio(tiny_model, tmp_path / "p.zip")
    description, members = opened(tmp_path / "p.zip")
    arrays = {
        name: np.load(io.BytesIO(members[f"{name}.npy"])) for name in ("stack", "fused", "decision", "confidence")
    }
    expected = hf.fuse(arrays["stack"][0], model=tiny_model)
    np.testing.assert_allclose(arrays["fused"][0], expected.fused, rtol=1e-5)
    assert len(np.unique(arrays["decision"])) > 2  # a test that would see a change
    kept = description["config"]["hybridfusion"]
    assert (kept["sha256"], kept["card"]["name"]) == (load_model(tiny_model).sha256, "tiny")
    assert "maintainers" not in description  # would be looked up on the network


def test_equal_models_give_equal_packages_and_nothing_is_replaced_unasked(tiny_model: str, tmp_path: Path) -> None:
    one, other = tmp_path / "one.zip", tmp_path / "other.zip"
    assert main(["models", "export", tiny_model, "--bioimageio", str(one)]) == 0
    export_bioimageio(tiny_model, other)
    assert one.read_bytes() == other.read_bytes()
    with pytest.raises(UserInputError, match=r"one.zip exists already.*--overwrite"):
        export_bioimageio(tiny_model, one)
    export_bioimageio(tiny_model, one, overwrite=True)
    with pytest.raises(UserInputError, match=r"'p.tar' has another suffix; expected .*\.zip"):
        export_bioimageio(tiny_model, tmp_path / "p.tar")
    assert {path.name for path in tmp_path.iterdir()} == {"one.zip", "other.zip"}
