"""Micro-Manager stacks: one position or several, in one file or in one file each."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from hybridfusion_core.errors import HybridFusionError, StoredDataError, UserInputError
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.stack import Axis

PIXELS = np.random.default_rng(0).integers(0, 4000, (2, 3, 70, 90)).astype("uint16")  # R Z Y X


def micro_manager(path: Path, pixels: np.ndarray, *, first: int = 0, positions: int | None = None, text: str = ""):
    """Write a Micro-Manager stack: its own index and summary in the header, pixels 162 bytes after each directory.

    Args:
        path: new file, `PREFIX_MMStack….ome.tif`.
        pixels: R Z Y X.
        first: number of the first position in this file.
        positions: how many there are in all files.
        text: OME-XML of the first page; none if empty.
    """
    r, z, y, x = pixels.shape
    planes = [(at_r, at_z) for at_r in range(r) for at_z in range(z)]
    about = {"MicroManagerVersion": "2.0", "Frames": 1, "Slices": z, "Channels": 1, "Prefix": "a"}
    summary = json.dumps(about | {"Positions": positions or r}).encode()
    # Beyond the header: summary, then directory and pixels of each plane, then notes and the index.
    start = (40 + len(summary) + 7) // 8 * 8 + 6
    longer = 12 * bool(text)  # the first directory has one entry more
    size = 162 + y * x * 2
    offsets = [start + longer * (number > 0) + number * size for number in range(len(planes))]
    end = start + longer + len(planes) * size
    note, resolution, description = b"{}\0\0", struct.pack("<II", 1, 1), text.encode() + b"\0"
    index = struct.pack("<II", 3453623, len(planes)) + b"".join(
        struct.pack("<5I", 0, at_z, 0, first + at_r, offset)
        for (at_r, at_z), offset in zip(planes, offsets, strict=True)
    )
    index_at = end + len(note) + len(resolution) + len(description)
    header = struct.pack("<2sHI", b"II", 42, offsets[0])
    header += struct.pack("<8I", 54773648, index_at, 483765892, 0, 99384722, 0, 2355492, len(summary))
    body = bytearray((header + summary).ljust(start, b"\0"))
    for number, ((at_r, at_z), offset) in enumerate(zip(planes, offsets, strict=True)):
        entries = [
            (256, 4, 1, x), (257, 4, 1, y), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1),
            *([(270, 2, len(description), end + len(note) + len(resolution))] if text and not number else []),
            (273, 4, 1, offset + 162 + (0 if number else longer)), (277, 3, 1, 1), (278, 3, 1, y),
            (279, 4, 1, y * x * 2), (282, 5, 1, end + len(note)), (283, 5, 1, end + len(note)), (296, 3, 1, 1),
            (51123, 2, 4, struct.unpack("<I", note)[0]),
        ]  # fmt: skip
        body += struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
        body += struct.pack("<I", offsets[number + 1] if number + 1 < len(planes) else 0)
        body += pixels[at_r, at_z].tobytes()
    path.write_bytes(bytes(body) + note + resolution + description + index)


def ome_text(files: list[str], pixels: np.ndarray) -> str:
    """OME-XML of one image for each position, as Micro-Manager writes it; planes of a position lie in one file."""
    r, z, y, x = pixels.shape
    seen: dict[str, int] = {}
    images = []
    for position, name in enumerate(files):
        data = ""
        for at_z in range(z):
            ifd = seen.setdefault(name, 0)
            seen[name] += 1
            uuid = f'<UUID FileName="{name}">urn:uuid:{files.index(name)}</UUID>'
            data += f'<TiffData FirstZ="{at_z}" IFD="{ifd}" PlaneCount="1">{uuid}</TiffData>'
        images.append(
            f'<Image ID="Image:{position}" Name="Pos{position}"><Pixels ID="Pixels:{position}" DimensionOrder="XYZCT" '
            f'Type="uint16" SizeX="{x}" SizeY="{y}" SizeZ="{z}" SizeC="1" SizeT="1" PhysicalSizeZ="{position + 1}">'
            f'<Channel ID="Channel:{position}:0" SamplesPerPixel="1"/>{data}</Pixels></Image>'
        )
    return (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:0">'
        f"{''.join(images[:r])}</OME>"
    )


def check(path: Path, expected: np.ndarray, **options) -> None:
    with tifffile.TiffFile(path) as file:
        assert file.series[0].kind == "mmstack"
    with open_stack(path, **options) as stack:
        assert stack.shape == (1, 1, *expected.shape)
        for y, x in (np.s_[0:70, 0:90], np.s_[10:30, 5:25]):
            np.testing.assert_array_equal(stack.read(0, 0, [2, 0], y, x), expected[[2, 0], y, x])


def test_one_position(tmp_path: Path) -> None:
    path = tmp_path / "a_MMStack_Pos0.ome.tif"
    micro_manager(path, PIXELS[:1])
    check(path, PIXELS[0])
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(HybridFusionError):
        open_stack(path)


@pytest.mark.parametrize("described", [True, False])
def test_several_positions_in_one_file(tmp_path: Path, described: bool) -> None:
    path = tmp_path / "a_MMStack.ome.tif"
    micro_manager(path, PIXELS, text=ome_text([path.name] * 2, PIXELS) if described else "")
    with pytest.raises(UserInputError, match=r"holds 2 images: 0 \(.*\), 1 \(.*\); expected one.*--series N"):
        open_stack(path)
    for position in (0, 1):
        check(path, PIXELS[position], series=position)
        if described:
            check(path, PIXELS[position], series=f"Pos{position}")
            with open_stack(path, series=position) as stack:
                assert stack.name == f"a_MMStack Pos{position}"
                assert stack.z == Axis(position + 1.0, "micrometer")
    with pytest.raises(UserInputError, match="has no image '2'"):
        open_stack(path, series="2")


def test_several_positions_in_one_file_each(tmp_path: Path) -> None:
    names = [f"a_MMStack_Pos{position}.ome.tif" for position in (0, 1)]
    for position, name in enumerate(names):
        text = ome_text(names, PIXELS) if position == 0 else ""
        micro_manager(tmp_path / name, PIXELS[position : position + 1], first=position, positions=2, text=text)
    for name in names:
        for position in (0, 1):
            check(tmp_path / name, PIXELS[position], series=position)
            with open_stack(tmp_path / name, series=position) as stack:
                assert sorted(stack.source) == [str(tmp_path / each) for each in names]


def test_a_position_that_lacks_a_plane_is_refused_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a_MMStack.ome.tif"
    micro_manager(path, PIXELS)
    content = path.read_bytes()
    # The last plane of the second position was never entered into the index.
    index = content.rindex(struct.pack("<II", 3453623, 6))
    path.write_bytes(content[:index] + struct.pack("<II", 3453623, 5) + content[index + 8 : -20])
    check(path, PIXELS[0], series=0)
    with pytest.raises(StoredDataError, match=r"plane 2 of 3 is missing"):
        open_stack(path, series=1)
