//! The state machine of a group, with numbers for waiters and a clock that moves by hand.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::code;
use super::state::{Group, GroupReply, GroupState, JoinReply, JoinRequest, MemberIdentity, SyncReply};

struct TestGroup {
    group: Group<u32>,
    now: Instant,
    next: u32,
    out: Vec<(u32, GroupReply)>,
}

const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);

fn join_as(member: &str, instance: Option<&str>) -> JoinRequest {
    JoinRequest {
        member: member.to_owned(),
        instance: instance.map(str::to_owned),
        client: "c".into(),
        host: "/h".into(),
        session: SESSION,
        rebalance: REBALANCE,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::from_static(b"r")), ("sticky".into(), Bytes::from_static(b"s"))],
        needs_id: false,
        knows_skip: true,
    }
}

impl TestGroup {
    fn new() -> Self {
        Self { group: Group::new(Duration::ZERO, 100), now: Instant::now(), next: 0, out: Vec::new() }
    }

    fn join(&mut self, join: JoinRequest) -> u32 {
        self.next += 1;
        let id = format!("m{}", self.next);
        self.group.join(join, self.next, id, self.now, &mut self.out);
        self.next
    }

    fn sync(&mut self, member: &str, generation: i32, assignments: &[(&str, &'static str)]) -> u32 {
        self.next += 1;
        let assignments =
            assignments.iter().map(|(m, a)| ((*m).to_owned(), Bytes::from_static(a.as_bytes()))).collect();
        let who = MemberIdentity { member, instance: None, generation };
        self.group.sync(who, (None, None), assignments, self.next, self.now, &mut self.out);
        self.next
    }

    fn joined(&mut self, waiter: u32) -> Option<JoinReply> {
        let at = self.out.iter().position(|(w, _)| *w == waiter)?;
        match self.out.remove(at).1 {
            GroupReply::Join(joined) => Some(joined),
            GroupReply::Sync(_) => panic!("a sync was answered"),
        }
    }

    fn synced(&mut self, waiter: u32) -> Option<SyncReply> {
        let at = self.out.iter().position(|(w, _)| *w == waiter)?;
        match self.out.remove(at).1 {
            GroupReply::Sync(synced) => Some(synced),
            GroupReply::Join(_) => panic!("a join was answered"),
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now += span;
        self.group.tick(self.now, &mut self.out);
    }

    fn beat(&mut self, member: &str, generation: i32) -> i16 {
        self.group.heartbeat(MemberIdentity { member, instance: None, generation }, self.now)
    }

    /// Two members, stable in generation 2; the first leads.
    fn of_two() -> (Self, String, String) {
        let mut table = Self::new();
        let first = table.join(join_as("", None));
        let one = table.joined(first).unwrap().member;
        table.sync(&one, 1, &[(&one, "all")]);
        let second = table.join(join_as("", None));
        assert_eq!(table.joined(second), None, "the first must come again");
        assert_eq!(table.beat(&one, 1), code::REBALANCE_IN_PROGRESS);
        let again = table.join(join_as(&one, None));
        let (led, follows) = (table.joined(again).unwrap(), table.joined(second).unwrap());
        assert_eq!((led.generation, follows.generation, led.members.len(), follows.members.len()), (2, 2, 2, 0));
        assert_eq!((&led.leader, &follows.leader), (&one, &one));
        let two = follows.member;
        let waits = table.sync(&two, 2, &[]);
        assert_eq!(table.synced(waits), None, "the leader decides");
        let leads = table.sync(&one, 2, &[(&one, "a"), (&two, "b")]);
        assert_eq!(table.synced(waits).unwrap().assignment, "b");
        assert_eq!(table.synced(leads).unwrap().assignment, "a");
        assert_eq!(table.group.state, GroupState::Stable);
        table.out.clear();
        (table, one, two)
    }
}

#[test]
fn members_join_sync_and_stay_by_heartbeats() {
    let (mut table, one, two) = TestGroup::of_two();
    for _ in 0..5 {
        table.pass(SESSION / 2);
        assert_eq!((table.beat(&one, 2), table.beat(&two, 2)), (0, 0));
    }
    assert_eq!(table.beat(&one, 1), code::ILLEGAL_GENERATION);
    assert_eq!(table.beat("stranger", 2), code::UNKNOWN_MEMBER_ID);
    let stranger = table.sync("stranger", 2, &[]);
    assert_eq!(table.synced(stranger).unwrap().code, code::UNKNOWN_MEMBER_ID);
    // A follower that joins again unchanged gets what it has.
    let again = table.join(join_as(&two, None));
    assert_eq!(table.joined(again).unwrap().generation, 2);
    assert_eq!(table.group.state, GroupState::Stable);
}

#[test]
fn who_is_silent_is_out_and_the_rest_is_told() {
    let (mut table, one, two) = TestGroup::of_two();
    table.pass(SESSION * 2 / 3);
    assert_eq!(table.beat(&one, 2), 0);
    table.pass(SESSION / 2);
    assert_eq!(table.beat(&two, 2), code::UNKNOWN_MEMBER_ID);
    assert_eq!(table.beat(&one, 2), code::REBALANCE_IN_PROGRESS);
    let again = table.join(join_as(&one, None));
    let joined = table.joined(again).unwrap();
    assert_eq!((joined.generation, joined.members.len()), (3, 1));
}

#[test]
fn a_rebalance_goes_on_without_who_does_not_come() {
    let (mut table, one, two) = TestGroup::of_two();
    let again = table.join(join_as(&one, None));
    assert_eq!(table.joined(again), None);
    for _ in 0..7 {
        table.pass(SESSION * 9 / 10);
        table.beat(&two, 2);
    }
    let joined = table.joined(again).unwrap();
    assert_eq!((joined.generation, joined.members.len()), (3, 1));
    assert_eq!(table.beat(&two, 2), code::UNKNOWN_MEMBER_ID);
    // Nor for a leader that never syncs.
    table.pass(REBALANCE + SESSION);
    assert_eq!(table.group.state, GroupState::Empty);
    assert!(table.group.is_idle() && table.group.next_deadline().is_none());
}

#[test]
fn a_sync_is_called_off_by_a_new_member() {
    let mut table = TestGroup::new();
    let first = table.join(join_as("", None));
    let one = table.joined(first).unwrap().member;
    let second = table.join(join_as("", None));
    let again = table.join(join_as(&one, None));
    table.joined(again).unwrap();
    let two = table.joined(second).unwrap().member;
    let waits = table.sync(&two, 2, &[]);
    let third = table.join(join_as("", None));
    assert_eq!(table.synced(waits).unwrap().code, code::REBALANCE_IN_PROGRESS);
    assert_eq!(table.joined(third), None);
    let early = table.sync(&one, 2, &[]);
    assert_eq!(table.synced(early).unwrap().code, code::REBALANCE_IN_PROGRESS);
    let may = |table: &mut TestGroup, member: &str, generation| {
        table.group.may_commit(MemberIdentity { member, instance: None, generation }, table.now)
    };
    assert_eq!(may(&mut table, &one, 2), Ok(()), "what has been read may still be committed");
    assert_eq!(may(&mut table, "", -1), Err(code::UNKNOWN_MEMBER_ID), "not by who is no member");
}

#[test]
fn a_member_without_id_comes_again_with_the_one_it_is_given() {
    let mut table = TestGroup::new();
    let needs = |member: &str| JoinRequest { needs_id: true, ..join_as(member, None) };
    let first = table.join(needs(""));
    let refused = table.joined(first).unwrap();
    assert_eq!(refused.code, code::MEMBER_ID_REQUIRED);
    let again = table.join(needs(&refused.member));
    assert_eq!(table.joined(again).unwrap().code, code::NONE);
    // An id that is given out and never used is forgotten.
    let second = table.join(needs(""));
    let promised = table.joined(second).unwrap().member;
    table.pass(SESSION * 2);
    let late = table.join(needs(&promised));
    assert_eq!(table.joined(late).unwrap().code, code::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_static_member_takes_its_place_again_and_the_old_one_is_fenced() {
    for knows_skip in [true, false] {
        let mut table = TestGroup::new();
        let first = table.join(join_as("", Some("i")));
        let one = table.joined(first).unwrap().member;
        table.sync(&one, 1, &[(&one, "all")]);
        table.out.clear();
        let back = table.join(JoinRequest { knows_skip, ..join_as("", Some("i")) });
        let joined = table.joined(back).unwrap();
        assert_ne!(joined.member, one);
        assert_eq!((joined.code, joined.generation, joined.skip), (0, 1, knows_skip));
        assert_eq!(joined.leader == joined.member, knows_skip, "who cannot skip must not assign anew");
        let old = MemberIdentity { member: &one, instance: Some("i"), generation: 1 };
        assert_eq!(table.group.heartbeat(old, table.now), code::FENCED_INSTANCE_ID);
        let waits = table.sync(&joined.member, 1, &[]);
        assert_eq!(table.synced(waits).unwrap().assignment, "all");
        assert_eq!(table.group.leave("", Some("other"), table.now, &mut table.out), code::UNKNOWN_MEMBER_ID);
        assert_eq!(table.group.leave("", Some("i"), table.now, &mut table.out), code::NONE);
        assert!(table.group.is_idle());
    }
}

#[test]
fn the_protocol_all_know_and_most_like_is_taken() {
    let with = |names: &[&str]| JoinRequest {
        protocols: names.iter().map(|n| ((*n).to_owned(), Bytes::new())).collect(),
        ..join_as("", None)
    };
    let mut table = TestGroup::new();
    let first = table.join(with(&["a", "b"]));
    let one = table.joined(first).unwrap().member;
    let second = table.join(with(&["b", "c"]));
    let other = table.join(with(&["c"]));
    assert_eq!(table.joined(other).unwrap().code, code::INCONSISTENT_GROUP_PROTOCOL);
    let kind = table.join(JoinRequest { protocol_type: "connect".into(), ..with(&["b"]) });
    assert_eq!(table.joined(kind).unwrap().code, code::INCONSISTENT_GROUP_PROTOCOL);
    let again = table.join(JoinRequest { member: one, ..with(&["a", "b"]) });
    assert_eq!(table.joined(again).unwrap().protocol.as_deref(), Some("b"));
    assert_eq!(table.joined(second).unwrap().protocol.as_deref(), Some("b"));
}

#[test]
fn leaving_is_told_and_a_full_group_is_full() {
    let (mut table, one, two) = TestGroup::of_two();
    assert_eq!(table.group.leave(&two, None, table.now, &mut table.out), code::NONE);
    assert_eq!(table.group.leave(&two, None, table.now, &mut table.out), code::UNKNOWN_MEMBER_ID);
    assert_eq!(table.beat(&one, 2), code::REBALANCE_IN_PROGRESS);
    let mut table = TestGroup { group: Group::new(Duration::ZERO, 1), ..TestGroup::new() };
    let first = table.join(join_as("", None));
    assert_eq!(table.joined(first).unwrap().code, code::NONE);
    let second = table.join(join_as("", None));
    assert_eq!(table.joined(second).unwrap().code, code::GROUP_MAX_SIZE_REACHED);
}

#[test]
fn the_first_rebalance_waits_for_more_members() {
    let mut table = TestGroup { group: Group::new(Duration::from_secs(3), 100), ..TestGroup::new() };
    let first = table.join(join_as("", None));
    let second = table.join(join_as("", None));
    assert_eq!((table.joined(first), table.joined(second)), (None, None));
    assert_eq!(table.group.next_deadline(), Some(table.now + Duration::from_secs(3)));
    table.pass(Duration::from_secs(3));
    let (one, two) = (table.joined(first).unwrap(), table.joined(second).unwrap());
    assert_eq!((one.generation, one.members.len() + two.members.len()), (1, 2));
}
