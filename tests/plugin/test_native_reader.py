"""Microscopes' own files in napari: the patterns of the manifest, scale, names, colours, and planes read when shown."""

from importlib.resources import files

import numpy as np
import pytest
import yaml
from napari.layers import Image

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.native import formats
from hybridfusion_core.io.suffixes import STACK_FILES, ZARR_SUFFIXES
from napari_hybridfusion.files import reader

CHANNEL = "<ChannelDescription DataType='0' ChannelTag='0' Resolution='16' NameOfMeasuredQuantity='DAPI' Min='0' \
Max='1' Unit='' LUTName='Blue' IsLUTInverted='0' BytesInc='0' BitInc='0'/>"


def write_lif(path, images):
    """Write Z Y X images."""
    import struct

    elements, blocks = "", b""
    for index, image in enumerate(images):
        sides = zip("321", image.shape, image.strides, strict=True)
        dimensions = "".join(
            f"<DimensionDescription DimID='{kind}' NumberOfElements='{n}' Origin='0' Length='{(n - 1) * 5e-7}' "
            f"Unit='m' BytesInc='{stride}' BitInc='0'/>"
            for kind, n, stride in sides
        )
        elements += (
            f"<Element Name='image {index}' UniqueID='{index}'><Data><Image><ImageDescription><Channels>{CHANNEL}"
            f"</Channels><Dimensions>{dimensions}</Dimensions></ImageDescription></Image></Data>"
            f"<Memory Size='{image.nbytes}' MemoryBlockID='B{index}'/></Element>"
        )
        name = f"B{index}".encode("utf-16-le")
        blocks += struct.pack("<IIBQBI", 0x70, 0, 0x2A, image.nbytes, 0x2A, 2) + name + image.tobytes()
    xml = f"<Element Name='r'><Children>{elements}</Children></Element>"
    xml = f"<LMSDataContainerHeader Version='2'>{xml}</LMSDataContainerHeader>"
    text = xml.encode("utf-16-le")
    path.write_bytes(struct.pack("<IIBI", 0x70, len(text) + 5, 0x2A, len(xml)) + text + blocks)
    return path


def images(count):
    return [np.random.default_rng(seed).integers(0, 4000, (3, 16, 20)).astype("uint16") for seed in range(count)]


def test_the_manifest_names_what_the_one_table_names():
    manifest = yaml.safe_load(files("napari_hybridfusion").joinpath("napari.yaml").read_text())
    (patterns,) = (each["filename_patterns"] for each in manifest["contributions"]["readers"])
    assert set(patterns) == {f"*{suffix}" for suffix in (*ZARR_SUFFIXES, *STACK_FILES)}


def test_all_images_of_a_file_open_side_by_side(tmp_path):
    pytest.importorskip("liffile", reason="needs the extra 'vendors'")
    stored = images(2)
    path = str(write_lif(tmp_path / "a.lif", stored))
    found = reader.get_reader(path)(path)
    layers = [Image(data, **about) for data, about, _ in found]
    assert [layer.visible for layer in layers] == [True, False]
    for layer, image in zip(layers, stored, strict=True):
        np.testing.assert_array_equal(np.asarray(layer.data), image)
        assert layer.scale.tolist() == pytest.approx([0.5] * 3)
        assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
        assert "DAPI" in layer.name


def test_of_many_images_the_first_are_opened_and_it_is_said(tmp_path, monkeypatch):
    pytest.importorskip("liffile", reason="needs the extra 'vendors'")
    said = []
    monkeypatch.setattr(reader, "_show", said.append)
    path = str(write_lif(tmp_path / "a.lif", images(9)))
    assert len(reader.get_reader(path)(path)) == 8
    assert "holds 9 images; the first 8 are opened" in said[0]


def test_without_its_library_a_file_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda _: None)
    path = str(write_lif(tmp_path / "a.lif", images(1)))
    with pytest.raises(UserInputError, match=r"napari-hybridfusion\[vendors\]"):
        reader.get_reader(path)(path)
