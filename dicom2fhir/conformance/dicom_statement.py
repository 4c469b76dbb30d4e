"""A DICOM Conformance Statement of the receiver, with the headings of PS3.2 annex A (edition 2020).

Editions from 2023 on have another template (annex N).
"""

from __future__ import annotations

from pydicom._uid_dict import UID_dictionary

from dicom2fhir import __version__
from dicom2fhir.conformance.document import Document, Section, Table
from dicom2fhir.dicom.attributes import taken
from dicom2fhir.dicom.character_sets import defined_terms
from dicom2fhir.receive.dimse.command_set import NORMALIZED_STATUSES, STORAGE_STATUSES, Statuses
from dicom2fhir.receive.dimse.negotiation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, is_storage
from dicom2fhir.receive.dimse.options import Listen
from dicom2fhir.receive.dimse.tls import cipher_suites
from dicom2fhir.sop_classes import (
    INSTANCE_AVAILABILITY_NOTIFICATION,
    MODALITY_PERFORMED_PROCEDURE_STEP,
    VERIFICATION,
)

_SERVICES = {
    INSTANCE_AVAILABILITY_NOTIFICATION: "N-CREATE",
    MODALITY_PERFORMED_PROCEDURE_STEP: "N-CREATE, N-SET",
}
_SUCCESS = ("0000", "Success", "What was sent is on disk")


def storage_sop_classes() -> dict[str, str]:
    """The SOP classes that are accepted for C-STORE and have a name: UID -> name."""
    return {uid: name for uid, (name, *_) in UID_dictionary.items() if name and _is_named_storage(uid)}


def _is_named_storage(uid: str) -> bool:
    return UID_dictionary[uid][1] == "SOP Class" and is_storage(uid)


def transfer_syntaxes() -> dict[str, str]:
    """The transfer syntaxes of PS3.6, all of which are accepted: UID -> name."""
    return {uid: name for uid, (name, kind, *_) in UID_dictionary.items() if kind == "Transfer Syntax"}


def statement(listen: Listen, date: str) -> Document:
    """The statement of a receiver with these options.

    Parameters
    ----------
    date
        Of the statement, such as ``2026-01-31``.
    """
    return Document(
        f"DICOM Conformance Statement: dicom2fhir {__version__}",
        (
            *_overview(listen, date),
            *_introduction(),
            *_networking(listen),
            Section("5", "Media Interchange", ("Application profiles of media are not supported. Files of PS3.10 are"
                    " read from folders; a DICOMDIR is not.",)),
            Section("6", "Support of Character Sets", (_character_sets(),)),
            *_security(listen),
            *_annexes(),
        ),
    )  # fmt: skip


def _overview(listen: Listen, date: str) -> tuple[Section, ...]:
    rows = [("Verification", "No", "Yes"), ("Storage", "No", "Yes")]
    rows += [(UID_dictionary[uid][0], "No", "Yes") for uid in sorted(listen.normalized)]
    return (
        Section(
            "1",
            "Conformance Statement Overview",
            (
                f"dicom2fhir {__version__} receives SOP instances and writes FHIR resources, ImagingStudy first, to"
                f" FHIR servers. This statement was generated on {date} from the program and its configuration.",
                Table(("Network service", "As user (SCU)", "As provider (SCP)"), tuple(rows)),
            ),
        ),
        Section("2", "Table of Contents", ("At the beginning of this document.",)),
    )


def _introduction() -> tuple[Section, ...]:
    return (
        Section("3", "Introduction", ("The headings are those of PS3.2 annex A in the edition of 2020.",)),
        Section("3.1", "Audience", ("Engineers who connect modalities, archives and other senders.",)),
        Section(
            "3.2",
            "Remarks",
            (
                "Conformance does not guarantee that two systems work together. The bridge is no archive: it keeps no"
                " pixel data and offers no storage commitment, so that its Success is no reason to delete images.",
            ),
        ),
    )


def _networking(listen: Listen) -> tuple[Section, ...]:
    return (
        Section("4", "Networking"),
        Section("4.1", "Implementation Model", (
            "One application entity listens. It stores what the mapping to FHIR uses of each data set, and then sends"
            " Success. Delivery to FHIR servers is independent of the association.",)),
        Section("4.2", f"AE Specification: {listen.ae_title}"),
        Section("4.2.1", "SOP Classes", _sop_classes(listen)),
        Section("4.2.2", "Association Policies", _association_policies(listen)),
        Section("4.2.3", "Association Initiation Policy", ("The daemon initiates no associations. The command"
                " dicom2fhir echo sends a C-ECHO.",)),
        Section("4.2.4", "Association Acceptance Policy", _acceptance(listen)),
        Section("4.2.5", "Presentation Contexts", _presentation_contexts()),
        Section("4.2.6", "SOP Specific Conformance: Storage", (
            "Level of support: 0. The attributes of annex 8.1 are kept; nothing is coerced. Instances cannot be"
            " retrieved. A repeated instance gets Success.",
            _statuses(STORAGE_STATUSES))),
        *_normalized_conformance(listen),
        Section("4.3", "Network Interfaces", (f"TCP over IPv4 and IPv6. Address: {listen.host}.",)),
        Section("4.4", "Configuration", (_parameters(listen),)),
    )  # fmt: skip


def _sop_classes(listen: Listen) -> tuple[str | Table, ...]:
    rows = [(UID_dictionary[VERIFICATION][0], VERIFICATION, "C-ECHO")]
    rows += [(UID_dictionary[uid][0], uid, _SERVICES[uid]) for uid in sorted(listen.normalized)]
    rows += [(name, uid, "C-STORE") for uid, name in sorted(storage_sop_classes().items(), key=lambda item: item[1])]
    return (
        "All as SCP. Private storage SOP classes, and those that are newer than the dictionary of the program, are"
        " accepted for C-STORE as well.",
        Table(("SOP class", "UID", "Service"), tuple(rows)),
    )


def _association_policies(listen: Listen) -> tuple[str | Table, ...]:
    rows = (
        ("Application context name", "1.2.840.10008.3.1.1.1"),
        ("Simultaneous associations", str(listen.max_associations)),
        ("Simultaneous associations of one address", str(listen.max_associations_per_peer)),
        ("Maximum length received (PDU)", f"{listen.max_pdu_bytes} bytes"),
        ("Outstanding asynchronous operations", "1 (not negotiated otherwise)"),
        ("Implementation class UID", IMPLEMENTATION_CLASS_UID),
        ("Implementation version name", IMPLEMENTATION_VERSION_NAME),
    )
    return (Table(("Property", "Value"), rows),)


def _acceptance(listen: Listen) -> tuple[str | Table, ...]:
    called = listen.ae_title if listen.require_called_ae_title else "any"
    rows = (
        ("Called AE title", called),
        ("Calling AE titles", ", ".join(listen.calling_ae_titles) or "any"),
        ("Networks", ", ".join(map(str, listen.networks)) or "any"),
        ("Rejection notes are applied from", ", ".join(sorted(listen.rejection_notes_from)) or "nobody"),
    )
    return ("Other associations are rejected.", Table(("Condition", "Accepted"), rows))


def _presentation_contexts() -> tuple[str | Table, ...]:
    rows = sorted(transfer_syntaxes().items(), key=lambda item: item[1])
    return (
        "For each SOP class the first transfer syntax that the sender proposes is accepted, a private one only if there"
        " is no other. Pixel data is not decoded. Role selection: the requestor is SCU.",
        Table(("Transfer syntax", "UID"), tuple((name, uid) for uid, name in rows)),
    )


def _normalized_conformance(listen: Listen) -> tuple[Section, ...]:
    if not listen.normalized:
        return ()
    names = " and ".join(UID_dictionary[uid][0] for uid in sorted(listen.normalized))
    return (Section("4.2.7", f"SOP Specific Conformance: {names}", (_statuses(NORMALIZED_STATUSES),)),)


def _statuses(statuses: Statuses) -> Table:
    rows = [_SUCCESS]
    rows += [
        (f"{code:04X}", meaning, (kind.__doc__ or "").strip().partition("\n")[0]) for kind, code, meaning in statuses
    ]
    return Table(("Status", "Meaning", "When"), tuple(rows))


def _parameters(listen: Listen) -> Table:
    rows = (
        ("AE title", listen.ae_title),
        ("Port", str(listen.port)),
        ("Time for the association request", f"{listen.acse_timeout_s:g} s"),
        ("Time for one PDU", f"{listen.dimse_timeout_s:g} s"),
        ("Longest silence on an association", f"{listen.network_timeout_s:g} s"),
        ("Longest association request", f"{listen.max_associate_bytes} bytes"),
        ("Longest data set without pixel data", f"{listen.budgets.header_bytes} bytes"),
    )
    return Table(("Parameter", "Value"), rows)


def _character_sets() -> Table:
    return Table(("Specific Character Set (0008,0005)",), tuple((term,) for term in defined_terms()))


def _security(listen: Listen) -> tuple[Section, ...]:
    if listen.tls is None:
        said: tuple[str | Table, ...] = ("Connections are not encrypted: receiver.tls_certificate is not set.",)
    else:
        client = "required" if listen.tls.client_ca else "not requested"
        said = (
            f"The BCP 195 profiles of PS3.15 sections B.12 and B.13. Certificates of senders: {client}.",
            Table(("Protocol", "Cipher suite"), tuple(cipher_suites())),
        )
    return (
        Section("7", "Security"),
        Section("7.1", "Security Profiles", said),
        Section("7.2", "Association Level Security", ("By AE title, by address and by certificate (4.2.4, 7.1).",)),
        Section("7.3", "Application Level Security", ("None. Logs contain no names, birth dates or patient ids.",)),
    )


def _annexes() -> tuple[Section, ...]:
    rows = tuple((f"({one.tag >> 16:04X},{one.tag & 0xFFFF:04X})", one.keyword, one.vr) for one in taken())
    return (
        Section("8", "Annexes"),
        Section("8.1", "IOD Contents", (
            "No IOD is created. These attributes are read, with sequences of documents and reports beside them:",
            Table(("Tag", "Attribute", "VR"), rows))),
        Section("8.2", "Data Dictionary of Private Attributes", ("None is written, none is read.",)),
        Section("8.3", "Coded Terminology and Templates", ("As received; see the mapping.",)),
        Section("8.4", "Grayscale Image Consistency", ("Not applicable.",)),
        Section("8.5", "Standard Extended, Specialized and Private SOP Classes", ("All are accepted (4.2.1).",)),
        Section("8.6", "Private Transfer Syntaxes", ("Accepted if no other is proposed (4.2.5).",)),
    )  # fmt: skip
