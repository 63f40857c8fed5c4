"""A gang: one attempt on several machines, each with processes of its own and no file in common.

Its first machine runs the trainer; every other one a deputy, which starts the processes there. What a machine must
know of its place its node has noted in attempt-K/gang.json; where the first one listens the server tells.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import psutil

from trainer.rundir import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

LOOPBACK = "127.0.0.1"
GONE_AFTER = 15
"""Seconds without any answer of a machine's kernel after which it is taken to be gone. A process that merely
stands still has a kernel that answers for it."""
KEEPALIVE = (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 2))
"""Asked after 5 s, twice, 5 s apart."""


@dataclass(frozen=True)
class Gang:
    """One machine's place in the gang."""

    index: int
    """0 is the machine of the trainer."""
    names: tuple[str, ...]
    """The nodes' names, by index."""
    address: str
    """Under which the other machines reach this one."""
    secret: str
    """Known to the members of this attempt alone: who knows it is let in by the first one."""

    @property
    def size(self) -> int:
        return len(self.names)

    @property
    def name(self) -> str:
        """What this machine is called."""
        return self.names[self.index]

    def others(self) -> list[int]:
        """The members that the first one waits for."""
        return list(range(1, self.size))


def gang_write(path: Path, gang: Gang) -> None:
    """Note a machine's place, for its owner's eyes only."""
    write_atomic(path, json.dumps(asdict(gang)), 0o600)


def gang_read(path: Path) -> Gang | None:
    """The place that was noted; None for an attempt on one machine."""
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return Gang(int(raw["index"]), tuple(raw["names"]), str(raw["address"]), str(raw["secret"]))


def address_problem(address: str) -> str:
    """What is wrong with an address under which this machine is to be reached, or ""."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(address, None)}
    except (OSError, UnicodeError):
        return f"'{address[:80]}' is no address that this machine can look up"
    known = [ipaddress.ip_address(str(one).partition("%")[0]) for one in found]
    if any(one.is_unspecified for one in known):
        return f"{address} means every network of this machine; name the one address that the others reach"
    if interface_of(address) is None:
        return f"{address} is not an address of this machine"
    return ""


def is_loopback(address: str) -> bool:
    """Whether only this machine itself reaches the address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def interface_of(address: str) -> str | None:
    """The network interface that has the address; None where none has."""
    try:
        wanted = {info[4][0] for info in socket.getaddrinfo(address, None)}
    except (OSError, UnicodeError):
        return None
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address.partition("%")[0] in wanted for one in addresses):
            return name
    # All of 127.0.0.0/8 is this machine's, and one of them is listed.
    return "lo" if is_loopback(address) else None


def listen(address: str, backlog: int) -> socket.socket:
    """Listen at a free port of the address. Raises OSError that names it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, 0), family=family, backlog=backlog)
    except OSError as error:
        raise OSError(f"cannot listen on {address}: {error.strerror or error}") from error


def notice_absence(connection: socket.socket) -> None:
    """See that a machine that is gone is noticed within `GONE_AFTER`, whether or not anything is being said."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        if (option := getattr(socket, name, None)) is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
    if (option := getattr(socket, "TCP_USER_TIMEOUT", None)) is not None:
        connection.setsockopt(socket.IPPROTO_TCP, option, GONE_AFTER * 1000)
