import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import textured_stack
from finetune_makers import quick, request_for, write_stack, write_stacks
from skimage.io import imread

from hybridfusion_core.cli import main
from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.model.model_file import load_model, local_model_names, model_names
from hybridfusion_core.train.curves import draw_curves
from hybridfusion_core.train.finetune import pace, training
from hybridfusion_core.train.finetune.run import FinetuneResult, finetune, finetune_steps
from hybridfusion_core.train.finetune.training import TrainingProgress
from hybridfusion_core.train.finetune.training_state import Course, rate

FILES = {"best.safetensors", "curves.png", "live.png", "report.html", "run.json", "scalars.csv", "validation.csv"}


@pytest.fixture(autouse=True)
def seconds_instead_of_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


@pytest.fixture
def stacks(tmp_path: Path) -> Path:
    return write_stacks(tmp_path / "stacks")


def stopped_after(steps: Iterator[object], count: int) -> None:
    """Take some training steps, then stop as somebody does who presses cancel."""
    taken = 0
    for step in steps:
        taken += isinstance(step, TrainingProgress)
        if taken == count:
            break
    steps.close()


def test_it_gives_a_model_of_its_own_and_a_report(
    stacks: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "draw_curves", draw_curves)
    before, output = Path(tiny_model).read_bytes(), tmp_path / "mine.safetensors"
    seen: list[object] = []
    first, second, third = (str(stacks / f"s{seed}.ome.tif") for seed in range(3))
    beside = {"repeats": ((first, second),), "height_standard": third}
    result: FinetuneResult = finetune(request_for(stacks, output, tiny_model, **beside), seen.append)
    assert [each.title for each in result.findings] == ["Height standard", "Repeat acquisitions"]
    assert result.verdict.word == "not shown to be better"  # one block each
    page = result.report.read_text()
    assert all(each.title in page for each in result.findings)
    assert page.count("data:image/png;base64,") == 6 * len(result.compared) + 1
    assert result.sha256 == load_model(str(output)).sha256 != load_model(tiny_model).sha256
    assert Path(tiny_model).read_bytes() == before
    assert local_model_names() == ()  # a file, and nobody's default
    assert {path.name for path in (tmp_path / "mine.finetune").iterdir()} == FILES
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    card = load_model(str(output)).card
    assert (card.name, card.metrics["psnr, start"]) == ("mine", pytest.approx(result.trained.before["psnr"], rel=1e-6))
    assert load_model(tiny_model).sha256 in card.training
    steps = [step for step in seen if isinstance(step, TrainingProgress)]
    assert [step.done for step in steps] == [1, 2, 3, 4]
    assert {"l1", "familiar_l1", "unlabelled_laplacian", "pull"} <= set(steps[0].terms)
    assert set(steps[0].validation) == {"psnr", "height", "familiar_psnr", "familiar_height", "own"}
    assert imread(steps[-1].picture).shape == (64, 4 * 64 + 3 * 4, 3)


def test_transmitted_light_learns_from_scenes_alone(tiny_model: str, tmp_path: Path) -> None:
    folder = tmp_path / "phase"
    folder.mkdir()
    lit = {"Channel": {"ContrastMethod": ["Phase"], "Name": ["ph"]}}
    for seed in range(3):
        write_stack(folder / f"{seed}.ome.tif", textured_stack((5, 64, 64), seed=seed)[None], axes="CZYX", **lit)
    seen: list[object] = []
    result = finetune(request_for(folder, tmp_path / "p.safetensors", tiny_model, phase_contrast=True), seen.append)
    terms = next(step.terms for step in seen if isinstance(step, TrainingProgress))
    assert not [name for name in terms if name.startswith("unlabelled")]
    assert "own" not in result.trained.after
    assert (result.findings, result.verdict.word) == ((), "not shown to be better")
    assert "Whether it is better nobody can tell" in result.report.read_text()


def test_a_resumed_fine_tuning_equals_an_uninterrupted_one(stacks: Path, tiny_model: str, tmp_path: Path) -> None:
    outputs = [tmp_path / place / "m.safetensors" for place in ("straight", "1", "2", "3")]
    for each in outputs:
        each.parent.mkdir()
    straight, *broken = outputs
    whole = finetune(request_for(stacks, straight, tiny_model))
    for stop, output in enumerate(broken, 1):
        stopped_after(finetune_steps(request_for(stacks, output, tiny_model)), stop)
        assert not output.exists()
        resumed = finetune(request_for(stacks, output, tiny_model))
        assert output.read_bytes() == straight.read_bytes()
        assert resumed.trained == whole.trained
        for name in ("scalars.csv", "validation.csv"):
            expected, found = ((path.with_suffix(".finetune") / name).read_text() for path in (straight, output))
            assert found == expected
        assert not (output.with_suffix(".finetune") / "state.pt").exists()


def test_the_number_of_steps_is_decided_once_and_kept(
    stacks: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "_TIMED", (0, 2))
    monkeypatch.setattr(pace, "_LEAST_STEPS", 7)
    request = request_for(stacks, tmp_path / "m.safetensors", tiny_model, steps=None, minutes=0.01)
    stopped_after(finetune_steps(request), 5)
    monkeypatch.setattr(pace, "_LEAST_STEPS", 50)
    assert finetune(request).trained.steps == 7


def test_an_existing_model_and_another_run_of_its_name_are_kept_unless_asked(
    stacks: Path, tiny_model: str, tmp_path: Path
) -> None:
    output = tmp_path / "m.safetensors"
    request = request_for(stacks, output, tiny_model, steps=2)
    stopped_after(finetune_steps(request), 1)
    with pytest.raises(
        UserInputError, match=r"holds another fine-tuning \(it differs in seed\); expected.*-o, or begin"
    ):
        finetune(request_for(stacks, output, tiny_model, steps=2, seed=1))
    first = finetune(request).sha256
    with pytest.raises(UserInputError, match=r"m.safetensors exists already; expected a new name.*--overwrite"):
        finetune(request)
    output.unlink()
    with pytest.raises(UserInputError, match=r"holds a finished fine-tuning"):
        finetune(request)
    again = request_for(stacks, output, tiny_model, steps=2, seed=1, overwrite=True)
    assert finetune(again).sha256 != first
    strange = tmp_path / "other.finetune"
    strange.mkdir()
    (strange / "thesis.txt").write_text("years of work")
    with pytest.raises(UserInputError, match=r"not of our making; expected.*Move it away"):
        finetune(request_for(stacks, tmp_path / "other.safetensors", tiny_model, overwrite=True))
    assert (strange / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("value", "cause"), [(float("nan"), "'height' is NaN or infinite"), (1e9, "far above the usual")]
)
def test_a_loss_that_breaks_stops_with_step_cause_and_the_best_weights(
    value: float, cause: str, stacks: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hybridfusion_core.train.finetune import training_state as course

    loss_terms, calls = training.loss_terms, []

    def broken(*given: object) -> dict[str, torch.Tensor]:
        terms = loss_terms(*given)
        calls.append(1)
        return terms | ({"height": terms["height"] * value} if len(calls) > 6 else {})

    monkeypatch.setattr(training, "loss_terms", broken)
    monkeypatch.setattr(course, "REMEMBERED", 3)
    with pytest.raises(
        UserInputError, match=rf"stopped at step 3: .*{cause}.*; expected.*best\.safetensors.*Begin anew"
    ):
        finetune(request_for(stacks, tmp_path / "m.safetensors", tiny_model, steps=6))
    assert not (tmp_path / "m.safetensors").exists()
    assert load_model(str(tmp_path / "m.finetune" / "best.safetensors")).card.name == "m"


def test_an_untrusted_state_is_not_executed(stacks: Path, tiny_model: str, tmp_path: Path) -> None:
    import pickle

    request = request_for(stacks, tmp_path / "m.safetensors", tiny_model)
    stopped_after(finetune_steps(request), 1)
    state = tmp_path / "m.finetune" / "state.pt"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "executed",)

    of_others = io.BytesIO()
    torch.save({"course": {"steps": 4}, "parts": {}}, of_others)
    for content in (pickle.dumps(Evil()), b"hello", b"", of_others.getvalue()):
        state.write_bytes(content)
        with pytest.raises(StoredDataError, match=r"state\.pt"):
            finetune(request)
    assert not (tmp_path / "executed").exists()


def test_early_stopping_keeps_the_best_and_forgetting_counts_against_it() -> None:
    course = Course(100)
    course.judge({"psnr": 30.0, "familiar_psnr": 35.0})
    course.step = 5
    assert course.judge({"psnr": 30.5, "familiar_psnr": 34.9})
    course.step = 10
    assert not course.judge({"psnr": 31.0, "familiar_psnr": 34.4})  # half a decibel lost costs more than it gains
    for _ in range(8):
        course.judge({"psnr": 30.2, "familiar_psnr": 35.0})
        assert not course.stopped_early  # weights wander as long as the steps are large
    course.step = 80
    assert course.stopped_early
    assert (course.best_step, course.best["psnr"]) == (5, 30.5)


def test_the_rate_rises_stays_and_falls_to_zero() -> None:
    rates = [rate(1e-3, step, 200) for step in range(200)]
    assert rates[0] < rates[10] < rates[19] == rates[60] == 1e-3
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[61:]))
    assert rates[-1] < 1e-6
    assert [rate(1e-3, step, None) for step in range(40)] == rates[:40]


def test_the_command_tells_what_came_of_it_and_goes_on_after_an_interruption(
    stacks: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hybridfusion_core.cli import finetune as command

    output = tmp_path / "m.safetensors"
    words = ["finetune", str(stacks), "-o", str(output), "--from", tiny_model, "--steps", "3", "--device", "cpu"]
    update = command.ProgressLine.update

    def interrupted(line: object, stage: str, done: int, total: int) -> None:
        update(line, stage, done, total)
        if stage == "training" and done == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(command.ProgressLine, "update", interrupted)
        assert main(words) == 130
    assert not output.exists()
    assert (tmp_path / "m.finetune" / "state.pt").exists()
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "not shown to be better"
    assert found["training"]["steps"] == 3
    assert found["sha256"] == load_model(str(output)).sha256
    assert len((tmp_path / "m.finetune" / "scalars.csv").read_text().splitlines()) == 1 + 3
    assert main(words) == 2
    assert model_names() == ("fluorescence", "natural", "transmitted")


def test_a_slow_beginning_does_not_shorten_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: clock[0])
    course, speed = Course(None), pace.Pace(1000.0, 0)
    while course.steps is None or course.step < course.steps:
        clock[0] += 2.0 if course.step < 30 else 0.5
        course.step += 1
        speed.note(course)
    assert 850 < clock[0] <= 1000  # without a second look it would end after some 300
