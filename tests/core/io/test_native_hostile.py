"""Damaged microscopes' files: an explained refusal in bounded time, whatever they make a library do."""

import struct
import sys

import numpy as np
import pytest
from native_makers import pixels, write_czi, write_lif, write_lif_header, write_oif
from test_native import read_all, real

from hybridfusion_core.errors import StoredDataError
from hybridfusion_core.io.native import guarded
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.suffixes import NATIVE_SUFFIXES

for library in ("liffile", "nd2", "oiffile", "pylibCZIrw"):
    pytest.importorskip(library, reason="needs the extra 'vendors'")
INSTALLED = [each for each in NATIVE_SUFFIXES if each != ".oir" or sys.version_info >= (3, 12)]


@pytest.fixture(autouse=True)
def no_process_is_left():
    yield
    guarded.end_idle()


def sound_files(folder):
    yield write_czi(folder / "a.czi", [pixels((1, 2, 3, 40, 30))])
    yield write_lif(folder / "a.lif", {"one": pixels((1, 3, 2, 20, 30))})


def outcome(path) -> str:
    """Return what a refusal says, or nothing where the pixels could be read."""
    try:
        with open_stack(path) as stack:
            read_all(stack)
    except StoredDataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("suffix", INSTALLED)
@pytest.mark.parametrize("content", [b"x", b"PK\3\4" + bytes(5000), b"\xff" * 70_000, bytes(70_000)])
def test_other_content_under_a_microscopes_name_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"other{suffix}"
    path.write_bytes(content)
    with pytest.raises(StoredDataError, match=r"no readable|cannot be read|no image"):
        open_stack(path)


def test_a_file_that_is_cut_short_is_refused_and_never_filled_with_black(tmp_path):
    for path in sound_files(tmp_path):
        whole = path.read_bytes()
        for share in (0.1, 0.5, 0.9, 0.999):
            path.write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(StoredDataError, match=path.name):
                read_all(open_stack(path))


@pytest.mark.parametrize("name", ["cluster_t3_z10_c2.nd2", "test.oib"])
def test_a_real_file_that_is_cut_short_is_refused_or_whole(tmp_path, name):
    with open_stack(real(name)) as stack:
        sound = read_all(stack)
    whole = real(name).read_bytes()
    path = tmp_path / name
    refused = 0
    for share in (0.01, 0.3, 0.7, 0.95, 0.9999):
        path.write_bytes(whole[: int(len(whole) * share)])
        if outcome(path):
            refused += 1
        else:  # the end of an OIB may hold nothing of the image
            with open_stack(path) as stack:
                np.testing.assert_array_equal(read_all(stack), sound)
    assert refused >= 4


def test_flipped_bytes_give_pixels_or_a_refusal(tmp_path):
    random = np.random.default_rng(0)
    for path in sound_files(tmp_path):
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(8):
            damaged = whole.copy()
            at = random.integers(0, min(4000, len(damaged)), 4)
            damaged[at] = random.integers(0, 256, 4)
            path.write_bytes(damaged.tobytes())
            assert "Traceback" not in outcome(path)  # whatever else goes wrong is raised


def test_a_ring_of_sectors_ends(tmp_path, monkeypatch):
    """The library follows the sectors of a stream until one says that it is the last."""
    damaged = bytearray(real("test.oib").read_bytes())
    size = 1 << struct.unpack_from("<H", damaged, 30)[0]
    table = (struct.unpack_from("<I", damaged, 76)[0] + 1) * size
    for index in range(size // 4):
        if struct.unpack_from("<I", damaged, table + 4 * index)[0] == index + 1:
            struct.pack_into("<I", damaged, table + 4 * index, index)
    path = tmp_path / "ring.oib"
    path.write_bytes(damaged)
    monkeypatch.setattr(guarded, "PATIENCE", 5.0)
    with pytest.raises(StoredDataError, match=r"took longer than 5 s|MemoryError"):
        open_stack(path)


def test_a_library_that_does_not_end_is_ended(tmp_path, monkeypatch):
    (path,) = list(sound_files(tmp_path))[:1]
    guarded.end_idle()
    monkeypatch.setattr(guarded, "PATIENCE", 0.001)  # less than any process takes to start
    with pytest.raises(StoredDataError, match="took longer"):
        open_stack(path)


def test_a_library_that_crashes_takes_nothing_along(tmp_path):
    (path,) = list(sound_files(tmp_path))[:1]
    stack = open_stack(path)
    reader = stack.array._array._reader
    reader._process._child.kill()
    with pytest.raises(StoredDataError, match="pylibCZIrw, crashed"):
        read_all(stack)
    stack.close()
    with open_stack(path) as stack:
        assert read_all(stack).any()


def test_processes_serve_one_file_after_another(tmp_path):
    guarded.end_idle()
    used = set()
    for path in (*sound_files(tmp_path), write_oif(tmp_path / "a.oif", pixels((1, 2, 10, 12)))):
        with open_stack(path) as stack:
            used.add(stack.array._array._reader._process._child.pid)
    assert len(used) == 1


def test_entities_in_the_metadata_of_a_lif_are_refused(tmp_path):
    xml = "<!DOCTYPE a [<!ENTITY b 'c'>]><LMSDataContainerHeader Version='2'/>"
    with pytest.raises(StoredDataError, match="DOCTYPE"):
        open_stack(write_lif_header(tmp_path / "a.lif", xml))


def test_sizes_that_the_file_cannot_hold_are_refused(tmp_path):
    path = write_lif(tmp_path / "a.lif", {"one": pixels((1, 3, 2, 20, 30))})
    text = "NumberOfElements='3'".encode("utf-16-le")
    assert text in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(text, "NumberOfElements='9'".encode("utf-16-le")))
    with pytest.raises(StoredDataError, match=path.stem):
        read_all(open_stack(path))
