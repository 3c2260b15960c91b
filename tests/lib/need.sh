# Shell functions for the scripts that set a machine up: tests/run, tests/build, examples/quickstart. To be sourced.
#
#   need <package> <program or /absolute/file>    notes what is missing
#   need_install                                  installs it on Debian or Ubuntu as root, and says so;
#                                                 elsewhere names it and fails

need_missing=()
need_words=()

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
    need tar tar
    need libarchive-tools bsdtar
    need xz-utils xz
    need zstd zstd
    need bzip2 bzip2
    need squashfs-tools mksquashfs
    need attr setfattr
    need btrfs-progs mkfs.btrfs
    need xfsprogs mkfs.xfs
    need kmod modprobe
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
    [ ${#need_missing[@]} -eq 0 ] && return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        echo "Missing: ${need_words[*]}" >&2
        echo "(Debian packages: ${need_missing[*]}; as root on Debian or Ubuntu this script installs them)" >&2
        return 1
    fi
    echo "Installing: ${need_missing[*]}" >&2
    apt-get update -qq </dev/null >&2 || return 1
    DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${need_missing[@]}" </dev/null >&2 || return 1
    need_missing=()
    need_words=()
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
