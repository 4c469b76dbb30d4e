"""Look for known vulnerabilities of what the lock files pin: ``make audit``.

pip-audit asks PyPI, and says "no known vulnerabilities" of packages that PyPI's data was not to be had for, too. Here
they are counted, and a line says that they were not audited.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements-dev.lock", "requirements-tools.lock")
"""What users install (``requirements.lock``) is among the first."""
_UNREACHABLE = ("ConnectionError", "ProxyError", "SSLError", "Timeout", "ServiceError")
"""Errors of pip-audit and requests that say that PyPI was not reached, or did not answer as it should."""


def verdict(status: int, stdout: str, stderr: str) -> tuple[int, list[str]]:
    """The exit status of the audit and what to say, from how pip-audit ended."""
    try:
        dependencies = json.loads(stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (stderr.strip().splitlines() or [f"pip-audit ended with {status} and said nothing"])[-1]
        if any(error in stderr for error in _UNREACHABLE):
            return 0, [f"NOT AUDITED: the vulnerability data cannot be reached: {last}"]
        return 1, [f"the audit failed: {last}"]
    if not dependencies:
        return 1, ["the audit failed: no packages"]
    found = [
        f"{one['name']} {one['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        for one in dependencies
        for flaw in one.get("vulns", ())
    ]
    skipped = [one["name"] for one in dependencies if "skip_reason" in one]
    audited = len(dependencies) - len(skipped)
    said = [f"audited {audited} of {len(dependencies)} packages: {len(found)} known vulnerabilities"] if audited else []
    if skipped:
        said.append(f"NOT AUDITED: no vulnerability data for {len(skipped)} of {len(dependencies)} packages")
    return int(bool(found)), found + said


def main() -> None:
    """Audit the lock files with the pip-audit that the argument names."""
    failed = 0
    for lock in LOCKS:
        command = [sys.argv[1], "--format=json", "--progress-spinner=off", "--require-hashes", "--disable-pip"]
        done = subprocess.run([*command, f"--requirement={ROOT / lock}"], capture_output=True, text=True, check=False)
        status, said = verdict(done.returncode, done.stdout, done.stderr)
        print(*(f"{lock}: {line}" for line in said), sep="\n")
        failed |= status
    sys.exit(failed)


if __name__ == "__main__":
    main()
