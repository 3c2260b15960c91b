//! The grammar of each command's arguments, as help and usage errors show it, and the errors for too few and too many.
//!
//! One line a command; a test keeps the table equal to the command tree.

use super::args::Prepared;
use crate::error::Error;

/// Path and grammar.
const GRAMMAR: &[(&str, &str)] = &[
    ("admin boot", ""),
    ("admin init", "[<preseed.yaml>]"),
    ("admin maintain", ""),
    ("admin recover", ""),
    ("admin shutdown", ""),
    ("admin waitready", ""),
    ("alias add", "<new alias name> <target command>"),
    ("alias list", ""),
    ("alias remove", "<alias>"),
    ("alias rename", "<alias> <new alias name>"),
    ("config device add", "[<remote>:]<instance> <new device name> <type> [<key>=<value>...]"),
    ("config device get", "[<remote>:]<instance> <device> <key>"),
    ("config device list", "[<remote>:]<instance>"),
    ("config device override", "[<remote>:]<instance> <device> [<key>=<value>...]"),
    ("config device remove", "[<remote>:]<instance> <device>..."),
    ("config device set", "[<remote>:]<instance> <device> <key>=<value>..."),
    ("config device show", "[<remote>:]<instance>"),
    ("config device unset", "[<remote>:]<instance> <device> <key>..."),
    ("config edit", "[<remote>:][<instance>]"),
    ("config get", "[<remote>:][<instance>] <key>"),
    ("config metadata edit", "[<remote>:]<instance>"),
    ("config metadata show", "[<remote>:]<instance>"),
    ("config set", "[<remote>:][<instance>] <key>=<value>..."),
    ("config show", "[<remote>:][<instance>]"),
    ("config template create", "[<remote>:]<instance> <new template name>"),
    ("config template delete", "[<remote>:]<instance> <template>"),
    ("config template edit", "[<remote>:]<instance> <template>"),
    ("config template list", "[<remote>:]<instance>"),
    ("config template show", "[<remote>:]<instance> <template>"),
    ("config unset", "[<remote>:][<instance>] <key>..."),
    ("console", "[<remote>:]<instance>"),
    ("copy", "[<remote>:]<instance>[/<snapshot>] [[<remote>:][<new instance name>]]"),
    ("create", "(--empty|[<remote>:]<image>) [<remote>:][<new instance name>]"),
    ("delete", "[<remote>:]<instance>..."),
    ("doctor", ""),
    ("exec", "[<remote>:]<instance> [flags] [--] [<command-line argument>...]"),
    ("export", "[<remote>:]<instance> [<backup file>]"),
    ("file create", "[<remote>:]<instance>/<path> [<symlink target path>]"),
    ("file delete", "[<remote>:]<instance>/<path>..."),
    ("file edit", "[<remote>:]<instance>/<path>"),
    ("file pull", "[<remote>:]<instance>/<path>... <target path>"),
    ("file push", "<path>... [<remote>:]<instance>/<target path>"),
    ("generate completions", "<directory>"),
    ("generate man", "<directory>"),
    ("generate systemd", "[<remote>:]<instance>"),
    ("help", "[<command>...]"),
    ("image alias create", "[<remote>:]<new alias name> <fingerprint>"),
    ("image alias delete", "[<remote>:]<alias>..."),
    ("image alias list", "[<remote>:] [<filter>...]"),
    ("image alias rename", "[<remote>:]<alias> <new alias name>"),
    ("image build", "bootstrap:<image>"),
    ("image copy", "[<remote>:]<image> <remote>:"),
    ("image delete", "[<remote>:]<image>..."),
    ("image edit", "[<remote>:]<image>"),
    ("image export", "([<remote>:]<image> [<target file>]|--simplestreams <directory> [[<remote>:]<image>...])"),
    ("image generate-metadata", "<path>"),
    ("image get-property", "[<remote>:]<image> <key>"),
    ("image import", "(<tarball>|<directory>|<URL>) [<rootfs tarball>] [<remote>:] [<key>=<value>...]"),
    ("image info", "[<remote>:]<image>"),
    ("image list", "[<remote>:] [<filter>...]"),
    ("image refresh", "[<remote>:]<image>..."),
    ("image set-property", "[<remote>:]<image> <key>=<value>..."),
    ("image show", "[<remote>:]<image>"),
    ("image unset-property", "[<remote>:]<image> <key>"),
    ("import", "[<remote>:] <backup file> [<new instance name>]"),
    ("info", "[<remote>:][<instance>]"),
    ("launch", "(--empty|[<remote>:]<image>) [<remote>:][<new instance name>]"),
    ("list", "[<remote>:] [<filter>...]"),
    ("move", "[<remote>:]<instance> [[<remote>:][<new instance name>]]"),
    ("network acl create", "[<remote>:]<new ACL name> [<key>=<value>...]"),
    ("network acl delete", "[<remote>:]<ACL> [[<remote>:]<ACL>...]"),
    ("network acl edit", "[<remote>:]<ACL>"),
    ("network acl get", "[<remote>:]<ACL> <key>"),
    ("network acl list", "[<remote>:]"),
    ("network acl rename", "[<remote>:]<ACL> <new ACL name>"),
    ("network acl rule add", "[<remote>:]<ACL> (ingress|egress) <key>=<value>..."),
    ("network acl rule remove", "[<remote>:]<ACL> (ingress|egress) [<key>=<value>...]"),
    ("network acl set", "[<remote>:]<ACL> <key>=<value>..."),
    ("network acl show", "[<remote>:]<ACL>"),
    ("network acl show-log", "[<remote>:]<ACL>"),
    ("network acl unset", "[<remote>:]<ACL> <key>..."),
    ("network address-set add", "[<remote>:]<address set> <address>..."),
    ("network address-set create", "[<remote>:]<new address set name> [<key>=<value>...]"),
    ("network address-set delete", "[<remote>:]<address set> [[<remote>:]<address set>...]"),
    ("network address-set edit", "[<remote>:]<address set>"),
    ("network address-set list", "[<remote>:]"),
    ("network address-set remove", "[<remote>:]<address set> <address>..."),
    ("network address-set rename", "[<remote>:]<address set> <new address set name>"),
    ("network address-set set", "[<remote>:]<address set> <key>=<value>..."),
    ("network address-set show", "[<remote>:]<address set>"),
    ("network address-set unset", "[<remote>:]<address set> <key>..."),
    ("network attach", "[<remote>:]<network> <instance> [<device name>] [<interface name>]"),
    ("network attach-profile", "[<remote>:]<network> <profile> [<device name>] [<interface name>]"),
    ("network create", "[<remote>:]<new network name> [<key>=<value>...]"),
    ("network delete", "[<remote>:]<network> [[<remote>:]<network>...]"),
    ("network detach", "[<remote>:]<network> <instance> [<device name>]"),
    ("network detach-profile", "[<remote>:]<network> <profile> [<device name>]"),
    ("network edit", "[<remote>:]<network>"),
    ("network forward create", "[<remote>:]<network> <listen address> [<key>=<value>...]"),
    ("network forward delete", "[<remote>:]<network> <listen address>"),
    ("network forward edit", "[<remote>:]<network> <listen address>"),
    ("network forward get", "[<remote>:]<network> <listen address> <key>"),
    ("network forward list", "[<remote>:]<network>"),
    (
        "network forward port add",
        "[<remote>:]<network> <listen address> <protocol> <listen ports> <target address> [<target ports>]",
    ),
    ("network forward port remove", "[<remote>:]<network> <listen address> [<protocol>] [<listen ports>]"),
    ("network forward set", "[<remote>:]<network> <listen address> <key>=<value>..."),
    ("network forward show", "[<remote>:]<network> <listen address>"),
    ("network forward unset", "[<remote>:]<network> <listen address> <key>"),
    ("network get", "[<remote>:]<network> <key>"),
    ("network info", "[<remote>:]<network>"),
    ("network integration", "[<argument>...]"),
    ("network list", "[<remote>:] [<filter>...]"),
    ("network list-allocations", ""),
    ("network list-leases", "[<remote>:]<network>"),
    ("network load-balancer", "[<argument>...]"),
    ("network peer", "[<argument>...]"),
    ("network rename", "[<remote>:]<network> <new network name>"),
    ("network set", "[<remote>:]<network> <key>=<value>..."),
    ("network show", "[<remote>:]<network>"),
    ("network unset", "[<remote>:]<network> <key>"),
    ("network zone create", "[<remote>:]<new zone name> [<key>=<value>...]"),
    ("network zone delete", "[<remote>:]<zone>"),
    ("network zone edit", "[<remote>:]<zone>"),
    ("network zone get", "[<remote>:]<zone> <key>"),
    ("network zone list", "[<remote>:]"),
    ("network zone record create", "[<remote>:]<zone> <record> [<key>=<value>...]"),
    ("network zone record delete", "[<remote>:]<zone> <record>"),
    ("network zone record edit", "[<remote>:]<zone> <record>"),
    ("network zone record entry add", "[<remote>:]<zone> <record> <type> <value>"),
    ("network zone record entry remove", "[<remote>:]<zone> <record> <type> <value>"),
    ("network zone record get", "[<remote>:]<zone> <record> <key>"),
    ("network zone record list", "[<remote>:]<zone>"),
    ("network zone record set", "[<remote>:]<zone> <record> <key>=<value>..."),
    ("network zone record show", "[<remote>:]<zone> <record>"),
    ("network zone record unset", "[<remote>:]<zone> <record> <key>"),
    ("network zone set", "[<remote>:]<zone> <key>=<value>..."),
    ("network zone show", "[<remote>:]<zone>"),
    ("network zone unset", "[<remote>:]<zone> <key>"),
    ("pause", "([<remote>:]<instance>...|--all [<remote>:...])"),
    ("profile add", "[<remote>:]<instance> <profile>"),
    ("profile assign", "[<remote>:]<instance> (<profile>...|--no-profiles)"),
    ("profile copy", "[<remote>:]<profile> [<remote>:]<new profile name>"),
    ("profile create", "[<remote>:]<new profile name>"),
    ("profile delete", "[<remote>:]<profile>..."),
    ("profile device add", "[<remote>:]<profile> <new device name> <type> [<key>=<value>...]"),
    ("profile device get", "[<remote>:]<profile> <device> <key>"),
    ("profile device list", "[<remote>:]<profile>"),
    ("profile device remove", "[<remote>:]<profile> <device>..."),
    ("profile device set", "[<remote>:]<profile> <device> <key>=<value>..."),
    ("profile device show", "[<remote>:]<profile>"),
    ("profile device unset", "[<remote>:]<profile> <device> <key>..."),
    ("profile edit", "[<remote>:]<profile>"),
    ("profile get", "[<remote>:]<profile> <key>"),
    ("profile list", "[<remote>:] [<filter>...]"),
    ("profile remove", "[<remote>:]<instance> <profile>"),
    ("profile rename", "[<remote>:]<profile> <new profile name>"),
    ("profile set", "[<remote>:]<profile> <key>=<value>..."),
    ("profile show", "[<remote>:]<profile>"),
    ("profile unset", "[<remote>:]<profile> <key>..."),
    ("project create", "[<remote>:]<new project name>"),
    ("project delete", "[<remote>:]<project>..."),
    ("project edit", "[<remote>:]<project>"),
    ("project get", "[<remote>:]<project> <key>"),
    ("project get-current", "[<remote>:]"),
    ("project info", "[<remote>:]<project>"),
    ("project list", "[<remote>:] [<filter>...]"),
    ("project rename", "[<remote>:]<project> <new project name>"),
    ("project set", "[<remote>:]<project> <key>=<value>..."),
    ("project show", "[<remote>:]<project>"),
    ("project switch", "[<remote>:]<project>"),
    ("project unset", "[<remote>:]<project> <key>"),
    ("publish", "[<remote>:]<instance>[/<snapshot>] [<remote>:] [<key>=<value>...]"),
    ("query", "[<remote>:]<API path>"),
    ("rebuild", "(--empty|[<remote>:]<image>) [<remote>:]<instance>"),
    ("remote add", "[<new remote name>] (<IP>|<FQDN>|<URL>)"),
    ("remote get-default", ""),
    ("remote list", ""),
    ("remote remove", "<remote>"),
    ("remote rename", "<remote> <new remote name>"),
    ("remote set-urls", "<remote> <URL>..."),
    ("remote switch", "<remote>"),
    ("rename", "[<remote>:]<instance> <new instance name>"),
    ("restart", "([<remote>:]<instance>...|--all [<remote>:...])"),
    ("resume", "([<remote>:]<instance>...|--all [<remote>:...])"),
    ("run", "[<remote>:]<image> [flags] [--] [<command-line argument>...]"),
    ("shell", "[<remote>:]<instance>"),
    ("snapshot create", "[<remote>:]<instance> [<new snapshot name>]"),
    ("snapshot delete", "[<remote>:]<instance> <snapshot>..."),
    ("snapshot list", "[<remote>:]<instance>"),
    ("snapshot rename", "[<remote>:]<instance> <snapshot> <new snapshot name>"),
    ("snapshot restore", "[<remote>:]<instance> <snapshot>"),
    ("snapshot show", "[<remote>:]<instance> <snapshot>"),
    ("start", "([<remote>:]<instance>...|--all [<remote>:...])"),
    ("stop", "([<remote>:]<instance>...|--all [<remote>:...])"),
    ("storage create", "[<remote>:]<new pool name> <driver> [<key>=<value>...]"),
    ("storage delete", "[<remote>:]<pool> [[<remote>:]<pool>...]"),
    ("storage edit", "[<remote>:]<pool>"),
    ("storage get", "[<remote>:]<pool> <key>"),
    ("storage info", "[<remote>:]<pool>"),
    ("storage list", "[<remote>:] [<filter>...]"),
    ("storage set", "[<remote>:]<pool> <key>=<value>..."),
    ("storage show", "[<remote>:]<pool>"),
    ("storage unset", "[<remote>:]<pool> <key>"),
    ("storage volume attach", "[<remote>:]<pool> <volume> <instance> [<device name>] [<path>]"),
    ("storage volume attach-profile", "[<remote>:]<pool> <volume> <profile> [<device name>] [<path>]"),
    ("storage volume copy", "[<remote>:]<pool>/<volume>[/<snapshot>] [<remote>:]<target pool>/<new volume name>"),
    ("storage volume create", "[<remote>:]<pool> <new volume name> [<key>=<value>...]"),
    ("storage volume delete", "[<remote>:]<pool> <volume>"),
    ("storage volume detach", "[<remote>:]<pool> <volume> <instance> [<device name>]"),
    ("storage volume detach-profile", "[<remote>:]<pool> <volume> <profile> [<device name>]"),
    ("storage volume edit", "[<remote>:]<pool> [<type>/]<volume>[/<snapshot>]"),
    ("storage volume export", "[<remote>:]<pool> <volume> [<backup file>]"),
    ("storage volume file create", "[<remote>:]<pool> <volume>/<path> [<symlink target path>]"),
    ("storage volume file delete", "[<remote>:]<pool> <volume>/<path>..."),
    ("storage volume file edit", "[<remote>:]<pool> <volume>/<path>"),
    ("storage volume file pull", "[<remote>:]<pool> <volume>/<path>... <target path>"),
    ("storage volume file push", "<path>... [<remote>:]<pool> <volume>/<target path>"),
    ("storage volume get", "[<remote>:]<pool> [<type>/]<volume>[/<snapshot>] <key>"),
    ("storage volume import", "[<remote>:]<pool> <backup file> [<new volume name>]"),
    ("storage volume info", "[<remote>:]<pool> [<type>/]<volume>"),
    ("storage volume list", "[<remote>:]<pool> [<filter>...]"),
    ("storage volume move", "[<remote>:]<pool>/<volume> [<remote>:]<target pool>/<new volume name>"),
    ("storage volume rebuild", "[<remote>:]<pool> [<type>/]<volume>"),
    ("storage volume rename", "[<remote>:]<pool> <volume> <new volume name>"),
    ("storage volume set", "[<remote>:]<pool> [<type>/]<volume>[/<snapshot>] <key>=<value>..."),
    ("storage volume show", "[<remote>:]<pool> [<type>/]<volume>[/<snapshot>]"),
    ("storage volume snapshot create", "[<remote>:]<pool> <volume> [<new snapshot name>]"),
    ("storage volume snapshot delete", "[<remote>:]<pool> <volume> <snapshot>..."),
    ("storage volume snapshot list", "[<remote>:]<pool> <volume>"),
    ("storage volume snapshot rename", "[<remote>:]<pool> <volume> <snapshot> <new snapshot name>"),
    ("storage volume snapshot restore", "[<remote>:]<pool> <volume> <snapshot>"),
    ("storage volume snapshot show", "[<remote>:]<pool> <volume> [<snapshot>]"),
    ("storage volume unset", "[<remote>:]<pool> [<type>/]<volume>[/<snapshot>] <key>"),
    ("version", "[<remote>:]"),
    ("wait", "[<remote>:]<instance> <condition>"),
    ("warning acknowledge", "[<remote>:]<warning UUID>"),
    ("warning delete", "(--all|[<remote>:]<warning UUID>...)"),
    ("warning list", "[<remote>:]"),
    ("warning show", "[<remote>:]<warning UUID>"),
];

/// The grammar of the command at `path`; none for a group of commands.
pub fn grammar(path: &[String]) -> Option<&'static str> {
    let path = path.join(" ");
    GRAMMAR.iter().find(|(p, _)| *p == path).map(|(_, grammar)| *grammar)
}

/// `Usage: stapes rename …`, shown above the error for a wrong number of arguments.
pub fn line(program: &str, path: &[String]) -> String {
    let words =
        [program].into_iter().chain(path.iter().map(String::as_str)).chain(grammar(path).filter(|g| !g.is_empty()));
    format!("Usage: {}\n", words.collect::<Vec<_>>().join(" "))
}

/// What clap says, in Incus's words: a wrong number of arguments, or a value an option cannot take.
pub fn translate(error: &clap::Error, prepared: &Prepared) -> Error {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(" "),
        _ => String::new(),
    };
    Error::invalid(match error.kind() {
        ErrorKind::MissingRequiredArgument | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            return missing(prepared);
        }
        ErrorKind::UnknownArgument => format!("too many arguments; unexpected “{}”", text(ContextKind::InvalidArg)),
        ErrorKind::TooManyValues => format!("too many arguments; unexpected “{}”", text(ContextKind::InvalidValue)),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let flag = text(ContextKind::InvalidArg);
            let flag = flag.split([' ', '=']).next().unwrap_or_default();
            let reason = std::error::Error::source(error).map(|s| format!(": {s}")).unwrap_or_default();
            format!("invalid argument {:?} for {flag:?} flag{reason}", text(ContextKind::InvalidValue))
        }
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_string(),
    })
}

/// The error for too few arguments.
pub fn missing(prepared: &Prepared) -> Error {
    let atoms = required(grammar(&prepared.path).unwrap_or_default());
    let atom = atoms.get(prepared.positionals).or(atoms.last()).map_or("", |a| a.as_str());
    Error::invalid(format!("not enough arguments; expected a value for “{atom}”"))
}

/// The atoms of a grammar that must be given.
fn required(grammar: &str) -> Vec<String> {
    let mut atoms = vec![String::new()];
    let mut depth = 0_i32;
    for c in grammar.chars() {
        match c {
            '<' | '[' | '(' => depth += 1,
            '>' | ']' | ')' => depth -= 1,
            _ => {}
        }
        match c {
            ' ' if depth == 0 => atoms.push(String::new()),
            _ => atoms.last_mut().into_iter().for_each(|a| a.push(c)),
        }
    }
    atoms.into_iter().filter(|a| !is_optional(a)).map(|a| a.trim_end_matches("...").to_string()).collect()
}

/// Nothing is left of it without what stands in square brackets.
fn is_optional(atom: &str) -> bool {
    let mut depth = 0_i32;
    atom.chars().all(|c| {
        depth += i32::from(c == '[');
        let inside = depth > 0;
        depth -= i32::from(c == ']');
        inside
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(command: &clap::Command, path: &mut Vec<String>, out: &mut Vec<String>) {
        for sub in command.get_subcommands() {
            path.push(sub.get_name().to_string());
            if sub.has_subcommands() {
                leaves(sub, path, out);
            } else {
                out.push(path.join(" "));
            }
            path.pop();
        }
    }

    #[test]
    fn one_line_for_each_command() {
        let mut found = Vec::new();
        leaves(&crate::cli::app::command("stapes"), &mut Vec::new(), &mut found);
        found.sort();
        assert_eq!(found, GRAMMAR.iter().map(|(path, _)| path.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn required_atoms() {
        assert_eq!(
            required("[<remote>:]<instance> <new instance name>"),
            ["[<remote>:]<instance>", "<new instance name>"]
        );
        assert_eq!(required("[<remote>:][<instance>] <key>=<value>..."), ["<key>=<value>"]);
        assert_eq!(required("<a> [flags] [--] <b>..."), ["<a>", "<b>"]);
        assert!(required("[<remote>:] [<filter>...]").is_empty());
        assert!(required("").is_empty());
    }
}
