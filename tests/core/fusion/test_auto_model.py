"""Which weights decide for what, and that everybody is told."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import opinionated_network, textured_stack
from hypothesis import given
from hypothesis import strategies as st

import hybridfusion_core as hf
from hybridfusion_core.cli import main
from hybridfusion_core.evaluate import cases
from hybridfusion_core.fusion.doubtful_light import light_warnings
from hybridfusion_core.fusion.job import Job, auto_model, resolve
from hybridfusion_core.fusion.rate import measured_rate
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.io.tiff.writer import write_stack
from hybridfusion_core.model import model_file as checkpoint
from hybridfusion_core.model.config import NetworkConfig
from hybridfusion_core.model.model_file import ModelCard, load_model, save_model
from hybridfusion_core.stack import Channel, Stack

SMALL = NetworkConfig(channels=4, dim=8, heads=2)
WIDE = NetworkConfig(channels=4, dim=8, heads=2, depth=0, coarse_depth=2)  # twice the lattice, and a wider halo
LIGHT = st.sampled_from([None, False, True])


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Three models that disagree, in place of the shipped ones; their paths by name."""
    (tmp_path / "weights").mkdir()
    monkeypatch.setattr(checkpoint.resources, "files", lambda _: tmp_path)
    found = {}
    for seed, (name, config) in enumerate({"fluorescence": SMALL, "natural": SMALL, "transmitted": WIDE}.items()):
        path = tmp_path / "weights" / f"{name}.safetensors"
        save_model(path, opinionated_network(config, seed), ModelCard(name, "for tests", "none", "everything", {}))
        found[name] = str(path)
    return found


def lit(*transmitted: bool | None, slices: int = 4, rgb: bool = False) -> Stack:
    channels = tuple(Channel(f"c{index}", transmitted=state) for index, state in enumerate(transmitted))
    counts = np.stack([textured_stack((slices, 90, 100), seed=seed) for seed in range(len(channels))])
    return Stack(counts, "CZYX", channels=channels, rgb=rgb)


def chosen(stack: Stack, **options: object) -> list[str]:
    return [decider.model.card.name for decider in resolve(make_request(device="cpu", **options), stack).deciders]


@pytest.mark.parametrize(
    ("transmitted", "slices", "rgb", "expected"),
    [
        ((False,), 4, False, "fluorescence"),
        ((None,), 4, False, "fluorescence"),
        ((True,), 4, False, "transmitted"),
        ((None,), 2, False, "natural"),
        ((False,), 2, False, "fluorescence"),
        ((False, None), 2, False, "fluorescence"),
        ((True,), 2, False, "transmitted"),
        ((None, None, None), 9, True, "natural"),
        ((None, None, None), 2, True, "natural"),
        ((True, True, True), 9, True, "transmitted"),
        ((None,), 1, False, "fluorescence"),
    ],
)
def test_the_model_follows_the_light_and_the_number_of_slices(
    transmitted: tuple[bool | None, ...], slices: int, rgb: bool, expected: str
) -> None:
    assert chosen(lit(*transmitted, slices=slices, rgb=rgb)) == [expected]


@given(st.lists(LIGHT, min_size=1, max_size=4), st.integers(1, 5), st.booleans())
def test_the_order_of_the_channels_does_not_matter(light: list[bool | None], slices: int, rgb: bool) -> None:
    channels = [Channel("", transmitted=state) for state in light]
    straight, turned = (auto_model(each, rgb=rgb, slices=slices) for each in (channels, channels[::-1]))
    assert straight == turned
    assert (straight == "transmitted") == all(light)


def test_every_decider_has_its_own() -> None:
    mixed = lit(False, True, None)
    assert chosen(mixed) == ["fluorescence", "transmitted"]
    assert chosen(mixed, focus_from="each") == ["fluorescence", "transmitted", "fluorescence"]
    assert chosen(mixed, focus_from="joint") == ["fluorescence"]
    assert chosen(mixed, focus_from="c1") == ["transmitted"]
    assert chosen(mixed, channels=("c1",)) == ["transmitted"]


def test_a_pair_is_what_is_chosen_not_what_the_file_holds() -> None:
    assert chosen(lit(None, slices=6), z="1:3") == ["natural"]


def test_a_named_model_serves_all(tiny_model: str) -> None:
    mixed = lit(False, True)
    assert chosen(mixed, model="natural") == ["natural", "natural"]
    assert chosen(mixed, model="organoid") == ["fluorescence", "fluorescence"]
    assert chosen(mixed, model=tiny_model) == ["tiny", "tiny"]


def test_classical_methods_have_none() -> None:
    job = resolve(make_request(method="tenengrad"), lit(False, True))
    assert job.models == ()
    assert job.settings()["model"] is None


@pytest.mark.parametrize("tile", [None, 64])
def test_each_channel_is_what_its_model_alone_gives(shipped: dict[str, str], tile: int | None) -> None:
    mixed = lit(False, True)
    both = hf.fuse(mixed, device="cpu", tile=tile)
    for channel, name in enumerate(("fluorescence", "transmitted")):
        alone = hf.fuse(mixed, device="cpu", tile=tile, channels=(f"c{channel}",), model=shipped[name])
        np.testing.assert_allclose(both.fused[:, channel].astype(int), alone.fused[:, 0], atol=1)
        assert (both.decision[:, channel] == alone.decision[:, 0]).mean() > 0.999
        np.testing.assert_allclose(both.confidence[:, channel], alone.confidence[:, 0], atol=1e-4)
        other = hf.fuse(mixed, device="cpu", tile=tile, channels=(f"c{channel}",), model=shipped["natural"])
        assert (both.decision[:, channel] != other.decision[:, 0]).mean() > 0.01  # the test can tell models apart


@pytest.mark.usefixtures("shipped")
def test_geometry_and_memory_hold_for_every_model() -> None:
    mixed = lit(False, True)

    def job(**options: object) -> Job:
        return resolve(make_request(device="cpu", memory=1 << 30, tile=64, **options), mixed)

    together, alone = job(), [job(model=name) for name in ("fluorescence", "transmitted")]
    assert together.geometry.lattice == WIDE.lattice == 2 * SMALL.lattice
    assert together.geometry.halo >= max(each.geometry.halo for each in alone)
    assert together.geometry.halo % together.geometry.lattice == 0
    assert together.plan.bytes_needed >= max(each.plan.bytes_needed for each in alone)


@pytest.mark.usefixtures("shipped")
def test_the_rate_is_that_of_the_models_that_decide() -> None:
    used = []
    job = resolve(make_request(device="cpu"), lit(False, True))
    for model in job.models:
        model.network.register_forward_hook(lambda *_, name=model.card.name: used.append(name))
    assert measured_rate(job) > 0
    assert used == ["fluorescence", "transmitted"] * 2


def test_provenance_names_the_model_of_every_decider() -> None:
    spec = hf.fuse(lit(False, True), device="cpu", products=("fused",)).spec
    expected = [{"name": name, "sha256": load_model(name).sha256} for name in ("fluorescence", "transmitted")]
    assert spec.provenance["model"] == expected
    settings = spec.provenance["settings"]
    assert settings["model"] == ["fluorescence", "transmitted"]
    assert settings["deciders"] == [{"guide": [0], "serves": [0]}, {"guide": [1], "serves": [1]}]


def test_a_network_that_sees_little_leaves_room_for_the_detection_of_structure(tmp_path: Path) -> None:
    """Where nothing is in focus must not depend on the tile either."""
    short_sighted = NetworkConfig(
        channels=2, dim=4, heads=1, depth=1, window=2, patch=1, dilations=(1,), focus_windows=()
    )
    save_model(tmp_path / "m.safetensors", opinionated_network(short_sighted), ModelCard("m", "", "", "", {}))
    rng = np.random.default_rng(0)
    stack = rng.normal(0, 1, (3, 96, 96)).astype(np.float32)
    stack[:, 40:60, 40:60] += rng.normal(0, 5, (20, 20)).astype(np.float32)
    options = {"model": str(tmp_path / "m.safetensors"), "device": "cpu"}
    whole, tiled = (hf.fuse(stack, tile=tile, **options).decision for tile in (96, 16))
    assert 0 < (whole == 0).mean() < 1
    np.testing.assert_array_equal(whole == 0, tiled == 0)


def test_one_model_for_all_is_named_once(tiny_model: str) -> None:
    spec = hf.fuse(lit(False, True), device="cpu", products=("fused",), model=tiny_model).spec
    assert spec.provenance["model"]["name"] == "tiny"
    assert spec.provenance["settings"]["model"] == "tiny"


def test_the_command_line_names_them_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mixed = lit(False, True)
    source = tmp_path / "mixed.ome.tif"
    write_stack(source, np.asarray(mixed.array)[None], name="mixed", channels=mixed.channels)
    assert main(["info", str(source), "--json", "--device", "cpu"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["model"] == [each["model"] for each in told["decisions"]] == ["fluorescence", "transmitted"]
    assert main(["fuse", str(source), "-o", str(tmp_path / "out.ome.zarr"), "--json", "--device", "cpu"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in told["model"]] == told["settings"]["model"] == ["fluorescence", "transmitted"]
    assert main(["verify", str(tmp_path / "out.ome.zarr")]) == 0


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("volume", {"fluorescence"}),
        ("transmitted", {"transmitted"}),
        ("layers", {"fluorescence", "natural"}),
        ("photographic", {"fluorescence", "natural"}),
    ],
)
def test_unseen_scenes_say_what_a_microscope_would(kind: str, expected: set[str]) -> None:
    found = {}
    for number in range(12):
        stack = cases.scene_case(kind, "ordinary", number).stack
        (found[stack.shape[2]],) = chosen(replace(stack, array=np.zeros(stack.array.shape, np.uint8)))
    assert set(found.values()) == expected
    assert 2 in found


def test_bright_ground_that_no_file_explains_is_a_question() -> None:
    y, x = np.indices((90, 100))
    spots = np.exp(-(((y - 45) / 5) ** 2 + ((x - 50) / 5) ** 2))
    shining, shading = 100 + 3000 * spots, 3000 - 2000 * spots

    def said(plane: np.ndarray, transmitted: bool | None = None, **options: object) -> list[str]:
        stack = Stack(np.stack([plane] * 3)[None].astype("uint16"), "CZYX", channels=(Channel("c", None, transmitted),))
        return light_warnings(resolve(make_request(device="cpu", **options), stack), stack)

    assert "--model transmitted" in said(shading)[0]
    assert said(shining) == []
    assert said(shading, transmitted=True) == said(shading, transmitted=False) == []  # the file explains it
    assert said(shading, model="fluorescence") == said(shading, method="tenengrad") == []  # asked for, or not needed
