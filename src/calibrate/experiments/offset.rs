//! Experiment 16: clocks with a known offset and drift, over ways with unequal delays.

mod line;

use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;

use line::{DelayRange, UdpLine};

use super::experiment;
use crate::calibrate::CalibrateError;
use crate::calibrate::certificate::{ClaimLine, Experiment, FigureUnit};
use crate::calibrate::context::ExperimentContext;
use crate::clocks::echo::{EchoClient, EchoServer};
use crate::clocks::{ClockError, ClockLimits, ClockRelation, Exchange, LocalClock};
use crate::units::{Nanos, SECOND, Span, now};

/// Clocks that are made.
const CLOCKS: u64 = 100;
/// Of these, so many at a time: they wait most of the time.
const AT_ONCE: usize = 25;
/// From one question to the next.
const INTERVAL: Span = Span::millis(10);
/// How long the last answers are waited for.
const PATIENCE: Span = Span::secs(2);
const TOKEN: u64 = 16;
const LIMITS: ClockLimits = ClockLimits { drift: 1e-3, grain: 1 };

/// One clock, the delays on the way to it and back, and what was found.
struct ClockTrial {
    truth: LocalClock,
    exchanges: Vec<Exchange>,
}

/// A number from 0 to 1 that is the same everywhere: the minimal standard generator (Park and
/// Miller 1988), some steps from its seed.
fn unit(seed: u64) -> f64 {
    let step = |x: u64, _| x * 48_271 % 2_147_483_647;
    (0..5).fold(seed * 7_919 + 1, step) as f64 / 2_147_483_647.0
}

/// The clock of a trial: up to 1,000 s off, up to 200 ppm fast or slow.
fn clock(trial: u64) -> LocalClock {
    let shift = (unit(4 * trial) - 0.5) * 2_000.0 * SECOND as f64;
    // No clock shows less than nothing.
    let shift = (shift as i64).max(-(now() as i64 / 2));
    LocalClock::wrong_by(shift, (unit(4 * trial + 1) - 0.5) * 400e-6, now())
}

/// Delays of a trial: each way has its own least, 0.1 to 10 ms, and up to 3 ms more by chance.
fn delays(trial: u64) -> [DelayRange; 2] {
    [2, 3].map(|k| {
        let least = (1e5 * 100f64.powf(unit(4 * trial + k))) as Nanos;
        DelayRange { least: Span(least), more: Span::millis(3), seed: 4 * trial + k }
    })
}

/// Exchanges with a server, through a line, for so long.
fn ask(server: SocketAddr, delays: [DelayRange; 2], length: Span) -> io::Result<Vec<Exchange>> {
    let line = UdpLine::start(server, delays)?;
    let mut client = EchoClient::connect(line.address(), TOKEN, LocalClock::MACHINE)?;
    Ok(client.ask(INTERVAL, length, PATIENCE, &AtomicBool::new(false))?.exchanges)
}

/// Trials by their numbers, some at a time.
fn trials(numbers: u64, trial: impl Fn(u64) -> io::Result<ClockTrial> + Sync) -> io::Result<Vec<ClockTrial>> {
    let numbers: Vec<u64> = (0..numbers).collect();
    let mut all = Vec::new();
    for some in numbers.chunks(AT_ONCE) {
        let done: Vec<io::Result<ClockTrial>> = std::thread::scope(|scope| {
            let trial = &trial;
            let started: Vec<_> = some.iter().map(|n| scope.spawn(move || trial(*n))).collect();
            let panicked = |_| Err(io::Error::other("a thread panicked"));
            started.into_iter().map(|one| one.join().unwrap_or_else(panicked)).collect()
        });
        all.extend(done.into_iter().collect::<io::Result<Vec<_>>>()?);
    }
    Ok(all)
}

/// Clocks that are wrong by a shim.
fn shimmed(length: Span) -> io::Result<Vec<ClockTrial>> {
    trials(CLOCKS, |n| {
        let truth = clock(n);
        let server = EchoServer::start(([127, 0, 0, 1], 0).into(), TOKEN, truth)?;
        Ok(ClockTrial { truth, exchanges: ask(server.address(), delays(n), length)? })
    })
}

/// This program as a server in a time namespace of its own, where CLOCK_MONOTONIC is ahead by whole
/// seconds (time_namespaces(7)).
struct ShiftedEcho {
    child: Child,
    address: SocketAddr,
}

impl ShiftedEcho {
    fn start(program: &Path, ahead: u64) -> io::Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--time", "--monotonic", &ahead.to_string(), "--fork", "--kill-child", "--"]);
        command.arg(program).args(["clock-echo", "--token", &TOKEN.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        if let Some(address) = line.split_whitespace().next().and_then(|word| word.parse().ok()) {
            return Ok(Self { child, address });
        }
        let said = child.wait_with_output()?;
        Err(io::Error::other(String::from_utf8_lossy(&said.stderr).trim().to_owned()))
    }
}

impl Drop for ShiftedEcho {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Clocks that the kernel itself has shifted.
fn shifted(program: &Path, length: Span, clocks: u64) -> io::Result<Vec<ClockTrial>> {
    trials(clocks, |n| {
        let ahead = 1_000 * (n + 1) + 7;
        let server = ShiftedEcho::start(program, ahead)?;
        let truth = LocalClock::wrong_by((ahead * SECOND) as i64, 0.0, 0);
        Ok(ClockTrial { truth, exchanges: ask(server.address, delays(CLOCKS + n), length)? })
    })
}

/// What is wrong with one trial.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct ClockErrors {
    /// Instants, of five, at which the true offset is outside.
    offset: u64,
    drift: u64,
    /// The bound is more than half of the least round trip.
    wide: u64,
    /// A step was found where none was, or none where one was.
    step: u64,
    /// The bound at its best exchange as a share of half the round trip.
    share: f64,
}

fn judge(trial: &ClockTrial) -> ClockErrors {
    let Some(best) = trial.exchanges.iter().min_by_key(|e| e.round_trip()) else {
        return ClockErrors { offset: 5, drift: 1, wide: 1, step: 1, share: f64::INFINITY };
    };
    let mut errors = ClockErrors::default();
    match ClockRelation::of(&trial.exchanges, LIMITS) {
        Err(_) => errors.step = 1,
        Ok(relation) => {
            let (from, to) = relation.span();
            let instants = (0..5).map(|k| from + (to - from) / 4 * k);
            errors.offset =
                instants.filter(|at| !relation.offset_at(*at).contains(trial.truth.ahead(*at))).count() as u64;
            let drift = trial.truth.ahead(to) - trial.truth.ahead(from);
            errors.drift = u64::from(!relation.drift().contains(drift as f64 / (to - from).max(1) as f64));
            let bound = relation.offset_at(best.t1 + (best.t4 - best.t1) / 2).bound() as f64;
            let half = best.round_trip() as f64 / 2.0;
            // While the exchange lasts, the clocks part by what the drift is allowed to be.
            errors.wide = u64::from(bound > half + LIMITS.drift * (best.t4 - best.t1) as f64 + 4.0);
            errors.share = bound / half;
        }
    }
    errors.step += u64::from(!step_is_found(trial, best.round_trip()));
    errors
}

/// The same exchanges, with the other clock set forward in the middle by twice the longest round
/// trip: no line is allowed, and the instant is inside what is told of it.
fn step_is_found(trial: &ClockTrial, least: i64) -> bool {
    let mut exchanges = trial.exchanges.clone();
    exchanges.sort_unstable_by_key(|e| e.t1);
    let middle = exchanges.len() / 2;
    let longest = exchanges.iter().map(Exchange::round_trip).max().unwrap_or(least);
    for exchange in &mut exchanges[middle..] {
        exchange.t2 = exchange.t2.saturating_add_signed(2 * longest);
        exchange.t3 = exchange.t3.saturating_add_signed(2 * longest);
    }
    let at = exchanges.get(middle).map_or(0, |e| e.t1);
    match ClockRelation::of(&exchanges, LIMITS) {
        Err(ClockError::Stepped(step)) => step.after <= at && at <= step.before,
        _ => false,
    }
}

fn lines_of(shimmed: &[ClockTrial], shifted: &[ClockTrial]) -> Vec<ClaimLine> {
    let errors = |all: &[ClockTrial]| all.iter().map(judge).collect::<Vec<_>>();
    let (own, kernels) = (errors(shimmed), errors(shifted));
    let wrong = |of: &[ClockErrors], what: fn(&ClockErrors) -> u64| of.iter().filter(|e| what(e) > 0).count() as u64;
    let exact = |what: String, measured: u64| ClaimLine::exact(what, 0, measured);
    let n = own.len();
    let mut lines = vec![
        ClaimLine::exact("clocks with a known offset and drift", CLOCKS, n as u64),
        exact(format!("of {n}, true offset outside of the stated interval"), wrong(&own, |e| e.offset)),
        exact(format!("of {n}, true drift outside"), wrong(&own, |e| e.drift)),
        exact(format!("of {n}, bound above half of the least round trip"), wrong(&own, |e| e.wide)),
        exact(format!("of {n}, a step that is not found, or found where none is"), wrong(&own, |e| e.step)),
    ];
    let widest = own.iter().chain(&kernels).map(|e| e.share).fold(0.0, f64::max);
    // From nothing to all of half the round trip, and to the drift in it.
    lines.push(ClaimLine::judged(
        "widest bound as a share of half the round trip".into(),
        0.5,
        widest.is_finite().then_some(widest),
        0.5 + 2.0 * LIMITS.drift,
        FigureUnit::Number,
    ));
    if !kernels.is_empty() {
        let n = kernels.len();
        let any = |e: &ClockErrors| e.offset + e.drift + e.wide + e.step;
        lines.push(exact(format!("of {n} clocks shifted by the kernel, any of these"), wrong(&kernels, any)));
    }
    lines
}

/// A hundred clocks that are wrong on purpose, and some that the kernel has shifted.
pub fn offset(context: &ExperimentContext<'_>) -> Result<Vec<Experiment>, CalibrateError> {
    let length = context.pick(Span::millis(300), Span::secs(2));
    let io = |source| CalibrateError::Io { action: "exchange readings of clocks over the loopback", source };
    let shimmed = shimmed(length).map_err(io)?;
    let shifted = shifted(&context.program, length, context.pick(3, 10));
    let lines = lines_of(&shimmed, shifted.as_deref().unwrap_or_default());
    let claim = "From exchanges of readings over ways with unequal delays, the true offset and drift of another clock are always inside the stated interval, \
                 whose half is at most half of the least round trip, and a step is found with its instant.";
    let mut done = experiment(16, "clocks", claim, lines, None);
    if let Err(error) = shifted {
        done.host = format!("clocks are shimmed; none is shifted by the kernel here: {error}");
    }
    Ok(vec![done])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::certificate::ClaimVerdict;

    fn failed(trials: &[ClockTrial]) -> Vec<String> {
        let lines = lines_of(trials, &[]);
        lines.into_iter().skip(1).filter(|l| l.verdict != ClaimVerdict::Pass).map(|l| l.what).collect()
    }

    /// A hundred offsets over real sockets. The same exchanges, judged against a clock that is off
    /// by one longest round trip more, fail: the check is no empty one.
    #[test]
    fn a_hundred_offsets_are_inside_their_bounds() {
        let mut trials = shimmed(Span::millis(300)).unwrap();
        assert_eq!(trials.len(), 100);
        assert!(trials.iter().all(|t| t.exchanges.len() > 10));
        assert_eq!(failed(&trials), Vec::<String>::new());
        for trial in &mut trials {
            let longest = trial.exchanges.iter().map(Exchange::round_trip).max().unwrap();
            let origin = trial.exchanges[0].t1;
            trial.truth = LocalClock::wrong_by(trial.truth.ahead(origin) + longest, 0.0, origin);
        }
        let wrong: u64 = trials.iter().map(|t| u64::from(judge(t).offset > 0)).sum();
        assert!(wrong >= 95, "{wrong}");
    }

    /// 1 ms there and 9 ms back: the middle is wrong by 4 ms and inside; what is 1 ms beyond the
    /// delays is not.
    #[test]
    fn an_offset_that_the_delays_do_not_allow_fails() {
        let truth = LocalClock::wrong_by(5_000_000_000, 0.0, SECOND);
        let one = |k: u64| {
            let t1 = 100 * SECOND + k * 10_000_000;
            Exchange { t1, t2: truth.at(t1 + 1_000_000), t3: truth.at(t1 + 1_000_000), t4: t1 + 10_000_000 }
        };
        let exchanges: Vec<Exchange> = (0..50).map(one).collect();
        assert_eq!(failed(&[ClockTrial { truth, exchanges: exchanges.clone() }]), Vec::<String>::new());
        let middle = exchanges[0].offset();
        assert_eq!(middle, 5_000_000_000 - 4_000_000);
        let believed = LocalClock::wrong_by(middle - 6_000_000, 0.0, SECOND);
        assert_eq!(failed(&[ClockTrial { truth: believed, exchanges }]).len(), 1);
    }
}
