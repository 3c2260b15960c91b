//! An instance's own AppArmor: what it loads goes into its policy namespace, holds there, and ends with it.

use crate::common_root::{State, debian, skip};
use crate::support::Ask;
use crate::tools::{enforced, label, loaded, namespace, profile};

/// A state with Debian's image on a host whose AppArmor stacks namespaces; none, and said so, elsewhere.
fn stacking(test: &str) -> Option<State> {
    if std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|t| t.trim() == "Y") {
        return debian::debian(test);
    }
    skip(test, "AppArmor is not enabled");
    None
}

const INNER: &str = "profile inner /usr/bin/inner flags=(attach_disconnected) {\n  file,\n  deny /etc/group r,\n}\n";

/// Loads a profile inside, which confines there; the host's is out of reach.
fn fills_its_own(state: &State, settings: &[&str]) {
    state.good(&[&["launch", "debian", "d1"], settings].concat());
    debian::up(state, "d1");
    if !debian::bring_apparmor(state, "d1") {
        return skip("fills_its_own", "no package apparmor on this host");
    }
    let own = namespace(state, "d1").unwrap();
    let files = "/sys/kernel/security/apparmor";
    assert_eq!(
        state.sh("d1", &format!("cat {files}/.ns_name {files}/.ns_level {files}/.ns_stacked")),
        format!("{own}\n1\nyes")
    );
    assert_eq!(state.sh("d1", &format!("cat {files}/profiles")), "", "nothing of the host's");
    state.sh("d1", &format!("cp /usr/bin/cat /usr/bin/inner; printf '{INNER}' >/etc/apparmor.d/inner"));
    state.sh("d1", "inner /etc/group && apparmor_parser -r /etc/apparmor.d/inner");
    assert_eq!(state.sh("d1", "inner /proc/self/attr/apparmor/current"), "inner (enforce)");
    let out = state.try_sh("d1", "inner /etc/group");
    assert!(!out.ok() && out.stderr.contains("ermission denied"), "{out}");
    let status = state.sh("d1", "aa-status");
    assert!(status.contains("1 profiles are in enforce mode.") && status.contains("   inner"), "{status}");
    // The distribution's service takes the namespace for a container's own.
    state.sh("d1", "apparmor_parser -R /etc/apparmor.d/inner; systemctl daemon-reload; systemctl restart apparmor");
    assert_eq!(state.sh("d1", "inner /proc/self/attr/apparmor/current"), "inner (enforce)");
    let all = std::fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap();
    assert!(all.lines().any(|l| l.starts_with(&format!(":{own}:")) && l.ends_with("inner (enforce)")), "{all}");
    assert!(!all.lines().any(|l| l.starts_with("inner ")), "{all}");
    outer_holds(state, &own);
}

fn outer_holds(state: &State, own: &str) {
    let outer = profile(state, "d1");
    let files = "/sys/kernel/security/apparmor";
    for script in [
        format!("printf %s {outer} >{files}/.remove"),
        format!("printf %s :root:{outer} >{files}/.remove"),
        format!("rmdir {files}/policy/namespaces/{own}"),
        "printf %s 'changeprofile unconfined' >/proc/self/attr/apparmor/current; cat /proc/kcore".to_string(),
        "cat /proc/kcore".to_string(),
        "echo x >/proc/sys/kernel/core_pattern".to_string(),
        "echo complain >/sys/module/apparmor/parameters/mode".to_string(),
    ] {
        let out = state.try_sh("d1", &script);
        assert!(!out.ok(), "{script}: {out}");
    }
    // Replacing a profile of the outer one's name makes one of the instance's own.
    let fake = format!("printf 'profile \"{outer}\" {{ file, capability, mount, }}' | apparmor_parser -r");
    state.sh("d1", &fake);
    assert_eq!(label(state.init("d1")), enforced(state, "d1"));
    assert!(!state.try_sh("d1", "cat /proc/kcore").ok());
}

#[test]
fn an_instance_fills_a_namespace_of_its_own() {
    let Some(state) = stacking("an_instance_fills_a_namespace_of_its_own") else { return };
    for settings in [&[][..], &["-c", "security.privileged=true"]] {
        fills_its_own(&state, settings);
        // The next start finds it empty.
        state.good(&["restart", "-f", "d1"]);
        let own = format!(":{}:", namespace(&state, "d1").unwrap());
        let all = std::fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap();
        assert!(!all.lines().any(|l| l.starts_with(&own) && l.contains("d1")), "{all}");
        state.good(&["stop", "-f", "d1"]);
        assert_eq!(loaded(&state), [""; 0]);
        let all = std::fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap();
        assert!(!all.contains(&own), "{all}");
        state.good(&["delete", "d1"]);
    }
    state.finish();
}
