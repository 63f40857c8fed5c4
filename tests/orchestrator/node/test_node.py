"""A node: takes orders and brings inputs onto its disk."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
from typing import ClassVar

import pytest

from orchestrator.node import launch
from orchestrator.node.hosts import Hosts
from orchestrator.node.launch import ThisNode, node_be, order_take
from orchestrator.node.prepare import CannotPrepare, prepare
from orchestrator.node.server import Refused, Server, Unreachable, sha256_of
from trainer.rundir import RunDir
from trainer.spec import spec_parse

SPEC = spec_parse({"objective": {"type": "sft"}, "budget": {"max_steps": 5}}).model_dump(
    mode="json"
)
FILES: dict[str, bytes] = {}


class Web(http.server.BaseHTTPRequestHandler):
    """Answers by `routes`, and serves FILES with ranges; `cut` breaks the first answers off."""

    routes: ClassVar[dict[str, tuple[int, object]]] = {}
    asked: ClassVar[list[tuple[str, object]]] = []
    cut = 0

    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Web.asked.append((self.path, body))
        assert self.headers["Authorization"] == "Bearer node-token"
        status, answer = self.routes.get(self.path, (404, {"detail": "nothing here"}))
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        Web.asked.append((self.path, self.headers.get("Range", "")))
        content = FILES.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(re.findall(r"\d+", self.headers.get("Range", "0"))[0])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if Web.cut:
            Web.cut -= 1
            self.wfile.write(content[start : start + 10])
            return
        self.wfile.write(content[start:])


@pytest.fixture
def server():
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    Web.routes, Web.asked, Web.cut = {}, [], 0
    FILES.clear()
    yield Server(f"http://127.0.0.1:{web.server_port}", "node-token")
    web.shutdown()
    web.server_close()


@pytest.fixture
def node(server, tmp_path):
    found = ThisNode("n1", server, tmp_path, Hosts(tmp_path))
    node_be(found)
    yield found
    launch._this.clear()


def order(**changes):
    inputs = {"models": {}, "datasets": {}}
    basic = {"run_id": "r" * 12, "attempt": 1, "spec": SPEC, "lease_token": "secret"}
    live = {"knobs": {}, "asks": {}, "overrides": {}, "voids": [], "past": []}
    here = {"resume": None, "inputs": inputs, "continues_here": False}
    room = {"gpus": [], "processes": 1}
    return {**basic, **here, **live, **room, **changes}


def checkpoint(base: str, tamper: bytes = b"") -> dict:
    """Put a checkpoint into FILES; where it is to be had."""
    weights = b"weights" * 100
    manifest = json.dumps(
        {"files": {"model.safetensors": hashlib.sha256(weights).hexdigest()}}
    ).encode()
    FILES[f"/api/checkpoints/{base}/files/manifest.json"] = manifest
    FILES[f"/api/checkpoints/{base}/files/model.safetensors"] = weights + tamper
    sha256 = hashlib.sha256(manifest).hexdigest()
    return {
        "checkpoint": base,
        "run": "p" * 12,
        "step": 7,
        "path": "checkpoints/step-7",
        "sha256": sha256,
    }


def test_an_order_becomes_a_directory_a_lease_and_a_command(server, tmp_path):
    found = prepare(
        order(knobs={"budget.max_steps": 9}), data_dir=tmp_path, server=server, gpus=[1]
    )
    run = RunDir(tmp_path / "runs" / ("r" * 12))
    assert run.spec_raw()["spec"] == SPEC
    lease = run.attempt(1).lease
    assert lease.stat().st_mode & 0o777 == 0o600
    assert json.loads(lease.read_text()) == {
        "server": server.url.replace("http", "ws"),
        "token": "secret",
        "gpus": [1],
        "uses": [],
    }
    assert found.arguments == ["resume", str(run.path), "--attempt", "1"]
    assert json.loads(run.attempt(1).control.read_text())["knobs"] == {"budget.max_steps": 9}
    # The second attempt finds the run as the first one left it.
    prepare(order(attempt=2), data_dir=tmp_path, server=server, gpus=[])
    assert run.attempts() == [1, 2]


def test_a_spec_of_another_version_is_refused_with_a_sentence(server, tmp_path):
    with pytest.raises(CannotPrepare, match="does not take the spec: nonsense"):
        prepare(order(spec={**SPEC, "nonsense": 1}), data_dir=tmp_path, server=server, gpus=[])


def test_a_checkpoint_on_this_disk_is_used_where_it_lies(server, tmp_path):
    place = checkpoint("c" * 12)
    folder = tmp_path / "runs" / place["run"] / place["path"]
    folder.mkdir(parents=True)
    manifest = FILES[f"/api/checkpoints/{'c' * 12}/files/manifest.json"]
    (folder / "manifest.json").write_bytes(manifest)
    spec = {**SPEC, "model": {**SPEC["model"], "name": "run:" + place["run"]}}
    inputs = {"models": {"run:" + place["run"]: place}, "datasets": {}}
    found = prepare(order(spec=spec, inputs=inputs), data_dir=tmp_path, server=server, gpus=[])
    assert found.arguments[-2:] == ["--model-path", str(folder)]
    assert Web.asked == []


def test_a_checkpoint_from_elsewhere_is_fetched_once_and_continued_when_the_line_breaks(
    server, tmp_path
):
    place = checkpoint("c" * 12)
    spec = {
        **SPEC,
        "objective": {"type": "dpo"},
        "reference": {"name": "checkpoint:" + "c" * 12},
    }
    inputs = {"models": {"checkpoint:" + "c" * 12: place}, "datasets": {}}
    Web.cut = 2
    found = prepare(order(spec=spec, inputs=inputs), data_dir=tmp_path, server=server, gpus=[])
    folder = tmp_path / "fetched" / ("c" * 12)
    assert found.arguments[-2:] == ["--reference-path", str(folder)]
    assert (folder / "model.safetensors").read_bytes() == b"weights" * 100
    assert "bytes=10-" in [asked for _, asked in Web.asked]
    Web.asked.clear()
    prepare(order(spec=spec, inputs=inputs, attempt=2), data_dir=tmp_path, server=server, gpus=[])
    assert Web.asked == []


def test_a_file_with_a_wrong_hash_is_never_used(server, tmp_path):
    place = checkpoint("c" * 12, tamper=b"!")
    with pytest.raises(CannotPrepare, match="damaged"):
        prepare(order(resume=place), data_dir=tmp_path, server=server, gpus=[])
    assert RunDir(tmp_path / "runs" / ("r" * 12)).checkpoint_steps() == []


def test_a_manifest_cannot_name_files_outside_its_folder(server, tmp_path):
    manifest = json.dumps({"files": {"../../evil": "0" * 64}}).encode()
    FILES[f"/api/checkpoints/{'c' * 12}/files/manifest.json"] = manifest
    place = {**checkpoint("d" * 12), "checkpoint": "c" * 12}
    place["sha256"] = hashlib.sha256(manifest).hexdigest()
    with pytest.raises(CannotPrepare, match="outside"):
        prepare(order(resume=place), data_dir=tmp_path, server=server, gpus=[])


def test_a_run_that_worked_elsewhere_gets_its_own_checkpoint(server, tmp_path):
    prepare(order(resume=checkpoint("c" * 12)), data_dir=tmp_path, server=server, gpus=[])
    assert RunDir(tmp_path / "runs" / ("r" * 12)).checkpoint_steps() == [7]


def test_what_an_attempt_here_saved_before_the_run_went_on_elsewhere_is_left_behind(
    server, tmp_path
):
    run = RunDir(tmp_path / "runs" / ("r" * 12))
    for step in (3, 7, 9):
        run.checkpoint(step).mkdir(parents=True)
        (run.checkpoint(step) / "manifest.json").write_text('{"files": {}}')
    place = checkpoint("c" * 12)
    prepare(order(resume=place, continues_here=True), data_dir=tmp_path, server=server, gpus=[])
    assert run.checkpoint_steps() == [3, 7, 9] and Web.asked == []
    prepare(order(resume=place, attempt=2), data_dir=tmp_path, server=server, gpus=[])
    assert run.checkpoint_steps() == [3, 7]
    assert (run.checkpoint(7) / "model.safetensors").read_bytes() == b"weights" * 100


def test_a_dataset_is_fetched_by_its_content(server, tmp_path):
    rows = b'{"prompt":"1+1="}\n'
    sha256 = hashlib.sha256(rows).hexdigest()
    FILES["/api/datasets/abc/file"] = rows
    dataset = {"sha256": sha256, "filename": "sums.jsonl.gz", "mapping": {}}
    inputs = {"models": {}, "datasets": {"abc": dataset}}
    found = prepare(order(inputs=inputs), data_dir=tmp_path, server=server, gpus=[])
    path = tmp_path / "datasets" / f"{sha256}.jsonl.gz"
    assert found.arguments[-1] == f"abc={path}" and sha256_of(path) == sha256
    Web.asked.clear()
    prepare(order(inputs=inputs, attempt=2), data_dir=tmp_path, server=server, gpus=[])
    assert Web.asked == []


def test_a_lost_claim_is_quiet_and_starts_nothing(node, monkeypatch):
    monkeypatch.setattr(launch, "host_start", pytest.fail)
    Web.routes["/api/claims"] = (409, {"detail": "not to be claimed (any more)"})
    order_take("r" * 12, 1)
    assert [path for path, _ in Web.asked] == ["/api/claims"]
    assert not (node.data_dir / "runs").exists()


def test_an_order_that_cannot_be_carried_out_is_reported(node, monkeypatch):
    monkeypatch.setattr(launch, "host_start", pytest.fail)
    Web.routes["/api/claims"] = (200, order(spec={**SPEC, "nonsense": 1}))
    Web.routes["/api/claims/fail"] = (200, {"applied": True})
    order_take("r" * 12, 1)
    path, body = Web.asked[-1]
    assert (path, body["cause"], body["attempt"]) == ("/api/claims/fail", "bad-input", 1)
    assert "nonsense" in body["message"]
    assert not node.preparing


def test_no_answer_and_a_refusal_are_told_apart(server):
    Web.routes["/api/x"] = (503, {"detail": "busy"})
    with pytest.raises(Unreachable):
        server.post("/x", {})
    with pytest.raises(Refused, match="nothing here"):
        server.post("/y", {})
    with pytest.raises(Unreachable):
        Server("http://127.0.0.1:9", "t").post("/x", {})


def test_what_restarts_changed_goes_to_the_trainer_on_its_command_line(server, tmp_path):
    past = [{"attempt": 1, "step": 3, "knobs": {"optimizer.lr": 0.5}}]
    changed = {"overrides": {"optimizer.lr": 2.5e-05}, "voids": [[1, 4]], "past": past}
    found = prepare(
        order(asks={"save": 2}, attempt=2, **changed), data_dir=tmp_path, server=server, gpus=[]
    )
    assert found.arguments[2:] == ["--attempt", "2", "--void", "1:4", "optimizer.lr=2.5e-05"]
    assert json.loads(found.attempt.past.read_text()) == past
    assert json.loads(found.attempt.control.read_text())["asks"] == {"save": 2}


def test_a_checkpoint_that_a_rollback_took_back_is_no_reason_not_to_fetch(server, tmp_path):
    run = RunDir(tmp_path / "runs" / ("r" * 12))
    run.checkpoint(9).mkdir(parents=True)
    (run.checkpoint(9) / "manifest.json").write_text(json.dumps({"attempt": 1, "files": {}}))
    here = order(resume=checkpoint("c" * 12), continues_here=True)
    prepare(here, data_dir=tmp_path, server=server, gpus=[])
    assert run.checkpoint_steps() == [9]
    prepare({**here, "voids": [[1, 7]]}, data_dir=tmp_path, server=server, gpus=[])
    assert run.checkpoint_steps() == [7, 9]
