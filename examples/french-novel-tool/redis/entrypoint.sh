#!/bin/bash
# Gives the volume to the user `redis`, then becomes the server as that user.
set -euo pipefail

if [[ ${1:-} == redis-server && $(id -u) == 0 ]]; then
    chown redis:redis /data
    exec setpriv --reuid=redis --regid=redis --init-groups "$@"
fi
exec "$@"
