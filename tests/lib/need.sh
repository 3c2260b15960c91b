# Shell functions for the scripts that set a machine up: tests/run, tests/build, examples/quickstart. To be sourced.
#
#   need <package> <program or /absolute/file>    notes what is missing
#   need_peer <package> <program>                 notes one that tests only compare with: without it they are skipped
#   need_install                                  installs it on Debian or Ubuntu as root, and says so;
#                                                 elsewhere names it and fails
#   need_room <GiB> <folder>…                     fails where a folder's file system has less room: a full one fails tests
#                                                 in ways that look like anything else, and stops guests

need_missing=()
need_words=()
need_peers=()
need_options=()

need() {
    local package=$1 what=$2
    case $what in
    /*) [ -e "$what" ] && return 0 ;;
    *) command -v "$what" >/dev/null 2>&1 && return 0 ;;
    esac
    case " ${need_missing[*]-} " in *" $package "*) return 0 ;; esac
    need_missing+=("$package")
    need_words+=("${what##*/}")
}

need_peer() {
    command -v "$2" >/dev/null 2>&1 || need_peers+=("$1")
}

# What every build needs: a C compiler for the compression libraries, and cargo.
need_for_build() {
    need gcc gcc
    need libc6-dev /usr/include/stdio.h
    if [ -n "$(musl_target)" ]; then
        need musl-tools musl-gcc
    fi
}

# What the images, the drivers and the tests of the running containers use.
need_for_containers() {
    need mmdebstrap mmdebstrap
    need busybox-static /bin/busybox
    need iproute2 ip
    need nftables nft
    need dnsmasq-base dnsmasq
    need isc-dhcp-client dhclient
    need iputils-ping ping
    need python3-minimal python3
    need util-linux nsenter
    need procps pgrep
    need tar tar
    need libarchive-tools bsdtar
    need xz-utils xz
    need zstd zstd
    need bzip2 bzip2
    need squashfs-tools mksquashfs
    need attr setfattr
    need btrfs-progs mkfs.btrfs
    need lvm2 lvm
    need thin-provisioning-tools thin_check
    need xfsprogs mkfs.xfs
    need kmod modprobe
    need nginx-light nginx
    need openssl openssl
    need docker-registry docker-registry
    need skopeo skopeo
    need umoci umoci
    need xdelta3 xdelta3
}

# What tests compare with where it can be had.
need_for_comparisons() {
    need_peer incus-extra incus-simplestreams
    # Only where no service manager would begin to run it.
    [ -d /run/systemd/system ] || need_peer incus-base /usr/libexec/incus/incusd
}

# Servers and other firewalls that the tests of networks run in namespaces of their own. Firewalls only where no service
# manager would begin to run them.
need_for_networks() {
    need nginx-light nginx
    need iperf3 iperf3
    need bind9-dnsutils dig
    if [ ! -d /run/systemd/system ]; then
        need iptables iptables-nft-restore
        need ufw ufw
        need firewalld firewall-cmd
        need dbus-daemon dbus-daemon
        need nsd nsd
    fi
}

# What builds images of virtual machines, and boots them.
need_for_machines() {
    need dosfstools mkfs.vfat
    need mtools mcopy
    need e2fsprogs mke2fs
    need qemu-utils qemu-img
    need qemu-system-x86 qemu-system-x86_64
    need ovmf /usr/share/OVMF/OVMF_CODE_4M.fd
}

# What builds and boots the guest.
need_for_guest() {
    need mmdebstrap mmdebstrap
    need busybox-static /bin/busybox
    need qemu-system-x86 qemu-system-x86_64
    need qemu-utils qemu-img
    need e2fsprogs mkfs.ext4
    need kmod depmod
}

need_install() {
    if ! command -v cargo >/dev/null 2>&1; then
        echo "cargo is missing: install Rust (https://rustup.rs) first" >&2
        return 1
    fi
    [ ${#need_missing[@]} -gt 0 ] || [ ${#need_peers[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        [ ${#need_missing[@]} -gt 0 ] || return 0
        echo "Missing: ${need_words[*]}" >&2
        echo "(Debian packages: ${need_missing[*]}; as root on Debian or Ubuntu this script installs them)" >&2
        return 1
    fi
    echo "Installing: ${need_missing[*]} ${need_peers[*]}" >&2
    [ ${#need_peers[@]} -eq 0 ] || need_backports
    if ! apt-get update -qq </dev/null >&2; then
        need_no_backports || return 1
        apt-get update -qq </dev/null >&2 || return 1
    fi
    need_one_qemu
    need_apt "${need_missing[@]}" || return 1
    local peer
    for peer in "${need_peers[@]}"; do
        need_apt "$peer" || echo "$peer cannot be had: tests that compare with it are skipped" >&2
    done
    need_missing=()
    need_words=()
    need_peers=()
}

need_apt() {
    [ $# -eq 0 ] || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need_options[@]}" "$@" \
        </dev/null >&2
}

# QEMU's emulator and its utilities must be of one version. Where newer utilities are installed than there is an emulator,
# they become those of its version.
need_one_qemu() {
    local installed offered
    [[ " ${need_missing[*]-} " == *" qemu-system-x86 "* ]] || return 0
    installed=$(dpkg-query -W -f '${db:Status-Abbrev}${Version}' qemu-utils 2>/dev/null) || return 0
    offered=$(apt-cache policy qemu-system-x86 | sed -n 's/^ *Candidate: //p')
    if [[ $installed == "ii "* ]] && dpkg --compare-versions "${installed#ii }" gt "$offered"; then
        echo "qemu-utils ${installed#ii } makes room for $offered" >&2
        need_missing+=("qemu-utils=$offered")
        need_options+=(--allow-downgrades)
    fi
}

need_backports_source=/etc/apt/sources.list.d/stapes-backports.sources
need_backports_pin=/etc/apt/preferences.d/stapes-backports

# Debian 12 has Incus only in its backports. That suite is added, from where the machine has the others, for that alone:
# whatever else is in there is pinned away. A machine that has the suite already keeps its own ways.
need_backports() {
    local suites mirror keys=/usr/share/keyrings/debian-archive-keyring.gpg
    suites=$(apt-get indextargets --no-release-info --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null)
    mirror=$(sed -n 's/^bookworm //p' <<<"$suites" | head -n 1)
    if [ -z "$mirror" ] || { [[ $suites == *bookworm-backports* ]] && [ ! -e "$need_backports_source" ]; }; then
        return
    fi
    cat >"$need_backports_pin" <<EOF
# Written by the tests of stapes.
Package: *
Pin: release n=bookworm-backports
Pin-Priority: -1

Package: incus-base incus-client incus-extra libcowsql0 libraft0
Pin: release n=bookworm-backports
Pin-Priority: 500
EOF
    cat >"$need_backports_source" <<EOF
# Written by the tests of stapes.
Types: deb
URIs: $mirror
Suites: bookworm-backports
Components: main
EOF
    [ ! -e "$keys" ] || echo "Signed-By: $keys" >>"$need_backports_source"
}

# Takes it away again, where it was added and cannot be read; false if it was not.
need_no_backports() {
    [ -e "$need_backports_source" ] && rm -f "$need_backports_source" "$need_backports_pin"
}

# The musl target of this machine if its standard library is installed, else nothing.
musl_target() {
    local target libdir
    command -v rustc >/dev/null 2>&1 || return 0
    target=$(uname -m)-unknown-linux-musl
    libdir=$(rustc --print target-libdir --target "$target" 2>/dev/null) || return 0
    if compgen -G "$libdir/libstd-*.rlib" >/dev/null; then
        echo "$target"
    fi
}

need_room() {
    local gib=$1 folder free
    shift
    for folder; do
        mkdir -p "$folder"
        free=$(($(df -B1G --output=avail "$folder" | tail -n 1)))
        [ "$free" -lt "$gib" ] || continue
        echo "$folder: $free GiB are free, and the tests need $gib: make room first" >&2
        return 1
    done
}
