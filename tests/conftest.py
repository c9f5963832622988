"""Set-up of every test."""

import compileall
import contextlib
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

# Whoever starts the tests under nohup, or in the background of a script, hands an ignored SIGHUP or
# SIGINT down to every process of theirs.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config):
    """Compile the package's modules, as an installer does.

    Otherwise each command that a test starts compiles them again (a third of a second) where Python
    is told to write no bytecode and the package is installed as it lies.
    """
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(Path(__file__).parents[1] / "onnx_geed", quiet=2)


# A server takes a port that is free, tells it in a line, and ends when whoever started it has.
MOTO = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server._server.server_address[1], flush=True)  # which older ones do not tell
sys.stdin.read()
"""
FILES = """
import sys, threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
handler = partial(SimpleHTTPRequestHandler, directory=sys.argv[1])
server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def served(script, *words):
    """A server of ours as a process of its own, once it takes connections."""
    command = [sys.executable, "-c", script, *words]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, **pipes) as process:
        try:
            # However long a machine that has other work takes to start it.
            port = process.stdout.readline()
            assert port, "the server ended"
            yield f"http://127.0.0.1:{int(port)}"
        finally:
            process.kill()


@pytest.fixture(scope="session")
def object_store():
    """An object store on this machine: moto's."""
    with served(MOTO) as endpoint:
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
    # Systems are kept by their options, and not by the environment that they were opened in.
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem(use_listings_cache=False)
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    system.mkdir(name)
    yield f"s3://{name}", system
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def web(tmp_path):
    """The address of a folder that is served by HTTP, and that folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    with served(FILES, os.fspath(folder)) as address:
        yield address, folder
