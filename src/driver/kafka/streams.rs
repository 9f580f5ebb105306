//! The application of Kafka Streams that copies messages: it is told what to copy, and by which
//! settings.
//!
//! # Design
//! The system starts the application beside its broker and gives the port that it listens on as the
//! option [`PORT`]. A connection to it stands for one copied topic: it carries the settings, the
//! answer when the application runs, and what ends it. When the connection is closed, so is what it
//! stands for.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::options::{KafkaOptions, without_credentials};
use crate::driver::{DriverError, Incident, Incidents, SideThread, Target};
use crate::plan::address::KAFKA;
use crate::plan::{Address, Workload};

/// The option by which a launched system says where its application listens.
const PORT: &str = "streams-port";
/// What the application says when every partition is read.
const RUNNING: &str = "running";
/// Before the words of a failure.
const FAILED: &str = "failed: ";
/// Bound on the application closing what it was told to close.
const CLOSE: Duration = Duration::from_secs(5);

/// A copied topic; dropping it ends the copying.
#[derive(Debug)]
pub(super) struct StreamsHop {
    _watcher: SideThread,
}

impl StreamsHop {
    /// Has the application copy by these settings; on return it reads every partition.
    pub(super) async fn start(
        target: &Target,
        settings: &BTreeMap<String, String>,
        incidents: &Incidents,
    ) -> Result<Self, DriverError> {
        let failed = |words: String| DriverError::Admin {
            action: "start copying by Kafka Streams".into(),
            url: without_credentials(&target.url),
            words,
            remedy: "see the server log of the trial; transactions need transaction.state.log.replication.factor of it"
                .into(),
        };
        let port = target.options.get(PORT).and_then(serde_json::Value::as_u64).and_then(|p| u16::try_from(p).ok());
        let Some(port) = port else {
            let words = "option `transform`: the application of \"streams\" is started beside a Kafka that msgbench \
                         launches; remove `url`, or use \"client\""
                .into();
            return Err(DriverError::Option { words });
        };
        let late = |_| failed(format!("it did not run within {} s", target.timeout.as_secs_f64()));
        let begin = async {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
            let lines: String = settings.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
            stream.write_all(format!("{lines}\n").as_bytes()).await?;
            let mut stream = BufReader::new(stream);
            let mut answer = String::new();
            stream.read_line(&mut answer).await?;
            Ok::<_, std::io::Error>((stream, answer))
        };
        let (stream, answer) =
            timeout(target.timeout, begin).await.map_err(late)?.map_err(|e| failed(e.to_string()))?;
        match answer.trim_end() {
            RUNNING => {}
            "" => return Err(failed("the application closed the connection".into())),
            other => return Err(failed(other.trim_start_matches(FAILED).to_owned())),
        }
        let stream = stream.into_inner().into_std().map_err(|e| failed(e.to_string()))?;
        let incidents = incidents.clone();
        let watcher = SideThread::spawn("kafka-streams", move |stopped| watch(stream, stopped, &incidents));
        Ok(Self { _watcher: watcher.map_err(|e| failed(e.to_string()))? })
    }
}

/// Notes what the application says until it is to end, and sees it end.
fn watch(stream: std::net::TcpStream, stopped: oneshot::Receiver<()>, incidents: &Incidents) {
    let lost = |words: &str| {
        let said = words.trim_end().trim_start_matches(FAILED);
        let said = if said.is_empty() { "it closed the connection" } else { said };
        incidents
            .note(Incident::Client, format!("Kafka Streams has stopped: nothing reaches the output topic: {said}"));
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        let Ok(stream) = TcpStream::from_std(stream) else { return };
        let mut stream = BufReader::new(stream);
        let mut words = String::new();
        let told = tokio::select! {
            _ = stopped => true,
            // An end of the connection is an empty line.
            _ = stream.read_line(&mut words) => false,
        };
        if !told {
            lost(&words);
        }
        // It closes its side when the copying has ended; one that is gone has done so already.
        let _ = stream.shutdown().await;
        let rest = async { while stream.read_line(&mut words).await.is_ok_and(|n| n > 0) {} };
        let _ = timeout(CLOSE, rest).await;
    });
}

impl KafkaOptions {
    /// What the application is told: settings of Kafka Streams, and what is copied.
    pub(super) fn streams(
        &self,
        target: &Target,
        workload: &Workload,
        (group, input, output): (&str, &str, &str),
        partitions: i32,
    ) -> Result<BTreeMap<String, String>, DriverError> {
        let address = Address::read(&KAFKA, &target.url).map_err(|e| DriverError::Connect {
            url: without_credentials(&target.url),
            words: e.words,
            remedy: e.remedy,
        })?;
        let mut all = BTreeMap::new();
        let mut set = |key: &str, value: String| drop(all.insert(key.to_owned(), value));
        set("application.id", group.into());
        set("bootstrap.servers", address.brokers());
        set("num.stream.threads", "1".into());
        set("state.dir", "streams-state".into());
        set("input.topic", input.into());
        set("output.topic", output.into());
        set("input.partitions", partitions.to_string());
        if self.exactly_once.is_some() {
            set("processing.guarantee", "exactly_once_v2".into());
            set("commit.interval.ms", (self.transaction_interval.0 / 1_000_000).max(1).to_string());
        }
        if let Some(linger) = self.linger {
            set("producer.linger.ms", linger.0.div_ceil(1_000_000).to_string());
        }
        if let Some(size) = self.batch_size {
            set("producer.batch.size", size.0.to_string());
        }
        if let Some(compression) = self.compression {
            set("producer.compression.type", format!("{compression:?}").to_lowercase());
        }
        if let Some(largest) = Self::large(workload) {
            set("producer.max.request.size", largest.to_string());
        }
        Ok(all)
    }
}
