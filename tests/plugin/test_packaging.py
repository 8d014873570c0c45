"""What people without a terminal meet: the description, the recipe, the help and the notebook are whole and true."""

import json
import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import napari
import pytest
import yaml

from napari_hybridfusion.parts.help import chapter_text

ROOT = Path(__file__).parents[2]
_OTHER_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "dask": "dask-core"}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_recipe_asks_for_what_the_package_asks_for():
    recipe = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text())
    asked = dict(line.split(" ", 1) for line in recipe["requirements"]["run"])
    wanted = [
        *project()["dependencies"],
        *project()["optional-dependencies"]["napari"],
        f"python{project()['requires-python']}",
    ]
    for each in wanted:
        name, bounds = re.fullmatch(r"([A-Za-z0-9-]+)(?:\[.*\])?([<>=!].*)", each).groups()
        assert asked[_OTHER_NAMES.get(name, name)] == bounds, name
    assert recipe["context"]["version"] == project()["version"]
    assert recipe["about"]["summary"] == project()["description"]


def test_the_description_stands_without_the_repository():
    text = metadata("napari-hybridfusion").get_payload() or (ROOT / project()["readme"]).read_text()
    assert not re.search(r"\]\((?!https://)", text)  # no link or picture that only a copy of the repository has
    for system in ("Windows", "macOS", "Linux"):
        assert f"**{system}**" in text


@pytest.mark.parametrize("chapter", ["Open a stack", "A plate", "A model for your own microscope"])
def test_each_form_has_its_chapter(chapter):
    text = chapter_text(chapter)
    assert text.split("\n")[0].endswith(chapter)
    assert text.startswith("## ")
    assert "![" not in text


def test_the_notebook_runs(viewer, monkeypatch):
    monkeypatch.setattr(napari, "Viewer", lambda: viewer)
    notebook = json.loads((ROOT / "examples" / "fuse_a_layer.ipynb").read_text())
    found: dict = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), found)  # noqa: S102 - our own file
    assert [layer.name for layer in found["layers"]][:2] == ["DAPI fused", "membrane fused"]
    assert viewer.layers.selection.active is found["more"][0]
