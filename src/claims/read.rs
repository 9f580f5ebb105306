//! From the text of a file of claims to what it means. Every mistake is told at once, where it
//! stands: also a rule about what no scenario of the file measures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::file::{ClaimTable, ClaimsFile, FactWord, MeasureTable};
use super::rule::{Bound, Operand, Rule};
use super::second;
use super::set::{Claim, ClaimBody, ClaimSet, Condition, Form, Measure, SEARCHES, ScenarioText};
use super::share::{self, RateShare};
use crate::plan::metric::Quantity;
use crate::plan::problem::{Problem, Problems, suggest};
use crate::plan::{Case, Plan, SystemTypes};
use crate::scenario::{self, Diagnosis, Overrides, Scenario};
use crate::units::hex;

/// Rounds of a comparison: with fewer, no exact 95 % interval of a ratio exists.
const FOR_A_RATIO: u32 = 4;
/// Rounds of a limit: with fewer, no exact 95 % interval of a median exists.
const FOR_A_LIMIT: u32 = 6;
/// Rounds of the full form at the least: the smallest p-value of 12 signs is 2 / 4096, which Holm's
/// correction leaves below 5 % among 102 tests. More tests need more rounds.
const FOR_ALL: u32 = 12;

/// Rounds of the full form: as many as the smallest p-value of their signs needs to stay below 5 %
/// when it is corrected for so many tests.
fn for_all(tests: usize) -> u32 {
    let enough = |n: &u32| 2.0 / 2f64.powi(*n as i32) * tests as f64 <= 0.05;
    (FOR_ALL..=40).find(enough).unwrap_or(40)
}

/// Reads and checks a file. `lookup` gives the scenario of a name.
///
/// # Errors
/// Every mistake, where it stands.
pub fn read(
    path: &Path,
    text: &str,
    lookup: &dyn Fn(&str) -> Result<ScenarioText, String>,
    types: &SystemTypes,
) -> Result<ClaimSet, Vec<Diagnosis>> {
    let file: ClaimsFile = scenario::typed(path, text)?;
    let mut problems = Problems::default();
    names(&file, &mut problems);
    let mut claims: Vec<Claim> = Vec::new();
    for (i, table) in file.claim.iter().enumerate() {
        claims.push(claim(i, table, &mut problems));
    }
    let rounds = rounds(&claims);
    let mut measures = Vec::new();
    let bases = share::bases(&file);
    for (i, table) in file.measure.iter().enumerate() {
        let of = rounds.get(table.name.as_str()).copied().unwrap_or((None, None));
        let used = bases.contains(&table.name) || claims.iter().any(|c| c.measures().contains(table.name.as_str()));
        if !used {
            let problem = Problem::new(format!("measure.{i}.name"), format!("no claim looks at `{}`", table.name));
            problems.add(problem.hint("remove it, or name it in a claim: `measure = ...`"));
        }
        measures.extend(problems.take(measure(i, table, of, lookup, types)));
    }
    let seconds = second::methods(&file, &mut problems);
    known(&file, &claims, &measures, types, &mut problems);
    share::in_order(&file, &mut problems);
    if !problems.0.is_empty() {
        return Err(scenario::located(path, text, problems.0));
    }
    let sha256 = hex(&Sha256::digest(text.as_bytes()));
    let ClaimsFile { name, title, source, .. } = file;
    Ok(ClaimSet { name, title, source, path: path.to_path_buf(), sha256, measures, seconds, claims })
}

/// Refuses names that are used twice, or fit no file name, and numbers that do not rise.
fn names(file: &ClaimsFile, problems: &mut Problems) {
    let fits = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) && name.len() <= 64
    };
    let mut check = |path: String, name: &str| {
        if !fits(name) {
            let problem = Problem::new(path, format!("`{}` does not fit for a folder", name.escape_debug()));
            problems.add(problem.hint("use at most 64 letters, digits, - and _"));
        }
    };
    check("name".into(), &file.name);
    file.measure.iter().enumerate().for_each(|(i, m)| check(format!("measure.{i}.name"), &m.name));
    file.second.iter().enumerate().for_each(|(i, s)| check(format!("second.{i}.name"), &s.name));
    for (i, m) in file.measure.iter().enumerate() {
        if file.measure[..i].iter().any(|other| other.name == m.name) {
            problems.add(Problem::new(format!("measure.{i}.name"), format!("there are two measurements `{}`", m.name)));
        }
    }
    for (i, pair) in file.claim.windows(2).enumerate() {
        if pair[1].id <= pair[0].id {
            let words = format!("claim {} comes after claim {}", pair[1].id, pair[0].id);
            let problem = Problem::new(format!("claim.{}.id", i + 1), words);
            problems.add(problem.hint("number claims in the order in which they are said, each number once"));
        }
    }
}

/// What a claim means, as far as it can be said without its measurements.
fn claim(i: usize, table: &ClaimTable, problems: &mut Problems) -> Claim {
    let at = |key: &str| format!("claim.{i}.{key}");
    let mut conditions = Vec::new();
    if !table.holds.is_empty() {
        let rules = rules(&at("holds"), &table.holds, table.measure.as_deref(), problems);
        conditions.push(Condition { when: None, rules, beside: false });
    }
    for (j, c) in table.condition.iter().enumerate() {
        let measure = c.measure.as_deref().or(table.measure.as_deref());
        if c.holds.is_empty() {
            problems.add(Problem::new(at(&format!("condition.{j}.when")), "nothing says what must hold then"));
        }
        let rules = rules(&at(&format!("condition.{j}.holds")), &c.holds, measure, problems);
        conditions.push(Condition { when: Some(c.when.clone()), rules, beside: c.beside });
    }
    if !conditions.is_empty() && conditions.iter().all(|c| c.beside) {
        let problem =
            Problem::new(at("condition.0.beside"), "all conditions are beside the claim, and none decides it");
        problems.add(problem.hint("remove `beside` where it is a circumstance of the claim"));
    }
    if !table.holds.is_empty() && !table.condition.is_empty() {
        let problem = Problem::new(at("holds"), "a claim has rules, or conditions with rules of their own");
        problems.add(problem.hint("write these rules as a condition, too"));
    }
    let body = body(i, table, conditions.is_empty(), problems);
    let second = second::rules(&at("second"), &table.second, problems);
    Claim {
        id: table.id,
        says: table.says.clone(),
        place: table.place.clone(),
        hypothesis: table.hypothesis.clone(),
        body,
        conditions,
        every: table.every,
        cannot_refute: table.cannot_refute.clone(),
        checked_by: table.checked_by.clone(),
        second,
        note: table.note.clone(),
    }
}

/// What kind of statement a claim is.
fn body(i: usize, table: &ClaimTable, unmeasured: bool, problems: &mut Problems) -> ClaimBody {
    let at = |key: &str| format!("claim.{i}.{key}");
    match (table.fact, &table.not_testable) {
        (Some(_), Some(_)) => {
            problems.add(Problem::new(at("not-testable"), "what can be read needs no test").hint("remove one of both"));
        }
        (Some(word), None) => {
            let why = table.why.clone().unwrap_or_default();
            if why.trim().is_empty() {
                let problem = Problem::new(at("fact"), format!("nothing says why it is {}", word.word()));
                problems.add(problem.hint("add `why = \"...\"`, a sentence"));
            }
            if table.read_at.is_none() && !matches!(word, FactWord::Opinion | FactWord::ContradictsItself) {
                let problem = Problem::new(at("fact"), "nothing says where that can be read");
                problems.add(problem.hint("add `read-at = \"...\"`, an address or a place in the text"));
            }
            return ClaimBody::Read { word, why, at: table.read_at.clone() };
        }
        (None, Some(why)) => return ClaimBody::NotTestable { why: why.clone() },
        (None, None) if unmeasured => {
            let problem = Problem::new(at("says"), "nothing says what must hold for this claim");
            problems.add(problem.hint("add `holds = [\"e2e.p99 of nats < 1ms\"]`, `fact` or `not-testable`"));
        }
        (None, None) => {}
    }
    ClaimBody::Measured
}

/// Reads rules; each operand gets the measurement that it looks at.
fn rules(path: &str, texts: &[String], measure: Option<&str>, problems: &mut Problems) -> Vec<Rule> {
    let mut list = Vec::new();
    for (k, text) in texts.iter().enumerate() {
        let problem = |message: String, hint| Problem { hint, ..Problem::new(format!("{path}.{k}"), message) };
        let mut rule = match Rule::read(text) {
            Ok(rule) => rule,
            Err((message, hint)) => {
                problems.add(problem(message, hint));
                continue;
            }
        };
        let right = match &mut rule.right {
            Bound::Measured { operand, .. } => Some(operand),
            Bound::Limit(_) => None,
        };
        let mut named = true;
        for operand in std::iter::once(&mut rule.left).chain(right) {
            if operand.measure.is_none() {
                operand.measure = measure.map(str::to_owned);
            }
            named &= operand.measure.is_some();
        }
        if !named {
            let hint = "add `measure = \"...\"` to the claim, or ` in NAME` to the rule";
            problems.add(problem("nothing says which measurement it looks at".into(), Some(hint.into())));
        }
        list.push(rule);
    }
    list
}

/// The rounds that each measurement needs in the full and in the quick form, by what is asked of
/// it.
fn rounds(claims: &[Claim]) -> BTreeMap<&str, (Option<u32>, Option<u32>)> {
    let mut all = BTreeMap::new();
    let rules = || claims.iter().flat_map(|c| &c.conditions).flat_map(|c| &c.rules);
    let tests: BTreeSet<String> = rules().filter(|r| !r.by_counterexample()).map(Rule::identity).collect();
    let full = for_all(tests.len());
    for rule in rules() {
        // A counterexample needs no second round.
        let needs = match &rule.right {
            _ if rule.by_counterexample() => (None, None),
            Bound::Limit(_) => (Some(full), Some(FOR_A_LIMIT)),
            Bound::Measured { .. } => (Some(full), Some(FOR_A_RATIO)),
        };
        for name in rule.operands().into_iter().filter_map(|o| o.measure.as_deref()) {
            let there = all.entry(name).or_insert((None, None));
            *there = (needs.0.max(there.0), needs.1.max(there.1));
        }
    }
    all
}

/// Whether settings have a key, as `"run.trials" = 3` or as `run = { trials = 3 }`.
fn sets(map: &BTreeMap<String, toml::Value>, key: &str) -> bool {
    let within =
        |value: &toml::Value, rest: &str| rest.split('.').try_fold(value, |v, part| v.as_table()?.get(part)).is_some();
    map.iter().any(|(typed, value)| {
        typed == key
            || key.strip_prefix(typed.as_str()).and_then(|r| r.strip_prefix('.')).is_some_and(|r| within(value, r))
    })
}

/// Resolves a measurement in both forms.
fn measure(
    i: usize,
    table: &MeasureTable,
    rounds: (Option<u32>, Option<u32>),
    lookup: &dyn Fn(&str) -> Result<ScenarioText, String>,
    types: &SystemTypes,
) -> Result<Measure, Problem> {
    let path = format!("measure.{i}.scenario");
    let source = lookup(&table.scenario).map_err(|words| Problem::new(path.clone(), words))?;
    let pairs = |map: &BTreeMap<String, toml::Value>| -> Vec<(String, String)> {
        map.iter().map(|(k, v)| (k.clone(), v.to_string())).collect()
    };
    let said = |short: bool| {
        let is = |key: &str| sets(&table.set, key) || short && sets(&table.quick, key);
        is("run.trials") || is(SEARCHES)
    };
    let rounds = (rounds.0.filter(|_| !said(false)), rounds.1.filter(|_| !said(true)));
    let rate = table.rate.as_ref().map(|r| RateShare::read(&format!("measure.{i}.rate"), r)).transpose()?;
    let blank = |scenario: Scenario| Measure {
        name: table.name.clone(),
        argument: source.argument.clone(),
        systems: table.systems.clone(),
        set: pairs(&table.set),
        quick: pairs(&table.quick),
        tier: table.tier,
        copies: table.copies.unwrap_or(1),
        rate: rate.clone(),
        full_only: table.full_only,
        rounds,
        full: scenario.clone(),
        short: scenario,
    };
    let parse = |overrides: &Overrides, what: &str| {
        scenario::parse(&source.path, source.text.clone(), overrides, types)
            .map_err(|e| Problem::new(path.clone(), format!("the scenario {} is refused{what}: {e}", source.argument)))
    };
    let mut measure = blank(parse(&Overrides::default(), "")?);
    measure.full = parse(&measure.overrides(Form::Full), " with these settings")?;
    measure.short = parse(&measure.overrides(Form::Quick), " in its quick form")?;
    Ok(measure)
}

/// Whether everything that rules name is there.
fn known(file: &ClaimsFile, claims: &[Claim], measures: &[Measure], types: &SystemTypes, problems: &mut Problems) {
    let names: Vec<&str> = file.measure.iter().map(|m| m.name.as_str()).collect();
    for measure in measures {
        let i = names.iter().position(|name| *name == measure.name).unwrap_or_default();
        if let Some(rate) = &measure.rate {
            problems.take(there(&format!("measure.{i}.rate.of"), &rate.of, &names, measures, types));
        }
    }
    for (i, (claim, table)) in claims.iter().zip(&file.claim).enumerate() {
        // Rules of the claim itself are its first condition.
        let own = usize::from(!table.holds.is_empty());
        for (j, condition) in claim.conditions.iter().enumerate() {
            let (path, texts) = match (&condition.when, j.checked_sub(own)) {
                (Some(_), Some(j)) => (format!("claim.{i}.condition.{j}.holds"), &table.condition[j].holds),
                _ => (format!("claim.{i}.holds"), &table.holds),
            };
            // One that could not be read is told already, and is not among the rules.
            let readable = texts.iter().enumerate().filter(|(_, text)| Rule::read(text).is_ok());
            for ((k, _), rule) in readable.zip(&condition.rules) {
                let path = format!("{path}.{k}");
                for operand in rule.operands() {
                    problems.take(there(&path, operand, &names, measures, types));
                }
            }
        }
    }
}

/// Whether what an operand names is there.
fn there(
    path: &str,
    operand: &Operand,
    names: &[&str],
    measures: &[Measure],
    types: &SystemTypes,
) -> Result<(), Problem> {
    let Some(name) = operand.measure.as_deref() else { return Ok(()) };
    if !names.contains(&name) {
        let problem = Problem::new(path, format!("there is no measurement `{name}`"));
        return Err(Problem { hint: suggest(name, names), ..problem });
    }
    // One that was refused was told already.
    let Some(measure) = measures.iter().find(|m| m.name == name) else { return Ok(()) };
    let plan = &measure.full.plan;
    scenario::measured(plan, types, path, &operand.metric, &operand.system)?;
    one_workload(path, plan, operand)?;
    match points(plan, operand) {
        1 => Ok(()),
        n => {
            let problem = Problem::new(path, format!("`{operand}` is {n} load points of `{name}`, and must be one"));
            Err(problem.hint(format!("its load points are {}", all_points(plan, &operand.system))))
        }
    }
}

/// Refuses a metric of a workload that does not say which, where there are several: nobody would
/// know that the others were not looked at.
fn one_workload(path: &str, plan: &Plan, operand: &Operand) -> Result<(), Problem> {
    let quantity = &operand.metric.quantity;
    let of_all = match quantity {
        Quantity::Hiccup(_) | Quantity::Capacity => true,
        Quantity::Broker(_) | Quantity::Generator(_) | Quantity::Application(_) => true,
        Quantity::Latency(..) | Quantity::Throughput(_) | Quantity::Ledger(_) => false,
        Quantity::Replay(_) | Quantity::Kept(_) | Quantity::Outage(_) => false,
    };
    let here = plan.cases.iter().filter(|c| plan.systems.get(c.system).is_some_and(|s| s.name == operand.system));
    let several = here.map(|c| &c.workloads).find(|w| w.len() > 1);
    let (Some(several), false, None) = (several, of_all, &operand.metric.workload) else { return Ok(()) };
    let names: Vec<&str> = several.iter().map(|w| w.name.as_str()).collect();
    let words =
        format!("`{operand}` does not say of which workload, and there are {}: {}", names.len(), names.join(", "));
    Err(Problem::new(path, words).hint(format!("write `{}.{quantity}`", names[0])))
}

/// How many load points an operand names; those of a search are found by it.
fn points(plan: &Plan, operand: &Operand) -> usize {
    if plan.search.is_some() {
        return 1;
    }
    let of = |c: &&Case| plan.systems.get(c.system).is_some_and(|s| s.name == operand.system);
    let there = |c: &&Case| {
        operand.at.iter().all(|(key, value)| {
            c.point.iter().any(|(path, found)| (path == key || path.rsplit('.').next() == Some(key)) && found == value)
        })
    };
    plan.cases.iter().filter(of).filter(there).count()
}

/// The load points of a system.
fn all_points(plan: &Plan, system: &str) -> String {
    let of = plan.cases.iter().filter(|c| plan.systems.get(c.system).is_some_and(|s| s.name == system));
    let words = |c: &Case| {
        let parts: Vec<String> =
            c.point.iter().map(|(k, v)| format!("{}={v}", k.rsplit('.').next().unwrap_or(k))).collect();
        if parts.is_empty() { "one without settings".into() } else { parts.join(", ") }
    };
    of.map(words).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file about a scenario with two workloads, with this rule and these settings.
    fn read_with(rule: &str, set: &str) -> Result<ClaimSet, Vec<Diagnosis>> {
        let workload =
            |name: &str| format!("[[workload]]\nname = \"{name}\"\npattern = \"fan-out\"\nload.rate = \"1k/s\"\n");
        let scenario = format!(
            "name = \"fan\"\nquestion = \"?\"\n[[system]]\ndriver = \"reference\"\n[[system]]\ndriver = \"nats\"\n{}{}",
            workload("orders"),
            workload("prices")
        );
        let lookup = |name: &str| Ok(ScenarioText { argument: name.into(), path: name.into(), text: scenario.clone() });
        let text = format!(
            "name = \"c\"\ntitle = \"t\"\n[[measure]]\nname = \"fan\"\nscenario = \"fan\"\ntier = \"none\"\n{set}\n\
             [[claim]]\nid = 1\nsays = \"s\"\nplace = \"p\"\nmeasure = \"fan\"\nholds = [\"{rule}\"]\n"
        );
        read(Path::new("c.toml"), &text, &lookup, &crate::engine::Register::built_in().types())
    }

    /// One of several would be looked at, and the others would pass unseen.
    #[test]
    fn one_of_several_workloads_must_be_named() {
        let said =
            |rule: &str| read_with(rule, "").err().into_iter().flatten().map(|d| d.to_string()).collect::<String>();
        let words = said("ledger.lost of nats == 0");
        assert!(words.contains("`ledger.lost of nats` does not say of which workload"), "{words}");
        assert!(words.contains("there are 2: orders, prices"), "{words}");
        assert!(words.contains("write `orders.ledger.lost`"), "{words}");
        assert!(said("orders.e2e.p50 of nats < e2e.p50 of reference").contains("`e2e.p50 of reference` does not say"));
        assert_eq!(said("prices.ledger.lost of nats == 0"), "");
        // These are of the system, whatever workloads it has.
        assert_eq!(said("broker.processes of nats < 2"), "");
    }

    /// Rounds that the file says are not replaced, however it says them.
    #[test]
    fn rounds_may_be_said_in_a_table() {
        let rounds = |set: &str| read_with("orders.e2e.p50 of nats < 1s", set).unwrap().measures[0].rounds;
        assert_eq!(rounds(""), (Some(12), Some(6)));
        for set in ["{ \"run.trials\" = 3 }", "{ run = { trials = 3 } }"] {
            assert_eq!(rounds(&format!("set = {set}")), (None, None), "{set}");
            assert_eq!(rounds(&format!("quick = {set}")), (Some(12), None), "{set}");
        }
        assert_eq!(rounds("set = { run = { warmup = \"1s\" } }"), (Some(12), Some(6)));
    }
}
