//! What is wrong with a scenario, said so that the reader can put it right without the manual: where it stands, the
//! line itself, and what was probably meant.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read, or is not UTF-8.
    #[error("cannot read scenario {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Something in it, or in an option that changes it, is wrong.
    #[error(transparent)]
    Wrong(Box<Diagnosis>),
}

/// One mistake: where it is, what it is, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// Where the mistake was made.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

/// Where a mistake was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the file.
    Source {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// The line itself.
        text: String,
        /// Characters to underline, at least 1.
        width: usize,
    },
    /// On the command line: the option as given.
    Option(String),
}

impl Place {
    /// The place of a byte range of the text; ranges outside of it are moved to its end.
    pub fn of(path: &Path, text: &str, span: Range<usize>) -> Self {
        let start = floor(text, span.start);
        let begin = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_text = text[begin..].split('\n').next().unwrap_or("").trim_end_matches('\r');
        let end = floor(text, span.end).clamp(start, (begin + line_text.len()).max(start));
        Self::Source {
            path: path.to_path_buf(),
            line: text[..begin].matches('\n').count() + 1,
            column: text[begin..start].chars().count() + 1,
            text: super::secrets::masked(line_text),
            width: text[start..end].chars().count().max(1),
        }
    }
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

impl std::error::Error for Diagnosis {}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Option(option) => write!(f, "{option}: {}", self.message)?,
            Place::Source { path, line, column, text, width } => {
                let number = line.to_string();
                // A tab stays a tab, so that the caret stands under its character at any tab width.
                let pad: String = text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                writeln!(f, "{}:{line}:{column}: {}", path.display(), self.message)?;
                writeln!(f, " {number} | {text}")?;
                write!(f, " {} | {pad}{}", " ".repeat(number.len()), "^".repeat(*width))?;
            }
        }
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

/// A mistake of meaning, at a key path such as `workload.0.load.rate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub path: String,
    pub message: String,
    pub hint: Option<String>,
}

impl Problem {
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), hint: None }
    }
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Where the value of a key path stands, or the innermost table around it that exists.
pub(super) fn locate(text: &str, path: &[String]) -> Range<usize> {
    let Ok(root) = DeTable::parse(text) else { return 0..0 };
    let mut span = 0..0;
    let mut table = Some(root.get_ref());
    let mut array = None;
    for segment in path {
        let next = match (table, array) {
            (Some(t), _) => t.get(segment.as_str()),
            (None, Some(a)) => segment.parse::<usize>().ok().and_then(|i| DeValue::get(a, i)),
            (None, None) => None,
        };
        let Some(value) = next else { break };
        span = value.span();
        table = value.get_ref().as_table();
        array = value.get_ref().is_array().then_some(value.get_ref());
    }
    span
}

/// Turns what serde or the parser said into our words: (message, hint).
pub(super) fn reword(error: &toml::de::Error) -> (String, Option<String>) {
    let message = error.message().lines().map(str::trim).collect::<Vec<_>>().join(", ");
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let kind = [("unknown field ", "unknown key"), ("unknown variant ", "unknown value")];
    if let (Some((_, what)), Some((wrong, valid))) =
        (kind.iter().find(|(start, _)| message.starts_with(start)), quoted.split_first())
    {
        return (format!("{what} `{wrong}`"), suggest(wrong, valid));
    }
    if let (true, Some(key)) = (message.starts_with("missing field"), quoted.first()) {
        return (format!("the key `{key}` is missing"), Some(format!("add `{key} = ...` to this table")));
    }
    (message, None)
}

/// "did you mean" with the nearest valid word, else the list of all.
pub(super) fn suggest(wrong: &str, valid: &[&str]) -> Option<String> {
    let near = valid.iter().map(|v| (distance(wrong, v), *v)).min();
    let list = || valid.iter().map(|v| format!("`{v}`")).collect::<Vec<_>>().join(", ");
    match near {
        None => None,
        Some((d, word)) if d <= (word.chars().count() / 3).max(1) => Some(format!("did you mean `{word}`?")),
        Some(_) => Some(format!("valid here: {}", list())),
    }
}

/// Optimal string alignment distance: insertions, deletions, replacements and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_edits() {
        assert_eq!(distance("paylod", "payload"), 1);
        assert_eq!(distance("rtae", "rate"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(suggest("zzzzzz", &["rate"]).unwrap(), "valid here: `rate`");
    }

    #[test]
    fn places_survive_ranges_outside_the_text() {
        let place = Place::of(Path::new("s.toml"), "a = 'é'\nb", 6..900);
        assert!(matches!(place, Place::Source { line: 1, column: 6, .. }), "{place:?}");
        assert!(matches!(Place::of(Path::new("s.toml"), "", 7..9), Place::Source { line: 1, column: 1, .. }));
    }
}
