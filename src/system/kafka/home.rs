//! Where Kafka's own distribution is on this machine, and the Java that runs it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::super::Availability;
use super::super::process::printed_version;

/// Names the folder of an unpacked Kafka.
pub(crate) const VARIABLE: &str = "MSGBENCH_KAFKA_HOME";
/// What would make Kafka available.
const REMEDY: &str =
    "scripts/get-kafka.sh fetches it with Maven, or set MSGBENCH_KAFKA_HOME to the folder of an unpacked Kafka";
/// What would make Java available.
const JAVA_REMEDY: &str = "apt-get install openjdk-17-jre-headless, or set JAVA_HOME to a Java of version 17 or newer";
/// Where the script puts it, in the project's folder.
const FETCHED: &str = ".cache/kafka";
/// The oldest Java that runs a broker of Kafka 4.
const JAVA: u32 = 17;
/// The distribution in this folder: the version in the name of its main jar.
pub(super) fn version(home: &Path) -> Option<String> {
    let entries = std::fs::read_dir(home.join("libs")).ok()?;
    entries.filter_map(Result::ok).find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let rest = name.strip_prefix("kafka_")?.strip_suffix(".jar")?;
        let (_, version) = rest.split_once('-')?;
        version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
    })
}

/// The folder at `explicit`; else the fetched one of the current folder, or of the project this
/// program was built in.
fn find(explicit: Option<OsString>) -> Result<(PathBuf, String), String> {
    if let Some(home) = explicit.map(PathBuf::from) {
        return match version(&home) {
            Some(version) => Ok((home, version)),
            None => Err(format!("{VARIABLE} names {}, which has no libs/kafka_*.jar", home.display())),
        };
    }
    let here = std::env::current_dir().into_iter();
    let program = std::env::current_exe().unwrap_or_default();
    let near = program.ancestors().skip(1).take(5).map(Path::to_owned);
    let mut places = here.chain(near).map(|folder| folder.join(FETCHED));
    let found = places.find_map(|home| version(&home).map(|version| (home, version)));
    found.ok_or_else(|| format!("no Kafka in {FETCHED}, and {VARIABLE} is not set"))
}

/// The `java` to run: of JAVA_HOME, else of PATH.
pub(super) fn java() -> PathBuf {
    tool("java")
}

/// The Java compiler: of JAVA_HOME, else of PATH.
pub(super) fn compiler() -> PathBuf {
    tool("javac")
}

fn tool(name: &str) -> PathBuf {
    match std::env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin").join(name)) {
        Some(program) if program.is_file() => program,
        _ => PathBuf::from(name),
    }
}

/// The version a Java says it is: `17.0.15` of `openjdk version "17.0.15" 2025-04-15`.
fn java_version(program: &Path) -> Result<String, String> {
    let text = printed_version(program, &["-XX:TieredStopAtLevel=1", "--version"])?;
    text.split_whitespace().nth(1).map(str::to_owned).ok_or_else(|| "--version printed nothing".to_owned())
}

/// Whether a Kafka can be launched here.
pub(crate) fn availability(explicit: Option<OsString>) -> Availability {
    let missing = |reason: String, remedy: &str| Availability::Missing { reason, remedy: remedy.to_owned() };
    let (home, version) = match find(explicit) {
        Ok(found) => found,
        Err(reason) => return missing(reason, REMEDY),
    };
    let program = java();
    let java = match java_version(&program) {
        Ok(java) => java,
        Err(reason) => {
            return missing(
                format!("Kafka {version} needs Java; {} does not run: {reason}", program.display()),
                JAVA_REMEDY,
            );
        }
    };
    let major = java.split(['.', '-', '+']).next().and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
    if major < JAVA {
        return missing(format!("Kafka {version} needs Java {JAVA}, and {} is {java}", program.display()), JAVA_REMEDY);
    }
    Availability::Found { program: home, version: format!("{version}, on Java {java}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_a_kafka_by_its_main_jar() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(version(dir.path()), None);
        std::fs::create_dir(dir.path().join("libs")).unwrap();
        for name in ["kafka-clients-4.1.1.jar", "kafka_2.13-4.1.1-test.txt", "kafka_2.13-4.1.1.jar"] {
            std::fs::write(dir.path().join("libs").join(name), "").unwrap();
        }
        assert_eq!(version(dir.path()).as_deref(), Some("4.1.1"));
    }

    #[test]
    fn what_is_missing_comes_with_the_command_that_gets_it() {
        let Availability::Missing { reason, remedy } = availability(Some("/no/such/kafka".into())) else {
            panic!("found what is not there");
        };
        assert_eq!(reason, "MSGBENCH_KAFKA_HOME names /no/such/kafka, which has no libs/kafka_*.jar");
        assert!(remedy.contains("scripts/get-kafka.sh"), "{remedy}");
    }
}
