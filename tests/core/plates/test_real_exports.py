"""Real exports of microscopes, where they are at hand beside the project, are read as their own metadata say."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from hybridfusion_core.plates.field_stack import open_field
from hybridfusion_core.plates.open import open_plate

_BESIDE = [parent / "shared" / "data" / "plates" for parent in Path(__file__).parents[4:6]]
EXPORTS = next((folder for folder in _BESIDE if folder.is_dir()), _BESIDE[0])
pytestmark = pytest.mark.skipif(not EXPORTS.is_dir(), reason="no exports of microscopes are at hand")


@pytest.mark.parametrize(
    ("name", "channels", "slices", "positions"),
    [
        ("9987_Plate_3420", ["DAPI"], [(1,)], {(19885.0, 22985.0)}),
        (
            "9987_Plate_3434",
            ["DAPI", "FITC", "Texas Red"],
            [(2, 2, 2)] * 4,
            {(19885.0, 22985.0), (19885.0, 23300.0), (19885.0, 31984.9), (19885.0, 32300.0)},
        ),
        (
            "9987_Plate_3435",
            ["DAPI", "FITC"],
            [(1, 1)] * 8,
            {(19885.0, 22985.0), (19885.0, 23300.0), (19885.0, 31985.0), (19885.0, 32300.0)},
        ),
        (
            "imagexpress_projection_mix",
            ["w1 FITC_05", "w2 FITC_05", "w3 FITC_05", "w4 FITC_05"],
            [(10, 10, 1, 1)] * 2,
            {(41385.4, 79813.4), (41385.4, 80513.3)},
        ),
        (
            "cv8000_minimal",
            ["405", "488"],
            [(4, 4)] * 12,
            {(-402.9, -567.1), (-402.9, 82.8), (247.0, -567.1), (247.0, 82.8)},
        ),
    ],
)
def test_a_real_export_is_read_as_its_metadata_say(
    name: str, channels: list[str], slices: list[tuple[int, ...]], positions: set[tuple[float, float]]
) -> None:
    plate = open_plate(EXPORTS / name)
    assert [channel.name for channel in plate.imaging.channels] == channels
    fields = list(plate.fields())
    assert [field.frame.slices for field in fields] == slices
    assert all(field.frame.defects == () for field in fields)
    assert {field.position_um for well in plate.wells for field in well.fields} == positions
    with open_field(fields[0]) as stack:
        assert stack.shape[1] == len(channels)


def test_fields_that_overlap_do_so_where_their_positions_say() -> None:
    """The stage of an ImageXpress counts x in the direction of the image's columns."""
    folder = EXPORTS / "9987_Plate_3434"
    well = next(well for well in open_plate(folder).wells if well.name == "B03")
    left, right = (tifffile.imread(folder / field.frames[0].planes[0][0].file).astype(float) for field in well.fields)
    (_, x0), (_, x1) = (field.position_um or (0, 0) for field in well.fields)
    step = round((x1 - x0) / 1.3672)
    seen = max(
        np.corrcoef(left[:, step + shift :].ravel(), right[:, : left.shape[1] - step - shift].ravel())[0, 1]
        for shift in range(-4, 5)
    )
    assert seen > 0.95
