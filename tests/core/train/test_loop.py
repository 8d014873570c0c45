import math
from dataclasses import replace
from pathlib import Path

import pytest
import tifffile
import torch
from conftest import textured_stack

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.model.config import NetworkConfig
from hybridfusion_core.model.model_file import load_model
from hybridfusion_core.model.network import HybridFusionNet, Scores
from hybridfusion_core.scenes.scene import KINDS
from hybridfusion_core.train import calibration, validation
from hybridfusion_core.train import loop as training
from hybridfusion_core.train.calibration import calibrate, calibrate_in_focus
from hybridfusion_core.train.curves import draw_curves
from hybridfusion_core.train.loop import learning_rate, train
from hybridfusion_core.train.losses.presets import PRESETS, PresetName
from hybridfusion_core.train.objective import loss_terms, unlabelled_terms
from hybridfusion_core.train.optimiser import average_of
from hybridfusion_core.train.patches import Patches
from hybridfusion_core.train.recipe import LossWeights, Recipe, Unlabelled, load_recipe
from hybridfusion_core.train.scene_batches import Batch, draw_batch, draw_batches

TINY = Recipe(
    "tiny", seed=3, steps=6, slices=4, size=32, depth=(2, 4), network=NetworkConfig(channels=4, dim=8, heads=2)
)
CPU = torch.device("cpu")


class Interrupted(Exception):
    """Stands for a killed session."""


@pytest.fixture(autouse=True)
def few_scenes_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "calibrate", lambda network, recipe: calibrate(network, recipe, scenes=2))
    monkeypatch.setattr(validation, "_VALIDATION_BATCHES", 1)
    monkeypatch.setattr(training, "draw_curves", lambda _: None)  # seconds each


def unlabelled_in(folder: Path) -> tuple[str, ...]:
    for seed, name in enumerate(("a.tif", "b.tif")):
        tifffile.imwrite(folder / name, textured_stack((5, 40, 48), seed=seed), metadata={"axes": "ZYX"})
    return "a.tif", "b.tif"


def stop_at(step: int) -> object:
    def report(now: int, _: object) -> None:
        if now == step:
            raise Interrupted

    return report


@pytest.mark.parametrize("boast", [0.7, 1.0, 2.5])
def test_calibration_takes_back_what_a_network_boasts(monkeypatch: pytest.MonkeyPatch, boast: float) -> None:
    """Heights are drawn from the very posterior that the network knows, and then exaggerates."""
    torch.manual_seed(0)
    logits = torch.randn(4, 7, 64, 64)
    height = torch.distributions.Categorical(logits=logits.movedim(1, -1)).sample().float()
    ones = torch.ones_like(height)
    noise, weight = torch.full((4,), 0.01), torch.ones(4)
    known = Batch(logits, noise, logits, height, height, height, ones, ones, ones, weight)

    class Boaster(torch.nn.Module):
        config = NetworkConfig()
        temperature = torch.ones(())
        confidence_line = torch.tensor([1.0, 0.0])

        def forward(self, guide: torch.Tensor, _: torch.Tensor) -> Scores:
            return Scores(boast * guide, guide)

    monkeypatch.setattr(calibration, "draw_batch", lambda *_: known)
    network = Boaster()
    calibrate(network, TINY, scenes=1)
    assert float(network.temperature) == pytest.approx(boast, rel=0.06)
    assert network.confidence_line.tolist() == pytest.approx([1.0, 0.0], abs=0.06)  # nothing is left to take back


def test_in_focus_keeps_its_word_after_calibration() -> None:
    """A logit of twice the size and shifted by 3 gets its line back; pixels that scenes are not sure of say nothing."""
    torch.manual_seed(0)
    logit = 2 * torch.randn(2, 96, 96) - 1
    truth = torch.bernoulli(logit.sigmoid())
    sure = (torch.rand(2, 96, 96) > 0.5).float()

    class Boaster(torch.nn.Module):
        in_focus_line = torch.tensor([1.0, 0.0])

        def forward(self, guide: torch.Tensor, _: torch.Tensor) -> Scores:
            return Scores(guide, guide, 2 * logit + 3)

    boaster = Boaster()
    blank = torch.zeros(2, 3, 96, 96)
    lies = torch.where(sure > 0, truth, 1 - truth)
    batch = Batch(blank, torch.ones(2), blank, truth, truth, truth, truth, lies, sure, torch.ones(2))
    calibrate_in_focus(boaster, [batch])
    assert boaster.in_focus_line.tolist() == pytest.approx([0.5, -1.5], abs=0.08)


@pytest.mark.parametrize("stop", [0, 3, 4])
def test_resumed_training_equals_uninterrupted_training(tmp_path: Path, stop: int) -> None:
    straight = train(TINY, tmp_path / "straight", device=CPU)
    with pytest.raises(Interrupted):
        train(TINY, tmp_path / "broken", device=CPU, report=stop_at(stop), checkpoint_seconds=0)
    resumed = train(TINY, tmp_path / "broken", device=CPU)
    assert resumed.read_bytes() == straight.read_bytes()
    for name in ("scalars.csv", "validation.csv"):
        broken, whole = ((tmp_path / folder / name).read_text().splitlines() for folder in ("broken", "straight"))
        assert broken == whole
        assert len(whole) == 1 + TINY.steps


@pytest.mark.parametrize("stop", [0, 2])
def test_it_does_so_with_unlabelled_stacks_and_averaged_weights(tmp_path: Path, stop: int) -> None:
    recipe = replace(TINY, steps=4, ema=0.9, unlabelled=Unlabelled("organoid", 0.5, unlabelled_in(tmp_path)))
    straight = train(recipe, tmp_path / "straight", device=CPU, stacks=tmp_path)
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "broken", device=CPU, stacks=tmp_path, report=stop_at(stop), checkpoint_seconds=0)
    resumed = train(recipe, tmp_path / "broken", device=CPU, stacks=tmp_path)
    assert resumed.read_bytes() == straight.read_bytes()
    assert "organoid of weight 0.5 on a.tif, b.tif" in load_model(str(resumed)).card.training
    for name in ("scalars.csv", "validation.csv"):
        broken, whole = ((tmp_path / folder / name).read_text() for folder in ("broken", "straight"))
        assert broken == whole
    (heading, *rows) = (tmp_path / "straight" / "scalars.csv").read_text().splitlines()
    assert heading.endswith(
        "unlabelled_laplacian,unlabelled_low_frequency,unlabelled_ambiguity,unlabelled_total_variation"
    )
    assert len({len(row.split(",")) for row in (heading, *rows)}) == 1


def test_unlabelled_stacks_change_what_is_learnt_by_their_weight(tmp_path: Path) -> None:
    names = unlabelled_in(tmp_path)
    models = [
        load_model(
            str(train(replace(TINY, steps=2, unlabelled=own), tmp_path / str(number), device=CPU, stacks=folder))
        ).network.state_dict()
        for number, (own, folder) in enumerate(
            [
                (Unlabelled(), None),
                (Unlabelled("natural", 0.0, names), None),
                (Unlabelled("natural", 1.0, names), tmp_path),
            ]
        )
    ]
    assert all(torch.equal(weight, models[1][name]) for name, weight in models[0].items())
    assert not torch.equal(models[0]["head.weight"], models[2]["head.weight"])


def test_a_recipe_whose_stacks_are_missing_fails_before_training(tmp_path: Path) -> None:
    names = unlabelled_in(tmp_path)
    recipe = replace(TINY, unlabelled=Unlabelled("organoid", 0.5, (*names, "gone.tif")))
    for folder, message in ((tmp_path, r"holds no gone\.tif"), (None, "no folder was given")):
        with pytest.raises(UserInputError, match=message):
            train(recipe, tmp_path / "run", device=CPU, stacks=folder)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("preset", PRESETS)
def test_an_empty_patch_gives_every_preset_finite_gradients(preset: PresetName) -> None:
    torch.manual_seed(0)
    network, recipe = HybridFusionNet(TINY.network), replace(TINY, unlabelled=Unlabelled(preset))
    terms = unlabelled_terms(network, Patches(torch.zeros(2, 3, 32, 32), torch.ones(2)), recipe)
    PRESETS[preset].total(terms).backward()
    for parameter in network.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


def test_another_choice_of_stacks_is_another_training(tmp_path: Path) -> None:
    names = unlabelled_in(tmp_path)
    recipe = replace(TINY, steps=1, unlabelled=Unlabelled("organoid", 0.5, names))
    train(recipe, tmp_path / "run", device=CPU, stacks=tmp_path)
    for changed in (Unlabelled("organoid", 0.5, names[:1]), Unlabelled("natural", 0.5, names)):
        with pytest.raises(UserInputError, match="holds a training of another recipe"):
            train(replace(recipe, unlabelled=changed), tmp_path / "run", device=CPU, stacks=tmp_path)


def test_the_average_of_weights_that_stay_is_those_weights() -> None:
    network = HybridFusionNet(TINY.network)
    average = average_of(network, 0.999)
    for _ in range(5):
        average.update_parameters(network)
    for name, weight in network.state_dict().items():
        assert torch.equal(average.module.state_dict()[name], weight)


def test_the_average_forgets_the_start_of_a_short_training_and_then_keeps_to_its_decay() -> None:
    network = HybridFusionNet(TINY.network)
    weight, average = network.head.weight, average_of(network, 0.5)
    expected = None
    for update in range(12):
        torch.nn.init.constant_(weight, float(update))
        average.update_parameters(network)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = update if expected is None else decay * expected + (1 - decay) * update
        torch.testing.assert_close(average.module.head.weight, torch.full_like(weight, expected))
    assert decay == 0.5


def test_what_is_saved_and_validated_is_the_average(tmp_path: Path) -> None:
    recipe = replace(TINY, steps=3)
    last = load_model(str(train(recipe, tmp_path / "last", device=CPU))).network.state_dict()
    mean = load_model(str(train(replace(recipe, ema=0.9), tmp_path / "mean", device=CPU))).network.state_dict()
    state = torch.load(tmp_path / "mean" / "state.pt", weights_only=True)
    for name, weight in last.items():
        if name not in ("temperature", "confidence_line"):  # calibrated after the training
            assert torch.equal(state["network"][name], weight)  # the average does not disturb the training
            assert torch.equal(state["average"][f"module.{name}"], mean[name])
    assert not torch.equal(last["head.weight"], mean["head.weight"])
    first, second = ((tmp_path / folder / "validation.csv").read_text().splitlines() for folder in ("last", "mean"))
    assert first[1] == second[1]  # of one step
    assert first[-1] != second[-1]


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    recipe = replace(TINY, steps=30, learning_rate=5e-3)
    path = train(recipe, tmp_path, device=CPU)
    torch.manual_seed(recipe.seed)
    untrained, trained = HybridFusionNet(recipe.network), load_model(str(path)).network
    terms = []
    for network in (untrained, trained):
        with torch.inference_mode():
            found = [loss_terms(network, draw_batch(recipe, step, CPU)) for step in range(1_000, 1_004)]
        terms.append({name: float(torch.stack([each[name] for each in found]).mean()) for name in found[0]})
    before, after = terms
    assert after["l1"] < before["l1"]
    assert sum(getattr(recipe.weights, name) * (after[name] - before[name]) for name in after) < 0


def test_windows_that_say_nothing_leave_no_lattice_and_others_do() -> None:
    """What is asked for is that a decision does not depend on where the windows fall."""
    torch.manual_seed(0)
    # Wider windows of the energies would look across the border of what is moved.
    network = HybridFusionNet(replace(TINY.network, focus_windows=(1.0, 2.0)))
    torch.nn.init.normal_(network.head.weight, std=0.5)
    batch = draw_batch(replace(TINY, size=96), 3, CPU)
    with torch.inference_mode():
        assert loss_terms(network, batch, (5, 11))["lattice"] > 1e-3
        assert "lattice" not in loss_terms(network, batch)
        torch.nn.init.zeros_(network.expand.weight)
        torch.nn.init.zeros_(network.expand.bias)  # it differs within a token
        assert loss_terms(network, batch, (5, 11))["lattice"] < 1e-6


def test_windows_are_not_moved_on_scenes_that_are_too_small(tmp_path: Path) -> None:
    recipe = replace(TINY, weights=LossWeights(lattice=0.1))
    with pytest.raises(UserInputError, match=r"expected at least 64.*Raise size"):
        train(recipe, tmp_path, device=CPU)


def test_scenes_are_the_same_whoever_draws_them() -> None:
    recipe = replace(TINY, steps=5)
    drawn = list(draw_batches(recipe, 2, CPU, processes=2))
    assert len(drawn) == 3
    for step, batch in enumerate(drawn, 2):
        for name, tensor in vars(draw_batch(recipe, step, CPU)).items():
            assert torch.equal(tensor, getattr(batch, name))


def test_a_step_always_draws_the_same_scenes_and_other_steps_others() -> None:
    one, again, other = (draw_batch(TINY, step, CPU) for step in (5, 5, 6))
    assert torch.equal(one.counts, again.counts)
    assert one.counts.shape != other.counts.shape or not torch.equal(one.counts, other.counts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_recipe_draws_only_the_kinds_it_names(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from hybridfusion_core.train import scene_batches as batches

    drawn, make_scene = set(), batches.make_scene

    def spy(*arguments: object, kind: str, **more: object) -> object:
        drawn.add(kind)
        return make_scene(*arguments, kind=kind, **more)

    monkeypatch.setattr(batches, "make_scene", spy)
    other = KINDS[(KINDS.index(kind) + 1) % len(KINDS)]
    for step in range(8):
        draw_batch(replace(TINY, scenes={kind: 1.0, other: 0.0}), step, CPU)
    assert drawn == {kind}


def test_training_draws_its_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from skimage.io import imread

    monkeypatch.setattr(training, "draw_curves", draw_curves)
    train(replace(TINY, steps=2), tmp_path, device=CPU)
    picture = imread(tmp_path / "curves.png")
    assert picture.shape[1] > 2 * picture.shape[0]
    assert not list(tmp_path.glob(".*"))


def test_a_training_starts_from_the_weights_it_names(tmp_path: Path) -> None:
    first = train(TINY, tmp_path / "first", device=CPU)
    second = replace(TINY, name="second", start=str(first), steps=1, learning_rate=1e-12, weight_decay=0.0)
    found = load_model(str(train(second, tmp_path / "second", device=CPU))).network.state_dict()
    for name, weight in load_model(str(first)).network.state_dict().items():
        if name not in ("temperature", "confidence_line"):
            torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-9)


def test_a_start_s_sizes_are_kept_and_others_than_its_levels_refused(tmp_path: Path) -> None:
    start = str(train(replace(TINY, steps=1), tmp_path / "first", device=CPU))
    kept = load_model(str(train(replace(TINY, steps=1, start=start, network=None), tmp_path / "kept", device=CPU)))
    assert kept.network.config == TINY.network
    other = replace(TINY, start=start, network=NetworkConfig(channels=8, dim=8, heads=2))
    with pytest.raises(UserInputError, match=r"asks for .*channels=8.*; expected the same sizes.*Leave \[network\]"):
        train(other, tmp_path / "other", device=CPU)


def test_a_recipe_without_sizes_has_the_default_ones_unless_it_starts_from_a_model() -> None:
    assert Recipe("x").network == NetworkConfig()
    assert Recipe("x", start="general").network is None


def test_a_training_trains_the_network_it_is_handed(tmp_path: Path) -> None:
    def build(recipe: Recipe) -> HybridFusionNet:
        network = HybridFusionNet(recipe.network)
        torch.nn.init.zeros_(network.embed.weight)
        network.embed.weight.requires_grad_(False)
        return network

    trained = load_model(str(train(replace(TINY, steps=2), tmp_path, device=CPU, build=build))).network
    assert not trained.embed.weight.any()
    assert trained.head.weight.any()


def test_the_learning_rate_warms_up_and_falls_to_zero_or_stays() -> None:
    recipe = replace(TINY, steps=1000)
    rates = [learning_rate(recipe, step) for step in range(1000)]
    assert rates[0] < rates[19] == max(rates)
    assert rates[-1] < 1e-4 * max(rates)
    constant = [learning_rate(replace(recipe, schedule="constant"), step) for step in range(1000)]
    assert constant[:19] != constant[19:38] == [recipe.learning_rate] * 19
    assert constant[-1] == recipe.learning_rate


def test_another_recipe_s_folder_is_refused(tmp_path: Path) -> None:
    train(replace(TINY, steps=1), tmp_path, device=CPU)
    with pytest.raises(UserInputError, match=r"holds a training of another recipe.*another folder"):
        train(replace(TINY, seed=4), tmp_path, device=CPU)


def test_an_exploding_loss_stops_with_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hybridfusion_core.train.losses import supervised

    monkeypatch.setattr(supervised, "l1", lambda fused, truth: (fused - truth).sum() * math.nan)
    with pytest.raises(UserInputError, match="not finite at step 0"):
        train(TINY, tmp_path, device=CPU)


def test_the_shipped_recipe_is_valid() -> None:
    root = Path(__file__).parents[3]
    assert load_recipe(root / "recipes" / "general.toml").name == "general"


def test_weights_are_found_under_the_name_that_they_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])
    assert Recipe("old", start="recipes/first.safetensors").start == str(Path("recipes/basic.safetensors"))
    monkeypatch.chdir(tmp_path)
    assert Recipe("own", start="recipes/first.safetensors").start == "recipes/first.safetensors"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "not a TOML file"),
        ("steps = 3", "name: "),
        ('name = "x"\nstepz = 3', "stepz: "),
        ('name = "x"\nsteps = "many"', "steps: .*found 'many'"),
        ('name = "x"\n[network]\nheads = 5', "heads"),
        ('name = "x"\n[scenes]\nclouds = 1', "scenes.clouds"),
        ('name = "x"\n[scenes]\nlayers = 0', "expected a share > 0"),
        ('name = "x"\nema = 1', "ema: "),
        ('name = "x"\nschedule = "step"', "schedule: "),
        ('name = "x"\n[unlabelled]\npreset = "baselines"', "unlabelled.preset: "),
        ('name = "x"\n[unlabelled]\nweight = -1', "unlabelled.weight: "),
        ('name = "x"\n[unlabelled]\nstacks = ["../a.tif"]', "without folders"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_with_the_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(UserInputError, match=message):
        load_recipe(path)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=r"No recipe .*recipes/"):
        load_recipe(tmp_path / "none.toml")
