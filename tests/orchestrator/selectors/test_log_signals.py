"""Log lines that tell of trouble, lines that only sound like it, and the last lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrator.models import Attempt
from orchestrator.selectors.log_signals import line_told, log_last, log_signals
from tests.orchestrator.conftest import attempt_add
from tests.orchestrator.failing import Story

if TYPE_CHECKING:
    from orchestrator.models import Run

TROUBLE = {
    "Traceback (most recent call last):": "traceback",
    "[rank0]: Traceback (most recent call last):": "traceback",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB": "memory",
    "RuntimeError: [enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: not enough memory": "memory",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has 79.10 GiB of which 9 MiB "
    "is free. If reserved but unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF to avoid "
    "fragmentation.  See documentation for Memory Management": "memory",
    "MemoryError": "memory",
    "OSError: [Errno 12] Cannot allocate memory": "memory",
    "OSError: [Errno 28] No space left on device: 'step-40.tmp-1'": "disk",
    "RuntimeError: CUDA error: an illegal memory access was encountered": "cuda",
    "CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`": "cuda",
    "../aten/src/IndexKernel.cu:92: operator(): device-side assert triggered": "cuda",
    "NCCL error 5 on rank 0": "nccl",
    "torch.distributed.DistBackendError: ncclRemoteError: A call failed": "nccl",
    "[rank1]:[E] [PG 0] Watchdog caught collective operation timeout: WorkNCCL(": "nccl",
    "gpu-1:411:411 [0] NCCL WARN Cuda failure 'unknown error'": "nccl",
    "Segmentation fault (core dumped)": "crash",
    "Fatal Python error: Segmentation fault": "crash",
    "Killed": "killed",
    "[1234.5] Out of memory: Killed process 411 (python)": "memory",
    "run.sh: line 3:   411 Killed                  python train.py": "killed",
}
BENIGN = (
    "train 250/400  loss 0.004  1.02 s/step",
    "Killed:  45%|████▌     | 45/100 [00:10<00:12,  4.4it/s]",
    "Traceback quality 0.3 (most recent evaluation)",
    "100%|██████████| 100/100 [00:01<00:00, out of memory 0]",
    "gpu-1:411:411 [0] NCCL INFO Bootstrap : Using eth0",
    "NCCL version 2.21.5+cuda12.4",
    "CUDA_LAUNCH_BLOCKING=1 is set",
    "set expandable_segments to avoid running out of memory",
    "Lower the micro-batch if you run out of memory.",
    "2 reward workers were killed and started again",
    "the answer was killed by the judge",
    "no segmentation faults so far",
    "memory: 12.1 GiB of 80 GiB",
    "CUBLAS_STATUS_SUCCESS",
    "",
)


@pytest.mark.parametrize(("text", "code"), TROUBLE.items())
def test_lines_that_tell_of_trouble(text: str, code: str) -> None:
    told = line_told(text)
    assert told is not None and told[0] == code


@pytest.mark.parametrize("text", BENIGN)
def test_lines_that_only_sound_like_it(text: str) -> None:
    assert line_told(text) is None


@pytest.mark.django_db
def test_a_traceback_is_told_by_the_error_it_ends_with_and_where_it_begins(run: Run) -> None:
    lines = [
        *("train 1/9", "Traceback (most recent call last):", '  File "x.py", line 3, in score'),
        *("    return 1 / 0", "           ~~^~~", "ZeroDivisionError: division by zero", "after"),
    ]
    story = Story(run).begin().prints(*lines)
    [found] = log_signals(run, Attempt.objects.get(), 0.0)
    assert (found.code, found.text) == ("traceback", "ZeroDivisionError: division by zero")
    assert found.line == run.log_lines.get(text=lines[1]).pk
    assert log_signals(run, Attempt.objects.get(), story.now + 1) == [], "older than the look-back"


@pytest.mark.django_db
def test_the_last_word_as_it_was_printed_is_no_sign(run: Run) -> None:
    said = "out of memory; lower batch.tokens_per_microbatch"
    Story(run).begin().prints(f"failed: {said}").fails("oom", said)
    assert log_signals(run, Attempt.objects.get(), 0.0) == []


@pytest.mark.django_db
def test_only_the_attempts_own_last_lines_are_read(run: Run) -> None:
    story = Story(run).begin()
    for start in range(0, 6000, 500):
        story.prints(*[f"line {n}" for n in range(start, start + 500)])
    story.tell({"type": "log", "lines": ["CUDA error: old"], "stream": "out", "time": 5.0})
    attempt_add(run, 2)
    Story(run, attempt=2).prints("CUDA error: of another attempt")
    attempt = Attempt.objects.get(number=1)
    lines, source = log_last(run, attempt)
    assert (len(lines), source) == (40, "log")
    assert lines[-1].text == "line 5999"
    story.prints("CUDA error: new")
    [found] = log_signals(run, attempt, 0.0)
    assert found.text == "CUDA error: new"


@pytest.mark.django_db
def test_host_keeps_the_last_lines_when_the_log_has_not_arrived(run: Run) -> None:
    kept = ["train 9/9", "Killed"]
    Story(run).begin().is_killed(log=kept)
    lines, source = log_last(run, Attempt.objects.get())
    assert ([line.text for line in lines], source) == (kept, "host")
    Story(run, attempt=1)
    assert log_last(run, Attempt(run=run, number=9))[1] == "none"


@pytest.mark.django_db
def test_the_stored_log_counts_once_it_ends_as_host_says(run: Run) -> None:
    story = Story(run).begin().prints("first", "second")
    story.is_killed(log=["second"])
    lines, source = log_last(run, Attempt.objects.get())
    assert ([line.text for line in lines], source) == (["first", "second"], "log")
