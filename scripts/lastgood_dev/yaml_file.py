"""How do our checks read YAML? With the PyYAML that the S3 test server brings along."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from .s3 import moto_packages


def read_yaml(path: Path) -> Any:
    """Returns what a file says."""
    packages = str(moto_packages())
    if packages not in sys.path:
        sys.path.append(packages)
    import yaml

    return yaml.safe_load(path.read_text())
