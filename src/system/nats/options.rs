//! What a scenario may ask of a nats-server that msgbench launches.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::plan::options::{SystemOptions, read};
use crate::units::{Bytes, Span};

/// Servers of one system; more on one machine measure its scheduler.
const MAX_SERVERS: u32 = 9;

/// Longest delay of a link: servers give each other seconds to say who they are.
const MAX_LINK: Span = Span::millis(500);

/// The options of a launched nats-server, all under these names in `system.options`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LaunchOptions {
    /// Servers; more than 1 make a cluster on this host. Default: 1.
    pub nodes: u32,
    /// Clusters of `nodes` servers each, joined by gateways to a super-cluster. Default: 1.
    pub clusters: u32,
    /// Leaf nodes: servers of their own, each connected to one server of a cluster as its hub, in
    /// turn. With JetStream each has a domain of its own, "leaf-1"..., beside that of its hub,
    /// "hub". Default: 0.
    pub leaf_nodes: u32,
    /// Delay of every link between servers, each way: "20ms". Default: none.
    pub link: Option<Span>,
    /// Delay of the links within a cluster. Default: that of `link`.
    pub cluster_link: Option<Span>,
    /// Delay of the links between clusters. Default: that of `link`.
    pub gateway_link: Option<Span>,
    /// Delay of the links of leaf nodes. Default: that of `link`.
    pub leaf_link: Option<Span>,
    /// Whether JetStream is on. Default: for the `jetstream` driver.
    pub jetstream: Option<bool>,
    /// How long an acknowledged message may stay unsynced: "2m", or "always". Default: the
    /// server's. From 2.10 on.
    #[schemars(extend("secret" = "none"))]
    pub sync_interval: Option<String>,
    /// Most that all streams may keep in memory. Default: the server's, three quarters of the
    /// host's.
    pub max_memory: Option<Bytes>,
    /// Most that all streams may keep in files. Default: the server's, three quarters of the free
    /// space.
    pub max_file: Option<Bytes>,
    /// Largest message. Default: the server's, 1 MiB.
    pub max_payload: Option<Bytes>,
    /// Bytes that the server holds for one slow connection before it closes it. Default: the
    /// server's, 64 MiB.
    pub max_pending: Option<Bytes>,
    /// How clients prove who they are; msgbench makes the secrets and gives them to its client.
    /// Default: "none".
    pub auth: LaunchAuth,
    /// Whether the clients of a trial may use their own subjects alone, with `auth` by password,
    /// nkey or creds. Default: false.
    pub permissions: bool,
    /// Whether connections are encrypted, with certificates made for the trial. Default: "none".
    pub tls: LaunchTls,
    /// Lines for the server's configuration file, as they are.
    #[schemars(extend("secret" = "text"))]
    pub config: Vec<String>,
}

impl Default for LaunchOptions {
    fn default() -> Self {
        Self {
            nodes: 1,
            clusters: 1,
            leaf_nodes: 0,
            link: None,
            cluster_link: None,
            gateway_link: None,
            leaf_link: None,
            jetstream: None,
            sync_interval: None,
            max_memory: None,
            max_file: None,
            max_payload: None,
            max_pending: None,
            auth: LaunchAuth::None,
            permissions: false,
            tls: LaunchTls::None,
            config: Vec::new(),
        }
    }
}

/// How clients prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LaunchAuth {
    /// Anybody may connect.
    None,
    /// By user and password.
    Password,
    Token,
    /// By signing a nonce with an Ed25519 key (NKey).
    Nkey,
    /// By a token signed by an account that is signed by an operator (JWT), and its key: a `.creds`
    /// file.
    Creds,
}

/// Whether connections are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LaunchTls {
    /// They are not.
    None,
    /// They are; the client verifies the server.
    Server,
    /// They are; each verifies the other.
    Mutual,
}

impl LaunchOptions {
    /// Reads and checks the options. Those of the client are left alone.
    ///
    /// # Errors
    /// The option that does not fit, and what is allowed.
    pub fn from_options(options: &SystemOptions) -> Result<Self, String> {
        let launch: Self = read(options)?;
        launch.check_topology()?;
        if launch.permissions && matches!(launch.auth, LaunchAuth::None | LaunchAuth::Token) {
            return Err("option `permissions`: it needs users; set `auth` to password, nkey or creds".into());
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

    /// The longest delay of a link.
    pub fn longest_link(&self) -> Duration {
        let all = [self.link, self.cluster_link, self.gateway_link, self.leaf_link];
        all.into_iter().flatten().max().unwrap_or_default().duration()
    }

    fn check_topology(&self) -> Result<(), String> {
        for (name, count, least) in
            [("nodes", self.nodes, 1), ("clusters", self.clusters, 1), ("leaf-nodes", self.leaf_nodes, 0)]
        {
            if !(least..=MAX_SERVERS).contains(&count) {
                return Err(format!("option `{name}`: {count} is not between {least} and {MAX_SERVERS}"));
            }
        }
        let servers = self.clusters * self.nodes + self.leaf_nodes;
        if servers > MAX_SERVERS {
            let option = if self.leaf_nodes > 0 { "leaf-nodes" } else { "clusters" };
            return Err(format!("option `{option}`: {servers} servers in all are more than {MAX_SERVERS}"));
        }
        let (several, joined, leaves) = (self.nodes > 1, self.clusters > 1, self.leaf_nodes > 0);
        for (name, link, there, lacks) in [
            ("link", self.link, several || joined || leaves, "set `nodes`, `clusters` or `leaf-nodes`"),
            ("cluster-link", self.cluster_link, several, "set `nodes` to 2 or more"),
            ("gateway-link", self.gateway_link, joined, "set `clusters` to 2 or more"),
            ("leaf-link", self.leaf_link, leaves, "set `leaf-nodes`"),
        ] {
            match link {
                Some(_) if !there => return Err(format!("option `{name}`: there are no such links; {lacks}")),
                Some(delay) if delay > MAX_LINK => {
                    return Err(format!("option `{name}`: {delay} is longer than {MAX_LINK}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The options that are written and have no meaning for a server that is already running.
    pub fn written(options: &SystemOptions) -> Vec<String> {
        crate::plan::options::keys::<Self>().into_iter().filter(|key| options.contains_key(key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn launch(value: serde_json::Value) -> Result<LaunchOptions, String> {
        LaunchOptions::from_options(value.as_object().unwrap())
    }

    #[test]
    fn options_are_read_and_those_of_the_client_left_alone() {
        let read =
            launch(json!({ "nodes": 3, "sync-interval": "always", "tls": "mutual", "storage": "file" })).unwrap();
        assert_eq!((read.nodes, read.tls), (3, LaunchTls::Mutual));
        assert_eq!(launch(json!({})).unwrap(), LaunchOptions::default());
        assert_eq!(LaunchOptions::written(json!({ "user": "me", "tls": "none" }).as_object().unwrap()), ["tls"]);
    }

    #[test]
    fn mistakes_name_the_option_and_what_is_allowed() {
        for (value, words) in [
            (
                json!({ "permissions": true, "auth": "token" }),
                "option `permissions`: it needs users; set `auth` to password, nkey or creds",
            ),
            (json!({ "nodes": 10 }), "option `nodes`: 10 is not between 1 and 9"),
            (json!({ "nodes": 0 }), "option `nodes`: 0 is not between 1 and 9"),
            (json!({ "nodes": 5, "clusters": 2 }), "option `clusters`: 10 servers in all are more than 9"),
            (json!({ "nodes": 8, "leaf-nodes": 2 }), "option `leaf-nodes`: 10 servers in all are more than 9"),
            (
                json!({ "link": "20ms" }),
                "option `link`: there are no such links; set `nodes`, `clusters` or `leaf-nodes`",
            ),
            (
                json!({ "nodes": 2, "leaf-link": "20ms" }),
                "option `leaf-link`: there are no such links; set `leaf-nodes`",
            ),
            (json!({ "nodes": 2, "link": "2s" }), "option `link`: 2s is longer than 500ms"),
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
