//! What a scenario may ask of a nats-server that msgbench launches.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::scenario::options::{Options, read};
use crate::units::{Bytes, Span};

/// Servers of a cluster; more on one machine measure its scheduler.
const MAX_NODES: u32 = 7;

/// The options of a launched nats-server, all under these names in `system.options`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Launch {
    /// Servers; more than 1 make a cluster on this host. Default: 1.
    pub nodes: u32,
    /// Whether JetStream is on. Default: for the `jetstream` driver.
    pub jetstream: Option<bool>,
    /// How long an acknowledged message may stay unsynced: "2m", or "always". Default: the server's. From 2.10 on.
    #[schemars(extend("secret" = "none"))]
    pub sync_interval: Option<String>,
    /// Most that all streams may keep in memory. Default: the server's, three quarters of the host's.
    pub max_memory: Option<Bytes>,
    /// Most that all streams may keep in files. Default: the server's, three quarters of the free space.
    pub max_file: Option<Bytes>,
    /// Largest message. Default: the server's, 1 MiB.
    pub max_payload: Option<Bytes>,
    /// Bytes that the server holds for one slow connection before it closes it. Default: the server's, 64 MiB.
    pub max_pending: Option<Bytes>,
    /// How clients prove who they are; msgbench makes the secrets and gives them to its client. Default: "none".
    pub auth: Auth,
    /// Whether connections are encrypted, with certificates made for the trial. Default: "none".
    pub tls: Tls,
    /// Lines for the server's configuration file, as they are.
    #[schemars(extend("secret" = "text"))]
    pub config: Vec<String>,
}

impl Default for Launch {
    fn default() -> Self {
        Self {
            nodes: 1,
            jetstream: None,
            sync_interval: None,
            max_memory: None,
            max_file: None,
            max_payload: None,
            max_pending: None,
            auth: Auth::None,
            tls: Tls::None,
            config: Vec::new(),
        }
    }
}

/// How clients prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// Anybody may connect.
    None,
    /// By user and password.
    Password,
    /// By one token.
    Token,
    /// By signing a nonce with an Ed25519 key (NKey).
    Nkey,
    /// By a token signed by an account that is signed by an operator (JWT), and its key: a `.creds` file.
    Creds,
}

/// Whether connections are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// They are not.
    None,
    /// They are; the client verifies the server.
    Server,
    /// They are; each verifies the other.
    Mutual,
}

impl Launch {
    /// Reads and checks the options. Those of the client are left alone.
    ///
    /// # Errors
    /// The option that does not fit, and what is allowed.
    pub fn from_options(options: &Options) -> Result<Self, String> {
        let launch: Self = read(options)?;
        if !(1..=MAX_NODES).contains(&launch.nodes) {
            return Err(format!("option `nodes`: {} is not between 1 and {MAX_NODES}", launch.nodes));
        }
        if let Some(interval) = &launch.sync_interval
            && interval != "always"
            && interval.parse::<Span>().is_err()
        {
            return Err(format!(
                "option `sync-interval`: {interval:?} is neither \"always\" nor a duration such as \"2m\""
            ));
        }
        Ok(launch)
    }

    /// The options that are written and have no meaning for a server that is already running.
    pub fn written(options: &Options) -> Vec<String> {
        crate::scenario::options::keys::<Self>().into_iter().filter(|key| options.contains_key(key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn launch(value: serde_json::Value) -> Result<Launch, String> {
        Launch::from_options(value.as_object().unwrap())
    }

    #[test]
    fn options_are_read_and_those_of_the_client_left_alone() {
        let read =
            launch(json!({ "nodes": 3, "sync-interval": "always", "tls": "mutual", "storage": "file" })).unwrap();
        assert_eq!((read.nodes, read.tls), (3, Tls::Mutual));
        assert_eq!(launch(json!({})).unwrap(), Launch::default());
        assert_eq!(Launch::written(json!({ "user": "me", "tls": "none" }).as_object().unwrap()), ["tls"]);
    }

    #[test]
    fn mistakes_name_the_option_and_what_is_allowed() {
        for (value, words) in [
            (json!({ "nodes": 9 }), "option `nodes`: 9 is not between 1 and 7"),
            (
                json!({ "tls": "both" }),
                "option `tls`: unknown variant `both`, expected one of `none`, `server`, `mutual`",
            ),
            (
                json!({ "sync-interval": "often" }),
                "option `sync-interval`: \"often\" is neither \"always\" nor a duration such as \"2m\"",
            ),
        ] {
            assert_eq!(launch(value).unwrap_err(), words);
        }
    }
}
