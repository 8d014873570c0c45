import json
import shutil
from pathlib import Path

import pytest
from conftest import textured_stack

import hybridfusion_core as hf
from hybridfusion_core.cli import main
from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.model.model_file import import_model, load_model, local_model_names, model_names
from hybridfusion_core.model.model_folder import models_folder


def test_an_imported_model_is_found_by_its_name_and_is_the_same_file(tiny_model: str) -> None:
    assert local_model_names() == ()
    model = import_model(Path(tiny_model), "our-microscope")
    assert local_model_names() == ("our-microscope",)
    assert model.card.name == load_model("our-microscope").card.name == "our-microscope"  # whatever it calls itself
    assert model.sha256 == load_model(tiny_model).sha256
    fused = hf.fuse(textured_stack((3, 32, 32)), model="our-microscope")
    assert fused.spec.provenance["model"] == {"name": "our-microscope", "sha256": model.sha256}


def test_a_local_model_replaces_another_only_when_asked(tiny_model: str) -> None:
    import_model(Path(tiny_model))
    with pytest.raises(UserInputError, match=r"'tiny' exists already; expected a new name.*--name, or --overwrite"):
        import_model(Path(tiny_model))
    import_model(Path(tiny_model), overwrite=True)
    assert local_model_names() == ("tiny",)


@pytest.mark.parametrize("name", ["fluorescence", "Natural", "organoid", "auto"])
def test_a_local_model_never_stands_in_the_place_of_a_shipped_one(tiny_model: str, name: str) -> None:
    with pytest.raises(UserInputError, match=r"is taken.*expected another name.*--name"):
        import_model(Path(tiny_model), name)
    models_folder().mkdir(parents=True)
    shutil.copy(tiny_model, models_folder() / f"{name}.safetensors")  # past the front door
    assert local_model_names() == ()
    assert name.lower() not in model_names() or load_model(name.lower()).sha256 != load_model(tiny_model).sha256


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "a\\b", ".hidden", "x" * 65, "a b", "x.safetensors", "ü"])
def test_names_are_no_paths(tiny_model: str, name: str) -> None:
    with pytest.raises(UserInputError, match=r"is no name for a model; expected.*Choose another"):
        import_model(Path(tiny_model), name)
    assert not models_folder().exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95 a pickle", b"\xff" * 64])
def test_what_is_no_model_is_not_taken_in(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(StoredDataError, match=r"bad\.safetensors"):
        import_model(path)
    with pytest.raises(UserInputError, match=r"no file .*expected a model.*Check the path"):
        import_model(tmp_path / "none.safetensors")
    assert not models_folder().exists()


def test_the_command_lists_local_models_beside_the_shipped_ones(
    tiny_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "import", tiny_model, "--name", "mine", "--json"]) == 0
    taken = json.loads(capsys.readouterr().out)["model"]
    (models_folder() / "broken.safetensors").write_bytes(b"hello")
    for words in (["models", "--json"], ["models", "list", "--json"], ["models", "--json", "list"]):
        assert main(words) == 0
        found = json.loads(capsys.readouterr().out)
        assert [each["name"] for each in found["models"]] == ["fluorescence", "natural", "transmitted", "mine"]
        assert found["models"][-1]["sha256"] == taken["sha256"] == load_model(tiny_model).sha256
        assert "broken.safetensors" in found["broken"][0]
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    assert "mine  sha256" in text
    assert "cannot be used: broken.safetensors" in text
    assert main(["models", "import", tiny_model, "--name", "mine"]) == 2
    assert capsys.readouterr().out == ""
