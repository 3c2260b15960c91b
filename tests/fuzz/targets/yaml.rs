//! What `edit` reads from a user: profiles and instances.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stapes::base::yaml;
use stapes::model::view::{InstancePut, ProfilePut};

fuzz_target!(|text: &str| {
    let _ = yaml::is_mapping(text);
    if let Ok(profile) = yaml::from_str::<ProfilePut>(text) {
        let out = yaml::to_string(&profile).expect("what was read can be written");
        let again = yaml::from_str::<ProfilePut>(&out).expect("and read again");
        assert_eq!(yaml::to_string(&again).expect("written"), out);
    }
    if let Ok(instance) = yaml::from_str::<InstancePut>(text) {
        let out = yaml::to_string(&instance).expect("what was read can be written");
        yaml::from_str::<InstancePut>(&out).expect("and read again");
    }
});
