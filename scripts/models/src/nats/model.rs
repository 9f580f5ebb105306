//! What is tried: a few threads that do with an outlet or an index what the router's tasks do, and
//! what must hold after it.

use std::sync::Arc;
use std::time::Duration;

use loom::future::block_on;
use loom::thread;

use super::config::SlowConsumer;
use super::index::{MatchedSubscriptions, Subscription, SubscriptionIndex};
use super::outlet::{Outlet, OutletLimits, WriterTask};
use super::sync::{AtomicBool, AtomicU64, Mutex, Socket};
use super::traffic::TrafficVolume;

/// Tries every order with at most two forced changes of thread, or as many as
/// `LOOM_MAX_PREEMPTIONS` says. With three threads, three take a minute; without a bound it is hours.
fn every_order(model: impl Fn() + Send + Sync + 'static) {
    every_order_of(2, model);
}

/// The same with a bound of its own, for a model of two threads.
fn every_order_of(forced: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(forced);
    builder.check(model);
}

/// What the socket takes at each try of a publisher; `None`: publishers have no socket, as with TLS.
pub type Takes = Option<&'static [usize]>;

fn outlet(takes: Takes, max_pending: usize, policy: SlowConsumer) -> (Arc<Outlet>, Arc<Socket>) {
    let socket = Arc::new(Socket::new(takes.unwrap_or_default()));
    let rules = OutletLimits {
        max_pending,
        policy,
        counters: Arc::default(),
        pool: super::pool::BufferPool::default(),
        watched: false,
    };
    (Arc::new(Outlet::new(1, Arc::new(rules), takes.map(|_| Arc::clone(&socket)))), socket)
}

/// The connection's writer task, as in `writer.rs`: to the end of the outlet.
fn write_all(outlet: &Outlet, socket: &Socket) -> WriterTask {
    loop {
        block_on(outlet.wake_writer.notified());
        let mut spent = None;
        loop {
            match outlet.work(spent.take()) {
                WriterTask::Write(buffer, at) => {
                    outlet.wrote(socket.take(&buffer[at..]));
                    spent = Some(buffer);
                }
                WriterTask::Idle => break,
                end => return end,
            }
        }
    }
}

/// The numbers of this publisher in the order in which they were written.
fn of(taken: &[u8], publisher: u8) -> Vec<u8> {
    taken.chunks(2).filter(|frame| frame[0] == publisher).map(|frame| frame[1]).collect()
}

fn commit(outlet: &Outlet, frame: [u8; 2]) {
    let mut stage = frame.to_vec();
    outlet.commit(&mut stage, TrafficVolume::default());
    assert!(stage.is_empty());
}

/// Two publishers and the writer task. Nothing is lost, nothing torn, nobody's frames change their
/// order, never two write at once, and the end is reached.
pub fn frames_leave_whole_and_in_order(takes: Takes) {
    every_order(move || {
        let (outlet, socket) = outlet(takes, 1000, SlowConsumer::Disconnect);
        let writer = {
            let (outlet, socket) = (Arc::clone(&outlet), Arc::clone(&socket));
            thread::spawn(move || matches!(write_all(&outlet, &socket), WriterTask::Finish))
        };
        let other = {
            let outlet = Arc::clone(&outlet);
            thread::spawn(move || commit(&outlet, [b'b', 1]))
        };
        commit(&outlet, [b'a', 1]);
        commit(&outlet, [b'a', 2]);
        other.join().expect("the other publisher ends");
        outlet.finish();
        assert!(writer.join().expect("the writer ends"), "it ends because all is written");
        let taken = socket.taken();
        assert_eq!((of(&taken, b'a'), of(&taken, b'b')), (vec![1, 2], vec![1]), "{taken:?}");
        assert_eq!(outlet.pending(), 0);
    });
}

/// One publisher writes for another, up to its last round; what is left then is the writer task's,
/// which comes after both here.
pub fn a_last_round_leaves_the_rest_to_the_writer_task() {
    every_order_of(4, || {
        let (outlet, socket) = outlet(Some(&[9, 9, 9]), 1000, SlowConsumer::Disconnect);
        let other = {
            let outlet = Arc::clone(&outlet);
            thread::spawn(move || commit(&outlet, [b'b', 1]))
        };
        commit(&outlet, [b'a', 1]);
        commit(&outlet, [b'a', 2]);
        other.join().expect("the other publisher ends");
        outlet.finish();
        assert!(matches!(write_all(&outlet, &socket), WriterTask::Finish));
        let taken = socket.taken();
        assert_eq!((of(&taken, b'a'), of(&taken, b'b')), (vec![1, 2], vec![1]), "{taken:?}");
        assert_eq!(outlet.pending(), 0);
    });
}

/// The connection is to end while another publisher writes to it: the writer task ends too, after
/// what was committed before, never within a frame, and nobody writes while it closes the socket.
pub fn a_finish_beside_a_publisher_is_not_lost(takes: Takes) {
    every_order(move || {
        let (outlet, socket) = outlet(takes, 1000, SlowConsumer::Disconnect);
        let writer = {
            let (outlet, socket) = (Arc::clone(&outlet), Arc::clone(&socket));
            thread::spawn(move || {
                assert!(matches!(write_all(&outlet, &socket), WriterTask::Finish));
                socket.end()
            })
        };
        let other = {
            let outlet = Arc::clone(&outlet);
            thread::spawn(move || commit(&outlet, [b'b', 1]))
        };
        commit(&outlet, [b'a', 1]);
        outlet.finish();
        let taken = writer.join().expect("the writer ends");
        other.join().expect("the other publisher ends");
        assert_eq!((of(&taken, b'a'), taken.len() % 2), (vec![1], 0), "{taken:?}");
    });
}

/// A publisher that is held back goes on once there is room, whoever makes it.
pub fn who_waits_for_room_is_woken(takes: Takes) {
    every_order(move || {
        let (outlet, socket) = outlet(takes, 4, SlowConsumer::Block);
        let writer = {
            let (outlet, socket) = (Arc::clone(&outlet), Arc::clone(&socket));
            thread::spawn(move || write_all(&outlet, &socket))
        };
        let other = {
            let outlet = Arc::clone(&outlet);
            thread::spawn(move || commit(&outlet, [b'b', 1]))
        };
        commit(&outlet, [b'a', 1]);
        // It returns: loom fails where all threads wait.
        block_on(outlet.room(Duration::MAX));
        block_on(outlet.flushed(Duration::MAX));
        other.join().expect("the other publisher ends");
        block_on(outlet.flushed(Duration::MAX));
        assert_eq!(outlet.pending(), 0);
        outlet.finish();
        writer.join().expect("the writer ends");
    });
}

/// A close beside a publisher ends the writer task and whoever waits.
pub fn a_close_ends_everyone(takes: Takes) {
    every_order(move || {
        let (outlet, socket) = outlet(takes, 1000, SlowConsumer::Disconnect);
        let writer = {
            let (outlet, socket) = (Arc::clone(&outlet), Arc::clone(&socket));
            thread::spawn(move || matches!(write_all(&outlet, &socket), WriterTask::Closed))
        };
        let closer = {
            let outlet = Arc::clone(&outlet);
            thread::spawn(move || outlet.close())
        };
        commit(&outlet, [b'a', 1]);
        commit(&outlet, [b'a', 2]);
        block_on(outlet.closed());
        closer.join().expect("the close ends");
        assert!(writer.join().expect("the writer ends"));
        // What was written before is whole, or ends within one frame.
        assert!(b"a\x01a\x02".starts_with(&socket.taken()));
    });
}

/// Two subscriptions end by their count while the connection forgets those that have ended: each is
/// forgotten once.
pub fn an_ended_subscription_is_forgotten_once() {
    every_order_of(4, || {
        let (outlet, _) = outlet(None, 1000, SlowConsumer::Disconnect);
        let publisher = {
            let outlet = Arc::clone(&outlet);
            thread::spawn(move || {
                outlet.expire(&b"1".as_slice().into());
                outlet.expire(&b"2".as_slice().into());
            })
        };
        let mut forgotten = outlet.take_expired();
        forgotten.extend(outlet.take_expired());
        publisher.join().expect("the publisher ends");
        forgotten.extend(outlet.take_expired());
        let sids: Vec<_> = forgotten.iter().map(|sid| sid[0]).collect();
        assert_eq!(sids, b"12");
    });
}

fn sub(subject: &[u8]) -> Arc<Subscription> {
    Arc::new(Subscription {
        outlet: outlet(None, 1000, SlowConsumer::Disconnect).0,
        subject: subject.into(),
        queue: None,
        sid: b"1".as_slice().into(),
        delivered: AtomicU64::new(0),
        max: AtomicU64::new(0),
        ended: AtomicBool::new(false),
    })
}

/// A publisher's kept route, as in `router.rs`: forgotten when the generation has changed, and only
/// then searched again.
#[derive(Default)]
struct Kept {
    generation: u64,
    route: Option<usize>,
    found: MatchedSubscriptions,
}

impl Kept {
    fn reached(&mut self, index: &SubscriptionIndex) -> usize {
        if self.generation != index.generation() {
            self.generation = index.generation();
            self.route = None;
        }
        *self.route.get_or_insert_with(|| {
            index.search(b"a.b", &mut self.found);
            self.found.plain.len()
        })
    }
}

/// A publisher that keeps its route beside one who subscribes and leaves again: whatever was
/// acknowledged before it publishes is in its route.
pub fn a_kept_route_misses_nothing_acknowledged() {
    every_order(|| {
        let index = Arc::new(SubscriptionIndex::default());
        // The step of the client, and how many subscriptions there are if it waits for nothing.
        let acknowledged = Arc::new(Mutex::new((0, Some(0))));
        let client = {
            let (index, acknowledged) = (Arc::clone(&index), Arc::clone(&acknowledged));
            thread::spawn(move || {
                let set = |step| *acknowledged.lock().expect("no panic") = step;
                let sub = sub(b"a.*");
                set((1, None));
                index.insert(&sub);
                set((2, Some(1)));
                set((3, None));
                assert!(index.remove(&sub));
                set((4, Some(0)));
            })
        };
        let mut kept = Kept::default();
        for _ in 0..2 {
            let before = *acknowledged.lock().expect("no panic");
            let reached = kept.reached(&index);
            let after = *acknowledged.lock().expect("no panic");
            if let (true, Some(count)) = (before == after, before.1) {
                assert_eq!(reached, count, "a stale route");
            }
        }
        client.join().expect("the client ends");
        assert_eq!(kept.reached(&index), 0, "a stale route");
    });
}

/// Two clients subscribe at the same time: the route of a publisher beside them holds both in the
/// end.
pub fn two_changes_at_once_are_both_seen() {
    every_order(|| {
        let index = Arc::new(SubscriptionIndex::default());
        let clients = [b"a.*", b"a.b"].map(|subject| {
            let index = Arc::clone(&index);
            thread::spawn(move || index.insert(&sub(subject)))
        });
        let mut kept = Kept::default();
        kept.reached(&index);
        for client in clients {
            client.join().expect("the client ends");
        }
        assert_eq!(kept.reached(&index), 2, "a stale route");
    });
}

/// A subscription that ends by its count while its client takes it back is taken out once.
pub fn a_subscription_is_taken_out_once() {
    every_order(|| {
        let index = Arc::new(SubscriptionIndex::default());
        let sub = sub(b"a.b");
        index.insert(&sub);
        let other = {
            let (index, sub) = (Arc::clone(&index), Arc::clone(&sub));
            thread::spawn(move || index.remove(&sub))
        };
        let here = index.remove(&sub);
        assert!(here ^ other.join().expect("the other ends"));
        assert_eq!(index.changes(), (1, 1));
        let mut found = MatchedSubscriptions::default();
        index.search(b"a.b", &mut found);
        assert!(found.is_empty());
    });
}
