#!/bin/sh
# Two users of Postgres in turn; the secret is the address: postgresql+psycopg://shop_a:PASSWORD@db/novels
set -eu
sql() { havre exec -i db psql --quiet --no-align --tuples-only --set=ON_ERROR_STOP=1 -h /tmp -U novels novels; }
user() { sed 's|.*//\([^:]*\):.*|\1|' "$1"; }
password() { sed 's|.*//[^:]*:\([^@]*\)@.*|\1|' "$1"; }

case $1 in
new) # not for Havre: an address for the user whose turn it is, for `havre secret rotate --stdin`
    next=$(echo "SELECT CASE WHEN rolcanlogin THEN 'shop_b' ELSE 'shop_a' END FROM pg_roles WHERE rolname = 'shop_a'" | sql)
    printf 'postgresql+psycopg://%s:%s@db/novels' "$next" "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"
    ;;
add)
    echo "ALTER ROLE $(user "$HAVRE_NEW_FILE") LOGIN PASSWORD '$(password "$HAVRE_NEW_FILE")'" | sql
    ;;
verify)
    password "$HAVRE_NEW_FILE" | havre exec -i db sh -c \
        'read -r PGPASSWORD; export PGPASSWORD; psql --quiet -h db -U "$0" novels -c "SELECT 1"' "$(user "$HAVRE_NEW_FILE")"
    ;;
retire)
    echo "ALTER ROLE $(user "$HAVRE_OLD_FILE") NOLOGIN" | sql
    ;;
esac
