"""OME-Zarr of either version arrives with its axes, steps, channels and pixels."""

import json

import numpy as np
import pytest
import zarr

from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.stack import Axis, Channel

TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


def write_image(path, axes="tczyx", version="0.5", *, dataset="0", scale=None, outer=None, units=True, **extra):
    shape = tuple({"t": 2, "c": 2, "z": 3, "y": 9, "x": 11}[letter] for letter in axes)
    array = np.arange(np.prod(shape), dtype="uint16").reshape(shape)
    group = zarr.create_group(path, zarr_format=3 if version == "0.5" else 2)
    stored = group.create_array("0", shape=shape, chunks=tuple(min(4, n) for n in shape), dtype="uint16")
    stored[...] = array
    unit = {"time": "second", "space": "micrometer"} if units else {}
    multiscale = {
        "axes": [
            {"name": letter, "type": TYPES[letter]} | ({"unit": unit[TYPES[letter]]} if TYPES[letter] in unit else {})
            for letter in axes
        ],
        "datasets": [
            {
                "path": dataset,
                "coordinateTransformations": [{"type": "scale", "scale": scale or [0.5] * len(axes)}],
            }
        ],
        "name": "image",
    }
    if outer:
        multiscale["coordinateTransformations"] = [{"type": "scale", "scale": outer}]
    metadata = {"multiscales": [multiscale], **extra}
    group.attrs.update({"ome": {"version": "0.5", **metadata}} if version == "0.5" else metadata)
    return array


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["tczyx", "czyx", "zyx", "yx", "zcyx", "xyz", "yxtcz"])
def test_any_axes_of_either_version(tmp_path, version, axes):
    array = write_image(tmp_path / "i.zarr", axes, version)
    with open_stack(tmp_path / "i.zarr") as stack:
        assert stack.axes == axes.upper()
        assert stack.x == Axis(0.5, "micrometer")
        np.testing.assert_array_equal(np.asarray(stack.array), array)
        upright = array.transpose(sorted(range(len(axes)), key=lambda at: "tczyx".index(axes[at])))
        read = stack.read(0, 0, range(stack.shape[2]), slice(0, 9), slice(0, 11))
        np.testing.assert_array_equal(read, upright.reshape(stack.shape)[0, 0])


def test_scales_of_dataset_and_image_multiply(tmp_path):
    write_image(tmp_path / "i.zarr", "tzyx", scale=[1.0, 2.0, 0.5, 0.25], outer=[60.0, 1.0, 2.0, 4.0])
    with open_stack(tmp_path / "i.zarr") as stack:
        assert [getattr(stack, letter).step for letter in "tzyx"] == [60.0, 2.0, 1.0, 1.0]


def test_units_that_are_not_said_stay_unknown(tmp_path):
    write_image(tmp_path / "i.zarr", "zyx", units=False)
    with open_stack(tmp_path / "i.zarr") as stack:
        assert stack.z.step_um is None
        assert stack.z_um is None


def test_channels_come_from_omero(tmp_path):
    channels = [
        {"label": "DAPI", "color": "0000ff", "window": {"start": 5, "end": 90, "min": 0, "max": 255}},
        {"color": "nonsense", "window": {"start": "a"}},
    ]
    write_image(tmp_path / "i.zarr", omero={"channels": channels})
    with open_stack(tmp_path / "i.zarr") as stack:
        assert stack.channels == (Channel("DAPI", "0000FF", window=(5.0, 90.0)), Channel("1"))


def test_user_names_axes_that_the_file_does_not(tmp_path):
    group = zarr.create_group(tmp_path / "bare.zarr")
    group.create_array("a", data=np.ones((3, 4, 5), "uint8"))
    with pytest.raises(UserInputError, match=r"without 'multiscales'.*holds the arrays a"):
        open_stack(tmp_path / "bare.zarr")
    with pytest.raises(UserInputError, match=r"shape \(3, 4, 5\) without OME metadata.*--axes ZYX"):
        open_stack(tmp_path / "bare.zarr/a")
    with open_stack(tmp_path / "bare.zarr/a", axes="ZYX") as stack:
        assert stack.shape == (1, 1, 3, 4, 5)


@pytest.mark.parametrize("path", ["../other.zarr/0", "0/../../other.zarr/0", "link", "{absolute}", "..\\other"])
def test_datasets_outside_the_store_are_refused(tmp_path, path):
    write_image(tmp_path / "other.zarr")
    write_image(tmp_path / "i.zarr", dataset=path.format(absolute=tmp_path / "other.zarr/0"))
    (tmp_path / "i.zarr/link").symlink_to(tmp_path / "other.zarr/0")
    with pytest.raises(StoredDataError, match=r"leads out of the store"):
        open_stack(tmp_path / "i.zarr")


def test_plates_and_collections_name_the_images_inside(tmp_path):
    plate = zarr.create_group(tmp_path / "plate.zarr")
    plate.attrs["ome"] = {"plate": {"wells": [{"path": "A/1"}, {"path": "B/2"}]}}
    with pytest.raises(UserInputError, match=r"a plate: A/1/0, B/2/0.*plate\.zarr/A/1/0, or fuse .*hybridfusion batch"):
        open_stack(tmp_path / "plate.zarr")
    raw = zarr.create_group(tmp_path / "raw.zarr", zarr_format=2)
    raw.attrs["bioformats2raw.layout"] = 3
    array = write_image(tmp_path / "raw.zarr/0", version="0.4")
    with open_stack(tmp_path / "raw.zarr") as stack:  # its only image
        np.testing.assert_array_equal(np.asarray(stack.array), array)
    other = write_image(tmp_path / "raw.zarr/1", version="0.4")
    with pytest.raises(UserInputError, match=r"collection of images: 0, 1; expected one image.*--series 0"):
        open_stack(tmp_path / "raw.zarr")
    with open_stack(tmp_path / "raw.zarr", series=1) as stack:
        np.testing.assert_array_equal(np.asarray(stack.array), other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": [1.0, 2.0]}, "does not fit 5 axes"),
        ({"scale": [1.0, 2.0, None, 1.0, 1.0]}, "does not fit 5 axes"),
        ({"dataset": "missing"}, "cannot be opened as zarr"),
        ({"dataset": ""}, "has no path"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(tmp_path, change, message):
    write_image(tmp_path / "i.zarr", **change)
    with pytest.raises(StoredDataError, match=message):
        open_stack(tmp_path / "i.zarr")


def test_wrong_number_of_axes_and_empty_multiscales(tmp_path):
    write_image(tmp_path / "i.zarr", "zyx")
    path = tmp_path / "i.zarr/zarr.json"
    stored = json.loads(path.read_text())
    multiscale = stored["attributes"]["ome"]["multiscales"][0]
    multiscale["axes"].pop(0)
    multiscale["datasets"][0]["coordinateTransformations"][0]["scale"].pop(0)
    path.write_text(json.dumps(stored))
    with pytest.raises(StoredDataError, match=r"name 2 axes, the array has 3"):
        open_stack(tmp_path / "i.zarr")
    stored["attributes"]["ome"]["multiscales"] = []
    path.write_text(json.dumps(stored))
    with pytest.raises(StoredDataError, match=r"lists no datasets"):
        open_stack(tmp_path / "i.zarr")
    path.write_text("{ not json")
    with pytest.raises(StoredDataError, match=r"cannot be opened as zarr"):
        open_stack(tmp_path / "i.zarr")


def test_damaged_chunk_is_no_zero(tmp_path):
    write_image(tmp_path / "i.zarr", "zyx")
    next((tmp_path / "i.zarr/0/c/0/0").iterdir()).write_bytes(b"damaged")
    with open_stack(tmp_path / "i.zarr") as stack, pytest.raises(StoredDataError, match=r"pixels at .* cannot be read"):
        stack.read(0, 0, [0], slice(0, 9), slice(0, 11))


def test_folder_named_zarr_without_metadata(tmp_path):
    (tmp_path / "i.ome.zarr").mkdir()
    with pytest.raises(StoredDataError, match=r"has no zarr metadata"):
        open_stack(tmp_path / "i.ome.zarr")
