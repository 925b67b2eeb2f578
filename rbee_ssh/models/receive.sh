# Take a file of $2 bytes from stdin to $1 ("~/" is the home); if its SHA-256 is $4, put it in place with the
# note $3 beside it. Two that send the same file at once: the first one's stays, since a worker may have it.
umask 022
case $1 in "~/"*) TO=$HOME/${1#"~/"} ;; *) TO=$1 ;; esac
PART=$TO.part.$$
trap 'rm -f "$PART"' EXIT
trap 'exit 1' HUP INT TERM PIPE
{ mkdir -p "${TO%/*}" && printf '' >"$PART"; } 2>/dev/null || {
    printf 'problem\tdirectory\n'
    exit 73
}
# What a reboot left of an earlier transfer. One that is under way does not stand still for an hour.
for OLD in "$TO".part.*; do
    [ -z "$(find "$OLD" -prune -mmin +60 2>/dev/null)" ] || rm -f "$OLD"
done
cat >"$PART" 2>/dev/null || {
    rm -f "$PART"
    printf 'problem\tfull\n'
    exit 74
}
[ "$(wc -c <"$PART")" -eq "$2" ] || {
    printf 'problem\tshort\n'
    exit 74
}
for TOOL in sha256sum 'shasum -a 256' 'openssl dgst -sha256 -r' 'busybox sha256sum'; do
    command -v "${TOOL%% *}" >/dev/null 2>&1 || continue
    SUM=$($TOOL <"$PART" 2>/dev/null) && break
done
SUM=${SUM%% *}
if [ -n "$SUM" ] && [ "$SUM" != "$4" ]; then
    printf 'sha256\t%s\n' "$SUM"
    exit 65
fi
if [ ! -f "$TO" ] || [ "$(wc -c <"$TO")" -ne "$2" ] || ! grep -q -F -e "$4" "$TO.json" 2>/dev/null; then
    { printf '%s\n' "$3" >"$TO.json" && mv -f "$PART" "$TO"; } 2>/dev/null || {
        printf 'problem\tdirectory\n'
        exit 73
    }
fi
STAT=$(stat -c '%s %Y' "$TO" 2>/dev/null || stat -f '%z %m' "$TO")
printf 'path\t%s\nsize\t%s\nmtime\t%s\nsha256\t%s\n' "$TO" "${STAT% *}" "${STAT#* }" "$SUM"
