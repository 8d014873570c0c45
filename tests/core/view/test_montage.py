"""A preview is a whole PNG for any image, and replaces an older one only when it is complete."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.view import montage as preview
from hybridfusion_core.view.montage import Montage, check_preview, write_preview


def montage(shape: tuple[int, int] = (60, 80), slices: int = 5, seed: int = 0) -> Montage:
    random = np.random.default_rng(seed)
    image = random.integers(0, 4000, shape).astype(np.uint16)
    decision = random.integers(0, slices + 1, shape).astype(np.uint16)
    return Montage(
        sharpest=image,
        fused=image,
        decision=decision,
        height=np.where(decision == 0, np.nan, decision * 2.0).astype(np.float32),
        slices=slices,
        sharpest_slice=1,
        height_unit="µm",
        pixel_um=0.325,
        title="organoid",
    )


def draw(folder: Path, what: Montage) -> np.ndarray:
    path = folder / "preview.png"
    write_preview(path, what)
    assert [each.name for each in folder.iterdir()] == ["preview.png"]
    picture = imagecodecs.png_decode(path.read_bytes())
    assert min(picture.shape[:2]) > 200
    assert max(picture.shape[:2]) < 5000
    return np.asarray(picture)


@pytest.mark.parametrize(
    ("shape", "slices"),
    [((60, 80), 2), ((60, 80), 12), ((60, 80), 200), ((1, 1), 1), ((1, 300), 2), ((300, 1), 12), ((900, 40), 200)],
)
def test_any_shape_and_any_number_of_slices_is_drawn(tmp_path: Path, shape: tuple[int, int], slices: int):
    picture = draw(tmp_path, montage(shape, slices))
    assert picture[..., :3].std() > 3


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float16", "float32"])
def test_any_type_grey_or_rgb_is_drawn(tmp_path: Path, dtype: str):
    image = np.linspace(0, 100, 48 * 64 * 3).reshape(48, 64, 3).astype(dtype)
    for shown in (image, image[..., 0], image / np.float32(100)):
        draw(tmp_path, replace(montage((48, 64)), sharpest=shown, fused=shown))


def test_structureless_images_draw_no_warning(tmp_path: Path):
    flat, nothing = np.full((20, 30), 7, np.uint8), np.full((20, 30), np.nan, np.float32)
    nowhere = np.zeros((20, 30), np.uint16)
    draw(tmp_path, replace(montage(), sharpest=flat, fused=flat, decision=nowhere, height=nothing))
    draw(tmp_path, replace(montage(), sharpest=nothing, fused=nothing, decision=nowhere + 1, height=flat * 1.0))


@pytest.mark.parametrize("left_out", [("decision",), ("height",), ("decision", "height"), ("pixel_um",)])
def test_what_is_not_there_is_left_out(tmp_path: Path, left_out: tuple[str, ...]):
    draw(tmp_path, replace(montage(), **dict.fromkeys(left_out)))


@pytest.mark.parametrize("title", ["$x_{", "$a$ and $b$", r"\frac{", "日本語", "a\nb\tc", "", "a" * 500, "\x00"])
def test_any_file_name_is_a_title(tmp_path: Path, title: str):
    draw(tmp_path, replace(montage(), title=title))


def test_sharpest_and_fused_are_stretched_alike(tmp_path: Path):
    shown = montage((64, 64))
    picture = draw(tmp_path, replace(shown, decision=None, height=None, pixel_um=None))
    again = draw(tmp_path, replace(shown, sharpest=shown.fused * 2, decision=None, height=None, pixel_um=None))
    half = picture.shape[1] // 2
    np.testing.assert_array_equal(picture[:, half:], again[:, half:])  # fused decides the stretch
    assert again[:, :half].mean() > 1.2 * picture[:, :half].mean()  # and a slice of twice the light looks brighter


def test_equal_montages_give_equal_files(tmp_path: Path):
    for name in ("a.png", "b.png"):
        write_preview(tmp_path / name, montage())
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_an_older_preview_stays_until_the_new_one_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "preview.png"
    path.write_bytes(b"older")

    def fail(_: Montage, part: Path) -> None:
        part.write_bytes(b"half")
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(preview, "_draw", fail)
        with pytest.raises(OSError, match="disk full"):
            write_preview(path, montage())
    assert path.read_bytes() == b"older"
    draw(tmp_path, montage())


def test_previews_that_cannot_be_written_are_refused_early(tmp_path: Path):
    with pytest.raises(UserInputError, match=r"ends in \.png"):
        check_preview(tmp_path / "preview.jpg", overwrite=False)
    with pytest.raises(UserInputError, match="does not exist"):
        check_preview(tmp_path / "missing" / "preview.png", overwrite=False)
    path = tmp_path / "preview.png"
    check_preview(path, overwrite=False)
    path.write_bytes(b"older")
    with pytest.raises(UserInputError, match="exists already"):
        check_preview(path, overwrite=False)
    check_preview(path, overwrite=True)


def test_drawing_leaves_no_global_state(tmp_path: Path):
    program = (
        "import sys, pathlib, numpy as np, matplotlib\n"
        "before = matplotlib.rcParams.copy()\n"
        "from hybridfusion_core.view.montage import Montage, write_preview\n"
        "image = np.arange(12.0).reshape(3, 4)\n"
        "write_preview(pathlib.Path(sys.argv[1]), Montage(image, image, None, None, 2, 1, 'µm', None, 't'))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert matplotlib.rcParams.copy() == before\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "preview.png")]
    subprocess.run(command, check=True)  # noqa: S603 - our own program


@given(length=st.floats(1e-6, 1e6))
def test_scale_bars_are_round_and_not_longer_than_asked(length: float):
    round_length = preview._round_down(length)
    assert length / 2.5 * (1 - 1e-6) <= round_length <= length * (1 + 1e-6)
    assert f"{round_length:e}"[0] in "125"
