"""Laws of `assess`: faults are named, sound stacks not warned of, and what is written ties to its input."""

import json
from dataclasses import replace

import numpy as np
import pytest

import hybridfusion_core as hf
from hybridfusion_core.assess.assessment import judge
from hybridfusion_core.assess.finding import Findings
from hybridfusion_core.assess.heaped import piled
from hybridfusion_core.assess.looked_at import LookedAt, look
from hybridfusion_core.assess.thinning import halves
from hybridfusion_core.cli import main
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.job import resolve
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.model.noise import NoiseModel
from hybridfusion_core.scenes.faulty_stacks import FAULTS, Drawn, draw_stack
from hybridfusion_core.stack import Stack


def kinds_of(stack: Stack) -> set[str]:
    job = resolve(make_request(products=("fused", "decision", "confidence", "in_focus")), stack)
    found = Findings({}, [])
    for step in look(job, stack):
        if isinstance(step, LookedAt):
            judge(step, found)
    assert all(each.figure in found.figures for each in found.warnings)
    return {each.kind for each in found.warnings}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_named(name):
    kind, what = FAULTS[name]
    assert kind in kinds_of(draw_stack(10, what))


@pytest.mark.parametrize(("seed", "transmitted"), [(10, False), (22, False), (21, True)])
def test_sound_stacks_are_not_warned_of(seed, transmitted):
    assert kinds_of(draw_stack(seed, Drawn(transmitted=transmitted))) == set()


def test_halves_are_independent_and_keep_the_mean():
    random = np.random.default_rng(1)
    gain, offset, photons = 2.0, 100.0, random.uniform(1, 200, 40_000)
    counts = offset + gain * random.poisson(photons)
    one, other = halves(counts, NoiseModel(offset, 1e-6, gain), random)
    expected = offset + gain * photons
    np.testing.assert_allclose(one + other, 2 * counts, rtol=1e-5)
    noise = one - expected, other - expected
    assert np.var(noise[0]) == pytest.approx(2 * np.var(counts - expected), rel=0.05)
    assert abs(np.corrcoef(*noise)[0, 1]) < 0.02


def test_a_heap_is_told_from_the_last_of_the_values():
    values = np.random.default_rng(0).normal(1000, 200, 50_000).round()
    assert piled([values], top=True) == 0
    assert piled([values.clip(max=1200)], top=True) == pytest.approx(np.mean(values >= 1200))


def test_the_certificate_ties_to_input_and_result(tmp_path, capsys):
    stack, result = tmp_path / "organoid.ome.tif", tmp_path / "fused.ome.tif"
    counts = draw_stack(10, Drawn(size=64)).array
    _write(stack, counts)
    hf.fuse_to(stack, result, method="tenengrad")
    page = tmp_path / "page.html"
    assert main(["assess", str(result), "--json", "-o", str(page)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((tmp_path / "assessment.json").read_text(encoding="utf-8"))
    assert told["verdict"] in ("network", "tenengrad", "max", "sum", "do-not-fuse", "undecided")
    assert all({"value", "unit", "should_be", "sentence"} == set(each) for each in told["figures"].values())
    assert told["result"]["name"] == "fused.ome.tif"
    assert len(told["result"]["sha256"]) == len(told["input"][0]["sha256"]) == 64
    text = page.read_text(encoding="utf-8")
    assert told["result"]["sha256"] in text
    assert "http" not in text.replace("http-equiv", "")  # nothing is fetched
    assert main(["assess", str(stack), "-o", str(page)]) == 2  # and nothing is replaced unasked
    stack.rename(tmp_path / "elsewhere.ome.tif")
    with pytest.raises(UserInputError, match="--stack"):
        hf.assess(result)


def test_of_huge_planes_a_bounded_part_is_read():
    counts = np.broadcast_to(np.random.default_rng(0).integers(100, 200, (1, 1, 64), "uint16"), (6, 20_000, 64))
    seen = None
    stack = replace(Stack.from_array(counts), name="long")
    for step in look(resolve(make_request(method="tenengrad"), stack), stack):
        seen = step
    assert isinstance(seen, LookedAt)
    assert sum(tile.in_focus.size for tile in seen.tiles) <= 9 * 256 * 64
    assert seen.tiles[0].rect.y.start == 0
    assert seen.tiles[-1].rect.y.stop > 19_900


def _write(path, counts):
    import tifffile

    tifffile.imwrite(path, counts, ome=True, metadata={"axes": "ZYX", "PhysicalSizeZ": 1.0}, photometric="minisblack")
