//! The results of a run that is going on: written as far as they can be written, and written again
//! when they could not.
//!
//! A run of hours loses nothing because a disk is full for a minute: what could not be written is
//! kept, tried again after each trial, and named at the end. The record comes first, since it alone
//! answers the question of the run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::store::{INTERVALS, RUN, SCHEMA_FILE, Store, StoreError, schema};
use super::{Interval, Record};

/// Most of what could not be written that is kept in memory, in bytes.
const KEPT: usize = 256 << 20;

#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    scenario: String,
    store: Option<Store>,
    /// How many intervals the table holds, and its length in bytes.
    table: (usize, u64),
    /// Files that could not be written yet.
    waiting: BTreeMap<String, Vec<u8>>,
    /// Files that are there.
    written: BTreeSet<String>,
    /// Files that were there, or should have been, and cannot be written again.
    gone: BTreeSet<String>,
    /// What is not as it should be on disk, with the reason.
    failing: BTreeMap<String, String>,
    /// Reasons that were said.
    said: BTreeSet<String>,
    /// What is to be said.
    words: Vec<String>,
}

impl Folder {
    /// The folder `<root>/<scenario>/<UTC time>`, which is made now or, where that fails, later.
    ///
    /// # Errors
    /// When `scenario` is not fit for a folder name.
    pub fn new(root: &Path, scenario: &str) -> Result<Self, StoreError> {
        let mut folder = Self {
            root: root.to_path_buf(),
            scenario: scenario.to_owned(),
            store: None,
            table: (0, 0),
            waiting: BTreeMap::new(),
            written: BTreeSet::new(),
            gone: BTreeSet::new(),
            failing: BTreeMap::new(),
            said: BTreeSet::new(),
            words: Vec::new(),
        };
        folder.waiting.insert(SCHEMA_FILE.into(), schema()?);
        match Store::empty(root, scenario) {
            Err(e @ StoreError::Name(_)) => return Err(e),
            Err(e) => folder.failed(RUN, &e),
            Ok(store) => folder.store = Some(store),
        }
        Ok(folder)
    }

    /// Where it is; without the last part while it cannot be made.
    pub fn place(&self) -> PathBuf {
        self.store.as_ref().map_or_else(|| self.root.join(&self.scenario), |s| s.dir.clone())
    }

    /// What is to be said to the user: failures, each reason once.
    pub fn words(&mut self) -> Vec<String> {
        std::mem::take(&mut self.words)
    }

    /// Gives a file to the folder; [`Folder::keep`] writes it.
    pub fn add(&mut self, name: &str, bytes: Vec<u8>) {
        let held: usize = self.waiting.values().map(Vec::len).sum();
        if held + bytes.len() > KEPT {
            self.gone.insert(name.to_owned());
            return;
        }
        self.waiting.insert(name.to_owned(), bytes);
    }

    /// Brings the folder up to date: the record, the files that wait, the table of intervals.
    pub fn keep(&mut self, record: &Record, intervals: &[Interval]) {
        let store = match self.there() {
            Ok(store) => store,
            Err(e) => return self.failed(RUN, &e),
        };
        self.done(RUN, store.write(&self.stated(record)));
        let held = self.written.len();
        for (name, bytes) in std::mem::take(&mut self.waiting) {
            let result = store.write_file(&name, &bytes);
            if result.is_ok() {
                self.written.insert(name.clone());
            } else {
                self.waiting.insert(name.clone(), bytes);
            }
            self.done(&name, result);
        }
        let result = store.extend_intervals(intervals, self.table.0, Some(self.table.1));
        if let Ok(length) = result {
            self.table = (intervals.len(), length);
        }
        self.done(INTERVALS, result.map(|_| ()));
        if self.written.len() != held {
            // Now they can be named.
            self.done(RUN, store.write(&self.stated(record)));
        }
    }

    /// A file of the folder, or one that waits.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        let waiting = self.waiting.get(name).cloned();
        waiting.or_else(|| std::fs::read(self.store.as_ref()?.dir.join(name)).ok())
    }

    /// Whether a file was written.
    pub fn has(&self, name: &str) -> bool {
        self.written.contains(name)
    }

    /// What the folder lacks, in one sentence; nothing when it is complete.
    pub fn missing_because(&self) -> Option<String> {
        let mut files: BTreeSet<&str> = self.failing.keys().map(String::as_str).collect();
        files.extend(self.waiting.keys().chain(&self.gone).map(String::as_str));
        if files.is_empty() {
            return None;
        }
        let files = files.into_iter().collect::<Vec<_>>().join(", ");
        Some(format!("the results in {} are not complete; not written, or removed: {files}", self.place().display()))
    }

    /// The record with the names of those files alone that are there.
    fn stated(&self, record: &Record) -> Record {
        let mut record = record.clone();
        for trial in &mut record.trials {
            for name in [&mut trial.hlog, &mut trial.server_log] {
                if name.as_ref().is_some_and(|n| !self.written.contains(n)) {
                    *name = None;
                }
            }
        }
        record
    }

    /// The folder, made again where it is not there.
    fn there(&mut self) -> Result<Store, StoreError> {
        if let Some(store) = &self.store {
            let store = store.clone();
            let absent = !store.dir.is_dir();
            let lost: Vec<String> =
                self.written.iter().filter(|name| !store.dir.join(name).exists()).cloned().collect();
            if absent || !lost.is_empty() {
                self.removed(&store.dir, absent, lost)?;
            }
            return Ok(store);
        }
        let store = Store::empty(&self.root, &self.scenario)?;
        self.store = Some(store.clone());
        Ok(store)
    }

    /// The folder, or files of it, were removed by somebody else.
    fn removed(&mut self, dir: &Path, whole: bool, mut lost: Vec<String>) -> Result<(), StoreError> {
        if whole {
            let made = std::fs::create_dir_all(dir);
            made.map_err(|source| StoreError::Io { action: "create", path: dir.to_path_buf(), source })?;
            self.table = (0, 0);
        }
        self.written.retain(|name| !lost.contains(name));
        if let Some(at) = lost.iter().position(|name| name == SCHEMA_FILE) {
            lost.remove(at);
            self.waiting.insert(SCHEMA_FILE.into(), schema()?);
        }
        let gone = if lost.is_empty() { String::new() } else { format!("gone for good: {}", lost.join(", ")) };
        let dir = dir.display();
        match (whole, lost.is_empty()) {
            (true, true) => self.words.push(format!("{dir} was removed while the run was on, and is made again")),
            (true, false) => {
                self.words.push(format!("{dir} was removed while the run was on, and is made again; {gone}"));
            }
            (false, false) => self.words.push(format!("files in {dir} were removed while the run was on; {gone}")),
            (false, true) => {}
        }
        self.gone.extend(lost);
        Ok(())
    }

    fn done(&mut self, name: &str, result: Result<(), StoreError>) {
        match result {
            Ok(()) => drop(self.failing.remove(name)),
            Err(e) => self.failed(name, &e),
        }
    }

    fn failed(&mut self, name: &str, error: &StoreError) {
        let reason = match error {
            StoreError::Io { source, .. } => source.to_string(),
            other => other.to_string(),
        };
        if self.said.insert(reason.clone()) {
            self.words.push(format!("{error}; the run goes on, keeps it in memory and tries again"));
        }
        self.failing.insert(name.to_owned(), reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;
    use crate::record::store::load;

    #[test]
    fn what_could_not_be_written_is_written_when_it_can_be() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("results");
        std::fs::write(&out, "in the way").unwrap();
        let (record, intervals) = (sample::record(), sample::intervals());
        let mut folder = Folder::new(&out, "fan-out").unwrap();
        let name = record.trials[0].hlog.clone().unwrap();
        folder.add(&name, b"log".to_vec());
        folder.keep(&record, &intervals[..2]);
        folder.keep(&record, &intervals[..2]);
        assert_eq!(folder.words().len(), 1, "once");
        assert!(folder.missing_because().unwrap().contains(RUN) && folder.missing_because().unwrap().contains(&name));
        assert_eq!(folder.read(&name).as_deref(), Some(&b"log"[..]));
        std::fs::remove_file(&out).unwrap();
        folder.keep(&record, &intervals);
        assert_eq!((folder.missing_because(), folder.words()), (None, Vec::new()));
        let loaded = load(&folder.place()).unwrap();
        assert_eq!(loaded.intervals, intervals);
        assert_eq!(loaded.record.trials[0].hlog.as_ref(), Some(&name));
        // Another trial's log is not there, and is not named.
        assert!(loaded.record.trials.iter().skip(1).all(|t| t.hlog.is_none()));
    }

    #[test]
    fn a_table_that_was_cut_or_removed_is_written_anew() {
        let root = tempfile::tempdir().unwrap();
        let (record, intervals) = (sample::record(), sample::intervals());
        let mut folder = Folder::new(root.path(), "fan-out").unwrap();
        folder.keep(&record, &intervals[..2]);
        let table = folder.place().join(INTERVALS);
        std::fs::remove_file(&table).unwrap();
        folder.keep(&record, &intervals[..3]);
        assert_eq!(load(&folder.place()).unwrap().intervals, intervals[..3]);
        let file = std::fs::OpenOptions::new().write(true).open(&table).unwrap();
        file.set_len(file.metadata().unwrap().len() - 5).unwrap();
        folder.keep(&record, &intervals);
        assert_eq!(load(&folder.place()).unwrap().intervals, intervals);
        assert_eq!(folder.missing_because(), None);
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused_at_once() {
        assert!(matches!(Folder::new(Path::new("results"), "../up"), Err(StoreError::Name(_))));
    }
}
