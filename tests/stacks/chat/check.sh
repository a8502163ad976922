. ../lib.sh
expect "a chat room" fetch /
fetch "/socket.io/?EIO=4&transport=websocket" --http1.1 --max-time 2 --no-fail-with-body --include \
    --header "Connection: Upgrade" --header "Upgrade: websocket" \
    --header "Sec-WebSocket-Version: 13" --header "Sec-WebSocket-Key: c29ja2V0LmlvIGNoYXQhIQ==" \
    > handshake.tmp 2>/dev/null || true
grep -aq "101 Switching Protocols" handshake.tmp
grep -aq '"sid"' handshake.tmp
rm handshake.tmp
# Across both replicas, by the environment's own network.
expect "heard bonjour" "$HAVRE" exec chat node client.js http://chat:3000
