//! Reads what the machine told after the power cut and compares it with what had been acknowledged.

use super::model::{Command, IMAGE, State, WORKERS};
use std::collections::BTreeMap;

/// One command of `look.sh`: its words, what it said, how it ended.
#[derive(Debug, Clone)]
pub struct Section {
    pub words: String,
    pub text: String,
    pub code: i32,
}

/// Sections up to a line that begins with `= `, by that line's word; what comes first is called `before`.
pub type Report = BTreeMap<String, Vec<Section>>;

pub fn parse(text: &str) -> Report {
    let mut report = Report::new();
    let (mut part, mut open) = ("before".to_string(), None::<Section>);
    for line in text.lines() {
        match (line.split_once(' '), &mut open) {
            (Some(("=", word)), _) => part = word.to_string(),
            (Some((">", words)), _) => {
                open = Some(Section { words: words.to_string(), text: String::new(), code: -1 });
            }
            (Some(("<", code)), Some(section)) => {
                section.code = code.parse().unwrap_or(-1);
                report.entry(part.clone()).or_default().extend(open.take());
            }
            (_, Some(section)) => section.text.push_str(&format!("{line}\n")),
            _ => {}
        }
    }
    report
}

/// What must hold at a cut.
pub struct Wanted<'a> {
    /// The commands of each worker, how many were acknowledged, and whether one more had begun.
    pub workers: BTreeMap<char, (&'a [Command], usize, bool)>,
    /// Fingerprints of the image files by name.
    pub images: &'a BTreeMap<String, String>,
    /// What `/data` of the instances' image has.
    pub md5: &'a str,
}

impl Wanted<'_> {
    /// All that is wrong, in words.
    pub fn judge(&self, report: &Report) -> Vec<String> {
        let mut bad = Vec::new();
        let part = |name: &str| report.get(name).map(Vec::as_slice).unwrap_or_default();
        for name in ["before", "after"] {
            self.objects(name, part(name), &mut bad);
        }
        for (part, skip) in [("before", 0), ("doctor", 1), ("after", 0), ("use", 0)] {
            let Some(all) = report.get(part) else {
                bad.push(format!("nothing is told of {part:?}"));
                continue;
            };
            // The first doctor may find something: that is what --fix is for.
            for section in all.iter().skip(skip).filter(|s| s.code != 0) {
                bad.push(format!("{part}: `{}` ended with {}: {}", section.words, section.code, section.text.trim()));
            }
        }
        for section in part("use") {
            let sum = section.words.contains("md5sum") && !section.text.starts_with(self.md5);
            let left = section.words.starts_with("find") && !section.text.is_empty();
            if sum || left {
                bad.push(format!("`{}`: {}", section.words, section.text.trim()));
            }
        }
        bad
    }

    fn objects(&self, part: &str, sections: &[Section], bad: &mut Vec<String>) {
        let list = sections.iter().find(|s| s.words.contains(" list ")).map(|s| s.text.as_str()).unwrap_or_default();
        let strange = list.lines().filter(|l| !l.contains(",STOPPED,"));
        bad.extend(strange.map(|l| format!("{part}: listed as {l}")));
        let seen = self.seen(sections);
        for (worker, (commands, done, begun)) in &self.workers {
            let state = commands[..*done].iter().fold(State::new(), |s, c| c.outcomes(&s).pop().unwrap_or_default());
            let allowed = match commands.get(*done).filter(|_| *begun) {
                Some(command) => command.outcomes(&state),
                None => vec![state],
            };
            let mine: State =
                seen.iter().filter(|(k, _)| owner(k) == Some(*worker)).map(|(k, v)| (k.clone(), v.clone())).collect();
            if !allowed.contains(&mine) {
                let now = commands.get(*done).filter(|_| *begun).map(|c| format!(", then `{}`", c.words()));
                let last: Vec<String> = commands[..*done].iter().rev().take(4).map(Command::words).collect();
                bad.push(format!(
                    "{part}: worker {worker} did {done}, last {last:?}{}: there is {mine:?}, not {:?}",
                    now.unwrap_or_default(),
                    allowed
                ));
            }
        }
        let setup = self.workers.get(&WORKERS[0]).is_some_and(|(_, done, _)| *done > 0);
        if setup && seen.get(&format!("alias {IMAGE}")).map(String::as_str) != Some(IMAGE) {
            bad.push(format!("{part}: the image {IMAGE} is lost"));
        }
    }

    fn seen(&self, sections: &[Section]) -> State {
        let mut seen = State::new();
        let file = |fingerprint: &str| {
            let known = self.images.iter().find(|(_, f)| !fingerprint.is_empty() && f.starts_with(fingerprint));
            known.map_or_else(|| format!("unknown {fingerprint}"), |(name, _)| name.clone())
        };
        for Section { words, text, .. } in sections {
            let words: Vec<&str> = words.split(' ').skip(1).collect();
            let lines = text.lines();
            match words[..] {
                ["list", ..] => {
                    let rows = lines.filter_map(|l| Some((l.split_once(',')?.0, l.rsplit_once(',')?.1)));
                    seen.extend(rows.map(|(name, x)| (format!("instance {name}"), x.to_string())));
                }
                ["profile", "get", name, _] => drop(seen.insert(format!("profile {name}"), text.trim().into())),
                ["image", "list", ..] => seen.extend(lines.map(|l| (format!("image {}", file(l)), String::new()))),
                ["image", "alias", ..] => {
                    let pairs = lines.filter_map(|l| l.split_once(','));
                    let target = |rest: &str| file(rest.split(',').next().unwrap_or_default());
                    seen.extend(pairs.map(|(alias, rest)| (format!("alias {alias}"), target(rest))));
                }
                _ => {}
            }
        }
        seen
    }
}

/// Whose object it is: the first letter of its name; the common image and the default profile are nobody's.
fn owner(key: &str) -> Option<char> {
    let name = key.split_once(' ')?.1;
    let shared = name == IMAGE || name == "default";
    name.chars().next().filter(|_| !shared)
}
