//! `boot.*` and `cluster.*`: starting and stopping with the host.

use super::key::{Key, Live::Record, Scope};
use super::value::Value;

key_table! {
    BOOT_AUTORESTART: "boot.autorestart", Both, Value::Bool, "Start again after an unexpected end"
        => default("false"), live(Record, Record),
           long("At most ten times a minute. An end asked for from inside the instance is not unexpected.");
    BOOT_AUTOSTART: "boot.autostart", Both, Value::BoolOr(&["last-state"]), "Start when the host starts"
        => live(Record, Record),
           long("Unset and `last-state` start the instance if it ran when the host went down.");
    BOOT_AUTOSTART_DELAY: "boot.autostart.delay", Both, Value::Int, "Seconds to wait after starting this instance"
        => default("0"), live(Record, Record);
    BOOT_AUTOSTART_PRIORITY: "boot.autostart.priority", Both, Value::Int, "Order of starting, higher first"
        => live(Record, Record), long("Instances without a priority start first, side by side.");
    BOOT_HOST_SHUTDOWN_ACTION: "boot.host_shutdown_action", Both, Value::OneOf(&["stop", "force-stop", "stateful-stop"]),
        "What to do when the host shuts down" => default("stop"), live(Record, Record);
    BOOT_HOST_SHUTDOWN_TIMEOUT: "boot.host_shutdown_timeout", Both, Value::Int,
        "Seconds to wait for a clean stop at host shutdown" => default("30"), live(Record, Record);
    BOOT_STOP_PRIORITY: "boot.stop.priority", Both, Value::Int, "Order of stopping at host shutdown, higher first"
        => default("0"), live(Record, Record), long("Instances of equal priority stop side by side.");
    CLUSTER_EVACUATE: "cluster.evacuate", Both,
        Value::OneOf(&["auto", "migrate", "live-migrate", "refresh-migrate", "stop", "stateful-stop", "force-stop"]),
        "What to do when the cluster member is evacuated" => default("auto"), live(Record, Record);
}
