//! ACLs of networks: what they let between the network and everything else, and nothing within it; changes count at once.

use crate::common_root::{self, State};
use crate::packets::{Fate, Open, Refused, Servers, Silent, tcp, udp};
use crate::support::{Ask, state};
use crate::world::{OUTSIDE, World, host};

/// A network with two instances whose addresses the world knows the way to.
pub struct Lan {
    pub state: State,
    pub world: World,
    pub c1: i32,
    pub c2: i32,
}

pub const C1: &str = "10.77.0.11";
pub const C2: &str = "10.77.0.12";
const GATEWAY: &str = "10.77.0.1";
const OUTSIDE6: &str = "2001:db8::2";

impl Lan {
    /// Not started yet are the instances if `start` is false.
    pub fn new(test: &str, options: &[&str]) -> Option<Self> {
        let state = state(test)?;
        if !common_root::have("nft") {
            common_root::skip(test, "no nft");
            return None;
        }
        let world = World::new(&state);
        let out = format!("nsenter -t {} -n ip", world.pid());
        host(&format!("{out} addr add {OUTSIDE6}/64 dev out0 nodad"));
        host("ip addr add 2001:db8::1/64 dev up0 nodad");
        host(&format!("{out} route add 10.77.0.0/24 via {}", crate::world::HOST));
        host(&format!("{out} route add fd42:77::/64 via 2001:db8::1"));
        let base = ["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "ipv6.address=fd42:77::1/64"];
        state.good(&[&base[..], options].concat());
        for name in ["c1", "c2"] {
            state.good(&["create", "test", name, "-n", "testbr0"]);
        }
        Some(Self { state, world, c1: 0, c2: 0 })
    }

    pub fn start(&mut self) {
        self.state.good(&["start", "c1", "c2"]);
        (self.c1, self.c2) = (self.state.init("c1"), self.state.init("c2"));
        for (pid, last) in [(self.c1, 11), (self.c2, 12)] {
            // busybox knows no "nodad".
            let ip = format!("nsenter -t {pid} -n ip");
            host(&format!("{ip} addr add 10.77.0.{last}/24 dev eth0"));
            host(&format!("{ip} addr add fd42:77::{last}/64 dev eth0 nodad"));
            host(&format!("{ip} route add default via {GATEWAY}"));
            host(&format!("{ip} -6 route replace default via fd42:77::1"));
        }
    }

    pub fn acl(&self, words: &str) -> String {
        let words: Vec<&str> = ["network", "acl"].into_iter().chain(words.split(' ')).collect();
        self.state.good(&words)
    }

    pub fn set(&self, words: &str) -> String {
        let words: Vec<&str> = ["network", "address-set"].into_iter().chain(words.split(' ')).collect();
        self.state.good(&words)
    }

    pub fn ping(&self, name: &str, to: &str) -> bool {
        self.state.try_sh(name, &format!("ping -c 1 -W 1 {to}")).ok()
    }

    /// The world is reached, or not.
    fn out(&self, port: u16) -> Fate {
        tcp(self.c1, OUTSIDE, port)
    }

    pub fn finish(self) {
        self.state.good(&["delete", "-f", "c1", "c2"]);
        self.state.good(&["network", "delete", "testbr0"]);
        let left = host("nft list ruleset");
        for word in ["testbr0", "acl", "set.", "eth0"] {
            assert!(!left.contains(word), "left: {left}");
        }
        drop(self.world);
        self.state.finish();
    }
}

#[test]
fn out_of_a_network_and_into_it() {
    let Some(mut lan) = Lan::new("out_of_a_network_and_into_it", &["ipv4.nat=false", "ipv6.nat=false"]) else { return };
    lan.acl("create web");
    lan.state.good(&["network", "set", "testbr0", "security.acls=web"]);
    lan.start();
    let outside = lan.world.pid();
    let _out = Servers::new(outside, &[81, 8081, 9000], &[5000, 5001]);
    let _in = Servers::new(lan.c1, &[80, 8080, 8085], &[5000]);
    let _near = Servers::new(lan.c2, &[80], &[]);
    // Nothing is allowed yet, but within the network, and what every host needs.
    assert_eq!((lan.out(80), tcp(outside, C1, 80), udp(lan.c1, OUTSIDE, 5000, 0)), (Refused, Refused, Refused));
    assert!(!lan.ping("c1", OUTSIDE) && !lan.ping("c1", GATEWAY));
    assert!(lan.ping("c1", C2) && tcp(lan.c1, C2, 80) == Open, "within the network");
    // Each rule counts at once, and for what it says only.
    lan.acl("rule add web egress action=allow protocol=tcp destination_port=80-81,9000");
    assert_eq!([lan.out(80), lan.out(81), lan.out(9000), lan.out(8081)], [Open, Open, Open, Refused]);
    assert_eq!(udp(lan.c1, OUTSIDE, 5000, 0), Refused);
    lan.acl("rule add web egress action=drop destination=203.0.113.0/29 protocol=tcp destination_port=81");
    assert_eq!([lan.out(80), lan.out(81)], [Open, Silent], "a drop comes before what allows");
    lan.acl("rule remove web egress action=drop");
    assert_eq!(lan.out(81), Open);
    lan.acl("rule add web egress action=allow protocol=udp source_port=7000-7001 destination=203.0.113.1-203.0.113.9");
    assert_eq!([7000, 7002].map(|from| udp(lan.c1, OUTSIDE, 5000, from)), [Open, Refused]);
    lan.acl("rule add web egress action=allow protocol=icmp4 icmp_type=8");
    assert!(lan.ping("c1", OUTSIDE) && lan.ping("c1", GATEWAY) && !lan.ping("c1", OUTSIDE6));
    lan.acl("rule add web egress action=allow protocol=icmp6 destination=2001:db8::/64");
    assert!(lan.ping("c1", OUTSIDE6) && !lan.ping("c1", "fd42:77::1"));
    // Into it, by source.
    lan.acl("rule add web ingress action=allow protocol=tcp destination_port=8080-8082 source=203.0.113.2");
    let into = |port| tcp(outside, C1, port);
    assert_eq!([into(80), into(8080), into(8085)], [Refused, Open, Refused]);
    // The kernel answers with ICMPv6 once a second only.
    assert_ne!(tcp(outside, "fd42:77::11", 8080), Open, "another family");
    lan.acl("rule add web ingress action=allow protocol=tcp destination_port=8085 source=203.0.113.3-203.0.113.9");
    assert_eq!(into(8085), Refused);
    // One that is disabled says nothing.
    let yaml = "egress:\n- action: allow\n  protocol: tcp\n  destination_port: 80\n  state: disabled\ningress: []\n";
    let edited =
        common_root::run(lan.state.command(&["network", "acl", "edit", "web"]), Some(yaml), common_root::PATIENCE);
    edited.good().unwrap();
    assert_eq!([lan.out(80), into(8080)], [Refused, Refused]);
    // The defaults.
    for (action, fate) in [("drop", Silent), ("allow", Open), ("reject", Refused)] {
        lan.state.good(&["network", "set", "testbr0", &format!("security.acls.default.egress.action={action}")]);
        assert_eq!([lan.out(80), into(80)], [fate, Refused], "{action}");
    }
    // Without ACLs all is open, whatever the defaults say.
    lan.state.good(&["network", "unset", "testbr0", "security.acls"]);
    assert_eq!([lan.out(8081), into(80), udp(lan.c1, OUTSIDE, 5001, 0)], [Open; 3]);
    assert!(!host("nft list ruleset").contains("acl"));
    lan.finish();
}

#[test]
fn address_sets_in_rules() {
    let Some(mut lan) = Lan::new("address_sets_in_rules", &["ipv4.nat=false"]) else { return };
    lan.set("create hosts addresses=192.0.2.0/24,fd00::1");
    lan.acl("create a");
    lan.acl("create b");
    lan.acl("rule add a egress action=allow protocol=tcp destination=$hosts destination_port=80");
    assert!(!host("nft list ruleset").contains("set.hosts"), "nobody needs it yet");
    lan.state.good(&["network", "set", "testbr0", "security.acls=b,a"]);
    lan.start();
    assert_eq!(lan.out(80), Refused);
    lan.set("add hosts 203.0.113.2-203.0.113.4");
    assert_eq!(lan.out(80), Open);
    lan.set("del-addr hosts 203.0.113.2-203.0.113.4");
    assert_eq!(lan.out(80), Refused);
    lan.set("add-addr hosts 203.0.113.0/24");
    assert_eq!(lan.out(80), Open);
    // Used: neither goes, nor do they get other names.
    for (words, said) in [
        ("address-set delete hosts", "Cannot delete address set that is in use"),
        ("address-set rename hosts other", "Cannot rename address set that is in use"),
        ("acl delete a", "Cannot delete an ACL that is in use"),
        ("acl rename a c", "Cannot rename an ACL that is in use"),
    ] {
        let words: Vec<&str> = ["network"].into_iter().chain(words.split(' ')).collect();
        let out = lan.state.run(&words);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{out}");
    }
    assert!(lan.acl("show a").contains("used_by:\n- /1.0/networks/testbr0\n"));
    assert!(lan.set("show hosts").contains("used_by:\n- /1.0/network-acls/a\n"));
    // The set goes from the kernel with the last rule that names it, and the network stays closed.
    lan.acl("rule remove a egress");
    assert!(!host("nft list ruleset").contains("set.hosts"));
    assert_eq!(lan.out(80), Refused);
    assert_eq!(lan.set("delete hosts"), "Network address set hosts deleted\n");
    lan.finish();
}

/// nft fails: neither the record nor the kernel has changed, and the next change works.
#[test]
fn all_or_nothing() {
    let Some(mut lan) = Lan::new("all_or_nothing", &["ipv4.nat=false"]) else { return };
    lan.acl("create web");
    lan.set("create hosts addresses=203.0.113.2");
    lan.acl("rule add web egress action=allow protocol=tcp destination=$hosts destination_port=80");
    lan.state.good(&["network", "set", "testbr0", "security.acls=web"]);
    lan.start();
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    host("mount --make-rprivate /");
    let nft = host("which nft").trim().to_string();
    let broken = lan.state.path("nft");
    std::fs::write(&broken, "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let all = |lan: &Lan| (host("nft list ruleset"), lan.acl("show web"), lan.set("show hosts"));
    let before = all(&lan);
    host(&format!("mount --bind {} {nft}", broken.display()));
    for words in [
        "acl rule add web ingress action=allow",
        "acl rule remove web egress",
        "address-set add hosts 203.0.113.9",
        "address-set remove hosts 203.0.113.2",
        "set testbr0 security.acls.default.egress.action=allow",
    ] {
        let words: Vec<&str> = ["network"].into_iter().chain(words.split(' ')).collect();
        lan.state.run(&words).clean_failure().unwrap();
    }
    host(&format!("umount {nft}"));
    assert_eq!(before, all(&lan));
    assert_eq!([lan.out(80), lan.out(81)], [Open, Refused]);
    lan.acl("rule remove web egress action=allow");
    assert_eq!(lan.out(80), Refused);
    // Somebody takes all rules away: doctor sees it, and mends it.
    host("nft flush ruleset");
    assert_eq!(lan.out(80), Open);
    let said = lan.state.run(&["doctor", "-f", "csv"]);
    assert!(!said.ok() && said.stdout.contains("rules have been taken away: network testbr0"), "{said}");
    lan.state.good(&["doctor", "--fix"]);
    assert_eq!(lan.out(80), Refused);
    // Rules of what is no more.
    let table =
        host("nft list tables").lines().find_map(|l| l.strip_prefix("table inet ").map(str::to_string)).unwrap();
    host(&format!("nft add chain inet {table} acl.gone0"));
    let said = lan.state.run(&["doctor", "-f", "csv"]);
    assert!(!said.ok() && said.stdout.contains("chain acl.gone0"), "{said}");
    lan.state.good(&["doctor", "--fix"]);
    assert!(!host("nft list ruleset").contains("gone0"));
    lan.finish();
}

/// What rules log is found again. The kernel itself logs for its first network namespace only, as a rule: a line is put into its
/// log where that is so.
#[test]
fn what_was_logged() {
    let Some(mut lan) = Lan::new("what_was_logged", &["ipv4.nat=false"]) else { return };
    lan.acl("create web");
    let out = lan.state.run(&["network", "acl", "show-log", "web"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("not in force"), "{out}");
    lan.acl("rule add web egress action=drop state=logged protocol=tcp destination_port=80");
    lan.state.good(&["network", "set", "testbr0", "security.acls=web"]);
    lan.start();
    assert!(host("nft list ruleset").contains("log prefix \"testbr0-egress-0 \" drop"));
    assert_eq!(lan.out(80), Silent);
    let everywhere = std::fs::read_to_string("/proc/sys/net/netfilter/nf_log_all_netns").unwrap_or_default();
    if everywhere.trim() != "1" {
        let line = format!("<6>testbr0-egress-0 IN=testbr0 OUT=up0 SRC={C1} DST={OUTSIDE} MARK={}\n", lan.c1);
        if std::fs::write("/dev/kmsg", line).is_err() {
            common_root::skip("what_was_logged", "the kernel's log can't be written");
            return lan.finish();
        }
        std::fs::write("/dev/kmsg", format!("<6>testbr0-other MARK={}\n", lan.c1)).unwrap();
    }
    let shown = lan.acl("show-log web");
    let last = shown.lines().last().unwrap();
    assert!(last.contains("testbr0-egress-0 IN=testbr0") && last.contains(&format!("DST={OUTSIDE}")), "{shown}");
    assert!(!shown.contains("testbr0-other"));
    lan.finish();
}
