//! Names for instances nobody named: an adjective and an animal.

const ADJECTIVES: [&str; 67] = [
    "able", "amber", "apt", "bold", "brave", "bright", "brisk", "busy", "calm", "candid", "cheery", "civil", "clear",
    "clever", "cosy", "crisp", "curious", "daring", "deft", "eager", "early", "easy", "fair", "famous", "fast", "fine",
    "firm", "fond", "frank", "free", "fresh", "gentle", "glad", "golden", "grand", "happy", "hardy", "honest",
    "humble", "keen", "kind", "lively", "loyal", "lucky", "mellow", "merry", "mild", "modest", "neat", "noble",
    "patient", "plucky", "polite", "proud", "quick", "quiet", "ready", "sharp", "smart", "solid", "steady", "sunny",
    "swift", "tidy", "warm", "wise", "witty",
];

const ANIMALS: [&str; 102] = [
    "ant", "badger", "bat", "bear", "beaver", "bee", "bison", "boar", "buck", "camel", "carp", "cat", "chough", "cod",
    "colt", "cow", "crab", "crane", "crow", "deer", "dingo", "dog", "dove", "duck", "eagle", "eel", "elk", "emu",
    "ewe", "falcon", "fawn", "ferret", "finch", "fox", "frog", "gannet", "gecko", "gibbon", "goat", "goose", "grouse",
    "gull", "hare", "hawk", "hen", "heron", "ibex", "ibis", "jackal", "jay", "kite", "koala", "lark", "lemur", "lion",
    "llama", "lynx", "magpie", "mole", "moth", "mouse", "mule", "newt", "octopus", "otter", "owl", "ox", "panda",
    "perch", "pika", "pony", "puffin", "quail", "rabbit", "raven", "robin", "rook", "salmon", "seal", "shrew", "skink",
    "sloth", "snail", "sparrow", "squid", "stoat", "stork", "swan", "tapir", "tern", "tiger", "toad", "trout", "viper",
    "vole", "walrus", "wasp", "whale", "wolf", "wren", "yak", "zebra",
];

/// A random `adjective-animal`. Always a valid instance name; whether it is free is for the caller to see.
pub fn random() -> String {
    // The bytes 6 and 8 of a version 4 uuid hold fixed bits (RFC 9562, section 5.4); these do not.
    let bytes = *uuid::Uuid::new_v4().as_bytes();
    let pick = |at: usize, words: &'static [&'static str]| {
        words[usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]])) % words.len()]
    };
    format!("{}-{}", pick(0, &ADJECTIVES), pick(2, &ANIMALS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::names::InstanceName;
    use std::collections::BTreeSet;

    #[test]
    fn every_pair_is_a_name() {
        for a in ADJECTIVES {
            for b in ANIMALS {
                assert!(InstanceName::parse(&format!("{a}-{b}")).is_ok());
            }
        }
        let names: BTreeSet<String> = (0..200).map(|_| random()).collect();
        assert!(names.len() > 150, "{} of 200 differ", names.len());
    }
}
