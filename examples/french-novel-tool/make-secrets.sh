#!/bin/sh
# Makes secrets/db_password.txt with a random password; leaves one that is there alone.
set -eu
folder=$(dirname "$0")/secrets
file=$folder/db_password.txt
[ -s "$file" ] && exit 0
# The folder keeps others on this machine out. The file itself is readable, since compose
# shows it to the containers as it is and those do not run as root.
chmod 0700 "$folder"
head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$file.new"
chmod 0444 "$file.new"
mv "$file.new" "$file"
