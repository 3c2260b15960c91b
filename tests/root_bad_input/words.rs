//! What the user can type wrong.

use super::common_root::run;
use super::{ends_clean, prepared, refused, unaffected};
use std::time::Duration;

#[test]
fn wrong_names() {
    let Some(state) = prepared("wrong_names") else { return };
    let long = format!("create img {}", "a".repeat(64));
    let names = ["create img 12", "create img a_b", "create img ..", "create img a.b", "create img a-"];
    let mut commands: Vec<(&str, &str)> = names.iter().map(|line| (*line, "name")).collect();
    commands.push((&long, "name"));
    commands.push(("create img a/b", "reserved for snapshots"));
    commands.push(("create img bücher", "name"));
    commands.push(("create img stopped", "already exists"));
    commands.push(("rename stopped runs", "already in use"));
    commands.push(("rename stopped a_b", "name"));
    commands.push(("rename runs other", "running instance"));
    for verb in ["start", "stop", "restart", "delete", "pause", "config show", "info"] {
        let line: &str = Box::leak(format!("{verb} nosuch").into_boxed_str());
        commands.push((line, "not found"));
    }
    commands.push(("exec nosuch -- true", "not found"));
    refused(&state, &commands);
    ends_clean(&state);
}

#[test]
fn unknown_things_and_bad_values() {
    let Some(state) = prepared("unknown_things_and_bad_values") else { return };
    refused(
        &state,
        &[
            ("create nosuch c1", "not found"),
            ("launch nosuch c1", "not found"),
            ("run nosuch -- true", "not found"),
            ("create img c1 -p nosuch", "nosuch"),
            ("create img c1 -s nosuch", "not found"),
            ("create img c1 -c nosuch.key=1", "nosuch.key"),
            ("launch img c1 -c boot.autostart=maybe", "boot.autostart"),
            ("launch img c1 -c limits.kernel.nofile=many", "limits.kernel.nofile"),
            ("launch img c1 -c raw.idmap=nonsense", "raw.idmap"),
            ("launch img c1 -c security.nesting=2.5", "security.nesting"),
            ("create img c1 -d nosuch,size=1", "nosuch"),
            ("create img c1 -d root,size=abc", "abc"),
            ("create img c1 -d root,nosuch=1", "nosuch"),
            ("config set stopped nosuch.key=1", "nosuch.key"),
            ("config set stopped boot.autostart=maybe", "boot.autostart"),
            ("config set runs security.privileged=maybe", "security.privileged"),
            ("config set stopped volatile.uuid=x", "volatile.uuid"),
            ("config device add stopped x nosuch", "Unsupported device type"),
            ("config device add stopped x disk path=/x", "source"),
            ("config device add stopped x disk source=/tmp path=/x nosuch=1", "nosuch"),
            ("config device remove stopped nosuch", "nosuch"),
            ("profile show nosuch", "not found"),
            ("profile delete default", "default"),
            ("profile create default", "already exists"),
            ("image delete nosuch", "not found"),
            ("image alias create x nosuch", "not found"),
            ("delete runs", "running"),
            ("start runs", "already running"),
            ("stop stopped", "already stopped"),
            ("exec stopped -- true", "not running"),
            ("run img --timeout never -- true", "never"),
            ("run img --mount nonsense -- true", "nonsense"),
            ("create img c1 --project nosuch", "not found"),
        ],
    );
    ends_clean(&state);
}

/// Started by hand or with the instance: what is not there is said, and nothing of the start is left.
#[test]
fn starts_that_cannot_work() {
    let Some(state) = prepared("starts_that_cannot_work") else { return };
    state.good(&["create", "img", "c1"]);
    state.good(&["config", "device", "add", "stopped", "gone", "disk", "source=/nosuch", "path=/x", "required=false"]);
    state.good(&["config", "device", "set", "stopped", "gone", "required=true"]);
    refused(&state, &[("start stopped", "/nosuch")]);
    state.good(&["start", "c1"]);
    ends_clean(&state);
}

#[test]
fn what_is_no_yaml_changes_no_profile() {
    let Some(state) = prepared("what_is_no_yaml_changes_no_profile") else { return };
    let before = state.good(&["profile", "show", "default"]);
    for text in
        ["{", "config: [1, 2]\n", "nosuch: 1\n", "config:\n  nosuch.key: 1\n", "devices:\n  x:\n    type: nosuch\n"]
    {
        let out = run(state.command(&["profile", "edit", "default"]), Some(text), Duration::from_secs(60));
        out.clean_failure().unwrap();
    }
    assert_eq!(state.good(&["profile", "show", "default"]), before);
    unaffected(&state);
    ends_clean(&state);
}

#[test]
fn what_is_no_image_is_not_imported() {
    let Some(state) = prepared("what_is_no_image_is_not_imported") else { return };
    let image = std::fs::read(state.path("image.tar")).unwrap();
    std::fs::write(state.path("truncated.tar"), &image[..image.len() / 2]).unwrap();
    std::fs::write(state.path("text.tar"), "this is no archive\n".repeat(1000)).unwrap();
    std::fs::write(state.path("empty.tar"), "").unwrap();
    std::fs::write(state.path("broken.tar.xz"), [b"\xfd7zXZ\0".as_slice(), &[7; 4096]].concat()).unwrap();
    refused(
        &state,
        &[
            ("image import truncated.tar", ""),
            ("image import text.tar", ""),
            ("image import empty.tar", ""),
            ("image import broken.tar.xz", ""),
            ("image import rootfs.tar", "metadata"),
            ("image import meta.tar", ""),
            ("image import meta.tar text.tar", ""),
            ("image import nosuch.tar", "nosuch.tar"),
            ("image import image.tar", "already exists"),
        ],
    );
    ends_clean(&state);
}

#[test]
fn two_commands_on_one_instance() {
    let Some(state) = prepared("two_commands_on_one_instance") else { return };
    for (line, words) in [
        ("create img c1", "already exists"),
        ("start c1", "already running"),
        ("stop -f c1", "already stopped"),
        ("delete c1", "not found"),
        ("launch img c1", "already exists"),
        ("delete -f c1", "not found"),
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        let outs = std::thread::scope(|scope| {
            let both = [(); 2].map(|()| scope.spawn(|| state.run(&args)));
            both.map(|thread| thread.join().unwrap())
        });
        let won = outs.iter().filter(|out| out.ok()).count();
        // Two that force an end may both see it.
        assert!(won == 1 || (won == 2 && line.contains("-f")), "{} {}", outs[0], outs[1]);
        for out in outs.iter().filter(|out| !out.ok()) {
            out.clean_failure().unwrap();
            assert!(out.stderr.contains(words) || out.stderr.contains("is busy"), "{out}");
        }
        unaffected(&state);
    }
    ends_clean(&state);
}
