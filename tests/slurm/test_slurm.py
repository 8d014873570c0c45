"""Workers as jobs of a real SLURM: the plate is that of this computer, also when a job is cancelled under a field."""

import subprocess
from pathlib import Path

from hybridfusion_core.batch.api import plan_batch, run_batch
from hybridfusion_core.batch.result import Event
from hybridfusion_core.batch.scheduler import Where
from hybridfusion_core.scenes.samples.write import write_sample

REQUEST = {"method": "tenengrad", "device": "cpu", "tile": 64}
CONFIG = """
cores = 1
memory = "1500MB"
walltime = "00:10:00"
interface = "lo"
minimum_jobs = 1
maximum_jobs = 2
log_directory = "{folder}"
"""


def contents(folder: Path) -> dict[str, bytes]:
    found = [each for each in folder.rglob("*") if each.is_file() and ".hybridfusion" not in str(each)]
    return {str(each.relative_to(folder)): each.read_bytes() for each in found}


def jobs() -> list[str]:
    asked = subprocess.run(["squeue", "-h", "-o", "%i", "-t", "R"], capture_output=True, text=True, check=True)
    return asked.stdout.split()


def test_jobs_of_slurm_fuse_a_plate_and_one_that_is_cancelled_loses_nothing(slurm: Path, tmp_path: Path) -> None:
    write_sample("plate", tmp_path / "in.ome.zarr")
    (tmp_path / "slurm.toml").write_text(CONFIG.format(folder=slurm))
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    here = plan_batch(tmp_path / "in.ome.zarr", tmp_path / "here" / "out.ome.zarr", **REQUEST)
    there = plan_batch(tmp_path / "in.ome.zarr", tmp_path / "there" / "out.ome.zarr", **REQUEST)
    cancelled: list[str] = []

    def cancel(event: Event) -> None:
        if event.stage == "fusing" and event.outcome is not None and not cancelled:
            cancelled.append(jobs()[0])
            subprocess.run(["scancel", cancelled[0]], check=True)

    where = Where(cluster="slurm", cluster_config=tmp_path / "slurm.toml")
    result = run_batch(there, where=where, report=cancel)
    assert cancelled
    assert (result.fused, result.failures, dict(result.refused)) == (8, [], {})
    assert run_batch(here).fused == 8
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
