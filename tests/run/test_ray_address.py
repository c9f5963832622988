"""Where a Ray cluster is, and what is told where there is none."""

import socket
import sys
import threading
import time

import models
import pytest
from running import images

import onnx_geed as geed


@pytest.fixture
def cnn(tmp_path):
    return models.save(models.random_cnn(3, (8, 8)), tmp_path / "m.onnx")


def test_where_nothing_answers_is_told_in_one_line(cnn):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(geed.GeedError, match=f"127.0.0.1:{port}: no Ray cluster answers there"):
        geed.measure(cnn, images((3, 8, 8), 9), "C4", executor="ray", address=f"127.0.0.1:{port}")
    assert time.monotonic() - begun < 20


def test_what_is_no_cluster_is_told_to_be_none(cnn):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer():
            line, _ = server.accept()
            with line:
                line.recv(100)
                line.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(
            geed.GeedError, match=f"127.0.0.1:{port}: what answers there is not a Ray"
        ):
            geed.measure(
                cnn, images((3, 8, 8), 9), "C4", executor="ray", address=f"127.0.0.1:{port}"
            )
        thread.join()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": "rya"}, "--executor rya: choose local or ray.* Did you mean 'ray'"),
        (
            {"address": "auto"},
            "--address auto: works only with --executor ray; add it",
        ),
        (
            {"executor": "ray", "address": "here"},
            "--address here: must be auto, local or the HOST:PORT",
        ),
        ({"executor": "ray", "address": "ray://a:10001"}, "from one of its nodes"),
    ],
)
def test_what_is_no_executor_and_no_address_is_refused(cnn, options, message):
    with pytest.raises(geed.GeedError, match=message):
        geed.measure(cnn, images((3, 8, 8), 9), "C4", **options)


def test_without_ray_it_is_told_what_to_install(cnn, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(geed.GeedError, match=r"ray .*pip install 'onnx-geed\[ray\]'"):
        geed.measure(cnn, images((3, 8, 8), 9), "C4", executor="ray", address="local")
