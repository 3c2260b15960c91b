//! What must hold for an object after a crash: it is whole, or it is not there.

use super::common_root::{self, State};
use std::time::{Duration, Instant};

/// The list works and says that nothing is broken. An instance whose monitor was killed is dying with it for a moment, and is
/// shown as ERROR until then.
pub fn list_is_good(state: &State) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        match state.instances()?.iter().find(|(_, s)| s == "ERROR") {
            None => return Ok(()),
            Some((name, _)) if Instant::now() > end => return Err(format!("\"{name}\" is listed as ERROR")),
            Some(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Commands on other objects work; the first of them settles what the crash left.
pub fn others_work(state: &State) -> Result<(), String> {
    let image = match state.images()?.is_empty() {
        true => vec!["create", "other", "--empty"],
        false => vec!["create", "img", "other"],
    };
    let out = state.run(&image);
    if image[1] == "img" && out.stderr.contains("not found") {
        // The image's alias was what the crash hit.
        state.run(&["create", "other", "--empty"]).good()?;
        return Ok(());
    }
    out.good().map(drop)
}

/// The state of an instance. A start whose command was killed goes on in the monitor, and is waited for.
fn state_of(state: &State, name: &str) -> Result<Option<String>, String> {
    let end = Instant::now() + common_root::PATIENCE;
    loop {
        let found = state.instances()?.into_iter().find(|(n, _)| n == name).map(|(_, s)| s);
        match found.as_deref() {
            Some("STARTING") if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
            _ => return Ok(found),
        }
    }
}

/// The instance can be started, entered, stopped and deleted; or its name is free. True: it was there.
pub fn whole_or_absent(state: &State, name: &str) -> Result<bool, String> {
    let found = state_of(state, name)?;
    match found.as_deref() {
        None => {
            state.run(&["create", name, "--empty"]).good()?;
            state.run(&["delete", name]).good()?;
            return Ok(false);
        }
        Some("STOPPED") => start(state, name)?,
        Some("RUNNING") => {}
        Some(other) => return Err(format!("\"{name}\" is {other}")),
    }
    enter(state, name)?;
    state.run(&["stop", "-f", name]).good()?;
    state.run(&["delete", name]).good()?;
    Ok(true)
}

/// A restart whose command failed or was killed goes on in the monitor, which may have started it by now.
fn start(state: &State, name: &str) -> Result<(), String> {
    match state.run(&["start", name]) {
        out if out.stderr.contains("The instance is already running") => Ok(()),
        out => out.good().map(drop),
    }
}

/// A restart whose command was killed goes on in the monitor: it can be entered when that is done.
fn enter(state: &State, name: &str) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        match state.run(&["exec", name, "--", "true"]).good() {
            Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
            other => return other.map(drop),
        }
    }
}

pub fn want(what: bool, words: &str) -> Result<(), String> {
    if what { Ok(()) } else { Err(words.to_string()) }
}

/// `c1` is made by the verb.
pub fn created(state: &State, done: bool) -> Result<(), String> {
    let there = whole_or_absent(state, "c1")?;
    want(there || !done, "it was reported made and is not there")
}

/// `c1` is there before and afterwards.
pub fn kept(state: &State, _done: bool) -> Result<(), String> {
    want(whole_or_absent(state, "c1")?, "it is lost")
}

/// `c1` is there and runs.
pub fn runs(state: &State, done: bool) -> Result<(), String> {
    let now = state_of(state, "c1")?;
    want(!done || now.as_deref() == Some("RUNNING"), "it was reported running and is not")?;
    kept(state, done)
}

/// `c1`, which ends by itself as long as `QUIT` is set, is there and stopped.
pub fn kept_in_foreground(state: &State, done: bool) -> Result<(), String> {
    let now = state_of(state, "c1")?;
    want(!done || now.as_deref() == Some("STOPPED"), "it was reported ended and is not")?;
    state.run(&["config", "unset", "c1", "environment.QUIT"]).good()?;
    kept(state, done)
}

/// `c1` is there and stopped.
pub fn stopped(state: &State, done: bool) -> Result<(), String> {
    let now = state_of(state, "c1")?;
    want(!done || now.as_deref() == Some("STOPPED"), "it was reported stopped and is not")?;
    kept(state, done)
}

/// `c1` is deleted by the verb, or by its end.
pub fn deleted(state: &State, done: bool) -> Result<(), String> {
    let there = whole_or_absent(state, "c1")?;
    want(!there || !done, "it was reported deleted and is there")
}

/// `c1` is gone whatever happened.
pub fn gone(state: &State, _done: bool) -> Result<(), String> {
    want(!whole_or_absent(state, "c1")?, "it is still there")
}

/// Nothing was made but `other`.
pub fn nothing_left(state: &State, _done: bool) -> Result<(), String> {
    let all = state.instances()?;
    want(all.iter().all(|(n, _)| n == "other" || n == "third"), &format!("left: {all:?}"))
}

/// `c1` became `c2`.
pub fn renamed(state: &State, done: bool) -> Result<(), String> {
    let (old, new) = (whole_or_absent(state, "c1")?, whole_or_absent(state, "c2")?);
    want(old != new, &format!("old name there: {old}, new name there: {new}"))?;
    want(new || !done, "it was reported renamed and is not")
}

/// `c1` became `c2` earlier, or did not.
pub fn renamed_or_not(state: &State, _done: bool) -> Result<(), String> {
    renamed(state, false)
}

/// `c1`, which is ephemeral, is whole and runs, or is gone.
pub fn ended(state: &State, done: bool) -> Result<(), String> {
    match state_of(state, "c1")?.as_deref() {
        None => return Ok(()),
        Some("RUNNING") if !done => {
            state.run(&["exec", "c1", "--", "true"]).good()?;
            state.run(&["stop", "-f", "c1"]).good()?;
        }
        // Its monitor was killed: whoever touches it next clears it away.
        Some(_) => drop(state.run(&["delete", "c1"]).good()?),
    }
    want(state_of(state, "c1")?.is_none(), "it is still there")
}

/// `user.x` of `c1` is as before or as set.
pub fn configured(state: &State, done: bool) -> Result<(), String> {
    let value = state.run(&["config", "get", "c1", "user.x"]).good()?;
    want(["old", "new"].contains(&value.trim()), &format!("the value is {value:?}"))?;
    want(value.trim() == "new" || !done, "it was reported set and is not")?;
    kept(state, done)
}

/// What the record says of a limit counts for what runs, whichever way it ended.
fn agree(state: &State, done: bool, key: &str, file: &dyn Fn(&toml::Table) -> String) -> Result<(), String> {
    let shown = state.run(&["config", "show", "c1", "--expanded"]).good()?;
    let set = shown.contains(&format!("{key}: "));
    want(set || !done, "it was reported set and is not")?;
    let record = std::fs::read_to_string(state.path("run/instances/default_c1/run.toml"));
    if let Ok(record) = record {
        let file = file(&record.parse().map_err(|e| format!("run record: {e}"))?);
        let now = std::fs::read_to_string(&file).map_err(|e| format!("{file}: {e}"))?;
        let has = ["7", "4194304"].contains(&now.trim());
        want(has == set, &format!("record: {set}, kernel: {now}"))?;
    }
    kept(state, done)
}

/// `c1` has an OOM score, or has none.
pub fn scored(state: &State, done: bool) -> Result<(), String> {
    agree(state, done, "limits.memory.oom_priority", &|run| format!("/proc/{}/oom_score_adj", run["init_pid"]))
}

/// `c1` has a limit of its cgroup, or has none.
pub fn limited(state: &State, done: bool) -> Result<(), String> {
    let file = |run: &toml::Table| format!("{}/hugetlb.2MB.max", run["cgroup"].as_str().unwrap_or_default());
    agree(state, done, "limits.hugepages.2MB", &file)
}

/// `c1` has a disk with a limit, mounted and limited, or has none.
pub fn throttled(state: &State, done: bool) -> Result<(), String> {
    let set = state.run(&["config", "show", "c1"]).good()?.contains("limits.read: ");
    want(set || !done, "it was reported set and is not")?;
    if let Ok(record) = std::fs::read_to_string(state.path("run/instances/default_c1/run.toml")) {
        let record: toml::Table = record.parse().map_err(|e| format!("run record: {e}"))?;
        let file = format!("{}/io.max", record["cgroup"].as_str().unwrap_or_default());
        let now = std::fs::read_to_string(&file).unwrap_or_default();
        want(now.contains(" rbps=7 ") == set, &format!("record: {set}, kernel: {now}"))?;
        let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", record["init_pid"])).unwrap_or_default();
        want(mounts.contains(" /mnt ") == set, &format!("record: {set}, mounts: {mounts}"))?;
    }
    kept(state, done)
}

/// `c1` is bound to one CPU, or is not.
pub fn pinned(state: &State, done: bool) -> Result<(), String> {
    let shown = state.run(&["config", "show", "c1"]).good()?;
    let set = shown.contains("limits.cpu: ");
    want(set || !done, "it was reported set and is not")?;
    if let Ok(record) = std::fs::read_to_string(state.path("run/instances/default_c1/run.toml")) {
        let record: toml::Table = record.parse().map_err(|e| format!("run record: {e}"))?;
        let file = format!("{}/cpuset.cpus", record["cgroup"].as_str().unwrap_or_default());
        let now = std::fs::read_to_string(&file).map_err(|e| format!("{file}: {e}"))?;
        want((now.trim() == "0") == set, &format!("record: {set}, kernel: {now}"))?;
    }
    kept(state, done)
}

/// Profile `p1` was made.
pub fn profile_made(state: &State, done: bool) -> Result<(), String> {
    let there = profiles(state)?.contains("p1");
    want(there || !done, "it was reported made and is not there")?;
    if there {
        state.run(&["profile", "delete", "p1"]).good()
    } else {
        state.run(&["profile", "create", "p1"]).good()
    }?;
    Ok(())
}

/// Profile `default` is as before or as edited.
pub fn profile_edited(state: &State, done: bool) -> Result<(), String> {
    let text = state.run(&["profile", "show", "default"]).good()?;
    let edited = text.contains("user.x: new");
    want(edited || !done, "it was reported edited and is not")?;
    want(text.contains("pool: default"), &text)
}

/// Profile `p1`, which `c1` has, became `p2`.
pub fn profile_renamed(state: &State, done: bool) -> Result<(), String> {
    let all = profiles(state)?;
    let (old, new) = (all.contains("p1,"), all.contains("p2,"));
    want(old != new, &all)?;
    want(new || !done, "it was reported renamed and is not")?;
    let used = state.run(&["config", "show", "c1"]).good()?;
    want(used.contains(if new { "- p2" } else { "- p1" }), &used)?;
    kept(state, done)
}

/// Profile `p1` was deleted.
pub fn profile_deleted(state: &State, done: bool) -> Result<(), String> {
    let there = profiles(state)?.contains("p1,");
    want(!there || !done, "it was reported deleted and is there")?;
    kept(state, done)
}

/// `c1` has the profile `p1` as well.
pub fn assigned(state: &State, done: bool) -> Result<(), String> {
    let shown = state.run(&["config", "show", "c1"]).good()?;
    want(shown.contains("- p1") || !done, "it was reported assigned and is not")?;
    want(shown.contains("- default"), &shown)?;
    kept(state, done)
}

fn profiles(state: &State) -> Result<String, String> {
    state.run(&["profile", "list", "-f", "csv"]).good()
}

/// The image was imported with its alias: an instance can be made of it and runs.
pub fn imported(state: &State, done: bool) -> Result<(), String> {
    let images = state.images()?;
    want(images.len() == 1 || !done, "it was reported imported and is not there")?;
    match images.first() {
        Some(image) => {
            if done {
                state.run(&["image", "show", "img"]).good()?;
            }
            state.run(&["launch", image, "c1"]).good()?;
        }
        None => {
            state.run(&["image", "import", "image.tar", "--alias", "img"]).good()?;
            state.run(&["launch", "img", "c1"]).good()?;
        }
    }
    kept(state, done)
}

/// A virtual machine's image is there whole or not at all, and nothing of it is in a pool.
pub fn imported_machine(state: &State, done: bool) -> Result<(), String> {
    let images = state.images()?;
    want(images.len() == 1 || !done, "it was reported imported and is not there")?;
    if images.is_empty() {
        state.run(&["image", "import", "meta.tar", "disk.qcow2", "--alias", "machine"]).good()?;
    }
    want(!state.run(&["create", "machine", "c1"]).ok(), "a container was made of it")?;
    let list = state.run(&["image", "alias", "list", "-f", "csv", "-c", "at"]).good()?;
    want(list == "machine,VIRTUAL-MACHINE\n", &format!("its name is of another type: {list}"))?;
    let out = state.path("exported");
    std::fs::create_dir_all(&out).map_err(|e| e.to_string())?;
    state.run(&["image", "export", "machine", out.to_str().ok_or("UTF-8")?]).good()?;
    let same = |file: &str, name: String| std::fs::read(state.path(file)).ok() == std::fs::read(out.join(name)).ok();
    let image = state.images()?.remove(0);
    want(same("meta.tar", format!("meta-{image}.tar")) && same("disk.qcow2", format!("{image}.qcow2")), "it changed")?;
    state.run(&["image", "delete", "machine"]).good()?;
    want(!whole_or_absent(state, "c1")?, "there is an instance")
}

/// The instance was published, and is as it was. What is there under the name can be used.
pub fn published(state: &State, done: bool) -> Result<(), String> {
    let made = state.run(&["image", "show", "made"]);
    want(made.ok() || !done, "it was reported published and is not there")?;
    let images = state.images()?;
    want(images.len() <= 2 && (images.len() == 2 || !made.ok()), "not as many images as there should be")?;
    if made.ok() {
        state.run(&["run", "made", "--", "true"]).good()?;
    }
    kept(state, done)
}

/// The same of one that ran.
pub fn published_running(state: &State, done: bool) -> Result<(), String> {
    let now = state_of(state, "c1")?;
    want(!done || now.as_deref() == Some("RUNNING"), "it was not started again")?;
    published(state, done)
}

/// `img` is an image at any time, and after the publishing the new one alone.
pub fn published_anew(state: &State, done: bool) -> Result<(), String> {
    let info = state.run(&["image", "info", "img"]).good()?;
    want(!info.contains("Created: 2023") || !done, "it was reported published and is the old one")?;
    want(state.images()?.len() == 1 || !done, "the old image is left")?;
    state.run(&["run", "img", "--", "true"]).good()?;
    kept(state, done)
}

/// The tree is there, or none that anybody can see, and can be written to again.
pub fn tree_written(state: &State, done: bool) -> Result<(), String> {
    let index = state.path("tree/streams/v1/index.json");
    want(index.exists() || !done, "it was reported written and is not there")?;
    want(!index.exists() || state.path("tree/streams/v1/images.json").exists(), "an index without a list")?;
    state.run(&["image", "export", "--simplestreams", "tree", "img"]).good()?;
    let list = std::fs::read_to_string(state.path("tree/streams/v1/images.json")).map_err(|e| e.to_string())?;
    want(list.matches("incus_combined.tar.gz\":").count() == 1, "not one version")?;
    imported(state, false)
}

/// The image was copied from its server with its alias. If not it can be, with what came of it.
pub fn copied(state: &State, done: bool) -> Result<(), String> {
    let images = state.images()?;
    want(images.len() == 1 || !done, "it was reported copied and is not there")?;
    let copy = ["image", "copy", "mine:test/1", "local:", "--alias", "img"];
    state.run(&copy).good()?;
    want(state.images()?.len() == 1, "there is more than one image")?;
    state.run(&["launch", "img", "c1"]).good()?;
    kept(state, done)
}

/// The image came with its alias. If not it can come from its registry, with what came of it.
pub fn copied_of_registry(state: &State, done: bool) -> Result<(), String> {
    let images = state.images()?;
    want(images.len() == 1 || !done, "it was reported copied and is not there")?;
    state.run(&["image", "copy", "reg:test/1", "local:", "--alias", "img"]).good()?;
    want(state.images()?.len() == 1, "there is more than one image")?;
    state.run(&["create", "img", "c1"]).good()?;
    kept(state, done)
}

/// `img` is an image at any time, and after the refresh the new one.
pub fn refreshed(state: &State, done: bool) -> Result<(), String> {
    state.run(&["image", "show", "img"]).good()?;
    want(state.images()?.len() == 1 || !done, "it was reported refreshed and there are two")?;
    state.run(&["image", "refresh", "img"]).good()?;
    let info = state.run(&["image", "info", "img"]).good()?;
    want(info.contains("serial: 20260202_00:00"), &info)?;
    state.run(&["launch", "img", "c1"]).good()?;
    kept(state, done)
}

/// The image was deleted.
pub fn image_deleted(state: &State, done: bool) -> Result<(), String> {
    let there = !state.images()?.is_empty();
    want(!there || !done, "it was reported deleted and is there")?;
    imported(state, false)
}

/// The image was deleted below an instance, which does not notice.
pub fn image_deleted_in_use(state: &State, done: bool) -> Result<(), String> {
    kept(state, done)?;
    image_deleted(state, done)
}

/// The port of the host is answered for as long as the instance runs, and free when it does not.
pub fn proxied(state: &State, done: bool) -> Result<(), String> {
    let running = state_of(state, "c1")?.as_deref() == Some("RUNNING");
    let answered = std::net::TcpStream::connect(("127.0.0.1", 8000)).is_ok();
    want(running == answered, "the port is not the instance's")?;
    runs(state, done)
}

/// The same for one that was stopped.
pub fn proxied_no_more(state: &State, done: bool) -> Result<(), String> {
    let now = state_of(state, "c1")?;
    want(!done || now.as_deref() == Some("STOPPED"), "it was reported stopped and is not")?;
    proxied(state, false)
}

/// The rules are there as long as the instance runs.
pub fn proxied_by_nat(state: &State, done: bool) -> Result<(), String> {
    let running = state_of(state, "c1")?.as_deref() == Some("RUNNING");
    let rules = common_root::run(nft(), None, Duration::from_secs(20)).good()?;
    want(running == rules.contains("dnat ip to 10.99.0.7"), "the rules are not the instance's")?;
    runs(state, done)?;
    network(state, done)
}

/// What nft has of the forward is what its record says; it can be made, used and deleted.
pub fn forward(state: &State, done: bool) -> Result<(), String> {
    let forward = |words: &str| {
        let words: Vec<&str> = ["network", "forward"].into_iter().chain(words.split(' ')).collect();
        state.run(&words).good()
    };
    // Settles what the killed command left.
    state.run(&["network", "set", "matrixbr0", "user.settled=1"]).good()?;
    let listed = forward("list matrixbr0 -f csv")?;
    let rules = common_root::run(nft(), None, Duration::from_secs(20)).good()?;
    let (target, port) = (listed.contains("10.99.0.8"), listed.trim_end().ends_with(",1"));
    want(!done || target || !listed.is_empty(), "it was reported done and is not there")?;
    want(rules.contains("dnat ip to 10.99.0.8") == target, "the rules are not the record's")?;
    want(rules.contains("dnat ip to 10.99.0.7") == port, "the rules of ports are not the record's")?;
    if listed.is_empty() {
        forward("create matrixbr0 192.0.2.7")?;
    }
    forward("delete matrixbr0 192.0.2.7")?;
    network(state, done)
}

/// It has gone with its rules, or is whole.
pub fn forward_deleted(state: &State, done: bool) -> Result<(), String> {
    state.run(&["network", "set", "matrixbr0", "user.settled=1"]).good()?;
    let listed = state.run(&["network", "forward", "list", "matrixbr0", "-f", "csv"]).good()?;
    want(!done || listed.is_empty(), "it was reported deleted and is there")?;
    match listed.is_empty() {
        false => forward(state, false),
        true => {
            let rules = common_root::run(nft(), None, Duration::from_secs(20)).good()?;
            want(!rules.contains("10.99.0.8"), "its rules are left")?;
            network(state, done)
        }
    }
}

fn nft() -> std::process::Command {
    let mut command = std::process::Command::new("nft");
    command.args(["list", "ruleset"]);
    command
}

/// The network can be used and deleted, or its name is free.
pub fn network(state: &State, _: bool) -> Result<(), String> {
    let networks = state.run(&["network", "list", "-f", "csv", "-c", "nm"]).good()?;
    if !networks.lines().any(|l| l == "matrixbr0,YES") {
        state.run(&["network", "create", "matrixbr0"]).good()?;
    }
    state.run(&["network", "show", "matrixbr0"]).good()?;
    if state.run(&["create", "img", "n1", "-n", "matrixbr0"]).good().is_ok() {
        state.run(&["start", "n1"]).good()?;
        state.run(&["delete", "-f", "n1"]).good()?;
    }
    state.run(&["network", "delete", "matrixbr0"]).good().map(drop)
}

/// `matrixbr0` became `matrixbr1`: one of them is there, and whole.
pub fn network_renamed(state: &State, done: bool) -> Result<(), String> {
    let networks = state.run(&["network", "list", "-f", "csv", "-c", "nm"]).good()?;
    let there = |name: &str| networks.lines().any(|l| l == format!("{name},YES"));
    want(there("matrixbr0") != there("matrixbr1"), &format!("neither or both are there: {networks}"))?;
    want(!done || there("matrixbr1"), "it was reported renamed and is not")?;
    if there("matrixbr1") {
        state.run(&["network", "rename", "matrixbr1", "matrixbr0"]).good()?;
    }
    network(state, done)
}

/// As [`created`], with an interface whose address the host answers for as long as it runs.
pub fn created_routed(state: &State, done: bool) -> Result<(), String> {
    created(state, done)?;
    let neighbours = std::process::Command::new("ip").args(["neigh", "show", "proxy"]).output();
    let left = neighbours.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    want(left.is_empty(), &format!("still answered for: {left}"))?;
    network(state, done)
}

/// Names of all ACLs or address sets.
fn names(state: &State, kind: &str) -> Result<Vec<String>, String> {
    let all = state.run(&["network", kind, "list", "-f", "csv"]).good()?;
    Ok(all.lines().filter_map(|l| l.split(',').next()).map(str::to_string).collect())
}

/// It is there under one of the names, whole, and if the verb said so under the new one; or under none if it may be so.
fn there(state: &State, kind: &str, before: &[&str], after: &[&str], done: bool) -> Result<(), String> {
    let all = names(state, kind)?;
    want(all == before || all == after, &format!("there: {all:?}"))?;
    want(all == after || !done, "it was reported done and is not")?;
    for name in &all {
        state.run(&["network", kind, "show", name]).good()?;
        state.run(&["network", kind, "delete", name]).good()?;
    }
    state.run(&["network", kind, "create", "a1"]).good().map(drop)
}

/// The ACL was made.
pub fn acl_made(state: &State, done: bool) -> Result<(), String> {
    there(state, "acl", &[], &["a1"], done)
}

/// The ACL has another name.
pub fn acl_renamed(state: &State, done: bool) -> Result<(), String> {
    there(state, "acl", &["a1"], &["a2"], done)
}

/// The ACL was deleted.
pub fn acl_deleted(state: &State, done: bool) -> Result<(), String> {
    there(state, "acl", &["a1"], &[], done)
}

/// The address set was made.
pub fn set_made(state: &State, done: bool) -> Result<(), String> {
    there(state, "address-set", &[], &["s1"], done)
}

/// The address set has another name.
pub fn set_renamed(state: &State, done: bool) -> Result<(), String> {
    there(state, "address-set", &["s1"], &["s2"], done)
}

/// The address set was deleted.
pub fn set_deleted(state: &State, done: bool) -> Result<(), String> {
    there(state, "address-set", &["s1"], &[], done)
}

/// What the records of `a1`, `s1` and `matrixbr0` say is in the kernel, no more and no less.
pub fn acl_agrees(state: &State, _: bool) -> Result<(), String> {
    let show = |what: &[&str]| state.run(&[&["network"], what].concat()).good();
    let (network, acl, set) =
        (show(&["show", "matrixbr0"])?, show(&["acl", "show", "a1"])?, show(&["address-set", "show", "s1"])?);
    let nft = std::process::Command::new("nft").args(["list", "ruleset"]).output().map_err(|e| e.to_string())?;
    let rules = String::from_utf8_lossy(&nft.stdout).into_owned();
    let used = network.contains("security.acls: a1");
    for (record, rule, text) in [
        (used, "chain acl.matrixbr0", &network),
        (used && acl.contains("protocol: tcp"), "daddr @set.s1_ipv4", &acl),
        (used && acl.contains("protocol: tcp"), "set set.s1_ipv4", &acl),
        (used && acl.contains("protocol: udp"), "meta l4proto udp accept", &acl),
        (used && acl.contains("protocol: tcp") && set.contains("10.9.9.9"), "10.9.9.9", &set),
    ] {
        want(rules.contains(rule) == record, &format!("{rule:?}: record {record}: {text}{rules}"))?;
    }
    Ok(())
}

/// The same once somebody needs the network.
pub fn acl_agrees_when_needed(state: &State, done: bool) -> Result<(), String> {
    state.run(&["create", "img", "n1", "-n", "matrixbr0"]).good()?;
    state.run(&["start", "n1"]).good()?;
    acl_agrees(state, done)?;
    state.run(&["delete", "-f", "n1"]).good().map(drop)
}
