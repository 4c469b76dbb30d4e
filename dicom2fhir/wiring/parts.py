"""Builds the parts of the daemon from the settings; :mod:`dicom2fhir.wiring.options` builds the mapping.

Nothing is started here; :mod:`dicom2fhir.daemon` does that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from hashlib import blake2b
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from dicom2fhir import __version__
from dicom2fhir.config import FhirDestinationSettings, FileDestinationSettings, FolderSettings, Settings
from dicom2fhir.deliver.retry import RetryPolicy
from dicom2fhir.deliver.timed import Exchanges, Timed
from dicom2fhir.deliver.worker import Deliverer
from dicom2fhir.errors import BridgeError, ConfigError
from dicom2fhir.fhir.mapper import DialectChoice
from dicom2fhir.fhir.profile.model import Profile
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.directory import FileDestination
from dicom2fhir.fhir.send.server import FhirDestination
from dicom2fhir.ops.forgetter import Forgetter, Terms
from dicom2fhir.ops.index_keeper import IndexKeeper
from dicom2fhir.ops.previews import Previewer
from dicom2fhir.ops.sealer import Sealer
from dicom2fhir.ops.store_checker import StoreChecker
from dicom2fhir.ops.store_keepers import StoreKeepers
from dicom2fhir.outcomes import Attempt, Exchange
from dicom2fhir.receive.dimse.options import Listen
from dicom2fhir.receive.dimse.tls import Tls, server_context
from dicom2fhir.receive.folder.options import Watch
from dicom2fhir.store.base import Store
from dicom2fhir.store.selection import Selection
from dicom2fhir.store.sql.store import SqlStore
from dicom2fhir.system.memory_budget import HeaderSpace
from dicom2fhir.system.text import quoted
from dicom2fhir.web.options import Face
from dicom2fhir.web.server import WebServer
from dicom2fhir.wiring.credentials import credentials, longest_request_s, require_extras, tls_files, token_facts
from dicom2fhir.wiring.options import budgets, dialect, load_profile, mapper, mapping_fingerprint

if TYPE_CHECKING:
    from dicom2fhir.ops.metrics import Metrics
    from dicom2fhir.ops.tracing import Traces

_REQUESTS_PER_DELIVERY = 8
"""The number of requests of a slow delivery that its lease must cover."""


def listen(settings: Settings) -> Listen:
    """The options of the receiver."""
    return Listen(tls=_tls(settings), budgets=budgets(settings), **_same_named(Listen, settings.receiver))


def _tls(settings: Settings) -> Tls | None:
    receiver = settings.receiver
    if receiver.tls_certificate is None:
        return None
    return Tls(receiver.tls_certificate, receiver.tls_key, receiver.tls_client_ca)


def web_server(
    settings: Settings, store: SqlStore, previewer: Previewer, metrics: Metrics, space: HeaderSpace
) -> WebServer:
    """The web server; it is not started."""
    web = settings.web
    tls = None
    if web.tls_certificate:
        tls = partial(server_context, Tls(web.tls_certificate, web.tls_key))
    face = Face(web.host, web.port, web.server_names, web.secret, web.show_identifiers, tls)
    return WebServer(face, store, previewer, metrics, space)


def traces(settings: Settings) -> Traces | None:
    """What records traces; None if they are not wanted.

    Raises
    ------
    ConfigError
        The extra ``otel`` is not installed.
    """
    wanted = settings.tracing
    if not wanted.endpoint:
        return None
    require_opentelemetry(settings)
    from dicom2fhir.ops.tracing import Traces  # here, because it may not be installed

    return Traces(wanted.endpoint, wanted.share, __version__)


def require_opentelemetry(settings: Settings) -> None:
    """Check that traces can be sent if they are wanted.

    Raises
    ------
    ConfigError
        The extra ``otel`` is not installed.
    """
    is_installed = find_spec("opentelemetry") is not None and find_spec("opentelemetry.sdk") is not None
    if settings.tracing.endpoint and not is_installed:
        raise ConfigError(
            "tracing.endpoint needs OpenTelemetry, which is not installed; pip install 'dicom2fhir-bridge[otel]'"
        )


def store_keepers(store: SqlStore, settings: Callable[[], Settings]) -> StoreKeepers:
    """What looks after the store, by the settings in force; it is not started."""

    def terms() -> Terms:
        now = settings()
        return Terms(now.store.forget_after_s, now.fhir.max_instances)

    sealer = Sealer(store, lambda: settings().store.seal_after_s)
    return StoreKeepers(IndexKeeper(store), Forgetter(store, terms), sealer, StoreChecker(store))


def watch(folder: FolderSettings) -> Watch:
    """The options of a folder watcher."""
    return Watch(mode=folder.watch, **_same_named(Watch, folder))


def _same_named(part: type[Listen | Watch], section: BaseModel) -> dict[str, Any]:
    """The options of a section that a part has under the same name."""
    names = (field.name for field in fields(part))
    return {name: getattr(section, name) for name in names if name in type(section).model_fields}


def client(
    destination: FhirDestinationSettings, observe: Callable[[Exchange], None] = lambda exchange: None
) -> FhirClient:
    """The HTTP client of a destination; ``observe`` is called after each exchange."""
    return FhirClient(
        destination.url,
        auth=credentials(destination),
        timeout_s=destination.timeout_s,
        tls=tls_files(destination),
        observe=observe,
    )


def plan(settings: Settings, name: str, online: bool) -> dict[str, Any]:
    """The plan for a destination, for ``check-config``; ``online``: including what the server answers.

    ``error`` is the reason why the destination cannot be used, or empty.
    """
    destination = settings.destinations[name]
    profile = profile_of(settings, name)
    require_extras(settings, name)
    version: str = settings.fhir_version(name)
    if isinstance(destination, FileDestinationSettings):
        version = dialect(settings.version_set(name), profile).name
    facts: dict[str, Any] = {
        "name": name,
        "type": destination.type,
        "target": str(destination.directory if isinstance(destination, FileDestinationSettings) else destination.url),
        "version": version,
        "profile": profile.name if profile else "",
        "patient": settings.patient_mode(name),
        "only": destination.only.given(),
        "except": destination.except_.given(),
        "server": "",
        "ids": "",
        "token": "",
        "warning": "",
        "error": "",
    }
    if online and isinstance(destination, FhirDestinationSettings):
        try:
            _ask(destination, DialectChoice(version, profile), facts)
        except BridgeError as error:
            facts["error"] = f"{error}{quoted(error.issues)}"
    return facts


def _ask(destination: FhirDestinationSettings, choice: DialectChoice, facts: dict[str, Any]) -> None:
    """Add to ``facts`` what the server, and the authorization server, answer, up to the first failure.

    Raises
    ------
    BridgeError
        The destination cannot be used.
    """
    server = client(destination)
    found = server.capabilities()
    software = f"{found.software} {found.software_version}".strip()
    facts["server"] = f"{software or 'unnamed software'}, FHIR {found.fhir_version or 'of unknown version'}"
    facts["version"] = choice.dialect(found.fhir_version).name
    facts["ids"] = found.of("ImagingStudy").ids
    server.check_access()
    if destination.auth == "oauth2":
        facts |= token_facts(destination)
    if not found.transaction:
        facts["error"] = "the server does not declare support for transactions"


def profile_of(settings: Settings, name: str) -> Profile | None:
    """The profile of a destination, checked against the configured version.

    Raises
    ------
    ConfigError
        It cannot be used, or does not support the version.
    """
    try:
        profile = load_profile(settings.profile(name))
        dialect(settings.version_set(name), profile)
    except ConfigError as error:
        raise ConfigError(f"destinations.{name}.profile: {error}") from None
    return profile


def mapping_fingerprint_of(settings: Settings, name: str, last: str) -> str:
    """The mapping fingerprint of a destination now.

    Parameters
    ----------
    last
        The last one, which tells the FHIR version where the server decides it; empty if there is none.
    """
    profile = profile_of(settings, name)
    if isinstance(settings.destinations[name], FileDestinationSettings):
        version = dialect(settings.version_set(name), profile).name
    elif (version := settings.fhir_version(name)) == "auto" and last:
        version = last.split()[0]
    return f"{version} {mapping_fingerprint(settings, settings.patient_mode(name), profile, name)}"


def addresses(settings: Settings) -> dict[str, str]:
    """A digest of where each destination is; an address may contain a secret."""
    return {
        name: blake2b(
            str(one.directory if isinstance(one, FileDestinationSettings) else one.url).encode(), digest_size=8
        ).hexdigest()
        for name, one in settings.destinations.items()
    }


def selection(settings: Settings, name: str) -> Selection:
    """The selection of studies for a destination."""
    destination = settings.destinations[name]
    announced = settings.resources_of(name).registered == "always"
    return Selection(destination.only.given(), destination.except_.given(), announced=announced)


def deliverer(
    settings: Settings,
    name: str,
    store: Store,
    observe: Callable[[Attempt], None] = lambda attempt: None,
) -> Deliverer:
    """The workers of one destination.

    Parameters
    ----------
    observe
        Called after each attempt to deliver.

    Raises
    ------
    ConfigError
        Its profile cannot be used.
    """
    destination = settings.destinations[name]
    profile = profile_of(settings, name)
    mapping = mapper(settings, settings.patient_mode(name), profile, destination=name)
    if isinstance(destination, FileDestinationSettings):
        version = dialect(settings.version_set(name), profile)
        files = FileDestination(name, destination.directory, mapping, version, settings.format(name))
        patience = RetryPolicy(give_up_after_s=settings.fhir.give_up_after_s)
        return Deliverer(store, Timed(files, observe), workers=1, policy=patience, selection=selection(settings, name))
    budget_s = destination.timeout_s * _REQUESTS_PER_DELIVERY
    choice = DialectChoice(settings.fhir_version(name), profile)
    exchanges = Exchanges()
    server = FhirDestination(
        name, client(destination, exchanges.add), mapping, choice, budget_s=budget_s, format_=settings.format(name)
    )
    return Deliverer(
        store,
        Timed(server, observe, exchanges),
        workers=destination.workers,
        lease_s=2 * (budget_s + longest_request_s(destination)),
        policy=RetryPolicy(cap_s=destination.retry_max_s, give_up_after_s=settings.give_up_after_s(destination)),
        selection=selection(settings, name),
    )
