"""The address that a node tells: named, loopback beside the server, or none."""

from __future__ import annotations

import pytest

from orchestrator.node.address import CannotJoin, node_address


@pytest.mark.parametrize(
    ("url", "named", "address"),
    [
        ("http://127.0.0.1:8000", "", "127.0.0.1"),
        ("http://localhost:8000", "", "127.0.0.1"),
        ("http://192.0.2.1:8000", "", ""),
        ("http://192.0.2.1:8000", " 127.0.0.1 ", "127.0.0.1"),
    ],
)
def test_without_a_name_loopback_serves_the_servers_own_machine_alone(url, named, address):
    assert node_address(url, {"ANNEAL_NODE_ADDRESS": named}) == address
    assert named or node_address(url, {}) == address


@pytest.mark.parametrize("named", ["0.0.0.0", "192.0.2.77", "::"])
def test_an_address_that_is_not_this_machines_own_is_refused(named):
    with pytest.raises(CannotJoin, match="ANNEAL_NODE_ADDRESS: "):
        node_address("http://127.0.0.1:8000", {"ANNEAL_NODE_ADDRESS": named})
