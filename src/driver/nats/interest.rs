//! Waits until servers know what is subscribed to at the others.
//!
//! # Background
//! A server tells the others of a subscription after it has answered the client: until they know,
//! what is published there goes nowhere, and nobody is told. Over a link of 20 ms those are the
//! messages of 20 ms.
//! # Invariant
//! What a server tells another goes through one connection for each account, in order. So when a
//! message arrives that was published at the producers' server for a subscription made after those
//! of the consumers, at theirs, that server knows those, too; and so on from server to server.

use std::collections::BTreeSet;

use async_nats::Subject;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::Mutex;

use super::link::{LOOK, NatsLink};
use super::options::ConnectionOptions;
use crate::driver::{DriverError, Incidents, Target};
use crate::plan::Workload;

/// Which workloads have been waited for.
#[derive(Debug, Default)]
pub struct InterestBarrier(Mutex<BTreeSet<usize>>);

impl InterestBarrier {
    /// Returns when every server that producers of the workload connect to knows the subscriptions
    /// of its consumers; at once where there is one server, or it was waited for already. To be
    /// called when the consumers are there.
    ///
    /// # Errors
    /// When a server cannot be reached, or does not know within the bound of the target.
    pub async fn pass(
        &self,
        target: &Target,
        options: &ConnectionOptions,
        incidents: &Incidents,
        (index, workload): (usize, &Workload),
    ) -> Result<(), DriverError> {
        if target.places.len() < 2 {
            return Ok(());
        }
        let mut passed = self.0.lock().await;
        if !passed.contains(&index) {
            await_interest(target, options, incidents, workload).await?;
            passed.insert(index);
        }
        Ok(())
    }
}

async fn await_interest(
    target: &Target,
    options: &ConnectionOptions,
    incidents: &Incidents,
    workload: &Workload,
) -> Result<(), DriverError> {
    // Where nothing is said, clients may be anywhere.
    let all: Vec<&str> = target.places.keys().map(String::as_str).collect();
    let named = |names: &[String]| -> BTreeSet<usize> {
        let of = |(i, place): (usize, &&str)| (names.is_empty() || names.iter().any(|n| n == place)).then_some(i);
        all.iter().enumerate().filter_map(of).collect()
    };
    let (from, to) = (named(&workload.at.producers), named(&workload.at.consumers));
    let mut missing: BTreeSet<(usize, usize)> =
        from.iter().flat_map(|f| to.iter().map(move |t| (*f, *t))).filter(|(f, t)| f != t).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut links = Vec::new();
    for (i, place) in all.iter().enumerate() {
        let used = from.contains(&i) || to.contains(&i);
        let at = target.at(Some(place))?;
        links.push(if used { Some(NatsLink::open(&at, options, incidents, "msgbench-admin").await?) } else { None });
    }
    let link = |i: usize| links[i].as_ref().ok_or_else(|| DriverError::Refused { words: "no connection".into() });
    let first = link(missing.iter().next().map_or(0, |(f, _)| *f))?;
    let base = format!("mb.interest.{}", first.client.new_inbox().trim_start_matches("_INBOX."));
    let mut subscribers = Vec::new();
    for &t in &to {
        subscribers.push((t, link(t)?.subscribe(format!("{base}.{t}.*"), None).await?));
    }
    let wait = async {
        while !missing.is_empty() {
            for &(f, t) in &missing {
                let sent = link(f)?.client.publish(Subject::from(format!("{base}.{t}.{f}")), Bytes::new()).await;
                sent.map_err(|e| first.lost(e))?;
            }
            tokio::time::sleep(LOOK).await;
            for (t, subscriber) in &mut subscribers {
                while let Some(Some(message)) = subscriber.next().now_or_never() {
                    let from = message.subject.rsplit('.').next().and_then(|f| f.parse().ok());
                    missing.retain(|pair| Some(pair.0) != from || pair.1 != *t);
                }
            }
        }
        Ok(())
    };
    first.within("wait until the servers know of each other's subscriptions", wait).await?
}
