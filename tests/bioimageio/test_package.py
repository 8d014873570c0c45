"""What other programs make of an exported model, by the test that BioImage.IO has for it, without a network."""

import socket
from pathlib import Path

import pytest

from hybridfusion_core.fusion.bioimageio import export_bioimageio
from hybridfusion_core.model.model_file import model_names


@pytest.mark.parametrize("name", model_names())
# Its own dependencies warn of each other.
@pytest.mark.filterwarnings("ignore")
def test_a_package_passes_bioimageios_own_test_offline_for_several_depths_and_sizes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bioimageio.core import test_model as run_test

    def refuse(*_: object) -> None:
        raise OSError("there is no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    export_bioimageio(name, tmp_path / "package.zip")
    summary = run_test(tmp_path / "package.zip")
    assert summary.status == "passed", summary.format()
    assert {"pytorch_state_dict"} <= {detail.loc[1] for detail in summary.details if detail.loc[:1] == ("weights",)}
    tried = [detail.name for detail in summary.details if "size parameter n:" in detail.name]
    assert len(tried) >= 2, [detail.name for detail in summary.details]
