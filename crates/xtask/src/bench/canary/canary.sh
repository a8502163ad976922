# A program that says all it knows. Encoded in every way that the machine has tools for.
show() {
    for file in $(find /run/secrets -maxdepth 1 -type l -o -maxdepth 1 -type f); do
        cat "$file"; echo
        base64 -w 0 "$file"; echo
        (printf x; cat "$file") | base64 -w 0; echo
        (printf xy; cat "$file") | base64; echo
        od -An -v -tx1 "$file" | tr -d ' \n'; echo
        od -An -v -tx1 "$file" | tr -d ' \n' | tr a-f A-F; echo
    done
    env | grep ^CANARY_ || true
}
case "$1" in
    show) show ;;
    probe) show; exit "${PROBE:-0}" ;;
    run)
        show; show >&2
        [ "$MODE" = crash ] && exit 3
        trap 'show; exit 0' TERM
        while :; do sleep 1 & wait $!; done
        ;;
esac
