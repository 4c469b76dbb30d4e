"""Bar 17: only what is allowed gets in. Every combination of access rules meets every kind of peer.

What is expected is worked out here, from the words of the configuration and PS3.8, not by the code under test. Peers
that two rules keep out are tried in the long form only.
"""

from __future__ import annotations

import json
import ssl
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from dicom2fhir import config
from dicom2fhir.receive.dimse.scp import StorageSCP
from dicom2fhir.wiring import parts
from tests.pki import Pki
from tests.scripted_peer import RELEASE_RQ, Kept, Peer, associate_rq, store

pytestmark = [pytest.mark.bar(17), pytest.mark.needs("openssl"), pytest.mark.timeout(300)]

ACCEPTED, REJECTED, RELEASED = 2, 3, 6
CALLED_NOT_RECOGNIZED, CALLING_NOT_RECOGNIZED = 7, 3
"""Reasons of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""


@dataclass(frozen=True)
class Rules:
    """What a receiver is told."""

    tls: str
    """``none``, ``server`` (its certificate only) or ``mutual`` (peers show one, too)."""
    any_called: bool
    calling: tuple[str, ...]
    networks: tuple[str, ...]


@dataclass(frozen=True)
class Caller:
    """Who wants to get in, and how."""

    transport: str
    source: str
    calling: str
    called: str


RULES = [
    Rules(*rules)
    for rules in product(
        ("none", "server", "mutual"),
        (False, True),
        ((), ("MR1", "CT 2")),
        ((), ("127.0.0.1/32",), ("127.0.0.2/31", "2001:db8::/32"), ("192.0.2.0/24",)),
    )
]
SECURE = ("tls 1.2", "tls 1.3")
"""By BCP 195, without a certificate of the peer's."""
CERTIFIED = ("certificate 1.2", "certificate 1.3")
UNSAFE = ("tls 1.1", "static rsa", "cbc", "cbc with forward secrecy")
"""What BCP 195 forbids, each with the certificate that would do."""
DOUBTFUL = ("stranger's certificate", "expired certificate")
CALLERS = [
    Caller(*caller)
    for caller in product(
        ("plain", *SECURE, *CERTIFIED, *UNSAFE, *DOUBTFUL),
        ("127.0.0.1", "127.0.0.2"),
        ("MR1", " MR1 ", "CT 2", "mr1", "MR11", "CT"),
        ("DICOM2FHIR", " DICOM2FHIR", "dicom2fhir", "DICOM2FHIR2"),
    )
]
STRANGERS = {"stranger's certificate": "stranger", "expired certificate": "expired"}


def keeps_out(rules: Rules, caller: Caller) -> set[str]:
    """Every rule that the caller breaks."""
    broken = set()
    if not may_speak(rules.tls, caller.transport):
        broken.add("tls")
    if rules.networks and not any(contains(network, caller.source) for network in rules.networks):
        broken.add("network")
    # leading and trailing spaces of an AE title mean nothing, upper and lower case do (PS3.5 section 6.2)
    if not rules.any_called and caller.called.strip() != "DICOM2FHIR":
        broken.add("called")
    if rules.calling and caller.calling.strip() not in rules.calling:
        broken.add("calling")
    return broken


def may_speak(tls: str, transport: str) -> bool:
    match tls:
        case "none":
            return transport == "plain"
        case "server":  # which certificate a peer has is not asked
            return transport in (*SECURE, *CERTIFIED, *DOUBTFUL)
        case _:
            return transport in CERTIFIED


def contains(network: str, address: str) -> bool:
    return address in {"127.0.0.1/32": ("127.0.0.1",), "127.0.0.2/31": ("127.0.0.2", "127.0.0.3")}.get(network, ())


def expected(broken: set[str]) -> set[str]:
    """What may be seen from outside, by PS3.8: AE titles are looked at once a peer may speak at all."""
    if not broken:
        return {"stored"}
    if broken & {"tls", "network"}:
        return {"closed"}
    return {f"rejected {reason}" for reason in broken}


def contexts(pki: Pki) -> dict[str, ssl.SSLContext | None]:
    """Transport -> how a peer speaks it."""
    found: dict[str, ssl.SSLContext | None] = {"plain": None}
    for name in SECURE:
        found[name] = client(pki, "", name)
    for name in CERTIFIED:
        found[name] = client(pki, "sender", name)
    for name, who in STRANGERS.items():
        found[name] = client(pki, who, "1.3")
    ciphers = ("ALL:@SECLEVEL=0", "AES128-GCM-SHA256", "AES128-SHA", "ECDHE-RSA-AES128-SHA256")
    for name, cipher in zip(UNSAFE, ciphers, strict=True):
        found[name] = client(pki, "sender", "1.1" if name == "tls 1.1" else "1.2", cipher)
    return found


def client(pki: Pki, who: str, version: str, ciphers: str = "") -> ssl.SSLContext:
    """Verifies the receiver, and shows a certificate where ``who`` has one."""
    context = ssl.create_default_context(cafile=str(pki.ca_crt))
    if who:
        context.load_cert_chain(pki.folder / f"{who}.crt", pki.folder / f"{who}.key")
    if ciphers:
        context.set_ciphers(ciphers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TLS 1.1
        chosen = ssl.TLSVersion[f"TLSv{version[-3:].replace('.', '_')}"]
        context.minimum_version = context.maximum_version = chosen
    return context


@pytest.fixture(scope="module")
def spoken(pki: Pki) -> dict[str, ssl.SSLContext | None]:
    pki.certificate("expired", "DNS:localhost", days=-1)
    return contexts(pki)


@pytest.fixture
def receiver(pki: Pki, tmp_path: Path) -> Iterator[Callable[[Rules], tuple[StorageSCP, Kept]]]:
    """``receiver(rules)`` listens as a configuration file with these rules has it."""
    running: list[StorageSCP] = []

    def start(rules: Rules) -> tuple[StorageSCP, Kept]:
        path = tmp_path / "config.toml"
        path.write_text(settings(rules, pki))
        kept = Kept()
        listen = parts.listen(config.load(path, environ={}))
        scp = StorageSCP(
            listen,
            on_received=kept.on_received,
            on_created=kept.created.append,
            on_set=kept.updated.append,
            on_rejected=kept.on_rejected,
            on_association_ended=kept.ended.append,
        )
        scp.start()
        running.append(scp)
        return scp, kept

    yield start
    for scp in running:
        scp.stop(5.0)


def settings(rules: Rules, pki: Pki) -> str:
    lines = ["[receiver]", "port = 0", f"require_called_ae_title = {json.dumps(not rules.any_called)}"]
    lines += [f"calling_ae_titles = {json.dumps(rules.calling)}", f"networks = {json.dumps(rules.networks)}"]
    if rules.tls != "none":
        lines += [f'tls_certificate = "{pki.receiver_crt}"', f'tls_key = "{pki.receiver_key}"']
    if rules.tls == "mutual":
        lines.append(f'tls_client_ca = "{pki.ca_crt}"')
    return "\n".join(lines) + "\n"


def seen(scp: StorageSCP, caller: Caller, tls: ssl.SSLContext | None) -> str:
    """How far a caller gets that asks for an association and stores one instance."""
    request = associate_rq(called=caller.called, calling=caller.calling)
    try:
        with Peer(scp.address, request, caller.source, tls) as peer:
            kind, body = peer.receive()
            if kind == REJECTED:
                names = {CALLED_NOT_RECOGNIZED: "called", CALLING_NOT_RECOGNIZED: "calling"}
                return f"rejected {names[body[3]]}"
            if kind != ACCEPTED:
                return "closed"
            peer.send(store() + RELEASE_RQ)
            status = peer.status()
            assert peer.receive()[0] == RELEASED
            return "stored" if status == 0 else f"status {status:04x}"
    except OSError:  # an alert of TLS, or the end of the connection
        return "closed"


@pytest.mark.parametrize("tls", ["none", "server", "mutual"])
def test_only_what_is_allowed_gets_in(
    receiver: Callable[[Rules], tuple[StorageSCP, Kept]],
    spoken: dict[str, ssl.SSLContext | None],
    tls: str,
    soak: bool,
    history: Path,
) -> None:
    wrong, tried = [], 0
    for rules in (each for each in RULES if each.tls == tls):
        scp, kept = receiver(rules)
        let_in = 0
        for caller in CALLERS:
            broken = keeps_out(rules, caller)
            if len(broken) > 1 and not soak:
                continue
            tried += 1
            let_in += not broken
            found = seen(scp, caller, spoken[caller.transport])
            if found not in expected(broken):
                wrong.append(f"{rules} {caller}: {found}, expected {expected(broken)}")
        if len(kept.received) != let_in:
            wrong.append(f"{rules}: {len(kept.received)} instances came from {let_in} who may store one")
    (history / "wrong.txt").write_text("\n".join(wrong))
    assert not wrong, f"{len(wrong)} of {tried}, such as {wrong[0]}"
    assert tried > 500


def test_each_rule_lets_somebody_in_and_keeps_somebody_out() -> None:
    """The test of the test: a matrix in which a rule never decides would not test it."""
    alone = [keeps_out(rules, caller) for rules, caller in product(RULES, CALLERS)]
    assert all({rule} in alone for rule in ("tls", "network", "called", "calling"))
    let_in = {rules for rules, caller in product(RULES, CALLERS) if not keeps_out(rules, caller)}
    assert let_in == {rules for rules in RULES if "192.0.2.0/24" not in rules.networks}
