#!/bin/bash
# axe-core, which finds faults of accessibility in a page, for tests of the web page in Chromium.
#   run.sh build   download it from the npm registry, once; afterwards no network is needed
#   run.sh axe     print the path of the script
# It lies in ~/.cache/dicom2fhir/browser and may be deleted at any time.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
what=${1:?usage: run.sh build | axe}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/dicom2fhir/browser
build=$cache/$(sha256sum "$here/package-lock.json" | cut -c1-16)

mkdir -p "$cache"
(
    flock 9     # two first builds at once must not build over each other
    if [ ! -d "$build" ]; then
        rm -rf "$build.new"
        mkdir "$build.new"
        cp "$here"/package*.json "$build.new"
        NODE_USE_SYSTEM_CA=1 npm ci --prefix "$build.new" --ignore-scripts --no-audit --no-fund --loglevel=error >&2
        mv "$build.new" "$build"
    fi
) 9>"$cache/lock" </dev/null

if [ "$what" = axe ]; then echo "$build/node_modules/axe-core/axe.min.js"; fi
