"""Daemons that share a store have the same destinations: else one would take those of another out of force."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import structlog

from dicom2fhir.errors import StoreInUse
from dicom2fhir.store.postgres.node import DEAD_AFTER_S
from dicom2fhir.store.sql.statements import Statements

log = structlog.get_logger(__name__)


def declare(sql: Statements, destinations: Mapping[str, str], *, may_differ: bool) -> None:
    """Record the destinations of this daemon, unless those that another daemon has declared last are others.

    Parameters
    ----------
    destinations
        A digest of the address of each.
    may_differ
        Whether these replace those of the others, which are to be reloaded as well.

    Raises
    ------
    StoreInUse
        The destinations of another daemon are in force, and differ.
    """
    sql.one("agree")
    if last := sql.one("declared_last", dead_after_s=DEAD_AFTER_S):
        daemon, declared = last
        differences = list(_differences(destinations, json.loads(declared)))
        if differences and not may_differ:
            raise StoreInUse(
                f"The daemon {daemon} shares this store and has other [destinations]: {', '.join(differences)}. Give"
                " all daemons the same: reload one that runs (SIGHUP) with the new configuration, or stop the others."
                f" One that was killed counts for another {DEAD_AFTER_S:.0f} seconds"
            )
        if differences:
            log.warning("config.diverged", daemon=daemon, differences=differences)
    sql.run("declare", destinations=json.dumps(dict(destinations)))


def _differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*ours, *theirs}):
        if name not in theirs:
            yield f"{name} is only here"
        elif name not in ours:
            yield f"{name} is only there"
        elif ours[name] != theirs[name]:
            yield f"{name} has another address there"
