"""Points a second that another tracker takes into its local store: `peers.py mlflow|trackio`; prints the rate.

Runs alone, in an environment with tests/bench/peers.txt. 20 metrics a step, as fast as the tracker's own bulk
call takes them: MLflow's `log_batch` with the 1,000 metrics it allows, Trackio's `bulk_log` with 250 steps.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time

KEYS = 20
SECONDS = 5.0


def values(step: int) -> dict[str, float]:
    return {f"key{n}": (step * 7919 + n * 104729) % 1000003 / 997 for n in range(KEYS)}


def mlflow_rate(folder: str) -> float:
    """MLflow with the local store that it takes by default, a SQLite file."""
    import mlflow
    from mlflow.entities import Metric

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    client = mlflow.MlflowClient()
    run = client.create_run(client.create_experiment("bench", artifact_location=folder))
    step, lines = 0, 1000 // KEYS

    def batch() -> int:
        nonlocal step
        metrics = [
            Metric(key, value, 1_000_000_000_000 + at, at)
            for at in range(step, step + lines)
            for key, value in values(at).items()
        ]
        client.log_batch(run.info.run_id, metrics=metrics)
        step += lines
        return len(metrics)

    return timed(batch)


def trackio_rate(folder: str) -> float:
    """Trackio's own storage call, without its network or its buffer."""
    os.environ["TRACKIO_DIR"] = folder
    from trackio.sqlite_storage import SQLiteStorage

    step, lines = 0, 250

    def batch() -> int:
        nonlocal step
        steps = list(range(step, step + lines))
        SQLiteStorage.bulk_log("bench", "run", [values(at) for at in steps], steps=steps)
        step += lines
        return lines * KEYS

    return timed(batch)


def timed(batch) -> float:
    """Points a second, after one call to warm up."""
    batch()
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < SECONDS:
        count += batch()
    return count / (time.perf_counter() - begun)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="anneal-peer-") as folder:
        print({"mlflow": mlflow_rate, "trackio": trackio_rate}[sys.argv[1]](folder))
