. ../lib.sh
look() { "$HAVRE" exec "$1" python3 -B /look.py "$2" ${3:+"$3"}; }
fail() { echo "failed: $*" >&2; exit 1; }
# same NAME EXPECTED COMMAND…: the command prints exactly that.
same() {
    name=$1 expected=$2
    shift 2
    found=$("$@" 2>&1) || true
    [ "$found" = "$expected" ] || fail "$name: not '$expected' but '$found'"
}

# What each program says of itself has every line that is expected of it.
wrong=0
for file in expected/*.txt; do
    service=$(basename "$file" .txt)
    found=$(look "$service" show)
    while IFS= read -r line; do
        printf '%s\n' "$found" | grep -qxF -- "$line" && continue
        key=${line%%=*}
        echo "$service: not '$line' but '$(printf '%s\n' "$found" | grep -F -- "$key=" | tr '\n' '|')'" >&2
        wrong=1
    done <"$file"
done
[ "$wrong" = 0 ] || exit 1
# The file in use has two replicas of one service, and one of each other.
same "replicas" 2 sh -c '"$0" ps limits-deploy --json | grep -c "\"id\""' "$HAVRE"
same "a profile that is not asked for" 0 sh -c '"$0" ps --json | grep -c "\"absent\""' "$HAVRE"

# Names: a service by its own, its container's and its aliases; only on networks that are shared.
for name in front front-desk desk reception; do
    same "$name as inner sees it" yes look inner reach "$name"
done
same "inner as front sees it" yes look front reach inner
same "its own name" yes look front reach "$(look front show | sed -n 's/^hostname=//p')"
same "a service of another network" unknown look front resolve stranger
same "a link's alias" "$(look front resolve inner)" look front resolve backdoor.example
same "it is nobody else's" unknown look inner resolve backdoor.example
same "aliases are of one network" unknown look stranger resolve desk
same "localhost without a network" 127.0.0.1 look lonely resolve localhost
own_address() { ip -4 -o address | grep -qF " $(look front resolve machine)/" && echo yes; }
same "host-gateway is an address of this machine" yes own_address
# An internal network has no way out; others have one as far as the machine has.
outside='import socket; socket.create_connection(("192.0.2.1", 9), 3)'
expect "unreachable" sh -c '"$0" exec inner python3 -c "$1" 2>&1 || true' "$HAVRE" "$outside"
expect "argv=serve by-the-image" fetch /
# Datagrams from outside.
udp='import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10)
s.sendto(b"hello", ("127.0.0.1", 18353)); print(s.recvfrom(99)[0].decode())'
same "a published UDP port" "echo hello" python3 -c "$udp"

# health NAME VERDICT: what `ps` says of its probe.
health() { "$HAVRE" ps "$1" --json | tr -d ' \n' | sed 's/.*"health":"\{0,1\}\([a-z]*\).*/\1/'; }
same "the image's health check" healthy health front
same "a health check of its own" healthy health steady
same "health check disabled" null health last
same "health check NONE" null health stubborn
restarts() { "$HAVRE" ps "$1" --json | tr -d ' \n' | sed 's/.*"restarts":\([0-9]*\).*/\1/'; }
same "a restart after a failure" 1 restarts falls-once

# Points of a life, in the order in which they must come.
diary() { "$HAVRE" exec last cat /diary/log | tr '\n' ';'; }
if [ -z "${AGAIN-}" ]; then
    # A step after the start may be quicker than the program.
    first() { diary | sed 's/after last;last began;/last began;after last;/'; }
    same "the first start" "seed;steady began;bare;before last;last began;after last;" first
else
    expect "steady ended by SIGUSR1" diary
    expect "farewell last;last ended by SIGTERM" diary
fi
# What ignores its end is killed after its grace; what follows it is replaced with it.
follower() { "$HAVRE" ps follower --json | grep '"id"'; }
old=$(follower)
begun=$(date +%s)
"$HAVRE" --quiet restart stubborn
[ $(($(date +%s) - begun)) -lt 60 ] || fail "stop_grace_period is not kept"

[ "$(follower)" != "$old" ] || fail "depends_on.restart is not kept"
same "a further name of an image" 1 sh -c '"$0" image ls | grep -c "keys-built:tagged"' "$HAVRE"

# What is kept of the output: two files of 4 KiB (and what was written at once beyond that), and in
# them the newest.
folder=$(ls -td "$HAVRE_ROOT"/lib/logs/keys.production/keys.production.last.* | head -n 1)
same "files of output" 2 sh -c 'ls "$0" | wc -l' "$folder"
same "their size" yes sh -c '[ "$(du -bs "$0" | cut -f 1)" -lt 100000 ] && echo yes' "$folder"
expect "line 3999" "$HAVRE" logs last -n 1
# Where volumes lie; an external one stays what it was.
same "a volume's name" 1 sh -c 'ls -d "$0"/lib/volumes/the-diary/data | wc -l' "$HAVRE_ROOT"
same "a volume that is a folder of the machine" pinned cat "$HAVRE_ROOT/pinned/file"
same "an external volume" "kept by others" cat "$HAVRE_ROOT/lib/volumes/keys-external/data/file"
