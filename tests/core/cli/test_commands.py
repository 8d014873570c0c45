"""What users type: exit status, messages, outputs, and nothing left behind."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import textured_stack
from skimage.io import imread, imsave

import hybridfusion_core as hf
from hybridfusion_core.cli import main
from hybridfusion_core.io.tiff.writer import write_stack
from hybridfusion_core.model.model_file import load_model
from hybridfusion_core.stack import Axis, Channel
from hybridfusion_core.view import montage as preview

UM = Axis(0.5, "micrometer")


@pytest.fixture
def organoid(tmp_path: Path) -> str:
    path = tmp_path / "organoid.ome.tif"
    pixels = np.stack([textured_stack((4, 80, 90), seed=seed) for seed in (0, 1)])[None]
    channels = (Channel("DAPI", "0000FF"), Channel("actin", "00FF00"))
    write_stack(path, pixels, name="organoid", channels=channels, z=Axis(2.0, "micrometer"), y=UM, x=UM)
    return str(path)


def run(*words: str) -> int:
    return main([str(word) for word in words])


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must be refused with status 2, one line on stderr and nothing on stdout."""
    capsys.readouterr()
    try:
        status = run(*words)
    except SystemExit as exit_:
        status = exit_.code
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize(
    "command", ["", "fuse", "batch", "info", "verify", "sample", "models", "finetune", "train", "evaluate"]
)
def test_help_teaches_without_importing_torch(command: str) -> None:
    words = [*command.split(), "--help"]
    code = (
        "import sys\nfrom hybridfusion_core.cli import main\n"
        f"try: main({words})\nexcept SystemExit as done: print('STATUS', done.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert "STATUS 0 False" in done.stdout
    assert "example" in done.stdout
    assert "hybridfusion" in done.stdout


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif"])
def test_fuse_writes_what_python_gives(organoid: str, tiny_model: str, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"out{suffix}"
    assert run("fuse", organoid, "-o", output, "--model", tiny_model, "--focus-from", "DAPI", "--tile", "64") == 0
    expected = hf.fuse(organoid, model=tiny_model, focus_from="DAPI")
    with hf.open_stack(output) as written:
        assert [channel.name for channel in written.channels] == ["DAPI", "actin"]
        assert (written.z.step_um, written.y.step_um, written.x.step_um) == (2.0, 0.5, 0.5)
        for channel in (0, 1):
            fused = written.read(0, channel, [0], slice(0, 80), slice(0, 90))[0]
            np.testing.assert_allclose(fused.astype(int), expected.fused[0, channel, 0], atol=1)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ngff_chooses_the_version(organoid: str, tmp_path: Path, version: str) -> None:
    words = ["fuse", organoid, "-o", tmp_path / "a.ome.zarr", "--method", "tenengrad", "--ngff", version]
    assert run(*words) == 0
    assert (tmp_path / "a.maps.ome.zarr" / {"0.4": ".zgroup", "0.5": "zarr.json"}[version]).is_file()


def test_a_pair_of_pictures_becomes_one(tiny_model: str, tmp_path: Path) -> None:
    pair = textured_stack((2, 50, 60), "uint8")
    for name, plane in zip(("near.png", "far.png"), pair, strict=True):
        imsave(tmp_path / name, plane, check_contrast=False)
    words = ["fuse", tmp_path / "near.png", tmp_path / "far.png", "-o", tmp_path / "sharp.png", "--select", "hard"]
    assert run(*words, "--model", tiny_model) == 0
    fused = imread(tmp_path / "sharp.png")
    assert fused.dtype == np.uint8
    assert ((fused == pair[0]) | (fused == pair[1])).all()


def test_json_is_one_summary_that_another_fusion_can_use(
    organoid: str, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("fuse", organoid, "-o", tmp_path / "a.ome.zarr", "--model", tiny_model, "--device", "cpu", "--json")
    summary = json.loads(capsys.readouterr().out)
    assert summary["shape"] == [1, 2, 80, 90]
    assert summary["settings"]["device"] == "cpu"
    statistics = tmp_path / "statistics.json"
    statistics.write_text(json.dumps(summary))
    run("fuse", organoid, "-o", tmp_path / "b.ome.zarr", "--model", tiny_model, "--json", "--stats", statistics)
    assert json.loads(capsys.readouterr().out)["statistics"] == summary["statistics"]


def test_preview_is_a_picture(organoid: str, tiny_model: str, tmp_path: Path) -> None:
    preview = tmp_path / "look.png"
    assert run("fuse", organoid, "-o", tmp_path / "a.ome.zarr", "--model", tiny_model, "--preview", preview) == 0
    picture = imread(preview)
    assert picture.ndim == 3
    assert picture.std() > 10


@pytest.fixture
def no_room_for_pictures(monkeypatch: pytest.MonkeyPatch):
    """Let no file grow beyond 4 kB from the moment the preview is drawn: the system then fails as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    draw = preview._draw

    def drawn_without_room(*words: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        draw(*words)

    monkeypatch.setattr(preview, "_draw", drawn_without_room)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("no_room_for_pictures")
def test_a_preview_that_meets_a_full_disk_is_explained_and_the_result_stands(
    organoid: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, picture = tmp_path / "a.ome.zarr", tmp_path / "look.png"
    message = refusal(capsys, "fuse", organoid, "-o", output, "--method", "tenengrad", "--preview", picture)
    *_, last = message.strip().splitlines()
    assert re.search(r"look\.png could not be written .*expected .*a\.ome\.zarr is whole and stays.*--overwrite", last)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.maps.ome.zarr", "a.ome.zarr", "organoid.ome.tif"]
    assert run("verify", output) == 0


@pytest.mark.parametrize(
    "error", [PermissionError(13, "no"), OSError("the drive is gone"), hf.UserInputError("locked")]
)
def test_whatever_stops_a_preview_leaves_the_result_and_the_older_preview(
    organoid: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def fail(_: object, part: Path) -> None:
        part.write_bytes(b"half")
        raise error

    monkeypatch.setattr(preview, "_draw", fail)
    (tmp_path / "look.png").write_bytes(b"older")
    words = ["-o", tmp_path / "a.png", "--channels", "0", "--method", "max", "--preview", tmp_path / "look.png"]
    assert "is whole and stays" in refusal(capsys, "fuse", organoid, *words, "--overwrite")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "look.png", "organoid.ome.tif"]
    assert (tmp_path / "look.png").read_bytes() == b"older"


@pytest.mark.parametrize(
    ("output", "more", "message"),
    [
        ("in.ome.tif", [], "is the input"),  # its maps would be the input
        ("in.maps.ome.tif", [], "is the input"),
        ("pictures/a.ome.zarr", [], "is the input"),
        ("around.ome.zarr", [], "around it"),
        ("a.png", ["--preview", "a.png"], "would replace the result"),
        ("a.ome.zarr", ["--preview", "a.maps.ome.zarr/look.png"], "would replace the result"),
        ("a.ome.zarr", ["--preview", "pictures/1.png"], "is the input"),
    ],
)
def test_no_output_replaces_an_input_or_another_output(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    output: str,
    more: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    for index, plane in enumerate(textured_stack((3, 40, 50), "uint8")):
        imsave(f"pictures/{index}.png", plane, check_contrast=False)
    Path("around.ome.zarr").mkdir()
    sources = {"in": Path("in.maps.ome.tif"), "around": Path("around.ome.zarr/in.ome.tif")}
    for source in sources.values():
        write_stack(source, textured_stack((3, 40, 50))[None, None])
    before = {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    source = sources.get(output.split(".", maxsplit=1)[0], Path("pictures"))
    words = ["fuse", source, "-o", output, *more, "--method", "max", "--overwrite"]
    assert message in refusal(capsys, *words)
    assert {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_info_says_how_the_file_is_understood_and_what_it_takes(
    organoid: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("info", organoid, "--json", "--memory", "2G") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["shape"] == {"T": 1, "C": 2, "Z": 4, "Y": 80, "X": 90}
    assert summary["z_step"] == {"value": 2.0, "unit": "micrometer"}
    assert [channel["name"] for channel in summary["channels"]] == ["DAPI", "actin"]
    assert summary["decisions"] == [{"from": ["DAPI", "actin"], "for": ["DAPI", "actin"], "model": "fluorescence"}]
    assert summary["model"] == "fluorescence"
    assert 0 < summary["memory_bytes"] <= summary["memory_budget_bytes"] == 2 << 30
    assert summary["seconds_expected"] > 0
    assert run("info", organoid) == 0
    assert "DAPI" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif"])
def test_verify_tells_whole_results_from_damaged_ones(
    organoid: str, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / f"out{suffix}"
    run("fuse", organoid, "-o", output, "--method", "tenengrad")
    assert run("verify", output) == 0
    capsys.readouterr()
    assert run("verify", output, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"output": str(output), "findings": []}
    maps = tmp_path / f"out.maps{suffix}"
    victim = next(path for path in (maps / "0/c").rglob("*") if path.is_file()) if maps.is_dir() else maps
    victim.unlink()
    message = refusal(capsys, "verify", output)
    assert "is missing" in message
    assert f"out.maps{suffix}" in message
    assert run("verify", output, "--json") == 2
    assert len(json.loads(capsys.readouterr().out)["findings"]) == 1


def test_models_show_their_cards(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "--json") == 0
    found = json.loads(capsys.readouterr().out)["models"]
    assert [card["name"] for card in found] == ["fluorescence", "natural", "transmitted"]
    assert all(len(card["sha256"]) == 64 for card in found)
    assert run("models") == 0
    assert "limits:" in capsys.readouterr().out


def test_train_writes_a_model_that_fuses(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    from hybridfusion_core.cli import commands
    from hybridfusion_core.train import loop as train
    from hybridfusion_core.train import validation

    monkeypatch.setattr(train, "calibrate", lambda *_: None)
    monkeypatch.setattr(train, "draw_curves", lambda _: None)  # seconds
    monkeypatch.setattr(validation, "_VALIDATION_BATCHES", 1)
    monkeypatch.setattr(commands, "_CARD_SCENES", 1)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('name = "mine"\nsteps = 2\nslices = 2\nsize = 32\n[network]\nchannels = 2\ndim = 4\nheads = 1\n')
    assert run("train", recipe, "-o", tmp_path / "run", "--json", "--device", "cpu") == 0
    model = json.loads(capsys.readouterr().out)["model"]
    assert hf.fuse(textured_stack((2, 32, 32)), model=model).fused.shape == (32, 32)
    metrics = load_model(model).card.metrics
    assert any(name.startswith("layers, clean: PSNR") for name in metrics)
    assert not any("transmitted" in name for name in metrics)  # the recipe draws none


def test_train_names_the_unlabelled_stacks_that_are_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('name = "mine"\n[unlabelled]\nweight = 0.1\nstacks = ["nuclei.ome.tif"]\n')
    words = ("train", recipe, "-o", tmp_path / "run", "--device", "cpu")
    assert "Give it with --stacks" in refusal(capsys, *words)
    assert "holds no nuclei.ome.tif" in refusal(capsys, *words, "--stacks", tmp_path)
    assert not (tmp_path / "run").exists()


def test_existing_outputs_need_overwrite(
    organoid: str, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a.ome.tif"
    words = ("fuse", organoid, "-o", output, "--model", tiny_model)
    assert run(*words) == 0
    before = output.read_bytes()
    assert "--overwrite" in refusal(capsys, *words)
    assert output.read_bytes() == before
    assert run(*words, "--overwrite", "--select", "hard") == 0
    assert output.read_bytes() != before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.ome.tif", "-o", "a.ome.zarr"], "does not exist"),
        (["{organoid}", "-o", "a.jpeg"], "no known suffix"),
        (["{organoid}", "-o", "none/a.ome.zarr"], "does not exist"),
        (["{organoid}", "-o", "a.png"], "png|PNG"),
        (["{organoid}", "-o", "a.ome.tif", "--ngff", "0.4"], "is no OME-Zarr"),
        (["{organoid}", "-o", "a.ome.zarr", "--z", "2:3"], "1 chosen; expected two or more"),
        (["{organoid}", "-o", "a.ome.zarr", "--focus-from", "GFP"], "no channel is called 'GFP'"),
        (["{organoid}", "-o", "a.ome.zarr", "--products", "fused,depth"], "Unknown product 'depth'"),
        (["{organoid}", "-o", "a.ome.zarr", "--select", "medium"], "invalid choice"),
        (["{organoid}", "-o", "a.ome.zarr", "--tile", "0"], "at least 1"),
        (["{organoid}", "-o", "a.ome.zarr", "--memory", "lots"], "such as 500M or 4G"),
        (["{organoid}", "-o", "a.ome.zarr", "--memory", "1K"], "Raise --memory"),
        (["{organoid}", "-o", "a.ome.zarr", "--camera", "1,2"], "GAIN,OFFSET,READNOISE"),
        (["{organoid}", "-o", "a.ome.zarr", "--stats", "none.json"], "holds no field statistics"),
        (["{organoid}", "-o", "a.ome.zarr", "--device", "cuda:7"], "not on this machine"),
        (["{organoid}", "-o", "a.ome.zarr", "--model", "best"], "No model 'best'"),
        (["{organoid}", "-o", "a.ome.zarr", "--preview", "look.gif"], "expected a name that ends in"),
        (["{organoid}", "-o", "{organoid}", "--overwrite"], "is the input"),
    ],
)
def test_what_cannot_be_done_exits_with_2_and_leaves_nothing(
    organoid: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = Path(organoid).read_bytes()
    assert re.search(message, refusal(capsys, "fuse", *(word.format(organoid=organoid) for word in words)))
    assert [path.name for path in tmp_path.iterdir()] == ["organoid.ome.tif"]
    assert Path(organoid).read_bytes() == before


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is a signal")
def test_ctrl_c_exits_with_130_and_leaves_nothing(tmp_path: Path, tiny_model: str) -> None:
    source = tmp_path / "large.ome.tif"
    write_stack(source, textured_stack((8, 700, 700))[None, None], name="large")
    words = ["fuse", source, "-o", tmp_path / "out.ome.zarr", "--model", tiny_model, "--tile", "64", "--threads", "1"]
    # A shell starts its background jobs with SIGINT ignored, and children inherit that: here it counts again.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from hybridfusion_core.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", code, *map(str, words)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("measuring: 100"):  # fusing begins
            process.send_signal(signal.SIGINT)
            break
    _, rest = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert [path.name for path in tmp_path.iterdir()] == ["large.ome.tif"]


def test_evaluate_offers_every_kind_of_scene() -> None:
    """The parser names them itself, because `--help` does not import torch."""
    from hybridfusion_core.cli.parser import build_parser
    from hybridfusion_core.scenes.scene import KINDS

    words = [word for kind in KINDS for word in ("--kind", kind)]
    assert build_parser().parse_args(["evaluate", *words]).kind == list(KINDS)
