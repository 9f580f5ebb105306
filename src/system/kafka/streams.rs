//! The application of Kafka Streams that runs beside a launched Kafka: compiled, started, watched.
//!
//! # Design
//! Its source is one file, which the Java compiler turns into classes at each start: it needs no
//! other build, goes with every Kafka that has the jars, and is done before the broker is up. The
//! application says on its output where it listens; what it is to copy it is told by the driver.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::home;
use crate::plan::options::SystemOptions;
use crate::system::CpuLimit;
use crate::system::process::{Child, Output, printed_version};

/// The application.
const SOURCE: &str = include_str!("../../../scripts/kafka/StreamsHop.java");
/// Its class, and the name of the file.
const CLASS: &str = "StreamsHop";
/// What it says before the number of its port.
const LISTENING: &str = "listening on ";
/// Its Java heap, in bytes. It holds what is under way, and no state.
const HEAP: u64 = 512 << 20;
/// Pause between two looks at what it has said.
const POLL: Duration = Duration::from_millis(10);
/// What would make the jars of Kafka Streams available.
const JARS: &str = "scripts/get-kafka.sh fetches them with Maven, and an unpacked tarball of Apache Kafka has them";
/// What would make the Java compiler available.
const COMPILER: &str = "apt-get install openjdk-17-jdk-headless, or set JAVA_HOME to a JDK of version 17 or newer";

/// The option of its clients by which they find it; the driver reads it.
pub(super) const PORT: &str = "streams-port";

/// The option of clients that asks for it, and its word.
pub(super) const WANTED: (&str, &str) = ("transform", "streams");

/// Whether the options of a system ask for it.
pub(super) fn wanted(options: &SystemOptions) -> bool {
    options.get(WANTED.0).and_then(Value::as_str) == Some(WANTED.1)
}

/// What of it this Kafka lacks, and the remedy.
pub(super) fn missing(home: &Path) -> Option<(String, &'static str)> {
    let names = std::fs::read_dir(home.join("libs")).into_iter().flatten().filter_map(Result::ok);
    let mut names = names.filter_map(|entry| entry.file_name().into_string().ok());
    if !names.any(|name| name.starts_with("kafka-streams-") && name.ends_with(".jar")) {
        return Some((format!("{} has no libs/kafka-streams-*.jar", home.display()), JARS));
    }
    let compiler = home::compiler();
    let failed = printed_version(&compiler, &["-version"]).err()?;
    Some((format!("the Java compiler does not run ({}: {failed})", compiler.display()), COMPILER))
}

/// The compiler at work.
pub(super) struct Compilation {
    compiler: Child,
    home: PathBuf,
    dir: PathBuf,
}

/// A running application and where it listens.
pub(super) struct StreamsProcess {
    pub(super) child: Child,
    pub(super) port: u16,
}

/// Its log within the folder of a system.
pub(super) fn log(dir: &Path) -> PathBuf {
    dir.join("streams.log")
}

/// The folder of its classes within the folder of a system.
fn classes(dir: &Path) -> PathBuf {
    dir.join("streams")
}

impl Compilation {
    /// Begins to compile into the folder of the system.
    pub(super) fn begin(home: &Path, dir: &Path) -> Result<Self, String> {
        let into = classes(dir);
        std::fs::create_dir_all(&into).map_err(|e| format!("cannot make {}: {e}", into.display()))?;
        let source = into.join(CLASS).with_extension("java");
        std::fs::write(&source, SOURCE).map_err(|e| format!("cannot write {}: {e}", source.display()))?;
        let mut command = Command::new(home::compiler());
        // A short life, as that of other tools of Kafka.
        command.args(["-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC", "-J-XX:-UsePerfData", "-proc:none", "-cp"]);
        command.arg(home.join("libs/*")).arg("-d").arg(&into).arg(&source);
        let compiler = Child::spawn(command, &log(dir), Output::Log, None)
            .map_err(|e| format!("{} could not be started: {e}", home::compiler().display()))?;
        Ok(Self { compiler, home: home.to_owned(), dir: dir.to_owned() })
    }

    /// Waits for the compiler, starts the application and waits until it says where it listens.
    pub(super) fn start(
        mut self,
        logging: &Path,
        deadline: Instant,
        cpus: Option<&CpuLimit>,
    ) -> Result<StreamsProcess, String> {
        let left = || deadline.saturating_duration_since(Instant::now());
        match self.compiler.wait(left()) {
            Some(status) if status.success() => {}
            Some(_) => return Err(format!("its compiler {}", self.compiler.ended().unwrap_or_default())),
            None => return Err("its compiler did not end in time".into()),
        }
        let mut command = Command::new(home::java());
        command.arg(format!("-Dlog4j2.configurationFile={}", logging.display()));
        command.args([format!("-Xmx{HEAP}")]).args(super::JAVA);
        let path = [classes(&self.dir), self.home.join("libs/*")];
        let path: Vec<_> = path.iter().map(|part| part.display().to_string()).collect();
        command.arg("-cp").arg(path.join(":")).arg(CLASS).current_dir(&self.dir);
        let log = log(&self.dir);
        let mut child = Child::spawn(command, &log, Output::Log, cpus)
            .map_err(|e| format!("{} could not be started: {e}", home::java().display()))?;
        loop {
            let output = std::fs::read(&log).unwrap_or_default();
            if let Some(port) = port(&String::from_utf8_lossy(&output)) {
                return Ok(StreamsProcess { child, port });
            }
            if let Some(how) = child.ended() {
                return Err(format!("it {how}"));
            }
            if left().is_zero() {
                return Err("it did not say in time where it listens".into());
            }
            std::thread::sleep(POLL);
        }
    }
}

/// The port in what it has said, once the line is whole.
fn port(output: &str) -> Option<u16> {
    let (_, rest) = output.split_once(LISTENING)?;
    rest.split_once('\n')?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_port_is_read_when_its_line_is_whole() {
        assert_eq!(port("warning: x\nlistening on 3907"), None);
        assert_eq!(port("warning: x\nlistening on 39075\nmore"), Some(39075));
        assert_eq!(port("nothing\n"), None);
    }

    #[test]
    fn it_runs_where_the_option_says_so() {
        let of = |value: Value| wanted(value.as_object().unwrap());
        assert!(of(json!({ "transform": "streams" })));
        assert!(!of(json!({ "transform": "client" })) && !of(json!({ "acks": "all" })));
    }

    #[test]
    fn jars_that_are_missing_are_named_with_what_gets_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("libs")).unwrap();
        std::fs::write(dir.path().join("libs/kafka-clients-4.4.0.jar"), "").unwrap();
        let (reason, remedy) = missing(dir.path()).unwrap();
        assert!(reason.ends_with("has no libs/kafka-streams-*.jar"), "{reason}");
        assert!(remedy.contains("scripts/get-kafka.sh"), "{remedy}");
    }
}
