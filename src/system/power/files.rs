//! The files of a store: what is done to them on the host, and what is noted of it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{Metadata, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};

use super::tree::{NodeData, StoreTree, lock, open};

/// Bits of a mode that are permissions.
pub(super) const PERMISSIONS: u32 = 0o7777;

/// The names and kinds in a folder, as they were when it was opened.
type Listing = Vec<(OsString, FileType)>;

/// Serves a tree.
pub(super) struct StoreFiles {
    pub(super) tree: Arc<Mutex<StoreTree>>,
    pub(super) listings: Mutex<HashMap<u64, Listing>>,
    next: AtomicU64,
    /// The number of the newest change of a name, as the tree has it.
    number: AtomicU64,
}

impl StoreFiles {
    pub(super) fn new(tree: Arc<Mutex<StoreTree>>) -> Self {
        Self { tree, listings: Mutex::default(), next: 1.into(), number: 0.into() }
    }

    /// Works on the tree.
    pub(super) fn named<T>(&self, work: impl FnOnce(&mut StoreTree) -> io::Result<T>) -> io::Result<T> {
        let mut tree = lock(&self.tree);
        let result = work(&mut tree);
        self.number.store(tree.number(), Ordering::Release);
        result
    }

    /// The bytes of a file, open.
    pub(super) fn with_data<T>(
        &self,
        ino: INodeNo,
        work: impl FnOnce(&mut NodeData) -> io::Result<T>,
    ) -> io::Result<T> {
        let (data, path) = {
            let tree = lock(&self.tree);
            (tree.data(ino.0)?, tree.path(ino.0))
        };
        let mut data = lock(&data);
        if data.file.is_none() {
            data.file = Some(Arc::new(open(&path?)?));
        }
        let done = work(&mut data);
        if data.opens == 0 {
            data.file = None;
        }
        done
    }

    pub(super) fn attributes(&self, ino: INodeNo) -> io::Result<FileAttr> {
        let tree = lock(&self.tree);
        let path = tree.path(ino.0)?;
        let meta = path.symlink_metadata().or_else(|error| {
            // Removed, and open.
            let data = tree.data(ino.0)?;
            let file = lock(&data).file.clone();
            file.map_or(Err(error), |file| file.metadata())
        })?;
        Ok(attributes(ino.0, &meta))
    }

    pub(super) fn write_at(&self, ino: INodeNo, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with_data(ino, |data| {
            let Some(file) = data.file.clone() else { return Ok(()) };
            let end = offset + bytes.len() as u64;
            data.undo.keep(&file, offset, end)?;
            file.write_all_at(bytes, offset)?;
            let len = match data.len {
                Some(len) => len,
                None => file.metadata()?.len(),
            };
            // Read after the write: what has been changed by then is at or below this number.
            let number = self.number.load(Ordering::Acquire);
            if end > len || data.len.is_none() {
                data.sized_at = number;
            }
            data.len = Some(len.max(end));
            data.touched_at = number;
            Ok(())
        })
    }

    pub(super) fn resize(&self, ino: INodeNo, len: u64) -> io::Result<()> {
        self.with_data(ino, |data| {
            let Some(file) = data.file.clone() else { return Ok(()) };
            data.undo.keep(&file, len, u64::MAX)?;
            file.set_len(len)?;
            data.len = Some(len);
            data.sized_at = self.number.load(Ordering::Acquire);
            data.touched_at = data.sized_at;
            Ok(())
        })
    }

    /// Reserves room, and makes the file longer unless `keep` says that its length stays.
    pub(super) fn reserve(&self, ino: INodeNo, offset: u64, length: u64, keep: bool) -> io::Result<()> {
        self.with_data(ino, |data| {
            let Some(file) = data.file.clone() else { return Ok(()) };
            data.undo.keep(&file, 0, 0)?;
            let mode = if keep { libc::FALLOC_FL_KEEP_SIZE } else { 0 };
            // SAFETY: the file is open; fallocate touches no memory of ours.
            let done = unsafe { libc::fallocate(file.as_raw_fd(), mode, offset as i64, length as i64) };
            if done != 0 {
                return Err(io::Error::last_os_error());
            }
            data.len = None;
            data.sized_at = self.number.load(Ordering::Acquire);
            data.touched_at = data.sized_at;
            Ok(())
        })
    }

    /// Syncs a file, on the host, too, so that it takes as long as it does there.
    pub(super) fn sync(&self, ino: INodeNo, datasync: bool) -> io::Result<()> {
        let mut file = None;
        let (number, changed) = self.with_data(ino, |data| {
            file.clone_from(&data.file);
            let changed = if datasync { data.sized_at } else { data.touched_at };
            Ok((data.undo.syncing(), changed))
        })?;
        // fdatasync is for what is needed to read the bytes again, and that is not the name.
        let upto = if datasync { changed } else { lock(&self.tree).covered(ino.0).max(changed) };
        if let Some(file) = file {
            if datasync { file.sync_data()? } else { file.sync_all()? }
        }
        let data = lock(&self.tree).data(ino.0)?;
        lock(&data).undo.synced(number);
        lock(&self.tree).synced(ino.0, upto);
        Ok(())
    }

    pub(super) fn sync_folder(&self, ino: INodeNo) -> io::Result<()> {
        let (path, upto) = {
            let tree = lock(&self.tree);
            (tree.path(ino.0)?, tree.covered(ino.0))
        };
        std::fs::File::open(path)?.sync_all()?;
        lock(&self.tree).synced(ino.0, upto);
        Ok(())
    }

    pub(super) fn opened(&self, ino: INodeNo) -> io::Result<()> {
        self.with_data(ino, |data| {
            data.opens += 1;
            Ok(())
        })
    }

    pub(super) fn closed(&self, ino: INodeNo) {
        let data = lock(&self.tree).data(ino.0);
        if let Ok(data) = data {
            let mut data = lock(&data);
            data.opens = data.opens.saturating_sub(1);
            if data.opens == 0 {
                data.file = None;
            }
        }
    }

    pub(super) fn list(&self, ino: INodeNo) -> io::Result<u64> {
        let path = lock(&self.tree).path(ino.0)?;
        let mut names: Listing = vec![(".".into(), FileType::Directory), ("..".into(), FileType::Directory)];
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let kind = FileType::from_std(entry.file_type()?).unwrap_or(FileType::RegularFile);
            names.push((entry.file_name(), kind));
        }
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.listings).insert(handle, names);
        Ok(handle)
    }

    pub(super) fn set(
        &self,
        ino: INodeNo,
        mode: Option<u32>,
        owner: (Option<u32>, Option<u32>),
        times: [Option<TimeOrNow>; 2],
    ) -> io::Result<()> {
        let path = lock(&self.tree).path(ino.0)?;
        if let Some(mode) = mode {
            std::fs::set_permissions(&path, Permissions::from_mode(mode & PERMISSIONS))?;
        }
        if owner.0.is_some() || owner.1.is_some() {
            std::os::unix::fs::lchown(&path, owner.0, owner.1)?;
        }
        let [accessed, modified] = times.map(|time| match time? {
            TimeOrNow::SpecificTime(time) => Some(time),
            TimeOrNow::Now => Some(SystemTime::now()),
        });
        if accessed.is_some() || modified.is_some() {
            let mut times = std::fs::FileTimes::new();
            times = accessed.map_or(times, |time| times.set_accessed(time));
            times = modified.map_or(times, |time| times.set_modified(time));
            // Of what has gone, nobody looks at the times.
            let _ = std::fs::File::open(&path).and_then(|file| file.set_times(times));
        }
        Ok(())
    }
}

pub(super) fn attributes(id: u64, meta: &Metadata) -> FileAttr {
    let time = |seconds: i64, nanos: i64| {
        SystemTime::UNIX_EPOCH + Duration::new(seconds.max(0) as u64, nanos.clamp(0, 999_999_999) as u32)
    };
    FileAttr {
        ino: INodeNo(id),
        size: meta.len(),
        blocks: meta.blocks(),
        atime: time(meta.atime(), meta.atime_nsec()),
        mtime: time(meta.mtime(), meta.mtime_nsec()),
        ctime: time(meta.ctime(), meta.ctime_nsec()),
        crtime: SystemTime::UNIX_EPOCH,
        kind: FileType::from_std(meta.file_type()).unwrap_or(FileType::RegularFile),
        perm: (meta.mode() & PERMISSIONS) as u16,
        nlink: meta.nlink() as u32,
        uid: meta.uid(),
        gid: meta.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// What is free on the file system of the host.
pub(super) fn room(path: &Path) -> io::Result<libc::statvfs> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: statvfs is plain data for which all zeros is a valid value.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with a zero byte, and `found` is writable.
    match unsafe { libc::statvfs(path.as_ptr(), &mut found) } {
        0 => Ok(found),
        _ => Err(io::Error::last_os_error()),
    }
}
