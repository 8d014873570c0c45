"""What no field has was not acquired and is said; what some fields lack is missing, and may be dropped."""

from pathlib import Path

import numpy as np
import plate_makers as make
import pytest
import tifffile
from plate_makers import numbers

from hybridfusion_core.plates.acquired import with_acquired_times
from hybridfusion_core.plates.dropped_slices import without_missing_slices
from hybridfusion_core.plates.field_stack import open_field
from hybridfusion_core.plates.open import open_plate

WRITERS = {"imagexpress": (make.write_imagexpress, None), "pattern": (make.write_plain, make.PLAIN)}
HURT = (2, 3, 1, 0, 2, 2)


@pytest.mark.parametrize("name", WRITERS)
def test_a_channel_that_is_absent_at_whole_time_points_was_not_acquired(tmp_path: Path, name: str) -> None:
    write, pattern = WRITERS[name]
    which = [*make.places(channels=(1,), times=(0, 1, 2)), *make.places(channels=(2,), times=(0,))]
    plate = open_plate(write(tmp_path, which), pattern=pattern)
    assert all(each.frame.defects == () for each in plate.fields())
    assert [frame.slices for frame in plate.wells[0].fields[0].frames] == [(3, 3), (3, 0), (3, 0)]
    assert any("was acquired at 1 of 3 time points" in warning for warning in plate.warnings)
    both = with_acquired_times(plate, None)
    units = list(both.fields())
    assert [each.frame.not_acquired for each in units] == [(), (1,), (1,)] * 4
    assert "'FITC' was not" in both.warnings[-1] or "'2' was not" in both.warnings[-1]
    assert "at 2 of 3 time points" in both.warnings[-1]
    assert numbers(units[1]) == [[make.value(2, 3, 1, 1, 1, z) for z in (1, 2, 3)], [0, 0, 0]]
    decided = with_acquired_times(plate, None, plate.imaging.channels[1].name)
    assert len(list(decided.fields())) == 4
    assert "2 of 3 time points are left out" in decided.warnings[-1]
    alone = with_acquired_times(plate, ["0"])
    assert len(list(alone.fields())) == 12
    assert alone.warnings == plate.warnings


def test_files_of_whole_stacks_may_lack_a_channel_at_a_time_too(tmp_path: Path) -> None:
    for well, t, c in [(w, t, c) for w in ("B02", "B03") for t in (0, 1) for c in (1, 2) if (t, c) != (1, 2)]:
        tifffile.imwrite(tmp_path / f"{well}_t{t}_c{c}.tif", np.full((3, 6, 7), c, "uint16"), photometric="minisblack")
    opened = open_plate(tmp_path, pattern="{well}_t{time}_c{channel}.tif", axes="ZYX")
    plate = with_acquired_times(opened, None)
    assert [(each.frame.not_acquired, each.frame.defects) for each in plate.fields()] == [((), ()), ((1,), ())] * 2
    assert "'2' was not acquired at 1 of 2 time points (1)" in plate.warnings[-1]
    with open_field(list(plate.fields())[1]) as stack:
        assert "'2' was not acquired" in stack.warnings[-1]
        assert [np.unique(stack.read(0, c, range(3), slice(0, 6), slice(0, 7))).tolist() for c in (0, 1)] == [[1], [0]]
    (tmp_path / "B02_t0_c2.tif").unlink()  # B03 has it: missing, as before
    hurt = with_acquired_times(open_plate(tmp_path, pattern="{well}_t{time}_c{channel}.tif", axes="ZYX"), None)
    assert [bool(each.frame.defects) for each in hurt.fields()] == [True, False, False, False]


@pytest.mark.parametrize("name", WRITERS)
def test_a_channel_that_some_fields_lack_is_missing_there(tmp_path: Path, name: str) -> None:
    write, pattern = WRITERS[name]
    which = [*make.places(channels=(1,), times=(0, 1)), *make.places(channels=(2,), times=(0,))]
    folder = write(tmp_path, [each for each in which if each[:3] != (2, 3, 1) or each[4] == 1])
    plate = with_acquired_times(open_plate(folder, pattern=pattern), None)
    hurt = [each.name for each in plate.fields() if each.frame.defects]
    assert hurt == ["B03 field 1 time 0"]


@pytest.mark.parametrize("name", WRITERS)
def test_a_time_point_that_is_absent_as_a_whole_was_not_acquired(tmp_path: Path, name: str) -> None:
    write, pattern = WRITERS[name]
    plate = open_plate(write(tmp_path, make.places(times=(0, 1, 3))), pattern=pattern)
    units = list(plate.fields())
    assert len(units) == 4 * 3
    assert all(each.frame.defects == () for each in units)
    number = 3 if name == "imagexpress" else 2  # its folders count from 1
    assert any(f"No file of time {number} is there for any field" in warning for warning in plate.warnings)


def test_a_channel_that_the_index_promises_and_no_field_has_is_left_out(tmp_path: Path) -> None:
    folder = make.write_imagexpress(tmp_path, make.places())
    for path in folder.rglob("*_w2*"):
        path.unlink()
    plate = open_plate(folder)
    assert [channel.name for channel in plate.imaging.channels] == ["DAPI"]
    assert any("lists 'FITC', and no file of it is there" in warning for warning in plate.warnings)


@pytest.mark.parametrize("name", ["harmony", "imagexpress", "pattern"])
def test_slices_with_missing_planes_are_dropped_and_the_others_keep_their_heights(tmp_path: Path, name: str) -> None:
    write, pattern = {**WRITERS, "harmony": (make.write_harmony, None)}[name]
    slices = (1, 2, 3, 4)
    which = make.places(slices=slices)
    folder = write(tmp_path, [each for each in which if each != HURT])
    plate = without_missing_slices(open_plate(folder, pattern=pattern), None)
    units = list(plate.fields())
    assert [(each.frame.defects, each.frame.dropped) for each in units] == [((), (2,)), ((), ()), ((), ()), ((), ())]
    assert "1 fields are fused without slices of which planes are missing: B03 field 1" in plate.warnings[-1]
    assert numbers(units[0]) == [[make.value(2, 3, 1, 0, c, z) for z in (1, 3, 4)] for c in (1, 2)]
    step = {"harmony": 2.0, "imagexpress": 4.0, "pattern": 5.0}[name]
    with open_field(units[0], z_step_um=5.0 if name == "pattern" else None) as stack:
        assert stack.z_um is not None
        assert np.diff(stack.z_um) == pytest.approx([2 * step, step])
        assert "1 slices are left out, because planes of them are missing: z 2." in stack.warnings[0]


def test_other_defects_stay_and_so_do_fields_with_nothing_left(tmp_path: Path) -> None:
    which = make.places(slices=(1, 2, 3))
    folder = make.write_plain(tmp_path, [each for each in which if each[:3] != (2, 3, 1) or each[5] == 1])
    make.write_plane(folder / "copy" / "B04_f1_t0_z01_c1.tif", 1)
    plate = without_missing_slices(open_plate(folder, pattern=make.PLAIN), None)
    found = {each.name: [defect.kind for defect in each.frame.defects] for each in plate.fields()}
    assert found["B04 field 1 time 0"] == ["duplicate"]
    assert all(each.frame.dropped == () for each in plate.fields())
