"""The well and the field in a name are the parts that tell the files apart; where nothing tells, it is a question."""

import pytest

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.plates.layouts.name_parts import places_of


def told(*names: str) -> list[tuple[str, str]]:
    found = places_of(names, "Choose.")
    assert found is not None
    return [(f"{chr(65 + row)}{column + 1}", field) for (row, column), field in found.places]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        # What is the same in all names is no well while another part varies.
        (("H9_mito_B02_f1", "H9_mito_C03_f2"), [("B2", "1"), ("C3", "2")]),
        (("org_D14_B02_f1", "org_D14_C03_f1"), [("B2", "1"), ("C3", "1")]),
        (("B02_T01_f1", "B03_T01_f1"), [("B2", "1"), ("B3", "1")]),
        # ... even where it is the same as one of the wells.
        (("D14_D14_f1", "D14_B02_f1"), [("D14", "1"), ("B2", "1")]),
        # No plate has a row HT, and a word is no well.
        (("HT29_B02_f1", "HT29_B03_f1"), [("B2", "1"), ("B3", "1")]),
        (("H9_A01", "WT_A02"), [("A1", "1"), ("A2", "1")]),
        # Names that are built differently.
        (("plate_D14_B02_f1", "D14_x_C03_f2_again"), [("B2", "1"), ("C3", "2")]),
        # "Well" says so itself, in any case.
        (("D1_well_b02", "D2_well_b03"), [("B2", "1"), ("B3", "1")]),
        (("D1_WellC11_f1", "D2_WellC12_f1"), [("C11", "1"), ("C12", "1")]),
        # Folders are parts like any other.
        (("B02/image_1", "B02/image_2", "C02/image_1"), [("B2", "1"), ("B2", "2"), ("C2", "1")]),
        # Rows and columns by their numbers, and small letters that differ.
        (("r02c03f01", "r02c03f02", "r03c04f01"), [("B3", "1"), ("B3", "2"), ("C4", "1")]),
        (("b02_f01", "b02_f02", "c03_f01"), [("B2", "1"), ("B2", "2"), ("C3", "1")]),
        # A field is told in the same way: p53 and S6 are the same in all names.
        (("p53_B02_s1", "p53_B03_s2"), [("B2", "1"), ("B3", "2")]),
        (("S6_B02_f01", "S6_B03_f10"), [("B2", "1"), ("B3", "10")]),
        (("p53_B02", "p53_B03"), [("B2", "1"), ("B3", "1")]),
        (("B02_1", "B02_2", "B03_1"), [("B2", "1"), ("B2", "2"), ("B3", "1")]),
        (("B02_left", "B02_right", "B03_left"), [("B2", "left"), ("B2", "right"), ("B3", "left")]),
        (("A2-Site_0", "A2-Site_1", "B1-Site_0"), [("A2", "0"), ("A2", "1"), ("B1", "0")]),
    ],
)
def test_the_part_that_varies_is_the_well(names: tuple[str, ...], expected: list[tuple[str, str]]) -> None:
    assert told(*names) == expected


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (("D07_B02_f1", "D14_C03_f1"), r"'D07' \(also D14\) or 'B02' \(also C03\)"),
        (("H9_B02_f1", "H9_B02_f2"), "'H9' .*or 'B02'"),
        (("H9_D14_B02.x",), "'H9' or 'D14' or 'B02'"),
        (("B02_f1", "B03_f1", "overview"), "1 of 3 names have no part .*'overview'"),
        (("D07_B02", "D14_x_C03_y"), "more than one part"),
    ],
)
def test_names_that_leave_a_choice_are_a_question(names: tuple[str, ...], match: str) -> None:
    with pytest.raises(UserInputError, match=match):
        places_of(names, "Choose.")


def test_a_part_that_all_names_have_is_a_question_but_where_nothing_else_can_be_meant() -> None:
    for names in (("B02_f1", "B02_f2"), ("H9_left", "H9_right"), ("x_D14_f1", "D14_f2")):
        with pytest.raises(UserInputError, match=r"stands in all 2 names: .*Choose"):
            places_of(names, "Choose.")
    assert told("B02_f1") == [("B2", "1")]
    assert told("A1-Site_0", "A1-Site_1") == [("A1", "0"), ("A1", "1")]


def test_files_that_no_part_alone_tells_apart_stay_apart() -> None:
    found = places_of(("B02_f1_t1", "B02_f1_t2", "B02_f2_t1", "B02_f2_t2", "B03_f1_t1"), "Choose.")
    assert found is not None
    assert len({field for at, field in found.places if at == (1, 1)}) == 4
    assert "--pattern" in found.warnings[-1]


def test_names_without_a_well_tell_nothing() -> None:
    assert places_of(("organoid 2", "HT29", "p53 x"), "Choose.") is None
