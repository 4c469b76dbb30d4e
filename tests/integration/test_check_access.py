"""check-config finds what the service's user may not read or write, and what its unit keeps from it."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel

from dicom2fhir.cli import service_user
from dicom2fhir.config import load, locations
from dicom2fhir.config.needed_files import needs
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.system import permissions
from dicom2fhir.system.permissions import Need, Use, faults, present_user
from dicom2fhir.system.systemd_unit import FOLDERS, NAME, Unit, interpreter, read_unit, shut_out
from tests.command_line import Run
from tests.users import NOBODY, needs_root

pytestmark = pytest.mark.usefixtures("logging_as_before")

UNIT = Path(__file__).parents[2] / "systemd" / NAME
TOKEN = "geheim"


@pytest.fixture
def site(open_path: Path) -> Path:
    """A folder with all that a configuration can name, and nobody's right to all of it."""
    for name in ("inbox", "taken", "moved", "rejected", "state", "out"):
        (open_path / name).mkdir()
        os.chown(open_path / name, NOBODY, NOBODY)
    (open_path / "state").chmod(0o700)
    for name in ("token", "secret", "key.pem", "client.crt", "api-key", "ca.pem", "tls.crt", "tls.key", "clients.pem"):
        (open_path / name).write_text(TOKEN)
        (open_path / name).chmod(0o644)
    (open_path / "own.toml").write_text('title = "T"\ndoc = "D"\n[versions]\nR4 = ""\n')
    (open_path / "config.toml").write_text(f"""
[receiver]
tls_certificate = "{open_path}/tls.crt"
tls_key = "{open_path}/tls.key"
tls_client_ca = "{open_path}/clients.pem"
[folders.inbox]
path = "{open_path}/inbox"
[folders.taken]
path = "{open_path}/taken"
afterwards = "move"
move_to = "{open_path}/moved"
rejected_to = "{open_path}/rejected"
[store]
directory = "{open_path}/state"
[destinations.server]
url = "https://127.0.0.1:1/fhir"
auth = "bearer"
token_file = "{open_path}/token"
ca_file = "{open_path}/ca.pem"
[destinations.secret]
url = "https://127.0.0.1:1/fhir"
auth = "oauth2"
tls_certificate = "{open_path}/client.crt"
oauth2 = {{client_id = "a", client_secret_file = "{open_path}/secret"}}
header_files = {{X-Api-Key = "{open_path}/api-key"}}
[destinations.signed]
url = "https://127.0.0.1:1/fhir"
auth = "oauth2"
oauth2 = {{client_id = "a", private_key_file = "{open_path}/key.pem"}}
[destinations.files]
type = "file"
directory = "{open_path}/out"
profile = "{open_path}/own.toml"
""")
    return open_path


def shut(name: str, mode: int = 0o600, uid: int = 0) -> Callable[[Path], None]:
    def act(site: Path) -> None:
        os.chown(site / name, uid, uid)
        (site / name).chmod(mode)

    return act


def add_file(folder: str) -> Callable[[Path], None]:
    def act(site: Path) -> None:
        (site / folder / "DOE^JANE.dcm").write_bytes(b"")
        (site / folder / "DOE^JANE.dcm").chmod(0o600)

    return act


def make_store(site: Path) -> None:
    os.chown(site / "state", 0, 0)
    SqliteStore(site / "state" / "store.db", min_free_bytes=0).close()
    os.chown(site / "state", NOBODY, NOBODY)


def close_the_way(site: Path) -> None:
    (site / "secrets").mkdir(mode=0o700)
    os.rename(site / "token", site / "secrets" / "token")
    text = (site / "config.toml").read_text()
    (site / "config.toml").write_text(text.replace(f"{site}/token", f"{site}/secrets/token"))


def absent_below_what_is_roots(site: Path) -> None:
    (site / "out").rmdir()
    site.chmod(0o755)


@needs_root
def test_nothing_is_wrong_where_nothing_is_wrong(run: Run, site: Path) -> None:
    done = run("check-config", "--config", site / "config.toml", "--json", "--user", "nobody")
    assert (done.status, done.json["user"], done.json["errors"], done.json["warnings"]) == (0, "nobody", [], [])


@needs_root
@pytest.mark.parametrize(
    ("act", "named", "said"),
    [
        (shut("config.toml"), "--config", "no permission to read it (owner root, mode 0600)"),
        (shut("token"), "destinations.server.token_file", "no permission to read it"),
        (shut("ca.pem"), "destinations.server.ca_file", "no permission to read it"),
        (shut("secret"), "destinations.secret.oauth2.client_secret_file", "no permission to read it"),
        (shut("client.crt"), "destinations.secret.tls_certificate", "no permission to read it"),
        (shut("api-key"), "destinations.secret.header_files.X-Api-Key", "no permission to read it"),
        (shut("key.pem"), "destinations.signed.oauth2.private_key_file", "no permission to read it"),
        (shut("tls.crt"), "receiver.tls_certificate", "no permission to read it"),
        (shut("tls.key"), "receiver.tls_key", "no permission to read it"),
        (shut("clients.pem"), "receiver.tls_client_ca", "no permission to read it"),
        (shut("own.toml"), "destinations.files.profile", "no permission to read it"),
        (shut("inbox", 0o700), "folders.inbox.path", "no permission to read it (owner root, mode 0700)"),
        (shut("inbox", 0o744), "folders.inbox.path", "no permission to read it"),
        (shut("taken", 0o755), "folders.taken.path", "no permission to write to it"),
        (shut("moved", 0o755), "folders.taken.move_to", "no permission to write to it"),
        (shut("rejected", 0o755), "folders.taken.rejected_to", "no permission to write to it"),
        (shut("state", 0o755), "store.directory", "no permission to write to it"),
        (shut("out", 0o755), "destinations.files.directory", "no permission to write to it"),
        (add_file("inbox"), "folders.inbox.path", "1 entry of the first 1 in it cannot be read"),
        (make_store, "store.directory", "no permission to read it (owner root, mode 0600)"),
        (
            close_the_way,
            "destinations.server.token_file",
            "secrets, and there is no permission to enter that folder (owner root, mode 0700)",
        ),
        (
            absent_below_what_is_roots,
            "destinations.files.directory",
            "does not exist, and there is no permission to create it in",
        ),
    ],
)
def test_what_the_services_user_may_not_do_is_named(
    run: Run, site: Path, act: Callable[[Path], None], named: str, said: str
) -> None:
    act(site)
    done = run("check-config", "--config", site / "config.toml", "--user", "nobody")
    assert done.status == 78
    lines = [line for line in done.stdout.decode().splitlines() if line.startswith("error: ")]
    assert len(lines) == (2 if act is make_store else 1)
    for line in lines:
        assert line.startswith(f"error: {named} = ")
        assert said in line
        assert TOKEN not in line
        assert "DOE" not in line
    assert "as user nobody" in done.stderr


@needs_root
def test_root_answers_for_the_owner_of_the_store(run: Run, site: Path) -> None:
    (site / "token").chmod(0o600)
    done = run("check-config", "--config", site / "config.toml", "--json")
    assert (done.status, done.json["user"]) == (78, "nobody")
    assert "token_file" in done.json["errors"][0]


@needs_root
@pytest.mark.parametrize(("is_service_s", "user"), [(True, "nobody"), (False, present_user().name)])
def test_only_the_service_s_configuration_is_its_user_s_matter(
    run: Run, site: Path, monkeypatch: pytest.MonkeyPatch, is_service_s: bool, user: str
) -> None:
    os.chown(site / "state", 0, 0)
    monkeypatch.setattr(service_user, "_NAME", "nobody")
    if is_service_s:
        monkeypatch.setattr(locations, "SYSTEM_CONFIG", site / "config.toml")
    assert run("check-config", "--config", site / "config.toml", "--json").json["user"] == user


@needs_root
def test_before_the_service_has_run_root_answers_for_a_user_without_rights(
    run: Run, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With DynamicUser= there is no such user yet, and no folder of the store either: systemd makes both."""
    text = (site / "config.toml").read_text().replace(f'"{site}/out"', f'"{site}/absent/out"')
    (site / "config.toml").write_text(text.replace(f'[store]\ndirectory = "{site}/state"\n', ""))
    monkeypatch.setattr(locations, "SYSTEM_CONFIG", site / "config.toml")
    monkeypatch.setattr(locations, "SERVICE_STATE", site / "absent")
    (site / "python").touch(0o755)
    monkeypatch.setattr(sys, "executable", str(site / "python"))  # that of the tests may be below /root
    site.chmod(0o755)
    for name in ("taken", "moved", "rejected"):
        (site / name).chmod(0o777)
    done = run("check-config", "--json")
    assert (done.status, done.json["user"], done.json["errors"]) == (0, "dicom2fhir", [])
    (site / "token").chmod(0o600)
    assert len(run("check-config", "--json").json["errors"]) == 1


@needs_root
def test_state_that_systemd_keeps_private_is_reached_as_the_service_reaches_it(
    open_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = open_path / "private"
    (private / "dicom2fhir").mkdir(parents=True)
    os.chown(private / "dicom2fhir", NOBODY, NOBODY)
    private.chmod(0o700)
    (open_path / "dicom2fhir").symlink_to(private / "dicom2fhir")
    need = Need("store.directory", open_path / "dicom2fhir", Use.FILL)
    user = permissions.user_by_id(NOBODY, NOBODY)
    assert len(faults([need], user)) == 1
    monkeypatch.setattr(permissions, "_PRIVATE", private)
    assert faults([need], user) == []


def test_what_is_missing_is_a_warning_for_it_may_come(run: Run, site: Path) -> None:
    for name in ("token", "tls.key"):
        (site / name).unlink()
    (site / "inbox").rmdir()
    user = present_user().name
    done = run("check-config", "--config", site / "config.toml", "--json", "--user", user)
    assert (done.status, done.json["errors"]) == (0, [])
    said = " ".join(done.json["warnings"])
    for option in ("folders.inbox.path", "receiver.tls_key", "destinations.server.token_file"):
        assert option in said


def test_an_unknown_user(run: Run, site: Path) -> None:
    done = run("check-config", "--config", site / "config.toml", "--user", "no-such-user")
    assert done.status == 2
    assert "no-such-user" in done.stderr


# The unit


def unit_of(text: str) -> Unit:
    assigned: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        assigned[name] = (*assigned.get(name, ()), value)
    return Unit(assigned)


def test_the_unit_of_the_project_and_a_drop_in(tmp_path: Path) -> None:
    (tmp_path / "etc" / f"{NAME}.d").mkdir(parents=True)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / NAME).write_text(UNIT.read_text())
    folders = (tmp_path / "etc", tmp_path / "lib")
    unit = read_unit(folders)
    assert unit is not None
    assert (unit.last("User"), unit.last("ProtectSystem"), unit.last("ProtectHome")) == ("dicom2fhir", "strict", "yes")
    assert unit.writable == ["/var/lib/dicom2fhir"]
    local = tmp_path / "etc" / f"{NAME}.d" / "override.conf"
    local.write_text("[Service]\nReadWritePaths=/srv/a \\\n  -/srv/b\nProtectHome=\n[Unit]\nReadWritePaths=/no\n")
    unit = read_unit(folders)
    assert unit is not None
    assert unit.writable == ["/var/lib/dicom2fhir", "/srv/a", "/srv/b"]
    assert unit.last("ProtectHome") == ""
    assert read_unit((tmp_path / "nowhere",)) is None
    assert all(folder.is_absolute() for folder in FOLDERS)


@pytest.mark.parametrize(
    ("unit", "path", "use", "said"),
    [
        ("ProtectSystem=strict", "/srv/inbox", Use.EMPTY, "ReadWritePaths=/srv/inbox"),
        ("ProtectSystem=strict", "/srv/inbox", Use.WATCH, ""),
        ("ProtectSystem=strict\nReadWritePaths=/srv", "/srv/inbox", Use.EMPTY, ""),
        ("ProtectSystem=strict\nStateDirectory=dicom2fhir", "/var/lib/dicom2fhir", Use.FILL, ""),
        ("ProtectSystem=full", "/srv/out", Use.FILL, ""),
        ("ProtectSystem=full", "/etc/out", Use.FILL, "ReadWritePaths=/etc/out"),
        ("ProtectSystem=true", "/usr/out", Use.FILL, "ReadWritePaths=/usr/out"),
        ("ProtectHome=yes", "/home/me/inbox", Use.WATCH, "does not see /home"),
        ("ProtectHome=yes\nReadWritePaths=/home/me", "/home/me/inbox", Use.EMPTY, "does not see /home"),
        ("ProtectHome=read-only", "/home/me/inbox", Use.WATCH, ""),
        ("ProtectHome=read-only", "/home/me/inbox", Use.EMPTY, "ReadWritePaths=/home/me/inbox"),
        ("PrivateTmp=yes", "/tmp/inbox", Use.WATCH, "its own /tmp"),
        ("", "/tmp/inbox", Use.EMPTY, ""),
    ],
)
def test_what_the_sandbox_keeps_from_the_service(unit: str, path: str, use: Use, said: str) -> None:
    found = shut_out([Need("folders.a.path", Path(path), use)], unit_of(unit))
    assert bool(found) == bool(said)
    assert said in "".join(map(str, found))


@needs_root
@pytest.mark.parametrize(
    ("unit", "is_checked"),
    [
        (None, True),
        ("ExecStart=/opt/bridge/bin/dicom2fhir serve", True),
        ("ExecStart=-/opt/bridge/bin/dicom2fhir serve", True),
        ("ExecStart=/usr/bin/dicom2fhir serve", False),
    ],
)
def test_a_python_that_the_service_cannot_reach(
    open_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str | None, is_checked: bool
) -> None:
    """As with an environment made with a Python below /root."""
    home = open_path / "root"
    home.mkdir(mode=0o700)
    (home / "python3").touch(0o755)
    (open_path / "python").symlink_to(home / "python3")
    monkeypatch.setattr(sys, "prefix", "/opt/bridge")
    monkeypatch.setattr(sys, "executable", str(open_path / "python"))
    wanted = interpreter(unit_of(unit) if unit else None)
    nobody = permissions.user_of(pwd.getpwnam("nobody"))
    found = [str(fault) for fault in faults(wanted, nobody)]
    assert len(found) == is_checked
    assert all(f"ExecStart = '{home}/python3': is inside {home}" in one for one in found)


def test_every_path_of_the_settings_is_looked_at(site: Path) -> None:
    """An option that holds a path and is no need of anybody would be forgotten here."""
    found = {need.option for need in needs(load(site / "config.toml", environ={}))}
    settings = load(site / "config.toml", environ={})
    sections: dict[str, BaseModel] = {"receiver": settings.receiver, "store": settings.store}
    sections |= {f"folders.{name}": folder for name, folder in settings.folders.items()}
    sections |= {f"destinations.{name}": one for name, one in settings.destinations.items()}
    paths = {
        f"{name}.{option}"
        for name, section in sections.items()
        for option in type(section).model_fields
        if isinstance(getattr(section, option), Path)
    }
    assert paths <= found


@pytest.mark.parametrize(
    ("mode", "file_mode", "exposed"),
    [
        (0o700, 0o666, []),
        (0o750, 0o666, []),
        (0o704, 0o666, [""]),
        (0o701, 0o600, [""]),
        (0o711, 0o644, ["", "store.db"]),
        (0o755, 0o640, [""]),
    ],
)
def test_a_state_directory_that_others_may_look_into_is_told(
    run: Run, tmp_path: Path, mode: int, file_mode: int, exposed: list[str]
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "store.db").touch()
    (state / "store.db").chmod(file_mode)
    state.chmod(mode)
    assert [line.partition("'")[2].partition("'")[0] for line in permissions.open_to_others(state)] == [
        str(state / name) for name in exposed
    ]
    config = tmp_path / "config.toml"
    out = f'[destinations.files]\ntype = "file"\ndirectory = "{tmp_path}/out"\n'
    config.write_text(f'[store]\ndirectory = "{state}"\n{out}')
    said = run("check-config", "--config", config).stdout.decode()
    assert said.count("every user of this machine can access it") == len(exposed)


def test_a_state_directory_that_is_absent_is_not_told(tmp_path: Path) -> None:
    assert permissions.open_to_others(tmp_path / "state") == []
