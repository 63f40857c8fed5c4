"""How quick a large comparison is: `python -m tests.bench.compare [--arms 4] [--samples 1] [--requests 20]`.

1,319 prompts are imported with so many arms and samples; then pages and REST are asked over HTTP. Prints the first
answer, which makes the statistics, and p50 and p95 of the later ones.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import statistics
import time
from typing import TYPE_CHECKING

from tests.bench.served import served

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMPTS = 1319
PATHS = (
    "",
    "/pairs?show=disagree",
    "/pairs?show=longest&page=30",
    "/regressions",
    "/evidence",
    "/report.json",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arms", type=int, default=4)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--requests", type=int, default=20)
    asked = parser.parse_args()
    with served() as server:
        from django.core.files.uploadedfile import SimpleUploadedFile

        from orchestrator.models import User
        from orchestrator.services.comparison_import import comparison_import

        token = server.token()
        text = "".join(json.dumps(row) + "\n" for row in rows(asked.arms, asked.samples))
        file = SimpleUploadedFile("rows.jsonl", text.encode())
        begin = time.perf_counter()
        made = comparison_import(owner=User.objects.get(), file=file)
        print(f"import of {len(text) / 1e6:.1f} MB: {time.perf_counter() - begin:.1f} s")
        for path in PATHS:
            times = [
                ask(server.port, f"/api/comparisons/{made.pk}{path}", token)
                for _ in range(asked.requests + 1)
            ]
            first, later = times[0], sorted(times[1:])
            p95 = later[int(0.95 * (len(later) - 1))]
            print(
                f"{path or '/':32} first {first:7.3f} s, then p50 {statistics.median(later) * 1000:6.1f} ms, "
                f"p95 {p95 * 1000:6.1f} ms"
            )


def rows(arms: int, samples: int) -> Iterator[dict[str, object]]:
    """Answers of arms of different strength, of about the length that GSM8K's have."""
    draw = random.Random(0)
    for prompt in range(PROMPTS):
        hard = draw.random()
        for arm in range(arms):
            for index in range(samples):
                right = draw.random() > hard * (1 - arm / 10)
                yield {
                    "prompt": f"Problem {prompt}: {'words ' * 30}?",
                    "arm": f"arm {arm}",
                    "index": index,
                    "text": f"step {index} " * draw.randint(10, 60),
                    "scores": {"correct": int(right)},
                }


def ask(port: int, path: str, token: str) -> float:
    """Seconds of a whole answer."""
    begin = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    answer.read()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
