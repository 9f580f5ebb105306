//! A comparison on the terminal.

use super::super::text::render;
use super::{differences, is_notable, notes, tables};
use crate::compare::Comparison;

/// The sentence first, then what differs, the figures, and what must be known to read them.
pub fn page(c: &Comparison) -> String {
    let mut out = format!("{} {}: {}\n", c.overall.verdict.sign(), c.overall.verdict.word(), c.overall.sentence);
    if c.overall.exit_code != 0 {
        out.push_str(&format!("exit code {}:\n", c.overall.exit_code));
        c.overall.reasons.iter().for_each(|r| out.push_str(&format!("  {r}\n")));
    }
    if let [Some(table), _] = differences(c) {
        out.push_str(&format!("\n{}\n\n{}", table.caption, render(&table, false)));
    }
    for table in tables(c, is_notable) {
        out.push_str(&format!("\n{}\n\n{}", table.caption, render(&table, false)));
    }
    out.push('\n');
    for (word, text) in notes(c) {
        out.push_str(&format!("{word:<12} {text}\n"));
    }
    // A server's own words may hold what a terminal would obey.
    out.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}
