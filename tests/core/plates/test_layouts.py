"""Every layout opens as the same plate: each plane at its own place, with the scale that its metadata state."""

import shutil
from pathlib import Path

import numpy as np
import plate_makers as make
import pytest
import tifffile
from plate_makers import numbers

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.plates.field_stack import open_field
from hybridfusion_core.plates.layouts.table import LAYOUTS
from hybridfusion_core.plates.open import open_plate
from hybridfusion_core.plates.plate import Plate
from hybridfusion_core.plates.select import Selection, select

PLACES = make.places(times=(0, 1))
WRITERS = {
    "harmony 5": lambda folder, which: make.write_harmony(folder, which, 5),
    "harmony 6": lambda folder, which: make.write_harmony(folder, which, 6),
    "harmony 7": lambda folder, which: make.write_harmony(folder, which, 7),
    "yokogawa": make.write_yokogawa,
    "imagexpress": make.write_imagexpress,
    "imagexpress without htd": lambda folder, which: make.write_imagexpress(folder, which, htd=False),
    "pattern": make.write_plain,
}


def opened(name: str, folder: Path) -> Plate:
    return open_plate(folder, pattern=make.PLAIN if name == "pattern" else None)


@pytest.mark.parametrize("name", WRITERS)
def test_every_plane_comes_to_its_own_place(tmp_path: Path, name: str) -> None:
    plate = opened(name, WRITERS[name](tmp_path, PLACES))
    assert [well.name for well in plate.wells] == ["B03", "B04"]
    assert [(well.row_index, well.column_index) for well in plate.wells] == [(1, 2), (1, 3)]
    units = list(plate.fields())
    assert len(units) == 2 * 2 * 2
    for unit in units:
        column, field = int(unit.column), int(unit.field)
        expected = [[make.value(2, column, field, unit.t, c, z) for z in (1, 2, 3)] for c in (1, 2)]
        assert numbers(unit) == expected
    assert (plate.imaging.plane, plate.imaging.dtype) == (make.SHAPE, "uint16")
    assert all(unit.frame.defects == () for unit in units)


@pytest.mark.parametrize(
    ("name", "pixel", "step", "names", "transmitted", "position"),
    [
        ("harmony 5", 0.296, 2.0, ["DAPI", "Brightfield"], [False, True], (200.0, 100.0)),
        ("harmony 7", 0.296, 2.0, ["DAPI", "Brightfield"], [False, True], (200.0, 100.0)),
        ("yokogawa", 0.325, 2.5, ["DNA", "BF"], [False, True], (50.0, 100.0)),
        ("imagexpress", 0.7032, 4.0, ["DAPI", "FITC"], [None, None], (20.0, 30.0)),
    ],
)
def test_scale_channels_and_positions_are_those_of_the_metadata(
    tmp_path: Path,
    name: str,
    pixel: float,
    step: float,
    names: list[str],
    transmitted: list[bool | None],
    position: tuple[float, float] | None,
) -> None:
    plate = opened(name, WRITERS[name](tmp_path, PLACES))
    with open_field(next(plate.fields())) as stack:
        assert (stack.y.step_um, stack.x.step_um) == pytest.approx((pixel, pixel))
        assert np.diff(stack.z_um) == pytest.approx([step, step])
        assert [channel.name for channel in stack.channels] == names
        assert [channel.transmitted for channel in stack.channels] == transmitted
    assert plate.wells[0].fields[0].position_um == (None if position is None else pytest.approx(position))
    with open_field(next(plate.fields()), z_step_um=9.0, pixel_size_um=0.1) as stack:
        assert stack.z_um is not None
        assert (stack.z_um[1], stack.x.step_um) == (9.0, 0.1)


def test_a_plate_has_the_size_that_its_metadata_state_or_that_of_a_usual_plate(tmp_path: Path) -> None:
    sizes = {name: opened(name, WRITERS[name](tmp_path / name, PLACES)) for name in WRITERS}
    assert {name: (plate.rows, plate.columns) for name, plate in sizes.items()} == {
        "harmony 5": (8, 12),
        "harmony 6": (8, 12),
        "harmony 7": (8, 12),
        "yokogawa": (16, 24),
        "imagexpress": (8, 12),
        "imagexpress without htd": (3, 4),
        "pattern": (3, 4),
    }


def test_the_folder_its_images_and_the_index_are_three_names_of_one_plate(tmp_path: Path) -> None:
    for version in (6, 7):
        folder = tmp_path / str(version)
        images = make.write_harmony(folder, PLACES, version)
        index = next(folder.rglob("Index*.xml"))
        found = [[(unit.name, unit.frame.slices) for unit in open_plate(each).fields()] for each in (folder, images)]
        assert found[0] == found[1]
        plates = [open_plate(each) for each in (folder, images, index)]
        assert {plate.imaging.channels[0].name for plate in plates} == {"DAPI"}


@pytest.mark.parametrize("name", ["harmony 6", "yokogawa", "imagexpress"])
def test_names_alone_give_the_same_planes_as_the_index(tmp_path: Path, name: str) -> None:
    folder = WRITERS[name](tmp_path, PLACES)
    with_index = {unit.name: numbers(unit) for unit in opened(name, folder).fields()}
    for each in [*folder.glob("*.xml"), *folder.glob("*.mlf"), *folder.glob("*.HTD")]:
        each.unlink()
    plate = open_plate(folder)
    assert plate.metadata == ()
    assert [numbers(unit) for unit in plate.fields()] == list(with_index.values())


def test_a_description_in_every_time_point_is_one_plate(tmp_path: Path) -> None:
    folder = make.write_imagexpress(tmp_path, PLACES)
    content = (folder / "screen.HTD").read_bytes()
    (folder / "screen.HTD").unlink()
    for time in (1, 2):
        (folder / f"TimePoint_{time}" / "screen.HTD").write_bytes(content)
    assert len(list(open_plate(folder).fields())) == 8


def test_fields_are_counted_past_nine_without_zeros(tmp_path: Path) -> None:
    which = make.places(wells=((1, 1),), fields=range(1, 12), channels=(1,), slices=(1, 2))
    plate = open_plate(make.write_imagexpress(tmp_path / "ix", which))
    assert [field.name for field in plate.wells[0].fields] == [str(number) for number in range(1, 12)]
    for field, name in ((1, "A1_f1_z1.tif"), (1, "A1_f1_z2.tif"), (10, "A1_f10_z1.tif"), (10, "A1_f10_z2.tif")):
        make.write_plane(tmp_path / "plain" / name, field)
    plate = open_plate(tmp_path / "plain", pattern="{row}{column}_f{field}_z{z}.tif")
    assert [numbers(unit) for unit in plate.fields()] == [[[1, 1]], [[10, 10]]]
    assert plate.wells[0].name == "A01"


def test_yokogawa_names_pictures_that_were_converted_to_png(tmp_path: Path) -> None:
    folder = make.write_yokogawa(tmp_path, make.places(wells=((2, 3),), fields=(1,)))
    from skimage.io import imsave

    for path in folder.glob("PL1*.tif"):
        imsave(path.with_suffix(".png"), tifffile.imread(path), check_contrast=False)
        path.unlink()
    (unit,) = open_plate(folder).fields()
    assert numbers(unit) == [[make.value(2, 3, 1, 0, c, z) for z in (1, 2, 3)] for c in (1, 2)]


def test_a_channel_of_two_actions_is_two_channels(tmp_path: Path) -> None:
    which = make.places(wells=((2, 3),), fields=(1,), channels=(1,))
    folder = make.write_yokogawa(tmp_path, which)
    again = make.yokogawa_name(*which[0]).replace("A01", "A02")
    make.write_plane(folder / again, 7)
    records = [make.mlf_record(place) for place in which]
    make.write_mlf(folder, [*records, make.mlf_record(which[0], again, action=2)])
    (unit,) = open_plate(folder).fields()
    assert [channel.name for channel in unit.imaging.channels] == ["DNA A1", "DNA A2"]
    assert numbers(unit)[1] == [7, 7, 7]


def test_wells_of_1536_are_quarters_of_384(tmp_path: Path) -> None:
    for quarter, number in (("a1", 1), ("a2", 2), ("b1", 3), ("b2", 4)):
        for z in (1, 2):
            make.write_plane(tmp_path / f"PL_C05.{quarter}_T0001F001L01A01Z{z:02d}C01.tif", number)
    plate = open_plate(tmp_path)
    assert [(well.name, well.row_index, well.column_index) for well in plate.wells] == [
        ("E09", 4, 8),
        ("E10", 4, 9),
        ("F09", 5, 8),
        ("F10", 5, 9),
    ]
    assert [numbers(unit) for unit in plate.fields()] == [[[1, 1]], [[2, 2]], [[3, 3]], [[4, 4]]]


@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
def test_ome_zarr_plates_of_both_versions(tmp_path: Path, ngff: str) -> None:
    plate = open_plate(make.write_zarr_plate(tmp_path / "p.zarr", ngff))
    assert (plate.name, [well.name for well in plate.wells], plate.rows, plate.columns) == (
        "screen 7",
        ["B03", "C04"],
        3,
        4,
    )
    units = list(plate.fields())
    assert [numbers(unit)[0][0] for unit in units] == [0, 6, 100, 106, 200, 206, 300, 306]
    field = plate.wells[0].fields[0]
    assert (field.position_um, field.acquisition, plate.acquisitions[0].name) == ((40.0, 70.0), 3, "day 2")
    with open_field(units[0]) as stack:
        assert [(channel.name, channel.color) for channel in stack.channels] == [
            ("DAPI", "0000FF"),
            ("actin", "00FF00"),
        ]
        assert (stack.z.step_um, stack.y.step_um) == (2.0, 0.5)
    assert (plate.imaging.plane, plate.imaging.dtype, plate.imaging.z.step_um) == (make.SHAPE, "uint16", 2.0)


def test_some_channels_of_an_image_are_the_same_pixels(tmp_path: Path) -> None:
    (unit, *_) = open_plate(make.write_zarr_plate(tmp_path / "p.zarr")).fields()
    whole = numbers(unit)
    assert numbers(unit, channels=["actin"]) == [whole[1]]
    assert numbers(unit, channels=["1", "DAPI"]) == [whole[1], whole[0]]
    with pytest.raises(UserInputError, match=r"no channel 'GFP'.*expected one of 'DAPI', 'actin'"):
        open_field(unit, channels=["GFP"])


def test_ome_tiffs_are_fields_of_the_wells_in_their_names(tmp_path: Path) -> None:
    names = ["plate7_B02_f1.ome.tif", "plate7_B02_f2.ome.tif", "plate7_WellC11_f1.ome.tif"]
    plate = open_plate(make.write_ome_tiffs(tmp_path, names))
    found = [(well.name, field.name) for well in plate.wells for field in well.fields]
    assert found == [("B02", "1"), ("B02", "2"), ("C11", "1")]
    assert [numbers(unit)[1] for unit in plate.fields()][:2] == [[3, 4, 5], [9, 10, 11]]
    assert plate.layout == "ome-tiff"


def test_ome_tiffs_that_name_no_well_are_fields_of_one(tmp_path: Path) -> None:
    plate = open_plate(make.write_ome_tiffs(tmp_path, ["organoid 2.ome.tif", "organoid 10.ome.tif"], (1, 1, 2)))
    assert [(well.name, [field.name for field in well.fields]) for well in plate.wells] == [
        ("A01", ["organoid 2", "organoid 10"])
    ]
    assert "No file says which well it shows" in plate.warnings[0]
    make.write_plane(tmp_path / "extra.tif", 1)
    assert "1 TIFF files have no OME-XML and are left out" in open_plate(tmp_path).warnings[-1]
    for folder in ("mouse1", "mouse2"):  # files of one name
        make.write_ome_tiffs(tmp_path / "all" / folder, ["a.ome.tif", "b.ome.tif"], (1, 1, 2))
    units = list(open_plate(tmp_path / "all").fields())
    assert [unit.field for unit in units] == ["mouse1/a", "mouse1/b", "mouse2/a", "mouse2/b"]
    assert not any(unit.frame.defects for unit in units)


def test_the_plate_in_the_ome_xml_comes_before_names(tmp_path: Path) -> None:
    path = tmp_path / "B02_f1.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for number in (1, 2):
            writer.write(
                np.full((3, *make.SHAPE), number, "uint16"), metadata={"axes": "ZYX"}, photometric="minisblack"
            )
    text = tifffile.tiffcomment(path)
    wells = "".join(
        f'<Well ID="Well:{index}" Row="3" Column="{index}"><WellSample ID="WellSample:{index}" Index="{index}" '
        f'PositionX="{10 * index}" PositionXUnit="µm" PositionY="5" PositionYUnit="µm">'
        f'<ImageRef ID="Image:{index}"/></WellSample></Well>'
        for index in (0, 1)
    )
    plate_xml = f'<Plate ID="Plate:0" Name="p">{wells}</Plate>'
    tifffile.tiffcomment(path, text.replace("<Image ", plate_xml + "<Image ", 1).encode())
    plate = open_plate(tmp_path)
    assert [(well.name, well.fields[0].position_um) for well in plate.wells] == [
        ("D01", (5.0, 0.0)),
        ("D02", (5.0, 10.0)),
    ]
    assert [numbers(unit) for unit in plate.fields()] == [[[1, 1, 1]], [[2, 2, 2]]]


def test_an_image_over_several_files_is_one_field(tmp_path: Path) -> None:
    source = tmp_path / "source.ome.tif"
    make.write_ome_tiffs(tmp_path, ["source.ome.tif"], (1, 1, 2))
    pixels = tifffile.imread(source)
    source.unlink()
    names = ["B02_z0.ome.tif", "B02_z1.ome.tif"]
    tiff_data = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{z}</UUID></TiffData>'
        for z, name in enumerate(names)
    )
    for z, name in enumerate(names):
        text = (
            f"<?xml version='1.0'?><OME xmlns='http://www.openmicroscopy.org/Schemas/OME/2016-06' UUID='urn:uuid:{z}'>"
            "<Image ID='Image:0'><Pixels ID='Pixels:0' DimensionOrder='XYZCT' Type='uint16' SizeX='32' SizeY='24' "
            f"SizeZ='2' SizeC='1' SizeT='1'><Channel ID='Channel:0:0' SamplesPerPixel='1'/>{tiff_data}</Pixels>"
            "</Image></OME>"
        )
        tifffile.imwrite(tmp_path / name, pixels[z], description=text.encode(), metadata=None, photometric="minisblack")
    (unit,) = open_plate(tmp_path).fields()
    assert numbers(unit) == [[0, 1]]
    (tmp_path / names[1]).unlink()
    (unit,) = open_plate(tmp_path).fields()
    with pytest.raises(Exception, match=r"'B02_z1\.ome\.tif' is missing"):
        open_field(unit)


def test_a_pattern_without_z_takes_each_file_as_a_stack(tmp_path: Path) -> None:
    make.write_ome_tiffs(tmp_path, ["x_r02c07_s3.ome.tif"], (2, 1, 3))
    plate = open_plate(tmp_path, pattern="*_r{row}c{column}_s{field}.ome.tif")
    assert [(unit.name, numbers(unit)) for unit in plate.fields()] == [
        ("B07 field 3 time 0", [[0, 1, 2]]),
        ("B07 field 3 time 1", [[3, 4, 5]]),
    ]


def test_colour_planes_stay_colours(tmp_path: Path) -> None:
    for z in (1, 2):
        path = tmp_path / f"A01_f1_z{z}.tif"
        tifffile.imwrite(path, np.full((*make.SHAPE, 3), (z, 20, 30), "uint8"), photometric="rgb", metadata=None)
    (unit,) = open_plate(tmp_path, pattern="{row}{column}_f{field}_z{z}.tif").fields()
    assert unit.imaging.rgb
    with open_field(unit) as stack:
        assert stack.rgb
        assert numbers(unit) == [[1, 2], [20, 20], [30, 30]]


def test_the_pixels_of_a_field_are_those_of_its_slices_opened_one_by_one(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    paths = [tmp_path / f"A01_f1_z{z}_c{c}.tif" for c in (1, 2) for z in (1, 2, 3)]
    for path in paths:
        tifffile.imwrite(path, random.integers(0, 9999, make.SHAPE).astype("uint16"), metadata=None)
    (unit,) = open_plate(tmp_path, pattern="{row}{column}_f{field}_z{z}_c{channel}.tif").fields()
    region = slice(3, 11), slice(5, 31)
    with open_field(unit) as stack, open_stack(paths[3:]) as slices:
        np.testing.assert_array_equal(stack.read(0, 1, [2, 0], *region), slices.read(0, 0, [2, 0], *region))
        whole = np.asarray(stack.array[:, :, :, :])
        for key in ((1,), np.s_[0, 1:, 2:4], np.s_[..., 3], np.s_[:, 2, 1], np.s_[1, 1:1]):
            np.testing.assert_array_equal(stack.array[key], whole[key])


def test_a_unit_needs_nothing_but_itself(tmp_path: Path) -> None:
    import pickle

    unit = next(open_plate(make.write_harmony(tmp_path, PLACES)).fields())
    copy = pickle.loads(pickle.dumps(unit))  # noqa: S301 - our own bytes
    assert len(pickle.dumps(unit)) < 4000
    assert numbers(copy) == numbers(unit)


def test_a_plate_that_was_moved_opens_in_its_new_place(tmp_path: Path) -> None:
    make.write_harmony(tmp_path / "old", PLACES)
    before = [numbers(unit) for unit in open_plate(tmp_path / "old").fields()]
    shutil.move(tmp_path / "old", tmp_path / "new")
    assert [numbers(unit) for unit in select(open_plate(tmp_path / "new"), Selection())] == before


def test_layouts_have_names_of_their_own_and_say_which_are_experimental() -> None:
    assert len({each.name for each in LAYOUTS}) == len(LAYOUTS)
    assert {each.name for each in LAYOUTS if each.experimental} == {"harmony", "hcs-ai", "cq3k", "scanr", "incell"}
    names = {
        "harmony": make.harmony_name(2, 3, 1, 0, 1, 1),
        "imagexpress": make.imagexpress_name(2, 3, 1, 0, 1, 1),
        "yokogawa": make.yokogawa_name(2, 3, 1, 0, 1, 1),
    }
    for layout in LAYOUTS:
        if layout.files is not None:
            whole = "/" in layout.files.pattern
            for kind, name in names.items():
                fits = layout.files.fullmatch(name if whole else name.rpartition("/")[2]) is not None
                assert fits == (kind == layout.name)


@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
def test_an_ome_zarr_plate_keeps_its_rows_and_columns_as_they_are_listed(tmp_path: Path, ngff: str) -> None:
    folder = make.write_zarr_plate(tmp_path / "p.zarr", ngff, wells=("0/0", "1/1"), fields=("0",), shape=(1, 1, 2))
    plate = open_plate(folder)
    assert (plate.rows, plate.columns) == (2, 2)
    assert (plate.row_names, plate.column_names) == (("0", "1"), ("0", "1"))
    assert [each.well for each in select(plate, Selection(wells="11"))] == ["11"]
    assert [well.name for well in plate.wells] == ["00", "11"]


def test_a_translation_along_z_is_kept(tmp_path: Path) -> None:
    folder = make.write_zarr_plate(tmp_path / "p.zarr", fields=("0",), shape=(1, 1, 2))

    def moved(stored: dict) -> None:
        moves = stored["attributes"]["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
        moves[1]["translation"][2] = 5.0

    make.edit_json(folder / "B" / "03" / "0" / "zarr.json", moved)
    first, second = (well.fields[0] for well in open_plate(folder).wells)
    assert (first.z_um, first.position_um) == (5.0, (40.0, 70.0))
    assert second.z_um == 0.0


def test_ome_tiffs_have_the_plate_size_that_their_xml_states(tmp_path: Path) -> None:
    make.write_ome_tiffs(tmp_path, ["x.ome.tif"], (1, 1, 2))
    path = tmp_path / "x.ome.tif"
    text = tifffile.tiffcomment(path)
    xml = (
        '<Plate ID="Plate:0" Rows="16" Columns="24"><Well ID="Well:0" Row="3" Column="4">'
        '<WellSample ID="W:0" Index="0"><ImageRef ID="Image:0"/></WellSample></Well></Plate>'
    )
    tifffile.tiffcomment(path, text.replace("<Image ", xml + "<Image ", 1).encode())
    plate = open_plate(tmp_path)
    assert (plate.wells[0].name, plate.rows, plate.columns) == ("D05", 16, 24)


@pytest.mark.parametrize("listed", [True, False])
def test_the_images_of_a_bioformats2raw_collection_are_fields_of_one_well(tmp_path: Path, listed: bool) -> None:
    folder = tmp_path / "scan.zarr"
    make.write_group(folder, {"bioformats2raw.layout": 3}, "0.4")
    if listed:
        make.write_group(folder / "OME", {"series": ["1", "0"]}, "0.4")
    for name in ("0", "1"):
        make.write_zarr_image(folder / name, np.full((1, 1, 2, *make.SHAPE), int(name), "uint16"), "0.4")
    plate = open_plate(folder)
    assert [(unit.well, unit.field, numbers(unit)) for unit in plate.fields()] == [
        ("A01", "0", [[0, 0]]),
        ("A01", "1", [[1, 1]]),
    ]
    assert "images without a plate" in plate.warnings[0]
