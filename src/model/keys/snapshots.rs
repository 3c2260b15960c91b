//! `snapshots.*`: when snapshots are taken, how they are named and how long they live.

use super::checks;
use super::key::{Key, Live::Record, Scope};
use super::value::Value;

const EXPIRY: Value = Value::Checked("life time such as 1w 2d", checks::expiry);

key_table! {
    SNAPSHOTS_EXPIRY: "snapshots.expiry", Both, EXPIRY, "Life time of snapshots" => live(Record, Record),
        long("Numbers with `S` seconds, `M` minutes, `H` hours, `d` days, `w` weeks, `m` months, `y` years, separated by \
              spaces. Kept with each snapshot when it is taken.");
    SNAPSHOTS_EXPIRY_MANUAL: "snapshots.expiry.manual", Both, EXPIRY, "Life time of snapshots taken by hand"
        => live(Record, Record), long("As snapshots.expiry; unset: that key's.");
    SNAPSHOTS_PATTERN: "snapshots.pattern", Both, Value::Line, "Name of snapshots nobody named" => default("snap%d"),
        live(Record, Record), long("`%d` becomes the next free number; `{{ creation_date }}` the date.");
    SNAPSHOTS_SCHEDULE: "snapshots.schedule", Both, Value::Checked("cron expressions", checks::cron),
        "When to take snapshots" => live(Record, Record),
        long("A cron expression of five fields, or a list of @hourly, @daily, @midnight, @weekly, @monthly, @annually, \
              @yearly, @startup, @never, separated by comma and space.");
    SNAPSHOTS_SCHEDULE_STOPPED: "snapshots.schedule.stopped", Both, Value::Bool, "Take them of a stopped instance too"
        => default("false"), live(Record, Record);
}
