"""Laws of `evaluate`: what is known is found, what is compared is comparable, and what is broken is named."""

import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import textured_stack
from scipy.ndimage import gaussian_filter
from skimage.io import imsave
from tifffile import imwrite

import hybridfusion_core as hf
from hybridfusion_core import evaluate as evaluation
from hybridfusion_core.cli import main
from hybridfusion_core.evaluate import cases, run
from hybridfusion_core.evaluate.cases import known_case, scene_groups
from hybridfusion_core.evaluate.figure_panels import look_at
from hybridfusion_core.evaluate.methods import (
    CLASSICAL,
    MEAN,
    NEAREST,
    NETWORK,
    NETWORK_HARD,
    TENENGRAD,
    Outcome,
)
from hybridfusion_core.evaluate.metrics.interval import Gain
from hybridfusion_core.evaluate.page import render
from hybridfusion_core.evaluate.plates import plate_groups
from hybridfusion_core.evaluate.run import evaluate_folder
from hybridfusion_core.evaluate.scores import FIGURES, Scored, score_case
from hybridfusion_core.evaluate.tables import Evaluation, Scoreboard
from hybridfusion_core.io.tiff.writer import write_stack
from hybridfusion_core.scenes.camera import NOISES
from hybridfusion_core.stack import Stack

HOSTILE = "<script>alert(1)"
SIZE = 64


def exact_stack(slices: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Z Y X, uint8, and its exact answer: every pixel of the truth is a pixel of the slice at the true height."""
    random = np.random.default_rng(seed)
    texture = 128 + 40 * random.standard_normal((SIZE, SIZE))
    height = np.repeat(np.arange(SIZE) * slices // SIZE, SIZE).reshape(SIZE, SIZE)  # Y X, slices
    levels = np.stack([gaussian_filter(texture, 1.5 * away) for away in range(slices)])
    away = np.abs(np.arange(slices)[:, None, None] - height)  # Z Y X
    stack = np.take_along_axis(levels, away, axis=0) + random.normal(0, 2, away.shape)
    stack = stack.clip(0, 255).astype(np.uint8)
    return stack, np.take_along_axis(stack, height[None], axis=0)[0], height


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        imsave(path, image, check_contrast=False)
    else:
        imwrite(path, image, photometric="minisblack")


def save_slices(folder: Path, stack: Iterable[np.ndarray]) -> None:
    for z, picture in enumerate(stack):
        save(folder / f"z{z:02}.png", picture)


def command(*words: object) -> int:
    return main(["evaluate", *(str(word) for word in words), "--device", "cpu"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two stacks with an exact answer, one of them a pair; made anew for tests that change it."""
    return make_folder(tmp_path / "stacks")


def make_folder(folder: Path) -> Path:
    pair, truth, height = exact_stack(2, 1)
    for letter, picture in zip("AB", pair, strict=True):
        save(folder / f"steps_{letter}.png", picture)
    save(folder / "truth" / "steps.png", truth)
    save(folder / "height" / "steps.tif", height.astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of every kind of stack, with everything that can be known, results, and two broken stacks."""
    place = tmp_path_factory.mktemp("everything")
    folder = make_folder(place / "stacks")
    imsave(folder / "lonely_A.png", np.zeros((8, 8), np.uint8), check_contrast=False)  # no pair: left alone
    for name, seed in (("cells1", 2), ("cells2", 3)):
        stack, truth, height = exact_stack(5, seed)
        save_slices(folder / name, stack)
        save(folder / "truth" / f"{name}.tif", truth)
        save(folder / "height" / f"{name}.tif", height.astype(np.float32))
        labels = np.zeros((SIZE, SIZE), np.uint8)
        labels[10:20, 10:20], labels[40:60, 30:50] = 1, 2
        save(folder / "labels" / f"{name}.png", labels)
        save(place / "results" / "the truth" / f"{name}.tif", truth)
        save(place / "results" / "<b>best" / f"{name}.png", np.rint(stack.mean(axis=0)).astype(np.uint8))
    write_stack(folder / f"{HOSTILE}.ome.tif", textured_stack((3, SIZE, SIZE))[None, None], name="cells")
    slide = np.stack([textured_stack((3, SIZE, SIZE), "uint8", seed) for seed in range(3)], axis=-1)  # Z Y X RGB
    save_slices(folder / "slide", slide)
    save(folder / "reference" / "slide.png", slide[1])
    (folder / "torn.ome.tif").write_bytes(b"II*\0 and no more")
    save_slices(folder / "odd", [np.zeros((side, side), np.uint8) for side in (32, 40)])
    return place


@pytest.fixture(scope="module")
def measured(everything: Path, tiny_model: str) -> Evaluation:
    stacks = everything / "stacks"
    return evaluate_folder(stacks, tiny_model, results=everything / "results", device="cpu", looks=True)


def board(found: Evaluation, ending: str) -> Scoreboard:
    (one,) = (board for name, board in found.boards.items() if name.endswith(ending))
    return one


# What is found


def test_stacks_are_sorted_by_what_is_known_about_them(measured: Evaluation) -> None:
    assert {name: each.stacks for name, each in measured.boards.items()} == {
        "stacks, against the truth: pairs": ("steps",),
        "stacks, against the truth: stacks": ("cells1", "cells2"),
        "stacks, against a program's reference (not truth): stacks": ("slide",),
        "stacks, no truth known: stacks": (HOSTILE,),
    }


@pytest.mark.parametrize(
    ("ending", "known"),
    [
        ("truth: stacks", {"psnr", "ssim", "height", "bias", "unknown"}),
        ("truth: pairs", {"psnr", "ssim", "psnr_boundary", "height", "unknown"}),
        ("(not truth): stacks", {"psnr", "ssim", "unknown"}),
        ("known: stacks", {"q_abf", "unknown", "edges_fused", "edges_height", "speckle"}),
    ],
)
def test_only_what_follows_from_what_is_known_is_measured(measured: Evaluation, ending: str, known: set[str]) -> None:
    of_network = board(measured, ending).figures[NETWORK]
    found = {key for key, values in of_network.items() if np.isfinite(values).all()}
    assert known <= found
    assert not found & ({"psnr", "q_abf"} - known)


def test_calibration_needs_heights_and_five_slices(measured: Evaluation) -> None:
    assert {name for name, each in measured.boards.items() if each.reliability} == {"stacks, against the truth: stacks"}
    assert set(board(measured, "truth: stacks").reliability) == {NETWORK, NETWORK_HARD, TENENGRAD}


# What the figures say


def test_the_truth_as_a_result_has_no_error(measured: Evaluation) -> None:
    figures = board(measured, "truth: stacks").figures["results: the truth"]
    np.testing.assert_array_equal(figures["psnr"], 100)
    np.testing.assert_allclose(figures["ssim"], 1)
    np.testing.assert_allclose(figures["bias"], 0, atol=1e-12)
    assert np.isnan(figures["height"]).all()  # a picture says nothing about heights


@pytest.mark.parametrize("ending", ["truth: pairs", "truth: stacks"])
def test_nothing_beats_the_nearest_slice_where_it_is_the_answer(measured: Evaluation, ending: str) -> None:
    figures = board(measured, ending).figures
    np.testing.assert_array_equal(figures[NEAREST]["psnr"], 100)
    for method in (NETWORK, NETWORK_HARD, TENENGRAD, CLASSICAL, MEAN):
        assert (figures[method]["psnr"] < 100).all()
    assert (figures[MEAN]["psnr"] < figures[TENENGRAD]["psnr"]).all()


def test_hindsight_is_at_least_as_good_as_the_shipped_tenengrad(measured: Evaluation) -> None:
    for each in measured.boards.values():
        for figure in FIGURES:
            chosen, shipped = each.figures[CLASSICAL][figure.key], each.figures[TENENGRAD][figure.key]
            both = np.isfinite(chosen) & np.isfinite(shipped)
            lead = (chosen - shipped)[both] * (1 if figure.more_is_better else -1)
            assert (lead >= -1e-9).all(), (each.name, figure.key)


def test_hindsight_knows_the_shipped_tenengrads_heights(tiny_model: str) -> None:
    case = cases.scene_case("layers", "starved", 1)
    scored = score_case(case, tiny_model, "cpu").scores
    assert scored[CLASSICAL]["height"] <= scored[TENENGRAD]["height"]


@pytest.mark.parametrize(("step", "factor"), [(None, np.nan), (2.5, 2.5), (-0.4, 0.4)])
def test_heights_are_scored_in_micrometres_where_the_file_says_how_far_slices_are_apart(
    tiny_model: str, step: float | None, factor: float
) -> None:
    stack, truth, height = exact_stack(4, 1)
    positions = None if step is None else tuple(step * np.arange(4) + 100)
    known = replace(Stack.from_array(stack), z_positions_um=positions)
    case = known_case(known, truth=truth[None], height=height.astype(np.float64), labels=None, others={})
    figures = score_case(case, tiny_model, "cpu").scores[TENENGRAD]
    np.testing.assert_allclose(figures["height_um"], factor * figures["height"])


def test_a_method_gains_nothing_over_itself(measured: Evaluation) -> None:
    each = board(measured, "truth: stacks")
    measurable = [figure for figure in FIGURES if np.isfinite(each.figures[NETWORK][figure.key]).all()]
    assert len(measurable) >= 5
    for figure in measurable:
        assert each.gain(NETWORK, NETWORK, figure) == Gain(0, 0, 0, 0, 2)


def test_the_networks_own_image_as_a_result_ties_with_it(folder: Path, tmp_path: Path, tiny_model: str) -> None:
    stack, truth, _ = exact_stack(4, 5)
    save_slices(folder / "more", stack)
    save(folder / "truth" / "more.tif", truth)
    fused = hf.fuse(stack, model=tiny_model, device="cpu").fused
    save(tmp_path / "results" / "copy" / "more.tif", fused)
    found = board(evaluate_folder(folder, tiny_model, results=tmp_path / "results", device="cpu"), "truth: stacks")
    for key in ("psnr", "ssim"):
        np.testing.assert_array_equal(found.figures["results: copy"][key], found.figures[NETWORK][key])
    (row,) = (row for row in found.gains().rows if row[0] == f"{NETWORK} − results: copy")
    assert row[1] == "+0.00 [–, –], worst tenth +0.00"  # no interval follows from one stack


def test_a_field_without_detail_counts_apart(folder: Path, tiny_model: str) -> None:
    flat = np.random.default_rng(8).poisson(100, (3, SIZE, SIZE)).astype(np.uint8)
    save_slices(folder / "empty", flat)
    save_slices(folder / "full", exact_stack(3, 9)[0])
    save(folder / "truth" / "empty.png", np.full((SIZE, SIZE), 100, np.uint8))
    save(folder / "truth" / "full.png", exact_stack(3, 9)[1])
    for name in ("empty", "full"):
        save(folder / "height" / f"{name}.tif", exact_stack(3, 9)[2].astype(np.float32))
    found = board(evaluate_folder(folder, tiny_model, device="cpu"), "truth: stacks")
    assert found.stacks == ("empty", "full")
    for method in (NETWORK, TENENGRAD, CLASSICAL, MEAN):
        figures = found.figures[method]
        assert np.isfinite(figures["psnr"]).tolist() == np.isfinite(figures["ssim"]).tolist() == [False, True]
        assert np.isfinite(figures["psnr_bare"]).tolist() == [True, False]


def test_swapping_the_two_methods_swaps_the_sign(measured: Evaluation) -> None:
    each, psnr = board(measured, "truth: stacks"), FIGURES[0]
    there, back = each.gain(NETWORK, TENENGRAD, psnr), each.gain(TENENGRAD, NETWORK, psnr)
    assert there is not None
    assert back is not None
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))
    assert there.worst <= there.mean


def test_colour_is_scored_by_its_luminance(folder: Path, tiny_model: str) -> None:
    stack, truth, _ = exact_stack(3, 6)
    save_slices(folder / "grey", stack)
    save_slices(folder / "colour", np.repeat(stack[..., None], 3, axis=-1))
    save(folder / "truth" / "grey.png", truth)
    save(folder / "truth" / "colour.png", np.repeat(truth[..., None], 3, axis=-1))
    found = board(evaluate_folder(folder, tiny_model, device="cpu"), "truth: stacks")
    assert found.stacks == ("colour", "grey")
    for method in (NETWORK, TENENGRAD, CLASSICAL, MEAN):
        colour, grey = found.figures[method]["psnr"]
        assert colour == pytest.approx(grey, abs=1e-6)


# What is broken


def test_broken_stacks_are_named_and_the_others_scored(measured: Evaluation) -> None:
    assert sorted(each.split(":")[0] for each in measured.broken) == ["odd", "torn"]
    assert sum(len(each.stacks) for each in measured.boards.values()) == 5


def test_a_broken_stack_gives_status_2_after_the_tables(
    folder: Path, tiny_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "torn.ome.tif").write_bytes(b"II*\0 and no more")
    assert command(folder, "--model", tiny_model) == 2
    captured = capsys.readouterr()
    assert "against the truth: pairs (1 stacks)" in captured.out
    assert "1 stack(s)" in captured.err
    assert "torn" in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("kind", ["truth", "height", "labels"])
def test_what_has_another_size_is_refused_by_name(folder: Path, tiny_model: str, kind: str) -> None:
    (folder / kind / "steps.png").unlink(missing_ok=True)
    save(folder / kind / "steps.tif", np.zeros((SIZE, SIZE + 1), np.float32))
    (message,) = evaluate_folder(folder, tiny_model, device="cpu").broken
    assert re.search(rf"steps: {kind}/steps\.tif is .*64 × 64 px.*own size", message)


def test_results_of_another_size_are_refused_by_name(folder: Path, tmp_path: Path, tiny_model: str) -> None:
    save(tmp_path / "results" / "small" / "steps.png", np.zeros((SIZE, SIZE - 1), np.uint8))
    found = evaluate_folder(folder, tiny_model, results=tmp_path / "results", device="cpu")
    (message,) = found.broken
    assert re.search(r"steps: small/steps\.png is .*64 × 64 px.*own size", message)
    assert not found.boards


def test_results_in_colour_of_a_grey_stack_are_scored_by_luminance(
    folder: Path, tmp_path: Path, tiny_model: str
) -> None:
    truth = exact_stack(2, 1)[1]
    save(tmp_path / "results" / "tinted" / "steps.png", np.repeat(truth[..., None], 3, axis=-1))
    found = board(
        evaluate_folder(folder, tiny_model, results=tmp_path / "results", device="cpu"), "against the truth: pairs"
    )
    assert found.figures["results: tinted"]["psnr"] == [100]


def _results_of_nothing(place: Path) -> tuple[Path, Path]:
    save(place / "results" / "method" / "stranger.png", np.zeros((SIZE, SIZE), np.uint8))
    return make_folder(place / "stacks"), place / "results"


def _results_without_methods(place: Path) -> tuple[Path, Path]:
    save(place / "results" / "steps.png", np.zeros((SIZE, SIZE), np.uint8))
    return make_folder(place / "stacks"), place / "results"


def _two_of_a_name(place: Path) -> tuple[Path, None]:
    save(make_folder(place) / "steps.tif", np.zeros((3, SIZE, SIZE), np.uint8))
    return place, None


def _only_broken(place: Path) -> tuple[Path, None]:
    place.mkdir(exist_ok=True)
    (place / "torn.tif").write_bytes(b"II*\0 and no more")
    return place, None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda place: (place / "absent", None), "does not exist; expected a folder that holds focal stacks"),
        (_two_of_a_name, r"holds \S+ and \S+; expected a name of its own for each stack"),
        (lambda place: (place, None), "holds no focal stack; expected"),
        (_only_broken, r"No stack in .* can be opened(.|\n)*torn"),
        (_results_of_nothing, "method holds no result of any stack.*steps.png"),
        (_results_without_methods, "expected one per method"),
    ],
)
def test_nothing_to_score_is_said(
    make: Callable[[Path], tuple[Path, Path | None]], message: str, tmp_path: Path, tiny_model: str
) -> None:
    folder, results = make(tmp_path)
    with pytest.raises(hf.UserInputError, match=message):
        evaluate_folder(folder, tiny_model, results=results, device="cpu")


def test_inputs_are_left_as_they_were(folder: Path, tmp_path: Path, tiny_model: str) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    evaluate_folder(folder, tiny_model, device="cpu", looks=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


# What is printed and written


def test_names_are_text_on_the_page_and_in_the_table(measured: Evaluation) -> None:
    page = render(measured, HOSTILE)
    assert "<script" not in page.lower()
    assert "<b>" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 3  # title, heading and its stack
    assert "results: &lt;b&gt;best" in page
    assert "<h2>Not scored</h2>" in page
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")  # one file, loads nothing
    for line in replace(measured, broken=[]).as_text().splitlines():
        assert line.count("|") in (0, len(re.findall(r"(?<!\\)\|", line)))


def test_a_name_cannot_break_the_table() -> None:
    table = evaluation.tables.Table(("method",), (("results: a|b\n| c",),))
    assert table.as_markdown().splitlines()[2:] == [r"| results: a\|b\n\| c |"]


def test_json_has_the_tables_figures(
    folder: Path, tmp_path: Path, tiny_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert command(folder, "--model", tiny_model, "--json", "-o", page) == 0
    summary = json.loads(capsys.readouterr().out)
    assert command(folder, "--model", tiny_model) == 0
    text = capsys.readouterr().out
    (group,) = summary["groups"].values()
    assert group["truth"] == "truth"
    assert group["stacks"] == ["steps"]
    head, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line)
    means = {row[0]: dict(zip(head, row, strict=True)) for row in rows[1 : 1 + len(group["figures"])]}
    assert set(means) == set(group["figures"])
    compared = 0
    for method, figures in group["figures"].items():
        for figure in FIGURES:
            (value,) = figures.get(figure.key, [None])
            shown = means[method].get(figure.heading, "–")
            assert shown == ("–" if value is None else f"{value:.{figure.digits}f}")
            compared += value is not None
    assert compared >= 12
    written = page.read_text(encoding="utf-8")
    psnr = f"{group['figures'][NETWORK]['psnr'][0]:.2f}"
    assert f"<td>{psnr}</td>" in written
    assert psnr in text


def test_a_page_is_replaced_only_when_asked_and_refused_before_the_work(
    folder: Path, tmp_path: Path, tiny_model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.html"
    page.write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr(run, "score_case", lambda *_: pytest.fail("the page was to be refused first"))
        assert command(folder, "--model", tiny_model, "-o", page) == 2
        assert "--overwrite" in capsys.readouterr().err
        assert page.read_text() == "mine"
        assert command(folder, "--model", tiny_model, "-o", tmp_path / "page.pdf") == 2
        assert ".html" in capsys.readouterr().err
    assert command(folder, "--model", tiny_model, "-o", page, "--overwrite") == 0
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["page.html", "stacks"]


def test_results_without_stacks_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--results", tmp_path) == 2
    assert "Name their folder first" in capsys.readouterr().err


# Synthetic stacks


def test_only_the_kinds_asked_for_are_drawn(
    tiny_model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cases, "_SIZE", 32)
    monkeypatch.setattr(cases, "NOISES", NOISES[:1])
    monkeypatch.setattr(run.synthetic_artefacts, "measure_artefacts", lambda _: {"haze bias, %": 0.0})
    words = ("--scenes", "1", "--kind", "photographic", "--kind", "layers")
    assert command(*words, "--model", tiny_model, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert list(summary["groups"]) == [f"photographic, {NOISES[0]}", f"layers, {NOISES[0]}"]
    assert summary["artefacts"] == {"haze bias, %": {NETWORK: 0, TENENGRAD: 0}}
    with pytest.raises(SystemExit, match="2"):
        command("--kind", "nonsense")


def test_training_scores_the_kinds_of_its_recipe_alone(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hybridfusion_core.train import loop as train

    asked = []

    def spy(_: str, **options: object) -> Evaluation:
        asked.append(options["kinds"])
        return Evaluation({}, {}, [])

    model = tmp_path / "model.safetensors"
    model.write_bytes(Path(tiny_model).read_bytes())
    monkeypatch.setattr(train, "train", lambda *_, **__: model)
    monkeypatch.setattr(run, "evaluate_methods", spy)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('name = "mine"\n[scenes]\nlayers = 1\nvolume = 0\nphotographic = 1\n')
    assert main(["train", str(recipe), "-o", str(tmp_path / "run"), "--device", "cpu"]) == 0
    assert asked == [("layers", "photographic")]


def test_the_same_scene_is_drawn_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "_SIZE", 32)
    first, again = ([case() for case in group.cases] for group in scene_groups(2, ("layers",))[:1] * 2)
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.truth, same.truth)
        np.testing.assert_array_equal(one.planes(0), same.planes(0))
    assert not np.array_equal(first[0].truth, first[1].truth)


# Pictures


def test_crops_show_structure_rather_than_noise() -> None:
    random = np.random.default_rng(0)
    plane = np.full((256, 256), 500.0)
    structure = np.zeros(plane.shape, dtype=bool)
    structure[150:240, 140:230] = True
    stack = Stack.from_array(np.stack([plane, plane]).astype(np.uint16), axes="ZYX")
    case = replace(known_case(stack, truth=None, height=None, labels=None, others={}), textured=structure)
    outcomes = {}
    for name, shift in ((NETWORK, 0), (TENENGRAD, 30), (MEAN, 0)):
        # Outside, keeping another slice's noise differs far more per pixel than the structure within does.
        image = plane + np.where(structure, shift, random.normal(0, 100, plane.shape))
        outcomes[name] = Outcome(image[None], structure.astype(np.uint16), confidence=np.ones(plane.shape))
    look = look_at(case, Scored({}, {}, outcomes))
    y, x = look.where
    assert (y, x) == pytest.approx((195 - 64, 185 - 64), abs=20)
    assert structure[y : y + 128, x : x + 128].sum() == structure.sum()
    unknown = replace(case, textured=None)  # where no truth is known, by what stands out of the noise
    assert look_at(unknown, Scored({}, {}, outcomes)).where == look.where
    # Every slice of a pair is beside the chosen one: its confidence is 1 by definition and not worth a map.
    assert {each.caption for each in look.maps} == {f"{NETWORK}: decision", f"{TENENGRAD}: decision"}


def test_a_page_shows_every_method_in_one_grey_scale(measured: Evaluation) -> None:
    (look,) = board(measured, "truth: pairs").looks
    captions = [each.caption for each in look.crops]
    assert captions[0] == "truth"
    assert {NETWORK, NETWORK_HARD, TENENGRAD, CLASSICAL, MEAN, NEAREST} == set(captions[1:])
    by_name = {each.caption: each.pixels for each in look.crops}
    np.testing.assert_array_equal(by_name["truth"], by_name[NEAREST])
    assert look.maps[0].caption == "true height"
    assert not any("confidence" in each.caption for each in look.maps)
    assert math.isfinite(look.difference)
    assert any("confidence" in each.caption for each in board(measured, "truth: stacks").looks[0].maps)


def test_fields_of_a_plate_are_scored_against_the_projections_of_its_microscope(tmp_path: Path) -> None:
    stack, truth, _ = exact_stack(3, seed=3)
    for well, site in (("B02", 1), ("B03", 1)):
        for z, plane in enumerate([truth, *stack] if well == "B02" else stack, 0 if well == "B02" else 1):
            save(tmp_path / "p" / "TimePoint_1" / f"ZStep_{z}" / f"x_{well}_s{site}_w1.tif", plane)
    groups, broken = plate_groups(tmp_path / "p") or ([], ["no plate"])
    assert broken == []
    assert [(group.truth, group.count) for group in groups] == [("reference", 1), ("", 1)]
    case = groups[0].cases[0]()
    assert case.name.startswith("B02 field 1")
    assert case.truth is not None
    assert np.array_equal(case.truth[0], truth)
    assert case.slices == 3
    assert groups[1].cases[0]().truth is None
    assert plate_groups(tmp_path) is not None  # the folder above
    save(tmp_path / "stacks" / "a.tif", stack)
    assert plate_groups(tmp_path / "stacks") is None
