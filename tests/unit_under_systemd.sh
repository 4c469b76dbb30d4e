#!/bin/bash
# Runs in a booted systemd, in which tests/integration/test_unit_boots.py has put the unit: what an operator and faults do to it.
set -euxo pipefail
unit=dicom2fhir.service
trap 'journalctl --no-pager --output cat --unit $unit' ERR

shows() { systemctl show --value --property "$1" $unit; }
until_true() { until eval "$1"; do sleep 0.2; done; }  # the test ends what takes too long
destination() { printf '[destinations.%s]\ntype = "file"\ndirectory = "/var/lib/dicom2fhir/%s"\n' "$1" "$1"; }
logged() { journalctl --unit $unit --output cat --no-pager | grep -q "$1"; }

mkdir -p /run/systemd/system/$unit.d
printf '[Service]\nWatchdogSec=3\n' >/run/systemd/system/$unit.d/trial.conf  # the unit's 60 s would make the test long
systemctl daemon-reload
destination files >/etc/dicom2fhir/config.toml

: start
systemctl start $unit
[ "$(systemctl is-active $unit)" = active ]
dicom2fhir echo
until_true '[[ $(shows StatusText) == "DICOM2FHIR listens on "* ]]'
[ "$(stat --format %u /proc/"$(shows MainPID)")" -ge 61184 ]  # a dynamic user (systemd.exec(5)), because there is no dicom2fhir

: reload
first=$(shows MainPID)
destination more >>/etc/dicom2fhir/config.toml
systemctl reload $unit
until_true 'logged config.reloaded'
[ "$(shows MainPID)" = "$first" ]

: restart after kill -9
kill -9 "$first"
until_true '[ "$(shows NRestarts)" = 1 ] && [ "$(systemctl is-active $unit)" = active ]'
second=$(shows MainPID)
[ "$second" != "$first" ]
dicom2fhir echo

: watchdog
alive() { shows WatchdogTimestampMonotonic; }
began=$(alive)
until_true '(( $(alive) > began + 4000000 ))'  # signs of life for longer than the watchdog waits for one, in microseconds
[ "$(shows MainPID)" = "$second" ]
kill -STOP "$second"
until_true '[ "$(shows NRestarts)" = 2 ] && [ "$(systemctl is-active $unit)" = active ]'
journalctl --unit $unit --output cat --no-pager | grep -q 'Watchdog timeout'

: stop
systemctl stop $unit
[ "$(shows Result)" = success ]
[ "$(systemctl is-active $unit)" = inactive ]

: an invalid configuration is not tried again
echo 'nonsense = 1' >/etc/dicom2fhir/config.toml
if systemctl start $unit; then exit 1; fi
[ "$(shows ExecMainStatus)" = 78 ]
[ "$(shows NRestarts)" = 0 ]
echo 'everything was tried'
