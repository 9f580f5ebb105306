//! Exchanges of readings between two hosts, which are network namespaces joined by virtual
//! Ethernet, with a delay in one direction only, and clocks whose offset is known: by a shim, or
//! because the kernel has shifted them in a time namespace.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "../common/needs.rs"]
mod needs;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use msgbench::clocks::echo::EchoClient;
use msgbench::clocks::{ClockLimits, ClockRelation, Exchange, LocalClock};
use msgbench::system::{NodeLink, NodeNetworks};
use msgbench::units::{SECOND, Span};

const PROGRAM: &str = env!("CARGO_BIN_EXE_msgbench");

/// The calling thread, and what it starts, in a network of its own.
fn own_network() -> Option<NodeNetworks> {
    // SAFETY: unshare concerns this thread alone, which is that of one test.
    let moved = match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => NodeNetworks::make(1),
        _ => Err(std::io::Error::last_os_error().to_string()),
    };
    match moved {
        Ok(networks) => Some(networks),
        Err(said) => {
            needs::network(&said);
            None
        }
    }
}

/// A server of exchanges, gone when it is dropped.
struct Echo {
    child: Child,
    address: SocketAddr,
    /// When the offset of its clock was its shift alone.
    origin: u64,
}

impl Echo {
    /// Starts what `command` is, with the arguments of the server.
    fn start(mut command: Command, args: &[String]) -> Result<Self, String> {
        command.args(["clock-echo".to_owned(), "--token".into(), "5".into()]).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| e.to_string())?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some(address), Some(origin)) => {
                Ok(Self { child, address: address.parse().unwrap(), origin: origin.parse().unwrap() })
            }
            _ => Err(String::from_utf8_lossy(&child.wait_with_output().unwrap().stderr).into_owned()),
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// At least so many exchanges, asked for again and again where the machine is too busy for them. A
/// queue of 60 ms has let go of what it keeps long before the patience with its last ones ends.
fn ask(server: SocketAddr, length: Span, least: usize) -> Vec<Exchange> {
    let mut client = EchoClient::connect(server, 5, LocalClock::MACHINE).unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    let mut all = Vec::new();
    while all.len() < least {
        assert!(Instant::now() < end, "{} exchanges of {least}", all.len());
        let sample = client.ask(Span::millis(5), length, Span::secs(1), &AtomicBool::new(false)).unwrap();
        all.extend(sample.exchanges);
    }
    all
}

/// The truth is inside at five instants, and the bound is at most half of the least round trip.
fn check(exchanges: &[Exchange], truth: LocalClock) {
    let limits = ClockLimits::default();
    let relation = ClockRelation::of(exchanges, limits).unwrap();
    let (from, to) = relation.span();
    for at in (0..5).map(|k| from + (to - from) / 4 * k) {
        assert!(relation.offset_at(at).contains(truth.ahead(at)), "{:?} {}", relation.offset_at(at), truth.ahead(at));
    }
    let best = exchanges.iter().min_by_key(|e| e.round_trip()).unwrap();
    let bound = relation.offset_at(best.t1 + (best.t4 - best.t1) / 2).bound() as f64;
    let most = best.round_trip() as f64 / 2.0 + limits.drift * (best.t4 - best.t1) as f64 + 4.0;
    assert!(bound <= most, "{bound} {most}");
}

/// The median of the delays there, and of those back, as the truth has them.
fn delays(exchanges: &[Exchange], truth: LocalClock) -> (i64, i64) {
    let median = |mut all: Vec<i64>| {
        all.sort_unstable();
        all[all.len() / 2]
    };
    let there = |e: &Exchange| e.t2 as i64 - e.t1 as i64 - truth.ahead(e.t1);
    let back = |e: &Exchange| e.t4 as i64 + truth.ahead(e.t4) - e.t3 as i64;
    (median(exchanges.iter().map(there).collect()), median(exchanges.iter().map(back).collect()))
}

/// One direction of the link is so slow that questions queue for it (tbf); answers have the whole
/// link. Whoever halves round trips is wrong by milliseconds.
#[test]
fn a_link_that_is_slow_in_one_direction_leaves_the_truth_inside() {
    let Some(networks) = own_network() else { return };
    for (shift, drift) in [(-5 * SECOND as i64, 80.0), (77_777 * SECOND as i64, -120.0)] {
        let mut command = Command::new(PROGRAM);
        networks.put_on(0, &mut command);
        let address = NodeNetworks::address(0);
        let args = [format!("--listen={address}:0"), format!("--shift={shift}"), format!("--drift={drift}")];
        let echo = Echo::start(command, &args).unwrap();
        let truth = LocalClock::wrong_by(shift, drift * 1e-6, echo.origin);
        networks.set(0, NodeLink::Whole).unwrap();
        let quick = ask(echo.address, Span::secs(1), 100);
        check(&quick, truth);
        // From here to the node; the port is the end of the pair on this side.
        let tbf = [
            "qdisc",
            "replace",
            "dev",
            "mb-node-0",
            "root",
            "tbf",
            "rate",
            "160kbit",
            "burst",
            "256",
            "latency",
            "60ms",
        ];
        let shaped = Command::new("tc").args(tbf).status();
        if !shaped.is_ok_and(|status| status.success()) {
            return needs::network("a link cannot be shaped by tbf");
        }
        let slow = ask(echo.address, Span::secs(3), 50);
        let (there, back) = delays(&slow, truth);
        assert!(there > 3 * back && there > 2_000_000, "the link is not slow there alone: {there} {back}");
        check(&slow, truth);
        check(&[quick, slow].concat(), truth);
    }
}

/// What is lost on the way is one exchange less, and a link that is cut gives none.
#[test]
fn a_cut_link_gives_no_exchange_and_is_no_error() {
    let Some(networks) = own_network() else { return };
    let mut command = Command::new(PROGRAM);
    networks.put_on(0, &mut command);
    let echo = Echo::start(command, &[format!("--listen={}:0", NodeNetworks::address(0))]).unwrap();
    networks.set(0, NodeLink::Cut).unwrap();
    let mut client = EchoClient::connect(echo.address, 5, LocalClock::MACHINE).unwrap();
    let cut = client.ask(Span::millis(5), Span::millis(100), Span::millis(50), &AtomicBool::new(false)).unwrap();
    assert!(cut.asked >= 5 && cut.exchanges.is_empty(), "{cut:?}");
    networks.set(0, NodeLink::Whole).unwrap();
    assert!(client.exchange(Span::secs(10)).unwrap().is_some());
}

/// The kernel itself has shifted the clock: nothing of ours is part of the truth.
#[test]
fn a_clock_that_the_kernel_has_shifted_is_found() {
    for ahead in [1_000, 123_456] {
        let mut command = Command::new("unshare");
        command.args(["--time", "--monotonic", &ahead.to_string(), "--fork", "--kill-child", "--", PROGRAM]);
        let echo = match Echo::start(command, &[]) {
            Ok(echo) => echo,
            Err(said) => {
                return needs::lack(
                    &format!("no time namespace ({})", said.trim()),
                    "run the tests as root, on a kernel with time namespaces",
                );
            }
        };
        let truth = LocalClock::wrong_by(ahead * SECOND as i64, 0.0, 0);
        let exchanges = ask(echo.address, Span::secs(1), 100);
        check(&exchanges, truth);
        let wrong = LocalClock::wrong_by(ahead * SECOND as i64 + 100_000_000, 0.0, 0);
        let relation = ClockRelation::of(&exchanges, ClockLimits::default()).unwrap();
        assert!(!relation.offset_at(relation.span().0).contains(wrong.ahead(0)));
    }
}
