//! `raw.*`: what no other key says, in the words of the thing underneath.

use super::key::{
    Action, Key,
    Live::{Apply, No, Record},
    Scope,
};
use super::parse;
use super::value::Value;

key_table! {
    RAW_APPARMOR: "raw.apparmor", Both, Value::Text, "Rules to append to the AppArmor profile"
        => live(Apply(Action::AppArmor), No);
    RAW_IDMAP: "raw.idmap", Both, Value::CheckedText("id map lines", parse::check_raw_idmap),
        "Host ids to map straight into the container"
        => long("Lines `uid|gid|both <host id or range> <container id or range>`; for unprivileged containers.");
    RAW_LXC: "raw.lxc", Container, Value::CheckedText("LXC configuration", parse::check_raw_lxc),
        "LXC configuration to append" => live(super::key::Live::NextStart, Record);
    RAW_SECCOMP: "raw.seccomp", Container, Value::Text, "Seccomp policy to use in place of the generated one"
        => long("Not together with security.syscalls keys.");
    RAW_QEMU: "raw.qemu", Vm, Value::Text, "Arguments to append to QEMU's command line";
    RAW_QEMU_CONF: "raw.qemu.conf", Vm, Value::Text, "Changes to the generated QEMU configuration file"
        => long("Sections as in that file, `[name][index]` to choose one of several; an empty value takes an entry away.");
    RAW_QEMU_QMP_EARLY: "raw.qemu.qmp.early", Vm, Value::Text, "QMP commands to run before the configuration by QMP";
    RAW_QEMU_QMP_POST_START: "raw.qemu.qmp.post-start", Vm, Value::Text, "QMP commands to run after the start";
    RAW_QEMU_QMP_PRE_START: "raw.qemu.qmp.pre-start", Vm, Value::Text, "QMP commands to run before the start";
    RAW_QEMU_SCRIPTLET: "raw.qemu.scriptlet", Vm, Value::Text, "Starlark scriptlet that may change QEMU's configuration";
}
