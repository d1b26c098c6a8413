"""From a sound file to batches: audio, spectra, and records on disk.

TensorFlow is imported where it is needed, not before.
"""

from lttlib.features.audio import AudioError, AudioWarning, load_audio
from lttlib.features.examples import (
    check_sound,
    load_waves,
    make_example,
    make_examples,
    workers,
)
from lttlib.features.normalisation import find_speech, sliding_cmvn
from lttlib.features.records import Records, RecordsError, fold_seeds, write_records
from lttlib.features.shards import Entry
from lttlib.features.spectral import (
    FeatureConfig,
    add_deltas,
    band_power,
    cepstra,
    cmvn,
    delta,
    extract,
    mel_filters,
    mfccs,
    power_spectrogram,
    power_to_db,
)
