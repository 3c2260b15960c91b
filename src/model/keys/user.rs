//! Keys whose second half the user chooses: `environment.*`, `user.*`, `linux.*`, `smbios11.*`, `systemd.*`.

use super::checks;
use super::key::{
    Action, Key,
    Live::{Apply, No, Record},
    Scope, Suffix,
};
use super::value::Value;

key_table! {
    ENVIRONMENT: "environment.", Both, Value::Line, "Environment variable for the first process and for exec"
        => prefix(Suffix::Environment), live(Record, Record),
           long("A change counts for exec at once, for what runs already at the next start.");
    LINUX_KERNEL_MODULES: "linux.kernel_modules", Container, Value::Line, "Kernel modules to load before the start"
        => live(Apply(Action::KernelModules), Record), long("Comma-separated.");
    LINUX_SYSCTL: "linux.sysctl.", Container, Value::Line, "Kernel parameter of the container's namespaces"
        => prefix(Suffix::Sysctl);
    SMBIOS11: "smbios11.", Vm, Value::Line, "SMBIOS string of type 11, `name=value`" => prefix(Suffix::Any);
    SYSTEMD_CREDENTIAL: "systemd.credential.", Both, Value::Text, "Credential for systemd"
        => prefix(Suffix::Credential), live(Apply(Action::Credentials), No);
    SYSTEMD_CREDENTIAL_BINARY: "systemd.credential-binary.", Both, Value::CheckedText("base64", checks::base64),
        "Credential for systemd, in base64" => prefix(Suffix::Credential), live(Apply(Action::Credentials), No);
    USER: "user.", Both, Value::Text, "Anything; shown, searched and passed to the guest API, otherwise without effect"
        => prefix(Suffix::Any), live(Record, Record);
}
