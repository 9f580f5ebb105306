//! The rate over time, with its warm-up in front.

use crate::load::schedule::{ArrivalProcess, RatePiece, Schedule, ScheduleShare};
use crate::plan::{Arrivals, Profile};
use crate::units::Nanos;

/// When the messages of one producer are due, from the start of the warm-up on.
pub fn schedule((arrivals, profile): (Arrivals, &Profile), warmup: Nanos, seed: u64, share: ScheduleShare) -> Schedule {
    let (pieces, repeat) = pieces(profile, warmup);
    let process = match arrivals {
        Arrivals::Constant => ArrivalProcess::Constant,
        Arrivals::Poisson => ArrivalProcess::Poisson(seed),
    };
    Schedule::new(pieces, repeat, &process, share)
}

/// The profile as the schedule wants it, behind a warm-up at the rate it begins with (its mean,
/// where it repeats).
fn pieces(profile: &Profile, warmup: Nanos) -> (Vec<RatePiece>, bool) {
    let mut pieces: Vec<RatePiece> =
        profile.segments.iter().map(|s| RatePiece { span: s.span.0, from: s.from.0, to: s.to.0 }).collect();
    if warmup == 0 || (profile.segments.len() == 1 && profile.segments[0].from == profile.segments[0].to) {
        return (pieces, profile.repeat);
    }
    if profile.repeat {
        // A schedule that repeats cannot begin with something else: start it so that a cycle begins
        // with the measurement.
        let cycle: Nanos = pieces.iter().map(|p| p.span).sum();
        let mut ahead = (cycle - warmup % cycle) % cycle;
        while ahead > 0 {
            let first = pieces[0];
            let cut = ahead.min(first.span);
            let middle = first.from + (first.to - first.from) * cut as f64 / first.span.max(1) as f64;
            pieces.remove(0);
            if cut < first.span {
                pieces.insert(0, RatePiece { span: first.span - cut, from: middle, to: first.to });
            }
            pieces.push(RatePiece { span: cut, from: first.from, to: middle });
            ahead -= cut;
        }
        return (pieces, true);
    }
    let rate = pieces[0].from.max(pieces[0].to.min(1.0));
    pieces.insert(0, RatePiece { span: warmup, from: rate, to: rate });
    (pieces, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ProfileSegment;
    use crate::units::{Rate, SECOND, Span};

    #[test]
    fn a_cycle_begins_with_the_measurement() {
        let segment = |ms, rate| ProfileSegment { span: Span::millis(ms), from: Rate(rate), to: Rate(rate) };
        let burst = Profile { segments: vec![segment(200, 1000.0), segment(800, 0.0)], repeat: true };
        let (pieces, repeat) = pieces(&burst, SECOND / 2);
        assert!(repeat);
        assert_eq!(
            pieces.iter().map(|p| (p.span / 1_000_000, p.from)).collect::<Vec<_>>(),
            [(500, 0.0), (200, 1000.0), (300, 0.0)]
        );
    }

    #[test]
    fn a_ramp_waits_for_the_measurement() {
        let ramp = Profile {
            segments: vec![ProfileSegment { span: Span::secs(10), from: Rate(100.0), to: Rate(500.0) }],
            repeat: false,
        };
        let (pieces, _) = pieces(&ramp, SECOND);
        assert_eq!(pieces[0], RatePiece { span: SECOND, from: 100.0, to: 100.0 });
        assert_eq!(pieces[1].from, 100.0);
    }
}
