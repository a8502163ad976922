#!/bin/sh
# A fake of systemctl and of systemd's care for a unit. It knows only the words that Havre says to
# it, takes units only as it would write them, and acts on what daemon-reload has read, as the real
# one does. What it was told is in $told; a file $state/fails-COMMAND makes that command fail.
set -u
units=/etc/systemd/system
state=/run/fake-systemd
told=$state/told
command=${1-}

refuse() {
    echo "fake systemctl: $*" >&2
    exit 64
}

# The values of a key of the loaded unit, one a line. None of a test's holds a space.
values() {
    sed -n "s/^$1=//p" "$state/loaded/$unit" | tr -d '"'
}

runs() {
    [ -e "$state/main-$unit" ]
}

stop() {
    runs || return 0
    [ "$(values KillMode)" = process ] || refuse "would end everything that the daemon started"
    touch "$state/stopping-$unit"
    kill -TERM "$(cat "$state/main-$unit")"
    while runs; do sleep 0.02; done
}

# Runs the daemon again and again, as Restart=always and RestartPreventExitStatus= have it.
supervise() {
    [ "$(values Restart)" = always ] || refuse "Restart=$(values Restart)"
    set --
    for variable in $(values Environment); do
        set -- "$@" "$variable"
    done
    exe=$(values ExecStart)
    while :; do
        # shellcheck disable=SC2086
        env -i PATH="$PATH" "$@" ${exe#:} &
        echo $! >"$state/main-$unit.new"
        mv "$state/main-$unit.new" "$state/main-$unit"
        wait $!
        code=$?
        [ -e "$state/stopping-$unit" ] && break
        [ "$code" = "$(values RestartPreventExitStatus)" ] && break
        sleep 0.1
    done
    rm -f "$state/stopping-$unit" "$state/main-$unit"
}

if [ "$command" = supervise ]; then
    unit=$2
    supervise
    exit
fi

echo "$*" >>"$told"
[ ! -e "$state/fails-$command" ] || {
    echo "Access denied" >&2
    exit 4
}
case "$command $#" in
'daemon-reload 1')
    rm -rf "$state/loaded"
    mkdir "$state/loaded"
    for file in "$units"/*.service; do
        [ ! -e "$file" ] || cp "$file" "$state/loaded"
    done
    exit
    ;;
'enable 2' | 'start 2' | 'stop 2') unit=$2 ;;
'disable 3') [ "$2" = --now ] || refuse "$*" && unit=$3 ;;
*) refuse "$*" ;;
esac
[ -f "$state/loaded/$unit" ] || refuse "Unit $unit not found"
case $command in
enable) touch "$state/enabled-$unit" ;;
disable)
    [ -e "$state/enabled-$unit" ] || refuse "$unit is not enabled"
    rm "$state/enabled-$unit"
    stop
    ;;
stop) stop ;;
start)
    runs && exit
    setsid "$0" supervise "$unit" </dev/null >>"$state/journal" 2>&1 &
    root=$(values Environment | sed -n 's/^HAVRE_ROOT=//p')
    exe=$(values ExecStart | sed 's/^:\([^ ]*\) .*/\1/')
    until "$exe" --root "$root" version | grep -q '(pid'; do sleep 0.02; done
    ;;
esac
