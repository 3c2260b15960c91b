//! Which zones have changed, and when their peers are told: a moment later, for changes come in rows, and not all the time.

use crate::network::zones::data::Zones;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// From a change until it is told of.
const DELAY: Duration = Duration::from_secs(1);
/// From one time that peers are told of a zone to the next.
const INTERVAL: Duration = Duration::from_secs(5);

/// When the peers of a zone were told of it, or are to be.
#[derive(Debug, Clone, Copy)]
enum Told {
    At(Instant),
    Due(Instant),
}

/// All zones by name.
#[derive(Debug, Default)]
pub struct Notices(BTreeMap<Box<[u8]>, Told>);

impl Notices {
    /// The zones `new` have taken the place of `old`.
    pub fn changed(&mut self, old: &Zones, new: &Zones, now: Instant) {
        self.0.retain(|apex, _| new.get(apex).is_some());
        for zone in new.all().iter().filter(|zone| old.get(&zone.apex).is_none_or(|o| o.serial != zone.serial)) {
            let due = match self.0.get(&zone.apex) {
                Some(Told::Due(due)) => *due,
                Some(Told::At(last)) => (now + DELAY).max(*last + INTERVAL),
                None => now + DELAY,
            };
            self.0.insert(zone.apex.clone(), Told::Due(due));
        }
    }

    /// When the first is due.
    pub fn next(&self) -> Option<Instant> {
        let due = |told: &Told| if let Told::Due(due) = told { Some(*due) } else { None };
        self.0.values().filter_map(due).min()
    }

    /// The zones whose peers are to be told now, which counts as done.
    pub fn take(&mut self, now: Instant) -> Vec<Box<[u8]>> {
        let is_due = |told: &Told| matches!(told, Told::Due(due) if *due <= now);
        let due = self.0.iter_mut().filter(|(_, told)| is_due(told));
        let took = due.map(|(apex, told)| {
            *told = Told::At(now);
            apex.clone()
        });
        took.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::zones::text;

    #[test]
    fn rows_of_changes_are_told_of_once() {
        let zones = |serials: [u32; 2]| {
            let [a, b] = serials;
            let told = format!("listen 127.0.0.1:53\nzone a.example {a}\nsoa a b\nzone b.example {b}\nsoa a b\n");
            text::parse(&told).expect("sound").1
        };
        let (start, mut notices) = (Instant::now(), Notices::default());
        let after = |ms: u64| start + Duration::from_millis(ms);
        notices.changed(&Zones::default(), &zones([1, 1]), start);
        assert!(notices.take(after(900)).is_empty());
        assert_eq!(notices.take(after(1000)).len(), 2);
        assert_eq!(notices.next(), None);
        notices.changed(&zones([1, 1]), &zones([2, 1]), after(1500));
        notices.changed(&zones([2, 1]), &zones([3, 1]), after(3000));
        assert_eq!(notices.next(), Some(after(6000)));
        assert_eq!(notices.take(after(6000)).len(), 1);
        notices.changed(&zones([3, 1]), &zones([4, 1]), after(20_000));
        assert_eq!(notices.next(), Some(after(21_000)));
        notices.changed(&zones([4, 1]), &Zones::default(), after(20_001));
        assert_eq!(notices.next(), None);
    }
}
