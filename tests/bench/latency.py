"""From the trainer's emit to a pixel: `python tests/bench/latency.py [--seconds 40] [--clients 4]`.

Starts `up`, launches a training on one thread, opens its page in Chromium and four more sockets that follow the
same run, and prints p50, p95 and the worst delay between the time in a journal line and the animation frame in
which a chart shows it, over all steps. Everything runs on this machine: one clock.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import websockets
from playwright.sync_api import Error as PageError
from playwright.sync_api import sync_playwright

from tests.browser.served import Served

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

SPEC = {
    "name": "latency",
    "objective": {"type": "sft"},
    "data": {"train": [{"source": "noisy-sort"}]},
    "batch": {"prompts_per_step": 64},
    "budget": {"max_steps": 5000},
    "checkpoint": {"every_steps": 0},
    "evaluation": {"every_steps": 0},
    "resources": {"cpus": 1, "gpus": 0},
}
TARGET_MS = 800


class Followers(threading.Thread):
    """Sockets beside the page, each watching the run as a browser would."""

    def __init__(self, url: str, cookie: str, run: str, count: int) -> None:
        super().__init__(daemon=True)
        self.url, self.cookie, self.run_id, self.count = url, cookie, run, count
        self.frames = 0

    def run(self) -> None:
        """Follow until the program ends."""
        asyncio.run(self._all())

    async def _all(self) -> None:
        await asyncio.gather(*(self._one() for _ in range(self.count)))

    async def _one(self) -> None:
        address = self.url.replace("http", "ws", 1) + "/ws/browser/"
        headers = {"Cookie": self.cookie, "Origin": self.url}
        async with websockets.connect(address, additional_headers=headers, proxy=None) as socket:
            keys = ["loss", "grad_norm", "learning_rate", "entropy", "num_tokens"]
            watch = {"op": "watch", "topic": "run", "run": self.run_id, "keys": keys}
            await socket.send(json.dumps(watch))
            with contextlib.suppress(websockets.ConnectionClosed):
                async for _ in socket:
                    self.frames += 1


def launch(context: BrowserContext, url: str) -> str:
    """Launch the training by REST with the page's own session."""
    token = next(c["value"] for c in context.cookies() if c["name"] == "anneal_csrf")
    answer = context.request.post(
        f"{url}/api/runs",
        data=json.dumps({"spec": SPEC}),
        headers={"Content-Type": "application/json", "X-CSRFToken": token, "Referer": f"{url}/"},
    )
    assert answer.status == 201, answer.text()
    return str(answer.json()["id"])


def until(page: Page, expression: str, seconds: float) -> None:
    """Wait until it holds on the page, which may load itself again meanwhile."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(PageError):
            if page.evaluate(expression):
                return
        page.wait_for_timeout(200)
    raise SystemExit(f"never came true: {expression}")


def emitted_of(context: BrowserContext, url: str, run: str) -> dict[int, float]:
    """The time of each step's journal line in milliseconds. The run goes on: the second answer may be longer."""
    axes = {}
    for axis in ("step", "time"):
        asked = f"{url}/api/runs/{run}/series?keys=loss&points=100000&x={axis}"
        axes[axis] = context.request.get(asked).json()["loss"]["x"]
    return {
        int(step): 1000 * moment for step, moment in zip(axes["step"], axes["time"], strict=False)
    }


def delays_of(points: list[dict[str, Any]], emitted: dict[int, float]) -> list[float]:
    """Milliseconds from emit to pixel of every step: one that shares a frame with a newer one waited longer."""
    delays, seen = [], points[0]["step"]
    for point in points:
        for step in range(seen + 1, point["step"] + 1):
            delays.append(point["drawn"] - emitted[step])
        seen = max(seen, point["step"])
    return sorted(delays)


def measure(seconds: float, clients: int) -> dict[str, Any]:
    """One measurement."""
    with Served("--slots", "1") as up, sync_playwright() as driver:
        path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = driver.chromium.launch(executable_path=path)
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        page = context.new_page()
        page.goto(up.link)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/runs/")
        run = launch(context, up.url)
        cookie = "; ".join(f"{c['name']}={c['value']}" for c in context.cookies())
        followers = Followers(up.url, cookie, run, clients)
        followers.start()
        page.goto(f"{up.url}/runs/{run}/")
        until(page, "window.__anneal?.lastPoint?.step > 5", 120)
        page.evaluate("window.__anneal.points = []")
        page.wait_for_timeout(seconds * 1000)
        points = page.evaluate("window.__anneal.points")
        charts = page.evaluate("document.querySelectorAll('.chart[data-status=drawn]').length")
        emitted = emitted_of(context, up.url, run)
        browser.close()
    delays = delays_of(points, emitted)
    return {
        "steps": len(delays),
        "p50_ms": round(statistics.median(delays)),
        "p95_ms": round(delays[int(0.95 * (len(delays) - 1))]),
        "worst_ms": round(delays[-1]),
        "charts": charts,
        "clients": clients,
        "frames_of_clients": followers.frames,
    }


def main() -> int:
    """Measure and say whether the target holds."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=40)
    options.add_argument("--clients", type=int, default=4)
    chosen = options.parse_args()
    found = measure(chosen.seconds, chosen.clients)
    print(json.dumps(found, indent=2))
    print(f"target: p95 below {TARGET_MS} ms: {'met' if found['p95_ms'] < TARGET_MS else 'MISSED'}")
    return 0 if found["p95_ms"] < TARGET_MS else 1


if __name__ == "__main__":
    raise SystemExit(main())
