"""A result appears whole or not at all, and the old one stays until the new one is there."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import textured_stack

import hybridfusion_core as hf
from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.io.create import create_output
from hybridfusion_core.io.disk.atomic import Delivery, explained, part_path, write_whole
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.result_spec import MapChannel, ResultSpec
from hybridfusion_core.io.verify import verify
from hybridfusion_core.stack import Channel

SUFFIXES = [".ome.zarr", ".ome.tif", ".tif", ".png"]


def make_spec(maps=True):
    return ResultSpec(
        name="r",
        shape=(1, 1, 20, 30),
        dtype=np.dtype("uint8"),
        channels=(Channel("0"),),
        slices=3,
        decision_channels=("all",) if maps else (),
        maps=(MapChannel("confidence", (0.0, 1.0)),) if maps else (),
    )


def fill(output, value):
    for array in output.arrays.values():
        array[...] = value


def write(path, value, *, maps=True, **options):
    with create_output(path, make_spec(maps), block=256, **options) as output:
        fill(output, value)
        output.commit()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def value_of(path):
    with open_stack(path) as stack:
        return int(stack.read(0, 0, [0], slice(0, 1), slice(0, 1)).item())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_has_its_name_before_commit(tmp_path, suffix):
    with create_output(tmp_path / f"r{suffix}", make_spec(), block=256) as output:
        fill(output, 1)
        assert all(name.startswith(".") and name.endswith((".part", ".lock")) for name in names(tmp_path))
        output.commit()
    assert f"r{suffix}" in names(tmp_path)
    assert not [name for name in names(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, None])
def test_nothing_is_left_of_an_abandoned_result(tmp_path, suffix, error):
    def abandon():
        with create_output(tmp_path / f"r{suffix}", make_spec(), block=256) as output:
            output.arrays["fused"][0, 0, 0, :5] = 1
            if error is not None:
                raise error("stop")

    if error is None:
        abandon()
    else:
        with pytest.raises(error, match="stop"):
            abandon()
    assert names(tmp_path) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_unwritten_blocks_are_noticed(tmp_path, suffix):
    spec = ResultSpec("r", (1, 1, 300, 300), np.dtype("uint8"), (Channel("0"),))
    with create_output(tmp_path / f"r{suffix}", spec, block=256) as output:
        output.arrays["fused"][..., :256] = 0
        output.arrays["fused"][..., :256, :] = 0
        with pytest.raises(StoredDataError, match=r"1 of 4 blocks .* never written.*\(0, 0, 0, 1, 1\)"):
            output.commit()
    assert names(tmp_path) == []


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif"])
def test_what_changed_on_disk_is_noticed(tmp_path, suffix):
    spec = ResultSpec("r", (1, 2, 300, 300), np.dtype("uint8"), (Channel("0"), Channel("1")))
    with create_output(tmp_path / f"r{suffix}", spec, block=256) as output:
        output.arrays["fused"][:, 0] = 1
        output.arrays["fused"][:, 1] = 2
        shards = sorted(path for path in tmp_path.rglob("*") if path.is_file() and "c" in path.parts[-6:-1])
        shutil.copy(shards[0], shards[-1])
        with pytest.raises(StoredDataError, match="reads back differently"):
            output.commit()
    assert names(tmp_path) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_existing_results_are_replaced_only_when_asked(tmp_path, suffix):
    write(tmp_path / f"r{suffix}", 1)
    before = names(tmp_path)
    with pytest.raises(UserInputError, match=r"exists already.*--overwrite"):
        create_output(tmp_path / f"r{suffix}", make_spec())
    write(tmp_path / f"r{suffix}", 2, overwrite=True)
    assert value_of(tmp_path / f"r{suffix}") == 2
    assert names(tmp_path) == before


def test_any_file_of_an_existing_result_counts(tmp_path):
    (tmp_path / "r.maps.ome.zarr").mkdir()
    with pytest.raises(UserInputError, match=r"r\.maps\.ome\.zarr exists already"):
        create_output(tmp_path / "r.ome.zarr", make_spec(maps=False))


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif"])
def test_maps_of_an_older_result_do_not_stay(tmp_path, suffix):
    write(tmp_path / f"r{suffix}", 1)
    write(tmp_path / f"r{suffix}", 2, maps=False, overwrite=True)
    assert names(tmp_path) == [f"r{suffix}"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_old_result_survives_a_failed_new_one(tmp_path, suffix, error):
    write(tmp_path / f"r{suffix}", 1)
    before = names(tmp_path)

    def fail():
        with create_output(tmp_path / f"r{suffix}", make_spec(), block=256, overwrite=True) as output:
            fill(output, 2)
            raise error("stop")

    with pytest.raises(error, match="stop"):
        fail()
    assert names(tmp_path) == before
    assert value_of(tmp_path / f"r{suffix}") == 1


def files_of(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the child is made by fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the child touches files only, no threads
@pytest.mark.parametrize("old", [(), ("main",), ("main", "maps"), ("maps",)])
@pytest.mark.parametrize("new", [("main",), ("main", "maps")])
@pytest.mark.parametrize("killed_at", range(7))
def test_a_publication_killed_at_any_step_is_undone_or_finished(tmp_path, old, new, killed_at):
    """A child process dies for real at its n-th change of a name; the next start tidies up."""
    for name in old:
        (tmp_path / name).write_text(f"old {name}")
    child = os.fork()
    if child == 0:
        changes = iter(range(100))

        def or_die(change):
            def changed(*arguments, **options):
                if next(changes) == killed_at:
                    os._exit(0)
                return change(*arguments, **options)

            return changed

        try:
            delivery = Delivery((tmp_path / "main", tmp_path / "maps"), overwrite=True)
            for name in new:
                delivery.part(tmp_path / name).write_text(f"new {name}")
            Path.rename, Path.touch, Path.unlink = or_die(Path.rename), or_die(Path.touch), or_die(Path.unlink)
            delivery.publish()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    Delivery((tmp_path / "main", tmp_path / "maps"), overwrite=True).discard()
    assert files_of(tmp_path) in (
        {name: f"old {name}" for name in old},
        {name: f"new {name}" for name in new},
    )


def test_a_rename_that_fails_puts_everything_back(tmp_path):
    main, maps = tmp_path / "main", tmp_path / "maps"
    main.write_text("old main")
    maps.write_text("old maps")
    delivery = Delivery((main, maps), overwrite=True)
    delivery.part(main).write_text("new main")
    (tmp_path / ".maps.old").mkdir()
    (tmp_path / ".maps.old/in the way").touch()
    with pytest.raises(OSError, match="maps"):
        delivery.publish()
    assert main.read_text() == "old main"


def test_left_overs_of_a_killed_run_are_removed(tmp_path):
    program = textwrap.dedent(
        """
        import os, sys, numpy as np
        from hybridfusion_core.stack import Channel
        from hybridfusion_core.io.create import create_output
        from hybridfusion_core.io.result_spec import ResultSpec
        output = create_output(sys.argv[1], ResultSpec("r", (1, 1, 20, 30), np.dtype("u1"), (Channel("0"),)))
        output.arrays["fused"][...] = 1
        os._exit(0)
        """
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "r.ome.tif")], check=True)  # noqa: S603
    assert names(tmp_path) == [".r.ome.tif.lock", part_path(Path("r.ome.tif.scratch")).name]
    write(tmp_path / "r.ome.tif", 3, maps=False)
    assert names(tmp_path) == ["r.ome.tif"]


def test_committing_twice_is_a_bug(tmp_path):
    with create_output(tmp_path / "r.png", make_spec()) as output:
        fill(output, 1)
        output.commit()
        with pytest.raises(ValueError, match="is closed"):
            output.commit()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_second_writer_of_one_name_is_refused_and_disturbs_nothing(tmp_path, suffix):
    path = tmp_path / f"r{suffix}"
    with create_output(path, make_spec(), block=256) as first:
        fill(first, 1)
        before = names(tmp_path)
        with pytest.raises(UserInputError, match="is being written by another process; expected one writer"):
            create_output(path, make_spec(), overwrite=True)
        assert names(tmp_path) == before
        first.commit()
    assert value_of(path) == 1
    write(path, 2, overwrite=True)
    assert value_of(path) == 2


def test_a_writer_in_another_process_counts_until_it_dies(tmp_path):
    program = textwrap.dedent(
        """
        import sys, numpy as np
        from hybridfusion_core.stack import Channel
        from hybridfusion_core.io.create import create_output
        from hybridfusion_core.io.result_spec import ResultSpec
        output = create_output(sys.argv[1], ResultSpec("r", (1, 1, 20, 30), np.dtype("u1"), (Channel("0"),)))
        print("open", flush=True)
        sys.stdin.read()
        """
    )
    words = [sys.executable, "-c", program, str(tmp_path / "r.ome.zarr")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:  # noqa: S603
        assert child.stdout.readline() == b"open\n"
        with pytest.raises(UserInputError, match="is being written by another process"):
            write(tmp_path / "r.ome.zarr", 1)
        child.kill()
    write(tmp_path / "r.ome.zarr", 1)
    assert names(tmp_path) == ["r.maps.ome.zarr", "r.ome.zarr"]


def sources():
    return [textured_stack((2, 520, 40), "uint8", seed) for seed in (1, 2)]


FUSION = {"method": "tenengrad", "z_step_um": 1.0, "threads": 1}
# Warms up once, then for each line it is given forks a child that fuses now one source, now the other, for ever.
ENDLESS = """
import itertools, os, sys
import torch
torch.set_num_threads(1)
sys.path[:0] = [sys.argv[2], sys.argv[2] + "/io"]
from test_atomic import FUSION, sources
import hybridfusion_core as hf
from hybridfusion_core.io.zarr.ngff_writing import label_attributes
made = sources()
label_attributes(hf.fuse(made[0], **FUSION).spec, "decision", "0.5")
for _ in sys.stdin:
    child = os.fork()
    if not child:
        for index in itertools.count():
            hf.fuse_to(made[index % 2], sys.argv[1], overwrite=True, **FUSION)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are made by fork")
@pytest.mark.parametrize(
    ("suffix", "kills"),
    [
        (".ome.zarr", 10),
        (".ome.tif", 8),
        pytest.param(".ome.zarr", 50, marks=pytest.mark.slow),
        pytest.param(".ome.tif", 40, marks=pytest.mark.slow),
    ],
)
def test_a_kill_at_any_moment_leaves_the_old_result_or_the_new_one(tmp_path, suffix, kills):
    path, maps = tmp_path / f"r{suffix}", tmp_path / f"r.maps{suffix}"
    expected = [hf.fuse(source, **FUSION) for source in sources()]
    hf.fuse_to(sources()[0], path, **FUSION)
    delays = np.random.default_rng(0).uniform(0.02, 0.4, kills)
    words = [sys.executable, "-c", ENDLESS, str(path), str(Path(__file__).parents[1])]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:  # noqa: S603
        for delay in delays:
            print(file=parent.stdin, flush=True)
            child = int(parent.stdout.readline())
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
            assert parent.stdout.readline() == "gone\n"
            if not path.exists():
                # Between two renames: nothing opens as a result, and the next start puts the old one back.
                create_output(path, expected[0].spec, overwrite=True).__exit__(None, None, None)
            assert verify(path) == []
            with open_stack(path) as fused, open_stack(maps) as others:
                read = [stack.read(0, 0, [0], slice(0, 520), slice(0, 40))[0] for stack in (fused, others)]
            (which,) = (one for one in expected if np.array_equal(one.fused, read[0]))
            np.testing.assert_array_equal(read[1], which.arrays["maps"][0, 0, 0])
    write(path, 1, overwrite=True)
    assert not [name for name in names(tmp_path) if name.startswith(".")]


@pytest.fixture
def little_room():
    """Let no file grow beyond 20 kB: the system then fails as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_explained_and_leaves_the_old_result(tmp_path, suffix, request):
    write(tmp_path / f"r{suffix}", 1)
    before = names(tmp_path)
    noise = np.random.default_rng(0).integers(0, 255, (300, 300)).astype(np.uint8)
    spec = ResultSpec("r", (1, 1, 300, 300), np.dtype("uint8"), (Channel("0"),))
    request.getfixturevalue("little_room")

    def write_much():
        with create_output(tmp_path / f"r{suffix}", spec, block=512, overwrite=True) as output:
            output.arrays["fused"][0, 0, 0] = noise
            output.commit()

    with pytest.raises(UserInputError, match=r"no room left for .*expected enough.*input is untouched: free some"):
        write_much()
    assert names(tmp_path) == before
    assert value_of(tmp_path / f"r{suffix}") == 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_recognised_behind_the_error_of_a_library(code):
    def fail():
        try:
            raise OSError(code, os.strerror(code))
        except OSError as error:
            raise ValueError("a codec failed") from error

    with pytest.raises(UserInputError, match=r"no room left for r\.ome\.zarr"), explained(Path("r.ome.zarr")):
        fail()
    with pytest.raises(ValueError, match="another"), explained(Path("r.ome.zarr")):
        raise ValueError("another")


def test_what_the_system_forbids_is_explained(tmp_path):
    with pytest.raises(UserInputError, match="too long for this disk"):
        create_output(tmp_path / ("r" * 247 + ".ome.tif"), make_spec())
    with pytest.raises(UserInputError, match=r"may not be written .*write r\.png to another"):  # noqa: SIM117
        with explained(tmp_path / "r.png", creating=True):
            raise PermissionError(errno.EACCES, "no")
    assert names(tmp_path) == []


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "new folder" / "record.json"
    write_whole(path, b"old", durable=True)

    def full(*_):
        raise OSError("full")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="full"):
            write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(path.parent) == ["record.json"]
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
