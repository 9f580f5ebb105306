//! The command line of one agent.

use crate::plan::AgentLabel;

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
