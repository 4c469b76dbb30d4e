#!/bin/bash
# Install a package, use it, remove and purge it, in a copy of this machine's file system that is discarded (an overlay).
# As root: deb/try_package.sh PACKAGE.deb
set -euo pipefail
package=$(realpath "$1")
place=$(mktemp -d)
trap 'rmdir "$place"' EXIT

unshare --mount --pid --fork bash -euo pipefail -s "$package" "$place" <<'INSIDE'
mount -t tmpfs overlay "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$2/upper,workdir=$2/work" "$2/root"
mount -t proc proc "$2/root/proc"
mount -t tmpfs tmpfs "$2/root/run"
mount -t tmpfs tmpfs "$2/root/tmp"
mount --rbind /dev "$2/root/dev"
cp "$1" "$2/root/var/dicom2fhir.deb"
chroot "$2/root" /bin/bash -euxo pipefail <<'CHROOT'
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
cd /
dpkg --install /var/dicom2fhir.deb
getent passwd dicom2fhir
test -f /etc/dicom2fhir/config.toml
dicom2fhir --version
dicom2fhir demo --output-dir /tmp/demo >/dev/null
test -n "$(ls /tmp/demo)"
if command -v man >/dev/null; then man --warnings -E UTF-8 -l /usr/share/man/man1/dicom2fhir-convert.1.gz >/dev/null; fi
bash -c '. /usr/share/bash-completion/completions/dicom2fhir && complete -p dicom2fhir'
systemd-analyze verify --man=no /usr/lib/systemd/system/dicom2fhir.service
printf '\n[destinations.files]\ntype = "file"\ndirectory = "/var/lib/dicom2fhir/out"\n' >>/etc/dicom2fhir/config.toml
install -d -o dicom2fhir -g dicom2fhir -m 700 /var/lib/dicom2fhir
install -d -o dicom2fhir -g dicom2fhir /var/lib/dicom2fhir/out
dicom2fhir check-config
dpkg --install /var/dicom2fhir.deb
grep -q destinations.files /etc/dicom2fhir/config.toml
dpkg --remove dicom2fhir
test -f /etc/dicom2fhir/config.toml
test -d /var/lib/dicom2fhir
test ! -e /opt/dicom2fhir
dpkg --purge dicom2fhir
test ! -e /etc/dicom2fhir
test ! -e /var/lib/dicom2fhir
test ! -e /usr/bin/dicom2fhir
CHROOT
INSIDE
echo "installed, used, removed and purged: $(basename "$package")"
