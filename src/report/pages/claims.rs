//! Claims and their verdicts: as HTML, Markdown and text.

use maud::{Markup, html};

use super::markdown;
use super::page::{section, section_of, shell};
use super::text::{TextStyle, paint, wrapped};
use crate::claims::sentence::{certainty, decided_by, figure, figures, summary, word};
use crate::claims::{ClaimResult, ClaimWord, Outcomes, SecondResult};
use crate::record::Record;
use crate::report::words::view::TextTable;

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
        let trials = self.evidence.iter().filter_map(|e| e.record).flat_map(|r| &r.trials);
        let mut all: Vec<String> = trials.map(|t| t.system.version.clone()).filter(|v| !v.is_empty()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// What the machine cannot say.
    fn limits(&self) -> String {
        let cpus = self.evidence.iter().filter_map(|e| e.record).map(|r| r.host.cpus).max();
        match cpus {
            Some(n) => format!(
                "Servers and generator shared {n} CPUs of one machine: a rate is that of both together, no network was \
                 between them, and copies on one machine share its fate. What needs several machines is not in these verdicts."
            ),
            None => String::new(),
        }
    }

    fn of(&self, claim: &ClaimResult) -> Vec<&ClaimEvidence<'_>> {
        self.evidence.iter().filter(|e| claim.measures.iter().any(|m| m == e.measure)).collect()
    }
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

/// `12 rounds, 47 of 48 trials valid`.
fn rounds(r: &Record) -> String {
    let valid = r.trials.iter().filter(|t| t.validity_status() != crate::record::Status::Invalid).count();
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
        out.push_str(&format!("- {} ({}; {when}): `{}`\n", text(e.measure), text(&e.tier), e.command));
    }
    out
}

/// The same for a terminal.
pub fn text(o: &Outcomes, style: TextStyle) -> String {
    let mut out = wrapped(&o.title, "", style.width);
    for c in &o.claims {
        let said = c.verdict.word();
        let head = format!("{:>3}  {}  “{}”", c.id, paint(said, code(c.verdict), style.color), c.says);
        out.push('\n');
        out.push_str(&head);
        out.push('\n');
        let why = if measured(c.verdict) { figures(c) } else { c.reason.clone() };
        out.push_str(&wrapped(&format!("     {why}"), "     ", style.width));
        for said in seconds(c) {
            out.push_str(&wrapped(&format!("     second method: {said}"), "     ", style.width));
        }
    }
    out.push('\n');
    out.push_str(&wrapped(&summary(o), "", style.width));
    out.push_str(&wrapped(&certainty(o), "", style.width));
    out.chars().map(|c| if c.is_control() && c != '\n' && c != '\x1b' { ' ' } else { c }).collect()
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
