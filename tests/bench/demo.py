"""The first five minutes, measured: `up --demo` from the command to the last point.

    python tests/bench/demo.py

Prints seconds until `/api/health` answers 200, until Chromium shows the first metric point of the demo, the
evaluated accuracy that GRPO starts from and reaches, its time, and the largest sum of PSS over all processes of
`up` (browser not counted). Ends with Ctrl-C and reports what is left running.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Page, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")


class Memory(threading.Thread):
    """Samples the PSS of everything whose environment names the data directory."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(daemon=True)
        self._data_dir, self._ended = str(data_dir), threading.Event()
        self.peak_mb, self.at_peak = 0.0, dict[str, float]()

    def run(self) -> None:
        """Once a second until told to end."""
        while not self._ended.wait(1.0):
            parts = self.parts()
            if sum(parts.values()) > self.peak_mb:
                self.peak_mb, self.at_peak = sum(parts.values()), parts

    def parts(self) -> dict[str, float]:
        """Megabytes of PSS by process, named by its command line."""
        found: dict[str, float] = {}
        for process in psutil.process_iter(["pid", "cmdline"]):
            try:
                if not self._ours(process):
                    continue
                name = f"{process.pid} {' '.join(process.info['cmdline'] or [])[-60:]}"
                found[name] = process.memory_full_info().pss / 2**20
            except psutil.Error:
                continue
        return found

    def _ours(self, process: psutil.Process) -> bool:
        if process.environ().get("ANNEAL_DATA_DIR") == self._data_dir:
            return True
        # The database runs with a clean environment; its command line names the folder, its children's do not.
        lines = [process.cmdline(), *(parent.cmdline() for parent in process.parents()[:1])]
        return "postgres" in process.name() and any(
            self._data_dir in " ".join(line) for line in lines
        )

    def end(self) -> None:
        """Stop sampling."""
        self._ended.set()
        self.join()


def healthy(url: str) -> bool:
    """Whether every check of the server passes."""
    try:
        with urllib.request.urlopen(f"{url}/api/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def wait_for(what: Any, seconds: float) -> float:
    """Seconds until `what()` is true."""
    started = time.monotonic()
    while not what():
        if time.monotonic() - started > seconds:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.1)
    return time.monotonic() - started


def first_point(page: Page, link: str, url: str) -> None:
    """Sign in by the link, open the first demo run, wait until a chart holds a point."""
    page.goto(link)
    page.get_by_role("button").last.click()
    page.wait_for_url(re.compile(r"/(runs/)?$"))
    page.goto(url)
    page.get_by_role("link", name=re.compile("sft", re.I)).first.click()
    # Not wait_for_function: the page's security policy forbids the eval that it polls with.
    wait_for(lambda: page.evaluate("window.__anneal?.lastPoint ?? null"), 90)


def accuracy(page: Page, url: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The demo's runs, and the curve of the evaluated accuracy of the GRPO run."""
    runs = page.request.get(f"{url}/api/runs").json()["items"]
    grpo = next(run for run in runs if "grpo" in run["name"])
    series = page.request.get(
        f"{url}/api/runs/{grpo['id']}/series?keys=eval/accuracy&x=time"
    ).json()
    return runs, series["eval/accuracy"]


def main() -> None:
    """Start, watch, measure, stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8077)
    port = parser.parse_args().port
    url = f"http://127.0.0.1:{port}"
    folder = Path(tempfile.mkdtemp(prefix="anneal-demo-"))
    folder.chmod(0o755)
    data_dir = folder / "var"
    root = Path(__file__).parents[2]
    log = (folder / "up.log").open("w")
    memory = Memory(data_dir)
    started = time.monotonic()
    up = subprocess.Popen(
        [
            sys.executable,
            "manage.py",
            "up",
            "--demo",
            "--no-browser",
            "--port",
            str(port),
            "--data-dir",
            str(data_dir),
        ],
        cwd=root,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    memory.start()
    try:
        wait_for(lambda: healthy(url), 60)
        print(f"healthy after               {time.monotonic() - started:6.1f} s")
        pattern = re.compile(r"http://\S+/login/link/\S+")
        wait_for(lambda: pattern.search((folder / "up.log").read_text()), 30)
        found = pattern.search((folder / "up.log").read_text())
        assert found
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page()
            first_point(page, found[0], url)
            print(f"first point in the browser  {time.monotonic() - started:6.1f} s")

            def ended() -> bool:
                runs, _ = accuracy(page, url)
                return all(run["state"] in {"finished", "failed", "stopped"} for run in runs)

            wait_for(ended, 600)
            runs, curve = accuracy(page, url)
            seconds = curve["x"][-1] - curve["x"][0]
            print(
                f"runs                        {json.dumps({r['name']: r['state'] for r in runs})}"
            )
            print(
                f"GRPO eval/accuracy          {curve['y'][0]:.3f} -> {curve['y'][-1]:.3f} in {seconds:.0f} s"
            )
            browser.close()
    finally:
        memory.end()
        up.send_signal(signal.SIGINT)
        up.wait(60)
        log.close()
    print(f"largest sum of PSS          {memory.peak_mb:6.0f} MB")
    for name, megabytes in sorted(memory.at_peak.items(), key=lambda item: -item[1])[:8]:
        print(f"    {megabytes:6.0f} MB  {name}")
    print(f"exit code of up             {up.returncode}, processes left: {len(memory.parts())}")


if __name__ == "__main__":
    main()
