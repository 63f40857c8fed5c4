"""The parts of a divided optimizer state: rows that fit together again, and none that do not."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from trainer.engine import parts
from trainer.engine.failure import Failure


@pytest.mark.parametrize(
    ("count", "ranks", "rows"),
    [
        (8, 2, [[0, 4], [4, 8]]),
        (5, 2, [[0, 3], [3, 5]]),
        (1, 2, [[0, 1], [1, 1]]),
        (5, 4, [[0, 2], [2, 4], [4, 5], [5, 5]]),
    ],
)
def test_rows_are_divided_as_torch_does(count, ranks, rows):
    assert parts.rows_of_ranks(count, ranks) == rows
    chunks = [len(piece) for piece in torch.arange(count).chunk(ranks)]
    assert [last - first for first, last in rows if last > first] == chunks


@pytest.fixture
def collected(tmp_path):
    """A checkpoint in the making with two ranks' rows of one tensor."""
    whole = torch.arange(15.0).reshape(5, 3)
    making = tmp_path / "step-4.tmp-1-77"
    (making / "trainer").mkdir(parents=True)
    parts.part_offer(making, 1, {"optimizer/state/0/exp_avg": whole[3:].contiguous()})
    mine = {"optimizer/state/0/exp_avg": whole[:3].contiguous()}
    parts.parts_collect(making, mine, {"optimizer/state/0/exp_avg": [5, 3]}, 2)
    return making, whole


def test_what_ranks_wrote_is_whole_again(collected, tmp_path):
    making, whole = collected
    assert torch.equal(parts.parts_read(making)["optimizer/state/0/exp_avg"], whole)
    assert [path.name for path in tmp_path.iterdir()] == [making.name], "nothing is left beside it"
    assert parts.parts_read(tmp_path) == {}


def test_rows_that_the_index_does_not_tell_of_are_refused(collected):
    making, whole = collected
    save_file(
        {"optimizer/state/0/exp_avg": whole[2:].contiguous()},
        making / "trainer" / "part-1.safetensors",
    )
    with pytest.raises(ValueError, match="rows of optimizer/state/0/exp_avg are not those"):
        parts.parts_read(making)


def test_an_index_names_files_of_its_own_folder_alone(collected, tmp_path):
    making, _ = collected
    index = json.loads((making / parts.INDEX).read_text())
    index["files"][1] = "../../elsewhere/part-1.safetensors"
    (making / parts.INDEX).write_text(json.dumps(index))
    assert len(parts.parts_read(making)) == 1, "it was read beside the index"


def test_a_part_that_does_not_come_fails_the_save(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "COMES_WITHIN", 0.05)
    (tmp_path / "trainer").mkdir()
    with pytest.raises(Failure, match="rank 1 has not saved its part"):
        parts.parts_collect(tmp_path, {}, {}, 2)
