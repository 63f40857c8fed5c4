#!/usr/bin/env python
"""Run one command of Anneal; `python manage.py up` starts everything."""

from __future__ import annotations

import sys

from orchestrator.command_line import run

if __name__ == "__main__":
    run(sys.argv)
