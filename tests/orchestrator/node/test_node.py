"""A node: takes orders, brings inputs onto its disk, and looks after hosts that died."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import ClassVar

import psutil
import pytest

from orchestrator.node import hosts, launch
from orchestrator.node.hosts import Hosts
from orchestrator.node.launch import ThisNode, node_be, order_take
from orchestrator.node.prepare import CannotPrepare, prepare
from orchestrator.node.server import Refused, Server, Unreachable, sha256_of
from trainer.journal import last_event
from trainer.processes import processes_read
from trainer.rundir import RunDir, write_atomic
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
    return {
        **basic,
        "resume": None,
        "inputs": inputs,
        "knobs": {},
        "gpus": [],
        "processes": 1,
        **changes,
    }


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


def wait_for(happened, seconds: float = 20):
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


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
    assert node.preparing == set()


def test_no_answer_and_a_refusal_are_told_apart(server):
    Web.routes["/api/x"] = (503, {"detail": "busy"})
    with pytest.raises(Unreachable):
        server.post("/x", {})
    with pytest.raises(Refused, match="nothing here"):
        server.post("/y", {})
    with pytest.raises(Unreachable):
        Server("http://127.0.0.1:9", "t").post("/x", {})


# --- hosts that died --------------------------------------------------------------------------------


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "YOUNG", 0.0)
    found = RunDir(tmp_path / "runs" / ("r" * 12)).attempt(1)
    found.path.mkdir(parents=True)
    # Nobody listens there: ship keeps trying until it is ended.
    write_atomic(found.lease, json.dumps({"server": "ws://127.0.0.1:9", "token": "t"}), 0o600)
    yield found
    for process in processes_read(found.processes).values():
        process.signal(signal.SIGKILL, group=True)
    for ship in ships_of(found):
        ship.kill()


def ships_of(attempt) -> list[psutil.Process]:
    """The ships of an attempt, noted or not."""
    words = {"trainer.ship", str(attempt.path.parent)}
    return [
        one for one in psutil.process_iter(["cmdline"]) if words <= set(one.info["cmdline"] or [])
    ]


def begin(attempt, *command: str):
    words = [sys.executable, "-m", "trainer.host", "--dir", str(attempt.path.parent)]
    host = subprocess.Popen([*words, "--attempt", "1", "--", *command], start_new_session=True)
    wait_for(lambda: processes_read(attempt.processes).get("ship"))
    return host


def test_a_live_host_is_found_by_pid_and_start_time(attempt, tmp_path):
    host = begin(attempt, "/bin/sleep", "60")
    found = Hosts(tmp_path)
    assert found.live() == [{"run": "r" * 12, "attempt": 1}]
    noted = json.loads(attempt.processes.read_text())
    for process in noted.values():
        process["created"] -= 100  # somebody else's pid by now
    saved = attempt.processes.read_text()
    attempt.processes.write_text(json.dumps(noted))
    assert found.live() == []
    attempt.processes.write_text(saved)
    # Gently, it would wait for ship, whose server is away.
    host.kill()
    host.wait(30)


def test_a_training_whose_host_was_killed_gets_a_new_host(attempt, tmp_path):
    host = begin(attempt, "/bin/sleep", "60")
    trainer = processes_read(attempt.processes)["trainer"]
    host.kill()
    host.wait()
    found = Hosts(tmp_path)
    assert found.live() == [{"run": "r" * 12, "attempt": 1}]  # the trainer is still there
    found.tend("ws://127.0.0.1:9")
    new = wait_for(
        lambda: (p := processes_read(attempt.processes))["host"].pid != host.pid and p["host"]
    )
    assert new.alive() and trainer.alive()
    os.kill(trainer.pid, signal.SIGKILL)
    word = wait_for(lambda: (e := last_event(attempt.journal("host"))) and e.get("cause") and e)
    assert (word["state"], word["cause"]) == ("failed", "killed")


def test_an_attempt_that_a_reboot_ended_gets_its_last_word(attempt, tmp_path):
    attempt.processes.write_text(json.dumps({"host": {"pid": 1, "created": 5.0}}))
    Hosts(tmp_path).tend("ws://127.0.0.1:9")
    wait_for(lambda: (last_event(attempt.journal("trainer")) or {}).get("cause") == "killed")
    # Ship follows, and would outlive the test: the fixture ends what it finds.
    wait_for(lambda: ships_of(attempt))


def test_journals_that_nobody_delivers_get_a_ship_and_delivered_ones_none(
    attempt, tmp_path, monkeypatch
):
    started = []
    monkeypatch.setattr(hosts, "ship_start", started.append)
    from trainer.journal import Journal

    with Journal(attempt.journal("host")) as journal:
        journal.append("status", state="finished", cause="finished", message="")
    found = Hosts(tmp_path)
    found.tend("ws://127.0.0.1:9")
    found.tend("ws://127.0.0.1:9")  # once in a while is enough
    assert [one.path for one in started] == [attempt.path]
    (attempt.path / "delivered.json").write_text("{}")
    assert list(found.open_attempts()) == []


def test_a_server_at_a_new_address_is_written_into_the_leases(attempt, tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "YOUNG", 60.0)
    Hosts(tmp_path).tend("ws://127.0.0.1:8001")
    lease = json.loads(attempt.lease.read_text())
    assert (lease["server"], lease["token"]) == ("ws://127.0.0.1:8001", "t")
    assert attempt.lease.stat().st_mode & 0o777 == 0o600


def test_gpus_of_live_attempts_are_taken(attempt, tmp_path):
    write_atomic(
        attempt.lease, json.dumps({"server": "ws://127.0.0.1:9", "token": "t", "gpus": [0, 2]})
    )
    found = Hosts(tmp_path)
    assert found.gpus_taken() == set()
    host = begin(attempt, "/bin/sleep", "60")
    assert found.gpus_taken() == {0, 2}
    # Gently, it would wait for ship, whose server is away.
    host.kill()
    host.wait(30)


def test_a_fenced_attempt_is_told_to_stop(attempt, tmp_path):
    Hosts(tmp_path).fence("r" * 12, 1)
    assert json.loads(attempt.control.read_text())["cause"] == "fenced"
    Hosts(tmp_path).fence("unknown", 1)
