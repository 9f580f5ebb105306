//! Share groups: members take messages of the same partitions in turn, and what they say of each
//! decides what becomes of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use msgbench::driver::kafka::KafkaConsumer;
use msgbench::driver::{Consumer, Disposition, Driver, Incoming, MessageSink, Start, Target};
use msgbench::load::message::open;
use msgbench::plan::{AgentShare, Workload};
use serde_json::json;

use super::support::{BOUND, Bench, launch, open_at, open_in, shared, slot, target, try_open, workload};

/// The first Kafka whose clusters have share groups where nothing else is asked for.
const SINCE: &str = "4.2";

/// The shared broker, where it has share groups.
fn sharing() -> Option<&'static str> {
    crate::needs::since("kafka", SINCE)?;
    shared()
}

/// Says of each message what `rule` says of its number and delivery, and keeps both.
struct Judge<F> {
    run: u32,
    rule: F,
    heard: Vec<(u64, u32)>,
    dead: Vec<u64>,
}

impl<F: FnMut(u64, u32) -> Disposition> MessageSink for Judge<F> {
    fn take(&mut self, message: Incoming<'_>) -> Disposition {
        let number = open(message.payload, self.run).unwrap().sequence;
        self.heard.push((number, message.attempt));
        (self.rule)(number, message.attempt)
    }
    fn dead_letter(&mut self, message: Incoming<'_>) {
        self.dead.push(open(message.payload, self.run).unwrap().sequence);
    }
}

fn judge<F: FnMut(u64, u32) -> Disposition>(bench: &Bench, rule: F) -> Judge<F> {
    Judge { run: bench.run, rule, heard: Vec::new(), dead: Vec::new() }
}

/// Lets the members receive in turn until `enough`, within the bound.
fn receive<F: FnMut(u64, u32) -> Disposition>(
    bench: &Bench,
    members: &mut [KafkaConsumer],
    judges: &mut [Judge<F>],
    enough: impl Fn(&[Judge<F>]) -> bool,
) {
    let end = Instant::now() + BOUND;
    bench.runtime.block_on(async {
        while !enough(judges) {
            assert!(Instant::now() < end, "{:?}", judges.iter().map(|j| (j.heard.len(), &j.dead)).collect::<Vec<_>>());
            for (member, judge) in members.iter_mut().zip(judges.iter_mut()) {
                let slice = Duration::from_millis(20);
                if let Ok(done) = tokio::time::timeout(slice, member.receive(judge, usize::MAX)).await {
                    done.unwrap();
                }
            }
        }
    });
}

/// How often each number was heard, by all.
fn times<F>(judges: &[Judge<F>]) -> BTreeMap<u64, usize> {
    let mut all = BTreeMap::new();
    judges.iter().flat_map(|j| &j.heard).for_each(|(number, _)| *all.entry(*number).or_default() += 1);
    all
}

fn heard<F>(judges: &[Judge<F>]) -> usize {
    judges.iter().map(|j| j.heard.len()).sum()
}

fn rejecting(max_deliver: u32, members: u32) -> Workload {
    let mut w = workload(1, 1, members);
    (w.delivery.reject_every, w.delivery.max_deliver) = (10, max_deliver);
    w
}

fn open_sharing(url: &str, share: serde_json::Value, w: &Workload) -> Bench {
    open_at(url, json!({ "consumers": "share", "share": share }), w)
}

#[test]
fn members_share_one_partition_and_each_message_comes_once_to_each_group() {
    let Some(url) = sharing() else { return };
    let bench = open_sharing(url, json!({ "batch": 20 }), &workload(1, 2, 3));
    let mut members: Vec<_> = (0..6).map(|i| bench.consumer(i / 3, i % 3, Start::Tail)).collect();
    let mut producer = bench.producer(0);
    // Small batches: a fetch takes whole ones.
    for part in 0..30 {
        bench.send(&mut producer, 0, part * 20..(part + 1) * 20, |_| (0, None));
    }
    for group in members.chunks_mut(3) {
        let mut judges: Vec<_> = (0..3).map(|_| judge(&bench, |_, _| Disposition::Accept)).collect();
        receive(&bench, group, &mut judges, |all| heard(all) >= 600);
        assert!(times(&judges).into_iter().eq((0..600).map(|n| (n, 1))), "{:?}", times(&judges));
        assert!(judges.iter().flat_map(|j| &j.heard).all(|(_, attempt)| *attempt == 1));
        let busy = judges.iter().filter(|j| !j.heard.is_empty()).count();
        assert!(busy >= 2, "one member of three had everything from one partition");
        // What is accepted does not come again.
        for member in group {
            assert!(bench.silent(member, Duration::from_millis(200)));
        }
    }
    assert_eq!(bench.guarantee("consumers"), "in share groups");
    assert!(bench.driver.incidents().take_log().is_empty());
    bench.close(producer);
    drop(members);
    bench.cleanup();
}

#[test]
fn what_is_released_comes_again_and_is_a_dead_letter_after_its_last_delivery() {
    let Some(url) = sharing() else { return };
    let bench = open_sharing(url, json!({}), &rejecting(3, 2));
    let mut members: Vec<_> = (0..2).map(|i| bench.consumer(0, i, Start::Tail)).collect();
    let mut producer = bench.producer(0);
    bench.send(&mut producer, 0, 0..200, |_| (0, None));
    let rule = |number, attempt| match number {
        n if n % 50 == 49 => Disposition::Reject,
        n if n % 10 == 9 && attempt == 1 => Disposition::Reject,
        _ => Disposition::Accept,
    };
    let mut judges: Vec<_> = (0..2).map(|_| judge(&bench, rule)).collect();
    // 4 messages are delivered three times, 16 twice.
    receive(&bench, &mut members, &mut judges, |all| heard(all) >= 200 + 8 + 16 && all[0].dead.len() >= 4);
    for (number, times) in times(&judges) {
        let expected = if number % 50 == 49 {
            3
        } else if number % 10 == 9 {
            2
        } else {
            1
        };
        let attempts = judges.iter().flat_map(|j| &j.heard).filter(|(n, _)| *n == number).map(|(_, attempt)| attempt);
        assert_eq!(times, expected, "{number}: {:?}", attempts.collect::<Vec<_>>());
    }
    let mut attempts: Vec<u32> =
        judges.iter().flat_map(|j| &j.heard).filter(|(n, _)| *n == 49).map(|(_, a)| *a).collect();
    attempts.sort_unstable();
    assert_eq!(attempts, [1, 2, 3]);
    let mut dead = judges[0].dead.clone();
    dead.sort_unstable();
    assert_eq!(dead, [49, 99, 149, 199], "read from the group's dead-letter topic");
    assert_eq!(bench.guarantee("group share.delivery.count.limit"), "3");
    bench.close(producer);
    drop(members);
    bench.cleanup();
}

#[test]
fn what_is_rejected_is_a_dead_letter_at_once() {
    let Some(url) = sharing() else { return };
    let bench = open_sharing(url, json!({ "rejected": "reject" }), &rejecting(3, 1));
    let mut members = vec![bench.consumer(0, 0, Start::Tail)];
    let mut producer = bench.producer(0);
    bench.send(&mut producer, 0, 0..50, |_| (0, None));
    let rule = |number: u64, _| if number % 10 == 9 { Disposition::Reject } else { Disposition::Accept };
    let mut judges = vec![judge(&bench, rule)];
    receive(&bench, &mut members, &mut judges, |all| heard(all) >= 50 && all[0].dead.len() >= 5);
    assert!(times(&judges).into_iter().eq((0..50).map(|n| (n, 1))), "none comes again: {:?}", times(&judges));
    assert_eq!(judges[0].dead, [9, 19, 29, 39, 49]);
    bench.close(producer);
    drop(members);
    bench.cleanup();
}

#[test]
fn a_lock_runs_out_and_another_member_gets_the_message() {
    let Some(url) = sharing() else { return };
    let bench = open_sharing(url, json!({ "lock-duration": "2s" }), &workload(1, 1, 2));
    let mut members: Vec<_> = (0..2).map(|i| bench.consumer(0, i, Start::Tail)).collect();
    let mut producer = bench.producer(0);
    bench.send(&mut producer, 0, 0..20, |_| (0, None));
    // The first member says nothing of what it gets.
    let mut first = vec![judge(&bench, |_, _| Disposition::Leave)];
    receive(&bench, &mut members[..1], &mut first, |all| heard(all) >= 20);
    let locked = Instant::now();
    let mut second = vec![judge(&bench, |_, _| Disposition::Accept)];
    receive(&bench, &mut members[1..], &mut second, |all| heard(all) >= 20);
    assert!(locked.elapsed() > Duration::from_secs(1), "after {:?}: it was locked for 2 s", locked.elapsed());
    assert!(second[0].heard.iter().all(|(_, attempt)| *attempt == 2), "{:?}", second[0].heard);
    assert_eq!(bench.guarantee("group share.record.lock.duration.ms"), "2000");
    bench.close(producer);
    drop(members);
    bench.cleanup();
}

#[test]
fn what_a_member_leaves_behind_goes_to_the_others() {
    let Some(url) = sharing() else { return };
    let bench = open_sharing(url, json!({}), &workload(1, 1, 2));
    let mut members: Vec<_> = (0..2).map(|i| bench.consumer(0, i, Start::Tail)).collect();
    let mut producer = bench.producer(0);
    bench.send(&mut producer, 0, 0..20, |_| (0, None));
    // Everything is held, the first half of it accepted by the time it leaves.
    let mut first = vec![judge(&bench, |_, _| Disposition::Hold)];
    receive(&bench, &mut members[..1], &mut first, |all| heard(all) >= 20);
    members[0].settle(10).unwrap();
    drop(members.remove(0));
    let left = Instant::now();
    let mut second = vec![judge(&bench, |_, _| Disposition::Accept)];
    receive(&bench, &mut members, &mut second, |all| heard(all) >= 10);
    assert!(left.elapsed() < Duration::from_secs(20), "locks are held for 30 s, and it has said that it leaves");
    let numbers: Vec<u64> = second[0].heard.iter().map(|(n, _)| *n).collect();
    assert_eq!(numbers, (10..20).collect::<Vec<_>>(), "what was accepted does not come again");
    bench.close(producer);
    drop(members);
    bench.cleanup();
}

#[test]
fn what_a_dead_member_holds_goes_to_the_others_without_a_word_of_it() {
    let Some(url) = sharing() else { return };
    let bench = open_sharing(url, json!({}), &workload(1, 1, 2));
    let mut members: Vec<_> = (0..2).map(|i| bench.consumer(0, i, Start::Tail)).collect();
    let mut producer = bench.producer(0);
    bench.send(&mut producer, 0, 0..20, |_| (0, None));
    let mut first = vec![judge(&bench, |_, _| Disposition::Hold)];
    receive(&bench, &mut members[..1], &mut first, |all| heard(all) >= 20);
    members.remove(0).abandon();
    let mut second = vec![judge(&bench, |_, _| Disposition::Accept)];
    receive(&bench, &mut members, &mut second, |all| heard(all) >= 20);
    assert!(times(&second).into_iter().eq((0..20).map(|n| (n, 1))), "{:?}", times(&second));
    assert!(second[0].heard.iter().all(|(_, attempt)| *attempt == 2), "{:?}", second[0].heard);
    bench.close(producer);
    drop(members);
    bench.cleanup();
}

#[test]
fn a_group_starts_where_it_is_told_to_and_reads_every_compression() {
    let Some(url) = sharing() else { return };
    for codec in ["none", "lz4", "zstd", "gzip", "snappy"] {
        let options = json!({ "consumers": "share", "compression": codec, "linger": "2ms" });
        let bench = open_at(url, options, &workload(1, 3, 1));
        let mut producer = bench.producer(0);
        bench.send(&mut producer, 0, 0..100, |_| (0, None));
        let starts = [(Start::First, 0), (Start::Offset(70), 70), (Start::Tail, 100)];
        let mut members: Vec<_> =
            starts.iter().enumerate().map(|(g, (start, _))| bench.consumer(g as u32, 0, *start)).collect();
        bench.send(&mut producer, 0, 100..120, |_| (0, None));
        for (member, (start, first)) in members.iter_mut().zip(starts) {
            let mut judges = vec![judge(&bench, |_, _| Disposition::Accept)];
            receive(&bench, std::slice::from_mut(member), &mut judges, |all| heard(all) >= 120 - first as usize);
            assert!(times(&judges).into_iter().eq((first..120).map(|n| (n, 1))), "{codec} {start:?}");
        }
        bench.close(producer);
        drop(members);
        bench.cleanup();
    }
}

/// Each broker leads a partition: a member has a session with each, and logs in to each.
#[test]
fn a_member_fetches_from_every_leader_and_logs_in() {
    if crate::needs::since("kafka", SINCE).is_none() {
        return;
    }
    let kafka = launch(json!({ "broker": { "nodes": 3, "heap": "256MiB", "sasl": "PLAIN" } }));
    let bench = open_in(&kafka.running, json!({ "consumers": "share" }), &workload(3, 1, 2));
    let mut members: Vec<_> = (0..2).map(|i| bench.consumer(0, i, Start::Tail)).collect();
    let mut producer = bench.producer(0);
    bench.send(&mut producer, 0, 0..300, |n| ((n % 3) as u32, None));
    let mut judges: Vec<_> = (0..2).map(|_| judge(&bench, |_, _| Disposition::Accept)).collect();
    receive(&bench, &mut members, &mut judges, |all| heard(all) >= 300);
    assert!(times(&judges).into_iter().eq((0..300).map(|n| (n, 1))), "{:?}", times(&judges));
    bench.close(producer);
    drop(members);
    bench.cleanup();
}

#[test]
fn what_a_share_group_cannot_be_is_said_with_the_brokers_words() {
    let Some(url) = sharing() else { return };
    let told = |options: serde_json::Value, w: &Workload| try_open(target(url, &options), w).err().unwrap().to_string();
    // More than any broker allows.
    let told_limit = told(json!({ "consumers": "share" }), &rejecting(200, 1));
    assert!(told_limit.contains("cannot set up the share group mb-"), "{told_limit}");
    assert!(told_limit.contains("share.delivery.count.limit"), "{told_limit}");
    let told_lock = told(json!({ "consumers": "share", "share": { "lock-duration": "10h" } }), &workload(1, 1, 1));
    assert!(told_lock.contains("share.record.lock.duration.ms"), "{told_lock}");
}

#[test]
fn another_process_joins_a_share_group_that_has_members() {
    let Some(url) = sharing() else { return };
    let to = target(url, &json!({ "consumers": "share", "share": { "batch": 20 } }));
    let w = workload(1, 1, 2);
    let whole = try_open(to.clone(), &w).unwrap_or_else(|e| panic!("{e}"));
    let [first, second] = [0, 1].map(|index| {
        let part = Some(AgentShare { index, of: 2, labels: Vec::new() });
        let bench = try_open(Target { part, ..to.clone() }, &w).unwrap_or_else(|e| panic!("{e}"));
        let consumer = bench.consumer(0, index, Start::Tail);
        (bench, consumer)
    });
    let refused = whole.runtime.block_on(whole.driver.consumer(slot(0, 0), Start::Tail)).err().unwrap().to_string();
    assert!(refused.contains("set where the share group"), "{refused}");
    let mut producer = whole.producer(0);
    for part in 0..20 {
        whole.send(&mut producer, 0, part * 20..(part + 1) * 20, |_| (0, None));
    }
    let mut members =
        [first, second].map(|(bench, consumer)| (judge(&bench, |_, _| Disposition::Accept), bench, consumer));
    let deadline = Instant::now() + BOUND;
    while members.iter().map(|(judge, ..)| judge.heard.len()).sum::<usize>() < 400 {
        assert!(Instant::now() < deadline, "{:?}", members.iter().map(|(j, ..)| j.heard.len()).collect::<Vec<_>>());
        for (judge, bench, consumer) in &mut members {
            // Each in the runtime that its connections belong to.
            bench.runtime.block_on(async {
                let slice = Duration::from_millis(20);
                if let Ok(done) = tokio::time::timeout(slice, consumer.receive(judge, usize::MAX)).await {
                    done.unwrap();
                }
            });
        }
    }
    let judges = members.map(|(judge, bench, consumer)| {
        drop((consumer, bench));
        judge
    });
    assert!(times(&judges).into_iter().eq((0..400).map(|n| (n, 1))), "{:?}", times(&judges));
    whole.close(producer);
    whole.cleanup();
}
