//! Agents by the user's own ssh: one process of it for each.

use super::agent::AgentCommand;
use super::shell::shell_line;

/// Where ssh is to go: `host`, `user@host`, or a name of its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshHost(String);

/// Why a text is no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SshHostError {
    #[error("a host without a name")]
    Empty,
    /// ssh would take it for an option.
    #[error("`{0}` is an option and no host: options of ssh are given with --ssh-option")]
    Option(String),
    #[error("`{0}` is not a host: it has a blank in it")]
    Blank(String),
}

impl std::str::FromStr for SshHost {
    type Err = SshHostError;

    fn from_str(text: &str) -> Result<Self, SshHostError> {
        match text {
            "" => Err(SshHostError::Empty),
            _ if text.starts_with('-') => Err(SshHostError::Option(text.into())),
            _ if text.chars().any(|c| c.is_whitespace() || c.is_control()) => Err(SshHostError::Blank(text.into())),
            _ => Ok(Self(text.into())),
        }
    }
}

impl SshHost {
    /// The host without the user, for the name of its agent.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('@').map_or(self.0.as_str(), |(_, host)| host)
    }
}

/// Names for the agents of these hosts: the host's own, with a number from the second on it.
pub fn names(hosts: &[SshHost]) -> Vec<String> {
    let number = |i: usize| hosts[..i].iter().filter(|other| other.name() == hosts[i].name()).count() + 1;
    let named = |i: usize| match number(i) {
        1 => hosts[i].name().to_owned(),
        n => format!("{}-{n}", hosts[i].name()),
    };
    (0..hosts.len()).map(named).collect()
}

/// What the shell of the other host is given: the agent, which is ended when the input of this
/// shell ends. That is when ssh ends here, however it does; an agent whose user has gone would wait
/// for ever.
fn remote(agent: &AgentCommand) -> String {
    let agent = shell_line(&agent.words());
    let script = format!(
        "exec 3<&0; {agent} </dev/null 3<&- & agent=$!; \
         {{ cat <&3; kill $agent; }} >/dev/null 2>&1 & watch=$!; exec 3<&-; \
         wait $agent; code=$?; kill $watch 2>/dev/null; exit $code"
    );
    // The login shell may be another than sh.
    shell_line(&["sh".into(), "-c".into(), script])
}

/// The words of the command line that starts an agent on a host. `--` keeps a host from being an
/// option.
pub fn command_line(options: &[String], host: &SshHost, agent: &AgentCommand) -> Vec<String> {
    let options = options.iter().flat_map(|option| ["-o".to_owned(), option.clone()]);
    std::iter::once("ssh".to_owned()).chain(options).chain(["--".into(), host.0.clone(), remote(agent)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> AgentCommand {
        AgentCommand {
            program: "/opt/msg bench".into(),
            control: "nats://c:4222".into(),
            name: "h".into(),
            fleet: None,
            labels: Vec::new(),
            key: None,
            once: false,
        }
    }

    #[test]
    fn a_host_is_no_option() {
        assert_eq!("-oProxyCommand=x".parse::<SshHost>(), Err(SshHostError::Option("-oProxyCommand=x".into())));
        assert_eq!("".parse::<SshHost>(), Err(SshHostError::Empty));
        assert_eq!("a b".parse::<SshHost>(), Err(SshHostError::Blank("a b".into())));
        assert_eq!("me@h1".parse::<SshHost>().unwrap().name(), "h1");
    }

    #[test]
    fn agents_of_one_host_have_names_of_their_own() {
        let hosts = ["h1", "me@h2", "you@h1", "h1"].map(|h| h.parse().unwrap());
        assert_eq!(names(&hosts), ["h1", "h2", "h1-2", "h1-3"]);
    }

    #[test]
    fn options_come_before_the_host() {
        let words = command_line(&["ProxyJump=gate".into()], &"me@h".parse().unwrap(), &agent());
        assert_eq!(words[..5], ["ssh", "-o", "ProxyJump=gate", "--", "me@h"]);
        assert!(words[5].starts_with("sh -c 'exec 3<&0; '\\''/opt/msg bench'\\'' agent --control nats://c:4222"));
        assert_eq!(words.len(), 6);
    }
}
