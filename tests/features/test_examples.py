"""The workers that compute examples; the examples themselves are tested as records."""

import os

import joblib
import pytest

from lttlib.features import workers


@pytest.mark.parametrize("variable", ["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_workers_share_the_cores_and_leave_the_environment_as_it_was(variable):
    before = dict(os.environ)
    cores = max(2, os.cpu_count())
    with workers(cores) as pool:
        assert set(pool([(os.getenv, (variable,), {})] * 3)) == {"1"}
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    "cores, used", [(3, 3), (0, joblib.cpu_count()), (None, joblib.cpu_count())]
)
def test_workers_without_a_number_are_one_for_each_core(cores, used):
    if used == 1:
        pytest.skip("a machine of one core")
    with workers(cores) as pool:
        assert pool._effective_n_jobs() == used


def test_workers_are_those_of_the_backend_that_the_caller_has_configured():
    with joblib.parallel_config("threading", n_jobs=3), workers() as pool:
        processes = set(pool([(os.getpid, (), {})] * 2))
        assert processes == {os.getpid()} and pool.n_jobs == 3


def test_workers_of_a_cluster_can_be_named_by_a_variable(monkeypatch):
    monkeypatch.setenv("LTT_WORKERS", "threading")
    with workers() as pool:
        assert list(pool([(os.getpid, (), {})])) == [os.getpid()]
    monkeypatch.setenv("LTT_WORKERS", "dusk:tcp://127.0.0.1:1")
    with pytest.raises(ValueError, match="dusk"), workers():
        pass
