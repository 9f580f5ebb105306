//! The configuration file of one nats-server.

use std::fmt::Write;

use super::layout::{NodeRole, ServerNode};
use super::options::{LaunchAuth, LaunchOptions};
use super::secrets::NatsCredentials;

/// The domain of JetStream that clusters have, where there are leaf nodes.
pub const HUB_DOMAIN: &str = "hub";

/// The configuration of `node` among `all`. `secrets` are made for the trial.
pub fn render(
    node: &ServerNode,
    all: &[ServerNode],
    launch: &LaunchOptions,
    jetstream: bool,
    secrets: &NatsCredentials,
) -> String {
    let mut text = format!(
        "server_name: \"{}\"\nlisten: \"{}:{}\"\nhttp: \"{}\"\n",
        node.name,
        node.host,
        node.port,
        node.monitor_address()
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
            ("domain", domain(node, launch)),
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
    text += &match node.role {
        NodeRole::Member(cluster) => member(node, cluster, all, launch, secrets),
        NodeRole::Leaf(hub) => leaf(&all[hub], secrets),
    };
    text += &secrets.config;
    for raw in &launch.config {
        text += raw;
        text.push('\n');
    }
    text
}

/// The domain of JetStream of a server: where there are leaf nodes each has streams of its own, and
/// so has their hub.
pub fn domain(node: &ServerNode, launch: &LaunchOptions) -> Option<String> {
    let name = if node.is_member() { HUB_DOMAIN } else { &node.place };
    (launch.leaf_nodes > 0).then(|| name.to_owned())
}

/// How a member of a cluster is joined to the others, to the other clusters, and to leaf nodes.
fn member(
    node: &ServerNode,
    cluster: u32,
    all: &[ServerNode],
    launch: &LaunchOptions,
    secrets: &NatsCredentials,
) -> String {
    let name = |cluster: u32| if launch.clusters == 1 { "msgbench".into() } else { format!("cluster-{cluster}") };
    let of = |cluster: u32| all.iter().filter(move |n| n.role == NodeRole::Member(cluster));
    // Servers tell each other where they are reached: what they learn so must have the delay, too.
    let host = node.host;
    let advertised = |port: u16| format!("  advertise: \"{host}:{port}\"\n");
    let mut text = String::new();
    if launch.nodes > 1 || launch.clusters > 1 {
        // JetStream wants a route where there is a cluster; one to itself is dropped by the server.
        let others = of(cluster).filter(|n| n.place != node.place || launch.nodes == 1);
        let routes: Vec<String> = others.map(|n| format!("\"nats://{}:{}\"", n.host, n.route.reached)).collect();
        let _ = writeln!(
            text,
            "cluster {{\n  name: \"{}\"\n  listen: \"{host}:{}\"\n{}  routes: [{}]\n}}",
            name(cluster),
            node.route.own,
            advertised(node.route.reached),
            routes.join(", ")
        );
    }
    if launch.clusters > 1 {
        let _ = writeln!(
            text,
            "gateway {{\n  name: \"{}\"\n  listen: \"{host}:{}\"\n{}  gateways: [",
            name(cluster),
            node.gateway.own,
            advertised(node.gateway.reached)
        );
        let place_in = |cluster: u32| of(cluster).position(|n| n.place == node.place);
        for other in (1..=launch.clusters).filter(|other| *other != cluster) {
            // Any address will do: servers learn the others' and choose.
            let (at, partner) =
                of(other).nth(place_in(cluster).unwrap_or(0)).map_or((host, 0), |n| (n.host, n.gateway.reached));
            let _ = writeln!(text, "    {{ name: \"{}\", url: \"nats://{at}:{partner}\" }}", name(other));
        }
        text += "  ]\n}\n";
    }
    if launch.leaf_nodes > 0 && launch.clusters > 1 && launch.auth != LaunchAuth::Creds {
        // The server wants it named; with operators it is.
        text += "accounts { SYS {} }\nsystem_account: SYS\n";
    }
    if launch.leaf_nodes > 0 {
        let _ = writeln!(
            text,
            "leafnodes {{\n  listen: \"{host}:{}\"\n{}  no_advertise: true\n{}}}",
            node.leaf.own,
            advertised(node.leaf.reached),
            secrets.leaf_listen
        );
    }
    text
}

/// How a leaf node is connected to its hub, and to no other.
fn leaf(hub: &ServerNode, secrets: &NatsCredentials) -> String {
    let NatsCredentials { leaf_user, leaf_remote, .. } = secrets;
    let url = format!("nats-leaf://{leaf_user}{}:{}", hub.host, hub.leaf.reached);
    format!("leafnodes {{\n  remotes: [ {{ url: \"{url}\"{leaf_remote} }} ]\n}}\n")
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
    use std::net::Ipv4Addr;
    use std::path::PathBuf;

    use super::super::layout::ServerPort;
    use super::*;
    use crate::units::Bytes;

    fn port(own: u16) -> ServerPort {
        ServerPort { own, reached: own }
    }

    fn member_of(cluster: u32, n: u16) -> ServerNode {
        ServerNode {
            name: format!("n{n}"),
            place: format!("node-{n}"),
            role: NodeRole::Member(cluster),
            host: Ipv4Addr::LOCALHOST,
            port: 4000 + n,
            monitor: 5000 + n,
            route: port(6000 + n),
            gateway: port(7000 + n),
            leaf: port(8000 + n),
            dir: PathBuf::from(format!("/t/{n}")),
        }
    }

    fn node(n: u16) -> ServerNode {
        member_of(1, n)
    }

    fn config(text: &str) -> NatsCredentials {
        NatsCredentials { config: text.into(), ..NatsCredentials::default() }
    }

    #[test]
    fn a_plain_server_has_three_lines() {
        let text = render(&node(1), &[node(1)], &LaunchOptions::default(), false, &config(""));
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
        let text = render(&node(2), &[node(1), node(2)], &launch, true, &config("authorization { token: \"t\" }\n"));
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
          advertise: "127.0.0.1:6002"
          routes: ["nats://127.0.0.1:6001"]
        }
        authorization { token: "t" }
        write_deadline: "3s"
        "#);
        let always = LaunchOptions { sync_interval: Some("always".into()), ..LaunchOptions::default() };
        assert!(render(&node(1), &[node(1)], &always, true, &config("")).contains("sync_interval: always\n"));
    }
    #[test]
    fn a_super_cluster_with_a_leaf_node() {
        let mut all = vec![member_of(1, 1), member_of(1, 2), member_of(2, 3), member_of(2, 4)];
        all[3].gateway.reached = 9004;
        all[1].leaf.reached = 9002;
        let leaf = ServerNode { role: NodeRole::Leaf(1), place: "leaf-1".into(), ..node(5) };
        all.push(leaf);
        let launch = LaunchOptions { nodes: 2, clusters: 2, leaf_nodes: 1, ..LaunchOptions::default() };
        let secrets = NatsCredentials {
            leaf_listen: "  authorization { user: \"leaf\", password: \"pw\" }\n".into(),
            leaf_user: "leaf:pw@".into(),
            ..NatsCredentials::default()
        };
        insta::assert_snapshot!(render(&all[1], &all, &launch, true, &secrets), @r#"
        server_name: "n2"
        listen: "127.0.0.1:4002"
        http: "127.0.0.1:5002"
        jetstream {
          store_dir: "/t/2/store"
          domain: hub
        }
        cluster {
          name: "cluster-1"
          listen: "127.0.0.1:6002"
          advertise: "127.0.0.1:6002"
          routes: ["nats://127.0.0.1:6001"]
        }
        gateway {
          name: "cluster-1"
          listen: "127.0.0.1:7002"
          advertise: "127.0.0.1:7002"
          gateways: [
            { name: "cluster-2", url: "nats://127.0.0.1:9004" }
          ]
        }
        accounts { SYS {} }
        system_account: SYS
        leafnodes {
          listen: "127.0.0.1:8002"
          advertise: "127.0.0.1:9002"
          no_advertise: true
          authorization { user: "leaf", password: "pw" }
        }
        "#);
        insta::assert_snapshot!(render(&all[4], &all, &launch, true, &secrets), @r#"
        server_name: "n5"
        listen: "127.0.0.1:4005"
        http: "127.0.0.1:5005"
        jetstream {
          store_dir: "/t/5/store"
          domain: leaf-1
        }
        leafnodes {
          remotes: [ { url: "nats-leaf://leaf:pw@127.0.0.1:9002" } ]
        }
        "#);
    }
}
