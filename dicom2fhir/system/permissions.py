"""What a user of this machine may read and write, tested by a process of that user.

Modes, groups, access control lists, closed parent directories, read-only file systems: the kernel evaluates them all,
nothing is computed here.
"""

from __future__ import annotations

import json
import os
import pwd
import stat
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any

from dicom2fhir.system.text import counted

_PRIVATE = Path("/var/lib/private")
"""Closed to all but root; systemd gives the service access to its own folder (systemd.exec(5), DynamicUser=)."""
_LOOKED_AT = 200
"""Files of a watched folder that are tested."""
_DYNAMIC = 61_184
"""The first user id of systemd's dynamic users, who exist only while their service runs."""


class Use(Enum):
    """What a path is for."""

    READ = "read"
    """A file that is read."""
    UPDATE = "update"
    """A file that is read and written where it exists."""
    WATCH = "watch"
    """A folder whose files are read."""
    EMPTY = "empty"
    """A folder whose files are read, and moved away or deleted."""
    FILL = "fill"
    """A folder that files are written to; it is created if it is absent."""

    @property
    def writes(self) -> bool:
        """Whether the daemon writes, moves or deletes there."""
        return self not in (Use.READ, Use.WATCH)


@dataclass(frozen=True, slots=True)
class Need:
    """A file or folder that the daemon uses, with the option that names it."""

    option: str
    path: Path
    use: Use


@dataclass(frozen=True, slots=True)
class AccessFault:
    """A file or folder that cannot be used; ``is_missing``: it does not exist yet."""

    option: str
    path: str
    text: str
    is_missing: bool = False

    def __str__(self) -> str:
        return f"{self.option} = {self.path!r}: {self.text}"


@dataclass(frozen=True, slots=True)
class User:
    """A user with their groups."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def open_to_others(directory: Path) -> list[str]:
    """What other users of this machine may read in a directory that should be private; with what to do.

    Its files are checked, too, if others may enter it. What does not exist or cannot be checked is left out.
    """
    if not _mode(directory) & (stat.S_IROTH | stat.S_IXOTH):
        return []
    paths = [directory]
    if _mode(directory) & stat.S_IXOTH:
        with suppress(OSError):
            paths += sorted(path for path in directory.iterdir() if path.is_file() and _mode(path) & stat.S_IROTH)
    return [
        f"{str(path)!r} has the mode {_mode(path):04o}: every user of this machine can access it, and it contains"
        f" patient data; chmod {'700' if path == directory else '600'} it"
        for path in paths
    ]


def _mode(path: Path) -> int:
    """The mode of a file or directory, links resolved; 0 if it does not exist."""
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return 0


def user_of(account: pwd.struct_passwd, more_groups: Sequence[int] = ()) -> User:
    """A user of this machine."""
    groups = os.getgrouplist(account.pw_name, account.pw_gid)
    return User(account.pw_name, account.pw_uid, account.pw_gid, (*groups, *more_groups))


def user_by_id(uid: int, gid: int, more_groups: Sequence[int] = ()) -> User:
    """A user by number; systemd's dynamic users have no name unless their service runs."""
    with suppress(KeyError):
        return user_of(pwd.getpwuid(uid), more_groups)
    return User(str(uid), uid, gid, (gid, *more_groups))


def present_user() -> User:
    """The user of this process."""
    return User(user_by_id(os.geteuid(), os.getegid()).name, os.geteuid(), os.getegid(), tuple(os.getgroups()))


def dynamic_user(name: str, more_groups: Sequence[int] = ()) -> User:
    """A dynamic user of systemd: it has only the rights of its groups."""
    return User(name, _DYNAMIC, _DYNAMIC, (_DYNAMIC, *more_groups))


def faults(needs: Sequence[Need], user: User) -> list[AccessFault]:
    """The needs that are not met for a user.

    Raises
    ------
    PermissionError
        Only root may test for another user.
    """
    if user.uid == os.geteuid():
        return _look(needs)
    if os.geteuid() != 0:
        raise PermissionError("only root can check another user")
    with ExitStack() as open_folders:
        opened = {need.path: _opened(need.path, open_folders) for need in needs}
        return [
            AccessFault(**fault) for fault in _as_user(user, lambda: [asdict(fault) for fault in _look(needs, opened)])
        ]


def _opened(path: Path, open_folders: ExitStack) -> str:
    """The path as the user reaches it: systemd leads its services past the closed folder of private state."""
    real = Path(os.path.realpath(path))
    folder = next((above for above in (real, *real.parents) if above.parent == _PRIVATE), None)
    if folder is None or not folder.is_dir():
        return str(path)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    open_folders.callback(os.close, descriptor)
    return str(Path(f"/proc/self/fd/{descriptor}") / real.relative_to(folder))


def _as_user(user: User, ask: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What a process of that user answers."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(user.groups)
            os.setresgid(user.gid, user.gid, user.gid)
            os.setresuid(user.uid, user.uid, user.uid)
            with os.fdopen(writes, "w") as answer:
                json.dump(ask(), answer)
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    found: list[dict[str, Any]] = json.loads(said)
    return found


def _look(needs: Sequence[Need], opened: dict[Path, str] | None = None) -> list[AccessFault]:
    found = []
    for need in needs:
        path = (opened or {}).get(need.path, str(need.path))
        if (said := _fault(path, need.use)) is not None:
            found.append(AccessFault(need.option, str(need.path), said[0], said[1]))
    return found


def _fault(path: str, use: Use) -> tuple[str, bool] | None:
    """What is wrong, and whether the path is only missing; None if nothing is wrong."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        if use is Use.UPDATE:
            return None
        if use is Use.FILL:
            return _not_made(path)
        return f"this {'file' if use is Use.READ else 'folder'} does not exist now", True
    except OSError as error:
        return _closed(path) or f"cannot be reached ({error.strerror})", False
    is_folder = stat.S_ISDIR(status.st_mode)
    if is_folder is (use in (Use.READ, Use.UPDATE)):
        return ("is a folder, not a file" if is_folder else "is not a folder"), False
    wanted = {Use.READ: os.R_OK, Use.UPDATE: os.R_OK | os.W_OK, Use.WATCH: os.R_OK | os.X_OK}
    mode = wanted.get(use, os.R_OK | os.W_OK | os.X_OK)
    if not os.access(path, mode):
        act = "write to" if use.writes and os.access(path, mode & ~os.W_OK) else "read"
        return f"no permission to {act} it ({_rights(status)})", False
    return _unreadable_files(path, use, status) if use in (Use.WATCH, Use.EMPTY) else None


def _not_made(path: str) -> tuple[str, bool] | None:
    above = Path(path).parent
    while not os.path.lexists(above):
        above = above.parent
    if os.access(above, os.W_OK | os.X_OK):
        return None
    return f"does not exist, and there is no permission to create it in {above} ({_rights(os.stat(above))})", False


def _closed(path: str) -> str:
    """Which parent folder is closed."""
    for above in reversed(Path(path).parents):
        if not os.access(above, os.X_OK):
            return f"is inside {above}, and there is no permission to enter that folder ({_rights(os.stat(above))})"
    return ""


def _unreadable_files(path: str, use: Use, folder: os.stat_result) -> tuple[str, bool] | None:
    """Whether the first files of a folder can be used; only counts are reported: file names may name patients."""
    files = [entry for entry in islice(os.scandir(path), _LOOKED_AT) if not entry.is_symlink()]
    shut = sum(not os.access(file.path, os.R_OK | (os.X_OK if file.is_dir() else 0)) for file in files)
    if shut:
        return f"{counted(shut, 'entry')} of the first {len(files)} in it cannot be read", False
    if use is Use.EMPTY and folder.st_mode & stat.S_ISVTX and os.geteuid() not in (0, folder.st_uid):
        others = sum(file.stat(follow_symlinks=False).st_uid != os.geteuid() for file in files)
        if others:
            return "its files belong to other users and cannot be moved or deleted (sticky bit)", False
    return None


def _rights(status: os.stat_result) -> str:
    owner = user_by_id(status.st_uid, status.st_gid).name
    return f"owner {owner}, mode {stat.S_IMODE(status.st_mode):04o}"


def give_to_owner(descriptor: int, directory: Path) -> None:
    """Give a file that root has created to the owner of its directory, who is the service's user.

    SQLite does the same for the write-ahead log and its index. A file with several hard links is left alone: it may be
    another user's, linked into this directory.
    """
    file, owner = os.fstat(descriptor), os.stat(directory)
    if os.geteuid() == 0 == file.st_uid != owner.st_uid and file.st_nlink == 1:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
