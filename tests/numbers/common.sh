# Shell functions of the scripts here; to be sourced with `bin` set. Makes a state folder and a cgroup of their own, which go
# with the script.

rounds=${ROUNDS-30}

tmp=$(mktemp -d)
# A file system as installers make it, with a journal, for the floor as for us: ext4 without one looks longer and longer for
# an inode after many deletions, and everything here deletes.
# With `disk_in_memory` set it lies in memory: where much is written, a shared disk is as fast as its neighbours let it be.
if [ -n "${disk_in_memory-}" ]; then
    mkdir "$tmp/memory"
    mount -t tmpfs -o size=6G tmpfs "$tmp/memory"
    ln -s memory/disk "$tmp/disk"
    truncate -s 5G "$tmp/disk"
else
    truncate -s 8G "$tmp/disk"
fi
mkfs.ext4 -q "$tmp/disk"
mkdir "$tmp/mnt"
mount -o loop "$tmp/disk" "$tmp/mnt"
export STAPES_DIR=$tmp/mnt/stapes
# Run-time files lie in memory on every host with systemd.
mkdir -p -m 0711 "$STAPES_DIR/run"
mount -t tmpfs -o mode=0711 tmpfs "$STAPES_DIR/run"
cgroup=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts)/stapes-numbers-$$
mkdir "$cgroup"
finish() {
    "$bin" list -f csv -c n 2>/dev/null | xargs -r "$bin" delete -f >/dev/null 2>&1 || true
    umount "$STAPES_DIR/run" || true
    umount "$tmp/mnt" || true
    [ -z "${disk_in_memory-}" ] || umount "$tmp/memory" || true
    rmdir "$cgroup"/*/ "$cgroup" 2>/dev/null || true
    rm -rf "$tmp"
}
trap finish EXIT

cc -O2 -o "$tmp/floor" tests/numbers/floor.c
cc -O2 -o "$tmp/timer" tests/numbers/timer.c
lower=$tmp/mnt/lower
mkdir -p "$lower/bin"
cp "$(command -v busybox)" "$lower/bin/true"

# Microseconds of the floor, now.
floor() {
    local scratch
    scratch=$(mktemp -d "$tmp/mnt/floor.XXXXXX")
    "$tmp/floor" "$lower" "$scratch" "$cgroup" "$rounds"
    rm -rf "$scratch"
}

# row <what> <microseconds> <base microseconds> <base's name> <reach>
row() {
    awk -v what="$1" -v us="$2" -v base="$3" -v name="$4" -v reach="$5" 'BEGIN {
        ratio = us / base
        printf "| %-44s | %9.2f ms | %6.2f × %-12s | %6s | %s |\n", what, us / 1000, ratio, name, reach, ratio <= reach ? "yes" : "NO"
    }'
}


# A pool and no network: that has rows of its own.
without_network() {
    "$bin" admin init --preseed >&2 <<PRESEED
storage_pools: [{name: default}]
profiles: [{name: default, devices: {root: {type: disk, path: /, pool: default}}}]
PRESEED
}
