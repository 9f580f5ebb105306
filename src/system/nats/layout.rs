//! Which servers a launched system has, what each is, and how they are joined.
//!
//! Clusters of servers that all know each other (routes), joined by gateways where there are
//! several; leaf nodes, each connected to one server as its hub. Servers of the first cluster are
//! called `node-1`, `node-2`..., those of the others `cluster-2-node-1`..., leaf nodes `leaf-1`...:
//! the same names whatever the topology, so that a scenario can be put to several.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::options::LaunchOptions;
use crate::plan::options::SystemOptions;
use crate::system::delay::{DelayLines, DelayedPort};
use crate::system::process::Held;
use crate::units::{Span, plural};

/// Ports of one server.
const PORTS: usize = 5;

/// What a server is to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeRole {
    /// A member of this cluster, counted from 1.
    Member(u32),
    /// A leaf node of the server of this index.
    Leaf(usize),
}

/// A port of a server, and the one that other servers reach it by: the same, or one with a delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerPort {
    pub own: u16,
    pub reached: u16,
}

impl ServerPort {
    fn plain(port: u16) -> Self {
        Self { own: port, reached: port }
    }
}

/// One server of a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerNode {
    /// The name it is told, and must say back.
    pub name: String,
    /// What scenarios call it.
    pub place: String,
    pub role: NodeRole,
    /// Where it listens.
    pub host: Ipv4Addr,
    /// Where clients connect.
    pub port: u16,
    /// Where it tells of itself.
    pub monitor: u16,
    /// Where the other servers of its cluster connect.
    pub route: ServerPort,
    /// Where the servers of other clusters connect.
    pub gateway: ServerPort,
    /// Where leaf nodes connect.
    pub leaf: ServerPort,
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
    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("nats://{}:{}", self.host, self.port)
    }
    /// Where it tells of itself.
    pub fn monitor_address(&self) -> String {
        format!("{}:{}", self.host, self.monitor)
    }
    /// Whether it is a member of a cluster, and no leaf node.
    pub fn is_member(&self) -> bool {
        matches!(self.role, NodeRole::Member(_))
    }
}

/// The names of all servers with these options, and what each is, in the order of their processes.
pub fn places(launch: &LaunchOptions) -> Vec<(String, NodeRole)> {
    let mut all = Vec::new();
    for cluster in 1..=launch.clusters {
        for node in 1..=launch.nodes {
            let name = if cluster == 1 { format!("node-{node}") } else { format!("cluster-{cluster}-node-{node}") };
            all.push((name, NodeRole::Member(cluster)));
        }
    }
    for leaf in 0..launch.leaf_nodes {
        // In turn over the clusters, then over their servers.
        let (cluster, node) = (leaf % launch.clusters, leaf / launch.clusters % launch.nodes);
        let hub = (cluster * launch.nodes + node) as usize;
        all.push((format!("leaf-{}", leaf + 1), NodeRole::Leaf(hub)));
    }
    all
}

/// The names of all servers of a launched system with these options; none where they do not fit.
pub fn place_names(options: &SystemOptions) -> Vec<String> {
    let launch = LaunchOptions::from_options(options).map(|launch| places(&launch)).unwrap_or_default();
    launch.into_iter().map(|(name, _)| name).collect()
}

/// Lays the servers out on ports that are held until the first of them is to start, and opens the
/// links that have a delay.
///
/// # Errors
/// When the kernel has no port, socket or thread.
pub fn lay_out(launch: &LaunchOptions, dir: &Path) -> io::Result<(Vec<ServerNode>, Held, Option<DelayLines>)> {
    let places = places(launch);
    let held = Held::new(PORTS * places.len())?;
    let ports = held.ports()?;
    let only = places.len() == 1;
    let node = |((place, role), ports): ((String, NodeRole), &[u16])| ServerNode {
        name: format!("msgbench-{}-{}", std::process::id(), ports[0]),
        dir: if only { dir.to_path_buf() } else { dir.join(&place) },
        place,
        role,
        host: Ipv4Addr::LOCALHOST,
        port: ports[0],
        monitor: ports[1],
        route: ServerPort::plain(ports[2]),
        gateway: ServerPort::plain(ports[3]),
        leaf: ServerPort::plain(ports[4]),
    };
    let mut nodes: Vec<ServerNode> = places.into_iter().zip(ports.chunks_exact(PORTS)).map(node).collect();
    let mut slow: Vec<(&mut ServerPort, Span)> = Vec::new();
    for node in nodes.iter_mut().filter(|n| n.is_member()) {
        let links = [
            (&mut node.route, launch.nodes > 1, launch.cluster_link),
            (&mut node.gateway, launch.clusters > 1, launch.gateway_link),
            (&mut node.leaf, launch.leaf_nodes > 0, launch.leaf_link),
        ];
        for (port, there, own) in links {
            slow.extend(own.or(launch.link).filter(|delay| there && delay.0 > 0).map(|delay| (port, delay)));
        }
    }
    if slow.is_empty() {
        return Ok((nodes, held, None));
    }
    let ports: Vec<DelayedPort> =
        slow.iter().map(|(port, delay)| DelayedPort { to: port.own, delay: *delay }).collect();
    let (lines, opened) = DelayLines::start(&ports)?;
    for ((port, _), reached) in slow.into_iter().zip(opened) {
        port.reached = reached;
    }
    Ok((nodes, held, Some(lines)))
}

/// The topology and the delays of its links, by name, where there is more than one server.
pub fn settings(launch: &LaunchOptions) -> Vec<(&'static str, String)> {
    let (clusters, nodes, leaves) = (launch.clusters, launch.nodes, launch.leaf_nodes);
    if clusters * nodes + leaves == 1 {
        return Vec::new();
    }
    let members = match clusters {
        1 => plural(nodes.into(), "server"),
        _ => format!("{clusters} clusters of {} over gateways", plural(nodes.into(), "server")),
    };
    let leaves_too = if leaves > 0 { format!(", {}", plural(leaves.into(), "leaf node")) } else { String::new() };
    let links = [
        ("cluster", nodes > 1, launch.cluster_link),
        ("gateway", clusters > 1, launch.gateway_link),
        ("leaf", leaves > 0, launch.leaf_link),
    ];
    let delays: Vec<String> = links
        .into_iter()
        .filter(|(_, there, _)| *there)
        .map(|(name, _, own)| match own.or(launch.link).filter(|delay| delay.0 > 0) {
            Some(delay) => format!("{name} {delay} later each way"),
            None => format!("{name} without delay"),
        })
        .collect();
    vec![("topology", members + &leaves_too), ("links", delays.join(", "))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn named(options: serde_json::Value) -> String {
        place_names(options.as_object().unwrap()).join(" ")
    }

    #[test]
    fn servers_keep_their_names_whatever_the_topology() {
        assert_eq!(named(json!({})), "node-1");
        assert_eq!(named(json!({ "nodes": 2, "leaf-nodes": 2 })), "node-1 node-2 leaf-1 leaf-2");
        assert_eq!(
            named(json!({ "nodes": 2, "clusters": 2, "leaf-nodes": 1 })),
            "node-1 node-2 cluster-2-node-1 cluster-2-node-2 leaf-1"
        );
        assert_eq!(named(json!({ "nodes": 0 })), "");
    }

    #[test]
    fn leaf_nodes_are_dealt_over_clusters_and_their_servers() {
        let launch = LaunchOptions { nodes: 2, clusters: 2, leaf_nodes: 5, ..LaunchOptions::default() };
        let hubs: Vec<usize> = places(&launch)
            .into_iter()
            .filter_map(|(_, role)| if let NodeRole::Leaf(hub) = role { Some(hub) } else { None })
            .collect();
        assert_eq!(hubs, [0, 2, 1, 3, 0]);
    }

    #[test]
    fn only_links_that_are_there_have_a_delay_and_their_own_goes_before_that_of_all() {
        let dir = Path::new("/t");
        let launch = LaunchOptions {
            nodes: 2,
            leaf_nodes: 1,
            link: Some(Span::millis(20)),
            cluster_link: Some(Span(0)),
            ..LaunchOptions::default()
        };
        let (nodes, _held, lines) = lay_out(&launch, dir).unwrap();
        assert!(lines.is_some());
        for node in &nodes[..2] {
            assert_eq!(node.route.own, node.route.reached);
            assert_eq!(node.gateway.own, node.gateway.reached);
            assert_ne!(node.leaf.own, node.leaf.reached);
        }
        assert_eq!(nodes[2].leaf.own, nodes[2].leaf.reached);
        assert_eq!(
            settings(&launch),
            [
                ("topology", "2 servers, 1 leaf node".to_owned()),
                ("links", "cluster without delay, leaf 20ms later each way".to_owned())
            ]
        );
        assert!(settings(&LaunchOptions::default()).is_empty());
    }
}
