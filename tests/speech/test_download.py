"""Downloads: whole or continued, checked, and unpacked nowhere else."""

import hashlib
import io
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from damage import assert_refused, content, flips, rows

from lttlib.speech import CORPORA, CorpusError, download, fetch_corpus, read_corpus
from lttlib.speech.datasets import (
    Archive,
    prepare_an4,
    prepare_librispeech,
    prepare_ljspeech,
    prepare_spoken_digits,
)

RECORDING = "LibriSpeech/dev-clean/7/1/7-1-0.flac"


def test_download_needs_neither_pooch_nor_requests_nor_tensorflow_to_be_imported():
    program = "import sys, lttlib.speech.download; print(*sys.modules, sep='\\n')"
    command = [sys.executable, "-c", program]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    modules = set(process.stdout.split())
    assert "lttlib.speech.download" in modules
    assert not modules & {"pooch", "requests", "tensorflow", "keras"}


def listing(root):
    """What a user sees in a folder, and what stays of downloads."""
    paths = [*root.glob("*"), *root.glob(".downloads/*")]
    return sorted(path.name for path in paths if path.name != ".downloads")


def read_recording(root):
    """Bytes of the one recording."""
    return read_corpus(root, "dev-clean")[0].audio.read_bytes()


@pytest.mark.parametrize("ranges", [True, False])
def test_download_that_was_interrupted_never_passes_for_whole_and_ends_right(
    serve, server, tiny, tmp_path, ranges
):
    serve(tiny)
    server.ranges = ranges
    server.stop_after = 70_000
    for _ in range(2):
        with pytest.raises(CorpusError, match="stopped .* run it again"):
            fetch_corpus("tiny", tmp_path)
        assert listing(tmp_path) == ["tiny.tar.part"]
    server.stop_after = None
    fetch_corpus("tiny", tmp_path)
    assert read_recording(tmp_path) == tiny[RECORDING]
    assert listing(tmp_path) == ["dev-clean", "tiny.tar.done"]
    # The rest of the 70,000 bytes was no whole chunk.
    first = download.CHUNK
    second = 2 * first if ranges else first
    assert server.requested_ranges == [None, f"bytes={first}-", f"bytes={second}-"]


def test_download_that_was_whole_but_not_yet_in_its_place_is_used(serve, tiny, tmp_path):
    body = serve(tiny)
    (tmp_path / ".downloads").mkdir()
    (tmp_path / ".downloads" / "tiny.tar.part").write_bytes(body)
    fetch_corpus("tiny", tmp_path)
    assert listing(tmp_path) == ["dev-clean", "tiny.tar.done"]


def test_download_of_a_wrong_hash_is_an_error_and_the_file_is_removed(serve, tiny, tmp_path):
    serve(tiny, known_hash="md5:" + 32 * "0")
    with pytest.raises(CorpusError, match="MD5 hash .* does not match"):
        fetch_corpus("tiny", tmp_path)
    assert listing(tmp_path) == []


def test_download_without_a_published_hash_sets_it_for_the_next(serve, tiny, tmp_path):
    serve(tiny, known_hash=None)
    fetch_corpus("tiny", tmp_path)
    assert listing(tmp_path) == ["dev-clean", "tiny.tar.done", "tiny.tar.sha256"]
    (tmp_path / "dev-clean").rename(tmp_path / "elsewhere")
    serve(tiny | {"LibriSpeech/more": b"more"}, known_hash=None)
    with pytest.raises(CorpusError, match="SHA256 hash .* does not match"):
        fetch_corpus("tiny", tmp_path)


def test_download_that_the_server_does_not_have_is_an_error(serve, server, tiny, tmp_path):
    serve(tiny)
    server.files.clear()
    with pytest.raises(CorpusError, match="404"):
        fetch_corpus("tiny", tmp_path)


@pytest.mark.parametrize(
    "evil",
    [
        {"../evil": b"evil"},
        {"LibriSpeech/../../evil": b"evil"},
        {"/evil": b"evil"},
        {"LibriSpeech/evil": "../../../evil"},
        {"LibriSpeech/evil": "/etc/passwd"},
    ],
)
def test_archive_that_points_outside_its_folder_is_refused(serve, tiny, tmp_path, evil):
    serve(tiny | evil)
    with pytest.raises(CorpusError, match="cannot be unpacked safely"):
        fetch_corpus("tiny", tmp_path / "root")
    assert listing(tmp_path / "root") == []
    assert listing(tmp_path) == ["root"]


def first_half(body):
    return body[: len(body) // 2]


def web_page(body):
    return b"<html>" + body


@pytest.mark.parametrize("damage", [first_half, web_page])
def test_archive_cut_short_or_no_archive_at_all_leaves_no_half_corpus(
    serve, server, tiny, tmp_path, damage
):
    body = serve(tiny, known_hash=None)
    server.files["/tiny.tar"] = damage(body)
    with pytest.raises(CorpusError, match="cannot be unpacked"):
        fetch_corpus("tiny", tmp_path)
    assert listing(tmp_path) == []
    server.files["/tiny.tar"] = body
    fetch_corpus("tiny", tmp_path)
    assert read_recording(tmp_path) == tiny[RECORDING]


# Bad input. Each archive lies where a download would, with its hash.


def pack(members):
    """A tar archive of pairs of a name and bytes, or changes of a TarInfo."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, member_content in members:
            member = tarfile.TarInfo(name)
            if isinstance(member_content, bytes):
                member.size = len(member_content)
                archive.addfile(member, io.BytesIO(member_content))
            else:
                for key, value in member_content.items():
                    setattr(member, key, value)
                archive.addfile(member)
    return file.getvalue()


def archived(versions):
    """Each of these archives in turn."""

    def damage(workspace):
        folder = workspace / "root" / ".downloads"
        for version in versions:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "tiny.tar").write_bytes(version)
            digest = hashlib.sha256(version).hexdigest()
            (folder / "tiny.tar.sha256").write_text(f"sha256:{digest}\n")
            yield folder / "tiny.tar"

    return damage


def tar(*members):
    """An archive of a transcript and these members."""
    return archived([pack([("LibriSpeech/dev-clean/1/1/1-1.trans.txt", b"1-1-0 HI\n"), *members])])


def evil(**changes):
    """An archive with a member that is no file."""
    return tar(("evil", changes))


def an4(name, content):
    """An archive of AN4's shape, whole but for one member: other content, or none of it."""
    members = AN4 | {f"an4/{name}": content}
    return tar(*(member for member in members.items() if member[1] is not None))


def junk_hash(workspace):
    list(archived([RECORDING_TAR])(workspace))
    yield from content("root/.downloads/tiny.tar.sha256", b"\xff")(workspace)


def fetch(prepare, splits=("dev-clean",)):
    """Fetch the archive that lies there; nothing is downloaded, since port 9 discards."""
    archive = Archive("http://127.0.0.1:9/tiny.tar", None, splits, prepare)

    def use(workspace, path):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(CORPORA, "tiny", (archive,))
            fetch_corpus("tiny", workspace / "root")

    return use


NOISE = np.random.default_rng(0).bytes(30_000)
RECORDING_TAR = pack([("LibriSpeech/dev-clean/1/1/1-1-0.flac", NOISE)])
CUT_TARS = [RECORDING_TAR[: len(RECORDING_TAR) * part // 10] for part in range(10)]
FLIPPED_TARS = list(flips(20, 20, -8)(RECORDING_TAR))
DIGIT = "fsdd/recordings/0_anna_0.wav"
LINK = "../../evil"
AN4 = {
    "an4/etc/an4_train.fileids": b"an4_clstk/fash/an1-fash-b\nan4_clstk/mrmg/an2-mrmg-b\n",
    "an4/etc/an4_train.transcription": b"<s> A </s> (an1-fash-b)\n<s> B </s> (an2-mrmg-b)\n",
    "an4/etc/an4_test.fileids": b"an4test_clstk/fcaw/an3-fcaw-b\n",
    "an4/etc/an4_test.transcription": b"C (an3-fcaw-b)\n",
    "an4/wav/an4_clstk/fash/an1-fash-b.raw": b"1234",
    "an4/wav/an4_clstk/mrmg/an2-mrmg-b.raw": b"1234",
    "an4/wav/an4test_clstk/fcaw/an3-fcaw-b.raw": b"1234",
}
DEVICE = {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}
AGAIN = "run it again"
REMOVE = "Remove it to download it again"

fetch_librispeech = fetch(prepare_librispeech)
fetch_digits = fetch(prepare_spoken_digits)
fetch_ljspeech = fetch(prepare_ljspeech)
fetch_an4 = fetch(prepare_an4, ("train", "dev", "test"))

BAD_ARCHIVES = [
    ("archive with a path above", tar(("../evil", b"evil")), fetch_librispeech, CorpusError,
     AGAIN),
    ("archive with a path above, within", tar(("a/../../evil", b"evil")), fetch_librispeech,
     CorpusError, AGAIN),
    ("archive with an absolute path", tar(("/evil", b"evil")), fetch_librispeech, CorpusError,
     AGAIN),
    ("archive with a link out", evil(type=tarfile.SYMTYPE, linkname=LINK), fetch_librispeech,
     CorpusError, AGAIN),
    ("archive with a hard link out", evil(type=tarfile.LNKTYPE, linkname=LINK),
     fetch_librispeech, CorpusError, AGAIN),
    ("archive with a device", evil(**DEVICE), fetch_librispeech, CorpusError, AGAIN),
    ("archive with a pipe", evil(type=tarfile.FIFOTYPE), fetch_librispeech, CorpusError, AGAIN),
    ("archive cut", archived(CUT_TARS), fetch_librispeech, CorpusError, AGAIN),
    ("archive flipped bits", archived(FLIPPED_TARS), fetch_librispeech, CorpusError, AGAIN),
    ("archive is junk", archived([b"<html>" * 99]), fetch_librispeech, CorpusError, AGAIN),
    ("archive of other splits", tar(), fetch(prepare_librispeech, ("train",)), CorpusError,
     "has it changed"),
    ("archive of digits with other names", tar(("fsdd/recordings/a_b_c.wav", b"")),
     fetch_digits, CorpusError, REMOVE),
    ("archive of digits without sound", tar((DIGIT, b"")), fetch_digits, CorpusError,
     REMOVE),
    ("archive of LJSpeech without its texts", tar(("LJSpeech-1/a", b"")), fetch_ljspeech,
     CorpusError, REMOVE),
    ("archive of LJSpeech with other texts", tar(("LJSpeech-1/metadata.csv", b"a,b,c")),
     fetch_ljspeech, CorpusError, REMOVE),
    ("archive of AN4 without its lists", an4("etc/an4_test.fileids", None), fetch_an4,
     CorpusError, REMOVE),
    ("archive of AN4 with other names", an4("etc/an4_test.fileids", b"evil"), fetch_an4,
     CorpusError, REMOVE),
    ("archive of AN4 without a transcript", an4("etc/an4_test.transcription", b"C\n"), fetch_an4,
     CorpusError, REMOVE),
    ("archive of AN4 without a recording", an4("wav/an4_clstk/mrmg/an2-mrmg-b.raw", None),
     fetch_an4, CorpusError, REMOVE),
    ("archive of AN4 with half a sample", an4("wav/an4_clstk/mrmg/an2-mrmg-b.raw", b"123"),
     fetch_an4, CorpusError, REMOVE),
    ("archive of AN4 without a dev speaker", an4("etc/an4_train.fileids",
     b"an4_clstk/fash/an1-fash-b"), fetch_an4, CorpusError, REMOVE),
    ("hash of an archive is junk", junk_hash, fetch_librispeech, CorpusError, "remove it"),
]  # fmt: skip


@rows(BAD_ARCHIVES)
def test_damaged_archive_is_refused(workspace, damage, use, error, cure):
    assert_refused(workspace, damage, use, error, cure)


def test_archive_of_an4_that_is_whole_is_accepted(workspace):
    (path,) = an4("README", b"read me")(workspace)
    fetch_an4(workspace, path)
    assert (workspace / "root" / "test" / "fcaw" / "1" / "fcaw-1-an3.flac").is_file()
