"""Results as files: each under its own name, with what belongs to it, listed for CellProfiler when it is whole."""

import csv
import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from distributed import Client, LocalCluster
from hypothesis import given
from hypothesis import strategies as st
from plate_makers import PLAIN, write_harmony, write_plain
from plate_makers import places as plane_places

from hybridfusion_core.batch.choices import Choices
from hybridfusion_core.batch.output.file_names import NameTemplate
from hybridfusion_core.batch.output.format import OutputFormat, make_output_format
from hybridfusion_core.batch.output.verify import holds_files, verify_files
from hybridfusion_core.batch.result import Result
from hybridfusion_core.batch.run import Connect, run_plate
from hybridfusion_core.cli import main
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.api import fuse
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.plates.field_stack import open_field
from hybridfusion_core.plates.open import open_plate
from hybridfusion_core.plates.plate import Frame, Imaging, Plate, PlateField
from hybridfusion_core.plates.select import Selection, select
from hybridfusion_core.stack import Channel

TENENGRAD = make_request(method="tenengrad", device="cpu", tile=16)
EACH = make_request(method="tenengrad", device="cpu", tile=16, focus_from="each")


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


def a_plate(tmp_path: Path, **which: object) -> Plate:
    return open_plate(write_harmony(tmp_path / "in", plane_places(**which)))


def run(
    plate: Plate, output: Path, connect: Connect, output_format: OutputFormat, request: object = TENENGRAD
) -> Result:
    choices = Choices(output, request, output_format=output_format)
    return run_plate(plate, select(plate, Selection()), choices, connect)


def table(output: Path) -> list[dict[str, str]]:
    with (output / "load_data.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("kind", [pytest.param("tiff", marks=pytest.mark.slow), "ome-tiff"])
def test_every_channel_has_a_file_and_what_fuse_gives(kind: str, tmp_path: Path, connect: Connect) -> None:
    plate = a_plate(tmp_path, times=(0, 1))
    assert run(plate, tmp_path / "out", connect, make_output_format(kind)).fused == 8
    rows = table(tmp_path / "out")
    assert len(rows) == 8
    suffix = {"tiff": ".tif", "ome-tiff": ".ome.tif"}[kind]
    assert rows[1]["Image_ObjectsFileName_Decision_DAPI"] == f"PHX-7_B03_T0001F001C01.decision{suffix}"
    assert {name: cell for name, cell in rows[1].items() if "Objects" not in name} == {
        "Image_FileName_DAPI": f"PHX-7_B03_T0001F001C01{suffix}",
        "Image_PathName_DAPI": str(tmp_path / "out"),
        "Image_FileName_Brightfield": f"PHX-7_B03_T0001F001C02{suffix}",
        "Image_PathName_Brightfield": str(tmp_path / "out"),
        "Metadata_Plate": "PHX-7",
        "Metadata_Well": "B03",
        "Metadata_Site": "1",
        "Metadata_Timepoint": "1",
    }
    for unit, row in zip(plate.fields(), rows, strict=True):
        with open_field(unit) as stack:
            expected = fuse(stack, method="tenengrad", tile=16)
        for channel, name in enumerate(("DAPI", "Brightfield")):
            path = tmp_path / "out" / row[f"Image_FileName_{name}"]
            assert np.array_equal(tifffile.imread(path).squeeze(), expected.fused[0, channel, 0])
        if kind == "ome-tiff":
            with open_stack(path) as stack:
                assert stack.channels[0].name == "Brightfield"
                assert stack.y.step_um == pytest.approx(0.296)
    assert verify_files(tmp_path / "out") == []
    assert {each.name for each in (tmp_path / "out").iterdir() if each.name.startswith(".")} == set()


@pytest.mark.parametrize("request_", [TENENGRAD, EACH])
def test_decisions_and_maps_stand_beside_the_channel_that_they_belong_to(
    request_: object, tmp_path: Path, connect: Connect
) -> None:
    plate = a_plate(tmp_path, wells=((2, 3),), fields=(1,))
    run(plate, tmp_path / "out", connect, make_output_format("tiff", name="{well}_{channel_name}.tif"), request_)
    with open_field(next(plate.fields())) as stack:
        expected = fuse(stack, method="tenengrad", tile=16, focus_from=request_.focus_from)
    deciders = expected.decision.shape[1]
    for channel, name in enumerate(("DAPI", "Brightfield")[:deciders]):
        decision = tifffile.imread(tmp_path / "out" / f"B03_{name}.decision.tif").squeeze()
        assert np.array_equal(decision, expected.decision[0, channel, 0])
        maps = tifffile.imread(tmp_path / "out" / f"B03_{name}.maps.tif")
        assert np.array_equal(maps, expected.arrays["maps"][0, channel::deciders, 0], equal_nan=True)
    assert (tmp_path / "out" / "B03_Brightfield.decision.tif").exists() == (deciders == 2)


def test_without_a_channel_in_the_name_one_file_holds_all(tmp_path: Path, connect: Connect) -> None:
    plate = a_plate(tmp_path, wells=((2, 3),))
    run(plate, tmp_path / "out", connect, make_output_format("ome-tiff", name="{well}-{field:02}.ome.tif"))
    with open_stack(tmp_path / "out" / "B03-02.ome.tif") as stack:
        assert stack.shape[:3] == (1, 2, 1)
    assert [row["Image_FileName_fused"] for row in table(tmp_path / "out")] == ["B03-01.ome.tif", "B03-02.ome.tif"]


def test_running_again_does_what_is_missing_and_nothing_else(tmp_path: Path, connect: Connect) -> None:
    plate = a_plate(tmp_path)
    run(plate, tmp_path / "out", connect, make_output_format("tiff"))
    before = {each.name: each.read_bytes() for each in (tmp_path / "out").iterdir()}
    assert run(plate, tmp_path / "out", connect, make_output_format("tiff")).kept == 4
    (tmp_path / "out" / "PHX-7_B03_T0000F001C02.tif").unlink()
    assert verify_files(tmp_path / "out") == ["PHX-7_B03_T0000F001C02.tif is missing"]
    again = run(plate, tmp_path / "out", connect, make_output_format("tiff"))
    assert (again.fused, again.kept) == (1, 3)
    assert {each.name: each.read_bytes() for each in (tmp_path / "out").iterdir()} == before
    with pytest.raises(UserInputError, match="name: "):
        run(plate, tmp_path / "out", connect, make_output_format("tiff", name="{well}_{field}_{channel}.tif"))


def test_a_broken_field_is_in_no_list(tmp_path: Path, connect: Connect) -> None:
    plate = a_plate(tmp_path)
    broken = next(plate.fields())
    (Path(plate.folder) / broken.frame.planes[0][1].file).write_bytes(b"II*\0")
    assert len(run(plate, tmp_path / "out", connect, make_output_format("tiff")).failures) == 1
    assert len(table(tmp_path / "out")) == 3
    assert not list((tmp_path / "out").glob("*B03*F001*"))


def test_verify_finds_what_is_damaged_and_what_a_stranger_wrote(
    tmp_path: Path, connect: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    plate = a_plate(tmp_path, wells=((2, 3),))
    run(plate, tmp_path / "out", connect, make_output_format("tiff"))
    assert holds_files(tmp_path / "out")
    assert not holds_files(tmp_path / "in")
    assert main(["verify", str(tmp_path / "out")]) == 0
    (tmp_path / "out" / "PHX-7_B03_T0000F002C01.maps.tif").unlink()
    cut = tmp_path / "out" / "PHX-7_B03_T0000F001C01.tif"
    cut.write_bytes(cut.read_bytes()[:-60])
    assert main(["verify", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "F002C01.maps.tif is missing" in said
    assert cut.name in said
    record = next((tmp_path / "out.hybridfusion" / "units").rglob("*.json"))
    stored = json.loads(record.read_bytes())
    record.write_text(json.dumps(stored | {"files": {"a": "../../secret.tif"}}), encoding="utf-8")
    assert any("names '../../secret.tif'" in each for each in verify_files(tmp_path / "out"))


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("tiff", "{well}_{channel}.png", r"does not end in \.tif"),
        ("tiff", "{well}_{channel}.ome.tif", r"does not end in \.tif"),
        ("ome-tiff", "{well}_{channel}.tif", r"does not end in \.ome\.tif"),
        ("tiff", "../{well}{field}{channel}.tif", "no part of a file's name"),
        ("tiff", "a\\{well}{field}{channel}.tif", "no part of a file's name"),
        ("tiff", "{well}:{field}{channel}.tif", "no part of a file's name"),
        ("tiff", "\n{well}{field}{channel}.tif", "no part of a file's name"),
        ("tiff", ".{well}{field}{channel}.tif", "begins with"),
        ("tiff", "{well.__class__}.tif", "unknown"),
        ("tiff", "{site}_{channel}.tif", "unknown"),
        ("tiff", "{well!r}_{channel}.tif", "unknown"),
        ("tiff", "{}_{channel}.tif", "unknown"),
        ("tiff", "{t:9999999}_{channel}.tif", "only :02 to :09"),
        ("tiff", "{t:{well}}_{channel}.tif", "only :02 to :09"),
        ("tiff", "{well_{channel}.tif", "cannot be understood|unknown"),
        ("tiff", "{well}_{channel}.tif", "gives B03 field 1 time 0 and B03 field 2 time 0 one name"),
        ("tiff", "{field}_{channel}.tif", "one name"),
        ("tiff", "x" * 200 + "{well}{field}{channel}.tif", "more than 200 bytes"),
    ],
)
def test_names_are_looked_at_before_anything_is_written(
    kind: str, name: str, said: str, tmp_path: Path, connect: Connect
) -> None:
    plate = a_plate(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserInputError, match=said):
        run(plate, tmp_path / "out", connect, make_output_format(kind, name=name))
    assert sorted(tmp_path.rglob("*")) == before


def test_the_options_belong_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_plain(tmp_path / "in", plane_places())
    for output, words, said in (
        ("out.ome.zarr", ["--format", "tiff"], "called like an image"),
        ("out", [], "ends in .ome.zarr"),
        ("out.ome.zarr", ["--name", "{well}.tif"], "names its images itself"),
        ("out", ["--format", "tiff", "--ngff", "0.4"], "no OME-Zarr"),
        ("out", ["--format", "tiff", "--name", "{well}.tif"], "one name"),
    ):
        command = ["batch", str(folder), str(tmp_path / output), "--pattern", PLAIN, "--dry-run", *words]
        assert main(command) == 2
        assert said in capsys.readouterr().err


def test_a_folder_that_no_batch_began_is_refused(tmp_path: Path, connect: Connect) -> None:
    plate = a_plate(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(UserInputError, match="no batch began it"):
        run(plate, tmp_path / "out", connect, make_output_format("tiff"))
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["mine"]


def a_unit(**changes: object) -> PlateField:
    imaging = Imaging((Channel("DAPI"), Channel("Alexa 488/../x")))
    return replace(PlateField("/in", "plate 7", "B", "3", "1", 0, Frame("0", (3, 3)), imaging), **changes)


def test_numbers_are_padded_and_names_are_tamed() -> None:
    template = NameTemplate(
        "{plate}_{well}_{row}{column:03}_T{t:04}F{field:03}C{channel:02}-{channel_name}.tif", ".tif"
    )
    assert template.names(a_unit(), (0, 1)) == (
        "plate_7_B03_B003_T0000F001C01-DAPI.tif",
        "plate_7_B03_B003_T0000F001C02-Alexa_488_x.tif",
    )
    assert template.labels(a_unit(), (0, 1)) == ("DAPI", "Alexa_488_x")


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=400))
def test_untrusted_names_make_one_file_name(plate: str, well: str, field: str) -> None:
    template = NameTemplate("{plate}_{well}_{field:03}_{channel}.tif", ".tif")
    (name,) = template.names(a_unit(plate=plate, row=well, field=field), (0,))
    assert Path(name).name == name
    assert name.isascii()
    assert name.isprintable()
    assert not name.startswith((".", "/"))
    assert len(name) < 160


def test_fields_that_a_disk_takes_for_one_are_refused() -> None:
    template = NameTemplate("{well}_{field}.tif", ".tif")
    units = [a_unit(field="a"), a_unit(field="A")]
    with pytest.raises(UserInputError, match="one name"):
        template.check(units, None)
    template.check([a_unit(field="1"), a_unit(field="2")], None)
