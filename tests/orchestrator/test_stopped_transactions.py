"""Who hangs in the middle of a transaction holds its locks for a moment only, and its half work never counts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from django.conf import settings
from django.db import connection, transaction

from orchestrator.data_dir import PROJECT_DIR
from orchestrator.models import Node

pytestmark = pytest.mark.slow
HOLD = """
import os, signal, sys
import django
django.setup()
from django.db import connection, transaction
from orchestrator.models import Node
connection.settings_dict["NAME"] = sys.argv[1]
with transaction.atomic():
    Node.objects.select_for_update().get(name="held")
    Node.objects.filter(name="held").update(slots=7)
    print("held", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    Node.objects.filter(name="held").update(slots=8)
"""


@pytest.mark.django_db(transaction=True)
def test_the_locks_of_a_stopped_process_are_taken_away():
    Node.objects.create(name="held", token_digest="x", slots=1)
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "orchestrator.settings",
        "ANNEAL_DATA_DIR": str(settings.ANNEAL_DATA_DIR),
        "ANNEAL_GRACE": "2",
    }
    command = [sys.executable, "-c", HOLD, connection.settings_dict["NAME"]]
    holder = subprocess.Popen(
        command, cwd=PROJECT_DIR, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '20s'")
            assert Node.objects.select_for_update().get(name="held").slots == 1
        os.kill(holder.pid, signal.SIGCONT)
        _, said = holder.communicate(timeout=30)
        # It learns that its transaction is gone, and leaves nothing of it.
        assert holder.returncode == 1 and "idle-in-transaction timeout" in said
    finally:
        holder.kill()
        holder.wait()
    assert Node.objects.get(name="held").slots == 1
