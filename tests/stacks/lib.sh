# For the check.sh of each stack, which is run in its folder with: URL, HTTPS_HOST, CA, HAVRE, and
# AGAIN=1 after a restart.
set -eu

# fetch PATH [curl's options…]
fetch() {
    path=$1
    shift
    curl --silent --show-error --fail-with-body --max-time 20 --noproxy '*' \
        --cacert "$CA" --resolve "$HTTPS_HOST:127.0.0.1" "$@" "$URL$path"
}

# expect TEXT COMMAND…: what the command prints contains the text.
expect() {
    text=$1
    shift
    found=$("$@") || { echo "failed: $*: $found" >&2; exit 1; }
    case $found in
    *"$text"*) ;;
    *) echo "not '$text' but: $found" >&2; exit 1 ;;
    esac
}

# Until the command prints the text, for at most a minute.
until_expected() {
    text=$1
    shift
    tries=0
    until "$@" 2>/dev/null | grep -q -- "$text"; do
        tries=$((tries + 1))
        [ "$tries" -lt 120 ] || { expect "$text" "$@"; exit 1; }
        sleep 0.5
    done
}
