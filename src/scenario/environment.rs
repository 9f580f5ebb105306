//! `${NAME}` in the strings of a scenario: the value of an environment variable. `$${` stands for the characters `${`.
//!
//! The values are put into the text itself, each as a string of TOML, so that all that follows sees a scenario as if it had
//! been typed so; places in the result are led back to the text as typed. Keys and comments are left alone.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::diagnose::{Diagnosis, Place};

/// A text with its variables replaced.
#[derive(Debug)]
pub(super) struct Expanded {
    /// The result.
    pub text: String,
    /// What was replaced: where it stands in the result, and where in the text as typed.
    pieces: Vec<(Range<usize>, Range<usize>)>,
}

impl Expanded {
    /// Where a range of the result stands in the text as typed.
    pub fn original(&self, range: Range<usize>) -> Range<usize> {
        let lead = |at: usize, end: bool| {
            let piece = self.pieces.iter().rev().find(|(new, _)| new.start <= at);
            match piece {
                None => at,
                Some((new, old)) if at < new.end => {
                    if end {
                        old.end
                    } else {
                        old.start
                    }
                }
                Some((new, old)) => at - new.end + old.end,
            }
        };
        lead(range.start, false)..lead(range.end, true)
    }
}

/// What is wrong in a string, and at which byte of its value.
pub(super) struct Mistake {
    words: String,
    hint: String,
    written: String,
}

/// One string with its variables replaced; `None` where there is nothing to replace.
fn replaced(text: &str, lookup: &impl Fn(&str) -> Option<String>) -> Result<Option<String>, Mistake> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let inside = &rest[at + 2..];
        let name = inside.split('}').next().filter(|n| n.len() < inside.len()).unwrap_or_default();
        let fit = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(fit) || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(Mistake {
                words: "`${` is followed by no name of a variable and `}`".into(),
                hint: "write `${NAME}` for an environment variable, or `$${` for the characters `${`".into(),
                written: "${".into(),
            });
        }
        let Some(value) = lookup(name) else {
            return Err(Mistake {
                words: format!("the environment variable `{name}` is not set"),
                hint: format!("set it, as in `export {name}=...`, or write `$${{` for the characters `${{`"),
                written: format!("${{{name}}}"),
            });
        };
        out.push_str(&value);
        rest = &inside[name.len() + 1..];
    }
    out.push_str(rest);
    Ok(Some(out))
}

/// The value of a variable; `None` when it is not set, or no text.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Replaces the variables of a scenario's text.
///
/// # Errors
/// A variable that is not set, at its place.
pub(super) fn expand(
    path: &std::path::Path,
    text: &str,
    lookup: &impl Fn(&str) -> Option<String>,
) -> Result<Expanded, Diagnosis> {
    let mut strings = Vec::new();
    // A text that is no TOML is told so by who reads it next.
    if let (true, Ok(root)) = (text.contains("${"), DeTable::parse(text)) {
        for (_, value) in root.get_ref() {
            collect(value.get_ref(), value.span(), &mut strings);
        }
    }
    strings.sort_by_key(|(span, _)| span.start);
    let mut out = Expanded { text: String::new(), pieces: Vec::new() };
    let mut done = 0;
    for (span, value) in strings {
        let new = replaced(&value, lookup).map_err(|m| {
            let within = text[span.clone()].find(&m.written).unwrap_or(0);
            let start = span.start + within;
            let place = Place::of(path, text, start..start + m.written.len());
            Diagnosis { place, message: m.words, hint: Some(m.hint) }
        })?;
        let Some(new) = new else { continue };
        out.text.push_str(&text[done..span.start]);
        let from = out.text.len();
        out.text.push_str(&quoted(&new));
        out.pieces.push((from..out.text.len(), span.clone()));
        done = span.end;
    }
    out.text.push_str(&text[done..]);
    Ok(out)
}

/// Replaces the variables of a value of the command line: (what is wrong, what to do).
pub(super) fn expand_value(
    value: &mut toml::Value,
    lookup: &impl Fn(&str) -> Option<String>,
) -> Result<(), (String, Option<String>)> {
    match value {
        toml::Value::String(text) => {
            if let Some(new) = replaced(text, lookup).map_err(|m| (m.words, Some(m.hint)))? {
                *text = new;
            }
            Ok(())
        }
        toml::Value::Array(all) => all.iter_mut().try_for_each(|v| expand_value(v, lookup)),
        toml::Value::Table(all) => all.iter_mut().try_for_each(|(_, v)| expand_value(v, lookup)),
        _ => Ok(()),
    }
}

fn collect(value: &DeValue<'_>, span: Range<usize>, found: &mut Vec<(Range<usize>, String)>) {
    match value {
        DeValue::String(text) if text.contains("${") => found.push((span, text.to_string())),
        DeValue::Array(all) => all.iter().for_each(|v| collect(v.get_ref(), v.span(), found)),
        DeValue::Table(all) => all.iter().for_each(|(_, v)| collect(v.get_ref(), v.span(), found)),
        _ => {}
    }
}

/// A string of TOML on one line.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    fn with(text: &str, value: &str) -> Result<Expanded, String> {
        let lookup = |name: &str| (name == "V").then(|| value.to_owned());
        expand(Path::new("s.toml"), text, &lookup).map_err(|d| d.to_string())
    }

    proptest! {
        /// Any value arrives as it is, in every kind of string; what stands around keeps its place.
        #[test]
        fn any_value_arrives_in_any_string(value in any::<String>(), around in "[a-z ]{0,5}") {
            let text = format!("# ${{NO}}\na = \"{around}${{V}}\"\nb = '{around}${{V}}'\nc = [\"\"\"\n${{V}}\"\"\", {{ d = '''${{V}}$${{V}}''' }}]\nend = 1\n");
            let e = with(&text, &value).unwrap();
            let t: toml::Table = toml::from_str(&e.text).unwrap();
            prop_assert_eq!(t["a"].as_str().unwrap(), format!("{around}{value}"));
            prop_assert_eq!(t["b"].as_str().unwrap(), format!("{around}{value}"));
            prop_assert_eq!(t["c"][0].as_str().unwrap(), &value);
            prop_assert_eq!(t["c"][1]["d"].as_str().unwrap(), format!("{value}${{V}}"));
            let at = e.text.find("end = 1").unwrap();
            prop_assert_eq!(&text[e.original(at..at + 7)], "end = 1");
        }
    }

    #[test]
    fn a_variable_that_is_not_set_is_an_error_at_its_place() {
        let told = with("a = 1\nb = { c = [\"x\", \"see ${NOT_SET} \"] }\n", "").unwrap_err();
        assert!(told.starts_with("s.toml:2:22: the environment variable `NOT_SET` is not set"), "{told}");
        assert!(told.contains("^^^^^^^^^^\n") && told.contains("`$${`"), "{told}");
        let told = with("a = \"${not a name}\"", "").unwrap_err();
        assert!(told.starts_with("s.toml:1:6: `${` is followed by no name"), "{told}");
        assert!(with("a = \"$${\"\nb = \"${\"", "").unwrap_err().starts_with("s.toml:2:6: "));
    }
}
