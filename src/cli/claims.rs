//! `msgbench claims`: what an article, a vendor or a team says, put to the test.

mod kept;
mod measured;
mod second;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::claims::{
    self, ClaimChanges, ClaimFindings, ClaimSet, ClaimWord, Form, Measure, Outcomes, SavedOutcomes, ScenarioText,
    SecondMethod,
};
use crate::engine::{Interrupt, Register};
use crate::record::Record;
use crate::units::{plural, say, time_words};

use super::interrupt::listen;
use super::{Exit, Failure, print, source};
use kept::KeptRuns;

/// Arguments of `claims`.
#[derive(Debug, clap::Args)]
pub struct ClaimsArgs {
    #[command(subcommand)]
    command: ClaimsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ClaimsCommand {
    /// Say all that is wrong with a file of claims, and what would be run; starts no server
    Check(CheckClaims),
    /// Run what is not there yet, and say a verdict for each claim
    Run(RunClaims),
    /// Say the verdicts of what is there, and write the pages again
    Report(ReportClaims),
    /// Say which verdicts changed between two results: quick and full, another day, another host
    Compare(CompareClaims),
}

#[derive(Debug, clap::Args)]
struct ClaimsFileArgs {
    /// The file of claims
    file: PathBuf,
    /// Only these claims, by their numbers: 9,11
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS")]
    only: Vec<u32>,
    /// As short as verdicts allow; each holds by itself, and not all of them together
    #[arg(long)]
    quick: bool,
}

#[derive(Debug, clap::Args)]
struct CheckClaims {
    #[command(flatten)]
    of: ClaimsFileArgs,
}

#[derive(Debug, clap::Args)]
struct RunClaims {
    #[command(flatten)]
    of: ClaimsFileArgs,
    /// Folder that gets <name>/ with the results and the pages
    #[arg(long, value_name = "DIR", default_value = "results/claims")]
    out: PathBuf,
    /// Measure again also what is there and has not changed
    #[arg(long)]
    again: bool,
    /// Exit with 3 where a claim is refuted or depends, with 5 where one is undecided
    #[arg(long)]
    gate: bool,
}

#[derive(Debug, clap::Args)]
struct ReportClaims {
    #[command(flatten)]
    of: ClaimsFileArgs,
    /// Folder that `claims run` was given
    #[arg(long, value_name = "DIR", default_value = "results/claims")]
    out: PathBuf,
    /// Exit with 3 where a claim is refuted or depends, with 5 where one is undecided
    #[arg(long)]
    gate: bool,
}

#[derive(Debug, clap::Args)]
struct CompareClaims {
    /// Verdicts as a run has written them: claims.json or claims-quick.json
    before: PathBuf,
    /// The other ones
    after: PathBuf,
    /// Exit with 3 where a verdict is not the same
    #[arg(long)]
    gate: bool,
}

impl ClaimsFileArgs {
    fn form(&self) -> Form {
        if self.quick { Form::Quick } else { Form::Full }
    }

    fn read(&self, register: &Register) -> Result<ClaimSet, Failure> {
        let text = crate::scenario::text(&self.file).map_err(|e| match self.file.exists() {
            true => Failure::usage(e.to_string().replacen("scenario", "claims", 1)),
            false => Failure::usage(format!("there is no file {}", self.file.display())),
        })?;
        let folder = self.file.parent().unwrap_or(Path::new(""));
        let lookup = |name: &str| scenario_text(folder, name);
        let set = claims::read(&self.file, &text, &lookup, &register.types())
            .map_err(|all| Failure::usage(crate::scenario::ScenarioError::Wrong(all)))?;
        let known: BTreeSet<u32> = set.claims.iter().map(|c| c.id).collect();
        if let Some(wrong) = self.only.iter().find(|id| !known.contains(id)) {
            let last = known.iter().next_back().copied().unwrap_or(0);
            return Err(Failure::usage(format!("--only {wrong}: there is no claim {wrong}; the last one is {last}")));
        }
        Ok(set)
    }

    /// The claims that are asked for.
    fn chosen<'a>(&self, set: &'a ClaimSet) -> impl Iterator<Item = &'a claims::Claim> {
        set.claims.iter().filter(|c| self.only.is_empty() || self.only.contains(&c.id))
    }

    /// The measurements that the chosen claims look at.
    fn wanted<'a>(&self, set: &'a ClaimSet) -> Vec<&'a Measure> {
        let mut names: BTreeSet<&str> = self.chosen(set).flat_map(claims::Claim::measures).collect();
        let bases = set.measures.iter().filter(|m| names.contains(m.name.as_str())).filter_map(Measure::base);
        names.extend(bases.collect::<Vec<_>>());
        let form = self.form();
        set.measures.iter().filter(|m| names.contains(m.name.as_str()) && m.is_in(form)).collect()
    }

    /// The second methods that the chosen claims ask.
    fn seconds<'a>(&self, set: &'a ClaimSet) -> Vec<&'a SecondMethod> {
        let names: BTreeSet<&str> = self.chosen(set).flat_map(|c| &c.second).map(|rule| rule.method.as_str()).collect();
        let asked = |s: &&SecondMethod| names.contains(s.name.as_str()) && s.is_in(self.form());
        set.seconds.iter().filter(asked).collect()
    }
}

/// The scenario that a file of claims names: a file beside it, or a built-in one.
fn scenario_text(folder: &Path, name: &str) -> Result<ScenarioText, String> {
    let beside = folder.join(name);
    if name == source::STDIN {
        return Err("a measurement must be repeatable: name a file or a built-in scenario".into());
    }
    let argument = if beside.is_file() { beside } else { PathBuf::from(name) };
    let found = source::read(&argument).map_err(|f| f.words)?;
    Ok(ScenarioText { argument: argument.display().to_string(), path: found.path, text: found.text })
}

pub(super) fn run(args: &ClaimsArgs, color: bool) -> Result<Exit, Failure> {
    let register = Register::built_in();
    match &args.command {
        ClaimsCommand::Check(check) => self::check(check, &register),
        ClaimsCommand::Run(run) => execute(run, &register, color),
        ClaimsCommand::Compare(compare) => self::compare(compare),
        ClaimsCommand::Report(report) => {
            let mut set = report.of.read(&register)?;
            let runs = KeptRuns::new(&report.out, &set.name, &register);
            let form = report.of.form();
            let mut evidence = ClaimFindings::default();
            for measure in report.of.wanted(&set) {
                match runs.newest(measure, form) {
                    Ok(record) => drop(evidence.records.insert(measure.name.clone(), record)),
                    Err(why) => drop(evidence.missing.insert(measure.name.clone(), why)),
                }
            }
            // What is there was run at some rate; which one that is can be said where it is known.
            drop(set.settle(&evidence.records));
            for method in report.of.seconds(&set) {
                evidence.second.insert(method.name.clone(), second::newest(method, form, &runs));
            }
            let outcomes = judged(&set, &report.of, &evidence, &runs);
            finish(&set, &outcomes, &evidence.records, &runs, form, color)?;
            Ok(gate(&outcomes, report.gate))
        }
    }
}

/// Says which verdicts of two results are not the same.
fn compare(args: &CompareClaims) -> Result<Exit, Failure> {
    let read = |path: &Path| {
        let bytes = std::fs::read(path).map_err(|e| e.to_string());
        let read = bytes.and_then(|bytes| SavedOutcomes::read(&bytes));
        read.map_err(|why| Failure::usage(format!("{}: {why}", path.display())))
    };
    let (before, after) = (read(&args.before)?, read(&args.after)?);
    let changes = ClaimChanges::of(&before, &after).map_err(Failure::usage)?;
    print(&changes.words())?;
    Ok(if args.gate && changes.any() { Exit::Regressed } else { Exit::Passed })
}

/// Says what would be run.
fn check(args: &CheckClaims, register: &Register) -> Result<Exit, Failure> {
    let set = args.of.read(register)?;
    let form = args.of.form();
    let wanted = args.of.wanted(&set);
    let measured = set.claims.iter().filter(|c| matches!(c.body, claims::ClaimBody::Measured)).count();
    let mut text = format!(
        "{}: {}, of which {measured} are measured by {}\n",
        set.name,
        plural(set.claims.len() as u64, "claim"),
        plural(set.measures.len() as u64, "run")
    );
    let mut all = 0;
    for measure in &wanted {
        let time = measured::expected(measure, form);
        all += time;
        let ids: Vec<String> = set.claims_of(&measure.name).iter().map(u32::to_string).collect();
        text.push_str(&format!(
            "\n{} (claims {}), about {}, {}\n  {}\n",
            measure.name,
            ids.join(", "),
            time_words(all_nanos(time)),
            claims::sentence::tested_on(measure),
            measure.command(form)
        ));
    }
    for method in args.of.seconds(&set) {
        text.push_str(&format!("\nsecond method {}, at most {}\n  {}\n", method.name, method.within, method.by));
    }
    text.push_str(&format!("\nabout {} in all\n", time_words(all_nanos(all))));
    print(&text)
}

fn all_nanos(seconds: u64) -> u64 {
    seconds.saturating_mul(1_000_000_000)
}

/// Runs what is missing, and judges.
fn execute(args: &RunClaims, register: &Register, color: bool) -> Result<Exit, Failure> {
    let mut set = args.of.read(register)?;
    let form = args.of.form();
    let runs = KeptRuns::new(&args.out, &set.name, register);
    let interrupt = Interrupt::default();
    listen(&interrupt)?;
    let mut evidence = ClaimFindings::default();
    // What others are a share of comes first.
    let (first, then): (Vec<&Measure>, Vec<&Measure>) =
        args.of.wanted(&set).into_iter().partition(|m| m.rate.is_none());
    let then: Vec<String> = then.into_iter().map(|m| m.name.clone()).collect();
    measure_all(args, &set, &first, (&runs, register), &interrupt, &mut evidence);
    evidence.missing.extend(set.settle(&evidence.records));
    let known = |m: &&Measure| then.contains(&m.name) && !evidence.missing.contains_key(&m.name);
    let then: Vec<&Measure> = set.measures.iter().filter(known).collect();
    measure_all(args, &set, &then, (&runs, register), &interrupt, &mut evidence);
    for method in args.of.seconds(&set) {
        let found = match second::unchanged(method, form, &set.path, &runs) {
            Some(said) if !args.again => Ok(said),
            _ if interrupt.count() > 0 => Err("not run: interrupted".into()),
            _ => {
                say(format_args!("\nsecond method {}, at most {}", method.name, method.within));
                second::run(method, form, &set.path, &runs, &interrupt)
            }
        };
        if let Err(why) = &found {
            say(format_args!("msgbench: {}: {why}", method.name));
        }
        evidence.second.insert(method.name.clone(), found);
    }
    let outcomes = judged(&set, &args.of, &evidence, &runs);
    finish(&set, &outcomes, &evidence.records, &runs, form, color)?;
    if interrupt.count() > 0 {
        return Ok(Exit::Interrupted);
    }
    Ok(gate(&outcomes, args.gate))
}

/// The verdicts; beside each stands what of it was measured before the file has changed.
fn judged(set: &ClaimSet, of: &ClaimsFileArgs, evidence: &ClaimFindings, runs: &KeptRuns) -> Outcomes {
    let form = of.form();
    let mut outcomes = claims::judge_all(set, &of.only, form, evidence);
    let mut note = |ids: &[u32], words: String| {
        say(format_args!("msgbench: {words}"));
        for claim in outcomes.claims.iter_mut().filter(|c| ids.contains(&c.id)) {
            let before = claim.note.take().map(|note| format!("{note} ")).unwrap_or_default();
            claim.note = Some(format!("{before}{words}."));
        }
    };
    for measure in of.wanted(set).into_iter().filter(|m| evidence.records.contains_key(&m.name)) {
        let changed = runs.otherwise(measure, form).join(" and ");
        if !changed.is_empty() {
            let words = format!("`{}` was measured before {changed} changed", measure.name);
            note(&set.claims_of(&measure.name), words);
        }
    }
    for method in of.seconds(set).into_iter().filter(|s| evidence.second.get(&s.name).is_some_and(Result::is_ok)) {
        let changed = second::otherwise(method, form, &set.path, runs).join(" and ");
        let ids = set.claims.iter().filter(|c| c.second.iter().any(|rule| rule.method == method.name));
        if !changed.is_empty() {
            let ids: Vec<u32> = ids.map(|c| c.id).collect();
            note(&ids, format!("the second method `{}` was run before {changed} changed", method.name));
        }
    }
    outcomes
}

/// Runs those of these measurements that are not there or have changed.
fn measure_all(
    args: &RunClaims,
    set: &ClaimSet,
    wanted: &[&Measure],
    (runs, register): (&KeptRuns, &Register),
    interrupt: &Interrupt,
    evidence: &mut ClaimFindings,
) {
    let form = args.of.form();
    let (mut to_run, mut there) = (Vec::new(), 0);
    for measure in wanted {
        let richer = || measured::richer(measure, form, (runs, register)).filter(|_| !args.again);
        match runs.unchanged(measure, form) {
            Ok(record) if !args.again => {
                there += 1;
                evidence.records.insert(measure.name.clone(), record);
            }
            Ok(_) => to_run.push((measure, "asked for again".to_owned())),
            Err(why) => match richer() {
                Some((record, words)) => {
                    let name = &measure.name;
                    say(format_args!("msgbench: {name}: {why}; {words}; `--again` measures without it"));
                    evidence.records.insert(name.clone(), record);
                }
                None => to_run.push((measure, why)),
            },
        }
    }
    if there > 0 {
        say(format_args!("{} there and unchanged", plural(there, "run")));
    }
    let mut clock = measured::TimeLeft::of(to_run.iter().map(|(m, _)| measured::expected(m, form)).collect());
    for (number, (measure, why)) in to_run.iter().enumerate() {
        if interrupt.count() > 0 {
            evidence.missing.insert(measure.name.clone(), format!("`{}` was not run: interrupted", measure.name));
            continue;
        }
        let ids: Vec<String> = set.claims_of(&measure.name).iter().map(u32::to_string).collect();
        say(format_args!(
            "\n[{}/{}] {} (claims {}): {why}; about {}, {} left in all",
            number + 1,
            to_run.len(),
            measure.name,
            ids.join(", "),
            time_words(all_nanos(clock.next())),
            time_words(all_nanos(clock.left()))
        ));
        let outcome = measured::run(measure, form, args.again, (runs, register), interrupt);
        clock.done();
        match outcome {
            Ok(record) => drop(evidence.records.insert(measure.name.clone(), record)),
            Err(why) => {
                say(format_args!("msgbench: {}: {why}", measure.name));
                evidence.missing.insert(measure.name.clone(), why);
            }
        }
    }
}

/// Writes the pages, and prints the verdicts.
fn finish(
    set: &ClaimSet,
    outcomes: &Outcomes,
    records: &BTreeMap<String, Record>,
    runs: &KeptRuns,
    form: Form,
    color: bool,
) -> Result<(), Failure> {
    let page = written::write(set, outcomes, records, runs, form)?;
    let text = crate::report::pages::claims::text(outcomes, super::text_style(color, false));
    print(&format!("{text}\nreport: {}", super::page::link(&page))).map(drop)
}

/// What the verdicts mean for a script.
fn gate(outcomes: &Outcomes, asked: bool) -> Exit {
    let any = |v: ClaimWord| outcomes.count(|x| x == v) > 0;
    match () {
        () if !asked => Exit::Passed,
        () if any(ClaimWord::Refuted) || any(ClaimWord::Depends) => Exit::Regressed,
        () if any(ClaimWord::Undecided) => Exit::Inconclusive,
        () => Exit::Passed,
    }
}
