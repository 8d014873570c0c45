"""Small plates of every layout, as their microscopes name and describe them; each plane holds a number of its own."""

import json
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import tifffile
import zarr

from hybridfusion_core.io.tiff.writer import write_stack
from hybridfusion_core.plates.field_stack import open_field
from hybridfusion_core.plates.plate import PlateField

SHAPE = (24, 32)
GUID = "4996E914-A4B6-49AF-8081-5B58A8653201"


def value(row: int, column: int, field: int, time: int, channel: int, z: int) -> int:
    """The number in every pixel of a plane; all arguments as written in its name."""
    return (((((row * 5 + column) * 5 + field) * 4 + time) * 4 + channel) * 16 + z) % 65521


def write_plane(
    path: Path, number: int, dtype: str = "uint16", shape: Sequence[int] = SHAPE, **options: object
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.full(shape, number, dtype), photometric="minisblack", metadata=None, **options)


Place = tuple[int, int, int, int, int, int]  # row, column, field, time, channel, z


def places(
    wells: Iterable[tuple[int, int]] = ((2, 3), (2, 4)),
    fields: Iterable[int] = (1, 2),
    times: Iterable[int] = (0,),
    channels: Iterable[int] = (1, 2),
    slices: Iterable[int] = (1, 2, 3),
) -> list[Place]:
    return [(*well, *rest) for well, *rest in product(wells, fields, times, channels, slices)]


# --- Opera Phenix and Operetta -------------------------------------------------------------------------------------


def harmony_name(row: int, column: int, field: int, time: int, channel: int, z: int) -> str:
    return f"r{row:02d}c{column:02d}f{field:02d}p{z:02d}-ch{channel}sk{time + 1}fk1fl1.tiff"


def harmony_image(place: Place, url: str | None = None, state: str = "Ok", inline: bool = False) -> str:
    row, column, field, time, channel, z = place
    about = (
        f"<ChannelName>{('DAPI', 'Brightfield')[channel - 1]}</ChannelName>"
        f"<ChannelType>{('Fluorescence', 'BrightField')[channel - 1]}</ChannelType>"
        '<ImageResolutionX Unit="m">2.96E-07</ImageResolutionX><ImageResolutionY Unit="m">2.96E-07</ImageResolutionY>'
        if inline
        else ""
    )
    named = harmony_name(*place) if url is None else url
    return (
        f'<Image Version="1"><id>{row:02d}{column:02d}K{time + 1}F{field}P{z}R{channel}</id><State>{state}</State>'
        f"<URL>{named}</URL><Row>{row}</Row><Col>{column}</Col><FieldID>{field}</FieldID><PlaneID>{z}</PlaneID>"
        f"<TimepointID>{time}</TimepointID><SequenceID>1</SequenceID><GroupID>1</GroupID>"
        f"<ChannelID>{channel}</ChannelID><FlimID>1</FlimID>{about}"
        f'<PositionX Unit="m">{field * 1e-4}</PositionX><PositionY Unit="m">{-field * 2e-4}</PositionY>'
        f'<PositionZ Unit="m">{(z - 1) * 2e-6}</PositionZ><AbsPositionZ Unit="m">0.1353</AbsPositionZ>'
        '<MeasurementTimeOffset PlateField="s">0</MeasurementTimeOffset></Image>'
    )


def harmony_index(images: Iterable[str], version: int = 6) -> str:
    namespace = (
        "43B2A954-E3C3-47E1-B392-6635266B0DD3/HarmonyV7"
        if version == 7
        else f"http://www.perkinelmer.com/PEHH/HarmonyV{version}"
    )
    entries = "".join(
        f'<Entry ChannelID="{key}"><ChannelName>{name}</ChannelName><ChannelType>{kind}</ChannelType>'
        '<ImageResolutionX Unit="m">2.96E-07</ImageResolutionX><ImageResolutionY Unit="m">2.96E-07</ImageResolutionY>'
        "<ImageSizeX>32</ImageSizeX><ImageSizeY>24</ImageSizeY></Entry>"
        for key, name, kind in ((1, "DAPI", "Fluorescence"), (2, "Brightfield", "BrightField"))
    )
    flat = '<Map><Entry ChannelID="1"><FlatfieldProfile>{}</FlatfieldProfile></Entry></Map>'
    maps = f"<Maps>{flat}<Map>{entries}</Map></Maps>" if version >= 6 else ""
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<EvaluationInputData Version="1" xmlns="{namespace}">'
        "<User>u</User><InstrumentType>Phenix</InstrumentType><Plates><Plate><PlateID>PHX-7</PlateID>"
        "<PlateTypeName>96well</PlateTypeName><PlateRows>8</PlateRows><PlateColumns>12</PlateColumns>"
        '<Well id="0203" /></Plate></Plates><Wells><Well><id>0203</id><Row>2</Row><Col>3</Col>'
        f'<Image id="0203K1F1P1R1" /></Well></Wells>{maps}<Images>{"".join(images)}</Images></EvaluationInputData>'
    )


def write_harmony(folder: Path, which: Sequence[Place], version: int = 6) -> Path:
    """Write a measurement; returns the folder of the images."""
    images = folder / "Images"
    for place in which:
        write_plane(images / harmony_name(*place), value(*place))
    text = harmony_index((harmony_image(place, inline=version < 6) for place in which), version)
    name = {4: "Index.idx.xml", 5: "Index.idx.xml", 6: "Index.xml", 7: "Index.xml"}[version]
    ((folder if version == 7 else images) / name).write_text(text, encoding="utf-8")
    return images


# --- Yokogawa ------------------------------------------------------------------------------------------------------


def yokogawa_name(row: int, column: int, field: int, time: int, channel: int, z: int) -> str:
    return f"PL1_{chr(64 + row)}{column:02d}_T{time + 1:04d}F{field:03d}L01A{channel:02d}Z{z:02d}C{channel:02d}.tif"


def mlf_record(place: Place, name: str | None = None, kind: str = "IMG", action: int | None = None) -> str:
    row, column, field, time, channel, z = place
    return (
        f'<bts:MeasurementRecord bts:Type="{kind}" bts:Time="2024-04-08T16:00:00.000+02:00" bts:Column="{column}" '
        f'bts:Row="{row}" bts:TimePoint="{time + 1}" bts:FieldIndex="{field}" bts:ZIndex="{z}" bts:TimelineIndex="1" '
        f'bts:ActionIndex="{action or channel}" bts:Action="3D" bts:X="{100 * field}" bts:Y="{-50 * field}" '
        f'bts:Z="{-8.5 + 2.5 * z - 7 * (channel - 1)}" bts:Ch="{channel}">'
        f"{yokogawa_name(*place) if name is None else name}</bts:MeasurementRecord>\n"
    )


def write_mlf(folder: Path, records: Iterable[str]) -> None:
    space = 'xmlns:bts="http://www.yokogawa.co.jp/BTS/BTSSchema/1.0"'
    head = '<?xml version="1.0" encoding="utf-8"?>\n'
    (folder / "MeasurementData.mlf").write_text(
        f'{head}<bts:MeasurementData bts:Version="1.0" {space}>\n{"".join(records)}</bts:MeasurementData>',
        encoding="utf-8",
    )
    sizes = 'bts:HorizontalPixelDimension="0.325" bts:VerticalPixelDimension="0.325" bts:InputBitDepth="16"'
    (folder / "MeasurementDetail.mrf").write_text(
        f'{head}<bts:MeasurementDetail bts:Version="1.0" bts:Title="T" bts:MeasurementSettingFileName="S.mes" '
        f'bts:ColumnCount="24" bts:RowCount="16" {space}><bts:MeasurementSamplePlate bts:Name="PL1" />'
        f'<bts:MeasurementChannel bts:Ch="1" {sizes} /><bts:MeasurementChannel bts:Ch="2" {sizes} />'
        "</bts:MeasurementDetail>",
        encoding="utf-8",
    )
    (folder / "S.mes").write_text(
        f"{head}<bts:MeasurementSetting {space}><bts:ChannelList>"
        '<bts:Channel bts:Ch="1" bts:Target="DNA" bts:Color="#FF002FFF" bts:Kind="ConfocalFluorescence">'
        "<bts:LightSourceName>405nm</bts:LightSourceName></bts:Channel>"
        '<bts:Channel bts:Ch="2" bts:Target="BF" bts:Kind="Brightfield" /></bts:ChannelList></bts:MeasurementSetting>',
        encoding="utf-8",
    )


def write_yokogawa(folder: Path, which: Sequence[Place]) -> Path:
    for place in which:
        write_plane(folder / yokogawa_name(*place), value(*place))
    write_plane(folder / "DC_DCAM#1_CAM1.tif", 0)  # corrections of the camera lie beside the planes
    write_mlf(folder, (mlf_record(place) for place in which))
    return folder


# --- ImageXpress ---------------------------------------------------------------------------------------------------


def imagexpress_name(row: int, column: int, field: int, time: int, channel: int, z: int, thumb: str = "") -> str:
    inside = f"TimePoint_{time + 1}/" + (f"ZStep_{z}/" if z else "")
    return f"{inside}screen_{chr(64 + row)}{column:02d}_s{field}_w{channel}{thumb}{GUID}.tif"


def metaseries(z: int) -> str:
    return (
        '<MetaData><prop id="spatial-calibration-state" type="bool" value="on"/>'
        '<prop id="spatial-calibration-x" type="float" value="0.7032"/>'
        '<prop id="spatial-calibration-y" type="float" value="0.7032"/>'
        f'<prop id="spatial-calibration-units" type="string" value="um"/>'
        '<prop id="stage-position-x" type="float" value="30"/><prop id="stage-position-y" type="float" value="20"/>'
        f'<prop id="z-position" type="float" value="{3000 + 4 * z}"/></MetaData>'
    )


def write_imagexpress(folder: Path, which: Sequence[Place], htd: bool = True, deep: bool = True) -> Path:
    for place in which:
        write_plane(folder / imagexpress_name(*place), value(*place), description=metaseries(place[-1]))
        write_plane(folder / imagexpress_name(*place, thumb="_thumb"), 1, "uint8", (4, 4))
    wells = {place[:2] for place in which}
    selection = "".join(
        f'"WellsSelection{row}", {", ".join(str((row, column) in wells).upper() for column in range(1, 13))}\r\n'
        for row in range(1, 9)
    )
    count = {name: max(place[at] for place in which) for name, at in (("sites", 2), ("waves", 4), ("z", 5))}
    names = "".join(f'"WaveName{wave}", "{("DAPI", "FITC")[wave - 1]}"\r\n' for wave in range(1, count["waves"] + 1))
    text = (
        f'"HTSInfoFile", Version 1.0\r\n"Description", "d\xe9j\xe0"\r\n"PlateType", 6\r\n'
        f'"TimePoints", {1 + max(place[3] for place in which)}\r\n"ZSeries", {str(deep).upper()}\r\n'
        f'"ZSteps", {count["z"]}\r\n"ZProjection", FALSE\r\n"XWells", 12\r\n"YWells", 8\r\n{selection}'
        f'"Sites", TRUE\r\n"XSites", {count["sites"]}\r\n"YSites", 1\r\n'
        f'"SiteSelection1", {", ".join(["TRUE"] * count["sites"])}\r\n"Waves", TRUE\r\n'
        f'"NWavelengths", {count["waves"]}\r\n{names}"EndFile"\r\n'
    )
    if htd:
        (folder / "screen.HTD").write_bytes(text.encode("latin-1"))
    return folder


# --- names, OME-TIFF, OME-Zarr -------------------------------------------------------------------------------------


def plain_name(row: int, column: int, field: int, time: int, channel: int, z: int) -> str:
    return f"{chr(64 + row)}{column:02d}_f{field}_t{time}_z{z:02d}_c{channel}.tif"


PLAIN = "{row}{column}_f{field}_t{time}_z{z}_c{channel}.tif"


def write_plain(folder: Path, which: Sequence[Place]) -> Path:
    for place in which:
        write_plane(folder / plain_name(*place), value(*place))
    return folder


def write_ome_tiffs(folder: Path, names: Sequence[str], shape: Sequence[int] = (2, 2, 3)) -> Path:
    """Write files of T C Z planes, each a number counted through from 100 × its index."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        count = int(np.prod(shape))
        numbers = (100 * index + np.arange(count)).reshape(*shape, 1, 1)
        write_stack(folder / name, np.broadcast_to(numbers, (*shape, *SHAPE)).astype("uint16"), name=name)
    return folder


def write_zarr_plate(
    folder: Path,
    ngff: str = "0.5",
    wells: Sequence[str] = ("B/03", "C/04"),
    fields: Sequence[str] = ("0", "1"),
    shape: Sequence[int] = (2, 2, 3),
) -> Path:
    """Write an OME-Zarr plate of T C Z planes, each a number counted through from 100 × the index of its image."""
    rows, columns = (sorted({well.split("/")[at] for well in wells}) for at in (0, 1))
    plate = {
        "version": ngff,
        "name": "screen 7",
        "rows": [{"name": name} for name in rows],
        "columns": [{"name": name} for name in columns],
        "acquisitions": [{"id": 3, "name": "day 2"}],
        "wells": [
            {"path": well, "rowIndex": rows.index(well.split("/")[0]), "columnIndex": columns.index(well.split("/")[1])}
            for well in wells
        ],
    }
    write_group(folder, {"plate": plate}, ngff)
    count = 0
    for well in wells:
        write_group(folder / well.split("/")[0], {}, ngff)
        images = [{"path": name, "acquisition": 3} for name in fields]
        write_group(folder / well, {"well": {"version": ngff, "images": images}}, ngff)
        for name in fields:
            numbers = (100 * count + np.arange(int(np.prod(shape)))).reshape(*shape, 1, 1)
            write_zarr_image(folder / well / name, np.broadcast_to(numbers, (*shape, *SHAPE)).astype("uint16"), ngff)
            count += 1
    return folder


def write_group(folder: Path, attributes: dict[str, object], ngff: str) -> None:
    group = zarr.create_group(str(folder), zarr_format=2 if ngff == "0.4" else 3)
    if attributes:
        group.attrs.update(attributes if ngff == "0.4" else {"ome": {"version": ngff, **attributes}})


def write_zarr_image(folder: Path, pixels: np.ndarray, ngff: str) -> None:
    space = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}, *space]
    moves = [
        {"type": "scale", "scale": [1, 1, 2.0, 0.5, 0.5]},
        {"type": "translation", "translation": [0, 0, 0, 40.0, 70.0]},
    ]
    entry = {"axes": axes, "version": ngff, "datasets": [{"path": "0", "coordinateTransformations": moves}]}
    channels = [
        {"label": name, "color": color, "window": {"start": 0, "end": 9, "min": 0, "max": 9}}
        for name, color in (("DAPI", "0000FF"), ("actin", "00FF00"))
    ]
    write_group(folder, {"multiscales": [entry], "omero": {"channels": channels[: pixels.shape[1]]}}, ngff)
    array = zarr.create_array(
        str(folder / "0"),
        shape=pixels.shape,
        dtype=pixels.dtype,
        chunks=(1, 1, 1, *SHAPE),
        zarr_format=2 if ngff == "0.4" else 3,
        config={"write_empty_chunks": True},
        **({"chunk_key_encoding": {"name": "v2", "separator": "/"}} if ngff == "0.4" else {}),
    )
    array[...] = pixels


def edit_json(path: Path, change: object) -> None:
    """Change the JSON of a file in place."""
    stored = json.loads(path.read_text())
    change(stored)  # type: ignore[operator]
    path.write_text(json.dumps(stored))


def numbers(unit: PlateField, **options: object) -> list[list[int]]:
    """The number of every plane, C Z, of planes that are constant as the test plates write them."""
    with open_field(unit, **options) as stack:
        t, c, z, y, x = stack.shape
        assert t == 1
        pixels = [stack.read(0, channel, range(z), slice(0, y), slice(0, x)) for channel in range(c)]
    assert all(np.ptp(plane) == 0 for planes in pixels for plane in planes)
    return [[int(plane[0, 0]) for plane in planes] for planes in pixels]
