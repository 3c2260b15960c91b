//! One configuration key: its declaration and the typed ways to read it.

use super::checks;
use super::value::Value;
use crate::base::{boolean, size};
use crate::error::{Error, Result};
use crate::model::instance::{Config, InstanceType};

/// For which instances a key or device option is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Containers and virtual machines.
    Both,
    /// Containers.
    Container,
    /// Virtual machines.
    Vm,
}

impl Scope {
    /// Does it cover instances of this type? `None` stands for a profile, which may be for either.
    pub fn covers(self, kind: Option<InstanceType>) -> bool {
        match (self, kind) {
            (Self::Both, _) | (_, None) => true,
            (Self::Container, Some(kind)) => kind == InstanceType::Container,
            (Self::Vm, Some(kind)) => kind == InstanceType::VirtualMachine,
        }
    }
}

/// What a change does to a running instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    /// It is refused.
    No,
    /// It is stored and takes effect at the next start.
    NextStart,
    /// It is stored; whoever needs the key reads it anew each time.
    Record,
    /// The runtime has to do something now.
    Apply(Action),
}

/// What `container::live` and `vm::live` must do about a change; each reads the new expanded configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// CPUs the instance may run on (`limits.cpu`, `limits.cpu.nodes`); for a VM, their number.
    Cpu,
    /// CPU time and weight (`limits.cpu.allowance`, `limits.cpu.priority`).
    CpuTime,
    /// Memory and swap limits; for a VM, the size of its memory.
    Memory,
    /// Score for the kernel's out-of-memory killer.
    OomPriority,
    /// Number of processes.
    Processes,
    /// Huge pages.
    HugePages,
    /// Weight of disk requests.
    DiskPriority,
    /// Reading and writing of disks (options of the devices, not keys).
    DiskLimits,
    /// What a nested container manager needs.
    Nesting,
    /// The AppArmor profile.
    AppArmor,
    /// The guest API's folder.
    GuestApi,
    /// Kernel modules to load.
    KernelModules,
    /// Files of systemd credentials.
    Credentials,
}

/// How a declaration's name matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The whole name.
    Exact,
    /// The name, which ends in a dot, followed by something of the user's choice.
    Prefix(Suffix),
    /// `volatile.<device>.` followed by the name.
    Device,
    /// This prefix, which ends in a dot, an item of the user's choice without dots, a dot, and the name.
    Item(&'static str),
}

/// What may follow a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suffix {
    /// Anything without control characters.
    Any,
    /// Name of an environment variable.
    Environment,
    /// Name of a sysctl, with dots or slashes.
    Sysctl,
    /// Name of a resource limit (getrlimit(2)), lower case.
    Rlimit,
    /// Name of a systemd credential, which becomes a file name (CVE-2026-33945).
    Credential,
}

impl Suffix {
    fn allows(self, text: &str) -> bool {
        let all = |good: fn(u8) -> bool| text.bytes().all(good);
        !text.is_empty()
            && match self {
                Self::Any => !text.chars().any(char::is_control),
                Self::Environment => !text.contains('=') && !text.chars().any(char::is_control),
                Self::Sysctl => {
                    all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.' | b'/' | b':' | b'@'))
                        && !text.starts_with('/')
                        && text.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
                }
                Self::Rlimit => all(|c| c.is_ascii_lowercase()),
                Self::Credential => {
                    all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'))
                        && text.len() <= 255
                        && !matches!(text, "." | "..")
                }
            }
    }
}

/// One declaration. Everything that is known of a key comes from here: validation, reading, completion, the reference
/// page, and what a live change does.
#[derive(Debug)]
pub struct Key {
    /// The whole name, a prefix, or the end of a device's volatile key ([`Shape`]).
    pub name: &'static str,
    /// How the name matches.
    pub shape: Shape,
    /// For which instances.
    pub scope: Scope,
    /// Type of the value.
    pub value: Value,
    /// Default, empty if there is none.
    pub default: &'static str,
    /// Default for virtual machines, where it differs.
    pub default_vm: Option<&'static str>,
    /// One line of documentation, without full stop.
    pub short: &'static str,
    /// Further documentation, may be empty.
    pub long: &'static str,
    /// Older name that is still read.
    pub legacy: Option<&'static str>,
    live_container: Live,
    live_vm: Live,
}

impl Key {
    pub(super) const fn new(name: &'static str, scope: Scope, value: Value, short: &'static str) -> Self {
        Self {
            name,
            shape: Shape::Exact,
            scope,
            value,
            default: "",
            default_vm: None,
            short,
            long: "",
            legacy: None,
            // What Incus does unless a key says otherwise: a container takes any change and heeds it at the next start,
            // a running virtual machine refuses it.
            live_container: Live::NextStart,
            live_vm: Live::No,
        }
    }

    pub(super) const fn prefix(mut self, suffix: Suffix) -> Self {
        self.shape = Shape::Prefix(suffix);
        self
    }

    pub(super) const fn device(mut self) -> Self {
        self.shape = Shape::Device;
        self
    }

    pub(super) const fn item(mut self, prefix: &'static str) -> Self {
        self.shape = Shape::Item(prefix);
        self
    }

    pub(super) const fn default(mut self, value: &'static str) -> Self {
        self.default = value;
        self
    }

    pub(super) const fn default_vm(mut self, value: &'static str) -> Self {
        self.default_vm = Some(value);
        self
    }

    pub(super) const fn long(mut self, text: &'static str) -> Self {
        self.long = text;
        self
    }

    pub(super) const fn legacy(mut self, name: &'static str) -> Self {
        self.legacy = Some(name);
        self
    }

    pub(super) const fn live(mut self, container: Live, vm: Live) -> Self {
        self.live_container = container;
        self.live_vm = vm;
        self
    }

    /// What a change does to a running instance of this type. A key for the other type does nothing.
    pub fn live_for(&self, kind: InstanceType) -> Live {
        match kind {
            _ if !self.scope.covers(Some(kind)) => Live::Record,
            InstanceType::Container => self.live_container,
            InstanceType::VirtualMachine => self.live_vm,
        }
    }

    /// Does this declaration cover the key `name`?
    pub fn matches(&self, name: &str) -> bool {
        match self.shape {
            Shape::Exact => self.name == name,
            Shape::Prefix(suffix) => name.strip_prefix(self.name).is_some_and(|s| suffix.allows(s)),
            Shape::Device => self.device_in(name).is_some(),
            Shape::Item(_) => self.item_in(name).is_some(),
        }
    }

    /// One of the keys `volatile.<device>.<name>`.
    pub fn is_of_device(&self) -> bool {
        matches!(self.shape, Shape::Device)
    }

    /// The device in a key `volatile.<device>.<name>`; none if the key is another.
    pub fn device_in<'a>(&self, name: &'a str) -> Option<&'a str> {
        let device = name.strip_prefix(super::VOLATILE_PREFIX)?.strip_suffix(self.name)?.strip_suffix('.')?;
        (!device.is_empty()).then_some(device)
    }

    /// The item in a key `<prefix><item>.<name>`; none if the key is another.
    pub fn item_in<'a>(&self, name: &'a str) -> Option<&'a str> {
        let Shape::Item(prefix) = self.shape else { return None };
        let item = name.strip_prefix(prefix)?.strip_suffix(self.name)?.strip_suffix('.')?;
        let good = !item.is_empty() && item.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'));
        good.then_some(item)
    }

    /// The full name for a prefix's suffix, an item or a device; the name itself if the shape is exact.
    pub fn of(&self, part: &str) -> String {
        match self.shape {
            Shape::Exact => self.name.to_string(),
            Shape::Prefix(_) => format!("{}{part}", self.name),
            Shape::Device => format!("{}{part}.{}", super::VOLATILE_PREFIX, self.name),
            Shape::Item(prefix) => format!("{prefix}{part}.{}", self.name),
        }
    }

    /// The name as documentation shows it: `environment.*`, `volatile.<device>.hwaddr`.
    pub fn display_name(&self) -> String {
        match self.shape {
            Shape::Exact => self.name.to_string(),
            Shape::Prefix(_) => self.of("*"),
            Shape::Device => self.of("<device>"),
            Shape::Item(_) => self.of("<name>"),
        }
    }

    /// The value if set and not empty; an older name of the key counts as well.
    pub fn get<'a>(&self, config: &'a Config) -> Option<&'a str> {
        let set = |name: &str| config.get(name).map(String::as_str).filter(|v| !v.is_empty());
        set(self.name).or_else(|| self.legacy.and_then(set))
    }

    /// The value for a prefix's suffix or a device.
    pub fn get_of<'a>(&self, config: &'a Config, part: &str) -> Option<&'a str> {
        config.get(&self.of(part)).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// All set keys under a prefix: suffix and value, in order.
    pub fn entries<'a>(&'static self, config: &'a Config) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let from = config.range(self.name.to_string()..);
        from.map_while(|(k, v)| Some((k.strip_prefix(self.name)?, v.as_str()))).filter(|(k, _)| !k.is_empty())
    }

    /// The value, else the default (empty if there is none).
    pub fn text<'a>(&self, config: &'a Config) -> &'a str {
        self.get(config).unwrap_or(self.default)
    }

    /// Sets the value.
    pub fn set(&self, config: &mut Config, value: impl Into<String>) {
        config.insert(self.name.to_string(), value.into());
    }

    /// Takes the value away and returns it.
    pub fn remove(&self, config: &mut Config) -> Option<String> {
        config.remove(self.name)
    }

    /// A boolean; the container's default, else false, if unset.
    pub fn bool(&self, config: &Config) -> Result<bool> {
        self.bool_or(config, self.default)
    }

    /// A boolean with the default for this type of instance.
    pub fn bool_for(&self, config: &Config, kind: InstanceType) -> Result<bool> {
        self.bool_or(config, self.default_for(kind))
    }

    fn bool_or(&self, config: &Config, default: &str) -> Result<bool> {
        match self.get(config).unwrap_or(default) {
            "" => Ok(false),
            value => boolean::parse(value).map_err(|e| self.wrong(e)),
        }
    }

    /// The default for this type of instance, empty if there is none.
    pub fn default_for(&self, kind: InstanceType) -> &'static str {
        match kind {
            InstanceType::VirtualMachine => self.default_vm.unwrap_or(self.default),
            InstanceType::Container => self.default,
        }
    }

    /// A whole number; the default, else none, if unset.
    pub fn i64(&self, config: &Config) -> Result<Option<i64>> {
        self.read(config, checks::int)
    }

    /// A number of 32 bits; the default, else none, if unset.
    pub fn u32(&self, config: &Config) -> Result<Option<u32>> {
        self.read(config, checks::uint32)
    }

    /// Bytes; the default, else none, if unset.
    pub fn size(&self, config: &Config) -> Result<Option<u64>> {
        self.read(config, size::parse_bytes)
    }

    /// A comma-separated list, trimmed, without empty items.
    pub fn list<'a>(&self, config: &'a Config) -> Vec<&'a str> {
        self.text(config).split(',').map(str::trim).filter(|v| !v.is_empty()).collect()
    }

    /// Any type by its own parser; the default, else none, if unset.
    pub fn read<T>(&self, config: &Config, parse: impl FnOnce(&str) -> Result<T>) -> Result<Option<T>> {
        match self.text(config) {
            "" => Ok(None),
            value => parse(value).map(Some).map_err(|e| self.wrong(e)),
        }
    }

    fn wrong(&self, e: Error) -> Error {
        e.context(format!("Invalid value of \"{}\"", self.name))
    }
}
