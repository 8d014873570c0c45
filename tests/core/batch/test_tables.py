"""Tables of an input plate are kept, and what only looks like tables is not."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import zarr
from plate_makers import write_group, write_zarr_plate

from hybridfusion_core.batch.choices import Choices
from hybridfusion_core.batch.fuse_field import fuse_unit
from hybridfusion_core.batch.output import tables
from hybridfusion_core.batch.output.format import OutputFormat
from hybridfusion_core.batch.output.plate import Publisher
from hybridfusion_core.batch.records.paths import BatchPaths, key_of
from hybridfusion_core.batch.records.store import begin_session, read_json
from hybridfusion_core.batch.task import Settings, Task
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.io.verify import verify
from hybridfusion_core.plates.open import open_plate
from hybridfusion_core.plates.plate import Plate

REQUEST = make_request(method="tenengrad", device="cpu", threads=1, tile=64)


def with_tables(folder: Path, ngff: str) -> Path:
    """A plate with a table of regions at its root and at one image, as anndata and as CSV."""
    write_zarr_plate(folder, ngff, wells=("B/03",), shape=(1, 2, 3))
    for at in (folder, folder / "B" / "03" / "0"):
        write_group(at / "tables", {}, ngff)
        group = zarr.open_group(str(at / "tables"))
        group.attrs["tables"] = ["rois", "cells"]
        rois = group.create_group("rois")
        rois.attrs.update({"type": "roi_table", "fractal_table_version": "1"})
        rois.create_array("X", data=np.arange(6, dtype="float32").reshape(2, 3))
        named = np.array(["FOV_1", "FOV_µ2"], dtype=np.dtypes.StringDType())
        rois.create_array("_index", data=named).attrs["encoding-type"] = "string-array"
        group.create_group("cells").attrs["type"] = "feature_table"
        (at / "tables" / "cells" / "table.csv").write_text("label,area\n1,9\n", encoding="utf-8")
    return folder


def fused(plate: Plate, tmp_path: Path, ngff: str) -> tuple[BatchPaths, Publisher]:
    paths = BatchPaths(tmp_path / f"out{ngff}.ome.zarr")
    begin_session(paths, "session")
    paths.staging.mkdir(exist_ok=True)
    settings = Settings(
        Choices(paths.output, REQUEST, output_format=OutputFormat(ngff=ngff)), "session", block=128, z_chunk=4
    )
    publisher = Publisher(plate, paths, ngff)
    for unit in plate.fields():
        assert fuse_unit(Task(unit), settings).status == "done"
        record = read_json(paths.record(key_of(unit), 0))
        publisher.add(key_of(unit), [record], fresh=True)
    publisher.publish()
    return paths, publisher


def contents(path: Path) -> dict[str, bytes]:
    return {str(each.relative_to(path)): each.read_bytes() for each in sorted(path.rglob("*")) if each.is_file()}


@pytest.mark.parametrize("given", ["0.4", "0.5"])
@pytest.mark.parametrize("wanted", ["0.4", "0.5"])
def test_tables_of_plate_and_images_are_kept(given: str, wanted: str, tmp_path: Path) -> None:
    folder = with_tables(tmp_path / "in.zarr", given)
    before = contents(folder)
    paths, publisher = fused(open_plate(folder), tmp_path, wanted)
    assert publisher.warnings == {}
    for inside in ("tables", "B/03/0/tables"):
        if given == wanted:
            assert contents(paths.output / inside) == contents(folder / inside)
        # Through the group above them, as readers go.
        found = zarr.open_group(str(paths.output), mode="r")[inside]
        assert found.attrs["tables"] == ["rois", "cells"]
        assert found["rois"].attrs["type"] == "roi_table"
        assert np.array_equal(found["rois/X"][:], np.arange(6, dtype="float32").reshape(2, 3))
        assert list(found["rois/_index"][:]) == ["FOV_1", "FOV_µ2"]
        assert found["rois/_index"].attrs["encoding-type"] == "string-array"
        assert (paths.output / inside / "cells" / "table.csv").read_text(encoding="utf-8") == "label,area\n1,9\n"
    assert not (paths.output / "B" / "03" / "1" / "tables").exists()
    assert verify(paths.output) == []
    assert contents(folder) == before


def hostile_link(folder: Path) -> None:
    (folder / "secret").symlink_to("/etc/passwd")


def hostile_folder(folder: Path) -> None:
    (folder / "rois").rename(folder.parent / "elsewhere")
    (folder / "rois").symlink_to(folder.parent / "elsewhere")


def hostile_pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def hostile_size(folder: Path) -> None:
    with (folder / "large").open("wb") as stream:
        stream.truncate(1 << 40)


def hostile_metadata(folder: Path) -> None:
    for name in (".zattrs", "zarr.json"):
        if (folder / "rois" / name).exists():
            (folder / "rois" / name).write_bytes(b"\xff{")


@pytest.mark.parametrize(
    "spoil",
    [hostile_link, hostile_folder, hostile_pipe, hostile_size, hostile_metadata],
    ids=lambda each: each.__name__,
)
def test_hostile_tables_are_left_out_and_the_field_is_fused(spoil: object, tmp_path: Path) -> None:
    folder = with_tables(tmp_path / "in.zarr", "0.4")
    spoil(folder / "B" / "03" / "0" / "tables")
    paths, publisher = fused(open_plate(folder), tmp_path, "0.5")
    (warning,) = publisher.warnings.values()
    assert "by hand" in warning
    assert not (paths.output / "B" / "03" / "0" / "tables").exists()
    assert (paths.output / "tables").exists()
    assert verify(paths.output) == []


class Evil:
    def __reduce__(self) -> object:
        return (os.mkdir, (os.environ["TRAP"],))


def test_nothing_in_untrusted_tables_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = tmp_path / "trap"
    monkeypatch.setenv("TRAP", str(trap))
    folder = with_tables(tmp_path / "in.zarr", "0.4") / "tables" / "rois" / "_index"
    described = json.loads((folder / ".zarray").read_bytes())
    described["filters"], described["compressor"] = [{"id": "pickle", "protocol": 5}], None
    (folder / ".zarray").write_text(json.dumps(described), encoding="utf-8")
    for chunk in folder.glob("[0-9]*"):
        chunk.write_bytes(pickle.dumps(Evil()))
    said = tables.copy_tables(folder.parents[1], tmp_path / "tables", tmp_path / "scratch", "0.5")
    assert "its codecs are 'pickle'" in said
    assert not trap.exists()
    assert not (tmp_path / "tables").exists()
    assert not (tmp_path / "scratch").exists()


def test_tables_follow_an_image_that_is_fused_again(tmp_path: Path) -> None:
    folder = with_tables(tmp_path / "in.zarr", "0.5")
    plate = open_plate(folder)
    paths, _ = fused(plate, tmp_path, "0.5")
    inside = Path("B/03/0/tables/cells/table.csv")
    (folder / inside).write_text("label,area\n1,10\n", encoding="utf-8")
    fused(plate, tmp_path, "0.5")
    assert (paths.output / inside).read_bytes() == (folder / inside).read_bytes()
