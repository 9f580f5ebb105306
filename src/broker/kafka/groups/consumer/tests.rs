//! Members that join, leave, fall silent and lag behind.

use proptest::prelude::*;

use super::*;

fn catalog(partitions: u32) -> TopicCatalog {
    TopicCatalog::from([("t".to_owned(), ([7; 16], partitions))])
}

fn join(member: &str) -> Beat {
    Beat {
        member: member.to_owned(),
        rebalance: Some(Duration::from_secs(60)),
        names: Some(BTreeSet::from(["t".to_owned()])),
        owned: Some(BTreeSet::new()),
        ..Beat::default()
    }
}

/// A client as it should be: it takes what it is told, and says what it has.
#[derive(Debug, Clone)]
struct TestMember {
    id: String,
    epoch: i32,
    owned: BTreeSet<PartitionId>,
}

impl TestMember {
    fn beat(&mut self, group: &mut ConsumerGroupState, topics: &TopicCatalog, now: Instant) {
        let beat = match self.epoch {
            0 => join(&self.id),
            epoch => Beat { member: self.id.clone(), epoch, owned: Some(self.owned.clone()), ..Beat::default() },
        };
        match group.beat(&beat, topics, now) {
            Ok(reply) => {
                self.epoch = reply.epoch;
                if let Some(assignment) = reply.assignment {
                    self.owned = assignment;
                }
            }
            Err((code::FENCED_MEMBER_EPOCH | code::UNKNOWN_MEMBER_ID, _)) => {
                self.epoch = 0;
                self.owned.clear();
            }
            Err(refusal) => panic!("{refusal:?}"),
        }
    }
}

proptest! {
    /// No partition is ever read by two, and when all is quiet every partition is read.
    #[test]
    fn partitions_move_from_one_to_the_next(
        steps in proptest::collection::vec((0usize..5, 0u8..8), 1..80), partitions in 1u32..12,
    ) {
        let mut group = ConsumerGroupState::new(Duration::from_secs(45), 10);
        let mut now = Instant::now();
        let mut topics = catalog(partitions);
        let mut clients: BTreeMap<usize, TestMember> = BTreeMap::new();
        for (n, action) in steps {
            now += Duration::from_secs(1);
            match action {
                0 => {
                    if let Some(client) = clients.remove(&n) {
                        let beat = Beat { member: client.id, epoch: LEAVE, ..Beat::default() };
                        let _ = group.beat(&beat, &topics, now);
                    }
                }
                // One that is gone without a word.
                1 => {
                    clients.remove(&n);
                }
                2 => topics = catalog(topics["t"].1 + 1),
                // Nothing comes from it for a while, and it learns of that later.
                3 => now += Duration::from_secs(20),
                _ => {
                    let new = || TestMember { id: format!("m{n}"), epoch: 0, owned: BTreeSet::new() };
                    clients.entry(n).or_insert_with(new).beat(&mut group, &topics, now);
                }
            }
            group.tick(&topics, now);
            // Who is out of the group stops reading when it notices, which the session bounds.
            let live = clients.values().filter(|client| {
                client.epoch > 0 && group.members.get(&client.id).is_some_and(|member| member.epoch >= client.epoch)
            });
            let mut seen = BTreeSet::new();
            for partition in live.flat_map(|client| &client.owned) {
                prop_assert!(seen.insert(*partition), "{partition:?} is read twice");
            }
        }
        now += Duration::from_secs(60);
        group.tick(&topics, now);
        for _ in 0..8 {
            for client in clients.values_mut() {
                client.beat(&mut group, &topics, now);
            }
        }
        if !clients.is_empty() {
            let read: BTreeSet<_> = clients.values().flat_map(|client| client.owned.clone()).collect();
            prop_assert_eq!(read.len(), topics["t"].1 as usize);
            prop_assert_eq!(group.state(), "Stable");
        }
    }
}

#[test]
fn who_does_not_give_up_in_time_is_removed() {
    let mut group = ConsumerGroupState::new(Duration::from_secs(45), 10);
    let (topics, now) = (catalog(4), Instant::now());
    assert_eq!(group.beat(&join("a"), &topics, now).unwrap().assignment.unwrap().len(), 4);
    assert_eq!(group.beat(&join("b"), &topics, now).unwrap().assignment.unwrap().len(), 0);
    let mut stubborn = TestMember { id: "a".to_owned(), epoch: 1, owned: (0..4).map(|n| ([7; 16], n)).collect() };
    let held = stubborn.owned.clone();
    for second in 0..61 {
        group.tick(&topics, now + Duration::from_secs(second));
        let beat = Beat { member: "a".to_owned(), epoch: 1, owned: Some(held.clone()), ..Beat::default() };
        let _ = group.beat(&beat, &topics, now + Duration::from_secs(second));
        let _ = group.beat(
            &Beat { member: "b".to_owned(), epoch: 2, ..Beat::default() },
            &topics,
            now + Duration::from_secs(second),
        );
    }
    assert!(!group.members.contains_key("a"));
    let later = now + Duration::from_secs(61);
    stubborn.beat(&mut group, &topics, later);
    assert_eq!((stubborn.epoch, stubborn.owned.len()), (0, 0));
    let reply = group.beat(
        &Beat { member: "b".to_owned(), epoch: group.members["b"].epoch, ..Beat::default() },
        &topics,
        later,
    );
    assert!(reply.is_ok());
    assert_eq!(group.members["b"].assigned.len(), 4);
}

#[test]
fn a_static_member_finds_its_partitions_again() {
    let mut group = ConsumerGroupState::new(Duration::from_secs(45), 10);
    let (topics, now) = (catalog(4), Instant::now());
    let fixed = |id: &str| Beat { instance: Some("one".to_owned()), ..join(id) };
    let had = group.beat(&fixed("a"), &topics, now).unwrap();
    assert_eq!(
        group.beat(&fixed("b"), &topics, now),
        Err((code::UNRELEASED_INSTANCE_ID, "the instance id is in use by another member"))
    );
    let pause =
        Beat { member: "a".to_owned(), instance: Some("one".to_owned()), epoch: LEAVE_FOR_NOW, ..Beat::default() };
    assert_eq!(group.beat(&pause, &topics, now).unwrap().epoch, LEAVE_FOR_NOW);
    let other = group.beat(&join("c"), &topics, now).unwrap().assignment.unwrap();
    assert!(other.is_empty(), "nothing moves while it is away");
    let back = group.beat(&fixed("b"), &topics, now).unwrap().assignment.unwrap();
    assert!(back.is_subset(&had.assignment.unwrap()) && !back.is_empty());
    assert_eq!(group.may_commit("b", 0), Err(code::STALE_MEMBER_EPOCH));
    assert_eq!(group.may_commit("x", 1), Err(code::UNKNOWN_MEMBER_ID));
}
