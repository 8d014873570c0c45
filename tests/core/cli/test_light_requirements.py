"""The short list of dependencies says what the package itself says, without PyTorch."""

from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

LIGHT = Path(__file__).parents[3] / "requirements" / "light.txt"


def test_the_light_requirements_are_those_of_the_package_without_pytorch() -> None:
    lines = LIGHT.read_text(encoding="utf-8").splitlines()
    listed = {Requirement(line) for line in lines if not line.startswith("#")}
    whole = {Requirement(line) for line in requires("napari-hybridfusion") or ()}
    wanted = {each for each in whole if each.marker is None and each.name not in ("torch", "timm")}
    openvino = {Requirement(str(each).split(";")[0]) for each in whole if each.name == "openvino"}
    assert listed == wanted | openvino
