"""The short list of dependencies says what the package itself says, without PyTorch."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]


def test_the_light_requirements_are_those_of_the_package_without_pytorch() -> None:
    lines = (ROOT / "requirements" / "light.txt").read_text(encoding="utf-8").splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stated = {Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["cpu"]}
    listed = {Requirement(line) for line in lines if not line.startswith("#")}
    assert listed == {each for each in stated if each.name not in ("torch", "timm")}
