//! Whether standard output takes colours, and how wide it is.

use std::ffi::OsStr;
use std::io::IsTerminal;

use clap::ValueEnum;

use crate::report::pages::text::filled;

/// When colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Also into a file or a pipe
    Always,
    /// Not at all
    Never,
}

impl ColorChoice {
    /// Whether to colour what goes to standard output.
    pub(super) fn on(self) -> bool {
        self.decide(std::env::var_os("NO_COLOR").as_deref(), std::env::var_os("TERM").as_deref(), {
            std::io::stdout().is_terminal()
        })
    }

    fn decide(self, no_color: Option<&OsStr>, term: Option<&OsStr>, terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            // As no-color.org has it: set, and not empty.
            Self::Auto => terminal && no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|t| t != "dumb"),
        }
    }
}

/// Columns of the terminal that standard output is; `None` where it is none.
pub(super) fn width() -> Option<usize> {
    terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0))
}

/// Narrower than this, what stands beside a name goes below it.
const NARROW: usize = 60;

/// A name and what is said of it: beside it, wrapped and indented; below it on a narrow terminal.
pub(super) fn beside(name: &str, longest: usize, text: &str, width: usize) -> String {
    match width < NARROW {
        true => format!("{name}\n{}", filled("  ", text, "  ", width)),
        false => filled(&format!("{name:<longest$}  "), text, &" ".repeat(longest + 2), width),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        let one = Some(OsStr::new("1"));
        for (choice, no_color, term, terminal, on) in [
            (ColorChoice::Auto, None, None, true, true),
            (ColorChoice::Auto, Some(OsStr::new("")), None, true, true),
            (ColorChoice::Auto, one, None, true, false),
            (ColorChoice::Auto, None, Some(OsStr::new("dumb")), true, false),
            (ColorChoice::Auto, None, None, false, false),
            (ColorChoice::Always, one, None, false, true),
            (ColorChoice::Never, None, None, true, false),
        ] {
            assert_eq!(choice.decide(no_color, term, terminal), on, "{choice:?} {no_color:?} {term:?} {terminal}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal(text in "([a-z]{1,12} ){0,30}", width in 30usize..200) {
            let out = beside("slow-consumer", 13, &text, width);
            for line in out.lines() {
                proptest::prop_assert!(line.chars().count() <= width, "{line:?} in {width}");
            }
            let words = |t: &str| t.split_whitespace().map(String::from).collect::<Vec<_>>();
            proptest::prop_assert_eq!(&words(&out)[1..], &words(&text)[..]);
        }
    }
}
