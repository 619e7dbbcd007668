#!/usr/bin/env python3
"""Holds the HTTP API to its OpenAPI document: `make contract`."""

from __future__ import annotations

import os

from lastgood_dev.contract import check_contract
from lastgood_dev.repo import say
from lastgood_dev.service import build
from lastgood_dev.session import Session, guarded


def main(session: Session) -> int:
    check_contract(session, build(os.environ.get("PROFILE") or "dev"))
    say("the API does what its document says")
    return 0


if __name__ == "__main__":
    guarded(main)
