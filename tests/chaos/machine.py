"""A machine for scenarios: a far node with a disk, a network and a clock of its own, all of which can fail."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.far_nodes import FarNode
from tests.chaos.road import Road

if TYPE_CHECKING:
    from tests.chaos.road import Roads
    from tests.chaos.stack import Stack
    from tests.chaos.witness import Witness

DISK = "192m"
FILLER = "filler"
BLOCK = 1 << 20


def shim_build(folder: Path) -> Path:
    """The clock of `shim.c` as a library to preload; built by the machine's own compiler."""
    library = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


class Machine(FarNode):
    """One of the two machines of a lane."""

    def __init__(
        self, stack: Stack, name: str, lane: str, roads: Roads, shim: Path, witness: Witness
    ) -> None:
        super().__init__(stack, name)
        self.lane = lane
        self.witness = witness
        self.road = Road(roads, lambda: stack.port)
        self.clock = stack.folder / f"{name}.clock"
        self.more = {"LD_PRELOAD": str(shim), "ANNEAL_CHAOS_CLOCK": str(self.clock)}
        self.clock_set(0.0)
        self.data.mkdir()
        self.data.chmod(0o755)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=755", "anneal", str(self.data)]
        subprocess.run(mount, check=True)

    @property
    def server(self) -> str:
        return f"http://127.0.0.1:{self.road.port}/"

    def boot(self) -> None:
        """Start its worker and wait until it is ready."""
        self.start("--label", f"lane={self.lane}", "--slots", "1")

    def works(self) -> bool:
        """Whether its worker runs."""
        return self.process is not None and self.process.poll() is None

    def reboot(self) -> None:
        """Kill all its processes at once."""
        if self.works():
            self.kill_worker()
        # Whoever was just being started shows at a second look.
        for _ in range(3):
            for pid in self.witness.pids_under(self.data):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def clock_set(self, ahead: float) -> None:
        """Set its wall clock so many seconds ahead of the true one."""
        with self.clock.open("r+b" if self.clock.exists() else "wb") as file:
            file.write(struct.pack("d", ahead))

    def fill(self) -> None:
        """Fill its disk to the last byte."""
        with (self.data / FILLER).open("ab", buffering=0) as file:
            size = BLOCK
            while size:
                try:
                    written = file.write(bytes(size))
                except OSError:
                    written = 0
                size = size if written == size else size // 2

    def free(self) -> None:
        """Give the room back."""
        (self.data / FILLER).unlink(missing_ok=True)

    def heal(self) -> None:
        """Let everything of it work that still exists."""
        self.road.open_road()
        self.free()
        for pid in [*self.witness.pids_under(self.data), self.process.pid if self.process else 0]:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if pid:
                    os.kill(pid, signal.SIGCONT)

    def remove(self) -> None:
        """End it and take its disk away."""
        self.heal()
        self.reboot()
        subprocess.run(["umount", "-l", str(self.data)], check=False)
