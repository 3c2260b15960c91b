//! A systemd unit for one instance, from typed fields (`generate systemd`).
//!
//! Whatever a name or a folder holds, systemd reads it back as the one value that it is (CVE-2024-3154): words of a command
//! are quoted and escaped as systemd.syntax(7), systemd.service(5) ("Command lines") and systemd.unit(5) ("Specifiers") say,
//! and nothing else of the user's enters the file.

use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// What a manager waits for beyond the instance's own time.
const MARGIN: Duration = Duration::from_secs(30);

/// The unit of one instance.
#[derive(Debug)]
pub struct Unit<'a> {
    /// Our program.
    pub program: &'a Path,
    /// `--state-dir`.
    pub state_dir: Option<&'a Path>,
    /// Its project.
    pub project: &'a str,
    /// Its name.
    pub name: &'a str,
    /// How long it may take to stop; none: it is killed at once.
    pub patience: Option<Duration>,
}

impl Unit<'_> {
    /// The unit's file.
    pub fn text(&self) -> String {
        let mut words: Vec<&OsStr> = vec![self.program.as_os_str()];
        if let Some(dir) = self.state_dir {
            words.extend([OsStr::new("--state-dir"), dir.as_os_str()]);
        }
        words.extend(["--project", self.project, "start", "--foreground", "--", self.name].map(OsStr::new));
        let command: Vec<String> = words.into_iter().map(|w| quoted(w.as_bytes())).collect();
        let stop = self.patience.unwrap_or_default() + MARGIN;
        format!(
            "[Unit]
Description=Container {name} of project {project}, run by stapes
After=network.target
Before=stapes.service

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
Slice=machine.slice
Delegate=yes
KillMode=mixed
TasksMax=infinity
OOMPolicy=continue
Restart=on-failure
TimeoutStartSec=600
TimeoutStopSec={stop}

[Install]
WantedBy=multi-user.target
",
            name = words_only(self.name),
            project = words_only(self.project),
            command = command.join(" "),
            stop = stop.as_secs(),
        )
    }
}

/// One word of a command line. Bytes that are no plain ASCII are given by number.
pub fn quoted(word: &[u8]) -> String {
    let mut out = String::from("\"");
    for byte in word {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            // A specifier, and a variable.
            b'%' | b'$' => out.extend([char::from(*byte); 2]),
            b' '..=b'~' => out.push(char::from(*byte)),
            // NUL cannot be in a word.
            other => drop(write!(out, "\\x{other:02x}")),
        }
    }
    out.push('"');
    out
}

/// For a value that is taken as it stands: no line break, no specifier, no continuation.
fn words_only(text: &str) -> String {
    text.chars().map(|c| if c.is_alphanumeric() || "-_. ".contains(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What systemd makes of the words of a command line.
    fn unquoted(line: &str) -> Vec<Vec<u8>> {
        let bytes = line.as_bytes();
        let (mut words, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            assert_eq!(bytes[at], b'"', "each word is quoted");
            at += 1;
            let mut word = Vec::new();
            while bytes[at] != b'"' {
                let (byte, used) = match (bytes[at], bytes[at + 1]) {
                    (b'\\', b'x') => {
                        let digits = std::str::from_utf8(&bytes[at + 2..at + 4]).expect("digits");
                        (u8::from_str_radix(digits, 16).expect("hex"), 4)
                    }
                    (b'\\', next @ (b'"' | b'\\')) => (next, 2),
                    (b'%', b'%') => (b'%', 2),
                    (b'$', b'$') => (b'$', 2),
                    (b'\\' | b'%' | b'$', next) => panic!("{:?} means something", char::from(next)),
                    (byte, _) => (byte, 1),
                };
                assert!(!byte.is_ascii_control() || used == 4, "a control character as it is");
                word.push(byte);
                at += used;
            }
            at += 1;
            words.push(word);
            assert!(at == bytes.len() || bytes[at] == b' ');
            at += 1;
        }
        words
    }

    fn unit<'a>(state_dir: Option<&'a Path>, project: &'a str, name: &'a str) -> Unit<'a> {
        let patience = Some(Duration::from_secs(30));
        Unit { program: Path::new("/usr/bin/stapes"), state_dir, project, name, patience }
    }

    /// CVE-2024-3154: systemd property injection.
    #[test]
    fn cve_2024_3154_every_value_stays_one_value() {
        let evil = [
            "a\nExecStartPost=/bin/touch /x",
            "a; /bin/touch /x",
            ";",
            "%h%%n",
            "\\",
            "a\\nb\\x41",
            "\"quoted\" 'too'",
            "$HOME ${HOME}",
            "trailing\\\n",
            "\r\t\u{85}ä\u{1f980}",
            "[Service]",
            "# no comment",
        ];
        for value in evil {
            let dir = Path::new("/var").join(value);
            let text = unit(Some(&dir), value, value).text();
            let lines: Vec<&str> = text.lines().collect();
            let plain = unit(Some(Path::new("/var/x")), "p", "n").text();
            assert_eq!(lines.len(), plain.lines().count(), "{text}");
            for (line, same) in lines.iter().zip(plain.lines()) {
                let key = |l: &str| l.split_once('=').map_or(l.to_string(), |(key, _)| key.to_string());
                assert_eq!(key(line), key(same));
                assert!(!line.ends_with('\\'), "continued: {line}");
            }
            let command = lines.iter().find_map(|l| l.strip_prefix("ExecStart=")).expect("command");
            let dir = dir.as_os_str().as_bytes();
            let wanted: [&[u8]; 9] = [
                b"/usr/bin/stapes",
                b"--state-dir",
                dir,
                b"--project",
                value.as_bytes(),
                b"start",
                b"--foreground",
                b"--",
                value.as_bytes(),
            ];
            assert_eq!(unquoted(command), wanted);
            let description = lines.iter().find(|l| l.starts_with("Description=")).expect("description");
            assert!(!description.contains(['%', '\\', ';']), "{description}");
        }
    }

    #[test]
    fn the_manager_waits_longer_than_the_instance() {
        assert!(unit(None, "default", "c1").text().contains("\nTimeoutStopSec=60\n"));
        let killed = Unit { patience: None, ..unit(None, "default", "c1") };
        assert!(killed.text().contains("\nTimeoutStopSec=30\n"));
        assert!(!killed.text().contains("state-dir"));
    }
}
