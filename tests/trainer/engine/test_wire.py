"""Frames arrive whole and in order, however large they are, and nobody waits for the other side."""

from __future__ import annotations

import socket
import threading

import pytest

from trainer.engine.wire import Wire, ready


@pytest.fixture
def ends():
    one, two = (Wire(each) for each in socket.socketpair())
    yield one, two
    one.close()
    two.close()


def read(wire, count):
    found = []
    while len(found) < count:
        ready([wire], 5.0)
        found += wire.receive()
    return found


def test_frames_keep_their_order_and_their_bytes(ends):
    one, two = ends
    bodies = [b"", b"\x00\xff" * 3, bytes(range(256)) * 40]
    for number, body in enumerate(bodies):
        one.send({"op": "x", "number": number, "text": "ü"}, body)
    assert [(f.header["number"], f.header["text"], f.body) for f in read(two, 3)] == [
        (number, "ü", body) for number, body in enumerate(bodies)
    ]
    assert two.receive() == []


def test_what_does_not_fit_the_socket_is_kept_and_goes_later(ends):
    one, two = ends
    body = bytes(1 << 22)
    one.send({"op": "big"}, body)
    one.send({"op": "small"})
    assert one.pending

    def send_rest():
        while one.pending:
            ready([one], 1.0)
            one.flush()

    sender = threading.Thread(target=send_rest)
    sender.start()
    frames = read(two, 2)
    sender.join()
    assert [frame.header["op"] for frame in frames] == ["big", "small"]
    assert frames[0].body == body and not one.pending


def test_what_was_sent_before_the_end_is_given_out(ends):
    one, two = ends
    one.send({"op": "last"}, b"word")
    one.close()
    assert [frame.body for frame in read(two, 1)] == [b"word"]
    two.receive()
    assert two.ended
    two.send({"op": "nobody"})
    assert two.ended
