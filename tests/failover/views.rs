//! What clusters say of their nodes, held against what their own clients are told.

use std::time::{Duration, Instant};

use msgbench::engine::Register;
use msgbench::plan::{BringUp, ClusterRole, SystemSpec};
use msgbench::system::{ClusterView, Running, System, SystemContext};
use serde_json::{Value, json};

use super::needs;

/// Bound on everything a test waits for: on a busy machine Java alone takes a minute.
const BOUND: Duration = Duration::from_secs(180);

struct Cluster {
    system: Box<dyn System>,
    running: Running,
    _dir: tempfile::TempDir,
}

impl Cluster {
    fn launch(driver: &str, options: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let spec = SystemSpec {
            name: driver.to_owned(),
            driver: driver.to_owned(),
            bring_up: BringUp::Launch,
            require: true,
            cpus: None,
            options: options.as_object().unwrap().clone(),
        };
        let context = SystemContext { dir: dir.path().to_owned(), timeout: BOUND, cpus: None };
        let mut system = Register::built_in().create(&spec, context).unwrap();
        let running = system.start().unwrap();
        Self { system, running, _dir: dir }
    }

    fn kill(&mut self, node: u32) {
        let pid = self.running.pids[node as usize];
        let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
        assert!(killed.success());
        until(|| self.system.node_ended(node as usize).ok_or("it has not ended"));
    }

    fn restart(&mut self, node: u32) {
        self.running.pids[node as usize] = self.system.restart(node as usize).unwrap();
    }
}

/// Waits for something, with a bound.
fn until<T, E: std::fmt::Debug>(mut ask: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + BOUND;
    loop {
        match ask() {
            Ok(found) => return found,
            Err(why) => assert!(Instant::now() < deadline, "{why:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(2)
}

fn one(view: &dyn ClusterView, role: ClusterRole, stored: &str) -> u32 {
    let nodes = until(|| view.nodes(role, Some(stored), soon()));
    assert_eq!(nodes.len(), 1, "{role:?}: {nodes:?}");
    nodes[0]
}

/// The server names of a cluster, in the order of its processes.
async fn names(running: &Running) -> Vec<String> {
    let mut names = Vec::new();
    for url in running.url.split(',') {
        names.push(async_nats::connect(url).await.unwrap().server_info().server_name);
    }
    names
}

async fn api(url: &str, verb: &str, body: Value) -> Value {
    let client = async_nats::connect(url).await.unwrap();
    let answer = client.request(format!("$JS.API.{verb}"), body.to_string().into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

#[test]
fn jetstream_tells_who_leads_before_and_after_the_leader_dies() {
    if needs::nats_server().is_none() {
        return;
    }
    let mut cluster = Cluster::launch("jetstream", json!({ "nodes": 3 }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let urls: Vec<String> = cluster.running.url.split(',').map(str::to_owned).collect();
    let names = runtime.block_on(names(&cluster.running));
    let view = cluster.system.view().unwrap();
    until(|| view.settled(soon()));
    let stream = json!({ "name": "S", "subjects": ["s.>"], "num_replicas": 3, "retention": "limits",
        "storage": "file", "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "discard": "old" });
    let made = runtime.block_on(api(&urls[0], "STREAM.CREATE.S", stream));
    assert!(made["error"].is_null(), "{made}");
    // What the API says, asked of a server that is there.
    let told = |server: usize| {
        until(|| {
            let info = runtime.block_on(api(&urls[server], "STREAM.INFO.S", json!({})));
            let leader = names.iter().position(|name| info["cluster"]["leader"] == name.as_str());
            leader.map(|leader| leader as u32).ok_or(info)
        })
    };
    let leader = one(&*view, ClusterRole::Leader, "S");
    assert_eq!(leader, told(0));
    let mut followers = until(|| view.nodes(ClusterRole::Follower, Some("S"), soon()));
    followers.sort_unstable();
    assert_eq!(followers, (0..3).filter(|n| *n != leader).collect::<Vec<u32>>());
    // On a busy machine a server may not answer in time, and that is what is said then.
    until(|| match view.nodes(ClusterRole::Leader, Some("T"), soon()) {
        Err(why) if why.contains("no node says that it leads stream T") => Ok(()),
        other => Err(other),
    });
    until(|| view.settled(soon()));

    cluster.kill(leader);
    // The followers still name it: that does not count.
    let silent = view.nodes(ClusterRole::Leader, Some("S"), soon());
    assert!(silent.as_ref().is_ok_and(|n| n != &[leader]) || silent.is_err(), "{silent:?}");
    assert!(view.settled(soon()).is_err());
    let next = one(&*view, ClusterRole::Leader, "S");
    assert_ne!(next, leader);
    assert_eq!(next, told(next as usize));
    cluster.restart(leader);
    until(|| view.settled(soon()));
    let meta = one(&*view, ClusterRole::MetaLeader, "");
    cluster.kill(meta);
    assert_ne!(one(&*view, ClusterRole::MetaLeader, ""), meta);
    cluster.system.stop().unwrap();
}

#[test]
#[cfg(feature = "kafka")]
fn kafka_tells_who_leads_and_who_controls() {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    use rdkafka::client::DefaultClientContext;
    use rdkafka::config::ClientConfig;

    if needs::system("kafka").is_none() {
        return;
    }
    let mut cluster = Cluster::launch("kafka", json!({ "broker": { "nodes": 3, "heap": "384MiB" } }));
    let view = cluster.system.view().unwrap();
    let servers = cluster.running.url.trim_start_matches("kafka://").to_owned();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &servers).create().unwrap();
    // The first replica leads: broker 3, which is node 2.
    let topic = NewTopic::new("t", 1, TopicReplication::Variable(&[&[3, 1, 2]]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let made = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
    assert!(made[0].is_ok(), "{made:?}");
    until(|| view.settled(soon()));
    assert_eq!(one(&*view, ClusterRole::Leader, "t"), 2);
    let mut followers = until(|| view.nodes(ClusterRole::Follower, Some("t"), soon()));
    followers.sort_unstable();
    assert_eq!(followers, [0, 1]);
    assert!(view.nodes(ClusterRole::Leader, Some("u"), soon()).is_err());

    // Broker 1 is next in the list; nothing moves but who leads.
    view.transfer("t", Instant::now() + BOUND).unwrap();
    until(|| if one(&*view, ClusterRole::Leader, "t") == 2 { Err("broker 3 leads on") } else { Ok(()) });
    until(|| view.settled(soon()));

    let controller = one(&*view, ClusterRole::Controller, "");
    cluster.kill(controller);
    // Until the others have elected another one nobody is named, and never the dead one again.
    assert_ne!(one(&*view, ClusterRole::Controller, ""), controller);
    assert!(view.settled(soon()).is_err());
    cluster.restart(controller);
    until(|| view.settled(soon()));

    let leader = one(&*view, ClusterRole::Leader, "t");
    cluster.kill(leader);
    // Metadata names the dead one until its session ends; it does not answer, so it leads nothing.
    let first = view.nodes(ClusterRole::Leader, Some("t"), soon());
    assert!(first.as_ref().is_err_and(|why| why.contains("does not answer")) || first.is_ok_and(|n| n != [leader]));
    assert_ne!(one(&*view, ClusterRole::Leader, "t"), leader);
    cluster.system.stop().unwrap();
}
