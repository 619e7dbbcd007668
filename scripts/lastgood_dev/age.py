"""How do we get `age` and `b3sum`, to open an archive without lastgood?"""

from __future__ import annotations

import shutil
from pathlib import Path

from .debian import unpacked_packages
from .repo import Unavailable

PROGRAMS = ("age", "b3sum")


def age_tools() -> str:
    """Returns the folder that has both: this machine's, where they are installed, else that of Debian's packages."""
    found = {str(Path(path).parent) for path in map(shutil.which, PROGRAMS) if path}
    if len(found) == 1 and all((Path(folder) / program).exists() for folder in found for program in PROGRAMS):
        return found.pop()
    home = unpacked_packages(PROGRAMS, "age", lambda version: version.startswith("1."), "age 1")
    folder = home / "usr" / "bin"
    if not all((folder / program).exists() for program in PROGRAMS):
        raise Unavailable(f"Debian's packages did not bring {' and '.join(PROGRAMS)}")
    return str(folder)
