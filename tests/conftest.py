"""Set-up of every test."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid

import pytest

# Whoever starts the tests under nohup, or in the background of a script, hands an ignored SIGHUP or
# SIGINT down to every process of theirs.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def served(*command, port):
    """A server of ours as a process of its own, once it takes connections."""
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            until = time.monotonic() + 60
            while time.monotonic() < until:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                assert process.poll() is None, "the server ended"
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@pytest.fixture(scope="session")
def object_store():
    """An object store on this machine: moto's."""
    port = free_port()
    with served("-m", "moto.server", "-H", "127.0.0.1", "-p", str(port), port=port) as endpoint:
        yield endpoint


@pytest.fixture
def bucket(object_store, monkeypatch, tmp_path):
    """The address of an empty bucket, and its file system; copies go to a folder of the test's."""
    import s3fs

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", object_store)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    system = s3fs.S3FileSystem(use_listings_cache=False)
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    system.mkdir(name)
    return f"s3://{name}", system


@pytest.fixture
def web(tmp_path):
    """The address of a folder that is served by HTTP, and that folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    port = free_port()
    command = ["-m", "http.server", "-b", "127.0.0.1", "-d", os.fspath(folder), str(port)]
    with served(*command, port=port) as address:
        yield address, folder
