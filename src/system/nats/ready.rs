//! Whether the servers of a system know each other.

use std::time::Duration;

use serde_json::{Map, Value};

use super::layout::{NodeRole, ServerNode};
use super::monitor;
use super::options::LaunchOptions;

/// A follower that its leader heard of within so long is there; it hears from each about once a
/// second.
const HEARD: Duration = Duration::from_secs(2);

/// Whether routes, gateways and leaf nodes are connected, and JetStream has a leader that all
/// members follow.
///
/// # Errors
/// What is still missing, or a server that does not tell within `timeout`.
pub fn agreed(nodes: &[ServerNode], launch: &LaunchOptions, jetstream: bool, timeout: Duration) -> Result<(), String> {
    if nodes.len() == 1 {
        return Ok(());
    }
    let ask = |node: &ServerNode, path: &str| {
        monitor::ask(&node.monitor_address(), path, timeout).map_err(|error| error.to_string())
    };
    for node in nodes {
        match node.role {
            NodeRole::Member(_) => joined(node, launch, &ask)?,
            NodeRole::Leaf(hub) => {
                // It counts from both sides: the hub must know where to send.
                let leaves = nodes.iter().filter(|n| n.role == NodeRole::Leaf(hub)).count();
                for (server, wanted) in [(node, 1), (&nodes[hub], leaves)] {
                    let connected = ask(server, "/leafz")?["leafnodes"].as_u64().unwrap_or(0);
                    if connected != wanted as u64 {
                        return Err(format!("{} has {connected} of {wanted} connections of leaf nodes", server.place));
                    }
                }
            }
        }
    }
    for cluster in 1..=launch.clusters {
        reached(nodes, cluster, launch, &ask)?;
    }
    if jetstream { led(nodes, &ask) } else { Ok(()) }
}

/// Whether a member of a cluster is connected to its others, and to every other cluster.
fn joined(
    node: &ServerNode,
    launch: &LaunchOptions,
    ask: &impl Fn(&ServerNode, &str) -> Result<Value, String>,
) -> Result<(), String> {
    let others = launch.nodes as usize - 1;
    if others > 0 {
        let routes = ask(node, "/routez")?;
        let remotes = routes["routes"].as_array().map_or(&[][..], Vec::as_slice);
        let mut known: Vec<&str> = remotes.iter().filter_map(|r| r["remote_id"].as_str()).collect();
        known.sort_unstable();
        known.dedup();
        if known.len() != others {
            return Err(format!("{} is connected to {} of {others} other servers", node.place, known.len()));
        }
    }
    let clusters = launch.clusters as usize - 1;
    if clusters > 0 {
        let gateways = ask(node, "/gatewayz")?;
        let out = gateways["outbound_gateways"].as_object().map_or(0, Map::len);
        if out != clusters {
            return Err(format!("{} is connected to {out} of {clusters} other clusters", node.place));
        }
    }
    Ok(())
}

/// Whether every server of the other clusters has its connection to this one. To which of its
/// servers, they choose themselves.
fn reached(
    nodes: &[ServerNode],
    cluster: u32,
    launch: &LaunchOptions,
    ask: &impl Fn(&ServerNode, &str) -> Result<Value, String>,
) -> Result<(), String> {
    let wanted = (launch.clusters - 1) * launch.nodes;
    if wanted == 0 {
        return Ok(());
    }
    let mut connected = 0;
    for node in nodes.iter().filter(|n| n.role == NodeRole::Member(cluster)) {
        let gateways = ask(node, "/gatewayz")?;
        let inbound = gateways["inbound_gateways"].as_object();
        connected += inbound.into_iter().flat_map(Map::values).filter_map(Value::as_array).map(Vec::len).sum::<usize>();
    }
    if connected != wanted as usize {
        return Err(format!("cluster {cluster} is reached by {connected} of {wanted} servers of other clusters"));
    }
    Ok(())
}

fn led(nodes: &[ServerNode], ask: &impl Fn(&ServerNode, &str) -> Result<Value, String>) -> Result<(), String> {
    let members: Vec<&ServerNode> = nodes.iter().filter(|n| n.is_member()).collect();
    let others = members.len() - 1;
    if others == 0 {
        return Ok(());
    }
    let leader = ask(members[0], "/jsz")?["meta_cluster"]["leader"].as_str().unwrap_or_default().to_owned();
    let Some(node) = members.iter().find(|node| node.name == leader) else {
        return Err("JetStream has no leader".to_owned());
    };
    let meta = ask(node, "/jsz")?;
    let replicas = meta["meta_cluster"]["replicas"].as_array().map_or(&[][..], Vec::as_slice);
    // A follower may lag until the next change of the metadata comes: what counts is that the
    // leader hears it.
    let heard = |r: &&Value| {
        let recently = r["active"].as_u64().is_some_and(|ns| Duration::from_nanos(ns) < HEARD);
        r["offline"] != true && (r["current"] == true || recently) && members.iter().any(|n| r["name"] == n.name)
    };
    let followers = replicas.iter().filter(heard).count();
    if followers != others {
        return Err(format!("the leader of JetStream is followed by {followers} of {others} servers"));
    }
    Ok(())
}
