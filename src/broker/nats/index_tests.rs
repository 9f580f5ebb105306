use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use proptest::prelude::*;

use super::*;
use crate::broker::nats::outlet::OutletLimits;
use crate::faults::pattern;

fn outlet() -> Arc<Outlet> {
    let rules = OutletLimits {
        max_pending: 1024,
        policy: crate::broker::SlowConsumer::Disconnect,
        counters: Arc::default(),
        pool: crate::broker::nats::pool::BufferPool::default(),
        watched: false,
    };
    Arc::new(Outlet::new(1, Arc::new(rules), None))
}

fn sub(outlet: &Arc<Outlet>, subject: &str, queue: Option<&str>) -> Arc<Subscription> {
    Arc::new(Subscription {
        outlet: Arc::clone(outlet),
        subject: subject.as_bytes().into(),
        queue: queue.map(|q| q.as_bytes().into()),
        sid: subject.as_bytes().into(),
        delivered: AtomicU64::new(0),
        max: AtomicU64::new(0),
        ended: AtomicBool::new(false),
    })
}

fn reached(index: &SubscriptionIndex, subject: &str) -> Vec<String> {
    let mut found = MatchedSubscriptions::default();
    index.search(subject.as_bytes(), &mut found);
    let mut names: Vec<String> =
        found.plain.iter().chain(&found.queued).map(|sub| String::from_utf8_lossy(&sub.subject).into_owned()).collect();
    names.sort();
    names
}

/// The rule itself, token by token.
fn matches(pattern: &str, subject: &str) -> bool {
    if subject.split('.').any(str::is_empty) {
        return false;
    }
    let mut tokens = subject.split('.');
    for part in pattern.split('.') {
        match (part, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (literal, Some(token)) if literal == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[test]
fn wildcards_reach_what_they_say() {
    let (index, outlet) = (SubscriptionIndex::default(), outlet());
    for pattern in ["a", "a.b", "a.*", "*.b", "a.>", ">", "*", "a.*.c"] {
        index.insert(&sub(&outlet, pattern, None));
    }
    assert_eq!(reached(&index, "a"), ["*", ">", "a"]);
    assert_eq!(reached(&index, "a.b"), ["*.b", ">", "a.*", "a.>", "a.b"]);
    assert_eq!(reached(&index, "a.x.c"), [">", "a.*.c", "a.>"]);
    for unmatched in ["", ".", "a.", ".a", "a..b", ".."] {
        assert!(reached(&index, unmatched).is_empty(), "{unmatched:?}");
    }
    assert_eq!(reached(&index, "a.*"), [">", "a.*", "a.>"], "a wildcard in a published subject is an ordinary token");
}

#[test]
fn members_of_one_group_stand_together_whatever_their_pattern() {
    let (index, outlet) = (SubscriptionIndex::default(), outlet());
    for (pattern, queue) in [("a.*", "q"), ("a.b", "r"), ("a.>", "q"), ("a.b", "q")] {
        index.insert(&sub(&outlet, pattern, Some(queue)));
    }
    let mut found = MatchedSubscriptions::default();
    index.search(b"a.b", &mut found);
    let groups: Vec<usize> = found.queued.chunk_by(|a, b| a.queue == b.queue).map(<[_]>::len).collect();
    assert_eq!(groups, [3, 1]);
}

#[test]
fn a_deep_subject_neither_recurses_nor_stays() {
    let (index, outlet) = (SubscriptionIndex::default(), outlet());
    let deep = vec!["a"; 100_000].join(".");
    let one = sub(&outlet, &deep, None);
    index.insert(&one);
    assert_eq!(reached(&index, &deep).len(), 1);
    assert!(index.remove(&one));
    assert!(!index.remove(&one), "only once");
    let tree = index.tree.read().unwrap();
    assert_eq!(tree.free.len(), tree.nodes.len() - 1, "every node but the root is free again");
}

#[test]
fn every_change_raises_the_generation() {
    let (index, outlet) = (SubscriptionIndex::default(), outlet());
    let one = sub(&outlet, "a", None);
    let before = index.generation();
    index.insert(&one);
    let between = index.generation();
    assert!(between > before);
    index.remove(&one);
    assert!(index.generation() > between);
}

proptest! {
    #[test]
    fn the_trie_agrees_with_the_rule(
        patterns in prop::collection::vec("[ab*>]{1,2}(\\.[ab*>]{1,2}){0,4}", 1..30),
        subjects in prop::collection::vec("[ab]{0,2}(\\.[ab]{0,2}){0,5}", 1..20),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let (index, outlet) = (SubscriptionIndex::default(), outlet());
        let mut subs: Vec<Arc<Subscription>> = patterns
            .iter()
            .filter(|p| pattern::valid(p.as_bytes()))
            .map(|p| sub(&outlet, p, None))
            .collect();
        for sub in &subs {
            index.insert(sub);
        }
        for at in removed {
            if !subs.is_empty() {
                let sub = subs.swap_remove(at.index(subs.len()));
                prop_assert!(index.remove(&sub));
            }
        }
        for subject in subjects {
            let mut expected: Vec<String> = subs
                .iter()
                .map(|sub| String::from_utf8_lossy(&sub.subject).into_owned())
                .filter(|pattern| matches(pattern, &subject))
                .collect();
            expected.sort();
            prop_assert_eq!(reached(&index, &subject), expected, "{}", subject);
        }
        for sub in &subs {
            index.remove(sub);
        }
        let tree = index.tree.read().unwrap();
        prop_assert_eq!(tree.free.len(), tree.nodes.len() - 1);
    }
}
