"""What the plate widget can be asked for, against the command line that was asked for the same."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from distributed import LocalCluster
from plate_window import a_plate, choose, click, fuse, messages, settled, statuses, workers_that_are_threads
from qtpy.QtWidgets import QScrollArea

from hybridfusion_core.cli import main as command_line
from napari_hybridfusion.plate.widget import PlateWidget

__all__ = ["workers_that_are_threads"]


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    return a_plate(tmp_path / "in")


@pytest.fixture
def widget(viewer):
    widget = PlateWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Fuse plate")
    widget.form.method.value = "tenengrad"
    widget.form.workers.value = 1
    return widget


def by_command(plate: Path, output: Path, *options: str) -> Path:
    assert command_line(["batch", str(plate), str(output), "--method", "tenengrad", "--workers", "1", *options]) == 0
    return output


def asked(output: Path) -> dict[str, object]:
    """What the record says that was asked for."""
    return json.loads(
        (output.with_name(f"{output.name.removesuffix('.ome.zarr')}.hybridfusion") / "run.json").read_text()
    )["request"]


def test_channels_products_and_file_names_are_those_of_the_command(qtbot, viewer, widget, plate, tmp_path):
    form = widget.form
    form.format.value, form.name_template.value = "tiff", "{well}_s{field}_w{channel}.tif"
    form.channels.value = "Brightfield"
    form._products.boxes["height"].value = False
    choose(qtbot, widget, plate, tmp_path / "window")
    assert messages(widget) == {}
    fuse(qtbot, widget)
    assert messages(widget) == {}
    other = by_command(
        plate,
        tmp_path / "command",
        *("--format", "tiff", "--name", "{well}_s{field}_w{channel}.tif"),
        *("--channels", "Brightfield", "--products", "fused,decision,confidence"),
    )
    names = sorted(each.name for each in other.iterdir())
    assert sorted(each.name for each in (tmp_path / "window").iterdir()) == names
    assert "B03_s1_w2.tif" in names
    for name in (each for each in names if each.endswith(".tif")):
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "window" / name), tifffile.imread(other / name))
    assert asked(tmp_path / "window") == asked(other)
    click(qtbot, widget, "B03")
    assert len(viewer.layers) == 3  # fused, confidence and decision
    assert viewer.layers[0].name.startswith("B03/1")


def test_usual_products_are_those_that_a_command_without_options_makes(qtbot, widget, plate, tmp_path):
    choose(qtbot, widget, plate, tmp_path / "window.ome.zarr")
    fuse(qtbot, widget)
    assert asked(tmp_path / "window.ome.zarr") == asked(by_command(plate, tmp_path / "command.ome.zarr"))


def test_all_else_is_what_the_command_is_asked_for(qtbot, widget, plate, tmp_path):
    form = widget.form
    form.ngff.value, form.z_step_um.value, form.pixel_size_um.value = "0.4", 1.5, 0.25
    chosen = {"z": "1:", "camera": "0.5, 100, 1.6", "nan": "ignore", "tile": 64, "memory": 512, "threads": 1}
    for name, value in chosen.items():
        form.boxes.fields[name].value = value
    choose(qtbot, widget, plate, tmp_path / "window.ome.zarr")
    assert messages(widget) == {}
    fuse(qtbot, widget)
    assert messages(widget) == {}
    other = by_command(
        plate,
        tmp_path / "command.ome.zarr",
        *("--ngff", "0.4", "--z-step", "1.5", "--pixel-size", "0.25", "--z", "1:", "--camera", "0.5,100,1.6"),
        *("--nan", "ignore", "--tile", "64", "--memory", "512M", "--threads", "1"),
    )
    assert asked(tmp_path / "window.ome.zarr") == asked(other)
    assert asked(other)["z"] == "1:"
    assert (tmp_path / "window.ome.zarr" / ".zattrs").is_file()


def test_only_what_a_list_of_failures_names_is_fused(qtbot, widget, plate, tmp_path):
    failures = tmp_path / "failures.csv"
    with failures.open("w", newline="") as file:
        csv.writer(file).writerows([("well", "field", "time", "reason"), ("B04", "2", "0", "a loose cable")])
    widget.form.only.value = failures
    choose(qtbot, widget, plate, tmp_path / "out.ome.zarr")
    fuse(qtbot, widget)
    assert statuses(widget) == {"B03": {"left": 2}, "B04": {"flagged": 1, "left": 1}}  # noise is flagged


def test_the_plate_is_fused_by_a_cluster_that_is_there(qtbot, widget, plate, tmp_path):
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
    ) as cluster:
        widget.form.scheduler.value = cluster.scheduler_address
        choose(qtbot, widget, plate, tmp_path / "out.ome.zarr")
        assert messages(widget) == {}
        fuse(qtbot, widget)
        assert cluster.scheduler.transition_counter > 0
    assert statuses(widget) == {"B03": {"flagged": 2}, "B04": {"flagged": 2}}


@pytest.mark.parametrize(
    ("field", "choice", "said"),
    [
        ("channels", ("channels", "GFP"), "GFP"),
        ("z", ("z", "7:9"), "leaves none of the"),
        ("z", ("z", "two"), "expected START:STOP"),
        ("camera", ("camera", "0.5"), "expected three numbers, GAIN,OFFSET,READNOISE"),
        ("camera", ("camera", "-1,0,1"), "Camera gain -1.0"),
        ("only", ("only", "nowhere.csv"), "nowhere.csv"),
        ("scheduler", ("scheduler", "tcp://127.0.0.1:1"), "No Dask scheduler answers at tcp://127.0.0.1:1"),
        ("scheduler", ("scheduler", "somewhere"), "has no port"),
        ("scheduler_file", ("scheduler_file", "nowhere.json"), "does not exist"),
    ],
)
def test_a_choice_that_cannot_be_is_said_beside_its_field(
    qtbot, widget, plate, tmp_path, monkeypatch, field, choice, said
):
    monkeypatch.setattr("hybridfusion_core.batch.scheduler._ANSWER", 0.5)
    name, value = choice
    box = widget.form.boxes.fields.get(name) or getattr(widget.form, name)
    box.value = tmp_path / value if value.startswith("nowhere") else value
    choose(qtbot, widget, plate, tmp_path / "out.ome.zarr")
    assert list(messages(widget)) == [field]
    assert said in messages(widget)[field]
    widget.fuse.native.click()
    settled(qtbot, widget)
    assert list(messages(widget)) == [field]
    assert not (tmp_path / "out.ome.zarr").exists()


def test_names_that_fall_together_are_said_beside_the_names(qtbot, widget, plate, tmp_path):
    widget.form.format.value, widget.form.name_template.value = "tiff", "{well}.tif"
    choose(qtbot, widget, plate, tmp_path / "out")
    assert list(messages(widget)) == ["name"]


def test_an_unfolded_form_is_not_cut_off_at_its_side(qtbot, widget):
    scroll = widget.native.findChild(QScrollArea)
    widget.form.part.value = widget.form.advanced.value = True
    widget.form.format.value = "tiff"
    qtbot.wait(300)
    assert scroll.viewport().width() >= scroll.widget().minimumSizeHint().width()
