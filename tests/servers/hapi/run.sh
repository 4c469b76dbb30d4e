#!/bin/bash
# A real FHIR server (HAPI FHIR JPA, in-memory H2) on 127.0.0.1, for tests; the data goes with the process.
#   run.sh PORT [r4|r5|dstu3|dstu2]   run in the foreground; base URL http://127.0.0.1:PORT/fhir; stop with TERM.
#                                     A line "READY BASE-URL VERSION ..." on stdout says that it answers.
#                                     PORT 0: a free port is chosen (read it from the READY line).
#   run.sh build                      download from the Maven repository and compile, once; afterwards no network is needed.
#   run.sh prepare VERSION...         build, and write class-data archives that make later starts quicker.
# Settings from the environment:
#   HAPI_CACHE             where builds lie        (default ~/.cache/dicom2fhir/hapi; may be deleted at any time)
#   HAPI_HEAP              Java heap               (default 1g)
#   HAPI_LOG               log level on stderr     (default WARN)
#   HAPI_EXIT_WITH_STDIN=1 end when stdin is closed
#   HAPI_STRICT=1          refuse unknown elements
#   HAPI_VALIDATE=1        refuse, with /validating instead of /fhir, what the validator calls an error
#   HAPI_REFINT=0          allow dangling references          HAPI_EXTERNAL_REFS=0 refuse references to other servers
#   HAPI_PLACEHOLDERS=1    create targets that are missing    HAPI_ANY_ID=1        allow all-digit ids
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
what=${1:?usage: run.sh PORT [VERSION] | build | prepare VERSION...}
cache=${HAPI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dicom2fhir/hapi}
# One build for each state of the sources and each Java: checkouts do not disturb one another.
key=$(cd "$here" && { cat pom.xml src/main/java/* src/main/resources/*; java -version 2>&1; } | sha256sum | cut -c1-16)
build=$cache/$key

is_built() {
    [ -s "$build/classpath.txt" ] || return 1
    local jar
    tr ':' '\n' <"$build/classpath.txt" | while read -r jar || [ -n "$jar" ]; do [ -e "$jar" ] || return 1; done
}

make_build() {
    echo "building the test FHIR server in $build (the first time downloads 280 MB from the Maven repository)" >&2
    rm -rf "$build" "$build.new"
    mkdir -p "$build.new/classes"
    mvn -B -q --strict-checksums -f "$here/pom.xml" \
        org.apache.maven.plugins:maven-dependency-plugin:2.8:build-classpath -Dmdep.outputFile="$build.new/classpath.txt" >&2
    javac --release 17 -cp "$(cat "$build.new/classpath.txt")" -d "$build.new/classes" "$here"/src/main/java/*.java
    cp "$here"/src/main/resources/* "$build.new/classes/"
    jar cf "$build.new/hapi-server.jar" -C "$build.new/classes" .
    mv "$build.new" "$build"
}

mkdir -p "$cache"
(
    flock 9     # two first starts at once must not build over each other
    is_built || make_build
) 9>"$cache/lock" </dev/null

command=(java "-Xmx${HAPI_HEAP:-1g}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -Xlog:cds=off -Xlog:cds+dynamic=off)
classes=(-cp "$build/hapi-server.jar:$(cat "$build/classpath.txt")" HapiServer)

case $what in
build) ;;
prepare)
    for version in "${@:2}"; do
        archive=$build/$version.jsa
        [ -s "$archive" ] && continue
        HAPI_LOG=${HAPI_LOG:-ERROR} "${command[@]}" "-XX:ArchiveClassesAtExit=$archive.$$" "${classes[@]}" 0 "$version" --warm-up </dev/null >&2
        mv "$archive.$$" "$archive"
    done
    ;;
*)
    version=${2:-r4}
    if [ -s "$build/$version.jsa" ]; then command+=("-XX:SharedArchiveFile=$build/$version.jsa"); fi
    exec "${command[@]}" "${classes[@]}" "$what" "$version"
    ;;
esac
