"""Settings of the tests: the product's own, over a DATA that nobody else uses."""

from __future__ import annotations

import os
import tempfile

if "ANNEAL_TESTS_DATA_DIR" not in os.environ:
    folder = tempfile.mkdtemp(prefix=f"anneal-tests-{os.getpid()}-")
    # The database's own account must be able to reach its files below.
    os.chmod(folder, 0o755)
    os.environ["ANNEAL_TESTS_DATA_DIR"] = folder
os.environ["ANNEAL_DATA_DIR"] = os.environ["ANNEAL_TESTS_DATA_DIR"]
if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers of xdist have a database each, below the folder of their session.
    os.environ["ANNEAL_DATA_DIR"] += "/" + os.environ["PYTEST_XDIST_WORKER"]
    os.makedirs(os.environ["ANNEAL_DATA_DIR"], exist_ok=True)

from orchestrator.settings import *  # noqa: F403

# A test's own transaction may last as long as the test; the last setting counts.
DATABASES["default"]["OPTIONS"]["options"] += " -c idle_in_transaction_session_timeout=0"  # noqa: F405

# Fast on purpose: no test is about the cost of a hash.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
