"""`up` listens where only this machine can reach it, unless others are kept out."""

from __future__ import annotations

import os
import socket

import pytest

from orchestrator.supervisor.address import is_loopback, local_host, port_claim


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_loopback_is_recognised(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["10.0.0.5", "::", "example.org", "127.0.0.1.example.org"])
def test_everything_else_counts_as_reachable_by_others(host):
    assert not is_loopback(host)


def test_the_local_node_finds_a_server_that_listens_everywhere():
    assert local_host("::") == "127.0.0.1"
    assert local_host("10.0.0.5") == "10.0.0.5"
    assert local_host("::1") == "[::1]"


def test_a_taken_port_is_refused_with_the_name_of_who_has_it():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=rf"Port {port} is in use by .*{os.getpid()}.*--port"):
            port_claim("127.0.0.1", port)
    assert port_claim("127.0.0.1", port) == port


def test_port_zero_finds_a_free_one():
    assert port_claim("127.0.0.1", 0) > 1023
