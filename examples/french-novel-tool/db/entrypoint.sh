#!/bin/bash
# Makes the database on the first start, then becomes Postgres. Runs as root only until the
# folders belong to the user `postgres`.
#
# POSTGRES_USER, POSTGRES_DB      both default to `novels`
# POSTGRES_PASSWORD_FILE          the user's password (or POSTGRES_PASSWORD); needed once
set -euo pipefail

readonly data=/var/lib/postgresql/data/cluster
readonly user=${POSTGRES_USER:-novels}
readonly database=${POSTGRES_DB:-novels}

password() {
    if [[ -n ${POSTGRES_PASSWORD_FILE:-} ]]; then
        cat "$POSTGRES_PASSWORD_FILE"
    else
        printf '%s\n' "${POSTGRES_PASSWORD:?set POSTGRES_PASSWORD_FILE or POSTGRES_PASSWORD}"
    fi
}

# In a folder beside, renamed when complete: a first start that is cut short is started anew.
make_cluster() {
    local fresh=$data.new
    rm -rf "$fresh"
    initdb --pgdata="$fresh" --username="$user" --pwfile=<(printf '%s\n' "$1") \
        --encoding=UTF8 --locale=C.UTF-8 --auth-local=trust --auth-host=scram-sha-256 --no-sync
    echo 'host all all all scram-sha-256' >> "$fresh/pg_hba.conf"
    cat >> "$fresh/postgresql.conf" <<'CONF'
listen_addresses = '*'
unix_socket_directories = '/tmp'
shared_buffers = 32MB
max_connections = 100
# Compiling queries costs more memory and start-up time than these small queries gain.
jit = off
CONF
    if [[ $database != postgres ]]; then
        printf 'CREATE DATABASE "%s";\n' "$database" |
            postgres --single -D "$fresh" postgres > /dev/null
    fi
    sync --file-system "$fresh"
    mv "$fresh" "$data"
}

if [[ ${1:-} == postgres && $(id -u) == 0 ]]; then
    secret=
    [[ -s $data/PG_VERSION ]] || secret=$(password)
    chown postgres:postgres /var/lib/postgresql/data
    chmod 0700 /var/lib/postgresql/data
    # The secret goes through a variable of this one process: its file may be readable by root only.
    export DB_FIRST_PASSWORD=$secret
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

if [[ ${1:-} == postgres ]]; then
    if [[ ! -s $data/PG_VERSION ]]; then
        make_cluster "${DB_FIRST_PASSWORD:-$(password)}"
    fi
    unset DB_FIRST_PASSWORD
    exec "$@" -D "$data"
fi
exec "$@"
