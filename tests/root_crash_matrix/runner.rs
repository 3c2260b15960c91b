//! Traces a scenario's points, runs its cases side by side and prints the table.

use super::checks;
use super::common_root::{self, Out, State, leftovers, make_images};
use super::image_server;
use super::scenarios::{self, Base, Scenario};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// What goes wrong besides a kill. One of the two at each passage, by turns: they differ in what is said, and a row begins with
/// the other one than the row before. With `STAPES_MATRIX_WHOLE` both.
const ERRORS: [&str; 2] = ["enospc", "eio"];
/// Most passages of one point that are tried.
const PASSAGES: usize = 4;
/// Cases at a time: most of a case is waiting.
const WORKERS: usize = 4;
/// How many cases that failed may be tried again.
const SECOND_TRIES: usize = 3;
/// Where passages are counted, in the state folder's own folder.
const COUNTER: &str = "counter";

/// One crash.
#[derive(Debug, Clone)]
struct Case {
    action: &'static str,
    point: String,
    nth: usize,
}

/// The states that the scenarios begin with.
pub struct Matrix {
    empty: State,
    image: State,
    ready: State,
}

impl Matrix {
    /// Prepares them, with the image files.
    pub fn new(bin: &Path) -> Self {
        // The first instance of these makes a network, too.
        let empty = State::bare(bin);
        let plain = State::new(bin);
        let served = scenarios::ALL.iter().any(|s| s.needs == scenarios::SERVER && chosen("STAPES_MATRIX", s.name));
        for state in [&empty, &plain] {
            make_images(&state.dir);
            mark_limits(state);
            mark_networks(state);
            super::pools::mark(state);
            if served {
                scenarios::make_tree(state, 1);
            }
        }
        let [image, ready] = [&empty, &plain].map(|base| {
            let state = State::copy_of(base);
            state.good(&["image", "import", "image.tar", "--alias", "img"]);
            state
        });
        ready.good(&["create", "img", "first"]);
        ready.good(&["delete", "first"]);
        Self { empty, image, ready }
    }

    /// Runs the scenarios; the bad cases in words.
    pub fn run(&self, scenarios: &[Scenario]) -> Vec<String> {
        let mut bad = Vec::new();
        let mut traces: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        eprintln!("{:<24} {:>6} {:>6} {:>6} {:>7}", "scenario", "points", "cases", "bad", "seconds");
        for scenario in scenarios.iter().filter(|s| chosen("STAPES_MATRIX", s.name)) {
            let began = Instant::now();
            let prepared = State::copy_of(match scenario.base {
                Base::Empty => &self.empty,
                Base::Image => &self.image,
                Base::Ready => &self.ready,
            });
            if !prepared.dir.join(scenario.needs).exists() {
                common_root::skip(&format!("crash_matrix {}", scenario.name), &format!("no {}", scenario.needs));
                continue;
            }
            (scenario.prepare)(&prepared);
            let server = server(scenario, &prepared);
            let (points, cases) = match trace(scenario, &prepared) {
                Ok(passed) => {
                    let earlier = scenarios::BEGIN_AS.iter().find(|(name, _)| *name == scenario.name);
                    let earlier = earlier.and_then(|(_, as_this)| traces.get(as_this)).map_or(&[][..], Vec::as_slice);
                    let same = passed.iter().zip(earlier).take_while(|(a, b)| a == b).count();
                    let (points, cases) = cases(&passed, same, traces.len());
                    traces.insert(scenario.name, passed);
                    (points, cases)
                }
                Err(e) => {
                    bad.push(format!("{}: without a fault: {e}", scenario.name));
                    continue;
                }
            };
            drop(server);
            let found = side_by_side(scenario, &prepared, &cases);
            let seconds = began.elapsed().as_secs_f32();
            eprintln!("{:<24} {points:>6} {:>6} {:>6} {seconds:>7.1}", scenario.name, cases.len(), found.len());
            bad.extend(found);
        }
        bad
    }
}

/// The server of images of the scenario, in this thread's network, if it needs one.
fn server(scenario: &Scenario, prepared: &State) -> Option<image_server::Server> {
    (scenario.needs == scenarios::SERVER).then(|| image_server::Server::start(&prepared.dir, ""))
}

/// A file `networks` if what networks take is there.
fn mark_networks(state: &State) {
    if common_root::have("dnsmasq") && common_root::have("nft") {
        std::fs::write(state.path("networks"), "").unwrap();
    }
}

/// Files `hugetlb`, `cpuset` and `io` if the host has these limits, which scenarios set.
fn mark_limits(state: &State) {
    let controllers = stapes::ops::load::cgroups(&state.layout()).unwrap().controllers();
    let pages = Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists();
    if pages && controllers.iter().any(|c| c == "hugetlb") {
        std::fs::write(state.path("hugetlb"), "").unwrap();
    }
    for controller in ["cpuset", "io"] {
        if controllers.iter().any(|c| c == controller) {
            std::fs::write(state.path(controller), "").unwrap();
        }
    }
}

fn chosen(variable: &str, name: &str) -> bool {
    std::env::var(variable).map_or(true, |words| words.split(',').any(|w| name.contains(w)))
}

/// The points that the scenario passes, in order; the scenario must pass all checks.
fn trace(scenario: &Scenario, prepared: &State) -> Result<Vec<String>, String> {
    let state = State::copy_of(prepared);
    let spec = format!("trace:{}", state.path(COUNTER).display());
    before(scenario, &state, &spec)?;
    // What came before the verb does not count.
    let _ = std::fs::remove_file(state.path(COUNTER));
    let out = verb(scenario, &state, &spec);
    let text = std::fs::read_to_string(state.path(COUNTER)).map_err(|e| format!("no trace: {e}"))?;
    let passed = text.lines().map(str::to_string).collect();
    if !out.ok() {
        return Err(out.to_string());
    }
    afterwards(scenario, &state, true)?;
    Ok(passed)
}

/// How many points there are, and what is tried of them in this row, a number: not the first `same` passages.
fn cases(passed: &[String], same: usize, row: usize) -> (usize, Vec<Case>) {
    let whole = std::env::var_os("STAPES_MATRIX_WHOLE").is_some();
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    let mut all = Vec::new();
    for (at, point) in passed.iter().enumerate() {
        let nth = times.entry(point).or_default();
        *nth += 1;
        if at >= same && *nth <= PASSAGES && chosen("STAPES_MATRIX_POINT", point) {
            let by_turns = &ERRORS[(row + at) % 2..][..1];
            let errors = if whole { &ERRORS[..] } else { by_turns };
            let case = |action: &&'static str| Case { action, point: point.clone(), nth: *nth };
            all.extend(["kill"].iter().chain(errors).map(case));
        }
    }
    (times.len(), all)
}

fn side_by_side(scenario: &Scenario, prepared: &State, cases: &[Case]) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let bad = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                // A network each: they make bridges of the same name.
                common_root::leave_the_network();
                let _server = server(scenario, prepared);
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let Err(e) = one(scenario, prepared, case) else { continue };
                    let Case { action, point, nth } = case;
                    // What it left of networks is not the next one's.
                    if scenario.needs != scenarios::SERVER {
                        common_root::leave_the_network();
                    }
                    let text = format!("{}: {action} at {point}:{nth}: {e}", scenario.name);
                    if passes_again(scenario, prepared, case) {
                        eprintln!("FLAKY crash_matrix {text}");
                        continue;
                    }
                    eprintln!("BAD {text}");
                    bad.lock().unwrap().push(text);
                }
            });
        }
    });
    bad.into_inner().unwrap()
}

/// A case that failed passes twice: a busy machine ran it out of its patience. This is told, and not believed often.
fn passes_again(scenario: &Scenario, prepared: &State, case: &Case) -> bool {
    static TRIED: AtomicUsize = AtomicUsize::new(0);
    TRIED.fetch_add(1, Ordering::SeqCst) < SECOND_TRIES && (0..2).all(|_| one(scenario, prepared, case).is_ok())
}

fn one(scenario: &Scenario, prepared: &State, case: &Case) -> Result<(), String> {
    let state = State::copy_of(prepared);
    let counter = state.path(COUNTER);
    let spec = format!("{}:{}:{}:{}", case.action, case.point, case.nth, counter.display());
    before(scenario, &state, &spec)?;
    std::fs::write(&counter, "").unwrap();
    let out = verb(scenario, &state, &spec);
    // A monitor that still lives goes on counting: disarmed.
    std::fs::remove_file(&counter).unwrap();
    let killed = case.action == "kill";
    if out.status.is_none() {
        return Err(out.to_string());
    }
    let by_kill = killed && out.code().is_none();
    if !out.ok() && !by_kill {
        out.clean_failure()?;
    }
    afterwards(scenario, &state, out.ok() && !killed).map_err(|e| format!("{e}\n    after {out}"))
}

/// What each case does for itself: nothing that runs can be copied.
fn before(scenario: &Scenario, state: &State, spec: &str) -> Result<(), String> {
    for words in scenario.before {
        // Armed, so that the monitor is; nothing is counted yet.
        let (words, spec) = match words.strip_prefix("crash ") {
            Some(rest) => rest.split_once(' ').map(|(at, words)| (words, format!("kill:{at}"))).unwrap(),
            None => (*words, spec.to_string()),
        };
        let out = execute(state, words, None, &spec);
        if !out.ok() && out.code().is_some() {
            return Err(out.to_string());
        }
    }
    Ok(())
}

fn verb(scenario: &Scenario, state: &State, spec: &str) -> Out {
    execute(state, scenario.verb, scenario.input, spec)
}

fn execute(state: &State, words: &str, input: Option<&str>, spec: &str) -> Out {
    let words = super::pools::named(state, words);
    let args: Vec<&str> = words.split(' ').collect();
    let mut command = state.command(&args);
    command.env("STAPES_FAULT", spec);
    common_root::run(command, input, common_root::PATIENCE)
}

/// What must hold after any crash. `done`: the verb said that it did its work.
fn afterwards(scenario: &Scenario, state: &State, done: bool) -> Result<(), String> {
    checks::list_is_good(state)?;
    checks::others_work(state)?;
    state.doctor().map_err(|e| format!("after the next command: {e}"))?;
    (scenario.check)(state, done)?;
    state.delete_all()?;
    state.doctor()?;
    let left = leftovers::find(state);
    if left.is_empty() { Ok(()) } else { Err(format!("left behind: {}", left.join("; "))) }
}
