"""A server on this machine, with archives to fetch."""

import dataclasses
import hashlib
import http.server
import io
import tarfile
import threading

import numpy as np
import pytest

from lttlib.speech import CORPORA
from lttlib.speech.datasets import Archive, prepare_librispeech


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`.

    It sends only `server.stop_after` bytes of an answer, and knows ranges if `server.ranges`.
    """

    def do_GET(self):
        requested_range = self.headers.get("Range")
        self.server.requested_ranges.append(requested_range)
        body = self.server.files.get(self.path)
        if body is None:
            return self.send_error(404)
        status = 200
        start = 0
        if self.server.ranges and requested_range:
            start = int(requested_range.removeprefix("bytes=").removesuffix("-"))
            status = 206 if start < len(body) else 416
        self.send_response(status)
        self.send_header("Content-Length", str(len(body[start:])))
        self.end_headers()
        self.wfile.write(body[start:][: self.server.stop_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files = {}
        server.requested_ranges = []
        server.stop_after = None
        server.ranges = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join(timeout=10)


@pytest.fixture
def tiny():
    """Members of an archive of one utterance."""
    return {
        "LibriSpeech/README.TXT": b"read me",
        "LibriSpeech/dev-clean/7/1/7-1.trans.txt": b"7-1-0 HI\n",
        "LibriSpeech/dev-clean/7/1/7-1-0.flac": np.random.default_rng(0).bytes(200_000),
    }


def packed(members, mode="gz"):
    """Bytes of an archive; a member's content is bytes, or text: the target of a symbolic link."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{mode}") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type = tarfile.SYMTYPE
                member.linkname = content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def md5(body):
    return f"md5:{hashlib.md5(body).hexdigest()}"


@pytest.fixture
def served(server, monkeypatch):
    """A function that serves bytes under a name and returns their address."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("LTT_BATCH", "1")

    def serve_bytes(name, body):
        server.files[f"/{name}"] = body
        return f"http://127.0.0.1:{server.server_address[1]}/{name}"

    return serve_bytes


@pytest.fixture
def serve_corpus(served, monkeypatch):
    """A function that serves archives of these members in the place of those of a corpus.

    Splits and preparation are the corpus's own. Hashes are those of the archives here, where the
    makers publish one.
    """

    def serve_archives(name, *contents):
        archives = []
        for archive, members in zip(CORPORA[name], contents, strict=True):
            body = packed(members)
            known_hash = archive.hash and md5(body)
            url = served(archive.file_name, body)
            archives.append(dataclasses.replace(archive, url=url, hash=known_hash))
        monkeypatch.setitem(CORPORA, name, tuple(archives))

    return serve_archives


@pytest.fixture
def serve(served, monkeypatch):
    """A function that serves an archive of members, as `packed` takes them, as the corpus "tiny".

    `known_hash` is "right" for the archive's own, or one that its makers are to have published.
    """

    def serve_archive(
        members, splits=("dev-clean",), prepare=prepare_librispeech, known_hash="right", mode="gz"
    ):
        body = packed(members, mode)
        if known_hash == "right":
            known_hash = md5(body)
        archive = Archive(served("tiny.tar", body), known_hash, splits, prepare)
        monkeypatch.setitem(CORPORA, "tiny", (archive,))
        return body

    return serve_archive
