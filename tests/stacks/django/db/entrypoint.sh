#!/bin/sh
# Makes the cluster on the first start, then serves it.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username=tally --auth=trust >/dev/null
    echo "host all all all trust" >> "$PGDATA/pg_hba.conf"
    printf 'CREATE DATABASE tally;\n' | postgres --single postgres >/dev/null
fi
exec postgres -c listen_addresses='*'
