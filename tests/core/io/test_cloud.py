"""Plates behind s3:// and https://: read from a real S3 API server and a web server on this computer."""

import functools
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, LocalCluster
from plate_makers import edit_json, numbers, write_zarr_plate

from hybridfusion_core.batch.choices import Choices
from hybridfusion_core.batch.fitness import unfit
from hybridfusion_core.batch.result import Result
from hybridfusion_core.batch.run import Connect, run_plate
from hybridfusion_core.batch.task import Settings
from hybridfusion_core.cli import batch_run, main
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.io.zarr.source import is_url
from hybridfusion_core.plates.field_stack import open_field
from hybridfusion_core.plates.open import open_plate
from hybridfusion_core.plates.plate import Plate
from hybridfusion_core.plates.select import Selection, select

REASON = "the extra 'cloud' and moto are not installed"
s3fs = pytest.importorskip("s3fs", reason=REASON)
pytest.importorskip("aiohttp", reason=REASON)
server = pytest.importorskip("moto.server", reason=REASON)

TENENGRAD = make_request(method="tenengrad", device="cpu", tile=16)
# Clients keep sockets open until their process ends.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


class Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 server."""
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a web server that shows a temporary folder."""
    (tmp_path / "web").mkdir()
    handler = functools.partial(Quiet, directory=str(tmp_path / "web"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture(scope="module")
def connect() -> Iterator[Connect]:
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
        ) as cluster,
        Client(cluster) as client,
    ):
        yield lambda _: nullcontext(client)


class Bucket:
    """Where a plate is uploaded to, and what is there."""

    def __init__(self, name: str) -> None:
        self.files = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
        self.name = name
        self.files.mkdir(name)
        self.url = f"s3://{name}/plates/in.ome.zarr"

    def put(self, folder: Path) -> str:
        self.files.put(str(folder), self.url[5:], recursive=True)
        return self.url


@pytest.fixture
def bucket(s3: str, request: pytest.FixtureRequest) -> Bucket:
    del s3
    return Bucket(f"b{abs(hash(request.node.name)):x}")


def everywhere(folder: Path, bucket: Bucket, web: str, tmp_path: Path) -> dict[str, str]:
    shutil.copytree(folder, tmp_path / "web" / "in.ome.zarr")
    return {"local": str(folder), "s3": bucket.put(folder), "web": f"{web}/in.ome.zarr"}


def run(plate: Plate, output: Path, connect: Connect) -> Result:
    return run_plate(plate, select(plate, Selection()), Choices(output, TENENGRAD), connect)


def pixels(path: Path) -> dict[str, bytes]:
    return {
        str(each.relative_to(path)): each.read_bytes()
        for each in path.rglob("*")
        if each.is_file() and each.name != "zarr.json"  # which says where the input was
    }


@pytest.mark.parametrize("ngff", [pytest.param("0.4", marks=pytest.mark.slow), "0.5"])
def test_a_plate_is_the_same_wherever_it_is(
    ngff: str, bucket: Bucket, web: str, tmp_path: Path, connect: Connect
) -> None:
    folder = write_zarr_plate(tmp_path / "in.ome.zarr", ngff)
    places = everywhere(folder, bucket, web, tmp_path)
    plates = {kind: open_plate(place) for kind, place in places.items()}
    expected = plates["local"]
    for kind, plate in plates.items():
        assert plate.wells == expected.wells
        assert (plate.name, plate.imaging, plate.acquisitions) == (
            expected.name,
            expected.imaging,
            expected.acquisitions,
        )
        assert [numbers(unit) for unit in plate.fields()] == [numbers(unit) for unit in expected.fields()]
        assert run(plate, tmp_path / f"{kind}.ome.zarr", connect).fused == 8
        assert run(plate, tmp_path / f"{kind}.ome.zarr", connect).kept == 8
        assert pixels(tmp_path / f"{kind}.ome.zarr") == pixels(tmp_path / "local.ome.zarr")
    described = json.loads((tmp_path / "s3.ome.zarr" / "B" / "03" / "0" / "zarr.json").read_bytes())
    assert described["attributes"]["hybridfusion"]["input"] == [{"name": f"{places['s3']}/B/03/0"}]


def test_what_changed_behind_the_url_is_fused_again(bucket: Bucket, tmp_path: Path, connect: Connect) -> None:
    folder = write_zarr_plate(tmp_path / "in.ome.zarr", "0.5", wells=("B/03",), shape=(1, 1, 3))
    plate = open_plate(bucket.put(folder))
    assert run(plate, tmp_path / "out.ome.zarr", connect).fused == 2
    chunk = f"{bucket.url[5:]}/B/03/0/0/c/0/0/0/0/0"
    content = bucket.files.cat_file(f"{bucket.url[5:]}/B/03/1/0/c/0/0/0/0/0")
    assert content != bucket.files.cat_file(chunk)
    bucket.files.pipe_file(chunk, content)
    assert run(plate, tmp_path / "out.ome.zarr", connect).fused == 1


def test_a_chunk_that_is_not_there_is_no_black_slice(
    bucket: Bucket, web: str, tmp_path: Path, connect: Connect
) -> None:
    folder = write_zarr_plate(tmp_path / "in.ome.zarr", "0.5", wells=("B/03",), shape=(1, 1, 3))
    (folder / "B" / "03" / "1" / "0" / "c" / "0" / "0" / "1" / "0" / "0").unlink()
    for kind, place in everywhere(folder, bucket, web, tmp_path).items():
        result = run(open_plate(place), tmp_path / f"{kind}.ome.zarr", connect)
        assert result.fused == 1
        ((unit, reason),) = result.failures
        assert unit.field == "1"
        assert "no chunk of the slice at" in reason


def test_metadata_lead_nowhere_else(bucket: Bucket, tmp_path: Path) -> None:
    folder = write_zarr_plate(tmp_path / "in.ome.zarr", "0.5", wells=("B/03",), shape=(1, 1, 3))

    def change(stored: dict) -> None:
        stored["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = "../../../../other/0"

    edit_json(folder / "B" / "03" / "0" / "zarr.json", change)
    units = list(open_plate(bucket.put(folder)).fields())
    assert ["leads out of the store" in each.message for unit in units for each in unit.frame.defects] == [True]
    with open_field(units[1]) as stack:
        assert np.asarray(stack.read(0, 0, [0], slice(0, 4), slice(0, 4))).shape == (1, 4, 4)


@pytest.mark.parametrize("what", ["nothing", "no bucket", "nobody", "text"])
def test_what_is_no_plate_is_refused(what: str, bucket: Bucket, web: str, tmp_path: Path) -> None:
    (tmp_path / "web" / "zarr.json").write_text("hello", encoding="utf-8")
    url = {
        "nothing": bucket.url,
        "no bucket": "s3://there-is-none/plate.zarr",
        "nobody": "http://127.0.0.1:1/plate.zarr",
        "text": f"{web}/",
    }[what]
    with pytest.raises(Exception, match=r"; expected .*\. \w+") as found:
        open_plate(url if what != "text" else f"{web}/.")
    assert found.type.__module__ == "hybridfusion_core.errors"


def test_workers_that_do_not_see_the_url_say_so(bucket: Bucket, tmp_path: Path) -> None:
    from hybridfusion_core.batch.records.store import begin_session

    settings = Settings(Choices(tmp_path / "out.ome.zarr", TENENGRAD), "session")
    begin_session(settings.paths, "session")
    assert "does not see the plate" in str(unfit(settings, bucket.url))
    bucket.put(write_zarr_plate(tmp_path / "in.ome.zarr", wells=("B/03",)))
    assert unfit(settings, bucket.url) is None


def test_the_command_line_takes_urls_as_input_and_not_as_output(
    bucket: Bucket,
    tmp_path: Path,
    connect: Connect,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch_run, "connected", lambda *_: connect(1))
    url = bucket.put(write_zarr_plate(tmp_path / "in.ome.zarr", wells=("B/03",)))
    words = ["--method", "tenengrad", "--device", "cpu"]
    assert main(["batch", url, str(tmp_path / "out.ome.zarr"), "--dry-run", *words]) == 0
    assert "4 focal stacks" in capsys.readouterr().out
    assert main(["batch", url, str(tmp_path / "out.ome.zarr"), *words]) == 0
    assert main(["verify", str(tmp_path / "out.ome.zarr")]) == 0
    assert main(["batch", url, f"s3://{bucket.name}/out.ome.zarr", *words]) == 2
    assert "is a URL; expected a path" in capsys.readouterr().err


def test_what_is_a_url() -> None:
    assert all(map(is_url, ("s3://bucket/plate.zarr", "https://host/plate.zarr", "http://127.0.0.1:80/a")))
    assert not any(map(is_url, ("plate.zarr", "s3:/plate", "s3://", "file:///etc", "C:/plate", "ftp://a/b")))


def test_a_pattern_behind_a_url_is_refused(bucket: Bucket) -> None:
    with pytest.raises(UserInputError, match="does not tell which files"):
        open_plate(bucket.url, pattern="{well}_z{z}.tif")
