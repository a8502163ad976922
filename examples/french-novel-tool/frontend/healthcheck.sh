#!/bin/bash
# http-ok PORT PATH: succeeds when a GET of that path on this host answers 200.
# Bash alone, because it runs every few seconds and starting Python each time would not be free.
exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$2" >&3
IFS= read -r -t 3 status <&3
[[ $status == "HTTP/1.1 200"* ]] && exit 0
echo "GET $2 answered: ${status:-nothing}"
exit 1
