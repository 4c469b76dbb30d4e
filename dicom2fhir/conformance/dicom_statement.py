"""A DICOM Conformance Statement of the receiver, after the template of PS3.2 annex N (edition 2024b).

By the template, a section that does not apply says N/A and its subsections may be left out, tables list only what is
supported, and what is added stands at the end of its section.
"""

from __future__ import annotations

from pydicom._uid_dict import UID_dictionary

from dicom2fhir import __version__
from dicom2fhir.conformance.document import Section, StatementDocument, Table
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

_SOP_CLASS_COLUMNS = ("SOP class", "UID", "SCU", "SCP")
_SUCCESS = ("0000", "Success", "What was sent is on disk")


def storage_sop_classes() -> dict[str, str]:
    """The SOP classes that are accepted for C-STORE and have a name: UID -> name."""
    return {uid: name for uid, (name, *_) in UID_dictionary.items() if name and _is_named_storage(uid)}


def _is_named_storage(uid: str) -> bool:
    return UID_dictionary[uid][1] == "SOP Class" and is_storage(uid)


def transfer_syntaxes() -> dict[str, str]:
    """The transfer syntaxes of PS3.6, all of which are accepted: UID -> name."""
    return {uid: name for uid, (name, kind, *_) in UID_dictionary.items() if kind == "Transfer Syntax"}


def statement(listen: Listen, date: str) -> StatementDocument:
    """The statement of a receiver with these options.

    Parameters
    ----------
    date
        Of the statement, such as ``2026-01-31``.
    """
    return StatementDocument(
        f"DICOM Conformance Statement: dicom2fhir {__version__}, {date}",
        (
            *_overview(listen),
            Section("2", "Table of Contents", ("At the beginning of this document.",)),
            *_introduction(),
            *_implementation_model(listen),
            *_services(listen),
            *_configuration(listen),
            *_communication(listen),
            *_security(listen),
            *_annexes(),
        ),
    )


def _not_applicable(number: str, title: str) -> Section:
    return Section(number, f"{title} - N/A", ("N/A",))


def _overview(listen: Listen) -> tuple[Section, ...]:
    return (
        Section("1", "Overview", (
            f"dicom2fhir {__version__} receives SOP instances and writes FHIR resources, ImagingStudy first, to"
            " FHIR servers. This statement was generated from the program and its configuration.",)),
        Section("1.1", "Content and Transfer", _content_and_transfer()),
        Section("1.2", "DIMSE Services"),
        Section("1.2.1", "Verification", (
            Table(_SOP_CLASS_COLUMNS, ((UID_dictionary[VERIFICATION][0], VERIFICATION, "N", "Y"),)),)),
        Section("1.2.2", "Storage", ("See 1.1.",)),
        _workflow(listen),
        _not_applicable("1.2.4", "Query/Retrieve"),
        _not_applicable("1.2.5", "Printing"),
        _not_applicable("1.3", "DICOM Web Services"),
        _not_applicable("1.4", "Media Services"),
        _not_applicable("1.5", "Real-Time Video Service"),
        _not_applicable("1.6", "De-identification Profiles"),
        Section("1.7", "Specific Character Sets", (_character_sets(),)),
    )  # fmt: skip


def _content_and_transfer() -> tuple[str | Table, ...]:
    sop_classes = tuple((name, uid, "N", "Y", "N", "N", "Y", "N") for uid, name in storage_sop_classes().items())
    syntaxes = sorted(transfer_syntaxes().items(), key=lambda item: item[1])
    return (
        "Private storage SOP classes, and those that are newer than the dictionary of the program, are accepted as"
        " well. Process: values of the header become FHIR resources. Nothing is archived.",
        Table(
            ("SOP class", "UID", "DIMSE SCU", "DIMSE SCP", "Create", "Display", "Process", "Archive"),
            tuple(sorted(sop_classes, key=lambda row: _in_numerical_order(row[1]))),
        ),
        "Each SOP class is accepted in each of these transfer syntaxes. Pixel data is not decoded.",
        Table(("Transfer syntax", "UID"), tuple((name, uid) for uid, name in syntaxes)),
    )


def _in_numerical_order(uid: str) -> list[int]:
    return [int(part) for part in uid.split(".")]


def _workflow(listen: Listen) -> Section:
    rows = tuple((UID_dictionary[uid][0], uid, "N", "Y") for uid in sorted(listen.normalized))
    if not rows:
        return _not_applicable("1.2.3", "Workflow Management")
    return Section("1.2.3", "Workflow Management", (Table(_SOP_CLASS_COLUMNS, rows),))


def _introduction() -> tuple[Section, ...]:
    return (
        Section("3", "Introduction"),
        Section("3.1", "Revision History", ("The statement is generated; the history of the program is its"
                " CHANGELOG.",)),
        Section("3.2", "Audience", ("Engineers who connect modalities, archives and other senders.",)),
        Section("3.3", "Remarks", (
            "Conformance does not guarantee that two systems work together. The bridge is no archive: it keeps no"
            " pixel data and offers no storage commitment, so that its Success is no reason to delete images.",)),
        Section("3.4", "Terms and Definitions", ("Those of PS3.2.",)),
        Section("3.5", "Abbreviations", ("Those of PS3.2. FHIR: Fast Healthcare Interoperability Resources.",)),
        Section("3.6", "References", (
            "DICOM PS3, of which the template is PS3.2 annex N, edition 2024b. HL7 FHIR, http://hl7.org/fhir.",)),
    )  # fmt: skip


def _implementation_model(listen: Listen) -> tuple[Section, ...]:
    return (
        Section("4", "Implementation Model"),
        Section("4.1", "Application Entities and Data Flow", (
            "Senders (Storage SCU) - association -> one application entity -> store -> FHIR servers. Delivery to FHIR"
            " servers is independent of the association.",)),
        Section("4.1.1", f"Functional Definition of {listen.ae_title}", (
            "It listens for associations, stores what the mapping to FHIR uses of each data set, and then sends"
            " Success.",)),
    )  # fmt: skip


def _services(listen: Listen) -> tuple[Section, ...]:
    rows = [("Verification", listen.ae_title, "SCP"), ("Storage", listen.ae_title, "SCP")]
    rows += [(UID_dictionary[uid][0], listen.ae_title, "SCP") for uid in sorted(listen.normalized)]
    return (
        Section("5", "Service and Interoperability Description"),
        Section("5.1", "Mapping of Services to Application Entities", (
            Table(("Service", "Application entity", "Role"), tuple(rows)),)),
        Section("5.2", "DIMSE Services"),
        _not_applicable("5.2.1", "Basic Worklist Management Service"),
        *_normalized_service(listen, MODALITY_PERFORMED_PROCEDURE_STEP, "5.2.2", (
            "N-CREATE and N-SET. The step says that the study exists, when it has ended, and which instances belong"
            " to it. A repeated request gets Success.")),
        _not_applicable("5.2.3", "Unified Worklist and Procedure Step Service"),
        *_normalized_service(listen, INSTANCE_AVAILABILITY_NOTIFICATION, "5.2.4", (
            "N-CREATE. ONLINE, NEARLINE, OFFLINE and UNAVAILABLE become the availability of series and study, and the"
            " Retrieve URL or AE title where they can be retrieved. Instances need not be known.")),
        Section("5.2.5", "Storage Service"),
        Section("5.2.5.2", "SCP of the Storage SOP Classes", (
            "Level of conformance: 0. The attributes of annex A.D are kept; no attribute is coerced. Instances cannot"
            " be retrieved. An instance that is stored already gets Success, and replaces the one before.",)),
        _not_applicable("5.2.6", "Storage Commitment Service"),
        _not_applicable("5.2.7", "Query/Retrieve Service Class"),
        _not_applicable("5.2.8", "Print Management Service"),
        _not_applicable("5.3", "DICOM Web Services"),
        Section("5.4", "Media Services - N/A", ("N/A. Files of PS3.10 are read from folders; a DICOMDIR is not.",)),
        _not_applicable("5.5", "Real-Time Video Services"),
        Section("5.6", "Cross Service Considerations", (
            "Instances, notifications and procedure steps of one study are brought together by its Study Instance UID,"
            " in whatever order they come.",)),
        Section("5.7", "Specific Character Sets", (
            "Text is decoded from the character set that the data set names (1.7), and written as UTF-8.",)),
    )  # fmt: skip


def _normalized_service(listen: Listen, sop_class: str, number: str, text: str) -> tuple[Section, ...]:
    title = f"{UID_dictionary[sop_class][0].removesuffix(' SOP Class')} Service"
    if sop_class not in listen.normalized:
        return (_not_applicable(number, title),)
    return (Section(number, title), Section(f"{number}.2", f"SCP of the {UID_dictionary[sop_class][0]}", (text,)))


def _configuration(listen: Listen) -> tuple[Section, ...]:
    return (
        Section("6", "Configuration"),
        Section("6.1", "General Configuration Parameters", (
            Table(("Parameter", "Value"), (("AE title", listen.ae_title), ("Port", str(listen.port)))),)),
        Section("6.2", "Configuration of DIMSE Services", (_parameters(listen),)),
        _not_applicable("6.3", "Configuration of DICOM Web Services"),
        _not_applicable("6.4", "Configuration of Media Storage Service"),
        _not_applicable("6.5", "Configuration of Real-Time Video Service"),
        _not_applicable("6.6", "Configuration of Audit Trail - Syslog"),
    )  # fmt: skip


def _parameters(listen: Listen) -> Table:
    rows = (
        ("Time for the association request", f"{listen.acse_timeout_s:g} s"),
        ("Time for one PDU", f"{listen.dimse_timeout_s:g} s"),
        ("Longest silence on an association", f"{listen.network_timeout_s:g} s"),
        ("Longest association request", f"{listen.max_associate_bytes} bytes"),
        ("Longest data set without pixel data", f"{listen.budgets.header_bytes} bytes"),
        ("Rejection notes are applied from", ", ".join(sorted(listen.rejection_notes_from)) or "nobody"),
    )
    return Table(("Parameter", "Value"), rows)


def _communication(listen: Listen) -> tuple[Section, ...]:
    return (
        Section("7", "Network and Media Communication Details"),
        Section("7.1", "General", (f"TCP over IPv4 and IPv6. Address: {listen.host}.",)),
        Section("7.1.1", "General Association Parameters", (_association_parameters(listen),)),
        Section("7.2", "Specifications"),
        Section("7.2.1", f"{listen.ae_title} Application Entity"),
        Section("7.2.1.1", f"Sequencing of Real-World Activities for {listen.ae_title}", (
            "None is required.",)),
        Section("7.2.1.2", f"Association Parameters of {listen.ae_title}", ("Those of 7.1.1.",)),
        Section("7.2.1.3", "Association Initiation", (
            "The daemon initiates no associations. The command dicom2fhir echo sends a C-ECHO.",)),
        Section("7.2.1.4", "Association Acceptance", _acceptance(listen)),
        Section("7.3", "Status Codes"),
        Section("7.3.1", "General AE Communication and Failure Behavior and Handling"),
        _not_applicable("7.3.1.1", "Communication Failure Behavior as Association Initiator"),
        Section("7.3.1.2", "Communication Failure Handling as Association Acceptor", (
            "The association ends. What was answered with Success stays; what was not is sent again by the sender.",)),
        Section("7.3.2", "DIMSE Services"),
        *_normalized_statuses(listen, MODALITY_PERFORMED_PROCEDURE_STEP, "7.3.2.2"),
        *_normalized_statuses(listen, INSTANCE_AVAILABILITY_NOTIFICATION, "7.3.2.4"),
        Section("7.3.2.5", "Storage Service", (_statuses(STORAGE_STATUSES),)),
    )  # fmt: skip


def _association_parameters(listen: Listen) -> Table:
    rows = (
        ("Application context name", "1.2.840.10008.3.1.1.1"),
        ("Simultaneous associations", str(listen.max_associations)),
        ("Simultaneous associations of one address", str(listen.max_associations_per_peer)),
        ("Maximum length received (PDU)", f"{listen.max_pdu_bytes} bytes"),
        ("Outstanding asynchronous operations", "1 (not negotiated otherwise)"),
        ("Implementation class UID", IMPLEMENTATION_CLASS_UID),
        ("Implementation version name", IMPLEMENTATION_VERSION_NAME),
    )
    return Table(("Property", "Value"), rows)


def _acceptance(listen: Listen) -> tuple[str | Table, ...]:
    called = listen.ae_title if listen.require_called_ae_title else "any"
    rows = (
        ("Called AE title", called),
        ("Calling AE titles", ", ".join(listen.calling_ae_titles) or "any"),
        ("Networks", ", ".join(map(str, listen.networks)) or "any"),
    )
    return (
        "Other associations are rejected.",
        Table(("Condition", "Accepted"), rows),
        "For each SOP class the first transfer syntax that the sender proposes is accepted, a private one only if there"
        " is no other. Role selection: the requestor is SCU.",
    )


def _normalized_statuses(listen: Listen, sop_class: str, number: str) -> tuple[Section, ...]:
    title = f"{UID_dictionary[sop_class][0].removesuffix(' SOP Class')} Service"
    if sop_class not in listen.normalized:
        return (_not_applicable(number, title),)
    return (Section(number, title, (_statuses(NORMALIZED_STATUSES),)),)


def _statuses(statuses: Statuses) -> Table:
    rows = [_SUCCESS]
    rows += [
        (f"{code:04X}", meaning, (kind.__doc__ or "").strip().partition("\n")[0]) for kind, code, meaning in statuses
    ]
    return Table(("Status", "Meaning", "When"), tuple(rows))


def _character_sets() -> Table:
    return Table(("Specific Character Set (0008,0005)",), tuple((term,) for term in defined_terms()))


def _security(listen: Listen) -> tuple[Section, ...]:
    port = f"{listen.port}, {'plain' if listen.tls is None else 'TLS'}"
    return (
        Section("8", "Security"),
        Section("8.1", "Introduction", ("Logs contain no names, birth dates or patient ids.",)),
        Section("8.2", "External Network Requirements", ("None.",)),
        Section("8.3", "TCP Port Configuration", (Table(("Service", "Port"), (("DIMSE", port),)),)),
        Section("8.4", "DICOM Security Profiles Support"),
        _not_applicable("8.4.1", "Secure Use and User Identity Profiles"),
        _secure_transport(listen),
        _not_applicable("8.4.3", "Media Storage Security Profiles"),
        _not_applicable("8.4.4", "Attribute Confidentiality Profiles"),
        _not_applicable("8.4.5", "Digital Signature Profiles"),
        _not_applicable("8.4.6", "Additional DICOM Security Profiles"),
        _not_applicable("8.5", "User Identity Negotiation Support"),
        _not_applicable("8.6", "Web Services Security Features"),
        Section("8.7", "Other Security Features"),
        _not_applicable("8.7.1", "Media Storage Security"),
        Section("8.7.2", "Network Security", ("By AE title, by address and by certificate (7.2.1.4, 8.4.2).",)),
        Section("8.7.3", "Other Security Features", ("The bytes of a peer are limited (6.2).",)),
    )  # fmt: skip


def _secure_transport(listen: Listen) -> Section:
    title = "Secure Transport Connection Profiles"
    if listen.tls is None:
        return Section("8.4.2", f"{title} - N/A", ("N/A. receiver.tls_certificate is not set.",))
    client = "required" if listen.tls.client_ca else "not requested"
    return Section("8.4.2", title, (
        f"The BCP 195 profiles of PS3.15 sections B.12 and B.13. Certificates of senders: {client}.",
        Table(("Protocol", "Cipher suite"), tuple(cipher_suites())),
    ))  # fmt: skip


def _annexes() -> tuple[Section, ...]:
    rows = tuple((f"({one.tag >> 16:04X},{one.tag & 0xFFFF:04X})", one.keyword, one.vr) for one in taken())
    return (
        Section("A", "Annexes"),
        Section("A.A", "Information Object Definitions (IODs) - N/A", ("N/A. No SOP instance is created.",)),
        Section("A.B", "Structured Report Content Encoding - N/A", ("N/A. No structured report is created.",)),
        _not_applicable("A.C", "Security Details"),
        Section("A.D", "Mapping of Attributes", (
            "These attributes are read, and sequences of documents and reports beside them. No private attribute is"
            " read. The documentation of the mapping names the FHIR elements.",
            Table(("Tag", "Attribute", "VR"), rows))),
        Section("A.E", "Code Set Usage", ("Codes are passed on as received.",)),
    )  # fmt: skip
