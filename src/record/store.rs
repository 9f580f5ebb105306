//! The files of one run, written so that a crash costs at most the trial under way.
//!
//! Whole files go to a temporary name, are synced and renamed: a reader sees the old file or the
//! new one, never half. `intervals.csv` only grows, and is synced after each trial.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::{Interval, Packed, Record, SCHEMA};
use crate::units::calendar::folder_name;

pub(super) const RUN: &str = "run.json";
pub(super) const INTERVALS: &str = "intervals.csv";
pub(super) const SCHEMA_FILE: &str = "run.schema.json";

/// Why a result could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Its words.
        source: io::Error,
    },
    /// A name that would leave the results folder.
    #[error("`{0}` is not fit for a file name: use letters, digits, `-`, `_` and `.`")]
    Name(String),
    /// A file that is not what it should be.
    #[error("{} is not readable as {what}: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it should have been.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A record of another version.
    #[error(
        "{} has schema `{found}`, this program reads `{SCHEMA}`: use the version of msgbench that wrote it, or run the scenario again",
        path.display()
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: String,
    },
    /// A histogram that cannot be put into an interval log.
    #[error("cannot write the interval log {}: {problem}", path.display())]
    Hlog {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { action, path: path.to_path_buf(), source }
}

/// A histogram of one kind of latency over one interval.
#[derive(Debug, Clone)]
pub struct TaggedInterval {
    /// Kind of latency, with the workload where there are several: `e2e`, `rtt.service`. No comma,
    /// no space.
    pub tag: String,
    /// Start in seconds since the measured phase began; negative during warm-up.
    pub start_s: f64,
    /// Length in seconds.
    pub length_s: f64,
    /// Latencies in nanoseconds.
    pub histogram: Packed,
}

/// The folder of one run.
#[derive(Debug, Clone)]
pub struct Store {
    /// Where the files are.
    pub dir: PathBuf,
}

/// A run as read back.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// `run.json`.
    pub record: Record,
    /// `intervals.csv`; empty where there is none.
    pub intervals: Vec<Interval>,
}

fn checked_name(name: &str) -> Result<&str, StoreError> {
    let fit = name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if fit && !name.is_empty() && !name.starts_with('.') { Ok(name) } else { Err(StoreError::Name(name.into())) }
}

impl Store {
    /// Makes the folder `<root>/<scenario>/<UTC time>`, with the schema in it; a number is appended
    /// where that exists.
    ///
    /// # Errors
    /// When `scenario` is not fit for a folder name or the folder cannot be made.
    pub fn create(root: &Path, scenario: &str) -> Result<Self, StoreError> {
        let store = Self::empty(root, scenario)?;
        store.write_file(SCHEMA_FILE, &schema()?)?;
        Ok(store)
    }

    /// As [`Store::create`], with nothing in it.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub fn empty(root: &Path, scenario: &str) -> Result<Self, StoreError> {
        let parent = root.join(checked_name(scenario)?);
        fs::create_dir_all(&parent).map_err(io_error("create", &parent))?;
        let stamp = folder_name(SystemTime::now());
        let mut dir = parent.join(&stamp);
        let mut copy = 2;
        loop {
            match fs::create_dir(&dir) {
                Ok(()) => break,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => dir = parent.join(format!("{stamp}-{copy}")),
                Err(e) => return Err(io_error("create", &dir)(e)),
            }
            copy += 1;
        }
        Ok(Self { dir })
    }

    /// Writes `run.json`, replacing the former one in one step.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, record: &Record) -> Result<(), StoreError> {
        let mut text = json(record, &self.dir.join(RUN))?;
        text.push(b'\n');
        self.write_file(RUN, &text)
    }

    /// Writes a file of the run, folders included, in one step: temporary name, sync, rename. Where
    /// it fails, the former file stands, and nothing half written is left.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_file(&self, relative: &str, bytes: &[u8]) -> Result<(), StoreError> {
        for part in relative.split('/') {
            checked_name(part)?;
        }
        let path = self.dir.join(relative);
        let parent = path.parent().unwrap_or(&self.dir);
        fs::create_dir_all(parent).map_err(io_error("create", parent))?;
        let mut temporary = path.clone().into_os_string();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let mut file = File::create(&temporary).map_err(io_error("write", &path))?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if let Err(e) = written.and_then(|()| fs::rename(&temporary, &path)) {
            // The room is needed, and half a file is of no use; what refused the write may refuse
            // this as well.
            let _ = fs::remove_file(&temporary);
            return Err(io_error("write", &path)(e));
        }
        // The rename itself lasts only once the folder is on disk.
        File::open(parent).and_then(|d| d.sync_all()).map_err(io_error("sync", parent))
    }

    /// Appends lines to `intervals.csv`; the first call writes the header.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn append_intervals(&self, intervals: &[Interval]) -> Result<(), StoreError> {
        self.extend_intervals(intervals, 0, None).map(|_| ())
    }

    /// Brings `intervals.csv` up to `all`, of which it holds the first `held` in so many bytes as
    /// `length` says, and returns its new length. A file of another length was cut, removed or
    /// changed meanwhile, and is written anew. Where writing fails, it is left as it was.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn extend_intervals(&self, all: &[Interval], held: usize, length: Option<u64>) -> Result<u64, StoreError> {
        let path = self.dir.join(INTERVALS);
        let there = fs::metadata(&path).map_or(0, |m| m.len());
        if length.is_some_and(|l| l != there) {
            let bytes = rows(&path, all, true)?;
            self.write_file(INTERVALS, &bytes)?;
            return Ok(bytes.len() as u64);
        }
        let bytes = rows(&path, &all[held.min(all.len())..], there == 0)?;
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(io_error("write", &path))?;
        if let Err(e) = file.write_all(&bytes).and_then(|()| file.sync_all()) {
            // Half a row would make the table unreadable.
            let _ = file.set_len(there);
            return Err(io_error("write", &path)(e));
        }
        Ok(there + bytes.len() as u64)
    }

    /// Writes the interval log of a trial in HdrHistogram interval log format V2; returns its name
    /// within the folder.
    ///
    /// `measured_at` is the wall-clock time at which the measured phase began. Time stamps in the
    /// file count from its `BaseTime`, which is the earliest interval: the format knows no negative
    /// ones.
    ///
    /// # Errors
    /// When the name or a tag is not fit, or the file cannot be written.
    pub fn write_hlog(
        &self,
        name: &str,
        log: &[TaggedInterval],
        measured_at: SystemTime,
    ) -> Result<String, StoreError> {
        let (name, bytes) = interval_log(name, log, measured_at)?;
        self.write_file(&name, &bytes)?;
        Ok(name)
    }
}

/// The name and the bytes of an interval log; see [`Store::write_hlog`].
///
/// # Errors
/// When the name or a tag is not fit.
pub fn interval_log(
    name: &str,
    log: &[TaggedInterval],
    measured_at: SystemTime,
) -> Result<(String, Vec<u8>), StoreError> {
    let name = if name.ends_with(".hlog") { name.to_string() } else { format!("{name}.hlog") };
    let path = PathBuf::from(checked_name(&name)?);
    let hlog = |problem: String| StoreError::Hlog { path: path.clone(), problem };
    let first = log.iter().map(|i| i.start_s).fold(0.0, f64::min);
    let seconds = |s: f64| Duration::try_from_secs_f64(s).map_err(|e| hlog(format!("{s} s: {e}")));
    let base = measured_at.checked_sub(seconds(-first)?).ok_or_else(|| hlog("the clock is before 1970".into()))?;
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment("[msgbench: values in nanoseconds, Interval_Max in milliseconds, one tag per kind of latency]")
        .with_start_time(base)
        .with_base_time(base)
        .with_max_value_divisor(1e6)
        .begin_log_with(&mut bytes, &mut serializer)
        .map_err(|e| hlog(e.to_string()))?;
    for interval in log {
        let tag = Tag::new(&interval.tag)
            .ok_or_else(|| hlog(format!("the tag `{}` holds a comma or a space", interval.tag)))?;
        let (start, length) = (seconds(interval.start_s - first)?, seconds(interval.length_s)?);
        writer
            .write_histogram(&interval.histogram.open(), start, length, Some(tag))
            .map_err(|e| hlog(format!("{e:?}")))?;
    }
    Ok((name, bytes))
}

fn rows(path: &Path, intervals: &[Interval], head: bool) -> Result<Vec<u8>, StoreError> {
    let format = |e: String| StoreError::Format { path: path.into(), what: "a table of intervals", problem: e };
    let mut writer = csv::WriterBuilder::new().has_headers(head).from_writer(Vec::new());
    for interval in intervals {
        writer.serialize(interval).map_err(|e| format(e.to_string()))?;
    }
    writer.into_inner().map_err(|e| format(e.to_string()))
}

/// The text of `run.schema.json`.
pub(super) fn schema() -> Result<Vec<u8>, StoreError> {
    let mut schema = json(&schemars::schema_for!(Record), Path::new(SCHEMA_FILE))?;
    schema.push(b'\n');
    Ok(schema)
}

fn json<T: serde::Serialize>(value: &T, path: &Path) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec_pretty(value).map_err(|e| StoreError::Format {
        path: path.to_path_buf(),
        what: "JSON",
        problem: e.to_string(),
    })
}

fn run_json(dir_or_run_json: &Path) -> PathBuf {
    if dir_or_run_json.is_dir() { dir_or_run_json.join(RUN) } else { dir_or_run_json.to_path_buf() }
}

/// Reads the record of a run from its folder, or from its `run.json`, and nothing beside it.
///
/// # Errors
/// As [`load`].
pub fn record(dir_or_run_json: &Path) -> Result<Record, StoreError> {
    let run = run_json(dir_or_run_json);
    let text = fs::read(&run).map_err(io_error("read", &run))?;
    let malformed = |problem: String| StoreError::Format { path: run.clone(), what: "a record of msgbench", problem };
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(|e| malformed(e.to_string()))?;
    // The schema is judged before the fields: another version may have other fields, and that is
    // the better answer.
    let found = value.get("schema").and_then(|s| s.as_str()).ok_or_else(|| malformed("it has no `schema`".into()))?;
    if found != SCHEMA {
        return Err(StoreError::Schema { path: run.clone(), found: found.into() });
    }
    serde_json::from_slice(&text).map_err(|e| malformed(e.to_string()))
}

/// Reads a run from its folder, or from its `run.json`.
///
/// # Errors
/// When a file is missing or malformed, or was written by another major version of the schema.
pub fn load(dir_or_run_json: &Path) -> Result<Loaded, StoreError> {
    let run = run_json(dir_or_run_json);
    let record = record(&run)?;
    let table = run.with_file_name(INTERVALS);
    let intervals = match File::open(&table) {
        Ok(file) => csv::Reader::from_reader(file).deserialize().collect::<Result<_, csv::Error>>().map_err(|e| {
            StoreError::Format { path: table.clone(), what: "a table of intervals", problem: e.to_string() }
        })?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(io_error("read", &table)(e)),
    };
    Ok(Loaded { record, intervals })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;
    use base64::Engine;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn what_is_written_is_read_back() {
        let root = tempfile::tempdir().unwrap();
        let (store, other) =
            (Store::create(root.path(), "fan-out").unwrap(), Store::create(root.path(), "fan-out").unwrap());
        assert_ne!(store.dir, other.dir);
        let (record, intervals) = (sample::record(), sample::intervals());
        store.write(&record).unwrap();
        store.write(&record).unwrap();
        let (first, rest) = intervals.split_at(3);
        store.append_intervals(first).unwrap();
        store.append_intervals(rest).unwrap();
        assert!(load(&store.dir).unwrap() == Loaded { record: record.clone(), intervals });
        assert!(load(&store.dir.join(RUN)).unwrap().record == record);
        assert!(store.dir.join(SCHEMA_FILE).exists());
        let left = fs::read_dir(&store.dir)
            .unwrap()
            .filter(|f| f.as_ref().unwrap().path().extension().is_some_and(|e| e == "tmp"));
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn records_of_before_levels_kinds_and_amounts_are_read() {
        use crate::plan::Role;
        use crate::plan::facts::{Incident, Levels};
        // Of version 0.1.
        let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/record-0.1");
        let loaded = load(&old).unwrap();
        for t in &loaded.record.trials {
            assert_eq!(t.system.promised, Levels::default(), "what it does not say is unstated");
            assert!(!t.system.guarantees["delivery"].is_empty() && t.disturbance.iter().all(|f| f.amount.is_none()));
        }
        let again: Record = serde_json::from_value(serde_json::to_value(&loaded.record).unwrap()).unwrap();
        assert_eq!(again, loaded.record);
        let event: crate::record::Event = serde_json::from_str(r#"{"at_s":1.5,"text":"refused"}"#).unwrap();
        assert_eq!(event.kind, Incident::Other);
        let group = r#"{"group":1,"role":"catch-up","expected":3,"delivered":3,"lost":0}"#;
        let read: crate::record::GroupResult = serde_json::from_str(group).unwrap();
        assert_eq!((read.role, serde_json::to_string(&read).unwrap().as_str()), (Role::CatchUp, group));
    }

    #[test]
    fn names_stay_within_the_results() {
        let root = tempfile::tempdir().unwrap();
        for name in ["../up", "", "a/b", ".hidden"] {
            assert!(matches!(Store::create(root.path(), name), Err(StoreError::Name(_))), "{name}");
        }
    }

    #[test]
    fn another_major_version_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(RUN);
        fs::write(&path, r#"{"schema":"msgbench.run/2","tool":17}"#).unwrap();
        let error = load(&path).unwrap_err();
        assert!(matches!(&error, StoreError::Schema { found, .. } if found == "msgbench.run/2"), "{error}");
        assert!(error.to_string().contains("msgbench.run/1"));
        fs::write(&path, "{}").unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("schema"));
    }

    #[test]
    fn the_interval_log_keeps_every_sample() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::create(root.path(), "hlog").unwrap();
        let log: Vec<_> = (0..4u64)
            .map(|i| {
                let mut histogram = Histogram::new(3).unwrap();
                (0..100 * (i + 1)).for_each(|v| histogram.record(v * 1_000 + i).unwrap());
                TaggedInterval {
                    tag: format!("e2e{i}"),
                    start_s: i as f64 - 1.5,
                    length_s: 1.0,
                    histogram: Packed::of(&histogram),
                }
            })
            .collect();
        let name = store.write_hlog("nats-1", &log, SystemTime::now()).unwrap();
        let bytes = fs::read(store.dir.join(&name)).unwrap();
        let mut read = Vec::new();
        let mut deserializer = Deserializer::new();
        for entry in IntervalLogIterator::new(&bytes) {
            if let LogEntry::Interval(i) = entry.unwrap() {
                let raw = base64::engine::general_purpose::STANDARD.decode(i.encoded_histogram()).unwrap();
                let h: Histogram<u64> = deserializer.deserialize(&mut raw.as_slice()).unwrap();
                read.push((i.tag().unwrap().as_str().to_string(), i.start_timestamp().as_secs_f64(), h));
            }
        }
        assert_eq!(read.len(), log.len());
        for (i, (tag, start, histogram)) in read.iter().enumerate() {
            assert_eq!((tag.as_str(), *start), (log[i].tag.as_str(), i as f64));
            assert_eq!(histogram, &log[i].histogram.open());
        }
        let spaced = TaggedInterval { tag: "a b".into(), ..log[0].clone() };
        assert!(store.write_hlog("bad", &[spaced], SystemTime::now()).is_err());
    }
}
