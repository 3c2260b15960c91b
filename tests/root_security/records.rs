//! Records that lie: a run record whose process numbers belong to somebody else. And the build that watches the allocator.

use crate::common_root::{State, faults_binary, leftovers};
use crate::support::{Ask, Tree, kill, lives, state};
use std::process::{Child, Command};

fn sleeper() -> Child {
    Command::new("sleep").arg("600").spawn().unwrap()
}

fn start_time(pid: i32) -> i64 {
    stapes::host::proc::start_time(pid).unwrap().unwrap() as i64
}

/// Row "Recycled PID kills a stranger": numbers of a record that now belong to others name nobody.
#[test]
fn a_recycled_pid_is_nobody() {
    let Some(state) = state("a_recycled_pid_is_nobody") else { return };
    let name = stapes::base::names::InstanceName::parse("c1").unwrap();
    let path = state.layout().run_file(&Default::default(), &name);
    for case in ["start time", "boot", "both right, not ours"] {
        state.launch("c1", &[]).good().unwrap();
        let mut record = state.run_record("c1");
        let (monitor, init) = (record["monitor_pid"].as_integer().unwrap() as i32, state.init("c1"));
        let (mut one, mut two) = (sleeper(), sleeper());
        kill(monitor, "KILL");
        crate::support::until("the end", || !lives(init) && !lives(monitor));
        for (who, child) in [("monitor", &one), ("init", &two)] {
            let pid = child.id() as i32;
            record.insert(format!("{who}_pid"), i64::from(pid).into());
            let wrong = i64::from(case == "start time");
            record.insert(format!("{who}_starttime"), (start_time(pid) - wrong).into());
        }
        if case == "boot" {
            record.insert("boot_id".into(), "00000000-0000-0000-0000-000000000000".into());
        }
        std::fs::write(&path, toml::to_string(&record).unwrap()).unwrap();
        assert_ne!(state.status("c1").as_deref(), Some("RUNNING"), "{case}");
        let exec = state.run(&["exec", "c1", "--", "true"]);
        exec.clean_failure().unwrap();
        for verb in [&["pause", "c1"][..], &["stop", "-f", "c1"], &["stop", "c1", "--timeout", "1"], &["console", "c1"]]
        {
            let out = state.run(verb);
            assert!(out.ok() || out.clean_failure().is_ok(), "{case}: {out}");
        }
        assert!(
            one.try_wait().unwrap().is_none() && two.try_wait().unwrap().is_none(),
            "{case}: a stranger was killed"
        );
        state.good(&["start", "c1"]);
        assert_eq!(state.sh("c1", "echo up"), "up");
        state.good(&["delete", "-f", "c1"]);
        for child in [&mut one, &mut two] {
            assert!(child.try_wait().unwrap().is_none(), "{case}: a stranger was killed");
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
    state.finish();
}

/// Every program between clone and exec runs under an allocator that ends it when it is called there.
#[test]
fn nothing_is_allocated_between_clone_and_exec() {
    const NAME: &str = "nothing_is_allocated_between_clone_and_exec";
    let Some(bin) = faults_binary(NAME) else { return };
    let Some(usual) = state(NAME) else { return };
    let state = State { dir: usual.dir.clone(), bin };
    let tree = Tree::new(&state);
    // Another image, however quickly it is made.
    tree.file("etc/again", "again", 0o644);
    tree.import(&state, "again").good().unwrap();
    let dir = state.path("shared");
    std::fs::create_dir(&dir).unwrap();
    let disk = format!("d,source={}", dir.display());
    let device = [
        "-d",
        "d,type=disk",
        "-d",
        &disk,
        "-d",
        "d,path=/new/place",
        "-d",
        "t,type=disk",
        "-d",
        "t,source=tmpfs:",
        "-d",
        "t,path=/mnt",
    ];
    let settings = [
        &[][..],
        &["-c", "security.privileged=true"],
        &["-c", "security.nesting=true", "-c", "linux.sysctl.net.ipv4.ip_forward=1", "-c", "limits.kernel.nofile=99"],
        &["-c", "security.idmap.isolated=true", "-c", "security.syscalls.deny=mkdir"],
    ];
    for options in settings {
        state.launch("c1", &[options, &device[..]].concat()).good().unwrap();
        for exec in [&[][..], &["-t"], &["--user", "1000", "--cwd", "/"]] {
            assert_eq!(state.good(&[&["exec", "c1"], exec, &["--", "echo", "in"]].concat()).trim(), "in");
        }
        state.run(&["exec", "c1", "--cwd", "/no/such", "--", "true"]).clean_failure().unwrap();
        assert_eq!(state.run(&["exec", "c1", "--", "/no/such"]).code(), Some(127));
        state.good(&["restart", "-f", "c1"]);
        state.good(&["delete", "-f", "c1"]);
        for terminal in [&[][..], &["-t"]] {
            let words = [
                &["run", "test"],
                options,
                &device[..],
                terminal,
                &["--user", "1", "--", "sh", "-c", "(true &); exit 3"],
            ]
            .concat();
            assert_eq!(state.run(&words).code(), Some(3));
        }
    }
    std::fs::remove_dir_all(dir).unwrap();
    state.doctor().unwrap();
    state.delete_all().unwrap();
    assert_eq!(leftovers::find(&state), Vec::<String>::new());
    drop(state);
    std::mem::forget(usual);
}
