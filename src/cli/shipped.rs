//! The scenarios of `scenarios/`, built into the program.

use crate::plan::problem::suggest;

/// A scenario that every build of msgbench has.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShippedScenario {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
}

macro_rules! scenarios {
    ($($name:literal)*) => {
        &[$(ShippedScenario {
            name: $name,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/", $name, ".toml")),
        }),*]
    };
}

/// All of them, by name.
pub(super) const ALL: &[ShippedScenario] = scenarios![
    "auth" "batch-publish" "bridge" "burst" "capacity" "capacity-durable" "ceiling" "client" "compaction" "connect"
    "consumer-crash" "exactly-once" "failover" "failover-cut" "failover-planned" "fanin" "fanout" "floor"
    "flow-control" "idle-connections" "intruder" "key-value" "leaf-streams" "mirror" "mixed" "partitions" "payload"
    "power-loss" "queue-group" "rebalance" "recovery" "redelivery" "replay" "replay-file" "replicated" "request-reply"
    "retention" "slow-consumer" "stream" "stream-processing" "tls" "topology"
];

/// The files that they read messages from: path relative to the scenario, and content.
pub(super) const DATA: &[(&str, &[u8])] =
    &[("data/orders.jsonl", include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/data/orders.jsonl")))];

impl ShippedScenario {
    /// The question in its first line.
    pub(super) fn question(self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches("# Question: ")
    }

    /// The files of [`DATA`] that it reads.
    pub(super) fn data(self) -> impl Iterator<Item = &'static (&'static str, &'static [u8])> {
        DATA.iter().filter(move |(path, _)| self.text.contains(path))
    }
}

/// The scenario of that name.
pub(super) fn find(name: &str) -> Option<ShippedScenario> {
    ALL.iter().copied().find(|s| s.name == name)
}

/// `did you mean` with the nearest name, else where the names are listed.
pub(super) fn hint(name: &str) -> String {
    let names: Vec<&str> = ALL.iter().map(|s| s.name).collect();
    match suggest(name, &names).filter(|words| words.starts_with("did you mean")) {
        Some(words) => format!("{words} `msgbench scenarios` lists all"),
        None => "`msgbench scenarios` lists those built in".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn files(folder: &str, within: &str) -> Vec<String> {
        let all = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
        let mut names: Vec<String> = all
            .map(|e| e.unwrap())
            .filter(|e| e.file_type().unwrap().is_file())
            .map(|e| format!("{within}{}", e.file_name().to_string_lossy()))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn every_file_of_the_folder_is_built_in() {
        let names: Vec<String> = ALL.iter().map(|s| format!("{}.toml", s.name)).collect();
        let mut sorted = names.clone();
        sorted.sort();
        assert_eq!(files("scenarios", ""), sorted, "the list in src/cli/shipped.rs is not the folder");
        let data: Vec<String> = DATA.iter().map(|(path, _)| path.to_string()).collect();
        assert_eq!(files("scenarios/data", "data/"), data);
    }

    #[test]
    fn a_misspelt_name_is_answered_with_the_one_that_was_meant() {
        for s in ALL {
            assert!(find(s.name).is_some() && !s.question().is_empty());
            let wrong = format!("{}x", s.name);
            assert!(find(&wrong).is_none());
            assert!(hint(&wrong).contains(s.name), "{}", hint(&wrong));
        }
        assert!(hint("zzzzzzzz").contains("msgbench scenarios"));
    }
}
