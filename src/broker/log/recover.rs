//! What a directory holds after whatever ended the process that wrote it.
//!
//! Closed segments known to be synced are taken as their index says, and under
//! [`SyncPolicy::Never`](super::SyncPolicy::Never) all closed ones are: a crash of the process
//! loses nothing of them. The others, and the newest, are read batch by batch, checksum and offsets
//! compared. The log ends with the last whole batch, or before the first offset that is not there.
//! What follows is a torn tail, or zeros written beforehand, and is cut. If a whole batch lies
//! beyond the cut, all that is cut is kept in a file beside; segments beyond it are kept under
//! another name. What a loss of power leaves of a file that was not synced (nothing, or zeros) is
//! never an error; a segment known to be synced that is not whole is one.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Arc;

use super::checkpoint::{self, CheckpointState};
use super::disk::{is_unwritten, write_whole};
use super::error::LogError;
use super::format::{BatchFormat, BatchHeader};
use super::index::SegmentIndex;
use super::options::LogOptions;
use super::position::End;
use super::producers::ProducerStates;
use super::segment::{Segment, read_some, stem};

/// What recovery did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Bytes of a torn tail that were cut, zeros written beforehand excluded.
    pub cut: u64,
    /// Bytes cut that were kept in a file `<segment>.cut-<position>`, because whole batches are
    /// among them.
    pub kept: u64,
    /// Batches read.
    pub batches: u64,
    /// Indexes made anew.
    pub indexes: u64,
}

impl Recovered {
    /// Adds what was done elsewhere.
    pub(super) fn add(&mut self, other: Self) {
        self.cut += other.cut;
        self.kept += other.kept;
        self.batches += other.batches;
        self.indexes += other.indexes;
    }
}

/// The segments of a partition.
pub(super) struct FoundSegments {
    pub(super) segments: VecDeque<Arc<Segment>>,
    pub(super) producers: ProducerStates,
    pub(super) start: u64,
    /// Up to which byte the newest segment is noted, and the number of the next note.
    pub(super) noted: u64,
    pub(super) notes: usize,
    pub(super) report: Recovered,
}

pub(super) struct NewestSegment {
    pub(super) segment: Segment,
    pub(super) producers: ProducerStates,
    pub(super) report: Recovered,
}

/// A page is looked at of so many bytes that should be zeros.
const LOOK_EVERY: u64 = 256 << 10;
const STRIDE: usize = 4 << 10;
/// The file that says below which segment everything is synced.
pub(super) const SYNCED: &str = "synced";

/// By what a directory is read.
#[derive(Clone, Copy)]
pub(super) struct RecoveryRules<'a> {
    pub(super) options: &'a LogOptions,
    pub(super) format: &'a dyn BatchFormat,
    /// Which start of the system this is.
    pub(super) boot: Option<&'a str>,
    /// Whether offsets may have gaps.
    pub(super) compacted: bool,
}

/// Reads a partition's directory. Under a policy that does not sync, closed segments that agree
/// with their index are not read.
pub(super) fn segments(dir: &Path, rules: RecoveryRules<'_>) -> Result<FoundSegments, LogError> {
    let bases = bases(dir)?;
    let mut found = FoundSegments {
        segments: VecDeque::new(),
        producers: ProducerStates::default(),
        start: number(&dir.join("start"))?,
        noted: 0,
        notes: 0,
        report: Recovered::default(),
    };
    let Some(mut newest_base) = bases.back().copied() else { return Ok(found) };
    let mut known = checkpoint::find(dir, newest_base, rules.boot);
    // Not there, or not whole, it vouches for nothing.
    let synced = number(&dir.join(SYNCED)).unwrap_or(0);
    let search = ClosedSearch { dir, rules, synced };
    let (closed, last) = search.all(bases, &mut found.report)?;
    found.segments = closed;
    let Some(last) = last else { return Ok(found) };
    if last != newest_base {
        newest_base = last;
        // What was noted of it may be of before it was compacted.
        checkpoint::forget(dir).map_err(LogError::io("remove the notes of", dir))?;
        known = None;
    }
    let path = dir.join(format!("{}.seg", stem(newest_base)));
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(LogError::io("open", &path))?;
    // An index beside it would be of an earlier end.
    let _ = std::fs::remove_file(path.with_extension("index"));
    (found.noted, found.notes) = known.as_ref().map_or((0, 0), |known| (known.end, known.turn + 1));
    let newest = newest(dir, newest_base, file, rules, known)?;
    if let Some(disk) = rules.options.lasting() {
        // What a crash has left in memory alone is served from now on: no loss of power may take
        // it.
        disk.sync(&*newest.segment.file()?).map_err(LogError::io("sync", &path))?;
        disk.sync_names(dir).map_err(LogError::io("sync", dir))?;
    }
    found.producers = newest.producers;
    found.report.add(newest.report);
    found.segments.push_back(Arc::new(newest.segment));
    Ok(found)
}

/// The first offsets of the segments, by their names; what is of no use is removed.
fn bases(dir: &Path) -> Result<VecDeque<u64>, LogError> {
    let mut bases = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(LogError::io("read", dir))? {
        let entry = entry.map_err(LogError::io("read", dir))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name == "spare" || name.ends_with(".tmp") {
            std::fs::remove_file(entry.path()).map_err(LogError::io("remove", entry.path()))?;
        } else if let Some(base) = name.strip_suffix(".seg").and_then(|stem| stem.parse().ok()) {
            bases.push(base);
        }
    }
    bases.sort_unstable();
    Ok(bases.into())
}

/// The number in a file; 0 where it is not there, or was not synced when the power went.
fn number(path: &Path) -> Result<u64, LogError> {
    match std::fs::read(path) {
        Ok(text) if !is_unwritten(&text) => {
            let number = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
            let reason = "it should hold one number".to_owned();
            number.ok_or_else(|| LogError::Damaged { path: path.to_owned(), reason })
        }
        _ => Ok(0),
    }
}

/// Takes a segment out of the log: it is kept under another name, unless nothing was written to it.
/// Returns its length.
fn quarantine_segment(dir: &Path, base: u64) -> Result<u64, LogError> {
    let path = dir.join(format!("{}.seg", stem(base)));
    let len = std::fs::metadata(&path).map_err(LogError::io("look at", &path))?.len();
    if len == 0 {
        std::fs::remove_file(&path).map_err(LogError::io("remove", &path))?;
    } else {
        std::fs::rename(&path, path.with_extension("seg.cut")).map_err(LogError::io("rename", &path))?;
    }
    for beside in ["index", "producers"] {
        let _ = std::fs::remove_file(path.with_extension(beside));
    }
    Ok(len)
}

/// Looks for the closed segments, and for where the log ends.
struct ClosedSearch<'a> {
    dir: &'a Path,
    rules: RecoveryRules<'a>,
    /// Everything below this segment is known to be synced.
    synced: u64,
}

/// What a segment before others is.
enum ClosedSegment {
    Whole(Segment),
    /// The log ends in it, or with it: what follows has never been promised.
    Last,
}

impl ClosedSearch<'_> {
    /// The closed segments, and the first offset of the one that is written, if there is one.
    fn all(
        &self,
        mut bases: VecDeque<u64>,
        report: &mut Recovered,
    ) -> Result<(VecDeque<Arc<Segment>>, Option<u64>), LogError> {
        let mut found = VecDeque::<Arc<Segment>>::new();
        while let Some(base) = bases.pop_front() {
            if found.back().is_some_and(|before| base < before.next()) {
                // It was taken out of the log after a sync had failed, and a loss of power has
                // brought it back.
                report.kept += quarantine_segment(self.dir, base)?;
                continue;
            }
            let Some(following) = bases.front() else { return Ok((found, Some(base))) };
            match self.one(base, *following, report)? {
                ClosedSegment::Whole(segment) => found.push_back(Arc::new(segment)),
                ClosedSegment::Last => {
                    for later in bases {
                        report.kept += quarantine_segment(self.dir, later)?;
                    }
                    return Ok((found, Some(base)));
                }
            }
        }
        Ok((found, None))
    }

    /// The segment that starts with offset `base`, before one that starts with `following`.
    fn one(&self, base: u64, following: u64, report: &mut Recovered) -> Result<ClosedSegment, LogError> {
        let (dir, disk) = (self.dir, self.rules.options.lasting());
        // Known to be synced, it must be whole.
        let promised = disk.is_some() && base < self.synced;
        let path = dir.join(format!("{}.seg", stem(base)));
        let len = std::fs::metadata(&path).map_err(LogError::io("look at", &path))?.len();
        let index = std::fs::read(path.with_extension("index")).ok();
        if (promised || disk.is_none())
            && let Some((index, end, next)) = index.and_then(|bytes| SegmentIndex::decode(base, &bytes))
            && end == len
        {
            return Ok(ClosedSegment::Whole(Segment::sealed(dir, base, end, next, index.max_timestamp)));
        }
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(LogError::io("open", &path))?;
        let read = LogError::io("read", &path);
        let scan = scan(&file, Scan::new(base), self.rules.format, &mut |_, _| {}, false).map_err(read)?;
        let follows = scan.next == following || (scan.next < following && (self.rules.compacted || promised));
        if scan.end != len {
            // Zeros that it was made with, and that were not cut off when it was closed.
            let zeros = follows && rest_is_zero(&file, scan.end).map_err(LogError::io("read", &path))?;
            if !zeros && promised {
                let reason = format!("byte {} is not the start of a batch, and newer segments follow", scan.end);
                return Err(LogError::Damaged { path, reason });
            }
            if !zeros {
                return Ok(ClosedSegment::Last);
            }
            file.set_len(scan.end).map_err(LogError::io("shorten", &path))?;
        }
        if !follows {
            return Ok(ClosedSegment::Last);
        }
        disk.map_or(Ok(()), |disk| disk.sync(&file)).map_err(LogError::io("sync", &path))?;
        write_whole(None, &path.with_extension("index"), &scan.index.encode(scan.end, scan.next))?;
        report.indexes += 1;
        report.batches += scan.batches;
        Ok(ClosedSegment::Whole(Segment::sealed(dir, base, scan.end, scan.next, scan.index.max_timestamp)))
    }
}

/// Reads the newest segment, beyond what is known of it, and cuts what is not whole.
pub(super) fn newest(
    dir: &Path,
    base: u64,
    file: File,
    rules: RecoveryRules<'_>,
    known: Option<CheckpointState>,
) -> Result<NewestSegment, LogError> {
    let path = dir.join(format!("{}.seg", stem(base)));
    let format = rules.format;
    let io = |what| LogError::io(what, path.clone());
    let len = file.metadata().map_err(io("look at"))?.len();
    if known.as_ref().is_some_and(|known| known.end > len) {
        // Once the segment is so long again, it is another.
        checkpoint::forget(dir).map_err(io("remove the notes of"))?;
    }
    let (mut producers, begin) = match known.filter(|known| known.end <= len) {
        Some(CheckpointState { end, next, index, producers, .. }) => (producers, Scan { end, next, index, batches: 0 }),
        None => {
            // Without it, producers are not known and may go on anywhere. Where syncs are promised
            // it was synced before the segment was made.
            let text = std::fs::read(dir.join(format!("{}.producers", stem(base)))).unwrap_or_default();
            (serde_json::from_slice(&text).unwrap_or_default(), Scan::new(base))
        }
    };
    let mut note = |view: &BatchHeader, position| {
        producers.stored(view, End { base, position, offset: view.base }, rules.options.max_producers);
    };
    let scan = scan(&file, begin, format, &mut note, true).map_err(io("read"))?;
    let mut report = Recovered { batches: scan.batches, ..Recovered::default() };
    if scan.end < len {
        if !rest_is_zero(&file, scan.end).map_err(io("read"))? {
            report.cut = len - scan.end;
            if batch_beyond(&file, scan.end, scan.next, format).map_err(io("read"))? {
                report.kept = quarantine_tail(&file, &path, scan.end, len)?;
            }
        }
        file.set_len(scan.end).map_err(io("shorten"))?;
        rules.options.disk.sync(&file).map_err(io("sync"))?;
    }
    let segment = Segment::recovered(dir, file, scan.index, scan.end, scan.next, base);
    Ok(NewestSegment { segment, producers, report })
}

struct Scan {
    end: u64,
    next: u64,
    index: SegmentIndex,
    batches: u64,
}

impl Scan {
    fn new(base: u64) -> Self {
        Self { end: 0, next: base, index: SegmentIndex::new(base), batches: 0 }
    }
}

/// Reads batches, from where `scan` has come to, until one is not whole. Offsets must follow one
/// another; with `dense` without gaps.
fn scan(
    file: &File,
    mut scan: Scan,
    format: &dyn BatchFormat,
    each: &mut dyn FnMut(&BatchHeader, u64),
    dense: bool,
) -> std::io::Result<Scan> {
    let len = file.metadata()?.len();
    let mut buffer = vec![0; 1 << 20];
    let (mut from, mut held) = (scan.end, 0);
    loop {
        let at = (scan.end - from) as usize;
        let there = &buffer[at.min(held)..held];
        let view = match format.view(there) {
            Ok(view) if view.len <= there.len() => view,
            // What is not there yet is read; a length beyond the file is not believed.
            result => {
                let need = result.map_or(format.header_len(), |view| view.len);
                if scan.end + need as u64 > len || need <= there.len() {
                    return Ok(scan);
                }
                if need > buffer.len() {
                    buffer.resize(need, 0);
                }
                from = scan.end;
                held = read_some(file, &mut buffer, from)?;
                if held < need {
                    return Ok(scan);
                }
                continue;
            }
        };
        let follows = if dense { view.base == scan.next } else { view.base >= scan.next };
        if !follows || !format.intact(&there[..view.len]) {
            return Ok(scan);
        }
        each(&view, scan.end);
        scan.index.add(&view, scan.end);
        scan.end += view.len as u64;
        scan.next = view.next();
        scan.batches += 1;
    }
}

/// Whether nothing but zeros seems to follow: all of the next MiB is looked at, and then a page of
/// every so many. What is not zero decides only whether it is reported and kept; it is cut in any
/// case.
fn rest_is_zero(file: &File, mut position: u64) -> std::io::Result<bool> {
    let mut buffer = vec![0; 1 << 20];
    let mut look = buffer.len();
    loop {
        let held = read_some(file, &mut buffer[..look], position)?;
        // Piece by piece without a way out in between, which the compiler turns into wide
        // instructions.
        if buffer[..held].chunks(1 << 10).any(|piece| piece.iter().fold(0, |all, b| all | b) != 0) {
            return Ok(false);
        }
        if held < look {
            return Ok(true);
        }
        position += (look as u64).max(LOOK_EVERY);
        look = STRIDE;
    }
}

/// Whether a whole batch with a later offset starts anywhere after `position`.
fn batch_beyond(file: &File, position: u64, next: u64, format: &dyn BatchFormat) -> std::io::Result<bool> {
    let len = file.metadata()?.len();
    let mut rest = vec![0; usize::try_from(len - position).unwrap_or(usize::MAX).min(64 << 20)];
    let held = read_some(file, &mut rest, position)?;
    let rest = &rest[..held];
    let whole = |at: usize| match format.view(&rest[at..]) {
        Ok(view) => view.base >= next && view.len <= rest.len() - at && format.intact(&rest[at..at + view.len]),
        Err(_) => false,
    };
    Ok((1..held).any(whole))
}

fn quarantine_tail(file: &File, path: &Path, from: u64, len: u64) -> Result<u64, LogError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".cut-{from}"));
    let mut out = File::create(&name).map_err(LogError::io("make", &name))?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = from;
    while at < len {
        let held = read_some(file, &mut buffer, at).map_err(LogError::io("read", path))?;
        if held == 0 {
            break;
        }
        std::io::Write::write_all(&mut out, &buffer[..held]).map_err(LogError::io("write", &name))?;
        at += held as u64;
    }
    out.sync_all().map_err(LogError::io("sync", &name))?;
    Ok(at - from)
}
