"""The list for an installation without PyTorch follows the dependencies of the package."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_light_list_is_all_dependencies_but_pytorch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "requirements-light.txt").read_text(encoding="utf-8").splitlines()
    listed = {line for line in lines if line and not line.startswith("#")}
    needed = {each for each in project["dependencies"] if not each.startswith(("torch>", "timm>"))}
    assert listed == needed | set(project["optional-dependencies"]["cpu"])
