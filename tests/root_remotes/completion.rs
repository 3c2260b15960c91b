//! Completion of images of servers: of the lists that are kept, and nobody is asked.

use super::image_server::{Server, Version, tree};
use super::support::{self, State};
use super::{add, first, metadata, prepared, read};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// What is offered for the last of the words.
fn offered(state: &State, words: &[&str]) -> Vec<String> {
    let mut command = state.command(&["--", "stapes"]);
    command.args(words).env("COMPLETE", "bash").env("_CLAP_IFS", "\n");
    command.env("_CLAP_COMPLETE_INDEX", words.len().to_string());
    let out = command.output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{words:?}: {out:?}");
    String::from_utf8(out.stdout).unwrap().lines().map(ToString::to_string).collect()
}

#[test]
fn completion_knows_what_servers_had() {
    let Some(state) = prepared("completion_knows_what_servers_had") else { return };
    let (meta, root) = (metadata(&state, 1), read(&state, "rootfs.tar"));
    tree(state.path(), &[first(&meta, &root)]);
    let server = Server::start(state.path(), "");
    add(&state);
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let all = ["mine:test", "mine:test/1"].map(String::from);
    let long = [format!("mine:test/{arch}"), format!("mine:test/1/{arch}")];
    let sorted = |words: &[&str]| {
        let mut names = offered(&state, words);
        names.sort();
        names
    };
    let mut every: Vec<String> = all.iter().chain(&long).cloned().collect();
    every.sort();
    // The names of the remotes, and no image of one that was never asked. Nothing is written.
    let before = state.listing();
    assert!(offered(&state, &["launch", "mi"]).contains(&"mine:".to_string()));
    assert_eq!(offered(&state, &["launch", "mine:"]), [""; 0]);
    assert_eq!(offered(&state, &["launch", "images:"]), [""; 0]);
    assert_eq!(server.requests(), [""; 0]);
    assert_eq!(state.listing(), before);
    state.good(&["image", "list", "mine:"]);
    server.requests();
    let before = state.listing();
    for verb in [&["launch"][..], &["create"], &["run"], &["image", "info"], &["image", "copy"]] {
        assert_eq!(sorted(&[verb, &["mine:"]].concat()), every, "{verb:?}");
    }
    assert_eq!(sorted(&["launch", "mine:test/1"]), [all[1].clone(), long[1].clone()]);
    assert_eq!(sorted(&["launch", "mine:other"]), [""; 0]);
    // However old the list is, wherever the server is, and whatever it has by now.
    let lists = std::fs::read_dir(state.path().join("cache/simplestreams")).unwrap();
    for list in lists {
        let file = std::fs::File::options().write(true).open(list.unwrap().path()).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    }
    let new = Version { serial: "20260202_00:00", ..first(&meta, &root) };
    tree(state.path(), &[first(&meta, &root), new]);
    assert_eq!(sorted(&["launch", "mine:"]), every);
    assert_eq!(server.requests(), [""; 0]);
    drop(server);
    assert_eq!(sorted(&["launch", "mine:"]), every);
    assert_eq!(state.listing(), before);
    in_a_real_bash(&state, &format!("mine:test/1/{arch}"));
    state.assert_clean();
}

/// The whole way, where a colon ends a word for the shell.
fn in_a_real_bash(state: &State, name: &str) {
    if !support::program("completion_knows_what_servers_had", "script") {
        return;
    }
    let script = state.command(&[]).env("COMPLETE", "bash").output().unwrap();
    assert!(script.status.success(), "{script:?}");
    state.file("rc", &[b"PS1='ready> '\n", &script.stdout[..]].concat());
    // Asked, it is the program; else it notes its words.
    std::fs::create_dir(state.path().join("bin")).unwrap();
    let program = state.command(&[]).get_program().to_str().unwrap().to_string();
    let text = "[ -z \"$COMPLETE\" ] || exec PROGRAM \"$@\"\nprintf '<%s>' \"$@\" >said.new && mv said.new said\n";
    let stapes = state.file("bin/stapes", format!("#!/bin/sh\n{}", text.replace("PROGRAM", &program)).as_bytes());
    std::fs::set_permissions(stapes, std::fs::Permissions::from_mode(0o755)).unwrap();
    let lines = [
        ("launch mine:test/1/", format!("<launch><{name}>")),
        ("launch mine:test/1/a", format!("<launch><{name}>")),
        ("launch \"mine:test/1/", format!("<launch><{name}>")),
        ("image info mine:test/1/a", format!("<image><info><{name}>")),
        ("launch --config=user.x=y mine:test/1/", format!("<launch><--config=user.x=y><{name}>")),
        ("launch mi\ttest/1/", format!("<launch><{name}>")),
    ];
    for (line, want) in lines {
        assert_eq!(typed(state, &format!("stapes {line}\t")), want, "{line}");
    }
}

/// Types a line into an interactive bash; what was run then.
fn typed(state: &State, line: &str) -> String {
    let said = state.path().join("said");
    let _ = std::fs::remove_file(&said);
    let template = state.command(&[]);
    let mut command = Command::new("script");
    command.args(["-qec", "bash --noprofile --rcfile rc -i", "/dev/null"]).env_clear().current_dir(state.path());
    command.envs(template.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let path = format!("{}:/usr/bin:/bin", state.path().join("bin").display());
    command.env("PATH", path).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = command.spawn().unwrap();
    let (mut stdin, mut stdout) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
    let (mut shown, mut block) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&shown).contains("ready> ") {
        let n = stdout.read(&mut block).unwrap();
        assert!(n > 0, "{}", String::from_utf8_lossy(&shown));
        shown.extend_from_slice(&block[..n]);
    }
    stdin.write_all(line.as_bytes()).unwrap();
    stdin.write_all(b"\nexit\n").unwrap();
    drop(stdin);
    stdout.read_to_end(&mut shown).unwrap();
    shell.wait().unwrap();
    let run = std::fs::read_to_string(said);
    run.unwrap_or_else(|_| format!("nothing was run: {}", String::from_utf8_lossy(&shown)))
}
