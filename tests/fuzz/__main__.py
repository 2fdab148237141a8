"""`make fuzz SECONDS=60`: each target for so long, led by coverage; exits 1 where one found something.

`python -m tests.fuzz facts -max_total_time=600 folder` runs one, with libFuzzer's own options. Finds lie under .local/.
"""

import subprocess
import sys
from pathlib import Path

import atheris

CORPUS = Path(".local/fuzz-corpus")

with atheris.instrument_imports(include=["ingest", "quittance", "workers"]):
    from tests.fuzz import seeds
    from tests.fuzz.targets import TARGETS


def main() -> int:
    """Without a target: all of them, a process each."""
    if len(sys.argv) > 1 and sys.argv[1] in TARGETS:
        target = TARGETS[sys.argv.pop(1)]
        atheris.Setup(sys.argv, target)
        atheris.Fuzz()
    seconds = sys.argv[1] if len(sys.argv) > 1 else "60"
    found = []
    for name in TARGETS:
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds.of(name)):
            (folder / f"seed-{number}").write_bytes(seed)
        print(f"{name}: {seconds} s")
        command = [sys.executable, "-m", "tests.fuzz", name, f"-max_total_time={seconds}", "-max_len=32768"]
        finds = f"-artifact_prefix={CORPUS}/{name}-"
        if subprocess.run([*command, "-verbosity=0", finds, str(folder)], check=False).returncode:
            found.append(name)
    print(f"found something: {', '.join(found)}" if found else "nothing found")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
