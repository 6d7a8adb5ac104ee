#!/bin/sh
# Install pypmi on a Debian or Raspberry Pi OS machine without containers, from a checkout:
#
#   sudo deploy/systemd/install.sh SERVICE...        e.g. rpi-gpio-agent sol-relay
#
# Makes the user pypmi, a virtual environment in /opt/pypmi with the packages that these services need, and the units.
# Run it again to upgrade. Nothing is started before /etc/pypmi/fleet.yaml is there (make it with `pypmi init`).
set -eu
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "run it as root (sudo)" >&2; exit 1; }
[ $# -gt 0 ] || { echo "name the services to install: ipmi-gateway esp8266-agent rpi-gpio-agent sol-relay bmc-agent" >&2; exit 1; }
for service; do
    [ -d "services/$service" ] || { echo "there is no service $service" >&2; exit 1; }
done
id pypmi >/dev/null 2>&1 || useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin pypmi
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed" >&2; exit 1; }
[ -x /opt/pypmi/bin/python ] || python3 -m venv /opt/pypmi
pip="/opt/pypmi/bin/python -m pip --disable-pip-version-check -q install"
$pip --require-hashes -r deploy/images/build.txt
$pip --require-hashes -r deploy/images/shared.txt
$pip --no-deps --no-build-isolation --force-reinstall ./shared
for service; do
    [ ! -f "deploy/images/$service.txt" ] || $pip --require-hashes -r "deploy/images/$service.txt"
    $pip --no-deps --no-build-isolation --force-reinstall "./services/$service"
done
install -d -m 0750 -o pypmi -g pypmi /etc/pypmi /var/lib/pypmi
install -m 0644 deploy/systemd/pypmi@.service /etc/systemd/system/
for service; do
    [ ! -d "deploy/systemd/pypmi@$service.service.d" ] || cp -r "deploy/systemd/pypmi@$service.service.d" /etc/systemd/system/
done
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    for service; do
        systemctl enable "pypmi@$service"
        [ ! -f /etc/pypmi/fleet.yaml ] || systemctl restart "pypmi@$service"
    done
fi
echo "installed: $*. The configuration belongs in /etc/pypmi/fleet.yaml, readable by the user pypmi."
