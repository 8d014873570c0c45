"""What napari is told about the plugin is valid, and all of it is there."""

from importlib.metadata import entry_points
from importlib.resources import files

import pytest
from npe2 import PluginManifest


@pytest.fixture
def manifest() -> PluginManifest:
    return PluginManifest.from_distribution("napari-hybridfusion")


def test_every_command_of_the_manifest_can_be_imported(manifest):
    manifest.validate_imports()
    assert {command.id.partition(".")[0] for command in manifest.contributions.commands} == {"napari-hybridfusion"}


def test_every_contribution_has_its_command(manifest):
    known = {command.id for command in manifest.contributions.commands}
    contributed = (
        *manifest.contributions.readers,
        *manifest.contributions.writers,
        *manifest.contributions.sample_data,
        *manifest.contributions.widgets,
    )
    assert {each.command for each in contributed} == known


def test_the_manifest_lies_in_the_package():
    assert files("napari_hybridfusion").joinpath("napari.yaml").read_text().startswith("name: napari-hybridfusion")


def test_the_console_script_is_installed():
    (script,) = entry_points(group="console_scripts", name="hybridfusion")
    assert callable(script.load())


def test_the_widget_stands_in_the_layers_menu(manifest):
    (item,) = manifest.contributions.menus["napari/layers/project"]
    names = {widget.command: widget.display_name for widget in manifest.contributions.widgets}
    assert names[item.command] == "Fuse focal stack"
    assert set(names.values()) == {"Fuse focal stack", "Fuse plate", "Fine-tune model"}
