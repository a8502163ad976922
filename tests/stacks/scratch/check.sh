. ../lib.sh
expect "version 1.4, user 65534, writable false" fetch /
[ "$("$HAVRE" ps --json hello | grep -c '"running"')" -eq 2 ]
