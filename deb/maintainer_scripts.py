"""The scripts that dpkg runs (Debian Policy chapter 6). They work without a running systemd, as in a container."""

from __future__ import annotations

_BEGIN = "#!/bin/sh\nset -e\n"
_REMOVE_BYTECODE = "find /opt/dicom2fhir -name __pycache__ -type d -prune -exec rm -rf {} +\n"

POSTINST = f"""{_BEGIN}if [ "$1" = configure ]; then
    systemd-sysusers dicom2fhir.conf
    python3 -m compileall -q /opt/dicom2fhir/lib
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        systemctl try-restart dicom2fhir.service
    fi
fi
"""
"""The service is not started by the first installation: it needs a configuration first."""

PRERM = f"""{_BEGIN}if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --now dicom2fhir.service
fi
{_REMOVE_BYTECODE}"""

POSTRM = f"""{_BEGIN}if [ "$1" = purge ]; then
    rm -rf /var/lib/dicom2fhir /var/lib/private/dicom2fhir
    rmdir --ignore-fail-on-non-empty /etc/dicom2fhir 2>/dev/null || true
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
"""
"""Removing keeps configuration and store; purging deletes both. The user stays: files elsewhere may belong to it."""
