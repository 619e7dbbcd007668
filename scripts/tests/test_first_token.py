"""Is there a first token at each start of the API, also after a start that ended in the middle?"""

from __future__ import annotations

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

from lastgood_dev.repo import ROOT

# As `lastgood token create --name NAME …` does: a name that is in use is refused.
LASTGOOD = """#!/bin/sh
[ "$1 $2 $3" = "token create --name" ] || exit 64
[ ! -e "$NAMES/$4" ] || exit 1
touch "$NAMES/$4"
echo "token of $4"
"""


class FirstToken(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        for name in ("bin", "names", "token"):
            (self.folder / name).mkdir()
        program = self.folder / "bin" / "lastgood"
        program.write_text(LASTGOOD)
        program.chmod(0o755)

    def start(self) -> None:
        env = {**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "NAMES": str(self.folder / "names")}
        script = ROOT / "deploy" / "compose" / "token.sh"
        subprocess.run(["sh", script, self.folder / "token"], env=env, check=True, capture_output=True, timeout=30)

    def made(self) -> int:
        return len(list((self.folder / "names").iterdir()))

    def test_a_token_is_made_once(self) -> None:
        self.start()
        token = (self.folder / "token" / "token").read_text()
        self.start()
        self.assertEqual((self.folder / "token" / "token").read_text(), token)
        self.assertEqual(self.made(), 1)

    def test_a_start_after_one_that_ended_in_the_middle_makes_another(self) -> None:
        self.start()
        (self.folder / "token" / "token").rename(self.folder / "token" / "token.new")
        self.start()
        self.assertIn("token of", (self.folder / "token" / "token").read_text())
        self.assertEqual(self.made(), 2)


if __name__ == "__main__":
    unittest.main()
