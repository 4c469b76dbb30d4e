"""Who may do what through the web page: the decision, without a server."""

from __future__ import annotations

import itertools

import pytest

from dicom2fhir.web.access import CSRF_HEADER, SESSION_S, Asked, Gate, Sessions

TOKEN = "0123456789abcdef"
NAMES = {"localhost", "bridge.example"}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def gate(token: str = TOKEN, clock: Clock | None = None) -> Gate:
    return Gate(NAMES, lambda: token, Sessions(clock or Clock()))


def status(
    method: str = "GET", path: str = "/", peer: str = "127.0.0.1", at: Gate | None = None, key: str = "", **given: str
) -> int:
    """The status of the refusal, or 200."""
    headers = {"host": "localhost:8112"} | {name.replace("_", "-"): value for name, value in given.items()}
    refusal = (at or gate()).refusal(Asked(method, path, peer, headers, key))
    return refusal.status if refusal else 200


@pytest.mark.parametrize(
    ("host", "is_known"),
    [
        ("localhost", True),
        ("LOCALHOST:8112", True),
        ("bridge.example.", True),
        ("127.0.0.1:8112", True),
        ("[::1]:8112", True),
        ("10.1.2.3", True),
        ("", False),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example:8112", False),
        ("[localhost]", True),
        ("0x7f.1", False),
    ],
)
def test_a_name_that_is_not_ours_is_refused(host: str, is_known: bool) -> None:
    for path in ("/", "/healthz", "/static/style.css", "/login"):
        assert (status(path=path, host=host) == 200) is is_known


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1"])
def test_this_machine_reads_without_a_token(peer: str) -> None:
    assert status(peer=peer) == 200
    assert status("HEAD", peer=peer) == 200


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "", "localhost"])
def test_others_read_only_with_the_token(peer: str) -> None:
    assert status(peer=peer) == 401
    assert status(peer=peer, path="/api/v1/status") == 401
    assert status(peer=peer, path="/metrics") == 401
    assert status(peer=peer, path="/metrics", authorization=f"Bearer {TOKEN}") == 200
    assert status(peer=peer, authorization=f"Bearer {TOKEN}") == 200


def test_a_proxy_on_this_machine_does_not_make_its_clients_local() -> None:
    assert status(forwarded="for=10.0.0.1") == 401
    assert status(x_forwarded_for="10.0.0.1") == 401
    assert status(x_real_ip="10.0.0.1") == 401
    assert status(via="1.1 proxy") == 401


def test_health_and_the_form_for_the_token_are_open() -> None:
    for path in ("/healthz", "/readyz", "/login", "/static/style.css"):
        assert status(path=path, peer="10.0.0.1") == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "get", "X"])
def test_a_change_needs_the_token_also_on_this_machine(method: str) -> None:
    assert status(method, "/api/v1/x") == 401
    assert status(method, "/api/v1/x", authorization=f"bearer {TOKEN}") == 200


@pytest.mark.parametrize("shown", ["Bearer", "Bearer ", "Bearer x", f"Basic {TOKEN}", TOKEN, "Bearer \xe9"])
def test_a_wrong_token_is_refused_even_where_none_is_needed(shown: str) -> None:
    assert status(authorization=shown) == 401
    assert status("POST", authorization=shown) == 401


def test_without_a_token_nothing_can_be_changed_and_an_empty_one_opens_nothing() -> None:
    unset = gate(token="")
    assert status("POST", at=unset) == 403
    assert status("POST", at=unset, authorization="Bearer ") == 401
    assert status(peer="10.0.0.1", at=unset) == 403
    assert unset.begin("") is None


def test_a_session_changes_only_with_its_csrf_token() -> None:
    at = gate()
    session, other = at.begin(TOKEN), at.begin(TOKEN)
    assert session and other
    assert status(peer="10.0.0.1", at=at, key=session.key) == 200
    assert status("POST", at=at, key=session.key) == 403
    assert status("POST", at=at, key=session.key, **{CSRF_HEADER: other.csrf}) == 403
    assert status("POST", at=at, key=session.key, **{CSRF_HEADER: session.csrf}) == 200
    assert status("POST", at=at, key="unknown", **{CSRF_HEADER: session.csrf}) == 401


def test_a_request_that_another_site_makes_the_browser_send_is_refused() -> None:
    at = gate()
    session = at.begin(TOKEN)
    assert session
    for told in ({"sec_fetch_site": "cross-site"}, {"sec_fetch_site": "same-site"}, {"origin": "http://evil.example"}):
        for path in ("/api/v1/x", "/login"):
            assert status("POST", path, at=at, key=session.key, **{CSRF_HEADER: session.csrf}, **told) == 403
    ours = {"sec_fetch_site": "same-origin", "origin": "http://localhost:8112"}
    assert status("POST", at=at, key=session.key, **{CSRF_HEADER: session.csrf}, **ours) == 200


def test_a_session_ends_by_time_by_logout_and_with_its_token() -> None:
    clock, tokens = Clock(), [TOKEN]
    at = Gate(NAMES, lambda: tokens[-1], Sessions(clock))
    late, left, old = (at.begin(TOKEN) for _ in range(3))
    assert late and left and old
    at.end(left.key)
    assert at.session(left.key) is None
    tokens.append("another-0123456789")
    assert at.session(old.key) is None
    tokens.pop()
    assert at.session(late.key) == late
    clock.now += SESSION_S + 1
    assert at.session(late.key) is None


def test_a_wrong_token_begins_no_session() -> None:
    assert gate().begin("wrong") is None


def test_sessions_are_bounded() -> None:
    sessions = Sessions(Clock())
    first, *_, last = (sessions.begin(TOKEN) for _ in itertools.repeat(None, 101))
    assert sessions.find(first.key, TOKEN) is None
    assert sessions.find(last.key, TOKEN) == last
