//! Limits of bandwidth by traffic control (tc(8), tc-htb(8), tc-police(8), linux/pkt_sched.h), set on the host's side of an
//! interface: what goes to the instance is shaped by a class of HTB, what comes from it is policed where it arrives.

use super::step::{Step, Target};
use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcHeader, TcMessage, TcOption};

const HTB_PARMS: u16 = 1;
const HTB_INIT: u16 = 2;
const HTB_RATE64: u16 = 6;
const HTB_CEIL64: u16 = 7;
/// The version of the interface, `TC_HTB_PROTOVER`.
const HTB_VERSION: u32 = 3;
/// Bytes a class may send in its turn: a part of its rate, within what the kernel does not complain of.
const HTB_RATE_TO_QUANTUM: u32 = 10;
const QUANTUM: (u64, u64) = (1600, 200_000);

const MATCHALL_ACT: u16 = 2;
const ACT_KIND: u16 = 1;
const ACT_OPTIONS: u16 = 2;
const POLICE_TBF: u16 = 1;
const POLICE_RATE: u16 = 2;
const POLICE_RATE64: u16 = 8;
/// `TC_ACT_SHOT`: what is too much is dropped.
const DROP: u32 = 2;

/// `TC_LINKLAYER_ETHERNET`: the kernel computes times by itself.
const ETHERNET: u8 = 1;

const ROOT: TcHandle = TcHandle { major: 1, minor: 0 };
const CLASS: TcHandle = TcHandle { major: 1, minor: 0x10 };
const ARRIVAL: TcHandle = TcHandle { major: 0xffff, minor: 0 };

/// Packets are shaped and policed as they are handed over: segments that are still joined are up to this long.
const LONGEST: u64 = 64 * 1024;

/// Nanoseconds in the unit of times (`PSCHED_SHIFT`).
const TICK_SHIFT: u32 = 6;

/// Most entries of a table of times.
const TABLE: u32 = 256;

/// Limits what is sent to the instance to `rate` bits a second, in the place of an earlier limit; three steps.
pub fn limit_ingress(on: &Target, rate: u64) -> Vec<Step> {
    let what = || format!("Failed to limit ingress of \"{}\"", on.name);
    let bytes = rate / 8;
    let mut init = Vec::new();
    // The class of packets that no filter sorted: all.
    for number in [HTB_VERSION, HTB_RATE_TO_QUANTUM, u32::from(CLASS.minor), 0, 0] {
        init.extend(number.to_ne_bytes());
    }
    let root = message(on, TcHandle::ROOT, ROOT, "htb", vec![DefaultNla::new(HTB_INIT, init)]);
    // A millisecond's worth, and at least a packet.
    let burst = ticks(bytes, (bytes / 1000).max(1600));
    let mut parms = [rate_spec(bytes, 0), rate_spec(bytes, 0)].concat();
    let quantum = (bytes / u64::from(HTB_RATE_TO_QUANTUM)).clamp(QUANTUM.0, QUANTUM.1);
    for number in [burst, burst, u32::try_from(quantum).unwrap_or(u32::MAX), 0, 0] {
        parms.extend(number.to_ne_bytes());
    }
    let mut options = vec![DefaultNla::new(HTB_PARMS, parms)];
    if bytes > u64::from(u32::MAX) {
        options.push(DefaultNla::new(HTB_RATE64, bytes.to_ne_bytes().into()));
        options.push(DefaultNla::new(HTB_CEIL64, bytes.to_ne_bytes().into()));
    }
    let class = message(on, ROOT, CLASS, "htb", options);
    // Within the class, flows have their turns.
    let leaf = message(on, CLASS, TcHandle { major: 0x10, minor: 0 }, "fq_codel", Vec::new());
    vec![
        remove_ingress(on),
        Step::new(what(), RouteNetlinkMessage::NewQueueDiscipline(root)).flags(NLM_F_CREATE | NLM_F_EXCL),
        Step::new(what(), RouteNetlinkMessage::NewTrafficClass(class)).flags(NLM_F_CREATE | NLM_F_EXCL),
        Step::new(what(), RouteNetlinkMessage::NewQueueDiscipline(leaf)).flags(NLM_F_CREATE | NLM_F_REPLACE),
    ]
}

/// Limits what the instance sends to `rate` bits a second, in the place of an earlier limit.
pub fn limit_egress(on: &Target, rate: u64) -> Vec<Step> {
    let what = || format!("Failed to limit egress of \"{}\"", on.name);
    let arrival = message(on, TcHandle::INGRESS, ARRIVAL, "ingress", Vec::new());
    let mut filter = message(on, ARRIVAL, TcHandle::UNSPEC, "matchall", vec![police(rate)]);
    // Priority and protocol: every packet.
    filter.header.info = (1 << 16) | u32::from((libc::ETH_P_ALL as u16).to_be());
    vec![
        remove_egress(on),
        Step::new(what(), RouteNetlinkMessage::NewQueueDiscipline(arrival)).flags(NLM_F_CREATE | NLM_F_EXCL),
        Step::new(what(), RouteNetlinkMessage::NewTrafficFilter(filter)).flags(NLM_F_CREATE | NLM_F_EXCL),
    ]
}

/// Ends the limit of what is sent to the instance. None being there is no error.
pub fn remove_ingress(on: &Target) -> Step {
    let what = format!("Failed to remove the limit of ingress of \"{}\"", on.name);
    let message = header(on, TcHandle::ROOT, TcHandle::UNSPEC);
    // The kernel's own discipline cannot be removed: ENOENT.
    Step::new(what, RouteNetlinkMessage::DelQueueDiscipline(message)).passes(&[libc::ENOENT, libc::ENODEV])
}

/// Ends the limit of what the instance sends. None being there is no error.
pub fn remove_egress(on: &Target) -> Step {
    let what = format!("Failed to remove the limit of egress of \"{}\"", on.name);
    let message = header(on, TcHandle::INGRESS, ARRIVAL);
    Step::new(what, RouteNetlinkMessage::DelQueueDiscipline(message)).passes(&[
        libc::ENOENT,
        libc::EINVAL,
        libc::ENODEV,
    ])
}

/// The filter's action list: one that drops what is too much.
fn police(rate: u64) -> DefaultNla {
    let bytes = rate / 8;
    // A fifth of a second's worth, as Incus has it.
    let burst = ticks(bytes, (rate / 40).max(LONGEST));
    let cell = cell(LONGEST);
    let mut tbf = Vec::new();
    for number in [0, DROP, 0, burst, u32::try_from(LONGEST).unwrap_or(u32::MAX)] {
        tbf.extend(number.to_ne_bytes());
    }
    tbf.extend(rate_spec(bytes, cell));
    // No peak rate; counts of users and capabilities are the kernel's.
    tbf.extend([0; 12 + 4 + 4 + 4]);
    let table = (1..=TABLE).flat_map(|n| ticks(bytes, u64::from(n) << cell).to_ne_bytes()).collect();
    let mut options = vec![DefaultNla::new(POLICE_TBF, tbf), DefaultNla::new(POLICE_RATE, table)];
    if bytes > u64::from(u32::MAX) {
        options.push(DefaultNla::new(POLICE_RATE64, bytes.to_ne_bytes().into()));
    }
    let action = [DefaultNla::new(ACT_KIND, b"police\0".to_vec()), nested(ACT_OPTIONS, &options)];
    nested(MATCHALL_ACT, &[nested(1, &action)])
}

/// `struct tc_ratespec`; a rate beyond 32 bits stands in an attribute of its own.
fn rate_spec(bytes: u64, cell: u8) -> Vec<u8> {
    let rate = u32::try_from(bytes).unwrap_or(u32::MAX);
    // Size of a cell, link layer, overhead, alignment of cells, smallest packet unit.
    let mut spec = vec![cell, ETHERNET, 0, 0, 0xff, 0xff, 0, 0];
    spec.extend(rate.to_ne_bytes());
    spec
}

/// The power of two that makes the table reach up to `longest`.
fn cell(longest: u64) -> u8 {
    (0..32).find(|cell| longest >> cell < u64::from(TABLE)).unwrap_or(32)
}

/// How long `size` bytes take at `rate` bytes a second.
fn ticks(rate: u64, size: u64) -> u32 {
    let nanoseconds = u128::from(size) * 1_000_000_000 / u128::from(rate.max(1));
    u32::try_from(nanoseconds >> TICK_SHIFT).unwrap_or(u32::MAX)
}

fn nested(kind: u16, inner: &[DefaultNla]) -> DefaultNla {
    let mut value = vec![0; inner.buffer_len()];
    inner.emit(&mut value);
    DefaultNla::new(kind | NLA_F_NESTED, value)
}

fn header(on: &Target, parent: TcHandle, handle: TcHandle) -> TcMessage {
    let mut message = TcMessage::default();
    message.header = TcHeader { index: on.index.cast_signed(), parent, handle, ..TcHeader::default() };
    message
}

fn message(on: &Target, parent: TcHandle, handle: TcHandle, kind: &str, options: Vec<DefaultNla>) -> TcMessage {
    let mut message = header(on, parent, handle);
    message.attributes.push(TcAttribute::Kind(kind.into()));
    if !options.is_empty() {
        message.attributes.push(TcAttribute::Options(options.into_iter().map(TcOption::Other).collect()));
    }
    message
}
