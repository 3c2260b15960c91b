//! DNS zones as objects, and what needs OVN.

use crate::common_root::{State, run};
use crate::support::{Ask, state};
use std::time::Duration;

#[test]
fn zones_and_their_records() {
    let Some(state) = state("zones_and_their_records") else { return };
    let zone = |words: &str| {
        let words: Vec<&str> = ["network", "zone"].into_iter().chain(words.split(' ')).collect();
        state.good(&words)
    };
    assert_eq!(
        zone("create lab.example dns.nameservers=ns1.lab.example user.x=1"),
        "Network zone lab.example created\n"
    );
    zone("create 77.10.in-addr.arpa --description reverse");
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "dns.zone.forward=lab.example"]);
    state.good(&["network", "set", "testbr0", "dns.zone.reverse.ipv4=77.10.in-addr.arpa"]);
    assert_eq!(zone("list -f csv"), "77.10.in-addr.arpa,reverse,1\nlab.example,,1\n");
    let shown = zone("show lab.example");
    assert_eq!(
        shown,
        "description: \"\"\nconfig:\n  dns.nameservers: ns1.lab.example\n  user.x: \"1\"\nname: lab.example\nused_by:\n\
         - /1.0/networks/testbr0\nproject: default\n"
    );
    let edit = state.command(&["network", "zone", "edit", "lab.example"]);
    run(edit, Some(&shown.replace("\"\"", "the lab")), Duration::from_secs(20)).good().unwrap();
    zone("set lab.example network.nat=false");
    zone("unset lab.example user.x");
    assert_eq!(zone("get lab.example network.nat"), "false\n");
    assert_eq!(zone("get -p lab.example description"), "the lab\n");
    assert_eq!(zone("record create lab.example www --description web"), "Network zone record www created\n");
    zone("record entry add lab.example www A 10.77.0.5 --ttl 900");
    zone("record entry add lab.example www TXT hello");
    zone("record create lab.example @ user.y=2");
    assert_eq!(zone("record list lab.example -f csv"), "@,,\nwww,web,\"A 10.77.0.5\nTXT hello\"\n");
    assert_eq!(
        zone("record show lab.example www"),
        "description: web\nentries:\n- type: A\n  ttl: 900\n  value: 10.77.0.5\n- type: TXT\n  value: hello\nconfig: {}\nname: www\n"
    );
    zone("record entry remove lab.example www TXT hello");
    refusals(&state);
    assert_eq!(zone("record delete lab.example @"), "Network zone record @ deleted\n");
    state.good(&["network", "delete", "testbr0"]);
    assert_eq!(zone("delete lab.example"), "Network zone lab.example deleted\n");
    zone("create lab.example");
    assert_eq!(zone("record list lab.example -f csv"), "", "records go with their zone");
    zone("delete lab.example");
    zone("delete 77.10.in-addr.arpa");
    state.finish();
}

/// What is wrong is said, and changes nothing.
fn refusals(state: &State) {
    let refused = |words: &str, said: &str| {
        let words: Vec<&str> = ["network"].into_iter().chain(words.split(' ')).collect();
        let out = state.run(&words);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{words:?}: {out}");
    };
    refused("zone create lab.example", "The network zone already exists");
    refused("zone create bad..name", "Invalid network zone name");
    refused("zone create x.example colour=red", "Invalid config option \"colour\"");
    refused("zone show other.example", "Network zone not found");
    refused("zone delete lab.example", "Cannot delete a zone that is in use");
    refused("zone record show lab.example nowhere", "Network zone record not found");
    refused("zone record create lab.example www", "The network zone record already exists");
    refused("zone record entry add lab.example www A nonsense", "Invalid value \"nonsense\"");
    refused("zone record entry add lab.example www A 10.77.0.5", "Duplicate record for type \"A\"");
    refused("zone record entry remove lab.example www A 10.0.0.1", "Couldn't find a matching entry");
    refused("set testbr0 dns.zone.forward=other.example", "Network zone not found");
    refused("set testbr0 dns.zone.forward=77.10.in-addr.arpa", "is not one for what the network names it for");
    refused("peer create testbr0 x y", "Network peers need OVN");
    refused("load-balancer list testbr0", "Network load balancers need OVN");
    refused("integration list", "Network integrations need OVN");
}
