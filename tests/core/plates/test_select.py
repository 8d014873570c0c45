"""Choosing from a plate: what is named is chosen, nothing else, and what the plate has not is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.plates.plate import Field, Frame, Imaging, Plate, Well
from hybridfusion_core.plates.select import (
    Selection,
    select,
    select_fields,
    select_times,
    select_wells,
    spread,
)
from hybridfusion_core.plates.well_names import plate_size, row_index, row_letters, well_index

PLACES = st.sets(st.tuples(st.integers(0, 15), st.integers(0, 23)), min_size=1, max_size=40)


def wells_at(places: set[tuple[int, int]], fields: tuple[Field, ...] = ()) -> tuple[Well, ...]:
    return tuple(Well(row_letters(row), f"{column + 1:02d}", row, column, fields) for row, column in sorted(places))


def plate_of(rows: int = 3, columns: int = 4, fields: tuple[str, ...] = ("1", "2", "10"), times: int = 3) -> Plate:
    described = tuple(Field(name, tuple(Frame(str(t), (1,)) for t in range(times))) for name in fields)
    wells = wells_at({(row, column) for row in range(rows) for column in range(columns)}, described)
    return Plate("folder", "pattern", "screen", wells, Imaging(()), rows, columns)


def chosen(plate: Plate, **options: object) -> set[tuple[str, str, int]]:
    return {(unit.well, unit.field, unit.t) for unit in select(plate, Selection(**options))}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("B02", ["B02"]),
        ("b2", ["B02"]),
        ("A01:B02", ["A01", "A02", "B01", "B02"]),
        ("B02:A01", ["A01", "A02", "B01", "B02"]),
        ("A02:B01", ["A01", "A02", "B01", "B02"]),
        ("C03:H12", ["C03", "C04"]),
        ("A01, C04", ["A01", "C04"]),
        ("A01,A01:A02", ["A01", "A02"]),
    ],
)
def test_wells_are_chosen_by_name_and_by_rectangle(text: str, names: list[str]) -> None:
    assert [well.name for well in select_wells(plate_of().wells, text)] == names


@pytest.mark.parametrize("text", ["", "B02,", "B", "2", "B02:C03:D04", "B02-C05", "B00", "Ä01", "../B02", "B02:"])
def test_what_is_no_well_is_refused(text: str) -> None:
    with pytest.raises(UserInputError, match=r"--wells .*expected"):
        select_wells(plate_of().wells, text)


def test_wells_that_the_plate_has_not_are_refused() -> None:
    with pytest.raises(UserInputError, match=r"--wells has 'H12'.*has images of none.*expected some of A01, A02"):
        select_wells(plate_of().wells, "A01,H12")


@pytest.mark.parametrize(
    ("text", "names"),
    [("1", {"1"}), ("001", {"1"}), ("1-2", {"1", "2"}), ("2-99", {"2", "10"}), ("1,10", {"1", "10"}), ("a-b", {"a-b"})],
)
def test_fields_are_chosen_by_number_and_by_range(text: str, names: set[str]) -> None:
    assert select_fields(["1", "2", "10", "a-b"], text) == names


@pytest.mark.parametrize("text", ["3", "3-5", "5-3", "x", "1,", "-1", "1-2-3"])
def test_fields_that_no_well_has_are_refused(text: str) -> None:
    with pytest.raises(UserInputError, match=r"--fields .*expected"):
        select_fields(["1", "2", "10"], text)


@given(
    st.integers(1, 30),
    st.none() | st.integers(0, 40),
    st.none() | st.integers(0, 40),
    st.none() | st.integers(1, 9),
)
def test_times_are_ranges_as_in_python(count: int, start: int | None, stop: int | None, step: int | None) -> None:
    text = ":".join("" if each is None else str(each) for each in (start, stop)) + (f":{step}" if step else "")
    expected = set(range(count)[slice(start, stop, step)])
    if expected and text != ":":
        assert select_times(count, text) == expected
    else:
        with pytest.raises(UserInputError, match=r"--times has .*expected an index or a range"):
            select_times(count, text)


@pytest.mark.parametrize("text", ["3", "-1", "a", "0:3:0", "1.5", "", "0,", "0:1:1:1"])
def test_times_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UserInputError, match=r"--times .*expected"):
        select_times(3, text)


def test_all_conditions_must_hold() -> None:
    plate = plate_of()
    assert len(chosen(plate)) == 3 * 4 * 3 * 3
    assert chosen(plate, wells="B02", fields="2", times="0,2") == {("B02", "2", 0), ("B02", "2", 2)}
    only = frozenset({("A01", "1", 0), ("B02", "10", 2), ("C04", "1", 1)})
    assert chosen(plate, only=only) == only
    assert chosen(plate, only=only, wells="A01:B02") == only - {("C04", "1", 1)}
    assert {well for well, _, _ in chosen(plate, only=only, pilot=1)} <= {well for well, _, _ in only}
    with pytest.raises(UserInputError, match=r"Nothing of plate 'screen' is left.*expected at least one"):
        select(plate, Selection(only=only, wells="A02"))


def test_units_come_in_the_order_of_the_plate() -> None:
    plate = plate_of()
    everything = list(plate.fields())
    found = select(plate, Selection(wells="C01,A03", fields="10,1"))
    assert [unit.well for unit in found][::6] == ["A03", "C01"]
    assert list(found) == [unit for unit in everything if unit in found]


@given(PLACES, st.integers(1, 50))
def test_a_pilot_is_as_many_wells_and_grows_by_adding(places: set[tuple[int, int]], count: int) -> None:
    wells = wells_at(places)
    found = spread(wells, count)
    assert len(found) == min(count, len(wells))
    assert [well for well in wells if well in found] == list(found)
    assert set(found) <= set(spread(wells, count + 1))


def test_a_pilot_lies_spread_over_the_plate() -> None:
    wells = plate_of(8, 12).wells
    found = spread(wells, 5)
    rows, columns = ({well.row_index for well in found}, {well.column_index for well in found})
    assert (min(rows), max(rows), min(columns), max(columns)) == (0, 7, 0, 11)  # the corners, and
    middle = spread(wells, 1)[0]
    assert (middle.row_index, middle.column_index) in {(3, 5), (3, 6), (4, 5), (4, 6)}
    with pytest.raises(UserInputError, match="--pilot is 0; expected at least one"):
        spread(wells, 0)


def test_failures_of_another_plate_are_refused() -> None:
    only = frozenset({("A01", "1", 0), ("H12", "1", 0)})
    with pytest.raises(
        UserInputError, match="1 of 2 failures are none of plate 'screen', the first well 'H12' field '1'"
    ):
        select(plate_of(), Selection(only=only))


@given(st.integers(0, 701), st.integers(0, 998))
def test_names_of_wells_and_their_places_are_one_to_one(row: int, column: int) -> None:
    assert row_index(row_letters(row)) == row
    assert well_index(f"{row_letters(row)}{column + 1:02d}") == (row, column)
    assert well_index(f"{row_letters(row).lower()} - {column + 1}") == (row, column)


def test_the_smallest_usual_plate_is_taken() -> None:
    assert plate_size(2, 3) == (2, 3)
    assert plate_size(1, 12) == (8, 12)
    assert plate_size(9, 1) == (16, 24)
    assert plate_size(32, 48) == (32, 48)
    assert plate_size(100, 200) == (100, 200)
