"""The types of option values; the error message of each says what is valid."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import zoneinfo
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from dicom2fhir.fhir.version.names import canonical


def is_loopback(host: str) -> bool:
    """Whether ``host`` (a name or an address) is this machine in any case."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def lies_outside(path: Path, folder: Path, ignore: tuple[str, ...] = ()) -> bool:
    """Whether a watcher of ``folder`` with the patterns ``ignore`` never sees files in ``path``.

    A pattern matches one name of the path below ``folder``, or the whole of it.
    """
    inside, root = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    if not inside.is_relative_to(root):
        return True
    below = inside.relative_to(root)
    steps = [*below.parts, *(str(step) for step in (below, *below.parents) if step != Path("."))]
    return any(fnmatchcase(step, pattern.rstrip("/")) for step in steps for pattern in ignore)


def _items(value: object) -> object:
    """Lists may be written as one string, because variables and credentials are strings."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("must be a JSON list or values separated by commas") from None
    return [item.strip() for item in value.split(",") if item.strip()]


def _ae_title(value: str) -> str:
    # PS3.5 6.2, VR AE: leading and trailing spaces are not significant, and a title of spaces means no title
    title = value.strip(" ")
    if not 1 <= len(title) <= 16 or "\\" in title or not all(" " <= char <= "~" for char in title):
        raise ValueError("must be 1 to 16 ASCII characters without backslash and control characters (PS3.5 6.2)")
    return title


def _version(value: object) -> object:
    return canonical(value) if isinstance(value, str) else value


def _network(value: object) -> object:
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    if not isinstance(value, str):  # Python would read a number as an address
        raise ValueError('must be an address or a network such as "10.1.0.0/16"')
    try:
        return ipaddress.ip_network(value)
    except ValueError:
        try:
            wider = ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise ValueError('must be an address or a network such as "10.1.0.0/16"') from None
        raise ValueError(f'has bits set after the prefix; did you mean "{wider}"?') from None


def _local_path(value: object) -> object:
    if value == "" or "\0" in str(value):
        raise ValueError("must be a path, not empty and without NUL")
    return os.path.abspath(os.path.expanduser(value)) if isinstance(value, str | Path) else value


def _zone(value: str) -> str:
    try:
        if value:
            zoneinfo.ZoneInfo(value)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        raise ValueError('must be an IANA time zone such as "Europe/Paris", or empty') from None
    return value


def _uri_problem(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+", value):
        return 'must be an absolute URI such as "urn:oid:1.2.3" or "https://hospital.example/patients"'
    scheme, rest = value.split(":", 1)
    lower = rest.lower()
    if scheme.lower() in ("http", "https") and not urlsplit(value).netloc:
        return f'must name a host: "{scheme}://host/..."'
    if scheme.lower() == "urn":
        if lower.startswith("oid:") and not re.fullmatch(r"[0-2](\.(0|[1-9][0-9]*))+", rest[4:]):
            return 'must be an OID after "urn:oid:", numbers without leading zeros separated by dots'
        if lower.startswith("uuid:") and not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", rest[5:]):
            return 'must be a UUID in lower case after "urn:uuid:"'
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,31}:.+", rest):
            return 'must be "urn:NAMESPACE:NAME"'
    return ""


def _uri(value: str) -> str:
    if problem := value and _uri_problem(value):
        raise ValueError(problem)
    return value


def _base_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not value.isprintable() or " " in value:
        raise ValueError('must be a URL such as "https://host/fhir"')
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not contain a user name or password; use the options for authentication")
    if parts.query or parts.fragment or value.endswith(("?", "#")):
        raise ValueError("must be a base URL, without ? and #")
    return value.rstrip("/")


def _optional_url(value: str) -> str:
    if value:
        _base_url(value.partition("?")[0])
    return value


def _dicomweb_url(value: str) -> str:
    if not value:
        return value
    url = _base_url(value)
    if url.endswith("/studies"):
        raise ValueError('must be the base URL, without "/studies" at the end')
    return url


_PLACEHOLDERS = ("study_uid", "accession")


def _viewer_url(value: str) -> str:
    if not value:
        return value
    found = re.findall(r"\{(.*?)\}", value)
    if not found or set(found) - set(_PLACEHOLDERS) or re.search(r"[{}]", re.sub(r"\{.*?\}", "", value)):
        raise ValueError("must contain {study_uid} or {accession}, and no other braces")
    if _uri_problem(re.sub(r"\{.*?\}", "0", value)) or not value.startswith(("http://", "https://")):
        raise ValueError('must be a URL such as "https://viewer.example/?study={study_uid}"')
    return value


def _token(value: str) -> str:
    system, bar, own = value.partition("|")
    if not bar or not own.strip() or not system or _uri_problem(system):
        raise ValueError('must be an absolute URI and a value, such as "http://finess.sante.gouv.fr|750000001"')
    return value


def _uid(value: str) -> str:
    if value and (len(value) > 64 or not re.fullmatch(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+", value)):
        raise ValueError("must be a UID: numbers without leading zeros separated by dots, at most 64 characters")
    return value


Chosen = TypeVar("Chosen")
Version = Annotated[Chosen, BeforeValidator(_version)]
"""One of the names of FHIR versions and other words."""
AeTitle = Annotated[str, AfterValidator(_ae_title)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_items)]
PatternList = Annotated[
    tuple[Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)], ...], BeforeValidator(_items)
]
AeTitles = Annotated[tuple[AeTitle, ...], BeforeValidator(_items)]
Network = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(_network)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(_items)]
LocalPath = Annotated[Path, BeforeValidator(_local_path)]
OptionalPath = Annotated[LocalPath | None, BeforeValidator(lambda value: None if value == "" else value)]
Zone = Annotated[str, AfterValidator(_zone)]
Uri = Annotated[str, AfterValidator(_uri)]
"""May be empty, because a default system is optional."""
Issuer = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
UriTable = dict[Issuer, Annotated[str, StringConstraints(min_length=1), AfterValidator(_uri)]]
Token = Annotated[str, AfterValidator(_token)]
OptionalToken = Annotated[str, AfterValidator(lambda value: value and _token(value))]
TokenTable = dict[Issuer, Token]
"""Name -> identifier, as ``system|value``."""
Uid = Annotated[str, AfterValidator(_uid)]
ViewerUrl = Annotated[str, AfterValidator(_viewer_url)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
OptionalUrl = Annotated[str, AfterValidator(_optional_url)]
DicomwebUrl = Annotated[str, AfterValidator(_dicomweb_url)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+(_[a-z0-9-]+)*$", max_length=64)]
"""Name of a folder or destination; no double underscores, which separate the parts of a variable's name."""
Seconds = Annotated[float, Field(gt=0, le=86_400 * 366)]
InheritedSeconds = Annotated[Seconds | None, BeforeValidator(lambda value: None if value == "inherit" else value)]
Bytes = Annotated[int, Field(ge=0)]


_EVERYTHING = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


def are_everything(networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    """Whether networks together contain every IPv4 or every IPv6 address."""
    old = [network for network in networks if isinstance(network, ipaddress.IPv4Network)]
    new = [network for network in networks if isinstance(network, ipaddress.IPv6Network)]
    joined = [*ipaddress.collapse_addresses(old), *ipaddress.collapse_addresses(new)]
    return any(network in _EVERYTHING for network in joined)


def overlaps(watched: list[tuple[str, Path, tuple[str, ...]]], written: list[tuple[str, Path]]) -> Iterator[str]:
    """Errors: folders that are watched while something else writes into them or watches them too."""
    for option, path in written:
        for folder, root, ignore in watched:
            if not lies_outside(path, root, ignore):
                yield (
                    f"{option} = {str(path)!r}: must not be inside the watched {folder}.path ({str(root)!r}): files"
                    f" written there would be imported again; choose another folder or add its name to {folder}.ignore"
                )
    for folder, root, _ in watched:
        for other, outer, ignore in watched:
            if folder != other and not lies_outside(root, outer, ignore) and (root != outer or folder < other):
                yield (
                    f"{folder}.path = {str(root)!r}: must not be inside {other}.path ({str(outer)!r}): files would be"
                    f" imported twice; remove one of them or add it to {other}.ignore"
                )
