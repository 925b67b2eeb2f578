# The system packages of the tests, sourced by scripts/test after env.sh.
# shellcheck shell=sh

# program:Debian package
NEEDED='sshd:openssh-server ssh:openssh-client ip:iproute2 iptables:iptables setpriv:util-linux curl:curl
zsh:zsh fish:fish csh:csh busybox:busybox cron:cron ps:procps lsof:lsof
faketime:faketime'

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

missing_packages() {
    for pair in $NEEDED "$@"; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || printf '%s ' "${pair#*:}"
    done
    # llama-server is linked to the OpenMP library; a compiler would bring it along.
    ldconfig -p 2>/dev/null | grep -q 'libgomp\.so\.1' || printf 'libgomp1 '
    # Vulkan on the CPU: a GPU for the tests of devices and their memory.
    set -- /usr/share/vulkan/icd.d/lvp_icd*
    [ -e "$1" ] || printf 'mesa-vulkan-drivers '
}

# Root on a Debian gets what is missing; anyone else is told, and the tests that need it are skipped.
system_packages() { # [PROGRAM:PACKAGE...]
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        say "some tests will be skipped; for all of them, as root: apt-get install $missing"
        return 0
    fi
    say "installing for the test nodes (sshd, networks, shells, cron, Vulkan): $missing"
    no_services
    # shellcheck disable=SC2086
    if ! install $missing >/dev/null 2>&1; then
        # One unreachable source of many is an error to apt-get update; whether it matters is seen below.
        apt-get update </dev/null >/dev/null 2>&1 || :
        # shellcheck disable=SC2086
        quietly install $missing
    fi
    services_again
}

install() { DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" </dev/null; }

# The tests start the daemons they need in namespaces of their own; none is to start on this machine because
# its package was installed. Debian asks /usr/sbin/policy-rc.d, and 101 is a no.
no_services() {
    policy=/usr/sbin/policy-rc.d
    [ ! -e "$policy" ] || { policy='' && return; }
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap services_again EXIT
}

services_again() {
    [ -z "$policy" ] || rm -f "$policy"
    policy=''
    trap - EXIT
}
