//! The log in the words of Kafka's own command line tools: topics, console producer and consumer,
//! groups, performance.
//!
//! They come with `scripts/get-kafka.sh`, or with an unpacked Apache Kafka named in
//! MSGBENCH_KAFKA_HOME.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::log_support::{Client, start, text};
use crate::needs;
use msgbench::broker::kafka::KafkaConfig;
use msgbench::broker::log::SyncPolicy;

/// Bound on one command, the start of a Java virtual machine on a busy machine included.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs classes of Kafka's tools against one broker.
struct Tools {
    script: PathBuf,
    broker: String,
}

impl Tools {
    /// What a class says on standard output, given these arguments and this input. It must end
    /// well, and in time.
    fn call(&self, class: &str, args: &[&str], input: &str) -> String {
        let mut child = Command::new(&self.script)
            .arg(format!("org.apache.kafka.tools.{class}"))
            .args(args)
            .env("KAFKA_HEAP_OPTS", "-Xmx256m")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        // What does not read its input ends before all of it is written.
        thread::spawn(move || stdin.write_all(input.as_bytes()));
        let (out, err) = (text_of(child.stdout.take().unwrap()), text_of(child.stderr.take().unwrap()));
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{class} {args:?} does not end: {}{}", out.join().unwrap(), err.join().unwrap());
            }
            thread::sleep(Duration::from_millis(20));
        };
        let (out, err) = (out.join().unwrap(), err.join().unwrap());
        assert!(status.success(), "{class} {args:?}: {out}{err}");
        out
    }

    /// The same for a tool that is told the broker's address in the usual way.
    fn ask(&self, class: &str, args: &[&str], input: &str) -> String {
        self.call(class, &[&["--bootstrap-server", &self.broker], args].concat(), input)
    }
}

fn text_of(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What could be read is what there is to show.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A broker and the tools; `None` where there are none, and the test is skipped.
fn tools(sync: SyncPolicy) -> Option<(tempfile::TempDir, crate::log_support::Running, Tools)> {
    let script = needs::kafka_tools()?;
    let dir = tempfile::tempdir().unwrap();
    let mut config = KafkaConfig::new(dir.path());
    config.log.sync = sync;
    let broker = start(config);
    let tools = Tools { script, broker: broker.address.to_string() };
    Some((dir, broker, tools))
}

fn lines(numbers: std::ops::Range<usize>) -> String {
    numbers.map(|n| format!("{n}\n")).collect()
}

#[test]
fn the_console_tools_are_served() {
    let Some((_dir, broker, tools)) = tools(SyncPolicy::Group) else { return };
    tools.ask("TopicCommand", &["--create", "--topic", "t", "--partitions", "1"], "");
    tools.ask("TopicCommand", &["--create", "--topic", "wide", "--partitions", "3"], "");
    tools.ask("TopicCommand", &["--alter", "--topic", "wide", "--partitions", "4"], "");
    let described = tools.ask("TopicCommand", &["--describe", "--topic", "wide"], "");
    assert!(described.contains("PartitionCount: 4") && described.contains("Partition: 3"), "{described}");
    // Produced and read from the beginning: one partition keeps the order, four keep all there is.
    for (topic, codec) in [("t", "none"), ("wide", "zstd")] {
        tools.ask("ConsoleProducer", &["--topic", topic, "--compression-codec", codec], &lines(0..500));
        let read = tools.ask(
            "consumer.ConsoleConsumer",
            &["--topic", topic, "--from-beginning", "--max-messages", "500", "--timeout-ms", "30000"],
            "",
        );
        let mut read: Vec<&str> = read.lines().collect();
        if topic == "wide" {
            read.sort_by_key(|line| line.parse::<usize>().unwrap());
        }
        assert_eq!(read.join("\n") + "\n", lines(0..500), "{topic}");
    }
    // A group commits what it has read, and whoever comes next goes on from there.
    for from in [0, 10] {
        let args =
            ["--topic", "t", "--group", "g", "--from-beginning", "--max-messages", "10", "--timeout-ms", "30000"];
        assert_eq!(tools.ask("consumer.ConsoleConsumer", &args, ""), lines(from..from + 10));
    }
    let group = tools.ask("consumer.group.ConsumerGroupCommand", &["--describe", "--group", "g"], "");
    let row = group.lines().find(|line| line.starts_with("g ")).unwrap_or_else(|| panic!("{group}"));
    let columns: Vec<&str> = row.split_whitespace().collect();
    // Group, topic, partition, committed offset, end of the log, lag.
    assert_eq!(columns[1..6], ["t", "0", "20", "500", "480"], "{group}");
    tools.ask("consumer.group.ConsumerGroupCommand", &["--delete", "--group", "g"], "");
    tools.ask("TopicCommand", &["--delete", "--topic", "t"], "");
    assert_eq!(tools.ask("TopicCommand", &["--list"], "").lines().filter(|line| *line == "t").count(), 0);
    assert_eq!(broker.counters.totals().protocol_errors, 0);
}

#[test]
fn the_performance_tools_are_served() {
    let Some((_dir, broker, tools)) = tools(SyncPolicy::Never) else { return };
    tools.ask("TopicCommand", &["--create", "--topic", "perf", "--partitions", "2"], "");
    let servers = format!("bootstrap.servers={}", tools.broker);
    let sizes = ["--num-records", "50000", "--record-size", "100", "--throughput", "-1"];
    let args = [&["--topic", "perf"], &sizes[..], &["--producer-props", &servers, "acks=all"]].concat();
    let said = tools.call("ProducerPerformance", &args, "");
    assert!(said.lines().last().unwrap_or_default().starts_with("50000 records sent"), "{said}");
    assert_eq!(broker.counters.totals().records_in, 50_000, "an idempotent producer's records are stored once");
    let consume = ["--topic", "perf", "--messages", "50000", "--group", "perf", "--timeout", "30000"];
    let said = tools.ask("ConsumerPerformance", &consume, "");
    let (names, values) = said.trim_end().rsplit_once('\n').unwrap_or_else(|| panic!("{said}"));
    let at = names.lines().last().unwrap().split(", ").position(|name| name == "data.consumed.in.nMsg");
    let at = at.unwrap_or_else(|| panic!("{said}"));
    assert_eq!(values.split(", ").nth(at), Some("50000"), "{said}");
    assert_eq!(broker.counters.totals().protocol_errors, 0);
}

#[test]
fn the_performance_tool_commits_transactions() {
    let Some((_dir, broker, tools)) = tools(SyncPolicy::Never) else { return };
    tools.ask("TopicCommand", &["--create", "--topic", "perf", "--partitions", "2"], "");
    let servers = format!("bootstrap.servers={}", tools.broker);
    let args = ["--topic", "perf", "--num-records", "20000", "--record-size", "100", "--throughput", "-1"];
    let of =
        ["--transaction-duration-ms", "20", "--transactional-id", "perf", "--producer-props", &servers, "acks=all"];
    let said = tools.call("ProducerPerformance", &[&args[..], &of].concat(), "");
    assert!(said.lines().last().unwrap_or_default().starts_with("20000 records sent"), "{said}");
    assert_eq!(broker.counters.totals().records_in, 20_000);
    let args =
        ["--topic", "perf", "--isolation-level", "read_committed", "--from-beginning", "--max-messages", "20000"];
    let read = tools.ask("consumer.ConsoleConsumer", &[&args[..], &["--timeout-ms", "30000"]].concat(), "");
    assert_eq!(read.lines().count(), 20_000);
    // Each of its transactions has given it an epoch (KIP-890); without, this would be its second.
    let known = kafka_protocol::messages::InitProducerIdRequest::default()
        .with_transactional_id(Some(kafka_protocol::messages::TransactionalId(text("perf"))))
        .with_transaction_timeout_ms(60_000);
    let answer = Client::connect(broker.address).call(&known, 5);
    assert!(answer.error_code == 0 && answer.producer_epoch > 2, "{answer:?}");
    assert_eq!(broker.counters.totals().protocol_errors, 0);
}
