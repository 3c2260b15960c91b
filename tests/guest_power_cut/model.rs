//! What the machine is told to do before its power goes, and what must be there afterwards.
//!
//! Two workers give commands one after the other, each on objects of its own. A state is a table of words, so that what a
//! command may leave when it was not acknowledged is simply a list of such tables.

use std::collections::BTreeMap;

/// Alias of the image that instances are made of.
pub const IMAGE: &str = "img";
/// Files of other images that a worker imports, per worker.
pub const IMAGES: u64 = 2;
pub const WORKERS: [char; 2] = ['a', 'b'];

/// Objects of a worker: `instance a1` → its `user.x`, `profile pa1` → likewise, `image a0` → nothing, `alias a0x` → `a0`.
pub type State = BTreeMap<String, String>;

/// One command of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Setup,
    Create(String, u64),
    Launch(String, u64),
    Ephemeral(String),
    Start(String),
    Stop(String),
    Restart(String),
    Delete(String),
    Rename(String, String),
    Set(String, u64),
    Import(String, String),
    RenameAlias(String, String),
    DeleteImage(String, String),
    ProfileCreate(String),
    ProfileSet(String, u64),
    ProfileDelete(String),
}

use Command::*;

impl Command {
    /// As the program is called. Images are files `<name>.tar`.
    pub fn words(&self) -> String {
        match self {
            Setup => format!("image import /payload/{IMAGE}.tar --alias {IMAGE}"),
            Create(name, x) => format!("create {IMAGE} {name} -c user.x={x}"),
            Launch(name, x) => format!("launch {IMAGE} {name} -c user.x={x}"),
            Ephemeral(name) => format!("launch {IMAGE} {name} -e"),
            Start(name) => format!("start {name}"),
            Stop(name) => format!("stop -f {name}"),
            Restart(name) => format!("restart -f {name}"),
            Delete(name) => format!("delete -f {name}"),
            Rename(old, new) => format!("rename {old} {new}"),
            Set(name, x) => format!("config set {name} user.x={x}"),
            Import(file, alias) => format!("image import /payload/{file}.tar --alias {alias}"),
            RenameAlias(old, new) => format!("image alias rename {old} {new}"),
            DeleteImage(_, alias) => format!("image delete {alias}"),
            ProfileCreate(name) => format!("profile create {name}"),
            ProfileSet(name, x) => format!("profile set {name} user.x={x}"),
            ProfileDelete(name) => format!("profile delete {name}"),
        }
    }

    /// What may be there if it was cut, from nothing done to all done; the last is what must be there once it was
    /// acknowledged. After the machine's next boot, that is: nothing runs then, and what was ephemeral is gone.
    pub fn outcomes(&self, before: &State) -> Vec<State> {
        let mut all = vec![before.clone()];
        let mut change = |act: &dyn Fn(&mut State)| {
            let mut next = all.last().cloned().unwrap_or_default();
            act(&mut next);
            all.push(next);
        };
        let object = |kind: &str, name: &str| format!("{kind} {name}");
        match self {
            Setup | Ephemeral(_) | Start(_) | Stop(_) | Restart(_) => {}
            Create(name, x) | Launch(name, x) | Set(name, x) => {
                change(&|s| drop(s.insert(object("instance", name), x.to_string())));
            }
            Delete(name) => change(&|s| drop(s.remove(&object("instance", name)))),
            Rename(old, new) => change(&|s| {
                let value = s.remove(&object("instance", old)).unwrap_or_default();
                s.insert(object("instance", new), value);
            }),
            Import(file, alias) => {
                change(&|s| drop(s.insert(object("image", file), String::new())));
                change(&|s| drop(s.insert(object("alias", alias), file.clone())));
            }
            RenameAlias(old, new) => change(&|s| {
                let file = s.remove(&object("alias", old)).unwrap_or_default();
                s.insert(object("alias", new), file);
            }),
            DeleteImage(file, alias) => {
                // In between the alias is one of nothing, until the next command finishes the deletion.
                change(&|s| drop(s.remove(&object("image", file))));
                change(&|s| drop(s.remove(&object("alias", alias))));
            }
            ProfileCreate(name) => change(&|s| drop(s.insert(object("profile", name), String::new()))),
            ProfileSet(name, x) => change(&|s| drop(s.insert(object("profile", name), x.to_string()))),
            ProfileDelete(name) => change(&|s| drop(s.remove(&object("profile", name)))),
        }
        all
    }
}

/// xorshift64: the same seed gives the same commands.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Commands that all succeed when they are given in this order.
pub fn script(worker: char, count: usize, dice: &mut Dice) -> Vec<Command> {
    let mut state = State::new();
    let mut running: Vec<String> = Vec::new();
    let mut all = Vec::new();
    if worker == WORKERS[0] {
        all.push(Setup);
    }
    while all.len() < count {
        let Some(command) = next(worker, dice, &state, &running) else { continue };
        match &command {
            Launch(name, _) | Ephemeral(name) | Start(name) => running.push(name.clone()),
            Stop(name) | Delete(name) => running.retain(|n| n != name),
            _ => {}
        }
        state = command.outcomes(&state).pop().unwrap_or_default();
        all.push(command);
    }
    all
}

/// A command that is possible now; none if the dice fell on one that is not.
fn next(worker: char, dice: &mut Dice, state: &State, running: &[String]) -> Option<Command> {
    let (name, other, x) = (format!("{worker}{}", dice.roll(4)), format!("{worker}{}", dice.roll(4)), dice.roll(1000));
    let (file, profile, short) =
        (format!("{worker}{}", dice.roll(IMAGES)), format!("{worker}p{}", dice.roll(2)), format!("{worker}e"));
    let has = |kind: &str, name: &str| state.contains_key(&format!("{kind} {name}"));
    let (exists, runs) = (has("instance", &name), running.contains(&name));
    let alias = state.iter().find(|(k, f)| k.starts_with("alias ") && **f == file).map(|(k, _)| k[6..].to_string());
    let possible = |good: bool, command: Command| good.then_some(command);
    match dice.roll(19) {
        0 | 1 => possible(!exists, Create(name, x)),
        2 | 3 => possible(!exists, Launch(name, x)),
        4 => possible(exists && !runs, Start(name)),
        5 => possible(runs, Stop(name)),
        6 => possible(runs, Restart(name)),
        7 | 8 => possible(exists, Delete(name)),
        9 | 10 => possible(exists && !runs && !has("instance", &other), Rename(name, other)),
        11 | 12 => possible(exists, Set(name, x)),
        13 => possible(alias.is_none(), Import(file.clone(), format!("{file}x"))),
        14 => alias.map(|old| {
            RenameAlias(old.clone(), if old.ends_with('x') { format!("{file}y") } else { format!("{file}x") })
        }),
        15 => alias.map(|alias| DeleteImage(file, alias)),
        16 => possible(true, if running.contains(&short) { Stop(short) } else { Ephemeral(short) }),
        17 => possible(true, if has("profile", &profile) { ProfileSet(profile, x) } else { ProfileCreate(profile) }),
        _ => possible(has("profile", &profile), ProfileDelete(profile)),
    }
}

#[test]
fn scripts_are_possible_and_varied() {
    let all = script('a', 300, &mut Dice(7));
    assert_eq!((all.len(), &all[0]), (300, &Setup));
    let verbs: std::collections::BTreeSet<String> =
        all.iter().map(|c| c.words().split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    for verb in ["rename", "image delete", "image alias", "profile delete", "config set", "restart -f", "launch img"] {
        assert!(verbs.iter().any(|v| v.starts_with(verb)), "{verb} is never given");
    }
    let left = Import("a0".into(), "a0x".into()).outcomes(&State::new());
    assert_eq!(left.iter().map(State::len).collect::<Vec<_>>(), [0, 1, 2]);
}
