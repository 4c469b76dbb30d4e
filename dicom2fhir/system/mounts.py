"""The type of the file system of a folder (proc(5), mountinfo)."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")

NETWORK_FILE_SYSTEMS = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.ceph",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    }
)
"""Types of file systems that other machines may write to.

The kernel does not notify of changes by others, and locks, fsync and shared memory are not reliable
(https://sqlite.org/wal.html)."""

VIRTUAL_FILE_SYSTEMS = frozenset({"prl_fs", "vboxsf", "virtiofs"})
"""Folders of a virtual machine's host: no notifications either, but only this machine uses them."""


def file_system_type(directory: Path, mountinfo: Path = MOUNTINFO) -> str:
    """Type of the file system that holds ``directory``, as the kernel names it; empty if it is not known."""
    try:
        lines = mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    target = f"{directory.resolve()}/"
    found, found_prefix = "", ""
    for line in lines:
        # proc(5): "36 35 98:0 /root /mount/point options [optional fields] - type source options"; blanks as \040
        left, _, right = line.partition(" - ")
        mount = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), left.split(" ")[4])
        prefix = f"{mount.rstrip('/')}/"
        # a later line hides an earlier one of the same mount point
        if target.startswith(prefix) and len(prefix) >= len(found_prefix):
            found, found_prefix = right.split(" ")[0], prefix
    return found
