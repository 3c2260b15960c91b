//! A tree with what a file system can hold, and all about it; made and told by a shell in an instance.

/// All about the files below /data, as the instance sees them.
pub const FACTS: &str = "cd /data && find . | sort | while read -r f; do stat -c '%n %F %a %u:%g %s %Y %h %t,%T' \"$f\"; \
     [ ! -f \"$f\" ] || md5sum <\"$f\"; [ ! -L \"$f\" ] || readlink \"$f\"; done";

/// A tree with what a file system can hold.
pub const FILL: &str = "mkdir -p /data/deep/er && cd /data && echo text >file && ln file hard && ln -s file link && \
     mkfifo -m 640 fifo && truncate -s 8M holes && echo x | dd of=holes bs=1 seek=4000000 conv=notrunc 2>/dev/null && \
     chown 1000:33 file && chmod 4755 file && dd if=/dev/zero of=full bs=64k count=20 2>/dev/null && \
     touch -d '2001-02-03 04:05:06' deep/old && chown 65534:65534 deep && chmod 1777 . && rm /etc/group";
