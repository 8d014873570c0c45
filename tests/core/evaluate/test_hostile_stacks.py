"""`evaluate` of a folder in which every broken stack of `hostile_files` stands beside a sound one."""

import json
from pathlib import Path

import imagecodecs
import pytest
from conftest import textured_stack
from hostile_files import CASES, PIXELS, check_message

from hybridfusion_core.cli import main
from hybridfusion_core.errors import printable
from hybridfusion_core.io.suffixes import PICTURE_SUFFIXES, image_name
from hybridfusion_core.io.tiff.writer import write_stack

NAMES = ("a\nb", "\x1b[2J", "🔬", "x" * 251)
# No stacks in the eyes of `evaluate`, or sound ones where they stand.
ELSEWHERE = {"other microscope format", "one slice"}


def place(made: Path, stacks: Path, name: str) -> None:
    """Move what is broken into a folder under a name of its own; a picture becomes the first of a pair."""
    ending = made.name[len(image_name(made)) :]
    if ending in PICTURE_SUFFIXES:
        (stacks / f"{name}_B.png").write_bytes(imagecodecs.png_encode(PIXELS[0]))
        ending = f"_A{ending}"
    target = stacks / f"{name}{ending}"
    if made.is_symlink():
        target.symlink_to(made)  # moved, a loop would be none
    else:
        made.rename(target)


@pytest.fixture
def broken(tmp_path: Path) -> tuple[Path, set[str]]:
    """A folder with a sound stack and all that are broken; the names of these."""
    stacks = tmp_path / "stacks"
    stacks.mkdir()
    write_stack(stacks / "sound.ome.tif", textured_stack((3, 32, 32))[None, None], name="sound")
    names = set()
    for number, (case, (make, _)) in enumerate(CASES.items()):
        apart = tmp_path / str(number)
        apart.mkdir()
        make(apart)
        for made in apart.iterdir():
            if case not in ELSEWHERE and made.name.startswith(("a.", "slices")):
                names.add(f"case{number}")
                place(made, stacks, f"case{number}")
    for name in NAMES:
        (stacks / f"{name}.tif").write_bytes(b"this is text")
    (stacks / "device.tif").symlink_to("/dev/zero")
    return stacks, {*names, *map(printable, NAMES), "device"}


def test_every_broken_stack_is_named_and_the_sound_one_is_scored(
    broken: tuple[Path, set[str]], tiny_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, names = broken
    assert len(names) >= 60
    assert main(["evaluate", str(folder), "--model", tiny_model, "--device", "cpu", "--json"]) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    head, *listed = captured.err[captured.err.index("hybridfusion: ") :].splitlines()
    assert f"{len(names)} stack(s)" in head
    found = dict(line.strip().split(": ", 1) for line in listed)
    assert set(found) == names
    for message in found.values():
        check_message(f"hybridfusion: {message}")
    (group,) = json.loads(captured.out)["groups"].values()
    assert group["stacks"] == ["sound"]
