//! The two types of systems that a nats-server is: core messaging, and streams.

use crate::plan::address::NATS;
use crate::plan::options::{OptionSet, SystemOptions};
use crate::plan::{BringUp, ClusterRole, ServiceTarget, SystemSpec, SystemType};
use crate::system::{Availability, CreateRequest, Provider, System, SystemError, in_vain};

use super::external::{ExternalNats, NO_TOPICS};
use super::layout::place_names;
use super::options::LaunchOptions;
use super::{NatsSystem, program};

/// Names the nats-server to start.
const VARIABLE: &str = "MSGBENCH_NATS_SERVER";

/// `driver = "nats"`: core messaging.
#[derive(Debug, Clone, Copy)]
pub struct NatsType;

/// `driver = "jetstream"`: streams.
#[derive(Debug, Clone, Copy)]
pub struct JetstreamType;

fn check(options: &SystemOptions) -> Result<(), String> {
    LaunchOptions::from_options(options).map(drop)
}

fn availability() -> Availability {
    program::availability(std::env::var_os(VARIABLE), std::env::var_os("PATH"))
}

fn create(spec: &SystemSpec, order: CreateRequest<'_>, jetstream: bool) -> Result<Box<dyn System>, SystemError> {
    let CreateRequest { program, context, .. } = order;
    if let BringUp::External { url } = &spec.bring_up {
        in_vain(spec, "server", LaunchOptions::written(&spec.options))?;
        return Ok(Box::new(ExternalNats::of(spec, url, context.timeout)));
    }
    let wrong = |words: String| SystemError::Option { system: spec.name.clone(), words };
    let launch = LaunchOptions::from_options(&spec.options).map_err(wrong)?;
    Ok(Box::new(NatsSystem::new(&spec.name, program, launch, jetstream, context)))
}

impl Provider for NatsType {
    fn describe(&self) -> SystemType {
        SystemType {
            lacks: |w| match &w.delivery {
                d if d.durable => Some("messages are not stored"),
                d if d.reject_every > 0 || d.dead_every > 0 => Some("no redelivery"),
                _ if matches!(w.target, Some(ServiceTarget::Topic { .. })) => Some(NO_TOPICS),
                _ => None,
            },
            acks_unstored: false,
            by_default: true,
            isolates: true,
            protocol: Some(NATS),
            power: true,
            places: Some(place_names),
            intruders: true,
            connects: true,
            options: vec![OptionSet::of::<LaunchOptions>(check)],
            ..SystemType::new("nats", "A NATS server, core messaging.")
        }
    }
    fn availability(&self) -> Availability {
        availability()
    }
    fn create(&self, spec: &SystemSpec, order: CreateRequest<'_>) -> Result<Box<dyn System>, SystemError> {
        create(spec, order, false)
    }
}

impl Provider for JetstreamType {
    fn describe(&self) -> SystemType {
        SystemType {
            lacks: |w| (w.topology.reply && !w.gets() && !w.connects()).then_some("no request/reply on streams"),
            key_value: true,
            keeps: true,
            isolates: true,
            roles: &[ClusterRole::Leader, ClusterRole::Follower, ClusterRole::MetaLeader],
            protocol: Some(NATS),
            power: true,
            places: Some(place_names),
            intruders: true,
            connects: true,
            options: vec![OptionSet::of::<LaunchOptions>(check)],
            ..SystemType::new("jetstream", "A NATS server, streams of JetStream.")
        }
    }
    fn availability(&self) -> Availability {
        availability()
    }
    fn create(&self, spec: &SystemSpec, order: CreateRequest<'_>) -> Result<Box<dyn System>, SystemError> {
        create(spec, order, true)
    }
}
