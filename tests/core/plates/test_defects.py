"""What real plates have wrong with them: each defect fails its own field by name, and no other; nothing turns black."""

import re
from pathlib import Path

import numpy as np
import plate_makers as make
import pytest
import tifffile
from plate_makers import numbers

from hybridfusion_core.errors import HybridFusionError, StoredDataError, UserInputError
from hybridfusion_core.plates.field_stack import open_field
from hybridfusion_core.plates.open import open_plate
from hybridfusion_core.plates.plate import Plate, PlateField

ONE = make.places(wells=((2, 3),))
HURT = (2, 3, 2, 0, 2, 2)  # B03 field 2, second channel, second slice
LAYOUTS = {
    "harmony": (make.write_harmony, make.harmony_name, None),
    "yokogawa": (make.write_yokogawa, make.yokogawa_name, None),
    "imagexpress": (make.write_imagexpress, make.imagexpress_name, None),
    "imagexpress without htd": (
        lambda folder, which: make.write_imagexpress(folder, which, htd=False),
        make.imagexpress_name,
        None,
    ),
    "pattern": (make.write_plain, make.plain_name, make.PLAIN),
}


def failure(unit: PlateField, **options: object) -> str:
    with pytest.raises(HybridFusionError) as caught, open_field(unit, **options):
        pass
    message = str(caught.value)
    assert "expected" in message
    assert message.endswith(".")
    return message


def only_failure(plate: Plate) -> str:
    """The message of B03 field 2, when every other field is sound."""
    units = {unit.name: unit for unit in plate.fields()}
    hurt = units.pop("B03 field 2 time 0")
    assert units
    for unit in units.values():
        assert len(numbers(unit)) == 2
    return failure(hurt)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_missing_plane_fails_its_field(tmp_path: Path, name: str) -> None:
    write, called, pattern = LAYOUTS[name]
    folder = write(tmp_path, make.places())
    (folder / called(*HURT)).unlink()
    plate = open_plate(tmp_path, pattern=pattern)
    message = only_failure(plate)
    assert re.search(r"B03 field 2 time 0: 1 of 3 planes of channel '.*' are missing", message)
    hurt = next(unit for unit in plate.fields() if unit.name == "B03 field 2 time 0")
    assert [defect.kind for defect in hurt.frame.defects] == ["missing"]
    assert numbers(hurt, channels=["0"]) == [[make.value(2, 3, 2, 0, 1, z) for z in (1, 2, 3)]]


@pytest.mark.parametrize("slices", [(1,), (3,), (1, 2, 3)])
@pytest.mark.parametrize("name", ["imagexpress without htd", "pattern"])
def test_slices_that_one_channel_lacks_at_its_ends_are_missing_too(
    tmp_path: Path, name: str, slices: tuple[int, ...]
) -> None:
    write, called, pattern = LAYOUTS[name]
    folder = write(tmp_path, make.places())
    for z in slices:
        (folder / called(*HURT[:5], z)).unlink()
    message = only_failure(open_plate(tmp_path, pattern=pattern))
    assert f"{len(slices)} of 3 planes of channel" in message
    assert f"the first at z {slices[0]}" in message


def test_a_slice_that_all_fields_lack_is_missing_in_all(tmp_path: Path) -> None:
    make.write_plain(tmp_path, make.places(slices=(1, 2, 4)))
    for unit in open_plate(tmp_path, pattern=make.PLAIN).fields():
        assert "1 of 4 planes of channel '1' are missing, the first at z 3" in failure(unit)


def test_numbers_may_count_in_steps(tmp_path: Path) -> None:
    make.write_plain(tmp_path, make.places(times=(0, 2), slices=(0, 5, 10, 15)))
    units = list(open_plate(tmp_path, pattern=make.PLAIN).fields())
    assert [unit.frame.slices for unit in units] == [(4, 4)] * 8
    assert [unit.t for unit in units[:2]] == [0, 1]
    assert all(len(numbers(unit)[0]) == 4 for unit in units)


def test_a_time_point_without_any_plane_fails_alone(tmp_path: Path) -> None:
    folder = make.write_plain(tmp_path, make.places(times=(0, 1, 2)))
    for path in folder.glob("B03_f2_t1_*"):
        path.unlink()
    units = {unit.name: unit for unit in open_plate(tmp_path, pattern=make.PLAIN).fields()}
    assert len(units) == 2 * 2 * 3
    assert "3 of 3 planes of channel '1' are missing" in failure(units["B03 field 2 time 1"])
    assert len(numbers(units["B03 field 2 time 2"])[0]) == 3


def test_the_index_lists_a_plane_that_is_missing_by_name(tmp_path: Path) -> None:
    images = make.write_harmony(tmp_path, make.places())
    (images / make.harmony_name(*HURT)).unlink()
    message = only_failure(open_plate(tmp_path))
    assert f"the first '{make.harmony_name(*HURT)}'; expected all that Index.xml lists" in message


def test_files_that_the_index_does_not_list_are_left_out_and_counted(tmp_path: Path) -> None:
    images = make.write_harmony(tmp_path, make.places())
    stray = make.harmony_name(2, 3, 9, 0, 1, 1)
    make.write_plane(images / stray, 9)
    plate = open_plate(tmp_path)
    assert [field.name for field in plate.wells[0].fields] == ["1", "2"]
    (warning,) = plate.warnings
    assert "1 files look like planes and Index.xml does not list them" in warning
    assert stray in warning


def test_a_gap_in_the_index_names_the_file_that_would_fill_it(tmp_path: Path) -> None:
    which = make.places()
    images = make.write_harmony(tmp_path, which)
    text = make.harmony_index(make.harmony_image(place) for place in which if place != HURT)
    (images / "Index.xml").write_text(text, encoding="utf-8")
    message = only_failure(open_plate(tmp_path))
    assert (
        f"the first at z 2 ('Images/{make.harmony_name(*HURT)}' looks like it, but Index.xml does not list" in message
    )


@pytest.mark.parametrize(("url", "state"), [("", "Ok"), (None, "Failed")])
def test_a_plane_that_the_index_gives_up_is_a_failure_whatever_lies_on_the_disk(
    tmp_path: Path, url: str | None, state: str
) -> None:
    which = make.places()
    images = make.write_harmony(tmp_path, which)
    listed = [make.harmony_image(each, url, state) if each == HURT else make.harmony_image(each) for each in which]
    (images / "Index.xml").write_text(make.harmony_index(listed), encoding="utf-8")
    assert "1 planes of channel 'Brightfield' failed" in only_failure(open_plate(tmp_path))


def test_thumbnails_and_montages_are_no_planes(tmp_path: Path) -> None:
    folder = make.write_plain(tmp_path, ONE)
    for name in ("thumbs/B03_f1_t0_z01_c1.tif", "B03_f1_t0_z01_c1_thumb.tif", "montage_B03.tif", "B03_stitched.png"):
        make.write_plane(folder / name.replace("png", "tif"), 1, shape=(4, 4))
    plate = open_plate(tmp_path, pattern=make.PLAIN)
    assert len(list(plate.fields())) == 2
    assert "4 thumbnails and montages are left out" in "".join(plate.warnings)
    make.write_imagexpress(tmp_path / "ix", ONE)
    plate = open_plate(tmp_path / "ix")
    assert plate.imaging.plane == make.SHAPE
    assert "12 thumbnails and montages" in plate.warnings[0]


def test_projections_are_left_out_unless_they_are_all_of_a_channel(tmp_path: Path) -> None:
    folder = make.write_imagexpress(tmp_path, make.places(wells=((2, 3),), fields=(1,), channels=(1,)))
    for wave in (1, 2):
        make.write_plane(folder / make.imagexpress_name(2, 3, 1, 0, wave, 1).replace("ZStep_1", "ZStep_0"), 77)
    (folder / "screen.HTD").unlink()
    plate = open_plate(folder)
    (unit,) = plate.fields()
    assert unit.frame.slices == (3, 1)
    assert numbers(unit)[1] == [77, 77, 77]
    assert "1 projections" in "".join(plate.warnings)


def test_an_error_record_fails_the_field_that_it_names(tmp_path: Path) -> None:
    which = make.places()
    folder = make.write_yokogawa(tmp_path, which)
    records = [make.mlf_record(place) for place in which if place != HURT]
    make.write_mlf(folder, [*records, make.mlf_record(HURT, "Failed to find the focus", kind="ERR")])
    message = only_failure(open_plate(tmp_path))
    assert "The microscope reports an error (record of type ERR: 'Failed to find the focus')" in message


def test_an_error_record_without_a_field_fails_the_fields_that_its_well_lacks(tmp_path: Path) -> None:
    which = make.places()
    folder = make.write_yokogawa(tmp_path, which)
    records = [make.mlf_record(place) for place in which if place[:3] != (2, 3, 2)]
    make.write_mlf(folder, [*records, '<bts:MeasurementRecord bts:Type="ERR" bts:Column="3" bts:Row="2" />'])
    plate = open_plate(tmp_path)
    assert "record of type ERR" in only_failure(plate)
    assert "errors in B03" in "".join(plate.warnings)


def test_two_files_for_one_plane_fail_the_field_and_are_both_named(tmp_path: Path) -> None:
    folder = make.write_imagexpress(tmp_path, make.places())
    other = make.imagexpress_name(*HURT).replace(make.GUID, "0" + make.GUID[1:])
    make.write_plane(folder / other, 5)
    message = only_failure(open_plate(tmp_path))
    assert make.imagexpress_name(*HURT) in message
    assert other in message


def test_one_file_for_two_planes_fails_the_field(tmp_path: Path) -> None:
    which = make.places()
    images = make.write_harmony(tmp_path, which)
    twice = make.harmony_name(*HURT[:5], 1)
    listed = [make.harmony_image(each, twice if each == HURT else None) for each in which]
    (images / "Index.xml").write_text(make.harmony_index(listed), encoding="utf-8")
    assert f"'Images/{twice}' is also another plane" in only_failure(open_plate(tmp_path))


def test_a_plane_that_is_listed_twice_under_one_name_is_used_once(tmp_path: Path) -> None:
    which = make.places()
    images = make.write_harmony(tmp_path, which)
    listed = [make.harmony_image(each) for each in (*which, HURT)]
    (images / "Index.xml").write_text(make.harmony_index(listed), encoding="utf-8")
    plate = open_plate(tmp_path)
    assert all(len(numbers(unit)[1]) == 3 for unit in plate.fields())
    assert "1 planes are listed more than once" in plate.warnings[0]


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_plane_cut_short_fails_its_field(tmp_path: Path, compression: str | None) -> None:
    random = np.random.default_rng(0)
    for place in make.places():
        path = tmp_path / make.plain_name(*place)
        pixels = random.integers(0, 9999, make.SHAPE).astype("uint16")
        tifffile.imwrite(path, pixels, metadata=None, compression=compression)
    hurt = tmp_path / make.plain_name(*HURT)
    for length in range(0, hurt.stat().st_size, 150):
        content = hurt.read_bytes()
        hurt.write_bytes(content[:length])
        for unit in open_plate(tmp_path, pattern=make.PLAIN).fields():
            if unit.name == "B03 field 2 time 0":
                assert hurt.name in failure(unit)
            else:
                open_field(unit).close()
        hurt.write_bytes(content)


def test_garbage_of_32_bit_fails_its_field(tmp_path: Path) -> None:
    folder = make.write_plain(tmp_path, make.places())
    make.write_plane(folder / make.plain_name(*HURT), 3, "float32")
    message = only_failure(open_plate(tmp_path, pattern=make.PLAIN))
    assert f"1 of 6 planes are unlike the others of the plate: '{make.plain_name(*HURT)}' is" in message
    assert "grey float32; expected 24 × 32 grey uint16" in message


@pytest.mark.parametrize("first", [True, False])
def test_garbage_where_the_plate_begins_or_ends_decides_nothing(tmp_path: Path, first: bool) -> None:
    which = make.places(wells=((2, 3),), fields=(1, 2, 3))
    folder = make.write_plain(tmp_path, which)
    make.write_plane(folder / make.plain_name(*which[0 if first else -1]), 3, "uint32", (8, 8))
    plate = open_plate(tmp_path, pattern=make.PLAIN)
    assert (plate.imaging.dtype, plate.imaging.plane) == ("uint16", make.SHAPE)
    units = list(plate.fields())
    assert "unlike the others" in failure(units.pop(0 if first else -1))
    assert all(len(numbers(unit)) == 2 for unit in units)


def test_a_field_of_garbage_alone_is_garbage_still(tmp_path: Path) -> None:
    folder = make.write_plain(tmp_path, make.places(fields=range(1, 6)))
    for path in folder.glob("B03_f2_*"):
        make.write_plane(path, 3, "float32")
    message = only_failure(open_plate(tmp_path, pattern=make.PLAIN))
    assert "6 of 6 planes are unlike the others of the plate" in message


def test_a_plane_of_another_size_fails_its_field(tmp_path: Path) -> None:
    folder = make.write_plain(tmp_path, make.places())
    make.write_plane(folder / make.plain_name(*HURT), 3, shape=(48, 64))
    assert "is 48 × 64 grey uint16; expected 24 × 32" in only_failure(open_plate(tmp_path, pattern=make.PLAIN))


def test_fields_may_have_different_depths(tmp_path: Path) -> None:
    which = [*make.places(), *make.places(wells=((2, 5),), slices=(1, 2, 3, 4, 5))]
    for name, (write, _, pattern) in LAYOUTS.items():
        if name == "imagexpress":
            continue  # its .HTD file knows one number for all
        write(tmp_path / name, which)
        plate = open_plate(tmp_path / name, pattern=pattern)
        assert [unit.frame.slices[0] for unit in plate.fields()] == [3, 3, 3, 3, 5, 5]
        assert all(len(numbers(unit)[0]) == unit.frame.slices[0] for unit in plate.fields())
        named = "other numbers of slices than the usual 3/3" in "".join(plate.warnings)
        assert named == (plate.metadata == ())


def test_a_channel_of_one_slice_serves_all(tmp_path: Path) -> None:
    which = [*make.places(channels=(1,)), *make.places(channels=(2,), slices=(1,))]
    for name, (write, _, pattern) in LAYOUTS.items():
        write(tmp_path / name, which)
        for unit in open_plate(tmp_path / name, pattern=pattern).fields():
            assert unit.frame.slices == (3, 1)
            found = numbers(unit)
            assert found[1] == [make.value(2, int(unit.column), int(unit.field), 0, 2, 1)] * 3
            with open_field(unit) as stack:
                assert "One slice of" in stack.warnings[0]


def test_channels_with_different_slices_are_fused_one_after_the_other(tmp_path: Path) -> None:
    which = [*make.places(channels=(1,)), *make.places(channels=(2,), slices=(1, 2))]
    make.write_harmony(tmp_path, which)
    for unit in open_plate(tmp_path).fields():
        message = failure(unit)
        assert "channels 'DAPI' and 'Brightfield' do not have the same slices ('DAPI': 3, 'Brightfield': 2)" in message
        assert "--channels" in message
        assert [len(planes) for planes in numbers(unit, channels=["Brightfield"])] == [2]


def test_channels_at_an_offset_belong_together_and_at_another_step_do_not(tmp_path: Path) -> None:
    which = make.places(wells=((2, 3),), fields=(1,))
    folder = make.write_yokogawa(tmp_path, which)  # its second channel lies 7 µm lower
    (unit,) = open_plate(tmp_path).fields()
    assert [plane.z_um for planes in unit.frame.planes for plane in planes] == [-6, -3.5, -1, -13, -10.5, -8]
    assert len(numbers(unit)) == 2
    wide = [make.mlf_record(each).replace('bts:Z="-8.0"', 'bts:Z="-3.0"') for each in which]
    make.write_mlf(folder, wide)
    (unit,) = open_plate(tmp_path).fields()
    assert "do not have the same slices" in failure(unit)


def test_a_channel_that_was_not_taken_everywhere_fails_only_where_it_is_wanted(tmp_path: Path) -> None:
    which = [*make.places(), *make.places(wells=((2, 5),), channels=(1,))]
    make.write_harmony(tmp_path, which)
    units = [unit for unit in open_plate(tmp_path).fields() if unit.well == "B05"]
    assert "channel 'Brightfield' was not taken here" in failure(units[0])
    assert len(numbers(units[0], channels=["DAPI"])[0]) == 3


def test_wells_that_the_htd_selects_and_nobody_copied_are_failures(tmp_path: Path) -> None:
    folder = make.write_imagexpress(tmp_path, make.places())
    for path in folder.rglob("*_B04_*"):
        path.unlink()
    units = list(open_plate(tmp_path).fields())
    assert [unit.name for unit in units if unit.frame.defects] == ["B04 field 1 time 0", "B04 field 2 time 0"]
    assert "3 of 3 planes of channel 'DAPI' are missing" in failure(units[-1])


def test_wells_with_fewer_fields_are_named(tmp_path: Path) -> None:
    make.write_plain(tmp_path, [*make.places(wells=((1, 1), (1, 2))), *make.places(wells=((1, 3),), fields=(1,))])
    (warning,) = open_plate(tmp_path, pattern=make.PLAIN).warnings
    assert "1 wells have more or fewer than the usual 2 fields: A03 (1)" in warning


@pytest.mark.parametrize("victim", ["C/04", "C/04/1", "C/04/1/0", "C/04/1/zarr.json"])
def test_what_is_missing_in_an_ome_zarr_plate_fails_its_own_fields(tmp_path: Path, victim: str) -> None:
    import shutil

    path = make.write_zarr_plate(tmp_path / "p.zarr") / victim
    path.unlink() if path.is_file() else shutil.rmtree(path)
    units = list(open_plate(tmp_path / "p.zarr").fields())
    broken = [unit for unit in units if unit.frame.defects]
    assert {unit.well for unit in broken} == {"C04"}
    assert re.search(r"'C/04.*cannot be read", failure(broken[0]))
    assert len([numbers(unit) for unit in units if not unit.frame.defects]) == (4 if victim == "C/04" else 6)


def test_a_slice_without_chunks_fails_its_field(tmp_path: Path) -> None:
    folder = make.write_zarr_plate(tmp_path / "p.zarr")
    (folder / "C/04/1/0/c/1/0/2/0/0").unlink()
    units = list(open_plate(folder).fields())
    for unit in units:
        if (unit.well, unit.field) == ("C04", "1"):
            assert "no chunk of the slice at" in failure(unit)
        else:
            numbers(unit)


def test_a_damaged_ome_tiff_fails_alone(tmp_path: Path) -> None:
    folder = make.write_ome_tiffs(tmp_path, ["B02_f1.ome.tif", "B03_f2.ome.tif"])
    hurt = folder / "B03_f2.ome.tif"
    hurt.write_bytes(hurt.read_bytes()[:50])
    first, second, third = open_plate(folder).fields()
    assert len(numbers(first)) == len(numbers(second)) == 2
    assert "B03_f2.ome.tif" in failure(third)


def test_a_file_that_vanished_since_is_named(tmp_path: Path) -> None:
    folder = make.write_plain(tmp_path, make.places())
    unit = next(open_plate(folder, pattern=make.PLAIN).fields())
    (folder / make.plain_name(2, 3, 1, 0, 1, 1)).unlink()
    with pytest.raises(StoredDataError, match=r"'B03_f1_t0_z01_c1\.tif' is gone; expected"):
        open_field(unit)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        ([], "is empty; expected a plate or images"),
        (
            ["a.tif"],
            r"holds 1 \.tif; expected one of these layouts: .*'a\.tif'\. Say what the names mean with --pattern",
        ),
        (["notes.txt"], r"holds 1 \.txt; .*None of the files is an image that can be read"),
        (["a.c01", "b.c01", "x.flex"], r"holds 2 \.c01, 1 \.flex; .*convert it with bioformats2raw"),
        (
            ["scan_C07_s1_w2_st3.tif", "scan_C07_s1_w2_st4.tif", "scan_D07_s1_w2_st3.tif", "scan_D07_s1_w2_st4.tif"],
            r"--pattern 'scan_\{row\}\{column\}_s1_w2_st\{z\}\.tif'",
        ),
    ],
)
def test_a_folder_without_fields_is_told_by_what_lies_in_it(tmp_path: Path, names: list[str], match: str) -> None:
    for name in names:
        (tmp_path / name).write_text("x")
    with pytest.raises(UserInputError, match=match):
        open_plate(tmp_path)


def test_a_first_field_with_gaps_does_not_say_how_far_apart_slices_are(tmp_path: Path) -> None:
    which = make.places(slices=(1, 2, 3, 4, 5))
    gone = {which[1], which[2], which[3]}  # the first field has its first and its last slice left
    folder = make.write_harmony(tmp_path, [each for each in which if each not in gone])
    plate = open_plate(folder)
    assert plate.imaging.z.step_um == pytest.approx(2)
