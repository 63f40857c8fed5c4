"""Which address `up` may listen on, and whether it is free."""

from __future__ import annotations

import ipaddress
import socket

import psutil


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_every_address(host: str) -> bool:
    """Say whether `host` stands for all addresses of the machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return False


def local_host(host: str) -> str:
    """Return a host by which this machine reaches a server that listens on `host`."""
    name = "127.0.0.1" if is_every_address(host) else host.strip("[]")
    return f"[{name}]" if ":" in name else name


def port_claim(host: str, port: int) -> int:
    """Return a port that is free on `host`: `port`, or any for 0. Raises `ValueError` if taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the server itself does: connections that are just closing do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as error:
            raise ValueError(_refusal(host, port, error)) from None
        return int(probe.getsockname()[1])


def _refusal(host: str, port: int, error: OSError) -> str:
    holder = _listener(port)
    if holder:
        return f"Port {port} is in use by {holder}. Choose another one with --port."
    return f"Cannot listen on {host}:{port} ({error.strerror}). Choose another --port or --host."


def _listener(port: int) -> str:
    """Return who listens on `port`, as far as this account may see."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return ""
    for one in connections:
        if one.status == psutil.CONN_LISTEN and one.laddr.port == port:
            try:
                return f"{psutil.Process(one.pid).name()} (process {one.pid})"
            except (psutil.Error, ValueError, TypeError):
                return "another program"
    return ""
