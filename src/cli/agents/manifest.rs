//! `msgbench agents manifest`: objects of Kubernetes on standard output, for `kubectl apply -f -`.

use std::path::PathBuf;

use base64::Engine as _;
use clap::ValueEnum;

use super::LaunchArgs;
use crate::cli::{Exit, Failure, print};
use crate::launch::manifest::{AgentKey, ManifestRequest, NodeSpread};
use crate::plan::AgentLabel;
use crate::units::{Span, say};

/// Arguments of `agents manifest`.
#[derive(Debug, clap::Args)]
pub struct ManifestArgs {
    /// How many agents
    #[arg(long, value_name = "N")]
    count: u32,
    #[command(flatten)]
    agent: LaunchArgs,
    /// The image, built from the Dockerfile of msgbench
    #[arg(long, default_value = concat!("msgbench:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// Name of the Job; the secret and the service are named after it
    #[arg(long, default_value = "msgbench-agents")]
    name: String,
    /// Namespace of the objects; without it the one that kubectl uses
    #[arg(long)]
    namespace: Option<String>,
    /// CPUs of each agent, as request and as limit; whole ones can be its own
    #[arg(long, value_name = "QUANTITY", default_value = "2")]
    cpu: String,
    /// Memory of each agent, as request and as limit
    #[arg(long, value_name = "QUANTITY", default_value = "1Gi")]
    memory: String,
    /// File with the key for the control server; it is printed as a secret, readable by whoever
    /// reads the output
    #[arg(long, value_name = "FILE", conflicts_with = "secret")]
    key: Option<PathBuf>,
    /// A secret of the cluster that has the key as `agent.nk`
    #[arg(long, value_name = "NAME")]
    secret: Option<String>,
    /// How agents are spread over nodes
    #[arg(long, value_enum, default_value_t)]
    spread: SpreadArg,
    /// A label that a node must have, such as topology.kubernetes.io/zone=a. May be given several
    /// times
    #[arg(long = "node", value_name = "KEY=VALUE")]
    nodes: Vec<AgentLabel>,
    /// After this time the cluster ends what is left of them
    #[arg(long, value_name = "TIME", default_value = "4h")]
    deadline: Span,
    /// Print a headless Service too, which gives the pods names in DNS
    #[arg(long)]
    service: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum SpreadArg {
    /// As evenly as the nodes allow
    #[default]
    Even,
    /// One on each node; the rest waits
    OneEach,
}

pub(super) fn run(args: &ManifestArgs) -> Result<Exit, Failure> {
    let key = match (&args.key, &args.secret) {
        (Some(file), _) => {
            let bytes = std::fs::read(file)
                .map_err(|e| Failure::usage(format!("cannot read the key {}: {e}", file.display())))?;
            say("msgbench: the key is in what is printed; keep it as you keep the key");
            AgentKey::Printed(base64::engine::general_purpose::STANDARD.encode(bytes))
        }
        (None, Some(name)) => AgentKey::Secret(name.clone()),
        (None, None) => AgentKey::None,
    };
    let request = ManifestRequest {
        count: args.count,
        name: args.name.clone(),
        namespace: args.namespace.clone(),
        control: args.agent.control.clone(),
        fleet: args.agent.fleet.clone(),
        image: args.image.clone(),
        labels: args.agent.labels.clone(),
        cpu: args.cpu.clone(),
        memory: args.memory.clone(),
        key,
        spread: match args.spread {
            SpreadArg::Even => NodeSpread::Even,
            SpreadArg::OneEach => NodeSpread::OneEach,
        },
        nodes: args.nodes.clone(),
        deadline_s: args.deadline.as_secs_f64().ceil().max(1.0) as u64,
        service: args.service,
    };
    print(&request.yaml().map_err(Failure::usage)?)
}
