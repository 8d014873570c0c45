import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.job import load_statistics, resolve
from hybridfusion_core.fusion.products import default_products
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.io.zarr.arrays import chunk_and_shard
from hybridfusion_core.model.devices import resolve_device
from hybridfusion_core.stack import Axis, Channel, Stack


def stack(channels: int = 1, slices: int = 4, z_um: float | None = 2.0, transmitted: tuple[int, ...] = ()) -> Stack:
    described = tuple(Channel(f"c{index}", transmitted=index in transmitted) for index in range(channels))
    z = Axis() if z_um is None else Axis(z_um, "micrometer")
    return Stack(np.zeros((channels, slices, 64, 64), np.uint16), "CZYX", channels=described, z=z)


def deciders(of: Stack, **options: object) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    job = resolve(make_request(method="tenengrad", **options), of)
    return [(decider.guide, decider.serves) for decider in job.deciders]


def test_fluorescence_decides_together_and_transmitted_light_for_itself() -> None:
    assert deciders(stack(3)) == [((0, 1, 2), (0, 1, 2))]
    assert deciders(stack(3, transmitted=(1,))) == [((0, 2), (0, 2)), ((1,), (1,))]
    assert deciders(stack(1, transmitted=(0,))) == [((0,), (0,))]


def test_each_joint_name_and_index() -> None:
    assert deciders(stack(2), focus_from="each") == [((0,), (0,)), ((1,), (1,))]
    assert deciders(stack(2, transmitted=(1,)), focus_from="joint") == [((0, 1), (0, 1))]
    assert deciders(stack(2), focus_from="c1") == deciders(stack(2), focus_from="1") == [((1,), (0, 1))]


def test_a_channel_that_is_not_fused_may_still_decide() -> None:
    assert deciders(stack(3), focus_from="c2", channels=("c0",)) == [((2,), (0,))]


def test_slices_are_chosen_as_python_does() -> None:
    assert resolve(make_request(method="max", z="1:"), stack()).slices == (1, 2, 3)
    assert resolve(make_request(method="max", z="::2"), stack()).slices == (0, 2)


def test_without_z_positions_the_height_is_in_slices_and_said_so_and_refused_only_by_name() -> None:
    known, unknown = resolve(make_request(), stack()), resolve(make_request(), stack(z_um=None))
    assert known.products == unknown.products == default_products()
    assert known.notes == ()
    assert any("heights are in slices" in note and "--z-step" in note for note in unknown.notes)
    with pytest.raises(UserInputError, match="--z-step UM"):
        resolve(make_request(products=("fused", "height")), stack(z_um=None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"products": ("fused", "depth")}, "Unknown product 'depth'"),
        ({"z": "a:b"}, "START:STOP"),
        ({"z": "5"}, "START:STOP"),
        ({"z": "::-1"}, "STEP ≥ 1"),
        ({"z": "10:20"}, "leaves none of the 4 slices"),
        ({"channels": ("DAPI",)}, "no channel is called 'DAPI'.*'c0', 'c1'"),
        ({"focus_from": "7"}, "no channel is called '7'"),
        ({"method": "mean", "products": ("fused", "decision")}, "its only product is fused"),
        ({"model": "no-such"}, "No model 'no-such'"),
        ({"device": "tpu"}, "Unknown device 'tpu'; expected auto, cuda:N, or one of cuda, mps, openvino, cpu"),
        ({"memory": 1000}, "need at least .* Raise --memory"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_cure(options: dict, message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        resolve(make_request(**options), stack(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"selct": "soft"}, "selct"),
        ({"select": "medium"}, "select: .*found 'medium'"),
        ({"tile": 0}, "tile is 0; expected at least 1"),
        ({"camera": {"gain": 0, "offset": 0, "read_noise": 1}}, "gain 0.*must both be above 0"),
    ],
)
def test_impossible_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        make_request(**options)


def test_two_channels_of_one_name_are_ambiguous() -> None:
    twice = Stack(np.zeros((2, 3, 8, 8), np.uint8), "CZYX", channels=(Channel("GFP"), Channel("GFP")))
    with pytest.raises(UserInputError, match="several channels are called 'GFP'"):
        resolve(make_request(focus_from="GFP"), twice)


def test_the_plan_keeps_to_its_budget_and_shrinks_with_it() -> None:
    deep = stack(slices=100)
    big = Stack(np.broadcast_to(np.uint16(0), (100, 8192, 8192)), "ZYX")
    plans = [resolve(make_request(memory=budget), big).plan for budget in (8 << 30, 2 << 30, 800 << 20)]
    for plan in plans:
        assert plan.bytes_needed <= plan.budget
    assert [plan.tile for plan in plans] == sorted((plan.tile for plan in plans), reverse=True)
    assert plans[-1].block < plans[0].block
    assert resolve(make_request(memory=8 << 30), deep).plan.bytes_needed < plans[0].bytes_needed


@pytest.mark.parametrize("tile", [None, 64, 352, 600, 1500])
@pytest.mark.parametrize("budget", [1 << 30, 2 << 30, 8 << 30])
@pytest.mark.parametrize("slices", [2, 10, 50, 150])
def test_blocks_are_whole_shards(slices: int, budget: int, tile: int | None) -> None:
    """Or all of the plane: a shard that two blocks share is written twice."""
    for side in (700, 2048, 5000):
        stack = Stack(np.broadcast_to(np.uint16(0), (slices, side, side)), "ZYX")
        try:
            plan = resolve(make_request(memory=budget, tile=tile), stack).plan
        except UserInputError:
            continue  # a tile that was asked for may be too large
        _, shard = chunk_and_shard(side, plan.block)
        assert plan.tile <= plan.block
        assert plan.block % shard == 0 or plan.block >= side


def test_the_plan_does_not_know_the_plane() -> None:
    needs = [
        resolve(make_request(memory=4 << 30), Stack(np.broadcast_to(np.uint16(0), (10, side, side)), "ZYX")).plan
        for side in (4096, 16384, 65536)
    ]
    assert needs[0] == needs[1] == needs[2]


@pytest.mark.parametrize("tile", [1, 100, 256])
def test_tiles_asked_for_are_rounded_up_to_the_lattice(tile: int) -> None:
    job = resolve(make_request(tile=tile), stack())
    assert job.plan.tile == job.geometry.round_up(tile)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, False, "cuda"), (True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_fastest_device_there_is(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve_device("auto") == expected


def test_a_device_that_is_not_there_is_refused_with_what_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == "cuda:1"
    with pytest.raises(UserInputError, match=r"'cuda:2' is not on this machine, which has: cuda, .*cpu"):
        resolve_device("cuda:2")


def test_statistics_of_another_field_are_used_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "field.json"
    statistics = {"models": [{"low": 1.0, "variance": 2.0, "gain": 0.5}], "centre": 3.0, "scale": 4.0}
    path.write_text(json.dumps({"statistics": [statistics]}))
    assert load_statistics(path).noise == 0.25
    path.write_text(json.dumps(statistics))
    assert load_statistics(path).models[0].gain == 0.5


@pytest.mark.parametrize("content", ["", "no json", "{}", '{"statistics": []}', "[1, 2]"])
def test_a_file_without_statistics_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "field.json"
    path.write_text(content)
    with pytest.raises(UserInputError, match=r"holds no field statistics.*--json"):
        load_statistics(path)


def test_exact_means_the_reference_in_float32() -> None:
    pytest.importorskip("openvino")
    if torch.cuda.is_available():
        pytest.skip("auto takes the GPU")
    assert resolve(make_request(), stack()).runtime.package == "openvino"
    assert resolve(make_request(exact=True), stack()).runtime.package == "torch"
    with pytest.raises(UserInputError, match=r"--exact means float32.*contradicts"):
        make_request(exact=True, precision="bfloat16")
    with pytest.raises(UserInputError, match=r"--exact means PyTorch.*contradicts"):
        resolve(make_request(exact=True, device="openvino"), stack())


def test_a_tile_larger_than_the_plane_costs_what_the_plane_costs() -> None:
    """It was refused: the plan counted pixels that the plane does not have."""
    small = Stack(np.broadcast_to(np.uint16(0), (20, 611, 803)), "ZYX")
    for method in ("tenengrad", "network"):
        wide, whole = (
            resolve(make_request(method=method, tile=tile, memory=4 << 30), small).plan.bytes_needed
            for tile in (2048, 832)
        )
        assert wide == whole


def test_a_tile_that_does_not_fit_is_cured_by_a_smaller_one() -> None:
    big = Stack(np.broadcast_to(np.uint16(0), (40, 4096, 4096)), "ZYX")
    with pytest.raises(UserInputError, match=r"40 slices in tiles of 4096 px need .* Use --tile 512 or leave it out"):
        resolve(make_request(method="tenengrad", tile=4096, memory=2 << 30), big)
    assert resolve(make_request(method="tenengrad", tile=512, memory=2 << 30), big).plan.tile == 512
