//! JSON files of other tools: what is wrong is said with the line and the key.

use serde_json::{Map, Value};

use super::ForeignError;

/// The largest number that is taken for a count, a rate or a latency.
const LARGEST: f64 = 1e15;

pub(super) fn bad_json(what: &'static str, problem: impl ToString) -> ForeignError {
    ForeignError::Format { what, problem: problem.to_string() }
}

/// The line of a place, from 1.
fn line_of(bytes: &[u8], at: usize) -> usize {
    bytes[..at.min(bytes.len())].iter().filter(|b| **b == b'\n').count() + 1
}

/// At most so much of a value is repeated.
fn brief(value: &Value) -> String {
    let text: String = value.to_string().chars().take(40).collect();
    text.escape_debug().to_string()
}

/// Whether a file is meant to be JSON.
pub(super) fn looks_like(bytes: &[u8]) -> bool {
    bytes.iter().find(|b| !b.is_ascii_whitespace()).is_some_and(|b| *b == b'{' || *b == b'[')
}

/// Reads an object; `None` where the file is JSON and no object.
pub(super) fn object(bytes: &[u8]) -> Result<Option<Map<String, Value>>, ForeignError> {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Object(map)) => Ok(Some(map)),
        Ok(_) => Ok(None),
        Err(e) => Err(bad_json("JSON", syntax(bytes, &e))),
    }
}

/// A mistake of syntax with its line and the key before it.
fn syntax(bytes: &[u8], e: &serde_json::Error) -> String {
    let before: usize = bytes.split(|b| *b == b'\n').take(e.line().saturating_sub(1)).map(|l| l.len() + 1).sum();
    let at = (before + e.column().saturating_sub(1)).min(bytes.len());
    let rest = String::from_utf8_lossy(&bytes[at..(at + 12).min(bytes.len())]).into_owned();
    let word = rest.trim_start_matches(['-', ' ']);
    let text = String::from_utf8_lossy(&bytes[..at]);
    // The last `"key":` before it.
    let key = text.rfind("\":").and_then(|end| text[..end].rsplit('"').next().map(str::to_string));
    let of =
        key.map_or_else(String::new, |k| format!(", in `{}`", k.chars().take(60).collect::<String>().escape_debug()));
    let what = ["NaN", "Infinity", "nan", "inf"].iter().find(|w| word.starts_with(**w) || rest.starts_with(**w));
    match what {
        Some(word) => format!("line {}{of}: `{word}` is no number of JSON", e.line()),
        None if e.is_eof() => format!("line {}{of}: it ends in the middle", e.line()),
        None => {
            let words = e.to_string();
            let words = words.split(" at line ").next().unwrap_or_default().to_string();
            format!("line {}, column {}{of}: {words}", e.line(), e.column())
        }
    }
}

/// An object with what its messages need.
pub(super) struct JsonObject<'a> {
    pub json: &'a Map<String, Value>,
    pub bytes: &'a [u8],
    pub what: &'static str,
}

impl JsonObject<'_> {
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.json.keys()
    }
    /// The value of a key; `null` is none.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.json.get(key).filter(|v| !v.is_null())
    }
    /// What is wrong with a key, with its line.
    pub fn wrong(&self, key: &str, problem: &str) -> ForeignError {
        let quoted = format!("\"{key}\"");
        let at = self.bytes.windows(quoted.len()).position(|w| w == quoted.as_bytes()).unwrap_or(0);
        bad_json(self.what, format!("line {}: `{key}` {problem}", line_of(self.bytes, at)))
    }
    fn checked(&self, key: &str, value: &Value, place: &str) -> Result<f64, ForeignError> {
        match value.as_f64().filter(|v| (0.0..=LARGEST).contains(v)) {
            Some(v) => Ok(v),
            None => {
                let problem = format!("{place}is {}, and must be a number from 0 to {LARGEST:e}", brief(value));
                Err(self.wrong(key, &problem))
            }
        }
    }
    /// A number from 0 on.
    pub fn number(&self, key: &str) -> Result<Option<f64>, ForeignError> {
        self.value(key).map(|v| self.checked(key, v, "")).transpose()
    }
    /// A whole number from 0 on.
    pub fn whole(&self, key: &str) -> Result<Option<u64>, ForeignError> {
        match self.number(key)? {
            Some(v) if v.fract() != 0.0 => Err(self.wrong(key, &format!("is {v}, and must be a whole number"))),
            v => Ok(v.map(|v| v as u64)),
        }
    }
    pub fn text(&self, key: &str) -> Result<Option<String>, ForeignError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.chars().take(200).collect())),
            Some(other) => Err(self.wrong(key, &format!("is {}, and must be a text", brief(other)))),
        }
    }
    /// Numbers from 0 on; none where the key is absent.
    pub fn list(&self, key: &str) -> Result<Vec<f64>, ForeignError> {
        match self.value(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => {
                let one = |(i, v): (usize, &Value)| self.checked(key, v, &format!("at place {} ", i + 1));
                list.iter().enumerate().map(one).collect()
            }
            Some(other) => Err(self.wrong(key, &format!("is {}, and must be a list of numbers", brief(other)))),
        }
    }
}
