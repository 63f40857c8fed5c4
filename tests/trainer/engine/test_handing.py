"""A folder of the first process arrives on machines that lack it, whole or not at all."""

from __future__ import annotations

import threading

import pytest
import torch

from trainer.engine import handing
from trainer.engine.failure import Failure
from trainer.engine.handing import hand_over
from trainer.engine.ranks import Ranks


class Group:
    """What the ranks of a test, each a thread, say to each other."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier = size, threading.Barrier(size, timeout=10)
        self.said: dict[int, object] = {}
        self.bytes_sent = 0

    def swap(self, rank: int, value: object) -> list[object]:
        self.said[rank] = value
        self.barrier.wait()
        found = [self.said[rank] for rank in range(self.size)]
        self.barrier.wait()
        return found


class Talking(Ranks):
    """A rank whose group is a `Group`."""

    group: Group

    def told(self, value):
        return self.group.swap(self.rank, value)[0]

    def gather(self, tensors, note=None):
        return [({}, one) for one in self.group.swap(self.rank, note)]

    def send(self, tensor):
        sent = self.group.swap(self.rank, tensor)[0]
        assert isinstance(sent, torch.Tensor)
        if self.rank:
            tensor.copy_(sent)
        else:
            self.group.bytes_sent += len(sent)

    def wait(self):
        self.group.swap(self.rank, None)


def together(folders, local=1):
    """Hand over as so many ranks; returns the group and what failed by rank."""
    group, failed = Group(len(folders)), {}

    def work(rank: int) -> None:
        ranks = Talking(rank, len(folders), local)
        object.__setattr__(ranks, "group", group)
        try:
            hand_over(ranks, folders[rank])
        except (Failure, threading.BrokenBarrierError) as error:
            failed[rank] = error
            group.barrier.abort()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(folders))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return group, failed


def filled(folder, **more):
    (folder / "trainer").mkdir(parents=True)
    content = {"model.safetensors": b"m" * 300, "trainer/state.json": b"{}", "empty": b"", **more}
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return content


def content_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def places(tmp_path, count):
    return [tmp_path / f"machine-{index}" / "step-4" for index in range(count)]


def test_each_machine_gets_what_it_lacks_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(handing, "PIECE", 64)
    folders = places(tmp_path, 3)
    content = filled(folders[0])
    filled(folders[2], **{"model.safetensors": b"another", "stray": b"old"})
    group, failed = together(folders)
    assert failed == {}
    for folder in folders:
        assert content_of(folder) == content
        assert [path.name for path in folder.parent.iterdir()] == ["step-4"]
    assert group.bytes_sent == 300 + 2


def test_what_is_there_already_is_not_sent(tmp_path):
    folders = places(tmp_path, 2)
    for folder in folders:
        filled(folder)
    assert together(folders)[0].bytes_sent == 0


def test_one_rank_writes_for_its_machine(tmp_path, monkeypatch):
    shared = tmp_path / "first" / "step-4"
    content = filled(shared)
    other = tmp_path / "second" / "step-4"
    written = []
    real = handing._complete
    monkeypatch.setattr(
        handing, "_complete", lambda *words: (written.append(words[0]), real(*words))
    )
    _, failed = together([shared, shared, other, other], local=2)
    assert failed == {} and written == [other]
    assert content_of(other) == content


def test_what_arrives_damaged_gets_no_name(tmp_path, monkeypatch):
    folders = places(tmp_path, 2)
    filled(folders[0])
    real = Talking.send

    def damaged(self, tensor):
        real(self, tensor)
        if self.rank:
            tensor[0] += 1

    monkeypatch.setattr(Talking, "send", damaged)
    _, failed = together(folders)
    assert "did not arrive as it was sent" in str(failed[1])
    assert not folders[1].exists()


def test_a_name_outside_the_folder_is_refused(tmp_path, monkeypatch):
    folders = places(tmp_path, 2)
    filled(folders[0])
    monkeypatch.setattr(handing, "_listed", lambda folder: {"../../evil": [1, "0"]})
    _, failed = together(folders)
    assert "outside" in str(failed[1])


def test_on_one_machine_nothing_is_said(tmp_path):
    hand_over(Ranks(1, 2, 2), tmp_path / "nothing")
    hand_over(Ranks(), tmp_path / "nothing")


@pytest.mark.parametrize(("rank", "first"), [(0, True), (1, False), (2, True), (3, False)])
def test_the_first_rank_of_each_machine(rank, first):
    assert Ranks(rank, 4, 2).first_here is first
    assert Ranks(rank, 4, 2).several_machines and not Ranks(rank, 4, 4).several_machines
