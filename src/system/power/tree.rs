//! The names of a store, and what takes them back.
//!
//! Names are changed on the host at once, and each change is written into a journal. A file or
//! folder that goes is kept elsewhere until its going is kept. When the power goes, the changes
//! that are not kept are taken back, the newest first.

use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::NameLoss;
use super::undo::FileUndo;

/// The number of the folder that is served.
pub(super) const ROOT: u64 = 1;

/// Locks, also when a holder has panicked: what is served then is a test's or a trial's, and both
/// say that they have failed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file's bytes.
#[derive(Debug, Default)]
pub(super) struct NodeData {
    /// Open while anybody has it open.
    pub(super) file: Option<Arc<File>>,
    pub(super) opens: usize,
    pub(super) undo: FileUndo,
    /// Its length, once it is known.
    pub(super) len: Option<u64>,
    /// The number of the journal when its length, and when any of its bytes, was changed last.
    pub(super) sized_at: u64,
    pub(super) touched_at: u64,
}

/// A file or folder, wherever it is.
struct StoreNode {
    parent: u64,
    name: OsString,
    /// Where it is kept that has gone.
    removed_at: Option<PathBuf>,
    /// Whether nothing can bring it back.
    gone: bool,
    /// How often the kernel has been told of it.
    lookups: u64,
    /// The number of the newest change of its name, or of a name in it.
    changed_at: u64,
    data: Arc<Mutex<NodeData>>,
}

enum NameChange {
    Made,
    Removed,
    Renamed { from: (u64, OsString), replaced: Option<u64> },
}

struct JournalEntry {
    number: u64,
    node: u64,
    /// Its name before it was removed, or since it was made or renamed.
    at: (u64, OsString),
    change: NameChange,
}

/// All of a store.
pub(super) struct StoreTree {
    dir: PathBuf,
    removed: PathBuf,
    loss: NameLoss,
    nodes: HashMap<u64, StoreNode>,
    names: HashMap<(u64, OsString), u64>,
    journal: VecDeque<JournalEntry>,
    next: u64,
    /// The number of the newest change.
    number: u64,
}

impl StoreTree {
    /// Of what is in `dir`, all of it taken for synced; `removed` is for what goes.
    pub(super) fn new(dir: &Path, removed: &Path, loss: NameLoss) -> io::Result<Self> {
        // What was there is of a store before this one.
        let _ = std::fs::remove_dir_all(removed);
        std::fs::create_dir_all(dir)?;
        std::fs::create_dir_all(removed)?;
        let mut tree = Self {
            dir: dir.to_owned(),
            removed: removed.to_owned(),
            loss,
            nodes: HashMap::new(),
            names: HashMap::new(),
            journal: VecDeque::new(),
            next: ROOT,
            number: 0,
        };
        tree.add(0, OsStr::new(""), FileUndo::default());
        Ok(tree)
    }

    fn add(&mut self, parent: u64, name: &OsStr, undo: FileUndo) -> u64 {
        let id = self.next;
        self.next += 1;
        let data = Arc::new(Mutex::new(NodeData { undo, ..NodeData::default() }));
        let name = name.to_owned();
        self.names.insert((parent, name.clone()), id);
        let node = StoreNode { parent, name, removed_at: None, gone: false, lookups: 0, changed_at: self.number, data };
        self.nodes.insert(id, node);
        id
    }

    /// The number of the newest change.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Where it is on the host.
    pub(super) fn path(&self, id: u64) -> io::Result<PathBuf> {
        if id == ROOT {
            return Ok(self.dir.clone());
        }
        let node = self.nodes.get(&id).ok_or_else(no_such)?;
        match &node.removed_at {
            Some(path) => Ok(path.clone()),
            None => Ok(self.path(node.parent)?.join(&node.name)),
        }
    }

    pub(super) fn data(&self, id: u64) -> io::Result<Arc<Mutex<NodeData>>> {
        self.nodes.get(&id).map(|node| Arc::clone(&node.data)).ok_or_else(no_such)
    }

    /// The number of a name in a folder, if one was given.
    pub(super) fn known(&self, parent: u64, name: &OsStr) -> Option<u64> {
        self.names.get(&(parent, name.to_owned())).copied()
    }

    /// A name in a folder: its number, and what the host says of it. The kernel is told of it.
    pub(super) fn look_up(&mut self, parent: u64, name: &OsStr) -> io::Result<(u64, Metadata)> {
        let meta = self.path(parent)?.join(name).symlink_metadata()?;
        let id = match self.known(parent, name) {
            Some(id) => id,
            None => self.add(parent, name, FileUndo::default()),
        };
        self.told(id);
        Ok((id, meta))
    }

    fn told(&mut self, id: u64) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.lookups += 1;
        }
    }

    /// The kernel has forgotten so many times that it was told.
    pub(super) fn forget(&mut self, id: u64, times: u64) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.lookups = node.lookups.saturating_sub(times);
            if node.lookups == 0 && node.gone {
                self.nodes.remove(&id);
            }
        }
    }

    /// Something has been made by `make` at the path it is given.
    pub(super) fn make<T>(
        &mut self,
        parent: u64,
        name: &OsStr,
        make: impl FnOnce(&Path) -> io::Result<T>,
    ) -> io::Result<(u64, Metadata, T)> {
        let path = self.path(parent)?.join(name);
        let made = make(&path)?;
        let meta = path.symlink_metadata()?;
        let undo = if meta.is_file() { FileUndo::of_new() } else { FileUndo::default() };
        let id = self.add(parent, name, undo);
        self.told(id);
        self.note(id, (parent, name.to_owned()), NameChange::Made);
        lock(&*self.data(id)?).sized_at = self.number;
        Ok((id, meta, made))
    }

    /// A file or an empty folder goes.
    pub(super) fn remove(&mut self, parent: u64, name: &OsStr, folder: bool) -> io::Result<()> {
        let (id, meta) = self.look_up(parent, name)?;
        self.forget(id, 1);
        if folder != meta.is_dir() {
            return Err(io::Error::from_raw_os_error(if folder { libc::ENOTDIR } else { libc::EISDIR }));
        }
        if folder && std::fs::read_dir(self.path(id)?)?.next().is_some() {
            return Err(io::Error::from_raw_os_error(libc::ENOTEMPTY));
        }
        self.move_out(id)?;
        self.note(id, (parent, name.to_owned()), NameChange::Removed);
        Ok(())
    }

    fn move_out(&mut self, id: u64) -> io::Result<()> {
        let place = self.removed.join(id.to_string());
        std::fs::rename(self.path(id)?, &place)?;
        if let Some(node) = self.nodes.get_mut(&id) {
            node.removed_at = Some(place);
            self.names.remove(&(node.parent, node.name.clone()));
        }
        Ok(())
    }

    /// Renames; with `fresh`, only where nothing of the new name is there.
    pub(super) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), fresh: bool) -> io::Result<()> {
        let (id, _) = self.look_up(from.0, from.1)?;
        self.forget(id, 1);
        let there = self.look_up(to.0, to.1);
        let replaced = match there {
            Ok((there, _)) if there == id => return Ok(()),
            Ok(_) if fresh => return Err(io::ErrorKind::AlreadyExists.into()),
            Ok((there, meta)) => {
                self.forget(there, 1);
                if meta.is_dir() && std::fs::read_dir(self.path(there)?)?.next().is_some() {
                    return Err(io::Error::from_raw_os_error(libc::ENOTEMPTY));
                }
                self.move_out(there)?;
                Some(there)
            }
            Err(_) => None,
        };
        let target = self.path(to.0)?.join(to.1);
        std::fs::rename(self.path(id)?, target)?;
        let from = (from.0, from.1.to_owned());
        let to = (to.0, to.1.to_owned());
        self.move_to(id, to.clone());
        self.note(id, to, NameChange::Renamed { from, replaced });
        Ok(())
    }

    fn move_to(&mut self, id: u64, to: (u64, OsString)) {
        if let Some(node) = self.nodes.get_mut(&id) {
            let old = std::mem::replace(&mut node.parent, to.0);
            let name = std::mem::replace(&mut node.name, to.1.clone());
            node.removed_at = None;
            if self.names.get(&(old, name.clone())) == Some(&id) {
                self.names.remove(&(old, name));
            }
            self.names.insert(to, id);
        }
    }

    /// Writes a change down.
    fn note(&mut self, node: u64, at: (u64, OsString), change: NameChange) {
        self.number += 1;
        let left = match &change {
            NameChange::Renamed { from, .. } => from.0,
            _ => at.0,
        };
        for id in [node, at.0, left] {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.changed_at = self.number;
            }
        }
        self.journal.push_back(JournalEntry { number: self.number, node, at, change });
        if self.loss == NameLoss::None {
            self.keep(|_| true);
        }
    }

    /// Up to which change a sync of it, which begins now, makes the names last, as far as its own
    /// name and the names in it are concerned.
    pub(super) fn covered(&self, id: u64) -> u64 {
        self.nodes.get(&id).map_or(0, |node| node.changed_at)
    }

    /// A sync of it has succeeded that covers the changes up to `upto`.
    pub(super) fn synced(&mut self, id: u64, upto: u64) {
        match self.loss {
            NameLoss::None => {}
            NameLoss::Ordered => self.keep(|entry| entry.number <= upto),
            NameLoss::Strict => self.keep(|entry| entry.number <= upto && entry.at.0 == id),
        }
    }

    fn keep(&mut self, kept: impl Fn(&JournalEntry) -> bool) {
        let all = std::mem::take(&mut self.journal);
        for entry in all {
            if !kept(&entry) {
                self.journal.push_back(entry);
                continue;
            }
            match entry.change {
                NameChange::Removed => self.discard(entry.node),
                NameChange::Renamed { replaced: Some(replaced), .. } => self.discard(replaced),
                _ => {}
            }
        }
    }

    /// What was moved out is not needed any more.
    fn discard(&mut self, id: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.gone = true;
        if let Some(path) = &node.removed_at {
            // Who has it open goes on with it; what cannot be removed goes with the store.
            let _ = std::fs::remove_file(path).or_else(|_| std::fs::remove_dir_all(path));
        }
        if node.lookups == 0 {
            self.nodes.remove(&id);
        }
    }

    /// The power is gone: what was not synced is taken back. Returns how many bytes and names that
    /// were, at most. Nothing may be served any more.
    pub(super) fn take_back(&mut self) -> io::Result<(u64, u64)> {
        let mut bytes = 0;
        for (id, node) in &self.nodes {
            let mut data = lock(&node.data);
            if data.undo.is_empty() || node.gone {
                continue;
            }
            let file = match data.file.take() {
                Some(file) => file,
                None => Arc::new(open(&self.path(*id)?)?),
            };
            bytes += data.undo.take_back(&file)?;
        }
        let mut names = 0;
        while let Some(JournalEntry { node, at, change, .. }) = self.journal.pop_back() {
            names += 1;
            self.undo(node, at, change)?;
        }
        std::fs::remove_dir_all(&self.removed)?;
        Ok((bytes, names))
    }

    fn undo(&mut self, id: u64, at: (u64, OsString), change: NameChange) -> io::Result<()> {
        let there = self.names.get(&at) == Some(&id);
        match change {
            // It is elsewhere, and that is kept.
            NameChange::Made if !there => Ok(()),
            NameChange::Made => {
                self.names.remove(&at);
                let path = self.path(at.0)?.join(&at.1);
                match path.symlink_metadata() {
                    Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
                    Ok(_) => std::fs::remove_file(path),
                    // It went with the folder it was in.
                    Err(_) => Ok(()),
                }
            }
            NameChange::Removed => self.put_back(id, at),
            NameChange::Renamed { from, replaced } => {
                if there {
                    self.put_back(id, from)?;
                }
                replaced.map_or(Ok(()), |replaced| self.put_back(replaced, at))
            }
        }
    }

    /// Gives it a name it had, unless another has that for good.
    fn put_back(&mut self, id: u64, at: (u64, OsString)) -> io::Result<()> {
        if self.names.contains_key(&at) || !self.nodes.contains_key(&id) {
            return Ok(());
        }
        let parent = self.path(at.0)?;
        // The folder may have gone, as it was never synced itself.
        if parent.is_dir() {
            std::fs::rename(self.path(id)?, parent.join(&at.1))?;
            self.move_to(id, at);
        }
        Ok(())
    }
}

fn no_such() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOENT)
}

/// Opens a file of the host to be read and, where that is allowed, written.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let both = OpenOptions::new().read(true).write(true).open(path);
    both.or_else(|_| File::open(path))
}
