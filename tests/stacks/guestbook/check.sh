. ../lib.sh
if [ -z "${AGAIN-}" ]; then
    until_expected "Bonjour" fetch / --data-urlencode "text=Bonjour <à tous>"
fi
until_expected "Bonjour &lt;à tous&gt;" fetch /
