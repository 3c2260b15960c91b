//! Create, show, set, use, delete, for every driver.

use super::common_root::leftovers;
use super::support::{More, state};

#[test]
fn pools_of_every_driver_are_made_used_and_deleted() {
    let Some(state) = state("pools_of_every_driver_are_made_used_and_deleted", true) else { return };
    for (driver, keys) in [("dir", ""), ("overlay", " user.a=1"), ("btrfs", " size=512MiB")] {
        let said =
            state.given(&format!("storage create p {driver}{keys} --description Mine"), "config:\n  user.y: \"2\"\n");
        assert_eq!(said.good().unwrap(), "Storage pool p created\n");
        assert_eq!(state.ok("storage get p user.y"), "2\n");
        assert_eq!(state.ok("storage get p description -p"), "Mine\n");
        state.ok("launch img c1 -s p");
        state.sh("c1", "echo hello >/root/file && sync").good().unwrap();
        assert!(state.ok("config device get c1 root pool").contains('p'));
        state.refuses("storage delete p", "The storage pool is currently in use\nused by instance c1");
        let info = state.ok("storage info p");
        assert!(info.contains(&format!("driver: {driver}")) && info.contains("- c1"), "{info}");
        assert!(state.ok("storage show p").contains("/1.0/instances/c1"));
        state.ok("restart -f c1");
        assert_eq!(state.sh("c1", "cat /root/file").good().unwrap(), "hello\n");
        state.ok("stop -f c1");
        state.ok("copy c1 c2");
        state.ok("start c2");
        assert_eq!(state.sh("c2", "cat /root/file").good().unwrap(), "hello\n");
        state.ok("delete -f c1 c2");
        state.ok("profile device set default root pool=p");
        state.refuses("storage delete p", "used by profile default");
        state.ok("profile device set default root pool=default");
        assert_eq!(state.ok("storage rm p"), "Storage pool p deleted\n");
        assert!(!state.path("state/pools/p").exists());
        state.doctor().unwrap();
    }
    state.finish(&[]);
}

#[test]
fn keys_are_set_one_by_one_and_as_a_document() {
    let Some(state) = state("keys_are_set_one_by_one_and_as_a_document", false) else { return };
    state.ok("storage add p dir");
    state.ok("storage set p user.x=1 user.y=2");
    state.ok("storage set p rsync.bwlimit 10MB");
    state.ok("storage unset p user.y");
    state.ok("storage set p -p description=Words");
    let shown = state.ok("storage show p");
    for line in ["user.x: \"1\"", "rsync.bwlimit: 10MB", "description: Words"] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    assert!(!shown.contains("user.y"));
    state
        .given("storage edit p", &shown.replace("Words", "Others").replace("user.x: \"1\"", "user.z: \"3\""))
        .good()
        .unwrap();
    assert_eq!(state.ok("storage get p user.z"), "3\n");
    assert_eq!(state.ok("storage get p user.x"), "");
    assert_eq!(state.ok("storage get p description -p"), "Others\n");
    let list = state.ok("storage list -f csv -c nDdS");
    let place = state.path("state/pools/p/data");
    assert!(list.contains(&format!("p,dir,Others,{}", place.display())), "{list}");
    // What the program keeps stays when a document leaves it out.
    let kept = state.ok("storage get p volatile.idmap");
    let document: String =
        shown.lines().filter(|l| !l.contains("volatile.")).fold(String::new(), |all, l| all + l + "\n");
    state.given("storage edit p", &document).good().unwrap();
    assert_eq!(state.ok("storage get p volatile.idmap"), kept);
    state.finish(&["p"]);
}

#[test]
fn images_of_a_pool_go_with_it() {
    let Some(state) = state("images_of_a_pool_go_with_it", true) else { return };
    state.ok("storage create p btrfs size=512MiB");
    state.ok("create img c1 -s p");
    state.ok("delete c1");
    // Unpacked where it was used; that keeps nobody from deleting the pool.
    state.ok("storage delete p");
    assert!(leftovers::find(&state).iter().all(|l| l.starts_with("in pool: images") || l.starts_with("image ")));
    state.ok("create img c1");
    state.finish(&[]);
}

#[test]
fn init_makes_the_pool_that_is_chosen() {
    let Some(state) = state("init_makes_the_pool_that_is_chosen", false) else { return };
    let refused = |words: &str, said: &str| {
        let out = state.run(&words.split(' ').collect::<Vec<_>>());
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{out}");
    };
    refused("admin init --auto --storage-create-loop 1", "may be used with the 'dir' backend");
    refused("admin init --auto --storage-backend zip", "isn't supported by init");
    refused("admin init --auto --network-address 1.2.3.4", "There is no server that could listen");
    refused("config trust add x", "There is no server whose clients");
    refused("cluster list", "There is no cluster");
    refused("admin init --auto --storage-backend dir", "Storage has already been configured");
    state.finish(&[]);
}

#[test]
fn a_preseed_makes_and_changes_pools() {
    let Some(state) = state("a_preseed_makes_and_changes_pools", true) else { return };
    let preseed = |size: &str| {
        let text =
            format!("storage_pools: [{{name: p, driver: btrfs, description: Mine, config: {{size: {size}}}}}]\n");
        state.given("admin init --preseed", &text)
    };
    preseed("256MiB").good().unwrap();
    assert_eq!(state.ok("storage get p size"), "256MiB\n");
    // Keys of every driver's.
    state.ok("storage set p rsync.bwlimit=1024 rsync.compression=false");
    state.ok("storage unset p rsync.bwlimit");
    state.ok("storage unset p rsync.compression");
    preseed("512MiB").good().unwrap();
    assert_eq!(state.ok("storage get p size"), "512MiB\n");
    assert!(preseed("128MiB").stderr.contains("Pool cannot be shrunk"));
    let dump = state.ok("admin init --dump");
    assert!(dump.contains("size: 512MiB") && !dump.contains("volatile."), "{dump}");
    state.finish(&["p"]);
}
