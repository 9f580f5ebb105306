//! The stream of one workload: what it is called, how it is made, and where consumers read.

use serde_json::{Value, json};

use super::api;
use super::options::{ConsumeMode, JetstreamOptions};
use crate::plan::{Pattern, ServiceTarget, Workload};

/// A stream and the options that hold for it.
#[derive(Debug, Clone)]
pub struct WorkloadStream {
    pub name: String,
    /// What all of its subjects begin with, a dot at the end.
    pub prefix: String,
    pub options: JetstreamOptions,
    /// Values that it keeps of each key, where it is a bucket of a key-value store; otherwise 0.
    history: u32,
}

impl WorkloadStream {
    /// The stream of workload `index` of a trial.
    pub fn of(run: u32, index: usize, w: &Workload, options: &JetstreamOptions) -> Self {
        let mut options = options.clone();
        if w.pattern != Pattern::KeyValue {
            let (name, prefix) = (format!("MSGBENCH_{run:08x}_{index}"), format!("mbs.{run:08x}.{index}."));
            return Self { name, prefix, options, history: 0 };
        }
        // The watchers of NATS clients are ordered consumers.
        options.consumer.get_or_insert(ConsumeMode::Ordered);
        let bucket = format!("msgbench_{run:08x}_{index}");
        Self { name: format!("KV_{bucket}"), prefix: format!("$KV.{bucket}."), options, history: w.delivery.history }
    }

    /// The streams of a case: a workload that gets keys has the bucket of another one.
    pub fn all(run: u32, workloads: &[Workload], options: &JetstreamOptions) -> Vec<Self> {
        let index = |(i, w): (usize, &Workload)| match &w.target {
            Some(ServiceTarget::Bucket { bucket }) => workloads.iter().position(|w| w.name == *bucket).unwrap_or(i),
            _ => i,
        };
        let each = workloads.iter().enumerate().map(index);
        each.filter_map(|i| Some(Self::of(run, i, workloads.get(i)?, options))).collect()
    }

    /// What is asked to get a key of a producer, to which its number is added.
    pub fn gets(&self, producer: u32) -> String {
        format!("$JS.API.DIRECT.GET.{}.{}", self.name, self.keys(producer))
    }

    /// Its configuration; that of a bucket is the one that NATS clients make (ADR-8).
    pub fn config(&self) -> Value {
        let mut config = api::stream(&self.name, &format!("{}>", self.prefix), &self.options);
        if self.history > 0 {
            config["max_msgs_per_subject"] = self.history.into();
            config["discard"] = "new".into();
            for allowed in ["allow_rollup_hdrs", "deny_delete", "allow_direct"] {
                config[allowed] = true.into();
            }
        }
        config
    }

    /// What the number of a key is put behind. Each producer puts keys of its own, so that it is
    /// known which value came after which.
    pub fn keys(&self, producer: u32) -> String {
        match self.history {
            0 => format!("{}key.", self.prefix),
            _ => format!("{}p{producer}.", self.prefix),
        }
    }

    /// What its consumers ask for: all keys of a bucket, as watchers do; otherwise the whole stream.
    pub fn filter(&self) -> Option<Value> {
        (self.history > 0).then(|| json!({ "filter_subject": format!("{}>", self.prefix) }))
    }
}
