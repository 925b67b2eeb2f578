# A llama.cpp release archive, unpacked under ~/.local/share/rbee/engines; `current` there is the directory of the
# llama-server that counts. After node/lib/.
# name of its directory, URL (or ''), file that holds it (a path, or relative to the home; '' with a URL, or only to
# ask whether it is there), whether that is ours to remove, SHA-256 (or ''), what the name of a device it has to
# see begins with (a pattern, or ''), the sources of unpack.py and of node_downloader.py.
# shellcheck disable=SC2154 # base: steps.sh

name=$1 url=$2 file=$3 ours=$4 sha256=$5 pattern=$6 unpack=$7 get=$8
engines=$base/engines
place=$engines/$name
fresh=$engines/.$name.new

# works DIRECTORY: whether the llama-server below it runs, and sees the devices that it shall see. Sets $program.
works() {
    program=$(find "$1" -type f -name llama-server 2>/dev/null | awk '{ print gsub("/", "/"), $0 }' | sort -n |
        sed -n '1s/^[0-9]* //p')
    [ -n "$program" ] || {
        told=
        return 1
    }
    for libraries in "${program%/*}" "${program%/*}/../lib"; do
        for library in "$libraries"/lib*.so*; do
            [ ! -e "$library" ] || LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
            break
        done
    done
    export LD_LIBRARY_PATH
    told=$("$program" --version 2>&1 </dev/null) || {
        code=$?
        return 1
    }
    code=0
    [ -z "$pattern" ] || "$program" --list-devices 2>&1 </dev/null | grep -Eq "^ *($pattern)"
}

# by_curl ARGUMENT…
by_curl() {
    # The URL on stdin: other users can read a command line.
    printf 'url = "%s"\n' "$url" |
        curl -K - -g -fsSL --proto "$schemes" --proto-redir "$schemes" --max-redirs 5 --retry 3 -o "$file" "$@"
}

# What comes is run: from https only to https. Over http there is a SHA-256.
fetch() {
    tell step "fetching the archive"
    case $url in https:*) schemes='=https' ;; *) schemes='=http,https' ;; esac
    if curl --version >/dev/null 2>&1; then
        by_curl -C - || { rm -f "$file" && by_curl; }
    elif wget --version 2>/dev/null | grep -q '^GNU Wget 1'; then
        # It would follow a redirect to ftp, and from https to http: there is no such proxy, for no host.
        [ "$schemes" != '=https' ] || set -- -e http_proxy=http://127.0.0.1:9/ -e no_proxy=
        printf '%s\n' "$url" | wget -i - -q -O "$file" --tries=3 --max-redirect=5 -e use_proxy=on \
            -e ftp_proxy=http://127.0.0.1:9/ "$@"
    elif python3 -c 'import ssl' >/dev/null 2>&1; then
        printf '%s\n' "$url" | python3 -I -c "$get" "$file" 0 60 '' >/dev/null
    else # busybox's wget checks no certificate and shows its URL to everybody
        give_up no-fetcher 'there is neither curl nor GNU wget nor a python3 with ssl'
    fi || {
        [ -s "$file" ] || rm -f "$file"
        give_up fetch 'it did not come; a redirect from https to http is not followed'
    }
}

digest() {
    if has sha256sum; then
        sha256sum <"$1"
    elif has shasum; then
        shasum -a 256 <"$1"
    elif has openssl; then
        openssl dgst -sha256 -r <"$1"
    else
        python3 -c 'import hashlib, sys
print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())' <"$1"
    fi | cut -c 1-64
}

# What no python3 checks: tar and unzip themselves leave out names that lead outside.
unpacked() {
    if has python3; then
        python3 -I -c "$unpack" "$file" "$fresh"
    elif [ "$(od -An -c -N2 "$file" | tr -d ' ')" = PK ]; then
        has unzip || give_up no-unzip 'there is neither python3 nor unzip'
        unzip -q -o "$file" -d "$fresh"
    else
        tar -xzf "$file" -C "$fresh" -o
    fi
}

# use DIRECTORY-OF-THE-PROGRAM: at once, whoever looks.
use() {
    ln -s "$1" "$engines/.current.$$" && { mv -T "$engines/.current.$$" "$engines/current" 2>/dev/null ||
        mv -fh "$engines/.current.$$" "$engines/current" 2>/dev/null ||
        { rm -f "$engines/current" && mv "$engines/.current.$$" "$engines/current"; }; }
}

watch
lock
cd || give_up home
mkdir -p "$engines" || give_up home
if works "$place"; then
    [ "$ours" != yes ] || rm -f "$file"
    [ "$(readlink "$engines/current")" = "${program%/*}" ] || { use "${program%/*}" || give_up home; }
    tell 'done' already
    exit 0
fi
if [ -z "$url$file" ]; then
    tell 'done' absent
    exit 0
fi
if [ -n "$url" ]; then
    file=$engines/.$name.part
    ours=yes
    fetch
fi
if [ -n "$sha256" ]; then
    tell step 'checking its SHA-256'
    have=$(digest "$file")
    if [ "$have" != "$sha256" ]; then
        [ "$ours" != yes ] || rm -f "$file"
        tell sha256 "$have"
        give_up sha256
    fi
fi
tell step 'unpacking the archive'
rm -rf "$fresh" "$place"
mkdir -p "$fresh" || give_up home
unpacked
code=$?
[ "$ours" != yes ] || rm -f "$file"
if [ "$code" -ne 0 ] || [ -z "$(find "$fresh" -type f -name llama-server)" ]; then
    rm -rf "$fresh"
    [ "$code" -ne 0 ] || give_up no-server
    give_up unpack
fi
tell step 'trying llama-server'
if ! works "$fresh"; then
    printf '%s\n' "$told"
    rm -rf "$fresh"
    [ "$code" -ne 0 ] || give_up no-device
    tell status "$code"
    give_up broken
fi
mv "$fresh" "$place" || give_up home
program=$place${program#"$fresh"}
use "${program%/*}" || give_up home
tell 'done' installed
exit 0
