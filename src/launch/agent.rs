//! The command line of one agent.

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

/// One agent as it is started, wherever that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentCommand {
    /// msgbench on that host.
    pub program: String,
    /// Address of the control server, as seen from that host.
    pub control: String,
    pub name: String,
    /// Whose runs it takes part in; none for those of the fleet that has no name.
    pub fleet: Option<String>,
    pub labels: Vec<AgentLabel>,
    /// The file with its key, on that host.
    pub key: Option<String>,
    /// It ends after its first run.
    pub once: bool,
}

impl AgentCommand {
    /// The words of the command line, the program first.
    pub fn words(&self) -> Vec<String> {
        std::iter::once(self.program.clone()).chain(self.arguments()).collect()
    }

    /// The same without the program.
    pub fn arguments(&self) -> Vec<String> {
        let mut words = vec!["agent".to_owned(), "--control".into(), self.control.clone()];
        words.extend(["--name".into(), self.name.clone()]);
        words.extend(self.fleet.iter().flat_map(|fleet| ["--fleet".into(), fleet.clone()]));
        words.extend(self.labels.iter().flat_map(|label| ["--label".into(), label.to_string()]));
        words.extend(self.key.iter().flat_map(|key| ["--key".into(), key.clone()]));
        words.extend(self.once.then(|| "--once".to_owned()));
        words
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

    #[test]
    fn an_agent_has_one_command_line() {
        let agent = AgentCommand {
            program: "msgbench".into(),
            control: "nats://control:4222".into(),
            name: "a".into(),
            fleet: Some("f".into()),
            labels: vec!["zone=a".parse().unwrap(), "disk=ssd".parse().unwrap()],
            key: Some("/keys/agent.nk".into()),
            once: true,
        };
        assert_eq!(
            agent.words().join(" "),
            "msgbench agent --control nats://control:4222 --name a --fleet f --label zone=a --label disk=ssd --key /keys/agent.nk --once"
        );
        assert_eq!(AgentCommand { fleet: None, labels: Vec::new(), key: None, once: false, ..agent }.words().len(), 6);
    }
}
