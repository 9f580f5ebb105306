//! The configuration file of one nats-server.

use std::fmt::Write;
use std::path::PathBuf;

use super::options::LaunchOptions;

/// One server of a cluster, or the only one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerNode {
    /// The name it is told, and must say back.
    pub name: String,
    /// Where clients connect.
    pub port: u16,
    /// Where it tells of itself.
    pub monitor: u16,
    /// Where the other servers of the cluster connect.
    pub route: u16,
    /// A folder of its own.
    pub dir: PathBuf,
}

impl ServerNode {
    pub fn log(&self) -> PathBuf {
        self.dir.join("nats-server.log")
    }
    /// Where it keeps streams.
    pub fn store(&self) -> PathBuf {
        self.dir.join("store")
    }
    /// Its configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.join("nats-server.conf")
    }
}

/// The configuration of `node` among `all`. `secrets` are blocks made for the trial.
pub fn render(node: &ServerNode, all: &[ServerNode], launch: &LaunchOptions, jetstream: bool, secrets: &str) -> String {
    let mut text = format!(
        "server_name: \"{}\"\nlisten: \"127.0.0.1:{}\"\nhttp: \"127.0.0.1:{}\"\n",
        node.name, node.port, node.monitor
    );
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}: {value}");
        }
    };
    line("max_payload", launch.max_payload.map(|b| b.0.to_string()));
    line("max_pending", launch.max_pending.map(|b| b.0.to_string()));
    if jetstream {
        let store = node.store();
        let mut block = format!("jetstream {{\n  store_dir: \"{}\"\n", store.display());
        for (name, value) in [
            ("max_memory_store", launch.max_memory.map(|b| b.0.to_string())),
            ("max_file_store", launch.max_file.map(|b| b.0.to_string())),
            ("sync_interval", launch.sync_interval.as_deref().map(seconds)),
        ] {
            if let Some(value) = value {
                let _ = writeln!(block, "  {name}: {value}");
            }
        }
        text += &block;
        text += "}\n";
    }
    if all.len() > 1 {
        let routes: Vec<String> = all.iter().map(|n| format!("\"nats://127.0.0.1:{}\"", n.route)).collect();
        let _ = writeln!(
            text,
            "cluster {{\n  name: \"msgbench\"\n  listen: \"127.0.0.1:{}\"\n  routes: [{}]\n}}",
            node.route,
            routes.join(", ")
        );
    }
    text += secrets;
    for raw in &launch.config {
        text += raw;
        text.push('\n');
    }
    text
}

/// A checked `sync-interval` in the server's own units, which know no `us`.
fn seconds(interval: &str) -> String {
    match interval.parse::<crate::units::Span>() {
        Ok(span) => format!("\"{}ms\"", (span.0 / 1_000_000).max(1)),
        Err(_) => interval.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;

    fn node(n: u16) -> ServerNode {
        ServerNode {
            name: format!("n{n}"),
            port: 4000 + n,
            monitor: 5000 + n,
            route: 6000 + n,
            dir: PathBuf::from(format!("/t/{n}")),
        }
    }

    #[test]
    fn a_plain_server_has_three_lines() {
        let text = render(&node(1), &[node(1)], &LaunchOptions::default(), false, "");
        insta::assert_snapshot!(text, @r#"
        server_name: "n1"
        listen: "127.0.0.1:4001"
        http: "127.0.0.1:5001"
        "#);
    }

    #[test]
    fn everything_at_once() {
        let launch = LaunchOptions {
            nodes: 2,
            sync_interval: Some("1.5s".into()),
            max_memory: Some(Bytes(64)),
            max_payload: Some(Bytes(4096)),
            config: vec!["write_deadline: \"3s\"".into()],
            ..LaunchOptions::default()
        };
        let text = render(&node(2), &[node(1), node(2)], &launch, true, "authorization { token: \"t\" }\n");
        insta::assert_snapshot!(text, @r#"
        server_name: "n2"
        listen: "127.0.0.1:4002"
        http: "127.0.0.1:5002"
        max_payload: 4096
        jetstream {
          store_dir: "/t/2/store"
          max_memory_store: 64
          sync_interval: "1500ms"
        }
        cluster {
          name: "msgbench"
          listen: "127.0.0.1:6002"
          routes: ["nats://127.0.0.1:6001", "nats://127.0.0.1:6002"]
        }
        authorization { token: "t" }
        write_deadline: "3s"
        "#);
        let always = LaunchOptions { sync_interval: Some("always".into()), ..LaunchOptions::default() };
        assert!(render(&node(1), &[node(1)], &always, true, "").contains("sync_interval: always\n"));
    }
}
