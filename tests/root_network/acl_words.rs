//! `network acl` and `network address-set` as objects: made, shown, changed; what is wrong is refused in one line.

use crate::common_root::{PATIENCE, State, run};
use crate::support::{Ask, state};

fn with(state: &State, words: &str, input: &str) -> crate::common_root::Out {
    run(state.command(&words.split(' ').collect::<Vec<_>>()), Some(input), PATIENCE)
}

#[test]
fn acls_made_shown_and_changed() {
    let Some(state) = state("acls_made_shown_and_changed") else { return };
    let yaml = "description: first\ningress:\n- action: allow\n  source: 10.0.0.1, 10.0.0.2\n  protocol: tcp\n  destination_port: 80\n  state: logged\n";
    let made = with(&state, "network acl create web user.a=1", yaml).good().unwrap();
    assert_eq!(made, "Network ACL web created\n");
    let shown = "name: web\ndescription: first\negress: []\ningress:\n- action: allow\n  source: 10.0.0.1,10.0.0.2\n  protocol: tcp\n  \
                 destination_port: \"80\"\n  state: logged\nconfig:\n  user.a: \"1\"\nused_by: []\nproject: default\n";
    assert_eq!(state.good(&["network", "acl", "show", "web"]), shown);
    let good = |words: &str| state.good(&words.split(' ').collect::<Vec<_>>());
    assert_eq!(good("network acl create db --description second"), "Network ACL db created\n");
    assert_eq!(good("network acl list -f csv"), "db,second,0\nweb,first,0\n");
    assert_eq!(
        good("network acl ls --all-projects -f csv,header"),
        "PROJECT,NAME,DESCRIPTION,USED BY\ndefault,db,second,0\ndefault,web,first,0\n"
    );
    assert!(
        good("network acl list -f json")
            .starts_with("[{\"name\":\"db\",\"description\":\"second\",\"egress\":[],\"ingress\":[],")
    );
    good("network acl set web user.b=2");
    good("network acl set web -p description=other");
    assert_eq!(
        (good("network acl get web user.b"), good("network acl get web -p description")),
        ("2\n".into(), "other\n".into())
    );
    good("network acl unset web user.a");
    assert_eq!(good("network acl get web user.a"), "");
    good("network acl rule add web egress action=drop --description=no");
    good("network acl rule add web egress action=drop protocol=udp");
    let out = state.run(&["network", "acl", "rule", "remove", "web", "egress", "action=drop"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("Multiple rules match. Use --force to remove them all"), "{out}");
    good("network acl rule remove web egress action=drop --force");
    assert!(good("network acl show web").contains("egress: []"));
    with(&state, "network acl edit web", &shown.replace("logged", "disabled")).good().unwrap();
    assert!(good("network acl show web").contains("state: disabled"));
    assert_eq!(good("network acl rename web www"), "Network ACL web renamed to www\n");
    assert_eq!(good("network acl delete www db"), "Network ACL www deleted\nNetwork ACL db deleted\n");
    assert_eq!(good("network acl list -f csv"), "");
    state.finish();
}

#[test]
fn address_sets_made_shown_and_changed() {
    let Some(state) = state("address_sets_made_shown_and_changed") else { return };
    let good = |words: &str| state.good(&words.split(' ').collect::<Vec<_>>());
    assert_eq!(
        good("network address-set create s1 addresses=10.0.0.1,fd42::/64 user.x=1"),
        "Network address set s1 created\n"
    );
    let shown = "addresses:\n- 10.0.0.1\n- fd42::/64\nconfig:\n  user.x: \"1\"\ndescription: \"\"\nname: s1\nused_by: []\nproject: default\n";
    assert_eq!(good("network address-set show s1"), shown);
    good("network address-set add s1 10.0.1.0/24 10.0.2.1-10.0.2.9");
    good("network address-set remove s1 10.0.0.1 fd42::/64");
    good("network address-set set s1 -p description=some");
    good("network address-set unset s1 user.x");
    assert_eq!(good("network address-set list -f csv"), "s1,some,\"10.0.1.0/24\n10.0.2.1-10.0.2.9\",0\n");
    with(&state, "network address-set edit s1", "addresses: [192.0.2.1]\n").good().unwrap();
    assert_eq!(good("network address-set rename s1 s2"), "Network address set s1 renamed to s2\n");
    assert!(good("network address-set show s2").starts_with("addresses:\n- 192.0.2.1\ndescription"));
    good("network acl create a");
    good("network acl rule add a ingress action=allow source=$s2");
    assert!(good("network address-set show s2").contains("used_by:\n- /1.0/network-acls/a\n"));
    good("network acl delete a");
    assert_eq!(good("network address-set rm s2"), "Network address set s2 deleted\n");
    state.finish();
}

/// Rules for what comes in, and what is said of them.
const RULES: &[(&str, &str)] = &[
    ("action=allow source=10.0.0.0/33", "Invalid ingress rule 0: Invalid Source: Invalid subject \"10.0.0.0/33\""),
    ("action=allow source=10.0.0.9-10.0.0.1", "Invalid ingress rule 0: Invalid Source: Invalid subject"),
    ("action=allow source=$nowhere", "Network address set not found"),
    ("action=allow source=@internal", "Subject \"@internal\" is not supported by this version"),
    ("action=allow destination=@internal", "Named subjects not allowed in \"Destination\" for \"ingress\" rules"),
    ("action=allow source=10.0.0.1 destination=fd42::1", "Conflicting IP family types used for Source and Destination"),
    ("action=allow protocol=tcp destination_port=90-80", "Start port 90 must be lower than end port 80"),
    ("action=allow protocol=tcp destination_port=http", "Invalid Destination port"),
    ("action=allow destination_port=80", "Destination port cannot be used without specifying protocol"),
    ("action=allow protocol=icmp4 destination_port=80", "Destination port cannot be used with \"icmp4\" protocol"),
    ("action=allow protocol=icmp4 icmp_type=256", "Invalid ICMP type: Invalid value for an integer \"256\""),
    ("action=allow protocol=icmp6 source=10.0.0.1", "Cannot use IPv4 source addresses with \"icmp6\" protocol"),
    ("action=allow protocol=udp icmp_type=8", "ICMP type cannot be used with non-ICMP protocol"),
    ("action=allow protocol=sctp", "Protocol must be one of: icmp4, icmp6, tcp, udp"),
    ("action=pass", "Action must be one of: allow, allow-stateless, drop, reject"),
    ("action=allow state=on", "State must be one of: enabled, disabled, logged"),
    ("port=80", "Unknown key: port"),
];

/// Commands, and what is said of them.
const WORDS: &[(&str, &str)] = &[
    ("network acl create a", "The network ACL already exists"),
    ("network acl create 1.2.3.4", "Name"),
    ("network acl create @a", "Name cannot start with reserved character"),
    ("network acl create b ipv4.x=1", "Invalid config option \"ipv4.x\""),
    ("network acl rule add a sideways action=allow", "sideways"),
    ("network acl rule remove a egress action=allow", "No matching rule(s) found"),
    ("network acl rule add b ingress action=allow", "Network ACL not found"),
    ("network acl show b", "Network ACL not found"),
    ("network acl delete b", "Network ACL not found"),
    ("network acl rename b c", "Network ACL not found"),
    ("network acl rename a a", "An ACL by that name exists already"),
    ("network address-set create s", "The network address set already exists"),
    (
        "network address-set create t addresses=10.0.0.300",
        "Invalid addresses: Unsupported address format \"10.0.0.300\" at index 0",
    ),
    ("network address-set add s 10.0.0.1", "Duplicate address \"10.0.0.1\" found at index 1"),
    ("network address-set add s 10.0.0.0/40", "Unsupported address format \"10.0.0.0/40\" at index 1"),
    ("network address-set remove s 10.0.0.7", "One or more provided address isn't currently in the set"),
    ("network address-set add t 10.0.0.1", "Network address set not found"),
    ("network address-set create $x", "Name"),
];

/// One clear line each, in Incus's words, and nothing is changed.
#[test]
fn what_makes_no_sense() {
    let Some(state) = state("what_makes_no_sense") else { return };
    let good = |words: &str| state.good(&words.split(' ').collect::<Vec<_>>());
    good("network acl create a");
    good("network address-set create s addresses=10.0.0.1");
    let before = (good("network acl show a"), good("network address-set show s"));
    let rules = RULES.iter().map(|(words, said)| (format!("network acl rule add a ingress {words}"), *said));
    let others = WORDS.iter().map(|(words, said)| ((*words).to_string(), *said));
    for (words, said) in rules.chain(others) {
        let out = state.run(&words.split(' ').collect::<Vec<_>>());
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{out}\nwanted: {said}");
    }
    good("network acl rule add a egress action=allow");
    let out = state.run(&["network", "acl", "rule", "add", "a", "egress", "action=allow"]);
    assert!(out.stderr.contains("Duplicate of egress rule 1"), "{out}");
    good("network acl rule remove a egress");
    for (words, text) in [
        ("network acl edit a", "ingress:\n- nonsense: 1\n"),
        ("network acl create z", "- a\n"),
        ("network address-set edit s", "addresses: 3: 4\n"),
    ] {
        with(&state, words, text).clean_failure().unwrap();
    }
    assert_eq!(before, (good("network acl show a"), good("network address-set show s")));
    assert_eq!(
        (good("network acl list -f csv"), good("network address-set list -f csv")),
        ("a,,0\n".into(), "s,,10.0.0.1,0\n".into())
    );
    state.finish();
}
