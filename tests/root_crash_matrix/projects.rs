//! Projects, after a crash: whole under one name or not there, and all that share a profile have it under one name.

use super::checks::want;
use super::common_root::State;
use super::scenarios::{Scenario, scenario};

const OWN: &[&str] = &["project create p1 -c user.x=old"];
const FULL: &[&str] = &[
    "project create p1 -c features.images=false",
    "--project p1 profile device add default root disk path=/ pool=default",
    "--project p1 create img c1",
    "--project p1 snapshot create c1 s1",
    "--project p1 storage volume create default v1",
    "--project p1 profile create extra",
];
const MOVING: &[&str] = &[FULL[0], FULL[1], "create img c1", "snapshot create c1 s1"];
const LENT: &[&str] = &["project create p1", "image copy local:img local: --target-project p1 --alias own"];
const SHARED: &[&str] = &[
    "project create p1 -c features.profiles=false -c features.images=false",
    "profile create web",
    "create img c1 -p default -p web",
    "--project p1 create img c1 -p default -p web",
];

pub const ALL: &[Scenario] = &[
    scenario("project create", "project create p1 -c user.x=old", made),
    Scenario { before: OWN, ..scenario("project set", "project set p1 user.x=new", there) },
    Scenario { before: OWN, ..scenario("project rename", "project rename p1 p2", renamed) },
    Scenario { before: OWN, ..scenario("project delete", "project delete p1", gone) },
    Scenario { before: FULL, ..scenario("project delete, forced", "project delete -f p1", gone) },
    Scenario { before: SHARED, ..scenario("profile rename, two projects", "profile rename web site", one_name) },
    Scenario {
        before: SHARED,
        ..scenario("profile set, two projects", "profile set web security.idmap.isolated=true", set)
    },
    Scenario { before: MOVING, ..scenario("move, two projects", "move c1 c1 --target-project p1", in_one) },
    Scenario { before: MOVING, ..scenario("copy, two projects", "copy c1 c1 --target-project p1", in_both) },
    Scenario { before: &[LENT[0]], ..scenario("image copy, two projects", LENT[1], lent) },
    Scenario { before: LENT, ..scenario("image delete, two projects", "--project p1 image delete own", given_back) },
    Scenario { before: LENT, ..scenario("image delete, lent", "image delete img", lent_only) },
    Scenario {
        before: LENT,
        ..scenario("project delete, forced, with an image", "project delete -f p1", given_back_with_all)
    },
];

/// Whether `p1` has the image; where it has, it has its name, and an instance can be made of it.
fn has_image(state: &State, project: &str, name: &str) -> Result<bool, String> {
    let at = |words: &[&str]| state.run(&[&["--project", project], words].concat()).good();
    let all = at(&["image", "list", "-f", "csv", "-c", "l"])?;
    if all.is_empty() {
        return Ok(false);
    }
    want(all == format!("{name}\n"), &format!("{project} has {all:?}"))?;
    at(&["create", name, "c9", "-s", "default"])?;
    at(&["delete", "c9"])?;
    Ok(true)
}

fn lent(state: &State, done: bool) -> Result<(), String> {
    projects(state)?;
    want(has_image(state, "default", "img")?, "the lender has lost it")?;
    let there = has_image(state, "p1", "own")?;
    want(!done || there, "it was reported copied and is not there")?;
    whole(state, "p1")?;
    want(has_image(state, "default", "img")?, "it went with the borrower")
}

fn given_back(state: &State, done: bool) -> Result<(), String> {
    projects(state)?;
    let there = has_image(state, "p1", "own")?;
    want(!done || !there, "it was reported deleted and is there")?;
    lent(state, false)
}

fn lent_only(state: &State, done: bool) -> Result<(), String> {
    projects(state)?;
    let there = has_image(state, "default", "img")?;
    want(!done || !there, "it was reported deleted and is there")?;
    want(has_image(state, "p1", "own")?, "the borrower has lost it")?;
    whole(state, "p1")
}

fn given_back_with_all(state: &State, done: bool) -> Result<(), String> {
    gone(state, done)?;
    want(has_image(state, "default", "img")?, "it went with the borrower")
}

fn projects(state: &State) -> Result<Vec<String>, String> {
    // Settles what the killed command left.
    state.run(&["project", "create", "settler"]).good()?;
    state.run(&["project", "delete", "settler"]).good()?;
    let all = state.run(&["project", "list", "-f", "csv", "-c", "n"]).good()?;
    Ok(all.lines().filter(|name| !name.ends_with(" (current)")).map(str::to_string).collect())
}

/// It can be worked with, and deleted.
fn whole(state: &State, name: &str) -> Result<(), String> {
    let shown = state.run(&["project", "show", name]).good()?;
    want(shown.contains("features.profiles: "), &format!("{name} is not whole: {shown}"))?;
    state.run(&["--project", name, "profile", "show", "default"]).good()?;
    state.run(&["project", "set", name, "user.y=1"]).good()?;
    state.doctor()?;
    state.run(&["project", "delete", "-f", name]).good().map(drop)
}

fn has(all: &[String], name: &str) -> bool {
    all.iter().any(|n| n == name)
}

fn made(state: &State, done: bool) -> Result<(), String> {
    let there = has(&projects(state)?, "p1");
    want(!done || there, "it was reported made and is not there")?;
    if !there {
        state.run(&["project", "create", "p1"]).good()?;
    }
    whole(state, "p1")
}

fn there(state: &State, _: bool) -> Result<(), String> {
    want(has(&projects(state)?, "p1"), "it is lost")?;
    whole(state, "p1")
}

fn renamed(state: &State, done: bool) -> Result<(), String> {
    let all = projects(state)?;
    want(has(&all, "p1") != has(&all, "p2"), &format!("neither or both are there: {all:?}"))?;
    want(!done || has(&all, "p2"), "it was reported renamed and is not")?;
    whole(state, if has(&all, "p2") { "p2" } else { "p1" })
}

fn gone(state: &State, done: bool) -> Result<(), String> {
    let there = has(&projects(state)?, "p1");
    want(!done || !there, "it was reported deleted and is there")?;
    if there {
        whole(state, "p1")?;
    }
    let left =
        state.run(&["storage", "volume", "list", "default", "--all-projects", "-f", "csv", "-c", "etn"]).good()?;
    want(!left.lines().any(|line| line.starts_with("p1,")), &format!("left in the pool: {left}"))
}

/// The configuration of `c1` in both projects.
fn both(state: &State) -> Result<[String; 2], String> {
    projects(state)?;
    let one = |project| state.run(&["--project", project, "config", "show", "c1"]).good();
    Ok([one("default")?, one("p1")?])
}

fn one_name(state: &State, done: bool) -> Result<(), String> {
    let configs = both(state)?;
    let now = configs.each_ref().map(|text| text.contains("- site\n"));
    want(now[0] == now[1], "one has the new name, the other the old one")?;
    want(!done || now[0], "it was reported renamed and is not")?;
    let name = if now[0] { "site" } else { "web" };
    state.run(&["profile", "show", name]).good()?;
    for project in ["default", "p1"] {
        state.run(&["--project", project, "start", "c1"]).good()?;
        state.run(&["--project", project, "delete", "-f", "c1"]).good()?;
    }
    state.run(&["profile", "delete", name]).good()?;
    whole(state, "p1")
}

fn set(state: &State, done: bool) -> Result<(), String> {
    let shown = state.run(&["profile", "show", "web"]).good()?;
    let isolated = shown.contains("security.idmap.isolated");
    want(!done || isolated, "it was reported set and is not")?;
    for text in both(state)? {
        let own = text.contains("volatile.idmap.base") && !text.contains("volatile.idmap.base: \"0\"");
        want(own == isolated || !isolated, &format!("ids and configuration differ: {text}"))?;
    }
    for project in ["default", "p1"] {
        state.run(&["--project", project, "start", "c1"]).good()?;
        state.run(&["--project", project, "delete", "-f", "c1"]).good()?;
    }
    whole(state, "p1")
}

fn places(state: &State) -> Result<Vec<&'static str>, String> {
    projects(state)?;
    let all = state.run(&["list", "--all-projects", "-f", "csv", "-c", "en"]).good()?;
    Ok(["default", "p1"].into_iter().filter(|p| all.lines().any(|l| l == format!("{p},c1"))).collect())
}

/// It is there with its snapshot, and starts.
fn good(state: &State, project: &str) -> Result<(), String> {
    let at = |words: &[&str]| state.run(&[&["--project", project], words].concat()).good();
    want(at(&["snapshot", "list", "c1", "-f", "csv", "-c", "n"])? == "s1\n", "its snapshot is lost")?;
    at(&["snapshot", "restore", "c1", "s1"])?;
    at(&["start", "c1"])?;
    at(&["delete", "-f", "c1"]).map(drop)
}

fn in_one(state: &State, done: bool) -> Result<(), String> {
    let places = places(state)?;
    want(places.len() == 1, &format!("it is in {places:?}"))?;
    want(!done || places == ["p1"], "it was reported moved and is not")?;
    good(state, places[0])?;
    whole(state, "p1")
}

fn in_both(state: &State, done: bool) -> Result<(), String> {
    let places = places(state)?;
    want(places.contains(&"default"), "the source is lost")?;
    want(!done || places.len() == 2, "it was reported copied and is not")?;
    places.iter().try_for_each(|project| good(state, project))?;
    whole(state, "p1")
}
