"""Layouts that were written from documentation: each plane at its own place, with what the index says of it."""

import csv
import json
import shutil
from pathlib import Path

import plate_makers as make
import pytest
from plate_makers import numbers

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.plates.layouts.table import LAYOUTS, layout
from hybridfusion_core.plates.open import open_plate
from hybridfusion_core.plates.references import vendor_projections
from hybridfusion_core.plates.summary import plate_warnings

WHICH = make.places()  # wells B03 and B04, fields 1 and 2, channels 1 and 2, z 1 to 3, one time
OME = "http://www.openmicroscopy.org/Schemas/OME/2013-06"


def write_hcs_ai(folder: Path) -> Path:
    rows = []
    for row, column, field, time, channel, z in WHICH:
        well = f"{chr(64 + row)}{column:02d}"
        name = f"Scan_1_t{time}_{well}_s{field - 1}_w{channel - 1}_z{z - 1}.tif"
        make.write_plane(folder / f"timepoint{time}" / name, make.value(row, column, field, time, channel, z))
        rows.append(
            {
                "Well": f"{chr(64 + row)} - {column}",
                "Field": field - 1,
                "Wavelength": channel - 1,
                "Timepoint": time,
                "ZIndex": z - 1,
                "ImageSubFolderPath": f"timepoint{time}",
                "ImageFileName": name,
                "PositionXUm": 100 * field,
                "PositionYUm": 50 * field,
                "PositionZUm": 1000 + 3 * z,
            }
        )
    with (folder / "image_metadata_1.csv").open("w", newline="", encoding="utf-8-sig") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    waves = [
        {"Index": 1, "EmissionFilter": {"Name": "FITC"}},
        {"Index": 0, "EmissionFilter": {"Name": "TL"}, "ZStep": 3.0},
    ]
    protocol = {"ObjectiveCalibration": {"PixelWidth": 0.58, "PixelHeight": 0.58}, "Wavelengths": waves}
    stack = {"AutoLeadAcquisitionProtocol": protocol, "ImageMetadataFiles": ["image_metadata_1.csv"], "PlateId": "P7"}
    (folder / "scan.jdce").write_text(json.dumps({"ImageStack": stack}), encoding="utf-8-sig")
    return folder


def write_cq3k(folder: Path) -> Path:
    records = []
    for place in WHICH:
        row, column, field, time, channel, z = place
        name = f"W{12 * (row - 1) + column:04d}F{field:04d}T{time + 1:04d}Z{z:03d}C{channel}.tif"
        make.write_plane(folder / "Image" / name, make.value(*place))
        records.append(make.mlf_record(place, f"Image\\{name}"))
        if z == 1:
            make.write_plane(folder / "Projection" / name.replace("Z001", "Z000"), 1)
            projection = make.mlf_record(place, f"Projection\\{name.replace('Z001', 'Z000')}")
            records.append(projection.replace('bts:ZIndex="1"', 'bts:ZIndex="0" bts:ZImageProcessing="max"'))
    make.write_mlf(folder, records)
    return folder


def write_scanr(folder: Path) -> Path:
    images = []
    for row, column, field in dict.fromkeys(place[:3] for place in WHICH):
        number, planes = 12 * (row - 1) + column, []
        for place in (each for each in WHICH if each[:3] == (row, column, field)):
            _, _, _, time, channel, z = place
            place_name = f"B{column}--W{number:05d}--P{field:05d}--Z{z - 1:05d}--T{time:05d}"
            name = f"{place_name}--{('405 nm #1', 'BF')[channel - 1]}.tif"
            make.write_plane(folder / "data" / name, make.value(*place))
            at = f'TheC="{channel - 1}" TheT="{time}" TheZ="{z - 1}"'
            first = f'FirstC="{channel - 1}" FirstT="{time}" FirstZ="{z - 1}"'
            planes.append(f'<TiffData {first}><UUID FileName="{name}">urn:uuid:1</UUID></TiffData>')
            position = f'PositionX="{100 * field}" PositionY="{50 * field}" PositionZ="{6000 + 2 * z}"'
            planes.append(f"<Plane {position} {at}/>")
        images.append(
            f'<Image ID="Image:W{number}P{field}" Name="Well {number}, Position {field} (B{column})"><Pixels '
            f'ID="Pixels:W{number}P{field}" PhysicalSizeX="0.325" PhysicalSizeY="0.325" SizeX="32" SizeY="24">'
            '<Channel IlluminationType="Epifluorescence" Name="405 nm #1"/>'
            '<Channel IlluminationType="Transmitted" Name="BF"/>'
            f"{''.join(planes)}</Pixels></Image>"
        )
    (folder / "data" / "metadata.ome.xml").write_text(f'<OME xmlns="{OME}">{"".join(images)}</OME>')
    return folder


def write_incell(folder: Path) -> Path:
    images = []
    for place in WHICH:
        row, column, field, time, channel, z = place
        name = f"{chr(64 + row)} - {column}(fld {field} wv {('DAPI', 'TL')[channel - 1]} z {z}).tif"
        make.write_plane(folder / name, make.value(*place))
        images.append(
            f'<Image acquisition_time_ms="1" filename="{name}"><Well label="x"><Row number="{row}"/>'
            f'<Column number="{column}"/></Well><Identifier field_index="{field - 1}" time_index="{time}" '
            f'wave_index="{channel - 1}" z_index="{z - 1}"/><FocusPosition z="{2 * z}"/></Image>'
        )
    waves = "".join(
        f'<Wavelength index="{index}" fusion_wave="false"><ExcitationFilter name="{name}"/>'
        f'<EmissionFilter name="{name}" wavelength="{wave}"/></Wavelength>'
        for index, (name, wave) in enumerate((("DAPI", 455), ("TL", 0)))
    )
    (folder / "plate.xdce").write_text(
        '<ImageStack><AutoLeadAcquisitionProtocol><Plate name="96" rows="8" columns="12"/><ObjectiveCalibration '
        f'pixel_width="0.325" pixel_height="0.325"/><Wavelengths>{waves}</Wavelengths></AutoLeadAcquisitionProtocol>'
        f"<Images>{''.join(images)}</Images></ImageStack>"
    )
    return folder


WRITERS = {"hcs-ai": write_hcs_ai, "cq3k": write_cq3k, "scanr": write_scanr, "incell": write_incell}


@pytest.mark.parametrize(
    ("name", "pixel", "step", "channels", "transmitted", "position"),
    [
        ("hcs-ai", 0.58, 3.0, ["TL", "FITC"], [True, None], (50.0, 100.0)),
        ("cq3k", 0.325, 2.5, ["DNA", "BF"], [False, True], (50.0, 100.0)),
        ("scanr", 0.325, 2.0, ["405 nm #1", "BF"], [False, True], (50.0, 100.0)),
        ("incell", 0.325, 2.0, ["DAPI", "TL"], [None, True], None),
    ],
)
def test_every_plane_comes_to_its_own_place_with_what_the_index_says(
    tmp_path: Path,
    name: str,
    pixel: float,
    step: float,
    channels: list[str],
    transmitted: list[bool | None],
    position: tuple[float, float] | None,
) -> None:
    plate = open_plate(WRITERS[name](tmp_path))
    assert plate.layout == name
    assert [well.name for well in plate.wells] == ["B03", "B04"]
    for index, unit in enumerate(plate.fields()):
        column, field = int(unit.column), index % 2 + 1
        assert numbers(unit) == [[make.value(2, column, field, 0, c, z) for z in (1, 2, 3)] for c in (1, 2)]
        assert unit.frame.defects == ()
    assert [(each.name, each.transmitted) for each in plate.imaging.channels] == list(
        zip(channels, transmitted, strict=True)
    )
    assert (plate.imaging.y.step_um, plate.imaging.x.step_um, plate.imaging.z.step_um) == pytest.approx(
        (pixel, pixel, step)
    )
    assert plate.wells[0].fields[0].position_um == position
    assert plate.warnings == ()


@pytest.mark.parametrize("name", WRITERS)
def test_a_plane_that_the_index_lists_and_nobody_copied_is_missing(tmp_path: Path, name: str) -> None:
    folder = WRITERS[name](tmp_path)
    victim = sorted(path for path in folder.rglob("*.tif") if "Projection" not in path.parts)[0]
    victim.unlink()
    hurt = [each for each in open_plate(folder).fields() if each.frame.defects]
    assert [each.frame.defects[0].kind for each in hurt] == ["missing"]


@pytest.mark.parametrize("name", WRITERS)
def test_names_alone_give_the_same_planes(tmp_path: Path, name: str) -> None:
    folder = WRITERS[name](tmp_path)
    expected = [numbers(each) for each in open_plate(folder).fields()]
    for path in [each for each in folder.rglob("*") if each.is_file() and each.suffix != ".tif"]:
        path.unlink()
    plate = open_plate(folder)
    assert [numbers(each) for each in plate.fields()] == expected
    assert [well.name for well in plate.wells] == (["W15", "W16"] if name == "cq3k" else ["B03", "B04"])


def test_projections_are_kept_as_references(tmp_path: Path) -> None:
    plate = open_plate(write_cq3k(tmp_path / "cq3k"))
    assert len(plate.projections) == 4 * 2
    found = vendor_projections(plate, next(plate.fields()))
    assert [path.name for _, path in sorted(found.items())] == [
        "W0015F0001T0001Z000C1.tif",
        "W0015F0001T0001Z000C2.tif",
    ]
    assert all(path.is_file() for path in found.values())
    folder = make.write_imagexpress(tmp_path / "ix", WHICH)
    for row, column, field, time, channel, z in WHICH:
        if z == 1:
            make.write_plane(folder / make.imagexpress_name(row, column, field, time, channel, 0), 5)
    kept = open_plate(folder).projections
    assert [(each.row_index, each.column_index, each.field, each.channel) for each in kept] == [
        (1, column, field, channel) for column in (2, 3) for field in ("1", "2") for channel in (0, 1)
    ]


def test_the_stacks_of_a_run_are_taken_and_its_projections_kept(tmp_path: Path) -> None:
    write_hcs_ai(tmp_path / "experiment_z_stack")
    shutil.copytree(tmp_path / "experiment_z_stack", tmp_path / "experiment")
    for path in (tmp_path / "experiment").rglob("*_z[12].tif"):
        path.unlink()
    plate = open_plate(tmp_path)
    assert [each.frame.slices for each in plate.fields()] == [(3, 3)] * 4
    assert len(plate.projections) == 4 * 2
    assert all(each.file.startswith("experiment/") for each in plate.projections)


def test_a_layout_that_has_met_no_real_export_is_said_to_be_experimental(tmp_path: Path) -> None:
    plate = open_plate(write_incell(tmp_path))
    assert "no real export" in plate_warnings(plate)[-1]
    assert {each.name for each in LAYOUTS if each.experimental} == {"harmony", "hcs-ai", "cq3k", "scanr", "incell"}
    assert layout("imagexpress").real


def test_plates_beside_each_other_are_not_mixed(tmp_path: Path) -> None:
    make.write_imagexpress(tmp_path / "one", make.places(), htd=False)
    hurt = tmp_path / "two" / "TimePoint_1" / "ZStep_1"
    make.write_plane(hurt / "screen_B03_s1_w1.TIF", 7)
    with pytest.raises(UserInputError, match="holds planes in 'one' and in 'two' that say the same wells"):
        open_plate(tmp_path)
    (hurt / "screen_B03_s1_w1.TIF").rename(hurt / "screen_C03_s1_w1.TIF")
    assert len(open_plate(tmp_path).wells) == 3
