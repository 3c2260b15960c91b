//! What is crashed: a state, a verb, and what must hold afterwards.

use super::checks;
use super::common_root::State;
use super::nics;
use super::proxies;
use super::zones;

/// The state a scenario begins with.
#[derive(Debug, Clone, Copy)]
pub enum Base {
    /// Nothing was ever done in it.
    Empty,
    /// The image `img` was imported; there is no pool yet.
    Image,
    /// The image is unpacked in the default pool.
    Ready,
}

/// One row of the matrix.
pub struct Scenario {
    pub name: &'static str,
    pub base: Base,
    /// A file beside the state without which it cannot run.
    pub needs: &'static str,
    /// Once; its outcome is copied.
    pub prepare: fn(&State),
    /// Commands of each case. `crash <point> <command>` is killed there.
    pub before: &'static [&'static str],
    /// The command that is crashed.
    pub verb: &'static str,
    pub input: Option<&'static str>,
    pub check: fn(&State, bool) -> Result<(), String>,
}

/// A row without anything special.
pub const fn scenario(
    name: &'static str,
    verb: &'static str,
    check: fn(&State, bool) -> Result<(), String>,
) -> Scenario {
    Scenario { name, base: Base::Ready, needs: ".", prepare: nothing, before: &[], verb, input: None, check }
}

fn nothing(_: &State) {}

fn instance(state: &State) {
    state.good(&["create", "img", "c1", "-c", "user.x=old"]);
}

fn proxied(state: &State) {
    instance(state);
    state.good(&[
        "config",
        "device",
        "add",
        "c1",
        "web",
        "proxy",
        "listen=tcp:127.0.0.1:8000",
        "connect=tcp:127.0.0.1:80",
    ]);
}

fn instance_for_boot(state: &State) {
    state.good(&["create", "img", "c1", "-c", "boot.autostart=true"]);
}

fn instance_on_a_cpu(state: &State) {
    state.good(&["create", "img", "c1", "-c", "limits.cpu=0-0"]);
}

/// One that ends by itself at once.
fn instance_that_ends(state: &State) {
    state.good(&["create", "img", "c1", "-c", "environment.QUIT=1"]);
}

/// The disk of a virtual machine, beside the state.
fn disk(state: &State) {
    std::fs::write(state.path("disk.qcow2"), super::image_common::qcow2()).unwrap();
}

fn instance_without_image(state: &State) {
    instance(state);
    state.good(&["image", "delete", "img"]);
}

fn profile(state: &State, setting: &str) {
    state.good(&["profile", "create", "p1"]);
    state.good(&["profile", "set", "p1", setting]);
}

/// An instance that has the profile `p1`.
fn with_profile(state: &State) {
    profile(state, "user.x=old");
    state.good(&["create", "img", "c1", "-p", "default", "-p", "p1"]);
}

fn with_spare_profile(state: &State) {
    instance(state);
    profile(state, "user.x=new");
}

/// What a server of images serves; made by the runner if nginx and openssl are there.
pub const SERVER: &str = "www";

/// A tree of images with `versions` of one, and the remote `mine` that it is.
pub fn make_tree(state: &State, versions: usize) {
    if !super::image_server::can_serve("crash_matrix") {
        return;
    }
    if !state.path("ca.crt").exists() {
        super::image_server::certificates(&state.dir);
        state.good(&["remote", "add", "mine", super::image_server::URL, "--protocol", "simplestreams"]);
        state.good(&["remote", "add", "reg", super::image_server::URL, "--protocol", "oci"]);
    }
    // Two metadata files make two images; the second is the same archive, compressed.
    let meta = std::fs::read(state.path("meta.tar")).unwrap();
    let root = std::fs::read(state.path("rootfs.tar")).unwrap();
    let packed = std::process::Command::new("gzip").arg("-nc").arg(state.path("meta.tar")).output().unwrap().stdout;
    let all = [("20260101_00:00", &meta), ("20260202_00:00", &packed)];
    let all =
        all.map(|(serial, meta)| super::image_server::Version { serial, meta, root: &root, ftype: "root.tar.xz" });
    super::image_server::tree(&state.dir, &all[..versions]);
    let image = oci_layout(state);
    super::oci_common::registry(&state.path("layout"), &image, &state.path("www"), ("test/1", "latest"));
}

/// The layout `layout` of a system that can be started, in two layers.
fn oci_layout(state: &State) -> super::oci_common::Image {
    use super::oci_common::{Packing, entry, layer, layout};
    let base = std::fs::read(state.path("rootfs.tar")).unwrap();
    let top = layer(&[entry("etc/"), entry("etc/.wh.notthere"), entry("more")]);
    let layers = [(&base[..], Packing::Gzip), (&top, Packing::Zstd)];
    layout(&state.path("layout"), &layers, r#"{"Cmd": ["/sbin/init"]}"#)
}

/// `img` is the first version of an image whose server has a second one by now.
fn outdated(state: &State) {
    let server = super::image_server::Server::start(&state.dir, "");
    state.good(&["image", "copy", "mine:test/1", "local:", "--alias", "img"]);
    drop(server);
    make_tree(state, 2);
}

/// Made by the runner if dnsmasq and nft are there.
const NETWORKS: &str = "networks";
const NETWORK: &[&str] = &["network create matrixbr0"];
const NAT: &[&str] = &[
    "network create matrixbr0 ipv4.address=10.99.0.1/24",
    "create img c1 -n matrixbr0 -d eth0,ipv4.address=10.99.0.7 -c user.x=old",
    "config device add c1 web proxy listen=tcp:192.0.2.7:80 connect=tcp:0.0.0.0:80 nat=true",
];
const NAT_STARTED: &[&str] = &[NAT[0], NAT[1], NAT[2], "start c1"];
const FORWARD: &[&str] = &[
    "network create matrixbr0 ipv4.address=10.99.0.1/24",
    "network forward create matrixbr0 192.0.2.7 target_address=10.99.0.8",
];
const ON_NETWORK: &[&str] = &["network create matrixbr0 dns.mode=none", "launch img c1 -n matrixbr0 -c user.x=old"];
/// With a second interface.
const ON_TWO: &[&str] = &[
    "network create matrixbr0 dns.mode=none",
    "launch img c1 -n matrixbr0",
    "config device add c1 lan nic network=matrixbr0 security.mac_filtering=true",
];
/// `c2` makes an interface of the host, which can be lent.
const LENDING: &[&str] = &[
    "network create matrixbr0",
    "launch img c1 -n matrixbr0",
    "launch img c2 -n matrixbr0",
    "config device add c2 lends nic nictype=p2p host_name=vethlent0",
];
const LENT: &[&str] = &[
    "network create matrixbr0",
    "launch img c1 -n matrixbr0",
    "launch img c2 -n matrixbr0",
    "config device add c2 lends nic nictype=p2p host_name=vethlent0",
    "config device add c1 phys nic nictype=physical parent=vethlent0",
];
/// A bridge is as good a parent as any.
const BEHIND: &[&str] = &["network create matrixbr0 ipv4.address=10.99.0.1/24"];
const ROUTED: &str =
    "launch img c1 -d eth0,type=nic -d eth0,nictype=routed -d eth0,parent=matrixbr0 -d eth0,ipv4.address=10.99.0.9";
const ACL: &[&str] = &["network acl create a1"];
const ACL_UNUSED: &[&str] = &[
    "network address-set create s1 addresses=10.1.2.3",
    "network acl create a1",
    "network acl rule add a1 egress action=allow protocol=tcp destination=$s1",
    "network create matrixbr0",
];
const ACL_IN_USE: &[&str] =
    &[ACL_UNUSED[0], ACL_UNUSED[1], ACL_UNUSED[2], ACL_UNUSED[3], "network set matrixbr0 security.acls=a1"];
const STARTED: &[&str] = &["start c1"];

/// Rows that begin as an earlier one does, with that one: up to the first point where they part the crash is the same, and is
/// tried there only.
pub const BEGIN_AS: &[(&str, &str)] = &[
    ("create, first", "create"),
    ("stop -f, ephemeral", "stop -f"),
    ("run --keep", "run"),
    ("import, split", "import"),
    ("launch, built", "image build"),
    ("image refresh", "image copy, server"),
    ("create of registry", "image copy of registry"),
    ("publish --reuse", "publish"),
    ("snapshot create, running", "snapshot create"),
    ("snapshot restore, running", "snapshot restore"),
    ("rename, snapshot", "rename"),
    ("delete, snapshot", "delete"),
    ("snapshot, dependent", "snapshot create"),
    ("restore, dependent", "snapshot restore"),
    ("copy, dependent", "copy"),
    ("start, proxy", "start"),
    ("stop -f, proxy", "stop -f"),
    ("start, proxy with nat", "start, proxy"),
    ("start, in a zone", "start, proxy with nat"),
    ("launch, network", "launch"),
    ("launch, filtered", "launch, network"),
    ("launch, routed", "launch"),
    ("stop -f, network", "stop -f"),
    ("run, network", "run"),
    ("profile device add, proxy", "device add, proxy"),
    ("profile device add, network", "device add, network"),
    ("start, acl", "start, in a zone"),
];

/// All rows.
pub const ALL: &[Scenario] = &[
    scenario("create", "create img c1", checks::created),
    Scenario { base: Base::Image, ..scenario("create, first", "create img c1", checks::created) },
    scenario("launch", "launch img c1", checks::created),
    Scenario { prepare: instance, ..scenario("start", "start c1", checks::runs) },
    Scenario {
        prepare: instance_that_ends,
        ..scenario("start --foreground", "start --foreground c1", checks::kept_in_foreground)
    },
    Scenario { prepare: instance_on_a_cpu, needs: "cpuset", ..scenario("start, cpus", "start c1", checks::runs) },
    Scenario {
        prepare: instance_on_a_cpu,
        needs: "cpuset",
        before: STARTED,
        ..scenario("stop -f, cpus", "stop -f c1", checks::stopped)
    },
    Scenario {
        prepare: instance,
        needs: "cpuset",
        before: STARTED,
        ..scenario("config set, cpus", "config set c1 limits.cpu=0-0", checks::pinned)
    },
    Scenario { needs: "cpuset", ..scenario("run, cpus", "run --name c1 -c limits.cpu=0-0 img -- true", checks::gone) },
    Scenario { prepare: instance, before: STARTED, ..scenario("stop", "stop c1", checks::stopped) },
    Scenario { prepare: instance, before: STARTED, ..scenario("stop -f", "stop -f c1", checks::stopped) },
    Scenario { prepare: instance, before: STARTED, ..scenario("restart", "restart c1", checks::runs) },
    Scenario { prepare: instance, before: STARTED, ..scenario("restart -f", "restart -f c1", checks::runs) },
    Scenario { before: &["launch img c1 -e"], ..scenario("stop -f, ephemeral", "stop -f c1", checks::ended) },
    Scenario { prepare: instance_for_boot, ..scenario("admin boot", "admin boot", checks::runs) },
    Scenario { prepare: instance, before: STARTED, ..scenario("admin shutdown", "admin shutdown", checks::stopped) },
    Scenario { prepare: instance, ..scenario("rename", "rename c1 c2", checks::renamed) },
    Scenario { prepare: instance, ..scenario("delete", "delete c1", checks::deleted) },
    Scenario { prepare: instance, before: STARTED, ..scenario("delete -f", "delete -f c1", checks::deleted) },
    Scenario { prepare: instance_without_image, ..scenario("delete, last of image", "delete c1", checks::deleted) },
    scenario("run", "run --name c1 img -- true", checks::gone),
    scenario("run --keep", "run --keep --name c1 img -- true", checks::created),
    Scenario { base: Base::Empty, ..scenario("import", "image import image.tar --alias img", checks::imported) },
    Scenario {
        base: Base::Empty,
        ..scenario("import, split", "image import meta.tar rootfs.tar --alias img", checks::imported)
    },
    Scenario {
        base: Base::Empty,
        needs: "rootfs.squashfs",
        ..scenario("import, squashfs", "image import meta.tar rootfs.squashfs --alias img", checks::imported)
    },
    Scenario {
        base: Base::Empty,
        prepare: disk,
        ..scenario(
            "import, virtual machine",
            "image import meta.tar disk.qcow2 --alias machine",
            checks::imported_machine,
        )
    },
    Scenario {
        prepare: instance,
        ..scenario("publish", "publish c1 --alias made --compression none", checks::published)
    },
    Scenario {
        prepare: instance,
        ..scenario("publish --reuse", "publish c1 --alias img --reuse --format split", checks::published_anew)
    },
    Scenario {
        prepare: instance,
        before: STARTED,
        ..scenario("publish -f", "publish c1 -f --alias made --compression zstd", checks::published_running)
    },
    Scenario { ..scenario("image export, tree", "image export --simplestreams tree img", checks::tree_written) },
    scenario("image delete", "image delete img", checks::image_deleted),
    Scenario {
        prepare: instance,
        ..scenario("image delete, in use", "image delete img", checks::image_deleted_in_use)
    },
    Scenario { prepare: instance, ..scenario("config set", "config set c1 user.x=new", checks::configured) },
    Scenario {
        prepare: instance,
        before: STARTED,
        ..scenario("config set, running", "config set c1 user.x=new", checks::configured)
    },
    Scenario {
        prepare: instance,
        before: STARTED,
        ..scenario("config set, live", "config set c1 limits.memory.oom_priority=7", checks::scored)
    },
    Scenario {
        prepare: instance,
        before: STARTED,
        needs: "hugetlb",
        ..scenario("config set, limit", "config set c1 limits.hugepages.2MB=4MiB", checks::limited)
    },
    Scenario {
        prepare: instance,
        before: STARTED,
        needs: "hugetlb",
        ..scenario("profile set, limit", "profile set default limits.hugepages.2MB=4MiB", checks::limited)
    },
    Scenario {
        prepare: instance,
        before: STARTED,
        needs: "io",
        ..scenario(
            "config device add, limit",
            "config device add c1 d disk source=/var path=/mnt limits.read=7",
            checks::throttled,
        )
    },
    scenario("profile create", "profile create p1", checks::profile_made),
    Scenario {
        input: Some("config:\n  user.x: new\ndevices:\n  root:\n    path: /\n    pool: default\n    type: disk\n"),
        ..scenario("profile edit", "profile edit default", checks::profile_edited)
    },
    Scenario { prepare: with_profile, ..scenario("profile rename", "profile rename p1 p2", checks::profile_renamed) },
    Scenario {
        prepare: with_profile,
        input: Some("config:\n  security.idmap.isolated: \"true\"\n"),
        ..scenario("profile edit, ids", "profile edit p1", checks::kept)
    },
    Scenario {
        prepare: with_spare_profile,
        ..scenario("profile delete", "profile delete p1", checks::profile_deleted)
    },
    Scenario {
        prepare: with_spare_profile,
        ..scenario("profile assign", "profile assign c1 default p1", checks::assigned)
    },
    Scenario {
        base: Base::Empty,
        ..scenario("image build", "image build bootstrap:busybox --alias img", checks::imported)
    },
    Scenario {
        base: Base::Empty,
        needs: SERVER,
        ..scenario("image copy, server", "image copy mine:test/1 local: --alias img", checks::copied)
    },
    Scenario {
        base: Base::Empty,
        needs: SERVER,
        ..scenario("image copy of registry", "image copy reg:test/1 local: --alias img", checks::copied_of_registry)
    },
    Scenario {
        base: Base::Empty,
        needs: SERVER,
        ..scenario("create of registry", "create reg:test/1 c1", checks::created)
    },
    Scenario {
        base: Base::Empty,
        needs: SERVER,
        ..scenario("import of layout", "image import oci:layout:latest --alias img", checks::copied_of_registry)
    },
    Scenario {
        base: Base::Empty,
        needs: SERVER,
        prepare: outdated,
        ..scenario("image refresh", "image refresh img", checks::refreshed)
    },
    Scenario { base: Base::Empty, ..scenario("launch, built", "launch bootstrap:busybox c1", checks::created) },
    Scenario {
        before: &["crash create.volume create img c1"],
        ..scenario("recovery of create", "create img third", checks::gone)
    },
    Scenario {
        before: &["crash run.running run --name c1 img -- sleep 100"],
        ..scenario("recovery of run", "create img third", checks::nothing_left)
    },
    Scenario {
        prepare: instance,
        before: &["crash store.journal.begun delete c1"],
        ..scenario("recovery of delete", "create img third", checks::gone)
    },
    Scenario {
        prepare: instance,
        before: &["crash store.instance.renamed rename c1 c2"],
        ..scenario("recovery of rename", "create img third", checks::renamed_or_not)
    },
    Scenario { prepare: proxied, ..scenario("start, proxy", "start c1", checks::proxied) },
    Scenario { prepare: proxied, before: STARTED, ..scenario("stop -f, proxy", "stop -f c1", checks::proxied_no_more) },
    Scenario { needs: NETWORKS, before: NAT, ..scenario("start, proxy with nat", "start c1", checks::proxied_by_nat) },
    Scenario {
        prepare: instance,
        before: STARTED,
        ..scenario(
            "device add, proxy",
            "config device add c1 web proxy listen=tcp:127.0.0.1:8000 connect=tcp:127.0.0.1:80",
            proxies::added,
        )
    },
    Scenario {
        prepare: proxied,
        before: STARTED,
        ..scenario("device set, proxy", "config device set c1 web listen=tcp:127.0.0.1:8001", proxies::changed)
    },
    Scenario {
        prepare: proxied,
        before: STARTED,
        ..scenario("device remove, proxy", "config device remove c1 web", proxies::removed)
    },
    Scenario {
        prepare: instance,
        before: STARTED,
        ..scenario(
            "profile device add, proxy",
            "profile device add default web proxy listen=tcp:127.0.0.1:8000 connect=tcp:127.0.0.1:80",
            proxies::added_by_profile,
        )
    },
    Scenario {
        needs: NETWORKS,
        before: &[NAT[0], NAT[1], "start c1"],
        ..scenario("device add, proxy with nat", NAT[2], proxies::added)
    },
    Scenario {
        needs: NETWORKS,
        before: NAT_STARTED,
        ..scenario("device remove, proxy with nat", "config device remove c1 web", proxies::removed)
    },
    Scenario {
        needs: NETWORKS,
        before: NAT_STARTED,
        ..scenario("device set, address of nat", "config device set c1 eth0 ipv4.address=10.99.0.9", proxies::changed)
    },
    Scenario { needs: NETWORKS, ..scenario("network create", "network create matrixbr0", checks::network) },
    Scenario {
        needs: NETWORKS,
        before: NETWORK,
        ..scenario("network set", "network set matrixbr0 ipv4.address=10.99.0.1/24", checks::network)
    },
    Scenario {
        needs: NETWORKS,
        before: NETWORK,
        ..scenario("network delete", "network delete matrixbr0", checks::network)
    },
    Scenario {
        needs: NETWORKS,
        before: NETWORK,
        ..scenario("forward create", "network forward create matrixbr0 192.0.2.7 user.x=1", checks::forward)
    },
    Scenario {
        needs: NETWORKS,
        before: FORWARD,
        ..scenario("forward port add", "network forward port add matrixbr0 192.0.2.7 tcp 80 10.99.0.7", checks::forward)
    },
    Scenario {
        needs: NETWORKS,
        before: FORWARD,
        ..scenario("forward delete", "network forward delete matrixbr0 192.0.2.7", checks::forward_deleted)
    },
    Scenario {
        needs: NETWORKS,
        before: zones::SERVED,
        ..scenario(
            "zone entry add, served",
            "network zone record entry add lab.example www A 10.99.0.200",
            zones::agrees,
        )
    },
    Scenario {
        needs: NETWORKS,
        before: zones::UNSERVED,
        ..scenario("config set, zones", "config set core.dns_address=127.0.0.1:5300", zones::agrees)
    },
    Scenario {
        needs: NETWORKS,
        before: zones::SERVED_INSTANCE,
        ..scenario("start, in a zone", "start c1", zones::started)
    },
    Scenario {
        needs: NETWORKS,
        before: NETWORK,
        ..scenario("launch, network", "launch img c1 -n matrixbr0", checks::created)
    },
    Scenario {
        needs: NETWORKS,
        before: NETWORK,
        ..scenario(
            "launch, filtered",
            "launch img c1 -n matrixbr0 -d eth0,security.mac_filtering=true",
            checks::created,
        )
    },
    Scenario {
        needs: NETWORKS,
        before: NETWORK,
        ..scenario("network rename", "network rename matrixbr0 matrixbr1", checks::network_renamed)
    },
    Scenario { needs: NETWORKS, before: BEHIND, ..scenario("launch, routed", ROUTED, checks::created_routed) },
    Scenario { needs: NETWORKS, before: ON_NETWORK, ..scenario("stop -f, network", "stop -f c1", checks::stopped) },
    Scenario {
        needs: NETWORKS,
        before: NETWORK,
        ..scenario("run, network", "run --name c1 -n matrixbr0 img -- true", checks::gone)
    },
    Scenario {
        needs: NETWORKS,
        before: ON_NETWORK,
        ..scenario(
            "device add, network",
            "config device add c1 lan nic network=matrixbr0 security.mac_filtering=true",
            nics::added,
        )
    },
    Scenario {
        needs: NETWORKS,
        before: ON_TWO,
        ..scenario("device remove, network", "config device remove c1 lan", nics::removed)
    },
    Scenario {
        needs: NETWORKS,
        before: ON_NETWORK,
        ..scenario(
            "device set, network",
            "config device set c1 eth0 security.mac_filtering=true connected=false",
            nics::changed,
        )
    },
    Scenario {
        needs: NETWORKS,
        before: ON_NETWORK,
        ..scenario("device set, network, anew", "config device set c1 eth0 name=lan0", nics::changed)
    },
    Scenario {
        needs: NETWORKS,
        before: LENDING,
        ..scenario("device add, lent", "config device add c1 phys nic nictype=physical parent=vethlent0", nics::added)
    },
    Scenario {
        needs: NETWORKS,
        before: LENT,
        ..scenario("device remove, lent", "config device remove c1 phys", nics::removed)
    },
    Scenario {
        needs: NETWORKS,
        before: ON_NETWORK,
        ..scenario(
            "profile device add, network",
            "profile device add default lan nic network=matrixbr0",
            nics::added_by_profile,
        )
    },
    scenario("acl create", "network acl create a1", checks::acl_made),
    Scenario { before: ACL, ..scenario("acl rename", "network acl rename a1 a2", checks::acl_renamed) },
    Scenario { before: ACL, ..scenario("acl delete", "network acl delete a1", checks::acl_deleted) },
    Scenario {
        needs: NETWORKS,
        before: ACL_IN_USE,
        ..scenario("acl rule add, used", "network acl rule add a1 egress action=allow protocol=udp", checks::acl_agrees)
    },
    Scenario {
        needs: NETWORKS,
        before: ACL_IN_USE,
        ..scenario("acl rule remove, used", "network acl rule remove a1 egress action=allow", checks::acl_agrees)
    },
    Scenario {
        needs: NETWORKS,
        before: ACL_UNUSED,
        ..scenario("network set, acl", "network set matrixbr0 security.acls=a1", checks::acl_agrees_when_needed)
    },
    Scenario {
        needs: NETWORKS,
        before: ACL_IN_USE,
        ..scenario("network delete, acl", "network delete matrixbr0", checks::network)
    },
    Scenario {
        needs: NETWORKS,
        before: &[
            "network create matrixbr0",
            "network acl create a1",
            "create img c1 -n matrixbr0 -d eth0,security.acls=a1 -d eth0,security.mac_filtering=true",
        ],
        ..scenario("start, acl", "start c1", checks::runs)
    },
    scenario("address-set create", "network address-set create s1 addresses=10.1.2.3", checks::set_made),
    Scenario {
        before: &["network address-set create s1"],
        ..scenario("address-set rename", "network address-set rename s1 s2", checks::set_renamed)
    },
    Scenario {
        before: &["network address-set create s1"],
        ..scenario("address-set delete", "network address-set delete s1", checks::set_deleted)
    },
    Scenario {
        needs: NETWORKS,
        before: ACL_IN_USE,
        ..scenario("address-set add-addr, used", "network address-set add-addr s1 10.9.9.9", checks::acl_agrees)
    },
];
