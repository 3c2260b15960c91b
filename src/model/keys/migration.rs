//! `migration.*` and `agent.*`.

use super::key::{Key, Live::Record, Scope};
use super::value::Value;

key_table! {
    MIGRATION_INCREMENTAL_MEMORY: "migration.incremental.memory", Container, Value::Bool,
        "Copy memory while the instance still runs" => default("false"), live(Record, Record);
    MIGRATION_INCREMENTAL_MEMORY_GOAL: "migration.incremental.memory.goal", Container, Value::Uint32,
        "Percentage of memory to have in step before stopping" => default("70"), live(Record, Record);
    MIGRATION_INCREMENTAL_MEMORY_ITERATIONS: "migration.incremental.memory.iterations", Container, Value::Uint32,
        "Most rounds of copying before stopping" => default("10"), live(Record, Record);
    MIGRATION_STATEFUL: "migration.stateful", Both, Value::Bool, "Allow stateful stop, snapshot and live migration"
        => default("false"), long("Rules out devices and features that cannot be carried over.");
    AGENT_NIC_CONFIG: "agent.nic_config", Vm, Value::Bool, "Let the agent set names and MTU of the network interfaces"
        => default("false");
}
