#!/bin/sh
# Installs FleetD's agent on this device and brings it into the fleet of the server @IDENTITY@.
# Read it before you run it as root: it carries a key of that fleet.
set -eu

fail() {
    printf 'fleetd: %s\n' "$1" >&2
    exit 1
}

main() {
    server=@SERVER@
    config=/etc/fleetd/config.yaml

    [ "$(id -u)" = 0 ] || fail 'this needs root: run it with sudo'
    command -v dpkg > /dev/null || fail 'this device has no dpkg, and this server has Debian packages only'
    architecture=$(dpkg --print-architecture)
    case $architecture in
    @PACKAGES@
    *) fail "this server has no agent for the processor of this device ($architecture)" ;;
    esac
    if [ -e "$config" ] && ! grep -qF "@IDENTITY@" "$config"; then
        fail "there is a $config already, which this leaves alone: remove it, or write api_endpoint and api_key into it and install the package by hand"
    fi

    # A device that is in a fleet stays there.
    if [ -e /var/lib/fleetd-agent/claim ]; then
        fleetd status 2> /dev/null | grep -q "^Server *@IDENTITY@\$" ||
            fail 'this device is in another fleet, or its agent does not run: sudo fleetd reset takes it out of its fleet'
    fi

    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    trap 'exit 1' HUP INT TERM
    curl @CURL@ -f -o "$folder/$package" @URL@"?architecture=$architecture" ||
        fail 'the package could not be fetched'
    printf '%s  %s\n' "$sum" "$folder/$package" | sha256sum -c --status - ||
        fail 'what was fetched is not the package that the server meant: nothing was installed'

    # The agent reads it as it starts, which it does as soon as it is installed. A device that an
    # earlier key has not brought into the fleet is given this one.
    again=
    if fleetd status > /dev/null 2>&1; then
        :
    elif [ ! -e "$config" ]; then
        mkdir -p /etc/fleetd
        (
            umask 077
            cat > "$config.new" << CONFIG
# Written by the installer of the server @IDENTITY@.
api_endpoint: "$server"
api_key: "$key"
CONFIG
        )
        again=yes
    else
        (
            umask 077
            grep -v '^api_key:' "$config" > "$config.new" || true
            printf 'api_key: "%s"\n' "$key" >> "$config.new"
        )
        again=yes
    fi
    [ -z "$again" ] || mv "$config.new" "$config"
    # apt would bring what the package needs; where all is there already dpkg is enough.
    if command -v apt-get > /dev/null; then
        chmod 755 "$folder"
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$folder/$package"
    else
        dpkg -i "$folder/$package"
    fi

    # One that was installed before runs with what it read then.
    if [ -n "$again" ] && command -v systemctl > /dev/null; then
        systemctl try-restart fleetd-agent || true
    fi

    printf 'fleetd: waiting for %s\n' "$server"
    seconds=0
    until fleetd status > /dev/null 2>&1; do
        seconds=$((seconds + 1))
        if [ "$seconds" -gt 30 ]; then
            fleetd status >&2 || true
            fail 'the agent is installed, but it is not in the fleet yet: see above'
        fi
        sleep 1
    done
    fleetd status
}

key=@KEY@
main
