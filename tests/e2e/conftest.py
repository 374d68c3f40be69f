"""Fixtures of the end-to-end tests."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowrotate.demo.certs import Authority, make_authority

from .world import World

NAMES = ["localhost", "127.0.0.1", "::1", "api.example.test"]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tls"), NAMES)


@pytest.fixture
def world(tmp_path: Path, authority: Authority) -> Iterator[World]:
    with World(tmp_path, authority) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[World]:
    """A world for a whole file: a mitmproxy takes two seconds to start."""
    with World(tmp_path_factory.mktemp("world"), authority) as made:
        yield made


@pytest.fixture
def free_port() -> int:
    """For what cannot be told to find one by itself, as mitmweb's interface."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
