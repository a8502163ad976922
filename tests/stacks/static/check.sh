. ../lib.sh
expect "Nothing moves here" fetch /
fetch / --head | grep -qi '^content-type: text/html'
[ "$(fetch /nowhere --no-fail-with-body --output /dev/null --write-out '%{http_code}')" = 404 ]
