//! The plan a monitor is handed, and the seccomp policies in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stapes::container::plan::Plan;
use stapes::container::seccomp;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(plan) = Plan::from_json(bytes) {
        let _ = (plan.host_uid(0), plan.host_gid(u32::MAX), plan.holds_uid(1));
        let _ = seccomp::programs(&plan.spec);
        let text = plan.to_json().expect("what was read can be written");
        Plan::from_json(&text).expect("and read again");
    }
});
