//! Who reads which partitions, as the broker decides it for groups of the new protocol.

use std::collections::{BTreeMap, BTreeSet};

/// A topic by its id, and a partition of it.
pub(crate) type PartitionId = ([u8; 16], i32);
/// What each member is to have.
pub(crate) type Assignment = BTreeMap<String, BTreeSet<PartitionId>>;

/// The assignors there are, by the names clients ask for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ServerAssignor {
    /// As even as can be, and with as few moves as can be.
    Uniform,
    /// Of each topic neighbouring partitions, the same ones of topics with as many partitions.
    Range,
}

impl ServerAssignor {
    pub(crate) fn of(name: &str) -> Option<Self> {
        match name {
            "uniform" => Some(Self::Uniform),
            "range" => Some(Self::Range),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// Gives every partition to a member that has subscribed to its topic. `wanted` holds the
    /// topics of each member, `topics` how many partitions each has.
    pub(crate) fn assign(
        self,
        wanted: &BTreeMap<String, BTreeSet<[u8; 16]>>,
        topics: &BTreeMap<[u8; 16], u32>,
        before: &Assignment,
    ) -> Assignment {
        match self {
            Self::Uniform => uniform(wanted, topics, before),
            Self::Range => range(wanted, topics),
        }
    }
}

fn empty(wanted: &BTreeMap<String, BTreeSet<[u8; 16]>>) -> Assignment {
    wanted.keys().map(|member| (member.clone(), BTreeSet::new())).collect()
}

fn range(wanted: &BTreeMap<String, BTreeSet<[u8; 16]>>, topics: &BTreeMap<[u8; 16], u32>) -> Assignment {
    let mut assignment = empty(wanted);
    for (topic, count) in topics {
        let members: Vec<&String> =
            wanted.iter().filter(|(_, topics)| topics.contains(topic)).map(|(id, _)| id).collect();
        let Ok(among) = u32::try_from(members.len()) else { continue };
        let mut next = 0;
        for (n, member) in (0..among).zip(members) {
            let share = count / among + u32::from(n < count % among);
            if let Some(own) = assignment.get_mut(member) {
                own.extend((next..next + share).map(|index| (*topic, index as i32)));
            }
            next += share;
        }
    }
    assignment
}

fn uniform(
    wanted: &BTreeMap<String, BTreeSet<[u8; 16]>>,
    topics: &BTreeMap<[u8; 16], u32>,
    before: &Assignment,
) -> Assignment {
    let mut assignment = empty(wanted);
    let subscribed: BTreeSet<&[u8; 16]> = wanted.values().flatten().collect();
    let all: usize = subscribed.iter().filter_map(|topic| topics.get(*topic)).map(|count| *count as usize).sum();
    let members = wanted.len().max(1);
    let (share, mut extra) = (all / members, all % members);
    let mut left: BTreeSet<PartitionId> = BTreeSet::new();
    for topic in subscribed {
        left.extend((0..topics.get(topic).copied().unwrap_or(0)).map(|index| (*topic, index as i32)));
    }
    // Everybody keeps what they had, up to their share; as many as there are partitions over keep
    // one more.
    for (member, topics) in wanted {
        let had = before.get(member).into_iter().flatten().filter(|(topic, _)| topics.contains(topic));
        let Some(own) = assignment.get_mut(member) else { continue };
        for partition in had {
            let room = own.len() < share || (own.len() == share && extra > 0);
            if room && left.remove(partition) {
                if own.len() == share {
                    extra -= 1;
                }
                own.insert(*partition);
            }
        }
    }
    // The rest goes to who has least of those that want it.
    let mut least: BTreeSet<(usize, &String)> = wanted.keys().map(|id| (assignment[id].len(), id)).collect();
    for partition in left {
        let found = least.iter().find(|(_, member)| wanted[*member].contains(&partition.0)).copied();
        let Some((count, member)) = found else { continue };
        least.remove(&(count, member));
        least.insert((count + 1, member));
        if let Some(own) = assignment.get_mut(member) {
            own.insert(partition);
        }
    }
    assignment
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn topic(n: u8) -> [u8; 16] {
        [n; 16]
    }

    proptest! {
        #[test]
        fn every_partition_has_one_member_that_wants_it(
            counts in proptest::collection::vec(0u32..9, 1..5),
            wants in proptest::collection::vec(0u8..16, 0..7),
            same in any::<bool>(),
        ) {
            let topics: BTreeMap<_, _> = counts.iter().enumerate().map(|(n, count)| (topic(n as u8), *count)).collect();
            let wanted: BTreeMap<String, BTreeSet<[u8; 16]>> = wants.iter().enumerate().map(|(n, bits)| {
                let mine = topics.keys().filter(|topic| same || bits >> topic[0] & 1 == 1).copied().collect();
                (format!("m{n}"), mine)
            }).collect();
            for assignor in [ServerAssignor::Uniform, ServerAssignor::Range] {
                let first = assignor.assign(&wanted, &topics, &Assignment::new());
                let mut given: Vec<_> = first.iter().flat_map(|(member, own)| own.iter().map(move |p| (*p, member))).collect();
                given.sort_unstable();
                prop_assert!(given.iter().all(|(partition, member)| wanted[*member].contains(&partition.0)));
                let expected: Vec<PartitionId> = topics.iter()
                    .filter(|(topic, _)| wanted.values().any(|wanted| wanted.contains(*topic)))
                    .flat_map(|(topic, count)| (0..*count as i32).map(|index| (*topic, index))).collect();
                let found: Vec<PartitionId> = given.iter().map(|(partition, _)| *partition).collect();
                prop_assert_eq!(found, expected);
                // Asked again, nothing moves.
                prop_assert_eq!(&assignor.assign(&wanted, &topics, &first), &first);
                if assignor == ServerAssignor::Uniform && same && !wanted.is_empty() {
                    let loads = || first.values().map(BTreeSet::len);
                    prop_assert!(loads().max().unwrap() - loads().min().unwrap() <= 1);
                    // One more member takes its share, and nothing else moves.
                    let mut more = wanted.clone();
                    more.insert("new".to_owned(), topics.keys().copied().collect());
                    let next = assignor.assign(&more, &topics, &first);
                    let moved: usize = first.iter().map(|(member, own)| own.difference(&next[member]).count()).sum();
                    prop_assert_eq!(moved, next["new"].len());
                }
            }
        }
    }
}
