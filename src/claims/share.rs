//! A rate that is a share of what a system can do: two systems at one rate are not alike where it
//! is nothing for one of them and too much for the other.

use std::collections::{BTreeMap, BTreeSet};

use super::file::{ClaimsFile, MeasureTable, RateTable};
use super::judge;
use super::rule::Operand;
use crate::compare::of_one;
use crate::plan::metric::Unit;
use crate::plan::problem::{Problem, Problems};
use crate::plan::search::RATE;
use crate::record::Record;
use crate::stats::median;
use crate::units::Rate;

/// The rate of a measurement as a share of what another one has found.
#[derive(Debug, Clone, PartialEq)]
pub struct RateShare {
    /// Of 1.
    pub share: f64,
    /// What it is a share of; it names its measurement.
    pub of: Operand,
    /// The rate, once the other measurement is there.
    pub found: Option<Rate>,
}

impl RateShare {
    /// Reads what is typed for a measurement; `path` is where it stands.
    ///
    /// # Errors
    /// Why it is no rate.
    pub(super) fn read(path: &str, table: &RateTable) -> Result<Self, Problem> {
        let problem = |words: String, hint| Problem { hint, ..Problem::new(format!("{path}.of"), words) };
        let of = Operand::read(&table.of).map_err(|(words, hint)| problem(words, hint))?;
        if of.metric.quantity.unit() != Unit::Rate {
            let hint = Some("name what a system can do: \"throughput.delivered of kafka in rates\"".into());
            return Err(problem(format!("{} is no rate", of.metric), hint));
        }
        if of.measure.is_none() {
            let hint = Some(format!("write \"{of} in NAME\""));
            return Err(problem("nothing says which measurement has found it".into(), hint));
        }
        if !(table.share.0 > 0.0 && table.share.0 <= 1.0) {
            let words = format!("{} is no share of what a system can do", table.share);
            return Err(Problem::new(format!("{path}.share"), words).hint("write a share such as \"30%\""));
        }
        Ok(Self { share: table.share.0, of, found: None })
    }

    /// The rate by what was measured, in two digits: what it is a share of is not known better, and
    /// another search for it should not be another measurement.
    pub(super) fn find(&self, records: &BTreeMap<String, Record>) -> Result<Rate, String> {
        let one = of_one(&judge::asked(&self.of, records)?)?;
        // Of what is not enclosed nothing is a third.
        let (low, high) = (one.sample.median.unwrap_or(f64::NAN), median(one.upper()).unwrap_or(f64::NAN));
        if one.below.is_some() && !(low >= f64::EPSILON && high.is_finite()) {
            let show = |v: f64| Unit::Rate.show(v);
            let known =
                if high.is_finite() { format!("below {}", show(high)) } else { format!("at least {}", show(low)) };
            return Err(format!("the searches have not enclosed the {}, {known}", self.of));
        }
        let all = one.sample.median.filter(|v| v.is_finite() && *v > 0.0);
        let rate = all.ok_or_else(|| format!("no valid round says {}", self.of))? * self.share;
        let unit = 10f64.powi(rate.log10().floor() as i32 - 1);
        Ok(Rate((rate / unit).round() * unit))
    }

    /// `30 % of throughput.delivered of kafka in rates`, and what that is, where it is known.
    pub fn words(&self) -> String {
        let found = self.found.map_or(String::new(), |rate| format!(", {rate}"));
        let of = self.of.measure.as_deref().unwrap_or_default();
        // `12.5`, not `12.500000000000002`.
        let share = (self.share * 1e8).round() / 1e6;
        format!("at {share} % of {} in {of}{found}", self.of)
    }

    /// The setting that makes it.
    pub(super) fn setting(&self) -> Option<(String, String)> {
        self.found.map(|rate| (RATE.to_owned(), format!("\"{rate}\"")))
    }
}

/// The measurement that one is a share of.
fn base(table: &MeasureTable) -> Option<String> {
    Operand::read(&table.rate.as_ref()?.of).ok()?.measure
}

/// The measurements that others are a share of.
pub(super) fn bases(file: &ClaimsFile) -> BTreeSet<String> {
    file.measure.iter().filter_map(base).collect()
}

/// Whether each measurement that another is a share of is there when it is asked.
pub(super) fn in_order(file: &ClaimsFile, problems: &mut Problems) {
    for (i, table) in file.measure.iter().enumerate() {
        let Some(base) = base(table).and_then(|name| file.measure.iter().find(|m| m.name == name)) else { continue };
        let why = match () {
            () if base.rate.is_some() => "has itself a rate that is a share of another",
            () if base.full_only && !table.full_only => "is left out of the quick form, and this one is not",
            () => continue,
        };
        problems.add(Problem::new(format!("measure.{i}.rate.of"), format!("`{}` {why}", base.name)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{of_text, records, text};
    use super::super::{ClaimFindings, ClaimSet, Form, judge_all};
    use super::*;

    /// The sample with a measurement at a share of another, and a claim that looks at it.
    fn shared(share: &str, of: &str) -> String {
        let measure = format!(
            "[[measure]]\nname = \"part\"\nscenario = \"fan\"\nsystems = [\"nats\"]\ntier = \"none\"\n\
             rate = {{ share = \"{share}\", of = \"{of}\" }}\n[[claim]]\nid = 1\n"
        );
        let all = text("\"e2e.p99 of reference < 2ms\", \"e2e.p50 of nats in part < 1s\"");
        all.replacen("[[claim]]\nid = 1\n", &measure, 1)
    }

    const OF: &str = "throughput.delivered of nats in fan";

    #[test]
    fn a_rate_is_a_share_of_what_was_measured() {
        let mut set = of_text(&shared("30%", OF));
        let part = |set: &ClaimSet| set.measure("part").unwrap().clone();
        assert_eq!(part(&set).base(), Some("fan"));
        assert!(!part(&set).options(Form::Full).join(" ").contains("workload.load.rate"));
        // Nothing is known before the other is measured.
        assert_eq!(set.settle(&BTreeMap::new())["part"], "its rate is not known: `fan` was not run");
        assert_eq!(part(&set).rate.unwrap().found, None);
        // 1,000 a second were delivered.
        assert!(set.settle(&records()).is_empty());
        let options = part(&set).options(Form::Quick).join(" ");
        assert!(options.contains("--set workload.load.rate=\"300/s\""), "{options}");
        let evidence = ClaimFindings { records: records(), ..ClaimFindings::default() };
        let last = judge_all(&set, &[7], Form::Quick, &evidence).claims.remove(0);
        let tier = "not stored, at 30 % of throughput.delivered of nats in fan, 300/s";
        assert!(last.tiers.iter().any(|t| t == tier), "{:?}", last.tiers);
    }

    /// A share is said as it is typed.
    #[test]
    fn a_share_is_not_rounded_to_percents() {
        for (typed, words) in
            [("12.5%", "at 12.5 % of"), ("0.4%", "at 0.4 % of"), ("30%", "at 30 % of"), ("7%", "at 7 % of")]
        {
            let set = of_text(&shared(typed, OF));
            let said = set.measure("part").unwrap().rate.as_ref().unwrap().words();
            assert!(said.starts_with(words), "{typed}: {said}");
        }
    }

    /// What a search has not enclosed has no share.
    #[test]
    fn an_end_alone_has_no_share() {
        use crate::compare::sample::searched;
        use crate::plan::search::{Bracket, Ending};
        let find = |bracket: Bracket| {
            let mut of = Operand::read("capacity of nats in fan").unwrap();
            of.measure = Some("fan".into());
            let rate = RateShare { share: 0.5, of, found: None };
            rate.find(&BTreeMap::from([("fan".to_owned(), searched(&[], &[bracket], 0.05))]))
        };
        let found = Bracket { lower: Some(1000.0), upper: Some(1050.0), ending: Ending::Found };
        assert_eq!(find(found), Ok(Rate(500.0)));
        let above = find(Bracket { upper: None, ending: Ending::AboveMax, ..found }).unwrap_err();
        assert!(above.contains("have not enclosed the capacity of nats, at least 1000/s"), "{above}");
        let below = find(Bracket { lower: None, ending: Ending::BelowMin, ..found }).unwrap_err();
        assert!(below.contains("have not enclosed the capacity of nats, below 1050/s"), "{below}");
    }

    #[test]
    fn a_share_of_nothing_is_refused() {
        let types = crate::engine::Register::built_in().types();
        let said = |text: &str| {
            let lookup = |name: &str| {
                let text = "name = \"fan\"\nquestion = \"?\"\n[[system]]\ndriver = \"reference\"\n[[system]]\n\
                            driver = \"nats\"\n[[workload]]\npattern = \"fan-out\"\nload.rate = \"1k/s\"\n";
                Ok(super::super::ScenarioText { argument: name.into(), path: name.into(), text: text.into() })
            };
            let all = super::super::read(std::path::Path::new("c.toml"), text, &lookup, &types).err();
            all.into_iter().flatten().map(|d| d.to_string()).collect::<String>()
        };
        assert_eq!(said(&shared("30%", OF)), "");
        for (share, of, words) in [
            ("0%", OF, "is no share of what a system can do"),
            ("130%", OF, "is no share of what a system can do"),
            ("30%", "e2e.p50 of nats in fan", "is no rate"),
            ("30%", "throughput.delivered of nats", "nothing says which measurement has found it"),
            ("30%", "throughput.delivered of nats in fun", "there is no measurement `fun`"),
            ("30%", "throughput.delivered of nobody in fan", "nobody"),
            ("30%", "throughput.delivered of nats in part", "has itself a rate that is a share of another"),
        ] {
            let said = said(&shared(share, of));
            assert!(said.contains(words), "{share} of {of}: {said}");
        }
        let full = shared("30%", OF).replacen("copies = 3", "copies = 3\nfull-only = true", 1);
        assert!(said(&full).contains("is left out of the quick form, and this one is not"), "{}", said(&full));
    }
}
