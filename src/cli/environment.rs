//! The environment variables that msgbench reads, for `--help` and the man pages.

/// Name and meaning of each.
pub(super) const VARIABLES: &[(&str, &str)] = &[
    ("MSGBENCH_REDIS_SERVER", "the redis-server program to start [default: redis-server on the PATH]"),
    ("MSGBENCH_NATS_SERVER", "the nats-server program to start [default: nats-server on the PATH]"),
    ("MSGBENCH_KAFKA_HOME", "the unpacked Kafka distribution to start brokers from"),
    ("JAVA_HOME", "the Java that Kafka runs on [default: java on the PATH]"),
    ("MSGBENCH_BIN", "the program that serves as the reference broker [default: msgbench itself]"),
    ("MSGBENCH_CERTIFICATE", "the certificate of `calibrate` that runs cite; empty: none"),
    ("MSGBENCH_HOST_ROOT", "the folder with /proc and /sys of the host, mounted in a container [default: /]"),
    ("XDG_DATA_HOME", "the folder that certificates are kept below [default: ~/.local/share]"),
    ("HOME", "what ~ stands for in the paths of a scenario"),
    ("PATH", "where programs of systems are looked for"),
    ("TMPDIR", "the folder for temporary files [default: /tmp]"),
    ("NO_COLOR", "no colours, when it is set and not empty"),
    ("TERM", "no colours on a terminal that is `dumb`"),
];

/// What stands below `--help`.
pub(super) fn after_help() -> String {
    let mut out = String::from("Environment variables:\n");
    for (name, meaning) in VARIABLES {
        out += &format!("  {name}: {meaning}\n");
    }
    out += "  ${NAME} in a string of a scenario is the variable NAME\n";
    out + "\nExit codes: 0 passed, 1 internal error, 2 usage or scenario error, 3 regression or unmet \
           expectation, 4 invalid measurement, 5 inconclusive where the policy says that fails, 6 system under \
           test failed, 7 the result, or a part of it, could not be written, 130 interrupted"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    /// What the text of a source file reads from the environment outside of its tests: names in
    /// calls, and string constants that look like variables of ours.
    fn read_in(text: &str, found: &mut BTreeSet<String>) {
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        let variable = |word: &str| {
            let shape = word.len() > 3 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            shape && (word.starts_with("MSGBENCH_") || word.contains("HOME") || ["NO_COLOR"].contains(&word))
        };
        for line in text.lines().filter(|l| !l.trim_start().starts_with("//")) {
            let quoted: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
            found.extend(quoted.iter().filter(|w| variable(w)).map(|w| w.to_string()));
            for call in ["env::var(\"", "env::var_os(\""] {
                let names = line.split(call).skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(names.map(str::to_owned));
            }
        }
    }

    fn sources(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            let own = entry.ends_with("src/cli/environment.rs");
            match entry.is_dir() {
                true => sources(&entry, found),
                false if entry.extension().is_some_and(|e| e == "rs") && !own => {
                    read_in(&std::fs::read_to_string(entry).unwrap(), found);
                }
                false => {}
            }
        }
    }

    /// Read in files that are tests as a whole.
    const OF_TESTS: [&str; 1] = ["MSGBENCH_NO_SKIP"];

    #[test]
    fn every_variable_that_the_code_reads_is_in_the_help() {
        let mut read = BTreeSet::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut read);
        read.retain(|name| !OF_TESTS.contains(&name.as_str()));
        let named: BTreeSet<String> = VARIABLES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(read, named, "src/cli/environment.rs names other variables than the code reads");
    }

    #[test]
    fn the_scan_sees_calls_and_constants_and_no_tests() {
        let mut found = BTreeSet::new();
        read_in(
            "const V: &str = \"MSGBENCH_X\";\nstd::env::var_os(\"TMP\")\n// \"MSGBENCH_NO\"\n#[cfg(test)]\nvar(\"MSGBENCH_T\")",
            &mut found,
        );
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["MSGBENCH_X", "TMP"]);
    }
}
