//! Custom volumes of unprivileged instances where ZFS has no ID-mapped mounts (before 2.2): owners are shifted on disk. For the
//! guest (`tests/guest/root-tier root_storage -- zfs_owners`).

use super::support::More;
use super::zfs::{only_images, said, state, unique};

/// Owner and content of what the tests write, as an instance sees them.
const LOOK: &str = "stat -c '%u:%g %a' /data/f /data/d/g && cat /data/f";
const SEEN: &str = "0:0 644\n5:7 4755\none\n";

#[test]
fn zfs_owners_follow_the_instance() {
    let Some(state) = state("zfs_owners_follow_the_instance") else { return };
    let pool = unique(&state, "own");
    state.ok(&format!("storage create p zfs size=512MiB zfs.pool_name={pool}"));
    state.ok("storage volume create p v initial.uid=3");
    for name in ["c1", "c2", "c3", "c4"] {
        state.ok(&format!("create img {name} -s p"));
    }
    state.ok("config set c3 security.privileged=true");
    state.ok("config set c4 security.idmap.isolated=true");
    state.ok("storage volume attach p v c1 data /data");
    state.ok("start c1");
    state.sh("c1", "umask 022; mkdir /data/d; echo one >/data/f; echo two >/data/d/g").good().unwrap();
    state.sh("c1", "chown 5:7 /data/d/g; chmod 4755 /data/d/g").good().unwrap();
    assert_eq!(state.sh("c1", LOOK).good().unwrap(), SEEN);
    if said(&format!("zfs get -H -o value stapes:idmap {pool}/custom/default_v")).trim() == "-" {
        return super::common_root::skip("zfs_owners_follow_the_instance", "this ZFS has ID-mapped mounts");
    }
    // Shared by those of the same map, also while they run.
    state.ok("start c2");
    state.ok("storage volume attach p v c2 data /data");
    assert_eq!(state.sh("c2", LOOK).good().unwrap(), SEEN);
    state.ok("config device add c2 part disk pool=p source=v/part path=/part initial.gid=4");
    assert_eq!(state.sh("c2", "stat -c %u:%g /part").good().unwrap(), "3:4\n");
    // And by nobody else.
    state.ok("storage volume attach p v c3 data /data");
    state.refuses("start c3", "and storage volume \"v\" are not identical");
    state.ok("start c4");
    state.refuses("storage volume attach p v c4 data /data", "and storage volume \"v\" are not identical");
    // As they are seen inside, whoever looks.
    state.ok("storage volume file push --uid 6 --gid 8 --mode 600 /etc/hostname p v/h");
    assert_eq!(state.sh("c1", "stat -c %u:%g /data/h").good().unwrap(), "6:8\n");
    state.ok("storage volume file delete p v/h");
    everything_of_it(&state);
    state.ok("stop -f c1 c2 c4");
    others_in_turn(&state);
    state.ok("delete -f c1 c2 c3 c4");
    state.ok("storage volume delete p v");
    only_images(&pool);
    state.finish(&["p"]);
}

/// Snapshots, copies and backups have the owners that the instances see.
fn everything_of_it(state: &super::common_root::State) {
    state.ok("storage volume snapshot create p v s");
    state.ok("storage volume copy p/v p/w");
    state.ok("storage volume copy p/v default/x");
    state.ok(&format!("storage volume export p v {} --compression none", state.path("v.tar").display()));
    state.ok(&format!("storage volume import p {} y", state.path("v.tar").display()));
    let listed = said(&format!("tar --numeric-owner -tvf {}", state.path("v.tar").display()));
    assert_eq!(listed.lines().filter(|line| line.contains(" 5/7 ") && line.ends_with("/d/g")).count(), 2, "{listed}");
    for (of, name) in [("p", "w"), ("default", "x"), ("p", "y")] {
        state.ok(&format!("storage volume attach {of} {name} c1 other /other"));
        let look = LOOK.replace("/data", "/other");
        assert_eq!(state.sh("c1", &look).good().unwrap(), SEEN, "{name}");
        state.ok(&format!("storage volume detach {of} {name} c1 other"));
        state.ok(&format!("storage volume delete {of} {name}"));
    }
}

/// Each has them for itself in its turn; what was restored, too.
fn others_in_turn(state: &super::common_root::State) {
    state.ok("storage volume attach p v c4 data /data");
    for name in ["c3", "c4", "c1"] {
        state.ok(&format!("start {name}"));
        assert_eq!(state.sh(name, LOOK).good().unwrap(), SEEN, "{name}");
        state.ok(&format!("stop -f {name}"));
    }
    state.ok("start c4");
    state.sh("c4", "rm /data/f; chown 9:9 /data/d/g").good().unwrap();
    state.ok("stop -f c4");
    state.ok("storage volume snapshot restore p v s");
    for name in ["c4", "c3"] {
        state.ok(&format!("start {name}"));
        assert_eq!(state.sh(name, LOOK).good().unwrap(), SEEN, "{name}");
        state.ok(&format!("stop -f {name}"));
    }
    // The host's own ids.
    state.ok("storage volume set p v security.unmapped=true");
    state.ok("start c1");
    assert_eq!(state.sh("c1", "stat -c %u /data/f").good().unwrap(), "65534\n");
    state.ok("stop -f c1");
}
