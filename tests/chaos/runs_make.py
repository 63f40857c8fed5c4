"""Makes runs that only scripted writers report for: `python -m tests.chaos.runs_make COUNT ATTEMPTS`.

Prints their ids and the lease tokens of their attempts as JSON. No node offers the label that they
ask for: when one is put back into the queue, nobody but the harness takes it out.
"""

from __future__ import annotations

import json
import secrets
import sys

import django


def main(count: int, attempts: int) -> None:
    django.setup()
    from django.utils import timezone

    from orchestrator.models import Attempt, Process, Run, State, User
    from orchestrator.services.tokens import digest_of

    made = []
    for number in range(count):
        run = Run.objects.create(
            name=f"writer-{number}",
            owner=User.objects.get(username="admin"),
            spec={"name": f"writer-{number}", "resources": {"labels": ["scripted"]}},
            max_restarts=1000,
            attempt=1,
            process=Process.ALIVE,
            state=State.RUNNING,
            started=timezone.now(),
        )
        tokens = [secrets.token_hex(16) for _ in range(attempts)]
        for place, token in enumerate(tokens, 1):
            Attempt.objects.create(run=run, number=place, lease_digest=digest_of(token))
        made.append({"id": run.pk, "tokens": tokens})
    print(json.dumps(made))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
