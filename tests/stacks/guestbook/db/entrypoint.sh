#!/bin/sh
# Makes the database on the first start, then serves it as its own user.
set -eu
install -d -o mysql -g mysql /run/mysqld
if [ ! -d /var/lib/mysql/mysql ]; then
    chown mysql:mysql /var/lib/mysql
    mariadb-install-db --user=mysql --auth-root-authentication-method=socket >/dev/null
    cat > /tmp/first.sql <<SQL
CREATE DATABASE $MYSQL_DATABASE;
CREATE USER '$MYSQL_USER'@'%' IDENTIFIED BY '$MYSQL_PASSWORD';
GRANT ALL ON $MYSQL_DATABASE.* TO '$MYSQL_USER'@'%';
SQL
    exec mariadbd --user=mysql --init-file=/tmp/first.sql
fi
exec mariadbd --user=mysql
