//! What is wrong with a scenario, said so that the reader can put it right without the manual:
//! where it stands, the line itself, and what was probably meant.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use unicode_width::UnicodeWidthChar;

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
    #[error("{}", listed(.0))]
    Wrong(Vec<Diagnosis>),
}

/// All mistakes, and how many there are.
fn listed(all: &[Diagnosis]) -> String {
    let mut each: Vec<String> = all.iter().map(Diagnosis::to_string).collect();
    if all.len() > 1 {
        each.push(format!("{} mistakes", all.len()));
    }
    each.join("\n\n")
}

/// One mistake: where it is, what it is, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// Where the mistake was made.
    pub place: MistakePlace,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

/// Where a mistake was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MistakePlace {
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

impl MistakePlace {
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
            text: crate::plan::secrets::masked(line_text),
            width: text[start..end].chars().count().max(1),
        }
    }
}

/// Each mistake once, those of the command line first.
pub(super) fn in_order(mistakes: Vec<Diagnosis>) -> Vec<Diagnosis> {
    let mut out: Vec<Diagnosis> = Vec::new();
    for mistake in mistakes {
        if !out.contains(&mistake) {
            out.push(mistake);
        }
    }
    out.sort_by_key(|d| match &d.place {
        MistakePlace::Option(_) => (0, 0),
        MistakePlace::Source { line, column, .. } => (*line, *column),
    });
    out
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

impl Diagnosis {
    /// Puts stars in the place of each character of a secret.
    pub(super) fn mask(&mut self, secrets: &[String]) {
        let line = match &mut self.place {
            MistakePlace::Source { text, .. } | MistakePlace::Option(text) => text,
        };
        let hint = self.hint.as_mut();
        for text in [line, &mut self.message].into_iter().chain(hint) {
            for secret in secrets {
                *text = text.replace(secret.as_str(), &"*".repeat(secret.chars().count()));
            }
        }
    }

    /// Whether it says the same of the same line.
    pub(super) fn repeats(&self, other: &Self) -> bool {
        let line = |place: &MistakePlace| match place {
            MistakePlace::Source { line, .. } => Some(*line),
            MistakePlace::Option(_) => None,
        };
        (&self.message, &self.hint, line(&self.place)) == (&other.message, &other.hint, line(&other.place))
    }
}

impl std::error::Error for Diagnosis {}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = match &self.place {
            MistakePlace::Option(option) => {
                write!(
                    f,
                    "{}: {}",
                    shorten(&option.chars().map(printable).collect::<String>(), OUTSIDE),
                    brief(&self.message, option)
                )?;
                option
            }
            MistakePlace::Source { path, line, column, text, width } => {
                let number = line.to_string();
                let (shown, pad, marked) = excerpt(text, *column, *width);
                writeln!(f, "{}:{line}:{column}: {}", path.display(), brief(&self.message, text))?;
                writeln!(f, " {number} | {shown}")?;
                write!(f, " {} | {pad}{}", " ".repeat(number.len()), "^".repeat(marked))?;
                text
            }
        };
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {}", brief(hint, line)),
            None => Ok(()),
        }
    }
}

/// Most characters of a line that are shown.
const SHOWN: usize = 160;
/// How many of them stand before the mistake, where the line is longer.
const BEFORE: usize = 60;
/// Most characters of a quoted text within a message, and of the text around it.
const QUOTED: usize = 100;
/// See [`QUOTED`].
const OUTSIDE: usize = 190;

/// The part of a line around a column (in characters, from 1), what stands below it before the
/// mark, and the width of the mark.
///
/// Columns of the terminal are counted: a wide character takes two. Control characters, which could
/// move the cursor, are shown as U+FFFD. A tab stays a tab, so that the mark stands under its
/// character at any tab width.
fn excerpt(text: &str, column: usize, width: usize) -> (String, String, usize) {
    let all: Vec<char> = text.chars().map(printable).collect();
    let at = (column - 1).min(all.len());
    let from = if all.len() > SHOWN { at.saturating_sub(BEFORE).min(all.len() - SHOWN) } else { 0 };
    let to = (from + SHOWN).min(all.len());
    let (before, after) = (if from > 0 { "…" } else { "" }, if to < all.len() { "…" } else { "" });
    let shown = format!("{before}{}{after}", all[from..to].iter().collect::<String>());
    let mut pad = " ".repeat(before.chars().count());
    for c in &all[from..at] {
        match c {
            '\t' => pad.push('\t'),
            c => pad.push_str(&" ".repeat(c.width().unwrap_or(0))),
        }
    }
    let end = (at + width).min(to).max(at);
    let marked: usize = all[at..end].iter().map(|c| c.width().unwrap_or(1)).sum();
    (shown, pad, marked.max(1))
}

/// A control character could move the cursor of a terminal, or change its state.
fn printable(c: char) -> char {
    if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c }
}

/// The middle of a longer text left out, so that `most` characters remain.
fn shorten(text: &str, most: usize) -> String {
    let n = text.chars().count();
    if n <= most {
        return text.to_owned();
    }
    let tail = most / 3;
    let head: String = text.chars().take(most - tail - 1).collect();
    let tail: String = text.chars().skip(n - tail).collect();
    format!("{head}…{tail}")
}

/// A message without long quotations of the line that it is about.
fn brief(message: &str, line: &str) -> String {
    let message: String = message.chars().map(|c| if c == '\n' { c } else { printable(c) }).collect();
    let parts = message.split_inclusive(['`', '"']).enumerate();
    let short: String = parts.map(|(i, part)| shorten(part, if i % 2 == 1 { QUOTED } else { OUTSIDE })).collect();
    // Quotation marks within the line may have hidden where the quotation begins.
    let chars: Vec<char> = if line.len() > OUTSIDE { short.chars().collect() } else { Vec::new() };
    let repeats = chars.windows(OUTSIDE).any(|w| line.contains(&w.iter().collect::<String>()));
    if repeats { shorten(&short, OUTSIDE) } else { short }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use unicode_width::UnicodeWidthStr;

    /// Columns of a terminal with tabs at every eighth column.
    fn columns(text: &str) -> usize {
        text.chars().fold(0, |at, c| if c == '\t' { at / 8 * 8 + 8 } else { at + c.width().unwrap_or(0) })
    }

    /// The longest run of characters of `line` in `text`.
    fn longest_run(text: &str, line: &str, bound: usize) -> bool {
        let chars: Vec<char> = text.chars().collect();
        chars.windows(bound).any(|w| line.contains(&w.iter().collect::<String>()))
    }

    proptest! {
        /// Whatever the line holds: it is shown up to 200 characters, the character in question is
        /// among them, and the mark stands below it.
        #[test]
        fn the_mark_stands_below_the_mistake(
            before in "[a-z\t éß\u{4e2d}\u{6587}\u{1f600}\u{0301}=]{0,400}",
            wrong in "[A-Z\u{4e2d}]{1,300}",
            after in "[a-z\t \u{4e2d}\u{1b}]{0,400}",
        ) {
            let text = format!("x = 1\n{before}{wrong}{after}\ny = 2");
            let start = "x = 1\n".len() + before.len();
            let place = MistakePlace::of(Path::new("s.toml"), &text, start..start + wrong.len());
            let said = Diagnosis { place, message: format!("`{wrong}{after}` is wrong"), hint: None }.to_string();
            let lines: Vec<&str> = said.split('\n').collect();
            prop_assert_eq!(lines.len(), 3, "{}", said);
            let (shown, marks) = (lines[1].strip_prefix(" 2 | ").unwrap(), lines[2].strip_prefix("   | ").unwrap());
            prop_assert!(shown.chars().count() <= 200 && marks.width() <= 400);
            let pad = marks.trim_end_matches('^');
            // A tab after the margin stands where the same tab of the line stands.
            let shown_wrong = shown.find(|c: char| c.is_ascii_uppercase() || c == '\u{4e2d}' && !before.contains(c));
            if before.chars().all(|c| c != '\u{4e2d}') {
                let at = shown_wrong.unwrap();
                prop_assert_eq!(columns(pad), columns(&shown[..at]), "{}", said);
            }
            prop_assert!(!said.contains('\u{1b}'), "{}", said);
            let line = format!("{before}{wrong}{after}");
            prop_assert!(line.chars().count() < 201 || !longest_run(&said, &line, 201), "{}", said);
        }

        /// Messages that quote the line, with quotation marks in it.
        #[test]
        fn no_message_repeats_more_than_200_characters_of_the_line(
            line in "[ab`\" \u{4e2d}]{0,900}", words in "[a-z ]{0,40}",
        ) {
            let place = MistakePlace::of(Path::new("s.toml"), &line, 0..line.len());
            let message = format!("invalid type: string \"{line}\", {words}");
            let said = Diagnosis { place, message, hint: Some(format!("write {line}")) }.to_string();
            prop_assert!(line.chars().count() < 201 || !longest_run(&said, &line, 201), "{}", said);
            let option = Diagnosis { place: MistakePlace::Option(line.clone()), message: line.clone(), hint: None }.to_string();
            prop_assert!(line.chars().count() < 201 || !longest_run(&option, &line, 201), "{}", option);
        }
    }

    #[test]
    fn places_survive_ranges_outside_the_text() {
        let place = MistakePlace::of(Path::new("s.toml"), "a = 'é'\nb", 6..900);
        assert!(matches!(place, MistakePlace::Source { line: 1, column: 6, .. }), "{place:?}");
        assert!(matches!(
            MistakePlace::of(Path::new("s.toml"), "", 7..9),
            MistakePlace::Source { line: 1, column: 1, .. }
        ));
    }
}
