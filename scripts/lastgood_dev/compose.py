"""What does docker-compose.yml start, and how does one of its services start without Docker?"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from .repo import ROOT, Failure
from .yaml_file import read_yaml

FILE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "Dockerfile"
IMAGE = "lastgood:local"


@dataclass(frozen=True)
class Service:
    """One service of the file. `mounts` has the folder or file of this machine for each path in the container."""

    name: str
    fields: Mapping[str, Any]
    mounts: Mapping[str, Path]

    @property
    def is_ours(self) -> bool:
        return self.fields["image"] == IMAGE

    @property
    def replicas(self) -> int:
        return int(self.fields.get("deploy", {}).get("replicas", 1))

    def argv(self, binary: Path, places: Mapping[str, str]) -> list[str]:
        """Returns the command line, with this machine's paths and `places` for the names that only the file's network knows."""
        entrypoint = self.fields.get("entrypoint", [str(binary)])
        words = [*entrypoint, *self.fields.get("command", [])]
        return [self._here(word, places) for word in words]

    def environment(self, places: Mapping[str, str]) -> dict[str, str]:
        """Returns the variables of the image and of the service, in the same way."""
        variables = {**image_environment(), **self.fields.get("environment", {})}
        return {name: self._here(value, places) for name, value in variables.items()}

    def _here(self, text: str, places: Mapping[str, str]) -> str:
        here = {**{path: str(ours) for path, ours in self.mounts.items()}, **places}
        longest_first = "|".join(re.escape(there) for there in sorted(here, key=len, reverse=True))
        text = text.replace("$$", "$")
        return re.sub(rf"(?<![\w/.-])(?:{longest_first})(?![\w.-])", lambda found: here[found[0]], text) if here else text


def services(volumes: Path) -> dict[str, Service]:
    """Returns the services; a named volume is a folder below `volumes`."""
    file = read_yaml(FILE)
    found = {}
    for name, fields in file["services"].items():
        mounts = {}
        for mount in fields.get("volumes", ()):
            source, target, *_ = mount.split(":")
            if source.startswith("./"):
                here = ROOT / source
                if not here.exists():
                    raise Failure(f"{FILE.name}: {name} mounts {source}, which is not there")
            elif source in file["volumes"]:
                here = _folder(volumes, source)
            else:
                raise Failure(f"{FILE.name}: {name} mounts {source}, which is no volume of the file")
            mounts[target] = here
            if source.startswith("secrets-") and target.startswith("/secrets/"):
                mounts["/secrets"] = here.parent
        found[name] = Service(name, fields, mounts)
    return found


def _folder(volumes: Path, volume: str) -> Path:
    """`secrets-shop` is `secrets/shop`, so that what makes all secrets has them below one folder."""
    return volumes / volume.replace("-", "/", 1)


def image_environment() -> dict[str, str]:
    """Returns the variables that the image's last stage sets, with paths of this machine for files that it copies."""
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    stage = text[text.rindex("\nFROM "):]
    variables = {}
    for line in stage.splitlines():
        if line.startswith("ENV "):
            variables |= dict(pair.split("=", 1) for pair in line.split()[1:])
    copied = {
        target: source for instruction, source, target in
        (words for words in map(str.split, stage.splitlines()) if len(words) == 3) if instruction == "COPY"
    }
    return {name: str(ROOT / copied[value]) if value in copied else value for name, value in variables.items()}


def fresh_volumes(run_dir: Path) -> Path:
    """Returns a folder for volumes, with none in it."""
    volumes = run_dir / "volumes"
    shutil.rmtree(volumes, ignore_errors=True)
    volumes.mkdir()
    return volumes
