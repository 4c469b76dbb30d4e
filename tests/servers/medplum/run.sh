#!/bin/bash
# A FHIR R4 server (Medplum's router and in-memory repository) on 127.0.0.1, for tests; the data goes with the process.
#   run.sh PORT [r4]    run in the foreground; base URL http://127.0.0.1:PORT/fhir/R4; stop with TERM.
#                       A line "READY BASE-URL r4" on stdout says that it answers.
#                       PORT 0: a free port is chosen (read it from the READY line).
#   run.sh build        download from the npm registry, once; afterwards no network is needed.
# Needs Node 20 or newer, and npm; without them, see get_node.sh. Settings from the environment:
#   MEDPLUM_CACHE               where packages lie   (default ~/.cache/dicom2fhir/medplum; may be deleted at any time)
#   MEDPLUM_EXIT_WITH_STDIN=1   end when stdin is closed
#   MEDPLUM_TRANSACTIONS=0      carry transactions out as batches, as a Medplum project without that feature does
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
what=${1:?usage: run.sh PORT [r4] | build}
version=${2:-r4}
[ "$version" = r4 ] || { echo "unknown FHIR version $version" >&2; exit 1; }
cache=${MEDPLUM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dicom2fhir/medplum}
build=$cache/$(sha256sum "$here/package-lock.json" | cut -c1-16)

mkdir -p "$cache"
(
    flock 9     # two first starts at once must not build over each other
    if [ ! -d "$build" ]; then
        echo "getting the test FHIR server into $build (20 MB from the npm registry)" >&2
        rm -rf "$build.new"
        mkdir "$build.new"
        cp "$here"/package*.json "$build.new"
        # Node 20 does for what is used here, whatever the packages say; Node has certificates of its own by default.
        NODE_USE_SYSTEM_CA=1 npm ci --prefix "$build.new" --ignore-scripts --engine-strict=false \
            --no-audit --no-fund --loglevel=error >&2
        mv "$build.new" "$build"
    fi
) 9>"$cache/lock" </dev/null

if [ "$what" != build ]; then
    NODE_PATH=$build/node_modules exec node "$here/server.js" "$what"
fi
