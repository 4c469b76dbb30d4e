#!/bin/bash
# Build the image of `Dockerfile` without a registry, measure it and run it as `compose.yaml` does.
# Needs root, buildah, mmdebstrap, iproute2 and dcmtk. The base images are made here from Debian's packages: Debian 12 for
# the first, and for the second the packages that distroless lists for Python 3. So this tests the Dockerfile and the program
# in such a root, not the published base images.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
most_megabytes=200
if [ -z "${in_namespace:-}" ]; then in_namespace=1 exec unshare --mount "$0"; fi
place=$(mktemp -d)
remove() {
    for mounted in root/dev root/proc root/tmp root/var/lib/dicom2fhir root; do
        mountpoint --quiet "$place/$mounted" && umount --recursive --lazy "$place/$mounted"
    done
    b unmount --all >/dev/null
    rm -rf --one-file-system "$place"
}
trap remove EXIT
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
b() { buildah --root "$place/images" --runroot "$place/run" "$@"; }

of_packages() { # IMAGE VARIANT PACKAGES
    local container root
    container=$(b from scratch)
    root=$(b mount "$container")
    mmdebstrap --quiet --variant="$2" --include="$3" --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$root"
    # of this machine, because a registry of packages may have a certificate of its own
    cat /etc/ssl/certs/ca-certificates.crt >"$root/etc/ssl/certs/ca-certificates.crt"
    b unmount "$container" >/dev/null
    b commit --quiet --rm "$container" "$1" >/dev/null
}
of_packages docker.io/library/debian:12-slim apt ca-certificates
libraries=libbz2-1.0,libcom-err2,libcrypt1,libdb5.3,libexpat1,libffi8,libgcc-s1,libgomp1,libgssapi-krb5-2,liblzma5
libraries+=,libncursesw6,libnsl2,libreadline8,libsqlite3-0,libssl3,libstdc++6,libuuid1,zlib1g
of_packages gcr.io/distroless/python3-debian12 extract \
    "base-files,ca-certificates,libc6,libpython3.11-stdlib,media-types,netbase,python3-minimal,tzdata,$libraries"

if ! b build --quiet --pull-never --format docker --network host --tag dicom2fhir . >"$place/log" 2>&1; then
    tail -20 "$place/log"
    exit 1
fi
of_image() { b inspect --type image dicom2fhir | jq --raw-output ".Docker.config | $1"; }
readarray -t environment < <(of_image '.Env[]')
readarray -t command < <(of_image '.Entrypoint[], .Cmd[]')
readarray -t health < <(of_image '.Healthcheck.Test[1:][]')
root=$(b mount "$(b from --pull-never dicom2fhir)")
megabytes=$(($(du --summarize --block-size=1 --apparent-size "$root" | cut -f1) / 1000000))
echo "image: $megabytes MB unpacked, less than $most_megabytes"
[ "$megabytes" -lt "$most_megabytes" ]

mkdir -p "$place/root" "$root/etc/dicom2fhir"
cat >"$root/etc/dicom2fhir/config.toml" <<'END'
[store]
quiet_period_s = 0.5
[destinations.files]
type = "file"
directory = "/var/lib/dicom2fhir/out"
END
mount --bind "$root" "$place/root"
mount -o remount,bind,ro "$place/root"
mount -t tmpfs tmpfs "$place/root/tmp"
mount -t tmpfs -o uid=8104,gid=8104,mode=700 tmpfs "$place/root/var/lib/dicom2fhir"
mkdir "$place/root/var/lib/dicom2fhir/out"
chown 8104:8104 "$place/root/var/lib/dicom2fhir/out"
mount --rbind /dev "$place/root/dev"

# no network but its own, so that the ports of the image are free
unshare --net --mount --pid --fork --kill-child --mount-proc bash -euo pipefail -s <<INSIDE
ip link set lo up
mount -t proc proc "$place/root/proc"
inside() {
    env -i HOME=/var/lib/dicom2fhir ${environment[@]@Q} /usr/bin/setpriv --no-new-privs \
        /usr/sbin/chroot --userspec=8104:8104 "$place/root" "\$@"
}
! inside sh -c : 2>/dev/null
inside dicom2fhir --version
inside dicom2fhir demo >/dev/null
inside python -c "import authlib, opentelemetry.sdk, psycopg"
inside python -c "import botocore.session as b; b.get_session().create_client('s3', region_name='eu-central-1')"
inside ${command[@]@Q} >"$place/log" 2>&1 &
trap 'tail -20 "$place/log"' ERR
until inside ${health[@]@Q} 2>/dev/null; do
    jobs -r %1 >/dev/null
    sleep 0.2
done
inside python -c "from dicom2fhir.demo.synthetic import instance; instance('CT').save_as('/tmp/1.dcm', enforce_file_format=True)"
storescu -aec DICOM2FHIR 127.0.0.1 11112 "$place/root/tmp/1.dcm"
until compgen -G "$place/root/var/lib/dicom2fhir/out/*" >/dev/null; do
    jobs -r %1 >/dev/null
    sleep 0.2
done
inside dicom2fhir status
pkill -TERM --exact dicom2fhir
wait %1
INSIDE
echo "image: built, run, healthy, received, delivered, stopped"
