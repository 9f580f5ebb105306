//! One file of batches and what is known about it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::checkpoint::Checkpoint;
use super::disk::write_whole;
use super::error::LogError;
use super::format::{BatchFormat, BatchHeader};
use super::index::SegmentIndex;
use super::producers::ProducerStates;

/// Locks, also when a holder has panicked: every critical section here leaves a consistent state at
/// each step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How much of a segment is read at a time when headers are walked.
const STRIDE: usize = 4 << 10;

/// A segment. Its file and index are open while it is written, and afterwards while it is in use.
pub(super) struct Segment {
    /// Offset of its first record.
    pub(super) base: u64,
    path: PathBuf,
    /// Length of what is valid.
    end: AtomicU64,
    /// Offset after its last record.
    next: AtomicU64,
    max_timestamp: AtomicI64,
    /// Whether it is closed for writing.
    sealed: AtomicBool,
    /// Whether its file must not be opened anew, because another has taken its name.
    replaced: AtomicBool,
    live: Mutex<OpenFiles>,
}

struct OpenFiles {
    file: Option<Arc<File>>,
    index: Option<SegmentIndex>,
    used: Instant,
}

/// The name of a segment's file without its ending.
pub(super) fn stem(base: u64) -> String {
    format!("{base:020}")
}

impl Segment {
    /// A new, empty segment over a file that is there.
    pub(super) fn create(dir: &Path, base: u64, file: File) -> Self {
        Self::with(dir, base, Some(file), Some(SegmentIndex::new(base)), 0, base, -1, false)
    }

    #[allow(clippy::too_many_arguments, reason = "the one constructor of a record with so many fields")]
    fn with(
        dir: &Path,
        base: u64,
        file: Option<File>,
        index: Option<SegmentIndex>,
        end: u64,
        next: u64,
        max_timestamp: i64,
        sealed: bool,
    ) -> Self {
        Self {
            base,
            path: dir.join(format!("{}.seg", stem(base))),
            end: end.into(),
            next: next.into(),
            max_timestamp: max_timestamp.into(),
            sealed: sealed.into(),
            replaced: false.into(),
            live: Mutex::new(OpenFiles { file: file.map(Arc::new), index, used: Instant::now() }),
        }
    }

    /// A segment as recovery found it.
    pub(super) fn recovered(dir: &Path, file: File, index: SegmentIndex, end: u64, next: u64, base: u64) -> Self {
        let max = index.max_timestamp;
        Self::with(dir, base, Some(file), Some(index), end, next, max, false)
    }

    /// A closed segment whose index says what it holds.
    pub(super) fn sealed(dir: &Path, base: u64, end: u64, next: u64, max_timestamp: i64) -> Self {
        Self::with(dir, base, None, None, end, next, max_timestamp, true)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn index_path(&self) -> PathBuf {
        self.path.with_extension("index")
    }

    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    pub(super) fn max_timestamp(&self) -> i64 {
        self.max_timestamp.load(Ordering::Acquire)
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// The open file.
    pub(super) fn file(&self) -> Result<Arc<File>, LogError> {
        let mut live = lock(&self.live);
        live.used = Instant::now();
        if let Some(file) = &live.file {
            return Ok(Arc::clone(file));
        }
        let file = OpenOptions::new().read(true).write(true).open(&self.path);
        let file = Arc::new(file.map_err(LogError::io("open", &self.path))?);
        live.file = Some(Arc::clone(&file));
        Ok(file)
    }

    fn with_index<T>(&self, look: impl FnOnce(&SegmentIndex) -> T) -> Result<T, LogError> {
        let mut live = lock(&self.live);
        live.used = Instant::now();
        if live.index.is_none() {
            let path = self.index_path();
            let bytes = std::fs::read(&path).map_err(LogError::io("read", &path))?;
            let damaged = || LogError::Damaged { path, reason: "the checksum of the index is wrong".into() };
            live.index = Some(SegmentIndex::decode(self.base, &bytes).ok_or_else(damaged)?.0);
        }
        // Just put there.
        live.index.as_ref().map(look).ok_or(LogError::Deleted)
    }

    /// Notes a batch written at `position`.
    pub(super) fn added(&self, view: &BatchHeader, position: u64) {
        if let Some(index) = &mut lock(&self.live).index {
            index.add(view, position);
        }
        self.max_timestamp.fetch_max(view.max_timestamp, Ordering::AcqRel);
        self.next.store(view.next(), Ordering::Release);
        self.end.store(position + view.len as u64, Ordering::Release);
    }

    /// Closes the segment for writing: its length is what is valid, its index is a file beside it.
    pub(super) fn seal(&self) -> Result<(), LogError> {
        let file = self.file()?;
        file.set_len(self.end()).map_err(LogError::io("shorten", &self.path))?;
        self.save_index()?;
        self.sealed.store(true, Ordering::Release);
        Ok(())
    }

    /// The offset of the first batch known to start at `position` or after it.
    pub(super) fn offset_from(&self, position: u64) -> Result<Option<u64>, LogError> {
        self.with_index(|index| index.offset_from(position))
    }

    /// What is to be known of it as it stands, by whose producers.
    pub(super) fn note(&self, producers: &ProducerStates, boot: Option<&str>) -> Result<Checkpoint, LogError> {
        let (end, next) = (self.end(), self.next());
        self.with_index(|index| Checkpoint::new(self.base, end, next, index, producers, boot))
    }

    /// Writes the index beside the segment.
    pub(super) fn save_index(&self) -> Result<(), LogError> {
        let bytes = self.with_index(|index| index.encode(self.end(), self.next()))?;
        // Without it, a start reads the segment.
        write_whole(None, &self.index_path(), &bytes)
    }

    /// Closes file and index if nobody has used them for so long.
    pub(super) fn close_unused(&self, idle: Duration) {
        if !self.is_sealed() || self.replaced.load(Ordering::Acquire) {
            return;
        }
        let mut live = lock(&self.live);
        if live.used.elapsed() >= idle {
            live.file = None;
            live.index = None;
        }
    }

    /// Keeps its open file for good, as another is about to take its name.
    pub(super) fn pin(&self) -> Result<(), LogError> {
        self.file()?;
        self.with_index(|_| ())?;
        self.replaced.store(true, Ordering::Release);
        Ok(())
    }

    /// Removes the files; who has them open may go on reading.
    pub(super) fn remove(&self) -> Result<(), LogError> {
        // Readers that hold this segment must not find another file, or none, under its name.
        self.file()?;
        self.replaced.store(true, Ordering::Release);
        for path in [self.index_path(), self.path.with_extension("producers"), self.path.clone()] {
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(LogError::Io { what: "remove", path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Where the batch that holds `offset`, or the first after it, starts, and its header. `None`
    /// when it is not before `limit`.
    pub(super) fn locate(
        &self,
        format: &dyn BatchFormat,
        offset: u64,
        limit: u64,
    ) -> Result<Option<(u64, BatchHeader)>, LogError> {
        let from = self.with_index(|index| index.position(offset))?;
        self.walk(format, from, limit, |view| view.next() > offset)
    }

    /// Where the first batch with a record of at least `timestamp` starts, and its header.
    pub(super) fn locate_time(
        &self,
        format: &dyn BatchFormat,
        timestamp: i64,
        limit: u64,
    ) -> Result<Option<(u64, BatchHeader)>, LogError> {
        let from = self.with_index(|index| index.position_of_time(timestamp))?;
        self.walk(format, from, limit, |view| view.max_timestamp >= timestamp)
    }

    /// The first batch from `position` on that `stop` wants.
    pub(super) fn walk(
        &self,
        format: &dyn BatchFormat,
        mut position: u64,
        limit: u64,
        mut stop: impl FnMut(&BatchHeader) -> bool,
    ) -> Result<Option<(u64, BatchHeader)>, LogError> {
        let file = self.file()?;
        let mut buffer = [0; STRIDE];
        let (mut from, mut held) = (0, 0);
        while position < limit {
            let need = format.header_len().min((limit - position) as usize);
            if position < from || position + need as u64 > from + held as u64 {
                from = position;
                held = read_some(&file, &mut buffer, position).map_err(LogError::io("read", &self.path))?;
            }
            let at = (position - from) as usize;
            let view = format.view(&buffer[at..held]).map_err(|malformed| LogError::Damaged {
                path: self.path.clone(),
                reason: format!("at byte {position}: {}", malformed.0),
            })?;
            if stop(&view) {
                return Ok(Some((position, view)));
            }
            position += view.len as u64;
        }
        Ok(None)
    }
}

/// Reads until the buffer is full or the file ends.
pub(super) fn read_some(file: &File, buffer: &mut [u8], position: u64) -> std::io::Result<usize> {
    let mut held = 0;
    while held < buffer.len() {
        match file.read_at(&mut buffer[held..], position + held as u64) {
            Ok(0) => break,
            Ok(n) => held += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(held)
}
