use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::*;
use crate::plan::Repeat;
use crate::system::{NodeLink, Running, SystemError};
use crate::units::Span;

/// Processes that do nothing, as the nodes of a system.
struct Sleepers(Vec<Child>, Vec<(usize, String)>);

fn sleeper() -> Child {
    Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap()
}

impl Sleepers {
    fn new(count: usize) -> Self {
        Self((0..count).map(|_| sleeper()).collect(), Vec::new())
    }
    fn pids(&self) -> Vec<u32> {
        self.0.iter().map(Child::id).collect()
    }
    fn ended_nodes(&mut self) -> Vec<usize> {
        (0..self.0.len()).filter(|node| self.node_ended(*node).is_some()).collect()
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl System for Sleepers {
    fn start(&mut self) -> Result<Running, SystemError> {
        Ok(Running::default())
    }
    fn node_ended(&mut self, node: usize) -> Option<String> {
        self.0[node].try_wait().unwrap().map(|status| status.to_string())
    }
    fn link(&mut self, node: usize, link: NodeLink<'_>) -> Result<(), String> {
        self.1.push((node, format!("{link:?}")));
        Ok(())
    }
    fn restart(&mut self, node: usize) -> Result<u32, String> {
        self.0[node] = sleeper();
        Ok(self.0[node].id())
    }
}

/// A cluster whose nodes lead in turn, one for each question, and that takes its time to answer.
#[derive(Default)]
struct InTurn {
    asked: Mutex<Vec<Instant>>,
    takes: Duration,
    unsettled: Mutex<u32>,
}

impl ClusterView for InTurn {
    fn nodes(&self, role: ClusterRole, stored: Option<&str>, _: Instant) -> Result<Vec<u32>, String> {
        assert_eq!((role, stored), (ClusterRole::Leader, Some("S2")));
        let mut asked = self.asked.lock().unwrap();
        asked.push(Instant::now());
        std::thread::sleep(self.takes);
        Ok(vec![asked.len() as u32 - 1])
    }
    fn settled(&self, _: Instant) -> Result<(), String> {
        let mut left = self.unsettled.lock().unwrap();
        match *left {
            0 => Ok(()),
            _ => {
                *left -= 1;
                Err("a replica is behind".into())
            }
        }
    }
}

fn event(at: Span, action: Action) -> PlannedEvent {
    PlannedEvent {
        node: NodeChoice::Role(ClusterRole::Leader),
        workload: Some("second".into()),
        ..PlannedEvent::once(at, action)
    }
}

fn stored() -> Vec<(String, StoredIn)> {
    let of = |name: &str, stream: &str| (name.to_owned(), Some(("stream", stream.to_owned())));
    vec![of("first", "S1"), of("second", "S2")]
}

/// Acts until `over`, as the control thread does; the longest that one turn took.
fn drive(
    pending: &mut PendingEvents<'_>,
    system: &mut Sleepers,
    raw: &mut RawTrial,
    over: impl Fn(&RawTrial) -> bool,
) -> Duration {
    let (begun, mut longest) = (Instant::now(), Duration::ZERO);
    while !over(raw) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?} {:?}", raw.failed, raw.faults);
        let wait = pending.next().saturating_sub(now()).min(50_000_000);
        std::thread::sleep(Duration::from_nanos(wait));
        let turn = Instant::now();
        pending.act(system, raw);
        longest = longest.max(turn.elapsed());
    }
    longest
}

/// Two events that are due together: for each it is asked who leads, and nothing waits for the
/// answer.
#[test]
fn each_event_asks_anew_and_the_control_thread_does_not_wait() {
    let takes = Duration::from_millis(1200);
    let view = Arc::new(InTurn { takes, ..InTurn::default() });
    let mut system = Sleepers::new(3);
    let pids = system.pids();
    let events = [event(Span(0), Action::Kill), event(Span(0), Action::Kill)];
    let scene = EventScene {
        events: &events,
        pids: &pids,
        seed: 1,
        origin: now(),
        view: Some(Arc::clone(&view) as Arc<dyn ClusterView>),
        stored: stored(),
        hand_over: Box::new(|_| None),
        kill_producers: Box::new(|_| 0),
    };
    let mut pending = PendingEvents::new(scene);
    let mut raw = RawTrial::default();
    let longest = drive(&mut pending, &mut system, &mut raw, |raw| raw.faults.len() == 2);
    assert!(longest < takes / 3, "a turn took {longest:?}");
    let asked = view.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 2, "one question for each event");
    assert!(asked[1] - asked[0] >= takes, "the second was asked before the first was answered");
    let nodes: Vec<_> = raw.faults.iter().map(|f| (f.event, f.nodes.clone(), f.role)).collect();
    let leader = Some(ClusterRole::Leader);
    assert_eq!(nodes, [(0, vec![0], leader), (1, vec![1], leader)]);
    assert!(raw.log[1].2.starts_with(&format!("kill node 1 (process {}), the leader of stream S2", pids[1])));
}

/// A repetition waits until the cluster says that all is well, and the record and the log say so.
#[test]
fn a_repetition_waits_until_the_cluster_has_settled() {
    let view = Arc::new(InTurn { unsettled: Mutex::new(40), ..InTurn::default() });
    let mut system = Sleepers::new(2);
    let pids = system.pids();
    let repeated = PlannedEvent {
        repeat: Some(Repeat { every: Span::millis(400), count: 2 }),
        lasts: Some(Span::millis(200)),
        ..event(Span::millis(100), Action::Kill)
    };
    let events = [repeated];
    let scene = EventScene {
        events: &events,
        pids: &pids,
        seed: 1,
        origin: now(),
        view: Some(Arc::clone(&view) as Arc<dyn ClusterView>),
        stored: stored(),
        hand_over: Box::new(|_| None),
        kill_producers: Box::new(|_| 0),
    };
    let mut pending = PendingEvents::new(scene);
    let mut raw = RawTrial::default();
    drive(&mut pending, &mut system, &mut raw, |raw| raw.faults.iter().filter(|f| f.settled_ns.is_some()).count() == 2);
    let [first, second] = &raw.faults[..] else { panic!("{:?}", raw.faults) };
    assert_eq!((first.due_ns, second.due_ns), (100_000_000, 500_000_000));
    let undone = first.undone_ns.unwrap();
    assert!(undone >= first.at_ns + 200_000_000, "{first:?}");
    // Forty looks that fail, and a second of peace. One look may be made before the node is noted
    // as back, or by a watch that is just being replaced.
    assert!(first.settled_ns.unwrap() >= undone + 38 * 50_000_000, "{first:?}");
    assert!(second.at_ns >= first.settled_ns.unwrap() + SECOND, "{first:?} {second:?}");
    let waited = raw.log.iter().find(|(.., words)| words.contains("it waited")).unwrap();
    assert!(waited.2.contains("(2 of 2); it waited"), "{}", waited.2);
    assert!(system.ended_nodes().is_empty(), "all run again");
    assert_ne!(system.pids(), pids);
}

/// Who has no role of that name is not done anything to.
#[test]
fn without_an_answer_nothing_is_done_and_the_trial_fails() {
    let mut system = Sleepers::new(2);
    let pids = system.pids();
    let events = [event(Span(0), Action::Kill)];
    let scene = EventScene {
        events: &events,
        pids: &pids,
        seed: 1,
        origin: now(),
        view: None,
        stored: stored(),
        hand_over: Box::new(|_| None),
        kill_producers: Box::new(|_| 0),
    };
    let mut pending = PendingEvents::new(scene);
    let mut raw = RawTrial::default();
    drive(&mut pending, &mut system, &mut raw, |raw| raw.failed.is_some());
    assert_eq!(raw.failed.unwrap().1, "kill the leader of second: its nodes have no roles");
    assert!(system.ended_nodes().is_empty() && raw.faults.is_empty());
}

/// Acts until an instant since the origin.
fn drive_until(pending: &mut PendingEvents<'_>, system: &mut Sleepers, raw: &mut RawTrial, since: Nanos) {
    let end = pending.scene.origin + since;
    drive(pending, system, raw, |_| now() >= end);
}

/// A node that another event starts again, while it is to be away for longer: that is over then,
/// and what is done to the new process is not undone by the first event.
#[test]
fn what_another_event_has_undone_does_not_last() {
    let mut system = Sleepers::new(1);
    let pids = system.pids();
    let of =
        |ms: u64, action| PlannedEvent { node: NodeChoice::Number(0), ..PlannedEvent::once(Span::millis(ms), action) };
    let away = |ms: u64, action| PlannedEvent { lasts: Some(Span::millis(600)), ..of(ms, action) };
    for action in [Action::Kill, Action::Pause] {
        let events = [away(0, action), of(200, Action::Restart), of(1_200, Action::Kill)];
        let pids_now = system.pids();
        let scene = EventScene {
            events: &events,
            pids: &pids_now,
            seed: 1,
            origin: now(),
            view: None,
            stored: stored(),
            hand_over: Box::new(|_| None),
            kill_producers: Box::new(|_| 0),
        };
        let mut pending = PendingEvents::new(scene);
        let mut raw = RawTrial::default();
        drive(&mut pending, &mut system, &mut raw, |raw| raw.faults.iter().any(|f| f.settled_ns.is_some()));
        drive_until(&mut pending, &mut system, &mut raw, 1_000_000_000);
        assert!(!pending.recovering(&raw), "{action:?}: {:?}", raw.faults);
        assert!(raw.faults[0].undone_ns.is_some_and(|at| at < 600_000_000), "{action:?}: {:?}", raw.faults);
        drive(&mut pending, &mut system, &mut raw, |raw| raw.log.iter().any(|l| l.2.starts_with("kill node 0")));
        drive_until(&mut pending, &mut system, &mut raw, 2_000_000_000);
        assert_eq!(system.ended_nodes(), [0], "{action:?}: nothing starts it again");
        system.restart(0).unwrap();
    }
    assert_ne!(system.pids(), pids);
}

/// All nodes at once, undone on all.
#[test]
fn all_nodes_are_ended_and_started_again() {
    let mut system = Sleepers::new(3);
    let pids = system.pids();
    let all = PlannedEvent {
        node: NodeChoice::Role(ClusterRole::All),
        lasts: Some(Span::millis(300)),
        ..PlannedEvent::once(Span(0), Action::Terminate)
    };
    let events = [all];
    let scene = EventScene {
        events: &events,
        pids: &pids,
        seed: 1,
        origin: now(),
        view: None,
        stored: stored(),
        hand_over: Box::new(|_| None),
        kill_producers: Box::new(|_| 0),
    };
    let mut pending = PendingEvents::new(scene);
    let mut raw = RawTrial::default();
    drive(&mut pending, &mut system, &mut raw, |raw| raw.faults.iter().any(|f| f.settled_ns.is_some()));
    assert_eq!(raw.faults[0].nodes, [0, 1, 2]);
    assert!(raw.faults[0].undone_ns.unwrap() >= 300_000_000);
    assert!(system.ended_nodes().is_empty());
    assert!(system.pids().iter().zip(&pids).all(|(new, old)| new != old));
}

/// Nodes end in turn, the next one when the one before runs again; they are asked to end.
#[test]
fn a_rolling_restart_takes_one_node_at_a_time() {
    let view = Arc::new(InTurn { unsettled: Mutex::new(5), ..InTurn::default() });
    let mut system = Sleepers::new(3);
    let pids = system.pids();
    let rolling = PlannedEvent {
        node: NodeChoice::Role(ClusterRole::All),
        ..PlannedEvent::once(Span::millis(50), Action::RollingRestart)
    };
    let events = [rolling];
    let scene = EventScene {
        events: &events,
        pids: &pids,
        seed: 1,
        origin: now(),
        view: Some(Arc::clone(&view) as Arc<dyn ClusterView>),
        stored: stored(),
        hand_over: Box::new(|_| None),
        kill_producers: Box::new(|_| 0),
    };
    let mut pending = PendingEvents::new(scene);
    let mut raw = RawTrial::default();
    drive(&mut pending, &mut system, &mut raw, |raw| raw.faults.iter().filter(|f| f.settled_ns.is_some()).count() == 3);
    let nodes: Vec<_> = raw.faults.iter().map(|f| f.nodes.clone()).collect();
    assert_eq!(nodes, [[0], [1], [2]]);
    assert!(raw.faults.windows(2).all(|pair| pair[1].at_ns >= pair[0].settled_ns.unwrap()), "{:?}", raw.faults);
    let ended = raw.log.iter().filter(|(.., words)| words.contains("signal: 15")).count();
    assert_eq!(ended, 3, "{:?}", raw.log);
    assert!(system.ended_nodes().is_empty() && system.pids().iter().zip(&pids).all(|(new, old)| new != old));
}

/// One node is cut off from all others for a while, and joined to them again.
#[test]
fn the_leader_alone_is_cut_off_and_mended() {
    let view = Arc::new(InTurn::default());
    let mut system = Sleepers::new(3);
    let pids = system.pids();
    let cut = PlannedEvent { alone: true, lasts: Some(Span::millis(300)), ..event(Span(0), Action::Cut) };
    let events = [cut];
    let scene = EventScene {
        events: &events,
        pids: &pids,
        seed: 1,
        origin: now(),
        view: Some(Arc::clone(&view) as Arc<dyn ClusterView>),
        stored: stored(),
        hand_over: Box::new(|_| None),
        kill_producers: Box::new(|_| 0),
    };
    let mut pending = PendingEvents::new(scene);
    let mut raw = RawTrial::default();
    drive(&mut pending, &mut system, &mut raw, |raw| raw.faults.iter().any(|f| f.settled_ns.is_some()));
    let fault = &raw.faults[0];
    assert_eq!((&fault.nodes[..], fault.role), (&[0][..], Some(ClusterRole::Leader)));
    assert!(fault.undone_ns.unwrap() >= fault.at_ns + 300_000_000, "{fault:?}");
    assert_eq!(system.1, [(0, "Cut".into()), (0, "Whole".into())]);
    assert!(raw.log[0].2.starts_with("cut node 0, the leader of stream S2 off from all others"), "{:?}", raw.log);
    assert_eq!(system.pids(), pids, "no process is touched");
}
