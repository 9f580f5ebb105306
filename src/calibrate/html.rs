//! The certificate as a page of its own that needs nothing else: a sentence, a tile for each
//! experiment, and, folded, what was compared.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::certificate::{Certificate, ClaimVerdict, Experiment};
use crate::report::pages::page::{details, section, shell, table, table_by};
use crate::report::words::view::TextTable;
use crate::units::{count, latency};

impl Certificate {
    /// The page.
    pub fn html(&self) -> String {
        let word = self.verdict().word();
        // A build that failed is not to be trusted by its first words.
        let (first, second) = match self.verdict() {
            ClaimVerdict::Fail => (self.sentence(), format!("By experiments 2 and 6 alone: {}", self.trust())),
            _ => (self.trust(), self.sentence()),
        };
        let body = html! {
            header { p.question { (self.lead()) } }
            section aria-label="Verdict" class={ "answer " (word) } {
                h1 { b.word { (word) } " " (first) }
                p.sub { (second) }
                p.quiet { (self.derivation()) }
                ul.tiles { @for e in &self.experiments { (tile(e)) } }
            }
            (section("What was compared", &html! { @for e in &self.experiments { (folded(e)) } }))
            (section("The floor of this host", &table(&self.floor_table())))
            p.quiet { (explanation(self.verdict())) }
        };
        shell(&format!("Calibration: {word}"), &body)
    }

    /// What was calibrated, where and when.
    fn lead(&self) -> String {
        let h = &self.host;
        format!(
            "Calibration · msgbench {} ({}), {} · {}, {} CPUs, kernel {}, clock source {} · {}, {:.0} s",
            self.version,
            self.profile,
            self.form.word(),
            h.cpu,
            h.cpus,
            h.kernel,
            h.clocksource,
            self.started_at,
            self.seconds,
        )
    }

    fn floor_table(&self) -> TextTable {
        let mut t = blank(
            "The smallest latencies that can be told here",
            &["through", ">rate", ">p50", ">p99", ">p99.9", "schedule"],
        );
        let ns = |v: Option<u64>| v.map_or_else(|| "-".into(), latency);
        for f in &self.floor {
            t.rows.push(vec![
                f.through.clone(),
                format!("{}/s", count(f.rate)),
                ns(f.p50_ns),
                ns(f.p99_ns),
                ns(f.p999_ns),
                if f.kept { "kept" } else { "not kept" }.into(),
            ]);
        }
        t
    }
}

fn blank(caption: &str, heads: &[&str]) -> TextTable {
    TextTable {
        caption: caption.into(),
        head: heads.iter().map(|h| h.trim_start_matches('>').to_owned()).collect(),
        right: heads.iter().map(|h| h.starts_with('>')).collect(),
        rows: Vec::new(),
        grades: BTreeMap::new(),
    }
}

/// Name, verdict, and the error that is largest beside its tolerance.
fn tile(e: &Experiment) -> Markup {
    let word = e.verdict().word();
    html! {
        li class=(word) {
            (e.number) ". " (e.name) " " b { (word) }
            @if let Some(line) = e.worst() {
                @let [_, _, error, tolerance, _] = line.cells();
                @let allowed = if tolerance == "exact" { "" } else { " allowed" };
                span { (line.what) ": off by " (error) " (" (tolerance) (allowed) ")" }
            }
        }
    }
}

/// The claim and each comparison.
fn folded(e: &Experiment) -> Markup {
    let mut t = blank(&e.claim, &["what", ">expected", ">measured", ">error", ">tolerance", "verdict"]);
    for line in &e.lines {
        t.rows.push([vec![line.what.clone()], line.cells().to_vec()].concat());
    }
    let verdict = |cell: &str| ["PASS", "DISTURBED", "FAIL"].into_iter().find(|word| *word == cell);
    let body = html! {
        (table_by(&t, verdict))
        @if !e.host.is_empty() { p.quiet { "The host meanwhile: " (e.host) } }
    };
    let n = e.lines.len();
    let lines = if n == 1 { "comparison" } else { "comparisons" };
    details(&format!("{}. {}: {}, {n} {lines}", e.number, e.name, e.verdict().word()), &body)
}

fn explanation(verdict: ClaimVerdict) -> &'static str {
    match verdict {
        ClaimVerdict::Pass => "Every difference is within its tolerance. docs/calibration.md says how each is proved.",
        ClaimVerdict::Disturbed => {
            "DISTURBED: outside of its tolerance, while the host itself paused for as long. Not a proof, not a disproof."
        }
        ClaimVerdict::Fail => "FAIL: outside of its tolerance, and no pause of the host explains it.",
    }
}

#[cfg(test)]
mod tests {
    use super::super::certificate::sample;

    #[test]
    fn a_page_needs_nothing_else_and_escapes_everything() {
        let page = sample().html();
        if let Some(dir) = std::env::var_os("MSGBENCH_SAMPLE_REPORT") {
            std::fs::write(std::path::Path::new(&dir).join("certificate.html"), &page).unwrap();
        }
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains(" src="));
        assert!(page.contains("Some &lt;CPU&gt;") && page.contains("class=\"DISTURBED\">DISTURBED"));
        for tag in ["table", "tr", "p", "h2", "ul", "li", "details", "section"] {
            assert_eq!(
                page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count(),
                page.matches(&format!("</{tag}>")).count(),
                "{tag}"
            );
        }
    }

    /// The sentence and the tiles stand before anything that is folded, one tile for each
    /// experiment.
    #[test]
    fn the_answer_stands_first() {
        let c = sample();
        let page = c.html();
        let (first, rest) = page.split_at(page.find("<details").unwrap());
        assert!(first.contains(&maud::html! { (c.trust()) }.0), "{first}");
        for e in &c.experiments {
            assert!(first.contains(&format!("<li class=\"{}\">{}. ", e.verdict().word(), e.number)), "{first}");
        }
        // And the meaning of the words.
        assert_eq!(rest.matches("<details>").count(), c.experiments.len() + 1);
        assert!(first.contains(&format!("<h1><b class=\"word\">FAIL</b> {}</h1>", c.sentence())), "{first}");
        assert!(first.contains("p99 of response: off by +400us (1.00ms allowed)"), "{first}");
    }
}
