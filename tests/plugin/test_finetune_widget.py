"""The fine-tuning widget in a real window: real stacks on disk, a tiny network, a few steps."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from finetune_makers import quick, request_for, write_stack, write_stacks
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt

import hybridfusion_core as hf
from hybridfusion_core.cli import main as command_line
from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.model.model_file import import_model, load_model, local_model_names, new_model_path
from hybridfusion_core.train.finetune import training
from hybridfusion_core.train.finetune.blind import BlindCrop, score_answers
from hybridfusion_core.train.finetune.run import finetune
from napari_hybridfusion.finetune import job as finetune_job
from napari_hybridfusion.finetune.blind_view import BlindView
from napari_hybridfusion.finetune.training_view import Curve, TrainingView
from napari_hybridfusion.finetune.widget import FinetuneWidget
from napari_hybridfusion.fuse.form import FuseForm
from napari_hybridfusion.fuse.widget import FuseWidget

LONG = 5000  # steps, more than any test waits for


@pytest.fixture(autouse=True)
def seconds_instead_of_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


@pytest.fixture
def stacks(tmp_path: Path) -> Path:
    return write_stacks(tmp_path / "stacks", shape=(7, 128, 128))


@pytest.fixture
def widget(viewer, tiny_model):
    """Ready to train the tiny network for a few steps."""
    import_model(Path(tiny_model))
    widget = FinetuneWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Fine-tune model")
    widget.form.start.value = "tiny"
    widget.form.steps.value = 4
    widget.form.device.value = "cpu"
    return widget


def wait(qtbot, widget):
    qtbot.waitUntil(lambda: not widget.jobs.running, timeout=120_000)


def messages(widget) -> dict[str, str]:
    return {name: text for name in widget.form.fields if (text := widget.form.message(name))}


def train(qtbot, widget):
    widget.train.native.click()
    assert widget.jobs.running
    wait(qtbot, widget)


def start_long(qtbot, widget, stacks):
    """Leave a training running."""
    widget.form.inputs.add([str(stacks)])
    widget.form.steps.value = LONG
    widget.train.native.click()
    qtbot.waitUntil(lambda: widget.step > 1, timeout=120_000)


def test_it_opens_from_the_plugins_menu(viewer):
    _, widget = viewer.window.add_plugin_dock_widget("napari-hybridfusion", "Fine-tune model")
    assert widget.train.enabled
    assert not widget.cancel.enabled
    assert not widget.verdict.visible


def test_train_and_the_model_is_listed_and_can_be_used(qtbot, viewer, widget, stacks):
    fuse = FuseWidget(viewer)
    viewer.window.add_dock_widget(fuse, name="Fuse focal stack")
    before = tuple(fuse.form.model.choices)
    widget.form.inputs.add([str(stacks)])
    assert widget.form.name_of_model.value == "stacks"
    widget.form.name_of_model.value = "ours"
    train(qtbot, widget)
    assert messages(widget) == {}
    result = widget.result
    assert widget.state.value.startswith("4 steps")
    # Five pairs at least would be needed: whatever the losses say, it is not shown to be better.
    assert widget.verdict.value.startswith("Verdict: not shown to be better\n")
    assert "nothing uses it unless you choose it" in widget.verdict.value
    assert result.report.is_file()
    assert tuple(fuse.form.model.choices) == (*before, "ours") == tuple(widget.form.start.choices)
    assert fuse.form.model.value == "auto"
    assert widget.view.isVisible()
    assert widget.view.losses["pull"].steps == [1, 2, 3, 4]
    assert widget.view.validation["psnr"].steps == [1, 2, 4]
    assert widget.view.picture.image.width() == 4 * 128 + 3 * 4
    counts = tifffile.imread(stacks / "s0.ome.tif")
    viewer.add_image(counts, name="s0", axis_labels=("z", "y", "x"))
    fuse._refresh.timeout.emit()
    fuse.form.model.value = "ours"
    assert "fine-tuned" in fuse.form.card.value
    fuse.fuse.native.click()
    wait(qtbot, fuse)
    expected = hf.fuse(counts, model=str(result.model), device=fuse.form.device.value)
    np.testing.assert_array_equal(np.squeeze(viewer.layers["s0 fused"].data), expected.fused)


@pytest.mark.slow
def test_it_does_what_python_does(qtbot, widget, stacks, tmp_path):
    output = tmp_path / "mine.safetensors"
    widget.form.inputs.add([str(stacks)])
    widget.form.file.value = output
    assert not widget.form.name_of_model.enabled
    train(qtbot, widget)
    assert widget.result.model == output
    assert local_model_names() == ("tiny",)
    (tmp_path / "again").mkdir()
    again = request_for(stacks, tmp_path / "again" / "mine.safetensors", "tiny")
    assert finetune(again).sha256 == widget.result.sha256


@pytest.mark.slow
def test_cancel_keeps_the_state_and_the_same_choices_go_on(qtbot, widget, stacks):
    start_long(qtbot, widget, stacks)
    widget.cancel.native.click()
    wait(qtbot, widget)
    stopped = widget.step
    assert widget.state.value == f"cancelled after {stopped} steps; Train, with the same choices, goes on from there"
    assert local_model_names() == ("tiny",)
    assert widget.train.enabled
    widget.train.native.click()
    qtbot.waitUntil(lambda: widget.step > 0, timeout=120_000)
    assert widget._before >= stopped - 1
    widget.cancel.native.click()
    wait(qtbot, widget)
    assert widget.step > stopped
    # Other choices are another fine-tuning, which the name is not free for.
    widget.form.steps.value = 3
    train(qtbot, widget)
    assert "it differs in steps" in messages(widget)["name"]
    widget.form.overwrite.value = True
    train(qtbot, widget)
    assert messages(widget) == {}
    assert "stacks" in local_model_names()


@pytest.mark.slow
def test_the_button_of_the_activity_dock_cancels(qtbot, widget, stacks):
    start_long(qtbot, widget, stacks)
    widget._activity._bar.cancel()
    wait(qtbot, widget)
    assert widget.state.value.startswith("cancelled after")


def test_what_is_wrong_stands_beside_its_field_before_anything_is_trained(qtbot, widget, stacks, tmp_path):
    form = widget.form

    def said() -> dict[str, str]:
        train(qtbot, widget)
        assert widget.step == 0
        assert widget.result is None
        return messages(widget)

    assert list(said()) == ["inputs"]
    alone, black = tmp_path / "alone", tmp_path / "black"
    for folder in (alone, black):
        folder.mkdir()
    write_stack(alone / "a.ome.tif", np.ones((3, 64, 64), "uint16"))
    for name in ("a.ome.tif", "b.ome.tif"):
        write_stack(black / name, np.zeros((3, 64, 64), "uint16"))
    for folder, text in ((tmp_path / "nowhere", "expected"), (alone, "two stacks"), (black, "have one count")):
        form.inputs.remove.native.click()
        form.inputs.add([str(folder)])
        assert text in said()["inputs"]
    form.inputs.remove.native.click()
    form.inputs.add([str(stacks)])
    for name, text in (("../evil", "is no name for a model"), ("", "is no name"), ("auto", "is taken")):
        form.name_of_model.value = name
        found = said()
        assert (list(found), text in found["name"]) == (["name"], True)
    form.name_of_model.value = "ours"
    for field, wrong, right in (("na", 0.01, 0), ("file", tmp_path / "a.tif", None)):
        getattr(form, field).value = wrong
        found = said()
        assert list(found) == [field]
        assert "--" not in found[field]
        getattr(form, field).value = right
    assert form.microscope.value  # unfolded, since a field in it was wrong
    for field, expected in (("corrections", "was not corrected"), ("standard", "expected"), ("repeats", "pairs")):
        paths = getattr(form, field)
        paths.add([str(stacks / "s0.ome.tif")])
        if field == "standard":
            paths.add([str(stacks / "s1.ome.tif")])
        found = said()
        assert (list(found), expected in found[field]) == ([field], True)
        paths.remove.native.click()
    new_model_path("ours").write_bytes(b"something")
    assert "exists already" in said()["name"]
    assert not new_model_path("ours").with_suffix(".finetune").exists()


def test_a_start_that_is_damaged_is_said_beside_it(qtbot, widget, stacks):
    new_model_path("broken").write_bytes(b"\0" * 100)
    FuseForm(widget.viewer)
    widget.form.start.reset_choices()
    widget.form.start.value = "broken"
    assert "broken.safetensors" in widget.form.card.value
    widget.form.inputs.add([str(stacks)])
    train(qtbot, widget)
    assert list(messages(widget)) == ["start"]
    with pytest.raises(StoredDataError, match="broken"):
        load_model("broken")


@pytest.mark.own_window
@pytest.mark.parametrize("how", [pytest.param("window", marks=pytest.mark.slow), "dock"])
def test_closing_during_a_training_ends_it_and_keeps_its_state(qtbot, viewer, widget, stacks, how):
    start_long(qtbot, widget, stacks)
    jobs, folder = widget.jobs, new_model_path("stacks").with_suffix(".finetune")
    viewer.window.close() if how == "window" else viewer.window.remove_dock_widget(widget.native)
    qtbot.waitUntil(lambda: not jobs.running, timeout=60_000)
    assert (folder / "state.pt").is_file()
    assert local_model_names() == ("tiny",)


def test_nobody_is_called_once_the_widget_is_destroyed(qtbot, widget, stacks, monkeypatch):
    """Whatever the worker still reports arrives nowhere."""
    heard = []
    for name in ("_show_progress", "_finish", "_show_stopped", "_fail"):
        monkeypatch.setattr(FinetuneWidget, name, lambda *_, name=name: heard.append(name))
    widget.form.inputs.add([str(stacks)])
    widget.form.steps.value = LONG
    widget.train.native.click()
    qtbot.waitUntil(lambda: len(heard) > 3, timeout=120_000)
    jobs = widget.jobs
    widget._on_destroyed()
    heard.clear()
    qtbot.waitUntil(lambda: not jobs.running, timeout=60_000)
    assert heard == []


def test_a_training_that_explodes_says_so(qtbot, widget, stacks, monkeypatch):
    def exploded(*_args, **_options):
        raise UserInputError("The training stopped at step 7: its loss is nan.")

    monkeypatch.setattr(training.Training, "_check", exploded)
    widget.form.inputs.add([str(stacks)])
    before = len(notification_manager.records)
    train(qtbot, widget)
    assert messages(widget) == {}
    assert widget.state.value.startswith("Failed: The training stopped at step 7")
    assert len(notification_manager.records) == before  # it is said once
    assert widget.train.enabled


def test_an_unexpected_error_is_reported(qtbot, widget, stacks, monkeypatch):
    def broken(*_args, **_options):
        raise RuntimeError("something broke")

    monkeypatch.setattr(training.Training, "run", broken)
    widget.form.inputs.add([str(stacks)])
    before = len(notification_manager.records)
    train(qtbot, widget)
    assert "something broke" in notification_manager.records[before].message
    assert widget.state.value == "Failed: something broke"


def test_a_blind_comparison_is_answered_and_written_into_the_report(qtbot, widget, stacks, monkeypatch):
    widget.form.inputs.add([str(stacks)])
    train(qtbot, widget)
    asked = []
    crops = finetune_job.crops_of(widget.result)
    assert crops
    # Whoever answers sees no names; this one has looked at the answers.
    many = tuple(BlindCrop(crops[0].left, crops[0].right, bool(number % 3)) for number in range(20))
    monkeypatch.setattr(finetune_job, "crops_of", lambda _: many)
    widget.compare.native.click()
    view = widget.blind
    assert not widget.compare.enabled
    for number, crop in enumerate(many):
        assert view.question.text().startswith(f"{number + 1} of 20")
        asked.append("same" if number > 17 else "left" if crop.new_is_left else "right")
        assert view.isVisible()
        qtbot.mouseClick(view.buttons[asked[-1]], Qt.MouseButton.LeftButton)
    wait(qtbot, widget)
    assert not view.isVisible()
    score = score_answers(many, asked)
    assert (score.preferred, score.decided, score.word) == (18, 18, "better")
    assert score.sentence in widget.state.value
    assert widget.verdict.value.startswith("Verdict: better")
    page = widget.result.report.read_text(encoding="utf-8")
    assert "preferred in 18 of 18 pairs" in page
    assert "Verdict: better" in page
    assert not widget.compare.enabled  # who knows the score is not blind any more


@pytest.mark.slow
def test_answers_that_say_nothing_leave_it_as_it_was(qtbot, widget, stacks):
    widget.form.inputs.add([str(stacks)])
    train(qtbot, widget)
    widget.compare.native.click()
    while widget.blind.isVisible():
        qtbot.mouseClick(widget.blind.buttons["same"], Qt.MouseButton.LeftButton)
    wait(qtbot, widget)
    assert widget.verdict.value.startswith("Verdict: not shown to be better")
    assert "no pair was decided" in widget.result.report.read_text(encoding="utf-8")


@pytest.mark.slow
def test_another_training_ends_a_comparison(qtbot, widget, stacks):
    widget.form.inputs.add([str(stacks)])
    train(qtbot, widget)
    widget.compare.native.click()
    widget.form.name_of_model.value = "another"
    widget.train.native.click()
    assert not widget.blind.isVisible()
    wait(qtbot, widget)
    assert widget.result.model.stem == "another"


def test_the_pictures_of_a_pair_are_what_was_cut(qtbot):
    answered = []
    view = BlindView(lambda _, answers: answered.append(answers))
    qtbot.addWidget(view)
    pixels = np.arange(130 * 127, dtype=np.uint8).reshape(130, 127)
    view.ask([BlindCrop(pixels, 255 - pixels, new_is_left=True)])
    for shown, expected in ((view.left.image, pixels), (view.right.image, 255 - pixels)):
        assert (shown.width(), shown.height()) == (127, 130)
        assert [shown.pixelColor(x, 129).red() for x in (0, 60, 126)] == [int(expected[129, x]) for x in (0, 60, 126)]
    view.buttons["right"].click()
    assert answered == [["right"]]


def test_files_of_open_layers_are_offered(viewer, widget, stacks):
    path = stacks / "s0.ome.tif"
    viewer.open(str(path), plugin="napari-hybridfusion")
    viewer.add_image(np.zeros((3, 8, 8)), name="of no file")
    widget.form.inputs.more.native.click()
    widget.form.inputs.more.native.click()
    assert widget.form.inputs.paths == (str(path),)
    assert widget.form.name_of_model.value == "s0"


def test_a_curve_keeps_its_shape_in_bounded_room():
    curve = Curve()
    for step in range(10_000):
        curve.add(step, 2.0 * step)
    assert len(curve.steps) < 800
    np.testing.assert_allclose(np.multiply(curve.steps, 2), curve.values)
    assert curve.steps == sorted(curve.steps)
    assert curve.steps[-1] > 9900


def test_figures_are_shown_with_what_they_gained(qtbot):
    view = TrainingView()
    qtbot.addWidget(view)
    figures = {"psnr": 30.0, "height": 0.5, "familiar_psnr": 32.0, "familiar_height": 0.4, "own": 0.25}
    view.show_step(1, {"l1": 0.1}, figures, None)
    view.show_step(2, {"l1": 0.1}, {**figures, "psnr": 30.5, "own": 0.2}, None)
    assert "30.50 (+0.50) dB" in view.figures.value
    assert "0.2000 (-0.0500)" in view.figures.value


@pytest.mark.slow
def test_the_command_line_lists_what_the_widget_made(qtbot, widget, stacks, capsys):
    widget.form.inputs.add([str(stacks)])
    train(qtbot, widget)
    capsys.readouterr()
    assert command_line(["models"]) == 0
    assert "stacks" in capsys.readouterr().out
