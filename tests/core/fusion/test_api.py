"""What `import hybridfusion_core` promises, and what a fusion writes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from conftest import textured_stack

import hybridfusion_core as hf


def test_importing_the_package_imports_neither_torch_nor_zarr() -> None:
    code = "import sys, hybridfusion_core; print(sorted({'torch', 'zarr', 'napari', 'qtpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("options", [{"method": "tenengrad"}, {"device": "openvino"}])
def test_fusing_on_a_cpu_imports_no_torch(options: dict[str, str]) -> None:
    """Which takes two seconds and 0.3 GB; so neither do the statistics, the maps, nor what is written."""
    pytest.importorskip("openvino")
    code = (
        "import sys, tempfile, numpy as np, hybridfusion_core as hf, hybridfusion_core.assess.api\n"
        "stack = hf.Stack.from_array(np.random.default_rng(0).random((3, 40, 40)), z_step_um=1.0)\n"
        f"hf.fuse_to(stack, tempfile.mkdtemp() + '/a.ome.zarr', **{options!r})\n"
        "print(sorted({'timm', 'torchvision', 'torch', 'hybridfusion_core.model.network'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    assert set(hf.__all__) >= {"fuse", "fuse_to", "open_stack", "save", "Stack", "FuseRequest", "UserInputError"}
    for name in hf.__all__:
        assert getattr(hf, name) is not None


def test_zyx_in_gives_yx_out_and_tczyx_gives_tc1yx(tiny_model: str) -> None:
    stack = textured_stack((3, 32, 40))
    assert hf.fuse(stack, model=tiny_model).fused.shape == (32, 40)
    whole = np.broadcast_to(stack, (2, 2, 3, 32, 40))
    result = hf.fuse(whole, axes="TCZYX", model=tiny_model)
    assert result.fused.shape == (2, 2, 1, 32, 40)
    assert result.decision.shape == (2, 1, 1, 32, 40)
    np.testing.assert_array_equal(result.fused[1, 0, 0], result.fused[0, 0, 0])


def test_heights_come_in_micrometres_and_in_slices(tiny_model: str) -> None:
    stack = textured_stack((4, 48, 48))
    with_step = hf.fuse(stack, z_step_um=2.5, model=tiny_model)
    np.testing.assert_allclose(with_step.height_um, 2.5 * with_step.height_slices, rtol=1e-5)
    without = hf.fuse(stack, model=tiny_model)
    assert without.height_um is None
    np.testing.assert_allclose(without.height_slices, with_step.height_slices, atol=1e-4)


def test_slices_keep_their_numbers_and_positions_when_some_are_left_out(tiny_model: str) -> None:
    stack = textured_stack((6, 48, 48))
    whole = hf.Stack(stack, "ZYX", z_positions_um=(50.0, 40.0, 35.0, 20.0, 10.0, 0.0))
    result = hf.fuse(whole, z="1:5:2", model=tiny_model, select="hard")
    decision = result.decision[0, 0, 0]
    assert set(np.unique(decision)) <= {0, 2, 4}
    copied = np.take_along_axis(stack, decision[None].astype(int).clip(1) - 1, axis=0)[0]
    assert (result.fused[0, 0, 0] == copied)[decision > 0].all()
    assert np.nanmin(result.height_um) >= 20.0
    assert np.nanmax(result.height_um) <= 40.0
    np.testing.assert_allclose(result.height_slices, 1 + (40.0 - result.height_um) / 10.0, atol=1e-4)


def test_one_decision_serves_all_channels_or_each_has_its_own(tiny_model: str) -> None:
    stack = np.stack([textured_stack((3, 40, 40), seed=seed) for seed in (0, 1)])
    together = hf.fuse(stack, axes="CZYX", model=tiny_model)
    alone = hf.fuse(stack, axes="CZYX", model=tiny_model, focus_from="each")
    assert together.decision.shape[1] == together.confidence.shape[1] == 1
    assert alone.decision.shape[1] == alone.confidence.shape[1] == 2
    for channel in (0, 1):
        own = hf.fuse(stack[channel], model=tiny_model)
        np.testing.assert_array_equal(alone.fused[0, channel, 0], own.fused)
        np.testing.assert_array_equal(alone.confidence[0, channel, 0], own.confidence)


def test_a_colour_image_is_decided_by_its_luminance(tiny_model: str, tmp_path: Path) -> None:
    from skimage.io import imsave

    grey = textured_stack((2, 50, 60), "uint8")
    for index, plane in enumerate(grey):
        imsave(tmp_path / f"{index}.png", np.stack([plane, 255 - plane, plane // 2], axis=-1), check_contrast=False)
    result = hf.fuse([tmp_path / "0.png", tmp_path / "1.png"], model=tiny_model, select="hard")
    assert result.fused.shape == (1, 3, 1, 50, 60)
    chosen = (result.fused[0, 0, 0] == grey[1]) & (result.fused[0, 0, 0] != grey[0])
    np.testing.assert_array_equal(result.fused[0, 1, 0][chosen], (255 - grey[1])[chosen])


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif"])
def test_disk_to_disk_equals_memory_for_any_block(tiny_model: str, tmp_path: Path, suffix: str) -> None:
    stack = hf.Stack.from_array(textured_stack((3, 300, 340)), z_step_um=2.0)
    result = hf.fuse(stack, model=tiny_model)
    for memory in (60 << 20, 1 << 30):
        path = tmp_path / f"{memory}{suffix}"
        hf.fuse_to(stack, path, model=tiny_model, memory=memory)
        with hf.open_stack(path) as written:
            fused = written.read(0, 0, [0], slice(0, 300), slice(0, 340))[0]
            assert written.z.step_um == 2.0
        np.testing.assert_allclose(fused.astype(int), result.fused[0, 0, 0], atol=1)


def test_saving_a_result_equals_fusing_to_disk(tiny_model: str, tmp_path: Path) -> None:
    stack = hf.Stack.from_array(textured_stack((3, 60, 70)), z_step_um=2.0)
    hf.save(hf.fuse(stack, model=tiny_model), tmp_path / "saved.ome.zarr")
    hf.fuse_to(stack, tmp_path / "direct.ome.zarr", model=tiny_model)
    for kind in (".ome.zarr", ".maps.ome.zarr"):
        one, other = (_content(tmp_path / f"{name}{kind}") for name in ("saved", "direct"))
        assert one.keys() == other.keys()
        chunks = [name for name in one if "/c/" in name]
        assert chunks
        assert all(one[name] == other[name] for name in chunks)


def test_equal_settings_give_equal_bytes(tiny_model: str, tmp_path: Path) -> None:
    stack = hf.Stack.from_array(textured_stack((3, 60, 70)))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        hf.fuse_to(stack, tmp_path / name / "same.ome.zarr", model=tiny_model)
    assert _content(tmp_path / "a") == _content(tmp_path / "b")


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_provenance_says_what_was_done(tiny_model: str, tmp_path: Path) -> None:
    source = tmp_path / "in.ome.zarr"
    hf.fuse_to(hf.Stack.from_array(textured_stack((2, 40, 40))), source, method="max")
    stacked = hf.Stack.from_array(textured_stack((3, 40, 40)))
    spec = hf.fuse_to(stacked, tmp_path / "out.ome.zarr", model=tiny_model, select="hard", checksum=True)
    assert spec.provenance["model"]["name"] == "tiny"
    assert (spec.provenance["slices"], spec.provenance["z_positions_um"]) == (3, None)
    assert spec.provenance["settings"]["select"] == "hard"
    assert spec.provenance["settings"]["precision"] == "float32"
    assert spec.provenance["algorithm_version"] >= 1
    assert len(spec.provenance["statistics"]) == 1


@pytest.mark.parametrize("place", ["", "inside.ome.zarr"])
def test_an_output_on_or_in_its_input_is_refused(tmp_path: Path, place: str) -> None:
    source = tmp_path / "stack.ome.tif"
    from hybridfusion_core.io.tiff.writer import write_stack

    write_stack(source, textured_stack((3, 40, 40))[None, None], name="stack")
    before = source.read_bytes()
    folder = tmp_path / "folder.ome.zarr"
    hf.fuse_to(source, folder, method="max")
    target = source if not place else folder / place
    with pytest.raises(hf.UserInputError, match="is the input, or inside it"):
        hf.fuse_to(source if not place else folder, target, method="max", overwrite=True)
    assert source.read_bytes() == before


def test_a_failure_half_way_leaves_nothing(tiny_model: str, tmp_path: Path) -> None:
    def interrupt(step: object) -> None:
        if step.stage == "fusing" and step.done > 20_000:
            raise KeyboardInterrupt

    stack = hf.Stack.from_array(textured_stack((2, 200, 200)))
    with pytest.raises(KeyboardInterrupt):
        hf.fuse_to(stack, tmp_path / "out.ome.zarr", model=tiny_model, tile=64, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_known_noise_and_known_statistics_replace_the_estimates(tiny_model: str) -> None:
    stack = textured_stack((3, 64, 64))
    camera = {"gain": 0.5, "offset": 100.0, "read_noise": 2.0}
    spec = hf.fuse(stack, model=tiny_model, camera=camera).spec
    assert spec.provenance["statistics"][0]["models"] == [{"low": 100.0, "variance": 4.0, "gain": 0.5}]
    again = hf.fuse(stack, model=tiny_model, stats=spec.provenance["statistics"][0]).spec
    assert again.provenance["statistics"] == spec.provenance["statistics"]


def test_an_input_is_looked_through_once_and_an_output_started_once(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hybridfusion_core.fusion import api, provenance

    calls: list[str] = []

    def watched(module: Any, name: str) -> None:
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, **options: calls.append(name) or original(*args, **options))

    watched(api, "create_output")
    watched(provenance, "identify")
    tifffile.imwrite(tmp_path / "s.ome.tif", textured_stack((2, 40, 50)), metadata={"axes": "ZYX"})
    hf.fuse_to(tmp_path / "s.ome.tif", tmp_path / "out.ome.zarr", model=tiny_model)
    assert sorted(calls) == ["create_output", "identify"]
    stored = json.loads((tmp_path / "out.ome.zarr" / "zarr.json").read_text())["attributes"]["hybridfusion"]
    assert len(stored["statistics"]) == 1  # although the output was started before anything was measured
