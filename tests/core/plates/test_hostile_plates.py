"""Metadata and names from untrusted files: nothing outside the plate is read, nothing hangs, memory is bounded."""

import os
import re
from pathlib import Path

import plate_makers as make
import pytest
from plate_makers import numbers

from hybridfusion_core.errors import HybridFusionError, StoredDataError, UserInputError
from hybridfusion_core.plates.field_stack import open_field
from hybridfusion_core.plates.layouts import pattern as user_pattern
from hybridfusion_core.plates.layouts.pattern import parse_pattern
from hybridfusion_core.plates.open import open_plate

WHICH = make.places(wells=((2, 3),), fields=(1, 2))
HURT = (2, 3, 2, 0, 2, 2)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """An image beside the plate that nobody may be led to."""
    path = tmp_path / "secret" / "secret.tif"
    make.write_plane(path, 4242)
    return path


@pytest.mark.parametrize(
    "named",
    [
        "../../secret/secret.tif",
        "..\\..\\secret\\secret.tif",
        "{secret}",
        "file://{secret}",
        "../../../../../../etc/passwd",
        "/etc/passwd",
        "secret.tif",
        "nul\\u0001.tif",
        "x" * 5000,
    ],
)
@pytest.mark.parametrize("layout", ["harmony", "yokogawa"])
def test_an_index_cannot_name_a_file_outside_the_plate(tmp_path: Path, secret: Path, layout: str, named: str) -> None:
    named = named.format(secret=secret)
    folder = tmp_path / "plate"
    if layout == "harmony":
        images = make.write_harmony(folder, WHICH)
        listed = [make.harmony_image(each, named if each == HURT else None) for each in WHICH]
        (images / "Index.xml").write_text(make.harmony_index(listed), encoding="utf-8")
    else:
        make.write_yokogawa(folder, WHICH)
        make.write_mlf(folder, (make.mlf_record(each, named if each == HURT else None) for each in WHICH))
    first, second = open_plate(folder).fields()
    assert len(numbers(first)) == 2
    with pytest.raises(StoredDataError, match=r"1 of 3 planes of channel .* are missing"):
        open_field(second)
    planes = [plane.file for unit in (first, second) for planes in unit.frame.planes for plane in planes]
    assert all((folder / file).resolve().is_relative_to(folder.resolve()) for file in planes)


@pytest.mark.parametrize("layout", ["harmony", "yokogawa", "imagexpress", "pattern"])
def test_a_link_out_of_the_plate_fails_its_field(tmp_path: Path, secret: Path, layout: str) -> None:
    folder = tmp_path / "plate"
    write, called, pattern = {
        "harmony": (make.write_harmony, make.harmony_name, None),
        "yokogawa": (make.write_yokogawa, make.yokogawa_name, None),
        "imagexpress": (make.write_imagexpress, make.imagexpress_name, None),
        "pattern": (make.write_plain, make.plain_name, make.PLAIN),
    }[layout]
    victim = write(folder, WHICH) / called(*HURT)
    victim.unlink()
    victim.symlink_to(secret)
    first, second = open_plate(folder, pattern=pattern).fields()
    assert len(numbers(first)) == 2
    with pytest.raises(StoredDataError, match=r"is a link that leads out of the folder of the plate; expected a file"):
        open_field(second)


def test_a_link_inside_the_plate_is_a_file_like_any_other(tmp_path: Path) -> None:
    folder = make.write_plain(tmp_path, WHICH)
    victim = folder / make.plain_name(*HURT)
    (folder / "elsewhere").mkdir()
    victim.rename(folder / "elsewhere" / "moved.tif")
    victim.symlink_to(folder / "elsewhere" / "moved.tif")
    _, second = open_plate(folder, pattern=make.PLAIN).fields()
    assert numbers(second)[1][1] == make.value(*HURT)


def test_a_plane_that_becomes_a_link_after_the_plate_was_opened_is_not_followed(tmp_path: Path, secret: Path) -> None:
    folder = make.write_plain(tmp_path / "plate", WHICH)
    _, second = open_plate(folder, pattern=make.PLAIN).fields()
    victim = folder / make.plain_name(*HURT)
    victim.unlink()
    victim.symlink_to(secret)
    with pytest.raises(StoredDataError, match="leads out of the folder"):
        open_field(second)


def test_folders_behind_links_are_not_entered(tmp_path: Path) -> None:
    folder = make.write_plain(tmp_path / "plate", WHICH)
    (folder / "circle").symlink_to(folder)
    make.write_plain(tmp_path / "other", make.places(wells=((5, 5),)))
    (folder / "out").symlink_to(tmp_path / "other")
    assert [well.name for well in open_plate(folder, pattern=make.PLAIN).wells] == ["B03"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    folder = make.write_plain(tmp_path, WHICH)
    victim = folder / make.plain_name(*HURT)
    victim.unlink()
    os.mkfifo(victim)
    _, second = open_plate(folder, pattern=make.PLAIN).fields()
    with pytest.raises(StoredDataError, match="is a pipe, a socket or a device"):
        open_field(second)


@pytest.mark.parametrize("head", ["<!DOCTYPE a [<!ENTITY b 'c'>]>", "<!DOCTYPE a SYSTEM 'file:///etc/passwd'>"])
@pytest.mark.parametrize("name", ["Index.xml", "MeasurementData.mlf", "MeasurementDetail.mrf"])
def test_an_index_with_a_document_type_is_refused(tmp_path: Path, name: str, head: str) -> None:
    folder = make.write_harmony(tmp_path, WHICH) if name == "Index.xml" else make.write_yokogawa(tmp_path, WHICH)
    path = folder / name
    text = path.read_text()
    path.write_text(text.replace("?>\n", f"?>{head}", 1))
    with pytest.raises(StoredDataError, match=rf"{name} is no plain, well-formed XML .*DTDForbidden.*expected"):
        open_plate(folder)


@pytest.mark.parametrize("name", ["Index.xml", "MeasurementData.mlf"])
def test_an_index_cut_short_is_refused_and_not_believed_in_part(tmp_path: Path, name: str) -> None:
    folder = make.write_harmony(tmp_path, WHICH) if name == "Index.xml" else make.write_yokogawa(tmp_path, WHICH)
    content = (folder / name).read_bytes()
    for length in range(0, len(content) - 1, len(content) // 12):
        (folder / name).write_bytes(content[:length])
        with pytest.raises(StoredDataError, match=r"is no plain, well-formed XML .*copy or export it again\."):
            open_plate(folder)


@pytest.mark.parametrize("number", ["999999999", "99999999999999999999", "-3", "1e9", "٣", "", "0x10", "<b>1</b>"])
@pytest.mark.parametrize("tag", ["Row", "Col", "FieldID", "PlaneID", "TimepointID", "ChannelID", "PlateRows"])
def test_no_number_in_an_index_takes_all_memory(tmp_path: Path, tag: str, number: str) -> None:
    images = make.write_harmony(tmp_path, WHICH)
    text = (images / "Index.xml").read_text(encoding="utf-8")
    (images / "Index.xml").write_text(re.sub(f"<{tag}>.*?</{tag}>", f"<{tag}>{number}</{tag}>", text, count=1))
    plate = open_plate(tmp_path)
    assert len(list(plate.fields())) < 10
    assert plate.rows <= 100
    assert plate.columns <= 100


@pytest.mark.parametrize("key", ["XWells", "YWells", "ZSteps", "TimePoints", "NWavelengths", "XSites"])
def test_no_number_in_an_htd_file_takes_all_memory(tmp_path: Path, key: str) -> None:
    folder = make.write_imagexpress(tmp_path, WHICH)
    content = (folder / "screen.HTD").read_bytes()
    for number in (b"999999999", b"9999", b"-1", b"x"):
        changed = re.sub(rb'"%s", \d+' % key.encode(), b'"%s", %s' % (key.encode(), number), content)
        (folder / "screen.HTD").write_bytes(changed)
        try:
            plate = open_plate(tmp_path)
        except HybridFusionError as error:
            assert "expected" in str(error)  # noqa: PT017 - some numbers may be taken, some refused
        else:
            assert len(list(plate.fields())) < 30_000


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b'"HTS', b'"XWells", 12\r\n', b"\xff\xfe" * 50])
def test_an_htd_file_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = make.write_imagexpress(tmp_path, WHICH)
    (folder / "screen.HTD").write_bytes(content)
    with pytest.raises(StoredDataError, match=r"screen\.HTD does not begin with HTSInfoFile.*expected.*move it away"):
        open_plate(tmp_path)


def bad_well(plate: dict) -> None:
    plate["attributes"]["ome"]["plate"]["wells"][1]["path"] = "../../secret"


def bad_image(well: dict) -> None:
    well["attributes"]["ome"]["well"]["images"][1]["path"] = "../../../secret"


def bad_level(image: dict) -> None:
    image["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = "../../../../secret"


def bad_shape(array: dict) -> None:
    array["shape"][0] = 10**12


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("zarr.json", bad_well, "leads out of the store"),
        ("C/04/zarr.json", bad_image, "leads out of the store"),
        ("C/04/1/zarr.json", bad_level, "leads out of the store"),
        ("C/04/1/0/zarr.json", bad_shape, "expected at least one pixel and at most"),
    ],
)
def test_an_ome_zarr_plate_cannot_lead_out_of_itself(tmp_path: Path, file: str, change: object, message: str) -> None:
    folder = make.write_zarr_plate(tmp_path / "plate" / "p.zarr")
    make.write_zarr_plate(tmp_path / "plate" / "secret")
    make.edit_json(folder / file, change)
    units = list(open_plate(folder).fields())
    broken = [unit for unit in units if unit.frame.defects]
    assert broken
    for unit in broken:
        with pytest.raises(StoredDataError, match=message):
            open_field(unit)
    assert len(units) - len(broken) >= 4


def test_a_link_in_an_ome_zarr_plate_is_not_followed_out_of_it(tmp_path: Path) -> None:
    folder = make.write_zarr_plate(tmp_path / "p.zarr")
    other = make.write_zarr_plate(tmp_path / "other.zarr", wells=("B/03",))
    (folder / "C/04/1").rename(tmp_path / "gone")
    (folder / "C/04/1").symlink_to(other / "B/03/0")
    broken = [unit for unit in open_plate(folder).fields() if unit.frame.defects]
    assert [(unit.well, unit.field) for unit in broken] == [("C04", "1")]
    with pytest.raises(StoredDataError, match="leads out of the store"):
        open_field(broken[0])


@pytest.mark.parametrize(
    "stored", ["", "[]", "{", '{"attributes": {"ome": {"plate": {"wells": 3}}}}', '{"attributes": 3}', "null"]
)
def test_damaged_metadata_of_an_ome_zarr_plate_are_explained(tmp_path: Path, stored: str) -> None:
    folder = make.write_zarr_plate(tmp_path / "p.zarr")
    (folder / "zarr.json").write_text(stored)
    with pytest.raises(HybridFusionError, match="expected"):
        open_plate(folder)


def test_names_that_would_steer_a_terminal_are_shown_escaped(tmp_path: Path) -> None:
    folder = make.write_plain(tmp_path, WHICH)
    make.write_plane(folder / "thumb_\x1b[31mred.tif", 1)
    (warning,) = open_plate(folder, pattern=make.PLAIN).warnings
    assert "\\x1b[31mred" in warning


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{row}_f{field}.tif", "expected {row} and {column}, or {well}"),
        ("{row}{column}_{colour}.tif", "does not know {colour}"),
        ("{row}{column}{row}.tif", "names twice {row}"),
        ("{row}{column", "a brace without its partner"),
        ("(?P<well>[A-Z]+\\d+", "is no regular expression"),
        ("(?P<site>.*)", "expected {row} and {column}, or {well}"),
        ("(?P<1>x)", "is no regular expression"),
        ("x" * 2000, "has 2000 characters"),
        ("", "tells nothing"),
    ],
)
def test_patterns_that_make_no_sense_are_explained(pattern: str, message: str) -> None:
    with pytest.raises(UserInputError, match=re.escape(message)) as caught:
        parse_pattern(pattern)
    assert "--pattern '{row}{column}" in str(caught.value)


def test_an_expression_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_pattern, "_PATIENCE", 1.0)
    make.write_plane(tmp_path / ("A" * 40 + "!01.tif"), 1)
    with pytest.raises(
        UserInputError, match=r"has not come to an end after 1 s; expected fewer '\*', and no repetition inside"
    ):
        open_plate(tmp_path, pattern=r"(?P<well>(A|A|AA)+\d\d)\.tif")


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?P<row>[A-P])(?P<col>\d\d)_f(?P<f>\d+)_t(?P<t>\d)_z(?P<z>\d+)_c(?P<c>\d+)\.tif",
        r"(?P<Well>[A-P]\d\d)_f(?P<FIELD>\d+)_t(?P<time>\d)_z(?P<Z>\d+)_c(?P<channel>\d+)\.tif",
        "{well}_f{field:02}_t{t}_z{z:02d}_c{c}.tif",
        "{row}{col}_f{f}_t{time}_z{z}_c{channel}.tif",
        "*{well}_f{field}_*_z{z}_c{channel}.tif",
    ],
)
def test_patterns_may_be_templates_or_expressions(tmp_path: Path, pattern: str) -> None:
    folder = make.write_plain(tmp_path, WHICH)
    expected = [numbers(unit) for unit in open_plate(folder, pattern=make.PLAIN).fields()]
    assert [numbers(unit) for unit in open_plate(folder, pattern=pattern).fields()] == expected


def test_a_pattern_with_a_folder_in_it_fits_paths(tmp_path: Path) -> None:
    for z in (1, 2):
        make.write_plane(tmp_path / "DAPI" / f"z{z}" / "B02.tif", z)
    plate = open_plate(tmp_path, pattern="{channel}/z{z}/{well}.tif")
    assert [channel.name for channel in plate.imaging.channels] == ["DAPI"]
    assert [numbers(unit) for unit in plate.fields()] == [[[1, 2]]]


def test_a_pattern_that_fits_nothing_shows_what_is_there(tmp_path: Path) -> None:
    make.write_plane(tmp_path / "scan-B02-1.tif", 1)
    with pytest.raises(UserInputError, match=r"fits none of 1 image files .*The first file is 'scan-B02-1\.tif'"):
        open_plate(tmp_path, pattern="{well}_{z}.tif")
    make.write_plane(tmp_path / "B02_x.tif", 1)
    with pytest.raises(UserInputError, match="finds 'x' as z in"):
        open_plate(tmp_path, pattern=r"(?P<well>\w\d\d)_(?P<z>.)\.tif")


def test_several_plates_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make.write_plane(tmp_path / f"{name}_B02_z1.tif", 1)
        make.write_imagexpress(tmp_path / "ix" / name, WHICH)
    with pytest.raises(UserInputError, match=r"finds 2 plates, such as \['one', 'two'\]; expected one"):
        open_plate(tmp_path, pattern="{plate}_{well}_z{z}.tif")
    with pytest.raises(UserInputError, match=r"holds 2 plates, described by one/screen\.HTD, two/screen\.HTD"):
        open_plate(tmp_path / "ix")


@pytest.mark.parametrize("name", ["missing", "notes.txt", "image.zarr"])
def test_what_is_no_plate_is_explained(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("x")
    make.write_group(tmp_path / "image.zarr", {"multiscales": []}, "0.5")
    with pytest.raises(
        UserInputError, match="expected a plate: an OME-Zarr plate, the folder of a microscope's export"
    ):
        open_plate(tmp_path / name)
