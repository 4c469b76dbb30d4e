"""What the writer does for claims and their outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import NamedTuple

import structlog

from dicom2fhir.store.base import Claim, Failing, Success
from dicom2fhir.store.sql.arrivals import fill_destination, schedule
from dicom2fhir.store.sql.rows import short
from dicom2fhir.store.sql.statements import Row, Statements
from dicom2fhir.store.sql.study_index import count as count_in_minute
from dicom2fhir.store.sql.study_search import note_attempt
from dicom2fhir.store.statuses import State
from dicom2fhir.store.study_search import AttemptOutcome

log = structlog.get_logger(__name__)

_HORIZON_S = 86_400.0
"""No due time is later than the longest wait plus this, and no pause after a failed attempt is longer than that."""

AT_ONCE = 2_000
"""Studies that one commit makes due again, so that others can write in between."""


def horizon_s(max_wait_s: float) -> float:
    """A due time that is more seconds ahead than this comes from a wrong clock."""
    return max_wait_s + _HORIZON_S


def set_destinations(sql: Statements, wanted: Set[str], now: float) -> None:
    """Set the destinations in force; a new one gets every study that it has no delivery of."""
    in_force = {name for name, active in sql.all("destinations") if active}
    for name in sorted(in_force - wanted):
        sql.run("leave_destination", destination=name)
    for name in sorted(wanted - in_force):
        sql.run("enter_destination", destination=name)
        fill_destination(sql, name, now)
    sql.wake = True


def _claimable(sql: Statements, destination: str, now: float, passed_over: int) -> Row | None:
    """The delivery that has been due longest after the first ``passed_over``; after the last, the count starts anew."""
    due = _due(sql, destination, now, passed_over + 1) if passed_over else 1
    row = sql.one("claimable", destination=destination, now=now, passed_over=passed_over % max(due, 1))
    # fewer may be left meanwhile, to another process
    return row if row or not passed_over else sql.one("claimable", destination=destination, now=now, passed_over=0)


def claim(
    sql: Statements, destination: str, owner: str, lease_s: float, now: float, passed_over: int, number: int
) -> list[Claim]:
    """Lease the delivery that has been due longest after ``passed_over``, and the first others, ``number`` together."""
    first = _claim(sql, destination, owner, lease_s, now, passed_over)
    others = (_claim(sql, destination, owner, lease_s, now, 0) for _ in range(number - 1))
    return [claim for claim in (first, *others) if claim is not None]


def _claim(sql: Statements, destination: str, owner: str, lease_s: float, now: float, passed_over: int) -> Claim | None:
    """Lease one delivery; one whose Study Instance UID is not UTF-8 is refused."""
    while row := _claimable(sql, destination, now, passed_over):
        study_id, destination_id, uid, revision, delivered_revision, attempts, base = row
        key = {"study_id": study_id, "destination_id": destination_id}
        try:
            study_uid = str(uid, "utf-8")
        except UnicodeDecodeError:
            reason = "The rows of the study in the store are damaged: its UID is not UTF-8"
            sql.run("give_back_refused", **key, state=State.REFUSED, reason=reason, now=now)
            continue
        sql.run("take", **key, owner=owner, now=now, lease_s=lease_s)
        sql.claims_of.add(study_uid)
        again = delivered_revision == revision
        return Claim(study_uid, destination, owner, revision, attempts, base or b"", again)
    return None


def share(sql: Statements, destination: str, most: int, workers: int, now: float) -> int:
    """How many due studies one of ``workers`` workers may claim: its first, and as many others as each other worker."""
    due = _due(sql, destination, now, 1 + (most - 1) * workers)
    return due and 1 + (due - 1) // workers


def _due(sql: Statements, destination: str, now: float, most: int) -> int:
    """How many deliveries are due, counted up to ``most``."""
    return len(sql.all("due_now", destination=destination, now=now, most=most))


class _Held(NamedTuple):
    key: dict[str, int]
    revision: int
    """Of the study, now."""
    is_newer: bool
    """Whether an instance or a new sender arrived since the claim."""
    delivered_revision: int
    """0 if none was delivered before."""


def _held(sql: Statements, claim: Claim) -> _Held | None:
    """The delivery of a claim that ends, if the claim still holds."""
    sql.claims_of.add(claim.study_uid)
    row = sql.one("held_claim", study_uid=claim.study_uid, destination=claim.destination)
    if row is not None:
        study_id, destination_id, revision, newer_at, state, owner, delivered_revision = row
        if state == State.SENDING and owner == claim.owner:
            key = {"study_id": study_id, "destination_id": destination_id}
            return _Held(key, revision, newer_at is not None, delivered_revision)
    log.warning("lease.lost", study=claim.study_uid, destination=claim.destination, owner=claim.owner)
    return None


def delivered(sql: Statements, successes: Iterable[Success], now: float) -> None:
    """Record successes."""
    written = 0
    for success in successes:
        if success.outcome.written:
            written += 1
            sql.run("accept", destination=success.claim.destination)
        held = _held(sql, success.claim)
        if held is not None:
            _delivered(sql, held, success, now)
    if written:
        count_in_minute(sql, now, delivered=written)


def _delivered(sql: Statements, held: _Held, success: Success, now: float) -> None:
    claim, sent = success.claim, success.outcome
    sql.run("keep_base", **held.key, body=sent.base)
    sql.run("set_mapping_fingerprint", destination=claim.destination, fingerprint=sent.fingerprint)
    unlinked, refused = ", ".join(sent.unlinked), "\n".join(sent.refused)
    _give_back(
        sql, "give_back_delivered", held, State.DELIVERED, revision=success.revision, now=now,
        fingerprint=sent.fingerprint, unlinked=short(unlinked), unclaimed=short(sent.unclaimed), refused=short(refused),
    )  # fmt: skip
    outcome = AttemptOutcome.WRITTEN if sent.written else AttemptOutcome.UNCHANGED
    note_attempt(sql, held.key, now, success.revision, outcome, refused)
    if held.delivered_revision < success.revision:  # not for what is only linked anew, or two would go on for ever
        sql.wake |= sql.run("relink_mentions", study_uid=claim.study_uid, **held.key, now=now) > 0
    if unlinked:  # what it mentions may have been delivered while this was being sent
        sql.wake |= sql.run("relink_late", **held.key, now=now) > 0


def release(sql: Statements, claims: Iterable[Claim]) -> None:
    """Make claimed studies that were not attempted wait again."""
    for claim in claims:
        held = _held(sql, claim)
        if held is not None:
            sql.run("give_back_untried", **held.key)
            schedule(sql, [held.key["study_id"]])
            sql.wake = True


def refuse(sql: Statements, claim: Claim, revision: int, reason: str, now: float) -> None:
    """Record a refusal: a person must decide."""
    held = _held(sql, claim)
    if held is not None:
        _give_back(sql, "give_back_refused", held, State.REFUSED, revision=revision, now=now, reason=short(reason))
        note_attempt(sql, held.key, now, revision, AttemptOutcome.REFUSED, reason)


def exclude(sql: Statements, claim: Claim, reason: str, selection: str, now: float) -> None:
    """Record that the destination does not want the study.

    The study waits again when something arrived since the claim, or when the selection has changed.
    """
    held = _held(sql, claim)
    if held is not None:
        is_outdated = held.is_newer or sql.one("selection", destination=claim.destination) != (selection,)
        state = State.WAITING if is_outdated else State.EXCLUDED
        sql.run("give_back_excluded", **held.key, state=state, reason=short(reason))
        note_attempt(sql, held.key, now, claim.revision, AttemptOutcome.EXCLUDED, reason)
        schedule(sql, [held.key["study_id"]])
        sql.wake |= is_outdated


def set_selection(sql: Statements, destination: str, selection: str, now: float) -> None:
    """Set what a destination wants; a changed selection makes excluded studies due."""
    if sql.run("set_selection", destination=destination, selection=selection):
        sql.wake |= sql.run("decide_anew", destination=destination, now=now) > 0


def _give_back(sql: Statements, name: str, held: _Held, end: State, *, revision: int, **parameters: object) -> None:
    """End a claim in the state ``end``, or waiting when the study has a newer revision."""
    state = State.WAITING if held.revision > revision else end
    sql.run(name, **held.key, state=state, revision=revision, **parameters)
    schedule(sql, [held.key["study_id"]])
    sql.wake |= state is State.WAITING


def resume(sql: Statements, destination: str) -> bool:
    """Claim for a paused destination again; False if it is not paused."""
    resumed = sql.run("resume", destination=destination) > 0
    sql.wake |= resumed
    return resumed


def failing(sql: Statements, claim: Claim, most_s: float, now: float) -> Failing:
    """How long a study that has just failed has been failing while its destination accepted others."""
    row = sql.one("failing", study_uid=claim.study_uid, destination=claim.destination)
    before_s, since, accepted_then, accepted = row or (0.0, None, 0, 0)
    if since is None:
        return Failing(before_s, False, now, accepted)
    if accepted == accepted_then:
        return Failing(before_s, before_s > 0, min(since, now), accepted)
    return Failing(before_s + min(max(now - since, 0.0), most_s), True, now, accepted)


def retry(
    sql: Statements,
    claim: Claim,
    after_s: float,
    reason: str,
    count: bool,
    failing: Failing | None,
    now: float,
    most_s: float,
) -> None:
    """Record a failed attempt; the next one is at most ``most_s`` later."""
    held = _held(sql, claim)
    if held is not None:
        if failing:
            counted = {"failing_s": failing.for_s, "failing_at": failing.at, "failing_accepted": failing.accepted}
            sql.run("count_failing", **held.key, **counted)
        not_before = now + min(max(after_s, 0.0), most_s)
        sql.run("give_back_failed", **held.key, count=int(count), reason=short(reason), now=now, not_before=not_before)
        note_attempt(sql, held.key, now, claim.revision, AttemptOutcome.FAILED, reason)
        schedule(sql, [held.key["study_id"]])
        sql.wake = True


def requeue(sql: Statements, study_uid: str, destination: str | None, all_states: bool, now: float) -> int:
    """Make deliveries of a study due now; their number."""
    sql.wake = True
    return sql.run("requeue_study", study_uid=study_uid, destination=destination, all_states=all_states, now=now)


def requeue_some(sql: Statements, first: int, destination: str | None, all_states: bool, now: float) -> int:
    """Make deliveries of :data:`AT_ONCE` studies due now, from the id ``first`` on; their number."""
    sql.wake = True
    last = first + AT_ONCE - 1
    return sql.run("requeue_some", first=first, last=last, destination=destination, all_states=all_states, now=now)


def relink(sql: Statements, study_uid: str, destination: str, now: float) -> int:
    """Make a delivery due now if it references a resource by identifier; the number of deliveries."""
    (study_id,) = sql.one("study_id", study_uid=study_uid) or (None,)
    return _relink(sql, study_id, study_id, destination, 0.0, now)


def relink_some(sql: Statements, first: int, destination: str, since: float, now: float) -> int:
    """As :func:`relink` for :data:`AT_ONCE` studies, from the id ``first`` on, if changed since ``since``."""
    return _relink(sql, first, first + AT_ONCE - 1, destination, since, now)


def _relink(sql: Statements, first: int | None, last: int | None, destination: str, since: float, now: float) -> int:
    sql.wake = True
    return sql.run("relink", first=first, last=last, destination=destination, since=since, now=now)
