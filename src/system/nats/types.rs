//! The two types of systems that a nats-server is: core messaging, and streams.

use crate::plan::address::NATS;
use crate::plan::options::{OptionSet, Options};
use crate::plan::{BringUp, SystemSpec, SystemType};
use crate::system::external::External;
use crate::system::{Availability, Order, Provider, System, SystemError, in_vain};

use super::options::Launch;
use super::{Nats, program};

/// Names the nats-server to start.
const VARIABLE: &str = "MSGBENCH_NATS_SERVER";

/// `driver = "nats"`: core messaging.
#[derive(Debug, Clone, Copy)]
pub struct Core;

/// `driver = "jetstream"`: streams.
#[derive(Debug, Clone, Copy)]
pub struct Streams;

fn check(options: &Options) -> Result<(), String> {
    Launch::from_options(options).map(drop)
}

fn availability() -> Availability {
    program::availability(std::env::var_os(VARIABLE), std::env::var_os("PATH"))
}

fn create(spec: &SystemSpec, order: Order<'_>, jetstream: bool) -> Result<Box<dyn System>, SystemError> {
    let Order { program, context, .. } = order;
    if let BringUp::External { url } = &spec.bring_up {
        in_vain(spec, "server", Launch::written(&spec.options))?;
        return Ok(Box::new(External::of(spec, url, context.timeout)));
    }
    let wrong = |words: String| SystemError::Option { system: spec.name.clone(), words };
    let launch = Launch::from_options(&spec.options).map_err(wrong)?;
    Ok(Box::new(Nats::new(&spec.name, program, launch, jetstream, context)))
}

impl Provider for Core {
    fn describe(&self) -> SystemType {
        SystemType {
            lacks: |w| match &w.delivery {
                d if d.durable => Some("messages are not stored"),
                d if d.reject_every > 0 || d.dead_every > 0 => Some("no redelivery"),
                _ => None,
            },
            acks_unstored: false,
            by_default: true,
            protocol: Some(NATS),
            options: vec![OptionSet::of::<Launch>(check)],
            ..SystemType::new("nats", "A NATS server, core messaging.")
        }
    }
    fn availability(&self) -> Availability {
        availability()
    }
    fn create(&self, spec: &SystemSpec, order: Order<'_>) -> Result<Box<dyn System>, SystemError> {
        create(spec, order, false)
    }
}

impl Provider for Streams {
    fn describe(&self) -> SystemType {
        SystemType {
            lacks: |w| w.topology.reply.then_some("no request/reply on streams"),
            protocol: Some(NATS),
            options: vec![OptionSet::of::<Launch>(check)],
            ..SystemType::new("jetstream", "A NATS server, streams of JetStream.")
        }
    }
    fn availability(&self) -> Availability {
        availability()
    }
    fn create(&self, spec: &SystemSpec, order: Order<'_>) -> Result<Box<dyn System>, SystemError> {
        create(spec, order, true)
    }
}
