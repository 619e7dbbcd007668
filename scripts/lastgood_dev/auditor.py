"""How does a customer's auditor check what was proven, with nothing of lastgood's?"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from datetime import date
from pathlib import Path

from .child import run
from .repo import ROOT, Failure, say
from .service import Lastgood

PAGE = ROOT / "docs" / "how-to" / "show-your-auditor.md"
PUBLIC_TOOLS = ("sh", "python3", "openssl")
VALID = "Signature Verified Successfully"


def export_and_verify(lastgood: Lastgood, since: date) -> bool:
    """Signs the team's proofs and checks the signature, with lastgood and without; returns whether the latter was possible here."""
    lastgood.show("key", "create", "--signing")
    key = lastgood.write("lastgood-signing.pem", "key", "signing")
    lastgood.show("proof", "check")
    lastgood.show("proof", "export", "--team", "acme", "--from", since.isoformat(), "-o", "acme.json")
    lastgood.show("proof", "verify", "acme.json", "--key", key.name)
    say("\n  An auditor needs no lastgood: the script of docs/how-to/show-your-auditor.md has Python and OpenSSL check it:\n")
    home = key.parent
    was, becomes = _forge(home / "acme.json", home / "forged.json")
    script = home / "verify.sh"
    script.write_text(_script_of(PAGE))
    missing = _what_is_missing()
    if missing:
        say(f"    NOT SHOWN: {missing}")
    elif not _verify(script, home / "acme.json", key):
        raise Failure("the export should be valid")
    say(f"\n  In a copy, somebody has turned `{was}` into `{becomes}`:\n")
    if not missing and _verify(script, home / "forged.json", key):
        raise Failure("the forged export should not be valid")
    lastgood.show_refusal("proof", "verify", "forged.json", "--key", key.name)
    return not missing


def _script_of(page: Path) -> str:
    (script,) = re.findall(r"^```sh\n(#!/bin/sh\n.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return script


def _what_is_missing() -> str:
    for tool in PUBLIC_TOOLS:
        if shutil.which(tool) is None:
            return f"there is no {tool} here"
    version = run(["openssl", "version"]).stdout.split()
    is_new = version[:1] == ["OpenSSL"] and int(version[1].partition(".")[0]) >= 3
    return "" if is_new else f"it needs OpenSSL 3, and this is {' '.join(version[:2])}"


def _verify(script: Path, export: Path, key: Path) -> bool:
    say(f"  $ sh {script.name} {export.name} {key.name}")
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    done = run(["sh", script.name, export.name, key.name], cwd=script.parent, env=env)
    said = (done.stdout + done.stderr).strip().splitlines()
    for line in said[-1:]:
        say(f"    {line}")
    return done.returncode == 0 and said[-1:] == [VALID]


def _forge(export: Path, copy: Path) -> tuple[str, str]:
    """Changes an outcome and nothing else, and returns which it was and what it has become."""
    envelope = json.loads(export.read_text())
    payload = base64.b64decode(envelope["payload"]).decode()
    was, becomes = ("differs", "proven") if '"outcome":"differs"' in payload else ("proven", "failed")
    forged = payload.replace(f'"outcome":"{was}"', f'"outcome":"{becomes}"')
    if forged == payload:
        raise Failure(f"the export should have a proof that is {was}")
    envelope["payload"] = base64.b64encode(forged.encode()).decode()
    copy.write_text(json.dumps(envelope))
    return was, becomes
