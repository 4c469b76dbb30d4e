#!/bin/bash
# A real authorization server (Keycloak, in-memory H2) on 127.0.0.1, for tests; the data goes with the process.
#   run.sh PORT [26]    run in the foreground; base URL http://127.0.0.1:PORT; stop with TERM.
#                       A line "READY BASE-URL VERSION" on stdout says that it answers.
#                       PORT 0: a free port is chosen (read it from the READY line).
#   run.sh build        download from the Maven repository and prepare, once; afterwards no network is needed.
# Settings from the environment:
#   KEYCLOAK_CACHE               where it lies   (default ~/.cache/dicom2fhir/keycloak; may be deleted at any time)
#   KEYCLOAK_EXIT_WITH_STDIN=1   end when stdin is closed
#   KC_BOOTSTRAP_ADMIN_USERNAME, KC_BOOTSTRAP_ADMIN_PASSWORD   the administrator of its API
set -euo pipefail
what=${1:?usage: run.sh PORT [26] | build}
version=26.0.7
sha256=a6d770bbf55625781f1225a54a130839cdc1dd4ad5b3b4bbb18c9ac8bca8f8ae
cache=${KEYCLOAK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dicom2fhir/keycloak}
build=$cache/$version
export JAVA_OPTS="-Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"

make_build() {
    echo "getting Keycloak into $build (147 MB from the Maven repository)" >&2
    rm -rf "$build" "$build.new"
    mkdir -p "$build.new"
    mvn -B -q --strict-checksums org.apache.maven.plugins:maven-dependency-plugin:2.8:copy \
        -Dartifact="org.keycloak:keycloak-quarkus-dist:$version:tar.gz" -DoutputDirectory="$build.new" >&2
    local archive=$build.new/keycloak-quarkus-dist-$version.tar.gz
    echo "$sha256  $archive" | sha256sum --check --quiet >&2
    tar -xzf "$archive" -C "$build.new" --strip-components=1
    rm "$archive"
    "$build.new/bin/kc.sh" build --db=dev-mem >&2
    mv "$build.new" "$build"
}

mkdir -p "$cache"
(
    flock 9     # two first starts at once must not build over each other
    [ -d "$build" ] || make_build
) 9>"$cache/lock" </dev/null

if [ "$what" = build ]; then exit; fi
exec 4<&0
coproc server {
    exec "$build/bin/kc.sh" start --optimized --cache=local --http-enabled=true --http-host=127.0.0.1 --http-port="$what" \
        --hostname-strict=false </dev/null 2>&1
}
pid=$server_PID
trap 'kill "$pid" 2>/dev/null' EXIT
trap exit TERM INT
if [ "${KEYCLOAK_EXIT_WITH_STDIN:-}" = 1 ]; then
    (cat <&4 >/dev/null; kill "$pid") 2>/dev/null &
fi
while IFS= read -r line <&"${server[0]}"; do
    echo "$line" >&2
    if [[ $line =~ Listening\ on:\ (http://127\.0\.0\.1:[0-9]+) ]]; then echo "READY ${BASH_REMATCH[1]} $version"; fi
done
