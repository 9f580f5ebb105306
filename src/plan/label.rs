//! Labels of agents: what an agent says of itself, and what a scenario places clients by.

use std::fmt;
use std::str::FromStr;

/// What an agent says of itself, for placement: `zone=a`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentLabel {
    pub key: String,
    pub value: String,
}

/// Why a text is no label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a label: write key=value, such as zone=a, with letters, digits, `-`, `_`, `.` and `/`")]
pub struct LabelError(pub String);

impl FromStr for AgentLabel {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let usual =
            |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        match text.split_once('=') {
            Some((key, value)) if usual(key) && usual(value) => {
                Ok(Self { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err(LabelError(text.to_owned())),
        }
    }
}

impl fmt::Display for AgentLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_back_as_it_is_printed() {
        for text in ["zone=a", "topology.kubernetes.io/zone=eu-1_b"] {
            assert_eq!(text.parse::<AgentLabel>().unwrap().to_string(), text);
        }
        for text in ["", "zone", "zone=", "=a", "zone=a b", "zone=a=b", "zone=$(id)"] {
            assert_eq!(text.parse::<AgentLabel>(), Err(LabelError(text.into())));
        }
    }
}
