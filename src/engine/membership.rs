//! Consumers that come, leave and die while it is measured, and what that does to the members of
//! their group.
//!
//! # Design
//! A consumer that events are about has a thread of its own: to join and to leave takes a client
//! library its time, and nobody else's messages may wait for it. Every member of the group notes,
//! for each event, how long it received nothing around it, and which messages came late until the
//! next event. A member that is not there has nothing to note.

use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::driver::{ClientSlot, Consumer, Driver, DriverError, Incident, Start};
use crate::plan::{Action, PlannedEvent};
use crate::record::{FaultRecord, MemberEffect, MembershipChange};
use crate::units::{Nanos, SECOND, now};

use super::consume::{ConsumerRecorder, Received, consume};
use super::raw::ThreadReport;
use super::shared::Shared;

/// A stop is noticed at least so often by one who is not there.
const TICK: Duration = Duration::from_millis(20);
/// Pause before a consumer is opened again.
const AGAIN: Duration = Duration::from_millis(100);

/// What events do to one consumer, by time since the measured phase began.
#[derive(Debug, Clone, Default)]
pub struct ConsumerScript(Vec<ScriptedEvent>);

/// An event of one consumer.
#[derive(Debug, Clone, Copy)]
struct ScriptedEvent {
    /// Which of the plan's events it is.
    number: u32,
    at: Nanos,
    action: Action,
}

impl ConsumerScript {
    /// Of the consumer in this slot.
    pub fn of(events: &[PlannedEvent], slot: ClientSlot) -> Self {
        let own = |e: &PlannedEvent| slot.group == 0 && e.action.of_consumer() && e.consumer == Some(slot.index);
        let numbered = (0..).zip(events).filter(|(_, e)| own(e));
        Self(numbered.map(|(number, e)| ScriptedEvent { number, at: e.at.0, action: e.action }).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the consumer comes only with an event.
    pub fn begins_absent(&self) -> bool {
        self.0.first().is_some_and(|e| e.action == Action::ConsumerJoin)
    }
}

/// Opens a consumer. Where the scenario disturbs the system this is tried for as long as a
/// connection may take: the server may be starting again, and an application would try again, too.
pub async fn open<D: Driver>(
    driver: &D,
    slot: ClientSlot,
    start: Start,
    (shared, patience): (&Shared, Nanos),
) -> Result<D::Consumer, DriverError> {
    let until = now() + patience;
    loop {
        match driver.consumer(slot, start).await {
            Err(_) if shared.disturbed && !shared.stopped() && now() < until => tokio::time::sleep(AGAIN).await,
            result => return result,
        }
    }
}

/// Lets a consumer receive until the trial stops, and come and go as its script says.
pub async fn follow<D: Driver>(
    driver: &D,
    slot: ClientSlot,
    script: &ConsumerScript,
    first: Option<D::Consumer>,
    recorder: &mut ConsumerRecorder<'_>,
    (done, patience): (&Sender<ThreadReport>, Nanos),
) -> Result<(), DriverError> {
    let (shared, origin) = (recorder.shared, recorder.origin);
    let mut consumer = first;
    for ScriptedEvent { number, at, action } in &script.0 {
        let due = origin + at;
        match &mut consumer {
            Some(consumer) => consume(consumer, recorder, due).await?,
            None => pause(recorder, due).await,
        }
        if shared.stopped() {
            break;
        }
        let begun = now();
        match (action, consumer.take()) {
            (Action::ConsumerJoin, _) => {
                recorder.received.windows.forget_last();
                consumer = Some(open(driver, slot, Start::Tail, (shared, patience)).await?);
            }
            (Action::ConsumerKill, Some(there)) => there.abandon(),
            (_, there) => drop(there),
        }
        let took = now() - begun;
        recorder.received.took.push((*at, took));
        let words = format!("{} {}, as the scenario asks; it took {:?}", action.name(), slot.index, rounded(took));
        let _ = done.send(ThreadReport::Event { at: begun, kind: Incident::Planned, words });
        let index = slot.index;
        let fault = match action {
            Action::ConsumerJoin => ThreadReport::Rejoined { consumer: index, at_ns: now() - origin },
            _ => ThreadReport::Fault(consumer_fault(*number, *action, index, *at, begun - origin)),
        };
        let _ = done.send(fault);
    }
    match &mut consumer {
        Some(consumer) => consume(consumer, recorder, Nanos::MAX).await,
        None => {
            pause(recorder, Nanos::MAX).await;
            Ok(())
        }
    }
}

fn consumer_fault(event: u32, action: Action, consumer: u32, due_ns: Nanos, at_ns: Nanos) -> FaultRecord {
    FaultRecord {
        event,
        occurrence: 1,
        action,
        nodes: Vec::new(),
        role: None,
        consumer: Some(consumer),
        due_ns,
        at_ns,
        undone_ns: None,
        settled_ns: None,
    }
}

fn rounded(took: Nanos) -> Duration {
    Duration::from_micros(took / 1000)
}

async fn pause(recorder: &mut ConsumerRecorder<'_>, until: Nanos) {
    while !recorder.shared.stopped() && now() < until {
        recorder.tell();
        let left = Duration::from_nanos(until.saturating_sub(now()));
        tokio::time::sleep(left.min(TICK)).await;
    }
}

/// What each event of consumers did to the members of the first group of a workload.
pub fn changes(events: &[PlannedEvent], origin: Nanos, received: &[(u32, Received)]) -> Vec<MembershipChange> {
    let seconds = |nanos: Nanos| nanos as f64 / SECOND as f64;
    let members = || received.iter().filter(|(group, _)| *group == 0).map(|(_, r)| r);
    let of_consumers = events.iter().filter(|e| e.action.of_consumer());
    let change = |(i, e): (usize, &PlannedEvent)| {
        let own = members().find(|r| Some(r.member) == e.consumer);
        let took = own.and_then(|r| r.took.iter().find(|(at, _)| *at == e.at.0));
        let mut all: Vec<MemberEffect> = members()
            .filter_map(|r| Some((r.member, r.windows.windows().get(i)?)))
            .filter(|(_, w)| w.first.is_some())
            .map(|(consumer, w)| MemberEffect {
                consumer,
                first_s: w.first.map(|at| seconds(at.saturating_sub(origin + e.at.0))),
                silence_s: w.silence.map(seconds),
                late: w.late,
                latest_s: (w.late > 0).then(|| seconds(w.latest)),
            })
            .collect();
        all.sort_by_key(|m| m.consumer);
        MembershipChange {
            at_s: seconds(e.at.0),
            action: e.action,
            consumer: e.consumer.unwrap_or_default(),
            took_s: took.map(|(_, took)| seconds(*took)),
            members: all,
        }
    };
    of_consumers.enumerate().map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Target;
    use crate::driver::fake::FakeDriver;
    use crate::measure::event_windows::{EventWindows, LATE};
    use crate::plan::{Content, DeliverySpec, Load, Pattern, Payload, PayloadSize, Places, Topology, Workload};
    use crate::units::{Bytes, Span};
    use proptest::prelude::*;

    fn event(at: Nanos, action: Action, consumer: u32) -> PlannedEvent {
        PlannedEvent { consumer: Some(consumer), ..PlannedEvent::once(Span(at), action) }
    }

    proptest! {
        /// Against every arrival looked at again: the longest silence that ends in a window, and
        /// the late messages of it.
        #[test]
        fn silences_and_late_messages_are_those_of_the_arrivals(
            gaps in prop::collection::vec((1u64..400_000_000, 0u64..300_000_000), 1..60), at in prop::collection::btree_set(1u64..5_000_000_000, 1..4)
        ) {
            let origin = 7_000_000_000;
            let events: Vec<_> = at.iter().map(|at| event(*at, Action::ConsumerLeave, 0)).collect();
            let mut windows = EventWindows::new(&events, origin);
            let (mut now, mut arrivals) = (origin - 1_000_000_000, Vec::new());
            for (gap, latency) in gaps {
                now += gap;
                arrivals.push((now, latency));
                windows.note(now, now - latency, Nanos::MAX);
            }
            let received = Received { windows, ..Received::default() };
            let found = changes(&events, origin, &[(0, received)]);
            for (i, change) in found.iter().enumerate() {
                let from = origin + events[i].at.0;
                let to = events.get(i + 1).map_or(Nanos::MAX, |e| origin + e.at.0);
                let inside = |at: Nanos| at >= from && at < to;
                let first = arrivals.iter().find(|(at, _)| inside(*at));
                prop_assert_eq!(change.members.len(), usize::from(first.is_some()));
                let Some(member) = change.members.first() else { continue };
                let silence = arrivals.windows(2).filter(|w| inside(w[1].0)).map(|w| w[1].0 - w[0].0).max();
                prop_assert_eq!(member.silence_s, silence.map(|s| s as f64 / 1e9));
                let late = arrivals.iter().filter(|(at, latency)| inside(*at) && *latency > LATE).count() as u64;
                prop_assert_eq!(member.late, late);
                prop_assert_eq!(member.first_s, first.map(|(at, _)| (at - from) as f64 / 1e9));
            }
        }
    }

    /// A consumer that reads a backlog begins at the moment at which the server is started again.
    #[tokio::test]
    async fn a_server_that_starts_again_is_tried_again() {
        let slot = ClientSlot { workload: 0, group: 0, index: 0 };
        let workload = Workload {
            name: "w".into(),
            pattern: Pattern::Replay,
            topology: Topology { producers: 1, channels: 1, groups: 1, members: 1, reply: false },
            load: Load::Unthrottled { window: 0 },
            payload: Payload { size: PayloadSize::Fixed(Bytes(100)), content: Content::Random },
            delivery: DeliverySpec::default(),
            target: None,
            at: Places::default(),
            intruders: 0,
            idle_connections: 0,
            agents: Default::default(),
        };
        let prepared = |shut: u64| {
            let options = [("shut".to_owned(), shut.into())].into_iter().collect();
            FakeDriver::prepare(Target { options, ..Target::default() }, std::slice::from_ref(&workload))
        };
        let mut shared = Shared::new(1);
        let once = open(&prepared(1).await.unwrap(), slot, Start::First, (&shared, SECOND)).await;
        assert!(once.is_err(), "nothing was to happen to this server");
        shared.disturbed = true;
        open(&prepared(3).await.unwrap(), slot, Start::First, (&shared, 20 * SECOND)).await.unwrap();
        let begun = now();
        let never = open(&prepared(u64::MAX).await.unwrap(), slot, Start::First, (&shared, SECOND / 2)).await;
        assert!(never.is_err() && now() - begun >= SECOND / 2);
    }

    #[test]
    fn a_script_is_that_of_one_member_of_the_first_group() {
        let events =
            [event(1, Action::ConsumerJoin, 2), event(2, Action::ConsumerKill, 1), event(3, Action::ConsumerLeave, 2)];
        let of = |group, index| ConsumerScript::of(&events, ClientSlot { workload: 0, group, index });
        assert!(of(0, 2).begins_absent() && of(0, 2).0.len() == 2);
        assert!(!of(0, 1).begins_absent() && of(0, 1).0.len() == 1);
        assert!(of(0, 0).is_empty() && of(1, 2).is_empty());
    }
}
