//! What the servers of a launched system say of each other while it runs, by their monitoring
//! ports.
//!
//! # Design
//! A server tells what it has heard: a follower names a leader that was killed for seconds (seen
//! with 2.15.2). So all are asked side by side, and the leader is who says so of itself.
//!
//! A replica is up to date when it has what the leader had a moment ago. The flag `current` of the
//! leader is about this very moment: under load it is false again and again (500/s was enough).

use std::time::{Duration, Instant};

use serde_json::Value;

use super::layout::ServerNode;
use super::options::LaunchOptions;
use super::{monitor, ready};
use crate::plan::ClusterRole;
use crate::system::ClusterView;

/// Everything that is stored, and who has it.
const PATH: &str = "/jsz?accounts=true&streams=true&consumers=true";
/// A replica that its leader heard of within so long is there; it hears from each about once a
/// second.
const HEARD: Duration = Duration::from_secs(2);
/// Pause between two looks whether a replica has caught up.
const PAUSE: Duration = Duration::from_millis(30);
/// So much time a server has to answer, however near the deadline is.
const LEAST: Duration = Duration::from_millis(100);

/// The servers of a system.
pub(super) struct NatsView {
    pub(super) nodes: Vec<ServerNode>,
    pub(super) launch: LaunchOptions,
    pub(super) jetstream: bool,
}

/// What each server answers, or why it does not.
type MonitorAnswers = Vec<Result<Value, String>>;

impl NatsView {
    fn ask_all(&self, deadline: Instant) -> MonitorAnswers {
        let left = deadline.saturating_duration_since(Instant::now()).max(LEAST);
        let one = |node: &ServerNode| monitor::ask(&node.monitor_address(), PATH, left).map_err(|e| e.to_string());
        std::thread::scope(|scope| {
            let asked: Vec<_> = self.nodes.iter().map(|node| scope.spawn(move || one(node))).collect();
            asked.into_iter().map(|t| t.join().unwrap_or_else(|_| Err("the question panicked".into()))).collect()
        })
    }

    fn index(&self, name: &Value) -> Option<u32> {
        let at = self.nodes.iter().position(|node| name == node.name.as_str())?;
        u32::try_from(at).ok()
    }

    /// The server that says of itself that it leads, and what it says of the group; `group` finds
    /// that in an answer.
    fn leading<'a>(
        &self,
        answers: &'a MonitorAnswers,
        what: &str,
        group: impl Fn(&'a Value) -> Option<&'a Value>,
    ) -> Result<(u32, &'a Value), String> {
        let own = |(i, answer): (usize, &'a Result<Value, String>)| {
            let said = group(answer.as_ref().ok()?)?;
            (said["leader"] == self.nodes[i].name.as_str()).then_some((i as u32, said))
        };
        let mut leaders = answers.iter().enumerate().filter_map(own);
        match (leaders.next(), leaders.next()) {
            (Some(one), None) => Ok(one),
            (Some((a, _)), Some((b, _))) => Err(format!("nodes {a} and {b} both say that they lead {what}")),
            (None, _) => Err(format!("no node says that it leads {what} ({})", silent(answers))),
        }
    }

    fn meta_leader(&self, answers: &MonitorAnswers) -> Result<u32, String> {
        if self.nodes.len() == 1 {
            return if answers[0].is_ok() { Ok(0) } else { Err(silent(answers)) };
        }
        self.leading(answers, "the metadata of JetStream", |a| Some(&a["meta_cluster"])).map(|(node, _)| node)
    }

    fn stream<'a>(&self, answers: &'a MonitorAnswers, name: &str) -> Result<(u32, &'a Value), String> {
        let find = |answer: &'a Value| streams(answer).find(|s| s["name"] == name).map(|s| &s["cluster"]);
        if let [Ok(answer)] = &answers[..]
            && let Some(stream) = find(answer)
        {
            // A server to itself names no leader.
            return Ok((0, stream));
        }
        self.leading(answers, &format!("stream {name}"), find)
    }

    /// Whether all that the leader of a group names are there.
    fn followed(&self, what: &str, group: &Value) -> Result<(), String> {
        let missing = replicas(group).find(|replica| !heard(replica));
        let name = |r: &Value| self.index(&r["name"]).map_or_else(|| r["name"].to_string(), |n| format!("node {n}"));
        missing.map_or(Ok(()), |r| Err(format!("{} is not heard by the leader of {what}", name(r))))
    }

    /// The number of the last message of a stream that a server has stored.
    fn stored(&self, answers: &MonitorAnswers, node: u32, name: &str) -> Option<u64> {
        let answer = answers.get(node as usize)?.as_ref().ok()?;
        streams(answer).find(|s| s["name"] == name)?["state"]["last_seq"].as_u64()
    }

    /// Whether each replica of a stream has what its leader had in these answers.
    fn caught_up(&self, name: &str, mut answers: MonitorAnswers, deadline: Instant) -> Result<(), String> {
        let (leader, group) = self.stream(&answers, name)?;
        let nodes: Vec<u32> = replicas(group).filter_map(|r| self.index(&r["name"])).collect();
        let wanted = self.stored(&answers, leader, name).unwrap_or(0);
        loop {
            let has = |node: &u32| self.stored(&answers, *node, name).unwrap_or(0);
            let Some(behind) = nodes.iter().find(|node| has(node) < wanted) else { return Ok(()) };
            if Instant::now() + PAUSE >= deadline {
                return Err(format!("node {behind} has {} of {wanted} messages of stream {name}", has(behind)));
            }
            std::thread::sleep(PAUSE);
            answers = self.ask_all(deadline);
        }
    }
}

/// All streams that a server knows.
fn streams(answer: &Value) -> impl Iterator<Item = &Value> {
    let accounts = answer["account_details"].as_array().into_iter().flatten();
    accounts.flat_map(|account| account["stream_detail"].as_array().into_iter().flatten())
}

fn replicas(group: &Value) -> impl Iterator<Item = &Value> {
    group["replicas"].as_array().into_iter().flatten()
}

fn heard(replica: &Value) -> bool {
    replica["offline"] != true && replica["active"].as_u64().is_some_and(|ns| Duration::from_nanos(ns) < HEARD)
}

/// Who did not answer, and why.
fn silent(answers: &MonitorAnswers) -> String {
    let each = answers.iter().enumerate().filter_map(|(node, a)| Some(format!("node {node}: {}", a.as_ref().err()?)));
    let all: Vec<String> = each.collect();
    if all.is_empty() { "all answer".into() } else { all.join("; ") }
}

impl ClusterView for NatsView {
    fn nodes(&self, role: ClusterRole, stored: Option<&str>, deadline: Instant) -> Result<Vec<u32>, String> {
        let stream = stored.ok_or("the workload has no stream");
        match role {
            ClusterRole::All => Ok((0..self.nodes.len() as u32).collect()),
            ClusterRole::MetaLeader => Ok(vec![self.meta_leader(&self.ask_all(deadline))?]),
            ClusterRole::Leader => Ok(vec![self.stream(&self.ask_all(deadline), stream?)?.0]),
            ClusterRole::Follower => {
                let answers = self.ask_all(deadline);
                let (_, group) = self.stream(&answers, stream?)?;
                let following = replicas(group).filter(|r| heard(r)).filter_map(|r| self.index(&r["name"]));
                match following.collect::<Vec<u32>>() {
                    none if none.is_empty() => Err("no server follows the leader".into()),
                    some => Ok(some),
                }
            }
            ClusterRole::Controller => Err("NATS has no controller".into()),
        }
    }

    fn settled(&self, deadline: Instant) -> Result<(), String> {
        let left = deadline.saturating_duration_since(Instant::now()).max(LEAST);
        ready::agreed(&self.nodes, &self.launch, self.jetstream, left)?;
        if !self.jetstream {
            return Ok(());
        }
        let answers = self.ask_all(deadline);
        let members = answers.iter().zip(&self.nodes).enumerate().filter(|(_, (_, node))| node.is_member());
        for (node, (answer, _)) in members {
            if let Err(why) = answer {
                return Err(format!("node {node} does not answer: {why}"));
            }
        }
        if self.nodes.len() == 1 {
            return Ok(());
        }
        let mut names: Vec<&str> =
            answers.iter().flatten().flat_map(streams).filter_map(|s| s["name"].as_str()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let (leader, group) = self.stream(&answers, name)?;
            self.followed(&format!("stream {name}"), group)?;
            let own = answers[leader as usize].iter().flat_map(streams).find(|s| s["name"] == name);
            let consumers = own.and_then(|s| s["consumer_detail"].as_array()).into_iter().flatten();
            for consumer in consumers.filter_map(|c| c["name"].as_str()) {
                let what = format!("consumer {consumer} of stream {name}");
                let of = |answer| {
                    let stream = streams(answer).find(|s| s["name"] == name)?;
                    let all = stream["consumer_detail"].as_array()?;
                    all.iter().find(|c| c["name"] == consumer).map(|c| &c["cluster"])
                };
                let (_, group) = self.leading(&answers, &what, of)?;
                self.followed(&what, group)?;
            }
            self.caught_up(name, answers.clone(), deadline)?;
        }
        Ok(())
    }
}
