. ../lib.sh
expect "asked for ${HTTPS_HOST%%:*}" fetch /
expect "by https" fetch /
expect "from nginx" fetch /assets/style.css
