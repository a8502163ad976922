. ../lib.sh
# The protocol is lines; the last one ends the connection.
ask() { printf '%s\r\nQUIT\r\n' "$1" | curl --silent --max-time 10 telnet://127.0.0.1:16379; }
until_expected "PONG" ask PING
if [ -z "${AGAIN-}" ]; then
    expect "OK" ask "SET greeting bonjour"
fi
until_expected "bonjour" ask "GET greeting"
expect "4096" "$HAVRE" exec cache sh -c "ulimit -n"
expect "512" "$HAVRE" exec cache cat /proc/sys/net/core/somaxconn
