#!/bin/sh
# Process 1 of the machine after the power cut: mounts each disk in turn and tells what is there, mends, uses and deletes it.
#
# The lines above this file set DISKS (letters), DISK_FS, MOUNT, STATE and MODULES. Each command's output is one section:
# `> words`, its lines, `< exit code`.
export PATH=/bin:/sbin HOME=/root TERM=dumb
PORT=/dev/null
for port in /sys/class/virtio-ports/*; do
    [ "$(cat "$port/name")" = results ] && PORT=/dev/${port##*/}
done
exec >"$PORT" 2>&1
for module in $MODULES; do modprobe "$module"; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /dev/pts /dev/shm /var/lib /root
mount -t devpts devpts /dev/pts
mkdir -p "$MOUNT"
[ -z "$STATE" ] || export STAPES_DIR=$STATE

say() {
    echo "> $*"
    "$@" </dev/null
    echo "< $?"
}
stapes() { /payload/stapes "$@"; }
each_instance() { stapes list -f csv,noheader -c n; }

tell() {
    say stapes list -f csv,noheader -c n,s,user.x
    say stapes image list -f csv,noheader -c F
    say stapes image alias list -f csv,noheader
    for name in $(stapes profile list -f csv,noheader | cut -d, -f1); do
        say stapes profile get "$name" user.x
    done
}

look() {
    say mount -t "$DISK_FS" "/dev/vd$1" "$MOUNT"
    mount -t tmpfs tmpfs /run
    tell
    echo "= doctor"
    say stapes doctor -f csv
    say stapes doctor --fix -f csv
    say stapes doctor -f csv
    echo "= after"
    tell
    echo "= use"
    for name in $(each_instance | tail -n 1); do
        say stapes start "$name"
        say stapes exec "$name" -- md5sum /data
    done
    if stapes image show img >/dev/null 2>&1; then
        say stapes launch img fresh
        say stapes exec fresh -- md5sum /data
    fi
    # shellcheck disable=SC2046
    set -- $(each_instance)
    [ $# = 0 ] || say stapes delete -f "$@"
    # shellcheck disable=SC2046
    set -- $(stapes image list -f csv,noheader -c F)
    [ $# = 0 ] || say stapes image delete "$@"
    say stapes doctor -f csv
    say find "$MOUNT" -path '*/pools/*/data/*/*'
    say umount "$MOUNT"
    umount /run
    rm -rf /var/log/stapes /var/cache/stapes
}

for disk in $DISKS; do
    echo "@disk $disk"
    look "$disk"
done
echo "> dmesg"
dmesg | grep -iE '(ext4|xfs|btrfs).*(error|corrupt)'
echo "< 0"
echo done
while :; do sleep 1; done
