"""The place of a machine in a gang, and the addresses under which machines may be reached."""

from __future__ import annotations

import socket

import pytest

from trainer.gang import (
    GONE_AFTER,
    Gang,
    address_problem,
    gang_read,
    gang_write,
    interface_of,
    is_loopback,
    listen,
    notice_absence,
)


def test_a_place_is_noted_for_its_owner_alone_and_read_again(tmp_path):
    gang = Gang(1, ("east", "west"), "127.0.0.1", "secret")
    gang_write(tmp_path / "gang.json", gang)
    assert (tmp_path / "gang.json").stat().st_mode & 0o777 == 0o600
    assert gang_read(tmp_path / "gang.json") == gang
    assert (gang.name, gang.size, gang.others()) == ("west", 2, [1])
    assert gang_read(tmp_path / "nothing.json") is None


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("0.0.0.0", "means every network of this machine"),
        ("::", "means every network of this machine"),
        ("192.0.2.77", "is not an address of this machine"),
        ("no such name", "is no address that this machine can look up"),
    ],
)
def test_an_address_that_others_cannot_use_is_refused_with_a_sentence(address, words):
    assert words in address_problem(address)


def test_loopback_is_this_machines_own():
    assert address_problem("127.0.0.1") == ""
    assert interface_of("127.0.0.1") == interface_of("127.0.0.2") == "lo"
    assert is_loopback("127.0.0.1") and is_loopback("localhost") and is_loopback("::1")
    assert not is_loopback("192.0.2.7") and not is_loopback("node-7")


def test_it_listens_on_its_address_and_nowhere_else():
    with listen("127.0.0.1", 1) as found:
        assert found.getsockname()[0] == "127.0.0.1"
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.77"):
        listen("192.0.2.77", 1)


def test_a_machine_that_is_gone_is_noticed_by_the_kernel():
    with socket.socket() as line:
        notice_absence(line)
        assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle, every, count = (
            line.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
        )
        assert idle + every * count == GONE_AFTER
