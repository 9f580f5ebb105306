//! The certificate as a page of its own that needs nothing else: a sentence, a tile for each
//! experiment, and, folded, what was compared.

use std::collections::BTreeMap;

use super::certificate::{Certificate, ClaimVerdict, Experiment};
use crate::report::escape;
use crate::report::pages::page::{details, section, shell, table, words};
use crate::report::words::view::TextTable;
use crate::units::{count, latency};

impl Certificate {
    /// The page.
    pub fn html(&self) -> String {
        let word = self.verdict().word();
        let h = &self.host;
        let mut out = format!(
            "<header>\n<p class=\"question\">Calibration · msgbench {} ({}), {} · {}, {} CPUs, kernel {}, clock source {} · {}, {:.0} s</p>\n</header>\n",
            escape(&self.version),
            escape(&self.profile),
            self.form.word(),
            escape(&h.cpu),
            h.cpus,
            escape(&h.kernel),
            escape(&h.clocksource),
            escape(&self.started_at),
            self.seconds,
        );
        // A build that failed is not to be trusted by its first words.
        let (first, second) = match self.verdict() {
            ClaimVerdict::Fail => (self.sentence(), format!("By experiments 2 and 6 alone: {}", self.trust())),
            _ => (self.trust(), self.sentence()),
        };
        let tiles: String = self.experiments.iter().map(tile).collect();
        out.push_str(&format!(
            "<section aria-label=\"Verdict\" class=\"answer {word}\">\n<h1><b class=\"word\">{word}</b> {}</h1>\n<p class=\"sub\">{}</p>\n<p class=\"quiet\">{}</p>\n<ul class=\"tiles\">\n{tiles}</ul>\n</section>\n",
            escape(&first),
            escape(&second),
            escape(&self.derivation()),
        ));
        let behind: String = self.experiments.iter().map(folded).collect();
        section(&mut out, "What was compared", &behind);
        section(&mut out, "The floor of this host", &table(&self.floor_table()));
        out.push_str(&format!("<p class=\"quiet\">{}</p>\n", explanation(self.verdict())));
        let explained = words(&out);
        out.push_str(&explained);
        shell(&format!("Calibration: {word}"), &out)
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
fn tile(e: &Experiment) -> String {
    let worst = e.worst().map_or_else(String::new, |line| {
        let [_, _, error, tolerance, _] = line.cells();
        let allowed = if tolerance == "exact" { "exact".to_owned() } else { format!("{tolerance} allowed") };
        format!("<span>{}: off by {} ({allowed})</span>", escape(&line.what), escape(&error))
    });
    let word = e.verdict().word();
    format!("<li class=\"{word}\">{}. {} <b>{word}</b>{worst}</li>\n", e.number, escape(&e.name))
}

/// The claim and each comparison.
fn folded(e: &Experiment) -> String {
    let mut t = blank(&e.claim, &["what", ">expected", ">measured", ">error", ">tolerance", "verdict"]);
    for line in &e.lines {
        t.rows.push([vec![line.what.clone()], line.cells().to_vec()].concat());
    }
    let mut body = table(&t);
    for word in ["PASS", "DISTURBED", "FAIL"] {
        body = body.replace(&format!("<td>{word}</td>"), &format!("<td class=\"{word}\">{word}</td>"));
    }
    if !e.host.is_empty() {
        body.push_str(&format!("<p class=\"quiet\">The host meanwhile: {}</p>\n", escape(&e.host)));
    }
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
        assert!(first.contains(&super::escape(&c.trust())), "{first}");
        for e in &c.experiments {
            assert!(first.contains(&format!("<li class=\"{}\">{}. ", e.verdict().word(), e.number)), "{first}");
        }
        // And the meaning of the words.
        assert_eq!(rest.matches("<details>").count(), c.experiments.len() + 1);
        assert!(first.contains(&format!("<h1><b class=\"word\">FAIL</b> {}</h1>", c.sentence())), "{first}");
        assert!(first.contains("p99 of response: off by +400us (1.00ms allowed)"), "{first}");
    }
}
