"""A clock that is off, for one process and what it starts: libfaketime, preloaded. What measures time spans is left alone."""

import platform
import subprocess
from pathlib import Path
from typing import Final

from dev import apt
from dev.programs import own_programs
from fire.disk import NotHere

FILE: Final = "faketime/libfaketime.so.1"
PACKAGE: Final = "libfaketime"


def off_by(seconds: int) -> dict[str, str]:
    """The environment of a process whose clock is ahead, or behind. Raises NotHere."""
    return {
        "LD_PRELOAD": str(library()),
        "FAKETIME": f"{seconds:+d}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # Its bookkeeping in shared memory is for a clock that goes on over several processes; this one is only shifted.
        "FAKETIME_DISABLE_SHM": "1",
    }


def library() -> Path:
    """The system's; else Debian's package, unpacked under .local/."""
    if (found := _found()) is None:
        _unpack()
        found = _found()
    if found is None:
        raise NotHere(f"no libfaketime for {platform.machine()} (Debian's package {PACKAGE})")
    return found


def _found() -> Path | None:
    places = (Path("/usr/lib"), own_programs() / PACKAGE / "usr" / "lib")
    return next((file for place in places for file in sorted(place.glob(f"*/{FILE}"))), None)


def _unpack() -> None:
    if not apt.available():
        raise NotHere(f"no {PACKAGE}, and no apt-get to get it with")
    own_programs().mkdir(exist_ok=True)
    try:
        apt.unpack(PACKAGE, own_programs() / PACKAGE)
    except (apt.AptFailed, subprocess.CalledProcessError, OSError) as failed:
        raise NotHere(f"{PACKAGE} is not to be had: {failed}") from failed
