"""The options of the receiver, with their defaults."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dicom2fhir.dicom.data_elements import DEFAULT_BUDGETS, Budgets
from dicom2fhir.sop_classes import INSTANCE_AVAILABILITY_NOTIFICATION, MODALITY_PERFORMED_PROCEDURE_STEP

if TYPE_CHECKING:
    from dicom2fhir.receive.dimse.tls import Tls

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Listen:
    """The options of a :class:`~dicom2fhir.receive.dimse.scp.StorageSCP`; only AE titles have limits in the standard.

    Attributes
    ----------
    host
        An address or name of this machine; ``::`` means all addresses, IPv4 too.
    port
        0 means any free port; :attr:`~dicom2fhir.receive.dimse.scp.StorageSCP.address` has the one in use.
    reuse_port
        Whether other processes may listen on the same port (``SO_REUSEPORT``), if they allow it too.
    tls
        Without it connections are not encrypted.
    calling_ae_titles
        Calling AE titles that are accepted; all if empty.
    networks
        IPv4 and IPv6 networks from which connections are accepted; all if empty.
    rejection_notes_from
        Calling AE titles whose rejection notes are applied.
    ian, mpps
        Whether Instance Availability Notifications and Modality Performed Procedure Steps are accepted.
    max_associations, max_associations_per_peer
        More are rejected (transient, local limit exceeded). A peer is an address.
    max_waiting, max_waiting_per_peer
        Connections before and after their association. If there are more, the one that has waited longest is closed.
    acse_timeout_s
        From the connection to the complete association request, including the TLS handshake.
    dimse_timeout_s
        For receiving one PDU, from its first byte to its last, and for the peer to read an answer.
    network_timeout_s
        Longest silence of the peer on an open association.
    min_bytes_per_s
        Lowest average rate of a message that takes longer than ``dimse_timeout_s``.
    max_associate_bytes
        Longest A-ASSOCIATE-RQ.
    max_pdu_bytes
        Longest P-DATA-TF that peers may send; announced to them (PS3.8 D.1).
    max_held_bytes
        For data sets without their Pixel Data, of all associations together; the first MiB of each is not counted.
        Beyond it, instances are refused with A700 (Out of resources), so it is not less than ``budgets.header_bytes``.
    budgets
        Limits for a data set without its Pixel Data.
    """

    host: str = "127.0.0.1"
    port: int = 11112
    reuse_port: bool = False
    tls: Tls | None = None
    ae_title: str = "DICOM2FHIR"
    require_called_ae_title: bool = True
    calling_ae_titles: tuple[str, ...] = ()
    networks: tuple[IpNetwork, ...] = ()
    rejection_notes_from: tuple[str, ...] = ()
    ian: bool = True
    mpps: bool = False
    max_associations: int = 64
    max_associations_per_peer: int = 48
    max_waiting: int = 512
    max_waiting_per_peer: int = 256
    acse_timeout_s: float = 30.0
    dimse_timeout_s: float = 30.0
    network_timeout_s: float = 60.0
    min_bytes_per_s: float = 1024.0
    max_associate_bytes: int = 256 * 1024
    max_pdu_bytes: int = 128 * 1024
    max_held_bytes: int = 128 * 1024 * 1024
    budgets: Budgets = DEFAULT_BUDGETS

    @property
    def normalized(self) -> frozenset[str]:
        """The normalized SOP classes that are accepted."""
        accepted = {INSTANCE_AVAILABILITY_NOTIFICATION: self.ian, MODALITY_PERFORMED_PROCEDURE_STEP: self.mpps}
        return frozenset(sop_class for sop_class, is_accepted in accepted.items() if is_accepted)


def is_within(address: str, networks: tuple[IpNetwork, ...]) -> bool:
    """Whether an address belongs to one of the networks; an IPv4-mapped IPv6 address counts as the IPv4 address."""
    peer = ipaddress.ip_address(plain(address))
    return any(peer in network for network in networks)


def plain(address: str) -> str:
    """An address without its zone; an IPv4-mapped one (RFC 4291 section 2.5.5.2) as the IPv4 address."""
    peer = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped:
        peer = peer.ipv4_mapped
    return str(peer)
