"""Jobs of a queue: how they are described, and that the scripts of dask-jobqueue's own kind of local job run."""

from pathlib import Path

import pytest

from hybridfusion_core.batch import job_queue
from hybridfusion_core.batch.job_queue import read_config
from hybridfusion_core.batch.scheduler import Where, connected
from hybridfusion_core.cli import main
from hybridfusion_core.errors import HybridFusionError, UserInputError

# dask-jobqueue leaves a file, a process and, of a cluster that could not begin, the cluster to the garbage collector.
leaking = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


@pytest.mark.parametrize(
    ("walltime", "seconds"),
    [("02:00:00", 7200), ("30:00", 1800), ("90", 5400), ("1-00:00:00", 86400), ("2h", 7200)],
)
def test_a_worker_ends_before_its_job_is_killed(walltime: str, seconds: int) -> None:
    assert job_queue._lifetime(walltime)[:2] == ["--lifetime", f"{round(seconds * 0.9)}s"]


def test_what_is_no_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="is no configuration of a cluster"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("cores =")
    with pytest.raises(HybridFusionError, match="cannot be understood"):
        read_config(tmp_path / "bad.toml")
    with pytest.raises(UserInputError, match="is no length of time"):
        job_queue._lifetime("soon")
    assert main(["batch", str(tmp_path), str(tmp_path / "o.zarr"), "--cluster-config", "x.toml"]) == 2


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(job_queue.QUEUES, "slurm", ("dask_jobqueue_that_is_not_there", "SLURMCluster"))
    with pytest.raises(UserInputError, match=r"extra 'cluster'"), connected(Where(cluster="slurm"), "cpu", 1):
        pass


@leaking
def test_options_that_the_queue_does_not_know_are_told(tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    (tmp_path / "odd.toml").write_text('colour = "green"\ninterface = "lo"\n')
    where = Where(cluster="local", cluster_config=tmp_path / "odd.toml")
    with pytest.raises(UserInputError, match=r"colour.*Check --cluster-config"), connected(where, "cpu", 1):
        pass


@leaking
def test_jobs_of_this_computer_come_and_go(tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    text = f'memory = "1GiB"\ninterface = "lo"\nmaximum_jobs = 1\nminimum_jobs = 1\nlog_directory = "{tmp_path}"\n'
    (tmp_path / "jobs.toml").write_text(text)
    with connected(Where(cluster="local", cluster_config=tmp_path / "jobs.toml"), "cpu", 4) as client:
        client.wait_for_workers(1, timeout=120)
        assert client.submit(sum, (1, 2)).result(timeout=120) == 3
