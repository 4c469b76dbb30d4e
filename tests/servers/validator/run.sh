#!/bin/bash
# The official FHIR validator (HAPI FHIR with HL7's InstanceValidator) for DSTU2, 1.4.0, STU3, R4, R4B and R5, offline.
#   run.sh serve               read requests from stdin until it is closed; Validate.java says what they look like.
#   run.sh build               download from the Maven repository and compile, once; afterwards no network is needed.
#   run.sh classpath           print the packages, separated by colons.
# Settings from the environment:
#   VALIDATOR_CACHE            where builds lie  (default ~/.cache/dicom2fhir/validator; may be deleted at any time)
#   VALIDATOR_HEAP             Java heap         (default 4g; all six versions and all guides at once need 3g)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
what=${1:?usage: run.sh serve | build | classpath}
cache=${VALIDATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dicom2fhir/validator}
# One build for each state of the sources and each Java: checkouts do not disturb one another.
key=$(cd "$here" && { cat pom.xml src/main/java/* src/main/resources/*; java -version 2>&1; } | sha256sum | cut -c1-16)
build=$cache/$key

is_built() {
    [ -s "$build/classpath.txt" ] || return 1
    local jar
    tr ':' '\n' <"$build/classpath.txt" | while read -r jar || [ -n "$jar" ]; do [ -e "$jar" ] || return 1; done
}

make_build() {
    echo "building the FHIR validator in $build (the first time downloads 173 MB from the Maven repository)" >&2
    rm -rf "$build" "$build.new"
    mkdir -p "$build.new/classes"
    mvn -B -q --strict-checksums -f "$here/pom.xml" \
        org.apache.maven.plugins:maven-dependency-plugin:2.8:build-classpath -Dmdep.outputFile="$build.new/classpath.txt" >&2
    javac --release 17 -cp "$(cat "$build.new/classpath.txt")" -d "$build.new/classes" "$here"/src/main/java/*.java
    cp "$here"/src/main/resources/* "$build.new/classes/"
    mv "$build.new" "$build"
}

mkdir -p "$cache"
(
    flock 9     # two first starts at once must not build over each other
    is_built || make_build
) 9>"$cache/lock" </dev/null

case $what in
build) ;;
classpath) cat "$build/classpath.txt" ;;
serve)
    exec java "-Xmx${VALIDATOR_HEAP:-4g}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -Dorg.slf4j.simpleLogger.defaultLogLevel=error \
        -cp "$build/classes:$(cat "$build/classpath.txt")" Validate
    ;;
*) echo "run.sh: unknown command $what" >&2; exit 2 ;;
esac
