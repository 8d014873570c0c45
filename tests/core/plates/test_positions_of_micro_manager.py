"""Micro-Manager describes all positions in every file: each image has the well and the name of its own position."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import plate_makers as make
import pytest
import tifffile
from plate_makers import numbers

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.plates.open import open_plate


def write_positions(
    folder: Path, files: Sequence[str], names: Sequence[str], labels: Sequence[str] = (), *, first_only: bool = False
) -> Path:
    """Write a position of two slices to each file; the XML in them describes all, or stands in the first file only."""
    images = "".join(
        f'<Image ID="Image:{index}" Name="{name}">'
        + (f'<StageLabel Name="{labels[index]}"/>' if labels else "")
        + f'<Pixels ID="Pixels:{index}" DimensionOrder="XYZCT" Type="uint16" SizeX="32" SizeY="24" SizeZ="2" SizeC="1" '
        f'SizeT="1"><Channel ID="Channel:{index}:0" SamplesPerPixel="1"/>'
        + "".join(
            f'<TiffData IFD="{z}" FirstZ="{z}" PlaneCount="1"><UUID FileName="{files[index]}">urn:uuid:{index}</UUID>'
            "</TiffData>"
            for z in (0, 1)
        )
        + "</Pixels></Image>"
        for index, name in enumerate(names)
    )
    for index, file in enumerate(files):
        text = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{index}">{images}</OME>'
        )
        if first_only and index:
            text = (
                '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
                f'UUID="urn:uuid:{index}"><BinaryOnly MetadataFile="{files[0]}" UUID="urn:uuid:0"/></OME>'
            )
        pixels = np.broadcast_to(np.array([10 * index, 10 * index + 1])[:, None, None], (2, *make.SHAPE))
        tifffile.imwrite(
            folder / file, pixels.astype("uint16"), description=text.encode(), metadata=None, photometric="minisblack"
        )
    return folder


FILES = ["exp_MMStack_1.ome.tif", "exp_MMStack_2.ome.tif", "exp_MMStack_3.ome.tif"]


@pytest.mark.parametrize("first_only", [False, True])
@pytest.mark.parametrize(
    ("files", "names", "labels"),
    [
        ([f"exp_MMStack_{name}.ome.tif" for name in ("A1-Site_0", "A2-Site_0", "B1-Site_0")], ["x", "x", "x"], []),
        (FILES, ["A1-Site_0", "A2-Site_0", "B1-Site_0"], []),
        (FILES, ["H9 1", "H9 2", "H9 3"], ["A1-Site_0", "A2-Site_0", "B1-Site_0"]),
    ],
    ids=["in the files of the planes", "in the names of the images", "in the stage labels"],
)
def test_each_position_comes_to_its_own_well(
    tmp_path: Path, files: list[str], names: list[str], labels: list[str], first_only: bool
) -> None:
    plate = open_plate(write_positions(tmp_path, files, names, labels, first_only=first_only))
    assert [(each.well, numbers(each)) for each in plate.fields()] == [
        ("A01", [[0, 1]]),
        ("A02", [[10, 11]]),
        ("B01", [[20, 21]]),
    ]


def test_positions_that_name_no_well_keep_their_own_names(tmp_path: Path) -> None:
    files = [f"exp_MMStack_Pos{index}.ome.tif" for index in (0, 1)]
    plate = open_plate(write_positions(tmp_path, files, ["Pos0", "Pos1"]))
    assert [(each.well, each.field, numbers(each)) for each in plate.fields()] == [
        ("A01", "Pos0", [[0, 1]]),
        ("A01", "Pos1", [[10, 11]]),
    ]


def test_slices_that_are_files_of_their_own_are_a_question(tmp_path: Path) -> None:
    names = [f"image--L0--U{u:02}--V00--Z{z:02}.ome.tif" for u in (0, 1) for z in (0, 1)]
    make.write_ome_tiffs(tmp_path, names, (1, 1, 1))
    with pytest.raises(UserInputError, match="4 OME-TIFFs hold one slice each, and their names count slices"):
        open_plate(tmp_path)
