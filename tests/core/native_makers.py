"""Microscopes' files for tests: CZI by Zeiss' own writer; LIF and OIF byte by byte, as their libraries read them."""

import struct
from pathlib import Path

import numpy as np
import tifffile

WIDEFIELD = "<Attachment Name='HardwareSetting'><ATLCameraSettingDefinition NumericalAperture='0.75' {lens}>{inside}\
</ATLCameraSettingDefinition></Attachment>"


def pixels(shape: tuple[int, ...], seed: int = 0, dtype: str = "uint16") -> np.ndarray:
    """Noise that differs everywhere: a plane at the wrong place shows."""
    top = 256 if dtype == "uint8" else 4000
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


def write_czi(
    path: Path, scenes: list[np.ndarray], *, rgb: bool = False, leave_out: tuple[int, ...] = (), wells=()
) -> Path:
    """Write scenes T C Z Y X (T Z Y X 3 where `rgb`) side by side, lossless.

    Args:
        path: of the file.
        scenes: pixels.
        rgb: they are colour images.
        leave_out: t, c, z of a plane that is not written.
        wells: what the scenes are called, in metadata as ZEN writes them for a plate.
    """
    from pylibCZIrw import czi

    with czi.create_czi(str(path), compression_options="zstd1:ExplicitLevel=1;PreProcess=HiLoByteUnpack") as file:
        for index, scene in enumerate(scenes):
            place = (index * 500 - 30, 10)
            planes = np.moveaxis(scene[:, None, ..., ::-1], 0, 0) if rgb else scene[..., None]
            for t, c, z in np.ndindex(planes.shape[:3]):
                if (t, c, z) != leave_out:
                    file.write(np.ascontiguousarray(planes[t, c, z]), place, {"T": t, "C": c, "Z": z}, scene=index)
        count = 1 if rgb else scenes[0].shape[1]
        names = dict(enumerate(("DAPI", "GFP", "Cy5")[:count]))
        file.write_metadata("test", names, scale_x=0.2e-6, scale_y=0.2e-6, scale_z=0.5e-6)
    with czi.edit_czi(str(path)) as editor, editor.edit_session() as session:
        session.set_xml(_czi_metadata(session.get_xml(), wells))
    return path


def _czi_metadata(xml: str, wells) -> str:
    """Add what ZEN writes and the library does not: the objective, light, colours and scenes."""
    lens = (
        "<Instrument><Objectives><Objective Id='Objective:1' Name='Plan-Apochromat 20x/0.8'><LensNA>0.8</LensNA>"
        "</Objective></Objectives></Instrument>"
    )
    scenes = "".join(
        f"<Scene Index='{index}' Name='P{index + 1}'><CenterPosition>{100 * index},50</CenterPosition>"
        f"<ArrayName>{well}</ArrayName></Scene>"
        for index, well in enumerate(wells)
    )
    scenes = f"<S><Scenes>{scenes}</Scenes></S>" if scenes else ""
    settings = "<ObjectiveSettings><ObjectiveRef Id='Objective:1'/></ObjectiveSettings>"
    light = "<ContrastMethod>Fluorescence</ContrastMethod><AcquisitionMode>WideField</AcquisitionMode>"
    xml = xml.replace("<Image>", f"<Image>{settings}", 1).replace("</Information>", f"{lens}</Information>", 1)
    xml = xml.replace("</Channels>", f"</Channels>{scenes}", 1)
    return xml.replace('Name="DAPI">', f'Name="DAPI"><Color>#FF0000FF</Color>{light}', 1).replace(
        'Name="GFP">', 'Name="GFP"><ContrastMethod>Brightfield</ContrastMethod>', 1
    )


def write_lif(path: Path, images: dict[str, np.ndarray], *, mosaic: bool = False, down: bool = False) -> Path:
    """Write images T Z C Y X by name; with `mosaic` the first axis are positions of a tile scan.

    Args:
        path: of the file.
        images: pixels.
        mosaic: the first axis of all images are positions.
        down: the stacks were taken from top to bottom.
    """
    elements, blocks = "", b""
    for index, (name, image) in enumerate(images.items()):
        elements += _lif_element(name, image, f"MemBlock_{index}", mosaic=mosaic, down=down)
        identity = f"MemBlock_{index}"
        data = image.tobytes()
        blocks += struct.pack("<IIBQBI", 0x70, 0, 0x2A, len(data), 0x2A, len(identity))
        blocks += identity.encode("utf-16-le") + data
    xml = (
        f"<LMSDataContainerHeader Version='2'><Element Name='root'><Memory Size='0' MemoryBlockID='MemBlock_x'/>"
        f"<Children>{elements}</Children></Element></LMSDataContainerHeader>"
    )
    return write_lif_header(path, xml, blocks)


def write_lif_header(path: Path, xml: str, blocks: bytes = b"") -> Path:
    """Write a LIF of any XML."""
    text = xml.encode("utf-16-le")
    path.write_bytes(struct.pack("<IIBI", 0x70, len(text) + 5, 0x2A, len(xml)) + text + blocks)
    return path


def _lif_element(name: str, image: np.ndarray, block: str, *, mosaic: bool, down: bool) -> str:
    t, z, c, y, x = image.strides
    sizes = dict(zip("tzcyx", image.shape, strict=True))
    bits = 8 * image.itemsize
    channels = "".join(
        f"<ChannelDescription DataType='0' ChannelTag='0' Resolution='{bits}' NameOfMeasuredQuantity='' Min='0' "
        f"Max='1' Unit='' LUTName='{lookup}' IsLUTInverted='0' BytesInc='{index * c}' BitInc='0'/>"
        for index, lookup in zip(range(sizes["c"]), ("Blue", "Green", "Gray"), strict=False)
    )
    length = {"x": 0.3e-6, "y": 0.3e-6, "z": -2e-6 if down else 2e-6, "t": 5.0}
    kinds = (("1", "x", x, "m"), ("2", "y", y, "m"), ("3", "z", z, "m"), ("10" if mosaic else "4", "t", t, "s"))
    dimensions = "".join(
        f"<DimensionDescription DimID='{kind}' NumberOfElements='{sizes[letter]}' Origin='0' "
        f"Length='{length[letter] * (sizes[letter] - 1)}' Unit='{unit}' BytesInc='{stride}' BitInc='0'/>"
        for kind, letter, stride, unit in kinds
        if sizes[letter] > 1
    )
    infos = "".join(
        f"<WideFieldChannelInfo ContrastingMethodName='{method}' UserDefName='{user}'/>"
        for method, user in (("FLUO", "DAPI"), ("TL-BF", "BF"))[: sizes["c"]]
    )
    hardware = WIDEFIELD.format(
        lens="ObjectiveName='HC PL APO 20x/0.75'",
        inside=f"<WideFieldChannelConfigurator>{infos}</WideFieldChannelConfigurator>",
    )
    tiles = "".join(f"<Tile FieldX='{i}' FieldY='0' PosX='{i * 1e-3}' PosY='2e-3'/>" for i in range(sizes["t"]))
    tiles = f"<Attachment Name='TileScanInfo'>{tiles}</Attachment>" if mosaic else ""
    return (
        f"<Element Name='{name}' UniqueID='{block}'><Data><Image><ImageDescription><Channels>{channels}</Channels>"
        f"<Dimensions>{dimensions}</Dimensions></ImageDescription>{hardware}{tiles}</Image></Data>"
        f"<Memory Size='{image.nbytes}' MemoryBlockID='{block}'/></Element>"
    )


def write_oif(path: Path, image: np.ndarray, *, down: bool = False) -> Path:
    """Write C Z Y X as an OIF and its folder of planes."""
    folder = path.with_name(path.name + ".files")
    folder.mkdir()
    channels, slices, rows, columns = image.shape
    for c, z in np.ndindex(channels, slices):
        tifffile.imwrite(folder / f"s_C{c + 1:03d}Z{z + 1:03d}.tif", image[c, z])
    first, last = (4000.0, 0.0) if down else (0.0, 4000.0)
    axes = (
        ("X", columns, 0.0, 0.5 * (columns - 1), "um"),
        ("Y", rows, 0.0, 0.5 * (rows - 1), "um"),
        ("C", channels, 1.0, float(channels), "Ch"),
        ("Z", slices, first, last, "nm"),
    )
    sections = {
        f"Axis {index} Parameters Common": {
            "AxisCode": f'"{code}"', "MaxSize": size,
            "StartPosition": start, "EndPosition": end, "UnitName": f'"{unit}"',
        }
        for index, (code, size, start, end, unit) in enumerate(axes)
    }  # fmt: skip
    sections["Axis Parameter Common"] = {"AxisCount": 4, "AxisOrder": '"XYCZ"'}
    sections["ProfileSaveInfo"] = {"Name": '"COFAImages"', "Version": '"2.0.0.0"'}
    sections["Reference Image Parameter"] = {"ValidBitCounts": 12}
    sections["Channel 1 Parameters"] = {"CH Name": '"CH1"', "DyeName": '"DAPI"', "LightType": '"Fluorescence"'}
    sections["Channel 2 Parameters"] = {"CH Name": '"TD1"', "DyeName": '"None"', "LightType": '"Transmitted Light"'}
    lines = [
        line for name, values in sections.items() for line in (f"[{name}]", *(f"{k}={v}" for k, v in values.items()))
    ]
    path.write_bytes("\r\n".join(lines).encode("utf-16"))
    return path
