"""Workers that compute examples, and surroundings; the examples are tested as records."""

import os

import joblib
import numpy as np
import pytest
from builders import noise_wave

from lttlib.features import workers
from lttlib.features.examples import add_surroundings


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


def test_copies_at_other_speeds_get_pauses_and_noise_that_their_names_decide():
    wave = noise_wave(1.0)
    loudness = np.sqrt(np.mean(wave**2))
    lengths, noises = [], []
    for seed in range(200):
        changed = add_surroundings(wave, 8000, seed)
        np.testing.assert_array_equal(changed, add_surroundings(wave, 8000, seed))
        # Where the recording stands in it: there the difference is the noise.
        places = np.correlate(changed, wave, mode="valid")
        start = int(places.argmax())
        noise = np.std(changed[start : start + len(wave)] - wave) / loudness
        lengths.append(len(changed) - len(wave))
        noises.append(20 * np.log10(noise + 1e-9))
    padded = np.array(lengths) > 0
    noisy = np.array(noises) > -100
    assert 0.3 < padded.mean() < 0.5 and max(lengths) < 2 * 8000
    assert 0.5 < noisy.mean() < 0.7
    levels = np.array(noises)[noisy]
    assert -62 < levels.min() < -50 and -20 < levels.max() < -14
