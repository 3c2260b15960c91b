//! AppArmor's policy in the kernel: compiling a profile, loading and removing it, reading labels.
//!
//! A profile is compiled by AppArmor's own program, never on the way of every start: callers keep what came out together
//! with [`identity`]. Loading and removing are one write(2) each. Source: the kernel's security/apparmor/apparmorfs.c
//! (`.replace` takes compiled policy in one write, `.remove` a name; a folder below `policy/namespaces` is a namespace), proc_pid_attr(5), apparmor_parser(8).

use crate::error::{Context, Error, Result};
use crate::host::command::{Cmd, Program, Runner, Stdin};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// The compiler.
const PARSER: Program = Program { name: "apparmor_parser", package: "apparmor" };
/// Its settings; which features of the kernel it may use stands there.
const PARSER_CONF: &str = "/etc/apparmor/parser.conf";
/// Where policy goes.
const POLICY: &str = "/sys/kernel/security/apparmor";
/// Below it: a folder for each policy namespace below the one we are in.
const NAMESPACES: &str = "policy/namespaces";
/// How long a compilation may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where AppArmor's program is.
///
/// # Errors
/// [`crate::error::Kind::Unsupported`] if it is not installed: no profile can be made then.
pub fn parser(runner: &dyn Runner) -> Result<std::path::PathBuf> {
    runner.find(PARSER).map_err(|_| {
        Error::unsupported("AppArmor is enabled and its program \"apparmor_parser\" is missing")
            .hint("install it: apt-get install apparmor")
    })
}

/// All that decides, with the text, about the outcome of a compilation: kernel, program and its settings. The program is
/// told by size and time.
///
/// # Errors
/// As [`parser`]; a file that is there cannot be read.
pub fn identity(runner: &dyn Runner) -> Result<String> {
    let path = parser(runner)?;
    let stat = std::fs::metadata(&path).with_context(|| format!("Failed reading \"{}\"", path.display()))?;
    let kernel = |name: &str| {
        let path = format!("/proc/sys/kernel/{name}");
        std::fs::read_to_string(&path).with_context(|| format!("Failed reading \"{path}\""))
    };
    let settings = std::fs::read(PARSER_CONF).unwrap_or_default();
    Ok(format!(
        "{}{}{} {} {}.{}\n{}",
        kernel("osrelease")?,
        kernel("version")?,
        path.display(),
        stat.size(),
        stat.mtime(),
        stat.mtime_nsec(),
        String::from_utf8_lossy(&settings)
    ))
}

/// Whether kernel and compiler know the rules that came with AppArmor 4; the kernel is asked first, for nothing.
pub fn modern(runner: &dyn Runner) -> bool {
    Path::new(POLICY).join("features/namespaces/userns_create").exists()
        && runner
            .run(Cmd::new(PARSER).arg("--version").timeout(PATIENCE))
            .is_ok_and(|out| major(&String::from_utf8_lossy(&out.stdout)).is_some_and(|v| v >= 4))
}

/// `AppArmor parser version 4.0.1`.
fn major(text: &str) -> Option<u32> {
    text.lines().next()?.rsplit(' ').next()?.split('.').next()?.parse().ok()
}

/// Compiles the profile `text`. Nothing is loaded.
///
/// # Errors
/// What the compiler says about it.
pub fn compile(runner: &dyn Runner, text: &str) -> Result<Vec<u8>> {
    // No loading, no cache of its own, the outcome on standard output; the text comes from standard input.
    let cmd = Cmd::new(PARSER).args(["--skip-kernel-load", "--skip-cache", "--stdout"]);
    let out = runner
        .run(cmd.stdin(Stdin::Bytes(text.as_bytes().to_vec())).timeout(PATIENCE))
        .context("Failed compiling the AppArmor profile")?;
    if out.stdout.is_empty() {
        return Err(Error::failed("Failed compiling the AppArmor profile: nothing came out"));
    }
    Ok(out.stdout)
}

/// Loads compiled policy; what bore its name is replaced, also for the processes that are confined by it.
///
/// # Errors
/// The kernel refused it.
pub fn load(policy: &[u8]) -> Result<()> {
    write(".replace", policy).context("Failed loading the AppArmor profile").map_err(|e| match e.errno() {
        Some(libc::ENOENT) => e.hint("mount the file system: mount -t securityfs securityfs /sys/kernel/security"),
        _ => e,
    })
}

/// Removes the profile `name`. One that is not there is fine. No process may be left in it: the kernel would let it go on
/// unconfined.
///
/// # Errors
/// The kernel refused.
pub fn remove(name: &str) -> Result<()> {
    match write(".remove", name.as_bytes()) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("Failed removing the AppArmor profile \"{name}\"")),
    }
}

/// [`remove`] for the profile `name`, and [`remove_namespace`] for the namespace that may go with it.
///
/// # Errors
/// As those.
pub fn remove_all_of(name: &str) -> Result<()> {
    let namespace = namespace_of(name).map_or(Ok(()), |namespace| remove_namespace(&namespace));
    let errors = [remove(name), namespace].into_iter().filter_map(Result::err);
    Error::join(errors.collect()).map_or(Ok(()), Err)
}

/// The kernel takes either in one write.
fn write(file: &str, data: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).open(Path::new(POLICY).join(file))?;
    match file.write(data)? {
        n if n == data.len() => Ok(()),
        _ => Err(ErrorKind::WriteZero.into()),
    }
}

/// Whether instances get policy namespaces: the kernel can stack what is in one upon a profile, and we are in none ourselves.
/// Below a first one the kernel lets nobody in a user namespace fill a second.
pub fn namespaces() -> bool {
    let read = |file: &str| std::fs::read_to_string(Path::new(POLICY).join(file)).unwrap_or_default();
    stacks(&read("features/domain/stack"), &read("features/domain/version")) && level(Path::new("/")) == 0
}

/// Stacks of namespaces came with version 1.2 of the domain's rules.
fn stacks(stack: &str, version: &str) -> bool {
    let numbers =
        version.trim().split_once('.').and_then(|(a, b)| Some((a.parse::<u32>().ok()?, b.parse::<u32>().ok()?)));
    stack.trim() == "yes" && numbers.is_some_and(|n| n >= (1, 2))
}

/// How deep the policy namespace is that we are in; the host's is 0.
pub(super) fn level(root: &Path) -> u32 {
    let text = std::fs::read_to_string(root.join(POLICY.trim_start_matches('/')).join(".ns_level"));
    text.ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0)
}

/// Whether the kernel takes policy from us: it is asked to remove a profile that is not there.
pub fn may_load() -> bool {
    matches!(write(".remove", b"stapes.none"), Err(e) if e.kind() == ErrorKind::NotFound)
}

/// The policy namespace that goes with the profile `name`; none if that would be too long for a file. AppArmor's
/// own scripts inside load policy only where the name begins as LXC's (rc.apparmor.functions).
pub fn namespace_of(name: &str) -> Option<String> {
    const LONGEST: usize = 255;
    let namespace = format!("lxc-{name}");
    (namespace.len() <= LONGEST).then_some(namespace)
}

/// Makes the policy namespace `name`, without anything in it.
///
/// # Errors
/// The kernel refused.
pub fn make_namespace(name: &str) -> Result<()> {
    let make = || std::fs::create_dir(Path::new(POLICY).join(NAMESPACES).join(name));
    let made = match make() {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            remove_namespace(name)?;
            make()
        }
        other => other,
    };
    made.with_context(|| format!("Failed creating the AppArmor namespace \"{name}\""))
}

/// Removes the policy namespace `name` and all in it. One that is not there is fine. As with [`remove`], no process may be left.
///
/// # Errors
/// The kernel refused.
pub fn remove_namespace(name: &str) -> Result<()> {
    match std::fs::remove_dir(Path::new(POLICY).join(NAMESPACES).join(name)) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("Failed removing the AppArmor namespace \"{name}\"")),
    }
}

/// Profiles whose policy namespaces ([`namespace_of`]) are there, as far as their names begin with `prefix`.
pub fn with_namespace(prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir(Path::new(POLICY).join(NAMESPACES)).into_iter().flatten().flatten();
    let names = entries.filter_map(|e| Some(e.file_name().to_str()?.strip_prefix("lxc-")?.to_string()));
    names.filter(|n| n.starts_with(prefix)).collect()
}

/// The label of what runs in the profile `name`, and in `namespace` besides.
pub fn label(name: &str, namespace: Option<&str>) -> String {
    namespace.map_or_else(|| name.to_string(), |namespace| format!("{name}//&:{namespace}:"))
}

/// Whether `label` is one of those made by [`label`] with a namespace.
pub fn has_namespace(label: &str) -> bool {
    label.contains("//&:")
}

/// Names of the loaded profiles that begin with `prefix`.
///
/// # Errors
/// The list cannot be read.
pub fn loaded(prefix: &str) -> Result<Vec<String>> {
    let path = Path::new(POLICY).join("profiles");
    let text = std::fs::read_to_string(&path).with_context(|| format!("Failed reading \"{}\"", path.display()))?;
    Ok(text.lines().map(without_mode).filter(|n| n.starts_with(prefix)).map(str::to_string).collect())
}

/// The label of process `pid`; none if it is unconfined. Who the process is, the caller compares afterwards.
///
/// # Errors
/// It is gone.
pub fn label_of(pid: i32) -> Result<Option<String>> {
    let path = format!("/proc/{pid}/attr/apparmor/current");
    let text = std::fs::read_to_string(&path).with_context(|| format!("Failed reading \"{path}\""))?;
    let label = without_mode(text.trim_end_matches(['\n', '\0']));
    Ok((label != "unconfined").then(|| label.to_string()))
}

/// Whether `label`, which may be a stack of several, holds all of `wanted`; of a policy namespace (`:name:`) anything in it.
pub fn holds(label: &str, wanted: &str) -> bool {
    let is = |part: &str, wanted: &str| part == wanted || wanted.ends_with(':') && part.starts_with(wanted);
    wanted.split("//&").all(|wanted| label.split("//&").any(|part| is(part, wanted)))
}

/// `name (enforce)`.
fn without_mode(line: &str) -> &str {
    match line.rsplit_once(" (") {
        Some((name, mode)) if mode.ends_with(')') => name,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::command::{Answer, Fake};

    #[test]
    fn labels_are_read_without_their_mode() {
        assert_eq!(without_mode("stapes-default_c1 (enforce)"), "stapes-default_c1");
        assert_eq!(without_mode("unconfined"), "unconfined");
        assert!(holds("stapes-default_c1", "stapes-default_c1"));
        assert!(holds("stapes-default_c1//&:inner:unconfined", "stapes-default_c1"));
        assert!(!holds("stapes-default_c10", "stapes-default_c1"));
        let wanted = label("stapes-default_c1", Some("lxc-stapes-default_c1"));
        assert!(holds("stapes-default_c1//&:lxc-stapes-default_c1:unconfined", &wanted));
        assert!(!holds("stapes-default_c1", &wanted) && !holds(":lxc-stapes-default_c1:unconfined", &wanted));
        assert!(!holds("stapes-default_c1//&:lxc-stapes-default_c10:unconfined", &wanted));
        assert!(has_namespace(&wanted) && !has_namespace(&label("stapes-default_c1", None)));
    }

    #[test]
    fn stacking_is_asked_of_the_kernel() {
        assert!(stacks("yes\n", "1.2\n") && stacks("yes", "1.10") && stacks("yes", "2.0"));
        assert!(!stacks("no\n", "1.2\n") && !stacks("yes\n", "1.1\n") && !stacks("yes", "") && !stacks("", "1.2"));
        assert_eq!(namespace_of("stapes-default_c1").as_deref(), Some("lxc-stapes-default_c1"));
        assert_eq!(namespace_of(&"x".repeat(252)), None);
    }

    #[test]
    fn the_compiler_is_told_the_text_and_asked_to_load_nothing() {
        let fake = Fake::new(&["apparmor_parser"], |_| Answer { stdout: b"policy".to_vec(), ..Answer::default() });
        assert_eq!(compile(&fake, "profile x {}").expect("compiles"), b"policy");
        let call = fake.calls().remove(0);
        assert_eq!(call.stdin, b"profile x {}");
        assert!(call.args.iter().any(|a| a == "--skip-kernel-load"));
    }

    #[test]
    fn what_the_compiler_says_reaches_the_user() {
        let fake = Fake::new(&["apparmor_parser"], |_| Answer {
            code: 1,
            stderr: b"AppArmor parser error in stdin at line 3: syntax error\n".to_vec(),
            ..Answer::default()
        });
        let e = compile(&fake, "x").expect_err("bad").to_string();
        assert!(e.starts_with("Failed compiling the AppArmor profile") && e.contains("syntax error"), "{e}");
        let silent = Fake::new(&["apparmor_parser"], |_| Answer::default());
        assert!(compile(&silent, "x").is_err());
    }

    #[test]
    fn a_missing_compiler_is_refused_with_the_package() {
        let e = parser(&Fake::new(&[], |_| Answer::default())).expect_err("missing");
        assert_eq!(e.kind(), crate::error::Kind::Unsupported);
        assert_eq!(e.hint_text(), Some("install it: apt-get install apparmor"));
    }

    #[test]
    fn versions_of_the_compiler() {
        assert_eq!(major("AppArmor parser version 4.0.1\nCopyright (C) 1999-2008"), Some(4));
        assert_eq!(major("AppArmor parser version 3.0.8"), Some(3));
        assert_eq!(major(""), None);
    }
}
