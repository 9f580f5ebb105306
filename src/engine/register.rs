//! The register: which types of systems there are, and which client puts load on each.
//!
//! # Design
//! A type of system is two things that do not know each other: a [`Provider`], which brings it up,
//! and a [`Driver`], which is compiled into the engine's loops. This is the one place that sees
//! both. A driver is kept as functions that were compiled for it ([`Client`]), so that the loops
//! stay free of dynamic dispatch and a driver from another crate runs as the built-in ones do.

use std::collections::BTreeMap;
use std::sync::Arc;

#[cfg(feature = "kafka")]
use crate::driver::bridge::BridgeDriver;
use crate::driver::jetstream::JetstreamDriver;
#[cfg(feature = "kafka")]
use crate::driver::kafka::KafkaDriver;
use crate::driver::nats::NatsDriver;
use crate::driver::null::NullDriver;
use crate::driver::redis::RedisDriver;
use crate::driver::wire::WireDriver;
use crate::driver::{Driver, DriverError, Target};
use crate::plan::options::{OptionSet, SystemOptions};
use crate::plan::{BringUp, Parts, Plan, SystemSpec, SystemTypes, Workload};
use crate::record::Secrets;
use crate::system::{Absent, Availability, Provider, Providers, System, SystemContext, SystemError, reference};
#[cfg(feature = "kafka")]
use crate::system::{bridge, kafka};
use crate::system::{nats, none, redis};

use super::batch_arrival::{ArrivalResult, ArrivalTrials, drive};
use super::raw::RawTrial;
use super::setup::TrialSetup;
use super::trial::execute;

/// How arrivals are stamped by a driver; see [`drive`].
type MeasureArrivals = fn(Target, &[Workload], ArrivalTrials<'_>) -> Result<Vec<ArrivalResult>, DriverError>;

/// A driver as the engine uses it: its loops, compiled.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    pub(super) execute: fn(&TrialSetup<'_>, &mut dyn System) -> RawTrial,
    pub(super) arrivals: MeasureArrivals,
    options: fn() -> Vec<OptionSet>,
    /// Whether messages come back to consumers.
    pub(super) delivers: bool,
    /// Whether several processes can drive a workload, or why not.
    joins: fn(&Workload) -> Result<(), &'static str>,
}

impl Client {
    /// The client that `D` is.
    pub const fn of<D: Driver>() -> Self {
        Self {
            execute: execute::<D>,
            arrivals: drive::<D>,
            options: D::options,
            delivers: D::DELIVERS,
            joins: D::joins,
        }
    }
}

/// The clients of one type of system, and when each is used.
#[derive(Debug, Clone)]
pub struct Clients {
    usual: Option<Client>,
    /// Used where this option has this value.
    chosen: Vec<(&'static str, &'static str, Client)>,
    /// For workloads whose messages are to be stored: the first one, or that where an option has
    /// this value.
    stored: Vec<(Option<(&'static str, &'static str)>, Stored)>,
}

/// The client for workloads whose messages are to be stored.
#[derive(Debug, Clone, Copy)]
struct Stored {
    client: Client,
    /// Option of the system that is set to true for them.
    flag: &'static str,
    /// Table of the system's options that this client reads instead of all.
    table: &'static str,
}

impl Clients {
    /// One client for all.
    pub fn of<D: Driver>() -> Self {
        Self { usual: Some(Client::of::<D>()), chosen: Vec::new(), stored: Vec::new() }
    }

    /// Another one where the scenario sets `option` to `value`.
    pub fn or<D: Driver>(mut self, option: &'static str, value: &'static str) -> Self {
        self.chosen.push((option, value, Client::of::<D>()));
        self
    }

    /// Another one where messages are to be stored: the system is then started with the option
    /// `flag` set, and this client reads the options in the table `table`.
    pub fn stored<D: Driver>(mut self, flag: &'static str, table: &'static str) -> Self {
        self.stored.insert(0, (None, Stored { client: Client::of::<D>(), flag, table }));
        self
    }

    /// The same where the scenario sets `option` to `value`.
    pub fn stored_where<D: Driver>(
        mut self,
        (option, value): (&'static str, &'static str),
        flag: &'static str,
        table: &'static str,
    ) -> Self {
        self.stored.push((Some((option, value)), Stored { client: Client::of::<D>(), flag, table }));
        self
    }

    /// The client of these workloads where their messages are to be stored: one of them says so, or
    /// the option that chooses it does. Requests are answered without.
    fn store(&self, options: &SystemOptions, workloads: &[Workload]) -> Option<Stored> {
        let written = |option: &str| options.get(option).and_then(|v| v.as_str());
        let chosen = |when: &Option<(&str, &str)>| when.is_some_and(|(option, value)| written(option) == Some(value));
        let durable = workloads.iter().any(|w| w.delivery.durable);
        match self.stored.iter().find(|(when, _)| chosen(when)) {
            Some((_, stored)) if durable || !workloads.iter().any(|w| w.topology.reply) => Some(*stored),
            Some(_) => None,
            None => self.stored.iter().find(|(when, _)| durable && when.is_none()).map(|(_, stored)| *stored),
        }
    }

    /// Of a type that this build does not have.
    fn none() -> Self {
        Self { usual: None, chosen: Vec::new(), stored: Vec::new() }
    }

    fn options(&self) -> Vec<OptionSet> {
        // All that can be chosen by an option read the same ones.
        let mut all = self.usual.map(|c| (c.options)()).unwrap_or_default();
        for (_, stored) in &self.stored {
            all.extend((stored.client.options)().into_iter().map(|set| set.within(stored.table)));
        }
        all
    }
}

/// What drives one case.
pub(super) struct Choice {
    pub(super) client: Client,
    /// The system, as it is to be brought up for this client.
    pub(super) spec: SystemSpec,
    /// The options that concern the client.
    pub(super) options: SystemOptions,
}

/// All types of systems, each with its clients.
#[derive(Debug, Clone, Default)]
pub struct Register {
    providers: Providers,
    clients: BTreeMap<&'static str, Clients>,
}

impl Register {
    /// One without any type.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The types that msgbench brings with it, one a line, in the order in which they are shown.
    pub fn built_in() -> Self {
        let wire = ("client", "wire");
        let router = Clients::of::<NatsDriver>().or::<WireDriver>(wire.0, wire.1);
        #[cfg(feature = "kafka")]
        let router = router.stored::<KafkaDriver>(reference::LOG, "kafka");
        let streams = (reference::STORED_BY, "streams");
        let router = router.stored_where::<JetstreamDriver>(streams, reference::STREAMS, "jetstream");
        let it = Self::empty()
            .add(reference::ReferenceType, router)
            .add(nats::NatsType, Clients::of::<NatsDriver>().or::<WireDriver>(wire.0, wire.1))
            .add(nats::JetstreamType, Clients::of::<JetstreamDriver>());
        #[cfg(feature = "kafka")]
        let it = it.add(kafka::KafkaType, Clients::of::<KafkaDriver>()).add(
            bridge::BridgeType { from: &["nats", "jetstream", "reference"], to: "kafka" },
            Clients::of::<BridgeDriver<NatsDriver, KafkaDriver>>()
                .or::<BridgeDriver<JetstreamDriver, KafkaDriver>>("from", "jetstream"),
        );
        #[cfg(not(feature = "kafka"))]
        let it = it.absent("kafka", WITHOUT_KAFKA).absent("bridge", WITHOUT_KAFKA);
        it.add(redis::RedisType, Clients::of::<RedisDriver>()).add(none::NullType, Clients::of::<NullDriver>())
    }

    /// Adds a type of system, also one of another crate; one of the same name is replaced.
    pub fn add(mut self, provider: impl Provider + 'static, clients: Clients) -> Self {
        self.clients.insert(provider.describe().name, clients);
        self.providers.add(provider);
        self
    }

    /// Adds a name whose type this build does not have, and why; see [`Absent`].
    pub fn absent(self, name: &'static str, (reason, remedy): (&'static str, &'static str)) -> Self {
        self.add(Absent { name, reason, remedy }, Clients::none())
    }

    /// What scenarios may ask of each type.
    pub fn types(&self) -> SystemTypes {
        let of_type = |provider: &Arc<dyn Provider>| {
            let mut it = provider.describe();
            if let Some(clients) = self.clients.get(it.name) {
                it.client_options = clients.options();
                it.delivers = clients.usual.is_none_or(|c| c.delivers);
                it.present = clients.usual.is_some();
            }
            let provider = Arc::clone(provider);
            it.parts = Some(Parts::new(move |options| provider.parts(options)));
            it
        };
        SystemTypes(self.providers.all().map(of_type).collect())
    }

    /// Each type by name, and whether one can be launched here.
    pub fn available(&self) -> Vec<(&'static str, Availability)> {
        self.providers.all().map(|p| p.describe().name).map(|name| (name, self.availability(name))).collect()
    }

    /// Whether a system of this type can be launched here, and what would make it so.
    pub fn availability(&self, name: &str) -> Availability {
        self.providers.availability(name)
    }

    /// The system that `spec` asks for, not yet started.
    ///
    /// # Errors
    /// When there is no such type, its program is not here, or an option does not fit.
    pub fn create(&self, spec: &SystemSpec, context: SystemContext) -> Result<Box<dyn System>, SystemError> {
        self.providers.create(spec, context)
    }

    /// Checks the options of every system, before anything is started.
    ///
    /// # Errors
    /// The system and its option that does not fit, or that nobody reads, and what is allowed.
    pub fn check(&self, plan: &Plan) -> Result<(), SystemError> {
        let types = self.types();
        let wrong = |spec: &SystemSpec, words: String| SystemError::Option { system: spec.name.clone(), words };
        for spec in &plan.systems {
            let external = matches!(spec.bring_up, BringUp::External { .. });
            types.check(&spec.driver, &spec.options, external).map_err(|e| wrong(spec, e.to_string()))?;
        }
        for case in &plan.cases {
            let spec = plan.spec(case);
            if case.changed.is_some() {
                types.check(&spec.driver, &spec.options, false).map_err(|e| wrong(spec, e.to_string()))?;
            }
            types.suits(&spec.driver, &spec.options, &case.workloads).map_err(|e| wrong(spec, e.to_string()))?;
            if let Some((_, error)) = case.workloads.iter().find_map(|w| types.misplaced(spec, w)) {
                return Err(wrong(spec, error.to_string()));
            }
        }
        Ok(())
    }

    /// What must not be shown of a plan: the secrets in the options and addresses of its systems,
    /// and in the address of its control server.
    pub fn secrets(&self, plan: &Plan) -> Secrets {
        let types = self.types();
        let of = |spec: &SystemSpec| {
            let url = match &spec.bring_up {
                BringUp::Launch => None,
                BringUp::External { url } => Some(url.as_str()),
            };
            types.secrets(&spec.driver, &spec.options, url)
        };
        let changed = plan.cases.iter().filter_map(|c| c.changed.as_ref());
        let control = plan.agents.as_ref().and_then(|a| a.control.as_deref());
        let of_control = control.map(|url| types.secrets("nats", &SystemOptions::new(), Some(url)));
        Secrets::new(plan.systems.iter().chain(changed).flat_map(of).chain(of_control.into_iter().flatten()))
    }

    /// Whether agents can run the load of a plan.
    ///
    /// # Errors
    /// The number of a system whose driver runs a workload in one process only, and words.
    pub fn joins(&self, plan: &Plan) -> Result<(), (usize, String)> {
        for case in &plan.cases {
            let spec = plan.spec(case);
            let client = self.choose(spec, &case.workloads).map_err(|words| (case.system, words))?.client;
            for w in &case.workloads {
                (client.joins)(w).map_err(|why| {
                    (case.system, format!("workload `{}` of {} {why}: agents cannot run it", w.name, spec.name))
                })?;
            }
        }
        Ok(())
    }

    /// What drives these workloads on this system.
    ///
    /// # Errors
    /// Why nothing does.
    pub(super) fn choose(&self, spec: &SystemSpec, workloads: &[Workload]) -> Result<Choice, String> {
        let clients = self.clients.get(spec.driver.as_str());
        let clients = clients.ok_or_else(|| format!("this msgbench has no driver `{}`", spec.driver))?;
        let mut spec = spec.clone();
        if let Some(stored) = clients.store(&spec.options, workloads) {
            spec.options.insert(stored.flag.to_owned(), true.into());
            let own = spec.options.get(stored.table).and_then(|v| v.as_object());
            let options = own.cloned().unwrap_or_default();
            return Ok(Choice { client: stored.client, spec, options });
        }
        let written = |option: &str| spec.options.get(option).and_then(|v| v.as_str());
        let chosen = clients.chosen.iter().find(|(option, value, _)| written(option) == Some(value));
        let client = chosen.map(|(.., client)| *client).or(clients.usual);
        let client = client.ok_or_else(|| format!("this build has no driver `{}`", spec.driver))?;
        let options = spec.options.clone();
        Ok(Choice { client, spec, options })
    }
}

/// Why there is no Kafka, and what to do.
#[cfg(not(feature = "kafka"))]
const WITHOUT_KAFKA: (&str, &str) =
    ("this msgbench was built without Kafka", "build it with the cargo feature `kafka`, which is on by default");
