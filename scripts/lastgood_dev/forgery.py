"""How does an archive come to lack rows that its own list of contents names, while every hash agrees?

Nothing that lastgood or its tools do makes one. It stands for a dump that lost rows before they were hashed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .blake3 import blake3
from .postgres import Postgres
from .service import Lastgood, RestorePoint


@dataclass(frozen=True)
class Stored:
    """An archive in a directory: a dump, and behind it the list of its contents, in a frame that zstd passes over."""

    manifest_file: Path
    manifest: dict[str, Any]
    archive_file: Path
    dump: bytes
    list: bytes


def give_list_of(whole: RestorePoint, lacking: RestorePoint, lastgood: Lastgood, catalog: Postgres) -> None:
    """Gives an archive the list of contents of another; both are unencrypted, and in a directory."""
    objects = Path(lastgood.settings["LASTGOOD_STORAGE"]) / "objects"
    source, target = _stored(objects, whole), _stored(objects, lacking)
    archive = target.dump + source.list
    manifest = {
        **target.manifest,
        "archive": {**target.manifest["archive"], "size_bytes": len(archive), "blake3": blake3(archive)},
        "contents": source.manifest["contents"],
    }
    text = json.dumps(manifest, ensure_ascii=False)
    target.archive_file.write_bytes(archive)
    target.manifest_file.write_text(text)
    catalog.psql(
        f"update lastgood.restore_points set manifest = $manifest${text}$manifest$, stored_bytes = {len(archive)}"
        f" where id = '{lacking.id}'", "lastgood",
    )


def _stored(objects: Path, point: RestorePoint) -> Stored:
    manifest_file = objects / point.manifest_key
    manifest = json.loads(manifest_file.read_text())
    archive_file = objects / manifest["archive"]["key"]
    archive = archive_file.read_bytes()
    end_of_dump = len(archive) - manifest["contents"]["size_bytes"]
    return Stored(manifest_file, manifest, archive_file, archive[:end_of_dump], archive[end_of_dump:])
