"""The rule of examples/pipelines fuses a plate, and does nothing the second time."""

import shutil
import subprocess
from pathlib import Path

import pytest

from hybridfusion_core.scenes.samples.write import write_sample

EXAMPLES = Path(__file__).parents[2] / "examples" / "pipelines"


@pytest.mark.skipif(shutil.which("snakemake") is None, reason="snakemake is not installed")
def test_snakemake_fuses_a_plate_and_does_nothing_the_second_time(tmp_path: Path) -> None:
    (tmp_path / "plates").mkdir()
    write_sample("plate", tmp_path / "plates" / "seven.ome.zarr")
    shutil.copy(EXAMPLES / "Snakefile", tmp_path)
    options = "--method tenengrad --device cpu --tile 64"
    command = ["snakemake", "--cores", "1", "--config", f"options={options}"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr[-3000:]
    assert (tmp_path / "fused" / "seven.verified").is_file()
    before = {each: each.stat().st_mtime_ns for each in (tmp_path / "fused").rglob("*")}
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Nothing to be done" in second.stdout + second.stderr
    assert before == {each: each.stat().st_mtime_ns for each in (tmp_path / "fused").rglob("*")}
