"""What may not be read, or does not answer, is said to be so: not called damaged, and not waited for."""

import errno
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from hostile_files import PIXELS, refused, write_store
from image_makers import multi_file

from hybridfusion_core.cli import main
from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.io.disk import access
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.verify import verify

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may enter and write to; pytest's own may be entered by its owner only."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o777)
    yield made
    for path in made.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(made)


@pytest.fixture
def powerless(folder: Path) -> Iterator[None]:
    """Become somebody to whom rights apply: root may read everything."""
    if not hasattr(os, "seteuid"):
        pytest.skip("rights are taken away as on Unix")
    before = os.geteuid()
    # What is imported late, or was made private, must not be what fails.
    tifffile.imwrite(folder / "warm.tif", PIXELS, metadata=None, photometric="minisblack")
    assert main(["fuse", str(folder / "warm.tif"), "-o", str(folder / "warm.ome.zarr"), *WORDS]) == 0
    if before == 0:
        os.seteuid(NOBODY)
        if not os.access(torch.__file__, os.R_OK, effective_ids=True):
            os.seteuid(before)
            pytest.skip("the environment that runs the tests may be read by its owner alone")
    yield
    os.seteuid(before)


WORDS = ["--method", "tenengrad", "--z-step", "1", "--axes", "ZYX"]


def picture_folder(folder: Path) -> Path:
    (folder / "slices").mkdir()
    for index, plane in enumerate(PIXELS):
        (folder / f"slices/{index}.png").write_bytes(imagecodecs.png_encode(plane))
    return folder / "slices"


def stack_file(folder: Path) -> Path:
    (folder / "slices").mkdir()
    tifffile.imwrite(folder / "slices/a.tif", PIXELS, metadata=None, photometric="minisblack")
    return folder / "slices/a.tif"


def parts(folder: Path) -> Path:
    multi_file(folder)
    return folder / "a.ome.tif"


def store(folder: Path) -> Path:
    write_store(folder / "a.ome.zarr")
    return folder / "a.ome.zarr"


@pytest.mark.parametrize(
    ("make", "locked", "mode"),
    [
        (stack_file, "slices/a.tif", 0),
        (stack_file, "slices", 0o600),  # may be listed and not entered
        (picture_folder, "slices/2.png", 0),
        (picture_folder, "slices", 0o600),
        (picture_folder, "slices", 0o300),  # may be entered and not listed
        (parts, "b.ome.tif", 0),
        (store, "a.ome.zarr", 0),
        (store, "a.ome.zarr/zarr.json", 0),
        (store, "a.ome.zarr/0/zarr.json", 0),
        (store, "a.ome.zarr/0", 0o600),
        (store, "a.ome.zarr/0/c/1", 0o300),
        (store, "a.ome.zarr/0/c/1", 0o600),
        (store, "a.ome.zarr/0/c/1/0/0", 0),
    ],
)
def test_what_may_not_be_read_is_named_and_not_called_damaged(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
    make: Callable[[Path], Path],
    locked: str,
    mode: int,
) -> None:
    made = make(folder)
    request.getfixturevalue("powerless")
    owner = os.geteuid()
    os.seteuid(os.getuid())
    (folder / locked).chmod(mode)
    os.seteuid(owner)
    words = [str(made)] if make in (parts, store) else [str(made), "--axes", "ZYX"]
    line = refused(folder, capsys, words)
    assert "may not be read (Permission denied); expected the right to read it" in line
    assert Path(locked).name in line
    if not locked.endswith("c/1/0/0"):  # `info` reads no pixels
        assert main(["info", *words]) == 2
        assert "may not be read" in capsys.readouterr().err


@pytest.mark.usefixtures("powerless")
def test_a_result_that_may_not_be_read_is_not_called_damaged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    owner = os.geteuid()
    os.seteuid(os.getuid())
    (folder / "warm.ome.zarr/0/c/0").chmod(0)
    os.seteuid(owner)
    assert main(["verify", str(folder / "warm.ome.zarr")]) == 2
    assert "may not be read" in capsys.readouterr().err


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_a_drive_that_fails_while_it_is_read_is_not_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(_: Path) -> bytes:
        raise OSError(code, os.strerror(code))

    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(PIXELS[0]))
    with open_stack(tmp_path / "a.png") as stack:
        monkeypatch.setattr(Path, "read_bytes", fail)
        with pytest.raises(UserInputError, match=r"cannot be reached .*expected a drive that answers"):
            np.asarray(stack.array)
    with pytest.raises(StoredDataError, match=r"found \(OSError: .*\); expected e"), access.guarded("found", "e"):
        raise OSError(errno.EINVAL, "a place before the beginning of the file")


@pytest.mark.parametrize("stuck", ["exists", "open"])
@pytest.mark.parametrize("name", ["a.tif", "slices"])
def test_a_drive_that_hangs_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stuck: str, name: str
) -> None:
    (tmp_path / "slices").mkdir()
    (tmp_path / "a.tif").write_bytes(b"x")
    released = threading.Event()

    def wait(*_: object, **__: object) -> None:
        released.wait()
        raise OSError(errno.EIO, "released")

    if stuck == "open" and name == "slices":
        monkeypatch.setattr(os, "scandir", wait)
    else:
        monkeypatch.setattr(Path, stuck, wait)
    monkeypatch.setattr(access, "PATIENCE", 0.05)
    for action in (open_stack, verify):
        with pytest.raises(UserInputError, match=r"has not answered for 0\.05 s; expected .*Check the connection"):
            action(tmp_path / name)
    released.set()


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.ome.tif", "a.ome.zarr"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str):
    if kind == "pipe":
        os.mkfifo(tmp_path / name)
    elif kind == "device":
        (tmp_path / name).symlink_to("/dev/zero")
    else:
        monkeypatch.chdir(tmp_path)  # a socket's path is at most 108 bytes long
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(name)
    for action in (open_stack, verify):
        with pytest.raises(UserInputError, match="is a pipe, a socket or a device; expected"):
            action(tmp_path / name)


@pytest.mark.parametrize("inside", ["zarr.json", "0/zarr.json", "labels/decision/0/c/0/0/0/0/0"])
def test_a_pipe_inside_a_result_is_found_and_not_waited_for(tmp_path: Path, inside: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, metadata=None, photometric="minisblack")
    assert main(["fuse", str(tmp_path / "a.tif"), "-o", str(tmp_path / "r.ome.zarr"), *WORDS]) == 0
    (tmp_path / "r.ome.zarr" / inside).unlink()
    os.mkfifo(tmp_path / "r.ome.zarr" / inside)
    assert any("is no file and no folder" in finding for finding in verify(tmp_path / "r.ome.zarr"))


@pytest.mark.parametrize("make", [stack_file, picture_folder, parts, store])
def test_what_may_only_be_read_is_enough(
    folder: Path, request: pytest.FixtureRequest, make: Callable[[Path], Path]
) -> None:
    (folder / "inputs").mkdir()
    made = make(folder / "inputs")
    for path in folder.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    request.getfixturevalue("powerless")
    words = [] if make in (parts, store) else ["--axes", "ZYX"]
    assert main(["fuse", str(made), "-o", str(folder / "out.ome.zarr"), *WORDS[:4], *words]) == 0
