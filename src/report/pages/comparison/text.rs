//! A comparison on the terminal.

use super::super::text::render;
use super::{differences, is_notable, notes, tables};
use crate::compare::{Comparison, Question};

/// The figures, what differs and what must be known to read them; last, where the eye is, the
/// verdict.
pub fn page(c: &Comparison) -> String {
    let mut out = String::new();
    for table in tables(c, is_notable) {
        out.push_str(&format!("{}\n\n{}\n", table.caption, render(&table, false)));
    }
    if let [Some(table), _] = differences(c) {
        out.push_str(&format!("{}\n\n{}\n", table.caption, render(&table, false)));
    }
    for (word, text) in notes(c) {
        out.push_str(&format!("{word:<12} {text}\n"));
    }
    out.push('\n');
    let word = match c.question {
        Question::Change => format!("{} {}: ", c.overall.verdict.sign(), c.overall.verdict.word()),
        Question::Systems => String::new(),
    };
    for (i, sentence) in c.sentences().iter().enumerate() {
        out.push_str(&format!("{}{sentence}\n", if i == 0 { word.as_str() } else { "" }));
    }
    if c.overall.exit_code != 0 {
        out.push_str(&format!("exit code {}:\n", c.overall.exit_code));
        c.overall.reasons.iter().for_each(|r| out.push_str(&format!("  {r}\n")));
    }
    // A server's own words may hold what a terminal would obey.
    out.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}
