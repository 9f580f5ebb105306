//! The streams of a trial: made, read back, filled and removed.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::task::AbortHandle;

use super::JetstreamDriver;
use super::api::{self, ConsumerName, ConsumerRequest, call, limit};
use super::domain::ApiRoot;
use super::facts::stream_facts;
use super::options::{ConsumeMode, JetstreamOptions, Retention};
use super::produce::KeyReads;
use super::stream::WorkloadStream;
use super::transform::{StreamTransformParts, StreamTransformer};
use crate::driver::nats::link::NatsLink;
use crate::driver::{ClientSlot, Confirmation, Driver, DriverError, Incident, Outgoing, Producer, Start};
use crate::plan::{ServiceTarget, Workload};
use crate::units::{Nanos, Span, now};

/// How long an answer to a request that may be made again is waited for.
const ASK_AGAIN: Duration = Duration::from_secs(2);

impl JetstreamDriver {
    /// Makes streams and reads back what they became.
    pub(super) async fn set_up(&mut self) -> Result<(), DriverError> {
        if self.target.joins() {
            return Ok(());
        }
        let mut known = false;
        for (i, (w, stream)) in self.workloads.iter().zip(&self.streams).enumerate().filter(|(_, (w, _))| !w.gets()) {
            let made = create(&self.link, &stream.api, &stream.config()).await?;
            if let Some(copy) = stream.copy() {
                create(&self.link, &stream.api, &copy).await?;
            }
            if let Some(output) = stream.output() {
                create(&self.link, &stream.api, &output).await?;
                let parts = StreamTransformParts {
                    target: self.target.clone(),
                    connection: self.connection.clone(),
                    incidents: self.incidents.clone(),
                    stream: stream.clone(),
                    inbox: format!("mbi.{:08x}.{i}.transform.", self.target.run),
                };
                self.transformers.push(StreamTransformer::start(parts).await?);
                let words = "by msgbench, a durable consumer: acknowledged when the output stream has it";
                self.facts.settings.insert("transform".into(), words.into());
            }
            if w.delivery.max_deliver > 0 {
                let dead = JetstreamOptions {
                    storage: stream.options.storage,
                    replicas: stream.options.replicas,
                    ..JetstreamOptions::default()
                };
                let subjects = format!("mbd.{:08x}.{i}.>", self.target.run);
                let config = api::stream(&format!("{}_DEAD", stream.name), &subjects, &dead);
                create(&self.link, &stream.api, &config).await?;
            }
            if !known {
                known = true;
                let (durability, settings) = stream_facts(&made["config"]);
                self.facts.guarantees.durability = durability;
                self.facts.settings.extend(settings);
                let account = call(&self.link, &stream.api, "ask for the account", "INFO", &Value::Null).await?;
                if let Some(level) = account["api"]["level"].as_u64() {
                    self.facts.settings.insert("jetstream_api_level".into(), level.to_string());
                }
                let probed = self.probe(stream, w).await?;
                self.facts.settings.extend(probed);
            }
        }
        for i in (0..self.workloads.len()).filter(|i| self.workloads[*i].gets()) {
            self.fill(i).await?;
        }
        Ok(())
    }

    /// The workload that puts into the bucket that this one gets keys of.
    fn bucket_of(&self, workload: usize) -> Option<(usize, &Workload)> {
        let Some(ServiceTarget::Bucket { bucket }) = &self.workloads[workload].target else { return None };
        self.workloads.iter().enumerate().find(|(_, w)| w.name == *bucket)
    }

    /// What a workload reads, where it gets keys.
    pub(super) fn reads(&self, workload: usize) -> Option<KeyReads> {
        let (_, w) = self.bucket_of(workload)?;
        let prefixes = (0..w.topology.producers).map(|p| self.streams[workload].gets(p).into_bytes());
        Some(KeyReads { prefixes: prefixes.collect(), keys: w.delivery.keys.count().into() })
    }

    /// Puts a first value of every key that a workload will get: watchers see updates alone.
    async fn fill(&self, workload: usize) -> Result<(), DriverError> {
        let Some((index, w)) = self.bucket_of(workload) else { return Ok(()) };
        let payload = vec![0; w.payload.size.largest().0 as usize];
        let keys = u64::from(w.delivery.keys.count());
        for producer in 0..w.topology.producers {
            let slot = ClientSlot { workload: index, group: 0, index: producer };
            let mut producer = self.producer(slot).await?;
            let mut refused = 0;
            for token in 0..keys {
                let out = Outgoing { channel: 0, key: Some(token), payload: &payload, token };
                self.link.within("fill the bucket", producer.send(out)).await??;
            }
            let mut open = if producer.confirms() { keys } else { 0 };
            while open > 0 {
                let mut sink = |c: Confirmation<'_>| {
                    open = open.saturating_sub(1);
                    refused += u64::from(!matches!(c, Confirmation::Acked { .. }));
                };
                self.link.within("fill the bucket", producer.confirmed(&mut sink)).await??;
            }
            self.link.within("fill the bucket", producer.close()).await??;
            if refused > 0 {
                let words = format!("{refused} of {keys} values were refused");
                return Err(self.link.refused("fill the bucket", words, "see the limits of the server"));
            }
        }
        Ok(())
    }

    /// Makes a consumer as those to come, to read back what the server makes of it, and removes it.
    async fn probe(&self, stream: &WorkloadStream, w: &Workload) -> Result<BTreeMap<String, String>, DriverError> {
        let name = ConsumerName { stream: stream.read(), consumer: "probe".into() };
        let mode = stream.options.consumer();
        let pushed = matches!(mode, ConsumeMode::Push | ConsumeMode::Ordered);
        let deliver = format!("mbi.{:08x}.probe", self.target.run);
        let filter = stream.filter();
        let request = ConsumerRequest {
            max_deliver: w.delivery.max_deliver,
            deliver: pushed.then_some((deliver.as_str(), None)),
            filter: filter.as_ref(),
            ..ConsumerRequest::new(&name, &stream.options, start(stream, Start::Tail))
        };
        let (request, link, api) = (request.body(), &self.link, &stream.api);
        let made = call(link, api, "make a consumer", &name.verb("CONSUMER.CREATE"), &request).await?;
        call(link, api, "remove a consumer", &name.verb("CONSUMER.DELETE"), &Value::Null).await?;
        let c = &made["config"];
        let mut settings = BTreeMap::from([
            ("consumer".into(), format!("{mode:?}").to_lowercase()),
            ("ack_policy".into(), c["ack_policy"].as_str().unwrap_or("unknown").into()),
            ("ack_wait".into(), limit(&c["ack_wait"], true)),
            ("max_deliver".into(), limit(&c["max_deliver"], false)),
            ("max_ack_pending".into(), limit(&c["max_ack_pending"], false)),
        ]);
        if let Some(of) = stream.copy().and(Some(&stream.name)) {
            settings.insert(
                "read_from".into(),
                format!("{} of {of}", format!("{:?}", stream.options.read_from).to_lowercase()),
            );
        }
        if pushed {
            let bits = c["rate_limit_bps"].as_u64();
            let rate = bits.map_or_else(|| "unlimited".into(), |bits| format!("{} B/s", bits / 8));
            settings.insert("rate_limit".into(), rate);
        }
        if let Some(policy) = c["priority_policy"].as_str().filter(|policy| *policy != "none") {
            settings.insert("priority_policy".into(), policy.into());
        }
        if let Some(timeout) = c["priority_timeout"].as_u64().filter(|timeout| *timeout > 0) {
            settings.insert("priority_timeout".into(), Span(timeout).to_string());
        }
        if pushed && w.topology.members == 1 {
            settings.insert("flow_control".into(), (c["flow_control"] == true).to_string());
            settings.insert("idle_heartbeat".into(), limit(&c["idle_heartbeat"], true));
        }
        Ok(settings)
    }

    /// Pauses all consumers from `origin` on, where that is asked for.
    pub(super) fn pause(&self, origin: Nanos) -> Option<AbortHandle> {
        let length = self.streams.iter().find_map(|s| s.options.pause_consumers)?;
        let names = self.workloads.iter().zip(&self.streams).flat_map(|(w, stream)| {
            let name = |group| ConsumerName { stream: stream.read(), consumer: format!("g{group}") };
            (0..w.topology.groups).map(move |group| (name(group), stream.api.clone()))
        });
        let (names, link): (Vec<_>, _) = (names.collect(), self.link.clone());
        let task = async move {
            tokio::time::sleep(Duration::from_nanos(origin.saturating_sub(now()))).await;
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
            let body = json!({ "pause_until": api::rfc3339(wall + length.0) });
            for (name, api) in names {
                let said = match call(&link, &api, "pause a consumer", &name.verb("CONSUMER.PAUSE"), &body).await {
                    Ok(_) => format!("consumer {} is paused for {length}", name.consumer),
                    Err(error) => error.to_string(),
                };
                link.incidents.note(Incident::Planned, said);
            }
        };
        Some(tokio::spawn(task).abort_handle())
    }

    pub(super) async fn remove(&self) -> Result<(), DriverError> {
        let mut result = Ok(());
        if self.target.joins() {
            return result;
        }
        for (w, stream) in self.workloads.iter().zip(&self.streams).filter(|(w, _)| !w.gets()) {
            let name = stream.name.clone();
            let dead = (w.delivery.max_deliver > 0).then(|| format!("{name}_DEAD"));
            // A copy goes before what it is a copy of.
            let copy = stream.copy().map(|_| stream.read());
            let output = stream.output().map(|_| stream.read());
            for name in [copy, Some(name), output, dead].into_iter().flatten() {
                let removed = remove_stream(&self.link, &stream.api, &name, self.target.timeout).await;
                // Every stream is tried, and the first failure told.
                result = result.and(removed);
            }
        }
        result
    }
}

/// Work queues must be read from the first message on; theirs are empty when they are.
pub fn start(stream: &WorkloadStream, start: Start) -> Start {
    if stream.options.retention == Retention::WorkQueue { Start::First } else { start }
}

/// Removes a stream within a bound. A cluster in which nobody leads answers nothing, also later: it
/// is asked again, and a stream that is not there then is one that was removed.
async fn remove_stream(link: &NatsLink, api: &ApiRoot, name: &str, bound: Duration) -> Result<(), DriverError> {
    let action = "remove a stream";
    let verb = format!("STREAM.DELETE.{name}");
    let end = tokio::time::Instant::now() + bound;
    let mut asked = false;
    loop {
        let until = end.min(tokio::time::Instant::now() + ASK_AGAIN);
        match tokio::time::timeout_at(until, call(link, api, action, &verb, &Value::Null)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => return if asked && api::not_found(&error) { Ok(()) } else { Err(error) },
            Err(_) if until == end => {
                let (url, seconds) = (link.url.clone(), bound.as_secs_f64());
                return Err(DriverError::Timeout { action: action.into(), url, seconds });
            }
            Err(_) => asked = true,
        }
    }
}

async fn create(link: &NatsLink, api: &ApiRoot, config: &Value) -> Result<Value, DriverError> {
    let name = config["name"].as_str().unwrap_or_default();
    call(link, api, "make a stream", &format!("STREAM.CREATE.{name}"), config).await
}
