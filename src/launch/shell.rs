//! Words as a shell reads them.

use std::borrow::Cow;

/// A word that every shell takes as it is.
fn plain(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c))
}

/// One word, in single quotes where it needs any (XCU 2.2.2: nothing in them is special but the
/// quote itself, which is put between two others).
fn quoted(word: &str) -> Cow<'_, str> {
    if plain(word) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")).into() }
}

/// A command line that a POSIX shell divides into these words again.
pub fn shell_line(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a shell makes of a line.
    fn divided(line: &str) -> Vec<String> {
        let script = format!("for word in {line}; do printf '%s\\0' \"$word\"; done");
        let said = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let text = String::from_utf8(said.stdout).unwrap();
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    #[test]
    fn usual_words_are_left_as_they_are() {
        let words = ["msgbench", "nats://h:4222", "zone=a", "", "a b", "it's", "$(id)"].map(str::to_owned);
        assert_eq!(shell_line(&words), r"msgbench nats://h:4222 zone=a '' 'a b' 'it'\''s' '$(id)'");
        assert_eq!(divided(&shell_line(&words)), words);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_shell_reads_back_what_was_meant(words in prop::collection::vec("[^\0]{0,12}", 1..5)) {
            prop_assert_eq!(divided(&shell_line(&words)), words);
        }
    }
}
