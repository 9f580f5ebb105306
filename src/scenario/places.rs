//! Where clients connect to: the key `at` of a workload.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::plan::problem::{Problem, Problems};
use crate::plan::{BringUp, Places, SystemSpec, SystemTypes, Workload};

/// A server for all clients, or those of producers and of consumers.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(untagged)]
pub enum PlacesEntry {
    /// One server for all.
    All(String),
    /// `{ producers, consumers }`.
    Sides(PlacesTable),
}

/// The servers of producers and of consumers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PlacesTable {
    /// Those that producers connect to, in turn. Default: any.
    pub producers: Option<PlaceNames>,
    /// Those that consumers connect to, in turn. Default: any.
    pub consumers: Option<PlaceNames>,
}

/// One server, or several that clients take in turn.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(untagged, inline)]
pub enum PlaceNames {
    One(String),
    Several(Vec<String>),
}

impl PlaceNames {
    /// As a list.
    pub fn list(&self) -> Vec<String> {
        match self {
            Self::One(name) => vec![name.clone()],
            Self::Several(names) => names.clone(),
        }
    }
}

impl<'de> Deserialize<'de> for PlacesEntry {
    // By hand, as that of `Size`.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct EntryVisitor;
        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = PlacesEntry;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a server such as \"node-1\", or { producers, consumers }")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<PlacesEntry, E> {
                Ok(PlacesEntry::All(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PlacesEntry, A::Error> {
                PlacesTable::deserialize(MapAccessDeserializer::new(map)).map(PlacesEntry::Sides)
            }
        }
        d.deserialize_any(EntryVisitor)
    }
}

impl<'de> Deserialize<'de> for PlaceNames {
    // By hand, as that of `Size`.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct NamesVisitor;
        impl<'de> Visitor<'de> for NamesVisitor {
            type Value = PlaceNames;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a server such as \"node-1\", or a list of names")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<PlaceNames, E> {
                Ok(PlaceNames::One(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<PlaceNames, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(PlaceNames::Several)
            }
        }
        d.deserialize_any(NamesVisitor)
    }
}

/// The servers that clients connect to.
pub(super) fn places(at: &str, written: Option<&PlacesEntry>, service: bool, problems: &mut Problems) -> Places {
    let places = match written {
        None => return Places::default(),
        Some(PlacesEntry::All(name)) => Places { producers: vec![name.clone()], consumers: vec![name.clone()] },
        Some(PlacesEntry::Sides(sides)) => {
            let list = |names: &Option<PlaceNames>| names.as_ref().map(PlaceNames::list).unwrap_or_default();
            for (key, names) in [("producers", &sides.producers), ("consumers", &sides.consumers)] {
                if names.as_ref().is_some_and(|n| n.list().is_empty()) {
                    let problem = Problem::new(format!("{at}.at.{key}"), "the list is empty");
                    problems.add(problem.hint("name a server, or remove it"));
                }
            }
            Places { producers: list(&sides.producers), consumers: list(&sides.consumers) }
        }
    };
    if service {
        let message = "`at` has no meaning beside `target`";
        problems.add(Problem::new(format!("{at}.at"), message).hint("remove it"));
    }
    places
}

/// Places that the workloads of a case name and a system does not have.
pub(super) fn misplaced(spec: &SystemSpec, workloads: &[Workload], types: &SystemTypes, problems: &mut Problems) {
    let external = matches!(spec.bring_up, BringUp::External { .. });
    // A system that is left out is not asked, and options that do not fit have been told.
    let left_out = workloads.iter().any(|w| types.lacks(&spec.driver, w).is_some());
    if left_out || types.check(&spec.driver, &spec.options, external).is_err() {
        return;
    }
    for (n, w) in workloads.iter().enumerate() {
        if let Some((side, error)) = types.misplaced(spec, w) {
            let path = format!("workload.{n}.at.{side}");
            problems.add(Problem { path, message: error.words, hint: error.hint, beside: Vec::new() });
        }
    }
}
