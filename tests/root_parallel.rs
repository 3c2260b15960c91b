//! Many commands at once on few instances: nothing but the expected refusals, no deadlock, and afterwards nothing is left.
//!
//! `STAPES_PARALLEL_SECONDS` (40) and `STAPES_PARALLEL_WORKERS` (12) change the load, `STAPES_PARALLEL_SEED` the order.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

mod common_root;

use common_root::{Out, State, leftovers};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Fewest commands that must have been run, however slow the machine is.
const COMMANDS: usize = 200;
/// Instance names that the workers fight for.
const NAMES: u64 = 12;
/// Longer than any wait for a lock: a command that takes longer hangs.
const WATCHDOG: Duration = Duration::from_secs(120);

/// What a command may say when another one was faster.
const REFUSALS: &[&str] = &[
    "is busy running",
    "is busy",
    "not found",
    "already exists",
    "already in use",
    "is already running",
    "is already stopped",
    "already frozen",
    "is not running",
    "currently running",
    "Renaming of running instance",
    "was started again meanwhile",
    // A restart whose instance another command stopped or deleted.
    "did not start again",
];

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// xorshift64: the same seed gives the same commands.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn name(&mut self) -> String {
        format!("c{}", self.roll(NAMES))
    }

    fn command(&mut self) -> Vec<String> {
        let (name, other, value) = (self.name(), self.name(), self.roll(100).to_string());
        let words = match self.roll(24) {
            0..=3 => format!("launch img {name}"),
            4 => format!("launch img {name} -e"),
            5 => format!("create img {name}"),
            6..=9 => format!("exec {name} -- true"),
            10 | 11 => format!("stop -f {name}"),
            12 => format!("stop {name} --timeout 20"),
            13 | 14 => format!("start {name}"),
            15 => format!("restart -f {name}"),
            16 => "list -f csv".to_string(),
            17 => format!("rename {name} {other}"),
            18 | 19 => format!("delete -f {name}"),
            20 => format!("delete {name}"),
            21 => "run img -- true".to_string(),
            22 => format!("config set {name} user.x={value}"),
            _ => format!("config show {name} --expanded"),
        };
        words.split(' ').map(String::from).collect()
    }
}

/// Counts by verb: run, refused.
type Counts = BTreeMap<String, (usize, usize)>;

#[derive(Default)]
struct Seen {
    counts: Counts,
    commands: usize,
    bad: Vec<String>,
}

impl Seen {
    fn take(&mut self, out: &Out) {
        let verb = out.words.split(' ').nth(1).unwrap_or_default().to_string();
        let count = self.counts.entry(verb.clone()).or_default();
        count.0 += 1;
        self.commands += 1;
        if out.ok() {
            return;
        }
        count.1 += 1;
        let refused = out.clean_failure().is_ok() && REFUSALS.iter().any(|words| out.stderr.contains(words));
        // A command in an instance ends with it.
        let ended = verb == "exec" && matches!(out.code(), Some(137 | 129));
        if !refused && !ended {
            self.bad.push(out.to_string());
        }
    }
}

#[test]
fn many_commands_at_once() {
    const NAME: &str = "many_commands_at_once";
    if !common_root::can_run(NAME) {
        return;
    }
    let state = State::new(&common_root::binary());
    common_root::make_images(&state.dir);
    state.good(&["image", "import", "image.tar", "--alias", "img"]);
    let seed = number("STAPES_PARALLEL_SEED", 20);
    let (began, time) = (Instant::now(), Duration::from_secs(number("STAPES_PARALLEL_SECONDS", 120)));
    let seen = Mutex::new(Seen::default());
    std::thread::scope(|scope| {
        for worker in 1..=number("STAPES_PARALLEL_WORKERS", 12) {
            let (state, seen) = (&state, &seen);
            scope.spawn(move || {
                let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (worker << 32) ^ worker);
                while began.elapsed() < time || seen.lock().unwrap().commands < COMMANDS {
                    let words = dice.command();
                    let args: Vec<&str> = words.iter().map(String::as_str).collect();
                    let out = common_root::run(state.command(&args), None, WATCHDOG);
                    let mut seen = seen.lock().unwrap();
                    seen.take(&out);
                    if out.status.is_none() {
                        return;
                    }
                }
            });
        }
    });
    let seen = seen.into_inner().unwrap();
    eprintln!("{} commands in {:.0?}, seed {seed}", seen.commands, began.elapsed());
    for (verb, (run, refused)) in &seen.counts {
        eprintln!("{verb:>10}: {run:>5} run, {refused:>5} refused");
    }
    assert!(seen.bad.is_empty(), "{} unexpected:\n{}", seen.bad.len(), seen.bad.join("\n"));
    state.doctor().unwrap();
    assert!(state.instances().unwrap().iter().all(|(_, s)| ["RUNNING", "STOPPED"].contains(&s.as_str())));
    state.delete_all().unwrap();
    state.doctor().unwrap();
    assert_eq!(leftovers::find(&state), Vec::<String>::new());
}
