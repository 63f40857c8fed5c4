"""`/metrics` in Prometheus text format: this process's own counts, and the server's figures from the database."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import psutil
from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from ninja.errors import AuthenticationError, AuthorizationError
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from orchestrator.api.access import Bearer
from orchestrator.api.problems import problem
from orchestrator.models import Role
from orchestrator.selectors.server_figures import server_figures
from orchestrator.services.meters import PROCESS, registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest
    from prometheus_client.core import Metric

    from orchestrator.selectors.server_figures import Samples

FRESH = 3.0
"""Seconds for which the figures of the database serve: several scrapers cost no more than one."""

FAMILIES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "runs": ("anneal_runs", "Runs by shown state, as last stored.", ("state",)),
    "queue_depth": ("anneal_queue_depth", "Runs that wait for a node.", ()),
    "nodes": ("anneal_nodes", "Nodes by contact: alive, silent or invited.", ("contact",)),
    "lines_stored": (
        "anneal_journal_lines_stored",
        "Journal lines held of all runs that were not deleted.",
        ("source",),
    ),
    "pulse_age": (
        "anneal_beat_age_seconds",
        "Seconds since a part of the server was last seen at work.",
        ("part",),
    ),
    "database_connections": (
        "anneal_database_connections",
        "Connections to the database, of everybody, by what they do.",
        ("state",),
    ),
    "database_connections_most": (
        "anneal_database_connections_max",
        "Connections that the database allows.",
        (),
    ),
    "database_bytes": ("anneal_database_bytes", "Size of the database on disk.", ()),
    "compaction_chunks": (
        "anneal_compaction_chunks",
        "Pushes whose points wait to be packed into blocks.",
        (),
    ),
    "compaction_points": ("anneal_compaction_points", "Points that wait to be packed.", ()),
}
"""Figure of `server_figures` -> name, help and labels of its metric."""

_lock = threading.Lock()
_kept: tuple[float, dict[str, Samples] | None] = (-FRESH, None)


@login_not_required
@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Everything that is measured. Only a bearer token lets in: a scraper has no session."""
    try:
        caller = Bearer(Role.VIEWER)(request)
    except (AuthenticationError, AuthorizationError) as error:
        return problem(401, str(error), WWW_Authenticate='Bearer realm="anneal"')
    except (DatabaseError, InterfaceError):
        return problem(503, "the database does not answer, so no token can be checked")
    if caller is None:
        words = "send an API token in the Authorization header"
        return problem(401, words, WWW_Authenticate='Bearer realm="anneal"')
    server = CollectorRegistry()
    server.register(Server())
    text = generate_latest(registry) + generate_latest(server)
    return HttpResponse(text, content_type=CONTENT_TYPE_PLAIN_0_0_4)


class Server:
    """Gathers what is not counted but looked up when it is asked for."""

    def collect(self) -> Iterator[Metric]:
        """The process, then the database."""
        yield from _process()
        figures = _figures()
        up = "Whether the database answered within this scrape's few seconds."
        yield GaugeMetricFamily("anneal_database_up", up, value=float(figures is not None))
        for figure, samples in (figures or {}).items():
            name, words, labels = FAMILIES[figure]
            family = GaugeMetricFamily(name, words, labels=labels)
            for values, value in samples.items():
                family.add_metric(values, value)
            yield family


def _figures() -> dict[str, Samples] | None:
    """The database's figures, at most FRESH seconds old; None while it does not answer."""
    global _kept
    with _lock:
        asked, figures = _kept
        if time.monotonic() - asked < FRESH:
            return figures
        try:
            figures = server_figures()
        except (DatabaseError, InterfaceError):
            figures = None
        _kept = (time.monotonic(), figures)
        return figures


def _process() -> Iterator[Metric]:
    own = psutil.Process()
    with own.oneshot():
        memory, cpu, threads = own.memory_info().rss, own.cpu_times(), own.num_threads()
    yield _gauge("anneal_process_resident_bytes", "Resident memory of this process.", memory)
    yield _gauge("anneal_process_threads", "Threads of this process.", threads)
    seconds = CounterMetricFamily(
        "anneal_process_cpu_seconds", "CPU time of this process.", labels=["process"]
    )
    seconds.add_metric([PROCESS], cpu.user + cpu.system)
    yield seconds
    pool = getattr(connection, "pool", None)
    if pool is None:
        return
    found = pool.get_stats()
    words = "Connections of this process's database pool: open, idle, and requests that wait."
    family = GaugeMetricFamily("anneal_database_pool", words, labels=["process", "kind"])
    for kind, name in (
        ("open", "pool_size"),
        ("idle", "pool_available"),
        ("waiting", "requests_waiting"),
    ):
        family.add_metric([PROCESS, kind], found.get(name, 0))
    yield family


def _gauge(name: str, words: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, words, labels=["process"])
    family.add_metric([PROCESS], value)
    return family
