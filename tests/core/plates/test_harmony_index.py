"""Harmony's index under every name and in every order of its parts; an index that was not read is said to be unread."""

import re
from pathlib import Path

import plate_makers as make
import pytest
from plate_makers import numbers

from hybridfusion_core.plates.open import open_plate

WHICH = make.places(wells=((2, 3),), fields=(1,))
FLAT = '<Maps><Map><Entry ChannelID="1"><FlatfieldProfile>{Background: {}}</FlatfieldProfile></Entry></Map></Maps>'


def test_flat_field_profiles_before_the_images_take_nothing_away(tmp_path: Path) -> None:
    images = make.write_harmony(tmp_path, WHICH, 5)
    index = images / "Index.idx.xml"
    index.write_text(index.read_text().replace("<Images>", f"{FLAT}<Images>"))
    plate = open_plate(images)
    assert [(channel.name, channel.transmitted) for channel in plate.imaging.channels] == [
        ("DAPI", False),
        ("Brightfield", True),
    ]
    assert (plate.imaging.y.step_um, plate.imaging.z.step_um) == pytest.approx((0.296, 2.0))
    assert plate.wells[0].fields[0].position_um == pytest.approx((200.0, 100.0))


@pytest.mark.parametrize("name", ["Index.ref.xml", "Index.xml", "Index.flex.xml", "anything.xml"])
def test_an_index_of_any_name_is_read(tmp_path: Path, name: str) -> None:
    images = make.write_harmony(tmp_path, WHICH, 5)
    (images / "Index.idx.xml").rename(images / name)
    for given in (images, images / name):
        plate = open_plate(given)
        assert [channel.name for channel in plate.imaging.channels] == ["DAPI", "Brightfield"]
        assert plate.imaging.z.step_um == pytest.approx(2.0)
    assert plate.warnings == ()


@pytest.mark.parametrize("name", ["Index.old.xml", "planes.csv"])
def test_an_index_that_is_not_read_is_said_to_be_unread(tmp_path: Path, name: str) -> None:
    images = make.write_harmony(tmp_path, WHICH, 5)
    (images / "Index.idx.xml").unlink()
    (images / name).write_text(f"<Planes><P>{make.harmony_name(*WHICH[0])}</P></Planes>")
    (images / "readme.txt").write_text("nothing about the images")
    (warning,) = open_plate(images).warnings
    assert re.match(rf"'{re.escape(name)}' looks like an index of the images and was not read", warning)


def test_the_stage_counts_upwards_and_images_downwards(tmp_path: Path) -> None:
    upper, lower = make.places(wells=((2, 3),), fields=(1,)), make.places(wells=((2, 3),), fields=(2,))
    plate = open_plate(make.write_harmony(tmp_path, [*upper, *lower]))  # PositionY is -200 and -400 µm
    positions = [field.position_um for field in plate.wells[0].fields]
    assert positions == [pytest.approx((200.0, 100.0)), pytest.approx((400.0, 200.0))]
    assert numbers(next(plate.fields()))[0][0] == make.value(*upper[0])
