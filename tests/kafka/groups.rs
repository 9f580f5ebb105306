//! Consumer groups: each has everything, its members share it, and what they commit is at the
//! broker.

use std::time::{Duration, Instant};

use msgbench::driver::{Driver, Start, Target};
use msgbench::plan::AgentShare;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use super::support::{BOUND, Bench, numbers, open_at, shared, slot, target, try_open, workload};

/// The offsets that a group of a bench has committed, summed over its partitions.
fn committed(url: &str, bench: &Bench, partitions: i32) -> i64 {
    let topic = format!("mb-{:08x}-0", bench.run);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", url.trim_start_matches("kafka://"))
        .set("group.id", format!("{topic}-g0"))
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_range(&topic, 0, partitions - 1);
    let found = consumer.committed_offsets(list, BOUND).unwrap();
    found.elements().iter().filter_map(|e| e.offset().to_raw()).sum()
}

#[test]
fn every_group_has_everything_and_members_share_it() {
    let Some(url) = shared() else { return };
    for (options, settings) in [
        (json!({}), None),
        (json!({ "assignor": "roundrobin" }), Some("roundrobin")),
        (json!({ "assignor": "cooperative-sticky" }), Some("cooperative-sticky")),
        (json!({ "assignor": "range", "static-members": true }), Some("range")),
        (json!({ "consumers": "assign" }), None),
        (json!({ "group-protocol": "consumer" }), None),
    ] {
        let bench = open_at(url, options.clone(), &workload(6, 2, 3));
        let mut members: Vec<_> = (0..6).map(|i| bench.consumer(i / 3, i % 3, Start::Tail)).collect();
        let mut producer = bench.producer(0);
        bench.send(&mut producer, 0, 0..600, |n| ((n % 6) as u32, None));
        for group in members.chunks_mut(3) {
            let shares: Vec<Vec<u64>> = group.iter_mut().map(|m| numbers(&bench.receive(m, 200))).collect();
            // Six partitions among three: two each, so a third of the messages each.
            assert!(
                shares.iter().all(|s| s.len() == 200),
                "{options}: {:?}",
                shares.iter().map(Vec::len).collect::<Vec<_>>()
            );
            let mut all: Vec<u64> = shares.concat();
            all.sort_unstable();
            assert_eq!(all, (0..600).collect::<Vec<_>>(), "{options}");
        }
        if let Some(strategy) = settings {
            assert_eq!(bench.guarantee("consumer partition.assignment.strategy"), strategy);
        }
        let protocol = if options.get("group-protocol").is_some() { "consumer" } else { "classic" };
        assert_eq!(bench.guarantee("consumer group.protocol"), protocol, "{options}");
        bench.close(producer);
        drop(members);
        let begun = Instant::now();
        bench.cleanup();
        eprintln!("{options}: removed within {:?}", begun.elapsed());
    }
}

#[test]
fn members_without_a_partition_are_said_to_be_idle() {
    let Some(url) = shared() else { return };
    let bench = open_at(url, json!({}), &workload(2, 1, 3));
    let mut members: Vec<_> = (0..3).map(|i| bench.consumer(0, i, Start::Tail)).collect();
    let mut producer = bench.producer(0);
    bench.send(&mut producer, 0, 0..200, |n| ((n % 2) as u32, None));
    // A member that gets its partition late hears nothing for a while.
    let mut heard = vec![Vec::new(); members.len()];
    let begun = Instant::now();
    while heard.iter().map(Vec::len).sum::<usize>() < 200 && begun.elapsed() < Duration::from_secs(60) {
        for (member, heard) in members.iter_mut().zip(&mut heard) {
            bench.more(member, heard);
        }
    }
    let mut shares: Vec<usize> = heard.iter().map(Vec::len).collect();
    shares.sort_unstable();
    assert_eq!(shares, [0, 100, 100]);
    assert_eq!(bench.guarantee("idle consumers"), "1 of 3 in a group: there are 2 partitions");
    bench.close(producer);
    drop(members);
    bench.cleanup();
}

#[test]
fn commits_reach_the_broker_as_they_are_asked_for() {
    let Some(url) = shared() else { return };
    let modes = [("sync", 100), ("async", 100), ("auto", 100), ("none", 0)];
    let all = ["group", "wire"].into_iter().flat_map(|consumers| modes.map(|(commit, n)| (consumers, commit, n)));
    for (consumers, commit, after_leaving) in all {
        let options: Value = json!({ "consumers": consumers, "commit": commit, "commit-interval": "10s" });
        let bench = open_at(url, options, &workload(2, 1, 1));
        let mut consumer = bench.consumer(0, 0, Start::Tail);
        let mut producer = bench.producer(0);
        bench.send(&mut producer, 0, 0..100, |n| ((n % 2) as u32, None));
        assert_eq!(bench.receive(&mut consumer, 100).len(), 100);
        if commit == "sync" {
            // The last batch was waited for.
            assert_eq!(committed(url, &bench, 2), 100);
        }
        if commit == "async" {
            let deadline = Instant::now() + BOUND;
            while committed(url, &bench, 2) < 100 && Instant::now() < deadline {
                assert!(bench.silent(&mut consumer, Duration::from_millis(20)), "something came twice");
            }
        }
        drop(consumer);
        assert_eq!(committed(url, &bench, 2), after_leaving, "{commit}");
        let log = bench.driver.incidents().take_log();
        assert!(log.iter().all(|(.., text)| !text.contains("commit")), "{log:?}");
        bench.close(producer);
        bench.cleanup();
    }
}

#[test]
fn nothing_is_left_behind() {
    let Some(url) = shared() else { return };
    let mut w = workload(2, 2, 1);
    w.topology.reply = true;
    let bench = open_at(url, json!({}), &w);
    let name = format!("mb-{:08x}", bench.run);
    let members: Vec<_> = (0..2).map(|g| bench.consumer(g, 0, Start::Tail)).collect();
    let client: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", url.trim_start_matches("kafka://")).create().unwrap();
    let topics = || -> Vec<String> {
        let found = client.fetch_metadata(None, BOUND).unwrap();
        found.topics().iter().map(|t| t.name().to_owned()).filter(|t| t.starts_with(&name)).collect()
    };
    let groups = || {
        let found = client.fetch_group_list(None, BOUND).unwrap();
        found.groups().iter().filter(|g| g.name().starts_with(&name)).count()
    };
    let mut there = topics();
    there.sort();
    assert_eq!(there, [format!("{name}-0"), format!("{name}-0-reply")]);
    assert_eq!(groups(), 2);
    drop(members);
    bench.cleanup();
    assert_eq!(topics(), Vec::<String>::new());
    assert_eq!(groups(), 0);
}

/// Waits until a group has members: then it takes no offsets from one who is none.
fn until_it_has_members(url: &str, topic: &str) {
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", url.trim_start_matches("kafka://"))
        .set("group.id", format!("{topic}-g0"))
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut start = TopicPartitionList::new();
    start.add_partition_offset(topic, 0, Offset::Offset(0)).unwrap();
    let deadline = Instant::now() + BOUND;
    while client.commit(&start, CommitMode::Sync).is_ok() {
        assert!(Instant::now() < deadline, "nobody has joined");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn another_process_joins_a_group_that_has_members() {
    let Some(url) = shared() else { return };
    for protocol in ["classic", "consumer"] {
        let to = target(url, &json!({ "group-protocol": protocol }));
        let w = workload(4, 1, 2);
        let whole = try_open(to.clone(), &w).unwrap_or_else(|e| panic!("{e}"));
        let member = |index| {
            let part = Some(AgentShare { index, of: 2, labels: Vec::new() });
            let bench = try_open(Target { part, ..to.clone() }, &w).unwrap_or_else(|e| panic!("{e}"));
            let consumer = bench.consumer(0, index, Start::Tail);
            (bench, consumer)
        };
        let (mut first, mut second) = std::thread::scope(|scope| {
            // It waits until the other one has its share.
            let first = scope.spawn(|| member(0));
            until_it_has_members(url, &format!("mb-{:08x}-0", whole.run));
            (member(1), first.join().unwrap())
        });
        // Where all members are of one process, one that is there already is none of its own.
        let refused = whole.runtime.block_on(whole.driver.consumer(slot(0, 0), Start::Tail)).err().unwrap().to_string();
        assert!(refused.contains("set where the group"), "{protocol}: {refused}");
        let mut producer = whole.producer(0);
        whole.send(&mut producer, 0, 0..400, |n| ((n % 4) as u32, None));
        let mut all = Vec::new();
        for (bench, consumer) in [&mut first, &mut second] {
            let share = numbers(&bench.receive(consumer, 200));
            assert_eq!(share.len(), 200, "{protocol}");
            all.extend(share);
        }
        all.sort_unstable();
        assert_eq!(all, (0..400).collect::<Vec<_>>(), "{protocol}");
        whole.close(producer);
        drop((first, second));
        whole.cleanup();
    }
}
