//! Claims and their verdicts: as HTML, Markdown and text.

use maud::{Markup, html};

use super::markdown;
use super::page::{section, section_of, shell};
use super::text::{TextStyle, paint, wrapped};
use crate::claims::sentence::{certainty, decided_by, figure, figures, plain, summary, word};
use crate::claims::{ClaimResult, ClaimWord, Outcomes, SecondResult};
use crate::plan::BringUp;
use crate::record::Record;
use crate::report::words::view::{TextTable, usable};
use crate::units::plural;

/// What stands behind the claims that look at a measurement.
#[derive(Debug, Clone)]
pub struct ClaimEvidence<'a> {
    /// Its name.
    pub measure: &'a str,
    /// Where an acknowledged message was.
    pub tier: String,
    /// What repeats it.
    pub command: String,
    /// Its own report, relative to the page; `None` where there is none.
    pub link: Option<String>,
    /// Its result; `None` where it was not run.
    pub record: Option<&'a Record>,
}

/// Everything that the pages are made of.
#[derive(Debug, Clone)]
pub struct ClaimsPage<'a> {
    pub outcomes: &'a Outcomes,
    pub evidence: Vec<ClaimEvidence<'a>>,
}

impl ClaimsPage<'_> {
    /// The machine of the newest result, and its day.
    fn host(&self) -> String {
        let newest = self.evidence.iter().filter_map(|e| e.record).max_by_key(|r| r.started_at.clone());
        newest.map_or_else(
            || "nothing was measured".into(),
            |r| {
                let (h, day) = (&r.host, r.started_at.chars().take(10).collect::<String>());
                let memory = h.memory_bytes as f64 / f64::from(1 << 30);
                format!(
                    "{}, {} CPUs, {memory:.1} GiB, kernel {}; {day}; msgbench {} ({})",
                    h.cpu, h.cpus, h.kernel, r.tool.version, r.tool.profile
                )
            },
        )
    }

    /// The versions that were measured, each once.
    fn versions(&self) -> Vec<String> {
        // What is a part of msgbench has its version, which stands before these.
        let records = self.evidence.iter().filter_map(|e| e.record);
        let others = records.flat_map(|r| r.trials.iter().map(|t| &t.system.version).filter(|v| **v != r.tool.version));
        let mut all: Vec<String> = others.filter(|v| !v.is_empty()).cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    /// What the machine cannot say: of what was all on it, and of what was not.
    fn limits(&self) -> String {
        let measured = || self.evidence.iter().filter_map(|e| Some((e.measure, e.record?)));
        let here: Vec<_> = measured().filter(|(_, r)| elsewhere(r).is_empty()).collect();
        let mut out = Vec::new();
        if let Some(n) = here.iter().map(|(_, r)| r.host.cpus).max() {
            let (of, last) = match here.len() == measured().count() {
                true => ("Servers".to_owned(), " What needs several machines is not in these verdicts."),
                false => (format!("In {}: servers", here.iter().map(|h| h.0).collect::<Vec<_>>().join(", ")), ""),
            };
            out.push(format!(
                "{of} and generator shared {n} CPUs of one machine: a rate is that of both together, no network was \
                 between them, and copies on one machine share its fate.{last}"
            ));
        }
        let away = measured().filter(|(_, r)| !elsewhere(r).is_empty());
        out.extend(away.map(|(name, r)| format!("In {name}: {}.", elsewhere(r).join("; "))));
        out.join(" ")
    }

    fn of(&self, claim: &ClaimResult) -> Vec<&ClaimEvidence<'_>> {
        self.evidence.iter().filter(|e| claim.measures.iter().any(|m| m == e.measure)).collect()
    }
}

/// What of a measurement was not started by msgbench on this machine.
fn elsewhere(r: &Record) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(agents) = &r.plan.agents {
        all.push(format!("{} ran the load", plural(u64::from(agents.count), "agent")));
    }
    let running = r.plan.systems.iter().filter(|s| matches!(s.bring_up, BringUp::External { .. }));
    all.extend(running.map(|s| format!("{} was running already, at a URL; what else ran there is not known", s.name)));
    all
}

/// The class and the grade of a verdict.
fn class(verdict: ClaimWord) -> &'static str {
    match verdict {
        ClaimWord::Supported => "supported",
        ClaimWord::Refuted => "refuted",
        ClaimWord::Depends => "depends",
        ClaimWord::Undecided => "undecided",
        ClaimWord::NotTestable | ClaimWord::Read(_) => "read",
    }
}

/// The sections of a text, each with its claims.
fn sections(o: &Outcomes) -> Vec<(&str, Vec<&ClaimResult>)> {
    let mut list: Vec<(&str, Vec<&ClaimResult>)> = Vec::new();
    for claim in &o.claims {
        let section = claim.place.split(',').next().unwrap_or_default().trim();
        match list.last_mut().filter(|(name, _)| *name == section) {
            Some((_, claims)) => claims.push(claim),
            None => list.push((section, vec![claim])),
        }
    }
    list
}

/// The page.
pub fn page(p: &ClaimsPage<'_>) -> String {
    let o = p.outcomes;
    let body = html! {
        section aria-label="Answer" class="answer claims" {
            h1 { (o.title) }
            @if let Some(source) = &o.source { p.question { (source) } }
            p.sub { (summary(o)) }
            p { (tally(o)) }
            p.quiet { (certainty(o)) }
            p.quiet { (p.host()) @for v in p.versions() { "; " (v) } }
        }
        @for (number, (name, claims)) in sections(o).into_iter().enumerate() {
            (section_of(&format!("part-{number}"), if name.is_empty() { "Claims" } else { name }, &table(p, name, &claims)))
        }
        (section("What this machine cannot say", &html! { p { (p.limits()) } }))
        (section("Measurements", &measurements(p)))
    };
    shell(&o.title, &body)
}

/// How many claims have each verdict.
fn tally(o: &Outcomes) -> Markup {
    let mut list: Vec<(&str, &str, usize)> = Vec::new();
    for c in &o.claims {
        let said = c.verdict.word();
        match list.iter_mut().find(|(w, ..)| *w == said) {
            Some((.., n)) => *n += 1,
            None => list.push((said, class(c.verdict), 1)),
        }
    }
    list.sort_by_key(|(word, class, n)| (rank(class), usize::MAX - n, *word));
    html! {
        @for (word, class, n) in list { span class={ "stand " (class) } { (word) " " (n) } " " }
    }
}

fn rank(class: &str) -> usize {
    ["supported", "refuted", "depends", "undecided", "read"].iter().position(|c| *c == class).unwrap_or(9)
}

fn table(p: &ClaimsPage<'_>, name: &str, claims: &[&ClaimResult]) -> Markup {
    html! {
        div class="scroll matrix claims" role="region" aria-label={ "Claims: " (name) } tabindex="0" {
            table {
                caption { "Claims: " (name) }
                colgroup { col; col; col; col; }
                thead {
                    tr {
                        th scope="col" { "claim" }
                        th scope="col" { "verdict" }
                        th scope="col" { "what decides" }
                        th scope="col" { "tested on" }
                    }
                }
                tbody { @for c in claims { (row(p, c)) } }
            }
        }
    }
}

fn row(p: &ClaimsPage<'_>, c: &ClaimResult) -> Markup {
    let place = c.place.split_once(',').map_or("", |(_, rest)| rest.trim());
    html! {
        tr id={ "claim-" (c.id) } {
            th scope="row" {
                (c.id) ". “" (c.says) "”"
                small { (place) }
                @if let Some(h) = &c.hypothesis { small { (h) } }
            }
            td { span class={ "stand " (class(c.verdict)) } { (c.verdict.word()) } }
            td {
                @if c.conditions.len() > 1 && measured(c.verdict) { (conditions(c)) } @else { (c.reason) }
                @if c.conditions.iter().map(|c| c.rules.len()).sum::<usize>() > 0 { (rules(c)) }
                @if let Some(by) = &c.checked_by { small { b { "Checked by a second method: " } (by) } }
                @for said in seconds(c) { small { b { "Second method: " } (said) } }
                @if let Some(note) = &c.note { small { (note) } }
                @if let Some(at) = &c.read_at { small { "Read at " (address(at)) } }
            }
            td {
                @for tier in &c.tiers { small { (tier) } }
                @for e in p.of(c) { small { (evidence_link(e)) } }
            }
        }
    }
}

/// What second methods have said, or that there is none for what one method alone refutes.
fn seconds(c: &ClaimResult) -> impl Iterator<Item = String> {
    let none = c.by_one_method().then(|| "none".to_owned());
    c.second.iter().map(SecondResult::words).chain(none)
}

/// Whether its figures are what decides it.
fn measured(verdict: ClaimWord) -> bool {
    !matches!(verdict, ClaimWord::Read(_) | ClaimWord::NotTestable)
}

/// Each condition with what decides it.
fn conditions(c: &ClaimResult) -> Markup {
    html! {
        ul.conditions {
            @for condition in &c.conditions {
                li {
                    b { (word(condition)) } " " (condition.when.as_deref().unwrap_or_default()) ": "
                    (decided_by(condition))
                }
            }
        }
    }
}

/// An address as a link, anything else as text.
fn address(at: &str) -> Markup {
    let is_one = (at.starts_with("https://") || at.starts_with("http://")) && !at.contains(char::is_whitespace);
    html! { @if is_one { a href=(at) { (at) } } @else { (at) } }
}

fn evidence_link(e: &ClaimEvidence<'_>) -> Markup {
    html! {
        @match &e.link {
            Some(link) => a href=(link) { (e.measure) },
            None => a href={ "#run-" (e.measure) } { (e.measure) },
        }
    }
}

/// Every rule with its figure.
fn rules(c: &ClaimResult) -> Markup {
    html! {
        details {
            summary { "Rules" }
            @for condition in &c.conditions {
                @if let Some(when) = &condition.when { p { b { (when) } } }
                ul {
                    @for rule in &condition.rules {
                        li {
                            code { (rule.that) } ": " (figure(rule))
                            @if let Some(p) = rule.p_adjusted { "; p = " (small(p)) " of all tests together" }
                            @if let Some(why) = &rule.open_because { "; open: " (why) }
                            @if !rule.unlike.is_empty() { "; not alike in " (rule.unlike.join("; ")) }
                        }
                    }
                }
            }
        }
    }
}

/// A p-value.
fn small(p: f64) -> String {
    if p < 0.001 { "below 0.001".into() } else { format!("{p:.3}") }
}

/// How each measurement is repeated, and what systems said of themselves.
fn measurements(p: &ClaimsPage<'_>) -> Markup {
    html! {
        @for e in &p.evidence {
            h3 id={ "run-" (e.measure) } { (evidence_link(e)) }
            p.quiet {
                (e.tier)
                @if let Some(r) = e.record { "; " (r.started_at) "; " (rounds(r)) } @else { "; not run" }
            }
            pre { code { (e.command) } }
        }
    }
}

/// `47 of 48 trials valid`; one that failed is none.
fn rounds(r: &Record) -> String {
    let valid = r.trials.iter().filter(|t| usable(t)).count();
    format!("{valid} of {} trials valid", r.trials.len())
}

/// The same as a Markdown file.
pub fn markdown(p: &ClaimsPage<'_>) -> String {
    let (o, text) = (p.outcomes, markdown::text);
    let mut out = format!("# {}\n\n{}\n\n{}\n\n", text(&o.title), text(&summary(o)), text(&certainty(o)));
    let versions = p.versions().join("; ");
    out.push_str(&format!("{}. {}\n\n{}\n", text(&p.host()), text(&versions), text(&p.limits())));
    for (name, claims) in sections(o) {
        let heads = ["", "claim", "verdict", "what decides", "tested on"];
        let mut table = TextTable::new("", &heads);
        for c in claims {
            let mut why = c.reason.clone();
            for (head, more) in [("Checked: ", &c.checked_by), ("", &c.note), ("Read at ", &c.read_at)] {
                why.extend(more.iter().map(|m| format!(" {head}{m}")));
            }
            why.extend(seconds(c).map(|said| format!("; second method: {said}")));
            let says = format!("“{}” ({})", c.says, c.place);
            let on = c.tiers.iter().chain(&c.measures).cloned().collect::<Vec<_>>().join("; ");
            table.rows.push(vec![c.id.to_string(), says, c.verdict.word().into(), why, on]);
        }
        out.push_str(&format!("\n## {}\n\n{}", text(name), markdown::table(&table)));
    }
    out.push_str("\n## Measurements\n\n");
    for e in &p.evidence {
        let when = e.record.map_or_else(|| "not run".into(), |r| format!("{}, {}", r.started_at, rounds(r)));
        out.push_str(&format!("- {} ({}; {when}): {}\n", text(e.measure), text(&e.tier), markdown::code(&e.command)));
    }
    out
}

/// The same for a terminal.
pub fn text(o: &Outcomes, style: TextStyle) -> String {
    let mut out = wrapped(&plain(&o.title), "", style.width);
    for c in &o.claims {
        let said = c.verdict.word();
        let head = format!("{:>3}  {}  “{}”", c.id, paint(said, code(c.verdict), style.color), plain(&c.says));
        out.push('\n');
        out.push_str(&head);
        out.push('\n');
        let why = plain(&if measured(c.verdict) { figures(c) } else { c.reason.clone() });
        out.push_str(&wrapped(&format!("     {why}"), "     ", style.width));
        for said in seconds(c).map(|said| plain(&said)) {
            out.push_str(&wrapped(&format!("     second method: {said}"), "     ", style.width));
        }
    }
    out.push('\n');
    out.push_str(&wrapped(&plain(&summary(o)), "", style.width));
    out + &wrapped(&plain(&certainty(o)), "", style.width)
}

fn code(verdict: ClaimWord) -> &'static str {
    match verdict {
        ClaimWord::Supported => "32",
        ClaimWord::Refuted => "1;31",
        ClaimWord::Depends | ClaimWord::Undecided => "33",
        ClaimWord::NotTestable | ClaimWord::Read(_) => "2",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::Form;
    use crate::claims::sample::{outcomes, records};
    use crate::record::Outcome;
    use crate::report::export;

    fn evidence(record: &Record) -> Vec<ClaimEvidence<'_>> {
        let of = |measure, link: Option<&str>, record| ClaimEvidence {
            measure,
            tier: "page cache, 3 copies".into(),
            command: format!("msgbench run {measure} --set 'a=<b>'"),
            link: link.map(str::to_owned),
            record,
        };
        vec![of("fan", Some("full/fan/report.html"), Some(record)), of("gone", None, None)]
    }

    #[test]
    fn a_person_can_read_it() {
        let (outcomes, records) = (outcomes(1, Form::Quick), records());
        let page = ClaimsPage { outcomes: &outcomes, evidence: evidence(&records["fan"]) };
        insta::assert_snapshot!("claims_text", text(&outcomes, TextStyle::default()));
        insta::assert_snapshot!("claims_markdown", markdown(&page));
        insta::assert_snapshot!("claims_junit", export::claims::junit(&outcomes).unwrap());
    }

    /// A second method says what it likes, and a terminal obeys none of it.
    #[test]
    fn no_terminal_obeys_what_others_wrote() {
        let mut outcomes = outcomes(1, Form::Quick);
        let second = |said: &str| SecondResult {
            that: "it < 1ms".into(),
            by: "a client".into(),
            said: Some(said.into()),
            keeps: None,
            agrees: None,
            missing: None,
        };
        outcomes.claims[0].second = vec![second("1 ms\x1b]0;title\x07\u{9b}2J")];
        outcomes.claims[3].reason = "it\x1b[2J said".into();
        outcomes.claims[0].says = "below \x1b[1ma millisecond".into();
        let odd = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');
        let style = TextStyle::default();
        let shown = text(&outcomes, style);
        assert!(shown.contains("found 1 ms ]0;title") && !odd(&shown), "{shown:?}");
        let coloured = text(&outcomes, TextStyle { color: true, ..style });
        assert!(coloured.contains("\x1b[32mSUPPORTED"), "{coloured:?}");
        assert_eq!(coloured.matches('\x1b').count(), 2 * outcomes.claims.len(), "{coloured:?}");
    }

    /// A trial that failed says nothing, and no machine is named that was not alone.
    #[test]
    fn what_failed_or_was_elsewhere_is_not_said_to_be_valid_and_here() {
        let mut record = records()["fan"].clone();
        let page = |record: &Record| {
            let outcomes = outcomes(1, Form::Quick);
            markdown(&ClaimsPage { outcomes: &outcomes, evidence: evidence(record) })
        };
        let failed = |phase: &str| Outcome::Failed { phase: phase.into(), error: "refused".into() };
        record.trials.iter_mut().for_each(|t| t.outcome = failed("connect"));
        assert!(page(&record).contains(", 0 of 20 trials valid"));
        assert!(page(&record).contains("no network was between them"));
        record.plan.systems[0].bring_up = BringUp::External { url: "nats://elsewhere:4222".into() };
        let name = record.plan.systems[0].name.clone();
        let at = page(&record);
        assert!(!at.contains("no network") && !at.contains("nats://elsewhere"), "{at}");
        assert!(at.contains(&format!("In fan: {name} was running already, at a URL")), "{at}");
        record.plan.systems[0].bring_up = BringUp::Launch;
        record.plan.agents = Some(crate::plan::AgentsPlan::any(2));
        let at = page(&record);
        assert!(!at.contains("no network") && at.contains("In fan: 2 agents ran the load."), "{at}");
    }

    /// Everything that is said stands on the page, escaped, with a link to what it rests on.
    #[test]
    fn the_page_has_every_claim() {
        let (outcomes, records) = (outcomes(1, Form::Full), records());
        let page = page(&ClaimsPage { outcomes: &outcomes, evidence: evidence(&records["fan"]) });
        for claim in &outcomes.claims {
            assert!(page.contains(&format!("id=\"claim-{}\"", claim.id)), "{}", claim.id);
            assert!(page.contains(&html! { (claim.says) }.0) && page.contains(claim.verdict.word()));
        }
        assert!(page.contains("Two &lt;systems&gt;") && !page.contains("<systems>") && !page.contains("<lossless>"));
        assert!(page.contains("href=\"full/fan/report.html\"") && page.contains("href=\"#run-gone\""));
        assert!(page.contains("href=\"https://example.org/a\""));
    }
}
