"""Microscopes' own files: pixels and metadata are those that the libraries themselves give."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from native_makers import pixels, write_czi, write_lif, write_oif

from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.io.native import formats
from hybridfusion_core.io.native.open import native_scenes
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.suffixes import NATIVE_SUFFIXES
from hybridfusion_core.stack import Stack

for library in ("liffile", "nd2", "oiffile", "pylibCZIrw"):
    pytest.importorskip(library, reason="needs the extra 'vendors'")

ROOT = Path(__file__).parents[3]


def real(name: str) -> Path:
    """A real file; the folder of data lies beside the repository or beside that of its worktrees."""
    places = [ROOT / up / "shared/data/vendor" / name for up in ("..", "../..")]
    found = next((path for path in places if path.exists()), None)
    return found if found is not None else pytest.skip(f"{name} is not here")


def read_all(stack: Stack) -> np.ndarray:
    t, c, z, y, x = stack.shape
    return np.array(
        [[stack.read(at, channel, range(z), slice(0, y), slice(0, x)) for channel in range(c)] for at in range(t)]
    )


def test_every_suffix_has_a_format_and_no_other():
    assert tuple(formats.FORMATS) == NATIVE_SUFFIXES


def test_without_its_library_a_file_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda _: None)
    for suffix in NATIVE_SUFFIXES:
        path = tmp_path / f"cells{suffix}"
        path.write_bytes(b"anything")
        with pytest.raises(UserInputError, match=r'pip install "napari-hybridfusion\[vendors\]"'):
            open_stack(path)


def test_a_real_nd2_is_what_its_library_reads():
    import nd2

    path = real("cluster_t3_z10_c2.nd2")
    with open_stack(path) as stack, nd2.ND2File(path) as file:
        assert dict(zip("TCZYX", stack.shape, strict=True)) == dict(file.sizes)
        np.testing.assert_array_equal(read_all(stack), file.asarray().swapaxes(1, 2))  # T Z C -> T C Z
        assert (stack.x.step_um, stack.y.step_um, stack.z.step_um) == pytest.approx(file.voxel_size())
        planes = file.metadata.channels
        assert [each.name for each in stack.channels] == [each.channel.name for each in planes]
        assert [f"#{each.color.lower()}" for each in stack.channels] == [each.channel.color.as_hex() for each in planes]
        assert stack.na == planes[0].microscope.objectiveNumericalAperture
        assert stack.objective == planes[0].microscope.objectiveName
        assert {(each.transmitted, each.modality) for each in stack.channels} == {(False, "confocal")}
        times = [file.frame_metadata(index).channels[0].time.relativeTimeMs for index in (0, 20)]
        assert stack.t.step == pytest.approx((times[1] - times[0]) / 2000)


def test_a_real_oib_is_what_its_library_reads():
    import oiffile

    path = real("test.oib")
    with open_stack(path) as stack:
        np.testing.assert_array_equal(read_all(stack)[0, :, 0], oiffile.imread(path))
        assert [(each.name, each.transmitted, each.modality) for each in stack.channels] == [
            ("CH1", False, "confocal"),
            ("Alexa Fluor 546", False, "confocal"),
            ("TD1", True, "transmitted"),
        ]
        assert stack.x.step_um == pytest.approx(0.177)  # what the microscope's own settings say


def test_regions_are_those_of_the_whole(tmp_path):
    path = write_czi(tmp_path / "a.czi", [pixels((2, 2, 3, 40, 30))])
    with open_stack(path) as stack:
        whole = read_all(stack)
        np.testing.assert_array_equal(
            stack.read(1, 1, [2, 0], slice(5, 17), slice(3, 29)), whole[1, 1, [2, 0], 5:17, 3:29]
        )
        np.testing.assert_array_equal(stack.array[0, :, 1, 3, 4:9:2], whole[0, :, 1, 3, 4:9:2])
        assert stack.array[1, 0, 2:2].shape == (0, 40, 30)


def test_czi_keeps_pixels_and_what_zen_wrote(tmp_path):
    image = pixels((2, 2, 3, 40, 30))
    with open_stack(write_czi(tmp_path / "a.czi", [image])) as stack:
        np.testing.assert_array_equal(read_all(stack), image)
        assert (stack.z.step_um, stack.y.step_um, stack.x.step_um) == (0.5, 0.2, 0.2)
        assert [(each.name, each.color, each.transmitted, each.modality) for each in stack.channels] == [
            ("DAPI", "0000FF", False, "widefield"),
            ("GFP", None, True, "transmitted"),
        ]
        assert (stack.na, stack.objective) == (0.8, "Plan-Apochromat 20x/0.8")


def test_a_colour_czi_is_red_green_and_blue(tmp_path):
    image = pixels((1, 2, 20, 30, 3), dtype="uint8")  # T Z Y X RGB
    with open_stack(write_czi(tmp_path / "a.czi", [image], rgb=True)) as stack:
        assert stack.rgb
        assert [each.name for each in stack.channels] == ["red", "green", "blue"]
        np.testing.assert_array_equal(read_all(stack)[0], np.moveaxis(image[0], -1, 0))


def test_scenes_are_chosen_like_images_of_any_format(tmp_path):
    scenes = [pixels((1, 1, 2, 20, 30), seed) for seed in (1, 2)]
    path = write_czi(tmp_path / "plate.czi", scenes, wells=("B02", "C04"))
    with pytest.raises(UserInputError, match=r"holds 2 images: 0 \('P1'.*1 \('P2'.*--series"):
        open_stack(path)
    for series in (1, "P2"):
        with open_stack(path, series=series) as stack:
            np.testing.assert_array_equal(read_all(stack), scenes[1])
            assert stack.name == "plate P2"
    with pytest.raises(UserInputError, match="no image 'P9'"):
        open_stack(path, series="P9")
    assert [(each.well, each.position_um) for each in native_scenes(path)] == [("B02", (50, 0)), ("C04", (50, 100))]


def test_a_czi_in_which_a_plane_is_missing_is_not_read_as_black(tmp_path):
    path = write_czi(tmp_path / "a.czi", [pixels((1, 2, 3, 20, 30))], leave_out=(0, 1, 1))
    with pytest.raises(StoredDataError, match="5 of 6 planes"):
        open_stack(path)


def test_lif_keeps_pixels_and_what_las_wrote(tmp_path):
    images = {"B/2/R1": pixels((2, 4, 2, 20, 30)), "second": pixels((1, 3, 1, 10, 12), 1)}
    path = write_lif(tmp_path / "a.lif", images)
    first, second = native_scenes(path)
    assert (first.well, second.well) == ("B2", None)
    with open_stack(path, series="second") as stack:
        np.testing.assert_array_equal(read_all(stack), images["second"].swapaxes(1, 2))
    with open_stack(path, series=0) as stack:
        np.testing.assert_array_equal(read_all(stack), images["B/2/R1"].swapaxes(1, 2))
        assert stack.z.step_um == pytest.approx(2)
        assert stack.x.step_um == pytest.approx(0.3)
        assert (stack.t.step, stack.t.unit) == (5, "second")
        assert [(each.name, each.color, each.transmitted, each.modality) for each in stack.channels] == [
            ("DAPI", "0000FF", False, "widefield"),
            ("BF", "00FF00", True, "transmitted"),
        ]
        assert (stack.na, stack.objective) == (0.75, "HC PL APO 20x/0.75")


def test_each_position_of_a_tile_scan_is_a_scene(tmp_path):
    image = pixels((3, 2, 1, 10, 12))
    path = write_lif(tmp_path / "a.lif", {"scan": image}, mosaic=True)
    positions = np.array([each.position_um for each in native_scenes(path)])
    np.testing.assert_allclose(positions, [(2000, 0), (2000, 1000), (2000, 2000)])
    with open_stack(path, series="scan position 3") as stack:
        np.testing.assert_array_equal(read_all(stack), image[2:].swapaxes(1, 2))


@pytest.mark.parametrize("down", [False, True])
def test_heights_descend_where_the_stack_was_taken_downwards(tmp_path, down):
    lif = write_lif(tmp_path / "a.lif", {"one": pixels((1, 3, 1, 10, 12))}, down=down)
    oif = write_oif(tmp_path / "a.oif", pixels((1, 5, 10, 12)), down=down)
    for path, step in ((lif, 2.0), (oif, 1.0)):
        with open_stack(path) as stack:
            assert np.diff(stack.z_um) == pytest.approx(-step if down else step)


def test_oif_keeps_pixels_and_names_its_planes(tmp_path):
    image = pixels((2, 5, 10, 12))
    with open_stack(write_oif(tmp_path / "a.oif", image)) as stack:
        np.testing.assert_array_equal(read_all(stack)[0], image)
        assert stack.x.step_um == 0.5
        assert [(each.name, each.transmitted) for each in stack.channels] == [("DAPI", False), ("TD1", True)]
        assert len(stack.source) == 11  # itself and ten planes, none of which an output may replace
    (tmp_path / "a.oif.files" / "s_C002Z003.tif").unlink()
    with pytest.raises(StoredDataError, match="9 of 10 planes"):
        open_stack(tmp_path / "a.oif")


def test_axes_are_not_asked_for(tmp_path):
    path = write_lif(tmp_path / "a.lif", {"one": pixels((1, 3, 1, 10, 12))})
    with pytest.raises(UserInputError, match="says itself what its axes are"):
        open_stack(path, axes="ZYX")


# The library writes no ND2. What it says of files that are not here is played by a stand-in.


def stand_in(*, loops=(("T", 3), ("P", 2), ("Z", 2)), absent=(), down=False, flags=(("fluorescence",),)):
    kinds = {"T": "TimeLoop", "P": "XYPosLoop", "Z": "ZStackLoop"}
    points = [SimpleNamespace(name=f"A0{i + 1}", stagePositionUm=SimpleNamespace(x=i, y=-i)) for i in range(9)]
    parameters = SimpleNamespace(stepUm=0.5, bottomToTop=not down, periodMs=1000.0, points=points)
    count = int(np.prod([number for _, number in loops]))
    volume = SimpleNamespace(axesCalibrated=(True,) * 3, axesCalibration=(0.1, 0.1, 0.5))
    planes = [
        SimpleNamespace(
            channel=SimpleNamespace(name=f"c{i}", color=(0, 255, 0)),
            microscope=SimpleNamespace(modalityFlags=each, objectiveName="10x", objectiveNumericalAperture=0.3),
            volume=volume,
        )
        for i, each in enumerate(flags)
    ]
    for plane in planes:
        plane.channel.color = type("Color", (tuple,), {"r": 0, "g": 255, "b": 0})((0, 255, 0))
    return SimpleNamespace(
        experiment=[SimpleNamespace(type=kinds[kind], count=n, parameters=parameters) for kind, n in loops],
        attributes=SimpleNamespace(
            channelCount=len(flags), componentCount=len(flags), heightPx=4, widthPx=5, widthBytes=10 * len(flags),
            compressionType=None,
        ),
        metadata=SimpleNamespace(channels=planes),
        components_per_channel=1,
        dtype=np.dtype("uint16"),
        is_legacy=False,
        _rdr=SimpleNamespace(_frame_offsets={i: 4096 + i for i in range(count) if i not in absent}),
    )  # fmt: skip


def described(**options):
    from hybridfusion_core.io.native.nd2 import _AXES, _scenes

    file = stand_in(**options)
    return _scenes(file, [(_AXES[loop.type], loop.count) for loop in file.experiment], 10_000_000)


def test_positions_of_an_nd2_are_scenes_with_their_wells():
    scenes = described()
    assert [(each.about.name, each.well, each.position_um, each.shape) for each in scenes] == [
        ("A01", "A01", (0, 0), (3, 1, 2, 4, 5)),
        ("A02", "A02", (-1, 1), (3, 1, 2, 4, 5)),
    ]


def test_time_points_that_an_nd2_lacks_at_its_end_are_left_out_and_others_are_a_fault():
    # Frames run T, P, Z: 8 and on are the third time point, 10 the second position in it.
    first, second = described(absent=(10, 11))
    assert (first.shape[0], first.about.warnings, first.problem) == (3, (), "")
    assert (second.shape[0], second.problem) == (2, "")
    assert "2 of 3 time points" in second.about.warnings[0]
    assert "missing" in described(absent=(3,))[1].problem


def test_an_nd2_from_top_to_bottom_has_descending_heights():
    (scene,) = described(loops=(("Z", 3),), down=True)
    assert scene.about.z_positions_um == (0, -0.5, -1)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("fluorescence", "camera"), (False, "widefield")),
        (("fluorescence", "spinningDiskConfocal", "camera"), (False, "confocal")),
        (("laserScanConfocal", "transmitDetector"), (True, "transmitted")),
        (("brightfield", "camera"), (True, "transmitted")),
        (("phaseContrast",), (True, "transmitted")),
        (("fluorescence", "multiphoton"), (False, "multiphoton")),
        (("camera",), (None, None)),
    ],
)
def test_light_is_what_nikons_flags_say(flags, expected):
    (scene,) = described(loops=(("Z", 3),), flags=(flags,))
    assert (scene.about.channels[0].transmitted, scene.about.channels[0].modality) == expected
