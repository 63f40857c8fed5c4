"""A command that needs the database leaves it as it found it, whoever else uses it."""

from __future__ import annotations

import contextlib

import pytest

from orchestrator import postgres


def is_up(data_dir) -> bool:
    return postgres.postmaster_pid(data_dir) is not None


def test_it_is_started_for_a_command_and_stopped_after(data_dir):
    with postgres.running(data_dir) as url:
        assert is_up(data_dir)
        assert url == postgres.url(data_dir)
    assert not is_up(data_dir)


def test_a_running_one_stays_up(data_dir):
    postgres.ensure_running(data_dir)
    with postgres.running(data_dir):
        pass
    assert is_up(data_dir)


def test_the_first_command_to_end_does_not_stop_it_under_the_second(data_dir):
    second = contextlib.ExitStack()
    with postgres.running(data_dir):
        second.enter_context(postgres.running(data_dir))
    assert is_up(data_dir)
    second.close()
    assert not is_up(data_dir)


def test_up_takes_over_what_a_command_has_started(data_dir):
    with postgres.running(data_dir):
        postgres.ensure_running(data_dir)
    assert is_up(data_dir)


def test_it_is_stopped_when_the_command_fails(data_dir):
    with pytest.raises(KeyError), postgres.running(data_dir):
        raise KeyError
    assert not is_up(data_dir)
