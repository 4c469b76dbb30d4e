from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from dicom2fhir.config import (
    FhirDestinationSettings,
    FileDestinationSettings,
    FolderSettings,
    Settings,
    example,
    load,
    require_inputs_and_destinations,
    warnings,
)
from dicom2fhir.config.destinations import option_names
from dicom2fhir.config.inputs import ReceiverSettings
from dicom2fhir.config.sections import FhirSettings, LogSettings, PacsSettings, StoreSettings
from dicom2fhir.errors import ConfigError
from tests.examples import examples

SECTIONS: dict[tuple[str, ...], type[BaseModel]] = {
    ("receiver",): ReceiverSettings,
    ("store",): StoreSettings,
    ("fhir",): FhirSettings,
    ("pacs",): PacsSettings,
    ("log",): LogSettings,
    ("folders", "a"): FolderSettings,
    ("destinations", "a"): FhirDestinationSettings,
}
PLAIN = [
    (table, name)
    for table, model in SECTIONS.items()
    for name, field in model.model_fields.items()
    if field.annotation is not bool and name != "type"
]
"""Options that are not true or false."""


def nested(key: tuple[str, ...], value: Any) -> dict[str, Any]:
    """``{"receiver": {"port": 1}}``."""
    first, *rest = key
    return {first: nested(tuple(rest), value) if rest else value}


FHIR = {"type": "fhir", "url": "https://fhir.example/fhir"}


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def credentials(folder: Path, **files: str) -> dict[str, str]:
    directory = folder / "credentials"
    directory.mkdir()
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")
    return {"CREDENTIALS_DIRECTORY": str(directory)}


def refusal(
    path: Path | None = None, overrides: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, overrides, environ or {})
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return str(caught.value)


OAUTH2 = '[destinations.a]\nurl = "https://a"\nauth = "oauth2"\n[destinations.a.oauth2]\n'


def fhir(settings: Settings, name: str = "main") -> FhirDestinationSettings:
    destination = settings.destinations[name]
    assert isinstance(destination, FhirDestinationSettings)
    return destination


def test_defaults_need_nothing() -> None:
    settings = load(environ={})
    assert (settings.receiver.host, settings.receiver.port, settings.receiver.ae_title) == (
        "127.0.0.1",
        11112,
        "DICOM2FHIR",
    )
    assert (settings.store.quiet_period_s, settings.store.max_wait_s) == (30, 900)
    assert settings.destinations == {}
    assert settings.fhir.max_instances is None


def test_each_source_wins_over_those_before_it(tmp_path: Path) -> None:
    path = write(tmp_path, '[receiver]\nport = 1\n[destinations.main]\nurl = "https://a.example"\nauth = "bearer"\n')
    credential = credentials(tmp_path, receiver__port="2\n", destinations__main__token="hush\n")
    variable = {"DICOM2FHIR_RECEIVER__PORT": "3", "DICOM2FHIR_DESTINATIONS__MAIN__URL": "https://b.example"}
    flags = {"receiver": {"port": 4, "host": None}, "destinations": {"main": {"url": "https://c.example/"}}}
    from_file = load(write(tmp_path, path.read_text().replace('auth = "bearer"', "")), environ={})
    assert (from_file.receiver.port, fhir(from_file).url) == (1, "https://a.example")
    path = write(tmp_path, '[receiver]\nport = 1\n[destinations.main]\nurl = "https://a.example"\nauth = "bearer"\n')
    with_credentials = load(path, environ=credential)
    assert (with_credentials.receiver.port, fhir(with_credentials).url) == (2, "https://a.example")
    assert fhir(with_credentials).secret() == "hush"
    with_variables = load(path, environ=credential | variable)
    assert (with_variables.receiver.port, fhir(with_variables).url) == (3, "https://b.example")
    with_flags = load(path, flags, credential | variable)
    assert (with_flags.receiver.port, fhir(with_flags).url) == (4, "https://c.example")
    assert with_flags.receiver.host == "127.0.0.1"
    assert fhir(with_flags).secret() == "hush"


def test_the_environment_of_the_process_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DICOM2FHIR_LOG__LEVEL", "debug")
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path / 'one'}:{tmp_path / 'two'}")
    settings = load()
    assert settings.log.level == "debug"
    assert settings.store.directory == tmp_path / "one"
    assert Settings().log.level == "info"


def test_whether_the_mapping_is_configured() -> None:
    assert not load(
        overrides={"store": {"quiet_period_s": 1}, "fhir": {"version": None}}, environ={}
    ).configures_mapping
    assert load(overrides={"fhir": {"time_zone": "Europe/Paris"}}, environ={}).configures_mapping
    assert load(overrides={"systems": {"study_id": "urn:oid:1.2"}}, environ={}).configures_mapping
    assert load(overrides={"pacs": {"dicomweb_url": "https://pacs.example/dicom-web"}}, environ={}).configures_mapping


def test_defaults_are_right_without_a_check() -> None:
    settings = Settings()
    for name in ("receiver", "store", "fhir", "systems", "pacs", "log"):
        section = getattr(settings, name)
        assert type(section).model_validate(section.model_dump()) == section


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"STATE_DIRECTORY": "/var/lib/x"}, "/var/lib/x"),
        ({"XDG_STATE_HOME": "/home/a/state"}, "/home/a/state/dicom2fhir"),
        ({"STATE_DIRECTORY": "/var/lib/x", "DICOM2FHIR_STORE__DIRECTORY": "/srv/y"}, "/srv/y"),
    ],
)
def test_state_directory(environ: dict[str, str], expected: str) -> None:
    assert load(environ=environ).store.directory == Path(expected)


def test_variables_give_lists_tables_names_and_case() -> None:
    settings = load(
        overrides={"destinations": {"my-pacs": FHIR}},
        environ={
            "DICOM2FHIR_RECEIVER__NETWORKS": "10.0.0.0/8, fd00::/8",
            "DICOM2FHIR_RECEIVER__CALLING_AE_TITLES": '["CT 1", "MR1"]',
            "DICOM2FHIR_SYSTEMS__PATIENT_ID__Hosp": "urn:oid:1.2",
            "DICOM2FHIR_SYSTEMS__ACCESSION_NUMBER": '{"RIS A": "urn:oid:1.3"}',
            "DICOM2FHIR_FHIR__MAX_INSTANCES": "none",
            "DICOM2FHIR_RECEIVER__OPEN": "yes",
        },
    )
    assert settings.receiver.networks == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert settings.receiver.calling_ae_titles == ("CT 1", "MR1")
    assert settings.systems.patient_id == {"Hosp": "urn:oid:1.2"}
    assert settings.systems.accession_number == {"RIS A": "urn:oid:1.3"}
    assert settings.fhir.max_instances is None
    assert settings.receiver.open is True


def test_a_variable_reaches_a_name_with_hyphen(tmp_path: Path) -> None:
    path = write(tmp_path, '[destinations.my-pacs]\nurl = "https://a.example"\n')
    settings = load(path, environ={"DICOM2FHIR_DESTINATIONS__MY_PACS__WORKERS": "3"})
    assert fhir(settings, "my-pacs").workers == 3


def test_service_links_of_kubernetes_are_not_options() -> None:
    load(
        environ={
            "DICOM2FHIR_SERVICE_HOST": "10.0.0.1",
            "DICOM2FHIR_SERVICE_PORT_DICOM": "11112",
            "DICOM2FHIR_PORT": "tcp://10.0.0.1:11112",
            "DICOM2FHIR_PORT_11112_TCP_ADDR": "10.0.0.1",
        }
    )
    assert 'did you mean "receiver.port"?' in refusal(environ={"DICOM2FHIR_PORT": "11113"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[receiver]\n\nprot = 1", 'receiver.prot: unknown option; did you mean "port"? (FILE, line 3)'),
        ("port = 1", 'port: unknown option; did you mean "receiver.port"? (FILE, line 1)'),
        ("[reciever]\nport = 1", 'reciever: unknown option; did you mean "receiver"? (FILE, line 1)'),
        ("_env_file = 'x'", "_env_file: unknown option (FILE, line 1)"),
        (
            '[destinations.a]\ntype = "file"\ndirectory = "/x"\nurl = "http://s3cret"',
            'destinations.a.url: unknown option; did you mean "destinations.NAME.url"? (FILE, line 4)',
        ),
        (
            '[folders.a]\npath = "/x"\nafterward = "keep"',
            'folders.a.afterward: unknown option; did you mean "afterwards"? (FILE, line 3)',
        ),
        ("[systems.patients]\nA = 'urn:oid:1.2'", "systems.patients: unknown option"),
        ("receiver = 5", "receiver = 5: must be a table, [receiver] (FILE, line 1)"),
        ("destinations.a = 5", "destinations.a = 5: must be a table, [destinations.a] (FILE, line 1)"),
        ("[receiver]\nport = 70000", "receiver.port = 70000: must be less than or equal to 65535 (FILE, line 2)"),
        ('[receiver]\nport = "x\\u001b"', 'receiver.port = "x\\u001b": must be a valid integer'),
        ('[receiver]\nae_title = "A\\\\B"', 'receiver.ae_title = "A\\\\B": must be 1 to 16 ASCII characters'),
        ('[receiver]\nae_title = "12345678901234567"', "must be 1 to 16 ASCII characters"),
        ('[receiver]\ncalling_ae_titles = ["A", " "]', 'receiver.calling_ae_titles.1 = " ": must be 1 to 16'),
        ('[receiver]\nnetworks = ["10.1.2.3/8"]', 'receiver.networks.0 = "10.1.2.3/8": has bits set after the prefix;'),
        ('[receiver]\nnetworks = ["ten"]', "must be an address or a network such as"),
        ('[receiver]\nnetworks = "[1"', "must be a JSON list or values separated by commas"),
        ("[receiver]\nnetworks = [true]", "must be an address or a network such as"),
        ("[receiver]\nnetworks = [1]", "must be an address or a network such as"),
        ("[receiver]\nport = true", "receiver.port = true: must not be true or false (FILE, line 2)"),
        ("[receiver]\nacse_timeout_s = true", "receiver.acse_timeout_s = true: must not be true or false"),
        ("[fhir]\nmax_instances = true", "fhir.max_instances = true: must not be true or false"),
        ("[store]\nmin_free_bytes = false", "store.min_free_bytes = false: must not be true or false"),
        (
            "[destinations.a]\nurl = 'http://x'\nworkers = true",
            "destinations.a.workers = true: must not be true or false",
        ),
        ("[folders.a]\npath = '/x'\nstable_s = true", "folders.a.stable_s = true: must not be true or false"),
        ("[receiver]\nacse_timeout_s = nan", "receiver.acse_timeout_s"),
        ('[receiver]\ntls_key = "/x"', "receiver: tls_certificate must be set, because tls_key or tls_client_ca is"),
        ("[receiver]\nmax_held_bytes = 65536", "receiver: max_held_bytes must not be less than 16194304: data sets"),
        ('[web]\nhost = "0.0.0.0"', "web: host = '0.0.0.0' can be reached by other machines: set token_file"),
        ('[web]\nhost = "0.0.0.0"\ntoken = "short"', "web: token must have at least 16 characters"),
        (
            '[web]\ntoken = "0123456789abcdef"\ntoken_file = "/x"',
            "web: only one of token and token_file may be set",
        ),
        ('[web]\ntls_key = "/x"', "web: tls_certificate must be set, because tls_key is"),
        (
            '[receiver]\nhost = "0.0.0.0"',
            "receiver: host = '0.0.0.0' can be reached by other machines: restrict senders",
        ),
        ("[store]\nmax_wait_s = 10", "store: max_wait_s = 10 must not be less than quiet_period_s = 30"),
        ('[store]\ndirectory = ""', 'store.directory = "": must be a path, not empty'),
        ('[fhir]\nversion = "R7"', "fhir.version = \"R7\": must be 'auto', 'DSTU2', '1.4.0', 'STU3', "),
        ('[fhir]\ntime_zone = "Paris"', 'fhir.time_zone = "Paris": must be an IANA time zone such as'),
        ('[fhir]\ntime_zone = "../etc/passwd"', "must be an IANA time zone"),
        ("[fhir]\nmax_instances = -1", "fhir.max_instances = -1: must be greater than or equal to 0"),
        ('[systems]\npatient_id_default = "hospital"', "must be an absolute URI such as"),
        ('[systems.patient_id]\n"H A" = "urn:oid:1.02"', 'systems.patient_id."H A" = "urn:oid:1.02": must be an OID'),
        ('[systems.patient_id]\nA = "urn:uuid:X"', "must be a UUID in lower case"),
        ('[systems.patient_id]\nA = "urn:x"', 'must be "urn:NAMESPACE:NAME"'),
        ('[systems.patient_id]\nA = "http:x"', "must name a host"),
        ('[systems.patient_id]\nA = ""', "systems.patient_id.A"),
        ('[systems.patient_id]\n"" = "urn:oid:1.2"', "an issuer must not be empty"),
        ('[pacs]\ndicomweb_url = "https://p/dw/studies/"', 'without "/studies" at the end'),
        ('[pacs]\nviewer_url = "https://p/"', "must contain {study_uid} or {accession}"),
        ('[pacs]\nviewer_url = "https://p/{study}"', "must contain {study_uid} or {accession}, and no other braces"),
        ('[pacs]\nviewer_url = "https://p/{study_uid}}"', "and no other braces"),
        ('[pacs]\nviewer_url = "p/{study_uid}"', 'must be a URL such as "https://viewer.example/?study={study_uid}"'),
        ('[pacs]\nretrieve_location_uid = "1.02"', "must be a UID"),
        ('[systems]\norganization_default = "750000001"', "must be an absolute URI and a value"),
        ('[systems.organization]\n"A" = "urn:oid:1.2|"', "must be an absolute URI and a value"),
        ('[pacs]\ndicomweb_url = "ftp://p"', 'must be a URL such as "https://host/fhir"'),
        ("[destinations.Main]\nurl = 'https://a'", "destinations.Main: names consist of a-z, 0-9, - and single _"),
        ("[destinations.a__b]\nurl = 'https://a'", "names consist of"),
        ("[destinations.a]\nworkers = 1", "destinations.a.url: must be set"),
        ('[destinations.a]\ntype = "ftp"', "destinations.a.type = \"ftp\": must be 'fhir' or 'file'"),
        ('[destinations.a]\nurl = "https://a/fhir?x=1"', "must be a base URL, without ? and #"),
        ('[destinations.a]\nurl = "https://a:99999/fhir"', "must be a URL such as"),
        ('[destinations.a]\nurl = "https://a"\nauth = "basic"', "password or password_file must be set, because auth"),
        ('[destinations.a]\nurl = "https://a"\nauth = "basic"', "username must be set"),
        ('[destinations.a]\nurl = "https://a"\nauth = "bearer"', "token or token_file must be set"),
        (f'{OAUTH2}scope = "x"', "oauth2.client_id must be set"),
        (f'{OAUTH2}client_id = "x"', "oauth2.client_secret_file, client_secret or private_key_file must be set"),
        (f'{OAUTH2}client_secret = "x"\nprivate_key_file = "/k"', "only one of a client secret and"),
        (f'{OAUTH2}client_secret = "x"\nclient_secret_file = "/k"', "only one of oauth2.client_secret and"),
        (f'{OAUTH2}client_authentication = "private_key_jwt"', "private_key_file must be set for private_key_jwt"),
        (f'{OAUTH2}client_authentication = "tls_client_auth"', "tls_certificate must be set for tls_client_auth"),
        (f'{OAUTH2}token_url = "ftp://a"', "must be a URL such as"),
        (f'{OAUTH2}client = "x"', 'did you mean "client_id"?'),
        (OAUTH2.replace('"oauth2"', '"none"') + 'client_id = "x"', 'oauth2 is set but auth is "none"'),
        ('[destinations.a]\nurl = "https://a"\ntls_key = "/k"', "tls_certificate must be set with tls_key"),
        ('[destinations.a]\nurl = "https://a"\nheaders = {"X Y" = "1"}', "must be the name of an HTTP header"),
        ('[destinations.a]\nurl = "https://a"\nheaders = {"Accept" = "1"}', "is a header that the bridge sets itself"),
        (
            '[destinations.a]\nurl = "https://a"\nheaders = {"X-Y" = "1"}\nheader_files = {"x-y" = "/k"}',
            "the header x-y is set twice",
        ),
        (
            f'{OAUTH2}client_id = "x"\n[destinations.a.headers]\nAuthorization = "1"',
            "the header authorization is set by",
        ),
        ('[folders.a]\npath = "/in"\nafterwards = "move"', 'move_to must be set, because afterwards = "move"'),
        (
            '[folders.a]\npath = "/in"\nrejected_to = "/in/bad"',
            "folders.a.rejected_to = '/in/bad': must not be inside",
        ),
        ('[folders.a]\npath = "/in"\nmove_to = "/in"\nafterwards = "move"', "folders.a.move_to"),
        ('[folders.a]\npath = "/in"\n[folders.b]\npath = "/in/b"', "folders.b.path = '/in/b': must not be inside"),
        ('[folders.a]\npath = "/in"\n[folders.b]\npath = "/in"', "imported twice"),
        ('[folders.a]\npath = "/in"\n[store]\ndirectory = "/in/s"', "store.directory = '/in/s': must not be inside"),
        (
            '[folders.a]\npath = "/in"\n[destinations.f]\ntype = "file"\ndirectory = "/in/o"',
            "destinations.f.directory = '/in/o'",
        ),
        (
            '[store]\nforget_after_s = 9\n[destinations.f]\ntype = "file"\ndirectory = "/o"',
            'store.forget_after_s: destinations.f has type = "file"',
        ),
        ("[store]\nforget_after_s = 0", "store.forget_after_s = 0: "),
        ("[store]\nseal_after_s = 0", "store.seal_after_s = 0: "),
        ("port = = 1", "is not valid TOML: Invalid value (at line 1, column 8)"),
    ],
)
def test_an_error_names_option_value_place_and_remedy(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, text)
    message = refusal(path)
    assert says.replace("FILE", str(path)) in message
    assert "s3cret" not in message


def test_all_errors_come_at_once_each_with_its_source(tmp_path: Path) -> None:
    path = write(tmp_path, 'nonsense = 1\n[receiver]\nport = "x"\n[log]\nlevel = "loud"\n')
    environ = credentials(tmp_path, receiver__prot="9") | {"DICOM2FHIR_FHIR__VERSON": "R4"}
    lines = refusal(path, {"store": {"quiet_period_s": -1}}, environ).splitlines()
    assert lines[0] == "The configuration is not usable (6 errors):"
    assert sorted(lines[1:]) == [
        '  fhir.verson: unknown option; did you mean "version"? (environment variable DICOM2FHIR_FHIR__VERSON)',
        f"  log.level = \"loud\": must be 'debug', 'info', 'warning' or 'error' ({path}, line 5)",
        f"  nonsense: unknown option ({path}, line 1)",
        f'  receiver.port = "x": must be a valid integer, unable to parse string as an integer ({path}, line 3)',
        '  receiver.prot: unknown option; did you mean "port"? (credential receiver__prot)',
        "  store.quiet_period_s = -1: must be greater than or equal to 0 (command line)",
    ]


def test_unknown_section_in_the_environment() -> None:
    message = refusal(environ={"DICOM2FHIR_RECIEVER__PORT": "1"})
    assert (
        'reciever: unknown option; did you mean "receiver"? (environment variable DICOM2FHIR_RECIEVER__PORT)' in message
    )


def test_a_value_where_a_table_belongs_and_the_other_way_round() -> None:
    assert "receiver.port: must be a valid integer (environment variable DICOM2FHIR_RECEIVER__PORT__X)" in refusal(
        overrides=None, environ={"DICOM2FHIR_RECEIVER__PORT": "1", "DICOM2FHIR_RECEIVER__PORT__X": "2"}
    )
    assert 'receiver = "x": must be a table' in refusal(environ={"DICOM2FHIR_RECEIVER": "x"})


def test_credentials_of_others_are_left_alone(tmp_path: Path) -> None:
    load(environ=credentials(tmp_path, tls__key="x", receiver="y", unrelated="z"))


def test_credentials_directory_that_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(environ={"CREDENTIALS_DIRECTORY": str(tmp_path / "none")})
    environ = credentials(tmp_path)
    Path(environ["CREDENTIALS_DIRECTORY"], "destinations__main__token").write_bytes(b"\xff\xfe")
    assert "is not UTF-8 text" in refusal(environ=environ)


_NAMES = [
    *Settings.model_fields,
    *(name for field in Settings.model_fields.values() for name in getattr(field.annotation, "model_fields", ())),
    *FhirDestinationSettings.model_fields,
    *("main", "path", "ignore", "patient_id", "", "\0", "A.B"),
]
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["fhir", "file", "http://[::1", "urn:oid:1.2", "http://a:b@c", "/x\0", "[", "{", "~nobody"]),
)
_TABLES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(_NAMES) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(list(Settings.model_fields)) | st.text(max_size=3), _TABLES, max_size=4))
@examples(200, derandomize=True, database=None)
def test_whatever_is_given_is_settings_or_an_error_in_our_words(tables: dict[str, Any]) -> None:
    with contextlib.suppress(ConfigError):
        warnings(load(overrides=tables, environ={}))


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read: No such file or directory" in refusal(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    assert "is not UTF-8 text" in refusal(tmp_path / "latin.toml")


def test_secrets_never_show(tmp_path: Path) -> None:
    canary = "s3cret-canary"
    path = write(tmp_path, f'[destinations.main]\nurl = "https://a.example"\nauth = "bearer"\ntoken = "{canary}"\n')
    settings = load(path, environ={})
    assert fhir(settings).secret() == canary
    for text in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert canary not in text
    for wrong in (
        f'[destinations.main]\nurl = "https://u:{canary}@a.example"',
        f'[destinations.main]\nurl = "https://u:x/{canary}@a.example"\nworkers = 0',
        f'[destinations.main]\nurl = "https://a.example?token={canary}"',
        f'[destinations.main]\nurl = "https://a.example"\ntokn = "{canary}"',
        f'[destinations.main]\nurl = "https://a.example"\ntoken = "{canary}"',
        f'[destinations.main]\nurl = "https://a.example"\nauth = "basic"\npassword = "{canary}"',
        f'[destinations.main]\nurl = "https://a.example"\ntoken = ["{canary}"]',
        f'[web]\ntoken = ["{canary}"]',
        f'[destinations.main]\nurl = "https://a.example"\n[destinations.main.oauth2]\nclient_secret = "{canary}"',
        f'[destinations.main]\nurl = "https://a.example"\n[destinations.main.oauth2]\nclient_secret = ["{canary}"]',
        f'[destinations.main]\nurl = "https://a.example"\n[destinations.main.headers]\nX-Key = ["{canary}"]',
        f'[destinations.main]\nurl = "https://a.example"\n[destinations.main.headers]\nAccept = "{canary}"',
    ):
        assert canary not in refusal(write(tmp_path, wrong))
    assert canary not in refusal(environ=credentials(tmp_path, receiver__port=canary))


def test_secret_from_a_file_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    settings = load(
        overrides={"destinations": {"main": FHIR | {"auth": "bearer", "token_file": file}}},
        environ={},
    )
    with pytest.raises(ConfigError, match="cannot be read"):
        fhir(settings).secret()
    file.write_text("one\n")
    assert fhir(settings).secret() == "one"
    file.write_text("two\n")
    assert fhir(settings).secret() == "two"
    file.write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        fhir(settings).secret()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_rule(host: str) -> None:
    assert load(overrides={"receiver": {"host": host}}, environ={}).receiver.host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "pacs.example", ""])
@pytest.mark.parametrize(
    "rule", [{"networks": ["10.0.0.0/8"]}, {"calling_ae_titles": ["CT1"]}, {"open": True}, {"enabled": False}]
)
def test_other_hosts_need_a_rule(host: str, rule: dict[str, Any]) -> None:
    assert "networks = [...]" in refusal(overrides={"receiver": {"host": host}})
    load(overrides={"receiver": {"host": host, **rule}}, environ={})


def test_folders_inside_a_watched_one_may_be_ignored(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (tmp_path / "link").symlink_to(inbox)
    table = {"path": inbox, "afterwards": "move", "move_to": inbox / "done" / "today"}
    assert "must not be inside" in refusal(overrides={"folders": {"a": table}})
    for ignore in (["done"], ["done/*"], ["*/today"], ["to*"]):
        load(overrides={"folders": {"a": table | {"ignore": ignore}}}, environ={})
    through_link = table | {"move_to": tmp_path / "link" / "done"}
    assert "must not be inside" in refusal(overrides={"folders": {"a": through_link}})
    load(overrides={"folders": {"a": table | {"move_to": tmp_path / "inbox2"}}}, environ={})


def test_addresses_are_normalised() -> None:
    settings = load(
        overrides={
            "pacs": {"dicomweb_url": "https://p/dw/"},
            "destinations": {"main": {"url": "http://localhost:8080/"}},
        },
        environ={},
    )
    assert settings.pacs.dicomweb_url == "https://p/dw"
    assert fhir(settings).url == "http://localhost:8080"


def test_version_and_patient_in_force() -> None:
    out = {"type": "file", "directory": "/out"}
    settings = load(overrides={"destinations": {"main": FHIR, "out": out}}, environ={})
    assert (settings.fhir_version("main"), settings.patient_mode("main")) == ("auto", "link")
    assert (settings.fhir_version("out"), settings.patient_mode("out")) == ("R4", "ensure")
    settings = load(
        overrides={
            "fhir": {"version": "R5", "patient": "upsert"},
            "destinations": {"main": FHIR, "out": out | {"version": "R4B", "patient": "link"}},
        },
        environ={},
    )
    assert (settings.fhir_version("main"), settings.patient_mode("main")) == ("R5", "upsert")
    assert (settings.fhir_version("out"), settings.patient_mode("out")) == ("R4B", "link")
    assert isinstance(settings.destinations["out"], FileDestinationSettings)


def test_systems_with_their_defaults() -> None:
    settings = load(
        overrides={"systems": {"patient_id": {"A": "urn:oid:1.2"}, "patient_id_default": "urn:oid:1.3"}}, environ={}
    )
    assert settings.systems.with_default("patient_id") == {"": "urn:oid:1.3", "A": "urn:oid:1.2"}
    assert settings.systems.with_default("specimen") == {}


def test_settings_do_not_change() -> None:
    settings = load(environ={})
    for section, option in ((settings, "log"), (settings.receiver, "port")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(section, option, 1)


def test_serve_needs_a_way_in_and_a_way_out() -> None:
    with pytest.raises(ConfigError, match="no input is configured") as caught:
        require_inputs_and_destinations(load(overrides={"receiver": {"enabled": False}}, environ={}))
    assert "no output is configured" in str(caught.value)
    require_inputs_and_destinations(load(overrides={"destinations": {"main": FHIR}}, environ={}))


def test_warnings(tmp_path: Path) -> None:
    settings = load(
        overrides={
            "receiver": {"host": "0.0.0.0", "open": True},
            "folders": {"a": {"path": tmp_path, "move_to": "/done"}},
            "systems": {"patient_id": {"A": "urn:oid:1.2", "B": "urn:oid:1.2"}},
            "web": {"host": "0.0.0.0", "token": "hush-0123456789ab"},
            "store": {"forget_after_s": 86_400},
            "fhir": {"max_instances": 0},
            "destinations": {
                "main": {"url": "http://fhir.example", "auth": "bearer", "token": "hush"},
                "plain": {"url": "http://fhir.example", "ca_file": tmp_path / "ca.pem"},
                "o": FHIR
                | {"auth": "oauth2"}
                | {"oauth2": {"client_id": "a", "client_secret": "b", "token_url": "http://login.example/token"}},
            },
        },
        environ={},
    )
    found = warnings(settings)
    for part in (
        "receiver.open = true",
        "folders.a.move_to has no effect",
        "web.host = '0.0.0.0': the token is sent unencrypted",
        "systems.patient_id: 'A' and 'B' have the same system",
        "destinations.main.url = 'http://fhir.example': credentials and patient data are sent unencrypted",
        "destinations.plain.url = 'http://fhir.example': patient data are sent unencrypted",
        "destinations.o.oauth2.token_url: credentials are sent unencrypted",
        "store.forget_after_s has no effect",
    ):
        assert any(part in line for line in found), part
    assert len(found) == 8
    local = {"url": "http://127.0.0.1:8080/fhir", "auth": "bearer", "token": "hush"}
    assert warnings(load(overrides={"destinations": {"main": local}}, environ={})) == []


@pytest.mark.parametrize(
    ("networks", "is_everything"),
    [
        (["0.0.0.0/0"], True),
        (["::/0"], True),
        (["10.0.0.0/8", "0.0.0.0/0"], True),
        (["0.0.0.0/1", "192.0.0.0/2", "128.0.0.0/2"], True),
        (["::/1", "8000::/1"], True),
        (["0.0.0.0/1"], False),
        (["10.0.0.0/8", "fd00::/8"], False),
    ],
)
def test_networks_that_hold_every_address_are_doubted(networks: list[str], is_everything: bool) -> None:
    def found(**receiver: object) -> list[str]:
        return warnings(load(overrides={"receiver": {"networks": networks, **receiver}}, environ={}))

    for reachable in ({"host": "0.0.0.0"}, {"host": "::", "calling_ae_titles": ["CT1"]}):
        assert ["every address may connect" in line for line in found(**reachable)] == [True] * is_everything
    assert found(host="127.0.0.1") == []


def test_a_receiver_that_asks_for_certificates_is_not_open(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("tls_certificate", "tls_client_ca")}
    assert warnings(load(overrides={"receiver": {"host": "0.0.0.0", **files}}, environ={})) == []


def test_example_is_the_file_in_the_repository() -> None:
    committed = Path(__file__).parents[2] / "config.example.toml"
    assert committed.read_text(encoding="utf-8") == example(), "run make docs"


def test_example_as_it_stands_is_the_default(tmp_path: Path) -> None:
    assert load(write(tmp_path, example()), environ={}) == load(environ={})


def test_example_uncommented_is_valid_and_complete(tmp_path: Path) -> None:
    text = re.sub(r"^# ", "", example(), flags=re.MULTILINE)
    tables = tomllib.loads(text)
    settings = load(write(tmp_path, text), environ={})
    for section, field in Settings.model_fields.items():
        value = getattr(settings, section)
        models = value.items() if isinstance(value, dict) else [(None, value)]
        for name, model in models:
            table = tables[section] if name is None else tables[section][name]
            assert set(table) == set(option_names(type(model))), section
            assert all(option.description for option in type(model).model_fields.values())
        assert field.description
    assert settings.receiver == Settings().receiver
    assert max(map(len, example().splitlines())) <= 100


def test_certificates_of_senders_are_an_access_rule(tmp_path: Path) -> None:
    path = write(tmp_path, '[receiver]\nhost = "0.0.0.0"\ntls_certificate = "/a"\ntls_client_ca = "/b"\n')
    assert load(path, environ={}).receiver.tls_client_ca == Path("/b")


def test_no_number_may_be_given_as_true_or_false() -> None:
    """All options that the sections declare, not those that somebody thought of."""
    assert len(PLAIN) > 40
    for table, name in PLAIN:
        assert f"{'.'.join(table)}.{name}" in refusal(overrides=nested((*table, name), True))


@pytest.mark.parametrize(("said", "name"), [("R2", "DSTU2"), ("r3", "STU3")])
def test_releases_before_r4_have_two_names(said: str, name: str) -> None:
    assert load(overrides={"fhir": {"version": said}}, environ={}).fhir.version == name


@pytest.mark.parametrize("said", ["r4b", "4.3.0", "4.3", "R4B"])
def test_a_version_may_be_given_by_name_or_number(said: str) -> None:
    """In the file, the environment and by flags."""
    environ = {"DICOM2FHIR_FHIR__VERSION": said, "DICOM2FHIR_DESTINATIONS__A__VERSION": said}
    settings = load(overrides={"destinations": {"a": {"url": "http://x"}}}, environ=environ)
    assert (settings.fhir.version, settings.destinations["a"].version) == ("R4B", "R4B")
    assert load(overrides={"fhir": {"version": said}}, environ={}).fhir.version == "R4B"


def test_a_destination_says_what_it_takes(tmp_path: Path) -> None:
    text = """
[destinations.a]
url = "https://fhir.example/fhir"
only = { modality = ["CT", "MR"], institution = "HOSPITAL A" }
[destinations.a.except]
calling_ae_title = ["RESEARCH*"]
[destinations.b]
url = "https://fhir.example/fhir"
"""
    made = load(write(tmp_path, text), environ={"DICOM2FHIR_DESTINATIONS__B__EXCEPT__DEPARTMENT": "Test, Research"})
    a, b = made.destinations["a"], made.destinations["b"]
    assert a.only.given() == {"modality": ("CT", "MR"), "institution": ("HOSPITAL A",)}
    assert (a.except_.given(), b.only.given()) == ({"calling_ae_title": ("RESEARCH*",)}, {})
    assert b.except_.given() == {"department": ("Test", "Research")}


def test_folders_and_a_destination_that_wants_an_ae_title_are_a_doubt(tmp_path: Path) -> None:
    url = "https://fhir.example/fhir"
    overrides = nested(("destinations", "a"), {"url": url, "only": {"calling_ae_title": ["CT1"]}})
    assert not [doubt for doubt in warnings(load(overrides=overrides, environ={})) if "AE title" in doubt]
    overrides |= nested(("folders", "in", "path"), str(tmp_path))
    assert [doubt for doubt in warnings(load(overrides=overrides, environ={})) if "have no AE title" in doubt]


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("only = { modaliti = ['CT'] }", 'destinations.a.only.modaliti: unknown option; did you mean "modality"?'),
        ("exept = { modality = ['CT'] }", 'destinations.a.exept: unknown option; did you mean "except"?'),
        ("except_ = { modality = ['CT'] }", 'destinations.a.except_: unknown option; did you mean "except"?'),
        ("only = ['CT']", "destinations.a.only: must be a table"),
        ("except = { modality = [''] }", 'destinations.a.except.modality.0 = "": must have at least 1 character'),
    ],
)
def test_what_is_wrong_with_what_a_destination_takes(tmp_path: Path, said: str, named: str) -> None:
    assert named in refusal(write(tmp_path, f'[destinations.a]\nurl = "https://fhir.example/fhir"\n{said}\n'))
