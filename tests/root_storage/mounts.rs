//! Mounts of pools without a daemon: made by whoever needs one first, and what is said while there is none.

use super::support::{More, state};

fn is_mounted(state: &super::common_root::State) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.contains(&state.path("state/pools/p/data").display().to_string())
}

#[test]
fn a_pool_is_mounted_by_the_first_who_needs_it() {
    let Some(state) = state("a_pool_is_mounted_by_the_first_who_needs_it", true) else { return };
    state.ok("storage create p btrfs size=256MiB btrfs.mount_options=noatime,user_subvol_rm_allowed");
    state.ok("create img c1 -s p");
    assert!(is_mounted(&state));
    // As after a boot.
    state.ok("admin shutdown");
    assert!(!is_mounted(&state));
    assert!(state.ok("storage list -f csv -c ns").contains("p,UNAVAILABLE"));
    state.refuses("storage info p", "Storage pool \"p\" is not mounted");
    assert!(state.ok("list -f csv -c nsD").contains("c1,STOPPED"));
    assert!(!is_mounted(&state), "readers mount nothing");
    let doctor = state.ok("doctor -f csv");
    assert!(doctor.contains("pool p,WARNING,is not mounted"), "{doctor}");
    // Many at once: one mount.
    std::thread::scope(|scope| {
        let start = |name: &'static str| {
            let state = &state;
            scope.spawn(move || state.run(&["create", "img", name, "-s", "p"]).good().unwrap())
        };
        let all = ["c2", "c3", "c4", "c5"].map(start);
        all.into_iter().for_each(|t| drop(t.join().unwrap()));
    });
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let of_it = |l: &&str| l.contains(&state.path("state/pools/p/data").display().to_string());
    let lines: Vec<&str> = table.lines().filter(of_it).collect();
    assert!(lines.len() == 1 && lines[0].contains("noatime"), "{lines:?}");
    state.ok("start c1");
    // What the kernel does not take is found at once, mounted or not; what it takes is there at once.
    let options = || {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.lines().find(of_it).unwrap_or_default().to_string()
    };
    state.refuses("storage set p btrfs.mount_options=nonsense", "Failed mounting storage pool \"p\"");
    state.ok("storage set p btrfs.mount_options=compress=zstd:3,nodev,strictatime");
    assert!(options().contains("compress=zstd:3") && options().contains("nodev"), "{}", options());
    assert!(!options().contains("noatime"), "{}", options());
    state.ok("stop -f c1");
    state.ok("admin shutdown");
    state.refuses("storage set p btrfs.mount_options=nonsense", "Failed mounting storage pool \"p\"");
    state.ok("storage unset p btrfs.mount_options");
    assert!(!options().is_empty() && !options().contains("zstd"), "{}", options());
    state.ok("delete -f c1 c2 c3 c4 c5");
    // Somebody is in it: it stays, whole.
    let busy = std::fs::File::open(state.path("state/pools/p/data")).unwrap();
    state.refuses("storage delete p", "is in use by a process");
    assert!(state.ok("storage list -f csv -c ns").contains("p,CREATED"));
    drop(busy);
    state.finish(&["p"]);
}

#[test]
fn a_loop_file_that_is_gone_or_another_is_said() {
    let Some(state) = state("a_loop_file_that_is_gone_or_another_is_said", true) else { return };
    state.ok("storage create p btrfs size=256MiB");
    state.ok("create img c1 -s p");
    state.ok("admin shutdown");
    let (image, away) = (state.path("state/disks/p.img"), state.path("away.img"));
    std::fs::rename(&image, &away).unwrap();
    state.refuses("start c1", "doesn't exist");
    let doctor = state.run(&["doctor", "-f", "csv"]);
    assert!(!doctor.ok() && doctor.stdout.contains("pool p,ERROR"), "{}", doctor.stdout);
    state.ok("storage list");
    state.ok("create img c2");
    std::fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
    state.refuses("start c1", "does not hold the storage pool's filesystem");
    std::fs::rename(&away, &image).unwrap();
    // Shorter than its record says, after a growth that a power cut took back.
    let record = state.path("state/pools/p/pool.toml");
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.replace("256MiB", "384MiB")).unwrap();
    assert!(state.words("doctor -f csv").stdout.contains("its file is smaller than its size"));
    state.ok("doctor --fix");
    assert_eq!(std::fs::metadata(&image).unwrap().len(), 384 << 20);
    state.ok("start c1");
    state.finish(&["p"]);
}

#[test]
fn what_is_left_of_pools_is_found() {
    let Some(state) = state("what_is_left_of_pools_is_found", false) else { return };
    std::fs::create_dir_all(state.path("state/disks")).unwrap();
    std::fs::write(state.path("state/disks/gone.img"), "").unwrap();
    std::fs::create_dir_all(state.path("state/pools/cut/data/containers")).unwrap();
    std::fs::create_dir_all(state.path("state/pools/lost/data/containers/c1")).unwrap();
    let said = state.words("doctor -f csv").stdout;
    for pool in ["gone", "cut", "lost"] {
        assert!(said.contains(&format!("pool {pool},ERROR")), "{said}");
    }
    let fixed = state.words("doctor --fix -f csv").stdout;
    assert!(fixed.contains("pool gone,FIXED") && fixed.contains("pool cut,FIXED"), "{fixed}");
    assert!(fixed.contains("pool lost,ERROR") && state.path("state/pools/lost/data/containers/c1").exists());
    std::fs::remove_dir_all(state.path("state/pools/lost")).unwrap();
    state.finish(&[]);
}

#[test]
fn an_instance_whose_pool_is_lost_can_be_deleted() {
    let Some(state) = state("an_instance_whose_pool_is_lost_can_be_deleted", false) else { return };
    let source = state.path("disk");
    std::fs::create_dir(&source).unwrap();
    state.ok(&format!("storage create p dir source={}", source.display()));
    state.ok("create img c1 -s p");
    state.ok("snapshot create c1 s1");
    let away = state.path("away");
    std::fs::rename(&source, &away).unwrap();
    state.refuses("delete c1", "if it is gone for good: stapes delete --force");
    assert!(state.ok("list -f csv -c n").contains("c1"));
    let out = state.words("delete -f c1");
    assert!(out.ok() && out.stderr.contains("Warning: The files of instance \"c1\" stay"), "{out}");
    assert_eq!(state.ok("list -f csv -c n"), "");
    // What comes back is found.
    std::fs::rename(&away, &source).unwrap();
    let found = state.run(&["doctor", "-f", "csv"]);
    assert!(found.stdout.contains("c1"), "{}", found.stdout);
    state.ok("doctor --fix");
    state.finish(&["p"]);
}
