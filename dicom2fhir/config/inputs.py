"""The sections of the configuration for inputs: the receiver and watched folders."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from dicom2fhir.config import value_types
from dicom2fhir.config.sections import SettingsTable
from dicom2fhir.dicom.data_elements import DEFAULT_BUDGETS, ELEMENT_BYTES
from dicom2fhir.receive.dimse.options import Listen
from dicom2fhir.receive.folder.options import Afterwards, Watch, WatchMode

_LISTEN, _WATCH = Listen(), Watch(Path())
"""Their fields declare the defaults."""


class ReceiverSettings(SettingsTable):
    """``[receiver]``."""

    enabled: bool = Field(True, description="Whether to listen for C-STORE.")
    host: str = Field(
        _LISTEN.host,
        description="Address to listen on. An address that other machines can reach requires networks,"
        ' calling_ae_titles, tls_client_ca or open = true. "0.0.0.0" and "::" mean all addresses of this'
        " machine.",
    )
    port: int = Field(_LISTEN.port, ge=0, le=65535, description="TCP port to listen on; 0 chooses a free port.")
    ae_title: value_types.AeTitle = Field(_LISTEN.ae_title, description="AE title of the bridge, up to 16 characters.")
    require_called_ae_title: bool = Field(
        _LISTEN.require_called_ae_title,
        description="Whether to reject associations whose called AE title is not ae_title.",
    )
    calling_ae_titles: value_types.AeTitles = Field(
        _LISTEN.calling_ae_titles, description="Calling AE titles that are accepted; empty: all."
    )
    networks: value_types.Networks = Field(
        _LISTEN.networks, description='Networks and addresses that may connect, for example "10.1.0.0/16"; empty: all.'
    )
    open: bool = Field(
        False, description="Whether any peer that can reach the port may send when no list restricts it."
    )
    tls_certificate: value_types.OptionalPath = Field(
        None,
        description="TLS certificate with its chain, a PEM file. If it is set, only TLS connections are accepted (1.2"
        " or later, PS3.15 B.12). Empty: no TLS.",
        examples=["/etc/dicom2fhir/tls.crt"],
    )
    tls_key: value_types.OptionalPath = Field(
        None,
        description="Private key of tls_certificate, a PEM file without passphrase. Empty: the key is in the"
        " certificate file.",
        examples=["/etc/dicom2fhir/tls.key"],
    )
    tls_client_ca: value_types.OptionalPath = Field(
        None,
        description="CA certificates (PEM) for the certificates of senders. If it is set, every sender must present a"
        " certificate.",
        examples=["/etc/dicom2fhir/modalities-ca.crt"],
    )
    reuse_port: bool = Field(
        _LISTEN.reuse_port,
        description="Whether several bridges, each with its own store, may share the port (SO_REUSEPORT).",
    )
    rejection_notes_from: value_types.AeTitles = Field(
        _LISTEN.rejection_notes_from,
        description="Calling AE titles that may reject: rejection notes (IOCM) that they send are applied. From others"
        " they are key objects like any, and `status` shows that they asked for a rejection. A note can make a whole"
        " study disappear, and AE titles prove nothing: restrict networks or use tls_client_ca as well.",
    )
    ian: bool = Field(
        _LISTEN.ian,
        description="Whether to accept Instance Availability Notifications (N-CREATE): what an archive states of the"
        " availability of instances, and where to retrieve them.",
    )
    mpps: bool = Field(
        _LISTEN.mpps,
        description="Whether to accept Modality Performed Procedure Steps (N-CREATE, N-SET): a study is registered"
        " before its first instance arrives, and sent at once when all instances that its steps list have"
        " arrived.",
    )
    max_associations: int = Field(
        _LISTEN.max_associations,
        ge=1,
        le=10_000,
        description="Largest number of concurrent associations; more are rejected.",
    )
    max_associations_per_peer: int = Field(
        _LISTEN.max_associations_per_peer,
        ge=1,
        le=10_000,
        description="Largest number of concurrent associations from one address, so that one peer cannot use all of"
        " them.",
    )
    max_waiting: int = Field(
        _LISTEN.max_waiting,
        ge=1,
        le=10_000,
        description="Largest number of connections that have not requested an association yet, or whose association"
        " has ended but which are still open. Beyond it, the oldest connection of the address that has"
        " most of them is closed.",
    )
    max_waiting_per_peer: int = Field(
        _LISTEN.max_waiting_per_peer, ge=1, le=10_000, description="The same for one address."
    )
    acse_timeout_s: value_types.Seconds = Field(
        _LISTEN.acse_timeout_s,
        description="Time from connecting to the association request, including the TLS handshake.",
    )
    dimse_timeout_s: value_types.Seconds = Field(
        _LISTEN.dimse_timeout_s,
        description="Time for the rest of a PDU to arrive after its first byte, and for a sender to read a response.",
    )
    network_timeout_s: value_types.Seconds = Field(
        _LISTEN.network_timeout_s, description="Time without data after which an association is aborted."
    )
    min_bytes_per_s: float = Field(
        _LISTEN.min_bytes_per_s,
        ge=0,
        allow_inf_nan=False,
        description="Lowest average rate of a message that takes longer than dimse_timeout_s.",
    )
    max_associate_bytes: int = Field(
        _LISTEN.max_associate_bytes,
        ge=4_096,
        le=16_777_216,
        description="Largest association request (A-ASSOCIATE-RQ).",
    )
    max_pdu_bytes: int = Field(
        _LISTEN.max_pdu_bytes,
        ge=4_096,
        le=16_777_216,
        description="Largest P-DATA-TF PDU that senders may send (PS3.8 D.1).",
    )
    max_header_bytes: int = Field(
        DEFAULT_BUDGETS.header_bytes,
        ge=65_536,
        description="Largest data set up to Pixel Data; a larger one is refused with C000.",
    )
    max_held_bytes: int = Field(
        _LISTEN.max_held_bytes,
        ge=65_536,
        description="Memory for reading and decoding data sets, for all associations and for files that are sent to the"
        " web page to be explained, together; the first MiB of each is not counted. A data set that needs more is"
        " refused with A700, and senders retry.",
    )
    max_elements: int = Field(
        DEFAULT_BUDGETS.elements,
        ge=1_000,
        description="Largest number of elements in a data set up to Pixel Data, including those in sequences, without"
        " frames after the first. Sequences and decoded elements count several times. The limit"
        " corresponds to a quarter of a second of processor time at most. The data set of an N-CREATE"
        " or N-SET may have four times as many.",
    )
    max_sequence_depth: int = Field(DEFAULT_BUDGETS.depth, ge=4, le=100, description="Deepest nesting of sequences.")
    max_value_bytes: int = Field(
        DEFAULT_BUDGETS.value_bytes,
        ge=1_024,
        description="Largest value; a longer one is left out, with a note that names its attribute.",
    )
    max_inflated_bytes: int = Field(
        DEFAULT_BUDGETS.inflated_bytes,
        ge=65_536,
        description="Largest deflated data set up to Pixel Data, after inflating.",
    )

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        rules = self.networks or self.calling_ae_titles or self.tls_client_ca
        if self.enabled and not (rules or self.open or value_types.is_loopback(self.host)):
            raise ValueError(
                f"host = {self.host!r} can be reached by other machines: restrict senders with networks = [...] or"
                " calling_ae_titles = [...], or set open = true, or listen on 127.0.0.1"
            )
        if (self.tls_key or self.tls_client_ca) and not self.tls_certificate:
            raise ValueError("tls_certificate must be set, because tls_key or tls_client_ca is")
        largest = ELEMENT_BYTES * self.max_elements + 4 * self.max_value_bytes
        if self.max_held_bytes < largest:
            raise ValueError(
                f"max_held_bytes must not be less than {largest}: data sets of max_elements and max_value_bytes would"
                " always be refused"
            )
        return self


class FolderSettings(SettingsTable):
    """``[folders.NAME]``."""

    path: value_types.LocalPath = Field(
        description="The folder to watch, with all its subfolders.", examples=["/srv/dicom/inbox"]
    )
    watch: WatchMode = Field(
        _WATCH.mode,
        description="How new files are detected: by file system events (native), by polling (poll, for network"
        " shares), or by whichever works (auto).",
    )
    stable_s: value_types.Seconds = Field(
        _WATCH.stable_s,
        description="A file is imported when its size and modification time have not changed for this long.",
    )
    incomplete_s: value_types.Seconds = Field(
        _WATCH.incomplete_s,
        description="A file that ends too early is left alone until it has not changed for this long; then it is"
        " refused. If the end cannot be determined (a data set without pixel data, or deflated), the file"
        " is imported at once, and moved or deleted after this time.",
    )
    rescan_s: value_types.Seconds = Field(_WATCH.rescan_s, description="How often the whole folder is scanned.")
    poll_s: value_types.Seconds = Field(_WATCH.poll_s, description="The same when polling.")
    ignore: value_types.Texts = Field(
        _WATCH.ignore,
        description="Names (or paths below the folder) of files and folders to ignore; * ? [] work as in a shell.",
    )
    afterwards: Afterwards = Field(
        _WATCH.afterwards, description="What to do with a file after its import; move requires move_to."
    )
    move_to: value_types.OptionalPath = Field(
        _WATCH.move_to,
        description='Folder for imported files when afterwards = "move"; it must not be inside a watched folder.',
    )
    rejected_to: value_types.OptionalPath = Field(
        _WATCH.rejected_to,
        description="Folder for refused files, each with a reason file; it must not be inside a watched folder."
        " Empty: refused files stay where they are, and the reason is in the store.",
    )
    rejection_notes: bool = Field(
        _WATCH.rejection_notes,
        description="Whether rejection notes (IOCM) in the folder are applied; else they are key objects like any.",
    )
    max_file_bytes: int = Field(_WATCH.max_file_bytes, ge=1, description="Largest file; a larger one is refused.")

    @model_validator(mode="after")
    def _movable(self) -> Self:
        if self.afterwards == "move" and self.move_to is None:
            raise ValueError('move_to must be set, because afterwards = "move"')
        return self
