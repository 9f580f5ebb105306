//! The certificate as a page of its own that needs nothing else.

use super::certificate::{Certificate, ClaimVerdict};
use crate::units::{count, latency};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}th,td{padding:.2rem .6rem;border-bottom:1px solid #ccc;text-align:left}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.FAIL{background:#d55e00;color:#fff}.DISTURBED{background:#f0e442}\
.PASS{color:#005a3c}small{color:#444}";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Certificate {
    /// The page.
    pub fn html(&self) -> String {
        let mut out = String::from("<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">");
        let mut add = |text: std::fmt::Arguments<'_>| out.push_str(&text.to_string());
        add(format_args!(
            "<title>msgbench: calibration of {}</title><style>{STYLE}</style></head><body>",
            self.started_at
        ));
        add(format_args!("<h1>Calibration: <span class=\"{0}\">{0}</span></h1>", self.verdict().word()));
        add(format_args!("<p>{}</p>", escape(&self.sentence())));
        let h = &self.host;
        add(format_args!(
            "<p>msgbench {} ({}), {}, {:.0} s. {}, {} CPUs, kernel {}, clock source {}. Highest trustworthy rate: {}/s.</p>",
            escape(&self.version),
            escape(&self.profile),
            self.started_at,
            self.seconds,
            escape(&h.cpu),
            h.cpus,
            escape(&h.kernel),
            escape(&h.clocksource),
            count(self.max_trustworthy_rate)
        ));
        for e in &self.experiments {
            add(format_args!(
                "<h2>{0}. {1} <span class=\"{2}\">{2}</span></h2><p>{3}</p>",
                e.number,
                escape(&e.name),
                e.verdict().word(),
                escape(&e.claim)
            ));
            add(format_args!("<table><tr><th scope=\"col\">what</th>"));
            for head in ["expected", "measured", "error", "tolerance"] {
                add(format_args!("<th scope=\"col\" class=\"n\">{head}</th>"));
            }
            add(format_args!("<th scope=\"col\">verdict</th></tr>"));
            for line in &e.lines {
                let [expected, measured, error, tolerance, verdict] = line.cells();
                add(format_args!("<tr><th scope=\"row\">{}</th>", escape(&line.what)));
                for cell in [expected, measured, error, tolerance] {
                    add(format_args!("<td class=\"n\">{cell}</td>"));
                }
                add(format_args!("<td class=\"{verdict}\">{verdict}</td></tr>"));
            }
            add(format_args!("</table>"));
            if !e.host.is_empty() {
                add(format_args!("<p><small>The host meanwhile: {}</small></p>", escape(&e.host)));
            }
        }
        add(format_args!("<h2>The floor of this host</h2><table><tr><th scope=\"col\">through</th>"));
        for head in ["rate", "p50", "p99", "p99.9"] {
            add(format_args!("<th scope=\"col\" class=\"n\">{head}</th>"));
        }
        add(format_args!("<th scope=\"col\">schedule</th></tr>"));
        for f in &self.floor {
            add(format_args!(
                "<tr><th scope=\"row\">{}</th><td class=\"n\">{}/s</td>",
                escape(&f.through),
                count(f.rate)
            ));
            for value in [f.p50_ns, f.p99_ns, f.p999_ns] {
                add(format_args!("<td class=\"n\">{}</td>", value.map_or("-".into(), latency)));
            }
            add(format_args!("<td>{}</td></tr>", if f.kept { "kept" } else { "not kept" }));
        }
        add(format_args!("</table><p><small>{}</small></p></body></html>\n", explanation(self.verdict())));
        out
    }
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
    #[test]
    fn a_page_needs_nothing_else_and_escapes_everything() {
        let page = super::super::certificate::sample().html();
        assert!(!page.contains("http") && !page.contains("<script"));
        assert!(page.contains("Some &lt;CPU&gt;") && page.contains("class=\"DISTURBED\">DISTURBED"));
        for tag in ["table", "tr", "p", "h2", "span"] {
            assert_eq!(
                page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count(),
                page.matches(&format!("</{tag}>")).count(),
                "{tag}"
            );
        }
    }
}
