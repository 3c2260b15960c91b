# Shell functions for the scripts that boot a guest: tests/guest/{run,shell,root-tier,power-cut}. To be sourced.
#
#   guest_accel <folder>    how QEMU runs a guest here: `-accel … -cpu …`; the folder is that of tests/guest/build
#   guest_card              what gives a guest a network card with virtual functions, where QEMU knows one (from 8.0 on)
#   guest_debian <bin> [folder]    builds the images of Debian that tests import, once; kept in target/test-cache

# The emulator; GUEST_QEMU names another one.
guest_qemu=${GUEST_QEMU:-qemu-system-x86_64}

guest_card() {
    # The list of all: of one that it does not know, its status says nothing.
    ! "$guest_qemu" -device help 2>/dev/null </dev/null | grep -q 'name "igb"' ||
        echo "-netdev hubport,id=card,hubid=0 -device pcie-root-port,id=rp0,slot=0 -device igb,bus=rp0,netdev=card,romfile="
}

# /dev/kvm is no proof: guests may hang on it. One that gets as far as its kernel's first words within a few seconds is.
guest_accel() {
    local said
    if [ -w /dev/kvm ]; then
        said=$(mktemp)
        timeout -k 1 "${GUEST_PROBE_SECONDS:-5}" "$guest_qemu" -nodefaults -no-user-config -no-reboot -nographic \
            -machine q35 -accel kvm -cpu host -m 256 -kernel "$1/vmlinuz" -append 'console=ttyS0 panic=-1' \
            -serial "file:$said" >/dev/null 2>&1 </dev/null || true
        if grep -q 'Linux version' "$said"; then
            rm "$said"
            echo "-accel kvm -cpu host"
            return
        fi
        rm "$said"
    fi
    echo "-accel tcg,thread=multi -cpu max,erms=off,fsrm=off,la57=off"
}

# Inside there is no network: what comes from the distribution is made here. With a payload's folder behind it, it is put
# there for the tests to find.
guest_debian() {
    local done=1
    guest_image "$1" debian-12-udev && guest_image "$1" podman-12-udev --package podman --package crun || done=
    if [ -n "${2-}" ]; then
        mkdir -p "$2/source/target/test-cache"
        cp target/test-cache/* "$2/source/target/test-cache/" || done=
    fi
    [ -n "$done" ]
}

# guest_image <bin> <name> [flag…]: Debian 12, built with these flags.
guest_image() {
    local bin=$1 name=$2 cache=target/test-cache state file ending done=
    shift 2
    if compgen -G "$cache/$name.1-rootfs.*" >/dev/null; then
        return 0
    fi
    state=$(mktemp -d)
    echo "Building the image $name …" >&2
    if "$bin" --state-dir "$state/s" image build bootstrap:debian/12 --alias it "$@" </dev/null >&2 && mkdir "$state/out" &&
        "$bin" --state-dir "$state/s" image export it "$state/out" >&2; then
        mkdir -p "$cache"
        for file in "$state/out"/*; do
            ending=${file##*/}
            ending=${ending#*.}
            case ${file##*/} in
            meta-*) cp "$file" "$cache/$name.0-meta.$ending" ;;
            *) cp "$file" "$cache/.new-$name" && mv "$cache/.new-$name" "$cache/$name.1-rootfs.$ending" && done=1 ;;
            esac
        done
    fi
    rm -rf "$state"
    [ -n "$done" ]
}

# guest_payload <folder> <bin> [WORD…]: what the tests need inside, in the folder: `stapes`, `tests/<name>` (all root_* test
# programs, or those that run in a guest and whose name has one of the words), `source`, which stands where this folder is,
# and `environment`.
#
# Variables STAPES_* of the caller are handed on by `environment`. One that names a file brings the file along, and names
# the copy inside. GUEST_PROGRAMS names what `cargo test --no-run` said, if it has been run: it waits for others' builds.
guest_payload() {
    local folder=$1 bin=$2 program name wanted word value
    shift 2
    [ $# -gt 0 ] || set -- root_
    mkdir -p "$folder"/{tests,files} "$folder"/source/target/{test-cache,tmp}
    cp "$bin" "$folder/stapes"
    cc -O1 -static -o "$folder/probe" tests/root_security/probe.c && local -x STAPES_TEST_PROBE=$folder/probe
    for name in $(compgen -e STAPES_); do
        value=${!name}
        case $name in
        STAPES_DIR | STAPES_PROJECT | STAPES_REMOTE | STAPES_FAULT | STAPES_BIN) continue ;;
        esac
        if [ -f "$value" ]; then
            mkdir -p "$folder/files/$name"
            # Programs come without what only a debugger reads.
            objcopy --strip-debug "$value" "$folder/files/$name/${value##*/}" 2>/dev/null || cp "$value" "$folder/files/$name/"
            value=/payload/files/$name/${value##*/}
        fi
        printf 'export %s=%q\n' "$name" "$value"
    done >"$folder/environment"
    cat >>"$folder/environment" <<INSIDE
export PATH=/payload/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
export STAPES_BIN=/payload/stapes STAPES_PARALLEL_SECONDS=\${STAPES_PARALLEL_SECONDS:-20}
export STAPES_HYGIENE_CYCLES=\${STAPES_HYGIENE_CYCLES:-25}
mkdir -p "$(dirname "$PWD")"
[ -e "$PWD" ] || ln -s /payload/source "$PWD"
INSIDE
    mkdir "$folder/bin"
    ln -s ../stapes "$folder/bin/stapes"
    # The whole crash matrix stays outside: thousands of cases, and emulation is slow. A selection may go in.
    if [ -n "${GUEST_PROGRAMS-}" ]; then
        grep -E '(root_|guest_[rs]|storage_)[a-z_]*-[0-9a-f]*\)$' "$GUEST_PROGRAMS"
    else
        cargo test --locked --no-run --test 'root_*' --test 'guest_[rs]*' --test 'storage_*' 2>&1
    fi | tee "$folder/build" |
        sed -n 's/.*(\(target[^)]*\))$/\1/p' | while read -r program; do
        name=$(basename "$program" | sed 's/-[0-9a-f]*$//')
        wanted=
        for word; do case $name in *"$word"*) wanted=1 ;; esac; done
        [ "$name" != root_crash_matrix ] || [ -n "${STAPES_MATRIX-}" ] || wanted=
        [ -z "$wanted" ] || objcopy --strip-debug "$program" "$folder/tests/$name"
    done
    if ! compgen -G "$folder/tests/*" >/dev/null; then
        tail -n 30 "$folder/build" >&2
        echo "No such test program was built" >&2
        return 1
    fi
}
