//! ACLs, forwards, address sets and zone records as users write them, down to the text nft and the DNS server get:
//! whatever is accepted stays one rule a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stapes::base::names::{AddressSetName, NetworkName, ProjectName, ZoneName};
use stapes::model::instance::Config;
use stapes::model::network::acl::{Acl, AclAction};
use stapes::model::network::address_set::AddressSet;
use stapes::model::network::forward::Forward;
use stapes::model::network::zone::{ZoneRecord, record_lines};
use stapes::network::nft::acl::{Fallback, Policy, set_up};
use stapes::network::nft::coexist::Ruleset;
use stapes::network::nft::{Script, Tables, forward, network};
use stapes::network::zones::text::{Served, parse, told};

const VERBS: [&str; 6] = ["add table ", "add chain ", "flush chain ", "delete chain ", "add rule ", "add "];

fn check(script: &Script) {
    let text = script.text(&Tables::new(Some("fuzz")));
    for line in text.lines() {
        let verb = VERBS.iter().any(|v| line.starts_with(v)) || line.starts_with("flush set ");
        assert!(verb && line.is_ascii() && !line.contains(';') | line.ends_with(" }"), "{line}");
        assert!(line.matches('"').count() % 2 == 0, "{line}");
    }
}

fuzz_target!(|text: &str| {
    let name = NetworkName::parse("net0").expect("name");
    let fallback = Fallback { action: AclAction::Reject, logged: true };
    if let Ok(acl) = toml::from_str::<Acl>(text)
        && acl.validate(&|_| true).is_ok()
    {
        let policy = Policy::new(&ProjectName::default(), &[&acl], fallback, fallback).expect("it is valid");
        check(&network::acls_up(&name, &policy));
    }
    if let Ok(set) = toml::from_str::<AddressSet>(text)
        && set.validate().is_ok()
    {
        let set_name = AddressSetName::parse("s").expect("name");
        check(&set_up(&ProjectName::default(), &set_name, &set).expect("it is valid"));
    }
    if let Ok(record) = toml::from_str::<Forward>(text)
        && let Ok(parsed) = record.parse("192.0.2.1", &Config::new())
    {
        check(&forward::up(&name, &[parsed], &[]));
    }
    if let Ok(record) = toml::from_str::<ZoneRecord>(text) {
        let zone = ZoneName::parse("example.net").expect("name");
        if let Ok(lines) = record_lines(&zone, "@", &record) {
            let served = [Served { name: &zone, options: &Config::new(), lines: &lines }];
            let told = told(&served, ([127, 0, 0, 1], 53).into(), "", 1);
            let zones = parse(&told.text).expect("it is what the server reads").1;
            assert!(zones.all()[0].records.len() <= 2 + lines.len());
        }
    }
    let _ = Ruleset::parse(text);
});
