"""Threads of others are given back, in whatever order those who borrowed them end."""

from contextlib import ExitStack

from hybridfusion_core.model.threads import blas, one_blas_thread


def _counts() -> list[int]:
    return [library["num_threads"] for library in blas().info()]


def test_blas_gets_its_threads_back_when_the_last_of_overlapping_jobs_ends() -> None:
    with blas().limit(limits=2):
        before = _counts()
        first, second = ExitStack(), ExitStack()
        first.enter_context(one_blas_thread())
        second.enter_context(one_blas_thread())
        assert set(_counts()) == {1}
        first.close()
        assert set(_counts()) == {1}  # the other one still runs
        second.close()
        assert _counts() == before
