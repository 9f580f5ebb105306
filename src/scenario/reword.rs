//! What serde and the parser say of a mistake, in the words of scenarios: what is wrong, and what
//! to write instead.

use std::ops::Range;

use schemars::JsonSchema;
use serde_json::Value;
use toml::de::DeValue;

use crate::plan::problem::suggest;

/// Tables that are written as lists, `[[workload]]`.
pub(super) const LISTS: [&str; 6] = ["workload", "system", "event", "expect", "measure", "claim"];

/// What is wrong, and what to write.
pub(super) type Words = (String, Option<String>);

/// The value that an error is about.
pub(super) struct FaultyValue {
    /// Keys and indices that lead to it.
    pub path: Vec<String>,
    pub span: Range<usize>,
    /// Its text, where it is one.
    pub text: Option<String>,
}

impl FaultyValue {
    fn key(&self) -> &str {
        let keys = self.path.iter().rev().find(|k| k.parse::<usize>().is_err());
        keys.map_or("the file", String::as_str)
    }
    /// The table that it stands in, without indices.
    fn table(&self) -> Vec<&str> {
        let parents = &self.path[..self.path.len().saturating_sub(1)];
        parents.iter().map(String::as_str).filter(|k| k.parse::<usize>().is_err()).collect()
    }
}

/// A mistake of syntax.
pub(super) fn syntax(message: &str) -> Words {
    let message = one_line(message);
    let hint = match () {
        () if message.contains("must be quoted") => Some("write text in quotes, such as \"10s\" or \"nats\""),
        () if message.contains("duplicate key") => Some("remove one of the two"),
        () => None,
    };
    (message, hint.map(str::to_owned))
}

/// The key that is missing, if that is what is wrong.
pub(super) fn missing(message: &str) -> Option<String> {
    message.starts_with("missing field").then(|| quoted(message).first().map(|k| (*k).to_owned())).flatten()
}

/// The choice that there is not, if that is what is wrong.
pub(super) fn variant(message: &str) -> Option<String> {
    message.starts_with("unknown variant").then(|| quoted(message).first().map(|k| (*k).to_owned())).flatten()
}

/// Whether a key is probably the other one, misspelt.
pub(super) fn near(wrong: &str, key: &str) -> bool {
    suggest(wrong, &[key]).is_some_and(|hint| hint.starts_with("did you mean"))
}

/// What serde said, where nothing is known of the value.
pub(super) fn plain(message: &str) -> Words {
    let message = one_line(message);
    let quoted = quoted(&message);
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

/// What serde said of a value of a file that is read as `T`; and where, if elsewhere than at the
/// value.
pub(super) fn of<T: JsonSchema>(message: &str, at: &FaultyValue, root: &DeValue<'_>) -> (Words, Option<Range<usize>>) {
    if let (Some(key), true) = (missing(message), at.path.is_empty())
        && let Some((table, span)) = elsewhere(root, &key)
    {
        let words = format!("this `{key}` is that of [[{table}]], and the scenario has none");
        let hint = format!("write `{key} = \"...\"` at the top of the file, before the first table");
        return ((words, Some(hint)), Some(span));
    }
    let (words, hint) = plain(message);
    if message.starts_with("unknown field") {
        let near = hint.as_deref().is_some_and(|h| h.starts_with("did you mean"));
        let home = if near { None } else { home::<T>(at) };
        return ((words, home.or(hint)), None);
    }
    (value(&words, at).unwrap_or((words, hint)), None)
}

/// A value that does not fit its key.
fn value(message: &str, at: &FaultyValue) -> Option<Words> {
    let key = at.key();
    let text = at.text.as_deref();
    if key == "keys" && message.contains("variant") {
        let form = match text {
            Some("zipf") => "{ zipf = { n = 10000, exponent = 1.0 } }",
            Some("uniform") => "{ uniform = 10000 }",
            Some("round-robin") => "{ round-robin = 10000 }",
            _ => return None,
        };
        let words = format!("`{}` does not say how many keys there are", text?);
        return Some((words, Some(format!("write keys = {form}"))));
    }
    let (got, wanted) = message.strip_prefix("invalid type: ")?.split_once(", expected ")?;
    if let ("map", [list]) = (got, at.path.as_slice())
        && LISTS.contains(&list.as_str())
    {
        let words = format!("there can be several of `{list}`: each is an element of a list");
        return Some((words, Some(format!("write [[{list}]] with two brackets"))));
    }
    if let ("sequence", true, [table]) = (got, wanted.starts_with("struct"), at.path.as_slice()) {
        return Some((format!("there is only one `{table}`"), Some(format!("write [{table}] with one bracket"))));
    }
    let wanted = match wanted {
        "u32" | "u64" | "usize" | "i32" | "i64" | "u16" => "a whole number",
        "f64" => "a number",
        "a string" => "text in quotes",
        "a boolean" => "true or false",
        "a sequence" => "a list in brackets",
        "a map" => "a table",
        w if w.starts_with("struct ") => "a table",
        w => w,
    };
    let got = match got {
        "map" => "a table",
        "sequence" => "a list",
        got => got,
    };
    let number = text.and_then(|t| t.trim().trim_start_matches('p').parse::<f64>().ok());
    let hint = match (key, number) {
        ("percentiles", Some(p)) if p >= 1.0 => Some(format!("write {} for p{p}", share(p))),
        (_, Some(_)) if wanted.ends_with("number") => text.map(|t| format!("write {t} without quotes")),
        _ => None,
    };
    Some((format!("`{key}` takes {wanted}, and this is {got}"), hint))
}

/// A percentile as the quantile that it is: 99.9 as `0.999`.
pub(super) fn share(percent: f64) -> String {
    let text = format!("{:.8}", percent / 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A table of a list that has this key, and where.
fn elsewhere(root: &DeValue<'_>, key: &str) -> Option<(&'static str, Range<usize>)> {
    let found = LISTS.iter().filter_map(|list| {
        let tables = root.as_table()?.get(*list)?.get_ref().as_array()?;
        let spans = tables.iter().filter_map(|t| Some(t.get_ref().as_table()?.get_key_value(key)?.0.span()));
        spans.min_by_key(|span| span.start).map(|span| (*list, span))
    });
    found.min_by_key(|(_, span)| span.start)
}

/// Where a key that is unknown in its table belongs.
fn home<T: JsonSchema>(at: &FaultyValue) -> Option<String> {
    let key = at.path.last()?;
    let schema = Value::from(schemars::schema_for!(T));
    let mut all = Vec::new();
    paths(&schema, &schema, &mut Vec::new(), &mut all);
    let table = at.table();
    let homes = all.iter().filter(|path| path.last() == Some(key));
    // The nearest: within this table, else the one with the shortest way.
    let home = homes.min_by_key(|path| (!path.starts_with_words(&table), path.len()))?;
    let parents = &home[..home.len() - 1];
    if home.starts_with_words(&table) && home.len() > table.len() + 1 && !table.is_empty() {
        return Some(format!("write it as `{}`", home[table.len()..].join(".")));
    }
    Some(match parents {
        [] => format!("`{key}` belongs to the top of the file, before the first table"),
        [list] if LISTS.contains(&list.as_str()) => format!("`{key}` belongs to [[{list}]]"),
        _ => format!("`{key}` belongs to [{}]", parents.join(".")),
    })
}

/// The beginning of a path of keys.
trait PathStart {
    fn starts_with_words(&self, start: &[&str]) -> bool;
}

impl PathStart for [String] {
    fn starts_with_words(&self, start: &[&str]) -> bool {
        self.len() >= start.len() && self.iter().zip(start).all(|(a, b)| a == b)
    }
}

/// The paths of all keys of a schema.
fn paths(schema: &Value, root: &Value, here: &mut Vec<String>, all: &mut Vec<Vec<String>>) {
    const DEEPEST: usize = 5;
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.trim_start_matches('#')));
    let schema = target.unwrap_or(schema);
    for inner in ["anyOf", "oneOf"].iter().filter_map(|k| schema.get(k)?.as_array()).flatten() {
        paths(inner, root, here, all);
    }
    if let Some(items) = schema.get("items") {
        paths(items, root, here, all);
    }
    for (key, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        here.push(key.clone());
        all.push(here.clone());
        if here.len() < DEEPEST {
            paths(inner, root, here, all);
        }
        here.pop();
    }
}

fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join(", ")
}
