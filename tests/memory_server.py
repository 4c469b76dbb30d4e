"""A small FHIR server in memory, and the ways in which servers differ when two clients create one resource.

It knows just what the bridge asks for: ``/metadata``, read, history, search by identifier, transactions, and batches of
questions.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from tests.scripted_server import Resource, ScriptedServer


@dataclass(frozen=True)
class Manner:
    """How a server behaves.

    Attributes
    ----------
    none_match
        Status of an entry with ``If-None-Match: *`` whose resource is there; 0: the header is ignored.
    checks_versions
        Whether it says so.
    absent
        Status of an entry with ``If-Match`` where there is nothing; 0: the header is ignored then (HAPI).
    takes_ids
        Whether a PUT creates a resource under the client's id.
    conditional
        What its CapabilityStatement says of conditional interactions.
    has_history
        Whether earlier versions can be read.
    success
        Body of the answer to a transaction: ``"full"``, or the bytes themselves.
    status
        Of that answer.
    keeps
        Whether it does what it says.
    interactions
        What its CapabilityStatement says that a Bundle may be.
    offers
        The types that its CapabilityStatement lists.
    """

    none_match: int = 0
    checks_versions: bool = False
    absent: int = 0
    takes_ids: bool = True
    conditional: tuple[str, ...] = ("conditionalCreate", "conditionalUpdate")
    has_history: bool = True
    success: str | bytes = "full"
    status: int = 200
    keeps: bool = True
    interactions: tuple[str, ...] = ("batch", "transaction")
    offers: tuple[str, ...] = ("ImagingStudy", "Patient", "Endpoint", "ServiceRequest", "Encounter")


class Failed(Exception):
    """A transaction is not done."""

    def __init__(self, status: int) -> None:
        self.status = status


class MemoryServer(ScriptedServer):
    """Keeps every version of what it is sent.

    Attributes
    ----------
    versions
        By type and id, the oldest first.
    transactions
        How many were asked for.
    """

    def __init__(self, manner: Manner) -> None:
        self.manner = manner
        self.versions: dict[tuple[str, str], list[Resource]] = {}
        self.transactions = 0
        self._lock = threading.Lock()
        super().__init__()

    def all(self, resource_type: str) -> list[Resource]:
        """The newest version of every resource of a type."""
        return [versions[-1] for (kind, _), versions in self.versions.items() if kind == resource_type]

    def get(self, target: str) -> tuple[int, Resource]:
        """The answer to a GET."""
        url = urlsplit(target)
        path = url.path.removeprefix("/fhir/").split("/")
        with self._lock:
            if path == ["metadata"]:
                return 200, self._statement()
            if len(path) == 1:
                return 200, _bundle({"resource": found} for found in self._search(path[0], url.query))
            versions = self.versions.get((path[0], path[1]), [])
        if not versions or (len(path) == 3 and not self.manner.has_history):
            return 404, {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "not-found"}]}
        return 200, _bundle({"resource": found} for found in reversed(versions)) if len(path) == 3 else versions[-1]

    def post(self, bundle: Resource) -> tuple[int, Resource | bytes]:
        """The answer to a transaction."""
        with self._lock:
            self.transactions += 1
            before = dict(self.versions)  # lists of versions are replaced, not changed
            ids: dict[str, str] = {}
            try:
                responses = [self._write(entry, ids) for entry in bundle["entry"]]
            except Failed as error:
                self.versions = before
                return error.status, {"resourceType": "OperationOutcome", "issue": []}
            if not self.manner.keeps:
                self.versions = before
            for key, found in self.versions.items():
                old = before.get(key, [])
                if len(found) > len(old):
                    self.versions[key] = [*old, *(_linked(item, ids) for item in found[len(old) :])]
        if isinstance(self.manner.success, bytes):
            return self.manner.status, self.manner.success
        return self.manner.status, _bundle({"response": response} for response in responses)

    def _statement(self) -> Resource:
        offered: Resource = {"updateCreate": self.manner.takes_ids}
        offered |= dict.fromkeys(self.manner.conditional, True)
        if self.manner.checks_versions:
            offered["versioning"] = "versioned-update"
        resources = [{"type": kind, **offered} for kind in self.manner.offers]
        interactions = [{"code": code} for code in self.manner.interactions]
        return {
            "resourceType": "CapabilityStatement",
            "fhirVersion": self.fhir_version,
            "rest": [{"mode": "server", "interaction": interactions, "resource": resources}],
        }

    def _search(self, resource_type: str, query: str) -> list[Resource]:
        tokens = {token for value in parse_qs(query).get("identifier", []) for token in value.split(",")}
        return [
            found
            for found in self.all(resource_type)
            if any(f"{item.get('system', '')}|{item.get('value')}" in tokens for item in found.get("identifier", []))
        ]

    def _write(self, entry: Resource, ids: dict[str, str]) -> Resource:
        request, resource = entry["request"], entry["resource"]
        kind = resource["resourceType"]
        unless = request.get("ifNoneExist") or request["url"].partition("?")[2]
        found = self._search(kind, unless) if unless else []
        resource_id = found[0]["id"] if found else resource.get("id") or f"n{uuid.uuid4().hex}"
        versions = self.versions.get((kind, resource_id), [])
        ids[entry["fullUrl"]] = f"{kind}/{resource_id}"
        if request["method"] == "POST" and found:
            return {"status": "200", "location": f"{kind}/{resource_id}"}
        if versions and "ifNoneMatch" in request and self.manner.none_match:
            if self.manner.none_match != 304:
                raise Failed(self.manner.none_match)
            return {"status": "304", "location": f"{kind}/{resource_id}"}
        match = re.sub(r'[W/"]', "", request.get("ifMatch", ""))
        if match and match != str(len(versions)) and (status := 409 if versions else self.manner.absent):
            raise Failed(status)
        stored = {**resource, "id": resource_id}
        stored["meta"] = {**stored.get("meta", {}), "versionId": str(len(versions) + 1)}
        self.versions[kind, resource_id] = [*versions, stored]
        version = f"_history/{len(versions) + 1}"
        return {"status": "200" if versions else "201 Created", "location": f"{kind}/{resource_id}/{version}"}


def _linked(resource: Resource, ids: dict[str, str]) -> Resource:
    """A resource with the placeholders of a transaction replaced."""
    text = json.dumps(resource)
    for placeholder, literal in ids.items():
        text = text.replace(f'"{placeholder}"', f'"{literal}"')
    linked: Resource = json.loads(text)
    return linked


def _bundle(entries: Iterable[Resource]) -> Resource:
    return {"resourceType": "Bundle", "type": "searchset", "entry": list(entries)}


@contextmanager
def memory_server(manner: Manner) -> Iterator[MemoryServer]:
    """Such a server while the block runs."""
    server = MemoryServer(manner)
    try:
        yield server
    finally:
        server.close()
