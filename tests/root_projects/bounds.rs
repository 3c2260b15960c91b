//! Limits and restrictions.

use super::support::{Ask, state};
use super::{good, make, refused};

#[test]
fn numbers_are_limited() {
    let Some(state) = state("numbers_are_limited") else { return };
    make(&state, "p1", &["limits.instances=2", "limits.containers=5", "limits.virtual-machines=0"]);
    good(&state, "p1", &["create", "test", "c1"]);
    good(&state, "p1", &["create", "test", "c2"]);
    let full = "Reached maximum number of instances in project \"p1\"";
    refused(&state, &["--project", "p1", "create", "test", "c3"], full);
    refused(&state, &["--project", "p1", "copy", "c1", "c3"], full);
    refused(&state, &["--project", "p1", "run", "test", "--", "true"], full);
    state.good(&["create", "test", "c4"]);
    refused(&state, &["copy", "c4", "c4", "--target-project", "p1"], full);
    refused(&state, &["move", "c4", "c4", "--target-project", "p1"], full);
    good(&state, "p1", &["export", "c1", "out.tar"]);
    refused(&state, &["--project", "p1", "import", "out.tar", "c5"], full);
    refused(
        &state,
        &["project", "set", "p1", "limits.instances=1"],
        "is too low: there currently are 2 total instances",
    );
    refused(&state, &["project", "set", "p1", "limits.containers=1"], "2 instances of type container");
    good(&state, "p1", &["delete", "c1"]);
    good(&state, "p1", &["run", "test", "--", "true"]);
    good(&state, "p1", &["create", "test", "c3"]);
    // Many at once take no more than there is.
    good(&state, "p1", &["delete", "c3"]);
    let racers: Vec<_> = (0..6)
        .map(|n| {
            let mut command = state.command(&["--project", "p1", "create", "-q", "test", &format!("r{n}")]);
            command.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    let won = racers.into_iter().map(|mut child| child.wait().unwrap().success()).filter(|won| *won).count();
    assert_eq!(won, 1, "winners of one place");
    state.good(&["delete", "c4"]);
    state.good(&["project", "delete", "-f", "p1"]);
    state.finish();
}

/// A link in a folder that a project may use is under the control of whoever may write there.
#[test]
fn links_lead_no_disk_out_of_its_folder() {
    let Some(state) = state("links_lead_no_disk_out_of_its_folder") else { return };
    let folder = state.path("allowed");
    std::fs::create_dir_all(folder.join("inside")).unwrap();
    std::os::unix::fs::symlink("/etc", folder.join("out")).unwrap();
    std::os::unix::fs::symlink("../..", folder.join("up")).unwrap();
    std::os::unix::fs::symlink("inside", folder.join("link")).unwrap();
    let paths = format!("restricted.devices.disk.paths={}", folder.display());
    make(&state, "p1", &["restricted=true", "restricted.devices.disk=allow", "restricted.devices.nic=allow", &paths]);
    good(&state, "p1", &["create", "test", "c1"]);
    let source = |name: &str| format!("source={}", folder.join(name).display());
    let in_p1 = |words: &[&str]| state.run(&[&["--project", "p1"], words].concat());
    good(&state, "p1", &["config", "device", "add", "c1", "d", "disk", "path=/data", &source("inside")]);
    refused(
        &state,
        &["--project", "p1", "config", "device", "set", "c1", "d", "shift=true"],
        "cannot be used with a restricted source path",
    );
    for name in ["out", "up"] {
        good(&state, "p1", &["config", "device", "set", "c1", "d", &source(name)]);
        let out = in_p1(&["start", "c1"]);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains("Failed opening"), "{out}");
    }
    good(&state, "p1", &["config", "device", "set", "c1", "d", &source("link")]);
    good(&state, "p1", &["start", "c1"]);
    // Also while it runs.
    let device = ["config", "device", "add", "c1", "e", "disk", "path=/e"];
    in_p1(&[&device[..], &[&source("out")]].concat()).clean_failure().unwrap();
    good(&state, "p1", &[&device[..], &[&source("inside")]].concat());
    state.good(&["project", "delete", "-f", "p1"]);
    state.finish();
}

#[test]
fn images_of_projects_have_their_own_keys() {
    let Some(state) = state("images_of_projects_have_their_own_keys") else { return };
    let keys = [
        "images.auto_update_cached=false",
        "images.auto_update_interval=3",
        "images.remote_cache_expiry=2",
        "images.default_architecture=aarch64",
        "images.compression_algorithm=zstd",
        "restricted.networks.subnets=up:10.0.0.0/24",
        "restricted.networks.uplinks=up",
        "restricted.networks.integrations=a,b",
        "restricted.cluster.target=allow",
        "restricted=true",
        "restricted.images.servers=images.example.com, other.example.com:8443",
    ];
    make(&state, "p1", &keys);
    refused(&state, &["project", "set", "p1", "images.auto_update_interval=soon"], "images.auto_update_interval");
    // Nothing is asked of a server that is not on the list.
    let denied = "Image server \"images.linuxcontainers.org\" isn't allowed in this project";
    refused(&state, &["--project", "p1", "create", "images:x", "c1"], denied);
    refused(&state, &["--project", "p1", "image", "copy", "images:x", "local:"], denied);
    refused(&state, &["image", "copy", "images:x", "local:", "--target-project", "p1"], denied);
    let url = "https://127.0.0.1:9/x";
    refused(&state, &["--project", "p1", "image", "import", url], "Image server \"127.0.0.1\" isn't allowed");
    refused(
        &state,
        &["--project", "p1", "create", "bootstrap:debian/12", "c1"],
        "Image server \"bootstrap\" isn't allowed",
    );
    state.good(&["project", "set", "p1", "restricted.images.servers=127.0.0.1:9"]);
    refused(&state, &["--project", "p1", "image", "import", url], "127.0.0.1:9");
    state.good(&["project", "delete", "-f", "p1"]);
    state.finish();
}

#[test]
fn sums_are_limited() {
    let Some(state) = state("sums_are_limited") else { return };
    make(&state, "p1", &["limits.memory=1GiB", "limits.processes=100"]);
    refused(&state, &["--project", "p1", "create", "test", "c1"], "has no 'limits.");
    let with = |name: &'static str, memory: &'static str| {
        ["--project", "p1", "create", "test", name, "-c", memory, "-c", "limits.processes=50"]
    };
    state.good(&with("c1", "limits.memory=512MiB"));
    refused(&state, &with("c2", "limits.memory=50%"), "can't be a percentage");
    let much = "Reached maximum aggregate value \"1GiB\" for \"limits.memory\" in project \"p1\"";
    refused(&state, &with("c2", "limits.memory=513MiB"), much);
    state.good(&with("c2", "limits.memory=512MiB"));
    refused(&state, &["--project", "p1", "config", "set", "c1", "limits.memory=600MiB"], much);
    refused(&state, &["--project", "p1", "config", "unset", "c1", "limits.memory"], "has no 'limits.memory' config");
    refused(
        &state,
        &["--project", "p1", "profile", "set", "default", "limits.cpu=1", "limits.memory=2GiB", "raw.lxc=x"],
        "",
    );
    refused(&state, &["project", "set", "p1", "limits.memory=1000MiB"], "Reached maximum aggregate value");
    refused(&state, &["project", "set", "p1", "limits.cpu=4"], "has no 'limits.cpu' config");
    let info = state.good(&["project", "info", "p1", "-f", "csv"]);
    for row in ["INSTANCES,UNLIMITED,2", "MEMORY,1.00GiB,1.00GiB", "PROCESSES,100,100"] {
        assert!(info.contains(row), "{row} is not in {info}");
    }
    state.good(&["project", "delete", "-f", "p1"]);
    state.finish();
}

#[test]
fn what_is_restricted_stays_out() {
    let Some(state) = state("what_is_restricted_stays_out") else { return };
    make(&state, "p1", &["restricted=true"]);
    let p1 = |words: &[&'static str]| [&["--project", "p1"], words].concat();
    // Nor does a profile that nobody has.
    refused(
        &state,
        &p1(&["profile", "set", "default", "security.nesting=true"]),
        "on profile \"default\" of project \"p1\"",
    );
    refused(
        &state,
        &p1(&["profile", "device", "add", "default", "d", "disk", "source=/srv", "path=/srv"]),
        "forbidden",
    );
    refused(
        &state,
        &p1(&["create", "test", "c1", "-c", "volatile.uuid=4b2b9d4e-0c1f-4b0e-9d53-0d7c3c1f9a11"]),
        "low-level config options",
    );
    // What is out of reach is not shown: the interface is not managed, and nothing may be had in the pool.
    refused(&state, &p1(&["network", "show", "lo"]), "Network not found");
    assert!(!state.good(&p1(&["network", "list", "-f", "csv"])).contains("lo,"));
    assert!(state.good(&["network", "list", "-f", "csv"]).contains("lo,"));
    state.good(&["project", "set", "p1", "limits.disk.pool.default=0"]);
    assert_eq!(state.good(&p1(&["storage", "list", "-f", "csv"])), "");
    state.good(&["project", "unset", "p1", "limits.disk.pool.default"]);
    good(&state, "p1", &["create", "test", "c1"]);
    for (option, why) in [
        ("security.nesting=true", "Container nesting is forbidden"),
        ("security.privileged=true", "Privileged containers are forbidden"),
        ("raw.idmap=both 0 0", "low-level \"raw.idmap\" element 0"),
        ("security.syscalls.deny_default=false", "low-level config options on containers is forbidden"),
    ] {
        refused(&state, &p1(&["create", "test", "c2", "-c", option]), why);
        refused(&state, &p1(&["config", "set", "c1", option]), why);
        refused(&state, &p1(&["profile", "set", "default", option]), why);
    }
    let path = "not backed by a pool is forbidden";
    refused(&state, &p1(&["config", "device", "add", "c1", "d", "disk", "source=/srv", "path=/srv"]), path);
    refused(&state, &p1(&["run", "--mount", "/etc:/etc2", "test", "--", "true"]), path);
    refused(&state, &p1(&["snapshot", "create", "c1"]), "doesn't allow for snapshot creation");
    refused(&state, &p1(&["export", "c1", "out.tar"]), "doesn't allow for backup creation");
    // From outside it comes in no other way.
    state.good(&["create", "test", "big", "-c", "security.nesting=true"]);
    refused(&state, &["copy", "big", "big", "--target-project", "p1"], "Container nesting is forbidden");
    refused(&state, &["move", "big", "big", "--target-project", "p1"], "Container nesting is forbidden");
    state.good(&["export", "big", "big.tar"]);
    refused(&state, &p1(&["import", "big.tar"]), "Container nesting is forbidden");
    state.good(&["project", "set", "p1", "restricted.containers.nesting=allow"]);
    state.good(&["copy", "big", "big", "--target-project", "p1"]);
    refused(&state, &["project", "unset", "p1", "restricted.containers.nesting"], "Container nesting is forbidden");
    state.good(&["delete", "big"]);
    state.good(&["project", "delete", "-f", "p1"]);
    state.finish();
}

#[test]
fn ids_zones_and_addresses_are_bounded() {
    let Some(state) = state("ids_zones_and_addresses_are_bounded") else { return };
    let zones = ["features.networks.zones=true", "restricted.networks.zones=a.example"];
    make(&state, "p1", &[&["restricted=true", "restricted.devices.nic=allow"][..], &zones].concat());
    let p1 = |words: &[&'static str]| [&["--project", "p1"], words].concat();
    let forbidden = "Use of low-level \"raw.idmap\" element 0 on container \"c1\" of project \"p1\" is forbidden";
    refused(&state, &p1(&["create", "test", "c1", "-c", "raw.idmap=uid 1000 0"]), forbidden);
    state.good(&["project", "set", "p1", "restricted.idmap.uid=1000,3000-3009"]);
    refused(&state, &p1(&["create", "test", "c1", "-c", "raw.idmap=both 1000 0"]), forbidden);
    good(&state, "p1", &["create", "test", "c1", "-c", "raw.idmap=uid 1000 0"]);
    refused(&state, &["project", "unset", "p1", "restricted.idmap.uid"], forbidden);
    refused(&state, &["project", "set", "p1", "restricted.idmap.gid=9-1"], "Invalid uint32 range \"9-1\"");
    refused(&state, &p1(&["network", "zone", "create", "b.example"]), "Project isn't allowed to use this DNS zone");
    good(&state, "p1", &["network", "zone", "create", "x.a.example"]);
    good(&state, "p1", &["network", "zone", "delete", "x.a.example"]);
    state.good(&["project", "set", "p1", "network.hwaddr_pattern=00:33:44:xx:xx:xx", "limits.networks=2"]);
    good(&state, "p1", &["config", "device", "add", "c1", "eth0", "nic", "nictype=p2p"]);
    let hwaddr = good(&state, "p1", &["config", "get", "c1", "volatile.eth0.hwaddr"]);
    assert!(hwaddr.starts_with("00:33:44:"), "{hwaddr}");
    assert!(state.good(&["project", "info", "p1", "-f", "csv"]).contains("NETWORKS,2,0"));
    state.good(&["project", "delete", "-f", "p1"]);
    state.finish();
}
