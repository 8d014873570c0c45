"""The plate widget in a real window: a real plate on disk, and a real cluster of one process."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import get_client
from napari.layers import Layer
from napari.utils.notifications import notification_manager
from plate_makers import places as plane_places
from plate_makers import write_plain
from plate_window import a_plate, choose, click, fuse, messages, settled, statuses, workers_that_are_threads
from qtpy.QtCore import QPoint, QPointF, Qt

from hybridfusion_core.batch.task import Outcome
from hybridfusion_core.cli import main as command_line
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.plates.field_stack import open_field
from hybridfusion_core.plates.open import open_plate
from hybridfusion_core.plates.select import Selection, select
from hybridfusion_core.plates.well_names import row_letters
from hybridfusion_core.stack import Channel, Stack
from napari_hybridfusion.files import samples as sample_data
from napari_hybridfusion.job.worker import Jobs, Listener
from napari_hybridfusion.plate import job as plate_job
from napari_hybridfusion.plate.map import COLORS, PlateMap
from napari_hybridfusion.plate.states import PlateStates
from napari_hybridfusion.plate.widget import PlateWidget

__all__ = ["workers_that_are_threads"]

PATTERN = "{row}{column}_f{field}_t{time}_z{z}_c{channel}.tif"
CHANNELS = (Channel("DAPI", "0099FF"), Channel("membrane", "FF33CC"))


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    return a_plate(tmp_path / "in")


@pytest.fixture
def long_plate(tmp_path: Path) -> Path:
    """As many fields as take some seconds."""
    return a_plate(tmp_path / "in", fields=range(1, 16))


@pytest.fixture
def widget(viewer):
    widget = PlateWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Fuse plate")
    widget.form.method.value = "tenengrad"
    widget.form.workers.value = 1
    return widget


def color_in(widget, well) -> str:
    """What is painted beside the middle of a cell."""
    cell = widget.map.cell(well)
    at = cell.topLeft() + QPointF(cell.width() / 6, cell.height() / 2)
    return widget.map.grab().toImage().pixelColor(at.toPoint()).name()


def test_it_opens_from_the_plugins_menu(viewer):
    _, widget = viewer.window.add_plugin_dock_widget("napari-hybridfusion", "Fuse plate")
    assert widget.fuse.enabled
    assert not widget.cancel.enabled
    assert widget.map.minimumHeight() == 0


def test_look_then_fuse_then_a_click_opens_the_well(qtbot, viewer, widget, plate, tmp_path):
    output = tmp_path / "out.ome.zarr"
    choose(qtbot, widget, plate, output)
    assert messages(widget) == {}
    for said in ("2 of 8 × 12", "DAPI, Brightfield", "24 × 32 uint16", "experimental"):
        assert said in widget.about.text()
    assert statuses(widget) == {"B03": {"waiting": 2}, "B04": {"waiting": 2}}
    assert color_in(widget, "B03") == COLORS["waiting"]
    click(qtbot, widget, "B03")
    stack = viewer.layers["B03/1 DAPI"]
    assert stack.data.shape == (3, 24, 32)
    with open_field(next(open_plate(plate).fields())) as expected:
        planes = expected.read(0, 0, range(3), slice(None), slice(None))
    np.testing.assert_array_equal(np.asarray(stack.data), planes)
    fuse(qtbot, widget)
    assert "B03/1 DAPI fused" in viewer.layers  # in place of the stack that was open
    assert widget.map.opened == "B03"
    assert widget.state.value == "4 of 4 fused"
    assert {sum(each.values()) for each in statuses(widget).values()} == {2}
    assert all({"fused", "flagged"} >= set(each) for each in statuses(widget).values())
    assert color_in(widget, "B04") in (COLORS["fused"], COLORS["flagged"])
    assert len(list(open_plate(output).fields())) == 4
    click(qtbot, widget, "B04")
    names = [each.name.removeprefix("B04/1 ") for each in viewer.layers]
    assert names[:2] == ["DAPI fused", "Brightfield fused"]
    # Fluorescence and transmitted light decide for themselves.
    assert ["height" in each for each in names[2:4]] == [True, True]
    assert names[-2:] == ["DAPI decision", "Brightfield decision"]
    written = open_stack(output / "B" / "04" / "1").read(0, 0, [0], slice(None), slice(None))[0]
    np.testing.assert_array_equal(np.asarray(viewer.layers["B04/1 DAPI fused"].data).squeeze(), written)
    click(qtbot, widget, "B03", Qt.KeyboardModifier.ControlModifier)
    assert {each.name[:3] for each in viewer.layers} == {"B03", "B04"}


def test_it_does_what_the_command_line_does(qtbot, widget, plate, tmp_path, capsys):
    output = tmp_path / "out.ome.zarr"
    choose(qtbot, widget, plate, output)
    fuse(qtbot, widget)
    again = ["batch", str(plate), str(output), "--method", "tenengrad", "--json"]
    assert command_line(again) == 0
    assert '"kept": 4' in capsys.readouterr().out


@pytest.mark.real_cluster
def test_cancel_and_go_on(qtbot, widget, long_plate, tmp_path):
    output = tmp_path / "out.ome.zarr"
    choose(qtbot, widget, long_plate, output)
    widget.fuse.native.click()
    qtbot.waitUntil(lambda: "fusing" in widget.state.value, timeout=120_000)
    widget.cancel.native.click()
    settled(qtbot, widget)
    left = sum(each.get("waiting", 0) for each in statuses(widget).values())
    assert 0 < left < 30
    assert widget.state.value == f"cancelled: {30 - left} of 30 fused, {left} are left"
    fuse(qtbot, widget)
    assert widget.state.value == f"{left} of 30 fused, {30 - left} were fused before"
    assert "waiting" not in {status for each in statuses(widget).values() for status in each}
    assert len(list(open_plate(output).fields())) == 30


def test_cancelled_while_it_starts_nothing_is_written_down(qtbot, widget, plate, tmp_path):
    choose(qtbot, widget, plate, tmp_path / "out.ome.zarr")
    widget.fuse.native.click()
    qtbot.waitUntil((tmp_path / "out.hybridfusion").is_dir, timeout=60_000)
    widget.cancel.native.click()
    settled(qtbot, widget)
    assert widget.state.value == "cancelled: 0 of 4 fused, 4 are left"
    assert not (tmp_path / "out.hybridfusion" / "run.json").exists()
    assert messages(widget) == {}


def test_what_an_earlier_run_has_fused_is_shown(qtbot, viewer, widget, plate, tmp_path):
    output = tmp_path / "out.ome.zarr"
    choose(qtbot, widget, plate, output)
    widget.form.wells.value = "B03"
    settled(qtbot, widget)
    assert statuses(widget)["B04"] == {"left": 2}
    fuse(qtbot, widget)
    widget.form.wells.value = ""
    settled(qtbot, widget)
    assert statuses(widget)["B04"] == {"waiting": 2}
    assert "waiting" not in statuses(widget)["B03"]
    assert widget.report.visible
    click(qtbot, widget, "B03")
    assert "B03/1 DAPI decision" in viewer.layers


def test_what_is_wrong_stands_beside_its_field(qtbot, widget, plate, tmp_path):
    (tmp_path / "there.ome.zarr").mkdir()
    (tmp_path / "there.ome.zarr" / "mine").touch()
    choose(qtbot, widget, tmp_path / "nowhere", tmp_path / "out.ome.zarr")
    assert "folder" in messages(widget)
    widget.form.folder.value = plate
    for name, said in (
        ("out.tif", "ends in .ome.zarr"),
        ("missing/out.ome.zarr", "does not exist"),
        ("there.ome.zarr", "exists already"),
    ):
        widget.form.output.value = tmp_path / name
        settled(qtbot, widget)
        assert said in messages(widget)["output"], messages(widget)
        assert widget.seen is not None
        widget.fuse.native.click()
        settled(qtbot, widget)
        assert said in messages(widget)["output"]
    widget.form.output.value = plate / "out.ome.zarr"
    settled(qtbot, widget)
    assert "output" in messages(widget)
    widget.form.output.value = tmp_path / "out.ome.zarr"
    for field, wrong in (("wells", "Z99"), ("field_names", "7"), ("times", "4"), ("pattern", "{nothing}")):
        getattr(widget.form, field).value = wrong
        settled(qtbot, widget)
        assert list(messages(widget)) == ["fields" if field == "field_names" else field]
        assert "--" not in "".join(messages(widget).values())
        getattr(widget.form, field).value = ""
    settled(qtbot, widget)
    assert messages(widget) == {}
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["in", "there.ome.zarr"]


def test_other_choices_than_an_output_was_begun_with_are_refused_beside_it(qtbot, widget, plate, tmp_path):
    choose(qtbot, widget, plate, tmp_path / "out.ome.zarr")
    fuse(qtbot, widget)
    widget.form.select.value = "hard"
    settled(qtbot, widget)
    assert 'select: "soft" then, "hard" now' in messages(widget)["output"]


@pytest.mark.slow
def test_a_broken_field_is_shown_and_the_others_are_fused(qtbot, viewer, widget, plate, tmp_path):
    broken, cut = sorted(plate.glob("r02c03f01*ch1*")), sorted(plate.glob("r02c04f02*ch2*"))
    broken[1].unlink()
    cut[1].write_bytes(b"II*\0")
    choose(qtbot, widget, plate, tmp_path / "out.ome.zarr")
    assert "B03 field 1 time 0" in widget.about.text()
    fuse(qtbot, widget)
    assert widget.state.value == "2 of 4 fused"
    assert [statuses(widget)[well]["failed"] for well in ("B03", "B04")] == [1, 1]
    for name in ("2 failed:", "B03 field 1 time 0: ", "B04 field 2 time 0: "):
        assert name in widget.said.value
    image = widget.map.grab().toImage()
    cell = widget.map.cell("B03")
    assert image.pixelColor((cell.bottomLeft() + QPointF(2, -2)).toPoint()).name() == COLORS["failed"]
    assert "1 failed" in widget.seen.states.well("B03").describe()
    click(qtbot, widget, "B03")
    assert "B03/2 DAPI decision" in viewer.layers
    # All its fields are offered, the broken one with the reason.
    assert widget.field.choices == ("1", "2")
    assert "B03, field 1, failed: " in widget.field.native.itemText(0)
    assert widget.field.value == "2"
    click(qtbot, widget, "B04")
    widget.field.value = "2"  # its second slice is damaged; the file of its first field is whole
    settled(qtbot, widget)
    assert widget.map.opened == "B04"
    click(qtbot, widget, "B03")
    # Repaired, it is fused as if nothing had been wrong.
    for file in (broken[1], cut[1]):
        shutil.copy(broken[0], file)
    fuse(qtbot, widget)
    assert widget.state.value == "2 of 4 fused, 2 were fused before"
    assert widget.said.value == ""


@pytest.mark.own_window
@pytest.mark.parametrize("how", [pytest.param("window", marks=pytest.mark.slow), "dock"])
def test_closing_during_a_run_stops_it(qtbot, viewer, widget, long_plate, tmp_path, capsys, how):
    output = tmp_path / "out.ome.zarr"
    choose(qtbot, widget, long_plate, output)
    widget.fuse.native.click()
    qtbot.waitUntil(lambda: "fusing" in widget.state.value, timeout=120_000)
    jobs = widget.jobs
    viewer.window.close() if how == "window" else viewer.window.remove_dock_widget(widget.native)
    qtbot.waitUntil(lambda: not jobs.running, timeout=60_000)
    finished = len(list(open_plate(output).fields()))
    assert 0 < finished < 30
    # Nobody holds the output any more: the command line goes on.
    assert command_line(["batch", str(long_plate), str(output), "--method", "tenengrad", "--json"]) == 0
    assert f'"kept": {finished}' in capsys.readouterr().out


def test_what_napari_shows_is_not_computed_by_the_cluster(qtbot, widget, plate, tmp_path):
    choose(qtbot, widget, plate, tmp_path / "out.ome.zarr")
    widget.fuse.native.click()
    qtbot.waitUntil(lambda: "fusing" in widget.state.value, timeout=120_000)
    with pytest.raises(ValueError, match="No global client"):
        get_client()
    assert dask.config.get("scheduler", None) is None
    settled(qtbot, widget)


def test_an_unexpected_error_is_reported(qtbot, widget, plate, tmp_path, monkeypatch):
    def broken(*_args, **_options):
        raise RuntimeError("something broke")

    choose(qtbot, widget, plate, tmp_path / "out.ome.zarr")
    monkeypatch.setattr(plate_job, "run_plate", broken)
    before = len(notification_manager.records)
    fuse(qtbot, widget)
    assert "something broke" in notification_manager.records[before].message
    assert "something broke" in widget.state.value
    assert widget.fuse.enabled


def test_the_sample_plate_lies_side_by_side_and_is_offered(qtbot, viewer, widget, monkeypatch):
    small = [Stack(np.full((2, 3, 48, 64), 10 + index, "uint16"), "CZYX", channels=CHANNELS) for index in range(8)]
    monkeypatch.setattr("hybridfusion_core.scenes.samples.plate.plate_stacks", lambda: small)
    sample_data._written_plate.cache_clear()
    for each in sample_data.plate():
        viewer.add_layer(Layer.create(*each))
    settled(qtbot, widget)
    sample_data._written_plate.cache_clear()
    assert Path(widget.form.folder.value).name == "organoids.ome.zarr"
    assert "is deleted when" in widget.about.text()
    corners = {tuple(each.extent.world[0][-2:]) for each in viewer.layers}
    assert len(viewer.layers) == 8
    assert len(corners) == 4
    click(qtbot, widget, "C3")
    opened, beside = viewer.layers["C3/0 DAPI"], viewer.layers["C3 DAPI"]
    np.testing.assert_array_equal(opened.extent.world, beside.extent.world)


@pytest.mark.parametrize(("rows", "columns"), [(2, 3), (8, 12), (32, 48)])
def test_every_well_of_a_map_can_be_pointed_at(qtbot, tmp_path, rows, columns):
    plate = open_plate(write_plain(tmp_path, plane_places(wells=((1, 1),), fields=(1,))), pattern=PATTERN)
    last = replace(
        plate.wells[0], row=row_letters(rows - 1), column=str(columns), row_index=rows - 1, column_index=columns - 1
    )
    plate = replace(plate, wells=(plate.wells[0], last), rows=rows, columns=columns)
    shown = PlateMap()
    qtbot.addWidget(shown)
    shown.resize(360, 100)
    shown.show_states(PlateStates(plate, select(plate, Selection())))
    shown.show()
    for well in plate.wells:
        cell = shown.cell(well.name)
        assert shown.rect().contains(cell.toRect())
        assert cell.width() >= 3
        with qtbot.waitSignal(shown.clicked) as heard:
            qtbot.mouseClick(shown, Qt.MouseButton.LeftButton, pos=cell.center().toPoint())
        assert heard.args == [well.name, False]
    assert shown.well_at(QPointF(QPoint(0, 0))) is None


def test_states_follow_what_ends(tmp_path):
    plate = open_plate(write_plain(tmp_path, plane_places(times=(0, 1))), pattern=PATTERN)
    units = select(plate, Selection(wells="B03"))
    states = PlateStates(plate, units)
    assert [dict(each.counts) for each in states.wells()] == [{"waiting": 4}, {"left": 4}]
    states.take(units[0], None)
    assert dict(states.well("B03").counts) == {"running": 1, "waiting": 3}
    assert "1 running" in states.well("B03").describe()
    states.take(units[0], Outcome("done"))
    assert states.first_fused("B03") is None  # its second time point is missing
    states.take(units[1], Outcome("done", flags=("empty",)))
    assert states.first_fused("B03") == units[0]
    states.take(units[2], Outcome("failed", "it is <b>torn</b>"))
    states.take(units[3], Outcome("stopped"))
    assert dict(states.well("B03").counts) == {"fused": 1, "flagged": 1, "failed": 1, "waiting": 1}
    assert "field 2 time 0: it is <b>torn</b>" in states.well("B03").describe()
    assert states.failures() == [(units[2], "it is <b>torn</b>")]
    states.take(units[3], None)
    states.end()  # it was stopped
    assert states.status(units[3]) == "waiting"
    states.begin()
    assert dict(states.well("B03").counts) == {"fused": 1, "flagged": 1, "waiting": 2}


def test_a_job_that_calls_back_is_told_to_stop_and_says_what_it_did(qtbot):
    heard = []

    def work(report, stop):
        report("begun")
        while not stop():
            pass
        return "half"

    jobs = Jobs()
    jobs.call(work, Listener(heard.append, heard.append, lambda: heard.append("stopped"), heard.append))
    qtbot.waitUntil(lambda: heard == ["begun"])
    jobs.cancel()
    qtbot.waitUntil(lambda: not jobs.running)
    assert heard == ["begun", "half"]


SCRIPT = """
import pathlib, sys
with pathlib.Path(sys.argv[1]).open("a") as file:
    file.write("started\\n")
from hybridfusion_core.batch.scheduler import Where, connected
with connected(Where(1), "cpu", 1) as client:
    (modules,) = client.run(lambda: sorted(sys.modules)).values()
print(bool({"napari", "qtpy", "PyQt6", "napari_hybridfusion"} & set(modules)))
"""


@pytest.mark.slow
def test_workers_know_nothing_of_the_script_that_started_them(tmp_path):
    script = tmp_path / "without_main_guard.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-W", "ignore", str(script), str(tmp_path / "starts")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr
    assert (tmp_path / "starts").read_text() == "started\n"
