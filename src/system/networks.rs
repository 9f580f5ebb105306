//! A network of its own for each node of a launched cluster, so that one node can be cut off from
//! the others and from the clients, or be far away from them.
//!
//! # Design
//! Each node has a network namespace (network_namespaces(7)) with one end of a pair of virtual
//! Ethernet devices (veth(4)); the other ends are ports of a bridge in the namespace of the run,
//! which has an address there, too. A node is cut off by disabling its port (bridge(8), `state`):
//! links stay up, and frames are dropped without a word, as behind a switch that has died.
//! Addresses of the Ethernet are fixed beforehand: who asks for one would be told that there is no
//! such host. A node is shaped by a queueing discipline (tc(8)) on both ends of its pair: one for
//! what goes to it, one for what comes from it.
//!
//! Namespaces live as long as a descriptor or a process holds them. They are made for each trial
//! and go with it. The run must be in a network namespace of its own already, so that no name or
//! address is anybody else's.
//! # Rejected
//! Taking a link down: the kernel then tells both sides at once. Firewall rules: `nft` and its
//! modules are on few machines.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

/// The bridge, and what its ports begin with.
const BRIDGE: &str = "mb-bridge";
const PORT: &str = "mb-node-";
/// The device of a node.
const DEVICE: &str = "eth0";
/// Where the programs of iproute2 are looked for.
const PATHS: [&str; 3] = ["", "/usr/sbin/", "/sbin/"];
/// States of a port of a bridge.
const DISABLED: &str = "0";
const FORWARDING: &str = "3";

/// What the network of one node is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeLink<'a> {
    /// As it was made.
    Whole,
    /// Nothing goes to it or comes from it.
    Cut,
    /// Delayed, lossy or slow, in the words of tc(8), either way.
    Shaped(&'a str),
}

/// The networks of the nodes of one trial.
#[derive(Debug)]
pub struct NodeNetworks {
    /// Keeps the namespaces, by node.
    namespaces: Vec<File>,
}

impl NodeNetworks {
    /// What a record says of them.
    pub const WORDS: &str = "each node in a namespace of its own, joined by a bridge";

    /// Makes one for each of so many nodes, joined by a bridge.
    ///
    /// # Errors
    /// In words: what the kernel does not allow, or has not.
    pub fn make(nodes: usize) -> Result<Self, String> {
        // Of a trial before, should it have left something.
        clear(nodes);
        ip(&format!(
            "link add {BRIDGE} address {} type bridge stp_state 0 forward_delay 0\naddr add {}/24 dev {BRIDGE}\nlink set {BRIDGE} up\n",
            ethernet(None),
            address(None)
        ))
        .map_err(|e| format!("no bridge: {e}"))?;
        let mut it = Self { namespaces: Vec::new() };
        for node in 0..nodes {
            let namespace = attach(node, nodes).map_err(|e| format!("no network of its own for node {node}: {e}"))?;
            it.namespaces.push(namespace);
        }
        Ok(it)
    }

    /// The address of a node.
    pub fn address(node: usize) -> Ipv4Addr {
        address(Some(node))
    }

    /// What a certificate for so many nodes is made out to, where they have networks of their own
    /// and where they have not.
    pub fn server_names(nodes: Option<usize>) -> Vec<String> {
        let own = (0..nodes.unwrap_or(0)).map(|node| Self::address(node).to_string());
        ["localhost", "127.0.0.1"].map(str::to_owned).into_iter().chain(own).collect()
    }

    /// Lets what is started by `command` be in the network of a node.
    pub fn put_on(&self, node: usize, command: &mut Command) {
        let Some(namespace) = self.namespaces.get(node) else { return };
        let descriptor = namespace.as_raw_fd();
        // SAFETY: between fork and exec the closure makes only the system call setns, which is
        // async-signal-safe; the descriptor is open until `self` is dropped, and the command is
        // started before that.
        unsafe {
            command.pre_exec(move || match libc::setns(descriptor, libc::CLONE_NEWNET) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
    }

    /// Makes the network of a node so.
    ///
    /// # Errors
    /// In the words of `bridge` or `tc`.
    pub fn set(&self, node: usize, link: NodeLink<'_>) -> Result<(), String> {
        if node >= self.namespaces.len() {
            return Err(format!("node {node} has no network of its own"));
        }
        let port = port(node);
        let state = |state| run("bridge", &["link", "set", "dev", &port, "state", state], "", |_| {});
        match link {
            NodeLink::Cut => state(DISABLED),
            NodeLink::Shaped(qdisc) => self.tc(node, "replace", qdisc),
            NodeLink::Whole => {
                // Where it was not shaped there is nothing to remove.
                drop(self.tc(node, "del", ""));
                state(FORWARDING)
            }
        }
    }

    /// What tc(8) does to the root of both ends of a node's pair.
    fn tc(&self, node: usize, verb: &str, qdisc: &str) -> Result<(), String> {
        let port = port(node);
        let words = |device| ["qdisc", verb, "dev", device, "root"].into_iter().chain(qdisc.split_whitespace());
        let to = run("tc", &words(port.as_str()).collect::<Vec<_>>(), "", |_| {});
        to.and(run("tc", &words(DEVICE).collect::<Vec<_>>(), "", |tc| self.put_on(node, tc)))
    }
}

impl Drop for NodeNetworks {
    fn drop(&mut self) {
        clear(self.namespaces.len());
    }
}

/// Removes what there is; the rest goes with the namespace of the run.
fn clear(nodes: usize) {
    let ports: String = (0..nodes).map(|node| format!("link del {}\n", port(node))).collect();
    // What is not there needs not be removed.
    drop(run("ip", &["-force", "-batch", "-"], &format!("{ports}link del {BRIDGE}\n"), |_| {}));
}

fn port(node: usize) -> String {
    format!("{PORT}{node}")
}

/// The address of a node, or of the run itself.
fn address(node: Option<usize>) -> Ipv4Addr {
    Ipv4Addr::new(10, 213, 0, node.map_or(1, |node| 10 + node as u8))
}

/// The same of the Ethernet: a locally administered one.
fn ethernet(node: Option<usize>) -> String {
    format!("02:00:0a:d5:00:{:02x}", node.map_or(1, |node| 10 + node))
}

/// Makes the namespace of a node and joins it to the bridge.
fn attach(node: usize, nodes: usize) -> Result<File, String> {
    let (made, path) = channel();
    let (join, joined) = channel::<()>();
    let others = (0..nodes).filter(|other| *other != node).map(Some).chain([None]);
    let known: String = others
        .map(|o| format!("neigh add {} lladdr {} dev {DEVICE} nud permanent\n", address(o), ethernet(o)))
        .collect();
    std::thread::scope(|scope| {
        let inside = scope.spawn(move || -> Result<File, String> {
            // SAFETY: unshare concerns this thread alone, which ends below.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error().to_string());
            }
            let namespace = File::open("/proc/thread-self/ns/net").map_err(|e| e.to_string())?;
            let _ = made.send(namespace.as_raw_fd());
            // Its device is there when it is joined; without one, the other side tells why.
            let _ = joined.recv();
            ip(&format!(
                "link set lo up\naddr add {}/24 dev {DEVICE}\nlink set {DEVICE} up\n{known}",
                address(Some(node))
            ))?;
            Ok(namespace)
        });
        let connected = match path.recv() {
            // The thread tells why.
            Err(_) => Ok(()),
            Ok(descriptor) => {
                let (port, address) = (port(node), address(Some(node)));
                let own = format!("/proc/{}/fd/{descriptor}", std::process::id());
                let ethernet = ethernet(Some(node));
                ip(&format!(
                    "link add {port} type veth peer name {DEVICE} address {ethernet} netns {own}\nlink set {port} master {BRIDGE} up\nneigh add {address} lladdr {ethernet} dev {BRIDGE} nud permanent\n"
                ))
            }
        };
        drop(join);
        let inside = inside.join().unwrap_or_else(|_| Err("the thread that makes it panicked".into()));
        connected.and(inside)
    })
}

/// Lines of ip(8), each without the name of the program.
fn ip(lines: &str) -> Result<(), String> {
    run("ip", &["-batch", "-"], lines, |_| {})
}

fn run(program: &str, args: &[&str], input: &str, place: impl Fn(&mut Command)) -> Result<(), String> {
    for path in PATHS {
        let mut command = Command::new(format!("{path}{program}"));
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        place(&mut command);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(format!("{program}: {e}")),
        };
        if let Some(mut stdin) = child.stdin.take() {
            // Where it takes no more it tells why.
            let _ = stdin.write_all(input.as_bytes());
        }
        let done = child.wait_with_output().map_err(|e| format!("{program}: {e}"))?;
        let said = String::from_utf8_lossy(&done.stderr).trim().replace('\n', "; ");
        return if done.status.success() { Ok(()) } else { Err(format!("{program}: {said}")) };
    }
    Err(format!("there is no {program} (package iproute2)"))
}
