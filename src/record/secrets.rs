//! What must not be shown, taken out of everything that is written or printed.
//!
//! The secrets are those that stand in options and addresses (`engine::secrets`). They are replaced wherever they turn up:
//! a server or a library may quote the address in an error. A secret of fewer than [`SHORT`] characters is replaced only
//! where it is a word of its own. Names that join parts of a record (cases, files) stay as they are.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What stands in the place of a secret.
const REDACTED: &str = "(redacted)";
/// A secret of fewer characters is often part of an ordinary word.
const SHORT: usize = 4;
/// Names by which parts of a record find each other; strings under these keys are no free text.
const NAMES: [&str; 8] = ["schema", "case", "name", "id", "workload", "hlog", "server_log", "order"];
/// Where free text and what was given stand: a secret that is a word of the record itself is replaced only here.
const FREE: [&str; 9] = ["options", "url", "text", "command", "overrides", "error", "message", "guarantees", "events"];

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// Of these texts, and of the forms in which they are quoted.
    pub fn new(found: impl IntoIterator<Item = String>) -> Self {
        let mut all = Vec::new();
        for secret in found.into_iter().filter(|s| !s.trim().is_empty()) {
            let quoted = format!("{secret:?}");
            let json = Value::from(secret.as_str()).to_string();
            all.extend([&quoted, &json].map(|q| q[1..q.len() - 1].to_owned()));
            all.push(secret);
        }
        // The longest first: one may be part of another.
        all.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        all.dedup();
        Self(all)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `text` without secrets.
    pub fn text(&self, text: &str) -> String {
        let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let (mut out, mut at, mut before) = (String::with_capacity(text.len()), 0, None);
        while let Some(c) = text[at..].chars().next() {
            let found = self.0.iter().find(|s| {
                let there = text[at..].starts_with(s.as_str());
                there && (s.chars().count() >= SHORT || !word(before) && !word(text[at + s.len()..].chars().next()))
            });
            let length = found.map_or(c.len_utf8(), String::len);
            out.push_str(found.map_or(&text[at..at + length], |_| REDACTED));
            before = text[at..at + length].chars().last();
            at += length;
        }
        out
    }

    /// The bytes of a log without secrets.
    pub fn bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        if self.is_empty() { bytes } else { self.text(&String::from_utf8_lossy(&bytes)).into_bytes() }
    }

    /// A part of a record without secrets.
    pub fn clean<T: Serialize + DeserializeOwned>(&self, part: T) -> T {
        let Ok(value) = serde_json::to_value(&part) else { return part };
        if self.is_empty() {
            return part;
        }
        let read = |everywhere: &Self, free: &Self| {
            let mut value = value.clone();
            everywhere.walk(&mut value, None);
            free.walk(&mut value, Some(false));
            serde_json::from_value::<T>(value)
        };
        if let Ok(clean) = read(self, &Self::default()) {
            return clean;
        }
        // One of them is a word of the record, such as the name of a driver.
        let breaks = |s: &String| read(&Self(vec![s.clone()]), &Self::default()).is_err();
        let (words, others) = self.0.iter().cloned().partition(breaks);
        read(&Self(others), &Self(words)).unwrap_or(part)
    }

    /// In options a password of digits may be written as a number.
    fn numbers(&self, value: &mut Value) {
        match value {
            Value::Number(number) if self.0.contains(&number.to_string()) => {
                let long = number.to_string().len() >= SHORT;
                if long {
                    *value = REDACTED.into();
                }
            }
            Value::Array(all) => all.iter_mut().for_each(|v| self.numbers(v)),
            Value::Object(all) => all.values_mut().for_each(|v| self.numbers(v)),
            _ => {}
        }
    }

    /// `free` is whether the value is free text; everything counts as such where it is not given.
    fn walk(&self, value: &mut Value, free: Option<bool>) {
        match value {
            Value::String(text) if free != Some(false) => *text = self.text(text),
            Value::Array(all) => all.iter_mut().for_each(|v| self.walk(v, free)),
            Value::Object(all) => {
                for (key, value) in all.iter_mut() {
                    if key == "options" {
                        self.numbers(value);
                    }
                    let name = NAMES.contains(&key.as_str()) && !value.is_object();
                    if name && free != Some(true) {
                        continue;
                    }
                    let free = free.map(|inside| inside || FREE.contains(&key.as_str()));
                    self.walk(value, free);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use proptest::prelude::*;

    proptest! {
        /// Of a secret nothing is left, whatever stands around it and whatever else is one.
        #[test]
        fn nothing_of_a_secret_is_left(
            secrets in prop::collection::vec("\\PC{4,10}", 1..4), before in "\\PC{0,8}", after in "\\PC{0,8}",
        ) {
            let all = Secrets::new(secrets.clone());
            for secret in secrets.iter().filter(|s| !s.trim().is_empty() && !REDACTED.contains(s.as_str())) {
                let told = all.text(&format!("{before} {secret} {after}"));
                prop_assert!(!told.replace(REDACTED, "\0").contains(secret.as_str()), "{:?} in {:?}", secret, told);
                let told = all.text(&format!("{secret:?}"));
                prop_assert!(told.contains(REDACTED));
            }
        }
    }

    #[test]
    fn a_record_without_secrets_of_its_own_is_not_changed() {
        let record = sample::record();
        assert!(Secrets::new(["no such text".to_owned()]).clean(record.clone()) == record);
    }

    #[test]
    fn a_secret_that_is_a_word_of_the_record_is_taken_out_where_it_was_given() {
        let mut record = sample::record();
        record.scenario.text = "password = \"nats\"".into();
        record.tool.command = vec!["--set".into(), "x=complete".into(), "me".into(), "message".into()];
        record.plan.systems[0].options.insert("password".into(), "nats".into());
        let clean = Secrets::new(["nats", "complete", "me"].map(str::to_owned)).clean(record.clone());
        assert_eq!(clean.scenario.text, "password = \"(redacted)\"");
        assert_eq!(clean.tool.command, ["--set", "x=(redacted)", "(redacted)", "message"]);
        assert_eq!(clean.plan.systems[0].options["password"], "(redacted)");
        assert_eq!(clean.plan.systems[0].driver, record.plan.systems[0].driver);
        assert_eq!(clean.trials.len(), record.trials.len());
        assert_eq!(clean.order, record.order);
    }
}
