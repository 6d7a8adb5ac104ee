#!/usr/bin/env bash
# Bring deploy/docker-compose.yml up for real, on simulated boards, and show that it works, is closed, and heals.
# Needs a Docker engine and Compose v2. Cleans up after itself. `make e2e-docker` runs it.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! docker info >/dev/null 2>&1; then
    echo "e2e-docker: no Docker engine here; the compose file was NOT brought up" >&2
    exit 77
fi
PYPMI=${PYPMI:-.venv/bin/pypmi}
work=$(mktemp -d)
fleet=$work/fleet
mkdir "$fleet"
chmod 755 "$work"
free_port() { python3 -c 'import socket,sys; s=socket.socket(type=getattr(socket,sys.argv[1])); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])' "$1"; }
ipmi_port=$(free_port SOCK_DGRAM)
mqtt_port=$(free_port SOCK_STREAM)
cat >"$fleet/fleet.yaml" <<YAML
version: 1
fleet: e2e
mqtt:
  url: mqtts://localhost:$mqtt_port
  ca_file: tls/ca.crt
  username: "{service}"
  password: {file: "secrets/mqtt/{service}"}
gateway:
  listen: ["[::]:623"]
  sol: {public_port: $ipmi_port}
users:
  - {name: admin, password: {file: secrets/ipmi/admin}}
nodes:
  - id: node1
    address: 1
    hardware: {type: esp8266, host: simulator, port: 20000}
    console: {type: esp8266, port: 20001}
  - id: node2
    address: 2
    hardware: {type: esp8266, host: simulator, port: 20002}
YAML
"$PYPMI" init "$fleet" >/dev/null
cat >>"$fleet/.env" <<ENV
PYPMI_IPMI_BIND=127.0.0.1
PYPMI_IPMI_PORT=$ipmi_port
PYPMI_MQTT_BIND=127.0.0.1
PYPMI_MQTT_PORT=$mqtt_port
PYPMI_TAG=e2e
ENV
compose() { docker compose -p pypmi-e2e --env-file "$fleet/.env" -f deploy/docker-compose.yml --profile demo "$@"; }
password=$(cat "$fleet/secrets/ipmi/admin")
ipmi() { ipmitool -I lanplus -H 127.0.0.1 -p "$ipmi_port" -U admin -P "$password" -t 1 "$@"; }
clean_up() {
    status=$?
    [ $status -eq 0 ] || compose logs --tail 30 || true
    compose down -v --timeout 5 >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap clean_up EXIT

say() { printf 'e2e-docker: %s\n' "$*"; }
until_power() { # WANTED SECONDS
    for _ in $(seq 1 $(($2 * 5))); do
        [ "$(ipmi power status 2>/dev/null)" = "Chassis Power is $1" ] && return 0
        sleep 0.2
    done
    say "power did not become $1 within $2 s"
    return 1
}

presses() { # how often the relay was closed so far, as the simulated machine felt it
    compose exec -T simulator python -c \
        "from pypmi_simulator.control import call; print(len(call(19999, 'presses', board=1)['presses']))"
}

compose config -q
say "compose file is valid"
for profile in gpio bmc; do docker compose -p pypmi-e2e --env-file "$fleet/.env" -f deploy/docker-compose.yml --profile $profile config -q; done
for file in wol pi serial; do
    docker compose -p pypmi-e2e --env-file "$fleet/.env" -f deploy/docker-compose.yml -f "deploy/compose.$file.yml" config -q
done
compose build -q
started=$(date +%s.%N)
compose up -d --wait --wait-timeout 120 >"$work/up.log" 2>&1 || { tail -5 "$work/up.log"; exit 1; }
say "all healthy after $(python3 -c "import time; print(f'{time.time() - $started:.0f}')") s"
until_power off 20
ipmi power on >/dev/null
until_power on 20
say "ipmitool turned node1 on through gateway, broker and agent"

if timeout 5 mosquitto_sub -h localhost -p "$mqtt_port" --cafile "$fleet/tls/ca.crt" -t '#' -C 1 -W 3 2>/dev/null; then
    say "the broker let somebody in without an account"; exit 1
fi
if timeout 5 mosquitto_sub -h localhost -p "$mqtt_port" -t '#' -C 1 -W 3 2>/dev/null; then
    say "the broker took plain TCP"; exit 1
fi
say "nothing without an account, nothing without TLS"

for service in ipmi-gateway esp8266-agent sol-relay; do
    id=$(compose ps -q $service)
    [ "$(docker inspect -f '{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}' "$id")" = "true [ALL]" ]
    [ "$(docker exec "$id" id -u)" != 0 ]
    if docker exec "$id" sh -c 'touch /etc/x' 2>/dev/null; then say "$service can write its root"; exit 1; fi
done
say "services run without rights on a read-only root"

before=$(presses)
for service in mosquitto esp8266-agent ipmi-gateway sol-relay; do
    id=$(compose ps -q $service)
    # `docker kill` counts as a wish to stop: end the program itself, as a crash would
    kill -9 "$(docker inspect -f '{{.State.Pid}}' "$id")"
    killed=$(date +%s.%N)
    until [ "$(docker inspect -f '{{.State.Running}} {{.RestartCount}}' "$id")" != "true 0" ]; do sleep 0.05; done
    # the agent takes a command again, and knows that there is nothing to press for
    until ipmi power on >/dev/null 2>&1; do
        python3 -c "import sys, time; sys.exit(time.time() - $killed > 10)" || { say "not whole within 10 s"; exit 1; }
        sleep 0.1
    done
    until_power on 10
    say "whole again $(python3 -c "import time; print(f'{time.time() - $killed:.1f}')") s after $service was killed"
done
[ "$before" = 1 ] && [ "$(presses)" = 1 ] || { say "a relay moved: $before presses before, $(presses) now"; exit 1; }
say "no relay moved"
ipmi power off >/dev/null
until_power off 30
say "and ipmitool turned node1 off again"
stopping=$(date +%s.%N)
compose stop --timeout 5 >/dev/null 2>&1
say "stopped in $(python3 -c "import time; print(f'{time.time() - $stopping:.1f}')") s"

if [ -n "${SIZES:-}" ]; then
    compose up -d --wait --wait-timeout 120 >/dev/null 2>&1
    sleep 20
    python3 deploy/measure.py --project pypmi-e2e --into "$SIZES"
fi
say "passed"
