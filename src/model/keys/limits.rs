//! `limits.*`: CPU, memory, processes, disk priority and resource limits.

use super::checks;
use super::key::{
    Action, Key,
    Live::{Apply, No, Record},
    Scope, Suffix,
};
use super::parse;
use super::value::Value;

key_table! {
    LIMITS_CPU: "limits.cpu", Both, Value::Checked("number, set or topology of CPUs", parse::check_cpu),
        "CPUs to use" => default_vm("1"), live(Apply(Action::Cpu), Apply(Action::Cpu)),
        long("A number (`4`) takes that many of the least used CPUs; a set or range (`0-3,6`, `1-1` for one) pins to these; \
              a virtual machine also takes `sockets=1,cores=2,threads=2`. Unset: all CPUs, a virtual machine gets one.");
    LIMITS_CPU_ALLOWANCE: "limits.cpu.allowance", Container, Value::Checked("percentage or times", parse::check_allowance),
        "How much CPU time to use" => default("100%"), live(Apply(Action::CpuTime), Record),
        long("A percentage (`50%`) is a share that counts under load only; a pair of times (`25ms/100ms`) is a hard limit.");
    LIMITS_CPU_NODES: "limits.cpu.nodes", Both, Value::Checked("NUMA node set or balanced", checks::cpu_nodes),
        "NUMA nodes to take CPUs from" => live(Apply(Action::Cpu), No),
        long("`balanced` chooses the least loaded node and keeps it.");
    LIMITS_CPU_PRIORITY: "limits.cpu.priority", Container, Value::Priority,
        "CPU priority among instances with the same share" => default("10"), live(Apply(Action::CpuTime), Record);
    LIMITS_DISK_PRIORITY: "limits.disk.priority", Both, Value::Priority, "Priority of disk requests under load"
        => default("5"), live(Apply(Action::DiskPriority), No);
    LIMITS_HUGEPAGES_64KB: "limits.hugepages.64KB", Container, Value::Size, "Limit for huge pages of 64 KB"
        => live(Apply(Action::HugePages), Record);
    LIMITS_HUGEPAGES_1MB: "limits.hugepages.1MB", Container, Value::Size, "Limit for huge pages of 1 MB"
        => live(Apply(Action::HugePages), Record);
    LIMITS_HUGEPAGES_2MB: "limits.hugepages.2MB", Container, Value::Size, "Limit for huge pages of 2 MB"
        => live(Apply(Action::HugePages), Record);
    LIMITS_HUGEPAGES_1GB: "limits.hugepages.1GB", Container, Value::Size, "Limit for huge pages of 1 GB"
        => live(Apply(Action::HugePages), Record);
    LIMITS_KERNEL: "limits.kernel.", Container, Value::Checked("limit or soft:hard", parse::check_rlimit),
        "Resource limit of the instance's first process" => prefix(Suffix::Rlimit),
        long("What follows is the limit's name in lower case, such as `nofile`; see getrlimit(2). One value sets the soft \
              and the hard limit, `soft:hard` sets them apart, `unlimited` lifts one.");
    LIMITS_MEMORY: "limits.memory", Both, Value::Checked("size or percentage", parse::check_memory),
        "Memory to use" => default_vm("1GiB"), live(Apply(Action::Memory), Apply(Action::Memory)),
        long("Bytes (`512MiB`) or a percentage of the host's memory. Unset: all of it, a virtual machine gets 1GiB.");
    LIMITS_MEMORY_ENFORCE: "limits.memory.enforce", Container, Value::OneOf(&["hard", "soft"]),
        "Whether the memory limit holds always or only under pressure" => default("hard"), live(Apply(Action::Memory), Record);
    LIMITS_MEMORY_HOTPLUG: "limits.memory.hotplug", Vm, Value::BoolOrSize, "Upper bound of memory that can be added live"
        => default("true");
    LIMITS_MEMORY_HUGEPAGES: "limits.memory.hugepages", Vm, Value::Bool, "Back the memory with huge pages" => default("false");
    LIMITS_MEMORY_OOM_PRIORITY: "limits.memory.oom_priority", Both, Value::Checked("integer -1000 to 1000", parse::check_oom),
        "Inclination of the kernel to kill this instance when memory is short" => default("0"),
        live(Apply(Action::OomPriority), Apply(Action::OomPriority));
    LIMITS_MEMORY_SWAP: "limits.memory.swap", Container, Value::BoolOrSize, "Swap to use beyond the memory limit"
        => default("true"), live(Apply(Action::Memory), Record);
    LIMITS_MEMORY_SWAP_PRIORITY: "limits.memory.swap.priority", Container, Value::Priority,
        "Inclination to keep this instance's memory out of swap" => default("10"), live(Apply(Action::Memory), Record),
        long("Control groups of version 2 have no such setting: the value is kept and has no effect.");
    LIMITS_PROCESSES: "limits.processes", Container, Value::Int, "Number of processes" => live(Apply(Action::Processes), Record);
}

/// The huge page keys with the size's name in the control group's files.
pub static LIMITS_HUGEPAGES: [(&Key, &str); 4] = [
    (&LIMITS_HUGEPAGES_64KB, "64KB"),
    (&LIMITS_HUGEPAGES_1MB, "1MB"),
    (&LIMITS_HUGEPAGES_2MB, "2MB"),
    (&LIMITS_HUGEPAGES_1GB, "1GB"),
];
