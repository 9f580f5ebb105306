//! Reads a scenario as typed, and goes on after a mistake: what is wrong is taken out, so that one
//! mistake does not hide the next.

use std::ops::Range;
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};
use toml::{Spanned, Table};

use super::diagnose::{Diagnosis, MistakePlace};
use super::environment::Expanded;
use super::reword::{self, FaultyValue, LISTS};

/// Mistakes that are told at once; who made more reads no further.
const MOST: usize = 50;

/// What of a text could be read.
pub(super) struct ReadText {
    pub document: Table,
    pub mistakes: Vec<Diagnosis>,
    /// Where values were taken out or made up: what follows from that is no mistake of the user's.
    pub doubtful: Vec<Vec<String>>,
}

/// A node of the document: keys and indices that lead to it, and where it stands.
struct Node<'a> {
    path: Vec<String>,
    key: Option<Range<usize>>,
    value: &'a Spanned<DeValue<'a>>,
}

/// Reads a text as `T`, mistakes left out.
///
/// # Errors
/// That it is no TOML.
pub(super) fn read<T: DeserializeOwned + JsonSchema>(
    path: &Path,
    text: &str,
    expanded: &Expanded,
) -> Result<ReadText, Diagnosis> {
    let diagnosis = |span: Range<usize>, (message, hint): (String, Option<String>)| Diagnosis {
        place: MistakePlace::of(path, text, expanded.original(span)),
        message,
        hint,
    };
    let syntax = |e: toml::de::Error| diagnosis(e.span().unwrap_or(0..0), reword::syntax(e.message()));
    let parsed = DeTable::parse(&expanded.text).map_err(syntax)?;
    let span = parsed.span();
    let mut root = Spanned::new(span, DeValue::Table(parsed.into_inner()));
    let (mut mistakes, mut doubtful): (Vec<Diagnosis>, Vec<Vec<String>>) = (Vec::new(), Vec::new());
    // Every round takes something out or puts something in; each is done once.
    for _ in 0..4 * MOST {
        let table = root.get_ref().as_table().cloned().unwrap_or_default();
        let Err(error) = T::deserialize(Deserializer::from(Spanned::new(root.span(), table))) else { break };
        let at = found(&root, error.span(), error.message());
        // A key that was taken out is not missing, and one that stands elsewhere was told there.
        let repeated = reword::missing(error.message()).is_some_and(|key| {
            let full: Vec<String> = at.path.iter().chain([&key]).cloned().collect();
            let misspelt = |d: &Vec<String>| {
                d.len() == full.len() && d.starts_with(&at.path) && d.last().is_some_and(|k| reword::near(k, &key))
            };
            doubtful.iter().any(|d| misspelt(d) || at.path.is_empty() && d.last() == Some(&key))
        });
        if !repeated && mistakes.len() < MOST {
            let (words, other) = reword::of::<T>(error.message(), &at, root.get_ref());
            mistakes.push(diagnosis(other.unwrap_or_else(|| at.span.clone()), words));
        }
        match repair(&mut root, &at, error.message()) {
            Some(path) => doubtful.push(path),
            None => break,
        }
    }
    let table = root.into_inner();
    let table = Table::deserialize(toml::de::ValueDeserializer::from(Spanned::new(0..0, table)));
    let document = table.map_err(|e| diagnosis(0..0, (e.message().into(), None)))?;
    Ok(ReadText { document, mistakes, doubtful })
}

/// The node that an error is about: the innermost one whose key or value stands there.
fn found(root: &Spanned<DeValue<'_>>, span: Option<Range<usize>>, message: &str) -> FaultyValue {
    // What has no place is said of the whole, and what was made up stands nowhere.
    let Some(span) = span.filter(|s| !s.is_empty()) else {
        return FaultyValue { path: Vec::new(), span: 0..0, text: None };
    };
    let mut nodes = Vec::new();
    walk(root, &mut Vec::new(), None, &mut nodes);
    let unknown = message.starts_with("unknown field");
    let exact = |node: &&Node<'_>| {
        if unknown { node.key.as_ref() == Some(&span) } else { node.value.span() == span }
    };
    let around = |node: &&Node<'_>| {
        let inside = |of: &Range<usize>| of.start <= span.start && span.end <= of.end;
        inside(&node.value.span()) || node.key.as_ref().is_some_and(inside)
    };
    let length = |node: &&Node<'_>| node.value.span().len();
    let node = nodes.iter().rfind(exact).or_else(|| nodes.iter().skip(1).filter(around).min_by_key(length));
    let text = |node: &Node<'_>| node.value.get_ref().as_str().map(str::to_owned);
    match node {
        Some(node) => FaultyValue { path: node.path.clone(), span, text: text(node) },
        None => FaultyValue { path: Vec::new(), span, text: None },
    }
}

fn walk<'a>(
    value: &'a Spanned<DeValue<'a>>,
    path: &mut Vec<String>,
    key: Option<Range<usize>>,
    nodes: &mut Vec<Node<'a>>,
) {
    nodes.push(Node { path: path.clone(), key, value });
    let mut each = |name: String, key: Option<Range<usize>>, value: &'a Spanned<DeValue<'a>>| {
        path.push(name);
        walk(value, path, key, nodes);
        path.pop();
    };
    match value.get_ref() {
        DeValue::Table(table) => table.iter().for_each(|(k, v)| each(k.get_ref().to_string(), Some(k.span()), v)),
        DeValue::Array(array) => array.iter().enumerate().for_each(|(i, v)| each(i.to_string(), None, v)),
        _ => {}
    }
}

/// Takes out what is wrong, or puts in what is missing; the path of what is now in doubt.
fn repair(root: &mut Spanned<DeValue<'_>>, at: &FaultyValue, message: &str) -> Option<Vec<String>> {
    if let Some(key) = reword::missing(message) {
        let table = node(root, &at.path)?;
        let made_up = match key.as_str() {
            "name" | "question" => text("unnamed"),
            "workload" => DeValue::Array(DeArray::new()),
            "pattern" => text("fan-out"),
            "driver" => text(""),
            "action" => text("pause"),
            "at" => text("0s"),
            "that" => text("ledger.lost == 0"),
            // The table is of no use without it.
            _ => return take_out(root, &at.path),
        };
        let DeValue::Table(table) = table.get_mut() else { return None };
        table.insert(Spanned::new(0..0, key.clone().into()), Spanned::new(0..0, made_up));
        // All of a workload, a system or an event hangs on it.
        return match at.path.is_empty() {
            true => Some(vec![key]),
            false => Some(at.path.clone()),
        };
    }
    if let [list] = at.path.as_slice()
        && LISTS.contains(&list.as_str())
    {
        let node = node(root, &at.path)?;
        if node.get_ref().is_table() {
            let one = std::mem::replace(node, Spanned::new(node.span(), DeValue::Array(DeArray::new())));
            if let DeValue::Array(all) = node.get_mut() {
                all.push(one);
            }
            return Some(vec![String::new()]);
        }
    }
    // Of a choice that is written as a table, nothing is left without its one key.
    let choice = reword::variant(message).is_some_and(|named| at.path.last() == Some(&named));
    match at.path.split_last() {
        Some((_, parents)) if choice => take_out(root, parents),
        _ => take_out(root, &at.path),
    }
}

fn text(text: &'static str) -> DeValue<'static> {
    DeValue::String(text.into())
}

fn take_out(root: &mut Spanned<DeValue<'_>>, path: &[String]) -> Option<Vec<String>> {
    let (last, parents) = path.split_last()?;
    match node(root, parents)?.get_mut() {
        DeValue::Table(table) => drop(table.remove(last.as_str())?),
        DeValue::Array(array) => {
            let index: usize = last.parse().ok()?;
            let mut rest = DeArray::new();
            array.iter().enumerate().filter(|(i, _)| *i != index).for_each(|(_, v)| rest.push(v.clone()));
            *array = rest;
            // The indices of what follows have changed.
            return Some(parents.to_vec());
        }
        _ => return None,
    }
    Some(path.to_vec())
}

fn node<'v, 'd>(root: &'v mut Spanned<DeValue<'d>>, path: &[String]) -> Option<&'v mut Spanned<DeValue<'d>>> {
    let Some((first, rest)) = path.split_first() else { return Some(root) };
    let next = match root.get_mut() {
        DeValue::Table(table) => table.get_mut(first.as_str())?,
        DeValue::Array(array) => first.parse::<usize>().ok().and_then(|i| array.get_mut(i))?,
        _ => return None,
    };
    node(next, rest)
}
