. ../lib.sh
until_expected "seed 1" fetch /
# Another network is out of reach, and has not even a name here.
in_vault() { "$HAVRE" exec vault python3 -c "$1" 2>&1 || true; }
expect "gaierror" in_vault "import socket; socket.create_connection(('stranger', 9000), 3)"
# An internal network has no way out.
expect "Error" in_vault "import socket; socket.create_connection(('192.0.2.1', 80), 3)"
expect "<title>" "$HAVRE" exec front python3 -c "from urllib.request import urlopen; print(urlopen('http://stranger:9000').read())"
