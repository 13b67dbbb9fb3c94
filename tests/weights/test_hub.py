"""``load_weights("imagenet")`` with a local server in place of the hub."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from support.formats import NARROW
from support.torch_vgg import TimmVGG

from vgg_cuda.weights import WeightsError, load_weights
from vgg_cuda.weights.hub import VARIANTS

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SERVES, STUMBLES, DIES = "serves", "drops the first download midway", "drops it and stays away"


@cache
def content() -> bytes:
    return safetensors.torch.save(TimmVGG(NARROW["vgg11"], hidden=16, num_classes=7).state_dict())


class Hub(BaseHTTPRequestHandler):
    """A server with one file in each of ``repositories``."""

    repositories = ("timm/vgg16.tv_in1k", "timm/vgg11_bn.tv_in1k")
    mode = SERVES
    seen: list[str]
    starts: list[int]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        if "/resolve/" in self.path:  # the client sends other requests, too
            self.seen.append(f"{self.command} {self.path}")
        files = [f"/{name}/resolve/main/model.safetensors" for name in self.repositories]
        if self.path not in files:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = content()
        start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if not body:
            return
        self.starts.append(start)
        end = len(data)
        if self.mode != SERVES and len(self.starts) == 1:
            end = len(data) // 2
        elif self.mode == DIES:
            end = start
        self.wfile.write(data[start:end])
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[tuple[str, type[Hub]]]:
    handler = type("Handler", (Hub,), {"seen": [], "starts": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    thread.join()
    server.server_close()


CHILD = """
import sys, time
time.sleep = lambda seconds: None  # the client waits between retries
from vgg_cuda.weights import WeightsError, load_weights
try:
    weights = load_weights(sys.argv[1])
    print("loaded", weights.config.head, weights.preset.name, weights.source)
except WeightsError as error:
    print("error", error)
    assert error.__suppress_context__ and error.__cause__ is None
"""


def load(folder: Path, source: str, endpoint: str, **environment: str) -> tuple[str, str]:
    """Load ``source`` in a new process with its cache in ``folder``; return output and log."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("HF_") and not name.upper().endswith("_PROXY")
    }
    master, slave = os.openpty()  # progress is shown on a terminal only
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, source],
        env={**inherited, "HF_HOME": str(folder), "HF_ENDPOINT": endpoint, **environment},
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
    )
    os.close(slave)
    logged = b""
    with contextlib.suppress(OSError):  # EIO: the child closed its end
        while part := os.read(master, 4096):
            logged += part
    os.close(master)
    said, _ = child.communicate(timeout=100)
    assert child.returncode == 0, logged.decode()
    return said.strip(), logged.decode()


def check_advice(said: str, repository: str) -> None:
    for part in (
        f"Download the file from the Hugging Face repository {repository}",
        "HF_ENDPOINT",
    ):
        assert part in said
    assert "'digits'" in said
    assert "\n" not in said


def test_download_then_cache(tmp_path: Path, hub: tuple[str, type[Hub]]) -> None:
    endpoint, handler = hub
    said, logged = load(tmp_path, "imagenet", endpoint)
    assert said == "loaded (16, 16, 7) torchvision imagenet"
    assert "model.safetensors" in logged  # the progress bar
    path = "/timm/vgg16.tv_in1k/resolve/main/model.safetensors"
    assert handler.seen == [f"HEAD {path}", f"GET {path}"]
    # offline: from the cache, without a request
    assert load(tmp_path, "imagenet:vgg16", endpoint, HF_HUB_OFFLINE="1")[0].startswith("loaded")
    assert len(handler.seen) == 2
    # another variant is another repository, and is not in the cache
    said, _ = load(tmp_path, "imagenet:vgg11_bn", endpoint, HF_HUB_OFFLINE="1")
    assert said.startswith("error imagenet:vgg11_bn: cannot download model.safetensors")
    check_advice(said, "timm/vgg11_bn.tv_in1k")
    assert load(tmp_path, "imagenet:vgg11_bn", endpoint)[0].startswith("loaded (16, 16, 7)")


def test_not_found(tmp_path: Path, hub: tuple[str, type[Hub]]) -> None:
    said, _ = load(tmp_path, "imagenet:vgg13", hub[0])
    assert said.startswith("error imagenet:vgg13: cannot download")
    assert "404" in said
    check_advice(said, "timm/vgg13.tv_in1k")


def test_lost_connection_is_resumed(tmp_path: Path, hub: tuple[str, type[Hub]]) -> None:
    hub[1].mode = STUMBLES
    assert load(tmp_path, "imagenet", hub[0])[0].startswith("loaded")
    assert len(hub[1].starts) == 2


def test_connection_lost_permanently(tmp_path: Path, hub: tuple[str, type[Hub]]) -> None:
    hub[1].mode = DIES
    said, _ = load(tmp_path, "imagenet", hub[0])
    assert said.startswith("error imagenet: cannot download")
    assert len(hub[1].starts) > 1
    check_advice(said, "timm/vgg16.tv_in1k")
    hub[1].mode = SERVES  # no partial file was kept
    assert load(tmp_path, "imagenet", hub[0])[0].startswith("loaded")


def test_connection_refused(tmp_path: Path, hub: tuple[str, type[Hub]]) -> None:
    said, _ = load(tmp_path, "imagenet", "http://127.0.0.1:9")
    assert said.startswith("error imagenet: cannot download")
    check_advice(said, "timm/vgg16.tv_in1k")


def test_server_other_than_the_hub(tmp_path: Path, hub: tuple[str, type[Hub]]) -> None:
    hub[1].send_header = lambda self, name, value: (
        None if name == "X-Repo-Commit" else BaseHTTPRequestHandler.send_header(self, name, value)
    )
    said, _ = load(tmp_path, "imagenet", hub[0])
    check_advice(said, "timm/vgg16.tv_in1k")


def test_variants() -> None:
    assert len(VARIANTS) == 8
    with pytest.raises(
        WeightsError, match=r"expected one of vgg11, vgg11_bn, vgg13.* got 'resnet50'"
    ):
        load_weights("imagenet:resnet50")
