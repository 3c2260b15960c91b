#!/bin/sh
# Process 1 of the machine whose power will be cut: mounts the disk, gives the workers their commands, and marks on the disk
# itself, beyond the file system, when each began and ended.
#
# The lines above this file set DISK_FS, MOUNT, STATE, MODULES and MARKS (the block of the first mark).
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
mount -t tmpfs tmpfs /run
mkdir -p "$MOUNT"
mount -t "$DISK_FS" /dev/vda "$MOUNT" || { echo "no mount"; exec poweroff -f; }
[ -z "$STATE" ] || export STAPES_DIR=$STATE

mark() {
    printf '%-4095s\n' "STAPES $1 $3" >"/tmp/mark-$1"
    dd if="/tmp/mark-$1" of=/dev/vda bs=4096 count=1 seek=$((MARKS + $2)) oflag=direct conv=notrunc 2>/dev/null
}

worker() {
    number=0
    while read -r words; do
        mark "$1" "$2" "begin $number"
        # shellcheck disable=SC2086
        if /payload/stapes $words </dev/null >"/tmp/out-$1" 2>&1; then
            mark "$1" "$2" "end $number"
        else
            echo "FAILED $1 $number $words: $(cat "/tmp/out-$1")"
            return
        fi
        number=$((number + 1))
    done
    echo "worker $1 did $number"
}

# The image first: the other worker needs it.
worker a 0 <"/payload/work-a" &
until /payload/stapes image show img >/dev/null 2>&1; do sleep 0.2; done
worker b 1 <"/payload/work-b" &
wait
echo done
while :; do sleep 1; done
