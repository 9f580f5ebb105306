//! Types of systems: what a scenario may ask of each.
//!
//! A plan knows a type by its name only. Which types there are, the register of systems says
//! (`engine::Register`); it hands them to whoever checks a scenario.

use std::sync::Arc;

use serde_json::Value;

use super::options::{OptionError, OptionSet, SystemOptions, joined, secrets, unknown_option};
use super::problem::suggest;
use super::{Address, AddressError, BringUp, ClusterRole, Pattern, Protocol, SystemSpec, Workload};

/// One type of system, as scenarios see it.
#[derive(Debug, Clone)]
pub struct SystemType {
    /// The word for it in a scenario: `driver = "..."`.
    pub name: &'static str,
    /// What it is, in one sentence; shown by editors.
    pub about: &'static str,
    /// What the workload asks for and systems of this type do not have, but for what other fields
    /// say.
    pub lacks: fn(&Workload) -> Option<&'static str>,
    /// Whether a system that is already running can be measured, at a `url`.
    pub external: bool,
    /// The servers of a launched one with these options that clients can be told to connect to, by
    /// name; `None` where clients choose no server.
    pub places: Option<fn(&SystemOptions) -> Vec<String>>,
    /// Whether its clients can be intruders: without rights, or with wrong ones.
    pub intruders: bool,
    /// Whether its driver opens connections as load, for `pattern = "connect"` and idle ones.
    pub connects: bool,
    /// Whether a launched one is made of processes: they can be observed, paused, killed.
    pub processes: bool,
    /// Whether each node of a launched one can have a network of its own.
    pub isolates: bool,
    /// Whether the files of a launched one can lose their power.
    pub power: bool,
    /// The roles that nodes of a launched one have, and can be asked for while it runs.
    pub roles: &'static [ClusterRole],
    /// Whether messages come back to consumers. The register takes this from the driver.
    pub delivers: bool,
    /// Whether a message that is not stored is acknowledged.
    pub acks_unstored: bool,
    /// Whether it has a key-value store whose keys can be watched.
    pub key_value: bool,
    /// Whether it can be told what to keep of what it stores, and what is kept can be read again.
    pub keeps: bool,
    /// Whether a launched one takes `[faults]`.
    pub faults: bool,
    /// Whether it is measured where a scenario names no system.
    pub by_default: bool,
    /// How its addresses are written; `None` where nothing is known of them.
    pub protocol: Option<Protocol>,
    /// The options of a launched one.
    pub options: Vec<OptionSet>,
    /// Options of its clients, each with the word of it that only a launched one has.
    pub launched_words: &'static [(&'static str, &'static str)],
    /// The options of its clients. The register takes them from the drivers.
    pub client_options: Vec<OptionSet>,
    /// Whether this build has it. The register takes this from the driver.
    pub present: bool,
    /// The types that it is made of. The register takes them from the provider.
    pub parts: Option<Parts>,
}

impl SystemType {
    /// A type that has everything but a key-value store, takes no faults and has no options; change
    /// what is different.
    pub const fn new(name: &'static str, about: &'static str) -> Self {
        Self {
            name,
            about,
            lacks: |_| None,
            external: true,
            places: None,
            intruders: false,
            connects: false,
            processes: true,
            isolates: false,
            power: false,
            roles: &[],
            delivers: true,
            acks_unstored: true,
            key_value: false,
            keeps: false,
            faults: false,
            by_default: false,
            protocol: None,
            options: Vec::new(),
            launched_words: &[],
            client_options: Vec::new(),
            present: true,
            parts: None,
        }
    }

    /// What the workload asks for and systems of this type do not have.
    pub fn lacking(&self, w: &Workload) -> Option<&'static str> {
        let keys = (w.pattern == Pattern::KeyValue || w.gets()) && !self.key_value;
        match (self.lacks)(w) {
            Some(lack) => Some(lack),
            None if keys => Some("no key-value store with watchers"),
            None if !w.at.is_empty() && self.places.is_none() => {
                Some("its clients cannot be told which server to connect to")
            }
            None if (w.connects() || w.idle_connections > 0) && !self.connects => {
                Some("its driver opens no connections as load")
            }
            None if w.delivery.keep.is_some() && !self.keeps => Some("it is not told what to keep"),
            None if w.intruders > 0 && !self.intruders => Some("its driver has no intruders"),
            None => None,
        }
    }

    /// Checks options against all that there are.
    ///
    /// # Errors
    /// The option that does not fit, or that nobody reads, and what is allowed.
    pub fn check(&self, options: &SystemOptions) -> Result<(), OptionError> {
        let known: Vec<String> = self.sets().flat_map(OptionSet::names).collect();
        if let Some(unknown) = unknown_option(options, self.name, &known) {
            return Err(unknown);
        }
        let sets: Vec<_> = self.sets().map(|set| (set, set.in_table())).collect();
        sets.iter().try_for_each(|(set, (table, _))| {
            let beside = sets.iter().filter(|(_, (other, _))| other == table);
            let known: Vec<String> = beside.flat_map(|(_, (_, names))| names.clone()).collect();
            set.check(options, &known)
        })
    }

    /// The first option that only a launched system has.
    fn launched_only(&self, options: &SystemOptions) -> Result<(), OptionError> {
        let names: Vec<String> = self.options.iter().flat_map(OptionSet::names).collect();
        let word = |key: &str| options.get(key).and_then(Value::as_str);
        let only = |key: &String| {
            names.contains(key) || self.launched_words.iter().any(|(o, w)| o == key && word(key) == Some(w))
        };
        let Some(option) = options.keys().find(|key| only(key)) else { return Ok(()) };
        Err(OptionError {
            words: format!("option `{option}` is for a server that msgbench starts, and this one has a url"),
            hint: Some(format!("remove `{option}` and set it in that server's own configuration, or remove `url`")),
        })
    }

    /// The secrets that stand in options.
    pub fn secrets(&self, options: &SystemOptions) -> Vec<String> {
        // One by one: a client may know the table of a launched server by its name alone.
        self.sets().flat_map(|set| secrets(&set.shape(), options)).collect()
    }

    /// The JSON schema of its options.
    pub fn schema(&self) -> Value {
        let mut shape = joined(self.sets().map(OptionSet::shape));
        // One that declares nothing reads its options by itself.
        shape["additionalProperties"] = (self.sets().count() == 0).into();
        shape
    }

    fn sets(&self) -> impl Iterator<Item = &OptionSet> {
        self.options.iter().chain(&self.client_options)
    }
}

/// Names of types and the options of each; or the option that does not fit, and what is allowed.
type PartsOrMistake = Result<Vec<(String, SystemOptions)>, String>;

/// The types of systems that one is made of, by name, with the options of each; none where it is
/// one itself.
#[derive(Clone)]
pub struct Parts(Arc<dyn Fn(&SystemOptions) -> PartsOrMistake + Send + Sync>);

impl Parts {
    /// As this function tells them from the options.
    pub fn new(
        tell: impl Fn(&SystemOptions) -> Result<Vec<(String, SystemOptions)>, String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(tell))
    }

    /// Those of a system with these options.
    ///
    /// # Errors
    /// The option that does not fit, and what is allowed.
    pub fn of(&self, options: &SystemOptions) -> Result<Vec<(String, SystemOptions)>, String> {
        (self.0)(options)
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}

/// All types there are, in the order in which they are shown.
#[derive(Debug, Clone, Default)]
pub struct SystemTypes(pub Vec<SystemType>);

impl SystemTypes {
    /// The type of this name. Records may name types that this build does not have.
    pub fn get(&self, name: &str) -> Option<&SystemType> {
        self.0.iter().find(|t| t.name == name)
    }

    /// All names.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|t| t.name).collect()
    }

    /// What the workload asks for and systems of this type do not have.
    pub fn lacks(&self, name: &str, w: &Workload) -> Option<&'static str> {
        self.get(name).and_then(|t| t.lacking(w))
    }

    /// Checks the options of a system of this type and of its parts. A type that is not here is not
    /// judged.
    ///
    /// # Errors
    /// The option that does not fit, that nobody reads, or that has no meaning beside a url
    /// (`external`).
    pub fn check(&self, name: &str, options: &SystemOptions, external: bool) -> Result<(), OptionError> {
        let Some(of_type) = self.get(name) else { return Ok(()) };
        let parts = of_type.parts.as_ref().map_or(Ok(Vec::new()), |p| p.of(options))?;
        for (part, own) in &parts {
            let inside = |e: OptionError| OptionError { words: format!("`{part}`: {}", e.words), ..e };
            self.check(part, own, external).map_err(inside)?;
        }
        if !parts.is_empty() || !of_type.present {
            return Ok(());
        }
        if external {
            of_type.launched_only(options)?;
        }
        of_type.check(options)
    }

    /// Whether what the workloads ask for can be had with the options of a system and of its parts.
    ///
    /// # Errors
    /// The option that stands against it.
    pub fn suits(&self, name: &str, options: &SystemOptions, workloads: &[Workload]) -> Result<(), OptionError> {
        let Some(of_type) = self.get(name) else { return Ok(()) };
        let parts = of_type.parts.as_ref().map_or(Ok(Vec::new()), |p| p.of(options))?;
        for (part, own) in &parts {
            self.suits(part, own, workloads)?;
        }
        of_type.sets().try_for_each(|set| set.suits(options, workloads))
    }

    /// The first place that the workload names and a system of this type does not have: which side
    /// names it (`producers`, `consumers`), what is wrong, and what there is. A type that is not
    /// here, or that has no places at all, is not judged.
    pub fn misplaced(&self, spec: &SystemSpec, w: &Workload) -> Option<(&'static str, OptionError)> {
        let of_type = self.get(&spec.driver).filter(|t| t.present)?;
        let external = matches!(spec.bring_up, BringUp::External { .. });
        let known = if external { Vec::new() } else { of_type.places?(&spec.options) };
        let sides = [("producers", &w.at.producers), ("consumers", &w.at.consumers)];
        let named = sides.into_iter().flat_map(|(side, names)| names.iter().map(move |name| (side, name)));
        let (side, name) = named.into_iter().find(|(_, name)| !known.contains(name))?;
        if external {
            let words = format!("{} has a url, and which servers it has is not known", spec.name);
            return Some((side, OptionError { words, hint: Some("remove `at`, or remove `url`".into()) }));
        }
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let near = suggest(name, &known).filter(|s| s.starts_with("did you mean"));
        let hint = near.unwrap_or_else(|| format!("there are: {}", known.join(", ")));
        let words = format!("{} has no server `{}`", spec.name, name.escape_debug());
        Some((side, OptionError { words, hint: Some(hint) }))
    }

    /// The addresses in the url of a system: one, or one for each of its parts, apart by blanks.
    /// None where nothing is known of them, or the options do not fit.
    ///
    /// # Errors
    /// What does not fit, and what to write.
    pub fn addresses(&self, name: &str, options: &SystemOptions, url: &str) -> Result<Vec<Address>, AddressError> {
        let Some(of_type) = self.get(name) else { return Ok(Vec::new()) };
        let parts = of_type.parts.as_ref().map_or(Ok(Vec::new()), |p| p.of(options)).unwrap_or_default();
        if parts.is_empty() {
            return of_type.protocol.iter().map(|p| Address::read(p, url)).collect();
        }
        let urls: Vec<&str> = url.split_whitespace().collect();
        if urls.len() != parts.len() {
            let form = |(name, _): &(String, SystemOptions)| match self.get(name).and_then(|t| t.protocol) {
                Some(p) => format!("{}://host:{}", p.schemes[0].0, p.port),
                None => format!("url of {name}"),
            };
            return Err(AddressError {
                words: format!("a {name} has {} addresses", parts.len()),
                remedy: format!("write \"{}\"", parts.iter().map(form).collect::<Vec<_>>().join(" ")),
            });
        }
        let each = parts.iter().zip(urls).map(|((name, own), url)| self.addresses(name, own, url));
        Ok(each.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// The secrets in the options of a system and of its parts, and in its url.
    pub fn secrets(&self, name: &str, options: &SystemOptions, url: Option<&str>) -> Vec<String> {
        let Some(of_type) = self.get(name) else { return Vec::new() };
        let mut found = of_type.secrets(options);
        // Options that do not fit are refused elsewhere.
        let parts = of_type.parts.as_ref().map_or(Ok(Vec::new()), |p| p.of(options)).unwrap_or_default();
        found.extend(parts.iter().flat_map(|(part, own)| self.secrets(part, own, None)));
        let addresses = url.map(|url| self.addresses(name, options, url).unwrap_or_default());
        found.extend(addresses.iter().flatten().flat_map(Address::secrets));
        found
    }

    /// What to write instead of a name that there is not: the nearest one, and all.
    pub fn hint(&self, wrong: &str) -> String {
        let names = self.names();
        let near = suggest(wrong, &names).filter(|s| s.starts_with("did you mean"));
        let all = format!("there are: {}", names.join(", "));
        near.map_or(all.clone(), |near| format!("{near} {all}"))
    }
}
