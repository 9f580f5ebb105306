//! Experiment 14: the search for the highest load, at a broker whose limit is known.

use super::experiment;
use crate::calibrate::CalibrateError;
use crate::calibrate::certificate::{ClaimLine, Experiment, FigureUnit, HostNoise, Thoroughness};
use crate::calibrate::context::ExperimentContext;
use crate::record::SearchResult;

/// Messages per second that the broker passes: none of the rates that the search tries. In a trial
/// of 2 s up to 2.5 % more stay below 50 ms; the next higher rate is 3.6 % above it.
const CAP: f64 = 1_930.0;
/// How far apart the two rates of an answer may be.
const WIDTH: f64 = 0.05;
/// Three digits of a rate add to it.
const DIGITS: f64 = 0.006;

/// The broker passes [`CAP`] messages a second, so any more piles up without end. In the full form
/// only: it takes minutes.
pub fn search(context: &ExperimentContext<'_>) -> Result<Vec<Experiment>, CalibrateError> {
    if context.form == Thoroughness::Quick {
        return Ok(Vec::new());
    }
    let text = format!(
        "name = \"capacity\"\nquestion = \"Is a known limit found?\"\n\
         [[workload]]\npattern = \"fan-out\"\nconsumers = 1\nload.rate = \"500/s\"\npayload.size = \"64B\"\n\
         [faults]\nrate-cap = {{ rate = \"{CAP}/s\" }}\n\
         [run]\nwarmup = \"0s\"\nduration = \"2s\"\ninterval = \"50ms\"\ndrain = \"30s\"\n\
         [search]\nlimits = [\"e2e.p99 < 50ms\"]\nwidth = \"5%\"\nmax = \"50k/s\"\nsearches = 3\n"
    );
    let ran = context.searches("capacity", text)?;
    let claim =
        "The highest rate that a broker of known limit r takes is found as an interval that holds r, at most 5 % wide.";
    Ok(vec![experiment(14, "capacity", claim, judge(&ran.results, &ran.noise), Some(ran.noise))])
}

fn judge(all: &[SearchResult], noise: &HostNoise) -> Vec<ClaimLine> {
    let mut lines = Vec::new();
    for s in all {
        let (lower, upper) = (s.bracket.lower.unwrap_or(0.0), s.bracket.upper.unwrap_or(f64::INFINITY));
        // The nearest rate of the interval: r itself where the interval holds it. A pause of the
        // host fails a trial that the broker would have passed, never the other way round.
        let nearest = CAP.clamp(lower, upper.min(f64::MAX));
        let line = ClaimLine::judged(
            format!("search {}: nearest rate of the interval", s.number),
            CAP,
            Some(nearest),
            0.0,
            FigureUnit::PerSecond,
        );
        lines.push(line.excused(nearest < CAP && noise.explains(50e6, 0.99)));
        let width = upper / lower.max(1.0) - 1.0;
        let percent = (100.0 * (width - DIGITS)).ceil().max(0.0);
        let wide = ClaimLine::exact(
            format!("search {}: per cent of width beyond {:.0}", s.number, 100.0 * WIDTH),
            0,
            if percent.is_finite() { (percent - 100.0 * WIDTH).max(0.0) as u64 } else { u64::MAX },
        );
        lines.push(wide);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::certificate::ClaimVerdict;
    use crate::plan::search::{Bracket, Ending};

    fn verdicts(lower: f64, upper: f64) -> Vec<ClaimVerdict> {
        let result = SearchResult {
            case: "reference".into(),
            system: 0,
            number: 1,
            bracket: Bracket { lower: Some(lower), upper: Some(upper), ending: Ending::Found },
            trials: Vec::new(),
            votes: Vec::new(),
            broken: None,
        };
        judge(&[result], &HostNoise::default()).iter().map(|l| l.verdict).collect()
    }

    #[test]
    fn an_interval_passes_that_is_narrow_and_holds_the_limit() {
        let (pass, fail) = (ClaimVerdict::Pass, ClaimVerdict::Fail);
        assert_eq!(verdicts(1_910.0, 2_000.0), [pass, pass]);
        assert_eq!(verdicts(1_840.0, 1_920.0), [fail, pass]);
        assert_eq!(verdicts(1_940.0, 2_030.0), [fail, pass]);
        assert_eq!(verdicts(1_800.0, 2_100.0), [pass, fail]);
    }
}
